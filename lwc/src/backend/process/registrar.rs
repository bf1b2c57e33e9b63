//! The root's book: every context of the process, who holds whom, and what a
//! death means.
//!
//! All contexts are children of the root's process (CLONE_PARENT), so that one
//! place sees every end. The book decides about life alone: identity, holders,
//! the end. It has no part in rights over memory, which each owner enforces.

use super::fds;
use super::memory::File;
use super::runtime::{Channel, Got, Runtime};
use super::wire::bell::{Bell, PeerBell, Registered};
use super::wire::mapped::{Mapped, seal_writes};
use super::wire::pair::{Pair, WORDS, kind};
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::atomic::Ordering;

const CALL: &str = "lwCreate";

/// Contexts in one process at most; `kern.lwc.max_contexts` of the module.
pub(super) const MAX_CONTEXTS: usize = 4096;

/// Bits of a bell's `dead` word.
pub(super) const EXITED: u32 = 1 << 16;
const SIGNALED: u32 = 1 << 17;
/// The root discarded itself; its process keeps the book all the same.
pub(super) const ANCHORED: u32 = 1 << 18;

/// Signals that a context brings upon itself (6.1).
const FAULTS: [i32; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
];

struct Entry {
    creator: u64,
    flags: u32,
    /// 0 until its creator has reported it.
    pid: i32,
    /// The root's channel to it.
    channel: usize,
    /// Descriptors on it, by holder.
    holders: BTreeMap<u64, u32>,
    /// Killed by us: its death is no news.
    doomed: bool,
    /// Pages for the contexts that it will make, if it is trapped.
    nursery: Option<Rc<File>>,
    /// Its doorbell's file, for those that are to ring it; none of those that
    /// trapped contexts make.
    bell: Option<File>,
}

/// The register of contexts.
pub(super) struct Book {
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

/// What a new context needs to reach the root.
pub(super) struct Registration {
    pub(super) id: u64,
    /// The root's channel number for it.
    pub(super) channel: usize,
    pub(super) sock: RawFd,
    pub(super) pair: RawFd,
    pub(super) bell: RawFd,
    /// If its calls are trapped, and its creator's are not.
    pub(super) nursery: Option<Rc<File>>,
}

impl Book {
    pub(super) fn new() -> Self {
        Self {
            next: 2,
            entries: BTreeMap::new(),
        }
    }

    /// Live contexts, the root included.
    pub(super) fn count(&self) -> usize {
        self.entries.len() + 1
    }

    pub(super) fn pid(&self, id: u64) -> Option<i32> {
        self.entries.get(&id).map(|e| e.pid)
    }

    /// The file of a live context's doorbell.
    pub(super) fn bell(&self, id: u64) -> Option<RawFd> {
        self.entries.get(&id)?.bell.as_ref().map(|b| b.0)
    }

    /// The root's channel to a live context.
    fn channel(&self, id: u64) -> Option<usize> {
        self.entries.get(&id).map(|e| e.channel)
    }

    /// Creator and flags of a live context.
    pub(super) fn origin(&self, id: u64) -> Option<(u64, u32)> {
        self.entries.get(&id).map(|e| (e.creator, e.flags))
    }

    /// Where a context's own contexts will have their pages.
    pub(super) fn nursery(&self, id: u64) -> Option<Rc<File>> {
        self.entries.get(&id)?.nursery.clone()
    }

    /// The nurseries of trapped contexts, and doorbells of the unborn.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        let nurseries = |e: &Entry| e.nursery.as_ref().map(|n| n.0);
        let bells = |e: &Entry| e.bell.as_ref().map(|b| b.0);
        let all = self.entries.values();
        all.flat_map(move |e| [nurseries(e), bells(e)]).flatten()
    }

    /// Whether a creator has booked a context that has no process yet.
    pub(super) fn is_making(&self, creator: u64) -> bool {
        self.entries
            .values()
            .any(|e| e.creator == creator && e.pid == 0)
    }

    /// One more descriptor on `target`.
    pub(super) fn hold(&mut self, holder: u64, target: u64) {
        if let Some(e) = self.entries.get_mut(&target) {
            *e.holders.entry(holder).or_default() += 1;
        }
    }

