//! Functions in several groups: each has workers of its own, and calls from one to
//! another go by the gateway. All functions do what their input says
//! (`tests/hostile/script.c`).

use crate::common::{Folder, home, orchestrator, text};
use crate::server::{Server, send};
use serde_json::{Value, json};

/// `top` calls `left` and `right`, `left` calls `deep` and `right`, `right` calls
/// `deep`; the groups of these, and their timeouts where they are other than 20 s.
fn file(groups: [&str; 4], isolation: &str, timeouts: &[(&str, &str)]) -> String {
    let script = home().join("tests/hostile/script.c");
    let functions = [
        ("top", r#"["left", "right"]"#),
        ("left", r#"["deep", "right"]"#),
        ("right", r#"["deep"]"#),
        ("deep", "[]"),
    ];
    let functions = functions.iter().zip(groups).map(|((name, calls), group)| {
        let own = timeouts.iter().find(|(f, _)| f == name);
        let timeout = own.map_or("20s", |(_, timeout)| timeout);
        format!(
            "[functions.{name}]\nsource = {script:?}\nhandler = \"script\"\ncalls = {calls}\ngroup = \"{group}\"\nends_request = {}\ntimeout = \"{timeout}\"\nmemory = \"64MiB\"\n",
            *name == "top",
        )
    });
    let functions: String = functions.collect();
    let told = format!(
        "[functions.cleanup]\nsource = {script:?}\nhandler = \"told\"\ngroup = \"{}\"\n",
        groups[0]
    );
    let chains = [
        "[workflows.tree]\nentry = \"top\"\n",
        "[workflows.told]\nentry = \"top\"\non_error = \"cleanup\"\n",
        "[chains.line]\nsteps = [\"top\", \"left\", \"top\"]\n",
        "[chains.other]\nsteps = [\"left\"]\n",
    ];
    let chains = chains.map(|c| format!("{c}isolation = \"{isolation}\"\nregion = \"64KiB\"\n"));
    functions + &told + &chains.concat()
}

/// As in one group; `left` apart; each function apart; as a circle.
const MERGED: [&str; 4] = ["a", "a", "a", "a"];
const GROUPS: [[&str; 4]; 3] = [
    ["a", "b", "a", "a"],
    ["a", "b", "c", "d"],
    ["a", "b", "b", "a"],
];

/// `b` calls nobody: it has the one worker that it is said to have.
const DOWNWARDS: [&str; 4] = ["a", "b", "b", "b"];

const SCRIPTS: [&str; 33] = [
    "say x",
    "call left {say hello}",
    "place left {say hello}",
    "call left {call deep {say one};call right {call deep {say two}}};call right {say three}",
    "start left {say a};start right {say b};start left {say c};finish 2;finish 0;finish 1",
    "start left {say a};finish 0;finish 0",
    "attr left x-one 1;call left {attrs};call left {attrs}",
    "call left {set x-two 2;type text/x-own;say t};say on",
    "call left {caller;call deep {caller};call right {call deep {caller}}};call right {caller};caller",
    "call left {count};call left {count};call right {count;call deep {count}};call left {call deep {count}}",
    "call left {stash secret};call left {loot};call right {loot}",
    "times 20 left {call deep {say x}}",
    "call left {fill 65000}",
    "call left {fill 65536}",
    "call left {fill 65537};say on",
    "call left {claim 70000};say on",
    "big left 65536;say on",
    "big left 65537;say on",
    "call left {fail 404 of mine};say on",
    "call left {say beside;set x-it 3;type text/x-err;fail 7 of mine};say on",
    "call left {crash};say on",
    "call left {call deep {crash};say handled};say on",
    "call left {must deep {crash}};say on",
    "call left {must deep {fail 9 below}};say on",
    "call left {must right {must deep {fail 9 below}}};say on",
    "call left {exit};say on",
    "call left {unhandled};say on",
    "call left {end;mayend};say on",
    "call right {spin 60000};say on",
    "call left {must right {spin 60000}};say on",
    "call deep {say x};say on",
    "call left {code 5};say on",
    "call left {call right {must deep {crash}};call deep {say again}};call right {say on}",
];

/// Whatever is said and goes wrong is as where all are in one worker.
#[test]
fn a_function_of_another_group_is_called_as_one_of_the_same() {
    for isolation in ["invocation", "chain"] {
        let timeouts = [("right", "300ms")];
        let merged = Server::with(&file(MERGED, isolation, &timeouts), &["--workers", "1"]);
        let grouped = GROUPS
            .map(|groups| Server::with(&file(groups, isolation, &timeouts), &["--workers", "1"]));
        let said = |server: &Server, script: &str| {
            let r = server.post("tree", script.as_bytes());
            // Each has its own.
            let body = text(&r.body).replace(&r.headers["x-invocation-id"], "");
            (r.status, body)
        };
        let failing = [
            "must left {crash}",
            "must left {must deep {crash}}",
            "must left {must right {must deep {fail 404 gone}}}",
            "must left {must right {spin 60000}}",
            "must right {spin 60000}",
            "must left {claim 70000}",
            "must left {fail 409 mine}",
            "must left {fail 7 mine}",
            "call left {crash};fail 9 mine",
            "call left {must deep {crash}};unhandled",
        ];
        // With status, cause, function, path and words.
        let all = SCRIPTS.iter().chain(&failing);
        // One that is reused is another one where others call it.
        let keeps = |s: &&&str| s.contains("count") || s.contains("loot");
        for script in all.filter(|s| isolation == "invocation" || !keeps(s)) {
            let expected = said(&merged, script);
            assert!(expected.0 == 200 || failing.contains(script) || script.contains("65537"));
            for (groups, server) in GROUPS.iter().zip(&grouped) {
                let found = said(server, script);
                assert_eq!(found, expected, "{isolation}: {groups:?}: {script}");
            }
        }
        // A pipeline goes from group to group, and ends early where it may.
        for (script, says) in [
            ("then {then {say through}}", "through"),
            ("say x;end", "x"),
            ("then {call deep {say y};say say z}", ""),
            ("then {then {call left {call deep {say all}}}}", "all"),
        ] {
            let expected = merged.post("line", script.as_bytes());
            for (groups, server) in GROUPS.iter().zip(&grouped) {
                let r = server.post("line", script.as_bytes());
                let found = (r.status, text(&r.body));
                assert_eq!(
                    found.0, expected.status,
                    "{groups:?}: {script}: {}",
                    found.1
                );
                if r.status == 200 {
                    assert_eq!(found.1, text(&expected.body), "{groups:?}: {script}");
                    assert!(found.1.contains(says), "{script}: {}", found.1);
                }
            }
        }
        // The function of `on_error` is told of one of another group.
        let told = |server: &Server| {
            let r = server.post("told", b"must left {must deep {fail 7 told: {attrs}}}");
            (r.status, text(&r.body))
        };
        let expected = told(&merged);
        assert!(expected.1.contains(":failed-path=top"), "{expected:?}");
        for server in &grouped {
            assert_eq!(told(server), expected);
        }
    }
}

/// `a → b → a`, one worker each by the command line: all could wait for each other.
#[test]
fn groups_that_call_each_other_do_not_wait_for_ever() {
    let server = Server::with(&file(GROUPS[2], "invocation", &[]), &["--workers", "1"]);
    assert!(
        server.log().contains("group \"a\": 2 workers, not 1"),
        "{}",
        server.log()
    );
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let r = server.post(
                        "tree",
                        b"call left {call deep {say x}};call left {call right {call deep {say y}}}",
                    );
                    assert_eq!((r.status, text(&r.body)), (200, "xy".into()));
                    // Of the other group's own.
                    let r = server.post("other", b"call deep {say z}");
                    assert_eq!((r.status, text(&r.body)), (200, "z".into()));
                }
            });
        }
    });
}

