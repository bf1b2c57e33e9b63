//! Calls to other functions.

use crate::abi::{FEATURE_THREADS, Host, HostCalls, Outcome, RawReply};
use crate::error::{Error, Unhandled};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The functions that a [`Callee`] lends something of: a call to one of them by
/// anybody else would take away what was lent.
#[derive(Debug, Default)]
pub(crate) struct Held(RefCell<Vec<CString>>);

/// Bytes to send: so many, from there on.
#[derive(Debug, Clone, Copy)]
struct Args {
    data: *const u8,
    len: usize,
}

impl From<&[u8]> for Args {
    fn from(bytes: &[u8]) -> Self {
        let (data, len) = (bytes.as_ptr(), bytes.len());
        Self { data, len }
    }
}

/// The host's side of calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls<'a> {
    calls: *const HostCalls,
    host: *const Host,
    held: &'a Held,
}

impl<'a> Calls<'a> {
    /// # Safety
    /// The host must keep what `lwc_function.h` says of its calls, with `'a` as
    /// the invocation, and nobody may make calls but through this and its copies.
    pub(crate) unsafe fn new(
        calls: *const HostCalls,
        host: *const Host,
        held: &'a Held,
    ) -> Calls<'a> {
        Calls { calls, host, held }
    }

    fn table(&self) -> &'a HostCalls {
        // SAFETY: promised to `new`.
        unsafe { &*self.calls }
    }

    pub(crate) fn caller(&self) -> Option<&'a str> {
        // SAFETY: promised to `new`: null, or a NUL-terminated text for `'a`.
        unsafe {
            let caller = (self.table().caller)(self.host);
            (!caller.is_null()).then(|| text(caller))
        }
    }

    /// The name for the host, if nothing is lent of that function.
    fn name(&self, function: &str) -> Result<CString, CallError> {
        let Ok(name) = CString::new(function) else {
            let what = "a name cannot have a NUL inside";
            return Err(CallError::refused(function, what));
        };
        if self.held.0.borrow().contains(&name) {
            let what = "there is a `Callee` of it: call with that, or drop it before";
            return Err(CallError::refused(function, what));
        }
        Ok(name)
    }

    pub(crate) fn call(
        &self,
        function: &str,
        args: &[u8],
        content_type: Option<&str>,
    ) -> Result<Reply, CallError> {
        let name = self.name(function)?;
        let content_type = content_type.map(c_text);
        // SAFETY: nothing is lent of this function, and what the reply lends is
        // copied before anybody can call again.
        let reply = unsafe { self.call_raw(&name, args.into(), content_type.as_deref()) };
        Ok(reply?.to_owned())
    }

    /// # Safety
    /// The arguments must be bytes, unless the host refuses the call or the region
    /// has not so many: it does not read them then. Nothing
    /// that an earlier call to this function lent may be used any more, and
    /// nothing of the reply after the next call to it.
    unsafe fn call_raw(
        &self,
        name: &CStr,
        args: Args,
        content_type: Option<&CStr>,
    ) -> Result<BorrowedReply<'a>, CallError> {
        let mut raw = RawReply::new(Outcome::Unavailable);
        // SAFETY: texts and bytes live across the call; the reply is filled.
        unsafe {
            (self.table().call)(
                self.host,
                name.as_ptr(),
                args.data.cast(),
                args.len,
                content_type.map_or(std::ptr::null(), CStr::as_ptr),
                &raw mut raw,
            );
            self.reply(&name.to_string_lossy(), raw)
        }
    }

    pub(crate) fn start(
        &self,
        function: &str,
        args: &[u8],
        content_type: Option<&str>,
    ) -> Pending<'a> {
        let content_type = content_type.map(c_text);
        let ticket = self.name(function).map(|name| {
            // SAFETY: nothing is lent of this function.
            unsafe { self.start_raw(&name, args.into(), content_type.as_deref()) }
        });
        Pending {
            calls: *self,
            function: function.to_owned(),
            ticket,
        }
    }

    /// # Safety
    /// The arguments must be bytes, unless the host refuses the call or the region
    /// has not so many: it does not read them then. Nothing
    /// that an earlier call to this function lent may be used any more.
    unsafe fn start_raw(&self, name: &CStr, args: Args, content_type: Option<&CStr>) -> u64 {
        // SAFETY: texts and bytes live across the call.
        unsafe {
            (self.table().call_start)(
                self.host,
                name.as_ptr(),
                args.data.cast(),
                args.len,
                content_type.map_or(std::ptr::null(), CStr::as_ptr),
            )
        }
    }

    pub(crate) fn callee(&self, function: &str) -> Result<Callee<'a>, CallError> {
        let name = self.name(function)?;
        if self.buffer(&name).is_none() {
            // The host knows why, and is to know that this call failed.
            // SAFETY: nothing is lent of this function, and nothing of an answer
            // that nobody expects.
            unsafe { self.call_raw(&name, (&[][..]).into(), None) }?;
            return Err(CallError::refused(
                function,
                "there is no place for arguments",
            ));
        }
        self.held.0.borrow_mut().push(name.clone());
        Ok(Callee {
            calls: *self,
            name,
            content_type: None,
            written: 0,
        })
    }

    /// Where arguments go, and how many bytes.
    fn buffer(&self, name: &CStr) -> Option<(*mut u8, usize)> {
        let mut capacity = 0;
        // SAFETY: the name and the place live across the call.
        let place =
            unsafe { (self.table().call_buffer)(self.host, name.as_ptr(), &raw mut capacity) };
        (!place.is_null()).then_some((place, capacity))
    }

    /// What came of a call.
    ///
    /// # Safety
    /// The reply must be the host's, and valid for `'r`.
    unsafe fn reply<'r>(
        &self,
        callee: &str,
        raw: RawReply,
    ) -> Result<BorrowedReply<'r>, CallError> {
        let reply = BorrowedReply {
            raw,
            calls: self.calls,
            host: self.host,
            lent: PhantomData,
        };
        let outcome = Outcome::from_raw(raw.outcome);
        if outcome == Outcome::Answered {
            return Ok(reply);
        }
        // SAFETY: the caller's promise.
        let (function, message) = unsafe { (text(raw.function), text(raw.message)) };
        Err(CallError(Box::new(Failure {
            callee: Unhandled(callee.to_owned()),
            outcome,
            code: raw.code,
            function: if function.is_empty() {
                callee
            } else {
                function
            }
            .to_owned(),
            message: message.to_owned(),
            reply: reply.to_owned(),
            told: true,
        })))
    }
}

