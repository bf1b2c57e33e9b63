//! Copies of snapshots: made ready, used, cleared away.

use super::chain::{LiveChain, NOT_TRAPPED};
use super::context::{end_of, word};
use super::error::{Cause, EndText};
use super::serve::KEPT_INPUT;
use crate::chain_file::Isolation;
use lwc::{Context, Errno, Event, Handle, Moment};
use std::time::Duration;

/// How long a snapshot may take to copy itself.
const COPY_PATIENCE: Duration = Duration::from_secs(5);

impl LiveChain {
    pub(super) fn kill_stranger(&mut self, stranger: Handle) {
        let _ = stranger.kill();
        for step in &mut self.steps {
            if step.copy.as_ref().map(Context::handle) == Some(stranger) {
                step.copy = None;
                return;
            }
        }
        // Another chain's, which holds the descriptor and finds it dead.
    }

    /// A copy of the step's snapshot that waits for an invocation. That there
    /// is none is never the function's doing: its handler has not run in a
    /// copy that is being made, nor ever in its snapshot.
    pub(crate) fn ready(&mut self, i: usize) -> Result<Handle, Cause> {
        if let Some(copy) = &self.steps[i].copy {
            return Ok(copy.handle());
        }
        self.make_copy(i)
            .map_err(|cause| Cause::NoCopy(Box::new(cause)))
    }

    fn make_copy(&mut self, i: usize) -> Result<Handle, Cause> {
        let snapshot = self.steps[i].snapshot.handle();
        let known: Vec<Handle> = self
            .steps
            .iter()
            .flat_map(|s| {
                [
                    Some(s.snapshot.handle()),
                    s.copy.as_ref().map(Context::handle),
                ]
            })
            .flatten()
            .collect();
        let deadline = Moment::now() + COPY_PATIENCE;
        self.counts.switches += 1;
        let left = match self.chain.isolation {
            Isolation::Invocation => {
                self.steps[i].control.forget();
                self.steps[i].left
            }
            Isolation::Chain => 0,
        };
        let mut event = snapshot.switch_until(&[word::COPY, left as u64], deadline);
        loop {
            match event {
                Ok(Event::Switched {
                    from: Some(from),
                    args,
                }) if !known.contains(&from) => {
                    // The book of contexts knows who made whom.
                    let mine =
                        snapshot.info().map(|s| s.id).ok() == from.info().map(|c| c.creator).ok();
                    if mine && args.first() == Some(&word::COPY_READY) {
                        let copy = Context::own(from);
                        self.counts.copies += 1;
                        self.steps[i].left = 0;
                        // There and back once more, now that it is in its
                        // sandbox: the first time is the dearest, and nobody
                        // waits yet.
                        self.call(i, from, &[word::REHEARSE], deadline)?;
                        self.steps[i].copy = Some(copy);
                        self.linked = false;
                        return Ok(from);
                    }
                    if mine {
                        let _ = Context::own(from).destroy();
                        return Err(Cause::Misbehaved(format!(
                            "its copy could not enter the sandbox: {}",
                            Errno::from_raw(args.get(1).copied().unwrap_or(0) as i32)
                        )));
                    }
                    self.kill_stranger(from);
                }
                Ok(Event::Switched { from, args }) if from == Some(snapshot) => {
                    return Err(match args.first() {
                        Some(&word::ENDED) => Cause::Ended(EndText::from(end_of(&args))),
                        _ => Cause::Misbehaved(format!(
                            "its snapshot cannot copy itself: {}",
                            self.steps[i].control.error()
                        )),
                    });
                }
                Ok(Event::Switched { from, .. }) => {
                    if let Some(stranger) = from {
                        self.kill_stranger(stranger);
                    }
                }
                Ok(Event::Called(_)) => return Err(Cause::Misbehaved(NOT_TRAPPED.into())),
                Ok(Event::Ended(end)) => return Err(Cause::Ended(EndText::from(end))),
                Err(e) if e.errno() == Errno::ETIMEDOUT => {
                    return Err(Cause::Timeout(COPY_PATIENCE));
                }
                Err(e) => return Err(Cause::Backend(e)),
            }
            event = lwc::await_switch(deadline);
        }
    }

    /// Step 7 of the life, once the copy has given an answer of `len` bytes:
    /// it serves no more. It ends off the path of the invocation, but for one
    /// that could change behind the next function's back what that one reads.
    /// In one process it runs only if somebody switches to it, and nobody does;
    /// and little is read from a page of the reader's own.
    pub(super) fn roll_back(&mut self, i: usize, len: usize) {
        let is_read_in_place = i + 1 < self.steps.len() && len > KEPT_INPUT;
        let step = &mut self.steps[i];
        step.left = step.left.max(len);
        log::debug!("roll back: {}", step.function.name);
        self.counts.rollbacks += 1;
        if let Some(used) = step.copy.take() {
            if self.apart && is_read_in_place {
                let _ = used.kill();
            }
            step.used = Some(used);
        }
    }

    /// Ends the copies that have served.
    pub(super) fn clear_away(&mut self) {
        for step in &mut self.steps {
            if let Some(used) = step.used.take() {
                let _ = used.kill();
            }
        }
    }

    /// Step 8 of the life: the copy goes; the next comes from the snapshot.
    pub(super) fn retire(&mut self, i: usize) {
        let Some(copy) = self.steps[i].copy.take() else {
            return;
        };
        self.linked = false;
        if self.relay {
            // Its creator's to end; to close its descriptor is not enough.
            let patience = Moment::now() + COPY_PATIENCE;
            let snapshot = &self.steps[i].snapshot;
            let _ = snapshot.switch_until(&[word::DISMISS], patience);
        } else {
            let _ = copy.destroy();
        }
    }
}

impl Drop for LiveChain {
    /// Copies that name each other would be there until the process ends.
    fn drop(&mut self) {
        if self.relay {
            (0..self.steps.len()).for_each(|i| self.retire(i));
        }
    }
}
