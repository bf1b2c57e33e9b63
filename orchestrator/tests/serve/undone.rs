//! What an invocation did is undone off the requests' path.

use crate::server::Server;

fn rollbacks(server: &Server) -> [f64; 2] {
    ["in-place", "new-copy"].map(|way| {
        let name = format!("lwc_rollbacks_total{{way=\"{way}\"}}");
        server.metric(&name).unwrap()
    })
}

/// Whether contexts are rolled back in place here.
fn in_place(server: &Server) -> bool {
    let none = server.metric("lwc_rollback_info{mechanism=\"new-copy\"}");
    none.is_none()
}

/// Whoever would have to roll back is stopped meanwhile.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_does_not_wait_for_the_rollback_after_it() {
    use crate::common::server::{children, send};

    let server = Server::start(&["--workers", "1"]);
    let apart = lwc::backend().unwrap() == lwc::Backend::Process;
    if !apart || !in_place(&server) {
        return;
    }
    let idle = || server.until("idle", || server.metric("lwc_workers_busy") == Some(0.0));
    assert_eq!(server.post("pair", b"ab").body, b"BA");
    idle();
    let copies = server.metric("lwc_copies_total");
    assert_eq!(rollbacks(&server), [2.0, 0.0]);
    // The keepers: what the snapshots have made, and these alone make others.
    let contexts = children(server.workers()[0]);
    let keepers: Vec<i32> = contexts.into_iter().flat_map(children).collect();
    assert_eq!(keepers.len(), 5, "one a snapshot");
    keepers
        .iter()
        .for_each(|&keeper| send(keeper, libc::SIGSTOP));
    let first = server.post("pair", b"cd");
    std::thread::scope(|scope| {
        // It finds the worker busy with that, or what comes before.
        let next = scope.spawn(|| server.post("pair", b"ef"));
        keepers
            .iter()
            .for_each(|&keeper| send(keeper, libc::SIGCONT));
        assert_eq!(next.join().unwrap().body, b"FE");
    });
    assert_eq!(first.body, b"DC");
    idle();
    // One that was waited for would have been given up by the root, and a new
    // copy made.
    assert_eq!(rollbacks(&server), [6.0, 0.0], "{}", server.log());
    assert_eq!(server.metric("lwc_copies_total"), copies);
    let cold = server.metric("faas_coldstarts_total{chain=\"pair\"}");
    assert_eq!(cold, Some(0.0));
}

/// What a context did by itself is undone; one that is not trusted any more goes.
#[test]
fn one_that_misbehaved_is_made_anew_and_one_that_failed_is_not() {
    let server = Server::start(&["--workers", "1"]);
    let in_place = in_place(&server);
    let made = |chain: &str, body: &[u8], status: u16| {
        let before = (
            server.metric("lwc_copies_total").unwrap(),
            rollbacks(&server),
        );
        assert_eq!(server.post(chain, body).status, status, "{chain}");
        server.until("idle", || server.metric("lwc_workers_busy") == Some(0.0));
        let after = (
            server.metric("lwc_copies_total").unwrap(),
            rollbacks(&server),
        );
        let ways = [0, 1].map(|way| after.1[way] - before.1[way]);
        (after.0 - before.0, ways)
    };
    // Where nothing is rolled back in place each of these is by a new copy.
    let or_new = |copies: f64, in_place_: f64, new: f64| match in_place {
        true => (copies, [in_place_, new]),
        false => (copies + in_place_, [0.0, new + in_place_]),
    };
    assert_eq!(made("trial", b"ok", 200), or_new(0.0, 1.0, 0.0));
    assert_eq!(made("trial", b"error", 500), or_new(0.0, 1.0, 0.0));
    // It ended within its invocation: there is nothing to undo.
    assert_eq!(made("trial", b"abort", 502), (1.0, [0.0, 0.0]));
    // The first step is undone, the second overran and is ended.
    assert_eq!(made("hasty", b"pool", 504), or_new(1.0, 1.0, 0.0));
    // It answered, with what cannot be.
    assert_eq!(made("trial", b"claim too much", 502), (1.0, [0.0, 1.0]));
    assert_eq!(made("trial", b"ok", 200), or_new(0.0, 1.0, 0.0));
}

/// A worker and its contexts have one processor, that of a thread of the gateway, each
/// worker the next; or all that the gateway has.
#[cfg(target_os = "linux")]
#[test]
fn a_worker_and_its_contexts_have_one_processor() {
    use crate::common::server::children;

    let allowed = |pid: i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|l| l.starts_with("Cpus_allowed_list:"));
        line.unwrap().to_owned()
    };
    let threads_of = |gateway: u32| {
        let threads = std::fs::read_dir(format!("/proc/{gateway}/task")).unwrap();
        let ids = threads.map(|t| t.unwrap().file_name().into_string().unwrap());
        ids.map(|id| allowed(id.parse().unwrap()))
            .collect::<Vec<_>>()
    };
    // Those that make contexts, these, and what snapshots have made.
    let families = |server: &Server| {
        let worker = server.workers().into_iter();
        let family = |w: i32| {
            let contexts = children(w);
            let made = contexts.iter().flat_map(|&c| children(c));
            let all: Vec<i32> = made.chain(contexts.iter().copied()).collect();
            (allowed(w), all.into_iter().map(allowed).collect::<Vec<_>>())
        };
        worker.map(family).collect::<Vec<_>>()
    };
    let mine = allowed(std::process::id() as i32);
    let server = Server::start(&["--workers", "2"]);
    let apart = lwc::backend().unwrap() == lwc::Backend::Process;
    let found = families(&server);
    for (worker, contexts) in &found {
        assert!(
            contexts.iter().all(|c| c == worker),
            "{worker}: {contexts:?}"
        );
        assert!(!apart || !worker.contains(['-', ',']), "{worker}");
    }
    let plenty = mine.contains(['-', ',']);
    assert!(!plenty || found[0].0 != found[1].0, "{mine}: {found:?}");
    // Where nothing is rolled back, too.
    let script = crate::common::home().join("tests/hostile/script.c");
    let function = format!("source = {script:?}\nhandler = \"script\"\n");
    let two = |chain: &str| {
        format!("[functions.a]\n{function}[functions.b]\n{function}{chain}isolation = \"chain\"\n")
    };
    let tree = two("calls = [\"a\"]\n[workflows.t]\nentry = \"b\"\n");
    let line = two("[chains.t]\nsteps = [\"a\", \"b\"]\n");
    for file in [tree, line] {
        let server = Server::with(&file, &["--workers", "1"]);
        for (worker, contexts) in families(&server) {
            assert_eq!(worker == mine, !(apart && plenty), "{worker}: {file}");
            assert!(contexts.iter().all(|c| *c == worker), "{contexts:?}");
            // The thread of the gateway that hands it its requests.
            let threads = threads_of(server.pid());
            assert!(threads.contains(&worker), "{worker}: {threads:?}");
        }
    }
    let server = Server::start(&["--workers", "1", "--no-pin"]);
    for (worker, contexts) in families(&server) {
        assert_eq!(worker, mine);
        assert!(contexts.iter().all(|c| *c == mine), "{contexts:?}");
    }
}
