//! ptrace(2): stopping a context, its registers, calls in its name.

use super::sys::{Errno, call};
use super::table::Table;
use crate::backend::process::wire::gate;

const SEIZE: u64 = 0x4206;
const INTERRUPT: u64 = 0x4207;
const LISTEN: u64 = 0x4208;
const GETREGSET: u64 = 0x4204;
const SETREGSET: u64 = 0x4205;
const GETSIGMASK: u64 = 0x420a;
const SETSIGMASK: u64 = 0x420b;
const CONT: u64 = 7;
const TO_CALL: u64 = 24;
/// Of GETREGSET: the general registers, with the bases of FS and GS.
const GENERAL: u64 = 1;
/// All vector state (NT_X86_XSTATE).
const VECTOR: u64 = 0x202;
/// Stops at calls that a filter says so of; those before and after a call are told
/// from signals; the tracer's end is the tracee's.
const OPTIONS: u64 = 0x80 | 0x1 | 0x10_0000;
const EVENT_SECCOMP: i32 = 7;
const EVENT_STOP: i32 = 128;
const AT_CALL: i32 = libc::SIGTRAP | 0x80;

/// The most that vector state takes, with room to spare.
const VECTOR_BYTES: usize = 16 * 1024;

#[cfg(target_arch = "x86_64")]
pub(crate) type Registers = libc::user_regs_struct;

fn ptrace(request: u64, pid: i32, address: u64, data: u64) -> Result<u64, Errno> {
    // SAFETY: each request below reads or writes locals of the size it is told,
    // or a table's mapping; the tracee is a context, whose state is ours to set.
    unsafe { call(libc::SYS_ptrace, [request, pid as u64, address, data, 0, 0]) }
}

/// From now on a process is traced, and runs on.
pub(crate) fn seize(pid: i32) -> Result<(), Errno> {
    ptrace(SEIZE, pid, 0, OPTIONS).map(drop)
}

/// Whether the system lets anybody be traced: nobody has this number.
pub(crate) fn is_allowed() -> bool {
    ptrace(INTERRUPT, i32::MAX, 0, 0) == Err(libc::ESRCH)
}

/// Lets it go on, with a signal or none.
pub(crate) fn go_on(pid: i32, signal: i32) -> Result<(), Errno> {
    ptrace(CONT, pid, 0, signal as u64).map(drop)
}

/// Why a tracee has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is no more, and is collected.
    Dead,
    /// It was to.
    Interrupted,
    /// At a system call that is to be noted.
    Called,
    /// Before or after one, where it was let go on to that.
    AtCall,
    /// With its group, by a signal for that.
    Group,
    /// A signal comes.
    Signal(i32),
}

/// The next who stops or ends: one, or whoever it is. `None`: nobody does now.
pub(crate) fn wait(pid: Option<i32>, now: bool) -> Result<Option<(i32, Stop)>, Errno> {
    let mut status = 0i32;
    let options = libc::__WALL | if now { libc::WNOHANG } else { 0 };
    // SAFETY: writes the local.
    let pid = unsafe {
        call(
            libc::SYS_wait4,
            [
                pid.unwrap_or(-1) as u64,
                &raw mut status as u64,
                options as u64,
                0,
                0,
                0,
            ],
        )?
    } as i32;
    if pid == 0 {
        return Ok(None);
    }
    let stop = if libc::WIFSTOPPED(status) {
        match (status >> 16, libc::WSTOPSIG(status)) {
            (EVENT_SECCOMP, _) => Stop::Called,
            (EVENT_STOP, libc::SIGTRAP) => Stop::Interrupted,
            (EVENT_STOP, _) => Stop::Group,
            (_, AT_CALL) => Stop::AtCall,
            (_, signal) => Stop::Signal(signal),
        }
    } else {
        Stop::Dead
    };
    Ok(Some((pid, stop)))
}

/// What to do about a stop that is none of ours: the context goes on as it would
/// without us. The call that it was about to make, if that is the reason.
pub(crate) fn pass(pid: i32, stop: Stop) -> Option<[u64; 4]> {
    let mut called = None;
    // It may have been killed meanwhile: then the next wait says so.
    let _ = match stop {
        Stop::Dead => Ok(()),
        Stop::Interrupted | Stop::AtCall => go_on(pid, 0),
        Stop::Called => {
            called = registers(pid)
                .ok()
                .map(|r| [r.orig_rax, r.rdi, r.rsi, r.rdx]);
            go_on(pid, 0)
        }
        Stop::Group => ptrace(LISTEN, pid, 0, 0).map(drop),
        Stop::Signal(signal) => go_on(pid, signal),
    };
    called
}

