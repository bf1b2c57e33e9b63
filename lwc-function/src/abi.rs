//! The function ABI as Rust sees it; `include/lwc_function.h` is its source.
//!
//! For hosts, such as the orchestrator. Functions use the crate's top level.

use std::ffi::{c_char, c_int, c_void};

/// Version of the structures: 2 added attributes, 3 calls to other functions.
/// A handler's library exports it as `NAME_abi`; a host refuses another version.
pub const ABI: u32 = 3;

/// What a handler returns, or leaves in [`RawInvocation::status`], when a call
/// failed and it does nothing about it: the request fails as that call did.
///
/// That call is the last of whose failure it was told; or if
/// [`RawInvocation::error`] is the name of a function, the last to that one. When
/// none failed, it is an error with code 500.
pub const UNHANDLED: i32 = -1;

/// The host's own state, passed back to its calls.
#[repr(C)]
pub struct Host {
    _opaque: [u8; 0],
}

/// What came of a call to another function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum Outcome {
    /// It answered.
    Answered = 0,
    /// An error of its own, with a code.
    Reported = 1,
    /// It crashed.
    Crashed = 2,
    /// It took longer than it may.
    TimedOut = 3,
    /// The request's deadline passed, before or while it ran.
    DeadlinePassed = 4,
    /// The call is not granted, or there is no such ticket.
    Refused = 5,
    /// The arguments or the reply do not fit their region.
    TooBig = 6,
    /// Too many calls were started in this invocation and not finished.
    TooMany = 7,
    /// It cannot be reached now.
    Unavailable = 8,
}

impl Outcome {
    /// The outcome of a [`RawReply`]; numbers that have no meaning yet are
    /// [`Unavailable`](Self::Unavailable).
    pub fn from_raw(outcome: i32) -> Self {
        match outcome {
            0 => Self::Answered,
            1 => Self::Reported,
            2 => Self::Crashed,
            3 => Self::TimedOut,
            4 => Self::DeadlinePassed,
            5 => Self::Refused,
            6 => Self::TooBig,
            7 => Self::TooMany,
            _ => Self::Unavailable,
        }
    }
}

/// As the rest of a sentence that begins with a function's name.
impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Answered => "answered",
            Self::Reported => "reported an error",
            Self::Crashed => "crashed",
            Self::TimedOut => "timed out",
            Self::DeadlinePassed => "was not done by the deadline",
            Self::Refused => "may not be called",
            Self::TooBig => "was sent or sent too much",
            Self::TooMany => "was one call too many",
            Self::Unavailable => "cannot be reached",
        })
    }
}

/// What a call brought.
///
/// All that it points to stays as it is until the next call to the same function
/// (to start one is a call, to finish one is not) or the end of the invocation;
/// of a call that was started and finished, until the end of the invocation.
/// Whoever wrote it cannot write to it any more: that is the host's promise.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct RawReply {
    /// An [`Outcome`].
    pub outcome: i32,
    /// Of [`Outcome::Reported`]: its code, above 0; else 0.
    pub code: i32,
    /// Who failed: the callee, or one below it. NUL-terminated.
    pub function: *const c_char,
    /// What went wrong; NUL-terminated, empty if nothing did.
    pub message: *const c_char,
    /// The reply, also beside an error of its own.
    pub data: *const u8,
    /// Its bytes.
    pub len: usize,
    /// Its content type, NUL-terminated.
    pub content_type: *const c_char,
    /// For [`HostCalls::attribute_of_reply`].
    pub attributes: *const c_void,
    /// Zero.
    pub reserved: [u64; 2],
}

impl RawReply {
    /// A reply without bytes, texts and attributes.
    pub const fn new(outcome: Outcome) -> Self {
        Self {
            outcome: outcome as i32,
            code: 0,
            function: c"".as_ptr(),
            message: c"".as_ptr(),
            data: std::ptr::null(),
            len: 0,
            content_type: c"".as_ptr(),
            attributes: std::ptr::null(),
            reserved: [0; 2],
        }
    }
}

/// Of [`HostCalls::features`]: any thread of the function's makes calls, and they take
/// turns (`LWC_HOST_THREADS`).
pub const FEATURE_THREADS: u32 = 1;

