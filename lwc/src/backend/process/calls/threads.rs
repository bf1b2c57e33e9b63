//! Threads beside the one that a context is: who may have them
//! ([`confine`](super::confine) lets clone(2) through, [`noted`](super::noted) has it
//! told, a [keeper](crate::backend::process::keeper) counts).

use crate::backend::process::guard::Guard;
use crate::backend::process::state::mode;
use crate::backend::process::wire::threads;
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
    threads::allow(most);
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
