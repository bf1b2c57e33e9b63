//! In which order workers are given out where groups call each other, so that nobody
//! waits for ever.
//!
//! A call from one group to another holds a worker of the one while it waits for a worker
//! of the other. Functions do not call themselves, groups may: in `A → B → A`, or where
//! one chain has `A → B` and another `B → A`, all workers of both could wait for each
//! other.
//!
//! So each chain of the workers has a *level*: the most calls that may wait below it, one
//! within the other, among groups that can come to wait for each other (those on a
//! circle of calls; without one all levels are 0). A job is given to a worker of its group
//! only if, beside that one, as many are idle as the group has chains' levels below its
//! own.
//!
//! Then of each group's workers those at work for levels above `n` are never all, for
//! any level `n` that the group has: one more is taken or idle at `n` or below. A job
//! waits for none but jobs of lower levels, or in groups that wait for nobody of these; so
//! by induction over levels each that runs comes to an end, and each that waits has a
//! worker after some of them. It takes as many workers as a group has levels
//! ([`Order::workers`]).
//!
//! Nobody is promised when: a call that finds no worker in its callee's own timeout has
//! failed (`job.rs`).

use crate::chain_file::{CallTree, ChainFile, ChainId, Cut, GroupName, Origin};
use std::collections::{BTreeMap, BTreeSet};

/// Where and when the jobs of a chain are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The group, by its number in their order.
    pub(super) group: usize,
    /// How many workers have to be idle beside the one that gets a job.
    pub(super) leaves: usize,
    /// Whether whoever waits for a job has a worker of another group.
    pub(super) is_called: bool,
}

/// The places of all chains of the workers.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) places: BTreeMap<ChainId, Place>,
    /// How many workers each group needs at least.
    pub(super) workers: Vec<usize>,
}

impl Order {
    pub(super) fn of(cut: &Cut) -> Self {
        let numbers: BTreeMap<&GroupName, usize> =
            cut.files.keys().enumerate().map(|(n, g)| (g, n)).collect();
        let mut chains = Chains {
            group: BTreeMap::new(),
            calls: BTreeMap::new(),
            circles: Vec::new(),
            levels: BTreeMap::new(),
        };
        for (n, file) in cut.files.values().enumerate() {
            for chain in file.chains.keys() {
                chains.group.insert(chain, n);
                chains.calls.insert(chain, calls_of(file, chain));
            }
        }
        let calls = chains.calls.iter().flat_map(|(c, calls)| {
            let from = chains.group[c];
            let numbers = &numbers;
            calls.iter().map(move |(group, _)| (from, numbers[group]))
        });
        chains.circles = circles(numbers.len(), calls);
        let all: Vec<&ChainId> = chains.group.keys().copied().collect();
        let mut levels = vec![BTreeSet::new(); numbers.len()];
        for chain in &all {
            let level = chains.level(chain);
            levels[chains.group[chain]].insert(level);
        }
        let places = all.into_iter().map(|chain| {
            let group = chains.group[chain];
            let level = chains.levels[chain];
            let place = Place {
                group,
                leaves: levels[group].range(..level).count(),
                is_called: !cut
                    .files
                    .values()
                    .filter_map(|f| f.chains.get(chain))
                    .all(|c| c.called_by.is_empty()),
            };
            (chain.clone(), place)
        });
        Self {
            places: places.collect(),
            workers: levels.iter().map(|l| l.len().max(1)).collect(),
        }
    }
}

/// The chains of all groups.
struct Chains<'a> {
    group: BTreeMap<&'a ChainId, usize>,
    /// Of each the calls that leave its group: where to, and the chain there.
    calls: BTreeMap<&'a ChainId, Vec<(GroupName, ChainId)>>,
    /// Of each group those that it can come to wait for, and they for it.
    circles: Vec<Vec<bool>>,
    levels: BTreeMap<ChainId, usize>,
}

impl Chains<'_> {
    /// As deep as functions call each other: none calls itself.
    fn level(&mut self, chain: &ChainId) -> usize {
        if let Some(level) = self.levels.get(chain) {
            return *level;
        }
        let from = self.group[chain];
        let mut level = 0;
        for (_, callee) in self.calls[chain].clone() {
            if self.circles[from][self.group[&callee]] {
                level = level.max(1 + self.level(&callee));
            }
        }
        self.levels.insert(chain.clone(), level);
        level
    }
}

