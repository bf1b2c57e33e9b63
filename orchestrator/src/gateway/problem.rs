//! Why a request has no answer, in our own words. How callers are told is their adapter's
//! (`document.rs`).

use super::told::Calls;
use crate::chain_file::FunctionName;
use crate::life::{CauseKind, MessageMeta};
use crate::worker::frame::HopTiming;
use bytes::Bytes;
use std::time::SystemTime;

/// Declares [`ProblemKind`]: of each kind its word, which chains can fail of it,
/// and whether a step of the chain may have begun. One table, so that no list of kinds
/// can lack one.
macro_rules! problem_kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal, $fails_in:ident, $begun:ident;)*) => {
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
    Aborted = "aborted", Any, Perhaps;
    /// The backend failed: nothing that the function did.
    Backend = "backend", Any, Perhaps;
    /// The body did not arrive whole.
    BadBody = "bad-body", Any, Perhaps;
    /// The content type cannot be handed over.
    BadContentType = "bad-content-type", Any, Perhaps;
    /// It is not a CloudEvent, and the function takes nothing else.
    BadEvent = "bad-event", Any, Perhaps;
    /// A header that the function is to see cannot be handed over.
    BadHeader = "bad-header", Any, Perhaps;
    /// The caller's timeout cannot be read.
    BadTimeout = "bad-timeout", Any, Perhaps;
    /// The chain crashed several times in a row and is left alone.
    CircuitOpen = "circuit-open", Any, Never;
    /// The caller went before its answer was made. It gets none.
    ClientGone = "client-gone", Any, Perhaps;
    /// The function's context ended.
    Crash = "crash", Any, Perhaps;
    /// The caller's deadline passed.
    Deadline = "deadline", Any, Perhaps;
    /// The server is shutting down.
    Draining = "draining", Any, Never;
    /// The function reported an error.
    Error = "error", Any, Perhaps;
    /// A stream delivered the message too often.
    GivenUp = "given-up", Unrouted, Perhaps;
    /// The path does not take this method.
    Method = "method", Unrouted, Perhaps;
    /// The function broke the protocol with its host.
    Misbehaved = "misbehaved", Any, Perhaps;
    /// No worker process can be started.
    NoWorker = "no-worker", Any, Never;
    /// Bodies of other requests take all the memory that there is for them.
    OverBudget = "over-budget", Any, Never;
    /// Too many requests wait for the chain.
    QueueFull = "queue-full", Any, Never;
    /// A function that runs elsewhere failed, or nobody runs it.
    Remote = "remote", Distributed, Perhaps;
    /// The body did not arrive in time.
    SlowBody = "slow-body", Any, Perhaps;
    /// The function overran its timeout.
    Timeout = "timeout", Any, Perhaps;
    /// The function claims an answer that its region cannot hold.
    TooBig = "too-big", Any, Perhaps;
    /// The message is larger than the chain takes.
    TooLarge = "too-large", Any, Perhaps;
    /// The request made more calls between functions than one may.
    TooManyCalls = "too-many-calls", Any, Perhaps;
    /// The caller's address has too many requests under way.
    TooManyRequests = "too-many-requests", Unrouted, Never;
    /// No chain has this name.
    UnknownChain = "unknown-chain", Any, Perhaps;
    /// No function has this name, or none is served alone.
    UnknownFunction = "unknown-function", Unrouted, Perhaps;
    /// Nothing is served at this path.
    UnknownPath = "unknown-path", Unrouted, Perhaps;
    /// The worker process ended while it ran the invocation.
    WorkerLost = "worker-lost", Any, Perhaps;
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

/// What is known of a problem beyond its kind, where callers are told, or another attempt
/// depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Circumstance {
    /// Nothing.
    None,
    /// Of a header: there is no room to hand it over.
    NoRoom,
    /// Of an event: it is written or packed in a way that is not taken.
    Form,
    /// Of a function's error: its number, if it is small enough for a protocol's.
    Code(u16),
    /// Of a function elsewhere: nobody is there to run it now.
    Unavailable,
    /// The same: who runs it says that its time is over.
    Late,
    /// The same: it has the request for a bad one, by this number.
    Refused(u16),
    /// The same: it failed, by this number.
    Failed(u16),
}

impl Circumstance {
    /// What a function elsewhere ended with, by the number that HTTP and services of NATS
    /// have for it. One that is no error's says nothing.
    pub(super) fn told(code: u16) -> Self {
        match code {
            503 => Self::Unavailable,
            504 => Self::Late,
            400..=499 => Self::Refused(code),
            500 | 501 | 505..=599 => Self::Failed(code),
            0..=399 | 502 | 600.. => Self::None,
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) kind: ProblemKind,
    pub(super) circumstance: Circumstance,
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

impl Problem {
    /// Of which no more is known.
    pub(super) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            circumstance: Circumstance::None,
            detail: detail.into(),
            place: None,
            path: Vec::new(),
            retry_after: None,
            timings: None,
            answer: None,
            said: None,
        }
    }

    pub(super) fn with(self, circumstance: Circumstance) -> Self {
        Self {
            circumstance,
            ..self
        }
    }

    pub(super) fn retry(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// No step has been run, here or elsewhere: another node may take the request. What is
    /// not known to be unbegun counts as begun.
    pub(super) fn is_unbegun(&self) -> bool {
        // A later part of a chain is refused with the same words.
        self.kind.begun() == Begun::Never && self.timings.is_none()
    }
}

/// A message is larger than a chain's region.
pub(super) fn too_large(region: u64) -> Problem {
    Problem::new(
        ProblemKind::TooLarge,
        format!("the chain takes {region} bytes at most (`region` in its file)"),
    )
}

/// Bodies of others take all that there is.
pub(super) fn over_budget() -> Problem {
    Problem::new(
        ProblemKind::OverBudget,
        "the bodies of other requests take all the memory that there is for them",
    )
    .retry(1)
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
