//! How the root comes to a file that is granted: below a folder that it holds, in one
//! step of the kernel's, looked at before it is opened. It is called
//!
//! * on Linux openat2(2), whose `RESOLVE_BENEATH` no name leads out of;
//! * on FreeBSD openat(2) with `O_RESOLVE_BENEATH`. What is lent has no more rights than
//!   the function is to use (cap_rights_limit(2)): there they are what its sandbox goes
//!   by.

use super::asking::ASKED_MOST;
use lwc::Errno;
#[cfg(target_os = "freebsd")]
use std::ffi::CStr;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

#[cfg(target_os = "freebsd")]
use freebsd as system;
#[cfg(target_os = "linux")]
use linux as system;

pub(super) use system::{is_about_processes, limit, look, memory_file, open_to_read};

/// Which ways a name may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    /// To anything below.
    #[cfg(target_os = "linux")]
    Folder,
    /// To what is on the same file system.
    FileSystem,
    /// By no link.
    NoLinks,
}

/// What a descriptor is lent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// To be read, and mapped.
    Reading,
    /// To say what it is of.
    Looking,
    /// For nothing: it stands where nothing else is to be.
    Nothing,
    /// The function's end of the line by which others come.
    Receiving,
    /// To be sent to and received from, waited for, asked whose it is, and ended: a
    /// connection, or a socket that is none yet.
    #[cfg(target_os = "freebsd")]
    Connection,
    /// A folder of ours: to find a socket there, and to connect to it.
    #[cfg(target_os = "freebsd")]
    Connecting,
}

/// What the kernel says of a file.
pub(super) fn stat(fd: BorrowedFd<'_>) -> Result<libc::stat, Errno> {
    // SAFETY: of the struct, zeros are a value; the call fills it.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        match libc::fstat(fd.as_raw_fd(), &raw mut stat) {
            0 => Ok(stat),
            _ => Err(Errno::last()),
        }
    }
}

/// What a file is (`S_IFMT`).
pub(super) fn kind(fd: BorrowedFd<'_>) -> Result<libc::mode_t, Errno> {
    stat(fd).map(|s| s.st_mode & libc::S_IFMT)
}

/// What a link says that has been looked at.
pub(super) fn link(link: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = vec![0u8; ASKED_MOST];
    // SAFETY: the path ends in a NUL, and there is as much room as is told.
    let len = unsafe {
        let to = text.as_mut_ptr().cast();
        libc::readlinkat(link.as_raw_fd(), c"".as_ptr(), to, text.len())
    };
    let len = usize::try_from(len).map_err(|_| Errno::last())?;
    text.truncate(len);
    Ok(text)
}

pub(super) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut how = File::options();
    how.read(true);
    how.custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW);
    Ok(how.open(path)?.into())
}

/// What a call that makes a descriptor returned.
fn made(fd: RawFd) -> Result<OwnedFd, Errno> {
    match fd {
        // SAFETY: just made, for us alone.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Errno::last()),
    }
}

