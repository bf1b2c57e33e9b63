//! How far a request is, and who has the turn.
//!
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

use crate::life::chain::{Contexts, Step};
use crate::life::ticket::Tickets;
use lwc::{Handle, MonotonicTime, Rest, State};

/// How far a request is.
pub(super) struct Turn<'a> {
    pub(super) source: &'a mut Tickets,
    pub(super) tickets: &'a mut [u64],
    /// How far it was when the root last looked.
    pub(super) seen: usize,
    /// The root has handed over to this step itself, and how often it was seen since
    /// not to take over ([`STRIKES`](super::strikes::STRIKES)).
    pub(super) by_root: Option<(usize, u32)>,
    /// The step that finds its request on its control page. It is written once: the
    /// function may be reading it.
    pub(super) told: Option<usize>,
    /// The steps that have a new ticket, which nobody but the root has said to them. No
    /// step gets a second one: two that complain in turns would come to no end.
    pub(super) renewed: Vec<usize>,
}

impl Turn<'_> {
    /// The step at which the request is: it has taken over, or was handed over to.
    pub(super) fn reached(&mut self, steps: &[Step]) -> usize {
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
pub(super) enum AtWork {
    Copy(usize),
    /// It tells of its copy's end.
    Snapshot(usize),
}

impl AtWork {
    pub(super) fn step(self) -> usize {
        match self {
            Self::Copy(i) | Self::Snapshot(i) => i,
        }
    }
}

impl Contexts {
    /// How far the request is, and whether that one shows its ticket.
    pub(super) fn progress(&self, turn: &mut Turn<'_>) -> (usize, bool) {
        let i = turn.reached(self.line());
        (i, self.steps[i].control.has_taken(turn.tickets[i]))
    }

    /// Whether a step after one has taken over in this request, which is to end at
    /// that one. If none has, then none will.
    ///
    /// All of them are asked: one that has its ticket knows the next one's by its own
    /// page, and can have that one take over in its own place.
    pub(super) fn went_on(&self, turn: &Turn<'_>, i: usize) -> bool {
        self.has_taken_over(turn, i + 1)
    }

    /// Whether that one, or one behind it, has taken over in this request. If none has,
    /// then none will.
    pub(super) fn has_taken_over(&self, turn: &Turn<'_>, i: usize) -> bool {
        let mut from_there = self.line().iter().zip(&*turn.tickets).skip(i);
        from_there.any(|(step, &ticket)| {
            let untouched = step.control.withdraw();
            !untouched && step.control.has_taken(ticket)
        })
    }

    /// Whether a step's copy has ended, by the kernel's word.
    pub(super) fn is_dead(&self, i: usize) -> bool {
        let copy = self.steps[i].copy.as_ref();
        let info = copy.and_then(|c| c.handle().info().ok());
        info.is_some_and(|info| info.state == State::Dead)
    }

    pub(super) fn find(&self, is: impl Fn(Handle) -> bool) -> Option<AtWork> {
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

    pub(super) fn in_state(&self, state: State) -> Option<AtWork> {
        self.find(|h| h.info().is_ok_and(|info| info.state == state))
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
    pub(super) fn at_work(&mut self, turn: &mut Turn<'_>) -> Option<usize> {
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
}
