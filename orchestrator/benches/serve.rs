//! A chain of three C functions behind `serve`, beside the same three behind one
//! HTTP server process each, called in turn, in one run:
//!
//! ```sh
//! cargo bench -p lwc-orchestrator --bench serve
//! ```
//!
//! The alternatives take turns in short rounds, so that a noisy machine is noisy
//! for all of them. The servers of one function have no isolation from their
//! function, no queue, no deadline and no metrics; they are what hyper can do.

mod client;
#[path = "../tests/common/mod.rs"]
mod common;
mod functions;

use client::Connection;
use common::server::{Server, send};
use functions::{call, compile};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lwc_function::abi::Handler;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STEPS: [&str; 3] = ["upper", "reverse", "upper"];
const ROUNDS: usize = 6;
const ROUND: Duration = Duration::from_millis(500);
const STARTS: usize = 7;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, mode, library, symbol] = &args[..]
        && mode == "--function"
    {
        return serve_function(library, symbol);
    }
    // `cargo test --benches` only wants to know that it builds.
    if !args.iter().any(|a| a == "--bench") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("functions.so");
    compile("orchestrator/tests/serve/functions.c", &library);
    let servers = Separate::start(&library);
    let [fresh, reused] = ["invocation", "chain"].map(lwc_server);
    let alternatives: [(&str, Vec<(SocketAddr, String)>); 3] = [
        ("lwc, rolled back after each invocation", one(&fresh)),
        ("lwc, contexts reused", one(&reused)),
        ("one HTTP server process for each function", servers.route()),
    ];
    println!(
        "\n| bytes | clients | alternative | chains/s | p50 | p90 | p99 | chains/s, ratio |\n\
         |---|---|---|---|---|---|---|---|"
    );
    for (size, clients) in [(64, 1), (64, 4), (16 << 10, 1), (16 << 10, 4)] {
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); alternatives.len()];
        for round in 0..=ROUNDS {
            for (i, (_, route)) in alternatives.iter().enumerate() {
                let measured = load(route, size, clients);
                // The first round warms up.
                if round > 0 {
                    times[i].extend(measured);
                }
            }
        }
        let rate = |n: usize| n as f64 / (ROUND * ROUNDS as u32).as_secs_f64();
        let plain = rate(times[2].len());
        for ((name, _), times) in alternatives.iter().zip(&mut times) {
            times.sort_unstable();
            let n = times.len();
            let at = |share: f64| ms(times[((n as f64 * share) as usize).min(n - 1)]);
            println!(
                "| {size} | {clients} | {name} | {:.0} | {} | {} | {} | {:.2} |",
                rate(n),
                at(0.5),
                at(0.9),
                at(0.99),
                rate(n) / plain
            );
        }
    }
    drop(servers);
    first_requests(&library, &fresh);
}

fn ms(d: Duration) -> String {
    format!("{:.2} ms", d.as_secs_f64() * 1e3)
}

fn median(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    ms(times[times.len() / 2])
}

