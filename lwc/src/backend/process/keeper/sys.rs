//! System calls, past the C library.

use crate::backend::process::wire::gate;

/// An errno.
pub(crate) type Errno = i32;

/// A system call; an errno on failure.
///
/// # Safety
/// That of the call.
pub(crate) unsafe fn call(number: libc::c_long, args: [u64; 6]) -> Result<u64, Errno> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the caller's promise.
    let value = unsafe { gate::own([number as u64, a, b, c, d, e, f]) };
    if value < 0 && value > -4096 {
        Err(-value as Errno)
    } else {
        Ok(value as u64)
    }
}

pub(crate) fn close(fd: i32) {
    // SAFETY: descriptors of the keeper's own, which nobody uses afterwards.
    let _ = unsafe { call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0]) };
}

/// Copies memory of the keeper's to an address of whoever the file is of.
///
/// # Safety
/// So many bytes are readable there.
pub(crate) unsafe fn write_at(
    file: i32,
    from: *const u8,
    len: usize,
    at: u64,
) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { copy(libc::SYS_pwrite64, file, from as u64, len, at) }
}

/// The other way.
///
/// # Safety
/// So many bytes are writable there.
pub(crate) unsafe fn read_at(file: i32, to: *mut u8, len: usize, at: u64) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { copy(libc::SYS_pread64, file, to as u64, len, at) }
}

/// All of it by pread(2) or pwrite(2), `number`.
///
/// # Safety
/// So many bytes at `memory` are there for the call.
unsafe fn copy(number: i64, file: i32, memory: u64, len: usize, at: u64) -> Result<(), Errno> {
    let (mut done, len) = (0, len as u64);
    while done < len {
        let arguments = [file as u64, memory + done, len - done, at + done, 0, 0];
        // SAFETY: the caller's promise.
        match unsafe { call(number, arguments) }? {
            0 => return Err(libc::ESRCH),
            n => done += n,
        }
    }
    Ok(())
}

/// The beginning of a file, as much as one pread(2) gives: how many bytes.
pub(crate) fn read_some(file: i32, into: &mut [u8]) -> Result<usize, Errno> {
    let (at, len) = (into.as_mut_ptr() as u64, into.len() as u64);
    // SAFETY: writes to the slice, within its length.
    let n = unsafe { call(libc::SYS_pread64, [file as u64, at, len, 0, 0, 0])? };
    Ok((n as usize).min(into.len()))
}

/// Others who can run do.
pub(crate) fn give_way() {
    // SAFETY: plain numbers.
    let _ = unsafe { call(libc::SYS_sched_yield, [0; 6]) };
}

/// Some microseconds pass.
pub(crate) fn pause(micros: i64) {
    let ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: micros * 1000,
    };
    // SAFETY: reads the local.
    let _ = unsafe { call(libc::SYS_nanosleep, [&raw const ts as u64, 0, 0, 0, 0, 0]) };
}

/// A number that no context can foretell, and that tells nothing. (The keeper has no
/// place for a key that its creator's copies have not: so the kernel's, each time.)
pub(crate) fn fresh() -> Result<u64, Errno> {
    let mut number = 0u64;
    let at = &raw mut number as u64;
    // SAFETY: writes so many bytes to the local; so few come whole or not at all.
    unsafe { call(libc::SYS_getrandom, [at, 8, 0, 0, 0, 0])? };
    Ok(number | 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn fresh_numbers_tell_no_time() {
        let all: Vec<u64> = (0..16).map(|_| super::fresh().unwrap()).collect();
        // A clock of any kind goes on by little, or not at all.
        let near = |w: &&[u64]| w[1].wrapping_sub(w[0]) < 1 << 40;
        assert_eq!(all.windows(2).filter(near).count(), 0, "{all:x?}");
    }
}