/// The worker that a group of one has now.
fn worker_of(server: &Server, group: &str) -> i32 {
    let log = server.log();
    let has = format!("group {group:?} has worker ");
    let last = log.lines().rev().find_map(|l| l.split_once(&has));
    last.unwrap().1.trim().parse().unwrap()
}

/// A group whose worker does something else: its callers are told, in time and by name.
#[test]
fn a_call_that_finds_no_worker_fails_by_the_name_of_its_group() {
    let script = home().join("tests/hostile/script.c");
    let more = format!(
        "[functions.holder]\nsource = {script:?}\nhandler = \"script\"\ngroup = \"b\"\ntimeout = \"10m\"\n[chains.hold]\nsteps = [\"holder\"]\n"
    );
    let groups = file(DOWNWARDS, "invocation", &[("left", "400ms")]);
    let server = Server::with(&(groups + &more), &["--workers", "1", "--timeout", "10m"]);
    std::thread::scope(|scope| {
        let hold = scope.spawn(|| server.post("hold", b"spin 600000"));
        server.until("the worker of `b` is at work", || {
            server.metric("lwc_workers_busy") == Some(1.0)
        });
        let r = server.post("tree", b"call left {say x};say on");
        assert_eq!(
            text(&r.body),
            "[8 0 left: no worker of the group \"b\" was free for \"left\" in time (its timeout is 400ms)]on"
        );
        let r = server.post("tree", b"must left {say x}");
        assert_eq!(r.told(), (502, "remote".into()));
        assert_eq!(r.problem()["path"], json!(["top", "left"]));
        // Whoever asks for less waits less, and its caller is told while it has time; on a
        // busy machine that may be over by then.
        let headers = [("Request-Timeout", "0.2")];
        let r = server.request(
            "POST",
            "/chains/tree",
            &headers,
            b"call left {say x};say on",
        );
        if r.status == 200 {
            assert!(text(&r.body).starts_with("[8 0 left: no worker"), "{r:?}");
        } else {
            assert_eq!(r.told(), (504, "deadline".into()));
        }
        send(worker_of(&server, "b"), libc::SIGKILL);
        assert_eq!(hold.join().unwrap().told(), (502, "worker-lost".into()));
    });
    server.until("there is another", || {
        text(&server.post("tree", b"call left {say x};say on").body) == "xon"
    });
}

