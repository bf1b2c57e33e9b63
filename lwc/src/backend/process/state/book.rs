//! The root's book: every context of the process, and who holds whom.

use super::share::Share;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

/// Contexts in one process at most; `kern.lwc.max_contexts` of the module.
pub(crate) const MAX_CONTEXTS: usize = 4096;

/// A context that is not the root.
pub(crate) struct Entry {
    pub(crate) creator: u64,
    /// To whom its end is told: its creator, or the heir of one that has ended.
    pub(crate) heir: u64,
    pub(crate) flags: u32,
    /// 0 until its creator has reported it.
    pub(crate) pid: i32,
    /// The root's channel to it.
    pub(crate) channel: usize,
    /// Descriptors on it, by holder.
    pub(crate) holders: BTreeMap<u64, u32>,
    /// Killed by us: dead for everybody from then on, and its death is no news.
    pub(crate) doomed: bool,
    /// Pages for the contexts that it will make, if it is trapped.
    pub(crate) slots: Option<Rc<OwnedFd>>,
    /// Its doorbell's file, for those that are to ring it; none of those that
    /// trapped contexts make.
    pub(crate) bell: Option<OwnedFd>,
    /// Its end of the line to the root, until it has a process.
    pub(crate) line: Option<OwnedFd>,
    /// What tells its share of memory, if it has handed that over.
    pub(crate) share: Option<Share>,
}

/// The register of contexts.
pub(crate) struct Book {
    pub(crate) next: u64,
    pub(crate) entries: BTreeMap<u64, Entry>,
}

impl Book {
    pub(crate) fn new() -> Self {
        Self {
            next: 2,
            entries: BTreeMap::new(),
        }
    }

    /// Contexts that have a process, the root included.
    pub(crate) fn count(&self) -> usize {
        self.entries.len() + 1
    }

    /// Those of them that have not been ended by us.
    pub(crate) fn living(&self) -> usize {
        self.count() - self.entries.values().filter(|e| e.doomed).count()
    }

    /// Whether we have killed a context, which may be about to end still.
    pub(crate) fn is_doomed(&self, id: u64) -> bool {
        self.entries.get(&id).is_some_and(|e| e.doomed)
    }

    pub(crate) fn pid(&self, id: u64) -> Option<i32> {
        self.entries.get(&id).map(|e| e.pid)
    }

    /// The file of a live context's doorbell.
    pub(crate) fn bell(&self, id: u64) -> Option<BorrowedFd<'_>> {
        self.entries.get(&id)?.bell.as_ref().map(AsFd::as_fd)
    }

    /// The root's channel to a live context.
    pub(crate) fn channel(&self, id: u64) -> Option<usize> {
        self.entries.get(&id).map(|e| e.channel)
    }

    /// Creator and flags of a live context.
    pub(crate) fn origin(&self, id: u64) -> Option<(u64, u32)> {
        self.entries.get(&id).map(|e| (e.creator, e.flags))
    }

    /// Where a context's own contexts will have their pages.
    pub(crate) fn slots(&self, id: u64) -> Option<Rc<OwnedFd>> {
        self.entries.get(&id)?.slots.clone()
    }

    /// Those of slots, doorbells and files.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        let slots = |e: &Entry| e.slots.as_ref().map(|n| n.as_raw_fd());
        let bells = |e: &Entry| e.bell.as_ref().map(AsRawFd::as_raw_fd);
        let lines = |e: &Entry| e.line.as_ref().map(AsRawFd::as_raw_fd);
        let shares = |e: &Entry| e.share.as_ref().map(AsRawFd::as_raw_fd);
        let all = self.entries.values();
        all.flat_map(move |e| [slots(e), bells(e), lines(e), shares(e)])
            .flatten()
    }

    /// Whether a creator has booked a context that has no process yet.
    pub(crate) fn is_making(&self, creator: u64) -> bool {
        self.entries
            .values()
            .any(|e| e.creator == creator && e.pid == 0)
    }

    /// One more descriptor on `target`.
    pub(crate) fn hold(&mut self, holder: u64, target: u64) {
        if let Some(e) = self.entries.get_mut(&target) {
            *e.holders.entry(holder).or_default() += 1;
        }
    }

    /// One less.
    pub(crate) fn release(&mut self, holder: u64, target: u64) {
        if let Some(e) = self.entries.get_mut(&target)
            && let Some(n) = e.holders.get_mut(&holder)
        {
            *n -= 1;
            if *n == 0 {
                e.holders.remove(&holder);
            }
        }
    }

    /// Whether a context is one of `live`, or such a one has a descriptor of
    /// it, or of one that has one, and so on. Contexts that only name each
    /// other are not.
    pub(crate) fn named(&self, id: u64, live: [u64; 2]) -> bool {
        let mut seen = BTreeSet::from([id]);
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            if live.contains(&id) {
                return true;
            }
            if let Some(e) = self.entries.get(&id) {
                next.extend(e.holders.keys().filter(|&&h| seen.insert(h)));
            }
        }
        false
    }
}