/// Calls that any thread of a function makes: see
/// [`Invocation::calls_from_threads`](crate::Invocation::calls_from_threads).
#[derive(Debug, Clone, Copy)]
pub struct CallsFromThreads<'a> {
    calls: *const HostCalls,
    host: *const Host,
    lent: PhantomData<&'a Held>,
}

// SAFETY: the host says that its calls may be made by any thread, and takes them one by one
// (FEATURE_THREADS, looked at when this is made). All that is used here of a reply is what
// `call_finish` gives, which stays until the handler returns, and `'a` ends before.
unsafe impl Send for CallsFromThreads<'_> {}
// SAFETY: as above; nothing here changes.
unsafe impl Sync for CallsFromThreads<'_> {}

impl CallsFromThreads<'_> {
    /// As [`Invocation::call`](crate::Invocation::call). (The reply takes memory until the
    /// handler returns, and so do at most 1,024 in an invocation.)
    ///
    /// # Errors
    /// As there.
    pub fn call(&self, function: &str, args: &[u8]) -> Result<Reply, CallError> {
        // Nothing is lent: `threads` has looked, and nobody else calls meanwhile.
        let held = Held::default();
        let calls = Calls {
            calls: self.calls,
            host: self.host,
            held: &held,
        };
        Ok(calls.start(function, args, None).finish()?.to_owned())
    }
}

