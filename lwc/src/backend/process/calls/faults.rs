//! Code and address of a fault, noted down before it kills its context; and calls that
//! a sandbox traps only to have them answered here.

use super::answered::is_answered;
use super::registers::{place, registers};
use crate::backend::files;
use crate::backend::output::{Write, take};
use crate::backend::process::state::mode;
use crate::backend::process::wire::gate;
use crate::backend::process::wire::pair::Half;
use crate::crash::{self, Crash};
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Our half of the root channel, where the root looks for it.
static NOTE: AtomicPtr<Half> = AtomicPtr::new(std::ptr::null_mut());

const SIGNALS: [i32; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// The code of a SIGSYS that a filter sends.
const SYS_SECCOMP: u64 = 1;

/// What a call returns that is answered here.
///
/// # Safety
/// As of [`take`].
unsafe fn answered(number: u64, args: &[u64; 6]) -> Option<i64> {
    let call = match number as i64 {
        number if is_answered(number, args) => {
            let done = files::answer(number, *args)?;
            return Some(done.map_or_else(|e| -i64::from(e.raw()), |n| n as i64));
        }
        libc::SYS_write => Write::One,
        libc::SYS_writev => Write::Many,
        _ => return None,
    };
    // SAFETY: the caller's promise.
    let done = unsafe { take(call, [args[0], args[1], args[2]]) }?;
    Some(done.map_or_else(|errno| -i64::from(errno), |n| n as i64))
}

/// Flags of the action for a signal. An alternate stack lets the handler run when the
/// stack has overflowed. Whoever answers calls may need more than there is room for on
/// one; the kernel leaves the red zone of the other alone.
fn flags(signal: i32) -> i32 {
    let answers = signal == libc::SIGSYS && files::are_caught();
    libc::SA_SIGINFO | if answers { 0 } else { libc::SA_ONSTACK }
}

/// Installs the handler for calls that a filter traps, if there is none.
pub(crate) fn handle_calls() -> Result<()> {
    // SAFETY: as in `note_in`.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGSYS, std::ptr::null(), &raw mut action);
        let flags = flags(libc::SIGSYS);
        let is_ours = action.sa_sigaction == on_fault as *const () as usize;
        if is_ours && action.sa_flags & libc::SA_ONSTACK == flags & libc::SA_ONSTACK {
            return Ok(());
        }
        action = std::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = flags;
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut())
    };
    match done {
        0 => Ok(()),
        _ => Err(Error::last("catch_output", "a handler of SIGSYS")),
    }
}

pub(crate) extern "C" fn on_fault(
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let note = NOTE.load(Ordering::Relaxed);
    // SAFETY: the kernel hands a valid siginfo and the interrupted context; NOTE
    // points at a mapping that lives as long as the context; only
    // async-signal-safe calls follow. The signal is blocked while its handler
    // runs, so the one raised here, at default action now, kills the context as
    // soon as the handler returns.
    unsafe {
        let mut what = (
            signal,
            (*info).si_code as i64 as u64,
            (*info).si_addr() as u64,
        );
        if signal == libc::SIGSYS {
            // siginfo's _sigsys: the call's address, then its number.
            what.2 = u64::from(info.cast::<u32>().add(6).read());
            let (args, result) = registers(&mut *context.cast());
            if what.1 == SYS_SECCOMP
                && let Some(done) = answered(what.2, &args)
            {
                *result = done as _;
                return;
            }
            if what.2 == libc::SYS_tgkill as u64 && args[2] == libc::SIGABRT as u64 {
                // abort(3), in a sandbox that lets nobody send signals.
                what = (libc::SIGABRT, libc::SI_TKILL as i64 as u64, 0);
            }
        }
        if !note.is_null() {
            (*note).fault_code.store(what.1, Ordering::Relaxed);
            (*note).fault_address.store(what.2, Ordering::Relaxed);
            (*note).fault_signal.store(what.0 as u32, Ordering::Relaxed);
        }
        if mode::is_confined() {
            let [instruction, stack, frame] = place(&*context.cast());
            crash::tell(&Crash {
                signal: what.0,
                instruction,
                stack,
                frame,
            });
        }
        if mode::is_trapped() || mode::is_confined() {
            // It may neither raise signals nor, where it is trapped, change
            // actions; the root reads the signal in the note.
            loop {
                gate::own([libc::SYS_exit_group as u64, what.0 as u64, 0, 0, 0, 0, 0]);
            }
        }
        libc::signal(signal, libc::SIG_DFL);
        libc::syscall(
            libc::SYS_tgkill,
            libc::getpid(),
            libc::syscall(libc::SYS_gettid),
            signal,
        );
    }
}

/// From now on a fault of the current context is noted in `half`. Actions
/// that the creator had for these signals do not apply here: a context made
/// with LWC_TRAP_FAULT starts without handlers for faults; those it installs
/// itself come first, as ever.
pub(crate) fn note_in(half: &Half) {
    NOTE.store(std::ptr::from_ref(half).cast_mut(), Ordering::Relaxed);
    for signal in SIGNALS {
        if signal == libc::SIGSYS && mode::is_trapped() {
            continue; // the trap's own, which knows of us
        }
        // SAFETY: the struct is initialised; the handler is safe as argued
        // there.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = flags(signal);
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Faults act as ever again, in a context that has inherited the noting.
pub(crate) fn stop_noting() {
    NOTE.store(std::ptr::null_mut(), Ordering::Relaxed);
    for signal in SIGNALS {
        // SAFETY: reads one action and puts our own handler, if it is that,
        // back to the default.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &raw mut action);
            if action.sa_sigaction == on_fault as *const () as usize {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}
