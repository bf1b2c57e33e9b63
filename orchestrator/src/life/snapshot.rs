//! What runs inside a function's context: loading, the snapshot, its copies.
//!
//! The context that [`main`] makes of a new one loads the function, enters
//! the sandbox and parks: the snapshot. It never sees an invocation. On the
//! root's word it copies itself; a copy enters the stricter sandbox, tells the
//! root that it is ready and serves invocations (`invocation.rs`).

use super::direct;
use super::files::Asking;
use super::host::{CALLS, HostState};
use super::output::{self, Streams};
use super::parts::Parts;
use super::rollback::Mechanism;
use super::{
    Probes, crash, environment, invocation, leftovers, limits, loading, open_files, own_code,
    probe, turns,
};
use libloading::os::unix::Library;
use lwc::{Confinement, Context, Created, End, Event, Flags, Handle};
use lwc_function::abi::{ABI, Handler, Initialiser, RawSetup};
use nix::sys::signal::SigSet;
use std::cell::Cell;
use std::convert::Infallible;
use std::ffi::c_char;
#[cfg(target_os = "freebsd")]
use std::os::fd::RawFd;

/// First words of what root and contexts say to each other by a switch.
pub(crate) mod word {
    /// Root to snapshot: make a copy, which clears the regions that it writes first.
    pub(crate) const COPY: u64 = 1;
    /// Root to copy, and copy to the next: run the handler. The number of the
    /// request, and of the entrance; the rest is on the control page or around the
    /// bytes.
    pub(crate) const INVOKE: u64 = 2;
    /// Root to copy, in an audit: attempt what `probe` is told.
    pub(crate) const PROBE: u64 = 3;
    /// Root to copy: do as for an invocation, but run no handler.
    pub(crate) const WARM_UP: u64 = 4;
    /// Root to copy: from now on take over from one context and hand over to
    /// another. Words: their descriptors there, or [`NOBODY`].
    pub(crate) const LINK: u64 = 5;
    /// Root to snapshot: end the last copy, which its neighbours may name.
    pub(crate) const DISMISS: u64 = 6;
    /// Root to snapshot: the last copy's state is what it is rolled back to.
    pub(crate) const MARK: u64 = 7;
    /// Root to snapshot: roll the last copy back, and clear the regions that it writes.
    pub(crate) const ROLL_BACK: u64 = 8;
    /// Root to copy, after [`CALL`]: what came of it is on the control page.
    pub(crate) const RETURN: u64 = 9;
    /// Root to snapshot: the last copy is no more; clear the regions that it wrote.
    pub(crate) const ERASE: u64 = 17;
    /// Root to snapshot: clear the regions of arguments alone.
    pub(crate) const ERASE_ARGUMENTS: u64 = 19;
    /// Snapshot: loaded, initialised, in the sandbox; and whenever it waits. After
    /// a rollback, how many pages were undone.
    pub(crate) const READY: u64 = 10;
    /// Copy: in the sandbox.
    pub(crate) const COPY_READY: u64 = 11;
    /// Copy: the handler has returned and nobody is next, or it gave no answer
    /// to hand over. The number of the request; the rest is on the control page.
    pub(crate) const DONE: u64 = 12;
    /// Snapshot or copy: it could not. An errno, the number of the request; text
    /// is on the control page.
    pub(crate) const FAILED: u64 = 13;
    /// Snapshot: a copy has ended. Words: signal, code, address, its identity.
    pub(crate) const ENDED: u64 = 14;
    /// Snapshot or copy: a context switched here that has no reason to. (A copy
    /// tells it only where contexts run in turn, and the control must go
    /// somewhere.)
    pub(crate) const UNEXPECTED: u64 = 15;
    /// Copy, while its handler runs: call another function. The number of the
    /// request, and of the callee among those that it may call; the rest is in
    /// the region of the arguments.
    pub(crate) const CALL: u64 = 16;
    /// Copy: as [`DONE`], of an answer that is that of the request: nobody is to run
    /// behind it. The number of the request.
    pub(crate) const END: u64 = 18;
    /// Copy, while its handler runs: for a file that it names on its control page. What
    /// it wants of it, and how long the name is (`asking.rs`). The answer is in the third
    /// word of [`RETURN`].
    pub(crate) const ASK: u64 = 20;
    /// Instead of a descriptor.
    pub(crate) const NOBODY: u64 = u64::MAX;
}

/// The loaded function.
pub(super) struct Loaded {
    pub(super) handler: Handler,
    /// Room for an input that is kept: addresses alone, until a copy of this
    /// context uses them.
    pub(super) kept: Cell<Vec<u8>>,
    /// Where its library holds back what it writes, beside the C library.
    pub(super) streams: Option<Streams>,
    /// The signals that wait, as the function left it.
    mask: SigSet,
    /// Never unloaded: it is the context's whole content.
    _library: Library,
}

