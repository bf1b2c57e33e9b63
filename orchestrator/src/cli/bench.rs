//! `bench`: what contexts cost on this machine.

use super::{complain, exit, write_out};
use crate::bench::{Options, plots, run};
use clap::Args;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// A few operations of each, to see that all works; the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Also what grows with contexts, chains and processors (a minute more)
    #[arg(long)]
    scaling: bool,
    /// All figures as JSON; to stdout, they take the place of the tables
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
    /// The tables as Markdown; to stdout, they take the place of the others
    #[arg(long, value_name = "FILE|-", conflicts_with = "json")]
    markdown: Option<PathBuf>,
    /// Write plots (SVG) into this folder
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

pub(super) fn bench(args: &BenchArgs) -> Result<(), u8> {
    let options = Options {
        quick: args.quick,
        scaling: args.scaling,
    };
    let terminal = std::io::stderr().is_terminal();
    let report = run(options, |group| {
        if terminal {
            eprintln!("measuring: {group}");
        }
    })
    .map_err(|e| {
        complain(&e);
        exit::START
    })?;
    let failed = |e: String| {
        complain(&e);
        exit::FAILED
    };
    let other = args
        .json
        .as_ref()
        .map(|path| (path, report.json()))
        .or_else(|| args.markdown.as_ref().map(|p| (p, report.markdown())));
    match other {
        Some((path, text)) if path != Path::new("-") => {
            std::fs::write(path, text).map_err(|e| failed(format!("{}: {e}", path.display())))?;
            write_out(report.text().as_bytes())?;
        }
        Some((_, text)) => write_out(text.as_bytes())?,
        None => write_out(report.text().as_bytes())?,
    }
    if let Some(folder) = &args.plots {
        for path in plots::write(folder, report.series()).map_err(failed)? {
            log::info!("plot: {}", path.display());
        }
    }
    if report.skipped.is_empty() {
        return Ok(());
    }
    // Something that this machine cannot do is no failure, nothing at all is.
    if report.is_empty() {
        return Err(failed("nothing could be measured".into()));
    }
    Ok(())
}
