//! More than one machine, by NATS: chains as endpoints of a NATS service (ADR-32)
//! for others, and steps that others run for us.
//!
//! A message is what a request is in HTTP: headers with the same names, the body
//! as it is, and the same function takes both. What one step says to the next
//! travels as headers `Lwc-Attribute-NAME`. Whoever may publish to our subjects
//! may invoke our chains: NATS's own permissions are the lock.
//!
//! NATS gives a request to any node of the queue group, busy or not. A node
//! whose queue is full passes it on, a few times, before it says so.

use super::budget::Room;
use super::document;
use super::headers::{HeaderList, visible};
use super::invocation::{Adapter, Asked, Call, End, invoke, whole};
use super::jetstream::JetStreamWork;
use super::message::{self, ChainInput, Head};
use super::problem::{Circumstance, Problem, ProblemKind};
use super::queue::Answer;
use super::trace::Trace;
use super::{Gateway, NatsOptions};
use crate::chain_file::{ChainId, ChainKind, is_hop_by_hop};
use crate::life::{Attributes, MessageMeta};
use crate::printable::printable_line;
use crate::worker::frame::MOST_SAID;
pub(super) use async_nats::Client;
use async_nats::service::{Request, Service, ServiceExt, error::Error as ServiceError};
use async_nats::{ConnectOptions, Event, HeaderMap, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How often a request is passed on to another node.
const PASSES: u32 = 5;
const PASSED: &str = "Lwc-Passed";
const ATTRIBUTE: &str = "lwc-attribute-";
const PROBLEM: &str = "Lwc-Problem";
const STATUS: &str = "Lwc-Status";
/// The code of an answer that NATS does not carry, as HTTP has it for one that there is no
/// room for.
const TOO_LONG: u16 = 507;
/// As ADR-32 has it.
pub(super) const ERROR: &str = "Nats-Service-Error";
pub(super) const ERROR_CODE: &str = "Nats-Service-Error-Code";
/// How long the server may take to hear us out at the end.
const FLUSH: Duration = Duration::from_secs(2);
/// How long the server may take to read that we have left.
const LEAVE: Duration = Duration::from_secs(10);
/// How long other nodes may take to say what they answer.
const INFO_TIMEOUT: Duration = Duration::from_millis(500);

/// Connects; a server that is not there yet is waited for while others are
/// served.
///
/// # Errors
/// The URL or the credentials are no good.
pub(super) async fn connect(options: &NatsOptions) -> Result<Client, String> {
    let said = |e: &dyn std::fmt::Display| format!("--nats: {e}");
    let mut connection = ConnectOptions::new()
        .name("lwc-orchestrator")
        .retry_on_initial_connect()
        .event_callback(|event| async move {
            match event {
                Event::Connected => log::info!("NATS: connected"),
                Event::Disconnected => {
                    log::warn!("NATS: the connection is gone; it is tried again")
                }
                other @ (Event::LameDuckMode
                | Event::Draining
                | Event::Closed
                | Event::SlowConsumer(_)
                | Event::ServerError(_)
                | Event::ClientError(_)) => log::warn!("NATS: {other}"),
            }
        });
    if let Some(path) = &options.credentials {
        let read = connection.credentials_file(path).await;
        connection = read.map_err(|e| format!("--nats-creds {}: {e}", path.display()))?;
    }
    // The URL may hold a password, and is never shown.
    connection
        .connect(options.url.as_str())
        .await
        .map_err(|e| said(&e))
}

/// Our chains as endpoints, until it is stopped.
pub(super) struct Endpoints {
    client: Client,
    service: Service,
    listeners: JoinSet<()>,
    work: Option<JetStreamWork>,
}

impl Endpoints {
    /// Offers every chain of the generation that is served now.
    ///
    /// # Errors
    /// What NATS says.
    pub(super) async fn start(gateway: &Arc<Gateway>) -> Result<Option<Self>, String> {
        let (Some(client), Some(options)) = (&gateway.nats, &gateway.options.nats) else {
            return Ok(None);
        };
        let said = |e: &dyn std::fmt::Display| format!("offering chains by NATS: {e}");
        let service = client
            .service_builder()
            .description("Chains of functions, each in its own light-weight context")
            .queue_group(&options.queue)
            .start("lwc", env!("CARGO_PKG_VERSION"))
            .await
            .map_err(|e| said(&e))?;
        let mut listeners = JoinSet::new();
        let chains: Vec<ChainId> = gateway.generation().file.chains.keys().cloned().collect();
        for chain in chains {
            // A slash is no name in NATS.
            let (kind, name) = match chain.kind() {
                ChainKind::Named(name) => ("chains", name),
                ChainKind::Function(name) => ("functions", name),
                // Workers alone know it.
                ChainKind::Part { .. } | ChainKind::Callee { .. } => continue,
            };
            let subject = format!("{}.{kind}.{name}", options.prefix);
            let mut endpoint = service
                .endpoint_builder()
                .name(format!("{kind}-{name}"))
                .add(&subject)
                .await
                .map_err(|e| said(&e))?;
            let gateway = Arc::clone(gateway);
            listeners.spawn(async move {
                while let Some(request) = endpoint.next().await {
                    let (gateway, chain) = (Arc::clone(&gateway), chain.clone());
                    tokio::spawn(async move { answer(&gateway, request, chain).await });
                }
            });
        }
        // What is asked from now on is heard.
        let _ = timeout(FLUSH, client.flush()).await;
        let work = JetStreamWork::start(gateway);
        Ok(Some(Self {
            client: client.clone(),
            service,
            listeners,
            work,
        }))
    }

    /// Takes no more requests; those that were taken are answered.
    pub(super) async fn stop(mut self) {
        if let Err(e) = self.service.stop().await {
            log::warn!("leaving NATS: {e}");
        }
        if let Some(work) = self.work.take() {
            work.stop().await;
        }
        let heard = async { while self.listeners.join_next().await.is_some() {} };
        let _ = timeout(FLUSH, heard).await;
        // Until the server knows that we have left it may choose us, also when this
        // process is no more: what it has answered it has read.
        match timeout(LEAVE, there_and_back(&self.client)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => log::warn!("leaving NATS: {e}"),
            Err(_) => log::warn!("leaving NATS: the server does not answer"),
        }
    }
}

/// A message to ourselves: the server has read all that we have sent before.
async fn there_and_back(client: &Client) -> Result<(), String> {
    let said = |e: &dyn std::fmt::Display| e.to_string();
    let inbox = client.new_inbox();
    let mut back = client
        .subscribe(inbox.clone())
        .await
        .map_err(|e| said(&e))?;
    let sent = client.publish(inbox, Bytes::new()).await;
    sent.map_err(|e| said(&e))?;
    match back.next().await {
        Some(_) => Ok(()),
        None => Err("the connection is closed".into()),
    }
}

/// Says the last words.
pub(super) async fn leave(client: &Client) {
    let _ = timeout(FLUSH, client.flush()).await;
}

impl NatsOptions {
    /// Where answers may be published, by a sender's word: a node has more rights than the
    /// clients that give it work, and lends them none.
    pub(super) fn may_answer_at(&self, subject: &str) -> bool {
        let plain = |token: &str| {
            let fits = |b: u8| b.is_ascii_graphic() && b != b'*' && b != b'>';
            !token.is_empty() && token.bytes().all(fits)
        };
        let below = |root: &str| {
            let rest = subject.strip_prefix(root);
            rest.is_some_and(|r| r.starts_with('.'))
        };
        subject.len() <= 255
            && subject.split('.').all(plain)
            && (self.inboxes.iter().any(|root| below(root))
                || below(&format!("{}.results", self.prefix)))
    }

    /// The same of a request's reply subject. Servers make some themselves, and take them
    /// from no client: for one of another account, for an acknowledgement, and before what
    /// a client of another cluster has said.
    fn may_reply_to(&self, subject: &str) -> bool {
        let server_made = subject.starts_with("_R_.") || subject.starts_with("$JS.ACK.");
        let of_cluster = subject.strip_prefix("_GR_.").and_then(|rest| {
            let mut parts = rest.splitn(3, '.');
            parts.nth(2)
        });
        server_made || self.may_answer_at(of_cluster.unwrap_or(subject))
    }
}

/// One request of another node's, or of any client of NATS.
async fn answer(gateway: &Arc<Gateway>, request: Request, chain: ChainId) {
    let _flight = gateway.begin_request();
    let begun = Instant::now();
    let Some(reply) = request.message.reply.as_deref() else {
        log::warn!("NATS: a message for {chain} names nobody who waits for its answer; it is left");
        return;
    };
    let may = |options: &NatsOptions| options.may_reply_to(reply);
    if !gateway.options.nats.as_ref().is_some_and(may) {
        log::warn!(
            "NATS: a message for {chain} wants its answer at {reply:?}, which is no inbox \
             (--nats-inbox); it is left"
        );
        return;
    }
    let (said, end) = match gateway.input(&chain) {
        Some(input) => {
            let (headers, body) = (request.message.headers.as_ref(), &request.message.payload);
            let message = Message::of(gateway, headers, body, &chain);
            message.invoke((&chain, &input), None, begun).await
        }
        None => {
            let problem = Problem::new(
                ProblemKind::UnknownChain,
                "the chain file has just been changed and has this chain no more",
            );
            (refuse(gateway, &problem, &chain, None), Err(problem))
        }
    };
    // What was begun may have done its work: it is run by nobody else.
    let unbegun = end.is_err_and(|problem| problem.is_unbegun());
    if unbegun && pass_on(gateway, &request).await {
        return;
    }
    let (headers, said) = said;
    if let Err(e) = request.respond_with_headers(said, headers).await {
        log::warn!("NATS: an answer could not be sent: {e}");
    }
}

/// A message for a chain.
pub(super) struct Message<'a> {
    gateway: &'a Gateway,
    /// Where HTTP has the chain: functions see the same, whichever way they are asked.
    path: String,
    headers: HeaderList,
    from_step: Vec<(String, String)>,
    body: &'a Bytes,
}

