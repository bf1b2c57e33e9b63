//! Functions that a test stands in for, and what came of calls to them.

use crate::abi::{Outcome, RawReply};
use crate::call::{CallError, Reply};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a function under test sends to a callee.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The arguments.
    pub bytes: &'a [u8],
    /// Their content type; may be empty.
    pub content_type: &'a str,
    /// Their attributes, names and values.
    pub attributes: &'a [(String, String)],
}

impl<'a> Request<'a> {
    /// One of the attributes.
    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        let found = self.attributes.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What a callee's stand-in makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    outcome: Outcome,
    code: i32,
    function: Option<String>,
    message: String,
    reply: Reply,
}

impl Response {
    /// An answer.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self::failed(Outcome::Answered, "").bytes(bytes)
    }

    /// An error of the callee's own: a code above 0 (others become 1) and a
    /// message.
    pub fn error(code: i32, message: &str) -> Self {
        Self {
            code: code.max(1),
            ..Self::failed(Outcome::Reported, message)
        }
    }

    /// Anything else that can come of a call.
    pub fn failed(outcome: Outcome, message: &str) -> Self {
        Self {
            outcome,
            code: (outcome == Outcome::Reported).into(),
            function: None,
            message: message.to_owned(),
            reply: Reply::default(),
        }
    }

    /// The bytes beside an error.
    #[must_use]
    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.reply.bytes = bytes.into();
        self
    }

    /// The content type.
    #[must_use]
    pub fn content_type(mut self, content_type: &str) -> Self {
        self.reply.content_type = content_type.to_owned();
        self
    }

    /// One more attribute.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.reply.attributes.push((name.into(), value.into()));
        self
    }

    /// Who failed, if a function that the callee called.
    #[must_use]
    pub fn by(mut self, function: &str) -> Self {
        self.function = Some(function.to_owned());
        self
    }
}

/// A call that a function made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// Whom it called.
    pub function: String,
    /// The arguments.
    pub bytes: Vec<u8>,
    /// Their content type; may be empty.
    pub content_type: String,
    /// Their attributes.
    pub attributes: Vec<(String, String)>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What limits calls in an invocation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of a region.
    pub(super) capacity: usize,
    /// Whether the deadline has passed.
    pub(super) late: bool,
}

type Body = Box<dyn FnMut(&Request<'_>) -> Response>;

/// All callees of a function.
#[derive(Default)]
pub(super) struct Callees {
    bodies: Vec<(CString, RefCell<Body>)>,
    now: RefCell<State>,
}

impl std::fmt::Debug for Callees {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.bodies.iter().map(|b| &b.0))
            .finish()
    }
}

/// What there is in one invocation.
#[derive(Default)]
struct State {
    edges: Vec<Edge>,
    /// All replies: one that is no longer valid is overwritten, not freed, so
    /// that who reads it all the same sees that it is wrong.
    replies: Vec<Kept>,
    /// What came of calls that were started: which reply, until it is finished.
    tickets: Vec<Option<(usize, Option<CallError>)>>,
    failures: Vec<CallError>,
    calls: Vec<Call>,
}

/// What lies between the function and one callee.
#[derive(Default)]
struct Edge {
    /// Used in turn, so that who still writes to the last arguments does not
    /// write to the next.
    buffers: [Vec<u8>; 2],
    used: usize,
    attributes: Vec<(String, String)>,
    /// The reply that the next call makes invalid.
    last: Option<usize>,
}

