//! What the current context is under, for ever: a trap, a sandbox. Handlers of
//! signals ask, too, so these are atomics.

use crate::backend::process::wire::threads::allowed;
use std::sync::atomic::{AtomicBool, Ordering};

static TRAPPED: AtomicBool = AtomicBool::new(false);
static CONFINED: AtomicBool = AtomicBool::new(false);
static STRICT: AtomicBool = AtomicBool::new(false);
static KEPT: AtomicBool = AtomicBool::new(false);
static UNLIMITED: AtomicBool = AtomicBool::new(false);
static ALONE: AtomicBool = AtomicBool::new(false);
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Whether its system calls are trapped.
pub(crate) fn is_trapped() -> bool {
    TRAPPED.load(Ordering::Relaxed)
}

pub(crate) fn set_trapped() {
    TRAPPED.store(true, Ordering::Relaxed);
}

/// Whether it can be rolled back.
pub(crate) fn is_kept() -> bool {
    KEPT.load(Ordering::Relaxed)
}

pub(crate) fn set_kept() {
    KEPT.store(true, Ordering::Relaxed);
}

/// Whether contexts that it makes show their share of memory, as it has.
pub(crate) fn shows_share() -> bool {
    SHOWN.load(Ordering::Relaxed)
}

pub(crate) fn set_shows_share() {
    SHOWN.store(true, Ordering::Relaxed);
}

/// Whether it is in a sandbox.
pub(crate) fn is_confined() -> bool {
    CONFINED.load(Ordering::Relaxed)
}

/// Whether it is in the strict one.
pub(crate) fn is_strict() -> bool {
    STRICT.load(Ordering::Relaxed)
}

/// Whether it has one thread, and will have: it had one when it entered the strict
/// sandbox, which lets it make none.
pub(crate) fn stays_alone() -> bool {
    ALONE.load(Ordering::Relaxed)
}

pub(crate) fn set_confined(strict: bool, alone: bool) {
    CONFINED.store(true, Ordering::Relaxed);
    STRICT.store(strict, Ordering::Relaxed);
    ALONE.store(strict && alone, Ordering::Relaxed);
}

/// Whether it sleeps on its doorbell without a limit of time alone: in the
/// strict sandbox, but for a root, and a context whose table is one with others
/// and that looks around once a second.
pub(crate) fn sleeps_unlimited() -> bool {
    UNLIMITED.load(Ordering::Relaxed)
}

pub(crate) fn set_unlimited() {
    UNLIMITED.store(true, Ordering::Relaxed);
}

/// Whether it may have any now: a keeper counts them, and the sandbox lets it make
/// these and nothing else.
pub(crate) fn has_threads() -> bool {
    allowed() > 0 && is_kept() && is_strict()
}
