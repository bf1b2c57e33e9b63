//! Spans as an OpenTelemetry collector gets them.

use crate::common::{Folder, orchestrator, text};
use crate::server::{LIMIT, Server, chains, with_tree};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use prost::Message;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

/// A collector: its base URL, and the spans that come.
fn collector() -> (String, Receiver<Span>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            // One export after the other, on a connection that is kept.
            while stream.read_line(&mut line).is_ok_and(|n| n > 0) {
                assert_eq!(line, "POST /v1/traces HTTP/1.1\r\n");
                let mut len = 0;
                while line != "\r\n" {
                    line.clear();
                    stream.read_line(&mut line).unwrap();
                    let header = line.to_ascii_lowercase();
                    if let Some(n) = header.strip_prefix("content-length: ") {
                        len = n.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; len];
                stream.read_exact(&mut body).unwrap();
                let request = ExportTraceServiceRequest::decode(&*body).unwrap();
                let scopes = request
                    .resource_spans
                    .into_iter()
                    .flat_map(|r| r.scope_spans);
                for span in scopes.flat_map(|s| s.spans) {
                    let _ = tell.send(span);
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                stream.get_mut().write_all(answer).unwrap();
                line.clear();
            }
        }
    });
    (url, told)
}

/// The next span of an invocation or a hop; or of a rollback, which comes
/// whenever its worker has told of it.
fn next_of(told: &Receiver<Span>, rollback: bool) -> Span {
    loop {
        let span = told.recv_timeout(LIMIT).unwrap();
        if attribute(&span, "lwc.rollback.way").is_some() == rollback {
            return span;
        }
    }
}

