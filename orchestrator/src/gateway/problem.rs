//! Errors as `application/problem+json` (RFC 9457).

use super::told::Calls;
use crate::chain_file::{ChainId, FunctionName};
use crate::life::{CauseKind, MessageMeta};
use crate::worker::frame::HopTiming;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use std::time::SystemTime;

/// Declares [`ProblemKind`]: of each kind its word, its status in HTTP, which
/// chains can fail of it, and whether a step of the chain may have begun. One
/// table, so that no list of kinds can lack one.
macro_rules! problem_kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal, $status:ident, $fails_in:ident, $begun:ident;)*) => {
        /// What a request failed of.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum ProblemKind {
            $($(#[$doc])* $kind,)*
        }

        impl ProblemKind {
            /// All of them, in the order of their words.
            pub(super) const ALL: &[Self] = &[$(Self::$kind),*];

            /// The word for programs: `cause` of the problem document, of the
            /// metrics and of the log. It never changes.
            pub(super) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }

            /// The status, unless the place where it happens knows a better one.
            const fn status(self) -> StatusCode {
                match self {
                    $(Self::$kind => StatusCode::$status,)*
                }
            }

            const fn fails_in(self) -> FailsIn {
                match self {
                    $(Self::$kind => FailsIn::$fails_in,)*
                }
            }

            const fn begun(self) -> Begun {
                match self {
                    $(Self::$kind => Begun::$begun,)*
                }
            }
        }
    };
}

/// Which chains can fail of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailsIn {
    Any,
    /// One with a function that runs elsewhere.
    Distributed,
    /// None: the request never came to a chain, or came from a stream.
    Unrouted,
}

/// Whether a step may have run when a request fails so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// None has: another node may take the request.
    Never,
    Perhaps,
}

problem_kinds! {
    /// The server stopped while the invocation ran.
    Aborted = "aborted", SERVICE_UNAVAILABLE, Any, Perhaps;
    /// The backend failed: nothing that the function did.
    Backend = "backend", INTERNAL_SERVER_ERROR, Any, Perhaps;
    /// The body did not arrive whole.
    BadBody = "bad-body", BAD_REQUEST, Any, Perhaps;
    /// The content type cannot be handed over.
    BadContentType = "bad-content-type", BAD_REQUEST, Any, Perhaps;
    /// It is not a CloudEvent, and the function takes nothing else.
    BadEvent = "bad-event", BAD_REQUEST, Any, Perhaps;
    /// A header that the function is to see cannot be handed over.
    BadHeader = "bad-header", BAD_REQUEST, Any, Perhaps;
    /// The caller's timeout cannot be read.
    BadTimeout = "bad-timeout", BAD_REQUEST, Any, Perhaps;
    /// The chain crashed several times in a row and is left alone.
    CircuitOpen = "circuit-open", SERVICE_UNAVAILABLE, Any, Never;
    /// The caller went before its answer was made. It gets none.
    ClientGone = "client-gone", BAD_REQUEST, Any, Perhaps;
    /// The function's context ended.
    Crash = "crash", BAD_GATEWAY, Any, Perhaps;
    /// The caller's deadline passed.
    Deadline = "deadline", GATEWAY_TIMEOUT, Any, Perhaps;
    /// The server is shutting down.
    Draining = "draining", SERVICE_UNAVAILABLE, Any, Never;
    /// The function reported an error.
    Error = "error", INTERNAL_SERVER_ERROR, Any, Perhaps;
    /// A stream delivered the message too often.
    GivenUp = "given-up", INTERNAL_SERVER_ERROR, Unrouted, Perhaps;
    /// The path does not take this method.
    Method = "method", METHOD_NOT_ALLOWED, Unrouted, Perhaps;
    /// The function broke the protocol with its host.
    Misbehaved = "misbehaved", BAD_GATEWAY, Any, Perhaps;
    /// No worker process can be started.
    NoWorker = "no-worker", SERVICE_UNAVAILABLE, Any, Never;
    /// Bodies of other requests take all the memory that there is for them.
    OverBudget = "over-budget", SERVICE_UNAVAILABLE, Any, Never;
    /// Too many requests wait for the chain.
    QueueFull = "queue-full", TOO_MANY_REQUESTS, Any, Never;
    /// A function that runs elsewhere failed, or nobody runs it.
    Remote = "remote", BAD_GATEWAY, Distributed, Perhaps;
    /// The body did not arrive in time.
    SlowBody = "slow-body", REQUEST_TIMEOUT, Any, Perhaps;
    /// The function overran its timeout.
    Timeout = "timeout", GATEWAY_TIMEOUT, Any, Perhaps;
    /// The function claims an answer that its region cannot hold.
    TooBig = "too-big", BAD_GATEWAY, Any, Perhaps;
    /// The message is larger than the chain takes.
    TooLarge = "too-large", PAYLOAD_TOO_LARGE, Any, Perhaps;
    /// The request made more calls between functions than one may.
    TooManyCalls = "too-many-calls", INTERNAL_SERVER_ERROR, Any, Perhaps;
    /// The caller's address has too many requests under way.
    TooManyRequests = "too-many-requests", TOO_MANY_REQUESTS, Unrouted, Never;
    /// No chain has this name.
    UnknownChain = "unknown-chain", NOT_FOUND, Any, Perhaps;
    /// No function has this name, or none is served alone.
    UnknownFunction = "unknown-function", NOT_FOUND, Unrouted, Perhaps;
    /// Nothing is served at this path.
    UnknownPath = "unknown-path", NOT_FOUND, Unrouted, Perhaps;
    /// The worker process ended while it ran the invocation.
    WorkerLost = "worker-lost", BAD_GATEWAY, Any, Perhaps;
}

