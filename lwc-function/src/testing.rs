//! A host for tests: runs a function in the process of the test, without a
//! context, and shows all that it asked for and said.
//!
//! ```
//! use lwc_function::testing::TestHost;
//! use lwc_function::{Invocation, Result};
//! use std::io::Write;
//!
//! fn greet(inv: &mut Invocation<'_>) -> Result<()> {
//!     let name = String::from_utf8_lossy(inv.input());
//!     inv.reply_type("text/plain");
//!     write!(inv, "Hello, {name}!")?;
//!     Ok(())
//! }
//!
//! let answer = TestHost::new().call(greet, b"world");
//! assert_eq!((answer.code, &answer.bytes[..]), (0, &b"Hello, world!"[..]));
//! assert_eq!(answer.content_type, "text/plain");
//! // An answer that does not fit is the caller's to hear of.
//! assert_eq!(TestHost::new().capacity(4).call(greet, b"world").code, 413);
//! ```
//!
//! Functions that it calls are closures of the test's, or functions themselves:
//!
//! ```
//! # use lwc_function::testing::{Response, TestHost};
//! # use lwc_function::{Invocation, Outcome, Result};
//! # use std::io::Write;
//! fn search(inv: &mut Invocation<'_>) -> Result<()> {
//!     let near = inv.call("nearby", inv.input())?;
//!     Ok(inv.write_all(&near.bytes)?)
//! }
//! fn nearby(inv: &mut Invocation<'_>) -> Result<()> {
//!     assert_eq!(inv.caller(), Some("search"));
//!     let place = inv.call("geo", inv.input())?;
//!     Ok(write!(inv, "{} hotels", place.bytes.len())?)
//! }
//! let host = |geo: Response| {
//!     TestHost::new().callee("nearby", move |request| {
//!         let geo = geo.clone();
//!         let host = TestHost::new().caller("search");
//!         host.callee("geo", move |_| geo.clone()).call(nearby, request.bytes).into()
//!     })
//! };
//! let answer = host(Response::new("abc")).call(search, b"here");
//! assert_eq!(answer.bytes, b"3 hotels");
//! assert_eq!(answer.calls[0].bytes, b"here");
//! // Neither of them does anything about a call that fails.
//! let timeout = Response::failed(Outcome::TimedOut, "after 50 ms");
//! let failed = host(timeout).call(search, b"here").unhandled.unwrap();
//! assert_eq!((failed.callee(), failed.function()), ("nearby", "geo"));
//! assert_eq!(failed.outcome(), Outcome::TimedOut);
//! ```
//!
//! What a call lends in place is overwritten as soon as the function may no
//! longer use it. A started call runs when it is started.

mod callees;

pub use callees::{Call, Request, Response};

use crate::abi::{
    ABI, Handler, Host, HostCalls, Initialiser, NOTHING, Outcome, RawInvocation, RawReply,
    RawSetup, UNHANDLED,
};
use crate::{CallError, Invocation, Result};
use callees::{Callees, Limits, is_attribute, set, text};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::time::Duration;

/// What the clock of a [`TestHost`] shows, always.
const NOW: u64 = 1_000_000_000;

/// A host with what a test gives it.
#[derive(Debug, Default)]
pub struct TestHost {
    secrets: Vec<(CString, Vec<u8>)>,
    attributes: Vec<(CString, CString)>,
    content_type: CString,
    id: CString,
    capacity: Option<usize>,
    remaining: Option<Duration>,
    callees: Callees,
    caller: Option<CString>,
    ends_request: bool,
    on_log: Listener,
    heard: RefCell<Heard>,
}

type Hear = Box<dyn Fn(i32, &str)>;

/// Hears lines of the log.
#[derive(Default)]
struct Listener(Option<Hear>);

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "a listener",
            None => "nobody",
        })
    }
}

#[derive(Debug, Default)]
struct Heard {
    attributes: Vec<(String, String)>,
    log: Vec<(i32, String)>,
    ended: bool,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// 0, or the code of the error; [`UNHANDLED`] for that of a call.
    pub code: i32,
    /// The error's message.
    pub message: String,
    /// The failed call that the function did nothing about.
    pub unhandled: Option<CallError>,
    /// The answer, as far as there is one.
    pub bytes: Vec<u8>,
    /// Its content type; empty if the function names none.
    pub content_type: String,
    /// What the function set for its answer, in this order.
    pub attributes: Vec<(String, String)>,
    /// Levels and lines of its log.
    pub log: Vec<(i32, String)>,
    /// The calls that it made, in this order.
    pub calls: Vec<Call>,
    /// Whether it ended the request with this answer.
    pub ended: bool,
}

