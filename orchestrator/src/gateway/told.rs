//! What a worker tells of an invocation, checked. Functions run in a worker's
//! contexts, and one that breaks out of its own has the worker: then all that it
//! tells is a stranger's word. What cannot be of the chain that was asked for is no
//! answer, and the worker is replaced; times are no longer than the gateway itself
//! has waited; and the room that anything takes is known before.

use crate::chain_file::{CallTree, ChainFile, ChainId, FunctionName};
use crate::life::recorder::{BOUNDS, BUCKETS, MOST_SPANS};
use crate::life::{CauseKind, MOST_CALLS, MOST_CALLS_ON_ERROR};
use crate::worker::frame::{self, Failed, HopTiming, RollbackTiming};
use std::time::Duration;

/// What can be told of a chain, by the gateway's own reading of the file.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) tree: CallTree,
    /// How many of the tree's nodes are steps.
    pub(super) steps: usize,
    region: usize,
    /// Whether a step of it may end the request.
    may_end: bool,
}

/// The calls between functions of an invocation, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) edges: Vec<EdgeCalls>,
    /// The first ones, each by itself, if they were asked for.
    pub(super) spans: Vec<CallSpan>,
}

/// Those of an edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EdgeCalls {
    pub(super) caller: FunctionName,
    pub(super) callee: FunctionName,
    pub(super) run: Duration,
    /// Bucket of [`BOUNDS`](crate::life::recorder::BOUNDS), and how many are in it.
    pub(super) buckets: Vec<(usize, u32)>,
    pub(super) failed: Vec<(CauseKind, u32)>,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallSpan {
    pub(super) within: Within,
    pub(super) callee: FunctionName,
    /// From the moment that the worker was handed the job.
    pub(super) at: Duration,
    pub(super) run: Duration,
    pub(super) failed: Option<CauseKind>,
}

/// By whom a call was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    /// By a step, from 0.
    Step(usize),
    /// By the function of another call, which stands before it.
    Call(usize),
}

impl Shape {
    /// That of a chain of the workers' file.
    pub(super) fn of(file: &ChainFile, chain: &ChainId) -> Self {
        let found = &file.chains[chain];
        Self {
            tree: CallTree::of(file, chain),
            steps: found.steps.len(),
            region: usize::try_from(found.region).unwrap_or(usize::MAX),
            may_end: found.steps.iter().any(|s| file.functions[s].ends_request),
        }
    }

    /// Whether an answer can have so many bytes.
    pub(super) fn has_room_for(&self, answer: usize) -> bool {
        answer <= self.region
    }

    /// Whether an answer can be the request's that is said to be.
    pub(super) fn can_end(&self, ended: bool) -> bool {
        self.may_end || !ended
    }

    /// Whether a failure can be one of this chain's.
    pub(super) fn can_fail_so(&self, failed: &Failed) -> bool {
        if failed.answer.is_some() && self.tree.on_error.is_none() {
            return false;
        }
        let known = |f: &FunctionName| self.tree.nodes.iter().any(|n| n.function == *f);
        (1..=self.steps).contains(&failed.step)
            && known(&failed.function)
            && failed.path.len() <= self.tree.nodes.len()
            && failed.path.iter().all(known)
    }

    /// What the steps took; `waited` since the job was handed over.
    pub(super) fn hops(&self, told: Vec<HopTiming>, waited: Duration) -> Option<Vec<HopTiming>> {
        let checked = |hop: HopTiming| HopTiming {
            at: micros(hop.at, waited),
            copy: micros(hop.copy, waited),
            run: micros(hop.run, waited),
        };
        (told.len() <= self.steps).then(|| told.into_iter().map(checked).collect())
    }

