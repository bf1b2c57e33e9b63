//! Acting for another context: lwSyscall (contract 7.2), and reading and
//! writing its memory.
//!
//! A call runs in a process, and a process has one memory, one table and one
//! set of credentials. So the call runs where the memory is that it touches;
//! descriptors that it needs of the other context are lent there by
//! SCM_RIGHTS, and a descriptor that it makes goes back the same way. What
//! cannot be mixed so is refused (ENOTSUP), and says what is in the way.
//!
//! The owner's side runs in the owner's wait loop, which may have interrupted
//! anything (the C library's allocator, say, whose brk(2) was trapped): it
//! allocates nothing.

use super::calls::{Known, Shape, known};
use super::fds;
use super::runtime::Runtime;
use super::serve::{ask, op};
use super::warden;
use super::window;
use super::wire::bell::Bell;
use super::wire::mapped::Mapped;
use super::wire::pair::{Half, PAYLOAD, Pair, WORDS, kind};
use crate::error::{Error, Result};
use crate::spec::USER_END;
use lwc_sys::{LWC_CREDENTIALS, LWC_FILES, LWC_MEMORY, LWC_TYPES};
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const CALL: &str = "lwSyscall";

/// How long a call may take in the target's process.
const PATIENCE: Duration = Duration::from_secs(10);

// The owner's side.

/// Answers a request of this module; none of another's. The answer's words
/// and bytes are in the channel's half already.
pub(super) fn quick(rt: &mut Runtime, index: usize, words: &[u64; WORDS]) -> Option<u32> {
    if !(op::PEEK..=op::TAKE).contains(&words[0]) {
        return None;
    }
    let done = if rt.anchor {
        Err(Errno::ESRCH)
    } else {
        act(rt, index, words)
    };
    Some(done.map_or_else(|e| e as i32 as u32, |()| 0))
}

fn act(rt: &mut Runtime, index: usize, words: &[u64; WORDS]) -> std::result::Result<(), Errno> {
    let trapped = rt.monitor.is_some();
    let Some(c) = rt.channels.get(index).and_then(Option::as_ref) else {
        return Err(Errno::EBADF);
    };
    let may = |what: &dyn Fn(&super::rights::Rights) -> bool| {
        (what(&c.granted) && what(&rt.cap))
            .then_some(())
            .ok_or(Errno::EACCES)
    };
    let all = |touches: u32| may(&|r| has_all(r, touches));
    let out = c.out();
    out.words[WORDS - 1].store(0, Ordering::Relaxed);
    match words[0] {
        op::PEEK | op::POKE => {
            let (at, len) = (words[1], words[2]);
            let end = at.checked_add(len).ok_or(Errno::EFAULT)?;
            may(&|r| r.memory.contains(at, end))?;
            if len as usize > PAYLOAD {
                return Err(Errno::E2BIG);
            }
            if words[0] == op::PEEK {
                peek(out, at, len)
            } else {
                poke(c.inn(), at, len)
            }
        }
        op::RUN => {
            let Known::Shape(shape) = known(words[1] as i64) else {
                return Err(Errno::EINVAL);
            };
            all(shape.touches)?;
            let call = std::array::from_fn(|i| words[1 + i]);
            // SAFETY: who asks has every right over what the call touches,
            // given by whoever made the descriptor; what it does to this
            // context's memory it could do by lwOverlay and by switching.
            let result = unsafe {
                if trapped {
                    window::vouched(call)
                } else {
                    window::own(call)
                }
            };
            out.words[0].store(result as u64, Ordering::Relaxed);
            Ok(())
        }
        op::FETCH => {
            may(&|r| r.files.contains(words[1], words[1].saturating_add(1)))?;
            let fd = words[1] as RawFd;
            fds::send_raw(c.sock, &[fd])?;
            out.words[WORDS - 1].store(1, Ordering::Relaxed);
            Ok(())
        }
        _ => {
            all(LWC_FILES)?;
            let [fd] = fds::receive_low(c.sock, words[1] != 0)?;
            out.words[0].store(fd as u64, Ordering::Relaxed);
            Ok(())
        }
    }
}

