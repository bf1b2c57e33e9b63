//! What one did that was switched to and rung.

use crate::life::chain::Contexts;
use crate::life::error::{Cause, EndText};
use lwc::{Errno, Handle, MonotonicTime, Rest};
use std::time::Duration;

/// What is there is taken, and nothing is waited for.
pub(super) const AT_ONCE: MonotonicTime = MonotonicTime::from_nanos(0);

/// When the root looks again at one that it has switched to, where it does not answer.
pub(super) const NUDGE: Duration = Duration::from_millis(20);
/// Of one that has not done what it was switched to for, though it had all that it takes:
/// it came to rest, or used the processor for long. It may have been on its way to
/// sleep when it was rung, and on a virtual machine time that the machine's host has
/// taken counts as its own.
pub(super) const STRIKES: u32 = 3;
/// One that still had not so much of a processor says nothing about itself: the machine
/// is too busy.
const STARVES: Duration = Duration::from_secs(2);

impl Contexts {
    /// How one rests that has been switched to and rung, and was to do something: what
    /// counts against it if it has not done that; and whether it had no processor for
    /// it.
    pub(super) fn strikes(&self, copy: Handle) -> (u32, bool) {
        let asked = MonotonicTime::now();
        let rest = lwc::come_to_rest(&[copy], asked);
        if asked.elapsed() > STARVES {
            return (0, true);
        }
        let rest = rest.ok().and_then(|rests| rests.first().copied());
        match rest {
            Some(Rest::Parked | Rest::Threads | Rest::Awake) => (1, false),
            // It may wait for the root's answer, once.
            Some(Rest::Elsewhere) | None => (2, false),
        }
    }

    /// Why the root cannot switch to a step's copy.
    pub(super) fn cannot_switch(&self, i: usize, e: lwc::Error) -> Cause {
        let copy = self.steps[i].copy.as_ref();
        match (copy.and_then(|c| c.parked().err()), e.errno()) {
            (Some(ended), _) => Cause::Ended(EndText::found_dead(&ended)),
            // By a word of its own.
            (None, Errno::EBUSY | Errno::ESRCH) => {
                Cause::Misbehaved(format!("nobody can switch to it: {e}"))
            }
            (None, _) => Cause::Backend(e),
        }
    }
}
