//! Threads of a context beside the one that it is: how many, and by which call. Its
//! creator, who says so, the context and their keeper go by the same.

use std::sync::atomic::{AtomicU32, Ordering};

static THREADS: AtomicU32 = AtomicU32::new(0);

/// How many threads of its own its copies may have beside the one that a context is.
/// (A keeper knows it, too: it is forked later.)
pub(crate) fn allowed() -> u32 {
    THREADS.load(Ordering::Relaxed)
}

pub(crate) fn allow(most: u32) {
    THREADS.store(most, Ordering::Relaxed);
}

/// The flags by which the C library makes a thread: of glibc, and of musl, which adds one
/// that means nothing.
pub const THREAD: [u64; 2] = {
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID;
    [flags as u64, (flags | libc::CLONE_DETACHED) as u64]
};

/// Whether clone(2) with these makes a thread.
pub(crate) fn is_of_thread(flags: u64) -> bool {
    THREAD.contains(&flags)
}
