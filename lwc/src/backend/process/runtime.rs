//! The state of the current context and its wait loop.

use super::alarm::Alarm;
use super::fds;
use super::memory::Objects;
use super::nested::Nursery;
use super::registrar::Book;
use super::rights::Rights;
use super::trap::{Bond, Monitor};
use super::window;
use super::wire::bell::{OwnBell, PeerBell, Registered};
use super::wire::mapped::{Mapped, seal_writes};
use super::wire::pair::{Half, Pair, WORDS, kind};
use crate::error::{Error, Result};
use crate::moment::Moment;
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long an owner may take to answer a request before it counts as hostile.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where one table belongs to several contexts, an end of a channel does not
/// close with the context that it is of: they look around this often instead.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long until one that was on its way to sleep is rung again, and how often.
const RING_AGAIN: Duration = Duration::from_millis(1);
const RINGS: u32 = 20;
/// How long a context may take from its hand-over to its sleep, and how long if
/// it says that it rings.
pub(super) const GOING_TO_SLEEP: Duration = Duration::from_millis(1);
pub(super) const RINGING: Duration = Duration::from_millis(25);

/// The signal that tells the root of the end of a context: not SIGCHLD, so
/// that the user's own children and handlers are left alone, and no real-time
/// signal: those are lost, or turned into SIGIO, which ends a process, when the
/// user has as many signals pending as RLIMIT_SIGPENDING allows. Nothing else
/// on Linux sends this one (signal(7): "unused").
pub(super) fn death_signal() -> i32 {
    libc::SIGSTKFLT
}

/// One end of a pair: what this context knows of another.
pub(super) struct Channel {
    pub(super) peer: u64,
    /// The number the user sees, when `held`.
    pub(super) desc: RawFd,
    pub(super) sock: RawFd,
    /// Whether the user holds a descriptor here.
    pub(super) held: bool,
    /// A context's channel to the root, which lives as long as the context.
    pub(super) root_line: bool,
    /// Made by the creator, in a table that is one with its own: it closes the
    /// socket there when this context is dead, and nobody before.
    pub(super) lent: bool,
    /// Whether the peer's identity comes from whoever made it, not from a
    /// third party that may lie.
    pub(super) vouched: bool,
    pub(super) pair: Mapped<Pair>,
    /// Which half of the pair is ours to write.
    pub(super) side: usize,
    /// Sequence number of the last message read.
    pub(super) seen: u32,
    pub(super) peer_bell: PeerBell,
    /// The root's: where it writes that the peer is dead.
    pub(super) registered: Option<Registered>,
    /// How the peer ended, as the root's own book has it.
    pub(super) dead: Option<u32>,
    /// The peer is in the strict sandbox: it is served nothing any more.
    pub(super) sealed: bool,
    /// The root has booked that we hold the peer, whether the user does or not.
    pub(super) booked: bool,
    /// The peer was on its way to sleep when it was rung, all the time.
    pub(super) unrung: bool,
    /// What the peer may get of me by this channel.
    pub(super) granted: Rights,
    /// What I may get of the peer, as far as I know; the peer decides.
    pub(super) mine: Rights,
    /// Descriptors in a shared table that belong to the peer.
    pub(super) foreign: Vec<RawFd>,
    /// What it means where system calls are trapped.
    pub(super) bond: Bond,
}