    /// The calls of an invocation.
    pub(super) fn calls(&self, told: frame::Calls, waited: Duration) -> Option<Calls> {
        let frame::Calls { edges, spans } = told;
        if edges.len() > self.tree.edges.len() || spans.len() > MOST_SPANS {
            return None;
        }
        let mut seen = vec![false; self.tree.edges.len()];
        let mut all = 0;
        let mut checked = Calls::default();
        for edge in edges {
            if std::mem::replace(seen.get_mut(edge.edge)?, true) {
                return None;
            }
            let buckets = edge.buckets.iter();
            let calls = buckets.clone().map(|(_, n)| u64::from(*n)).sum::<u64>();
            let failed = edge.failed.iter().map(|(_, n)| u64::from(*n)).sum::<u64>();
            // In order, and none that is longer than all that was waited.
            let nanos = waited.as_nanos();
            let longer_than = |bucket: usize| match bucket.checked_sub(1) {
                Some(before) => u128::from(BOUNDS[before]),
                None => 0,
            };
            let places = edge.buckets.len() <= BUCKETS
                && buckets
                    .clone()
                    .all(|b| b.0 < BUCKETS && longer_than(b.0) <= nanos)
                && edge.buckets.windows(2).all(|w| w[0].0 < w[1].0);
            all += calls;
            if !places || failed > calls || edge.failed.len() > CauseKind::ALL.len() {
                return None;
            }
            let [caller, callee] = self.ends(edge.edge)?;
            // No call is longer than all that was waited.
            let most = waited.saturating_mul(u32::try_from(calls).unwrap_or(u32::MAX));
            checked.edges.push(EdgeCalls {
                caller: self.tree.nodes[caller].function.clone(),
                callee: self.tree.nodes[callee].function.clone(),
                run: Duration::from_nanos(edge.run).min(most),
                buckets: edge.buckets,
                failed: edge.failed,
            });
        }
        let on_error = self.tree.on_error.map_or(0, |_| MOST_CALLS_ON_ERROR);
        if all > u64::from(MOST_CALLS + on_error) {
            return None;
        }
        for (place, span) in spans.iter().enumerate() {
            let [caller, callee] = self.ends(span.edge)?;
            let within = match span.within {
                // Made by whom it was made within.
                Some(other) if other < place && self.ends(spans[other].edge)?[1] == caller => {
                    Within::Call(other)
                }
                // What the function of `on_error` calls stands behind the steps.
                None if caller < self.steps || self.tree.on_error == Some(caller) => {
                    Within::Step(caller.min(self.steps - 1))
                }
                _ => return None,
            };
            let at = Duration::from_nanos(span.at).min(waited);
            checked.spans.push(CallSpan {
                within,
                callee: self.tree.nodes[callee].function.clone(),
                at,
                run: Duration::from_nanos(span.run).min(waited - at),
                failed: span.failed,
            });
        }
        Some(checked)
    }

    /// What was undone, of nodes that there are.
    pub(super) fn rollbacks(
        &self,
        told: Vec<RollbackTiming>,
        waited: Duration,
    ) -> Option<Vec<RollbackTiming>> {
        let nodes = self.tree.nodes.len();
        let checked = |rollback: RollbackTiming| RollbackTiming {
            at: micros(rollback.at, waited),
            took: micros(rollback.took, waited),
            ..rollback
        };
        let there = told.len() <= nodes && told.iter().all(|r| r.step < nodes);
        there.then(|| told.into_iter().map(checked).collect())
    }

    /// Caller and callee of an edge.
    fn ends(&self, edge: usize) -> Option<[usize; 2]> {
        let edge = self.tree.edges.get(edge)?;
        Some([edge.caller, edge.callee])
    }
}

/// Microseconds that a worker tells, of so much time.
pub(super) fn micros(told: f64, waited: Duration) -> f64 {
    let most = waited.as_secs_f64() * 1e6;
    // Not `clamp`, which keeps what is no number.
    told.max(0.0).min(most)
}

