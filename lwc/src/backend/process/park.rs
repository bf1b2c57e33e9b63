//! The wait for the baton: the one place where a context does something for
//! others.

use super::owner;
use super::root;
use super::state::mode;
use super::state::runtime::{Got, Runtime};
use super::state::signals;
use super::state::sleep::RING_AGAIN;
use super::wire::pair::{WORDS, kind};
use crate::time::MonotonicTime;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Where one table belongs to several contexts, an end of a channel does not
/// close with the context that it is of: they look around this often instead.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Waits for the baton. Requests are served meanwhile; deaths are seen to
/// if this is the root.
pub(crate) fn park(rt: &mut Runtime, deadline: Option<MonotonicTime>) -> Got {
    // Without a deadline the others are looked at once it is clear that this
    // context goes to sleep.
    let mut all = deadline.is_some();
    loop {
        if signals::take_deaths()
            && let Some(got) = look_around(rt)
        {
            return got;
        }
        let news = if all {
            rt.any_news()
        } else {
            rt.expected_news()
        };
        if let Some(index) = news {
            if let Some(got) = take(rt, index) {
                return got;
            }
            // Who asks and asks keeps nobody from noticing that it is late.
            if deadline.is_some_and(|d| MonotonicTime::now() >= d) {
                return Got::Timeout;
            }
            continue;
        }
        let watch = rt.shared_table || rt.is_nested();
        let heartbeat = watch.then_some(HEARTBEAT);
        let mut limit = match deadline {
            None => heartbeat,
            Some(d) => {
                let now = MonotonicTime::now();
                if now >= d {
                    return Got::Timeout;
                }
                if rt.is_root() && rt.alarm.covers(now, d) {
                    heartbeat
                } else {
                    Some(d.since(now).min(heartbeat.unwrap_or(Duration::MAX)))
                }
            }
        };
        all = true;
        if rt.ring_again() {
            if mode::sleeps_unlimited() {
                rt.ring_on();
                continue;
            }
            limit = Some(limit.unwrap_or(RING_AGAIN).min(RING_AGAIN));
        }
        // Only now: with both sides on one processor the answer is mostly
        // there before the one who asked comes to wait. In the sandbox neither
        // the credentials change nor is there anything to be told: with its root
        // it dies by the kernel's doing.
        if rt.is_root() || !mode::is_strict() {
            signals::keep_informed();
        }
        let slept = rt.sleep(limit, true, Runtime::any_news);
        if watch && slept {
            signals::look_again();
        }
    }
}

/// Takes one message if there is one: a baton, an end, or a request, which
/// is answered here and now.
fn take(rt: &mut Runtime, index: usize) -> Option<Got> {
    let (seq, kind) = rt.news(index)?;
    rt.looked = index;
    let not_root = !rt.is_root();
    let c = rt.channels[index].as_mut()?;
    c.seen = seq;
    let half = &c.pair.halves[1 - c.side];
    let count = (half.count.load(Ordering::Relaxed) as usize).min(WORDS);
    // The root sees to it that who says that it is no more is no more.
    let last = kind == kind::LAST_BATON;
    let departs = (last && !not_root && c.verified).then_some(c.peer);
    let got = match kind {
        kind::BATON | kind::LAST_BATON => Got::Baton {
            // Of one that was introduced it is told in any case: who it is does not
            // matter less because it says that it goes.
            from: (!last || c.introduced).then_some(index),
            words: half.take_some_words(count),
            count,
        },
        kind::CALL if c.trap.supervised => Got::Called {
            from: index,
            words: half.take_words(),
        },
        // From one whose calls are not ours it is a switch like any other.
        kind::CALL => Got::Baton {
            from: Some(index),
            words: half.take_some_words(count),
            count,
        },
        kind::TRAP if index == 0 && not_root => Got::Ended {
            words: half.take_words(),
            count,
        },
        kind::REQUEST => {
            // Who asks and asks is one of all.
            rt.expected = None;
            owner::answer::serve(rt, index);
            return None;
        }
        // An answer nobody waits for any more, or nothing: who says it all the time is
        // one of all, too.
        _ => {
            rt.expected = None;
            return None;
        }
    };
    rt.bell.receive();
    rt.has_come(index);
    if let Some(id) = departs {
        root::end::depart(rt, id);
    }
    Some(got)
}

/// The signal has come: somebody has died or replaced its program.
fn look_around(rt: &mut Runtime) -> Option<Got> {
    if rt.is_root() {
        let got = root::end::reap(rt);
        if got.is_some() {
            // Signals do not queue: there may be more.
            signals::look_again();
        } else {
            root::end::follow_exec(rt);
        }
        return got;
    }
    // SAFETY: getppid has no preconditions.
    let orphan = unsafe { libc::getppid() } != rt.root_pid || rt.line_is_cut();
    if orphan || signals::root_hung_up() {
        // SAFETY: the process this context belongs to is gone.
        unsafe { libc::_exit(0) };
    }
    None
}
