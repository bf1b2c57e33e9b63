//! The same work behind lwc and behind its peers, in one run: see README.md.
//!
//! ```sh
//! peers [OPTION...] ORCHESTRATOR BARE LIBRARY [WASM [NODE_MODULES [GUNICORN [WRK]]]]
//! ```
//!
//! Programs are given by path; `-` leaves one out. Turns are short and taken
//! one after the other, so that a noisy machine is noisy for all.

mod client;
mod process;
mod server;
mod stop;
mod work;
mod wrk;

use client::{Client, Target};
use serde_json::json;
use server::Server;
use std::process::ExitCode;
use std::sync::Barrier;
use std::time::{Duration, Instant};

const STEPS: [&str; 3] = ["upper", "reverse", "upper"];
/// More would not fit into the queue that `serve` has for a chain.
const MAX_CLIENTS: usize = 64;
const BARE: &str = "bare hyper, the C library loaded";

/// How the servers of a peer do a chain.
#[derive(PartialEq)]
enum Kind {
    /// One that does no work, and no chain.
    Static,
    /// lwc: the whole chain behind one URL. The first has one worker, the second
    /// one for each processor.
    Chain,
    /// One for each step, which the client calls in turn.
    Steps,
}

struct Peer {
    name: &'static str,
    kind: Kind,
    servers: Vec<Server>,
}

impl Peer {
    /// Those that such a chain goes through.
    fn servers(&self, functions: usize, clients: usize) -> &[Server] {
        match self.kind {
            Kind::Static if functions > 1 => &[],
            Kind::Static => &self.servers,
            Kind::Chain if clients == 1 => &self.servers[..1],
            Kind::Chain => &self.servers[1..],
            Kind::Steps => &self.servers[..functions],
        }
    }

    fn route(&self, functions: usize, clients: usize) -> Vec<Target> {
        let path = match (&self.kind, functions) {
            (Kind::Chain, 1) => "/chains/one",
            (Kind::Chain, _) => "/chains/three",
            _ => "/",
        };
        let servers = self.servers(functions, clients);
        servers.iter().map(|s| s.target(path)).collect()
    }
}

struct Options {
    turns: usize,
    turn: Duration,
    clients: Vec<usize>,
    bytes: Vec<usize>,
    json: Option<String>,
    programs: Vec<String>,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        turns: 8,
        turn: Duration::from_millis(200),
        clients: vec![1, 4, 16, 64],
        bytes: vec![64, 16 << 10, work::MAX],
        json: None,
        programs: Vec::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut numbers = |max: usize| {
            let text = args.next().unwrap_or_default();
            let numbers = text.split(',').map(|n| n.parse().unwrap_or(0));
            let numbers: Vec<usize> = numbers.collect();
            match numbers.iter().all(|n| (1..=max).contains(n)) {
                true => Ok(numbers),
                false => Err(format!("{arg}: numbers from 1 to {max}, as 1,4")),
            }
        };
        match arg.as_str() {
            "--quick" => (options.turns, options.turn) = (2, Duration::from_millis(50)),
            "--clients" => options.clients = numbers(MAX_CLIENTS)?,
            "--bytes" => options.bytes = numbers(work::MAX)?,
            "--json" => options.json = Some(args.next().ok_or("--json: which file?")?),
            _ => options.programs.push(arg),
        }
    }
    options.programs.resize(7, "-".into());
    Ok(options)
}

/// What one turn brought.
struct Turn {
    /// Microseconds of each chain.
    times: Vec<f64>,
    /// Seconds from the first request to the last answer.
    took: f64,
    /// Seconds of processor time of the servers meanwhile.
    used: f64,
}

