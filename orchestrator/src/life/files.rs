//! The context's side of files: what its function's calls name, it asks the root for
//! ([`granted`](super::granted)), or has itself ([`scratch`]); what is
//! refused, and why, is a line of its log.
//!
//! All of this runs in the function's own context, in a handler of SIGSYS
//! ([`lwc::catch_files`]), where the call would have been made: no lock of the
//! allocator is held there. A hostile function can do all of it itself, or something
//! else in its place, and gains nothing: it is the root that decides.

use super::asking::{self, ASKED_MOST, Answer, How};
use super::control::Control;
use super::opening::{For, limit};
use super::parts::Parts;
use super::scratch::{self, Scratch, Way};
use super::snapshot::word;
use super::sys as libc;
use super::turns;
use crate::chain_file::is_of_the_system;
use lwc::{Errno, FileCall, Handle};
use nix::sys::signal::SigSet;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

/// What a context needs to ask; it lives as long as the context.
pub(super) struct Asking<'a> {
    pub(super) root: Handle,
    pub(super) apart: bool,
    pub(super) control: &'a Control,
    /// Where relative paths begin, and where descriptors come: if anything is granted.
    pub(super) granted: Option<(&'a Path, BorrowedFd<'a>)>,
    /// Whether it may connect to anybody, and to any by a name.
    pub(super) connects: bool,
    names: bool,
    /// Its own files, if it has any.
    scratch: Option<RefCell<Scratch>>,
    /// What folders are open, by the paths that they were asked for by.
    folders: RefCell<BTreeMap<RawFd, Vec<u8>>>,
    /// What has been told of refusals, so that each is told once.
    told: Cell<[u64; TOLD]>,
}

/// So many refusals are not told again.
const TOLD: usize = 16;

/// The one of the current context.
static ASKING: AtomicPtr<Asking<'static>> = AtomicPtr::new(std::ptr::null_mut());

impl<'a> Asking<'a> {
    pub(super) fn new(root: Handle, parts: &'a Parts<'_>) -> Self {
        let scratch = (parts.scratch > 0).then(|| RefCell::new(Scratch::new(parts.scratch)));
        Self {
            root,
            apart: parts.apart,
            control: parts.control,
            granted: parts.files,
            connects: parts.connects,
            names: parts.names,
            scratch,
            folders: RefCell::new(BTreeMap::new()),
            told: Cell::new([0; TOLD]),
        }
    }

    /// Whether it has files, connections or scratch: more than to be told what is refused.
    pub(super) fn has_something(&self) -> bool {
        self.granted.is_some() || self.scratch.is_some()
    }

    /// From now on the calls of the current context, and of its copies, come here, once
    /// they are in the strict sandbox. There the signals of `mask` wait.
    ///
    /// # Errors
    /// What the backend says.
    pub(super) fn catch(&'a self, mask: SigSet) -> lwc::Result<()> {
        // Once: it is the context's only function.
        let _ = USUAL.set(mask);
        let place = std::ptr::from_ref(self).cast_mut();
        ASKING.store(place.cast(), Ordering::Relaxed);
        if self.granted.is_some() {
            take_standard_descriptors();
        }
        let numbers = match self.scratch {
            Some(_) => scratch::NUMBERS,
            None => 0..0,
        };
        lwc::catch_files(self.granted.map(|(_, line)| line), numbers, answer)?;
        #[cfg(target_os = "freebsd")]
        if self.connects {
            super::lookup::prepare();
        }
        match self.connects {
            true => lwc::catch_connections(),
            false => Ok(()),
        }
    }
}

/// What is lent comes at the lowest number that is free, which is not to be one of the
/// standard three: these can be neither read nor written.
fn take_standard_descriptors() {
    // SAFETY: the path ends in a NUL; the last one is ours and nobody's.
    unsafe {
        loop {
            let fd = libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
            if !(0..=2).contains(&fd) {
                libc::close(fd);
                return;
            }
            // (No name leads from there: not where the sandbox lets none through.)
            let _ = limit(BorrowedFd::borrow_raw(fd), For::Nothing);
        }
    }
}

/// The number of the descriptor by which the current context is lent what it is granted.
pub(super) fn line() -> Option<RawFd> {
    let (_, line) = current()?.granted?;
    Some(line.as_raw_fd())
}

/// What the current context asks with, if it does.
pub(super) fn current() -> Option<&'static Asking<'static>> {
    // SAFETY: as in `answer`.
    unsafe { ASKING.load(Ordering::Relaxed).as_ref() }
}

/// The signals that wait where the function runs, from its start on.
static USUAL: OnceLock<SigSet> = OnceLock::new();

thread_local! {
    /// Whether this thread is in the midst of a call's answer.
    static ANSWERING: Cell<bool> = const { Cell::new(false) };
}

/// An answer, in the midst of which this thread gives no other: EBUSY, for the handler of
/// a signal that has interrupted it and makes such a call itself. (One that is trapped in
/// the midst of one that was does not come this far: SIGSYS is blocked in its own handler.)
fn uninterrupted(answer: impl FnOnce() -> Result<u64, Errno>) -> Result<u64, Errno> {
    if ANSWERING.replace(true) && in_a_handler() {
        return Err(Errno::EBUSY);
    }
    let done = answer();
    ANSWERING.set(false);
    done
}

