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
//! Build it as a `cdylib` and name the crate in a chain file. The output is
//! the next function's input: nothing is copied between the two. A function
//! runs in a sandbox without descriptors: it may compute, allocate up to its
//! limit, and use what this crate offers.

pub mod abi;
pub mod sources;
pub mod testing;

use abi::{RawInvocation, RawSetup, put};
use std::ffi::{CStr, CString, c_int};
use std::time::Duration;

/// What a handler returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An error for the caller of the chain: a code and a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    code: i32,
    message: String,
}

impl Error {
    /// An error with a code above 0 (others become 1) and a message, of which
    /// the first 255 bytes travel.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code: code.max(1),
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

/// Any error may leave a handler with `?`: code 500, its text, and 413 for an
/// answer that outgrows its region, also where a library that was writing it
/// names that as the source of its own error.
impl<E: std::error::Error> From<E> for Error {
    fn from(e: E) -> Self {
        let code = if is_full(&e) { 413 } else { 500 };
        Self::new(code, e.to_string())
    }
}

/// Whether an error, or one that it comes from, is a [`Full`].
fn is_full(e: &dyn std::error::Error) -> bool {
    let mut sources = std::iter::successors(e.source(), |e| e.source());
    sources.any(|e| e.is::<NoRoom>())
}

/// The answer does not fit its region.
#[derive(Debug, Clone, Copy)]
struct Full(NoRoom);

/// The source of a [`Full`], which is how one is known: an error that wraps it
/// need not be `'static`, so it cannot be asked what it is itself, and
/// `std::io::Error` names the source of what it wraps as its own.
#[derive(Debug, Clone, Copy)]
struct NoRoom;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer does not fit its region")
    }
}

impl std::error::Error for Full {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl std::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("raise `region` in the chain file, or answer with less")
    }
}

impl std::error::Error for NoRoom {}

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
pub struct Invocation<'a>(&'a mut RawInvocation);

