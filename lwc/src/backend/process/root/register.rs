//! How a context comes into the book.

use super::children::context_of_ours;
use crate::backend::process::state::book::{Entry, MAX_CONTEXTS};
use crate::backend::process::state::channel::Channel;
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::state::share::Share;
use crate::backend::process::state::signals::death_signal;
use crate::backend::process::state::slots::{self, With, number_of};
use crate::backend::process::wire::bell::{Bell, PeerBell, Registered};
use crate::backend::process::wire::fds;
use crate::backend::process::wire::mapped::{Mapped, seal_writes};
use crate::backend::process::wire::pair::Pair;
use crate::error::{Error, Result};
use lwc_sys::LWC_TRAP_SYSCALL;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::Ordering;

const CALL: &str = "lwCreate";

/// What a new context needs to reach the root.
pub(crate) struct Registration {
    pub(crate) id: u64,
    /// The root's channel number for it; of use to a root that makes it.
    pub(crate) channel: usize,
    pub(crate) sock: OwnedFd,
    pub(crate) pair: OwnedFd,
    pub(crate) bell: OwnedFd,
    /// If its calls are trapped, and its creator's are not.
    pub(crate) slots: Option<Rc<OwnedFd>>,
}

/// Makes the root's end of a new context: identity, doorbell, channel.
pub(crate) fn register(rt: &mut Runtime, creator: u64, flags: u32) -> Result<Registration> {
    rt.sweep();
    let id = next(rt)?;
    let made = (|| {
        let bell = Mapped::<Bell>::file(c"lwc-bell")?;
        let pair = Mapped::<Pair>::file(c"lwc-pair")?;
        let (here, there) = fds::socket_pair()?;
        for end in [&here, &there] {
            fds::alarm(end, death_signal())?;
        }
        fds::alarm_goes_to(&here, rt.root_pid)?;
        let registered = Registered::new(Mapped::map(&bell)?);
        let kept = fds::duplicate(&bell)?;
        let line = fds::duplicate(&there)?;
        if creator == rt.id {
            seal_writes(&bell)?;
        } else {
            // Its creator maps it for it, and its process says who it is.
            fds::ask_credentials(&here, true)?;
        }
        let peer_bell = PeerBell::map(&bell)?;
        peer_bell.inherit(false);
        let slots = if flags & LWC_TRAP_SYSCALL != 0 {
            Some(Rc::new(slots::file()?))
        } else {
            None
        };
        let mut channel = Channel::new(id, Some(here), Mapped::map(&pair)?, 0, peer_bell);
        channel.registered = Some(registered);
        channel.root_line = true;
        let registration = Registration {
            id,
            channel: 0,
            sock: there,
            pair,
            bell,
            slots,
        };
        Ok((registration, channel, kept, line))
    })();
    let (mut registration, channel, kept, line) = made.map_err(|e: Error| e.of(CALL))?;
    registration.channel = rt.add_channel(channel);
    let slots = registration.slots.clone();
    let files = Some((kept, line));
    enter(rt, id, creator, flags, registration.channel, slots, files);
    Ok(registration)
}

