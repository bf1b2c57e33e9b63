//! What the kernel tells a context by a signal: that a context has ended, or
//! that its root has.

use crate::backend::process::wire::fds::POLL_HUP;
use crate::backend::process::wire::gate;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

/// Set by the signal that tells of a death.
static DEATHS: AtomicBool = AtomicBool::new(false);
/// Set when it tells a context that the root is no more, or another program.
static HUNG_UP: AtomicBool = AtomicBool::new(false);
/// The word of the current context's doorbell, for that signal's handler.
static OWN_WORD: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());

/// The signal that tells the root of the end of a context: not SIGCHLD, so
/// that the user's own children and handlers are left alone, and no real-time
/// signal: those are lost, or turned into SIGIO, which ends a process, when the
/// user has as many signals pending as RLIMIT_SIGPENDING allows. Nothing else
/// on Linux sends this one (signal(7): "unused").
pub(crate) fn death_signal() -> i32 {
    libc::SIGSTKFLT
}

extern "C" fn on_death(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo. Of the codes that other
    // processes can send with a signal, none is positive.
    if unsafe { (*info).si_code } == POLL_HUP {
        HUNG_UP.store(true, Ordering::Relaxed);
    }
    DEATHS.store(true, Ordering::Release);
    let word = OWN_WORD.load(Ordering::Relaxed);
    if !word.is_null() {
        // SAFETY: points into the context's own bell, which is never unmapped
        // while this is not null; atomics are safe in a signal handler. This
        // context alone writes the word, and its thread is here. An even count
        // says that it is awake, as it will be: a FUTEX_WAIT that is about to
        // begin or to go on finds another count, and returns.
        unsafe {
            if (*word).load(Ordering::Relaxed) & 1 == 1 {
                (*word).fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Installs the handler.
pub(crate) fn install() {
    // SAFETY: installs a handler that touches atomics alone; the struct is
    // fully initialised.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_death as *const () as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO;
        libc::sigaction(death_signal(), &raw const action, std::ptr::null_mut());
    }
}

/// The doorbell that the handler is to keep from sleeping. It stays mapped until
/// there is another one here, or [`forget`].
pub(crate) fn hear(word: *mut AtomicU32) {
    OWN_WORD.store(word, Ordering::Relaxed);
}

/// It is about to be unmapped.
pub(crate) fn unhear(word: *mut AtomicU32) {
    let none = std::ptr::null_mut();
    let _ = OWN_WORD.compare_exchange(word, none, Ordering::Relaxed, Ordering::Relaxed);
}

/// In a new process: the doorbell is not here, and nothing has happened yet.
pub(crate) fn forget() {
    OWN_WORD.store(std::ptr::null_mut(), Ordering::Relaxed);
    DEATHS.store(false, Ordering::Relaxed);
    HUNG_UP.store(false, Ordering::Relaxed);
}

/// Whether somebody may have died.
pub(crate) fn deaths() -> bool {
    DEATHS.load(Ordering::SeqCst)
}

/// The same, and it is seen to now.
pub(crate) fn take_deaths() -> bool {
    deaths() && DEATHS.swap(false, Ordering::Acquire)
}

/// Signals do not queue: there may be more.
pub(crate) fn look_again() {
    DEATHS.store(true, Ordering::Relaxed);
}

/// Whether the root is no more.
pub(crate) fn root_hung_up() -> bool {
    HUNG_UP.load(Ordering::Relaxed)
}

/// Before a wait: the user may have blocked the signal that ends it when a
/// context dies. Changed credentials make the kernel forget the other one,
/// with which a context dies as its root does; then the first tells of
/// that, too.
pub(crate) fn keep_informed() {
    // The kernel's own set, not the C library's: one system call is most
    // of what a switch costs beside the two of the futex.
    let set = 1u64 << (death_signal() - 1);
    // SAFETY: reads the local set, of the size given, and changes the mask.
    unsafe {
        gate::own([
            libc::SYS_rt_sigprocmask as u64,
            libc::SIG_UNBLOCK as u64,
            &raw const set as u64,
            0,
            size_of::<u64>() as u64,
            0,
            0,
        ]);
    }
}
