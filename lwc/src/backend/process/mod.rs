//! The process backend: a context is a child process, parked until it is
//! switched to.
//!
//! ```text
//!   root process ── book of all contexts, reaps them, ends as they end
//!     │ clone(CLONE_PARENT): all contexts are its children
//!     ├── context 2 ─┐ pair page + socket between each two of which one
//!     ├── context 3 ─┘ holds the other; a doorbell (futex) for each context
//!     └── …
//! ```
//!
//! * [`wire`]: doorbells and pair pages; handing over is one futex wake and
//!   one futex wait.
//! * [`runtime`]: the current context's state and the loop it parks in.
//! * [`registrar`]: the root's book of identities, holders and deaths.
//! * [`create`]: clone(2), channels, specifiers in the new context.
//! * [`serve`], [`overlay`]: the owner answers requests from its wait loop and
//!   enforces its rights there; nobody else can reach into its memory.
//! * [`memory`]: private memory turned into shared memory files, in place.
//! * [`confine`]: the sandbox, capability mode's stand-in.
//! * [`trap`], [`filter`], [`window`]: trapped system calls; [`nested`]:
//!   contexts that trapped ones make; [`warden`], [`access`], [`calls`]:
//!   acting for another context (lwSyscall).
//!
//! Who is trusted with what: each context with its own memory and rights; the
//! root's process with life and death of all (as the kernel is on the other
//! backend), not with their memory. A hostile context can ring doorbells of
//! those it holds or is held by, for nothing, and can go on running after it
//! has passed the baton; it cannot read, write or impersonate another.

mod access;
mod alarm;
mod calls;
mod confine;
mod create;
mod faults;
mod fds;
mod filter;
mod fork;
mod info;
mod introduce;
mod memory;
mod nested;
mod overlay;
mod parked;
mod ranges;
mod registrar;
mod rights;
mod runtime;
mod serve;
mod trap;
mod warden;
mod window;
mod wire;

pub(crate) use access::{lw_syscall, read_memory, write_memory};
pub(crate) use confine::{confine, limit_memory};

use crate::backend::{Birth, Facts};
use crate::context::{Args, Event};
use crate::error::{Error, Result};
use crate::moment::Moment;
use crate::spec::{For, Spec, validate};
use create::{Forked, create};
use nix::errno::Errno;
use runtime::{Channel, Got, Runtime};
use serve::{ask, op};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use wire::mapped::Mapped;
use wire::pair::{Pair, WORDS, kind};

static STATE: Mutex<Option<Box<Runtime>>> = Mutex::new(None);
/// Whether this process is the root: clone(2) needs to know.
static ROOT: AtomicBool = AtomicBool::new(true);

fn is_root_process() -> bool {
    ROOT.load(Ordering::Relaxed)
}

fn set_root_process(root: bool) {
    ROOT.store(root, Ordering::Relaxed);
}

/// The state, made on first use. EBUSY inside a signal handler that has
/// interrupted one of our own calls.
struct Guard(MutexGuard<'static, Option<Box<Runtime>>>);

impl Guard {
    fn get(call: &'static str) -> Result<Self> {
        let mut guard = match STATE.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                if single_threaded() {
                    return Err(Error::new(
                        call,
                        Errno::EBUSY,
                        "called from a signal handler in the middle of another call",
                    ));
                }
                STATE
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
            }
        };
        if guard.is_none() {
            *guard = Some(Box::new(Runtime::root().map_err(|e| e.of(call))?));
        }
        Ok(Self(guard))
    }

    /// For calls that a process with several threads is refused (1.5).
    fn alone(call: &'static str) -> Result<Self> {
        if !single_threaded() {
            return Err(Error::new(
                call,
                Errno::EBUSY,
                "the process has more than one thread; contexts belong to processes with one (see the README, limits)",
            ));
        }
        Self::get(call)
    }

    fn rt(&mut self) -> &mut Runtime {
        // Filled by `get`, and emptied only by fork(2) in the child.
        self.0.as_mut().expect("the state is filled on entry")
    }
}

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// glibc: not zero while the process has had one thread only.
    static mut __libc_single_threaded: libc::c_char;
}

