//! Memory, system calls and descriptors for another context (lwSyscall).
//!
//! This may happen in the middle of anything, the C library's allocator
//! included, whose brk(2) was trapped: nothing here allocates.

use crate::backend::process::shapes::{Known, known};
use crate::backend::process::state::rights::Rights;
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::wire::fds;
use crate::backend::process::wire::gate;
use crate::backend::process::wire::message::{Answer, Request};
use crate::backend::process::wire::pair::{Half, PAYLOAD};
use lwc_sys::LWC_FILES;
use nix::errno::Errno;
use std::os::fd::IntoRawFd;
use std::sync::atomic::Ordering;

/// What is answered, and how many descriptors have been sent.
pub(crate) type Done = Result<(Answer, usize), (Errno, &'static str)>;

/// Answers a request of this module; none of another's. Bytes are in the
/// channel's half already, descriptors on their way.
pub(crate) fn quick(rt: &mut Runtime, index: usize, request: &Request) -> Option<Done> {
    let done = match *request {
        Request::Peek { .. }
        | Request::Poke { .. }
        | Request::Run(_)
        | Request::Fetch { .. }
        | Request::Take { .. }
            if rt.anchor =>
        {
            Err(Errno::ESRCH)
        }
        Request::Peek { at, len } => memory(rt, index, at, len, true),
        Request::Poke { at, len } => memory(rt, index, at, len, false),
        Request::Run(call) => run(rt, index, call),
        Request::Fetch { fd } => fetch(rt, index, fd),
        Request::Take { cloexec } => take(rt, index, cloexec),
        _ => return None,
    };
    Some(done.map_err(|errno| (errno, "")))
}

/// Whether the channel's rights, and those that anybody has, are enough.
fn may(rt: &Runtime, index: usize, what: impl Fn(&Rights) -> bool) -> Result<(), Errno> {
    let c = rt.channels.get(index).and_then(Option::as_ref);
    match c {
        None => Err(Errno::EBADF),
        Some(c) if what(&c.granted) && what(&rt.cap) => Ok(()),
        Some(_) => Err(Errno::EACCES),
    }
}

fn memory(
    rt: &Runtime,
    index: usize,
    at: u64,
    len: u64,
    read: bool,
) -> Result<(Answer, usize), Errno> {
    let end = at.checked_add(len).ok_or(Errno::EFAULT)?;
    may(rt, index, |r| r.memory.contains(at, end))?;
    if len as usize > PAYLOAD {
        return Err(Errno::E2BIG);
    }
    let c = rt.channels[index].as_ref().ok_or(Errno::EBADF)?;
    if read {
        peek(c.out(), at, len)?;
    } else {
        poke(c.inn(), at, len)?;
    }
    Ok((Answer::Done, 0))
}

fn run(rt: &Runtime, index: usize, call: [u64; 7]) -> Result<(Answer, usize), Errno> {
    let Known::Shape(shape) = known(call[0] as i64) else {
        return Err(Errno::EINVAL);
    };
    may(rt, index, |r| r.have_all(shape.touches))?;
    // SAFETY: who asks has every right over what the call touches, given by
    // whoever made the descriptor; what it does to this context's memory it
    // could do by lwOverlay and by switching.
    let result = unsafe {
        if rt.monitor.is_some() {
            gate::approved(call)
        } else {
            gate::own(call)
        }
    };
    Ok((Answer::Returned(result), 0))
}

fn fetch(rt: &Runtime, index: usize, fd: i32) -> Result<(Answer, usize), Errno> {
    let number = fd as u32 as u64;
    may(rt, index, |r| r.files.contains(number, number + 1))?;
    if rt.is_own_descriptor(fd) {
        return Err(Errno::EBADF);
    }
    let c = rt.channels[index].as_ref().ok_or(Errno::EBADF)?;
    let sock = c.sock.as_ref().ok_or(Errno::EPERM)?;
    fds::send_raw(sock, &[fd])?;
    Ok((Answer::Done, 1))
}

fn take(rt: &Runtime, index: usize, cloexec: bool) -> Result<(Answer, usize), Errno> {
    may(rt, index, |r| r.have_all(LWC_FILES))?;
    let c = rt.channels[index].as_ref().ok_or(Errno::EBADF)?;
    let sock = c.sock.as_ref().ok_or(Errno::EPERM)?;
    let [fd] = fds::receive_low(sock, cloexec)?;
    // The user's from now on.
    Ok((Answer::Number(Some(fd.into_raw_fd())), 0))
}

/// rt_sigprocmask(2), the one call of a trapped context that tells whether
/// memory is there without touching more than eight bytes of it.
fn probe(read: u64, write: u64) -> bool {
    /// No SIG_BLOCK, SIG_UNBLOCK or SIG_SETMASK: nothing changes, EINVAL.
    const NOTHING: u64 = 99;
    if read == 0 && write == 0 {
        return false; // to the kernel address 0 means "no set"
    }
    // SAFETY: the kernel checks both addresses; what it writes at `write` is
    // put back by the caller.
    let got = unsafe {
        gate::own([
            libc::SYS_rt_sigprocmask as u64,
            NOTHING,
            read,
            write,
            8,
            0,
            0,
        ])
    };
    got != -i64::from(libc::EFAULT)
}

/// Calls `f` with each part of a range that lies in one page.
fn pages(
    at: u64,
    len: u64,
    mut f: impl FnMut(u64, u64) -> std::result::Result<(), Errno>,
) -> std::result::Result<(), Errno> {
    let page = crate::page::page_size() as u64;
    let end = at + len;
    let mut from = at;
    while from < end {
        let to = end.min((from / page + 1) * page);
        f(from, to)?;
        from = to;
    }
    Ok(())
}

fn peek(out: &Half, at: u64, len: u64) -> std::result::Result<(), Errno> {
    pages(at, len, |from, to| {
        if !probe(from & !7, 0) {
            return Err(Errno::EFAULT);
        }
        for address in from..to {
            // SAFETY: the page is mapped and readable, and only this context,
            // which is here, changes that.
            let byte = unsafe { (address as *const u8).read_volatile() };
            out.put_byte((address - at) as usize, byte);
        }
        Ok(())
    })?;
    out.count.store(len as u32, Ordering::Relaxed);
    Ok(())
}

fn poke(inn: &Half, at: u64, len: u64) -> std::result::Result<(), Errno> {
    // Look first, so that nothing is written if a part is not there.
    pages(at, len, |from, _| {
        let word = from & !7;
        if !probe(word, 0) {
            return Err(Errno::EFAULT);
        }
        // SAFETY: eight aligned bytes of a page that was readable just now;
        // if the probe can write them it has, and they are put back.
        unsafe {
            let was = (word as *const u64).read_volatile();
            if !probe(0, word) {
                return Err(Errno::EFAULT);
            }
            (word as *mut u64).write_volatile(was);
        }
        Ok(())
    })?;
    pages(at, len, |from, to| {
        for address in from..to {
            let byte = inn.byte((address - at) as usize);
            // SAFETY: writable, as seen above. It is the memory of a context
            // that waits, and whoever asks has the right to it.
            unsafe { (address as *mut u8).write_volatile(byte) };
        }
        Ok(())
    })
}
