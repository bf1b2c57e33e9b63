//! Resource specifiers: which memory, descriptors or credentials a call means.
//!
//! [Contract 2.3](crate::contract#c2-3); paper, section 3 ("resource
//! specifiers").

use crate::error::{Error, Result};
use crate::page::page_size;
use lwc_sys::{
    LWC_COPY, LWC_CREDENTIALS, LWC_FILES, LWC_MAY_OVERLAY, LWC_MEMORY, LWC_SHARE, LWC_UNMAP,
};
use nix::errno::Errno;
use std::marker::PhantomData;
use std::ops::{Range, RangeInclusive};

/// Past every address a program can have, whatever the size of the space.
pub(crate) const USER_END: u64 = 1 << 63;

/// What to do with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// A private copy: copy-on-write memory, duplicated descriptors.
    Copy,
    /// One and the same from then on, in both directions.
    Share,
    /// Absent there.
    Unmap,
}

impl Access {
    fn bits(self) -> u32 {
        match self {
            Self::Copy => LWC_COPY,
            Self::Share => LWC_SHARE,
            Self::Unmap => LWC_UNMAP,
        }
    }
}

/// The resource of a specifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// `[start, end)`, page-aligned addresses.
    Memory(u64, u64),
    /// `[from, to]`; `None` is the whole table.
    Files(Option<(i32, i32)>),
    /// All of them; they have no parts.
    Credentials,
}

/// One resource specifier: type × option × range.
///
/// It borrows the [`Region`](crate::Region) or [`Secret`](crate::Secret) that it
/// names: what is mapped at those addresses afterwards is not meant.
///
/// ```
/// use lwc::{Access, Errno, Flags, Region, Spec};
///
/// let region = Region::new(1)?;
/// let copied = [Spec::region(&region, Access::Copy), Spec::all_files(Access::Unmap)];
/// let child = lwc::spawn(&copied, Flags::empty(), |event| {
///     let parent = event.from().expect("switched to by the creator");
///     region.set(0, 1u8);
///     loop {
///         let _ = parent.switch(&[]);
///     }
/// })?;
/// child.switch(&[])?;
/// assert_eq!(region.get::<u8>(0), 0);
///
/// // Two things at once are refused.
/// let both = [Spec::region(&region, Access::Copy), Spec::region(&region, Access::Share)];
/// let error = lwc::spawn(&both, Flags::empty(), |_| unreachable!()).unwrap_err();
/// assert_eq!(error.errno(), Errno::EINVAL);
/// # Ok::<(), lwc::Error>(())
/// ```
///
/// ```compile_fail
/// use lwc::{Access, Region, Spec};
/// let region = Region::new(1)?;
/// let spec = Spec::region(&region, Access::Share);
/// drop(region); // its addresses may be the heap's next
/// lwc::spawn(&[spec], lwc::Flags::empty(), |_| std::process::exit(0))?;
/// # Ok::<(), lwc::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec<'a> {
    pub(crate) what: What,
    pub(crate) access: Access,
    pub(crate) may_overlay: bool,
    of: PhantomData<&'a ()>,
}

