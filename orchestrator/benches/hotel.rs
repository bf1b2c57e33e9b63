//! The search of `examples/hotel` behind `serve`, beside the same functions without
//! contexts, in one run:
//!
//! ```sh
//! cargo bench -p lwc-orchestrator --bench hotel
//! ```
//!
//! The alternatives take turns in short rounds, so that a noisy machine is noisy for
//! all of them. All have the same libraries, the same client and hyper's HTTP. What
//! has no contexts has no queue, no deadline and no metrics either, and answers on a
//! thread for each connection.

#[path = "../tests/common/mod.rs"]
mod common;

use common::server::Server;
use lwc_hotel::client::Searches;
use lwc_hotel::host::libraries;
use lwc_hotel::server::{Processes, program};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const ROUNDS: u32 = 6;
const ROUND: Duration = Duration::from_millis(500);
const PATH: &str = "/chains/search";

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, mode, folder, rest @ ..] = &args[..]
        && mode == "--serve"
    {
        return program(&libraries(Path::new(folder)), rest).unwrap();
    }
    // `cargo test --benches` only wants to know that it builds.
    if !args.iter().any(|a| a == "--bench") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    lwc_hotel::build(folder.path()).unwrap();
    let command = |args: &[String]| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--serve").arg(folder.path()).args(args);
        command
    };
    let [fresh, reused] = ["invocation", "chain"].map(|isolation| {
        let options = ["--circuit", "0", "--no-watch"];
        Server::with(&lwc_hotel::chain_file(isolation), &options)
    });
    let merged = Processes::merged(&command).unwrap();
    let each = Processes::one_each(&command).unwrap();
    let lwc = |name, server: &Server| Alternative {
        name,
        address: server.address,
        pids: vec![server.pid()],
    };
    let plain = |name, processes: &Processes, function| Alternative {
        name,
        address: processes.addresses[function],
        pids: processes.pids(),
    };
    measure(&[
        plain("one HTTP server process for each function", &each, "search"),
        lwc("lwc, rolled back after each call", &fresh),
        lwc("lwc, contexts reused", &reused),
        plain("merged, without walls", &merged, ""),
    ]);
}

struct Alternative {
    name: &'static str,
    address: SocketAddr,
    /// Its processes, or their parents.
    pids: Vec<u32>,
}

/// What one has done in all rounds.
#[derive(Default)]
struct Done {
    times: Vec<Duration>,
    /// Clock ticks.
    cpu: u64,
}

fn measure(alternatives: &[Alternative]) {
    let searches = alternatives.iter().map(|a| {
        let checked = Searches::checked(a.address, PATH, 64);
        checked.unwrap_or_else(|e| panic!("{}: {e}", a.name))
    });
    let searches: Vec<Searches> = searches.collect();
    println!(
        "\n| clients | alternative | searches/s | ratio | p50 | ratio | p99 | CPU time each |\n\
         |--:|:--|--:|--:|--:|--:|--:|--:|"
    );
    for clients in [1, 4, 16] {
        let mut all: Vec<Done> = alternatives.iter().map(|_| Done::default()).collect();
        for round in 0..=ROUNDS {
            for (i, a) in alternatives.iter().enumerate() {
                let before = cpu(&a.pids);
                let times = searches[i].load(a.address, PATH, clients, ROUND);
                let times = times.unwrap_or_else(|e| panic!("{}: {e}", a.name));
                // The first round warms up.
                if round > 0 {
                    all[i].times.extend(times);
                    // One that ended meanwhile has taken its own along.
                    all[i].cpu += cpu(&a.pids).saturating_sub(before);
                }
            }
        }
        let rows: Vec<[f64; 4]> = all.iter_mut().map(figures).collect();
        for (a, [rate, p50, p99, cpu]) in alternatives.iter().zip(&rows) {
            let (of_rate, of_p50) = (rate / rows[0][0], p50 / rows[0][1]);
            println!(
                "| {clients} | {} | {rate:.0} | {of_rate:.2} | {p50:.0} µs | {of_p50:.2} | {p99:.0} µs | {cpu:.0} µs |",
                a.name
            );
        }
    }
}

/// The processor time that processes and all that they made have taken, in clock
/// ticks: what is left to compare where others use the machine, too. 0 where it is
/// not known.
#[cfg(target_os = "linux")]
fn cpu(pids: &[u32]) -> u64 {
    let of_one = |pid: u32| {
        let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
        // Of each thread, the processes that it made.
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
        let children: Vec<u32> = threads
            .into_iter()
            .flatten()
            .flatten()
            .map(|thread| read(format!("{}/children", thread.path().display())))
            .flat_map(|list| {
                let pids = list.split_whitespace().flat_map(str::parse);
                pids.collect::<Vec<_>>()
            })
            .collect();
        let stat = read(format!("/proc/{pid}/stat"));
        // After the name, which may hold anything: the state is field 3.
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).flat_map(str::parse::<u64>).sum();
        ticks + cpu(&children)
    };
    pids.iter().map(|&pid| of_one(pid)).sum()
}

#[cfg(not(target_os = "linux"))]
fn cpu(_: &[u32]) -> u64 {
    0
}

/// Answers a second; p50, p99 and processor time of one in microseconds.
fn figures(done: &mut Done) -> [f64; 4] {
    let times = &mut done.times;
    times.sort_unstable();
    let n = times.len();
    let at = |share: f64| times[((n as f64 * share) as usize).min(n - 1)].as_secs_f64() * 1e6;
    let rate = n as f64 / (ROUND * ROUNDS).as_secs_f64();
    // Everywhere a tick is a hundredth of a second.
    [rate, at(0.5), at(0.99), done.cpu as f64 * 1e4 / n as f64]
}
