//! Functions in Rust: read an input in place, write an answer in place.
//!
//! ```
//! use lwc_function::{Invocation, Result};
//! use std::io::Write;
//!
//! fn greet(inv: &mut Invocation<'_>) -> Result<()> {
//!     let name = inv.input();
//!     write!(inv, "Hello, {}!", String::from_utf8_lossy(name))?;
//!     inv.reply_type("text/plain");
//!     Ok(())
//! }
//! lwc_function::handler!(greet, greet);
//! # fn main() {}
//! ```
//!
//! It calls functions that the chain file grants it, each of which runs in a
//! sandbox of its own: see [`Invocation::call`].
//!
//! Build it as a `cdylib` and name the crate in a chain file. The output is
//! the next function's input: nothing is copied between the two. A function
//! runs in a sandbox without descriptors: it may compute, allocate up to its
//! limit, and use what this crate offers.

pub mod abi;
mod call;
mod error;
pub mod sources;
pub mod testing;

pub use abi::Outcome;
pub use call::{
    BorrowedReply, CallError, Callee, CallsFromThreads, Pending, Reply, TypedCallError,
};
pub use error::{Error, Result};

use abi::{RawInvocation, RawSetup, put};
use call::{Calls, Held};
use error::{Full, NoRoom};
use std::ffi::{CStr, CString, c_int};
use std::time::Duration;

/// Levels of [`Invocation::log`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error = 1,
    /// Something is odd.
    Warn = 2,
    /// What a user wants to know.
    Info = 3,
    /// What a developer wants to know.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

/// One invocation: the input, the answer, and what the host offers.
pub struct Invocation<'a> {
    raw: &'a mut RawInvocation,
    held: &'a Held,
}

