//! What the root notes of the calls between functions in one invocation: of each
//! edge how many there were, what they took and how they ended; of the first ones
//! each by itself, and the call within which it was made.
//!
//! # Whose word it is
//! The root's alone. Who calls whom is the edge that it runs, times are readings of
//! its own clock, and how a call ended is what it tells the caller. A function says
//! none of it, so it cannot say anything of others.
//!
//! # Bounds
//! A function can make thousands of calls in a request, and each of them is a few
//! microseconds. All room is taken when the chain comes to life: a place for each
//! edge, and for the first [`MOST_SPANS`] calls of an invocation. Those after them
//! are counted with their edges and no more.

use super::error::CauseKind;
use lwc::MonotonicTime;
use std::time::Duration;

/// So many calls of an invocation are told each by itself.
pub(crate) const MOST_SPANS: usize = 256;

/// Upper bounds of the buckets of what calls take, in nanoseconds: a call is a
/// microsecond where contexts are in one process, and may wait for 10 s.
pub(crate) const BOUNDS: [u64; 23] = [
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// One for each bound, and the rest.
pub(crate) const BUCKETS: usize = BOUNDS.len() + 1;

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallSpan {
    /// The edge of the chain's tree.
    pub(crate) edge: usize,
    /// The place of the call within which it was made, before its own; none where a
    /// step made it.
    pub(crate) within: Option<usize>,
    /// When its callee was switched to, from the beginning of the invocation.
    pub(crate) at: Duration,
    /// From then on until it was done.
    pub(crate) run: Duration,
    /// Why it was not answered.
    pub(crate) failed: Option<CauseKind>,
}

/// The calls of an edge in one invocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EdgeCalls {
    /// How many there were.
    pub(crate) calls: u32,
    /// How many took how long, each counted in one bucket.
    pub(crate) buckets: [u32; BUCKETS],
    /// How many failed of what, in the order of [`CauseKind::ALL`].
    pub(crate) failed: [u32; CauseKind::ALL.len()],
    /// What all took, from the switch to the callee on.
    pub(crate) run: Duration,
    /// What it took to have a fresh copy of the callee for them.
    pub(crate) ready: Duration,
}

impl EdgeCalls {
    /// How many of them were not answered.
    pub(crate) fn failures(&self) -> u64 {
        self.failed.iter().copied().map(u64::from).sum()
    }
}

/// A call that has begun, and has not ended.
#[derive(Debug)]
pub(super) struct OpenCall {
    edge: usize,
    at: MonotonicTime,
    /// Where it is told by itself.
    span: Option<usize>,
}

impl OpenCall {
    /// Its place among those that are told each by itself.
    pub(super) fn span(&self) -> Option<usize> {
        self.span
    }
}

/// The calls of the last invocation.
#[derive(Debug)]
pub(super) struct Recorder {
    begun: MonotonicTime,
    edges: Vec<EdgeCalls>,
    /// Those that had calls, each once.
    used: Vec<usize>,
    spans: Vec<CallSpan>,
}

impl Recorder {
    /// With room for all that it may hold.
    pub(super) fn new(edges: usize) -> Self {
        let spans = if edges == 0 { 0 } else { MOST_SPANS };
        Self {
            begun: MonotonicTime::from_nanos(0),
            edges: vec![EdgeCalls::default(); edges],
            used: Vec::with_capacity(edges),
            spans: Vec::with_capacity(spans),
        }
    }

    /// An invocation begins: nothing of another is left.
    pub(super) fn start(&mut self, begun: MonotonicTime) {
        self.begun = begun;
        self.spans.clear();
        for edge in self.used.drain(..) {
            self.edges[edge] = EdgeCalls::default();
        }
    }

    /// A call by an edge begins, within another or by a step itself; what it took to
    /// make its callee ready.
    #[inline]
    pub(super) fn enter(
        &mut self,
        edge: usize,
        within: Option<&OpenCall>,
        at: MonotonicTime,
        ready: Duration,
    ) -> OpenCall {
        let Some(calls) = self.edges.get_mut(edge) else {
            let span = None;
            return OpenCall { edge, at, span };
        };
        if calls.calls == 0 {
            self.used.push(edge);
        }
        calls.calls += 1;
        calls.ready += ready;
        let told = self.spans.len() < MOST_SPANS;
        let span = told.then_some(self.spans.len());
        if told {
            self.spans.push(CallSpan {
                edge,
                // Told before this one: there was room for it, too.
                within: within.and_then(|call| call.span),
                at: at.since(self.begun),
                run: Duration::ZERO,
                failed: None,
            });
        }
        OpenCall { edge, at, span }
    }

