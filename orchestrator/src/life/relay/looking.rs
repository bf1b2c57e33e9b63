//! When it takes long: who is at work, and may it go on?
//!
//! The root looks in at least as often as the shortest timeout of the chain, and gives
//! each function that it finds at work, by its ticket, one end of its time and no second
//! one. It counts from that moment, and not from one before the root looked, for to see
//! who is at work can take longer than a timeout. What a function says itself, when it
//! began since the root last looked, can make its time shorter and no longer: one that
//! lies gains that shortest timeout, and nobody but itself can say so.

use super::strikes::{AT_ONCE, NUDGE, STRIKES};
use super::turn::{AtWork, Turn};
use crate::life::chain::{Contexts, Step};
use crate::life::error::{Cause, EndText};
use crate::life::snapshot::word;
use crate::life::waiting::Wait;
use lwc::{Errno, Event, MonotonicTime, State};
use std::time::Duration;

/// The ends of everybody's time in one invocation.
pub(super) struct TimeLimits {
    /// The shortest timeout.
    pub(super) every: Duration,
    /// When the root last looked.
    pub(super) looked: MonotonicTime,
    /// When it looks next.
    pub(super) until: MonotonicTime,
    /// The end of the first function's time.
    pub(super) first: MonotonicTime,
    /// Of those seen at work, from the first time that somebody takes long.
    pub(super) ends: Vec<(AtWork, MonotonicTime)>,
}

impl TimeLimits {
    /// The one end of somebody's time: this one, if it is the first time that it is
    /// seen at work.
    fn end_of(&mut self, who: AtWork, end: impl FnOnce() -> MonotonicTime) -> MonotonicTime {
        if let Some(&(_, end)) = self.ends.iter().find(|(w, _)| *w == who) {
            return end;
        }
        let end = end();
        self.ends.push((who, end));
        end
    }
}

impl Contexts {
    /// Somebody is still at work. May it go on?
    pub(super) fn look_in(
        &mut self,
        turn: &mut Turn<'_>,
        watch: &mut TimeLimits,
        due: Option<MonotonicTime>,
    ) -> Result<lwc::Result<Event>, (usize, Cause)> {
        // Whoever is seen to be at work from here on may have begun since.
        let looking = MonotonicTime::now();
        if watch.ends.is_empty() {
            watch.ends.push((AtWork::Copy(0), watch.first));
        }
        let worker = if self.apart {
            let (at, taken) = self.progress(turn);
            if !taken {
                return self.not_taken(at, turn, watch, due);
            }
            match self.at_work(turn) {
                Some(i) => AtWork::Copy(i),
                // Whoever was has switched here since, or has stopped.
                // One look would not do: others may have left requests.
                None => match Wait::until(AT_ONCE).next() {
                    None => {
                        let soon = MonotonicTime::now() + NUDGE.min(watch.every);
                        watch.until = soon.min(due.unwrap_or(soon));
                        return self.nobody_works(turn, at, watch.until);
                    }
                    Some(event) => return Ok(event),
                },
            }
        } else {
            let nobody = || (0, Cause::Misbehaved("nobody was at work".into()));
            self.in_state(State::Preempted).ok_or_else(nobody)?
        };
        // Not before: to see who is at work may have taken long.
        let now = MonotonicTime::now();
        let i = worker.step();
        let step = &self.steps[i];
        if due.is_some_and(|due| due <= now) {
            return self.too_late(turn, i, Cause::Deadline);
        }
        let since = watch.looked..=now;
        let end = watch.end_of(worker, || {
            let says = step.control.began();
            let believed = worker == AtWork::Copy(i) && since.contains(&says);
            let began = if believed { says } else { now };
            began + step.function.timeout
        });
        if end <= now {
            let cause = Cause::Timeout(step.function.timeout);
            return self.too_late(turn, i, cause);
        }
        watch.looked = looking;
        let until = end.min(now + watch.every).min(due.unwrap_or(end));
        watch.until = until;
        if self.apart {
            return Ok(lwc::await_switch(until));
        }
        let handle = match (worker, &step.copy) {
            (AtWork::Copy(_), Some(copy)) => copy.handle(),
            _ => step.snapshot.handle(),
        };
        Ok(handle.switch_until(&[], until))
    }

    /// The turn is at a step that has not shown its ticket. It has no time yet, and no
    /// blame, whoever keeps it awake: the root hands over to it itself, and looks what
    /// comes of that, until it takes over or it is clear that it does not mean to.
    fn not_taken(
        &mut self,
        i: usize,
        turn: &mut Turn<'_>,
        watch: &mut TimeLimits,
        due: Option<MonotonicTime>,
    ) -> Result<lwc::Result<Event>, (usize, Cause)> {
        let rung = turn.by_root.filter(|&(by, _)| by == i);
        let copy = self.steps[i].copy.as_ref().map(|c| c.handle());
        if let (Some((_, had)), Some(copy)) = (rung, copy) {
            let (more, starved) = self.strikes(copy);
            let strikes = had + more;
            turn.by_root = Some((i, strikes));
            let ends = if strikes >= STRIKES || self.is_dead(i) {
                let ended = self.steps[i].copy.as_ref().and_then(|c| c.parked().err());
                let cause = ended.map_or_else(
                    || Cause::Misbehaved("it did not take over".into()),
                    |e| Cause::Ended(EndText::found_dead(&e)),
                );
                Some((i, cause))
            } else if starved {
                // The time goes on of the one before, or its own, if it has begun.
                let now = MonotonicTime::now();
                let begun = turn.renewed.contains(&i);
                let at = if begun { i } else { i.saturating_sub(1) };
                let timeout = self.steps[at].function.timeout;
                let end = watch.end_of(AtWork::Copy(at), || now + timeout);
                let late = due.is_some_and(|due| due <= now).then_some(Cause::Deadline);
                late.or_else(|| (end <= now).then_some(Cause::Timeout(timeout)))
                    .map(|cause| (at, cause))
            } else {
                None
            };
            // After that: what it did before it came to rest shows.
            if self.progress(turn) != (i, false) {
                return Ok(lwc::await_switch(AT_ONCE));
            }
            if let Some(failure) = ends {
                return self.ends_unless_taken(turn, i, failure);
            }
        }
        self.hand_over_to(i, turn, watch)
    }

