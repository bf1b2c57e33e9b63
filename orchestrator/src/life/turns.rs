//! Threads of a function take turns with what its context has once: calls of other
//! functions, what is asked of the root, the control page, its own files.
//!
//! It is order among a function's own threads, and no wall: whoever does without it
//! spoils its own memory, and what it says to the root, which believes nothing of that.
//! A function without threads (`threads` in the chain file) takes no turns, so that
//! nothing is written for them which a rollback would have to undo.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether there may be threads, in the current context and in its copies.
static THREADS: AtomicBool = AtomicBool::new(false);

/// From now on turns are taken.
pub(super) fn begin() {
    THREADS.store(true, Ordering::Relaxed);
}

/// Whether they are: there may be threads.
pub(super) fn are_taken() -> bool {
    THREADS.load(Ordering::Relaxed)
}

/// Something that one thread at a time uses.
pub(super) struct Turns {
    lock: Mutex<()>,
    /// Whose turn it is (pthread_self(3)), or 0.
    whose: AtomicU64,
}

/// What a thread asks the root for: there and back.
pub(super) static ASKING: Turns = Turns::new();

/// The log, and outputs, on the control page.
pub(super) static LOG: Turns = Turns::new();

/// The turn of the current thread, which ends with this.
pub(super) struct Turn {
    turns: &'static Turns,
    _held: MutexGuard<'static, ()>,
}

impl Turns {
    const fn new() -> Self {
        Self {
            lock: Mutex::new(()),
            whose: AtomicU64::new(0),
        }
    }

    /// Waits for it. `None`: nobody takes turns, or it is this thread's already, in a
    /// handler of a signal that has come in the midst of it.
    pub(super) fn take(&'static self) -> Option<Turn> {
        if !THREADS.load(Ordering::Relaxed) {
            return None;
        }
        // SAFETY: no preconditions.
        let own = unsafe { libc::pthread_self() } as u64;
        if self.whose.load(Ordering::Relaxed) == own {
            return None;
        }
        let held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.whose.store(own, Ordering::Relaxed);
        Some(Turn {
            turns: self,
            _held: held,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the lock: the next one says so itself.
        self.turns.whose.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::UnsafeCell;

    struct Counter(UnsafeCell<u64>);
    // SAFETY: the test takes turns.
    unsafe impl Sync for Counter {}

    #[test]
    fn one_thread_at_a_time_and_once_each() {
        static TURNS: Turns = Turns::new();
        static COUNTER: Counter = Counter(UnsafeCell::new(0));
        assert!(TURNS.take().is_none());
        begin();
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..1000 {
                        let turn = TURNS.take();
                        assert!(turn.is_some());
                        assert!(TURNS.take().is_none(), "it is its own already");
                        // SAFETY: it is this thread's turn.
                        unsafe { *COUNTER.0.get() += 1 };
                    }
                });
            }
        });
        // SAFETY: the others have ended.
        assert_eq!(unsafe { *COUNTER.0.get() }, 4000);
    }
}
