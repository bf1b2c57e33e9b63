//! The filter of a trapped context (contract 7.1), as a program for seccomp.
//!
//! ```text
//! another architecture's call          kill the context
//! rt_sigreturn(2), wherever it is made run it: only the context can return
//! made at gate::approved              ask the one who listens, or EPERM
//! made at gate::own                  run it if on the list below, or EPERM
//! made anywhere else                   SIGSYS: the call is not executed
//! ```
//!
//! # What the list is worth to hostile code that jumps to `gate::own`
//! It is read as if all code could use it, for all code can: whatever it lets
//! through must be of no use against anybody else.
//! * futex(2) wait and wake on shared words: wakes those whose doorbells it has,
//!   for nothing.
//! * Its own memory, without new code and without files: mmap(2) of anonymous
//!   pages, munmap, mremap, madvise, brk, mprotect. It can waste what its
//!   limits let it waste, as any computation can.
//! * Its own signal mask and actions. SIGSYS blocked or handled otherwise does
//!   not let a call through: the kernel has decided by then. It kills the
//!   context, or gives the call an answer that the context made up itself.
//! * Its own end: exit_group(2), as a fault is one.
//! * clone(2) with exactly the flags of lwCreate: a context under the same
//!   filter. One that no lwCreate has announced is ended by the root.
//! * recvmsg, sendmsg, close and fstat of the backend's own descriptors (they
//!   lie between two numbers, and a user's that lie there too are excepted one
//!   by one). What comes is what a peer has sent it; what goes is for backends
//!   that trust nothing they are sent.
//! * prctl(2) that narrows: to die with the root, not to be dumped.
//!
//! Not on it: whatever touches a path, a descriptor of the user's, another
//! process, the clock, the network. vDSO functions (clock_gettime) are no
//! system calls and not trapped.

use super::bpf::{ADDRESS, ARCH, ARCHITECTURE, ARGUMENTS, HIGH, NUMBER, give, jump, load, op};
use super::confine::clone_flags;
use crate::backend::process::wire::bell::SYS_FUTEX_WAKE;
use crate::backend::process::wire::gate;
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::ops::RangeInclusive;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

const CALL: &str = "lwCreate";

/// A user's descriptors among the backend's at most.
const MAX_EXCEPTED: usize = 64;

/// A condition on the low 32 bits of an argument, which are all that the kernel
/// looks at in these.
enum When {
    /// It is this.
    Is(u8, u32),
    /// None of these bits is set.
    Without(u8, u32),
    /// A descriptor of the backend's.
    Own(u8),
}

struct Rule {
    number: libc::c_long,
    /// All must hold.
    when: Vec<When>,
}

/// What the backend itself calls in a trapped context.
fn rules() -> Vec<Rule> {
    use When::{Is, Own, Without};
    let exec = libc::PROT_EXEC as u32;
    let rule = |number, when| Rule { number, when };
    let mut rules = vec![
        rule(libc::SYS_futex, vec![Is(1, libc::FUTEX_WAIT as u32)]),
        rule(libc::SYS_futex, vec![Is(1, libc::FUTEX_WAKE as u32)]),
        rule(
            libc::SYS_mmap,
            vec![Without(2, exec), Is(4, u32::MAX)], // no descriptor
        ),
        rule(libc::SYS_mprotect, vec![Without(2, exec)]),
        rule(libc::SYS_clone, vec![Is(0, clone_flags() as u32)]),
        rule(libc::SYS_get_robust_list, vec![Is(0, 0)]),
        rule(
            libc::SYS_prctl,
            vec![Is(0, libc::PR_GET_TID_ADDRESS as u32)],
        ),
        rule(
            libc::SYS_prctl,
            vec![
                Is(0, libc::PR_SET_PDEATHSIG as u32),
                Is(1, libc::SIGKILL as u32),
            ],
        ),
        rule(
            libc::SYS_prctl,
            vec![Is(0, libc::PR_SET_DUMPABLE as u32), Is(1, 0)],
        ),
        rule(
            libc::SYS_prctl,
            vec![Is(0, libc::PR_SET_NO_NEW_PRIVS as u32)],
        ),
    ];
    rules.extend(
        [
            SYS_FUTEX_WAKE,
            libc::SYS_munmap,
            libc::SYS_mremap,
            libc::SYS_madvise,
            libc::SYS_brk,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigaction,
            libc::SYS_restart_syscall,
            libc::SYS_set_robust_list,
            libc::SYS_exit_group,
            libc::SYS_getppid,
            libc::SYS_getpid,
            libc::SYS_sched_yield,
        ]
        .map(|n| rule(n, Vec::new())),
    );
    rules.extend(
        [
            libc::SYS_recvmsg,
            libc::SYS_sendmsg,
            libc::SYS_close,
            libc::SYS_fstat,
        ]
        .map(|n| rule(n, vec![Own(0)])),
    );
    rules
}