fn attribute<'a>(span: &'a Span, name: &str) -> Option<&'a Value> {
    let found = span.attributes.iter().find(|a| a.key == name)?;
    found.value.as_ref()?.value.as_ref()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn an_invocation_and_its_hops_are_spans_of_the_callers_trace() {
    let (url, told) = collector();
    let mut server = Server::with(&chains(""), &["--workers", "1", "--otlp", &url]);
    let next = || next_of(&told, false);
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("traceparent", parent), ("tracestate", "rojo=1,congo=2")];
    let r = server.request("POST", "/chains/pair", &headers, b"ab");
    let id = &r.headers["x-invocation-id"];
    let (whole, upper, reverse) = (next(), next(), next());
    assert_eq!(hex(&whole.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(hex(&whole.parent_span_id), "00f067aa0ba902b7");
    assert!(r.headers["traceparent"].contains(&hex(&whole.span_id)));
    assert_eq!(
        (&*whole.name, whole.kind),
        ("pair", SpanKind::Server as i32)
    );
    assert_eq!(
        attribute(&whole, "faas.invocation_id"),
        Some(&Value::StringValue(id.clone()))
    );
    assert_eq!(
        attribute(&whole, "faas.coldstart"),
        Some(&Value::BoolValue(false))
    );
    for (span, name, step) in [(&upper, "upper", 1), (&reverse, "reverse", 2)] {
        assert_eq!(span.name, name);
        assert_eq!(span.trace_id, whole.trace_id);
        assert_eq!(span.trace_state, "rojo=1,congo=2");
        assert_eq!(span.parent_span_id, whole.span_id);
        assert_eq!(attribute(span, "lwc.step"), Some(&Value::IntValue(step)));
        assert!(span.start_time_unix_nano >= whole.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= whole.end_time_unix_nano);
    }
    assert!(upper.end_time_unix_nano <= reverse.start_time_unix_nano);

    // A caller that does not sample is left alone; one that says nothing is not.
    let unwanted = parent.replace("-01", "-00");
    server.request("POST", "/chains/pair", &[("traceparent", &unwanted)], b"ab");
    assert_eq!(server.post("trial", b"abort").status, 502);
    let failed = next();
    assert_eq!(failed.name, "trial");
    assert_eq!(failed.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(
        attribute(&failed, "error.type"),
        Some(&Value::StringValue("crash".into()))
    );
    assert_eq!(
        attribute(&failed, "lwc.function"),
        Some(&Value::StringValue("hostile".into()))
    );
    assert!(failed.parent_span_id.is_empty());
    let hop = next();
    assert_eq!(
        (&*hop.name, &hop.parent_span_id),
        ("hostile", &failed.span_id)
    );
    assert_eq!(hop.status.as_ref().unwrap().code(), StatusCode::Error);

    // The last ones are sent at the end.
    server.post("trial", b"ok");
    server.signal(libc::SIGTERM);
    assert!(server.wait().success());
    assert_eq!(
        (next().name, next().name),
        ("trial".into(), "hostile".into())
    );
}

/// By the worker's own clock: the answer is not waited for by what comes after
/// it, and the next request waits for no more than that.
#[test]
fn a_rollback_is_a_span_between_an_answer_and_the_next_request() {
    let (url, told) = collector();
    let server = Server::with(&chains(""), &["--workers", "1", "--otlp", &url]);
    // Each is in the queue before the one before is undone, or is not.
    let all: Vec<_> = std::thread::scope(|scope| {
        let post = || server.post("pair", b"ab").body;
        let all: Vec<_> = (0..4).map(|_| scope.spawn(post)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(all.iter().all(|body| body == b"BA"));
    let spans: Vec<Span> = (0..20).map(|_| told.recv_timeout(LIMIT).unwrap()).collect();
    let mut ends = Vec::new();
    for whole in spans.iter().filter(|s| s.name == "pair") {
        let of = |name: &str| {
            let mine = |s: &&Span| s.parent_span_id == whole.span_id && s.name == name;
            let found: Vec<&Span> = spans.iter().filter(mine).collect();
            assert_eq!(found.len(), 1, "{name}: {spans:#?}");
            found[0]
        };
        let cold = attribute(whole, "faas.coldstart");
        assert_eq!(
            cold,
            Some(&Value::BoolValue(false)),
            "nobody waits for a copy"
        );
        let last = of("reverse").end_time_unix_nano;
        let (first, second) = (of("roll back upper"), of("roll back reverse"));
        for (span, name, step) in [(first, "upper", 1), (second, "reverse", 2)] {
            assert_eq!(span.trace_id, whole.trace_id);
            assert!(
                span.start_time_unix_nano >= last,
                "not while somebody waits"
            );
            let name = Value::StringValue(name.into());
            assert_eq!(attribute(span, "faas.name"), Some(&name));
            assert_eq!(attribute(span, "lwc.step"), Some(&Value::IntValue(step)));
            let way = attribute(span, "lwc.rollback.way");
            let in_place = way == Some(&Value::StringValue("in-place".into()));
            assert!(in_place || way == Some(&Value::StringValue("new-copy".into())));
            let pages = attribute(span, "lwc.rollback.pages");
            assert_eq!(matches!(pages, Some(Value::IntValue(1..))), in_place);
        }
        let end = first.end_time_unix_nano.max(second.end_time_unix_nano);
        ends.push((of("upper").start_time_unix_nano, end));
    }
    assert_eq!(ends.len(), 4);
    ends.sort_unstable();
    // The clock of a request begins when its worker is handed it.
    for pair in ends.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "{ends:?}");
    }
}

#[test]
fn a_failed_invocation_has_the_hops_up_to_the_failed_one() {
    let (url, told) = collector();
    let server = Server::with(&chains(""), &["--workers", "1", "--otlp", &url]);
    let next = || next_of(&told, false);
    // `reverse` makes it "loop", and the second step has 300 ms.
    assert_eq!(
        server.post("hasty", b"pool").told(),
        (504, "timeout".into())
    );
    let (whole, first, second) = (next(), next(), next());
    assert_eq!(attribute(&whole, "lwc.step"), Some(&Value::IntValue(2)));
    for (span, name, step) in [(&first, "reverse", 1), (&second, "brief", 2)] {
        assert_eq!(span.name, name);
        assert_eq!(span.parent_span_id, whole.span_id);
        assert_eq!(attribute(span, "lwc.step"), Some(&Value::IntValue(step)));
        assert!(span.start_time_unix_nano >= whole.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= whole.end_time_unix_nano);
    }
    assert!(first.end_time_unix_nano <= second.start_time_unix_nano);
    let took = second.end_time_unix_nano - second.start_time_unix_nano;
    assert!(took >= 300_000_000, "{took}");
    assert_eq!(
        first.status.clone().unwrap_or_default().code(),
        StatusCode::Unset
    );
    assert_eq!(attribute(&first, "error.type"), None);
    assert_eq!(second.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(
        attribute(&second, "error.type"),
        Some(&Value::StringValue("timeout".into()))
    );
    // No step is to blame, and none ran.
    let headers = [("Request-Timeout", "soon")];
    server.request("POST", "/chains/pair", &headers, b"ab");
    server.post("pair", b"ab");
    assert_eq!(
        [next().name, next().name, next().name, next().name],
        ["pair", "pair", "upper", "reverse"].map(String::from)
    );
}

/// A diamond, a call that was started, a callee that fails and one below it.
#[test]
fn calls_are_spans_within_the_span_of_their_caller() {
    let (url, told) = collector();
    let server = Server::with(&with_tree(), &["--workers", "1", "--otlp", &url]);
    let input = "start right {must deep {fail 7 why}};\
                 call left {call deep {say a};call right {call deep {say b}}};finish 0";
    assert_eq!(server.post("tree", input.as_bytes()).status, 200);
    let spans: Vec<Span> = (0..8).map(|_| next_of(&told, false)).collect();
    let (whole, top) = (&spans[0], &spans[1]);
    assert_eq!((&*whole.name, &*top.name), ("tree", "top"));
    assert_eq!(attribute(whole, "lwc.calls"), Some(&Value::IntValue(6)));
    let below = |parent: &Span| -> Vec<&Span> {
        let mine = |s: &&Span| s.parent_span_id == parent.span_id;
        let mut found: Vec<&Span> = spans.iter().filter(mine).collect();
        found.sort_by_key(|s| s.start_time_unix_nano);
        found
    };
    let names = |spans: &[&Span]| spans.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
    let text = |s: &str| Some(Value::StringValue(s.into()));
    // Of two steps of one invocation, in the order in which they ran.
    let (started, left) = match below(top)[..] {
        [a, b] if a.name == "right" => (a, b),
        [a, b] => (b, a),
        _ => panic!("{spans:#?}"),
    };
    assert_eq!((&*started.name, &*left.name), ("right", "left"));
    assert_eq!(names(&below(left)), ["deep", "right"]);
    let right = below(left)[1];
    assert_eq!(names(&below(right)), ["deep"]);
    let failing = below(started);
    assert_eq!(names(&failing), ["deep"]);
    for span in &spans[2..] {
        let parent = spans.iter().find(|s| s.span_id == span.parent_span_id);
        let parent = parent.unwrap_or_else(|| panic!("{span:?} is of nobody"));
        assert_eq!(span.trace_id, whole.trace_id);
        assert!(span.start_time_unix_nano >= parent.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= parent.end_time_unix_nano);
        assert_eq!(attribute(span, "lwc.caller").cloned(), text(&parent.name));
        assert_eq!(attribute(span, "faas.name").cloned(), text(&span.name));
        assert_eq!(attribute(span, "lwc.chain").cloned(), text("tree"));
        let fails = [&started.span_id, &failing[0].span_id].contains(&&span.span_id);
        let status = span.status.clone().unwrap_or_default().code();
        let expected = if fails {
            StatusCode::Error
        } else {
            StatusCode::Unset
        };
        assert_eq!(status, expected, "{span:?}");
        let error = if fails { text("error") } else { None };
        assert_eq!(attribute(span, "error.type").cloned(), error);
    }

    // Of thousands the first ones are told, and how many there were. With what they
    // would be, the exporter's queue were full.
    let input = "times 3000 left {call deep {say x}}";
    assert_eq!(server.post("tree", input.as_bytes()).status, 200);
    let whole = next_of(&told, false);
    assert_eq!(attribute(&whole, "lwc.calls"), Some(&Value::IntValue(6000)));
    let all: Vec<Span> = (0..257).map(|_| next_of(&told, false)).collect();
    assert_eq!((&*all[0].name, &*all[256].name), ("top", "deep"));
    assert_eq!(server.post("pair", b"ab").status, 200);
    assert_eq!(next_of(&told, false).name, "pair");
}

/// A call from one group to another is a span within the one of its caller, and so is
/// what is called there.
#[test]
fn calls_between_groups_are_spans_as_any_other() {
    let (url, told) = collector();
    let file = with_tree();
    let grouped = ["left", "deep"].iter().fold(file, |file, function| {
        let head = format!("[functions.{function}]\n");
        file.replace(&head, &format!("{head}group = \"{function}\"\n"))
    });
    assert_eq!(grouped.matches("group = ").count(), 2);
    let server = Server::with(&grouped, &["--workers", "1", "--otlp", &url]);
    let input = b"call right {call deep {say a}};\
                  call left {call deep {say b};call right {must deep {fail 7 why}}}";
    assert_eq!(server.post("tree", input).status, 200);
    let spans: Vec<Span> = (0..8).map(|_| next_of(&told, false)).collect();
    let name = |id: &[u8]| {
        let found = spans.iter().find(|s| s.span_id == id);
        found.map_or("", |s| &*s.name)
    };
    let mut found: Vec<_> = spans.iter().collect();
    found.sort_by_key(|s| s.start_time_unix_nano);
    let nested: Vec<_> = found
        .iter()
        .map(|s| (name(&s.parent_span_id), &*s.name))
        .collect();
    let expected = [
        ("", "tree"),
        ("tree", "top"),
        ("top", "right"),
        ("right", "deep"),
        ("top", "left"),
        ("left", "deep"),
        ("left", "right"),
        ("right", "deep"),
    ];
    assert_eq!(nested, expected);
    assert_eq!(attribute(found[0], "lwc.calls"), Some(&Value::IntValue(6)));
    for span in &found[1..] {
        let parent = found.iter().find(|s| s.span_id == span.parent_span_id);
        let parent = parent.unwrap();
        assert_eq!(span.trace_id, parent.trace_id);
        assert!(span.start_time_unix_nano >= parent.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= parent.end_time_unix_nano);
        let status = span.status.clone().unwrap_or_default().code();
        let fails = found[6..].iter().any(|f| f.span_id == span.span_id);
        assert_eq!(status == StatusCode::Error, fails, "{span:?}");
    }
}

#[test]
fn a_call_that_nobody_handles_fails_the_spans_above_it() {
    let (url, told) = collector();
    let server = Server::with(&with_tree(), &["--workers", "1", "--otlp", &url]);
    let failed = server.post("tree", b"call right {say x};must left {must deep {crash}}");
    assert_eq!(failed.told(), (502, "crash".into()));
    let spans: Vec<Span> = (0..5).map(|_| next_of(&told, false)).collect();
    let names: Vec<&str> = spans.iter().map(|s| &*s.name).collect();
    assert_eq!(names, ["tree", "top", "right", "left", "deep"]);
    for span in &spans {
        let status = span.status.clone().unwrap_or_default().code();
        let fails = span.name != "right";
        assert_eq!(status == StatusCode::Error, fails, "{span:?}");
    }
    assert_eq!(spans[4].parent_span_id, spans[3].span_id);
    assert_eq!(spans[3].parent_span_id, spans[1].span_id);
}

#[test]
fn a_collector_that_is_away_costs_no_request() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let mut server = Server::with(&chains(""), &["--workers", "1", "--otlp", &url]);
    for _ in 0..20 {
        assert_eq!(server.post("pair", b"ab").body, b"BA");
    }
    server.signal(libc::SIGTERM);
    assert!(server.wait().success());
}

/// It takes what is sent and never answers, so every export runs into its own
/// timeout: spans pile up to a bound, and all else goes on.
#[test]
fn a_collector_that_hangs_costs_no_request_no_memory_and_no_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (tell, mut stream) = (tell.clone(), stream.unwrap());
            std::thread::spawn(move || {
                let mut bytes = [0; 4];
                if stream.read_exact(&mut bytes).is_ok() {
                    let _ = tell.send(bytes);
                }
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            });
        }
    });
    // A span of the invocation and sixteen of its hops.
    let steps = vec!["\"upper\""; 16].join(", ");
    let long = format!("[chains.long]\nsteps = [{steps}]\nisolation = \"chain\"\n");
    let mut server = Server::with(&chains(&long), &["--workers", "1", "--otlp", &url]);
    let invoke = |times: usize| {
        for _ in 0..times {
            assert_eq!(server.post("long", b"ab").body, b"AB");
        }
    };
    // More than may wait.
    invoke(320);
    assert_eq!(&told.recv_timeout(LIMIT).unwrap(), b"POST");
    let full = resident(server.pid());
    invoke(1280);
    let grown = resident(server.pid()).saturating_sub(full);
    // Kept, these spans would be more than 8 MiB.
    assert!(grown < 4 << 20, "{grown} bytes more after 21760 spans");
    server.signal(libc::SIGTERM);
    assert!(server.wait().success());
    assert!(server.log().contains("the last spans are lost"));
}