/// The calls of a chain's functions that leave their group.
fn calls_of(file: &ChainFile, chain: &ChainId) -> Vec<(GroupName, ChainId)> {
    let tree = CallTree::of(file, chain);
    let away = tree.nodes[tree.contexts..].iter();
    let calls = away.filter_map(|node| {
        let Origin::Group(group) = &file.functions[&node.function].origin else {
            return None;
        };
        Some((group.clone(), chain.callee(&node.function)))
    });
    calls.collect()
}

/// For each two groups whether each can come to wait for the other.
fn circles(groups: usize, calls: impl Iterator<Item = (usize, usize)>) -> Vec<Vec<bool>> {
    let mut reaches = vec![vec![false; groups]; groups];
    for (from, to) in calls {
        reaches[from][to] = true;
    }
    for by in 0..groups {
        let through = reaches[by].clone();
        for from in reaches.iter_mut().filter(|from| from[by]) {
            from.iter_mut()
                .zip(&through)
                .for_each(|(to, also)| *to |= also);
        }
    }
    let both = |a: usize, b: usize| reaches[a][b] && reaches[b][a];
    (0..groups)
        .map(|a| (0..groups).map(|b| both(a, b)).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain_file::{cut, parse};

    /// Functions by name, group and calls.
    fn order(functions: &[(&str, &str, &[&str])], chains: &str) -> Order {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f.c"), "").unwrap();
        let functions = functions.iter().map(|(name, group, calls)| {
            format!("[functions.{name}]\nsource = \"f.c\"\ngroup = {group:?}\ncalls = {calls:?}\n")
        });
        let text = functions.collect::<String>() + chains;
        let read = parse(&folder.path().join("chain.toml"), text);
        let (file, _) = read.unwrap_or_else(|r| panic!("{}", r.render(false)));
        Order::of(&cut(&file))
    }

    fn leaves(order: &Order, chain: &str) -> usize {
        order.places[chain].leaves
    }

    #[test]
    fn without_a_circle_nobody_leaves_any() {
        let order = order(
            &[
                ("top", "a", &["mid", "far"]),
                ("mid", "b", &["far"]),
                ("far", "c", &[]),
            ],
            "[workflows.w]\nentry = \"top\"\n[chains.x]\nsteps = [\"far\", \"top\"]\n",
        );
        assert!(order.places.values().all(|p| p.leaves == 0), "{order:?}");
        assert_eq!(order.workers, [1, 1, 1]);
        let called = |c: &str| order.places[c].is_called;
        assert!(!called("w") && called("w/calls/mid") && called("w/calls/far"));
        assert!(!called("x/1") && !called("x/2") && called("x/calls/far"));
        let groups = ["w", "w/calls/mid", "w/calls/far"].map(|c| order.places[c].group);
        assert_eq!(groups, [0, 1, 2]);
    }

    #[test]
    fn one_that_is_called_back_leaves_a_worker_for_that() {
        let order = order(
            &[
                ("top", "a", &["mid", "leaf"]),
                ("mid", "b", &["deep"]),
                ("deep", "a", &["low"]),
                ("low", "b", &[]),
                ("leaf", "c", &[]),
                ("alone", "a", &[]),
            ],
            "[workflows.w]\nentry = \"top\"\n[workflows.alone]\nentry = \"alone\"\n",
        );
        // Levels 3, 2, 1, 0; of those that are in a group.
        assert_eq!(leaves(&order, "w"), 2);
        assert_eq!(leaves(&order, "w/calls/mid"), 1);
        assert_eq!(leaves(&order, "w/calls/deep"), 1);
        assert_eq!(leaves(&order, "w/calls/low"), 0);
        assert_eq!(leaves(&order, "alone"), 0);
        // On no circle.
        assert_eq!(leaves(&order, "w/calls/leaf"), 0);
        assert_eq!(order.workers, [3, 2, 1]);
    }

    /// No path comes back to a group, and yet all could wait for each other.
    #[test]
    fn a_circle_may_be_of_several_chains() {
        let order = order(
            &[
                ("f", "a", &["g"]),
                ("g", "b", &[]),
                ("h", "b", &["k"]),
                ("k", "a", &[]),
            ],
            "[workflows.x]\nentry = \"f\"\n[workflows.y]\nentry = \"h\"\n",
        );
        let found = ["x", "x/calls/g", "y", "y/calls/k"].map(|c| leaves(&order, c));
        assert_eq!(found, [1, 0, 1, 0]);
        assert_eq!(order.workers, [2, 2]);
    }
}
