//! What `/metrics` shows, in the Prometheus text format 0.0.4. Names follow
//! OpenTelemetry's FaaS conventions where they have one (`faas_…`); the rest
//! are ours (`lwc_…`).

use super::problem::ProblemKind;
use super::told::Calls;
use crate::chain_file::{CallTree, ChainId, FunctionName};
use crate::life::recorder;
use crate::life::{CauseKind, Mechanism, RollbackWay};
use crate::worker::frame::{RollbackTiming, WorkerFigures};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Those of `lwc_build_info`.
fn build_labels() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match env!("LWC_COMMIT") {
        "" => format!("version=\"{version}\""),
        commit => format!("version=\"{version}\",commit=\"{commit}\""),
    }
}

/// Upper bounds of the histograms' buckets, in seconds.
const BOUNDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Those of a rollback, which takes tens of microseconds in place.
const ROLLBACK_BOUNDS: [f64; 17] = [
    0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
    0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
];

/// Those of the pages that it undid.
const PAGE_BOUNDS: [f64; 12] = [
    0.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5,
];

/// Those of a call between functions, in which its worker counts them already; of hops
/// and of waits too.
const CALL_BOUNDS: [f64; recorder::BOUNDS.len()] = {
    let mut seconds = [0.0; recorder::BOUNDS.len()];
    let mut i = 0;
    while i < seconds.len() {
        seconds[i] = recorder::BOUNDS[i] as f64 / 1e9;
        i += 1;
    }
    seconds
};

#[derive(Debug, Clone)]
struct Histogram {
    bounds: &'static [f64],
    /// How many lay at or below each bound.
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::with(&BOUNDS)
    }
}

impl Histogram {
    /// Of what takes about as long as a call between functions.
    fn of_calls() -> Self {
        Self::with(&CALL_BOUNDS)
    }

    fn with(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            buckets: vec![0; bounds.len()],
            count: 0,
            sum: 0.0,
        }
    }

    fn observe(&mut self, value: f64) {
        for (bucket, bound) in self.buckets.iter_mut().zip(self.bounds) {
            *bucket += u64::from(value <= *bound);
        }
        self.count += 1;
        self.sum += value;
    }

    /// Adds what was counted elsewhere, in a bucket of the same bounds or beyond.
    fn add(&mut self, bucket: usize, count: u64) {
        for all in self.buckets.iter_mut().skip(bucket) {
            *all += count;
        }
        self.count += count;
    }

    /// Below which a share of the observations lies, in seconds; inside a bucket
    /// as if they were spread evenly, as Prometheus does.
    fn quantile(&self, share: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = share * self.count as f64;
        let (mut below, mut from) = (0.0, 0.0);
        for (&count, &bound) in self.buckets.iter().zip(self.bounds) {
            let count = count as f64;
            if count >= rank && count > below {
                return Some(from + (bound - from) * (rank - below) / (count - below));
            }
            (below, from) = (count, bound);
        }
        self.bounds.last().copied()
    }
}

/// Calls of one function by another.
#[derive(Debug, Clone)]
pub(super) struct EdgeFigures {
    took: Histogram,
    failed: [u64; CauseKind::ALL.len()],
}

impl Default for EdgeFigures {
    fn default() -> Self {
        Self {
            took: Histogram::with(&CALL_BOUNDS),
            failed: Default::default(),
        }
    }
}

impl EdgeFigures {
    /// All of them, and how many failed.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.took.count, self.failed.iter().sum())
    }

    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        self.took.quantile(share)
    }
}

/// Counts by their labels, as they are written.
#[derive(Debug, Default)]
pub(super) struct Figures {
    invocations: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    latency: BTreeMap<String, Histogram>,
    waits: BTreeMap<String, Histogram>,
    hops: BTreeMap<String, Histogram>,
    /// By chain, caller and callee.
    edges: BTreeMap<(ChainId, FunctionName, FunctionName), EdgeFigures>,
    requests: BTreeMap<u16, u64>,
    init: Histogram,
    /// Making copies anew, off the requests' path.
    copying: Histogram,
    /// Invocations that waited for a copy.
    cold: BTreeMap<String, u64>,
    switches: u64,
    copies: u64,
    /// What rollbacks took, off the requests' path, by their way.
    rollbacks: BTreeMap<RollbackWay, Histogram>,
    /// Pages that they undid, in place.
    pages: BTreeMap<String, Histogram>,
    /// By which means: as the last worker to start told.
    mechanism: Option<Mechanism>,
    /// Contexts, their bytes and their share of memory, by the worker's process id.
    held: BTreeMap<u32, (u64, u64, Option<u64>)>,
    /// Since when there is something to measure.
    begun: Option<Instant>,
    restarts: u64,
    reloads: BTreeMap<&'static str, u64>,
    /// TLS handshakes, by what became of them.
    handshakes: BTreeMap<&'static str, u64>,
    /// Readings of the certificate after the first.
    certificates: BTreeMap<&'static str, u64>,
    /// When the one that is served ends, in seconds after 1970.
    certificate_ends: Option<u64>,
    /// Messages of a stream, by what became of them.
    work: BTreeMap<&'static str, u64>,
}

