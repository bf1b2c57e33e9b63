//! Contexts: making them, switching to them, taking rights away.

use crate::backend::{self, Birth};
use crate::error::{Error, Result};
use crate::moment::Moment;
use crate::spec::Spec;
use crate::trapped::TrappedCall;
use lwc_sys::{LWC_PREFAULT, LWC_TRAP_EXIT, LWC_TRAP_FAULT, LWC_TRAP_SYSCALL};
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::RawFd;

bitflags::bitflags! {
    /// Flags of lwCreate ([contract 2.6](crate::contract#c2-6)).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Flags: u32 {
        /// The new context's system calls are not executed but resume its
        /// creator with [`Event::Called`] ([contract
        /// 7.1](crate::contract#c7-1)). Contexts that it makes are trapped as
        /// well, by the same creator if they do not have this flag themselves.
        /// Best together with `TRAP_FAULT`: a handler that it has for faults
        /// can do nothing without system calls.
        const TRAP_SYSCALL = LWC_TRAP_SYSCALL;
        /// Copy writable pages now, not on first write.
        const PREFAULT = LWC_PREFAULT;
        /// A fault that the new context does not handle ends it alone, and its
        /// creator resumes with [`Event::Ended`]. It starts without handlers
        /// for the fault signals.
        const TRAP_FAULT = LWC_TRAP_FAULT;
        /// So does any other end of it: exit(3), abort(3), a fatal signal.
        const TRAP_EXIT = LWC_TRAP_EXIT;
        /// It can be rolled back ([`Handle::snapshot`]). The process backend
        /// prepares a context for that when it is made, and such a one makes no
        /// processes and no threads (EPERM); the kernel backend needs no flag.
        const ROLLBACK = crate::rollback::PREPARE;
    }
}

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
pub struct End {
    /// Its [`Info::id`].
    pub id: u64,
    /// The signal that killed it; `None` after exit(3).
    pub signal: Option<i32>,
    /// The signal's `si_code` as far as known, or the exit status.
    pub code: i32,
    /// Where it faulted, as far as known; for SIGSYS the number of the system
    /// call.
    pub address: u64,
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
pub enum Event {
    /// `LWC_SWITCHED`: somebody switched here.
    Switched {
        /// The caller, at most one descriptor of it however often it comes;
        /// `None` if it discarded itself.
        from: Option<Handle>,
        /// What it passed.
        args: Args,
    },
    /// `LWC_TRAPPED`: a context created here with [`Flags::TRAP_SYSCALL`], or
    /// one that such a context made, called the system. It waits for
    /// [`TrappedCall::answer`].
    Called(TrappedCall),
    /// `LWC_TRAPPED`: a context created here, with [`Flags::TRAP_FAULT`] or
    /// [`Flags::TRAP_EXIT`], ended while it was the current one.
    Ended(End),
}

impl Event {
    /// A switch, from a descriptor unless its context is no more.
    #[inline]
    pub(crate) fn switched(from: Option<RawFd>, args: Args) -> Self {
        Self::Switched {
            from: from.map(Handle::new),
            args,
        }
    }

    /// A context whose system calls are trapped made one.
    pub(crate) fn called(from: RawFd, words: &[u64]) -> Self {
        Self::Called(TrappedCall::new(Handle::new(from), words))
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

/// lwCreate returns twice.
#[derive(Debug)]
pub enum Created {
    /// In the creator, at once.
    Creator(Context),
    /// In the new context, when somebody first switches to it.
    New(Event),
}

/// Makes a context: a copy of the current one but for what the specifiers say
/// (lwCreate, [contract 2](crate::contract#c2); paper, section 3.1).
///
/// # Safety
/// The call returns twice, on two copies of memory, like fork(2). In the new
/// context every value that stands for something outside memory (files to
/// remove, locks held with others, [`Context`]s whose descriptors specifiers
/// left out) is there a second time, and memory that specifiers unmapped is
/// not there at all: code that runs there must not use what is gone. Prefer
/// [`spawn`], which runs one closure there and nothing after it.
///
/// # Errors
/// [Contract 2.7](crate::contract#c2-7): EINVAL, E2BIG, ENOMEM, EMFILE, EAGAIN,
/// EBUSY; nothing has changed then, but that memory to be shared may be shared memory already.
pub unsafe fn create(specs: &[Spec], flags: Flags) -> Result<Created> {
    Ok(match backend::lw_create(specs, flags.bits())? {
        Birth::Creator(fd) => Created::Creator(Context(Handle::new(fd))),
        Birth::New(event) => Created::New(event),
    })
}

/// Makes a context that runs `body`, from the first switch to it on.
///
/// `body` never returns into the caller's copied stack: it switches away, or
/// ends the context with [`Handle::discard_switch`] or exit(3). A panic in it
/// aborts the context.
///
/// # Errors
/// As [`create`].
pub fn spawn<F>(specs: &[Spec], flags: Flags, body: F) -> Result<Context>
where
    F: FnOnce(Event) -> Infallible,
{
    // SAFETY: the copy runs `body` and nothing else: no destructor of a frame
    // below runs there, for `body` does not return and a panic aborts.
    match unsafe { create(specs, flags)? } {
        Created::Creator(context) => Ok(context),
        Created::New(event) => {
            let _abort = AbortOnUnwind;
            #[allow(unreachable_code)] // nothing is after `body`
            match body(event) {}
        }
    }
}

struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// A context, named: a descriptor number of the current context's table.
///
/// A plain copyable name, as a raw descriptor is; [`Context`] is the owner
/// that closes it. Neither leaves its thread: a context belongs to a process
/// with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle {
    fd: RawFd,
    /// Neither Send nor Sync.
    here: PhantomData<*const ()>,
}

impl Handle {
    #[inline]
    fn new(fd: RawFd) -> Self {
        Self {
            fd,
            here: PhantomData,
        }
    }