/// Goes on with the next instruction if the call was made at `address`, else
/// skips `len` after these four.
fn made_at(address: u64, len: u8) -> [libc::sock_filter; 4] {
    [
        load(ADDRESS),
        jump(libc::BPF_JEQ, address as u32, 0, len + 2),
        load(ADDRESS + HIGH),
        jump(libc::BPF_JEQ, (address >> 32) as u32, 0, len),
    ]
}

/// One rule, ending in "run it"; falls through to what follows if it does not
/// apply. The number is loaded anew by each.
fn compile(rule: &Rule, own: &RangeInclusive<RawFd>, excepted: &[RawFd]) -> Vec<libc::sock_filter> {
    let mut tests: Vec<(libc::sock_filter, bool, u32, u32)> = Vec::new();
    let arg = |n: u8| load(ARGUMENTS + 8 * u32::from(n));
    for when in &rule.when {
        match *when {
            When::Is(n, value) => tests.push((arg(n), true, libc::BPF_JEQ, value)),
            When::Without(n, bits) => tests.push((arg(n), false, libc::BPF_JSET, bits)),
            When::Own(n) => {
                // A negative number is a large one.
                tests.push((arg(n), true, libc::BPF_JGE, *own.start() as u32));
                tests.push((arg(n), false, libc::BPF_JGT, *own.end() as u32));
                tests.extend(
                    excepted
                        .iter()
                        .map(|&fd| (arg(n), false, libc::BPF_JEQ, fd as u32)),
                );
            }
        }
    }
    let len = 2 + 2 * tests.len() + 1;
    let mut out = vec![load(NUMBER)];
    // Past the rule's end from the instruction about to be pushed.
    let away = |out: &Vec<_>| (len - out.len() - 1) as u8;
    let past = away(&out);
    out.push(jump(libc::BPF_JEQ, rule.number as u32, 0, past));
    for (load, wanted, test, k) in tests {
        out.push(load);
        let past = away(&out);
        out.push(if wanted {
            jump(test, k, 0, past)
        } else {
            jump(test, k, past, 0)
        });
    }
    out.push(give(libc::SECCOMP_RET_ALLOW));
    out
}

/// The whole program. `own` is where the backend's descriptors lie, `excepted`
/// are the user's among them; `listened` whether somebody listens.
fn program(
    own: &RangeInclusive<RawFd>,
    excepted: &[RawFd],
    listened: bool,
) -> Vec<libc::sock_filter> {
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut p = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, ARCH, 1, 0),
        give(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
        jump(libc::BPF_JEQ, libc::SYS_rt_sigreturn as u32, 0, 1),
        give(libc::SECCOMP_RET_ALLOW),
    ];
    p.extend(made_at(gate::approved_address(), 1));
    p.push(give(if listened {
        libc::SECCOMP_RET_USER_NOTIF
    } else {
        refuse
    }));
    p.extend(made_at(gate::own_address(), 1));
    p.push(op(libc::BPF_JMP | libc::BPF_JA, 0, 0, 1));
    p.push(give(libc::SECCOMP_RET_TRAP));
    for rule in rules() {
        p.extend(compile(&rule, own, excepted));
    }
    p.push(give(refuse));
    p
}

/// What came of installing the filter.
pub(crate) enum Installed {
    /// The descriptor from which calls of [`gate::approved`] are heard of.
    Listened(OwnedFd),
    /// Nobody can listen: such calls fail with EPERM.
    Unheard,
}

/// Puts the current process under the filter, for ever.
///
/// `listener`: whether somebody can listen. The kernel allows one listener
/// over a process; where a container's manager is it already, there is none.
pub(crate) fn install(
    own: &RangeInclusive<RawFd>,
    excepted: &[RawFd],
    listener: bool,
) -> Result<Installed> {
    if excepted.len() > MAX_EXCEPTED {
        return Err(Error::new(
            CALL,
            Errno::E2BIG,
            format!(
                "{} descriptors in {own:?} would go to a trapped context; leave them out (Spec::files) or close them",
                excepted.len()
            ),
        ));
    }
    let set = |flags: libc::c_ulong, listened: bool| {
        let mut program = program(own, excepted, listened);
        let fprog = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: seccomp(2) copies the program, which outlives the call.
        unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const fprog,
            )
        }
    };
    if listener {
        let fd = set(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, true);
        if fd >= 0 {
            // SAFETY: the kernel has just made it for us.
            return Ok(Installed::Listened(unsafe {
                OwnedFd::from_raw_fd(fd as RawFd)
            }));
        }
        if Errno::last() != Errno::EBUSY {
            return Err(Error::last(CALL, "a filter that traps system calls"));
        }
    }
    if set(0, false) != 0 {
        return Err(Error::last(CALL, "a filter that traps system calls"));
    }
    Ok(Installed::Unheard)
}
