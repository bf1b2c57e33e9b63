//! CloudEvents 1.0 over HTTP, both ways: binary and structured mode.
//!
//! A function sees an event in one form, whichever its caller used: the data as
//! its input, `datacontenttype` as the content type, every other attribute NAME
//! as the attribute `ce-NAME`. Sources: the CloudEvents specification 1.0.2, its
//! HTTP protocol binding and its JSON format.
//!
//! The official SDK is not used: its HTTP binding leaves percent-encoded values
//! as they are, and reads data as JSON and writes it anew, where a function may
//! count on the bytes its caller sent.

use super::headers::{Headers, visible};
use super::problem::{Circumstance, Problem, ProblemKind};
use crate::chain_file::ChainId;
use crate::life::{Attributes, MessageMeta, can_be_content_type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::{RawValue, to_raw_value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch";
/// Names that are an event's but no attributes of ours: what they say is the content
/// type and the body.
const NOT_ATTRIBUTES: [&str; 3] = ["data", "data_base64", "datacontenttype"];
const REQUIRED: [&str; 4] = ["ce-specversion", "ce-id", "ce-source", "ce-type"];
/// What a header must not hold literally (HTTP binding, 3.1.3.2); other bytes
/// above 0x7e are encoded in any case.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// How an event travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventMode {
    /// Attributes are headers, the body is the data.
    Binary,
    /// The body is JSON of the whole event.
    Structured,
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::BadEvent, detail)
}

fn media_type(headers: &impl Headers) -> &str {
    let value = headers.first("content-type").and_then(visible);
    let kind = value.unwrap_or("").split(';').next();
    kind.unwrap_or("").trim()
}

/// The mode of a request that must be an event.
pub(super) fn mode(headers: &impl Headers) -> Result<EventMode, Problem> {
    let kind = media_type(headers).to_ascii_lowercase();
    if kind == STRUCTURED {
        // The function would never see it, and the gateway reads no packed bodies.
        let mut coded = headers.lines("content-encoding");
        if coded.any(|c| !c.eq_ignore_ascii_case(b"identity")) {
            let what = "an event in structured mode is taken without a content-encoding";
            return Err(Problem::new(ProblemKind::BadEvent, what).with(Circumstance::Form));
        }
        return Ok(EventMode::Structured);
    }
    if kind.starts_with("application/cloudevents") {
        let what = if kind.starts_with(BATCH) {
            "batches of events are not taken; send one event a request"
        } else {
            "events are taken as application/cloudevents+json, or in binary mode"
        };
        return Err(Problem::new(ProblemKind::BadEvent, what).with(Circumstance::Form));
    }
    if headers.first("ce-specversion").is_some() {
        return Ok(EventMode::Binary);
    }
    Err(bad(
        "the function takes CloudEvents: send ce-specversion, ce-id, ce-source and ce-type \
         as headers, or application/cloudevents+json",
    ))
}

/// Attributes from headers, in binary mode.
pub(super) fn from_headers(headers: &impl Headers) -> Result<Attributes, Problem> {
    let mut event = Attributes::default();
    for name in headers.names() {
        let Some(short) = name.strip_prefix("ce-") else {
            continue;
        };
        // The header content-type says it, and no other (HTTP binding, 3.1.1).
        if short == "datacontenttype" {
            continue;
        }
        let mut lines = headers.lines(name);
        // Which of two identities would be the event's?
        let (Some(value), None) = (lines.next(), lines.next()) else {
            return Err(bad(format!("header {name}: it is there more than once")));
        };
        put(&mut event, short, &attribute(name, value)?)?;
    }
    check(&event)?;
    // How the data is packed is nothing of the event's.
    if headers.first("content-encoding").is_some() {
        let all: Option<Vec<&str>> = headers.lines("content-encoding").map(visible).collect();
        let set = all.map(|all| event.set("content-encoding", &all.join(", ")));
        if !matches!(set, Some(Ok(()))) {
            return Err(bad("header content-encoding: it cannot be handed over"));
        }
    }
    Ok(event)
}

