//! `audit`: what each context can reach, by attempts.

use super::{
    build_and_show, complain, exit, logging::Format, prepare, read, write_json, write_out,
};
use crate::audit::{Matrix, audit};
use crate::build::{Built, find_in};
use crate::chain_file::{ChainFile, ChainId, Cut, FunctionName, GroupName, cut};
use crate::life::{self, Probes, StartError, Variables};
use crate::printable::printable_lines;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// The chain file, or the folder of a bundle
    #[arg(default_value = "chain.toml")]
    file: PathBuf,
    /// The matrix as JSON
    #[arg(long)]
    json: bool,
    /// Try what the workers of this group have; how `audit` starts itself, one process a
    /// group, where a file has several
    #[arg(long, value_name = "NAME", hide = true)]
    group: Option<String>,
}

/// What an audit found.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    holds: bool,
    chains: Vec<Matrix>,
}

impl Found {
    fn of(chains: Vec<Matrix>) -> Self {
        let holds = chains.iter().all(Matrix::holds);
        Self { holds, chains }
    }
}

pub(super) fn run_audit(args: &AuditArgs, verbose: u8, format: Format) -> Result<(), u8> {
    let chains = match &args.group {
        Some(group) => of_group(&args.file, group)?,
        None => {
            let (file, built) = prepare(&args.file)?;
            let Cut { files, .. } = cut(&file);
            match files.len() {
                1 => of_file(&file, &built)?,
                _ => of_groups(&args.file, files.keys(), verbose, format)?,
            }
        }
    };
    let found = Found::of(chains);
    if args.json {
        write_json(&serde_json::json!(found))?;
    } else {
        let text: String = found.chains.iter().map(|m| m.render() + "\n").collect();
        write_out(printable_lines(text).as_bytes())?;
    }
    if found.holds {
        Ok(())
    } else {
        Err(exit::FAILED)
    }
}

fn cannot_start(e: &StartError) -> u8 {
    complain(e);
    exit::START
}

/// All chains of a file with one group, here.
fn of_file(file: &ChainFile, built: &BTreeMap<FunctionName, Built>) -> Result<Vec<Matrix>, u8> {
    let names: Vec<ChainId> = file.chains.keys().cloned().collect();
    let started = Variables::of_environment(file, &names)
        .map_err(StartError::from)
        .and_then(|variables| life::start(file, &names, built, variables, Probes::Answered));
    let mut started = started.map_err(|e| cannot_start(&e))?;
    let secrets = std::mem::take(&mut started.fingerprints);
    audit(file, &mut started.chains, &secrets).map_err(|e| {
        complain(&e);
        exit::FAILED
    })
}

/// Those of one group: what its workers have, and nothing of others. The secrets of all
/// groups are looked for.
fn of_group(path: &Path, group: &str) -> Result<Vec<Matrix>, u8> {
    // What there is to say of the file whoever started this has said.
    let (file, bundle) = read(path, |_| ())?;
    let built = match &bundle {
        Some(bundle) => find_in(bundle, &file),
        None => build_and_show(&file),
    };
    let built = built.map_err(|errors| {
        errors.iter().for_each(|e| complain(e));
        exit::BUILD
    })?;
    let all: Vec<ChainId> = file.chains.keys().cloned().collect();
    let mut files = cut(&file).files;
    let local = GroupName::new(group).ok().and_then(|g| files.remove(&g));
    let Some(local) = local else {
        complain(&format!("no function is in the group {group:?}"));
        return Err(exit::USAGE);
    };
    let names: Vec<ChainId> = local.chains.keys().cloned().collect();
    let variables = |file, names| Variables::of_environment(file, names).map_err(StartError::from);
    // Read to be recognised, and wiped before any context is made.
    let secrets = variables(&file, &all).and_then(|v| life::fingerprints(&file, &all, v));
    let secrets = secrets.map_err(|e| cannot_start(&e))?;
    let started = variables(&local, &names)
        .and_then(|variables| life::start(&local, &names, &built, variables, Probes::Answered));
    let mut started = started.map_err(|e| cannot_start(&e))?;
    audit(&local, &mut started.chains, &secrets).map_err(|e| {
        complain(&e);
        exit::FAILED
    })
}

/// One process for each group, as workers are, one after the other.
fn of_groups<'a>(
    path: &Path,
    groups: impl Iterator<Item = &'a GroupName>,
    verbose: u8,
    format: Format,
) -> Result<Vec<Matrix>, u8> {
    let failed = |e: &dyn std::fmt::Display| {
        complain(e);
        exit::START
    };
    let program = std::env::current_exe().map_err(|e| failed(&e))?;
    let mut all = Vec::new();
    for group in groups {
        let mut command = Command::new(&program);
        command.args(vec!["-v"; verbose.into()]);
        if format == Format::Json {
            command.arg("--log-format=json");
        }
        command.args(["audit", "--json", "--group", group.as_str(), "--"]);
        let out = command.arg(path).stderr(Stdio::inherit()).output();
        let out = out.map_err(|e| failed(&format!("starting the audit of {group:?}: {e}")))?;
        let found = serde_json::from_slice::<Found>(&out.stdout);
        match (found, out.status.code()) {
            (Ok(found), Some(0 | 1)) => all.extend(found.chains),
            // It has said why.
            (_, Some(code @ 1..=255)) => return Err(code as u8),
            _ => return Err(failed(&format!("the audit of {group:?}: {}", out.status))),
        }
    }
    Ok(all)
}