impl<'a> Calls<'a> {
    pub(crate) fn threads(self) -> Result<CallsFromThreads<'a>, CallError> {
        if !self.held.0.borrow().is_empty() {
            return Err(CallError::refused(
                "",
                "there is a `Callee`: drop it before threads call",
            ));
        }
        if self.table().features & FEATURE_THREADS == 0 {
            return Err(CallError::refused(
                "",
                "this host takes no calls from threads",
            ));
        }
        Ok(CallsFromThreads {
            calls: self.calls,
            host: self.host,
            lent: PhantomData,
        })
    }
}

/// # Safety
/// `p` must be a NUL-terminated text that stays for `'r`.
unsafe fn text<'r>(p: *const c_char) -> &'r str {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(p) }.to_str().unwrap_or("")
}

/// A text for the host, which ends at its first NUL.
fn c_text(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

/// An answer, copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its content type; may be empty.
    pub content_type: String,
    /// What the callee set for it, names and values.
    pub attributes: Vec<(String, String)>,
}

impl Reply {
    /// One of the attributes, by its name in lower case.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// An answer where the callee wrote it. It cannot write there any more.
#[derive(Debug, Clone, Copy)]
pub struct BorrowedReply<'r> {
    raw: RawReply,
    calls: *const HostCalls,
    host: *const Host,
    lent: PhantomData<&'r [u8]>,
}

impl<'r> BorrowedReply<'r> {
    /// Its bytes, in place.
    pub fn bytes(&self) -> &'r [u8] {
        if self.raw.len == 0 {
            return &[];
        }
        // SAFETY: the host promises `len` bytes that nobody writes to, for as long
        // as the reply is valid, which is `'r`.
        unsafe { std::slice::from_raw_parts(self.raw.data, self.raw.len) }
    }

    /// Its content type; may be empty.
    pub fn content_type(&self) -> &'r str {
        // SAFETY: the host promises a NUL-terminated text for `'r`.
        unsafe { text(self.raw.content_type) }
    }

    /// What the callee set for it, names and values.
    pub fn attributes(&self) -> impl Iterator<Item = (&'r str, &'r str)> {
        let reply = *self;
        (0..).map_while(move |i| {
            let mut name = std::ptr::null();
            // SAFETY: the host promises its table of calls, which outlives `'r`,
            // takes a copy of its reply, and gives NUL-terminated texts for `'r`.
            unsafe {
                let of_reply = (*reply.calls).attribute_of_reply;
                let value = of_reply(reply.host, &raw const reply.raw, i, &raw mut name);
                (!value.is_null()).then(|| (text(name), text(value)))
            }
        })
    }

    /// One of the [`attributes`](Self::attributes), by its name in lower case.
    pub fn attribute(&self, name: &str) -> Option<&'r str> {
        self.attributes().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// A copy that stays.
    pub fn to_owned(&self) -> Reply {
        let attributes = self.attributes();
        Reply {
            bytes: self.bytes().to_vec(),
            content_type: self.content_type().to_owned(),
            attributes: attributes.map(|(n, v)| (n.into(), v.into())).collect(),
        }
    }
}

/// What came of a call that brought no answer.
///
/// It leaves a handler with `?`, also as the source of another error: the request
/// fails as the call did, and whoever made it learns the path to who failed. (A
/// call that was not even tried, since a [`Callee`] of that name was there, is an
/// error of the function's own then.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError(Box<Failure>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    callee: Unhandled,
    outcome: Outcome,
    code: i32,
    function: String,
    message: String,
    reply: Reply,
    /// Whether the host knows of it, and can say how the request fails.
    told: bool,
}

impl CallError {
    /// For tests of functions: what a host says.
    pub(crate) fn new(
        callee: &str,
        (outcome, code): (Outcome, i32),
        function: &str,
        message: &str,
        reply: Reply,
    ) -> Self {
        Self(Box::new(Failure {
            callee: Unhandled(callee.to_owned()),
            outcome,
            code,
            function: function.to_owned(),
            message: message.to_owned(),
            reply,
            told: true,
        }))
    }