#[test]
fn a_worker_that_dies_at_a_call_is_its_callers_to_handle() {
    let groups = file(DOWNWARDS, "invocation", &[("top", "10m"), ("left", "10m")]);
    let server = Server::with(&groups, &["--workers", "1", "--timeout", "10m"]);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| server.post("tree", b"call left {spin 600000};say on"));
        server.until("both are at work", || {
            server.metric("lwc_workers_busy") == Some(2.0)
        });
        send(worker_of(&server, "b"), libc::SIGKILL);
        assert_eq!(
            text(&call.join().unwrap().body),
            "[8 0 left: the worker process ended while it ran this invocation]on"
        );
    });
    // Its caller's worker has done nothing wrong, and is the same.
    assert_eq!(server.log().matches("it is replaced").count(), 1);
}

/// Of all workers together a request makes no more calls than in one: there and here,
/// and here after there.
#[test]
fn calls_in_all_groups_are_counted_together() {
    let own = ["top", "left", "right", "deep"].map(|f| (f, "10m"));
    let options = ["--workers", "1", "--timeout", "10m"];
    let server = Server::with(&file(GROUPS[0], "chain", &own), &options);
    for input in [
        &b"times 2 left {times 5000 deep {say x}}"[..],
        b"times 1 left {times 9980 deep {say x}};times 20 right {say x}",
    ] {
        let r = server.post("tree", input);
        assert_eq!(r.told(), (500, "too-many-calls".into()), "{}", r.problem());
    }
    let r = server.post("tree", b"times 3 left {times 2 deep {say x}}");
    assert_eq!((r.status, text(&r.body)), (200, "3;2;x".into()));
}