/// Whether this thread blocks a signal that the function did not block from the start, as
/// it does its own in a handler. If not, that handler has left the answer that it
/// interrupted, by siglongjmp(3): so do those who look by a call whether an address is good.
/// (SIGSYS is blocked for every call that is trapped, which says nothing of that. One that
/// an answer made itself would be answered, and end the function if that made one more.)
fn in_a_handler() -> bool {
    /// Those of real time among them.
    const SIGNALS: std::ops::RangeInclusive<libc::c_int> = 1..=64;
    let usual = USUAL.get().copied().unwrap_or_else(SigSet::empty);
    // SAFETY: zeros are a value of the set, which the call fills; numbers.
    unsafe {
        let mut now: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut now) != 0
            || SIGNALS.into_iter().any(|signal| {
                signal != libc::SIGSYS
                    && libc::sigismember(&raw const now, signal) == 1
                    && libc::sigismember(usual.as_ref(), signal) == 0
            })
    }
}

/// A call of the function's, by a trap or without one ([`direct`](super::direct)).
fn answer(call: &FileCall) -> Result<u64, Errno> {
    uninterrupted(|| {
        let _turn = turns::ASKING.take();
        // SAFETY: `catch` has put there what lives as long as the context, of which one
        // thread is here at a time, once.
        let asking = unsafe { ASKING.load(Ordering::Relaxed).as_ref() };
        // SAFETY: the arguments are those of a call of this context's.
        asking.map_or(Err(Errno::EACCES), |asking| unsafe { asking.call(call) })
    })
}

/// Why what would change a file is refused.
const CHANGE: &str =
    "to write it cannot be granted (scratch = \"16MiB\" gives a /tmp/ of its own), to read it";

const HERE: u64 = libc::AT_FDCWD as u32 as u64;

/// The flags of creat(2).
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const CREAT: u64 = (libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC) as u64;

/// So much memory is free when a call that names something is answered. An allocation
/// that fails ends the function, and most of them are behind this one; kernels say ENOMEM.
/// Small enough to be in the heap, where the allocator of Rust programs has it next.
const SPARE: usize = 32 << 10;

/// That there is so much.
fn has_spare_memory() -> Result<(), Errno> {
    let mut spare: Vec<u8> = Vec::new();
    let reserved = spare.try_reserve_exact(SPARE);
    // Or it need not be there at all.
    std::hint::black_box(spare.as_ptr());
    reserved.map_err(|_| Errno::ENOMEM)
}

/// A descriptor that was lent, closed when it is dropped: not by close(2), which may be one
/// of the calls that are answered here.
#[derive(Debug)]
pub(super) struct Received(RawFd);

impl Received {
    /// The one that has been sent.
    pub(super) fn by(line: BorrowedFd<'_>) -> Result<Self, Errno> {
        let fd = lwc::receive_descriptor(line).map_err(|e| e.errno())?;
        Ok(Self(fd.into_raw_fd()))
    }
}

impl AsRawFd for Received {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl IntoRawFd for Received {
    fn into_raw_fd(self) -> RawFd {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        close(self.0);
    }
}

/// Closes a number whose descriptor has been given up.
pub(super) fn close(fd: RawFd) {
    // SAFETY: whoever closes it has given it up.
    unsafe {
        #[cfg(target_os = "linux")]
        libc::close(fd);
        #[cfg(target_os = "freebsd")]
        libc::close_range(fd as libc::c_uint, fd as libc::c_uint, 0);
    }
}

/// Whether a number is of a descriptor. (Of one of the function's own files fcntl(2) is
/// trapped.)
#[cfg(target_os = "freebsd")]
pub(super) fn is_open(fd: RawFd) -> bool {
    // SAFETY: a request without an argument, which leaves it as what is lent is: closed by
    // execve(2).
    unsafe { libc::ioctl(fd, libc::FIOCLEX) >= 0 || Errno::last() != Errno::EBADF }
}

/// What a path stands for.
enum Named<'a> {
    /// One of the function's own files.
    Own(&'a RefCell<Scratch>, scratch::Name),
    /// Something else, by the path to ask for it with.
    Other(Vec<u8>),
}

impl Asking<'_> {
    /// What a call comes to.
    ///
    /// # Safety
    /// Its arguments are what code of this context passed to the kernel: where they
    /// point to nothing it faults, as it would by a load of its own.
    unsafe fn call(&self, call: &FileCall) -> Result<u64, Errno> {
        let a = call.args;
        let is_number = scratch::NUMBERS.contains(&(a[0] as RawFd));
        if !(is_number && scratch::IN_PLACE.contains(&call.number)
            || call.number == libc::SYS_close)
        {
            has_spare_memory()?;
        }
        // SAFETY: each takes the arguments of its call, which the caller promises.
        unsafe {
            match call.number {
                #[cfg(target_arch = "x86_64")]
                libc::SYS_open => self.open(HERE, a[0], a[1]),
                libc::SYS_openat => self.open(a[0], a[1], a[2]),
                libc::SYS_newfstatat => self.stat(a[0], a[1], a[2], a[3] as i32),
                #[cfg(target_arch = "x86_64")]
                libc::SYS_access => self.access(HERE, a[0], a[1] as i32, 0),
                libc::SYS_faccessat => self.access(a[0], a[1], a[2] as i32, 0),
                #[cfg(target_arch = "x86_64")]
                libc::SYS_readlink => self.readlink(HERE, a[0], a[1], a[2] as usize),
                libc::SYS_readlinkat => self.readlink(a[0], a[1], a[2], a[3] as usize),
                libc::SYS_getcwd => self.current_folder(a[0], a[1] as usize),
                _ => self.call_of_system(call, is_number),
            }
        }
    }

