//! Functions that an HTTP server runs elsewhere.

use crate::chain_file::is_hop_by_hop;
use crate::gateway::headers::{Headers, visible};
use crate::gateway::invocation::Call;
use crate::gateway::message::joined;
use crate::gateway::problem::{Circumstance, Problem, ProblemKind};
use crate::gateway::queue::Answer;
use crate::gateway::told::Calls;
use crate::life::{AttributeError, Attributes, MessageMeta};
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

fn client() -> &'static Client<HttpConnector, Full<Bytes>> {
    static CLIENT: OnceLock<Client<HttpConnector, Full<Bytes>>> = OnceLock::new();
    CLIENT.get_or_init(|| Client::builder(TokioExecutor::new()).build_http())
}

/// Asks an HTTP server. Attributes go as headers, and come as headers.
pub(in crate::gateway) async fn post(
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
