//! What the benchmarks share. Each is a program of its own: contexts cannot be
//! undone in the process that made them.

pub use lwc_orchestrator::bench::memory::Memory;

use criterion::Criterion;
use lwc::{Access, Context, Flags, Spec};
use std::time::Duration;

/// Short runs: all benchmarks together take about two minutes.
pub fn criterion() -> Criterion {
    println!(
        "backend: {}; processors {:?}",
        lwc::backend().expect("a backend"),
        lwc_orchestrator::bench::bare::cpu::processors()
    );
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(15)
        .without_plots()
        .configure_from_args()
}

/// The first and the last processor of this process.
pub fn two_processors() -> (usize, usize) {
    let all = lwc_orchestrator::bench::bare::cpu::processors();
    (all[0], all[all.len() - 1])
}

/// A context without descriptors that answers every switch, on processor
/// `there`.
pub fn answering(here: usize, there: usize) -> Context {
    lwc_orchestrator::bench::bare::cpu::pin(here);
    let context = lwc::spawn(
        &[Spec::all_files(Access::Unmap)],
        Flags::empty(),
        |mut event| {
            lwc_orchestrator::bench::bare::cpu::pin(there);
            loop {
                let from = event.from().expect("a caller");
                event = from.switch(&[]).expect("switching back");
            }
        },
    )
    .expect("lwCreate");
    context.switch(&[]).expect("lwSwitch");
    context
}

/// As many descriptors as the system lets this process have.
///
/// # Panics
/// When the system does not say, or does not let it.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("setrlimit");
}