/// What another function sees that called this one.
impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        let mut response = match answer.unhandled {
            Some(e) if e.outcome() == Outcome::Reported => {
                Self::error(e.code(), e.message()).by(e.function())
            }
            Some(e) => Self::failed(e.outcome(), e.message()).by(e.function()),
            None if answer.code != 0 => Self::error(answer.code, &answer.message),
            None => Self::new([]),
        };
        for (name, value) in &answer.attributes {
            response = response.attribute(name, value);
        }
        let response = response.bytes(answer.bytes);
        response.content_type(&answer.content_type)
    }
}

impl TestHost {
    /// A host that grants nothing, with room for 1 MiB and without a deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// Grants a secret.
    #[must_use]
    pub fn secret(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.secrets.push((text(name), bytes.into()));
        self
    }

    /// Gives the input an attribute.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.push((text(name), text(value)));
        self
    }

    /// The input's content type; without this it is empty.
    #[must_use]
    pub fn content_type(mut self, content_type: &str) -> Self {
        self.content_type = text(content_type);
        self
    }

    /// The invocation's identity; without this it is empty.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = text(id);
        self
    }

    /// Grants calls to a function, for which this closure stands in. One that
    /// panics has crashed.
    #[must_use]
    pub fn callee(
        mut self,
        name: &str,
        body: impl FnMut(&Request<'_>) -> Response + 'static,
    ) -> Self {
        self.callees.add(name, body);
        self
    }

    /// Hears each line of the log, with its level, when it is written: also of a function
    /// that then crashes.
    ///
    /// ```
    /// # use lwc_function::testing::TestHost;
    /// # use std::{cell::Cell, rc::Rc};
    /// let heard = Rc::new(Cell::new(0));
    /// let hears = heard.clone();
    /// let host = TestHost::new().on_log(move |level, _| hears.set(level));
    /// host.call(|inv| Ok(inv.log(lwc_function::Level::Warn, "hot")), b"");
    /// assert_eq!(heard.get(), 2);
    /// ```
    #[must_use]
    pub fn on_log(mut self, hear: impl Fn(i32, &str) + 'static) -> Self {
        self.on_log = Listener(Some(Box::new(hear)));
        self
    }

    /// The function that calls this one; without this it is none.
    #[must_use]
    pub fn caller(mut self, name: &str) -> Self {
        self.caller = Some(text(name));
        self
    }

    /// Grants that it ends the request, which it may if none calls it.
    #[must_use]
    pub fn ends_request(mut self) -> Self {
        self.ends_request = true;
        self
    }

    /// How many bytes an answer may have; also the arguments of a call, and its
    /// reply.
    #[must_use]
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// What is left until the deadline; the clock stands still meanwhile. When
    /// nothing is, no call is done in time.
    #[must_use]
    pub fn remaining(mut self, time: Duration) -> Self {
        self.remaining = Some(time);
        self
    }

    /// Runs a function in Rust as [`handler!`](crate::handler!) would export it:
    /// a panic is an error of code 500.
    pub fn call(&self, function: fn(&mut Invocation<'_>) -> Result<()>, input: &[u8]) -> Answer {
        // SAFETY: the invocation is of this ABI, and nobody else's.
        self.run(input, |raw| unsafe { crate::run(raw, function) })
    }

    /// Runs an exported handler of any language.
    ///
    /// # Safety
    /// It must be a handler of this ABI and keep to the memory that it is given.
    pub unsafe fn call_handler(&self, handler: Handler, input: &[u8]) -> Answer {
        // SAFETY: the caller's promise.
        self.run(input, |raw| unsafe { handler(raw) })
    }

    /// Runs an exported initialiser: its code, and its message.
    ///
    /// # Safety
    /// It must be an initialiser of this ABI and keep to the memory that it is
    /// given.
    pub unsafe fn call_initialiser(&self, initialiser: Initialiser) -> (i32, String) {
        let mut raw = RawSetup {
            abi: ABI,
            status: 0,
            host: std::ptr::from_ref(self).cast(),
            calls: &raw const SETUP_CALLS,
            error: [0; 256],
        };
        // SAFETY: the caller's promise; all the setup points at outlives the call.
        let code = unsafe { initialiser(&raw mut raw) };
        (code, field(&raw.error))
    }

    fn run(&self, input: &[u8], call: impl FnOnce(*mut RawInvocation) -> c_int) -> Answer {
        self.heard.take();
        self.callees.begin();
        let mut output = vec![0; self.limits().capacity];
        let mut raw = RawInvocation::new(input, &mut output);
        raw.host = std::ptr::from_ref(self).cast();
        raw.calls = &raw const CALLS;
        raw.input_type = self.content_type.as_ptr();
        raw.id = self.id.as_ptr();
        raw.deadline = self.remaining.map_or(0, |time| {
            NOW + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
        });
        let returned = call(&raw mut raw);
        let mut code = if returned == 0 { raw.status } else { returned };
        let (len, content_type) = (raw.output_len, field(&raw.output_type));
        let mut message = field(&raw.error);
        let mut unhandled = None;
        if code == UNHANDLED {
            unhandled = self.callees.failure(&message);
            (code, message) = match &unhandled {
                Some(e) => (code, e.to_string()),
                None => (500, "it returned LWC_UNHANDLED, but no call failed".into()),
            };
        }
        output.truncate(len);
        let heard = self.heard.take();
        Answer {
            code,
            message,
            unhandled,
            bytes: output,
            content_type,
            attributes: heard.attributes,
            log: heard.log,
            calls: self.callees.calls(),
            ended: heard.ended && code == 0,
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            capacity: self.capacity.unwrap_or(1 << 20),
            late: self.remaining == Some(Duration::ZERO),
        }
    }
}

/// A field that a function fills: a text that ends in a NUL, or with the field.
fn field(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().map(|&c| c as u8).collect();
    let text = bytes.split(|&b| b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

static CALLS: HostCalls = HostCalls {
    abi: ABI,
    features: 0,
    secret,
    log,
    now,
    attribute,
    reply_attribute,
    call_buffer,
    call_attribute,
    call,
    call_start,
    call_finish,
    attribute_of_reply,
    caller,
    end_request,
};

/// An initialiser calls nobody.
static SETUP_CALLS: HostCalls = HostCalls {
    secret,
    log,
    now,
    ..NOTHING
};

unsafe extern "C" fn secret(
    host: *const Host,
    name: *const c_char,
    len: *mut usize,
) -> *const c_void {
    // SAFETY: `host` is the `TestHost` that runs the function; a function passes a
    // name that ends in a NUL and a place for the length.
    unsafe {
        let host = &*host.cast::<TestHost>();
        let name = CStr::from_ptr(name);
        let found = host.secrets.iter().find(|(n, _)| n.as_c_str() == name);
        found.map_or(std::ptr::null(), |(_, bytes)| {
            *len = bytes.len();
            bytes.as_ptr().cast()
        })
    }
}

unsafe extern "C" fn log(host: *const Host, level: c_int, text: *const c_char, len: usize) {
    // SAFETY: as in `secret`; a function passes `len` bytes.
    unsafe {
        let host = &*host.cast::<TestHost>();
        let line = std::slice::from_raw_parts(text.cast::<u8>(), len);
        let line = String::from_utf8_lossy(line).into_owned();
        if let Some(hear) = &host.on_log.0 {
            hear(level, &line);
        }
        host.heard.borrow_mut().log.push((level, line));
    }
}

unsafe extern "C" fn now(_: *const Host) -> u64 {
    NOW
}

unsafe extern "C" fn attribute(
    host: *const Host,
    index: usize,
    name: *mut *const c_char,
) -> *const c_char {
    // SAFETY: as in `secret`; a function passes a place for the name.
    unsafe {
        let host = &*host.cast::<TestHost>();
        host.attributes
            .get(index)
            .map_or(std::ptr::null(), |(n, value)| {
                *name = n.as_ptr();
                value.as_ptr()
            })
    }
}

/// Refuses what every host refuses: a name with other characters than small
/// letters, digits, `-`, `_`, `.` and a colon in front; control characters.
unsafe extern "C" fn reply_attribute(
    host: *const Host,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    const EINVAL: c_int = 22;
    // SAFETY: as in `secret`; both texts end in a NUL.
    let (host, name, value) = unsafe {
        (
            &*host.cast::<TestHost>(),
            CStr::from_ptr(name),
            CStr::from_ptr(value),
        )
    };
    let (Ok(name), Ok(value)) = (name.to_str(), value.to_str()) else {
        return EINVAL;
    };
    if !is_attribute(name, value) {
        return EINVAL;
    }
    set(&mut host.heard.borrow_mut().attributes, name, value);
    0
}

/// What a function passes to a call; no bytes, if they are more than a region has.
///
/// # Safety
/// `host` must be the `TestHost` that runs the function, `function` and
/// `content_type` texts that end in a NUL (the latter may be null), and `data`
/// `len` bytes up to what a region has, or null, all of them for `'a`.
unsafe fn passed<'a>(
    host: *const Host,
    function: *const c_char,
    (data, len): (*const c_void, usize),
    content_type: *const c_char,
) -> (&'a TestHost, &'a CStr, Option<&'a [u8]>, &'a str) {
    // SAFETY: the caller's promise.
    unsafe {
        let host = &*host.cast::<TestHost>();
        let fits = len <= host.limits().capacity;
        let data = fits.then(|| match data.is_null() {
            true => &[][..],
            false => std::slice::from_raw_parts(data.cast::<u8>(), len),
        });
        let content_type = match content_type.is_null() {
            true => "",
            false => CStr::from_ptr(content_type).to_str().unwrap_or(""),
        };
        (host, CStr::from_ptr(function), data, content_type)
    }
}

unsafe extern "C" fn call_buffer(
    host: *const Host,
    function: *const c_char,
    capacity: *mut usize,
) -> *mut u8 {
    // SAFETY: as in `secret`; a function passes a place for the capacity.
    unsafe {
        let host = &*host.cast::<TestHost>();
        let (place, bytes) = host.callees.buffer(CStr::from_ptr(function), host.limits());
        *capacity = bytes;
        place
    }
}

unsafe extern "C" fn call_attribute(
    host: *const Host,
    function: *const c_char,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    // SAFETY: as in `secret`; all three texts end in a NUL.
    let (host, [function, name, value]) = unsafe {
        (
            &*host.cast::<TestHost>(),
            [function, name, value].map(|p| CStr::from_ptr(p)),
        )
    };
    host.callees.attribute(function, name, value)
}

unsafe extern "C" fn call(
    host: *const Host,
    function: *const c_char,
    data: *const c_void,
    len: usize,
    content_type: *const c_char,
    reply: *mut RawReply,
) {
    // SAFETY: `host` is the `TestHost` that runs the function, which passes texts,
    // bytes and a place for the reply.
    unsafe {
        let (host, function, data, content_type) =
            passed(host, function, (data, len), content_type);
        let callees = &host.callees;
        reply.write(callees.call(function, data, content_type, host.limits()));
    }
}

unsafe extern "C" fn call_start(
    host: *const Host,
    function: *const c_char,
    data: *const c_void,
    len: usize,
    content_type: *const c_char,
) -> u64 {
    // SAFETY: as in `call`.
    let (host, function, data, content_type) =
        unsafe { passed(host, function, (data, len), content_type) };
    let callees = &host.callees;
    callees.start(function, data, content_type, host.limits())
}

unsafe extern "C" fn call_finish(host: *const Host, ticket: u64, reply: *mut RawReply) {
    // SAFETY: as in `call`.
    unsafe { reply.write((*host.cast::<TestHost>()).callees.finish(ticket)) };
}

unsafe extern "C" fn attribute_of_reply(
    host: *const Host,
    reply: *const RawReply,
    index: usize,
    name: *mut *const c_char,
) -> *const c_char {
    // SAFETY: as in `call`; a function passes a reply and a place for the name.
    unsafe {
        let callees = &(*host.cast::<TestHost>()).callees;
        match callees.attribute_of_reply(&*reply, index) {
            Some((n, value)) => {
                *name = n;
                value
            }
            None => std::ptr::null(),
        }
    }
}

unsafe extern "C" fn caller(host: *const Host) -> *const c_char {
    // SAFETY: as in `secret`.
    let caller = unsafe { &(*host.cast::<TestHost>()).caller };
    caller.as_ref().map_or(std::ptr::null(), |c| c.as_ptr())
}

unsafe extern "C" fn end_request(host: *const Host) -> c_int {
    const EACCES: c_int = 13;
    // SAFETY: as in `secret`.
    let host = unsafe { &*host.cast::<TestHost>() };
    if host.caller.is_some() || !host.ends_request {
        return EACCES;
    }
    host.heard.borrow_mut().ended = true;
    0
}
