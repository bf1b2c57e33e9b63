//! What each context can reach, measured by attempts.
//!
//! For every context of a chain, the root among them: what actual attempts
//! gave, from inside that context, beside what the chain file grants.
//!
//! * Every region, control page and secret: to read and to write it.
//! * Every other page that a context shares with anybody, the backend's own
//!   among them (process backend): who else of all chains has it, and whether
//!   they can write it.
//! * Descriptors: to use each.
//! * Overlays, and every request that the backend knows: to be served by
//!   each context that this one can name.
//! * The environment: each variable, how many there are, and where the orchestrator's
//!   own once stood.
//! * Signals to other processes, tracing and naming them; files of the system
//!   and what /proc has of other processes: to reach them.

use crate::chain_file::{ChainFile, GroupName, place_from_root};
use crate::life::granted::asked_for;
use crate::life::probe::{self, READ, WRITE, what};
use crate::life::snapshot::word;
use crate::life::start::{files_of, places_of};
use crate::life::{Cause, Failure, Fingerprint, LiveChain};
use lwc::MonotonicTime;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

/// How long one attempt may take: a search of all memory among them.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);
/// Descriptor numbers tried.
const DESCRIPTORS: u64 = 65_536;

/// One attempt and what was granted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cell {
    /// What was tried: "region 1", "secret verify.HMAC_KEY", …
    pub resource: String,
    /// "-", "r", "w" or "rw"; for descriptors a number.
    pub reached: String,
    /// What the chain file grants, in the same words.
    pub granted: String,
    /// Whether no more was reached than granted.
    pub ok: bool,
}

/// A context and all that was tried in it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Row {
    /// "root", or step and function.
    pub context: String,
    /// The attempts.
    pub cells: Vec<Cell>,
}

/// The matrix of one chain.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Matrix {
    /// The chain's name, as the workers have it.
    pub chain: String,
    /// The group whose workers have it.
    pub group: GroupName,
    /// The backend in use.
    pub backend: String,
    /// The contexts.
    pub rows: Vec<Row>,
}

impl Matrix {
    /// Whether nothing reaches more than the chain file grants.
    pub fn holds(&self) -> bool {
        self.rows.iter().flat_map(|r| &r.cells).all(|c| c.ok)
    }

    /// What kinds of resources were tried.
    fn tried(&self) -> String {
        let cells = || self.rows.iter().flat_map(|r| &r.cells);
        let kinds = KINDS.iter().filter(|(name, _)| {
            let mut cells = cells();
            cells.any(|c| c.resource.starts_with(name))
        });
        let kinds: Vec<&str> = kinds.map(|(_, kind)| *kind).collect();
        kinds.join(", ")
    }

    /// For people.
    pub fn render(&self) -> String {
        use std::fmt::Write;
        let group = match self.group == GroupName::default() {
            true => String::new(),
            false => format!(", group {}", self.group),
        };
        let mut out = format!("chain {}{group} ({} backend)\n", self.chain, self.backend);
        let names: Vec<&str> = self
            .rows
            .first()
            .map(|r| r.cells.iter().map(|c| c.resource.as_str()).collect())
            .unwrap_or_default();
        let first = self
            .rows
            .iter()
            .map(|r| r.context.chars().count())
            .chain(names.iter().map(|n| n.chars().count()))
            .max()
            .unwrap_or(0);
        // Resources down, contexts across: chains are shorter than lists of
        // what there is to reach.
        let _ = write!(out, "{:first$}", "");
        for row in &self.rows {
            let _ = write!(out, "  {}", row.context);
        }
        out.push('\n');
        for (i, name) in names.iter().enumerate() {
            let _ = write!(out, "{name:first$}");
            for row in &self.rows {
                let cell = &row.cells[i];
                let mark = if cell.ok { "" } else { "!" };
                let text = format!("{}{mark}", cell.reached);
                let _ = write!(out, "  {text:width$}", width = row.context.chars().count());
            }
            out.push('\n');
        }
        let breaches = self.rows.iter().flat_map(|r| {
            r.cells.iter().filter(|c| !c.ok).map(move |c| {
                format!(
                    "! {} reaches {} ({}), granted: {}\n",
                    r.context, c.resource, c.reached, c.granted
                )
            })
        });
        out.extend(breaches);
        let _ = writeln!(out, "tried: {}", self.tried());
        out.push_str(if self.holds() {
            "every attempt beyond the grants failed\n"
        } else {
            "THE CHAIN FILE GRANTS LESS THAN CAN BE REACHED\n"
        });
        out
    }
}

