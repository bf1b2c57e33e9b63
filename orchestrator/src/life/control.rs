//! The control page of a step: what root and function tell each other beside
//! the arguments. Shared by these two alone; each trusts nothing in it.

use super::asking::{ASKED_MOST, Answer};
use super::attributes;
use super::message_header::{FixedFields, MessageHeader};
use super::text::{put_text, until_nul};
use super::ticket::seal_of;
use crate::printable::printable;
use lwc::{MonotonicTime, Region};
use lwc_function::abi::Outcome;
use std::cell::Cell;
use std::ffi::c_char;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The page, as both ends lay it out. No reference to it is ever made, because
/// the other end may write at any moment: [`Region`] copies a field out of it or
/// into it, at its offset here.
///
/// What every invocation touches comes first. The rest is touched only by those
/// that need it: a page that is not touched costs nothing after a switch.
#[repr(C)]
struct Page {
    /// The root writes these, the function's context reads.
    root: FromRoot,
    /// The function's context writes these, the root reads.
    function: FromFunction,
    calls: BothWays,
    seldom: Seldom,
}

#[repr(C)]
struct FromRoot {
    request: FixedFields,
    deadline: u64,
    timeout: u64,
    id: [u8; ID_LEN],
    turn: u64,
    on: u64,
    outcome: u64,
    code: u64,
}

#[repr(C, align(1024))]
struct FromFunction {
    reply: FixedFields,
    status: u64,
    log_used: u64,
    began: u64,
    error: [u8; ERROR_LEN],
    taken: u64,
    handed: u64,
    dropped: u64,
}

/// The message of a call: the function's context writes what it says of the
/// arguments, and the root, when the call returns, what is said of the reply.
#[repr(C, align(1024))]
struct BothWays {
    call: FixedFields,
}

#[repr(C, align(4096))]
struct Seldom {
    request_attributes: [u8; attributes::ROOM],
    reply_attributes: [u8; attributes::ROOM],
    call_attributes: [u8; attributes::ROOM],
    /// The root writes these two.
    failed: [u8; NAME_LEN],
    message: [u8; MESSAGE_LEN],
    /// The function's context writes it: a path. The root, in its place, what a link says.
    asked: [u8; ASKED_MOST],
    log: [u8; LOG_LEN],
}

/// What a record of the log begins with: its level, and its length.
const HEAD: usize = 3;
const ID_LEN: usize = 64;
pub(crate) const ERROR_LEN: usize = 256;
/// Room for the name of a function, and for what is said of a call that failed.
const NAME_LEN: usize = 128;
const MESSAGE_LEN: usize = 512;
/// Pages that are never used take no memory, and are not cleared where the system tells
/// which these are.
const LEN: usize = if cfg!(target_os = "linux") { 108 } else { 44 } * 1024;
/// Room for the log of one invocation: 64 KiB and more, or 11.
pub(crate) const LOG_LEN: usize =
    LEN - 4096 - 3 * attributes::ROOM - NAME_LEN - MESSAGE_LEN - ASKED_MOST;

const REQUEST: usize = offset_of!(Page, root.request);
const DEADLINE: usize = offset_of!(Page, root.deadline);
const TIMEOUT: usize = offset_of!(Page, root.timeout);
const ID: usize = offset_of!(Page, root.id);
const TURN: usize = offset_of!(Page, root.turn);
const ON: usize = offset_of!(Page, root.on);
const OUTCOME: usize = offset_of!(Page, root.outcome);
const CODE: usize = offset_of!(Page, root.code);
const REPLY: usize = offset_of!(Page, function.reply);
const STATUS: usize = offset_of!(Page, function.status);
const LOG_USED: usize = offset_of!(Page, function.log_used);
const BEGAN: usize = offset_of!(Page, function.began);
const ERROR: usize = offset_of!(Page, function.error);
const TAKEN: usize = offset_of!(Page, function.taken);
const HANDED: usize = offset_of!(Page, function.handed);
const DROPPED: usize = offset_of!(Page, function.dropped);
const CALL: usize = offset_of!(Page, calls.call);
const REQUEST_ATTRIBUTES: usize = offset_of!(Page, seldom.request_attributes);
const REPLY_ATTRIBUTES: usize = offset_of!(Page, seldom.reply_attributes);
const CALL_ATTRIBUTES: usize = offset_of!(Page, seldom.call_attributes);
const FAILED: usize = offset_of!(Page, seldom.failed);
const MESSAGE: usize = offset_of!(Page, seldom.message);
const ASKED: usize = offset_of!(Page, seldom.asked);
const LOG: usize = offset_of!(Page, seldom.log);