/// The first request after a start, after a crash, after a worker's death.
fn first_requests(library: &Path, server: &Server) {
    let ours = || {
        let begun = Instant::now();
        let server = lwc_server("invocation");
        let listening = begun.elapsed();
        let first = Instant::now();
        Connection::to(server.address).post("/chains/three", b"ab");
        (listening, first.elapsed())
    };
    let theirs = || {
        let begun = Instant::now();
        let servers = Separate::start(library);
        let listening = begun.elapsed();
        let first = Instant::now();
        for (address, path) in servers.route() {
            Connection::to(address).post(&path, b"ab");
        }
        (listening, first.elapsed())
    };
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..STARTS).map(|_| (ours(), theirs())).unzip();
    let mut connection = Connection::to(server.address);
    let mut timed = |path: &str, body: &[u8]| {
        let begun = Instant::now();
        connection.post(path, body);
        begun.elapsed()
    };
    let steady: Vec<_> = (0..100).map(|_| timed("/chains/three", b"ab")).collect();
    let after_crash = (0..STARTS)
        .map(|_| {
            timed("/chains/trial", b"null");
            timed("/chains/trial", b"ok")
        })
        .collect();
    let after_kill = (0..STARTS).map(|_| {
        for pid in server.workers() {
            send(pid, libc::SIGKILL);
        }
        timed("/chains/three", b"ab")
    });
    let after_kill: Vec<_> = after_kill.collect();
    let part = |all: &[(Duration, Duration)], second: bool| {
        median(all.iter().map(|t| if second { t.1 } else { t.0 }).collect())
    };
    println!(
        "\n| median of {STARTS} | lwc | three HTTP servers |\n|---|---|---|\n\
         | from exec to listening | {} | {} |\n| the first request then | {} | {} |\n\
         | any later request | {} | |\n| the next after a crash of its function | {} | |\n\
         | the next after all workers were killed | {} | |",
        part(&ours, false),
        part(&theirs, false),
        part(&ours, true),
        part(&theirs, true),
        median(steady),
        median(after_crash),
        median(after_kill),
    );
}

fn lwc_server(isolation: &str) -> Server {
    let chain = format!(
        "[chains.three]\nsteps = [\"{}\"]\nisolation = \"{isolation}\"\nregion = \"64KiB\"\n",
        STEPS.join("\", \"")
    );
    let options = ["--circuit", "0", "--no-watch"];
    Server::with(&common::server::chains(&chain), &options)
}

fn one(server: &Server) -> Vec<(SocketAddr, String)> {
    vec![(server.address, "/chains/three".into())]
}

/// Clients for one round, each asking as fast as it is answered.
fn load(route: &[(SocketAddr, String)], size: usize, clients: usize) -> Vec<Duration> {
    // The middle one turns it round.
    let input: Vec<u8> = (0..size).map(|i| b'a' + (i % 26) as u8).collect();
    let want: Vec<u8> = input.to_ascii_uppercase().into_iter().rev().collect();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let mut hops: Vec<_> = route
                        .iter()
                        .map(|(a, path)| (Connection::to(*a), path.as_str()))
                        .collect();
                    let (mut times, end) = (Vec::new(), Instant::now() + ROUND);
                    while Instant::now() < end {
                        let begun = Instant::now();
                        let mut message = input.clone();
                        for (connection, path) in &mut hops {
                            message = connection.post(path, &message);
                        }
                        times.push(begun.elapsed());
                        assert!(message == want);
                    }
                    times
                })
            })
            .collect();
        clients
            .into_iter()
            .flat_map(|c| c.join().unwrap())
            .collect()
    })
}

/// One server process for each function.
struct Separate(Vec<(Child, SocketAddr)>);

impl Separate {
    fn start(library: &Path) -> Self {
        let servers = STEPS.map(|symbol| {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .arg("--function")
                .arg(library)
                .arg(symbol)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let mut said = BufReader::new(child.stdout.take().unwrap());
            said.read_line(&mut line).unwrap();
            (child, line.trim().parse().unwrap())
        });
        Self(servers.into())
    }

    fn route(&self) -> Vec<(SocketAddr, String)> {
        self.0.iter().map(|(_, a)| (*a, "/".to_owned())).collect()
    }
}

impl Drop for Separate {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A plain HTTP server around one handler.
fn serve_function(library: &str, symbol: &str) {
    // SAFETY: the library is this benchmark's own.
    let library = unsafe { libloading::Library::new(library) }.unwrap();
    // SAFETY: the header that compiled it declares handlers so.
    let handler = *unsafe { library.get::<Handler>(symbol.as_bytes()) }.unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = stream.set_nodelay(true);
            let service = service_fn(move |request: Request<Incoming>| async move {
                let body = request.into_body().collect().await?.to_bytes();
                let answer = Full::<Bytes>::from(call(handler, &body));
                Ok::<_, hyper::Error>(Response::new(answer))
            });
            tokio::task::spawn_local(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
}
