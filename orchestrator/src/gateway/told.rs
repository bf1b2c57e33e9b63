//! What a worker tells of an invocation, checked. Functions run in a worker's
//! contexts, and one that breaks out of its own has the worker: then all that it
//! tells is a stranger's word. What cannot be of the chain that was asked for is no
//! answer, and the worker is replaced; times are no longer than the gateway itself
//! has waited; and the room that anything takes is known before.

use crate::chain_file::{CallTree, ChainFile, ChainId, FunctionName, Origin};
use crate::life::recorder::{BOUNDS, BUCKETS, MOST_SPANS};
use crate::life::{CauseKind, MOST_CALLS, MOST_CALLS_ON_ERROR};
use crate::worker::frame::{self, Failed, HopTiming, RollbackTiming};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// What can be told of a chain, by the gateway's own reading of the file.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) tree: CallTree,
    /// How many of the tree's nodes are steps.
    pub(super) steps: usize,
    region: usize,
    /// Whether a step of it may end the request.
    may_end: bool,
    /// Whether it is a function that those of other groups call.
    is_called: bool,
    /// The functions of the tree that are in other groups.
    in_groups: BTreeSet<FunctionName>,
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
    /// Bucket of [`BOUNDS`], and how many are in it.
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

/// What came of the calls of an invocation that left its worker: the gateway's own
/// knowledge, of which the worker tells again.
#[derive(Debug)]
pub(super) struct Below {
    /// How many more calls there may be.
    pub(super) calls_left: u32,
    /// The calls in other groups' workers. Steps stand for places among the spans that
    /// this invocation's worker is yet to tell.
    calls: Calls,
    /// The callees of these.
    places: BTreeMap<usize, FunctionName>,
    /// What functions of other groups failed of, and who called whom, from the one that
    /// left the worker.
    failed: BTreeSet<(Vec<FunctionName>, CauseKind)>,
}

impl Below {
    pub(super) fn new(calls_left: u32) -> Self {
        Self {
            calls_left,
            calls: Calls::default(),
            places: BTreeMap::new(),
            failed: BTreeSet::new(),
        }
    }

    /// A function of another group has failed, and the worker is told so.
    pub(super) fn failed(&mut self, path: &[FunctionName], cause: CauseKind) {
        self.failed.insert((path.to_vec(), cause));
    }

    /// The calls that were made for one that left, to a function, at that place; by a
    /// worker that was handed it so much later.
    pub(super) fn add(
        &mut self,
        calls: Calls,
        callee: &FunctionName,
        place: Option<usize>,
        after: Duration,
    ) {
        let Calls { edges, spans } = calls;
        for edge in edges {
            self.calls.count_in(edge);
        }
        let Some(place) = place.filter(|p| *p < MOST_SPANS) else {
            return;
        };
        self.places.insert(place, callee.clone());
        let before = self.calls.spans.len();
        let room = MOST_SPANS.saturating_sub(before);
        let spans = spans.into_iter().take(room).map(|span| CallSpan {
            within: match span.within {
                Within::Step(_) => Within::Step(place),
                Within::Call(other) => Within::Call(other + before),
            },
            at: span.at + after,
            ..span
        });
        self.calls.spans.extend(spans);
    }

    /// The calls of an invocation, as its worker tells them, with those below; `None` if
    /// it tells of other calls than it has made.
    pub(super) fn joined(self, mut told: Calls) -> Option<Calls> {
        let own = told.spans.len();
        // Without spans there are no places either.
        let as_made = |(place, callee): (&usize, &FunctionName)| {
            told.spans.get(*place).is_some_and(|s| s.callee == *callee)
        };
        if !self.places.iter().all(as_made) {
            return None;
        }
        for edge in self.calls.edges {
            told.count_in(edge);
        }
        let room = MOST_SPANS.saturating_sub(own);
        for span in self.calls.spans.into_iter().take(room) {
            let other = match span.within {
                Within::Step(place) => place,
                Within::Call(other) => other + own,
            };
            // Two workers' clocks: none is shown outside of the one that it was made in.
            let around = &told.spans[other];
            let (begin, end) = (around.at, around.at + around.run);
            let at = span.at.clamp(begin, end);
            told.spans.push(CallSpan {
                within: Within::Call(other),
                at,
                run: span.run.min(end - at),
                ..span
            });
        }
        Some(told)
    }
}

