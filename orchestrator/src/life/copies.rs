//! Copies of snapshots: made ready, used, cleared away.

use super::chain::{Contexts, LiveChain, NOT_TRAPPED, Step, Way};
use super::error::{Cause, EndText};
use super::granted::Granted;
use super::rollback::{Mechanism, Rollback, RollbackWay};
use super::snapshot::{end_of, word};
use super::ticket::random;
use super::waiting::Wait;
use crate::chain_file::Isolation;
use lwc::{Context, Errno, Event, Handle, Info, MonotonicTime, Rest};
use std::sync::Once;
use std::time::Duration;

/// How long a snapshot may take to copy itself.
const COPY_TIMEOUT: Duration = Duration::from_secs(5);

impl Contexts {
    /// Somebody has switched to the root whose turn it was not. A copy that does
    /// so runs no more. A snapshot runs nobody's code but ours, and is not ended
    /// for what copies do: it tells of one that has ended, late.
    pub(super) fn end_unexpected(&mut self, from: Option<Handle>) {
        // One that discarded itself is gone.
        let Some(from) = from else { return };
        let is = |c: &Context| c.handle() == from;
        if self.steps.iter().any(|s| is(&s.snapshot)) {
            return;
        }
        let own = |s: &Step| s.copy.as_ref().is_some_and(is);
        if let Some(i) = self.steps.iter().position(own) {
            return self.end_out_of_turn(i);
        }
        // Of another chain, which finds it dead; or one that has served. The
        // root has made the snapshots, and these the copies.
        let (root, info) = (lwc::info(), from.info());
        if let (Ok(root), Ok(info)) = (root, info)
            && info.creator != root.id
        {
            log::warn!("a context passed control out of turn and is ended");
            let _ = from.kill();
        }
    }

    /// A copy that runs, or acts, when it should not: it ends, and is told of
    /// nowhere but in the log. The request may be served well all the same.
    pub(super) fn end_out_of_turn(&mut self, i: usize) {
        self.does_not_rest(i);
        let place = if i < self.chain.steps.len() {
            format!("step {}", i + 1)
        } else if self.tree.on_error == Some(i) {
            "on_error".to_owned()
        } else {
            "called".to_owned()
        };
        log::warn!(
            "chain {:?}, {place}, function {:?}: its context ran out of turn and is ended",
            self.chain.name,
            self.steps[i].function.name
        );
        self.retire(i);
    }

    /// Whether a step's snapshot tells of a copy that is no longer the step's.
    pub(super) fn is_old_news(&self, i: usize, args: &[u64]) -> bool {
        self.apart && args.first() == Some(&word::ENDED) && end_of(args).id != self.steps[i].id
    }

    /// Before a request, whatever the last one was like: every copy that there is
    /// waits to be switched to, by the kernel's word, all of them at one moment;
    /// one that does not is ended, and another one will be made. What it could
    /// still write is cleared for the next copy, or is read by nobody.
    ///
    /// In one process nobody runs but the current context.
    pub(super) fn settle(&mut self) {
        if std::mem::replace(&mut self.settled, true) || !self.apart {
            return;
        }
        self.end_awake();
    }

    /// Ends the copies that do not wait, and those of which something is known to
    /// be wrong.
    fn end_awake(&mut self) {
        let begun = MonotonicTime::now();
        loop {
            let awake = self.not_parked(begun);
            // None of them is kept awake by another: those have been told apart.
            if awake.is_empty() {
                break;
            }
            awake.into_iter().for_each(|i| self.end_out_of_turn(i));
        }
        for i in 0..self.steps.len() {
            if std::mem::take(&mut self.steps[i].wrong) && self.steps[i].copy.is_some() {
                self.end_out_of_turn(i);
            }
        }
    }

    /// The steps whose copies do not wait, nor come to that, where they may have been
    /// on their way since then.
    fn not_parked(&self, since: MonotonicTime) -> Vec<usize> {
        let there = |(i, s): (usize, &Step)| Some((i, s.copy.as_ref()?.handle()));
        let (steps, copies): (Vec<usize>, Vec<Handle>) =
            self.steps.iter().enumerate().filter_map(there).unzip();
        // Whoever cannot be asked about is not trusted either.
        let rests = lwc::come_to_rest(&copies, since)
            .unwrap_or_else(|_| vec![Rest::Elsewhere; copies.len()]);
        let rests = steps.into_iter().zip(rests);
        rests
            .inspect(|(i, rest)| self.tell_of_threads(*i, *rest))
            .filter_map(|(i, rest)| (rest != Rest::Parked).then_some(i))
            .collect()
    }

