//! Trapped system calls (contract 7.1).
//!
//! A trapped context is under a filter ([`filter`]) that turns every
//! call of its code into SIGSYS. The handler here is a messenger: it passes
//! the baton to the monitor with the call's number and arguments, parks, and
//! puts the answer where the call's result belongs.
//!
//! # Why a signal, and not the kernel's notification, for the calls
//! * The monitor is parked on a futex when the call is made, and nothing waits
//!   for a futex and a notification at once. Who traps by a signal passes the
//!   baton as every switch does, so deadlines, deaths and descriptors of the
//!   caller need nothing new.
//! * The kernel allows one listener over a process, and a listener that lets a
//!   call go on passes over all filters above it. Traps could not nest.
//! * What notification offers beyond that, that nobody but the kernel says
//!   what was called, is of no use here. A hostile context can replace the
//!   handler's words, even the handler: the call it then reports is one that
//!   it could as well have made, and the one it made is not executed,
//!   whatever happens to the handler, the signal or its mask.
//!
//! Notification is what [`supervisor`](super::supervisor) uses, where the monitor knows when
//! to listen: to have the target of lwSyscall run a call.
//!
//! Calls that the backend itself makes through the C library (memory for a
//! `Vec`, say) trap like any other; the handler sees that the backend is at
//! work and makes them in its name.

use super::faults;
use super::filter::{self, Installed};
use super::registers::registers;
use crate::backend::process::guard::STATE;
use crate::backend::process::park::park;
use crate::backend::process::state::mode;
use crate::backend::process::state::runtime::{Got, Monitor, Runtime};
use crate::backend::process::wire::pair::{WORDS, kind};
use crate::backend::process::wire::{fds, gate};
use crate::error::{Error, Result};
use lwc_sys::{LWC_CALL_ARGS, LWC_CALL_NUMBER, LWC_CALL_WORDS, LWC_REPLY_ERRNO, LWC_REPLY_VALUE};
use nix::errno::Errno;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, TryLockError};

/// Numbers past the backend's last that may become the backend's.
const MORE: RawFd = 64;

/// The current context's calls go to its monitor from now on. Returns the
/// listener's descriptor, if there is one: the monitor's, to be closed here.
pub(crate) fn enter(rt: &Runtime, listener: bool) -> Result<Option<OwnedFd>> {
    let own = rt.own_descriptors();
    // Those that it has, and some more that its monitor may bring it; the
    // user's that lie between (looked for one by one: in a sandbox there is no
    // list to read) are not.
    let floor = fds::base();
    let ceiling = own.last().map_or(floor, |&last| last.max(floor)) + MORE;
    let excepted: Vec<RawFd> = (floor..=ceiling)
        // SAFETY: asks only whether the number is open.
        .filter(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0)
        .filter(|fd| own.binary_search(fd).is_err())
        .collect();
    catch()?;
    mode::set_trapped();
    rt.bell.set_trapped();
    Ok(
        match filter::install(&(floor..=ceiling), &excepted, listener)? {
            Installed::Listened(fd) => Some(fd),
            Installed::Unheard => None,
        },
    )
}

/// Installs the handler. NODEFER: while it waits for an answer, calls of the
/// C library come again. On the stack that made the call, not an alternate
/// one: it waits there as lwSwitch does.
fn catch() -> Result<()> {
    // SAFETY: the struct is initialised; the handler keeps to what it argues.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigsys as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        if libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) != 0 {
            return Err(Error::last("lwCreate", "a handler for trapped calls"));
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGSYS);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
    Ok(())
}

/// `si_code` of a signal that a filter sent.
const SYS_SECCOMP: i32 = 1;

extern "C" fn on_sigsys(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo, whose _sigsys part begins at
    // byte 16 with the call's address, then its number; and the interrupted
    // context, which is written where a system call writes its result.
    // SIGSYS of a filter is synchronous: what was interrupted is a call, and
    // a call of the backend's is told from one of the user's by the lock. The
    // C library's functions used here are those the call itself interrupted
    // from outside of: none of its locks is held at a system call instruction
    // but by malloc's, when it gets memory; that call was the backend's or the
    // user's, and then nothing here allocates before the answer (park does
    // not, unless it serves a request).
    unsafe {
        if (*info).si_code != SYS_SECCOMP {
            faults::on_fault(signal, info, context);
            return;
        }
        let address = info.cast::<u64>().add(2).read();
        let number = u64::from(info.cast::<u32>().add(6).read());
        let errno = Errno::last_raw();
        let (args, result) = registers(&mut *context.cast());
        let value = if address == gate::own_address() || address == gate::approved_address() {
            // A sandbox under the trap's filter forbids it.
            -i64::from(libc::EPERM)
        } else {
            call(number, args)
        };
        *result = value as _;
        Errno::set_raw(errno);
    }
}