    /// One less.
    fn release(&mut self, holder: u64, target: u64) {
        if let Some(e) = self.entries.get_mut(&target)
            && let Some(n) = e.holders.get_mut(&holder)
        {
            *n -= 1;
            if *n == 0 {
                e.holders.remove(&holder);
            }
        }
    }

    /// Whether a context is one of `live`, or such a one has a descriptor of
    /// it, or of one that has one, and so on. Contexts that only name each
    /// other are not.
    fn named(&self, id: u64, live: [u64; 2]) -> bool {
        let mut seen = BTreeSet::from([id]);
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            if live.contains(&id) {
                return true;
            }
            if let Some(e) = self.entries.get(&id) {
                next.extend(e.holders.keys().filter(|&&h| seen.insert(h)));
            }
        }
        false
    }
}

/// Who has the baton, and the number of the hand-over that brought it there.
///
/// Each context says on its own doorbell what it received and handed on; we
/// follow these words from the last hand-over of the root's own. A hostile one
/// can claim for itself that it has handed on what it has, or has what it
/// handed on. What the root does on that (tell a creator, end the process)
/// concerns the death of who is *found* here, and nobody is found here whom
/// those before have not named.
pub(super) fn baton(rt: &Runtime) -> (u64, u64) {
    let own = rt.bell.baton();
    if own.turn > own.given {
        return (rt.id, own.turn);
    }
    let (mut at, mut number) = (own.to, own.given);
    for _ in 0..=rt.book.as_ref().map_or(0, Book::count) {
        let says = rt
            .book
            .as_ref()
            .and_then(|b| b.entries.get(&at))
            .and_then(|e| rt.channels.get(e.channel))
            .and_then(Option::as_ref)
            .map(|c| c.peer_bell.baton());
        match says.and_then(|b| b.went_on(number)) {
            Some((to, n)) => (at, number) = (to, n),
            None => break,
        }
    }
    (at, number)
}

/// The contexts that live of themselves: the current one, and the root unless
/// it discarded itself.
fn live(rt: &Runtime) -> [u64; 2] {
    let current = baton(rt).0;
    [current, if rt.anchor { current } else { 1 }]
}

/// Ends those of `targets` that nobody names any more.
fn destroy_unnamed(rt: &mut Runtime, targets: &[u64]) {
    for &t in targets {
        let live = live(rt);
        if rt.book.as_ref().is_some_and(|b| !b.named(t, live)) {
            finish(rt, t);
        }
    }
}

/// Makes the root's end of a new context: identity, doorbell, channel.
pub(super) fn register(rt: &mut Runtime, creator: u64, flags: u32) -> Result<Registration> {
    rt.sweep();
    let id = next(rt)?;
    let mut open: Vec<RawFd> = Vec::new();
    let made = (|| {
        let bell = Mapped::<Bell>::file(c"lwc-bell")?;
        open.push(bell);
        let pair = Mapped::<Pair>::file(c"lwc-pair")?;
        open.push(pair);
        let (here, there) = fds::socket_pair()?;
        open.extend([here, there]);
        fds::alarm(here, super::runtime::death_signal())?;
        let registered = Registered::new(Mapped::map(bell)?);
        let kept = File(fds::duplicate(bell)?);
        if creator == rt.id {
            seal_writes(bell)?;
        } else {
            // Its creator maps it for it, and its process says who it is.
            fds::ask_credentials(here, true)?;
        }
        let peer_bell = PeerBell::map(bell)?;
        peer_bell.inherit(false);
        let mapped = Mapped::<Pair>::map(pair)?;
        let nursery = if flags & lwc_sys::LWC_TRAP_SYSCALL != 0 {
            Some(Rc::new(File(super::nested::file()?)))
        } else {
            None
        };
        let mut channel = Channel::new(id, here, mapped, 0, peer_bell);
        channel.registered = Some(registered);
        Ok((bell, pair, there, channel, nursery, kept))
    })();
    let (bell, pair, there, mut channel, nursery, kept) = made.map_err(|e: Error| {
        open.iter().for_each(|&fd| fds::close(fd));
        e.of(CALL)
    })?;
    channel.root_line = true;
    let channel = rt.add_channel(channel);
    enter(rt, id, creator, flags, channel, nursery.clone());
    if let Some(e) = rt.book.as_mut().and_then(|b| b.entries.get_mut(&id)) {
        e.bell = Some(kept);
    }
    Ok(Registration {
        id,
        channel,
        sock: there,
        pair,
        bell,
        nursery,
    })
}

