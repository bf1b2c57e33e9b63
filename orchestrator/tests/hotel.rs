//! `examples/hotel` from end to end: its answers by contexts, by the same functions
//! without contexts, and by a computation of the client's own; and what may reach
//! what.

mod common;

use common::server::Server;
use common::{home, orchestrator, text};
use lwc_hotel::client::{Answer, check};
use lwc_hotel::data::Town;
use lwc_hotel::host::libraries;
use lwc_hotel::server::{Served, serve};
use lwc_hotel::{FUNCTIONS, WORKFLOWS};
use lwc_orchestrator::chain_file::load;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

/// Enough that every page is asked, and asked wrongly, and hotels are full.
const QUESTIONS: usize = 300;

fn file() -> PathBuf {
    home().join("examples/hotel/chain.toml")
}

#[test]
fn the_data_are_those_that_the_seed_gives() {
    for (name, wanted) in Town::new().files() {
        let path = home().join("examples/hotel/data").join(name);
        let there = std::fs::read_to_string(&path).unwrap();
        assert!(there == wanted, "{name}: run `lwc-hotel data`");
    }
}

/// Programs without contexts have a list of their own of who calls whom.
#[test]
fn the_file_and_the_programs_without_contexts_have_one_tree() {
    let (file, _) = load(&file()).unwrap();
    let in_file: BTreeMap<&str, Vec<&str>> = file
        .functions
        .iter()
        .map(|(name, f)| (name.as_str(), f.calls.iter().map(|c| c.as_str()).collect()))
        .collect();
    let ours = FUNCTIONS.iter().map(|f| (f.name, f.calls.to_vec()));
    assert_eq!(in_file, ours.collect());
    let entries: Vec<(&str, String)> = file
        .chains
        .iter()
        .map(|(name, chain)| (name.as_str(), chain.steps[0].to_string()))
        .collect();
    let ours = WORKFLOWS.iter().map(|(name, f)| (*name, (*f).to_owned()));
    assert_eq!(entries, ours.collect::<Vec<_>>());
}

/// The same functions, where nothing is between them, and where HTTP is, by threads of
/// this process.
fn without_contexts(folder: &Path) -> [(&'static str, SocketAddr); 2] {
    let libraries = libraries(folder);
    let start = |served: Served| {
        let (said, address) = mpsc::channel();
        let libraries = libraries.clone();
        std::thread::spawn(move || {
            let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
            serve(&libraries, served, any_port, |a| said.send(a).unwrap()).unwrap();
        });
        address.recv().unwrap()
    };
    let mut each = BTreeMap::new();
    for f in FUNCTIONS {
        let callees = f.calls.iter().map(|&c| (c.to_owned(), each[c]));
        let address = start(Served::One(f.name, callees.collect()));
        each.insert(f.name, address);
    }
    [
        ("merged", start(Served::All)),
        ("one server each", each["frontend"]),
    ]
}

#[test]
fn all_ways_of_running_it_answer_as_the_client_computes() {
    let folder = tempfile::tempdir().unwrap();
    lwc_hotel::build(folder.path()).unwrap();
    let servers = ["invocation", "chain"].map(|isolation| {
        let file = lwc_hotel::chain_file(isolation);
        (isolation, Server::with(&file, &["--no-watch"]))
    });
    let ours = servers.iter().map(|(name, server)| (*name, server.address));
    let all: Vec<(&str, SocketAddr)> = without_contexts(folder.path())
        .into_iter()
        .chain(ours)
        .collect();
    let mut answers: Vec<Vec<Answer>> = Vec::new();
    for (name, address) in &all {
        let came = check(*address, "/chains/hotel", QUESTIONS);
        answers.push(came.unwrap_or_else(|e| panic!("{name}: {e}")));
    }
    // Byte for byte; errors are told by each server's own words.
    let bodies = |answers: &[Answer]| -> Vec<Answer> {
        let good = answers.iter().filter(|(status, _)| *status == 200);
        good.cloned().collect()
    };
    let first = bodies(&answers[0]);
    assert!(first.len() > QUESTIONS / 2);
    for ((name, _), answers) in all.iter().zip(&answers) {
        assert!(bodies(answers) == first, "{name}");
    }
    for status in [400, 401, 404, 409] {
        let there = |(s, _): &Answer| *s == status;
        assert!(answers[0].iter().any(there), "nobody was told {status}");
    }
    // Who failed is told with the way to it.
    for (_, server) in &servers {
        let form =
            "page=reserve&name=ada1&password=no&hotel=7&in=2027-03-05&out=2027-03-08&guests=2";
        let refused = server.post("hotel", form.as_bytes());
        assert_eq!(refused.told(), (401, "error".into()));
        let path = &refused.problem()["path"];
        assert_eq!(*path, serde_json::json!(["frontend", "reserve", "login"]));
    }
}

#[test]
fn check_and_audit_find_nothing_wrong() {
    let checked = orchestrator().arg("check").arg(file()).output().unwrap();
    let shown = text(&checked.stdout) + &text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(0), "{shown}");
    for line in [
        "  search calls",
        "  ├─ nearby: arguments search rw, nearby r; reply nearby rw, search r",
        "  │  ├─ geo: arguments nearby rw, geo r; reply geo rw, nearby r",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line}: {shown}");
    }
    let audited = orchestrator().arg("audit").arg(file()).output().unwrap();
    let shown = text(&audited.stdout) + &text(&audited.stderr);
    assert_eq!(audited.status.code(), Some(0), "{shown}");
    let held = "every attempt beyond the grants failed";
    assert_eq!(shown.lines().filter(|l| *l == held).count(), 2, "{shown}");
}
