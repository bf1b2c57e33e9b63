//! Contexts: making them, switching to them, taking rights away.

use crate::backend::{self, Backend, Rest, Returned};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::flags::{Confinement, Flags};
use crate::handle::{self, Handle};
use crate::rights::Rights;
use crate::spec::{Access, Spec, What};
use crate::time::MonotonicTime;
use std::convert::Infallible;
use std::ops::Deref;
use std::os::fd::{BorrowedFd, RawFd};

/// lwCreate returns twice, and in no third way: `match` needs no other arm.
///
/// ```
/// use lwc::{Created, Flags};
///
/// // SAFETY: nothing below stands for anything outside memory.
/// match unsafe { lwc::create(&[], Flags::empty())? } {
///     Created::Creator(child) => assert_eq!(child.switch(&[20])?.args(), [21]),
///     Created::New(event) => {
///         let creator = event.from().expect("switched to by the creator");
///         let error = creator.discard_switch(&[event.args()[0] + 1]);
///         panic!("{error}");
///     }
/// }
/// # Ok::<(), lwc::Error>(())
/// ```
#[derive(Debug)]
pub enum Created {
    /// In the creator, at once.
    Creator(Context),
    /// In the new context, when somebody first switches to it.
    New(Event),
}

const SWITCH: &str = "lwSwitch";

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
    handle::forget_after_fork();
    Ok(match backend::lw_create(specs, flags.bits())? {
        Returned::Creator(fd) => Created::Creator(Context::of(fd)),
        Returned::New(event) => {
            forget_left_out(specs);
            Created::New(event.renewed())
        }
    })
}

/// In a new context: handles that were copied with memory, of descriptors that
/// were not copied with the table, name nothing.
fn forget_left_out(specs: &[Spec]) {
    handle::left_out(specs.iter().filter_map(|spec| match spec.what {
        What::Files(range) if spec.access == Access::Unmap => {
            let (from, to) = range.unwrap_or((0, RawFd::MAX));
            Some(from..=to)
        }
        _ => None,
    }));
    // A table of numbers of the process backend lacks those of dead contexts.
    if backend::backend() == Ok(Backend::Process) {
        handle::forget_unless(|fd| backend::names(fd).is_ok());
    }
}

/// Makes a context that runs `body`, from the first switch to it on.
///
/// `body` never returns into the caller's copied stack: it switches away, or
/// ends the context with [`Handle::discard_switch`] or exit(3). A panic in it
/// aborts the context.
///
/// # Errors
/// As [`create`].
///
/// # Examples
/// ```
/// use lwc::{Access, Errno, Flags, Region, Spec};
///
/// let notes = Region::new(1)?;
/// let child = lwc::spawn(&[], Flags::TRAP_EXIT, |event| {
///     let parent = event.from().expect("switched to by the creator");
///     notes.write(0, b"I was here");
///     let _ = parent.switch(&[]);
///     std::process::exit(3)
/// })?;
/// child.switch(&[])?;
/// assert_eq!(notes.get::<[u8; 10]>(0), *b"I was here");
/// let lwc::Event::Ended(end) = child.switch(&[])? else {
///     panic!("it ends")
/// };
/// assert_eq!((end.signal, end.code), (None, 3));
///
/// let too_many = vec![Spec::region(&notes, Access::Share); 2000];
/// let error = lwc::spawn(&too_many, Flags::empty(), |_| unreachable!()).unwrap_err();
/// assert_eq!(error.errno(), Errno::E2BIG);
/// # Ok::<(), lwc::Error>(())
/// ```
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