/// Beginnings of resources' names, and what trying such is called.
const KINDS: [(&str, &str); 20] = [
    ("region", "regions"),
    ("arguments", "regions of arguments"),
    ("reply", "regions of replies"),
    ("calls", "calls"),
    ("failure", "regions of failures"),
    ("control", "control pages"),
    ("pages of", "every other page that contexts share"),
    ("secret", "secrets"),
    ("descriptors", "descriptors"),
    ("overlay", "overlays"),
    ("requests", "requests of the backend"),
    ("variable", "variables of the environment"),
    ("environment", "the environment"),
    ("other processes", "signals to other processes"),
    ("file ", "files that are granted"),
    ("scratch", "files of their own"),
    ("connection ", "connections that are granted"),
    ("connections", "other connections"),
    ("threads", "threads"),
    ("files", "files"),
];

/// Something that can be reached or not.
enum Resource {
    /// Addresses, and the party whose own writes show there: a step, or the
    /// root.
    Memory(Range<usize>, Option<usize>),
    Secret(Fingerprint),
    /// A variable of the environment, by the fingerprint of its name.
    Variable(u64),
    Descriptors,
    Overlay(Range<usize>),
    /// Shared pages that are neither regions nor control pages: of a step.
    Pages(usize),
    /// All shared pages of contexts of other chains.
    Others,
    /// A file that somebody is granted, by its number.
    File(usize),
    /// Where somebody may connect to, by its number.
    Connection(usize),
    /// Files of a step's own.
    Scratch,
    /// Calls of functions that a step's may not call, past its own host.
    Calls,
    /// What is counted by an attempt of its own.
    Count(u64),
}

/// A resource with its name and what the root and each step are granted.
struct Entry {
    name: String,
    resource: Resource,
    root: u64,
    steps: Vec<u64>,
}

/// Makes every attempt on live chains that were started for an audit.
///
/// # Errors
/// A context that ends under the attempts.
pub fn audit(
    file: &ChainFile,
    live: &mut [LiveChain],
    secrets: &[Fingerprint],
) -> Result<Vec<Matrix>, Failure> {
    // All contexts are there, and know whom they are to know.
    for chain in live.iter_mut() {
        chain.prepare()?;
    }
    probe::note_areas();
    let mut all = Vec::new();
    for chain in 0..live.len() {
        all.push(Audit { live, chain }.matrix(file, secrets)?);
    }
    Ok(all)
}

/// The attempts on one of all chains.
struct Audit<'a> {
    live: &'a mut [LiveChain],
    chain: usize,
}

/// A mark that no page has by accident.
fn tag(chain: usize, step: usize) -> u64 {
    0x6c77_632d_6175_6474 ^ ((chain as u64) << 48) ^ ((step as u64) << 56)
}

