//! A job for a worker, from its queue to its answer, and the calls that it makes.
//!
//! ```text
//!   route.rs ─job─▶ queue ─▶ worker of `a` ─CALL─▶ here ─▶ elsewhere.rs: NATS, HTTP
//!                                                    └─job─▶ queue ─▶ worker of `b` ─▶ …
//! ```
//!
//! A function has no socket. A call of one that its worker has not comes
//! ([`OutsideCall`]) to the task that waits for the worker's answer, which has it made.
//! It comes from a worker process, which hostile code may have taken over: only what the
//! chain file grants to the functions that the worker has gets here (`told.rs`).

use super::Gateway;
use super::elsewhere;
use super::generation::{self, Lease};
use super::invocation::Call;
use super::problem::{Problem, ProblemKind};
use super::queue::{Answer, Job, Made, NotAnswered, OutsideCall};
use crate::chain_file::{ChainId, Function};
use crate::life::{CauseKind, MessageMeta};
use crate::worker::frame::Called;
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// How much later than its deadline a call from another group is given up.
const LATE: Duration = Duration::from_secs(1);

/// What a worker is to do.
pub(super) struct Wanted<'a> {
    pub(super) meta: MessageMeta,
    pub(super) body: Bytes,
    pub(super) deadline: Instant,
    /// By whom, and the function, where it is a call from another group.
    pub(super) called: Option<(Called, &'a Function)>,
}

/// Puts a job into its queue and waits for its answer.
pub(super) async fn run(
    gateway: &Gateway,
    lease: &Lease,
    call: &Call<'_>,
    chain: &ChainId,
    wanted: Wanted<'_>,
) -> Result<Answer, Problem> {
    let Wanted {
        meta,
        body,
        deadline,
        called,
    } = wanted;
    let (called, callee) = called.unzip();
    let taken = Arc::new(AtomicBool::new(false));
    let is_taken = || taken.load(Ordering::Acquire);
    // Before the channel of its answer, which so goes first.
    let _waiting = Waiting {
        lease,
        chain,
        taken: &taken,
    };
    let (answer, mut answered) = oneshot::channel();
    let (outside, mut calls) = mpsc::channel(1);
    lease.push(Job {
        chain: chain.clone(),
        id: call.id.clone(),
        meta,
        body,
        deadline,
        since: Instant::now(),
        trace: gateway.spans.as_ref().and(Some(call.trace.clone())),
        called,
        taken: Arc::clone(&taken),
        outside,
        answer,
    })?;
    // A caller holds a worker: it waits for another no longer than for the function.
    let mut looks = callee.is_some();
    let left = deadline.saturating_duration_since(Instant::now());
    // Before its own time is over, which it has not used: it is told that there was none.
    let patience = |f: &Function| f.timeout.min(left - left / 8);
    let taken_by = Instant::now() + callee.map_or(Duration::ZERO, patience);
    let waited = async {
        loop {
            tokio::select! {
                result = &mut answered => return Ok(result),
                // The worker waits for each before it goes on.
                Some(away) = calls.recv() => serve(gateway, lease, call, away).await,
                () = sleep_until(taken_by), if looks => match callee {
                    Some(callee) if !is_taken() => return Err(none_free(callee)),
                    _ => looks = false,
                }
            }
        }
    };
    let result = match timeout_at(deadline, waited).await {
        Ok(result) => result?,
        // The worker ends it, or is ended; either way it answers.
        Err(_) if is_taken() => {
            // Its calls are refused from now on.
            drop(calls);
            match callee {
                None => answered.await,
                // A caller that is no worse than it has not to be late for it.
                Some(_) => match timeout(LATE, answered).await {
                    Ok(result) => result,
                    Err(_) => {
                        return Err(Problem::new(
                            ProblemKind::Deadline,
                            "the deadline passed and the function could not be stopped",
                        ));
                    }
                },
            }
        }
        Err(_) => {
            return Err(Problem::new(
                ProblemKind::Deadline,
                "the deadline passed before a worker was free",
            ));
        }
    };
    // Its sender is gone: nobody runs it any more.
    result.unwrap_or_else(|_| Err(generation::given_up(is_taken())))
}

/// Somebody who waits for a job's answer: who goes, or has waited for long enough, leaves
/// nothing in the queue. (The room of its body is somebody else's from then on.)
struct Waiting<'a> {
    lease: &'a Lease,
    chain: &'a ChainId,
    taken: &'a Arc<AtomicBool>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A worker that has it lets it go, or looks who waits before it gives it back.
        if !self.taken.load(Ordering::Acquire) {
            self.lease.withdraw(self.chain, self.taken);
        }
    }
}

fn none_free(callee: &Function) -> Problem {
    let Function {
        name,
        group,
        timeout,
        ..
    } = callee;
    Problem::new(
        ProblemKind::NoWorker,
        format!(
            "no worker of the group {group:?} was free for {name:?} in time (its timeout is {})",
            humantime::format_duration(*timeout)
        ),
    )
}

/// Has a call made, and tells its worker what came of it.
fn serve<'a>(
    gateway: &'a Gateway,
    lease: &'a Lease,
    call: &'a Call<'a>,
    outside: OutsideCall,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    // Boxed: what is called may call others.
    Box::pin(async move {
        let (reply, result) = made(gateway, lease, call, outside).await;
        // The worker may have been given up meanwhile.
        let _ = reply.send(result);
    })
}

async fn made(
    gateway: &Gateway,
    lease: &Lease,
    call: &Call<'_>,
    outside: OutsideCall,
) -> (oneshot::Sender<Made>, Made) {
    let OutsideCall {
        function,
        path,
        meta,
        body,
        left,
        calls_left,
        reply,
    } = outside;
    let until = Instant::now() + left;
    let Some(callee) = lease.file().functions.get(&function) else {
        let why = "it is not in the chain file";
        return (reply, Err(NotAnswered::elsewhere(CauseKind::Remote, why)));
    };
    if callee.origin.elsewhere().is_none() {
        let wanted = Wanted {
            meta,
            body,
            deadline: until,
            called: Some((Called { path, calls_left }, callee)),
        };
        let chain = call.chain.callee(&function);
        let answer = run(gateway, lease, call, &chain, wanted).await;
        return (
            reply,
            answer.map_err(|problem| NotAnswered::in_group(function, problem)),
        );
    }
    let answer = elsewhere::ask(gateway, call, &callee.origin, meta, body, until).await;
    (reply, answer.map_err(elsewhere::not_answered))
}
