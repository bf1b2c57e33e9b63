//! Threads beside the one that a context is: who may have them
//! ([`confine`](super::confine) lets clone(2) through, [`noted`](super::noted) has it
//! told, a [keeper](crate::backend::process::keeper) counts).

use crate::backend::process::guard::Guard;
use crate::backend::process::state::mode;
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::os::fd::RawFd;

/// See [`allow_threads`](crate::allow_threads).
pub(crate) fn allow_threads(most: u32) -> Result<()> {
    const CALL: &str = "allow_threads";
    let error = |errno, why: &str| Err(Error::new(CALL, errno, why));
    if mode::is_trapped() {
        return error(
            Errno::ENOTSUP,
            "all system calls of this context go to its creator",
        );
    }
    let mut guard = Guard::alone(CALL)?;
    // A keeper knows what was so when it was forked; copies have its sandbox.
    if guard.rt().keeper.is_some() || mode::is_confined() {
        return error(
            Errno::EBUSY,
            "it comes before rollback_support, and before a sandbox",
        );
    }
    mode::set_threads(most);
    Ok(())
}

/// See [`Handle::expect_threads`](crate::Handle::expect_threads).
pub(crate) fn expect_threads(fd: RawFd) -> Result<()> {
    const CALL: &str = "expect_threads";
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    let index = rt.find(CALL, fd)?;
    if let Some(c) = rt.channel(index) {
        c.threads = true;
    }
    Ok(())
}

/// The flags by which the C library makes a thread: of glibc, and of musl, which adds one
/// that means nothing.
pub(crate) const THREAD: [u64; 2] = {
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