// The hostile functions of the tests write at these.
const _: () = assert!(TURN == 224 && ON == 232 && REPLY == 1024 && STATUS == 1168);
const _: () = assert!(TAKEN == 1448 && HANDED == 1456 && TURN.is_multiple_of(8));
const _: () = assert!(CALL == 2048 && REQUEST_ATTRIBUTES == 4096 && LOG + LOG_LEN == LEN);
const _: () = assert!(size_of::<Page>() == LEN);

/// The two outputs of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Error,
}

impl Stream {
    /// In the place of a level in the log.
    fn mark(self) -> u8 {
        match self {
            Self::Out => 16,
            Self::Error => 17,
        }
    }

    fn of(mark: u8) -> Option<Self> {
        [Self::Out, Self::Error]
            .into_iter()
            .find(|s| s.mark() == mark)
    }
}

/// A control page; and of the function's end, where the last record of its log begins
/// and ends, if more of the same output may be put there.
#[derive(Debug)]
pub(crate) struct Control(Region, Cell<Option<(Stream, usize, usize)>>);

impl Control {
    pub(crate) fn new() -> lwc::Result<Self> {
        Ok(Self(Region::new(LEN)?, Cell::new(None)))
    }

    pub(crate) fn region(&self) -> &Region {
        &self.0
    }