fn of_chain(chain: &ChainId) -> String {
    format!("chain=\"{chain}\"")
}

fn of_error(of_chain: &str, cause: ProblemKind) -> String {
    format!("{of_chain},cause=\"{cause}\"")
}

fn of_hop(chain: &ChainId, step: usize, function: &FunctionName) -> String {
    format!("chain=\"{chain}\",step=\"{step}\",function=\"{function}\"")
}

/// As [`of_hop`]; a function that is called is no step.
fn of_place((chain, step, function): Place<'_>) -> String {
    match step {
        Some(step) => of_hop(chain, step, function),
        None => format!("chain=\"{chain}\",function=\"{function}\""),
    }
}

/// A function in a chain: its step, from 1, or none where it is called.
pub(super) type Place<'a> = (&'a ChainId, Option<usize>, &'a FunctionName);

impl Figures {
    /// Contexts that live, and the bytes that are theirs alone.
    pub(super) fn held(&self) -> (u64, u64) {
        self.held
            .values()
            .fold((0u64, 0u64), |(contexts, bytes), held| {
                (
                    contexts.saturating_add(held.0),
                    bytes.saturating_add(held.1),
                )
            })
    }

    /// What they take together, if each worker knows it.
    fn share(&self) -> Option<u64> {
        let known = self.held.values().map(|held| held.2);
        let sum = known.reduce(|all, one| all.zip(one).map(|(a, b)| a.saturating_add(b)));
        sum.flatten()
    }

    /// For how long it has been served.
    pub(super) fn uptime(&self) -> Duration {
        self.begun.map(|b| b.elapsed()).unwrap_or_default()
    }

    /// Answers of a chain, and how many of them are failures.
    pub(super) fn answered(&self, chain: &ChainId) -> (u64, u64) {
        let label = of_chain(chain);
        let all = self.invocations.get(&label).copied().unwrap_or(0);
        let failed = self.errors.range(label.clone()..);
        let failed = failed.take_while(|(l, _)| l.starts_with(&label));
        (all, failed.map(|(_, n)| n).sum())
    }

    pub(super) fn latency_quantile(&self, chain: &ChainId, share: f64) -> Option<f64> {
        self.latency.get(&of_chain(chain))?.quantile(share)
    }

    pub(super) fn hop_quantile(
        &self,
        chain: &ChainId,
        step: usize,
        function: &FunctionName,
        share: f64,
    ) -> Option<f64> {
        let hop = self.hops.get(&of_hop(chain, step, function))?;
        hop.quantile(share)
    }

    /// What calls of a function by another were like.
    pub(super) fn edge(
        &self,
        chain: &ChainId,
        caller: &FunctionName,
        callee: &FunctionName,
    ) -> Option<&EdgeFigures> {
        self.edges
            .get(&(chain.clone(), caller.clone(), callee.clone()))
    }
}

/// All that is counted. Chains and functions have names of `[a-z0-9_-]`, so no
/// label needs escaping.
#[derive(Debug)]
pub(super) struct Metrics {
    figures: Mutex<Figures>,
    since: SystemTime,
}

