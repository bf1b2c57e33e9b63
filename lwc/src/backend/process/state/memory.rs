//! The address space: what is mapped, and which of it is shared memory files.
//!
//! Linux can share private memory between processes only by turning it into
//! a shared mapping of a file. [`Objects`] remembers which ranges are: regions
//! from the start, ordinary memory once somebody shares it (converted in
//! place, same address, same bytes).

use crate::backend::process::wire::fds::sealed_memfd;
use crate::error::{Error, Result};
use crate::page::page_size;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

/// One entry of /proc/self/maps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Area {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// PROT_* bits.
    pub(crate) prot: i32,
    /// MAP_SHARED.
    pub(crate) shared: bool,
}

/// The mapped areas that touch `[start, end)`, cut to it, in order.
pub(crate) fn areas(start: u64, end: u64) -> Result<Vec<Area>> {
    let text = std::fs::read_to_string("/proc/self/maps").map_err(|e| {
        Error::new(
            "lwOverlay",
            Errno::from_raw(e.raw_os_error().unwrap_or(libc::EACCES)),
            "reading the map of the address space",
        )
    })?;
    Ok(text
        .lines()
        .filter_map(parse_area)
        .filter(|a| a.start < end && start < a.end)
        .map(|a| Area {
            start: a.start.max(start),
            end: a.end.min(end),
            ..a
        })
        .collect())
}

/// `55d0c000-55d0d000 rw-p 00000000 00:00 0 [heap]`
fn parse_area(line: &str) -> Option<Area> {
    let mut parts = line.split_ascii_whitespace();
    let (start, end) = parts.next()?.split_once('-')?;
    let perms = parts.next()?.as_bytes();
    let has = |i: usize, c: u8, bit: i32| if perms.get(i) == Some(&c) { bit } else { 0 };
    Some(Area {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        prot: has(0, b'r', libc::PROT_READ)
            | has(1, b'w', libc::PROT_WRITE)
            | has(2, b'x', libc::PROT_EXEC),
        shared: perms.get(3) == Some(&b's'),
    })
}

/// Whether the areas cover `[start, end)` without a hole.
pub(crate) fn covered(areas: &[Area], start: u64, end: u64) -> bool {
    let mut at = start;
    for a in areas {
        if a.start > at {
            return false;
        }
        at = a.end;
    }
    at >= end
}

/// A range that is a shared mapping of a memory file of ours.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) file: Rc<OwnedFd>,
    /// Offset of `start` in the file.
    pub(crate) offset: u64,
    /// Made by [`Region`](crate::Region): its addresses stay reserved when it
    /// is unmapped in a new context, since a `Region` value still names them.
    pub(crate) region: bool,
}

impl Object {
    /// Whether new writable mappings of the file are refused.
    pub(crate) fn sealed(&self) -> bool {
        // SAFETY: reading the seals of our own descriptor.
        let seals = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GET_SEALS) };
        seals >= 0 && seals & libc::F_SEAL_FUTURE_WRITE != 0
    }

    /// The addresses of all of the file, mapped or not. Who has its descriptor
    /// or a mapping of a part can map the rest, whatever anybody wants: the
    /// whole file is what rights can be about.
    pub(crate) fn whole(&self) -> (u64, u64) {
        // SAFETY: fstat fills the struct.
        let size = unsafe {
            let mut st: libc::stat = std::mem::zeroed();
            libc::fstat(self.file.as_raw_fd(), &raw mut st);
            st.st_size as u64
        };
        let start = self.start.saturating_sub(self.offset);
        (start, start + size)
    }

    fn cut(&self, start: u64, end: u64) -> Self {
        Self {
            start,
            end,
            file: Rc::clone(&self.file),
            offset: self.offset + (start - self.start),
            region: self.region,
        }
    }
}

/// The shared memory of this context.
#[derive(Debug, Default)]
pub(crate) struct Objects(Vec<Object>);

impl Objects {
    /// Adds a range, replacing what was known of it.
    pub(crate) fn add(&mut self, object: Object) {
        self.forget(object.start, object.end);
        self.0.push(object);
    }

