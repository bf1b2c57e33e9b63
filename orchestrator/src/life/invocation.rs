//! A copy of a snapshot: one invocation after the other.
//!
//! The root or the function before it switches to it,
//! and the control goes on to the function after it or back to the root.
//!
//! Where functions hand over to each other it takes over once in a request, from the
//! function before it or the root, and only with the ticket that its root has put
//! the seal of on its control page (`relay`). Anything else is a stray: where
//! contexts are processes the copy waits on, as if nothing had been.

use super::attributes::Attributes;
use super::host::{CALLS, HostState};
use super::output::{self, Streams};
use super::parts::{Entrance, Parts};
#[cfg(target_os = "freebsd")]
use super::snapshot::behind_the_standard_three;
use super::snapshot::{Loaded, bytes, word};
use super::text::until_nul;
use super::{Probes, files, probe};
use lwc::{Confinement, Context, Event, Handle, MonotonicTime};
use lwc_function::abi::{ABI, Handler, RawInvocation, UNHANDLED};
use std::ffi::{CStr, c_char, c_int};
#[cfg(target_os = "freebsd")]
use std::os::fd::RawFd;

/// So much of the place for an input that is kept has its memory before the
/// first invocation, whatever inputs are like: a copy must not be able to tell
/// what others were given.
const TOUCHED_INPUT: usize = 16 * 1024;

/// In the word by which a function tells the next one the length of its message: its
/// type or its attributes are in their region, for it has some.
pub(super) const LEFT_MORE: u64 = 1 << 63;

/// Who says what a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// The root, on the control page.
    ByRoot,
    /// The function before, with a word.
    Before(u64),
}

/// What a copy has for its invocations, one after the other.
struct Buffers {
    raw: RawInvocation,
    /// For an input that is kept. It grows within what was reserved for it and
    /// is used again, with an earlier input of this copy's behind a short one.
    input: Vec<u8>,
    /// A content type that a function wrote, checked; ends in a NUL.
    kind: Vec<u8>,
    /// Attributes that a function wrote, checked.
    attributes: Attributes,
}

impl Buffers {
    fn new(parts: &Parts<'_>, mut input: Vec<u8>) -> Self {
        if parts.keep_input {
            input.resize(TOUCHED_INPUT.min(parts.capacity), 0);
        }
        // SAFETY: integers, pointers and characters may all be zero.
        let raw = unsafe { std::mem::zeroed() };
        Self {
            raw,
            input,
            kind: Vec::new(),
            attributes: Attributes::default(),
        }
    }

    /// Where the handler finds an input of so many bytes, at most the capacity.
    ///
    /// In one process its writer runs only when it is switched to, so it stays as
    /// it is. Where contexts are processes the writer may go on writing:
    /// there the handler gets a copy, of any input that a function wrote.
    #[inline]
    fn input(&mut self, parts: &Parts<'_>, way: &Entrance<'_>, len: usize) -> *const u8 {
        if !parts.keep_input {
            return way.input_place();
        }
        if self.input.len() < len {
            self.input.resize(len, 0);
        }
        let kept = &mut self.input[..len];
        way.input.read(way.input_at, kept);
        kept.as_ptr()
    }

    /// The length of the input, its type and its attributes, as the root says, who
    /// has checked them.
    #[inline]
    fn request(
        &mut self,
        parts: &Parts<'_>,
        way: &Entrance<'_>,
        state: &HostState<'_>,
    ) -> (usize, *const c_char) {
        let header = &way.request;
        let len = header.read().len() as usize;
        state.attributes.set(header.attributes_in_place());
        (len.min(parts.capacity), header.content_type_in_place())
    }