impl Handle {
    /// Saves the current context and resumes this one (lwSwitch, [contract
    /// 3](crate::contract#c3)).
    ///
    /// Returns when somebody switches back, whoever it is, or when a context
    /// created here ends.
    ///
    /// # Errors
    /// [Contract 3.6](crate::contract#c3-6), still in the caller: EBADF, EINVAL
    /// (itself; more than 16 words), ESRCH (dead, with how it died), EBUSY (threads).
    ///
    /// # Examples
    /// ```
    /// use lwc::Errno;
    ///
    /// let adder = lwc::Builder::new().spawn(|mut event| {
    ///     loop {
    ///         let caller = event.from().expect("it waits for the sum");
    ///         event = caller.switch(&[event.args().iter().sum()]).expect("another");
    ///     }
    /// })?;
    /// assert_eq!(adder.switch(&[1, 2, 3])?.args(), [6]);
    /// let event = adder.switch(&[4, 5])?;
    /// assert_eq!(event.args(), [9]);
    /// assert_eq!(event.from(), Some(adder.handle()));
    ///
    /// let refused = |error: lwc::Error| error.errno() == Errno::EINVAL;
    /// assert!(adder.switch(&[0; 17]).is_err_and(refused));
    /// assert!(lwc::getlwc()?.switch(&[]).is_err_and(refused));
    /// # Ok::<(), lwc::Error>(())
    /// ```
    #[inline(always)]
    pub fn switch(&self, args: &[u64]) -> Result<Event> {
        backend::lw_switch(self.number(SWITCH)?, args, None)
    }

    /// The same until a deadline (ours).
    ///
    /// When the deadline passes the call fails with ETIMEDOUT and the caller
    /// is the current context again. Whoever had the baton may still run:
    /// [`destroy`](Self::destroy) it before anything else.
    ///
    /// # Errors
    /// As [`switch`](Self::switch), and ETIMEDOUT.
    ///
    /// # Examples
    /// ```
    /// use lwc::{Errno, MonotonicTime};
    /// use std::time::Duration;
    ///
    /// let busy = lwc::Builder::new().spawn(|_| loop {
    ///     std::hint::spin_loop();
    /// })?;
    /// let deadline = MonotonicTime::now() + Duration::from_millis(10);
    /// let error = busy.switch_until(&[], deadline).unwrap_err();
    /// assert_eq!(error.errno(), Errno::ETIMEDOUT);
    /// busy.destroy()?;
    /// assert_eq!(busy.switch(&[]).unwrap_err().errno(), Errno::ESRCH);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    #[inline(always)]
    pub fn switch_until(&self, args: &[u64], deadline: impl Into<MonotonicTime>) -> Result<Event> {
        backend::lw_switch(self.number(SWITCH)?, args, Some(deadline.into()))
    }