impl ProblemKind {
    /// The kinds that are counted for a chain from its start, so that the first
    /// failure is seen as an increase.
    pub(super) fn of_chain(remote: bool) -> impl Iterator<Item = Self> {
        let counted = move |kind: &Self| match kind.fails_in() {
            FailsIn::Any => true,
            FailsIn::Distributed => remote,
            FailsIn::Unrouted => false,
        };
        Self::ALL.iter().copied().filter(counted)
    }
}

impl ProblemKind {
    /// What a function failed of, if it can be that.
    pub(super) fn cause(self) -> Option<CauseKind> {
        CauseKind::ALL.into_iter().find(|c| Self::from(*c) == self)
    }
}

impl From<CauseKind> for ProblemKind {
    fn from(cause: CauseKind) -> Self {
        match cause {
            CauseKind::Error => Self::Error,
            CauseKind::Crash => Self::Crash,
            CauseKind::Timeout => Self::Timeout,
            CauseKind::Deadline => Self::Deadline,
            CauseKind::TooBig => Self::TooBig,
            CauseKind::Misbehaved => Self::Misbehaved,
            CauseKind::TooManyCalls => Self::TooManyCalls,
            CauseKind::Remote => Self::Remote,
            CauseKind::Backend => Self::Backend,
        }
    }
}

impl std::fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request has no answer: the members of the problem document.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) kind: ProblemKind,
    pub(super) detail: String,
    /// Step from 1, and function, where one is to blame.
    pub(super) place: Option<(usize, FunctionName)>,
    /// Who called whom, from the step's function to the one to blame, where these
    /// are two.
    pub(super) path: Vec<FunctionName>,
    /// Seconds after which another attempt makes sense.
    pub(super) retry_after: Option<u64>,
    /// The steps before it and its own, where their times are known.
    pub(super) timings: Option<Box<StepTimings>>,
    /// What the function of `on_error` answered, in the place of the document; or, of a
    /// call from another group, what its function did beside an error of its own.
    pub(super) answer: Option<Box<(MessageMeta, Bytes)>>,
    /// The error that a function reported, in its own words.
    pub(super) said: Option<Box<(i32, String)>>,
}

