//! Copies are introduced to their neighbours.
//!
//! A copy that is made anew is introduced to its neighbours, which may have served and
//! be hostile, while other chains of this worker wait. Whoever is asked for something
//! then has, as above, as much as it needs of a processor, and is waited for as long as it
//! has had no chance of that; the error names the one that did not answer, which goes,
//! and no other ([`lwc::Error::party`]). All that has a time together
//! ([`LINKS`]), after which nobody is replaced any more, but the request fails.

use super::strikes::{AT_ONCE, NUDGE, STRIKES};
use crate::life::chain::{Contexts, NOT_TRAPPED};
use crate::life::error::{Cause, EndText};
use crate::life::snapshot::word;
use crate::life::waiting::Wait;
use lwc::{Errno, Event, Handle, MonotonicTime, Party, State};
use std::time::Duration;

/// How long a copy may take to note who its neighbours are, if all that time others
/// have the processors.
const LINK_TIMEOUT: Duration = Duration::from_secs(5);
/// So long copies are replaced that do not take their neighbours, beside the time that
/// it takes to make new ones: others wait for their requests meanwhile. Then the request
/// fails at the next one that does not.
const LINKS: Duration = Duration::from_millis(300);

fn does_not_rest() -> Cause {
    Cause::Misbehaved("its context does not come to rest".into())
}

/// Why it is one of two that could not be introduced to each other.
fn takes_none_of_them(e: &lwc::Error) -> Cause {
    if e.errno() == Errno::ESRCH {
        return Cause::Ended(EndText::found_dead(e));
    }
    Cause::Misbehaved(format!("it does not take neighbours: {e}"))
}

/// The time that goes by while neighbours are introduced.
struct LinkTime {
    begun: MonotonicTime,
    /// What of it was for making copies.
    copies: Duration,
}

impl LinkTime {
    fn new() -> Self {
        Self {
            begun: MonotonicTime::now(),
            copies: Duration::ZERO,
        }
    }

    fn is_over(&self) -> bool {
        self.begun.elapsed().saturating_sub(self.copies) > LINKS
    }

    /// Whether one more copy may be replaced, this step's: not the same one again, and
    /// on a busy machine one at least, for it may have taken that long.
    fn allows(&self, i: usize, replaced: &mut Vec<usize>) -> bool {
        if replaced.contains(&i) || !replaced.is_empty() && self.is_over() {
            return false;
        }
        replaced.push(i);
        true
    }
}

impl Contexts {
    /// As [`settle`](Self::settle), and nobody takes over from now on.
    pub(in crate::life) fn settle_relay(&mut self) {
        if !self.settled {
            self.withdraw();
        }
        self.settle();
    }

    /// Introduces the copies to their neighbours, if these are not the ones
    /// they know.
    pub(in crate::life) fn link(&mut self) -> Result<(), (usize, Cause)> {
        self.link_within(&mut LinkTime::new())
    }

    /// A copy that has served may be hostile and not answer, or its table has no room:
    /// it goes, and the others stay. A fresh one that does the same has learnt it from
    /// its function's initialiser, and the request fails there.
    fn link_within(&mut self, time: &mut LinkTime) -> Result<(), (usize, Cause)> {
        let mut replaced: Vec<usize> = Vec::new();
        while !self.linked {
            let copies = self.all_ready(time)?;
            let done = (0..copies.len()).try_for_each(|i| self.link_step(i, &copies));
            if let Err((i, cause)) = done {
                self.retire(i);
                if !time.allows(i, &mut replaced) {
                    return Err((i, cause));
                }
                continue;
            }
            self.linked = true;
            self.settled = false;
            // One may have acted out of turn meanwhile, and been ended for it.
            if let Some(i) = self.line().iter().position(|s| s.copy.is_none()) {
                self.linked = false;
                if !time.allows(i, &mut replaced) {
                    return Err((i, does_not_rest()));
                }
            }
        }
        // Those that have just answered are on their way to sleep.
        self.settle_relay();
        Ok(())
    }

    fn all_ready(&mut self, time: &mut LinkTime) -> Result<Vec<Handle>, (usize, Cause)> {
        let begun = MonotonicTime::now();
        let all = 0..self.line().len();
        let copies = all.map(|i| self.ready(i).map_err(|cause| (i, cause)));
        let copies = copies.collect();
        time.copies += begun.elapsed();
        copies
    }

