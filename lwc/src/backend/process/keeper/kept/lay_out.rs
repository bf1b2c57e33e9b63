//! The layout of a copy's memory as it was at its snapshot, by calls in its name.

use super::copy::{Base, Done, Failure, Kept};
use crate::backend::process::keeper::layout::{Area, differences, find, flag, within};
use crate::backend::process::keeper::{layout, trace};
use crate::backend::process::wire::keep::why;

/// Differences of the layout that are put right one by one, at most: with more a new
/// context is cheaper, and nobody's time is the keeper's to waste.
const REPAIRS: usize = 512;

impl Kept {
    /// The layout as it was, by calls in the context's name.
    pub(super) fn lay_out(&mut self, base: &mut Base<'_>) -> Done<()> {
        trace::clear_the_way(self.memory, self.rseq)?;
        let heap_end = self.heap_end;
        if self.call([libc::SYS_brk as u64, heap_end, 0, 0, 0, 0, 0])? != heap_end {
            return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, heap_end));
        }
        let was = self.areas;
        let replaced = self.replaced;
        let mut repairs = 0;
        for range in replaced.as_slice() {
            for area in within(was.as_slice(), range.start, range.end) {
                repairs += 1;
                if repairs > REPAIRS {
                    return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, area.start));
                }
                let (start, end) = (area.start.max(range.start), area.end.min(range.end));
                self.make(area, start, end)?;
            }
        }
        layout::read(self.maps, base.now)?;
        let mut failed = None;
        let is = *base.now;
        differences(was.as_slice(), is.as_slice(), |start, end, a, b| {
            repairs += 1;
            let done = repairs <= REPAIRS && self.lay_out_one(start, end, a, b).is_ok();
            failed = (!done).then_some(start);
            failed.is_none()
        });
        if let Some(at) = failed {
            return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, at));
        }
        // It may look alike and be of two pieces, by which code can tell. What is
        // made anew becomes one with its neighbours, unless these were inherited:
        // then all of it has to be new.
        let Some(at) = self.watch_all(base)? else {
            return Ok(());
        };
        let is = *base.now;
        let alike = |a: &Area| find(is.as_slice(), a.start).is_some_and(|b| is_same(a, b));
        for area in was.as_slice().iter().filter(|a| !alike(a)) {
            repairs += 1;
            if repairs > REPAIRS {
                return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, at));
            }
            self.make(area, area.start, area.end)?;
        }
        match self.watch_all(base)? {
            None => Ok(()),
            Some(at) => Err(Failure::new(libc::ENOTSUP, why::LAYOUT, at)),
        }
    }

    /// What is mapped anew is not watched, nor one with its neighbours, and is from
    /// here on. Where the layout is another than at the snapshot, piece by piece.
    fn watch_all(&mut self, base: &mut Base<'_>) -> Done<Option<u64>> {
        let was = self.areas;
        for area in was.as_slice().iter().filter(|a| a.is_tracked()) {
            self.watch.watch(area.start, area.end)?;
        }
        layout::read(self.maps, base.now)?;
        let (was, is) = (was.as_slice(), base.now.as_slice());
        let pairs = was.iter().zip(is);
        let same = pairs.take_while(|(a, b)| is_same(a, b)).count();
        let differs = was.get(same).or(is.get(same));
        Ok(differs.map(|a| a.start))
    }

    /// Memory of no file with the flags of an area, whatever is there; without
    /// bytes.
    fn make(&mut self, like: &Area, start: u64, end: u64) -> Done<()> {
        if !like.can_be_made() {
            return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, start));
        }
        let len = end - start;
        let has = |flag| like.flags & flag != 0;
        let mut flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        if has(flag::UNRESERVED) {
            flags |= libc::MAP_NORESERVE;
        }
        let (prot, no_file, flags) = (like.prot as u64, u64::MAX, flags as u64);
        self.call([libc::SYS_mmap as u64, start, len, prot, flags, no_file, 0])?;
        for (flag, advice) in [
            (flag::LARGE, libc::MADV_HUGEPAGE),
            (flag::SMALL, libc::MADV_NOHUGEPAGE),
        ] {
            if has(flag) {
                self.call([libc::SYS_madvise as u64, start, len, advice as u64, 0, 0, 0])?;
            }
        }
        Ok(())
    }

    fn lay_out_one(
        &mut self,
        start: u64,
        end: u64,
        was: Option<&Area>,
        is: Option<&Area>,
    ) -> Done<()> {
        let len = end - start;
        match (was, is) {
            // Mapped since.
            (None, Some(_)) => self.call([libc::SYS_munmap as u64, start, len, 0, 0, 0, 0]),
            // Its protection was changed.
            (Some(was), Some(is)) if was.same_memory(is) => {
                let prot = was.prot as u64;
                self.call([libc::SYS_mprotect as u64, start, len, prot, 0, 0, 0])
            }
            // What was taken away has been made anew, as far as it can be.
            _ => Err(Failure::new(libc::ENOTSUP, why::LAYOUT, start)),
        }
        .map(drop)
    }
}

/// Whether two pieces are the same, from end to end.
fn is_same(a: &Area, b: &Area) -> bool {
    a.start == b.start && a.end == b.end && a.is_like(b)
}
