//! Work from a JetStream stream: done at least once, whoever dies.

use crate::common::server::{LIMIT, Server, chains, pair, send};
use crate::{Nats, header};
use async_nats::jetstream::{self, consumer::pull};
use async_nats::{HeaderMap, Message, Subscriber};
use futures_util::StreamExt;
use std::collections::BTreeMap;
use tokio::time::timeout;

const STREAM: [&str; 4] = ["--workers", "1", "--nats-stream", "WORK"];

fn worked(node: &Server, result: &str) -> f64 {
    let name = format!("lwc_nats_work_total{{result=\"{result}\"}}");
    node.metric(&name).unwrap_or(0.0)
}

pub(crate) async fn next(results: &mut Subscriber) -> Message {
    timeout(LIMIT, results.next()).await.unwrap().unwrap()
}

/// Waits until the nodes have made the stream, and the place of a chain in it.
pub(crate) async fn ready(context: &jetstream::Context, chain: &str) {
    let there = async {
        loop {
            let stream = context.get_stream("WORK").await;
            if let Ok(stream) = stream
                && let Ok(_) = stream
                    .get_consumer::<pull::Config>(&format!("lwc-{chain}"))
                    .await
            {
                return;
            }
        }
    };
    timeout(LIMIT, there).await.expect("no stream");
}

/// Hands work in; the stream has it for sure.
pub(crate) async fn hand_in(
    context: &jetstream::Context,
    chain: &str,
    id: &str,
    reply: &str,
    input: &str,
) {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    headers.insert("Lwc-Reply-To", reply);
    context
        .publish_with_headers(
            format!("lwc.work.{chain}"),
            headers,
            input.to_owned().into(),
        )
        .await
        .unwrap()
        .await
        .unwrap();
}