/// What a [`RawReply`] points to.
struct Kept {
    bytes: Vec<u8>,
    /// Each ends in a NUL.
    content_type: Vec<u8>,
    function: Vec<u8>,
    message: Vec<u8>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What is read of something that is no longer valid.
const STALE: u8 = b'?';

impl Kept {
    fn spoil(&mut self) {
        self.bytes.fill(STALE);
        let texts = [
            &mut self.content_type,
            &mut self.function,
            &mut self.message,
        ];
        let attributes = self.attributes.iter_mut().flat_map(|(n, v)| [n, v]);
        for text in texts.into_iter().chain(attributes) {
            let len = text.len() - 1;
            text[..len].fill(STALE);
        }
    }
}

/// A text for C, which ends at its first NUL.
pub(super) fn text(text: &str) -> CString {
    let text = text.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_default()
}

/// Whether a host takes it: a name of small letters, digits, `-`, `_`, `.` and
/// perhaps a colon in front; a value without control characters.
pub(super) fn is_attribute(name: &str, value: &str) -> bool {
    let plain = name.strip_prefix(':').unwrap_or(name);
    let fits = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    !plain.is_empty() && plain.bytes().all(fits) && !value.contains(char::is_control)
}

/// Sets one of a list.
pub(super) fn set(attributes: &mut Vec<(String, String)>, name: &str, value: &str) {
    attributes.retain(|(n, _)| n != name);
    attributes.push((name.into(), value.into()));
}

impl Callees {
    pub(super) fn add(&mut self, name: &str, body: impl FnMut(&Request<'_>) -> Response + 'static) {
        self.bodies.push((text(name), RefCell::new(Box::new(body))));
    }

    /// Before an invocation.
    pub(super) fn begin(&self) {
        let edges = self.bodies.iter().map(|_| Edge::default()).collect();
        self.now.replace(State {
            edges,
            ..State::default()
        });
    }

    /// All calls so far.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.now.borrow().calls.clone()
    }

    /// The failure that a function means which returns
    /// [`UNHANDLED`](crate::abi::UNHANDLED) and names this one.
    pub(super) fn failure(&self, named: &str) -> Option<CallError> {
        let state = self.now.borrow();
        let mut found = state.failures.iter().rev();
        let named = found.clone().find(|e| e.callee() == named);
        named.or_else(|| found.next()).cloned()
    }

    fn find(&self, function: &CStr) -> Option<usize> {
        self.bodies.iter().position(|b| b.0.as_c_str() == function)
    }

    /// Where arguments go.
    pub(super) fn buffer(&self, function: &CStr, limits: Limits) -> (*mut u8, usize) {
        let Some(number) = self.find(function) else {
            return (std::ptr::null_mut(), 0);
        };
        let mut state = self.now.borrow_mut();
        let edge = &mut state.edges[number];
        let buffer = &mut edge.buffers[edge.used];
        buffer.resize(limits.capacity, 0);
        (buffer.as_mut_ptr(), limits.capacity)
    }

    /// Sets an attribute of the next call: 0 or an errno.
    pub(super) fn attribute(&self, function: &CStr, name: &CStr, value: &CStr) -> c_int {
        const EACCES: c_int = 13;
        const EINVAL: c_int = 22;
        let Some(number) = self.find(function) else {
            return EACCES;
        };
        match (name.to_str(), value.to_str()) {
            (Ok(name), Ok(value)) if is_attribute(name, value) => {
                let edges = &mut self.now.borrow_mut().edges;
                set(&mut edges[number].attributes, name, value);
                0
            }
            _ => EINVAL,
        }
    }

    /// A call, and what came of it.
    pub(super) fn call(
        &self,
        function: &CStr,
        args: Option<&[u8]>,
        content_type: &str,
        limits: Limits,
    ) -> RawReply {
        let (index, failure) = self.make(function, args, content_type, limits);
        let mut state = self.now.borrow_mut();
        if let Some(number) = self.find(function) {
            state.edges[number].last = Some(index);
        }
        let reply = state.raw(index, failure.as_ref());
        state.failures.extend(failure);
        reply
    }

    /// A call that is started, which this host does at once: its ticket.
    pub(super) fn start(
        &self,
        function: &CStr,
        args: Option<&[u8]>,
        content_type: &str,
        limits: Limits,
    ) -> u64 {
        let made = self.make(function, args, content_type, limits);
        let tickets = &mut self.now.borrow_mut().tickets;
        tickets.push(Some(made));
        tickets.len() as u64
    }

    /// What came of a call that was started.
    pub(super) fn finish(&self, ticket: u64) -> RawReply {
        let mut state = self.now.borrow_mut();
        let place = usize::try_from(ticket).ok().and_then(|t| t.checked_sub(1));
        let ticket = place.and_then(|place| state.tickets.get_mut(place));
        let (index, failure) = ticket.and_then(Option::take).unwrap_or_else(|| {
            let what = "no call was started with this ticket, or it was finished before";
            state.keep("", &Response::failed(Outcome::Refused, what))
        });
        let reply = state.raw(index, failure.as_ref());
        state.failures.extend(failure);
        reply
    }

