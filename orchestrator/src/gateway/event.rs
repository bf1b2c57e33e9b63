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

use super::problem::{Problem, ProblemKind};
use crate::chain_file::ChainId;
use crate::life::{Attributes, MessageMeta};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch";
const REQUIRED: [&str; 4] = ["ce-specversion", "ce-id", "ce-source", "ce-type"];
/// What a header must not hold literally (HTTP binding, 3.1.3.2); other bytes
/// above 0x7e are encoded in any case.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// How an event travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Attributes are headers, the body is the data.
    Binary,
    /// The body is JSON of the whole event.
    Structured,
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::BadEvent, detail)
}

fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let kind = value.unwrap_or("").split(';').next();
    kind.unwrap_or("").trim()
}

/// The mode of a request that must be an event.
pub(super) fn mode(headers: &HeaderMap) -> Result<Mode, Problem> {
    let kind = media_type(headers).to_ascii_lowercase();
    if kind == STRUCTURED {
        return Ok(Mode::Structured);
    }
    if kind.starts_with("application/cloudevents") {
        let what = if kind.starts_with(BATCH) {
            "batches of events are not taken; send one event a request"
        } else {
            "events are taken as application/cloudevents+json, or in binary mode"
        };
        return Err(Problem::new(ProblemKind::BadEvent, what)
            .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    if headers.contains_key("ce-specversion") {
        return Ok(Mode::Binary);
    }
    Err(bad(
        "the function takes CloudEvents: send ce-specversion, ce-id, ce-source and ce-type \
         as headers, or application/cloudevents+json",
    ))
}

/// Attributes from headers, in binary mode.
pub(super) fn from_headers(headers: &HeaderMap) -> Result<Attributes, Problem> {
    let mut event = Attributes::default();
    for (name, value) in headers {
        let Some(short) = name.as_str().strip_prefix("ce-") else {
            continue;
        };
        let text = value
            .to_str()
            .map_err(|_| bad(format!("header {name}: it is not ASCII; percent-encode it")))?;
        let text = percent_decode_str(unquote(text.trim()))
            .decode_utf8()
            .map_err(|_| bad(format!("header {name}: it is not UTF-8 once decoded")))?;
        put(&mut event, short, &text)?;
    }
    check(&event)?;
    Ok(event)
}

/// A value in double quotes is that between them (HTTP binding, 3.1.3.2).
fn unquote(text: &str) -> &str {
    text.strip_prefix('"')
        .and_then(|t| t.strip_suffix('"'))
        .unwrap_or(text)
}

/// Attributes and data of an event in structured mode.
pub(super) fn from_json(body: &[u8]) -> Result<(MessageMeta, Bytes), Problem> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(body)
        .map_err(|e| bad(format!("the body is not a JSON object of an event: {e}")))?;
    let mut event = Attributes::default();
    for (name, value) in &members {
        if matches!(name.as_str(), "data" | "data_base64" | "datacontenttype") {
            continue;
        }
        if let Some(text) = scalar(name, value)? {
            put(&mut event, name, &text)?;
        }
    }
    check(&event)?;
    let kind = members.get("datacontenttype");
    let content_type = match kind.map(|v| scalar("datacontenttype", v)).transpose()? {
        Some(Some(kind)) => kind,
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
        Ok(v @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => {
            Ok(Some(v.to_string()))
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
    let upper = text.to_ascii_uppercase();
    let utc = match upper.strip_suffix('Z') {
        Some(utc) => utc,
        None => {
            let Some(at) = upper.len().checked_sub(6) else {
                return false;
            };
            let Some((utc, offset)) = upper.split_at_checked(at) else {
                return false;
            };
            let number = |s: &str, most: u8| s.parse::<u8>().is_ok_and(|n| n <= most);
            let good = offset.starts_with(['+', '-'])
                && offset.as_bytes()[3] == b':'
                && number(&offset[1..3], 23)
                && number(&offset[4..], 59);
            if !good {
                return false;
            }
            utc
        }
    };
    humantime::parse_rfc3339(&format!("{utc}Z")).is_ok()
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or("").trim();
    let kind = kind.to_ascii_lowercase();
    kind == "application/json" || kind == "text/json" || kind.ends_with("+json")
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

/// Whether the caller wants an answer in structured mode.
pub(super) fn wants_structured(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|v| v.split(';').next())
        .any(|v| v.trim().eq_ignore_ascii_case(STRUCTURED))
}

/// The value of a header `ce-…`.
pub(super) fn encode(value: &str) -> String {
    utf8_percent_encode(value, ENCODED).to_string()
}

/// An event in structured mode, and its content type.
pub(super) fn to_json(meta: &MessageMeta, data: &[u8]) -> (Vec<u8>, String) {
    let mut members = serde_json::Map::new();
    for (name, value) in meta.attributes.iter() {
        if let Some(name) = name.strip_prefix("ce-") {
            members.insert(name.to_owned(), value.into());
        }
    }
    if !data.is_empty() {
        members.insert("datacontenttype".into(), meta.content_type.clone().into());
        let json = is_json(&meta.content_type)
            .then(|| serde_json::from_slice(data).ok())
            .flatten();
        let text = meta.content_type.trim_start().starts_with("text/");
        let text = text.then(|| std::str::from_utf8(data).ok()).flatten();
        match (json, text) {
            (Some(value), _) => members.insert("data".into(), value),
            (None, Some(text)) => members.insert("data".into(), text.into()),
            (None, None) => members.insert("data_base64".into(), BASE64.encode(data).into()),
        };
    }
    let bytes = serde_json::Value::Object(members).to_string().into_bytes();
    (bytes, format!("{STRUCTURED}; charset=utf-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
            .collect()
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
        map.insert("ce-time", "2020-09-29T11:32:00.000+02:00".parse().unwrap());
        map.insert("ce-subject", "\"Z%C3%BCrich\"".parse().unwrap());
        assert_eq!(mode(&map).ok(), Some(Mode::Binary));
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
        let mut old = headers(&GOOD);
        old.insert("ce-specversion", "0.3".parse().unwrap());
        assert!(from_headers(&old).unwrap_err().detail.contains("0.3"));
        let batch = headers(&[("content-type", "application/cloudevents-batch+json")]);
        assert_eq!(mode(&batch).unwrap_err().status.as_u16(), 415);
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
    fn times_are_rfc_3339() {
        for good in [
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
