//! Whether a context that is not asleep on its doorbell is about to be.
//!
//! Time by the clock does not tell: on a loaded machine an honest context waits
//! for a processor as long as others have it. So the root looks at the time that
//! the *context* has had since, and whether it runs or waits elsewhere, both the
//! kernel's word.

use crate::backend::process::state::processor::{Dawdling, Running, time_of};
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::wire::bell::PeerBell;
use crate::time::MonotonicTime;
use std::time::Duration;

/// How long one that cannot be looked at may take, and anybody at all.
const UNSEEN: Duration = Duration::from_millis(200);
const AT_ALL: Duration = Duration::from_secs(10);

/// How often to look.
const GLANCE: Duration = Duration::from_micros(50);

/// Whether a channel's peer sleeps on its doorbell, or is about to.
pub(crate) fn parks(rt: &Runtime, index: usize) -> bool {
    let Some(c) = rt.channels.get(index).and_then(Option::as_ref) else {
        return false;
    };
    let pid = rt.book.as_ref().and_then(|b| b.pid(c.peer));
    c.peer_bell.is_asleep() || falls_asleep(&c.peer_bell, pid)
}

/// Waits until it sleeps there, or it is clear that it does not mean to.
fn falls_asleep(bell: &PeerBell, pid: Option<i32>) -> bool {
    let since = MonotonicTime::now();
    let mut running = Running::default();
    let had = pid.and_then(time_of).map(|had| running.is_clear(had));
    let mut dawdling = Dawdling::default();
    // It is on another processor, perhaps, and there in a moment.
    for _ in 0..100 {
        if bell.is_asleep() {
            return true;
        }
        std::hint::spin_loop();
    }
    loop {
        std::thread::sleep(GLANCE);
        if bell.is_asleep() {
            return true;
        }
        let waited = since.elapsed();
        let limit = match (pid, had) {
            (Some(pid), Some(_)) => {
                if time_of(pid).is_none_or(|has| running.is_clear(has)) {
                    return false;
                }
                if dawdling.is_clear(bell, pid) {
                    return false;
                }
                AT_ALL
            }
            _ => UNSEEN,
        };
        if waited > limit {
            return false;
        }
    }
}
