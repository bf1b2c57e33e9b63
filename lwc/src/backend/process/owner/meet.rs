//! New holders of this context.
//!
//! Whoever introduces somebody gives it the rights of its own channel, no more.
//! What it says of an identity is beyond doubt only if it is the root, or speaks
//! of itself.

use crate::backend::process::state::channel::Channel;
use crate::backend::process::state::mode;
use crate::backend::process::state::rights::Rights;
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::state::slots::{self, With, number_of};
use crate::backend::process::wire::bell::{Bell, PeerBell};
use crate::backend::process::wire::fds;
use crate::backend::process::wire::mapped::Mapped;
use crate::backend::process::wire::message::Answer;
use crate::backend::process::wire::pair::Pair;
use crate::error::Error;
use nix::errno::Errno;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;

type Met = Result<Answer, (Errno, String)>;

fn refuse(errno: Errno, why: &str) -> Met {
    Err((errno, why.to_owned()))
}

fn text(e: Error) -> (Errno, String) {
    (e.cause(), e.for_peer())
}

/// What a new holder gets by the channel of who introduces it, and whether its
/// identity is beyond doubt.
fn introduction(rt: &mut Runtime, index: usize, id: u64) -> Option<(Rights, bool)> {
    let c = rt.channel(index)?;
    let verified = c.verified && (c.peer == id || c.peer == 1);
    Some((c.granted.clone(), verified))
}

/// Somebody who holds a descriptor of this context gives another the same.
pub(crate) fn introduced(rt: &mut Runtime, index: usize, id: u64) -> Met {
    let Some((rights, mut verified)) = introduction(rt, index, id) else {
        return refuse(Errno::EBADF, "no such channel");
    };
    // The root knows everybody: of others than itself a context speaks to it only
    // while it makes them.
    if let Some(book) = &rt.book {
        let asker = rt.channels[index].as_ref().map_or(0, |c| c.peer);
        let makes = book.origin(id).is_some_and(|o| o.0 == asker) && book.pid(id) == Some(0);
        if id != asker && !makes {
            return refuse(Errno::EPERM, "not a context that it makes");
        }
        // By the root's own book: whoever makes a context is no third party.
        verified |= makes;
    }
    let sock = rt.channel(index).and_then(|c| c.sock.as_ref());
    let Some(sock) = sock else {
        return refuse(Errno::EPERM, "no descriptors pass this way");
    };
    let (sock, pair, bell) = if mode::is_strict() {
        // It neither sends nor receives any more but from its root.
        let [_, pair, bell] =
            fds::receive_low(sock, true).map_err(|e| (e, "no pages came".to_owned()))?;
        (None, pair, bell)
    } else {
        let mut got = fds::receive(sock, 3).map_err(text)?.into_iter();
        match (got.next(), got.next(), got.next()) {
            (Some(sock), Some(pair), Some(bell)) => (Some(sock), pair, bell),
            _ => return refuse(Errno::EPROTO, "no pages came"),
        }
    };
    // Files that another context made: large enough, and so for ever.
    for (file, len) in [(&pair, Mapped::<Pair>::LEN), (&bell, Mapped::<Bell>::LEN)] {
        if !fds::holds(file, 0, len as u64) {
            return refuse(Errno::EINVAL, "no pages that stay");
        }
    }
    let pair = Mapped::<Pair>::map(pair).map_err(text)?;
    let bell = PeerBell::map(bell).map_err(text)?;
    acquaint(rt, id, sock, pair, bell, rights, verified);
    Ok(Answer::Done)
}

