//! The pages that a copy has in common with others for the backend's own
//! purposes: its doorbell, and the pages of its pairs.
//!
//! They are shared memory, but the copy can write them, and would find there what
//! an earlier invocation has left. So they go back, too, to their image at the
//! snapshot, when the context had nothing to read. Counts that others compare
//! with what they have seen cannot go back to a value that those have seen
//! already, nor keep one that the copy chose (it could remember by it): they get
//! a new one.
//!
//! * Its own half of a pair: a sequence number that the peer has not seen, and a
//!   message of no kind, which the peer takes and passes over. The next message
//!   has another number than the last one that the peer has seen.
//! * The peer's half: the sequence number that the context had seen at the
//!   snapshot, so that nothing is new to it.
//! * The doorbell: asleep, as at the snapshot; the count of hand-overs is a new
//!   one, and the last of them went to who has it rolled back, who has the baton. All
//!   of its page, each time: whoever sleeps writes to it.
//!
//! A page of a pair that was written before the last rollback and before this one does
//! not count as unwritten afterwards: it is written in each invocation, and to notice
//! that costs as much as to put it back.

use super::pages::PAGE;
use super::sys::{Errno, fresh, read_at, write_at};
use super::table::Table;
use super::watch::Watch;
use crate::backend::process::wire::bell::{BATON_AT, USED};
use crate::backend::process::wire::mapped::Mapped;
use crate::backend::process::wire::pair::{HEAD, Half, Pair, places};
use std::mem::{offset_of, size_of};

/// Bytes of a pair's mapping.
const LEN: usize = Mapped::<Pair>::LEN;
const _: () = assert!(LEN / PAGE as usize <= 64);
const HALF: usize = size_of::<Half>();
const SEQ: usize = offset_of!(Half, seq);
const KIND: usize = offset_of!(Half, kind);

/// A pair page, as it was at the snapshot.
#[derive(Clone, Copy)]
struct Image {
    at: u64,
    /// The half that is the context's own to write.
    side: usize,
    /// The pages that may have been written since, one bit each; and before the last
    /// rollback.
    written: u64,
    written_before: u64,
    bytes: Table<u8>,
}

/// All of a context's.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    bell: u64,
    bell_bytes: [u8; USED],
    pairs: Table<Image>,
}

impl Shared {
    pub(crate) const fn new() -> Self {
        Self {
            bell: 0,
            bell_bytes: [0; USED],
            pairs: Table::new(),
        }
    }

    /// Where its doorbell is; its first word is what it sleeps on.
    pub(crate) fn bell(&self) -> u64 {
        self.bell
    }

    pub(crate) fn set_bell(&mut self, at: u64) {
        self.bell = at;
    }

    /// A place in the doorbell's page that nobody has a use for, and the context
    /// alone can write: while it is stopped, nobody. (One that takes the page away,
    /// or puts another in its place, does what is not undone: [`super::kept`].)
    pub(crate) fn spare(&self) -> u64 {
        const _: () = assert!(USED as u64 <= PAGE / 2);
        self.bell + PAGE / 2
    }

    pub(crate) fn clear(&mut self) {
        for pair in self.pairs.as_mut_slice() {
            pair.bytes.free();
        }
        self.pairs.truncate(0);
    }

    pub(crate) fn free(&mut self) {
        self.clear();
        self.pairs.free();
    }

    /// Remembers the doorbell as it is.
    pub(crate) fn note_bell(&mut self, memory: i32) -> Result<(), Errno> {
        let to = self.bell_bytes.as_mut_ptr();
        // SAFETY: as long as the array.
        unsafe { read_at(memory, to, USED, self.bell) }
    }

