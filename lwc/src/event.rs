//! What resumes a context, and the words that come with it.

use crate::handle::Handle;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::RawFd;

/// How many words travel with a switch at most.
pub(crate) const WORDS: usize = lwc_sys::LWC_MAX_ARGS as usize;

/// Room for so many words, of which some get values.
pub(crate) type Room = [MaybeUninit<u64>; WORDS];

/// As many words as most switches carry at most.
const FEW: usize = 4;

/// The words that travel with a switch: up to 16.
///
/// A few are kept in place, more in a box: events are moved about with whatever
/// is in them, and to move room for all of them is a tenth of a switch.
#[derive(Clone)]
pub struct Args {
    /// All of them, if they are more than a few.
    many: Option<Box<Room>>,
    /// Else these.
    few: [MaybeUninit<u64>; FEW],
    /// So many have values.
    count: usize,
}

impl Args {
    /// The first words of the room.
    ///
    /// # Safety
    /// So many have values.
    #[inline]
    pub(crate) unsafe fn first(count: usize, room: &Room) -> Self {
        let count = count.min(WORDS);
        let few = *room.first_chunk().expect("a few are fewer");
        let many = (count > FEW).then(|| Self::boxed(room));
        Self { many, few, count }
    }

    #[cold]
    fn boxed(room: &Room) -> Box<Room> {
        Box::new(*room)
    }
}

impl Deref for Args {
    type Target = [u64];
    #[inline]
    fn deref(&self) -> &[u64] {
        let words = match &self.many {
            None => self.few.as_ptr(),
            Some(all) => all.as_ptr(),
        };
        // SAFETY: `first`, which alone makes a value, was promised that so many
        // have values, and looked that they are not more than there are.
        unsafe { std::slice::from_raw_parts(words.cast(), self.count) }
    }
}

impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl PartialEq for Args {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Args {}

/// How a context ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// Its [`Info::id`](crate::Info::id).
    pub id: u64,
    /// The signal that killed it; `None` after exit(3).
    pub signal: Option<i32>,
    /// The signal's `si_code` as far as known, or the exit status.
    pub code: i32,
    /// Where it faulted, as far as known; for SIGSYS the number of the system
    /// call.
    pub address: u64,
}

impl End {
    /// The end that these facts describe, as one context tells another of it.
    pub fn new(id: u64, signal: Option<i32>, code: i32, address: u64) -> Self {
        Self {
            id,
            signal,
            code,
            address,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal {
            None => write!(f, "exited with status {}", self.code),
            Some(n) => {
                match nix::sys::signal::Signal::try_from(n) {
                    Ok(s) => write!(f, "killed by {s}")?,
                    Err(_) => write!(f, "killed by signal {n}")?,
                }
                match n {
                    libc::SIGSYS => write!(f, " (system call {})", self.address),
                    libc::SIGSEGV | libc::SIGBUS => write!(f, " at {:#x}", self.address),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// What resumed the current context.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// `LWC_SWITCHED`: somebody switched here.
    Switched {
        /// The caller, at most one descriptor of it however often it comes;
        /// `None` if it discarded itself.
        from: Option<Handle>,
        /// What it passed.
        args: Args,
    },
    /// `LWC_TRAPPED`: a context created here with
    /// [`Flags::TRAP_SYSCALL`](crate::Flags::TRAP_SYSCALL), or one that such a
    /// context made, called the system. It waits for [`TrappedCall::answer`].
    Called(TrappedCall),
    /// `LWC_TRAPPED`: a context created here, with
    /// [`Flags::TRAP_FAULT`](crate::Flags::TRAP_FAULT) or
    /// [`Flags::TRAP_EXIT`](crate::Flags::TRAP_EXIT), ended while it was the
    /// current one.
    Ended(End),
}

impl Event {
    /// A switch, from a descriptor unless its context is no more.
    #[inline]
    pub(crate) fn switched(from: Option<RawFd>, args: Args) -> Self {
        Self::Switched {
            from: from.map(Handle::of),
            args,
        }
    }

    /// A context whose system calls are trapped made one.
    pub(crate) fn called(from: RawFd, words: &[u64]) -> Self {
        Self::Called(TrappedCall::new(Handle::of(from), words))
    }

    /// A context created here ended.
    pub(crate) fn ended(words: &[u64]) -> Self {
        let word = |i: u32| words.get(i as usize).copied().unwrap_or(0);
        let signal = word(lwc_sys::LWC_END_SIGNAL) as i32;
        Self::Ended(End {
            id: word(lwc_sys::LWC_END_ID),
            signal: (signal != 0).then_some(signal),
            code: word(lwc_sys::LWC_END_CODE) as i32,
            address: word(lwc_sys::LWC_END_ADDRESS),
        })
    }

    /// The same, named as the descriptor table is now.
    pub(crate) fn renewed(mut self) -> Self {
        match &mut self {
            Self::Switched { from, .. } => *from = from.map(|h| Handle::of(h.as_raw())),
            Self::Called(call) => call.from = Handle::of(call.from.as_raw()),
            Self::Ended(_) => {}
        }
        self
    }

    /// The words of a switch; empty for anything else.
    #[inline]
    pub fn args(&self) -> &[u64] {
        match self {
            Self::Switched { args, .. } => args,
            Self::Called(_) | Self::Ended(_) => &[],
        }
    }

    /// The caller, if this is a switch from a context that still is.
    #[inline]
    pub fn from(&self) -> Option<Handle> {
        match self {
            Self::Switched { from, .. } => *from,
            Self::Called(_) | Self::Ended(_) => None,
        }
    }
}

/// Arguments that travel with a trapped call; Linux has six, the rest is zero.
pub(crate) const CALL_ARGS: usize = lwc_sys::LWC_CALL_NARGS as usize;

/// A system call that a context made and that was not executed ([contract
/// 7.1](crate::contract#c7-1)).
///
/// The context, made with [`Flags::TRAP_SYSCALL`](crate::Flags::TRAP_SYSCALL),
/// waits for the answer. Only the context that it resumed may give it; a switch
/// by anybody else fails with EBUSY.
///
/// ```
/// use lwc::{Errno, Event, Flags};
/// let child = lwc::spawn(&[], Flags::TRAP_SYSCALL, |event| {
///     let home = event.from().expect("a caller");
///     let user = std::fs::File::open("/etc/passwd").is_ok();
///     loop {
///         let _ = home.switch(&[user.into()]);
///     }
/// })?;
/// let mut event = child.switch(&[])?;
/// let mut calls = 0;
/// while let Event::Called(call) = event {
///     calls += 1;
///     event = call.answer(Err(Errno::EACCES))?; // nothing is allowed
/// }
/// assert_eq!(event.args(), [0]);
/// assert!(calls > 0);
/// # Ok::<(), lwc::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrappedCall {
    /// The context that made it: as in a switch, one descriptor however often
    /// it calls, which its creator has already.
    pub from: Handle,
    /// The call's number, as `libc::SYS_…` on this system.
    pub number: i64,
    /// Its arguments, as the registers held them. Pointers are valid in
    /// `from` alone: see [`Handle::read_memory`]. What they point at may change
    /// between two looks if `from` shares memory with others.
    pub args: [u64; CALL_ARGS],
}

impl TrappedCall {
    pub(crate) fn new(from: Handle, words: &[u64]) -> Self {
        let word = |i: usize| words.get(i).copied().unwrap_or(0);
        let at = lwc_sys::LWC_CALL_ARGS as usize;
        Self {
            from,
            number: word(lwc_sys::LWC_CALL_NUMBER as usize) as i64,
            args: std::array::from_fn(|i| word(at + i)),
        }
    }
}
