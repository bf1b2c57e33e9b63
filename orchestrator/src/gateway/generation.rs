//! One generation of workers: they serve one chain file, and are replaced when
//! they die.

use super::metrics::Metrics;
use super::order::Order;
use super::otlp::Spans;
use super::problem::{Problem, ProblemKind, too_large};
use super::queue::{Job, Queues};
use super::threads::Threads;
use super::told::Shape;
use super::trace::Trace;
use super::worker_process::{Handed, Worker};
use crate::build::Built;
use crate::chain_file::{
    CallTree, ChainFile, ChainId, ChainKind, Cut, FunctionName, GroupName, MAX_ALL_STEPS, Routes,
    cut,
};
use crate::life::environment::handed_on;
use crate::worker::frame::{self, RollbackTiming};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

/// The first pause before a worker is started again; it doubles each time.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A request that has waited for so long, while no worker was free, has one more started.
const STARVED: Duration = Duration::from_millis(10);
/// A worker that lived this long owes nothing to those before it.
const SETTLED: Duration = Duration::from_secs(10);

/// What a generation is made of.
pub(super) struct Plan {
    pub(super) file: ChainFile,
    pub(super) built: BTreeMap<FunctionName, Built>,
    /// In each group.
    pub(super) workers: usize,
    /// So many there may be while requests wait, and how long one of those that were added
    /// may have nothing to do.
    pub(super) most: usize,
    pub(super) idle: Duration,
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
    /// In the order of the groups.
    pools: Vec<Pool>,
    order: Order,
    options: Vec<String>,
    /// How long a worker that was added may have nothing to do.
    idle: Duration,
    /// Workers that are at work.
    busy: AtomicUsize,
    /// True once jobs at work are to be given up.
    abort: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    spans: Option<Arc<Spans>>,
}

/// The workers of a group.
struct Pool {
    group: GroupName,
    /// The first frame of each, secrets of the environment in it: of this group's
    /// functions, and nothing of others.
    start: Zeroizing<Vec<u8>>,
    start_timeout: Duration,
    workers: usize,
    /// How many more may be there while requests wait.
    more: usize,
    /// Those that are ready or at work.
    alive: AtomicUsize,
    /// Why the last one to start did not, if none is alive.
    down: watch::Sender<Option<String>>,
}

impl Pool {
    /// That of a group which has this file.
    fn of(
        group: GroupName,
        file: ChainFile,
        built: &BTreeMap<FunctionName, Built>,
        workers: usize,
        most: usize,
        trees: &BTreeMap<ChainId, Shape>,
    ) -> Result<Self, String> {
        // A worker bounds each start itself; this is for one that hangs.
        let start_timeout = file
            .chains
            .keys()
            .flat_map(|chain| &trees[chain].tree.nodes)
            .map(|n| file.functions[&n.function].timeout)
            .map(|timeout| timeout.max(Duration::from_secs(15)))
            .sum::<Duration>()
            + Duration::from_secs(15);
        let chains: Vec<ChainId> = file.chains.keys().cloned().collect();
        let (variables, values) = handed_on(&file, &chains);
        let own = |name: &FunctionName| {
            let function = file.functions.get(name);
            function.is_some_and(|f| f.origin.elsewhere().is_none())
        };
        let built = built.iter().filter(|(name, _)| own(name));
        let built = built.map(|(name, b)| (name.clone(), b.clone())).collect();
        let start = frame::Start {
            file,
            built,
            variables,
        };
        let head = frame::begin_start(&start, values.len()).map_err(|e| e.to_string())?;
        let mut text = Zeroizing::new(Vec::with_capacity(head.len() + values.len()));
        text.extend_from_slice(&head);
        text.extend_from_slice(&values);
        Ok(Self {
            group,
            start: text,
            start_timeout,
            workers,
            more: most.saturating_sub(workers),
            alive: AtomicUsize::new(0),
            down: watch::Sender::new(None),
        })
    }

    fn is_ready(&self) -> bool {
        self.alive.load(Ordering::Acquire) > 0
    }
}

/// A request's hold on the generation that serves it.
pub(super) struct Lease(Arc<Generation>);

impl Lease {
    /// One of a generation that takes new requests.
    pub(super) fn of(generation: &Arc<Generation>) -> Option<Self> {
        let held = generation.queues.lease();
        held.then(|| Self(Arc::clone(generation)))
    }

    pub(super) fn file(&self) -> &ChainFile {
        &self.0.file
    }

