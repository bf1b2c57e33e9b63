//! The gateway: HTTP and NATS on one side, worker processes on the other. It holds no
//! context.
//!
//! ```text
//!  HTTP ──▶ http/ ───┐
//!                    ├──▶ invocation.rs ──▶ route.rs ──▶ job.rs ──▶ queue.rs ──▶ generation.rs
//!  NATS ──▶ nats.rs, ┘    a request,        its parts    a job,     one queue    one task
//!           jetstream.rs  its end             │          its calls  per chain    per worker
//!                                             ▼            │                        │
//!  others ◀── http/client.rs, nats.rs ◀── elsewhere.rs ◀───┘                        │
//!                                                                                   │
//!                             worker (its contexts) ◀══ one socket ══ worker_process.rs
//! ```
//!
//! The core, from `invocation.rs` on, knows no protocol: who brings a request puts it into
//! our words, and tells the caller its end, an answer or a `Problem` (`problem.rs`), in his
//! own. What HTTP and NATS have in common, headers of the same names, is `message.rs`; the
//! document and the status of a problem are `document.rs`.
//!
//! A generation (`generation.rs`) serves one reading of the chain file. Reloading
//! starts another; the old one serves what it has taken and ends.

// A cause that is new is met wherever causes are told apart.
#![warn(clippy::wildcard_enum_match_arm)]
// What NATS, OpenTelemetry and TLS alone use is dead without them. With all features,
// nothing may be.
#![cfg_attr(
    not(all(feature = "nats", feature = "otlp", feature = "tls")),
    allow(dead_code)
)]

mod budget;
mod circuit;
mod descriptors;
mod document;
mod elsewhere;
mod event;
mod generation;
mod headers;
mod http;
mod invocation;
#[cfg(feature = "nats")]
mod jetstream;
mod job;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the system's errors are many"
)]
mod listener;
mod message;
mod metrics;
#[cfg(feature = "nats")]
mod nats;
#[cfg(not(feature = "nats"))]
#[path = "without_nats.rs"]
mod nats;
mod notes;
mod order;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "without_otlp.rs"]
mod otlp;
mod page;
mod problem;
mod processor;
mod queue;
mod route;
mod server;
mod threads;
mod timed_stream;
#[cfg(feature = "tls")]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "others' enums may grow, and say so"
)]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
mod tls;
mod told;
mod trace;
mod watch;
mod worker_process;

pub use listener::{Given, Listen, Place};
pub use notes::Notes;
pub use server::{serve, serve_noting};

use crate::build::{Built, Stop};
use crate::chain_file::{Chain, ChainFile, ChainId, FunctionName, HeaderPattern, Isolation};
use budget::Budgets;
use circuit::Circuits;
use generation::{Generation, Lease};
use message::ChainInput;
use metrics::{Metrics, Now};
use otlp::Spans;
use problem::{Problem, ProblemKind};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;
use watch::{Before, Watch};