    /// Whose fault it is if it fails, and why.
    fn link_step(&mut self, i: usize, copies: &[Handle]) -> Result<(), (usize, Cause)> {
        let copy = copies[i];
        let mut names = [word::NOBODY; 2];
        for (at, neighbour) in [(0, i.checked_sub(1)), (1, Some(i + 1))] {
            let neighbour = neighbour.and_then(|j| Some((j, *copies.get(j)?)));
            if let Some((j, neighbour)) = neighbour {
                names[at] = copy.introduce(neighbour).map_err(|e| {
                    let dead = |h: Handle| h.info().is_ok_and(|info| info.state == State::Dead);
                    let (other, cause) = match e.party() {
                        None => (dead(neighbour), Cause::Backend(e)),
                        Some(party) => (party == Party::Other, takes_none_of_them(&e)),
                    };
                    (if other { j } else { i }, cause)
                })?;
            }
        }
        self.steps[i]
            .control
            .put_timeout(self.steps[i].function.timeout);
        self.tell_neighbours(i, copy, names)
            .map_err(|cause| (i, cause))
    }

    /// Tells a copy by which words it knows its neighbours. Where contexts are processes
    /// a hostile one may do anything but answer, while others wait for their requests:
    /// it has as long as it takes to have had what it needs of a processor.
    fn tell_neighbours(
        &mut self,
        i: usize,
        copy: Handle,
        [before, after]: [u64; 2],
    ) -> Result<(), Cause> {
        let number = self.nonce();
        let words = [word::LINK, before, after, number];
        let taken = |args: &[u64]| args.starts_with(&[word::DONE, number]);
        let refused = || Cause::Misbehaved("it does not take neighbours".into());
        self.counts.switches += 1;
        if !self.apart {
            let reply = self.call(i, copy, &words, MonotonicTime::now() + LINK_TIMEOUT)?;
            return taken(&reply).then_some(()).ok_or_else(refused);
        }
        let (begun, mut strikes) = (MonotonicTime::now(), 0);
        while strikes < STRIKES && begun.elapsed() < LINK_TIMEOUT {
            let soon = MonotonicTime::now() + NUDGE;
            let event = copy.switch_until(&words, soon);
            if self.hears_of(i, copy, event, soon, taken)? {
                return Ok(());
            }
            let (more, _) = self.strikes(copy);
            strikes += more;
            // What it has said is there before it is seen to rest.
            let event = lwc::await_switch(AT_ONCE);
            if self.hears_of(i, copy, event, AT_ONCE, taken)? {
                return Ok(());
            }
        }
        Err(refused())
    }

    /// Whether a step's copy says that, beside all else that comes until then.
    fn hears_of(
        &mut self,
        i: usize,
        copy: Handle,
        mut event: lwc::Result<Event>,
        until: MonotonicTime,
        what: impl Fn(&[u64]) -> bool,
    ) -> Result<bool, Cause> {
        let mut wait = Wait::until(until);
        loop {
            match event {
                Ok(Event::Switched { from, args }) if from == Some(copy) => {
                    if what(&args) {
                        return Ok(true);
                    }
                }
                // One before it was told twice, for its answer was late, and says it twice.
                Ok(Event::Switched { from, args })
                    if matches!(*args, [word::DONE, ..]) && self.is_in_line(from) => {}
                Ok(Event::Switched { from, .. }) => self.end_unexpected(from),
                Ok(Event::Ended(end)) => return Err(Cause::Ended(EndText::from(end))),
                Ok(_) => return Err(Cause::Misbehaved(NOT_TRAPPED.into())),
                Err(e) if e.errno() == Errno::ETIMEDOUT => {}
                Err(e) => return Err(self.cannot_switch(i, e)),
            }
            match wait.next() {
                Some(next) => event = next,
                None => return Ok(false),
            }
        }
    }

    /// Whether that is a step's copy.
    fn is_in_line(&self, who: Option<Handle>) -> bool {
        let copies = self.line().iter().filter_map(|s| s.copy.as_ref());
        who.is_some_and(|who| copies.map(lwc::Context::handle).any(|copy| copy == who))
    }

    /// Makes the copies that are missing, and notes how long that took.
    /// Then all are parked.
    pub(super) fn make_ready(&mut self, waits: &mut Vec<Duration>) -> Result<(), (usize, Cause)> {
        /// An old copy that does not come to rest when it has taken its new
        /// neighbours is replaced. A fresh one does.
        const TRIES: usize = 3;
        waits.clear();
        let mut time = LinkTime::new();
        for _ in 0..TRIES {
            if self.linked || time.is_over() {
                break;
            }
            waits.resize(self.line().len(), Duration::ZERO);
            for (i, wait) in waits.iter_mut().enumerate() {
                let begin = MonotonicTime::now();
                let missing = self.steps[i].copy.is_none();
                self.ready(i).map_err(|cause| (i, cause))?;
                if missing {
                    *wait += begin.elapsed();
                    time.copies += begin.elapsed();
                }
            }
            self.link_within(&mut time)?;
        }
        let gone = self.line().iter().position(|s| s.copy.is_none());
        gone.map_or(Ok(()), |i| Err((i, does_not_rest())))
    }

    /// From now on nobody takes over.
    pub(super) fn withdraw(&self) {
        for step in self.line() {
            step.control.withdraw();
        }
    }
}
