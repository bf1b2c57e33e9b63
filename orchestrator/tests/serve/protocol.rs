//! What HTTP's specifications have to say, on both versions of it.

use crate::server::{Response, Server, chains};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

/// The chains of these tests beside all tests' own.
const CHAINS: &str = r#"
[functions.mirror]
source = "OURS"

[functions.event]
source = "OURS"

[functions.says]
source = "OURS"

[functions.slow]
source = "OURS"
timeout = "20s"

[chains.asked]
steps = ["mirror"]
headers = ["*"]

[chains.plain]
steps = ["mirror"]

[chains.said]
steps = ["says"]

[chains.late]
steps = ["slow"]

[chains.happened]
steps = ["event"]
"#;

fn file() -> String {
    let ours = crate::common::home().join("orchestrator/tests/serve/functions.c");
    chains(&CHAINS.replace("OURS", ours.to_str().unwrap()))
}

fn server(options: &[&str]) -> Server {
    Server::with(&file(), &[&["--workers", "1"], options].concat())
}

fn text(body: &[u8]) -> &str {
    std::str::from_utf8(body).unwrap()
}

/// What a server answers to bytes of a client that then has no more to say.
fn raw(server: &Server, bytes: &str) -> String {
    String::from_utf8(server.raw(bytes.as_bytes())).unwrap()
}

#[track_caller]
fn told(server: &Server, bytes: &str) -> (u16, String) {
    let answer = server.raw(bytes.as_bytes());
    let (response, rest) = Response::parse(&answer).unwrap();
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(rest));
    response.told()
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

async fn h2(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

/// One request over HTTP/2.
async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<&'static str>,
) -> (StatusCode, HeaderMap, Bytes) {
    let request = request.map(|body| Full::new(Bytes::from(body)));
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, body)
}

#[test]
fn a_request_has_one_host() {
    let server = server(&[]);
    let close = "Connection: close\r\n\r\n";
    for hosts in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a b/c\r\n",
        "Host: u@a\r\n",
    ] {
        for path in ["/healthz", "/chains/plain", "/nowhere"] {
            let request = format!("POST {path} HTTP/1.1\r\n{hosts}{close}");
            assert_eq!(
                told(&server, &request),
                (400, "bad-header".into()),
                "{request}"
            );
        }
    }
    // The older version knows none; the newest has it in another place.
    let answer = raw(&server, "GET /healthz HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    let request = format!("POST http://a.example:1/chains/asked HTTP/1.1\r\nHost: b\r\n{close}");
    assert!(raw(&server, &request).contains("\nhost=a.example:1\n"));
    runtime().block_on(async {
        let mut sender = h2(server.address).await;
        let request = Request::post("http://a.example:1/chains/asked");
        let (status, _, body) = ask(&mut sender, request.body("").unwrap()).await;
        assert_eq!(status, 201);
        assert!(text(&body).contains("\nhost=a.example:1\n"), "{body:?}");
        let request = Request::post("http://a.example:1/chains/asked").header("host", "b");
        let (status, ..) = ask(&mut sender, request.body("").unwrap()).await;
        assert_eq!(status, 400);
    });
    assert_eq!(
        server.metric("faas_invocations_total{chain=\"plain\"}"),
        Some(0.0)
    );
}