/// The identity of the next context, if there is room for one.
pub(super) fn next(rt: &Runtime) -> Result<u64> {
    let Some(book) = rt.book.as_ref() else {
        return Err(Error::new(
            CALL,
            Errno::EPERM,
            "only the root keeps the book",
        ));
    };
    if book.entries.len() >= MAX_CONTEXTS {
        return Err(Error::new(
            CALL,
            Errno::EAGAIN,
            format!("the process has {MAX_CONTEXTS} contexts, its limit"),
        ));
    }
    Ok(book.next)
}

/// The root's channel to a live context.
pub(super) fn channel_of(rt: &Runtime, id: u64) -> Option<usize> {
    rt.book.as_ref()?.channel(id)
}

/// Enters a context into the book.
pub(super) fn enter(
    rt: &mut Runtime,
    id: u64,
    creator: u64,
    flags: u32,
    channel: usize,
    nursery: Option<Rc<File>>,
) {
    if let Some(book) = rt.book.as_mut() {
        book.next += 1;
        book.entries.insert(
            id,
            Entry {
                creator,
                flags,
                pid: 0,
                channel,
                holders: BTreeMap::from([(creator, 1)]),
                doomed: false,
                nursery,
                bell: None,
            },
        );
    }
}

/// A registered context now has a process.
pub(super) fn born(rt: &mut Runtime, id: u64, pid: i32) {
    if let Some(e) = rt.book.as_mut().and_then(|b| b.entries.get_mut(&id)) {
        e.pid = pid;
    }
}

/// The same, reported by a creator that may lie. Which process it is says the
/// kernel: the new context has sent a byte through the socket that is its line
/// to us, with the credentials of who sent it. It must be a child of ours, as
/// contexts are, that no other context is.
pub(super) fn born_elsewhere(
    rt: &mut Runtime,
    creator: u64,
    id: u64,
) -> std::result::Result<(), Errno> {
    let entry = rt.book.as_ref().and_then(|b| b.entries.get(&id));
    let Some(entry) = entry.filter(|e| e.creator == creator && e.pid == 0) else {
        return Err(Errno::EPERM);
    };
    let (channel, bell) = (entry.channel, entry.bell.as_ref().map(|b| b.0));
    // One that a trapped context made has its maker's line, and no file.
    let line = match &bell {
        Some(_) => Some(channel),
        None => channel_of(rt, creator),
    };
    let line = line.and_then(|i| rt.channel(i)).map(|c| c.sock);
    let pid = line.and_then(|line| {
        let pid = fds::receive_credentials(line);
        fds::ask_credentials(line, false).ok()?;
        pid.ok()
    });
    if let (Some(bell), Some(c)) = (bell, rt.channel(channel)) {
        let sealed = seal_writes(bell).and_then(|()| PeerBell::map(bell));
        c.peer_bell = sealed.map_err(|e| e.errno())?;
        c.peer_bell.inherit(false);
    }
    let pid = pid.ok_or(Errno::EPERM)?;
    let known = rt
        .book
        .as_ref()
        .is_none_or(|b| b.entries.values().any(|e| e.pid == pid));
    if known || !context_of_ours(pid) {
        return Err(Errno::EPERM);
    }
    born(rt, id, pid);
    Ok(())
}

/// Whether a process is a child of ours whose end is told by the signal that
/// contexts have: no child that the user forked is.
fn context_of_ours(pid: i32) -> bool {
    // SAFETY: waitid fills the struct; WNOWAIT | WNOHANG changes nothing.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(
            libc::P_PID,
            pid as libc::id_t,
            &raw mut info,
            libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WCLONE,
        ) == 0
    }
}