impl Spec<'_> {
    pub(crate) fn new(what: What, access: Access) -> Self {
        Self {
            what,
            access,
            may_overlay: false,
            of: PhantomData,
        }
    }

    /// A range of addresses, page-aligned at both ends.
    ///
    /// # Safety
    /// With [`Access::Share`] the range becomes one memory with another
    /// context: it must hold no Rust object that is used without
    /// synchronisation in both (never a heap, a stack or statics). With
    /// [`Access::Unmap`] nothing may be used there again. Prefer
    /// [`Spec::region`], which needs no such promise.
    pub unsafe fn memory(range: Range<usize>, access: Access) -> Self {
        Self::new(What::Memory(range.start as u64, range.end as u64), access)
    }

    /// Descriptors `from..=to`, by their numbers in the table of the context that
    /// they are of. What stands for one that is left out has an unusable number
    /// in the new context, or one that is another file's there later.
    pub fn files(range: RangeInclusive<i32>, access: Access) -> Self {
        Self::new(What::Files(Some((*range.start(), *range.end()))), access)
    }

    /// The whole descriptor table, current directory and umask with it.
    pub fn all_files(access: Access) -> Self {
        Self::new(What::Files(None), access)
    }

    /// The credentials, which no context is without ([`Access::Unmap`]: EINVAL).
    pub fn credentials(access: Access) -> Self {
        Self::new(What::Credentials, access)
    }

    /// Lets the new context overlay this resource of its creator (lwCreate
    /// only): the one right over its creator that a context can have
    /// ([contract 2.5](crate::contract#c2-5)).
    ///
    /// # Examples
    /// ```
    /// use lwc::{Access, Builder, Region, Spec};
    ///
    /// let (lent, kept) = (Region::new(1)?, Region::new(1)?);
    /// lent.set(0, 42u8);
    /// let child = Builder::new()
    ///     .spec(Spec::region(&lent, Access::Unmap).may_overlay())
    ///     .unmap(&kept)
    ///     .spawn(|event| {
    ///         let parent = event.from().expect("switched to by the creator");
    ///         // SAFETY: nothing is at these addresses here.
    ///         let bring = |region| unsafe { parent.overlay(&[Spec::region(region, Access::Copy)]) };
    ///         let refused = bring(&kept).is_err();
    ///         let there = bring(&lent).map_or(0, |()| lent.get::<u8>(0));
    ///         loop {
    ///             let _ = parent.switch(&[there.into(), refused.into()]);
    ///         }
    ///     })?;
    /// assert_eq!(child.switch(&[])?.args(), [42, 1]);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    #[must_use]
    pub fn may_overlay(mut self) -> Self {
        self.may_overlay = true;
        self
    }

    /// The specifier as the kernel takes it.
    pub(crate) fn to_raw(&self) -> lwc_sys::lwc_spec {
        // SAFETY: lwc_spec is plain integers; all zeroes is a value of it.
        let mut raw: lwc_sys::lwc_spec = unsafe { std::mem::zeroed() };
        raw.flags = self.access.bits() | if self.may_overlay { LWC_MAY_OVERLAY } else { 0 };
        match self.what {
            What::Memory(start, end) => {
                raw.flags |= LWC_MEMORY;
                raw.sub.memory.start = start;
                raw.sub.memory.end = end;
            }
            What::Files(range) => {
                let (from, to) = range.unwrap_or((-1, -1));
                raw.flags |= LWC_FILES;
                raw.sub.descriptors.from = from;
                raw.sub.descriptors.to = to;
            }
            What::Credentials => raw.flags |= LWC_CREDENTIALS,
        }
        raw
    }

    /// Reads back what [`Spec::to_raw`] wrote, trusting nothing in it.
    #[cfg(target_os = "linux")] // the process backend alone reads specifiers
    pub(crate) fn from_raw(raw: &lwc_sys::lwc_spec) -> Option<Self> {
        let access = match raw.flags & (LWC_SHARE | LWC_UNMAP) {
            LWC_SHARE => Access::Share,
            LWC_UNMAP => Access::Unmap,
            0 => Access::Copy,
            _ => return None,
        };
        let what = match raw.flags & !(LWC_SHARE | LWC_UNMAP | LWC_MAY_OVERLAY) {
            // SAFETY: every member of the union is plain integers, so any
            // bytes are a value of it.
            LWC_MEMORY => unsafe { What::Memory(raw.sub.memory.start, raw.sub.memory.end) },
            LWC_FILES => {
                // SAFETY: as above.
                let d = unsafe { raw.sub.descriptors };
                What::Files(if d.from == -1 && d.to == -1 {
                    None
                } else {
                    Some((d.from, d.to))
                })
            }
            LWC_CREDENTIALS => What::Credentials,
            _ => return None,
        };
        Some(Self {
            what,
            access,
            may_overlay: raw.flags & LWC_MAY_OVERLAY != 0,
            of: PhantomData,
        })
    }
}

/// What a call accepts beyond the common rules.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    Create,
    Restrict,
    Overlay,
    /// Overlay of the current context by itself: UNMAP alone.
    OverlaySelf,
}

