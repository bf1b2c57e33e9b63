//! A copy's present state becomes its snapshot.

use super::copy::{Base, Done, Failure, Kept, NOTHING, Saved, ZEROS, has, how_many, is_code};
use crate::backend::process::keeper::layout::{Area, Kind, find, flag};
use crate::backend::process::keeper::often::Often;
use crate::backend::process::keeper::pages::{Look, PAGE};
use crate::backend::process::keeper::sys::{Errno, give_way, pause, read_at, write_at};
use crate::backend::process::keeper::trace::Registers;
use crate::backend::process::keeper::{bits, layout, signals, trace};
use crate::backend::process::wire::keep::{Means, why};

/// Calls of which the keeper is not told, and which write to files.
const WRITES: [i64; 3] = [libc::SYS_write, libc::SYS_writev, libc::SYS_pwrite64];

/// As many pages as are read at once.
const AT_ONCE: u64 = 16;

impl Kept {
    /// Its present state is its snapshot. It runs on in any case.
    pub(crate) fn snapshot(&mut self, base: &mut Base<'_>) -> Done<()> {
        self.marked = false;
        self.stop_it()?;
        let done = match self.threads.are_allowed() {
            true => self.alone(),
            false => Ok(()),
        };
        let done = done.and_then(|()| self.take(base));
        self.marked = done.is_ok();
        let end = trace::go_on(self.pid, 0);
        done.and(end.map_err(Failure::from))
    }

    /// Registers of one that waits for a switch: it begins to wait anew with them.
    /// `None`: it does not wait.
    fn parked(&self) -> Done<Option<Registers>> {
        let mut r = trace::registers(self.pid)?;
        if !self.waits(&r) {
            return Ok(None);
        }
        (r.rip, r.rax, r.orig_rax) = (r.rip - 2, r.orig_rax, u64::MAX);
        Ok(Some(r))
    }

