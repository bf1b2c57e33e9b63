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
/// As [`write()`].
#[inline]
unsafe fn bytes_to(to: *mut u8, bytes: &[u8]) {
    for (i, &byte) in bytes.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { to.add(i).write_volatile(byte) };
    }
}

/// What [`clear`] writes at once, where it can: as much as every machine of the kind does.
#[cfg(target_arch = "x86_64")]
type Wide = std::arch::x86_64::__m128i;
#[cfg(not(target_arch = "x86_64"))]
type Wide = u64;

/// Writes zeros to shared memory.
///
/// # Safety
/// As [`write()`], of `len` bytes.
pub(crate) unsafe fn clear(to: *mut u8, len: usize) {
    const EACH: usize = size_of::<Wide>();
    const ROW: usize = 8 * EACH;
    let first = to.align_offset(EACH).min(len);
    let (rows, rest) = ((len - first) / ROW, (len - first) % ROW);
    // SAFETY: the three parts together are the caller's bytes; the rows are aligned,
    // after `first`. Zeros are a value of integers and of vectors of them.
    unsafe {
        write(to, &[0; EACH][..first]);
        let zero: Wide = std::mem::zeroed();
        let mut at = to.add(first);
        for _ in 0..rows {
            for i in 0..ROW / EACH {
                at.cast::<Wide>().add(i).write_volatile(zero);
            }
            at = at.add(ROW);
        }
        write(at, &[0; ROW][..rest]);
    }
}

/// Whether whole rows of 256 bytes of shared memory are zeros. Each byte is read once.
///
/// # Safety
/// `from` is mapped readable for `len` bytes, to which no reference leads.
///
/// # Panics
/// When there is nothing, or a part of a row, or `from` is not aligned to 16 bytes.
#[cfg(any(test, target_os = "freebsd"))]
pub(crate) unsafe fn is_zero(from: *const u8, len: usize) -> bool {
    assert!(len != 0 && len.is_multiple_of(256) && from.addr().is_multiple_of(16));
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads the bytes that the caller promised, `len` of them, as whole rows;
    // every x86-64 has SSE2.
    unsafe {
        let zeros: u32;
        std::arch::asm!(
            "pxor {a}, {a}",
            "pxor {b}, {b}",
            "2:",
            "por {a}, [{at}]",
            "por {b}, [{at} + 16]",
            "por {a}, [{at} + 32]",
            "por {b}, [{at} + 48]",
            "por {a}, [{at} + 64]",
            "por {b}, [{at} + 80]",
            "por {a}, [{at} + 96]",
            "por {b}, [{at} + 112]",
            "por {a}, [{at} + 128]",
            "por {b}, [{at} + 144]",
            "por {a}, [{at} + 160]",
            "por {b}, [{at} + 176]",
            "por {a}, [{at} + 192]",
            "por {b}, [{at} + 208]",
            "por {a}, [{at} + 224]",
            "por {b}, [{at} + 240]",
            "add {at}, 256",
            "cmp {at}, {end}",
            "jb 2b",
            "por {a}, {b}",
            "pxor {b}, {b}",
            "pcmpeqb {a}, {b}",
            "pmovmskb {zeros:e}, {a}",
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            at = inout(reg) from => _,
            end = in(reg) from.add(len),
            zeros = lateout(reg) zeros,
            options(nostack, readonly),
        );
        zeros == 0xffff
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut any = 0;
        for i in (0..len).step_by(WORD) {
            // SAFETY: a word of the bytes that the caller promised, aligned as those are.
            any |= unsafe { from.add(i).cast::<u64>().read_volatile() };
        }
        any == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_exact_at_every_alignment_and_length() {
        let all: Vec<u8> = (0..320).map(|i| (i % 255) as u8 + 1).collect();
        for start in 0..9 {
            // Rows of words, words, bytes.
            for len in (0..40).chain(60..80).chain(120..300) {
                let mut shared = [0u8; 320];
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
                assert_eq!(shared, [0; 320]);
            }
        }
    }

    #[test]
    fn one_bit_anywhere_is_not_zero() {
        #[repr(align(64))]
        struct Rows([u8; 768]);
        let mut rows = Rows([0; 768]);
        let zero = |rows: &mut Rows| {
            let from = rows.0[256..].as_ptr();
            // SAFETY: two of the three rows, which are not used meanwhile.
            unsafe { is_zero(from, 512) }
        };
        // What is before does not count.
        rows.0[255] = 1;
        assert!(zero(&mut rows));
        for at in 256..768 {
            rows.0[at] = 1 << (at % 8);
            assert!(!zero(&mut rows), "{at}");
            rows.0[at] = 0;
            assert!(zero(&mut rows), "{at}");
        }
        rows.0[767] = 1;
        let from = rows.0[256..].as_ptr();
        // SAFETY: one row.
        assert!(unsafe { is_zero(from, 256) });
    }
}