    /// The same as the function before says, by a word and, if the word says so, by
    /// what it has left; `None` when that is what none can say.
    #[inline]
    fn request_left(
        &mut self,
        said: u64,
        parts: &Parts<'_>,
        way: &Entrance<'_>,
        state: &HostState<'_>,
    ) -> Option<(usize, *const c_char)> {
        let len = usize::try_from(said & !LEFT_MORE).ok()?;
        if len > parts.capacity {
            return None;
        }
        if said & LEFT_MORE == 0 {
            state.attributes.set(&[]);
            return Some((len, c"".as_ptr()));
        }
        let header = way.left.as_ref()?;
        let fixed = header.read();
        self.attributes = header.attributes(&fixed)?.for_the_next_step();
        state.attributes.set(self.attributes.as_bytes());
        let kind = fixed.content_type();
        if kind.is_empty() {
            return Some((len, c"".as_ptr()));
        }
        self.kind = kind.into_bytes();
        self.kind.push(0);
        Some((len, self.kind.as_ptr().cast()))
    }
}

/// A text that ends in a NUL, cut to its field.
#[cold]
fn put_c_text(field: &mut [c_char], text: &str) {
    let room = field.len() - 1;
    for (to, from) in field.iter_mut().zip(text.bytes().take(room).chain([0])) {
        *to = from as c_char;
    }
}

/// What a copy does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Switch to the root, and what to say.
    ToRoot([u64; 3]),
    /// To the next function.
    HandOver(Handle, [u64; 4]),
    /// Wait, for the control was nobody's to give.
    Wait,
}

/// What came of an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// An answer that can be handed over.
    Answer,
    /// One that is the request's: nobody is to run behind it.
    LastAnswer,
    /// No answer that anybody could read.
    Error,
}

/// A copy that is there.
struct Serving<'a> {
    parts: &'a Parts<'a>,
    state: &'a HostState<'a>,
    handler: Handler,
    /// The neighbours that hand over to it and that it hands over to. Without
    /// them the root does all.
    before: Option<Context>,
    after: Option<Context>,
    /// The ticket with which it took over last.
    ticket: u64,
    /// What it tells the next one of its answer.
    left: u64,
    buffers: Buffers,
    streams: Option<Streams>,
}

/// Runs it, from its beginning on.
pub(super) fn serve(root: Handle, parts: &Parts<'_>, state: &HostState<'_>, loaded: &Loaded) -> ! {
    let mut copy = Serving {
        parts,
        state,
        handler: loaded.handler,
        before: None,
        after: None,
        ticket: 0,
        left: 0,
        buffers: Buffers::new(parts, loaded.kept.take()),
        streams: loaded.streams,
    };
    touch_first_pages(parts, loaded);
    copy.answer(&[word::WARM_UP], Said::ByRoot);
    let locked = state.secrets.iter().try_for_each(|(_, s)| s.lock());
    let caught = locked.and_then(|()| output::catch(parts.control));
    let ready = caught.and_then(|()| lwc::confine(Confinement::Strict));
    let mut next = match ready {
        Ok(()) => Next::ToRoot([word::COPY_READY, 0, 0]),
        Err(e) => Next::ToRoot([word::FAILED, e.errno().raw() as u64, 0]),
    };
    loop {
        let event = match next {
            Next::ToRoot(words) => root.switch(&words),
            Next::HandOver(to, words) => to.switch(&words),
            Next::Wait => lwc::await_switch(MonotonicTime::NEVER),
        };
        next = match (event, next) {
            (Ok(Event::Switched { from, args }), _) if from == Some(root) => {
                copy.answer(&args, Said::ByRoot)
            }
            (Ok(Event::Switched { from, args }), _) => copy.take_over(from, &args),
            (Ok(_), _) => copy.stray(),
            // There is no way back any more, as after a function closed it on
            // the kernel backend; or nothing can be waited for.
            (Err(_), Next::Wait | Next::ToRoot(_)) => std::process::abort(),
            (Err(e), Next::HandOver(..)) => {
                Next::ToRoot([word::FAILED, e.errno().raw() as u64, copy.ticket])
            }
        };
    }
}

