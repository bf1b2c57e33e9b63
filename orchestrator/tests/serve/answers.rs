//! Which request gets which answer.

use crate::server::{Response, Server, pair};
use std::io::{Read, Write};

#[test]
fn a_chain_answers_with_type_identity_and_trace() {
    let server = Server::start(&["--workers", "1"]);
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("Content-Type", "text/plain"), ("traceparent", parent)];
    let r = server.request("POST", "/chains/pair", &headers, b"abc");
    assert_eq!((r.status, r.body.as_slice()), (200, &b"CBA"[..]));
    assert_eq!(r.headers["content-type"], "text/plain");
    assert_eq!(r.headers["x-invocation-id"].len(), 16);
    let trace = &r.headers["traceparent"];
    assert!(
        trace.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"),
        "{trace}"
    );
    assert_ne!(trace, parent, "the span is ours");
    assert!(server.log().contains("[") && server.log().contains(&r.headers["x-invocation-id"]));

    // As much as the region holds, and nothing at all.
    let big: Vec<u8> = (0..256 * 1024).map(|i| b'a' + (i % 23) as u8).collect();
    let r = server.post("pair", &big);
    assert!(r.status == 200 && r.body == pair(&big));
    assert_eq!(server.post("pair", b"").body, b"");
    assert_eq!(server.post("trial", b"count").body, b"1");
    assert_eq!(
        server.post("trial", b"count").body,
        b"1",
        "a fresh copy each"
    );
}

#[test]
fn callers_faults_are_4xx() {
    let server = Server::start(&["--workers", "1"]);
    let told = |method, path, headers: &[_], body: &[u8]| {
        server.request(method, path, headers, body).told()
    };
    let as_told = |status, cause: &str| (status, cause.to_owned());
    assert_eq!(
        told("GET", "/chain", &[], b""),
        as_told(404, "unknown-path")
    );
    assert_eq!(
        told("GET", "/robots.txt", &[], b""),
        as_told(404, "unknown-path")
    );
    assert_eq!(
        told("POST", "/chains/none", &[], b""),
        as_told(404, "unknown-chain")
    );
    assert_eq!(
        told("POST", "/functions/upper", &[], b""),
        as_told(404, "unknown-function")
    );
    assert_eq!(
        told("POST", "/chains/", &[], b""),
        as_told(404, "unknown-chain")
    );
    assert_eq!(
        told("POST", "/chains/functions/upper", &[], b""),
        as_told(404, "unknown-chain")
    );
    let r = server.get("/chains/trial");
    assert_eq!(r.told(), as_told(405, "method"));
    assert_eq!(r.headers["allow"], "POST");
    assert_eq!(told("POST", "/healthz", &[], b""), as_told(405, "method"));
    for bad in ["", "x", "-1", "0", "1e99", "NaN"] {
        let h = [("Request-Timeout", bad)];
        assert_eq!(
            told("POST", "/chains/trial", &h, b"ok"),
            as_told(400, "bad-timeout"),
            "{bad:?}"
        );
    }
    for good in ["20", "12.5", "20s", "1h"] {
        let h = [("Request-Timeout", good)];
        assert_eq!(
            server.request("POST", "/chains/trial", &h, b"ok").status,
            200
        );
    }
    let long = "x".repeat(200);
    assert_eq!(
        told("POST", "/chains/trial", &[("Content-Type", &long)], b"ok"),
        as_told(400, "bad-content-type")
    );
    // A function's own words, where they are HTTP's.
    let r = server.post("trial", b"no such command");
    assert_eq!(r.told(), as_told(400, "error"));
    assert!(
        r.problem()["detail"]
            .as_str()
            .unwrap()
            .contains("no such command")
    );
}

