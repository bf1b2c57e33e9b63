//! Functions that hand over to each other, the root at both ends alone.
//!
//! ```text
//!   root ──lwSwitch──▶ f ──lwSwitch──▶ g ──lwSwitch──▶ h ──lwSwitch──▶ root
//! ```
//!
//! A hop is one switch then, not two. Each copy holds descriptors of the root,
//! of its snapshot and of its two neighbours, which the root introduced to it
//! ([`LiveChain::link`]); they carry the right to switch and nothing else. A
//! function that gives no answer switches to the root instead of its neighbour.
//!
//! This is for the kernel backend, whose contexts run only when somebody
//! switches to them, and for copies that serve again and again. Where contexts
//! are processes a hostile one could hand over again while the next is at work;
//! there the root stands between (`chain.rs`).
//!
//! What the root sees is the kernel's word: who switched to it, and whose time
//! was over while it ran. What it is told is each function's own: when it began.
//! So it looks in at least as often as the shortest timeout of the chain, gives
//! each function that it finds at work one end of its time and no second one,
//! and a function that lies about when it began gains that shortest timeout.

use super::chain::{About, Hop, LiveChain, NOT_TRAPPED};
use super::context::word;
use super::error::{Cause, Failure};
use lwc::{Errno, Event, Handle, Moment, State};
use std::time::Duration;

/// How long a copy may take to note who its neighbours are.
const LINK_PATIENCE: Duration = Duration::from_secs(5);

/// When the last invocation was, and how many steps it reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ran {
    begun: Moment,
    /// When the root switched to the first function.
    left: Moment,
    ended: Moment,
    steps: usize,
}

/// Who is at work, as the kernel has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worker {
    Copy(usize),
    /// It tells of its copy's end.
    Snapshot(usize),
}

impl Worker {
    fn step(self) -> usize {
        match self {
            Self::Copy(i) | Self::Snapshot(i) => i,
        }
    }
}

/// The ends of everybody's time in one invocation. It is used from the first
/// time that somebody takes long.
struct Watch {
    /// The shortest timeout.
    every: Duration,
    /// When the root last looked.
    looked: Moment,
    /// Of those seen at work.
    ends: Vec<(Worker, Moment)>,
}

impl LiveChain {
    /// Introduces the copies to their neighbours, if these are not the ones
    /// they know.
    pub(super) fn link(&mut self) -> Result<(), (usize, Cause)> {
        if self.linked || !self.relay {
            return Ok(());
        }
        let all = 0..self.steps.len();
        let copies = all
            .clone()
            .map(|i| self.ready(i).map_err(|cause| (i, cause)))
            .collect::<Result<Vec<Handle>, _>>()?;
        for i in all {
            self.link_step(i, &copies).map_err(|cause| {
                // A table without room, say, is mended by a new copy.
                self.retire(i);
                (i, cause)
            })?;
        }
        self.linked = true;
        Ok(())
    }

    fn link_step(&mut self, i: usize, copies: &[Handle]) -> Result<(), Cause> {
        let copy = copies[i];
        let mut words = [word::LINK, word::NOBODY, word::NOBODY];
        for (at, neighbour) in [(1, i.checked_sub(1)), (2, Some(i + 1))] {
            if let Some(&neighbour) = neighbour.and_then(|j| copies.get(j)) {
                words[at] = copy.introduce(neighbour)? as u64;
            }
        }
        self.steps[i]
            .control
            .put_timeout(self.steps[i].function.timeout);
        self.counts.switches += 1;
        let reply = self.call(i, copy, &words, Moment::now() + LINK_PATIENCE)?;
        match reply.first() {
            Some(&word::DONE) => Ok(()),
            _ => Err(Cause::Misbehaved("it does not take neighbours".into())),
        }
    }

    /// Makes the copies that are missing, and notes how long that took.
    fn make_ready(&mut self) -> Result<(), (usize, Cause)> {
        self.waits.clear();
        if self.linked {
            return Ok(());
        }
        for i in 0..self.steps.len() {
            let begin = Moment::now();
            let waits = self.steps[i].copy.is_none();
            self.ready(i).map_err(|cause| (i, cause))?;
            self.waits.push(if waits {
                begin.elapsed()
            } else {
                Duration::ZERO
            });
        }
        self.link()
    }

    /// Runs the chain from end to end.
    pub(super) fn relay(
        &mut self,
        len: usize,
        about: &About,
        id: &str,
        due: Option<Moment>,
    ) -> Result<(usize, About), Failure> {
        let last = self.steps.len() - 1;
        let begun = Moment::now();
        let mut left = begun;
        let result = self.make_ready().and_then(|()| {
            if !self.waits.is_empty() {
                left = Moment::now();
            }
            if due.is_some_and(|due| due <= left) {
                return Err((0, Cause::Deadline));
            }
            for step in &self.steps {
                let due = due.map_or(u64::MAX, Moment::nanos);
                step.control.put_invocation(id, due);
            }
            self.put_request(0, len, about);
            (1..=last).for_each(|i| self.log_invoke(i));
            self.counts.switches += 1;
            self.run_through(left, due)
        });
        let reached = result.as_ref().map_or_else(|(i, _)| *i, |()| last);
        self.ran = Some(Ran {
            begun,
            left,
            ended: Moment::now(),
            steps: reached + 1,
        });
        for i in 0..=reached {
            self.pass_on_log(i, id);
        }
        result
            .and_then(|()| self.take_reply(last).map_err(|cause| (last, cause)))
            .map_err(|(i, cause)| self.failed(i, cause, id))
    }

