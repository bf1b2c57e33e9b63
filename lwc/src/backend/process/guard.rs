//! The state of the current context, behind one lock; what fork(3) and exit(3)
//! do with it.

use super::root;
use super::state::mode;
use super::state::runtime::Runtime;
use super::state::signals;
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// The state; for the handler of trapped calls, which may not wait for it.
pub(crate) static STATE: Mutex<Option<Box<Runtime>>> = Mutex::new(None);

/// Whether this process is the root: clone(2) needs to know.
static ROOT: AtomicBool = AtomicBool::new(true);

pub(crate) fn is_root_process() -> bool {
    ROOT.load(Ordering::Relaxed)
}

pub(crate) fn set_root_process(root: bool) {
    ROOT.store(root, Ordering::Relaxed);
}

/// Whether fork(3) and exit(3) know of us.
static HOOKED: AtomicBool = AtomicBool::new(false);

/// The state, made on first use. EBUSY inside a signal handler that has
/// interrupted one of our own calls.
pub(crate) struct Guard(MutexGuard<'static, Option<Box<Runtime>>>);

impl Guard {
    pub(crate) fn get(call: &'static str) -> Result<Self> {
        let mut guard = match STATE.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                // (Where there may be threads nobody makes a call in the middle of one: the
                // backend's own are none of those that are answered by a handler.)
                if !mode::has_threads() && single_threaded() {
                    return Err(Error::new(
                        call,
                        Errno::EBUSY,
                        "called from a signal handler in the middle of another call",
                    ));
                }
                STATE
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
            }
        };
        if guard.is_none() {
            *guard = Some(Box::new(Runtime::root().map_err(|e| e.of(call))?));
            hook();
        }
        Ok(Self(guard))
    }

    /// For calls that a process with several threads is refused (1.5), unless it was
    /// allowed some: then whoever calls has the context for itself until it is back.
    pub(crate) fn alone(call: &'static str) -> Result<Self> {
        if !mode::has_threads() && !single_threaded() {
            return Err(Error::new(
                call,
                Errno::EBUSY,
                "the process has more than one thread; contexts belong to processes with one (see the README, limits)",
            ));
        }
        Self::get(call)
    }

    pub(crate) fn rt(&mut self) -> &mut Runtime {
        // Filled by `get`, and emptied only by fork(2) in the child.
        self.0.as_mut().expect("the state is filled on entry")
    }
}

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// glibc: not zero while the process has had one thread only.
    static mut __libc_single_threaded: libc::c_char;
}

/// Whether the process has one thread. The C library's own flag answers in
/// the common case; once there have been more, the kernel is asked.
pub(crate) fn single_threaded() -> bool {
    #[cfg(target_env = "gnu")]
    // SAFETY: a plain char that the C library keeps for programs to read.
    if unsafe { (&raw const __libc_single_threaded).read() } != 0 {
        return true;
    }
    // In the strict sandbox that would be a call that names a file.
    if mode::stays_alone() {
        return true;
    }
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // "pid (comm) state ppid …": field 20 is num_threads; comm may hold
    // anything, so count from its closing parenthesis.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(17))
        .is_none_or(|n| n == "1")
}

/// Once in a program: a forked child inherits both.
fn hook() {
    if !HOOKED.swap(true, Ordering::Relaxed) {
        // SAFETY: functions of the program, without arguments.
        unsafe {
            libc::pthread_atfork(None, None, Some(after_fork));
            libc::atexit(at_exit);
        }
    }
}

/// After fork(2) the child is a process of its own, with the current context
/// as its root and no context descriptors (6.3).
extern "C" fn after_fork() {
    signals::forget();
    set_root_process(true);
    let mut guard = match STATE.try_lock() {
        Ok(g) => g,
        Err(TryLockError::Poisoned(p)) => p.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    if let Some(mut rt) = guard.take() {
        for c in std::mem::take(&mut rt.channels).into_iter().flatten() {
            // Pages were not inherited; doorbells that were stay mapped.
            c.disown(false);
        }
        drop(rt.bell_fd.take());
        drop(rt.keeper.take());
        // Shared memory stays as it is (6.3), and known.
        let objects = std::mem::take(&mut rt.objects);
        std::mem::forget(rt);
        if let Ok(mut fresh) = Runtime::root() {
            fresh.objects = objects;
            *guard = Some(Box::new(fresh));
        }
    }
}

/// A root that exits takes its contexts along and leaves no zombie.
extern "C" fn at_exit() {
    if !is_root_process() {
        return;
    }
    if let Ok(mut guard) = STATE.try_lock()
        && let Some(rt) = guard.as_mut()
        // SAFETY: getpid has no preconditions.
        && rt.root_pid == unsafe { libc::getpid() }
    {
        root::end::kill_all(rt);
    }
}
