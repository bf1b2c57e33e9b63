//! Frames between the gateway and a worker, over a Unix stream socket.
//!
//! ```text
//!  byte 0    kind
//!  4..8      length of the head, native order (both ends are one program)
//!  8..16     length of the payload
//!  then      the head, the payload (bytes)
//! ```
//!
//! A head is one of the types below in the layout of postcard (fields in their order,
//! numbers of variable length), that of `START` is JSON. Prefix and head are read once.
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
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

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
pub(crate) fn begin<T: Serialize>(kind: u8, head: &T, payload: usize) -> io::Result<Vec<u8>> {
    // Most heads are shorter.
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(&[0; PREFIX]);
    let out = postcard::to_extend(head, out).map_err(io::Error::other)?;
    Ok(behind_prefix(kind, out, payload))
}

/// The first frame, whose head is what no fixed layout has.
pub(crate) fn begin_start(head: &Start, payload: usize) -> io::Result<Vec<u8>> {
    let mut out = vec![0; PREFIX];
    serde_json::to_writer(&mut out, head)?;
    Ok(behind_prefix(START, out, payload))
}

/// Puts a prefix into the room that is left for it before a head.
fn behind_prefix(kind: u8, mut out: Vec<u8>, payload: usize) -> Vec<u8> {
    let prefix = Prefix {
        kind,
        head: out.len() - PREFIX,
        payload,
    };
    out[..PREFIX].copy_from_slice(&prefix.encode());
    out
}

/// What a head says, of any frame but `START`.
///
/// # Errors
/// It says no such thing, or more.
pub(crate) fn head<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let (head, rest) = postcard::take_from_bytes(bytes).map_err(invalid)?;
    match rest {
        [] => Ok(head),
        _ => Err(invalid("bytes behind the head of a frame")),
    }
}

/// What the head of `START` says.
///
/// # Errors
/// It says no such thing.
pub(crate) fn start(bytes: &[u8]) -> io::Result<Start> {
    Ok(serde_json::from_slice(bytes)?)
}

fn invalid(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
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
/// (`life/recorder.rs`). Told with each answer, so in few bytes: of what is not 0 alone.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Calls {
    /// Of each edge that had some.
    pub(crate) edges: Vec<EdgeCalls>,
    /// The first ones, each by itself.
    pub(crate) spans: Vec<CallSpan>,
}

/// As [`crate::life::recorder::EdgeCalls`]; in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EdgeCalls {
    pub(crate) edge: usize,
    pub(crate) run: u64,
    /// Bucket, and how many are in it.
    pub(crate) buckets: Vec<(usize, u32)>,
    pub(crate) failed: Vec<(CauseKind, u32)>,
}

/// As [`crate::life::recorder::CallSpan`]; in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallSpan {
    pub(crate) edge: usize,
    pub(crate) within: Option<usize>,
    pub(crate) at: u64,
    pub(crate) run: u64,
    pub(crate) failed: Option<CauseKind>,
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
    /// Their share of memory, as often, where the backend tells it.
    pub(crate) share: Option<u64>,
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
        let frame = begin(ANSWER, &calls, 5).unwrap();
        let (prefix, told) = frame.split_at(PREFIX);
        let prefix = Prefix::decode(prefix.try_into().unwrap(), MAX_TOLD).unwrap();
        assert_eq!((prefix.kind, prefix.payload), (ANSWER, 5));
        assert_eq!((prefix.head, told.len()), (16, 16));
        let back: Calls = head(told).unwrap();
        assert_eq!((back.edges, back.spans), (calls.edges, calls.spans));
        assert_eq!(
            begin(ANSWER, &Calls::default(), 0).unwrap().len(),
            PREFIX + 2
        );
    }

    /// Whatever a worker that lies says in a frame, it is read or refused.
    #[test]
    fn a_head_that_is_none_is_refused() {
        let state = State {
            text: "x".repeat(40),
            took: 1.5,
            figures: WorkerFigures::default(),
            rollbacks: Vec::new(),
            mechanism: Some(Mechanism::Userfaultfd),
        };
        let frame = begin(IDLE, &state, 0).unwrap();
        let told = &frame[PREFIX..];
        assert!(head::<State>(told).is_ok());
        for short in 0..told.len() {
            assert!(head::<State>(&told[..short]).is_err(), "{short} bytes");
        }
        let longer = [told, &[0]].concat();
        assert!(head::<State>(&longer).is_err());
        // A list of more than there can be.
        let mut long = vec![0; 8];
        long.extend([0xff; 9]);
        assert!(head::<State>(&long).is_err());
        assert!(head::<Calls>(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
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
