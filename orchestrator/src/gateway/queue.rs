//! Requests that wait for a worker: one bounded queue per chain, chains served
//! in turn, so that a busy one does not keep the others waiting.

use super::elsewhere::OutsideCall;
use super::problem::{Problem, ProblemKind};
use super::told::Calls;
use super::trace::Trace;
use crate::chain_file::ChainId;
use crate::life::MessageMeta;
use crate::worker::frame::HopTiming;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
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
    /// Where it stands in a trace, if spans of it are wanted.
    pub(super) trace: Option<Trace>,
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

/// Why a job is not taken; and the job, where another generation may take it.
pub(super) type Refused = Box<(Problem, Option<Job>)>;

impl Job {
    /// The asking task may be gone; then nobody is told.
    pub(super) fn answer(self, answer: Result<Answer, Problem>) {
        let _ = self.answer.send(answer);
    }
}

/// What becomes of the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// No new ones; those here are still served.
    Draining,
    /// None at all.
    Closed,
}

#[derive(Debug)]
struct Waiting {
    phase: Phase,
    by_chain: BTreeMap<ChainId, VecDeque<Job>>,
    /// Chains with jobs, the next to be served first.
    turn: VecDeque<ChainId>,
}

/// The queues of one generation of workers.
#[derive(Debug)]
pub(super) struct Queues {
    waiting: Mutex<Waiting>,
    /// Somebody has work or the phase has changed.
    bell: Notify,
    limit: usize,
}

impl Queues {
    pub(super) fn new(chains: impl Iterator<Item = ChainId>, limit: usize) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                phase: Phase::Open,
                by_chain: chains.map(|c| (c, VecDeque::new())).collect(),
                turn: VecDeque::new(),
            }),
            bell: Notify::new(),
            limit,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that can panic runs under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job behind those of its chain, or says why not.
    pub(super) fn push(&self, job: Job) -> Result<(), Refused> {
        let mut w = self.lock();
        if w.phase != Phase::Open {
            let p = Problem::new(ProblemKind::Draining, "this server is shutting down");
            return Err(Box::new((p.retry(5), Some(job))));
        }
        let Waiting { by_chain, turn, .. } = &mut *w;
        let Some(queue) = by_chain.get_mut(&job.chain) else {
            let p = Problem::new(
                ProblemKind::UnknownChain,
                "the chain file has just been changed and has this chain no more",
            );
            return Err(Box::new((p, None)));
        };
        if queue.len() >= self.limit {
            // Those who have gone or are too late hold no place.
            queue.retain(|j| !j.answer.is_closed());
        }
        if queue.len() >= self.limit {
            let p = Problem::new(
                ProblemKind::QueueFull,
                format!("{} requests wait for this chain already", queue.len()),
            );
            return Err(Box::new((p.retry(1), None)));
        }
        if !turn.contains(&job.chain) {
            turn.push_back(job.chain.clone());
        }
        queue.push_back(job);
        drop(w);
        self.bell.notify_one();
        Ok(())
    }

    /// Puts a job back in front: it was taken and never began. Where nobody
    /// takes jobs any more its caller is told that it is given up.
    pub(super) fn put_back(&self, job: Job) {
        job.taken.store(false, Ordering::Release);
        let mut w = self.lock();
        if w.phase == Phase::Closed {
            // Its sender goes, which tells the caller.
            return;
        }
        let Waiting { by_chain, turn, .. } = &mut *w;
        if let Some(queue) = by_chain.get_mut(&job.chain) {
            turn.retain(|c| *c != job.chain);
            turn.push_front(job.chain.clone());
            queue.push_front(job);
        }
        drop(w);
        self.bell.notify_one();
    }

    /// The next job; `None` when there will be none any more.
    pub(super) async fn next(&self) -> Option<Job> {
        loop {
            let bell = self.bell.notified();
            tokio::pin!(bell);
            bell.as_mut().enable();
            {
                let mut w = self.lock();
                if w.phase == Phase::Closed {
                    return None;
                }
                if let Some(job) = pop(&mut w) {
                    job.taken.store(true, Ordering::Release);
                    let more = !w.turn.is_empty();
                    drop(w);
                    if more {
                        self.bell.notify_one();
                    }
                    return Some(job);
                }
                if w.phase == Phase::Draining {
                    return None;
                }
            }
            bell.await;
        }
    }

    /// No new jobs; workers end when those here are done.
    pub(super) fn drain(&self) {
        let mut w = self.lock();
        if w.phase == Phase::Open {
            w.phase = Phase::Draining;
        }
        drop(w);
        self.bell.notify_waiters();
    }

    /// Answers every job that waits by `problem`.
    pub(super) fn flush(&self, problem: &Problem) {
        let mut w = self.lock();
        let jobs: Vec<Job> = std::iter::from_fn(|| pop(&mut w)).collect();
        drop(w);
        for job in jobs {
            job.answer(Err(problem.clone()));
        }
    }

    /// No jobs at all: those that wait get `problem`.
    pub(super) fn close(&self, problem: &Problem) {
        self.lock().phase = Phase::Closed;
        self.flush(problem);
        self.bell.notify_waiters();
    }

    /// How many wait, by chain.
    pub(super) fn lengths(&self) -> Vec<(ChainId, usize)> {
        let w = self.lock();
        w.by_chain
            .iter()
            .map(|(c, q)| (c.clone(), q.len()))
            .collect()
    }
}

fn pop(w: &mut Waiting) -> Option<Job> {
    while let Some(chain) = w.turn.pop_front() {
        let queue = w.by_chain.get_mut(&chain)?;
        let job = loop {
            match queue.pop_front() {
                Some(job) if job.answer.is_closed() => {}
                other => break other,
            }
        };
        if !queue.is_empty() {
            w.turn.push_back(chain);
        }
        if job.is_some() {
            return job;
        }
    }
    None
}
