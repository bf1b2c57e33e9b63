//! Threads beside the one that a context is: not on this backend
//! (`lwc/differences.md`, K17).

use crate::error::{Error, Result};
use nix::errno::Errno;
use std::os::fd::RawFd;

fn not_here<T>(call: &'static str) -> Result<T> {
    Err(Error::new(
        call,
        Errno::ENOTSUP,
        "the kernel backend has contexts of processes with one thread: a stock kernel gives all threads of a process one address space",
    ))
}

/// See [`allow_threads`](crate::allow_threads).
pub(crate) fn allow_threads(_most: u32) -> Result<()> {
    not_here("allow_threads")
}

/// See [`Handle::expect_threads`](crate::Handle::expect_threads).
pub(crate) fn expect_threads(_fd: RawFd) -> Result<()> {
    not_here("expect_threads")
}