/// Takes a context that never came to life out of the book. Whom it was
/// introduced to learns from its doorbell that it is dead.
pub(super) fn unregister(rt: &mut Runtime, id: u64) {
    if rt
        .book
        .as_ref()
        .is_some_and(|b| b.entries.contains_key(&id))
    {
        if let Some(c) = rt
            .book
            .as_ref()
            .and_then(|b| b.entries.get(&id))
            .and_then(|e| rt.channels.get_mut(e.channel))
            .and_then(Option::as_mut)
        {
            c.hold(false);
        }
        strike(rt, id, EXITED);
    }
}

/// A descriptor was closed. The last one takes a suspended context with it.
pub(super) fn unhold(rt: &mut Runtime, holder: u64, target: u64) {
    if let Some(b) = rt.book.as_mut() {
        b.release(holder, target);
    }
    let before = rt.book.as_ref().map(Book::count);
    destroy_unnamed(rt, &[target]);
    if rt.book.as_ref().map(Book::count) != before {
        end_strangers(rt);
    }
}

/// Ends a context, and what it may have made past lwCreate.
pub(super) fn destroy(rt: &mut Runtime, id: u64) {
    finish(rt, id);
    end_strangers(rt);
}

/// Ends a context and returns what it had.
fn finish(rt: &mut Runtime, id: u64) {
    let Some(pid) = rt.book.as_ref().and_then(|b| b.pid(id)) else {
        return;
    };
    if pid <= 0 {
        return;
    }
    // SAFETY: `pid` is an unreaped child of ours, so it is no other process;
    // waitid writes the struct.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        let mut info: libc::siginfo_t = std::mem::zeroed();
        while libc::waitid(
            libc::P_PID,
            pid as libc::id_t,
            &raw mut info,
            libc::WEXITED | libc::__WALL,
        ) != 0
            && Errno::last() == Errno::EINTR
        {}
    }
    strike(rt, id, SIGNALED | libc::SIGKILL as u32);
}

/// Ends processes that are our children as contexts are, and no contexts: what
/// hostile code has cloned past lwCreate, or a creator that died in the middle
/// of it. They have the signal of contexts, which no child of the user's has.
fn end_strangers(rt: &Runtime) {
    let Some(book) = rt.book.as_ref() else { return };
    // Until its creator has reported it, a context is a stranger, too.
    if book.entries.values().any(|e| e.pid == 0) {
        return;
    }
    loop {
        // SAFETY: gettid has no preconditions.
        let thread = unsafe { libc::gettid() };
        let list = std::fs::read_to_string(format!("/proc/self/task/{thread}/children"))
            .unwrap_or_default();
        let known: BTreeSet<i32> = book.entries.values().map(|e| e.pid).collect();
        let strangers: Vec<i32> = list
            .split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .filter(|pid| !known.contains(pid) && made_as_context(*pid))
            .collect();
        if strangers.is_empty() {
            return;
        }
        for pid in strangers {
            // SAFETY: an unreaped child of ours.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            while wait_one(pid, 0).is_none() && Errno::last() == Errno::EINTR {}
        }
        // One may have made another meanwhile.
    }
}

/// Whether a child tells of its end by the signal of contexts.
fn made_as_context(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Field 38 is the signal; count from the name's closing parenthesis.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(35)?.parse().ok())
        == Some(super::runtime::death_signal())
}

/// Kills a context and leaves it to be collected later.
pub(super) fn kill(rt: &mut Runtime, id: u64) {
    if let Some(e) = rt.book.as_mut().and_then(|b| b.entries.get_mut(&id))
        && e.pid > 0
        && !e.doomed
    {
        e.doomed = true;
        // As a batch job it does not preempt the one that kills it, which goes
        // on: a process takes ten times as long as a switch to end.
        let plain = libc::sched_param { sched_priority: 0 };
        // SAFETY: an unreaped child of ours, as in `destroy`; the first call
        // reads the struct, and may fail.
        unsafe {
            libc::sched_setscheduler(e.pid, libc::SCHED_BATCH, &raw const plain);
            libc::kill(e.pid, libc::SIGKILL);
        }
    }
}

