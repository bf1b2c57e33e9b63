//! Attributes of a message: names and texts beside its bytes, as headers are.
//!
//! On the control page they are records, one after the other:
//!
//! ```text
//!  length of the name (2 bytes), of the value (2 bytes), the name, NUL, the
//!  value, NUL
//! ```
//!
//! A function reads them in place, so they end in NULs; the root trusts none of
//! what a function leaves there.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Bytes that the attributes of one message may take.
pub(crate) const ROOM: usize = 8 * 1024 - 8;
/// How many there may be.
const MOST: usize = 128;
const LONGEST_NAME: usize = 128;
const HEAD: usize = 4;

/// The attributes of a message, in order, no name twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Told")]
pub struct Attributes {
    /// The records.
    bytes: Vec<u8>,
}

/// What another process says that attributes are: perhaps what none can be.
#[derive(Deserialize)]
struct Told {
    bytes: Vec<u8>,
}

impl TryFrom<Told> for Attributes {
    type Error = &'static str;

    fn try_from(told: Told) -> Result<Self, Self::Error> {
        Self::parse(&told.bytes).ok_or("attributes that no function can set")
    }
}

/// What is said of the bytes of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageMeta {
    /// Their content type, at most 127 bytes.
    pub content_type: String,
    /// More about them.
    pub attributes: Attributes,
}

/// Whether a text can be a content type, as another process tells it.
#[cfg_attr(not(feature = "serve"), allow(dead_code, reason = "the gateway asks"))]
pub(crate) fn can_be_content_type(text: &str) -> bool {
    text.len() <= 127 && !text.chars().any(char::is_control)
}

/// Why an attribute cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// The name has other characters, or too many.
    #[error("a name has 1 to 128 lower case letters, digits, `-`, `_`, `.`")]
    Name,
    /// The value is no text.
    #[error("a value is UTF-8 without control characters")]
    Value,
    /// There is no room.
    #[error("a message has room for 8184 bytes of attributes, 128 at most")]
    Full,
}

impl Attributes {
    /// Sets an attribute; set again it replaces.
    ///
    /// # Errors
    /// It cannot be one; nothing is changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), AttributeError> {
        check(name.as_bytes(), value.as_bytes())?;
        let mut kept: Vec<u8> = Vec::with_capacity(self.bytes.len());
        for (n, v) in self.iter().filter(|(n, _)| *n != name) {
            kept.extend(record(n.as_bytes(), v.as_bytes()));
        }
        kept.extend(record(name.as_bytes(), value.as_bytes()));
        if kept.len() > ROOM || records(&kept).count() > MOST {
            return Err(AttributeError::Full);
        }
        self.bytes = kept;
        Ok(())
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// All of them, in the order they were first set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        // All constructors check that `bytes` are text.
        let text = |b| std::str::from_utf8(b).unwrap_or("");
        records(&self.bytes)
            .flatten()
            .map(move |(n, v)| (text(n), text(v)))
    }

    /// What the next step of a chain sees: nothing that is about HTTP alone.
    pub(crate) fn for_the_next_step(&self) -> Self {
        let mut next = Self::default();
        for (name, value) in self.iter().filter(|(n, _)| !n.starts_with(':')) {
            next.bytes.extend(record(name.as_bytes(), value.as_bytes()));
        }
        next
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What a function left; `None` when it is malformed. The last of one name
    /// holds.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        // In one pass: who reads them has its own time for it, and whoever left them
        // may have left many.
        let mut found: Vec<(&[u8], &[u8])> = Vec::new();
        for record in records(bytes) {
            let (name, value) = record?;
            if found.len() >= 4 * MOST {
                return None;
            }
            check(name, value).ok()?;
            found.push((name, value));
        }
        let last: HashMap<&[u8], usize> = found.iter().enumerate().map(|(i, r)| (r.0, i)).collect();
        if last.len() > MOST {
            return None;
        }
        let mut all = Self::default();
        for (i, (name, value)) in found.iter().enumerate() {
            if last[name] == i {
                all.bytes.extend(record(name, value));
            }
        }
        (all.bytes.len() <= ROOM).then_some(all)
    }
}