/// Whether the process has one thread. The C library's own flag answers in
/// the common case; once there have been more, the kernel is asked.
fn single_threaded() -> bool {
    #[cfg(target_env = "gnu")]
    // SAFETY: a plain char that the C library keeps for programs to read.
    if unsafe { (&raw const __libc_single_threaded).read() } != 0 {
        return true;
    }
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // "pid (comm) state ppid …": field 20 is num_threads; comm may hold
    // anything, so count from its closing parenthesis.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(17))
        .is_none_or(|n| n == "1")
}

/// fork(2) happened: the child is a root of its own, without contexts.
fn reset_after_fork() {
    Runtime::forget_root();
    set_root_process(true);
    let mut guard = match STATE.try_lock() {
        Ok(g) => g,
        Err(TryLockError::Poisoned(p)) => p.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    if let Some(mut rt) = guard.take() {
        for c in std::mem::take(&mut rt.channels).into_iter().flatten() {
            fds::close(c.sock);
            // Pages were not inherited; doorbells that were stay mapped.
            std::mem::forget((c.pair, c.peer_bell));
        }
        fds::close(rt.bell_fd);
        // Shared memory stays as it is (6.3), and known.
        let objects = std::mem::take(&mut rt.objects);
        std::mem::forget(rt);
        if let Ok(mut fresh) = Runtime::root() {
            fresh.objects = objects;
            *guard = Some(Box::new(fresh));
        }
    }
}

/// The root exits: its contexts go first.
fn end_contexts() {
    if !is_root_process() {
        return;
    }
    if let Ok(mut guard) = STATE.try_lock()
        && let Some(rt) = guard.as_mut()
        // SAFETY: getpid has no preconditions.
        && rt.root_pid == unsafe { libc::getpid() }
    {
        registrar::kill_all(rt);
    }
}

/// lwCreate.
pub(crate) fn lw_create(specs: &[Spec], flags: u32) -> Result<Birth> {
    const CALL: &str = "lwCreate";
    validate(CALL, specs, For::Create)?;
    if flags & !lwc_sys::LWC_CREATE_FLAGS != 0 {
        return Err(Error::new(
            CALL,
            Errno::EINVAL,
            format!("flags {flags:#x} have bits that lwCreate does not know"),
        ));
    }
    let mut guard = Guard::alone(CALL)?;
    let made = if guard.rt().monitor.is_some() {
        nested::create(guard.rt(), specs, flags)?
    } else {
        create(guard.rt(), specs, flags)?
    };
    match made {
        Forked::Creator(fd) => Ok(Birth::Creator(fd)),
        Forked::New => {
            let got = guard.rt().park(None);
            if let Some(root) = guard.rt().channel(0) {
                root.out().entered.store(1, Ordering::Relaxed);
            }
            arrive(guard.rt(), got).map(Birth::New)
        }
    }
}

/// What a switch brought, in terms of descriptors. The caller's descriptor is
/// booked the first time it comes this way.
fn arrive(rt: &mut Runtime, got: Got) -> Result<Event> {
    let args = |words: &[u64; WORDS], count| {
        // SAFETY: all of them have values.
        unsafe { Args::first(count, &words.map(MaybeUninit::new)) }
    };
    match got {
        Got::Timeout => Err(Error::new(
            "lwSwitch",
            Errno::ETIMEDOUT,
            "nobody switched back in time",
        )),
        Got::Called { from, words } => Ok(Event::called(known_as(rt, from)?, &words)),
        Got::Ended { words, count } => Ok(Event::ended(&words[..count])),
        Got::Baton { from, words, count } => {
            let from = match from {
                Some(index) => Some(known_as(rt, index)?),
                None => None,
            };
            Ok(Event::switched(from, args(&words, count)))
        }
    }
}

/// The descriptor by which the current context knows a channel's peer.
fn known_as(rt: &mut Runtime, index: usize) -> Result<RawFd> {
    let gone = || Error::new("lwSwitch", Errno::ESRCH, "the caller is gone");
    let c = rt.channel(index).ok_or_else(gone)?;
    if c.held {
        return Ok(c.desc);
    }
    let (peer, booked) = (c.peer, c.booked);
    // A better descriptor of the same context serves (3.3); only where its
    // identity is beyond doubt, that is, was not told by a third party.
    if c.vouched {
        let better = rt
            .channels
            .iter()
            .flatten()
            .find(|c| c.held && c.vouched && c.peer == peer);
        if let Some(better) = better {
            return Ok(better.desc);
        }
    }
    if !booked {
        let id = rt.id;
        hold(rt, id, peer)?;
    }
    let c = rt.channel(index).ok_or_else(gone)?;
    c.booked = true;
    c.hold(true);
    Ok(c.desc)
}

/// Books a descriptor of `target` for `holder`.
fn hold(rt: &mut Runtime, holder: u64, target: u64) -> Result<()> {
    if let Some(book) = rt.book.as_mut() {
        book.hold(holder, target);
        return Ok(());
    }
    ask(rt, "lwSwitch", 0, &[op::HOLD, holder, target], &[], &[]).map(drop)
}

/// Passes the baton. False in `keep`: the current context is no more.
fn pass(rt: &mut Runtime, call: &'static str, to: RawFd, words: &[u64], keep: bool) -> Result<()> {
    if words.len() > WORDS {
        return Err(Error::new(
            call,
            Errno::EINVAL,
            format!(
                "{} words, at most {WORDS} travel with a switch",
                words.len()
            ),
        ));
    }
    if to >= 0 && to == rt.self_desc {
        return Err(Error::new(
            call,
            Errno::EINVAL,
            "a context cannot switch to itself",
        ));
    }
    let index = rt.find(call, to)?;
    rt.alive(call, index)?;
    let awaits = rt.channel(index).map_or(0, |c| c.peer_bell.awaits());
    if awaits != 0 && awaits != rt.id {
        return Err(Error::new(
            call,
            Errno::EBUSY,
            format!(
                "it waits for the answer to a system call, which only context {awaits} may give"
            ),
        ));
    }
    rt.expected = index;
    let peer = rt.channels[index].as_ref().map_or(0, |c| c.peer);
    let turn = rt.bell.give(peer, 0);
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(call, Errno::EBADF, "no such context"));
    };
    let half = c.out();
    half.turn.store(turn, Ordering::Relaxed);
    half.put_words(words);
    half.count.store(words.len() as u32, Ordering::Relaxed);
    half.publish(if keep { kind::BATON } else { kind::LAST_BATON });
    c.ring();
    Ok(())
}