impl<'a> Message<'a> {
    pub(super) fn of(
        gateway: &'a Gateway,
        said: Option<&HeaderMap>,
        body: &'a Bytes,
        chain: &ChainId,
    ) -> Self {
        let (mut headers, mut from_step) = (HeaderList::default(), Vec::new());
        for (name, values) in said.into_iter().flat_map(HeaderMap::iter) {
            let lower = name.to_string().to_ascii_lowercase();
            if let Some(attribute) = lower.strip_prefix(ATTRIBUTE) {
                let value = values.first().map(|v| v.as_str().to_owned());
                from_step.push((attribute.to_owned(), value.unwrap_or_default()));
                continue;
            }
            // What HTTP has no header for, no function can ask for either.
            if !is_token(&lower) || is_hop_by_hop(&lower) {
                continue;
            }
            let values = values.iter().map(|v| v.as_str().as_bytes());
            for value in values.filter(|v| is_value(v)) {
                headers.append(&lower, value);
            }
        }
        Self {
            gateway,
            path: format!("/chains/{chain}"),
            headers,
            from_step,
            body,
        }
    }

    fn head(&self) -> Head<'_, HeaderList> {
        Head {
            method: "POST",
            path: &self.path,
            query: "",
            headers: &self.headers,
            from_step: &self.from_step,
        }
    }

    /// Has a chain run on it; `id` is what its invocation is called, where it has a name.
    pub(super) async fn invoke(
        &self,
        chain: (&ChainId, &ChainInput),
        id: Option<String>,
        begun: Instant,
    ) -> (Said, End) {
        let trace = Trace::of(&self.headers, self.gateway.spans.is_some());
        let named = self.head().call_id();
        let call = Call::new(chain, id, named, trace, "pubsub", begun);
        invoke(self.gateway, &call, self).await
    }
}

