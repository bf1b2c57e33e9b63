//! One generation of workers: they serve one chain file, and are replaced when
//! they die.

use super::metrics::Metrics;
use super::otlp::Spans;
use super::problem::{Problem, ProblemKind};
use super::queue::{Job, Queues, Refused};
use super::route::{self, Routes};
use super::told::Shape;
use super::trace::Trace;
use super::worker_process::{Handed, Worker};
use crate::build::Built;
use crate::chain_file::{
    CallTree, ChainFile, ChainId, ChainKind, FunctionName, MAX_ALL_STEPS, Origin,
};
use crate::life::environment::handed_on;
use crate::worker::frame::{self, RollbackTiming};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

/// The first pause before a worker is started again; it doubles each time.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A worker that lived this long owes nothing to those before it.
const SETTLED: Duration = Duration::from_secs(10);

/// What a generation is made of.
pub(super) struct Plan {
    pub(super) file: ChainFile,
    pub(super) built: BTreeMap<FunctionName, Built>,
    pub(super) workers: usize,
    /// Whether each runs on one processor.
    pub(super) pin: bool,
    pub(super) queue: usize,
    /// Options before `worker` on its command line.
    pub(super) options: Vec<String>,
}

/// A generation.
pub(super) struct Generation {
    pub(super) file: ChainFile,
    /// The way of each chain's messages.
    pub(super) routes: Routes,
    /// Functions that take CloudEvents alone.
    pub(super) take_events: BTreeSet<FunctionName>,
    pub(super) queues: Queues,
    /// What each chain of the workers is like.
    shapes: BTreeMap<ChainId, Shape>,
    /// The first frame of each worker, secrets of the environment in it.
    start: Zeroizing<Vec<u8>>,
    options: Vec<String>,
    start_timeout: Duration,
    /// Workers that are ready or at work.
    alive: AtomicUsize,
    /// Those at work.
    busy: AtomicUsize,
    /// Why the last worker to start did not, if none is alive.
    down: watch::Sender<Option<String>>,
    /// True once jobs at work are to be given up.
    abort: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    spans: Option<Arc<Spans>>,
}

/// The tasks of a generation, one a worker.
pub(super) type WorkerTasks = JoinSet<()>;

impl Generation {
    /// Starts all workers and waits until each is ready.
    ///
    /// # Errors
    /// Why one could not start; none is left then.
    pub(super) async fn launch(
        plan: Plan,
        metrics: Arc<Metrics>,
        spans: Option<Arc<Spans>>,
    ) -> Result<(Arc<Self>, WorkerTasks), String> {
        let (local, routes) = route::cut(&plan.file);
        if local.is_too_large() {
            return Err(format!(
                "all chains, functions served alone and parts of chains between steps elsewhere have more than {MAX_ALL_STEPS} steps and calls: take some out, or serve them apart"
            ));
        }
        let chains = local.chains.keys();
        let shapes: BTreeMap<ChainId, Shape> =
            chains.map(|c| (c.clone(), Shape::of(&local, c))).collect();
        // A worker bounds each start itself; this is for one that hangs.
        let start_timeout = shapes
            .values()
            .flat_map(|shape| &shape.tree.nodes)
            .map(|n| &local.functions[&n.function])
            .map(|f| f.timeout.max(Duration::from_secs(15)))
            .sum::<Duration>()
            + Duration::from_secs(15);
        let chains: Vec<ChainId> = local.chains.keys().cloned().collect();
        let (variables, values) = handed_on(&local, &chains);
        let start = frame::Start {
            file: local,
            built: plan.built,
            variables,
        };
        let head = frame::begin(frame::START, &start, values.len()).map_err(|e| e.to_string())?;
        let mut text = Zeroizing::new(Vec::with_capacity(head.len() + values.len()));
        text.extend_from_slice(&head);
        text.extend_from_slice(&values);
        let generation = Arc::new(Self {
            queues: Queues::new(start.file.chains.keys().cloned(), plan.queue),
            file: plan.file,
            routes,
            shapes,
            take_events: start
                .built
                .into_iter()
                .filter_map(|(name, b)| b.takes_events.then_some(name))
                .collect(),
            start: text,
            options: plan.options,
            start_timeout,
            alive: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            down: watch::Sender::new(None),
            abort: watch::Sender::new(false),
            metrics,
            spans,
        });
        let (tell, mut told) = mpsc::channel(plan.workers);
        let mut tasks = JoinSet::new();
        for i in 0..plan.workers {
            let turn = plan.pin.then(|| first_turn() + i);
            tasks.spawn(Arc::clone(&generation).supervise(turn, tell.clone()));
        }
        drop(tell);
        for _ in 0..plan.workers {
            let first = told.recv().await;
            let why = match first {
                Some(Ok(())) => continue,
                Some(Err(why)) => why,
                None => "a worker's task ended".into(),
            };
            tasks.shutdown().await;
            return Err(why);
        }
        // Those of a file that is refused are never heard of.
        for (name, chain) in &generation.file.chains {
            let functions = generation.file.functions_of(name);
            let origins = functions
                .iter()
                .map(|f| &generation.file.functions[*f].origin);
            let remote = origins.filter_map(Origin::elsewhere).count() > 0;
            let tree = CallTree::of(&generation.file, name);
            generation.metrics.know(name, &chain.steps, &tree, remote);
        }
        Ok((generation, tasks))
    }

