//! The same libraries without contexts: whoever is called is called directly, or is
//! another process behind HTTP. What a function sees is the same, but for attributes,
//! which none of ours uses.

use crate::{FUNCTIONS, SECRETS};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use libloading::Library;
use lwc_function::Outcome;
use lwc_function::abi::{ABI, Handler, Host, HostCalls, Initialiser, RawInvocation, RawReply};
use lwc_function::abi::{RawSetup, UNHANDLED};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Bytes of an answer, and of arguments, as `chain.toml` has it.
const REGION: usize = 16 << 10;

/// What a program of this folder says went wrong.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where the library of each function is.
pub type Libraries = BTreeMap<String, PathBuf>;

/// Functions that are loaded into this process, as libraries are.
pub struct Functions {
    handlers: BTreeMap<&'static str, Handler>,
    /// Never closed: Rust's libraries cannot be.
    _loaded: Vec<&'static Library>,
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

impl Functions {
    /// Loads functions, all or some, and calls their initialisers.
    ///
    /// # Errors
    /// A library that is missing or lacks a handler, or an initialiser that fails.
    pub fn load(libraries: &Libraries, wanted: impl Fn(&str) -> bool) -> Result<Self, Failure> {
        let mut all = Self {
            handlers: BTreeMap::new(),
            _loaded: Vec::new(),
        };
        for name in FUNCTIONS.iter().map(|f| f.name).filter(|n| wanted(n)) {
            let path = libraries.get(name).ok_or(format!("{name}: no library"))?;
            // SAFETY: the libraries are those of this folder; what their constructors
            // do they do in any program.
            let library: &_ = Box::leak(Box::new(unsafe { Library::new(path) }?));
            // SAFETY: the header that compiled it declares handlers so.
            let handler = *unsafe { library.get::<Handler>(name.as_bytes()) }?;
            let init = format!("{name}_init");
            // SAFETY: as above, of initialisers.
            if let Ok(init) = unsafe { library.get::<Initialiser>(init.as_bytes()) } {
                let mut setup = RawSetup {
                    abi: ABI,
                    status: 0,
                    host: std::ptr::null(),
                    calls: &raw const CALLS,
                    error: [0; 256],
                };
                // SAFETY: the setup outlives the call, and of its calls only those
                // that need no host are an initialiser's.
                if unsafe { init(&raw mut setup) } != 0 {
                    return Err(format!("{name}: {}", field(&setup.error)).into());
                }
            }
            all.handlers.insert(name, handler);
            all._loaded.push(library);
        }
        Ok(all)
    }
}

/// What came of an invocation or a call: 0 and an answer, or a code and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// 0, or the function's own, above 0.
    pub code: i32,
    /// The answer.
    pub bytes: Vec<u8>,
    /// Its content type.
    pub content_type: String,
    /// What went wrong.
    pub message: String,
}

impl Answer {
    fn error(code: i32, message: impl std::fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
            ..Self::default()
        }
    }
}

/// One thread that invokes functions: its connections to other processes, and its
/// memory.
#[derive(Debug)]
pub struct Thread {
    functions: Arc<Functions>,
    /// Functions that are elsewhere, and the connections that are free.
    elsewhere: BTreeMap<String, (SocketAddr, RefCell<Vec<Sender>>)>,
    runtime: Runtime,
    /// Regions that nobody uses.
    regions: RefCell<Vec<Box<[u8]>>>,
}

type Sender = SendRequest<Full<Bytes>>;

