//! Handing over to another thread and back.

use super::cpu::pin;
use super::hand_over::{RoundTrip, Scope, wait, wake};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

/// A word on a cache line of its own.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Line(AtomicU32);

#[derive(Debug, Default)]
struct Words {
    there: Line,
    back: Line,
    end: AtomicBool,
}

/// A futex each way between two threads.
#[derive(Debug)]
pub struct Thread {
    words: Arc<Words>,
    thread: Option<JoinHandle<()>>,
    count: u32,
}

impl Thread {
    /// A partner on processor `there`.
    pub fn new(there: usize) -> Self {
        let words = Arc::new(Words::default());
        let theirs = Arc::clone(&words);
        let thread = std::thread::spawn(move || {
            pin(there);
            let mut seen = 0;
            loop {
                wait(&theirs.there.0, seen, Scope::Threads);
                if theirs.end.load(Ordering::Relaxed) {
                    return;
                }
                seen = seen.wrapping_add(1);
                wake(&theirs.back.0, seen, Scope::Threads);
            }
        });
        Self {
            words,
            thread: Some(thread),
            count: 0,
        }
    }
}

impl RoundTrip for Thread {
    fn round_trip(&mut self) {
        let before = self.count;
        self.count = self.count.wrapping_add(1);
        wake(&self.words.there.0, self.count, Scope::Threads);
        wait(&self.words.back.0, before, Scope::Threads);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.words.end.store(true, Ordering::Relaxed);
        wake(
            &self.words.there.0,
            self.count.wrapping_add(1),
            Scope::Threads,
        );
        if let Some(thread) = self.thread.take() {
            // A panic there has been told of already.
            let _ = thread.join();
        }
    }
}
