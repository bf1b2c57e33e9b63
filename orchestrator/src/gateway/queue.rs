//! Requests that wait for a worker: one bounded queue per chain, chains of a group
//! served in turn, so that a busy one does not keep the others waiting.
//!
//! Calls from one group to another wait here too, while their callers hold workers of
//! their own. They go first, so that what was begun ends; and whoever may come to wait
//! for a worker while it has one leaves some to those that it may wait for
//! (`order.rs` says how many).
//!
//! A job goes to a worker of the thread that it comes from, if one of those waits
//! (`threads.rs`), else to any.
//!
//! A chain runs on no more workers at once than its file says (`concurrency`). Where that
//! says nothing, a slow chain is not given the last worker of its group if all others
//! have it already and another chain has been asked for lately: whoever comes next would
//! wait for as long as the slow one takes. Quick ones may have all workers, for one is
//! free again at once. Calls from other groups are not held up by either, nor is whoever
//! holds a worker while it waits for one.

use super::order::Place;
use super::problem::{Problem, ProblemKind};
use super::threads;
use super::told::Calls;
use super::trace::Trace;
use crate::chain_file::{ChainId, FunctionName};
use crate::life::{CauseKind, MessageMeta};
use crate::printable::printable_line;
use crate::worker::frame::{Called, FailureMeta, HopTiming, MOST_SAID, NoReply};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

/// One request on its way.
#[derive(Debug)]
pub(super) struct Job {
    /// The chain, as the workers call it.
    pub(super) chain: ChainId,
    pub(super) id: String,
    pub(super) meta: MessageMeta,
    pub(super) body: Bytes,
    pub(super) deadline: Instant,
    /// Since when it waits.
    pub(super) since: Instant,
    /// Where it stands in a trace, if spans of it are wanted.
    pub(super) trace: Option<Trace>,
    /// By whom, where it is a call from another group.
    pub(super) called: Option<Called>,
    /// Set once a worker has it.
    pub(super) taken: Arc<AtomicBool>,
    /// Calls of functions that run elsewhere, for whoever waits for the answer.
    pub(super) outside: mpsc::Sender<OutsideCall>,
    pub(super) answer: oneshot::Sender<Result<Answer, Problem>>,
}

/// What a chain answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) meta: MessageMeta,
    pub(super) body: Bytes,
    pub(super) hops: Vec<HopTiming>,
    pub(super) calls: Calls,
    /// When the worker was handed the job.
    pub(super) handed: SystemTime,
    /// It is the answer of the request, by its function's word: no part of the chain
    /// that is behind it runs.
    pub(super) ended: bool,
}

/// A call that a worker has for a function that it has not itself.
#[derive(Debug)]
pub(super) struct OutsideCall {
    pub(super) function: FunctionName,
    /// Who waits for it, from the step's function to its caller.
    pub(super) path: Vec<FunctionName>,
    pub(super) meta: MessageMeta,
    pub(super) body: Bytes,
    pub(super) left: Duration,
    /// How many calls it may make, and those that it calls.
    pub(super) calls_left: u32,
    pub(super) reply: oneshot::Sender<Made>,
}

/// What came of a call.
pub(super) type Made = Result<Answer, Box<NotAnswered>>;

/// What came of a call instead of an answer.
#[derive(Debug)]
pub(super) struct NotAnswered {
    pub(super) why: NoReply,
    /// What its function answered beside an error of its own.
    pub(super) body: Bytes,
    /// When a worker was handed it, if one was, and the calls that it has made.
    pub(super) ran: Option<(SystemTime, Calls)>,
}

impl NotAnswered {
    /// Of a function elsewhere.
    pub(super) fn elsewhere(cause: CauseKind, message: impl Into<String>) -> Box<Self> {
        let why = NoReply {
            cause,
            code: 0,
            message: printable_line(message.into(), MOST_SAID),
            path: Vec::new(),
            calls: 0,
            answer: None,
        };
        Box::new(Self {
            why,
            body: Bytes::new(),
            ran: None,
        })
    }