    /// Resumes this context and destroys the current one (lwDiscardSwitch,
    /// [contract 3.4](crate::contract#c3-4)). Returns on failure alone, to a
    /// caller that is unharmed.
    ///
    /// # Examples
    /// ```
    /// use lwc::Errno;
    ///
    /// let once = lwc::Builder::new().spawn(|event| {
    ///     let parent = event.from().expect("switched to by the creator");
    ///     panic!("{}", parent.discard_switch(&[42]))
    /// })?;
    /// let event = once.switch(&[])?;
    /// assert_eq!(event.args(), [42]);
    /// assert_eq!(event.from(), None, "it is no more");
    /// assert_eq!(once.switch(&[]).unwrap_err().errno(), Errno::ESRCH);
    /// // Nor can one go to it, and is still there.
    /// assert_eq!(once.discard_switch(&[]).errno(), Errno::ESRCH);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn discard_switch(&self, args: &[u64]) -> Error {
        match self.number("lwDiscardSwitch") {
            Ok(fd) => backend::lw_discard_switch(fd, args),
            Err(closed) => closed,
        }
    }

    /// Takes rights out of those that this descriptor carries, for ever
    /// (lwRestrict, [contract 4](crate::contract#c4)).
    ///
    /// # Errors
    /// EBADF, EINVAL, E2BIG, ESRCH; ETIMEDOUT if the owner does not answer
    /// (process backend).
    ///
    /// # Examples
    /// ```
    /// use lwc::{Errno, Rights};
    ///
    /// let text = String::from("copied");
    /// let address = text.as_ptr() as u64; // the same in a copy
    /// # let child = lwc::Builder::new().spawn(|event| {
    /// #     let parent = event.from().expect("switched to by the creator");
    /// #     loop {
    /// #         let _ = parent.switch(&[]);
    /// #     }
    /// # })?;
    /// let mut bytes = [0; 6];
    /// child.read_memory(address, &mut bytes)?;
    /// assert_eq!(bytes, *b"copied");
    /// child.restrict(&Rights::all())?;
    /// let error = child.read_memory(address, &mut bytes).unwrap_err();
    /// assert_eq!(error.errno(), Errno::EACCES);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn restrict(&self, rights: &Rights) -> Result<()> {
        backend::lw_restrict(Some(self.number("lwRestrict")?), &rights.specs())
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
    ///
    /// # Examples
    /// ```
    /// use lwc::{Access, Builder, Errno, Region, Rights, Spec};
    ///
    /// let region = Region::new(1)?;
    /// let child = Builder::new().copy(&region).spawn(|event| {
    ///     let parent = event.from().expect("switched to by the creator");
    ///     region.set(0, 42u8);
    ///     loop {
    ///         let _ = parent.switch(&[]);
    ///     }
    /// })?;
    /// child.switch(&[])?;
    /// assert_eq!(region.get::<u8>(0), 0);
    /// // SAFETY: a region holds no Rust object.
    /// let overlay = || unsafe { child.overlay(&[Spec::region(&region, Access::Copy)]) };
    /// overlay()?;
    /// assert_eq!(region.get::<u8>(0), 42);
    /// child.restrict(&Rights::memory(region.range()))?;
    /// assert_eq!(overlay().unwrap_err().errno(), Errno::EACCES);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub unsafe fn overlay(&self, specs: &[Spec]) -> Result<()> {
        backend::lw_overlay(Some(self.number("lwOverlay")?), specs)
    }

    /// Facts about the context (lwInfo, [contract 8](crate::contract#c8)).
    ///
    /// # Errors
    /// EBADF.
    ///
    /// # Examples
    /// ```
    /// use lwc::State;
    ///
    /// # let child = lwc::Builder::new().spawn(|event| {
    /// #     let parent = event.from().expect("switched to by the creator");
    /// #     loop {
    /// #         let _ = parent.switch(&[]);
    /// #     }
    /// # })?;
    /// let info = child.info()?;
    /// assert_eq!((info.state, info.creator), (State::New, lwc::info()?.id));
    /// child.destroy()?;
    /// assert_eq!(child.info()?.state, State::Dead);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn info(&self) -> Result<Info> {
        Info::of(Some(self.number("lwInfo")?))
    }

    /// One more descriptor, with the rights this one has now.
    ///
    /// # Errors
    /// EBADF, ESRCH, EMFILE.
    ///
    /// # Examples
    /// ```
    /// use lwc::Rights;
    ///
    /// # let child = lwc::Builder::new().spawn(|event| {
    /// #     let parent = event.from().expect("switched to by the creator");
    /// #     loop {
    /// #         let _ = parent.switch(&[]);
    /// #     }
    /// # })?;
    /// child.restrict(&Rights::credentials())?;
    /// let twin = child.duplicate()?;
    /// child.restrict(&Rights::all())?; // its own from here on
    /// assert!(twin.info()?.may_memory && !twin.info()?.may_credentials);
    /// drop(child);
    /// twin.switch(&[])?;
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn duplicate(&self) -> Result<Context> {
        backend::lw_dup(self.number("dup")?).map(Context::of)
    }

    /// Ends the context now, whoever else names it, whatever it does (ours).
    /// The right is the creator's and, on the process backend, the root's.
    ///
    /// # Errors
    /// EBADF, EPERM.
    ///
    /// # Examples
    /// ```
    /// use lwc::Errno;
    ///
    /// let child = lwc::Builder::new().spawn(|event| {
    ///     let parent = event.from().expect("switched to by the creator");
    ///     let error = parent.destroy().expect_err("not the creator's creator");
    ///     loop {
    ///         let _ = parent.switch(&[error.errno().raw() as u64]);
    ///     }
    /// })?;
    /// assert_eq!(child.switch(&[])?.args(), [Errno::EPERM.raw() as u64]);
    /// child.destroy()?;
    /// assert_eq!(child.switch(&[]).unwrap_err().errno(), Errno::ESRCH);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn destroy(&self) -> Result<()> {
        backend::destroy(self.number("destroy")?, true)
    }

    /// The same without waiting for its memory to be returned, where the backend
    /// need not: on the kernel backend it is at once. Either way it is dead from
    /// then on for whoever asks, or would switch to it.
    ///
    /// # Errors
    /// As [`destroy`](Self::destroy).
    pub fn kill(&self) -> Result<()> {
        backend::destroy(self.number("destroy")?, false)
    }

    /// Gives this context a descriptor of another one, so that the two can
    /// switch to each other without a third in between (ours; lwControl(2)).
    ///
    /// Both are suspended. The descriptor carries the right to switch and
    /// nothing else; one that this context has already stays as it is. Returns
    /// the word that makes it a [`Context`] in *this* context, once told of it:
    /// see [`Context::introduced`]. When `whom` switches there, [`Event::from`]
    /// is that one.
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
    /// the process backend where system calls of either are trapped, and there
    /// EBUSY or ETIMEDOUT of one that is hostile: it runs, or does not answer,
    /// however much time of a processor it has. [`Error::party`](crate::Error::party)
    /// tells which of the two it is.
    ///
    /// # Examples
    /// See [`Context::introduced`]. Refused is what makes no sense:
    /// ```
    /// # use lwc::Errno;
    /// # let child = lwc::Builder::new().spawn(|event| {
    /// #     let parent = event.from().expect("switched to by the creator");
    /// #     loop {
    /// #         let _ = parent.switch(&[]);
    /// #     }
    /// # })?;
    /// let error = child.introduce(child.handle()).unwrap_err();
    /// assert_eq!(error.errno(), Errno::EINVAL);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn introduce(&self, whom: Self) -> Result<u64> {
        const CALL: &str = "introduce";
        backend::introduce(self.number(CALL)?, whom.number(CALL)?).map(|fd| fd as u64)
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
        backend::parked(self.number("parked")?)
    }
}