/// The new context, from the first switch to it.
pub(crate) fn main(event: Event, parts: &Parts<'_>) -> Infallible {
    // Nothing here may write to descriptors: they are closed, or the
    // function's, and their numbers are the next file's.
    log::set_max_level(log::LevelFilter::Off);
    let Some(root) = event.from() else {
        std::process::exit(1)
    };
    #[cfg(target_os = "freebsd")]
    let root = match behind_the_standard_three(root.as_raw()) {
        // SAFETY: the same one, by another number.
        number if number != root.as_raw() => unsafe { Handle::from_raw(number) },
        _ => root,
    };
    let state = HostState::new(root, parts);
    let asking = Asking::new(root, parts);
    let loaded = match load(parts, &state, &asking) {
        Ok(loaded) => loaded,
        Err(text) => {
            output::flush(None);
            parts.control.put_status(1, text.as_bytes());
            while root.switch(&[word::FAILED]).is_ok() {}
            // Beside threads of the function's own nobody can switch: its end is told
            // by the same text.
            // SAFETY: the context ends here; nothing of it is of any more use.
            unsafe { libc::_exit(1) }
        }
    };
    snapshot(root, parts, &state, &loaded)
}

/// The name of a context, by a number behind the standard three if there is one. On the
/// kernel backend it comes at the lowest that is free, and those are what programs close
/// that want no input or output: who cannot name the root ends, and who cannot name its
/// neighbour does not hand over to it. It has just come: nothing relies on its number.
#[cfg(target_os = "freebsd")]
pub(super) fn behind_the_standard_three(low: RawFd) -> RawFd {
    if !(0..3).contains(&low) || lwc::backend() != Ok(lwc::Backend::Kernel) {
        return low;
    }
    // SAFETY: it is a context's descriptor, whose owner is this context, which has nothing
    // else that relies on the number. The second is the same open file: the kernel looks
    // for it where the first is no more.
    let number = unsafe { libc::fcntl(low, libc::F_DUPFD_CLOEXEC, 3) };
    if number < 0 {
        return low;
    }
    super::files::close(low);
    number
}