impl Audit<'_> {
    fn chain(&mut self) -> &mut LiveChain {
        &mut self.live[self.chain]
    }

    fn matrix(&mut self, file: &ChainFile, secrets: &[Fingerprint]) -> Result<Matrix, Failure> {
        let entries = entries(file, &self.live[self.chain], secrets, self.live.len() > 1);
        let steps = self.chain().contexts.steps.len();
        let mut cells: Vec<Vec<Cell>> = vec![Vec::new(); steps + 1];
        for e in &entries {
            let reached = self.reached(&e.resource)?;
            for (column, &reached) in reached.iter().enumerate() {
                let granted = match column.checked_sub(1) {
                    None => e.root,
                    Some(i) => e.steps[i],
                };
                let reached = match &e.resource {
                    Resource::Memory(range, writer) if reached & !granted != 0 => {
                        self.confirm(range, *writer, column, reached)?
                    }
                    _ => reached,
                };
                cells[column].push(cell(e, reached, granted));
            }
        }
        let chain = self.chain();
        let names = chain
            .contexts
            .steps
            .iter()
            .enumerate()
            .map(|(i, s)| format!("{}:{}", i + 1, s.function.name));
        let rows = std::iter::once("root".to_owned())
            .chain(names)
            .zip(cells)
            .map(|(context, cells)| Row { context, cells })
            .collect();
        Ok(Matrix {
            chain: chain.chain().name.to_string(),
            group: chain.contexts.steps[0].function.group.clone(),
            backend: lwc::backend().map_or_else(|_| String::new(), |b| b.to_string()),
            rows,
        })
    }

    /// What the root and each step reach.
    fn reached(&mut self, resource: &Resource) -> Result<Vec<u64>, Failure> {
        let (this, steps) = (self.chain, self.chain().contexts.steps.len());
        match resource {
            Resource::Pages(owner) => {
                let chain = self.chain();
                let control = chain.contexts.steps[*owner].control.region().range();
                let regions = own_regions(&chain.contexts, *owner);
                for range in regions.into_iter().chain([control]) {
                    let range = [range.start as u64, range.len() as u64];
                    let args = [word::PROBE, what::LEAVE, range[0], range[1]];
                    self.step(this, *owner, &args)?;
                }
                self.step(
                    this,
                    *owner,
                    &[word::PROBE, what::MARK, tag(this, *owner), 0],
                )?;
                let found = self.seek(tag(this, *owner));
                self.step(this, *owner, &[word::PROBE, what::UNMARK])?;
                found
            }
            Resource::Others => {
                let others: Vec<(usize, usize)> = (0..self.live.len())
                    .filter(|&c| c != this)
                    .flat_map(|c| (0..self.live[c].contexts.steps.len()).map(move |i| (c, i)))
                    .collect();
                for &(c, i) in &others {
                    self.step(c, i, &[word::PROBE, what::MARK, tag(this, 255), 0])?;
                }
                let found = self.seek(tag(this, 255));
                for &(c, i) in &others {
                    self.step(c, i, &[word::PROBE, what::UNMARK])?;
                }
                found
            }
            Resource::Calls => {
                let mut all = vec![u64::MAX];
                for i in 0..steps {
                    let contexts = &mut self.chain().contexts;
                    let served = contexts.calls_beyond(i, MonotonicTime::now() + PROBE_TIMEOUT);
                    all.push(served.map_err(|cause| contexts.failure(i, cause, "audit"))?);
                }
                Ok(all)
            }
            _ => {
                let mut all = vec![self.root(resource)];
                for i in 0..steps {
                    all.push(self.step(this, i, &words(resource))?);
                }
                Ok(all)
            }
        }
    }

    /// The contexts of this chain that have a page with a mark.
    fn seek(&mut self, tag: u64) -> Result<Vec<u64>, Failure> {
        let mut found = vec![probe::seek(tag)];
        for i in 0..self.chain().contexts.steps.len() {
            let args = [word::PROBE, what::SEEK, tag];
            found.push(self.step(self.chain, i, &args)?);
        }
        Ok(found)
    }

    /// Addresses may have been mapped anew: whether a write by a context that is
    /// granted them shows there. Where pages cannot be marked it is believed.
    fn confirm(
        &mut self,
        range: &Range<usize>,
        writer: Option<usize>,
        column: usize,
        reached: u64,
    ) -> Result<u64, Failure> {
        let (this, tag) = (self.chain, tag(self.chain, 254));
        let ours = range.start as u64;
        let args = [word::PROBE, what::MARK, tag, 1, ours, range.len() as u64];
        let marked = match writer {
            None => probe::mark(tag, true, std::slice::from_ref(range)),
            Some(i) => self.step(this, i, &args)?,
        };
        let found = match column.checked_sub(1) {
            None => probe::seek(tag),
            Some(i) => self.step(this, i, &[word::PROBE, what::SEEK, tag])?,
        };
        match writer {
            None => probe::unmark(),
            Some(i) => drop(self.step(this, i, &[word::PROBE, what::UNMARK])?),
        }
        Ok(if marked == 0 { reached } else { found })
    }

    fn root(&self, resource: &Resource) -> u64 {
        match resource {
            Resource::Memory(range, _) => probe::memory(range.start, range.len()),
            Resource::Secret(s) => u64::from(probe::find(s.hash, s.len)) * READ,
            Resource::Variable(name) => probe::variable(*name),
            Resource::Overlay(range) => self.live[self.chain]
                .contexts
                .steps
                .iter()
                .map(|s| probe::overlay(s.snapshot.handle(), range.clone()))
                .fold(0, |a, b| a | b),
            Resource::Count(what::ENVIRONMENT) => probe::environment(),
            // Its own are its own.
            _ => u64::MAX,
        }
    }

    /// One attempt in the context of a step of some chain.
    fn step(&mut self, chain: usize, i: usize, args: &[u64]) -> Result<u64, Failure> {
        let live = &mut self.live[chain];
        attempt(live, i, args).map_err(|cause| live.contexts.failure(i, cause, "audit"))
    }
}