/// Whether each of these contexts waits to be switched to, all of them at one
/// moment, by the kernel's word (ours); see [`Handle::parked`]. Contexts that know
/// each other could wake each other between two questions about one of them.
///
/// A dead one waits for nothing. With `wait` one that has just handed over is
/// given the time that it needs to come to its rest, however busy the machine is;
/// without, everybody is asked once.
///
/// # Errors
/// EBADF; EPERM unless the root asks (process backend).
///
/// # Examples
/// ```
/// use lwc::Builder;
///
/// let hop = || {
///     Builder::new().spawn(|event| {
///         let parent = event.from().expect("switched to by the creator");
///         loop {
///             let _ = parent.switch(&[]);
///         }
///     })
/// };
/// let all = [hop()?, hop()?];
/// for context in &all {
///     context.switch(&[])?;
/// }
/// let handles: Vec<_> = all.iter().map(|c| c.handle()).collect();
/// assert_eq!(lwc::parked_together(&handles, true)?, [true, true]);
/// # Ok::<(), lwc::Error>(())
/// ```
pub fn parked_together(of: &[Handle], wait: bool) -> Result<Vec<bool>> {
    let numbers: Result<Vec<RawFd>> = of.iter().map(|h| h.number("parked")).collect();
    backend::parked_together(&numbers?, wait)
}

/// The same with `wait`, of contexts that have been on their way to rest since then,
/// and which way it is that one does not come to it. On the process backend those that
/// run and know each other are stopped for a moment, and each goes on alone: one may be
/// kept awake by another. What one hands over to another meanwhile may be found late.
///
/// # Errors
/// As [`parked_together`].
#[doc(hidden)]
pub fn come_to_rest(of: &[Handle], since: MonotonicTime) -> Result<Vec<Rest>> {
    let numbers: Result<Vec<RawFd>> = of.iter().map(|h| h.number("parked")).collect();
    backend::come_to_rest(&numbers?, since)
}

/// Waits for a switch here without passing the baton (ours; process backend).
///
/// For one that got the baton from a context that had no business to pass it: on
/// this backend hostile code can do so out of turn. The baton counts as being
/// where it was. A context in the strict sandbox ([`confine`]) waits until
/// [`MonotonicTime::NEVER`].
///
/// # Errors
/// ETIMEDOUT when the deadline passes; ENOTSUP for one in the strict sandbox. See
/// [`MonotonicTime`] for an example.
pub fn await_switch(deadline: impl Into<MonotonicTime>) -> Result<Event> {
    backend::await_switch(deadline.into())
}

