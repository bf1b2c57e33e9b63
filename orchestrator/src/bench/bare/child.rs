//! Forked helpers, and the page they share with their parent.

use std::convert::Infallible;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

/// A forked process that ends with its owner, or with the value.
#[derive(Debug)]
pub struct Child(libc::pid_t);

impl Child {
    /// Forks a process that runs `body`, which never returns, and dies with
    /// this one.
    ///
    /// # Errors
    /// What fork(2) says.
    pub fn fork(body: impl FnOnce() -> Infallible) -> io::Result<Self> {
        // SAFETY: getpid has no preconditions; the child runs `body` alone and
        // nothing of the frames below, for `body` does not return and a panic
        // in it aborts.
        unsafe {
            let parent = libc::getpid();
            match libc::fork() {
                -1 => Err(io::Error::last_os_error()),
                0 => {
                    let _abort = AbortOnUnwind;
                    die_with_the_parent();
                    if libc::getppid() != parent {
                        libc::_exit(0);
                    }
                    #[allow(unreachable_code)] // nothing is after `body`
                    match body() {}
                }
                pid => Ok(Self(pid)),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: our own child, which nobody else waits for.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// The current process is killed when its parent ends.
fn die_with_the_parent() {
    #[cfg(target_os = "freebsd")]
    let mut signal = libc::SIGKILL;
    // SAFETY: plain numbers, and on FreeBSD a signal number that is read.
    unsafe {
        #[cfg(target_os = "linux")]
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        #[cfg(target_os = "freebsd")]
        libc::procctl(
            libc::P_PID,
            0,
            libc::PROC_PDEATHSIG_CTL,
            (&raw mut signal).cast(),
        );
    }
}

/// A page of zeroes that stays one memory across fork(2).
#[derive(Debug)]
pub struct SharedPage(NonNull<u8>);

impl SharedPage {
    /// Bytes in it.
    pub const LEN: usize = 4096;

    /// Maps one.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the system picks.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(at.cast())
            .map(Self)
            .ok_or_else(|| io::Error::other("a page at address zero"))
    }

    /// The word on the `n`-th cache line of 64 bytes.
    ///
    /// # Panics
    /// When the page has no such line.
    pub fn word(&self, n: usize) -> &AtomicU32 {
        assert!((n + 1) * 64 <= Self::LEN);
        // SAFETY: inside the mapping (asserted), aligned, and any bytes are a
        // value of an atomic.
        unsafe { &*self.0.as_ptr().add(n * 64).cast::<AtomicU32>() }
    }

    /// The address of byte `at`.
    ///
    /// # Panics
    /// When it is not in the page.
    pub fn byte(&self, at: usize) -> *mut u8 {
        assert!(at < Self::LEN);
        // SAFETY: inside the mapping (asserted).
        unsafe { self.0.as_ptr().add(at) }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: our own mapping; references to it do not outlive `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), Self::LEN) };
    }
}
