//! `library`: where compilers find what functions include.

use super::{complain, exit, write_out};
use crate::build::{Cache, author_library};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The folder, put there if it is not.
pub(super) fn folder() -> Result<PathBuf, u8> {
    let folder = Cache::open().and_then(|cache| author_library(&cache));
    folder.map_err(|e| {
        complain(&e);
        exit::BUILD
    })
}

pub(super) fn print() -> Result<(), u8> {
    let mut line = folder()?.as_os_str().as_bytes().to_vec();
    line.push(b'\n');
    write_out(&line)
}
