//! What each context can reach, measured by attempts.
//!
//! For every context of a chain, the root among them, and for every region,
//! control page, secret and descriptor: what an actual attempt to read and to
//! write it gave, from inside that context, beside what the chain file grants.

use crate::chain_file::ChainFile;
use crate::life::context::word;
use crate::life::probe::{self, READ, WRITE, what};
use crate::life::{Cause, Failure, Fingerprint, LiveChain};
use lwc::Moment;
use std::ops::Range;
use std::time::Duration;

/// How long one attempt may take: a search of all memory among them.
const PATIENCE: Duration = Duration::from_secs(60);
/// Descriptor numbers tried.
const DESCRIPTORS: u64 = 65_536;

/// One attempt and what was granted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// "root", or step and function.
    pub context: String,
    /// The attempts.
    pub cells: Vec<Cell>,
}

/// The matrix of one chain.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Matrix {
    /// The chain's name.
    pub chain: String,
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

    /// For people.
    pub fn render(&self) -> String {
        use std::fmt::Write;
        let mut out = format!("chain {} ({} backend)\n", self.chain, self.backend);
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
        out.push_str(if self.holds() {
            "every attempt beyond the grants failed\n"
        } else {
            "THE CHAIN FILE GRANTS LESS THAN CAN BE REACHED\n"
        });
        out
    }
}

/// Something that can be reached or not.
enum Resource {
    Memory(Range<usize>),
    Secret(Fingerprint),
    Descriptors,
    Overlay(Range<usize>),
}

/// A resource with its name and who is granted what: the root, each step.
struct Entry {
    name: String,
    resource: Resource,
    root: u64,
    steps: Vec<u64>,
}

/// Makes every attempt on a live chain that was started for an audit.
///
/// # Errors
/// A context that ends under the attempts.
pub fn audit(
    file: &ChainFile,
    live: &mut LiveChain,
    secrets: &[Fingerprint],
) -> Result<Matrix, Failure> {
    let entries = entries(file, live, secrets);
    probe::note_areas();
    let mut rows = vec![Row {
        context: "root".into(),
        cells: entries.iter().map(|e| root_cell(e, live)).collect(),
    }];
    for i in 0..live.steps.len() {
        let mut cells = Vec::new();
        for e in &entries {
            let reached = attempt(live, i, &e.resource).map_err(|cause| Failure {
                chain: live.chain().name.clone(),
                step: i,
                steps: live.steps.len(),
                function: live.steps[i].function.name.clone(),
                cause: Box::new(cause),
                id: "audit".into(),
            })?;
            cells.push(cell(e, reached, e.steps[i]));
        }
        rows.push(Row {
            context: format!("{}:{}", i + 1, live.steps[i].function.name),
            cells,
        });
    }
    Ok(Matrix {
        chain: live.chain().name.clone(),
        backend: lwc::backend().map_or_else(|_| String::new(), |b| b.to_string()),
        rows,
    })
}

/// All there is to reach, with the grants the chain file implies.
fn entries(file: &ChainFile, live: &LiveChain, secrets: &[Fingerprint]) -> Vec<Entry> {
    let steps = live.steps.len();
    let grant = |f: &dyn Fn(usize) -> u64| (0..steps).map(f).collect::<Vec<u64>>();
    let mut out = Vec::new();
    for (n, range) in live.region_addresses.iter().enumerate() {
        out.push(Entry {
            name: format!("region {n}"),
            resource: Resource::Memory(range.clone()),
            root: match n {
                0 => READ | WRITE,
                n if n == steps => READ,
                _ => 0,
            },
            steps: grant(&|i| {
                let reads = if i == n { READ } else { 0 };
                let writes = if i + 1 == n { READ | WRITE } else { 0 };
                reads | writes
            }),
        });
    }
    for (n, step) in live.steps.iter().enumerate() {
        out.push(Entry {
            name: format!("control {}", n + 1),
            resource: Resource::Memory(step.control.region().range()),
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
                let own = file.functions.get(&live.steps[i].function.name);
                if own.is_some_and(|f| f.name == s.function) {
                    READ
                } else {
                    0
                }
            }),
        });
    }
    out.push(Entry {
        name: "descriptors".into(),
        resource: Resource::Descriptors,
        root: u64::MAX,
        steps: grant(&|_| 0),
    });
    // By asking: the root its functions, each function whomever it can name:
    // the root, its snapshot, its neighbours.
    for (n, range) in live.region_addresses.iter().enumerate() {
        out.push(Entry {
            name: format!("overlay region {n}"),
            resource: Resource::Overlay(range.clone()),
            root: 0,
            steps: grant(&|_| 0),
        });
    }
    out
}

fn cell(e: &Entry, reached: u64, granted: u64) -> Cell {
    let counts = matches!(e.resource, Resource::Descriptors);
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

fn root_cell(e: &Entry, live: &LiveChain) -> Cell {
    let reached = match &e.resource {
        Resource::Memory(range) => probe::memory(range.start, range.len()),
        Resource::Secret(s) => u64::from(probe::find(s.hash, s.len)) * READ,
        // Its own are its own.
        Resource::Descriptors => u64::MAX,
        Resource::Overlay(range) => live
            .steps
            .iter()
            .map(|s| probe::overlay(s.snapshot.handle(), range.clone()))
            .fold(0, |a, b| a | b),
    };
    cell(e, reached, e.root)
}

/// One attempt in a step's context.
fn attempt(live: &mut LiveChain, i: usize, resource: &Resource) -> Result<u64, Cause> {
    let args = match resource {
        Resource::Memory(r) => vec![word::PROBE, what::MEMORY, r.start as u64, r.len() as u64],
        Resource::Secret(s) => vec![word::PROBE, what::SECRET, s.hash, s.len as u64],
        Resource::Descriptors => vec![word::PROBE, what::DESCRIPTORS, DESCRIPTORS],
        Resource::Overlay(r) => vec![word::PROBE, what::OVERLAY, r.start as u64, r.len() as u64],
    };
    let copy = live.ready(i)?;
    let reply = live
        .call(i, copy, &args, Moment::now() + PATIENCE)
        .map_err(|cause| match cause {
            // The function's own is for invocations.
            Cause::Timeout(_) => Cause::Timeout(PATIENCE),
            other => other,
        })?;
    match &*reply {
        [word::DONE, found, ..] => Ok(*found),
        _ => Err(Cause::Misbehaved("it does not answer to an audit".into())),
    }
}
