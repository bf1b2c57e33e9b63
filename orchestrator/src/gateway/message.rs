//! What a function sees of a request beside its body, and how its answer, or that there
//! is none, is told: a status, headers and a body, which HTTP and NATS have both.

use super::document;
use super::event;
pub(super) use super::event::EventMode;
use super::headers::{Headers, visible};
use super::invocation::{Asked, Call, End};
use super::problem::{Circumstance, Problem, ProblemKind};
use super::trace::Trace;
use crate::chain_file::{ChainId, HeaderPattern, is_hop_by_hop};
use crate::life::{AttributeError, Attributes, MessageMeta};
use bytes::Bytes;
use std::borrow::Cow;
use std::time::Duration;

/// A content type is handed over in a field of this size.
const LONGEST_TYPE: usize = 127;

/// Bytes of which nothing else is known.
const OCTETS: &str = "application/octet-stream";

/// Headers of an answer that are the gateway's own.
const GATEWAYS: [&str; 7] = [
    "content-type",
    "date",
    "host",
    "traceparent",
    "x-call-id",
    "x-content-type-options",
    "x-invocation-id",
];

/// What a chain takes.
#[derive(Debug, Clone)]
pub(super) struct ChainInput {
    /// Bytes of a message.
    pub(super) region: u64,
    /// CloudEvents alone.
    pub(super) events: bool,
    /// Any method, as an application that is served alone does.
    pub(super) any_method: bool,
    /// The caller's headers that the first step sees.
    pub(super) headers: Vec<HeaderPattern>,
}

impl ChainInput {
    /// Bytes that a body may have: an event's data is in JSON, and may be in
    /// base64 there.
    pub(super) fn body_limit(&self) -> u64 {
        if self.events {
            self.region.saturating_mul(2).saturating_add(64 << 10)
        } else {
            self.region
        }
    }
}

/// What comes before a request's body.
pub(super) struct Head<'a, H> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) headers: &'a H,
    /// Attributes that another node's step set for ours. Not headers: a caller of
    /// HTTP must not be able to say them.
    pub(super) from_step: &'a [(String, String)],
}

impl<'a, H: Headers> Head<'a, H> {
    /// What the caller calls its request (OpenFaaS's `X-Call-Id`), where that can be an
    /// identity. It goes into logs and to others, and means nothing here.
    pub(super) fn call_id(&self) -> Option<&'a str> {
        let id = visible(self.headers.first("x-call-id")?)?;
        is_identity(id).then_some(id)
    }

    /// What it asks for, for at most so long.
    pub(super) fn asked(&self, call: &Call<'_>, most: Duration) -> Result<Asked, Problem> {
        let deadline = call.begun + request_timeout(self.headers, most)?;
        let parent = call.trace.header();
        // Said of this invocation, whatever the caller's headers of these names say.
        let ours = [
            ("traceparent", parent.as_str()),
            ("tracestate", call.trace.state()),
            ("x-call-id", call.call_id()),
        ];
        let (meta, event) = meta(self, call.input, &ours)?;
        Ok(Asked {
            deadline,
            meta,
            event,
        })
    }
}

/// Whether somebody else's identity is short and plain enough to be repeated.
pub(super) fn is_identity(id: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&id.len()) && id.bytes().all(fits)
}

/// How long the caller waits: what it says, at most what is configured.
fn request_timeout(headers: &impl Headers, most: Duration) -> Result<Duration, Problem> {
    for name in ["request-timeout", "x-timeout"] {
        let Some(value) = headers.first(name) else {
            continue;
        };
        let given = visible(value).map(str::trim).and_then(|v| {
            let seconds = v.parse::<f64>().ok();
            match seconds {
                Some(s) => Duration::try_from_secs_f64(s).ok(),
                None => humantime::parse_duration(v).ok(),
            }
        });
        return match given {
            Some(d) if !d.is_zero() => Ok(d.min(most)),
            _ => Err(Problem::new(
                ProblemKind::BadTimeout,
                format!("header {name}: give seconds (5, 0.25) or a duration (250ms), above zero"),
            )),
        };
    }
    Ok(most)
}