impl Thread {
    /// One with functions of this process and addresses of others.
    ///
    /// # Errors
    /// The system gives no event loop.
    pub fn new(
        functions: Arc<Functions>,
        elsewhere: &BTreeMap<String, SocketAddr>,
    ) -> std::io::Result<Self> {
        let elsewhere = elsewhere.iter();
        Ok(Self {
            functions,
            elsewhere: elsewhere
                .map(|(name, address)| (name.clone(), (*address, RefCell::default())))
                .collect(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()?,
            regions: RefCell::default(),
        })
    }

    /// Its event loop, which does nothing while a function runs.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Invokes a function of this process.
    pub fn invoke(
        &self,
        name: &str,
        caller: Option<&str>,
        input: &[u8],
        content_type: &str,
    ) -> Answer {
        let Some(handler) = self.functions.handlers.get(name) else {
            return Answer::error(500, format!("{name} is not here"));
        };
        let frame = Frame {
            thread: self,
            caller: caller.map(c_text),
            name,
            places: RefCell::default(),
            kept: RefCell::default(),
            started: RefCell::default(),
            failures: RefCell::default(),
        };
        let mut region = self.region();
        let input_type = c_text(content_type);
        let mut raw = RawInvocation::new(input, &mut region);
        raw.host = (&raw const frame).cast();
        raw.calls = &raw const CALLS;
        raw.input_type = input_type.as_ptr();
        // SAFETY: every pointer in the invocation outlives the call.
        let code = unsafe { handler(&raw mut raw) };
        let answer = match code {
            0 => Answer {
                code,
                bytes: region[..raw.output_len.min(REGION)].to_vec(),
                content_type: match field(&raw.output_type) {
                    none if none.is_empty() => content_type.to_owned(),
                    some => some,
                },
                message: String::new(),
            },
            UNHANDLED => frame.failure(&field(&raw.error)),
            code => Answer::error(code, field(&raw.error)),
        };
        let places = frame.places.into_inner();
        let mut regions = self.regions.borrow_mut();
        regions.push(region);
        regions.extend(places.into_iter().map(|(_, place)| place));
        answer
    }

    fn region(&self) -> Box<[u8]> {
        let kept = self.regions.borrow_mut().pop();
        kept.unwrap_or_else(|| vec![0; REGION].into())
    }

    /// Calls a function, wherever it is.
    fn call(&self, name: &str, caller: &str, input: &[u8], content_type: &str) -> Answer {
        match self.send(name, input, content_type) {
            None => self.invoke(name, Some(caller), input, content_type),
            Some(sent) => self.receive(sent),
        }
    }

    /// Sends a request to one that is elsewhere.
    fn send(&self, name: &str, input: &[u8], content_type: &str) -> Option<Sent> {
        let (address, free) = self.elsewhere.get(name)?;
        let kept = free.borrow_mut().pop();
        let (address, name) = (*address, name.to_owned());
        let request = Request::post("/")
            .header("host", "hotel")
            .header("content-type", content_type)
            .body(Full::new(Bytes::copy_from_slice(input)));
        let answer = self.runtime.spawn(async move {
            let mut sender = match kept {
                Some(sender) => sender,
                None => connect(address).await?,
            };
            sender.ready().await?;
            let response = sender.send_request(request?).await?;
            let code = match response.status().as_u16() {
                200 => 0,
                status => i32::from(status),
            };
            let of_type = response.headers().get("content-type");
            let content_type = of_type.map_or("", |t| t.to_str().unwrap_or(""));
            let content_type = content_type.to_owned();
            let body = response.into_body().collect().await?.to_bytes();
            let answer = match code {
                0 => Answer {
                    code,
                    bytes: body.to_vec(),
                    content_type,
                    message: String::new(),
                },
                code => Answer::error(code, String::from_utf8_lossy(&body)),
            };
            Ok::<_, Failure>((sender, answer))
        });
        // On its way before the function goes on.
        self.runtime.block_on(tokio::task::yield_now());
        Some((name, answer))
    }

    fn receive(&self, (name, answer): Sent) -> Answer {
        match self.runtime.block_on(answer) {
            Ok(Ok((sender, answer))) => {
                if let Some((_, free)) = self.elsewhere.get(&name) {
                    free.borrow_mut().push(sender);
                }
                answer
            }
            Ok(Err(e)) => Answer::error(502, format!("{name}: {e}")),
            Err(e) => Answer::error(502, format!("{name}: {e}")),
        }
    }
}

/// A request that is on its way to a function.
type Sent = (String, JoinHandle<Result<(Sender, Answer), Failure>>);

pub(crate) async fn connect(address: SocketAddr) -> Result<Sender, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// What an invocation has: the host of its function.
struct Frame<'a> {
    thread: &'a Thread,
    name: &'a str,
    caller: Option<CString>,
    /// Where it writes arguments in place, for each callee.
    places: RefCell<Vec<(CString, Box<[u8]>)>>,
    /// What replies point to, which stays where it is, to the end of the invocation.
    kept: RefCell<Vec<Kept>>,
    /// Calls that were started; a ticket is a place in this list, from 1.
    started: RefCell<Vec<Option<Started>>>,
    /// What failed: whom it called, and what came.
    failures: RefCell<Vec<(String, Answer)>>,
}