impl<'a> Invocation<'a> {
    /// The input, in place.
    pub fn input(&self) -> &'a [u8] {
        if self.raw.input_len == 0 {
            return &[];
        }
        // SAFETY: the host promises `input_len` readable bytes for as long as
        // the handler runs, which is `'a`, in memory this context cannot write.
        unsafe { std::slice::from_raw_parts(self.raw.input, self.raw.input_len) }
    }

    /// The input's content type.
    pub fn input_type(&self) -> &'a str {
        // SAFETY: the host promises a NUL-terminated string for `'a`.
        unsafe { CStr::from_ptr(self.raw.input_type) }
            .to_str()
            .unwrap_or("application/octet-stream")
    }

    /// The invocation's identity, as in logs and errors.
    pub fn id(&self) -> &'a str {
        // SAFETY: the host promises a NUL-terminated string for `'a`.
        unsafe { CStr::from_ptr(self.raw.id) }
            .to_str()
            .unwrap_or("")
    }

    /// The time left before the deadline; `None` without one.
    pub fn remaining(&self) -> Option<Duration> {
        if self.raw.deadline == 0 {
            return None;
        }
        // SAFETY: the host promises a table of calls that outlives the handler.
        let now = unsafe { ((*self.raw.calls).now)(self.raw.host) };
        Some(Duration::from_nanos(self.raw.deadline.saturating_sub(now)))
    }

    /// The room that is left for the answer, in place; count what you wrote
    /// with [`commit`](Self::commit).
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let used = self.raw.output_len.min(self.raw.output_capacity);
        let room = self.raw.output_capacity - used;
        if room == 0 {
            return &mut [];
        }
        // SAFETY: the host promises `output_capacity` writable bytes, mapped
        // and initialised, for this handler alone; `&mut self` borrows them.
        unsafe { std::slice::from_raw_parts_mut(self.raw.output.add(used), room) }
    }

    /// Counts `len` bytes of [`spare_mut`](Self::spare_mut) to the answer.
    ///
    /// # Errors
    /// Code 413 for more bytes than there were.
    pub fn commit(&mut self, len: usize) -> Result<()> {
        if len > self.spare_mut().len() {
            return Err(Full(NoRoom).into());
        }
        self.raw.output_len += len;
        Ok(())
    }

    /// Names the answer's content type (the input's, if never called).
    pub fn reply_type(&mut self, content_type: &str) {
        put(&mut self.raw.output_type, content_type);
    }

    /// The input's attributes, names and values: selected headers of the
    /// caller's (`:method`, `:path` and `:query` tell the rest of the request),
    /// a CloudEvent's as `ce-id`, `ce-type`; in a later step of a chain what the
    /// one before set for its answer.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (calls, host) = (self.raw.calls, self.raw.host);
        (0..).map_while(move |i| {
            let mut name = std::ptr::null();
            // SAFETY: the host promises a table of calls that outlives the
            // handler, and NUL-terminated strings for `'a`.
            unsafe {
                let value = ((*calls).attribute)(host, i, &raw mut name);
                if value.is_null() {
                    return None;
                }
                let text = |p| CStr::from_ptr(p).to_str().unwrap_or("");
                Some((text(name), text(value)))
            }
        })
    }

    /// One of the input's [`attributes`](Self::attributes), by its name in
    /// lower case.
    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        self.attributes().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Sets an attribute of the answer; set again it replaces. As the last
    /// step's they are the headers of an HTTP answer; `ce-type`, `ce-source` and
    /// their like make the answer a CloudEvent.
    ///
    /// # Errors
    /// Code 500: the name is not of lower case letters, digits and `-`, the
    /// value has control characters, or all of them exceed 8 KiB.
    pub fn reply_attribute(&mut self, name: &str, value: &str) -> Result<()> {
        let bad = || {
            Error::new(
                500,
                format!("attribute {name:?}: a bad name or value, or no room"),
            )
        };
        let c = |s| CString::new(s).map_err(|_| bad());
        let (n, v) = (c(name)?, c(value)?);
        // SAFETY: the host reads both during the call.
        let code =
            unsafe { ((*self.raw.calls).reply_attribute)(self.raw.host, n.as_ptr(), v.as_ptr()) };
        if code == 0 { Ok(()) } else { Err(bad()) }
    }

    /// Sets the status of an HTTP answer, 200 to 599; 200 if never called.
    ///
    /// # Errors
    /// As [`reply_attribute`](Self::reply_attribute).
    pub fn reply_status(&mut self, status: u16) -> Result<()> {
        self.reply_attribute(":status", &status.to_string())
    }

    /// Ends the request with what this invocation answers, its bytes, content
    /// type, attributes and status, as if this were the last step: those behind it
    /// do not run. The handler goes on, and may write its answer before or
    /// afterwards; if it then fails, the request fails as without this.
    ///
    /// ```
    /// # use lwc_function::testing::TestHost;
    /// # use lwc_function::{Invocation, Result};
    /// # use std::io::Write;
    /// fn authorise(inv: &mut Invocation<'_>) -> Result<()> {
    ///     if inv.attribute("authorization").is_none() {
    ///         inv.reply_status(401)?;
    ///         inv.reply_attribute("www-authenticate", "Bearer")?;
    ///         return inv.end_request();
    ///     }
    ///     Ok(inv.write_all(inv.input())?)
    /// }
    /// let host = TestHost::new().ends_request();
    /// assert!(host.call(authorise, b"").ended);
    /// let host = host.attribute("authorization", "Bearer 7");
    /// assert!(!host.call(authorise, b"").ended);
    /// ```
    ///
    /// # Errors
    /// Code 500: the chain file does not say `ends_request = true` of this
    /// function; or another function called it ([`caller`](Self::caller)), which
    /// decides with its reply.
    pub fn end_request(&mut self) -> Result<()> {
        // SAFETY: the host promises a table of calls that outlives the handler.
        match unsafe { ((*self.raw.calls).end_request)(self.raw.host) } {
            0 => Ok(()),
            _ => Err(Error::new(
                500,
                "this function may not end the request: another one called it, or the chain file does not say `ends_request = true`",
            )),
        }
    }

    /// A secret that the chain file grants, in place.
    pub fn secret(&self, name: &str) -> Option<&'a [u8]> {
        // SAFETY: the host promises both for as long as the handler runs.
        unsafe { secret(self.raw.calls, self.raw.host, name) }
    }

    /// The function that calls this one; `None` when it is a step of the chain,
    /// or a workflow's entry: the request itself calls it.
    pub fn caller(&self) -> Option<&'a str> {
        self.calls().caller()
    }

    /// Calls a function that the chain file grants (`calls`): these bytes are its
    /// input, and its answer is copied. See [`callee`](Self::callee) for calls in
    /// place, with a content type, and with attributes.
    ///
    /// ```
    /// # use lwc_function::testing::{Response, TestHost};
    /// # use lwc_function::{Invocation, Outcome, Result};
    /// # use std::io::Write;
    /// fn price(inv: &mut Invocation<'_>) -> Result<()> {
    ///     // Does without what is not there, and fails as any other call fails.
    ///     let profile = match inv.call("profiles", inv.input()) {
    ///         Ok(reply) => reply.bytes,
    ///         Err(e) if e.code() == 404 => Vec::new(),
    ///         Err(e) => return Err(e.into()),
    ///     };
    ///     let rate = inv.call("rates", &profile)?;
    ///     Ok(inv.write_all(&rate.bytes)?)
    /// }
    /// let host = TestHost::new()
    ///     .callee("profiles", |_| Response::error(404, "no such profile"))
    ///     .callee("rates", |request| Response::new(format!("<{}>", request.bytes.len())));
    /// assert_eq!(host.call(price, b"me").bytes, b"<0>");
    ///
    /// // What the file does not grant is refused.
    /// let unhandled = TestHost::new().call(price, b"me").unhandled.unwrap();
    /// assert_eq!(unhandled.outcome(), Outcome::Refused);
    /// assert_eq!(unhandled.function(), "profiles");
    /// ```
    ///
    /// # Errors
    /// Whatever else came of it than an answer, by its [`Outcome`]; refused also
    /// while there is a [`Callee`] of that name. `?` in a handler makes the
    /// request fail as the call did, with the path to who failed.
    pub fn call(&self, function: &str, args: &[u8]) -> std::result::Result<Reply, CallError> {
        self.calls().call(function, args, None)
    }

    /// A call with values instead of bytes: `format` makes bytes of this content
    /// type of `args`, `parse` a value of the answer's.
    ///
    /// With serde: `inv.call_typed("rates", "application/json", &query,
    /// serde_json::to_vec, |answer| serde_json::from_slice(answer))`.
    ///
    /// ```
    /// # use lwc_function::testing::{Response, TestHost};
    /// # use lwc_function::{Invocation, Result};
    /// # use std::io::Write;
    /// fn format(n: &u32) -> std::io::Result<Vec<u8>> {
    ///     Ok(n.to_string().into())
    /// }
    /// fn parse(bytes: &[u8]) -> std::result::Result<u32, String> {
    ///     String::from_utf8_lossy(bytes).parse().map_err(|e| format!("{e}"))
    /// }
    /// fn next(inv: &mut Invocation<'_>) -> Result<()> {
    ///     let n: u32 = inv.call_typed("count", "text/plain", &7, format, parse)?;
    ///     Ok(write!(inv, "{}", n + 1)?)
    /// }
    /// let host = TestHost::new().callee("count", |request| Response::new(request.bytes));
    /// assert_eq!(host.call(next, b"").bytes, b"8");
    /// ```
    ///
    /// # Errors
    /// As [`call`](Self::call), and what `format` and `parse` say.
    pub fn call_typed<A: ?Sized, O, P: std::fmt::Display, Q: std::fmt::Display>(
        &self,
        function: &str,
        content_type: &str,
        args: &A,
        format: impl FnOnce(&A) -> std::result::Result<Vec<u8>, Q>,
        parse: impl FnOnce(&[u8]) -> std::result::Result<O, P>,
    ) -> std::result::Result<O, TypedCallError> {
        let args = format(args).map_err(|e| TypedCallError::format(function, e))?;
        let reply = self.calls().call(function, &args, Some(content_type))?;
        parse(&reply.bytes).map_err(|e| TypedCallError::parse(function, e))
    }

    /// Calls from any thread, where the chain file grants `threads`: they take turns.
    /// Until it is dropped nothing is called but by this.
    ///
    /// ```
    /// # use lwc_function::{Invocation, Result};
    /// # use std::io::Write;
    /// fn handler(inv: &mut Invocation<'_>) -> Result<()> {
    ///     let input = inv.input();
    ///     let calls = inv.calls_from_threads()?;
    ///     let (near, rates) = std::thread::scope(|s| {
    ///         let near = s.spawn(|| calls.call("nearby", input));
    ///         (near.join().expect("no panic"), calls.call("rates", input))
    ///     });
    ///     inv.write_all(&near?.bytes)?;
    ///     Ok(inv.write_all(&rates?.bytes)?)
    /// }
    /// # let _ = handler;
    /// ```
    ///
    /// # Errors
    /// [`Outcome::Refused`]: a [`Callee`] is there, or the host takes no calls from
    /// threads ([`testing`] does not).
    pub fn calls_from_threads(&mut self) -> std::result::Result<CallsFromThreads<'_>, CallError> {
        self.calls().threads()
    }

    /// Starts a call and goes on; what comes of it is learnt from what this
    /// returns, which can be awaited. Whether calls that are started run side by
    /// side is the host's decision; what comes of them is the same.
    ///
    /// ```
    /// # use lwc_function::testing::{Response, TestHost};
    /// # use lwc_function::{Invocation, Result};
    /// # use std::io::Write;
    /// fn both(inv: &mut Invocation<'_>) -> Result<()> {
    ///     let near = inv.start("nearby", inv.input());
    ///     let rates = inv.start("rates", inv.input());
    ///     let (rates, near) = (rates.finish()?, near.finish()?);
    ///     inv.write_all(near.bytes())?;
    ///     Ok(inv.write_all(rates.bytes())?)
    /// }
    /// let host = TestHost::new()
    ///     .callee("nearby", |_| Response::new("near "))
    ///     .callee("rates", |_| Response::new("cheap"));
    /// assert_eq!(host.call(both, b"here").bytes, b"near cheap");
    /// ```
    pub fn start(&self, function: &str, args: &[u8]) -> Pending<'a> {
        self.calls().start(function, args, None)
    }

    /// A function to call in place: arguments are written where it finds them,
    /// and its answer is read where it wrote it.
    ///
    /// ```
    /// # use lwc_function::testing::{Response, TestHost};
    /// # use lwc_function::{Invocation, Outcome, Result};
    /// # use std::io::Write;
    /// fn quote(inv: &mut Invocation<'_>) -> Result<()> {
    ///     let mut rates = inv.callee("rates")?;
    ///     for room in ["single", "double"] {
    ///         rates.attribute("x-currency", "EUR")?;
    ///         let place = rates.buffer();
    ///         place[..room.len()].copy_from_slice(room.as_bytes());
    ///         let rate = rates.call(room.len())?;
    ///         inv.write_all(rate.bytes())?;
    ///     }
    ///     // No second one at once: it could take away what the first gave.
    ///     assert_eq!(inv.callee("rates").err().unwrap().outcome(), Outcome::Refused);
    ///     Ok(())
    /// }
    /// let host = TestHost::new().callee("rates", |request| {
    ///     assert_eq!(request.attribute("x-currency"), Some("EUR"));
    ///     Response::new(format!("{}: 80;", String::from_utf8_lossy(request.bytes)))
    /// });
    /// assert_eq!(host.call(quote, b"").bytes, b"single: 80;double: 80;");
    /// ```
    ///
    /// # Errors
    /// Refused: the chain file grants no call to it, or there is a [`Callee`] of
    /// that name already.
    pub fn callee(&self, function: &str) -> std::result::Result<Callee<'a>, CallError> {
        self.calls().callee(function)
    }

    fn calls(&self) -> Calls<'a> {
        // SAFETY: the host promises its table of calls, and all that they give
        // out, for as long as the handler runs, which is `'a`.
        unsafe { Calls::new(self.raw.calls, self.raw.host, self.held) }
    }

    /// Writes a line to the log.
    pub fn log(&self, level: Level, text: impl AsRef<str>) {
        let text = text.as_ref();
        // SAFETY: the host copies `len` bytes during the call.
        unsafe {
            ((*self.raw.calls).log)(
                self.raw.host,
                level as c_int,
                text.as_ptr().cast(),
                text.len(),
            );
        }
    }
}

