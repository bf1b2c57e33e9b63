//! Where a context was when it faulted, told by the context itself.

use std::sync::atomic::{AtomicPtr, Ordering};

/// Where a fault happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crash {
    /// The signal of the fault; SIGABRT for abort(3) in a sandbox.
    pub signal: i32,
    /// The instruction.
    pub instruction: u64,
    /// The stack's end.
    pub stack: u64,
    /// The frame: where the caller's is, and behind it where the call returns to, in code
    /// that is compiled with frame pointers.
    pub frame: u64,
}

/// A function of [`on_crash`], or null.
static TOLD: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Who is told, in the context itself and just before its end, where the current context,
/// and copies that it makes from now on, were when they faulted, if their creator is told
/// of faults ([`Flags::TRAP_FAULT`](crate::Flags::TRAP_FAULT)).
///
/// `told` runs as a handler of that signal, on the alternate stack where there is one, in
/// a context whose memory may be anyhow: it must do nothing that a handler may not. It
/// need not run, and what it says is as trusted as the rest of the context.
///
/// Process backend on Linux; elsewhere nobody is told.
///
/// # Examples
/// ```
/// lwc::on_crash(|crash| {
///     // Bytes into a region that the creator shares, say.
///     let _ = crash.instruction;
/// });
/// ```
pub fn on_crash(told: fn(&Crash)) {
    TOLD.store(told as *mut (), Ordering::Relaxed);
}

/// Tells whoever wants to know.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))] // nobody sees a fault there
pub(crate) fn tell(crash: &Crash) {
    let told = TOLD.load(Ordering::Relaxed);
    if !told.is_null() {
        // SAFETY: not null, so `on_crash` has put such a function there.
        let told: fn(&Crash) = unsafe { std::mem::transmute(told) };
        told(crash);
    }
}