/// Takes a dead context out of the book; what only it named dies too.
fn strike(rt: &mut Runtime, id: u64, dead: u32) {
    // Where the baton went from it is read while its doorbell is known.
    let (current, number) = baton(rt);
    if current != id && current != rt.id {
        rt.bell.redirect(current, number);
    }
    let Some(book) = rt.book.as_mut() else { return };
    let Some(entry) = book.entries.remove(&id) else {
        return;
    };
    let orphans: Vec<u64> = book
        .entries
        .iter_mut()
        .filter_map(|(&t, e)| e.holders.remove(&id).map(|_| t))
        .collect();
    // Contexts it registered and never reported: the process, if there is
    // one, finds its root channel closed and goes.
    let unborn: Vec<u64> = book
        .entries
        .iter()
        .filter(|(_, e)| e.creator == id && e.pid == 0)
        .map(|(&t, _)| t)
        .collect();
    if let Some(slot) = rt.channels.get_mut(entry.channel)
        && let Some(c) = slot
    {
        c.dead = Some(dead);
        if let Some(bell) = &c.registered {
            bell.set_dead(dead);
        }
        if !c.held
            && let Some(c) = slot.take()
        {
            c.close();
        }
    }
    for t in unborn {
        unregister(rt, t);
    }
    destroy_unnamed(rt, &orphans);
}

/// Collects the dead. Returns what the root, which waits, gets to know of it;
/// ends the process where the contract says so.
pub(super) fn reap(rt: &mut Runtime) -> Option<Got> {
    loop {
        let peeked = wait_any(libc::WNOWAIT)?;
        let Some(id) = id_of(rt, peeked.0) else {
            end_strangers(rt);
            // A clone of the user's own, which is not ours to reap: look at
            // our contexts one by one behind it.
            let pids: Vec<(u64, i32)> = rt
                .book
                .iter()
                .flat_map(|b| b.entries.iter().map(|(&id, e)| (id, e.pid)))
                .collect();
            return pids.into_iter().find_map(|(id, pid)| {
                let (_, dead) = wait_one(pid, libc::WNOHANG)?;
                ended(rt, id, dead)
            });
        };
        let (_, dead) = wait_one(peeked.0, libc::WNOHANG)?;
        if let Some(got) = ended(rt, id, dead) {
            // More may have died: the signal is remembered by the next look.
            return Some(got);
        }
    }
}

fn id_of(rt: &Runtime, pid: i32) -> Option<u64> {
    rt.book
        .as_ref()?
        .entries
        .iter()
        .find(|(_, e)| e.pid == pid)
        .map(|(&id, _)| id)
}

/// The next dead child that is no ordinary one: pid and `dead` word.
fn wait_any(extra: i32) -> Option<(i32, u32)> {
    wait_for(libc::P_ALL, 0, extra | libc::WNOHANG | libc::__WCLONE)
}

fn wait_one(pid: i32, extra: i32) -> Option<(i32, u32)> {
    if pid <= 0 {
        return None;
    }
    wait_for(libc::P_PID, pid as libc::id_t, extra | libc::__WALL)
}

fn wait_for(which: libc::idtype_t, id: libc::id_t, options: i32) -> Option<(i32, u32)> {
    // SAFETY: waitid fills the struct, whose union members for a child are
    // valid after success with a pid.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        if libc::waitid(which, id, &raw mut info, libc::WEXITED | options) != 0 {
            return None;
        }
        let pid = info.si_pid();
        if pid == 0 {
            return None;
        }
        let status = info.si_status() as u32;
        let dead = if info.si_code == libc::CLD_EXITED {
            EXITED | (status & 0xff)
        } else {
            SIGNALED | (status & 0xff)
        };
        Some((pid, dead))
    }
}