/// What is measured when asked for.
pub(super) struct Now {
    pub(super) queues: Vec<(ChainId, usize)>,
    pub(super) in_flight: usize,
    pub(super) workers: usize,
    pub(super) busy: usize,
    /// Chains, and whether their circuit is open.
    pub(super) circuits: BTreeMap<ChainId, bool>,
    pub(super) draining: bool,
    pub(super) body_bytes: u64,
    pub(super) connections: usize,
    /// By the budget that was used up.
    pub(super) refused: Vec<(&'static str, u64)>,
    /// "kernel" or "process".
    pub(super) backend: String,
}

/// What the system tells of this process, as all programs that Prometheus asks tell it.
#[derive(Debug, Default)]
pub(super) struct ProcessFigures(metrics_process::collector::Metrics);

impl ProcessFigures {
    /// As it is now. The system counts descriptors one by one, so another thread asks,
    /// which has no connections to serve.
    pub(super) async fn now() -> Self {
        let asked = tokio::task::spawn_blocking(metrics_process::collector::collect);
        Self(asked.await.unwrap_or_default())
    }
}

/// Statuses that the gateway itself gives.
const STATUSES: [u16; 14] = [
    200, 400, 404, 405, 408, 413, 415, 429, 431, 500, 502, 503, 504, 507,
];

impl Metrics {
    /// Begins to count what does not come from a chain: what has not happened is
    /// there as 0, so that its first time is an increase.
    pub(super) fn new() -> Self {
        let mut f = Figures::default();
        f.requests.extend(STATUSES.map(|s| (s, 0)));
        let none = Histogram::with(&ROLLBACK_BOUNDS);
        f.rollbacks
            .extend(RollbackWay::ALL.map(|way| (way, none.clone())));
        f.begun = Some(Instant::now());
        f.reloads.extend(["ok", "refused"].map(|r| (r, 0)));
        f.handshakes
            .extend(["done", "failed", "gone", "plain", "slow"].map(|r| (r, 0)));
        f.certificates.extend(["ok", "refused"].map(|r| (r, 0)));
        f.work
            .extend(["answered", "failed", "again", "poison"].map(|r| (r, 0)));
        Self {
            figures: Mutex::new(f),
            since: SystemTime::now(),
        }
    }

