//! What operators see: metrics, the log, the status.

use crate::common::{Folder, orchestrator};
use crate::server::{Server, chains, with_tree};

#[test]
fn metrics_count_what_contexts_did() {
    let server = Server::start(&["--workers", "1"]);
    let metric = |name: &str| server.metric(name);
    let in_place = metric("lwc_rollback_info{mechanism=\"new-copy\"}").is_none();
    let metric = |name: &str| metric(name).unwrap();
    // Five steps in three chains: a snapshot and a copy each, made ahead.
    assert_eq!(metric("lwc_contexts"), 10.0);
    assert_eq!(metric("lwc_copies_total"), 5.0);
    assert!(metric("lwc_contexts_private_bytes") > 4096.0);
    let share = server.metric("lwc_contexts_pss_bytes");
    match lwc::backend().unwrap() {
        // Each has a page of its own at least.
        lwc::Backend::Process if cfg!(target_os = "linux") => {
            assert!(share.unwrap() > 10.0 * 4096.0);
        }
        _ => assert_eq!(share, None),
    }
    let backend = lwc::backend().unwrap();
    assert_eq!(
        metric(&format!("lwc_backend_info{{backend=\"{backend}\"}}")),
        1.0
    );
    let switches = metric("lwc_switches_total");
    for _ in 0..3 {
        assert_eq!(server.post("pair", b"ab").status, 200);
    }
    assert_eq!(server.post("trial", b"abort").status, 502);
    // Where copies are rolled back in place, as here where that can be done, one
    // is made anew after the crash alone, else two after each of the three as well.
    let copies = if in_place { 6.0 } else { 12.0 };
    server.until("the worker's next words", || {
        metric("lwc_copies_total") == copies && metric("lwc_contexts") == 10.0
    });
    // Two steps and two rollbacks or copies for each of the three, one and one for
    // the crash, and a new copy's snapshot.
    let snapshot = if in_place { 1.0 } else { 0.0 };
    assert_eq!(metric("lwc_switches_total") - switches, 14.0 + snapshot);
    let way = |name: &str, way: &str| metric(&format!("{name}{{way=\"{way}\"}}"));
    let [this, other] = match in_place {
        true => ["in-place", "new-copy"],
        false => ["new-copy", "in-place"],
    };
    for name in ["lwc_rollbacks_total", "lwc_rollback_duration_seconds_count"] {
        assert_eq!(way(name, this), 6.0, "a crash is none");
        assert_eq!(way(name, other), 0.0);
    }
    assert!(way("lwc_rollback_duration_seconds_sum", this) > 0.0);
    assert_eq!(way("lwc_rollback_duration_seconds_sum", other), 0.0);
    for (step, function) in [(1, "upper"), (2, "reverse")] {
        let pages = |what: &str| {
            let step = format!("chain=\"pair\",step=\"{step}\",function=\"{function}\"");
            metric(&format!("lwc_rollback_pages_{what}{{{step}}}"))
        };
        // Nothing runs without its stack.
        assert_eq!(pages("count"), if in_place { 3.0 } else { 0.0 });
        assert!(pages("sum") >= pages("count"));
    }
    // Which it is, and why, is said once at the start.
    let log = server.log();
    let said = log.lines().filter(|l| l.contains("rollback in place"));
    assert_eq!(said.count(), 1, "{log}");
    assert_eq!(log.contains("no rollback in place, a new copy"), !in_place);
    assert_eq!(metric("lwc_contexts"), 10.0);
    assert_eq!(metric("faas_invocations_total{chain=\"pair\"}"), 3.0);
    assert_eq!(
        metric("faas_errors_total{chain=\"trial\",cause=\"crash\"}"),
        1.0
    );
    let timed = if in_place { 1.0 } else { 4.0 };
    assert!(metric("lwc_copying_duration_seconds_count") >= timed);
    assert_eq!(
        metric("faas_coldstarts_total{chain=\"pair\"}"),
        0.0,
        "copies were ready"
    );
}

