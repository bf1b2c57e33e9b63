//! Requests between contexts: what an owner answers from its wait loop, and
//! how to ask.
//!
//! A request is an operation, a few words and bytes in the asker's half of the
//! pair page; descriptors go over the pair's socket. The owner answers with an
//! errno, words, bytes and descriptors the same way. A context in a sandbox
//! that forbids sockets can still be asked to restrict rights, which needs the
//! page alone; the rest it refuses.

use super::fds;
use super::overlay;
use super::registrar;
use super::rights::Rights;
use super::runtime::{Channel, Runtime};
use super::wire::bell::{Bell, PeerBell};
use super::wire::mapped::Mapped;
use super::wire::pair::{PAYLOAD, Pair, WORDS, kind};
use crate::error::{Error, Result};
use crate::spec::Spec;
use nix::errno::Errno;
use std::os::fd::RawFd;

/// What can be asked.
pub(super) mod op {
    /// Narrow the asker's rights. Bytes: specifiers.
    pub(in super::super) const RESTRICT: u64 = 1;
    /// Lend resources. Bytes: specifiers. Answer: see [`super::overlay`].
    pub(in super::super) const OVERLAY: u64 = 2;
    /// Meet a new holder, who gets the asker's rights. Words: its identity.
    /// Descriptors: socket, pair page, doorbell.
    pub(in super::super) const INTRODUCE: u64 = 3;
    /// Root: book a new context. Words: flags, whether it shares its creator's
    /// table. Answer: identity;
    /// descriptors: socket, pair page, doorbell.
    pub(in super::super) const REGISTER: u64 = 4;
    /// Root: it has a process now. Words: identity.
    pub(in super::super) const BORN: u64 = 5;
    /// Root: creation failed. Words: identity.
    pub(in super::super) const UNREGISTER: u64 = 6;
    /// Root: one more descriptor. Words: holder, target.
    pub(in super::super) const HOLD: u64 = 7;
    /// Root: one less. Words: target.
    pub(in super::super) const UNHOLD: u64 = 8;
    /// Root: facts. Words: identity. Answer: as [`super::super::info_words`].
    pub(in super::super) const INFO: u64 = 9;
    /// Root: end it. Words: identity.
    pub(in super::super) const DESTROY: u64 = 10;
    /// Root: book a context that a trapped one makes. Words: flags, its slot
    /// in the maker's nursery, whether its calls go to its maker. Answer:
    /// identity.
    pub(in super::super) const REGISTER_SLOT: u64 = 11;
    /// Read memory. Words: address, length. Answer: bytes.
    pub(in super::super) const PEEK: u64 = 20;
    /// Write memory. Words: address, length. Bytes.
    pub(in super::super) const POKE: u64 = 21;
    /// Make a system call. Words: number, arguments. Answer: its result.
    pub(in super::super) const RUN: u64 = 22;
    /// Lend a descriptor. Words: its number. Answer: the descriptor.
    pub(in super::super) const FETCH: u64 = 23;
    /// Take a descriptor. Words: whether to close it on exec. Descriptors: it.
    /// Answer: its number.
    pub(in super::super) const TAKE: u64 = 24;
    /// Meet a context that the asker, whose calls come here, makes. Words: its
    /// identity, its slot, whether its calls come here.
    pub(in super::super) const MEET: u64 = 25;
    /// Meet a new holder, as [`INTRODUCE`] has it, by what the asker, our
    /// monitor, has put here. Words: identity, addresses of pair page and
    /// doorbell, number of the socket.
    pub(in super::super) const MEET_AT: u64 = 26;
    /// The asker is about to enter the strict sandbox, and will ask for nothing
    /// more.
    pub(in super::super) const SEAL: u64 = 27;
    /// From the root: hold a context, if it is known here. Words: its identity.
    /// Answer: the number of its descriptor, or all bits.
    pub(in super::super) const KNOW: u64 = 28;
    /// From the root: meet another context. Words: its identity, whether to hold
    /// it. Descriptors: pair page, doorbell. Answer: the descriptor's number.
    pub(in super::super) const GREET: u64 = 29;

    /// Whether the root is asked as the keeper of the book.
    pub(super) fn is_book(op: u64) -> bool {
        (REGISTER..=REGISTER_SLOT).contains(&op)
    }
}

/// Specifiers as bytes.
pub(super) fn encode_specs(specs: &[Spec]) -> Vec<u8> {
    let mut out = Vec::with_capacity(size_of_val(specs));
    for spec in specs {
        let raw = spec.to_raw();
        let mut bytes = [0u8; size_of::<lwc_sys::lwc_spec>()];
        bytes[..4].copy_from_slice(&raw.flags.to_ne_bytes());
        // SAFETY: the union is plain integers of the size copied.
        let sub = unsafe {
            std::slice::from_raw_parts((&raw const raw.sub).cast::<u8>(), size_of_val(&raw.sub))
        };
        let at = std::mem::offset_of!(lwc_sys::lwc_spec, sub);
        bytes[at..at + sub.len()].copy_from_slice(sub);
        out.extend_from_slice(&bytes);
    }
    out
}