/// A file in memory with this text.
fn written(text: &str) -> Result<File, Errno> {
    use std::os::unix::fs::FileExt;
    // SAFETY: the name ends in a NUL.
    let fd = made(unsafe { libc::memfd_create(c"names".as_ptr(), libc::MFD_CLOEXEC) })?;
    let file = File::from(fd);
    file.write_all_at(text.as_bytes(), 0)
        .map_err(|_| Errno::ENOMEM)?;
    Ok(file)
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    /// The part of `struct open_how` that there has always been (openat2(2)).
    #[repr(C)]
    struct OpenHow {
        flags: u64,
        mode: u64,
        resolve: u64,
    }

    const RESOLVE_NO_XDEV: u64 = 0x01;
    const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
    const RESOLVE_NO_SYMLINKS: u64 = 0x04;
    const RESOLVE_BENEATH: u64 = 0x08;

    /// Without a side effect: whatever is there is looked at, and not opened. EXDEV: it
    /// leads out.
    pub(in super::super) fn look(
        at: BorrowedFd<'_>,
        path: &CString,
        flags: i32,
        within: Within,
    ) -> Result<OwnedFd, Errno> {
        let resolve = match within {
            Within::Folder => 0,
            Within::FileSystem => RESOLVE_NO_XDEV,
            Within::NoLinks => RESOLVE_NO_SYMLINKS,
        };
        let how = OpenHow {
            flags: (libc::O_PATH | libc::O_CLOEXEC | flags) as u64,
            mode: 0,
            resolve: resolve | RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
        };
        // Somebody is renaming folders on the way (EAGAIN).
        for _ in 0..16 {
            // SAFETY: the path ends in a NUL, and the structure has the size that is told.
            let fd = unsafe {
                libc::syscall(
                    libc::SYS_openat2,
                    at.as_raw_fd(),
                    path.as_ptr(),
                    &raw const how,
                    size_of::<OpenHow>(),
                )
            };
            match made(fd as RawFd) {
                Err(Errno::EAGAIN) => {}
                done => return done,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// The file itself that has been looked at, to read. It waits for nobody: not for the
    /// end of a lease, as a file is no pipe. When it was read last is not noted with it, where
    /// that may be left out (by its owner): a later invocation could look at that, and learn
    /// what an earlier one has read.
    pub(in super::super) fn open_to_read(looked_at: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let path = CString::new(format!("/proc/self/fd/{}", looked_at.as_raw_fd()));
        let path = path.map_err(|_| Errno::EINVAL)?;
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
        // SAFETY: the path ends in a NUL.
        let open = |more| made(unsafe { libc::open(path.as_ptr(), flags | more) });
        match open(libc::O_NOATIME) {
            Err(Errno::EPERM) => open(0),
            done => done,
        }
    }

    /// A file with this text, to read.
    pub(in super::super) fn memory_file(text: &str) -> Result<OwnedFd, Errno> {
        open_to_read(written(text)?.as_fd())
    }

    /// Whether a folder is of /proc or /sys.
    pub(in super::super) fn is_about_processes(at: BorrowedFd<'_>) -> bool {
        // SAFETY: of the struct, zeros are a value; the call fills it.
        let kind = unsafe {
            let mut found: libc::statfs = std::mem::zeroed();
            match libc::fstatfs(at.as_raw_fd(), &raw mut found) {
                0 => found.f_type,
                _ => return true,
            }
        };
        [libc::PROC_SUPER_MAGIC, libc::SYSFS_MAGIC].contains(&kind)
    }

    /// Nothing is left to do: the filter of the function's sandbox goes by what it does
    /// with a descriptor, and by how that was opened.
    #[allow(clippy::unnecessary_wraps)] // as the other one
    pub(in super::super) fn limit(_: BorrowedFd<'_>, _: For) -> Result<(), Errno> {
        Ok(())
    }
}

#[cfg(target_os = "freebsd")]
mod freebsd {
    use super::*;
    use std::sync::OnceLock;

    /// The errno of a name that leads out of its folder (sys/errno.h).
    const ENOTCAPABLE: i32 = 93;

    /// Without a side effect: whatever is there is looked at, and not opened. EXDEV: it
    /// leads out. (A name of one part that is not followed leads by no link.)
    pub(in super::super) fn look(
        at: BorrowedFd<'_>,
        path: &CString,
        flags: i32,
        within: Within,
    ) -> Result<OwnedFd, Errno> {
        let found = match look_below(at, path, flags) {
            Err(e) if e.raw() == ENOTCAPABLE => return Err(Errno::EXDEV),
            found => found,
        };
        if within == Within::NoLinks {
            return found;
        }
        // What is mounted below is another's to grant: also whether there is such a name.
        let leaves = match &found {
            Ok(found) => stat(found.as_fd())?.st_dev != stat(at)?.st_dev,
            Err(_) => leaves_file_system(at, path)?,
        };
        match leaves {
            true => Err(Errno::EXDEV),
            false => found,
        }
    }

    fn look_below(at: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
        let flags = libc::O_PATH | libc::O_CLOEXEC | libc::O_RESOLVE_BENEATH | flags;
        // SAFETY: the path ends in a NUL.
        made(unsafe { libc::openat(at.as_raw_fd(), path.as_ptr(), flags) })
    }

    /// Whether a path that leads to nothing comes to another file system before: it is
    /// gone along name by name, links in it among them, as the kernel does.
    fn leaves_file_system(at: BorrowedFd<'_>, path: &CStr) -> Result<bool, Errno> {
        /// So many links the kernel follows.
        const LINKS_MOST: usize = 32;
        let device = stat(at)?.st_dev;
        let parts = |path: &[u8]| -> Vec<Vec<u8>> {
            let parts = path.rsplit(|&b| b == b'/');
            parts.filter(|p| !p.is_empty()).map(Vec::from).collect()
        };
        // The next one is the last of them.
        let mut ahead = parts(path.to_bytes());
        let mut folders: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part == b".." {
                folders.pop();
                continue;
            }
            let here = folders.last().map_or(at, |f| f.as_fd());
            let part = CString::new(part).map_err(|_| Errno::EINVAL)?;
            let Ok(found) = look_below(here, &part, libc::O_NOFOLLOW) else {
                return Ok(false);
            };
            let is = stat(found.as_fd())?;
            if is.st_dev != device {
                return Ok(true);
            }
            match is.st_mode & libc::S_IFMT {
                libc::S_IFDIR => folders.push(found),
                libc::S_IFLNK if links < LINKS_MOST => {
                    links += 1;
                    ahead.extend(parts(&link(found.as_fd())?));
                }
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// The file itself that has been looked at, to read. It waits for nobody. When it was
    /// read last is noted with it.
    pub(in super::super) fn open_to_read(looked_at: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
        // SAFETY: the path ends in a NUL.
        made(unsafe {
            let at = looked_at.as_raw_fd();
            libc::openat(at, c"".as_ptr(), flags | libc::O_EMPTY_PATH)
        })
    }

    /// A file with this text, to read: as far as its rights are left.
    pub(in super::super) fn memory_file(text: &str) -> Result<OwnedFd, Errno> {
        let file = OwnedFd::from(written(text)?);
        limit(file.as_fd(), For::Reading)?;
        Ok(file)
    }

    /// Whether a folder is of what tells of processes, or of devices.
    pub(in super::super) fn is_about_processes(at: BorrowedFd<'_>) -> bool {
        // SAFETY: of the struct, zeros are a value; the call fills it, its name with a NUL
        // at the end.
        let name = unsafe {
            let mut found: libc::statfs = std::mem::zeroed();
            match libc::fstatfs(at.as_raw_fd(), &raw mut found) {
                0 => found.f_fstypename.map(|c| c as u8),
                _ => return true,
            }
        };
        let name = name.split(|&b| b == 0).next().unwrap_or_default();
        ["procfs", "linprocfs", "linsysfs", "fdescfs", "devfs"]
            .iter()
            .any(|kind| kind.as_bytes() == name)
    }

    /// What ioctl(2) does for a connection: whether it waits, and how much there is to
    /// read, or not taken yet.
    const REQUESTS: [libc::c_ulong; 3] = [libc::FIONBIO, libc::FIONREAD, libc::FIONWRITE];

    /// Leaves a descriptor these rights, and of fcntl(2) and ioctl(2) the named parts. They
    /// are put together once.
    fn leave(
        fd: BorrowedFd<'_>,
        made: &OnceLock<libc::cap_rights_t>,
        rights: &[u64],
        flags: u32,
    ) -> Result<(), Errno> {
        let fd = fd.as_raw_fd();
        // SAFETY: zeros are a value, which the first call fills; each list of rights ends
        // in zero.
        let all = made.get_or_init(|| unsafe {
            let mut all: libc::cap_rights_t = std::mem::zeroed();
            libc::__cap_rights_init(libc::CAP_RIGHTS_VERSION, &raw mut all, 0u64);
            for &right in rights {
                libc::__cap_rights_set(&raw mut all, right, 0u64);
            }
            all
        });
        // SAFETY: the calls read what they are told.
        unsafe {
            let has_flags = rights.contains(&libc::CAP_FCNTL);
            let requests = match rights.contains(&libc::CAP_IOCTL) {
                true => &REQUESTS[..],
                false => &[],
            };
            match libc::cap_rights_limit(fd, std::ptr::from_ref(all)) == 0
                && (!has_flags || libc::cap_fcntls_limit(fd, flags) == 0)
                && (requests.is_empty()
                    || libc::cap_ioctls_limit(fd, requests.as_ptr(), requests.len()) == 0)
            {
                true => Ok(()),
                false => Err(Errno::last()),
            }
        }
    }

    /// Leaves a descriptor what it is lent for.
    pub(in super::super) fn limit(fd: BorrowedFd<'_>, purpose: For) -> Result<(), Errno> {
        /// Of each purpose.
        static MADE: [OnceLock<libc::cap_rights_t>; 6] = [const { OnceLock::new() }; 6];
        let asked = libc::CAP_FCNTL_GETFL;
        let made = &MADE[purpose as usize];
        let leave = |fd, rights: &[u64], flags| leave(fd, made, rights, flags);
        match purpose {
            For::Looking => leave(fd, &[libc::CAP_FSTAT], 0),
            For::Nothing => leave(fd, &[], 0),
            For::Connecting => leave(
                fd,
                &[
                    libc::CAP_LOOKUP,
                    libc::CAP_CONNECTAT,
                    libc::CAP_READ,
                    libc::CAP_FSTAT,
                ],
                0,
            ),
            For::Receiving => leave(fd, &[libc::CAP_RECV], 0),
            For::Reading => leave(
                fd,
                &[
                    libc::CAP_READ,
                    libc::CAP_SEEK,
                    libc::CAP_FSTAT,
                    libc::CAP_MMAP_R,
                    libc::CAP_FCNTL,
                ],
                asked,
            ),
            // Not to connect, to bind, to listen, to accept, or to ask for options and set
            // them.
            For::Connection => leave(
                fd,
                &[
                    libc::CAP_RECV,
                    libc::CAP_SEND,
                    libc::CAP_EVENT,
                    libc::CAP_GETPEERNAME,
                    libc::CAP_GETSOCKNAME,
                    libc::CAP_SHUTDOWN,
                    libc::CAP_FSTAT,
                    libc::CAP_FCNTL,
                    libc::CAP_IOCTL,
                ],
                asked | libc::CAP_FCNTL_SETFL,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Something is mounted there on each.
    const MOUNTED: &str = match cfg!(target_os = "freebsd") {
        true => "dev",
        false => "proc",
    };

    fn looked(at: &Path, path: &str) -> Result<(), Errno> {
        let folder = open_folder(at).unwrap();
        let within = Within::FileSystem;
        look(folder.as_fd(), &CString::new(path).unwrap(), 0, within).map(drop)
    }

    #[test]
    fn what_is_mounted_below_is_not_told_of() {
        let root = |path: &str| looked(Path::new("/"), path);
        // It is there, or nothing is.
        for rest in ["", "/fd/0", "/nothing", "/nothing/at/all", "/null/x"] {
            let path = format!("{MOUNTED}{rest}");
            assert_eq!(root(&path), Err(Errno::EXDEV), "{path}");
        }
        assert_eq!(root("."), Ok(()));
        assert_eq!(root("nothing/at/all"), Err(Errno::ENOENT));
    }

    #[test]
    fn what_is_not_there_is_said_where_nothing_is_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        for (to, link) in [("none", "dangling"), ("loop", "loop"), ("../a/b/", "a/up")] {
            symlink(to, at(link)).unwrap();
        }
        for (path, said) in [
            ("a/up/../b", Ok(())),
            ("none", Err(Errno::ENOENT)),
            ("a/up/none", Err(Errno::ENOENT)),
            ("dangling", Err(Errno::ENOENT)),
            ("loop", Err(Errno::ELOOP)),
            ("file/x", Err(Errno::ENOTDIR)),
        ] {
            assert_eq!(looked(folder.path(), path), said, "{path}");
        }
        // What leads out of it leads out, whatever is there.
        symlink("../..", at("out")).unwrap();
        for path in ["out", "out/none", "../none", "/none"] {
            assert_eq!(looked(folder.path(), path), Err(Errno::EXDEV), "{path}");
        }
    }
}
