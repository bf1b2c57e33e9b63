//! The small languages inside a chain file: sizes, durations, names.

use std::time::Duration;

/// "32MiB", "64kB", or a number of bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    text.trim()
        .parse::<bytesize::ByteSize>()
        .map(|b| b.as_u64())
        .map_err(|_| format!("{text:?} is not a size"))
}

/// "50ms", "2s", "1m".
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim()).map_err(|e| format!("{text:?} is not a duration: {e}"))
}

/// Names of functions and chains.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

/// Symbols and names of variables.
pub(super) fn is_identifier(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && !text.as_bytes()[0].is_ascii_digit()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Subjects of NATS to which a message can be sent: tokens between dots, no
/// wildcards.
pub(super) fn is_subject(text: &str) -> bool {
    let token = |t: &str| {
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'*' | b'>');
        !t.is_empty() && t.bytes().all(plain)
    };
    text.len() <= 255 && text.split('.').all(token)
}

/// URLs that a function elsewhere can be asked at, by plain HTTP.
pub(super) fn is_url(text: &str) -> bool {
    let Ok(url) = text.parse::<http::Uri>() else {
        return false;
    };
    let (authority, host) = match (url.authority(), url.host()) {
        (Some(authority), Some(host)) if !host.is_empty() => (authority.as_str(), host),
        _ => return false,
    };
    // No names and passwords, no port that is none.
    let port = match authority.strip_prefix(host) {
        Some("") => true,
        Some(rest) => rest.starts_with(':') && url.port_u16().is_some_and(|p| p > 0),
        None => false,
    };
    text.len() <= 2048 && url.scheme_str() == Some("http") && port
}

/// What the search for names that are near may cost, in letters compared with
/// letters: enough for every file that is written by hand.
pub(super) const NEAR_WORK: usize = 1 << 22;

/// The nearest of some names, if one is near. `work` pays for each comparison;
/// where it is used up, no more names are looked at.
pub(super) fn nearest<'a>(
    name: &str,
    among: impl IntoIterator<Item = &'a str>,
    work: &mut usize,
) -> Option<&'a str> {
    let mut best = None;
    for other in among {
        let far = (other.len().max(name.len()) / 3).max(1);
        let near = name.len().abs_diff(other.len()) <= far;
        let cost = if near {
            (name.len() + 1) * (other.len() + 1)
        } else {
            1
        };
        let Some(left) = work.checked_sub(cost) else {
            *work = 0;
            break;
        };
        *work = left;
        if near {
            let found = (strsim::osa_distance(name, other), other);
            if found.0 <= far && best.is_none_or(|b| found < b) {
                best = Some(found);
            }
        }
    }
    best.map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_as_people_write_them() {
        assert_eq!(size("32MiB"), Ok(32 << 20));
        assert_eq!(size("64kB"), Ok(64_000));
        assert_eq!(size("4096"), Ok(4096));
        assert!(size("lots").is_err());
        assert_eq!(duration("50ms"), Ok(Duration::from_millis(50)));
        assert!(duration("50").is_err());
    }

    #[test]
    fn subjects_have_tokens_and_no_wildcards() {
        assert!(is_subject("lwc.functions.thumbnail") && is_subject("a"));
        for bad in ["", ".", "a..b", "a.", "a b", "a.*", "a.>", "ä"] {
            assert!(!is_subject(bad), "{bad}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = ["verify", "thumbnail", "sign"];
        let near = |name| nearest(name, names, &mut { NEAR_WORK });
        assert_eq!(near("thumbnial"), Some("thumbnail"));
        assert_eq!(near("sgin"), Some("sign"));
        assert_eq!(near("resize"), None);
        assert_eq!(near(&"sign".repeat(1000)), None);
    }

    #[test]
    fn the_search_for_a_near_name_ends_when_its_work_is_used_up() {
        let names = vec!["thumbnail"; 1000];
        let mut work = 100 + 100 + 50;
        let looked_at = std::cell::Cell::new(0);
        let counted = names
            .into_iter()
            .inspect(|_| looked_at.set(looked_at.get() + 1));
        assert_eq!(nearest("thumbnial", counted, &mut work), Some("thumbnail"));
        assert_eq!((looked_at.get(), work), (3, 0));
        assert_eq!(nearest("thumbnial", ["thumbnail"], &mut work), None);
        // What cannot be near costs next to nothing.
        let mut work = 10;
        let long = "x".repeat(1 << 20);
        assert_eq!(nearest(&long, ["sign", "verify"], &mut work), None);
        assert_eq!(work, 8);
    }
}
