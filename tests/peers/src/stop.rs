//! Signals that end a run: noted, so that the servers, which would not get a
//! terminal's signal, are ended on the way out.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    ASKED.store(true, Ordering::Relaxed);
}

/// From now on SIGHUP, SIGINT and SIGTERM are noted.
pub fn listen() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        let handler = note as extern "C" fn(libc::c_int);
        // SAFETY: the handler does nothing but store to an atomic.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// An error once such a signal came.
pub fn check() -> Result<(), String> {
    if ASKED.load(Ordering::Relaxed) {
        return Err("stopped by a signal".into());
    }
    Ok(())
}
