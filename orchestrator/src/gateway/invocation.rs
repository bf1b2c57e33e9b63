//! One invocation of a chain, from its request to its end. Who brought the request has
//! put it into our words, and tells the caller the end in his own ([`Adapter`]): what is
//! here knows no protocol.

use super::Gateway;
use super::budget::Room;
use super::circuit::Outcome;
use super::generation::given_up;
use super::message::{self, ChainInput, EventMode};
use super::problem::{Problem, ProblemKind, StepTimings, over_budget, too_large};
use super::queue::{Answer, queue_full};
use super::route;
use super::trace::{Trace, random};
use crate::chain_file::{ChainId, FunctionName};
use crate::life::MessageMeta;
use bytes::Bytes;
use std::borrow::Cow;
use std::time::SystemTime;
use tokio::time::Instant;

/// The number in our records of one whose caller went: it was told none. Others write
/// the same.
const NOBODY_TOLD: u16 = 499;

/// How an invocation ended.
pub(super) type End = Result<Answer, Problem>;

/// Between a caller and the core: HTTP, NATS.
pub(super) trait Adapter {
    /// What the caller gets.
    type Reply;

    /// The request in our words, but for its body.
    ///
    /// # Errors
    /// It cannot be put so.
    fn asked(&self, call: &Call<'_>) -> Result<Asked, Problem>;

    /// The body, which takes room.
    ///
    /// # Errors
    /// It is larger than the chain takes, there is no room, or it does not come.
    fn body(
        &mut self,
        call: &Call<'_>,
        deadline: Instant,
        room: &mut Room,
    ) -> impl Future<Output = Result<Bytes, Problem>> + Send;

    /// Puts the end into the caller's words, whose bytes have the room until they have been
    /// taken. The number is for our records.
    fn reply(&self, call: &Call<'_>, end: &End, room: Room) -> (Self::Reply, u16);
}

/// What a request asks for.
pub(super) struct Asked {
    pub(super) deadline: Instant,
    pub(super) meta: MessageMeta,
    /// How its event travels, if it must be one.
    pub(super) event: Option<EventMode>,
}

/// What is known of an invocation before its message.
pub(super) struct Call<'a> {
    pub(super) chain: &'a ChainId,
    pub(super) input: &'a ChainInput,
    pub(super) id: String,
    /// The caller's name for it, if there is one.
    pub(super) named: Option<&'a str>,
    pub(super) trace: Trace,
    /// How it came, in OpenTelemetry's words.
    pub(super) trigger: &'static str,
    pub(super) begun: Instant,
    /// The same on the clock of traces.
    pub(super) since: SystemTime,
}

impl<'a> Call<'a> {
    /// Of a request that began just now; `id`, where its message had one before it came.
    pub(super) fn new(
        (chain, input): (&'a ChainId, &'a ChainInput),
        id: Option<String>,
        named: Option<&'a str>,
        trace: Trace,
        trigger: &'static str,
        begun: Instant,
    ) -> Self {
        Self {
            chain,
            input,
            id: id.unwrap_or_else(|| format!("{:016x}", random())),
            named,
            trace,
            trigger,
            begun,
            since: SystemTime::now() - begun.elapsed(),
        }
    }