/// All there is to reach, with the grants the chain file implies.
fn entries(
    file: &ChainFile,
    live: &LiveChain,
    secrets: &[Fingerprint],
    has_others: bool,
) -> Vec<Entry> {
    let nodes = live.contexts.steps.len();
    let steps = live.chain().steps.len();
    let tree = &live.contexts.tree;
    let grant = |f: &dyn Fn(usize) -> u64| (0..nodes).map(f).collect::<Vec<u64>>();
    let mut out = Vec::new();
    for (n, range) in live.contexts.region_addresses.iter().enumerate() {
        out.push(Entry {
            name: format!("region {n}"),
            resource: Resource::Memory(range.clone(), n.checked_sub(1)),
            root: match n {
                0 => READ | WRITE,
                n if n == steps || live.contexts.early.contains_key(&(n - 1)) => READ,
                _ => 0,
            },
            steps: grant(&|i| {
                let reads = if i == n { READ } else { 0 };
                let writes = if i + 1 == n { READ | WRITE } else { 0 };
                if i < steps { reads | writes } else { 0 }
            }),
        });
    }
    // Two regions for each function that may call another: the root has neither,
    // unless that one runs elsewhere.
    for (edge, addresses) in tree.edges.iter().zip(&live.contexts.edge_addresses) {
        let name = |node: usize| &live.contexts.function_of(node).name;
        let (caller, callee) = (edge.caller, edge.callee);
        let away = callee >= nodes;
        for (what, range, writer, reader) in [
            ("arguments", &addresses[0], caller, callee),
            ("reply", &addresses[1], callee, caller),
        ] {
            out.push(Entry {
                name: format!("{what} {}>{}", name(caller), name(callee)),
                resource: Resource::Memory(range.clone(), (writer < nodes).then_some(writer)),
                root: match what {
                    _ if !away => 0,
                    "arguments" => READ,
                    _ => READ | WRITE,
                },
                steps: grant(&|i| match i {
                    i if i == writer => READ | WRITE,
                    i if i == reader => READ,
                    _ => 0,
                }),
            });
        }
    }
    // What the function of `on_error` is told, and what it answers.
    if let (Some(node), Some(on_error)) = (tree.on_error, &live.contexts.on_error) {
        let only = |rights: u64| grant(&|i| if i == node { rights } else { 0 });
        out.push(Entry {
            name: "failure".into(),
            resource: Resource::Memory(on_error.input.range(), None),
            root: READ | WRITE,
            steps: only(READ),
        });
        out.push(Entry {
            name: "failure answer".into(),
            resource: Resource::Memory(on_error.output.range(), Some(node)),
            root: READ,
            steps: only(READ | WRITE),
        });
    }
    for (n, step) in live.contexts.steps.iter().enumerate() {
        out.push(Entry {
            name: format!("control {}", n + 1),
            resource: Resource::Memory(step.control.region().range(), None),
            root: READ | WRITE,
            steps: grant(&|i| if i == n { READ | WRITE } else { 0 }),
        });
    }
    for s in secrets {
        out.push(Entry {
            name: format!("secret {}.{}", s.function, s.name),
            resource: Resource::Secret(s.clone()),
            root: 0,
            steps: grant(&|i| {
                let own = file.functions.get(&live.contexts.steps[i].function.name);
                if own.is_some_and(|f| f.name == s.function) {
                    READ
                } else {
                    0
                }
            }),
        });
    }
    let env = |i: usize| &live.contexts.steps[i].function.env;
    let names: BTreeSet<&str> = (0..nodes)
        .flat_map(|i| env(i).iter().map(|v| v.name.as_str()))
        .collect();
    for name in names {
        out.push(Entry {
            name: format!("variable {name}"),
            resource: Resource::Variable(probe::fingerprint(name.as_bytes())),
            root: 0,
            steps: grant(&|i| u64::from(env(i).iter().any(|v| v.name == name)) * READ),
        });
    }
    for (number, path) in files_of(file, tree).iter().enumerate() {
        let granted = |i: usize| {
            let own = &live.contexts.steps[i].function.files;
            own.iter().any(|g| asked_for(g) == path.to_bytes())
        };
        let said = tree
            .nodes
            .iter()
            .flat_map(|n| &file.functions[&n.function].files);
        let said = said.filter(|g| asked_for(g) == path.to_bytes());
        out.push(Entry {
            name: format!(
                "file {}",
                said.map(|g| g.said.as_str()).next().unwrap_or("")
            ),
            resource: Resource::File(number),
            root: u64::MAX,
            steps: grant(&|i| u64::from(granted(i)) * READ),
        });
    }
    for (number, place) in places_of(file, tree).iter().enumerate() {
        let own = |i: usize| &live.contexts.steps[i].function.connect;
        let granted = |i: usize| own(i).iter().any(|g| place_from_root(&g.to) == *place);
        let said = tree
            .nodes
            .iter()
            .flat_map(|n| &file.functions[&n.function].connect);
        let said = said.filter(|g| place_from_root(&g.to) == *place);
        let mut said = said.map(|g| g.said.as_str());
        out.push(Entry {
            name: format!("connection {}", said.next().unwrap_or("")),
            resource: Resource::Connection(number),
            root: u64::MAX,
            steps: grant(&|i| u64::from(granted(i)) * (READ | WRITE)),
        });
    }
    let scratch = |i: usize| live.contexts.steps[i].function.scratch > 0;
    if (0..nodes).any(scratch) {
        out.push(Entry {
            name: "scratch".into(),
            resource: Resource::Scratch,
            root: u64::MAX,
            steps: grant(&|i| u64::from(scratch(i)) * (READ | WRITE)),
        });
    }
    out.push(Entry {
        name: "descriptors".into(),
        resource: Resource::Descriptors,
        root: u64::MAX,
        steps: grant(&|_| 0),
    });
    // Of the backend: the root has one with each. Where functions hand over to
    // each other, each has one with its neighbours.
    let process = lwc::backend() == Ok(lwc::Backend::Process);
    let handing_over = live.hands_over();
    for (n, step) in live.contexts.steps.iter().enumerate().filter(|_| process) {
        out.push(Entry {
            name: format!("pages of {}:{}", n + 1, step.function.name),
            resource: Resource::Pages(n),
            root: READ | WRITE,
            steps: grant(&|i| {
                let neighbours = i.max(n) < steps && i.abs_diff(n) == 1;
                if i == n || handing_over && neighbours {
                    READ | WRITE
                } else {
                    0
                }
            }),
        });
    }
    if process && has_others {
        out.push(Entry {
            name: "pages of other chains".into(),
            resource: Resource::Others,
            root: READ | WRITE,
            steps: grant(&|_| 0),
        });
    }
    // By asking: the root its functions, each function whomever it can name:
    // the root, its snapshot, its neighbours.
    let regions = live.contexts.region_addresses.iter().enumerate();
    let regions = regions.map(|(n, range)| (format!("overlay region {n}"), range));
    let edges = tree.edges.iter().zip(&live.contexts.edge_addresses);
    let edges = edges.flat_map(|(edge, [arguments, reply])| {
        let name = |node: usize| &live.contexts.function_of(node).name;
        let edge = format!("{}>{}", name(edge.caller), name(edge.callee));
        [
            (format!("overlay arguments {edge}"), arguments),
            (format!("overlay reply {edge}"), reply),
        ]
    });
    let others = regions.chain(edges);
    let others = others.map(|(name, range)| (name, range.clone()));
    let failures = live.contexts.on_error.iter().flat_map(|e| {
        [
            ("overlay failure".to_owned(), e.input.range()),
            ("overlay failure answer".to_owned(), e.output.range()),
        ]
    });
    for (name, range) in others.chain(failures) {
        out.push(Entry {
            name,
            resource: Resource::Overlay(range),
            root: 0,
            steps: grant(&|_| 0),
        });
    }
    // Those of other groups among them.
    if !tree.edges.is_empty() || !live.chain().called_by.is_empty() {
        out.push(Entry {
            name: "calls beyond".into(),
            resource: Resource::Calls,
            root: u64::MAX,
            steps: grant(&|_| 0),
        });
    }
    // Where contexts are one process they make no requests, and one that
    // sends a signal ends.
    let counts = [
        ("requests served", what::REQUESTS, u64::MAX, process),
        ("environment", what::ENVIRONMENT, 0, true),
        ("other processes", what::SIGNALS, u64::MAX, process),
        ("files", what::FILES, u64::MAX, true),
        ("connections", what::CONNECTIONS, u64::MAX, true),
        ("threads", what::THREADS, u64::MAX, process),
    ];
    let threads = |i: usize| live.contexts.steps[i].function.threads;
    for (name, count, root, _) in counts.into_iter().filter(|c| c.3) {
        out.push(Entry {
            name: name.into(),
            resource: Resource::Count(count),
            root,
            steps: grant(&|i| match count {
                what::ENVIRONMENT => env(i).len() as u64,
                what::THREADS => threads(i).into(),
                _ => 0,
            }),
        });
    }
    out
}