    /// The handle of a descriptor number, such as one passed as an argument
    /// between contexts that share their descriptor table. A number that
    /// names no context makes every call fail with EBADF.
    pub fn from_raw(fd: RawFd) -> Self {
        Self::new(fd)
    }

    /// The descriptor's number.
    #[inline]
    pub fn as_raw(&self) -> RawFd {
        self.fd
    }

    /// Saves the current context and resumes this one (lwSwitch, [contract
    /// 3](crate::contract#c3)).
    ///
    /// Returns when somebody switches back, whoever it is, or when a context
    /// created here ends.
    ///
    /// # Errors
    /// [Contract 3.6](crate::contract#c3-6), still in the caller: EBADF, EINVAL
    /// (itself; more than 16 words), ESRCH (dead, with how it died), EBUSY (threads).
    #[inline(always)]
    pub fn switch(&self, args: &[u64]) -> Result<Event> {
        backend::lw_switch(self.fd, args, None)
    }

    /// The same with an end of patience (ours).
    ///
    /// When the deadline passes the call fails with ETIMEDOUT and the caller
    /// is the current context again. Whoever had the baton may still run:
    /// [`destroy`](Self::destroy) it before anything else.
    ///
    /// # Errors
    /// As [`switch`](Self::switch), and ETIMEDOUT.
    #[inline(always)]
    pub fn switch_until(&self, args: &[u64], deadline: impl Into<Moment>) -> Result<Event> {
        backend::lw_switch(self.fd, args, Some(deadline.into()))
    }

    /// Resumes this context and destroys the current one (lwDiscardSwitch,
    /// [contract 3.4](crate::contract#c3-4)). Returns on failure alone, to a
    /// caller that is unharmed.
    pub fn discard_switch(&self, args: &[u64]) -> Error {
        backend::lw_discard_switch(self.fd, args)
    }

    /// Takes resources out of this descriptor's rights, for ever (lwRestrict,
    /// [contract 4](crate::contract#c4)). The access of the specifiers is of no
    /// account.
    ///
    /// # Errors
    /// EBADF, EINVAL, E2BIG, ESRCH; ETIMEDOUT if the owner does not answer
    /// (process backend).
    pub fn restrict(&self, specs: &[Spec]) -> Result<()> {
        backend::lw_restrict(Some(self.fd), specs)
    }

    /// Brings resources of this context into the current one, at the same
    /// addresses and numbers (lwOverlay, [contract 5](crate::contract#c5)).
    ///
    /// # Safety
    /// Memory mapped at those addresses is replaced: nothing that Rust code
    /// here still uses may live there, but regions that the specifiers name.
    ///
    /// # Errors
    /// [Contract 5.3](crate::contract#c5-3), nothing changed: EACCES (not within
    /// the rights), EINVAL, EFAULT (nothing there), EBADF, ESRCH, ENOMEM, EPERM.
    pub unsafe fn overlay(&self, specs: &[Spec]) -> Result<()> {
        backend::lw_overlay(Some(self.fd), specs)
    }

    /// Facts about the context (lwInfo, [contract 8](crate::contract#c8)).
    ///
    /// # Errors
    /// EBADF.
    pub fn info(&self) -> Result<Info> {
        Info::of(Some(self.fd))
    }

    /// One more descriptor, with the rights this one has now.
    ///
    /// # Errors
    /// EBADF, ESRCH, EMFILE.
    pub fn duplicate(&self) -> Result<Context> {
        backend::lw_dup(self.fd).map(|fd| Context(Self::new(fd)))
    }

