//! Handing over to another process and back.

use super::child::{Child, SharedPage};
use super::cpu::pin;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};

/// Somebody who answers every hand-over at once.
pub trait RoundTrip {
    /// Hands over and waits for the answer.
    fn round_trip(&mut self);
}

/// A futex (on FreeBSD: umtx) each way: one wake and one wait.
#[derive(Debug)]
pub struct Futex {
    page: SharedPage,
    _child: Child,
    count: u32,
}

impl Futex {
    /// A partner on processor `there`.
    ///
    /// # Errors
    /// What mmap(2) and fork(2) say.
    pub fn new(there: usize) -> io::Result<Self> {
        let page = SharedPage::new()?;
        let child = Child::fork(|| {
            pin(there);
            let mut seen = 0;
            loop {
                wait(page.word(0), seen, Scope::Processes);
                seen = seen.wrapping_add(1);
                wake(page.word(1), seen, Scope::Processes);
            }
        })?;
        Ok(Self {
            page,
            _child: child,
            count: 0,
        })
    }
}

impl RoundTrip for Futex {
    fn round_trip(&mut self) {
        let before = self.count;
        self.count = self.count.wrapping_add(1);
        wake(self.page.word(0), self.count, Scope::Processes);
        wait(self.page.word(1), before, Scope::Processes);
    }
}

/// What kind of waiters a word has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope {
    Processes,
    Threads,
}

/// Stores a value and wakes its waiter.
pub(crate) fn wake(word: &AtomicU32, value: u32, scope: Scope) {
    word.store(value, Ordering::Release);
    // SAFETY: a wake reads and writes no memory.
    unsafe {
        #[cfg(target_os = "linux")]
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | private(scope),
            1,
        );
        #[cfg(target_os = "freebsd")]
        libc::_umtx_op(
            word.as_ptr().cast(),
            match scope {
                Scope::Processes => libc::UMTX_OP_WAKE,
                Scope::Threads => libc::UMTX_OP_WAKE_PRIVATE,
            },
            1,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        );
    }
}

/// Waits until the word is no longer `seen`.
pub(crate) fn wait(word: &AtomicU32, seen: u32, scope: Scope) {
    while word.load(Ordering::Acquire) == seen {
        // SAFETY: a wait reads the word.
        unsafe {
            #[cfg(target_os = "linux")]
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT | private(scope),
                seen,
                std::ptr::null::<libc::timespec>(),
            );
            #[cfg(target_os = "freebsd")]
            libc::_umtx_op(
                word.as_ptr().cast(),
                match scope {
                    Scope::Processes => libc::UMTX_OP_WAIT_UINT,
                    Scope::Threads => libc::UMTX_OP_WAIT_UINT_PRIVATE,
                },
                seen.into(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            );
        }
    }
}

#[cfg(target_os = "linux")]
fn private(scope: Scope) -> i32 {
    match scope {
        Scope::Processes => 0,
        Scope::Threads => libc::FUTEX_PRIVATE_FLAG,
    }
}

/// A byte through a pipe each way.
#[derive(Debug)]
pub struct Pipe {
    to: File,
    from: File,
    _child: Child,
}

impl Pipe {
    /// A partner on processor `there`.
    ///
    /// # Errors
    /// What pipe(2) and fork(2) say.
    pub fn new(there: usize) -> io::Result<Self> {
        let (theirs, to) = pipe()?;
        let (from, back) = pipe()?;
        let child = Child::fork(|| {
            pin(there);
            echo(theirs, back)
        })?;
        Ok(Self {
            to,
            from,
            _child: child,
        })
    }
}

impl RoundTrip for Pipe {
    fn round_trip(&mut self) {
        byte_each_way(&mut self.to, &mut self.from);
    }
}

/// A byte through a Unix stream socket each way.
#[derive(Debug)]
pub struct Socket {
    here: UnixStream,
    _child: Child,
}