/// A name that a header can have in HTTP (RFC 9110, 5.6.2), in lower case.
fn is_token(name: &str) -> bool {
    let fits = |b: u8| {
        matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.')
            || matches!(b, b'^'..=b'`' | b'|' | b'~')
    };
    !name.is_empty() && name.bytes().all(fits)
}

/// And a value (RFC 9110, 5.5).
fn is_value(value: &[u8]) -> bool {
    let fits = |b: &u8| *b == b'\t' || (*b >= b' ' && *b != 0x7f);
    value.iter().all(fits)
}

impl Adapter for &Message<'_> {
    type Reply = Said;

    fn asked(&self, call: &Call<'_>) -> Result<Asked, Problem> {
        self.head().asked(call, self.gateway.options.timeout)
    }

    async fn body(
        &mut self,
        call: &Call<'_>,
        _: Instant,
        room: &mut Room,
    ) -> Result<Bytes, Problem> {
        whole(self.body.clone(), call.input, room)
    }

    fn reply(&self, call: &Call<'_>, end: &End, room: Room) -> (Said, u16) {
        let mut headers = HeaderMap::new();
        let mut header = |name: &str, value: &str| append(&mut headers, name, value);
        let (status, body) = message::tell(call, end, &self.headers, &mut header);
        let body = room.around(body);
        let problem = end.as_ref().err();
        (say(self.gateway, headers, status, body, problem), status)
    }
}

