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

/// The nearest of some names, if one is near.
pub(super) fn nearest<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    among
        .map(|n| (strsim::damerau_levenshtein(name, n), n))
        .filter(|&(d, n)| d <= (n.len().max(name.len()) / 3).max(1))
        .min()
        .map(|(_, n)| n)
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
        assert_eq!(nearest("thumbnial", names.into_iter()), Some("thumbnail"));
        assert_eq!(nearest("resize", names.into_iter()), None);
    }
}
