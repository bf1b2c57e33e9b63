//! Files of a context in a sandbox: its filter traps calls that name one
//! ([`confine`](super::confine)), and the handler of faults, which has SIGSYS, passes
//! them on; and how a descriptor comes to it.

use super::answered::is_answered;
use super::faults;
use crate::backend::files::{self, Answer, NO_LINE, catch};
use crate::backend::process::state::mode;
use crate::backend::process::wire::fds;
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// See [`catch_files`](crate::catch_files).
pub(crate) fn catch_files(
    line: Option<RawFd>,
    numbers: Range<RawFd>,
    answer: Answer,
) -> Result<()> {
    if mode::is_trapped() {
        return Err(Error::new(
            "catch_files",
            Errno::ENOTSUP,
            "all system calls of this context go to its creator",
        ));
    }
    catch(line, numbers, answer);
    faults::handle_calls()
}

/// See [`answer`](crate::answer).
pub(crate) fn answer(
    number: i64,
    args: [u64; 6],
) -> Option<std::result::Result<u64, crate::errno::Errno>> {
    if !mode::is_strict() || !is_answered(number, &args) {
        return None;
    }
    files::answer(number, args)
}

/// See [`catch_connections`](crate::catch_connections).
pub(crate) fn catch_connections() -> Result<()> {
    if files::line().is_none() {
        return Err(Error::new("catch_connections", Errno::EINVAL, NO_LINE));
    }
    files::catch_connections();
    Ok(())
}

/// See [`lent_descriptors`](crate::lent_descriptors).
pub(crate) fn lent_descriptors() -> Range<RawFd> {
    fds::lent()
}

/// See [`send_descriptor`](crate::send_descriptor).
pub(crate) fn send_descriptor(line: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<()> {
    const CALL: &str = "send_descriptor";
    // What is under way counts for all processes of the user.
    let mut unread: libc::c_int = 0;
    // SAFETY: the request writes an int.
    let asked = unsafe { libc::ioctl(line.as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
    if asked != 0 {
        return Err(Error::last(CALL, "whether the one before was received"));
    }
    if unread != 0 {
        return Err(Error::new(
            CALL,
            Errno::EBUSY,
            "the descriptor that was sent before has not been received",
        ));
    }
    fds::send_raw(line, &[fd.as_raw_fd()]).map_err(|e| Error::new(CALL, e, "a descriptor"))
}

/// See [`receive_descriptor`](crate::receive_descriptor).
pub(crate) fn receive_descriptor(line: BorrowedFd<'_>) -> Result<OwnedFd> {
    const CALL: &str = "receive_descriptor";
    let received = fds::receive_low::<1>(line, true);
    let full = || {
        Error::new(
            CALL,
            Errno::EMFILE,
            "as many descriptors are open as a context may have",
        )
    };
    match received {
        Ok([fd]) if fds::lent().contains(&fd.as_raw_fd()) => Ok(fd),
        // A message without one: there is no number for it, by the sandbox's limit.
        Ok(_) | Err(Errno::EPROTO) => Err(full()),
        Err(e) => Err(Error::new(CALL, e, "a descriptor")),
    }
}