/// What a message is answered with: headers, and a body or an error of the service.
pub(super) type Said = (HeaderMap, Result<Bytes, ServiceError>);

/// Tells a problem of a message that came to no chain.
pub(super) fn refuse(
    gateway: &Gateway,
    problem: &Problem,
    chain: &ChainId,
    id: Option<&str>,
) -> Said {
    let status = document::status(problem);
    let mut headers = HeaderMap::new();
    let mut header = |name: &str, value: &str| append(&mut headers, name, value);
    let body = document::tell(problem, status, Some(chain), id, &mut header);
    say(gateway, headers, status, body, Some(problem))
}

fn say(
    gateway: &Gateway,
    mut headers: HeaderMap,
    status: u16,
    body: Bytes,
    problem: Option<&Problem>,
) -> Said {
    let limit = request_limit(gateway);
    let too_long = body.len() > limit;
    let said = match problem {
        Some(problem) if problem.answer.is_none() => {
            put(&mut headers, PROBLEM, &String::from_utf8_lossy(&body));
            Err((status, problem.detail.clone()))
        }
        _ if too_long => {
            let text = format!(
                "the answer has {} bytes, more than NATS carries here ({limit})",
                body.len()
            );
            Err((TOO_LONG, text))
        }
        _ => {
            let status = status.to_string();
            put(&mut headers, STATUS, &status);
            if let Some(problem) = problem {
                // An error of the service, and yet a body: what `on_error` answered.
                put(&mut headers, ERROR, &problem.detail);
                put(&mut headers, ERROR_CODE, &status);
            }
            Ok(body)
        }
    };
    let said = said.map_err(|(code, text)| ServiceError {
        status: one_line(&text),
        code: code.into(),
    });
    (headers, said)
}

/// A header of an answer. What is no ASCII is left out.
fn append(headers: &mut HeaderMap, name: &str, value: &str) -> bool {
    if let Some(value) = visible(value.as_bytes()) {
        put(headers, name, value);
    }
    true
}

/// Sets a header, where it can be one: what NATS takes for none it would panic
/// on.
pub(super) fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    let name = name.parse::<async_nats::HeaderName>();
    let value = one_line(value).parse::<async_nats::HeaderValue>();
    if let (Ok(name), Ok(value)) = (name, value) {
        headers.insert(name, value);
    }
}

fn one_line(text: &str) -> String {
    text.trim_end().replace(['\r', '\n'], " ")
}

