//! lwCreate in a trapped context: "traps nest" (contract 7.1).
//!
//! A trapped context can make no memory files and no sockets, and what could it
//! do with them if it may not touch a descriptor? The pages of the contexts that
//! it will make are there before ([`slots`](crate::backend::process::state::slots)).
//! A new context inherits mappings and needs no descriptor at all.
//!
//! It follows that such a context has no sockets: nothing that takes passing
//! descriptors (lwOverlay, lwSyscall of another's files) works with it. It is
//! under its maker's filter already. A trapped context makes [`SLOTS`] others in
//! its life, and those make none.
//!
//! Whoever makes a context has its pages mapped until the fork, and if it is
//! hostile, later: it can speak to the root and the monitor in the name of what it
//! has made, as code that it had left there could.

use super::create::{Forked, abandon, whole_files};
use super::fork::fork;
use super::init_child::{apply, die_with, report};
use crate::backend::process::ask::{answer, ask, destroy, hold};
use crate::backend::process::state::channel::Channel;
use crate::backend::process::state::rights::Rights;
use crate::backend::process::state::runtime::{Monitor, Runtime};
use crate::backend::process::state::signals;
use crate::backend::process::state::slots::{SLOTS, With, number_of};
use crate::backend::process::wire::bell::{OwnBell, PeerBell};
use crate::backend::process::wire::mapped::Mapped;
use crate::backend::process::wire::message::Request;
use crate::backend::process::wire::{fds, gate};
use crate::error::{Error, Result};
use crate::spec::{Access, Spec, What};
use lwc_sys::LWC_TRAP_SYSCALL;
use nix::errno::Errno;
use std::os::fd::{OwnedFd, RawFd};

const CALL: &str = "lwCreate";

/// What the new context needs to know.
struct Nested {
    id: u64,
    slot: usize,
    /// The maker's channel to it.
    index: usize,
    /// Whether it and the monitor have met.
    meets: bool,
    /// The descriptor that the maker has of the monitor.
    desc: Option<RawFd>,
    /// Its calls go to the maker.
    own_trap: bool,
}

/// Makes a context.
pub(crate) fn create(rt: &mut Runtime, specs: &[Spec], flags: u32) -> Result<Forked> {
    check(rt, specs)?;
    whole_files(rt, specs)?;
    let monitor = rt
        .monitor
        .ok_or_else(|| Error::new(CALL, Errno::EPERM, "no monitor"))?;
    let slot = match rt.slots.as_mut() {
        Some(n) if n.next < SLOTS => {
            n.next += 1;
            n.next - 1
        }
        Some(_) => {
            return Err(Error::new(
                CALL,
                Errno::EAGAIN,
                format!(
                    "a trapped context makes {SLOTS} contexts in its life, on the process backend"
                ),
            ));
        }
        None => {
            return Err(Error::new(
                CALL,
                Errno::EAGAIN,
                "a context that a trapped one made cannot make others, on the process backend",
            ));
        }
    };
    rt.sweep();
    let own_trap = flags & LWC_TRAP_SYSCALL != 0;
    let flags = flags | LWC_TRAP_SYSCALL;
    let request = Request::RegisterSlot {
        flags,
        slot,
        own_trap,
    };
    let id = ask(rt, CALL, 0, request)?.id(CALL)?;
    let Some(n) = rt.slots.as_ref() else {
        return Err(Error::new(CALL, Errno::EPERM, "no slots"));
    };
    let (pair, bell) = (n.pair(slot, With::Maker), n.bell(slot));
    // Whatever the slot has been written, nobody has read it.
    let mut c = Channel::new(id, None, pair, 0, PeerBell::new(bell));
    c.pair.inherit(true);
    c.trap.supervised = own_trap;
    let index = rt.add_channel(c);
    let held = rt
        .channel(monitor.channel)
        .filter(|c| c.held)
        .map(|c| c.desc);
    let mut nested = Nested {
        id,
        slot,
        index,
        meets: false,
        desc: held,
        own_trap,
    };
    let made = meet(rt, monitor, &mut nested).and_then(|()| divide(rt, &nested, specs, flags));
    match made {
        Ok(0) => Ok(Forked::New),
        Ok(_) => {
            let ready = answer(rt, CALL, index, false);
            let reported = ask(rt, CALL, 0, Request::Born { id });
            if let Err(e) = ready.and(reported) {
                let _ = destroy(rt, id);
                abandon(rt, index, id);
                return Err(e);
            }
            let Some(c) = rt.channel(index) else {
                return Err(Error::new(CALL, Errno::ESRCH, "the new context is gone"));
            };
            c.desc = number_of(index);
            c.hold(true);
            c.mine = Rights::all();
            c.granted = Rights::granted_by(specs);
            Ok(Forked::Creator(c.desc))
        }
        Err(e) => {
            abandon(rt, index, id);
            Err(e)
        }
    }
}

