//! One function's part of an invocation, where the root stands between functions: what it
//! is told, the switch to it, and what it has to say.

use super::attributes::MessageMeta;
use super::chain::{Contexts, Hop, NOT_TRAPPED};
use super::error::{Cause, EndText};
use super::snapshot::word;
use super::waiting::Wait;
use crate::chain_file::Isolation;
use lwc::{Args, Errno, Event, Handle, MonotonicTime};
use lwc_function::abi::UNHANDLED;
use std::time::Duration;

/// When the root looks whether others run beside the one that is at work.
const LOOK_IN: Duration = Duration::from_millis(20);

/// The clock of an invocation. It is read once for each step: a hop is a few
/// microseconds.
pub(super) struct Times {
    pub(super) begun: MonotonicTime,
    /// When the last step was done.
    pub(super) now: MonotonicTime,
    pub(super) due: Option<MonotonicTime>,
}

/// What a step of an invocation gave.
pub(super) struct Answered {
    pub(super) len: usize,
    pub(super) meta: MessageMeta,
    pub(super) hop: Hop,
    /// It is the answer of the request, by the function's word.
    pub(super) ends: bool,
}

impl Contexts {
    /// One function's part.
    pub(super) fn hop(
        &mut self,
        i: usize,
        len: usize,
        meta: &MessageMeta,
        id: &str,
        times: &mut Times,
    ) -> Result<Answered, Cause> {
        let Times { begun, now, due } = *times;
        let waits = self.steps[i].copy.is_none();
        let copy = self.ready(i)?;
        let calls = self.calls_others(i);
        // In this request another step may have called them.
        let undone = calls && self.undo_between(i);
        let rolled_back = self.chain.isolation == Isolation::Invocation;
        let begin = if waits || rolled_back || undone {
            MonotonicTime::now()
        } else {
            now
        };
        let copied = if waits {
            begin.since(now)
        } else {
            Duration::ZERO
        };
        if due.is_some_and(|due| due <= begin) {
            return Err(Cause::Deadline);
        }
        let step = &self.steps[i];
        let own = begin + step.function.timeout;
        let until = due.map_or(own, |due| due.min(own));
        step.control.put_invocation(id, until.nanos());
        self.put_request(i, len, meta);
        self.log_invoke(i);
        self.counts.switches += 1;
        let words = [word::INVOKE, 0, self.way_in()];
        let event = copy.switch_until(&words, self.first_look(begin, until));
        if !waits && matches!(&event, Err(e) if is_of_the_copy(e)) {
            // It has died since it was last looked at, or says that it cannot be
            // switched to: another takes its place.
            self.end_out_of_turn(i);
            return self.hop(i, len, meta, id, times);
        }
        let event = if calls || self.steps[i].granted.is_some() {
            self.run_with_calls(i, event, own, due, id)
        } else {
            self.answer_of(i, copy, event, until)
        };
        let run = begin.elapsed();
        let ends = match event {
            Ok(args) => match args.first() {
                Some(&word::DONE) => false,
                Some(&word::END) => {
                    self.check_end(i)?;
                    true
                }
                _ => return Err(Cause::no_answer(&args)),
            },
            Err(Cause::Timeout(_)) if until < own => return Err(Cause::Deadline),
            Err(cause) => return Err(cause),
        };
        if rolled_back {
            self.roll_back(i);
        }
        let (len, meta) = self.take_reply(i)?;
        times.now = begin + run;
        let hop = Hop {
            at: begin.since(begun),
            copy: copied,
            run,
        };
        Ok(Answered {
            len,
            meta,
            hop,
            ends,
        })
    }

    /// The number of the way into a step's context: one for each that calls it, if they
    /// are of other workers, else one alone.
    fn way_in(&self) -> u64 {
        let caller = self.asked_by.callers.last();
        let ways = self.chain.called_by.iter();
        let way = ways.enumerate().find(|(_, f)| Some(*f) == caller);
        way.map_or(0, |(way, _)| way as u64)
    }

    /// Whether a step's function may end the request, which it says that it does. Its
    /// host asks the same first: who says so past it is hostile.
    pub(super) fn check_end(&self, i: usize) -> Result<(), Cause> {
        if self.steps[i].function.ends_request && !self.is_called() {
            return Ok(());
        }
        Err(Cause::Misbehaved(
            "it ended the request, for which it has no grant".into(),
        ))
    }

    /// Says what a step's input is.
    pub(super) fn put_request(&self, i: usize, len: usize, meta: &MessageMeta) {
        let step = &self.steps[i];
        let header = step.control.request();
        header.put(len as u64, meta.content_type.as_bytes());
        header.put_attributes(&meta.attributes);
    }

