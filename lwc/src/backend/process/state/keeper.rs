//! The keeper of snapshots that the current context has for its copies.

use crate::backend::process::wire::keep::Means;
use std::os::fd::OwnedFd;

/// The line to it ([`keeper`](crate::backend::process::keeper)).
pub(crate) struct Keeper {
    pub(crate) sock: OwnedFd,
    /// Its process, a child of this one.
    pub(crate) pid: i32,
    /// How the kernel tells it what they write.
    pub(crate) means: Means,
    /// The contexts that it keeps.
    pub(crate) kept: Vec<u64>,
}