/// What a trapped call gives.
fn call(number: u64, args: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    let mut guard: MutexGuard<'_, Option<Box<Runtime>>> = match STATE.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        // The backend is at work: the call is its own.
        // SAFETY: the very call that was about to be made.
        Err(TryLockError::WouldBlock) => unsafe {
            return gate::own([number, a, b, c, d, e, f]);
        },
    };
    let Some(rt) = guard.as_mut() else {
        return -i64::from(libc::ENOSYS);
    };
    let n = number as libc::c_long;
    let exits = n == libc::SYS_exit || n == libc::SYS_exit_group;
    if exits && rt.flags & lwc_sys::LWC_TRAP_EXIT != 0 {
        end(a);
    }
    match ask_monitor(rt, number, args) {
        Ok(value) => value,
        // With nobody to ask, going is all that is left to do.
        Err(_) if exits => end(a),
        Err(errno) => -i64::from(errno as i32),
    }
}

fn end(status: u64) -> ! {
    loop {
        // SAFETY: ends the process.
        unsafe { gate::own([libc::SYS_exit_group as u64, status, 0, 0, 0, 0, 0]) };
    }
}

/// Hands the call over and waits for the answer.
fn ask_monitor(rt: &mut Runtime, number: u64, args: [u64; 6]) -> std::result::Result<i64, Errno> {
    let monitor = rt.monitor.ok_or(Errno::ESRCH)?;
    let mut words = [0; WORDS];
    words[LWC_CALL_NUMBER as usize] = number;
    words[LWC_CALL_ARGS as usize..][..args.len()].copy_from_slice(&args);
    let n = number as libc::c_long;
    rt.fragile = OF_ALLOCATOR.contains(&n);
    let result = converse(rt, monitor, &words);
    rt.fragile = false;
    result
}

/// Calls that the C library's allocator makes: while one waits for its answer
/// nothing here may allocate.
const OF_ALLOCATOR: [libc::c_long; 6] = [
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
];

fn converse(
    rt: &mut Runtime,
    monitor: Monitor,
    words: &[u64; WORDS],
) -> std::result::Result<i64, Errno> {
    let mut again = true;
    loop {
        if again {
            alive(rt, monitor.channel)?;
            rt.bell.set_awaits(monitor.id);
            rt.expected = Some(monitor.channel);
            let (channels, bell) = (&mut rt.channels, &rt.bell);
            let c = channels.get_mut(monitor.channel).and_then(Option::as_mut);
            let c = c.ok_or(Errno::ESRCH)?;
            bell.give(monitor.id, c.peer_bell.baton().received);
            let half = c.out();
            half.put_words(words);
            half.count.store(LWC_CALL_WORDS, Ordering::Relaxed);
            half.publish(kind::CALL);
            c.ring();
        }
        let got = park(rt, None);
        let from = match got {
            Got::Baton { from, words, .. } if from == Some(monitor.channel) => {
                rt.bell.set_awaits(0);
                return Ok(answer(&words));
            }
            Got::Baton { from, words, .. } => {
                // A second descriptor of the monitor's will do as well.
                let peer = from.and_then(|i| rt.channel(i));
                if peer.is_some_and(|c| c.verified && c.peer == monitor.id) {
                    rt.bell.set_awaits(0);
                    return Ok(answer(&words));
                }
                from
            }
            Got::Called { from, .. } => Some(from),
            Got::Ended { .. } | Got::Timeout => None,
        };
        // Nobody else may answer. An honest context got EBUSY before it came
        // here; a context trapped by this one, or a hostile one, gets it now.
        // Where there is nobody to go back to (one made here has ended
        // meanwhile) the monitor is asked anew.
        again = !from.is_some_and(|i| send_back(rt, i));
    }
}

fn alive(rt: &mut Runtime, index: usize) -> std::result::Result<(), Errno> {
    match rt.channel(index) {
        Some(c) if !c.peer_dead() => Ok(()),
        _ => Err(Errno::ESRCH),
    }
}

/// {errno, value} as a call's result.
fn answer(words: &[u64; WORDS]) -> i64 {
    let errno = words[LWC_REPLY_ERRNO as usize];
    match errno {
        0 => words[LWC_REPLY_VALUE as usize] as i64,
        // The kernel knows no others.
        1..4096 => -(errno as i64),
        _ => -i64::from(libc::EINVAL),
    }
}

/// Passes the baton back with EBUSY. False: it is gone.
fn send_back(rt: &mut Runtime, index: usize) -> bool {
    if alive(rt, index).is_err() {
        return false;
    }
    let Some(peer) = rt.channel(index).map(|c| c.peer) else {
        return false;
    };
    rt.expected = Some(index);
    let (channels, bell) = (&mut rt.channels, &rt.bell);
    let Some(c) = channels.get_mut(index).and_then(Option::as_mut) else {
        return false;
    };
    bell.give(peer, c.peer_bell.baton().received);
    let half = c.out();
    half.put_words(&[Errno::EBUSY as u64, 0]);
    half.count.store(2, Ordering::Relaxed);
    half.publish(kind::BATON);
    c.ring();
    true
}