/// How much later something was, by the clock of traces, which may be set meanwhile.
pub(super) fn later(than: SystemTime, when: SystemTime) -> Duration {
    when.duration_since(than).unwrap_or_default()
}

impl Shape {
    /// That of a chain of the workers' file.
    pub(super) fn of(file: &ChainFile, chain: &ChainId) -> Self {
        let found = &file.chains[chain];
        let tree = CallTree::of(file, chain);
        let away = tree.nodes[tree.contexts..].iter().map(|n| &n.function);
        let in_group = |f: &&FunctionName| matches!(file.functions[*f].origin, Origin::Group(_));
        let mut steps = found.steps.iter();
        Self {
            in_groups: away.filter(in_group).cloned().collect(),
            tree,
            may_end: steps.any(|f| file.functions[f].ends_request),
            steps: found.steps.len(),
            is_called: !found.called_by.is_empty(),
            region: usize::try_from(found.region).unwrap_or(usize::MAX),
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

    /// How many calls it may make, if its own request has so many left.
    pub(super) fn calls_left(&self, left: Option<u32>) -> u32 {
        let on_error = self.tree.on_error.map_or(0, |_| MOST_CALLS_ON_ERROR);
        let steps = u32::try_from(self.steps).unwrap_or(u32::MAX);
        left.unwrap_or(MOST_CALLS.saturating_mul(steps))
            .saturating_add(on_error)
    }

    /// Whether a failure can be one of this chain's; of a function of another group what
    /// was told of it.
    pub(super) fn can_fail_so(&self, failed: &Failed, below: &Below) -> bool {
        // Beside a failure answers its function of `on_error`, or a function that other
        // groups call, to an error of its own.
        let own_error = failed.cause == CauseKind::Error && failed.path.len() == 1;
        let answers = self.tree.on_error.is_some() || self.is_called && own_error;
        if failed.answer.is_some() && !answers {
            return false;
        }
        let known = |f: &FunctionName| self.tree.nodes.iter().any(|n| n.function == *f);
        let path = failed.path.as_slice();
        let left = path.iter().position(|f| self.in_groups.contains(f));
        let (own, others) = path.split_at(left.unwrap_or(path.len()));
        // By its worker's own count, or for its caller's time alone.
        let by_itself = matches!(failed.cause, CauseKind::TooManyCalls | CauseKind::Deadline);
        let as_told = match others {
            [] => known(&failed.function),
            [_] if by_itself => true,
            others => below.failed.contains(&(others.to_vec(), failed.cause)),
        };
        (1..=self.steps).contains(&failed.step)
            && path.last().is_none_or(|last| *last == failed.function)
            && own.len() <= self.tree.nodes.len()
            && own.iter().all(known)
            && as_told
    }

    /// The call of a function that has no context in the worker: who calls and who is
    /// called. `None` if the chain file grants none by that edge, or not to those who
    /// are said to wait for it.
    pub(super) fn call_away(
        &self,
        edge: usize,
        path: &[FunctionName],
    ) -> Option<[&FunctionName; 2]> {
        let [caller, callee] = self.ends(edge)?;
        let function = |node: usize| &self.tree.nodes[node].function;
        let known = |f: &FunctionName| {
            let here = self.tree.nodes[..self.tree.contexts].iter();
            here.map(|n| &n.function).any(|known| known == f)
        };
        let granted = callee >= self.tree.contexts
            && path.last() == Some(function(caller))
            && path.len() <= self.tree.contexts
            && path.iter().all(known);
        granted.then(|| [function(caller), function(callee)])
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
        if all > u64::from(self.calls_left(None)) {
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
        let nodes = self.tree.contexts;
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

/// Adds counts to those of the same kind.
fn add_up<K: PartialEq>(all: &mut Vec<(K, u32)>, more: Vec<(K, u32)>) {
    for (kind, count) in more {
        match all.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => all.push((kind, count)),
        }
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

    /// Counts in more of an edge that may have been counted already.
    fn count_in(&mut self, more: EdgeCalls) {
        let same = |e: &&mut EdgeCalls| (&e.caller, &e.callee) == (&more.caller, &more.callee);
        let Some(edge) = self.edges.iter_mut().find(same) else {
            return self.edges.push(more);
        };
        edge.run += more.run;
        add_up(&mut edge.buckets, more.buckets);
        add_up(&mut edge.failed, more.failed);
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
            (vec![(0, 2 * 10_000 + 1)], vec![]),
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
            buckets: vec![(0, 10_001)],
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
        let none = Below::new(0);
        let name = |n| FunctionName::new(n).unwrap();
        let failed = |step, function, path: &[&'static str]| Failed {
            step,
            function: name(function),
            path: path.iter().copied().map(name).collect(),
            cause: CauseKind::Crash,
            message: String::new(),
            code: None,
            said: None,
            hops: Vec::new(),
            answer: None,
            calls: frame::Calls::default(),
        };
        assert!(shape.can_fail_so(&failed(1, "c", &["a", "b", "c"]), &none));
        assert!(shape.can_fail_so(&failed(2, "d", &["d"]), &none));
        for wrong in [
            failed(0, "a", &["a"]),
            failed(3, "a", &["a"]),
            failed(usize::MAX, "a", &["a"]),
            failed(1, "stranger", &["a"]),
            failed(1, "c", &["a", "stranger"]),
            failed(1, "c", &["a", "b"]),
            failed(1, "c", &["a"; 5]),
        ] {
            assert!(!shape.can_fail_so(&wrong, &none), "{wrong:?}");
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

    /// The chain of the workers of one group: `top` calls `near`, and both call `far`,
    /// which is in another, and calls `deep` there.
    fn of_a_group() -> Shape {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f.c"), "").unwrap();
        let text = r#"
[functions]
top = { source = "f.c", calls = ["near", "far"] }
near = { source = "f.c", calls = ["far"] }
far = { source = "f.c", group = "g", calls = ["deep"] }
deep = { source = "f.c", group = "g" }
[workflows]
x = { entry = "top", region = "64KiB" }
"#;
        let (file, _) = parse(&folder.path().join("chain.toml"), text.into())
            .map_err(|r| r.render(false))
            .unwrap();
        let cut = crate::chain_file::cut(&file);
        Shape::of(&cut.files["default"], &ChainId::named("x").unwrap())
    }

    fn names(all: &[&str]) -> Vec<FunctionName> {
        let names = all.iter().map(|n| FunctionName::new(n).unwrap());
        names.collect()
    }

    #[test]
    fn a_call_that_leaves_is_one_that_is_granted() {
        let shape = of_a_group();
        let call = |edge, path: &[&str]| {
            let ends = shape.call_away(edge, &names(path));
            ends.map(|ends| ends.map(FunctionName::as_str))
        };
        // By the edges: top>near, top>far, near>far.
        assert_eq!(call(1, &["top"]), Some(["top", "far"]));
        assert_eq!(call(2, &["top", "near"]), Some(["near", "far"]));
        for (edge, path) in [
            // One within the worker; none at all.
            (0, &["top"][..]),
            (3, &["top"]),
            (usize::MAX, &["top"]),
            // Another caller than the edge's; others than there are, and too many.
            (1, &["near"]),
            (1, &[]),
            (2, &["far", "near"]),
            (2, &["deep", "near"]),
            (2, &["stranger", "near"]),
            (2, &["top", "top", "near"]),
        ] {
            assert_eq!(call(edge, path), None, "{edge} {path:?}");
        }
    }

    #[test]
    fn a_function_of_another_group_is_blamed_for_what_was_told_of_it() {
        let shape = of_a_group();
        let failed = |path: &[&str], cause| Failed {
            step: 1,
            function: names(path).pop().unwrap(),
            path: names(path),
            cause,
            message: String::new(),
            code: None,
            said: None,
            hops: Vec::new(),
            answer: None,
            calls: frame::Calls::default(),
        };
        let mut below = Below::new(0);
        below.failed(&names(&["far", "deep"]), CauseKind::Crash);
        let can = |path: &[&str], cause| shape.can_fail_so(&failed(path, cause), &below);
        assert!(can(&["top", "near", "far", "deep"], CauseKind::Crash));
        assert!(can(&["top", "far"], CauseKind::Deadline));
        assert!(can(&["top", "far"], CauseKind::TooManyCalls));
        for path in [
            &["top", "far"][..],
            &["top", "near", "far"],
            &["top", "deep"],
            &["top", "near", "deep"],
            &["top", "far", "near"],
            &["deep"],
        ] {
            assert!(!can(path, CauseKind::Crash), "{path:?}");
        }
        assert!(!can(&["top", "far", "deep"], CauseKind::Timeout));
        assert!(!can(&["top", "far", "deep"], CauseKind::Deadline));
    }

    #[test]
    fn calls_in_other_groups_nest_in_those_that_led_there() {
        let shape = of_a_group();
        let far = &names(&["far"])[0];
        let deep = |at: u64| {
            let [caller, callee] = ["far", "deep"].map(|n| FunctionName::new(n).unwrap());
            let edge = EdgeCalls {
                caller,
                callee: callee.clone(),
                run: Duration::from_nanos(9),
                buckets: vec![(3, 1)],
                failed: vec![(CauseKind::Crash, 1)],
            };
            let span = CallSpan {
                within: Within::Step(0),
                callee,
                at: Duration::from_millis(at),
                run: WAITED,
                failed: None,
            };
            Calls {
                edges: vec![edge],
                spans: vec![span],
            }
        };
        let mut below = Below::new(0);
        below.add(deep(0), far, Some(1), Duration::from_millis(1));
        below.add(deep(1), far, Some(2), Duration::from_millis(2));
        let spans = || vec![span(0, None), span(2, Some(0)), span(1, None)];
        let own = shape.calls(told(vec![], spans()), WAITED).unwrap();
        let all = below.joined(own).unwrap();
        let found = all.spans.iter().skip(3);
        let found: Vec<_> = found
            .map(|s| (s.within, s.at.as_millis(), s.run.as_millis()))
            .collect();
        // Each is told as from 1 to 3 ms, and the two of it took 5.
        assert_eq!(found, [(Within::Call(1), 1, 2), (Within::Call(2), 3, 0)]);
        let [edge] = all.edges.as_slice() else {
            panic!("{all:?}")
        };
        assert_eq!(
            (&edge.buckets, &edge.failed),
            (&vec![(3, 2)], &vec![(CauseKind::Crash, 2)])
        );
        assert_eq!(all.count(), 2);
        // One that says that another call was there, or none.
        for place in [0, 3, 255] {
            let mut below = Below::new(0);
            below.add(deep(0), far, Some(place), Duration::ZERO);
            let own = shape.calls(told(vec![], spans()), WAITED).unwrap();
            assert_eq!(below.joined(own), None, "{place}");
        }
        // However many there are.
        let mut below = Below::new(0);
        for _ in 0..3 * MOST_SPANS {
            below.add(deep(0), far, Some(1), Duration::ZERO);
        }
        let own = shape.calls(told(vec![], spans()), WAITED).unwrap();
        let all = below.joined(own).unwrap();
        assert_eq!(
            (all.spans.len(), all.count()),
            (MOST_SPANS, 3 * MOST_SPANS as u64)
        );
    }
}
