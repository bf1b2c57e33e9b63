//! Tickets: how a function of a relay proves that its turn has come (`relay.rs`).
//!
//! Each step has one in each request, a number that nobody can guess. Whoever has
//! the turn knows its own and makes the next one of it.

/// Where tickets come from. Nobody who has seen some can tell others.
pub(super) struct Tickets {
    key: [u64; 2],
    drawn: u64,
}

impl Tickets {
    /// With a key of this process's alone: contexts that are made of its memory
    /// later begin with it, so they are all made before.
    ///
    /// # Panics
    /// Where the system gives no random numbers, as Rust's own maps do.
    pub(super) fn new() -> Self {
        let mut key = [0u64; 2];
        let len = size_of_val(&key);
        // SAFETY: writes so many bytes to a local of that length.
        let got = unsafe { libc::getrandom(key.as_mut_ptr().cast(), len, 0) };
        // So few come whole or not at all.
        let e = std::io::Error::last_os_error();
        assert!(usize::try_from(got) == Ok(len), "getrandom: {e}");
        Self { key, drawn: 0 }
    }

    /// One that was not there before. Never 0.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        siphash(self.key, self.drawn).max(1)
    }
}

/// The key is nobody's to read.
impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

/// What a ticket is known by to one that does not have it: it does not lead back
/// to the ticket. Never 0.
pub(super) fn seal_of(ticket: u64) -> u64 {
    siphash([ticket, 0], 0).max(1)
}

/// SipHash-2-4 of a word: as long as the key is not known, neither is anything of
/// the results that were not seen.
#[inline]
fn siphash([k0, k1]: [u64; 2], word: u64) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    // The word, and its length.
    for block in [word, 8 << 56] {
        v[3] ^= block;
        round(&mut v);
        round(&mut v);
        v[0] ^= block;
    }
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(deprecated, reason = "the one with a key, to compare with")]
    fn it_is_siphash() {
        use std::hash::{Hasher, SipHasher};
        for (k0, k1, word) in [
            (0, 0, 0),
            (1, 2, 3),
            (u64::MAX, 1 << 63, 0x0123_4567_89ab_cdef),
        ] {
            let mut hasher = SipHasher::new_with_keys(k0, k1);
            hasher.write(&u64::to_le_bytes(word));
            assert_eq!(siphash([k0, k1], word), hasher.finish());
        }
    }

    #[test]
    fn none_comes_twice_nor_from_two_keys() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..4 {
            let mut tickets = Tickets::new();
            for _ in 0..1000 {
                let ticket = tickets.draw();
                assert!(seen.insert(ticket) && seen.insert(seal_of(ticket)));
            }
        }
    }
}