fn has_all(r: &super::rights::Rights, types: u32) -> bool {
    (types & LWC_MEMORY == 0 || r.memory.contains(0, USER_END))
        && (types & LWC_FILES == 0 || r.files.contains(0, u64::MAX))
        && (types & LWC_CREDENTIALS == 0 || r.credentials)
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
        window::own([
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
    let page = crate::page_size() as u64;
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

// The caller's side.

/// lwSyscall.
pub(crate) fn lw_syscall(fd: RawFd, mask: u32, number: i64, args: &[u64; 8]) -> Result<u64> {
    let [a, b, c, d, e, f, 0, 0] = *args else {
        return Err(Error::new(
            CALL,
            Errno::EINVAL,
            "a call has six arguments here",
        ));
    };
    let mut guard = super::Guard::alone(CALL)?;
    let rt = guard.rt();
    let index = own_target(rt, CALL, fd)?;
    // SAFETY: the promise of `Handle::syscall`'s caller.
    unsafe { syscall(rt, index, mask, number, &[a, b, c, d, e, f]) }
}

/// Reads memory of another context.
pub(crate) fn read_memory(fd: RawFd, at: u64, into: &mut [u8]) -> Result<()> {
    const CALL: &str = "read_memory";
    let mut guard = super::Guard::alone(CALL)?;
    let rt = guard.rt();
    let index = own_target(rt, CALL, fd)?;
    read(rt, index, at, into)
}

/// Writes memory of another context.
pub(crate) fn write_memory(fd: RawFd, at: u64, from: &[u8]) -> Result<()> {
    const CALL: &str = "write_memory";
    let mut guard = super::Guard::alone(CALL)?;
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
    rt.alive(call, index)?;
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
    words: &[u64],
    bytes: &[u8],
    send: &[RawFd],
) -> Result<super::serve::Answer> {
    ask(rt, call, index, words, bytes, send)
        .map_err(|e| Error::new(call, e.errno(), why(e.errno())))
}

/// Reads memory of another context. All of it, or EFAULT.
pub(super) fn read(rt: &mut Runtime, index: usize, at: u64, into: &mut [u8]) -> Result<()> {
    let mut at = at;
    for part in into.chunks_mut(PAYLOAD) {
        let words = [op::PEEK, at, part.len() as u64];
        let answer = request(rt, index, "read_memory", &words, &[], &[])?;
        if answer.bytes.len() != part.len() {
            return Err(Error::new("read_memory", Errno::EPROTO, "cut short"));
        }
        part.copy_from_slice(&answer.bytes);
        at += part.len() as u64;
    }
    Ok(())
}

/// Writes memory of another context.
pub(super) fn write(rt: &mut Runtime, index: usize, at: u64, from: &[u8]) -> Result<()> {
    let mut at = at;
    for part in from.chunks(PAYLOAD) {
        let words = [op::POKE, at, part.len() as u64];
        request(rt, index, "write_memory", &words, part, &[])?;
        at += part.len() as u64;
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
pub(super) unsafe fn syscall(
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
    rt.alive(CALL, index)?;
    let Some(c) = rt.channel(index) else {
        return no(Errno::EBADF, "no such context".into());
    };
    if !has_all(&c.mine, mask) {
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
    let mut lent: Vec<RawFd> = Vec::new();
    let result = lend(rt, index, shape, runs_there, &mut args, &mut lent).and_then(|()| {
        if runs_there {
            run(rt, index, number, &args).and_then(value)
        } else {
            // SAFETY: the caller's promise.
            value(unsafe { local(number, &args) })
        }
    });
    for fd in lent {
        if runs_there {
            let _ = run(rt, index, libc::SYS_close, &[fd as u64, 0, 0, 0, 0, 0]);
        } else {
            fds::close(fd);
        }
    }
    let made = result?;
    if !shape.makes {
        return Ok(made);
    }
    if runs_there {
        bring_home(rt, index, made)
    } else {
        let fd = made as RawFd;
        let given = give(rt, index, fd);
        fds::close(fd);
        given
    }
}

/// The call, here.
///
/// # Safety
/// That of the call.
unsafe fn local(number: i64, a: &[u64; 6]) -> i64 {
    // SAFETY: the caller's promise.
    unsafe { window::own([number as u64, a[0], a[1], a[2], a[3], a[4], a[5]]) }
}

/// The call, in the target's process; the kernel's result.
fn run(rt: &mut Runtime, index: usize, number: i64, a: &[u64; 6]) -> Result<i64> {
    let call = [number as u64, a[0], a[1], a[2], a[3], a[4], a[5]];
    let mut words = [op::RUN; 8];
    words[1..].copy_from_slice(&call);
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(CALL, Errno::EBADF, "no such context"));
    };
    if !c.bond.ward {
        return request(rt, index, CALL, &words, &[], &[]).map(|a| a.words[0] as i64);
    }
    c.out().put_words(&words);
    c.out().publish(kind::REQUEST);
    c.ring();
    // Refused before it made the call: there is an answer then.
    let seen = c.seen;
    let vouched = warden::vouch(CALL, &c.bond, &call, Instant::now() + PATIENCE, || {
        // Whatever else a hostile one may write is no answer.
        let news = c.inn().seq.load(Ordering::Acquire) != seen;
        news && c.inn().kind.load(Ordering::Relaxed) == kind::REPLY || c.peer_dead()
    });
    vouched?;
    rt.answer(CALL, index, false)
        .map_err(|e| Error::new(CALL, e.errno(), why(e.errno())))?;
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(CALL, Errno::EBADF, "no such context"));
    };
    Ok(c.inn().take_words()[0] as i64)
}

/// Puts the descriptors that a call names where it will run, and their
/// numbers there into its arguments.
fn lend(
    rt: &mut Runtime,
    index: usize,
    shape: Shape,
    to_target: bool,
    args: &mut [u64; 6],
    lent: &mut Vec<RawFd>,
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
            give(rt, index, fd)? as RawFd
        } else {
            let answer = request(rt, index, CALL, &[op::FETCH, fd as u32 as u64], &[], &[])?;
            one(answer.fds)?
        };
        lent.push(number);
        *arg = number as u64;
    }
    Ok(())
}