/// ENOTSUP for a deadline where the sandbox knows no sleep with one.
fn no_deadline(deadline: Option<Moment>) -> Result<()> {
    if deadline.is_some() && confine::sleeps_unlimited() {
        return Err(Error::new(
            "lwSwitch",
            Errno::ENOTSUP,
            "in the strict sandbox, on the process backend, a context waits without a deadline; let whoever switched to it have one",
        ));
    }
    Ok(())
}

/// lwSwitch, with an optional end of patience.
pub(crate) fn lw_switch(to: RawFd, words: &[u64], deadline: Option<Moment>) -> Result<Event> {
    let mut guard = Guard::alone("lwSwitch")?;
    let rt = guard.rt();
    let deadline = deadline.filter(|&d| d != Moment::NEVER);
    no_deadline(deadline)?;
    pass(rt, "lwSwitch", to, words, true)?;
    let got = rt.park(deadline);
    if matches!(got, Got::Timeout) {
        rt.bell.take_back();
    }
    arrive(rt, got)
}

/// lwDiscardSwitch. Returns on failure alone.
pub(crate) fn lw_discard_switch(to: RawFd, words: &[u64]) -> Error {
    let mut guard = match Guard::alone("lwDiscardSwitch") {
        Ok(guard) => guard,
        Err(e) => return e,
    };
    let rt = guard.rt();
    if rt.is_root() {
        if let Err(e) = pass(rt, "lwDiscardSwitch", to, words, false) {
            return e;
        }
        // The root's process stays, as the shell around the others.
        rt.anchor = true;
        rt.bell.set_dead(registrar::EXITED | registrar::ANCHORED);
        loop {
            if rt.book.as_ref().is_none_or(|b| b.count() <= 1) {
                // SAFETY: no context is left.
                unsafe { libc::_exit(0) };
            }
            rt.park(None);
        }
    }
    if let Some(root) = rt.channel(0) {
        root.out().leaving.store(1, Ordering::Relaxed);
    }
    if let Err(e) = pass(rt, "lwDiscardSwitch", to, words, false) {
        if let Some(root) = rt.channel(0) {
            root.out().leaving.store(0, Ordering::Relaxed);
        }
        return e;
    }
    // SAFETY: this context is no more; its process has nothing left to do.
    unsafe { libc::_exit(0) }
}

