//! How one context asks another, and waits for its answer.

use super::root;
use super::state::mode;
use super::state::processor::{Dawdling, Running, time_of};
use super::state::runtime::Runtime;
use super::state::signals;
use super::state::sleep::RING_AGAIN;
use super::wire::bell::{ANCHORED, describe_end};
use super::wire::fds;
use super::wire::message::{Answer, Facts, Request, Words};
use super::wire::pair::{PAYLOAD, kind};
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long an owner may take to answer a request before it counts as hostile.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often to look meanwhile whether somebody has died.
const GLANCE: Duration = Duration::from_millis(200);

/// And at one in the sandbox, whether it means to answer: several looks tell.
const GLANCE_AT_SEALED: Duration = Duration::from_millis(2);

/// How often one in the strict sandbox looks for its answer.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// An answer, once its errno was seen to be 0.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// One who answers what was not asked.
pub(crate) fn breach(call: &'static str) -> Error {
    Error::new(
        call,
        Errno::EPROTO,
        "the context answers what was not asked; it does not keep to the rules",
    )
}

impl Answered {
    /// The identity that was asked for.
    pub(crate) fn id(&self, call: &'static str) -> Result<u64> {
        match self.answer {
            Answer::Id(id) => Ok(id),
            _ => Err(breach(call)),
        }
    }

    /// The number of a descriptor that was asked for, if there is one.
    pub(crate) fn number(&self, call: &'static str) -> Result<Option<RawFd>> {
        match self.answer {
            Answer::Number(number) => Ok(number),
            _ => Err(breach(call)),
        }
    }

    /// The result of a system call.
    pub(crate) fn returned(&self, call: &'static str) -> Result<i64> {
        match self.answer {
            Answer::Returned(value) => Ok(value),
            _ => Err(breach(call)),
        }
    }

    /// The one descriptor that was asked for.
    pub(crate) fn descriptor(mut self, call: &'static str) -> Result<OwnedFd> {
        match (self.fds.pop(), self.fds.is_empty()) {
            (Some(fd), true) => Ok(fd),
            _ => Err(breach(call)),
        }
    }
}

/// Asks the peer of a channel and waits for its answer.
pub(crate) fn ask(
    rt: &mut Runtime,
    call: &'static str,
    index: usize,
    request: Request,
) -> Result<Answered> {
    ask_with(rt, call, index, request, &[], &[])
}

/// The same, with bytes and descriptors.
pub(crate) fn ask_with(
    rt: &mut Runtime,
    call: &'static str,
    index: usize,
    request: Request,
    bytes: &[u8],
    send: &[BorrowedFd<'_>],
) -> Result<Answered> {
    let book = request.is_of_the_root();
    answers(rt, call, index, book)?;
    if !listens(rt, index, request) {
        return Err(Error::new(
            call,
            Errno::EPERM,
            "who asks is in the strict sandbox, or was introduced",
        ));
    }
    rt.ring_alone(index);
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(call, Errno::EBADF, "no such context"));
    };
    if !send.is_empty() {
        let sent = c.socket().and_then(|sock| fds::send(sock, send));
        sent.map_err(|e| match e.cause() {
            Errno::EPIPE | Errno::ECONNRESET => Error::new(
                call,
                Errno::EPERM,
                "the context has closed its end; it can be switched to and ended, nothing else",
            ),
            _ => e.of(call),
        })?;
    }
    if !c.out().put_payload(bytes) {
        return Err(Error::new(
            call,
            Errno::E2BIG,
            format!("{} bytes of specifiers, at most {PAYLOAD} fit", bytes.len()),
        ));
    }
    c.out().put_words(&request.encode());
    c.out().publish(kind::REQUEST);
    c.ring();
    let words = answer(rt, call, index, book)?;
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(call, Errno::EBADF, "no such context"));
    };
    let bytes = c.inn().payload();
    let (answer, count) = Answer::decode(&words).ok_or_else(|| breach(call))?;
    let fds = match count.min(fds::MAX_SENT) {
        0 => Vec::new(),
        count => c
            .socket()
            .and_then(|sock| fds::receive(sock, count))
            .map_err(|e| e.of(call))?,
    };
    Ok(Answered { answer, bytes, fds })
}

/// Whether the peer of a channel hears that request. Who is in the strict sandbox,
/// or was introduced to it, would be answered nothing (`owner/answer.rs`).
fn listens(rt: &Runtime, index: usize, request: Request) -> bool {
    if rt.is_root() {
        return true;
    }
    if mode::is_strict() {
        return matches!(request, Request::Unhold { .. });
    }
    let Some(c) = rt.channels.get(index).and_then(Option::as_ref) else {
        return false;
    };
    let mut twins = rt.channels.iter().flatten();
    !(c.introduced || c.peer != 0 && twins.any(|o| o.peer == c.peer && o.introduced))
}

