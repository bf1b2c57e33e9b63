//! System calls by number, and monitors that answer them.

use lwc::{Errno, Event, Handle, Resources, TrappedCall};

/// Numbers of system calls, under the names of `libc`, which has none for
/// FreeBSD. Each is the one that the C library makes.
#[cfg(target_os = "linux")]
mod number {
    pub use libc::{
        SYS_brk, SYS_chdir, SYS_close, SYS_dup, SYS_execve, SYS_exit, SYS_exit_group, SYS_geteuid,
        SYS_getpid, SYS_getppid, SYS_getuid, SYS_lseek, SYS_madvise, SYS_mmap, SYS_mprotect,
        SYS_mremap, SYS_munmap, SYS_openat, SYS_pwrite64 as SYS_pwrite, SYS_read, SYS_setuid,
        SYS_umask, SYS_write,
    };
    /// The call by which fork(3) makes a process.
    pub const FORK: i64 = libc::SYS_clone;
    /// The call that ends the process.
    pub const EXIT: i64 = libc::SYS_exit_group;
}

/// From FreeBSD's sys/syscall.h, which keeps its numbers for ever.
#[cfg(target_os = "freebsd")]
#[allow(non_upper_case_globals, missing_docs)]
mod number {
    pub const SYS_exit: i64 = 1;
    pub const SYS_fork: i64 = 2;
    pub const SYS_read: i64 = 3;
    pub const SYS_write: i64 = 4;
    pub const SYS_close: i64 = 6;
    pub const SYS_chdir: i64 = 12;
    pub const SYS_getpid: i64 = 20;
    pub const SYS_setuid: i64 = 23;
    pub const SYS_getuid: i64 = 24;
    pub const SYS_geteuid: i64 = 25;
    pub const SYS_getppid: i64 = 39;
    pub const SYS_dup: i64 = 41;
    pub const SYS_execve: i64 = 59;
    pub const SYS_umask: i64 = 60;
    pub const SYS_munmap: i64 = 73;
    pub const SYS_mprotect: i64 = 74;
    pub const SYS_madvise: i64 = 75;
    pub const SYS_pwrite: i64 = 476;
    pub const SYS_mmap: i64 = 477;
    pub const SYS_lseek: i64 = 478;
    pub const SYS_openat: i64 = 499;
    /// The call by which fork(3) makes a process.
    pub const FORK: i64 = SYS_fork;
    /// The call that ends the process.
    pub const EXIT: i64 = SYS_exit;
}

pub use number::*;

/// A system call without the C library's wrapper; -1 and errno on failure.
///
/// # Safety
/// That of the call.
pub unsafe fn raw(number: i64, a: [u64; 6]) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        #[allow(clippy::useless_conversion)] // an int on FreeBSD
        i64::from(libc::syscall(
            number as _,
            a[0],
            a[1],
            a[2],
            a[3],
            a[4],
            a[5],
        ))
    }
}

/// getppid(2), made as such.
pub fn getppid() -> u64 {
    // SAFETY: no arguments, no effect.
    unsafe { raw(SYS_getppid, [0; 6]) as u64 }
}

/// Whether a call is about the caller's own memory alone, as the C library's
/// allocator makes them.
pub fn is_of_memory(number: i64) -> bool {
    #[cfg(target_os = "linux")]
    if number == SYS_brk || number == SYS_mremap {
        return true;
    }
    [SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise].contains(&number)
}

/// Runs a call of its own memory for a trapped context.
pub fn run_for(call: &TrappedCall) -> Result<u64, Errno> {
    let count = if cfg!(target_os = "linux") { 6 } else { 8 };
    let both = Resources::MEMORY | Resources::FILES;
    // SAFETY: it changes the memory of a context that shares none with us.
    unsafe { call.from.syscall(both, call.number, &call.args[..count]) }.map_err(|e| e.errno())
}

/// Whether a call gives a context's descriptor up, on the kernel backend,
/// where that is close(2).
fn is_of_contexts(number: i64) -> bool {
    number == SYS_close && !crate::kit::of_processes()
}

/// Switches, and answers the calls that come back by `policy`, but those of
/// its own memory and contexts, which are run, until something else comes.
pub fn monitored(
    to: Handle,
    words: &[u64],
    mut policy: impl FnMut(&TrappedCall) -> Result<u64, Errno>,
) -> Event {
    let mut event = to.switch(words).expect("switching there");
    while let Event::Called(call) = event {
        let result = if is_of_memory(call.number) || is_of_contexts(call.number) {
            run_for(&call)
        } else {
            policy(&call)
        };
        event = call.answer(result).expect("answering");
    }
    event
}

/// The next trapped call that is not about memory.
pub fn next_call(mut event: Event) -> TrappedCall {
    loop {
        match event {
            Event::Called(call) if is_of_memory(call.number) => {
                event = call.answer(run_for(&call)).expect("answering");
            }
            Event::Called(call) => return call,
            other => panic!("no call but {other:?}"),
        }
    }
}