impl Channel {
    /// A channel to `peer` that the user does not hold, without rights.
    pub(super) fn new(
        peer: u64,
        sock: RawFd,
        pair: Mapped<Pair>,
        side: usize,
        bell: PeerBell,
    ) -> Self {
        pair.inherit(false);
        Self {
            peer,
            desc: sock,
            sock,
            held: false,
            root_line: false,
            lent: false,
            vouched: true,
            pair,
            side,
            seen: 0,
            peer_bell: bell,
            registered: None,
            dead: None,
            sealed: false,
            booked: false,
            unrung: false,
            granted: Rights::none(),
            mine: Rights::none(),
            foreign: Vec::new(),
            bond: Bond::default(),
        }
    }
    pub(super) fn out(&self) -> &Half {
        &self.pair.halves[self.side]
    }
    pub(super) fn inn(&self) -> &Half {
        &self.pair.halves[1 - self.side]
    }
    /// Wakes the peer for what has just been published.
    pub(super) fn ring(&mut self) {
        self.unrung = !self.peer_bell.ring();
    }
    /// How the peer ended; 0 while it lives. In the root its book's word, else
    /// what stands on the peer's doorbell.
    pub(super) fn end(&self) -> u32 {
        match (self.dead, &self.registered) {
            (Some(how), _) => how,
            (None, Some(_)) => 0,
            (None, None) => self.peer_bell.dead(),
        }
    }
    pub(super) fn peer_dead(&self) -> bool {
        self.end() != 0
    }
    /// The user holds a descriptor here now, or no longer.
    pub(super) fn hold(&mut self, yes: bool) {
        self.held = yes;
        let stays = yes || self.bond.monitor;
        self.out().held.store(stays.into(), Ordering::Relaxed);
    }
    /// Whether no message can come here any more: the user does not hold it,
    /// and the peer is dead or has closed its end. (Of that a hostile peer can
    /// only lie to its own harm.)
    fn useless(&self) -> bool {
        let gone = || {
            !self.root_line && !self.bond.monitor && self.inn().gone.load(Ordering::Relaxed) != 0
        };
        !self.held && (self.peer != 1 && self.peer_dead() || gone())
    }
    /// Whether a channel that the user has just closed can go: the peer holds
    /// nothing here either. Between a channel's making and its holder's saying
    /// so both calls of the current context are over, so this is final.
    pub(super) fn unused(&self) -> bool {
        !self.held
            && !self.root_line
            && !self.bond.monitor
            && self.inn().held.load(Ordering::Relaxed) == 0
    }
    /// Frees what the channel has in this context.
    pub(super) fn close(self) {
        self.out().gone.store(1, Ordering::Relaxed);
        if !self.lent {
            fds::close(self.sock);
        }
        self.foreign.iter().for_each(|&fd| fds::close(fd));
    }
}

/// The current context.
pub(super) struct Runtime {
    pub(super) id: u64,
    pub(super) creator: u64,
    pub(super) flags: u32,
    pub(super) root_pid: i32,
    pub(super) bell: OwnBell,
    /// The same as others have it: contexts made here inherit it.
    pub(super) bell_of_creator: PeerBell,
    /// The root's bell, which contexts made here inherit, too; none in the root
    /// itself.
    pub(super) root_bell: Option<PeerBell>,
    /// The channel that was last handed over to: its news is looked for first.
    pub(super) expected: usize,
    /// By number; in a context other than the root, 0 is the root.
    pub(super) channels: Vec<Option<Channel>>,
    /// What anybody may get of this context at most (LWC_SELF).
    pub(super) cap: Rights,
    pub(super) objects: Objects,
    /// The root's register of all contexts.
    pub(super) book: Option<Book>,
    /// A descriptor of the current context, once asked for.
    pub(super) self_desc: RawFd,
    /// Whether the descriptor table is one with the creator's, or some contexts
    /// here have one together.
    pub(super) shared_table: bool,
    /// The root has discarded itself: the process lives on for the others.
    pub(super) anchor: bool,
    /// To hand the doorbell to new holders.
    pub(super) bell_fd: RawFd,
    /// Who the system calls go to, where they are trapped.
    pub(super) monitor: Option<Monitor>,
    /// Pages for contexts that a trapped one makes.
    pub(super) nursery: Option<Nursery>,
    /// In a context that a trapped one made: a socket of its maker's whose
    /// other end is the root's.
    pub(super) line: RawFd,
    /// A trapped call has perhaps interrupted the C library's allocator.
    pub(super) fragile: bool,
    /// The root's, for waits with a deadline.
    alarm: Alarm,
}

// SAFETY: the raw mappings and counted files inside belong to this state
// alone, and every access to it goes through one mutex.
unsafe impl Send for Runtime {}

