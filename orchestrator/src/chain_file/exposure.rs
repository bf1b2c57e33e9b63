//! Who else can reach a file that should be one's own.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What every user of the machine may do to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// Read it.
    Readable,
    /// Write it, or put another in its place.
    Writable,
}

/// Of a mode: whoever may write to a folder may take away his own alone.
const STICKY: u32 = 0o1000;

/// What others may do to a file at this path; nothing also where they cannot get
/// there, as in a home folder that is closed to them.
///
/// A folder that they may write is a file that they may replace, unless it lets each take
/// away his own alone; then what lies in it has to be ours, or root's.
pub(crate) fn exposure(path: &Path, meta: &Metadata) -> Option<Exposure> {
    let others = |meta: &Metadata| meta.mode() & 0o007;
    let path = path.canonicalize().ok()?;
    let mut replaced = false;
    let mut owner = meta.uid();
    for folder in path.ancestors().skip(1) {
        let folder = std::fs::metadata(folder).ok()?;
        if others(&folder) & 0o001 == 0 {
            return None;
        }
        let ours = [0, nix::unistd::geteuid().as_raw()].contains(&owner);
        replaced |= others(&folder) & 0o002 != 0 && !(folder.mode() & STICKY != 0 && ours);
        owner = folder.uid();
    }
    match others(meta) {
        _ if replaced => Some(Exposure::Writable),
        bits if bits & 0o002 != 0 => Some(Exposure::Writable),
        bits if bits & 0o004 != 0 => Some(Exposure::Readable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, create_dir, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn who_may_write_the_folder_may_replace_the_file() {
        let top = tempfile::tempdir().unwrap();
        let (outer, inner) = (top.path().join("outer"), top.path().join("outer/inner"));
        create_dir(&outer).unwrap();
        create_dir(&inner).unwrap();
        let file = inner.join("key");
        std::fs::write(&file, "key").unwrap();
        let modes = |top_mode, outer_mode, inner_mode, file_mode| {
            let all = [
                (top.path(), top_mode),
                (&outer, outer_mode),
                (&inner, inner_mode),
                (&file, file_mode),
            ];
            for (path, mode) in all {
                set_permissions(path, Permissions::from_mode(mode)).unwrap();
            }
            exposure(&file, &std::fs::metadata(&file).unwrap())
        };
        use Exposure::{Readable, Writable};
        // Whether others get as far as the first of them, and cannot replace that.
        let base = modes(0o755, 0o755, 0o755, 0o644);
        if base != Some(Readable) {
            return;
        }
        for (outer, inner, file, found) in [
            (0o755, 0o755, 0o600, None),
            (0o755, 0o755, 0o602, Some(Writable)),
            (0o777, 0o755, 0o600, Some(Writable)),
            (0o755, 0o777, 0o600, Some(Writable)),
            // Each his own.
            (0o1777, 0o755, 0o600, None),
            (0o1777, 0o1777, 0o604, Some(Readable)),
            (0o1777, 0o777, 0o600, Some(Writable)),
            // They may write where they cannot go.
            (0o755, 0o776, 0o602, None),
            (0o750, 0o777, 0o602, None),
        ] {
            let modes = modes(0o755, outer, inner, file);
            assert_eq!(modes, found, "{outer:o} {inner:o} {file:o}");
        }
        assert_eq!(modes(0o700, 0o777, 0o777, 0o666), None);
        // Another's, where each may take away his own: it takes root to have one.
        if nix::unistd::geteuid().is_root() {
            let owner = |path: &Path| std::os::unix::fs::chown(path, Some(12345), None).unwrap();
            owner(&inner);
            assert_eq!(modes(0o755, 0o1777, 0o755, 0o600), Some(Writable));
            owner(&file);
            assert_eq!(modes(0o755, 0o755, 0o755, 0o600), None);
            assert_eq!(modes(0o755, 0o755, 0o1777, 0o600), Some(Writable));
        }
    }
}
