//! Rights over a context, as lwRestrict takes them away.

use crate::spec::{Access, Spec, USER_END, What};
use std::ops::{BitOr, BitOrAssign, Range, RangeInclusive};

/// Rights over a context: to read, write, overlay or act with parts of it.
///
/// A creator's descriptor carries all of them ([contract
/// 2.5](crate::contract#c2-5)). They are given up for ever by
/// [`restrict`](crate::Handle::restrict) and
/// [`restrict_self`](crate::restrict_self); nothing gives them back.
///
/// ```
/// use lwc::{Access, Errno, Flags, Region, Rights, Spec};
///
/// let region = Region::new(1)?;
/// let child = lwc::spawn(&[], Flags::empty(), |event| {
///     let parent = event.from().expect("switched to by the creator");
///     loop {
///         let _ = parent.switch(&[]);
///     }
/// })?;
/// child.restrict(&(Rights::memory(region.range()) | Rights::all_files()))?;
/// // SAFETY: nothing is kept in the region.
/// let refused = unsafe { child.overlay(&[Spec::region(&region, Access::Copy)]) };
/// assert_eq!(refused.unwrap_err().errno(), Errno::EACCES);
/// child.switch(&[])?; // that is left
/// # Ok::<(), lwc::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights(Vec<What>);

impl Rights {
    /// All that there are.
    pub fn all() -> Self {
        Self::all_memory() | Self::all_files() | Self::credentials()
    }

    /// Over a range of addresses there, page-aligned at both ends.
    pub fn memory(range: Range<usize>) -> Self {
        Self(vec![What::Memory(range.start as u64, range.end as u64)])
    }

    /// Over all of the address space.
    pub fn all_memory() -> Self {
        Self(vec![What::Memory(0, USER_END)])
    }

    /// Over descriptors `from..=to` there.
    pub fn files(range: RangeInclusive<i32>) -> Self {
        Self(vec![What::Files(Some((*range.start(), *range.end())))])
    }

    /// Over the whole descriptor table, current directory and umask with it.
    pub fn all_files() -> Self {
        Self(vec![What::Files(None)])
    }

    /// Over the credentials.
    pub fn credentials() -> Self {
        Self(vec![What::Credentials])
    }

    /// The same as lwRestrict takes them: the option of a specifier means nothing
    /// there.
    pub(crate) fn specs(&self) -> Vec<Spec<'static>> {
        let spec = |what: &What| Spec::new(what.clone(), Access::Copy);
        self.0.iter().map(spec).collect()
    }
}

/// The rights of both.
impl BitOr for Rights {
    type Output = Self;
    fn bitor(mut self, other: Self) -> Self {
        self |= other;
        self
    }
}

impl BitOrAssign for Rights {
    fn bitor_assign(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}