    /// Nobody was at work, and nobody has said anything. `before` is how far it was
    /// before that was seen.
    fn nobody_works(
        &mut self,
        turn: &mut Turn<'_>,
        before: usize,
        until: MonotonicTime,
    ) -> Result<lwc::Result<Event>, (usize, Cause)> {
        if self.progress(turn) != (before, true) {
            // On a busy machine one that has been woken takes over late: it slept when
            // it was asked about, and is at work now.
            return Ok(lwc::await_switch(until));
        }
        let ended = |s: &Step| s.copy.as_ref().and_then(|c| c.parked().err());
        let cause = if let Some(e) = ended(&self.steps[before]) {
            Cause::Ended(EndText::found_dead(&e))
        } else if before + 1 < self.line().len() {
            Cause::Misbehaved("it stopped without handing over".into())
        } else {
            Cause::Misbehaved("it stopped without an answer".into())
        };
        // It may have been woken since, and hand over now.
        self.ends_unless_taken(turn, before + 1, (before, cause))
    }

    /// Hands over to a step in the place of the one before it, which says that it has
    /// done so, or cannot.
    pub(super) fn hand_over_to(
        &mut self,
        i: usize,
        turn: &mut Turn<'_>,
        watch: &mut TimeLimits,
    ) -> Result<lwc::Result<Event>, (usize, Cause)> {
        turn.seen = turn.seen.max(i);
        if turn.by_root.is_none_or(|(by, _)| by != i) {
            turn.by_root = Some((i, 0));
        }
        if i > 0 && turn.told != Some(i) {
            // Whoever has handed over has said before what its answer is.
            let (len, mut meta) = match self.take_reply(i - 1) {
                Ok(reply) => reply,
                Err(cause) => return self.ends_unless_taken(turn, i, (i - 1, cause)),
            };
            meta.attributes = meta.attributes.for_the_next_step();
            self.put_request(i, len, &meta);
            turn.told = Some(i);
        }
        // Not by when the request is due: what comes of this is clear soon.
        let until = MonotonicTime::now() + NUDGE;
        watch.until = until;
        let Some(copy) = &self.steps[i].copy else {
            let cause = "its context ran out of turn and was ended";
            let failure = (i, Cause::Misbehaved(cause.into()));
            return self.ends_unless_taken(turn, i, failure);
        };
        self.counts.switches += 1;
        match copy.switch_until(&[word::INVOKE, turn.tickets[i], 0], until) {
            Err(e) if e.errno() != Errno::ETIMEDOUT => {
                let failure = (i, self.cannot_switch(i, e));
                self.ends_unless_taken(turn, i, failure)
            }
            event => Ok(event),
        }
    }

    /// Tells a step its request in the place of the one before it, which has told it none,
    /// as it says. Those behind it get new tickets, too: theirs are withdrawn.
    pub(super) fn tell_again(
        &mut self,
        i: usize,
        turn: &mut Turn<'_>,
        watch: &mut TimeLimits,
    ) -> Result<lwc::Result<Event>, (usize, Cause)> {
        for j in (i..turn.tickets.len()).rev() {
            turn.tickets[j] = turn.source.draw();
            let next = turn.tickets.get(j + 1).copied();
            self.steps[j].control.put_turn(turn.tickets[j], next);
        }
        turn.renewed.push(i);
        turn.by_root = None;
        self.hand_over_to(i, turn, watch)
    }

    /// The request ends with a failure, unless a step has taken over by now, this one or
    /// one behind it: then it goes on there, and those before it are nobody's concern.
    fn ends_unless_taken(
        &self,
        turn: &Turn<'_>,
        from: usize,
        failure: (usize, Cause),
    ) -> Result<lwc::Result<Event>, (usize, Cause)> {
        if self.has_taken_over(turn, from) {
            return Ok(lwc::await_switch(AT_ONCE));
        }
        Err(failure)
    }

    /// The time of the one at work is over. Where contexts are processes it may
    /// hand over at this very moment; then the next one is looked at.
    fn too_late(
        &self,
        turn: &mut Turn<'_>,
        i: usize,
        cause: Cause,
    ) -> Result<lwc::Result<Event>, (usize, Cause)> {
        if !self.apart {
            return Err((i, cause));
        }
        if turn.reached(self.line()) != i {
            return Ok(lwc::await_switch(AT_ONCE));
        }
        self.ends_unless_taken(turn, i + 1, (i, cause))
    }
}
