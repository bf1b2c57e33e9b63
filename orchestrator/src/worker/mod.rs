//! The worker process: one thread, every chain's contexts, no HTTP.
//!
//! Its socket to the gateway is descriptor 0 when it starts. No context ever
//! has it: all are made without descriptors. It ends when the gateway closes
//! its end, and its contexts with it. It ends of itself when it can serve no
//! more, which the gateway mends by another.

// A cause that is new is met wherever causes are told apart.
#![warn(clippy::wildcard_enum_match_arm)]

pub(crate) mod frame;

use crate::chain_file::ChainId;
use crate::life::{
    AskedBy, Cause, CauseKind, Hop, LiveChain, Mechanism, MessageMeta, Output, Outside,
    OutsideCall, OutsideFailure, OutsideReply, Probes, Rollback, Variables,
};
use crate::printable::printable_line;
use frame::MOST_SAID;
use frame::{
    Answer, CallSpan, Calls, EdgeCalls, Failed, FailureMeta, HopTiming, Invoke, PREFIX, Prefix,
    RollbackTiming, Start, State, WorkerFigures,
};
use lwc::{MonotonicTime, Region, Secret};
use nix::sys::signal::{SigHandler, Signal, signal};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How often the contexts' memory is counted at most.
const MEMORY_EVERY: Duration = Duration::from_secs(10);
/// So many invocations in a row that the backend failed end the worker: once
/// may be the machine's passing want of memory or descriptors.
const BACKEND_FAILURES: u32 = 2;

