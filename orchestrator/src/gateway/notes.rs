//! What `dev` shows on the page beside what every server does: why the file that was
//! written last is not served, and the last failures. Both quote sources and functions,
//! so that no server for others has them.

use super::problem::Problem;
use crate::chain_file::{ChainId, FunctionName};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Failures that are kept.
const MOST: usize = 20;
/// Bytes of a text that are kept: a compiler may say any number.
const MOST_TEXT: usize = 64 << 10;

/// What a developer is shown.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// What is said of the reading that is under way.
    said: String,
    /// Why the last reading is not served.
    refused: Option<String>,
    /// The newest first.
    failures: VecDeque<Failure>,
}

#[derive(Debug)]
struct Failure {
    chain: String,
    invocation: String,
    status: u16,
    cause: &'static str,
    path: Vec<String>,
    detail: String,
    at: Instant,
}

/// The same, as the page gets it.
#[derive(Debug, Serialize)]
pub(super) struct Noted {
    refused: Option<String>,
    failures: Vec<NotedFailure>,
}

#[derive(Debug, Serialize)]
struct NotedFailure {
    chain: String,
    invocation: String,
    status: u16,
    cause: &'static str,
    path: Vec<String>,
    detail: String,
    /// Seconds.
    ago: u64,
}

/// At most so much of a text; what it says first counts.
fn cut(text: &mut String) {
    if text.len() > MOST_TEXT {
        let ends = (0..=MOST_TEXT).rev();
        let end = { ends }.find(|&n| text.is_char_boundary(n));
        text.truncate(end.unwrap_or(0));
        text.push_str("\n…");
    }
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Only assignments happen under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reading has begun.
    pub fn begin(&self) {
        self.lock().said.clear();
    }

    /// What is wrong with the file that is being read, or with what it names.
    pub fn say(&self, text: &str) {
        let mut inner = self.lock();
        if !text.trim().is_empty() && inner.said.len() <= MOST_TEXT {
            inner.said.push_str(text.trim_end());
            inner.said.push('\n');
            cut(&mut inner.said);
        }
    }

    /// It is refused; `why`, if nothing was said.
    pub(super) fn refused(&self, why: &str) {
        let mut inner = self.lock();
        let mut text = std::mem::take(&mut inner.said);
        if text.is_empty() {
            text = why.to_owned();
            cut(&mut text);
        }
        inner.refused = Some(text);
    }

    /// It is served.
    pub(super) fn taken(&self) {
        let mut inner = self.lock();
        inner.refused = None;
        inner.said.clear();
    }

    /// An invocation has failed.
    pub(super) fn failed(&self, chain: &ChainId, invocation: &str, status: u16, p: &Problem) {
        let mut path: Vec<String> = p.path.iter().map(ToString::to_string).collect();
        if path.is_empty() {
            path.extend(
                p.place
                    .iter()
                    .map(|(_, f): &(_, FunctionName)| f.to_string()),
            );
        }
        let mut detail = p.detail.clone();
        cut(&mut detail);
        let failure = Failure {
            chain: chain.to_string(),
            invocation: invocation.to_owned(),
            status,
            cause: p.kind.as_str(),
            path,
            detail,
            at: Instant::now(),
        };
        let mut inner = self.lock();
        inner.failures.push_front(failure);
        inner.failures.truncate(MOST);
    }

    pub(super) fn noted(&self) -> Noted {
        let inner = self.lock();
        let failures = inner.failures.iter().map(|f| NotedFailure {
            chain: f.chain.clone(),
            invocation: f.invocation.clone(),
            status: f.status,
            cause: f.cause,
            path: f.path.clone(),
            detail: f.detail.clone(),
            ago: f.at.elapsed().as_secs(),
        });
        Noted {
            failures: failures.collect(),
            refused: inner.refused.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::problem::ProblemKind;

    #[test]
    fn what_is_kept_is_bounded_and_the_newest_first() {
        let notes = Notes::default();
        let chain = ChainId::named("c").unwrap();
        for n in 0..100 {
            let problem = Problem::new(ProblemKind::Crash, format!("{n} {}", "é".repeat(1 << 20)));
            notes.failed(&chain, "id", 502, &problem);
        }
        notes.begin();
        for _ in 0..100 {
            notes.say(&"ß".repeat(10_000));
        }
        notes.refused("why");
        let noted = notes.noted();
        assert_eq!(noted.failures.len(), MOST);
        assert!(noted.failures[0].detail.starts_with("99 é"));
        let longest = |text: &str| text.len() <= MOST_TEXT + 8;
        assert!(noted.failures.iter().all(|f| longest(&f.detail)));
        let refused = noted.refused.unwrap();
        assert!(longest(&refused) && refused.starts_with('ß'));
    }

    #[test]
    fn what_was_said_explains_a_refusal_until_something_is_served() {
        let notes = Notes::default();
        notes.refused("a worker cannot start");
        assert_eq!(notes.noted().refused.unwrap(), "a worker cannot start");
        notes.begin();
        notes.say("f.c:1: error\n");
        notes.refused("see above");
        assert_eq!(notes.noted().refused.unwrap(), "f.c:1: error\n");
        notes.taken();
        assert_eq!(notes.noted().refused, None);
        // A warning is no reason for what comes later.
        notes.say("a warning");
        notes.taken();
        notes.refused("else");
        assert_eq!(notes.noted().refused.unwrap(), "else");
    }
}
