//! What system calls touch: whose process lwSyscall has to run them in, and
//! what it has to move there.

use lwc_sys::{LWC_CREDENTIALS as C, LWC_FILES as F, LWC_MEMORY as M};

/// What a call touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// `LWC_MEMORY` and so on.
    pub(crate) touches: u32,
    /// Arguments that are descriptors, one bit each.
    pub(crate) fds: u8,
    /// Its result is a new descriptor.
    pub(crate) makes: bool,
    /// It needs no more of the table than those descriptors: it can run in
    /// another process that has been lent them.
    pub(crate) movable: bool,
}

/// What is known of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It ends, replaces or multiplies the process, or changes what makes a
    /// context one: EINVAL (contract 7.2).
    Refused,
    /// It acts on the flow of control that makes it: the caller's.
    Callers,
    Shape(Shape),
}

const fn shape(touches: u32, fds: u8, makes: bool, movable: bool) -> Known {
    Known::Shape(Shape {
        touches,
        fds,
        makes,
        movable,
    })
}

/// Uses descriptors, and memory.
const fn with(fds: u8) -> Known {
    shape(M | F, fds, false, true)
}

/// Looks a path up, from descriptors of folders.
const fn path(fds: u8, makes: bool) -> Known {
    shape(M | F | C, fds, makes, fds != 0)
}

/// What a call touches. One that is not known here may touch everything.
#[allow(non_upper_case_globals)] // the names are libc's
pub(crate) fn known(number: i64) -> Known {
    use libc::*;
    if let Some(known) = legacy(number) {
        return known;
    }
    match number {
        SYS_exit
        | SYS_exit_group
        | SYS_clone
        | SYS_clone3
        | SYS_execve
        | SYS_execveat
        | SYS_rt_sigreturn
        | SYS_restart_syscall
        | SYS_set_tid_address
        | SYS_set_robust_list
        | SYS_rseq
        | SYS_shmat
        | SYS_shmdt
        | SYS_io_setup
        | SYS_io_submit
        | SYS_io_uring_setup
        | SYS_io_uring_enter
        | SYS_io_uring_register
        | SYS_seccomp
        | SYS_ptrace
        | SYS_unshare
        | SYS_setns
        | SYS_userfaultfd => Known::Refused,
        SYS_rt_sigaction | SYS_rt_sigprocmask | SYS_rt_sigpending | SYS_rt_sigsuspend
        | SYS_rt_sigtimedwait | SYS_sigaltstack | SYS_futex | SYS_nanosleep
        | SYS_clock_nanosleep | SYS_wait4 | SYS_waitid | SYS_setitimer | SYS_timer_create
        | SYS_prctl => Known::Callers,
        SYS_getpid | SYS_getppid | SYS_gettid | SYS_sched_yield | SYS_getpgid | SYS_getsid => {
            shape(0, 0, false, true)
        }
        SYS_getuid | SYS_geteuid | SYS_getgid | SYS_getegid | SYS_setuid | SYS_setgid
        | SYS_setreuid | SYS_setregid | SYS_setresuid | SYS_setresgid | SYS_setfsuid
        | SYS_setfsgid => shape(C, 0, false, true),
        SYS_getgroups | SYS_setgroups | SYS_getresuid | SYS_getresgid | SYS_capget | SYS_capset => {
            shape(M | C, 0, false, true)
        }
        SYS_munmap | SYS_mprotect | SYS_madvise | SYS_brk | SYS_mremap | SYS_msync | SYS_mlock
        | SYS_munlock | SYS_mincore | SYS_getrandom | SYS_clock_gettime | SYS_uname
        | SYS_sysinfo => shape(M, 0, false, true),
        SYS_mmap => shape(M | F, 1 << 4, false, true),
        SYS_close | SYS_dup | SYS_dup3 | SYS_fcntl | SYS_fchdir | SYS_umask | SYS_close_range => {
            shape(F, 0, false, false)
        }
        SYS_chdir | SYS_chroot | SYS_getcwd | SYS_pipe2 | SYS_socketpair => {
            shape(M | F | C, 0, false, false)
        }
        SYS_lseek | SYS_fsync | SYS_fdatasync | SYS_ftruncate | SYS_fallocate | SYS_shutdown
        | SYS_listen | SYS_flock => shape(F, 1, false, true),
        SYS_fchmod | SYS_fchown => shape(F | C, 1, false, true),
        SYS_read | SYS_write | SYS_pread64 | SYS_pwrite64 | SYS_readv | SYS_writev | SYS_preadv
        | SYS_pwritev | SYS_fstat | SYS_fstatfs | SYS_getdents64 | SYS_sendto | SYS_recvfrom
        | SYS_getsockname | SYS_getpeername | SYS_getsockopt | SYS_setsockopt => with(1),
        SYS_socket | SYS_memfd_create | SYS_eventfd2 => shape(M | F, 0, true, true),
        SYS_accept4 => shape(M | F, 1, true, true),
        SYS_openat | SYS_openat2 => path(1, true),
        SYS_newfstatat | SYS_statx | SYS_readlinkat | SYS_faccessat | SYS_faccessat2
        | SYS_mkdirat | SYS_unlinkat | SYS_fchmodat | SYS_fchownat | SYS_utimensat => {
            path(1, false)
        }
        SYS_linkat | SYS_renameat2 => path(1 | 1 << 2, false),
        _ => shape(M | F | C, 0, false, false),
    }
}

/// Calls that newer machines have under newer names alone.
#[cfg(target_arch = "x86_64")]
#[allow(non_upper_case_globals)] // as above
fn legacy(number: i64) -> Option<Known> {
    use libc::*;
    Some(match number {
        SYS_fork | SYS_vfork => Known::Refused,
        SYS_alarm | SYS_pause | SYS_arch_prctl => Known::Callers,
        SYS_dup2 => shape(F, 0, false, false),
        SYS_open | SYS_creat | SYS_stat | SYS_lstat | SYS_access | SYS_readlink | SYS_mkdir
        | SYS_rmdir | SYS_unlink | SYS_rename | SYS_link | SYS_symlink | SYS_chmod | SYS_chown
        | SYS_pipe => shape(M | F | C, 0, false, false),
        SYS_poll | SYS_select => shape(M | F, 0, false, false),
        _ => return None,
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn legacy(_: i64) -> Option<Known> {
    None
}
