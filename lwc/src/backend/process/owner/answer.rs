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
    let Some(c) = rt.channel(index) else { return };
    let asker = c.peer;
    let request = Request::decode(&c.inn().take_words());
    // Whoever is in the strict sandbox is served nothing, but may give up what
    // it holds.
    let sealed = c.sealed && !matches!(request, Some(Request::Unhold { .. }));
    let quick = match request {
        _ if sealed => Some(Err((
            Errno::EPERM,
            "who asks is in the strict sandbox, or was introduced",
        ))),
        None => Some(Err((Errno::ENOSYS, "no such request"))),
        Some(request) => act::quick(rt, index, &request),
    };
    let fragile = Err((
        Errno::EAGAIN,
        "it is getting memory; answer that call of it first",
    ));
    match (quick, request) {
        (Some(done), _) => reply_quick(rt, index, done),
        (None, Some(request)) if !rt.fragile => reply(rt, index, asker, request),
        _ => reply_quick(rt, index, fragile),
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

fn reply(rt: &mut Runtime, index: usize, asker: u64, request: Request) {
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
                (e.errno(), why.to_owned())
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
    c.ring();
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
    let text = |e: crate::Error| (e.errno(), e.to_string());
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
    use crate::backend::process::state::channel::Channel;
    use crate::backend::process::wire::bell::{Bell, OwnBell, PeerBell};
    use crate::backend::process::wire::mapped::{Mapped, seal_writes};
    use crate::backend::process::wire::pair::{Pair, WORDS};
    use proptest::prelude::*;

    /// A root, and its channel to a context that is not there: the test writes
    /// what that one would.
    fn root_and_liar() -> (Runtime, Mapped<Pair>, OwnBell, usize) {
        let mut rt = Runtime::root().unwrap();
        let bell = Mapped::<Bell>::file(c"t").unwrap();
        let own = OwnBell::new(Mapped::map(&bell).unwrap());
        seal_writes(&bell).unwrap();
        let pair = Mapped::<Pair>::file(c"t").unwrap();
        let (here, _there) = fds::socket_pair().unwrap();
        let channel = Channel::new(
            7,
            Some(here),
            Mapped::map(&pair).unwrap(),
            0,
            PeerBell::map(&bell).unwrap(),
        );
        let index = rt.add_channel(channel);
        (rt, Mapped::map(&pair).unwrap(), own, index)
    }

    fn send(pair: &Pair, words: &[u64], count: u32) {
        let half = &pair.halves[1];
        half.put_words(words);
        half.count.store(count, Ordering::Relaxed);
        half.publish(kind::REQUEST);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 512 }, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_stranger_without_rights_gets_nothing_whatever_it_writes(
            all in proptest::collection::vec(
                (0u64..24, proptest::collection::vec(prop_oneof![0u64..16, any::<u64>()], WORDS - 1), any::<u32>()),
                1..12,
            )
        ) {
            let (mut rt, pair, _bell, index) = root_and_liar();
            for (what, rest, count) in all {
                // RUN is among them: without a right it must not be made.
                let words: Vec<u64> = std::iter::once(what).chain(rest).collect();
                send(&pair, &words, count);
                serve(&mut rt, index);
                let half = &pair.halves[0];
                let errno = half.errno.load(Ordering::Relaxed);
                prop_assert_eq!(half.kind.load(Ordering::Relaxed), kind::REPLY);
                if let Some(Request::Peek { len, .. } | Request::Poke { len, .. }) =
                    Request::decode(&half_words(&words))
                {
                    prop_assert!(errno != 0 || len == 0);
                }
            }
            // Nothing it registered has a process, and one at most is under way.
            prop_assert!(rt.book.as_ref().unwrap().count() <= 2);
        }
    }

    fn half_words(words: &[u64]) -> [u64; WORDS] {
        std::array::from_fn(|i| words[i])
    }

    #[test]
    fn one_that_is_sealed_is_served_nothing() {
        let (mut rt, pair, _bell, index) = root_and_liar();
        let ask = |rt: &mut Runtime, request: Request| {
            send(&pair, &request.encode(), 0);
            serve(rt, index);
            pair.halves[0].errno.load(Ordering::Relaxed)
        };
        assert_eq!(ask(&mut rt, Request::Info { id: 1 }), 0);
        assert_eq!(ask(&mut rt, Request::Seal), 0);
        let eperm = Errno::EPERM as u32;
        for words in 0..24u64 {
            let mut all = [0; WORDS];
            all[0] = words;
            let Some(request) = Request::decode(&all) else {
                continue;
            };
            let expected = if matches!(request, Request::Unhold { .. }) {
                0
            } else {
                eperm
            };
            assert_eq!(ask(&mut rt, request), expected, "{request:?}");
        }
        assert_eq!(rt.book.as_ref().unwrap().count(), 1);
    }

    #[test]
    fn a_registration_that_cannot_be_sent_is_undone() {
        let (mut rt, pair, _bell, index) = root_and_liar();
        let register = Request::Register {
            flags: 0,
            shared_table: false,
        };
        // The other end of the socket is closed.
        for _ in 0..3 {
            send(&pair, &register.encode(), 0);
            serve(&mut rt, index);
            let errno = pair.halves[0].errno.load(Ordering::Relaxed);
            assert_eq!(errno, Errno::EPIPE as u32);
            assert_eq!(rt.book.as_ref().unwrap().count(), 1);
        }
    }
}
