//! Functions that run elsewhere: steps of a chain, and functions that others call.
//!
//! A function has no socket: who waits for the answer of its worker asks in its place,
//! by NATS or by HTTP.

use super::Gateway;
use super::document;
use super::headers::{Headers, visible};
use super::invocation::Call;
use super::message::joined;
use super::problem::{Circumstance, Problem, ProblemKind};
use super::queue::{Answer, NotAnswered};
use super::told::Calls;
use crate::chain_file::{Origin, is_hop_by_hop};
use crate::life::{AttributeError, Attributes, CauseKind, MessageMeta};
use crate::printable::printable_line;
use crate::worker::frame::HopTiming;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::sync::OnceLock;
use std::time::SystemTime;
use tokio::time::{Instant, timeout_at};

/// Bytes of an error's body that are told.
const MOST_TOLD: usize = 256;

/// Has a function run where it is.
pub(super) async fn ask(
    gateway: &Gateway,
    call: &Call<'_>,
    place: &Origin,
    meta: MessageMeta,
    body: Bytes,
    until: Instant,
) -> Result<Answer, Problem> {
    let answer = match place {
        Origin::Remote(subject) => {
            super::nats::ask(gateway, call, subject, meta, body, until).await
        }
        Origin::Url(url) => post(call, url, meta, body, until).await,
        Origin::Source(_)
        | Origin::Crate(_)
        | Origin::ProgramCrate(_)
        | Origin::Library(_)
        | Origin::Group(_) => Err(Problem::new(ProblemKind::Remote, "the function runs here")),
    };
    answer.map_err(|problem| late(problem, until))
}

/// Who runs the function is told how long it may, and may say that its time is over
/// before we have seen it ourselves.
fn late(problem: Problem, until: Instant) -> Problem {
    if problem.circumstance == Circumstance::Late && Instant::now() >= until {
        return Problem::new(ProblemKind::Timeout, problem.detail);
    }
    problem
}

/// The same problem, as the function is told that waits for the answer.
pub(super) fn not_answered(problem: Problem) -> Box<NotAnswered> {
    let cause = match (problem.kind, problem.circumstance) {
        (ProblemKind::Timeout | ProblemKind::Deadline, _) => CauseKind::Timeout,
        // What its function says itself has its own number.
        (_, Circumstance::Late | Circumstance::Refused(_) | Circumstance::Failed(_)) => {
            CauseKind::Error
        }
        (
            _,
            Circumstance::None
            | Circumstance::NoRoom
            | Circumstance::Form
            | Circumstance::Code(_)
            | Circumstance::Unavailable,
        ) => CauseKind::Remote,
    };
    let code = document::status(&problem);
    let mut not = NotAnswered::elsewhere(cause, problem.detail);
    not.why.code = code.into();
    not
}

fn client() -> &'static Client<HttpConnector, Full<Bytes>> {
    static CLIENT: OnceLock<Client<HttpConnector, Full<Bytes>>> = OnceLock::new();
    CLIENT.get_or_init(|| Client::builder(TokioExecutor::new()).build_http())
}

/// Asks an HTTP server. Attributes go as headers, and come as headers.
async fn post(
    call: &Call<'_>,
    url: &str,
    meta: MessageMeta,
    body: Bytes,
    until: Instant,
) -> Result<Answer, Problem> {
    let bad = |what: String| Problem::new(ProblemKind::Remote, format!("{url}: {what}"));
    let left = until.saturating_duration_since(Instant::now());
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.parse().map_err(|e| bad(format!("{e}")))?;
    let parent = call.trace.header();
    let timeout = format!("{:.6}", left.as_secs_f64());
    let said = meta.attributes.for_the_next_step();
    let ours = [
        ("content-type", meta.content_type.as_str()),
        ("request-timeout", &timeout),
        ("traceparent", &parent),
        ("tracestate", call.trace.state()),
        ("x-call-id", call.call_id()),
    ];
    // What is said of this call comes last, whatever attributes are named.
    for (name, value) in said
        .iter()
        .filter(|(n, _)| !is_of_the_transport(n))
        .chain(ours)
    {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value), false) = (name, HeaderValue::from_str(value), value.is_empty())
        {
            request.headers_mut().insert(name, value);
        }
    }
    let (begun, handed) = (Instant::now(), SystemTime::now());
    let region = call.input.region;
    let exchange = async {
        let response = client()
            .request(request)
            .await
            .map_err(|e| bad(cause_of(&e)).with(Circumstance::Unavailable))?;
        let (parts, body) = response.into_parts();
        let limit = usize::try_from(region).unwrap_or(usize::MAX);
        let body = Limited::new(body, limit).collect().await.map_err(|e| {
            bad(match e.downcast_ref::<LengthLimitError>() {
                Some(_) => format!("its answer is larger than the region ({region})"),
                None => e.to_string(),
            })
        })?;
        Ok::<_, Problem>((parts, body.to_bytes()))
    };
    let (parts, body) = timeout_at(until, exchange).await.map_err(|_| {
        Problem::new(
            ProblemKind::Timeout,
            format!("{url} did not answer in time"),
        )
    })??;
    if !parts.status.is_success() {
        let told = String::from_utf8_lossy(&body[..body.len().min(MOST_TOLD)]).into_owned();
        let problem = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
        let told = problem["detail"].as_str().map_or(told, str::to_owned);
        let told = printable_line(told, MOST_TOLD);
        return Err(
            bad(format!("{} {told}", parts.status)).with(Circumstance::told(parts.status.as_u16()))
        );
    }
    Ok(Answer {
        meta: answered(&parts.headers, meta.content_type).map_err(bad)?,
        body,
        hops: vec![HopTiming {
            at: 0.0,
            copy: 0.0,
            run: begun.elapsed().as_secs_f64() * 1e6,
        }],
        handed,
        ended: false,
        calls: Calls::default(),
    })
}

