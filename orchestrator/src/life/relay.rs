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
//! contexts are processes a hostile function goes on running when it likes, it may be
//! woken by anybody whose doorbell it has or who answers it, and whom it can name it
//! can hand over to again. So to be awake gives nobody a say. What does is a *ticket*
//! (`ticket.rs`): each step has one in each request, a number that the root alone
//! knows. On each function's control page, which nobody else has, the root writes the
//! *seal* of its ticket, by which it recognises the ticket and cannot tell it
//! before, and the difference to the ticket of the one after it. To hand over is to
//! say the next one's ticket; the first one's is said by the root. So
//!
//! 1. whoever has its ticket got it from the one before, which had its own, and so on
//!    from the root: its turn has come, whoever is awake, whoever lies, and whoever
//!    works together (an innocent between two hostile ones has the difference that
//!    these would need on its own page alone);
//! 2. an innocent function takes over once in a request, when its turn has come;
//! 3. the root takes an answer or a failure with its author's ticket alone.
//!
//! Anything else that comes to a function is a stray: it waits on, as if nothing had
//! been (`invocation.rs`), and nobody needs to be told. Whether the one that tells of
//! a stray lies or the other one nobody could know, and it harms nobody.
//!
//! Before a request the root has verified, by the kernel's word and for one moment,
//! that every copy of the chain waits ([`Contexts::settle_relay`]). Then what one may
//! have left for others is read in a request of somebody else's; it has no ticket
//! of that.
//!
//! # Who is at work
//! When it takes long the root must know who is at work, whose time it is that
//! runs out. In one process the kernel says so ([`State::Preempted`]). Where contexts
//! are processes each tells on its control page: that it has taken over, by its
//! ticket, and, before it hands over, that it does so. The root reads no other word
//! about a function than its own, and none that it could say before its turn:
//!
//! * the last one that shows its ticket is at work, or the one after it, if it says
//!   that it has handed over ([`Turn::reached`]). Once the root has seen that the turn
//!   is so far it does not go back. One that says so too early, or not at all, or
//!   hides its ticket, keeps the time and the blame for itself:
//! * by the kernel's word, about all at one moment, others that run and do not come
//!   to rest run out of turn, above the one at work and below; who runs on below has
//!   said that it handed over. They are ended there and then, unless the one at work
//!   runs too: that one can keep innocents awake, by ringing them all the time. Then
//!   they are looked at when the request is over;
//! * if nobody runs and nobody has said anything to the root, then the one at work
//!   has stopped. If it has shown its ticket it is hostile. If it has not, then it
//!   hides it, or the one before did not say it: so the root itself says the ticket
//!   ([`Contexts::hand_over_to`]). An innocent one takes it and goes on with
//!   what the one before has left for it. One that has stopped then is hostile. The
//!   same if one says that it cannot hand over to the one after it: the root does
//!   so, and if it cannot either it knows the reason.
//!
//! One failure is an edge's: that a function finds a length or attributes left for it
//! that no honest one leaves. The root cannot read what is between functions, so both
//! ends are named and replaced.
//!
//! What others say meanwhile is nothing for this request. One that says to the root
//! what no honest copy says is replaced afterwards; so is one whose snapshot was
//! switched to, for nobody else than a copy has its descriptor. That one has ended, by
//! its snapshot's word, counts when the turn is there.
//!
//! An author can hand over at the moment that the root looks, or a moment after.
//! So before a request ends at a function, for what it says or for its time, the turn
//! is taken from the one after it. That word is changed in one step by either, so
//! that the next one has taken over before, shows its ticket, and the request goes on
//! there; or it never will ([`Contexts::went_on`]). Innocents are never left at work
//! for a request that is over.
//!
//! # Time
//! What the root is told of time is each function's own: when it began. So it looks
//! in at least as often as the shortest timeout of the chain, gives each function
//! that it finds at work one end of its time and no second one, and a function that
//! lies about when it began gains that shortest timeout.

