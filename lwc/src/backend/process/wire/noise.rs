//! Numbers that differ from each other and say nothing else.

use super::gate;
use siphasher::sip::SipHasher24;
use std::cell::Cell;
use std::hash::Hasher;

/// Where the changing words of a doorbell ([`super::bell`]) come from.
///
/// Who has no key counts: a context that makes no others, whose doorbell is read by
/// its creator, its root and those that it hands over to.
///
/// A context that is made of this process's memory has what is there. So the key is
/// destroyed before, and another one is drawn afterwards, here: no other process ever
/// has it, and what is left of an older one on the stack tells nothing that is to
/// come.
pub(crate) struct Noise {
    key: Cell<[u64; 2]>,
    has_key: Cell<bool>,
    drawn: Cell<u64>,
    /// The other half of the last number that was drawn for a half.
    spare: Cell<Option<u32>>,
}

impl Noise {
    pub(crate) fn none() -> Self {
        Self {
            key: Cell::new([0; 2]),
            has_key: Cell::new(false),
            drawn: Cell::new(0),
            spare: Cell::new(None),
        }
    }

    /// The number that follows one: that and one, or one that nobody can foresee.
    #[inline]
    pub(crate) fn after(&self, was: u64) -> u64 {
        if !self.has_key.get() {
            return was.wrapping_add(1);
        }
        self.drawn.set(self.drawn.get().wrapping_add(1));
        let [a, b] = self.key.get();
        let mut hasher = SipHasher24::new_with_keys(a, b);
        hasher.write_u64(self.drawn.get());
        let next = hasher.finish();
        if next == was {
            next.wrapping_add(2)
        } else {
            next
        }
    }

    /// The same of half the length; two are drawn together.
    #[inline]
    pub(crate) fn half_after(&self, was: u32) -> u32 {
        if !self.has_key.get() {
            return was.wrapping_add(1);
        }
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let both = self.after(0);
        self.spare.set(Some((both >> 32) as u32));
        both as u32
    }

    /// Before a process is made of this one: the kernel copies what is there then, how
    /// many were drawn among it.
    pub(crate) fn forget_key(&self) {
        self.has_key.set(false);
        self.key.set([0; 2]);
        self.drawn.set(0);
        self.spare.set(None);
    }

    /// After that, in the same process.
    ///
    /// # Errors
    /// The kernel gives no random numbers: an errno.
    pub(crate) fn draw_key(&self) -> Result<(), i32> {
        self.key.set(random()?);
        self.has_key.set(true);
        Ok(())
    }
}

/// Whether the kernel gives random numbers.
///
/// # Errors
/// Why not: an errno.
pub(crate) fn is_there() -> Result<(), i32> {
    random().map(drop)
}

fn random() -> Result<[u64; 2], i32> {
    let mut key = [0u64; 2];
    let len = size_of_val(&key);
    // SAFETY: writes so many bytes to a local of that length.
    let got = unsafe {
        gate::own([
            libc::SYS_getrandom as u64,
            key.as_mut_ptr() as u64,
            len as u64,
            0,
            0,
            0,
            0,
        ])
    };
    // So few come whole or not at all.
    match got {
        n if n == len as i64 => Ok(key),
        n => Err(-n as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_and_follow_from_nothing_that_is_seen() {
        let noise = Noise::none();
        assert_eq!((noise.after(4), noise.after(u64::MAX)), (5, 0));
        noise.draw_key().unwrap();
        let mut seen = std::collections::HashSet::new();
        let mut was = 0;
        for _ in 0..1000 {
            was = noise.after(was);
            assert!(seen.insert(was));
        }
        // Nor do they go on, once another key is there.
        let before = noise.key.get();
        let _ = noise.half_after(0);
        noise.forget_key();
        // Nor does a process that is made now see how many there were.
        assert_eq!((noise.key.get(), noise.drawn.get()), ([0; 2], 0));
        assert_eq!((noise.has_key.get(), noise.spare.get()), (false, None));
        assert_eq!(noise.after(7), 8);
        noise.draw_key().unwrap();
        assert_ne!(noise.key.get(), before);
        assert!(seen.insert(noise.after(was)));
    }
}
