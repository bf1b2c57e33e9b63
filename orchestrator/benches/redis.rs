//! A GET of Redis in a handler behind `serve`, beside the same handler in a plain HTTP
//! server that keeps its connections, in one run:
//!
//! ```sh
//! cargo bench -p lwc-orchestrator --bench redis
//! ```
//!
//! The server is `redis-server`, if there is one, else one of this benchmark's own that
//! answers each GET. The plain server has a thread and a connection to it for each of its
//! clients' connections, and nothing of what a gateway does. The alternatives take turns in
//! short rounds.

mod client;
#[path = "../tests/common/mod.rs"]
mod common;
mod functions;

use client::Connection;
use common::server::Server;
use functions::{call, compile};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lwc_function::abi::Handler;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 6;
const ROUND: Duration = Duration::from_millis(500);
/// What the key has.
const VALUE: &str = "The quick brown fox jumps over the lazy dog, and once more.....";

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match &args[..] {
        [_, mode, library] if mode == "--plain" => return serve_plain(library),
        [_, mode] if mode == "--answer" => return answer_gets(),
        // `cargo test --benches` only wants to know that it builds.
        _ if !args.iter().any(|a| a == "--bench") => return,
        _ => {}
    }
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("redis.so");
    compile("orchestrator/benches/redis.c", &library);
    let redis = Redis::start();
    println!("GET is answered by {}", redis.what);
    let plain = Process::start(&["--plain", library.to_str().unwrap()], Some(redis.port));
    let kept = lwc_server(redis.port, true, "invocation");
    let once = lwc_server(redis.port, false, "invocation");
    let reused = lwc_server(redis.port, false, "chain");
    let alternatives = [
        ("plain HTTP server, connections kept", plain.address, "/"),
        ("lwc, `keep = true`", kept.address, "/chains/get"),
        ("lwc, a connection each time", once.address, "/chains/get"),
        (
            "lwc, contexts and connections reused",
            reused.address,
            "/chains/get",
        ),
    ];
    println!("\n| clients | alternative | GETs/s | ratio | p50 | p99 |\n|--:|:--|--:|--:|--:|--:|");
    for clients in [1, 4, 16] {
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); alternatives.len()];
        for round in 0..=ROUNDS {
            for (i, (_, address, path)) in alternatives.iter().enumerate() {
                let measured = load(*address, path, clients);
                // The first round warms up.
                if round > 0 {
                    times[i].extend(measured);
                }
            }
        }
        let rate = |n: usize| n as f64 / (ROUND * ROUNDS).as_secs_f64();
        let base = rate(times[0].len());
        for ((name, ..), times) in alternatives.iter().zip(&mut times) {
            times.sort_unstable();
            let n = times.len();
            let at = |share: f64| times[((n as f64 * share) as usize).min(n - 1)].as_micros();
            println!(
                "| {clients} | {name} | {:.0} | {:.2} | {} µs | {} µs |",
                rate(n),
                rate(n) / base,
                at(0.5),
                at(0.99)
            );
        }
    }
}

/// Clients for one round, each asking as fast as it is answered.
fn load(address: SocketAddr, path: &str, clients: usize) -> Vec<Duration> {
    let client = || {
        let mut connection = Connection::to(address);
        let (mut times, end) = (Vec::new(), Instant::now() + ROUND);
        while Instant::now() < end {
            let begun = Instant::now();
            let answer = connection.post(path, b"key");
            times.push(begun.elapsed());
            assert_eq!(
                answer,
                VALUE.as_bytes(),
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
        times
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        clients
            .into_iter()
            .flat_map(|c| c.join().unwrap())
            .collect()
    })
}

fn lwc_server(port: u16, keep: bool, isolation: &str) -> Server {
    let source = common::home().join("orchestrator/benches/redis.c");
    let once = if keep || isolation == "chain" {
        ""
    } else {
        ", REDIS_ONCE = \"1\""
    };
    let file = format!(
        "[functions.key]\nhandler = \"get\"\nsource = {source:?}\nenv = {{ REDIS_PORT = \"{port}\"{once} }}\nconnect = [{{ to = \"127.0.0.1:{port}\", keep = {keep} }}]\n[chains.get]\nsteps = [\"key\"]\nregion = \"64KiB\"\nisolation = \"{isolation}\"\n"
    );
    // As many as there are clients: they wait for Redis.
    Server::with(&file, &["--no-watch", "--workers-max", "16"])
}

/// A process of this program, or another one.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// It tells its address.
    fn start(args: &[&str], redis: Option<u16>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        if let Some(port) = redis {
            command.env("REDIS_PORT", port.to_string());
        }
        let mut child = command.args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let address = line.trim().parse().unwrap();
        Self { child, address }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Redis {
    what: &'static str,
    port: u16,
    _process: Process,
}

impl Redis {
    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let real = Command::new("redis-server")
            .args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"])
            .args(["--port", &address.port().to_string()])
            .stdout(Stdio::null())
            .spawn();
        let Ok(child) = real else {
            let process = Process::start(&["--answer"], None);
            return Self {
                what: "this benchmark's own server (there is no redis-server)",
                port: process.address.port(),
                _process: process,
            };
        };
        let process = Process { child, address };
        let begun = Instant::now();
        let mut stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(e) => assert!(begun.elapsed() < Duration::from_secs(10), "{e}"),
            }
        };
        let set = format!(
            "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n${}\r\n{VALUE}\r\n",
            VALUE.len()
        );
        stream.write_all(set.as_bytes()).unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"+OK\r\n");
        Self {
            what: "redis-server",
            port: address.port(),
            _process: process,
        }
    }
}

/// As Redis would, whatever is asked for.
fn answer_gets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let answer = format!("${}\r\n{VALUE}\r\n", VALUE.len());
    for stream in listener.incoming().flatten() {
        let answer = answer.clone();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let _ = stream.get_ref().set_nodelay(true);
            let mut line = String::new();
            // Five lines each.
            for n in 1.. {
                line.clear();
                if !stream.read_line(&mut line).is_ok_and(|n| n > 0) {
                    return;
                }
                if n % 5 == 0 && stream.get_mut().write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
    }
}

/// A plain HTTP server around the handler, a thread for each connection.
fn serve_plain(library: &str) {
    // SAFETY: the library is this benchmark's own.
    let library = unsafe { libloading::Library::new(library) }.unwrap();
    // SAFETY: the header that compiled it declares handlers so.
    let handler = *unsafe { library.get::<Handler>(b"get") }.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                stream.set_nonblocking(true).unwrap();
                stream.set_nodelay(true).unwrap();
                let stream = tokio::net::TcpStream::from_std(stream).unwrap();
                let service = service_fn(move |request: Request<Incoming>| async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    let answer = Full::<Bytes>::from(call(handler, &body));
                    Ok::<_, hyper::Error>(Response::new(answer))
                });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        });
    }
}