    /// Threads that a function has left behind end with its context.
    fn tell_of_threads(&self, i: usize, rest: Rest) {
        if rest == Rest::Threads {
            log::warn!(
                target: "function",
                "{}: threads of its own were still there when it had answered: they end with its context, and a new one is made; join them",
                self.steps[i].function.name
            );
        }
    }

    /// One has been at work for some time: the others wait, or they end here. They
    /// would use the processor in its time, and in the time of those who wait for it.
    ///
    /// Once is enough: whoever waits then is woken by nobody, for in its sandbox
    /// it has no timer, and no copy here can ring another.
    ///
    /// Who waits for the one at work, because it has called it or one that has, and may
    /// have threads, is not asked: it is its time as well, and others of its threads
    /// compute, or wait for their turn to call.
    pub(super) fn end_those_who_run_on(&mut self, at_work: usize) {
        let callers: Vec<usize> = self.callers_with_threads(at_work).collect();
        let others = |&(i, _): &(usize, &Step)| i != at_work && !callers.contains(&i);
        let there = |(i, s): (usize, &Step)| Some((i, s.copy.as_ref()?.handle()));
        let steps = self.steps.iter().enumerate().filter(others);
        let (numbers, copies): (Vec<usize>, Vec<Handle>) = steps.filter_map(there).unzip();
        let rests = lwc::come_to_rest(&copies, MonotonicTime::now())
            .unwrap_or_else(|_| vec![Rest::Elsewhere; copies.len()]);
        for (i, rest) in numbers.into_iter().zip(rests) {
            self.tell_of_threads(i, rest);
            if rest != Rest::Parked {
                self.end_out_of_turn(i);
            }
        }
    }

    /// Those who wait for the reply of one at work, or for that of another who does, and
    /// may have threads. (Nobody calls one that waits for it: `check` refuses that.)
    fn callers_with_threads(&self, at_work: usize) -> impl Iterator<Item = usize> {
        let caller = |&i: &usize| self.steps.get(i)?.called_by;
        std::iter::successors(caller(&at_work), caller)
            .filter(|&i| self.steps[i].function.threads > 0)
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
        let last = self.steps[i].id;
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
        let begin = MonotonicTime::now();
        let deadline = begin + COPY_TIMEOUT;
        self.counts.switches += 1;
        // Whoever served before has ended, not only been told to: a process that
        // dies still writes (robust futexes), and what it wrote is cleared now.
        if let Some(used) = self.steps[i].used.take()
            && let Err(e) = end(&used, self.apart)
        {
            // Nothing is put where it may still read, or write.
            self.steps[i].used = Some(used);
            return Err(Cause::Backend(e));
        }
        self.steps[i].control.forget();
        self.forget_what_was_lent(i);
        let number = self.nonce();
        let mut event = snapshot.switch_until(&[word::COPY, number], deadline);
        let mut wait = Wait::until(deadline);
        loop {
            match event {
                Ok(Event::Switched {
                    from: Some(from),
                    args,
                }) if !known.contains(&from) => {
                    // The book of contexts knows who made whom.
                    let maker = snapshot.info().map(|s| s.id).ok();
                    // The copy before may have left a message as its last.
                    let is_new = |c: &Info| Some(c.creator) == maker && c.id > last;
                    let made = from.info().ok().filter(is_new);
                    let Some(made) = made else {
                        self.end_unexpected(Some(from));
                        event = wait.next().ok_or(Cause::Timeout(COPY_TIMEOUT))?;
                        continue;
                    };
                    let copy = Context::own(from);
                    if args.first() == Some(&word::COPY_READY) {
                        self.counts.copies += 1;
                        self.steps[i].id = made.id;
                        self.steps[i].wrong = false;
                        self.steps[i].left_behind = false;
                        self.steps[i].unread = false;
                        self.steps[i].arguments_left = false;
                        // There and back once more, now that it is in its
                        // sandbox: the first time is the dearest, and nobody
                        // waits yet.
                        self.call(i, from, &[word::WARM_UP], deadline)?;
                        if self.steps[i].function.threads > 0 {
                            from.expect_threads().map_err(Cause::Backend)?;
                        }
                        self.steps[i].copy = Some(copy);
                        self.mark(i);
                        if self.steps[i].dirty {
                            self.rolled_back(i, RollbackWay::NewCopy, begin, None);
                        }
                        self.linked &= i >= self.chain.steps.len();
                        self.settled = false;
                        return Ok(from);
                    }
                    self.steps[i].used = Some(copy);
                    return Err(Cause::Misbehaved(format!(
                        "its copy could not enter the sandbox: {}",
                        Errno::from_raw(args.get(1).copied().unwrap_or(0) as i32)
                    )));
                }
                Ok(Event::Switched { from, args }) if from == Some(snapshot) => {
                    match args.first() {
                        // Of the copy before.
                        Some(&word::UNEXPECTED) if self.apart => {}
                        Some(&word::ENDED) if self.apart && end_of(&args).id == last => {}
                        Some(&word::ENDED) => {
                            return Err(Cause::Ended(EndText::from(end_of(&args))));
                        }
                        _ if !answers(&args, number) => {}
                        _ => {
                            return Err(Cause::Misbehaved(format!(
                                "its snapshot cannot copy itself: {}",
                                self.steps[i].control.error()
                            )));
                        }
                    }
                }
                Ok(Event::Switched { from, .. }) => self.end_unexpected(from),
                Ok(Event::Ended(end)) => return Err(Cause::Ended(EndText::from(end))),
                Ok(_) => return Err(Cause::Misbehaved(NOT_TRAPPED.into())),
                Err(e) if e.errno() == Errno::ETIMEDOUT => {}
                Err(e) => return Err(Cause::Backend(e)),
            }
            event = wait.next().ok_or(Cause::Timeout(COPY_TIMEOUT))?;
        }
    }