    /// It ends.
    #[inline]
    pub(super) fn leave(&mut self, call: OpenCall, at: MonotonicTime, failed: Option<CauseKind>) {
        let run = at.since(call.at);
        if let Some(calls) = self.edges.get_mut(call.edge) {
            calls.buckets[bucket(run)] += 1;
            calls.run += run;
            if let Some(count) = failed.and_then(|kind| calls.failed.get_mut(kind as usize)) {
                *count += 1;
            }
        }
        if let Some(span) = call.span.and_then(|i| self.spans.get_mut(i)) {
            span.run = run;
            span.failed = failed;
        }
    }

    /// The edges that had calls, in the order of their first ones.
    pub(super) fn edges(&self) -> impl Iterator<Item = (usize, &EdgeCalls)> {
        self.used.iter().map(|&edge| (edge, &self.edges[edge]))
    }

    /// The first calls, in the order in which they began.
    #[cfg_attr(not(feature = "serve"), allow(dead_code, reason = "workers tell them"))]
    pub(super) fn spans(&self) -> &[CallSpan] {
        &self.spans
    }
}

/// The bucket that counts a call.
fn bucket(run: Duration) -> usize {
    let nanos = u64::try_from(run.as_nanos()).unwrap_or(u64::MAX);
    BOUNDS.partition_point(|&bound| bound < nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> MonotonicTime {
        MonotonicTime::from_nanos(nanos)
    }

    #[test]
    fn a_call_is_in_one_bucket_at_or_below_its_bound() {
        let of = |nanos| bucket(Duration::from_nanos(nanos));
        assert_eq!([of(0), of(500), of(501), of(1_000)], [0, 0, 1, 1]);
        assert_eq!(of(10_000_000_000), BUCKETS - 2);
        assert_eq!(of(10_000_000_001), BUCKETS - 1);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert!(BOUNDS.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn calls_nest_as_they_were_made() {
        let mut r = Recorder::new(3);
        r.start(at(1000));
        let ready = Duration::from_nanos(7);
        let left = r.enter(0, None, at(1100), ready);
        let deep = r.enter(2, Some(&left), at(1200), Duration::ZERO);
        r.leave(deep, at(1300), Some(CauseKind::Crash));
        r.leave(left, at(1900), None);
        let right = r.enter(1, None, at(2000), Duration::ZERO);
        r.leave(right, at(5000), None);
        let spans: Vec<_> = r
            .spans()
            .iter()
            .map(|s| {
                (
                    s.edge,
                    s.within,
                    s.at.as_nanos(),
                    s.run.as_nanos(),
                    s.failed,
                )
            })
            .collect();
        assert_eq!(
            spans,
            [
                (0, None, 100, 800, None),
                (2, Some(0), 200, 100, Some(CauseKind::Crash)),
                (1, None, 1000, 3000, None),
            ]
        );
        let edges: Vec<_> = r.edges().collect();
        assert_eq!(edges.iter().map(|e| e.0).collect::<Vec<_>>(), [0, 2, 1]);
        let (left, deep) = (edges[0].1, edges[1].1);
        assert_eq!((left.calls, left.failures(), left.ready), (1, 0, ready));
        assert_eq!((deep.calls, deep.failures()), (1, 1));
        assert_eq!(deep.failed[CauseKind::Crash as usize], 1);
        // The next invocation has nothing of it.
        r.start(at(9000));
        assert_eq!((r.edges().count(), r.spans().len()), (0, 0));
        let again = r.enter(2, None, at(9001), Duration::ZERO);
        r.leave(again, at(9002), None);
        assert_eq!(r.edges().next().unwrap().1.failures(), 0);
    }

    /// However many there are, and however deep.
    #[test]
    fn more_calls_take_no_more_room() {
        let mut r = Recorder::new(2);
        for _ in 0..2 {
            r.start(at(0));
            let room = (r.edges.capacity(), r.used.capacity(), r.spans.capacity());
            for n in 0..5000 {
                let outer = r.enter(0, None, at(n), Duration::ZERO);
                let inner = r.enter(1, Some(&outer), at(n), Duration::ZERO);
                r.leave(inner, at(n + 1), None);
                r.leave(outer, at(n + 2), Some(CauseKind::Error));
            }
            assert_eq!(r.spans().len(), MOST_SPANS);
            let parents = |s: &CallSpan| s.within.is_none_or(|w| r.spans()[w].edge == 0);
            assert!(r.spans().iter().all(parents));
            let counts = r.edges().map(|(_, e)| (e.calls, e.failures()));
            assert_eq!(counts.collect::<Vec<_>>(), [(5000, 5000), (5000, 0)]);
            let after = (r.edges.capacity(), r.used.capacity(), r.spans.capacity());
            assert_eq!(room, after);
        }
    }

    #[test]
    fn a_call_that_is_in_no_tree_is_not_noted() {
        let mut r = Recorder::new(0);
        r.start(at(0));
        let call = r.enter(9, None, at(1), Duration::ZERO);
        r.leave(call, at(2), None);
        assert_eq!((r.edges().count(), r.spans().len()), (0, 0));
    }
}
