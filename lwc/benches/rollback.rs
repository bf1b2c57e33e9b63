//! What rollback in place costs, by the pages that an invocation has dirtied and
//! by what is resident, beside a new process and a new context.
//!
//! ```sh
//! cargo bench -p lwc-benches --bench rollback
//! ```
//!
//! "roll back" is the rollback alone; "invoke and roll back" is a switch there
//! and back, in which the pages are written, and the rollback.

use lwc_benches as common;

use common::Memory;
use lwc::{Access, Confinement, Context, Flags, Spec, page_size};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// Pages of the memory that is dirtied.
const MOST: usize = 10_000;

/// A context in the strict sandbox, with its snapshot, that writes as many pages
/// as it is told, each page a different line apart.
fn snapshot(memory: &Memory) -> Context {
    let context = lwc::spawn(
        &[Spec::all_files(Access::Unmap)],
        Flags::ROLLBACK | Flags::TRAP_FAULT,
        |mut event| {
            lwc::confine(Confinement::Strict).expect("the sandbox");
            loop {
                let pages = event.args()[0] as usize;
                memory.write(pages);
                let from = event.from().expect("a caller");
                event = from.switch(&[]).expect("switching back");
            }
        },
    )
    .expect("lwCreate");
    context.switch(&[0]).expect("lwSwitch");
    context.snapshot().expect("snapshot");
    context
}

/// Each time, in order.
struct Times(Vec<Duration>);

impl Times {
    /// Of as many runs as fit half a second, at least twenty.
    fn of(mut what: impl FnMut() -> Duration) -> Self {
        let begun = Instant::now();
        let mut all = Vec::new();
        while all.len() < 20 || begun.elapsed() < Duration::from_millis(500) {
            all.push(what());
        }
        all.sort_unstable();
        Self(all)
    }

    fn print(&self, what: &str) {
        let at = |share: usize| self.0[self.0.len() * share / 100].as_nanos() as f64 / 1000.0;
        let n = self.0.len();
        println!(
            "{what:<52} least {:>9.1}  5% {:>9.1}  median {:>9.1} µs  ({n})",
            at(0),
            at(5),
            at(50)
        );
    }
}

/// An invocation and its rollback: both, and the rollback alone.
fn invoke(context: &Context, pages: usize) -> (Duration, Duration) {
    let begun = Instant::now();
    context.switch(&[pages as u64]).expect("lwSwitch");
    let between = Instant::now();
    let undone = context.roll_back().expect("roll_back");
    let ended = Instant::now();
    assert!(undone as usize >= pages, "{undone} of {pages}");
    (ended - begun, ended - between)
}

fn both(context: &Context, pages: usize, what: &str) {
    Times::of(|| invoke(context, pages).1).print(&format!("{what}: roll back"));
    Times::of(|| invoke(context, pages).0).print(&format!("{what}: invoke and roll back"));
}

fn timed(mut what: impl FnMut()) -> impl FnMut() -> Duration {
    move || {
        let begun = Instant::now();
        what();
        begun.elapsed()
    }
}

fn by_dirty_pages() {
    let memory = Memory::new(MOST * page_size(), true);
    let context = snapshot(&memory);
    for pages in [0, 1, 10, 100, 1000, MOST] {
        both(&context, pages, &format!("{pages} pages of {MOST} dirtied"));
    }
}

/// `large`: the system may have large pages for it.
fn by_size(large: bool) {
    for mib in [1, 64, 256, 1024] {
        let memory = Memory::new(mib * MIB, true);
        let label = if large { "MiB" } else { "MiB in small pages" };
        #[cfg(target_os = "linux")]
        if large {
            let range = memory.range();
            // SAFETY: advice on a mapping of our own.
            unsafe { libc::madvise(range.start as *mut _, range.len(), libc::MADV_HUGEPAGE) };
        }
        let context = snapshot(&memory);
        both(&context, 10, &format!("{mib} {label}, 10 pages dirtied"));
        drop(context);
        let create = || {
            let context = lwc::spawn(&[], Flags::empty(), |_| std::process::exit(1));
            drop(context.expect("lwCreate"));
        };
        Times::of(timed(create)).print(&format!("{mib} {label}: lwCreate and close"));
        Times::of(timed(lwc_orchestrator::bench::bare::fork_and_wait))
            .print(&format!("{mib} {label}: fork, exit, wait"));
    }
}

fn main() {
    if let Err(why) = lwc::rollback_support() {
        println!("{why}");
        return;
    }
    let cpus = lwc_orchestrator::bench::bare::cpu::processors();
    lwc_orchestrator::bench::bare::cpu::pin(cpus[cpus.len() - 1]);
    by_dirty_pages();
    by_size(true);
    by_size(false);
}
