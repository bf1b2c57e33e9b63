//! Frames between the gateway and a worker, over a Unix stream socket.
//!
//! ```text
//!  byte 0    kind
//!  4..8      length of the head, native order (both ends are one program)
//!  8..16     length of the payload
//!  then      the head (JSON), the payload (bytes)
//! ```
//!
//! The gateway sends `START` once, then one `INVOKE` at a time. The worker
//! answers `START` by `IDLE` or `REFUSED`, and an `INVOKE` by `ANSWER` or
//! `FAILED`, then, when it is ready for the next, `IDLE`; or `SPENT` when it
//! can serve no more, and ends. Before it answers it may send `CALL`s, one at a
//! time, for functions that run elsewhere or in workers of other groups; each is
//! answered by `REPLY` or `NO_REPLY`.

use crate::build::Built;
use crate::chain_file::{ChainFile, ChainId, FunctionName};
use crate::life::{Attributes, CauseKind, Mechanism, RollbackWay};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(crate) const START: u8 = 1;
pub(crate) const INVOKE: u8 = 2;
pub(crate) const REPLY: u8 = 3;
pub(crate) const NO_REPLY: u8 = 4;
pub(crate) const IDLE: u8 = 10;
pub(crate) const REFUSED: u8 = 11;
pub(crate) const ANSWER: u8 = 12;
pub(crate) const FAILED: u8 = 13;
pub(crate) const SPENT: u8 = 14;
pub(crate) const CALL: u8 = 15;

pub(crate) const PREFIX: usize = 16;
/// The longest head: a chain file is at most 1 MiB.
pub(crate) const MAX_HEAD: usize = 16 << 20;
/// The longest that a worker tells: a chain's calls are by far the most of it.
pub(crate) const MAX_TOLD: usize = 1 << 20;

/// What a frame begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) kind: u8,
    pub(crate) head: usize,
    pub(crate) payload: usize,
}

impl Prefix {
    pub(crate) fn encode(self) -> [u8; PREFIX] {
        let mut out = [0; PREFIX];
        out[0] = self.kind;
        out[4..8].copy_from_slice(&(self.head as u32).to_ne_bytes());
        out[8..].copy_from_slice(&(self.payload as u64).to_ne_bytes());
        out
    }

    /// `None` for one that no end of ours sends; `most` bytes are in a head.
    pub(crate) fn decode(bytes: [u8; PREFIX], most: usize) -> Option<Self> {
        let [kind, _, _, _, a, b, c, d, payload @ ..] = bytes;
        let head = u32::from_ne_bytes([a, b, c, d]) as usize;
        let payload = usize::try_from(u64::from_ne_bytes(payload)).ok()?;
        (head <= most).then_some(Self {
            kind,
            head,
            payload,
        })
    }
}

/// Prefix and head as one piece of bytes.
pub(crate) fn begin<T: Serialize>(
    kind: u8,
    head: &T,
    payload: usize,
) -> Result<Vec<u8>, serde_json::Error> {
    let head = serde_json::to_vec(head)?;
    let prefix = Prefix {
        kind,
        head: head.len(),
        payload,
    };
    let mut out = Vec::with_capacity(PREFIX + head.len());
    out.extend_from_slice(&prefix.encode());
    out.extend_from_slice(&head);
    Ok(out)
}

/// Head of `START`: the chain file as the gateway understood it, so that a
/// worker that starts later, when the file has changed, is like the others. The
/// payload is the values of `variables`, one behind the other.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) file: ChainFile,
    pub(crate) built: BTreeMap<FunctionName, Built>,
    /// Variables of the gateway's environment that functions take secrets from:
    /// names, and lengths of their values. A worker has no environment.
    pub(crate) variables: Vec<(String, usize)>,
}

/// Head of `INVOKE`; the payload is the input.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Invoke {
    pub(crate) chain: ChainId,
    pub(crate) id: String,
    pub(crate) content_type: String,
    pub(crate) attributes: Attributes,
    /// Microseconds until the caller's deadline.
    pub(crate) left: u64,
    /// Whether the first calls are to be told each by itself.
    pub(crate) spans: bool,
    /// Where the chain is a function that others of other groups call.
    pub(crate) called: Option<Called>,
}

