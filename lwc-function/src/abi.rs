//! The function ABI as Rust sees it; `include/lwc_function.h` is its source.
//!
//! For hosts, such as the orchestrator. Functions use the crate's top level.

use std::ffi::{c_char, c_int, c_void};

/// Version of the structures. 2 added attributes at the end of [`HostCalls`]:
/// a function of version 1 runs unchanged.
pub const ABI: u32 = 2;

/// The host's own state, passed back to its calls.
#[repr(C)]
pub struct Host {
    _opaque: [u8; 0],
}

/// What the host does for a function.
#[repr(C)]
pub struct HostCalls {
    /// [`ABI`].
    pub abi: u32,
    /// Zero.
    pub reserved: u32,
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
}

/// One invocation.
#[repr(C)]
pub struct RawInvocation {
    /// [`ABI`].
    pub abi: u32,
    /// 0, or the error code.
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
            calls: &raw const NOTHING,
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

/// The calls of a host that offers nothing.
static NOTHING: HostCalls = {
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
    HostCalls {
        abi: ABI,
        reserved: 0,
        secret,
        log,
        now,
        attribute,
        reply_attribute,
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
