//! Which request it is, and the way back.

use super::{act, lend, meet};
use crate::backend::process::root;
use crate::backend::process::root::requests::Told;
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::wire::fds;
use crate::backend::process::wire::message::{Answer, Request};
use crate::backend::process::wire::pair::kind;
use crate::backend::process::wire::parts::{Part, decode_specs};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Answers one request. Nothing in it is trusted.
pub(crate) fn serve(rt: &mut Runtime, index: usize) {
    let Some(c) = rt.channels.get(index).and_then(Option::as_ref) else {
        return;
    };
    let asker = c.peer;
    let request = Request::decode(&c.inn().take_words());
    let sealed = c.sealed
        || asker != 0 && {
            let twins = rt.channels.iter().flatten();
            twins.filter(|o| o.peer == asker).any(|o| o.sealed)
        };
    if sealed {
        return hear_sealed(rt, index, request);
    }
    let quick = match request {
        None => Some(Err((Errno::ENOSYS, "no such request"))),
        Some(request) => act::quick(rt, index, &request),
    };
    let fragile = Err((
        Errno::EAGAIN,
        "it is getting memory; answer that call of it first",
    ));
    match (quick, request) {
        (Some(done), _) => reply_quick(rt, index, done),
        (None, Some(request)) if !rt.fragile => {
            reply(rt, index, request);
            ring(rt, index);
        }
        _ => reply_quick(rt, index, fragile),
    }
}

/// What is heard of one in the strict sandbox, or one that was introduced: that it
/// gives up what it holds, and once on each of its lines that it is there. All else
/// is dropped, and honest ones do not say it ([`ask`](crate::backend::process::ask)).
///
/// It may be hostile and asleep, and what it says may be found while another has
/// the baton: to wake it then would have it run in that one's time. So for nothing
/// that it says it is woken. Before it is in the sandbox it is, for its host alone
/// has run; there it looks for its answer by itself.
fn hear_sealed(rt: &mut Runtime, index: usize, request: Option<Request>) {
    match request {
        Some(request @ Request::Seal) if rt.channel(index).is_some_and(|c| !c.sealed) => {
            reply(rt, index, request);
            ring(rt, index);
        }
        // To be said again: it would take memory now.
        Some(request @ Request::Unhold { .. }) if rt.is_root() && !rt.fragile => {
            reply(rt, index, request);
        }
        _ => {}
    }
}

fn ring(rt: &mut Runtime, index: usize) {
    if let Some(c) = rt.channel(index) {
        c.ring();
    }
}

/// Without allocating. Bytes and descriptors are where they belong already.
fn reply_quick(rt: &mut Runtime, index: usize, done: act::Done) {
    let Some(c) = rt.channel(index) else { return };
    let out = c.out();
    let errno = match done {
        Ok((answer, fds)) => {
            out.put_words(&answer.encode(fds));
            0
        }
        Err((errno, why)) => {
            out.put_payload(why.as_bytes());
            errno as i32 as u32
        }
    };
    out.errno.store(errno, Ordering::Relaxed);
    out.publish(kind::REPLY);
    c.ring();
}

/// What is answered, with bytes and descriptors.
struct Reply {
    answer: Answer,
    bytes: Vec<u8>,
    fds: Vec<Rc<OwnedFd>>,
}

/// Answers, and leaves the waking to the caller.
fn reply(rt: &mut Runtime, index: usize, request: Request) {
    let Some(asker) = rt.channel(index).map(|c| c.peer) else {
        return;
    };
    let result = run(rt, index, asker, request);
    let booked = match (&result, request) {
        (Ok(reply), Request::Register { .. }) => match reply.answer {
            Answer::Id(id) => Some(id),
            _ => None,
        },
        _ => None,
    };
    let Some(c) = rt.channel(index) else { return };
    let result = result.and_then(|reply| {
        if !c.out().put_payload(&reply.bytes) {
            return Err((Errno::E2BIG, "too many parts".to_owned()));
        }
        if !reply.fds.is_empty() {
            let fds: Vec<BorrowedFd<'_>> = reply.fds.iter().map(|fd| fd.as_fd()).collect();
            let sent = c.socket().and_then(|sock| fds::send(sock, &fds));
            sent.map_err(|e| {
                let why = "its owner cannot send descriptors: it is in a sandbox, or too many are under way";
                (e.cause(), why.to_owned())
            })?;
        }
        Ok(reply.answer.encode(reply.fds.len()))
    });
    let (errno, undo) = match &result {
        Ok(words) => {
            c.out().put_words(words);
            (0, None)
        }
        Err((errno, text)) => {
            c.out().put_payload(text.as_bytes());
            (*errno as i32 as u32, booked)
        }
    };
    c.out().errno.store(errno, Ordering::Relaxed);
    c.out().publish(kind::REPLY);
    // Nobody makes what nobody has been told of.
    if let Some(id) = undo {
        root::end::unregister(rt, id);
    }
}