    /// Gives the descriptor up. A suspended context that no descriptor names
    /// any more is destroyed at once ([contract 1.4](crate::contract#c1-4)).
    ///
    /// # Errors
    /// EBADF.
    pub fn close(self) -> Result<()> {
        backend::lw_close(self.fd)
    }

    /// Ends the context now, whoever else names it, whatever it does (ours).
    /// The right is the creator's and, on the process backend, the root's.
    ///
    /// # Errors
    /// EBADF, EPERM.
    pub fn destroy(&self) -> Result<()> {
        backend::destroy(self.fd, true)
    }

    /// The same without waiting for its memory to be returned.
    ///
    /// # Errors
    /// As [`destroy`](Self::destroy).
    pub fn kill(&self) -> Result<()> {
        backend::destroy(self.fd, false)
    }

    /// Gives this context a descriptor of another one, so that the two can
    /// switch to each other without a third in between (ours; lwControl(2)).
    ///
    /// Both are suspended. The descriptor carries the right to switch and
    /// nothing else; one that this context has already stays as it is. Returns
    /// its number in the table of *this* context, for which it is, with
    /// [`Handle::from_raw`], a name of `whom`; here it is only a number. When
    /// `whom` switches there, [`Event::from`] has the same number.
    ///
    /// On the process backend both may be in the strict sandbox ([`confine`]),
    /// and neither asks anything of the other from then on but to be switched
    /// to. Contexts are processes there, and one that is hostile can hand over
    /// again after its turn: whoever introduces two has them tell turns apart,
    /// and looks whether each is [`parked`](Self::parked) when it should be.
    ///
    /// # Errors
    /// EBADF, EINVAL (the same context twice; the current one), ESRCH (either
    /// is dead), EPERM (another process's; on the process backend unless the
    /// root calls), EMFILE (no room in this context's table), EBUSY. ENOTSUP on
    /// the process backend where system calls of either are trapped.
    pub fn introduce(&self, whom: Self) -> Result<RawFd> {
        backend::introduce(self.fd, whom.fd)
    }

    /// Whether the context waits to be switched to, by the kernel's word (ours).
    ///
    /// Contexts do not run until they are switched to: on the kernel backend
    /// this is always so. On the process backend a hostile one can go on running
    /// after it has switched away. In the strict sandbox ([`confine`]) a context
    /// that waits cannot wake by itself: seen parked once, it stays parked until
    /// somebody wakes it who has been introduced to it or is its creator or the
    /// root. One that is about to wait is given the time for it.
    ///
    /// # Errors
    /// EBADF, ESRCH (it is dead).
    ///
    /// # Examples
    /// ```
    /// use lwc::Flags;
    ///
    /// let child = lwc::spawn(&[], Flags::empty(), |event| {
    ///     let parent = event.from().expect("switched to by the creator");
    ///     loop {
    ///         let _ = parent.switch(&[]);
    ///     }
    /// })?;
    /// child.switch(&[])?;
    /// assert!(child.parked()?);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn parked(&self) -> Result<bool> {
        backend::parked(self.fd)
    }
}

/// Whether each of these contexts waits to be switched to, all of them at one
/// moment, by the kernel's word (ours); see [`Handle::parked`]. Contexts that know
/// each other could wake each other between two questions about one of them.
///
/// A dead one waits for nothing. With patience one that has just handed over is
/// given the time that it needs to come to its rest, however busy the machine is;
/// without, everybody is asked once.
///
/// # Errors
/// EBADF; EPERM unless the root asks (process backend).
pub fn parked_together(of: &[Handle], patient: bool) -> Result<Vec<bool>> {
    let numbers: Vec<RawFd> = of.iter().map(Handle::as_raw).collect();
    backend::parked_together(&numbers, patient)
}

/// Waits for a switch here without passing the baton (ours; process backend).
///
/// For one that got the baton from a context that had no business to pass it: on
/// this backend hostile code can do so out of turn. The baton counts as being
/// where it was. A context in the strict sandbox ([`confine`]) waits until
/// [`Moment::NEVER`].
///
/// # Errors
/// ETIMEDOUT when the deadline passes; ENOTSUP for one in the strict sandbox.
pub fn await_switch(deadline: impl Into<Moment>) -> Result<Event> {
    backend::await_switch(deadline.into())
}

/// The owner of a [`Handle`]: dropping it closes the descriptor.
///
/// ```compile_fail
/// fn send<T: Send>() {}
/// send::<lwc::Context>(); // a context belongs to its thread
/// ```
#[derive(Debug)]
pub struct Context(Handle);

impl Context {
    /// Takes over a descriptor, such as a caller's, that shall be closed with
    /// this value.
    pub fn own(handle: Handle) -> Self {
        Self(handle)
    }

