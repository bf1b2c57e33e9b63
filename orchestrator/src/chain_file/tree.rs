//! Who calls whom in a chain: the contexts that it needs, and the calls between
//! them.

use super::model::ChainFile;
use super::names::{ChainId, FunctionName};
use std::collections::{BTreeMap, BTreeSet};

/// Functions that a chain calls, directly or not, at most: each is a context.
pub(super) const MAX_CALLED: usize = 64;
/// Calls in a chain at most: each has two regions.
pub(super) const MAX_CALLS: usize = 256;
/// Steps and calls in all chains of a file at most, for both reasons.
pub(crate) const MAX_ALL_STEPS: u64 = 16_384;

/// The contexts that a chain needs, and who calls whom.
///
/// What [`load`](super::load) has read is bounded (64 called functions, 256
/// calls a chain), and nobody in it calls itself, not by way of others either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallTree {
    /// The chain's steps, in order, one for each; after them the function of its
    /// `on_error`, if it has one; after that each function that is called, once, in
    /// the order in which they are found: first those that the steps call; last those
    /// that run elsewhere and are called. A function that is a step and called too has
    /// a node for each step and one as a callee, and one more as the function of
    /// `on_error`.
    pub nodes: Vec<Node>,
    /// How many of the nodes run here, each in a context: the first ones.
    pub contexts: usize,
    /// Ordered by their caller, those of one caller as the file orders them.
    pub edges: Vec<Edge>,
    /// The node of the function that runs when a step has failed.
    pub on_error: Option<usize>,
}

/// A context of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What runs in it.
    pub function: FunctionName,
    /// The edges to those that it calls, in the file's order.
    pub calls: Vec<usize>,
    /// The edges from those that call it; none for a step, nor for the function of
    /// `on_error`.
    pub called_by: Vec<usize>,
}

/// One function may call another: two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Who calls.
    pub caller: usize,
    /// Who is called.
    pub callee: usize,
}

impl CallTree {
    /// The tree of a chain of a file.
    ///
    /// # Panics
    /// The file has no such chain.
    ///
    /// # Examples
    /// ```no_run
    /// # use lwc_orchestrator::chain_file::{CallTree, ChainId, load};
    /// # use std::path::Path;
    /// let (file, _) = load(Path::new("chain.toml")).unwrap();
    /// let search = ChainId::named("search").unwrap();
    /// let tree = CallTree::of(&file, &search);
    /// for edge in &tree.edges {
    ///     let function = |node: usize| &tree.nodes[node].function;
    ///     println!("{} calls {}", function(edge.caller), function(edge.callee));
    /// }
    /// ```
    pub fn of(file: &ChainFile, chain: &ChainId) -> Self {
        let chain = &file.chains[chain];
        let (functions, edges) = grow(chain.roots(), |f| file.calls_of(f), |_, _| false);
        let roots = chain.roots().count();
        let (functions, edges, contexts) = outside_last(functions, edges, |n, f| {
            let origin = file.functions.get(*f).map(|f| &f.origin);
            n >= roots && origin.is_some_and(|o| o.elsewhere().is_some())
        });
        let mut nodes: Vec<Node> = functions
            .into_iter()
            .map(|function| Node {
                function: function.clone(),
                calls: Vec::new(),
                called_by: Vec::new(),
            })
            .collect();
        for (n, edge) in edges.iter().enumerate() {
            nodes[edge.caller].calls.push(n);
            nodes[edge.callee].called_by.push(n);
        }
        let on_error = chain.on_error.is_some().then_some(chain.steps.len());
        Self {
            nodes,
            contexts,
            edges,
            on_error,
        }
    }
}