/// Stops it, wherever it is. What happens on the way is noted.
pub(crate) fn stop(pid: i32, mut note: impl FnMut(Stop, Option<[u64; 4]>)) -> Result<(), Errno> {
    ptrace(INTERRUPT, pid, 0, 0)?;
    loop {
        match wait(Some(pid), false) {
            Ok(Some((_, Stop::Interrupted | Stop::Group))) => return Ok(()),
            Ok(Some((_, Stop::Dead))) => return Err(libc::ESRCH),
            Ok(Some((_, stop))) => note(stop, pass(pid, stop)),
            Ok(None) | Err(libc::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

fn read_set(pid: i32, set: u64, at: *mut u8, len: usize) -> Result<usize, Errno> {
    let mut iov = libc::iovec {
        iov_base: at.cast(),
        iov_len: len,
    };
    ptrace(GETREGSET, pid, set, &raw mut iov as u64)?;
    Ok(iov.iov_len)
}

fn write_set(pid: i32, set: u64, at: *const u8, len: usize) -> Result<(), Errno> {
    let iov = libc::iovec {
        iov_base: at.cast_mut().cast(),
        iov_len: len,
    };
    ptrace(SETREGSET, pid, set, &raw const iov as u64).map(drop)
}

/// The general registers of one that is stopped.
pub(crate) fn registers(pid: i32) -> Result<Registers, Errno> {
    // SAFETY: integers, which may all be zero.
    let mut r: Registers = unsafe { std::mem::zeroed() };
    read_set(pid, GENERAL, (&raw mut r).cast(), size_of::<Registers>())?;
    Ok(r)
}

pub(crate) fn set_registers(pid: i32, r: &Registers) -> Result<(), Errno> {
    write_set(
        pid,
        GENERAL,
        std::ptr::from_ref(r).cast(),
        size_of::<Registers>(),
    )
}

/// Its vector state, into a table.
pub(crate) fn vector(pid: i32, into: &mut Table<u8>) -> Result<(), Errno> {
    into.truncate(0);
    // SAFETY: bytes.
    let at = unsafe { into.grow(VECTOR_BYTES)? };
    let len = read_set(pid, VECTOR, at, VECTOR_BYTES)?;
    into.truncate(len);
    Ok(())
}

pub(crate) fn set_vector(pid: i32, from: &[u8]) -> Result<(), Errno> {
    write_set(pid, VECTOR, from.as_ptr(), from.len())
}

/// The signals that it blocks.
pub(crate) fn mask(pid: i32) -> Result<u64, Errno> {
    let mut mask = 0u64;
    ptrace(GETSIGMASK, pid, 8, &raw mut mask as u64)?;
    Ok(mask)
}

pub(crate) fn set_mask(pid: i32, mask: u64) -> Result<(), Errno> {
    ptrace(SETSIGMASK, pid, 8, &raw const mask as u64).map(drop)
}

/// Makes a system call in the name of one that is stopped, whose registers are
/// to be set afterwards. It does not run but for that one instruction: it stops
/// before and after the call.
///
/// The instruction is the backend's own; a context that has written over it has
/// one instruction of its own run instead, with what it may do anyway, and what
/// that leaves is looked at.
pub(crate) fn call_there(pid: i32, like: &Registers, args: [u64; 7]) -> Result<u64, Errno> {
    let at = gate::own_address() - 2;
    let mut r = *like;
    (r.rax, r.rip, r.orig_rax) = (args[0], at, u64::MAX);
    (r.rdi, r.rsi, r.rdx) = (args[1], args[2], args[3]);
    (r.r10, r.r8, r.r9) = (args[4], args[5], args[6]);
    // On no stack: an alternate one may be anywhere.
    r.rsp = 0;
    set_registers(pid, &r)?;
    // Not by single steps: these are told by a signal that the kernel forces on
    // it, whatever it does about that one.
    ptrace(TO_CALL, pid, 0, 0)?;
    let mut stops = 0;
    loop {
        match wait(Some(pid), false) {
            Ok(Some((_, Stop::AtCall))) => {
                stops += 1;
                if stops == 2 {
                    break;
                }
                ptrace(TO_CALL, pid, 0, 0)?
            }
            Ok(Some((_, Stop::Called | Stop::Interrupted))) => ptrace(TO_CALL, pid, 0, 0)?,
            Ok(Some((_, Stop::Dead))) => return Err(libc::ESRCH),
            // Something else than this call happens there.
            Ok(Some(_)) => return Err(libc::EPROTO),
            Ok(None) | Err(libc::EINTR) => continue,
            Err(e) => return Err(e),
        };
    }
    let r = registers(pid)?;
    let value = r.rax as i64;
    if r.rip != at + 2 {
        return Err(libc::EPROTO);
    }
    if value < 0 && value > -4096 {
        return Err(-value as Errno);
    }
    Ok(value as u64)
}
