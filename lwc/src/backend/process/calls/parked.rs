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
//! One that may have threads is asked about them while it is held, and is not parked if
//! there is one.
//!
//! One that has just handed over is on its way to sleep, and on a busy machine
//! it may be some time before it gets there. How much of the processor's time it
//! uses meanwhile tells it from one that goes on running, and that it sleeps, but
//! elsewhere, from both. Between two looks nobody is held: whoever is at work may
//! want to wake one, and goes on ringing as long as the root looks
//! ([`Runtime::ring_on`]). The root wakes nobody who could not be woken without it:
//! one that is hostile, and lies in wait, would run in another's time.
//!
//! Where several do not come to rest, and know each other, some may be kept from it by
//! others, awake or with messages. They are stopped, and each goes on alone.
//!
//! One that is seen asleep is on its way again when it is next seen awake: a
//! neighbour that runs on may wake it as often as it likes.

use crate::backend::answers::Rest;
use crate::backend::process::ask::alive;
use crate::backend::process::guard::Guard;
use crate::backend::process::root::baton::baton;
use crate::backend::process::state::processor::{Dawdling, Running, threads_of, time_of};
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

/// How often those that do not rest are told apart: who rests while it is alone may
/// run on afterwards.
const ROUNDS: u32 = 3;
/// The machine is too busy for anybody to be told from anybody: who had a processor has
/// used it, or waited elsewhere, for less than it may.
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
    id: u64,
    pid: i32,
    /// Where it is held.
    place: AtomicU32,
    held: bool,
    /// It may have threads, and those beside the one that is held were seen so.
    threads: Threads,
    /// What it has used of the processor.
    running: Running,
    /// How long it was somewhere else.
    dawdling: Dawdling,
    /// It does not mean to sleep, or is dead.
    given_up: Option<Rest>,
}

/// Threads of a context beside the one that may be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Threads {
    /// It may have none, so it has none.
    Never,
    /// There is none.
    None,
    /// All of them wait for something.
    Wait,
    /// One runs, or is about to end, or has and is yet to be collected.
    Run,
}

impl Threads {
    /// What the kernel says, where it may have some. While the one that sleeps is held
    /// nobody wakes it: so if there is no other there will be none.
    fn look(self, pid: i32) -> Self {
        if self == Self::Never {
            return self;
        }
        // That there is none is said by one number alone. A list is made of one after the
        // other, and is at its end where one of them ends meanwhile: threads of which each
        // makes the next would be on none.
        match threads_of(pid) {
            Some(1) => Self::None,
            Some(_) if all_wait(pid) => Self::Wait,
            _ => Self::Run,
        }
    }

    fn are_there(self) -> bool {
        matches!(self, Self::Wait | Self::Run)
    }

    /// Whether they are there to stay, after so long. One that has been joined has done
    /// all but the end of its last system call.
    fn stay(self, waited: Duration) -> bool {
        match self {
            Self::Wait => waited > Duration::from_millis(2),
            Self::Run => waited > Duration::from_millis(100),
            _ => false,
        }
    }
}

/// Whether all threads of a process but its first are seen to wait for something; at
/// least one is.
fn all_wait(pid: i32) -> bool {
    let Ok(all) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let mut seen = false;
    for thread in all {
        let Ok(thread) = thread else {
            return false;
        };
        if thread.file_name().as_encoded_bytes() == pid.to_string().as_bytes() {
            continue;
        }
        // "pid (comm) state …"; comm may hold anything.
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        if !state.is_some_and(|s| s.starts_with('S')) {
            return false;
        }
        seen = true;
    }
    seen
}

/// Whether each of these contexts is parked. Each is asked once unless `wait`.
pub(crate) fn parked_together(of: &[RawFd], wait: bool) -> Result<Vec<bool>> {
    let rests = rests(of, wait, false, MonotonicTime::now())?;
    Ok(rests.into_iter().map(|r| r == Rest::Parked).collect())
}

