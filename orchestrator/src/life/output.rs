//! What a function writes to its standard output and error: lines of its log.
//!
//! In the sandbox neither is a descriptor. write(2) and writev(2) of 1 and 2 come here,
//! in the function's own context ([`lwc::catch_output`]), and go to its control page,
//! as [`lwc_function`'s log](lwc_function::abi::HostCalls::log) does: what it has said
//! is with the root before it crashes, nobody waits, and nobody else can see how much
//! there is. What libraries hold back is asked for before the answer ([`flush`]); what
//! a rollback finds held back goes with it. Before the sandbox both are a file of the
//! root's ([`Before`]), for that one initialiser.

use super::control::{Control, Stream};
use super::open_files;
use super::turns;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicPtr, Ordering};

/// The control page of the current context, which lives as long as it.
static CONTROL: AtomicPtr<Control> = AtomicPtr::new(std::ptr::null_mut());

/// So much of what is written before the sandbox is told.
const MOST: u64 = 64 * 1024;

/// From now on what the current context writes goes to its control page, once it is in
/// its sandbox.
///
/// # Errors
/// What the backend says.
pub(super) fn catch(control: &Control) -> lwc::Result<()> {
    CONTROL.store(std::ptr::from_ref(control).cast_mut(), Ordering::Relaxed);
    lwc::catch_output(|fd, bytes| {
        // SAFETY: `catch` has put a reference there that outlives the context; all
        // that is done with it is to copy bytes.
        if let Some(control) = unsafe { CONTROL.load(Ordering::Relaxed).as_ref() } {
            let _turn = turns::LOG.take();
            control.put_output(if fd == 1 { Stream::Out } else { Stream::Error }, bytes);
        }
    })
}

unsafe extern "C" {
    #[cfg_attr(target_os = "freebsd", link_name = "__stdoutp")]
    static mut stdout: *mut libc::FILE;
    /// Bytes that a stream holds back (stdio_ext.h).
    #[cfg(target_os = "linux")]
    fn __fpending(stream: *mut libc::FILE) -> usize;
}

/// Has the C library hold back no line that is whole.
pub(crate) fn by_lines() {
    // SAFETY: the stream is the C library's and nobody has used it so far, which has
    // one thread.
    unsafe { libc::setvbuf(stdout, std::ptr::null_mut(), libc::_IOLBF, 0) };
}

/// What libstdc++ holds back itself once `sync_with_stdio(false)` was called. (libc++
/// writes by way of the C library.)
#[derive(Clone, Copy)]
pub(super) struct Streams {
    /// `std::ios_base::sync_with_stdio`, which changes nothing if it is told true, and
    /// says what was.
    synced: unsafe extern "C" fn(bool) -> bool,
    /// `std::ostream::flush`, which gives the stream back.
    flush: unsafe extern "C" fn(*mut libc::c_void) -> *mut libc::c_void,
    /// `std::cout` and `std::clog`.
    held: [*mut libc::c_void; 2],
}

impl Streams {
    /// Those of a function's library, if it uses it.
    pub(super) fn of(library: &libloading::os::unix::Library) -> Option<Self> {
        // SAFETY: names of libstdc++, whose binary interface has them so.
        unsafe {
            let synced = library.get(b"_ZNSt8ios_base15sync_with_stdioEb").ok()?;
            let flush = library.get(b"_ZNSo5flushEv").ok()?;
            let out = library.get::<*mut libc::c_void>(b"_ZSt4cout").ok()?;
            let log = library.get::<*mut libc::c_void>(b"_ZSt4clog").ok()?;
            Some(Self {
                synced: *synced,
                flush: *flush,
                held: [*out, *log],
            })
        }
    }

    fn flush(self) {
        // SAFETY: as above; the library is never unloaded.
        unsafe {
            if !(self.synced)(true) {
                for stream in self.held {
                    (self.flush)(stream);
                }
            }
        }
    }
}

/// What C and C++ libraries hold back of standard output becomes part of the log, now.
#[inline]
pub(super) fn flush(streams: Option<Streams>) {
    // What a rollback undoes is not touched where there is nothing to do.
    // SAFETY: the stream is the C library's, in a program of one thread; a function
    // that has destroyed it harms itself.
    unsafe {
        #[cfg(target_os = "linux")]
        let pending = !stdout.is_null() && __fpending(stdout) > 0;
        #[cfg(not(target_os = "linux"))]
        let pending = !stdout.is_null();
        if pending {
            libc::fflush(stdout);
        }
    }
    if let Some(streams) = streams {
        streams.flush();
    }
}

/// Standard output and error of a context before its sandbox: a file in memory.
#[derive(Debug)]
pub(crate) struct Before(File);

impl Before {
    /// In the root.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the name ends in a NUL; what is made is ours alone.
        let made = unsafe {
            let fd = libc::memfd_create(c"lwc-output".as_ptr(), libc::MFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        // Not a number that is itself one of the two.
        // SAFETY: makes a descriptor, which is ours alone.
        let fd = unsafe { libc::fcntl(made.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// By which the context is to have it.
    pub(super) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// In the context, which has the file and nothing else: both are this file, and
    /// nothing else is. Not where the backend has a descriptor of its own there.
    pub(super) fn begin(&self) -> InUse {
        let fd = self.0.as_raw_fd();
        let mut made = Vec::new();
        for to in [1, 2] {
            // SAFETY: asks about a number, and makes a descriptor of a number that is
            // nobody's.
            unsafe {
                if libc::fcntl(to, libc::F_GETFD) < 0 && libc::dup2(fd, to) == to {
                    made.push(to);
                }
            }
        }
        let file = open_files::identity(fd);
        // SAFETY: this context's own, which nothing uses from here on.
        unsafe { libc::close(fd) };
        InUse { made, file }
    }

    /// In the root: the lines that were written, and how many bytes are left out.
    pub(super) fn lines(mut self) -> (Vec<String>, u64) {
        let mut bytes = Vec::new();
        let all = self.0.metadata().map_or(0, |m| m.len());
        let read = self.0.rewind().and_then(|()| {
            let mut some = (&mut self.0).take(MOST);
            some.read_to_end(&mut bytes)
        });
        let read = read.unwrap_or(0) as u64;
        let mut lines: Vec<String> = bytes
            .split(|&b| b == b'\n')
            .map(crate::printable::printable)
            .collect();
        if lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        (lines, all.saturating_sub(read))
    }
}

/// Descriptors of that file in a context.
pub(super) struct InUse {
    /// Their numbers.
    pub(super) made: Vec<RawFd>,
    file: open_files::Identity,
}

impl InUse {
    /// They are nothing any more. Not one that the function has put a file of its own
    /// at.
    pub(super) fn end(self) {
        for fd in self.made {
            if self.file.is_some() && open_files::identity(fd) == self.file {
                // SAFETY: a descriptor that `begin` has made.
                unsafe { libc::close(fd) };
            }
        }
    }
}
