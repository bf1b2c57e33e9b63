//! `run`: a chain on inputs.

use super::tree::{Drawing, Line};
use super::{complain, exit, prepare};
use crate::chain_file::ChainId;
use crate::life::{
    self, Hop, LiveChain, Mechanism, Probes, Rollback, RollbackWay, StartError, Variables,
};
use crate::printable::printable_json;
use clap::Args;
use lwc::Region;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use unicode_width::UnicodeWidthStr;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The chain file, or the folder of a bundle
    file: PathBuf,
    /// The chain; may be left out where there is one alone
    chain: Option<String>,
    /// An input: a file, or - for stdin. Several run one after the other
    #[arg(long, short, required = true, value_name = "FILE|-")]
    input: Vec<PathBuf>,
    /// The input's content type; guessed from its name if left out
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Run the inputs this often
    #[arg(long, default_value_t = 1, value_name = "N")]
    repeat: u32,
    /// A table of what each step took, and the tree of calls with what they took, on stderr
    #[arg(long)]
    timings: bool,
    /// Failures as JSON, one a line, on stderr
    #[arg(long)]
    json: bool,
}

/// What all steps before the first invocation took.
struct Before {
    build: Duration,
    erase: Duration,
}

/// The calls of an edge in all invocations.
#[derive(Default)]
struct EdgeTotals {
    calls: u64,
    failed: u64,
    run: Duration,
    ready: Duration,
}

pub(super) fn run(args: &RunArgs) -> Result<(), u8> {
    let begin = Instant::now();
    let (file, built) = prepare(&args.file)?;
    let build = begin.elapsed();
    let names: Vec<&ChainId> = file.chains.keys().collect();
    let given = args.chain.as_deref();
    let name = match (
        given.map(|n| file.chains.get_key_value(n)),
        names.as_slice(),
    ) {
        (Some(Some((name, _))), _) => name.clone(),
        (None, [only]) => ChainId::clone(only),
        _ => {
            let all = names
                .iter()
                .map(|n| n.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            complain(&match given {
                Some(name) => format!("no chain is called {name:?}; there are: {all}"),
                None => format!("say which chain to run: {all}"),
            });
            return Err(exit::USAGE);
        }
    };
    let functions = file.functions_of(&name).into_iter();
    let functions = functions.map(|f| &file.functions[f]);
    let mut here = functions.filter(|f| f.origin.elsewhere().is_none());
    let group = here.next().map(|f| &f.group);
    if here.any(|f| Some(&f.group) != group) {
        log::info!("all functions of {name:?} are in this process: its groups are not looked at");
    }
    let names = [name];
    let started = Variables::of_environment(&file, &names)
        .map_err(StartError::from)
        .and_then(|variables| life::start(&file, &names, &built, variables, Probes::Refused));
    let mut started = started.map_err(|e| {
        complain(&e);
        exit::START
    })?;
    let erase = started.erase;
    let Some(chain) = started.chains.first_mut() else {
        return Err(exit::START);
    };
    let mut hops: Vec<Vec<Hop>> = Vec::new();
    let mut rollbacks: Vec<Rollback> = Vec::new();
    let mut edges: BTreeMap<usize, EdgeTotals> = BTreeMap::new();
    let mut failed = false;
    for _ in 0..args.repeat {
        for input in &args.input {
            match one(args, chain, input)? {
                Some(hop) => hops.push(hop),
                None => failed = true,
            }
            for (edge, calls) in chain.edge_calls() {
                let all = edges.entry(edge).or_default();
                all.calls += u64::from(calls.calls);
                all.failed += calls.failures();
                all.run += calls.run;
                all.ready += calls.ready;
            }
            // Else it is done before the next one, and never after the last.
            if args.timings {
                if let Err(failure) = chain.prepare() {
                    complain(&failure);
                    failed = true;
                }
                rollbacks.append(&mut chain.take_rollbacks());
            }
        }
    }
    if args.timings {
        let before = Before { build, erase };
        eprint!("{}", table(chain, &before, &hops, &rollbacks));
        eprint!("{}", calls(chain, &edges));
    }
    if failed { Err(exit::FAILED) } else { Ok(()) }
}

/// One invocation; `None` when a function failed, which was said.
fn one(args: &RunArgs, chain: &mut LiveChain, input: &Path) -> Result<Option<Vec<Hop>>, u8> {
    let stdin = input == Path::new("-");
    let shown = if stdin {
        "stdin".into()
    } else {
        input.display().to_string()
    };
    let read = if stdin {
        fill(chain.input(), std::io::stdin())
    } else {
        std::fs::File::open(input).and_then(|file| fill(chain.input(), file))
    };
    let len = read.map_err(|e| {
        complain(&format!("input {shown}: {e}"));
        exit::USAGE
    })?;
    let kind = args
        .content_type
        .as_deref()
        .unwrap_or_else(|| guess_type(input));
    // From the region itself.
    let write = |chain: &LiveChain, len: usize| {
        chain
            .output()
            .write_to(len, std::io::stdout())
            .map_err(|e| {
                complain(&format!("writing the answer: {e}"));
                exit::FAILED
            })
    };
    match chain.invoke(len, kind) {
        Ok((n, _)) => {
            write(chain, n)?;
            Ok(Some(chain.hops()))
        }
        Err(failure) => {
            if let Some(answer) = &failure.answer {
                write(chain, answer.len)?;
            }
            if args.json {
                eprintln!("{}", printable_json(&failure.to_json().to_string()));
            } else {
                complain(&failure);
            }
            Ok(None)
        }
    }
}

/// Reads into the region itself: an input is nowhere else in this process.
fn fill(region: &Region, file: impl AsFd) -> std::io::Result<usize> {
    let len = region.read_from(0, region.len(), &file)?;
    let mut more = [0];
    if len == region.len() && nix::unistd::read(&file, &mut more)? > 0 {
        return Err(std::io::Error::other(format!(
            "larger than the chain's region of {len} bytes; raise `region`"
        )));
    }
    Ok(len)
}

fn guess_type(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()) {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("json") => "application/json",
        Some("txt") => "text/plain",
        _ => "application/octet-stream",
    }
}