    /// The name without the ownership.
    #[inline]
    pub fn handle(&self) -> Handle {
        self.0
    }

    /// Gives up the ownership and keeps the descriptor open.
    pub fn into_handle(self) -> Handle {
        let handle = self.0;
        std::mem::forget(self);
        handle
    }
}

impl Deref for Context {
    type Target = Handle;
    fn deref(&self) -> &Handle {
        &self.0
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // EBADF: the descriptor is gone already, which is what was wanted.
        let _ = self.0.close();
    }
}

/// A descriptor of the current context itself (lwGetlwc, [contract
/// 1.3](crate::contract#c1-3)).
///
/// # Errors
/// EMFILE.
pub fn getlwc() -> Result<Context> {
    backend::lw_getlwc().map(|fd| Context(Handle::new(fd)))
}

/// Narrows what anybody may get of the current context, through any descriptor
/// (lwRestrict with LWC_SELF, [contract 4.1](crate::contract#c4-1)).
///
/// # Errors
/// EINVAL, E2BIG.
pub fn restrict_self(specs: &[Spec]) -> Result<()> {
    backend::lw_restrict(None, specs)
}

/// Gives up resources of the current context (lwOverlay of oneself with UNMAP,
/// [contract 5.1](crate::contract#c5-1)).
///
/// # Safety
/// Nothing that is unmapped may be used again; see [`Spec::memory`].
///
/// # Errors
/// EINVAL for anything but UNMAP.
pub unsafe fn unmap_self(specs: &[Spec]) -> Result<()> {
    backend::lw_overlay(None, specs)
}

/// Facts about the current context.
///
/// # Errors
/// None that a working system has.
pub fn info() -> Result<Info> {
    Info::of(None)
}

/// Where a context is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is the one that runs.
    Current,
    /// It waits in a switch.
    Suspended,
    /// Nobody has switched to it yet.
    New,
    /// Only its descriptor is left.
    Dead,
    /// It was current when somebody's patience ended
    /// ([`Handle::switch_until`]): suspended between two instructions, where it
    /// goes on when it is switched to. Never on the process backend, where it
    /// runs on meanwhile and is [`State::Suspended`].
    Preempted,
}

/// What lwInfo tells ([contract 8.1](crate::contract#c8-1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Unique in the process; the root's is 1.
    pub id: u64,
    /// The creator's identity; 0 for the root.
    pub creator: u64,
    /// The flags it was made with.
    pub flags: Flags,
    /// Where it is in its life.
    pub state: State,
    /// Whether the descriptor still carries any right over memory.
    pub may_memory: bool,
    /// Over descriptors.
    pub may_files: bool,
    /// Over credentials.
    pub may_credentials: bool,
    /// Live contexts in the process, the root included.
    pub contexts: u64,
    /// Its resident pages.
    pub resident_pages: u64,
    /// Those that are not in files or shared memory.
    pub private_pages: u64,
}

impl Info {
    fn of(fd: Option<RawFd>) -> Result<Self> {
        let f = backend::lw_info(fd)?;
        Ok(Self {
            id: f.id,
            creator: f.creator,
            flags: Flags::from_bits_truncate(f.flags),
            state: match f.state {
                lwc_sys::LWC_STATE_CURRENT => State::Current,
                lwc_sys::LWC_STATE_SUSPENDED => State::Suspended,
                lwc_sys::LWC_STATE_NEW => State::New,
                lwc_sys::LWC_STATE_PREEMPTED => State::Preempted,
                _ => State::Dead,
            },
            may_memory: f.rights & lwc_sys::LWC_MEMORY != 0,
            may_files: f.rights & lwc_sys::LWC_FILES != 0,
            may_credentials: f.rights & lwc_sys::LWC_CREDENTIALS != 0,
            contexts: f.contexts,
            resident_pages: f.resident,
            private_pages: f.private,
        })
    }
}

/// How much [`confine`] leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Puts the current context, and it alone, into a sandbox for ever: Capsicum's
/// capability mode on the kernel backend, seccomp on the process backend.
/// Copies made later are in it too. What it forbids fails with EPERM; calls
/// that no honest program tries (making or killing processes, tracing, other
/// programs, sockets) end the context with SIGSYS.
///
/// # Errors
/// What the system says (seccomp(2), cap_enter(2)).
pub fn confine(how: Confinement) -> Result<()> {
    backend::confine(how)
}

/// Limits how many bytes the current context may add to its address space.
///
/// What the kernel needs to map them comes on top: on Linux, where no limit counts
/// page tables, hostile code that maps a page here and there makes it as much again.
///
/// # Errors
/// What the system says (setrlimit(2)).
pub fn limit_memory(bytes: u64) -> Result<()> {
    backend::limit_memory(bytes)
}
