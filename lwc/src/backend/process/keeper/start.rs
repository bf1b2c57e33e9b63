//! How a keeper comes to be.

use super::service::{Keeping, end, main, means};
use crate::backend::process::wire::fds;
use crate::backend::process::wire::gate;
use crate::backend::process::wire::keep::{FILES, Means, Told, receive, send, why};
use crate::error::{Error, Result};
use nix::errno::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

const CALL: &str = "lwCreate";

/// All that a keeper calls. Its end is what anything else is.
const CALLS: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_wait4,
    libc::SYS_ioctl,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_ppoll,
    libc::SYS_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_getrandom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_close,
    libc::SYS_exit_group,
];

/// A keeper with its stack: so much of it.
const STACK: usize = 256 * 1024;

fn own(number: libc::c_long, args: [u64; 4]) -> i64 {
    let [a, b, c, d] = args;
    // SAFETY: the calls below, each with what it wants.
    unsafe { gate::own([number as u64, a, b, c, d, 0, 0]) }
}

/// Forks one. The creator's end of the line to it, its process, and how the kernel
/// tells it what its copies write.
///
/// # Errors
/// ENOTSUP where the kernel lacks what it takes, with what it is.
pub(crate) fn start() -> Result<(OwnedFd, i32, Means)> {
    let mut ends = [-1; 2];
    // SAFETY: writes the two descriptors that it makes.
    let made = unsafe {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr())
    };
    if made != 0 {
        return Err(Error::last(CALL, "a line to the keeper of snapshots"));
    }
    // SAFETY: made just now, for us alone.
    let [here, there] = ends.map(|fd| unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) });
    let (here, there): (OwnedFd, OwnedFd) = (fds::duplicate(here)?, there);
    // Who speaks is the kernel's word.
    let yes = 1i32;
    // SAFETY: reads the local.
    let named = unsafe {
        libc::setsockopt(
            there.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSCRED,
            (&raw const yes).cast(),
            size_of_val(&yes) as libc::socklen_t,
        )
    };
    if named != 0 {
        return Err(Error::last(CALL, "a line to the keeper of snapshots"));
    }
    let (all, mut old) = (u64::MAX, 0u64);
    let mask = |set: *const u64, old: *mut u64| {
        let how = libc::SIG_SETMASK as u64;
        own(libc::SYS_rt_sigprocmask, [how, set as u64, old as u64, 8]);
    };
    mask(&raw const all, &raw mut old);
    // A child whose end is told by no signal: nobody who waits for children of
    // their own sees it.
    let pid = own(libc::SYS_clone, [0; 4]);
    if pid == 0 {
        become_keeper(there.as_raw_fd());
    }
    mask(&raw const old, std::ptr::null_mut());
    drop(there);
    if pid < 0 {
        return Err(Error::new(
            CALL,
            Errno::from_raw(-pid as i32),
            "forking a keeper of snapshots",
        ));
    }
    let failed = |e: i32| {
        let errno = Errno::from_raw(e);
        Error::new(CALL, errno, "the keeper of snapshots did not come to life")
    };
    let told = receive::<Told>(here.as_raw_fd(), 0).map_err(failed)?.words;
    match told.errno as i32 {
        0 => {
            let means = Means::of(told.value).ok_or_else(|| failed(libc::EPROTO))?;
            Ok((here, pid as i32, means))
        }
        _ if told.why == why::LACKS => Err(Error::new(CALL, Errno::ENOTSUP, lack(told.value))),
        e => Err(failed(e)),
    }
}

/// In words.
fn lack(what: u64) -> String {
    use crate::backend::process::wire::keep::lacks::*;
    let bits = if what & BITS_TOO != 0 {
        "; nor are there soft-dirty bits (CONFIG_MEM_SOFT_DIRTY, and /proc/self/clear_refs)"
    } else if what & BITS_LIE != 0 {
        "; its soft-dirty bits, which would do as well, do not tell of every write here: a mistake of this kernel"
    } else {
        ""
    };
    let what = match what & !(BITS_TOO | BITS_LIE) {
        USERFAULTFD => {
            "rollback in place needs userfaultfd(2) for ordinary users (UFFD_USER_MODE_ONLY), which the kernel has not or a sandbox refuses: allow the call, as Docker's default profile does not"
        }
        WRITE_PROTECT => {
            "rollback in place needs asynchronous write-protection by userfaultfd: Linux 6.7 or newer"
        }
        PAGEMAP => "rollback in place needs /proc/self/pagemap: mount /proc",
        BLIND => {
            "rollback in place needs Linux 6.7 or newer for a creator that has private memory which may be dropped (MADV_FREE) or be merged with others' (MADV_MERGEABLE), huge pages from a pool or a device's memory: older kernels' soft-dirty bits do not tell of every write there"
        }
        PAGEMAP_SCAN => "rollback in place needs the ioctl PAGEMAP_SCAN: Linux 6.7 or newer",
        _ => {
            "rollback in place needs ptrace(2), on x86-64 with pages of 4 KiB: allow the call (kernel.yama.ptrace_scope at most 1)"
        }
    };
    format!("{what}{bits}")
}