    /// One that Linux alone has, or changes something.
    ///
    /// # Safety
    /// As of [`call`](Self::call).
    #[cfg(target_os = "linux")]
    unsafe fn call_of_system(&self, call: &FileCall, is_number: bool) -> Result<u64, Errno> {
        let a = call.args;
        // SAFETY: the caller's promise.
        unsafe {
            match call.number {
                #[cfg(target_arch = "x86_64")]
                libc::SYS_creat => self.open(HERE, a[0], CREAT),
                // Those who use it know that a kernel may not have it.
                libc::SYS_openat2 => Err(Errno::ENOSYS),
                #[cfg(target_arch = "x86_64")]
                libc::SYS_stat => self.stat(HERE, a[0], a[1], 0),
                #[cfg(target_arch = "x86_64")]
                libc::SYS_lstat => self.stat(HERE, a[0], a[1], libc::AT_SYMLINK_NOFOLLOW),
                libc::SYS_statx => self.statx(a[0], a[1], a[2] as i32, a[4]),
                libc::SYS_faccessat2 => self.access(a[0], a[1], a[2] as i32, a[3] as i32),
                libc::SYS_socket
                | libc::SYS_socketpair
                | libc::SYS_connect
                | libc::SYS_bind
                | libc::SYS_listen
                | libc::SYS_accept
                | libc::SYS_accept4
                | libc::SYS_sendto
                | libc::SYS_recvfrom
                | libc::SYS_sendmsg
                | libc::SYS_recvmsg
                | libc::SYS_sendmmsg
                | libc::SYS_recvmmsg
                | libc::SYS_setsockopt
                | libc::SYS_getsockopt => self.socket_call(call),
                #[cfg(target_arch = "x86_64")]
                libc::SYS_epoll_create => self.queue(),
                libc::SYS_epoll_create1 => self.queue(),
                libc::SYS_mmap => map_to_read(a),
                libc::SYS_fcntl if self.scratch.is_none() || !is_number => self.socket_call(call),
                _ => self.call_that_changes(call),
            }
        }
    }

    /// One that FreeBSD alone has, or changes something.
    ///
    /// # Safety
    /// As of [`call`](Self::call).
    #[cfg(target_os = "freebsd")]
    unsafe fn call_of_system(&self, call: &FileCall, is_number: bool) -> Result<u64, Errno> {
        let a = call.args;
        // SAFETY: the caller's promise.
        unsafe {
            match call.number {
                libc::SYS_socket
                | libc::SYS_socketpair
                | libc::SYS_connect
                | libc::SYS_connectat
                | libc::SYS_bind
                | libc::SYS_bindat
                | libc::SYS_listen
                | libc::SYS_accept
                | libc::SYS_accept4
                | libc::SYS_pipe2
                | libc::SYS_sendmsg
                | libc::SYS_recvmsg
                | libc::SYS_setsockopt
                | libc::SYS_getsockopt
                | libc::SYS_kqueue
                | libc::SYS_specialfd
                | libc::SYS_kqueuex => self.socket_call(call),
                libc::SYS_write | libc::SYS_writev | libc::SYS_close if !is_number => {
                    self.socket_call(call)
                }
                libc::SYS_eaccess => self.access(HERE, a[0], a[1] as i32, 0),
                // The C library does it by steps then.
                libc::SYS_realpathat => Err(Errno::ENOSYS),
                // What a file system can do, nobody says; the C library knows what is usual.
                libc::SYS_pathconf | libc::SYS_lpathconf | libc::SYS_fpathconf => {
                    Err(Errno::EINVAL)
                }
                libc::SYS_statfs => Err(Errno::EACCES),
                libc::SYS_fstatfs => self.file_system(a[0] as RawFd, a[1]),
                libc::SYS_posix_fadvise => Ok(0),
                libc::SYS_fchmodat | libc::SYS_fchownat | libc::SYS_utimensat => Err(Errno::EACCES),
                libc::SYS_fsync
                | libc::SYS_fchown
                | libc::SYS_fchmod
                | libc::SYS_flock
                | libc::SYS_pwritev
                | libc::SYS_pwrite64
                | libc::SYS_ftruncate
                | libc::SYS_futimens
                | libc::SYS_fdatasync
                    if !is_number =>
                {
                    Err(Errno::EBADF)
                }
                libc::SYS_posix_fallocate if !is_number => Ok(::libc::EBADF as u64),
                _ => self.call_that_changes(call),
            }
        }
    }

    /// What the system says of the file system that a file is in: nothing but how much is
    /// read at once. The C library wants to know of a folder whether it is a union of
    /// several.
    ///
    /// # Safety
    /// As of [`call`](Self::call).
    #[cfg(target_os = "freebsd")]
    unsafe fn file_system(&self, fd: RawFd, to: u64) -> Result<u64, Errno> {
        /// Of the structure (sys/mount.h).
        const STATFS_VERSION: u32 = 0x2014_0518;
        let is_own = self
            .scratch
            .as_ref()
            .is_some_and(|own| own.borrow().flags(fd).is_ok());
        if !is_own && !is_open(fd) {
            return Err(Errno::EBADF);
        }
        // SAFETY: the caller's promise, and zeros are a value.
        unsafe {
            let mut said: libc::statfs = std::mem::zeroed();
            said.f_version = STATFS_VERSION;
            (said.f_bsize, said.f_iosize) = (4096, 4096);
            for (to, from) in said.f_fstypename.iter_mut().zip(*b"lent") {
                *to = from as libc::c_char;
            }
            (to as *mut libc::statfs).write_unaligned(said);
        }
        Ok(0)
    }

