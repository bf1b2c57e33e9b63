//! Functions that hand over to each other, the root at both ends alone.
//!
//! ```text
//!   root ──lwSwitch──▶ f ──lwSwitch──▶ g ──lwSwitch──▶ h ──lwSwitch──▶ root
//! ```
//!
//! A hop is one switch then, not two. Each copy holds descriptors of the root,
//! of its snapshot and of its two neighbours, which the root introduced to it
//! ([`Contexts::link`]); they carry the right to switch and nothing else. A
//! function that gives no answer switches to the root instead of its neighbour.
//!
//! This is for copies that serve again and again: a fresh one of each function
//! costs hundreds of switches.
//!
//! # Turns
//! In one process a context runs only when somebody switches to it. Where
//! contexts are processes a hostile function goes on running when it likes, and
//! whom it can name it can hand over to again. So each request has a number. Before
//! it the root has verified, by the kernel's word and for one moment, that every
//! copy of the chain waits ([`Contexts::settle_relay`]); then it writes the number into
//! each function's control page, which nobody else has. A hand-over carries it. A
//! function takes over once for one number, from the function before it alone; it
//! knows that one by the page that the two have been given, not by what is said.
//! Everything else is a stray: it is noted on the control page, for the root to
//! read afterwards, and the function waits on (`invocation.rs`). Who is the liar then,
//! the one that notes or the one that is noted, the root cannot know, unless it
//! finds one of them running. So both ends of that edge are replaced, and the
//! request is served or fails by its answer alone.
//!
//! # Who is at work
//! When it takes long the root must know who is at work, whose time it is that
//! runs out. In one process the kernel says so ([`State::Preempted`]). Where contexts
//! are processes it is found like this. All copies were parked at one moment
//! before the request. From then on
//!
//! 1. a parked one is woken by the root, its snapshot or its neighbours alone:
//!    nobody else has its doorbell, and it has no timer and gets no signal;
//! 2. the root wakes step 0, snapshots wake nobody by themselves, and an honest
//!    function wakes the one after it, when its own work is done.
//!
//! So while an honest function i is at work nobody above it is awake: i + 1 could
//! be woken by i, which does not, or by i + 2, which sleeps as well, and so on. Of
//! those that are awake the one with the highest step is at work, then. Those below
//! have handed over: the ones that are awake run out of turn, and are ended there
//! and then. (Where all above i are awake because i is hostile and wakes them, i is
//! below them and is ended.) All are asked about at one moment, or a hand-over in
//! between would make it look as if nobody were at work.
//!
//! A switch to the root counts as the chain's if nobody above its author is awake.
//! If somebody is, the author has handed over already, and what it says is a stray.
//!
//! An author can hand over at the moment that the root looks, or a moment after.
//! So before a request ends at a function, for what it says or for its time, the
//! number is taken from the one after it, and then the root looks: if somebody
//! above is awake it was handed over to in time and the request goes on there; if
//! nobody is, nobody works any more ([`Contexts::ends_at`]). Innocents are never
//! left at work for a request that is over.
//!
//! # Time
//! What the root is told of time is each function's own: when it began. So it looks
//! in at least as often as the shortest timeout of the chain, gives each function
//! that it finds at work one end of its time and no second one, and a function that
//! lies about when it began gains that shortest timeout.

use super::chain::{Contexts, Hop, MessageMeta, NOT_TRAPPED, Step, next_before};
use super::control::stray;
use super::error::{Cause, EndText, Failure};
use super::snapshot::word;
use lwc::{Errno, Event, Handle, MonotonicTime, State};
use std::time::Duration;

/// How long a copy may take to note who its neighbours are.
const LINK_TIMEOUT: Duration = Duration::from_secs(5);
/// It has no more than its own timeout for it, but so much at least.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(500);

/// What is there is taken, and nothing is waited for.
const AT_ONCE: MonotonicTime = MonotonicTime::from_nanos(0);

/// What a chain has of its hand-overs.
#[derive(Debug, Default)]
pub(super) struct Relay {
    /// The number of the last request.
    turn: u64,
    /// When the last invocation was.
    times: Option<RelayTimes>,
    /// How long the making of each copy took for it, if any had to be made.
    waits: Vec<Duration>,
}

