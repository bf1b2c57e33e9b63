//! What a context is compared with: the least that handing over between two
//! processes or threads can cost, and the ways to make and end one. Nothing
//! here knows of contexts; `cargo bench -p lwc-benches` and `lwc-orchestrator bench`
//! run these beside them.

mod child;
pub mod cpu;
mod hand_over;
mod making;
mod remote;
mod thread;
mod ucontext;

pub use child::{Child, SharedPage};
pub use hand_over::{Futex, Pipe, RoundTrip, Semaphore, Socket};
pub use making::{fork_and_wait, fork_run_and_wait, null_call, spawn_and_wait};
pub use remote::Remote;
pub use thread::Thread;
pub use ucontext::UserContext;

use std::time::{Duration, Instant};

/// How long `n` calls of `what` take together.
pub fn time(n: u32, mut what: impl FnMut()) -> Duration {
    let started = Instant::now();
    (0..n).for_each(|_| what());
    started.elapsed()
}
