//! A function's side of its calls: how arguments leave its context, and how a
//! reply comes in.
//!
//! ```text
//!   handler ─▶ lwc_call ─▶ [arguments: caller rw, callee r] ─lwSwitch─▶ root ─▶ callee
//!   handler ◀─ lwc_reply ◀─ [reply: callee rw, caller r] ◀─lwSwitch─── root ◀─ callee
//! ```
//!
//! The root sees neither region: they hold bytes and nothing else. What is said of
//! the bytes (length, type, attributes) the caller says on its own control page, and
//! the callee on its own; the root reads it once, checks it, and tells the other
//! end. So it knows who lies, and here nothing need be checked. What came of the call
//! it says there, too ([`Control::put_outcome`]). All of this runs on behalf of the
//! calling function, in its own context: a hostile one can do no more with it than
//! without.
//!
//! [`Control::put_outcome`]: super::control::Control::put_outcome
//!
//! A call that was started runs at once, since no two contexts of a chain ever do
//! at the same time, and its reply is kept until it is asked for.

use super::asking;
use super::attributes::{AttributeError, Attributes};
use super::parts::{Callee, Parts};
use super::snapshot::word;
use lwc::Handle;
use lwc_function::abi::{Outcome, RawReply};
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::rc::Rc;

/// Calls that one invocation may have started and not finished.
const MOST_STARTED: usize = 1024;

/// The functions that one may call, and what they replied.
pub(super) struct Callees<'a> {
    root: Handle,
    parts: &'a Parts<'a>,
    /// Their names, as replies have them.
    names: Vec<Rc<CStr>>,
    /// Whether a handler runs: an initialiser calls nobody.
    open: Cell<bool>,
    /// The last reply of each, from the first call on.
    last: RefCell<Vec<Option<Box<Kept>>>>,
    /// What is wrong with the last call that failed, where the root has not said
    /// it: a code as in an answer, and a text.
    refused: RefCell<Option<Refused>>,
    /// Those of started calls. A ticket is one more than the place here.
    started: RefCell<Vec<Started>>,
    /// Attributes of the next call of each, if there are any.
    attributes: RefCell<Vec<Attributes>>,
}

/// A call that never left this context.
struct Refused {
    function: CString,
    code: i32,
    text: String,
}

/// A call that runs at once, and whose reply waits to be asked for.
struct Started {
    kept: Box<Kept>,
    /// The function has it, and keeps it until its handler returns.
    taken: bool,
}

/// A reply, in memory of the caller's own but for bytes that stay where nobody
/// writes them meanwhile.
struct Kept {
    outcome: Outcome,
    code: i32,
    function: Rc<CStr>,
    /// Where there is one; none allocates nothing, as most have none.
    message: Option<CString>,
    /// The bytes, if they were copied.
    bytes: Vec<u8>,
    /// Else where they are.
    place: Option<*const u8>,
    len: usize,
    kind: Option<CString>,
    attributes: Attributes,
}

impl Kept {
    /// Without bytes.
    fn new(outcome: Outcome, code: i32, function: Rc<CStr>, message: Option<CString>) -> Box<Self> {
        Box::new(Self {
            outcome,
            code,
            function,
            message,
            bytes: Vec::new(),
            place: None,
            len: 0,
            kind: None,
            attributes: Attributes::default(),
        })
    }

    /// As the function sees it, for as long as this is there and unchanged.
    fn raw(&self) -> RawReply {
        RawReply {
            outcome: self.outcome as i32,
            code: self.code,
            function: self.function.as_ptr(),
            message: in_place(&self.message),
            data: self.place.unwrap_or(self.bytes.as_ptr()),
            len: self.len,
            content_type: in_place(&self.kind),
            attributes: (&raw const self.attributes).cast::<c_void>(),
            reserved: [0; 2],
        }
    }
}

/// A text without its NULs, if it had any; none of none.
fn c_text(mut bytes: Vec<u8>) -> Option<CString> {
    bytes.retain(|&b| b != 0);
    match bytes.is_empty() {
        true => None,
        false => CString::new(bytes).ok(),
    }
}

/// Where a function finds it.
fn in_place(text: &Option<CString>) -> *const c_char {
    text.as_deref().unwrap_or_default().as_ptr()
}

