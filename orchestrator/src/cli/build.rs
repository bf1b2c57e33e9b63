//! `build`: functions, and bundles of them.

use super::progress::Progress;
use super::{build_failed, complain, exit, read, tell, write_json, write_out};
use crate::build::{Doing, build_for, build_with_progress, is_target, write_bundle};
use crate::printable::printable_lines;
use clap::Args;
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

const AFTER: &str = "\
A bundle is a folder with the functions' libraries, what they need beside the C
library, the chain file as it is then, and the hash of each. `check`, `run`, `serve`
and `audit` take it in the place of a chain file, need no compiler, and refuse it if
a byte has changed. Secrets are in no bundle: relative paths are below its folder.

For another machine, CC and CXX name compilers for it, and cargo gets the target:
  CC='zig cc -target x86_64-freebsd.15.0' lwc-orchestrator build chain.toml \\
    --target x86_64-unknown-freebsd --out bundle";

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct BuildArgs {
    /// The chain file
    #[arg(default_value = "chain.toml")]
    file: PathBuf,
    /// Write a bundle into this folder, which is new or empty
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Build for another machine, as x86_64-unknown-freebsd
    #[arg(long, value_name = "NAME", requires = "out")]
    target: Option<String>,
    /// What was built as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn build(args: &BuildArgs) -> Result<(), u8> {
    if let Some(target) = args.target.as_deref().filter(|t| !is_target(t)) {
        complain(&format!(
            "no machine is known as {target:?}; write PROCESSOR-SYSTEM, such as x86_64-unknown-freebsd or aarch64-unknown-linux-gnu"
        ));
        return Err(exit::USAGE);
    }
    let mut text = String::new();
    let (file, bundle) = read(&args.file, |report| {
        tell(report);
        text = report.text().to_owned();
    })?;
    if bundle.is_some() {
        complain(&format!(
            "{} is a bundle: it is built; copy it as it is",
            args.file.display()
        ));
        return Err(exit::USAGE);
    }
    let progress = Progress::begin();
    let tell = &mut |doing: &Doing<'_>| progress.at(doing);
    let built = match &args.target {
        Some(target) => build_for(&file, target, tell),
        None => build_with_progress(&file, tell),
    };
    drop(progress);
    let built = built.map_err(|errors| build_failed(&errors))?;
    let Some(out) = &args.out else {
        if args.json {
            let libraries = built
                .iter()
                .map(|(name, b)| (name.to_string(), json!(b.library)));
            let libraries: serde_json::Map<_, _> = libraries.collect();
            return write_json(&json!({ "libraries": libraries }));
        }
        let mut lines = String::new();
        for (name, built) in &built {
            let _ = writeln!(lines, "{name}: {}", built.library.display());
        }
        return write_out(printable_lines(lines).as_bytes());
    };
    let made = write_bundle(&file, &text, &built, args.target.as_deref(), out).map_err(|e| {
        complain(&e);
        exit::BUILD
    })?;
    if args.json {
        return write_json(&json!({
            "bundle": out,
            "target": made.target,
            "sha256": made.digest,
            "functions": built.len(),
            "libraries": made.libraries,
            "needed": made.needed,
            "secrets": made.secrets,
            "files": made.files,
        }));
    }
    let plural =
        |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let mut lines = format!(
        "{}: {} in {}, {} beside, for {}, sha256 {}\n",
        out.display(),
        plural(built.len(), "function", "functions"),
        plural(made.libraries, "library", "libraries"),
        plural(made.needed, "other", "others"),
        made.target,
        made.digest,
    );
    for secret in &made.secrets {
        let _ = writeln!(lines, "to be put into it, a secret: {}", secret.display());
    }
    for path in &made.files {
        let _ = writeln!(
            lines,
            "to be put into it, for functions to read: {}",
            path.display()
        );
    }
    write_out(printable_lines(lines).as_bytes())
}