/// lwRestrict; no descriptor is LWC_SELF.
pub(crate) fn lw_restrict(of: Option<RawFd>, specs: &[Spec]) -> Result<()> {
    const CALL: &str = "lwRestrict";
    validate(CALL, specs, For::Restrict)?;
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    let Some(fd) = of.filter(|&fd| fd != rt.self_desc || fd < 0) else {
        rt.cap.restrict(specs);
        return Ok(());
    };
    let index = rt.find(CALL, fd)?;
    ask(
        rt,
        CALL,
        index,
        &[op::RESTRICT],
        &serve::encode_specs(specs),
        &[],
    )?;
    if let Some(c) = rt.channel(index) {
        c.mine.restrict(specs);
    }
    Ok(())
}

/// lwOverlay; no descriptor is LWC_SELF.
pub(crate) fn lw_overlay(source: Option<RawFd>, specs: &[Spec]) -> Result<()> {
    const CALL: &str = "lwOverlay";
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    let Some(fd) = source.filter(|&fd| fd != rt.self_desc || fd < 0) else {
        validate(CALL, specs, For::OverlaySelf)?;
        return overlay::drop_own(rt, specs);
    };
    validate(CALL, specs, For::Overlay)?;
    if rt.monitor.is_some() {
        return Err(Error::new(
            CALL,
            Errno::EPERM,
            "the system calls of this context are trapped; on the process backend it cannot overlay",
        ));
    }
    if !single_threaded() {
        return Err(Error::new(CALL, Errno::EBUSY, "more than one thread"));
    }
    let index = rt.find(CALL, fd)?;
    overlay::borrow(rt, index, specs)
}

/// lwInfo; no descriptor is LWC_SELF.
pub(crate) fn lw_info(of: Option<RawFd>) -> Result<Facts> {
    const CALL: &str = "lwInfo";
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    if rt.is_root() {
        rt.bury();
    }
    let (id, rights) = match of.filter(|&fd| fd != rt.self_desc || fd < 0) {
        None => (rt.id, rt.cap.types()),
        Some(fd) => {
            let index = rt.find(CALL, fd)?;
            let c = rt.channels[index].as_ref();
            c.map_or((0, 0), |c| (c.peer, c.mine.types()))
        }
    };
    let words = if rt.is_root() {
        info::info_words(rt, id)
    } else {
        let answer = ask(rt, CALL, 0, &[op::INFO, id], &[], &[])?;
        let mut words = [0; 8];
        words.copy_from_slice(&answer.words[..8]);
        words
    };
    Ok(Facts {
        id,
        creator: words[0],
        flags: words[1] as u32,
        state: words[2] as u32,
        rights,
        contexts: words[3],
        resident: words[4],
        private: words[5],
    })
}