/// Waits for the answer on one channel, and gives its words; its errno becomes
/// the error. `book`: a root is asked that may have discarded itself.
pub(crate) fn answer(
    rt: &mut Runtime,
    call: &'static str,
    index: usize,
    book: bool,
) -> Result<Words> {
    let deadline = Instant::now() + TIMEOUT;
    let (mut running, mut dawdling) = (Running::default(), Dawdling::default());
    loop {
        if let Some((seq, kind::REPLY)) = rt.news(index) {
            let Some(c) = rt.channel(index) else {
                return Err(Error::new(call, Errno::EBADF, "no such context"));
            };
            c.seen = seq;
            let errno = c.inn().errno.load(Ordering::Relaxed);
            if errno == 0 {
                return Ok(c.inn().take_words());
            }
            let text = c.inn().payload();
            let text = String::from_utf8_lossy(&text);
            return Err(Error::from_peer(call, Errno::from_raw(errno as i32), &text));
        }
        see_to_deaths(rt);
        answers(rt, call, index, book)?;
        let now = Instant::now();
        if now >= deadline {
            return Err(Error::new(
                call,
                Errno::ETIMEDOUT,
                format!("the context does not answer within {} s", TIMEOUT.as_secs()),
            ));
        }
        let mut limit = (deadline - now).min(GLANCE);
        if rt.channels[index].as_ref().is_some_and(|c| c.sealed) {
            limit = limit.min(GLANCE_AT_SEALED);
            if let Some(why) = does_not_answer(rt, index, &mut running, &mut dawdling) {
                return Err(Error::new(call, Errno::ETIMEDOUT, why));
            }
        }
        if rt.ring_again() {
            limit = limit.min(RING_AGAIN);
        }
        if mode::sleeps_unlimited() {
            // Nobody wakes one in the strict sandbox for an answer.
            std::thread::sleep(LOOK_AGAIN);
            continue;
        }
        // What else comes meanwhile is looked for at the next park. So is a signal that the root is no more, in a context.
        let deaths = rt.is_root();
        rt.sleep(Some(limit), deaths, |rt| match rt.news(index) {
            Some((_, kind::REPLY)) => Some(()),
            _ => None,
        });
    }
}

/// Why one in the strict sandbox that was asked, and rung, will not answer: it may be
/// hostile, and keeps the root from seeing to others. By the kernel's word, and not by
/// the clock where it may have had no processor yet.
fn does_not_answer(
    rt: &mut Runtime,
    index: usize,
    running: &mut Running,
    dawdling: &mut Dawdling,
) -> Option<&'static str> {
    let c = rt.channel(index)?;
    if c.unrung {
        // It was on its way to sleep, and may not have looked since.
        c.ring();
    }
    let rung = !c.unrung;
    // There alone it sleeps, and not before it has looked at every page and answered.
    // In this order: its answer is there before.
    let asleep = c.peer_bell.is_asleep();
    let peer = c.peer;
    if matches!(rt.news(index), Some((_, kind::REPLY))) {
        return None;
    }
    if asleep && rung {
        return Some("the context sleeps and does not answer");
    }
    // None but the root knows whom to look at.
    let pid = rt.book.as_ref().and_then(|b| b.pid(peer))?;
    if running.is_clear(time_of(pid)?) {
        return Some("the context runs and does not answer");
    }
    let bell = &rt.channel(index)?.peer_bell;
    dawdling
        .is_clear(bell, pid)
        .then_some("the context waits for something else and does not answer")
}

/// ESRCH, with how it ended, if the peer of a channel is dead.
pub(crate) fn alive(rt: &mut Runtime, call: &'static str, index: usize) -> Result<()> {
    answers(rt, call, index, false)
}

/// The same for a request: a root that discarded itself keeps the book.
fn answers(rt: &mut Runtime, call: &'static str, index: usize, book: bool) -> Result<()> {
    see_to_deaths(rt);
    let Some(c) = rt.channels.get(index).and_then(Option::as_ref) else {
        return Err(Error::new(call, Errno::EBADF, "no such context"));
    };
    // Killed, and collected some time.
    if rt.book.as_ref().is_some_and(|b| b.is_doomed(c.peer)) {
        let text = format!("context {} has been ended", c.peer);
        return Err(Error::new(call, Errno::ESRCH, text));
    }
    match c.end() {
        0 => Ok(()),
        status if book && status & ANCHORED != 0 => Ok(()),
        status => Err(Error::new(
            call,
            Errno::ESRCH,
            format!("context {} is dead: {}", c.peer, describe_end(status)),
        )),
    }
}

/// Reaps the dead while the root itself is current.
fn see_to_deaths(rt: &mut Runtime) {
    if rt.is_root() && signals::deaths() {
        reap(rt);
    }
}

/// The same whether a signal has told of one or not.
pub(crate) fn reap(rt: &mut Runtime) {
    signals::take_deaths();
    // The root is current here, so no death can concern the baton.
    let _ = root::end::reap(rt);
}

/// Books a descriptor of `target` for `holder`.
pub(crate) fn hold(rt: &mut Runtime, holder: u64, target: u64) -> Result<()> {
    if let Some(book) = rt.book.as_mut() {
        book.hold(holder, target);
        return Ok(());
    }
    ask(rt, "lwSwitch", 0, Request::Hold { holder, target }).map(drop)
}

