//! Writes to standard output and error that a handler of SIGSYS takes instead of the
//! kernel: what both backends do about them.

use std::sync::atomic::{AtomicPtr, Ordering};

/// Which of the two it was, and what.
pub(crate) type Told = fn(i32, &[u8]);

/// A [`Told`], or null.
static TOLD: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Pieces of one writev(2) at most.
const MOST_PIECES: u64 = 1024;

/// A call that was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// write(2)
    One,
    /// writev(2)
    Many,
}

pub(crate) fn tell(told: Told) {
    TOLD.store(told as *mut (), Ordering::Relaxed);
}

/// Whether somebody is told.
pub(crate) fn is_caught() -> bool {
    !TOLD.load(Ordering::Relaxed).is_null()
}

/// Tells what a call would have written, and what it returns: how many bytes, or an
/// errno. `None` if it is to neither of the two, or nobody is told.
///
/// # Safety
/// The arguments are a call's of code in this context, whose own they are: where they
/// point to nothing it faults, as it would by a load of its own.
pub(crate) unsafe fn take(call: Write, args: [u64; 3]) -> Option<Result<u64, i32>> {
    let told = TOLD.load(Ordering::Relaxed);
    // The kernel looks at the low half alone.
    let fd = args[0] as i32;
    if told.is_null() || !(1..=2).contains(&fd) {
        return None;
    }
    // SAFETY: not null, so `tell` has put a `Told` there.
    let told: Told = unsafe { std::mem::transmute(told) };
    let pass = |at: u64, len: u64| {
        if len > 0 {
            // SAFETY: the caller's promise; no reference outlives the call, during
            // which nothing else of this context runs.
            told(fd, unsafe {
                std::slice::from_raw_parts(at as *const u8, len as usize)
            });
        }
    };
    let most = isize::MAX as u64;
    match call {
        Write::One if args[2] > most => Some(Err(libc::EINVAL)),
        Write::One => {
            pass(args[1], args[2]);
            Some(Ok(args[2]))
        }
        Write::Many if args[2] > MOST_PIECES => Some(Err(libc::EINVAL)),
        Write::Many => {
            let mut all = 0u64;
            for i in 0..args[2] {
                // SAFETY: as above.
                let piece = unsafe { (args[1] as *const libc::iovec).add(i as usize).read() };
                let len = piece.iov_len as u64;
                if len > most - all {
                    return Some(Err(libc::EINVAL));
                }
                pass(piece.iov_base as u64, len);
                all += len;
            }
            Some(Ok(all))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    fn said(fd: i32, bytes: &[u8]) {
        let mut all = SAID.lock().unwrap();
        all.push(fd as u8);
        all.extend_from_slice(bytes);
    }

    #[test]
    fn what_is_for_the_two_is_told_and_nothing_else() {
        // SAFETY: of each, the arguments are those of a call on what is there.
        let take = |call, fd: u64, at: u64, n: u64| unsafe { take(call, [fd, at, n]) };
        let text = b"text".as_ptr() as u64;
        assert_eq!(take(Write::One, 1, text, 4), None);
        tell(said);
        assert!(is_caught());
        assert_eq!(take(Write::One, 0, text, 4), None);
        assert_eq!(take(Write::One, 3, text, 4), None);
        assert_eq!(take(Write::One, 1 << 32 | 1, text, 4), Some(Ok(4)));
        assert_eq!(take(Write::One, 2, 0, 0), Some(Ok(0)));
        assert_eq!(take(Write::One, 2, text, u64::MAX), Some(Err(libc::EINVAL)));
        let piece = |n| libc::iovec {
            iov_base: text as *mut libc::c_void,
            iov_len: n,
        };
        let pieces = [piece(1), piece(0), piece(3)];
        let pieces = pieces.as_ptr() as u64;
        assert_eq!(take(Write::Many, 2, pieces, 3), Some(Ok(4)));
        assert_eq!(take(Write::Many, 2, pieces, 1025), Some(Err(libc::EINVAL)));
        let long = [piece(1), piece(usize::MAX)];
        let long = long.as_ptr() as u64;
        assert_eq!(take(Write::Many, 2, long, 2), Some(Err(libc::EINVAL)));
        assert_eq!(*SAID.lock().unwrap(), b"\x01text\x02t\x02tex\x02t");
    }
}