impl Socket {
    /// A partner on processor `there`.
    ///
    /// # Errors
    /// What socketpair(2) and fork(2) say.
    pub fn new(there: usize) -> io::Result<Self> {
        let (here, theirs) = UnixStream::pair()?;
        let child = Child::fork(|| {
            pin(there);
            echo(&theirs, &theirs)
        })?;
        Ok(Self {
            here,
            _child: child,
        })
    }
}

impl RoundTrip for Socket {
    fn round_trip(&mut self) {
        byte_each_way(&mut &self.here, &mut &self.here);
    }
}

/// Two POSIX semaphores shared by two processes.
#[derive(Debug)]
pub struct Semaphore {
    page: SharedPage,
    _child: Child,
}

/// Where the second of two semaphores is.
const SECOND: usize = 256;

impl Semaphore {
    /// A partner on processor `there`.
    ///
    /// # Errors
    /// What mmap(2), sem_init(3) and fork(2) say.
    pub fn new(there: usize) -> io::Result<Self> {
        let page = SharedPage::new()?;
        for at in [0, SECOND] {
            // SAFETY: a place on the page with room for a semaphore. Where the
            // system has none the call may end in SIGSYS; ignored, it fails.
            let made = unsafe {
                let before = libc::signal(libc::SIGSYS, libc::SIG_IGN);
                let made = libc::sem_init(page.byte(at).cast(), 1, 0);
                let error = io::Error::last_os_error();
                libc::signal(libc::SIGSYS, before);
                if made == 0 { Ok(()) } else { Err(error) }
            };
            made?;
        }
        let child = Child::fork(|| {
            pin(there);
            loop {
                take(&page, 0);
                give(&page, SECOND);
            }
        })?;
        Ok(Self {
            page,
            _child: child,
        })
    }
}

impl RoundTrip for Semaphore {
    fn round_trip(&mut self) {
        give(&self.page, 0);
        take(&self.page, SECOND);
    }
}

fn give(page: &SharedPage, at: usize) {
    // SAFETY: a semaphore made by sem_init(3).
    unsafe { libc::sem_post(page.byte(at).cast()) };
}

fn take(page: &SharedPage, at: usize) {
    // SAFETY: as in `give`. A signal makes it fail: again.
    while unsafe { libc::sem_wait(page.byte(at).cast()) } != 0 {}
}

/// Read end and write end.
pub(crate) fn pipe() -> io::Result<(File, File)> {
    let (from, to): (OwnedFd, OwnedFd) = nix::unistd::pipe()?;
    Ok((from.into(), to.into()))
}

fn byte_each_way(to: &mut impl Write, from: &mut impl Read) {
    let mut byte = [0];
    to.write_all(&byte).expect("the partner reads");
    from.read_exact(&mut byte).expect("the partner answers");
}

/// Sends every byte back, until the other end closes.
fn echo(mut from: impl Read, mut to: impl Write) -> std::convert::Infallible {
    let mut byte = [0];
    loop {
        if from.read_exact(&mut byte).is_err() || to.write_all(&byte).is_err() {
            std::process::exit(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Remote, Thread, UserContext, cpu};
    use super::*;

    #[test]
    fn every_partner_answers_each_time() {
        let there = cpu::processors()[0];
        let mut all: Vec<Box<dyn RoundTrip>> = vec![
            Box::new(Futex::new(there).unwrap()),
            Box::new(Pipe::new(there).unwrap()),
            Box::new(Socket::new(there).unwrap()),
            Box::new(Semaphore::new(there).unwrap()),
            Box::new(Thread::new(there)),
            Box::new(UserContext::new()),
        ];
        for partner in &mut all {
            for _ in 0..100 {
                partner.round_trip();
            }
        }
    }

    #[test]
    fn another_process_counts_and_times() {
        let page = SharedPage::new().unwrap();
        let mut remote = Remote::new(|| {
            let word = page.word(0);
            move || {
                word.fetch_add(1, Ordering::Relaxed);
            }
        })
        .unwrap();
        let took = remote.time(1000).unwrap();
        assert_eq!(page.word(0).load(Ordering::Relaxed), 1000);
        assert!(!took.is_zero());
    }
}
