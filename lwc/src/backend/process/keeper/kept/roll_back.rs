//! A copy goes back to its snapshot.

use super::copy::{Base, Done, Failure, Kept, ZEROS, how_many, is_code};
use crate::backend::files;
use crate::backend::process::keeper::layout::{Area, Kind, find, within};
use crate::backend::process::keeper::often::OFTEN;
use crate::backend::process::keeper::pages::{Look, PAGE, Run, is};
use crate::backend::process::keeper::sys::{Errno, read_at, write_at};
use crate::backend::process::keeper::{bits, layout, trace};
use crate::backend::process::wire::keep::{Means, why};

/// Ranges so near to each other are looked at as one: to look once more costs as
/// much as so many pages.
const NEAR: u64 = 64 * PAGE;

impl Kept {
    /// It goes back to its snapshot: how many pages. On an error of which the
    /// second part is true it stays stopped, and is to be ended.
    pub(crate) fn roll_back(
        &mut self,
        base: &mut Base<'_>,
        to: u64,
        had: u64,
    ) -> Result<u64, (Failure, bool)> {
        if !self.marked {
            return Err((Failure::new(libc::ENOENT, why::NO_SNAPSHOT, 0), false));
        }
        let undone = self.stop().and_then(|()| self.undo(base, to, had));
        undone.map_err(|e| (e, true))
    }

    fn undo(&mut self, base: &mut Base<'_>, to: u64, had: u64) -> Done<u64> {
        if let Some(signal) = self.faulted {
            return Err(Failure::new(libc::ENOTSUP, why::FAULT, signal as u64));
        }
        if let Some(number) = self.did {
            return Err(Failure::new(libc::ENOTSUP, why::DID, number));
        }
        let mask = self.compare_rest()?;
        self.compare_system()?;
        let mut count = 0;
        if self.watch.means == Means::Bits {
            // A stack grows without a call.
            self.relaid |= layout::size(self.statm)? != self.size;
            // Their bits are nobody's word: see `bits`.
            self.shared.written(0, u64::MAX);
        }
        // Before memory is put back: a place there is used for this.
        if self.signals.have_changed() {
            trace::clear_the_way(self.memory, self.rseq)?;
            let (at, registers) = (self.shared.spare(), self.registers);
            self.signals.restore(self.place(at, &registers))?;
        }
        // What it was lent, if it was: nobody has told. Descriptors that were not lent it
        // can neither make nor close without a call that is not undone, so there are more
        // of them exactly if it has something still. What lies at other numbers than those,
        // as it does of whoever is lent more than there are, is seen as well.
        if files::line().is_some() && (self.open == 0 || how_many(self.descriptors)? != self.open) {
            trace::clear_the_way(self.memory, self.rseq)?;
            self.take_back_lent()?;
            let left = how_many(self.descriptors)?;
            if left != self.open {
                return Err(Failure::new(libc::ENOTSUP, why::LENT, left));
            }
        }
        if self.relaid {
            self.lay_out(base)?;
            // Of a page of shared memory that has left a mapping nobody may know
            // that it was written there.
            self.shared.written(0, u64::MAX);
        }
        count += match self.watch.means {
            Means::Faults => self.restore_by_faults(base)?,
            Means::Bits => self.restore_by_bits(base)?,
        };
        count += self.drop_pages(base)?;
        self.shared.restore(self.memory, self.watch, to, had)?;
        self.watch.start_over()?;
        self.set()?;
        if mask != self.mask {
            trace::set_mask(self.pid, self.mask)?;
        }
        self.relaid = false;
        self.replaced.truncate(0);
        self.gone.truncate(0);
        self.often.done();
        trace::go_on(self.pid, 0)?;
        Ok(count)
    }

