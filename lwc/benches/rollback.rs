//! What rollback in place costs, by the pages that an invocation has dirtied and
//! by what is resident, beside a new process and a new context.
//!
//! ```sh
//! cargo bench -p lwc --bench rollback
//! ```
//!
//! "roll back" is the rollback alone; "invoke and roll back" is a switch there
//! and back, in which the pages are written, and the rollback.

mod common;

use common::Memory;
use criterion::{BenchmarkId, Criterion};
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

/// The rollbacks alone, or with the invocations before them.
fn time(context: &Context, pages: usize, n: u64, whole: bool) -> Duration {
    let mut all = Duration::ZERO;
    for _ in 0..n {
        let begun = Instant::now();
        context.switch(&[pages as u64]).expect("lwSwitch");
        let before = if whole { begun } else { Instant::now() };
        let undone = context.roll_back().expect("roll_back");
        all += before.elapsed();
        assert!(undone as usize >= pages, "{undone} of {pages}");
    }
    all
}

fn by_dirty_pages(c: &mut Criterion) {
    let memory = Memory::new(MOST * page_size(), true);
    let context = snapshot(&memory);
    for (name, whole) in [("roll back", false), ("invoke and roll back", true)] {
        let mut group = c.benchmark_group(format!("{name}, dirty pages of {MOST}"));
        for pages in [0, 1, 10, 100, 1000, MOST] {
            group.bench_function(BenchmarkId::from_parameter(pages), |b| {
                b.iter_custom(|n| time(&context, pages, n, whole));
            });
        }
        group.finish();
    }
}

fn by_size(c: &mut Criterion) {
    for mib in [1, 64, 256, 1024] {
        let memory = Memory::new(mib * MIB, true);
        let context = snapshot(&memory);
        let mut group = c.benchmark_group(format!("{mib} MiB resident, 10 pages dirtied"));
        group.bench_function("roll back", |b| {
            b.iter_custom(|n| time(&context, 10, n, false));
        });
        group.bench_function("invoke and roll back", |b| {
            b.iter_custom(|n| time(&context, 10, n, true));
        });
        drop(context);
        group.bench_function("lwCreate and close", |b| {
            b.iter(|| {
                let context = lwc::spawn(&[], Flags::empty(), |_| std::process::exit(1));
                drop(context.expect("lwCreate"));
            });
        });
        group.bench_function("fork, exit, wait", |b| b.iter(lwc_bare::fork_and_wait));
        group.finish();
        drop(memory);
    }
}

fn main() {
    let mut c = common::criterion();
    if let Err(why) = lwc::rollback_support() {
        println!("{why}");
        return;
    }
    let cpus = lwc_bare::cpu::processors();
    lwc_bare::cpu::pin(cpus[cpus.len() - 1]);
    by_dirty_pages(&mut c);
    by_size(&mut c);
    c.final_summary();
}
