//! Who else can reach a file that should be one's own.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What every user of the machine may do to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// Read it.
    Readable,
    /// Write it.
    Writable,
}

/// What others may do to a file at this path; nothing also where they cannot get
/// there, as in a home folder that is closed to them.
pub(crate) fn exposure(path: &Path, meta: &Metadata) -> Option<Exposure> {
    let mode = meta.permissions().mode();
    let found = match mode {
        _ if mode & 0o002 != 0 => Exposure::Writable,
        _ if mode & 0o004 != 0 => Exposure::Readable,
        _ => return None,
    };
    let path = path.canonicalize().ok()?;
    let mut folders = path.ancestors().skip(1);
    let open =
        folders.all(|f| std::fs::metadata(f).is_ok_and(|m| m.permissions().mode() & 0o001 != 0));
    open.then_some(found)
}
