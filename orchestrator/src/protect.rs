//! What gateway, worker and programs that make contexts do for themselves,
//! before they have anything to protect.

use crate::life::untraced;
use nix::sys::signal::{SigHandler, Signal, signal};
use std::io;

/// Makes this process one that others of the same user cannot look into, that
/// leaves no core, and that no signal ends which the kernel may send for what
/// a function or a caller does.
///
/// # Errors
/// What the system says.
pub(crate) fn this_process() -> io::Result<()> {
    untraced::forbid()?;
    no_core()?;
    ignore_notices()
}

/// A core would hold what [`untraced`] keeps from others. On Linux a process
/// that is not dumpable leaves none; contexts and compilers inherit the limit.
fn no_core() -> io::Result<()> {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// Signals that the kernel sends as notices of something else, and that end or
/// stop a process which has not asked for them. None is expected here: what
/// they tell of is told by the call that it happens to, and signals that the
/// process backend uses get their handler when the first context is made.
///
/// * SIGPIPE, SIGXFSZ: a write to a reader that is gone, or beyond a limit of
///   files: a function that floods the log makes its worker write.
/// * SIGTTOU, SIGTTIN: the same on a terminal that wants no background output.
/// * SIGIO and real-time signals: a descriptor with `O_ASYNC` is ready. SIGIO
///   comes instead of a real-time signal when the user's queue of signals is
///   full, whichever process has filled it.
/// * SIGURG, SIGWINCH are ignored anyway; SIGALRM, SIGVTALRM and SIGPROF tell of
///   timers, of which this process has none that uses them.
fn ignore_notices() -> io::Result<()> {
    let notices = [
        Signal::SIGPIPE,
        Signal::SIGXFSZ,
        Signal::SIGTTOU,
        Signal::SIGTTIN,
        Signal::SIGIO,
        Signal::SIGURG,
        Signal::SIGALRM,
        Signal::SIGVTALRM,
        Signal::SIGPROF,
    ];
    for notice in notices {
        // SAFETY: no handler is installed, the signal is ignored.
        unsafe { signal(notice, SigHandler::SigIgn) }?;
    }
    #[cfg(target_os = "linux")]
    for number in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        // SAFETY: as above; nix knows no real-time signals.
        if unsafe { libc::signal(number, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