    /// A call that is not even tried.
    fn refused(callee: &str, what: &str) -> Self {
        let outcome = (Outcome::Refused, 0);
        let mut e = Self::new(callee, outcome, callee, what, Reply::default());
        e.0.told = false;
        e
    }

    /// The function that was called.
    pub fn callee(&self) -> &str {
        &self.0.callee.0
    }

    /// What came of it; never [`Outcome::Answered`].
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// The code of an error of its own, above 0; 0 for any other outcome.
    pub fn code(&self) -> i32 {
        self.0.code
    }

    /// Who failed: the callee, or a function that it called, directly or not.
    pub fn function(&self) -> &str {
        &self.0.function
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What it answered beside an error of its own.
    pub fn reply(&self) -> &Reply {
        &self.0.reply
    }

    /// The same, to keep.
    pub fn into_reply(self) -> Reply {
        self.0.reply
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.function(), self.outcome())?;
        if self.outcome() == Outcome::Reported {
            write!(f, " (code {})", self.code())?;
        }
        if !self.message().is_empty() {
            write!(f, ": {}", self.message())?;
        }
        Ok(())
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.told.then_some(&self.0.callee as _)
    }
}

/// What went wrong in a call with values:
/// [`Invocation::call_typed`](crate::Invocation::call_typed).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TypedCallError {
    /// No bytes could be made of the arguments: the text says of whose, and why.
    Format(String),
    /// The call brought no answer.
    Call(CallError),
    /// The answer is no such value: the text says whose, and why.
    Parse(String),
}

impl TypedCallError {
    pub(crate) fn format(function: &str, e: impl std::fmt::Display) -> Self {
        Self::Format(format!("the arguments for {function}: {e}"))
    }

    pub(crate) fn parse(function: &str, e: impl std::fmt::Display) -> Self {
        Self::Parse(format!("the answer of {function}: {e}"))
    }
}

impl From<CallError> for TypedCallError {
    fn from(e: CallError) -> Self {
        Self::Call(e)
    }
}

impl std::fmt::Display for TypedCallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Format(what) | Self::Parse(what) => f.write_str(what),
            Self::Call(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for TypedCallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Call(e) => std::error::Error::source(e),
            _ => None,
        }
    }
}

/// A function to call in place:
/// [`Invocation::callee`](crate::Invocation::callee).
///
/// Arguments are also written as to any [`std::io::Write`]: they are appended in
/// place, and [`written`](Self::written) counts them.
///
/// What a call lent cannot be used after the next one:
///
/// ```compile_fail,E0499
/// fn twice(mut rates: lwc_function::Callee<'_>) -> Result<bool, lwc_function::CallError> {
///     let first = rates.call(0)?;
///     let second = rates.call(0)?;
///     Ok(first.bytes() == second.bytes())
/// }
/// ```
#[derive(Debug)]
pub struct Callee<'a> {
    calls: Calls<'a>,
    name: CString,
    content_type: Option<CString>,
    written: usize,
}

impl<'a> Callee<'a> {
    /// Where arguments for the next call go.
    pub fn buffer(&mut self) -> &mut [u8] {
        match self.calls.buffer(&self.name) {
            // SAFETY: the host promises so many bytes, mapped and initialised, for
            // this function alone to write until the next call; only this handle
            // makes one, and `&mut self` is borrowed until then.
            Some((place, capacity)) if capacity > 0 => unsafe {
                std::slice::from_raw_parts_mut(place, capacity)
            },
            _ => &mut [],
        }
    }

    /// How many bytes of arguments were written with [`std::io::Write`] since the
    /// last call.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Sets an attribute of the next call; set again it replaces.
    ///
    /// # Errors
    /// Code 500: the name is not of lower case letters, digits and `-`, the
    /// value has control characters, or all of them exceed 8 KiB.
    pub fn attribute(&mut self, name: &str, value: &str) -> crate::Result<()> {
        let bad = || {
            let callee = self.name.to_string_lossy();
            Error::new(
                500,
                format!(
                    "attribute {name:?} of a call to {callee}: a bad name or value, or no room"
                ),
            )
        };
        let c = |s| CString::new(s).map_err(|_| bad());
        let (n, v) = (c(name)?, c(value)?);
        let set = self.calls.table().call_attribute;
        // SAFETY: the host reads all three during the call.
        let code = unsafe { set(self.calls.host, self.name.as_ptr(), n.as_ptr(), v.as_ptr()) };
        if code == 0 { Ok(()) } else { Err(bad()) }
    }

