//! What a context may take of what the system counts for all of a user.
//!
//! The process backend makes a context of a process, and some limits are
//! compared with what all processes of the user have together: one that fills
//! such an account fills it for everybody. A function needs nothing of these;
//! its context starts without them, and the sandbox leaves it no call to raise
//! a limit. Not among them: processes, descriptors and files, which a snapshot
//! needs to make copies, and of which a copy can make none; memory, which
//! `memory` limits, and processor time, which `timeout` does.

#[cfg(target_os = "linux")]
use nix::sys::resource::{Resource, setrlimit};

/// Before anything of the function's runs.
///
/// * `SIGPENDING`: signals that wait. A context sends itself none; those that
///   the kernel sends for a fault need no place in the queue.
/// * `MSGQUEUE`: bytes in message queues.
/// * `CORE`: a core would hold the secrets.
///
/// # Errors
/// What setrlimit(2) says.
#[cfg(target_os = "linux")]
pub(super) fn before_the_function() -> Result<(), String> {
    for limit in [
        Resource::RLIMIT_SIGPENDING,
        Resource::RLIMIT_MSGQUEUE,
        Resource::RLIMIT_CORE,
    ] {
        most(limit, 0)?;
    }
    Ok(())
}

/// Once its initialiser has run.
///
/// * `MEMLOCK`: pages of its secrets, which each copy locks anew, no more.
///
/// # Errors
/// What setrlimit(2) says.
#[cfg(target_os = "linux")]
pub(super) fn before_the_sandbox(locked: usize) -> Result<(), String> {
    most(Resource::RLIMIT_MEMLOCK, locked)
}

/// Threads of a function have the processors that there are, though its worker may have
/// one. (The kernel leaves out those that this process has none of.)
#[cfg(target_os = "linux")]
pub(super) fn on_any_processor() {
    let mut all = nix::sched::CpuSet::new();
    for processor in 0..nix::sched::CpuSet::count() {
        let _ = all.set(processor);
    }
    // Where it may not, they share what it has.
    let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &all);
}

/// There are none elsewhere.
#[cfg(not(target_os = "linux"))]
pub(super) fn on_any_processor() {}

#[cfg(target_os = "linux")]
fn most(limit: Resource, value: usize) -> Result<(), String> {
    setrlimit(limit, value as u64, value as u64)
        .map_err(|e| format!("setting {limit:?} of its context to {value}: {e}"))
}

/// Elsewhere all contexts are one process, and a limit would be everybody's.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps)] // the same shape on both
pub(super) fn before_the_function() -> Result<(), String> {
    Ok(())
}

/// As [`before_the_function`].
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps)] // the same shape on both
pub(super) fn before_the_sandbox(_locked: usize) -> Result<(), String> {
    Ok(())
}