    pub(super) fn log_invoke(&self, i: usize) {
        let (chain, name) = (&self.chain.name, &self.steps[i].function.name);
        if self.tree.on_error == Some(i) {
            log::debug!("invoke: {chain} on_error {name}");
        } else {
            log::debug!("invoke: {chain} step {} {name}", i + 1);
        }
    }

    /// What a step's function says of its answer, checked.
    pub(super) fn take_reply(&self, i: usize) -> Result<(usize, MessageMeta), Cause> {
        match self.steps[i].control.status() {
            0 => self.reply_of(i),
            code => Err(self.reported(i, code)),
        }
    }

    /// The same, however it ended.
    pub(super) fn reply_of(&self, i: usize) -> Result<(usize, MessageMeta), Cause> {
        let header = self.steps[i].control.reply();
        let fixed = header.read();
        let (claimed, capacity) = (fixed.len(), self.capacity() as u64);
        if claimed > capacity {
            return Err(Cause::TooBig { claimed, capacity });
        }
        let Some(attributes) = header.attributes(&fixed) else {
            return Err(Cause::Misbehaved(
                "it left attributes that no function can set".into(),
            ));
        };
        let meta = MessageMeta {
            content_type: fixed.content_type(),
            attributes,
        };
        Ok((claimed as usize, meta))
    }

    /// What a function says of its own failure.
    pub(super) fn reported(&self, i: usize, code: i32) -> Cause {
        if code != UNHANDLED {
            let message = self.steps[i].control.error();
            let code = code.max(1);
            return Cause::Reported { code, message };
        }
        // One that failed would be known here.
        Cause::Reported {
            code: 1,
            message: "says that a call of its failed, and none did".into(),
        }
    }

    /// Switches to a step's copy and waits for it, and nobody else, to come
    /// back. Words of its answer.
    pub(crate) fn call(
        &mut self,
        i: usize,
        copy: Handle,
        args: &[u64],
        deadline: MonotonicTime,
    ) -> Result<Args, Cause> {
        let event = copy.switch_until(args, deadline);
        self.answer_of(i, copy, event, deadline)
    }

    /// Until when the root waits at first for one that it switches to, where others
    /// could run beside it.
    #[inline]
    pub(super) fn first_look(&self, now: MonotonicTime, until: MonotonicTime) -> MonotonicTime {
        if !self.apart || self.alone {
            return until;
        }
        until.min(now + LOOK_IN)
    }

    /// The same when it has been switched to: what came of it, or what else comes.
    pub(super) fn answer_of(
        &mut self,
        i: usize,
        copy: Handle,
        mut event: lwc::Result<Event>,
        deadline: MonotonicTime,
    ) -> Result<Args, Cause> {
        let snapshot = self.steps[i].snapshot.handle();
        let timeout = self.steps[i].function.timeout;
        let mut wait = Wait::until(deadline);
        let mut looked = !self.apart || self.alone;
        self.looked = Duration::ZERO;
        loop {
            match event {
                Ok(Event::Switched { from, args }) if from == Some(copy) => {
                    return Ok(args);
                }
                Ok(Event::Switched { from, args })
                    if from == Some(snapshot) && !self.is_old_news(i, &args) =>
                {
                    return Err(Cause::of_snapshot(&args));
                }
                // Out of turn: code that was to wait runs.
                Ok(Event::Switched { from, .. }) => self.end_unexpected(from),
                Ok(Event::Ended(end)) => return Err(Cause::Ended(EndText::from(end))),
                Ok(_) => return Err(Cause::Misbehaved(NOT_TRAPPED.into())),
                Err(e) if e.errno() == Errno::ETIMEDOUT => {
                    if !std::mem::replace(&mut looked, true) {
                        let begun = MonotonicTime::now();
                        self.end_those_who_run_on(i);
                        // That is no time of the one at work.
                        self.looked = begun.elapsed();
                        wait = Wait::until(deadline + self.looked);
                    }
                }
                Err(e) if is_of_the_copy(&e) => {
                    return Err(Cause::Ended(EndText::found_dead(&e)));
                }
                Err(e) => return Err(Cause::Backend(e)),
            }
            let Some(next) = wait.next() else {
                // Waited for before its next copy is made ([`Self::retire`]).
                let _ = copy.kill();
                return Err(Cause::Timeout(timeout));
            };
            event = next;
        }
    }
}

/// Whether it is a copy's own doing, and not the backend's, that it cannot be switched
/// to: it is dead; it says that it waits for something else; in one process, it has
/// left no room in its table for who calls it.
fn is_of_the_copy(e: &lwc::Error) -> bool {
    [Errno::ESRCH, Errno::EBUSY, Errno::EMFILE].contains(&e.errno())
}
