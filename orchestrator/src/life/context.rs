//! What runs inside a function's context: loading, the snapshot, its copies.
//!
//! The context that [`main`] makes of a new one loads the function, enters
//! the sandbox and parks: the snapshot. It never sees an invocation. On the
//! root's word it copies itself; a copy enters the stricter sandbox, tells the
//! root that it is ready and serves invocations.

use super::control::Control;
use super::host::{CALLS, HostState};
use super::probe;
use lwc::{Confinement, Context, Created, End, Event, Flags, Handle, Region, Secret};
use lwc_function::abi::{ABI, Handler, Initialiser, RawInvocation, RawSetup};
use std::convert::Infallible;
use std::ffi::{c_char, c_int};
use std::path::Path;

/// First words of what root and contexts say to each other by a switch.
pub(crate) mod word {
    /// Root to snapshot: make a copy, which clears so many bytes of its output
    /// region first.
    pub(crate) const COPY: u64 = 1;
    /// Root to copy: run the handler; the rest is on the control page.
    pub(crate) const INVOKE: u64 = 2;
    /// Root to copy, in an audit: attempt what `probe` is told.
    pub(crate) const PROBE: u64 = 3;
    /// Root to copy: do as for an invocation, but run no handler.
    pub(crate) const REHEARSE: u64 = 4;
    /// Snapshot: loaded, initialised, in the sandbox.
    pub(crate) const READY: u64 = 10;
    /// Copy: in the sandbox.
    pub(crate) const COPY_READY: u64 = 11;
    /// Copy: the handler has returned; the rest is on the control page.
    pub(crate) const DONE: u64 = 12;
    /// Snapshot or copy: it could not; words are an errno, text is on the
    /// control page.
    pub(crate) const FAILED: u64 = 13;
    /// Snapshot: a copy has ended. Words: signal, code, address.
    pub(crate) const ENDED: u64 = 14;
    /// Snapshot: somebody other than the root switched here.
    pub(crate) const STRANGER: u64 = 15;
}

/// What a step's context is made for.
pub(crate) struct Parts<'a> {
    pub(crate) library: &'a Path,
    pub(crate) handler: &'a str,
    pub(crate) has_init: bool,
    pub(crate) memory: u64,
    pub(crate) secrets: Vec<(&'a str, &'a Secret)>,
    pub(crate) input: &'a Region,
    pub(crate) output: &'a Region,
    pub(crate) control: &'a Control,
    /// Whether a small input is copied before the handler sees it: who wrote it
    /// may still run, and write.
    pub(crate) keep_input: bool,
    /// Whether copies answer probes; set for audits alone.
    pub(crate) audit: bool,
}

/// Bytes of an input that are worth a copy rather than the end of who wrote it.
pub(crate) const KEPT_INPUT: usize = 4096;

/// The loaded function.
struct Loaded {
    handler: Handler,
    /// Never unloaded: it is the context's whole content.
    _library: libloading::Library,
}

/// The new context, from the first switch to it.
pub(crate) fn main(event: Event, parts: &Parts<'_>) -> Infallible {
    // Nothing here may write to descriptors: they are closed, and their
    // numbers are the next file's.
    log::set_max_level(log::LevelFilter::Off);
    let Some(root) = event.from() else {
        std::process::exit(1)
    };
    let state = HostState {
        secrets: parts.secrets.clone(),
        control: parts.control,
    };
    let loaded = match load(parts, &state) {
        Ok(loaded) => loaded,
        Err(text) => {
            parts.control.put_reply(1, 0, b"", text.as_bytes());
            loop {
                let _ = root.switch(&[word::FAILED]);
            }
        }
    };
    snapshot(root, parts, &state, &loaded)
}

/// Step 3 of the life: load, initialise, enter the sandbox.
fn load(parts: &Parts<'_>, state: &HostState<'_>) -> Result<Loaded, String> {
    let text = |e: lwc::Error| e.to_string();
    lwc::limit_memory(parts.memory).map_err(text)?;
    parts.input.make_read_only().map_err(text)?;
    for (_, secret) in &state.secrets {
        secret.lock().map_err(text)?;
    }
    // SAFETY: the library's constructors are the function author's code; they
    // run here, in the function's own context, with what it is granted.
    let library = unsafe { libloading::Library::new(parts.library) }
        .map_err(|e| format!("cannot load {}: {e}", parts.library.display()))?;
    // SAFETY: lwc_function.h declares handlers so; a symbol that is something
    // else misbehaves in this context alone.
    let handler = unsafe { library.get::<Handler>(parts.handler.as_bytes()) }
        .map(|s| *s)
        .map_err(|e| format!("no handler: {e}"))?;
    if parts.has_init {
        let symbol = format!("{}_init", parts.handler);
        // SAFETY: as for the handler.
        let init = unsafe { library.get::<Initialiser>(symbol.as_bytes()) }
            .map(|s| *s)
            .map_err(|e| format!("no initialiser: {e}"))?;
        let mut setup = RawSetup {
            abi: ABI,
            status: 0,
            host: state.as_host(),
            calls: &raw const CALLS,
            error: [0; 256],
        };
        // SAFETY: the setup and all it points at outlive the call.
        let code = unsafe { init(&raw mut setup) };
        if code != 0 {
            return Err(format!(
                "{symbol} reported an error: {} (code {code})",
                field(&setup.error)
            ));
        }
    }
    if parts.audit {
        probe::note_areas();
    }
    lwc::confine(Confinement::Creator).map_err(text)?;
    Ok(Loaded {
        handler,
        _library: library,
    })
}

