//! The errors of a function, and how those of others become one.

use crate::abi::UNHANDLED;

/// What a handler returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An error for the caller: a code and a message; or that a call failed, which
/// is how the request fails then (see [`CallError`](crate::CallError)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl Error {
    /// An error with a code above 0 (others become 1) and a message, of which
    /// the first 255 bytes travel.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code: code.max(1),
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.code == UNHANDLED {
            return write!(f, "the call to {} failed", self.message);
        }
        write!(f, "{} (code {})", self.message, self.code)
    }
}

/// Any error may leave a handler with `?`: code 500, its text; 413 for an answer
/// that outgrows its region, and a failed call as itself, also where a library
/// names one of these two as the source of its own error.
impl<E: std::error::Error> From<E> for Error {
    fn from(e: E) -> Self {
        for source in std::iter::successors(e.source(), |e| e.source()) {
            if source.is::<NoRoom>() {
                return Self::new(413, e.to_string());
            }
            if let Some(Unhandled(callee)) = source.downcast_ref() {
                return Self {
                    code: UNHANDLED,
                    message: callee.clone(),
                };
            }
        }
        Self::new(500, e.to_string())
    }
}

/// The answer does not fit its region.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Full(pub(crate) NoRoom);

/// The source of a [`Full`], which is how one is known: an error that wraps it
/// need not be `'static`, so it cannot be asked what it is itself, and
/// `std::io::Error` names the source of what it wraps as its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoRoom;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer does not fit its region")
    }
}

impl std::error::Error for Full {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl std::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("raise `region` in the chain file, or answer with less")
    }
}

impl std::error::Error for NoRoom {}

/// The source of a failed call's error, which is how one is known, as a [`Full`]
/// is by its own: the function that was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unhandled(pub(crate) String);

impl std::fmt::Display for Unhandled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the call to {} failed", self.0)
    }
}

impl std::error::Error for Unhandled {}