/// Step 3 of the life: load, initialise, enter the sandbox.
fn load(parts: &Parts<'_>, state: &HostState<'_>, asking: &Asking<'_>) -> Result<Loaded, String> {
    let text = |e: lwc::Error| e.to_string();
    let mut kept = Vec::new();
    if parts.keep_input {
        // Before the limit, which is the function's own.
        kept.try_reserve_exact(parts.capacity)
            .map_err(|e| format!("{} bytes of addresses for inputs: {e}", parts.capacity))?;
    }
    environment::grant(parts.env.iter().copied())?;
    lwc::limit_memory(parts.memory.saturating_add(parts.scratch)).map_err(text)?;
    limits::before_the_function()?;
    for region in parts.read_only() {
        region.make_read_only().map_err(text)?;
    }
    for (_, secret) in &state.secrets {
        secret.lock().map_err(text)?;
    }
    let before = leftovers::Before::note()?;
    let output = parts.output.begin();
    output::by_lines();
    let files = open_files::Before::note(&output.made)?;
    let signals = own_code::Before::note();
    let loaded = direct::Loaded::note();
    let library = loading::open(parts.library, parts.needs, &before, parts.control)?;
    if asking.has_something() {
        loaded.bind_the_rest();
    }
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
    before.nothing_is_left()?;
    crash::catch(parts.control, handler as *const libc::c_void);
    let streams = Streams::of(&library);
    output::flush(streams);
    output.end();
    for file in files.close_others()? {
        let line = format!("its initialiser left {file} open: closed");
        parts.control.put_log(2, line.as_bytes());
    }
    let mask = signals.alone()?;
    if parts.probes == Probes::Answered {
        probe::note_areas();
    }
    asking.catch(mask).map_err(text)?;
    if parts.threads > 0 {
        let refused = |e: lwc::Error| format!("threads = {}: {e}", parts.threads);
        lwc::allow_threads(parts.threads.into()).map_err(refused)?;
        lwc::rollback_support().map_err(refused)?;
        limits::on_any_processor();
        turns::begin();
    }
    let locked = state.secrets.iter().map(|(_, s)| s.pages().len()).sum();
    limits::before_the_sandbox(locked)?;
    // Where it is refused its part of what all take is not told.
    let _ = lwc::show_share();
    if parts.rolled_back
        && let Err(e) = lwc::rollback_support()
    {
        parts
            .control
            .put_log(4, format!("a new copy for each invocation: {e}").as_bytes());
    }
    if parts.apart {
        // The function has run by now, alone, and what it has called itself is over: from
        // here on none of its code runs before the sandbox, which lets nobody change it.
        crate::title::set(&format!("f:{}", parts.function));
    }
    lwc::confine(Confinement::Creator).map_err(text)?;
    Ok(Loaded {
        handler,
        kept: Cell::new(kept),
        streams,
        mask,
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
    let mut reply: [u64; 5] = [word::READY, 0, 0, 0, 0];
    // The number of what the root asked for last, which goes with each reply: the
    // root may have given up on an earlier one.
    let mut number = 0;
    let mut to = root;
    loop {
        let [a, b, c, d, e] = reply;
        let event = to.switch(&[a, b, c, d, e, number]);
        to = root;
        if let Ok(Event::Switched { from, args }) = &event
            && *from == Some(root)
        {
            number = args.get(1).copied().unwrap_or(0);
        }
        reply = match event {
            Ok(Event::Switched { from, args })
                if from == Some(root)
                    && matches!(args.first(), Some(&(word::MARK | word::ROLL_BACK))) =>
            {
                roll(copy.as_ref(), args[0] == word::MARK, parts)
            }
            Ok(Event::Switched { from, args })
                if from == Some(root) && args.first() == Some(&word::ERASE_ARGUMENTS) =>
            {
                erased(parts.erase_arguments())
            }
            Ok(Event::Switched { from, args }) if from == Some(root) => {
                // The last copy's descriptor goes; it is dead, or dies, though
                // its neighbours may still name it. A root whose contexts are
                // processes has seen to that itself.
                if let Some(last) = copy.take().filter(|_| parts.relay && !parts.apart) {
                    let _ = last.destroy();
                }
                match args.first() {
                    Some(&word::DISMISS) => [word::READY, 0, 0, 0, 0],
                    Some(&word::ERASE) => erased(parts.erase_written()),
                    Some(&word::COPY) => match copy_self(root, parts, state, loaded) {
                        Ok(made) => {
                            to = made.handle();
                            copy = Some(made);
                            [0; 5]
                        }
                        Err(e) => {
                            parts.control.put_status(1, e.to_string().as_bytes());
                            [word::FAILED, e.errno().raw() as u64, 0, 0, 0]
                        }
                    },
                    _ => [word::FAILED, libc::EINVAL as u64, 0, 0, 0],
                }
            }
            Ok(Event::Ended(end)) => [
                word::ENDED,
                end.signal.unwrap_or(0) as u64,
                end.code as u64,
                end.address,
                end.id,
            ],
            Ok(_) => [word::UNEXPECTED, 0, 0, 0, 0],
            Err(e) => [word::FAILED, e.errno().raw() as u64, 0, 0, 0],
        };
    }
}

fn erased(done: lwc::Result<()>) -> [u64; 5] {
    match done {
        Ok(()) => [word::READY, 0, 0, 0, 0],
        Err(e) => [word::FAILED, e.errno().raw() as u64, 0, 0, 0],
    }
}

/// The present state of the copy is its snapshot, by which means it will go back to
/// it ([`Mechanism`]); or it goes back to that, how many pages.
fn roll(copy: Option<&Context>, mark: bool, parts: &Parts<'_>) -> [u64; 5] {
    let done = copy.map(|copy| {
        if mark {
            let means = copy.snapshot().and_then(|()| lwc::rollback_support());
            return means.map(|m| Mechanism::from(m).word());
        }
        // It runs no more until it is switched to: nobody writes there again.
        copy.roll_back()
            .and_then(|pages| parts.erase_written().map(|()| pages))
    });
    match done {
        Some(Ok(pages)) => [word::READY, pages, 0, 0, 0],
        Some(Err(e)) => {
            parts.control.put_status(1, e.to_string().as_bytes());
            [word::FAILED, e.errno().raw() as u64, 0, 0, 0]
        }
        None => [word::FAILED, libc::ESRCH as u64, 0, 0, 0],
    }
}

/// The end of a copy, as [`word::ENDED`] tells it.
pub(crate) fn end_of(args: &[u64]) -> End {
    let at = |i: usize| args.get(i).copied().unwrap_or(0);
    let signal = at(1) as i32;
    End::new(at(4), (signal != 0).then_some(signal), at(2) as i32, at(3))
}

fn copy_self(
    root: Handle,
    parts: &Parts<'_>,
    state: &HostState<'_>,
    loaded: &Loaded,
) -> lwc::Result<Context> {
    let mut flags = Flags::TRAP_FAULT | Flags::TRAP_EXIT;
    // Threads are counted by who rolls back, whether that is wanted or not.
    if (parts.rolled_back || parts.threads > 0) && lwc::rollback_support().is_ok() {
        flags |= Flags::ROLLBACK;
    }
    // SAFETY: the copy runs `serve` and never returns here.
    match unsafe { lwc::create(&leftovers::own_memory(parts), flags)? } {
        Created::Creator(context) => Ok(context),
        Created::New(_) => {
            // What other copies wrote there for others, answers or not. Those
            // that served have ended: nobody writes it again.
            if let Err(e) = parts.erase_written() {
                let errno = e.errno().raw() as u64;
                loop {
                    let _ = root.switch(&[word::FAILED, errno]);
                }
            }
            own_code::let_through(&loaded.mask);
            invocation::serve(root, parts, state, loaded)
        }
    }
}

pub(super) fn bytes(chars: &[c_char]) -> &[u8] {
    // SAFETY: both are one byte, for which every value is one.
    unsafe { std::slice::from_raw_parts(chars.as_ptr().cast(), chars.len()) }
}