/// How to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// The chain file, or the folder of a bundle.
    pub file: PathBuf,
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// Callers speak TLS at addresses; not at socket files, which nobody overhears.
    pub tls: Option<TlsOptions>,
    /// Where what is for operators is served instead; nowhere: there too.
    pub admin: Vec<Listen>,
    /// By which names else operators call this machine, in lower case; `*`: by any.
    pub admin_hosts: Vec<String>,
    /// The chain or function that all paths lead to; `None`: each has its own.
    pub target: Option<Target>,
    /// How many worker processes in each group of functions.
    pub workers: usize,
    /// So many may there be, in each group, while requests wait and none is free.
    pub workers_max: usize,
    /// How long one of those that were added may have nothing to do.
    pub workers_idle: Duration,
    /// Whether each thread runs on one processor, and the workers that it has with it,
    /// where contexts are processes.
    pub pin: bool,
    /// How many requests may wait for a worker, per chain.
    pub queue: usize,
    /// How long a request may take; a client may ask for less.
    pub timeout: Duration,
    /// How long a head, or a stuck write, may take.
    pub header_timeout: Duration,
    /// How long requests may go on after SIGTERM.
    pub drain: Duration,
    /// How many connections at once.
    pub connections: usize,
    /// How many of them from one address.
    pub address_connections: usize,
    /// How many requests at once from one address.
    pub address_requests: usize,
    /// Bytes of all requests' bodies at once.
    pub body_bytes: u64,
    /// Bytes of a request's head.
    pub head_bytes: u32,
    /// How long a connection of HTTP/2 may be without a request; nothing of an answer may
    /// be taken for twice as long.
    pub idle_timeout: Duration,
    /// So many crashes of a chain in a row open its circuit; 0: none does.
    pub circuit: u32,
    /// How long it stays open.
    pub circuit_pause: Duration,
    /// Whether functions are served outside their chains too.
    pub functions: bool,
    /// Whether a changed file is read again without a signal.
    pub watch: bool,
    /// Base URL of an OpenTelemetry collector.
    pub otlp: Option<String>,
    /// Other machines.
    pub nats: Option<NatsOptions>,
    /// Options before `worker` on a worker's command line.
    pub worker_options: Vec<String>,
}

/// By whose name to speak TLS.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// The server's certificate and those that lead to its authority, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Where and as whom to join.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// The server, such as `nats://127.0.0.1:4222`.
    pub url: String,
    /// A credentials file.
    pub credentials: Option<PathBuf>,
    /// The queue group.
    pub queue: String,
    /// What subjects begin with: `PREFIX.chains.NAME`.
    pub prefix: String,
    /// The JetStream stream that work is taken from as well.
    pub stream: Option<String>,
    /// What the subjects begin with at which clients wait for answers: `_INBOX`.
    pub inboxes: Vec<String>,
}

/// What is served alone, as the Functions Framework contract has it.
#[derive(Debug, Clone)]
pub struct Target {
    /// A chain's name or a function's.
    pub name: String,
    /// It takes CloudEvents, though its code may not say so.
    pub events: bool,
}

/// Reads and builds the chain file again; an error is for people. Another thread may end
/// it by the [`Stop`]. What is passed last is called once the file is read, before
/// anything that it names is.
pub type Loader = dyn Fn(
        &Stop,
        &mut dyn FnMut(&ChainFile),
    ) -> Result<(ChainFile, BTreeMap<FunctionName, Built>), String>
    + Send
    + Sync;

/// A chain file that has been read, what its functions are built to, and the state of its
/// files from before they were read.
pub struct Loaded {
    file: ChainFile,
    built: BTreeMap<FunctionName, Built>,
    watch: Watch,
}

impl Loaded {
    /// What `load` reads of a path. It is passed what to call once the file is read,
    /// before anything that it names is.
    ///
    /// # Errors
    /// Its own.
    pub fn by<E>(
        path: &Path,
        load: impl FnOnce(
            &mut dyn FnMut(&ChainFile),
        ) -> Result<(ChainFile, BTreeMap<FunctionName, Built>), E>,
    ) -> Result<Self, E> {
        let before = Before::of(path);
        let mut watch = None;
        let (file, built) = load(&mut |file| watch = Some(Watch::over(file, Some(&before))))?;
        // Of a bundle nothing is built.
        let watch = watch.unwrap_or_else(|| Watch::over(&file, Some(&before)));
        Ok(Self { file, built, watch })
    }
}

/// What all requests share.
struct Gateway {
    options: Options,
    generation: RwLock<Arc<Generation>>,
    metrics: Arc<Metrics>,
    spans: Option<Arc<Spans>>,
    nats: Option<nats::Client>,
    circuits: Arc<Circuits>,
    budgets: Arc<Budgets>,
    /// Kept for a developer, and shown to whoever sees the page.
    notes: Option<Arc<Notes>>,
    draining: AtomicBool,
    /// True once nobody waits for requests that are under way any more.
    given_up: tokio::sync::watch::Sender<bool>,
    in_flight: AtomicUsize,
    /// Rung when the last request in flight is answered.
    all_answered: Notify,
}