/// Appends to the answer, in place.
impl std::io::Write for Invocation<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let spare = self.spare_mut();
        if bytes.len() > spare.len() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::StorageFull,
                Full(NoRoom),
            ));
        }
        spare[..bytes.len()].copy_from_slice(bytes);
        self.raw.output_len += bytes.len();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What an initialiser sees.
pub struct Setup<'a>(&'a mut RawSetup);

impl<'a> Setup<'a> {
    /// A secret that the chain file grants, in place.
    pub fn secret(&self, name: &str) -> Option<&'a [u8]> {
        // SAFETY: the host promises both for as long as the initialiser runs.
        unsafe { secret(self.0.calls, self.0.host, name) }
    }
}

/// Asks the host for a secret.
///
/// # Safety
/// `calls` and `host` must be the host's, and what it grants must stay for
/// `'a`.
unsafe fn secret<'a>(
    calls: *const abi::HostCalls,
    host: *const abi::Host,
    name: &str,
) -> Option<&'a [u8]> {
    let name = CString::new(name).ok()?;
    let mut len = 0;
    // SAFETY: the caller's promise; `name` and `len` live across the call.
    unsafe {
        let ptr = ((*calls).secret)(host, name.as_ptr(), &raw mut len);
        if ptr.is_null() {
            return None;
        }
        Some(std::slice::from_raw_parts(ptr.cast(), len))
    }
}

