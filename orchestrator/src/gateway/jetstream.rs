//! At least once: chains fed from a JetStream stream (`--nats-stream`).
//!
//! A message of subject `PREFIX.work.NAME` is kept by the stream until a node
//! has run chain NAME on it, has published the answer to the message's
//! `Lwc-Reply-To`, and has acknowledged it. Answer and acknowledgement go over
//! one connection in this order, so nothing is acknowledged that is not
//! answered. A node that dies in between leaves the message to another one, which
//! runs it again: the answer's `Nats-Msg-Id` is the same.
//!
//! A node pulls one message for each of its workers and chains, so it never
//! holds what another could run. What is not the message's fault (a full queue,
//! an open circuit, nobody at a remote step) is waited out; what may be (a
//! crash, a timeout) is tried again, on any node, [`TRIES`] times in all.

use super::message::is_identity;
use super::nats::{self, ERROR, ERROR_CODE, Said, put};
use super::problem::{Circumstance, Problem, ProblemKind};
use super::{Gateway, NatsOptions};
use crate::chain_file::{ChainId, ChainKind};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{self, RetentionPolicy};
use async_nats::jetstream::{self, AckKind, Message};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures_util::StreamExt;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

/// How long a node may be silent before a message is given to another.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// How often a node says that it is still at work.
const PROGRESS_EVERY: Duration = Duration::from_secs(3);
/// How often a message may fail before it is taken out of the stream.
const TRIES: i64 = 5;
/// How often it may be given out, whatever became of it: nodes may have died.
const DELIVERIES: i64 = 10;
/// How long one asks for a message before one asks again.
const PULL_TIMEOUT: Duration = Duration::from_secs(20);
/// Before a failed message is given out again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Before what is not there is tried again; it doubles.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long those who wait for messages may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

const REPLY_TO: &str = "Lwc-Reply-To";
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// The tasks that pull messages, one for each worker and chain.
pub(super) struct JetStreamWork {
    stop: watch::Sender<bool>,
    pullers: JoinSet<()>,
}

impl JetStreamWork {
    /// Takes messages for every chain that is served now, as soon as the stream
    /// is there; makes the stream if nobody has.
    pub(super) fn start(gateway: &Arc<Gateway>) -> Option<Self> {
        let options = gateway.options.nats.as_ref()?;
        let (client, stream) = (gateway.nats.clone()?, options.stream.clone()?);
        let stop = watch::Sender::new(false);
        let mut pullers = JoinSet::new();
        let generation = gateway.generation();
        // Nobody hands in work for a function alone.
        let named = |c: &&ChainId| matches!(c.kind(), ChainKind::Named(_));
        let chains = generation.file.chains.keys().filter(named);
        for chain in chains {
            for _ in 0..gateway.options.workers {
                let puller = Puller {
                    gateway: Arc::clone(gateway),
                    client: client.clone(),
                    prefix: options.prefix.clone(),
                    stream: stream.clone(),
                    chain: chain.clone(),
                    stop: stop.subscribe(),
                };
                pullers.spawn(puller.run());
            }
        }
        Some(Self { stop, pullers })
    }

    /// Takes no more; what was taken goes on, and counts as in flight.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        let ended = async { while self.pullers.join_next().await.is_some() {} };
        if timeout(STOP_TIMEOUT, ended).await.is_err() {
            // They are at work; the drain waits for them.
            self.pullers.detach_all();
        }
    }
}

struct Puller {
    gateway: Arc<Gateway>,
    client: Client,
    prefix: String,
    stream: String,
    chain: ChainId,
    stop: watch::Receiver<bool>,
}