    /// All pages that were written or taken away, where a userfaultfd tells of them.
    fn restore_by_faults(&mut self, base: &mut Base<'_>) -> Done<u64> {
        let mut count = 0;
        if self.relaid {
            count += self.restore_missing(base)?;
        }
        let mut grown = None;
        count += self.restore_written(base, &mut grown)?;
        if grown.is_some() {
            // A stack grows without a call.
            self.lay_out(base)?;
            count += self.restore_missing(base)?;
            grown = None;
            count += self.restore_written(base, &mut grown)?;
            if let Some(at) = grown {
                return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, at));
            }
        }
        Ok(count)
    }

    /// The same where bits do; the layout is as it was already.
    fn restore_by_bits(&mut self, base: &mut Base<'_>) -> Done<u64> {
        let (map, areas, own) = (self.watch.map, self.areas, self.own);
        // Memory that cannot be written was not, while no call has changed that.
        let whole = self.relaid || self.writes;
        let looked_at = |a: &&Area| {
            a.is_private() && a.is_tracked() && (whole || a.prot & libc::PROT_WRITE != 0)
        };
        let (own, mut i) = (own.as_slice(), 0);
        let mut count = 0;
        for area in areas.as_slice().iter().filter(looked_at) {
            let mut run = Run::default();
            bits::entries(map, area.start, area.end, |page, entry| {
                while own.get(i).is_some_and(|r| r.end <= page) {
                    i += 1;
                }
                let had = own.get(i).is_some_and(|r| r.start <= page);
                if !self.may_differ(page, had, entry) {
                    return Ok(());
                }
                if run.end != page {
                    count += self.put_back_told(base.areas, run)?;
                    run.start = page;
                }
                run.end = page + PAGE;
                Ok(())
            })?;
            count += self.put_back_told(base.areas, run)?;
        }
        Ok(count)
    }

    /// Whether a page may be another than at the snapshot, by what its entry says,
    /// and whether it `had` bytes of its own then. (One that had none and is its
    /// file's, or nowhere, is what it was.)
    fn may_differ(&self, page: u64, had: bool, entry: bits::Entry) -> bool {
        let is = entry.is_own();
        // Whoever can write to files can clear bits, and lie by that.
        let said = entry.is_dirty() || self.writes;
        let gone = || {
            self.gone
                .as_slice()
                .iter()
                .any(|r| (r.start..r.end).contains(&page))
        };
        if had {
            said || !is || gone()
        } else {
            said && is
        }
    }

    /// The pristine bytes of pages that may be others. Where all of an area is said
    /// to be written, because memory has come to it, or nothing that is said counts,
    /// only those are put back, and counted, that are others: memory that was only
    /// read would be made else.
    fn put_back_told(&mut self, known: &[Area], run: Run) -> Result<u64, Errno> {
        if run.is_empty() {
            return Ok(0);
        }
        if !self.relaid && !self.writes {
            return self.put_back(known, run);
        }
        let areas = self.areas;
        let area = find(areas.as_slice(), run.start).ok_or(libc::EFAULT)?;
        let mut count = 0;
        let mut other = Run::default();
        for page in (run.start..run.end).step_by(PAGE as usize) {
            if self.is_as_it_was(area, known, page)? {
                continue;
            }
            if other.end != page {
                if !other.is_empty() {
                    count += self.put_back(known, other)?;
                }
                other.start = page;
            }
            other.end = page + PAGE;
        }
        if !other.is_empty() {
            count += self.put_back(known, other)?;
        }
        Ok(count)
    }

    fn is_as_it_was(&self, area: &Area, known: &[Area], page: u64) -> Result<bool, Errno> {
        let mut now = [0u64; PAGE as usize / 8];
        // SAFETY: the size of the local.
        match unsafe { read_at(self.memory, now.as_mut_ptr().cast(), PAGE as usize, page) } {
            Ok(()) => {}
            // Behind the end of its file, where it may have had bytes.
            Err(libc::EIO) => return Ok(false),
            Err(e) => return Err(e),
        }
        let was = self.source(area, known, page).cast::<u64>();
        // SAFETY: a page of the store, of the keeper's own memory that can be read
        // (`has`), or of zeros; any bytes are words.
        Ok(now == unsafe { *was.cast::<[u64; PAGE as usize / 8]>() })
    }

    /// What of it nobody else can set is as it was at the snapshot. The signals that
    /// it blocks.
    fn compare_rest(&self) -> Done<u64> {
        let now = trace::registers(self.pid)?;
        let differ = trace::fixed_flags(&now) ^ trace::fixed_flags(&self.registers);
        if differ != 0 {
            return Err(Failure::new(libc::ENOTSUP, why::FLAGS, differ));
        }
        let mask = trace::mask(self.pid)?;
        // A fault that came just when it was stopped waits still, and one whose
        // signal is blocked. None does where it waits with nothing blocked, which is
        // so nearly always, and is seen without asking.
        if !self.waits(&now) || mask != 0 || self.pending != 0 {
            let pending = trace::pending(self.pid)?;
            if pending != self.pending {
                return Err(Failure::new(libc::ENOTSUP, why::SIGNALS, pending));
            }
        }
        Ok(mask)
    }

    fn compare_system(&self) -> Done<()> {
        if !self.writes {
            return Ok(());
        }
        let areas = self.areas;
        let mut known = self.system.as_slice();
        for area in areas.as_slice().iter().filter(|a| is_code(a)) {
            for at in (area.start..area.end).step_by(PAGE as usize) {
                let mut page = [0u8; PAGE as usize];
                // SAFETY: the local's size.
                unsafe { read_at(self.memory, page.as_mut_ptr(), page.len(), at)? };
                let Some((like, rest)) = known.split_at_checked(page.len()) else {
                    return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, at));
                };
                known = rest;
                if like != page {
                    return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, at));
                }
            }
        }
        Ok(())
    }

    /// Pages that had bytes of its own and were taken away.
    fn restore_missing(&mut self, base: &mut Base<'_>) -> Done<u64> {
        let mut count = 0;
        let (watch, own) = (self.watch, self.own);
        let (areas, runs) = (base.areas, &mut *base.runs);
        let all = self.areas;
        for had in own.as_slice() {
            for area in within(all.as_slice(), had.start, had.end) {
                let (from, to) = (area.start.max(had.start), area.end.min(had.end));
                // Where there is a file behind, what is dropped is the file's.
                let look = if area.inode == 0 {
                    Look::Missing
                } else {
                    Look::NotOwn
                };
                watch.scan_all(look, from, to, runs, |run| {
                    count += self.put_back(areas, run)?;
                    Ok(())
                })?;
            }
        }
        Ok(count)
    }

    /// Pages that were written. `grown`: an address where nothing was.
    fn restore_written(&mut self, base: &mut Base<'_>, grown: &mut Option<u64>) -> Done<u64> {
        let mut count = 0;
        let (watch, areas) = (self.watch, self.areas);
        let (known, runs) = (base.areas, &mut *base.runs);
        let all = areas.as_slice();
        // Memory that cannot be written was not, while no call has changed that.
        let whole = self.relaid || self.writes;
        let looked_at = |a: &Area| a.is_tracked() && (whole || a.prot & libc::PROT_WRITE != 0);
        let mut i = 0;
        let mut from = 0;
        while i < all.len() {
            if !looked_at(&all[i]) {
                from = all[i].end;
                i += 1;
                continue;
            }
            // All that lie together: one look.
            let mut last = i;
            while all.get(last + 1).is_some_and(looked_at) {
                last += 1;
            }
            let mut doubtful = Run::default();
            watch.scan_all(Look::Touched, from, all[last].end, runs, |run| {
                let mut rest = run;
                while !rest.is_empty() {
                    let part = first_part(all, rest);
                    rest.start = part.end;
                    if self.is_written(part) {
                        count += self.put_back_written(known, part, grown)?;
                    } else if !doubtful.is_empty() && part.start - doubtful.end <= NEAR {
                        doubtful.end = part.end;
                    } else {
                        count += self.look_closely(known, doubtful, grown)?;
                        doubtful = part;
                    }
                }
                Ok(())
            })?;
            count += self.look_closely(known, doubtful, grown)?;
            from = all[last].end;
            i = last + 1;
        }
        Ok(count)
    }

    /// Whether pages of one area that were touched were written, as far as is
    /// known: they had bytes of their own, and no call has taken them away
    /// unnoticed; or they are shared with a peer, and nowhere when they were
    /// written and have been paged out since.
    fn is_written(&self, run: Run) -> bool {
        let area = find(self.areas.as_slice(), run.start);
        if area.is_some_and(|a| a.kind != Kind::Plain) {
            return true;
        }
        let own = self.own.as_slice();
        let mut i = own.partition_point(|r| r.end <= run.start);
        let mut at = run.start;
        while at < run.end {
            match own.get(i) {
                Some(r) if r.start <= at => at = r.end,
                _ => return false,
            }
            i += 1;
        }
        true
    }

    /// Puts back which pages of a range were written. Those that have no memory
    /// are not doubtful the next time, where there is a page table to say so.
    fn look_closely(
        &mut self,
        known: &[Area],
        range: Run,
        grown: &mut Option<u64>,
    ) -> Result<u64, Errno> {
        let mut count = 0;
        if range.is_empty() {
            return Ok(0);
        }
        let mut room = [Run::default(); 64];
        let (watch, from, to) = (self.watch, range.start, range.end);
        watch.scan_all(Look::Written, from, to, &mut room, |run| {
            count += self.put_back_written(known, run, grown)?;
            Ok(())
        })?;
        watch.protect_all(from, to)?;
        Ok(count)
    }

    fn put_back_written(
        &mut self,
        known: &[Area],
        run: Run,
        grown: &mut Option<u64>,
    ) -> Result<u64, Errno> {
        let areas = self.areas;
        let mut count = 0;
        let mut at = run.start;
        while at < run.end {
            let Some(area) = find(areas.as_slice(), at) else {
                grown.get_or_insert(at);
                at += PAGE;
                continue;
            };
            let part = Run {
                start: at,
                end: run.end.min(area.end),
                what: run.what,
            };
            at = part.end;
            match area.kind {
                Kind::Pair => self.shared.written(part.start, part.end),
                Kind::Plain if area.is_private() => {
                    // Read alone: it is its file's, or zero, as it was.
                    let clean = run.what & (is::FILE | is::ZERO) != 0;
                    let skip = |page| clean && !self.is_own(page);
                    if (part.start..part.end).step_by(PAGE as usize).all(skip) {
                        self.watch.protect(part.start, part.end)?;
                    } else {
                        count += self.put_back(known, part)?;
                    }
                }
                _ => {}
            }
        }
        Ok(count)
    }

    /// The pristine bytes of pages that lie in one area.
    fn put_back(&mut self, known: &[Area], run: Run) -> Result<u64, Errno> {
        let areas = self.areas;
        let area = find(areas.as_slice(), run.start).ok_or(libc::EFAULT)?;
        let mut at = run.start;
        while at < run.end {
            let from = self.source(area, known, at);
            let zeros = from == ZEROS.0.as_ptr();
            let mut end = at + PAGE;
            let most = if zeros {
                at + ZEROS.0.len() as u64
            } else {
                run.end
            };
            while end < run.end.min(most) {
                let next = self.source(area, known, end);
                let follows = if zeros {
                    from
                } else {
                    from.wrapping_add((end - at) as usize)
                };
                if next != follows {
                    break;
                }
                end += PAGE;
            }
            // SAFETY: so many bytes lie together there: pages of the store, of
            // the keeper's own memory that can be read (`has`), or zeros.
            unsafe { write_at(self.memory, from, (end - at) as usize, at)? };
            at = end;
        }
        self.protect_put_back(run)?;
        Ok((run.end - run.start) / PAGE)
    }

    /// Pages that were put back count as unwritten, but for those that are written each
    /// time.
    fn protect_put_back(&mut self, run: Run) -> Result<(), Errno> {
        let mut from = run.start;
        for page in (run.start..run.end).step_by(PAGE as usize).take(OFTEN) {
            if self.often.put_back(page) {
                if from < page {
                    self.watch.protect(from, page)?;
                }
                from = page + PAGE;
            }
        }
        if from < run.end {
            self.watch.protect(from, run.end)?;
        }
        Ok(())
    }
}

/// Those pages at the beginning of a run that lie in one area, or in none.
fn first_part(areas: &[Area], run: Run) -> Run {
    let next = areas.partition_point(|a| a.end <= run.start);
    let end = match areas.get(next) {
        Some(area) if area.start <= run.start => area.end,
        Some(area) => area.start,
        None => run.end,
    };
    Run {
        end: end.min(run.end),
        ..run
    }
}
