//! What is written of a process's pages from some moment on, by either means: a
//! userfaultfd ([`pages`]) or soft-dirty bits ([`bits`]).

use super::bits;
use super::pages::{self, Look, Run};
use super::sys::Errno;
use crate::backend::process::wire::keep::Means;

/// A process's pages, and what is written of them from some moment on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    pub(crate) means: Means,
    /// Its page map.
    pub(crate) map: i32,
    /// A userfaultfd of it, or its /proc/PID/clear_refs. Negative: it is only looked
    /// at.
    pub(crate) file: i32,
}

impl Watch {
    /// It is told of some pages of a range which of them are written.
    pub(crate) fn watch(self, start: u64, end: u64) -> Result<(), Errno> {
        // Bits are there for all memory.
        if self.means == Means::Bits {
            return Ok(());
        }
        pages::watch(self.file, start, end)
    }

    /// Pages count as not written from now on. By bits they do once
    /// [`start_over`](Self::start_over) says so of all at once.
    pub(crate) fn protect(self, start: u64, end: u64) -> Result<(), Errno> {
        if self.means == Means::Bits {
            return Ok(());
        }
        pages::protect(self.file, start, end)
    }

    /// The same of those that are there, and those that page tables have room for
    /// beside them count as not touched.
    pub(crate) fn protect_all(self, start: u64, end: u64) -> Result<(), Errno> {
        match self.means {
            Means::Faults => pages::scan(self.map, Look::Protect, start, end, &mut []).map(drop),
            Means::Bits => Ok(()),
        }
    }

    /// No page of the process counts as written from now on, if its bits are what
    /// tells. It is stopped meanwhile.
    pub(crate) fn start_over(self) -> Result<(), Errno> {
        match self.means {
            Means::Faults => Ok(()),
            Means::Bits => bits::clear(self.file),
        }
    }

    /// Calls `each` with all runs of pages in a range. By bits one can look for
    /// those alone that are [`Look::Own`], or not, or [`Look::Missing`].
    pub(crate) fn scan_all(
        self,
        look: Look,
        start: u64,
        end: u64,
        room: &mut [Run],
        mut each: impl FnMut(Run) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if self.means == Means::Bits {
            return bits::scan_all(self.map, look, start, end, each);
        }
        let mut at = start;
        while at < end {
            let (n, next) = pages::scan(self.map, look, at, end, room)?;
            for run in &room[..n] {
                each(*run)?;
            }
            // It always gets on; should it not, this ends.
            at = if next > at { next } else { end };
        }
        Ok(())
    }
}
