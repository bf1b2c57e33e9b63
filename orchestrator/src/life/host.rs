//! The host's calls, as a function's context offers them to its function.

use super::attributes;
use super::callees::Callees;
use super::parts::{Entrance, Parts};
use super::turns;
use lwc::{Handle, Secret};
use lwc_function::abi::{ABI, FEATURE_THREADS, Host, HostCalls, RawReply};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};

/// What the calls work on; a function gets a pointer to it, opaque.
pub(super) struct HostState<'a> {
    pub(super) secrets: Vec<(&'a str, &'a Secret)>,
    parts: &'a Parts<'a>,
    /// The way in of the invocation that runs, or ran last, by its number.
    entrance: Cell<usize>,
    /// The attributes of the input, which outlive the handler.
    pub(super) attributes: Cell<*const [u8]>,
    callees: Callees<'a>,
    /// While a handler runs, whether it has ended the request.
    ends: Cell<Option<bool>>,
}

impl<'a> HostState<'a> {
    pub(super) fn new(root: Handle, parts: &'a Parts<'a>) -> Self {
        Self {
            secrets: parts.secrets.clone(),
            parts,
            entrance: Cell::new(0),
            attributes: Cell::new(&[]),
            callees: Callees::new(root, parts),
            ends: Cell::new(None),
        }
    }

    pub(super) fn as_host(&self) -> *const Host {
        std::ptr::from_ref(self).cast()
    }

    /// A handler runs from now on, which may call others; by which way in.
    #[inline]
    pub(super) fn begin(&self, way: usize) {
        self.entrance.set(way);
        self.ends.set(Some(false));
        self.callees.open();
    }

    /// Whether the last call that failed was one that never left this context: a
    /// code and a text for it. Not if the function names another one's.
    pub(super) fn refused(&self, named: &[u8]) -> Option<(i32, String)> {
        self.callees.refused(named)
    }

    /// For an audit: see [`Callees::made`].
    pub(super) fn calls_made(&self, from: u64) -> u64 {
        self.callees.made(from)
    }

    fn entrance(&self) -> &Entrance<'a> {
        &self.parts.entrances[self.entrance.get()]
    }

    /// It has returned: replies are kept no longer. Whether it has ended the request.
    #[inline]
    pub(super) fn finish(&self) -> bool {
        let _turn = turns::ASKING.take();
        self.callees.close();
        self.ends.take() == Some(true)
    }

    /// Its answer is to be that of the request. Whether it may be: the root, which
    /// grants it, asks again.
    fn end_request(&self) -> bool {
        let may = self.parts.ends_request
            && self.ends.get().is_some()
            && self.entrance().caller.is_none();
        if may {
            self.ends.set(Some(true));
        }
        may
    }
}

/// Everything here runs on behalf of the function, in its own context: what a
/// hostile one passes can hurt itself alone.
pub(super) static CALLS: HostCalls = HostCalls {
    abi: ABI,
    features: FEATURE_THREADS,
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

/// # Safety
/// `host` must be what [`HostState::as_host`] gave, of a state that is there.
unsafe fn state<'a>(host: *const Host) -> &'a HostState<'a> {
    // SAFETY: the caller's promise.
    unsafe { &*host.cast::<HostState<'a>>() }
}

unsafe extern "C" fn secret(
    host: *const Host,
    name: *const c_char,
    len: *mut usize,
) -> *const c_void {
    // SAFETY: `host` is what `as_host` gave; the name and the place for the
    // length are the function's promise, in its own context.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes();
        let secrets = &state(host).secrets;
        match secrets.iter().find(|(n, _)| n.as_bytes() == name) {
            Some((_, secret)) => {
                *len = secret.len();
                secret.as_ptr().cast()
            }
            None => std::ptr::null(),
        }
    }
}