/// When the last invocation was, and how many steps it reached.
#[derive(Debug, Clone, Copy)]
struct RelayTimes {
    begun: MonotonicTime,
    /// When the root switched to the first function.
    left: MonotonicTime,
    ended: MonotonicTime,
    steps: usize,
}

/// Who is at work, as the kernel has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtWork {
    Copy(usize),
    /// It tells of its copy's end.
    Snapshot(usize),
}

impl AtWork {
    fn step(self) -> usize {
        match self {
            Self::Copy(i) | Self::Snapshot(i) => i,
        }
    }
}

/// The ends of everybody's time in one invocation.
struct TimeLimits {
    /// The shortest timeout.
    every: Duration,
    /// When the root last looked.
    looked: MonotonicTime,
    /// When it looks next.
    until: MonotonicTime,
    /// The end of the first function's time.
    first: MonotonicTime,
    /// Of those seen at work, from the first time that somebody takes long.
    ends: Vec<(AtWork, MonotonicTime)>,
}

impl Relay {
    /// Runs the chain from end to end.
    pub(super) fn invoke(
        &mut self,
        contexts: &mut Contexts,
        len: usize,
        meta: &MessageMeta,
        id: &str,
        due: Option<MonotonicTime>,
    ) -> Result<(usize, MessageMeta), Failure> {
        self.times = None;
        let last = contexts.steps.len() - 1;
        let begun = MonotonicTime::now();
        let mut left = begun;
        let result = contexts.make_ready(&mut self.waits).and_then(|()| {
            if !self.waits.is_empty() {
                left = MonotonicTime::now();
            }
            if due.is_some_and(|due| due <= left) {
                return Err((0, Cause::Deadline));
            }
            contexts.settled = false;
            self.turn += 1;
            for step in &contexts.steps {
                let due = due.map_or(u64::MAX, MonotonicTime::nanos);
                step.control.put_invocation(id, due);
                step.control.put_turn(self.turn);
            }
            contexts.put_request(0, len, meta);
            (1..=last).for_each(|i| contexts.log_invoke(i));
            contexts.counts.switches += 1;
            contexts.run_through(self.turn, left, due)
        });
        if result.is_err() {
            contexts.withdraw();
        }
        let reached = result.as_ref().map_or_else(|(i, _)| *i, |()| last);
        self.times = Some(RelayTimes {
            begun,
            left,
            ended: MonotonicTime::now(),
            steps: reached + 1,
        });
        for i in 0..=reached {
            contexts.pass_on_log(i, id);
        }
        result
            .and_then(|()| contexts.take_reply(last).map_err(|cause| (last, cause)))
            .map_err(|(i, cause)| contexts.failed(i, cause, id))
    }

    /// Times of the last invocation's hops, from what the functions say.
    pub(super) fn hops(&self, contexts: &Contexts) -> Vec<Hop> {
        let Some(times) = self.times else {
            return Vec::new();
        };
        let RelayTimes {
            begun,
            left,
            ended,
            steps,
        } = times;
        let mut starts: Vec<MonotonicTime> = Vec::with_capacity(steps + 1);
        starts.push(left);
        for step in &contexts.steps[1..steps] {
            let before = starts[starts.len() - 1];
            starts.push(step.control.began().clamp(before, ended));
        }
        starts.push(ended);
        starts
            .windows(2)
            .enumerate()
            .map(|(i, pair)| Hop {
                at: pair[0].since(begun),
                copy: self.waits.get(i).copied().unwrap_or_default(),
                run: pair[1].since(pair[0]),
            })
            .collect()
    }
}

impl Contexts {
    /// As [`settle`](Self::settle), where copies note what was handed over to
    /// them out of turn: both ends of each such edge are replaced.
    pub(super) fn settle_relay(&mut self) {
        self.settle_and(Self::end_strays);
    }

    /// The same, with what becomes of the strays that copies have noted. Those
    /// that run have been ended before.
    fn settle_and(&mut self, strays: impl FnOnce(&mut Self)) {
        if std::mem::replace(&mut self.settled, true) || !self.apart {
            return;
        }
        self.withdraw();
        if self.end_awake(|s| s.control.has_stray()) {
            strays(self);
        }
    }

