//! Acting for another context: lwSyscall (contract 7.2), and reading and writing
//! its memory. The other side is [`act`](crate::backend::process::owner::act).
//!
//! A call runs in a process, and a process has one memory, one table and one set
//! of credentials. So the call runs where the memory is that it touches;
//! descriptors that it needs of the other context are lent there by SCM_RIGHTS,
//! and a descriptor that it makes goes back the same way. What cannot be mixed so
//! is refused (ENOTSUP), and says what is in the way.

use super::supervisor;
use crate::backend::process::ask::{Answered, alive, answer, ask, ask_with, breach, facts};
use crate::backend::process::guard::Guard;
use crate::backend::process::shapes::{Known, Shape, known};
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::wire::bell::Bell;
use crate::backend::process::wire::mapped::Mapped;
use crate::backend::process::wire::message::{Answer, Request};
use crate::backend::process::wire::pair::{PAYLOAD, Pair, kind};
use crate::backend::process::wire::{fds, gate};
use crate::error::{Error, Result};
use lwc_sys::{LWC_CREDENTIALS, LWC_FILES, LWC_MEMORY, LWC_TYPES};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const CALL: &str = "lwSyscall";

/// How long a call may take in the target's process.
const TIMEOUT: Duration = Duration::from_secs(10);

/// lwSyscall.
pub(crate) fn lw_syscall(fd: RawFd, mask: u32, number: i64, args: &[u64; 8]) -> Result<u64> {
    let [a, b, c, d, e, f, 0, 0] = *args else {
        return Err(Error::new(
            CALL,
            Errno::EINVAL,
            "a call has six arguments here",
        ));
    };
    let mut guard = Guard::alone(CALL)?;
    let rt = guard.rt();
    let index = own_target(rt, CALL, fd)?;
    // SAFETY: the promise of `Handle::syscall`'s caller.
    unsafe { syscall(rt, index, mask, number, &[a, b, c, d, e, f]) }
}

/// Reads memory of another context.
pub(crate) fn read_memory(fd: RawFd, at: u64, into: &mut [u8]) -> Result<()> {
    const CALL: &str = "read_memory";
    let mut guard = Guard::alone(CALL)?;
    let rt = guard.rt();
    let index = own_target(rt, CALL, fd)?;
    read(rt, index, at, into)
}

/// Writes memory of another context.
pub(crate) fn write_memory(fd: RawFd, at: u64, from: &[u8]) -> Result<()> {
    const CALL: &str = "write_memory";
    let mut guard = Guard::alone(CALL)?;
    let rt = guard.rt();
    let index = own_target(rt, CALL, fd)?;
    write(rt, index, at, from)
}

/// The channel of a context to act for: not the current one, and not from a
/// trapped one, for which that would be a way around.
fn own_target(rt: &mut Runtime, call: &'static str, fd: RawFd) -> Result<usize> {
    if fd >= 0 && fd == rt.self_desc {
        return Err(Error::new(call, Errno::EINVAL, "the current context"));
    }
    let index = rt.find(call, fd)?;
    alive(rt, call, index)?;
    if rt.monitor.is_some() {
        return Err(Error::new(
            call,
            Errno::EPERM,
            "the system calls of this context are trapped; on the process backend it cannot act for others",
        ));
    }
    Ok(index)
}

fn why(errno: Errno) -> &'static str {
    match errno {
        Errno::EACCES => "not within the descriptor's rights",
        Errno::EFAULT => "the target has no such memory",
        Errno::EBADF => "the target has no such descriptor",
        Errno::EPERM => "the target is in a sandbox, or a trapped context made it",
        _ => "refused by the target",
    }
}