/// Serves the gateway until it hangs up, as its worker of this number.
///
/// # Errors
/// When descriptor 0 is no socket of a gateway's, or the gateway breaks the
/// protocol.
pub fn run(number: usize) -> io::Result<()> {
    crate::title::set(&format!("lwc:w{number}"));
    // A signal that ends the gateway often goes to its whole process group, or to
    // every process of a service. The gateway drains first; then it hangs up.
    for s in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // SAFETY: no handler is installed, the signal is ignored.
        unsafe { signal(s, SigHandler::SigIgn) }?;
    }
    let mut socket = take_socket()?;
    let Some((frame::START, head, len)) = begin(&mut socket)? else {
        return Err(protocol_error("its first frame is not START"));
    };
    let start = frame::start(&head)?;
    let variables = take_variables(&mut socket, &start.variables, len)?;
    let mut chains = match bring_to_life(&start, variables) {
        Ok((mut chains, took)) => {
            let state = State {
                text: String::new(),
                took: micros(took),
                figures: take_figures(&mut chains, true),
                rollbacks: Vec::new(),
                mechanism: Some(mechanism(&chains)),
            };
            send(&mut socket, frame::IDLE, &state)?;
            chains
        }
        Err(text) => {
            let state = State {
                text,
                took: 0.0,
                figures: WorkerFigures::default(),
                rollbacks: Vec::new(),
                mechanism: None,
            };
            return send(&mut socket, frame::REFUSED, &state);
        }
    };
    drop(start);
    for chain in chains.values_mut() {
        chain.set_outside(Box::new(Gateway(socket.try_clone()?)));
    }
    let mut counted = Instant::now();
    let mut failures = 0;
    while let Some((kind, head, len)) = begin(&mut socket)? {
        if kind != frame::INVOKE {
            return Err(protocol_error("a frame that is not INVOKE"));
        }
        let begun = MonotonicTime::now();
        let invoke: Invoke = frame::head(&head)?;
        let chain = chains
            .get_mut(&invoke.chain)
            .filter(|c| len <= c.capacity())
            .ok_or_else(|| protocol_error("an invocation of no chain, or too large for it"))?;
        receive(&socket, chain.input(), len)?;
        let due = begun + Duration::from_micros(invoke.left);
        let meta = MessageMeta {
            content_type: invoke.content_type,
            attributes: invoke.attributes,
        };
        let asked_by = invoke
            .called
            .map_or_else(AskedBy::default, |called| AskedBy {
                callers: called.path,
                most_calls: called.calls_left,
            });
        let may = match asked_by.callers.last() {
            Some(caller) => chain.chain().called_by.contains(caller),
            None => chain.chain().called_by.is_empty(),
        };
        if !may {
            return Err(protocol_error("a call by a function that makes none"));
        }
        match chain.invoke_for(asked_by, len, meta, &invoke.id, Some(due)) {
            Ok((n, meta)) => {
                failures = 0;
                let answer = Answer {
                    content_type: meta.content_type,
                    attributes: meta.attributes,
                    ended: chain.has_ended(),
                    hops: chain.hops().iter().map(took).collect(),
                    calls: calls_of(chain, invoke.spans),
                };
                let head = frame::begin(frame::ANSWER, &answer, n)?;
                transmit(&socket, &head, chain.output(), n)?;
            }
            Err(failure) => {
                if failure.cause.fault().is_some() {
                    // The answer has not the address.
                    log::warn!("{failure}");
                }
                failures = match *failure.cause {
                    ref cause if cause.is_of_the_backend() => failures + 1,
                    _ => 0,
                };
                let (len, answer) = match failure.answer {
                    None => (0, None),
                    Some(answer) => (
                        answer.len,
                        Some(FailureMeta {
                            content_type: answer.meta.content_type,
                            attributes: answer.meta.attributes,
                        }),
                    ),
                };
                let said = |text: &str| printable_line(text, MOST_SAID);
                let reported = if let Cause::Reported { code, message } = &*failure.cause {
                    Some((*code, said(message)))
                } else {
                    None
                };
                let (code, reported) = reported.unzip();
                let failed = Failed {
                    step: failure.step + 1,
                    function: failure.function,
                    path: failure.path,
                    cause: failure.cause.kind(),
                    message: said(&failure.cause.to_string()),
                    code,
                    said: reported,
                    hops: chain.hops().iter().map(took).collect(),
                    answer,
                    calls: calls_of(chain, invoke.spans),
                };
                let head = frame::begin(frame::FAILED, &failed, len)?;
                transmit(&socket, &head, chain.output(), len)?;
            }
        }
        // The answer is on its way; the next request finds its copies rolled back,
        // or made.
        let begun = Instant::now();
        let spent = match chain.prepare() {
            Err(e) => Some(format!("making copies ready: {e}")),
            Ok(()) if failures >= BACKEND_FAILURES => Some(format!(
                "the backend failed {failures} invocations in a row"
            )),
            Ok(()) => None,
        };
        let took = micros(begun.elapsed());
        let rollbacks = chain.take_rollbacks().iter().map(timing).collect();
        if let Some(text) = spent {
            // Contexts are not mended in place: what broke them is not known.
            let figures = take_figures(&mut chains, false);
            let state = State {
                text,
                took,
                figures,
                rollbacks,
                mechanism: None,
            };
            return send(&mut socket, frame::SPENT, &state);
        }
        let due = counted.elapsed() >= MEMORY_EVERY;
        let state = State {
            text: String::new(),
            took,
            figures: take_figures(&mut chains, due),
            rollbacks,
            mechanism: None,
        };
        send(&mut socket, frame::IDLE, &state)?;
        if due {
            counted = Instant::now();
        }
    }
    Ok(())
}

/// The way of calls that leave the worker. While one is made, nothing else is under
/// way on the socket.
struct Gateway(UnixStream);

impl Outside for Gateway {
    fn call(&mut self, call: OutsideCall<'_>) -> OutsideReply {
        // A gateway that is gone ends this worker at the next frame.
        self.exchange(&call)
            .unwrap_or_else(|e| Cause::Elsewhere(format!("the gateway: {e}")).into())
    }
}

