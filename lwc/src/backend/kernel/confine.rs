//! The sandbox and the memory limit of a context on the kernel backend.
//!
//! Capability mode (cap_enter(2)) takes away every name outside the context;
//! `LWC_CONTROL_ALLOW` (lwControl(2)) then takes away what capability mode
//! leaves that harms the process within: processes and threads, timers and
//! signals that reach other contexts, sockets of its own. Calls are in the list because a
//! function computes with them, or because honest code tries them and bears a
//! refusal, which capability mode gives (ECAPMODE). All else ends the context
//! with SIGSYS. Where numbers stand for no descriptor, calls on them are in the
//! list for those below (`LWC_CONTROL_BELOW`); what receives descriptors is in it from the
//! number of the line on (`LWC_CONTROL_FROM`), behind which a context gets no socket.
//!
//! Resource limits belong to a context there, so RLIMIT_AS is one context's.

use super::files::limit_what_is_lent;
use super::handler;
use super::numbers::{CAUGHT, CLOSE, CONNECTED, FROM_LINE, LENT, ON_NUMBERS, WRITE, WRITEV};
use crate::backend::files;
use crate::backend::output::is_caught;
use crate::error::{Error, Result};
use crate::flags::Confinement;
use lwc_sys::{
    LWC_CONTROL_ALLOW, LWC_CONTROL_BELOW, LWC_CONTROL_FROM, LWC_SELF, lwc_below, lwc_calls,
    lwc_from,
};
use nix::errno::Errno;
use std::os::fd::RawFd;

/// FreeBSD's numbers (sys/syscall.h), which never change: the libc crate has
/// none. sigsuspend(2) and its like are left out on purpose: a wait there has
/// no end (lwControl(2), BUGS).
const LIST: &[(u16, &str)] = &[
    (1, "exit"),
    (3, "read"),
    (4, "write"),
    (6, "close"),
    (20, "getpid"),
    (24, "getuid"),
    (25, "geteuid"),
    (39, "getppid"),
    (43, "getegid"),
    (47, "getgid"),
    (53, "sigaltstack"),
    (54, "ioctl"),
    (73, "munmap"),
    (74, "mprotect"),
    (75, "madvise"),
    (78, "mincore"),
    (92, "fcntl"),
    (116, "gettimeofday"),
    (117, "getrusage"),
    (120, "readv"),
    (121, "writev"),
    (194, "getrlimit"),
    (195, "setrlimit"),
    (202, "__sysctl"),
    (203, "mlock"),
    (204, "munlock"),
    (232, "clock_gettime"),
    (234, "clock_getres"),
    (240, "nanosleep"),
    (244, "clock_nanosleep"),
    (250, "minherit"),
    (253, "issetugid"),
    (331, "sched_yield"),
    (340, "sigprocmask"),
    (343, "sigpending"),
    (416, "sigaction"),
    (417, "sigreturn"),
    (421, "getcontext"),
    (422, "setcontext"),
    (432, "thr_self"),
    (433, "thr_kill"), // of itself: abort(3)
    (454, "_umtx_op"),
    (477, "mmap"),
    (478, "lseek"),
    (487, "cpuset_getaffinity"),
    (516, "cap_enter"), // again, with a shorter list
    (551, "fstat"),
    (563, "getrandom"),
    (570, "__sysctlbyname"),
    (573, "sigfastblock"),
    (575, "close_range"),
    // Tried by honest code, refused by capability mode.
    (5, "open"),
    (10, "unlink"),
    (12, "chdir"),
    (33, "access"),
    (58, "readlink"),
    (128, "rename"),
    (136, "mkdir"),
    (326, "__getcwd"),
    (489, "faccessat"),
    (499, "openat"),
    (500, "readlinkat"),
    (552, "fstatat"),
];

/// Of the module's own calls: lwSyscall is nobody's in a sandbox.
fn own_calls(how: Confinement) -> Result<Vec<i32>> {
    let Some(all) = lwc_sys::numbers() else {
        return Err(Error::last("confine", "lwc.ko is not loaded"));
    };
    let [
        create,
        switch,
        discard,
        restrict,
        overlay,
        _,
        getlwc,
        info,
        control,
    ] = all;
    let mut own = vec![switch, discard, restrict, overlay, getlwc, info, control];
    if how == Confinement::Creator {
        own.push(create);
    }
    Ok(own)
}

/// Such calls, by number.
fn set_of(numbers: impl Iterator<Item = usize>) -> lwc_calls {
    let mut set = lwc_calls { calls: [0; 16] };
    for number in numbers {
        set.calls[number / 64] |= 1 << (number % 64);
    }
    set
}

