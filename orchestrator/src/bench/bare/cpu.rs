//! Which processor runs what.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The processors that this process may use; never empty.
///
/// # Panics
/// When the system does not say.
pub fn processors() -> Vec<usize> {
    let mine = sched_getaffinity(Pid::from_raw(0)).expect("sched_getaffinity");
    (0..CpuSet::count())
        .filter(|&i| mine.is_set(i).unwrap_or(false))
        .collect()
}

/// From now on the calling thread, and what it forks, runs on `cpu` alone.
///
/// # Panics
/// When there is no such processor.
pub fn pin(cpu: usize) {
    pin_to(&[cpu]);
}

/// The same on several.
///
/// # Panics
/// When one of them is not there.
pub fn pin_to(cpus: &[usize]) {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu).expect("a processor's number");
    }
    sched_setaffinity(Pid::from_raw(0), &set).expect("sched_setaffinity");
}
