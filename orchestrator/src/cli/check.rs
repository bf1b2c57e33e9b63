//! `check`: diagnostics, builds, the plan.

use super::tree::{Drawing, Line};
use super::{build_and_show, build_failed, complain, exit, read, tell, write_json, write_out};
use crate::build::find_in;
use crate::chain_file::{CallTree, Chain, ChainFile, EnvSource, Function, FunctionName, GroupName};
use crate::life::{refused_by_kernel, trial};
use crate::printable::printable_lines;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The chain file, or the folder of a bundle
    #[arg(default_value = "chain.toml")]
    file: PathBuf,
    /// Do not build the functions
    #[arg(long)]
    no_build: bool,
    /// Load each function's library on trial: its constructors run, outside of a sandbox
    #[arg(long, conflicts_with = "no_build")]
    load: bool,
    /// Diagnostics and plan as JSON on stdout
    #[arg(long)]
    json: bool,
}

impl CheckArgs {
    pub(super) fn makes_contexts(&self) -> bool {
        self.load
    }
}

pub(super) fn check(args: &CheckArgs) -> Result<(), u8> {
    let mut report = None;
    let (file, bundle) = match read(&args.file, |r| report = Some(r.clone())) {
        Ok(found) => found,
        Err(code) => {
            if args.json {
                let diagnostics = report.map_or(json!([]), |r| r.to_json());
                let v = json!({ "ok": false, "diagnostics": diagnostics });
                write_json(&v)?;
            } else if let Some(report) = report {
                tell(&report);
            }
            return Err(code);
        }
    };
    let Some(report) = report else {
        return Err(exit::USAGE); // Told of what was read, in any case.
    };
    let built = match &bundle {
        Some(bundle) => find_in(bundle, &file),
        None if args.no_build => Ok(BTreeMap::new()),
        None => build_and_show(&file),
    };
    let (built, errors) = match built {
        Ok(built) => (built, Vec::new()),
        Err(errors) => (BTreeMap::new(), errors),
    };
    let mut refused = refused_here(&file);
    if args.load {
        refused.extend(trial::load_all(&file, &built));
    }
    if args.json {
        let v = json!({
            "ok": errors.is_empty() && refused.is_empty(),
            "diagnostics": report.to_json(),
            "build": errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "refused": refused,
            "chains": plan_json(&file),
        });
        write_json(&v)?;
    } else {
        tell(&report);
        build_failed(&errors);
        refused.iter().for_each(|e| complain(e));
        write_out(printable_lines(plan(&file)).as_bytes())?;
    }
    if !refused.is_empty() {
        return Err(exit::START);
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(exit::BUILD)
    }
}

/// What the file grants and the backend in use cannot give, each with its reason.
fn refused_here(file: &ChainFile) -> Vec<String> {
    if lwc::backend() != Ok(lwc::Backend::Kernel) {
        return Vec::new();
    }
    let of = |f: &Function| {
        let all = refused_by_kernel(f).into_iter();
        let all = all.map(|what| format!("function {}: {what}", f.name));
        all.collect::<Vec<_>>()
    };
    file.functions.values().flat_map(of).collect()
}

