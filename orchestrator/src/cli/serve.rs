//! `serve`: chains over HTTP.

use super::{complain, exit, prepare, write_out};
use crate::gateway::{self, Options};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const AFTER: &str = "\
Signals:
  SIGTERM, SIGINT  finish what was taken, refuse the rest, end; twice: at once
  SIGHUP           read the chain file again; a bad one is refused

Paths:
  POST /chains/NAME, /functions/NAME; GET /healthz, /readyz, /metrics";

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct ServeArgs {
    /// The chain file
    file: PathBuf,
    /// Address and port; port 0 takes a free one, which stdout tells
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Worker processes; default: one a core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Requests that may wait for a worker, per chain; more get 429
    #[arg(long, default_value_t = 64, value_name = "N")]
    queue: usize,
    /// The longest that a request may take; a client asks for less by the
    /// header Request-Timeout
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = time)]
    timeout: Duration,
    /// The longest that a request's head may take to arrive
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = time)]
    header_timeout: Duration,
    /// The longest that requests go on after SIGTERM
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = time)]
    drain: Duration,
    /// Connections at once; more wait
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Crashes of a chain in a row after which it is left alone for a while
    /// (503), so that it does not wear the machine out; 0: never
    #[arg(long, default_value_t = 10, value_name = "N")]
    circuit: u32,
    /// How long it is left alone before one request may try again
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = time)]
    circuit_pause: Duration,
    /// Serve each function alone too, at /functions/NAME. Whoever may call can
    /// then leave out the steps before it: a signer without its verifier
    #[arg(long)]
    functions: bool,
}

/// A duration that a clock can take.
fn time(text: &str) -> Result<Duration, String> {
    let d = humantime::parse_duration(text).map_err(|e| format!("{e}; write 10s, 250ms, 1m"))?;
    if d.is_zero() || d > Duration::from_secs(86_400) {
        return Err("above zero, a day at most".into());
    }
    Ok(d)
}

pub(super) fn serve(args: &ServeArgs, verbose: u8) -> Result<(), u8> {
    let failed = |e: &dyn std::fmt::Display| {
        complain(e);
        exit::START
    };
    // Before the first listener: the usual codes for a bad file.
    prepare(&args.file)?;
    lwc::backend().map_err(|e| failed(&e))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options {
        listen: args.listen,
        workers: args.workers.map_or(cores, usize::from),
        queue: args.queue,
        timeout: args.timeout,
        header_timeout: args.header_timeout,
        drain: args.drain,
        connections: args.connections as usize,
        circuit: args.circuit,
        circuit_pause: args.circuit_pause,
        functions: args.functions,
        worker_options: vec!["-v".to_owned(); verbose.into()],
    };
    let path = args.file.clone();
    let load = Arc::new(move || {
        prepare(&path).map_err(|_| "it cannot be loaded and built; see above".to_owned())
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| failed(&e))?;
    let ready = |address| {
        // A closed stdout is no reason not to serve.
        let _ = write_out(format!("listening on http://{address}\n").as_bytes());
    };
    match runtime.block_on(gateway::serve(options, load, ready)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(exit::FAILED),
        Err(e) => Err(failed(&e)),
    }
}

/// The hidden subcommand that `serve` starts its processes with.
pub(super) fn worker() -> Result<(), u8> {
    crate::worker::run().map_err(|e| {
        complain(&format!("worker: {e}"));
        exit::FAILED
    })
}
