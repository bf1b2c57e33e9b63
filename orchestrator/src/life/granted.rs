//! The root's side of what functions reach outside: it decides, by the chain file, and
//! lends what is granted.
//!
//! ```text
//!   function: open("rates.db")        the sandbox does not make the call (SIGSYS)
//!     └ handler: ASK ─────────▶ root: whose turn is it? what is it granted?
//!                                     opens it below a folder that it holds, to read
//!       recvmsg ◀── SCM_RIGHTS ────── a descriptor of the file, for reading alone
//!     └ open returns it  ◀─ RETURN ──
//!   function: read, lseek, mmap       are not trapped
//! ```
//!
//! The function's context cannot open anything by itself: no call that names a file is
//! let through, whatever its arguments are, and no descriptor of a folder is of any use
//! for that. So it has what the root has sent, and each of those was opened for reading.
//! A path is read once, into the root's own memory. What it leads to is the kernel's
//! word, in one step from the granted folder (`RESOLVE_BENEATH`): a folder that is
//! exchanged for a link meanwhile is not followed out. Then it is looked at what it
//! is, and what has been looked at is opened, and nothing that has come in its place.

use super::asking::{ASKED_MOST, Answer, How};
use super::connections::Connections;
use super::control::Control;
use super::opening::{
    For, Within, is_about_processes, kind, limit, link, look, memory_file, open_folder,
    open_to_read,
};
use super::sys as libc;
use crate::chain_file::{FileGrant, Function, by_names, from_root, is_of_the_system};
use lwc::Errno;
use std::cell::Cell;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// What a function is granted, held open.
#[derive(Debug)]
pub(crate) struct Granted {
    /// Where relative paths begin.
    base: PathBuf,
    all: Vec<Grant>,
    connections: Connections,
    line: Line,
    /// How many descriptors were sent since what came was last closed.
    sent: Cell<usize>,
    /// Whether its context has served since then, as far as the root knows.
    well: Cell<bool>,
}

/// A file or a folder.
#[derive(Debug)]
struct Grant {
    /// By which names it is asked for: as the file has it, and where that really is.
    names: Vec<PathBuf>,
    /// The folder; or the one that the file is in.
    at: OwnedFd,
    /// Of a file: its name there. So one that is replaced is the new one.
    file: Option<CString>,
}

/// What open(2) says of a link that it is not to follow.
const IS_A_LINK: Errno = match cfg!(target_os = "linux") {
    true => Errno::ELOOP,
    false => Errno::from_raw(::libc::EMLINK),
};

/// The way on which descriptors go to the context. The root has both ends: what a
/// context has not received is nobody's any more after its rollback.
#[derive(Debug)]
struct Line {
    here: UnixDatagram,
    there: OwnedFd,
}

