//! What went wrong: the call, what it was asked, and the errno it keeps.

use nix::errno::Errno;

/// The result of every call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A refused or failed call.
///
/// The errno is one of those that the [contract](crate::contract) lists for the
/// call (see the man pages `lwCreate(2)`, `lwSwitch(2)`, `lwRestrict(2)`,
/// `lwOverlay(2)`); the text says what was asked and, where it helps, how to
/// mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {what} ({errno})")]
pub struct Error {
    call: &'static str,
    what: String,
    errno: Errno,
}

impl Error {
    /// A refusal of `call`, with the reason in words.
    pub(crate) fn new(call: &'static str, errno: Errno, what: impl Into<String>) -> Self {
        Self {
            call,
            what: what.into(),
            errno,
        }
    }

    /// The failure that libc's errno names now.
    pub(crate) fn last(call: &'static str, what: impl Into<String>) -> Self {
        Self::new(call, Errno::last(), what)
    }

    /// The same failure, reported by the call that the user made.
    pub(crate) fn of(mut self, call: &'static str) -> Self {
        self.call = call;
        self
    }

    /// The errno, as the kernel backend would set it.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The name of the call that failed, as the paper spells it.
    pub fn call(&self) -> &'static str {
        self.call
    }
}