/// Exports a function as a handler: `handler!(symbol, path)`. A third argument,
/// `init = path`, exports its initialiser as `symbol_init`: a
/// `fn(&Setup) -> Result<()>` that runs once, before the first invocation and
/// before the sandbox.
// What it defines beside the caller's items has names that nobody else's have: the
// caller's paths are looked up among them.
#[macro_export]
macro_rules! handler {
    ($name:ident, $handler:path) => {
        const _: () = {
            #[unsafe(export_name = stringify!($name))]
            unsafe extern "C" fn __lwc_handler(
                raw: *mut $crate::abi::RawInvocation,
            ) -> ::std::ffi::c_int {
                // SAFETY: the host calls with an invocation of its own, as
                // lwc_function.h has it.
                unsafe { $crate::run(raw, $handler) }
            }
            #[unsafe(export_name = concat!(stringify!($name), "_abi"))]
            static __LWC_ABI: u32 = $crate::abi::ABI;
        };
    };
    ($name:ident, $handler:path, init = $init:path) => {
        $crate::handler!($name, $handler);
        const _: () = {
            #[unsafe(export_name = concat!(stringify!($name), "_init"))]
            unsafe extern "C" fn __lwc_init(raw: *mut $crate::abi::RawSetup) -> ::std::ffi::c_int {
                // SAFETY: the host calls with a setup of its own, once.
                unsafe { $crate::run_setup(raw, $init) }
            }
        };
    };
}

