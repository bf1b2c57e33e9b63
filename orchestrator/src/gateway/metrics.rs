//! What `/metrics` shows, in the Prometheus text format 0.0.4. Names follow
//! OpenTelemetry's FaaS conventions where they have one (`faas_…`); the rest
//! are ours (`lwc_…`).

use super::problem::ProblemKind;
use crate::chain_file::{ChainId, FunctionName};
use crate::life::{Mechanism, RollbackWay};
use crate::worker::frame::{RollbackTiming, WorkerFigures};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

    fn render(&self, out: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        for (count, bound) in self.buckets.iter().zip(self.bounds) {
            let _ = writeln!(
                out,
                "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"
            );
        }
        let _ = writeln!(
            out,
            "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}",
            self.count
        );
        let (open, close) = if labels.is_empty() {
            ("", "")
        } else {
            ("{", "}")
        };
        let _ = writeln!(out, "{name}_sum{open}{labels}{close} {}", self.sum);
        let _ = writeln!(out, "{name}_count{open}{labels}{close} {}", self.count);
    }
}

/// Counts by their labels, as they are written.
#[derive(Debug, Default)]
pub(super) struct Figures {
    invocations: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    latency: BTreeMap<String, Histogram>,
    hops: BTreeMap<String, Histogram>,
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
    /// Contexts and their bytes, by the worker's process id.
    held: BTreeMap<u32, (u64, u64)>,
    restarts: u64,
    reloads: BTreeMap<&'static str, u64>,
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

impl Figures {
    /// Contexts that live, and the bytes that are theirs alone.
    pub(super) fn held(&self) -> (u64, u64) {
        self.held
            .values()
            .fold((0, 0), |(c, b), held| (c + held.0, b + held.1))
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
}

/// All that is counted. Chains and functions have names of `[a-z0-9_-]`, so no
/// label needs escaping.
#[derive(Debug)]
pub(super) struct Metrics(Mutex<Figures>);

/// What is measured when asked for.
pub(super) struct Now {
    pub(super) queues: Vec<(ChainId, usize)>,
    pub(super) in_flight: usize,
    pub(super) workers: usize,
    pub(super) busy: usize,
    /// Chains, and whether their circuit is open.
    pub(super) circuits: BTreeMap<ChainId, bool>,
    pub(super) draining: bool,
    /// "kernel" or "process".
    pub(super) backend: String,
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
        f.reloads.extend(["ok", "refused"].map(|r| (r, 0)));
        f.work
            .extend(["answered", "failed", "again", "poison"].map(|r| (r, 0)));
        Self(Mutex::new(f))
    }