/// A counter that appears with its first event hides that event from rate().
#[test]
fn what_has_not_happened_is_counted_as_0() {
    let server = Server::start(&["--workers", "1"]);
    let text = String::from_utf8(server.get("/metrics").body).unwrap();
    for chain in ["pair", "trial"] {
        for cause in [
            "crash",
            "timeout",
            "queue-full",
            "worker-lost",
            "circuit-open",
        ] {
            let line = format!("faas_errors_total{{chain=\"{chain}\",cause=\"{cause}\"}} 0");
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        for name in [
            "faas_invocations_total",
            "faas_coldstarts_total",
            "faas_invoke_duration_seconds_count",
            "lwc_circuit_open",
        ] {
            let line = format!("{name}{{chain=\"{chain}\"}} 0");
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
    for line in [
        "lwc_hop_duration_seconds_count{chain=\"pair\",step=\"2\",function=\"reverse\"} 0",
        "http_requests_total{code=\"502\"} 0",
        "lwc_reloads_total{result=\"refused\"} 0",
        "lwc_nats_work_total{result=\"poison\"} 0",
        "lwc_rollbacks_total{way=\"in-place\"} 0",
        "lwc_rollback_duration_seconds_count{way=\"new-copy\"} 0",
        "lwc_rollback_pages_count{chain=\"pair\",step=\"2\",function=\"reverse\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(!text.contains("cause=\"remote\""), "no step is remote");
    // What happens is counted where it was 0, and under no other name.
    let counters = |text: &str| {
        let names = text.lines().filter_map(|l| l.rsplit_once(' '));
        let names = names.filter(|(n, _)| !n.starts_with('#'));
        names.map(|(n, _)| n.to_owned()).collect::<Vec<_>>()
    };
    server.post("pair", b"ab");
    server.post("trial", b"abort");
    server.post("hasty", b"pool");
    let later = String::from_utf8(server.get("/metrics").body).unwrap();
    assert_eq!(counters(&text), counters(&later));
}

#[test]
fn calls_between_functions_are_counted_by_edge_and_outcome() {
    let server = Server::with(&with_tree(), &["--workers", "1"]);
    let count = |caller: &str, callee: &str, what: &str| {
        let edge = format!("chain=\"tree\",caller=\"{caller}\",callee=\"{callee}\"");
        let name = match what {
            "" => format!("lwc_call_duration_seconds_count{{{edge}}}"),
            outcome => format!("lwc_calls_total{{{edge},outcome=\"{outcome}\"}}"),
        };
        server.metric(&name).unwrap_or_else(|| panic!("{name}"))
    };
    // There from the start, as 0.
    for (caller, callee) in [
        ("top", "left"),
        ("top", "right"),
        ("left", "deep"),
        ("left", "right"),
        ("right", "deep"),
    ] {
        for what in ["", "answered", "crash", "error", "timeout"] {
            assert_eq!(count(caller, callee, what), 0.0);
        }
    }
    let good = server.post(
        "tree",
        b"times 40 left {call deep {say x}};call right {crash}",
    );
    assert_eq!(good.status, 200);
    // Those of a request that fails, too.
    let failed = server.post("tree", b"must left {must right {must deep {fail 7 why}}}");
    assert_eq!(failed.told(), (500, "error".into()));
    assert_eq!(count("top", "left", ""), 41.0);
    assert_eq!(count("top", "left", "answered"), 40.0);
    assert_eq!(count("top", "left", "error"), 1.0);
    assert_eq!(count("left", "deep", "answered"), 40.0);
    assert_eq!(count("top", "right", "crash"), 1.0);
    assert_eq!(count("left", "right", "error"), 1.0);
    assert_eq!(count("right", "deep", "error"), 1.0);
    assert_eq!(count("right", "deep", ""), 1.0);
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    let of = "lwc_call_duration_seconds_bucket{chain=\"tree\",caller=\"top\",callee=\"left\",le=";
    let bounds: Vec<&str> = metrics
        .lines()
        .filter_map(|l| l.strip_prefix(of)?.split('"').nth(1))
        .collect();
    assert_eq!(
        (bounds[0], bounds[22], bounds[23]),
        ("0.0000005", "10", "+Inf")
    );
    let other = "caller=\"left\",callee=\"top\"";
    assert!(!metrics.contains(other), "only calls that the file has");
    // What was undone of one that is called is told of it, and of no step.
    let pages = "lwc_rollback_pages_count{chain=\"tree\",function=\"deep\"}";
    assert!(server.metric(pages).is_some(), "{metrics}");

    let r = server.get("/status.json");
    let v: serde_json::Value = serde_json::from_slice(&r.body).unwrap();
    let all = v["chains"].as_array().unwrap();
    let tree = all.iter().find(|c| c["name"] == "tree").unwrap();
    let contexts = tree["contexts"].as_array().unwrap();
    assert_eq!(contexts.len(), 4);
    let calls = tree["calls"].as_array().unwrap();
    let name = |call: &serde_json::Value, end: &str| {
        contexts[call[end].as_u64().unwrap() as usize].clone()
    };
    let left = calls.iter().find(|c| name(c, "callee") == "left").unwrap();
    assert_eq!(name(left, "caller"), "top");
    assert_eq!((&left["calls"], &left["errors"]), (&41.into(), &1.into()));
    assert!(left["p50"].as_f64().unwrap() > 0.0);
    assert!(left["p99"].as_f64() >= left["p50"].as_f64());
    // The log names the path.
    let log = server.log();
    let line = log.lines().find(|l| l.contains("500 error")).unwrap();
    assert!(line.contains("top → left → right → deep"), "{line}");
}

#[test]
fn the_log_is_json_on_demand_workers_and_functions_lines_too() {
    let folder = Folder::new(&chains(""));
    let mut command = orchestrator();
    command
        .args(["-vv", "--log-format", "json", "serve", "--workers", "1"])
        .arg(folder.path("chain.toml"))
        .args(["--listen", "127.0.0.1:0"]);
    let server = Server::spawn(folder, command);
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("traceparent", parent), ("x-call-id", "order-7")];
    let r = server.request("POST", "/chains/pair", &headers, b"four");
    let failed = server.post("trial", b"abort");
    let id = r.headers["x-invocation-id"].as_str();
    let lines: Vec<serde_json::Value> = server
        .log()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
        .collect();
    let of = |target: &str, id: &str| {
        let found = lines
            .iter()
            .find(|l| l["target"] == target && l["invocation_id"] == id);
        found.unwrap_or_else(|| panic!("{target} {id}: {lines:#?}"))
    };
    let line = of("invocation", id);
    assert_eq!(
        (&line["level"], &line["chain"], &line["status"]),
        (&"INFO".into(), &"pair".into(), &200.into())
    );
    assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(line["call_id"], "order-7");
    assert!(r.headers["traceparent"].contains(line["span_id"].as_str().unwrap()));
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
    // The function's own line, by way of its context and the worker.
    let line = of("function", id);
    assert_eq!(
        (&line["function"], &line["level"]),
        (&"upper".into(), &"DEBUG".into())
    );
    assert!(line["message"].as_str().unwrap().ends_with("4 bytes"));
    let line = of("invocation", &failed.headers["x-invocation-id"]);
    assert_eq!(
        (&line["cause"], &line["function"]),
        (&"crash".into(), &"hostile".into())
    );
}

#[test]
fn the_gateway_tells_what_it_takes_itself() {
    let begun = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let server = Server::start(&["--workers", "1"]);
    let metric = |name: &str| server.metric(name).unwrap_or_else(|| panic!("{name}"));
    // The system counts from its own start, in whole seconds.
    let start = metric("process_start_time_seconds");
    let begun = begun.unwrap().as_secs_f64();
    assert!(
        (start - begun).abs() < 60.0 && begun - start < 5.0,
        "{start} {begun}"
    );
    let resident = metric("process_resident_memory_bytes");
    assert!(resident > 1e6 && metric("process_virtual_memory_bytes") >= resident);
    let before = metric("process_open_fds");
    let held: Vec<_> = (0..50).map(|_| server.connect()).collect();
    server.until("a descriptor each", || {
        metric("process_open_fds") >= before + 49.0
    });
    drop(held);
    assert!(metric("process_max_fds") > before);
    // It takes some to answer.
    let before = metric("process_cpu_seconds_total");
    server.until("processor time", || {
        metric("process_cpu_seconds_total") > before
    });
}

/// Whatever a function calls itself, before its sandbox or in it.
#[cfg(target_os = "linux")]
#[test]
fn processes_have_names_that_no_function_chooses() {
    use crate::server::children;
    let folder = Folder::new(
        "[functions.a-liar-of-a-function]\nsource = \"f.c\"\nhandler = \"f\"\n[chains.c]\nsteps = [\"a-liar-of-a-function\"]\n",
    );
    folder.write(
        "f.c",
        r#"
#include "lwc_function.h"
#include <stdio.h>
#include <sys/prctl.h>

static int
lie(void)
{
	return (prctl(PR_SET_NAME, "lwc:gateway"));
}

__attribute__((constructor)) static void
early(void)
{
	lie();
}

LWC_INIT(f)
{
	return (lie());
}

LWC_HANDLER(f)
{
	FILE *comm;

	lie();
	comm = fopen("/proc/self/comm", "w");
	if (comm != NULL && fputs("lwc:gateway", comm) >= 0)
		fclose(comm);
	return (0);
}
"#,
    );
    let mut command = orchestrator();
    command
        .args(["-v", "serve", "--workers", "2", "--listen", "127.0.0.1:0"])
        .arg(folder.path("chain.toml"));
    let server = Server::spawn(folder, command);
    let name = |pid: i32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.unwrap().trim_end().to_owned()
    };
    let look = || {
        assert_eq!(name(server.pid() as i32), "lwc:gateway");
        let mut workers: Vec<String> = server.workers().into_iter().map(name).collect();
        workers.sort();
        assert_eq!(workers, ["lwc:w0", "lwc:w1"]);
        let mut below: Vec<i32> = server.workers().into_iter().flat_map(children).collect();
        let mut functions = 0;
        while let Some(pid) = below.pop() {
            match name(pid).as_str() {
                "f:a-liar-of-a-f" => functions += 1,
                "lwc-keeper" => {}
                other => panic!("{other}"),
            }
            below.extend(children(pid));
        }
        assert!(functions >= 4, "a snapshot and a copy in each: {functions}");
    };
    look();
    // Whether a call that it may not make ends it is not the question.
    server.post("c", b"");
    server.until("the copies are there again", || {
        server.metric("lwc_contexts") == Some(4.0) && server.metric("lwc_workers_busy") == Some(0.0)
    });
    look();
}

