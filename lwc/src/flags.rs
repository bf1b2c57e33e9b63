//! What a context is made with, and what its sandbox leaves.

use lwc_sys::{LWC_PREFAULT, LWC_TRAP_EXIT, LWC_TRAP_FAULT, LWC_TRAP_SYSCALL};

bitflags::bitflags! {
    /// Flags of lwCreate ([contract 2.6](crate::contract#c2-6)).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Flags: u32 {
        /// The new context's system calls are not executed but resume its
        /// creator with [`Event::Called`](crate::Event::Called) ([contract
        /// 7.1](crate::contract#c7-1)). Contexts that it makes are trapped as
        /// well, by the same creator if they do not have this flag themselves.
        /// Best together with `TRAP_FAULT`: a handler that it has for faults
        /// can do nothing without system calls.
        const TRAP_SYSCALL = LWC_TRAP_SYSCALL;
        /// Copy writable pages now, not on first write.
        const PREFAULT = LWC_PREFAULT;
        /// A fault that the new context does not handle ends it alone, and its
        /// creator resumes with [`Event::Ended`](crate::Event::Ended). It starts without handlers
        /// for the fault signals.
        const TRAP_FAULT = LWC_TRAP_FAULT;
        /// So does any other end of it: exit(3), abort(3), a fatal signal.
        const TRAP_EXIT = LWC_TRAP_EXIT;
        /// It can be rolled back ([`Handle::snapshot`](crate::Handle::snapshot)).
        /// The process backend prepares a context for that when it is made, and
        /// such a one makes no processes and no threads (EPERM); the kernel backend
        /// needs no flag.
        const ROLLBACK = PREPARE;
    }
}

/// Among the flags of lwCreate, in this crate alone: the new context is to be
/// rolled back.
pub(crate) const PREPARE: u32 = 1 << 30;

/// How much [`confine`](crate::confine) leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Confinement {
    /// Computing, memory, time, and switching: for hostile code.
    Strict,
    /// The same, and making copies of itself with lwCreate: for code that is one's
    /// own still, such as a snapshot that is copied. On the process backend what it
    /// takes to make a context is within reach there, and counted for the user:
    /// processes, descriptors under way, the root's descriptors; and what it shares
    /// it can seal. It cannot signal, trace or open anything.
    Creator,
}