    /// Introduces the copies to their neighbours, if these are not the ones
    /// they know.
    pub(super) fn link(&mut self) -> Result<(), (usize, Cause)> {
        if self.linked {
            return Ok(());
        }
        self.link_all().or_else(|_| {
            // A copy that has served may be hostile and not answer, and who is
            // introduced to it must not be blamed; or its table has no room.
            // Fresh copies have run nothing of a function but its initialiser.
            self.retire_all();
            self.link_all()
        })?;
        // Those that have just answered are on their way to sleep. What they
        // noted is of neighbours that are no more: no request has been since.
        self.settle_and(|chain| {
            for step in &chain.steps {
                step.control.take_stray();
            }
        });
        Ok(())
    }

    fn link_all(&mut self) -> Result<(), (usize, Cause)> {
        let all = 0..self.steps.len();
        let copies = all
            .clone()
            .map(|i| self.ready(i).map_err(|cause| (i, cause)))
            .collect::<Result<Vec<Handle>, _>>()?;
        for i in all {
            self.link_step(i, &copies).map_err(|cause| (i, cause))?;
        }
        self.linked = true;
        self.settled = false;
        Ok(())
    }

    fn link_step(&mut self, i: usize, copies: &[Handle]) -> Result<(), Cause> {
        let copy = copies[i];
        let mut words = [word::LINK, word::NOBODY, word::NOBODY];
        for (at, neighbour) in [(1, i.checked_sub(1)), (2, Some(i + 1))] {
            if let Some(&neighbour) = neighbour.and_then(|j| copies.get(j)) {
                words[at] = copy.introduce(neighbour)?;
            }
        }
        self.steps[i]
            .control
            .put_timeout(self.steps[i].function.timeout);
        self.counts.switches += 1;
        let timeout = LINK_TIMEOUT.min(SHORTEST_TIMEOUT.max(self.steps[i].function.timeout));
        let reply = self.call(i, copy, &words, MonotonicTime::now() + timeout)?;
        match reply.first() {
            Some(&word::DONE) => Ok(()),
            _ => Err(Cause::Misbehaved("it does not take neighbours".into())),
        }
    }

    /// Makes the copies that are missing, and notes how long that took.
    /// Then all are parked.
    fn make_ready(&mut self, waits: &mut Vec<Duration>) -> Result<(), (usize, Cause)> {
        /// An old copy that does not come to rest when it has taken its new
        /// neighbours is replaced. A fresh one does.
        const TRIES: usize = 3;
        waits.clear();
        for _ in 0..TRIES {
            if self.linked {
                return Ok(());
            }
            waits.resize(self.steps.len(), Duration::ZERO);
            for (i, wait) in waits.iter_mut().enumerate() {
                let begin = MonotonicTime::now();
                let missing = self.steps[i].copy.is_none();
                self.ready(i).map_err(|cause| (i, cause))?;
                if missing {
                    *wait += begin.elapsed();
                }
            }
            self.link()?;
        }
        let gone = self.steps.iter().position(|s| s.copy.is_none());
        gone.map_or(Ok(()), |i| {
            let cause = "its context does not come to rest";
            Err((i, Cause::Misbehaved(cause.into())))
        })
    }

    /// From now on nobody takes over.
    fn withdraw(&self) {
        for step in &self.steps {
            step.control.put_turn(0);
        }
    }

    /// Ends both ends of each edge where a stray was noted, unless one of them
    /// is no more: for what the kernel says of it, or for how the request ended.
    fn end_strays(&mut self) {
        let ended: Vec<bool> = self.steps.iter().map(|s| s.copy.is_none()).collect();
        for i in 0..self.steps.len() {
            let noted = self.steps[i].control.take_stray();
            if noted == 0 {
                continue;
            }
            let before = (noted & stray::BEFORE != 0).then(|| i.checked_sub(1));
            let after = (noted & stray::AFTER != 0).then_some(i + 1);
            let edge: Vec<usize> = [Some(i), before.flatten(), after]
                .into_iter()
                .flatten()
                .filter(|&j| j < self.steps.len())
                .collect();
            if !edge.iter().any(|&j| ended[j]) {
                log::warn!(
                    "chain {:?}: steps {:?} handed over out of turn, or say so; they are replaced",
                    self.chain.name,
                    edge.iter().map(|j| j + 1).collect::<Vec<_>>()
                );
                edge.into_iter().for_each(|j| self.retire(j));
            }
        }
    }