/// What takes descriptors, or knowing what is mapped, cannot be had.
fn check(rt: &Runtime, specs: &[Spec]) -> Result<()> {
    for (i, spec) in specs.iter().enumerate() {
        let why = match (&spec.what, spec.access) {
            (What::Files(_), Access::Copy) | (What::Credentials, _) => continue,
            (What::Memory(..), Access::Unmap) => continue,
            (What::Memory(a, b), Access::Share) if is_shared(rt, *a, *b) => continue,
            (What::Memory(..), Access::Share) => {
                "memory that is not shared yet cannot be; use a region"
            }
            (What::Files(_), _) => "its descriptors go to the new context as a copy",
            (What::Memory(..), Access::Copy) => "memory is copied without being named",
        };
        return Err(Error::new(
            CALL,
            Errno::ENOTSUP,
            format!(
                "specifier {i}: in a trapped context, on the process backend, {why}; leave the specifier out"
            ),
        ));
    }
    Ok(())
}

/// Whether all of a range is shared memory of ours.
fn is_shared(rt: &Runtime, start: u64, end: u64) -> bool {
    let mut at = start;
    for o in rt.objects.within(start, end) {
        if o.start > at {
            return false;
        }
        at = o.end;
    }
    at >= end
}

/// The monitor gets to know the new context, if its calls go there or its
/// maker has a descriptor that it is to inherit.
fn meet(rt: &mut Runtime, monitor: Monitor, nested: &mut Nested) -> Result<()> {
    hold(rt, nested.id, monitor.id)?;
    if monitor.channel == 0 || (nested.own_trap && nested.desc.is_none()) {
        return Ok(());
    }
    let request = Request::Meet {
        id: nested.id,
        slot: nested.slot,
        supervised: !nested.own_trap,
    };
    ask(rt, CALL, monitor.channel, request)?;
    nested.meets = true;
    Ok(())
}

/// Forks and, in the new context, sets itself up there. Returns the process.
fn divide(rt: &mut Runtime, nested: &Nested, specs: &[Spec], flags: u32) -> Result<i32> {
    let monitor = rt.monitor;
    let inherit = |rt: &mut Runtime, yes| {
        if let Some(m) = monitor.filter(|m| m.channel != 0)
            && let Some(c) = rt.channel(m.channel)
        {
            c.peer_bell.inherit(yes);
        }
    };
    // The maker's own doorbell, as others have it, is inherited by every
    // context it makes.
    inherit(rt, true);
    let pid = fork(false);
    if pid == 0 {
        let done = init_child(rt, nested, specs, flags);
        report(rt, 1, done);
        return Ok(0);
    }
    let errno = Errno::last();
    inherit(rt, false);
    let Some(n) = rt.slots.as_ref() else {
        return Err(Error::new(CALL, Errno::EPERM, "no slots"));
    };
    // Dropping unmaps: those two pages are the new context's alone.
    drop((
        n.pair(nested.slot, With::Root),
        n.pair(nested.slot, With::Monitor),
    ));
    if let Some(c) = rt.channel(nested.index) {
        c.pair.inherit(false);
        c.peer_bell.inherit(false);
    }
    if pid < 0 {
        return Err(Error::new(CALL, errno, "forking a context"));
    }
    Ok(pid)
}