    /// Forgets a range that is no longer mapped so; files that nothing refers
    /// to are closed.
    pub(crate) fn forget(&mut self, start: u64, end: u64) {
        let mut out = Vec::with_capacity(self.0.len() + 1);
        for o in self.0.drain(..) {
            if o.end <= start || o.start >= end {
                out.push(o);
                continue;
            }
            if o.start < start {
                out.push(o.cut(o.start, start));
            }
            if o.end > end {
                out.push(o.cut(end, o.end));
            }
        }
        self.0 = out;
    }

    /// The parts of `[start, end)` that are shared memory, in order.
    pub(crate) fn within(&self, start: u64, end: u64) -> Vec<Object> {
        let mut found: Vec<Object> = self
            .0
            .iter()
            .filter(|o| o.start < end && start < o.end)
            .map(|o| o.cut(o.start.max(start), o.end.min(end)))
            .collect();
        found.sort_unstable_by_key(|o| o.start);
        found
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Object> {
        self.0.iter()
    }

    /// The ranges that are not of regions.
    pub(crate) fn plain(&self) -> Vec<(u64, u64)> {
        let plain = self.0.iter().filter(|o| !o.region);
        plain.map(|o| (o.start, o.end)).collect()
    }

    /// The descriptors, which user specifiers must not close.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.0.iter().map(|o| o.file.as_raw_fd())
    }

    /// Never closes a descriptor known now (they are another's too).
    pub(crate) fn leave_open(&self) {
        self.0
            .iter()
            .for_each(|o| std::mem::forget(Rc::clone(&o.file)));
    }
}

/// Maps `len` bytes of a file at exactly `addr`, shared.
fn map_shared_at(addr: u64, len: usize, prot: i32, fd: RawFd, offset: u64) -> Result<()> {
    // SAFETY: the caller replaces its own mapping of this range by one of the
    // same bytes; MAP_FIXED is meant.
    let p = unsafe {
        libc::mmap(
            addr as *mut libc::c_void,
            len,
            prot,
            libc::MAP_SHARED | libc::MAP_FIXED,
            fd,
            offset as libc::off_t,
        )
    };
    if p == libc::MAP_FAILED {
        return Err(Error::last(
            "mmap",
            format!("sharing {len} bytes at {addr:#x}"),
        ));
    }
    Ok(())
}

/// The running stack: all of the kernel's own for the process, or, on one that
/// the program allocated, where it may be mapped together with anything, the
/// page that this function runs on.
fn running_stack() -> std::ops::Range<u64> {
    let local = 0u8;
    let here = &raw const local as u64;
    let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let whole = text
        .lines()
        .filter(|l| l.ends_with("[stack]"))
        .filter_map(parse_area)
        .find(|a| (a.start..a.end).contains(&here));
    let page = page_size() as u64;
    let at = here - here % page;
    whole.map_or(at..at + page, |a| a.start..a.end)
}

/// Turns every private part of `[start, end)` into shared memory, in place:
/// same addresses, same bytes, same protection. Holes are skipped.
///
/// # Errors
/// EINVAL when the running stack lies in the range; EACCES for a shared
/// mapping that is not ours (its file cannot be reached); ENOMEM and EMFILE.
pub(crate) fn share_in_place(
    call: &'static str,
    objects: &mut Objects,
    start: u64,
    end: u64,
) -> Result<()> {
    let stack = running_stack();
    let areas = areas(start, end).map_err(|e| e.of(call))?;
    let ours = objects.within(start, end);
    for area in &areas {
        let known = ours
            .iter()
            .any(|o| o.start <= area.start && area.end <= o.end);
        if area.shared && !known {
            // A part may be ours and a part not: cut along our objects.
            let mut at = area.start;
            while let Some(o) = ours.iter().find(|o| o.start <= at && at < o.end) {
                at = o.end;
            }
            if at < area.end {
                return Err(Error::new(
                    call,
                    Errno::EACCES,
                    format!(
                        "{:#x}..{:#x} is a shared mapping of a file; make shared memory with lwc::Region",
                        area.start, area.end
                    ),
                ));
            }
        }
        if !area.shared && area.start < stack.end && stack.start < area.end {
            return Err(Error::new(
                call,
                Errno::EINVAL,
                format!("{start:#x}..{end:#x} holds the running stack, which cannot be shared"),
            ));
        }
    }
    for area in areas.iter().filter(|a| !a.shared) {
        convert(call, objects, *area)?;
    }
    Ok(())
}