/// A NUL-terminated field that a function may have overwritten.
fn field(chars: &[c_char]) -> String {
    let text = bytes(chars).split(|&b| b == 0).next();
    String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
}

/// The parked snapshot: makes copies of itself, and tells of their ends.
fn snapshot(root: Handle, parts: &Parts<'_>, state: &HostState<'_>, loaded: &Loaded) -> ! {
    let mut copy: Option<Context> = None;
    let mut reply: [u64; 4] = [word::READY, 0, 0, 0];
    let mut to = root;
    loop {
        let event = to.switch(&reply);
        to = root;
        reply = match event {
            Ok(Event::Switched { from, args }) if from == Some(root) => {
                if args.first() != Some(&word::COPY) {
                    [word::FAILED, libc::EINVAL as u64, 0, 0]
                } else {
                    // The last copy's descriptor goes; it is dead, or dies.
                    drop(copy.take());
                    let left = args.get(1).map_or(0, |&n| n as usize);
                    match copy_self(root, parts, state, loaded, left) {
                        Ok(made) => {
                            to = made.handle();
                            copy = Some(made);
                            [0; 4]
                        }
                        Err(e) => {
                            parts.control.put_reply(1, 0, b"", e.to_string().as_bytes());
                            [word::FAILED, e.errno() as i32 as u64, 0, 0]
                        }
                    }
                }
            }
            Ok(Event::Switched { .. } | Event::Called(_)) => [word::STRANGER, 0, 0, 0],
            Ok(Event::Ended(end)) => [
                word::ENDED,
                end.signal.unwrap_or(0) as u64,
                end.code as u64,
                end.address,
            ],
            Err(e) => [word::FAILED, e.errno() as i32 as u64, 0, 0],
        };
    }
}

/// The end of a copy, as [`word::ENDED`] tells it.
pub(crate) fn end_of(args: &[u64]) -> End {
    let at = |i: usize| args.get(i).copied().unwrap_or(0);
    let signal = at(1) as i32;
    End {
        id: 0,
        signal: (signal != 0).then_some(signal),
        code: at(2) as i32,
        address: at(3),
    }
}

fn copy_self(
    root: Handle,
    parts: &Parts<'_>,
    state: &HostState<'_>,
    loaded: &Loaded,
    left: usize,
) -> lwc::Result<Context> {
    // SAFETY: the copy runs `serve` and never returns here.
    match unsafe { lwc::create(&[], Flags::TRAP_FAULT | Flags::TRAP_EXIT)? } {
        Created::Creator(context) => Ok(context),
        Created::New(_) => {
            // Of answers that other copies gave to others.
            parts.output.clear(0, left.min(parts.output.len()));
            serve(root, parts, state, loaded)
        }
    }
}

/// What a copy has for its invocations, one after the other.
struct Room {
    raw: RawInvocation,
    /// For an input that is kept; written to, so that its pages are there.
    input: Vec<u8>,
}

impl Room {
    fn new(parts: &Parts<'_>) -> Self {
        let mut input = Vec::new();
        if parts.keep_input {
            input.resize(KEPT_INPUT.min(parts.input.len()), 1);
            input.fill(0);
        }
        // SAFETY: integers, pointers and characters may all be zero.
        let raw = unsafe { std::mem::zeroed() };
        Self { raw, input }
    }

    /// Where the handler finds an input of so many bytes.
    fn input(&mut self, parts: &Parts<'_>, len: usize) -> *const u8 {
        match self.input.get_mut(..len) {
            Some(kept) if !kept.is_empty() => {
                parts.input.read(0, kept);
                kept.as_ptr()
            }
            _ => parts.input.as_ptr().cast_const(),
        }
    }
}

/// A copy: one invocation after the other.
fn serve(root: Handle, parts: &Parts<'_>, state: &HostState<'_>, loaded: &Loaded) -> ! {
    let mut room = Room::new(parts);
    warm_up(parts, loaded);
    answer(
        &[word::REHEARSE],
        root,
        parts,
        state,
        loaded.handler,
        &mut room,
    );
    let locked = state.secrets.iter().try_for_each(|(_, s)| s.lock());
    let ready = locked.and_then(|()| lwc::confine(Confinement::Strict));
    let mut reply = match ready {
        Ok(()) => [word::COPY_READY, 0],
        Err(e) => [word::FAILED, e.errno() as i32 as u64],
    };
    loop {
        let event = root.switch(&reply);
        reply = match event {
            Ok(Event::Switched { from, args }) if from == Some(root) => {
                answer(&args, root, parts, state, loaded.handler, &mut room)
            }
            Ok(_) => [word::FAILED, libc::EPERM as u64],
            // There is no way back any more, as after a function closed it on
            // the kernel backend.
            Err(_) => std::process::abort(),
        };
    }
}

