//! The sandbox: what capability mode is to the kernel backend, seccomp is
//! here.
//!
//! Two filters. The first lets a short list of calls through and answers EPERM
//! to the rest, so that a stray printf(3) fails as it would on a closed
//! descriptor. The second traps (SIGSYS) what no honest function tries: making
//! or killing processes, tracing, other programs, the network, the kernel's
//! administration.
//!
//! # The strict sandbox
//! Whatever a call lets through is of no use against anybody else, and of no use
//! against what the system counts for a user:
//! * futex(2): among the context's own threads of control as it likes (private
//!   ones); on memory that it shares it may wake, and sleep on its own doorbell
//!   alone, without a limit of time. So it is the kernel's word that whoever
//!   sleeps there has stopped, and cannot start by itself ([`bell`](crate::backend::process::wire::bell)).
//! * Signals to itself: those of faults and abort(3), of which one each can be
//!   pending. No real-time signals, no SIGSTOP, no locked memory.
//! * Memory at addresses of its choice only near what it has: page tables are
//!   memory, too, and no limit counts them.
//! * What its root sends it down its line ([`super::introduce`]), and closing.
//! * Its peers serve it nothing from then on ([`Request::Seal`]).

use crate::backend::process::ask::ask;
use crate::backend::process::guard::Guard;
use crate::backend::process::state::channel::Channel;
use crate::backend::process::state::mode;
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::state::signals::death_signal;
use crate::backend::process::wire::message::Request;
use crate::error::{Error, Result};
use crate::{Confinement, backend::confine_error};
use nix::errno::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Computing, memory, time, own signals.
const COMPUTE: &[i64] = &[
    libc::SYS_munmap,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mincore,
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
    libc::SYS_rseq,
];

/// What making a copy of the current context takes beyond that.
const CREATE: &[i64] = &[
    libc::SYS_futex,
    libc::SYS_mremap,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_set_robust_list,
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

/// Signals that a context may send itself in the strict sandbox: a fault is
/// sent again to end as it would have, and abort(3).
const OWN_SIGNALS: &[i32] = &[
    libc::SIGABRT,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// futex(2) operations on memory that is the context's own.
const PRIVATE_FUTEXES: &[i32] = &[
    libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
    libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
    libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
    libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME,
    libc::FUTEX_WAKE_BITSET | libc::FUTEX_PRIVATE_FLAG,
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

fn invalid(e: impl std::fmt::Display) -> Error {
    confine_error(Errno::EINVAL, e.to_string())
}

/// That the 32 low bits of argument `arg`, which are all that the kernel looks
/// at in these, satisfy `op` `value`.
fn low(arg: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Dword, op, value).map_err(invalid)
}

/// The same of all 64: an address.
fn whole(arg: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Qword, op, value).map_err(invalid)
}

/// The call, when all of these hold.
fn all(conditions: Vec<SeccompCondition>) -> Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(invalid)
}

/// The call, when the 32 low bits of argument `arg` satisfy `op` `value`.
fn when(arg: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    all(vec![low(arg, op, value)?])
}

/// What futex(2) does for the strict sandbox.
fn futexes(rt: &Runtime) -> Result<Vec<SeccompRule>> {
    let mut rules = PRIVATE_FUTEXES
        .iter()
        .chain(&[libc::FUTEX_WAKE])
        .map(|&op| when(1, SeccompCmpOp::Eq, op as u64))
        .collect::<Result<Vec<_>>>()?;
    let mut sleep = vec![
        low(1, SeccompCmpOp::Eq, libc::FUTEX_WAIT as u64)?,
        whole(0, SeccompCmpOp::Eq, rt.bell.address())?,
    ];
    if !rt.shared_table && !rt.is_root() {
        mode::set_unlimited();
        sleep.push(whole(3, SeccompCmpOp::Eq, 0)?);
    }
    rules.push(all(sleep)?);
    Ok(rules)
}

/// Room beside what is mapped in which a context in the strict sandbox chooses
/// addresses: so much memory has page tables of 2 MiB.
const NEAR: u64 = 1 << 30;

/// What is mapped between heap and stack, as it was when it could last be read:
/// in a sandbox it cannot.
static MAPPED: Mutex<Option<(u64, u64)>> = Mutex::new(None);

/// Notes what is mapped.
fn note_mapped() -> Result<(u64, u64)> {
    let mut noted = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    // Libraries, regions and whatever else is mapped lies together, some way
    // below the stack and far above the program and its heap.
    let mut found: Option<(u64, u64)> = None;
    for line in text.lines().take_while(|l| !l.ends_with("[stack]")) {
        let range = line.split_ascii_whitespace().next();
        let Some((start, end)) = range.and_then(|range| range.split_once('-')) else {
            continue;
        };
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (Some(start), Some(end)) = (number(start), number(end)) else {
            continue;
        };
        found = match found {
            Some((first, last)) if start.saturating_sub(last) <= FAR => Some((first, end)),
            _ => Some((start, end)),
        };
    }
    if found.is_some() {
        *noted = found;
    }
    noted.ok_or_else(|| confine_error(Errno::EACCES, "reading /proc/self/maps".into()))
}

