//! Several nodes and a real nats-server.

#[path = "../common/mod.rs"]
mod common;
mod work;

use async_nats::{Client, HeaderMap, Message};
use bytes::Bytes;
use common::server::{LIMIT, Server, chains, pair, send};
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tokio::time::timeout;

/// A nats-server of the test's own.
struct Nats {
    port: u16,
    child: Child,
    /// What JetStream keeps.
    store: tempfile::TempDir,
}

impl Nats {
    /// On a machine without one the test is left out, loudly; CI has one and
    /// says so.
    fn start() -> Option<Self> {
        let there = Command::new("nats-server").arg("--version").output();
        if !there.is_ok_and(|o| o.status.success()) {
            assert!(
                std::env::var_os("LWC_TEST_NATS").is_none(),
                "LWC_TEST_NATS is set and there is no nats-server"
            );
            eprintln!("SKIPPED: there is no nats-server");
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let store = tempfile::tempdir().unwrap();
        let child = Self::run(port, store.path());
        Some(Self { port, child, store })
    }

    fn run(port: u16, store: &Path) -> Child {
        let child = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .args(["--jetstream", "--store_dir"])
            .arg(store)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < LIMIT, "nats-server does not listen");
            std::thread::yield_now();
        }
        child
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn node(&self, file: &str, options: &[&str]) -> Server {
        let url = self.url();
        let all = [&["--nats", &url, "--no-watch"][..], options].concat();
        let server = Server::with(file, &all);
        server.until("it has joined", || server.log().contains("NATS: connected"));
        server
    }

    async fn client(&self) -> Client {
        async_nats::connect(self.url()).await.unwrap()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.stop();
    }
}

fn header(message: &Message, name: &str) -> Option<String> {
    let mut headers = message.headers.iter().flat_map(HeaderMap::iter);
    let found = headers.find(|(n, _)| n.to_string().eq_ignore_ascii_case(name));
    Some(found?.1.first()?.as_str().to_owned())
}

