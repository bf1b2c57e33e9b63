//! Whether contexts wait to be switched to, all of them at one moment, by the
//! kernel's word.
//!
//! To ask one after the other would not do: two hostile ones that can wake each
//! other would take turns, and whoever is asked about would always be asleep.
//! So each that sleeps is held where it is: the kernel moves it from its doorbell
//! to a word of the root's own memory, where nobody else can wake it, and says
//! whether there was somebody to move. In the sandbox a context can sleep on
//! that doorbell alone ([`super::confine`]), has no timer and gets no signal but
//! from its root. Once the last one has been asked about, all that are held have
//! been asleep together; then they are moved back.
//!
//! One that has just handed over is on its way to sleep, and on a busy machine
//! it may be some time before it gets there. How much of the processor's time it
//! uses meanwhile tells it from one that goes on running, and that it sleeps, but
//! elsewhere, from both. Between two looks nobody is held: whoever is at work may
//! want to wake one, and goes on ringing as long as the root looks
//! ([`Runtime::ring_on`]).
//!
//! One that is seen asleep is on its way again when it is next seen awake: a
//! neighbour that runs on may wake it as often as it likes.

use super::parking::{time_of, waits};
use crate::backend::process::ask::alive;
use crate::backend::process::guard::Guard;
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::state::signals;
use crate::backend::process::wire::bell::PeerBell;
use crate::error::{Error, Result};
use crate::time::MonotonicTime;
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

const CALL: &str = "parked";

/// So much of the processor one may use on its way to sleep. It takes some
/// microseconds; but on a virtual machine what its host takes for others is
/// counted as well.
const RUNS: Duration = Duration::from_millis(5);
/// And so much however often it was seen asleep meanwhile: two hostile ones could
/// wake each other for ever.
const RUNS_IN_ALL: Duration = Duration::from_millis(50);
/// One that still sleeps elsewhere after this long does not mean to come. Those
/// who ring somebody that does not wake sleep in between, for a while.
const DAWDLES: Duration = Duration::from_millis(100);
/// The same of one that rings another, by its own word.
const RINGS: Duration = Duration::from_millis(300);
/// The machine is too busy for anybody to be told from anybody.
const LONGEST: Duration = Duration::from_secs(5);
/// Looks at one that is on another processor, perhaps, and there in a moment.
const LOOKS: u32 = 8;
/// Then the processor is given up to one that waits for it: on a busy machine
/// others may have it first, for milliseconds, so that this is not done often.
const YIELDS: u32 = 2;
/// Between two looks, once these have shown that it takes longer.
const PAUSE: Duration = Duration::from_micros(50);

/// A context that is asked about.
struct Asked {
    channel: usize,
    pid: i32,
    /// Where it is held.
    place: AtomicU32,
    held: bool,
    /// What it had used of the processor when it was first found awake, and when
    /// it was since it was last seen asleep.
    first: Option<Duration>,
    since: Option<Duration>,
    /// It does not mean to sleep, or is dead.
    given_up: bool,
}

/// Whether each of these contexts is parked. Each is asked once unless `wait`.
pub(crate) fn parked_together(of: &[RawFd], wait: bool) -> Result<Vec<bool>> {
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    if !rt.is_root() {
        return Err(Error::new(
            CALL,
            Errno::EPERM,
            "only the root can ask who is parked, on the process backend",
        ));
    }
    let mut all = Vec::with_capacity(of.len());
    for &desc in of {
        let channel = rt.find(CALL, desc)?;
        let dead = alive(rt, CALL, channel).is_err();
        let peer = rt.channel(channel).map_or(0, |c| c.peer);
        all.push(Asked {
            channel,
            pid: rt.book.as_ref().and_then(|b| b.pid(peer)).unwrap_or(0),
            place: AtomicU32::new(0),
            held: false,
            first: None,
            since: None,
            given_up: dead,
        });
    }
    let begun = MonotonicTime::now();
    for look in 1.. {
        look_at_all(rt, &mut all);
        if signals::deaths() {
            // One that has died meanwhile does not come to rest.
            for a in all.iter_mut().filter(|a| !a.held) {
                a.given_up |= alive(rt, CALL, a.channel).is_err();
            }
        }
        let mut awake = all.iter_mut().filter(|a| !a.held && !a.given_up).peekable();
        if awake.peek().is_none() || !wait {
            break;
        }
        if look <= LOOKS + YIELDS {
            if look > LOOKS {
                std::thread::yield_now();
            }
            continue;
        }
        let waited = begun.elapsed();
        for a in awake {
            let rings = a.bell(rt).is_some_and(PeerBell::is_ringing);
            let dawdles = if rings { RINGS } else { DAWDLES };
            a.given_up = a.is_hopeless(waited, dawdles);
        }
        std::thread::sleep(PAUSE);
    }
    if all.iter().any(|a| !a.held) {
        // One that was awake may have rung another in vain while that one was
        // held, and does not ring for ever.
        let held = all.iter().filter(|a| a.held);
        held.filter_map(|a| a.bell(rt)).for_each(PeerBell::wake);
    }
    Ok(all.iter().map(|a| a.held).collect())
}

/// One look, at one moment: when the last one has been asked about.
fn look_at_all(rt: &Runtime, all: &mut [Asked]) {
    rt.bell.look();
    for a in &mut *all {
        a.held = a.bell(rt).is_some_and(|bell| bell.hold(&a.place));
        if a.held {
            a.since = None;
        }
    }
    for a in all.iter().filter(|a| a.held) {
        if let Some(bell) = a.bell(rt) {
            bell.release(&a.place);
        }
    }
    rt.bell.look();
}

impl Asked {
    fn bell<'a>(&self, rt: &'a Runtime) -> Option<&'a PeerBell> {
        Some(&rt.channels.get(self.channel)?.as_ref()?.peer_bell)
    }

    /// Whether one that is found awake does not mean to sleep.
    fn is_hopeless(&mut self, waited: Duration, dawdles: Duration) -> bool {
        let Some(used) = time_of(self.pid) else {
            return true;
        };
        let first = *self.first.get_or_insert(used);
        let since = *self.since.get_or_insert(used);
        used.saturating_sub(since) > RUNS
            || used.saturating_sub(first) > RUNS_IN_ALL
            || waited > LONGEST
            || waited > dawdles && waits(self.pid)
    }
}
