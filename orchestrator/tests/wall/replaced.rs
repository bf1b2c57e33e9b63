//! A worker that cannot serve is replaced, and no function is blamed for it.

use super::common::server::{Server, children as contexts, send};
use super::{all_is_well, here, restarts, server, text};

fn open_circuits(server: &Server) -> usize {
    let metrics = server.get("/metrics");
    let metrics = String::from_utf8(metrics.body).unwrap();
    metrics
        .lines()
        .filter(|l| l.starts_with("lwc_circuit_open") && !l.ends_with(" 0"))
        .count()
}

/// One that dies in a request has crashed; what is asked about here is one that is
/// not there.
fn until_dead(server: &Server, pid: i32) {
    server.until("it dies", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        let rest = stat
            .ok()
            .and_then(|s| Some(s.rsplit_once(") ")?.1.to_owned()));
        rest.is_none_or(|rest| rest.starts_with(['Z', 'X']))
    });
}

/// Each context of a worker in turn, snapshots and copies: whoever comes upon
/// it may get an error of the backend, never one that blames a function, and
/// those after it are served.
#[test]
fn a_worker_whose_contexts_die_is_replaced() {
    if !here() {
        return;
    }
    let server = server(&["--workers", "1", "--circuit", "3"]);
    let first = server.workers()[0];
    let all = contexts(first).len();
    for n in (0..all).step_by(3) {
        let workers = server.workers();
        let list = contexts(workers[0]);
        let one = list[n.min(list.len() - 1)];
        send(one, libc::SIGKILL);
        until_dead(&server, one);
        let mut errors = 0;
        for _ in 0..3 {
            for chain in ["evil", "good", "kept", "two", "twokept", "seek"] {
                let input: &[u8] = if chain == "seek" { b"find" } else { b"ok" };
                let response = server.post(chain, input);
                if response.status != 200 {
                    let problem = response.problem();
                    // Of a copy that is kept it is said that it is no more.
                    let kept = problem["detail"].as_str().unwrap();
                    let kept = kept.contains("while nobody waited for it");
                    assert!(
                        problem["cause"] == "backend" || kept,
                        "{problem} {}",
                        server.log()
                    );
                    errors += 1;
                }
            }
        }
        assert!(errors <= 2, "{errors} errors: {}", server.log());
        assert_eq!(open_circuits(&server), 0);
    }
    assert!(restarts(&server) >= 1.0, "{}", server.log());
    all_is_well(&server, "all of them died");
}

/// No descriptors are left to the worker: it can make no copies.
#[test]
fn a_worker_that_can_make_no_copies_is_replaced() {
    if !here() {
        return;
    }
    let server = server(&["--workers", "1", "--circuit", "1"]);
    assert_eq!(text(&server.post("good", b"x")), "200 1 bytes, 0 changes");
    let worker = server.workers()[0];
    let none = libc::rlimit {
        rlim_cur: 3,
        rlim_max: 3,
    };
    // SAFETY: prlimit reads the struct; the process is one the test made.
    let rc = unsafe {
        libc::prlimit(
            worker,
            libc::RLIMIT_NOFILE,
            &raw const none,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(rc, 0);
    // Copies that are rolled back are made once: those that there are go.
    let all = contexts(worker);
    let copies = &all[all.len() / 2..];
    copies.iter().for_each(|&copy| send(copy, libc::SIGKILL));
    copies.iter().for_each(|&copy| until_dead(&server, copy));
    let mut errors = 0;
    for _ in 0..6 {
        for chain in ["good", "two"] {
            let response = server.post(chain, b"ok");
            if response.status != 200 {
                let problem = response.problem();
                assert_eq!(problem["cause"], "backend", "{problem} {}", server.log());
                errors += 1;
            }
        }
    }
    assert!(errors <= 2, "{errors} errors: {}", server.log());
    assert_eq!(restarts(&server), 1.0, "{}", server.log());
    assert!(!server.workers().contains(&worker));
    assert_eq!(open_circuits(&server), 0);
    all_is_well(&server, "it had no descriptors");
}