/// One private area of one protection becomes shared.
fn convert(call: &'static str, objects: &mut Objects, area: Area) -> Result<()> {
    let len = (area.end - area.start) as usize;
    let file = Rc::new(sealed_memfd(c"lwc-shared", len).map_err(|e| e.of(call))?);
    copy_into(call, area, file.as_raw_fd(), 0)?;
    map_shared_at(area.start, len, area.prot, file.as_raw_fd(), 0).map_err(|e| e.of(call))?;
    if area.prot & libc::PROT_WRITE == 0 {
        // Nobody may write what its owner cannot (5.1): no writable mapping
        // of this file, ever.
        // SAFETY: sealing our own memory file.
        unsafe {
            libc::fcntl(
                file.as_raw_fd(),
                libc::F_ADD_SEALS,
                libc::F_SEAL_FUTURE_WRITE,
            )
        };
    }
    objects.add(Object {
        start: area.start,
        end: area.end,
        file,
        offset: 0,
        region: false,
    });
    Ok(())
}

/// Copies the bytes of an area into a file, also when they are unreadable now.
pub(crate) fn copy_into(call: &'static str, area: Area, fd: RawFd, offset: u64) -> Result<()> {
    let len = (area.end - area.start) as usize;
    let readable = area.prot & libc::PROT_READ != 0;
    let ptr = area.start as *mut libc::c_void;
    // SAFETY: the area is mapped in this single-threaded context (it was read
    // from its map just now); its protection is widened to read and put back.
    unsafe {
        if !readable && libc::mprotect(ptr, len, area.prot | libc::PROT_READ) != 0 {
            return Err(Error::last(call, format!("reading {:#x}", area.start)));
        }
        let mut done = 0usize;
        let result = loop {
            if done == len {
                break Ok(());
            }
            let n = libc::pwrite(
                fd,
                ptr.byte_add(done),
                len - done,
                (offset + done as u64) as libc::off_t,
            );
            if n > 0 {
                done += n as usize;
            } else if n < 0 && Errno::last() == Errno::EINTR {
                continue;
            } else {
                break Err(Error::last(
                    call,
                    format!("copying {len} bytes at {:#x}", area.start),
                ));
            }
        };
        if !readable {
            libc::mprotect(ptr, len, area.prot);
        }
        result
    }
}

/// Maps a new region and remembers it.
pub(crate) fn map_region(objects: &mut Objects, len: usize) -> Result<std::ptr::NonNull<u8>> {
    let file = Rc::new(sealed_memfd(c"lwc-region", len)?);
    // SAFETY: a new mapping at an address the kernel picks.
    let ptr = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    let Some(found) = std::ptr::NonNull::new(ptr.cast::<u8>()).filter(|_| ptr != libc::MAP_FAILED)
    else {
        return Err(Error::last("mmap", format!("a region of {len} bytes")));
    };
    let start = ptr as u64;
    objects.add(Object {
        start,
        end: start + len as u64,
        file,
        offset: 0,
        region: true,
    });
    Ok(found)
}

/// Unmaps a range. Regions leave their addresses reserved (see [`Object`]).
pub(crate) fn unmap(objects: &mut Objects, start: u64, end: u64) -> Result<()> {
    let regions: Vec<Object> = objects
        .within(start, end)
        .into_iter()
        .filter(|o| o.region)
        .collect();
    // SAFETY: the specifier's author promised that nothing there is used
    // again (Spec::memory), or it is a region, whose addresses are covered by
    // an inaccessible mapping that no other allocation can take.
    unsafe {
        if libc::munmap(start as *mut libc::c_void, (end - start) as usize) != 0 {
            return Err(Error::last("munmap", format!("{start:#x}..{end:#x}")));
        }
        for r in &regions {
            reserve(r.start, r.end);
        }
    }
    drop(regions);
    objects.forget(start, end);
    Ok(())
}

/// Covers a range with memory that faults.
///
/// # Safety
/// Nothing may be mapped there that is still used.
unsafe fn reserve(start: u64, end: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        libc::mmap(
            start as *mut libc::c_void,
            (end - start) as usize,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
            -1,
            0,
        );
    }
}