fn cell(e: &Entry, reached: u64, granted: u64) -> Cell {
    let counts = matches!(
        e.resource,
        Resource::Descriptors | Resource::Calls | Resource::Count(_)
    );
    let show = |bits: u64| match bits {
        u64::MAX => "own".to_owned(),
        n if counts => n.to_string(),
        0 => "-".to_owned(),
        READ => "r".to_owned(),
        WRITE => "w".to_owned(),
        _ => "rw".to_owned(),
    };
    let ok = if counts {
        reached <= granted
    } else {
        reached & !granted == 0
    };
    Cell {
        resource: e.name.clone(),
        reached: show(reached),
        granted: show(granted),
        ok,
    }
}

/// The regions that a step's context has, by its grants.
fn own_regions(contexts: &crate::life::chain::Contexts, owner: usize) -> Vec<Range<usize>> {
    let steps = contexts.region_addresses.len() - 1;
    let of_steps = contexts.region_addresses.iter().enumerate();
    let of_steps = of_steps.filter(|(n, _)| owner < steps && (*n == owner || *n == owner + 1));
    let edges = contexts.tree.edges.iter().zip(&contexts.edge_addresses);
    let edges = edges.filter(|(e, _)| e.caller == owner || e.callee == owner);
    let failures = contexts.on_error.iter();
    let failures = failures.filter(|_| contexts.tree.on_error == Some(owner));
    of_steps
        .map(|(_, range)| range.clone())
        .chain(failures.flat_map(|e| [e.input.range(), e.output.range()]))
        .chain(edges.flat_map(|(_, both)| both.clone()))
        .collect()
}