use super::attributes::MessageMeta;
use super::chain::{Contexts, Hop, NOT_TRAPPED, Step, Wait, next_before};
use super::error::{Cause, EndText, Failure};
use super::snapshot::word;
use super::ticket::Tickets;
use lwc::{Errno, Event, Handle, MonotonicTime, State};
use std::time::Duration;

/// How long a copy may take to note who its neighbours are.
const LINK_TIMEOUT: Duration = Duration::from_secs(5);
/// It has no more than its own timeout for it, but so much at least.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(500);

/// What is there is taken, and nothing is waited for.
const AT_ONCE: MonotonicTime = MonotonicTime::from_nanos(0);

/// When the root looks again at one that it has handed over to in the place of
/// another, at the latest.
const NUDGE: Duration = Duration::from_millis(50);

const DISCARDED: &str = "it discarded itself";

/// What a chain has of its hand-overs.
#[derive(Debug, Default)]
pub(super) struct Relay {
    /// Where tickets come from, from the first request on: all contexts have been
    /// made of this process by then.
    source: Option<Tickets>,
    /// Those of the last request, one for each step.
    tickets: Vec<u64>,
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

/// How far a request is.
struct Turn<'a> {
    tickets: &'a [u64],
    /// How far it was when the root last looked.
    seen: usize,
    /// The root has handed over to this step itself.
    by_root: Option<usize>,
}

impl Turn<'_> {
    /// The step at which the request is: it has taken over, or was handed over to.
    fn reached(&mut self, steps: &[Step]) -> usize {
        let above = (self.seen..steps.len()).rev();
        let shown = above.filter_map(|i| {
            let (control, ticket) = (&steps[i].control, self.tickets[i]);
            // In this order: it says that it takes over before it hands over.
            let handed = i + 1 < steps.len() && control.has_handed_over(ticket);
            let at = handed.then_some(i + 1);
            at.or_else(|| control.has_taken(ticket).then_some(i))
        });
        self.seen = shown.max().unwrap_or(self.seen);
        self.seen
    }
}

/// Who is at work.
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