    /// The header of the message from the root to the function.
    #[inline]
    pub(crate) fn request(&self) -> MessageHeader<'_> {
        MessageHeader::at(&self.0, REQUEST, REQUEST_ATTRIBUTES)
    }

    /// The header of the function's answer to the root.
    #[inline]
    pub(crate) fn reply(&self) -> MessageHeader<'_> {
        MessageHeader::at(&self.0, REPLY, REPLY_ATTRIBUTES)
    }

    /// The header of the arguments of a call that the function makes, and then of
    /// the reply to it.
    #[inline]
    pub(crate) fn call(&self) -> MessageHeader<'_> {
        MessageHeader::at(&self.0, CALL, CALL_ATTRIBUTES)
    }

    #[inline]
    fn put_u64(&self, at: usize, value: u64) {
        self.0.set(at, value);
    }

    #[inline]
    fn u64(&self, at: usize) -> u64 {
        self.0.get(at)
    }

    /// Root: the next invocation, and when its time is over.
    #[inline]
    pub(crate) fn put_invocation(&self, id: &str, deadline: u64) {
        self.put_u64(DEADLINE, deadline);
        put_text(&self.0, ID, ID_LEN, id.as_bytes());
    }

    /// What the root and the function's context both change, each in one step.
    #[inline]
    fn turn(&self) -> &AtomicU64 {
        // SAFETY: inside the region, which is mapped as long as `self` lives, and
        // aligned, as asserted above. In this program it is accessed in this way
        // alone while functions run.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr().add(TURN).cast()) }
    }

    /// Root: the function may take over once, with this ticket, and gets the next
    /// one's by it.
    #[inline]
    pub(crate) fn put_turn(&self, ticket: u64, next: Option<u64>) {
        self.put_u64(ON, next.map_or(0, |next| ticket ^ next));
        self.turn().store(seal_of(ticket), Ordering::SeqCst);
    }

    /// Root: it may not any more. Whether it had done nothing yet.
    #[inline]
    pub(crate) fn withdraw(&self) -> bool {
        self.turn().swap(0, Ordering::SeqCst) != 0
    }

    /// Root: what came of the function's call. A name and a text only where it was
    /// not answered.
    pub(crate) fn put_outcome(&self, outcome: Outcome, code: i32, function: &str, message: &str) {
        self.put_u64(OUTCOME, outcome as u64);
        self.put_u64(CODE, code as u64);
        if outcome != Outcome::Answered {
            put_text(&self.0, FAILED, NAME_LEN, function.as_bytes());
            put_text(&self.0, MESSAGE, MESSAGE_LEN, message.as_bytes());
        }
    }

    /// Function: the same, and the code of the callee's own error.
    pub(crate) fn outcome(&self) -> (Outcome, i32) {
        let outcome =
            i32::try_from(self.u64(OUTCOME)).map_or(Outcome::Unavailable, Outcome::from_raw);
        (outcome, self.u64(CODE) as i32)
    }

    /// Function: who failed in a call, and the text.
    pub(crate) fn failed_call(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut function, mut message) = ([0; NAME_LEN], [0; MESSAGE_LEN]);
        self.0.read(FAILED, &mut function);
        self.0.read(MESSAGE, &mut message);
        (until_nul(&function).to_vec(), until_nul(&message).to_vec())
    }

    /// Function: the path that it asks about, shorter than there is room for.
    pub(crate) fn put_asked(&self, path: &[u8]) {
        self.0.write(ASKED, &path[..path.len().min(ASKED_MOST)]);
    }

    /// Root: what a link says, in the place of its path, which has been read.
    pub(crate) fn put_link(&self, text: &[u8]) -> Answer {
        // No link is longer (PATH_MAX).
        let text = &text[..text.len().min(ASKED_MOST - 1)];
        put_text(&self.0, ASKED, ASKED_MOST, text);
        Answer::LINK
    }

    /// Function: the same.
    pub(crate) fn link(&self) -> Vec<u8> {
        let mut text = vec![0; ASKED_MOST];
        self.0.read(ASKED, &mut text);
        until_nul(&text).to_vec()
    }

    /// Root: the path that it asks about, as long as the function says, in memory of its own.
    pub(crate) fn asked(&self, len: u64) -> Vec<u8> {
        let len = usize::try_from(len).unwrap_or(ASKED_MOST).min(ASKED_MOST);
        let mut path = vec![0; len];
        self.0.read(ASKED, &mut path);
        path
    }

    /// Function: takes over with a ticket, and says so, if that is the one. Not a
    /// second time, nor once the root has changed its mind.
    #[inline]
    pub(crate) fn take_turn(&self, ticket: u64) -> bool {
        let seal = self.turn().load(Ordering::SeqCst);
        if seal == 0 || seal_of(ticket) != seal {
            return false;
        }
        self.put_u64(TAKEN, ticket);
        let order = Ordering::SeqCst;
        self.turn().compare_exchange(seal, 0, order, order).is_ok()
    }

    /// Root: whether its turn has come: it shows the ticket.
    pub(crate) fn has_taken(&self, ticket: u64) -> bool {
        self.u64(TAKEN) == ticket
    }

    /// Function: it hands over now. The ticket of the next one.
    #[inline]
    pub(crate) fn hand_over(&self, ticket: u64) -> u64 {
        self.put_u64(HANDED, ticket);
        ticket ^ self.u64(ON)
    }

    /// Root: whether it says that it has handed over, for which it has to have had
    /// the turn.
    pub(crate) fn has_handed_over(&self, ticket: u64) -> bool {
        self.u64(HANDED) == ticket
    }

    /// Root: from now on the function's context takes its own time.
    pub(crate) fn put_timeout(&self, timeout: Duration) {
        let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        self.put_u64(TIMEOUT, nanos.max(1));
    }

    /// Function: the deadline, in nanoseconds of CLOCK_MONOTONIC. Where the
    /// root is not there to take the time, this is when the function begins.
    #[inline]
    pub(crate) fn begin(&self) -> u64 {
        let (deadline, timeout) = (self.u64(DEADLINE), self.u64(TIMEOUT));
        if timeout == 0 {
            return deadline;
        }
        let now = MonotonicTime::now().nanos();
        self.put_u64(BEGAN, now);
        deadline.min(now.saturating_add(timeout))
    }

    /// Root: when the function says that it began.
    pub(crate) fn began(&self) -> MonotonicTime {
        MonotonicTime::from_nanos(self.u64(BEGAN))
    }

    /// Function: the invocation's identity, a text that ends in a NUL, in
    /// place. The root changes it only while no function runs.
    #[inline]
    pub(crate) fn id(&self) -> *const c_char {
        // SAFETY: inside the region.
        unsafe { self.0.as_ptr().add(ID).cast_const().cast() }
    }

    /// Function: how it ended, and if not well, why.
    #[inline]
    pub(crate) fn put_status(&self, status: i32, error: &[u8]) {
        self.put_u64(STATUS, status as u64);
        if status != 0 {
            put_text(&self.0, ERROR, ERROR_LEN, until_nul(error));
        }
    }

    /// Function, before it is ready: what it is at, for whoever waits in vain. It is where
    /// an error would be.
    pub(crate) fn put_doing(&self, what: &str) {
        self.put_u64(STATUS, 0);
        put_text(&self.0, ERROR, ERROR_LEN, until_nul(what.as_bytes()));
    }

    /// Root: the same.
    #[inline]
    pub(crate) fn status(&self) -> i32 {
        self.u64(STATUS) as i32
    }

    /// Root: what was said of it, made printable.
    pub(crate) fn error(&self) -> String {
        let mut bytes = [0; ERROR_LEN];
        self.0.read(ERROR, &mut bytes);
        printable(until_nul(&bytes))
    }

    /// Root: nothing is left for the next copy. All of it goes, also what
    /// is between the fields and behind what a length admits: a function can
    /// write anywhere here.
    pub(crate) fn forget(&self) {
        if self.0.erase().is_err() {
            self.0.clear(0, LEN);
        }
        self.1.set(None);
    }

    /// Function: a line for the log, dropped and counted when there is no room.
    pub(crate) fn put_log(&self, level: u8, text: &[u8]) {
        self.1.set(None);
        let used = self.u64(LOG_USED) as usize;
        let len = text.len().min(u16::MAX as usize);
        if used > LOG_LEN || LOG_LEN - used < len + HEAD {
            return self.drop_bytes(text.len());
        }
        self.put_record(used, level, len, &text[..len]);
    }

    /// Function: a record of `len` bytes that begins with these.
    fn put_record(&self, at: usize, level: u8, len: usize, text: &[u8]) {
        let head = (len as u16).to_ne_bytes();
        self.0.write(LOG + at, &[level, head[0], head[1]]);
        self.0.write(LOG + at + HEAD, text);
        self.put_u64(LOG_USED, (at + HEAD + len) as u64);
    }

    /// Function: more of one of its outputs, behind what there is of it. What finds no
    /// room is counted. It allocates nothing, as it runs in handlers of signals.
    pub(crate) fn put_output(&self, stream: Stream, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = self.u64(LOG_USED) as usize;
            let last = self.1.get().filter(|l| l.0 == stream && l.2 == used);
            let (start, had) = match last {
                // The root has it as it is until its length says more.
                Some((_, start, _)) if used - start - HEAD < u16::MAX as usize => {
                    (start, used - start - HEAD)
                }
                _ => (used, 0),
            };
            let room = LOG_LEN.saturating_sub(start + HEAD + had);
            let len = bytes.len().min(room).min(u16::MAX as usize - had);
            if len == 0 {
                return self.drop_bytes(bytes.len());
            }
            let (now, rest) = bytes.split_at(len);
            self.0.write(LOG + start + HEAD + had, now);
            let all = ((had + len) as u16).to_ne_bytes();
            self.0.write(LOG + start, &[stream.mark(), all[0], all[1]]);
            let end = start + HEAD + had + len;
            self.put_u64(LOG_USED, end as u64);
            self.1.set(Some((stream, start, end)));
            bytes = rest;
        }
    }

    /// Function: so much of its log is not there.
    fn drop_bytes(&self, len: usize) {
        let dropped = self.u64(DROPPED).saturating_add(len as u64);
        self.put_u64(DROPPED, dropped);
    }

    /// Root: whether there are lines of the log.
    #[inline]
    pub(crate) fn has_log(&self) -> bool {
        self.u64(LOG_USED) | self.u64(DROPPED) != 0
    }

    /// Root: nobody reads the lines of the log, and there are none afterwards.
    pub(crate) fn drop_log(&self) {
        self.put_u64(LOG_USED, 0);
        self.put_u64(DROPPED, 0);
    }

    /// Root: the lines of the log, made printable, and none afterwards; a notice of
    /// what is not there is the last.
    pub(crate) fn take_log(&self) -> Vec<(u8, String)> {
        let used = (self.u64(LOG_USED) as usize).min(LOG_LEN);
        let dropped = self.u64(DROPPED);
        if used == 0 && dropped == 0 {
            return Vec::new();
        }
        let mut bytes = vec![0; used];
        self.0.read(LOG, &mut bytes);
        self.0.clear(LOG, used);
        self.drop_log();
        let mut lines = Vec::new();
        let mut unfinished = [Vec::new(), Vec::new()];
        let mut rest = bytes.as_slice();
        while let [level, a, b, tail @ ..] = rest {
            let len = u16::from_ne_bytes([*a, *b]) as usize;
            let Some((text, after)) = tail.split_at_checked(len) else {
                break;
            };
            match Stream::of(*level) {
                None => lines.push((*level, printable(text))),
                Some(stream) => {
                    let begun = &mut unfinished[stream as usize];
                    for piece in text.split_inclusive(|&b| b == b'\n') {
                        begun.extend_from_slice(piece);
                        if begun.ends_with(b"\n") {
                            lines.push(line_of(stream, begun));
                            begun.clear();
                        }
                    }
                }
            }
            rest = after;
        }
        for stream in [Stream::Out, Stream::Error] {
            let begun = &unfinished[stream as usize];
            if !begun.is_empty() {
                lines.push(line_of(stream, begun));
            }
        }
        if dropped > 0 {
            let notice =
                format!("{dropped} bytes of its log or output are left out: it holds {LOG_LEN}");
            lines.push((2, notice));
        }
        lines
    }
}