/// What is to become of a message.
enum End {
    /// Its answer is published: it is done.
    Done(&'static str),
    /// It failed too often: it is done too, and said loudly.
    Poison,
    /// Another attempt, here or elsewhere, after a while.
    Again(Duration),
}

impl Puller {
    async fn run(mut self) {
        let mut pause = PAUSE;
        while !*self.stop.borrow() {
            let begun = Instant::now();
            if let Err(why) = self.take_all().await {
                log::warn!(
                    "NATS: taking work of {} from stream {}: {why}; it is tried again",
                    self.chain,
                    self.stream
                );
            }
            if begun.elapsed() > LONGEST_PAUSE {
                pause = PAUSE;
            }
            self.rest(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits, unless it is to stop.
    async fn rest(&mut self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.stop.wait_for(|s| *s) => {}
        }
    }

    /// Takes one message after the other until it is to stop, or something is
    /// wrong with the stream.
    async fn take_all(&mut self) -> Result<(), String> {
        let mut stop = self.stop.clone();
        let consumer = tokio::select! {
            _ = stop.wait_for(|s| *s) => return Ok(()),
            consumer = self.open() => consumer?,
        };
        loop {
            let begun = Instant::now();
            let next = async {
                let batch = consumer.batch().max_messages(1).expires(PULL_TIMEOUT);
                let mut messages = batch.messages().await.map_err(text)?;
                messages.next().await.transpose().map_err(text)
            };
            let next = tokio::select! {
                biased;
                _ = stop.wait_for(|s| *s) => return Ok(()),
                next = next => next?,
            };
            match next {
                Some(message) => self.serve(message).await,
                // Nothing came; at once, where the connection is gone.
                None if begun.elapsed() < PAUSE => return Ok(()),
                None => {}
            }
        }
    }

    /// The chain's place in the stream, which all nodes share.
    async fn open(&self) -> Result<PullConsumer, String> {
        let context = jetstream::new(self.client.clone());
        let stream = context
            .get_or_create_stream(stream::Config {
                name: self.stream.clone(),
                subjects: vec![format!("{}.work.>", self.prefix)],
                retention: RetentionPolicy::WorkQueue,
                ..stream::Config::default()
            })
            .await
            .map_err(text)?;
        let consumer = pull::Config {
            durable_name: Some(format!("{}-{}", self.prefix.replace('.', "-"), self.chain)),
            description: Some(format!("lwc-orchestrator: chain {}", self.chain)),
            filter_subject: format!("{}.work.{}", self.prefix, self.chain),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            ..pull::Config::default()
        };
        stream.create_consumer(consumer).await.map_err(text)
    }

    /// One message to its end, or back into the stream.
    async fn serve(&mut self, message: Message) {
        let gateway = Arc::clone(&self.gateway);
        let _flight = gateway.begin_request();
        let (tries, place) = match message.info() {
            Ok(info) => (
                info.delivered,
                format!("{}-{}", info.stream, info.stream_sequence),
            ),
            Err(e) => {
                log::warn!(
                    "NATS: a message for {} is none of a stream: {e}",
                    self.chain
                );
                return;
            }
        };
        let id = own_id(message.headers.as_ref()).unwrap_or(place);
        let end = {
            let run = self.attempt(&message, &id, tries);
            tokio::pin!(run);
            let mut pulse = interval(PROGRESS_EVERY);
            pulse.tick().await;
            loop {
                tokio::select! {
                    end = &mut run => break end,
                    _ = pulse.tick() => log_unacknowledged(&id, message.ack_with(AckKind::Progress).await),
                }
            }
        };
        match end {
            End::Done(result) => {
                self.gateway.metrics.worked(result);
                log_unacknowledged(&id, message.double_ack().await);
            }
            End::Poison => {
                self.gateway.metrics.worked("poison");
                log::error!(
                    "NATS: message {id} for {} failed in {tries} deliveries and is taken out of the stream",
                    self.chain
                );
                log_unacknowledged(&id, message.double_ack_with(AckKind::Term).await);
            }
            End::Again(after) => {
                self.gateway.metrics.worked("again");
                log_unacknowledged(&id, message.ack_with(AckKind::Nak(Some(after))).await);
            }
        }
    }

    async fn attempt(&mut self, message: &Message, id: &str, tries: i64) -> End {
        if tries > DELIVERIES {
            let problem = Problem::new(
                ProblemKind::GivenUp,
                format!("{DELIVERIES} times a node took this message and did not end it"),
            );
            let said = nats::refuse(&self.gateway, &problem, &self.chain, Some(id));
            if let Err(why) = self.publish(message, id, said).await {
                log::warn!("NATS: the problem of {id} cannot be published: {why}");
            }
            return End::Poison;
        }
        let mut pause = PAUSE;
        loop {
            let Some(input) = self.gateway.input(&self.chain) else {
                // The file has just changed; another node may have the chain.
                return End::Again(RETRY_PAUSE);
            };
            let (headers, body) = (message.headers.as_ref(), &message.payload);
            let request = nats::Message::of(&self.gateway, headers, body, &self.chain);
            let (said, end) = request
                .invoke((&self.chain, &input), Some(id.to_owned()), Instant::now())
                .await;
            // A function may write what looks like a problem; this it cannot.
            let problem = end.as_ref().err();
            let stopping = *self.stop.borrow() || self.gateway.is_draining();
            match blame(problem) {
                Blame::Nobody if stopping => return End::Again(Duration::ZERO),
                Blame::Nobody => {
                    self.rest(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                Blame::Perhaps if tries < TRIES => return End::Again(RETRY_PAUSE),
                Blame::Perhaps | Blame::Final => {}
            }
            if let Err(why) = self.publish(message, id, said).await {
                log::warn!("NATS: the answer to {id} cannot be published: {why}");
                if tries < TRIES {
                    return End::Again(RETRY_PAUSE);
                }
            }
            return match (end.is_err(), blame(end.as_ref().err())) {
                (_, Blame::Perhaps) => End::Poison,
                (true, _) => End::Done("failed"),
                (false, _) => End::Done("answered"),
            };
        }
    }

    /// Publishes an answer where its message wants it.
    async fn publish(
        &self,
        message: &Message,
        id: &str,
        (mut headers, result): Said,
    ) -> Result<(), String> {
        let wanted = message.headers.as_ref().and_then(|h| value(h, REPLY_TO));
        let Some(subject) = wanted else {
            return Ok(());
        };
        let may = |options: &NatsOptions| options.may_answer_at(subject);
        if !self.gateway.options.nats.as_ref().is_some_and(may) {
            log::warn!(
                "NATS: message {id} wants its answer at {subject:?}, which is neither an inbox \
                 nor below {}.results; it is published nowhere",
                self.prefix
            );
            return Ok(());
        }
        put(&mut headers, MESSAGE_ID, id);
        let body = match result {
            Ok(body) => body,
            Err(error) => {
                put(&mut headers, ERROR, &error.status);
                put(&mut headers, ERROR_CODE, &error.code.to_string());
                Bytes::new()
            }
        };
        self.client
            .publish_with_headers(subject.to_owned(), headers, body)
            .await
            .map_err(text)
    }
}

/// Whose fault a failure is.
#[derive(Debug, PartialEq, Eq)]
enum Blame {
    /// There is none, or the function has spoken: another attempt gives the same.
    Final,
    /// The message's perhaps: a few attempts will tell.
    Perhaps,
    /// Not the message's: it has not been run to its end.
    Nobody,
}

fn blame(failure: Option<&Problem>) -> Blame {
    let Some(problem) = failure else {
        return Blame::Final;
    };
    match problem.kind {
        ProblemKind::Aborted
        | ProblemKind::CircuitOpen
        | ProblemKind::ClientGone
        | ProblemKind::Draining
        | ProblemKind::NoWorker
        | ProblemKind::OverBudget
        | ProblemKind::QueueFull
        | ProblemKind::TooManyRequests => Blame::Nobody,
        ProblemKind::Remote => match problem.circumstance {
            Circumstance::Unavailable => Blame::Nobody,
            Circumstance::Refused(_) => Blame::Final,
            Circumstance::None
            | Circumstance::NoRoom
            | Circumstance::Form
            | Circumstance::Code(_)
            | Circumstance::Late
            | Circumstance::Failed(_) => Blame::Perhaps,
        },
        ProblemKind::Backend
        | ProblemKind::Crash
        | ProblemKind::Deadline
        | ProblemKind::Misbehaved
        | ProblemKind::Timeout
        | ProblemKind::WorkerLost => Blame::Perhaps,
        ProblemKind::BadBody
        | ProblemKind::BadContentType
        | ProblemKind::BadEvent
        | ProblemKind::BadHeader
        | ProblemKind::BadTimeout
        | ProblemKind::Error
        | ProblemKind::GivenUp
        | ProblemKind::Method
        | ProblemKind::SlowBody
        | ProblemKind::TooBig
        | ProblemKind::TooLarge
        | ProblemKind::TooManyCalls
        | ProblemKind::UnknownChain
        | ProblemKind::UnknownFunction
        | ProblemKind::UnknownPath => Blame::Final,
    }
}

/// A header, whatever the case of its name.
fn value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut all = headers.iter();
    let found = all.find(|(n, _)| n.to_string().eq_ignore_ascii_case(name))?;
    Some(found.1.first()?.as_str())
}

/// The identity that the sender gave, where it can be one of an invocation.
fn own_id(headers: Option<&HeaderMap>) -> Option<String> {
    let id = value(headers?, MESSAGE_ID)?;
    is_identity(id).then(|| id.to_owned())
}

fn log_unacknowledged(id: &str, result: Result<(), impl Display>) {
    if let Err(e) = result {
        log::warn!("NATS: what became of message {id} could not be said: {e}; it may come again");
    }
}

fn text(e: impl Display) -> String {
    e.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_no_identity_is_replaced() {
        let of = |id: &str| {
            let mut headers = HeaderMap::new();
            put(&mut headers, "nats-msg-id", id);
            own_id(Some(&headers))
        };
        assert_eq!(of("order-7.a_B").as_deref(), Some("order-7.a_B"));
        for bad in ["", "a b", "a/b", "é", &"a".repeat(65)] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
        assert_eq!(own_id(None), None);
    }

    #[test]
    fn a_message_is_blamed_only_for_what_it_may_have_done() {
        use ProblemKind::{Aborted, Crash, Error, QueueFull, Remote, TooLarge};
        let of = |kind, known| blame(Some(&Problem::new(kind, "").with(known)));
        assert_eq!(blame(None), Blame::Final);
        assert_eq!(of(Error, Circumstance::Code(503)), Blame::Final);
        assert_eq!(of(TooLarge, Circumstance::None), Blame::Final);
        assert_eq!(of(QueueFull, Circumstance::None), Blame::Nobody);
        assert_eq!(of(Remote, Circumstance::told(503)), Blame::Nobody);
        assert_eq!(of(Aborted, Circumstance::None), Blame::Nobody);
        assert_eq!(of(Remote, Circumstance::told(400)), Blame::Final);
        assert_eq!(of(Remote, Circumstance::told(502)), Blame::Perhaps);
        assert_eq!(of(Remote, Circumstance::told(504)), Blame::Perhaps);
        assert_eq!(of(Crash, Circumstance::None), Blame::Perhaps);
    }
}