    /// Remembers the page of a pair. ENOTSUP: the context does not say which half
    /// is its own. (What it says is part of its snapshot: a lie harms itself.)
    pub(crate) fn note_pair(&mut self, memory: i32, at: u64) -> Result<(), Errno> {
        let (list, len) = places();
        let mut side = None;
        for i in 0..len as u64 {
            let mut place = 0u64;
            // SAFETY: the size of the local; the list is where it is here.
            unsafe { read_at(memory, (&raw mut place).cast(), 8, list + i * 8)? };
            if place & !1 == at {
                side = Some((place & 1) as usize);
                break;
            }
        }
        let mut image = Image {
            at,
            side: side.ok_or(libc::ENOTSUP)?,
            written: 0,
            written_before: 0,
            bytes: Table::new(),
        };
        // SAFETY: bytes; as many as there is room for are read.
        unsafe {
            let to = image.bytes.grow(LEN)?;
            read_at(memory, to, LEN, at)?;
        }
        self.pairs.push(image)
    }

    /// The context has written these pages of a pair.
    pub(crate) fn written(&mut self, start: u64, end: u64) {
        for pair in self.pairs.as_mut_slice() {
            let (from, to) = (start.max(pair.at), end.min(pair.at + LEN as u64));
            for page in (from..to).step_by(PAGE as usize) {
                pair.written |= 1 << ((page - pair.at) / PAGE);
            }
        }
    }

    /// All of it as it was; control is with `to`, which has received `had`.
    pub(crate) fn restore(
        &mut self,
        memory: i32,
        watch: Watch,
        to: u64,
        had: u64,
    ) -> Result<(), Errno> {
        let count = fresh()?;
        for (at, value) in BATON_AT.into_iter().zip([count, count, to, had]) {
            self.bell_bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        self.restore_bell(memory)?;
        for pair in self.pairs.as_mut_slice() {
            pair.restore(memory, watch)?;
        }
        Ok(())
    }

    /// The doorbell; what the context may have left behind the words that mean
    /// something goes.
    fn restore_bell(&self, memory: i32) -> Result<(), Errno> {
        let mut page = [0; PAGE as usize];
        page[..USED].copy_from_slice(&self.bell_bytes);
        // SAFETY: the array's bytes.
        unsafe { write_at(memory, page.as_ptr(), page.len(), self.bell) }
    }

    /// The doorbell's page is as the snapshot finds it, and nothing is behind its words.
    pub(crate) fn wipe_bell(&self, memory: i32, watch: Watch) -> Result<(), Errno> {
        self.restore_bell(memory)?;
        watch.protect(self.bell, self.bell + PAGE)
    }
}

impl Image {
    fn restore(&mut self, memory: i32, watch: Watch) -> Result<(), Errno> {
        let mut written = std::mem::take(&mut self.written);
        let own = self.side * HALF;
        let word = |bytes: &mut Table<u8>, at: usize, value: u32| {
            bytes.as_mut_slice()[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        if written & (1 << (own / PAGE as usize)) != 0 {
            // Of no kind.
            word(&mut self.bytes, own + KIND, 0);
            word(&mut self.bytes, own + SEQ, fresh()? as u32);
        }
        let bytes = self.bytes.as_slice();
        for i in (0..LEN / PAGE as usize).filter(|i| written & (1 << i) != 0) {
            let from = i * PAGE as usize;
            let at = self.at + from as u64;
            // SAFETY: a page of the image, which has as many as the mapping.
            unsafe { write_at(memory, bytes.as_ptr().add(from), PAGE as usize, at)? };
            if self.written_before & (1 << i) == 0 {
                watch.protect(at, at + PAGE)?;
            }
        }
        // Whatever the peer has said is read. (Where the context has written beside it,
        // it is now.)
        const _: () = assert!(HALF % PAGE as usize + HEAD <= PAGE as usize);
        let from = (1 - self.side) * HALF;
        let bit = 1 << (from / PAGE as usize);
        if written & bit == 0 {
            let (head, at) = (&bytes[from..from + HEAD], self.at + from as u64);
            let mut now = [0; HEAD];
            // SAFETY: the local's bytes; then the head of a half of the image.
            unsafe {
                read_at(memory, now.as_mut_ptr(), HEAD, at)?;
                if now != head {
                    write_at(memory, head.as_ptr(), HEAD, at)?;
                    written |= bit;
                }
            }
        }
        self.written_before = written;
        Ok(())
    }
}