fn refuse(errno: Errno, why: &str) -> Result<Reply, (Errno, String)> {
    Err((errno, why.to_owned()))
}

fn run(
    rt: &mut Runtime,
    index: usize,
    asker: u64,
    request: Request,
) -> Result<Reply, (Errno, String)> {
    let plain = |told: Told| {
        told.map(|(answer, fds)| Reply {
            answer,
            bytes: Vec::new(),
            fds,
        })
    };
    let answer = |answer| plain(Ok((answer, Vec::new())));
    let text = |e: crate::error::Error| (e.cause(), e.for_peer());
    if request.is_of_the_root() {
        if !rt.is_root() {
            return refuse(Errno::EPERM, "only the root keeps the book");
        }
        return plain(root::requests::answer(rt, index, asker, request));
    }
    if rt.anchor {
        return refuse(Errno::ESRCH, "the root discarded itself");
    }
    let Some(c) = rt.channel(index) else {
        return refuse(Errno::EBADF, "no such channel");
    };
    match request {
        Request::Restrict => {
            let Some(specs) = decode_specs(&c.inn().payload()) else {
                return refuse(Errno::EINVAL, "not specifiers");
            };
            c.granted.restrict(&specs);
            answer(Answer::Done)
        }
        Request::Overlay => {
            let Some(specs) = decode_specs(&c.inn().payload()) else {
                return refuse(Errno::EINVAL, "not specifiers");
            };
            if rt.monitor.is_some() {
                return refuse(
                    Errno::EPERM,
                    "its system calls are trapped; use read_memory and write_memory",
                );
            }
            let (parts, fds) = lend::lend(rt, index, &specs).map_err(text)?;
            Ok(Reply {
                answer: Answer::Done,
                bytes: Part::encode(&parts),
                fds,
            })
        }
        Request::Seal => {
            c.sealed = true;
            answer(Answer::Done)
        }
        Request::Introduce { id } => meet::introduced(rt, index, id).map(answer)?,
        Request::MeetAt {
            id,
            pair,
            bell,
            sock,
        } => meet::placed(rt, index, id, pair, bell, sock).map(answer)?,
        Request::Meet {
            id,
            slot,
            supervised,
        } => meet::in_a_slot(rt, index, id, slot, supervised).map(answer)?,
        Request::Know { .. } | Request::Greet { .. }
            if index != 0 || rt.is_root() || rt.monitor.is_some() =>
        {
            refuse(
                Errno::EPERM,
                "only the root introduces contexts to each other, and none whose system calls are trapped",
            )
        }
        Request::Know { id } => answer(meet::known(rt, id)),
        Request::Greet { id, hold } => meet::greeted(rt, id, hold).map(answer)?,
        _ => refuse(Errno::ENOSYS, "no such request"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::process::state::liar::Liar;
    use crate::backend::process::wire::pair::WORDS;
    use proptest::prelude::*;

    /// What it is answered, if anything.
    fn asks_for(liar: &mut Liar, words: &[u64], count: u32) -> Option<u32> {
        let had = liar.hears().seq.load(Ordering::Relaxed);
        liar.says(kind::REQUEST, words, &[]);
        // Its length may be a lie as well.
        liar.claims(count);
        serve(&mut liar.rt, liar.index);
        let told = liar.hears();
        if told.seq.load(Ordering::Relaxed) == had {
            return None;
        }
        assert_eq!(told.kind.load(Ordering::Relaxed), kind::REPLY);
        Some(told.errno.load(Ordering::Relaxed))
    }

    fn asks(liar: &mut Liar, words: &[u64], count: u32) -> u32 {
        asks_for(liar, words, count).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 512 }, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_peer_without_rights_gets_nothing_whatever_it_writes(
            all in proptest::collection::vec(
                (0u64..24, proptest::collection::vec(prop_oneof![0u64..16, any::<u64>()], WORDS - 1), any::<u32>()),
                1..12,
            )
        ) {
            let mut liar = Liar::new();
            for (what, rest, count) in all {
                // RUN is among them: without a right it must not be made.
                let words: Vec<u64> = std::iter::once(what).chain(rest).collect();
                let errno = asks_for(&mut liar, &words, count);
                let words = std::array::from_fn(|i| words[i]);
                if let Some(Request::Peek { len, .. } | Request::Poke { len, .. }) =
                    Request::decode(&words)
                {
                    prop_assert!(errno != Some(0) || len == 0);
                }
            }
            // Nothing it registered has a process, and one at most is under way.
            prop_assert!(liar.rt.book.as_ref().unwrap().count() <= 2);
        }
    }

    #[test]
    fn one_that_is_sealed_is_served_nothing_and_never_woken() {
        let mut liar = Liar::new();
        let info = Request::Info { id: 1 }.encode();
        assert_eq!(asks(&mut liar, &info, 0), 0);
        assert_eq!(asks(&mut liar, &Request::Seal.encode(), 0), 0);
        // Whoever rang it from here on would note that it is not awake.
        let _ = liar.bell.doze();
        for what in 0..24u64 {
            let mut words = [0; WORDS];
            words[0] = what;
            let gives_up = matches!(Request::decode(&words), Some(Request::Unhold { .. }));
            let answer = asks_for(&mut liar, &words, 0);
            assert_eq!(answer, gives_up.then_some(0), "{what}");
            let index = liar.index;
            assert!(!liar.rt.channel(index).unwrap().unrung, "{what}");
        }
        assert_eq!(liar.rt.book.as_ref().unwrap().count(), 1);
        // A context keeps no book, and is told nothing.
        liar.rt.book = None;
        let unhold = Request::Unhold { target: 1 }.encode();
        assert_eq!(asks_for(&mut liar, &unhold, 0), None);
    }

    #[test]
    fn a_registration_that_cannot_be_sent_is_undone() {
        let mut liar = Liar::new();
        // It has closed its end.
        liar.sock = std::fs::File::open("/dev/null").unwrap().into();
        let register = Request::Register {
            flags: 0,
            shared_table: false,
        };
        for _ in 0..3 {
            let errno = asks(&mut liar, &register.encode(), 0);
            assert_eq!(errno, Errno::EPIPE as u32);
            assert_eq!(liar.rt.book.as_ref().unwrap().count(), 1);
        }
    }

    #[test]
    fn nobody_is_born_by_a_claim() {
        let mut liar = Liar::new();
        let register = Request::Register {
            flags: 0,
            shared_table: false,
        };
        assert_eq!(asks(&mut liar, &register.encode(), 0), 0);
        let Some((Answer::Id(id), 3)) = Answer::decode(&liar.hears().take_words()) else {
            panic!("no registration");
        };
        // No process has shown itself on the new context's line; one that is no
        // child of the root's would not do either.
        for _ in 0..2 {
            let born = Request::Born { id }.encode();
            assert_eq!(asks(&mut liar, &born, 0), Errno::EPERM as u32);
            let line = fds::receive(&liar.sock, 3).map(|mut fds| fds.swap_remove(0));
            if let Ok(line) = line {
                fds::show_credentials(&line, None).unwrap();
            }
        }
        assert_eq!(liar.rt.book.as_ref().unwrap().pid(id), Some(0));
        assert_eq!(asks(&mut liar, &Request::Unregister { id }.encode(), 0), 0);
        assert_eq!(liar.rt.book.as_ref().unwrap().count(), 1);
    }
}
