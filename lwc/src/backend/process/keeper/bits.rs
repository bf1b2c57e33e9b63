//! Soft-dirty bits: which pages were written, on kernels that have nothing better.
//!
//! Since Linux 3.11, where it was built with CONFIG_MEM_SOFT_DIRTY, the kernel keeps
//! a bit of each page of a process, which a write sets, and `4` written to
//! /proc/PID/clear_refs clears, of all pages of the process at once; it is bit 55 of
//! an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/soft-dirty.rst). Other
//! than with a userfaultfd, where what the kernel does not know counts as written, a
//! bit that is lost says that nothing was. So it must be known where it can be lost:
//!
//! * With the page's entry, when memory is unmapped, moved or dropped: by calls of
//!   the context's own, at each of which it stops, and the ranges are noted
//!   ([`kept`](super::kept)). A page that had bytes of its own and is nowhere, or is
//!   its file's again, goes back whatever its bit is: another may have made its file
//!   shorter.
//! * In memory that is shared, whenever the kernel needs the page elsewhere: of the
//!   pages that the backend shares no bit is asked, all of them go back each time.
//! * In memory that is merged with like memory of others (KSM), of devices, of huge
//!   pages from a pool, and in what may be dropped (MADV_FREE) and be zeros then: a
//!   context that has some at its snapshot, or has ever said so itself, has no
//!   snapshot ([`flag::BLIND`](super::layout::flag)); a creator that has some has no
//!   keeper ([`settle`]).
//! * By whoever clears them. The context has no such file: it stops before it opens
//!   one, and if it has opened any it must not be able to write, or nothing is asked
//!   of bits at all ([`Kept`](super::kept::Kept)).
//! * By mistakes of kernels, of which there have been some: a stale entry of the
//!   processor's (5.6 to 5.10), protection that is given back with the right to write
//!   (5.19). So it is tried ([`tell`]) before they are relied on. That large pages
//!   are split into pages of zeros without their bits (6.12 to 6.17) cannot be tried:
//!   where there is PAGEMAP_SCAN (Linux 6.7) these bits are not used.
//!
//! Bits that are set though nothing was written do no harm: what is put back is what
//! was there. All pages of an area count as written that has become one with memory
//! mapped since.

use super::layout;
use super::pages::{Look, PAGE, Run};
use super::sys::{Errno, call, read_at, write_at};
use super::table::Table;

/// Entries of a page map.
mod bit {
    pub(super) const SOFT_DIRTY: u64 = 1 << 55;
    /// Of a file, or of shared memory.
    pub(super) const FILE: u64 = 1 << 61;
    pub(super) const SWAPPED: u64 = 1 << 62;
    pub(super) const PRESENT: u64 = 1 << 63;
}

/// What an entry says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry(u64);

impl Entry {
    /// It has memory, or had some that is swapped out.
    fn is_there(self) -> bool {
        self.0 & (bit::PRESENT | bit::SWAPPED) != 0
    }

    /// Of no file: with bytes of the process's own, or the page of zeros.
    pub(crate) fn is_own(self) -> bool {
        self.is_there() && self.0 & bit::FILE == 0
    }

    /// It was written since bits were cleared, or lies in an area of which this is
    /// said of all pages.
    pub(crate) fn is_dirty(self) -> bool {
        self.0 & bit::SOFT_DIRTY != 0
    }

    fn is(self, look: Look) -> bool {
        match look {
            Look::Own => self.is_own(),
            Look::NotOwn => !self.is_own(),
            Look::Missing => !self.is_there(),
            // They are a userfaultfd's.
            Look::Touched | Look::Written | Look::Protect => false,
        }
    }
}

/// No page of the process whose file it is counts as written from now on.
pub(crate) fn clear(clear_refs: i32) -> Result<(), Errno> {
    let four = b"4";
    // SAFETY: a byte of the array.
    unsafe { write_at(clear_refs, four.as_ptr(), four.len(), 0) }
}

/// Entries that are read at once; the kernel's own measure is 512.
const AT_ONCE: usize = 1024;

