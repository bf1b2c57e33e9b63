//! W3C trace context: `traceparent` and `tracestate` in and out (Trace Context,
//! level 2, 3.2 and 3.3).

use super::headers::{Headers, visible};
use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where an invocation stands in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    trace: String,
    /// The caller's span.
    parent: Option<String>,
    span: String,
    flags: String,
    /// What tracing systems on the way here say to those further on.
    state: String,
}

impl Trace {
    /// A new span in the trace of a caller's headers, or in one of our own,
    /// which is sampled if `sampled`. A state without a trace means nothing.
    pub(super) fn of(headers: &impl Headers, sampled: bool) -> Self {
        // Of two, none is the caller's (3.2: there is one).
        let mut parents = headers.lines("traceparent");
        let parent = match (parents.next(), parents.next()) {
            (Some(parent), None) => visible(parent),
            _ => None,
        };
        let state: Option<Vec<&str>> = headers.lines("tracestate").map(visible).collect();
        let state = state.unwrap_or_default().join(",");
        Self::continue_from(parent, &state, sampled)
    }

    fn continue_from(parent: Option<&str>, state: &str, sampled: bool) -> Self {
        let span = new_span();
        match parent.and_then(parse) {
            Some((trace, parent, flags)) => Self {
                trace,
                parent: Some(parent),
                span,
                flags,
                state: passed_on(state),
            },
            None => Self {
                trace: format!("{:016x}{:016x}", random().max(1), random()),
                parent: None,
                span,
                flags: if sampled { "01" } else { "00" }.into(),
                state: String::new(),
            },
        }
    }

    /// Whether somebody wants to see it.
    pub(super) fn is_sampled(&self) -> bool {
        u8::from_str_radix(&self.flags, 16).is_ok_and(|f| f & 1 != 0)
    }

    pub(super) fn parent_id(&self) -> Option<&str> {
        self.parent.as_deref()
    }

    /// The header's value.
    pub(super) fn header(&self) -> String {
        format!("00-{}-{}-{}", self.trace, self.span, self.flags)
    }

    /// The header `tracestate`; empty where there is nothing to pass on.
    pub(super) fn state(&self) -> &str {
        &self.state
    }

    pub(super) fn trace_id(&self) -> &str {
        &self.trace
    }

    pub(super) fn span_id(&self) -> &str {
        &self.span
    }
}

/// The identity of a new span.
pub(super) fn new_span() -> String {
    format!("{:016x}", random().max(1))
}