/// Clients with a connection of their own to each server, for so long.
fn turn(
    peer: &Peer,
    (functions, clients): (usize, usize),
    (input, right): (&[u8], &[u8]),
    limit: Duration,
) -> Result<Turn, String> {
    let route = &peer.route(functions, clients);
    let roots: Vec<u32> = peer
        .servers(functions, clients)
        .iter()
        .map(Server::id)
        .collect();
    let connect = |_| {
        route
            .iter()
            .map(Client::connect)
            .collect::<Result<Vec<_>, _>>()
    };
    let connections = (0..clients).map(connect).collect::<Result<Vec<_>, _>>()?;
    let begin = &Barrier::new(clients + 1);
    let ask = |mut connections: Vec<Client>| {
        begin.wait();
        let (started, mut times) = (Instant::now(), Vec::new());
        while started.elapsed() < limit || times.is_empty() {
            stop::check()?;
            let began = Instant::now();
            let mut bytes = Vec::new();
            for (n, (client, target)) in connections.iter_mut().zip(route).enumerate() {
                bytes = client.post(&target.path, if n == 0 { input } else { &bytes })?;
            }
            times.push(began.elapsed().as_secs_f64() * 1e6);
            if bytes != right {
                return Err("a wrong answer".to_owned());
            }
        }
        Ok(times)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = connections
            .into_iter()
            .map(|c| scope.spawn(|| ask(c)))
            .collect();
        let used = process::seconds(&roots);
        let started = Instant::now();
        begin.wait();
        let mut times = Vec::new();
        for thread in threads {
            times.extend(thread.join().map_err(|_| "a client's thread panicked")??);
        }
        Ok(Turn {
            times,
            took: started.elapsed().as_secs_f64(),
            used: process::seconds(&roots) - used,
        })
    })
}

/// The value that this share of them is below; sorts them.
fn share(times: &mut [f64], share: f64) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[((times.len() as f64 * share) as usize).min(times.len() - 1)]
}

/// All that the turns of a peer brought.
#[derive(Default)]
struct Sum {
    times: Vec<f64>,
    medians: Vec<f64>,
    took: f64,
    used: f64,
    failed: Option<String>,
}

/// Peers with the same work and as many clients, in turns; a row for each.
fn compare(
    options: &Options,
    peers: &[Peer],
    (len, functions, clients): (usize, usize, usize),
) -> Result<Vec<serde_json::Value>, String> {
    let input = work::input(len);
    let right = work::expected(&STEPS[..functions], &input);
    let here = |p: &&Peer| !p.servers(functions, clients).is_empty();
    let peers: Vec<&Peer> = peers.iter().filter(here).collect();
    let mut sums: Vec<Sum> = peers.iter().map(|_| Sum::default()).collect();
    // The first turn warms up.
    for n in 0..=options.turns {
        for (peer, sum) in peers.iter().zip(&mut sums) {
            if sum.failed.is_some() {
                continue;
            }
            let work = (&input[..], &right[..]);
            match turn(peer, (functions, clients), work, options.turn) {
                Ok(mut turn) if n > 0 => {
                    sum.medians.push(share(&mut turn.times, 0.5));
                    sum.times.extend(turn.times);
                    sum.took += turn.took;
                    sum.used += turn.used;
                }
                Ok(_) => {}
                // It is to fit into a row.
                Err(why) => sum.failed = Some(why.replace('|', "/").trim().to_owned()),
            }
            stop::check()?;
        }
    }
    let bare = peers
        .iter()
        .zip(&mut sums)
        .find(|(p, s)| p.name == BARE && s.failed.is_none());
    let base = bare.map(|(_, s)| (s.times.len() as f64 / s.took, share(&mut s.times, 0.5)));
    let mut rows = Vec::new();
    for (peer, sum) in peers.iter().zip(&mut sums) {
        let start = format!("| {len} | {functions} | {clients} | {} |", peer.name);
        if let Some(why) = &sum.failed {
            println!("{start} FAILED: {why} |");
            rows.push(json!({
                "bytes": len, "functions": functions, "clients": clients,
                "behind": peer.name, "failed": why,
            }));
            continue;
        }
        let roots: Vec<u32> = peer
            .servers(functions, clients)
            .iter()
            .map(Server::id)
            .collect();
        let (mib, counted) = process::memory(&roots);
        let count = sum.times.len() as f64;
        let (rate, cpu) = (count / sum.took, sum.used / count * 1e6);
        let (low, high) = (share(&mut sum.medians, 0.25), share(&mut sum.medians, 0.75));
        let p50 = share(&mut sum.times, 0.5);
        // Of fewer than so many it would be the slowest of all.
        let mut tail = |of: f64| (count * (1.0 - of) >= 1.0).then(|| share(&mut sum.times, of));
        let (p99, p999) = (tail(0.99), tail(0.999));
        let text = |us: Option<f64>| us.map_or("too few".into(), |us| format!("{us:.0}"));
        let beside = base.map(|(r, p)| (rate / r, p50 / p));
        let ratios = beside.map_or("| |".into(), |(r, p)| format!("{r:.2} | {p:.2} |"));
        println!(
            "{start} {rate:.0} | {p50:.0} | {low:.0} to {high:.0} | {} | {} | {cpu:.0} | {mib:.1} {counted} | {ratios}",
            text(p99),
            text(p999),
        );
        rows.push(json!({
            "bytes": len, "functions": functions, "clients": clients, "behind": peer.name,
            "per_second": rate, "p50_us": p50, "p50_quartiles_us": [low, high],
            "p99_us": p99, "p999_us": p999, "cpu_us": cpu, "mib": mib, "counted": counted,
            "rate_ratio": beside.map(|b| b.0), "p50_ratio": beside.map(|b| b.1),
        }));
    }
    Ok(rows)
}