enum Started {
    /// It has run.
    Done(String, Answer),
    /// It is on its way.
    Sent(Sent),
}

/// What a reply points to.
struct Kept {
    bytes: Vec<u8>,
    function: CString,
    content_type: CString,
    message: CString,
}

impl Frame<'_> {
    /// The failure that a function means which does nothing about it.
    fn failure(&self, named: &str) -> Answer {
        let failures = self.failures.borrow();
        let mut last = failures.iter().rev();
        let found = last.clone().find(|(callee, _)| callee == named);
        match found.or_else(|| last.next()) {
            Some((_, answer)) => answer.clone(),
            None => Answer::error(500, "no call of its failed"),
        }
    }

    /// Keeps an answer, and makes a reply of it.
    fn reply(&self, function: &str, answer: Answer) -> RawReply {
        let outcome = match answer.code {
            0 => Outcome::Answered,
            _ => Outcome::Reported,
        };
        if answer.code != 0 {
            let failure = (function.to_owned(), answer.clone());
            self.failures.borrow_mut().push(failure);
        }
        let kept = Kept {
            bytes: answer.bytes,
            function: c_text(function),
            content_type: c_text(&answer.content_type),
            message: c_text(&answer.message),
        };
        let reply = RawReply {
            code: answer.code,
            function: kept.function.as_ptr(),
            message: kept.message.as_ptr(),
            data: kept.bytes.as_ptr(),
            len: kept.bytes.len(),
            content_type: kept.content_type.as_ptr(),
            ..RawReply::new(outcome)
        };
        self.kept.borrow_mut().push(kept);
        reply
    }
}

/// A text for C, which ends at its first NUL.
fn c_text(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
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

/// Without walls every function can have every secret.
unsafe extern "C" fn secret(_: *const Host, name: *const c_char, len: *mut usize) -> *const c_void {
    // SAFETY: a function passes a name that ends in a NUL, and a place for the length.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes();
        let found = SECRETS.iter().find(|(n, _)| n.as_bytes() == name);
        found.map_or(std::ptr::null(), |(_, bytes)| {
            *len = bytes.len();
            bytes.as_ptr().cast()
        })
    }
}

/// Warnings are those of guests who forgot their passwords: as `serve`, this is
/// silent about them.
unsafe extern "C" fn log(_: *const Host, _: c_int, _: *const c_char, _: usize) {}

unsafe extern "C" fn now(_: *const Host) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |t| t.as_nanos() as u64)
}

unsafe extern "C" fn attribute(_: *const Host, _: usize, _: *mut *const c_char) -> *const c_char {
    std::ptr::null()
}

/// `ENOSPC`.
const NO_ROOM: c_int = 28;

unsafe extern "C" fn reply_attribute(_: *const Host, _: *const c_char, _: *const c_char) -> c_int {
    NO_ROOM
}

unsafe extern "C" fn call_attribute(
    _: *const Host,
    _: *const c_char,
    _: *const c_char,
    _: *const c_char,
) -> c_int {
    NO_ROOM
}

unsafe extern "C" fn attribute_of_reply(
    _: *const Host,
    _: *const RawReply,
    _: usize,
    _: *mut *const c_char,
) -> *const c_char {
    std::ptr::null()
}

unsafe extern "C" fn call_buffer(
    host: *const Host,
    function: *const c_char,
    capacity: *mut usize,
) -> *mut u8 {
    // SAFETY: `host` is the frame of the invocation that runs; a function passes a
    // name that ends in a NUL, and a place for the capacity.
    unsafe {
        let frame = &*host.cast::<Frame<'_>>();
        let function = CStr::from_ptr(function);
        *capacity = REGION;
        let mut places = frame.places.borrow_mut();
        if let Some((_, place)) = places.iter_mut().find(|(n, _)| n.as_c_str() == function) {
            return place.as_mut_ptr();
        }
        places.push((function.to_owned(), frame.thread.region()));
        let last = places.len() - 1;
        places[last].1.as_mut_ptr()
    }
}