/// The text of an attribute in a header (HTTP binding, 3.1.3.2).
pub(super) fn attribute(name: &str, value: &[u8]) -> Result<String, Problem> {
    let text = std::str::from_utf8(value).ok().filter(|v| v.is_ascii());
    let text =
        text.ok_or_else(|| bad(format!("header {name}: it is not ASCII; percent-encode it")))?;
    let text = unquote(text.trim());
    let text = percent_decode_str(&text).decode_utf8();
    let text = text.map_err(|_| bad(format!("header {name}: it is not UTF-8 once decoded")))?;
    Ok(text.into_owned())
}

/// A value in double quotes is that between them, where a backslash stands before a
/// character that means itself (RFC 9110, 5.6.4). What is no whole quoted string is
/// taken as it is.
fn unquote(text: &str) -> Cow<'_, str> {
    let Some(rest) = text.strip_prefix('"') else {
        return text.into();
    };
    let mut out = String::new();
    let mut all = rest.chars();
    while let Some(c) = all.next() {
        match c {
            '"' if all.as_str().is_empty() => return out.into(),
            '"' => return text.into(),
            '\\' => match all.next() {
                Some(escaped) => out.push(escaped),
                None => return text.into(),
            },
            _ => out.push(c),
        }
    }
    text.into()
}

/// The members of an event in JSON, each name once.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if members.contains_key(&name) {
                        return Err(M::Error::custom(format!("{name:?} is there twice")));
                    }
                    members.insert(name, value);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Once)
    }
}

/// Attributes and data of an event in structured mode.
pub(super) fn from_json(body: &[u8]) -> Result<(MessageMeta, Bytes), Problem> {
    let Members(members) = serde_json::from_slice(body)
        .map_err(|e| bad(format!("the body is not a JSON object of an event: {e}")))?;
    let mut event = Attributes::default();
    for (name, value) in &members {
        if NOT_ATTRIBUTES.contains(&name.as_str()) {
            continue;
        }
        if let Some(text) = scalar(name, value)? {
            put(&mut event, name, &text)?;
        }
    }
    check(&event)?;
    let kind = members.get("datacontenttype");
    let content_type = match kind.map(|v| scalar("datacontenttype", v)).transpose()? {
        Some(Some(kind)) if can_be_content_type(&kind) => kind,
        Some(Some(_)) => {
            let what = "datacontenttype: it is longer than 127 bytes, or no text";
            return Err(Problem::new(ProblemKind::BadContentType, what));
        }
        _ => "application/json".into(),
    };
    let data = match (members.get("data"), members.get("data_base64")) {
        (Some(_), Some(_)) => return Err(bad("it has both data and data_base64; keep one")),
        (None, None) => Vec::new(),
        (Some(data), None) if is_json(&content_type) => data.get().as_bytes().to_vec(),
        // Text travels as a JSON string (JSON format, 3.1.1).
        (Some(data), None) => match serde_json::from_str::<String>(data.get()) {
            Ok(text) => text.into_bytes(),
            Err(_) => data.get().as_bytes().to_vec(),
        },
        (None, Some(data)) => {
            let text: String =
                serde_json::from_str(data.get()).map_err(|_| bad("data_base64 is not a string"))?;
            let decoded = BASE64.decode(text);
            decoded.map_err(|e| bad(format!("data_base64: {e}")))?
        }
    };
    let meta = MessageMeta {
        content_type,
        attributes: event,
    };
    Ok((meta, data.into()))
}

/// The text of an attribute; `None` for null.
fn scalar(name: &str, value: &RawValue) -> Result<Option<String>, Problem> {
    match serde_json::from_str(value.get()) {
        Ok(serde_json::Value::Null) => Ok(None),
        Ok(serde_json::Value::String(s)) => Ok(Some(s)),
        // As it is written: a number may have more digits than a machine's.
        Ok(serde_json::Value::Bool(_) | serde_json::Value::Number(_)) => {
            Ok(Some(value.get().to_owned()))
        }
        _ => Err(bad(format!(
            "attribute {name:?}: give a string, a number or a boolean"
        ))),
    }
}