/// The same by wrk, which asks one server and cannot call several in turn.
fn compare_wrk(options: &Options, peers: &[Peer]) -> Result<Vec<serde_json::Value>, String> {
    println!("\n| clients, wrk, 64 bytes | functions | behind | requests/s | least to most |");
    println!("|---|---|---|---|---|");
    let rounds = if options.turns < 3 { 1 } else { 3 };
    let (input, mut rows) = (work::input(64), Vec::new());
    for clients in [4, 16].into_iter().filter(|c| options.clients.contains(c)) {
        let asked: Vec<(&Peer, usize)> = [1, 3]
            .into_iter()
            .flat_map(|functions| peers.iter().map(move |p| (p, functions)))
            .filter(|(p, functions)| *functions == 1 || p.kind == Kind::Chain)
            .collect();
        let mut rates: Vec<Result<Vec<f64>, String>> = vec![Ok(Vec::new()); asked.len()];
        for _ in 0..rounds {
            for ((peer, functions), rates) in asked.iter().zip(&mut rates) {
                let Ok(all) = rates else { continue };
                match wrk::rate(&peer.route(*functions, clients)[0], &input, clients) {
                    Ok(rate) => all.push(rate),
                    Err(why) => *rates = Err(why.replace('|', "/").trim().to_owned()),
                }
                stop::check()?;
            }
        }
        for ((peer, functions), rates) in asked.iter().zip(rates) {
            let start = format!("| {clients} | {functions} | {} |", peer.name);
            let mut row = json!({
                "wrk": true, "bytes": 64, "functions": functions, "clients": clients,
                "behind": peer.name,
            });
            match rates {
                Ok(mut all) => {
                    let [low, rate, high] = [0.0, 0.5, 1.0].map(|of| share(&mut all, of));
                    println!("{start} {rate:.0} | {low:.0} to {high:.0} |");
                    row["per_second"] = rate.into();
                }
                Err(why) => {
                    println!("{start} FAILED: {why} |");
                    row["failed"] = why.into();
                }
            }
            rows.push(row);
        }
    }
    Ok(rows)
}

/// wasmtime alone, without HTTP.
fn in_process(wasm: &str, options: &Options) -> Result<Vec<serde_json::Value>, String> {
    let mut rows = Vec::new();
    println!("\n| bytes | functions | wasmtime in one process, without HTTP, µs |");
    println!("|---|---|---|");
    for &len in &options.bytes {
        for functions in [1, 3] {
            stop::check()?;
            let us = server::wasm_time(wasm, len, &STEPS[..functions])? / 1e3;
            println!("| {len} | {functions} | {us:.1} |");
            rows.push(json!({
                "bytes": len, "functions": functions,
                "behind": "wasmtime, in process", "p50_us": us,
            }));
        }
    }
    println!("\n| MiB | pages written | wasmtime, an instance that writes them, µs |");
    println!("|---|---|---|");
    let by_pages = [0, 1, 10, 100, 1_000, 10_000].map(|pages| (40, pages));
    let by_size = [1, 16, 64, 256, 1024].map(|mib| (mib, 10));
    for (mib, pages) in by_pages.into_iter().chain(by_size) {
        stop::check()?;
        let us = server::wasm_dirty(wasm, mib, pages)? / 1e3;
        println!("| {mib} | {pages} | {us:.1} |");
        rows.push(json!({
            "mib": mib, "pages": pages, "behind": "wasmtime, in process", "p50_us": us,
        }));
    }
    Ok(rows)
}

