//! Which backend is in use, and what both have in common.

mod answers;
mod files;
#[cfg(target_os = "freebsd")]
mod kernel;
mod output;
#[cfg(target_os = "linux")]
mod process;

// Where a backend is not built, the other stands in for it in the dispatch;
// `backend` never chooses it there.
#[cfg(target_os = "freebsd")]
use kernel as process;
#[cfg(not(target_os = "freebsd"))]
use process as kernel;

pub use answers::RollbackMeans;
pub(crate) use answers::{Facts, Returned};
#[doc(hidden)]
pub use answers::{Rest, THREADS_LEFT};
pub use files::FileCall;
#[cfg(target_os = "linux")]
pub use process::THREAD;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::flags::Confinement;
use crate::spec::Spec;
use crate::time::MonotonicTime;
use nix::errno::Errno;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// Where contexts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// `lwc.ko`: a context is an address space, a descriptor table and
    /// credentials inside one process; a switch is a system call.
    Kernel,
    /// The embedded default: a context is a child process that is parked; a
    /// switch hands a futex baton over.
    Process,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Process => "process",
        })
    }
}

/// Which backend this process uses: kernel when the module answers, else
/// process; `LWC_BACKEND=kernel|process` in the environment forces one.
///
/// # Errors
/// ENOSYS when the forced one is missing, with how to get it; EINVAL when
/// `LWC_BACKEND` says something else.
///
/// # Examples
/// ```
/// use lwc::Backend;
///
/// match lwc::backend()? {
///     Backend::Kernel => println!("a switch costs a system call"),
///     Backend::Process => println!("a switch costs a wake-up"),
///     other => println!("a switch costs what it does on {other}"),
/// }
/// # Ok::<(), lwc::Error>(())
/// ```
#[inline]
pub fn backend() -> Result<Backend> {
    // Each call of this crate asks.
    match CHOSEN.load(Ordering::Relaxed) {
        KERNEL => Ok(Backend::Kernel),
        PROCESS => Ok(Backend::Process),
        _ => first_choice(),
    }
}

/// What was chosen; anything else while nothing was, or nothing could be.
static CHOSEN: AtomicU8 = AtomicU8::new(0);
const KERNEL: u8 = 1;
const PROCESS: u8 = 2;

#[cold]
fn first_choice() -> Result<Backend> {
    static CHOICE: OnceLock<Result<Backend>> = OnceLock::new();
    let choice = CHOICE.get_or_init(|| choose(std::env::var("LWC_BACKEND").ok().as_deref()));
    match choice {
        Ok(Backend::Kernel) => CHOSEN.store(KERNEL, Ordering::Relaxed),
        Ok(Backend::Process) => CHOSEN.store(PROCESS, Ordering::Relaxed),
        Err(_) => {}
    }
    choice.clone()
}

/// Why there is no kernel backend here, if there is none.
fn kernel_missing() -> Option<&'static str> {
    #[cfg(target_os = "freebsd")]
    return kernel::missing();
    #[cfg(not(target_os = "freebsd"))]
    Some(answers::NO_MODULE)
}

fn choose(wish: Option<&str>) -> Result<Backend> {
    let error = |errno, what: String| Err(Error::new("LWC_BACKEND", errno, what));
    let missing = kernel_missing();
    let process_here = cfg!(target_os = "linux");
    match (wish.unwrap_or(""), missing) {
        ("" | "kernel", None) => Ok(Backend::Kernel),
        ("" | "process", _) if process_here => Ok(Backend::Process),
        ("", Some(why)) | ("kernel", Some(why)) => error(Errno::ENOSYS, why.into()),
        ("process", _) => error(
            Errno::ENOSYS,
            "the process backend is for Linux so far; load lwc.ko (kldload lwc)".into(),
        ),
        (other, _) => error(
            Errno::EINVAL,
            format!("{other:?} is no backend; say \"kernel\" or \"process\""),
        ),
    }
}

/// Requests that other contexts serve the current one, whoever it is; not those
/// that its end of the backend refuses by itself, which hostile code would not.
/// Who is served (by the descriptor), and the request's number. For an audit: it
/// makes all of them. On the kernel backend contexts make no requests.
///
/// # Errors
/// EBUSY when another thread is in a call.
#[doc(hidden)]
pub fn requests_served() -> Result<Vec<(RawFd, u64)>> {
    match backend()? {
        Backend::Kernel => Ok(Vec::new()),
        #[cfg(target_os = "linux")]
        Backend::Process => process::served(),
        #[cfg(not(target_os = "linux"))]
        Backend::Process => Ok(Vec::new()),
    }
}