/// Ends a context.
pub(crate) fn destroy(rt: &mut Runtime, id: u64) -> Result<()> {
    if rt.is_root() {
        root::end::destroy(rt, id);
        return Ok(());
    }
    ask(rt, "destroy", 0, Request::Destroy { id }).map(drop)
}

/// Facts about a context.
pub(crate) fn facts(rt: &mut Runtime, call: &'static str, id: u64) -> Result<Facts> {
    if rt.is_root() {
        return Ok(root::info::facts(rt, id));
    }
    match ask(rt, call, 0, Request::Info { id })?.answer {
        Answer::Facts(facts) => Ok(facts),
        _ => Err(breach(call)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::process::state::book::Entry;
    use crate::backend::process::state::liar::Liar;
    use crate::backend::process::wire::bell::OwnBell;
    use crate::backend::process::wire::pair::WORDS;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn answers_that_lie_are_errors() {
        let mut liar = Liar::new();
        let mut ask_for = |words: [u64; WORDS]| {
            liar.answers(&words, b"");
            ask(&mut liar.rt, "t", liar.index, Request::Fetch { fd: 0 })
        };
        // What is no answer, and descriptors that do not come.
        for what in [0, 7, u64::MAX] {
            let e = ask_for([what; WORDS]).err().map(|e| e.cause());
            assert_eq!(e, Some(Errno::EPROTO), "{what}");
        }
        for count in [1, fds::MAX_SENT, usize::MAX] {
            let e = ask_for(Answer::Done.encode(count)).err();
            assert_eq!(e.map(|e| e.cause()), Some(Errno::EAGAIN), "{count}");
        }
        // An answer to another question.
        let answered = ask_for(Answer::Id(3).encode(0)).unwrap();
        assert_eq!(answered.returned("t").unwrap_err().cause(), Errno::EPROTO);
        assert_eq!(answered.number("t").unwrap_err().cause(), Errno::EPROTO);
        assert_eq!(answered.id("t"), Ok(3));
        assert_eq!(answered.descriptor("t").unwrap_err().cause(), Errno::EPROTO);
    }

    #[test]
    fn one_in_the_sandbox_that_sleeps_and_does_not_answer_is_given_up() {
        let Liar {
            mut rt,
            index,
            bell,
            ..
        } = Liar::new();
        rt.channel(index).unwrap().sealed = true;
        struct Deaf(OwnBell);
        // SAFETY: atomics in a shared mapping, which stays where it is.
        unsafe impl Send for Deaf {}
        let (deaf, over) = (Deaf(bell), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&over);
        let sleeper = std::thread::spawn(move || {
            let Deaf(bell) = &{ deaf };
            while !until.load(Ordering::Relaxed) {
                let dozed = bell.doze();
                bell.sleep(dozed, Some(GLANCE));
                bell.rise(dozed);
            }
        });
        let e = ask(&mut rt, "t", index, Request::Fetch { fd: 0 }).err();
        over.store(true, Ordering::Relaxed);
        sleeper.join().unwrap();
        let e = e.unwrap();
        assert_eq!(e.cause(), Errno::ETIMEDOUT);
        assert!(e.to_string().contains("sleeps and does not answer"), "{e}");
    }

    /// Why one in the sandbox that is such a process, as the root's book has it, is
    /// given up.
    fn given_up(program: &str, args: &[&str]) -> String {
        let mut liar = Liar::new();
        let mut child = std::process::Command::new(program)
            .args(args)
            .spawn()
            .unwrap();
        liar.rt.channel(liar.index).unwrap().sealed = true;
        let entry = Entry {
            creator: 1,
            heir: 1,
            flags: 0,
            pid: child.id() as i32,
            channel: liar.index,
            holders: std::collections::BTreeMap::new(),
            doomed: false,
            slots: None,
            bell: None,
            line: None,
            share: None,
        };
        let book = liar.rt.book.as_mut().unwrap();
        book.entries.insert(7, entry);
        let e = ask(&mut liar.rt, "t", liar.index, Request::Fetch { fd: 0 }).err();
        child.kill().unwrap();
        child.wait().unwrap();
        let e = e.unwrap();
        assert_eq!(e.cause(), Errno::ETIMEDOUT);
        e.to_string()
    }

    #[test]
    fn one_in_the_sandbox_that_does_something_else_is_given_up() {
        let e = given_up("sh", &["-c", "while :; do :; done"]);
        assert!(e.contains("runs and does not answer"), "{e}");
        let e = given_up("sleep", &["60"]);
        assert!(e.contains("waits for something else"), "{e}");
    }

    #[test]
    fn descriptors_that_were_not_announced_are_not_taken_for_others() {
        let mut liar = Liar::new();
        let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let file = [std::os::fd::AsFd::as_fd(&file); 2];
        fds::send(&liar.sock, &file).unwrap();
        liar.answers(&Answer::Done.encode(1), b"");
        let e = ask(&mut liar.rt, "t", liar.index, Request::Fetch { fd: 0 });
        assert_eq!(e.err().map(|e| e.cause()), Some(Errno::EPROTO));
    }
}
