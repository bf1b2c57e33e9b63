//! What moving and taking away resources costs: lwRestrict, lwOverlay by
//! pages, the first write to a copied page.
//!
//! ```sh
//! cargo bench -p lwc-benches --bench resources
//! ```

use lwc_benches as common;

use common::Memory;
use criterion::{BenchmarkId, Criterion};
use lwc::{Access, Flags, Rights, Spec, page_size};
use std::time::Duration;

fn restrict(c: &mut Criterion) {
    let cpu = common::two_processors().0;
    let context = common::answering(cpu, cpu);
    let memory = Memory::new(page_size(), true);
    let one = Rights::memory(memory.range());
    c.bench_function("lwRestrict of a page", |b| {
        b.iter(|| context.restrict(&one).expect("lwRestrict"));
    });
}

fn overlay(c: &mut Criterion) {
    for (name, access) in [("share", Access::Share), ("copy", Access::Copy)] {
        let mut group = c.benchmark_group(format!("lwOverlay, {name}, pages"));
        for pages in [1, 16, 256, 4096] {
            let memory = Memory::new(pages * page_size(), true);
            let context = lwc::spawn(&[], Flags::empty(), |event| {
                memory.write(pages);
                let from = event.from().expect("a caller");
                loop {
                    let _ = from.switch(&[]);
                }
            })
            .expect("lwCreate");
            context.switch(&[]).expect("lwSwitch");
            // SAFETY: the range is `memory`, raw bytes that nothing refers to.
            let specs = [unsafe { Spec::memory(memory.range(), access) }];
            group.bench_function(BenchmarkId::from_parameter(pages), |b| {
                b.iter(|| {
                    // SAFETY: as above.
                    unsafe { context.overlay(&specs) }.expect("lwOverlay");
                });
            });
        }
        group.finish();
    }
}

/// The new context times its own first writes.
fn first_write(c: &mut Criterion) {
    const PAGES: usize = 1_000;
    let memory = Memory::new(PAGES * page_size(), true);
    c.bench_function("first write to a copied page", |b| {
        b.iter_custom(|n| {
            // Whole contexts, so rounded up to `PAGES` writes each.
            let turns = n.div_ceil(PAGES as u64);
            let mut nanos = 0;
            for _ in 0..turns {
                let context = lwc::spawn(&[], Flags::empty(), |event| {
                    let took = lwc_orchestrator::bench::bare::time(1, || memory.write(PAGES));
                    let from = event.from().expect("a caller");
                    loop {
                        let _ = from.switch(&[took.as_nanos() as u64]);
                    }
                })
                .expect("lwCreate");
                nanos += context.switch(&[]).expect("lwSwitch").args()[0];
            }
            Duration::from_nanos(nanos * n / (turns * PAGES as u64))
        });
    });
}

fn main() {
    let mut c = common::criterion();
    lwc_orchestrator::bench::bare::cpu::pin(common::two_processors().0);
    restrict(&mut c);
    overlay(&mut c);
    first_write(&mut c);
    c.final_summary();
}