/// A context whose descriptor is owned: it is closed when this value is dropped.
///
/// A suspended context that no descriptor names any more is destroyed at once
/// ([contract 1.4](crate::contract#c1-4)).
///
/// All that can be asked of it is asked by its [`Handle`], to which it derefs.
/// Where a descriptor has several owners ([`own`](Self::own)) the last one closes
/// it.
///
/// ```compile_fail
/// fn send<T: Send>() {}
/// send::<lwc::Context>(); // a context belongs to its thread
/// ```
#[derive(Debug)]
pub struct Context(Handle);

impl Context {
    /// The owner of a descriptor that the backend has made.
    fn of(fd: RawFd) -> Self {
        Self::own(Handle::of(fd))
    }

    /// Becomes an owner of a descriptor, such as a caller's, which is closed
    /// with this value unless it has other owners.
    ///
    /// # Examples
    /// ```
    /// use lwc::{Builder, Context, Errno};
    ///
    /// // The child makes a grandchild, which introduces itself to us.
    /// let child = Builder::new().spawn(|event| {
    ///     let root = event.from().expect("switched to by the creator");
    ///     let grandchild = Builder::new().spawn(|_| loop {
    ///         let _ = root.switch(&[]);
    ///     });
    ///     loop {
    ///         let _ = grandchild.as_ref().map(|there| there.switch(&[]));
    ///     }
    /// })?;
    /// let grandchild = child.switch(&[])?.from().expect("it waits");
    /// assert_ne!(grandchild, child.handle());
    /// let owned = Context::own(grandchild);
    /// owned.close()?;
    /// assert_eq!(grandchild.switch(&[]).unwrap_err().errno(), Errno::EBADF);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn own(handle: Handle) -> Self {
        handle.own();
        Self(handle)
    }

    /// The context that the current one was introduced to, by the word that
    /// [`Handle::introduce`] gave: what this context is told by whoever did.
    ///
    /// # Errors
    /// EBADF if the number is no context's descriptor here, whoever wrote it.
    ///
    /// # Examples
    /// ```
    /// use lwc::{Context, Errno, Flags};
    ///
    /// # // Two of a kind: each passes on what it is told, one more, if it can.
    /// let hop = || {
    ///     lwc::spawn(&[], Flags::empty(), |event| {
    ///         let root = event.from().expect("switched to by the creator");
    ///         let next = Context::introduced(event.args()[0]);
    ///         let mut event = root.switch(&[next.is_ok().into()]);
    ///         loop {
    ///             let word = event.as_ref().map_or(0, |e| e.args()[0]);
    ///             event = match &next {
    ///                 Ok(next) => next.switch(&[word + 1]),
    ///                 Err(_) => root.switch(&[word + 1]),
    ///             };
    ///         }
    ///     })
    /// };
    /// let (first, last) = (hop()?, hop()?);
    /// assert_eq!(last.switch(&[4321])?.args(), [0]); // it has no such context
    /// let word = first.introduce(last.handle())?;
    /// assert_eq!(first.switch(&[word])?.args(), [1]);
    /// let event = first.switch(&[40])?;
    /// assert_eq!(event.args(), [42]);
    /// assert_eq!(event.from(), Some(last.handle()));
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn introduced(word: u64) -> Result<Self> {
        let fd = RawFd::try_from(word).unwrap_or(-1);
        backend::names(fd)?;
        Ok(Self::of(fd))
    }

    /// The name without the ownership.
    #[inline]
    pub fn handle(&self) -> Handle {
        self.0
    }

    /// The descriptor itself, where contexts are descriptors of the system: on the
    /// kernel backend. There it can be looked at, and dup(2) and close(2) are what
    /// they are; none is made of a descriptor, nor this one given away, for the
    /// process backend has numbers alone.
    ///
    /// # Examples
    /// ```
    /// use lwc::Backend;
    ///
    /// let me = lwc::getlwc()?;
    /// let kernel = lwc::backend()? == Backend::Kernel;
    /// assert_eq!(me.descriptor().is_some(), kernel);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let fd = self.0.number("descriptor").ok()?;
        // SAFETY: open for as long as this owner is borrowed, since the last owner
        // alone closes it; and a descriptor of the system's, on this backend.
        (backend::backend() == Ok(Backend::Kernel)).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Gives up the ownership and keeps the descriptor open.
    pub fn into_handle(self) -> Handle {
        let handle = self.0;
        handle.disown(false);
        std::mem::forget(self);
        handle
    }

    /// Closes the descriptor, as dropping does, and says how that went.
    ///
    /// # Errors
    /// EBADF if it is closed already: by [`unmap_self`], or by close(2).
    pub fn close(self) -> Result<()> {
        const CALL: &str = "close";
        let fd = self.0.number(CALL)?;
        let last = self.0.disown(true);
        std::mem::forget(self);
        if last { backend::lw_close(fd) } else { Ok(()) }
    }
}