/// Whether fork(3) and exit(3) know of us.
static HOOKED: AtomicBool = AtomicBool::new(false);
/// Set by the signal that tells of a death.
static DEATHS: AtomicBool = AtomicBool::new(false);
/// The current context's doorbell, for that signal's handler.
static OWN_WORD: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());

/// Set when it tells a context that the root is no more, or another program.
static HUNG_UP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_death(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo. Of the codes that other
    // processes can send with a signal, none is positive.
    if unsafe { (*info).si_code } == fds::POLL_HUP {
        HUNG_UP.store(true, Ordering::Relaxed);
    }
    DEATHS.store(true, Ordering::Release);
    let word = OWN_WORD.load(Ordering::Relaxed);
    if !word.is_null() {
        // SAFETY: points into the context's own bell, which is never unmapped
        // while this is not null; an atomic add is safe in a signal handler. It
        // makes a FUTEX_WAIT that is about to begin return at once, and leaves
        // the count odd, as it is then. (While the owner is awake it stays
        // even.)
        unsafe { (*word).fetch_add(2, Ordering::Release) };
    }
}

/// What ended a wait.
pub(super) enum Got {
    /// Somebody switched here; the channel, unless it is no more.
    Baton {
        from: Option<usize>,
        words: [u64; WORDS],
        count: usize,
    },
    /// A context trapped by this one called the system.
    Called { from: usize, words: [u64; WORDS] },
    /// A context created here ended.
    Ended { words: [u64; WORDS], count: usize },
    /// The deadline passed.
    Timeout,
}