    /// A step that gave no answer. Its state is not trusted again, nor is
    /// anybody's where the control went a way that it should not. (Where
    /// contexts are processes it goes nowhere: see [`Contexts::settle_relay`].)
    fn failed(&mut self, i: usize, cause: Cause, id: &str) -> Failure {
        if matches!(cause, Cause::Misbehaved(_)) && !self.apart {
            self.retire_all();
        }
        self.retire(i);
        let failure = self.failure(i, cause, id);
        log::debug!("retire: {failure}");
        failure
    }

    /// From the switch to the first function until the last one is done, or
    /// one is not.
    fn run_through(
        &mut self,
        turn: u64,
        begun: MonotonicTime,
        due: Option<MonotonicTime>,
    ) -> Result<(), (usize, Cause)> {
        let last = self.steps.len() - 1;
        let first = self.ready(0).map_err(|cause| (0, cause))?;
        let timeouts = self.steps.iter().map(|s| s.function.timeout);
        let every = timeouts.min().unwrap_or_default();
        let end = begun + self.steps[0].function.timeout;
        let until = (begun + every).min(due.unwrap_or(end));
        let done = [word::DONE, turn, 0];
        let mut event = Some(first.switch_until(&[word::INVOKE, turn, 0], until));
        let mut watch = TimeLimits {
            every,
            looked: begun,
            until,
            first: end,
            ends: Vec::new(),
        };
        loop {
            let (from, args) = match event {
                Some(Ok(Event::Switched { from, args })) => (from, args),
                Some(Ok(Event::Ended(_))) => return Err(self.discarded()),
                Some(Ok(_)) => return Err((0, Cause::Misbehaved(NOT_TRAPPED.into()))),
                Some(Err(e)) if e.errno() != Errno::ETIMEDOUT => {
                    return Err((0, Cause::Backend(e)));
                }
                // It is late.
                None | Some(Err(_)) => {
                    event = match self.look_in(turn, &mut watch, due) {
                        Ok(next) => Some(next),
                        Err(failure) if self.apart => {
                            return self.last_word(turn, failure, &done);
                        }
                        Err(failure) => return Err(failure),
                    };
                    continue;
                }
            };
            let who = from.and_then(|from| self.find(|h| h == from));
            if who == Some(AtWork::Copy(last)) && *args == done {
                return Ok(());
            }
            if self.apart && !self.counts_now(turn, who, from, &args) {
                event = next_before(watch.until);
                continue;
            }
            let failure = self.stopped(who, from, &args);
            return if self.apart {
                self.last_word(turn, failure, &done)
            } else {
                Err(failure)
            };
        }
    }

    /// Why the chain was not run through, by a switch to the root.
    fn stopped(
        &mut self,
        who: Option<AtWork>,
        from: Option<Handle>,
        args: &[u64],
    ) -> (usize, Cause) {
        match who {
            Some(AtWork::Copy(i)) => self.stopped_at(i, args),
            Some(AtWork::Snapshot(i)) => (i, Cause::of_snapshot(args)),
            None if from.is_none() => self.discarded(),
            None => (
                0,
                Cause::Misbehaved("a context that is not of this chain took control".into()),
            ),
        }
    }

    /// Where contexts are processes more than one may have switched here before
    /// the root has looked. Who is further on in the chain was handed over to by
    /// those before, and what these say is nothing.
    fn last_word(
        &mut self,
        turn: u64,
        mut failure: (usize, Cause),
        done: &[u64],
    ) -> Result<(), (usize, Cause)> {
        let last = AtWork::Copy(self.steps.len() - 1);
        for _ in 0..2 * self.steps.len() {
            let Ok(Event::Switched { from, args }) = lwc::await_switch(AT_ONCE) else {
                break;
            };
            let who = from.and_then(|from| self.find(|h| h == from));
            if who == Some(last) && *args == *done {
                self.steps[failure.0].wrong = true;
                return Ok(());
            }
            let further = who.is_some_and(|who| who.step() > failure.0);
            if self.counts_now(turn, who, from, &args) && further {
                self.steps[failure.0].wrong = true;
                failure = self.stopped(who, from, &args);
            }
        }
        Err(failure)
    }