/// Calls `each` with every page of a range, in order.
pub(crate) fn entries(
    map: i32,
    start: u64,
    end: u64,
    mut each: impl FnMut(u64, Entry) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut room = [0u64; AT_ONCE];
    let mut at = start;
    while at < end {
        let n = (((end - at) / PAGE) as usize).min(AT_ONCE);
        let to = room.as_mut_ptr().cast();
        // SAFETY: no more than the local has.
        unsafe { read_at(map, to, n * size_of::<u64>(), at / PAGE * 8)? };
        for &entry in &room[..n] {
            each(at, Entry(entry))?;
            at += PAGE;
        }
        if n == 0 {
            break;
        }
    }
    Ok(())
}

/// Calls `each` with all runs of pages in a range that are what is looked for.
pub(crate) fn scan_all(
    map: i32,
    look: Look,
    start: u64,
    end: u64,
    mut each: impl FnMut(Run) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut run = Run::default();
    entries(map, start, end, |page, entry| {
        if !entry.is(look) {
            return Ok(());
        }
        if run.end == page && !run.is_empty() {
            run.end += PAGE;
            return Ok(());
        }
        let next = Run {
            start: page,
            end: page + PAGE,
            what: 0,
        };
        let last = std::mem::replace(&mut run, next);
        if last.is_empty() { Ok(()) } else { each(last) }
    })?;
    if run.is_empty() { Ok(()) } else { each(run) }
}

/// Whether bits tell of writes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    /// Of each that was tried.
    Each,
    /// There are none, or they cannot be cleared or seen.
    None,
    /// Not of each, or of none that nobody made.
    NotEach,
}

/// Whether bits tell of writes to all memory that the process whose list with flags
/// this is has of its own.
pub(crate) fn see_all(flags: i32) -> Result<bool, Errno> {
    let mut areas = Table::new();
    let done = layout::read_with_flags(flags, &mut areas);
    let seen = areas
        .as_slice()
        .iter()
        .all(|a| !a.is_private() || !a.is_blind());
    areas.free();
    done.map(|()| seen)
}

/// Tries whether bits tell of the writes of this process to new memory, with the
/// process's page map and clear_refs. The bits of the process are cleared by that.
pub(crate) fn tell(map: i32, clear_refs: i32) -> Tell {
    const PAGES: u64 = 16;
    const LEN: u64 = PAGES * PAGE;
    let (both, private) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping, wherever it fits.
    let at = unsafe {
        let args = [0, LEN, both as u64, private as u64, u64::MAX, 0];
        call(libc::SYS_mmap, args)
    };
    let Ok(at) = at else {
        return Tell::None;
    };
    let told = try_all(map, clear_refs, at, LEN);
    // SAFETY: the mapping made above, of which nobody else knows.
    let _ = unsafe { call(libc::SYS_munmap, [at, LEN, 0, 0, 0, 0]) };
    told.unwrap_or(Tell::None)
}