/// The same nodes with those that run elsewhere behind the others, and how many the
/// others are. Edges stay in their order, for no function elsewhere calls any.
fn outside_last<F>(
    nodes: Vec<F>,
    mut edges: Vec<Edge>,
    is_outside: impl Fn(usize, &F) -> bool,
) -> (Vec<F>, Vec<Edge>, usize) {
    let outside: Vec<bool> = nodes
        .iter()
        .enumerate()
        .map(|(n, f)| is_outside(n, f))
        .collect();
    let contexts = outside.iter().filter(|o| !**o).count();
    let (mut here, mut there) = (0, contexts);
    let places: Vec<usize> = outside
        .iter()
        .map(|&outside| {
            let next = if outside { &mut there } else { &mut here };
            *next += 1;
            *next - 1
        })
        .collect();
    for edge in &mut edges {
        (edge.caller, edge.callee) = (places[edge.caller], places[edge.callee]);
    }
    let (there, here): (Vec<_>, Vec<_>) = nodes.into_iter().zip(outside).partition(|(_, o)| *o);
    let nodes = here.into_iter().chain(there).map(|(f, _)| f).collect();
    (nodes, edges, contexts)
}

impl ChainFile {
    /// The functions that a chain needs: its steps and that of its `on_error`, and
    /// all that they call, directly or not.
    ///
    /// # Panics
    /// The file has no such chain.
    pub fn functions_of(&self, chain: &ChainId) -> BTreeSet<&FunctionName> {
        let roots = self.chains[chain].roots();
        let (functions, _) = grow(roots, |f| self.calls_of(f), |_, _| false);
        functions.into_iter().collect()
    }

    /// Whether all its chains have more steps and calls together than a file may:
    /// to be asked where chains were added, or cut into parts which each have
    /// their own contexts.
    #[cfg(feature = "serve")]
    pub(crate) fn is_too_large(&self) -> bool {
        let most = MAX_ALL_STEPS as usize;
        let mut all = 0;
        self.chains.values().any(|chain| {
            all += chain.roots().count();
            let enough = |_, edges| all + edges > most;
            let (_, edges) = grow(chain.roots(), |f| self.calls_of(f), enough);
            all += edges.len();
            all > most
        })
    }

    fn calls_of(&self, function: &FunctionName) -> &[FunctionName] {
        self.functions.get(function).map_or(&[], |f| &f.calls)
    }
}

/// The functions of a tree's nodes, first those that nobody calls (its `roots`), and
/// its edges. The walk ends early when
/// there are `enough`, told the nodes that are called and the edges so far. Each
/// function's calls are looked at once, and once for each root that it is.
pub(super) fn grow<F: Copy + Ord, C: IntoIterator<Item = F>>(
    roots: impl IntoIterator<Item = F>,
    calls: impl Fn(F) -> C,
    enough: impl Fn(usize, usize) -> bool,
) -> (Vec<F>, Vec<Edge>) {
    let mut nodes: Vec<F> = roots.into_iter().collect();
    let mut edges = Vec::new();
    let mut called = BTreeMap::new();
    let mut caller = 0;
    while let Some(&function) = nodes.get(caller) {
        for other in calls(function) {
            let callee = *called.entry(other).or_insert_with(|| {
                nodes.push(other);
                nodes.len() - 1
            });
            edges.push(Edge { caller, callee });
            if enough(called.len(), edges.len()) {
                return (nodes, edges);
            }
        }
        caller += 1;
    }
    (nodes, edges)
}

/// A call of a function that is waiting for a reply already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recursion<'a> {
    /// Who makes it, and which of its calls it is.
    pub(super) caller: usize,
    pub(super) nth: usize,
    /// The functions from the one that is called to the one that calls it.
    pub(super) path: &'a [usize],
}