/// The specifiers in bytes that a stranger wrote. `None`: not specifiers.
fn decode_specs(bytes: &[u8]) -> Option<Vec<Spec>> {
    let size = size_of::<lwc_sys::lwc_spec>();
    if !bytes.len().is_multiple_of(size) {
        return None;
    }
    bytes
        .chunks_exact(size)
        .map(|chunk| {
            // SAFETY: lwc_spec is plain integers: any bytes are a value, and
            // the chunk is as long as the structure.
            let raw = unsafe { chunk.as_ptr().cast::<lwc_sys::lwc_spec>().read_unaligned() };
            Spec::from_raw(&raw)
        })
        .collect()
}

/// An answer, once its errno was seen to be 0.
pub(super) struct Answer {
    pub(super) words: [u64; WORDS],
    pub(super) bytes: Vec<u8>,
    /// Among our own descriptors; the caller closes them.
    pub(super) fds: Vec<RawFd>,
}

/// Asks the peer of a channel and waits for its answer.
pub(super) fn ask(
    rt: &mut Runtime,
    call: &'static str,
    index: usize,
    words: &[u64],
    bytes: &[u8],
    send: &[RawFd],
) -> Result<Answer> {
    let book = op::is_book(words[0]);
    rt.answers(call, index, book)?;
    let too_big = || {
        Error::new(
            call,
            Errno::E2BIG,
            format!("{} bytes of specifiers, at most {PAYLOAD} fit", bytes.len()),
        )
    };
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(call, Errno::EBADF, "no such context"));
    };
    fds::send(c.sock, send).map_err(|e| match e.errno() {
        Errno::EPIPE | Errno::ECONNRESET => Error::new(
            call,
            Errno::EPERM,
            "the context has closed its end; it can be switched to and ended, nothing else",
        ),
        _ => e.of(call),
    })?;
    if !c.out().put_payload(bytes) {
        return Err(too_big());
    }
    c.out().put_words(words);
    c.out().publish(kind::REQUEST);
    c.ring();
    rt.answer(call, index, book)?;
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(call, Errno::EBADF, "no such context"));
    };
    let words = c.inn().take_words();
    let bytes = c.inn().payload();
    let count = (words[WORDS - 1] as usize).min(fds::MAX_SENT);
    let fds = fds::receive(c.sock, count).map_err(|e| e.of(call))?;
    Ok(Answer { words, bytes, fds })
}

/// What an operation answers: words, bytes, descriptors to send (closed after
/// sending when `close` is set).
#[derive(Default)]
pub(super) struct Reply {
    pub(super) words: [u64; WORDS - 1],
    pub(super) bytes: Vec<u8>,
    pub(super) fds: Vec<RawFd>,
    pub(super) close: bool,
}