fn put(event: &mut Attributes, name: &str, value: &str) -> Result<(), Problem> {
    if !name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        || name.is_empty()
    {
        return Err(bad(format!(
            "attribute {name:?}: names have lower case letters and digits"
        )));
    }
    if NOT_ATTRIBUTES.contains(&name) {
        return Err(bad(format!("{name:?} is the name of no attribute")));
    }
    event
        .set(&format!("ce-{name}"), value)
        .map_err(|e| bad(format!("attribute {name:?}: {e}")))
}

fn check(event: &Attributes) -> Result<(), Problem> {
    for name in REQUIRED {
        if event.get(name).is_none_or(str::is_empty) {
            let name = name.trim_start_matches("ce-");
            return Err(bad(format!("the event has no {name}")));
        }
    }
    match event.get("ce-specversion") {
        Some("1.0") => {}
        other => {
            let found = other.unwrap_or("");
            return Err(bad(format!("specversion {found:?}: 1.0 is taken")));
        }
    }
    match event.get("ce-time") {
        Some(time) if !is_timestamp(time) => Err(bad(format!(
            "time {time:?}: write it as RFC 3339, such as 2026-11-23T18:00:00Z"
        ))),
        _ => Ok(()),
    }
}

/// RFC 3339, with any offset.
fn is_timestamp(text: &str) -> bool {
    OffsetDateTime::parse(text, &Rfc3339).is_ok()
}

/// Media types of JSON (JSON format, 3.1.1): `*/json`, `*/*+json`.
fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or("").trim();
    let Some((_, subtype)) = kind.split_once('/') else {
        return false;
    };
    let subtype = subtype.to_ascii_lowercase();
    subtype == "json" || subtype.ends_with("+json")
}

/// Whether an answer is an event: its function said of what type.
pub(super) fn is_event(answer: &Attributes) -> bool {
    answer.get("ce-type").is_some()
}

/// Fills in what a function need not say.
pub(super) fn complete(answer: &mut Attributes, chain: &ChainId, id: &str) {
    let source = format!("/chains/{chain}");
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", id),
        ("ce-source", &source),
    ] {
        if answer.get(name).is_none_or(str::is_empty) {
            // No room is no error: the event lacks what it lacks.
            let _ = answer.set(name, value);
        }
    }
}

/// Whether the caller wants an answer in structured mode, whose data have a type of
/// their own in binary mode: it must name it, and like it no less (RFC 9110, 12.5.1).
pub(super) fn wants_structured(headers: &impl Headers, kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or("").trim();
    let group = kind.split('/').next().unwrap_or("");
    let (mut structured, mut binary) = (None, [None; 3]);
    for line in headers.lines("accept") {
        for range in elements(visible(line).unwrap_or(""), ',') {
            let mut parts = elements(range, ';').into_iter();
            let name = parts.next().unwrap_or("").trim();
            let weight = parts.find_map(|p| {
                let (name, value) = p.split_once('=')?;
                let q = name.trim().eq_ignore_ascii_case("q");
                q.then(|| value.trim().parse::<f64>().unwrap_or(0.0))
            });
            let weight = weight.unwrap_or(1.0).clamp(0.0, 1.0);
            if name.eq_ignore_ascii_case(STRUCTURED) {
                structured = Some(weight);
            } else if name.eq_ignore_ascii_case(kind) {
                binary[0] = Some(weight);
            } else if name
                .strip_suffix("/*")
                .is_some_and(|g| g.eq_ignore_ascii_case(group))
            {
                binary[1] = Some(weight);
            } else if name == "*/*" {
                binary[2] = Some(weight);
            }
        }
    }
    // What is more exact counts.
    let binary = binary.into_iter().flatten().next().unwrap_or(0.0);
    structured.is_some_and(|q| q > 0.0 && q >= binary)
}

/// The elements of a list, whose quoted strings may hold the separator.
fn elements(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let split = text.split(move |c| {
        if escaped {
            escaped = false;
            return false;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    });
    split.collect()
}

/// The value of a header `ce-…`.
pub(super) fn encode(value: &str) -> Cow<'_, str> {
    utf8_percent_encode(value, ENCODED).into()
}