/// Narrows what calls the current context makes, by what a command of lwControl(2) reads.
fn narrow<T>(command: u32, given: &T, what: &'static str) -> Result<()> {
    let given = std::ptr::from_ref(given) as u64;
    // SAFETY: what is given outlives the call, which reads it.
    match unsafe { lwc_sys::lwControl(LWC_SELF, command as i32, given) } {
        0 => Ok(()),
        _ => Err(Error::last("confine", what)),
    }
}

/// Has these calls let through with a first argument below this alone; its list says which
/// of them are at all. Numbers from there on no descriptor has.
fn only_below(calls: lwc_calls, first: RawFd) -> Result<()> {
    let below = lwc_below {
        calls,
        // (catch_files takes none that are lower than 4096.)
        limit: first as u64,
    };
    narrow(LWC_CONTROL_BELOW, &below, "calls on descriptors alone")
}

/// Has these calls let through with this first argument, and higher ones, alone.
fn only_from(calls: lwc_calls, first: RawFd) -> Result<()> {
    let from = lwc_from {
        calls,
        // (It is open, so it is not negative.)
        least: first as u64,
    };
    narrow(
        LWC_CONTROL_FROM,
        &from,
        "what is received, by the line alone",
    )
}

/// Capability mode, and the list, of the current context.
pub(crate) fn confine(how: Confinement) -> Result<()> {
    let own = own_calls(how)?;
    // In a context that makes others its host's code alone runs, which asks nobody.
    let are_files_caught = files::are_caught() && how == Confinement::Strict;
    let not_made = |number: u16| {
        is_caught() && (number == WRITE || number == WRITEV)
            || are_files_caught && CAUGHT.contains(&number)
            || are_files_caught && files::connections() && number == CLOSE
    };
    let lent = match files::line() {
        Some(_) => LENT,
        None => &[],
    };
    let connected = match files::connections() {
        true => CONNECTED,
        false => &[],
    };
    let listed = LIST
        .iter()
        .map(|&(number, _)| number)
        .chain(lent.iter().chain(connected).copied());
    let listed = listed.filter(|&number| !not_made(number)).map(usize::from);
    let set = set_of(listed.chain(own.iter().map(|&n| n as usize)));
    if let Some(line) = files::line() {
        // It lies behind all numbers at which the context gets sockets: see `catch_files`,
        // and `limit_what_is_lent`.
        only_from(set_of(FROM_LINE.iter().copied().map(usize::from)), line)?;
    }
    if are_files_caught {
        handler::install("confine")?;
        limit_what_is_lent()?;
        let numbers = files::numbers();
        if !numbers.is_empty() {
            let calls = set_of(ON_NUMBERS.iter().copied().map(usize::from));
            only_below(calls, numbers.start)?;
        }
    }
    // SAFETY: cap_enter has no arguments.
    if unsafe { libc::cap_enter() } != 0 {
        return Err(Error::last("confine", "cap_enter"));
    }
    narrow(LWC_CONTROL_ALLOW, &set, "lwControl")
}

/// The size of the current context's address space.
fn address_space() -> Result<u64> {
    let mut name = [
        libc::CTL_KERN,
        libc::KERN_PROC,
        libc::KERN_PROC_PID,
        // SAFETY: getpid has no arguments.
        unsafe { libc::getpid() },
    ];
    // SAFETY: kinfo_proc is integers, arrays and pointers that may be null;
    // the kernel writes at most the size it is told.
    unsafe {
        let mut info: libc::kinfo_proc = std::mem::zeroed();
        let mut len = size_of::<libc::kinfo_proc>();
        let rc = libc::sysctl(
            name.as_mut_ptr(),
            name.len() as u32,
            (&raw mut info).cast(),
            &raw mut len,
            std::ptr::null(),
            0,
        );
        if rc != 0 {
            return Err(Error::last("limit_memory", "the size of the address space"));
        }
        if len != size_of::<libc::kinfo_proc>() {
            return Err(Error::new(
                "limit_memory",
                Errno::EPROTO,
                "the kernel's kinfo_proc is not the one this program knows",
            ));
        }
        Ok(info.ki_size as u64)
    }
}

/// Nobody here counts shares.
pub(crate) fn show_share() -> Result<()> {
    Err(Error::new(
        "show_share",
        Errno::ENOTSUP,
        "the kernel backend counts no shares of pages",
    ))
}

/// RLIMIT_AS of the current context, at what it has and so many bytes more.
pub(crate) fn limit_memory(bytes: u64) -> Result<()> {
    let most = address_space()?.saturating_add(bytes) as libc::rlim_t;
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: setrlimit reads the struct.
    if unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) } != 0 {
        return Err(Error::last("limit_memory", format!("{bytes} bytes more")));
    }
    Ok(())
}