/// Mappings further apart than this do not lie together.
const FAR: u64 = 1 << 34;

/// Rules for calls that map memory: no new code, and addresses either left to
/// the kernel or near what there is. `at`: the argument that is the address;
/// `fixed`: the one with flags, and the flag that makes it one.
fn near(at: u8, others: &[SeccompCondition], mapped: (u64, u64)) -> Result<SeccompRule> {
    let (first, last) = mapped;
    let mut conditions = others.to_vec();
    conditions.push(whole(at, SeccompCmpOp::Ge, first.saturating_sub(NEAR))?);
    conditions.push(whole(at, SeccompCmpOp::Lt, last.saturating_add(NEAR))?);
    all(conditions)
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
        .map_err(invalid)?;
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
    if mode::is_trapped() {
        return Err(confine_error(
            Errno::ENOTSUP,
            "all system calls of this context go to its creator, which is its sandbox".into(),
        ));
    }
    let creating = how == Confinement::Creator;
    let mapped = note_mapped();
    let mut guard = Guard::get("confine")?;
    let rt = guard.rt();
    if !creating {
        seal(rt)?;
    }
    let mut allowed = any(COMPUTE);
    // Memory yes, new code no.
    let no_exec = low(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?;
    allowed.insert(libc::SYS_mprotect, vec![all(vec![no_exec.clone()])?]);
    if creating {
        allowed.insert(libc::SYS_mmap, vec![all(vec![no_exec])?]);
    } else {
        let mapped = mapped?;
        let anywhere = whole(0, SeccompCmpOp::Eq, 0)?;
        allowed.insert(
            libc::SYS_mmap,
            vec![
                all(vec![no_exec.clone(), anywhere])?,
                near(0, &[no_exec], mapped)?,
            ],
        );
        let fixed = libc::MREMAP_FIXED as u64;
        allowed.insert(
            libc::SYS_mremap,
            vec![
                when(3, SeccompCmpOp::MaskedEq(fixed), 0)?,
                near(4, &[], mapped)?,
            ],
        );
        allowed.insert(libc::SYS_futex, futexes(rt)?);
        let rt_is_root = rt.is_root();
        let line = rt.channel(0).and_then(|c| c.sock.as_ref());
        if let Some(line) = line.map(AsRawFd::as_raw_fd).filter(|_| !rt_is_root) {
            allowed.insert(
                libc::SYS_recvmsg,
                vec![when(0, SeccompCmpOp::Eq, line as u64)?],
            );
        }
        allowed.insert(libc::SYS_close, Vec::new());
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
        rules.push(all(vec![
            low(0, SeccompCmpOp::Eq, libc::PR_SET_PDEATHSIG as u64)?,
            low(1, SeccompCmpOp::Eq, libc::SIGKILL as u64)?,
        ])?);
        allowed.insert(libc::SYS_prctl, rules);
    } else {
        // SAFETY: getpid has no preconditions.
        let me = unsafe { libc::getpid() } as u64;
        let own = OWN_SIGNALS
            .iter()
            .map(|&signal| {
                all(vec![
                    low(0, SeccompCmpOp::Eq, me)?,
                    low(2, SeccompCmpOp::Eq, signal as u64)?,
                ])
            })
            .collect::<Result<Vec<_>>>()?;
        allowed.insert(libc::SYS_tgkill, own);
        trapped.insert(libc::SYS_tgkill, vec![when(0, SeccompCmpOp::Ne, me)?]);
        trapped.insert(libc::SYS_clone, Vec::new());
    }
    install(trapped, SeccompAction::Allow, SeccompAction::Trap)?;
    install(
        allowed,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
    )?;
    mode::set_confined(!creating);
    Ok(())
}

/// Tells everybody that this context will ask for nothing more.
fn seal(rt: &mut Runtime) -> Result<()> {
    if rt.is_root() {
        return Ok(());
    }
    for index in 0..rt.channels.len() {
        let alive = |c: &Channel| !c.peer_dead() && !c.sealed;
        if !rt.channel(index).is_some_and(|c| alive(c)) {
            continue;
        }
        let told = ask(rt, "confine", index, Request::Seal);
        // One that has ended meanwhile serves nobody.
        told.map(drop).or_else(|e| {
            if e.errno() == Errno::ESRCH {
                Ok(())
            } else {
                Err(e)
            }
        })?;
    }
    Ok(())
}

/// The flags with which [`super::create`] clones from a context.
pub(crate) fn clone_flags() -> u64 {
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
