//! What can go wrong, named by chain, step, function and cause.

use super::attributes::MessageMeta;
use super::calls::path_text;
use super::snapshot::{end_of, word};
use crate::chain_file::{ChainId, FunctionName};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Why a function gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// It reported an error.
    #[error("reported an error: {message} (code {code})")]
    Reported {
        /// Its code, above 0.
        code: i32,
        /// Its message.
        message: String,
    },
    /// Its context ended.
    #[error("{0}")]
    Ended(#[from] EndText),
    /// It overran its time.
    #[error("overran its timeout of {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The caller's deadline passed.
    #[error("the caller's deadline passed")]
    Deadline,
    /// It claims an answer that its region cannot hold.
    #[error("claims an answer of {claimed} bytes; its region holds {capacity} (raise `region`)")]
    TooBig {
        /// What it claims.
        claimed: u64,
        /// What there is.
        capacity: u64,
    },
    /// It did not keep to the protocol with its host.
    #[error("misbehaved: {0}")]
    Misbehaved(String),
    /// The backend failed.
    #[error("{0}")]
    Backend(#[from] lwc::Error),
    /// A function that it called failed, and it could not go on without.
    #[error("{}: {cause}", path_text(path))]
    Called {
        /// Who called whom, from its callee to the one that failed.
        path: Vec<FunctionName>,
        /// Why.
        cause: Box<Cause>,
    },
    /// It called what it is not granted, past its own host.
    #[error("called a function that it has no grant for")]
    NotGranted,
    /// The request has made more calls than this.
    #[error("made most of the calls of a request that made more than {0}, which no request may")]
    TooManyCalls(u32),
    /// It runs elsewhere, and was not run, or nobody knows whether it was.
    #[error("{0}")]
    Elsewhere(String),
    /// It failed in a worker of another group, whose root says how. An error of its own
    /// is [`Reported`](Self::Reported) there too.
    #[error("{message}")]
    InGroup {
        /// Which of the causes it is.
        kind: CauseKind,
        /// What is known of it.
        message: String,
    },
    /// The backend has no context for it to run in.
    #[error("no copy of it can be made ready: {0}")]
    NoCopy(Box<Cause>),
}

impl Cause {
    /// Whether it is nothing that the function did, but the backend of this process.
    pub fn is_of_the_backend(&self) -> bool {
        match self {
            Self::Called { cause, .. } => cause.is_of_the_backend(),
            cause => matches!(cause, Self::Backend(_) | Self::NoCopy(_)),
        }
    }

    /// The address that the function touched and may not, for operators alone.
    pub fn fault(&self) -> Option<u64> {
        match self {
            Self::Ended(end) => end.fault,
            Self::Called { cause, .. } | Self::NoCopy(cause) => cause.fault(),
            _ => None,
        }
    }

    /// What a step's snapshot wakes the root for, in an invocation.
    pub(super) fn of_snapshot(args: &[u64]) -> Self {
        match args.first() {
            Some(&word::ENDED) => Self::Ended(EndText::from(end_of(args))),
            Some(&word::UNEXPECTED) => Self::Misbehaved(
                "it passed control to a context that it has no business with".into(),
            ),
            _ => Self::Misbehaved("its snapshot woke up".into()),
        }
    }

    /// Words of a step's copy that are no answer.
    pub(super) fn no_answer(args: &[u64]) -> Self {
        Self::Misbehaved(format!(
            "its context answered {:?} to an invocation",
            args.first()
        ))
    }

    /// Which of the causes it is, without what is known of it.
    pub fn kind(&self) -> CauseKind {
        match self {
            Self::Reported { .. } => CauseKind::Error,
            Self::Ended(_) => CauseKind::Crash,
            Self::Timeout(_) => CauseKind::Timeout,
            Self::Deadline => CauseKind::Deadline,
            Self::TooBig { .. } => CauseKind::TooBig,
            Self::Misbehaved(_) | Self::NotGranted => CauseKind::Misbehaved,
            Self::Called { cause, .. } => cause.kind(),
            Self::TooManyCalls(_) => CauseKind::TooManyCalls,
            Self::Elsewhere(_) => CauseKind::Remote,
            Self::InGroup { kind, .. } => *kind,
            Self::Backend(_) | Self::NoCopy(_) => CauseKind::Backend,
        }
    }
}

/// The causes of a failure, for programs: what JSON has as `cause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CauseKind {
    /// The function reported an error.
    Error,
    /// Its context ended.
    Crash,
    /// It overran its timeout.
    Timeout,
    /// The caller's deadline passed.
    Deadline,
    /// It claims an answer that its region cannot hold.
    TooBig,
    /// It did not keep to the protocol with its host.
    Misbehaved,
    /// The request made more calls than one may.
    TooManyCalls,
    /// A function that runs elsewhere could not be had.
    Remote,
    /// The backend failed: nothing that the function did.
    Backend,
}

impl CauseKind {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 9] = [
        Self::Error,
        Self::Crash,
        Self::Timeout,
        Self::Deadline,
        Self::TooBig,
        Self::Misbehaved,
        Self::TooManyCalls,
        Self::Remote,
        Self::Backend,
    ];
}

/// How a context ended, in words that help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct EndText {
    text: String,
    /// Where it touched what it may not. In no answer and in no message to a function:
    /// who can have a function crash would learn where things lie in memory.
    fault: Option<u64>,
}

impl EndText {
    /// As the backend tells it of one that it finds dead.
    pub(super) fn found_dead(e: &lwc::Error) -> Self {
        let text = format!("has ended while nobody waited for it: {e}");
        Self { text, fault: None }
    }
}

