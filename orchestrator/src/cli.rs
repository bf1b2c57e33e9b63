//! The command line.

mod audit;
#[cfg(feature = "bench")]
mod bench;
mod build;
mod check;
mod completions;
mod debug;
#[cfg(feature = "serve")]
mod dev;
#[cfg(feature = "serve")]
mod invoke;
mod library;
mod logging;
// They tell of all features.
#[cfg(all(test, feature = "serve", feature = "bench"))]
mod pages;
mod progress;
mod run;
mod schema;
#[cfg(feature = "serve")]
mod serve;
mod tree;

use crate::build::{BuildError, Built, Bundle, build_with_progress, find_in};
use crate::chain_file::{ChainFile, FunctionName, Report, Severity, load};
use crate::printable::{printable_json, printable_lines};
use crate::version::VERSION;
use crate::{protect, scaffold};
use clap::{Args, Parser, Subcommand};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

/// Exit codes, as `--help` lists them.
mod exit {
    pub(super) const FAILED: u8 = 1;
    pub(super) const USAGE: u8 = 2;
    pub(super) const BUILD: u8 = 3;
    pub(super) const START: u8 = 4;
}

const AFTER: &str = "\
Exit codes:
  0  all went well
  1  a function failed, a server refused, or the audit found a breach
  2  wrong usage, a chain file with errors, or a bundle that was changed
  3  a function cannot be built
  4  a chain cannot be started, or the backend or a server is missing

Environment:
  LWC_BACKEND  kernel or process; default: kernel where lwc.ko is loaded
  LWC_CACHE    where functions are built; default: ~/.cache/lwc
  LWC_ALLOW_ROOT  1 lets root serve, as --allow-root; otherwise that is refused
  CC, CXX      compilers for C and C++ functions
  CARGO        builds functions in Rust; PKG_CONFIG finds packages";

/// Runs chains of functions in one program, each in its own light-weight context.
#[derive(Debug, Parser)]
#[command(name = "lwc-orchestrator", version = VERSION, after_help = AFTER)]
struct Cli {
    /// More to read on stderr: -v info, -vv debug (the life of each function), -vvv trace
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// How the log on stderr is written
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: logging::Format,
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Say all that is wrong with a chain file, build its functions, show the plan
    Check(check::CheckArgs),
    /// Build a chain file's functions, into a bundle that runs where no compiler is
    Build(build::BuildArgs),
    /// Run a chain on inputs; the answers, and nothing else, go to stdout
    Run(run::RunArgs),
    /// Run a function in this process, without a sandbox: for gdb, valgrind, sanitizers
    Debug(debug::DebugArgs),
    /// Serve chains over HTTP
    #[cfg(feature = "serve")]
    Serve(Box<serve::ServeArgs>),
    /// Serve a file while it is written: built anew when it is saved, errors on the page
    #[cfg(feature = "serve")]
    Dev(dev::DevArgs),
    /// Send an input to a server that runs; show the answer, the path and the times
    #[cfg(feature = "serve")]
    Invoke(invoke::InvokeArgs),
    /// Measure what contexts cost on this machine, beside processes and threads
    #[cfg(feature = "bench")]
    Bench(bench::BenchArgs),
    /// Measure by attempts what each context can reach
    Audit(audit::AuditArgs),
    /// Write a new function, ready to run
    New(NewArgs),
    /// Put headers and crate for functions into the cache, and print the folder
    Library,
    /// Print the JSON schema of chain files, for editors
    Schema,
    /// Write what a shell needs to complete this command line
    Completions(completions::CompletionsArgs),
    /// A process of `serve`, started by it alone
    #[cfg(feature = "serve")]
    #[command(hide = true)]
    Worker(serve::WorkerArgs),
    /// A process that looks names of hosts up, started by contexts' roots alone
    #[command(hide = true)]
    Names,
}

impl Cmd {
    /// Whether it comes to hold secrets, messages or contexts.
    fn has_something_to_protect(&self) -> bool {
        if matches!(self, Self::Names) {
            return false;
        }
        match self {
            Self::Check(args) => args.makes_contexts(),
            Self::Build(_)
            | Self::Debug(_)
            | Self::New(_)
            | Self::Library
            | Self::Schema
            | Self::Completions(_) => false,
            _ => true,
        }
    }
}