    /// A new copy's state is what it is rolled back to after each invocation,
    /// where the backend can do that. Elsewhere, as before, a new one is made.
    fn mark(&mut self, i: usize) {
        let wanted = self.chain.isolation == Isolation::Invocation;
        let marked = wanted.then(|| self.ask_snapshot(i, word::MARK));
        self.steps[i].marked = match marked {
            Some(Ok(word)) => Some(Mechanism::of(word)),
            _ => None,
        };
        // Once: it is the same for all copies.
        static IN_PLACE: Once = Once::new();
        static NEW_COPY: Once = Once::new();
        match marked {
            Some(Ok(word)) => IN_PLACE.call_once(|| {
                let by = Mechanism::of(word);
                log::info!("rollback in place, by {by}: this system lets contexts be rolled back");
            }),
            Some(Err(why)) => NEW_COPY.call_once(|| {
                log::info!("no rollback in place, a new copy for each invocation: {why}");
            }),
            None => {}
        }
    }

    /// What the last invocation of a step's function did is undone.
    fn rolled_back(
        &mut self,
        i: usize,
        way: RollbackWay,
        begin: MonotonicTime,
        pages: Option<u64>,
    ) {
        let rollback = Rollback {
            step: i,
            way,
            at: begin.since(self.begun),
            took: begin.elapsed(),
            pages,
        };
        log::trace!("rolled back: {rollback:?}");
        let step = &mut self.steps[i];
        step.dirty = false;
        step.rollback = Some(rollback);
    }

    /// Has a step's snapshot do something about its copy. Its word for it.
    fn ask_snapshot(&mut self, i: usize, what: u64) -> Result<u64, String> {
        let snapshot = self.steps[i].snapshot.handle();
        let deadline = MonotonicTime::now() + COPY_TIMEOUT;
        self.counts.switches += 1;
        let number = self.nonce();
        let mut event = snapshot.switch_until(&[what, number], deadline);
        let mut wait = Wait::until(deadline);
        loop {
            match event {
                Ok(Event::Switched { from, args }) if from == Some(snapshot) => {
                    match args.first() {
                        Some(&word::READY | &word::FAILED) if !answers(&args, number) => {}
                        Some(&word::READY) => return Ok(args.get(1).copied().unwrap_or(0)),
                        // Of its copies it tells late.
                        Some(&word::UNEXPECTED | &word::ENDED) if self.apart => {}
                        _ => return Err(self.steps[i].control.error()),
                    }
                }
                Ok(Event::Switched { from, .. }) => self.end_unexpected(from),
                Ok(_) => return Err("it ended".into()),
                Err(e) if e.errno() == Errno::ETIMEDOUT => {}
                Err(e) => return Err(e.to_string()),
            }
            event = wait.next().ok_or("its snapshot does not answer")?;
        }
    }

