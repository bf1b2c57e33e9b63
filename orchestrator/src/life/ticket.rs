//! Tickets: how a function of a relay proves that its turn has come (`relay`).
//!
//! Each step has one in each request, a number that nobody can guess. Whoever has
//! the turn knows its own and makes the next one of it.

use siphasher::sip::SipHasher24;
use std::hash::Hasher;

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
        Self {
            key: random(),
            drawn: 0,
        }
    }

    /// One that was not there before. Never 0.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        siphash(self.key, self.drawn).max(1)
    }
}

/// Numbers of the system's.
///
/// # Panics
/// It gives none.
pub(super) fn random() -> [u64; 2] {
    let mut all = [0u64; 2];
    let len = size_of_val(&all);
    // SAFETY: writes so many bytes to a local of that length.
    let got = unsafe { libc::getrandom(all.as_mut_ptr().cast(), len, 0) };
    // So few come whole or not at all.
    let e = std::io::Error::last_os_error();
    assert!(usize::try_from(got) == Ok(len), "getrandom: {e}");
    all
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
    let mut hasher = SipHasher24::new_with_keys(k0, k1);
    hasher.write_u64(word);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

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
