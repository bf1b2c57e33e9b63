//! The same work behind lwc and behind its peers, in one run: see README.md.
//!
//! ```sh
//! peers [--quick] [--json FILE] ORCHESTRATOR WASM [NODE_MODULES [GUNICORN]]
//! ```
//!
//! Programs are given by path; `-` leaves one out. Turns are short and taken
//! one after the other, so that a noisy machine is noisy for all.

mod client;
mod server;
mod stop;
mod work;

use client::Client;
use server::Server;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const STEPS: [&str; 3] = ["upper", "reverse", "upper"];

/// Starts a program as the server of a function.
type Start = fn(&str, &str) -> Result<Server, String>;

/// What answers to a chain: one URL, or one for each function.
struct Peer {
    name: &'static str,
    /// For chains of one and of three.
    routes: [Vec<client::Target>; 2],
    servers: Vec<Server>,
}

struct Options {
    turns: usize,
    turn: Duration,
    json: Option<String>,
    programs: Vec<String>,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        turns: 15,
        turn: Duration::from_millis(200),
        json: None,
        programs: Vec::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => (options.turns, options.turn) = (2, Duration::from_millis(50)),
            "--json" => options.json = Some(args.next().ok_or("--json: which file?")?),
            _ => options.programs.push(arg),
        }
    }
    options.programs.resize(4, "-".into());
    Ok(options)
}

/// lwc: the whole chain behind one URL.
fn lwc(program: &str, isolation: &'static str) -> Result<Peer, String> {
    let server = Server::lwc(program, isolation)?;
    let route = |chain: &str| vec![server.target(&format!("/chains/{chain}"))];
    Ok(Peer {
        name: match isolation {
            "chain" => "lwc, contexts reused",
            _ => "lwc, rolled back after each invocation",
        },
        routes: [route("one"), route("three")],
        servers: vec![server],
    })
}

/// A server for each function, called in turn by the client.
fn separate(
    name: &'static str,
    start: impl Fn(&str) -> Result<Server, String>,
) -> Result<Peer, String> {
    let servers = ["upper", "reverse"].map(start);
    let servers = Vec::from(servers)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let (upper, reverse) = (servers[0].target("/"), servers[1].target("/"));
    Ok(Peer {
        name,
        routes: [vec![upper.clone()], vec![upper.clone(), reverse, upper]],
        servers,
    })
}

/// Latencies of one turn, one client.
fn turn(route: &[client::Target], input: &[u8], limit: Duration) -> Result<Vec<f64>, String> {
    let mut clients: Vec<Client> = Vec::new();
    for target in route {
        // A server has one connection, however often it is in the chain.
        if !clients.iter().any(|c| c.address() == target.address) {
            clients.push(Client::connect(target)?);
        }
    }
    let right = work::expected(&STEPS[..if route_is_long(route) { 3 } else { 1 }], input);
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < limit || times.is_empty() {
        stop::check()?;
        let began = Instant::now();
        let mut bytes = input.to_vec();
        for target in route {
            let client = clients
                .iter_mut()
                .find(|c| c.address() == target.address)
                .ok_or("no connection")?;
            bytes = client.post(&target.path, &bytes)?;
        }
        times.push(began.elapsed().as_secs_f64() * 1e6);
        if bytes != right {
            return Err(format!("{}: a wrong answer", route[0].path));
        }
    }
    Ok(times)
}

/// The value that this share of them is below; sorts them.
fn share(times: &mut [f64], share: f64) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[((times.len() as f64 * share) as usize).min(times.len() - 1)]
}

fn route_is_long(route: &[client::Target]) -> bool {
    route.len() == 3 || route[0].path.ends_with("/three")
}