    /// A step that gave no answer. Its state is not trusted again, nor is
    /// anybody's where the control went a way that it should not.
    fn failed(&mut self, i: usize, cause: Cause, id: &str) -> Failure {
        if matches!(cause, Cause::Misbehaved(_)) {
            (0..self.steps.len()).for_each(|j| self.retire(j));
        }
        self.retire(i);
        let failure = self.failure(i, cause, id);
        log::debug!("retire: {failure}");
        failure
    }

    /// From the switch to the first function until the last one is done, or
    /// one is not.
    fn run_through(&mut self, begun: Moment, due: Option<Moment>) -> Result<(), (usize, Cause)> {
        let last = self.steps.len() - 1;
        let first = self.ready(0).map_err(|cause| (0, cause))?;
        let timeouts = self.steps.iter().map(|s| s.function.timeout);
        let every = timeouts.min().unwrap_or_default();
        let end = begun + self.steps[0].function.timeout;
        let until = (begun + every).min(due.unwrap_or(end));
        let mut event = first.switch_until(&[word::INVOKE], until);
        let mut watch = None;
        loop {
            let (from, args) = match event {
                Ok(Event::Switched {
                    from: Some(from),
                    args,
                }) => (from, args),
                Err(e) if e.errno() == Errno::ETIMEDOUT => {
                    let watch = watch.get_or_insert_with(|| Watch {
                        every,
                        looked: begun,
                        ends: vec![(Worker::Copy(0), end)],
                    });
                    event = self.look_in(watch, due)?;
                    continue;
                }
                Err(e) => return Err((0, Cause::Backend(e))),
                Ok(Event::Called(_)) => return Err((0, Cause::Misbehaved(NOT_TRAPPED.into()))),
                Ok(Event::Switched { from: None, .. } | Event::Ended(_)) => {
                    let i = self.in_state(State::Dead).map_or(0, Worker::step);
                    return Err((i, Cause::Misbehaved("it discarded itself".into())));
                }
            };
            return match self.find(|h| h == from) {
                Some(Worker::Copy(i)) if i == last && args.first() == Some(&word::DONE) => Ok(()),
                Some(Worker::Copy(i)) => Err((i, self.stopped_at(i, &args))),
                Some(Worker::Snapshot(i)) => Err((i, Cause::of_snapshot(&args))),
                None => Err((0, Cause::Misbehaved("a stranger took control".into()))),
            };
        }
    }

    fn find(&self, is: impl Fn(Handle) -> bool) -> Option<Worker> {
        // The last copy first: it is asked for most.
        let steps = || self.steps.iter().enumerate().rev();
        let mut copies = steps().filter_map(|(i, step)| Some((i, step.copy.as_ref()?)));
        if let Some((i, _)) = copies.find(|(_, copy)| is(copy.handle())) {
            return Some(Worker::Copy(i));
        }
        steps()
            .find(|(_, step)| is(step.snapshot.handle()))
            .map(|(i, _)| Worker::Snapshot(i))
    }

    fn in_state(&self, state: State) -> Option<Worker> {
        self.find(|h| h.info().is_ok_and(|info| info.state == state))
    }

    /// Why a copy switched to the root before the chain was through.
    fn stopped_at(&self, i: usize, args: &[u64]) -> Cause {
        let misbehaved = |text: &str| Cause::Misbehaved(text.into());
        match args {
            [word::DONE, ..] => match self.take_reply(i) {
                Ok(_) => misbehaved("it did not hand over to the next function"),
                Err(cause) => cause,
            },
            [word::STRANGER, ..] => {
                misbehaved("control came to it out of turn; it or a neighbour is hostile")
            }
            [word::FAILED, errno, ..] if *errno == libc::EBADMSG as u64 => {
                misbehaved("the function before it left a length or attributes that none can")
            }
            [word::FAILED, errno, ..] => Cause::Misbehaved(format!(
                "it cannot hand over to the next function: {}",
                Errno::from_raw(*errno as i32)
            )),
            _ => Cause::no_answer(args),
        }
    }

    /// Somebody is still at work. May it go on?
    fn look_in(
        &self,
        watch: &mut Watch,
        due: Option<Moment>,
    ) -> Result<lwc::Result<Event>, (usize, Cause)> {
        let now = Moment::now();
        let Some(worker) = self.in_state(State::Preempted) else {
            return Err((0, Cause::Misbehaved("nobody was at work".into())));
        };
        let i = worker.step();
        let step = &self.steps[i];
        if due.is_some_and(|due| due <= now) {
            return Err((i, Cause::Deadline));
        }
        let known = watch.ends.iter().find(|(w, _)| *w == worker);
        let end = if let Some(&(_, end)) = known {
            end
        } else {
            let says = step.control.began();
            let believed = worker == Worker::Copy(i) && (watch.looked..=now).contains(&says);
            let end = if believed { says } else { now } + step.function.timeout;
            watch.ends.push((worker, end));
            end
        };
        if end <= now {
            return Err((i, Cause::Timeout(step.function.timeout)));
        }
        watch.looked = now;
        let until = end.min(now + watch.every).min(due.unwrap_or(end));
        let handle = match (worker, &step.copy) {
            (Worker::Copy(_), Some(copy)) => copy.handle(),
            _ => step.snapshot.handle(),
        };
        Ok(handle.switch_until(&[], until))
    }

    /// Times of an invocation's hops, from what the functions say.
    pub(super) fn hops_of(&self, ran: Ran) -> Vec<Hop> {
        let Ran {
            begun,
            left,
            ended,
            steps,
        } = ran;
        let mut starts: Vec<Moment> = Vec::with_capacity(steps + 1);
        starts.push(left);
        for step in &self.steps[1..steps] {
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
