//! Attacks on the wall between contexts of the process backend on Linux:
//! functions of `tests/hostile/wall.c` try to break it, and what others see of
//! that is nothing.
//!
//! Each attack is on a server of its own with one worker, so that whoever
//! attacks has everybody else at hand.

#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod environment;
mod kept;
mod outside;
mod replaced;

use common::home;
use common::server::{Response, Server};
use std::time::{Duration, Instant};

/// What an innocent's answer may take, whoever attacks: its own time is
/// milliseconds, and a machine may be busy.
const SOON: Duration = Duration::from_secs(8);

/// Functions and chains of the attacks.
fn file() -> String {
    let source = home().join("tests/hostile/wall.c");
    let source = source.display();
    let functions: String = [
        // Some attacks end by it.
        ("wall", "wall", "3s"),
        // Those that have to search first have the time.
        ("patient", "wall", "120s"),
        ("honest", "honest", "120s"),
        ("slow", "slow", "120s"),
        ("seeker", "seeker", "120s"),
        ("crash", "crash", "120s"),
    ]
    .iter()
    .map(|(name, handler, timeout)| {
        format!("[functions.{name}]\nsource = \"{source}\"\nhandler = \"{handler}\"\ntimeout = \"{timeout}\"\nmemory = \"64MiB\"\n")
    })
    .collect();
    let chains: String = [
        ("evil", "\"wall\"", "invocation"),
        ("good", "\"honest\"", "invocation"),
        ("kept", "\"wall\"", "chain"),
        ("searching", "\"patient\"", "invocation"),
        ("searchingkept", "\"patient\"", "chain"),
        ("two", "\"wall\", \"honest\"", "invocation"),
        ("long", "\"wall\", \"slow\"", "invocation"),
        ("twokept", "\"wall\", \"honest\"", "chain"),
        ("fails", "\"wall\", \"crash\"", "invocation"),
        ("seek", "\"seeker\"", "invocation"),
    ]
    .iter()
    .map(|(name, steps, isolation)| {
        format!(
            "[chains.{name}]\nsteps = [{steps}]\nisolation = \"{isolation}\"\nregion = \"64KiB\"\n"
        )
    })
    .collect();
    functions + &chains
}

/// The attacks are on the process backend.
fn here() -> bool {
    lwc::backend().unwrap() == lwc::Backend::Process
}

fn server(options: &[&str]) -> Server {
    let all = [&["--no-watch", "--timeout", "2m"][..], options].concat();
    Server::with(&file(), &all)
}

fn text(response: &Response) -> String {
    format!(
        "{} {}",
        response.status,
        String::from_utf8_lossy(&response.body)
    )
}

/// How many times workers were replaced.
fn restarts(server: &Server) -> f64 {
    server.metric("lwc_worker_restarts_total").unwrap_or(0.0)
}

/// Innocents answer, right and soon, and the attacker's next invocation too.
#[track_caller]
fn all_is_well(server: &Server, after: &str) {
    for (chain, input, answer) in [
        (
            "good",
            &b"input of an innocent"[..],
            "200 20 bytes, 0 changes",
        ),
        ("evil", b"ok", "200 fine"),
        ("two", b"ok", "200 4 bytes, 0 changes"),
        ("kept", b"ok", "200 fine"),
        ("twokept", b"ok", "200 4 bytes, 0 changes"),
        ("good", b"once more", "200 9 bytes, 0 changes"),
    ] {
        let begun = Instant::now();
        let response = server.post(chain, input);
        let took = begun.elapsed();
        let log = || server.log();
        assert_eq!(text(&response), answer, "{chain} after {after}: {}", log());
        assert!(took < SOON, "{chain} after {after}: {took:?}: {}", log());
    }
    let open = server.metric("lwc_circuit_open{chain=\"good\"}");
    assert!(
        open.unwrap_or(0.0) == 0.0,
        "blamed after {after}: {}",
        server.log()
    );
}