unsafe extern "C" fn log(host: *const Host, level: c_int, text: *const c_char, len: usize) {
    let _turn = turns::LOG.take();
    // SAFETY: as above.
    unsafe {
        let text = std::slice::from_raw_parts(text.cast::<u8>(), len);
        state(host)
            .parts
            .control
            .put_log(level.clamp(1, 5) as u8, text);
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
    unsafe { nth(&*state(host).attributes.get(), index, name) }
}

/// The value and the name of a record; null past the last.
///
/// # Safety
/// A name can be written to `name`.
unsafe fn nth(all: &[u8], index: usize, name: *mut *const c_char) -> *const c_char {
    match attributes::records(all).nth(index) {
        // Both end in a NUL that is part of their record.
        Some(Some((n, value))) => {
            // SAFETY: the caller's promise.
            unsafe { *name = n.as_ptr().cast() };
            value.as_ptr().cast()
        }
        _ => std::ptr::null(),
    }
}

unsafe extern "C" fn reply_attribute(
    host: *const Host,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    let _turn = turns::ASKING.take();
    // SAFETY: as above; both texts are the function's promise.
    unsafe {
        let (name, value) = (CStr::from_ptr(name), CStr::from_ptr(value));
        let (name, value) = (name.to_bytes(), value.to_bytes());
        if attributes::check(name, value).is_err() {
            return libc::EINVAL;
        }
        if state(host).entrance().reply.put_attribute(name, value) {
            0
        } else {
            libc::ENOSPC
        }
    }
}

unsafe extern "C" fn call_buffer(
    host: *const Host,
    function: *const c_char,
    capacity: *mut usize,
) -> *mut u8 {
    // SAFETY: `host` is what `as_host` gave; the name and the place for the
    // capacity are the function's promise, in its own context.
    unsafe {
        match state(host).callees.buffer(CStr::from_ptr(function)) {
            Some((place, room)) => {
                *capacity = room;
                place
            }
            None => std::ptr::null_mut(),
        }
    }
}

unsafe extern "C" fn call_attribute(
    host: *const Host,
    function: *const c_char,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    let _turn = turns::ASKING.take();
    // SAFETY: as above; all texts are the function's promise.
    unsafe {
        let (name, value) = (CStr::from_ptr(name), CStr::from_ptr(value));
        let callees = &state(host).callees;
        callees.attribute(CStr::from_ptr(function), name.to_bytes(), value.to_bytes())
    }
}

unsafe extern "C" fn call(
    host: *const Host,
    function: *const c_char,
    data: *const c_void,
    len: usize,
    kind: *const c_char,
    reply: *mut RawReply,
) {
    let _turn = turns::ASKING.take();
    // SAFETY: as above; `len` bytes of data, the type if there is one, and the
    // place for the reply are the function's promise.
    unsafe {
        let (function, kind) = (CStr::from_ptr(function), text(kind));
        *reply = state(host).callees.call(function, data.cast(), len, kind);
    }
}

unsafe extern "C" fn call_start(
    host: *const Host,
    function: *const c_char,
    data: *const c_void,
    len: usize,
    kind: *const c_char,
) -> u64 {
    let _turn = turns::ASKING.take();
    // SAFETY: as of `call`.
    unsafe {
        let (function, kind) = (CStr::from_ptr(function), text(kind));
        state(host).callees.start(function, data.cast(), len, kind)
    }
}

unsafe extern "C" fn call_finish(host: *const Host, ticket: u64, reply: *mut RawReply) {
    let _turn = turns::ASKING.take();
    // SAFETY: `host` is what `as_host` gave; the place for the reply is the
    // function's promise.
    unsafe { *reply = state(host).callees.finish(ticket) };
}

unsafe extern "C" fn attribute_of_reply(
    host: *const Host,
    reply: *const RawReply,
    index: usize,
    name: *mut *const c_char,
) -> *const c_char {
    // SAFETY: `host` is what `as_host` gave; a reply that `call` or `finish` gave
    // and that still holds is the function's promise, and so is the place.
    unsafe {
        match state(host).callees.attributes_of(&*reply) {
            Some(all) => nth(all, index, name),
            None => std::ptr::null(),
        }
    }
}

unsafe extern "C" fn caller(host: *const Host) -> *const c_char {
    // SAFETY: `host` is what `as_host` gave.
    let entrance = unsafe { state(host) }.entrance();
    entrance.caller.map_or(std::ptr::null(), CStr::as_ptr)
}

unsafe extern "C" fn end_request(host: *const Host) -> c_int {
    let _turn = turns::ASKING.take();
    // SAFETY: `host` is what `as_host` gave.
    if unsafe { state(host) }.end_request() {
        0
    } else {
        libc::EACCES
    }
}

/// A text that need not be there.
///
/// # Safety
/// Null, or a text that ends in a NUL and stays for `'a`.
unsafe fn text<'a>(at: *const c_char) -> &'a [u8] {
    if at.is_null() {
        return b"";
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(at) }.to_bytes()
}
