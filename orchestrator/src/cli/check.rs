//! `check`: diagnostics, builds, the plan.

use super::{build_and_show, colours, complain, exit, write_json, write_out};
use crate::chain_file::{ChainFile, FunctionName, load};
use crate::printable::printable_lines;
use clap::Args;
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The chain file
    file: PathBuf,
    /// Do not build the functions
    #[arg(long)]
    no_build: bool,
    /// Diagnostics and plan as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn check(args: &CheckArgs) -> Result<(), u8> {
    let (file, report) = match load(&args.file) {
        Ok(found) => found,
        Err(report) => {
            if args.json {
                let v = json!({ "ok": false, "diagnostics": report.to_json() });
                write_json(&v)?;
            } else {
                eprint!("{}", report.render(colours()));
            }
            return Err(exit::USAGE);
        }
    };
    let mut errors = Vec::new();
    if !args.no_build {
        errors = build_and_show(&file).err().unwrap_or_default();
    }
    if args.json {
        let v = json!({
            "ok": errors.is_empty(),
            "diagnostics": report.to_json(),
            "build": errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "chains": plan_json(&file),
        });
        write_json(&v)?;
    } else {
        eprint!("{}", report.render(colours()));
        errors.iter().for_each(|e| complain(e));
        write_out(printable_lines(plan(&file)).as_bytes())?;
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(exit::BUILD)
    }
}

/// What will run and who may touch what, for people.
fn plan(file: &ChainFile) -> String {
    let mut out = String::new();
    for chain in file.chains.values() {
        let size = bytesize::ByteSize(chain.region).display().iec();
        let _ = writeln!(
            out,
            "chain {}: {} (isolation {:?}, regions of {size})",
            chain.name,
            chain
                .steps
                .iter()
                .map(FunctionName::as_str)
                .collect::<Vec<_>>()
                .join(" → "),
            chain.isolation
        );
        for n in 0..=chain.steps.len() {
            let writer = match n {
                0 => "root",
                n => chain.steps[n - 1].as_str(),
            };
            let reader = chain.steps.get(n).map_or("root", FunctionName::as_str);
            let _ = writeln!(out, "  region {n}: {writer} writes, {reader} reads");
        }
    }
    for f in file.functions.values() {
        let secrets: Vec<&str> = f.secrets.iter().map(|s| s.name.as_str()).collect();
        let _ = writeln!(
            out,
            "function {}: handler {}, timeout {}, memory {}{}{}",
            f.name,
            f.handler,
            humantime::format_duration(f.timeout),
            bytesize::ByteSize(f.memory).display().iec(),
            if secrets.is_empty() { "" } else { ", secrets " },
            secrets.join(", ")
        );
    }
    out
}

fn plan_json(file: &ChainFile) -> serde_json::Value {
    file.chains
        .values()
        .map(|c| {
            json!({
                "name": c.name,
                "steps": c.steps,
                "isolation": c.isolation,
                "region": c.region,
            })
        })
        .collect()
}
