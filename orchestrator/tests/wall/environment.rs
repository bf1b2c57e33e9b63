//! A function finds no environment: not the orchestrator's, not another's
//! secrets, nowhere in its memory and in no file of /proc.

use super::common::server::Server;
use super::common::{Folder, home, orchestrator, text};
use super::here;
use std::process::Command;

/// In the value of each variable; `nosy` of wall.c looks for it.
const NEEDLE: &str = "ogPvelgR6MR";

fn file() -> String {
    let source = home().join("tests/hostile/wall.c");
    let source = source.display();
    format!(
        "[functions.nosy]\nsource = \"{source}\"\n\
         [functions.signer]\nsource = \"{source}\"\nhandler = \"honest\"\n\
         secrets = {{ KEY = {{ env = \"TRIAL_SIGNING_KEY\" }} }}\nenv = {{ TOLD = {{ from = \"A_LONG_ONE\" }} }}\n\
         [chains.looks]\nsteps = [\"nosy\"]\n\
         [chains.signs]\nsteps = [\"signer\", \"nosy\"]\n"
    )
}

fn with_variables(mut command: Command) -> Command {
    for (name, before) in [
        ("TRIAL_SIGNING_KEY", ""),
        // Read by `serve` alone, of a server that is not there.
        ("TRIAL_NATS_URL", "nats://admin:"),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("A_LONG_ONE", "x".repeat(5000).as_str()),
    ] {
        command.env(name, format!("{before}{NEEDLE}"));
    }
    command
}

/// What `nosy` says where it has found nothing: at the initialiser and in the
/// handler.
fn nothing(answer: &str) -> bool {
    ["init", "handler"].iter().all(|when| {
        answer.contains(&format!(
            "{when}: 0 variables, 0 in memory, 0 in /proc/self, 0 in the parent's; "
        ))
    })
}

#[test]
fn a_function_of_run_finds_no_environment() {
    if !here() {
        return;
    }
    let folder = Folder::new(&file());
    let input = folder.write("input", "x");
    for chain in ["looks", "signs"] {
        for variables in [
            &[][..],
            &["NATS_URL", "FUNCTION_TARGET", "OTEL_EXPORTER_OTLP_ENDPOINT"],
        ] {
            let mut command = with_variables(orchestrator());
            for variable in variables {
                command.env(variable, format!("http://user:{NEEDLE}@host"));
            }
            let out = command
                .arg("run")
                .arg(folder.path("chain.toml"))
                .arg(chain)
                .arg("--input")
                .arg(&input)
                .output()
                .unwrap();
            let said = text(&out.stdout);
            assert!(nothing(&said), "{chain}: {said} {}", text(&out.stderr));
        }
    }
}

#[test]
fn a_function_of_serve_finds_no_environment() {
    if !here() {
        return;
    }
    let folder = Folder::new(&file());
    let mut command = with_variables(orchestrator());
    command
        .args(["-v", "serve", "--listen", "127.0.0.1:0", "--workers", "1"])
        .arg(folder.path("chain.toml"))
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://user:{NEEDLE}@127.0.0.1:9"),
        );
    let server = Server::spawn(folder, command);
    for chain in ["looks", "signs"] {
        let said = text(&server.post(chain, b"x").body);
        assert!(nothing(&said), "{chain}: {said} {}", server.log());
    }
    // The gateway keeps its own, for workers that it starts later: there the
    // secret is still had.
    let before = server.workers();
    super::common::server::send(before[0], libc::SIGKILL);
    server.until("it is replaced", || {
        server.workers().iter().any(|p| !before.contains(p))
    });
    let said = text(&server.post("signs", b"x").body);
    assert!(nothing(&said), "{said} {}", server.log());
    let environ = |pid: i32| std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    for pid in server.workers() {
        let left = environ(pid);
        assert!(left.iter().all(|&b| b == 0), "{}", text(&left));
    }
}

#[test]
fn audit_and_its_functions_find_no_environment() {
    if !here() {
        return;
    }
    let folder = Folder::new(&file());
    let out = with_variables(orchestrator())
        .args(["audit", "--json"])
        .arg(folder.path("chain.toml"))
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stdout));
}
