//! lwCreate, the creator's side: a child process that starts as a copy and
//! parks.

use super::fork::fork;
use super::init_child::become_new;
use super::prepared::{CALL, Inherited, Prepared};
use super::{rollback, supervisor};
use crate::backend::process::ask::{Answered, answer, ask, ask_with, destroy, hold};
use crate::backend::process::root::register::Registration;
use crate::backend::process::root::{end, register};
use crate::backend::process::state::channel::Channel;
use crate::backend::process::state::memory;
use crate::backend::process::state::ranges::Ranges;
use crate::backend::process::state::rights::Rights;
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::wire::bell::{PeerBell, Registered};
use crate::backend::process::wire::fds;
use crate::backend::process::wire::mapped::{Mapped, seal_writes};
use crate::backend::process::wire::message::Request;
use crate::backend::process::wire::noise;
use crate::backend::process::wire::pair::Pair;
use crate::error::{Error, Result};
use crate::flags::PREPARE;
use crate::spec::{Access, Spec, What};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

/// What lwCreate returned in.
pub(crate) enum Forked {
    /// The creator: the new context's descriptor.
    Creator(RawFd),
    /// The new context, not yet switched to.
    New,
}

/// Makes a context.
pub(crate) fn create(rt: &mut Runtime, specs: &[Spec], flags: u32) -> Result<Forked> {
    let shared_table = specs
        .iter()
        .any(|s| s.what == What::Files(None) && s.access == Access::Share);
    let trapped = flags & lwc_sys::LWC_TRAP_SYSCALL != 0;
    let kept = flags & PREPARE != 0;
    if kept {
        rollback::prepare(rt, trapped || shared_table)?;
    }
    if trapped && shared_table {
        return Err(Error::new(
            CALL,
            Errno::ENOTSUP,
            "the process backend cannot share a whole descriptor table with a context whose system calls are trapped; let it have a copy",
        ));
    }
    for spec in specs {
        if let (What::Memory(start, end), Access::Share) = (&spec.what, spec.access) {
            memory::share_in_place(CALL, &mut rt.objects, *start, *end)?;
        }
    }
    whole_files(rt, specs)?;
    rt.sweep();
    noise::is_there().map_err(no_numbers)?;
    let (mut prepared, index) = prepare(rt, specs, flags, shared_table)?;
    inherit_bells(rt, &prepared, index, true);
    rt.bell.noise().forget_key();
    // Nor how often it was handed over to.
    rt.turns = 0;
    let pid = fork(shared_table);
    if pid == 0 {
        become_new(rt, prepared, specs, flags & !PREPARE);
        return Ok(Forked::New);
    }
    let fork_error = Errno::last();
    rt.bell.noise().draw_key().map_err(no_numbers)?;
    inherit_bells(rt, &prepared, index, false);
    prepared.own = None;
    let id = prepared.registration.id;
    if pid < 0 {
        drop(prepared);
        abandon(rt, index, id);
        return Err(Error::new(CALL, fork_error, "forking a context"));
    }
    if rt.is_root() {
        register::born(rt, id, pid);
    }
    // The new context reports that it is set up; only then may its ends of
    // the channels be closed here (a shared table is shared).
    let ready = answer(rt, CALL, index, false);
    let slots = prepared.registration.slots.take();
    let lasting = prepared.lasting();
    if let Some(c) = rt.channel(index).filter(|_| shared_table) {
        c.foreign = lasting;
    }
    rt.shared_table |= shared_table;
    if !rt.is_root() {
        let reported = ask(rt, CALL, 0, Request::Born { id });
        if let Err(e) = reported {
            // Its line to the root is cut with that, and it goes.
            abandon(rt, index, id);
            return Err(e);
        }
    }
    let ready = ready.and_then(|words| {
        if trapped {
            supervisor::watch(rt, index, pid, slots, &words)?;
        }
        Ok(())
    });
    if let Err(e) = ready {
        // It ends by itself; this only makes sure that it has.
        let _ = destroy(rt, id);
        abandon(rt, index, id);
        return Err(e);
    }
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(CALL, Errno::ESRCH, "the new context is gone"));
    };
    c.booked = true;
    c.hold(true);
    c.mine = Rights::all();
    c.granted = Rights::granted_by(specs);
    let desc = c.desc;
    if let Some(keeper) = rt.keeper.as_mut().filter(|_| kept) {
        keeper.kept.push(id);
    }
    Ok(Forked::Creator(desc))
}

