//! Clients that send too much, too slowly, too often or nonsense.

use crate::server::{Response, Server};
use std::io::{Read, Write};

/// Types of frames of HTTP/2, and a flag: nothing comes behind it on its stream.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END: u8 = 1;

/// The setting of whoever takes nothing until it says so.
const NO_WINDOWS: [u8; 6] = [0, 4, 0, 0, 0, 0];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    let head = [&len[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// What a connection of HTTP/2 begins with.
fn preface(settings: &[u8]) -> Vec<u8> {
    let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..];
    [preface, &frame(SETTINGS, 0, 0, settings)].concat()
}

/// The head of a request.
fn head(method: &str, path: &str) -> Vec<u8> {
    let names = [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "t"),
    ];
    let all = names.map(|(name, value)| {
        let length = |text: &str| [text.len() as u8];
        [
            &[0],
            &length(name)[..],
            name.as_bytes(),
            &length(value),
            value.as_bytes(),
        ]
        .concat()
    });
    all.concat()
}

/// A request on a stream of HTTP/2, whose body may go on.
fn post(stream: u32, path: &str, body: &[u8]) -> Vec<u8> {
    let head = frame(HEADERS, 4, stream, &head("POST", path));
    [head, frame(DATA, 0, stream, body)].concat()
}

#[test]
fn bodies_and_heads_are_limited() {
    let server = Server::start(&["--workers", "1"]);
    // Told before a byte of it is sent.
    let head = "POST /chains/trial HTTP/1.1\r\nHost: t\r\nContent-Length: 65537\r\n\r\n";
    let answer = server.raw(head.as_bytes());
    let (r, rest) = Response::parse(&answer).unwrap();
    assert_eq!(r.told(), (413, "too-large".into()));
    assert!(rest.is_empty());
    // One that does not say how long it is.
    let mut text =
        b"POST /chains/trial HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    text.extend_from_slice(b"10001\r\n");
    text.extend_from_slice(&[b'x'; 0x10001]);
    let answer = server.raw(&text);
    let (r, _) = Response::parse(&answer).unwrap();
    assert_eq!(r.told(), (413, "too-large".into()));
    // A head beyond its limits, in bytes and in lines.
    let long = format!(
        "GET /healthz HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    let many = format!(
        "GET /healthz HTTP/1.1\r\nHost: t\r\n{}\r\n",
        "X: x\r\n".repeat(200)
    );
    for head in [long, many] {
        let answer = server.raw(head.as_bytes());
        let status = Response::parse(&answer).map(|(r, _)| r.status);
        // A reset may overtake the answer when much is left unread.
        assert!(matches!(status, Some(431) | None), "{status:?}");
    }
    assert_eq!(server.post("trial", b"ok").body, b"fine");
}

#[test]
fn malformed_requests_end_their_connection_alone() {
    let server = Server::start(&["--workers", "1"]);
    for bad in [
        &b"\x00\x01\x02\x03\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST\r\n\r\n",
        b"POST /chains/trial HTTP/9.9\r\n\r\n",
        b"POST /chains/trial HTTP/1.1\r\nContent-Length: x\r\n\r\nok",
        b"POST /chains/trial HTTP/1.1\r\nContent-Length: -2\r\n\r\nok",
        b"POST /chains/trial HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"POST /chains/trial HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /chains/trial HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /chains/trial HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nthis is no frame at all, is it?",
    ] {
        let mut stream = server.connect();
        let _ = stream.write_all(bad);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let shown = String::from_utf8_lossy(bad);
        if let Some((r, rest)) = Response::parse(&all) {
            assert_eq!(r.status, 400, "{shown}: {r:?}");
            assert!(rest.is_empty(), "{shown}");
        }
        assert_eq!(server.post("trial", b"ok").body, b"fine", "after {shown}");
    }
    // None of them reached a function.
    let oks = server.metric("faas_errors_total{chain=\"trial\",cause=\"crash\"}");
    assert_eq!(oks, Some(0.0));
    assert_eq!(server.metric("lwc_worker_restarts_total"), Some(0.0));
}