    /// Whether a worker is there for requests.
    pub(super) fn is_ready(&self) -> bool {
        self.alive.load(Ordering::Acquire) > 0
    }

    /// How many workers are there.
    pub(super) fn alive(&self) -> usize {
        self.alive.load(Ordering::Acquire)
    }

    /// How many of them are at work.
    pub(super) fn busy(&self) -> usize {
        self.busy.load(Ordering::Acquire)
    }

    /// Puts a job into its queue, or says why not.
    pub(super) fn push(&self, job: Job) -> Result<(), Refused> {
        let down = self.down.borrow().clone();
        let chain = match job.chain.kind() {
            ChainKind::Part { of, .. } => of,
            ChainKind::Named(_) | ChainKind::Function(_) => job.chain.as_str(),
        };
        let region = self.file.chains.get(chain).map(|c| c.region);
        match (down, region) {
            (Some(why), _) if !self.is_ready() => Err(Box::new((no_worker(&why), None))),
            // The request's head may have come under an older file.
            (_, Some(region)) if job.body.len() as u64 > region => {
                Err(Box::new((super::http::too_large(region), None)))
            }
            _ => self.queues.push(job),
        }
    }

    /// Gives up what waits and what runs: each gets a 503.
    pub(super) fn abort(&self) {
        self.queues.close(&given_up(false));
        self.abort.send_replace(true);
    }

    /// One worker after the other, until there is no more work; all on the processor
    /// whose turn it is, if there is a turn.
    async fn supervise(
        self: Arc<Self>,
        turn: Option<usize>,
        tell: mpsc::Sender<Result<(), String>>,
    ) {
        // The first start alone is waited for.
        let mut tell = Some(tell);
        let mut pause = Duration::ZERO;
        let mut abort = self.abort.subscribe();
        loop {
            let begun = Instant::now();
            match Worker::start(&self.options, turn, &self.start, self.start_timeout).await {
                Ok(worker) => {
                    log::info!("worker {} is ready", worker.pid);
                    self.metrics.started(worker.took);
                    self.metrics.worker_reported(worker.pid, &worker.figures);
                    if let Some(mechanism) = worker.mechanism {
                        self.metrics.rolls_back_by(mechanism);
                    }
                    self.down.send_replace(None);
                    self.alive.fetch_add(1, Ordering::AcqRel);
                    // The log and the metrics have told of the error already.
                    if let Some(tell) = tell.take() {
                        let _ = tell.try_send(Ok(()));
                    }
                    let pid = worker.pid;
                    let why = self.work(worker, &mut abort).await;
                    self.alive.fetch_sub(1, Ordering::AcqRel);
                    self.metrics.gone(pid);
                    let Some(why) = why else { return };
                    log::warn!("worker {pid}: {why}; it is replaced");
                }
                Err(why) => {
                    if let Some(tell) = tell.take() {
                        let _ = tell.try_send(Err(why));
                        return;
                    }
                    log::error!("a worker cannot start: {why}");
                    self.down.send_replace(Some(why.clone()));
                    if !self.is_ready() {
                        self.queues.flush(&no_worker(&why));
                    }
                }
            }
            self.metrics.restarted();
            if begun.elapsed() >= SETTLED {
                pause = Duration::ZERO;
            }
            let now = pause;
            pause = (pause * 2).clamp(PAUSE, LONGEST_PAUSE);
            tokio::select! {
                () = sleep(now) => {}
                _ = abort.wait_for(|a| *a) => return,
            }
        }
    }