impl<'a> Callees<'a> {
    pub(super) fn new(root: Handle, parts: &'a Parts<'a>) -> Self {
        let name = |callee: &Callee<'_>| {
            let name = CString::new(callee.name).unwrap_or_default();
            Rc::from(name)
        };
        Self {
            root,
            parts,
            names: parts.callees.iter().map(name).collect(),
            open: Cell::new(false),
            last: RefCell::new(Vec::new()),
            refused: RefCell::new(None),
            started: RefCell::new(Vec::new()),
            attributes: RefCell::new(Vec::new()),
        }
    }

    /// A handler runs from now on.
    #[inline]
    pub(super) fn open(&self) {
        self.open.set(true);
    }

    /// It has returned; its replies go.
    #[inline]
    pub(super) fn close(&self) {
        self.open.set(false);
        if !self.parts.callees.is_empty() {
            self.refused.take();
            self.last.borrow_mut().clear();
            self.started.borrow_mut().clear();
            self.attributes.borrow_mut().clear();
        }
    }

    fn find(&self, name: &CStr) -> Option<(usize, &'a Callee<'a>)> {
        let callees = self.parts.callees.iter().enumerate();
        let mut named = callees.filter(|(_, c)| c.name.as_bytes() == name.to_bytes());
        named.next().filter(|_| self.open.get())
    }

    /// Where arguments go, and how many bytes of them; none if the call is not
    /// granted.
    pub(super) fn buffer(&self, name: &CStr) -> Option<(*mut u8, usize)> {
        let (_, callee) = self.find(name)?;
        Some((callee.arguments.as_ptr(), self.parts.capacity))
    }

    /// An attribute of the next call: 0 or an errno.
    pub(super) fn attribute(&self, name: &CStr, attribute: &[u8], value: &[u8]) -> c_int {
        let Some((number, _)) = self.find(name) else {
            return libc::EACCES;
        };
        let text = std::str::from_utf8;
        let (Ok(attribute), Ok(value)) = (text(attribute), text(value)) else {
            return libc::EINVAL;
        };
        let mut all = self.attributes.borrow_mut();
        if all.is_empty() {
            all.resize_with(self.parts.callees.len(), Attributes::default);
        }
        match all[number].set(attribute, value) {
            Ok(()) => 0,
            Err(AttributeError::Full) => libc::ENOSPC,
            Err(AttributeError::Name | AttributeError::Value) => libc::EINVAL,
        }
    }

    /// Calls, and keeps the reply until the next call to the same function.
    ///
    /// # Safety
    /// `len` bytes can be read at `data`, and stay as they are meanwhile.
    pub(super) unsafe fn call(
        &self,
        name: &CStr,
        data: *const u8,
        len: usize,
        kind: &[u8],
    ) -> RawReply {
        let found = self.find(name);
        // SAFETY: the caller's promise.
        let kept = unsafe { self.switch(found, name, data, len, kind, false) };
        let raw = kept.raw();
        let mut last = self.last.borrow_mut();
        // One more than there are callees is for those that are none.
        last.resize_with(self.parts.callees.len() + 1, || None);
        let place = found.map_or(self.parts.callees.len(), |(i, _)| i);
        last[place] = Some(kept);
        raw
    }

    /// Calls, and keeps the reply for [`finish`](Self::finish). A ticket.
    ///
    /// # Safety
    /// As of [`call`](Self::call).
    pub(super) unsafe fn start(
        &self,
        name: &CStr,
        data: *const u8,
        len: usize,
        kind: &[u8],
    ) -> u64 {
        if self.started.borrow().len() >= MOST_STARTED {
            return 0;
        }
        let found = self.find(name);
        // SAFETY: the caller's promise.
        let kept = unsafe { self.switch(found, name, data, len, kind, true) };
        let mut started = self.started.borrow_mut();
        started.push(Started { kept, taken: false });
        started.len() as u64
    }

    /// See [`HostState::refused`](super::host::HostState::refused).
    pub(super) fn refused(&self, named: &[u8]) -> Option<(i32, String)> {
        let refused = self.refused.take()?;
        let meant = named.is_empty() || named == refused.function.as_bytes();
        meant.then_some((refused.code, refused.text))
    }

    /// A call that has failed here.
    fn refuse(&self, outcome: Outcome, function: &CStr, message: String) -> Box<Kept> {
        let code = match outcome {
            Outcome::TooBig => 413,
            _ => 500,
        };
        self.refused.replace(Some(Refused {
            function: function.to_owned(),
            code,
            text: message.clone(),
        }));
        Kept::new(outcome, 0, function.into(), c_text(message.into_bytes()))
    }

    /// The reply of a started call, until the handler returns.
    pub(super) fn finish(&self, ticket: u64) -> RawReply {
        let mut started = self.started.borrow_mut();
        let place = usize::try_from(ticket).ok().and_then(|t| t.checked_sub(1));
        let call = place.and_then(|place| started.get_mut(place));
        let why = match call {
            Some(call) if !call.taken => {
                call.taken = true;
                return call.kept.raw();
            }
            Some(_) => "this call has been finished".to_owned(),
            None if ticket == 0 => {
                format!("more than {MOST_STARTED} calls were started in one invocation")
            }
            None => "no call of this invocation has this ticket".to_owned(),
        };
        let outcome = if ticket == 0 {
            Outcome::TooMany
        } else {
            Outcome::Refused
        };
        drop(started);
        let kept = self.refuse(outcome, c"", why);
        let raw = kept.raw();
        let mut last = self.last.borrow_mut();
        last.resize_with(self.parts.callees.len() + 1, || None);
        last[self.parts.callees.len()] = Some(kept);
        raw
    }

    /// The attributes of a reply, as records.
    ///
    /// # Safety
    /// The reply is one that `call` or `finish` gave, and still holds.
    pub(super) unsafe fn attributes_of<'r>(&self, reply: &'r RawReply) -> Option<&'r [u8]> {
        // SAFETY: the caller's promise; `raw` put it there, of a reply that does not
        // move.
        let attributes = unsafe { reply.attributes.cast::<Attributes>().as_ref() };
        attributes.map(Attributes::as_bytes)
    }

    /// There and back.
    ///
    /// # Safety
    /// As of [`call`](Self::call).
    unsafe fn switch(
        &self,
        found: Option<(usize, &Callee<'a>)>,
        name: &CStr,
        data: *const u8,
        len: usize,
        kind: &[u8],
        keep: bool,
    ) -> Box<Kept> {
        let Some((number, callee)) = found else {
            let name_text = name.to_string_lossy();
            let why = if self.open.get() {
                format!(
                    "the chain file does not let this function call {name_text:?}; add it to its `calls`"
                )
            } else {
                "an initialiser calls no functions".to_owned()
            };
            return self.refuse(Outcome::Refused, name, why);
        };
        // Whether it is made or not.
        let attributes = self
            .attributes
            .borrow_mut()
            .get_mut(number)
            .map(std::mem::take);
        let capacity = self.parts.capacity;
        if len > capacity {
            let why = format!(
                "arguments of {len} bytes; their region holds {capacity} (raise `region` in the chain file)"
            );
            return self.refuse(Outcome::TooBig, name, why);
        }
        let place = callee.arguments.as_ptr();
        if len != 0 && data != place.cast_const() {
            // SAFETY: the caller's promise; the region has room for a capacity of
            // bytes there, and is this context's to write. They may overlap, when
            // a function calls with a part of what it wrote there.
            unsafe { std::ptr::copy(data, place, len) };
        }
        // What replied last has no reply any more that anybody may look at: its
        // next one is written over it. (Arguments may have been a part of it.)
        if let Some(last) = self.last.borrow_mut().get_mut(number) {
            *last = None;
        }
        let control = self.parts.control;
        let header = control.call();
        header.put(len as u64, kind);
        match attributes {
            Some(all) => header.put_attributes(&all),
            None => header.clear_attributes(),
        }
        self.pass_control(number as u64);
        // The next call finds nothing of this one's, nor does the callee, whoever
        // calls it then. (What a function wrote in place behind what it sent stays
        // until its own rollback, and lwc_function.h says so: nobody knows how much
        // that is.)
        let end = len.next_multiple_of(lwc::page_size()).min(capacity);
        callee.arguments.clear(0, end);
        let (outcome, code) = control.outcome();
        if outcome == Outcome::Answered {
            let named = self.names.get(number).cloned();
            let named = named.unwrap_or_else(|| name.into());
            let mut kept = Kept::new(outcome, 0, named, None);
            return match self.take_reply(&mut kept, callee, keep) {
                Ok(()) => kept,
                Err(why) => self.refuse(Outcome::TooBig, name, why),
            };
        }
        // The root knows of it.
        self.refused.take();
        let (function, message) = control.failed_call();
        let function = c_text(function).unwrap_or_default();
        let mut kept = Kept::new(outcome, code, function.into(), c_text(message));
        if outcome == Outcome::Reported {
            // What it answered beside its error, if there is memory for it.
            let _ = self.take_reply(&mut kept, callee, keep);
        }
        kept
    }

    /// What the root says of a reply, and its bytes where they are kept.
    fn take_reply(&self, kept: &mut Kept, callee: &Callee<'_>, keep: bool) -> Result<(), String> {
        let header = self.parts.control.call();
        let fixed = header.read();
        // The root has checked it.
        let len = (fixed.len() as usize).min(self.parts.capacity);
        if callee.keep_reply || keep {
            if kept.bytes.try_reserve_exact(len).is_err() {
                return Err(format!(
                    "no memory for the reply of {len} bytes of {}; raise `memory`",
                    callee.name
                ));
            }
            kept.bytes.resize(len, 0);
            callee.reply.read(0, &mut kept.bytes);
        } else {
            kept.place = Some(callee.reply.as_ptr());
        }
        kept.len = len;
        kept.kind = c_text(fixed.content_type().into_bytes());
        kept.attributes = header.attributes(&fixed).unwrap_or_default();
        Ok(())
    }

    /// For an audit: tells the root of calls by numbers that no callee has, from
    /// one on and the last that there are, and counts those that it does not refuse.
    pub(super) fn made(&self, from: u64) -> u64 {
        let numbers = (from..from + 64).chain([u64::MAX, 1 << 32, 1 << 63]);
        numbers
            .filter(|&number| {
                self.pass_control(number);
                self.parts.control.outcome().0 != Outcome::Refused
            })
            .count() as u64
    }

    /// To the root, until it says what came of the call.
    fn pass_control(&self, number: u64) {
        asking::ask(self.root, self.parts.apart, [word::CALL, 0, number]);
    }
}