/// What a service's nodes say of themselves.
async fn asked(client: &Client, subject: &str, nodes: usize) -> Vec<serde_json::Value> {
    let inbox = client.new_inbox();
    let mut said = client.subscribe(inbox.clone()).await.unwrap();
    client
        .publish_with_reply(subject.to_owned(), inbox, Bytes::new())
        .await
        .unwrap();
    let mut all = Vec::new();
    while all.len() < nodes {
        let message = timeout(LIMIT, said.next()).await.unwrap().unwrap();
        all.push(serde_json::from_slice(&message.payload).unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_the_requests_as_one_service() {
    let Some(nats) = Nats::start() else { return };
    let nodes = [0, 1].map(|_| nats.node(&chains(""), &["--workers", "1"]));
    let client = nats.client().await;
    for i in 0..60 {
        let input = format!("request {i}");
        let answer = client
            .request("lwc.chains.pair", input.clone().into())
            .await
            .unwrap();
        assert_eq!(answer.payload, pair(input.as_bytes()));
        assert_eq!(header(&answer, "lwc-status").as_deref(), Some("200"));
        assert_eq!(header(&answer, "x-invocation-id").unwrap().len(), 16);
    }
    let answered = |s: &Server| {
        s.metric("faas_invocations_total{chain=\"pair\"}")
            .unwrap_or(0.0)
    };
    let (a, b) = (answered(&nodes[0]), answered(&nodes[1]));
    assert!(a > 0.0 && b > 0.0 && a + b == 60.0, "{a} and {b}");

    // ADR-32: ping, info, stats.
    let pings = asked(&client, "$SRV.PING.lwc", 2).await;
    assert_eq!(pings[0]["type"], "io.nats.micro.v1.ping_response");
    assert_ne!(pings[0]["id"], pings[1]["id"]);
    let infos = asked(&client, "$SRV.INFO.lwc", 2).await;
    let endpoints = infos[0]["endpoints"].as_array().unwrap();
    let of_pair = endpoints
        .iter()
        .find(|e| e["name"] == "chains-pair")
        .unwrap();
    assert_eq!(
        (&of_pair["subject"], &of_pair["queue_group"]),
        (&"lwc.chains.pair".into(), &"q".into())
    );

    // A function's failure is an error of the service, and counted.
    let failed = client
        .request("lwc.chains.trial", "abort".into())
        .await
        .unwrap();
    assert_eq!(
        header(&failed, "Nats-Service-Error-Code").as_deref(),
        Some("502")
    );
    let problem = header(&failed, "Lwc-Problem").unwrap();
    let problem: serde_json::Value = serde_json::from_str(&problem).unwrap();
    assert_eq!(
        (&problem["cause"], &problem["function"]),
        (&"crash".into(), &"hostile".into())
    );
    let stats = asked(&client, "$SRV.STATS.lwc", 2).await;
    let errors: u64 = stats
        .iter()
        .flat_map(|s| s["endpoints"].as_array().unwrap())
        .map(|e| e["num_errors"].as_u64().unwrap())
        .sum();
    assert_eq!(errors, 1);

    // Headers are what they are in HTTP.
    let mut headers = HeaderMap::new();
    headers.insert("Request-Timeout", "soon");
    let refused = client
        .request_with_headers("lwc.chains.pair", headers, "x".into())
        .await
        .unwrap();
    assert_eq!(
        header(&refused, "Nats-Service-Error-Code").as_deref(),
        Some("400")
    );
    // Nobody waits: it is left, and the node lives.
    client
        .publish("lwc.chains.trial", "abort".into())
        .await
        .unwrap();
    assert_eq!(
        client
            .request("lwc.chains.pair", "ab".into())
            .await
            .unwrap()
            .payload,
        "BA"
    );
}

/// A node may publish where its clients may not: to what rules streams, for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_go_to_inboxes_alone() {
    let Some(nats) = Nats::start() else { return };
    let options = ["--workers", "1", "--nats-inbox", "mine.inbox"];
    let node = nats.node(&chains(""), &options);
    let client = nats.client().await;
    let streams = async_nats::jetstream::new(client.clone());
    let kept = || async_nats::jetstream::stream::Config {
        name: "kept".into(),
        subjects: vec!["kept.>".into()],
        ..Default::default()
    };
    streams.create_stream(kept()).await.unwrap();
    // Its answer would be a request: nothing is what the first wants.
    for reply in ["$JS.API.STREAM.DELETE.kept", "_INBOX.a", "lwc.chains.trial"] {
        let asked = client.publish_with_reply("lwc.chains.pair", reply, "".into());
        asked.await.unwrap();
        let said = format!("wants its answer at {reply:?}");
        client.flush().await.unwrap();
        node.until("it is left", || node.log().contains(&said));
    }
    for reply in ["mine.inbox.a", "lwc.results.b"] {
        let mut answers = client.subscribe(reply).await.unwrap();
        let asked = client.publish_with_reply("lwc.chains.pair", reply, "ab".into());
        asked.await.unwrap();
        let answer = timeout(LIMIT, answers.next()).await.unwrap().unwrap();
        assert_eq!(answer.payload, pair(b"ab"));
    }
    let ran = node.metric("faas_invocations_total{chain=\"pair\"}");
    assert_eq!(ran, Some(2.0));
    assert!(streams.get_stream("kept").await.is_ok(), "it is deleted");
}

/// As many as NATS carries: more than one of HTTP may have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_with_very_many_headers_is_answered() {
    let Some(nats) = Nats::start() else { return };
    let _node = nats.node(&chains(""), &["--workers", "1"]);
    let client = nats.client().await;
    let mut headers = HeaderMap::new();
    for i in 0..40_000 {
        headers.insert(format!("h{i}").as_str(), "x");
    }
    let asked = client.request_with_headers("lwc.chains.pair", headers, "ab".into());
    let answer = timeout(LIMIT, asked).await.unwrap().unwrap();
    assert_eq!(answer.payload, pair(b"ab"));
}

#[test]
fn a_node_without_room_passes_requests_on() {
    let Some(nats) = Nats::start() else { return };
    let full = nats.node(
        &chains(""),
        &["--workers", "1", "--queue", "1", "--timeout", "10m"],
    );
    std::thread::scope(|scope| {
        // One runs, one waits: there is no room, for as long as the test asks.
        scope.spawn(|| full.post("trial", b"loop"));
        full.until_held(1.0, 0.0);
        scope.spawn(|| full.post("trial", b"ok"));
        full.until_held(1.0, 1.0);
        let free = nats.node(&chains(""), &["--workers", "1"]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        std::thread::scope(|s| {
            s.spawn(|| {
                runtime.block_on(async {
                    let client = nats.client().await;
                    let mut answered = 0;
                    while answered < 20 {
                        let answer = client
                            .request("lwc.chains.trial", "ok".into())
                            .await
                            .unwrap();
                        // By chance the full one may get it each time; it says so then.
                        match header(&answer, "Nats-Service-Error-Code").as_deref() {
                            None => assert_eq!(answer.payload, "fine", "{:?}", answer.headers),
                            code => assert_eq!(code, Some("429")),
                        }
                        answered += usize::from(answer.payload == "fine");
                    }
                })
            });
        });
        let answered = free.metric("faas_invocations_total{chain=\"trial\"}");
        assert_eq!(answered, Some(20.0));
        for pid in full.workers() {
            send(pid, libc::SIGKILL);
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_draining_node_had_begun_is_run_by_no_other() {
    let Some(nats) = Nats::start() else { return };
    let options = ["--workers", "1", "--timeout", "10m", "--drain", "200ms"];
    let mut going = nats.node(&chains(""), &options);
    let client = nats.client().await;
    let ask = |input: &'static str| {
        let client = client.clone();
        tokio::spawn(async move {
            let request = async_nats::Request::new()
                .payload(input.into())
                .timeout(Some(LIMIT));
            let answer = client.send_request("lwc.chains.trial", request).await;
            answer.unwrap()
        })
    };
    let begun = ask("loop");
    going.until_held(1.0, 0.0);
    let waiting = ask("ok");
    going.until_held(1.0, 1.0);
    let other = nats.node(&chains(""), &options);
    going.signal(libc::SIGTERM);
    let begun = begun.await.unwrap();
    let problem = header(&begun, "Lwc-Problem").unwrap();
    let problem: serde_json::Value = serde_json::from_str(&problem).unwrap();
    assert_eq!(
        (&problem["cause"], &problem["status"]),
        (&"aborted".into(), &503.into())
    );
    assert_eq!(header(&begun, "Retry-After"), None);
    assert_eq!(waiting.await.unwrap().payload, "fine");
    assert!(!going.wait().success(), "not all was served");
    let ran = other.metric("faas_invocations_total{chain=\"trial\"}");
    assert_eq!(ran, Some(1.0), "the one that waited");

    // Nobody is left: who waited is told so.
    let last = other;
    let begun = ask("loop");
    last.until_held(1.0, 0.0);
    let waiting = ask("ok");
    last.until_held(1.0, 1.0);
    last.signal(libc::SIGTERM);
    for (one, cause) in [(begun, "aborted"), (waiting, "draining")] {
        let problem = header(&one.await.unwrap(), "Lwc-Problem").unwrap();
        assert!(problem.contains(cause), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_answered_or_told_so_while_a_node_is_killed() {
    const REQUESTS: usize = 300;
    let Some(nats) = Nats::start() else { return };
    let mut nodes = [0, 1].map(|_| nats.node(&chains(""), &["--workers", "1", "--queue", "400"]));
    let client = nats.client().await;
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..REQUESTS {
        let client = client.clone();
        tasks.spawn(async move {
            let input = format!("request {i}");
            let request = async_nats::Request::new()
                .payload(input.clone().into())
                .timeout(Some(std::time::Duration::from_secs(8)));
            match client.send_request("lwc.chains.pair", request).await {
                Ok(m) if header(&m, "Nats-Service-Error-Code").is_some() => "error",
                Ok(m) => {
                    assert_eq!(m.payload, pair(input.as_bytes()), "request {i}");
                    "right"
                }
                Err(e) if e.kind() == async_nats::RequestErrorKind::TimedOut => "timed out",
                Err(e) => panic!("request {i}: {e}"),
            }
        });
    }
    let of_first = |n: &Server| {
        n.metric("faas_invocations_total{chain=\"pair\"}")
            .unwrap_or(0.0)
    };
    nodes[0].until("it is at work", || of_first(&nodes[0]) >= 10.0);
    nodes[0].kill();
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    while let Some(end) = tasks.join_next().await {
        *ends.entry(end.unwrap()).or_default() += 1;
    }
    eprintln!("one of two nodes killed among {REQUESTS} requests: {ends:?}");
    assert_eq!(ends.values().sum::<usize>(), REQUESTS);
    // The other one's are all there; the dead one's callers waited in vain.
    let survived = of_first(&nodes[1]) as usize;
    assert!(ends["right"] >= survived && survived > 0);
    assert_eq!(ends.get("error"), None);
    for i in 0..20 {
        let input = format!("later {i}");
        let answer = client
            .request("lwc.chains.pair", input.clone().into())
            .await
            .unwrap();
        assert_eq!(answer.payload, pair(input.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_runs_on_another_node() {
    let Some(nats) = Nats::start() else { return };
    let more = r#"
[functions.far]
remote = "lwc.functions.mirror"
timeout = "20s"

[functions.far-hostile]
remote = "lwc.chains.trial"
timeout = "20s"

[functions.nowhere]
remote = "lwc.functions.none"

[functions.mirror]
source = "OURS"

[functions.caller]
source = "SCRIPT"
handler = "script"
calls = ["far"]
timeout = "20s"
memory = "64MiB"

[workflows.tree]
entry = "caller"

[functions.far-asked]
remote = "lwc.chains.asked"
timeout = "20s"

[chains.asked]
steps = ["mirror"]
headers = ["trace*", "x-call-id"]

[chains.asks]
steps = ["far-asked"]

[chains.mixed]
steps = ["upper", "far", "reverse", "reverse"]

[chains.bad]
steps = ["upper", "far-hostile"]

[chains.away]
steps = ["far-hostile"]

[chains.lost]
steps = ["upper", "nowhere"]

[chains.said]
steps = ["mirror", "far"]
"#;
    let ours = common::home().join("orchestrator/tests/serve/functions.c");
    let script = common::home().join("tests/hostile/script.c");
    let more = more.replace("SCRIPT", script.to_str().unwrap());
    let file = chains(&more.replace("OURS", ours.to_str().unwrap()));
    let there = nats.node(
        &file,
        &["--workers", "1", "--functions", "--nats-queue", "there"],
    );
    let here = nats.node(&file, &["--workers", "1", "--nats-prefix", "here"]);
    let r = here.request("POST", "/chains/away", &[("Content-Type", "text/x")], b"ok");
    assert_eq!((r.status, r.body.as_slice()), (200, &b"fine"[..]));
    // The step's status is its node's affair; ours is the chain's last.
    assert_eq!(here.post("mixed", b"ab").status, 200);
    assert_eq!(here.post("said", b"ab").status, 200);
    let r = here.post("said", b"");
    let body = String::from_utf8(r.body).unwrap();
    // What the step before said, and nothing of the caller's.
    assert!(
        body.contains("x-made=by mirror\n") && !body.contains(":status"),
        "{body}"
    );
    assert_eq!(
        there.metric("faas_invocations_total{chain=\"functions/mirror\"}"),
        Some(3.0)
    );
    // Called by another function it is what it is as a step.
    let r = here.post("tree", b"must far {ab}");
    assert_eq!(r.status, 200, "{}", common::text(&r.body));
    assert_eq!(
        there.metric("faas_invocations_total{chain=\"functions/mirror\"}"),
        Some(4.0)
    );

    // The trace, its state and the caller's identity go along.
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [
        ("traceparent", parent),
        ("tracestate", "rojo=1"),
        ("x-call-id", "order-7"),
    ];
    let r = here.request("POST", "/chains/asks", &headers, b"");
    let body = String::from_utf8(r.body).unwrap();
    assert!(
        body.contains("traceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-")
            && body.ends_with("tracestate=rojo=1\nx-call-id=order-7\n"),
        "{body}"
    );
    assert!(there.log().contains(", call order-7]"), "{}", there.log());

    let r = here.post("away", b"null");
    let problem = r.problem();
    assert_eq!(r.told(), (502, "remote".into()));
    assert_eq!(
        (&problem["step"], &problem["function"]),
        (&1.into(), &"far-hostile".into())
    );
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("lwc.chains.trial"),
        "{problem}"
    );
    assert_eq!(
        here.post("bad", b"ok").told(),
        (400, "remote".into()),
        "upper: OK"
    );
    let r = here.post("lost", b"ok");
    assert_eq!(
        (r.told(), r.problem()["step"].clone()),
        ((503, "remote".into()), 2.into())
    );

    // Without --nats, and by `run`: said at once.
    let folder = common::Folder::new(&file);
    let out = folder.run(&["lost"], &["x"]);
    assert!(
        common::text(&out.stderr).contains("lwc.functions.none"),
        "{out:?}"
    );
    let out = common::orchestrator()
        .args(["serve", "--listen", "127.0.0.1:0"])
        .arg(folder.path("chain.toml"))
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(4));
    assert!(common::text(&out.stderr).contains("--nats"), "{out:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_finds_its_nodes_and_drains_lose_nothing() {
    let Some(mut nats) = Nats::start() else {
        return;
    };
    let mut node = nats.node(&chains(""), &["--workers", "1"]);
    nats.stop();
    node.until("it notices", || {
        node.log().contains("the connection is gone")
    });
    assert_eq!(node.post("pair", b"ab").body, b"BA", "HTTP goes on");
    nats.child = Nats::run(nats.port, nats.store.path());
    node.until("it is back", || {
        node.log().matches("NATS: connected").count() == 2
    });
    let client = nats.client().await;
    assert_eq!(
        client
            .request("lwc.chains.pair", "ab".into())
            .await
            .unwrap()
            .payload,
        "BA"
    );

    // What was taken before SIGTERM is answered.
    let asked: Vec<_> = (0..30)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.request("lwc.chains.pair", "ab".into()).await })
        })
        .collect();
    node.until("it is at work", || {
        node.metric("faas_invocations_total{chain=\"pair\"}") >= Some(3.0)
    });
    node.signal(libc::SIGTERM);
    let (mut answered, mut nobody) = (0, 0);
    for one in asked {
        match one.await.unwrap() {
            Ok(m) if m.payload == "BA" => answered += 1,
            Ok(m) => panic!("{m:?}"),
            Err(e) => {
                assert_eq!(e.kind(), async_nats::RequestErrorKind::NoResponders);
                nobody += 1;
            }
        }
    }
    assert!(answered >= 1 && answered + nobody == 30);
    assert_eq!(node.wait().code(), Some(0), "{}", node.log());
}

/// What the function of `on_error` answers is the body of an error of the service, and
/// whoever asked for the chain as a step or a callee is told of the failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_on_error_answers_is_the_body_of_an_error() {
    let Some(nats) = Nats::start() else { return };
    let script = common::home().join("tests/hostile/script.c");
    let more = format!(
        r#"
[functions.first]
source = {script:?}
handler = "script"
calls = ["far"]
timeout = "20s"

[functions.cleanup]
source = {script:?}
handler = "told"

[functions.far]
remote = "lwc.chains.told"
timeout = "20s"

[chains.told]
steps = ["first"]
on_error = "cleanup"

[chains.asks]
steps = ["far"]

[workflows.calls]
entry = "first"
"#
    );
    // It asks itself: one worker waits for another.
    let options = ["--workers", "2", "--nats-stream", "WORK"];
    let node = nats.node(&chains(&more), &options);
    let client = nats.client().await;
    let ask = async |script: &str| {
        let payload = Bytes::from(script.to_owned());
        client.request("lwc.chains.told", payload).await.unwrap()
    };
    let all = |m: &Message| {
        let headers = ["Nats-Service-Error-Code", "Lwc-Status", "Content-Type"];
        let [code, status, kind] = headers.map(|name| header(m, name).unwrap_or_default());
        (code, status, kind, common::text(&m.payload))
    };
    let json = || "application/json".to_owned();
    let said = |code: &str, kind: String, body: &str| {
        (code.to_owned(), code.to_owned(), kind, body.to_owned())
    };
    let failed = ask("fail 7 told: {say cleaned;set x-made cleanup}").await;
    assert_eq!(all(&failed), said("500", json(), "cleaned"));
    assert_eq!(header(&failed, "x-made").as_deref(), Some("cleanup"));
    assert_eq!(header(&failed, "Lwc-Problem"), None);
    let detail = header(&failed, "Nats-Service-Error").unwrap();
    assert!(
        detail.contains("told: ") && detail.ends_with("(code 7)"),
        "{detail}"
    );
    let failed = ask("fail 404 told: {say gone}").await;
    assert_eq!(all(&failed), said("404", json(), "gone"));
    let failed = ask("fail 7 told: {set :status 503;type text/x;say later}").await;
    assert_eq!(all(&failed), said("503", "text/x".into(), "later"));
    // Without an answer it is the document.
    let failed = ask("fail 7 told: {say }").await;
    let problem = header(&failed, "Lwc-Problem").unwrap();
    let problem: serde_json::Value = serde_json::from_str(&problem).unwrap();
    assert_eq!(
        (&problem["cause"], failed.payload.len()),
        (&"error".into(), 0)
    );
    // They are failures, by what the service says of itself.
    let stats = asked(&client, "$SRV.STATS.lwc", 1).await;
    let mut endpoints = stats[0]["endpoints"].as_array().unwrap().iter();
    let told = endpoints.find(|e| e["name"] == "chains-told").unwrap();
    assert_eq!(told["num_requests"], 4, "{told}");

    // A node that asks for the chain is told that it failed, not that it answered.
    let r = node.post("asks", b"fail 404 told: {say gone}");
    let problem = r.problem();
    assert_eq!(r.told(), (404, "remote".into()), "{problem}");
    let r = node.post("calls", b"call far {fail 404 told: {say gone}};say on");
    let body = common::text(&r.body);
    assert!(
        body.starts_with("[1 404 far: ") && body.ends_with("]on"),
        "{body}"
    );

    // From a stream the same.
    let context = async_nats::jetstream::new(client.clone());
    work::ready(&context, "told").await;
    let mut results = client.subscribe("lwc.results.>").await.unwrap();
    let script = "fail 7 told: {say cleaned}";
    work::hand_in(&context, "told", "one", "lwc.results.one", script).await;
    let told = work::next(&mut results).await;
    assert_eq!(all(&told), said("500", json(), "cleaned"));
    assert_eq!(header(&told, "nats-msg-id").as_deref(), Some("one"));
    work::until_empty(&context).await;
}
