//! Copies to and from memory that others may write meanwhile.
//!
//! Ordinary copies are a data race there, and the compiler may read a byte twice
//! and find two. These read and write each byte once, by volatile accesses, a
//! word at a time where the shared side is aligned.

const WORD: usize = size_of::<u64>();

/// How many of `len` bytes come before the first word of the shared side.
#[inline]
fn before_words(shared: *const u8, len: usize) -> usize {
    shared.align_offset(WORD).min(len)
}

/// Copies from shared memory.
///
/// # Safety
/// `from` is mapped readable for `out.len()` bytes, to which no reference leads.
#[inline]
pub(crate) unsafe fn read(from: *const u8, out: &mut [u8]) {
    let (first, rest) = out.split_at_mut(before_words(from, out.len()));
    // SAFETY: every access lies in the range that the caller promised, since all
    // three parts together are `out`; those of words are aligned, after `first`.
    unsafe {
        bytes_from(from, first);
        let mut from = from.add(first.len());
        let mut words = rest.chunks_exact_mut(WORD);
        for word in &mut words {
            word.copy_from_slice(&from.cast::<u64>().read_volatile().to_ne_bytes());
            from = from.add(WORD);
        }
        bytes_from(from, words.into_remainder());
    }
}

/// # Safety
/// As [`read`].
#[inline]
unsafe fn bytes_from(from: *const u8, out: &mut [u8]) {
    for (i, byte) in out.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *byte = unsafe { from.add(i).read_volatile() };
    }
}

/// Copies to shared memory.
///
/// # Safety
/// `to` is mapped for `bytes.len()` bytes, to which no reference leads.
#[inline]
pub(crate) unsafe fn write(to: *mut u8, bytes: &[u8]) {
    let (first, rest) = bytes.split_at(before_words(to, bytes.len()));
    // SAFETY: as in `read`.
    unsafe {
        bytes_to(to, first);
        let mut to = to.add(first.len());
        let (words, last) = rest.as_chunks::<WORD>();
        for &word in words {
            to.cast::<u64>().write_volatile(u64::from_ne_bytes(word));
            to = to.add(WORD);
        }
        bytes_to(to, last);
    }
}

/// # Safety
/// As [`write`].
#[inline]
unsafe fn bytes_to(to: *mut u8, bytes: &[u8]) {
    for (i, &byte) in bytes.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { to.add(i).write_volatile(byte) };
    }
}

/// Writes zeros to shared memory.
///
/// # Safety
/// As [`write`], of `len` bytes.
pub(crate) unsafe fn clear(to: *mut u8, len: usize) {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut done = 0;
    while done < len {
        let part = &ZEROS[..ZEROS.len().min(len - done)];
        // SAFETY: the caller's promise, for a part of the bytes.
        unsafe { write(to.add(done), part) };
        done += part.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_exact_at_every_alignment_and_length() {
        let all: Vec<u8> = (1..=60).collect();
        for start in 0..9 {
            for len in 0..40 {
                let mut shared = [0u8; 64];
                let at = shared[start..].as_mut_ptr();
                let mut back = vec![0; len];
                // SAFETY: inside the array, which is not used meanwhile.
                unsafe {
                    write(at, &all[..len]);
                    read(at, &mut back);
                }
                assert_eq!(back, all[..len]);
                assert!(shared[..start].iter().all(|&b| b == 0));
                assert!(shared[start + len..].iter().all(|&b| b == 0));
                let at = shared[start..].as_mut_ptr();
                // SAFETY: as above.
                unsafe { clear(at, len) };
                assert_eq!(shared, [0; 64]);
            }
        }
    }
}