    pub(super) fn routes(&self) -> &Routes {
        &self.0.routes
    }

    /// Puts a job of the request into its queue, or says why not.
    pub(super) fn push(&self, job: Job) -> Result<(), Problem> {
        self.0.push(job)
    }

    /// Takes a job out of its queue whose answer nobody waits for any more.
    pub(super) fn withdraw(&self, chain: &ChainId, taken: &Arc<AtomicBool>) {
        self.0.queues.withdraw(chain, taken);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.queues.release();
    }
}

/// The tasks of a generation, one a worker.
pub(super) type WorkerTasks = JoinSet<()>;

impl Generation {
    /// Starts all workers and waits until each is ready; each has its task on one of
    /// the threads, in turn.
    ///
    /// # Errors
    /// Why one could not start; none is left then.
    pub(super) async fn launch(
        plan: Plan,
        threads: &Threads,
        metrics: Arc<Metrics>,
        spans: Option<Arc<Spans>>,
    ) -> Result<(Arc<Self>, WorkerTasks), String> {
        let cut = cut(&plan.file);
        if cut.files.values().any(ChainFile::is_too_large) {
            return Err(format!(
                "all chains, functions served alone, parts of chains between steps elsewhere and calls from other groups have more than {MAX_ALL_STEPS} steps and calls: take some out, or serve them apart"
            ));
        }
        let order = Order::of(&cut);
        let Cut { files, routes } = cut;
        let chains = files.values().flat_map(|file| {
            file.chains
                .keys()
                .map(move |c| (c.clone(), Shape::of(file, c)))
        });
        let shapes: BTreeMap<ChainId, Shape> = chains.collect();
        let several = files.len() > 1;
        let pools = files.into_iter().zip(&order.workers);
        let pools = pools.map(|((group, file), &least)| {
            let workers = plan.workers.max(least);
            if workers > plan.workers {
                log::info!(
                    "group {group:?}: {workers} workers, not {}: those that it calls may call it back",
                    plan.workers
                );
            } else if several {
                log::info!("group {group:?}: {workers} workers");
            }
            Pool::of(group, file, &plan.built, workers, plan.most, &shapes)
        });
        let pools = pools.collect::<Result<Vec<Pool>, String>>()?;
        let places = order.places.iter().map(|(c, place)| (c.clone(), *place));
        let generation = Arc::new(Self {
            queues: Queues::new(places, pools.len(), plan.queue),
            file: plan.file,
            routes,
            shapes,
            pools,
            order,
            take_events: plan
                .built
                .into_iter()
                .filter_map(|(name, b)| b.takes_events.then_some(name))
                .collect(),
            options: plan.options,
            idle: plan.idle,
            busy: AtomicUsize::new(0),
            abort: watch::Sender::new(false),
            metrics,
            spans,
        });
        for (name, chain) in generation.shapes.keys().filter_map(|c| {
            let of = generation.file.chains.get(c.of())?;
            Some((c, of))
        }) {
            if !matches!(name.kind(), ChainKind::Callee { .. }) {
                generation.queues.limit(name, chain.concurrency);
            }
        }
        let all = generation.pools.iter().enumerate();
        let all: Vec<usize> = all
            .flat_map(|(n, pool)| std::iter::repeat_n(n, pool.workers))
            .collect();
        let (tell, mut told) = mpsc::channel(all.len());
        let mut tasks = JoinSet::new();
        for (i, &pool) in all.iter().enumerate() {
            let task = Arc::clone(&generation).supervise(i, pool, tell.clone());
            tasks.spawn_on(task, threads.get(i));
        }
        drop(tell);
        for _ in &all {
            let first = told.recv().await;
            let why = match first {
                Some(Ok(())) => continue,
                Some(Err(why)) => why,
                None => "a worker's task ended".into(),
            };
            tasks.shutdown().await;
            return Err(why);
        }
        let adding = generation.pools.iter().enumerate();
        for (n, _) in adding.filter(|(_, pool)| pool.more > 0) {
            let task = Arc::clone(&generation).add_workers(n, threads.all());
            tasks.spawn_on(task, threads.get(n));
        }
        // Those of a file that is refused are never heard of.
        for (name, chain) in &generation.file.chains {
            let functions = generation.file.functions_of(name);
            let functions = functions.iter().map(|f| &generation.file.functions[*f]);
            let groups: BTreeSet<_> = functions.clone().map(|f| &f.group).collect();
            let remote =
                groups.len() > 1 || functions.clone().any(|f| f.origin.elsewhere().is_some());
            let tree = CallTree::of(&generation.file, name);
            generation.metrics.know(name, &chain.steps, &tree, remote);
        }
        Ok((generation, tasks))
    }