/// By whom a function is called whose callers are in other workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Called {
    /// Who waits for it, from the step's function to its caller.
    pub(crate) path: Vec<FunctionName>,
    /// How many calls it may make, and those that it calls.
    pub(crate) calls_left: u32,
}

/// Head of `CALL`; the payload is the arguments.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    /// Of the tree of the chain, to a function that has no context here.
    pub(crate) edge: usize,
    /// Who waits for it, from the step's function to its caller.
    pub(crate) path: Vec<FunctionName>,
    /// Its place among the calls that are told each by itself.
    pub(crate) span: Option<usize>,
    /// How many calls more there may be, by the worker's own count.
    pub(crate) calls_left: u32,
    pub(crate) content_type: String,
    pub(crate) attributes: Attributes,
    /// Microseconds that it may take.
    pub(crate) left: u64,
}

/// Head of `REPLY`; the payload, no more than a region holds, is the reply.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) content_type: String,
    pub(crate) attributes: Attributes,
    /// How many calls were made for it.
    pub(crate) calls: u32,
}

/// Head of `NO_REPLY`; the payload is what a function has answered beside an error of
/// its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NoReply {
    /// Of a function elsewhere one of these: `Error`, `Timeout`, `Remote`; and
    /// `Deadline` where the request's is over.
    pub(crate) cause: CauseKind,
    /// With `Error`: the function's own.
    pub(crate) code: i32,
    pub(crate) message: String,
    /// From the callee to the function that failed, where the callee is one of another
    /// group; else empty.
    pub(crate) path: Vec<FunctionName>,
    /// How many calls were made.
    pub(crate) calls: u32,
    /// What is said of the payload.
    pub(crate) answer: Option<FailureMeta>,
}

/// Head of `ANSWER`; the payload is the answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) content_type: String,
    pub(crate) attributes: Attributes,
    /// A step has ended the request with it, perhaps before the last.
    pub(crate) ended: bool,
    pub(crate) hops: Vec<HopTiming>,
    pub(crate) calls: Calls,
}

/// When one hop began, from the beginning of the invocation, and what it took,
/// in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct HopTiming {
    pub(crate) at: f64,
    pub(crate) copy: f64,
    pub(crate) run: f64,
}

/// Characters of what is said of a failure.
pub(crate) const MOST_SAID: usize = 1024;

/// Head of `FAILED`; the payload is what the function of `on_error` answered, or one that
/// is called from another group beside an error of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// From 1.
    pub(crate) step: usize,
    pub(crate) function: FunctionName,
    /// As of a [`Failure`](crate::life::Failure).
    pub(crate) path: Vec<FunctionName>,
    pub(crate) cause: CauseKind,
    pub(crate) message: String,
    /// What the function reported, where it did.
    pub(crate) code: Option<i32>,
    /// And with which words.
    pub(crate) said: Option<String>,
    /// Of the steps up to this one.
    pub(crate) hops: Vec<HopTiming>,
    /// What is said of the payload.
    pub(crate) answer: Option<FailureMeta>,
    pub(crate) calls: Calls,
}

/// As of an [`Answer`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FailureMeta {
    pub(crate) content_type: String,
    pub(crate) attributes: Attributes,
}

/// The calls between functions in an invocation, by the root's own record
/// (`life/recorder.rs`). Told with each answer, so in few bytes: lists of numbers, and of
/// what is not 0 alone.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Calls {
    /// Of each edge that had some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) edges: Vec<EdgeCalls>,
    /// The first ones, each by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) spans: Vec<CallSpan>,
}

/// As [`crate::life::recorder::EdgeCalls`]; in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "EdgeWords", into = "EdgeWords")]
pub(crate) struct EdgeCalls {
    pub(crate) edge: usize,
    pub(crate) run: u64,
    /// Bucket, and how many are in it.
    pub(crate) buckets: Vec<(usize, u32)>,
    pub(crate) failed: Vec<(CauseKind, u32)>,
}