impl Runtime {
    /// The root context of this process.
    pub(super) fn root() -> Result<Self> {
        let fd = Mapped::<super::wire::bell::Bell>::file(c"lwc-bell")?;
        let (bell, bell_of_creator) = own_bell(fd).inspect_err(|_| fds::close(fd))?;
        bell.receive(1);
        OWN_WORD.store(bell.word(), Ordering::Relaxed);
        // SAFETY: installs a handler that touches atomics alone; the struct is
        // fully initialised.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_death as *const () as usize;
            action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO;
            libc::sigaction(death_signal(), &raw const action, std::ptr::null_mut());
            // Once in a program: a forked child inherits both.
            if !HOOKED.swap(true, Ordering::Relaxed) {
                libc::pthread_atfork(None, None, Some(after_fork));
                libc::atexit(at_exit);
            }
        }
        Ok(Self {
            id: 1,
            creator: 0,
            flags: 0,
            // SAFETY: getpid has no preconditions.
            root_pid: unsafe { libc::getpid() },
            bell,
            bell_of_creator,
            root_bell: None,
            expected: 0,
            channels: Vec::new(),
            cap: Rights::all(),
            objects: Objects::default(),
            book: Some(Book::new()),
            self_desc: -1,
            shared_table: false,
            anchor: false,
            bell_fd: fd,
            monitor: None,
            nursery: None,
            line: -1,
            fragile: false,
            alarm: Alarm::default(),
        })
    }

    /// No longer the root: its bell is not ours.
    pub(super) fn forget_root() {
        OWN_WORD.store(std::ptr::null_mut(), Ordering::Relaxed);
        DEATHS.store(false, Ordering::Relaxed);
        HUNG_UP.store(false, Ordering::Relaxed);
    }

    /// The bell has been replaced by a new context's own.
    pub(super) fn hear_own_bell(&self) {
        OWN_WORD.store(self.bell.word(), Ordering::Relaxed);
    }

    /// Numbers that are the backend's, in order, or name contexts: user
    /// specifiers pass over them.
    pub(super) fn own_descriptors(&self) -> Vec<RawFd> {
        let mut all: Vec<RawFd> = self
            .channels
            .iter()
            .flatten()
            .flat_map(|c| [c.sock, c.desc])
            .chain(self.objects.descriptors())
            .chain(
                self.channels
                    .iter()
                    .flatten()
                    .flat_map(|c| [&c.bond.listener, &c.bond.nursery])
                    .filter_map(|f| f.as_ref().map(|f| f.0)),
            )
            .chain(self.book.iter().flat_map(Book::descriptors))
            .chain([self.bell_fd, self.self_desc, self.line])
            .filter(|&fd| fd >= 0)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(super) fn is_root(&self) -> bool {
        self.book.is_some()
    }

    pub(super) fn channel(&mut self, index: usize) -> Option<&mut Channel> {
        self.channels.get_mut(index).and_then(Option::as_mut)
    }

    /// Stores a channel at the first free number.
    pub(super) fn add_channel(&mut self, channel: Channel) -> usize {
        let free = self.free_channel();
        self.put_channel(free, channel);
        free
    }

    /// The first free channel number.
    pub(super) fn free_channel(&self) -> usize {
        self.channels
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.channels.len())
    }

    pub(super) fn put_channel(&mut self, index: usize, channel: Channel) {
        if index >= self.channels.len() {
            self.channels.resize_with(index + 1, || None);
        }
        // The pages' first use costs a fault each: now, not at a switch.
        for half in &channel.pair.halves {
            half.seq.load(Ordering::Relaxed);
        }
        channel.peer_bell.touch();
        self.channels[index] = Some(channel);
    }

    /// The channel of a descriptor the user holds.
    pub(super) fn find(&self, call: &'static str, desc: RawFd) -> Result<usize> {
        self.channels
            .iter()
            .position(|c| c.as_ref().is_some_and(|c| c.held && c.desc == desc))
            .ok_or_else(|| {
                Error::new(
                    call,
                    Errno::EBADF,
                    format!("descriptor {desc} names no context"),
                )
            })
    }

    /// ESRCH, with how it ended, if the peer is dead.
    pub(super) fn alive(&mut self, call: &'static str, index: usize) -> Result<()> {
        self.answers(call, index, false)
    }

    /// The same for a request: a root that discarded itself keeps the book.
    pub(super) fn answers(&mut self, call: &'static str, index: usize, book: bool) -> Result<()> {
        if self.is_root() && DEATHS.load(Ordering::Relaxed) {
            self.bury();
        }
        let Some(c) = self.channel(index) else {
            return Err(Error::new(call, Errno::EBADF, "no such context"));
        };
        match c.end() {
            0 => Ok(()),
            status if book && status & super::registrar::ANCHORED != 0 => Ok(()),
            status => Err(Error::new(
                call,
                Errno::ESRCH,
                format!("context {} is dead: {}", c.peer, describe_end(status)),
            )),
        }
    }

    /// Buries the dead while the root itself is current.
    pub(super) fn bury(&mut self) {
        DEATHS.store(false, Ordering::Relaxed);
        // The root is current here, so no death can concern the baton.
        let _ = super::registrar::reap(self);
    }

    /// Frees channels that are of no more use.
    pub(super) fn sweep(&mut self) {
        for slot in &mut self.channels {
            if slot.as_ref().is_some_and(Channel::useless)
                && let Some(c) = slot.take()
            {
                c.close();
            }
        }
    }

    /// Whether the message in a channel's half is new, and of what kind.
    fn news(&self, index: usize) -> Option<(u32, u32)> {
        let c = self.channels.get(index)?.as_ref()?;
        // In one order with the writer's count of its doorbell ([`Bell`]).
        let seq = c.inn().seq.load(Ordering::SeqCst);
        (seq != c.seen).then(|| (seq, c.inn().kind.load(Ordering::Relaxed)))
    }

    /// A channel with news, the one that is waited for first.
    fn any_news(&self) -> Option<usize> {
        let new = |i: &usize| self.news(*i).is_some();
        Some(self.expected)
            .filter(new)
            .or_else(|| (0..self.channels.len()).find(new))
    }

    /// Takes one message if there is one: a baton, an end, or a request, which
    /// is answered here and now.
    fn take(&mut self, index: usize) -> Option<Got> {
        let (seq, kind) = self.news(index)?;
        let not_root = !self.is_root();
        let c = self.channels[index].as_mut()?;
        c.seen = seq;
        let half = &c.pair.halves[1 - c.side];
        let count = (half.count.load(Ordering::Relaxed) as usize).min(WORDS);
        let turn = half.turn.load(Ordering::Relaxed);
        let got = match kind {
            kind::BATON | kind::LAST_BATON => Got::Baton {
                from: (kind == kind::BATON).then_some(index),
                words: half.take_some_words(count),
                count,
            },
            kind::CALL if c.bond.ward => Got::Called {
                from: index,
                words: half.take_words(),
            },
            // From one whose calls are not ours it is a switch like any other.
            kind::CALL => Got::Baton {
                from: Some(index),
                words: half.take_some_words(count),
                count,
            },
            kind::TRAP if index == 0 && not_root => Got::Ended {
                words: half.take_words(),
                count,
            },
            kind::REQUEST => {
                super::serve::serve(self, index);
                return None;
            }
            _ => return None, // an answer nobody waits for any more
        };
        self.bell.receive(turn);
        Some(got)
    }

    /// Waits for the baton. Requests are served meanwhile; deaths are seen to
    /// if this is the root.
    pub(super) fn park(&mut self, deadline: Option<Moment>) -> Got {
        loop {
            if DEATHS.load(Ordering::Relaxed)
                && DEATHS.swap(false, Ordering::Acquire)
                && let Some(got) = self.look_around()
            {
                return got;
            }
            if let Some(index) = self.any_news() {
                if let Some(got) = self.take(index) {
                    return got;
                }
                continue;
            }
            let watch = self.shared_table || self.is_nested();
            let heartbeat = watch.then_some(HEARTBEAT);
            let mut limit = match deadline {
                None => heartbeat,
                Some(d) => {
                    let now = Moment::now();
                    if now >= d {
                        return Got::Timeout;
                    }
                    if self.is_root() && self.alarm.covers(now, d) {
                        heartbeat
                    } else {
                        Some(d.since(now).min(heartbeat.unwrap_or(Duration::MAX)))
                    }
                }
            };
            if self.ring_again() {
                if super::confine::sleeps_unlimited() {
                    self.ring_on();
                    continue;
                }
                limit = Some(limit.unwrap_or(RING_AGAIN).min(RING_AGAIN));
            }
            // Only now: with both sides on one processor the answer is mostly
            // there before the one who asked comes to wait.
            self.keep_informed();
            let slept = self.sleep(limit, Self::any_news);
            if watch && slept {
                DEATHS.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Rings those again that were on their way to sleep, in a sandbox that
    /// knows no sleep with a limit. Whoever says all the time that it sleeps and
    /// does not is hostile, and not worth waiting for.
    fn ring_on(&mut self) {
        self.bell.set_ringing(true);
        for _ in 0..RINGS {
            std::thread::sleep(RING_AGAIN);
            if self.any_news().is_some() || !self.ring_again() {
                break;
            }
        }
        self.channels
            .iter_mut()
            .flatten()
            .for_each(|c| c.unrung = false);
        self.bell.set_ringing(false);
    }

    /// Says that we sleep, looks once more, and sleeps. False: there was news.
    fn sleep<T>(&self, limit: Option<Duration>, news: impl Fn(&Self) -> Option<T>) -> bool {
        let dozed = self.bell.doze();
        let quiet = !DEATHS.load(Ordering::SeqCst) && news(self).is_none();
        if quiet {
            self.bell.sleep(dozed, limit);
        }
        self.bell.rise(dozed);
        quiet
    }

    /// Rings those again that were on their way to sleep. True: some still are.
    fn ring_again(&mut self) -> bool {
        let mut any = false;
        for c in self.channels.iter_mut().flatten().filter(|c| c.unrung) {
            c.ring();
            any |= c.unrung && !c.peer_dead();
        }
        any
    }

    /// Before a wait: the user may have blocked the signal that ends it when a
    /// context dies. Changed credentials make the kernel forget the other one,
    /// with which a context dies as its root does; then the first tells of
    /// that, too.
    fn keep_informed(&self) {
        // The kernel's own set, not the C library's: one system call is most
        // of what a switch costs beside the two of the futex.
        let set = 1u64 << (death_signal() - 1);
        // SAFETY: reads the local set, of the size given, and changes the mask.
        unsafe {
            window::own([
                libc::SYS_rt_sigprocmask as u64,
                libc::SIG_UNBLOCK as u64,
                &raw const set as u64,
                0,
                size_of::<u64>() as u64,
                0,
                0,
            ]);
        }
    }

    /// The signal has come: somebody has died or replaced its program.
    fn look_around(&mut self) -> Option<Got> {
        if self.is_root() {
            let got = super::registrar::reap(self);
            if got.is_some() {
                // Signals do not queue: there may be more.
                DEATHS.store(true, Ordering::Relaxed);
            } else {
                super::registrar::follow_exec(self);
            }
            return got;
        }
        // SAFETY: getppid has no preconditions.
        let orphan = unsafe { libc::getppid() } != self.root_pid || self.line_is_cut();
        if orphan || HUNG_UP.load(Ordering::Relaxed) {
            // SAFETY: the process this context belongs to is gone.
            unsafe { libc::_exit(0) };
        }
        None
    }

    /// Waits for the answer on one channel; its errno becomes the error.
    pub(super) fn answer(&mut self, call: &'static str, index: usize, book: bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some((seq, kind::REPLY)) = self.news(index) {
                let Some(c) = self.channel(index) else {
                    return Err(Error::new(call, Errno::EBADF, "no such context"));
                };
                c.seen = seq;
                let errno = c.inn().errno.load(Ordering::Relaxed);
                if errno == 0 {
                    return Ok(());
                }
                let text = String::from_utf8_lossy(
                    &self.channels[index]
                        .as_ref()
                        .map(|c| c.inn().payload())
                        .unwrap_or_default(),
                )
                .into_owned();
                return Err(Error::new(call, Errno::from_raw(errno as i32), text));
            }
            if self.is_root() && DEATHS.load(Ordering::Relaxed) {
                self.bury();
            }
            self.answers(call, index, book)?;
            let now = Instant::now();
            if now >= deadline {
                return Err(Error::new(
                    call,
                    Errno::ETIMEDOUT,
                    format!(
                        "the context does not answer within {} s",
                        PATIENCE.as_secs()
                    ),
                ));
            }
            let mut limit = (deadline - now).min(Duration::from_millis(200));
            if self.ring_again() {
                limit = limit.min(RING_AGAIN);
            }
            // What else comes meanwhile is looked for at the next park.
            let limit = (!super::confine::sleeps_unlimited()).then_some(limit);
            self.sleep(limit, |rt| match rt.news(index) {
                Some((_, kind::REPLY)) => Some(()),
                _ => None,
            });
        }
    }
}

/// The owner's doorbell of a new file, and the same as others have it.
pub(super) fn own_bell(fd: RawFd) -> Result<(OwnBell, PeerBell)> {
    let bell = OwnBell::new(Mapped::map(fd)?);
    seal_writes(fd)?;
    Ok((bell, PeerBell::map(fd)?))
}

/// How a context ended, from its bell's `dead` word: bit 16 with an exit
/// status, bit 17 with a signal.
pub(super) fn describe_end(status: u32) -> String {
    let low = (status & 0xffff) as i32;
    if status & (1 << 17) == 0 {
        return format!("exited with status {low}");
    }
    match nix::sys::signal::Signal::try_from(low) {
        Ok(signal) => format!("killed by {signal}"),
        Err(_) => format!("killed by signal {low}"),
    }
}

/// After fork(2) the child is a process of its own, with the current context
/// as its root and no context descriptors (6.3).
extern "C" fn after_fork() {
    super::reset_after_fork();
}

/// A root that exits takes its contexts along and leaves no zombie.
extern "C" fn at_exit() {
    super::end_contexts();
}
