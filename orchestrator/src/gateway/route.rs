//! The way of one invocation: through workers here, and through other machines
//! where a step is theirs.
//!
//! A chain whose steps are in one group is one job of one worker. Any other is cut
//! (`chain_file/cut.rs`): each run of steps of a group is one, and each call of a
//! function in another group.

use super::Gateway;
use super::elsewhere;
use super::invocation::Call;
use super::job::{self, Wanted};
use super::problem::{Problem, ProblemKind, StepTimings};
use super::queue::Answer;
use super::told::Calls;
use crate::chain_file::Part;
use crate::life::MessageMeta;
use crate::worker::frame::HopTiming;
use bytes::Bytes;
use std::time::SystemTime;
use tokio::time::Instant;

/// Takes a message through all parts of a chain.
pub(super) async fn run(
    gateway: &Gateway,
    call: &Call<'_>,
    meta: MessageMeta,
    body: Bytes,
    deadline: Instant,
) -> Result<Answer, Problem> {
    // For all of it: what is read anew meanwhile is for requests that come later.
    let lease = gateway.lease()?;
    let Some(parts) = lease.routes().get(call.chain) else {
        return Err(Problem::new(
            ProblemKind::UnknownChain,
            "the chain file has just been changed and has this chain no more",
        ));
    };
    let (mut meta, mut body) = (meta, body);
    let mut ran: Option<StepTimings> = None;
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            meta.attributes = meta.attributes.for_the_next_step();
        }
        let result = match part {
            Part::Here { chain, first } => {
                let wanted = Wanted {
                    meta,
                    body,
                    deadline,
                    called: None,
                };
                job::run(gateway, &lease, call, chain, wanted)
                    .await
                    .map_err(|p| later(p, *first))
            }
            Part::Elsewhere {
                step,
                function,
                place,
                timeout,
            } => {
                let until = deadline.min(Instant::now() + *timeout);
                let (begun, handed) = (Instant::now(), SystemTime::now());
                let remote = elsewhere::ask(gateway, call, place, meta, body, until).await;
                remote.map_err(|p| Problem {
                    place: Some((step + 1, function.clone())),
                    timings: Some(Box::new(StepTimings {
                        handed,
                        hops: vec![HopTiming {
                            at: 0.0,
                            copy: 0.0,
                            run: begun.elapsed().as_secs_f64() * 1e6,
                        }],
                        calls: Calls::default(),
                    })),
                    ..p
                })
            }
        };
        match result {
            Ok(answer) => {
                (meta, body) = (answer.meta, answer.body);
                let timings = StepTimings {
                    handed: answer.handed,
                    hops: answer.hops,
                    calls: answer.calls,
                };
                join(&mut ran, timings);
                if answer.ended {
                    break;
                }
            }
            Err(mut problem) => {
                if let Some(last) = problem.timings.take() {
                    join(&mut ran, *last);
                }
                problem.timings = ran.map(Box::new);
                return Err(problem);
            }
        }
    }
    let ran = ran.unwrap_or_else(nothing_ran);
    Ok(Answer {
        meta,
        body,
        hops: ran.hops,
        calls: ran.calls,
        handed: ran.handed,
        // Nothing is behind it any more.
        ended: true,
    })
}

fn nothing_ran() -> StepTimings {
    StepTimings {
        handed: SystemTime::now(),
        hops: Vec::new(),
        calls: Calls::default(),
    }
}

/// Adds what a later part took; times of all parts count from the first.
fn join(ran: &mut Option<StepTimings>, part: StepTimings) {
    let Some(all) = ran else {
        *ran = Some(part);
        return;
    };
    let after = part.handed.duration_since(all.handed).unwrap_or_default();
    all.calls.join(part.calls, all.hops.len(), after);
    all.hops.extend(part.hops.into_iter().map(|hop| HopTiming {
        at: hop.at + after.as_secs_f64() * 1e6,
        ..hop
    }));
}

/// A problem of a part, with the step's number in the chain.
fn later(problem: Problem, first: usize) -> Problem {
    Problem {
        place: problem.place.map(|(step, f)| (step + first, f)),
        ..problem
    }
}