fn no_numbers(errno: i32) -> Error {
    Error::new(CALL, Errno::from_raw(errno), "random numbers (getrandom)")
}

/// Which doorbells the fork to come takes along: the new context's own, and of
/// those that it is to hold.
fn inherit_bells(rt: &mut Runtime, prepared: &Prepared, index: usize, yes: bool) {
    if let Some(own) = &prepared.own {
        own.inherit(yes);
    } else if let Some(c) = rt.channel(index)
        && let Some(own) = &c.registered
    {
        own.inherit(yes);
    }
    // Every context has the root's, at all times.
    for h in prepared.inherited.iter().filter(|h| h.peer != 1) {
        if let Some(c) = rt.channel(h.from) {
            c.peer_bell.inherit(yes);
        }
    }
}

/// A memory file is shared with the new context whole or not at all: hostile
/// code there could map all of it.
pub(crate) fn whole_files(rt: &Runtime, specs: &[Spec]) -> Result<()> {
    let (mut said, mut shared) = (Ranges::none(), Ranges::none());
    for spec in specs {
        if let What::Memory(start, end) = spec.what {
            said.add(start, end);
            if spec.access == Access::Share {
                shared.add(start, end);
            }
        }
    }
    for o in rt.objects.iter() {
        if o.region {
            for (start, end) in said.gaps(o.start, o.end) {
                shared.add(start, end);
            }
        }
    }
    for o in rt.objects.iter() {
        let (start, end) = o.whole();
        let any = shared.gaps(o.start, o.end) != [(o.start, o.end)];
        if any && !shared.contains(start, end) {
            return Err(Error::new(
                CALL,
                Errno::ENOTSUP,
                format!(
                    "{start:#x}..{end:#x} is one memory file, and only a part of it would be shared; the process backend cannot keep the rest from the new context"
                ),
            ));
        }
    }
    Ok(())
}

/// Undoes [`prepare`].
pub(crate) fn abandon(rt: &mut Runtime, index: usize, id: u64) {
    if rt.is_root() {
        end::unregister(rt, id);
    } else {
        let _ = ask(rt, CALL, 0, Request::Unregister { id });
    }
    if rt.channel(index).is_some_and(|c| c.peer == id)
        && let Some(c) = rt.channels[index].take()
    {
        c.close();
    }
}

/// Books the context and makes every channel it will have.
fn prepare(
    rt: &mut Runtime,
    specs: &[Spec],
    flags: u32,
    shared_table: bool,
) -> Result<(Prepared, usize)> {
    let (registration, creator, own, index) = if rt.is_root() {
        let r = register::register(rt, rt.id, flags & !PREPARE)?;
        let index = r.channel;
        (r, None, None, index)
    } else {
        let request = Request::Register {
            flags: flags & !PREPARE,
            shared_table,
        };
        let r = registered(ask(rt, CALL, 0, request)?)?;
        match own_channel(rt, &r) {
            Ok((creator, own, index)) => (r, Some(creator), Some(own), index),
            Err(e) => {
                let _ = ask(rt, CALL, 0, Request::Unregister { id: r.id });
                return Err(e);
            }
        }
    };
    let mapped = rt.channel(index).and_then(|c| c.registered.as_ref());
    let Some(bell) = own.as_ref().or(mapped).map(Registered::ptr) else {
        return Err(Error::new(
            CALL,
            Errno::EBADF,
            "the new context has no doorbell",
        ));
    };
    let mut prepared = Prepared {
        registration,
        creator,
        bell,
        own,
        inherited: Vec::new(),
        shared_table,
        kept: flags & PREPARE != 0,
    };
    match introduce_all(rt, specs, &mut prepared) {
        Ok(()) => Ok((prepared, index)),
        Err(e) => {
            let id = prepared.registration.id;
            drop(prepared);
            abandon(rt, index, id);
            Err(e)
        }
    }
}