/// Bytes of a process in memory; 0 on a system that has no such file.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[test]
fn a_collector_that_cannot_be_reached_so_is_refused_by_name() {
    let folder = Folder::new(&chains(""));
    let serve = |url: &str| {
        let mut command = orchestrator();
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .arg(folder.path("chain.toml"))
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", url);
        command
    };
    for (url, says) in [
        ("https://key:secret@collector.example:4318", "https://"),
        ("collector.example:4317", "OTLP over HTTP"),
        ("http://", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ] {
        let out = serve(url).output().unwrap();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(4), "{url}: {said}");
        assert!(said.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{said}");
        assert!(said.contains(says) && !said.contains("secret"), "{said}");
    }
    // A variable without a value is none.
    let server = Server::spawn(Folder::new(&chains("")), {
        let mut command = serve("");
        command.args(["--workers", "1"]);
        command
    });
    assert_eq!(server.post("pair", b"ab").body, b"BA");
}

#[test]
fn spans_are_of_the_service_that_the_environment_names() {
    for (said, name) in [("shop", "shop"), ("", "lwc-orchestrator")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let folder = Folder::new(&chains(""));
        let mut command = orchestrator();
        command
            .args(["serve", "--workers", "1", "--listen", "localhost:0"])
            .args(["--otlp", &url])
            .arg(folder.path("chain.toml"))
            .env("OTEL_SERVICE_NAME", said);
        let server = Server::spawn(folder, command);
        assert_eq!(server.post("pair", b"ab").body, b"BA");
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // In protobuf: the key, and behind it the value with its length.
        let mut value = vec![name.len() as u8];
        value.extend_from_slice(name.as_bytes());
        let (mut all, mut piece) = (Vec::new(), [0; 4096]);
        let service = loop {
            let got = stream.read(&mut piece).unwrap();
            assert!(got > 0, "no service in {:?}", String::from_utf8_lossy(&all));
            all.extend_from_slice(&piece[..got]);
            let at = all.windows(12).position(|w| w == b"service.name");
            if let Some(rest) = at.and_then(|at| all.get(at + 12..at + 48)) {
                break rest.to_vec();
            }
        };
        assert!(
            service.windows(value.len()).any(|w| w == value),
            "{name}: {service:?}"
        );
    }
}