fn request(
    rt: &mut Runtime,
    index: usize,
    call: &'static str,
    request: Request,
    bytes: &[u8],
    send: &[BorrowedFd<'_>],
) -> Result<Answered> {
    ask_with(rt, call, index, request, bytes, send)
        .map_err(|e| Error::new(call, e.cause(), why(e.cause())))
}

/// Reads memory of another context. All of it, or EFAULT.
pub(crate) fn read(rt: &mut Runtime, index: usize, at: u64, into: &mut [u8]) -> Result<()> {
    let mut at = at;
    for part in into.chunks_mut(PAYLOAD) {
        let len = part.len() as u64;
        let peek = Request::Peek { at, len };
        let answered = request(rt, index, "read_memory", peek, &[], &[])?;
        if answered.bytes.len() != part.len() {
            return Err(Error::new("read_memory", Errno::EPROTO, "cut short"));
        }
        part.copy_from_slice(&answered.bytes);
        at += len;
    }
    Ok(())
}

/// Writes memory of another context.
pub(crate) fn write(rt: &mut Runtime, index: usize, at: u64, from: &[u8]) -> Result<()> {
    let mut at = at;
    for part in from.chunks(PAYLOAD) {
        let len = part.len() as u64;
        let poke = Request::Poke { at, len };
        request(rt, index, "write_memory", poke, part, &[])?;
        at += len;
    }
    Ok(())
}

/// The kernel's result of a call: -errno, or a value.
fn value(result: i64) -> Result<u64> {
    if (-4095..0).contains(&result) {
        let errno = Errno::from_raw(-result as i32);
        return Err(Error::new(CALL, errno, "the call itself failed"));
    }
    Ok(result as u64)
}

/// lwSyscall.
///
/// # Safety
/// That of the call, where it runs here.
pub(crate) unsafe fn syscall(
    rt: &mut Runtime,
    index: usize,
    mask: u32,
    number: i64,
    args: &[u64; 6],
) -> Result<u64> {
    let no = |errno, what: String| Err(Error::new(CALL, errno, what));
    if mask & !LWC_TYPES != 0 {
        return no(Errno::EINVAL, format!("mask {mask:#x} has unknown bits"));
    }
    let shape = match known(number) {
        Known::Refused => {
            return no(
                Errno::EINVAL,
                format!(
                    "call {number} ends, replaces or multiplies the process, or changes what makes a context one"
                ),
            );
        }
        Known::Callers if mask != 0 => {
            return no(
                Errno::ENOTSUP,
                format!(
                    "call {number} acts on whoever makes it; the process backend makes it with an empty mask alone"
                ),
            );
        }
        Known::Callers => Shape {
            touches: 0,
            fds: 0,
            makes: false,
            movable: true,
        },
        Known::Shape(shape) => shape,
    };
    alive(rt, CALL, index)?;
    let Some(c) = rt.channel(index) else {
        return no(Errno::EBADF, "no such context".into());
    };
    if !c.mine.have_all(mask) {
        return no(Errno::EACCES, "not within the descriptor's rights".into());
    }
    let there = shape.touches & mask;
    if there == 0 {
        // SAFETY: the caller's promise.
        return value(unsafe { local(number, args) });
    }
    let runs_there = if shape.touches & LWC_MEMORY != 0 {
        there & LWC_MEMORY != 0
    } else {
        there & LWC_FILES != 0 || shape.touches & LWC_FILES == 0
    };
    let on_side = |bit| shape.touches & bit == 0 || (there & bit != 0) == runs_there;
    if !on_side(LWC_CREDENTIALS) && !same_credentials(rt, index)? {
        return no(
            Errno::ENOTSUP,
            "the process backend cannot mix credentials that differ; name them in the mask, or none of what the call touches".into(),
        );
    }
    let mut args = *args;
    if on_side(LWC_FILES) {
        if runs_there {
            return run(rt, index, number, &args).and_then(value);
        }
        // SAFETY: the caller's promise.
        return value(unsafe { local(number, &args) });
    }
    if !shape.movable {
        return no(
            Errno::ENOTSUP,
            format!(
                "call {number} needs the whole descriptor table beside memory of the other context; the process backend lends single descriptors"
            ),
        );
    }
    let mut lent = Lent::default();
    let result = lend(rt, index, shape, runs_there, &mut args, &mut lent).and_then(|()| {
        if runs_there {
            run(rt, index, number, &args).and_then(value)
        } else {
            // SAFETY: the caller's promise.
            value(unsafe { local(number, &args) })
        }
    });
    for fd in lent.there {
        let _ = run(rt, index, libc::SYS_close, &[fd as u64, 0, 0, 0, 0, 0]);
    }
    drop(lent.here);
    let made = result?;
    if !shape.makes {
        return Ok(made);
    }
    if runs_there {
        return bring_home(rt, index, made);
    }
    // SAFETY: the call that was just made, here, has made it.
    let fd = unsafe { OwnedFd::from_raw_fd(made as RawFd) };
    give(rt, index, fd.as_raw_fd()).map(|number| number as u64)
}

/// Descriptors that are lent for one call.
#[derive(Default)]
struct Lent {
    /// Numbers in the target.
    there: Vec<RawFd>,
    /// Of the target's, here.
    here: Vec<OwnedFd>,
}

/// The call, here.
///
/// # Safety
/// That of the call.
unsafe fn local(number: i64, a: &[u64; 6]) -> i64 {
    // SAFETY: the caller's promise.
    unsafe { gate::own([number as u64, a[0], a[1], a[2], a[3], a[4], a[5]]) }
}

/// The call, in the target's process; the kernel's result.
fn run(rt: &mut Runtime, index: usize, number: i64, a: &[u64; 6]) -> Result<i64> {
    let call = [number as u64, a[0], a[1], a[2], a[3], a[4], a[5]];
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(CALL, Errno::EBADF, "no such context"));
    };
    if !c.trap.supervised {
        return request(rt, index, CALL, Request::Run(call), &[], &[])?.returned(CALL);
    }
    supervisor::listener(CALL, &c.trap)?;
    c.out().put_words(&Request::Run(call).encode());
    c.out().publish(kind::REQUEST);
    c.ring();
    // Refused before it made the call: there is an answer then.
    let seen = c.seen;
    supervisor::approve(CALL, &c.trap, &call, Instant::now() + TIMEOUT, || {
        // Whatever else a hostile one may write is no answer.
        let news = c.inn().seq.load(Ordering::Acquire) != seen;
        news && c.inn().kind.load(Ordering::Relaxed) == kind::REPLY || c.peer_dead()
    })?;
    let words =
        answer(rt, CALL, index, false).map_err(|e| Error::new(CALL, e.cause(), why(e.cause())))?;
    match Answer::decode(&words) {
        Some((Answer::Returned(value), _)) => Ok(value),
        _ => Err(breach(CALL)),
    }
}