/// Does what the root asks for. One copy of the code, so that one call warms
/// it up for all.
#[inline(never)]
fn answer(
    asked: &[u64],
    root: Handle,
    parts: &Parts<'_>,
    state: &HostState<'_>,
    handler: Handler,
    room: &mut Room,
) -> [u64; 2] {
    match asked.first() {
        Some(&what @ (word::INVOKE | word::REHEARSE)) => {
            let handler = if what == word::INVOKE {
                handler
            } else {
                nothing
            };
            invoke(parts, state, handler, room);
            [word::DONE, 0]
        }
        Some(&word::PROBE) if parts.audit => [word::DONE, probe::run(asked, root)],
        _ => [word::FAILED, libc::EINVAL as u64],
    }
}

/// Touches what the first invocation will, while nobody waits for it: each
/// page that a copy touches first costs it a fault.
#[inline(never)]
fn warm_up(parts: &Parts<'_>, loaded: &Loaded) {
    const STACK: usize = 8192;
    let mut stack = [0u8; STACK];
    std::hint::black_box(&mut stack);
    let places = [
        parts.input.as_ptr().cast_const(),
        parts.output.as_ptr().cast_const(),
        loaded.handler as *const u8,
    ];
    for place in places {
        // SAFETY: mapped in this context; functions of loaded libraries are
        // readable as they are executable on these machines.
        let _ = unsafe { place.read_volatile() };
    }
}

/// Does nothing: to invoke it touches what is needed to invoke any other.
unsafe extern "C" fn nothing(_: *mut RawInvocation) -> c_int {
    0
}

/// Step 6 of the life. The room is used again and again: texts in it are made
/// empty by their first byte alone.
fn invoke(parts: &Parts<'_>, state: &HostState<'_>, handler: Handler, room: &mut Room) {
    let input_len = parts.control.input_len().min(parts.input.len());
    let input = room.input(parts, input_len);
    let raw = &mut room.raw;
    let [id, input_type] = parts.control.id_and_type();
    // All of it: the function may have written to any.
    raw.abi = ABI;
    raw.status = 0;
    raw.host = state.as_host();
    raw.calls = &raw const CALLS;
    raw.input = input;
    raw.input_len = input_len;
    raw.input_type = input_type;
    raw.output = parts.output.as_ptr();
    raw.output_capacity = parts.output.len();
    raw.output_len = 0;
    raw.id = id;
    raw.deadline = parts.control.deadline();
    raw.output_type[0] = 0;
    raw.error[0] = 0;
    // SAFETY: everything the invocation points at outlives the call; the
    // handler is what the function's author gave for one.
    let code = unsafe { handler(&raw mut *raw) };
    let status = if code != 0 { code } else { raw.status };
    parts.control.put_reply(
        status,
        raw.output_len as u64,
        bytes(&raw.output_type),
        bytes(&raw.error),
    );
}

fn bytes(chars: &[c_char]) -> &[u8] {
    // SAFETY: both are one byte, for which every value is one.
    unsafe { std::slice::from_raw_parts(chars.as_ptr().cast(), chars.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of a context with a region for its input, and an empty output.
    fn with_parts(keep_input: bool, test: impl FnOnce(&Parts<'_>)) {
        let (input, output) = (Region::new(16384).unwrap(), Region::new(4096).unwrap());
        test(&Parts {
            library: Path::new(""),
            handler: "",
            has_init: false,
            memory: 0,
            secrets: Vec::new(),
            input: &input,
            output: &output,
            control: &Control::new().unwrap(),
            keep_input,
            audit: false,
        });
    }

    #[test]
    fn an_input_that_is_kept_is_the_readers_alone() {
        with_parts(true, |parts| {
            parts.input.write(0, &[7; 8192]);
            let mut room = Room::new(parts);
            for len in [1, KEPT_INPUT] {
                let kept = room.input(parts, len);
                assert!(!parts.input.range().contains(&(kept as usize)));
                // Who wrote it goes on writing.
                parts.input.write(0, &[8; 8192]);
                // SAFETY: `kept` points to `len` bytes of the room's.
                let kept = unsafe { std::slice::from_raw_parts(kept, len) };
                assert!(kept.iter().all(|&b| b == 7), "{len}");
                parts.input.write(0, &[7; 8192]);
            }
            let place = parts.input.as_ptr().cast_const();
            assert_eq!(room.input(parts, KEPT_INPUT + 1), place);
            assert_eq!(room.input(parts, 0), place);
        });
        with_parts(false, |parts| {
            let place = parts.input.as_ptr().cast_const();
            assert_eq!(Room::new(parts).input(parts, 1), place);
        });
    }
}