/// The new process: it leaves all that was its maker's, enters a sandbox of its
/// own, and a stack of its own.
fn become_keeper(sock: RawFd) -> ! {
    // SAFETY: opens files, with names that are texts; the process can be looked
    // into by others of its user while it opens its own page map, which is its
    // maker's otherwise as well.
    let [maps, map, clear_refs, flags] = unsafe {
        let maps = libc::open(MAPS.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
        let map = libc::open(PAGE_MAP.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        let clear_refs = libc::open(CLEAR_REFS.0.as_ptr(), CLEAR_REFS.1);
        let flags = libc::open(MAPS_WITH_FLAGS.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"lwc-keeper".as_ptr(), 0, 0, 0);
        [maps, map, clear_refs, flags]
    };
    let means = means(map, clear_refs, flags);
    let mut keep = [sock, maps, map];
    keep.sort_unstable();
    fds::close_except(0, u32::MAX, &keep);
    let ready = match (means, sandbox()) {
        (Ok(means), true) => Ok(means),
        (Err(what), _) => Err((why::LACKS, what)),
        (Ok(_), false) => Err((why::CALL, 0)),
    };
    let means = match ready {
        Ok(means) => means,
        Err((why, value)) => {
            let told = Told {
                errno: libc::ENOTSUP as u64,
                why,
                value,
                broken: 0,
            };
            let _ = send(sock, &told, &[]);
            end()
        }
    };
    // SAFETY: a new shared mapping, which no neighbour becomes one with, for the
    // stack, whose first words are what the keeper begins with.
    unsafe {
        let stack = libc::mmap(
            std::ptr::null_mut(),
            STACK,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if stack == libc::MAP_FAILED {
            end();
        }
        let keeping = stack.cast::<Keeping>();
        keeping.write(Keeping {
            means,
            sock,
            maps,
            map,
        });
        on_stack(stack.byte_add(STACK).cast(), keeping)
    }
}

/// Goes on elsewhere.
///
/// # Safety
/// `top` is the end of a stack that nobody uses.
#[cfg(target_arch = "x86_64")]
unsafe fn on_stack(top: *mut u8, keeping: *const Keeping) -> ! {
    // SAFETY: the caller's promise; `main` never returns.
    unsafe {
        std::arch::asm!(
            "mov rsp, {top}",
            "xor ebp, ebp",
            "call {main}",
            "ud2",
            top = in(reg) top,
            main = sym main,
            in("rdi") keeping,
            options(noreturn),
        )
    }
}

/// Only what it needs from now on. SIGCHLD ends a wait for whoever it may be;
/// SIGALRM, which comes every second while the keeper does something, one for a
/// copy to stop: it is blocked otherwise, and its timer rests while it waits to be
/// let through.
fn sandbox() -> bool {
    super::trace::interrupt_by(libc::SIGCHLD);
    super::trace::interrupt_every(Duration::from_secs(1));
    let alarm = 1u64 << (libc::SIGALRM - 1);
    let how = libc::SIG_UNBLOCK as u64;
    own(
        libc::SYS_rt_sigprocmask,
        [how, &raw const alarm as u64, 0, 8],
    );
    let rules = CALLS.iter().map(|&n| (n, Vec::new())).collect();
    let program: std::result::Result<BpfProgram, _> = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )
    .and_then(TryInto::try_into);
    program.is_ok_and(|p| seccompiler::apply_filter(&p).is_ok())
}

static MAPS: &std::ffi::CStr = c"/proc/self/maps";
static PAGE_MAP: &std::ffi::CStr = c"/proc/self/pagemap";
static MEMORY: &std::ffi::CStr = c"/proc/self/mem";
static MAPS_WITH_FLAGS: &std::ffi::CStr = c"/proc/self/smaps";
static STATUS: &std::ffi::CStr = c"/proc/self/status";
static SIZE: &std::ffi::CStr = c"/proc/self/statm";
static DESCRIPTORS: &std::ffi::CStr = c"/proc/self/fd";

/// By which its soft-dirty bits are cleared; where these tell what it wrote the last
/// of what a context hands over.
pub(crate) static CLEAR_REFS: (&std::ffi::CStr, i32) =
    (c"/proc/self/clear_refs", libc::O_WRONLY | libc::O_CLOEXEC);

/// Flags with which a context opens its own memory.
const WRITE: i32 = libc::O_RDWR | libc::O_CLOEXEC;
const READ: i32 = libc::O_RDONLY | libc::O_CLOEXEC;

/// What a context hands over, and how it opens it. The addresses of the names are
/// all that its sandbox can compare.
pub(crate) static OWN_FILES: [(&std::ffi::CStr, i32); FILES - 1] = [
    (MAPS, READ),
    (PAGE_MAP, READ),
    (MEMORY, WRITE),
    (MAPS_WITH_FLAGS, READ),
    (STATUS, READ),
    (SIZE, READ),
    (DESCRIPTORS, READ | libc::O_DIRECTORY),
];
