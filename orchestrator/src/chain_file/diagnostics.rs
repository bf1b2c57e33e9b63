//! Errors with a place: file, line, column, the text underlined, and a hint.

use super::excerpt::Excerpt;
use crate::printable::printable;
use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Errors told of one file, and as many warnings: more are counted.
pub(super) const MAX_SHOWN: usize = 100;
/// Characters of a message or hint that are told.
const MAX_MESSAGE: usize = 400;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is odd.
    Warning,
}

/// One thing that is wrong. Its texts can be shown by any terminal: what would
/// change it is escaped.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name for programs; `more` is the count of what is not told.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Bytes of the file meant.
    #[serde(skip)]
    pub span: Range<usize>,
}

/// What is found while a file is read.
#[derive(Default)]
pub(super) struct Findings {
    /// What is told, in the order in which it was found, its places not yet
    /// looked up.
    shown: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
    /// The first that is not told.
    first_left_out: Option<Range<usize>>,
}

impl Findings {
    pub(super) fn error(
        &mut self,
        span: Range<usize>,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.errors += 1;
        let tell = self.errors <= MAX_SHOWN;
        self.add(Severity::Error, tell, span, code, message, hint);
    }

    pub(super) fn warning(
        &mut self,
        span: Range<usize>,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.warnings += 1;
        let tell = self.warnings <= MAX_SHOWN;
        self.add(Severity::Warning, tell, span, code, message, hint);
    }

    fn add(
        &mut self,
        severity: Severity,
        tell: bool,
        span: Range<usize>,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if !tell {
            self.first_left_out.get_or_insert(span);
            return;
        }
        self.shown.push(Diagnostic {
            severity,
            code,
            message: printable_text(&message.into()),
            hint: printable_text(&hint.into()),
            line: 1,
            column: 1,
            span,
        });
    }

    /// Errors so far.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// Whether one more error would be counted and not told: its message need
    /// not be thought about.
    pub(super) fn is_full(&self) -> bool {
        self.errors >= MAX_SHOWN
    }

    /// All that was found in `text`, in the file's order, a count of the rest
    /// last.
    pub(super) fn report(mut self, path: &Path, text: String) -> Report {
        let left_out = |found: usize| found.saturating_sub(MAX_SHOWN);
        let (errors, warnings) = (left_out(self.errors), left_out(self.warnings));
        if let Some(span) = self.first_left_out.take() {
            let counted = [(errors, "error"), (warnings, "warning")]
                .into_iter()
                .filter(|(n, _)| *n > 0)
                .map(|(n, what)| format!("{n} more {what}{}", if n == 1 { "" } else { "s" }))
                .collect::<Vec<_>>();
            self.shown.push(Diagnostic {
                severity: if errors > 0 {
                    Severity::Error
                } else {
                    Severity::Warning
                },
                code: "more",
                message: format!("{} not shown, the first here", counted.join(" and ")),
                hint: "mend those above, then check the file again".into(),
                line: 1,
                column: 1,
                span,
            });
        }
        for d in &mut self.shown {
            d.span = clamp(&text, &d.span);
        }
        self.shown.sort_by_key(|d| d.span.start);
        place(&mut self.shown, &text);
        self.shown.sort_by_key(|d| d.code == "more");
        Report {
            path: path.to_owned(),
            text,
            found: self.shown,
        }
    }
}

/// A message as it is told: printable, and of a length that people read.
fn printable_text(text: &str) -> String {
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{} … (cut)", printable(&text[..end])),
        None => printable(text),
    }
}

/// Keeps a span inside the text and on character boundaries.
fn clamp(text: &str, span: &Range<usize>) -> Range<usize> {
    let boundary = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = boundary(span.start);
    start..boundary(span.end).max(start)
}

/// Finds lines and columns, in one pass over the text: `sorted` is in its order.
fn place(sorted: &mut [Diagnostic], text: &str) {
    let (mut at, mut line, mut column) = (0, 1, 1);
    for d in sorted {
        let passed = &text[at..d.span.start];
        at = d.span.start;
        match passed.rfind('\n') {
            Some(end) => {
                line += passed.matches('\n').count();
                column = passed[end + 1..].chars().count() + 1;
            }
            None => column += passed.chars().count(),
        }
        (d.line, d.column) = (line, column);
    }
}

/// Everything that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    path: PathBuf,
    text: String,
    found: Vec<Diagnostic>,
}