/// What a step's context is told to try.
fn words(resource: &Resource) -> Vec<u64> {
    match resource {
        Resource::Memory(r, _) => vec![word::PROBE, what::MEMORY, r.start as u64, r.len() as u64],
        Resource::Secret(s) => vec![word::PROBE, what::SECRET, s.hash, s.len as u64],
        Resource::Variable(name) => vec![word::PROBE, what::VARIABLE, *name],
        Resource::Overlay(r) => vec![word::PROBE, what::OVERLAY, r.start as u64, r.len() as u64],
        Resource::Count(what) => vec![word::PROBE, *what],
        Resource::Scratch => vec![word::PROBE, what::SCRATCH],
        Resource::Connection(number) => vec![word::PROBE, what::CONNECTION, *number as u64],
        Resource::File(number) => vec![word::PROBE, what::FILE, *number as u64],
        // Pages are found by marks; calls have a way of their own.
        Resource::Descriptors | Resource::Pages(_) | Resource::Others | Resource::Calls => {
            vec![word::PROBE, what::DESCRIPTORS, DESCRIPTORS]
        }
    }
}

/// One attempt in a step's context.
fn attempt(live: &mut LiveChain, i: usize, args: &[u64]) -> Result<u64, Cause> {
    let copy = live.contexts.ready(i)?;
    let deadline = MonotonicTime::now() + PROBE_TIMEOUT;
    let mut words = args.to_vec();
    loop {
        let reply = live.contexts.call(i, copy, &words, deadline);
        let reply = reply.map_err(|cause| match cause {
            // The function's own is for invocations.
            Cause::Timeout(_) => Cause::Timeout(PROBE_TIMEOUT),
            other => other,
        })?;
        match &*reply {
            [word::DONE, found, ..] => return Ok(*found),
            // It has no more by that than in an invocation.
            [word::ASK, how, len] if MonotonicTime::now() < deadline => {
                let answer = live.contexts.asked(i, *how, *len);
                words = vec![word::RETURN, 0, answer.word()];
            }
            _ => return Err(Cause::Misbehaved("it does not answer to an audit".into())),
        }
    }
}
