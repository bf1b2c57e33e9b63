//! The host's calls, as a function's context offers them to its function.

use super::attributes;
use super::control::Control;
use super::message_header::MessageHeader;
use super::snapshot::Parts;
use lwc::Secret;
use lwc_function::abi::{ABI, Host, HostCalls};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};

/// What the calls work on; a function gets a pointer to it, opaque.
pub(super) struct HostState<'a> {
    pub(super) secrets: Vec<(&'a str, &'a Secret)>,
    control: &'a Control,
    reply: MessageHeader<'a>,
    /// The attributes of the input, which outlive the handler.
    pub(super) attributes: Cell<*const [u8]>,
}

impl<'a> HostState<'a> {
    pub(super) fn new(parts: &Parts<'a>) -> Self {
        Self {
            secrets: parts.secrets.clone(),
            control: parts.control,
            reply: parts.reply,
            attributes: Cell::new(&[]),
        }
    }

    pub(super) fn as_host(&self) -> *const Host {
        std::ptr::from_ref(self).cast()
    }
}

/// Everything here runs on behalf of the function, in its own context: what a
/// hostile one passes can hurt itself alone.
pub(super) static CALLS: HostCalls = HostCalls {
    abi: ABI,
    reserved: 0,
    secret,
    log,
    now,
    attribute,
    reply_attribute,
};

unsafe extern "C" fn secret(
    host: *const Host,
    name: *const c_char,
    len: *mut usize,
) -> *const c_void {
    // SAFETY: `host` is what `as_host` gave; the name and the place for the
    // length are the function's promise, in its own context.
    unsafe {
        let state = &*host.cast::<HostState<'_>>();
        let name = CStr::from_ptr(name).to_bytes();
        match state.secrets.iter().find(|(n, _)| n.as_bytes() == name) {
            Some((_, secret)) => {
                *len = secret.len();
                secret.as_ptr().cast()
            }
            None => std::ptr::null(),
        }
    }
}

unsafe extern "C" fn log(host: *const Host, level: c_int, text: *const c_char, len: usize) {
    // SAFETY: as above.
    unsafe {
        let state = &*host.cast::<HostState<'_>>();
        let text = std::slice::from_raw_parts(text.cast::<u8>(), len);
        state.control.put_log(level.clamp(1, 5) as u8, text);
    }
}

unsafe extern "C" fn now(_: *const Host) -> u64 {
    lwc::MonotonicTime::now().nanos()
}

unsafe extern "C" fn attribute(
    host: *const Host,
    index: usize,
    name: *mut *const c_char,
) -> *const c_char {
    // SAFETY: `host` is what `as_host` gave, and the attributes outlive the
    // handler; the place for the name is the function's promise.
    unsafe {
        let state = &*host.cast::<HostState<'_>>();
        match attributes::records(&*state.attributes.get()).nth(index) {
            // Both end in a NUL that is part of their record.
            Some(Some((n, value))) => {
                *name = n.as_ptr().cast();
                value.as_ptr().cast()
            }
            _ => std::ptr::null(),
        }
    }
}

unsafe extern "C" fn reply_attribute(
    host: *const Host,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    // SAFETY: as above; both texts are the function's promise.
    unsafe {
        let state = &*host.cast::<HostState<'_>>();
        let (name, value) = (CStr::from_ptr(name), CStr::from_ptr(value));
        let (name, value) = (name.to_bytes(), value.to_bytes());
        if attributes::check(name, value).is_err() {
            return libc::EINVAL;
        }
        if state.reply.put_attribute(name, value) {
            0
        } else {
            libc::ENOSPC
        }
    }
}
