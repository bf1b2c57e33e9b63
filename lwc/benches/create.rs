//! What making and ending a context costs, by what its creator has mapped, by
//! what is resident, by the pages that the new context writes.
//!
//! ```sh
//! cargo bench -p lwc-benches --bench create
//! ```

use lwc_benches as common;

use common::Memory;
use criterion::{BenchmarkId, Criterion};
use lwc::{Flags, page_size};

const MIB: usize = 1 << 20;

/// lwCreate and close; nobody ever runs there.
fn create(flags: Flags) {
    let context = lwc::spawn(&[], flags, |_| std::process::exit(1));
    drop(context.expect("lwCreate"));
}

/// The same, and the new context writes `pages` before it ends.
fn create_and_write(memory: &Memory, pages: usize, flags: Flags) {
    let context = lwc::spawn(&[], flags, |event| {
        memory.write(pages);
        let from = event.from().expect("a caller");
        loop {
            let _ = from.switch(&[]);
        }
    })
    .expect("lwCreate");
    context.switch(&[]).expect("lwSwitch");
}

fn by_size(c: &mut Criterion, label: &str, touched: bool, sizes: &[usize]) {
    for (name, what) in [
        (
            "lwCreate and close",
            &mut (|| create(Flags::empty())) as &mut dyn FnMut(),
        ),
        (
            "fork, exit, wait",
            &mut lwc_orchestrator::bench::bare::fork_and_wait,
        ),
    ] {
        let mut group = c.benchmark_group(format!("{name}, MiB {label}"));
        for &mib in sizes {
            let memory = Memory::new(mib * MIB, touched);
            group.bench_function(BenchmarkId::from_parameter(mib), |b| b.iter(&mut *what));
            drop(memory);
        }
        group.finish();
    }
}

fn by_dirty_pages(c: &mut Criterion) {
    const MOST: usize = 10_000;
    let memory = Memory::new(MOST * page_size(), true);
    for (name, flags) in [
        ("lwCreate, write, close", Flags::empty()),
        ("lwCreate with PREFAULT, write, close", Flags::PREFAULT),
    ] {
        let mut group = c.benchmark_group(format!("{name}: pages of {MOST}"));
        for pages in [0, 10, 100, 1_000, MOST] {
            group.bench_function(BenchmarkId::from_parameter(pages), |b| {
                b.iter(|| create_and_write(&memory, pages, flags));
            });
        }
        group.finish();
    }
}

fn main() {
    let mut c = common::criterion();
    lwc_orchestrator::bench::bare::cpu::pin(common::two_processors().0);
    by_size(&mut c, "mapped", false, &[1, 32, 1024]);
    by_size(&mut c, "resident", true, &[1, 32, 256]);
    by_dirty_pages(&mut c);
    c.final_summary();
}
