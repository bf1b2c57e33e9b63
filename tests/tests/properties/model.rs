//! Who can see what, said plainly.

use std::collections::BTreeMap;

/// Pages and files that are played with.
pub(crate) const PAGES: usize = 4;
pub(crate) const FILES: usize = 2;

/// What a descriptor of a context still lets its holder take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rights {
    pub(crate) pages: [bool; PAGES],
    pub(crate) files: [bool; FILES],
}

/// One context.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// Which cell each page shows, if it is mapped.
    pub(crate) pages: [Option<usize>; PAGES],
    /// Which of them were shared here: on the kernel backend they are shared
    /// memory from then on, also with contexts that are made without a word
    /// about them.
    pub(crate) shared: [bool; PAGES],
    /// Which file each number is, if it is open.
    pub(crate) files: [Option<usize>; FILES],
    /// Descriptors of contexts: by descriptor number, whom and how far.
    pub(crate) holds: BTreeMap<i32, (usize, Rights)>,
    pub(crate) dead: bool,
}

/// All contexts ever, the root first, and all memory ever.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) views: Vec<View>,
    pub(crate) cells: Vec<u64>,
}

impl Model {
    pub(crate) fn new() -> Self {
        let mut model = Self::default();
        let mut root = View::default();
        for page in &mut root.pages {
            model.cells.push(0);
            *page = Some(model.cells.len() - 1);
        }
        model.views.push(root);
        model
    }

    /// A private copy of a cell.
    pub(crate) fn copy(&mut self, cell: Option<usize>) -> Option<usize> {
        cell.map(|c| {
            self.cells.push(self.cells[c]);
            self.cells.len() - 1
        })
    }

    /// What a context sees of its pages and files.
    pub(crate) fn sight(&self, id: usize) -> ([Option<u64>; PAGES], [Option<usize>; FILES]) {
        let view = &self.views[id];
        (view.pages.map(|p| p.map(|c| self.cells[c])), view.files)
    }

    /// The contexts that the root reaches by descriptors: those that live.
    pub(crate) fn living(&self) -> usize {
        let mut seen = vec![0];
        let mut next = vec![0];
        while let Some(id) = next.pop() {
            for &(held, _) in self.views[id].holds.values() {
                if !self.views[held].dead && !seen.contains(&held) {
                    seen.push(held);
                    next.push(held);
                }
            }
        }
        seen.len()
    }
}
