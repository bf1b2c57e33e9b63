//! The Functions Framework contract: one target, all paths, flags and
//! environment.

use crate::common::{Folder, home, orchestrator};
use crate::server::{Server, chains};

fn file() -> String {
    let ours = home().join("orchestrator/tests/serve/functions.c");
    let more = r#"
[functions.mirror]
source = "OURS"

[functions.event]
source = "OURS"

[chains.asked]
steps = ["mirror"]

[chains.happened]
steps = ["event"]
"#;
    chains(&more.replace("OURS", ours.to_str().unwrap()))
}

fn text(body: &[u8]) -> &str {
    std::str::from_utf8(body).unwrap()
}

#[test]
fn every_path_and_method_is_the_targets() {
    let options = [
        "--workers",
        "1",
        "--target",
        "asked",
        "--admin",
        "127.0.0.1:0",
    ];
    let server = Server::with(&file(), &options);
    let mine = [("X-Mine", "1"), ("Transfer-Encoding-Not", "2")];
    for (method, path) in [
        ("GET", "/"),
        ("DELETE", "/healthz"),
        ("PUT", "/metrics"),
        ("POST", "/chains/pair"),
    ] {
        let r = server.request(method, path, &mine, b"");
        assert_eq!(r.status, 201, "{method} {path}");
        let body = text(&r.body);
        assert!(body.contains(&format!(":method={method}\n")), "{body}");
        assert!(body.contains(&format!(":path={path}\n")), "{body}");
        assert!(body.contains("x-mine=1\n"), "{body}");
        assert!(!r.headers.contains_key("etag"));
    }
    let before = server.log();
    for path in ["/robots.txt", "/favicon.ico"] {
        assert_eq!(server.get(path).told(), (404, "unknown-path".into()));
    }
    let invoked = |log: &str| log.matches("answered in").count();
    assert_eq!(invoked(&before), invoked(&server.log()), "not invoked");

    // What is for operators has its own listener, and nothing else is served there.
    let admin = server.admin();
    assert_eq!(admin.get("/readyz").body, b"ready\n");
    assert!(
        text(&admin.get("/metrics").body).contains("faas_invocations_total{chain=\"asked\"} 4")
    );
    assert_eq!(
        admin.get("/chains/pair").told(),
        (404, "unknown-path".into())
    );
    assert_eq!(
        admin.post("pair", b"x").told(),
        (404, "unknown-path".into())
    );
}

#[test]
fn without_a_target_the_admin_listener_takes_metrics_away() {
    let server = Server::with(&file(), &["--workers", "1", "--admin", "127.0.0.1:0"]);
    assert_eq!(server.get("/metrics").told(), (404, "unknown-path".into()));
    assert_eq!(
        server.get("/healthz").status,
        200,
        "probes ask the port they know"
    );
    assert_eq!(server.admin().get("/metrics").status, 200);
}

#[test]
fn a_target_takes_events_where_its_code_or_the_flag_says_so() {
    let event = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "s"),
        ("ce-type", "t"),
        ("X-Mine", "1"),
    ];
    let code = ["--workers", "1", "--target", "event"];
    let flag = [&code[..3], &["mirror", "--signature-type", "cloudevent"]].concat();
    for options in [&code[..], &flag] {
        let server = Server::with(&file(), options);
        let r = server.request("POST", "/any/path", &event, b"");
        let body = text(&r.body);
        assert!(
            body.contains("ce-type=t\n") && !body.contains("x-mine"),
            "{body}"
        );
        assert_eq!(server.post("x", b"").told(), (400, "bad-event".into()));
        assert_eq!(server.get("/").told(), (405, "method".into()));
    }
}

