//! Errors with a place: file, line, column, the text underlined, and a hint.

use annotate_snippets::{Level, Renderer, Snippet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is odd.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name for programs.
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

/// Everything that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    path: PathBuf,
    text: String,
    found: Vec<Diagnostic>,
}

impl Report {
    pub(crate) fn new(path: &Path, text: String) -> Self {
        Self {
            path: path.to_owned(),
            text,
            found: Vec::new(),
        }
    }

    pub(crate) fn error(
        &mut self,
        span: Range<usize>,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Error, span, code, message.into(), hint.into());
    }

    pub(crate) fn warning(
        &mut self,
        span: Range<usize>,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Warning, span, code, message.into(), hint.into());
    }

    fn add(
        &mut self,
        severity: Severity,
        span: Range<usize>,
        code: &'static str,
        message: String,
        hint: String,
    ) {
        let span = self.clamp(span);
        let before = &self.text[..span.start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        self.found.push(Diagnostic {
            severity,
            code,
            message,
            hint,
            line,
            column,
            span,
        });
        self.found.sort_by_key(|d| d.span.start);
    }

    /// Keeps a span inside the text and on character boundaries.
    fn clamp(&self, span: Range<usize>) -> Range<usize> {
        let boundary = |mut at: usize| {
            at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = boundary(span.start);
        let end = boundary(span.end.max(start));
        start..end.max(start)
    }

    /// All that was found, in the file's order.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.found
    }

    /// Whether the file is refused.
    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|d| d.severity == Severity::Error)
    }

    /// The file's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// For people, with colours or without.
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let origin = self.path.display().to_string();
        let mut out = String::new();
        for d in &self.found {
            let level = match d.severity {
                Severity::Error => Level::Error,
                Severity::Warning => Level::Warning,
            };
            let place = format!("{origin}: {}", d.message);
            let mut message = if self.text.is_empty() {
                level.title(&place)
            } else {
                level.title(&d.message).snippet(
                    Snippet::source(&self.text)
                        .origin(&origin)
                        .fold(true)
                        .annotation(level.span(d.span.clone())),
                )
            };
            if !d.hint.is_empty() {
                message = message.footer(Level::Help.title(&d.hint));
            }
            out.push_str(&renderer.render(message).to_string());
            out.push('\n');
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
