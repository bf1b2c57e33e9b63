//! Copies of snapshots: made ready, used, cleared away.

use super::chain::{LiveChain, NOT_TRAPPED};
use super::context::{end_of, word};
use super::error::{Cause, EndText};
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

    /// A copy of the step's snapshot that waits for an invocation.
    pub(crate) fn ready(&mut self, i: usize) -> Result<Handle, Cause> {
        if let Some(copy) = &self.steps[i].copy {
            return Ok(copy.handle());
        }
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
        // Whoever served before has ended, not only been told to: a process that
        // dies still writes (robust futexes), and what it wrote is cleared now.
        if let Some(used) = self.steps[i].used.take() {
            let _ = used.destroy();
        }
        self.steps[i].control.forget();
        let mut event = snapshot.switch_until(&[word::COPY], deadline);
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

    /// Step 7 of the life, once the copy has given its answer: it serves no more.
    /// It ends off the path of the invocation. Until then it may run on, where
    /// contexts are processes; what it said was read once, and the next function
    /// reads a copy of what it wrote (`serve.rs`).
    pub(super) fn roll_back(&mut self, i: usize) {
        let step = &mut self.steps[i];
        log::debug!("roll back: {}", step.function.name);
        self.counts.rollbacks += 1;
        step.used = step.copy.take();
    }

    /// Ends the copies that have served, all at once: each is waited for before
    /// the next copy of its function is made.
    pub(super) fn clear_away(&mut self) {
        for used in self.steps.iter().filter_map(|s| s.used.as_ref()) {
            let _ = used.kill();
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