    /// Step 7 of the life, once the copy has given its answer: it will be rolled
    /// back, or serves no more. Both are done off the path of the invocation, by
    /// [`clear_away`](Self::clear_away). Until then it may run on, where contexts
    /// are processes; what it said was read once, and the next function reads a
    /// copy of what it wrote (`invocation.rs`).
    pub(super) fn roll_back(&mut self, i: usize) {
        let step = &mut self.steps[i];
        log::debug!("roll back: {}", step.function.name);
        step.dirty = true;
        // Of an error of its own nobody knows whether it has read all that was to come.
        if let Some(granted) = &step.granted
            && step.control.status() == 0
        {
            granted.served();
        }
        step.arguments_left = !self.tree.nodes[i].calls.is_empty();
        if step.marked.is_none() {
            step.used = step.copy.take();
            step.unread = !self.tree.edges.is_empty();
            // Nor does it run in the turn of others until then.
            if let Some(used) = step.used.as_ref().filter(|_| self.apart) {
                let _ = used.kill();
            }
        }
    }

    /// Rolls the copies back that have served. The others end, all at once: each is
    /// waited for before the next copy of its function is made.
    pub(super) fn clear_away(&mut self) {
        (0..self.steps.len()).for_each(|i| self.undo(i));
        self.erase_what_is_left_behind();
        for used in self.steps.iter().filter_map(|s| s.used.as_ref()) {
            let _ = used.kill();
        }
    }

    /// Rolls a copy back, if there is one that has served. It ends if it cannot be. Where
    /// there is none, for it is replaced, what it wrote goes.
    pub(super) fn undo(&mut self, i: usize) {
        let step = &mut self.steps[i];
        if !step.dirty {
            return;
        }
        if step.copy.is_none() {
            if std::mem::take(&mut step.unread) {
                self.erase_written(i);
            }
            self.clear_replies_from_away(i);
            self.forget_callees(i);
            return;
        }
        if step.granted.as_ref().is_some_and(Granted::too_many) {
            let name = &step.function.name;
            log::debug!("{name}: a new copy, for it has opened more files than are closed at once");
            return self.retire(i);
        }
        let begin = MonotonicTime::now();
        match self.ask_snapshot(i, word::ROLL_BACK) {
            Ok(pages) => {
                // As for a new one; nobody runs who could write there.
                self.steps[i].control.forget();
                self.forget_what_was_lent(i);
                self.steps[i].arguments_left = false;
                self.clear_replies_from_away(i);
                self.forget_callees(i);
                self.rolled_back(i, RollbackWay::InPlace, begin, Some(pages));
            }
            Err(why) => {
                self.does_not_rest(i);
                let name = &self.steps[i].function.name;
                if why.contains(lwc::THREADS_LEFT) {
                    self.tell_of_threads(i, Rest::Threads);
                }
                log::debug!("{name}: a new copy, for it cannot be rolled back: {why}");
                self.retire(i);
            }
        }
    }

    /// A copy that has answered goes on, or may: what it keeps is no more what it was when
    /// it answered.
    fn does_not_rest(&self, i: usize) {
        if let Some(granted) = &self.steps[i].granted {
            granted.did_not_rest();
        }
    }

    /// Nobody runs who could receive it: what a copy was sent and has left there.
    fn forget_what_was_lent(&self, i: usize) {
        if let Some(granted) = &self.steps[i].granted {
            granted.forget();
        }
    }

    /// What was lent to a copy that has ended: the root may have it as well, and its peers
    /// are to see the end of it before there is another one. (Of processes the end is not
    /// waited for, and the root has none of theirs.)
    fn forget_of_ended(&self, i: usize) {
        if !self.apart {
            self.forget_what_was_lent(i);
        }
    }

    /// Step 8 of the life: the copy goes; the next comes from the snapshot.
    ///
    /// Where contexts are processes it is killed and not waited for, for another one
    /// may be at work, whose time runs: to return a process's memory takes as long as
    /// it has made it take. It is waited for before the next copy of its function is
    /// made ([`Self::make_copy`]).
    pub(super) fn retire(&mut self, i: usize) {
        let Some(copy) = self.steps[i].copy.take() else {
            return;
        };
        // Of those in line each knows its neighbours.
        self.linked &= i >= self.chain.steps.len();
        if self.named_by_neighbours {
            // Its creator's to end; to close its descriptor is not enough.
            let timeout = MonotonicTime::now() + COPY_TIMEOUT;
            let snapshot = &self.steps[i].snapshot;
            let _ = snapshot.switch_until(&[word::DISMISS, 0], timeout);
            self.forget_of_ended(i);
            return;
        }
        let ended = if self.apart {
            copy.kill()
        } else {
            end(&copy, false)
        };
        if let Err(e) = &ended {
            log::error!(
                "a copy of {:?} cannot be ended: {e}",
                self.steps[i].function.name
            );
        }
        if self.apart || ended.is_err() {
            self.steps[i].used = Some(copy);
        } else {
            self.forget_of_ended(i);
        }
        self.steps[i].left_behind = !self.tree.edges.is_empty();
        self.clear_replies_from_away(i);
        self.forget_callees(i);
    }