/// Replaces the shared memory in a range by a private copy of its bytes now.
pub(crate) fn make_private(
    call: &'static str,
    objects: &mut Objects,
    start: u64,
    end: u64,
) -> Result<()> {
    for area in areas(start, end)?.into_iter().filter(|a| a.shared) {
        let len = (area.end - area.start) as usize;
        // SAFETY: a scratch mapping of our own is filled from the area (made
        // readable for the copy when it is not) and then moved over it, with
        // the area's own protection.
        unsafe {
            let scratch = libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if scratch == libc::MAP_FAILED {
                return Err(Error::last(call, format!("copying {len} bytes")));
            }
            if area.prot & libc::PROT_READ == 0 {
                libc::mprotect(area.start as *mut _, len, area.prot | libc::PROT_READ);
            }
            std::ptr::copy_nonoverlapping(area.start as *const u8, scratch.cast::<u8>(), len);
            libc::mprotect(scratch, len, area.prot);
            if libc::mremap(
                scratch,
                len,
                len,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                area.start as *mut libc::c_void,
            ) == libc::MAP_FAILED
            {
                let err = Error::last(call, format!("copying {len} bytes"));
                libc::munmap(scratch, len);
                return Err(err);
            }
        }
        objects.forget(area.start, area.end);
    }
    Ok(())
}

/// Zeros over all that has bytes. lseek(2) tells where in a memory file that is,
/// what is in swap included; mincore(2) would leave that out, and whoever wrote
/// a page can have it moved there (`MADV_PAGEOUT`).
pub(crate) fn erase(objects: &Objects, start: u64, end: u64) {
    for o in objects.within(start, end) {
        let last = o.offset + (o.end - o.start);
        let mut at = o.offset;
        while at < last {
            let data = seek(o.file.as_raw_fd(), at, libc::SEEK_DATA, last);
            let hole = seek(o.file.as_raw_fd(), data, libc::SEEK_HOLE, last);
            let bytes = (o.start + (data - o.offset)) as *mut u8;
            // SAFETY: inside the mapping of this object, whose bytes nobody has
            // a reference to.
            unsafe { std::ptr::write_bytes(bytes, 0, (hole - data) as usize) };
            at = hole.max(at + 1);
        }
    }
}

/// The next data or hole at or behind an offset, at most `last`. An answer that
/// makes no sense takes all that is left for data.
fn seek(fd: RawFd, from: u64, what: i32, last: u64) -> u64 {
    // SAFETY: moves the file's offset, which nobody uses.
    let at = unsafe { libc::lseek(fd, from as libc::off_t, what) };
    if at < 0 && (what == libc::SEEK_HOLE || Errno::last() == Errno::ENXIO) {
        return last;
    }
    u64::try_from(at).unwrap_or(from).clamp(from, last)
}

/// No new writable mapping of the region, ever.
pub(crate) fn seal(objects: &Objects, start: u64, end: u64) -> Result<()> {
    for o in objects.within(start, end) {
        // SAFETY: sealing our own memory file.
        if unsafe {
            libc::fcntl(
                o.file.as_raw_fd(),
                libc::F_ADD_SEALS,
                libc::F_SEAL_FUTURE_WRITE,
            )
        } != 0
        {
            return Err(Error::last("Region::seal", "F_ADD_SEALS"));
        }
    }
    Ok(())
}

/// Maps the range anew, to read alone.
pub(crate) fn read_only(objects: &Objects, start: u64, end: u64) -> Result<()> {
    for o in objects.within(start, end) {
        map_shared_at(
            o.start,
            (o.end - o.start) as usize,
            libc::PROT_READ,
            o.file.as_raw_fd(),
            o.offset,
        )
        .map_err(|e| e.of("Region::make_read_only"))?;
    }
    Ok(())
}

/// Touches every writable private page, so that none is copied later.
pub(crate) fn prefault() -> Result<()> {
    let page = page_size();
    for a in areas(0, u64::MAX)? {
        if a.shared || a.prot & libc::PROT_WRITE == 0 {
            continue;
        }
        let len = (a.end - a.start) as usize;
        debug_assert_eq!(len % page, 0);
        // SAFETY: MADV_POPULATE_WRITE breaks copy-on-write and changes no
        // byte; areas it cannot touch it refuses, and they stay as they are.
        unsafe { libc::madvise(a.start as *mut libc::c_void, len, libc::MADV_POPULATE_WRITE) };
    }
    Ok(())
}