/// Messages that the stream still has; none once all are done.
pub(crate) async fn until_empty(context: &jetstream::Context) {
    let empty = async {
        loop {
            let mut stream = context.get_stream("WORK").await.unwrap();
            if stream.info().await.unwrap().state.messages == 0 {
                return;
            }
        }
    };
    timeout(LIMIT, empty).await.expect("work is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_piece_of_work_is_answered_though_a_node_is_killed() {
    const PIECES: usize = 200;
    let Some(nats) = Nats::start() else { return };
    let mut nodes = [0, 1].map(|_| nats.node(&chains(""), &STREAM));
    let client = nats.client().await;
    let context = jetstream::new(client.clone());
    ready(&context, "pair").await;
    let mut results = client.subscribe("lwc.results.>").await.unwrap();
    let input = |i: usize| format!("piece {i}");
    for i in 0..PIECES {
        let reply = format!("lwc.results.{i}");
        hand_in(&context, "pair", &format!("id-{i}"), &reply, &input(i)).await;
    }
    // The same identity again is the same piece of work.
    hand_in(&context, "pair", "id-0", "lwc.results.0", &input(0)).await;

    let mut answers: BTreeMap<usize, usize> = BTreeMap::new();
    let mut killed = false;
    while answers.len() < PIECES {
        let m = next(&mut results).await;
        let i: usize = m.subject.rsplit('.').next().unwrap().parse().unwrap();
        assert_eq!(m.payload, pair(input(i).as_bytes()), "{m:?}");
        assert_eq!(header(&m, "x-invocation-id"), Some(format!("id-{i}")));
        assert_eq!(header(&m, "nats-msg-id"), Some(format!("id-{i}")));
        *answers.entry(i).or_default() += 1;
        if !killed && answers.len() >= 20 {
            nodes[0].kill();
            killed = true;
        }
    }
    until_empty(&context).await;
    let twice = answers.values().filter(|&&n| n > 1).count();
    eprintln!("{PIECES} pieces of work, a node killed: 0 lost, {twice} answered twice");
    assert!(worked(&nodes[1], "answered") > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_and_what_crashes_again_and_again_is_taken_out() {
    let Some(nats) = Nats::start() else { return };
    let node = nats.node(&chains(""), &STREAM);
    let client = nats.client().await;
    let context = jetstream::new(client.clone());
    ready(&context, "trial").await;
    ready(&context, "pair").await;
    let mut results = client.subscribe("lwc.results.>").await.unwrap();

    hand_in(&context, "trial", "bomb", "lwc.results.bomb", "abort").await;
    let told = next(&mut results).await;
    let problem: serde_json::Value =
        serde_json::from_str(&header(&told, "Lwc-Problem").unwrap()).unwrap();
    assert_eq!(
        (&problem["cause"], &problem["invocation"]),
        (&"crash".into(), &"bomb".into())
    );
    assert_eq!(
        header(&told, "Nats-Service-Error-Code").as_deref(),
        Some("502")
    );
    node.until("it is taken out", || worked(&node, "poison") == 1.0);
    assert_eq!(worked(&node, "again"), 4.0, "five attempts in all");
    assert!(node.log().contains("bomb for trial failed in 5 deliveries"));

    // What no attempt can mend is said at once.
    let long = "x".repeat(300 << 10);
    hand_in(&context, "pair", "long", "lwc.results.long", &long).await;
    let told = next(&mut results).await;
    assert_eq!(
        header(&told, "Nats-Service-Error-Code").as_deref(),
        Some("413")
    );
    // A node lends nobody its right to publish elsewhere.
    let mut elsewhere = client.subscribe("elsewhere").await.unwrap();
    hand_in(&context, "pair", "sly", "elsewhere", "ab").await;
    hand_in(&context, "pair", "fair", "lwc.results.fair", "ab").await;
    assert_eq!(next(&mut results).await.payload, "BA");
    until_empty(&context).await;
    client.publish("elsewhere", "mine".into()).await.unwrap();
    assert_eq!(next(&mut elsewhere).await.payload, "mine");
    assert_eq!(worked(&node, "poison"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ends_gives_back_what_it_has_not_begun() {
    const PIECES: usize = 60;
    let Some(nats) = Nats::start() else { return };
    let mut first = nats.node(&chains(""), &STREAM);
    let client = nats.client().await;
    let context = jetstream::new(client.clone());
    ready(&context, "pair").await;
    let mut results = client.subscribe("lwc.results.>").await.unwrap();
    for i in 0..PIECES {
        let reply = format!("lwc.results.{i}");
        hand_in(&context, "pair", &format!("id-{i}"), &reply, "ab").await;
    }
    first.signal(libc::SIGTERM);
    assert_eq!(first.wait().code(), Some(0), "{}", first.log());
    let _second = nats.node(&chains(""), &STREAM);
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < PIECES {
        let m = next(&mut results).await;
        assert_eq!(m.payload, "BA");
        answered.insert(m.subject.to_string());
    }
    until_empty(&context).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_node_keeps_its_work_and_a_dead_one_leaves_it_to_another() {
    let Some(nats) = Nats::start() else { return };
    let mut busy = nats.node(&chains(""), &STREAM);
    let client = nats.client().await;
    let context = jetstream::new(client.clone());
    ready(&context, "pair").await;
    let mut results = client.subscribe("lwc.results.>").await.unwrap();
    let mut acks = client.subscribe("$JS.ACK.WORK.>").await.unwrap();
    // Its worker takes the piece and comes to no end.
    let worker = busy.workers()[0];
    send(worker, libc::SIGSTOP);
    hand_in(&context, "pair", "held", "lwc.results.held", "ab").await;
    busy.until("it has the piece", || {
        busy.metric("lwc_workers_busy") == Some(1.0)
    });
    let other = nats.node(&chains(""), &STREAM);
    // Every three seconds; a silent node's piece is another's after ten.
    for _ in 0..4 {
        assert_eq!(next(&mut acks).await.payload, "+WPI");
    }
    for result in ["answered", "again", "failed", "poison"] {
        assert_eq!(worked(&other, result), 0.0, "{result}");
    }
    busy.kill();
    send(worker, libc::SIGKILL);
    let answer = next(&mut results).await;
    assert_eq!(answer.payload, "BA");
    assert_eq!(header(&answer, "x-invocation-id").as_deref(), Some("held"));
    until_empty(&context).await;
    other.until("it is counted", || worked(&other, "answered") == 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_node_ends_is_given_up_and_odd_messages_harm_nobody() {
    let Some(nats) = Nats::start() else { return };
    let mut node = nats.node(&chains(""), &STREAM);
    let client = nats.client().await;
    let context = jetstream::new(client.clone());
    ready(&context, "pair").await;
    node.signal(libc::SIGTERM);
    assert_eq!(node.wait().code(), Some(0), "{}", node.log());
    let mut results = client.subscribe("lwc.results.>").await.unwrap();
    hand_in(&context, "pair", "bad id", "lwc.results.killer", "ab").await;
    // As nodes that die of it.
    let stream = context.get_stream("WORK").await.unwrap();
    let place = stream.get_consumer::<pull::Config>("lwc-pair").await;
    let place = place.unwrap();
    for n in 1..=10 {
        let batch = place.batch().max_messages(1).expires(LIMIT);
        let mut messages = batch.messages().await.unwrap();
        let message = messages.next().await.unwrap().unwrap();
        assert_eq!(message.info().unwrap().delivered, n);
        message
            .ack_with(jetstream::AckKind::Nak(None))
            .await
            .unwrap();
    }
    let node = nats.node(&chains(""), &STREAM);
    let told = next(&mut results).await;
    let problem: serde_json::Value =
        serde_json::from_str(&header(&told, "Lwc-Problem").unwrap()).unwrap();
    // No identity that one could have: the stream's is taken.
    assert_eq!(
        (&problem["cause"], &problem["invocation"]),
        (&"given-up".into(), &"WORK-1".into())
    );
    until_empty(&context).await;

    // Without headers, without a body, for a chain that nobody has, and with
    // headers that make no sense.
    for subject in ["lwc.work.pair", "lwc.work.none"] {
        let kept = context.publish(subject, "".into()).await.unwrap();
        kept.await.unwrap();
    }
    let mut headers = HeaderMap::new();
    headers.insert("Lwc-Reply-To", "lwc.results.odd");
    headers.insert("Content-Type", "x".repeat(500));
    headers.insert("traceparent", "é");
    headers.insert("Lwc-Attribute-", "nothing");
    let odd = context.publish_with_headers("lwc.work.pair", headers, "ab".into());
    odd.await.unwrap().await.unwrap();
    let told = next(&mut results).await;
    assert_eq!(told.subject.as_str(), "lwc.results.odd");
    assert_eq!(
        header(&told, "Nats-Service-Error-Code").as_deref(),
        Some("400")
    );
    hand_in(&context, "pair", "well", "lwc.results.well", "ab").await;
    assert_eq!(next(&mut results).await.payload, "BA");
    assert!(!node.log().contains("panicked"), "{}", node.log());
}