#[derive(Debug, Args)]
struct NewArgs {
    /// The function's name: 1 to 63 of a-z, 0-9, - and _
    name: String,
    /// Its language
    #[arg(long, value_enum)]
    lang: scaffold::Language,
    /// A function that calls another, and a workflow that begins with it
    #[arg(long)]
    workflow: bool,
    /// Where its folder is made
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// Runs the program; returns its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Programs that make contexts have no environment later.
    colours();
    #[cfg(feature = "serve")]
    let verbose = match &cli.command {
        // Whoever is at it wants to see each invocation.
        Cmd::Dev(_) => cli.verbose.max(1),
        _ => cli.verbose,
    };
    #[cfg(not(feature = "serve"))]
    let verbose = cli.verbose;
    logging::start(verbose, cli.log_format);
    if cli.command.has_something_to_protect()
        && let Err(e) = protect::this_process()
    {
        complain(&e);
        return ExitCode::from(exit::START);
    }
    let code = match &cli.command {
        Cmd::Check(args) => check::check(args),
        Cmd::Build(args) => build::build(args),
        Cmd::Run(args) => run::run(args),
        Cmd::Debug(args) => debug::debug(args),
        #[cfg(feature = "serve")]
        Cmd::Serve(args) => serve::serve(args, cli.verbose, cli.log_format),
        #[cfg(feature = "serve")]
        Cmd::Dev(args) => dev::dev(args),
        #[cfg(feature = "serve")]
        Cmd::Invoke(args) => invoke::invoke(args),
        #[cfg(feature = "serve")]
        Cmd::Worker(args) => serve::worker(args),
        Cmd::Names => crate::life::named::serve().map_err(|_| exit::FAILED),
        #[cfg(feature = "bench")]
        Cmd::Bench(args) => bench::bench(args),
        Cmd::Audit(args) => audit::run_audit(args, cli.verbose, cli.log_format),
        Cmd::Library => library::print(),
        Cmd::Schema => schema::print(),
        Cmd::Completions(args) => completions::completions(args),
        Cmd::New(args) => new(args),
    };
    match code {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => ExitCode::from(code),
    }
}

/// Why a server is not to be root's: it is somebody's for years, and its inputs are anybody's.
#[cfg(feature = "serve")]
const NOT_ROOT: &str =
    "who breaks out of one function has the machine, and ptrace(2) as root reads every process";

/// It is root's only if that is asked for. What runs once (`run`, `audit`, `bench`) is not
/// refused.
#[cfg(feature = "serve")]
fn refuse_root(allowed: bool) -> Result<(), u8> {
    let asked = allowed || std::env::var_os("LWC_ALLOW_ROOT").is_some_and(|v| v == "1");
    if asked || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    complain(&format_args!(
        "this would serve as root: {NOT_ROOT}. Run it as an ordinary user, as the packages' units do, or say --allow-root (LWC_ALLOW_ROOT=1), where the machine is only for this"
    ));
    Err(exit::USAGE)
}

#[cfg(feature = "serve")]
fn warn_of_root() {
    if nix::unistd::geteuid().is_root() {
        log::warn!("serving as root, as was asked for: {NOT_ROOT}");
    }
}

fn new(args: &NewArgs) -> Result<(), u8> {
    let kind = match args.workflow {
        true => scaffold::Kind::Workflow,
        false => scaffold::Kind::Function,
    };
    let library = library::folder()?;
    match scaffold::create(&args.dir, &args.name, args.lang, kind, &library) {
        Ok(made) => {
            println!("{}", printable_lines(&made));
            Ok(())
        }
        Err(e) => {
            complain(&e);
            Err(exit::USAGE)
        }
    }
}

/// An error for people, on stderr. It may quote names, paths and lines of source
/// that somebody else wrote: nothing in them changes the terminal.
fn complain(e: &dyn std::fmt::Display) {
    complain_of(e, Map::new());
}