impl Deref for Context {
    type Target = Handle;
    #[inline]
    fn deref(&self) -> &Handle {
        &self.0
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.0.disown(true) {
            // EBADF: the descriptor is gone already, which is what was wanted.
            let _ = backend::lw_close(self.0.as_raw());
        }
    }
}

/// A descriptor of the current context itself (lwGetlwc, [contract
/// 1.3](crate::contract#c1-3)).
///
/// # Errors
/// EMFILE.
///
/// # Examples
/// ```
/// let me = lwc::getlwc()?;
/// assert_eq!(me.info()?.id, lwc::info()?.id);
/// assert_eq!(me.switch(&[]).unwrap_err().errno(), lwc::Errno::EINVAL);
/// # Ok::<(), lwc::Error>(())
/// ```
pub fn getlwc() -> Result<Context> {
    backend::lw_getlwc().map(Context::of)
}

/// Narrows what anybody may get of the current context, through any descriptor
/// (lwRestrict with LWC_SELF, [contract 4.1](crate::contract#c4-1)).
///
/// # Errors
/// EINVAL, E2BIG.
///
/// # Examples
/// ```
/// use lwc::{Errno, Rights};
///
/// let secretive = lwc::Builder::new().spawn(|event| {
///     let parent = event.from().expect("switched to by the creator");
///     let done = lwc::restrict_self(&Rights::all_memory());
///     loop {
///         let _ = parent.switch(&[done.is_ok().into()]);
///     }
/// })?;
/// let local = 7u8;
/// let address = &raw const local as u64;
/// secretive.read_memory(address, &mut [0])?;
/// assert_eq!(secretive.switch(&[])?.args(), [1]);
/// let error = secretive.read_memory(address, &mut [0]).unwrap_err();
/// assert_eq!(error.errno(), Errno::EACCES);
/// # Ok::<(), lwc::Error>(())
/// ```
pub fn restrict_self(rights: &Rights) -> Result<()> {
    backend::lw_restrict(None, &rights.specs())
}

/// Gives up resources of the current context (lwOverlay of oneself with UNMAP,
/// [contract 5.1](crate::contract#c5-1)).
///
/// # Safety
/// Nothing that is unmapped may be used again; see [`Spec::memory`]. Descriptors
/// that are closed by it have no owner elsewhere.
///
/// # Errors
/// EINVAL for anything but UNMAP.
///
/// # Examples
/// ```
/// use lwc::{Access, Errno, Spec};
/// use std::os::fd::IntoRawFd;
///
/// let fd = std::fs::File::open("/dev/null").unwrap().into_raw_fd();
/// // SAFETY: nobody else owns the descriptor.
/// unsafe { lwc::unmap_self(&[Spec::files(fd..=fd, Access::Unmap)])? };
/// // SAFETY: only asks.
/// assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, -1);
/// // SAFETY: is refused.
/// let error = unsafe { lwc::unmap_self(&[Spec::files(0..=2, Access::Copy)]) };
/// assert_eq!(error.unwrap_err().errno(), Errno::EINVAL);
/// # Ok::<(), lwc::Error>(())
/// ```
pub unsafe fn unmap_self(specs: &[Spec]) -> Result<()> {
    backend::lw_overlay(None, specs)?;
    // On the process backend names of contexts are no descriptors, and stay.
    if backend::backend() == Ok(Backend::Kernel) {
        forget_left_out(specs);
    }
    Ok(())
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
#[non_exhaustive]
pub enum State {
    /// It is the one that runs.
    Current,
    /// It waits in a switch.
    Suspended,
    /// Nobody has switched to it yet.
    New,
    /// Only its descriptor is left.
    Dead,
    /// It was current when somebody's deadline passed
    /// ([`Handle::switch_until`]): suspended between two instructions, where it
    /// goes on when it is switched to. Never on the process backend, where it
    /// runs on meanwhile and is [`State::Suspended`].
    Preempted,
}

/// What lwInfo tells ([contract 8.1](crate::contract#c8-1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
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
    /// Its resident pages. Linux counts them in batches: this may be some
    /// dozens off for each processor (proc_pid_statm(5)).
    pub resident_pages: u64,
    /// Those that are not in files or shared memory.
    pub private_pages: u64,
    /// Its share of memory in bytes: a page that it has in common with others, as copies
    /// have with their snapshot, is divided by how many have it (PSS, proc_pid_smaps(5)).
    /// Known of contexts that have called [`show_share`], and of those that these made
    /// since; it may be a while old where it takes long to count.
    pub share: Option<u64>,
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
            share: f.pss,
        })
    }
}