/// How each of these comes to rest, where they have been on their way since then. What
/// one hands over to another meanwhile may be found late.
pub(crate) fn come_to_rest(of: &[RawFd], since: MonotonicTime) -> Result<Vec<Rest>> {
    rests(of, true, true, since)
}

fn rests(of: &[RawFd], wait: bool, apart: bool, begun: MonotonicTime) -> Result<Vec<Rest>> {
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
            id: peer,
            pid: rt.book.as_ref().and_then(|b| b.pid(peer)).unwrap_or(0),
            place: AtomicU32::new(0),
            held: false,
            threads: match rt.channel(channel).is_some_and(|c| c.threads) {
                true => Threads::None,
                false => Threads::Never,
            },
            running: Running::default(),
            dawdling: Dawdling::default(),
            given_up: dead.then_some(Rest::Elsewhere),
        });
    }
    come_in(rt, &mut all, wait, begun);
    if apart {
        tell_apart(rt, &mut all);
    }
    ring_for_those_awake(rt, &all);
    ring_for_the_baton(rt, &all);
    let rest = |a: &Asked| match a.given_up {
        _ if a.held => Rest::Parked,
        given_up => given_up.unwrap_or(Rest::Awake),
    };
    Ok(all.iter().map(rest).collect())
}

/// Looks until all have come to rest, or do not mean to; or once, unless `wait`.
fn come_in(rt: &mut Runtime, all: &mut [Asked], wait: bool, begun: MonotonicTime) {
    for look in 1.. {
        look_at_all(rt, all);
        if signals::deaths() {
            // One that has died meanwhile does not come to rest.
            for a in all.iter_mut().filter(|a| !a.held) {
                if alive(rt, CALL, a.channel).is_err() {
                    a.given_up = Some(Rest::Elsewhere);
                }
            }
        }
        let mut awake = all.iter_mut().filter(|a| a.is_awaited()).peekable();
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
            a.given_up = a.hopeless(rt, waited);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Of several that do not come to rest one may keep the others from it, that know it.
/// So they are stopped, all that do not rest, and each goes on alone: with nobody to
/// wake it an honest one comes to rest. Those that do not stay stopped until all have
/// been seen.
///
/// One that is stopped on its way to sleep is rung in vain and sleeps then: so this is
/// for those who have nothing to hand over, or where the root sees to it afterwards.
fn tell_apart(rt: &mut Runtime, all: &mut [Asked]) {
    let mut seen: Vec<u64> = Vec::new();
    for _ in 0..ROUNDS {
        let runs = |a: &Asked| !a.held && a.given_up == Some(Rest::Awake);
        let running: Vec<u64> = all.iter().filter(|a| runs(a)).map(|a| a.id).collect();
        let others = running.iter().any(|id| !seen.contains(id));
        if !others || !all.iter().any(|a| runs(a) && is_known(rt, all, a.id)) {
            break;
        }
        for a in all.iter().filter(|a| !a.held) {
            a.signal(rt, libc::SIGSTOP);
        }
        seen.clear();
        for a in all.iter_mut().filter(|a| running.contains(&a.id)) {
            a.begin_anew();
            a.given_up = None;
            a.signal(rt, libc::SIGCONT);
            let begun = MonotonicTime::now();
            come_in(rt, std::slice::from_mut(a), true, begun);
            if !a.held {
                seen.push(a.id);
                a.signal(rt, libc::SIGSTOP);
            }
        }
        // All at one moment: who has come to rest may have woken another before.
        for a in all.iter_mut() {
            a.begin_anew();
        }
        come_in(rt, all, true, MonotonicTime::now());
        for a in all.iter().filter(|a| !a.held) {
            a.signal(rt, libc::SIGCONT);
        }
    }
}

/// Whether another of those that do not rest has been introduced to this one.
fn is_known(rt: &Runtime, all: &[Asked], id: u64) -> bool {
    let entry = rt.book.as_ref().and_then(|b| b.entries.get(&id));
    let by = |a: &Asked| a.id != id && entry.is_some_and(|e| e.holders.contains_key(&a.id));
    all.iter().any(|a| !a.held && by(a))
}

/// One that is awake may have rung, in vain while that one was held, the one that
/// it has handed over to, and does not ring for ever. It says so itself: but whom it
/// holds it could wake as well.
fn ring_for_those_awake(rt: &Runtime, all: &[Asked]) {
    for a in all.iter().filter(|a| !a.held) {
        let Some((to, had)) = a.bell(rt).and_then(|bell| bell.baton().went_to) else {
            continue;
        };
        let entry = rt.book.as_ref().and_then(|b| b.entries.get(&to));
        if !entry.is_some_and(|e| e.holders.contains_key(&a.id)) {
            continue;
        }
        let given = all.iter().filter(|b| b.held && b.id == to);
        let bells = given.filter_map(|b| b.bell(rt));
        bells
            .filter(|bell| bell.baton().received == had)
            .for_each(PeerBell::wake);
    }
}

/// The one that the baton is on its way to may have been rung in vain, by one that
/// sleeps now. It is found by following the doorbells from the root on: nobody is
/// woken whose turn has not come by the word of those before.
fn ring_for_the_baton(rt: &Runtime, all: &[Asked]) {
    let (at, had) = baton(rt);
    let on_its_way = all.iter().filter(|a| a.held && a.id == at);
    on_its_way
        .filter_map(|a| a.bell(rt))
        .filter(|bell| bell.baton().received == had)
        .for_each(PeerBell::wake);
}

/// One look, at one moment: when the last one has been asked about.
fn look_at_all(rt: &Runtime, all: &mut [Asked]) {
    rt.bell.look();
    for a in &mut *all {
        a.held = a.bell(rt).is_some_and(|bell| bell.hold(&a.place));
    }
    for a in all.iter_mut().filter(|a| a.held) {
        a.threads = a.threads.look(a.pid);
        if !a.threads.are_there() {
            a.running.pause();
            a.dawdling.pause();
        }
    }
    for a in all.iter().filter(|a| a.held) {
        if let Some(bell) = a.bell(rt) {
            bell.release(&a.place);
        }
    }
    for a in all.iter_mut() {
        a.held &= !a.threads.are_there();
    }
    rt.bell.look();
}

impl Asked {
    fn bell<'a>(&self, rt: &'a Runtime) -> Option<&'a PeerBell> {
        Some(&rt.channels.get(self.channel)?.as_ref()?.peer_bell)
    }

    /// Stops its process, or lets it go on. None that is dead: its number may be
    /// another's.
    fn signal(&self, rt: &Runtime, signal: libc::c_int) {
        let channel = rt.channels.get(self.channel).and_then(Option::as_ref);
        if self.pid > 0 && channel.is_some_and(|c| !c.peer_dead()) {
            // SAFETY: kill has no preconditions. The process is a child that nobody
            // has waited for, as the book has it.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    /// What it has done so far does not count any more.
    fn begin_anew(&mut self) {
        self.running = Running::default();
        self.dawdling = Dawdling::default();
    }

    fn is_awaited(&self) -> bool {
        !self.held && self.given_up.is_none()
    }

    /// How one that is found awake rests, if it does not mean to sleep.
    fn hopeless(&mut self, rt: &Runtime, waited: Duration) -> Option<Rest> {
        let channel = rt.channels.get(self.channel).and_then(Option::as_ref);
        let (Some(used), Some(c)) = (time_of(self.pid), channel) else {
            return Some(Rest::Elsewhere);
        };
        let runs = self.running.is_clear(used);
        if self.threads.are_there() {
            let stay = runs || self.threads.stay(waited);
            return stay.then_some(Rest::Threads);
        }
        if self.dawdling.is_clear(&c.peer_bell, self.pid) {
            return Some(Rest::Elsewhere);
        }
        (runs || waited > LONGEST).then_some(Rest::Awake)
    }
}
