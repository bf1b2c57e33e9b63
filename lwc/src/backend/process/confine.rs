//! The sandbox: what capability mode is to the kernel backend, seccomp is
//! here.
//!
//! Two filters. The first lets a short list of calls through and answers EPERM
//! to the rest, so that a stray printf(3) fails as it would on a closed
//! descriptor. The second traps (SIGSYS) what no honest function tries: making
//! or killing processes, tracing, other programs, the network, the kernel's
//! administration.

use super::runtime::death_signal;
use crate::error::{Error, Result};
use crate::{Confinement, backend::confine_error};
use nix::errno::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the current context is in a sandbox.
static CONFINED: AtomicBool = AtomicBool::new(false);

pub(super) fn is_confined() -> bool {
    CONFINED.load(Ordering::Relaxed)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Computing, memory, time, own signals, and the futex the baton needs.
const COMPUTE: &[i64] = &[
    libc::SYS_futex,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
];

/// What making a copy of the current context takes beyond that.
const CREATE: &[i64] = &[
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_socketpair,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup3,
    libc::SYS_get_robust_list,
    libc::SYS_seccomp,
];

/// Never tried by an honest function.
const TRAPPED: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_prlimit64,
    libc::SYS_setrlimit,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_reboot,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_msgget,
    libc::SYS_semget,
];

#[cfg(target_arch = "x86_64")]
const TRAPPED_HERE: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const TRAPPED_HERE: &[i64] = &[];

/// The call, when the 32 low bits of argument `arg` satisfy `op` `value`.
fn when(arg: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Dword, op, value)
        .and_then(|c| SeccompRule::new(vec![c]))
        .map_err(|e| confine_error(Errno::EINVAL, e.to_string()))
}

fn any(calls: &[i64]) -> Rules {
    calls.iter().map(|&n| (n, Vec::new())).collect()
}

fn install(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    let arch = TargetArch::x86_64;
    #[cfg(target_arch = "aarch64")]
    let arch = TargetArch::aarch64;
    let program: BpfProgram = SeccompFilter::new(rules, otherwise, matched, arch)
        .and_then(TryInto::try_into)
        .map_err(|e| confine_error(Errno::EINVAL, e.to_string()))?;
    seccompiler::apply_filter(&program).map_err(|e| {
        Error::new(
            "confine",
            Errno::last(),
            format!("installing a seccomp filter: {e}"),
        )
    })
}

/// Enters the sandbox, for ever.
pub(crate) fn confine(how: Confinement) -> Result<()> {
    if super::trap::is_trapped() {
        return Err(confine_error(
            Errno::ENOTSUP,
            "all system calls of this context go to its creator, which is its sandbox".into(),
        ));
    }
    let creating = how == Confinement::Creator;
    let mut allowed = any(COMPUTE);
    let no_exec = libc::PROT_EXEC as u64;
    // Memory yes, new code no.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        allowed.insert(call, vec![when(2, SeccompCmpOp::MaskedEq(no_exec), 0)?]);
    }
    let mut trapped = any(TRAPPED);
    trapped.extend(any(TRAPPED_HERE));
    if creating {
        allowed.extend(any(CREATE));
        // The new context is another process: signals to self are checked in
        // its own, stricter filter.
        allowed.insert(libc::SYS_tgkill, Vec::new());
        let fork = clone_flags();
        allowed.insert(libc::SYS_clone, vec![when(0, SeccompCmpOp::Eq, fork)?]);
        trapped.insert(libc::SYS_clone, vec![when(0, SeccompCmpOp::Ne, fork)?]);
        let options = [
            libc::PR_GET_TID_ADDRESS,
            libc::PR_SET_NO_NEW_PRIVS,
            libc::PR_SET_DUMPABLE,
        ];
        let rules: Result<Vec<_>> = options
            .iter()
            .map(|&o| when(0, SeccompCmpOp::Eq, o as u64))
            .collect();
        let mut rules = rules?;
        // To die with the root, yes; to outlive it, no.
        let death = |arg, value: i32| {
            SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value as u64)
                .map_err(|e| confine_error(Errno::EINVAL, e.to_string()))
        };
        let dying = vec![death(0, libc::PR_SET_PDEATHSIG)?, death(1, libc::SIGKILL)?];
        rules.push(
            SeccompRule::new(dying).map_err(|e| confine_error(Errno::EINVAL, e.to_string()))?,
        );
        allowed.insert(libc::SYS_prctl, rules);
    } else {
        // SAFETY: getpid has no preconditions.
        let me = unsafe { libc::getpid() } as u64;
        // abort(3) and raise(3).
        allowed.insert(libc::SYS_tgkill, vec![when(0, SeccompCmpOp::Eq, me)?]);
        trapped.insert(libc::SYS_tgkill, vec![when(0, SeccompCmpOp::Ne, me)?]);
        trapped.insert(libc::SYS_clone, Vec::new());
    }
    install(trapped, SeccompAction::Allow, SeccompAction::Trap)?;
    install(
        allowed,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
    )?;
    CONFINED.store(true, Ordering::Relaxed);
    Ok(())
}

/// The flags with which [`super::create`] clones from a context.
pub(super) fn clone_flags() -> u64 {
    (libc::CLONE_PARENT | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | death_signal())
        as u64
}

/// Limits what the current context may add to its memory.
pub(crate) fn limit_memory(bytes: u64) -> Result<()> {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split_ascii_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| confine_error(Errno::EACCES, "reading /proc/self/statm".into()))?;
    let now = pages * crate::page_size() as u64;
    let limit = libc::rlimit {
        rlim_cur: now.saturating_add(bytes),
        rlim_max: now.saturating_add(bytes),
    };
    // SAFETY: setrlimit reads the struct.
    if unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) } != 0 {
        return Err(Error::last("limit_memory", format!("{bytes} bytes more")));
    }
    Ok(())
}
