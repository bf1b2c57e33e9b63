//! Files that a function's constructors and initialiser leave open: they are closed.
//!
//! A file is one for all copies, and no rollback undoes what is in it: memory of one
//! that was left open could be mapped in a request and found by the next. An open file
//! can also send signals (`O_ASYNC`), or be a ring that a kernel thread serves. What a
//! function needs of files its initialiser reads.

use std::collections::BTreeMap;
use std::os::fd::RawFd;

/// Device and number of a file, where it has them.
pub(super) type Identity = Option<(u64, u64)>;

/// What was open before the function was loaded: its host's.
pub(super) struct Before(BTreeMap<RawFd, Identity>);

impl Before {
    /// What is open but for some, which are the function's as well.
    ///
    /// # Errors
    /// That it cannot be known.
    pub(super) fn note(but: &[RawFd]) -> Result<Self, String> {
        let mut open = all()?;
        open.retain(|fd, _| !but.contains(fd));
        Ok(Self(open))
    }

    /// Closes what was opened since. What it was, for people.
    ///
    /// # Errors
    /// A descriptor of its host is not what it was.
    pub(super) fn close_others(&self) -> Result<Vec<String>, String> {
        let now = all()?;
        if let Some((fd, _)) = self.0.iter().find(|(fd, id)| now.get(fd) != Some(id)) {
            return Err(format!(
                "its constructors or initialiser closed or replaced descriptor {fd}, which is its host's: close those alone that they open"
            ));
        }
        let mut closed = Vec::new();
        for &fd in now.keys().filter(|fd| !self.0.contains_key(fd)) {
            closed.push(name(fd));
            // SAFETY: a descriptor that the function left: nothing of its host's
            // depends on it, and the function has no call for files from here on.
            unsafe { libc::close(fd) };
        }
        // What has a number above the limit of now, which was lowered since: nobody has
        // looked there. Its host has nothing there, or it would have been missed above.
        #[cfg(target_os = "freebsd")]
        // SAFETY: numbers; as where the others are closed.
        unsafe {
            let limit = libc::getdtablesize();
            libc::close_range(limit.cast_unsigned(), libc::c_uint::MAX, 0);
        }
        Ok(closed)
    }
}

/// What is open.
fn all() -> Result<BTreeMap<RawFd, Identity>, String> {
    let open = numbers()?.into_iter().filter(|&fd| {
        // SAFETY: asks about a number.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        flags != -1
    });
    Ok(open.map(|fd| (fd, identity(fd))).collect())
}

/// Programs that are started from now on find none of what this process was started with
/// (a shell's files, sockets that were meant for another) but the standard three.
#[cfg(feature = "serve")]
pub(crate) fn keep_from_programs() {
    // Without /proc: whatever has been opened for a program has a low number.
    let all = numbers().unwrap_or_else(|_| (0..1024).collect());
    for fd in all.into_iter().filter(|&fd| fd > 2) {
        // SAFETY: a flag of a number; nobody else has an interest in the one of what was
        // inherited.
        unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFD);
            if flags != -1 {
                libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC);
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn numbers() -> Result<Vec<RawFd>, String> {
    let folder = std::fs::read_dir("/proc/self/fd").map_err(|e| format!("/proc/self/fd: {e}"))?;
    // The folder's own is closed by the time that it is asked about.
    let names = folder.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|n| n.to_str()?.parse().ok()).collect())
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps)] // as the other one
fn numbers() -> Result<Vec<RawFd>, String> {
    // SAFETY: a number.
    Ok((0..unsafe { libc::getdtablesize() }).collect())
}

pub(super) fn identity(fd: RawFd) -> Identity {
    // SAFETY: of the struct, zeros are a value; the call fills it.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        // (Their widths differ from system to system.)
        #[allow(clippy::unnecessary_cast)]
        (libc::fstat(fd, &raw mut stat) == 0).then_some((stat.st_dev as u64, stat.st_ino as u64))
    }
}

fn name(fd: RawFd) -> String {
    let file = std::fs::read_link(format!("/proc/self/fd/{fd}"));
    file.map_or_else(
        |_| format!("descriptor {fd}"),
        |file| format!("descriptor {fd} ({})", file.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    /// A file of its own with a number that no other test comes by: a new descriptor has
    /// the lowest number that is free, and other threads open and close theirs meanwhile.
    fn high() -> RawFd {
        let file = tempfile::tempfile().unwrap();
        // SAFETY: makes a descriptor.
        let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 700) };
        assert!(fd >= 700, "{}", std::io::Error::last_os_error());
        fd
    }

    #[test]
    fn what_was_opened_since_is_known_from_what_was_there() {
        let there = high();
        let before = all().unwrap();
        assert_eq!(before.get(&there), Some(&identity(there)));
        let since = high();
        assert!(!before.contains_key(&since));
        assert_eq!(all().unwrap().get(&since), Some(&identity(since)));
        assert!(identity(since).is_some());
        assert_ne!(identity(since), identity(there));
        for fd in [there, since] {
            // SAFETY: made above.
            unsafe { libc::close(fd) };
            assert_eq!(identity(fd), None);
        }
    }
}