    /// Begins to count a chain; `remote` if some of its steps run elsewhere. One
    /// that is known goes on as it is.
    pub(super) fn know(
        &self,
        chain: &ChainId,
        steps: &[FunctionName],
        tree: &CallTree,
        remote: bool,
    ) {
        let mut f = self.lock();
        let label = of_chain(chain);
        for cause in ProblemKind::of_chain(remote) {
            f.errors.entry(of_error(&label, cause)).or_default();
        }
        f.invocations.entry(label.clone()).or_default();
        f.cold.entry(label.clone()).or_default();
        f.waits
            .entry(label.clone())
            .or_insert_with(Histogram::of_calls);
        f.latency.entry(label).or_default();
        for (i, function) in steps.iter().enumerate() {
            let label = of_hop(chain, i + 1, function);
            let none = Histogram::with(&PAGE_BOUNDS);
            f.pages.entry(label.clone()).or_insert(none);
            f.hops.entry(label).or_insert_with(Histogram::of_calls);
        }
        for node in tree.nodes.iter().skip(steps.len()) {
            let label = of_place((chain, None, &node.function));
            let none = Histogram::with(&PAGE_BOUNDS);
            f.pages.entry(label).or_insert(none);
        }
        for edge in &tree.edges {
            let name = |node: usize| tree.nodes[node].function.clone();
            let key = (chain.clone(), name(edge.caller), name(edge.callee));
            f.edges.entry(key).or_default();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answered request for a chain; `cause` of its failure, if it failed.
    pub(super) fn invoked(&self, chain: &ChainId, cause: Option<ProblemKind>, seconds: f64) {
        let mut f = self.lock();
        let label = of_chain(chain);
        if let Some(cause) = cause {
            *f.errors.entry(of_error(&label, cause)).or_default() += 1;
        }
        *f.invocations.entry(label.clone()).or_default() += 1;
        f.latency.entry(label).or_default().observe(seconds);
    }

    /// One hop of an invocation that was answered.
    pub(super) fn hop(&self, chain: &ChainId, step: usize, function: &FunctionName, seconds: f64) {
        let label = of_hop(chain, step, function);
        let mut f = self.lock();
        let hop = f.hops.entry(label).or_insert_with(Histogram::of_calls);
        hop.observe(seconds);
    }

    /// The calls between functions of an invocation, answered or not.
    pub(super) fn called(&self, chain: &ChainId, calls: &Calls) {
        if calls.edges.is_empty() {
            return;
        }
        let mut f = self.lock();
        for edge in &calls.edges {
            let key = (chain.clone(), edge.caller.clone(), edge.callee.clone());
            let all = f.edges.entry(key).or_default();
            for &(bucket, count) in &edge.buckets {
                all.took.add(bucket, count.into());
            }
            all.took.sum += edge.run.as_secs_f64();
            for &(kind, count) in &edge.failed {
                if let Some(failed) = all.failed.get_mut(kind as usize) {
                    *failed += u64::from(count);
                }
            }
        }
    }

    /// A worker has been given a job, after so long.
    pub(super) fn waited(&self, chain: &ChainId, time: Duration) {
        // Parts and calls of a chain are its own.
        let label = format!("chain=\"{}\"", chain.of());
        let mut f = self.lock();
        let wait = f.waits.entry(label).or_insert_with(Histogram::of_calls);
        wait.observe(time.as_secs_f64());
    }

    /// Any response.
    pub(super) fn responded(&self, status: u16) {
        *self.lock().requests.entry(status).or_default() += 1;
    }

    /// A worker has brought its chains to life.
    pub(super) fn started(&self, micros: f64) {
        self.lock().init.observe(micros / 1e6);
    }

    /// What a worker says it did and holds.
    pub(super) fn worker_reported(&self, pid: u32, figures: &WorkerFigures) {
        let mut f = self.lock();
        // A worker's word may be any number.
        f.switches = f.switches.saturating_add(figures.switches);
        f.copies = f.copies.saturating_add(figures.copies);
        let held = f.held.entry(pid).or_default();
        held.0 = figures.contexts;
        if let Some(private) = figures.private {
            (held.1, held.2) = (private, figures.share);
        }
    }

    /// A worker has said by which means it rolls back.
    pub(super) fn rolls_back_by(&self, mechanism: Mechanism) {
        self.lock().mechanism = Some(mechanism);
    }

    /// A function's context was rolled back after an invocation.
    pub(super) fn rolled_back(&self, of: Place<'_>, rollback: &RollbackTiming) {
        let mut f = self.lock();
        let none = || Histogram::with(&ROLLBACK_BOUNDS);
        let took = f.rollbacks.entry(rollback.way).or_insert_with(none);
        took.observe(rollback.took / 1e6);
        if let Some(pages) = rollback.pages {
            let none = || Histogram::with(&PAGE_BOUNDS);
            let all = f.pages.entry(of_place(of));
            all.or_insert_with(none).observe(pages as f64);
        }
    }

    /// A worker has ended, and its contexts with it.
    pub(super) fn gone(&self, pid: u32) {
        self.lock().held.remove(&pid);
    }

    /// A worker has made copies anew after an invocation.
    pub(super) fn copied(&self, micros: f64, copies: u64) {
        if copies > 0 {
            self.lock().copying.observe(micros / 1e6);
        }
    }

    /// An invocation waited for a copy.
    pub(super) fn was_cold(&self, chain: &ChainId) {
        let label = of_chain(chain);
        *self.lock().cold.entry(label).or_default() += 1;
    }

    pub(super) fn restarted(&self) {
        self.lock().restarts += 1;
    }

    /// The chain file was read again: "ok" or "refused".
    pub(super) fn reloaded(&self, result: &'static str) {
        *self.lock().reloads.entry(result).or_default() += 1;
    }

    /// A TLS handshake is over: "done", "failed" (by what one of both said), "gone" (the
    /// client hung up), "plain" (what came was no TLS) or "slow".
    pub(super) fn shook_hands(&self, result: &'static str) {
        *self.lock().handshakes.entry(result).or_default() += 1;
    }

    /// The certificate was read again: "ok" or "refused".
    pub(super) fn certificate_read(&self, result: &'static str) {
        *self.lock().certificates.entry(result).or_default() += 1;
    }

    /// The certificate that is served ends then, in seconds after 1970.
    pub(super) fn certificate(&self, ends: Option<u64>) {
        self.lock().certificate_ends = ends;
    }

    /// One delivery of a stream's message has come to an end.
    pub(super) fn worked(&self, result: &'static str) {
        *self.lock().work.entry(result).or_default() += 1;
    }

    pub(super) fn render(&self, now: &Now, process: &ProcessFigures) -> String {
        let f = self.lock();
        let mut out = Text::default();
        out.counters(
            "faas_invocations_total",
            "Invocations answered, with success or not.",
            &f.invocations,
        );
        out.counters("faas_errors_total", "Invocations that failed.", &f.errors);
        out.histograms(
            "faas_invoke_duration_seconds",
            "From the request's head to its answer, the wait for a worker included.",
            &f.latency,
        );
        out.histograms(
            "lwc_queue_duration_seconds",
            "From a job's place in its queue to its worker.",
            &f.waits,
        );
        out.histograms(
            "lwc_hop_duration_seconds",
            "From the switch to a function to its answer.",
            &f.hops,
        );
        let edges = f.edges.iter().map(|((chain, caller, callee), figures)| {
            let labels = format!("chain=\"{chain}\",caller=\"{caller}\",callee=\"{callee}\"");
            (labels, figures)
        });
        let edges: Vec<(String, &EdgeFigures)> = edges.collect();
        out.histograms(
            "lwc_call_duration_seconds",
            "From the switch to a function that another called to its reply.",
            edges
                .iter()
                .map(|(labels, figures)| (labels, &figures.took)),
        );
        let outcomes = edges.iter().flat_map(|(labels, figures)| {
            let (all, failed) = figures.counts();
            let kinds = CauseKind::ALL.into_iter().zip(figures.failed);
            let kinds = kinds.map(|(kind, n)| (ProblemKind::from(kind).as_str(), n));
            let answered = ("answered", all.saturating_sub(failed));
            std::iter::once(answered)
                .chain(kinds)
                .map(move |(outcome, n)| (format!("{labels},outcome=\"{outcome}\""), n))
        });
        out.counters(
            "lwc_calls_total",
            "Calls of functions by functions, by what came of them.",
            outcomes,
        );
        out.histograms(
            "faas_init_duration_seconds",
            "Bringing all chains of a worker to life.",
            [("", &f.init)],
        );
        out.counters(
            "faas_coldstarts_total",
            "Invocations that waited for a context to be made.",
            &f.cold,
        );
        out.histograms(
            "lwc_copying_duration_seconds",
            "Making a chain's used contexts anew after an answer.",
            [("", &f.copying)],
        );
        let ways = || {
            let of = |way: &RollbackWay| format!("way=\"{way}\"");
            f.rollbacks.iter().map(move |(way, h)| (of(way), h))
        };
        out.counters(
            "lwc_rollbacks_total",
            "Invocations of a function that were undone, by the way it was done.",
            ways().map(|(labels, h)| (labels, h.count)),
        );
        out.histograms(
            "lwc_rollback_duration_seconds",
            "Undoing what an invocation of a function did, after the answer.",
            ways(),
        );
        out.histograms(
            "lwc_rollback_pages",
            "Pages that a rollback in place undid.",
            &f.pages,
        );
        out.gauges(
            "lwc_rollback_info",
            "How contexts are rolled back: 1.",
            f.mechanism.map(|m| (format!("mechanism=\"{m}\""), 1)),
        );
        let (contexts, bytes) = f.held();
        out.counters(
            "lwc_switches_total",
            "Switches from a worker's root to a function's context and back.",
            [("", f.switches)],
        );
        out.counters(
            "lwc_copies_total",
            "Contexts made as copies of a snapshot.",
            [("", f.copies)],
        );
        out.gauges(
            "lwc_contexts",
            "Functions' contexts that live.",
            [("", contexts)],
        );
        out.gauges(
            "lwc_contexts_private_bytes",
            "Memory that is these contexts' alone.",
            [("", bytes)],
        );
        out.gauges(
            "lwc_contexts_pss_bytes",
            "Memory of these contexts, of what several have each one's part.",
            f.share().map(|bytes| ("", bytes)),
        );
        let by =
            |name: &'static str| move |value: &dyn std::fmt::Display| format!("{name}=\"{value}\"");
        let (code, result) = (by("code"), by("result"));
        out.counters(
            "http_requests_total",
            "Responses by status.",
            f.requests.iter().map(|(status, n)| (code(status), *n)),
        );
        out.counters(
            "lwc_worker_restarts_total",
            "Worker processes that were replaced.",
            [("", f.restarts)],
        );
        out.counters(
            "lwc_reloads_total",
            "Readings of the chain file after the first.",
            f.reloads.iter().map(|(what, n)| (result(what), *n)),
        );
        out.counters(
            "lwc_tls_handshakes_total",
            "TLS handshakes of callers by what became of them.",
            f.handshakes.iter().map(|(what, n)| (result(what), *n)),
        );
        out.counters(
            "lwc_tls_reloads_total",
            "Readings of the certificate and its key after the first.",
            f.certificates.iter().map(|(what, n)| (result(what), *n)),
        );
        out.gauges(
            "lwc_tls_certificate_end_timestamp_seconds",
            "When the certificate that is served ends.",
            f.certificate_ends.map(|end| ("", end)),
        );
        out.counters(
            "lwc_nats_work_total",
            "Deliveries from a JetStream stream by what became of them.",
            f.work.iter().map(|(what, n)| (result(what), *n)),
        );
        out.gauges(
            "lwc_queue_length",
            "Requests that wait for a worker.",
            now.queues.iter().map(|(c, n)| (of_chain(c), *n as u64)),
        );
        out.gauges(
            "lwc_requests_in_flight",
            "Requests not yet answered.",
            [("", now.in_flight as u64)],
        );
        out.gauges(
            "lwc_workers",
            "Worker processes that are ready or at work.",
            [("", now.workers as u64)],
        );
        out.gauges(
            "lwc_workers_busy",
            "Worker processes at work.",
            [("", now.busy as u64)],
        );
        out.gauges(
            "lwc_circuit_open",
            "1 for a chain that is left alone because it crashed again and again.",
            now.circuits
                .iter()
                .map(|(c, open)| (of_chain(c), u64::from(*open))),
        );
        out.gauges(
            "lwc_backend_info",
            "How contexts are made: 1.",
            [(format!("backend=\"{}\"", now.backend), 1)],
        );
        out.gauges(
            "lwc_build_info",
            "Which version this is.",
            [(build_labels(), 1)],
        );
        out.gauges(
            "lwc_body_bytes",
            "Bytes of requests' bodies that are held.",
            [("", now.body_bytes)],
        );
        out.gauges(
            "lwc_connections",
            "Connections of callers.",
            [("", now.connections as u64)],
        );
        out.counters(
            "lwc_refused_total",
            "What was refused or hung up on, by the budget that it would have overdrawn.",
            now.refused
                .iter()
                .map(|(budget, n)| (format!("budget=\"{budget}\""), *n)),
        );
        out.gauges(
            "lwc_draining",
            "1 while shutting down.",
            [("", u64::from(now.draining))],
        );
        self.render_process(&mut out, &process.0);
        out.0
    }

    /// What the system does not tell is left out.
    fn render_process(&self, out: &mut Text, process: &metrics_process::collector::Metrics) {
        // A service may see nothing of /proc but processes: when the machine was started
        // is not there, by which their start is counted.
        let ours = || self.since.duration_since(SystemTime::UNIX_EPOCH).ok();
        let start = process.start_time_seconds.or(ours().map(|s| s.as_secs()));
        let whole = |n: Option<u64>| n.map(|n| n as f64);
        // 0 means that there is no limit.
        let most = whole(process.max_fds).map(|n| if n == 0.0 { f64::INFINITY } else { n });
        for (name, kind, help, value) in [
            (
                "process_cpu_seconds_total",
                "counter",
                "Processor time of the gateway, without its workers.",
                process.cpu_seconds_total,
            ),
            (
                "process_resident_memory_bytes",
                "gauge",
                "Memory of the gateway, without its workers.",
                whole(process.resident_memory_bytes),
            ),
            (
                "process_virtual_memory_bytes",
                "gauge",
                "Addresses that the gateway uses.",
                whole(process.virtual_memory_bytes),
            ),
            (
                "process_open_fds",
                "gauge",
                "Descriptors of the gateway.",
                whole(process.open_fds),
            ),
            ("process_max_fds", "gauge", "How many it may have.", most),
            (
                "process_start_time_seconds",
                "gauge",
                "When the gateway was started, in seconds since 1970.",
                whole(start),
            ),
        ] {
            if let Some(value) = value {
                out.head(name, kind, help);
                // As Prometheus writes it.
                match value.is_finite() {
                    true => out.line(name, "", value),
                    false => out.line(name, "", "+Inf"),
                }
            }
        }
    }
}

/// Metrics as they are written. Of each, all values are told by their labels, which
/// are empty where there is one value.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            _ => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn counters<L: AsRef<str>, N: Borrow<u64>>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, N)>,
    ) {
        self.head(name, "counter", help);
        for (labels, n) in all {
            self.line(name, labels.as_ref(), n.borrow());
        }
    }

