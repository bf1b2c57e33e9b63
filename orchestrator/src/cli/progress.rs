//! What a build is at, on stderr.

use super::printable_lines;
use crate::build::Doing;
use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Nothing is shown of what takes no longer.
const SHORT: Duration = Duration::from_secs(2);
/// Where lines stay, as in a file, there is one as often as this.
const EVERY: Duration = Duration::from_secs(10);

/// Shows progress while something goes on.
pub(super) struct Progress {
    begun: Instant,
    shown: Cell<Option<Instant>>,
    /// One line that is written again and again.
    terminal: bool,
}

impl Progress {
    pub(super) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            shown: Cell::new(None),
            terminal: std::io::stderr().is_terminal() && !super::logging::is_json(),
        }
    }

    /// What the build is at.
    pub(super) fn at(&self, doing: &Doing<'_>) {
        let now = Instant::now();
        let took = now - self.begun;
        let recent = self.shown.get().is_some_and(|then| now - then < EVERY);
        if took < SHORT || !self.terminal && recent {
            return;
        }
        self.shown.set(Some(now));
        let Doing {
            what, done, all, ..
        } = doing;
        let line = doing.line.lines().next_back().unwrap_or_default();
        let colon = if line.is_empty() { "" } else { ": " };
        let took = took.as_secs();
        let text = format!("building, {done} of {all} done ({took} s): {what}{colon}{line}");
        if super::logging::is_json() {
            return super::logging::say(log::Level::Info, text, serde_json::Map::new());
        }
        let text: String = printable_lines(text).chars().take(78).collect();
        let mut err = std::io::stderr().lock();
        // Nowhere is left to report a broken stderr.
        let _ = if self.terminal {
            write!(err, "\r\x1b[K{text}").and_then(|()| err.flush())
        } else {
            writeln!(err, "{text}")
        };
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.shown.get().is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}