/// What a message may have, by the server that we are connected to.
fn request_limit(gateway: &Gateway) -> usize {
    let client = gateway.nats.as_ref();
    client.map_or(0, |c| c.server_info().max_payload)
}

/// Gives a request back to the queue group, which may choose another node.
async fn pass_on(gateway: &Gateway, request: &Request) -> bool {
    let (Some(client), Some(reply)) = (&gateway.nats, &request.message.reply) else {
        return false;
    };
    // We have left the group: where nobody is in it, its caller would wait in vain.
    if gateway.is_draining() && !is_answered(gateway, client, &request.message.subject).await {
        return false;
    }
    let mut headers = request.message.headers.clone().unwrap_or_default();
    let passed = headers.get(PASSED).and_then(|v| v.as_str().parse().ok());
    let passed: u32 = passed.unwrap_or(0);
    if passed >= PASSES {
        return false;
    }
    put(&mut headers, PASSED, &(passed + 1).to_string());
    let subject = request.message.subject.clone();
    let payload = request.message.payload.clone();
    client
        .publish_with_reply_and_headers(subject, reply.clone(), headers, payload)
        .await
        .is_ok()
}

/// Whether a node of our group, other than we, answers a subject, by what the
/// first that is heard of says of itself.
async fn is_answered(gateway: &Gateway, client: &Client, subject: &str) -> bool {
    let info = timeout(INFO_TIMEOUT, client.request("$SRV.INFO.lwc", Bytes::new())).await;
    let (Ok(Ok(info)), Some(options)) = (info, &gateway.options.nats) else {
        return false;
    };
    let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap_or_default();
    let mut endpoints = info["endpoints"].as_array().into_iter().flatten();
    endpoints.any(|e| e["subject"] == *subject && e["queue_group"] == *options.queue)
}