/// A function's words have the whole path, and so have figures their edges.
#[test]
fn what_is_seen_of_a_call_is_the_same_in_any_group() {
    let server = Server::with(&file(GROUPS[1], "invocation", &[]), &["--workers", "1"]);
    let r = server.post(
        "tree",
        b"note at the top;call left {call deep {note down there};call right {call deep {crash}}}",
    );
    assert_eq!(r.status, 200);
    let id = &r.headers["x-invocation-id"];
    for (path, words) in [("top", "at the top"), ("top → left → deep", "down there")] {
        let line = format!("{path} [{id}]: {words}");
        server.until(&line, || server.log().contains(&line));
    }
    let calls = |caller: &str, callee: &str, outcome: &str| {
        let labels = format!("chain=\"tree\",caller={caller:?},callee={callee:?}");
        let took = server.metric(&format!("lwc_call_duration_seconds_count{{{labels}}}"));
        let metric = format!("lwc_calls_total{{{labels},outcome={outcome:?}}}");
        (took.unwrap(), server.metric(&metric).unwrap())
    };
    assert_eq!(calls("top", "left", "answered"), (1.0, 1.0));
    assert_eq!(calls("left", "deep", "answered"), (1.0, 1.0));
    assert_eq!(calls("left", "right", "answered"), (1.0, 1.0));
    assert_eq!(calls("right", "deep", "crash"), (1.0, 1.0));
    assert_eq!(calls("top", "right", "answered"), (0.0, 0.0));
}

/// A request that has begun has all that it calls served, by the file as it was.
#[test]
fn a_request_outlives_the_file_that_it_began_with() {
    let before = file(DOWNWARDS, "invocation", &[("top", "10m"), ("left", "10m")]);
    let options = ["--workers", "1", "--no-watch", "--timeout", "10m"];
    let mut server = Server::with(&before, &options);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            server.post(
                "tree",
                b"call left {spin 5000;call deep {say served}};call left {say again}",
            )
        });
        server.until("both are at work", || {
            server.metric("lwc_workers_busy") == Some(2.0)
        });
        // There is no `left` any more, and no group `b`.
        let script = home().join("tests/hostile/script.c");
        let after = format!(
            "[functions.top]\nsource = {script:?}\nhandler = \"script\"\n[workflows.tree]\nentry = \"top\"\n"
        );
        server.folder.write("chain.toml", after);
        server.signal(libc::SIGHUP);
        server.until("it is read", || {
            server.metric("lwc_reloads_total{result=\"ok\"}") == Some(1.0)
        });
        let r = server.post("tree", b"call left {say x};say new");
        assert!(text(&r.body).ends_with("]new"), "{}", text(&r.body));
        let r = slow.join().unwrap();
        assert_eq!((r.status, text(&r.body)), (200, "servedagain".into()));
    });
    // The old ones go when it is over.
    server.until("they have ended", || {
        server.log().matches("has ended: no more work").count() == 2
    });
    server.signal(libc::SIGTERM);
    assert!(server.wait().success());
}