    /// Of a function in another group.
    pub(super) fn in_group(callee: FunctionName, problem: Problem) -> Box<Self> {
        // What no worker has told is no failure of a function: it was not run, or
        // nobody knows.
        let told = problem.place.is_some() || problem.kind == ProblemKind::Deadline;
        let cause = problem.kind.cause().filter(|_| told);
        let (code, message) = match problem.said {
            Some(said) if cause == Some(CauseKind::Error) => *said,
            _ => (0, problem.detail),
        };
        let message = printable_line(message, MOST_SAID);
        let (answer, body) = match problem.answer {
            Some(answer) if cause == Some(CauseKind::Error) => {
                let (meta, body) = *answer;
                let meta = FailureMeta {
                    content_type: meta.content_type,
                    attributes: meta.attributes,
                };
                (Some(meta), body)
            }
            _ => (None, Bytes::new()),
        };
        let why = NoReply {
            cause: cause.unwrap_or(CauseKind::Remote),
            code,
            message,
            path: match problem.path.is_empty() {
                true => vec![callee],
                false => problem.path,
            },
            calls: 0,
            answer,
        };
        Box::new(Self {
            why,
            body,
            ran: problem.timings.map(|t| (t.handed, t.calls)),
        })
    }
}

impl Job {
    /// The asking task may be gone; then nobody is told.
    pub(super) fn answer(self, answer: Result<Answer, Problem>) {
        let _ = self.answer.send(answer);
    }
}

pub(super) fn queue_full() -> Problem {
    let what = "as many requests as may wait for this chain do so already";
    Problem::new(ProblemKind::QueueFull, what).retry(1)
}

/// What becomes of the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// No new requests; those here are still served, with all that they call.
    Draining,
    /// None at all.
    Closed,
}

/// The jobs of a chain.
#[derive(Debug)]
struct Line {
    place: Place,
    jobs: VecDeque<Job>,
    /// How many may be at work at once, where the file says so.
    most: Option<usize>,
    /// How many are.
    running: usize,
    /// How long a worker was held, of late and on average; none before the first time.
    held: Option<Duration>,
    /// When it was last asked for.
    asked: Option<Instant>,
}

/// A chain that holds a worker for longer than this is slow.
const SLOW: Duration = Duration::from_millis(5);
/// For so long a worker is kept for a chain after it was asked for.
const LATELY: Duration = Duration::from_secs(10);

impl Line {
    /// Whether there are as many jobs as may wait. Those who have gone or are too late
    /// hold no place.
    fn is_full(&mut self, limit: usize) -> bool {
        if self.jobs.len() >= limit {
            self.jobs.retain(|j| !j.answer.is_closed());
        }
        self.jobs.len() >= limit
    }

    /// Whether there are jobs; without those whose callers have gone at its head.
    fn has_jobs(&mut self) -> bool {
        while self.jobs.front().is_some_and(|j| j.answer.is_closed()) {
            self.jobs.pop_front();
        }
        !self.jobs.is_empty()
    }
}

/// Of one group: its chains with jobs, the next to be served first.
#[derive(Debug, Default)]
struct Turns {
    /// Those whose callers hold workers of other groups.
    called: VecDeque<ChainId>,
    others: VecDeque<ChainId>,
    /// Workers that wait for a job.
    idle: usize,
    /// Those of each thread (`threads.rs`).
    idle_at: Vec<usize>,
    /// How many calls have been given to workers since one of the others was.
    in_a_row: u32,
}

/// So many calls go before requests of a group's own, which would wait for ever behind a
/// flood of them. (One that leaves enough workers to those it may wait for keeps nobody
/// waiting for ever: `order.rs`.)
const CALLED_IN_A_ROW: u32 = 8;

impl Turns {
    fn new() -> Self {
        Self {
            idle_at: vec![0; threads::count()],
            ..Self::default()
        }
    }

    /// A worker of a thread waits for a job no more.
    fn leave(&mut self, thread: usize) {
        self.idle -= 1;
        self.idle_at[thread] -= 1;
    }

