//! In a snapshot no code of the function's runs: signals would bring it there.
//!
//! An initialiser may have set timers, or asked for signals in other ways. Their handlers
//! are the function's, and a snapshot shares the regions of its copies: it would see each
//! message, in everybody's turn. So all signals wait there but the one that the backend
//! works by, whose handler is the backend's; a copy, which has no timers, takes the mask
//! that the function left.

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// The signal by which the process backend is told of ends, if there is one: Linux's
/// SIGSTKFLT, which nix has no name for among those of all systems.
#[cfg(target_os = "linux")]
const BACKENDS: libc::c_int = libc::SIGSTKFLT;

/// The handler of that signal, before the function was loaded.
pub(super) struct Before(#[cfg(target_os = "linux")] usize);

impl Before {
    pub(super) fn note() -> Self {
        Self(
            #[cfg(target_os = "linux")]
            handler(),
        )
    }

    /// From now on none of the function's code runs by itself. What it had let through,
    /// for its copies.
    ///
    /// # Errors
    /// It took the backend's signal, or the mask cannot be set.
    pub(super) fn alone(&self) -> Result<SigSet, String> {
        let mut all = SigSet::all();
        #[cfg(target_os = "linux")]
        {
            if handler() != self.0 {
                return Err(
                    "its constructors or initialiser took SIGSTKFLT, by which its host is told of ends: use another signal".into(),
                );
            }
            stop_timers();
            all = without(all, BACKENDS);
        }
        let mut old = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut old))
            .map_err(|e| format!("blocking signals: {e}"))?;
        #[cfg(not(target_os = "linux"))]
        let _ = &mut all;
        Ok(old)
    }
}

/// In a copy: as the function left it.
pub(super) fn let_through(mask: &SigSet) {
    // It fails for no set.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None);
}

#[cfg(target_os = "linux")]
fn handler() -> usize {
    // SAFETY: of the struct, zeros are a value; the call fills it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(BACKENDS, std::ptr::null(), &raw mut action);
        action.sa_sigaction
    }
}

#[cfg(target_os = "linux")]
fn without(set: SigSet, signal: libc::c_int) -> SigSet {
    let mut raw: libc::sigset_t = *set.as_ref();
    // SAFETY: a set that is initialised, and a signal that there is.
    unsafe {
        libc::sigdelset(&raw mut raw, signal);
        SigSet::from_sigset_t_unchecked(raw)
    }
}

/// Those of setitimer(2). Others' signals wait for ever.
#[cfg(target_os = "linux")]
fn stop_timers() {
    for which in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
        // SAFETY: of the struct, zeros are a value: no timer. It is read alone.
        unsafe {
            let none: libc::itimerval = std::mem::zeroed();
            libc::setitimer(which, &raw const none, std::ptr::null_mut());
        }
    }
}
