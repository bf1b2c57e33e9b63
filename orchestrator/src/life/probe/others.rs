//! Attempts on what is outside of contexts: the environment, other processes,
//! files.

use std::ffi::{CStr, CString, c_char};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Where the kernel put the strings of the environment.
static STRINGS: Mutex<Option<Range<usize>>> = Mutex::new(None);

pub(super) fn note_strings() {
    #[cfg(target_os = "linux")]
    if let (Ok(mut strings), Some(area)) = (STRINGS.lock(), super::super::environment::area()) {
        *strings = Some(area);
    }
}

/// What there is in `environ`.
pub(super) fn variables() -> impl Iterator<Item = &'static CStr> {
    // SAFETY: null or an array of pointers to texts that ends with null, which nobody
    // changes meanwhile (one thread).
    let mut at = unsafe { environ };
    std::iter::from_fn(move || {
        // SAFETY: as above; not past the end.
        unsafe {
            if at.is_null() || (*at).is_null() {
                return None;
            }
            let variable = CStr::from_ptr(*at);
            at = at.add(1);
            Some(variable)
        }
    })
}

/// What there is of an environment: variables, and bytes that are not zero where the
/// kernel put the strings of the one that is gone.
pub(super) fn environment() -> u64 {
    let mut found = variables().count() as u64;
    let strings = STRINGS.lock().map(|s| s.clone()).unwrap_or_default();
    for at in strings.into_iter().flatten() {
        if super::can_read(at & !7) {
            // SAFETY: it can be read (asked just now, one thread).
            found += u64::from(unsafe { *(at as *const u8) } != 0);
        }
    }
    found
}

/// Set when a call of an attempt was trapped instead of being made.
static TRAPPED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_trap(_: i32) {
    TRAPPED.store(true, Ordering::Relaxed);
}

/// sigaction(2), of SIGSYS: past FreeBSD's libthr, which knows no handler that was installed
/// past it, as the sandbox's is, and would put none back.
///
/// # Safety
/// Of sigaction(2).
unsafe fn set_action(new: *const libc::sigaction, old: *mut libc::sigaction) {
    /// Its number (sys/syscall.h), which never changes.
    #[cfg(target_os = "freebsd")]
    const SIGACTION: libc::c_int = 416;
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_os = "linux")]
        libc::sigaction(libc::SIGSYS, new, old);
        #[cfg(target_os = "freebsd")]
        libc::syscall(SIGACTION, libc::SIGSYS, new, old);
    }
}

/// Runs attempts that the sandbox may answer with SIGSYS, and lives.
fn attempting<T>(attempts: impl FnOnce() -> T) -> T {
    // SAFETY: the handler touches an atomic alone; the action that was there is
    // put back.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let mut before: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        set_action(&raw const action, &raw mut before);
        let result = attempts();
        set_action(&raw const before, std::ptr::null_mut());
        result
    }
}

/// Whether a call was made and succeeded.
fn worked(call: impl FnOnce() -> i64) -> bool {
    TRAPPED.store(false, Ordering::Relaxed);
    let result = call();
    // What a trapped call returns means nothing.
    result >= 0 && !TRAPPED.load(Ordering::Relaxed)
}

/// Processes beside this one: its parent, which is the root where contexts are
/// processes, and those made about the same time, contexts and workers.
fn neighbours() -> impl Iterator<Item = i32> {
    // SAFETY: neither call has preconditions.
    let (own, parent) = unsafe { (libc::getpid(), libc::getppid()) };
    std::iter::once(parent)
        .chain((own - 64).max(2)..own + 64)
        .filter(move |&pid| pid != own)
}

/// How many other processes a signal can be sent to (signal 0: whether it could
/// be), or be named in another way that would do.
pub(super) fn signals() -> u64 {
    attempting(|| {
        let reached = neighbours().filter(|&pid| {
            // SAFETY: signal 0 is none; the calls touch no memory of ours.
            unsafe {
                worked(|| i64::from(libc::kill(pid, 0)))
                    || cfg!(target_os = "linux") && {
                        #[cfg(target_os = "linux")]
                        let named = worked(|| libc::syscall(libc::SYS_tgkill, pid, pid, 0))
                            || worked(|| libc::syscall(libc::SYS_tkill, pid, 0))
                            || worked(|| libc::syscall(libc::SYS_pidfd_open, pid, 0))
                            || worked(|| libc::syscall(libc::SYS_ptrace, 16, pid, 0, 0));
                        #[cfg(not(target_os = "linux"))]
                        let named = false;
                        named
                    }
            }
        });
        reached.count() as u64
    })
}

/// How many threads can be made, to be there at the same time. Of one that is granted
/// none it is tried whether the sandbox lets the call through; nothing would come of it
/// then, for it is given an address that is none.
#[cfg(target_os = "linux")]
pub(super) fn threads(granted: bool) -> u64 {
    if !granted {
        return attempting(|| {
            let [flags, _] = lwc::THREAD;
            let mut id = 0u32;
            let at = &raw mut id;
            TRAPPED.store(false, Ordering::Relaxed);
            // SAFETY: the base of thread-local storage is no address of a process's, for
            // which the kernel refuses the call (EPERM): there is no new thread, which
            // would have no stack.
            unsafe { libc::syscall(libc::SYS_clone, flags, 0, at, at, u64::MAX) };
            u64::from(!TRAPPED.load(Ordering::Relaxed))
        });
    }
    let end = std::sync::Arc::new(AtomicBool::new(false));
    let mut all = Vec::new();
    for _ in 0..=64 {
        let end = std::sync::Arc::clone(&end);
        let small = std::thread::Builder::new().stack_size(64 << 10);
        let made = small.spawn(move || {
            while !end.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        });
        match made {
            Ok(thread) => all.push(thread),
            Err(_) => break,
        }
    }
    end.store(true, Ordering::Relaxed);
    let count = all.len() as u64;
    for thread in all {
        let _ = thread.join();
    }
    count
}

/// There are none.
#[cfg(not(target_os = "linux"))]
pub(super) fn threads(_granted: bool) -> u64 {
    0
}

/// How many files can be opened, to read or to write: of the system, and what
/// /proc has of this and other processes.
pub(super) fn files() -> u64 {
    let mut paths: Vec<String> = ["/", "/etc/passwd", "/dev/null", "/tmp", "."]
        .map(str::to_owned)
        .into();
    let own = std::iter::once("self".to_owned());
    for pid in own.chain(neighbours().take(9).map(|pid| pid.to_string())) {
        for name in ["mem", "environ", "maps", "status", "fd/0", "fd/3"] {
            paths.push(format!("/proc/{pid}/{name}"));
        }
    }
    let paths = paths.into_iter().filter_map(|p| CString::new(p).ok());
    attempting(|| {
        let opened = paths.filter(|path| {
            [libc::O_RDONLY, libc::O_RDWR].into_iter().any(|how| {
                // SAFETY: the path is NUL-terminated.
                worked(|| i64::from(unsafe { libc::open(path.as_ptr(), how | libc::O_CLOEXEC) }))
            })
        });
        opened.count() as u64
    })
}