/// All of a log, each line an object.
fn objects(log: &str) -> Vec<serde_json::Value> {
    let line = |l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"));
    log.lines().map(line).collect()
}

#[test]
fn what_is_wrong_at_a_start_and_a_reload_is_json_too() {
    let good = "[functions.f]\nsource = \"f.c\"\n[chains.c]\nsteps = [\"f\"]\n";
    let bad = good.replace("[chains", "memry = \"1MiB\"\n[chains") + "isolation = \"no\"\n";
    let source = "#include \"lwc_function.h\"\nLWC_HANDLER(f)\n{\n\treturn (0);\n}\n";
    let folder = Folder::new(&bad);
    folder.write("f.c", source);
    let serve = |folder: &Folder| {
        let mut command = orchestrator();
        command
            .args(["-v", "--log-format", "json", "serve", "--workers", "1"])
            .arg(folder.path("chain.toml"))
            .args(["--listen", "127.0.0.1:0"]);
        command
    };
    let wrong = |lines: &[serde_json::Value], folder: &Folder| {
        let of = |message: &str| {
            let found = lines
                .iter()
                .filter(|l| l["message"].as_str().unwrap().contains(message));
            let found: Vec<_> = found.collect();
            assert_eq!(found.len(), 1, "{message}: {lines:#?}");
            found[0].clone()
        };
        let key = of("memry");
        assert_eq!(key["level"], "ERROR");
        assert_eq!(key["file"], folder.path("chain.toml").to_str().unwrap());
        assert_eq!((&key["line"], &key["column"]), (&3.into(), &1.into()));
        assert_eq!(key["help"], "did you mean \"memory\"?");
        assert!(key["timestamp"].as_str().unwrap().ends_with('Z') && key["code"].is_string());
        assert_eq!(of("isolation")["line"], 6);
    };
    let out = serve(&folder).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let lines = objects(std::str::from_utf8(&out.stderr).unwrap());
    assert_eq!(lines.len(), 2, "{lines:#?}");
    wrong(&lines, &folder);
    // So do the others that read one.
    let mut check = orchestrator();
    check.args(["--log-format", "json", "check"]);
    let out = check.arg(folder.path("chain.toml")).output().unwrap();
    wrong(&objects(std::str::from_utf8(&out.stderr).unwrap()), &folder);

    folder.write("chain.toml", good);
    let command = serve(&folder);
    let server = Server::spawn(folder, command);
    // What cannot be had is told in the same way.
    let mut second = serve(&server.folder);
    second.args(["--listen", &server.address.to_string()]);
    let out = second.output().unwrap();
    assert_eq!(out.status.code(), Some(4));
    let lines = objects(std::str::from_utf8(&out.stderr).unwrap());
    let last = lines.last().unwrap();
    let message = last["message"].as_str().unwrap();
    assert!(message.starts_with("listening on 127."), "{message}");

    // By rename: half a file would be refused, too.
    let write = |text: &str| {
        let new = server.folder.write("new", text);
        std::fs::rename(new, server.folder.path("chain.toml")).unwrap();
    };
    let refused = |why: &str| {
        server.until("it is refused", || {
            let log = server.log();
            let told = log.find(why).map(|at| &log[at..]);
            told.is_some_and(|t| t.contains("is refused") && t.ends_with('\n'))
        });
        objects(&server.log())
    };
    write(&bad);
    let lines = refused("memry");
    wrong(&lines, &server.folder);
    // One that does not build, by its compiler's words.
    server.folder.write("f.c", source.replace("0", "nothing"));
    write(good);
    let lines = refused("error: ");
    let of_compiler = lines.iter().filter(|l| {
        let text = l["message"].as_str().unwrap();
        text.contains("nothing") && l["level"] == "ERROR"
    });
    let of_compiler: Vec<_> = of_compiler.collect();
    let [line] = of_compiler[..] else {
        panic!("one line an error: {lines:#?}");
    };
    assert_eq!(line["file"], server.folder.path("f.c").to_str().unwrap());
    assert_eq!(line["line"], 4);
    assert!(line["column"].is_null());
}

#[test]
fn the_status_names_chains_steps_and_figures() {
    let server = Server::start(&["--workers", "1"]);
    server.post("pair", b"ab");
    server.post("trial", b"abort");
    let r = server.get("/status.json");
    assert_eq!(r.headers["content-type"], "application/json");
    let v: serde_json::Value = serde_json::from_slice(&r.body).unwrap();
    let chain = |name: &str| {
        let all = v["chains"].as_array().unwrap();
        all.iter().find(|c| c["name"] == name).unwrap()
    };
    let pair = chain("pair");
    assert_eq!(
        (&pair["invocations"], &pair["errors"]),
        (&1.into(), &0.into())
    );
    assert_eq!(pair["steps"][1]["function"], "reverse");
    assert!(pair["p50"].as_f64().unwrap() > 0.0);
    assert!(pair["steps"][0]["p99"].as_f64().unwrap() > 0.0);
    assert_eq!(chain("trial")["errors"], 1);
    assert!(chain("hasty")["p50"].is_null());
    assert_eq!(v["workers"], 1);
    assert_eq!(
        server.request("POST", "/", &[], b"").told(),
        (405, "method".into())
    );
}