/// First steps of the new context.
fn init_child(
    rt: &mut Runtime,
    nested: &Nested,
    specs: &[Spec],
    flags: u32,
) -> Result<Option<OwnedFd>> {
    signals::forget();
    let no = |what| Error::new(CALL, Errno::EPERM, what);
    let slots = rt.slots.take().ok_or_else(|| no("no slots"))?;
    let maker = rt.id;
    let monitor = rt.monitor.ok_or_else(|| no("no monitor"))?;
    // The maker's channels are not ours; one socket of it tells, by closing,
    // that the root is no more. The monitor's doorbell was inherited.
    let mut monitor_bell = None;
    for (i, c) in std::mem::take(&mut rt.channels).into_iter().enumerate() {
        let Some(mut c) = c else { continue };
        if i == 0 {
            rt.line = c.sock.take();
        } else if i == monitor.channel {
            // SAFETY: inherited for this purpose; the old owner is forgotten.
            monitor_bell = Some(unsafe { Mapped::adopt(c.peer_bell.ptr()) });
        }
        c.disown(false);
    }
    rt.bell_fd = None;
    let own = OwnBell::new(slots.bell(nested.slot));
    let twin = PeerBell::new(slots.bell(nested.slot));
    // The maker's own was not inherited.
    std::mem::forget(std::mem::replace(&mut rt.bell, own));
    let maker_bell = std::mem::replace(&mut rt.bell_of_creator, twin);
    let Some(root_ptr) = rt.root_bell.as_ref().map(PeerBell::ptr) else {
        return Err(no("no root"));
    };
    rt.id = nested.id;
    rt.creator = maker;
    rt.flags = flags;
    rt.self_desc = -1;
    rt.self_fd = None;
    rt.cap = Rights::all();
    signals::hear(rt.bell.word());
    (rt.expected, rt.gave, rt.looked) = (None, 0, 0);
    let line = rt.line.as_ref().ok_or_else(|| no("no line"))?;
    fds::show_credentials(line, None)?;
    let at = |with| slots.pair(nested.slot, with);
    // SAFETY: the root's bell is owned by `root_bell` for ever, and channel 0
    // is never closed.
    let root_bell = PeerBell::new(unsafe { Mapped::adopt(root_ptr) });
    let mut root = Channel::new(1, None, at(With::Root), 1, root_bell);
    root.root_line = true;
    root.desc = number_of(0);
    rt.put_channel(0, root);
    let mut creator = Channel::new(maker, None, at(With::Maker), 1, maker_bell);
    creator.desc = number_of(1);
    creator.granted = Rights::all();
    creator.mine = Rights::granted_by(specs);
    rt.put_channel(1, creator);
    match monitor_bell.filter(|_| nested.meets) {
        Some(bell) => {
            let mut c = Channel::new(monitor.id, None, at(With::Monitor), 1, PeerBell::new(bell));
            c.desc = number_of(2);
            rt.put_channel(2, c);
        }
        _ => drop(at(With::Monitor)),
    }
    slots.leave(nested.slot);
    let known = if monitor.channel == 0 { 0 } else { 2 };
    if let (Some(desc), Some(c)) = (nested.desc, rt.channel(known)) {
        c.desc = desc;
        c.hold(true);
    }
    let (channel, id) = if nested.own_trap {
        (1, maker)
    } else {
        (known, monitor.id)
    };
    rt.watched_by(channel, id);
    rt.bell.set_trapped();
    // SAFETY: getppid has no preconditions.
    if unsafe { gate::own([libc::SYS_getppid as u64, 0, 0, 0, 0, 0, 0]) } != i64::from(rt.root_pid)
    {
        return Err(Error::new(CALL, Errno::ESRCH, "the process is ending"));
    }
    die_with(rt.root_pid)?;
    apply(rt, specs, flags)?;
    Ok(None)
}