/// lwGetlwc.
pub(crate) fn lw_getlwc() -> Result<RawFd> {
    const CALL: &str = "lwGetlwc";
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    if rt.self_desc < 0 && rt.monitor.is_some() {
        rt.self_desc = nested::OWN_NUMBER;
    }
    if rt.self_desc < 0 {
        // SAFETY: duplicates a descriptor of our own, only for its number.
        let fd = unsafe { libc::fcntl(rt.bell_fd, libc::F_DUPFD_CLOEXEC, 0) };
        if fd < 0 {
            return Err(Error::last(CALL, "a descriptor of the current context"));
        }
        rt.self_desc = fds::high(fd)?;
    }
    Ok(rt.self_desc)
}

/// One more descriptor of a context, with the same rights from then on its own.
pub(crate) fn lw_dup(fd: RawFd) -> Result<RawFd> {
    const CALL: &str = "dup";
    let mut guard = Guard::alone(CALL)?;
    let rt = guard.rt();
    let index = rt.find(CALL, fd)?;
    rt.alive(CALL, index)?;
    if rt.monitor.is_some() {
        return Err(Error::new(
            CALL,
            Errno::EPERM,
            "the system calls of this context are trapped; on the process backend it gets no further descriptors",
        ));
    }
    rt.sweep();
    let number = rt.free_channel();
    let (id, bell) = (rt.id, rt.bell_fd);
    let (sock, page) = create::introduce(rt, index, id, bell)?;
    let pair = Mapped::<Pair>::map(page);
    fds::close(page);
    let pair = pair.inspect_err(|_| fds::close(sock))?;
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(CALL, Errno::EBADF, "no such context"));
    };
    let (peer, mine, vouched) = (c.peer, c.mine.clone(), c.vouched);
    // A second mapping of the peer's doorbell, which the first may outlive.
    let bell = c.peer_bell.again().inspect_err(|_| fds::close(sock))?;
    bell.inherit(false);
    let mut twin = Channel::new(peer, sock, pair, 0, bell);
    twin.vouched = vouched;
    twin.mine = mine;
    twin.hold(true);
    rt.put_channel(number, twin);
    hold(rt, id, peer)?;
    Ok(sock)
}

/// close(2) of a context's descriptor.
pub(crate) fn lw_close(fd: RawFd) -> Result<()> {
    const CALL: &str = "close";
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    if fd >= 0 && fd == rt.self_desc {
        if fd != nested::OWN_NUMBER {
            fds::close(fd);
        }
        rt.self_desc = -1;
        return Ok(());
    }
    let index = rt.find(CALL, fd)?;
    let Some(c) = rt.channel(index) else {
        return Ok(());
    };
    c.hold(false);
    let (peer, dead) = (c.peer, c.peer_dead());
    if !dead {
        let id = rt.id;
        if rt.is_root() {
            registrar::unhold(rt, id, peer);
        } else {
            // A root that does not answer is as good as gone.
            let _ = ask(rt, CALL, 0, &[op::UNHOLD, peer], &[], &[]);
        }
    }
    if rt.channels[index].as_ref().is_some_and(Channel::unused)
        && let Some(c) = rt.channels[index].take()
    {
        c.close();
    }
    rt.sweep();
    Ok(())
}

/// Waits for a switch here, once more.
pub(crate) fn await_switch(deadline: Moment) -> Result<Event> {
    let mut guard = Guard::alone("lwSwitch")?;
    let deadline = Some(deadline).filter(|&d| d != Moment::NEVER);
    no_deadline(deadline)?;
    let rt = guard.rt();
    rt.bell.wait_on();
    let got = rt.park(deadline);
    if matches!(got, Got::Timeout) {
        rt.bell.take_back();
    }
    arrive(rt, got)
}

