//! A tree of calls as lines, for people.

use crate::chain_file::CallTree;

/// One call of a tree.
pub(super) struct Line {
    /// Its edge.
    pub(super) edge: usize,
    /// What stands before its callee's name.
    pub(super) stem: String,
    /// The callee has calls, and they are above.
    pub(super) again: bool,
}

/// A tree that is drawn once. Whom a function calls is shown where it comes first:
/// written out at each place, it could be without end.
pub(super) struct Drawing<'a> {
    tree: &'a CallTree,
    shown: Vec<bool>,
}

impl<'a> Drawing<'a> {
    pub(super) fn of(tree: &'a CallTree) -> Self {
        Self {
            tree,
            shown: vec![false; tree.nodes.len()],
        }
    }

    /// The calls of a node, and those below them, each line with this before it.
    pub(super) fn below(&mut self, node: usize, before: &str) -> Vec<Line> {
        let tree = self.tree;
        // Calls to show, the next last, each with what stands before it.
        let calls = |node: usize, before: &str| {
            let calls = tree.nodes[node].calls.iter().rev().enumerate();
            let with = |(n, &edge): (usize, &usize)| (edge, before.to_owned(), n == 0);
            calls.map(with).collect::<Vec<_>>()
        };
        let mut lines = Vec::new();
        let mut next = calls(node, before);
        while let Some((edge, before, last)) = next.pop() {
            let callee = tree.edges[edge].callee;
            let again = std::mem::replace(&mut self.shown[callee], true);
            let branch = if last { "└─ " } else { "├─ " };
            lines.push(Line {
                edge,
                stem: format!("{before}{branch}"),
                again: again && !tree.nodes[callee].calls.is_empty(),
            });
            if !again {
                let before = before + if last { "   " } else { "│  " };
                next.extend(calls(callee, &before));
            }
        }
        lines
    }
}
