//! Errors as `application/problem+json` (RFC 9457).

use crate::worker::frame::HopTiming;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use std::time::SystemTime;

/// What an invocation may fail of; counters of all of them are there from the
/// start, so that the first failure is seen to be one more.
pub(super) const CAUSES: [&str; 21] = [
    "aborted",
    "backend",
    "bad-body",
    "bad-content-type",
    "bad-event",
    "bad-header",
    "bad-timeout",
    "circuit-open",
    "crash",
    "deadline",
    "draining",
    "error",
    "misbehaved",
    "no-worker",
    "queue-full",
    "slow-body",
    "timeout",
    "too-big",
    "too-large",
    "unknown-chain",
    "worker-lost",
];
/// The same of a chain with steps elsewhere.
pub(super) const REMOTE: &str = "remote";
/// Of what comes to no chain, or from a stream alone.
const OTHER_CAUSES: [&str; 4] = ["given-up", "method", "unknown-function", "unknown-path"];

/// Why a request has no answer: the members of the problem document.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// A stable word for programs.
    pub(super) cause: &'static str,
    pub(super) detail: String,
    /// Step from 1, and function, where one is to blame.
    pub(super) place: Option<(usize, String)>,
    /// Seconds after which another attempt makes sense.
    pub(super) retry_after: Option<u64>,
    /// The steps before it and its own, where their times are known.
    pub(super) timings: Option<Box<StepTimings>>,
}

/// What the steps took that were begun.
#[derive(Debug, Clone)]
pub(super) struct StepTimings {
    /// When the first was handed over; their times count from there.
    pub(super) handed: SystemTime,
    pub(super) hops: Vec<HopTiming>,
}

/// Goes with a response that is a problem of ours: a function may answer with a
/// document that looks the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cause {
    pub(super) word: &'static str,
    /// No step has been run, here or elsewhere: another node may take it.
    pub(super) unbegun: bool,
}

impl Problem {
    pub(super) fn new(status: StatusCode, cause: &'static str, detail: impl Into<String>) -> Self {
        debug_assert!(
            cause == REMOTE || CAUSES.contains(&cause) || OTHER_CAUSES.contains(&cause),
            "{cause} is in no list of causes"
        );
        Self {
            status,
            cause,
            detail: detail.into(),
            place: None,
            retry_after: None,
            timings: None,
        }
    }

    pub(super) fn retry(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// What is not known to be unbegun counts as begun.
    fn is_unbegun(&self) -> bool {
        let refused = ["queue-full", "no-worker", "circuit-open", "draining"];
        // A later part of a chain is refused with the same words.
        refused.contains(&self.cause) && self.timings.is_none()
    }

    /// The document; `chain` and `invocation` where they are known by now.
    pub(super) fn respond(
        &self,
        chain: Option<&str>,
        invocation: Option<&str>,
    ) -> Response<Full<Bytes>> {
        let mut v = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "cause": self.cause,
        });
        if let Some(chain) = chain {
            v["chain"] = chain.into();
        }
        if let Some((step, function)) = &self.place {
            v["step"] = (*step).into();
            v["function"] = function.as_str().into();
        }
        if let Some(id) = invocation {
            v["invocation"] = id.into();
        }
        let mut response = Response::new(Full::new(Bytes::from(format!("{v}\n"))));
        *response.status_mut() = self.status;
        response.extensions_mut().insert(Cause {
            word: self.cause,
            unbegun: self.is_unbegun(),
        });
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_begun_may_go_to_another_node() {
        let of = |cause, timings| Problem {
            timings,
            ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, cause, "")
        };
        assert!(of("queue-full", None).is_unbegun());
        assert!(of("draining", None).is_unbegun());
        for begun in ["aborted", "crash", "worker-lost", "deadline", "remote"] {
            assert!(!of(begun, None).is_unbegun(), "{begun}");
        }
        // The first part of its chain has run.
        let timings = StepTimings {
            handed: SystemTime::now(),
            hops: Vec::new(),
        };
        assert!(!of("queue-full", Some(Box::new(timings))).is_unbegun());
    }
}