impl Line {
    fn new() -> io::Result<Self> {
        let (here, there) = UnixDatagram::pair()?;
        // Nor does a function that reads there by itself wait for what nobody sends.
        here.set_nonblocking(true)?;
        there.set_nonblocking(true)?;
        let least = lwc::lent_descriptors().end;
        // SAFETY: makes a descriptor, which is ours alone.
        let there = unsafe {
            let fd = libc::fcntl(there.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        limit(there.as_fd(), For::Receiving).map_err(|e| io::Error::from_raw_os_error(e.raw()))?;
        Ok(Self { here, there })
    }
}

impl Grant {
    fn of(grant: &FileGrant) -> Result<Self, String> {
        let failed = |e: io::Error| format!("{:?} in `files`: {e}", grant.said);
        let named = from_root(&grant.path);
        let real = std::fs::canonicalize(&grant.path).map_err(failed)?;
        if is_of_the_system(&real) || real.as_os_str().as_bytes() == b"/" {
            let what = "it leads to what is of the system, and no file";
            return Err(format!("{:?} in `files`: {what}", grant.said));
        }
        // Once it is open names mean nothing any more: so of what is open.
        let (folder, file) = match (grant.folder, real.parent(), real.file_name()) {
            (false, Some(folder), Some(name)) => (folder, Some(name)),
            _ => (real.as_path(), None),
        };
        let at = open_folder(folder).map_err(failed)?;
        // Wherever that is mounted.
        if is_about_processes(at.as_fd()) {
            let what = "it tells of who opens it, which is not the function";
            return Err(format!("{:?} in `files`: {what}", grant.said));
        }
        let file = file.map(|name| CString::new(name.as_bytes())).transpose();
        let file = file.map_err(|e| failed(e.into()))?;
        let mut names = vec![named];
        if names[0] != real {
            names.push(real);
        }
        let made = Self { names, at, file };
        let found = made.look(Path::new(""), 0);
        let is = found.map(|(_, is)| is);
        let wanted = match grant.folder {
            true => libc::S_IFDIR,
            false => libc::S_IFREG,
        };
        match is {
            Ok(is) if is == wanted => Ok(made),
            Ok(_) => Err(format!(
                "{:?} in `files`: it is no {}",
                grant.said,
                if grant.folder { "folder" } else { "file" }
            )),
            Err(Errno::ENOSYS) => Err(format!(
                "{:?} in `files`: this takes openat2(2): Linux 5.6 or newer, and a container that lets it through",
                grant.said
            )),
            Err(e) => Err(format!("{:?} in `files`: {e}", grant.said)),
        }
    }

    /// What is below it where a path means something that is granted by this.
    fn rest<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        self.names.iter().find_map(|name| match self.file {
            Some(_) => (path == name).then_some(Path::new("")),
            None => path.strip_prefix(name).ok(),
        })
    }

    /// What a link says that is there. EINVAL: it is none.
    fn link(&self, rest: &Path) -> Result<Vec<u8>, Errno> {
        let (found, is) = self.look(rest, libc::O_NOFOLLOW)?;
        match is {
            libc::S_IFLNK => link(found.as_fd()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Looks at what is there, and what that is. EXDEV: it leads out.
    fn look(&self, rest: &Path, flags: i32) -> Result<(OwnedFd, libc::mode_t), Errno> {
        let at = self.at.as_fd();
        if let Some(name) = &self.file {
            // A link that has come in its place leads to what nobody has granted. (It
            // may be mounted there, as containers do.)
            return match look(at, name, flags | libc::O_NOFOLLOW, Within::NoLinks) {
                Ok(fd) => match kind(fd.as_fd())? {
                    libc::S_IFLNK => Err(Errno::EXDEV),
                    is => Ok((fd, is)),
                },
                Err(Errno::ELOOP) => Err(Errno::EXDEV),
                Err(e) => Err(e),
            };
        }
        let rest = match rest.as_os_str().as_bytes() {
            b"" => b".",
            rest => rest,
        };
        let rest = CString::new(rest).map_err(|_| Errno::EINVAL)?;
        let found = look(at, &rest, flags, Within::FileSystem)?;
        let is = kind(found.as_fd())?;
        Ok((found, is))
    }
}

impl Granted {
    /// Of a function of a file in this folder. None, if it is granted nothing.
    ///
    /// # Errors
    /// What cannot be had, by the name that the file gives it.
    pub(super) fn of(function: &Function, folder: &Path) -> Result<Option<Self>, String> {
        if lwc::backend() == Ok(lwc::Backend::Kernel)
            && let Some(why) = super::refused_by_kernel(function).pop()
        {
            return Err(why);
        }
        if function.files.is_empty() && function.connect.is_empty() {
            return Ok(None);
        }
        let base = from_root(folder);
        let all = function.files.iter().map(Grant::of);
        let all = all.collect::<Result<Vec<_>, _>>()?;
        let connections = Connections::of(&function.connect)?;
        let line = Line::new().map_err(|e| format!("a line for descriptors: {e}"))?;
        Ok(Some(Self {
            base,
            all,
            connections,
            line,
            sent: Cell::new(0),
            well: Cell::new(false),
        }))
    }

    /// Its context has no more sockets than so many.
    #[cfg(target_os = "freebsd")]
    pub(super) fn bound(&self, sockets: usize) {
        self.connections.bound(sockets);
    }

    /// Where relative paths begin.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// The context's end of the line.
    pub(super) fn line(&self) -> BorrowedFd<'_> {
        self.line.there.as_fd()
    }

    /// Whether what was sent may lie at other numbers than a rollback closes: each comes
    /// at the lowest that is free. (On FreeBSD it closes all.)
    pub(super) fn too_many(&self) -> bool {
        cfg!(target_os = "linux") && self.sent.get() > lwc::lent_descriptors().len()
    }

    /// Whether connections are granted by names.
    pub(super) fn has_names(&self) -> bool {
        self.connections.has_names()
    }

    /// Its context has come to the end of an invocation by itself.
    pub(super) fn served(&self) {
        self.well.set(true);
    }

    /// It was not at its end: a thread of its own was there still, or it ran on.
    pub(super) fn did_not_rest(&self) {
        self.well.set(false);
    }

    /// What was sent and not received is nobody's; the rest has been closed.
    pub(super) fn forget(&self) {
        self.connections.forget(self.well.take());
        self.sent.set(0);
        let mut byte = 0u8;
        // SAFETY: receives into a local of the length that is told; without room for
        // descriptors the kernel drops them.
        let mut receive = || unsafe {
            let there = self.line.there.as_raw_fd();
            libc::recv(there, (&raw mut byte).cast(), 1, libc::MSG_DONTWAIT)
        };
        while receive() >= 0 {}
    }

    /// Decides about what the function's context asks for, and lends it, or puts what a
    /// link says on its control page.
    pub(super) fn answer(&self, asked: &[u8], how: How, control: &Control) -> Answer {
        if how.connects() {
            let lend = |socket: &OwnedFd| self.lend_socket(socket);
            let made = self.connections.connect(&self.base, asked, lend);
            return made.unwrap_or_else(Answer::from);
        }
        if how.is_of_queue() {
            let lend = |queue: &OwnedFd| self.send(queue);
            let made = self.connections.queue(lend);
            return made.map_or_else(Answer::failed, |()| Answer::lent(false));
        }
        #[cfg(target_os = "freebsd")]
        if how.is_of_socket() {
            let lend = |socket: &OwnedFd| self.lend_socket(socket);
            let made = self.connections.socket(asked, lend);
            return made.map_or_else(Answer::failed, |()| Answer::lent(false));
        }
        #[cfg(target_os = "freebsd")]
        if how.is_of_option() {
            return match self.connections.about(asked) {
                Ok(told) => {
                    if let Some((value, len)) = told {
                        control.put_asked(&[&len.to_ne_bytes()[..], &value].concat());
                    }
                    Answer::lent(false)
                }
                Err(e) => Answer::failed(e),
            };
        }
        if how.is_of_hosts() || how.is_of_switch() {
            return self.names(how);
        }
        if asked.is_empty() || asked.len() >= ASKED_MOST || asked.contains(&0) {
            return Answer::failed(Errno::ENOENT);
        }
        let path = by_names(&self.base, Path::new(OsStr::from_bytes(asked)));
        // The nearest of several: what is granted by itself inside a granted folder may be
        // what that does not lead to, a link out of it or something that is mounted there.
        let of = self.all.iter().filter_map(|g| Some((g, g.rest(&path)?)));
        let Some((grant, rest)) = of.min_by_key(|(_, rest)| rest.as_os_str().len()) else {
            if how.is_of_link() && self.leads_to_one(&path) {
                // So realpath(3) comes to what is granted.
                return Answer::failed(Errno::EINVAL);
            }
            return Answer::NOT_GRANTED;
        };
        let answer = match how.is_of_link() {
            true => grant.link(rest).map(|text| control.put_link(&text)),
            false => self.lend(grant, rest, asked, how),
        };
        answer.unwrap_or_else(|e| match e {
            Errno::EXDEV => Answer::LEADS_OUT,
            e => Answer::failed(e),
        })
    }

    /// Whether something that is granted is below.
    fn leads_to_one(&self, path: &Path) -> bool {
        let mut names = self.all.iter().flat_map(|g| &g.names);
        names.any(|name| name.starts_with(path))
    }

    fn lend(&self, grant: &Grant, rest: &Path, asked: &[u8], how: How) -> Result<Answer, Errno> {
        let flags = match how.follows() {
            true => 0,
            false => libc::O_NOFOLLOW,
        };
        let (found, kind) = grant.look(rest, flags)?;
        let is_folder = kind == libc::S_IFDIR;
        if !is_folder && (how.is_of_folder() || asked.ends_with(b"/")) {
            return Err(Errno::ENOTDIR);
        }
        let (lent, purpose) = match how.opens() {
            false => (found, For::Looking),
            true if kind == libc::S_IFLNK => return Err(IS_A_LINK),
            true if is_folder || kind == libc::S_IFREG => {
                (open_to_read(found.as_fd())?, For::Reading)
            }
            // To open a pipe or a device does something, or waits.
            true => return Err(Errno::EACCES),
        };
        limit(lent.as_fd(), purpose)?;
        self.send(&lent).map(|()| Answer::lent(is_folder))
    }

    /// A socket, with the rights alone that it is lent with, where there are such.
    fn lend_socket(&self, socket: &OwnedFd) -> Result<(), Errno> {
        #[cfg(target_os = "freebsd")]
        {
            let lent = socket.try_clone().map_err(|_| Errno::EMFILE)?;
            limit(lent.as_fd(), For::Connection)?;
            self.send(&lent)
        }
        #[cfg(target_os = "linux")]
        self.send(socket)
    }

    fn send(&self, lent: &OwnedFd) -> Result<(), Errno> {
        match lwc::send_descriptor(&self.line.here, lent) {
            Ok(()) => {
                self.sent.set(self.sent.get() + 1);
                Ok(())
            }
            // It has not received the one before.
            Err(e) if e.errno() == Errno::EBUSY => Err(Errno::EMFILE),
            Err(e) => Err(e.errno()),
        }
    }
}

impl Granted {
    /// What a C library reads to find the address of a name: those that are granted.
    fn names(&self, how: How) -> Answer {
        if !self.has_names() {
            return Answer::NOT_GRANTED;
        }
        self.connections.names.look_up();
        let text = match how.is_of_switch() {
            true => Some("hosts: files\n".to_owned()),
            false => self.connections.names.hosts(),
        };
        let Some(text) = text else {
            return Answer::WAIT;
        };
        let lent = memory_file(&text).and_then(|file| self.send(&file));
        lent.map_or_else(Answer::failed, |()| Answer::lent(false))
    }
}

/// A path as it is asked for, for an audit.
pub(crate) fn asked_for(grant: &FileGrant) -> Vec<u8> {
    from_root(&grant.path).into_os_string().into_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    #[cfg(target_os = "linux")]
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A folder, what is granted in it, and a control page.
    fn granted(said: &[&str]) -> (tempfile::TempDir, Granted, Control) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("data/inner")).unwrap();
        std::fs::create_dir(folder.path().join("out")).unwrap();
        for name in ["a", "data/b", "data/inner/c", "out/c"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let grants = said.iter().map(|said| {
            Grant::of(&FileGrant {
                said: (*said).to_owned(),
                path: folder.path().join(said),
                folder: said.ends_with('/'),
            })
        });
        let granted = Granted {
            base: folder.path().to_owned(),
            all: grants.collect::<Result<_, _>>().unwrap(),
            connections: Connections::of(&[]).unwrap(),
            line: Line::new().unwrap(),
            sent: Cell::new(0),
            well: Cell::new(false),
        };
        (folder, granted, Control::new().unwrap())
    }

    fn open() -> How {
        How::new(true, true, false)
    }

    /// What is read from what was lent.
    fn received(granted: &Granted) -> String {
        let fd = lwc::receive_descriptor(granted.line()).unwrap();
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_was_sent_is_received_once_or_is_nobodys() {
        let (_folder, granted, control) = granted(&["a"]);
        let lent = Answer::lent(false);
        assert_eq!(granted.answer(b"a", open(), &control), lent);
        // Descriptors under way are counted for the user.
        let full = Answer::failed(Errno::EMFILE);
        assert_eq!(granted.answer(b"a", open(), &control), full);
        assert_eq!(received(&granted), "a");
        assert!(lwc::receive_descriptor(granted.line()).is_err());
        assert_eq!(granted.answer(b"a", open(), &control), lent);
        granted.forget();
        assert!(lwc::receive_descriptor(granted.line()).is_err());
        for _ in 0..=lwc::lent_descriptors().len() {
            assert!(!granted.too_many());
            assert_eq!(granted.answer(b"a", open(), &control), lent);
            received(&granted);
        }
        assert_eq!(granted.too_many(), cfg!(target_os = "linux"));
        granted.forget();
        assert!(!granted.too_many());
    }

    /// What a hostile function may write on its control page.
    #[test]
    fn no_words_mean_more_than_a_path() {
        let (folder, granted, control) = granted(&["a", "data/"]);
        let long = vec![b'a'; ASKED_MOST];
        for asked in [&b""[..], b"a\0", b"\0", &long] {
            for how in [0, 1, 2, 4, 8, u64::MAX] {
                let refused = Answer::failed(Errno::ENOENT);
                assert_eq!(granted.answer(asked, How::of(how), &control), refused);
            }
        }
        let root = [
            b"/".as_slice(),
            b"//",
            b"..",
            b".",
            b"data/..",
            b"\xff",
            b"aa",
        ];
        for asked in root {
            for how in [0, 1, 2, 4, 1 << 40] {
                let answer = granted.answer(asked, How::of(how), &control);
                assert_eq!(answer, Answer::NOT_GRANTED, "{asked:?}");
            }
        }
        // Any bits: to read, or less.
        for how in (0..16).chain([u64::MAX]) {
            let path = folder.path().join("data/b");
            granted.answer(path.as_os_str().as_bytes(), How::of(how), &control);
            if let Ok(fd) = lwc::receive_descriptor(granted.line()) {
                // SAFETY: asks about a descriptor.
                let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
                // (On FreeBSD one to look at alone has no right to tell them.)
                let tells_none = cfg!(target_os = "freebsd") && flags < 0;
                assert!(tells_none || flags & libc::O_ACCMODE == libc::O_RDONLY);
            }
        }
    }

    #[test]
    fn a_file_that_is_replaced_is_the_new_one_and_no_link() {
        let (folder, granted, control) = granted(&["a", "data/"]);
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("new"), "new").unwrap();
        std::fs::rename(path("new"), path("a")).unwrap();
        granted.answer(b"a", open(), &control);
        assert_eq!(received(&granted), "new");
        std::fs::remove_file(path("a")).unwrap();
        std::os::unix::fs::symlink("out/c", path("a")).unwrap();
        for how in [
            open(),
            How::new(true, false, false),
            How::new(false, true, false),
        ] {
            assert_eq!(granted.answer(b"a", how, &control), Answer::LEADS_OUT);
        }
        // The folder is the one that it was.
        std::fs::rename(path("data"), path("gone")).unwrap();
        std::os::unix::fs::symlink("out", path("data")).unwrap();
        granted.answer(b"data/inner/c", open(), &control);
        assert_eq!(received(&granted), "data/inner/c");
    }

    /// Somebody exchanges a folder for a link that leads out, all the time. (FreeBSD has no
    /// call that exchanges two names.)
    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_becomes_a_link_meanwhile_leads_nowhere_else() {
        let (folder, granted, control) = granted(&["data/"]);
        std::os::unix::fs::symlink("../out", folder.path().join("data/other")).unwrap();
        let end = AtomicBool::new(false);
        let path = |name: &str| {
            let path = folder.path().join(name);
            CString::new(path.as_os_str().as_bytes()).unwrap()
        };
        let (one, other) = (path("data/inner"), path("data/other"));
        std::thread::scope(|scope| {
            let exchanged = scope.spawn(|| {
                let mut times = 0u64;
                while !end.load(Ordering::Relaxed) {
                    // SAFETY: both paths end in a NUL.
                    let done = unsafe {
                        libc::syscall(
                            libc::SYS_renameat2,
                            libc::AT_FDCWD,
                            one.as_ptr(),
                            libc::AT_FDCWD,
                            other.as_ptr(),
                            libc::RENAME_EXCHANGE,
                        )
                    };
                    times += u64::from(done == 0);
                    std::thread::yield_now();
                }
                times
            });
            let mut seen = [0; 2];
            for _ in 0..20_000 {
                match granted.answer(b"data/inner/c", open(), &control) {
                    answer if answer == Answer::lent(false) => {
                        assert_eq!(received(&granted), "data/inner/c");
                        seen[0] += 1;
                    }
                    answer => {
                        let again = Answer::failed(Errno::EAGAIN);
                        assert!([Answer::LEADS_OUT, again].contains(&answer), "{answer:?}");
                        seen[1] += 1;
                    }
                }
                if seen.iter().all(|&n| n > 500) {
                    break;
                }
            }
            end.store(true, Ordering::Relaxed);
            // Where the file system cannot exchange there is nothing to see.
            let exchanged = exchanged.join().unwrap();
            assert!(exchanged == 0 || seen[0] > 0, "{seen:?}");
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_of_the_system_is_not_granted() {
        let of = |path: &str, folder| {
            let (said, path) = (path.to_owned(), PathBuf::from(path));
            Grant::of(&FileGrant { said, path, folder }).unwrap_err()
        };
        for (path, folder) in [("/proc/self/environ", false), ("/proc/", true), ("/", true)] {
            assert!(of(path, folder).contains("of the system"), "{path}");
        }
        assert!(of("/nowhere/at/all", false).contains("No such file"));
    }
}