/// What the host does for a function.
#[repr(C)]
pub struct HostCalls {
    /// [`ABI`].
    pub abi: u32,
    /// [`FEATURE_THREADS`], or zero.
    pub features: u32,
    /// The bytes of a secret and their number, or null.
    pub secret: unsafe extern "C" fn(
        host: *const Host,
        name: *const c_char,
        len: *mut usize,
    ) -> *const c_void,
    /// A line for the log: level 1 (error) to 5 (trace).
    pub log: unsafe extern "C" fn(host: *const Host, level: c_int, text: *const c_char, len: usize),
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub now: unsafe extern "C" fn(host: *const Host) -> u64,
    /// The value of the index-th attribute of the input, and its name; null
    /// past the last.
    pub attribute: unsafe extern "C" fn(
        host: *const Host,
        index: usize,
        name: *mut *const c_char,
    ) -> *const c_char,
    /// Sets an attribute of the answer: 0 or an errno.
    pub reply_attribute:
        unsafe extern "C" fn(host: *const Host, name: *const c_char, value: *const c_char) -> c_int,
    /// Where arguments for the next call to a function can be written, and how
    /// many bytes: the same place until that call. Null, as all calls below are
    /// refused, if it is not granted, and in an initialiser.
    pub call_buffer: unsafe extern "C" fn(
        host: *const Host,
        function: *const c_char,
        capacity: *mut usize,
    ) -> *mut u8,
    /// Sets an attribute of the next call to a function: 0, or `EINVAL`,
    /// `ENOSPC`, `EACCES`.
    pub call_attribute: unsafe extern "C" fn(
        host: *const Host,
        function: *const c_char,
        name: *const c_char,
        value: *const c_char,
    ) -> c_int,
    /// Calls a function and fills the reply, all of it. Of data that begins where
    /// `call_buffer` said nothing is copied; from elsewhere it is copied to
    /// there. It is not read if the call is refused or more than the region has.
    /// Without a content type that is null.
    pub call: unsafe extern "C" fn(
        host: *const Host,
        function: *const c_char,
        data: *const c_void,
        len: usize,
        content_type: *const c_char,
        reply: *mut RawReply,
    ),
    /// The same, but it may run at any time up to `call_finish`. A ticket, also
    /// for a call that fails; 0 is never one.
    pub call_start: unsafe extern "C" fn(
        host: *const Host,
        function: *const c_char,
        data: *const c_void,
        len: usize,
        content_type: *const c_char,
    ) -> u64,
    /// Waits for a started call, once a ticket: a second time, and for what is
    /// none, it is refused.
    pub call_finish: unsafe extern "C" fn(host: *const Host, ticket: u64, reply: *mut RawReply),
    /// The value of the index-th attribute of a reply, and its name; null past
    /// the last.
    pub attribute_of_reply: unsafe extern "C" fn(
        host: *const Host,
        reply: *const RawReply,
        index: usize,
        name: *mut *const c_char,
    ) -> *const c_char,
    /// The function that called this one, NUL-terminated; null if none did.
    pub caller: unsafe extern "C" fn(host: *const Host) -> *const c_char,
    /// The answer of this invocation is that of the request: no step behind it
    /// runs. 0, or `EACCES`: it is not granted, or another function called this
    /// one; always in an initialiser.
    pub end_request: unsafe extern "C" fn(host: *const Host) -> c_int,
}

/// One invocation.
#[repr(C)]
pub struct RawInvocation {
    /// [`ABI`].
    pub abi: u32,
    /// 0, the error code, or [`UNHANDLED`].
    pub status: i32,
    /// Passed to every host call.
    pub host: *const Host,
    /// The host's calls.
    pub calls: *const HostCalls,
    /// The input, in read-only memory.
    pub input: *const u8,
    /// Its bytes.
    pub input_len: usize,
    /// Its content type, NUL-terminated.
    pub input_type: *const c_char,
    /// Where the answer goes.
    pub output: *mut u8,
    /// Bytes that fit there.
    pub output_capacity: usize,
    /// Bytes that are there.
    pub output_len: usize,
    /// The invocation's identity, NUL-terminated.
    pub id: *const c_char,
    /// Nanoseconds of CLOCK_MONOTONIC; 0: none.
    pub deadline: u64,
    /// The answer's content type, NUL-terminated.
    pub output_type: [c_char; 128],
    /// The error message, NUL-terminated.
    pub error: [c_char; 256],
}