    /// Who is no more without its snapshot's having told of it.
    fn discarded(&self) -> (usize, Cause) {
        let i = self.in_state(State::Dead).map_or(0, AtWork::step);
        (i, Cause::Misbehaved("it discarded itself".into()))
    }

    /// Whether a switch to the root has to do with this request. Where contexts
    /// are processes one that has had its turn, or has none yet, can switch as
    /// well, and what it says may have waited here for long.
    fn counts_now(
        &mut self,
        turn: u64,
        who: Option<AtWork>,
        from: Option<Handle>,
        args: &[u64],
    ) -> bool {
        if who.is_none() && from.is_some() {
            self.end_unexpected(from);
            return false;
        }
        // Or it discarded itself, or one of another chain did.
        let Some(worker) = who.or_else(|| self.in_state(State::Dead)) else {
            return false;
        };
        let i = worker.step();
        match (worker, args) {
            // Honest, perhaps: the root had given up that request before.
            (AtWork::Copy(_), [word::DONE, number, _] | [word::FAILED, _, number])
                if from.is_some() && *number != turn =>
            {
                return false;
            }
            (AtWork::Snapshot(_), _) if self.is_old_news(i, args) => return false,
            _ => {}
        }
        if self.ends_at(i) {
            return true;
        }
        // It has handed over. If it has ended that is found out, too.
        self.steps[i].wrong = true;
        false
    }

    /// Whether nobody above a step works, nor will in this request, which is to end
    /// at that step: from here on the next one does not take over. (Who was handed
    /// over to before is awake, or waits again and has handed over as well.)
    fn ends_at(&self, i: usize) -> bool {
        if let Some(next) = self.steps.get(i + 1) {
            next.control.put_turn(0);
        }
        self.awake(i + 1).is_empty() || self.awake_of(i + 1, true).is_empty()
    }

    /// The copies from a step on that do not wait, at one moment: dead ones are
    /// not among them.
    fn awake(&self, from: usize) -> Vec<usize> {
        self.awake_of(from, false)
    }

    fn awake_of(&self, from: usize, patient: bool) -> Vec<usize> {
        let steps = self.steps.iter().enumerate().skip(from);
        let (numbers, copies): (Vec<usize>, Vec<Handle>) = steps
            .filter_map(|(i, s)| Some((i, s.copy.as_ref()?.handle())))
            .unzip();
        // None that can be asked about: none that could be at work.
        let parked = lwc::parked_together(&copies, patient).unwrap_or_default();
        let awake = |&(_, (copy, parked)): &(usize, (Handle, bool))| {
            !parked && copy.info().is_ok_and(|info| info.state != State::Dead)
        };
        numbers
            .into_iter()
            .zip(copies.into_iter().zip(parked))
            .filter(awake)
            .map(|(i, _)| i)
            .collect()
    }

    /// Who is at work, where contexts are processes; the argument is above. Who
    /// runs below runs no more.
    fn at_work(&mut self) -> Option<AtWork> {
        let mut awake = self.awake(0);
        if awake.len() > 1 {
            // Or have they just handed over, and are on their way to sleep?
            awake = self.awake_of(0, true);
        }
        let highest = awake.pop()?;
        awake.into_iter().for_each(|i| self.end_out_of_turn(i));
        Some(AtWork::Copy(highest))
    }

    /// Nobody is at work, and nobody has said so.
    fn lost(&mut self, turn: u64) -> (usize, Cause) {
        let ended = |s: &Step| s.copy.as_ref().and_then(|c| c.parked().err());
        let dead = |(i, s): (usize, &Step)| Some((i, ended(s)?));
        if let Some((i, e)) = self.steps.iter().enumerate().rev().find_map(dead) {
            return (i, Cause::Ended(EndText::found_dead(&e)));
        }
        // By their own words; one that lies here is one of the two.
        let taken = |s: &Step| s.control.taken() == turn;
        let i = self.steps.iter().rposition(taken).unwrap_or(0);
        self.steps[i].wrong = true;
        let cause = match self.steps.get_mut(i + 1) {
            None => "it stopped without an answer".into(),
            Some(next) => {
                next.wrong = true;
                format!(
                    "it stopped without handing over, or {:?} after it did not take over; either is hostile",
                    next.function.name
                )
            }
        };
        (i, Cause::Misbehaved(cause))
    }