impl From<lwc::End> for EndText {
    fn from(end: lwc::End) -> Self {
        let hint = match end.signal {
            Some(libc::SIGSYS) => {
                let name = super::syscalls::name(end.address);
                let grant = match super::syscalls::may_be_of_thread(end.address) {
                    true if cfg!(target_os = "linux") => {
                        "; if it was to make a thread: threads = 4 grants four"
                    }
                    true => "; if it was to make a thread: no function has one more here",
                    false => "",
                };
                return Self {
                    text: format!(
                        "made a forbidden system call ({name}) and was killed by SIGSYS; functions may compute, allocate and use lwc_function.h{grant}"
                    ),
                    fault: None,
                };
            }
            Some(libc::SIGILL) => {
                " (an instruction that traps: a check of harden = \"bounds\", or one that the processor has not)"
            }
            Some(libc::SIGABRT) => " (abort, or an allocation beyond `memory`)",
            Some(libc::SIGSEGV) => {
                " (a wild pointer, the stack's end, or unchecked malloc beyond `memory`)"
            }
            _ => "",
        };
        let faults = matches!(end.signal, Some(libc::SIGSEGV | libc::SIGBUS));
        let said = format!("was {end}").replace("was exited", "exited");
        // What `End` says of it comes last.
        let said = said.split(" at 0x").next().unwrap_or_default();
        Self {
            text: format!("{said}{hint}"),
            fault: faults.then_some(end.address),
        }
    }
}

/// An invocation that failed. As a text it is for operators, with the address of a crash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chain {chain:?}, step {} of {steps}, function {function:?}{}: {cause}{} [invocation {id}]", .step + 1, by_calls(path), at(cause))]
pub struct Failure {
    /// The chain's name.
    pub chain: ChainId,
    /// The step, from 0.
    pub step: usize,
    /// How many steps the chain has.
    pub steps: usize,
    /// The function that failed.
    pub function: FunctionName,
    /// Who called whom, from the step's function to the one that failed; that one
    /// alone where it is the same.
    pub path: Vec<FunctionName>,
    /// Why.
    pub cause: Box<Cause>,
    /// The invocation's identity.
    pub id: String,
    /// What the function of `on_error` answered, if there is one and it did.
    pub answer: Option<Box<ErrorAnswer>>,
}

/// What the function of `on_error` answered to a failure; the bytes are in the
/// chain's [`output`](super::LiveChain::output).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// How many bytes.
    pub len: usize,
    /// What it says of them.
    pub meta: MessageMeta,
}

impl Failure {
    /// For programs, and for the function of `on_error`.
    pub fn to_json(&self) -> serde_json::Value {
        let mut told = serde_json::json!({
            "chain": self.chain,
            "step": self.step + 1,
            "function": self.function,
            "path": self.path,
            "cause": self.cause.kind(),
            "message": self.cause.to_string(),
            "invocation": self.id,
        });
        if let Cause::Reported { code, .. } = *self.cause {
            told["code"] = code.into();
        }
        told
    }
}

/// Where it crashed, for whoever runs it.
fn at(cause: &Cause) -> String {
    cause
        .fault()
        .map_or_else(String::new, |a| format!(" (address {a:#x})"))
}

/// A path that is worth telling, in brackets.
fn by_calls(path: &[FunctionName]) -> String {
    match path.len() {
        0 | 1 => String::new(),
        _ => format!(" ({})", path_text(path)),
    }
}

/// A chain that cannot be brought to life.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A secret cannot be had.
    #[error("secret {name:?} of function {function:?}: {what}")]
    Secret {
        /// The secret's name.
        name: String,
        /// The function it is for.
        function: FunctionName,
        /// What is wrong.
        what: String,
    },
    /// A variable of a function's environment cannot be had.
    #[error(
        "variable {name:?} in `env` of function {function:?}: {what}, or give it a text in the file"
    )]
    Variable {
        /// The name that the function knows.
        name: String,
        /// The function that is granted it.
        function: FunctionName,
        /// What is wrong.
        what: String,
    },
    /// A function could not be loaded or initialised.
    #[error("chain {chain:?}, step {}, function {function:?}: {what}", .step + 1)]
    Function {
        /// The chain's name.
        chain: ChainId,
        /// The step, from 0.
        step: usize,
        /// The function's name.
        function: FunctionName,
        /// What is wrong.
        what: String,
    },
    /// It has no steps, which no chain file can say.
    #[error("chain {chain:?} has no steps")]
    NoSteps {
        /// The chain's name.
        chain: ChainId,
    },
    /// A step runs on another node.
    #[error("function {function:?} runs elsewhere, at {place}; only `serve` reaches it")]
    Elsewhere {
        /// The function's name.
        function: FunctionName,
        /// The subject or the URL where it is asked.
        place: String,
    },
    /// Tracing cannot be forbidden (FreeBSD).
    #[error("this process can be traced, and stays so: {0}; detach the debugger")]
    Traced(std::io::Error),
    /// The backend failed.
    #[error("{0}")]
    Backend(#[from] lwc::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_of_cause_is_left_out() {
        for (place, kind) in CauseKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            // A new one is a new line here, and has its place in the list.
            match kind {
                CauseKind::Error
                | CauseKind::Crash
                | CauseKind::Timeout
                | CauseKind::Deadline
                | CauseKind::TooBig
                | CauseKind::Misbehaved
                | CauseKind::TooManyCalls
                | CauseKind::Remote
                | CauseKind::Backend => {}
            }
        }
    }
}