/// A context ended by itself.
fn ended(rt: &mut Runtime, id: u64, mut dead: u32) -> Option<Got> {
    let (creator, flags) = rt.book.as_ref()?.origin(id)?;
    let entry = rt.book.as_ref()?.entries.get(&id)?;
    let (channel, doomed) = (entry.channel, entry.doomed);
    let noted = rt
        .channel(channel)
        .map_or(0, |c| c.inn().fault_signal.load(Ordering::Relaxed)) as i32;
    let signal = if dead & SIGNALED != 0 {
        (dead & 0xff) as i32
    } else if flags & lwc_sys::LWC_TRAP_SYSCALL != 0 && FAULTS.contains(&noted) {
        // A trapped context cannot raise a signal: it notes it and exits.
        dead = SIGNALED | noted as u32;
        noted
    } else {
        0
    };
    let mut code = u64::from(if signal == 0 { dead & 0xff } else { 0 });
    let mut address = 0;
    let mut leaving = false;
    if let Some(c) = rt.channel(channel) {
        let half = c.inn();
        leaving = half.leaving.load(Ordering::Relaxed) != 0;
        if signal != 0 && half.fault_signal.load(Ordering::Relaxed) as i32 == signal {
            code = half.fault_code.load(Ordering::Relaxed);
            address = half.fault_address.load(Ordering::Relaxed);
        }
    }
    // Before its doorbell goes.
    let (current, number) = baton(rt);
    let was_current = current == id;
    strike(rt, id, dead);
    end_strangers(rt);
    if !was_current || leaving || doomed {
        return None;
    }
    let trapped = (flags & lwc_sys::LWC_TRAP_FAULT != 0 && FAULTS.contains(&signal))
        || flags & lwc_sys::LWC_TRAP_EXIT != 0;
    if !trapped {
        die_like(rt, dead);
    }
    let mut words = [0; WORDS];
    words[..4].copy_from_slice(&[signal as u64, code, address, id]);
    if creator == rt.id && !rt.anchor {
        rt.bell.take_back();
        return Some(Got::Ended { words, count: 4 });
    }
    let to = rt
        .book
        .as_ref()
        .and_then(|b| b.entries.get(&creator))
        .map(|e| e.channel);
    let Some(c) = to
        .and_then(|i| rt.channels.get_mut(i))
        .and_then(Option::as_mut)
    else {
        die_like(rt, dead); // nobody is left to tell
    };
    // The baton goes on in the name of who is no more.
    let turn = rt.bell.give(creator, number);
    c.out().turn.store(turn, Ordering::Relaxed);
    c.out().put_words(&words);
    c.out().count.store(4, Ordering::Relaxed);
    c.out().publish(kind::TRAP);
    c.ring();
    None
}

/// The process ends as its current context did (6.2, 6.3).
fn die_like(rt: &mut Runtime, dead: u32) -> ! {
    kill_all(rt);
    let low = (dead & 0xff) as i32;
    // SAFETY: the process ends here; the signal's action is put back to
    // default first, so that raising it ends us with that very signal. No
    // core of the root is left for another context's fault (6.4).
    unsafe {
        if dead & SIGNALED != 0 {
            let none = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
            libc::signal(low, libc::SIG_DFL);
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, low);
            libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
            libc::kill(libc::getpid(), low);
            libc::_exit(128 + low)
        }
        libc::_exit(low)
    }
}

/// Ends every context of the process.
pub(super) fn kill_all(rt: &mut Runtime) {
    let ids: Vec<u64> = rt
        .book
        .iter()
        .flat_map(|b| b.entries.keys().copied())
        .collect();
    ids.into_iter().for_each(|id| finish(rt, id));
    end_strangers(rt);
}

/// The current context may have replaced its program (execve(2)). Then the
/// others go and the root becomes the shell around it: it waits, and ends as
/// it ends.
pub(super) fn follow_exec(rt: &mut Runtime) {
    let current = baton(rt).0;
    let Some(pid) = rt.book.as_ref().and_then(|b| b.pid(current)) else {
        return;
    };
    // After execve(2) a process is an ordinary child: its end is told by
    // SIGCHLD whatever it was made with.
    if pid <= 0 || context_of_ours(pid) {
        return;
    }
    let others: Vec<u64> = rt
        .book
        .iter()
        .flat_map(|b| b.entries.keys().copied())
        .filter(|&id| id != current)
        .collect();
    others.into_iter().for_each(|id| finish(rt, id));
    loop {
        if let Some((_, dead)) = wait_one(pid, 0) {
            die_like(rt, dead);
        }
        if Errno::last() != Errno::EINTR {
            die_like(rt, EXITED | 1);
        }
    }
}