/// The content type and attributes of a request, and how its event travels if
/// it must be one. The headers `ours` come from the gateway, not the caller.
fn meta<H: Headers>(
    head: &Head<'_, H>,
    input: &ChainInput,
    ours: &[(&str, &str)],
) -> Result<(MessageMeta, Option<EventMode>), Problem> {
    if !input.events {
        let meta = MessageMeta {
            content_type: content_type(head.headers)?,
            attributes: attributes(head, &input.headers, ours)?,
        };
        return Ok((meta, None));
    }
    let mode = event::mode(head.headers)?;
    let meta = match mode {
        EventMode::Binary => MessageMeta {
            content_type: content_type(head.headers)?,
            attributes: event::from_headers(head.headers)?,
        },
        EventMode::Structured => MessageMeta::default(),
    };
    Ok((meta, Some(mode)))
}

/// The message of a body that has arrived.
pub(super) fn decode_body(
    meta: MessageMeta,
    mode: Option<EventMode>,
    body: Bytes,
    trace: &Trace,
) -> Result<(MessageMeta, Bytes), Problem> {
    let (mut meta, data) = match mode {
        Some(EventMode::Structured) => {
            let (meta, data) = event::from_json(&body)?;
            if meta.content_type.len() > LONGEST_TYPE {
                return Err(bad_type("datacontenttype: it is longer than 127 bytes"));
            }
            (meta, data)
        }
        _ => (meta, body),
    };
    if mode.is_some() && meta.attributes.get("ce-traceparent").is_none() {
        // An event's function sees no headers, but may want the trace. An
        // event that leaves no room goes without.
        let _ = meta.attributes.set("ce-traceparent", &trace.header());
        if !trace.state().is_empty() {
            let _ = meta.attributes.set("ce-tracestate", trace.state());
        }
    }
    Ok((meta, data))
}

/// Method, path, query, selected headers.
fn attributes<H: Headers>(
    head: &Head<'_, H>,
    selected: &[HeaderPattern],
    ours: &[(&str, &str)],
) -> Result<Attributes, Problem> {
    let mut out = Attributes::default();
    for (name, value) in [
        (":method", head.method),
        (":path", head.path),
        (":query", head.query),
    ] {
        put(&mut out, name, value, || {
            format!("the request's {}", &name[1..])
        })?;
    }
    for (name, value) in head.from_step {
        put(&mut out, name, value, || format!("attribute {name}"))?;
    }
    for name in head.headers.names() {
        // How the body is packed belongs to it, as its content type does.
        let meant = name.starts_with("ce-")
            || name == "content-encoding"
            || selected.iter().any(|p| p.matches(name));
        let meant = meant && ours.iter().all(|(n, _)| *n != name);
        if !meant || is_hop_by_hop(name) || name == "content-type" {
            continue;
        }
        match joined(head.headers, name) {
            Some(text) => put(&mut out, name, &text, || format!("header {name}"))?,
            None => log::debug!("header {name}: it is no UTF-8; no function sees it"),
        }
    }
    for (name, value) in ours {
        if !value.is_empty() && selected.iter().any(|p| p.matches(name)) {
            put(&mut out, name, value, || format!("header {name}"))?;
        }
    }
    Ok(out)
}

/// Sets an attribute that a stranger has chosen. Any name of RFC 9110 may come, and any
/// bytes: what no attribute can be is left out. What there is no room for is refused.
fn put(
    out: &mut Attributes,
    name: &str,
    value: &str,
    what: impl Fn() -> String,
) -> Result<(), Problem> {
    match out.set(name, value) {
        Ok(()) => Ok(()),
        Err(e @ (AttributeError::Name | AttributeError::Value)) => {
            log::debug!("{}: {e}; no function sees it", what());
            Ok(())
        }
        Err(e @ AttributeError::Full) => Err(Problem::new(
            ProblemKind::BadHeader,
            format!("{}: {e}", what()),
        )
        .with(Circumstance::NoRoom)),
    }
}