/// What a function passes to a call.
///
/// # Safety
/// `host` must be the frame of the invocation that runs, `function` and
/// `content_type` texts that end in a NUL (the latter may be null), and `data` `len`
/// bytes or null, all of them for `'a`.
unsafe fn passed<'a>(
    host: *const Host,
    function: *const c_char,
    (data, len): (*const c_void, usize),
    content_type: *const c_char,
) -> (&'a Frame<'a>, &'a str, &'a [u8], &'a str) {
    // SAFETY: the caller's promise.
    unsafe {
        let data = match data.is_null() {
            true => &[][..],
            false => std::slice::from_raw_parts(data.cast::<u8>(), len),
        };
        let content_type = match content_type.is_null() {
            true => "",
            false => CStr::from_ptr(content_type).to_str().unwrap_or(""),
        };
        let function = CStr::from_ptr(function).to_str().unwrap_or("");
        (&*host.cast::<Frame<'_>>(), function, data, content_type)
    }
}

unsafe extern "C" fn call(
    host: *const Host,
    function: *const c_char,
    data: *const c_void,
    len: usize,
    content_type: *const c_char,
    reply: *mut RawReply,
) {
    // SAFETY: a function passes what lwc_function.h says.
    let (frame, name, data, content_type) =
        unsafe { passed(host, function, (data, len), content_type) };
    let answer = frame.thread.call(name, frame.name, data, content_type);
    // SAFETY: a function passes a place for the reply.
    unsafe { reply.write(frame.reply(name, answer)) };
}

unsafe extern "C" fn call_start(
    host: *const Host,
    function: *const c_char,
    data: *const c_void,
    len: usize,
    content_type: *const c_char,
) -> u64 {
    // SAFETY: as in `call`.
    let (frame, name, data, content_type) =
        unsafe { passed(host, function, (data, len), content_type) };
    let thread = frame.thread;
    let started = match thread.send(name, data, content_type) {
        Some(sent) => Started::Sent(sent),
        None => {
            let answer = thread.invoke(name, Some(frame.name), data, content_type);
            Started::Done(name.to_owned(), answer)
        }
    };
    let mut all = frame.started.borrow_mut();
    all.push(Some(started));
    all.len() as u64
}

unsafe extern "C" fn call_finish(host: *const Host, ticket: u64, reply: *mut RawReply) {
    // SAFETY: `host` is the frame of the invocation that runs.
    let frame = unsafe { &*host.cast::<Frame<'_>>() };
    let place = (ticket as usize).wrapping_sub(1);
    let started = frame
        .started
        .borrow_mut()
        .get_mut(place)
        .and_then(Option::take);
    let finished = match started {
        None => RawReply::new(Outcome::Refused),
        Some(Started::Done(name, answer)) => frame.reply(&name, answer),
        Some(Started::Sent(sent)) => {
            let name = sent.0.clone();
            frame.reply(&name, frame.thread.receive(sent))
        }
    };
    // SAFETY: as in `call`.
    unsafe { reply.write(finished) };
}

unsafe extern "C" fn caller(host: *const Host) -> *const c_char {
    // SAFETY: as in `call_finish`.
    let frame = unsafe { &*host.cast::<Frame<'_>>() };
    frame
        .caller
        .as_deref()
        .map_or(std::ptr::null(), CStr::as_ptr)
}

/// The libraries of a folder: `NAME.so` of each function, as `build.sh` makes them.
pub fn libraries(folder: &Path) -> Libraries {
    let names = FUNCTIONS.iter().map(|f| f.name);
    names
        .map(|n| (n.to_owned(), folder.join(format!("{n}.so"))))
        .collect()
}

/// No function here is granted that.
unsafe extern "C" fn end_request(_: *const Host) -> c_int {
    const EACCES: c_int = 13;
    EACCES
}