/// Checks specifiers as the kernel does: E2BIG, EINVAL (alignment, order,
/// contradicting overlaps), nothing changed.
pub(crate) fn validate(call: &'static str, specs: &[Spec], purpose: For) -> Result<()> {
    let err = |errno, what: String| Err(Error::new(call, errno, what));
    if specs.len() > lwc_sys::LWC_MAX_SPECS as usize {
        return err(
            Errno::E2BIG,
            format!(
                "{} specifiers, at most {} fit in one call",
                specs.len(),
                lwc_sys::LWC_MAX_SPECS
            ),
        );
    }
    let page = page_size() as u64;
    for (i, spec) in specs.iter().enumerate() {
        match spec.what {
            What::Memory(start, end) => {
                if start % page != 0 || end % page != 0 {
                    return err(
                        Errno::EINVAL,
                        format!(
                            "specifier {i}: memory {start:#x}..{end:#x} is not aligned to pages of {page} bytes"
                        ),
                    );
                }
                if start >= end {
                    return err(
                        Errno::EINVAL,
                        format!("specifier {i}: memory {start:#x}..{end:#x} is empty or reversed"),
                    );
                }
            }
            What::Files(Some((from, to))) if from < 0 || from > to => {
                return err(
                    Errno::EINVAL,
                    format!("specifier {i}: descriptors {from}..={to} are not a range"),
                );
            }
            What::Files(_) => {}
            What::Credentials if spec.access == Access::Unmap && purpose != For::Restrict => {
                return err(
                    Errno::EINVAL,
                    format!("specifier {i}: a context cannot be without credentials"),
                );
            }
            What::Credentials => {}
        }
        if spec.may_overlay && purpose != For::Create {
            return err(
                Errno::EINVAL,
                format!("specifier {i}: MAY_OVERLAY has a meaning in lwCreate alone"),
            );
        }
        let unmap = spec.access == Access::Unmap;
        if purpose == For::Overlay && unmap {
            return err(
                Errno::EINVAL,
                format!("specifier {i}: UNMAP is for the current context itself"),
            );
        }
        if purpose == For::OverlaySelf && !unmap {
            return err(
                Errno::EINVAL,
                format!("specifier {i}: a context can only unmap from itself"),
            );
        }
    }
    if purpose != For::Restrict {
        contradictions(call, specs)?;
    }
    Ok(())
}

/// Two specifiers that ask for different things of one resource.
fn contradictions(call: &'static str, specs: &[Spec]) -> Result<()> {
    let mut extents: Vec<(u8, u64, u64, Access, usize)> = specs
        .iter()
        .enumerate()
        .map(|(i, s)| match s.what {
            What::Memory(a, b) => (0, a, b, s.access, i),
            What::Files(None) => (1, 0, 1 << 32, s.access, i),
            What::Files(Some((a, b))) => (1, a as u64, b as u64 + 1, s.access, i),
            What::Credentials => (2, 0, 1, s.access, i),
        })
        .collect();
    extents.sort_unstable_by_key(|e| (e.0, e.1));
    // The furthest end seen so far, by access: an overlap with a different
    // access is a contradiction, with the same one a repetition.
    let mut open: Vec<(u8, u64, Access, usize)> = Vec::new();
    for (kind, start, end, access, i) in extents {
        open.retain(|o| o.0 == kind && o.1 > start);
        if let Some(o) = open.iter().find(|o| o.2 != access) {
            return Err(Error::new(
                call,
                Errno::EINVAL,
                format!(
                    "specifiers {} and {i} ask for different things of one resource",
                    o.3
                ),
            ));
        }
        open.push((kind, end, access, i));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mem(a: u64, b: u64, access: Access) -> Spec<'static> {
        let p = page_size() as u64;
        Spec::new(What::Memory(a * p, b * p), access)
    }

    #[test]
    fn overlaps_that_agree_pass_and_those_that_contradict_do_not() {
        let same = [mem(1, 4, Access::Share), mem(2, 3, Access::Share)];
        assert!(validate("t", &same, For::Create).is_ok());
        let differ = [
            mem(1, 9, Access::Share),
            mem(2, 3, Access::Share),
            mem(5, 6, Access::Unmap),
        ];
        let err = validate("t", &differ, For::Create).unwrap_err();
        assert_eq!(err.cause(), Errno::EINVAL);
        let files = [
            Spec::all_files(Access::Copy),
            Spec::files(3..=3, Access::Unmap),
        ];
        assert!(validate("t", &files, For::Create).is_err());
        let apart = [mem(1, 2, Access::Share), mem(2, 3, Access::Unmap)];
        assert!(validate("t", &apart, For::Create).is_ok());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn raw_specifiers_come_back_as_they_went() {
        for spec in [
            mem(1, 2, Access::Share).may_overlay(),
            Spec::files(3..=9, Access::Unmap),
            Spec::all_files(Access::Copy),
            Spec::credentials(Access::Share),
        ] {
            assert_eq!(Spec::from_raw(&spec.to_raw()), Some(spec));
        }
    }
}