    /// The index-th attribute of a reply: its name and its value.
    pub(super) fn attribute_of_reply(
        &self,
        reply: &RawReply,
        index: usize,
    ) -> Option<(*const c_char, *const c_char)> {
        let state = self.now.borrow();
        let kept = reply.attributes.addr().checked_sub(1)?;
        let (name, value) = state.replies.get(kept)?.attributes.get(index)?;
        Some((name.as_ptr().cast(), value.as_ptr().cast()))
    }

    /// Makes a call: which reply is its, and the error if it is one.
    fn make(
        &self,
        function: &CStr,
        args: Option<&[u8]>,
        content_type: &str,
        limits: Limits,
    ) -> (usize, Option<CallError>) {
        let name = function.to_string_lossy();
        let number = self.find(function);
        // Taken before the place where they lie is overwritten.
        let (fits, args) = (args.is_some(), args.unwrap_or_default().to_vec());
        let attributes = number.map(|number| self.now.borrow_mut().consume(number));
        let attributes = attributes.unwrap_or_default();
        let response = match number {
            None => Response::failed(
                Outcome::Refused,
                "it is not granted: the test gives it with `TestHost::callee`",
            ),
            Some(_) if limits.late => Response::failed(Outcome::DeadlinePassed, ""),
            Some(_) if !fits => {
                Response::failed(Outcome::TooBig, "the arguments do not fit their region")
            }
            Some(number) => {
                // Nothing else is borrowed while the test's own code runs.
                let body = &mut *self.bodies[number].1.borrow_mut();
                let request = Request {
                    bytes: &args,
                    content_type,
                    attributes: &attributes,
                };
                let done = catch_unwind(AssertUnwindSafe(|| body(&request)));
                match done {
                    Ok(response) if response.reply.bytes.len() > limits.capacity => {
                        Response::failed(Outcome::TooBig, "the reply does not fit its region")
                    }
                    Ok(response) => response,
                    Err(_) => Response::failed(Outcome::Crashed, "its stand-in panicked"),
                }
            }
        };
        let mut state = self.now.borrow_mut();
        state.calls.push(Call {
            function: name.clone().into_owned(),
            bytes: args,
            content_type: content_type.to_owned(),
            attributes,
            outcome: response.outcome,
        });
        state.keep(&name, &response)
    }
}

impl State {
    /// A call begins: what the one before lent is no longer valid.
    fn consume(&mut self, number: usize) -> Vec<(String, String)> {
        let edge = &mut self.edges[number];
        edge.buffers[edge.used].fill(STALE);
        edge.used = 1 - edge.used;
        if let Some(last) = edge.last.take() {
            self.replies[last].spoil();
        }
        std::mem::take(&mut edge.attributes)
    }

    fn keep(&mut self, callee: &str, response: &Response) -> (usize, Option<CallError>) {
        let function = response.function.as_deref().unwrap_or(callee);
        let failure = (response.outcome != Outcome::Answered).then(|| {
            let what = (response.outcome, response.code);
            let reply = response.reply.clone();
            CallError::new(callee, what, function, &response.message, reply)
        });
        let c = |s: &str| text(s).into_bytes_with_nul();
        let reply = &response.reply;
        let attributes = reply.attributes.iter();
        self.replies.push(Kept {
            bytes: reply.bytes.clone(),
            content_type: c(&reply.content_type),
            function: c(function),
            message: c(&response.message),
            attributes: attributes.map(|(n, v)| (c(n), c(v))).collect(),
        });
        (self.replies.len() - 1, failure)
    }

    fn raw(&self, index: usize, failure: Option<&CallError>) -> RawReply {
        let kept = &self.replies[index];
        RawReply {
            outcome: failure.map_or(Outcome::Answered, CallError::outcome) as i32,
            code: failure.map_or(0, CallError::code),
            function: kept.function.as_ptr().cast(),
            message: kept.message.as_ptr().cast(),
            data: kept.bytes.as_ptr(),
            len: kept.bytes.len(),
            content_type: kept.content_type.as_ptr().cast(),
            attributes: std::ptr::without_provenance(index + 1),
            reserved: [0; 2],
        }
    }
}