/// The same in a trapped context, which can map nothing: its monitor has.
pub(crate) fn placed(
    rt: &mut Runtime,
    index: usize,
    id: u64,
    pair: u64,
    bell: u64,
    sock: RawFd,
) -> Met {
    if rt.monitor.is_none_or(|m| m.channel != index) {
        return refuse(Errno::EPERM, "only its monitor may");
    }
    let Some((rights, verified)) = introduction(rt, index, id) else {
        return refuse(Errno::EBADF, "no such channel");
    };
    let at = |address: u64| {
        std::ptr::NonNull::new(address as *mut u8)
            .filter(|_| address.is_multiple_of(crate::page::page_size() as u64))
    };
    let (Some(pair), Some(bell)) = (at(pair), at(bell)) else {
        return refuse(Errno::EINVAL, "no address");
    };
    if sock < fds::base() || rt.own_descriptors().binary_search(&sock).is_ok() {
        return refuse(Errno::EINVAL, "no new descriptor of the backend's");
    }
    // SAFETY: who asks is the creator, with every right over this memory; it
    // has just mapped these two for this purpose, each where nothing was, and
    // put the socket where the backend's descriptors are, under a number that
    // is nobody's, as just seen.
    let (pair, bell, sock) = unsafe {
        (
            Mapped::<Pair>::adopt(pair.cast()),
            PeerBell::new(Mapped::<Bell>::adopt(bell.cast())),
            OwnedFd::from_raw_fd(sock),
        )
    };
    acquaint(rt, id, Some(sock), pair, bell, rights, verified);
    Ok(Answer::Done)
}

fn acquaint(
    rt: &mut Runtime,
    id: u64,
    sock: Option<OwnedFd>,
    pair: Mapped<Pair>,
    bell: PeerBell,
    rights: Rights,
    verified: bool,
) {
    rt.sweep();
    bell.inherit(false);
    let mut c = Channel::new(id, sock, pair, 1, bell);
    c.verified = verified;
    c.granted = rights;
    let index = rt.add_channel(c);
    if let Some(c) = rt.channel(index).filter(|c| c.sock.is_none()) {
        c.desc = number_of(index);
    }
}

/// Somebody whose calls come here has made a context in a slot of its own.
pub(crate) fn in_a_slot(
    rt: &mut Runtime,
    index: usize,
    id: u64,
    slot: usize,
    supervised: bool,
) -> Met {
    let trap = rt.channel(index).map(|c| &mut c.trap);
    let Some((trap, file)) = trap.and_then(|t| t.slots.clone().map(|file| (t, file))) else {
        return refuse(Errno::EPERM, "not a context whose calls come here");
    };
    // Each costs us memory: once for each slot, however often it is asked.
    let bit = 1u64.checked_shl(slot as u32).unwrap_or(0);
    if trap.met & bit != 0 {
        return refuse(Errno::EEXIST, "met already");
    }
    trap.met |= bit;
    let Some((pair, bell)) = slots::pages(&file, slot, With::Monitor) else {
        return refuse(Errno::ENOMEM, "its pages");
    };
    rt.sweep();
    let mut c = Channel::new(id, None, pair, 0, PeerBell::new(bell));
    c.seen = c.inn().seq.load(Ordering::Acquire);
    c.verified = false;
    c.trap.supervised = supervised;
    rt.add_channel(c);
    Ok(Answer::Done)
}

/// From the root: the descriptor of a context that is known by the root's word.
/// It is held from now on.
pub(crate) fn known(rt: &mut Runtime, id: u64) -> Answer {
    let known = |c: &&mut Channel| c.peer == id && c.verified && !c.root_line && !c.peer_dead();
    let found = rt.channels.iter_mut().flatten().find(known);
    Answer::Number(found.map(|c| {
        // The root books it, too.
        c.booked = true;
        c.hold(true);
        c.desc
    }))
}

/// From the root: the page of a pair with another context, and that one's
/// doorbell.
pub(crate) fn greeted(rt: &mut Runtime, id: u64, hold: bool) -> Met {
    let Some(line) = rt.channel(0).and_then(|c| c.sock.as_ref()) else {
        return refuse(Errno::EPERM, "no line to the root");
    };
    let [page, bell] = fds::receive_low(line, true).map_err(|e| (e, "no pages came".to_owned()))?;
    rt.sweep();
    let pair = Mapped::<Pair>::map(page).map_err(text)?;
    let bell = PeerBell::map(bell).map_err(text)?;
    bell.inherit(false);
    // Half 0 is whoever holds it first. Each may come to hold the other by being
    // switched to; neither asks anything of the other.
    let mut c = Channel::new(id, None, pair, usize::from(!hold), bell);
    c.booked = true;
    c.sealed = true;
    c.introduced = true;
    let index = rt.add_channel(c);
    let Some(c) = rt.channel(index) else {
        return refuse(Errno::EBADF, "no such channel");
    };
    c.desc = number_of(index);
    c.hold(hold);
    Ok(Answer::Number(Some(c.desc)))
}
