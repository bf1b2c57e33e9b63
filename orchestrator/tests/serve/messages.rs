//! What functions see of requests and say of answers: headers and CloudEvents.

use crate::server::{Response, Server, chains};
use serde_json::json;

/// The chains of these tests beside all tests' own.
const CHAINS: &str = r#"
[functions.mirror]
source = "OURS"

[functions.event]
source = "OURS"

[chains.asked]
steps = ["mirror"]
headers = ["X-Tenant-*", "cookie", "trace*"]

[chains.called]
steps = ["mirror"]
headers = ["x-call-id"]

[chains.asked-twice]
steps = ["mirror", "mirror"]
headers = ["*"]

[chains.happened]
steps = ["event"]
region = "64KiB"
"#;

fn server() -> Server {
    let ours = crate::common::home().join("orchestrator/tests/serve/functions.c");
    let more = CHAINS.replace("OURS", ours.to_str().unwrap());
    Server::with(&chains(&more), &["--workers", "1"])
}

fn lines(r: &Response) -> Vec<String> {
    let text = String::from_utf8(r.body.clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn selected_headers_go_in_and_attributes_come_out() {
    let server = server();
    let sent = [
        ("Cookie", "a=1"),
        ("Authorization", "Basic secret"),
        ("X-Tenant-Id", "7"),
        ("x-tenant-id", "8"),
    ];
    let r = server.request("POST", "/chains/asked?q=1", &sent, b"");
    let want = [
        ":method=POST",
        ":path=/chains/asked",
        ":query=q=1",
        "cookie=a=1",
        "x-tenant-id=7, 8",
        &format!("traceparent={}", r.headers["traceparent"]),
    ];
    assert_eq!(
        (r.status, lines(&r)),
        (201, want.map(str::to_owned).to_vec())
    );
    assert_eq!(r.headers["x-made"], "by mirror");
    assert_eq!(r.headers["content-length"], r.body.len().to_string());
    assert!(
        server
            .log()
            .contains("no function sets the header \"content-length\"")
    );

    // The second step sees what the first said, not what the caller did.
    let r = server.request("POST", "/chains/asked-twice", &sent, b"");
    let want = ["x-made=by mirror", "content-length=7"];
    assert_eq!(
        (r.status, lines(&r)),
        (201, want.map(str::to_owned).to_vec())
    );

    // A chain that says nothing of headers sees none, and answers without.
    let r = server.request("POST", "/chains/pair", &sent, b"ab");
    assert_eq!((r.status, r.body.as_slice()), (200, &b"BA"[..]));

    let long = "x".repeat(9000);
    let r = server.request("POST", "/chains/asked", &[("X-Tenant-Long", &long)], b"");
    assert_eq!(r.told(), (431, "bad-header".into()));
    let many: Vec<String> = (0..90).map(|i| format!("x-tenant-{i}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|n| (n.as_str(), "1")).collect();
    assert_eq!(
        server.request("POST", "/chains/asked", &many, b"").status,
        201
    );
}

/// As OpenFaaS has it.
#[test]
fn a_call_has_the_identity_that_its_caller_gave() {
    let server = server();
    let call = |path: &str, id: Option<&str>| {
        let headers: Vec<_> = id.map(|i| ("X-Call-Id", i)).into_iter().collect();
        let r = server.request("POST", path, &headers, b"");
        (r.headers["x-call-id"].clone(), r)
    };
    let (id, r) = call("/chains/called", Some("order-7"));
    assert_eq!(id, "order-7");
    assert_ne!(r.headers["x-invocation-id"], id, "ours is ours");
    assert_eq!(lines(&r).last().unwrap(), "x-call-id=order-7");
    // None, and one that is none: the invocation's. Failures have it too.
    for given in [None, Some("order 7\t"), Some(&*"7".repeat(65))] {
        let (id, r) = call("/chains/called", given);
        assert_eq!(r.headers["x-invocation-id"], id);
        assert_eq!(lines(&r).last().unwrap(), &format!("x-call-id={id}"));
    }
    let (id, r) = call("/chains/trial", Some("order-8"));
    assert_eq!((r.status, id.as_str()), (400, "order-8"));
    assert!(
        server.log().contains(", call order-8] trace"),
        "{}",
        server.log()
    );
}

#[test]
fn a_trace_goes_on_to_the_function_with_its_state() {
    let server = server();
    let parent = ("traceparent", PARENT);
    let (state, junk) = (("tracestate", "rojo=1, congo=2"), ("tracestate", "A"));
    let seen = |path: &str, headers: &[(&str, &str)]| {
        let r = server.request("POST", path, headers, b"");
        (lines(&r), r.headers["traceparent"].clone())
    };
    let (attributes, ours) = seen("/chains/asked", &[parent, state]);
    assert!(ours.starts_with(&PARENT[..36]) && ours != PARENT, "{ours}");
    let want = [
        format!("traceparent={ours}"),
        "tracestate=rojo=1,congo=2".into(),
    ];
    assert!(attributes.ends_with(&want), "{attributes:?}");
    for headers in [&[parent, junk][..], &[state]] {
        let (attributes, ours) = seen("/chains/asked", headers);
        assert_eq!(attributes.last(), Some(&format!("traceparent={ours}")));
    }
    let event = [&BINARY[..], &[parent, state]].concat();
    let (attributes, ours) = seen("/chains/happened", &event);
    assert!(attributes.contains(&format!("ce-traceparent={ours}")));
    assert!(attributes.contains(&"ce-tracestate=rojo=1,congo=2".to_owned()));
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const BINARY: [(&str, &str); 6] = [
    ("ce-specversion", "1.0"),
    ("ce-id", "e-1"),
    ("ce-source", "//test"),
    ("ce-type", "com.example.put"),
    ("ce-subject", "Z%C3%BCrich"),
    ("Content-Type", "text/plain"),
];

#[test]
fn an_event_is_the_same_in_both_modes() {
    let server = server();
    let binary = server.request("POST", "/chains/happened", &BINARY, b"hello");
    let event = json!({
        "specversion": "1.0", "id": "e-1", "source": "//test", "type": "com.example.put",
        "subject": "Zürich", "datacontenttype": "text/plain", "data": "hello",
    });
    let structured = [(
        "Content-Type",
        "application/cloudevents+json; charset=UTF-8",
    )];
    let post = |body: &[u8]| server.request("POST", "/chains/happened", &structured, body);
    let json = post(event.to_string().as_bytes());
    let seen = |r: &Response| {
        assert_eq!(r.status, 200, "{r:?}");
        let mut all = lines(r);
        // The trace is copied into the event; each request has its own.
        let traced = all.iter().position(|l| l.starts_with("ce-traceparent=00-"));
        all.remove(traced.expect("a trace"));
        all.sort();
        all
    };
    assert_eq!(seen(&binary), seen(&json));
    let want = [
        "ce-id=e-1",
        "ce-source=//test",
        "ce-specversion=1.0",
        "ce-subject=Zürich",
        "ce-type=com.example.put",
        "hello",
        "text/plain",
    ];
    assert_eq!(seen(&binary), want);

    // Data in base64 takes more room on its way than in the region.
    let data = vec![0xa5_u8; 64 * 1024];
    let mut event = event;
    event.as_object_mut().unwrap().remove("data");
    event["data_base64"] = base64(&data).into();
    event["type"] = "ask".into();
    assert_eq!(post(event.to_string().as_bytes()).status, 200);
    event["data_base64"] = base64(&[data, vec![1]].concat()).into();
    assert_eq!(
        post(event.to_string().as_bytes()).told(),
        (413, "too-large".into())
    );
}

fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in data.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, &b| n << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(n >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { digit.into() } else { '=' });
        }
    }
    out
}

#[test]
fn an_event_is_answered_by_an_event() {
    let server = server();
    let mut asks = BINARY.to_vec();
    asks[3].1 = "ask";
    let r = server.request("POST", "/chains/happened", &asks, b"");
    assert_eq!((r.status, r.body.as_slice()), (200, &b"{\"n\":1}"[..]));
    assert_eq!(r.headers["ce-type"], "answer");
    assert_eq!(r.headers["ce-subject"], "Z%C3%BCrich");
    assert_eq!(r.headers["ce-specversion"], "1.0");
    assert_eq!(r.headers["ce-source"], "/chains/happened");
    assert_eq!(r.headers["ce-id"], r.headers["x-invocation-id"]);
    assert_eq!(r.headers["content-type"], "application/json");

    asks.push(("Accept", "text/html, application/cloudevents+json;q=0.9"));
    let r = server.request("POST", "/chains/happened", &asks, b"");
    assert!(r.headers["content-type"].starts_with("application/cloudevents+json"));
    assert!(!r.headers.contains_key("ce-type"));
    let v: serde_json::Value = serde_json::from_slice(&r.body).unwrap();
    assert_eq!(
        (&v["type"], &v["data"]),
        (&json!("answer"), &json!({"n": 1}))
    );
    assert_eq!(
        (&v["subject"], &v["source"]),
        (&json!("Zürich"), &json!("/chains/happened"))
    );
}

#[test]
fn what_is_no_event_is_told_what_it_lacks() {
    let server = server();
    let structured = ("Content-Type", "application/cloudevents+json");
    let told = |headers: &[(&str, &str)], body: &str| {
        let r = server.request("POST", "/chains/happened", headers, body.as_bytes());
        let detail = r.problem()["detail"].as_str().unwrap().to_owned();
        (r.told(), detail)
    };
    for (headers, body, what) in [
        (&BINARY[1..], "", "ce-specversion"),
        (&BINARY[..3], "", "no type"),
        (&[structured], "", "JSON object"),
        (&[structured], "[1]", "JSON object"),
        (&[structured], r#"{"specversion":"1.0"}"#, "no id"),
        (
            &[structured],
            r#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#,
            "no id",
        ),
        (
            &[structured],
            r#"{"specversion":"9","id":"1","source":"s","type":"t"}"#,
            "\"9\"",
        ),
        (
            &[structured],
            r#"{"specversion":"1.0","id":{},"source":"s","type":"t"}"#,
            "\"id\"",
        ),
        (&[("Content-Type", "text/plain")], "x", "CloudEvents"),
    ] {
        let (told, detail) = told(headers, body);
        assert_eq!(told, (400, "bad-event".into()), "{body}");
        assert!(detail.contains(what), "{detail}");
    }
    let batch = [("Content-Type", "application/cloudevents-batch+json")];
    assert_eq!(told(&batch, "[]").0, (415, "bad-event".into()));
    let mut late = BINARY.to_vec();
    late.push(("ce-time", "noon"));
    assert!(told(&late, "").1.contains("RFC 3339"));
    assert_eq!(
        server.metric("faas_invocations_total{chain=\"happened\"}"),
        Some(11.0)
    );
}

#[test]
fn forged_attributes_are_the_functions_end() {
    let server = server();
    let r = server.post("trial", b"forge attributes");
    assert_eq!(r.told(), (502, "misbehaved".into()));
    assert!(
        r.problem()["detail"]
            .as_str()
            .unwrap()
            .contains("attributes")
    );
    assert_eq!(server.post("trial", b"count").body, b"1");
}