fn run(options: &Options) -> Result<serde_json::Value, String> {
    let [orchestrator, bare, library, wasm, node, python, wrk] = &options.programs[..] else {
        return Err("seven programs at most".into());
    };
    let lwc =
        |isolation| [Some(1), None].map(|workers| Server::lwc(orchestrator, isolation, workers));
    let steps = |program: &str, start: fn(&str, &str) -> Result<Server, String>| match program {
        "-" => vec![Err("not installed".to_owned())],
        _ => STEPS.map(|step| start(program, step)).into(),
    };
    let [of_one, of_all] = [lwc("chain"), lwc("invocation")];
    let known = [
        (
            "bare hyper, a static answer",
            Kind::Static,
            vec![Server::fixed(bare)],
        ),
        (
            BARE,
            Kind::Steps,
            STEPS.map(|step| Server::bare(bare, library, step)).into(),
        ),
        ("lwc, contexts reused", Kind::Chain, of_one.into()),
        (
            "lwc, rolled back after each invocation",
            Kind::Chain,
            of_all.into(),
        ),
        (
            "wasmtime, an instance for each request",
            Kind::Steps,
            steps(wasm, Server::wasm),
        ),
        (
            "Functions Framework for Node.js",
            Kind::Steps,
            steps(node, Server::node),
        ),
        (
            "CPython, gunicorn",
            Kind::Steps,
            steps(python, Server::python),
        ),
    ];
    let (mut peers, mut skipped) = (Vec::new(), Vec::new());
    for (name, kind, servers) in known {
        match servers.into_iter().collect::<Result<Vec<Server>, String>>() {
            Ok(servers) => peers.push(Peer {
                name,
                kind,
                servers,
            }),
            // These come with the repository: without them there is nothing to see.
            Err(why) if kind != Kind::Steps || name == BARE => {
                return Err(format!("{name}: {why}"));
            }
            Err(why) => {
                eprintln!("SKIPPED: {name}: {why}");
                skipped.push(format!("{name}: {why}"));
            }
        }
        stop::check()?;
    }
    println!(
        "| bytes | functions | clients | behind | chains/s | p50 µs | quartiles | p99 µs | \
         p99.9 µs | CPU µs a chain | MiB | chains/s ÷ bare's | p50 ÷ bare's |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut rows = Vec::new();
    for &len in &options.bytes {
        for functions in [1, 3] {
            for &clients in &options.clients {
                rows.extend(compare(options, &peers, (len, functions, clients))?);
            }
        }
    }
    if wrk == "-" {
        skipped.push("load from wrk: not installed".into());
    } else {
        rows.extend(compare_wrk(options, &peers)?);
    }
    if wasm != "-" {
        rows.extend(in_process(wasm, options)?);
    }
    for peer in &mut peers {
        for server in &mut peer.servers {
            server.check().map_err(|e| format!("{}: {e}", peer.name))?;
        }
    }
    for why in &skipped {
        println!("\nLeft out: {why}.");
    }
    Ok(json!({ "rows": rows, "skipped": skipped }))
}

fn main() -> ExitCode {
    stop::listen();
    let result = options().and_then(|options| {
        let found = run(&options)?;
        if let Some(path) = &options.json {
            let text = format!("{found:#}\n");
            std::fs::write(path, text).map_err(|e| format!("{path}: {e}"))?;
        }
        let rows = found["rows"].as_array().into_iter().flatten();
        match rows.filter(|r| r.get("failed").is_some()).count() {
            0 => Ok(()),
            n => Err(format!("{n} rows FAILED, see above")),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("peers: {e}");
            ExitCode::FAILURE
        }
    }
}