/// What the root has answered to a registration.
fn registered(answered: Answered) -> Result<Registration> {
    let id = answered.id(CALL)?;
    let mut fds = answered.fds.into_iter();
    match (fds.next(), fds.next(), fds.next(), fds.next(), fds.next()) {
        (Some(sock), Some(pair), Some(bell), slots, None) => Ok(Registration {
            id,
            channel: 0,
            sock,
            pair,
            bell,
            slots: slots.map(Rc::new),
        }),
        _ => Err(Error::new(CALL, Errno::EPROTO, "the root sent no channel")),
    }
}

/// The channel between a creator that is not the root and its new context, and
/// the new context's doorbell as it will write it.
fn own_channel(
    rt: &mut Runtime,
    r: &Registration,
) -> Result<((OwnedFd, OwnedFd), Registered, usize)> {
    let made = (|| {
        let pair = Mapped::<Pair>::file(c"lwc-pair")?;
        let (here, there) = fds::socket_pair()?;
        let own = Registered::new(Mapped::map(&r.bell)?);
        seal_writes(&r.bell)?;
        let bell = PeerBell::map(&r.bell)?;
        bell.inherit(false);
        let channel = Channel::new(r.id, Some(here), Mapped::map(&pair)?, 0, bell);
        Ok(((there, pair), own, channel))
    })();
    let (theirs, own, channel) = made.map_err(|e: Error| e.of(CALL))?;
    Ok((theirs, own, rt.add_channel(channel)))
}

/// Copies of the table copy the contexts in it (4.1): each is introduced.
fn introduce_all(rt: &mut Runtime, specs: &[Spec], prepared: &mut Prepared) -> Result<()> {
    let left_out = |desc: RawFd| {
        specs.iter().any(|s| {
            s.access == Access::Unmap
                && match s.what {
                    What::Files(None) => true,
                    What::Files(Some((a, b))) => (a..=b).contains(&desc),
                    _ => false,
                }
        })
    };
    let held: Vec<(usize, u64, RawFd)> = rt
        .channels
        .iter()
        .enumerate()
        .filter_map(|(i, c)| c.as_ref().map(|c| (i, c)))
        // One in the strict sandbox is served nothing and asked nothing: it could
        // keep everybody waiting. It has no new holders but by its root's word.
        .filter(|(_, c)| c.held && !c.sealed && !c.peer_dead() && !left_out(c.desc))
        .map(|(i, c)| (i, c.peer, c.desc))
        .collect();
    for (from, peer, desc) in held {
        let trapped = rt.is_trapped(from);
        let bell = prepared.registration.bell.as_fd();
        let met = introduce(rt, from, prepared.registration.id, bell);
        let (sock, pair) = match met {
            Ok(met) => met,
            // It cannot meet anybody but by its monitor, with every right.
            Err(e) if trapped && [Errno::EACCES, Errno::EPERM].contains(&e.cause()) => continue,
            // It has ended meanwhile.
            Err(e) if e.cause() == Errno::ESRCH => continue,
            Err(e) => return Err(e),
        };
        let Some(c) = rt.channel(from) else { continue };
        prepared.inherited.push(Inherited {
            peer,
            desc,
            sock,
            pair,
            bell: c.peer_bell.ptr(),
            from,
            rights: c.mine.clone(),
        });
        hold(rt, prepared.registration.id, peer)?;
    }
    Ok(())
}

/// Has the peer of `from` meet a new holder, `id`. Returns the holder's socket
/// and the pair page.
pub(crate) fn introduce(
    rt: &mut Runtime,
    from: usize,
    id: u64,
    bell: BorrowedFd<'_>,
) -> Result<(OwnedFd, OwnedFd)> {
    let pair = Mapped::<Pair>::file(c"lwc-pair")?;
    let (here, there) = fds::socket_pair()?;
    if rt.is_trapped(from) {
        super::syscall::introduce(rt, from, id, &there, &pair, bell)?;
    } else {
        let files = [there.as_fd(), pair.as_fd(), bell];
        ask_with(rt, CALL, from, Request::Introduce { id }, &[], &files)?;
    }
    Ok((here, pair))
}