/// A request that is not yet answered.
struct InFlight(Arc<Gateway>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.all_answered.notify_waiters();
        }
    }
}

impl Gateway {
    fn generation(&self) -> Arc<Generation> {
        // Only assignments happen under the lock.
        Arc::clone(
            &self
                .generation
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn begin_request(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(Arc::clone(self))
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// What this comes to; `None` once what is under way is given up.
    async fn unless_given_up<T>(&self, this: impl Future<Output = T>) -> Option<T> {
        let given_up = async {
            // Its sender is ours.
            let _ = self.given_up.subscribe().wait_for(|g| *g).await;
        };
        tokio::select! {
            biased;
            done = this => Some(done),
            () = given_up => None,
        }
    }

    fn is_ready(&self) -> bool {
        self.generation().is_ready()
    }

    /// What a chain takes; `None` for a chain there is not.
    fn input(&self, chain: &ChainId) -> Option<ChainInput> {
        let generation = self.generation();
        let found = generation.file.chains.get(chain)?;
        Some(ChainInput {
            region: found.region,
            events: generation.take_events.contains(&found.steps[0]),
            any_method: false,
            headers: found.headers.clone().unwrap_or_default(),
        })
    }

    /// The chain that all paths lead to, and what it takes.
    fn target(&self) -> Option<(ChainId, Option<ChainInput>)> {
        let target = self.options.target.as_ref()?;
        let chain = target.chain(&self.generation().file)?;
        let input = self.input(&chain).and_then(|mut input| {
            input.events |= target.events;
            input.any_method = !input.events;
            let said = self.generation().file.chains.get(&chain)?.headers.is_some();
            if !said {
                // Served alone, it is an application, which sees all.
                input.headers = HeaderPattern::parse("*").into_iter().collect();
            }
            Some(input)
        });
        Some((chain, input))
    }

    fn steps(&self, chain: &ChainId) -> Vec<FunctionName> {
        let generation = self.generation();
        let chain = generation.file.chains.get(chain);
        chain.map(|c| c.steps.clone()).unwrap_or_default()
    }

    /// The current generation, which serves the request to its end.
    fn lease(&self) -> Result<Lease, Problem> {
        loop {
            let generation = self.generation();
            match Lease::of(&generation) {
                Some(lease) => return Ok(lease),
                // It ended between the look and this.
                None if !Arc::ptr_eq(&generation, &self.generation()) => {}
                None => {
                    let p = Problem::new(ProblemKind::Draining, "this server is shutting down");
                    return Err(p.retry(5));
                }
            }
        }
    }

    fn now(&self) -> Now {
        let generation = self.generation();
        let chains = generation.file.chains.keys().map(|c| (c.clone(), false));
        let mut circuits: BTreeMap<ChainId, bool> = chains.collect();
        circuits.extend(self.circuits.open().into_iter().map(|c| (c, true)));
        Now {
            queues: generation.queues.lengths(),
            in_flight: self.in_flight.load(Ordering::Acquire),
            workers: generation.alive(),
            busy: generation.busy(),
            circuits,
            draining: self.is_draining(),
            body_bytes: self.budgets.body_bytes(),
            connections: self.budgets.connections(),
            refused: self.budgets.all_refused().collect(),
            backend: lwc::backend().map_or_else(|e| e.to_string(), |b| b.to_string()),
        }
    }
}

impl Target {
    /// The name of its chain; `None` of what cannot be one.
    fn chain(&self, file: &ChainFile) -> Option<ChainId> {
        if file.chains.contains_key(self.name.as_str()) {
            return ChainId::named(&self.name).ok();
        }
        let function = FunctionName::new(&self.name).ok()?;
        Some(ChainId::of_function(&function))
    }

    /// Whether a file has it; says what is there instead.
    fn check(&self, file: &ChainFile) -> Result<(), String> {
        if file.chains.contains_key(self.name.as_str())
            || file.functions.contains_key(self.name.as_str())
        {
            return Ok(());
        }
        let chains = file.chains.keys().map(ChainId::as_str);
        let names = chains.chain(file.functions.keys().map(FunctionName::as_str));
        Err(format!(
            "the target {:?} is neither a chain nor a function of {}; there are: {}",
            self.name,
            file.path.display(),
            names.collect::<Vec<_>>().join(", ")
        ))
    }
}

/// Adds a chain of one step for each function of a file.
fn add_functions(file: &mut ChainFile) {
    let mut regions: BTreeMap<FunctionName, u64> = BTreeMap::new();
    for (name, chain) in &file.chains {
        for function in file.functions_of(name) {
            let region = regions.entry(function.clone()).or_default();
            *region = chain.region.max(*region);
        }
    }
    for function in file.functions.keys() {
        let region = regions.get(function).copied().unwrap_or(1 << 20);
        let name = ChainId::of_function(function);
        let chain = Chain {
            name: name.clone(),
            steps: vec![function.clone()],
            isolation: Isolation::Invocation,
            region,
            headers: None,
            concurrency: None,
            workflow: false,
            on_error: None,
            called_by: Vec::new(),
        };
        file.chains.insert(name, chain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain_file::parse;

    fn file(text: &str) -> ChainFile {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f.c"), "").unwrap();
        let read = parse(&folder.path().join("chain.toml"), text.to_owned());
        read.unwrap_or_else(|r| panic!("{}", r.render(false))).0
    }

    #[test]
    fn a_function_alone_gets_the_largest_region_it_is_called_with() {
        let mut file = file(
            r#"
[functions]
a = { source = "f.c", calls = ["b"] }
b = { source = "f.c", calls = ["c"] }
c = { source = "f.c" }
d = { source = "f.c" }
[workflows]
a = { entry = "a", region = "64KiB" }
b = { entry = "b", region = "2MiB" }
"#,
        );
        add_functions(&mut file);
        let region = |name: &str| file.chains[name].region;
        let alone = ["a", "b", "c", "d"].map(|f| region(&format!("functions/{f}")));
        assert_eq!(alone, [64 << 10, 2 << 20, 2 << 20, 1 << 20]);
    }

    /// A file is bounded; what is made of it has to be, too.
    #[test]
    fn functions_alone_and_parts_of_chains_are_counted_with_their_calls() {
        let dense: String = (0..23)
            .map(|n| {
                let calls: Vec<String> = (n + 1..23).map(|n| format!("d{n}")).collect();
                format!("[functions.d{n}]\nsource = \"f.c\"\ncalls = {calls:?}\n")
            })
            .collect();
        let callers = |n: usize| -> String {
            (0..n)
                .map(|n| format!("[functions.f{n}]\nsource = \"f.c\"\ncalls = [\"d0\"]\n"))
                .collect()
        };
        let workflow = "[workflows.w]\nentry = \"d0\"\n";
        for (n, too_large) in [(40, false), (70, true)] {
            let mut file = file(&(dense.clone() + &callers(n) + workflow));
            assert!(!file.is_too_large());
            add_functions(&mut file);
            assert_eq!(file.is_too_large(), too_large, "{n}");
        }
        let far = "[functions.far]\nremote = \"far\"\n[functions.near]\nsource = \"f.c\"\ncalls = [\"d1\"]\n";
        let steps = "\"near\", \"far\", ".repeat(20);
        for (n, too_large) in [(3, false), (4, true)] {
            let chains: String = (0..n)
                .map(|n| format!("[chains.c{n}]\nsteps = [{steps}]\n"))
                .collect();
            let file = file(&(dense.clone() + far + &chains));
            assert!(!file.is_too_large());
            let cut = crate::chain_file::cut(&file);
            assert_eq!(cut.files["default"].is_too_large(), too_large, "{n}");
        }
    }
}
