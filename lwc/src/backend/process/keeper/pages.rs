//! Which pages there are, and which were written: userfaultfd(2) and PAGEMAP_SCAN.

use super::sys::{Errno, call};

const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_WRITEPROTECT: u64 = 0xc018_aa06;
const API: u64 = 0xaa;
/// Pages that are written lose their protection by themselves, whatever they are
/// of, whether they were there or not.
const FEATURES: u64 = 1 << 15 | 1 << 13 | 1 << 12;
const MODE_WP: u64 = 1 << 1;

const PAGEMAP_SCAN: u64 = 0xc060_6610;
const WP_MATCHING: u64 = 1 << 0;

/// What a page is.
pub(crate) mod is {
    pub(crate) const WRITTEN: u64 = 1 << 1;
    /// Of a file, or of shared memory.
    pub(crate) const FILE: u64 = 1 << 2;
    pub(crate) const PRESENT: u64 = 1 << 3;
    pub(crate) const SWAPPED: u64 = 1 << 4;
    /// The page of zeros.
    pub(crate) const ZERO: u64 = 1 << 5;
}

pub(crate) const PAGE: u64 = 4096;

/// Pages of one kind that lie together.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) what: u64,
}

impl Run {
    pub(crate) fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

fn ioctl<T>(file: i32, request: u64, arg: *mut T) -> Result<u64, Errno> {
    // SAFETY: each request below has a structure of the size that it says.
    unsafe { call(libc::SYS_ioctl, [file as u64, request, arg as u64, 0, 0, 0]) }
}

/// A userfaultfd is told of some pages of a range which of them are written.
pub(crate) fn watch(faults: i32, start: u64, end: u64) -> Result<(), Errno> {
    let mut arg = [start, end - start, MODE_WP, 0];
    ioctl(faults, UFFDIO_REGISTER, arg.as_mut_ptr()).map(drop)
}

/// Pages count as not written from now on.
pub(crate) fn protect(faults: i32, start: u64, end: u64) -> Result<(), Errno> {
    let mut arg = [start, end - start, 1];
    ioctl(faults, UFFDIO_WRITEPROTECT, arg.as_mut_ptr()).map(drop)
}

/// Agrees with the kernel on a userfaultfd.
pub(crate) fn agree(faults: i32) -> Result<(), Errno> {
    let mut api = [API, FEATURES, 0];
    ioctl(faults, UFFDIO_API, api.as_mut_ptr()).map(drop)
}

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Look {
    /// Pages that were written, or may have been: some of them never had memory.
    /// The kernel has a short way for this, and this alone: a tenth of the time.
    Touched,
    /// Pages that were written.
    Written,
    /// Not to be asked for but by
    /// [`Watch::protect_all`](super::watch::Watch::protect_all): pages that are there; they count as not written from now on, and those that
    /// page tables have room for beside them as not touched.
    Protect,
    /// Pages with bytes of the context's own. By bits pages of zeros that were only
    /// read are among them.
    Own,
    /// Pages that are nowhere.
    Missing,
    /// Pages of a file or of zeroes, and those that are not in memory: they may be
    /// nowhere, and the mark that they are protected be all that there is. (Of one
    /// that is swapped out the list says no more than of such a mark.)
    NotOwn,
}

/// Runs of pages in a range, as many as there is room for, and where it goes on.
pub(crate) fn scan(
    map: i32,
    look: Look,
    start: u64,
    end: u64,
    into: &mut [Run],
) -> Result<(usize, u64), Errno> {
    use is::{FILE, PRESENT, SWAPPED, WRITTEN, ZERO};
    // flags, inverted, all of these, any of these
    let (flags, inverted, mask, any) = match look {
        Look::Touched => (0, 0, WRITTEN, 0),
        // What never had memory counts as written by the mask alone.
        Look::Written => (0, 0, WRITTEN, PRESENT | SWAPPED),
        Look::Protect => (WP_MATCHING, 0, 0, PRESENT | SWAPPED),
        Look::Own => (0, FILE | ZERO, FILE | ZERO, PRESENT | SWAPPED),
        Look::NotOwn => (0, PRESENT, 0, PRESENT | FILE | ZERO),
        Look::Missing => (0, PRESENT | SWAPPED, PRESENT | SWAPPED, 0),
    };
    let wanted = match look {
        Look::Touched => WRITTEN,
        Look::Written => WRITTEN | FILE | ZERO,
        _ => PRESENT,
    };
    let (vec, len) = match look {
        Look::Protect => (0, 0),
        _ => (into.as_mut_ptr() as u64, into.len() as u64),
    };
    let mut arg = [
        12 * 8,
        flags,
        start,
        end,
        0,
        vec,
        len,
        0,
        inverted,
        mask,
        any,
        wanted,
    ];
    let n = ioctl(map, PAGEMAP_SCAN, arg.as_mut_ptr())?;
    Ok(((n as usize).min(into.len()), arg[4]))
}

#[cfg(test)]
mod tests {
    use super::super::watch::Watch;
    use super::*;
    use crate::backend::process::wire::keep::Means;
    use std::os::fd::AsRawFd;

    /// Pages of a private mapping of a file: one written, one read, one neither.
    #[test]
    fn pages_of_a_file_are_told_from_own_ones() {
        let map = std::fs::File::open("/proc/self/pagemap").unwrap();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        // SAFETY: a new mapping of the case's own, accessed within its length.
        let at = unsafe {
            let at = libc::mmap(
                std::ptr::null_mut(),
                3 * PAGE as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            );
            assert_ne!(at, libc::MAP_FAILED);
            libc::madvise(at, 3 * PAGE as usize, libc::MADV_DONTNEED);
            at.cast::<u8>().write_volatile(1);
            at.byte_add(PAGE as usize).cast::<u8>().read_volatile();
            at as u64
        };
        let found = |look| {
            let mut room = [Run::default(); 8];
            let mut all = Vec::new();
            let (from, to) = (at, at + 3 * PAGE);
            let watch = Watch {
                means: Means::Faults,
                map: map.as_raw_fd(),
                file: -1,
            };
            watch
                .scan_all(look, from, to, &mut room, |run| {
                    all.extend(
                        ((run.start - at) / PAGE..(run.end - at) / PAGE).collect::<Vec<_>>(),
                    );
                    Ok(())
                })
                .map(|()| all)
        };
        let own = found(Look::Own);
        if own == Err(libc::ENOTTY) {
            eprintln!("skipped: the kernel has no PAGEMAP_SCAN");
            return;
        }
        assert_eq!(own, Ok(vec![0]));
        assert_eq!(found(Look::NotOwn), Ok(vec![1, 2]));
    }
}