/// The same for a function that takes CloudEvents alone: what is none is refused
/// before it gets here, and the input is the event's data, however it came; the
/// rest of the event is in the attributes `ce-…`.
#[macro_export]
macro_rules! event_handler {
    ($name:ident, $($rest:tt)+) => {
        $crate::handler!($name, $($rest)+);
        const _: () = {
            #[unsafe(export_name = concat!(stringify!($name), "_cloudevent"))]
            static __LWC_MARK: ::std::ffi::c_int = 1;
        };
    };
}

/// Exports a function of one type to another, `fn(In) -> Result<Out>`, or one
/// that also calls others, `fn(&Invocation, In) -> Result<Out>`, as a handler:
/// `typed_handler!(symbol, content_type, parse, function, format)`.
/// `parse` makes an `In` of bytes (an error of its is the caller's fault: 400),
/// `format` bytes of a reference to an `Out`, as in
/// `typed_handler!(greet, "application/json", serde_json::from_slice, greet,
/// serde_json::to_vec)`.
///
/// ```
/// # use lwc_function::{Invocation, Result};
/// # fn parse(bytes: &[u8]) -> std::result::Result<u32, std::num::ParseIntError> {
/// #     String::from_utf8_lossy(bytes).parse()
/// # }
/// # fn format(n: &u32) -> std::io::Result<Vec<u8>> {
/// #     Ok(n.to_string().into())
/// # }
/// fn quote(inv: &Invocation<'_>, nights: u32) -> Result<u32> {
///     let rate = inv.call_typed("rates", "text/plain", &nights, format, parse)?;
///     Ok(nights * rate)
/// }
/// lwc_function::typed_handler!(quote, "text/plain", parse, quote, format);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! typed_handler {
    ($name:ident, $type:expr, $parse:expr, $handler:path, $format:expr) => {
        const _: () = {
            fn __lwc_typed(inv: &mut $crate::Invocation<'_>) -> $crate::Result<()> {
                inv.reply_type($type);
                $crate::run_typed(inv, |bytes| $parse(bytes), $handler, |out| $format(out))
            }
            $crate::handler!($name, __lwc_typed);
        };
    };
}

