//! What went wrong: the call, what it was asked, and the errno it keeps.

use crate::errno::Errno;
use nix::errno::Errno as Known;
use std::io;

/// The result of every call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A refused or failed call.
///
/// The errno is one of those that the [contract](crate::contract) lists for the
/// call (see the man pages `lwCreate(2)`, `lwSwitch(2)`, `lwRestrict(2)`,
/// `lwOverlay(2)`); the text says what was asked and, where it helps, how to
/// mend it. It becomes an [`io::Error`] of the errno's kind by `?`.
///
/// ```
/// use lwc::{Errno, Region};
///
/// let error = Region::new(0).unwrap_err();
/// assert_eq!(error.call(), "Region::new");
/// assert_eq!(error.errno(), Errno::EINVAL);
/// assert_eq!(
///     error.to_string(),
///     "Region::new: a region of 0 bytes (EINVAL: Invalid argument)"
/// );
///
/// fn map() -> std::io::Result<Region> {
///     Ok(Region::new(0)?)
/// }
/// let error = map().unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {what} ({})", self.errno())]
pub struct Error {
    call: &'static str,
    what: String,
    cause: Known,
    party: Option<Party>,
}

/// Which of two contexts a call on both failed at (ours; see [`Error::party`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The one that the call is made on.
    This,
    /// The other one.
    Other,
}

impl Error {
    /// A refusal of `call`, with the reason in words.
    pub(crate) fn new(call: &'static str, cause: Known, what: impl Into<String>) -> Self {
        Self {
            call,
            what: what.into(),
            cause,
            party: None,
        }
    }

    /// The failure that libc's errno names now.
    pub(crate) fn last(call: &'static str, what: impl Into<String>) -> Self {
        Self::new(call, Known::last(), what)
    }

    /// The same failure, reported by the call that the user made.
    pub(crate) fn of(mut self, call: &'static str) -> Self {
        self.call = call;
        self
    }

    /// The same failure, where it is one of two contexts that it is due to.
    #[cfg(target_os = "linux")] // the kernel's contexts need not answer
    pub(crate) fn at(mut self, party: Party) -> Self {
        self.party = Some(party);
        self
    }

    /// The errno, as the backends have it.
    pub(crate) fn cause(&self) -> Known {
        self.cause
    }

    /// Call and reason in words, for the context that asked: its own error names
    /// the errno.
    #[cfg(target_os = "linux")] // contexts of the process backend tell each other
    pub(crate) fn for_peer(&self) -> String {
        format!("{}: {}", self.call, self.what)
    }

    /// What a peer said ([`for_peer`](Self::for_peer), or anything else) when it
    /// was asked for this call, which is not named twice.
    #[cfg(target_os = "linux")]
    pub(crate) fn from_peer(call: &'static str, cause: Known, said: &str) -> Self {
        let same = said.strip_prefix(call).and_then(|s| s.strip_prefix(": "));
        Self::new(call, cause, same.unwrap_or(said))
    }

    /// The errno, as the kernel backend would set it.
    pub fn errno(&self) -> Errno {
        Errno::from_raw(self.cause as i32)
    }

    /// Which of the two contexts [`Handle::introduce`](crate::Handle::introduce) failed
    /// at: it is dead, it runs, or it does not answer. None where it was neither, or
    /// the backend does not know.
    ///
    /// ```
    /// # let hop = || {
    /// #     lwc::Builder::new().spawn(|event| {
    /// #         let parent = event.from().expect("switched to by the creator");
    /// #         loop {
    /// #             let _ = parent.switch(&[]);
    /// #         }
    /// #     })
    /// # };
    /// use lwc::Party;
    ///
    /// let (first, last) = (hop()?, hop()?);
    /// last.destroy()?;
    /// let error = first.introduce(last.handle()).unwrap_err();
    /// assert!(matches!(error.party(), Some(Party::Other) | None));
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn party(&self) -> Option<Party> {
        self.party
    }

    /// The name of the call that failed, as the paper spells it.
    pub fn call(&self) -> &'static str {
        self.call
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = Self::from(error.errno()).kind();
        Self::new(kind, error)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_named_once_whoever_refuses_it() {
        let there = Error::new("lwOverlay", Known::EACCES, "not within the rights");
        let here = Error::from_peer("lwOverlay", Known::EACCES, &there.for_peer());
        assert_eq!(here, there);
        let other = Error::new("mmap", Known::ENOMEM, "a page");
        let here = Error::from_peer("lwCreate", Known::ENOMEM, &other.for_peer());
        assert_eq!(
            here.to_string(),
            "lwCreate: mmap: a page (ENOMEM: Out of memory)"
        );
    }
}