/// Ends a context whoever else names it. It runs no more when the call
/// returns if `wait`, or a moment later.
pub(crate) fn destroy(fd: RawFd, wait: bool) -> Result<()> {
    const CALL: &str = "destroy";
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    let index = rt.find(CALL, fd)?;
    let id = rt.channels[index].as_ref().map_or(0, |c| c.peer);
    if id == 1 {
        return Err(Error::new(CALL, Errno::EPERM, "the root cannot be ended"));
    }
    if rt.is_root() && !wait {
        registrar::kill(rt, id);
        return Ok(());
    }
    destroy_id(rt, id)
}

/// Introduces two contexts to each other.
pub(crate) fn introduce(to: RawFd, whom: RawFd) -> Result<RawFd> {
    let mut guard = Guard::alone("introduce")?;
    introduce::introduce(guard.rt(), to, whom)
}

/// Whether contexts wait to be switched to, all at one moment.
pub(crate) fn parked_together(of: &[RawFd], patient: bool) -> Result<Vec<bool>> {
    let mut guard = Guard::get("parked")?;
    parked::parked(guard.rt(), of, patient)
}

/// Whether a context waits to be switched to, by the kernel's word.
pub(crate) fn parked(of: RawFd) -> Result<bool> {
    const CALL: &str = "parked";
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    let index = rt.find(CALL, of)?;
    rt.alive(CALL, index)?;
    let Some(bell) = rt.channel(index).map(|c| &c.peer_bell) else {
        return Err(Error::new(CALL, Errno::EBADF, "no such context"));
    };
    let since = Moment::now();
    while !bell.is_asleep() {
        let patience = if bell.is_ringing() {
            runtime::RINGING
        } else {
            runtime::GOING_TO_SLEEP
        };
        if since.elapsed() >= patience {
            return Ok(false);
        }
        std::thread::yield_now();
    }
    Ok(true)
}

fn destroy_id(rt: &mut Runtime, id: u64) -> Result<()> {
    if rt.is_root() {
        registrar::destroy(rt, id);
        return Ok(());
    }
    ask(rt, "destroy", 0, &[op::DESTROY, id], &[], &[]).map(drop)
}

/// See [`Region::new`](crate::Region::new).
pub(crate) fn region_map(len: usize) -> Result<NonNull<u8>> {
    let mut guard = Guard::get("Region::new")?;
    memory::map_region(&mut guard.rt().objects, len)
}

/// Unmaps a region that the current context still has.
pub(crate) fn region_unmap(addr: usize, len: usize) {
    let Ok(mut guard) = Guard::get("Region") else {
        return;
    };
    let objects = &mut guard.rt().objects;
    let (start, end) = (addr as u64, (addr + len) as u64);
    objects.forget(start, end);
    // SAFETY: the addresses belong to the region, mapped or reserved, until
    // this moment, when its last user gives them up.
    unsafe { libc::munmap(addr as *mut libc::c_void, len) };
}

/// See [`Region::erase`](crate::Region::erase).
pub(crate) fn region_erase(addr: usize, len: usize) -> Result<()> {
    let mut guard = Guard::get("Region::erase")?;
    memory::erase(&guard.rt().objects, addr as u64, (addr + len) as u64);
    Ok(())
}

/// See [`Region::seal`](crate::Region::seal).
pub(crate) fn region_seal(addr: usize, len: usize) -> Result<()> {
    let mut guard = Guard::get("Region::seal")?;
    memory::seal(&guard.rt().objects, addr as u64, (addr + len) as u64)
}

/// See [`Region::make_read_only`](crate::Region::make_read_only).
pub(crate) fn region_read_only(addr: usize, len: usize) -> Result<()> {
    let mut guard = Guard::get("Region::make_read_only")?;
    memory::read_only(&guard.rt().objects, addr as u64, (addr + len) as u64)
}
