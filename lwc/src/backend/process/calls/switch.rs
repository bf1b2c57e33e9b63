//! lwCreate's return in both, lwSwitch and lwDiscardSwitch.

use super::create::{Forked, create};
use super::{nested, rollback};
use crate::backend::answers::Returned;
use crate::backend::process::ask::{alive, hold};
use crate::backend::process::guard::Guard;
use crate::backend::process::park::park;
use crate::backend::process::state::mode;
use crate::backend::process::state::runtime::{Got, Runtime};
use crate::backend::process::wire::bell::{ANCHORED, EXITED};
use crate::backend::process::wire::pair::{WORDS, kind};
use crate::error::{Error, Result};
use crate::event::{Args, Event};
use crate::flags::PREPARE;
use crate::spec::{For, Spec, validate};
use crate::time::MonotonicTime;
use nix::errno::Errno;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

/// lwCreate.
pub(crate) fn lw_create(specs: &[Spec], flags: u32) -> Result<Returned> {
    const CALL: &str = "lwCreate";
    validate(CALL, specs, For::Create)?;
    if flags & !(lwc_sys::LWC_CREATE_FLAGS | PREPARE) != 0 {
        return Err(Error::new(
            CALL,
            Errno::EINVAL,
            format!("flags {flags:#x} have bits that lwCreate does not know"),
        ));
    }
    let mut guard = Guard::alone(CALL)?;
    // Who is guarded makes nobody who is not; the root sees to it, too.
    let guards = lwc_sys::LWC_TRAP_FAULT | lwc_sys::LWC_TRAP_EXIT;
    let flags = flags | guard.rt().flags & guards;
    let made = if guard.rt().monitor.is_some() {
        rollback::not_nested(flags)?;
        nested::create(guard.rt(), specs, flags)?
    } else {
        create(guard.rt(), specs, flags)?
    };
    match made {
        Forked::Creator(fd) => Ok(Returned::Creator(fd)),
        Forked::New => {
            let got = park(guard.rt(), None);
            if let Some(root) = guard.rt().channel(0) {
                root.out().entered.store(1, Ordering::Relaxed);
            }
            arrive(guard.rt(), got).map(Returned::New)
        }
    }
}

/// What a switch brought, in terms of descriptors. The caller's descriptor is
/// booked the first time it comes this way.
pub(crate) fn arrive(rt: &mut Runtime, got: Got) -> Result<Event> {
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
    if c.verified {
        let better = rt
            .channels
            .iter()
            .flatten()
            .find(|c| c.held && c.verified && c.peer == peer);
        if let Some(better) = better {
            return Ok(better.desc);
        }
    }
    // One in the strict sandbox is not served that any more, and its root knows
    // whom it has introduced.
    if !booked && !mode::is_strict() {
        let id = rt.id;
        hold(rt, id, peer)?;
    }
    let c = rt.channel(index).ok_or_else(gone)?;
    c.booked = true;
    c.hold(true);
    Ok(c.desc)
}

/// Passes the baton. `keep`: the current context will be there to take it back.
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
    alive(rt, call, index)?;
    // None but a trapped one is anybody's to answer, whatever it says.
    let says = rt.channels[index].as_ref().filter(|_| rt.is_trapped(index));
    let awaits = says.map_or(0, |c| c.peer_bell.awaits());
    if awaits != 0 && awaits != rt.id {
        return Err(Error::new(
            call,
            Errno::EBUSY,
            format!(
                "it waits for the answer to a system call, which only context {awaits} may give"
            ),
        ));
    }
    rt.expect_answer(index);
    rt.ring_alone(index);
    let (channels, bell) = (&mut rt.channels, &rt.bell);
    let Some(c) = channels.get_mut(index).and_then(Option::as_mut) else {
        return Err(Error::new(call, Errno::EBADF, "no such context"));
    };
    bell.give(c.peer, c.peer_bell.baton().received);
    let half = c.out();
    half.put_words(words);
    half.count.store(words.len() as u32, Ordering::Relaxed);
    half.publish(if keep { kind::BATON } else { kind::LAST_BATON });
    c.ring();
    Ok(())
}

/// ENOTSUP for a deadline where the sandbox knows no sleep with one.
fn no_deadline(deadline: Option<MonotonicTime>) -> Result<()> {
    if deadline.is_some() && mode::sleeps_unlimited() {
        return Err(Error::new(
            "lwSwitch",
            Errno::ENOTSUP,
            "in the strict sandbox, on the process backend, a context waits without a deadline; let whoever switched to it have one",
        ));
    }
    Ok(())
}

/// Whom the current context gave the baton to has not returned it in time.
///
/// On a busy machine it may still be on its way to sleep, where it will hear of it; it
/// is rung until another one is ([`Runtime::ring_alone`]). Nobody else is.
fn late(rt: &mut Runtime) {
    rt.bell.receive();
    let rung = rt.rung;
    let others = rt.channels.iter_mut().enumerate();
    others
        .filter(|(index, _)| *index != rung)
        .filter_map(|(_, c)| c.as_mut())
        .for_each(|c| c.unrung = false);
}

/// lwSwitch, with an optional deadline.
pub(crate) fn lw_switch(
    to: RawFd,
    words: &[u64],
    deadline: Option<MonotonicTime>,
) -> Result<Event> {
    let mut guard = Guard::alone("lwSwitch")?;
    let rt = guard.rt();
    let deadline = deadline.filter(|&d| d != MonotonicTime::NEVER);
    no_deadline(deadline)?;
    pass(rt, "lwSwitch", to, words, true)?;
    let got = park(rt, deadline);
    if matches!(got, Got::Timeout) {
        late(rt);
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
        rt.bell.set_dead(EXITED | ANCHORED);
        loop {
            if rt.book.as_ref().is_none_or(|b| b.count() <= 1) {
                // SAFETY: no context is left.
                unsafe { libc::_exit(0) };
            }
            park(rt, None);
        }
    }
    if let Err(e) = pass(rt, "lwDiscardSwitch", to, words, false) {
        return e;
    }
    // SAFETY: this context is no more; its process has nothing left to do.
    unsafe { libc::_exit(0) }
}

/// Waits for a switch here, once more.
pub(crate) fn await_switch(deadline: MonotonicTime) -> Result<Event> {
    let mut guard = Guard::alone("lwSwitch")?;
    let deadline = Some(deadline).filter(|&d| d != MonotonicTime::NEVER);
    no_deadline(deadline)?;
    let rt = guard.rt();
    rt.bell.wait_on();
    // What came last was nobody's to give, and whoever says it again and again keeps
    // nobody else from being heard.
    rt.expected = None;
    let got = park(rt, deadline);
    if matches!(got, Got::Timeout) {
        late(rt);
    }
    arrive(rt, got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::process::state::liar::Liar;

    /// It says that it sleeps, and does not yet: whoever waits for it for a short time,
    /// and then for longer, has to ring it all the time.
    #[test]
    fn one_that_falls_asleep_late_is_rung_after_a_wait_that_was_too_short() {
        let mut liar = Liar::new();
        let _ = liar.bell.doze();
        let index = liar.index;
        liar.rt.ring_alone(index);
        liar.rt.channel(index).unwrap().ring();
        late(&mut liar.rt);
        assert!(liar.rt.ring_again());
        // Not once another one has the baton.
        liar.rt.ring_alone(index + 1);
        late(&mut liar.rt);
        assert!(!liar.rt.ring_again());
    }
}