    fn find(&self, is: impl Fn(Handle) -> bool) -> Option<AtWork> {
        // The last copy first: it is asked for most.
        let steps = || self.steps.iter().enumerate().rev();
        let mut copies = steps().filter_map(|(i, step)| Some((i, step.copy.as_ref()?)));
        if let Some((i, _)) = copies.find(|(_, copy)| is(copy.handle())) {
            return Some(AtWork::Copy(i));
        }
        steps()
            .find(|(_, step)| is(step.snapshot.handle()))
            .map(|(i, _)| AtWork::Snapshot(i))
    }

    fn in_state(&self, state: State) -> Option<AtWork> {
        self.find(|h| h.info().is_ok_and(|info| info.state == state))
    }

    /// Why a copy switched to the root before the chain was through, and who is
    /// told to have failed.
    fn stopped_at(&mut self, i: usize, args: &[u64]) -> (usize, Cause) {
        let misbehaved = |text: &str| Cause::Misbehaved(text.into());
        let cause = match args {
            [word::DONE, ..] => match self.take_reply(i) {
                Ok(_) => misbehaved("it did not hand over to the next function"),
                Err(cause) => cause,
            },
            [word::UNEXPECTED, ..] => {
                misbehaved("control came to it out of turn; it or a neighbour is hostile")
            }
            [word::FAILED, errno, ..] if *errno == libc::EBADMSG as u64 => {
                if let Some(before) = i.checked_sub(1) {
                    self.steps[before].wrong = true;
                }
                misbehaved("the function before it left a length or attributes that none can")
            }
            [word::FAILED, errno, ..] => {
                let next = self.steps.get(i + 1).and_then(|s| s.copy.as_ref());
                if let Some(e) = next.and_then(|c| c.parked().err()) {
                    return (i + 1, Cause::Ended(EndText::found_dead(&e)));
                }
                Cause::Misbehaved(format!(
                    "it cannot hand over to the next function: {}",
                    Errno::from_raw(*errno as i32)
                ))
            }
            _ => Cause::no_answer(args),
        };
        (i, cause)
    }

    /// Somebody is still at work. May it go on?
    fn look_in(
        &mut self,
        turn: u64,
        watch: &mut TimeLimits,
        due: Option<MonotonicTime>,
    ) -> Result<lwc::Result<Event>, (usize, Cause)> {
        let now = MonotonicTime::now();
        let worker = if self.apart {
            match self.at_work() {
                Some(worker) => worker,
                // Whoever was has switched here since, or is lost.
                None => match lwc::await_switch(AT_ONCE) {
                    Err(e) if e.errno() == Errno::ETIMEDOUT => return Err(self.lost(turn)),
                    event => return Ok(event),
                },
            }
        } else {
            let nobody = || (0, Cause::Misbehaved("nobody was at work".into()));
            self.in_state(State::Preempted).ok_or_else(nobody)?
        };
        if watch.ends.is_empty() {
            watch.ends.push((AtWork::Copy(0), watch.first));
        }
        let i = worker.step();
        let step = &self.steps[i];
        if due.is_some_and(|due| due <= now) {
            return self.too_late(i, Cause::Deadline);
        }
        let known = watch.ends.iter().find(|(w, _)| *w == worker);
        let end = if let Some(&(_, end)) = known {
            end
        } else {
            let says = step.control.began();
            let believed = worker == AtWork::Copy(i) && (watch.looked..=now).contains(&says);
            let end = if believed { says } else { now } + step.function.timeout;
            watch.ends.push((worker, end));
            end
        };
        if end <= now {
            let cause = Cause::Timeout(step.function.timeout);
            return self.too_late(i, cause);
        }
        watch.looked = now;
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

    /// The time of the one at work is over. Where contexts are processes it may
    /// hand over at this very moment; then the next one is looked at.
    fn too_late(&self, i: usize, cause: Cause) -> Result<lwc::Result<Event>, (usize, Cause)> {
        if self.apart && !self.ends_at(i) {
            return Ok(lwc::await_switch(AT_ONCE));
        }
        Err((i, cause))
    }
}