    /// Serves jobs; `None` when there are no more, else why the worker is lost.
    async fn work(&self, mut worker: Worker, abort: &mut watch::Receiver<bool>) -> Option<String> {
        loop {
            let job = tokio::select! {
                biased;
                why = worker.broken() => return Some(why),
                job = self.queues.next() => job,
            };
            let Some(job) = job else {
                let pid = worker.pid;
                worker.stop().await;
                log::info!("worker {pid} has ended: no more work");
                return None;
            };
            let chain = job.chain.clone();
            // A queue there is for the workers' chains alone.
            let shape = &self.shapes[&chain];
            let traced = job.trace.clone().map(|trace| (trace, job.id.clone()));
            self.busy.fetch_add(1, Ordering::AcqRel);
            let handed = tokio::select! {
                handed = worker.serve(job, shape) => Some(handed),
                // Dropping the job tells its caller; dropping the worker
                // kills it.
                _ = abort.wait_for(|a| *a) => None,
            };
            self.busy.fetch_sub(1, Ordering::AcqRel);
            match handed? {
                Handed::Idle(state, handed) => {
                    self.metrics.copied(state.took, state.figures.copies);
                    self.metrics.worker_reported(worker.pid, &state.figures);
                    self.rolled_back(&chain, shape, traced.as_ref(), handed, &state.rollbacks);
                }
                Handed::Lost(why) => return Some(why),
                Handed::Unbegun(why, job) => {
                    self.queues.put_back(job);
                    return Some(why);
                }
            }
        }
    }

    /// What was undone after an invocation; `traced` if spans of it are wanted:
    /// the trace, and the invocation's identity.
    fn rolled_back(
        &self,
        chain: &ChainId,
        shape: &Shape,
        traced: Option<&(Trace, String)>,
        handed: SystemTime,
        rollbacks: &[RollbackTiming],
    ) {
        // Steps are named as the file has them.
        let (name, first) = match chain.kind() {
            ChainKind::Part { of, step } => (of, step.saturating_sub(1)),
            ChainKind::Named(_) | ChainKind::Function(_) => (chain.as_str(), 0),
        };
        let Some((name, _)) = self.file.chains.get_key_value(name) else {
            return;
        };
        for rollback in rollbacks {
            let Some(node) = shape.tree.nodes.get(rollback.step) else {
                continue;
            };
            let is_step = rollback.step < shape.steps;
            let step = is_step.then_some(first + rollback.step + 1);
            let place = (name, step, &node.function);
            self.metrics.rolled_back(place, rollback);
            if let (Some(spans), Some((trace, id))) = (&self.spans, traced) {
                spans.rolled_back(trace, id, place, handed, rollback);
            }
        }
    }
}

/// The turn of the first worker: anybody's guess, so that several gateways of a few
/// workers each do not all begin at the same processor; the same for all of a
/// gateway's generations.
fn first_turn() -> usize {
    static FIRST: OnceLock<usize> = OnceLock::new();
    *FIRST.get_or_init(|| RandomState::new().hash_one(0) as u16 as usize)
}

fn no_worker(why: &str) -> Problem {
    log::debug!("no worker: {why}");
    Problem::new(
        ProblemKind::NoWorker,
        "no worker process can be started; the server's log says why",
    )
    .retry(5)
}

/// What a request is told that was given up, `begun` or not. One that was begun
/// has a word of its own, and is not asked to come again: nobody knows what it
/// has done.
pub(super) fn given_up(begun: bool) -> Problem {
    if begun {
        let detail = "this server shut down while the invocation ran; it may have been run in part";
        return Problem::new(ProblemKind::Aborted, detail);
    }
    let detail = "this server shut down before the invocation began";
    Problem::new(ProblemKind::Draining, detail).retry(5)
}