    /// Begins to count a chain; `remote` if some of its steps run elsewhere. One
    /// that is known goes on as it is.
    pub(super) fn know(&self, chain: &ChainId, steps: &[FunctionName], remote: bool) {
        let mut f = self.lock();
        let label = of_chain(chain);
        for cause in ProblemKind::of_chain(remote) {
            f.errors.entry(of_error(&label, cause)).or_default();
        }
        f.invocations.entry(label.clone()).or_default();
        f.cold.entry(label.clone()).or_default();
        f.latency.entry(label).or_default();
        for (i, function) in steps.iter().enumerate() {
            let label = of_hop(chain, i + 1, function);
            let none = Histogram::with(&PAGE_BOUNDS);
            f.pages.entry(label.clone()).or_insert(none);
            f.hops.entry(label).or_default();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.lock().hops.entry(label).or_default().observe(seconds);
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
        f.switches += figures.switches;
        f.copies += figures.copies;
        let held = f.held.entry(pid).or_default();
        held.0 = figures.contexts;
        held.1 = figures.private.unwrap_or(held.1);
    }

    /// A worker has said by which means it rolls back.
    pub(super) fn rolls_back_by(&self, mechanism: Mechanism) {
        self.lock().mechanism = Some(mechanism);
    }

    /// A function's context was rolled back after an invocation.
    pub(super) fn rolled_back(
        &self,
        chain: &ChainId,
        step: usize,
        function: &FunctionName,
        rollback: &RollbackTiming,
    ) {
        let mut f = self.lock();
        let none = || Histogram::with(&ROLLBACK_BOUNDS);
        let took = f.rollbacks.entry(rollback.way).or_insert_with(none);
        took.observe(rollback.took / 1e6);
        if let Some(pages) = rollback.pages {
            let none = || Histogram::with(&PAGE_BOUNDS);
            let all = f.pages.entry(of_hop(chain, step, function));
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

    /// One delivery of a stream's message has come to an end.
    pub(super) fn worked(&self, result: &'static str) {
        *self.lock().work.entry(result).or_default() += 1;
    }

    pub(super) fn render(&self, now: &Now) -> String {
        let mut out = String::new();
        let f = self.lock();
        let head = |name: &str, kind: &str, help: &str| {
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
        };
        let counter = |out: &mut String, name: &str, all: &BTreeMap<String, u64>| {
            for (labels, n) in all {
                let _ = writeln!(out, "{name}{{{labels}}} {n}");
            }
        };
        out += &head(
            "faas_invocations_total",
            "counter",
            "Invocations answered, with success or not.",
        );
        counter(&mut out, "faas_invocations_total", &f.invocations);
        out += &head("faas_errors_total", "counter", "Invocations that failed.");
        counter(&mut out, "faas_errors_total", &f.errors);
        out += &head(
            "faas_invoke_duration_seconds",
            "histogram",
            "From the request's head to its answer, the wait for a worker included.",
        );
        for (labels, h) in &f.latency {
            h.render(&mut out, "faas_invoke_duration_seconds", labels);
        }
        out += &head(
            "lwc_hop_duration_seconds",
            "histogram",
            "From the switch to a function to its answer.",
        );
        for (labels, h) in &f.hops {
            h.render(&mut out, "lwc_hop_duration_seconds", labels);
        }
        out += &head(
            "faas_init_duration_seconds",
            "histogram",
            "Bringing all chains of a worker to life.",
        );
        f.init.render(&mut out, "faas_init_duration_seconds", "");
        out += &head(
            "faas_coldstarts_total",
            "counter",
            "Invocations that waited for a context to be made.",
        );
        counter(&mut out, "faas_coldstarts_total", &f.cold);
        out += &head(
            "lwc_copying_duration_seconds",
            "histogram",
            "Making a chain's used contexts anew after an answer.",
        );
        f.copying
            .render(&mut out, "lwc_copying_duration_seconds", "");
        out += &head(
            "lwc_rollbacks_total",
            "counter",
            "Invocations of a function that were undone, by the way it was done.",
        );
        for (way, h) in &f.rollbacks {
            let _ = writeln!(out, "lwc_rollbacks_total{{way=\"{way}\"}} {}", h.count);
        }
        out += &head(
            "lwc_rollback_duration_seconds",
            "histogram",
            "Undoing what an invocation of a function did, after the answer.",
        );
        for (way, h) in &f.rollbacks {
            let labels = format!("way=\"{way}\"");
            h.render(&mut out, "lwc_rollback_duration_seconds", &labels);
        }
        out += &head(
            "lwc_rollback_pages",
            "histogram",
            "Pages that a rollback in place undid.",
        );
        for (labels, h) in &f.pages {
            h.render(&mut out, "lwc_rollback_pages", labels);
        }
        out += &head(
            "lwc_rollback_info",
            "gauge",
            "How contexts are rolled back: 1.",
        );
        if let Some(mechanism) = f.mechanism {
            let _ = writeln!(out, "lwc_rollback_info{{mechanism=\"{mechanism}\"}} 1");
        }
        let (contexts, bytes) = f.held();
        for (name, kind, help, value) in [
            (
                "lwc_switches_total",
                "counter",
                "Switches from a worker's root to a function's context and back.",
                f.switches,
            ),
            (
                "lwc_copies_total",
                "counter",
                "Contexts made as copies of a snapshot.",
                f.copies,
            ),
            (
                "lwc_contexts",
                "gauge",
                "Functions' contexts that live.",
                contexts,
            ),
            (
                "lwc_contexts_private_bytes",
                "gauge",
                "Memory that is these contexts' alone.",
                bytes,
            ),
        ] {
            out += &head(name, kind, help);
            let _ = writeln!(out, "{name} {value}");
        }
        out += &head("http_requests_total", "counter", "Responses by status.");
        for (code, n) in &f.requests {
            let _ = writeln!(out, "http_requests_total{{code=\"{code}\"}} {n}");
        }
        out += &head(
            "lwc_worker_restarts_total",
            "counter",
            "Worker processes that were replaced.",
        );
        let _ = writeln!(out, "lwc_worker_restarts_total {}", f.restarts);
        out += &head(
            "lwc_reloads_total",
            "counter",
            "Readings of the chain file after the first.",
        );
        for (result, n) in &f.reloads {
            let _ = writeln!(out, "lwc_reloads_total{{result=\"{result}\"}} {n}");
        }
        out += &head(
            "lwc_nats_work_total",
            "counter",
            "Deliveries from a JetStream stream by what became of them.",
        );
        for (result, n) in &f.work {
            let _ = writeln!(out, "lwc_nats_work_total{{result=\"{result}\"}} {n}");
        }
        out += &head(
            "lwc_queue_length",
            "gauge",
            "Requests that wait for a worker.",
        );
        for (chain, n) in &now.queues {
            let _ = writeln!(out, "lwc_queue_length{{chain=\"{chain}\"}} {n}");
        }
        out += &head(
            "lwc_requests_in_flight",
            "gauge",
            "Requests not yet answered.",
        );
        let _ = writeln!(out, "lwc_requests_in_flight {}", now.in_flight);
        out += &head(
            "lwc_workers",
            "gauge",
            "Worker processes that are ready or at work.",
        );
        let _ = writeln!(out, "lwc_workers {}", now.workers);
        out += &head("lwc_workers_busy", "gauge", "Worker processes at work.");
        let _ = writeln!(out, "lwc_workers_busy {}", now.busy);
        out += &head(
            "lwc_circuit_open",
            "gauge",
            "1 for a chain that is left alone because it crashed again and again.",
        );
        for (chain, open) in &now.circuits {
            let open = u8::from(*open);
            let _ = writeln!(out, "lwc_circuit_open{{chain=\"{chain}\"}} {open}");
        }
        out += &head("lwc_backend_info", "gauge", "How contexts are made: 1.");
        let _ = writeln!(out, "lwc_backend_info{{backend=\"{}\"}} 1", now.backend);
        out += &head("lwc_draining", "gauge", "1 while shutting down.");
        let _ = writeln!(out, "lwc_draining {}", u8::from(now.draining));
        out
    }
}

#[cfg(test)]
mod tests {
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
        m.know(&id("c"), &[FunctionName::new("f").unwrap()], false);
        m.know(&id("far"), &[], true);
        m.invoked(&id("c"), None, 0.003);
        m.invoked(&id("c"), Some(ProblemKind::Crash), 99.0);
        m.invoked(&id("cc"), Some(ProblemKind::Crash), 99.0);
        assert_eq!(m.lock().answered(&id("c")), (2, 1));
        let figures = |contexts, private| WorkerFigures {
            contexts,
            private,
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
            m.rolled_back(&id("c"), 1, &f, &rollback(way, took, pages));
        }
        m.rolls_back_by(Mechanism::Userfaultfd);
        m.worker_reported(1, &figures(4, Some(4096)));
        m.worker_reported(2, &figures(9, Some(1)));
        m.worker_reported(1, &figures(7, None));
        m.gone(2);
        let text = m.render(&Now {
            queues: vec![(id("c"), 2)],
            in_flight: 0,
            workers: 1,
            busy: 0,
            circuits: [(id("c"), false), (id("d"), true)].into(),
            draining: false,
            backend: "process".into(),
        });
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
            "lwc_rollbacks_total{way=\"in-place\"} 2",
            "lwc_rollbacks_total{way=\"new-copy\"} 1",
            "lwc_rollback_duration_seconds_bucket{way=\"in-place\",le=\"0.000005\"} 0",
            "lwc_rollback_duration_seconds_bucket{way=\"in-place\",le=\"0.00001\"} 1",
            "lwc_rollback_duration_seconds_bucket{way=\"in-place\",le=\"0.00005\"} 2",
            "lwc_rollback_duration_seconds_count{way=\"in-place\"} 2",
            "lwc_rollback_duration_seconds_bucket{way=\"new-copy\",le=\"0.001\"} 1",
            "lwc_rollback_pages_bucket{chain=\"c\",step=\"1\",function=\"f\",le=\"0\"} 1",
            "lwc_rollback_pages_bucket{chain=\"c\",step=\"1\",function=\"f\",le=\"10\"} 2",
            "lwc_rollback_pages_sum{chain=\"c\",step=\"1\",function=\"f\"} 4",
            "lwc_rollback_pages_count{chain=\"c\",step=\"1\",function=\"f\"} 2",
            "lwc_rollback_info{mechanism=\"userfaultfd\"} 1",
            "lwc_contexts 7",
            "lwc_contexts_private_bytes 4096",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