#[test]
fn the_environment_says_what_flags_do_not() {
    let folder = Folder::new(&file());
    let mut command = orchestrator();
    command
        .args(["serve", "--workers", "1"])
        .arg(folder.path("chain.toml"))
        .env("FUNCTION_TARGET", "upper")
        .env("PORT", "0");
    let server = Server::spawn(folder, command);
    assert_eq!(server.request("POST", "/", &[], b"abc").body, b"ABC");

    let fails = |command: &mut std::process::Command| {
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let folder = Folder::new(&file());
    let base = || {
        let mut c = orchestrator();
        c.args(["serve", "--workers", "1"])
            .arg(folder.path("chain.toml"));
        c
    };
    let (code, said) = fails(base().env("FUNCTION_TARGET", "upper").env("PORT", "many"));
    assert_eq!(code, Some(2));
    assert!(said.contains("PORT=\"many\""), "{said}");
    let (code, said) = fails(base().args(["--target", "none", "--port", "0"]));
    assert_eq!(code, Some(4));
    assert!(
        said.contains("\"none\"") && said.contains("upper"),
        "{said}"
    );
    let (code, said) = fails(base().args(["--target", "upper", "--signature-type", "event"]));
    assert_eq!(code, Some(2));
    assert!(said.contains("cloudevent"), "{said}");
}

#[test]
fn a_variable_without_a_value_is_none() {
    let start = |variables: &[(&str, &str)]| {
        let folder = Folder::new(&file());
        let mut command = orchestrator();
        command
            .args(["serve", "--workers", "1", "--listen", "127.0.0.1:0"])
            .args(["--timeout", "20", "--drain", "2.5"])
            .arg(folder.path("chain.toml"))
            .envs(variables.iter().copied());
        Server::spawn(folder, command)
    };
    let names = [
        "PORT",
        "FUNCTION_TARGET",
        "FUNCTION_SIGNATURE_TYPE",
        "NATS_URL",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ];
    let server = start(&names.map(|name| (name, "")));
    assert_eq!(server.post("pair", b"a").body, b"A");
    // One that says how a target is called, where there is no target.
    let server = start(&[("FUNCTION_SIGNATURE_TYPE", "http")]);
    assert_eq!(server.post("pair", b"a").body, b"A");
}

#[test]
fn operators_pages_are_for_no_page_of_the_web() {
    let options = ["--workers", "1", "--admin", "127.0.0.1:0"];
    let options = [&options[..], &["--admin-host", "ops.example"]].concat();
    let server = Server::with(&file(), &options);
    let ask = |host: &str| {
        let request =
            format!("GET /status.json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = server.admin().raw(request.as_bytes());
        crate::server::Response::parse(&answer).unwrap().0
    };
    let address = server.admin().address.to_string();
    for good in [address.as_str(), "localhost:1", "Ops.Example:80"] {
        assert_eq!(ask(good).status, 200, "{good}");
    }
    assert_eq!(ask("rebound.example").told(), (421, "bad-header".into()));
}

/// What the public conformance client asks (tests/functions-framework runs it
/// where it is at hand), asked here.
#[test]
fn the_conformance_functions_answer_as_they_must() {
    let chain_file = home().join("tests/functions-framework/chain.toml");
    let server = |target: &str| {
        let mut command = orchestrator();
        command
            .args(["serve", "--workers", "2", "--listen", "127.0.0.1:0"])
            .arg(&chain_file)
            .args(["--target", target]);
        Server::spawn(Folder::new(""), command)
    };
    let json = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).unwrap();

    let r = server("http").request("POST", "/", &[], br#"{"res":"PASS"}"#);
    assert_eq!(json(&r.body), serde_json::json!({"res": "PASS"}));

    let typed = server("typed");
    let r = typed.request("POST", "/", &[], br#"{"message":"Hello world!"}"#);
    assert_eq!(
        json(&r.body),
        serde_json::json!({"payload": {"message": "Hello world!"}})
    );
    assert_eq!(r.headers["content-type"], "application/json");
    assert_eq!(
        typed.request("POST", "/", &[], b"[").told(),
        (400, "error".into())
    );

    let event = serde_json::json!({
        "specversion": "1.0",
        "type": "com.example.stored",
        "source": "//storage.example.com/buckets/some-bucket",
        "subject": "objects/folder/Test.cs",
        "id": "aaaaaa-1111-bbbb-2222-cccccccccccc",
        "time": "2020-09-29T11:32:00.000Z",
        "datacontenttype": "application/json",
        "data": {"bucket": "some-bucket", "size": "352", "nested": [1, {"a": null}]},
    });
    let events = server("cloudevent");
    let headers = [("Content-Type", "application/cloudevents+json")];
    let r = events.request("POST", "/", &headers, event.to_string().as_bytes());
    assert_eq!(json(&r.body), event);

    // Two at once on two workers: neither waits for the other to end.
    let slow = server("slow");
    let answers = std::thread::scope(|s| {
        let asked: Vec<_> = (0..2)
            .map(|_| s.spawn(|| slow.request("POST", "/", &[], b"{}").status))
            .collect();
        asked
            .into_iter()
            .map(|t| t.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert_eq!(answers, [200, 200]);
}