    /// A call that changes what there is, or is on a number of the function's own.
    ///
    /// # Safety
    /// As of [`call`](Self::call).
    unsafe fn call_that_changes(&self, call: &FileCall) -> Result<u64, Errno> {
        // SAFETY: the caller's promise.
        unsafe {
            match call.number {
                _ if self.scratch.is_some() => self.own_call(call),
                _ => self.refuse_change(call),
            }
        }
    }

    /// What a path stands for, from where it begins.
    ///
    /// # Safety
    /// As of [`call`](Self::call).
    unsafe fn named(&self, at: u64, path: u64) -> Result<Named<'_>, Errno> {
        let mut text = Vec::new();
        // SAFETY: the caller's promise.
        while let byte @ 1.. = unsafe { (path as *const u8).add(text.len()).read() } {
            text.push(byte);
            if text.len() == ASKED_MOST {
                return Err(Errno::ENAMETOOLONG);
            }
        }
        if text.is_empty() {
            return Err(Errno::ENOENT);
        }
        let at = at as i32;
        let absolute = text[0] == b'/';
        let folders = self.folders.borrow();
        let Some(own) = &self.scratch else {
            return match absolute || at == libc::AT_FDCWD {
                true => Ok(Named::Other(text)),
                false => joined(folders.get(&at).ok_or(Errno::EBADF)?, &text),
            };
        };
        let is_own = scratch::NUMBERS.contains(&at);
        if is_own && !absolute {
            let way = own.borrow().way(&scratch::From::Number(at), &text)?;
            return Ok(match way {
                Way::Here(name) => Named::Own(own, name),
                Way::Out(path) => Named::Other(path),
            });
        }
        let folder = match at {
            _ if absolute || at == libc::AT_FDCWD => None,
            _ => Some(folders.get(&at).ok_or(Errno::EBADF)?),
        };
        // (As it was asked for: perhaps relative, too.)
        let below = folder.map_or(&[][..], Vec::as_slice);
        let below = match absolute || below.starts_with(b"/") {
            true => below.to_vec(),
            false => [self.base(), b"/", below].concat(),
        };
        // Whoever is asked for something else has a way of its own.
        match (
            own.borrow().way(&scratch::From::Path(&below), &text)?,
            folder,
        ) {
            (Way::Here(name), _) => Ok(Named::Own(own, name)),
            (Way::Out(_), Some(folder)) => joined(folder, &text),
            (Way::Out(_), None) => Ok(Named::Other(text)),
        }
    }

    /// Where relative paths begin.
    fn base(&self) -> &[u8] {
        let base = self.granted.map_or(Path::new("/"), |(base, _)| base);
        base.as_os_str().as_bytes()
    }

    /// What the root says to a path, and where it lends.
    fn ask(&self, path: &[u8], how: How) -> (Answer, Option<BorrowedFd<'_>>) {
        let Some((_, line)) = self.granted else {
            return (Answer::NOT_GRANTED, None);
        };
        self.control.put_asked(path);
        let asked = [word::ASK, how.word(), path.len() as u64];
        (asking::ask(self.root, self.apart, asked), Some(line))
    }

    /// A call that changes what there is, or one on a number of its own.
    ///
    /// # Safety
    /// As of [`call`](Self::call).
    unsafe fn own_call(&self, call: &FileCall) -> Result<u64, Errno> {
        let a = call.args;
        // SAFETY: the caller's promise, each time.
        let named = |at, path| unsafe {
            match self.named(at, path)? {
                Named::Own(own, name) => Ok((own, name)),
                Named::Other(path) => {
                    self.tell(&path, CHANGE, false);
                    Err(Errno::EACCES)
                }
            }
        };
        let renamed = |from: (u64, u64), to: (u64, u64), flags: u64| {
            scratch::check_rename(flags as u32)?;
            let (own, from) = named(from.0, from.1)?;
            let (_, to) = named(to.0, to.1)?;
            own.borrow_mut().rename(&from, &to, flags as u32)
        };
        let made = |at, path| {
            let (own, name) = named(at, path)?;
            own.borrow_mut().make_folder(&name)
        };
        let removed = |at, path, folder| {
            let (own, name) = named(at, path)?;
            own.borrow_mut().remove(&name, folder)
        };
        match call.number {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mkdir => made(HERE, a[0]),
            libc::SYS_mkdirat => made(a[0], a[1]),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink => removed(HERE, a[0], false),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rmdir => removed(HERE, a[0], true),
            libc::SYS_unlinkat => match a[2] as i32 {
                0 => removed(a[0], a[1], false),
                libc::AT_REMOVEDIR => removed(a[0], a[1], true),
                _ => Err(Errno::EINVAL),
            },
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => renamed((HERE, a[0]), (HERE, a[1]), 0),
            libc::SYS_renameat => renamed((a[0], a[1]), (a[2], a[3]), 0),
            #[cfg(target_os = "linux")]
            libc::SYS_renameat2 => renamed((a[0], a[1]), (a[2], a[3]), a[4]),
            // (The file that it is to be is not looked at.)
            #[cfg(target_os = "freebsd")]
            libc::SYS_funlinkat => match a[3] as i32 {
                0 => removed(a[0], a[1], false),
                libc::AT_REMOVEDIR => removed(a[0], a[1], true),
                _ => Err(Errno::EINVAL),
            },
            libc::SYS_truncate => {
                if (a[1] as i64) < 0 {
                    return Err(Errno::EINVAL);
                }
                let (own, name) = named(HERE, a[0])?;
                own.borrow_mut().truncate(&name, a[1])
            }
            // SAFETY: the caller's promise.
            _ => unsafe { self.on_number(call) },
        }
    }

    /// # Safety
    /// As of [`call`](Self::call).
    unsafe fn on_number(&self, call: &FileCall) -> Result<u64, Errno> {
        let own = self.scratch.as_ref().ok_or(Errno::EBADF)?;
        let mut own = own.borrow_mut();
        let (a, fd) = (call.args, call.args[0] as RawFd);
        // SAFETY: the caller's promise, each time: what the arguments point to is there
        // as the call has it.
        unsafe {
            match call.number {
                libc::SYS_read => own.read(fd, a[1], a[2], None),
                libc::SYS_pread64 => own.read(fd, a[1], a[2], Some(a[3])),
                libc::SYS_write => own.write(fd, a[1], a[2], None),
                libc::SYS_pwrite64 => own.write(fd, a[1], a[2], Some(a[3])),
                libc::SYS_readv => own.in_pieces(fd, (a[1], a[2]), None, false),
                libc::SYS_writev => own.in_pieces(fd, (a[1], a[2]), None, true),
                libc::SYS_preadv => own.in_pieces(fd, (a[1], a[2]), Some(a[3]), false),
                libc::SYS_pwritev => own.in_pieces(fd, (a[1], a[2]), Some(a[3]), true),
                // Those who use them know that a kernel may not have them.
                #[cfg(target_os = "linux")]
                libc::SYS_preadv2 | libc::SYS_pwritev2 => Err(Errno::ENOSYS),
                libc::SYS_lseek => own.seek(fd, a[1] as i64, a[2] as i32),
                libc::SYS_fstat => {
                    (a[1] as *mut libc::stat).write_unaligned(own.stat_open(fd)?);
                    Ok(0)
                }
                libc::SYS_ftruncate => own.truncate_open(fd, a[1]),
                #[cfg(target_os = "linux")]
                libc::SYS_fallocate => own.allocate(fd, a[1] as i32, a[2], a[3]),
                #[cfg(target_os = "freebsd")]
                libc::SYS_posix_fallocate => {
                    let done = own.allocate(fd, 0, a[1], a[2]);
                    Ok(done.map_or_else(|e| e.raw() as u64, |_| 0))
                }
                #[cfg(target_os = "linux")]
                libc::SYS_getdents64 => own.entries(fd, a[1], a[2]),
                #[cfg(target_os = "freebsd")]
                libc::SYS_getdirentries => {
                    let at = own.seek(fd, 0, libc::SEEK_CUR)?;
                    let done = own.entries(fd, a[1], a[2])?;
                    if a[3] != 0 {
                        (a[3] as *mut libc::off_t).write_unaligned(at as libc::off_t);
                    }
                    Ok(done)
                }
                #[cfg(target_os = "freebsd")]
                libc::SYS_futimens => own.in_use(fd).map(|()| 0),
                libc::SYS_close => own.close(fd),
                // Nobody else has it, or asks whose it is.
                libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_fchmod | libc::SYS_fchown => {
                    own.in_use(fd).map(|()| 0)
                }
                libc::SYS_flock => own.lock(fd, a[1] as i32),
                libc::SYS_fcntl => control(&mut own, fd, a[1] as i32, a[2]),
                _ => Err(Errno::EBADF),
            }
        }
    }

    /// A call that changes what there is, where nothing is its own.
    ///
    /// # Safety
    /// As of [`call`](Self::call).
    unsafe fn refuse_change(&self, call: &FileCall) -> Result<u64, Errno> {
        let at = [
            libc::SYS_mkdirat,
            libc::SYS_unlinkat,
            libc::SYS_renameat,
            #[cfg(target_os = "linux")]
            libc::SYS_renameat2,
            #[cfg(target_os = "freebsd")]
            libc::SYS_funlinkat,
        ];
        let (at, path) = match at.contains(&call.number) {
            true => (call.args[0], call.args[1]),
            false => (HERE, call.args[0]),
        };
        // SAFETY: the caller's promise.
        if let Named::Other(path) = unsafe { self.named(at, path)? } {
            self.tell(&path, CHANGE, false);
        }
        Err(Errno::EACCES)
    }

    /// How a file is asked for that tells of names, where some are granted; or that it is
    /// not there. `None`: it is a file as others are.
    fn of_names(&self, path: &[u8]) -> Option<Result<How, Errno>> {
        if !self.names {
            return None;
        }
        match path {
            b"/etc/hosts" => Some(Ok(How::of_names(true))),
            b"/etc/nsswitch.conf" => Some(Ok(How::of_names(false))),
            b"/etc/resolv.conf" | b"/etc/host.conf" | b"/etc/gai.conf" => Some(Err(Errno::ENOENT)),
            // By which the C library learns whether its root is another one.
            b"/" => Some(Err(Errno::EACCES)),
            _ => None,
        }
    }

    /// A descriptor of what is granted.
    fn lent(&self, path: &[u8], how: How) -> Result<Received, Errno> {
        let how = self.of_names(path).unwrap_or(Ok(how))?;
        let (answer, line) = loop {
            match self.ask(path, how) {
                // A name is being looked up.
                (Answer::WAIT, _) => std::thread::sleep(Duration::from_millis(1)),
                answered => break answered,
            }
        };
        let folder = answer
            .result()
            .map_err(|_| self.refused(path, answer, how))?;
        let line = line.ok_or(Errno::EACCES)?;
        let fd = Received::by(line)?;
        let mut folders = self.folders.borrow_mut();
        folders.remove(&fd.as_raw_fd());
        if folder && how.opens() {
            folders.insert(fd.as_raw_fd(), path.to_vec());
        }
        Ok(fd)
    }

    /// The errno of an answer that is none. What the chain file does not grant is told.
    fn refused(&self, path: &[u8], answer: Answer, how: How) -> Errno {
        let what = match answer {
            Answer::NOT_GRANTED => "it is not granted",
            Answer::LEADS_OUT => "it leads out of what is granted",
            _ => return answer.result().err().unwrap_or(Errno::EACCES),
        };
        self.tell(path, what, how.is_of_folder());
        // A C library that is to check a format with %n (`harden`) looks there whether
        // it is in memory that cannot be written. EACCES it takes for a system without
        // /proc, and lets the format pass.
        match path.starts_with(b"/proc/") {
            true => Errno::EPERM,
            false => Errno::EACCES,
        }
    }

    /// A line of the log, unless it has been told.
    fn tell(&self, path: &[u8], what: &str, folder: bool) {
        let path_bytes = path;
        let path = String::from_utf8_lossy(path);
        let slash = if folder && !path.ends_with('/') {
            "/"
        } else {
            ""
        };
        // Quoted, or a name could say that more is to be granted than itself.
        let grant = format!("{path}{slash}");
        let line = match is_of_the_system(Path::new(path.as_ref())) {
            // No grant that would be refused.
            true => format!(
                "{path:?} cannot be opened: what is of the system cannot be granted (getrandom(2) works without)"
            ),
            false => format!("{path:?} cannot be opened: {what}: files = [{grant:?}]"),
        };
        self.tell_once(path_bytes, &line);
    }

    /// A line of the log, unless it has been told.
    pub(super) fn tell_line(&self, line: &str) {
        self.tell_once(line.as_bytes(), line);
    }

    /// The same, if nothing has been told of that.
    fn tell_once(&self, about: &[u8], line: &str) {
        let mark = super::probe::fingerprint(about) | 1;
        let mut told = self.told.get();
        if told.contains(&mark) {
            return;
        }
        told.rotate_right(1);
        told[0] = mark;
        self.told.set(told);
        self.control.put_log(2, line.as_bytes());
    }

    /// # Safety
    /// As of [`call`](Self::call).
    unsafe fn open(&self, at: u64, path: u64, flags: u64) -> Result<u64, Errno> {
        let flags = flags as i32;
        if self.scratch.is_some() {
            scratch::check_flags(flags)?;
        }
        // SAFETY: the caller's promise.
        let path = match unsafe { self.named(at, path)? } {
            Named::Own(own, name) => return own.borrow_mut().open(&name, flags),
            Named::Other(path) => path,
        };
        let folder = flags & libc::O_DIRECTORY != 0;
        let follow = flags & libc::O_NOFOLLOW == 0;
        let changes = libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
        if flags & libc::IS_NOT_READ != 0 {
            return self.keep(self.lent(&path, How::new(false, follow, folder))?);
        }
        if flags & libc::O_ACCMODE != libc::O_RDONLY || flags & changes != 0 {
            self.tell(&path, CHANGE, folder);
            return Err(Errno::EACCES);
        }
        self.keep(self.lent(&path, How::new(true, follow, folder))?)
    }

    fn keep(&self, fd: Received) -> Result<u64, Errno> {
        Ok(fd.into_raw_fd() as u64)
    }

    /// What a descriptor is of, or a path, and whether it is its own.
    ///
    /// # Safety
    /// As of [`call`](Self::call).
    unsafe fn look(&self, at: u64, path: u64, flags: i32) -> Result<(libc::stat, bool), Errno> {
        // SAFETY: of the struct, zeros are a value; each call fills it. The caller's
        // promise for the path.
        unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            let of = |fd: RawFd, stat: &mut libc::stat| {
                // Not the C library's, which may name a path.
                match libc::syscall(libc::SYS_fstat as _, fd, std::ptr::from_mut(stat)) {
                    0 => Ok(()),
                    _ => Err(Errno::last()),
                }
            };
            let empty = path == 0 || (path as *const u8).read() == 0;
            if empty && flags & libc::AT_EMPTY_PATH != 0 && at as i32 != libc::AT_FDCWD {
                if let Some(own) = &self.scratch
                    && scratch::NUMBERS.contains(&(at as i32))
                {
                    return Ok((own.borrow().stat_open(at as i32)?, true));
                }
                of(at as i32, &mut stat)?;
                return Ok((stat, false));
            }
            if path == 0 {
                return Err(Errno::EFAULT);
            }
            let path = match self.named(at, path)? {
                Named::Own(own, name) => return Ok((own.borrow().stat(&name)?, true)),
                Named::Other(path) => path,
            };
            let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
            #[cfg(target_os = "freebsd")]
            if !follow && self.only_leads_to_granted(&path) {
                stat.st_mode = libc::S_IFDIR | 0o111;
                return Ok((stat, false));
            }
            let fd = self.lent(&path, How::new(false, follow, false))?;
            of(fd.as_raw_fd(), &mut stat)?;
            Ok((stat, false))
        }
    }

    /// Whether it is a folder on the way to what is granted, by names: that it is one is
    /// all that is told of it. So realpath(3) comes there.
    #[cfg(target_os = "freebsd")]
    fn only_leads_to_granted(&self, path: &[u8]) -> bool {
        let says = |how| self.ask(path, how).0;
        says(How::link()).result() == Err(Errno::EINVAL)
            && match says(How::new(false, false, false)) {
                Answer::NOT_GRANTED => true,
                answer => {
                    // It is there, and comes again by who wants it.
                    if answer.result().is_ok() {
                        drop(self.granted.map(|(_, line)| Received::by(line)));
                    }
                    false
                }
            }
    }

    /// # Safety
    /// As of [`call`](Self::call).
    unsafe fn stat(&self, at: u64, path: u64, to: u64, flags: i32) -> Result<u64, Errno> {
        // SAFETY: the caller's promise.
        unsafe {
            let (stat, _) = self.look(at, path, flags)?;
            (to as *mut libc::stat).write_unaligned(stat);
        }
        Ok(0)
    }

    /// # Safety
    /// As of [`call`](Self::call).
    #[cfg(target_os = "linux")]
    unsafe fn statx(&self, at: u64, path: u64, flags: i32, to: u64) -> Result<u64, Errno> {
        // SAFETY: the caller's promise; integers, which may be zero.
        unsafe {
            let (stat, _) = self.look(at, path, flags)?;
            let mut all: libc::statx = std::mem::zeroed();
            all.stx_mask = libc::STATX_BASIC_STATS;
            all.stx_blksize = stat.st_blksize as u32;
            all.stx_nlink = stat.st_nlink as u32;
            (all.stx_uid, all.stx_gid) = (stat.st_uid, stat.st_gid);
            all.stx_mode = stat.st_mode as u16;
            all.stx_ino = stat.st_ino;
            all.stx_size = stat.st_size as u64;
            all.stx_blocks = stat.st_blocks as u64;
            let time = |to: &mut libc::statx_timestamp, seconds: i64, nanos: i64| {
                (to.tv_sec, to.tv_nsec) = (seconds, nanos as u32);
            };
            time(&mut all.stx_atime, stat.st_atime, stat.st_atime_nsec);
            time(&mut all.stx_mtime, stat.st_mtime, stat.st_mtime_nsec);
            time(&mut all.stx_ctime, stat.st_ctime, stat.st_ctime_nsec);
            all.stx_dev_major = libc::major(stat.st_dev);
            all.stx_dev_minor = libc::minor(stat.st_dev);
            all.stx_rdev_major = libc::major(stat.st_rdev);
            all.stx_rdev_minor = libc::minor(stat.st_rdev);
            (to as *mut libc::statx).write_unaligned(all);
        }
        Ok(0)
    }

    /// # Safety
    /// As of [`call`](Self::call).
    unsafe fn access(&self, at: u64, path: u64, mode: i32, flags: i32) -> Result<u64, Errno> {
        if mode & !(libc::R_OK | libc::W_OK | libc::X_OK) != 0 {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the caller's promise.
        let (stat, own) = unsafe { self.look(at, path, flags)? };
        let folder = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if mode & libc::W_OK != 0 && !own || mode & libc::X_OK != 0 && !folder {
            return Err(Errno::EACCES);
        }
        Ok(0)
    }

    /// # Safety
    /// As of [`call`](Self::call).
    unsafe fn readlink(&self, at: u64, path: u64, to: u64, len: usize) -> Result<u64, Errno> {
        if len as i32 <= 0 {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the caller's promise.
        let path = match unsafe { self.named(at, path)? } {
            // There are no links.
            Named::Own(own, name) => return own.borrow().stat(&name).and(Err(Errno::EINVAL)),
            Named::Other(path) => path,
        };
        let (answer, _) = self.ask(&path, How::link());
        answer
            .result()
            .map_err(|_| self.refused(&path, answer, How::link()))?;
        let text = self.control.link();
        let len = text.len().min(len);
        // SAFETY: as above.
        unsafe { (to as *mut u8).copy_from(text.as_ptr(), len) };
        Ok(len as u64)
    }

    /// # Safety
    /// As of [`call`](Self::call).
    unsafe fn current_folder(&self, to: u64, len: usize) -> Result<u64, Errno> {
        let base = match (self.granted, &self.scratch) {
            (Some((base, _)), _) => base.as_os_str().as_bytes(),
            (None, Some(_)) => b"/",
            (None, None) => return Err(Errno::EACCES),
        };
        if len <= base.len() {
            return Err(Errno::ERANGE);
        }
        // SAFETY: the caller's promise.
        unsafe {
            let to = to as *mut u8;
            to.copy_from(base.as_ptr(), base.len());
            to.add(base.len()).write(0);
        }
        // (FreeBSD's gives no length.)
        Ok(match cfg!(target_os = "linux") {
            true => base.len() as u64 + 1,
            false => 0,
        })
    }
}

/// mmap(2) of a file, to read. In a context that has connections the sandbox lets files be
/// mapped to be written alone, which the kernel does for no connection; so it is a copy of
/// its own, which is then made one to read.
///
/// # Safety
/// As of [`call`](Asking::call): what the arguments have taken from the map is nobody's.
#[cfg(target_os = "linux")]
unsafe fn map_to_read(a: [u64; 6]) -> Result<u64, Errno> {
    let (len, wanted) = (a[1] as usize, a[2] as i32);
    let flags = a[3] as i32 & !libc::MAP_TYPE | libc::MAP_PRIVATE;
    let copied = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the caller's promise; what is made here is nobody's else yet.
    unsafe {
        let at = libc::mmap(
            a[0] as *mut libc::c_void,
            len,
            copied,
            flags,
            a[4] as RawFd,
            a[5] as libc::off_t,
        );
        if at == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        if libc::mprotect(at, len, wanted) != 0 {
            let e = Errno::last();
            libc::munmap(at, len);
            return Err(e);
        }
        Ok(at as u64)
    }
}

/// A path from a folder on.
fn joined<'a>(folder: &[u8], path: &[u8]) -> Result<Named<'a>, Errno> {
    let whole = [folder, b"/", path].concat();
    match whole.len() < ASKED_MOST {
        true => Ok(Named::Other(whole)),
        false => Err(Errno::ENAMETOOLONG),
    }
}

/// fcntl(2) of a number of its own.
///
/// # Safety
/// As of [`Asking::call`].
unsafe fn control(own: &mut Scratch, fd: RawFd, command: i32, to: u64) -> Result<u64, Errno> {
    let flags = own.flags(fd)?;
    let bit = |set, bit: i32| if set { bit } else { 0 };
    match command {
        libc::F_GETFD => {
            let closes = flags & libc::O_CLOEXEC != 0;
            return Ok(bit(closes, libc::FD_CLOEXEC) as u64);
        }
        libc::F_SETFD => {
            let closes = to as i32 & libc::FD_CLOEXEC != 0;
            return own.set_flags(fd, libc::O_CLOEXEC, bit(closes, libc::O_CLOEXEC));
        }
        libc::F_GETFL => return Ok((flags & !libc::O_CLOEXEC) as u64),
        _ => own.in_use(fd)?,
    }
    match command {
        libc::F_SETFL => own.set_flags(fd, libc::CHANGED, to as i32),
        // Nobody else is there to lock anything.
        command if libc::SETS_LOCK.contains(&command) => {
            // SAFETY: the caller's promise: it is of a struct of the call.
            let kind = unsafe { (&raw const (*(to as *const libc::flock)).l_type).read() };
            own.lock_part(fd, kind.into())
        }
        command if libc::ASKS_FOR_LOCK.contains(&command) => {
            // SAFETY: as above.
            unsafe { (&raw mut (*(to as *mut libc::flock)).l_type).write(libc::UNLOCK as i16) };
            Ok(0)
        }
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// An invocation begins: without files of the ones before, where these were not undone.
#[inline]
pub(super) fn begin() {
    if ANSWERING.get() {
        // A handler of a signal has left it by longjmp(3).
        ANSWERING.set(false);
    }
    // SAFETY: as in `answer`.
    let asking = unsafe { ASKING.load(Ordering::Relaxed).as_ref() };
    if let Some(own) = asking.and_then(|a| a.scratch.as_ref()) {
        own.borrow_mut().forget();
    }
}

/// For an audit: READ and WRITE, of a file of its own.
pub(crate) fn attempt_scratch() -> u64 {
    use super::probe::{READ, WRITE};
    let path = c"/tmp/lwc-audit";
    let mut byte = 0u8;
    // SAFETY: the path ends in a NUL; bytes of locals. (Not by OwnedFd: the number is no
    // descriptor.)
    unsafe {
        let fd = libc::open(
            path.as_ptr(),
            libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC,
            0o600,
        );
        if fd < 0 {
            return 0;
        }
        let wrote = libc::write(fd, b"x".as_ptr().cast(), 1) == 1;
        let read = libc::pread(fd, (&raw mut byte).cast(), 1, 0) == 1;
        libc::close(fd);
        libc::unlink(path.as_ptr());
        let bit = |did, bit| if did { bit } else { 0 };
        bit(wrote, WRITE) | bit(read, READ)
    }
}

/// For an audit: READ or WRITE, of a path as code of the function's would try it, and
/// by asking the root past its host.
pub(crate) fn attempt(path: &std::ffi::CStr) -> u64 {
    use super::probe::{READ, WRITE};
    let tried = |flags: i32| {
        // SAFETY: the path ends in a NUL; what is made is closed.
        unsafe {
            let fd = libc::open(path.as_ptr(), flags | libc::O_CLOEXEC);
            if fd >= 0 {
                drop(OwnedFd::from_raw_fd(fd));
            }
            fd >= 0
        }
    };
    let mut reached = u64::from(tried(libc::O_RDONLY)) * READ;
    if [libc::O_RDWR, libc::O_WRONLY | libc::O_CREAT]
        .into_iter()
        .any(tried)
    {
        reached |= WRITE;
    }
    // SAFETY: as in `answer`.
    if let Some(asking) = unsafe { ASKING.load(Ordering::Relaxed).as_ref() } {
        asking.control.put_asked(path.to_bytes());
        let len = path.to_bytes().len() as u64;
        let how = How::new(true, true, false).word();
        let asked = [word::ASK, how, len];
        if asking::ask(asking.root, asking.apart, asked)
            .result()
            .is_ok()
        {
            reached |= READ;
            let line = asking.granted.map(|(_, line)| line);
            drop(line.and_then(|line| Received::by(line).ok()));
        }
    }
    reached
}

pub(crate) use super::connect::{attempt as attempt_connection, attempt_others};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_interrupted_by_no_other() {
        // As in a handler.
        let mut blocked = SigSet::empty();
        blocked.add(nix::sys::signal::SIGSEGV);
        let handler = || {
            blocked.thread_block().unwrap();
            let done = uninterrupted(|| Ok(1));
            blocked.thread_unblock().unwrap();
            done
        };
        assert_eq!(uninterrupted(handler), Err(Errno::EBUSY));
        assert_eq!(uninterrupted(|| Ok(2)), Ok(2));
        // One that was left.
        ANSWERING.set(true);
        assert_eq!(uninterrupted(|| Ok(3)), Ok(3));
        assert_eq!(handler(), Ok(1));
    }
}
