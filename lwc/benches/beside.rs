//! What a program has without contexts: hand-overs between two processes, two
//! threads, two stacks; fork, spawn; a null system call.
//!
//! ```sh
//! cargo bench -p lwc-benches --bench beside
//! ```
//!
//! Hand-overs are round trips; both sides are on one processor, and once more
//! on two.

use lwc_benches as common;

use criterion::Criterion;
use lwc_orchestrator::bench::bare::{
    Futex, Pipe, Remote, RoundTrip, Semaphore, Socket, Thread, UserContext, cpu,
};
use std::time::Duration;

fn run<P: RoundTrip>(c: &mut Criterion, label: &str, name: &str, partner: std::io::Result<P>) {
    let mut partner = partner.expect(name);
    c.bench_function(&format!("{name}, {label}"), |b| {
        b.iter(|| partner.round_trip());
    });
}

fn hand_overs(c: &mut Criterion, label: &str, here: usize, there: usize) {
    cpu::pin(here);
    run(c, label, "futex between processes", Futex::new(there));
    run(c, label, "pipe", Pipe::new(there));
    run(c, label, "Unix socket", Socket::new(there));
    run(c, label, "POSIX semaphore", Semaphore::new(there));
    let mut threads = Remote::new(|| {
        let mut partner = Thread::new(there);
        move || partner.round_trip()
    })
    .expect("a process with threads");
    c.bench_function(&format!("futex between threads, {label}"), |b| {
        b.iter_custom(|n| timed(&mut threads, n));
    });
}

fn timed(remote: &mut Remote, n: u64) -> Duration {
    let n = u32::try_from(n).expect("a bounded number of iterations");
    remote.time(n).expect("the other process answers")
}

fn main() {
    let (first, second) = common::two_processors();
    let mut c = common::criterion();
    cpu::pin(first);
    c.bench_function("null system call", |b| {
        b.iter(lwc_orchestrator::bench::bare::null_call)
    });
    let mut stacks = UserContext::new();
    c.bench_function("swapcontext", |b| b.iter(|| stacks.round_trip()));
    hand_overs(&mut c, "one processor", first, first);
    if first != second {
        hand_overs(&mut c, "two processors", first, second);
    }
    cpu::pin(first);
    c.bench_function("fork, exit, wait", |b| {
        b.iter(lwc_orchestrator::bench::bare::fork_and_wait)
    });
    if let Err(e) = lwc_orchestrator::bench::bare::spawn_and_wait() {
        eprintln!("no figure for posix_spawn: {e}");
    } else {
        c.bench_function("posix_spawn, exit, wait", |b| {
            b.iter(lwc_orchestrator::bench::bare::spawn_and_wait);
        });
    }
    c.final_summary();
}
