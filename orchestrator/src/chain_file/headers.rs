//! Which headers of a request a chain sees.

use serde::{Deserialize, Serialize};

/// Headers about a connection or a message's framing; no function sees or sets
/// them (RFC 9110, 7.6.1). How a body is packed is not among them: nobody on the way
/// unpacks it (RFC 9110, 8.4).
const NOT_PASSED_ON: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header (in lower case) is between gateway and peer alone.
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    NOT_PASSED_ON.contains(&name)
}

/// A header's name in lower case, or its beginning and `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderPattern(String);

impl HeaderPattern {
    /// Reads one, as a chain file has it.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let stem = lower.strip_suffix('*').unwrap_or(&lower);
        let token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if lower.is_empty() || lower.len() > 127 || !stem.bytes().all(token) {
            return Err(format!("{text:?} is no header's name"));
        }
        if is_hop_by_hop(&lower) {
            return Err(format!("the header {lower:?} is never passed on"));
        }
        Ok(Self(lower))
    }

    /// Whether it means this header, whose name is in lower case.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(stem) => name.starts_with(stem),
            None => self.0 == name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_a_name_or_its_beginning() {
        let p = HeaderPattern::parse("X-Tenant-*").unwrap();
        assert!(p.matches("x-tenant-id") && !p.matches("x-tenan"));
        let p = HeaderPattern::parse("Accept").unwrap();
        assert!(p.matches("accept") && !p.matches("accept-language"));
        assert!(HeaderPattern::parse("*").unwrap().matches("anything"));
        // It comes in any case.
        assert!(HeaderPattern::parse("Content-Encoding").is_ok());
        for bad in [
            "",
            "a b",
            "x**",
            "a*b",
            "transfer-encoding",
            "Connection",
            "é",
        ] {
            assert!(HeaderPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