    fn gauges<L: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, u64)>,
    ) {
        self.head(name, "gauge", help);
        for (labels, n) in all {
            self.line(name, labels.as_ref(), n);
        }
    }

    fn histograms<'a, L: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, &'a Histogram)>,
    ) {
        self.head(name, "histogram", help);
        let [bucket, sum, count] = ["bucket", "sum", "count"].map(|what| format!("{name}_{what}"));
        for (labels, h) in all {
            let labels = labels.as_ref();
            let comma = if labels.is_empty() { "" } else { "," };
            for (n, bound) in h.buckets.iter().zip(h.bounds) {
                self.line(&bucket, &format!("{labels}{comma}le=\"{bound}\""), n);
            }
            let beyond = format!("{labels}{comma}le=\"+Inf\"");
            self.line(&bucket, &beyond, h.count);
            self.line(&sum, labels, h.sum);
            self.line(&count, labels, h.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::EdgeCalls;
    use super::*;

    #[test]
    fn quantiles_lie_in_their_bucket() {
        let mut h = Histogram::default();
        assert_eq!(h.quantile(0.5), None);
        for _ in 0..99 {
            h.observe(0.003);
        }
        h.observe(0.3);
        let inside = |q, from, to| (from..=to).contains(&h.quantile(q).unwrap());
        assert!(inside(0.5, 0.0025, 0.005) && inside(0.99, 0.0025, 0.005));
        assert!(inside(0.999, 0.25, 0.5));
        let mut h = Histogram::default();
        h.observe(100.0);
        assert_eq!(h.quantile(0.5), Some(10.0));
    }

    #[test]
    fn buckets_are_cumulative() {
        let m = Metrics::new();
        let id = |name: &str| ChainId::named(name).unwrap();
        let name = |n: &str| FunctionName::new(n).unwrap();
        let node = |n: &str| crate::chain_file::Node {
            function: name(n),
            calls: Vec::new(),
            called_by: Vec::new(),
        };
        let none = CallTree {
            nodes: Vec::new(),
            contexts: 0,
            edges: Vec::new(),
            on_error: None,
        };
        let tree = CallTree {
            nodes: vec![node("f"), node("g")],
            contexts: 2,
            on_error: None,
            edges: vec![crate::chain_file::Edge {
                caller: 0,
                callee: 1,
            }],
        };
        m.know(&id("c"), &[name("f")], &tree, false);
        m.know(&id("far"), &[], &none, true);
        let calls = |buckets, failed, run| Calls {
            edges: vec![EdgeCalls {
                caller: name("f"),
                callee: name("g"),
                run: Duration::from_nanos(run),
                buckets,
                failed,
            }],
            spans: Vec::new(),
        };
        m.called(&id("c"), &calls(vec![(0, 2), (4, 1)], vec![], 9000));
        let crash = vec![(CauseKind::Crash, 1)];
        m.called(&id("c"), &calls(vec![(23, 1)], crash, 11_000_000_000));
        m.invoked(&id("c"), None, 0.003);
        m.invoked(&id("c"), Some(ProblemKind::Crash), 99.0);
        m.invoked(&id("cc"), Some(ProblemKind::Crash), 99.0);
        assert_eq!(m.lock().answered(&id("c")), (2, 1));
        let figures = |contexts, private: Option<u64>| WorkerFigures {
            contexts,
            private,
            share: private.map(|n| n / 2),
            ..WorkerFigures::default()
        };
        let rollback = |way, took, pages| RollbackTiming {
            step: 0,
            way,
            at: 0.0,
            took,
            pages,
        };
        let f = FunctionName::new("f").unwrap();
        for (way, took, pages) in [
            (RollbackWay::InPlace, 30.0, Some(4)),
            (RollbackWay::InPlace, 7.0, Some(0)),
            (RollbackWay::NewCopy, 900.0, None),
        ] {
            m.rolled_back((&id("c"), Some(1), &f), &rollback(way, took, pages));
        }
        let g = name("g");
        let called = rollback(RollbackWay::InPlace, 0.0, Some(1));
        m.rolled_back((&id("c"), None, &g), &called);
        m.rolls_back_by(Mechanism::Userfaultfd);
        m.worker_reported(1, &figures(4, Some(4096)));
        m.worker_reported(2, &figures(9, Some(1)));
        m.worker_reported(1, &figures(7, None));
        assert_eq!(m.lock().share(), Some(2048));
        m.worker_reported(3, &figures(1, None));
        assert_eq!(m.lock().share(), None, "one has not told");
        m.gone(3);
        m.gone(2);
        let text = m.render(
            &Now {
                queues: vec![(id("c"), 2)],
                in_flight: 0,
                workers: 1,
                busy: 0,
                circuits: [(id("c"), false), (id("d"), true)].into(),
                body_bytes: 7,
                connections: 2,
                refused: vec![("idle", 3)],
                draining: false,
                backend: "process".into(),
            },
            &ProcessFigures(metrics_process::collector::Metrics {
                cpu_seconds_total: Some(1.25),
                max_fds: Some(0),
                open_fds: Some(7),
                ..Default::default()
            }),
        );
        assert!(
            !text.contains("process_resident"),
            "what is not known is not 0"
        );
        assert!(text.contains("\nprocess_start_time_seconds 1"), "{text}");
        for line in [
            "faas_invocations_total{chain=\"c\"} 2",
            "faas_errors_total{chain=\"c\",cause=\"crash\"} 1",
            "faas_invoke_duration_seconds_bucket{chain=\"c\",le=\"0.0025\"} 0",
            "faas_invoke_duration_seconds_bucket{chain=\"c\",le=\"0.005\"} 1",
            "faas_invoke_duration_seconds_bucket{chain=\"c\",le=\"10\"} 1",
            "faas_invoke_duration_seconds_bucket{chain=\"c\",le=\"+Inf\"} 2",
            "lwc_queue_length{chain=\"c\"} 2",
            "lwc_circuit_open{chain=\"c\"} 0",
            "lwc_circuit_open{chain=\"d\"} 1",
            "faas_errors_total{chain=\"c\",cause=\"timeout\"} 0",
            "faas_errors_total{chain=\"far\",cause=\"remote\"} 0",
            "lwc_hop_duration_seconds_count{chain=\"c\",step=\"1\",function=\"f\"} 0",
            "lwc_call_duration_seconds_bucket{chain=\"c\",caller=\"f\",callee=\"g\",le=\"0.0000005\"} 2",
            "lwc_call_duration_seconds_bucket{chain=\"c\",caller=\"f\",callee=\"g\",le=\"0.000005\"} 2",
            "lwc_call_duration_seconds_bucket{chain=\"c\",caller=\"f\",callee=\"g\",le=\"0.00001\"} 3",
            "lwc_call_duration_seconds_bucket{chain=\"c\",caller=\"f\",callee=\"g\",le=\"10\"} 3",
            "lwc_call_duration_seconds_bucket{chain=\"c\",caller=\"f\",callee=\"g\",le=\"+Inf\"} 4",
            "lwc_call_duration_seconds_sum{chain=\"c\",caller=\"f\",callee=\"g\"} 11.000009",
            "lwc_calls_total{chain=\"c\",caller=\"f\",callee=\"g\",outcome=\"answered\"} 3",
            "lwc_calls_total{chain=\"c\",caller=\"f\",callee=\"g\",outcome=\"crash\"} 1",
            "lwc_calls_total{chain=\"c\",caller=\"f\",callee=\"g\",outcome=\"timeout\"} 0",
            "lwc_rollback_pages_count{chain=\"c\",function=\"g\"} 1",
            "lwc_rollbacks_total{way=\"in-place\"} 3",
            "lwc_rollbacks_total{way=\"new-copy\"} 1",
            "lwc_rollback_duration_seconds_bucket{way=\"in-place\",le=\"0.000005\"} 1",
            "lwc_rollback_duration_seconds_bucket{way=\"in-place\",le=\"0.00001\"} 2",
            "lwc_rollback_duration_seconds_bucket{way=\"in-place\",le=\"0.00005\"} 3",
            "lwc_rollback_duration_seconds_count{way=\"in-place\"} 3",
            "lwc_rollback_duration_seconds_bucket{way=\"new-copy\",le=\"0.001\"} 1",
            "lwc_rollback_pages_bucket{chain=\"c\",step=\"1\",function=\"f\",le=\"0\"} 1",
            "lwc_rollback_pages_bucket{chain=\"c\",step=\"1\",function=\"f\",le=\"10\"} 2",
            "lwc_rollback_pages_sum{chain=\"c\",step=\"1\",function=\"f\"} 4",
            "lwc_rollback_pages_count{chain=\"c\",step=\"1\",function=\"f\"} 2",
            "lwc_rollback_info{mechanism=\"userfaultfd\"} 1",
            "lwc_contexts 7",
            "process_cpu_seconds_total 1.25",
            "process_max_fds +Inf",
            "process_open_fds 7",
            "lwc_contexts_private_bytes 4096",
            "lwc_contexts_pss_bytes 2048",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
