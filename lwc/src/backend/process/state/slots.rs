//! Places for the contexts that a trapped one will make.
//!
//! A trapped context can make no memory files. So the pages of the contexts
//! that it will make exist before its filter does: one memory file of slots,
//! mapped in the trapped context and known to its creator and to the root. A
//! slot holds a doorbell and three pair pages, and is used once.
//!
//! Its maker can write all of it, also later: whoever is made in a slot is in
//! its maker's hand as code that it had left there would be.

use crate::backend::process::wire::bell::Bell;
use crate::backend::process::wire::fds;
use crate::backend::process::wire::mapped::Mapped;
use crate::backend::process::wire::pair::Pair;
use crate::error::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

const CALL: &str = "lwCreate";

/// How many contexts a trapped one can make.
pub(crate) const SLOTS: usize = 64;

const _: () = assert!(SLOTS <= u64::BITS as usize); // TrapLink::met

/// A place for a context: its doorbell and pair pages, page-aligned.
const SLOT: usize = Mapped::<Bell>::LEN + 3 * Mapped::<Pair>::LEN;

/// Whom a pair page is shared with.
#[derive(Clone, Copy)]
pub(crate) enum With {
    Root = 0,
    Maker = 1,
    Monitor = 2,
}

/// Where in the file the doorbell of a slot is.
pub(crate) fn bell_at(slot: usize) -> usize {
    slot * SLOT
}

/// Where a pair page is.
pub(crate) fn pair_at(slot: usize, with: With) -> usize {
    slot * SLOT + Mapped::<Bell>::LEN + with as usize * Mapped::<Pair>::LEN
}

/// A new slots's file.
pub(crate) fn file() -> Result<OwnedFd> {
    fds::sealed_memfd(c"lwc-slots", SLOTS * SLOT)
}

/// Context descriptors without a file behind them have numbers from here on,
/// by channel; the current context's own is one less.
const NUMBERS: RawFd = 0x7000_0000;

pub(crate) fn number_of(channel: usize) -> RawFd {
    NUMBERS + channel as RawFd
}

pub(crate) const OWN_NUMBER: RawFd = NUMBERS - 1;

/// The slots as its trapped context has it.
pub(crate) struct Slots {
    start: NonNull<u8>,
    pub(crate) next: usize,
}

impl Slots {
    pub(crate) fn map(fd: impl AsFd) -> Result<Self> {
        // SAFETY: a new shared mapping at an address the kernel picks.
        let ptr = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SLOTS * SLOT,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                fd.as_fd().as_raw_fd(),
                0,
            )
        };
        NonNull::new(ptr.cast())
            .filter(|_| ptr != libc::MAP_FAILED)
            .map(|start| Self { start, next: 0 })
            .ok_or_else(|| Error::last(CALL, "pages for contexts of a trapped context"))
    }

    pub(crate) fn bell(&self, slot: usize) -> Mapped<Bell> {
        // SAFETY: inside the mapping, whose parts are owned slot by slot: a
        // slot is given out once, and nothing unmaps what was given.
        unsafe { Mapped::adopt(self.start.byte_add(bell_at(slot)).cast()) }
    }

    pub(crate) fn pair(&self, slot: usize, with: With) -> Mapped<Pair> {
        // SAFETY: as in `bell`.
        unsafe { Mapped::adopt(self.start.byte_add(pair_at(slot, with)).cast()) }
    }

    /// Unmaps what is not of `slot`, for the context that was born there.
    pub(crate) fn leave(self, slot: usize) {
        let (before, after) = (slot * SLOT, (slot + 1) * SLOT);
        let start = self.start.as_ptr() as u64;
        let unmap = |from: usize, to: usize| {
            if from < to {
                // SAFETY: pages of the maker's, no reference to which is left.
                unsafe { libc::munmap((start + from as u64) as *mut _, to - from) };
            }
        };
        // Slots before have holes where the maker has unmapped or has kept
        // from its children what is its own: munmap does not mind.
        unmap(0, before);
        unmap(after, SLOTS * SLOT);
    }
}

/// The pages of a slot, mapped by one who is not its maker. `None` if there is
/// no such slot, or no memory.
pub(crate) fn pages(fd: &OwnedFd, slot: usize, with: With) -> Option<(Mapped<Pair>, Mapped<Bell>)> {
    if slot >= SLOTS {
        return None;
    }
    let pair = Mapped::<Pair>::map_at(fd, pair_at(slot, with)).ok()?;
    let bell = Mapped::<Bell>::map_at(fd, bell_at(slot)).ok()?;
    pair.inherit(false);
    bell.inherit(false);
    Some((pair, bell))
}
