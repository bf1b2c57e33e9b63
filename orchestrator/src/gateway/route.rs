//! The way of one invocation: through workers here, and through other machines
//! where a step is theirs.
//!
//! A chain without such steps is one job of one worker. One with them is cut
//! there: each run of local steps is a chain of its own for the workers, named
//! `CHAIN/STEP`, which no chain of a file can be called.

use super::Gateway;
use super::elsewhere;
use super::http::Call;
use super::problem::{Problem, ProblemKind, StepTimings};
use super::queue::{Answer, Job};
use super::told::Calls;
use crate::chain_file::{Chain, ChainFile, ChainId, FunctionName, Origin};
use crate::life::MessageMeta;
use crate::worker::frame::HopTiming;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// A part of a chain that one place runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// By a worker, under this name of a chain; its first step, from 0.
    Here { chain: ChainId, first: usize },
    /// Where its function runs.
    Elsewhere {
        step: usize,
        function: FunctionName,
        place: Origin,
        timeout: Duration,
    },
}

/// The parts of each chain, by name.
pub(super) type Routes = BTreeMap<ChainId, Vec<Part>>;

/// Cuts a file's chains where steps run elsewhere: what the workers get, and the
/// way through it.
pub(super) fn cut(file: &ChainFile) -> (ChainFile, Routes) {
    let mut local = file.clone();
    local.chains.clear();
    let mut routes = Routes::new();
    for (name, chain) in &file.chains {
        let elsewhere = |f: &FunctionName| {
            let origin = &file.functions[f].origin;
            origin.elsewhere().map(|_| origin.clone())
        };
        let mut parts: Vec<Part> = Vec::new();
        let whole = !chain.steps.iter().any(|f| elsewhere(f).is_some());
        for (step, function) in chain.steps.iter().enumerate() {
            if let Some(place) = elsewhere(function) {
                parts.push(Part::Elsewhere {
                    step,
                    function: function.clone(),
                    place,
                    timeout: file.functions[function].timeout,
                });
                continue;
            }
            if let Some(Part::Here { chain, .. }) = parts.last() {
                let chain: Option<&mut Chain> = local.chains.get_mut(chain);
                chain
                    .into_iter()
                    .for_each(|c| c.steps.push(function.clone()));
                continue;
            }
            // One step, of a function alone, is whole.
            let part = match whole {
                true => None,
                false => name.part(step + 1),
            };
            let part = part.unwrap_or_else(|| name.clone());
            let steps = vec![function.clone()];
            let name = part.clone();
            let one = Chain {
                name,
                steps,
                ..chain.clone()
            };
            local.chains.insert(part.clone(), one);
            parts.push(Part::Here {
                chain: part,
                first: step,
            });
        }
        routes.insert(name.clone(), parts);
    }
    (local, routes)
}

/// Takes a message through all parts of a chain.
pub(super) async fn run(
    gateway: &Gateway,
    call: &Call<'_>,
    meta: MessageMeta,
    body: Bytes,
    deadline: Instant,
) -> Result<Answer, Problem> {
    let Some(parts) = gateway.generation().routes.get(call.chain).cloned() else {
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
            Part::Here { chain, first } => local(gateway, call, chain, meta, body, deadline)
                .await
                .map_err(|p| later(p, *first)),
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

/// Puts a job into its queue and waits for its answer.
async fn local(
    gateway: &Gateway,
    call: &Call<'_>,
    chain: &ChainId,
    meta: MessageMeta,
    body: Bytes,
    deadline: Instant,
) -> Result<Answer, Problem> {
    let (answer, mut answered) = oneshot::channel();
    let (outside, mut calls) = mpsc::channel(1);
    let taken = Arc::new(AtomicBool::new(false));
    gateway.push(Job {
        chain: chain.clone(),
        id: call.id.to_owned(),
        meta,
        body,
        deadline,
        trace: gateway.spans.as_ref().and(Some(call.trace.clone())),
        taken: Arc::clone(&taken),
        outside,
        answer,
    })?;
    let waited = async {
        loop {
            tokio::select! {
                result = &mut answered => return result,
                // The worker waits for each before it goes on.
                Some(away) = calls.recv() => elsewhere::serve(gateway, call, away).await,
            }
        }
    };
    let result = match timeout_at(deadline, waited).await {
        Ok(result) => result,
        // The worker ends it, or is ended; either way it answers.
        Err(_) if taken.load(Ordering::Acquire) => {
            // Its calls are refused from now on.
            drop(calls);
            answered.await
        }
        Err(_) => {
            return Err(Problem::new(
                ProblemKind::Deadline,
                "the deadline passed before a worker was free",
            ));
        }
    };
    // Its sender is gone: nobody runs it any more.
    result.unwrap_or_else(|_| Err(super::generation::given_up(taken.load(Ordering::Acquire))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain_file::parse;

    #[test]
    fn chains_are_cut_at_steps_of_others() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f.c"), "").unwrap();
        let text = r#"
[functions]
a = { source = "f.c" }
b = { source = "f.c" }
far = { remote = "lwc.functions.far" }
[chains]
near = { steps = ["a", "b"] }
mixed = { steps = ["a", "b", "far", "b"] }
away = { steps = ["far", "far"] }
"#;
        let (file, _) = parse(&folder.path().join("chain.toml"), text.into())
            .map_err(|r| r.render(false))
            .unwrap();
        let (local, routes) = cut(&file);
        let names: Vec<_> = local.chains.keys().map(ChainId::as_str).collect();
        assert_eq!(names, ["mixed/1", "mixed/4", "near"]);
        assert_eq!(local.chains["mixed/1"].steps, ["a", "b"]);
        assert_eq!(local.chains["mixed/4"].name, "mixed/4");
        let here = |chain: &str, first| Part::Here {
            chain: chain.to_owned().try_into().unwrap(),
            first,
        };
        let far = |step| Part::Elsewhere {
            step,
            function: FunctionName::new("far").unwrap(),
            place: Origin::Remote("lwc.functions.far".into()),
            timeout: Duration::from_secs(1),
        };
        assert_eq!(routes["near"], [here("near", 0)]);
        assert_eq!(
            routes["mixed"],
            [here("mixed/1", 0), far(2), here("mixed/4", 3)]
        );
        assert_eq!(routes["away"], [far(0), far(1)]);
    }
}
