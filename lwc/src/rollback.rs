//! Rollback in place: a context goes back to its snapshot.

use crate::backend::{self, RollbackMeans};
use crate::error::Result;
use crate::handle::Handle;

impl Handle {
    /// The present state of this suspended context becomes its snapshot
    /// ([contract 10](crate::contract#c10)), in place of the one that it has.
    ///
    /// The right is that of whoever has every right over the context: its creator,
    /// until it gives some up. On the process backend the context was made with
    /// [`Flags::ROLLBACK`](crate::Flags::ROLLBACK).
    ///
    /// # Errors
    /// EBADF, ESRCH; EBUSY (the current context, or one that does not wait to be
    /// switched to); EPERM (rights); ENOMEM. ENOTSUP on the process backend: it
    /// was not made for this, or has memory that cannot be watched.
    pub fn snapshot(&self) -> Result<()> {
        backend::snapshot(self.number("snapshot")?)
    }

    /// This suspended context goes back to its snapshot, in place: memory and its
    /// layout, registers, signal mask. How many pages were undone.
    ///
    /// Shared memory, and what lies outside the context, are not undone. What
    /// the context did is the kernel's word, never its own.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot), and ENOENT: it has no snapshot. ENOTSUP on
    /// the process backend: it has done what cannot be undone there. Whenever the
    /// context could be left half undone it is destroyed instead, and the error
    /// says so.
    ///
    /// # Examples
    /// ```
    /// use lwc::Flags;
    ///
    /// if let Err(why) = lwc::rollback_support() {
    ///     println!("{why}");
    ///     return Ok(());
    /// }
    /// let mut seen = 0;
    /// let counts = lwc::spawn(&[], Flags::ROLLBACK, |mut event| {
    ///     loop {
    ///         seen += 1;
    ///         let from = event.from().expect("switched to by the creator");
    ///         event = from.switch(&[seen]).expect("switching back");
    ///     }
    /// })?;
    /// counts.switch(&[])?;
    /// counts.snapshot()?;
    /// for _ in 0..3 {
    ///     let event = counts.switch(&[])?;
    ///     assert_eq!(event.args(), [2], "each call is the second");
    ///     counts.roll_back()?;
    /// }
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn roll_back(&self) -> Result<u64> {
        backend::roll_back(self.number("roll_back")?)
    }
}

/// Whether contexts made by the current one can be rolled back in place, and by what
/// means.
///
/// On the process backend it takes Linux on x86-64, ptrace(2), and userfaultfd(2) as
/// of 6.7 or, before that, soft-dirty bits; and a process that does it, which is
/// there from the first time that this is asked or such a context is made, and which
/// tries what the kernel has. A context that makes others in a
/// sandbox ([`Confinement::Creator`](crate::Confinement::Creator)) asks before it
/// enters that.
///
/// # Errors
/// ENOTSUP, with what is missing and how to get it.
pub fn rollback_support() -> Result<RollbackMeans> {
    backend::rollback_support()
}
