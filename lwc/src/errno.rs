//! Error numbers, as the system and the calls of this crate use them.

use nix::errno::Errno as Known;
use std::fmt;
use std::io;

/// An error number of errno(2), such as the one in an [`Error`](crate::Error).
///
/// A number and no enumeration: systems have numbers that others lack, and new
/// ones come. Constants have their names in the manual.
///
/// ```
/// use lwc::{Confinement, Errno, Flags, Region};
///
/// let error = Region::new(0).unwrap_err();
/// assert_eq!(error.errno(), Errno::EINVAL);
/// assert_eq!(Errno::EINVAL.to_string(), "EINVAL: Invalid argument");
/// assert_eq!(Errno::from_raw(libc::EINVAL), Errno::EINVAL);
/// # Ok::<(), lwc::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(i32);

macro_rules! names {
    ($($name:ident)*) => {
        #[allow(missing_docs)] // errno(2)
        impl Errno {
            $(pub const $name: Self = Self(libc::$name);)*
        }
    };
}

names! {
    E2BIG EACCES EAFNOSUPPORT EAGAIN EALREADY EBADF EBUSY ECHILD ECONNREFUSED ECONNRESET
    EEXIST EFAULT EFBIG EINPROGRESS EINTR EINVAL EIO EISCONN EISDIR ELOOP EMFILE EMSGSIZE
    ENAMETOOLONG ENFILE ENODEV ENOENT ENOEXEC ENOMEM ENOPROTOOPT ENOSPC ENOSYS ENOTCONN
    ENOTDIR ENOTSUP ENOTTY ENXIO EOVERFLOW EPERM EPIPE EPROTO EPROTONOSUPPORT ERANGE EROFS
    ESPIPE ESRCH ETIMEDOUT EXDEV
}

/// Capsicum's.
#[cfg(target_os = "freebsd")]
#[allow(missing_docs)] // errno(2)
impl Errno {
    pub const ECAPMODE: Self = Self(libc::ECAPMODE);
    pub const ENOTCAPABLE: Self = Self(libc::ENOTCAPABLE);
}

impl Errno {
    /// What the last call of libc that failed in this thread left.
    ///
    /// ```
    /// // SAFETY: there is no such descriptor.
    /// assert_eq!(unsafe { libc::close(-1) }, -1);
    /// assert_eq!(lwc::Errno::last(), lwc::Errno::EBADF);
    /// ```
    pub fn last() -> Self {
        Self(Known::last_raw())
    }

    /// The one of a number, as in `errno` or in
    /// [`io::Error::raw_os_error`].
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// What it means, in a few words of English.
    pub fn desc(self) -> &'static str {
        Known::from_raw(self.0).desc()
    }

    /// With its name, if it has one here.
    fn known(self) -> Option<Known> {
        Some(Known::from_raw(self.0)).filter(|&e| e != Known::UnknownErrno)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(known) => write!(f, "{known:?}"),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(known) => write!(f, "{known:?}: {}", known.desc()),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_manual() {
        assert_eq!(format!("{:?}", Errno::ESRCH), "ESRCH");
        assert_eq!(Errno::EBADF.to_string(), "EBADF: Bad file number");
        let unknown = Errno::from_raw(12345);
        assert_eq!(format!("{unknown:?} {unknown}"), "Errno(12345) error 12345");
        let error = io::Error::from(Errno::EPERM);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
