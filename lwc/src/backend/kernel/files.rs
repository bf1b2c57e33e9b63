//! Files that are lent to contexts in a sandbox: not on this backend so far.

use crate::backend::files::Answer;
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

fn not_here(call: &'static str) -> Error {
    Error::new(
        call,
        Errno::ENOTSUP,
        "the kernel backend lends no files to contexts in a sandbox; it refuses them all (ECAPMODE)",
    )
}

/// See [`catch_files`](crate::catch_files).
pub(crate) fn catch_files(
    _line: Option<RawFd>,
    _numbers: Range<RawFd>,
    _answer: Answer,
) -> Result<()> {
    Err(not_here("catch_files"))
}

/// See [`answer`](crate::answer).
pub(crate) fn answer(_: i64, _: [u64; 6]) -> Option<std::result::Result<u64, crate::Errno>> {
    None
}

/// See [`catch_connections`](crate::catch_connections).
pub(crate) fn catch_connections() -> Result<()> {
    Err(not_here("catch_connections"))
}

/// None.
pub(crate) fn lent_descriptors() -> Range<RawFd> {
    3..3
}

/// See [`send_descriptor`](crate::send_descriptor).
pub(crate) fn send_descriptor(_line: BorrowedFd<'_>, _fd: BorrowedFd<'_>) -> Result<()> {
    Err(not_here("send_descriptor"))
}

/// See [`receive_descriptor`](crate::receive_descriptor).
pub(crate) fn receive_descriptor(_line: BorrowedFd<'_>) -> Result<OwnedFd> {
    Err(not_here("receive_descriptor"))
}