fn try_all(map: i32, clear_refs: i32, at: u64, len: u64) -> Result<Tell, Errno> {
    let protect = |prot: i32| {
        // SAFETY: of memory of the caller's own, which nobody uses meanwhile.
        unsafe { call(libc::SYS_mprotect, [at, len, prot as u64, 0, 0, 0]).map(drop) }
    };
    let write = |page: u64| {
        // SAFETY: a page of the caller's own that can be written then.
        unsafe { (page as *mut u8).write_volatile(1) };
    };
    // Every second page, so that one that is not written is seen to stay so.
    let all = || (at..at + len).step_by(PAGE as usize);
    let chosen = |page: u64| (page / PAGE).is_multiple_of(2);
    let as_chosen = || {
        let mut same = true;
        let done = entries(map, at, at + len, |page, entry| {
            same &= entry.is_own() && entry.is_dirty() == chosen(page);
            Ok(())
        });
        done.map(|()| same)
    };
    all().for_each(write);
    let mut any = false;
    entries(map, at, at + len, |_, entry| {
        any |= entry.is_dirty();
        Ok(())
    })?;
    if !any {
        return Ok(Tell::None);
    }
    // The processor knows that it may write there, and forgets it if it is told to.
    for _ in 0..3 {
        all().for_each(write);
        clear(clear_refs)?;
        all().filter(|&p| chosen(p)).for_each(write);
        if !as_chosen()? {
            return Ok(Tell::NotEach);
        }
    }
    // The right to write goes and comes back.
    clear(clear_refs)?;
    protect(libc::PROT_READ)?;
    protect(libc::PROT_READ | libc::PROT_WRITE)?;
    all().filter(|&p| chosen(p)).for_each(write);
    if !as_chosen()? {
        return Ok(Tell::NotEach);
    }
    // The kernel itself writes.
    clear(clear_refs)?;
    for page in all().filter(|&p| chosen(p)) {
        // SAFETY: eight bytes of a page of the caller's own.
        unsafe { read_at(map, page as *mut u8, 8, at / PAGE * 8)? };
    }
    if !as_chosen()? {
        return Ok(Tell::NotEach);
    }
    // Pages are swapped out, where that can be done, and come back.
    // SAFETY: advice about memory of the caller's own, whose bytes stay.
    let _ = unsafe {
        let advice = libc::MADV_PAGEOUT as u64;
        call(libc::SYS_madvise, [at, len, advice, 0, 0, 0])
    };
    if !as_chosen()? {
        return Ok(Tell::NotEach);
    }
    for page in all() {
        // SAFETY: a page of the caller's own.
        unsafe { (page as *const u8).read_volatile() };
    }
    Ok(if as_chosen()? {
        Tell::Each
    } else {
        Tell::NotEach
    })
}

