//! Chains whose steps are chains: how long each is, and which functions run.
//!
//! A file of two kilobytes can name 2^40 steps, or chains without an end, or
//! twenty thousand each inside the next. So lengths are reckoned first, looking
//! at each step of the file once, without recursion; only what is short enough
//! is written out.

/// A step of a chain, looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The function of this number.
    Function(usize),
    /// The chain of this number.
    Chain(usize),
    /// Nothing that is known; told elsewhere.
    Unknown,
}

/// What a chain comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// So many functions; the largest number where there are more.
    Steps(u64),
    /// It contains itself, or this chain, which has no end.
    Endless(usize),
}

/// The lengths of all chains, and their numbers in an order in which each comes
/// after those that it contains, if they have an end.
#[derive(Debug)]
pub(super) struct Lengths {
    pub(super) of: Vec<Length>,
    order: Vec<usize>,
}

#[derive(Clone, Copy)]
enum State {
    New,
    Open,
    Done(Length),
}

/// A chain whose steps are being looked at: which is next, and what the ones
/// before came to.
struct Visit {
    chain: usize,
    next: usize,
    steps: u64,
    endless: Option<usize>,
}

impl Visit {
    fn of(chain: usize) -> Self {
        Self {
            chain,
            next: 0,
            steps: 0,
            endless: None,
        }
    }
}

impl Lengths {
    /// Reckons them. Every step of every chain is looked at once, and once more
    /// when the chain that it names is done.
    pub(super) fn of(chains: &[Vec<Step>]) -> Self {
        let mut states = vec![State::New; chains.len()];
        let mut order = Vec::with_capacity(chains.len());
        let mut open: Vec<Visit> = Vec::new();
        for first in 0..chains.len() {
            if matches!(states[first], State::New) {
                states[first] = State::Open;
                open.push(Visit::of(first));
            }
            while let Some(visit) = open.last_mut() {
                let Some(step) = chains[visit.chain].get(visit.next) else {
                    let length = match visit.endless {
                        Some(next) => Length::Endless(next),
                        None => Length::Steps(visit.steps),
                    };
                    states[visit.chain] = State::Done(length);
                    order.push(visit.chain);
                    open.pop();
                    continue;
                };
                match *step {
                    Step::Unknown => {}
                    Step::Function(_) => visit.steps = visit.steps.saturating_add(1),
                    Step::Chain(inner) => match states[inner] {
                        State::New => {
                            // Looked at again when it is done.
                            states[inner] = State::Open;
                            open.push(Visit::of(inner));
                            continue;
                        }
                        State::Done(Length::Steps(n)) => {
                            visit.steps = visit.steps.saturating_add(n);
                        }
                        State::Open | State::Done(Length::Endless(_)) => {
                            visit.endless.get_or_insert(inner);
                        }
                    },
                }
                visit.next += 1;
            }
        }
        let of = states
            .into_iter()
            .map(|state| match state {
                State::Done(length) => length,
                // All have been visited.
                State::New | State::Open => Length::Steps(0),
            })
            .collect();
        Self { of, order }
    }

    /// The functions of each chain, in order. Their number is the sum of the
    /// lengths: the caller has made sure that it is small. Chains without an end
    /// have none.
    pub(super) fn write_out(&self, chains: &[Vec<Step>]) -> Vec<Vec<usize>> {
        let mut out = vec![Vec::new(); chains.len()];
        for &chain in &self.order {
            if matches!(self.of[chain], Length::Endless(_)) {
                continue;
            }
            let mut functions = Vec::new();
            for step in &chains[chain] {
                match *step {
                    Step::Function(f) => functions.push(f),
                    Step::Chain(inner) => functions.extend_from_slice(&out[inner]),
                    Step::Unknown => {}
                }
            }
            out[chain] = functions;
        }
        out
    }

    /// How a chain without an end goes on, up to the first that comes again,
    /// which is last; `None` in the middle where more than `shown` come before.
    pub(super) fn path(&self, chain: usize, shown: usize) -> Vec<Option<usize>> {
        let mut path = vec![chain];
        let mut seen = vec![false; self.of.len()];
        seen[chain] = true;
        let mut at = chain;
        while let Length::Endless(next) = self.of[at] {
            path.push(next);
            at = next;
            if std::mem::replace(&mut seen[next], true) {
                break;
            }
        }
        let mut out: Vec<Option<usize>> = path.iter().copied().map(Some).collect();
        if out.len() > shown + 1 {
            out.splice(shown - 1..out.len() - 1, [None]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::Step::{Chain, Function, Unknown};
    use super::*;

    fn lengths(chains: &[Vec<Step>]) -> Vec<Length> {
        Lengths::of(chains).of
    }

    #[test]
    fn chains_are_written_out_in_place() {
        let chains = [
            vec![Function(0), Chain(1), Function(2)],
            vec![Chain(2), Function(1), Chain(2)],
            vec![Function(3)],
        ];
        let found = Lengths::of(&chains);
        assert_eq!(found.of, [5, 3, 1].map(Length::Steps));
        assert_eq!(
            found.write_out(&chains),
            [vec![0, 3, 1, 3, 2], vec![3, 1, 3], vec![3]]
        );
    }

    #[test]
    fn doubling_is_reckoned_and_not_walked() {
        for (leaf, steps) in [(Function(0), 1u64 << 40), (Unknown, 0)] {
            let mut chains: Vec<_> = (1..=40).map(|n| vec![Chain(n); 2]).collect();
            chains.push(vec![leaf]);
            assert_eq!(lengths(&chains)[0], Length::Steps(steps));
        }
        let mut chains: Vec<_> = (1..=100).map(|n| vec![Chain(n); 2]).collect();
        chains.push(vec![Function(0)]);
        assert_eq!(lengths(&chains)[0], Length::Steps(u64::MAX));
    }

    #[test]
    fn a_hundred_thousand_in_a_row_need_no_stack() {
        let n = 100_000;
        let mut chains: Vec<_> = (1..n).map(|n| vec![Chain(n)]).collect();
        chains.push(vec![Function(7)]);
        let found = Lengths::of(&chains);
        assert!(found.of.iter().all(|l| *l == Length::Steps(1)));
        assert_eq!(found.write_out(&chains)[0], [7]);
        *chains.last_mut().unwrap() = vec![Chain(0)];
        let found = Lengths::of(&chains);
        assert_eq!(found.of[5], Length::Endless(6));
        assert_eq!(found.path(5, 4), [Some(5), Some(6), Some(7), None, Some(5)]);
    }

    #[test]
    fn what_has_no_end_is_told_from_what_has() {
        let chains = [
            vec![Chain(1), Function(0)],
            vec![Function(0), Chain(2)],
            vec![Chain(1), Chain(3)],
            vec![Function(0)],
            vec![Chain(4)],
            vec![Chain(3), Chain(3)],
        ];
        let found = Lengths::of(&chains);
        assert_eq!(
            found.of,
            [
                Length::Endless(1),
                Length::Endless(2),
                Length::Endless(1),
                Length::Steps(1),
                Length::Endless(4),
                Length::Steps(2)
            ]
        );
        assert_eq!(found.path(0, 9), [0, 1, 2, 1].map(Some));
        assert_eq!(found.path(4, 9), [4, 4].map(Some));
        assert!(found.write_out(&chains)[0].is_empty());
        // A chain that is done while one of its steps is open.
        let knot = [vec![Chain(1), Chain(2)], vec![Chain(2)], vec![Chain(1)]];
        assert!(
            lengths(&knot)
                .iter()
                .all(|l| matches!(l, Length::Endless(_)))
        );
    }
}
