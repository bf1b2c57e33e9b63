//! What the backends answer that the API does not show as it is.

use crate::event::Event;
use std::os::fd::RawFd;

pub(crate) const NO_MODULE: &str = "the kernel backend needs FreeBSD 15 with lwc.ko loaded (kldload lwc); without it unset LWC_BACKEND or set it to \"process\"";

/// What a rollback is refused for that finds threads is said with these words.
#[doc(hidden)]
pub const THREADS_LEFT: &str = "threads of its own are still there";

/// By what means contexts are rolled back in place
/// ([`rollback_support`](crate::rollback_support)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RollbackMeans {
    /// The kernel module drops the pages that were written.
    Module,
    /// A process beside the creator writes them back; which they are, the kernel says
    /// by userfaultfd(2). What that takes grows with what was written alone.
    Userfaultfd,
    /// The same, and the kernel says it by soft-dirty bits, of all pages that there
    /// are: it grows with these, too.
    SoftDirty,
}

/// In whom lwCreate returned.
pub(crate) enum Returned {
    /// The creator, with the new context's descriptor.
    Creator(RawFd),
    /// The new context, at the first switch to it.
    New(Event),
}

/// How a context rests that is not at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It waits to be switched to.
    Parked,
    /// It does, and threads of its own are still there beside.
    Threads,
    /// It sleeps, but elsewhere, so that nobody keeps it awake; or it is dead.
    Elsewhere,
    /// It runs. Where it was waited for that is not because another one of those that
    /// were asked about wakes it all the time; else it may be.
    Awake,
}

/// lwInfo's answer.
pub(crate) struct Facts {
    pub(crate) id: u64,
    pub(crate) creator: u64,
    pub(crate) flags: u32,
    pub(crate) state: u32,
    pub(crate) rights: u32,
    pub(crate) contexts: u64,
    pub(crate) resident: u64,
    pub(crate) private: u64,
    pub(crate) pss: Option<u64>,
}