#[test]
fn functions_faults_are_5xx_and_name_the_place() {
    let server = Server::start(&["--workers", "1"]);
    let place = |r: &Response| {
        let v = r.problem();
        assert_eq!(v["invocation"], *r.headers["x-invocation-id"]);
        (
            v["chain"].as_str().unwrap().to_owned(),
            v["step"].as_u64(),
            v["function"].as_str().map(str::to_owned),
        )
    };
    for (input, status, cause) in [
        ("error", 500, "error"),
        ("append too much", 413, "error"),
        ("allocate", 507, "error"),
        ("null", 502, "crash"),
        ("exit", 502, "crash"),
        ("fork bomb", 502, "crash"),
        ("claim too much", 502, "too-big"),
    ] {
        let r = server.post("trial", input.as_bytes());
        assert_eq!(r.told(), (status, cause.to_owned()), "{input}");
        assert_eq!(place(&r), ("trial".into(), Some(1), Some("hostile".into())));
        assert_eq!(server.post("trial", b"ok").body, b"fine", "after {input}");
    }
    // Its own timeout, at step 2 (step 1 reverses the command).
    let r = server.post("hasty", b"pool");
    assert_eq!(r.told(), (504, "timeout".into()));
    assert_eq!(place(&r), ("hasty".into(), Some(2), Some("brief".into())));
    // The caller's deadline.
    let r = server.request(
        "POST",
        "/chains/trial",
        &[("Request-Timeout", "0.3")],
        b"loop",
    );
    assert_eq!(r.told(), (504, "deadline".into()));
    assert_eq!(server.post("trial", b"ok").body, b"fine");
    assert_eq!(server.metric("lwc_worker_restarts_total"), Some(0.0));
    for (cause, n) in [("crash", 3.0), ("error", 3.0), ("deadline", 1.0)] {
        let name = format!("faas_errors_total{{chain=\"trial\",cause=\"{cause}\"}}");
        assert_eq!(server.metric(&name), Some(n), "{cause}");
    }
    assert_eq!(
        server.metric("faas_invoke_duration_seconds_count{chain=\"trial\"}"),
        server.metric("faas_invocations_total{chain=\"trial\"}")
    );
}

#[test]
fn a_function_alone_is_served_where_it_is_asked_for() {
    let server = Server::start(&["--workers", "1", "--functions"]);
    let r = server.request("POST", "/functions/upper", &[], b"abc");
    assert_eq!((r.status, r.body.as_slice()), (200, &b"ABC"[..]));
    let r = server.request("POST", "/functions/none", &[], b"");
    assert_eq!(r.told(), (404, "unknown-function".into()));
    // What the gateway calls it is no way around.
    let r = server.request("POST", "/functions/functions/upper", &[], b"");
    assert_eq!(r.status, 404);
}

#[test]
fn one_connection_serves_many_requests() {
    let server = Server::start(&["--workers", "1"]);
    let mut stream = server.connect();
    let one = b"POST /chains/trial HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nok";
    let read = |stream: &mut std::net::TcpStream, n: usize| {
        let mut all = Vec::new();
        loop {
            let mut rest = all.as_slice();
            let mut seen = 0;
            while let Some((r, more)) = Response::parse(rest) {
                assert_eq!((r.status, r.body.as_slice()), (200, &b"fine"[..]));
                (rest, seen) = (more, seen + 1);
            }
            if seen == n {
                return assert!(rest.is_empty());
            }
            let mut piece = [0; 4096];
            let got = stream.read(&mut piece).unwrap();
            assert!(got > 0, "hung up after {seen}");
            all.extend_from_slice(&piece[..got]);
        }
    };
    for _ in 0..3 {
        stream.write_all(one).unwrap();
        read(&mut stream, 1);
    }
    // Pipelined: answers come in order, each once.
    stream.write_all(&one.repeat(5)).unwrap();
    read(&mut stream, 5);
}

#[test]
fn http_2_is_spoken_without_tls() {
    use http_body_util::{BodyExt, Full};
    use hyper::{Request, body::Bytes};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let server = Server::start(&["--workers", "2"]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address)
            .await
            .unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let mut all = Vec::new();
        for i in 0..20 {
            let mut sender = sender.clone();
            all.push(tokio::spawn(async move {
                let input = format!("stream {i}");
                let request = Request::post("http://test/chains/pair")
                    .body(Full::new(Bytes::from(input.clone())))
                    .unwrap();
                let response = sender.send_request(request).await.unwrap();
                assert_eq!(response.status(), 200);
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, pair(input.as_bytes()));
            }));
        }
        for one in all {
            one.await.unwrap();
        }
    });
}