/// All lines of a header as one text (RFC 9110, 5.3; RFC 6265, 5.4), those of an event's
/// attribute as they are meant; `None` where it is none.
pub(super) fn joined(headers: &impl Headers, name: &str) -> Option<String> {
    let event = name.starts_with("ce-");
    let text = |value: &[u8]| match event {
        true => event::attribute(name, value).ok(),
        false => std::str::from_utf8(value).ok().map(str::to_owned),
    };
    let lines: Option<Vec<String>> = headers.lines(name).map(text).collect();
    Some(lines?.join(if name == "cookie" { "; " } else { ", " }))
}

/// The header that an attribute of an answer is. `set-cookie.WORD` is one more line of
/// `set-cookie`, the one header whose lines cannot be joined (RFC 9110, 5.3).
fn header_of(attribute: &str) -> &str {
    let line = attribute.strip_prefix("set-cookie");
    match line.is_some_and(|l| l.starts_with('.')) {
        true => "set-cookie",
        false => attribute,
    }
}

fn bad_type(what: &str) -> Problem {
    Problem::new(ProblemKind::BadContentType, what)
}

fn content_type(headers: &impl Headers) -> Result<String, Problem> {
    let Some(value) = headers.first("content-type") else {
        return Ok(OCTETS.into());
    };
    let value = visible(value).ok_or_else(|| bad_type("header content-type: it is not ASCII"))?;
    if value.len() > LONGEST_TYPE {
        return Err(bad_type("header content-type: it is longer than 127 bytes"));
    }
    Ok(value.to_owned())
}

/// Tells the end of an invocation: its status and its body. Headers go to `header`, one
/// line after the other, which says of each whether it can be one.
pub(super) fn tell(
    call: &Call<'_>,
    end: &End,
    asked: &impl Headers,
    header: &mut impl FnMut(&str, &str) -> bool,
) -> (u16, Bytes) {
    let (chain, id) = (call.chain, &call.id);
    let told = match end {
        Ok(answer) => {
            let (meta, body) = (answer.meta.clone(), answer.body.clone());
            respond(meta, body, 200, asked, chain, id, header)
        }
        Err(problem) => {
            let status = document::status(problem);
            match &problem.answer {
                Some(answer) => {
                    let (meta, body) = (**answer).clone();
                    respond(meta, body, status, asked, chain, id, header)
                }
                None => {
                    let body = document::tell(problem, status, Some(chain), Some(id), header);
                    (status, body)
                }
            }
        }
    };
    for (name, value) in [
        ("x-invocation-id", id.as_str()),
        ("x-call-id", call.call_id()),
        ("traceparent", &call.trace.header()),
    ] {
        header(name, value);
    }
    told
}