#[test]
fn a_slow_client_is_hung_up_on_and_holds_up_nobody() {
    let server = Server::start(&["--workers", "1", "--header-timeout", "300ms"]);
    let mut slow: Vec<_> = [
        &b""[..],
        b"POST /chains/trial HT",
        b"POST /chains/trial HTTP/1.1\r\nHost: t\r\n",
        // A beginning of both HTTP/1 and HTTP/2.
        b"P",
        b"PRI * HTTP/2.0\r\n",
    ]
    .into_iter()
    .map(|part| {
        let mut stream = server.connect();
        stream.write_all(part).unwrap();
        (part, stream)
    })
    .collect();
    assert_eq!(server.post("trial", b"ok").body, b"fine");
    for (part, stream) in &mut slow {
        let mut all = Vec::new();
        // The read limit of the test's own would be an error here.
        let end = stream.read_to_end(&mut all);
        assert!(
            end.is_ok()
                || end
                    .as_ref()
                    .is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset),
            "{part:?}: {end:?}"
        );
        if let Some((r, _)) = Response::parse(&all) {
            assert_eq!(r.status, 408);
        }
    }
    // A body that never comes has the request's deadline.
    let answer = server.raw(
        b"POST /chains/trial HTTP/1.1\r\nHost: t\r\nRequest-Timeout: 0.3\r\nContent-Length: 10\r\n\r\nok",
    );
    let (r, _) = Response::parse(&answer).unwrap();
    assert_eq!(r.told(), (408, "slow-body".into()));
}

#[test]
fn a_full_queue_turns_requests_away() {
    let server = Server::start(&["--workers", "1", "--queue", "2", "--timeout", "50s"]);
    std::thread::scope(|scope| {
        let held: Vec<_> = (0..3)
            .map(|i| {
                let held = scope.spawn(|| server.post("trial", b"loop"));
                server.until_held(1.0, f64::from(i));
                held
            })
            .collect();
        let r = server.post("trial", b"ok");
        assert_eq!(r.told(), (429, "queue-full".into()));
        assert_eq!(r.headers["retry-after"], "1");
        // Another chain's queue has room; its deadline passes in it.
        let r = server.request("POST", "/chains/pair", &[("Request-Timeout", "0.2")], b"x");
        assert_eq!(r.told(), (504, "deadline".into()));
        assert!(r.problem()["step"].is_null(), "no function is to blame");
        // Each worker that dies takes the one it runs with it, no other.
        for (n, one) in held.into_iter().enumerate() {
            server.until("a worker is at work", || {
                server.metric("lwc_workers_busy") == Some(1.0)
                    && server.metric("lwc_worker_restarts_total") == Some(n as f64)
            });
            let [pid] = server.workers()[..] else {
                panic!("{}", server.log())
            };
            crate::server::send(pid, libc::SIGKILL);
            // Which of the three it was, nobody knows.
            server.until("the worker is replaced", || {
                server.metric("lwc_worker_restarts_total") == Some((n + 1) as f64)
            });
            drop(one);
        }
    });
    assert_eq!(server.post("trial", b"ok").body, b"fine");
    let lost = "faas_errors_total{chain=\"trial\",cause=\"worker-lost\"}";
    assert_eq!(server.metric(lost), Some(3.0));
}

/// A place in the queue, and a body there, of whoever does not wait any more would be
/// nobody's: the room of the body is given to others.
#[test]
fn nothing_of_whoever_has_gone_stays_in_the_queue() {
    let server = Server::start(&["--workers", "1", "--timeout", "50s"]);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| server.post("trial", b"loop"));
        server.until_held(1.0, 0.0);
        let late = [("Request-Timeout", "0.2")];
        let late = server.request("POST", "/chains/trial", &late, b"ok");
        assert_eq!(late.told(), (504, "deadline".into()));
        server.until_held(1.0, 0.0);
        let mut fickle = server.connect();
        let mut said = preface(&[]);
        for stream in [1, 3, 5] {
            said.extend(post(stream, "/chains/trial", b"ok"));
            said.extend(frame(DATA, END, stream, b""));
        }
        fickle.write_all(&said).unwrap();
        server.until_held(1.0, 3.0);
        fickle
            .write_all(&frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]))
            .unwrap();
        server.until_held(1.0, 2.0);
        drop(fickle);
        server.until_held(1.0, 0.0);
        let [pid] = server.workers()[..] else {
            panic!("{}", server.log())
        };
        crate::server::send(pid, libc::SIGKILL);
        assert_eq!(held.join().unwrap().told(), (502, "worker-lost".into()));
    });
    assert_eq!(server.post("trial", b"ok").body, b"fine");
}