/// Touches what the first invocation will, while nobody waits for it: each
/// page that a copy touches first costs it a fault.
#[inline(never)]
fn touch_first_pages(parts: &Parts<'_>, loaded: &Loaded) {
    const STACK: usize = 8192;
    let mut stack = [0u8; STACK];
    std::hint::black_box(&mut stack);
    let ways = parts.entrances.iter();
    let places = ways.flat_map(|way| [way.input_place(), way.output_place().cast_const()]);
    for place in places.chain([loaded.handler as *const u8]) {
        // SAFETY: mapped in this context; functions of loaded libraries are
        // readable as they are executable on these machines.
        let _ = unsafe { place.read_volatile() };
    }
}

/// Does nothing: to invoke it touches what is needed to invoke any other.
unsafe extern "C" fn nothing(_: *mut RawInvocation) -> c_int {
    0
}

impl Serving<'_> {
    /// Somebody other than the root has switched here.
    fn take_over(&mut self, from: Option<Handle>, args: &[u64]) -> Next {
        let before = self.before.as_ref().map(Context::handle);
        match args {
            [word::INVOKE, _, 0, said] if from.is_some() && from == before => {
                self.answer(args, Said::Before(*said))
            }
            _ => self.stray(),
        }
    }

    /// Nothing has happened. In one process the control has come all the same,
    /// and the root is told.
    #[cold]
    fn stray(&self) -> Next {
        if !self.parts.apart {
            return Next::ToRoot([word::UNEXPECTED, 0, 0]);
        }
        Next::Wait
    }

    /// Does what is asked for. One copy of the code, so that one call warms it
    /// up for all.
    #[inline(never)]
    fn answer(&mut self, asked: &[u64], said: Said) -> Next {
        let words = match asked.first() {
            Some(&word::INVOKE) => {
                let at = |i: usize| asked.get(i).copied().unwrap_or(0);
                let (ticket, way) = (at(1), at(2) as usize);
                let control = self.parts.control;
                if self.parts.relay && !control.take_turn(ticket) {
                    return self.stray();
                }
                self.ticket = ticket;
                match (self.invoke(self.handler, way, said), &self.after) {
                    (Some(Came::Answer), Some(after)) => {
                        let next = control.hand_over(ticket);
                        let words = [word::INVOKE, next, 0, self.left];
                        return Next::HandOver(after.handle(), words);
                    }
                    (Some(Came::LastAnswer), _) => [word::END, ticket, 0],
                    (Some(Came::Answer | Came::Error), _) => [word::DONE, ticket, 0],
                    (None, _) => [word::FAILED, libc::EBADMSG as u64, ticket],
                }
            }
            Some(&word::WARM_UP) => {
                self.invoke(nothing, 0, said);
                [word::DONE, 0, 0]
            }
            Some(&word::LINK) => {
                self.link(asked);
                // It may be asked twice.
                [word::DONE, asked.get(3).copied().unwrap_or(0), 0]
            }
            Some(&word::PROBE)
                if self.parts.probes == Probes::Answered
                    && asked.get(1) == Some(&probe::what::CALLS) =>
            {
                let from = asked.get(2).copied().unwrap_or(0);
                [word::DONE, self.state.calls_made(from), 0]
            }
            Some(&word::PROBE)
                if self.parts.probes == Probes::Answered
                    && asked.get(1) == Some(&probe::what::FILE) =>
            {
                let number = asked.get(2).map_or(usize::MAX, |&n| n as usize);
                let path = self.parts.tried.get(number);
                [word::DONE, path.map_or(u64::MAX, |p| files::attempt(p)), 0]
            }
            Some(&word::PROBE)
                if self.parts.probes == Probes::Answered
                    && asked.get(1) == Some(&probe::what::CONNECTION) =>
            {
                let number = asked.get(2).map_or(usize::MAX, |&n| n as usize);
                let place = self.parts.places.get(number);
                let reached = place.map_or(u64::MAX, files::attempt_connection);
                [word::DONE, reached, 0]
            }
            Some(&word::PROBE) if self.parts.probes == Probes::Answered => {
                [word::DONE, probe::run(asked), 0]
            }
            _ => [word::FAILED, libc::EINVAL as u64, 0],
        };
        Next::ToRoot(words)
    }

    /// Other neighbours from now on, by names that the root has just given this context.
    /// The descriptors of those before are closed, unless they are the same.
    fn link(&mut self, asked: &[u64]) {
        let named = |i: usize| {
            let word = asked.get(i).copied();
            #[cfg(target_os = "freebsd")]
            let word = word.map(|word| match RawFd::try_from(word) {
                Ok(number) => behind_the_standard_three(number) as u64,
                Err(_) => word,
            });
            word.and_then(|word| Context::introduced(word).ok())
        };
        let (before, after) = (named(1), named(2));
        (self.before, self.after) = (before, after);
    }

    /// Step 6 of the life. What came of it; `None` if the function before says what no
    /// request is. The buffers are used again and again: texts
    /// in it are made empty by their first byte alone.
    fn invoke(&mut self, handler: Handler, way: usize, said: Said) -> Option<Came> {
        let Self {
            parts,
            state,
            buffers,
            left,
            streams,
            ..
        } = self;
        let deadline = parts.control.begin();
        let number = way;
        let way = parts.entrances.get(number)?;
        let (input_len, input_type) = match said {
            Said::ByRoot => buffers.request(parts, way, state),
            Said::Before(said) => buffers.request_left(said, parts, way, state)?,
        };
        let input = buffers.input(parts, way, input_len);
        let raw = &mut buffers.raw;
        // All of it: the function may have written to any.
        raw.abi = ABI;
        raw.status = 0;
        raw.host = state.as_host();
        raw.calls = &raw const CALLS;
        raw.input = input;
        raw.input_len = input_len;
        raw.input_type = input_type;
        raw.output = way.output_place();
        raw.output_capacity = parts.capacity;
        raw.output_len = 0;
        raw.id = parts.control.id();
        raw.deadline = deadline;
        raw.output_type[0] = 0;
        raw.error[0] = 0;
        way.reply.clear_attributes();
        files::begin();
        state.begin(number);
        // SAFETY: everything the invocation points at outlives the call; the
        // handler is what the function's author gave for one.
        let code = unsafe { handler(&raw mut *raw) };
        output::flush(*streams);
        let mut status = if code != 0 { code } else { raw.status };
        if status == UNHANDLED
            && let Some((code, text)) = state.refused(until_nul(bytes(&raw.error)))
        {
            // It never got to the root, which would not know of it.
            status = code;
            put_c_text(&mut raw.error, &text);
        }
        let ends = state.finish();
        let mut kind = bytes(&raw.output_type);
        let seen = parts.relay || way.caller.is_some();
        // SAFETY: as `request` gave it, a text that ends in a NUL.
        if seen && kind[0] == 0 && unsafe { *input_type } != 0 {
            // The root, which does this elsewhere, does not see the message.
            // SAFETY: as above.
            kind = unsafe { CStr::from_ptr(input_type) }.to_bytes();
        }
        let len = raw.output_len as u64;
        way.reply.put(len, kind);
        parts.control.put_status(status, bytes(&raw.error));
        let good = status == 0 && raw.output_len <= parts.capacity;
        if let Some(leaves) = way.leaves.as_ref().filter(|_| good) {
            *left = len;
            let attributes = way.reply.attributes_in_place();
            if kind[0] != 0 || !attributes.is_empty() {
                *left |= LEFT_MORE;
                leaves.put(len, kind);
                leaves.put_records(attributes);
            }
        }
        Some(match good {
            true if ends => Came::LastAnswer,
            true => Came::Answer,
            false => Came::Error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::control::Control;
    use super::super::message_header::{BYTES, HEADER_LEN, MessageHeader};
    use super::*;
    use lwc::Region;
    use std::path::Path;

    const CAPACITY: usize = 65536;

    /// Nothing is called on it.
    fn nobody() -> Handle {
        // SAFETY: as above; it is only told from others.
        unsafe { Handle::from_raw(3) }
    }

    /// Parts of a context with a region for its input, and an empty output.
    fn with_parts(keep_input: bool, relay: bool, test: impl FnOnce(&Parts<'_>)) {
        let input = Region::new(CAPACITY + HEADER_LEN).unwrap();
        let output = Region::new(CAPACITY).unwrap();
        let control = Control::new().unwrap();
        let printed = output::Before::new().unwrap();
        test(&Parts {
            function: "",
            needs: &[],
            library: Path::new(""),
            handler: "",
            has_init: false,
            memory: 0,
            secrets: Vec::new(),
            env: Vec::new(),
            files: None,
            scratch: 0,
            threads: 0,
            connects: false,
            names: false,
            tried: &[],
            places: &[],
            entrances: vec![Entrance {
                caller: None,
                input: &input,
                input_at: if relay { BYTES } else { 0 },
                output: &output,
                output_at: 0,
                request: control.request(),
                reply: control.reply(),
                left: relay.then(|| MessageHeader::around(&input, CAPACITY)),
                leaves: None,
            }],
            callees: Vec::new(),
            capacity: CAPACITY,
            ends_request: true,
            control: &control,
            output: &printed,
            relay,
            apart: true,
            keep_input,
            rolled_back: false,
            probes: Probes::Refused,
        });
    }

    #[test]
    fn an_input_that_is_kept_is_the_readers_alone() {
        with_parts(true, false, |parts| {
            let mut buffers = Buffers::new(parts, Vec::new());
            for len in [1, 4096, CAPACITY, 4097, 0] {
                parts.entrances[0].input.write(0, &[7; CAPACITY]);
                let kept = buffers.input(parts, &parts.entrances[0], len);
                assert!(!parts.entrances[0].input.range().contains(&(kept as usize)));
                // Its writer goes on writing.
                parts.entrances[0].input.write(0, &[8; CAPACITY]);
                // SAFETY: `kept` points to `len` bytes of the buffers'.
                let kept = unsafe { std::slice::from_raw_parts(kept, len) };
                assert!(kept.iter().all(|&b| b == 7), "{len}");
            }
        });
        with_parts(false, false, |parts| {
            let place = parts.entrances[0].input_place();
            assert_eq!(
                Buffers::new(parts, Vec::new()).input(parts, &parts.entrances[0], 1),
                place
            );
        });
    }

    #[test]
    fn an_input_that_is_kept_stays_where_room_was_reserved() {
        with_parts(true, false, |parts| {
            let reserved = Vec::with_capacity(CAPACITY);
            let place = reserved.as_ptr();
            let mut buffers = Buffers::new(parts, reserved);
            assert_eq!(buffers.input(parts, &parts.entrances[0], CAPACITY), place);
            assert_eq!(buffers.input(parts, &parts.entrances[0], 1), place);
        });
    }

    unsafe extern "C" fn counting(raw: *mut RawInvocation) -> c_int {
        // SAFETY: the invocation is the caller's, and whole.
        unsafe { (*raw).output_len = 1 };
        0
    }

    #[test]
    fn one_hand_over_is_taken_with_one_ticket_from_one_context() {
        with_parts(false, true, |parts| {
            let state = HostState::new(nobody(), parts);
            let [before, after, other] = [4, 5, 6].map(|fd| {
                // SAFETY: nothing is called on them; they are told from each other.
                unsafe { Handle::from_raw(fd) }
            });
            let mut copy = Serving {
                parts,
                state: &state,
                handler: counting,
                before: Some(Context::own(before)),
                after: Some(Context::own(after)),
                ticket: 0,
                left: 0,
                buffers: Buffers::new(parts, Vec::new()),
                streams: None,
            };
            let control = parts.control;
            let words = |ticket| [word::INVOKE, ticket, 0, 0];
            let on = |ticket| Next::HandOver(after, words(ticket));
            // Before there is a turn, and with no ticket at all.
            assert_eq!(copy.take_over(Some(before), &words(0)), Next::Wait);
            control.put_turn(7, Some(70));
            for (from, words) in [
                (Some(other), &words(7)[..]),
                (None, &words(7)),
                (Some(after), &words(7)),
                (Some(before), &words(6)),
                (Some(before), &words(70)),
                (Some(before), &[]),
                (Some(before), &[word::INVOKE, 7]),
                (Some(before), &[word::INVOKE, 7, 0]),
                (Some(before), &[word::INVOKE, 7, 1, 0]),
                (Some(before), &[word::WARM_UP, 7, 0, 0]),
                (Some(before), &[word::LINK, 7, 0, 0]),
            ] {
                assert_eq!(copy.take_over(from, words), Next::Wait, "{words:?}");
                assert!(!control.has_taken(7));
            }
            assert_eq!(copy.take_over(Some(before), &words(7)), on(70));
            assert!(control.has_taken(7) && control.has_handed_over(7));
            // A second one, from the root as well, and a late one.
            assert_eq!(copy.take_over(Some(before), &words(7)), Next::Wait);
            assert_eq!(copy.answer(&words(7), Said::ByRoot), Next::Wait);
            control.put_turn(8, Some(80));
            control.withdraw();
            assert_eq!(copy.take_over(Some(before), &words(8)), Next::Wait);
            control.put_turn(9, Some(90));
            assert_eq!(copy.take_over(Some(before), &words(8)), Next::Wait);
            // The root hands over in the place of the one before.
            assert_eq!(copy.answer(&words(9), Said::ByRoot), on(90));
            assert_eq!(copy.take_over(Some(before), &words(9)), Next::Wait);
        });
    }

    #[test]
    fn what_a_function_hands_over_is_checked() {
        with_parts(false, true, |parts| {
            let (mut buffers, state) = (
                Buffers::new(parts, Vec::new()),
                HostState::new(nobody(), parts),
            );
            let way = &parts.entrances[0];
            let header = way.left.as_ref().unwrap();
            let more = |len: usize| len as u64 | LEFT_MORE;
            header.put(1, b"text/\x1bplain");
            assert!(header.put_attribute(b"x-one", b"1"));
            assert!(header.put_attribute(b":status", b"201"));
            let request = buffers.request_left(more(CAPACITY), parts, way, &state);
            let (len, kind) = request.unwrap();
            // SAFETY: a text that ends in a NUL, of the buffers'.
            let kind = unsafe { CStr::from_ptr(kind) };
            assert_eq!((len, kind), (CAPACITY, c"text/\\u{1b}plain"));
            let mut seen = Attributes::default();
            seen.set("x-one", "1").unwrap();
            // SAFETY: as set by `request_left`, and the buffers are as they were.
            assert_eq!(unsafe { &*state.attributes.get() }, seen.as_bytes());
            // What the writer changes now is not seen.
            header.clear_attributes();
            // SAFETY: as above.
            assert_eq!(unsafe { &*state.attributes.get() }, seen.as_bytes());
            // Nothing but a length: nothing else is looked at.
            let (len, kind) = buffers.request_left(1, parts, way, &state).unwrap();
            // SAFETY: a static text.
            assert_eq!((len, unsafe { CStr::from_ptr(kind) }), (1, c""));
            // SAFETY: as set by `request_left`.
            assert!(unsafe { &*state.attributes.get() }.is_empty());
            header.put_attribute(b"", b"malformed");
            for said in [CAPACITY as u64 + 1, more(CAPACITY + 1), u64::MAX, more(1)] {
                let request = buffers.request_left(said, parts, way, &state);
                assert!(request.is_none(), "{said:x}");
            }
            // One that was told of no header has none.
            let of_root = Entrance { left: None, ..*way };
            let request = buffers.request_left(more(1), parts, &of_root, &state);
            assert!(request.is_none());
        });
    }
}
