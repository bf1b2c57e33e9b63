//! System calls by number: the one that probes make by hand, and the names of
//! those that functions are likely to try.

#[cfg(target_os = "freebsd")]
use numbers as libc;

/// rt_sigprocmask(2), without the C library's wrapper, which would touch the
/// memory itself.
#[cfg(target_os = "linux")]
pub(crate) const SIGPROCMASK: ::libc::c_long = ::libc::SYS_rt_sigprocmask;
/// sigprocmask(2), without the C library's wrapper, which would touch the
/// memory itself.
#[cfg(target_os = "freebsd")]
pub(crate) const SIGPROCMASK: ::libc::c_int = 340;

/// The kernel's signal set, in bytes.
pub(crate) const SIGNAL_SET: usize = if cfg!(target_os = "linux") { 8 } else { 16 };

/// FreeBSD's numbers, from its sys/syscall.h, which never change; the crate
/// libc does not have them.
#[cfg(target_os = "freebsd")]
#[allow(non_upper_case_globals)] // the names are the system's
mod numbers {
    pub(super) const SYS_fork: i64 = 2;
    pub(super) const SYS_ptrace: i64 = 26;
    pub(super) const SYS_kill: i64 = 37;
    pub(super) const SYS_execve: i64 = 59;
    pub(super) const SYS_vfork: i64 = 66;
    pub(super) const SYS_socket: i64 = 97;
    pub(super) const SYS_rfork: i64 = 251;
    pub(super) const SYS_thr_new: i64 = 455;
    pub(super) const SYS_fexecve: i64 = 492;
    pub(super) const SYS_pdfork: i64 = 518;
}

const KNOWN: &[(i64, &str)] = &[
    #[cfg(any(target_arch = "x86_64", target_os = "freebsd"))]
    (libc::SYS_fork, "fork"),
    #[cfg(any(target_arch = "x86_64", target_os = "freebsd"))]
    (libc::SYS_vfork, "vfork"),
    (libc::SYS_execve, "execve"),
    (libc::SYS_kill, "kill"),
    (libc::SYS_ptrace, "ptrace"),
    (libc::SYS_socket, "socket"),
    #[cfg(target_os = "linux")]
    (libc::SYS_clone, "clone: fork or a thread"),
    #[cfg(target_os = "linux")]
    (libc::SYS_clone3, "clone3: fork or a thread"),
    #[cfg(target_os = "linux")]
    (libc::SYS_tgkill, "tgkill"),
    #[cfg(target_os = "linux")]
    (libc::SYS_process_vm_readv, "process_vm_readv"),
    #[cfg(target_os = "linux")]
    (libc::SYS_process_vm_writev, "process_vm_writev"),
    #[cfg(target_os = "linux")]
    (libc::SYS_prlimit64, "prlimit64"),
    #[cfg(target_os = "freebsd")]
    (libc::SYS_rfork, "rfork"),
    #[cfg(target_os = "freebsd")]
    (libc::SYS_thr_new, "thr_new: a thread"),
    #[cfg(target_os = "freebsd")]
    (libc::SYS_fexecve, "fexecve"),
    #[cfg(target_os = "freebsd")]
    (libc::SYS_pdfork, "pdfork"),
];

/// A system call's name, for those that functions are likely to try.
pub(crate) fn name(number: u64) -> String {
    if number == 0 {
        // SIGSYS killed it with signals blocked, as libc has them while it makes a
        // thread or a process, and as they are while a call of its on a file is
        // answered: nothing could note the number.
        return "unknown: a thread or a process, likely, or abort(3) in a call on files".into();
    }
    KNOWN.iter().find(|(n, _)| *n as u64 == number).map_or_else(
        || format!("number {number}"),
        |(_, name)| (*name).to_owned(),
    )
}

/// Whether it may be the call by which a thread is made: clone(2), or one that is not
/// known ([`name`]).
pub(crate) fn may_be_of_thread(number: u64) -> bool {
    #[cfg(target_os = "linux")]
    let clone = [libc::SYS_clone, libc::SYS_clone3];
    #[cfg(not(target_os = "linux"))]
    let clone = [libc::SYS_thr_new];
    number == 0 || clone.iter().any(|&n| n as u64 == number)
}