/// What will run and who may touch what, for people.
fn plan(file: &ChainFile) -> String {
    let mut out = String::new();
    for chain in file.chains.values() {
        let size = bytesize::ByteSize(chain.region).display().iec();
        let _ = writeln!(
            out,
            "{} {}: {} (isolation {:?}, regions of {size})",
            if chain.workflow { "workflow" } else { "chain" },
            chain.name,
            names(&chain.steps, " → "),
            chain.isolation
        );
        for n in 0..=chain.steps.len() {
            let writer = match n {
                0 => "root",
                n => chain.steps[n - 1].as_str(),
            };
            let reader = chain.steps.get(n).map_or("root", FunctionName::as_str);
            let ends = |step: usize| file.functions[&chain.steps[step]].ends_request;
            let early = n > 0 && n < chain.steps.len() && ends(n - 1);
            let root = if early { ", root reads" } else { "" };
            match border(file, chain, n) {
                Some(group) => {
                    let _ = writeln!(
                        out,
                        "  region {n}: {writer} writes, root reads; in group {group}: root writes, {reader} reads"
                    );
                }
                None => {
                    let _ = writeln!(out, "  region {n}: {writer} writes, {reader} reads{root}");
                }
            }
        }
        if let Some(on_error) = &chain.on_error {
            let _ = writeln!(
                out,
                "  on_error {on_error}: failure root rw, {on_error} r; answer {on_error} rw, root r"
            );
        }
        let tree = CallTree::of(file, &chain.name);
        calls(file, &tree, chain.steps.len(), &mut out);
    }
    let groups = groups(file);
    if groups.len() > 1 {
        for (group, functions) in &groups {
            let _ = writeln!(out, "group {group}: {}", names(functions, ", "));
        }
    }
    for f in file.functions.values() {
        if let Some(place) = f.origin.elsewhere() {
            let timeout = humantime::format_duration(f.timeout);
            let _ = writeln!(
                out,
                "function {}: elsewhere ({place}), timeout {timeout}",
                f.name
            );
            continue;
        }
        let secrets: Vec<&str> = f.secrets.iter().map(|s| s.name.as_str()).collect();
        let _ = writeln!(
            out,
            "function {}: handler {}, timeout {}, memory {}{}{}{}{}{}{}{}{}{}{}{}{}",
            f.name,
            f.handler,
            humantime::format_duration(f.timeout),
            bytesize::ByteSize(f.memory).display().iec(),
            if secrets.is_empty() { "" } else { ", secrets " },
            secrets.join(", "),
            if f.env.is_empty() { "" } else { ", env " },
            environment(f),
            if f.files.is_empty() && f.scratch == 0 {
                ""
            } else {
                ", files "
            },
            files(f),
            if f.connect.is_empty() {
                ""
            } else {
                ", connect "
            },
            connections(f),
            threads(f),
            if f.calls.is_empty() { "" } else { ", calls " },
            names(&f.calls, ", "),
            if f.ends_request {
                ", may end a request"
            } else {
                ""
            }
        );
    }
    out
}

/// Its variables, and where they come from that are the orchestrator's.
fn environment(function: &Function) -> String {
    let all = function.env.iter().map(|v| match &v.from {
        EnvSource::Text(_) => v.name.clone(),
        EnvSource::Host(host) if *host == v.name => format!("{host} (this program's)"),
        EnvSource::Host(host) => format!("{} (this program's {host})", v.name),
    });
    all.collect::<Vec<_>>().join(", ")
}

/// How many threads it may have.
fn threads(function: &Function) -> String {
    match function.threads {
        0 => String::new(),
        n => format!(", threads {n}"),
    }
}

/// What it may read, as the file has it, and what it may write.
fn files(function: &Function) -> String {
    let all = function.files.iter().map(|g| g.said.clone());
    let scratch = (function.scratch > 0).then(|| {
        let size = bytesize::ByteSize(function.scratch).display().iec();
        format!("/tmp/ ({size} of its own)")
    });
    all.chain(scratch).collect::<Vec<_>>().join(", ")
}

/// Where it may connect to, as the file has it.
fn connections(function: &Function) -> String {
    let all = function.connect.iter().map(|g| {
        let kept = if g.keep { " (kept)" } else { "" };
        format!("{}{kept}", g.said)
    });
    all.collect::<Vec<_>>().join(", ")
}

/// The groups that have functions, by name, and which: each has workers of its own.
fn groups(file: &ChainFile) -> BTreeMap<&GroupName, Vec<FunctionName>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let here = file.functions.values();
    for f in here.filter(|f| f.origin.elsewhere().is_none()) {
        groups.entry(&f.group).or_default().push(f.name.clone());
    }
    groups
}

/// The group of a step whose input comes from a step of another one.
fn border<'a>(file: &'a ChainFile, chain: &Chain, step: usize) -> Option<&'a GroupName> {
    let of = |step: usize| {
        let function = &file.functions[chain.steps.get(step)?];
        let here = function.origin.elsewhere().is_none();
        here.then_some(&function.group)
    };
    let (before, own) = (of(step.checked_sub(1)?)?, of(step)?);
    (before != own).then_some(own)
}