/// What an answer is told as. What a function may not say is left out, and logged.
fn respond(
    mut meta: MessageMeta,
    body: Bytes,
    status: u16,
    asked: &impl Headers,
    chain: &ChainId,
    id: &str,
    header: &mut impl FnMut(&str, &str) -> bool,
) -> (u16, Bytes) {
    let (mut status, mut body) = (status, body);
    let event = event::is_event(&meta.attributes);
    let structured = event && event::wants_structured(asked, &meta.content_type);
    if event {
        event::complete(&mut meta.attributes, chain, id);
    }
    let mut kind = Cow::Borrowed(meta.content_type.as_str());
    if structured {
        let (json, structured_type) = event::to_json(&meta, &body);
        (body, kind) = (json.into(), structured_type.into());
    }
    header("content-type", visible(kind.as_bytes()).unwrap_or(OCTETS));
    for (name, value) in meta.attributes.iter() {
        if structured && name.starts_with("ce-") {
            continue;
        }
        if name == ":status" {
            match value.parse() {
                Ok(said @ 200..600) => status = said,
                _ => log::warn!(target: "invocation", "{chain} [{id}]: {value:?} is no status"),
            }
            continue;
        }
        let text = match name.starts_with("ce-") {
            true => event::encode(value),
            false => value.into(),
        };
        let name = header_of(name);
        // The body is the event's, which is not packed.
        let unpacked = structured && name == "content-encoding";
        let ours = is_hop_by_hop(name)
            || GATEWAYS.contains(&name)
            || unpacked
            // What is said of a message, but in no header.
            || name.starts_with(':');
        if ours || !header(name, &text) {
            log::warn!(
                target: "invocation",
                "{chain} [{id}]: no function sets the header {name:?}; it is left out"
            );
        }
    }
    (status, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::headers::HeaderList;

    fn head(headers: &HeaderList) -> Head<'_, HeaderList> {
        Head {
            method: "PUT",
            path: "/a/b",
            query: "c=d",
            headers,
            from_step: &[],
        }
    }

    /// What an answer is told as.
    fn told(meta: MessageMeta, status: u16) -> (u16, Vec<(String, String)>) {
        let (chain, none) = (ChainId::named("c").unwrap(), HeaderList::default());
        let mut headers = Vec::new();
        let mut header = |name: &str, value: &str| {
            headers.push((name.to_owned(), value.to_owned()));
            true
        };
        let body = Bytes::from_static(b"x");
        let (status, _) = respond(meta, body, status, &none, &chain, "id", &mut header);
        (status, headers)
    }

    fn input(patterns: &[&str]) -> ChainInput {
        ChainInput {
            region: 4096,
            events: false,
            any_method: true,
            headers: patterns
                .iter()
                .map(|p| HeaderPattern::parse(p).unwrap())
                .collect(),
        }
    }

    #[test]
    fn only_selected_headers_are_seen() {
        let p = HeaderList::of(&[
            ("authorization", "secret"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("connection", "close"),
            ("ce-id", "7"),
        ]);
        let (meta, _) = meta(&head(&p), &input(&["x-*"]), &[]).unwrap();
        let all: Vec<_> = meta.attributes.iter().collect();
        assert_eq!(
            all,
            [
                (":method", "PUT"),
                (":path", "/a/b"),
                (":query", "c=d"),
                ("ce-id", "7"),
                ("x-a", "1, 2")
            ]
        );
        let (meta, _) = super::meta(&head(&p), &input(&["*"]), &[]).unwrap();
        assert_eq!(meta.attributes.get("authorization"), Some("secret"));
        assert_eq!(meta.attributes.get("connection"), None);
    }

    #[test]
    fn what_the_gateway_says_stands_in_the_callers_place() {
        let p = HeaderList::of(&[("traceparent", "the caller's"), ("tracestate", "junk")]);
        let ours = [("traceparent", "ours"), ("tracestate", "")];
        let (meta, _) = super::meta(&head(&p), &input(&["trace*"]), &ours).unwrap();
        assert_eq!(meta.attributes.get("traceparent"), Some("ours"));
        assert_eq!(meta.attributes.get("tracestate"), None);
        let (meta, _) = super::meta(&head(&p), &input(&["x-*"]), &ours).unwrap();
        assert_eq!(meta.attributes.get("traceparent"), None);
    }

    #[test]
    fn any_header_that_http_has_comes_or_is_left_out() {
        let mut p = HeaderList::of(&[
            ("content-encoding", "gzip"),
            ("cf-ipcity", "Zürich"),
            ("$wssc", "1"),
            ("x-a~b", "1"),
            ("x!", "1"),
            ("x'y", "1"),
            ("x-tab", "a\tb"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("ce-subject", "Z%C3%BCrich%20100%25"),
            ("ce-subject", "\"a\\\"b\""),
            ("ce-odd", "%FF"),
        ]);
        p.append("user-agent", b"a\xeeb");
        p.append("x-c1", "\u{9b}".as_bytes());
        let (meta, _) = meta(&head(&p), &input(&["*"]), &[]).unwrap();
        let all: Vec<_> = meta.attributes.iter().skip(3).collect();
        assert_eq!(
            all,
            [
                ("ce-subject", "Zürich 100%, a\"b"),
                ("cf-ipcity", "Zürich"),
                ("content-encoding", "gzip"),
                ("cookie", "a=1; b=2"),
                ("x-tab", "a\tb"),
            ]
        );
        // How the body is packed is told to all.
        let (meta, _) = super::meta(&head(&p), &input(&[]), &[]).unwrap();
        assert_eq!(meta.attributes.get("content-encoding"), Some("gzip"));
        assert_eq!(meta.attributes.get("cookie"), None);
    }

    #[test]
    fn an_answer_has_as_many_cookies_as_it_sets() {
        let mut attributes = Attributes::default();
        for (n, v) in [
            ("set-cookie", "a=1"),
            ("set-cookie.b", "b=2; Path=/"),
            ("set-cookie.3", "c=3"),
            ("set-cookies", "no"),
            ("content-encoding", "gzip"),
        ] {
            attributes.set(n, v).unwrap();
        }
        let meta = MessageMeta {
            content_type: "text/plain".into(),
            attributes,
        };
        let headers = told(meta, 200).1;
        let headers: Vec<_> = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            headers,
            [
                ("content-type", "text/plain"),
                ("set-cookie", "a=1"),
                ("set-cookie", "b=2; Path=/"),
                ("set-cookie", "c=3"),
                ("set-cookies", "no"),
                ("content-encoding", "gzip"),
            ]
        );
    }

    #[test]
    fn headers_without_room_are_refused() {
        let long = "x".repeat(9000);
        let p = HeaderList::of(&[("x-long", &long)]);
        let problem = meta(&head(&p), &input(&["x-long"]), &[]).unwrap_err();
        assert_eq!(problem.circumstance, Circumstance::NoRoom);
        assert!(problem.detail.contains("x-long"), "{}", problem.detail);
        assert!(meta(&head(&p), &input(&[]), &[]).is_ok());
    }

    #[test]
    fn an_answer_sets_status_and_headers_but_not_the_gateways() {
        let mut attributes = Attributes::default();
        for (n, v) in [
            (":status", "201"),
            (":path", "/made"),
            ("location", "/made/7"),
            ("content-length", "9999"),
            ("transfer-encoding", "chunked"),
            ("x-invocation-id", "forged"),
        ] {
            attributes.set(n, v).unwrap();
        }
        let meta = MessageMeta {
            content_type: "text/plain".into(),
            attributes,
        };
        let (status, headers) = told(meta, 200);
        assert_eq!(status, 201);
        let names: Vec<_> = headers.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["content-type", "location"]);
        for bad in ["100", "99", "abc", "700"] {
            let mut attributes = Attributes::default();
            attributes.set(":status", bad).unwrap();
            let meta = MessageMeta {
                content_type: String::new(),
                attributes,
            };
            for status in [200, 502] {
                assert_eq!(told(meta.clone(), status).0, status, "{bad}");
            }
        }
    }

    #[test]
    fn only_what_can_be_an_identity_is_repeated() {
        let of = |id: &[u8]| {
            let mut headers = HeaderList::default();
            headers.append("x-call-id", id);
            head(&headers).call_id().map(str::to_owned)
        };
        assert_eq!(of(b"order-7.a_B").as_deref(), Some("order-7.a_B"));
        assert_eq!(of(&[b'a'; 64]), Some("a".repeat(64)));
        for bad in [
            &b""[..],
            b"a b",
            b"a/b",
            b"a\tb",
            "é".as_bytes(),
            &[b'a'; 65],
        ] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
        assert_eq!(head(&HeaderList::default()).call_id(), None);
    }
}