#[test]
fn bodies_have_no_more_memory_than_there_is_for_them() {
    let server = Server::start(&["--workers", "1", "--body-bytes", "64KiB"]);
    // One that does not end, and holds most of it.
    let mut slow = server.connect();
    let head = "POST /chains/pair HTTP/1.1\r\nHost: t\r\nContent-Length: 60001\r\n\r\n";
    slow.write_all(&[head.as_bytes(), &[b'a'; 60_000]].concat())
        .unwrap();
    server.until("it is held", || {
        server.metric("lwc_body_bytes") == Some(60_000.0)
    });
    assert_eq!(server.post("pair", &[b'a'; 5000]).body.len(), 5000);
    let r = server.post("pair", &[b'a'; 6000]);
    assert_eq!(r.told(), (503, "over-budget".into()));
    assert_eq!(r.headers["retry-after"], "1");
    assert_eq!(
        server.metric("lwc_refused_total{budget=\"bodies\"}"),
        Some(1.0)
    );
    slow.write_all(b"z").unwrap();
    let mut first = [0; 15];
    slow.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    server.until("it is given back", || {
        server.metric("lwc_body_bytes") == Some(0.0)
    });
    // Alone, one may be as large as its chain takes.
    assert_eq!(server.post("pair", &[b'a'; 200_000]).body.len(), 200_000);
}

/// A client of HTTP/2 asks for many answers and takes none of them: they are bodies, too.
#[test]
fn answers_that_nobody_takes_are_bodies_as_well() {
    let server = Server::start(&["--workers", "1", "--body-bytes", "64KiB"]);
    let mut deaf = server.connect();
    let mut said = preface(&NO_WINDOWS);
    for stream in [1, 3] {
        said.extend(post(stream, "/chains/pair", &[b'a'; 15_000]));
        said.extend(frame(DATA, 1, stream, &[b'a'; 15_000]));
    }
    deaf.write_all(&said).unwrap();
    server.until("both have run", || {
        server.metric("faas_invocations_total{chain=\"pair\"}") == Some(2.0)
    });
    assert_eq!(server.metric("lwc_body_bytes"), Some(60_000.0));
    let r = server.post("pair", &[b'a'; 6000]);
    assert_eq!(r.told(), (503, "over-budget".into()));
    assert_eq!(server.post("pair", &[b'a'; 5000]).body.len(), 5000);
    drop(deaf);
    server.until("it is given back", || {
        server.metric("lwc_body_bytes") == Some(0.0)
    });
}

/// What is for operators is as long as there are chains, and counts as no body.
#[test]
fn pages_that_nobody_takes_are_so_many() {
    let server = Server::start(&["--workers", "1"]);
    let mut deaf = server.connect();
    let mut said = preface(&NO_WINDOWS);
    for n in 0..64_u8 {
        let path = ["/metrics", "/status.json", "/"][usize::from(n % 3)];
        let head = head("GET", path);
        said.extend(frame(HEADERS, 4 | END, 1 + 2 * u32::from(n), &head));
    }
    deaf.write_all(&said).unwrap();
    // Heads of answers come, their bodies do not.
    let mut answers = 0;
    while answers < 64 {
        let mut start = [0; 9];
        deaf.read_exact(&mut start).unwrap();
        let len = u32::from_be_bytes([0, start[0], start[1], start[2]]);
        let mut rest = vec![0; len as usize];
        deaf.read_exact(&mut rest).unwrap();
        assert_ne!(start[3], DATA, "{rest:?}");
        answers += usize::from(start[3] == HEADERS);
    }
    assert_eq!(server.get("/metrics").told(), (503, "over-budget".into()));
    assert_eq!(
        server.get("/status.json").told(),
        (503, "over-budget".into())
    );
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.get(path).status, 200);
    }
    assert_eq!(server.post("trial", b"ok").body, b"fine");
    drop(deaf);
    server.until("they are given back", || {
        server.get("/metrics").status == 200
    });
}