fn names(functions: &[FunctionName], between: &str) -> String {
    let names: Vec<&str> = functions.iter().map(FunctionName::as_str).collect();
    names.join(between)
}

/// A tree for each step that calls somebody, and for the function of `on_error`, each
/// call with its two regions and who may do what to them.
fn calls(file: &ChainFile, tree: &CallTree, steps: usize, out: &mut String) {
    let mut drawing = Drawing::of(tree);
    let roots = steps + usize::from(tree.on_error.is_some());
    for (step, root) in tree.nodes.iter().enumerate().take(roots) {
        if root.calls.is_empty() {
            continue;
        }
        let _ = match steps {
            _ if step == steps => writeln!(out, "  on_error, {}, calls", root.function),
            1 => writeln!(out, "  {} calls", root.function),
            _ => writeln!(out, "  step {}, {}, calls", step + 1, root.function),
        };
        for Line { edge, stem, again } in drawing.below(step, "  ") {
            let edge = tree.edges[edge];
            let [caller, callee] = [edge.caller, edge.callee].map(|n| &tree.nodes[n].function);
            if let Some(place) = file.functions[callee].origin.elsewhere() {
                let _ = writeln!(
                    out,
                    "{stem}{callee}, elsewhere ({place}): arguments {caller} rw, root r; reply root rw, {caller} r",
                );
                continue;
            }
            let groups = [caller, callee].map(|f| &file.functions[f].group);
            if groups[0] != groups[1] {
                // Two pairs of regions: one in each worker, of which the root has the
                // other end.
                let _ = writeln!(
                    out,
                    "{stem}{callee}{}, in group {}: arguments {caller} rw, root r; reply root rw, {caller} r; there arguments root rw, {callee} r; reply {callee} rw, root r",
                    if again { " (its calls are above)" } else { "" },
                    groups[1],
                );
                continue;
            }
            let _ = writeln!(
                out,
                "{stem}{callee}{}: arguments {caller} rw, {callee} r; reply {callee} rw, {caller} r",
                if again { " (its calls are above)" } else { "" },
            );
        }
    }
}

/// The same for programs: callers and callees are places in `contexts`, from 0;
/// a context that is no step is only called, but for that of `on_error`, which is the
/// first behind the steps. A call with a `group` goes from the caller's to that one.
fn plan_json(file: &ChainFile) -> serde_json::Value {
    file.chains
        .values()
        .map(|c| {
            let tree = CallTree::of(file, &c.name);
            let step = |n: usize| (n < c.steps.len()).then_some(n + 1);
            let nodes = tree.nodes.iter().enumerate();
            let contexts = nodes.map(|(n, node)| {
                let function = &file.functions[&node.function];
                // One that runs elsewhere is in none.
                let here = function.origin.elsewhere().is_none();
                let group = here.then_some(&function.group);
                json!({ "function": node.function, "step": step(n), "group": group })
            });
            let calls = tree.edges.iter().map(|edge| {
                let mut call = json!({
                    "caller": edge.caller,
                    "callee": edge.callee,
                    "arguments": { "caller": "rw", "callee": "r" },
                    "reply": { "caller": "r", "callee": "rw" },
                });
                let [caller, callee] =
                    [edge.caller, edge.callee].map(|n| &file.functions[&tree.nodes[n].function]);
                if let Some(place) = callee.origin.elsewhere() {
                    // The root stands in for it.
                    call["elsewhere"] = place.into();
                } else if caller.group != callee.group {
                    // Each end has regions with the root of its own worker.
                    call["group"] = callee.group.as_str().into();
                }
                call
            });
            json!({
                "name": c.name,
                "kind": if c.workflow { "workflow" } else { "chain" },
                "steps": c.steps,
                "on_error": c.on_error,
                "isolation": c.isolation,
                "region": c.region,
                "contexts": contexts.collect::<Vec<_>>(),
                "calls": calls.collect::<Vec<_>>(),
            })
        })
        .collect()
}
