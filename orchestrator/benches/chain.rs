//! A chain of functions, by every way of running one: called directly, each in
//! a context, each in a process with pipes, Unix sockets or HTTP between them.
//!
//! ```sh
//! cargo bench -p lwc-orchestrator --bench chain
//! ```
//!
//! The functions are one C function that copies its input. All start with the
//! bytes in a buffer of the caller's and end with the answer in another.
//! Everything is on one processor.

mod http;

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use http::Servers;
use lwc_orchestrator::bench::alternatives::{Direct, Over, Processes};
use lwc_orchestrator::bench::bare::cpu;
use lwc_orchestrator::bench::work::{What, Work, exchange};
use lwc_orchestrator::chain_file::Isolation;
use std::time::Duration;

const SIZES: [usize; 4] = [64, 4 << 10, 64 << 10, 1 << 20];

/// Runs one alternative with every size.
fn sizes(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut run: impl FnMut(&[u8], &mut [u8]),
) {
    for size in SIZES {
        let input: Vec<u8> = (0..size).map(|i| (i * 7) as u8).collect();
        let mut output = vec![0; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new(name, size), |b| {
            b.iter(|| run(&input, &mut output));
        });
        assert_eq!(input, output, "{name} gives a wrong answer");
    }
}

fn chain(c: &mut Criterion, work: &Work, steps: usize) {
    let mut group = c.benchmark_group(format!("chain of {steps}"));
    let direct = Direct::new(work, What::Copy).expect("the library");
    let mut spare = vec![0; SIZES[SIZES.len() - 1]];
    sizes(&mut group, "direct calls", |input, output| {
        let n = direct.chain(steps, input, &mut spare, output);
        assert_eq!(n, Ok(input.len()));
    });
    for (name, over) in [("pipes", Over::Pipes), ("sockets", Over::Sockets)] {
        let mut all = Processes::new(work, What::Copy, steps, over).expect("processes");
        sizes(
            &mut group,
            &format!("processes, {name}"),
            |input, output| {
                assert_eq!(all.exchange(input, output), Ok(input.len()));
            },
        );
    }
    let mut servers = Servers::new(work, steps);
    sizes(&mut group, "processes, HTTP", |input, output| {
        servers.exchange(input, output);
    });
    drop(servers);
    for (name, isolation) in [
        ("lwc, chain", Isolation::Chain),
        ("lwc, invocation", Isolation::Invocation),
    ] {
        let mut live = work.chain(What::Copy, steps, isolation).expect("a chain");
        sizes(&mut group, name, |input, output| {
            exchange(&mut live, input, output).expect("an answer");
        });
    }
    group.finish();
}

fn main() {
    println!("backend: {}", lwc::backend().expect("a backend"));
    let mut c = Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .sample_size(10)
        .without_plots()
        .configure_from_args();
    cpu::pin(cpu::processors()[0]);
    let work = Work::new().expect("the functions");
    for steps in [1, 3, 10] {
        chain(&mut c, &work, steps);
    }
    c.final_summary();
}