    fn has_jobs(&self) -> bool {
        !self.called.is_empty() || !self.others.is_empty()
    }

    fn of(&mut self, place: Place) -> &mut VecDeque<ChainId> {
        match place.is_called {
            true => &mut self.called,
            false => &mut self.others,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    phase: Phase,
    /// Requests that have a right to put jobs here.
    leases: usize,
    by_chain: BTreeMap<ChainId, Line>,
    groups: Vec<Turns>,
}

impl Waiting {
    /// Since when the job of a group waits that has done so longest, of those that one
    /// more worker would take.
    fn oldest(&self, group: usize) -> Option<Instant> {
        let lines = self.by_chain.values().filter(|l| l.place.group == group);
        let lines = lines.filter(|l| l.most.is_none_or(|most| l.running < most));
        let waits = |l: &Line| {
            let mut asked_for = l.jobs.iter().filter(|j| !j.answer.is_closed());
            asked_for.next().map(|j| j.since)
        };
        lines.filter_map(waits).min()
    }
}

/// The queues of one generation of workers.
#[derive(Debug)]
pub(super) struct Queues {
    waiting: Mutex<Waiting>,
    /// Of each group and thread: somebody has work or the phase has changed.
    bells: Vec<Vec<Notify>>,
    /// Of each group: there is a job and no worker for it, or the phase has changed.
    hungry: Vec<Notify>,
    limit: usize,
}

/// A worker that waits for a job, until it has one or goes.
struct Idle<'a> {
    queues: &'a Queues,
    group: usize,
    thread: usize,
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        let mut w = self.queues.lock();
        w.groups[self.group].leave(self.thread);
        // It may have been rung for a job that is another's now.
        self.queues.ring(w, self.group);
    }
}

impl Queues {
    /// Those of some chains, each of one of so many groups.
    pub(super) fn new(
        chains: impl Iterator<Item = (ChainId, Place)>,
        groups: usize,
        limit: usize,
    ) -> Self {
        let line = |place| Line {
            place,
            jobs: VecDeque::new(),
            most: None,
            running: 0,
            held: None,
            asked: None,
        };
        let bells = || (0..threads::count()).map(|_| Notify::new()).collect();
        Self {
            waiting: Mutex::new(Waiting {
                phase: Phase::Open,
                leases: 0,
                by_chain: chains.map(|(c, place)| (c, line(place))).collect(),
                groups: (0..groups).map(|_| Turns::new()).collect(),
            }),
            bells: (0..groups).map(|_| bells()).collect(),
            hungry: (0..groups).map(|_| Notify::new()).collect(),
            limit,
        }
    }

    /// Sets how many of a chain may be at work at once.
    pub(super) fn limit(&self, chain: &ChainId, most: Option<u16>) {
        if let Some(line) = self.lock().by_chain.get_mut(chain) {
            line.most = most.map(usize::from);
        }
    }

    /// Whether a chain has no room for another job.
    pub(super) fn is_full(&self, chain: &ChainId) -> bool {
        let mut w = self.lock();
        let line = w.by_chain.get_mut(chain);
        line.is_some_and(|line| !line.place.is_called && line.is_full(self.limit))
    }