/// What a switch to the root means for a request.
enum Heard {
    Nothing,
    /// The one at work cannot hand over to this step, as it says.
    CannotHandOver(usize),
    /// This step, which is at work, ends the request with its answer.
    End(usize),
    Failure((usize, Cause)),
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
        let last = contexts.chain.steps.len() - 1;
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
            self.draw(last + 1);
            let next = self.tickets[1..].iter().copied().map(Some);
            let tickets = self.tickets.iter().zip(next.chain([None]));
            for (step, (&ticket, next)) in contexts.line().iter().zip(tickets) {
                let due = due.map_or(u64::MAX, MonotonicTime::nanos);
                step.control.put_invocation(id, due);
                step.control.put_turn(ticket, next);
            }
            contexts.put_request(0, len, meta);
            (0..=last).for_each(|i| contexts.log_invoke(i));
            contexts.counts.switches += 1;
            let turn = Turn {
                tickets: &self.tickets,
                seen: 0,
                by_root: None,
            };
            contexts.run_through(turn, left, due)
        });
        if result.is_err() {
            contexts.withdraw();
        }
        let reached = *result.as_ref().map_or_else(|(i, _)| i, |(i, _)| i);
        self.times = Some(RelayTimes {
            begun,
            left,
            ended: MonotonicTime::now(),
            steps: reached + 1,
        });
        for i in 0..=reached {
            contexts.pass_on_log([], i, id);
        }
        let answer = result.and_then(|(i, ended)| {
            contexts.answered_by = i;
            contexts.ended = ended;
            let reply = contexts.take_early_reply(i);
            reply.map_err(|cause| (i, cause))
        });
        answer.map_err(|(i, cause)| contexts.failed(i, cause, id))
    }

    /// A ticket for each step.
    fn draw(&mut self, steps: usize) {
        let source = self.source.get_or_insert_with(Tickets::new);
        self.tickets.clear();
        self.tickets.extend((0..steps).map(|_| source.draw()));
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
    /// As [`settle`](Self::settle), and nobody takes over from now on.
    pub(super) fn settle_relay(&mut self) {
        if !self.settled {
            self.withdraw();
        }
        self.settle();
    }

    /// Introduces the copies to their neighbours, if these are not the ones
    /// they know.
    pub(super) fn link(&mut self) -> Result<(), (usize, Cause)> {
        if self.linked {
            return Ok(());
        }
        // A copy that has served may be hostile and not answer, or its table has no
        // room: it goes, and the others stay. Who is introduced to it must not be
        // blamed, so in the end all go: fresh copies have run nothing of a function
        // but its initialiser.
        let mut done = self.link_all();
        for _ in 0..self.line().len() {
            let Err((i, _)) = &done else { break };
            self.retire(*i);
            done = self.link_all();
        }
        done.or_else(|_| {
            self.retire_all();
            self.link_all()
        })?;
        // Those that have just answered are on their way to sleep.
        self.settle_relay();
        Ok(())
    }

    fn link_all(&mut self) -> Result<(), (usize, Cause)> {
        let all = 0..self.line().len();
        let copies = all
            .clone()
            .map(|i| self.ready(i).map_err(|cause| (i, cause)))
            .collect::<Result<Vec<Handle>, _>>()?;
        for i in all {
            self.link_step(i, &copies)?;
        }
        self.linked = true;
        self.settled = false;
        Ok(())
    }

    /// Whose fault it is if it fails, and why.
    fn link_step(&mut self, i: usize, copies: &[Handle]) -> Result<(), (usize, Cause)> {
        let copy = copies[i];
        let mut words = [word::LINK, word::NOBODY, word::NOBODY];
        for (at, neighbour) in [(1, i.checked_sub(1)), (2, Some(i + 1))] {
            let neighbour = neighbour.and_then(|j| Some((j, *copies.get(j)?)));
            if let Some((j, neighbour)) = neighbour {
                words[at] = copy.introduce(neighbour).map_err(|e| {
                    let dead = |h: Handle| h.info().is_ok_and(|info| info.state == State::Dead);
                    (if dead(neighbour) { j } else { i }, Cause::Backend(e))
                })?;
            }
        }
        self.steps[i]
            .control
            .put_timeout(self.steps[i].function.timeout);
        self.counts.switches += 1;
        let timeout = LINK_TIMEOUT.min(SHORTEST_TIMEOUT.max(self.steps[i].function.timeout));
        let reply = self
            .call(i, copy, &words, MonotonicTime::now() + timeout)
            .map_err(|cause| (i, cause))?;
        match reply.first() {
            Some(&word::DONE) => Ok(()),
            _ => {
                let cause = "it does not take neighbours";
                Err((i, Cause::Misbehaved(cause.into())))
            }
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
            waits.resize(self.line().len(), Duration::ZERO);
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
        let gone = self.line().iter().position(|s| s.copy.is_none());
        gone.map_or(Ok(()), |i| {
            let cause = "its context does not come to rest";
            Err((i, Cause::Misbehaved(cause.into())))
        })
    }

    /// From now on nobody takes over.
    fn withdraw(&self) {
        for step in self.line() {
            step.control.withdraw();
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

    /// From the switch to the first function until the last one is done, or one ends
    /// the request, or one gives no answer. Who has answered, and whether it said
    /// that it ends the request.
    fn run_through(
        &mut self,
        mut turn: Turn<'_>,
        begun: MonotonicTime,
        due: Option<MonotonicTime>,
    ) -> Result<(usize, bool), (usize, Cause)> {
        let last = self.line().len() - 1;
        let first = self.ready(0).map_err(|cause| (0, cause))?;
        let timeouts = self.line().iter().map(|s| s.function.timeout);
        let every = timeouts.min().unwrap_or_default();
        let end = begun + self.steps[0].function.timeout;
        let until = (begun + every).min(due.unwrap_or(end));
        let done = [word::DONE, turn.tickets[last], 0];
        let mut event = Some(first.switch_until(&[word::INVOKE, turn.tickets[0], 0], until));
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
                    return Err((0, self.cannot_switch(0, e)));
                }
                // It is late.
                None | Some(Err(_)) => {
                    event = Some(self.look_in(&mut turn, &mut watch, due)?);
                    continue;
                }
            };
            let who = from.and_then(|from| self.find(|h| h == from));
            if who == Some(AtWork::Copy(last)) && *args == done {
                return Ok((last, false));
            }
            if !self.apart {
                let ends = who.and_then(|who| self.ends_in_turn(&turn, who, &args));
                return match ends {
                    Some(i) => Ok((i, true)),
                    None => Err(self.stopped(who, from, &args)),
                };
            }
            event = match self.hear(&mut turn, who, from, &args) {
                Heard::Nothing => next_before(watch.until),
                Heard::CannotHandOver(to) => Some(self.hand_over_to(to, &mut turn, watch.until)?),
                Heard::End(i) => return Ok((i, true)),
                Heard::Failure(failure) => return Err(failure),
            };
        }
    }

    /// In one process: the step that ends the request by what it says, if it may, has
    /// the turn, and has handed over to nobody.
    fn ends_in_turn(&self, turn: &Turn<'_>, who: AtWork, args: &[u64]) -> Option<usize> {
        match (who, args) {
            (AtWork::Copy(i), [word::END, said, _])
                if turn.tickets.get(i) == Some(said)
                    && self.check_end(i).is_ok()
                    && !self.went_on(turn, i) =>
            {
                Some(i)
            }
            _ => None,
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

    /// Who is no more without its snapshot's having told of it.
    fn discarded(&self) -> (usize, Cause) {
        let i = self.in_state(State::Dead).map_or(0, AtWork::step);
        (i, Cause::Misbehaved(DISCARDED.into()))
    }

    /// What a switch to the root means for this request, where contexts are
    /// processes: anybody can switch here at any time, and what it says may have
    /// waited here for long.
    fn hear(
        &mut self,
        turn: &mut Turn<'_>,
        who: Option<AtWork>,
        from: Option<Handle>,
        args: &[u64],
    ) -> Heard {
        let reached = turn.reached(self.line());
        let i = match who {
            Some(AtWork::Copy(i)) if i < self.line().len() => i,
            // Its turn is when a request has failed.
            Some(AtWork::Copy(i)) => {
                self.steps[i].wrong = true;
                return Heard::Nothing;
            }
            Some(AtWork::Snapshot(i)) => return self.hear_snapshot(turn, i, args),
            // Somebody, perhaps of another chain, says that it is no more.
            None if from.is_none() => return self.hear_of_an_end(turn),
            None => {
                self.end_unexpected(from);
                return Heard::Nothing;
            }
        };
        let said = match args {
            [word::DONE | word::END, said, _] | [word::FAILED, _, said] => *said,
            _ if self.is_dead(i) => return self.hear_of_an_end(turn),
            _ if i == reached && !self.went_on(turn, i) => {
                return Heard::Failure(self.stopped_at(i, args));
            }
            _ => {
                self.steps[i].wrong = true;
                return Heard::Nothing;
            }
        };
        if said != turn.tickets[i] {
            // Of a request before, or made up.
            return self.hear_of_an_end(turn);
        }
        let next = self.line().get(i + 1).map(|next| &next.control);
        match args {
            [word::FAILED, errno, _]
                if *errno != libc::EBADMSG as u64
                    && next.is_some_and(|next| !next.has_taken(turn.tickets[i + 1])) =>
            {
                // Whoever says it again does not have the root do it again.
                if reached > i + 1 || turn.by_root == Some(i + 1) {
                    return Heard::Nothing;
                }
                Heard::CannotHandOver(i + 1)
            }
            _ if self.went_on(turn, i) => {
                // It has handed over as well.
                self.steps[i].wrong = true;
                Heard::Nothing
            }
            [word::END, ..] if self.check_end(i).is_ok() => Heard::End(i),
            _ => Heard::Failure(self.stopped_at(i, args)),
        }
    }

    /// The same of what a snapshot says.
    fn hear_snapshot(&mut self, turn: &mut Turn<'_>, i: usize, args: &[u64]) -> Heard {
        match args.first() {
            // Where the turn is not this is found out once it is, or when all is over.
            Some(&word::ENDED)
                if i == turn.reached(self.line())
                    && !self.is_old_news(i, args)
                    && !self.went_on(turn, i) =>
            {
                Heard::Failure((i, Cause::of_snapshot(args)))
            }
            Some(&word::UNEXPECTED) => {
                // Nobody but its copy can have switched there.
                self.steps[i].wrong = true;
                Heard::Nothing
            }
            _ => Heard::Nothing,
        }
    }

    /// Somebody may have ended: is it the one whose turn it is?
    fn hear_of_an_end(&mut self, turn: &mut Turn<'_>) -> Heard {
        let i = turn.reached(self.line());
        if self.is_dead(i) && !self.went_on(turn, i) {
            return Heard::Failure((i, Cause::Misbehaved(DISCARDED.into())));
        }
        Heard::Nothing
    }

    /// Whether a step after one has taken over in this request, which is to end at
    /// that one. If none has, then none will.
    ///
    /// All of them are asked: one that has its ticket knows the next one's by its own
    /// page, and can have that one take over in its own place.
    fn went_on(&self, turn: &Turn<'_>, i: usize) -> bool {
        let behind = self.line().iter().zip(turn.tickets).skip(i + 1);
        behind.into_iter().any(|(next, &ticket)| {
            let untouched = next.control.withdraw();
            !untouched && next.control.has_taken(ticket)
        })
    }

    /// Whether a step's copy has ended, by the kernel's word.
    fn is_dead(&self, i: usize) -> bool {
        let copy = self.steps[i].copy.as_ref();
        let info = copy.and_then(|c| c.handle().info().ok());
        info.is_some_and(|info| info.state == State::Dead)
    }

    /// How far the request is, and whether that one shows its ticket.
    fn progress(&self, turn: &mut Turn<'_>) -> (usize, bool) {
        let i = turn.reached(self.line());
        (i, self.steps[i].control.has_taken(turn.tickets[i]))
    }

    /// The copies that do not wait, at one moment: dead ones are not among them.
    fn awake(&self, patient: bool) -> Vec<usize> {
        let steps = self.steps.iter().enumerate();
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

    /// Who is at work, where contexts are processes; the argument is above. Others
    /// that run, run no more, unless it runs as well: it may be the one that keeps
    /// them awake, and what it does to them is not their fault. Those are looked at
    /// again when the request is over, before the next one.
    fn at_work(&mut self, turn: &mut Turn<'_>) -> Option<usize> {
        let mut patient = false;
        loop {
            let i = turn.reached(self.line());
            let awake = self.awake(patient);
            if turn.reached(self.line()) != i {
                // At most once for each step.
                continue;
            }
            if awake.is_empty() || awake == [i] {
                return awake.first().copied();
            }
            if awake.contains(&i) {
                return Some(i);
            }
            if patient {
                awake.iter().for_each(|&j| self.end_out_of_turn(j));
                return None;
            }
            // Or have they just handed over, and are on their way to sleep?
            patient = true;
        }
    }

    /// Nobody was at work, and nobody has said anything. `before` is how far it was
    /// before that was seen.
    fn nobody_works(
        &mut self,
        turn: &mut Turn<'_>,
        before: (usize, bool),
        until: MonotonicTime,
    ) -> Result<lwc::Result<Event>, (usize, Cause)> {
        if self.progress(turn) != before {
            // On a busy machine one that has been woken takes over late: it slept when
            // it was asked about, and is at work now.
            return Ok(lwc::await_switch(until));
        }
        let (i, taken) = before;
        let ended = |s: &Step| s.copy.as_ref().and_then(|c| c.parked().err());
        if let Some(e) = ended(&self.steps[i]) {
            return Err((i, Cause::Ended(EndText::found_dead(&e))));
        }
        if !taken && i > 0 && turn.by_root != Some(i) {
            return self.hand_over_to(i, turn, until);
        }
        let cause = if !taken {
            "it did not take over"
        } else if i + 1 < self.line().len() {
            "it stopped without handing over"
        } else {
            "it stopped without an answer"
        };
        Err((i, Cause::Misbehaved(cause.into())))
    }

    /// Hands over to a step in the place of the one before it, which says that it has
    /// done so, or cannot.
    fn hand_over_to(
        &mut self,
        i: usize,
        turn: &mut Turn<'_>,
        until: MonotonicTime,
    ) -> Result<lwc::Result<Event>, (usize, Cause)> {
        turn.seen = turn.seen.max(i);
        turn.by_root = Some(i);
        let Some(copy) = &self.steps[i].copy else {
            let cause = "its context ran out of turn and was ended";
            return Err((i, Cause::Misbehaved(cause.into())));
        };
        self.counts.switches += 1;
        match copy.switch_until(&[word::INVOKE, turn.tickets[i], 0], until) {
            Err(e) if e.errno() != Errno::ETIMEDOUT => Err((i, self.cannot_switch(i, e))),
            event => Ok(event),
        }
    }

    /// Why the root cannot switch to a step's copy.
    fn cannot_switch(&self, i: usize, e: lwc::Error) -> Cause {
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
            [word::END, ..] => match self.check_end(i) {
                Ok(()) => {
                    misbehaved("it ended the request out of its turn, or handed over as well")
                }
                Err(cause) => cause,
            },
            [word::UNEXPECTED, ..] => {
                misbehaved("control came to it out of turn; it or a neighbour is hostile")
            }
            [word::FAILED, errno, ..] if *errno == libc::EBADMSG as u64 => {
                if let Some(before) = i.checked_sub(1) {
                    self.steps[before].wrong = true;
                }
                misbehaved(
                    "the function before it left a length or attributes that none can, or it says so",
                )
            }
            [word::FAILED, errno, ..] => {
                let next = self.line().get(i + 1).and_then(|s| s.copy.as_ref());
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
        turn: &mut Turn<'_>,
        watch: &mut TimeLimits,
        due: Option<MonotonicTime>,
    ) -> Result<lwc::Result<Event>, (usize, Cause)> {
        let now = MonotonicTime::now();
        let worker = if self.apart {
            let before = self.progress(turn);
            match self.at_work(turn) {
                Some(i) => AtWork::Copy(i),
                // Whoever was has switched here since, or has stopped.
                // One look would not do: others may have left requests.
                None => match Wait::until(AT_ONCE).next() {
                    None => {
                        let soon = now + NUDGE.min(watch.every);
                        watch.until = soon.min(due.unwrap_or(soon));
                        return self.nobody_works(turn, before, watch.until);
                    }
                    Some(event) => return Ok(event),
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
            return self.too_late(turn, i, Cause::Deadline);
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
            return self.too_late(turn, i, cause);
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
    fn too_late(
        &self,
        turn: &mut Turn<'_>,
        i: usize,
        cause: Cause,
    ) -> Result<lwc::Result<Event>, (usize, Cause)> {
        if self.apart && (turn.reached(self.line()) != i || self.went_on(turn, i)) {
            return Ok(lwc::await_switch(AT_ONCE));
        }
        Err((i, cause))
    }
}