/// What an answer's headers say of it.
fn answered(headers: &HeaderMap, asked: String) -> Result<MessageMeta, String> {
    let content_type = match headers.get(CONTENT_TYPE).map(HeaderValue::to_str) {
        None => asked,
        Some(Ok(text)) if text.len() <= 127 => text.to_owned(),
        Some(_) => return Err("its content type is no text of at most 127 bytes".into()),
    };
    let mut attributes = Attributes::default();
    let mut set = |name: &str, value: &str| match attributes.set(name, value) {
        Err(e @ AttributeError::Full) => Err(format!("header {name:?} of its answer: {e}")),
        // What no attribute can be is left out.
        _ => Ok(()),
    };
    for name in headers.names() {
        if is_of_the_transport(name) {
            continue;
        }
        if name == "set-cookie" {
            // Each line is one of its own.
            let lines = headers.lines(name).enumerate();
            for (i, line) in lines.filter_map(|(i, v)| Some((i, visible(v)?))) {
                match i {
                    0 => set("set-cookie", line)?,
                    _ => set(&format!("set-cookie.{}", i + 1), line)?,
                }
            }
        } else if let Some(value) = joined(headers, name) {
            set(name, &value)?;
        }
    }
    Ok(MessageMeta {
        content_type,
        attributes,
    })
}

/// Headers that are about a message's way, not about the message.
fn is_of_the_transport(name: &str) -> bool {
    is_hop_by_hop(name)
        || matches!(
            name,
            "content-type"
                | "date"
                | "host"
                | "http2-settings"
                | "request-timeout"
                | "server"
                | "traceparent"
                | "tracestate"
                | "x-call-id"
                | "x-invocation-id"
        )
}

/// An error with what caused it: the outermost says little.
fn cause_of(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(e) = next {
        text = format!("{text}: {e}");
        next = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Whoever says it first.
    #[test]
    fn one_whose_time_is_over_has_overrun_it() {
        let told = |known, until| {
            let problem = Problem::new(ProblemKind::Remote, "told").with(known);
            late(problem, until).kind
        };
        let (over, later) = (Instant::now(), Instant::now() + Duration::from_secs(60));
        assert_eq!(told(Circumstance::Late, over), ProblemKind::Timeout);
        assert_eq!(told(Circumstance::Late, later), ProblemKind::Remote);
        assert_eq!(told(Circumstance::None, over), ProblemKind::Remote);
    }

    #[test]
    fn a_caller_is_told_of_an_error_of_its_callees_own_as_of_no_other() {
        for (kind, known, told) in [
            (
                ProblemKind::Remote,
                Circumstance::told(404),
                (CauseKind::Error, 404),
            ),
            (
                ProblemKind::Remote,
                Circumstance::told(500),
                (CauseKind::Error, 500),
            ),
            (
                ProblemKind::Remote,
                Circumstance::told(504),
                (CauseKind::Error, 504),
            ),
            (
                ProblemKind::Remote,
                Circumstance::told(503),
                (CauseKind::Remote, 503),
            ),
            (
                ProblemKind::Remote,
                Circumstance::told(502),
                (CauseKind::Remote, 502),
            ),
            (
                ProblemKind::Remote,
                Circumstance::told(302),
                (CauseKind::Remote, 502),
            ),
            (
                ProblemKind::TooLarge,
                Circumstance::None,
                (CauseKind::Remote, 413),
            ),
            (
                ProblemKind::Timeout,
                Circumstance::None,
                (CauseKind::Timeout, 504),
            ),
            (
                ProblemKind::Deadline,
                Circumstance::None,
                (CauseKind::Timeout, 504),
            ),
        ] {
            let not = not_answered(Problem::new(kind, "").with(known));
            assert_eq!((not.why.cause, not.why.code), told, "{kind} {known:?}");
        }
    }

    #[test]
    fn no_attribute_is_about_the_way() {
        for name in [
            "expect",
            "proxy-connection",
            "http2-settings",
            "connection",
            "te",
        ] {
            assert!(is_of_the_transport(name), "{name}");
        }
        assert!(!is_of_the_transport("x-rate"));
    }

    #[test]
    fn headers_of_an_answer_become_attributes_but_those_of_its_way() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/plain"),
            ("content-length", "3"),
            ("date", "today"),
            ("x-rate", "7"),
            ("x~odd", "8"),
            ("content-encoding", "gzip"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("vary", "accept"),
            ("vary", "cookie"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let meta = answered(&headers, "asked/with".into()).unwrap();
        assert_eq!(meta.content_type, "text/plain");
        assert_eq!(
            meta.attributes.iter().collect::<Vec<_>>(),
            [
                ("x-rate", "7"),
                ("content-encoding", "gzip"),
                ("set-cookie", "a=1"),
                ("set-cookie.2", "b=2"),
                ("vary", "accept, cookie"),
            ]
        );
        headers.remove("content-type");
        let meta = answered(&headers, "asked/with".into()).unwrap();
        assert_eq!(meta.content_type, "asked/with");
        let long = HeaderValue::from_str(&"t".repeat(128)).unwrap();
        headers.insert("content-type", long);
        assert!(answered(&headers, String::new()).is_err());
    }
}