/// What a group's workers have is tried, group by group.
#[test]
fn an_audit_tries_each_group() {
    let script = home().join("tests/hostile/script.c");
    let more = format!(
        "[functions.keeper]\nsource = {script:?}\nhandler = \"script\"\ngroup = \"b\"\nsecrets = {{ KEY = {{ env = \"GROUPS_TEST_KEY\" }} }}\n[chains.keeps]\nsteps = [\"keeper\"]\n"
    );
    let folder = Folder::new(&(file(GROUPS[0], "invocation", &[]) + &more));
    let run = |args: &[&str]| {
        let out = orchestrator()
            .arg(args[0])
            .arg(folder.path("chain.toml"))
            .args(&args[1..])
            .env("GROUPS_TEST_KEY", "0123456789abcdef0123456789abcdef")
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout)
    };
    let found: Value = serde_json::from_str(&run(&["audit", "--json"])).unwrap();
    assert_eq!(found["holds"], true);
    let chains = found["chains"].as_array().unwrap();
    let named = |group: &str, chain: &str| {
        let mut all = chains.iter();
        let it = all.find(|c| c["group"] == group && c["chain"] == chain);
        it.unwrap_or_else(|| panic!("no {chain} of {group}: {found}"))
    };
    let rows = |matrix: &Value| -> Vec<String> {
        let rows = matrix["rows"].as_array().unwrap().iter();
        rows.map(|r| r["context"].as_str().unwrap().to_owned())
            .collect()
    };
    let tree = named("a", "tree");
    assert_eq!(rows(tree), ["root", "1:top", "2:right", "3:deep"]);
    let left = named("b", "tree/calls/left");
    assert_eq!(rows(left), ["root", "1:left"]);
    let cell = |matrix: &Value, row: usize, resource: &str| {
        let mut cells = matrix["rows"][row]["cells"].as_array().unwrap().iter();
        let cell = cells.find(|c| c["resource"] == resource);
        let cell = cell.unwrap_or_else(|| panic!("no {resource}: {matrix}"));
        cell["reached"].as_str().unwrap().to_owned()
    };
    // A secret of the other group is looked for, and nowhere.
    for row in 0..4 {
        assert_eq!(cell(tree, row, "secret keeper.KEY"), "-");
    }
    let keeps = named("b", "keeps");
    assert_eq!(cell(keeps, 1, "secret keeper.KEY"), "r");
    assert_eq!(cell(keeps, 0, "secret keeper.KEY"), "-");
    assert_eq!(cell(left, 1, "secret keeper.KEY"), "-");
    // Nor is any other function called than those that are granted.
    for (matrix, row) in [(tree, 1), (tree, 2), (tree, 3), (left, 1)] {
        assert_eq!(cell(matrix, row, "calls beyond"), "0");
    }
    let root = ["arguments top>left", "reply top>left"].map(|r| cell(tree, 0, r));
    assert_eq!(root, ["r", "rw"]);
    let shown = run(&["audit"]);
    let title = "chain tree/calls/left, group b (";
    assert!(shown.contains(title), "{shown}");
}

#[test]
fn a_plan_shows_where_groups_end() {
    let folder = Folder::new(&file(GROUPS[0], "invocation", &[]));
    let run = |args: &[&str]| {
        let out = orchestrator()
            .arg("check")
            .arg(folder.path("chain.toml"))
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout)
    };
    let shown = run(&[]);
    for line in [
        "left, in group b: arguments top rw, root r; reply root rw, top r; there arguments root rw, left r; reply left rw, root r",
        "right (its calls are above), in group a: arguments left rw, root r; reply root rw, left r; there arguments root rw, right r; reply right rw, root r",
        "deep: arguments right rw, deep r; reply deep rw, right r",
        "  region 1: top writes, root reads; in group b: root writes, left reads",
        "group a: cleanup, deep, right, top\ngroup b: left\n",
    ] {
        assert!(shown.contains(line), "no {line:?} in {shown}");
    }
    let plan: Value = serde_json::from_str(&run(&["--json"])).unwrap();
    let mut chains = plan["chains"].as_array().unwrap().iter();
    let tree = chains.find(|c| c["name"] == "tree").unwrap();
    let contexts = tree["contexts"].as_array().unwrap().iter();
    let groups: Vec<_> = contexts.map(|c| &c["group"]).collect();
    assert_eq!(groups, ["a", "b", "a", "a"]);
    let calls = tree["calls"].as_array().unwrap().iter();
    let crossing = calls.map(|c| &c["group"]).filter(|g| !g.is_null());
    assert_eq!(crossing.collect::<Vec<_>>(), ["b", "a", "a"]);

    // All in one process: the answers are the same, and it is said.
    let out = folder.run(&["tree", "-v"], &["call left {call deep {say merged}}"]);
    assert_eq!(text(&out.stdout), "merged");
    let said = "its groups are not looked at";
    assert!(text(&out.stderr).contains(said), "{}", text(&out.stderr));
}