/// Trace, parent and flags of a valid header; anything else starts a new trace.
fn parse(header: &str) -> Option<(String, String, String)> {
    let mut parts = header.split('-');
    let [version, trace, parent, flags] = [(); 4].map(|()| parts.next().unwrap_or(""));
    let hex = |s: &str, len: usize| {
        s.len() == len && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |s: &str| s.bytes().all(|b| b == b'0');
    let known = version != "00" || parts.next().is_none();
    (hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && !zero(trace)
        && hex(parent, 16)
        && !zero(parent)
        && hex(flags, 2)
        && known)
        .then(|| (trace.to_owned(), parent.to_owned(), known_flags(flags)))
}

/// The flags that there are, sampled and random: the others are zero in what we say
/// (3.2.2.5, "Other Flags").
fn known_flags(flags: &str) -> String {
    let flags = u8::from_str_radix(flags, 16).unwrap_or_default();
    format!("{:02x}", flags & 0b11)
}

/// What of a state goes on: nothing of one that breaks the rules; of one that is
/// too long first the long members go, then the last ones (3.3.1.5).
fn passed_on(state: &str) -> String {
    const MEMBERS: usize = 32;
    const LONG_MEMBER: usize = 128;
    const LONGEST: usize = 512;
    let trimmed = state.split(',').map(|m| m.trim_matches([' ', '\t']));
    let mut members: Vec<&str> = trimmed.filter(|m| !m.is_empty()).collect();
    let keys: Option<BTreeSet<&str>> = members.iter().map(|m| key(m)).collect();
    if members.len() > MEMBERS || keys.is_none_or(|k| k.len() < members.len()) {
        return String::new();
    }
    let length = |all: &[&str]| all.iter().map(|m| m.len() + 1).sum::<usize>();
    if length(&members) > LONGEST + 1 {
        members.retain(|m| m.len() <= LONG_MEMBER);
    }
    while length(&members) > LONGEST + 1 {
        members.pop();
    }
    members.join(",")
}

/// The key of a valid member of a state.
fn key(member: &str) -> Option<&str> {
    let (key, value) = member.split_once('=')?;
    let starts = |s: &str| s.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let plain = |s: &str| {
        let fits = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
        starts(s) && s.bytes().all(fits)
    };
    let is_key = match key.split_once('@') {
        Some((tenant, system)) => {
            tenant.len() <= 241 && system.len() <= 14 && plain(tenant) && plain(system)
        }
        None => key.len() <= 256 && plain(key),
    };
    let printed = |b: u8| (b' '..=b'~').contains(&b) && b != b'=';
    let is_value = (1..=256).contains(&value.len()) && value.bytes().all(printed);
    (is_key && is_value).then_some(key)
}

/// Unlike any other, in this process and others; no secret.
pub(super) fn random() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // std seeds each from the system's random numbers.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::headers::HeaderList;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_callers_trace_goes_on_with_a_span_of_ours() {
        let t = Trace::continue_from(Some(GOOD), "", false);
        assert_eq!(t.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(t.header().ends_with("-01") && t.is_sampled());
        assert_eq!(t.parent_id(), Some("00f067aa0ba902b7"));
        let unwanted = GOOD.replace("-01", "-00");
        assert!(!Trace::continue_from(Some(&unwanted), "", true).is_sampled());
        assert!(Trace::continue_from(None, "", true).is_sampled());
        assert_ne!(t.header(), GOOD);
        assert_eq!(parse(&t.header()).map(|p| p.0), Some(t.trace));
    }

    #[test]
    fn flags_that_mean_nothing_yet_do_not_go_on() {
        for (said, goes_on) in [("00", "00"), ("02", "02"), ("ff", "03"), ("fc", "00")] {
            let header = format!("{}{said}", GOOD.strip_suffix("01").unwrap());
            let t = Trace::continue_from(Some(&header), "", false);
            assert_eq!(t.header()[53..], *goes_on, "{said}");
            assert_eq!(t.parent_id(), Some("00f067aa0ba902b7"), "it goes on");
        }
    }

    #[test]
    fn what_is_no_trace_starts_a_new_one() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        // A later version may say more.
        assert!(parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
        assert_ne!(
            Trace::continue_from(None, "", true),
            Trace::continue_from(None, "", true)
        );
    }

    #[test]
    fn a_state_goes_on_with_its_trace_alone_and_within_limits() {
        let with = |state: &str| Trace::continue_from(Some(GOOD), state, true).state;
        assert_eq!(with("rojo=00f067,congo=t61"), "rojo=00f067,congo=t61");
        assert_eq!(with(" a=1 ,\t,1b@c=x y"), "a=1,1b@c=x y");
        assert_eq!(Trace::continue_from(None, "a=1", true).state(), "");
        for bad in [
            "a", "a=", "=1", "A=1", "a=1=2", "a=é", "a=1,a=2", "@a=1", "a@=1", "a@b@c=1", "-a=1",
        ] {
            assert_eq!(with(bad), "", "{bad}");
        }
        let many = |n: usize, value: &str| -> String {
            let all: Vec<String> = (0..n).map(|i| format!("k{i:02}={value}")).collect();
            all.join(",")
        };
        assert_eq!(with(&many(32, "1")), many(32, "1"));
        assert_eq!(with(&many(33, "1")), "");
        // Twenty members of 30 bytes: 16 of them and their commas are 495.
        let value = "v".repeat(26);
        assert_eq!(with(&many(20, &value)), many(16, &value));
        let long = format!("long={}", "v".repeat(200));
        let state = format!("{long},{}", many(16, &value));
        assert_eq!(with(&state), many(16, &value), "the long one first");
        assert_eq!(with(&long), long);
        // Header lines of one name are one list, but there is one parent.
        let mut headers = HeaderList::of(&[
            ("traceparent", GOOD),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
        ]);
        assert_eq!(Trace::of(&headers, true).state(), "a=1,b=2");
        headers.append("traceparent", GOOD.as_bytes());
        let two = Trace::of(&headers, true);
        assert_eq!((two.parent_id(), two.state()), (None, ""));
        assert!(!GOOD.contains(two.trace_id()));
    }

    /// The kinds of the W3C's own tests (test/test.py of its repository) that are not
    /// above.
    #[test]
    fn the_public_suites_cases_hold() {
        let (id, span) = ("12345678901234567890123456789012", "1234567890123456");
        for (good, state) in [
            (format!("cc-{id}-{span}-01"), ""),
            (
                format!("cc-{id}-{span}-01-what-the-future-will-be-like"),
                "",
            ),
            (
                format!("00-{id}-{span}-00"),
                "foo=1 \t , \t bar=2, \t baz=3",
            ),
            (format!("00-{id}-{span}-00"), ",foo=1,,bar=2,baz=3,"),
        ] {
            let t = Trace::continue_from(Some(&good), state, false);
            assert_eq!(t.trace_id(), id, "{good}");
            let whole = if state.is_empty() {
                ""
            } else {
                "foo=1,bar=2,baz=3"
            };
            assert_eq!(t.state(), whole);
        }
        for bad in [
            format!("00-{id}-{span}-01."),
            format!("cc-{id}-{span}-01.what-the-future-will-be-like"),
            format!(".0-{id}-{span}-01"),
            format!("0.-{id}-{span}-01"),
            format!("000-{id}-{span}-01"),
            format!("0-{id}-{span}-01"),
            format!("00-.{}-{span}-01", &id[1..]),
            format!("00-{id}3-{span}-01"),
            format!("00-{}-{span}-01", &id[1..]),
            format!("00-{id}-.{}-01", &span[1..]),
            format!("00-{id}-{span}7-01"),
            format!("00-{id}-{}-01", &span[1..]),
            format!("00-{id}-{span}-.0"),
            format!("00-{id}-{span}-001"),
            format!("00-{id}-{span}-1"),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
        let with = |state: &str| Trace::continue_from(Some(GOOD), state, true).state;
        let signs = (' '..='~').filter(|c| !matches!(c, ',' | '='));
        let value: String = signs.collect();
        for key in ["abcxyz0123456789_-*/", "abcxyz0123456789_-*/@a-z0-9_-*/"] {
            let member = format!("{key}={value}");
            assert_eq!(with(&member), member);
        }
        let long = |key: &str| format!("{key}=1");
        for kept in [
            long(&"z".repeat(256)),
            long(&format!("{}@{}", "t".repeat(241), "v".repeat(14))),
        ] {
            assert_eq!(with(&kept), kept);
        }
        for gone in [
            "foo =1",
            "foo.bar=1",
            "foo@=1,bar=2",
            "@foo=1,bar=2",
            "foo@@bar=1,bar=2",
            "foo@bar@baz=1,bar=2",
            "foo=1,foo=1",
            "foo=bar=baz",
            "foo=,bar=3",
            &long(&"z".repeat(257)),
            &long(&format!("{}@v", "t".repeat(242))),
            &long(&format!("t@{}", "v".repeat(15))),
        ] {
            assert_eq!(with(gone), "", "{gone}");
        }
    }
}