/// What the steps took that were begun.
#[derive(Debug, Clone)]
pub(super) struct StepTimings {
    /// When the first was handed over; their times count from there.
    pub(super) handed: SystemTime,
    pub(super) hops: Vec<HopTiming>,
    pub(super) calls: Calls,
}

/// Goes with a response that is a problem of ours: a function may answer with a
/// document that looks the same. So it does with what the function of `on_error`
/// answered: the request has failed all the same.
#[derive(Debug, Clone)]
pub(super) struct OwnProblem {
    pub(super) kind: ProblemKind,
    /// No step has been run, here or elsewhere: another node may take it.
    pub(super) unbegun: bool,
    /// The body is not the problem's document, but what a function answered to it;
    /// this is the problem's detail.
    pub(super) answered: Option<String>,
}

impl Problem {
    /// With the status that goes with the kind.
    pub(super) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            status: kind.status(),
            kind,
            detail: detail.into(),
            place: None,
            path: Vec::new(),
            retry_after: None,
            timings: None,
            answer: None,
            said: None,
        }
    }

    /// With a status that says more than the one that goes with the kind.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(super) fn retry(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// What is not known to be unbegun counts as begun.
    fn is_unbegun(&self) -> bool {
        // A later part of a chain is refused with the same words.
        self.kind.begun() == Begun::Never && self.timings.is_none()
    }

    /// What a response that tells of it goes with.
    pub(super) fn own(&self) -> OwnProblem {
        OwnProblem {
            kind: self.kind,
            unbegun: self.is_unbegun(),
            answered: self.answer.as_ref().map(|_| self.detail.clone()),
        }
    }

    /// The document; `chain` and `invocation` where they are known by now.
    pub(super) fn respond(
        &self,
        chain: Option<&ChainId>,
        invocation: Option<&str>,
    ) -> Response<Full<Bytes>> {
        let mut v = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "cause": self.kind.as_str(),
        });
        if let Some(chain) = chain {
            v["chain"] = chain.as_str().into();
        }
        if let Some((step, function)) = &self.place {
            v["step"] = (*step).into();
            v["function"] = function.as_str().into();
        }
        if self.path.len() > 1 {
            v["path"] = self.path.iter().map(FunctionName::as_str).collect();
        }
        if let Some(id) = invocation {
            v["invocation"] = id.into();
        }
        let mut response = Response::new(Full::new(Bytes::from(format!("{v}\n"))));
        *response.status_mut() = self.status;
        response.extensions_mut().insert(OwnProblem {
            answered: None,
            ..self.own()
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
    fn words_are_in_order_and_each_is_there_once() {
        let words: Vec<&str> = ProblemKind::ALL.iter().map(|k| k.as_str()).collect();
        assert!(words.windows(2).all(|w| w[0] < w[1]), "{words:?}");
    }

    #[test]
    fn only_what_was_never_begun_may_go_to_another_node() {
        let of = |kind, timings| Problem {
            timings,
            ..Problem::new(kind, "")
        };
        let refused = |kind| of(kind, None).is_unbegun();
        let all = ProblemKind::ALL.iter().copied();
        assert_eq!(
            all.filter(|&k| refused(k)).collect::<Vec<_>>(),
            [
                ProblemKind::CircuitOpen,
                ProblemKind::Draining,
                ProblemKind::NoWorker,
                ProblemKind::OverBudget,
                ProblemKind::QueueFull,
                ProblemKind::TooManyRequests
            ]
        );
        // The first part of its chain has run.
        let timings = StepTimings {
            handed: SystemTime::now(),
            hops: Vec::new(),
            calls: Calls::default(),
        };
        assert!(!of(ProblemKind::QueueFull, Some(Box::new(timings))).is_unbegun());
    }
}