impl Calls {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        let buckets = self.edges.iter().flat_map(|e| &e.buckets);
        buckets.map(|(_, n)| u64::from(*n)).sum()
    }

    /// Adds those of a later part of the chain, so much later, that begins with this
    /// step.
    pub(super) fn join(&mut self, part: Self, first: usize, after: Duration) {
        let before = self.spans.len();
        self.edges.extend(part.edges);
        self.spans
            .extend(part.spans.into_iter().map(|span| CallSpan {
                within: match span.within {
                    Within::Step(step) => Within::Step(step + first),
                    Within::Call(other) => Within::Call(other + before),
                },
                at: span.at + after,
                ..span
            }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain_file::parse;

    /// `a` calls `b` and `c`, `b` calls `c`; steps `a`, `d`.
    fn shape() -> Shape {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f.c"), "").unwrap();
        let text = r#"
[functions]
a = { source = "f.c", calls = ["b", "c"] }
b = { source = "f.c", calls = ["c"] }
c = { source = "f.c" }
d = { source = "f.c" }
[chains]
x = { steps = ["a", "d"], region = "64KiB" }
"#;
        let (file, _) = parse(&folder.path().join("chain.toml"), text.into())
            .map_err(|r| r.render(false))
            .unwrap();
        Shape::of(&file, &ChainId::named("x").unwrap())
    }

    const WAITED: Duration = Duration::from_millis(5);

    fn edge(edge: usize) -> frame::EdgeCalls {
        frame::EdgeCalls {
            edge,
            run: 12_000,
            buckets: vec![(3, 1), (4, 2)],
            failed: vec![(CauseKind::Crash, 1)],
        }
    }

    fn span(edge: usize, within: Option<usize>) -> frame::CallSpan {
        frame::CallSpan {
            edge,
            within,
            at: 1_000_000,
            run: 2_000_000,
            failed: None,
        }
    }

    fn told(edges: Vec<frame::EdgeCalls>, spans: Vec<frame::CallSpan>) -> frame::Calls {
        frame::Calls { edges, spans }
    }

    #[test]
    fn calls_are_told_by_name_and_nest() {
        let shape = shape();
        let spans = vec![span(0, None), span(2, Some(0)), span(1, None)];
        let calls = shape.calls(told(vec![edge(2)], spans), WAITED).unwrap();
        let [only] = calls.edges.as_slice() else {
            panic!("{calls:?}")
        };
        assert_eq!((only.caller.as_str(), only.callee.as_str()), ("b", "c"));
        assert_eq!(only.run, Duration::from_nanos(12_000));
        assert_eq!(calls.count(), 3);
        let found: Vec<_> = calls
            .spans
            .iter()
            .map(|s| (s.within, s.callee.as_str()))
            .collect();
        let expected = [
            (Within::Step(0), "b"),
            (Within::Call(0), "c"),
            (Within::Step(0), "c"),
        ];
        assert_eq!(found, expected);
        // A later part counts on from the one before.
        let mut all = calls.clone();
        all.join(calls, 4, Duration::from_millis(9));
        assert_eq!(all.spans[3].within, Within::Step(4));
        assert_eq!(all.spans[4].within, Within::Call(3));
        assert_eq!(all.spans[3].at, Duration::from_millis(10));
        assert_eq!(all.count(), 6);
    }

    #[test]
    fn what_cannot_be_of_the_chain_is_no_answer() {
        let shape = shape();
        let refused = |told| assert_eq!(shape.calls(told, WAITED), None);
        // An edge that there is not; one that is told twice.
        refused(told(vec![edge(3)], vec![]));
        refused(told(vec![edge(usize::MAX)], vec![]));
        refused(told(vec![edge(1), edge(1)], vec![]));
        // More than a request may make, more failures than calls, other buckets.
        for (buckets, failed) in [
            (vec![(0, 10_001)], vec![]),
            (vec![(0, u32::MAX); 24], vec![]),
            (vec![(BUCKETS, 1)], vec![]),
            (vec![(0, 1); BUCKETS + 1], vec![]),
            (vec![(0, 1)], vec![(CauseKind::Error, 2)]),
            (
                vec![(0, 10)],
                vec![(CauseKind::Error, 1); CauseKind::ALL.len() + 1],
            ),
        ] {
            let edge = frame::EdgeCalls {
                buckets,
                failed,
                ..edge(0)
            };
            refused(told(vec![edge], vec![]));
        }
        let most = frame::EdgeCalls {
            buckets: vec![(0, 6000)],
            ..edge(0)
        };
        let more = frame::EdgeCalls {
            edge: 1,
            ..most.clone()
        };
        refused(told(vec![most, more], vec![]));
        // Too many; in itself; in one behind it; in one of another function; by a
        // function that is no step.
        refused(told(vec![], vec![span(0, None); MOST_SPANS + 1]));
        refused(told(vec![], vec![span(2, Some(0))]));
        refused(told(vec![], vec![span(2, Some(1)), span(0, None)]));
        refused(told(vec![], vec![span(1, None), span(2, Some(0))]));
        refused(told(vec![], vec![span(2, None)]));
        refused(told(vec![], vec![span(9, None)]));
    }

    #[test]
    fn nothing_took_longer_than_was_waited() {
        let shape = shape();
        let long = frame::CallSpan {
            at: 4_000_000,
            run: u64::MAX,
            ..span(0, None)
        };
        let never = frame::CallSpan {
            at: u64::MAX,
            ..long
        };
        let much = frame::EdgeCalls {
            run: u64::MAX,
            ..edge(0)
        };
        let calls = shape
            .calls(told(vec![much], vec![long, never]), WAITED)
            .unwrap();
        assert_eq!(calls.edges[0].run, 3 * WAITED);
        let ends = calls.spans.iter().map(|s| s.at + s.run);
        assert_eq!(ends.collect::<Vec<_>>(), [WAITED, WAITED]);
        let hop = |at, run| HopTiming {
            at,
            copy: -1e300,
            run,
        };
        let hops = shape
            .hops(vec![hop(-1.0, 1e300), hop(1e300, f64::NAN)], WAITED)
            .unwrap();
        assert_eq!((hops[0].at, hops[0].copy, hops[0].run), (0.0, 0.0, 5000.0));
        assert_eq!((hops[1].at, hops[1].run), (5000.0, 0.0));
        assert!(shape.hops(vec![hop(0.0, 0.0); 3], WAITED).is_none());
    }

    #[test]
    fn failures_answers_and_rollbacks_are_of_the_chain() {
        let shape = shape();
        let name = |n| FunctionName::new(n).unwrap();
        let failed = |step, function, path: &[&'static str]| Failed {
            step,
            function: name(function),
            path: path.iter().copied().map(name).collect(),
            cause: CauseKind::Crash,
            message: String::new(),
            code: None,
            hops: Vec::new(),
            answer: None,
            calls: frame::Calls::default(),
        };
        assert!(shape.can_fail_so(&failed(1, "c", &["a", "b", "c"])));
        assert!(shape.can_fail_so(&failed(2, "d", &["d"])));
        for wrong in [
            failed(0, "a", &["a"]),
            failed(3, "a", &["a"]),
            failed(usize::MAX, "a", &["a"]),
            failed(1, "stranger", &["a"]),
            failed(1, "c", &["a", "stranger"]),
            failed(1, "c", &["a"; 5]),
        ] {
            assert!(!shape.can_fail_so(&wrong), "{wrong:?}");
        }
        assert!(shape.has_room_for(65536) && !shape.has_room_for(65537));
        let rollback = |step| RollbackTiming {
            step,
            way: crate::life::RollbackWay::InPlace,
            at: f64::MAX,
            took: f64::MAX,
            pages: None,
        };
        let rollbacks = shape.rollbacks(vec![rollback(3)], WAITED).unwrap();
        assert_eq!((rollbacks[0].at, rollbacks[0].took), (5000.0, 5000.0));
        assert!(shape.rollbacks(vec![rollback(4)], WAITED).is_none());
        assert!(shape.rollbacks(vec![rollback(0); 5], WAITED).is_none());
    }
}