/// Puts the current context, and it alone, into a sandbox for ever: Capsicum's
/// capability mode on the kernel backend, seccomp on the process backend.
/// Copies made later are in it too. What it forbids fails with EPERM; calls
/// that no honest program tries (making or killing processes, tracing, other
/// programs, sockets) end the context with SIGSYS.
///
/// # Errors
/// What the system says (seccomp(2), cap_enter(2)).
///
/// # Examples
/// ```
/// use lwc::{Confinement, Event};
///
/// let child = lwc::Builder::new().trap_faults().spawn(|event| {
///     let parent = event.from().expect("switched to by the creator");
///     lwc::confine(Confinement::Strict).expect("a sandbox");
///     let opened = std::fs::File::open("/dev/null").is_ok();
///     let _ = parent.switch(&[opened.into()]);
///     // Nothing of this kind is tried by chance: it ends.
///     let _ = std::net::TcpListener::bind("127.0.0.1:0");
///     unreachable!()
/// })?;
/// assert_eq!(child.switch(&[])?.args(), [0]);
/// let Event::Ended(end) = child.switch(&[])? else {
///     panic!("it made a socket")
/// };
/// assert_eq!(end.signal, Some(libc::SIGSYS));
/// # Ok::<(), lwc::Error>(())
/// ```
pub fn confine(how: Confinement) -> Result<()> {
    backend::confine(how)
}

/// Has lwInfo tell the current context's [share of memory](Info::share), and those of
/// contexts that it makes from now on, also in the sandbox [`Confinement::Creator`].
///
/// Nobody but root may see that of a process that cannot be dumped, as no context can: so
/// it hands its own file of it, smaps_rollup in /proc, to the root of the process, and so
/// does each that it makes, which takes some 20 µs and a descriptor of the root's. Hostile
/// code has nothing by that but what it may read of itself, and that the root reads for at
/// most a hundredth of its time.
///
/// # Errors
/// ENOTSUP: on the kernel backend. EPERM: it is the root, trapped or in a sandbox already.
/// What the system says where there is no /proc.
pub fn show_share() -> Result<()> {
    backend::show_share()
}

/// Limits how many bytes the current context may add to its address space.
///
/// What the kernel needs to map them comes on top: on Linux, where no limit counts
/// page tables, hostile code that maps a page here and there makes it as much again.
///
/// # Errors
/// What the system says (setrlimit(2)).
///
/// # Examples
/// ```
/// let child = lwc::Builder::new().spawn(|event| {
///     let parent = event.from().expect("switched to by the creator");
///     lwc::limit_memory(16 << 20).expect("a limit");
///     let (little, much) = (lwc::Region::new(1 << 20), lwc::Region::new(64 << 20));
///     loop {
///         let _ = parent.switch(&[little.is_ok().into(), much.is_ok().into()]);
///     }
/// })?;
/// assert_eq!(child.switch(&[])?.args(), [1, 0]);
/// # Ok::<(), lwc::Error>(())
/// ```
pub fn limit_memory(bytes: u64) -> Result<()> {
    backend::limit_memory(bytes)
}