/// Sees to it that what this process has said of pages is so: each processor puts
/// off to note that some may be dropped until it has heard of a few more, or something
/// is unmapped there. (A page that is not noted yet would be taken for one that stays.)
pub(crate) fn settle() -> Result<(), Errno> {
    const WORDS: usize = 1024 / 64;
    let mut own = [0u64; WORDS];
    let affinity = |number: i64, set: &mut [u64; WORDS]| {
        let (len, at) = (size_of_val(set) as u64, set.as_mut_ptr() as u64);
        // SAFETY: reads or writes the set, of the size given.
        unsafe { call(number, [0, len, at, 0, 0, 0]) }
    };
    affinity(libc::SYS_sched_getaffinity, &mut own)?;
    // Of all that there are: it may have been elsewhere before.
    for cpu in 0..WORDS * 64 {
        let mut one = [0u64; WORDS];
        one[cpu / 64] = 1 << (cpu % 64);
        if affinity(libc::SYS_sched_setaffinity, &mut one).is_err() {
            continue;
        }
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let advice = libc::MADV_COLD as u64;
        // SAFETY: a new mapping of a page, and its end. Advice that a kernel does not
        // know does nothing; one that does notes there what was put off, as all do
        // when something is unmapped.
        unsafe {
            let args = [0, PAGE, both as u64, private as u64, u64::MAX, 0];
            let at = call(libc::SYS_mmap, args)?;
            (at as *mut u8).write_volatile(1);
            let _ = call(libc::SYS_madvise, [at, PAGE, advice, 0, 0, 0]);
            call(libc::SYS_munmap, [at, PAGE, 0, 0, 0, 0])?;
        }
    }
    affinity(libc::SYS_sched_setaffinity, &mut own).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn files() -> [std::fs::File; 2] {
        let map = std::fs::File::open("/proc/self/pagemap").unwrap();
        let clear = std::fs::OpenOptions::new()
            .write(true)
            .open("/proc/self/clear_refs")
            .unwrap();
        [map, clear]
    }

    /// In a process of its own: bits are a process's, and this one has threads.
    fn alone(what: impl FnOnce(i32, i32) -> bool) {
        // SAFETY: the child has one thread, and ends without what this one would do
        // at its end.
        let status = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                let [map, clear] = files();
                libc::_exit(i32::from(!what(map.as_raw_fd(), clear.as_raw_fd())));
            }
            let mut status = 0;
            libc::waitpid(pid, &raw mut status, 0);
            status
        };
        assert_eq!(status, 0);
    }

    fn are_there() -> bool {
        let [map, clear] = files();
        let there = tell(map.as_raw_fd(), clear.as_raw_fd()) != Tell::None;
        if !there {
            eprintln!("skipped: the kernel has no soft-dirty bits");
        }
        there
    }

    #[test]
    fn what_bits_tell_is_found_out() {
        if !are_there() {
            return;
        }
        alone(|map, clear| tell(map, clear) == Tell::Each);
        // Those that nobody clears.
        let nobody = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/null")
            .unwrap();
        alone(|map, _| tell(map, nobody.as_raw_fd()) == Tell::NotEach);
    }

    /// A page, written.
    fn page() -> *mut u8 {
        // SAFETY: a new mapping of the case's own.
        unsafe {
            let both = libc::PROT_READ | libc::PROT_WRITE;
            let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let at = libc::mmap(std::ptr::null_mut(), PAGE as usize, both, private, -1, 0);
            assert_ne!(at, libc::MAP_FAILED);
            at.cast::<u8>().write_volatile(1);
            at.cast()
        }
    }

    /// Why such a page goes back whatever its bit is.
    #[test]
    fn a_page_that_was_dropped_and_read_has_no_bit() {
        if !are_there() {
            return;
        }
        let at = page();
        alone(|map, clear_refs| {
            let mut seen = Vec::new();
            let mut look = || {
                let from = at as u64;
                entries(map, from, from + PAGE, |_, e| {
                    seen.push((e.is_own(), e.is_dirty()));
                    Ok(())
                })
                .unwrap();
            };
            clear(clear_refs).unwrap();
            // SAFETY: a page of the case's own.
            unsafe {
                at.write_volatile(2);
                look();
                libc::madvise(at.cast(), PAGE as usize, libc::MADV_DONTNEED);
                at.read_volatile();
                look();
            }
            seen == [(true, true), (true, false)]
        });
    }

    /// Also where the processor has not told yet.
    #[test]
    fn memory_that_may_be_dropped_is_seen() {
        let at = page();
        let list = || std::fs::File::open("/proc/self/smaps").unwrap();
        alone(|_, _| {
            let before = see_all(list().as_raw_fd()) == Ok(true);
            // SAFETY: a page of the case's own; first it becomes this process's, and is
            // noted as such.
            unsafe {
                at.write_volatile(2);
                settle().unwrap();
                libc::madvise(at.cast(), PAGE as usize, libc::MADV_FREE);
            }
            settle().unwrap();
            before && see_all(list().as_raw_fd()) == Ok(false)
        });
    }

    #[test]
    fn runs_are_of_pages_that_lie_together() {
        let map = std::fs::File::open("/proc/self/pagemap").unwrap();
        // SAFETY: a new mapping of the case's own, accessed within its length.
        let at = unsafe {
            let both = libc::PROT_READ | libc::PROT_WRITE;
            let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let len = 3000 * PAGE as usize;
            let at = libc::mmap(std::ptr::null_mut(), len, both, private, -1, 0);
            assert_ne!(at, libc::MAP_FAILED);
            libc::madvise(at, len, libc::MADV_NOHUGEPAGE);
            for i in [0, 2, 3, 1023, 1024, 2999] {
                at.byte_add(i * PAGE as usize)
                    .cast::<u8>()
                    .write_volatile(1);
            }
            at as u64
        };
        let found = |look| {
            let mut all = Vec::new();
            scan_all(map.as_raw_fd(), look, at, at + 3000 * PAGE, |run| {
                all.push(((run.start - at) / PAGE, (run.end - at) / PAGE));
                Ok(())
            })
            .unwrap();
            all
        };
        assert_eq!(
            found(Look::Own),
            [(0, 1), (2, 4), (1023, 1025), (2999, 3000)]
        );
        let rest = [(1, 2), (4, 1023), (1025, 2999)];
        assert_eq!(found(Look::Missing), rest);
        assert_eq!(found(Look::NotOwn), rest);
    }
}
