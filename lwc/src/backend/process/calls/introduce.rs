//! Contexts that the root introduces to each other (ours; lwControl(2) on the
//! kernel backend): they may switch to each other, and nothing else.
//!
//! The root makes a page for the two and sends it, with each one's doorbell, to
//! the other. Both are parked; a context in the strict sandbox still receives on
//! its line to the root and maps what comes, for that is no more than the root
//! gives it. Identities are the root's word, so that [`Event::from`] of a switch
//! that comes this way is beyond doubt. What either asks of the other is refused.
//! Either may be hostile, and do anything but answer: the error names it, so that
//! the other one is not taken for it.
//! The other side is `meet` in [`owner`](crate::backend::process::owner).
//!
//! [`Event::from`]: crate::Event::from

use super::parking::parks;
use crate::backend::process::ask::{alive, ask, ask_with, breach};
use crate::backend::process::root::register::channel_of;
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::wire::fds;
use crate::backend::process::wire::mapped::Mapped;
use crate::backend::process::wire::message::Request;
use crate::backend::process::wire::pair::Pair;
use crate::error::{Error, Party, Result};
use nix::errno::Errno;
use std::os::fd::{AsFd, RawFd};

const CALL: &str = "introduce";

/// `to` gets a descriptor of `whom`. Its number there.
pub(crate) fn introduce(rt: &mut Runtime, to: RawFd, whom: RawFd) -> Result<RawFd> {
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
    let end = |rt: &mut Runtime, desc, party| line_of(rt, desc).map_err(|e| e.at(party));
    let (to_line, to_id) = end(rt, to, Party::This)?;
    let (whom_line, whom_id) = end(rt, whom, Party::Other)?;
    if to_id == whom_id {
        return Err(Error::new(CALL, Errno::EINVAL, "a context knows itself"));
    }
    let (at_to, at_whom) = (|e: Error| e.at(Party::This), |e: Error| e.at(Party::Other));
    let known = ask(rt, CALL, to_line, Request::Know { id: whom_id }).map_err(at_to)?;
    if let Some(number) = known.number(CALL).map_err(at_to)? {
        return Ok(number);
    }
    let page = Mapped::<Pair>::file(c"lwc-pair")?;
    let bell = |rt: &Runtime, id| {
        let bell = rt.book.as_ref().and_then(|b| b.bell(id));
        let bell = bell.ok_or_else(|| Error::new(CALL, Errno::EBADF, "no doorbell"))?;
        fds::duplicate(bell).map_err(|e| e.of(CALL))
    };
    let (to_bell, whom_bell) = (bell(rt, to_id)?, bell(rt, whom_id)?);
    let greet = |id, hold| Request::Greet { id, hold };
    let files = [page.as_fd(), to_bell.as_fd()];
    ask_with(rt, CALL, whom_line, greet(to_id, false), &[], &files).map_err(at_whom)?;
    let files = [page.as_fd(), whom_bell.as_fd()];
    let greeted = ask_with(rt, CALL, to_line, greet(whom_id, true), &[], &files);
    let number = greeted.and_then(|g| g.number(CALL)?.ok_or_else(|| breach(CALL)));
    let number = number.map_err(at_to)?;
    if let Some(book) = rt.book.as_mut() {
        // Each may come to hold the other by being switched to.
        book.hold(to_id, whom_id);
        book.hold(whom_id, to_id);
    }
    Ok(number)
}

/// By which channel a request reaches a context that waits, and who it is.
fn line_of(rt: &mut Runtime, desc: RawFd) -> Result<(usize, u64)> {
    let index = rt.find(CALL, desc)?;
    alive(rt, CALL, index)?;
    let peer = rt.channel(index).map_or(0, |c| c.peer);
    if rt.is_trapped(index) {
        return Err(Error::new(
            CALL,
            Errno::ENOTSUP,
            "a context whose system calls are trapped is introduced to nobody, on the process backend",
        ));
    }
    // A hostile one that runs on would keep the root waiting.
    if !parks(rt, index) {
        return Err(Error::new(
            CALL,
            Errno::EBUSY,
            "a context runs though it was not switched to",
        ));
    }
    // By the line that the root made for it.
    Ok((channel_of(rt, peer).unwrap_or(index), peer))
}