/// Answers one request. Nothing in it is trusted.
pub(super) fn serve(rt: &mut Runtime, index: usize) {
    let Some(c) = rt.channel(index) else { return };
    let asker = c.peer;
    let words = c.inn().take_words();
    // Whoever is in the strict sandbox is served nothing, but may give up what
    // it holds.
    let sealed = c.sealed && words[0] != op::UNHOLD;
    let quick = if sealed {
        Some(Errno::EPERM as i32 as u32)
    } else {
        super::access::quick(rt, index, &words)
    };
    let fragile = rt.fragile.then_some(Errno::EAGAIN as i32 as u32);
    if let Some(errno) = quick.or(fragile) {
        if let Some(c) = rt.channel(index) {
            if sealed {
                c.out().put_payload(b"who asks is in the strict sandbox");
            } else if quick.is_none() {
                c.out()
                    .put_payload(b"it is getting memory; answer that call of it first");
            }
            c.out()
                .errno
                .store(errno, std::sync::atomic::Ordering::Relaxed);
            c.out().publish(kind::REPLY);
            c.ring();
        }
        return;
    }
    let Some(c) = rt.channel(index) else { return };
    let bytes = c.inn().payload();
    let result = run(rt, index, asker, &words, &bytes);
    let registered = match &result {
        Ok(reply) if words[0] == op::REGISTER => Some(reply.words[0]),
        _ => None,
    };
    let sock = rt.channel(index).map_or(-1, |c| c.sock);
    let result = result.and_then(|reply| {
        let sent = fds::send(sock, &reply.fds);
        if reply.close {
            reply.fds.iter().for_each(|&fd| fds::close(fd));
        }
        sent.map(|()| reply).map_err(|e| {
            // Nobody makes what nobody has been told of.
            if let Some(id) = registered {
                registrar::unregister(rt, id);
            }
            (
                e.errno(),
                "its owner cannot send descriptors: it is in a sandbox, or too many are under way"
                    .to_owned(),
            )
        })
    });
    let Some(c) = rt.channel(index) else { return };
    let result = result.and_then(|reply| {
        if !c.out().put_payload(&reply.bytes) {
            return Err((Errno::E2BIG, "too many parts".to_owned()));
        }
        c.out().put_words(&reply.words);
        let last = &c.out().words[WORDS - 1];
        last.store(reply.fds.len() as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(0u32)
    });
    let errno = result.unwrap_or_else(|(errno, text)| {
        c.out().put_payload(text.as_bytes());
        errno as i32 as u32
    });
    c.out()
        .errno
        .store(errno, std::sync::atomic::Ordering::Relaxed);
    c.out().publish(kind::REPLY);
    c.ring();
}

type Served = std::result::Result<Reply, (Errno, String)>;

fn refuse(errno: Errno, why: &str) -> Served {
    Err((errno, why.to_owned()))
}

fn run(rt: &mut Runtime, index: usize, asker: u64, words: &[u64; WORDS], bytes: &[u8]) -> Served {
    let done = Ok(Reply::default());
    if rt.anchor && !op::is_book(words[0]) {
        return refuse(Errno::ESRCH, "the root discarded itself");
    }
    match words[0] {
        op::RESTRICT => {
            let Some(specs) = decode_specs(bytes) else {
                return refuse(Errno::EINVAL, "not specifiers");
            };
            if let Some(c) = rt.channel(index) {
                c.granted.restrict(&specs);
            }
            done
        }
        op::OVERLAY if rt.monitor.is_some() => refuse(
            Errno::EPERM,
            "its system calls are trapped; use read_memory and write_memory",
        ),
        op::OVERLAY => {
            let Some(specs) = decode_specs(bytes) else {
                return refuse(Errno::EINVAL, "not specifiers");
            };
            overlay::lend(rt, index, &specs).map_err(|e| (e.errno(), e.to_string()))
        }
        op::INTRODUCE => introduce(rt, index, words),
        op::MEET_AT => meet_at(rt, index, words),
        op::MEET => match super::nested::meet_slot(rt, index, words) {
            Ok(()) => done,
            Err((errno, why)) => refuse(errno, why),
        },
        op::SEAL => {
            if let Some(c) = rt.channel(index) {
                c.sealed = true;
            }
            done
        }
        op::KNOW | op::GREET if index != 0 || rt.is_root() || rt.monitor.is_some() => refuse(
            Errno::EPERM,
            "only the root introduces contexts to each other, and none whose system calls are trapped",
        ),
        op::KNOW => super::introduce::know(rt, words[1]),
        op::GREET => super::introduce::greet(rt, words[1], words[2] != 0),
        _ if !rt.is_root() => refuse(Errno::EPERM, "only the root keeps the book"),
        op::REGISTER => {
            // An honest creator makes one context at a time. A hostile one
            // that never makes any, in a sandbox, say, shall not fill the book.
            if rt.book.as_ref().is_some_and(|b| b.is_making(asker)) {
                return refuse(Errno::EAGAIN, "its creator has one under way");
            }
            let r = registrar::register(rt, asker, words[1] as u32)
                .map_err(|e| (e.errno(), e.to_string()))?;
            rt.shared_table |= words[2] != 0;
            let mut fds = vec![r.sock, r.pair, r.bell];
            if let Some(nursery) = &r.nursery {
                // A copy of the number, to be closed once it is sent.
                // SAFETY: duplicates a descriptor of our own.
                let copy = unsafe { libc::fcntl(nursery.0, libc::F_DUPFD_CLOEXEC, 0) };
                if copy < 0 {
                    fds.iter().for_each(|&fd| fds::close(fd));
                    registrar::unregister(rt, r.id);
                    return refuse(Errno::EMFILE, "the root has no descriptor left");
                }
                fds.push(copy);
            }
            let mut reply = Reply {
                fds,
                close: true,
                ..Reply::default()
            };
            reply.words[0] = r.id;
            Ok(reply)
        }
        op::REGISTER_SLOT => {
            if rt.book.as_ref().is_some_and(|b| b.is_making(asker)) {
                return refuse(Errno::EAGAIN, "its creator has one under way");
            }
            let ward = words[3] == 0 && rt.channel(index).is_some_and(|c| c.bond.ward);
            let id =
                super::nested::register_slot(rt, asker, words[1] as u32, words[2] as usize, ward)
                    .map_err(|e| (e.errno(), e.to_string()))?;
            let mut reply = Reply::default();
            reply.words[0] = id;
            Ok(reply)
        }
        op::BORN => match registrar::born_elsewhere(rt, asker, words[1]) {
            Ok(()) => done,
            Err(e) => refuse(e, "no new context of this creator"),
        },
        op::UNREGISTER => {
            let own = rt.book.as_ref().is_some_and(|b| {
                b.origin(words[1]).is_some_and(|o| o.0 == asker) && b.pid(words[1]) == Some(0)
            });
            if own {
                registrar::unregister(rt, words[1]);
            }
            done
        }
        op::HOLD => {
            // For itself, or for a context that it is making.
            let (holder, target) = (words[1], words[2]);
            let may = holder == asker
                || rt
                    .book
                    .as_ref()
                    .and_then(|b| b.origin(holder))
                    .is_some_and(|o| o.0 == asker);
            if may && let Some(b) = rt.book.as_mut() {
                b.hold(holder, target);
            }
            done
        }
        op::UNHOLD => {
            registrar::unhold(rt, asker, words[1]);
            done
        }
        op::INFO => {
            let mut reply = Reply::default();
            reply.words[..8].copy_from_slice(&super::info::info_words(rt, words[1]));
            Ok(reply)
        }
        op::DESTROY => {
            let own = rt
                .book
                .as_ref()
                .and_then(|b| b.origin(words[1]))
                .is_some_and(|o| o.0 == asker);
            if !own {
                return refuse(Errno::EPERM, "only its creator may end a context");
            }
            registrar::destroy(rt, words[1]);
            done
        }
        _ => refuse(Errno::ENOSYS, "no such request"),
    }
}

/// Somebody who holds a descriptor of this context gives another the same.
fn introduce(rt: &mut Runtime, index: usize, words: &[u64; WORDS]) -> Served {
    let Some(c) = rt.channel(index) else {
        return refuse(Errno::EBADF, "no such channel");
    };
    let rights: Rights = c.granted.clone();
    // A context that introduces itself anew is who it is, and the root, which
    // keeps the book, says of others who they are.
    let vouched = c.vouched && (c.peer == words[1] || c.peer == 1);
    let strict = super::confine::is_strict();
    let (mut sock, pair, bell) = if strict {
        let [sock, pair, bell] =
            fds::receive_low(c.sock, true).map_err(|e| (e, "no pages came".to_owned()))?;
        (sock, pair, bell)
    } else {
        let got = fds::receive(c.sock, 3).map_err(|e| (e.errno(), e.to_string()))?;
        (got[0], got[1], got[2])
    };
    if strict {
        // It neither sends nor receives any more but from its root.
        fds::close(sock);
        sock = -1;
    }
    let made = Mapped::<Pair>::map(pair).and_then(|p| PeerBell::map(bell).map(|b| (p, b)));
    fds::close(pair);
    fds::close(bell);
    let (pair, peer_bell) = match made {
        Ok(made) => made,
        Err(e) => {
            fds::close(sock);
            return Err((e.errno(), e.to_string()));
        }
    };
    acquaint(rt, words[1], sock, pair, peer_bell, rights, vouched);
    Ok(Reply::default())
}

/// The same in a trapped context, which can map nothing: its monitor has.
fn meet_at(rt: &mut Runtime, index: usize, words: &[u64; WORDS]) -> Served {
    if rt.monitor.is_none_or(|m| m.channel != index) {
        return refuse(Errno::EPERM, "only its monitor may");
    }
    let Some(c) = rt.channel(index) else {
        return refuse(Errno::EBADF, "no such channel");
    };
    let rights: Rights = c.granted.clone();
    let vouched = c.vouched && c.peer == words[1];
    let at = |address: u64| {
        std::ptr::NonNull::new(address as *mut u8)
            .filter(|_| address.is_multiple_of(crate::page_size() as u64))
    };
    let (Some(pair), Some(bell)) = (at(words[2]), at(words[3])) else {
        return refuse(Errno::EINVAL, "no address");
    };
    // SAFETY: who asks is the creator, with every right over this memory; it
    // has just mapped these two for this purpose, each where nothing was.
    let (pair, bell) = unsafe {
        (
            Mapped::<Pair>::adopt(pair.cast()),
            PeerBell::new(Mapped::<Bell>::adopt(bell.cast())),
        )
    };
    let sock = words[4] as RawFd;
    acquaint(rt, words[1], sock, pair, bell, rights, vouched);
    Ok(Reply::default())
}

fn acquaint(
    rt: &mut Runtime,
    id: u64,
    sock: RawFd,
    pair: Mapped<Pair>,
    bell: PeerBell,
    rights: Rights,
    vouched: bool,
) {
    rt.sweep();
    bell.inherit(false);
    let mut c = Channel::new(id, sock, pair, 1, bell);
    c.vouched = vouched;
    c.granted = rights;
    let index = rt.add_channel(c);
    if let Some(c) = rt.channel(index).filter(|c| c.sock < 0) {
        c.desc = super::nested::number_of(index);
    }
}
