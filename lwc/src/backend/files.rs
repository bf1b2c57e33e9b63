//! Calls that name a file, which a handler of SIGSYS takes instead of the kernel.

use crate::errno::Errno;
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

/// A system call that names a file, or is about connections, which the sandbox of the
/// current context has not made: its number, and its arguments as the code there gave
/// them. Both mean what they mean to the kernel; an address may point to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileCall {
    /// As in `libc::SYS_openat`.
    pub number: i64,
    /// What the registers hold, also beyond what the call takes.
    pub args: [u64; 6],
}

/// What the call returns, or an errno.
pub(crate) type Answer = fn(&FileCall) -> std::result::Result<u64, Errno>;

/// An [`Answer`], or null.
static ANSWER: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Numbers that stand for no descriptor, first and behind the last.
static NUMBERS: [AtomicI32; 2] = [AtomicI32::new(0), AtomicI32::new(0)];

/// The socket by which descriptors come, or -1.
static LINE: AtomicI32 = AtomicI32::new(-1);

/// Why there are no connections.
pub(crate) const NO_LINE: &str =
    "there is no line by which connections come: catch_files with one comes first";

/// Whether it has sockets.
static CONNECTIONS: AtomicBool = AtomicBool::new(false);

/// From now on the context has sockets, and whoever answers connects them.
pub(crate) fn catch_connections() {
    CONNECTIONS.store(true, Ordering::Relaxed);
}

/// Whether it has.
pub(crate) fn connections() -> bool {
    CONNECTIONS.load(Ordering::Relaxed)
}

pub(crate) fn catch(line: Option<RawFd>, numbers: Range<RawFd>, answer: Answer) {
    NUMBERS[0].store(numbers.start, Ordering::Relaxed);
    NUMBERS[1].store(numbers.end, Ordering::Relaxed);
    LINE.store(line.unwrap_or(-1), Ordering::Relaxed);
    ANSWER.store(answer as *mut (), Ordering::Relaxed);
}

/// Whether somebody answers.
pub(crate) fn are_caught() -> bool {
    !ANSWER.load(Ordering::Relaxed).is_null()
}

/// Where descriptors come, if any do.
pub(crate) fn line() -> Option<RawFd> {
    let line = LINE.load(Ordering::Relaxed);
    (line >= 0).then_some(line)
}

/// Numbers of whose calls somebody answers.
pub(crate) fn numbers() -> Range<RawFd> {
    NUMBERS[0].load(Ordering::Relaxed)..NUMBERS[1].load(Ordering::Relaxed)
}

/// The answer to a call. `None` if nobody answers.
pub(crate) fn answer(number: i64, args: [u64; 6]) -> Option<std::result::Result<u64, Errno>> {
    let answer = ANSWER.load(Ordering::Relaxed);
    if answer.is_null() {
        return None;
    }
    // SAFETY: not null, so `catch` has put an `Answer` there.
    let answer: Answer = unsafe { std::mem::transmute(answer) };
    Some(answer(&FileCall { number, args }))
}