#[test]
fn what_has_no_content_has_none_on_either_version() {
    let server = server(&["--target", "said", "--admin", "127.0.0.1:0"]);
    // HTTP/1: the connection serves the next request, so nothing came in between.
    let mut all = String::new();
    for said in [
        ":status=204\n",
        ":status=304\netag=\"1\"\n",
        ":status=205\n",
    ] {
        let len = said.len();
        all += &format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {len}\r\n\r\n{said}");
    }
    all += "HEAD / HTTP/1.1\r\nHost: t\r\n\r\n";
    all += "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let answers = raw(&server, &all);
    let heads: Vec<&str> = answers.split("\r\n\r\n").collect();
    let [no_content, not_modified, reset, head, get, body] = heads[..] else {
        panic!("{answers}");
    };
    assert!(no_content.starts_with("HTTP/1.1 204") && !no_content.contains("\r\ncontent-"));
    assert!(not_modified.starts_with("HTTP/1.1 304") && not_modified.contains("etag: \"1\""));
    assert!(reset.starts_with("HTTP/1.1 205") && reset.contains("content-length: 0"));
    for with in [head, get] {
        assert!(with.starts_with("HTTP/1.1 200"), "{with}");
        assert!(with.contains("content-length: 9"), "{with}");
    }
    assert_eq!(body, "something");
    runtime().block_on(async {
        // A client of HTTP/2 gives up a stream that has DATA where there is none.
        let mut sender = h2(server.address).await;
        for (said, expected) in [
            (":status=204\n", 204),
            (":status=304\netag=\"1\"\n", 304),
            (":status=205\n", 205),
        ] {
            let request = Request::post("http://t/").body(said).unwrap();
            let (status, headers, body) = ask(&mut sender, request).await;
            assert_eq!((status.as_u16(), &body[..]), (expected, &b""[..]));
            assert!(!headers.contains_key("content-type"), "{headers:?}");
        }
        let request = Request::head("http://t/any").body("").unwrap();
        let (status, headers, body) = ask(&mut sender, request).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b""[..]));
        assert_eq!(headers["content-length"], "9");
        let mut sender = h2(server.admin().address).await;
        for path in ["healthz", "metrics", "status.json", "nowhere"] {
            let uri = format!("http://localhost/{path}");
            let (head, headers, body) =
                ask(&mut sender, Request::head(&uri).body("").unwrap()).await;
            let (get, _, whole) = ask(&mut sender, Request::get(&uri).body("").unwrap()).await;
            assert_eq!((head, body.len()), (get, 0), "{path}");
            assert!(!whole.is_empty() && headers.contains_key("content-length"));
        }
    });
}

#[test]
fn whoever_has_no_more_to_say_is_answered() {
    let server = server(&[]);
    for body in [
        "Content-Length: 2\r\n\r\nok",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let mut stream = server.connect();
        let request = format!("POST /chains/late HTTP/1.1\r\nHost: t\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        assert!(
            all.starts_with("HTTP/1.1 200") && all.ends_with("late"),
            "{all}"
        );
    }
}

#[test]
fn whoever_leaves_is_counted_and_told_of() {
    let server = server(&[]);
    let counted = || {
        let name = "faas_invocations_total{chain=\"late\"}";
        server.metric(name).unwrap_or(0.0)
    };
    let is_at_work = || server.metric("lwc_workers_busy") == Some(1.0);
    let is_idle = || server.metric("lwc_workers_busy") == Some(0.0);
    // A connection that is closed, and one that is reset.
    let request = b"POST /chains/late HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n";
    for (n, reset) in [(1.0, false), (2.0, true)] {
        server.until("the last one has ended", is_idle);
        let mut stream = server.connect();
        stream.write_all(request).unwrap();
        server.until("it runs", is_at_work);
        if reset {
            let linger = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger)
                .unwrap();
        }
        drop(stream);
        server.until("it is counted", || counted() == n);
    }
    // A stream that is reset, and a connection with streams.
    let runtime = runtime();
    for n in [3.0, 4.0] {
        // The function of one that has left runs on to its end.
        server.until("the last one has ended", is_idle);
        let (sender, response) = runtime.block_on(async {
            let mut sender = h2(server.address).await;
            let request = Request::post("http://t/chains/late").body(Full::default());
            let response = tokio::spawn(sender.send_request(request.unwrap()));
            (sender, response)
        });
        server.until("it runs", is_at_work);
        response.abort();
        if n == 4.0 {
            drop(sender);
        }
        server.until("it is counted", || counted() == n);
    }
    let gone = server.metric("faas_errors_total{chain=\"late\",cause=\"client-gone\"}");
    assert!(gone >= Some(2.0), "{gone:?}");
    let log = server.log();
    let lines = log.lines().filter(|l| l.contains("invocation] late ["));
    assert_eq!(lines.count(), 4, "{log}");
    assert!(log.contains("499 client-gone"), "{log}");
    assert_eq!(server.post("plain", b"").status, 201);
}