impl Gateway {
    fn exchange(&mut self, call: &OutsideCall<'_>) -> io::Result<OutsideReply> {
        let head = frame::Call {
            edge: call.edge,
            path: call.path.to_vec(),
            span: call.span,
            calls_left: call.calls_left,
            content_type: call.meta.content_type.clone(),
            attributes: call.meta.attributes.clone(),
            left: call.left.as_micros() as u64,
        };
        let head = frame::begin(frame::CALL, &head, call.len)?;
        let socket = &self.0;
        let sent = call.arguments.write_after(&head, 0, call.len, socket);
        whole(socket, sent)?;
        let (kind, head, len) =
            begin(&mut self.0)?.ok_or_else(|| protocol_error("the gateway has gone"))?;
        match kind {
            frame::REPLY if len <= call.reply.len() => {
                let head: frame::Reply = frame::head(&head)?;
                receive(&self.0, call.reply, len)?;
                let meta = MessageMeta {
                    content_type: head.content_type,
                    attributes: head.attributes,
                };
                Ok(OutsideReply {
                    len,
                    meta,
                    calls: head.calls,
                    failure: None,
                })
            }
            frame::NO_REPLY if len <= call.reply.len() => {
                let no: frame::NoReply = frame::head(&head)?;
                receive(&self.0, call.reply, len)?;
                let meta = no
                    .answer
                    .map_or_else(MessageMeta::default, |a| MessageMeta {
                        content_type: a.content_type,
                        attributes: a.attributes,
                    });
                let cause = match no.cause {
                    CauseKind::Error => Cause::Reported {
                        code: no.code.max(1),
                        message: no.message,
                    },
                    // Of another group all is told as it was.
                    kind if !no.path.is_empty() => Cause::InGroup {
                        kind,
                        message: no.message,
                    },
                    CauseKind::Timeout => Cause::Timeout(call.left),
                    CauseKind::Deadline => Cause::Deadline,
                    CauseKind::Crash
                    | CauseKind::TooBig
                    | CauseKind::Misbehaved
                    | CauseKind::TooManyCalls
                    | CauseKind::Remote
                    | CauseKind::Backend => Cause::Elsewhere(no.message),
                };
                let path = no.path;
                Ok(OutsideReply {
                    len,
                    meta,
                    calls: no.calls,
                    failure: Some(OutsideFailure { path, cause }),
                })
            }
            _ => Err(protocol_error("a frame that is no reply to a call")),
        }
    }
}

/// What the chains have done since this was last asked, and hold; their memory
/// if `all`.
fn take_figures(chains: &mut BTreeMap<ChainId, LiveChain>, all: bool) -> WorkerFigures {
    let mut figures = WorkerFigures::default();
    for chain in chains.values_mut() {
        let counts = chain.take_counts();
        figures.switches += counts.switches;
        figures.copies += counts.copies;
        figures.contexts += chain.contexts() as u64;
    }
    if all {
        let memory = chains.values().map(LiveChain::memory);
        let (private, shares): (Vec<u64>, Vec<Option<u64>>) = memory.unzip();
        figures.private = Some(private.into_iter().sum());
        figures.share = shares.into_iter().sum();
    }
    figures
}