impl RawInvocation {
    /// An invocation by a host that offers nothing, without a content type, an
    /// identity and a deadline. The caller keeps both buffers for as long as a
    /// handler uses it.
    pub fn new(input: &[u8], output: &mut [u8]) -> Self {
        Self {
            abi: ABI,
            status: 0,
            host: std::ptr::null(),
            calls: &raw const NOTHING_CALLS,
            input: input.as_ptr(),
            input_len: input.len(),
            input_type: c"".as_ptr(),
            output: output.as_mut_ptr(),
            output_capacity: output.len(),
            output_len: 0,
            id: c"".as_ptr(),
            deadline: 0,
            output_type: [0; 128],
            error: [0; 256],
        }
    }
}

static NOTHING_CALLS: HostCalls = NOTHING;

/// The calls of a host that offers nothing.
pub(crate) const NOTHING: HostCalls = {
    unsafe extern "C" fn secret(_: *const Host, _: *const c_char, _: *mut usize) -> *const c_void {
        std::ptr::null()
    }
    unsafe extern "C" fn log(_: *const Host, _: c_int, _: *const c_char, _: usize) {}
    unsafe extern "C" fn now(_: *const Host) -> u64 {
        0
    }
    unsafe extern "C" fn attribute(
        _: *const Host,
        _: usize,
        _: *mut *const c_char,
    ) -> *const c_char {
        std::ptr::null()
    }
    unsafe extern "C" fn reply_attribute(
        _: *const Host,
        _: *const c_char,
        _: *const c_char,
    ) -> c_int {
        // ENOSPC.
        28
    }
    unsafe extern "C" fn call_buffer(
        _: *const Host,
        _: *const c_char,
        capacity: *mut usize,
    ) -> *mut u8 {
        // SAFETY: a function passes a place for the capacity.
        unsafe { *capacity = 0 };
        std::ptr::null_mut()
    }
    unsafe extern "C" fn call_attribute(
        _: *const Host,
        _: *const c_char,
        _: *const c_char,
        _: *const c_char,
    ) -> c_int {
        // EACCES.
        13
    }
    unsafe extern "C" fn call(
        _: *const Host,
        _: *const c_char,
        _: *const c_void,
        _: usize,
        _: *const c_char,
        reply: *mut RawReply,
    ) {
        // SAFETY: a function passes a place for the reply.
        unsafe { reply.write(RawReply::new(Outcome::Refused)) };
    }
    unsafe extern "C" fn call_start(
        _: *const Host,
        _: *const c_char,
        _: *const c_void,
        _: usize,
        _: *const c_char,
    ) -> u64 {
        1
    }
    unsafe extern "C" fn call_finish(_: *const Host, _: u64, reply: *mut RawReply) {
        // SAFETY: as in `call`.
        unsafe { reply.write(RawReply::new(Outcome::Refused)) };
    }
    unsafe extern "C" fn attribute_of_reply(
        _: *const Host,
        _: *const RawReply,
        _: usize,
        _: *mut *const c_char,
    ) -> *const c_char {
        std::ptr::null()
    }
    unsafe extern "C" fn caller(_: *const Host) -> *const c_char {
        std::ptr::null()
    }
    unsafe extern "C" fn end_request(_: *const Host) -> c_int {
        // EACCES.
        13
    }
    HostCalls {
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
    }
};

/// The one call of an initialiser.
#[repr(C)]
pub struct RawSetup {
    /// [`ABI`].
    pub abi: u32,
    /// 0, or the error code.
    pub status: i32,
    /// Passed to every host call.
    pub host: *const Host,
    /// The host's calls.
    pub calls: *const HostCalls,
    /// The error message, NUL-terminated.
    pub error: [c_char; 256],
}

/// A handler symbol.
pub type Handler = unsafe extern "C" fn(*mut RawInvocation) -> c_int;
/// An initialiser symbol, `NAME_init`.
pub type Initialiser = unsafe extern "C" fn(*mut RawSetup) -> c_int;

/// Copies text into a NUL-terminated field, cut at a character if too long.
pub(crate) fn put(field: &mut [c_char], text: &str) {
    let mut end = text.len().min(field.len() - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for (to, from) in field.iter_mut().zip(&text.as_bytes()[..end]) {
        // A NUL inside would cut the text for the reader.
        *to = if *from == 0 { b' ' } else { *from } as c_char;
    }
    field[end] = 0;
}