/// What [`typed_handler!`] takes; `With` tells its two kinds apart.
#[doc(hidden)]
pub trait Typed<'a, I, O, With> {
    fn run(self, inv: &Invocation<'a>, value: I) -> Result<O>;
}

impl<'a, I, O, F: FnOnce(I) -> Result<O>> Typed<'a, I, O, ()> for F {
    fn run(self, _: &Invocation<'a>, value: I) -> Result<O> {
        self(value)
    }
}

impl<'a, I, O, F: FnOnce(&Invocation<'a>, I) -> Result<O>> Typed<'a, I, O, Invocation<'a>> for F {
    fn run(self, inv: &Invocation<'a>, value: I) -> Result<O> {
        self(inv, value)
    }
}

/// Unmarshals, calls, marshals. For [`typed_handler!`].
#[doc(hidden)]
pub fn run_typed<'a, I, O, With, P: std::fmt::Display, Q: std::fmt::Display>(
    inv: &mut Invocation<'a>,
    parse: impl FnOnce(&'a [u8]) -> std::result::Result<I, P>,
    f: impl Typed<'a, I, O, With>,
    format: impl FnOnce(&O) -> std::result::Result<Vec<u8>, Q>,
) -> Result<()> {
    let value = parse(inv.input()).map_err(|e| Error::new(400, format!("the input: {e}")))?;
    let answer = f.run(inv, value)?;
    let bytes = format(&answer).map_err(|e| Error::new(500, format!("the answer: {e}")))?;
    std::io::Write::write_all(inv, &bytes)?;
    Ok(())
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("of an unknown kind");
    format!("panicked: {text}")
}

/// Where a panic was, for the function's log; its message is the error.
fn panic_place(info: &std::panic::PanicHookInfo<'_>) {
    // It must not panic.
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{info}\n"));
}

/// A line that `print!` has begun belongs to the invocation that began it.
fn flush() {
    let _ = std::io::Write::flush(&mut std::io::stdout());
}

/// Runs a handler; a panic becomes its error. For [`handler!`].
///
/// # Safety
/// `raw` must point at an invocation of this ABI that nobody else uses.
#[doc(hidden)]
pub unsafe fn run(raw: *mut RawInvocation, f: fn(&mut Invocation<'_>) -> Result<()>) -> c_int {
    // SAFETY: the caller's promise.
    let raw = unsafe { &mut *raw };
    std::panic::set_hook(Box::new(panic_place));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let held = &Held::default();
        f(&mut Invocation { raw, held })
    }));
    flush();
    let error = match done {
        Ok(Ok(())) => return 0,
        Ok(Err(e)) => e,
        Err(payload) => Error::new(500, panic_text(&*payload)),
    };
    put(&mut raw.error, &error.message);
    raw.status = error.code;
    error.code
}

/// Runs an initialiser. For [`handler!`].
///
/// # Safety
/// `raw` must point at a setup of this ABI that nobody else uses.
#[doc(hidden)]
pub unsafe fn run_setup(raw: *mut RawSetup, f: fn(&Setup<'_>) -> Result<()>) -> c_int {
    // SAFETY: the caller's promise.
    let raw = unsafe { &mut *raw };
    std::panic::set_hook(Box::new(panic_place));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(&Setup(&mut *raw))));
    flush();
    let error = match done {
        Ok(Ok(())) => return 0,
        Ok(Err(e)) => e,
        Err(payload) => Error::new(500, panic_text(&*payload)),
    };
    put(&mut raw.error, &error.message);
    raw.status = error.code;
    error.code
}
