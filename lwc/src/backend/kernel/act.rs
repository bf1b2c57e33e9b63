//! The kernel backend's lwSyscall, and what it gives by it: reading and
//! writing another context's memory.
//!
//! There is no call that copies memory between contexts. A pipe of the
//! caller's does it: the target's memory is written into it, or read from it,
//! by lwSyscall with that one resource mixed in.

use super::names::number;
use crate::error::{Error, Result};
use lwc_sys::{LWC_CALL_NARGS, LWC_MEMORY};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Bytes that a pipe has room for, however little memory there is.
const CHUNK: usize = 4096;

/// From sys/syscall.h, which keeps its numbers for ever.
const SYS_READ: i64 = 3;
const SYS_WRITE: i64 = 4;

/// lwSyscall.
pub(crate) fn lw_syscall(
    target: RawFd,
    mask: u32,
    call: i64,
    args: &[u64; LWC_CALL_NARGS as usize],
) -> Result<u64> {
    const CALL: &str = "lwSyscall";
    let wrong = |what: String| Error::new(CALL, Errno::EINVAL, what);
    let call = i32::try_from(call).map_err(|_| wrong(format!("{call} is no system call")))?;
    let to = number(CALL, Some(target))?;
    Errno::clear();
    // SAFETY: the arguments outlive the call; what it does is the promise of
    // `Handle::syscall`'s caller.
    let value = unsafe { lwc_sys::lwSyscall(to, mask as i32, call, args.as_ptr()) };
    // -1 is a value of a few calls, too.
    if value == -1 && Errno::last_raw() != 0 {
        return Err(Error::last(
            CALL,
            format!("call {call} with mask {mask:#x} of descriptor {target}"),
        ));
    }
    Ok(value as u64)
}

/// One call that moves bytes between a pipe and the target's memory.
fn moved(target: RawFd, call: i64, pipe: &OwnedFd, at: u64, len: usize) -> Result<usize> {
    let mut args = [0; LWC_CALL_NARGS as usize];
    args[..3].copy_from_slice(&[pipe.as_raw_fd() as u64, at, len as u64]);
    lw_syscall(target, LWC_MEMORY, call, &args).map(|n| n as usize)
}

fn pipe(call: &'static str) -> Result<(OwnedFd, OwnedFd)> {
    use nix::fcntl::OFlag;
    nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .map_err(|e| Error::new(call, e, "a pipe to move bytes through"))
}

fn short(call: &'static str) -> Error {
    Error::new(call, Errno::EIO, "the pipe kept bytes back")
}

/// Reads memory of another context.
pub(crate) fn read_memory(of: RawFd, at: u64, into: &mut [u8]) -> Result<()> {
    const CALL: &str = "read_memory";
    let (reader, writer) = pipe(CALL)?;
    let mut at = at;
    for part in into.chunks_mut(CHUNK) {
        let mut left = part;
        while !left.is_empty() {
            let n = moved(of, SYS_WRITE, &writer, at, left.len()).map_err(|e| e.of(CALL))?;
            let (now, later) = left
                .split_at_mut_checked(n)
                .filter(|_| n > 0)
                .ok_or_else(|| short(CALL))?;
            let got = nix::unistd::read(&reader, now)
                .map_err(|e| Error::new(CALL, e, "reading the pipe"))?;
            if got != n {
                return Err(short(CALL));
            }
            at += n as u64;
            left = later;
        }
    }
    Ok(())
}

/// Writes memory of another context.
pub(crate) fn write_memory(of: RawFd, at: u64, from: &[u8]) -> Result<()> {
    const CALL: &str = "write_memory";
    let (reader, writer) = pipe(CALL)?;
    let mut at = at;
    let mut left = from;
    while !left.is_empty() {
        let n = nix::unistd::write(&writer, &left[..left.len().min(CHUNK)])
            .map_err(|e| Error::new(CALL, e, "writing the pipe"))?;
        let mut there = 0;
        while there < n {
            let got = moved(of, SYS_READ, &reader, at, n - there).map_err(|e| e.of(CALL))?;
            if got == 0 {
                return Err(short(CALL));
            }
            there += got;
            at += got as u64;
        }
        left = &left[n..];
    }
    Ok(())
}