/// Looks at each call of each function once, without recursion, first from
/// `entries` on. Whatever would be called again while it waits is given to
/// `found`: without those calls nobody calls itself. Gives all functions, each
/// after those that it calls.
pub(super) fn order(
    entries: impl IntoIterator<Item = usize>,
    calls: &[Vec<usize>],
    mut found: impl FnMut(Recursion<'_>),
) -> Vec<usize> {
    #[derive(Clone, Copy)]
    enum State {
        New,
        /// At this place in the path.
        Open(usize),
        Done,
    }
    let mut states = vec![State::New; calls.len()];
    let mut order = Vec::with_capacity(calls.len());
    let mut path: Vec<usize> = Vec::new();
    let mut next: Vec<usize> = Vec::new();
    for first in entries.into_iter().chain(0..calls.len()) {
        if !matches!(states[first], State::New) {
            continue;
        }
        states[first] = State::Open(0);
        path.push(first);
        next.push(0);
        while let (Some(&caller), Some(at)) = (path.last(), next.last_mut()) {
            let nth = *at;
            *at += 1;
            let Some(&callee) = calls[caller].get(nth) else {
                states[caller] = State::Done;
                order.push(caller);
                path.pop();
                next.pop();
                continue;
            };
            match states[callee] {
                State::New => {
                    states[callee] = State::Open(path.len());
                    path.push(callee);
                    next.push(0);
                }
                State::Open(place) => found(Recursion {
                    caller,
                    nth,
                    path: &path[place..],
                }),
                State::Done => {}
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Who would be called again, by whom, and the path between.
    fn circles(entries: &[usize], calls: &[Vec<usize>]) -> Vec<(usize, usize, Vec<usize>)> {
        let mut found = Vec::new();
        order(entries.iter().copied(), calls, |r| {
            found.push((r.caller, r.nth, r.path.to_vec()));
        });
        found
    }

    #[test]
    fn a_circle_is_told_by_the_call_that_closes_it() {
        let calls = [vec![2], vec![1, 2], vec![3, 4], vec![0, 2], vec![]];
        // From the first on: 0, 2, 3.
        assert_eq!(
            circles(&[], &calls),
            [(3, 0, vec![0, 2, 3]), (3, 1, vec![2, 3]), (1, 0, vec![1]),]
        );
        // From an entry on.
        assert_eq!(
            circles(&[2], &calls),
            [(0, 0, vec![2, 3, 0]), (3, 1, vec![2, 3]), (1, 0, vec![1])]
        );
        let calls = [vec![1, 2], vec![2], vec![]];
        assert_eq!(circles(&[], &calls), []);
        assert_eq!(order([], &calls, |_| {}), [2, 1, 0]);
    }

    #[test]
    fn a_hundred_thousand_in_a_row_need_no_stack() {
        let n = 100_000;
        let mut calls: Vec<_> = (1..n).map(|n| vec![n]).collect();
        calls.push(vec![]);
        assert_eq!(circles(&[], &calls), []);
        *calls.last_mut().unwrap() = vec![0];
        let found = circles(&[7], &calls);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, found[0].2.len()), (6, n));
    }

    #[test]
    fn a_tree_is_grown_until_there_are_enough() {
        let calls = |f: u32| [f + 1, f + 2];
        let (nodes, edges) = grow([0], calls, |called, edges| called > 9 || edges > 100);
        assert_eq!((nodes.len(), edges.len()), (11, 18));
        let (nodes, edges) = grow([0], calls, |called, edges| called > 100 || edges > 9);
        assert_eq!((nodes.len(), edges.len()), (7, 10));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn without_the_calls_that_are_told_nobody_calls_itself(
            calls in (1usize..9).prop_flat_map(|n| {
                prop::collection::vec(prop::collection::btree_set(0..n, 0..n), n)
            }),
            entries in prop::collection::vec(0usize..9, 0..3),
        ) {
            let mut calls: Vec<Vec<usize>> =
                calls.into_iter().map(|c| c.into_iter().collect()).collect();
            let entries: Vec<usize> = entries.into_iter().filter(|&e| e < calls.len()).collect();
            let mut found = circles(&entries, &calls);
            for (caller, nth, path) in &found {
                // Each is a circle that is there.
                prop_assert_eq!(path.last(), Some(caller));
                prop_assert_eq!(calls[*caller][*nth], path[0]);
                for pair in path.windows(2) {
                    prop_assert!(calls[pair[0]].contains(&pair[1]));
                }
            }
            found.sort_unstable();
            for (caller, nth, _) in found.into_iter().rev() {
                calls[caller].remove(nth);
            }
            let all = order(entries, &calls, |r| panic!("{r:?} is left"));
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), calls.len());
            for (place, &function) in all.iter().enumerate() {
                prop_assert!(calls[function].iter().all(|c| all[..place].contains(c)));
            }
        }
    }
}
