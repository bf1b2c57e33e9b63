//! Contexts made step by step.

use crate::context::{Context, Created, create, spawn};
use crate::error::Result;
use crate::event::Event;
use crate::flags::Flags;
use crate::region::Region;
use crate::secret::Secret;
use crate::spec::{Access, Spec};
use std::convert::Infallible;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// A context to be made: what it shares with its creator and what is absent
/// there. What nothing is said of it gets as a copy.
///
/// ```
/// use lwc::{Event, Region, Secret};
///
/// let key = Secret::take(b"not for the child".to_vec())?;
/// let answer = Region::new(1)?;
/// let child = lwc::Builder::new()
///     .share(&answer)
///     .without(&key)
///     .without_files()
///     .trap_faults()
///     .spawn(|event| {
///         let parent = event.from().expect("switched to by the creator");
///         answer.set(0, 6u32 * 7);
///         let _ = parent.switch(&[]);
///         let stolen = key[0]; // is not there
///         panic!("{stolen} {}", parent.discard_switch(&[]))
///     })?;
/// child.switch(&[])?;
/// assert_eq!(answer.get::<u32>(0), 42);
/// let Event::Ended(end) = child.switch(&[])? else {
///     panic!("it has the key")
/// };
/// assert_eq!(end.signal, Some(libc::SIGSEGV));
/// assert!(key.pages().contains(&(end.address as usize)));
/// # Ok::<(), lwc::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a builder makes nothing until `spawn` or `create`"]
pub struct Builder<'a> {
    specs: Vec<Spec<'a>>,
    flags: Flags,
}

impl<'a> Builder<'a> {
    /// A context that is a copy of its creator.
    pub fn new() -> Self {
        Self::default()
    }

    /// The region is the same there as here. (Regions are, unless something else
    /// is said of them.)
    pub fn share(self, region: &'a Region) -> Self {
        self.spec(Spec::region(region, Access::Share))
    }

    /// The region's bytes are copied: from then on each context has its own.
    pub fn copy(self, region: &'a Region) -> Self {
        self.spec(Spec::region(region, Access::Copy))
    }

    /// The region is not mapped there.
    pub fn unmap(self, region: &'a Region) -> Self {
        self.spec(Spec::region(region, Access::Unmap))
    }

    /// The secret is not there.
    pub fn without(self, secret: &'a Secret) -> Self {
        self.spec(Spec::unmap_secret(secret))
    }

    /// No descriptor is open there.
    pub fn without_files(self) -> Self {
        self.spec(Spec::all_files(Access::Unmap))
    }

    /// Of all descriptors these alone are open there.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::fd::AsFd;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (mut ours, theirs) = UnixStream::pair()?;
    /// let child = lwc::Builder::new()
    ///     .only_files(&[theirs.as_fd()])
    ///     .spawn(|event| {
    ///         let parent = event.from().expect("switched to by the creator");
    ///         let sent = (&theirs).write_all(b"hello").is_ok();
    ///         let other = (&ours).write_all(b"hello").is_ok();
    ///         loop {
    ///             let _ = parent.switch(&[sent.into(), other.into()]);
    ///         }
    ///     })?;
    /// assert_eq!(child.switch(&[])?.args(), [1, 0]);
    /// let mut word = [0; 5];
    /// ours.read_exact(&mut word)?;
    /// assert_eq!(&word, b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn only_files(mut self, fds: &[BorrowedFd<'a>]) -> Self {
        let mut kept: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        kept.sort_unstable();
        let mut next = 0;
        for fd in kept {
            if next < fd {
                self.specs.push(Spec::files(next..=fd - 1, Access::Unmap));
            }
            next = fd.saturating_add(1);
        }
        self.spec(Spec::files(next..=RawFd::MAX, Access::Unmap))
    }

    /// One more specifier.
    pub fn spec(mut self, spec: Spec<'a>) -> Self {
        self.specs.push(spec);
        self
    }

    /// [`Flags::TRAP_SYSCALL`]: its system calls come here as
    /// [`Event::Called`].
    pub fn trap_syscalls(self) -> Self {
        self.flags(Flags::TRAP_SYSCALL)
    }

    /// [`Flags::TRAP_FAULT`]: a fault ends it alone, and comes here as
    /// [`Event::Ended`].
    pub fn trap_faults(self) -> Self {
        self.flags(Flags::TRAP_FAULT)
    }

    /// [`Flags::TRAP_EXIT`]: so does any other end.
    pub fn trap_exits(self) -> Self {
        self.flags(Flags::TRAP_EXIT)
    }

    /// [`Flags::PREFAULT`]: copies writable pages now.
    pub fn prefault(self) -> Self {
        self.flags(Flags::PREFAULT)
    }

    /// More flags.
    pub fn flags(mut self, flags: Flags) -> Self {
        self.flags |= flags;
        self
    }

    /// Makes the context, which runs `body`: see [`spawn`].
    ///
    /// # Errors
    /// As [`create`].
    pub fn spawn<F>(self, body: F) -> Result<Context>
    where
        F: FnOnce(Event) -> Infallible,
    {
        spawn(&self.specs, self.flags, body)
    }

    /// Makes the context and returns in both: see [`create`].
    ///
    /// # Safety
    /// As [`create`].
    ///
    /// # Errors
    /// As [`create`].
    pub unsafe fn create(self) -> Result<Created> {
        // SAFETY: the caller's promise is the same.
        unsafe { create(&self.specs, self.flags) }
    }
}