#[test]
fn how_a_body_is_packed_is_said_both_ways() {
    let server = server(&[]);
    let packed = [("Content-Encoding", "gzip"), ("x-other", "1")];
    for (chain, other) in [("asked", true), ("plain", false)] {
        let path = format!("/chains/{chain}");
        let r = server.request("POST", &path, &packed, b"\x1f\x8b");
        let body = text(&r.body);
        assert!(body.contains("content-encoding=gzip\n"), "{body}");
        assert_eq!(body.contains("x-other"), other, "{body}");
    }
    let r = server.post("said", b"content-encoding=br\nvary=accept-encoding\n");
    assert_eq!(r.headers["content-encoding"], "br");
    let event = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "s"),
        ("ce-type", "t"),
        ("content-encoding", "gzip"),
    ];
    let r = server.request("POST", "/chains/happened", &event, b"\x1f\x8b");
    assert_eq!(r.status, 200);
    assert!(r.body.starts_with(b"ce-specversion="), "{r:?}");
    assert!(String::from_utf8_lossy(&r.body).contains("\ncontent-encoding=gzip\n"));
    let packed = [
        ("Content-Type", "application/cloudevents+json"),
        ("Content-Encoding", "gzip"),
    ];
    let r = server.request("POST", "/chains/happened", &packed, b"\x1f\x8b");
    assert_eq!(r.told(), (415, "bad-event".into()));
    let r = told(
        &server,
        "POST /chains/plain HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    );
    assert_eq!(r, (501, "bad-body".into()));
}

#[test]
fn headers_are_what_http_lets_them_be() {
    let server = server(&[]);
    let mut request =
        b"POST /chains/asked HTTP/1.1\r\nHost: t\r\nConnection: close\r\nUser-Agent: a\xeeb\r\n"
            .to_vec();
    request.extend_from_slice("cf-ipcity: Zürich\r\n".as_bytes());
    request.extend_from_slice(b"$WSSC: 1\r\nx-a~b: 1\r\nx!: 1\r\nx'y: 1\r\n\r\n");
    let answer = server.raw(&request);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(answer.contains("\ncf-ipcity=Zürich\n") && !answer.contains("user-agent"));
    // As many cookies as are set.
    let said = "set-cookie=a=1\nset-cookie.b=b=2; Path=/\nset-cookie.c=c=3\n";
    let len = said.len();
    let request = format!(
        "POST /chains/said HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{said}"
    );
    let answer = raw(&server, &request);
    for cookie in ["a=1", "b=2; Path=/", "c=3"] {
        assert!(
            answer.contains(&format!("\r\nset-cookie: {cookie}\r\n")),
            "{answer}"
        );
    }
    // A tunnel is nothing that a function makes.
    for request in [
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nConnection: close\r\n\r\n",
        "CONNECT t:80 HTTP/1.1\r\nHost: t:80\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(told(&server, request), (501, "method".into()));
    }
    // One parent, or none.
    let id = |n| format!("00-1234567890123456789012345678901{n}-1234567890123456-01");
    let [one, two] = [id(1), id(2)];
    let both = [
        ("traceparent", one.as_str()),
        ("traceparent", &two),
        ("tracestate", "a=1"),
    ];
    let r = server.request("POST", "/chains/plain", &both, b"");
    assert!(!r.headers["traceparent"].contains("123456789012345678901234567890"));
}

#[test]
fn an_events_attributes_are_what_they_mean() {
    let server = server(&[]);
    let with = |more: &[(&str, &str)]| {
        let event = [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "s"),
            ("ce-type", "t"),
        ];
        server.request("POST", "/chains/happened", &[&event, more].concat(), b"")
    };
    let r = with(&[
        ("ce-subject", r#""say \"hi\"""#),
        ("ce-path", r#""C:\\temp""#),
        ("ce-time", "0001-01-01T00:00:00Z"),
        ("ce-datacontenttype", "text/html"),
    ]);
    let body = text(&r.body);
    for line in [
        "ce-subject=say \"hi\"\n",
        "ce-path=C:\\temp\n",
        "ce-time=0001-01-01T00:00:00Z\n",
    ] {
        assert!(body.contains(line), "{body}");
    }
    assert!(!body.contains("datacontenttype"), "{body}");
    for more in [
        &[("ce-id", "2")][..],
        &[("ce-tags", "a"), ("ce-tags", "b")],
        &[("ce-time", "2020-01-01T00:00:00+01:+5")],
        &[("ce-data", "x")],
    ] {
        assert_eq!(with(more).told(), (400, "bad-event".into()), "{more:?}");
    }
    // A function that is no event's sees the same, and may hand it on.
    let r = server.request(
        "POST",
        "/chains/plain",
        &[("ce-subject", "Z%C3%BCrich%20100%25")],
        b"",
    );
    assert!(text(&r.body).contains("ce-subject=Zürich 100%\n"), "{r:?}");
    let r = server.post("said", "ce-type=t\nce-subject=Zürich 100%\n".as_bytes());
    assert_eq!(r.headers["ce-subject"], "Z%C3%BCrich%20100%25");
}
