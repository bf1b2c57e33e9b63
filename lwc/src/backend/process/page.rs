//! The memory that contexts hand the baton over: doorbells and pair pages.
//!
//! Each context has a doorbell, a futex that the holders of a descriptor map.
//! Each two contexts of which one holds the other have a pair page, mapped by
//! these two alone, with one half for each to write. To hand something over:
//! write the half, bump its sequence number, ring the other's doorbell. Both
//! are shared with code that may be hostile: every field is an atomic, what is
//! read is copied once and checked, and a doorbell rung for nothing costs the
//! one who wakes a look around.

use super::window;
use crate::error::{Error, Result};
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Words in a half: the arguments of a switch.
pub(super) const WORDS: usize = lwc_sys::LWC_MAX_ARGS as usize;

/// Bytes of a half that requests and replies carry beside their words.
pub(super) const PAYLOAD: usize = 30 * 1024;

/// What a half holds.
pub(super) mod kind {
    /// The baton: whoever reads it is the current context.
    pub(in super::super) const BATON: u32 = 1;
    /// The same, from a context that is no more.
    pub(in super::super) const LAST_BATON: u32 = 2;
    /// A context that the reader created has ended (root channel alone).
    pub(in super::super) const TRAP: u32 = 3;
    /// A request to the owner.
    pub(in super::super) const REQUEST: u32 = 4;
    /// The answer to the last request.
    pub(in super::super) const REPLY: u32 = 5;
    /// The baton, with a system call that was trapped.
    pub(in super::super) const CALL: u32 = 6;
}

/// The futex a context waits on, in memory that its holders map.
#[repr(C)]
pub(super) struct Bell {
    /// Counts rings; what futex(2) waits on.
    pub(super) word: AtomicU32,
    /// Not zero while the owner sleeps or is about to: nobody else needs to be
    /// woken, which is a system call. A holder that lies here can keep the
    /// owner asleep as it can by counting the word back.
    pub(super) asleep: AtomicU32,
    /// Channel (in the owner's table) that rang last.
    pub(super) hint: AtomicU32,
    /// Not zero once the owner is dead.
    pub(super) dead: AtomicU32,
    /// Not zero if the owner's system calls are trapped.
    pub(super) trapped: AtomicU32,
    /// In the root's bell: who has the baton. A hint, written by whoever
    /// passes it; what hangs on it is argued where it is read.
    pub(super) current: AtomicU64,
    /// Not zero while the owner waits for the answer to a trapped call: the
    /// identity of the one context that may give it.
    pub(super) awaits: AtomicU64,
}

/// What one end of a pair writes and the other reads.
#[repr(C)]
pub(super) struct Half {
    pub(super) seq: AtomicU32,
    pub(super) kind: AtomicU32,
    /// Words, or bytes of payload.
    pub(super) count: AtomicU32,
    pub(super) errno: AtomicU32,
    /// On the root channel: the context means to end (lwDiscardSwitch).
    pub(super) leaving: AtomicU32,
    /// On the root channel: somebody has switched to the context.
    pub(super) entered: AtomicU32,
    /// Whether the one who writes this half holds a descriptor of the other.
    pub(super) held: AtomicU32,
    /// Whether it has closed its end for good.
    pub(super) gone: AtomicU32,
    /// On the root channel: signal of the last fault recorded, then code and
    /// address.
    pub(super) fault_signal: AtomicU32,
    pub(super) fault_code: AtomicU64,
    pub(super) fault_address: AtomicU64,
    pub(super) words: [AtomicU64; WORDS],
    payload: [AtomicU32; PAYLOAD / 4],
}

impl Half {
    /// Writes words; more than fit are the caller's mistake and left out.
    pub(super) fn put_words(&self, words: &[u64]) {
        for (cell, &word) in self.words.iter().zip(words) {
            cell.store(word, Ordering::Relaxed);
        }
    }

    /// Writes bytes for a request or a reply. False: they do not fit.
    pub(super) fn put_payload(&self, bytes: &[u8]) -> bool {
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
    pub(super) fn payload(&self) -> Vec<u8> {
        let len = (self.count.load(Ordering::Relaxed) as usize).min(PAYLOAD);
        let mut out = Vec::with_capacity(len.next_multiple_of(4));
        for cell in &self.payload[..len.div_ceil(4)] {
            out.extend_from_slice(&cell.load(Ordering::Relaxed).to_ne_bytes());
        }
        out.truncate(len);
        out
    }

    /// One byte of a payload, without allocating.
    pub(super) fn byte(&self, i: usize) -> u8 {
        let word = self.payload[i / 4].load(Ordering::Relaxed);
        word.to_ne_bytes()[i % 4]
    }

    /// Writes one byte of a payload; whoever does sets `count` at the end.
    pub(super) fn put_byte(&self, i: usize, byte: u8) {
        let cell = &self.payload[i / 4];
        let mut bytes = cell.load(Ordering::Relaxed).to_ne_bytes();
        bytes[i % 4] = byte;
        cell.store(u32::from_ne_bytes(bytes), Ordering::Relaxed);
    }

    /// Copies all words out.
    pub(super) fn take_words(&self) -> [u64; WORDS] {
        std::array::from_fn(|i| self.words[i].load(Ordering::Relaxed))
    }

    /// Copies the first words out; the rest is zero.
    pub(super) fn take_some_words(&self, count: usize) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        for (word, cell) in words.iter_mut().zip(&self.words).take(count) {
            *word = cell.load(Ordering::Relaxed);
        }
        words
    }

