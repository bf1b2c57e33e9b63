//! A timer that is set once for many waits.
//!
//! A wait with a limit makes the system set a timer and take it away, each
//! time: a tenth of a switch. A root that waits again and again, a moment
//! each, for as long as the same few seconds at most, has a timer of its own
//! instead. It is left as it is while it goes off no later than a wait may
//! last, and set anew once it has. It tells of itself as the death of a
//! context does: the root wakes and looks around.

use super::signals::death_signal;
use crate::time::MonotonicTime;
use std::time::Duration;

/// Shorter waits have a limit of their own: for them the timer would go off
/// all the time.
const SHORTEST: Duration = Duration::from_millis(100);

thread_local! {
    static HERE: u8 = const { 0 };
}

/// Tells the calling thread from others.
fn here() -> usize {
    HERE.with(|h| std::ptr::from_ref(h) as usize)
}

/// The timer of a root, made when it is first needed.
#[derive(Default)]
pub(crate) struct Alarm {
    timer: Option<libc::timer_t>,
    /// Whom it wakes: a thread.
    whom: usize,
    /// When it goes off.
    at: Option<MonotonicTime>,
    /// It cannot be had.
    refused: bool,
}

impl Alarm {
    /// Whether the timer goes off by `due`, so that a wait needs no limit.
    pub(crate) fn covers(&mut self, now: MonotonicTime, due: MonotonicTime) -> bool {
        if self.whom == here() && self.at.is_some_and(|at| at > now && at <= due) {
            return true;
        }
        let left = due.since(now);
        if left < SHORTEST || self.refused {
            return false;
        }
        if self.set(left) {
            self.at = Some(due);
            return true;
        }
        self.refused = true;
        false
    }

    fn set(&mut self, left: Duration) -> bool {
        // SAFETY: both structs are plain and initialised, the timer is ours;
        // the calls write to nothing else.
        unsafe {
            let timer = match self.timer {
                Some(timer) if self.whom == here() => timer,
                other => {
                    if let Some(other) = other {
                        libc::timer_delete(other);
                        self.timer = None;
                    }
                    let mut event: libc::sigevent = std::mem::zeroed();
                    event.sigev_notify = libc::SIGEV_THREAD_ID;
                    event.sigev_notify_thread_id = libc::gettid();
                    event.sigev_signo = death_signal();
                    let mut timer = std::mem::zeroed();
                    let clock = libc::CLOCK_MONOTONIC;
                    if libc::timer_create(clock, &raw mut event, &raw mut timer) != 0 {
                        return false;
                    }
                    self.whom = here();
                    *self.timer.insert(timer)
                }
            };
            let mut once: libc::itimerspec = std::mem::zeroed();
            once.it_value.tv_sec = left.as_secs() as libc::time_t;
            once.it_value.tv_nsec = libc::c_long::from(left.subsec_nanos());
            libc::timer_settime(timer, 0, &raw const once, std::ptr::null_mut()) == 0
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            // SAFETY: our own timer, of which nothing is left.
            unsafe { libc::timer_delete(timer) };
        }
    }
}