/// Microseconds, for people.
fn us(d: Duration) -> String {
    format!("{:.1}", d.as_secs_f64() * 1e6)
}

fn median<T: Ord + Copy>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut all: Vec<T> = all.collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

fn table(chain: &LiveChain, before: &Before, hops: &[Vec<Hop>], rollbacks: &[Rollback]) -> String {
    let mut out = format!(
        "{:<16} {:>12} {:>12} {:>12} {:>12} {:>12} {:>12} {:>8}\n",
        "microseconds", "create", "initialise", "restrict", "copy", "hop", "roll back", "pages"
    );
    for (i, (name, setup)) in chain.setup_timings().enumerate() {
        let undone = || rollbacks.iter().filter(move |r| r.step == i);
        // Of a new copy nobody knows them, and without rollback there are none.
        let none = || "-".to_owned();
        // Of one that is called there are only calls, below.
        let hop = |f: fn(&Hop) -> Duration| {
            median(hops.iter().filter_map(|h| h.get(i)).map(f)).map_or_else(none, us)
        };
        let _ = writeln!(
            out,
            "{name:<16} {:>12} {:>12} {:>12} {:>12} {:>12} {:>12} {:>8}",
            us(setup.create),
            us(setup.initialise),
            us(setup.restrict),
            hop(|h| h.copy),
            hop(|h| h.run),
            median(undone().map(|r| r.took)).map_or_else(none, us),
            median(undone().filter_map(|r| r.pages)).map_or_else(none, |p| p.to_string()),
        );
    }
    let _ = match chain.mechanism() {
        Mechanism::None => writeln!(out, "no rollback: isolation \"chain\""),
        mechanism => {
            let [in_place, new_copy] =
                RollbackWay::ALL.map(|way| rollbacks.iter().filter(|r| r.way == way).count());
            writeln!(
                out,
                "rollback by {mechanism}: {in_place} in place, {new_copy} by a new copy"
            )
        }
    };
    let backend = lwc::backend().map_or_else(|e| e.to_string(), |b| b.to_string());
    let _ = writeln!(
        out,
        "build {} · erase {} · invocations {} (medians shown) · {backend} backend",
        us(before.build),
        us(before.erase),
        hops.len()
    );
    out
}

/// The tree of calls, with what came of each edge's in all invocations.
fn calls(chain: &LiveChain, edges: &BTreeMap<usize, EdgeTotals>) -> String {
    let tree = chain.tree();
    let mut rows: Vec<(String, Option<usize>)> = Vec::new();
    let mut drawing = Drawing::of(tree);
    for (step, root) in tree
        .nodes
        .iter()
        .enumerate()
        .take(chain.chain().steps.len())
    {
        if root.calls.is_empty() {
            continue;
        }
        rows.push((root.function.to_string(), None));
        for Line { edge, stem, again } in drawing.below(step, "") {
            let callee = &tree.nodes[tree.edges[edge].callee].function;
            let above = if again { " (its calls are above)" } else { "" };
            rows.push((format!("{stem}{callee}{above}"), Some(edge)));
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let wide = rows
        .iter()
        .map(|(text, _)| text.width())
        .max()
        .unwrap_or(0)
        .max(16);
    let mut out = format!(
        "{:<wide$} {:>12} {:>8} {:>12} {:>12} {:>12}\n",
        "microseconds", "calls", "failed", "mean", "total", "made ready"
    );
    let none = EdgeTotals::default();
    for (text, edge) in rows {
        out += &text;
        if let Some(edge) = edge {
            let all = edges.get(&edge).unwrap_or(&none);
            let mean = match u32::try_from(all.calls) {
                Ok(0) | Err(_) => "-".to_owned(),
                Ok(calls) => us(all.run / calls),
            };
            let _ = write!(
                out,
                "{} {:>12} {:>8} {mean:>12} {:>12} {:>12}",
                " ".repeat(wide - text.width()),
                all.calls,
                all.failed,
                us(all.run),
                us(all.ready)
            );
        }
        out.push('\n');
    }
    out
}