fn run(options: &Options) -> Result<serde_json::Value, String> {
    let [orchestrator, wasm, node, python] = &options.programs[..] else {
        return Err("four programs at most".into());
    };
    let mut peers = vec![
        lwc(orchestrator, "chain")?,
        lwc(orchestrator, "invocation")?,
    ];
    let mut skipped = Vec::new();
    let known: [(&str, &String, Start); 3] = [
        ("wasmtime, an instance for each request", wasm, Server::wasm),
        ("Functions Framework for Node.js", node, Server::node),
        ("CPython, gunicorn", python, Server::python),
    ];
    for (name, program, start) in known {
        let peer = match program.as_str() {
            "-" => Err("not installed".into()),
            _ => separate(name, |function| start(program, function)),
        };
        stop::check()?;
        match peer {
            Ok(peer) => peers.push(peer),
            Err(why) => {
                eprintln!("SKIPPED: {name}: {why}");
                skipped.push(format!("{name}: {why}"));
            }
        }
    }
    let mut rows = Vec::new();
    println!(
        "| bytes | functions | behind | chains/s | p50 µs | quartiles | p99 µs | p50 ÷ lwc's, reused |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for len in [64usize, 16 << 10] {
        let input = work::input(len);
        for (which, functions) in [1, 3].into_iter().enumerate() {
            let mut all: Vec<Vec<f64>> = vec![Vec::new(); peers.len()];
            let mut medians = all.clone();
            // The first turn warms up.
            for n in 0..=options.turns {
                for ((times, medians), peer) in all.iter_mut().zip(&mut medians).zip(&peers) {
                    let mut took = turn(&peer.routes[which], &input, options.turn)
                        .map_err(|e| format!("{}: {e}", peer.name))?;
                    if n > 0 {
                        medians.push(share(&mut took, 0.5));
                        times.extend(took);
                    }
                }
            }
            let mut base = None;
            for ((times, medians), peer) in all.iter_mut().zip(&mut medians).zip(&peers) {
                let rate = 1e6 * times.len() as f64 / times.iter().sum::<f64>();
                let (p50, p99) = (share(times, 0.5), share(times, 0.99));
                let (low, high) = (share(medians, 0.25), share(medians, 0.75));
                let ratio = p50 / *base.get_or_insert(p50);
                println!(
                    "| {len} | {functions} | {} | {rate:.0} | {p50:.0} | {low:.0} to {high:.0} | {p99:.0} | {ratio:.2} |",
                    peer.name
                );
                rows.push(serde_json::json!({
                    "bytes": len, "functions": functions, "behind": peer.name,
                    "per_second": rate, "p50_us": p50,
                    "p50_quartiles_us": [low, high], "p99_us": p99, "ratio": ratio,
                }));
            }
        }
    }
    if wasm != "-" {
        println!("\n| bytes | functions | wasmtime in one process, without HTTP, µs |");
        println!("|---|---|---|");
        for len in [64, 16 << 10] {
            for functions in [1, 3] {
                stop::check()?;
                let us = server::wasm_time(wasm, len, &STEPS[..functions])? / 1e3;
                println!("| {len} | {functions} | {us:.1} |");
                rows.push(serde_json::json!({
                    "bytes": len, "functions": functions,
                    "behind": "wasmtime, in process", "p50_us": us,
                }));
            }
        }
    }
    if wasm != "-" {
        println!("\n| MiB | pages written | wasmtime, an instance that writes them, µs |");
        println!("|---|---|---|");
        let by_pages = [0, 1, 10, 100, 1_000, 10_000].map(|pages| (40, pages));
        let by_size = [1, 16, 64, 256, 1024].map(|mib| (mib, 10));
        for (mib, pages) in by_pages.into_iter().chain(by_size) {
            stop::check()?;
            let us = server::wasm_dirty(wasm, mib, pages)? / 1e3;
            println!("| {mib} | {pages} | {us:.1} |");
            rows.push(serde_json::json!({
                "mib": mib, "pages": pages, "behind": "wasmtime, in process", "p50_us": us,
            }));
        }
    }
    for peer in &mut peers {
        for server in &mut peer.servers {
            server.check().map_err(|e| format!("{}: {e}", peer.name))?;
        }
    }
    for why in &skipped {
        println!("\nLeft out: {why}.");
    }
    Ok(serde_json::json!({ "rows": rows, "skipped": skipped }))
}

fn main() -> ExitCode {
    stop::listen();
    let result = options().and_then(|options| {
        let found = run(&options)?;
        if let Some(path) = &options.json {
            let text = format!("{found:#}\n");
            std::fs::write(path, text).map_err(|e| format!("{path}: {e}"))?;
        }
        Ok(())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("peers: {e}");
            ExitCode::FAILURE
        }
    }
}