/// Private memory that is all there already gets large pages, where the kernel
/// has some. What is found out about memory page by page is found out about these
/// at once. Nothing gets memory that had none.
pub(crate) fn in_large_pages() {
    const LARGE: u64 = 2 << 20;
    /// Linux 6.1; some C libraries' headers do not have it.
    const MADV_COLLAPSE: i32 = 25;
    let page = page_size() as u64;
    let mut there = vec![0u8; (LARGE / page) as usize];
    for a in areas(0, u64::MAX).unwrap_or_default() {
        if a.shared || a.prot != libc::PROT_READ | libc::PROT_WRITE {
            continue;
        }
        let mut at = a.start.next_multiple_of(LARGE);
        while at + LARGE <= a.end {
            let block = at as *mut libc::c_void;
            // SAFETY: both are about a mapping of our own, no byte of which changes
            // by it; the list has room for so many pages. Where it cannot be done
            // all stays as it is.
            unsafe {
                let listed = libc::mincore(block, LARGE as usize, there.as_mut_ptr()) == 0;
                if listed && there.iter().all(|p| p & 1 == 1) {
                    libc::madvise(block, LARGE as usize, MADV_COLLAPSE);
                }
            }
            at += LARGE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_map_is_read() {
        let a = parse_area("7f00-8f00 r-xs 00000000 00:01 9 /memfd:x (deleted)").unwrap();
        assert_eq!((a.start, a.end, a.shared), (0x7f00, 0x8f00, true));
        assert_eq!(a.prot, libc::PROT_READ | libc::PROT_EXEC);
        assert!(parse_area("nonsense").is_none());
    }

    #[test]
    fn what_was_written_is_erased_and_nothing_else_gets_memory() {
        let page = page_size();
        let mut objects = Objects::default();
        let ptr = map_region(&mut objects, 64 * page).unwrap().as_ptr();
        let (start, len) = (ptr as u64, 64 * page as u64);
        seal(&objects, start, start + len).unwrap();
        let written = [0, 1, 7 * page, 20 * page - 1, 64 * page - 1];
        for at in written {
            // SAFETY: inside the mapping, which nobody else knows.
            unsafe { ptr.add(at).write_volatile(9) };
        }
        let blocks = |objects: &Objects| {
            // SAFETY: fstat fills the struct.
            unsafe {
                let mut st: libc::stat = std::mem::zeroed();
                libc::fstat(objects.iter().next().unwrap().file.as_raw_fd(), &raw mut st);
                st.st_blocks
            }
        };
        let before = blocks(&objects);
        erase(&objects, start, start + len);
        assert_eq!(blocks(&objects), before);
        for at in written {
            // SAFETY: as above.
            assert_eq!(unsafe { ptr.add(at).read_volatile() }, 0, "{at}");
        }
        // Of a part, only that.
        // SAFETY: as above.
        unsafe { std::ptr::write_bytes(ptr, 9, 64 * page) };
        erase(&objects, start + page as u64, start + 2 * page as u64);
        let at = |i: usize| {
            // SAFETY: as above.
            unsafe { ptr.add(i).read_volatile() }
        };
        assert_eq!(
            [at(page - 1), at(page), at(2 * page - 1), at(2 * page)],
            [9, 0, 0, 9]
        );
    }

    #[test]
    fn private_memory_is_shared_in_place() {
        let page = page_size();
        // SAFETY: a private mapping of our own, alive to the end of the test.
        let ptr = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                2 * page,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let start = ptr as u64;
        // SAFETY: inside that mapping.
        unsafe { ptr.cast::<u8>().add(page).write(42) };
        let mut objects = Objects::default();
        let end = start + 2 * page as u64;
        share_in_place("t", &mut objects, start, end).unwrap();
        assert!(areas(start, end).unwrap().iter().all(|a| a.shared));
        // SAFETY: the same addresses are mapped still.
        assert_eq!(unsafe { ptr.cast::<u8>().add(page).read() }, 42);
        assert_eq!(objects.within(start, end).len(), 1);
        // Half of it goes; the rest stays known, at its offset.
        unmap(&mut objects, start, start + page as u64).unwrap();
        let left = objects.within(start, end);
        assert_eq!((left.len(), left[0].offset), (1, page as u64));
        make_private("t", &mut objects, start + page as u64, end).unwrap();
        assert!(objects.within(start, end).is_empty());
        // SAFETY: as above.
        assert_eq!(unsafe { ptr.cast::<u8>().add(page).read() }, 42);
    }
}