    /// Whether each group has a worker for requests.
    pub(super) fn is_ready(&self) -> bool {
        self.pools.iter().all(Pool::is_ready)
    }

    /// How many workers are there, of all groups.
    pub(super) fn alive(&self) -> usize {
        let alive = self.pools.iter().map(|p| p.alive.load(Ordering::Acquire));
        alive.sum()
    }

    /// How many of them are at work.
    pub(super) fn busy(&self) -> usize {
        self.busy.load(Ordering::Acquire)
    }

    /// Whether a request of a chain would find its queue full.
    pub(super) fn is_full(&self, chain: &ChainId) -> bool {
        self.queues.is_full(chain)
    }

    /// Puts a job into its queue, or says why not.
    fn push(&self, job: Job) -> Result<(), Problem> {
        let pool = self.order.places.get(&job.chain);
        if let Some(pool) = pool.map(|place| &self.pools[place.group])
            && let Some(why) = &*pool.down.borrow()
            && !pool.is_ready()
        {
            return Err(no_worker(why));
        }
        // The request's head may have come under an older file.
        let region = self.file.chains.get(job.chain.of()).map(|c| c.region);
        match region {
            Some(region) if job.body.len() as u64 > region => Err(too_large(region)),
            _ => self.queues.push(job),
        }
    }

    /// Gives up what waits and what runs: each gets a 503.
    pub(super) fn abort(&self) {
        self.queues.close(&given_up(false));
        self.abort.send_replace(true);
    }