    fn take(&mut self, base: &mut Base<'_>) -> Done<()> {
        layout::read(self.maps, &mut self.areas)?;
        let bell = self.areas.as_slice().iter().find(|a| a.kind == Kind::Bell);
        let bell = bell.map(|a| a.start);
        self.shared
            .set_bell(bell.ok_or(Failure::new(libc::ENOTSUP, why::NOT_PARKED, 0))?);
        // One that has just handed over is on its way.
        let mut tries = 0;
        self.registers = loop {
            if let Some(r) = self.parked()? {
                break r;
            }
            tries += 1;
            if tries > 1000 {
                return Err(Failure::new(libc::EBUSY, why::NOT_PARKED, 0));
            }
            trace::go_on(self.pid, 0)?;
            match tries {
                1..10 => give_way(),
                10..30 => pause(20),
                _ => pause(200),
            }
            self.stop()?;
        };
        self.mask = trace::mask(self.pid)?;
        self.pending = trace::pending(self.pid)?;
        trace::vector(self.pid, &mut self.vector)?;
        if tries > 0 {
            // It may have changed while that one was on its way.
            layout::read(self.maps, &mut self.areas)?;
        }
        self.rseq = trace::rseq(self.pid);
        let own = |a: &Area| a.is_private() && a.prot & libc::PROT_WRITE != 0;
        if self.rseq != 0 && !find(self.areas.as_slice(), self.rseq).is_some_and(own) {
            return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, self.rseq));
        }
        trace::clear_the_way(self.memory, self.rseq)?;
        let end = self.call([libc::SYS_brk as u64, 0, 0, 0, 0, 0, 0]);
        let done = end.and_then(|end| {
            self.heap_end = end;
            let caught = signals::caught(self.status)?;
            let (at, registers) = (self.shared.spare(), self.registers);
            self.signals.remember(self.place(at, &registers), caught)?;
            self.writes = self.opened && self.may_write()?;
            self.remember(base)?;
            self.shared.wipe_bell(self.memory, self.watch)?;
            self.drop_pages(base)?;
            self.remember_system()?;
            self.size = layout::size(self.statm)?;
            self.take_back_lent()?;
            self.open = how_many(self.descriptors)?;
            Ok(())
        });
        self.set()?;
        trace::set_mask(self.pid, self.mask)?;
        (self.relaid, self.did, self.faulted) = (false, None, None);
        self.often = Often::new();
        self.replaced.truncate(0);
        self.gone.truncate(0);
        done
    }

    /// Whether it can write to a file without the keeper's being told. (In the
    /// strict sandbox it cannot.)
    fn may_write(&mut self) -> Done<bool> {
        for number in WRITES {
            let done = trace::call_there(
                self.pid,
                &self.registers,
                [number as u64, u64::MAX, 0, 0, 0, 0, 0],
            );
            if done != Err(libc::EPERM) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The kernel's own code in it cannot be watched.
    fn remember_system(&mut self) -> Done<()> {
        self.system.truncate(0);
        if !self.writes {
            return Ok(());
        }
        let areas = self.areas;
        for area in areas.as_slice().iter().filter(|a| is_code(a)) {
            let len = (area.end - area.start) as usize;
            // SAFETY: bytes, as many as are read.
            unsafe {
                let to = self.system.grow(len)?;
                read_at(self.memory, to, len, area.start)?;
            }
        }
        Ok(())
    }

    /// Its memory.
    fn remember(&mut self, base: &mut Base<'_>) -> Done<()> {
        self.saved.truncate(0);
        self.store.truncate(0);
        self.own.truncate(0);
        if self.freed && self.watch.means == Means::Bits {
            let number = libc::SYS_madvise as u64;
            return Err(Failure::new(libc::ENOTSUP, why::DID, number));
        }
        self.shared.clear();
        self.shared.note_bell(self.memory)?;
        let areas = self.areas;
        for area in areas.as_slice().iter().filter(|a| a.is_tracked()) {
            match self.watch.watch(area.start, area.end) {
                // Droppable, or it is found out below.
                Err(libc::EINVAL) if area.is_private() && area.inode == 0 => {}
                done => done.map_err(|e| Failure::new(e, why::LAYOUT, area.start))?,
            }
        }
        // As they are once they are watched: whether they are is a flag that keeps
        // neighbours apart.
        layout::read_with_flags(self.flags, &mut self.areas)?;
        keep_apart(self.areas.as_mut_slice(), self.born.as_slice());
        let areas = self.areas;
        for area in areas.as_slice().iter().filter(|a| a.is_tracked()) {
            let at = |e| Failure::new(e, why::LAYOUT, area.start);
            match self.watch.means {
                Means::Faults if !area.is_watched() => return Err(at(libc::EINVAL)),
                Means::Bits if area.is_blind() => return Err(at(libc::ENOTSUP)),
                _ => {}
            }
            match area.kind {
                Kind::Pair => self.shared.note_pair(self.memory, area.start).map_err(at)?,
                Kind::Plain => self.compare(area, base).map_err(at)?,
                _ => {}
            }
            let (from, to) = (area.start, area.end);
            self.watch.protect_all(from, to).map_err(at)?;
        }
        let saved = self.saved.as_mut_slice();
        saved.sort_unstable_by_key(|s| s.page);
        self.watched = true;
        self.watch.start_over()?;
        self.nothing_is_written()
    }

    /// Compares an area with the keeper's own, and saves what differs.
    fn compare(&mut self, area: &Area, base: &mut Base<'_>) -> Result<(), Errno> {
        let of_file = area.inode != 0;
        let first = self.own.as_slice().len();
        let (watch, from, to) = (self.watch, area.start, area.end);
        // By bits a page of zeros that was read looks like one that was written.
        let touched = watch.means == Means::Bits && area.can_be_written();
        if touched {
            self.touch(area)?;
        }
        let own = &mut self.own;
        watch.scan_all(Look::Own, from, to, base.runs, |run| own.push(run))?;
        if self.own.as_slice().len() == first && area.can_be_written() && !touched {
            self.touch(area)?;
            let own = &mut self.own;
            watch.scan_all(Look::Own, from, to, base.runs, |run| own.push(run))?;
        }
        let last = self.own.as_slice().len();
        for i in first..last {
            let run = self.own.as_slice()[i];
            for start in (run.start..run.end).step_by((AT_ONCE * PAGE) as usize) {
                let end = run.end.min(start + AT_ONCE * PAGE);
                self.compare_pages(area, base.areas, start, end)?;
            }
        }
        if of_file && self.watched {
            // Where there was a mark alone, from a snapshot before, is now the
            // file's page: what is dropped later must be told from it.
            self.own.truncate(first);
            let own = &mut self.own;
            watch.scan_all(Look::Own, from, to, base.runs, |run| own.push(run))?;
        }
        // Pages that are the keeper's own, and not the context's.
        let next = base.own.partition_point(|r| r.end <= from);
        for run in base.own[next..].iter().take_while(|r| r.start < to) {
            let (start, end) = (run.start.max(from), run.end.min(to));
            self.compare_others(area, base.areas, start, end)?;
        }
        // Of a file that the keeper does not have there: all there is.
        let mut at = from;
        while of_file && at < to {
            let next = base.areas.partition_point(|b| b.end <= at);
            let next = base.areas.get(next);
            let here = next.filter(|b| b.start <= at);
            let end = match (here, next) {
                (Some(b), _) => b.end,
                (None, Some(b)) => b.start,
                (None, None) => to,
            };
            if !here.is_some_and(|b| b.same_memory(area)) {
                self.compare_others(area, base.areas, at, end.min(to))?;
            }
            at = end;
        }
        Ok(())
    }

    /// Memory that was ever written is another kind than memory that was not, for
    /// the kernel: the second becomes one with whatever a neighbour grows to, which
    /// code can see. That it has been written since no rollback would undo; so all
    /// that can be is, by what is there.
    fn touch(&self, area: &Area) -> Result<(), Errno> {
        /// Where a large page fits it would be one.
        const LARGE: u64 = 1 << 21;
        let at = if area.start.is_multiple_of(LARGE) {
            area.end - PAGE
        } else {
            area.start
        };
        let mut word = 0u64;
        let to = (&raw mut word).cast::<u8>();
        // SAFETY: the size of the local, both times.
        let done = unsafe {
            read_at(self.memory, to, 8, at).and_then(|()| write_at(self.memory, to, 8, at))
        };
        match done {
            // Behind the end of its file, where nobody can.
            Err(libc::EIO | libc::EFAULT) => Ok(()),
            done => done,
        }
    }

    /// Compares those of some pages that have no bytes of the context's own.
    fn compare_others(
        &mut self,
        area: &Area,
        base: &[Area],
        start: u64,
        end: u64,
    ) -> Result<(), Errno> {
        for page in (start..end).step_by(PAGE as usize) {
            if !self.is_own(page) {
                self.compare_pages(area, base, page, page + PAGE)?;
            }
        }
        Ok(())
    }

    /// Saves pages, at most [`AT_ONCE`], unless the keeper's own are the same.
    fn compare_pages(
        &mut self,
        area: &Area,
        base: &[Area],
        start: u64,
        end: u64,
    ) -> Result<(), Errno> {
        const BYTES: usize = PAGE as usize;
        let full = self.store.as_slice().len();
        let len = (end - start) as usize;
        // SAFETY: bytes.
        let to = unsafe { self.store.grow(len)? };
        // SAFETY: as many as were made room for.
        let read = unsafe { read_at(self.memory, to, len, start) };
        if let Err(e) = read {
            self.store.truncate(full);
            if len > BYTES {
                for page in (start..end).step_by(BYTES) {
                    self.compare_pages(area, base, page, page + PAGE)?;
                }
                return Ok(());
            }
            // Behind the end of its file there is nothing.
            return if area.inode != 0 && e == libc::EIO {
                Ok(())
            } else {
                Err(e)
            };
        }
        let words = |at: *const u8| {
            // SAFETY: a page, of the store or of the keeper's own memory, which
            // can be read (`has`); any bytes are words.
            unsafe { std::slice::from_raw_parts(at.cast::<u64>(), BYTES / 8) }
        };
        let mut kept = full;
        for (i, page) in (start..end).step_by(BYTES).enumerate() {
            let from = full + i * BYTES;
            let bytes = words(self.store.as_slice()[from..].as_ptr());
            let like = if has(base, area, page) {
                words(page as *const u8)
            } else {
                words(ZEROS.0.as_ptr())
            };
            if bytes == like {
                continue;
            }
            let at = if bytes.iter().all(|&w| w == 0) {
                NOTHING
            } else {
                let store = self.store.as_mut_slice();
                store.copy_within(from..from + BYTES, kept);
                kept += BYTES;
                kept - BYTES
            };
            self.saved.push(Saved { page, at })?;
        }
        self.store.truncate(kept);
        Ok(())
    }

    /// Right after bits were cleared none is set: those of pages that a device may
    /// write stay, and tell nothing.
    fn nothing_is_written(&self) -> Done<()> {
        if self.watch.means == Means::Faults {
            return Ok(());
        }
        let areas = self.areas;
        for area in areas
            .as_slice()
            .iter()
            .filter(|a| a.is_private() && a.is_tracked())
        {
            bits::entries(self.watch.map, area.start, area.end, |_, entry| {
                if entry.is_own() && entry.is_dirty() {
                    Err(libc::ENOTSUP)
                } else {
                    Ok(())
                }
            })
            .map_err(|e| Failure::new(e, why::LAYOUT, area.start))?;
        }
        Ok(())
    }
}

/// Memory that was inherited does not become one with a neighbour that comes to be
/// like it, and memory that is made anew does, which code can see. So what was
/// inherited and has such a neighbour is not made anew.
fn keep_apart(areas: &mut [Area], born: &[Area]) {
    for i in 1..areas.len() {
        let (a, b) = (areas[i - 1], areas[i]);
        let anonymous = |a: &Area| a.is_private() && a.inode == 0;
        if a.end == b.start && a.prot != b.prot && anonymous(&a) && anonymous(&b) {
            for area in &mut areas[i - 1..=i] {
                if has(born, area, area.start) {
                    area.flags |= flag::OTHER;
                }
            }
        }
    }
}