    /// A function's past is over: what those that it called replied is in its regions
    /// still, and goes before it has another turn ([`Self::undo_between`]).
    fn forget_callees(&mut self, i: usize) {
        for &edge in &self.tree.nodes[i].calls {
            let callee = self.steps.get_mut(self.tree.edges[edge].callee);
            if let Some(callee) = callee.filter(|c| c.called_by == Some(i)) {
                callee.called_by = None;
            }
        }
    }

    /// Before a function is called: what others than those that wait have left for it
    /// is no more. (What one that waits has put there may be for a call that it is yet to
    /// make.) Whether there was any.
    pub(super) fn erase_arguments_for(
        &mut self,
        node: usize,
        waits: impl Fn(usize) -> bool,
    ) -> bool {
        let mut any = false;
        for i in 0..self.tree.nodes[node].called_by.len() {
            let caller = self.tree.edges[self.tree.nodes[node].called_by[i]].caller;
            if waits(caller) || !self.steps[caller].arguments_left {
                continue;
            }
            any = true;
            if self.apart {
                // It may run on, and write: rolled back, or ended, it does not. (What it has
                // answered others have copied.)
                self.undo(caller);
                continue;
            }
            match self.ask_snapshot(caller, word::ERASE_ARGUMENTS) {
                Ok(_) => self.steps[caller].arguments_left = false,
                Err(why) => log::error!(
                    "what {:?} left for others cannot be cleared: {why}",
                    self.steps[caller].function.name
                ),
            }
        }
        any
    }

    /// What is asked of a snapshot has a number, and so has its answer: one that comes
    /// when the root has given up on it is not taken for the next. A copy finds the last
    /// one on its snapshot's stack; it tells nothing of how often others were asked.
    pub(super) fn nonce(&mut self) -> u64 {
        match &mut self.numbers {
            Some(numbers) => numbers.draw(),
            None => random()[0],
        }
    }

    /// What copies that have been ended wrote for others is in regions that these
    /// have: nobody of them finds it in another one's call. (Without calls the next
    /// copy sees to that.) So this comes before anybody else is switched to, and
    /// never while somebody is at work, whose answer may be there any time. They are
    /// waited for, for until they are no more they may write; that is no time of those
    /// who wait for a call (`calls.rs`). Whether there were such.
    pub(super) fn erase_what_is_left_behind(&mut self) -> bool {
        let mut any = false;
        for i in 0..self.steps.len() {
            if std::mem::take(&mut self.steps[i].left_behind) {
                any = true;
                self.erase_written(i);
            }
        }
        any
    }

    fn erase_written(&mut self, i: usize) {
        let mut done = Ok(());
        if let Some(used) = self.steps[i].used.take()
            && let Err(e) = end(&used, self.apart)
        {
            self.steps[i].used = Some(used);
            done = Err(e.to_string());
        }
        self.steps[i].arguments_left = false;
        let done = done.and_then(|()| self.ask_snapshot(i, word::ERASE));
        if let Err(why) = done {
            log::error!(
                "what a copy of {:?} wrote cannot be cleared: {why}",
                self.steps[i].function.name
            );
        }
    }

    /// The same of every step.
    pub(super) fn retire_all(&mut self) {
        (0..self.steps.len()).for_each(|i| self.retire(i));
    }
}

impl LiveChain {
    /// All copies go, and new ones are made for the next invocation: what is done
    /// where nothing can be rolled back in place.
    #[cfg(feature = "bench")]
    pub(crate) fn retire_all(&mut self) {
        self.contexts.retire_all();
    }
}

/// Whether what a snapshot says is the answer to what has this number.
fn answers(args: &[u64], number: u64) -> bool {
    args.get(5) == Some(&number)
}

/// Ends a copy and waits until it is no more, as it may be already. In one process
/// that is its creator's alone to do, and it does not run: it goes with the
/// descriptor that the root has of it.
fn end(copy: &Context, apart: bool) -> lwc::Result<()> {
    copy.destroy().or_else(|e| match e.errno() {
        Errno::ESRCH => Ok(()),
        Errno::EPERM if !apart => Ok(()),
        _ => Err(e),
    })
}

impl Drop for LiveChain {
    /// Copies that name each other would be there until the process ends.
    fn drop(&mut self) {
        if let Way::Relay(_) = self.way {
            self.contexts.retire_all();
        }
    }
}
