//! The part of a line that an error is about, as a terminal may show it.

use crate::printable::printable;
use std::ops::Range;
use unicode_width::UnicodeWidthStr;

/// Characters shown before what is meant, and from there on.
const BEFORE: usize = 60;
const AFTER: usize = 100;

/// A piece of one line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// What is shown.
    pub(super) text: String,
    /// Columns of the terminal before what is meant, and under it.
    pub(super) underlined: Range<usize>,
}

impl Excerpt {
    /// The place of `span`, which begins and ends between characters. Of what
    /// has several lines the first is shown; of a long line the part around the
    /// span's beginning. No more of `text` than that is looked at.
    pub(super) fn of(text: &str, span: &Range<usize>) -> Self {
        let end_of_line = |c: &char| *c == '\n';
        let (before, after) = text.split_at(span.start);
        let mut back = before.chars().rev().take_while(|c| !end_of_line(c));
        let shown: usize = back.by_ref().take(BEFORE).map(char::len_utf8).sum();
        let mut out = String::from(if back.next().is_some() { "…" } else { "" });
        out += &plain(&before[before.len() - shown..]);

        let mut ahead = after.chars().take_while(|c| !end_of_line(c));
        let shown: usize = ahead.by_ref().take(AFTER).map(char::len_utf8).sum();
        let cut = ahead.next().is_some();
        let shown = if cut {
            &after[..shown]
        } else {
            after[..shown].trim_end_matches('\r')
        };
        let meant = shown.len().min(span.len());
        let start = out.width();
        out += &plain(&shown[..meant]);
        let end = out.width();
        out += &plain(&shown[meant..]);
        if cut {
            out.push('…');
        }
        Self {
            text: out,
            // The end of a line, and what takes no room, is pointed at too.
            underlined: start..end.max(start + 1),
        }
    }
}

/// A tab is four columns, wherever it is.
fn plain(text: &str) -> String {
    printable(text).replace('\t', "    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, meant: &str) -> (String, Range<usize>) {
        let at = text.find(meant).unwrap();
        let e = Excerpt::of(text, &(at..at + meant.len()));
        (e.text, e.underlined)
    }

    #[test]
    fn a_short_line_is_shown_whole() {
        assert_eq!(shown("a\nb = cd\ne", "cd"), ("b = cd".into(), 4..6));
        assert_eq!(shown("b = cd\r\n", "cd"), ("b = cd".into(), 4..6));
        assert_eq!(shown("a\n\nb", "\n\n"), ("a".into(), 1..2));
        assert_eq!(
            Excerpt::of("", &(0..0)),
            Excerpt {
                text: String::new(),
                underlined: 0..1
            }
        );
    }

    #[test]
    fn columns_are_those_of_a_terminal() {
        assert_eq!(shown("写 = é", "é"), ("写 = é".into(), 5..6));
        assert_eq!(shown("\tb", "b"), ("    b".into(), 4..5));
        assert_eq!(shown("\u{1b}b", "b"), ("\\u{1b}b".into(), 6..7));
        assert_eq!(shown("\u{202e}", "\u{202e}"), ("\\u{202e}".into(), 0..8));
    }

    #[test]
    fn of_many_lines_the_first_and_of_a_long_one_a_part_is_shown() {
        assert_eq!(shown("a = [\n1,\n]", "[\n1,\n]"), ("a = [".into(), 4..5));
        let long = format!("{}M{}", "x".repeat(500_000), "y".repeat(500_000));
        let (text, underlined) = shown(&long, "M");
        assert_eq!(underlined, BEFORE + 1..BEFORE + 2);
        assert_eq!(text.chars().count(), 1 + BEFORE + AFTER + 1);
        assert!(text.starts_with("…x") && text.ends_with("y…"));
        let (_, underlined) = shown(&long, &long[3..]);
        assert_eq!(underlined, 3..3 + AFTER);
    }
}
