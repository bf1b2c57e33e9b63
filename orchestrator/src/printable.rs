//! Text from elsewhere, made fit for a terminal or a log.
//!
//! A name, a path or a line of source may hold characters that move the
//! cursor, recolour the screen, hide what follows or turn its order round. Each
//! is shown as an escape; all that people write in is left as it is.

/// Whether showing it does no more than take its place.
fn is_plain(c: char) -> bool {
    match c {
        ' '..='~' => true,
        // Spaces of other widths are plain, separators of lines and
        // paragraphs are not.
        _ if c.is_whitespace() => !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}'),
        _ => {
            // What Debug leaves alone is printable by Unicode: no control or
            // format character (so nothing bidirectional or of no width), none
            // without a meaning. Not first, so that a mark which combines with
            // the letter before it is one.
            let mut text = [b'x'; 5];
            let len = c.encode_utf8(&mut text[1..]).len();
            std::str::from_utf8(&text[..=len]).is_ok_and(|t| t.escape_debug().nth(1) == Some(c))
        }
    }
}

fn escaped(text: &str, kept: &[char]) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) || kept.contains(&c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

/// One line: all but plain characters and tabs is escaped, the end of a line
/// too.
pub(crate) fn printable(text: impl AsRef<[u8]>) -> String {
    escaped(&String::from_utf8_lossy(text.as_ref()), &['\t'])
}

/// One line of a stranger's, at most so many characters of it, without tabs.
pub(crate) fn printable_line(text: impl AsRef<[u8]>, most: usize) -> String {
    let text = escaped(&String::from_utf8_lossy(text.as_ref()), &[]);
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The same for text that may have several lines.
pub(crate) fn printable_lines(text: impl AsRef<[u8]>) -> String {
    escaped(&String::from_utf8_lossy(text.as_ref()), &['\t', '\n'])
}

/// JSON, with escapes of its own for what is not plain: a terminal shows it as
/// it is, and a program reads what was meant.
pub(crate) fn printable_json(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) || c == '\n' {
            out.push(c);
        } else {
            // Outside of strings JSON has plain characters alone.
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_left_alone() {
        for text in [
            "plain ~ \"quoted\" \\ 'text'",
            "a\ttab",
            "größer, naïve, e\u{301}",
            "写真 写\u{3000}真 😀",
            "हिन्दी العربية עברית",
            "10\u{a0}000",
            "",
        ] {
            assert_eq!(printable(text), text);
            assert_eq!(printable_lines(text), text);
        }
    }

    #[test]
    fn what_changes_a_terminal_is_escaped() {
        for (text, shown) in [
            ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
            ("a\rb\nc\0", "a\\rb\\nc\\u{0}"),
            ("\u{7f}", "\\u{7f}"),
            // C1: the CSI of eight bits.
            ("\u{9b}31m\u{85}", "\\u{9b}31m\\u{85}"),
            ("\u{2028}\u{2029}", "\\u{2028}\\u{2029}"),
            ("\u{202a}\u{202e}\u{2066}", "\\u{202a}\\u{202e}\\u{2066}"),
            ("\u{200e}\u{200f}\u{61c}", "\\u{200e}\\u{200f}\\u{61c}"),
            ("\u{200b}\u{200d}\u{feff}", "\\u{200b}\\u{200d}\\u{feff}"),
            ("\u{ad}\u{180e}\u{fff9}", "\\u{ad}\\u{180e}\\u{fff9}"),
            ("\u{e0041}\u{f8ff}", "\\u{e0041}\\u{f8ff}"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable(b"\xff\x1b".as_slice()), "\u{fffd}\\u{1b}");
    }

    #[test]
    fn lines_keep_their_ends_and_nothing_else() {
        assert_eq!(printable_lines("a\nb\u{202e}\rc"), "a\nb\\u{202e}\\rc");
    }

    #[test]
    fn no_control_or_format_character_gets_through() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let shown = printable(c.to_string());
            let unsafe_ones = c.is_control() && c != '\t'
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
                || matches!(c, '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
                || matches!(c, '\u{e0000}'..='\u{e007f}');
            assert!(!unsafe_ones || shown.is_ascii(), "{c:?}: {shown}");
        }
    }

    #[test]
    fn json_means_the_same_after_its_escapes() {
        let text = "a\u{1b}\u{9b}\u{202e}\u{e0041}\u{7f}\n\"é写";
        let json = serde_json::json!({ "path": text });
        let shown = printable_json(&format!("{json:#}"));
        assert_eq!(printable_lines(&shown), shown);
        let back: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(back["path"], text);
    }
}