/// Moves the socket away from descriptor 0, which becomes /dev/null.
fn take_socket() -> io::Result<UnixStream> {
    let socket = io::stdin().lock().as_raw_fd();
    let null = std::fs::File::open("/dev/null")?;
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor, which is ours alone.
    let socket = unsafe {
        let fd = libc::fcntl(socket, libc::F_DUPFD_CLOEXEC, 3);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: descriptor 0 is owned by nobody here but std's stdin, which
    // only ever reads from the number.
    if unsafe { libc::dup2(null.as_raw_fd(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let socket = UnixStream::from(socket);
    socket.peer_addr().map_err(|_| {
        protocol_error("descriptor 0 is no socket; `serve` starts workers, nobody else does")
    })?;
    Ok(socket)
}

/// Reads the values of variables onto pages of their own: they are nowhere
/// else in this process.
fn take_variables(
    socket: &mut UnixStream,
    named: &[(String, usize)],
    len: usize,
) -> io::Result<Variables> {
    let mut all = Variables::default();
    let mut left = len;
    for (name, len) in named {
        left = left
            .checked_sub(*len)
            .ok_or_else(|| protocol_error("variables longer than their frame"))?;
        let mut value = Secret::zeroed(*len).map_err(io::Error::other)?;
        socket.read_exact(&mut value)?;
        all.insert(name.clone(), value);
    }
    match left {
        0 => Ok(all),
        _ => Err(protocol_error("a frame longer than its variables")),
    }
}

fn bring_to_life(
    start: &Start,
    variables: Variables,
) -> Result<(BTreeMap<ChainId, LiveChain>, Duration), String> {
    let begun = Instant::now();
    let names: Vec<ChainId> = start.file.chains.keys().cloned().collect();
    let started = crate::life::start(
        &start.file,
        &names,
        &start.built,
        variables,
        Probes::Refused,
    )
    .map_err(|e| e.to_string())?;
    let mut chains = BTreeMap::new();
    for mut chain in started.chains {
        chain.prepare().map_err(|e| e.to_string())?;
        chains.insert(chain.chain().name.clone(), chain);
    }
    Ok((chains, begun.elapsed()))
}

fn took(hop: &Hop) -> HopTiming {
    HopTiming {
        at: micros(hop.at),
        copy: micros(hop.copy),
        run: micros(hop.run),
    }
}

/// The calls between functions of the last invocation; the first ones each by itself
/// if `spans`.
fn calls_of(chain: &LiveChain, spans: bool) -> Calls {
    let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let edges = chain.edge_calls().map(|(edge, calls)| {
        let buckets = calls.buckets.iter().copied().enumerate();
        let failed = CauseKind::ALL.into_iter().zip(calls.failed);
        EdgeCalls {
            edge,
            run: nanos(calls.run),
            buckets: buckets.filter(|(_, n)| *n > 0).collect(),
            failed: failed.filter(|(_, n)| *n > 0).collect(),
        }
    });
    let all = if spans { chain.call_spans() } else { &[] };
    let spans = all.iter().map(|span| CallSpan {
        edge: span.edge,
        within: span.within,
        at: nanos(span.at),
        run: nanos(span.run),
        failed: span.failed,
    });
    Calls {
        edges: edges.collect(),
        spans: spans.collect(),
    }
}

fn timing(rollback: &Rollback) -> RollbackTiming {
    RollbackTiming {
        step: rollback.step,
        way: rollback.way,
        at: micros(rollback.at),
        took: micros(rollback.took),
        pages: rollback.pages,
    }
}

/// By which means functions are rolled back here: the best that a chain has.
fn mechanism(chains: &BTreeMap<ChainId, LiveChain>) -> Mechanism {
    let all = chains.values().map(LiveChain::mechanism);
    all.max().unwrap_or(Mechanism::None)
}

fn micros(d: Duration) -> f64 {
    d.as_secs_f64() * 1e6
}

fn protocol_error(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Kind and head of the next frame and the length of its payload, which is
/// still in the socket; `None` when the gateway has hung up.
fn begin(socket: &mut UnixStream) -> io::Result<Option<(u8, Vec<u8>, usize)>> {
    let mut bytes = [0; PREFIX];
    match socket.read_exact(&mut bytes) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let prefix = Prefix::decode(bytes, frame::MAX_HEAD)
        .ok_or_else(|| protocol_error("a frame with a strange prefix"))?;
    let mut head = vec![0; prefix.head];
    socket.read_exact(&mut head)?;
    Ok(Some((prefix.kind, head, prefix.payload)))
}

fn send<T: Serialize>(socket: &mut UnixStream, kind: u8, head: &T) -> io::Result<()> {
    socket.write_all(&frame::begin(kind, head, 0)?)
}

/// Reads a payload into the region itself: it is nowhere else in this process.
fn receive(socket: &UnixStream, region: &Region, len: usize) -> io::Result<()> {
    match region.read_from(0, len, socket)? {
        n if n < len => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Writes an answer's head and, from the region itself, its bytes: as one piece, so that
/// the gateway is woken once.
fn transmit(socket: &UnixStream, head: &[u8], output: Output<'_>, len: usize) -> io::Result<()> {
    whole(socket, output.write_after(head, len, socket))
}

/// Half of a payload is none: the gateway sees the end of the stream.
fn whole<E: Into<io::Error>>(socket: &UnixStream, sent: Result<(), E>) -> io::Result<()> {
    sent.map_err(|e| {
        let _ = socket.shutdown(Shutdown::Both);
        e.into()
    })
}