/// The same, with what programs are told beside.
fn complain_of(e: &dyn std::fmt::Display, more: Map<String, Value>) {
    if logging::is_json() {
        return logging::say(log::Level::Error, e.to_string(), more);
    }
    let e = printable_lines(e.to_string());
    let mut err = std::io::stderr().lock();
    let (on, off) = if colours() {
        ("\x1b[1;31m", "\x1b[0m")
    } else {
        ("", "")
    };
    // Nowhere is left to report a broken stderr.
    let _ = writeln!(err, "{on}error{off}: {e}");
}

/// Tells on stderr what is wrong or odd in a chain file.
fn tell(report: &Report) {
    if !logging::is_json() {
        eprint!("{}", report.render(colours()));
        return;
    }
    for d in report.diagnostics() {
        let level = match d.severity {
            Severity::Error => log::Level::Error,
            Severity::Warning => log::Level::Warn,
        };
        let mut more = Map::new();
        more.insert("code".into(), d.code.into());
        more.insert("file".into(), report.path().display().to_string().into());
        // Of one that cannot be read there is no place.
        if !report.text().is_empty() {
            more.insert("line".into(), d.line.into());
            more.insert("column".into(), d.column.into());
        }
        if !d.hint.is_empty() {
            more.insert("help".into(), d.hint.clone().into());
        }
        logging::say(level, d.message.clone(), more);
    }
}

/// Whether stderr shows colours (no-color.org).
fn colours() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| {
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
    })
}

/// Loads and builds a chain file, complaining on the way.
fn prepare(path: &Path) -> Result<Prepared, u8> {
    prepare_by(path, build_and_show)
}

/// Builds the functions of a file; where that takes long, shows what it is at.
fn build_and_show(file: &ChainFile) -> Result<BTreeMap<FunctionName, Built>, Vec<BuildError>> {
    let progress = progress::Progress::begin();
    build_with_progress(file, &mut |doing| progress.at(doing))
}

/// A chain file, and what its functions are built to.
type Prepared = (ChainFile, BTreeMap<FunctionName, Built>);

/// The same, built in another way.
fn prepare_by(
    path: &Path,
    build: impl FnOnce(&ChainFile) -> Result<BTreeMap<FunctionName, Built>, Vec<BuildError>>,
) -> Result<Prepared, u8> {
    let (file, bundle) = read(path, tell)?;
    let built = match &bundle {
        Some(bundle) => find_in(bundle, &file),
        None => build(&file),
    };
    match built {
        Ok(built) => Ok((file, built)),
        Err(errors) => Err(build_failed(&errors)),
    }
}

/// Tells of functions that cannot be built.
fn build_failed(errors: &[BuildError]) -> u8 {
    for e in errors {
        let mut more = Map::new();
        if let Some((file, line)) = e.place() {
            more.insert("file".into(), file.into());
            more.insert("line".into(), line.into());
        }
        complain_of(e, more);
    }
    exit::BUILD
}

/// Reads a chain file, or that of a bundle, once all of the bundle is what it was;
/// what there is to say of the file is told.
fn read(path: &Path, tell: impl FnOnce(&Report)) -> Result<(ChainFile, Option<Bundle>), u8> {
    let bundle = match Bundle::at(path).map(|folder| Bundle::open(&folder)) {
        Some(Ok(bundle)) => Some(bundle),
        Some(Err(e)) => {
            complain(&e);
            return Err(exit::USAGE);
        }
        None => None,
    };
    let of_bundle = bundle.as_ref().map(Bundle::chain_file);
    match load(of_bundle.as_deref().unwrap_or(path)) {
        Ok((file, report)) => {
            tell(&report);
            Ok((file, bundle))
        }
        Err(report) => {
            tell(&report);
            Err(exit::USAGE)
        }
    }
}

/// Writes JSON to stdout, for programs and for terminals.
fn write_json(value: &serde_json::Value) -> Result<(), u8> {
    write_out((printable_json(&format!("{value:#}")) + "\n").as_bytes())
}

/// Writes to stdout; a closed pipe is no crash.
fn write_out(bytes: &[u8]) -> Result<(), u8> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|e| {
            complain(&format!("writing the answer: {e}"));
            exit::FAILED
        })
}
