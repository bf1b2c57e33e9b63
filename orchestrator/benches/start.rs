//! How long until a function runs: copies of a snapshot, forks, programs.
//!
//! ```sh
//! cargo bench -p lwc-orchestrator --bench start
//! ```
//!
//! Each figure is from the decision to start to the function's answer.

use criterion::Criterion;
use lwc_orchestrator::bench::alternatives::Direct;
use lwc_orchestrator::bench::bare::cpu;
use lwc_orchestrator::bench::work::{What, Work, invoke};
use lwc_orchestrator::chain_file::Isolation;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The argument with which this program is the one that is spawned.
const LOAD: &str = "--load-and-call";

fn call(function: &Direct) {
    let (input, mut output) = ([7; 64], [0; 64]);
    assert_eq!(function.call(&input, &mut output), Ok(64));
    assert_eq!(input, output);
}

fn wait_for(mut command: Command) {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("a program");
    assert!(status.success(), "{command:?}: {status}");
}

/// A chain of `run`: the whole program, from exec(2) to its exit.
fn run_command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lwc-orchestrator"));
    command
        .arg("run")
        .arg(folder.join("chain.toml"))
        .arg("--input")
        .arg(folder.join("input"));
    command
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, library] = arguments.as_slice()
        && flag == LOAD
    {
        call(&Direct::load(Path::new(library), What::Copy).expect("the library"));
        return;
    }
    println!("backend: {}", lwc::backend().expect("a backend"));
    let mut c = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(15)
        .without_plots()
        .configure_from_args();
    cpu::pin(cpu::processors()[0]);
    let work = Work::new().expect("the functions");
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "[functions.copy]\nlibrary = {:?}\n[chains.one]\nsteps = [\"copy\"]\n",
        work.library(What::Copy)
    );
    std::fs::write(folder.path().join("chain.toml"), text).expect("a chain file");
    std::fs::write(folder.path().join("input"), [7; 64]).expect("an input");

    let function = Direct::new(&work, What::Copy).expect("the library");
    c.bench_function("fork with the function loaded, call, exit", |b| {
        b.iter(|| lwc_orchestrator::bench::bare::fork_run_and_wait(|| call(&function)));
    });
    let me = std::env::current_exe().expect("this program");
    c.bench_function("spawn, load, call, exit", |b| {
        b.iter(|| {
            let mut command = Command::new(&me);
            command.arg(LOAD).arg(work.library(What::Copy));
            wait_for(command);
        });
    });
    c.bench_function("lwc-orchestrator run, exec to exit", |b| {
        b.iter(|| wait_for(run_command(folder.path())));
    });
    c.bench_function("a chain of one started, its first answer", |b| {
        b.iter(|| {
            let chain = work.chain(What::Copy, 1, Isolation::Invocation);
            invoke(&mut chain.expect("a chain"), 64).expect("an answer");
        });
    });
    let chain = work.chain(What::Copy, 1, Isolation::Invocation);
    let mut chain = chain.expect("a chain");
    c.bench_function("a copy of the snapshot made and used", |b| {
        b.iter(|| {
            chain.prepare().expect("a copy");
            invoke(&mut chain, 64).expect("an answer");
        });
    });
    c.final_summary();
}
