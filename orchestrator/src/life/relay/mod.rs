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
//! | what | where |
//! |---|---|
//! | a request from end to end | here |
//! | how far it is, and who has the turn | [`turn`] |
//! | what a switch to the root means | [`hearing`] |
//! | when it takes long: whose time runs out, who is handed over to again | [`looking`] |
//! | copies are introduced to their neighbours | [`neighbours`] |
//! | what one did that was switched to | [`strikes`] |

mod hearing;
mod looking;
mod neighbours;
mod strikes;
mod turn;

use super::attributes::MessageMeta;
use super::chain::{Contexts, Hop, NOT_TRAPPED};
use super::error::{Cause, Failure};
use super::snapshot::word;
use super::ticket::Tickets;
use super::waiting::next_before;
use hearing::Heard;
use looking::TimeLimits;
use lwc::{Errno, Event, MonotonicTime};
use std::time::Duration;
use turn::{AtWork, Turn};

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
}