impl Report {
    /// All that was found, in the file's order; of many things of one kind the
    /// first hundred, and the count of the rest last.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.found
    }

    /// Whether the file is refused.
    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|d| d.severity == Severity::Error)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// For people, with colours or without. Nothing of the file changes the
    /// terminal that shows it.
    pub fn render(&self, colours: bool) -> String {
        let paint = |colour: &'static str| if colours { colour } else { "" };
        let (bold, gutter, off) = (paint("\x1b[1m"), paint("\x1b[1;34m"), paint("\x1b[0m"));
        let origin = printable(self.path.as_os_str().as_encoded_bytes());
        let mut out = String::new();
        for d in &self.found {
            let (level, colour) = match d.severity {
                Severity::Error => ("error", paint("\x1b[1;31m")),
                Severity::Warning => ("warning", paint("\x1b[1;33m")),
            };
            let number = d.line.to_string();
            let left = " ".repeat(number.len());
            let _ = write!(out, "{colour}{level}{off}{bold}: ");
            let _ = if self.text.is_empty() {
                writeln!(out, "{origin}: {}{off}", d.message)
            } else {
                let excerpt = Excerpt::of(&self.text, &d.span);
                let indent = " ".repeat(excerpt.underlined.start);
                let marks = "^".repeat(excerpt.underlined.len());
                writeln!(
                    out,
                    "{}{off}\n\
                     {left}{gutter}-->{off} {origin}:{number}:{}\n\
                     {left} {gutter}|{off}\n\
                     {gutter}{number} |{off} {}\n\
                     {left} {gutter}|{off} {indent}{colour}{marks}{off}\n\
                     {left} {gutter}|{off}",
                    d.message, d.column, excerpt.text
                )
            };
            if !d.hint.is_empty() {
                let _ = writeln!(out, "{left} {gutter}={off} {bold}help{off}: {}", d.hint);
            }
        }
        out
    }

    /// For programs: an array of objects.
    pub fn to_json(&self) -> serde_json::Value {
        self.found
            .iter()
            .map(|d| {
                let mut v = serde_json::to_value(d).unwrap_or_default();
                v["file"] = self.path.display().to_string().into();
                v["length"] = self.text[d.span.clone()].chars().count().into();
                v
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_characters_of_the_file() {
        let text = "ab\nçd e\n\nf";
        let mut findings = Findings::default();
        for at in [10, 0, 6, 4, 2, 100, 8] {
            findings.error(at..at + 1, "x", "m", "h");
        }
        let report = findings.report(Path::new("f"), text.to_owned());
        let places: Vec<_> = report.found.iter().map(|d| (d.line, d.column)).collect();
        assert_eq!(
            places,
            [(1, 1), (1, 3), (2, 1), (2, 3), (2, 5), (4, 1), (4, 2)]
        );
    }

    #[test]
    fn a_long_list_is_cut_and_the_rest_counted() {
        let text = "x\n".repeat(1000);
        let mut findings = Findings::default();
        for n in 0..MAX_SHOWN + 7 {
            findings.warning(n..n + 1, "w", "odd", "");
        }
        for n in (0..MAX_SHOWN + 1).rev() {
            assert_eq!(findings.is_full(), n == 0);
            findings.error(2 * n..2 * n + 1, "e", "wrong", "");
        }
        let report = findings.report(Path::new("f"), text);
        assert!(report.has_errors());
        let (last, shown) = report.found.split_last().unwrap();
        assert_eq!(shown.len(), 2 * MAX_SHOWN);
        assert_eq!((last.code, last.severity), ("more", Severity::Error));
        assert_eq!(
            last.message,
            "1 more error and 7 more warnings not shown, the first here"
        );
        assert_eq!((last.line, last.column), (51, 1));
        assert_eq!(
            report.to_json().as_array().unwrap().len(),
            2 * MAX_SHOWN + 1
        );
    }

    #[test]
    fn what_is_shown_changes_no_terminal() {
        let bad = "\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\r";
        let text = format!("a = \"{bad}\"\n");
        let mut findings = Findings::default();
        findings.error(
            4..text.len(),
            "x",
            format!("no {bad}"),
            format!("not {bad}"),
        );
        let report = findings.report(Path::new(&format!("dir/{bad}.toml")), text);
        let shown = report.render(false);
        assert_eq!(crate::printable::printable_lines(&shown), shown);
        assert_eq!(shown.lines().count(), 7, "{shown}");
        let coloured = report.render(true);
        assert!(coloured.contains("\x1b[1;31merror\x1b[0m") && !coloured.contains("\x1b[2J"));
    }

    #[test]
    fn a_long_message_is_cut() {
        let mut findings = Findings::default();
        findings.error(0..0, "x", "é".repeat(100_000), "h");
        let report = findings.report(Path::new("f"), String::new());
        assert!(report.found[0].message.chars().count() < MAX_MESSAGE + 20);
    }
}
