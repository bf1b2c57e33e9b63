//! What a switch to the root means for a request.

use super::turn::{AtWork, Turn};
use crate::life::chain::Contexts;
use crate::life::error::{Cause, EndText};
use crate::life::snapshot::word;
use lwc::{Errno, Handle, State};

const DISCARDED: &str = "it discarded itself";

/// What a switch to the root means for a request.
pub(super) enum Heard {
    Nothing,
    /// The one at work cannot hand over to this step, as it says.
    CannotHandOver(usize),
    /// The one at work says that what it was told is no message.
    NoMessage(usize),
    /// This step, which is at work, ends the request with its answer.
    End(usize),
    Failure((usize, Cause)),
}

impl Contexts {
    /// In one process: the step that ends the request by what it says, if it may, has
    /// the turn, and has handed over to nobody.
    pub(super) fn ends_in_turn(&self, turn: &Turn<'_>, who: AtWork, args: &[u64]) -> Option<usize> {
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
    pub(super) fn stopped(
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
    pub(super) fn discarded(&self) -> (usize, Cause) {
        let i = self.in_state(State::Dead).map_or(0, AtWork::step);
        (i, Cause::Misbehaved(DISCARDED.into()))
    }

    /// What a switch to the root means for this request, where contexts are
    /// processes: anybody can switch here at any time, and what it says may have
    /// waited here for long.
    pub(super) fn hear(
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
    pub(super) fn says_no_message(
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
    pub(super) fn hear_of_an_end(&mut self, turn: &mut Turn<'_>) -> Heard {
        let i = turn.reached(self.line());
        if self.is_dead(i) && !self.went_on(turn, i) {
            return Heard::Failure((i, Cause::Misbehaved(DISCARDED.into())));
        }
        Heard::Nothing
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
}
