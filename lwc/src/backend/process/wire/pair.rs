//! The page of a pair: what two contexts of which one holds the other say to
//! each other.
//!
//! It is mapped by these two alone, with one half for each to write. To hand
//! something over: write the half, count its sequence number up, ring the
//! other's doorbell. The other may be hostile: every field is an atomic, and
//! what is read is copied once and checked. (It can write this end's half as
//! well, and so change what it reads there itself.)

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Words in a half: the arguments of a switch.
pub(crate) const WORDS: usize = lwc_sys::LWC_MAX_ARGS as usize;

/// Bytes of a half that requests and replies carry beside their words.
pub(crate) const PAYLOAD: usize = 30 * 1024;

/// What a half holds.
pub(crate) mod kind {
    /// The baton: whoever reads it is the current context.
    pub(crate) const BATON: u32 = 1;
    /// The same, from a context that is no more.
    pub(crate) const LAST_BATON: u32 = 2;
    /// A context that the reader created has ended (root channel alone).
    pub(crate) const TRAP: u32 = 3;
    /// A request to the owner.
    pub(crate) const REQUEST: u32 = 4;
    /// The answer to the last request.
    pub(crate) const REPLY: u32 = 5;
    /// The baton, with a system call that was trapped.
    pub(crate) const CALL: u32 = 6;
}

/// What one end of a pair writes and the other reads.
#[repr(C)]
pub(crate) struct Half {
    pub(crate) seq: AtomicU32,
    pub(crate) kind: AtomicU32,
    /// Words, or bytes of payload.
    pub(crate) count: AtomicU32,
    pub(crate) errno: AtomicU32,
    /// On the root channel: somebody has switched to the context.
    pub(crate) entered: AtomicU32,
    /// Whether the one who writes this half holds a descriptor of the other.
    pub(crate) held: AtomicU32,
    /// Whether it has closed its end for good.
    pub(crate) gone: AtomicU32,
    /// On the root channel: signal of the last fault recorded, then code and
    /// address.
    pub(crate) fault_signal: AtomicU32,
    pub(crate) fault_code: AtomicU64,
    pub(crate) fault_address: AtomicU64,
    pub(crate) words: [AtomicU64; WORDS],
    payload: [AtomicU32; PAYLOAD / 4],
}

impl Half {
    /// Writes words; more than fit are the caller's mistake and left out.
    pub(crate) fn put_words(&self, words: &[u64]) {
        for (cell, &word) in self.words.iter().zip(words) {
            cell.store(word, Ordering::Relaxed);
        }
    }

    /// Writes bytes for a request or a reply. False: they do not fit.
    pub(crate) fn put_payload(&self, bytes: &[u8]) -> bool {
        if bytes.len() > PAYLOAD {
            return false;
        }
        for (cell, chunk) in self.payload.iter().zip(bytes.chunks(4)) {
            let mut four = [0; 4];
            four[..chunk.len()].copy_from_slice(chunk);
            cell.store(u32::from_ne_bytes(four), Ordering::Relaxed);
        }
        self.count.store(bytes.len() as u32, Ordering::Relaxed);
        true
    }

    /// Copies the payload out, once, with its length checked.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let len = (self.count.load(Ordering::Relaxed) as usize).min(PAYLOAD);
        let mut out = Vec::with_capacity(len.next_multiple_of(4));
        for cell in &self.payload[..len.div_ceil(4)] {
            out.extend_from_slice(&cell.load(Ordering::Relaxed).to_ne_bytes());
        }
        out.truncate(len);
        out
    }

    /// One byte of a payload, without allocating.
    pub(crate) fn byte(&self, i: usize) -> u8 {
        let word = self.payload[i / 4].load(Ordering::Relaxed);
        word.to_ne_bytes()[i % 4]
    }

    /// Writes one byte of a payload; whoever does sets `count` at the end.
    pub(crate) fn put_byte(&self, i: usize, byte: u8) {
        let cell = &self.payload[i / 4];
        let mut bytes = cell.load(Ordering::Relaxed).to_ne_bytes();
        bytes[i % 4] = byte;
        cell.store(u32::from_ne_bytes(bytes), Ordering::Relaxed);
    }

    /// Copies all words out.
    pub(crate) fn take_words(&self) -> [u64; WORDS] {
        std::array::from_fn(|i| self.words[i].load(Ordering::Relaxed))
    }

    /// Copies the first words out; the rest is zero.
    pub(crate) fn take_some_words(&self, count: usize) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        for (word, cell) in words.iter_mut().zip(&self.words).take(count) {
            *word = cell.load(Ordering::Relaxed);
        }
        words
    }

    /// Makes what was written visible as one message; the doorbell is rung
    /// afterwards. In one order for all with the reader's look at `seq` after
    /// it has said that it sleeps ([`super::bell`]).
    pub(crate) fn publish(&self, kind: u32) {
        self.kind.store(kind, Ordering::Relaxed);
        self.seq.fetch_add(1, Ordering::SeqCst);
    }
}

/// The page of a pair: half 0 belongs to the end that made it.
#[repr(C)]
pub(crate) struct Pair {
    pub(crate) halves: [Half; 2],
}

/// Bytes of a half before its payload.
pub(crate) const HEAD: usize = std::mem::offset_of!(Half, payload);

/// Where the pages of pairs are that the current context has, each with the side
/// that is its own to write in the lowest bit; for who rolls it back.
static PLACES: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

/// The address of that list, and its length. It is the same in all contexts.
pub(crate) fn places() -> (u64, usize) {
    (PLACES.as_ptr() as u64, PLACES.len())
}

/// Notes the place of a channel's page. What was there before is there no more.
/// A context with more channels than there are places cannot be rolled back.
pub(crate) fn note_place(channel: usize, page: &Pair, side: usize) {
    let at = std::ptr::from_ref(page) as u64;
    for place in &PLACES {
        if place.load(Ordering::Relaxed) & !1 == at {
            place.store(0, Ordering::Relaxed);
        }
    }
    if let Some(place) = PLACES.get(channel) {
        place.store(at | side as u64, Ordering::Relaxed);
    }
}
