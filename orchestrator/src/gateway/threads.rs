//! The threads that serve connections, each with a runtime of its own.
//!
//! ```text
//!   accept ─┬─▶ thread 0: connections, and the tasks of workers 0, 2, …
//!           └─▶ thread 1: connections, and the tasks of workers 1, 3, …
//! ```
//!
//! A request stays on one thread: its connection, its job, and the socket of the
//! worker that runs it, as long as a worker of that thread is free (`queue.rs`; a busy
//! thread's jobs go to the workers of others). So nobody wakes another thread for it.
//! In a runtime that has several threads one that has work wakes a second, which
//! looks for some, finds none and sleeps again: for each request two system calls and
//! an interrupt of another processor, which costs more than the request.
//!
//! What is not a request (signals, reloads, NATS) is on the runtime that calls
//! [`serve`](super::serve).

use super::processor;
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

thread_local! {
    /// Which of them this is.
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// How many there are: one a processor that this process may use.
pub(super) fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Which of them the caller runs on; 0 where it runs on none, for it has to be woken
/// whoever does its work.
pub(super) fn here() -> usize {
    HERE.get()
}

/// The threads; they end when this is dropped, and all tasks that they still have.
#[derive(Debug)]
pub(super) struct Threads {
    runtimes: Vec<Runtime>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Runtime {
    handle: Handle,
    /// The thread waits for it to be dropped.
    _until: oneshot::Sender<()>,
}

impl Threads {
    /// Starts [`count`] of them, each on a processor of its own if they are pinned.
    ///
    /// # Errors
    /// The system has no more threads or descriptors.
    pub(super) fn start(pin: bool) -> io::Result<Self> {
        let runtimes = (0..count())
            .map(|n| start(n, pin))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            runtimes,
            next: AtomicUsize::new(0),
        })
    }

    /// The one whose number this is, counted round.
    pub(super) fn get(&self, number: usize) -> &Handle {
        &self.runtimes[number % self.runtimes.len()].handle
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Handle> {
        self.runtimes.iter().map(|r| r.handle.clone()).collect()
    }

    /// Each in turn, so that all have as many connections.
    pub(super) fn next(&self) -> &Handle {
        self.get(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

fn start(number: usize, pin: bool) -> io::Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (until, ended) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name(format!("connections-{number}"))
        .spawn(move || {
            HERE.set(number);
            if pin {
                processor::settle(first_turn() + number);
            }
            let _ = runtime.block_on(ended);
            // A look-up of a name that is under way keeps nobody.
            runtime.shutdown_background();
        })?;
    Ok(Runtime {
        handle,
        _until: until,
    })
}

/// The turn of the first thread: anybody's guess, so that several gateways with quotas of
/// a few processors do not all take the same ones.
fn first_turn() -> usize {
    static FIRST: OnceLock<usize> = OnceLock::new();
    *FIRST.get_or_init(|| RandomState::new().hash_one(0) as u16 as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_runs_on_the_thread_that_it_was_given_to() {
        let threads = Threads::start(false).unwrap();
        let all = 0..2 * count();
        let tasks: Vec<_> = all
            .map(|n| (n, threads.get(n).spawn(async { here() })))
            .collect();
        for (n, task) in tasks {
            let ran = outcome_of(task);
            assert_eq!(ran, n % count());
        }
        let first = outcome_of(threads.next().spawn(async { here() }));
        let second = outcome_of(threads.next().spawn(async { here() }));
        assert_eq!((first, second), (0, 1 % count()));
    }

    fn outcome_of<T>(task: tokio::task::JoinHandle<T>) -> T {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(task).unwrap()
    }
}
