//! What is done with the descriptor of a context, but for switching to it.

use super::parked::parked_together;
use super::{create, overlay, parking};
use crate::backend::answers::Facts;
use crate::backend::process::ask::{self, alive, ask_with, facts, hold, reap};
use crate::backend::process::guard::{Guard, single_threaded};
use crate::backend::process::root::end;
use crate::backend::process::state::channel::Channel;
use crate::backend::process::state::slots::OWN_NUMBER;
use crate::backend::process::wire::fds;
use crate::backend::process::wire::mapped::Mapped;
use crate::backend::process::wire::message::Request;
use crate::backend::process::wire::pair::Pair;
use crate::backend::process::wire::parts::encode_specs;
use crate::error::{Error, Result};
use crate::spec::{For, Spec, validate};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, RawFd};

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
    ask_with(
        rt,
        CALL,
        index,
        Request::Restrict,
        &encode_specs(specs),
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
        reap(rt);
    }
    let (id, rights) = match of.filter(|&fd| fd != rt.self_desc || fd < 0) {
        None => (rt.id, rt.cap.types()),
        Some(fd) => {
            let index = rt.find(CALL, fd)?;
            let c = rt.channels[index].as_ref();
            c.map_or((0, 0), |c| (c.peer, c.mine.types()))
        }
    };
    let facts = facts(rt, CALL, id)?;
    Ok(Facts {
        id,
        creator: facts.creator,
        flags: facts.flags,
        state: facts.state,
        rights,
        contexts: facts.contexts,
        resident: facts.resident,
        private: facts.private,
        pss: facts.pss,
    })
}

/// lwGetlwc.
pub(crate) fn lw_getlwc() -> Result<RawFd> {
    const CALL: &str = "lwGetlwc";
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    if rt.self_desc < 0 && rt.monitor.is_some() {
        rt.self_desc = OWN_NUMBER;
    }
    if rt.self_desc < 0
        && let Some(bell) = &rt.bell_fd
    {
        let fd = fds::duplicate(bell).map_err(|e| e.of(CALL))?;
        rt.self_desc = fd.as_raw_fd();
        rt.self_fd = Some(fd);
    }
    Ok(rt.self_desc)
}

/// One more descriptor of a context, with the same rights from then on its own.
pub(crate) fn lw_dup(fd: RawFd) -> Result<RawFd> {
    const CALL: &str = "dup";
    let mut guard = Guard::alone(CALL)?;
    let rt = guard.rt();
    let index = rt.find(CALL, fd)?;
    alive(rt, CALL, index)?;
    if rt.monitor.is_some() {
        return Err(Error::new(
            CALL,
            Errno::EPERM,
            "the system calls of this context are trapped; on the process backend it gets no further descriptors",
        ));
    }
    rt.sweep();
    let number = rt.free_channel();
    let id = rt.id;
    let own = rt.bell_fd.as_ref().map(fds::duplicate).transpose()?;
    let own = own.ok_or_else(|| Error::new(CALL, Errno::EPERM, "it has no doorbell to give"))?;
    let (sock, page) = create::introduce(rt, index, id, own.as_fd())?;
    let pair = Mapped::<Pair>::map(page)?;
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(CALL, Errno::EBADF, "no such context"));
    };
    let (peer, mine, verified, sealed) = (c.peer, c.mine.clone(), c.verified, c.sealed);
    // A second mapping of the peer's doorbell, which the first may outlive.
    let bell = c.peer_bell.again()?;
    bell.inherit(false);
    let mut twin = Channel::new(peer, Some(sock), pair, 0, bell);
    twin.verified = verified;
    twin.sealed = sealed;
    twin.mine = mine;
    twin.booked = true;
    twin.hold(true);
    let desc = twin.desc;
    rt.put_channel(number, twin);
    hold(rt, id, peer)?;
    Ok(desc)
}

/// Whether a number is a context's descriptor.
pub(crate) fn names(fd: RawFd) -> Result<()> {
    const CALL: &str = "lwInfo";
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    if fd >= 0 && fd == rt.self_desc {
        return Ok(());
    }
    rt.find(CALL, fd).map(drop)
}

/// close(2) of a context's descriptor.
pub(crate) fn lw_close(fd: RawFd) -> Result<()> {
    const CALL: &str = "close";
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    if fd >= 0 && fd == rt.self_desc {
        rt.self_fd = None;
        rt.self_desc = -1;
        return Ok(());
    }
    let index = rt.find(CALL, fd)?;
    let Some(c) = rt.channel(index) else {
        return Ok(());
    };
    c.hold(false);
    c.booked = false;
    let (peer, dead) = (c.peer, c.peer_dead());
    if !dead {
        let id = rt.id;
        if rt.is_root() {
            end::unhold(rt, id, peer);
        } else {
            // A root that does not answer is as good as gone.
            let _ = ask::ask(rt, CALL, 0, Request::Unhold { target: peer });
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
    if !rt.channels[index].as_ref().is_some_and(|c| c.verified) {
        return Err(Error::new(
            CALL,
            Errno::EPERM,
            "who it is was told by another context, which may lie",
        ));
    }
    if rt.is_root() && !wait {
        end::kill(rt, id);
        return Ok(());
    }
    ask::destroy(rt, id)
}

/// Introduces two contexts to each other.
pub(crate) fn introduce(to: RawFd, whom: RawFd) -> Result<RawFd> {
    let mut guard = Guard::alone("introduce")?;
    super::introduce::introduce(guard.rt(), to, whom)
}

/// Whether a context waits to be switched to, by the kernel's word.
pub(crate) fn parked(of: RawFd) -> Result<bool> {
    const CALL: &str = "parked";
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    let index = rt.find(CALL, of)?;
    alive(rt, CALL, index)?;
    if rt.channel(index).is_some_and(|c| c.threads) {
        // One sleeps there, and others run.
        drop(guard);
        return parked_together(&[of], true).map(|all| all == [true]);
    }
    Ok(parking::parks(rt, index))
}
