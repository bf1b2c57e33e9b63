//! W3C trace context: `traceparent` in and out (Trace Context, level 1, 3.2).

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
}

impl Trace {
    /// A new span in the caller's trace, or in one of our own, which is sampled
    /// if `sampled`.
    pub(super) fn continue_from(header: Option<&str>, sampled: bool) -> Self {
        let span = new_span();
        match header.and_then(parse) {
            Some((trace, parent, flags)) => Self {
                trace,
                parent: Some(parent),
                span,
                flags,
            },
            None => Self {
                trace: format!("{:016x}{:016x}", random().max(1), random()),
                parent: None,
                span,
                flags: if sampled { "01" } else { "00" }.into(),
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
        .then(|| (trace.to_owned(), parent.to_owned(), flags.to_owned()))
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

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_callers_trace_goes_on_with_a_span_of_ours() {
        let t = Trace::continue_from(Some(GOOD), false);
        assert_eq!(t.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(t.header().ends_with("-01") && t.is_sampled());
        assert_eq!(t.parent_id(), Some("00f067aa0ba902b7"));
        let unwanted = GOOD.replace("-01", "-00");
        assert!(!Trace::continue_from(Some(&unwanted), true).is_sampled());
        assert!(Trace::continue_from(None, true).is_sampled());
        assert_ne!(t.header(), GOOD);
        assert_eq!(parse(&t.header()).map(|p| p.0), Some(t.trace));
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
            Trace::continue_from(None, true),
            Trace::continue_from(None, true)
        );
    }
}