    /// Makes what was written visible as one message.
    pub(super) fn publish(&self, kind: u32) {
        self.kind.store(kind, Ordering::Relaxed);
        self.seq.fetch_add(1, Ordering::Release);
    }
}

/// The page of a pair: half 0 belongs to the end that made it.
#[repr(C)]
pub(super) struct Pair {
    pub(super) halves: [Half; 2],
}

/// A shared mapping of a `T`, unmapped on drop.
pub(super) struct Mapped<T>(NonNull<T>);

impl<T> Mapped<T> {
    /// Bytes of the mapping.
    pub(super) const LEN: usize = size_of::<T>().next_multiple_of(4096);

    /// Makes a memory file for a `T`, zeroed, of a size that nobody can change.
    pub(super) fn file(name: &std::ffi::CStr) -> Result<RawFd> {
        super::fds::sealed_memfd(name, Self::LEN)
    }

    /// Maps a file made by [`Mapped::file`].
    pub(super) fn map(fd: RawFd) -> Result<Self> {
        Self::map_at(fd, 0)
    }

    /// Maps a part of a larger file, from a page boundary on.
    pub(super) fn map_at(fd: RawFd, offset: usize) -> Result<Self> {
        // SAFETY: a new shared mapping at an address the kernel picks; `T` is
        // made of atomics, for which any bytes are a value.
        let ptr = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                offset as libc::off_t,
            )
        };
        if ptr == libc::MAP_FAILED {
            return Err(Error::last("mmap", "a page of a context"));
        }
        NonNull::new(ptr.cast())
            .map(Self)
            .ok_or_else(|| Error::last("mmap", "a page at address zero"))
    }

    /// Whether contexts forked from now on have the mapping too.
    pub(super) fn inherit(&self, yes: bool) {
        let advice = if yes {
            libc::MADV_DOFORK
        } else {
            libc::MADV_DONTFORK
        };
        // SAFETY: advice on our own mapping, no byte of it changes here.
        unsafe { libc::madvise(self.0.as_ptr().cast(), Self::LEN, advice) };
    }

    /// A second mapping of the same memory.
    pub(super) fn again(&self) -> Result<Self> {
        // SAFETY: with an old size of 0, mremap(2) maps a shared mapping once
        // more elsewhere and leaves the first alone.
        let ptr =
            unsafe { libc::mremap(self.0.as_ptr().cast(), 0, Self::LEN, libc::MREMAP_MAYMOVE) };
        if ptr == libc::MAP_FAILED {
            return Err(Error::last("mremap", "a page of a context"));
        }
        NonNull::new(ptr.cast())
            .map(Self)
            .ok_or_else(|| Error::last("mremap", "a page at address zero"))
    }

    /// The address, to take over an inherited mapping in a new context.
    pub(super) fn ptr(&self) -> NonNull<T> {
        self.0
    }

    /// Takes over a mapping that this context inherited.
    ///
    /// # Safety
    /// `ptr` must be a mapping made by [`Mapped::map`] that the current
    /// context has and that no other `Mapped` of it owns.
    pub(super) unsafe fn adopt(ptr: NonNull<T>) -> Self {
        Self(ptr)
    }
}

impl<T> std::ops::Deref for Mapped<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the mapping lives as long as `self`, is aligned to pages and
        // large enough, and `T` is atomics alone, so that writers in other
        // processes are no data race.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and no reference outlives `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), Self::LEN) };
    }
}

impl Bell {
    /// Rings: the owner wakes and looks at `channel` first.
    pub(super) fn ring(&self, channel: u32) {
        self.hint.store(channel, Ordering::Relaxed);
        // In one order for all with the owner's store and load in `wait`: it
        // sees this ring, or we see that it sleeps.
        self.word.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) == 0 {
            return;
        }
        // SAFETY: futex(2) on a word inside a mapping we hold; FUTEX_WAKE
        // reads and writes no memory.
        unsafe {
            window::own([
                libc::SYS_futex as u64,
                self.word.as_ptr() as u64,
                libc::FUTEX_WAKE as u64,
                1,
                0,
                0,
                0,
            ]);
        }
    }

    /// Sleeps until the word is no longer `seen`, a signal, or `limit`. A limit
    /// costs a timer, a tenth of a switch.
    pub(super) fn wait(&self, seen: u32, limit: Option<Duration>) {
        let ts = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(limit.subsec_nanos()),
        });
        let until = ts.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // A handler of a signal may wait in the middle of this wait: whoever
        // wakes leaves the word as it was found.
        let before = self.asleep.swap(1, Ordering::SeqCst);
        if self.word.load(Ordering::SeqCst) != seen {
            self.asleep.store(before, Ordering::Relaxed);
            return;
        }
        // SAFETY: as in `ring`; FUTEX_WAIT reads the word and the timespec.
        unsafe {
            window::own([
                libc::SYS_futex as u64,
                self.word.as_ptr() as u64,
                libc::FUTEX_WAIT as u64,
                seen.into(),
                until as u64,
                0,
                0,
            ]);
        }
        self.asleep.store(before, Ordering::Relaxed);
    }
}
