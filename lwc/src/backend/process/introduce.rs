//! Contexts that the root introduces to each other (ours; lwControl(2) on the
//! kernel backend): they may switch to each other, and nothing else.
//!
//! The root makes a page for the two and sends it, with each one's doorbell, to
//! the other. Both are parked; a context in the strict sandbox still receives on
//! its line to the root and maps what comes, for that is no more than the root
//! gives it. Identities are the root's word, so that [`Event::from`] of a switch
//! that comes this way is beyond doubt. What either asks of the other is refused.
//!
//! [`Event::from`]: crate::Event::from

use super::fds;
use super::memory::File;
use super::nested::number_of;
use super::runtime::{Channel, Runtime};
use super::serve::{Reply, ask, op};
use super::wire::bell::PeerBell;
use super::wire::mapped::Mapped;
use super::wire::pair::Pair;
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::os::fd::RawFd;

const CALL: &str = "introduce";

/// Instead of a descriptor's number.
const UNKNOWN: u64 = u64::MAX;

/// The root's side: `to` gets a descriptor of `whom`. Its number there.
pub(super) fn introduce(rt: &mut Runtime, to: RawFd, whom: RawFd) -> Result<RawFd> {
    if !rt.is_root() {
        return Err(Error::new(
            CALL,
            Errno::EPERM,
            "only the root introduces contexts to each other, on the process backend",
        ));
    }
    if rt.self_desc >= 0 && [to, whom].contains(&rt.self_desc) {
        return Err(Error::new(CALL, Errno::EINVAL, "the current context"));
    }
    let mut ends = [(0, 0); 2];
    for (end, desc) in ends.iter_mut().zip([to, whom]) {
        let index = rt.find(CALL, desc)?;
        rt.alive(CALL, index)?;
        let peer = rt.channel(index).map_or(0, |c| c.peer);
        if rt.channel(index).is_some_and(|c| c.peer_bell.is_trapped()) {
            return Err(Error::new(
                CALL,
                Errno::ENOTSUP,
                "a context whose system calls are trapped is introduced to nobody, on the process backend",
            ));
        }
        // A request reaches it by the line that the root made for it.
        let line = super::registrar::channel_of(rt, peer).unwrap_or(index);
        *end = (line, peer);
    }
    let [(to_line, to_id), (whom_line, whom_id)] = ends;
    if to_id == whom_id {
        return Err(Error::new(CALL, Errno::EINVAL, "a context knows itself"));
    }
    let known = ask(rt, CALL, to_line, &[op::KNOW, whom_id], &[], &[])?.words[0];
    if known != UNKNOWN {
        return number(known);
    }
    let page = File(Mapped::<Pair>::file(c"lwc-pair")?);
    let book = rt.book.as_ref();
    let bells = [to_id, whom_id].map(|id| book.and_then(|b| b.bell(id)));
    let [Some(to_bell), Some(whom_bell)] = bells else {
        return Err(Error::new(
            CALL,
            Errno::EBADF,
            "a context without a doorbell",
        ));
    };
    let words = [op::GREET, to_id, 0];
    ask(rt, CALL, whom_line, &words, &[], &[page.0, to_bell])?;
    let words = [op::GREET, whom_id, 1];
    let answer = ask(rt, CALL, to_line, &words, &[], &[page.0, whom_bell])?;
    if let Some(book) = rt.book.as_mut() {
        // Each may come to hold the other by being switched to.
        book.hold(to_id, whom_id);
        book.hold(whom_id, to_id);
    }
    number(answer.words[0])
}

fn number(word: u64) -> Result<RawFd> {
    RawFd::try_from(word).map_err(|_| {
        Error::new(
            CALL,
            Errno::EPROTO,
            "the context does not keep to the rules",
        )
    })
}

/// In a context: the descriptor of one that it knows by its root's word.
pub(super) fn know(rt: &mut Runtime, id: u64) -> std::result::Result<Reply, (Errno, String)> {
    let mut reply = Reply::default();
    reply.words[0] = UNKNOWN;
    let known = |c: &&mut Channel| c.peer == id && c.vouched && !c.root_line && !c.peer_dead();
    if let Some(c) = rt.channels.iter_mut().flatten().find(known) {
        // Whether it is booked or not: this is the root's word, who books it.
        c.booked = true;
        c.hold(true);
        reply.words[0] = c.desc as u64;
    }
    Ok(reply)
}

/// In a context: the page of a pair with another one, and that one's doorbell.
pub(super) fn greet(
    rt: &mut Runtime,
    id: u64,
    hold: bool,
) -> std::result::Result<Reply, (Errno, String)> {
    let text = |e: Error| (e.errno(), e.to_string());
    let sock = rt.channel(0).map_or(-1, |c| c.sock);
    let came = fds::receive_low(sock, true).map_err(|e| (e, "no pages came".to_owned()))?;
    let [page, bell] = came.map(File);
    rt.sweep();
    let pair = Mapped::<Pair>::map(page.0).map_err(text)?;
    let bell = PeerBell::map(bell.0).map_err(text)?;
    bell.inherit(false);
    // Half 0 is whoever holds it first.
    let mut c = Channel::new(id, -1, pair, usize::from(!hold), bell);
    c.booked = true;
    c.sealed = true;
    let index = rt.add_channel(c);
    let mut reply = Reply::default();
    if let Some(c) = rt.channel(index) {
        c.desc = number_of(index);
        c.hold(hold);
        reply.words[0] = c.desc as u64;
    }
    Ok(reply)
}
