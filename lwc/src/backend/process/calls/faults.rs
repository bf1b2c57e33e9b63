//! Code and address of a fault, noted down before it kills its context.

use crate::backend::process::state::mode;
use crate::backend::process::wire::gate;
use crate::backend::process::wire::pair::Half;
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

pub(crate) extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let note = NOTE.load(Ordering::Relaxed);
    // SAFETY: the kernel hands a valid siginfo; NOTE points at a mapping that
    // lives as long as the context; only async-signal-safe calls follow. The
    // signal is blocked while its handler runs, so the one raised here, at
    // default action now, kills the context as soon as the handler returns.
    unsafe {
        if !note.is_null() {
            let address = if signal == libc::SIGSYS {
                // siginfo's _sigsys: the call's address, then its number.
                u64::from(info.cast::<u32>().add(6).read())
            } else {
                (*info).si_addr() as u64
            };
            (*note)
                .fault_code
                .store((*info).si_code as i64 as u64, Ordering::Relaxed);
            (*note).fault_address.store(address, Ordering::Relaxed);
            (*note).fault_signal.store(signal as u32, Ordering::Relaxed);
        }
        if mode::is_trapped() {
            // It may neither raise signals nor change actions but through its
            // monitor; the root reads the signal in the note.
            loop {
                gate::own([libc::SYS_exit_group as u64, signal as u64, 0, 0, 0, 0, 0]);
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
        // there. SA_ONSTACK lets it run when the stack has overflowed, if the
        // program has an alternate one (Rust programs do).
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
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