/// An event in structured mode, and its content type. Data that are JSON already stay
/// as they are written, each digit of their numbers.
pub(super) fn to_json(meta: &MessageMeta, data: &[u8]) -> (Vec<u8>, String) {
    let mut members: BTreeMap<&str, Cow<'_, RawValue>> = BTreeMap::new();
    // A text is JSON in any case.
    let text = |text: &str| to_raw_value(text).map_or(Cow::Borrowed(RawValue::NULL), Cow::Owned);
    for (name, value) in meta.attributes.iter() {
        let name = name.strip_prefix("ce-");
        if let Some(name) = name.filter(|n| !NOT_ATTRIBUTES.contains(n)) {
            members.insert(name, text(value));
        }
    }
    if !data.is_empty() {
        members.insert("datacontenttype", text(&meta.content_type));
        let json = is_json(&meta.content_type)
            .then(|| serde_json::from_slice::<&RawValue>(data).ok())
            .flatten();
        let written = meta.content_type.trim_start().starts_with("text/");
        let written = written.then(|| std::str::from_utf8(data).ok()).flatten();
        match (json, written) {
            (Some(value), _) => members.insert("data", Cow::Borrowed(value)),
            (None, Some(written)) => members.insert("data", text(written)),
            (None, None) => members.insert("data_base64", text(&BASE64.encode(data))),
        };
    }
    let bytes = serde_json::to_vec(&members).unwrap_or_default();
    (bytes, format!("{STRUCTURED}; charset=utf-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::headers::HeaderList;
    use proptest::prelude::*;

    fn headers(list: &[(&str, &str)]) -> HeaderList {
        HeaderList::of(list)
    }

    const GOOD: [(&str, &str); 4] = [
        ("ce-specversion", "1.0"),
        ("ce-id", "7"),
        ("ce-source", "//bucket/a"),
        ("ce-type", "com.example.made"),
    ];

    #[test]
    fn headers_and_json_give_the_same_event() {
        let mut map = headers(&GOOD);
        map.append("ce-time", b"2020-09-29T11:32:00.000+02:00");
        map.append("ce-subject", b"\"Z%C3%BCrich\"");
        assert_eq!(mode(&map).ok(), Some(EventMode::Binary));
        let binary = from_headers(&map).unwrap();
        let (meta, data) = from_json(
            r#"{"specversion":"1.0","id":"7","source":"//bucket/a","type":"com.example.made",
                "time":"2020-09-29T11:32:00.000+02:00","subject":"Zürich",
                "data": {"a": [1,  2]}}"#
                .as_bytes(),
        )
        .unwrap();
        assert_eq!(binary.get("ce-subject"), Some("Zürich"));
        assert_eq!(meta.attributes.get("ce-subject"), Some("Zürich"));
        assert_eq!(meta.content_type, "application/json");
        // Byte for byte as it was sent.
        assert_eq!(&data[..], br#"{"a": [1,  2]}"#);
    }

    #[test]
    fn data_is_text_or_base64_too() {
        let event = |rest: &str| {
            from_json(
                format!(r#"{{"specversion":"1.0","id":"7","source":"s","type":"t",{rest}}}"#)
                    .as_bytes(),
            )
        };
        let (meta, data) = event(r#""datacontenttype":"text/plain","data":"a\nb""#).unwrap();
        assert_eq!(
            (&*meta.content_type, &data[..]),
            ("text/plain", &b"a\nb"[..])
        );
        let (_, data) = event(r#""datacontenttype":"image/png","data_base64":"AAH/""#).unwrap();
        assert_eq!(&data[..], [0, 1, 255]);
        let (meta, _) = event(r#""number":5,"flag":true,"none":null"#).unwrap();
        assert_eq!(meta.attributes.get("ce-number"), Some("5"));
        assert_eq!(meta.attributes.get("ce-flag"), Some("true"));
        assert_eq!(meta.attributes.get("ce-none"), None);
        for bad in [
            r#""data":1,"data_base64":"AA==""#,
            r#""data_base64":"not base64!""#,
            r#""list":[1]"#,
            r#""Upper":"x""#,
            r#""time":"yesterday""#,
            r#""x":"line\nbreak""#,
        ] {
            assert_eq!(event(bad).unwrap_err().kind, ProblemKind::BadEvent, "{bad}");
        }
    }

    #[test]
    fn what_lacks_an_attribute_is_no_event() {
        for (i, (name, _)) in GOOD.iter().enumerate().skip(1) {
            let mut rest = GOOD.to_vec();
            rest.remove(i);
            let problem = from_headers(&headers(&rest)).unwrap_err();
            let short = name.trim_start_matches("ce-");
            assert!(problem.detail.contains(short), "{}", problem.detail);
        }
        assert!(mode(&headers(&GOOD[1..])).is_err());
        let mut old = headers(&GOOD[1..]);
        old.append("ce-specversion", b"0.3");
        assert!(from_headers(&old).unwrap_err().detail.contains("0.3"));
        let batch = headers(&[("content-type", "application/cloudevents-batch+json")]);
        assert_eq!(mode(&batch).unwrap_err().circumstance, Circumstance::Form);
    }

    #[test]
    fn an_answer_is_completed_and_written_both_ways() {
        let mut a = Attributes::default();
        assert!(!is_event(&a));
        a.set("ce-type", "com.example.done").unwrap();
        assert!(is_event(&a));
        complete(&mut a, &ChainId::named("c").unwrap(), "id-1");
        let meta = MessageMeta {
            content_type: "application/json".into(),
            attributes: a,
        };
        let (json, kind) = to_json(&meta, br#"{"n":1}"#);
        assert!(kind.starts_with(STRUCTURED));
        let (back, data) = from_json(&json).unwrap();
        assert_eq!(back.attributes.get("ce-source"), Some("/chains/c"));
        assert_eq!(back.attributes.get("ce-id"), Some("id-1"));
        assert_eq!(&data[..], br#"{"n":1}"#);
        assert_eq!(encode("Zürich \"%\""), "Z%C3%BCrich%20%22%25%22");
    }

    #[test]
    fn a_quoted_value_is_what_it_means() {
        let of = |text: &str| attribute("ce-a", text.as_bytes());
        for (header, value) in [
            (r#""say \"hi\"""#, r#"say "hi""#),
            (r#""C:\\temp""#, r"C:\temp"),
            (r#""\a\b""#, "ab"),
            (r"C:\temp", r"C:\temp"),
            (r#"" a""#, " a"),
            (r#""""#, ""),
            (r#"""#, r#"""#),
            (r#""a\""#, r#""a\""#),
            (r#""a"b""#, r#""a"b""#),
            ("Z%C3%BCrich%20100%25", "Zürich 100%"),
        ] {
            assert_eq!(of(header).unwrap(), value, "{header}");
        }
        for bad in ["%FF", "%C0%A0", "é"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_says_something_twice_is_no_event() {
        let mut all = headers(&GOOD);
        all.append("ce-datacontenttype", b"text/html");
        let event = from_headers(&all).unwrap();
        assert_eq!(event.get("ce-datacontenttype"), None);
        all.append("ce-id", b"8");
        assert!(from_headers(&all).unwrap_err().detail.contains("ce-id"));
        let mut all = headers(&GOOD);
        all.append("ce-data", b"x");
        assert!(from_headers(&all).is_err());
        let twice = br#"{"specversion":"1.0","id":"a","source":"s","type":"t","id":"b"}"#;
        assert!(from_json(twice).unwrap_err().detail.contains("twice"));
        let split = b"{\"specversion\":\"1.0\",\"id\":\"a\",\"source\":\"s\",\"type\":\"t\",\
            \"datacontenttype\":\"a/b\\r\\nx: y\",\"data\":1}";
        let problem = from_json(split).unwrap_err();
        assert_eq!(problem.kind, ProblemKind::BadContentType);
    }

    #[test]
    fn how_data_are_packed_is_said_or_refused() {
        let mut all = headers(&GOOD);
        all.append("content-encoding", b"gzip");
        let event = from_headers(&all).unwrap();
        assert_eq!(event.get("content-encoding"), Some("gzip"));
        all.append("content-type", STRUCTURED.as_bytes());
        assert_eq!(mode(&all).unwrap_err().circumstance, Circumstance::Form);
        let all = headers(&[
            ("content-type", STRUCTURED),
            ("content-encoding", "identity"),
        ]);
        assert_eq!(mode(&all).unwrap(), EventMode::Structured);
    }

    #[test]
    fn json_stays_as_it_is_written() {
        let of = |kind: &str, data: &str| {
            let attributes = from_headers(&headers(&GOOD)).unwrap();
            let content_type = kind.into();
            let meta = MessageMeta {
                content_type,
                attributes,
            };
            let (json, _) = to_json(&meta, data.as_bytes());
            let (back, again) = from_json(&json).unwrap();
            assert_eq!(
                (back.content_type.as_str(), &again[..]),
                (kind, data.as_bytes())
            );
            String::from_utf8(json).unwrap()
        };
        for number in [
            "993143214321423154315154321",
            "0.1234567890123456789",
            "1e400",
            "-0.0",
            "[1.10, {\"b\": 1, \"a\": 2}]",
        ] {
            let json = of("application/json", number);
            assert!(json.contains(&format!("\"data\":{number}")), "{json}");
        }
        for kind in [
            "application.example/json",
            "x-acme/JSON",
            "a/b+json",
            "text/json; q=1",
        ] {
            assert!(of(kind, "\"ab\"").contains("\"data\":\"ab\""), "{kind}");
        }
        assert!(!is_json("json") && !is_json("application/jsonp"));
        let big = br#"{"specversion":"1.0","id":"a","source":"s","type":"t","big":123456789012345678901}"#;
        let (meta, _) = from_json(big).unwrap();
        assert_eq!(meta.attributes.get("ce-big"), Some("123456789012345678901"));
    }

    #[test]
    fn an_answer_comes_in_the_mode_that_is_liked_best() {
        let of = |accept: &'static str| {
            wants_structured(&headers(&[("accept", accept)]), "text/plain; charset=utf-8")
        };
        for yes in [
            "application/cloudevents+json",
            "Application/CloudEvents+JSON; charset=utf-8",
            "text/html, application/cloudevents+json;q=0.2",
            "application/cloudevents+json;q=0.5, */*;q=0.1",
            "text/plain;q=0.1, */*, application/cloudevents+json;q=0.5",
            "a/b;x=\"\\\",\", application/cloudevents+json",
        ] {
            assert!(of(yes), "{yes}");
        }
        for no in [
            "",
            "*/*",
            "application/*",
            "application/cloudevents+json;q=0, */*",
            "application/cloudevents+json; Q=0.000",
            "application/cloudevents+json;q=0.5, text/plain",
            "application/cloudevents+json;q=0.5, text/*;q=0.6",
            "a/b;x=\", application/cloudevents+json\"",
        ] {
            assert!(!of(no), "{no}");
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        for good in [
            "0001-01-01T00:00:00Z",
            "1937-01-01T12:00:27.87+00:20",
            "1969-12-31T23:59:59.999999999Z",
            "1990-12-31T23:59:60Z",
            "9999-12-31T23:59:59-23:59",
            "2020-01-02T03:04:05Z",
            "2020-01-02t03:04:05.123456z",
            "2020-01-02T03:04:05-08:30",
        ] {
            assert!(is_timestamp(good), "{good}");
        }
        for bad in [
            "",
            "Z",
            "2020-01-02",
            "2020-01-02T03:04:05",
            "2020-01-02T03:04:05+2:00",
            "2020-13-02T03:04:05Z",
            "2020-01-02T03:04:05+01:+5",
            "2020-01-02T03:04:05++1:05",
            "2020-01-02T03:04:05+01:60",
            "2020-01-02T24:00:00Z",
            "2021-02-29T00:00:00Z",
            "2020-01-02T03:04:05Z ",
            "+2020-01-02T03:04:05Z",
            "ééé",
        ] {
            assert!(!is_timestamp(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_an_event_or_a_problem(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = from_json(&body);
        }

        #[test]
        fn any_text_survives_a_header(text in "[^\\p{Cc}]{0,40}") {
            let decoded = percent_decode_str(&encode(&text)).decode_utf8().unwrap().into_owned();
            prop_assert_eq!(decoded, text);
        }
    }
}