/// One function of each backend under one name.
macro_rules! dispatch {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty;)*) => {$(
        #[inline(always)]
        pub(crate) fn $name($($arg: $ty),*) -> $ret {
            match backend()? {
                Backend::Kernel => kernel::$name($($arg),*),
                Backend::Process => process::$name($($arg),*),
            }
        }
    )*};
}

dispatch! {
    lw_create(specs: &[Spec], flags: u32) -> Result<Returned>;
    lw_switch(to: RawFd, words: &[u64], deadline: Option<MonotonicTime>) -> Result<Event>;
    lw_restrict(of: Option<RawFd>, specs: &[Spec]) -> Result<()>;
    lw_overlay(source: Option<RawFd>, specs: &[Spec]) -> Result<()>;
    lw_info(of: Option<RawFd>) -> Result<Facts>;
    lw_syscall(target: RawFd, mask: u32, number: i64, args: &[u64; lwc_sys::LWC_CALL_NARGS as usize]) -> Result<u64>;
    read_memory(of: RawFd, at: u64, into: &mut [u8]) -> Result<()>;
    write_memory(of: RawFd, at: u64, from: &[u8]) -> Result<()>;
    lw_getlwc() -> Result<RawFd>;
    lw_dup(fd: RawFd) -> Result<RawFd>;
    lw_close(fd: RawFd) -> Result<()>;
    names(fd: RawFd) -> Result<()>;
    await_switch(deadline: MonotonicTime) -> Result<Event>;
    destroy(fd: RawFd, wait: bool) -> Result<()>;
    introduce(to: RawFd, whom: RawFd) -> Result<RawFd>;
    parked(of: RawFd) -> Result<bool>;
    parked_together(of: &[RawFd], wait: bool) -> Result<Vec<bool>>;
    come_to_rest(of: &[RawFd], since: MonotonicTime) -> Result<Vec<Rest>>;
    snapshot(fd: RawFd) -> Result<()>;
    roll_back(fd: RawFd) -> Result<u64>;
    rollback_support() -> Result<RollbackMeans>;
    confine(how: Confinement) -> Result<()>;
    show_share() -> Result<()>;
    catch_output(told: output::Told) -> Result<()>;
    catch_files(line: Option<RawFd>, numbers: Range<RawFd>, answer: files::Answer) -> Result<()>;
    catch_connections() -> Result<()>;
    allow_threads(most: u32) -> Result<()>;
    expect_threads(fd: RawFd) -> Result<()>;
    send_descriptor(line: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<()>;
    receive_descriptor(line: BorrowedFd<'_>) -> Result<OwnedFd>;
    limit_memory(bytes: u64) -> Result<()>;
    region_map(len: usize) -> Result<NonNull<u8>>;
    region_erase(addr: usize, len: usize) -> Result<()>;
    region_seal(addr: usize, len: usize) -> Result<()>;
    region_read_only(addr: usize, len: usize) -> Result<()>;
}

pub(crate) fn lw_discard_switch(to: RawFd, words: &[u64]) -> Error {
    match backend() {
        Ok(Backend::Kernel) => kernel::lw_discard_switch(to, words),
        Ok(Backend::Process) => process::lw_discard_switch(to, words),
        Err(e) => e,
    }
}

pub(crate) fn lent_descriptors() -> Range<RawFd> {
    match backend() {
        Ok(Backend::Process) => process::lent_descriptors(),
        Ok(Backend::Kernel) => kernel::lent_descriptors(),
        Err(_) => 3..3,
    }
}

pub(crate) fn answer(
    number: i64,
    args: [u64; 6],
) -> Option<std::result::Result<u64, crate::errno::Errno>> {
    match backend() {
        Ok(Backend::Process) => process::answer(number, args),
        Ok(Backend::Kernel) => kernel::answer(number, args),
        Err(_) => None,
    }
}

pub(crate) fn region_unmap(addr: usize, len: usize) {
    match backend() {
        Ok(Backend::Kernel) => kernel::region_unmap(addr, len),
        Ok(Backend::Process) => process::region_unmap(addr, len),
        Err(_) => {}
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_forced_backend_that_is_missing_says_how_to_get_it() {
        assert_eq!(choose(None).unwrap(), Backend::Process);
        let e = choose(Some("kernel")).unwrap_err();
        assert_eq!(e.cause(), Errno::ENOSYS);
        assert!(e.to_string().contains("kldload lwc"), "{e}");
        assert_eq!(choose(Some("vm")).unwrap_err().cause(), Errno::EINVAL);
    }
}