fn one(fds: Vec<RawFd>) -> Result<RawFd> {
    match fds[..] {
        [fd] => Ok(fd),
        _ => {
            fds.iter().for_each(|&fd| fds::close(fd));
            Err(Error::new(CALL, Errno::EPROTO, "no descriptor came"))
        }
    }
}

/// Puts a descriptor of ours into the target's table; its number there.
fn give(rt: &mut Runtime, index: usize, fd: RawFd) -> Result<u64> {
    // SAFETY: reads the flags of a descriptor.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 {
        return Err(Error::last(CALL, format!("descriptor {fd}")));
    }
    let cloexec = u64::from(flags & libc::FD_CLOEXEC != 0);
    let answer = request(rt, index, CALL, &[op::TAKE, cloexec], &[], &[fd])?;
    Ok(answer.words[0])
}

/// Has a trapped context meet a new holder, `who`: puts there what it takes.
/// `files`: socket, pair page, doorbell.
pub(super) fn introduce(
    rt: &mut Runtime,
    index: usize,
    who: u64,
    files: [RawFd; 3],
) -> Result<super::serve::Answer> {
    let [sock, pair, bell] = files;
    let close = |rt: &mut Runtime, fd| run(rt, index, libc::SYS_close, &[fd, 0, 0, 0, 0, 0]);
    let place = |rt: &mut Runtime, fd, len: usize, prot: i32| -> Result<u64> {
        let there = give(rt, index, fd)?;
        let prot = prot as u64;
        let shared = libc::MAP_SHARED as u64;
        let args = [0, len as u64, prot, shared, there, 0];
        let mapped = run(rt, index, libc::SYS_mmap, &args).and_then(value);
        close(rt, there)?;
        mapped
    };
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let pair = place(rt, pair, Mapped::<Pair>::LEN, both)?;
    let bell = place(rt, bell, Mapped::<Bell>::LEN, libc::PROT_READ)?;
    let low = give(rt, index, sock)?;
    let up = [
        low,
        libc::F_DUPFD_CLOEXEC as u64,
        fds::base() as u64,
        0,
        0,
        0,
    ];
    let high = run(rt, index, libc::SYS_fcntl, &up).and_then(value);
    close(rt, low)?;
    let words = [op::MEET_AT, who, pair, bell, high?];
    ask(rt, "lwCreate", index, &words, &[], &[])
}

/// Takes a descriptor out of the target's table into ours.
fn bring_home(rt: &mut Runtime, index: usize, made: u64) -> Result<u64> {
    let answer = request(rt, index, CALL, &[op::FETCH, made as u32 as u64], &[], &[])?;
    let fd = one(answer.fds)?;
    let _ = run(rt, index, libc::SYS_close, &[made, 0, 0, 0, 0, 0]);
    // SAFETY: a copy at the lowest number, as the user expects one.
    let low = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    fds::close(fd);
    if low < 0 {
        return Err(Error::last(CALL, "a descriptor for what the call made"));
    }
    Ok(low as u64)
}

/// Whether the target has our user, groups and capabilities.
fn same_credentials(rt: &mut Runtime, index: usize) -> Result<bool> {
    let id = rt.channel(index).map_or(0, |c| c.peer);
    let pid = if rt.is_root() {
        super::info::info_words(rt, id)[7]
    } else {
        ask(rt, CALL, 0, &[op::INFO, id], &[], &[])?.words[7]
    };
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