    /// The caller's name for it, or ours again.
    pub(super) fn call_id(&self) -> &str {
        self.named.unwrap_or(&self.id)
    }
}

/// Runs a chain on a message, and tells the caller what came of it. The end comes with
/// what was told.
pub(super) async fn invoke<A: Adapter>(
    gateway: &Gateway,
    call: &Call<'_>,
    mut adapter: A,
) -> (A::Reply, End) {
    let mut leaving = Leaving {
        gateway,
        call,
        over: false,
    };
    let mut room = gateway.budgets.room();
    let end = attempt(gateway, call, &mut adapter, &mut room).await;
    leaving.over = true;
    let end = fits(end, &mut room);
    let took = call.begun.elapsed().as_secs_f64();
    let cause = end.as_ref().err().map(|p| p.kind);
    gateway.metrics.invoked(call.chain, cause, took);
    let calls = match &end {
        Ok(answer) => Some(&answer.calls),
        Err(problem) => problem.timings.as_ref().map(|t| &t.calls),
    };
    if let Some(calls) = calls {
        gateway.metrics.called(call.chain, calls);
    }
    let steps = gateway.steps(call.chain);
    if let Ok(answer) = &end {
        if answer.hops.iter().any(|h| h.copy > 0.0) {
            gateway.metrics.was_cold(call.chain);
        }
        for (i, (hop, function)) in answer.hops.iter().zip(&steps).enumerate() {
            gateway
                .metrics
                .hop(call.chain, i + 1, function, hop.run / 1e6);
        }
    }
    let (reply, status) = adapter.reply(call, &end, room);
    report(call, &end, status, took);
    if let (Some(notes), Err(problem)) = (&gateway.notes, &end) {
        notes.failed(call.chain, &call.id, status, problem);
    }
    if let Some(spans) = &gateway.spans {
        spans.invoked(call, &steps, &end, status);
    }
    (reply, end)
}

async fn attempt(
    gateway: &Gateway,
    call: &Call<'_>,
    adapter: &mut impl Adapter,
    room: &mut Room,
) -> End {
    if gateway.is_draining() {
        return Err(Problem::new(ProblemKind::Draining, "this server is shutting down").retry(5));
    }
    let Asked {
        deadline,
        meta,
        event,
    } = adapter.asked(call)?;
    // Told before its body comes: whoever is turned away costs little.
    if gateway.generation().is_full(call.chain) {
        return Err(queue_full());
    }
    let body = gateway.unless_given_up(adapter.body(call, deadline, room));
    let body = body.await.unwrap_or_else(|| Err(given_up(false)))?;
    let (meta, body) = message::decode_body(meta, event, body, &call.trace)?;
    let mut pass = gateway.circuits.admit(call.chain)?;
    let end = route::run(gateway, call, meta, body, deadline).await;
    pass.outcome = match &end {
        Ok(_) => Outcome::Completed,
        Err(problem) => Outcome::of(problem),
    };
    end
}

/// An answer for which there is room, until its caller has taken it: a client of HTTP/2 may
/// ask for many, and take none. Of one that is told in the place of a failure there is the
/// failure.
fn fits(end: End, room: &mut Room) -> End {
    match end {
        Ok(answer) if room.change(answer.body.len() as u64) => Ok(answer),
        Ok(answer) => {
            let what = "there is an answer, and bodies of other requests and answers take all the memory that there is for it";
            let mut problem = Problem::new(ProblemKind::OverBudget, what);
            // It has been run, and nobody runs it again.
            problem.timings = Some(Box::new(StepTimings {
                hops: answer.hops,
                calls: answer.calls,
                handed: answer.handed,
            }));
            Err(problem)
        }
        Err(mut problem) => {
            let len = problem.answer.as_ref().map_or(0, |a| a.1.len());
            if !room.change(len as u64) {
                problem.answer = None;
                let _ = room.change(0);
            }
            Err(problem)
        }
    }
}

/// A body that is here already.
pub(super) fn whole(body: Bytes, input: &ChainInput, room: &mut Room) -> Result<Bytes, Problem> {
    let len = body.len() as u64;
    if len > input.body_limit() {
        return Err(too_large(input.region));
    }
    match room.take(len) {
        true => Ok(body),
        false => Err(over_budget()),
    }
}

/// One line of the log for an invocation.
fn report(call: &Call<'_>, end: &End, status: u16, took: f64) {
    let Call {
        chain, id, trace, ..
    } = call;
    let (id, call_id) = (id.as_str(), call.call_id());
    let named = match id == call_id {
        true => Cow::Borrowed(id),
        false => format!("{id}, call {call_id}").into(),
    };
    let chain = chain.as_str();
    let (trace_id, span_id) = (trace.trace_id(), trace.span_id());
    let ms = took * 1e3;
    match end {
        Ok(_) => log::info!(
            target: "invocation", invocation_id = id, call_id, chain, trace_id, span_id, status,
            duration_ms = ms;
            "{chain} [{named}] trace {trace_id}: answered in {ms:.3} ms"
        ),
        Err(p) => {
            let function = p.place.as_ref().map_or("", |p| p.1.as_str());
            let names: Vec<&str> = p.path.iter().map(FunctionName::as_str).collect();
            let path = match names.len() {
                0 | 1 => function.to_owned(),
                _ => names.join(" → "),
            };
            let of = if path.is_empty() { "" } else { ": " };
            log::warn!(
                target: "invocation", invocation_id = id, call_id, chain, trace_id, span_id, status,
                cause = p.kind.as_str(), function, path, duration_ms = ms;
                "{chain} [{named}] trace {trace_id}: {status} {} after {ms:.3} ms{of}{path}: {}",
                p.kind, p.detail
            );
        }
    }
}

/// An invocation whose caller may leave: whoever waits for it is then dropped, and it is
/// counted and told here.
struct Leaving<'a> {
    gateway: &'a Gateway,
    call: &'a Call<'a>,
    over: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (gateway, call) = (self.gateway, self.call);
        let problem = Problem::new(
            ProblemKind::ClientGone,
            "its caller went before there was an answer",
        );
        let took = call.begun.elapsed().as_secs_f64();
        gateway
            .metrics
            .invoked(call.chain, Some(problem.kind), took);
        let end = Err(problem);
        report(call, &end, NOBODY_TOLD, took);
        if let Some(spans) = &gateway.spans {
            spans.invoked(call, &gateway.steps(call.chain), &end, NOBODY_TOLD);
        }
    }
}
