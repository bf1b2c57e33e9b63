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

use crate::abi::{ABI, Handler, Host, HostCalls, Initialiser, NOTHING, RawInvocation, RawSetup};
use crate::{Invocation, Result};
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
    heard: RefCell<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    attributes: Vec<(String, String)>,
    log: Vec<(i32, String)>,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// 0, or the code of the error.
    pub code: i32,
    /// The error's message.
    pub message: String,
    /// The answer, as far as there is one.
    pub bytes: Vec<u8>,
    /// Its content type; empty if the function names none.
    pub content_type: String,
    /// What the function set for its answer, in this order.
    pub attributes: Vec<(String, String)>,
    /// Levels and lines of its log.
    pub log: Vec<(i32, String)>,
}

/// A text for C, which ends at its first NUL.
fn text(text: &str) -> CString {
    let text = text.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_default()
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

    /// How many bytes an answer may have.
    #[must_use]
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// What is left until the deadline; the clock stands still meanwhile.
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
            calls: &raw const CALLS,
            error: [0; 256],
        };
        // SAFETY: the caller's promise; all the setup points at outlives the call.
        let code = unsafe { initialiser(&raw mut raw) };
        (code, field(&raw.error))
    }

    fn run(&self, input: &[u8], call: impl FnOnce(*mut RawInvocation) -> c_int) -> Answer {
        self.heard.take();
        let mut output = vec![0; self.capacity.unwrap_or(1 << 20)];
        let mut raw = RawInvocation::new(input, &mut output);
        raw.host = std::ptr::from_ref(self).cast();
        raw.calls = &raw const CALLS;
        raw.input_type = self.content_type.as_ptr();
        raw.id = self.id.as_ptr();
        raw.deadline = self.remaining.map_or(0, |time| {
            NOW + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
        });
        let returned = call(&raw mut raw);
        let code = if returned == 0 { raw.status } else { returned };
        let (len, content_type) = (raw.output_len, field(&raw.output_type));
        let message = field(&raw.error);
        output.truncate(len);
        let heard = self.heard.take();
        Answer {
            code,
            message,
            bytes: output,
            content_type,
            attributes: heard.attributes,
            log: heard.log,
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
    reserved: 0,
    secret,
    log,
    now,
    attribute,
    reply_attribute,
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
    let plain = name.strip_prefix(':').unwrap_or(name);
    let fits = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    if plain.is_empty() || !plain.bytes().all(fits) || value.contains(char::is_control) {
        return EINVAL;
    }
    let mut heard = host.heard.borrow_mut();
    heard.attributes.retain(|(n, _)| n != name);
    heard.attributes.push((name.into(), value.into()));
    0
}