/// The identity of the next context, if there is room for one.
fn next(rt: &Runtime) -> Result<u64> {
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
pub(crate) fn channel_of(rt: &Runtime, id: u64) -> Option<usize> {
    rt.book.as_ref()?.channel(id)
}

/// Enters a context into the book.
fn enter(
    rt: &mut Runtime,
    id: u64,
    creator: u64,
    flags: u32,
    channel: usize,
    slots: Option<Rc<OwnedFd>>,
    files: Option<(OwnedFd, OwnedFd)>,
) {
    let (bell, line) = files.unzip();
    if let Some(book) = rt.book.as_mut() {
        // Who is guarded makes nobody who is not: its faults would end all.
        let guards = lwc_sys::LWC_TRAP_FAULT | lwc_sys::LWC_TRAP_EXIT;
        let flags = flags | book.origin(creator).map_or(0, |o| o.1) & guards;
        book.next += 1;
        book.entries.insert(
            id,
            Entry {
                creator,
                heir: creator,
                flags,
                pid: 0,
                channel,
                holders: BTreeMap::from([(creator, 1)]),
                doomed: false,
                slots,
                bell,
                line,
                share: None,
            },
        );
    }
}

/// A registered context now has a process.
pub(crate) fn born(rt: &mut Runtime, id: u64, pid: i32) {
    if let Some(e) = rt.book.as_mut().and_then(|b| b.entries.get_mut(&id)) {
        e.pid = pid;
        // It hears when we are no more. It cannot say so itself where its sandbox
        // keeps it from naming processes that are to be sent signals; the end of
        // ours that is closed here is its line.
        if let Some(line) = e.line.take() {
            // A failure is its end that has come already.
            let _ = fds::alarm_goes_to(&line, pid);
        }
    }
}

/// The same, reported by a creator that may lie. Which process it is says the
/// kernel: the new context has sent a byte through the socket that is its line
/// to us, with the credentials of who sent it. It must be a child of ours, as
/// contexts are, that no other context is.
pub(crate) fn born_elsewhere(
    rt: &mut Runtime,
    creator: u64,
    id: u64,
) -> std::result::Result<(), Errno> {
    let entry = rt.book.as_ref().and_then(|b| b.entries.get(&id));
    let Some(entry) = entry.filter(|e| e.creator == creator && e.pid == 0) else {
        return Err(Errno::EPERM);
    };
    let (channel, with_line) = (entry.channel, entry.bell.is_some());
    // One that a trapped context made shows who it is by its maker's line.
    let line = if with_line {
        Some(channel)
    } else {
        channel_of(rt, creator)
    };
    let line = line
        .and_then(|i| rt.channel(i))
        .and_then(|c| c.sock.as_ref());
    let shown = line.and_then(|line| {
        let shown = fds::receive_credentials(line);
        fds::ask_credentials(line, false).ok()?;
        shown.ok()
    });
    let (channels, book) = (&mut rt.channels, rt.book.as_ref());
    if let Some(bell) = book.and_then(|b| b.bell(id))
        && let Some(c) = channels.get_mut(channel).and_then(Option::as_mut)
    {
        let sealed = seal_writes(bell).and_then(|()| PeerBell::map(bell));
        c.peer_bell = sealed.map_err(|e| e.cause())?;
        c.peer_bell.inherit(false);
    }
    let (pid, file) = shown.ok_or(Errno::EPERM)?;
    let known = rt
        .book
        .as_ref()
        .is_none_or(|b| b.entries.values().any(|e| e.pid == pid));
    if known || !context_of_ours(pid) {
        return Err(Errno::EPERM);
    }
    born(rt, id, pid);
    if let Some(file) = file {
        tells_its_share(rt, id, file);
    }
    Ok(())
}

/// A context has handed over what is to be the file of its share of memory. Any other is
/// closed.
pub(crate) fn tells_its_share(rt: &mut Runtime, id: u64, file: OwnedFd) {
    let entry = rt.book.as_mut().and_then(|b| b.entries.get_mut(&id));
    // Its number is its own: it is a child that has not been waited for.
    if let Some(entry) = entry.filter(|e| e.pid > 0 && !e.doomed) {
        entry.share = Share::of(entry.pid, file);
    }
}

/// Makes the root's end of a context that a trapped one makes. `supervised`: its
/// calls come to the root. Returns its identity.
pub(crate) fn register_slot(
    rt: &mut Runtime,
    creator: u64,
    flags: u32,
    slot: usize,
    supervised: bool,
) -> Result<u64> {
    rt.sweep();
    let id = next(rt)?;
    let no = |why| Error::new(CALL, Errno::EPERM, why);
    let file = rt.book.as_ref().and_then(|b| b.slots(creator));
    let file = file.ok_or_else(|| no("its creator has no place for it"))?;
    let (pair, bell) =
        slots::pages(&file, slot, With::Root).ok_or_else(|| no("no such place for it"))?;
    // Its maker's line tells who it is (`born_elsewhere`).
    let line = channel_of(rt, creator).and_then(|i| rt.channel(i));
    let line = line.and_then(|c| c.sock.as_ref());
    fds::ask_credentials(line.ok_or_else(|| no("its creator has no line"))?, true)?;
    let registered = Registered::new(bell);
    registered.set_dead(0);
    let twin = Mapped::<Bell>::map_at(&*file, slots::bell_at(slot))?;
    twin.inherit(false);
    let mut c = Channel::new(id, None, pair, 0, PeerBell::new(twin));
    // Whatever the pages hold, nothing of it is a message yet.
    c.seen = c.inn().seq.load(Ordering::Acquire);
    c.registered = Some(registered);
    c.root_line = true;
    c.trap.supervised = supervised;
    let channel = rt.add_channel(c);
    if let Some(c) = rt.channel(channel) {
        c.desc = number_of(channel);
    }
    enter(
        rt,
        id,
        creator,
        flags | LWC_TRAP_SYSCALL,
        channel,
        None,
        None,
    );
    Ok(id)
}