/// It asks on meanwhile: it is never idle.
#[test]
fn whoever_takes_nothing_of_an_answer_is_hung_up_on() {
    let options = [
        "--workers",
        "1",
        "--body-bytes",
        "64KiB",
        "--timeout",
        "10m",
    ];
    let server = Server::start(&[&options[..], &["--idle-timeout", "300ms"]].concat());
    let mut deaf = server.connect();
    let mut said = preface(&NO_WINDOWS);
    for n in 0..3 {
        let more = [b'a'; 15_000];
        said.extend(match n {
            0 => post(1, "/chains/pair", &more),
            _ => frame(DATA, if n == 2 { END } else { 0 }, 1, &more),
        });
    }
    // One whose body does not end.
    said.extend(post(3, "/chains/pair", b"a"));
    deaf.write_all(&said).unwrap();
    server.until("the first has been run", || {
        server.metric("faas_invocations_total{chain=\"pair\"}") == Some(1.0)
    });
    server.until("all is given back", || {
        server.metric("lwc_body_bytes") == Some(0.0)
    });
    let hung_up = server.metric("lwc_refused_total{budget=\"idle\"}");
    assert_eq!(hung_up, Some(1.0));
    assert_eq!(server.post("pair", &[b'a'; 60_000]).body.len(), 60_000);
}

/// An answer that is being taken is not cut, however long that takes.
#[test]
fn whoever_takes_an_answer_slowly_has_all_of_it() {
    const LEN: usize = 24 << 20;
    let source = crate::common::home().join("orchestrator/tests/serve/functions.c");
    let file = format!(
        "[functions.upper]\nsource = \"{}\"\n[chains.large]\nsteps = [\"upper\"]\nregion = \"24MiB\"\n",
        source.display()
    );
    let server = Server::with(&file, &["--workers", "1", "--idle-timeout", "1s"]);
    let mut slow = server.connect();
    // What is not taken here is at the server, but for so much.
    nix::sys::socket::setsockopt(&slow, nix::sys::socket::sockopt::RcvBuf, &65536).unwrap();
    let head = format!("POST /chains/large HTTP/1.1\r\nHost: t\r\nContent-Length: {LEN}\r\n\r\n");
    slow.write_all(&[head.as_bytes(), &vec![b'a'; LEN]].concat())
        .unwrap();
    let (mut all, mut piece) = (Vec::new(), vec![0; 256 << 10]);
    while all.len() < LEN {
        let n = slow.read(&mut piece).unwrap();
        assert!(n > 0, "it is cut after {} bytes", all.len());
        all.extend_from_slice(&piece[..n]);
        // For as long in all as twice the time for which it would be idle.
        std::thread::sleep(std::time::Duration::from_nanos(150 * n as u64));
    }
    let (r, _) = Response::parse(&all).expect("an answer");
    assert_eq!((r.status, r.body.len()), (200, LEN));
}

