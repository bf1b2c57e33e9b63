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
//! * the last one that shows its ticket is at work. Once the root has seen that the
//!   turn is so far it does not go back. One that hides its ticket, or says too late
//!   that it hands over, keeps the time and the blame for itself;
//! * if that one says that it has handed over ([`Turn::reached`]), the turn is at the
//!   one after it, which has no time and no blame until it shows its ticket, whoever
//!   woke it and keeps it awake. The root does not wait for it, but says the ticket
//!   itself ([`Contexts::hand_over_to`]): an innocent one takes it, and goes on with what
//!   the one before has left for it, whether that one has handed over in truth or not.
//!   For that it needs little of a processor and no clock. One that has had it,
//!   by the kernel's word, and used it for something else or sleeps again, several
//!   times, is hostile ([`Contexts::not_taken`]). While it has had none the time is that
//!   of the one before. The same if one says that it cannot hand over: the root does,
//!   and if it cannot either it knows the reason;
//! * by the kernel's word, about all at one moment, others than the one at work that
//!   run and do not come to rest run out of turn, above it and below. They are ended
//!   there and then, unless it runs too. Then they are looked at when the request is
//!   over. An innocent one can be kept from its rest, by a neighbour that wakes it all
//!   the time: it is told from that by being let go on alone ([`lwc::come_to_rest`]);
//! * if nobody runs and nobody has said anything to the root, then the one at work
//!   has stopped, and is hostile. (All words are read before it is asked who runs: on
//!   a busy machine one that slept a moment ago may be at work.)
//!
//! One that is told of a message that none can have says so. The root, which cannot
//! read what is between functions, has the same from the author's control page, where
//! each says what its answer is: what no honest one says there is its author's failure.
//! Else the root says it in the author's place, with a new ticket, to each step once in a
//! request; who finds fault with that lies.
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
//! The root looks in at least as often as the shortest timeout of the chain, and gives
//! each function that it finds at work, by its ticket, one end of its time and no second
//! one. It counts from that moment, and not from one before the root looked, for to see
//! who is at work can take longer than a timeout. What a function says itself, when it
//! began since the root last looked, can make its time shorter and no longer: one that
//! lies gains that shortest timeout, and nobody but itself can say so.
//!
//! # Neighbours
//! A copy that is made anew is introduced to its neighbours, which may have served and
//! be hostile, while other chains of this worker wait. Whoever is asked for something
//! then has, as above, as much as it needs of a processor, and is waited for as long as it
//! has had no chance of that; the error names the one that did not answer, which goes,
//! and no other ([`lwc::Error::party`]). All that has a time together
//! ([`LINKS`]), after which nobody is replaced any more, but the request fails.

use super::attributes::MessageMeta;
use super::chain::{Contexts, Hop, NOT_TRAPPED, Step};
use super::error::{Cause, EndText, Failure};
use super::snapshot::word;
use super::ticket::Tickets;
use super::waiting::{Wait, next_before};
use lwc::{Errno, Event, Handle, MonotonicTime, Party, Rest, State};
use std::time::Duration;

/// How long a copy may take to note who its neighbours are, if all that time others
/// have the processors.
const LINK_TIMEOUT: Duration = Duration::from_secs(5);
/// So long copies are replaced that do not take their neighbours, beside the time that
/// it takes to make new ones: others wait for their requests meanwhile. Then the request
/// fails at the next one that does not.
const LINKS: Duration = Duration::from_millis(300);

/// What is there is taken, and nothing is waited for.
const AT_ONCE: MonotonicTime = MonotonicTime::from_nanos(0);

/// When the root looks again at one that it has switched to, where it does not answer.
const NUDGE: Duration = Duration::from_millis(20);
/// Of one that has not done what it was switched to for, though it had all that it takes:
/// it came to rest, or used the processor for long. It may have been on its way to
/// sleep when it was rung, and on a virtual machine time that the machine's host has
/// taken counts as its own.
const STRIKES: u32 = 3;
/// One that still had not so much of a processor says nothing about itself: the machine
/// is too busy.
const STARVES: Duration = Duration::from_secs(2);