/// Puts the descriptors that a call names where it will run, and their
/// numbers there into its arguments.
fn lend(
    rt: &mut Runtime,
    index: usize,
    shape: Shape,
    to_target: bool,
    args: &mut [u64; 6],
    lent: &mut Lent,
) -> Result<()> {
    for (i, arg) in args.iter_mut().enumerate() {
        if shape.fds & 1 << i == 0 {
            continue;
        }
        let fd = *arg as RawFd;
        if fd == libc::AT_FDCWD {
            return Err(Error::new(
                CALL,
                Errno::ENOTSUP,
                "a path from the current folder of one context, looked up by another; name a folder's descriptor",
            ));
        }
        let number = if to_target {
            let number = give(rt, index, fd)?;
            lent.there.push(number);
            number
        } else {
            let fetched = request(rt, index, CALL, Request::Fetch { fd }, &[], &[])?;
            let fd = fetched.descriptor(CALL)?;
            let number = fd.as_raw_fd();
            lent.here.push(fd);
            number
        };
        *arg = number as u64;
    }
    Ok(())
}

/// Puts a descriptor of ours into the target's table; its number there.
fn give(rt: &mut Runtime, index: usize, fd: RawFd) -> Result<RawFd> {
    // SAFETY: reads the flags of a descriptor.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 {
        return Err(Error::last(CALL, format!("descriptor {fd}")));
    }
    let take = Request::Take {
        cloexec: flags & libc::FD_CLOEXEC != 0,
    };
    // SAFETY: open, as just seen, in this process of one thread.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let taken = request(rt, index, CALL, take, &[], &[fd])?;
    taken.number(CALL)?.ok_or_else(|| breach(CALL))
}

/// Has a trapped context meet a new holder, `id`: puts there what it takes.
pub(crate) fn introduce(
    rt: &mut Runtime,
    index: usize,
    id: u64,
    sock: &OwnedFd,
    pair: &OwnedFd,
    bell: BorrowedFd<'_>,
) -> Result<()> {
    let close =
        |rt: &mut Runtime, fd: RawFd| run(rt, index, libc::SYS_close, &[fd as u64, 0, 0, 0, 0, 0]);
    let place = |rt: &mut Runtime, fd: BorrowedFd<'_>, len: usize, prot: i32| -> Result<u64> {
        let there = give(rt, index, fd.as_raw_fd())?;
        let shared = libc::MAP_SHARED as u64;
        let args = [0, len as u64, prot as u64, shared, there as u64, 0];
        let mapped = run(rt, index, libc::SYS_mmap, &args).and_then(value);
        close(rt, there)?;
        mapped
    };
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let pair = place(rt, pair.as_fd(), Mapped::<Pair>::LEN, both)?;
    let bell = place(rt, bell, Mapped::<Bell>::LEN, libc::PROT_READ)?;
    let low = give(rt, index, sock.as_raw_fd())?;
    let base = fds::base() as u64;
    let up = [low as u64, libc::F_DUPFD_CLOEXEC as u64, base, 0, 0, 0];
    let high = run(rt, index, libc::SYS_fcntl, &up).and_then(value);
    close(rt, low)?;
    let request = Request::MeetAt {
        id,
        pair,
        bell,
        sock: high? as RawFd,
    };
    ask(rt, "lwCreate", index, request).map(drop)
}

/// Takes a descriptor out of the target's table into ours.
fn bring_home(rt: &mut Runtime, index: usize, made: u64) -> Result<u64> {
    let fetch = Request::Fetch { fd: made as RawFd };
    let fd = request(rt, index, CALL, fetch, &[], &[])?.descriptor(CALL)?;
    let _ = run(rt, index, libc::SYS_close, &[made, 0, 0, 0, 0, 0]);
    // SAFETY: a copy at the lowest number, as the user expects one.
    let low = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) };
    if low < 0 {
        return Err(Error::last(CALL, "a descriptor for what the call made"));
    }
    Ok(low as u64)
}

/// Whether the target has our user, groups and capabilities.
fn same_credentials(rt: &mut Runtime, index: usize) -> Result<bool> {
    let id = rt.channel(index).map_or(0, |c| c.peer);
    let pid = facts(rt, CALL, id)?.pid;
    let lines = |pid: &str| -> Vec<String> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        text.lines()
            .filter(|l| {
                ["Uid:", "Gid:", "Groups:", "CapEff:"]
                    .iter()
                    .any(|k| l.starts_with(k))
            })
            .map(str::to_owned)
            .collect()
    };
    let ours = lines("self");
    Ok(!ours.is_empty() && ours == lines(&pid.to_string()))
}