/// A line of an output: its level, and its text without its end.
fn line_of(stream: Stream, line: &[u8]) -> (u8, String) {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let level = match stream {
        Stream::Out => 3,
        Stream::Error => 2,
    };
    (level, printable(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn what_one_end_puts_the_other_gets() {
        let c = Control::new().unwrap();
        c.put_invocation("id", 12);
        assert_eq!(c.begin(), 12);
        // SAFETY: it points into the region and ends in a NUL, as just put.
        assert_eq!(unsafe { CStr::from_ptr(c.id()) }, c"id");
        c.put_status(-3, &[b'e'; 999]);
        assert_eq!((c.status(), c.error().len()), (-3, ERROR_LEN - 1));
        // No field is in another's place.
        c.request().put(1, &[b'r'; 999]);
        c.reply().put(2, &[b'a'; 999]);
        c.call().put(3, &[b'c'; 999]);
        let lengths = [c.request(), c.reply(), c.call()].map(|h| h.read().len());
        assert_eq!(lengths, [1, 2, 3]);
        assert_eq!((c.begin(), c.status()), (12, -3));
        // SAFETY: as above.
        assert_eq!(unsafe { CStr::from_ptr(c.id()) }, c"id");
    }

    #[test]
    fn nothing_of_an_invocation_is_left_when_it_is_forgotten() {
        let c = Control::new().unwrap();
        // Whatever the lengths say.
        c.region().write(0, &[b'x'; LEN]);
        c.request().put(0, b"");
        c.reply().put(0, b"");
        c.put_u64(LOG_USED, 0);
        c.forget();
        let mut bytes = vec![1; LEN];
        c.region().read(0, &mut bytes);
        assert!(bytes.iter().all(|&b| b == 0));
    }

    #[test]
    fn a_context_that_takes_its_own_time_says_when_it_began() {
        let c = Control::new().unwrap();
        c.put_timeout(Duration::from_secs(1));
        c.put_invocation("id", u64::MAX);
        let before = MonotonicTime::now();
        let deadline = c.begin();
        assert!(c.began() >= before && c.began() <= MonotonicTime::now());
        assert_eq!(deadline, c.began().nanos() + 1_000_000_000);
        c.put_invocation("id", before.nanos());
        assert_eq!(c.begin(), before.nanos());
    }

    #[test]
    fn a_turn_is_taken_once_with_its_ticket_or_withdrawn() {
        let c = Control::new().unwrap();
        c.put_invocation(&"i".repeat(200), 7);
        c.put_status(1, &[b'e'; 999]);
        // No ticket, no turn.
        assert!(!c.take_turn(0) && !c.take_turn(5) && !c.withdraw());
        c.put_turn(5, Some(9));
        assert!(![0, 4, 6, 9, seal_of(5)].iter().any(|&t| c.take_turn(t)));
        assert!(!c.has_taken(5));
        assert!(c.take_turn(5) && c.has_taken(5) && !c.has_handed_over(5));
        assert!(!c.take_turn(5), "once");
        assert!(!c.withdraw(), "it is taken");
        assert_eq!(c.hand_over(5), 9);
        assert!(c.has_handed_over(5));
        c.put_turn(11, None);
        assert!(c.withdraw() && !c.take_turn(11));
        // What is there of a turn tells nobody a ticket.
        c.put_turn(11, None);
        assert!(![TURN, ON].map(|at| c.u64(at)).contains(&11));
        // Nothing is in another's place.
        assert_eq!((c.status(), c.error().len()), (1, ERROR_LEN - 1));
        // SAFETY: a text that ends in a NUL, as just put.
        let id = unsafe { std::ffi::CStr::from_ptr(c.id()) };
        assert_eq!(id.to_bytes().len(), ID_LEN - 1);
        assert_eq!(c.begin(), 7);
    }

    #[test]
    fn a_log_that_lies_about_its_length_is_cut() {
        let c = Control::new().unwrap();
        c.put_log(3, b"one\n");
        c.put_log(1, b"two");
        assert_eq!(
            c.take_log(),
            [(3, "one\\n".to_owned()), (1, "two".to_owned())]
        );
        assert!(c.take_log().is_empty());
        c.put_log(3, b"kept");
        c.region().write(LOG_USED, &u64::MAX.to_ne_bytes());
        assert_eq!(c.take_log().first().unwrap().1, "kept");
        for _ in 0..50_000 {
            c.put_log(5, b"flood");
        }
        assert!(c.take_log().len() <= LOG_LEN / 8 + 1);
    }

    #[test]
    fn outputs_are_lines_whichever_pieces_they_come_in() {
        let c = Control::new().unwrap();
        let line = |level, text: &str| (level, text.to_owned());
        c.put_output(Stream::Out, b"on");
        c.put_output(Stream::Out, b"e\ntw");
        c.put_output(Stream::Error, b"err\r\n\n");
        c.put_output(Stream::Out, b"");
        c.put_log(4, b"said");
        c.put_output(Stream::Out, b"o\n");
        c.put_output(Stream::Error, b"no end");
        assert_eq!(
            c.take_log(),
            [
                line(3, "one"),
                line(2, "err"),
                line(2, ""),
                line(4, "said"),
                line(3, "two"),
                line(2, "no end"),
            ]
        );
        // What it remembers of the last record is of no use once that is taken.
        c.put_output(Stream::Error, b"new");
        assert_eq!(c.take_log(), [line(2, "new")]);
        assert!(!c.has_log());
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told() {
        let c = Control::new().unwrap();
        let piece = [b'x'; 1000];
        for _ in 0..200 {
            c.put_output(Stream::Out, &piece);
        }
        c.put_log(3, b"no room");
        let lines = c.take_log();
        let kept: usize = lines[..lines.len() - 1].iter().map(|l| l.1.len()).sum();
        assert!(kept > LOG_LEN - 100, "{kept}");
        let dropped = 200_000 - kept + 7;
        let notice = &lines.last().unwrap().1;
        assert!(
            notice.starts_with(&format!("{dropped} bytes of")),
            "{notice}"
        );
        assert!(!c.has_log());
        // One that lies about it has a notice that lies.
        c.region().write(DROPPED, &u64::MAX.to_ne_bytes());
        c.put_log(3, &vec![b'y'; LOG_LEN]);
        assert!(c.take_log().len() <= 2);
    }
}