/// Whether these can be an attribute.
pub(super) fn check(name: &[u8], value: &[u8]) -> Result<(), AttributeError> {
    let plain = name.strip_prefix(b":").unwrap_or(name);
    let known = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    if plain.is_empty() || name.len() > LONGEST_NAME || !plain.iter().all(known) {
        return Err(AttributeError::Name);
    }
    if value.len() > ROOM {
        return Err(AttributeError::Full);
    }
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains(|c: char| c.is_control() && c != '\t') => Ok(()),
        _ => Err(AttributeError::Value),
    }
}

/// One attribute as the page has it. Lengths above [`ROOM`] fit nowhere, and
/// are cut here only to be refused there.
pub(super) fn record(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + name.len() + value.len() + 2);
    for text in [name, value] {
        let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&len.to_ne_bytes());
    }
    for text in [name, value] {
        out.extend_from_slice(text);
        out.push(0);
    }
    out
}

/// Records of a page, as far as they are whole; `None` once for what is not.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let one = split(rest);
        rest = one.map_or(&[][..], |(_, _, after)| after);
        Some(one.map(|(name, value, _)| (name, value)))
    })
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let len = |i: usize| u16::from_ne_bytes([head[i], head[i + 1]]) as usize;
    let (name, rest) = rest.split_at_checked(len(0) + 1)?;
    let (value, rest) = rest.split_at_checked(len(2) + 1)?;
    match (name.split_last()?, value.split_last()?) {
        ((0, name), (0, value)) => Some((name, value, rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_set_is_there_once() {
        let mut a = Attributes::default();
        a.set("ce-id", "1").unwrap();
        a.set(":status", "201").unwrap();
        a.set("ce-id", "Ä 2").unwrap();
        assert_eq!(a.get("ce-id"), Some("Ä 2"));
        assert_eq!(a.iter().count(), 2);
        assert_eq!(
            a.for_the_next_step().iter().collect::<Vec<_>>(),
            [("ce-id", "Ä 2")]
        );
        assert_eq!(Attributes::parse(a.as_bytes()), Some(a));
    }

    #[test]
    fn what_cannot_be_one_is_refused() {
        let mut a = Attributes::default();
        let long = "x".repeat(ROOM);
        for (name, value, why) in [
            ("", "v", AttributeError::Name),
            (":", "v", AttributeError::Name),
            ("Upper", "v", AttributeError::Name),
            ("a b", "v", AttributeError::Name),
            ("a\r\nb", "v", AttributeError::Name),
            ("a", "one\r\nset-cookie: x", AttributeError::Value),
            ("a", "nul\0", AttributeError::Value),
            ("a", &long, AttributeError::Full),
        ] {
            assert_eq!(a.set(name, value), Err(why), "{name:?}");
        }
        for i in 0..MOST {
            a.set(&format!("a{i}"), "").unwrap();
        }
        assert_eq!(a.set("one-more", ""), Err(AttributeError::Full));
        assert_eq!(a.iter().count(), MOST);
    }

    /// They come from workers, too, which somebody may have taken over.
    #[test]
    fn those_of_another_process_are_checked() {
        let mut a = Attributes::default();
        a.set("ce-id", "1").unwrap();
        let told = serde_json::to_string(&a).unwrap();
        assert_eq!(serde_json::from_str::<Attributes>(&told).unwrap(), a);
        let long = record(b"a", &[b'x'; ROOM]);
        for bytes in [vec![1; 9], long, record(b"A", b""), record(b"a", b"\n")] {
            let told = serde_json::json!({ "bytes": bytes });
            assert!(serde_json::from_value::<Attributes>(told).is_err());
        }
    }

    proptest! {
        /// Whatever a hostile function leaves on the page is refused or is
        /// attributes that could have been set.
        #[test]
        fn any_bytes_are_refused_or_fit(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(a) = Attributes::parse(&bytes) {
                for (name, value) in a.iter() {
                    prop_assert_eq!(check(name.as_bytes(), value.as_bytes()), Ok(()));
                }
            }
        }
    }
}