#[test]
fn an_address_has_so_many_connections_and_requests() {
    let options = ["--workers", "1", "--address-connections", "3"];
    let more = ["--address-requests", "2", "--admin", "127.0.0.1:0"];
    let server = Server::start(&[&options[..], &more].concat());
    let refused = |budget: &str| {
        let name = format!("lwc_refused_total{{budget=\"{budget}\"}}");
        server.admin().metric(&name).unwrap()
    };
    // Two requests that do not end.
    let head = b"POST /chains/pair HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\na";
    let mut held: Vec<_> = (0..2).map(|_| server.connect()).collect();
    held.iter_mut().for_each(|s| s.write_all(head).unwrap());
    server.until("both are there", || {
        server.admin().metric("lwc_body_bytes") == Some(2.0)
    });
    assert_eq!(
        server.post("pair", b"a").told(),
        (429, "too-many-requests".into())
    );
    assert_eq!(refused("requests"), 1.0);
    let third = server.connect();
    server.until("it is accepted", || {
        server.admin().metric("lwc_connections") == Some(3.0)
    });
    let mut fourth = Vec::new();
    let _ = server.connect().read_to_end(&mut fourth);
    assert_eq!((fourth.len(), refused("connections")), (0, 1.0));
    // Operators get through, and what is given back is there for others.
    assert_eq!(server.admin().get("/readyz").status, 200);
    drop((held, third));
    server.until("they are gone", || {
        server.admin().metric("lwc_connections") == Some(0.0)
    });
    assert_eq!(server.post("pair", b"a").body, b"A");
}

#[test]
fn a_connection_of_http_2_that_asks_nothing_is_ended() {
    let options = ["--workers", "1", "--idle-timeout", "300ms"];
    let server = Server::start(&[&options[..], &["--connections", "2"]].concat());
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut idle: Vec<_> = (0..2).map(|_| server.connect()).collect();
    idle.iter_mut().for_each(|s| s.write_all(preface).unwrap());
    // Nobody else gets through until they are ended, though neither says a word.
    assert_eq!(server.post("trial", b"ok").body, b"fine");
    let ended = server.metric("lwc_refused_total{budget=\"idle\"}");
    assert!(ended >= Some(1.0), "{ended:?}");
}

#[test]
fn heads_have_a_limit_that_is_chosen() {
    let head = |n: usize| {
        let long = "x".repeat(n);
        format!("GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\nX: {long}\r\n\r\n")
    };
    for (limit, fits, more) in [("8KiB", 7000, 9000), ("64KiB", 50_000, 66_000)] {
        let server = Server::start(&["--workers", "1", "--head-bytes", limit]);
        let status = |n| {
            let answer = server.raw(head(n).as_bytes());
            Response::parse(&answer).map(|(r, _)| r.status)
        };
        assert_eq!(status(fits), Some(200), "{limit}");
        // A reset may overtake the answer when some is left unread.
        let refused = status(more);
        assert!(matches!(refused, Some(431) | None), "{refused:?}");
        server.until("it is counted", || {
            server.metric("lwc_refused_total{budget=\"heads\"}") == Some(1.0)
        });
    }
}

/// A process without descriptors would accept nobody and start no worker.
#[cfg(target_os = "linux")]
#[test]
fn connections_leave_descriptors_to_operators_and_workers() {
    use crate::common::{Folder, orchestrator};
    use crate::server::{chains, send};
    use std::process::Command;
    const LIMIT: &str = "128";
    let folder = Folder::new(&chains(""));
    let ours = orchestrator();
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"ulimit -n "$1"; shift; exec "$@""#, "sh", LIMIT])
        .arg(ours.get_program())
        .args(["-v", "serve", "--workers", "1", "--listen", "127.0.0.1:0"])
        .args(["--admin", "127.0.0.1:0", "--header-timeout", "10m"])
        .arg(folder.path("chain.toml"));
    for (name, value) in ours.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let server = Server::spawn(folder, command);
    assert!(
        server
            .log()
            .contains("this process may have 128 descriptors"),
        "{}",
        server.log()
    );
    // More than there are descriptors for; the system keeps those that are not accepted.
    let silent: Vec<_> = (0..150).map(|_| server.connect()).collect();
    server.until("as many as there is room for are there", || {
        server.admin().metric("lwc_connections") == Some(48.0)
    });
    let old = server.workers();
    send(old[0], libc::SIGKILL);
    server.until("the worker is replaced", || {
        let new = server.workers();
        new.len() == 1 && new != old
    });
    assert_eq!(server.admin().get("/readyz").status, 200);
    drop(silent);
    assert_eq!(server.post("trial", b"ok").body, b"fine");
}
