//! What a function sees of a request beside its body, and what its answer
//! becomes in HTTP.

use super::event::{self, Mode};
use super::problem::{Circumstance, Problem, ProblemKind};
use super::trace::Trace;
use crate::chain_file::{ChainId, HeaderPattern, is_hop_by_hop};
use crate::life::{AttributeError, Attributes, MessageMeta};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE,
};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

/// A content type is handed over in a field of this size.
const LONGEST_TYPE: usize = 127;

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

/// Attributes that another node's step set for ours. Not headers: a caller of
/// HTTP must not be able to say them.
#[derive(Debug, Clone, Default)]
pub(super) struct AttributesFromStep(pub(super) Vec<(String, String)>);

/// The identity of an invocation whose message had one before it came.
#[derive(Debug, Clone)]
pub(super) struct InvocationId(pub(super) String);

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

/// The content type and attributes of a request, and how its event travels if
/// it must be one. The headers `ours` come from the gateway, not the caller.
pub(super) fn meta(
    parts: &Parts,
    input: &ChainInput,
    ours: &[(&str, &str)],
) -> Result<(MessageMeta, Option<Mode>), Problem> {
    if !input.events {
        let meta = MessageMeta {
            content_type: content_type(&parts.headers)?,
            attributes: http(parts, &input.headers, ours)?,
        };
        return Ok((meta, None));
    }
    let mode = event::mode(&parts.headers)?;
    let meta = match mode {
        Mode::Binary => MessageMeta {
            content_type: content_type(&parts.headers)?,
            attributes: event::from_headers(&parts.headers)?,
        },
        Mode::Structured => MessageMeta::default(),
    };
    Ok((meta, Some(mode)))
}

