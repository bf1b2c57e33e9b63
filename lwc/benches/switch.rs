//! What a switch costs, beside the least that handing over between two
//! processes can cost; and whether it grows with the number of contexts.
//!
//! ```sh
//! cargo bench -p lwc-benches --bench switch
//! ```
//!
//! Round trips (A→B→A), as the paper's own benchmarks count; halve for one
//! way. The ratio at the end is of pairs measured in turn, so that a machine's
//! moods hit both alike.

use lwc_benches as common;

use common::{answering, raise_descriptor_limit, two_processors};
use criterion::Criterion;
use lwc_orchestrator::bench::bare::{Futex, RoundTrip, cpu, time};

fn pair(c: &mut Criterion, label: &str, here: usize, there: usize) {
    cpu::pin(here);
    let mut bare = Futex::new(there).expect("a partner");
    c.bench_function(&format!("bare futex, {label}"), |b| {
        b.iter(|| bare.round_trip());
    });
    drop(bare);
    let other = answering(here, there);
    c.bench_function(&format!("lwSwitch, {label}"), |b| {
        b.iter(|| other.switch(&[]).expect("lwSwitch"));
    });
}

/// To one after the other of many.
fn many(c: &mut Criterion, cpu: usize) {
    raise_descriptor_limit();
    let mut group = c.benchmark_group("lwSwitch to the next of");
    let mut all = Vec::new();
    for count in [1usize, 9, 99, 999] {
        while all.len() < count {
            all.push(answering(cpu, cpu));
        }
        let mut next = 0;
        group.bench_function(format!("{} contexts", count + 1), |b| {
            b.iter(|| {
                next = (next + 1) % all.len();
                all[next].switch(&[]).expect("lwSwitch")
            });
        });
    }
    group.finish();
}

/// Both pairs in turn; the median of the ratios.
fn compare(label: &str, here: usize, there: usize) {
    const TURNS: usize = 41;
    const EACH: u32 = 2_000;
    let other = answering(here, there);
    let mut bare = Futex::new(there).expect("a partner");
    let mut ratios: Vec<f64> = (0..TURNS)
        .map(|_| {
            let futex = time(EACH, || bare.round_trip());
            let lwc = time(EACH, || {
                other.switch(&[]).expect("lwSwitch");
            });
            lwc.as_secs_f64() / futex.as_secs_f64()
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    println!(
        "{label}: lwSwitch is {:.2} times the bare futex (quartiles {:.2} and {:.2})",
        ratios[TURNS / 2],
        ratios[TURNS / 4],
        ratios[TURNS * 3 / 4],
    );
}

fn main() {
    let (first, second) = two_processors();
    let mut c = common::criterion();
    pair(&mut c, "one processor", first, first);
    if first != second {
        pair(&mut c, "two processors", first, second);
    }
    compare("one processor", first, first);
    if first != second {
        compare("two processors", first, second);
    }
    many(&mut c, first);
    c.final_summary();
}
