//! A chain whose functions crash again and again is left alone for a while.
//!
//! After so many crashes in a row its circuit is open: requests are refused at
//! once. When the pause is over one request may try; its end closes the
//! circuit, or opens it for another pause.

use super::problem::{Problem, ProblemKind};
use crate::chain_file::ChainId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
enum Circuit {
    /// With so many crashes in a row.
    Closed(u32),
    OpenUntil(Instant),
    /// One request is on its way to try.
    Trying,
}

/// The circuits of all chains.
#[derive(Debug)]
pub(super) struct Circuits {
    by_chain: Mutex<BTreeMap<ChainId, Circuit>>,
    /// So many crashes in a row open a circuit; 0: none ever does.
    limit: u32,
    pause: Duration,
}

/// What a request showed about its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Crashed,
    Completed,
    /// It never came to a function, or nobody waited for its end.
    Unknown,
}

impl Outcome {
    /// Of a request that failed.
    pub(super) fn of(problem: &Problem) -> Self {
        match problem.kind {
            ProblemKind::Crash | ProblemKind::Misbehaved | ProblemKind::WorkerLost => Self::Crashed,
            // Not the function's doing, and nobody knows what it would have done.
            ProblemKind::Backend => Self::Unknown,
            ProblemKind::Aborted
            | ProblemKind::BadBody
            | ProblemKind::BadContentType
            | ProblemKind::BadEvent
            | ProblemKind::BadHeader
            | ProblemKind::BadTimeout
            | ProblemKind::CircuitOpen
            | ProblemKind::ClientGone
            | ProblemKind::Deadline
            | ProblemKind::Draining
            | ProblemKind::Error
            | ProblemKind::GivenUp
            | ProblemKind::Method
            | ProblemKind::NoWorker
            | ProblemKind::OverBudget
            | ProblemKind::QueueFull
            | ProblemKind::Remote
            | ProblemKind::SlowBody
            | ProblemKind::Timeout
            | ProblemKind::TooBig
            | ProblemKind::TooLarge
            | ProblemKind::TooManyCalls
            | ProblemKind::TooManyRequests
            | ProblemKind::UnknownChain
            | ProblemKind::UnknownFunction
            | ProblemKind::UnknownPath => match problem.place {
                Some(_) => Self::Completed,
                None => Self::Unknown,
            },
        }
    }
}

/// Leave to run, given back with what came of it.
#[derive(Debug)]
pub(super) struct Pass {
    circuits: Arc<Circuits>,
    chain: ChainId,
    pub(super) outcome: Outcome,
}

impl Circuits {
    pub(super) fn new(limit: u32, pause: Duration) -> Self {
        Self {
            by_chain: Mutex::new(BTreeMap::new()),
            limit,
            pause,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ChainId, Circuit>> {
        self.by_chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request of a chain pass, unless the chain's circuit is open.
    pub(super) fn admit(self: &Arc<Self>, chain: &ChainId) -> Result<Pass, Problem> {
        if let Some(circuit) = self.lock().get_mut(chain) {
            let now = Instant::now();
            let left = match *circuit {
                Circuit::Closed(_) => None,
                Circuit::OpenUntil(then) if then <= now => {
                    *circuit = Circuit::Trying;
                    None
                }
                Circuit::OpenUntil(then) => Some(then - now),
                Circuit::Trying => Some(Duration::from_secs(1)),
            };
            if let Some(left) = left {
                return Err(Problem::new(
                    ProblemKind::CircuitOpen,
                    format!(
                        "this chain crashed {} times in a row and is left alone for a while",
                        self.limit
                    ),
                )
                .retry(left.as_secs() + 1));
            }
        }
        Ok(Pass {
            circuits: Arc::clone(self),
            chain: chain.clone(),
            outcome: Outcome::Unknown,
        })
    }

    /// Chains whose circuit is not closed.
    pub(super) fn open(&self) -> Vec<ChainId> {
        let all = self.lock();
        all.iter()
            .filter(|(_, c)| !matches!(c, Circuit::Closed(_)))
            .map(|(chain, _)| chain.clone())
            .collect()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Circuits { limit, pause, .. } = *self.circuits;
        if limit == 0 {
            return;
        }
        let mut all = self.circuits.lock();
        let old = all.get(&self.chain).copied().unwrap_or(Circuit::Closed(0));
        let open = || Circuit::OpenUntil(Instant::now() + pause);
        let new = match (old, self.outcome) {
            (_, Outcome::Completed) => Circuit::Closed(0),
            (Circuit::Closed(n), Outcome::Crashed) if n + 1 < limit => Circuit::Closed(n + 1),
            (Circuit::Closed(_) | Circuit::Trying, Outcome::Crashed) => {
                log::warn!(
                    "chain {}: {limit} crashes in a row; its circuit is open",
                    self.chain
                );
                open()
            }
            // The next may try.
            (Circuit::Trying, Outcome::Unknown) => Circuit::OpenUntil(Instant::now()),
            (same, _) => same,
        };
        all.insert(self.chain.clone(), new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ChainId {
        ChainId::named(name).unwrap()
    }

    fn one(circuits: &Arc<Circuits>, outcome: Outcome) -> bool {
        let Ok(mut pass) = circuits.admit(&id("c")) else {
            return false;
        };
        pass.outcome = outcome;
        true
    }

    #[test]
    fn crashes_in_a_row_open_a_circuit_and_a_trial_closes_it() {
        // No pause at all: what is open may be tried at once.
        let c = Arc::new(Circuits::new(3, Duration::ZERO));
        for _ in 0..5 {
            assert!(one(&c, Outcome::Crashed) && one(&c, Outcome::Crashed));
            assert!(one(&c, Outcome::Completed), "not in a row");
        }
        assert!((0..3).all(|_| one(&c, Outcome::Crashed)));
        assert_eq!(c.open(), ["c"]);
        let trial = c.admit(&id("c")).unwrap();
        assert_eq!(
            c.admit(&id("c")).unwrap_err().kind,
            ProblemKind::CircuitOpen,
            "one at a time"
        );
        assert!(c.admit(&id("d")).is_ok(), "another chain");
        drop(trial); // nothing is known: the next tries
        assert!(one(&c, Outcome::Crashed));
        assert_eq!(c.open(), ["c"], "open again");
        assert!(one(&c, Outcome::Completed));
        assert!(c.open().is_empty());
    }

    #[test]
    fn an_open_circuit_refuses_until_its_pause_is_over() {
        let c = Arc::new(Circuits::new(1, Duration::from_secs(3600)));
        assert!(one(&c, Outcome::Crashed));
        let refused = c.admit(&id("c")).unwrap_err();
        assert!(refused.retry_after > Some(3000));
        let never = Arc::new(Circuits::new(0, Duration::ZERO));
        assert!((0..99).all(|_| one(&never, Outcome::Crashed)));
    }
}