    /// A worker has done with the job of a chain that it was given, after so long.
    pub(super) fn finished(&self, chain: &ChainId, held: Duration) {
        let mut w = self.lock();
        let Some(line) = w.by_chain.get_mut(chain) else {
            return;
        };
        line.running = line.running.saturating_sub(1);
        line.held = Some(line.held.map_or(held, |before| (before * 7 + held) / 8));
        let group = line.place.group;
        // Others of the chain may have waited for that, though workers are idle.
        self.ring(w, group);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that can panic runs under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins that will put jobs here, which are served even if no new
    /// requests are welcome by then; false if they are not welcome already. Then
    /// [`release`](Self::release) is due.
    pub(super) fn lease(&self) -> bool {
        let mut w = self.lock();
        let open = w.phase == Phase::Open;
        w.leases += usize::from(open);
        open
    }

    /// It is over: it puts no more jobs here.
    pub(super) fn release(&self) {
        let mut w = self.lock();
        w.leases -= 1;
        let over = w.leases == 0 && w.phase == Phase::Draining;
        drop(w);
        if over {
            self.ring_all();
        }
    }

    fn ring_all(&self) {
        let bells = self.bells.iter().flatten();
        bells.chain(&self.hungry).for_each(Notify::notify_waiters);
    }

    /// Wakes a worker of a group, if it has jobs and one waits: of this thread, before
    /// any other. (One that comes to wait later looks for jobs first.)
    fn ring(&self, w: MutexGuard<'_, Waiting>, group: usize) {
        let turns = &w.groups[group];
        if !turns.has_jobs() {
            return;
        }
        if turns.idle == 0 {
            drop(w);
            self.hungry[group].notify_one();
            return;
        }
        let here = threads::here();
        let waits = |&thread: &usize| turns.idle_at[thread] > 0;
        let all = 0..turns.idle_at.len();
        let Some(thread) = std::iter::once(here).chain(all).find(waits) else {
            return;
        };
        drop(w);
        self.bells[group][thread].notify_one();
    }

    /// Puts a job of a request that has a lease behind those of its chain, or says why
    /// not.
    pub(super) fn push(&self, job: Job) -> Result<(), Problem> {
        let mut w = self.lock();
        if w.phase == Phase::Closed {
            let p = Problem::new(ProblemKind::Draining, "this server is shutting down");
            return Err(p.retry(5));
        }
        let Waiting {
            by_chain, groups, ..
        } = &mut *w;
        let Some(line) = by_chain.get_mut(&job.chain) else {
            return Err(Problem::new(
                ProblemKind::UnknownChain,
                "there is no such chain in the chain file",
            ));
        };
        let place = line.place;
        // Of calls there are never more than workers, and their requests are under way.
        if !place.is_called {
            if line.is_full(self.limit) {
                return Err(queue_full());
            }
            line.asked = Some(Instant::now());
        }
        let turn = groups[place.group].of(place);
        if !turn.contains(&job.chain) {
            turn.push_back(job.chain.clone());
        }
        line.jobs.push_back(job);
        self.ring(w, place.group);
        Ok(())
    }

    /// Puts a job back in front: it was taken and never began. Where nobody
    /// takes jobs any more its caller is told that it is given up.
    pub(super) fn put_back(&self, job: Job) {
        job.taken.store(false, Ordering::Release);
        let mut w = self.lock();
        // Its sender goes, which tells the caller; or there is none any more.
        if w.phase == Phase::Closed || job.answer.is_closed() {
            return;
        }
        let Waiting {
            by_chain, groups, ..
        } = &mut *w;
        let Some(line) = by_chain.get_mut(&job.chain) else {
            return;
        };
        let place = line.place;
        let turn = groups[place.group].of(place);
        turn.retain(|c| *c != job.chain);
        turn.push_front(job.chain.clone());
        line.jobs.push_front(job);
        self.ring(w, place.group);
    }

    /// Whoever waited for a job's answer waits no more: no worker is given it, and what it
    /// holds is free at once. Called after its receiver has gone, or a worker that gives
    /// the job back meanwhile puts it here again.
    pub(super) fn withdraw(&self, chain: &ChainId, taken: &Arc<AtomicBool>) {
        let mut w = self.lock();
        let job = w.by_chain.get_mut(chain).and_then(|line| {
            let at = line
                .jobs
                .iter()
                .position(|j| Arc::ptr_eq(&j.taken, taken))?;
            line.jobs.remove(at)
        });
        drop(w);
        drop(job);
    }

    /// The next job for a worker of a group; `None` when there will be none any more.
    pub(super) async fn next(&self, group: usize) -> Option<Job> {
        let thread = threads::here();
        {
            let turns = &mut self.lock().groups[group];
            turns.idle += 1;
            turns.idle_at[thread] += 1;
        }
        let idle = Idle {
            queues: self,
            group,
            thread,
        };
        loop {
            let bell = self.bells[group][thread].notified();
            tokio::pin!(bell);
            bell.as_mut().enable();
            {
                let mut w = self.lock();
                if w.phase == Phase::Closed {
                    return None;
                }
                if let Some(job) = pop(&mut w, group) {
                    job.taken.store(true, Ordering::Release);
                    // At once, so that no other is given what was left idle for a
                    // third.
                    w.groups[group].leave(thread);
                    std::mem::forget(idle);
                    self.ring(w, group);
                    return Some(job);
                }
                if w.phase == Phase::Draining && w.leases == 0 {
                    return None;
                }
            }
            bell.await;
        }
    }

    /// Returns once a job of a group has waited for so long, and no worker of the group
    /// waits for one; false when there will be no jobs any more.
    pub(super) async fn starved(&self, group: usize, after: Duration) -> bool {
        loop {
            let rung = self.hungry[group].notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            let oldest = {
                let w = self.lock();
                if w.phase == Phase::Closed || w.phase == Phase::Draining && w.leases == 0 {
                    return false;
                }
                match w.groups[group].idle {
                    0 => w.oldest(group),
                    _ => None,
                }
            };
            match oldest.map(|since| after.saturating_sub(since.elapsed())) {
                Some(Duration::ZERO) => return true,
                Some(left) => tokio::time::sleep(left).await,
                None => rung.await,
            }
        }
    }

    /// No new requests; workers end when those here are done.
    pub(super) fn drain(&self) {
        let mut w = self.lock();
        if w.phase == Phase::Open {
            w.phase = Phase::Draining;
        }
        drop(w);
        self.ring_all();
    }

    /// Answers every job that waits for a group's workers by `problem`.
    pub(super) fn flush(&self, group: usize, problem: &Problem) {
        let mut w = self.lock();
        w.groups[group].called.clear();
        w.groups[group].others.clear();
        let lines = w.by_chain.values_mut();
        let lines = lines.filter(|line| line.place.group == group);
        let jobs: Vec<Job> = lines.flat_map(|line| line.jobs.drain(..)).collect();
        drop(w);
        for job in jobs {
            job.answer(Err(problem.clone()));
        }
    }

    /// No jobs at all: those that wait get `problem`.
    pub(super) fn close(&self, problem: &Problem) {
        self.lock().phase = Phase::Closed;
        (0..self.bells.len()).for_each(|group| self.flush(group, problem));
        self.ring_all();
    }

    /// How many wait, by chain.
    pub(super) fn lengths(&self) -> Vec<(ChainId, usize)> {
        let w = self.lock();
        w.by_chain
            .iter()
            .map(|(c, line)| (c.clone(), line.jobs.len()))
            .collect()
    }
}

/// The next job that may be given to one of the workers of a group that wait for one.
fn pop(w: &mut Waiting, group: usize) -> Option<Job> {
    let Waiting {
        by_chain, groups, ..
    } = w;
    let Turns {
        called,
        others,
        idle,
        in_a_row,
        ..
    } = &mut groups[group];
    // Whoever has to leave more waits for its turn until there is as much: others that
    // need less would keep it waiting for ever.
    let one_of = |others: &mut _, by_chain: &mut _| next_of(others, by_chain, *idle, false);
    if *in_a_row >= CALLED_IN_A_ROW
        && let Some(job) = one_of(others, by_chain)
    {
        *in_a_row = 0;
        return Some(job);
    }
    // Any of the calls that leaves enough: each lets somebody go on.
    if let Some(job) = next_of(called, by_chain, *idle, true) {
        *in_a_row = in_a_row.saturating_add(1);
        return Some(job);
    }
    *in_a_row = 0;
    one_of(others, by_chain)
}

/// Whether a chain has to leave the worker that it could be given to others.
fn must_wait(by_chain: &BTreeMap<ChainId, Line>, chain: &ChainId, idle: usize) -> bool {
    let Some(line) = by_chain.get(chain) else {
        return false;
    };
    if let Some(most) = line.most {
        return line.running >= most;
    }
    let slow = line.held.is_none_or(|held| held > SLOW);
    if idle > 1 || line.running == 0 || !slow {
        return false;
    }
    let others = by_chain
        .iter()
        .filter(|(c, l)| l.place.group == line.place.group && *c != chain);
    let (mut running, mut asked) = (0, None);
    for (_, other) in others {
        running += other.running;
        asked = asked.max(other.asked);
    }
    running == 0 && asked.is_some_and(|asked| asked.elapsed() < LATELY)
}

/// The next job of the chains of one turn: of calls at any, else by a look at the first
/// one that need not wait for others' sake.
fn next_of(
    turn: &mut VecDeque<ChainId>,
    by_chain: &mut BTreeMap<ChainId, Line>,
    idle: usize,
    called: bool,
) -> Option<Job> {
    let mut at = 0;
    while let Some(chain) = turn.get(at) {
        let line = by_chain.get_mut(chain)?;
        if !line.has_jobs() {
            turn.remove(at);
            continue;
        }
        if !called && must_wait(by_chain, chain, idle) {
            at += 1;
            continue;
        }
        let line = by_chain.get_mut(chain)?;
        if line.place.leaves >= idle {
            if called {
                at += 1;
                continue;
            }
            return None;
        }
        let chain = turn.remove(at)?;
        let job = line.jobs.pop_front();
        line.running += usize::from(job.is_some());
        if line.has_jobs() {
            turn.push_back(chain);
        }
        return job;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    fn id(chain: &str) -> ChainId {
        chain.to_owned().try_into().unwrap()
    }

    fn place(group: usize, leaves: usize, is_called: bool) -> Place {
        Place {
            group,
            leaves,
            is_called,
        }
    }

    /// A job, and whoever waits for its answer.
    fn job(chain: &str) -> (Job, oneshot::Receiver<Result<Answer, Problem>>) {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            chain: id(chain),
            id: chain.into(),
            meta: MessageMeta::default(),
            body: Bytes::new(),
            deadline: Instant::now() + Duration::from_secs(60),
            since: Instant::now(),
            trace: None,
            called: None,
            taken: Arc::new(AtomicBool::new(false)),
            outside: mpsc::channel(1).0,
            answer,
        };
        (job, answered)
    }

    fn poll<F: Future>(f: Pin<&mut F>) -> Poll<F::Output> {
        f.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn taken(next: Poll<Option<Job>>) -> Option<String> {
        match next {
            Poll::Ready(job) => Some(job.unwrap().id),
            Poll::Pending => None,
        }
    }

    fn pushed(queues: &Queues, chain: &str) -> oneshot::Receiver<Result<Answer, Problem>> {
        let (job, answered) = job(chain);
        queues.push(job).unwrap();
        answered
    }

    #[test]
    fn a_chain_runs_as_often_as_its_file_says() {
        let chains = ["w", "x"].map(|c| (id(c), place(0, 0, false)));
        let queues = Queues::new(chains.into_iter(), 1, 9);
        queues.limit(&id("w"), Some(2));
        assert!(queues.lease());
        let _waiters = ["w", "w", "w"].map(|c| pushed(&queues, c));
        let next = || taken(poll(pin!(queues.next(0)).as_mut()));
        assert_eq!([next(), next()], [Some("w".into()), Some("w".into())]);
        let mut idle = pin!(queues.next(0));
        assert_eq!(taken(poll(idle.as_mut())), None);
        // Whoever stands behind it does not wait for it.
        let _other = pushed(&queues, "x");
        assert_eq!(taken(poll(idle.as_mut())).as_deref(), Some("x"));
        let mut idle = pin!(queues.next(0));
        assert_eq!(taken(poll(idle.as_mut())), None);
        queues.finished(&id("w"), Duration::ZERO);
        assert_eq!(taken(poll(idle.as_mut())).as_deref(), Some("w"));
    }

    #[test]
    fn a_slow_chain_leaves_a_worker_to_others_that_are_asked_for() {
        let chains = ["slow", "quick"].map(|c| (id(c), place(0, 0, false)));
        let queues = Queues::new(chains.into_iter(), 1, 9);
        assert!(queues.lease());
        let _waiters = ["slow", "slow", "slow"].map(|c| pushed(&queues, c));
        // Alone it may have both workers.
        let (mut one, mut two) = (pin!(queues.next(0)), pin!(queues.next(0)));
        assert!(taken(poll(one.as_mut())).is_some() && taken(poll(two.as_mut())).is_some());
        let _other = pushed(&queues, "quick");
        for _ in 0..2 {
            queues.finished(&id("slow"), SLOW * 2);
        }
        let (mut one, mut two) = (pin!(queues.next(0)), pin!(queues.next(0)));
        let mut got = [taken(poll(one.as_mut())), taken(poll(two.as_mut()))];
        got.sort();
        assert_eq!(got, [Some("quick".into()), Some("slow".into())]);
        queues.finished(&id("quick"), Duration::ZERO);
        // The last worker is for the other chain, if it is quick it may have all.
        let _more = ["slow", "quick", "quick"].map(|c| pushed(&queues, c));
        let mut idle = pin!(queues.next(0));
        assert_eq!(taken(poll(idle.as_mut())).as_deref(), Some("quick"));
        queues.finished(&id("slow"), SLOW * 2);
        let mut idle = pin!(queues.next(0));
        let got = taken(poll(idle.as_mut()));
        assert!(got.is_some(), "each chain has one worker at most now");
    }

    /// Nobody waits for them: what they hold has been given to others.
    #[test]
    fn a_job_that_is_withdrawn_leaves_nothing_in_its_queue() {
        let queues = Queues::new([(id("w"), place(0, 0, false))].into_iter(), 1, 9);
        assert!(queues.lease());
        let left = pushed(&queues, "w");
        let (gone, answered) = job("w");
        let (body, taken_by) = (Bytes::from(vec![1; 9]), Arc::clone(&gone.taken));
        queues
            .push(Job {
                body: body.clone(),
                ..gone
            })
            .unwrap();
        drop(answered);
        queues.withdraw(&id("w"), &taken_by);
        assert_eq!(queues.lengths(), [(id("w"), 1)]);
        assert!(body.is_unique(), "its body is still there");
        // Nor does a worker that never began leave one that nobody waits for.
        let (never, answered) = job("w");
        drop(answered);
        queues.put_back(never);
        assert_eq!(queues.lengths(), [(id("w"), 1)]);
        let next = poll(pin!(queues.next(0)).as_mut());
        assert_eq!(taken(next).as_deref(), Some("w"));
        drop(left);
    }

    /// Of two workers one is left for whoever the first may come to wait for.
    #[test]
    fn whoever_may_wait_for_a_worker_leaves_one() {
        let chains = [
            ("w", place(0, 1, false)),
            ("x", place(0, 0, false)),
            ("w/calls/deep", place(0, 0, true)),
        ];
        let chains = chains.map(|(c, place)| (id(c), place));
        let queues = Queues::new(chains.into_iter(), 1, 9);
        assert!(queues.lease());
        let mut waiters = Vec::new();
        for chain in ["w", "w", "x"] {
            let (job, answered) = job(chain);
            queues.push(job).unwrap();
            waiters.push(answered);
        }
        // One worker alone: it is not given away.
        let mut one = pin!(queues.next(0));
        assert_eq!(taken(poll(one.as_mut())), None);
        let mut two = pin!(queues.next(0));
        assert_eq!(taken(poll(two.as_mut())).as_deref(), Some("w"));
        // Chains have their turns; who needs no other is given the last.
        assert_eq!(taken(poll(one.as_mut())).as_deref(), Some("x"));
        let mut three = pin!(queues.next(0));
        assert_eq!(taken(poll(three.as_mut())), None);
        // A call is what the first may wait for.
        let (call, _answered) = job("w/calls/deep");
        queues.push(call).unwrap();
        assert_eq!(taken(poll(three.as_mut())).as_deref(), Some("w/calls/deep"));
        // When two are back the next has its turn, and nobody behind it before that.
        let (last, _answered) = job("x");
        queues.push(last).unwrap();
        let mut four = pin!(queues.next(0));
        assert_eq!(taken(poll(four.as_mut())), None);
        let mut five = pin!(queues.next(0));
        assert_eq!(taken(poll(five.as_mut())).as_deref(), Some("w"));
        assert_eq!(taken(poll(four.as_mut())).as_deref(), Some("x"));
        assert_eq!(waiters.len(), 3);
    }

    /// A flood of calls from other groups does not keep a group's own requests waiting.
    #[test]
    fn a_groups_own_requests_have_a_turn_among_calls() {
        let chains = [("w", place(0, 0, false)), ("w/calls/f", place(0, 0, true))];
        let chains = chains.map(|(c, place)| (id(c), place));
        let queues = Queues::new(chains.into_iter(), 1, 99);
        assert!(queues.lease());
        let mut answers = Vec::new();
        for chain in ["w"].into_iter().chain(["w/calls/f"; 20]) {
            let (job, answered) = job(chain);
            queues.push(job).unwrap();
            answers.push(answered);
        }
        let served = (0..12).map(|_| taken(poll(pin!(queues.next(0)).as_mut())).unwrap());
        let place = served.into_iter().position(|chain| chain == "w");
        assert_eq!(place, Some(CALLED_IN_A_ROW as usize));
    }

    #[test]
    fn a_worker_that_goes_is_idle_no_more() {
        let queues = Queues::new([(id("w"), place(0, 1, false))].into_iter(), 1, 9);
        assert!(queues.lease());
        let (job, _answered) = job("w");
        queues.push(job).unwrap();
        let mut one = Box::pin(queues.next(0));
        assert_eq!(taken(poll(one.as_mut())), None);
        drop(one);
        let mut two = pin!(queues.next(0));
        assert_eq!(taken(poll(two.as_mut())), None);
    }

    #[test]
    fn workers_of_a_group_get_jobs_of_their_chains_alone() {
        let chains = [("w", place(0, 0, false)), ("x", place(1, 0, false))];
        let chains = chains.map(|(c, place)| (id(c), place));
        let queues = Queues::new(chains.into_iter(), 2, 9);
        assert!(queues.lease());
        let (job, _answered) = job("x");
        queues.push(job).unwrap();
        let mut other = pin!(queues.next(0));
        assert_eq!(taken(poll(other.as_mut())), None);
        let mut own = pin!(queues.next(1));
        assert_eq!(taken(poll(own.as_mut())).as_deref(), Some("x"));
    }

    /// A request that has begun has its calls served, whoever else is refused.
    #[test]
    fn what_was_begun_is_served_while_new_requests_are_refused() {
        let chains = [("w", place(0, 0, false)), ("w/calls/f", place(1, 0, true))];
        let chains = chains.map(|(c, place)| (id(c), place));
        let queues = Queues::new(chains.into_iter(), 2, 1);
        assert!(queues.lease());
        queues.drain();
        assert!(!queues.lease());
        let mut worker = pin!(queues.next(1));
        assert!(poll(worker.as_mut()).is_pending());
        // However many: their callers are under way.
        let (first, _a) = job("w/calls/f");
        let (second, _b) = job("w/calls/f");
        queues.push(first).unwrap();
        queues.push(second).unwrap();
        assert!(poll(worker.as_mut()).is_ready());
        let mut worker = pin!(queues.next(1));
        assert!(poll(worker.as_mut()).is_ready());
        let mut worker = pin!(queues.next(1));
        assert!(poll(worker.as_mut()).is_pending());
        queues.release();
        assert!(matches!(poll(worker.as_mut()), Poll::Ready(None)));
    }
}