/// Has a step run elsewhere.
pub(super) async fn ask(
    gateway: &Gateway,
    call: &Call<'_>,
    subject: &str,
    meta: MessageMeta,
    body: Bytes,
    until: Instant,
) -> Result<Answer, Problem> {
    let Some(client) = &gateway.nats else {
        return Err(Problem::new(
            ProblemKind::Remote,
            format!("the step runs at {subject}, and this server has no --nats"),
        )
        .with(Circumstance::Unavailable));
    };
    let limit = request_limit(gateway);
    if body.len() > limit && limit > 0 {
        let len = body.len();
        return Err(Problem::new(
            ProblemKind::TooLarge,
            format!("{len} bytes for {subject}, more than NATS carries here ({limit})"),
        ));
    }
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        let detail = "the deadline passed before the step".to_owned();
        return Err(Problem::new(ProblemKind::Deadline, detail));
    }
    let mut headers = HeaderMap::new();
    put(&mut headers, "Content-Type", &meta.content_type);
    put(
        &mut headers,
        "Request-Timeout",
        &format!("{:.6}", left.as_secs_f64()),
    );
    put(&mut headers, "traceparent", &call.trace.header());
    put(&mut headers, "X-Call-Id", call.call_id());
    if !call.trace.state().is_empty() {
        put(&mut headers, "tracestate", call.trace.state());
    }
    let said = meta.attributes.for_the_next_step();
    for (name, value) in said.iter() {
        put(&mut headers, &format!("{ATTRIBUTE}{name}"), value);
    }
    let begun = Instant::now();
    let handed = SystemTime::now();
    let request = async_nats::Request::new()
        .headers(headers)
        .payload(body)
        .timeout(Some(left));
    let message = client.send_request(subject.to_owned(), request).await;
    let message = message.map_err(|e| match e.kind() {
        RequestErrorKind::TimedOut => Problem::new(
            ProblemKind::Timeout,
            format!("{subject} did not answer in time"),
        ),
        RequestErrorKind::NoResponders => {
            Problem::new(ProblemKind::Remote, format!("nobody answers {subject}"))
                .with(Circumstance::Unavailable)
                .retry(5)
        }
        RequestErrorKind::InvalidSubject
        | RequestErrorKind::MaxPayloadExceeded
        | RequestErrorKind::Other => Problem::new(ProblemKind::Remote, format!("{subject}: {e}")),
    })?;
    let header = |name: &str| {
        let mut headers = message.headers.iter().flat_map(HeaderMap::iter);
        // NATS tells cases apart; those who write headers do not.
        let found = headers.find(|(n, _)| n.to_string().eq_ignore_ascii_case(name));
        Some(found?.1.first()?.as_str().to_owned())
    };
    if let Some(code) = header(ERROR_CODE) {
        let text = header(ERROR).unwrap_or_default();
        let text = printable_line(text, MOST_SAID);
        let problem = Problem::new(ProblemKind::Remote, format!("{subject}: {text}"));
        return Err(problem.with(code.parse().map_or(Circumstance::None, Circumstance::told)));
    }
    let bad = |what: &str| Problem::new(ProblemKind::Remote, format!("{subject}: {what}"));
    let region = call.input.region;
    if message.payload.len() as u64 > region {
        return Err(bad(&format!(
            "its answer is larger than the region ({region})"
        )));
    }
    let content_type = header("content-type").unwrap_or(meta.content_type);
    if content_type.len() > 127 {
        return Err(bad("its content type is longer than 127 bytes"));
    }
    let mut attributes = Attributes::default();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        let name = name.to_string().to_ascii_lowercase();
        let ours = matches!(
            name.as_str(),
            "content-type" | "x-invocation-id" | "x-call-id" | "traceparent" | "lwc-status"
        );
        if let (false, Some(value)) = (ours, values.first())
            && let Err(e) = attributes.set(&name, value.as_str())
        {
            return Err(bad(&format!("header {name:?} of its answer: {e}")));
        }
    }
    let hop = crate::worker::frame::HopTiming {
        at: 0.0,
        copy: 0.0,
        run: begun.elapsed().as_secs_f64() * 1e6,
    };
    Ok(Answer {
        meta: MessageMeta {
            content_type,
            attributes,
        },
        body: message.payload,
        hops: vec![hop],
        calls: super::told::Calls::default(),
        handed,
        ended: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_inboxes_and_results_alone() {
        let options = NatsOptions {
            url: String::new(),
            credentials: None,
            queue: "q".into(),
            prefix: "lwc".into(),
            stream: None,
            inboxes: vec!["_INBOX".into(), "mine.inbox".into()],
        };
        for good in [
            "_INBOX.abc.1",
            "mine.inbox.a",
            "lwc.results.a",
            "lwc.results.a.b-c",
        ] {
            assert!(options.may_answer_at(good), "{good}");
            assert!(options.may_reply_to(good), "{good}");
            let elsewhere = format!("_GR_.cluster.server.{good}");
            assert!(options.may_reply_to(&elsewhere), "{elsewhere}");
        }
        let long = format!("_INBOX.{}", "a".repeat(300));
        for bad in [
            "",
            "_INBOX",
            "_INBOX.",
            "_INBOXES.a",
            "mine.inboxes",
            "lwc.results",
            "lwc.resultsa.b",
            "lwc.results.*",
            "lwc.results.>",
            "lwc.results.a b",
            "lwc.results..b",
            "lwc.results.a\r\nPUB x 0",
            "lwc.work.pair",
            "lwc.chains.pair",
            "$JS.API.STREAM.DELETE.WORK",
            "$SYS.REQ.SERVER.PING",
            "other.results.a",
            "_GR_.cluster.server",
            &long,
        ] {
            assert!(!options.may_answer_at(bad), "{bad:?}");
            assert!(!options.may_reply_to(bad), "{bad:?}");
            let elsewhere = format!("_GR_.cluster.server.{bad}");
            assert!(!options.may_reply_to(&elsewhere), "{elsewhere:?}");
        }
        for made in ["_R_.abc.def", "$JS.ACK.s.c.1.2.3.4.5"] {
            assert!(options.may_reply_to(made), "{made}");
            assert!(!options.may_answer_at(made), "a sender says it: {made}");
        }
    }
}