/// The message of a body that has arrived.
pub(super) fn decode_body(
    meta: MessageMeta,
    mode: Option<Mode>,
    body: Bytes,
    trace: &Trace,
) -> Result<(MessageMeta, Bytes), Problem> {
    let (mut meta, data) = match mode {
        Some(Mode::Structured) => {
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
fn http(
    parts: &Parts,
    selected: &[HeaderPattern],
    ours: &[(&str, &str)],
) -> Result<Attributes, Problem> {
    let mut out = Attributes::default();
    for (name, value) in [
        (":method", parts.method.as_str()),
        (":path", parts.uri.path()),
        (":query", parts.uri.query().unwrap_or("")),
    ] {
        put(&mut out, name, value, || {
            format!("the request's {}", &name[1..])
        })?;
    }
    let said = parts.extensions.get::<AttributesFromStep>();
    for (name, value) in said.into_iter().flat_map(|s| &s.0) {
        put(&mut out, name, value, || format!("attribute {name}"))?;
    }
    for name in parts.headers.keys() {
        let short = name.as_str();
        // How the body is packed belongs to it, as its content type does.
        let meant = short.starts_with("ce-")
            || short == CONTENT_ENCODING
            || selected.iter().any(|p| p.matches(short));
        let meant = meant && ours.iter().all(|(n, _)| *n != short);
        if !meant || is_hop_by_hop(short) || short == "content-type" {
            continue;
        }
        match joined(&parts.headers, name) {
            Some(text) => put(&mut out, short, &text, || format!("header {name}"))?,
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
pub(super) fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let event = name.as_str().starts_with("ce-");
    let text = |value: &HeaderValue| match event {
        true => event::attribute(name, value.as_bytes()).ok(),
        false => std::str::from_utf8(value.as_bytes())
            .ok()
            .map(str::to_owned),
    };
    let lines: Option<Vec<String>> = headers.get_all(name).iter().map(text).collect();
    Some(lines?.join(if name == COOKIE { "; " } else { ", " }))
}

/// The header that an attribute of an answer is. `set-cookie.WORD` is one more line of
/// `set-cookie`, the one header whose lines cannot be joined (RFC 9110, 5.3).
fn header_of(attribute: &str) -> &str {
    let line = attribute.strip_prefix(SET_COOKIE.as_str());
    match line.is_some_and(|l| l.starts_with('.')) {
        true => SET_COOKIE.as_str(),
        false => attribute,
    }
}

fn bad_type(what: &str) -> Problem {
    Problem::new(ProblemKind::BadContentType, what)
}

fn content_type(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok("application/octet-stream".into());
    };
    let value = value
        .to_str()
        .map_err(|_| bad_type("header content-type: it is not ASCII"))?;
    if value.len() > LONGEST_TYPE {
        return Err(bad_type("header content-type: it is longer than 127 bytes"));
    }
    Ok(value.to_owned())
}

/// The response that an answer is. What a function may not say is left out, and
/// logged.
pub(super) fn respond(
    mut meta: MessageMeta,
    body: Bytes,
    status: StatusCode,
    asked: &HeaderMap,
    chain: &ChainId,
    id: &str,
) -> Response<Full<Bytes>> {
    let mut body = body;
    let event = event::is_event(&meta.attributes);
    let mut kind = meta.content_type.clone();
    let structured = event && event::wants_structured(asked, &kind);
    if event {
        event::complete(&mut meta.attributes, chain, id);
    }
    if structured {
        let (json, structured_type) = event::to_json(&meta, &body);
        (body, kind) = (json.into(), structured_type);
    }
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    let octets = HeaderValue::from_static("application/octet-stream");
    let kind = HeaderValue::from_str(&kind).unwrap_or(octets);
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    for (name, value) in meta.attributes.iter() {
        if structured && name.starts_with("ce-") {
            continue;
        }
        if name == ":status" {
            match value.parse::<u16>().map(StatusCode::from_u16) {
                Ok(Ok(status)) if (200..600).contains(&status.as_u16()) => {
                    *reply.status_mut() = status;
                }
                _ => log::warn!(target: "invocation", "{chain} [{id}]: {value:?} is no status"),
            }
            continue;
        }
        let text = if name.starts_with("ce-") {
            event::encode(value)
        } else {
            value.to_owned()
        };
        let name = header_of(name);
        let header = HeaderName::from_bytes(name.as_bytes()).ok();
        let value = HeaderValue::from_bytes(text.as_bytes()).ok();
        // The body is the event's, which is not packed.
        let unpacked = structured && name == CONTENT_ENCODING;
        let ours = is_hop_by_hop(name) || GATEWAYS.contains(&name) || unpacked;
        match (header, value) {
            (Some(header), Some(value)) if !ours => {
                reply.headers_mut().append(header, value);
            }
            _ => log::warn!(
                target: "invocation",
                "{chain} [{id}]: no function sets the header {name:?}; it is left out"
            ),
        }
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut r = Request::builder().method("PUT").uri("/a/b?c=d");
        for (n, v) in headers {
            r = r.header(*n, *v);
        }
        r.body(()).unwrap().into_parts().0
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
        let p = parts(&[
            ("authorization", "secret"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("connection", "close"),
            ("ce-id", "7"),
        ]);
        let (meta, _) = meta(&p, &input(&["x-*"]), &[]).unwrap();
        let all: Vec<_> = meta.attributes.iter().collect();
        assert_eq!(
            all,
            [
                (":method", "PUT"),
                (":path", "/a/b"),
                (":query", "c=d"),
                ("x-a", "1, 2"),
                ("ce-id", "7")
            ]
        );
        let (meta, _) = super::meta(&p, &input(&["*"]), &[]).unwrap();
        assert_eq!(meta.attributes.get("authorization"), Some("secret"));
        assert_eq!(meta.attributes.get("connection"), None);
    }

    #[test]
    fn what_the_gateway_says_stands_in_the_callers_place() {
        let p = parts(&[("traceparent", "the caller's"), ("tracestate", "junk")]);
        let ours = [("traceparent", "ours"), ("tracestate", "")];
        let (meta, _) = super::meta(&p, &input(&["trace*"]), &ours).unwrap();
        assert_eq!(meta.attributes.get("traceparent"), Some("ours"));
        assert_eq!(meta.attributes.get("tracestate"), None);
        let (meta, _) = super::meta(&p, &input(&["x-*"]), &ours).unwrap();
        assert_eq!(meta.attributes.get("traceparent"), None);
    }

    #[test]
    fn any_header_that_http_has_comes_or_is_left_out() {
        let mut p = parts(&[
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
        let odd = HeaderValue::from_bytes(b"a\xeeb").unwrap();
        p.headers.insert("user-agent", odd);
        p.headers.insert(
            "x-c1",
            HeaderValue::from_bytes("\u{9b}".as_bytes()).unwrap(),
        );
        let (meta, _) = meta(&p, &input(&["*"]), &[]).unwrap();
        let all: Vec<_> = meta.attributes.iter().skip(3).collect();
        assert_eq!(
            all,
            [
                ("content-encoding", "gzip"),
                ("cf-ipcity", "Zürich"),
                ("x-tab", "a\tb"),
                ("cookie", "a=1; b=2"),
                ("ce-subject", "Zürich 100%, a\"b"),
            ]
        );
        // How the body is packed is told to all.
        let (meta, _) = super::meta(&p, &input(&[]), &[]).unwrap();
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
        let (body, none) = (Bytes::from_static(b"\x1f\x8b"), HeaderMap::new());
        let c = ChainId::named("c").unwrap();
        let r = respond(meta, body, StatusCode::OK, &none, &c, "id");
        let cookies: Vec<_> = r.headers().get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2; Path=/", "c=3"]);
        assert_eq!(r.headers()["set-cookies"], "no");
        assert_eq!(r.headers()["content-encoding"], "gzip");
    }

    #[test]
    fn headers_without_room_are_refused() {
        let long = "x".repeat(9000);
        let p = parts(&[("x-long", &long)]);
        let problem = meta(&p, &input(&["x-long"]), &[]).unwrap_err();
        assert_eq!(problem.circumstance, Circumstance::NoRoom);
        assert!(problem.detail.contains("x-long"), "{}", problem.detail);
        assert!(meta(&p, &input(&[]), &[]).is_ok());
    }

    #[test]
    fn an_answer_sets_status_and_headers_but_not_the_gateways() {
        let c = ChainId::named("c").unwrap();
        let mut attributes = Attributes::default();
        for (n, v) in [
            (":status", "201"),
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
        let none = HeaderMap::new();
        let r = respond(
            meta,
            Bytes::from_static(b"x"),
            StatusCode::OK,
            &none,
            &c,
            "id",
        );
        assert_eq!(r.status(), 201);
        let names: Vec<_> = r.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "location"]);
        for bad in ["100", "99", "abc", "700"] {
            let mut attributes = Attributes::default();
            attributes.set(":status", bad).unwrap();
            let meta = MessageMeta {
                content_type: String::new(),
                attributes,
            };
            for status in [StatusCode::OK, StatusCode::BAD_GATEWAY] {
                let (meta, none) = (meta.clone(), HeaderMap::new());
                let r = respond(meta, Bytes::new(), status, &none, &c, "id");
                assert_eq!(r.status(), status, "{bad}");
            }
        }
    }
}