type EdgeWords = (usize, u64, Vec<(usize, u32)>, Vec<(CauseKind, u32)>);

/// As [`crate::life::recorder::CallSpan`]; in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SpanWords", into = "SpanWords")]
pub(crate) struct CallSpan {
    pub(crate) edge: usize,
    pub(crate) within: Option<usize>,
    pub(crate) at: u64,
    pub(crate) run: u64,
    pub(crate) failed: Option<CauseKind>,
}

type SpanWords = (usize, Option<usize>, u64, u64, Option<CauseKind>);

impl From<EdgeWords> for EdgeCalls {
    fn from((edge, run, buckets, failed): EdgeWords) -> Self {
        Self {
            edge,
            run,
            buckets,
            failed,
        }
    }
}

impl From<EdgeCalls> for EdgeWords {
    fn from(e: EdgeCalls) -> Self {
        (e.edge, e.run, e.buckets, e.failed)
    }
}

impl From<SpanWords> for CallSpan {
    fn from((edge, within, at, run, failed): SpanWords) -> Self {
        Self {
            edge,
            within,
            at,
            run,
            failed,
        }
    }
}

impl From<CallSpan> for SpanWords {
    fn from(s: CallSpan) -> Self {
        (s.edge, s.within, s.at, s.run, s.failed)
    }
}

/// Head of `IDLE`, `REFUSED` and `SPENT`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// Why not, for `REFUSED` and `SPENT`.
    pub(crate) text: String,
    /// Microseconds that bringing all chains to life, or making the used
    /// copies anew, took.
    pub(crate) took: f64,
    pub(crate) figures: WorkerFigures,
    /// What was done to the contexts of the last invocation since its answer.
    pub(crate) rollbacks: Vec<RollbackTiming>,
    /// By which means that is done; told once all chains live.
    pub(crate) mechanism: Option<Mechanism>,
}

/// A rollback: as [`Rollback`](crate::life::Rollback), in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct RollbackTiming {
    /// From 0.
    pub(crate) step: usize,
    pub(crate) way: RollbackWay,
    pub(crate) at: f64,
    pub(crate) took: f64,
    pub(crate) pages: Option<u64>,
}

/// What a worker has done since it last told, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerFigures {
    /// Round trips of lwSwitch between the root and a function's context.
    pub(crate) switches: u64,
    /// Copies made of snapshots.
    pub(crate) copies: u64,
    /// Contexts that live, the root not counted.
    pub(crate) contexts: u64,
    /// Bytes that are these contexts' alone; now and then, as counting them is
    /// slow.
    pub(crate) private: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_in_few_bytes() {
        let calls = Calls {
            edges: vec![EdgeCalls {
                edge: 3,
                run: 12_000,
                buckets: vec![(4, 2)],
                failed: vec![(CauseKind::TooBig, 1)],
            }],
            spans: vec![CallSpan {
                edge: 3,
                within: None,
                at: 7,
                run: 8,
                failed: None,
            }],
        };
        let text = serde_json::to_string(&calls).unwrap();
        assert_eq!(
            text,
            r#"{"edges":[[3,12000,[[4,2]],[["too-big",1]]]],"spans":[[3,null,7,8,null]]}"#
        );
        let back: Calls = serde_json::from_str(&text).unwrap();
        assert_eq!((back.edges, back.spans), (calls.edges, calls.spans));
        assert_eq!(serde_json::to_string(&Calls::default()).unwrap(), "{}");
    }

    #[test]
    fn a_prefix_comes_back_as_it_went() {
        let p = Prefix {
            kind: INVOKE,
            head: 77,
            payload: 1 << 40,
        };
        assert_eq!(Prefix::decode(p.encode(), 77), Some(p));
        assert_eq!(Prefix::decode(p.encode(), 76), None);
    }
}