impl<'a> Invocation<'a> {
    /// The input, in place.
    pub fn input(&self) -> &'a [u8] {
        if self.0.input_len == 0 {
            return &[];
        }
        // SAFETY: the host promises `input_len` readable bytes for as long as
        // the handler runs, which is `'a`, in memory this context cannot write.
        unsafe { std::slice::from_raw_parts(self.0.input, self.0.input_len) }
    }

    /// The input's content type.
    pub fn input_type(&self) -> &'a str {
        // SAFETY: the host promises a NUL-terminated string for `'a`.
        unsafe { CStr::from_ptr(self.0.input_type) }
            .to_str()
            .unwrap_or("application/octet-stream")
    }

    /// The invocation's identity, as in logs and errors.
    pub fn id(&self) -> &'a str {
        // SAFETY: the host promises a NUL-terminated string for `'a`.
        unsafe { CStr::from_ptr(self.0.id) }.to_str().unwrap_or("")
    }

    /// The time left before the deadline; `None` without one.
    pub fn remaining(&self) -> Option<Duration> {
        if self.0.deadline == 0 {
            return None;
        }
        // SAFETY: the host promises a table of calls that outlives the handler.
        let now = unsafe { ((*self.0.calls).now)(self.0.host) };
        Some(Duration::from_nanos(self.0.deadline.saturating_sub(now)))
    }

    /// The room that is left for the answer, in place; count what you wrote
    /// with [`commit`](Self::commit).
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let used = self.0.output_len.min(self.0.output_capacity);
        let room = self.0.output_capacity - used;
        if room == 0 {
            return &mut [];
        }
        // SAFETY: the host promises `output_capacity` writable bytes, mapped
        // and initialised, for this handler alone; `&mut self` borrows them.
        unsafe { std::slice::from_raw_parts_mut(self.0.output.add(used), room) }
    }

    /// Counts `len` bytes of [`spare_mut`](Self::spare_mut) to the answer.
    ///
    /// # Errors
    /// Code 413 for more bytes than there were.
    pub fn commit(&mut self, len: usize) -> Result<()> {
        if len > self.spare_mut().len() {
            return Err(Full(NoRoom).into());
        }
        self.0.output_len += len;
        Ok(())
    }

    /// Names the answer's content type (the input's, if never called).
    pub fn reply_type(&mut self, content_type: &str) {
        put(&mut self.0.output_type, content_type);
    }

    /// The input's attributes, names and values: selected headers of the
    /// caller's (`:method`, `:path` and `:query` tell the rest of the request),
    /// a CloudEvent's as `ce-id`, `ce-type`; in a later step of a chain what the
    /// one before set for its answer.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (calls, host) = (self.0.calls, self.0.host);
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
            unsafe { ((*self.0.calls).reply_attribute)(self.0.host, n.as_ptr(), v.as_ptr()) };
        if code == 0 { Ok(()) } else { Err(bad()) }
    }

    /// Sets the status of an HTTP answer, 200 to 599; 200 if never called.
    ///
    /// # Errors
    /// As [`reply_attribute`](Self::reply_attribute).
    pub fn reply_status(&mut self, status: u16) -> Result<()> {
        self.reply_attribute(":status", &status.to_string())
    }

    /// A secret that the chain file grants, in place.
    pub fn secret(&self, name: &str) -> Option<&'a [u8]> {
        // SAFETY: the host promises both for as long as the handler runs.
        unsafe { secret(self.0.calls, self.0.host, name) }
    }

    /// Writes a line to the log.
    pub fn log(&self, level: Level, text: impl AsRef<str>) {
        let text = text.as_ref();
        // SAFETY: the host copies `len` bytes during the call.
        unsafe {
            ((*self.0.calls).log)(
                self.0.host,
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
        self.0.output_len += bytes.len();
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
#[macro_export]
macro_rules! handler {
    ($name:ident, $handler:path) => {
        const _: () = {
            #[unsafe(export_name = stringify!($name))]
            unsafe extern "C" fn handler(
                raw: *mut $crate::abi::RawInvocation,
            ) -> ::std::ffi::c_int {
                // SAFETY: the host calls with an invocation of its own, as
                // lwc_function.h has it.
                unsafe { $crate::run(raw, $handler) }
            }
            #[unsafe(export_name = concat!(stringify!($name), "_abi"))]
            static ABI: u32 = $crate::abi::ABI;
        };
    };
    ($name:ident, $handler:path, init = $init:path) => {
        $crate::handler!($name, $handler);
        const _: () = {
            #[unsafe(export_name = concat!(stringify!($name), "_init"))]
            unsafe extern "C" fn init(raw: *mut $crate::abi::RawSetup) -> ::std::ffi::c_int {
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
            static MARK: ::std::ffi::c_int = 1;
        };
    };
}

/// Exports a function of one type to another, `fn(In) -> Result<Out>`, as a
/// handler: `typed_handler!(symbol, content_type, parse, function, format)`.
/// `parse` makes an `In` of bytes (an error of its is the caller's fault: 400),
/// `format` bytes of a reference to an `Out`, as in
/// `typed_handler!(greet, "application/json", serde_json::from_slice, greet,
/// serde_json::to_vec)`.
#[macro_export]
macro_rules! typed_handler {
    ($name:ident, $type:expr, $parse:expr, $handler:path, $format:expr) => {
        const _: () = {
            fn typed(inv: &mut $crate::Invocation<'_>) -> $crate::Result<()> {
                inv.reply_type($type);
                $crate::run_typed(inv, |bytes| $parse(bytes), $handler, |out| $format(out))
            }
            $crate::handler!($name, typed);
        };
    };
}

/// Unmarshals, calls, marshals. For [`typed_handler!`].
#[doc(hidden)]
pub fn run_typed<'a, I, O, P: std::fmt::Display, Q: std::fmt::Display>(
    inv: &mut Invocation<'a>,
    parse: impl FnOnce(&'a [u8]) -> std::result::Result<I, P>,
    f: impl FnOnce(I) -> Result<O>,
    format: impl FnOnce(&O) -> std::result::Result<Vec<u8>, Q>,
) -> Result<()> {
    let value = parse(inv.input()).map_err(|e| Error::new(400, format!("the input: {e}")))?;
    let answer = f(value)?;
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

/// Runs a handler; a panic becomes its error. For [`handler!`].
///
/// # Safety
/// `raw` must point at an invocation of this ABI that nobody else uses.
#[doc(hidden)]
pub unsafe fn run(raw: *mut RawInvocation, f: fn(&mut Invocation<'_>) -> Result<()>) -> c_int {
    // SAFETY: the caller's promise.
    let raw = unsafe { &mut *raw };
    // The host has no stderr for a backtrace; the message is the error.
    std::panic::set_hook(Box::new(|_| {}));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(&mut Invocation(raw))));
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
    std::panic::set_hook(Box::new(|_| {}));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(&Setup(&mut *raw))));
    let error = match done {
        Ok(Ok(())) => return 0,
        Ok(Err(e)) => e,
        Err(payload) => Error::new(500, panic_text(&*payload)),
    };
    put(&mut raw.error, &error.message);
    raw.status = error.code;
    error.code
}