const DISCARDED: &str = "it discarded itself";

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
    source: &'a mut Tickets,
    tickets: &'a mut [u64],
    /// How far it was when the root last looked.
    seen: usize,
    /// The root has handed over to this step itself, and how often it was seen since
    /// not to take over ([`STRIKES`]).
    by_root: Option<(usize, u32)>,
    /// The step that finds its request on its control page. It is written once: the
    /// function may be reading it.
    told: Option<usize>,
    /// The steps that have a new ticket, which nobody but the root has said to them. No
    /// step gets a second one: two that complain in turns would come to no end.
    renewed: Vec<usize>,
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
    /// The one at work says that what it was told is no message.
    NoMessage(usize),
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
            let source = self.source.get_or_insert_with(Tickets::new);
            self.tickets.clear();
            self.tickets.extend((0..=last).map(|_| source.draw()));
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
                source,
                tickets: &mut self.tickets,
                seen: 0,
                by_root: None,
                told: None,
                renewed: Vec::new(),
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
            let reply = contexts.take_reply(i);
            reply.map_err(|cause| (i, cause))
        });
        answer.map_err(|(i, cause)| contexts.failed(i, cause, id))
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

    /// How one rests that has been switched to and rung, and was to do something: what
    /// counts against it if it has not done that; and whether it had no processor for
    /// it.
    fn strikes(&self, copy: Handle) -> (u32, bool) {
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

    /// Makes the copies that are missing, and notes how long that took.
    /// Then all are parked.
    fn make_ready(&mut self, waits: &mut Vec<Duration>) -> Result<(), (usize, Cause)> {
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
                // Whose end it is found to be is what contexts say, where they are
                // processes.
                Some(Ok(Event::Ended(_))) if self.apart => {
                    event = match self.hear_of_an_end(&mut turn) {
                        Heard::Failure(failure) => return Err(failure),
                        _ => next_before(watch.until),
                    };
                    continue;
                }
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
            if who == Some(AtWork::Copy(last)) && *args == [word::DONE, turn.tickets[last], 0] {
                return Ok((last, false));
            }
            if !self.apart {
                if let Some(i) = self.says_no_message(&mut turn, who, &args) {
                    event = Some(self.tell_again(i, &mut turn, &mut watch)?);
                    continue;
                }
                let ends = who.and_then(|who| self.ends_in_turn(&turn, who, &args));
                return match ends {
                    Some(i) => Ok((i, true)),
                    None => Err(self.stopped(who, from, &args)),
                };
            }
            event = match self.hear(&mut turn, who, from, &args) {
                Heard::Nothing => next_before(watch.until),
                Heard::CannotHandOver(to) => Some(self.hand_over_to(to, &mut turn, &mut watch)?),
                Heard::NoMessage(i) => Some(self.tell_again(i, &mut turn, &mut watch)?),
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
        if let Some(i) = self.says_no_message(turn, who, args) {
            return Heard::NoMessage(i);
        }
        let next = self.line().get(i + 1).map(|next| &next.control);
        match args {
            [word::FAILED, errno, _]
                if *errno != libc::EBADMSG as u64
                    && next.is_some_and(|next| !next.has_taken(turn.tickets[i + 1])) =>
            {
                // Whoever says it again does not have the root do it again.
                if reached > i + 1 || turn.by_root.is_some_and(|(by, _)| by == i + 1) {
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

    /// The step that says of what it was told that it is no message, in its turn and
    /// before anybody behind it has had one. What the root itself has told it is one.
    ///
    /// If there is one, nobody behind it takes over any more by the tickets that there
    /// are.
    fn says_no_message(
        &self,
        turn: &mut Turn<'_>,
        who: Option<AtWork>,
        args: &[u64],
    ) -> Option<usize> {
        let Some(AtWork::Copy(i)) = who else {
            return None;
        };
        let ticket = turn.tickets.get(i).filter(|_| i > 0)?;
        let says = *args == [word::FAILED, libc::EBADMSG as u64, *ticket];
        // One that shows that it has handed over, or behind which somebody is at work,
        // had a message; a neighbour that shows nothing does not change that.
        let may = says && !turn.renewed.contains(&i) && turn.reached(self.line()) <= i;
        (may && !self.went_on(turn, i)).then_some(i)
    }

    /// Tells a step its request in the place of the one before it, which has told it none,
    /// as it says. Those behind it get new tickets, too: theirs are withdrawn.
    fn tell_again(
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
        self.has_taken_over(turn, i + 1)
    }

    /// Whether that one, or one behind it, has taken over in this request. If none has,
    /// then none will.
    fn has_taken_over(&self, turn: &Turn<'_>, i: usize) -> bool {
        let mut from_there = self.line().iter().zip(&*turn.tickets).skip(i);
        from_there.any(|(step, &ticket)| {
            let untouched = step.control.withdraw();
            !untouched && step.control.has_taken(ticket)
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
        // None that can be asked about: none that could be at work. What is handed over
        // while they are told apart is not lost: the root does it itself ([`Self::not_taken`]).
        let parked = if patient {
            let rests = lwc::come_to_rest(&copies, MonotonicTime::now()).unwrap_or_default();
            rests.into_iter().map(|r| r == Rest::Parked).collect()
        } else {
            lwc::parked_together(&copies, false).unwrap_or_default()
        };
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
            let (i, taken) = self.progress(turn);
            if !taken {
                return None;
            }
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

    /// Hands over to a step in the place of the one before it, which says that it has
    /// done so, or cannot.
    fn hand_over_to(
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
                misbehaved("it says that what the root has told it is no message")
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