    /// Names the content type of the arguments of the next calls; without this
    /// they have none.
    pub fn content_type(&mut self, content_type: &str) {
        self.content_type = Some(c_text(content_type));
    }

    /// Calls it with the first `len` bytes of [`buffer`](Self::buffer).
    ///
    /// # Errors
    /// Whatever else came of it than an answer.
    pub fn call(&mut self, len: usize) -> Result<BorrowedReply<'_>, CallError> {
        let args = self.args(len);
        let content_type = self.content_type.as_deref();
        // SAFETY: nobody else calls this function while the handle is there, and
        // what the last call lent was borrowed of it, as this reply is.
        unsafe { self.calls.call_raw(&self.name, args, content_type) }
    }

    /// Starts a call with the first `len` bytes of [`buffer`](Self::buffer), and
    /// goes on.
    pub fn start(&mut self, len: usize) -> Pending<'a> {
        let args = self.args(len);
        let content_type = self.content_type.as_deref();
        // SAFETY: as in `call`; what finishing it lends no other call takes away.
        let ticket = unsafe { self.calls.start_raw(&self.name, args, content_type) };
        Pending {
            ticket: Ok(ticket),
            calls: self.calls,
            function: self.name.to_string_lossy().into_owned(),
        }
    }

    /// The arguments of a call that is about to be made, in place. More than there
    /// can be are the host's to refuse, and not read.
    fn args(&mut self, len: usize) -> Args {
        self.written = 0;
        let place = self.calls.buffer(&self.name);
        let data = place.map_or(std::ptr::null(), |(data, _)| data.cast_const());
        Args { data, len }
    }
}

/// Appends to the arguments, in place.
impl std::io::Write for Callee<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.written;
        let Some(room) = self.buffer().get_mut(written..written + bytes.len()) else {
            return Err(std::io::Error::new(
                std::io::ErrorKind::StorageFull,
                "the arguments do not fit their region; raise `region` in the chain file",
            ));
        };
        room.copy_from_slice(bytes);
        self.written += bytes.len();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Callee<'_> {
    fn drop(&mut self) {
        self.calls.held.0.borrow_mut().retain(|n| *n != self.name);
    }
}

/// A call that was started: [`Invocation::start`](crate::Invocation::start).
///
/// As a future it is ready when it is asked: nothing else of this function could
/// run while it waits. Any executor of one thread will do, and what it awaits
/// first is finished first. One that is dropped may or may not run.
#[derive(Debug)]
#[must_use = "nothing comes of a call that is not finished or awaited"]
pub struct Pending<'a> {
    calls: Calls<'a>,
    function: String,
    ticket: Result<u64, CallError>,
}

impl<'a> Pending<'a> {
    /// Waits for what comes of it; the answer stays as long as the invocation.
    ///
    /// # Errors
    /// Whatever else came of it than an answer.
    pub fn finish(self) -> Result<BorrowedReply<'a>, CallError> {
        self.wait()
    }

    fn wait(&self) -> Result<BorrowedReply<'a>, CallError> {
        let ticket = self.ticket.clone()?;
        let mut raw = RawReply::new(Outcome::Unavailable);
        // SAFETY: the reply is filled, and valid until the invocation ends.
        unsafe {
            (self.calls.table().call_finish)(self.calls.host, ticket, &raw mut raw);
            self.calls.reply(&self.function, raw)
        }
    }
}

/// Polled again after it was ready it is refused.
impl<'a> Future for Pending<'a> {
    type Output = Result<BorrowedReply<'a>, CallError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(self.wait())
    }
}