    /// One worker of this number after the other, until there is no more work for its group.
    async fn supervise(
        self: Arc<Self>,
        number: usize,
        group: usize,
        tell: mpsc::Sender<Result<(), String>>,
    ) {
        // The first start alone is waited for.
        let mut tell = Some(tell);
        let mut pause = Duration::ZERO;
        let mut abort = self.abort.subscribe();
        let pool = &self.pools[group];
        loop {
            let begun = Instant::now();
            match Worker::start(number, &self.options, &pool.start, pool.start_timeout).await {
                Ok(worker) => {
                    self.is_there(pool, &worker);
                    // The log and the metrics have told of the error already.
                    if let Some(tell) = tell.take() {
                        let _ = tell.try_send(Ok(()));
                    }
                    let pid = worker.pid;
                    let why = self.work(group, worker, &mut abort, None).await;
                    self.is_gone(pool, pid);
                    let Some(why) = why else { return };
                    log::warn!("worker {pid}: {why}; it is replaced");
                }
                Err(why) => {
                    if let Some(tell) = tell.take() {
                        let _ = tell.try_send(Err(why));
                        return;
                    }
                    log::error!("a worker cannot start: {why}");
                    pool.down.send_replace(Some(why.clone()));
                    if !pool.is_ready() {
                        self.queues.flush(group, &no_worker(&why));
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

    /// A worker is ready.
    fn is_there(&self, pool: &Pool, worker: &Worker) {
        log::info!("worker {} is ready", worker.pid);
        if self.pools.len() > 1 {
            log::info!("group {:?} has worker {}", pool.group, worker.pid);
        }
        self.metrics.started(worker.took);
        self.metrics.worker_reported(worker.pid, &worker.figures);
        if let Some(mechanism) = worker.mechanism {
            self.metrics.rolls_back_by(mechanism);
        }
        pool.down.send_replace(None);
        pool.alive.fetch_add(1, Ordering::AcqRel);
    }

    fn is_gone(&self, pool: &Pool, pid: u32) {
        pool.alive.fetch_sub(1, Ordering::AcqRel);
        self.metrics.gone(pid);
    }

    /// Workers of a group beside those that it always has, one after the other while
    /// requests wait and none is free, until there is no more work.
    async fn add_workers(self: Arc<Self>, group: usize, threads: Vec<Handle>) {
        let pool = &self.pools[group];
        let mut abort = self.abort.subscribe();
        let mut added = WorkerTasks::new();
        // Behind those that are always there, and those of the groups before.
        let before = self.pools[..group].iter().map(|p| p.more);
        let numbers = self
            .pools
            .iter()
            .map(|p| p.workers)
            .chain(before)
            .sum::<usize>();
        let mut threads = threads.into_iter().cycle().skip(pool.workers);
        loop {
            tokio::select! {
                _ = abort.wait_for(|a| *a) => return,
                more = self.queues.starved(group, STARVED) => if !more { break },
            }
            while added.try_join_next().is_some() {}
            let Some(thread) = threads.next().filter(|_| added.len() < pool.more) else {
                // The next look is soon enough once one of them has ended, or is free.
                tokio::select! {
                    _ = abort.wait_for(|a| *a) => return,
                    _ = added.join_next() => {}
                    () = sleep(PAUSE) => {}
                }
                continue;
            };
            let (tell, told) = oneshot::channel();
            added.spawn_on(
                Arc::clone(&self).added(numbers + added.len(), group, tell),
                &thread,
            );
            // One at a time: the queue may be served by then.
            let started = tokio::select! {
                _ = abort.wait_for(|a| *a) => return,
                started = told => started == Ok(true),
            };
            if !started {
                tokio::select! {
                    _ = abort.wait_for(|a| *a) => return,
                    () = sleep(LONGEST_PAUSE) => {}
                }
            }
        }
        while added.join_next().await.is_some() {}
    }

    /// One of them: it is not replaced. Tells whether it could start.
    async fn added(self: Arc<Self>, number: usize, group: usize, tell: oneshot::Sender<bool>) {
        let pool = &self.pools[group];
        let mut abort = self.abort.subscribe();
        match Worker::start(number, &self.options, &pool.start, pool.start_timeout).await {
            Ok(worker) => {
                let pid = worker.pid;
                log::info!("worker {pid} is added: requests have waited and no worker was free");
                self.is_there(pool, &worker);
                let _ = tell.send(true);
                let why = self.work(group, worker, &mut abort, Some(self.idle)).await;
                self.is_gone(pool, pid);
                if let Some(why) = why {
                    log::warn!("worker {pid}: {why}; it was one that had been added");
                    self.metrics.restarted();
                }
            }
            Err(why) => {
                log::error!("no worker can be added: {why}");
                let _ = tell.send(false);
            }
        }
    }

    /// Serves jobs; `None` when there are no more, or there were none for as long as that
    /// may be; else why the worker is lost.
    async fn work(
        &self,
        group: usize,
        mut worker: Worker,
        abort: &mut watch::Receiver<bool>,
        idle: Option<Duration>,
    ) -> Option<String> {
        loop {
            let enough = async {
                match idle {
                    Some(idle) => sleep(idle).await,
                    None => std::future::pending().await,
                }
            };
            let job = tokio::select! {
                biased;
                why = worker.broken() => return Some(why),
                job = self.queues.next(group) => job,
                () = enough => None,
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
            self.metrics.waited(&chain, job.since.elapsed());
            let begun = Instant::now();
            let traced = job.trace.clone().map(|trace| (trace, job.id.clone()));
            self.busy.fetch_add(1, Ordering::AcqRel);
            let handed = tokio::select! {
                handed = worker.serve(job, shape) => Some(handed),
                // Dropping the job tells its caller; dropping the worker
                // kills it.
                _ = abort.wait_for(|a| *a) => None,
            };
            self.busy.fetch_sub(1, Ordering::AcqRel);
            self.queues.finished(&chain, begun.elapsed());
            match handed? {
                Handed::Idle(state, handed) => {
                    self.metrics.copied(state.took, state.figures.copies);
                    self.metrics.worker_reported(worker.pid, &state.figures);
                    self.rolled_back(&chain, shape, traced.as_ref(), handed, &state.rollbacks);
                }
                Handed::Lost(why) => return Some(why),
                Handed::Unbegun(why, job) => {
                    self.queues.put_back(*job);
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
        let (first, steps) = match chain.kind() {
            ChainKind::Part { step, .. } => (step.saturating_sub(1), shape.steps),
            ChainKind::Named(_) | ChainKind::Function(_) => (0, shape.steps),
            ChainKind::Callee { .. } => (0, 0),
        };
        let Some((name, _)) = self.file.chains.get_key_value(chain.of()) else {
            return;
        };
        for rollback in rollbacks {
            let Some(node) = shape.tree.nodes.get(rollback.step) else {
                continue;
            };
            let is_step = rollback.step < steps;
            let step = is_step.then_some(first + rollback.step + 1);
            let place = (name, step, &node.function);
            self.metrics.rolled_back(place, rollback);
            if let (Some(spans), Some((trace, id))) = (&self.spans, traced) {
                spans.rolled_back(trace, id, place, handed, rollback);
            }
        }
    }
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
