//! Filters of system calls.

use super::bpf::{ARCH, ARCHITECTURE, ARGUMENTS, HIGH, NUMBER, give, jump, load, op};
use crate::backend::process::wire::bell::SYS_FUTEX_WAKE;
use crate::backend::process::wire::fds;
use crate::error::{Error, Result};
use nix::errno::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, sock_filter};
use std::collections::BTreeMap;

/// What to do about calls, by their number: a list of rules one of which must
/// hold; none: always.
pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls by which one waits, wakes, asks about itself or ends: they change nothing
/// but registers, memory and the signal mask. Every sandbox lets them through, and
/// a rollback has no more to undo after them.
pub(super) const PLAIN: &[i64] = &[
    SYS_FUTEX_WAKE,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_sched_yield,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_rt_sigprocmask,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Calls that make processes beside clone(2) and clone3(2).
#[cfg(target_arch = "x86_64")]
pub(super) const FORKS: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const FORKS: &[i64] = &[];

pub(super) fn invalid(e: impl std::fmt::Display) -> Error {
    Error::new("confine", Errno::EINVAL, e.to_string())
}

/// These calls, whatever their arguments are.
pub(super) fn any(calls: &[i64]) -> Rules {
    calls.iter().map(|&n| (n, Vec::new())).collect()
}

/// A program of one list.
fn compile(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram> {
    #[cfg(target_arch = "x86_64")]
    let arch = TargetArch::x86_64;
    #[cfg(target_arch = "aarch64")]
    let arch = TargetArch::aarch64;
    SeccompFilter::new(rules, otherwise, matched, arch)
        .and_then(TryInto::try_into)
        .map_err(invalid)
}

/// Puts the current context under a program, for ever.
pub(super) fn apply(program: &BpfProgram) -> Result<()> {
    seccompiler::apply_filter(program).map_err(|e| {
        Error::new(
            "confine",
            Errno::last(),
            format!("installing a seccomp filter: {e}"),
        )
    })
}

/// Stands for "look at the next list", and is in no program that is installed.
const GO_ON: u16 = 1;

/// A list behind which another one lies.
fn followed(mut list: BpfProgram) -> BpfProgram {
    let go_on = convert(give(libc::SECCOMP_RET_TRACE | u32::from(GO_ON)));
    let len = list.len();
    for (at, i) in list.iter_mut().enumerate().filter(|(_, i)| **i == go_on) {
        let over = (len - at - 1) as u32;
        *i = convert(op(libc::BPF_JMP | libc::BPF_JA, 0, 0, over));
    }
    list
}

/// One program of all lists. The kernel runs every program of a process, from
/// its beginning, for each call that it makes, and a switch is two: so there is
/// one, and it begins with the futex(2) with which a context waits.
///
/// ```text
/// futex(2) with these arguments   run it
/// `reading` of what was lent       run it: the lists say so, too, later
/// `passing` on what was lent       the same, with flags of these alone and no address
/// on the list `trapped`           SIGSYS: never tried by an honest function
/// on the list `allowed`           run it
/// on the list `caught`            SIGSYS: somebody answers it instead
/// anything else                   EPERM
/// ```
pub(super) fn program(
    trapped: Rules,
    allowed: Rules,
    caught: Rules,
    futex: &[(u32, u64)],
    reading: &[i64],
    passing: &[Passing],
) -> Result<BpfProgram> {
    let go_on = SeccompAction::Trace(GO_ON.into());
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let traps = followed(compile(trapped, go_on.clone(), SeccompAction::Trap)?);
    let allows = if caught.is_empty() {
        compile(allowed, refuse, SeccompAction::Allow)?
    } else {
        // Behind those that are let through, which this costs nothing.
        let mut both = followed(compile(allowed, go_on, SeccompAction::Allow)?);
        both.extend(compile(caught, refuse, SeccompAction::Trap)?);
        both
    };
    let mut first = futex_first(futex);
    if !reading.is_empty() {
        first.extend(reading_next(reading));
    }
    passing.iter().for_each(|p| first.extend(p.program()));
    let mut all: BpfProgram = first.into_iter().map(convert).collect();
    all.extend(traps);
    all.extend(allows);
    Ok(all)
}

/// Lets futex(2) through if its arguments are these; goes on with what follows
/// for all else.
fn futex_first(arguments: &[(u32, u64)]) -> Vec<libc::sock_filter> {
    let mut tests = vec![(ARCHITECTURE, ARCH), (NUMBER, libc::SYS_futex as u32)];
    for &(number, value) in arguments {
        let at = ARGUMENTS + 8 * number;
        tests.push((at, value as u32));
        if number != 1 {
            // The operation is an int, of which the kernel looks at no more.
            tests.push((at + HIGH, (value >> 32) as u32));
        }
    }
    let len = 2 * tests.len() + 1;
    let mut first = Vec::with_capacity(len);
    for (at, value) in tests {
        first.push(load(at));
        let past = (len - first.len() - 1) as u8;
        first.push(jump(libc::BPF_JEQ, value, 0, past));
    }
    first.push(give(libc::SECCOMP_RET_ALLOW));
    first
}

/// Lets these calls through if the first argument is a descriptor that was lent; goes on
/// with what follows for all else.
fn reading_next(calls: &[i64]) -> Vec<libc::sock_filter> {
    let lent = fds::lent();
    let count = calls.len() as u8;
    let mut next = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, ARCH, 0, count + 6),
        load(NUMBER),
    ];
    for (i, &call) in (0..).zip(calls) {
        next.push(jump(libc::BPF_JEQ, call as u32, count - i, 0));
    }
    next.extend([
        op(libc::BPF_JMP | libc::BPF_JA, 0, 0, 4),
        load(ARGUMENTS),
        jump(libc::BPF_JGE, lent.start as u32, 0, 2),
        jump(libc::BPF_JGE, lent.end as u32, 1, 0),
        give(libc::SECCOMP_RET_ALLOW),
    ]);
    next
}

/// A call on a connection: its first argument is the descriptor, its fourth are flags, its
/// fifth an address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passing {
    pub(super) call: i64,
    /// No flags but these.
    pub(super) flags: i32,
    /// Without an address.
    pub(super) nobody: bool,
}

impl Passing {
    /// Lets it through; goes on with what follows for all else.
    fn program(self) -> Vec<libc::sock_filter> {
        let lent = fds::lent();
        let mut tests = vec![
            (ARCHITECTURE, libc::BPF_JEQ, ARCH, true),
            (NUMBER, libc::BPF_JEQ, self.call as u32, true),
            (ARGUMENTS, libc::BPF_JGE, lent.start as u32, true),
            (ARGUMENTS, libc::BPF_JGE, lent.end as u32, false),
            (ARGUMENTS + 24, libc::BPF_JSET, !self.flags as u32, false),
        ];
        if self.nobody {
            let address = ARGUMENTS + 32;
            tests.push((address, libc::BPF_JEQ, 0, true));
            tests.push((address + HIGH, libc::BPF_JEQ, 0, true));
        }
        let len = 2 * tests.len() + 1;
        let mut all = Vec::with_capacity(len);
        for (at, test, value, wanted) in tests {
            all.push(load(at));
            let past = (len - all.len() - 1) as u8;
            all.push(match wanted {
                true => jump(test, value, 0, past),
                false => jump(test, value, past, 0),
            });
        }
        all.push(give(libc::SECCOMP_RET_ALLOW));
        all
    }
}

pub(super) fn convert(i: libc::sock_filter) -> sock_filter {
    sock_filter {
        code: i.code,
        jt: i.jt,
        jf: i.jf,
        k: i.k,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};

    /// The call, when its first argument satisfies this.
    fn when(op: SeccompCmpOp, value: u64) -> Vec<SeccompRule> {
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, op, value);
        vec![SeccompRule::new(vec![condition.unwrap()]).unwrap()]
    }

    /// What the kernel would answer to a call.
    fn run(program: &BpfProgram, number: i64, arguments: [u64; 6]) -> u32 {
        let data: Vec<u8> = [number as u32, ARCH]
            .into_iter()
            .flat_map(u32::to_ne_bytes)
            .chain([0; 8])
            .chain(arguments.into_iter().flat_map(u64::to_ne_bytes))
            .collect();
        let (mut a, mut at) = (0u32, 0);
        loop {
            let i = &program[at];
            at += 1;
            let skip = |yes| usize::from(if yes { i.jt } else { i.jf });
            let code = u32::from(i.code);
            match code & 7 {
                libc::BPF_LD => {
                    let from = i.k as usize;
                    a = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
                }
                libc::BPF_ALU => a &= i.k,
                libc::BPF_RET => return i.k,
                libc::BPF_JMP => {
                    at += match code & 0xf0 {
                        libc::BPF_JA => i.k as usize,
                        libc::BPF_JEQ => skip(a == i.k),
                        libc::BPF_JGT => skip(a > i.k),
                        libc::BPF_JGE => skip(a >= i.k),
                        libc::BPF_JSET => skip(a & i.k != 0),
                        other => panic!("test {other:#x}"),
                    };
                }
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn one_program_is_both_lists_and_the_sleep_is_first() {
        let when_equal = |value| when(SeccompCmpOp::Eq, value);
        let mut trapped = any(&[libc::SYS_ptrace]);
        let not_five = when(SeccompCmpOp::Ne, 5);
        trapped.insert(libc::SYS_clone, not_five);
        let mut allowed = any(&[libc::SYS_getpid, libc::SYS_ptrace]);
        allowed.insert(libc::SYS_clone, when_equal(5));
        allowed.insert(libc::SYS_futex, when_equal(9));
        let bell = 0x7f00_1234_5678;
        let sleep = [(1, 0), (0, bell), (3, 0)];
        let caught = any(&[libc::SYS_openat, libc::SYS_getpid]);
        let all = program(trapped.clone(), allowed.clone(), caught, &sleep, &[], &[]).unwrap();
        let allow = libc::SECCOMP_RET_ALLOW;
        let eperm = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        for (number, arguments, answer) in [
            (libc::SYS_getpid, [0; 6], allow),
            (libc::SYS_read, [0; 6], eperm),
            (libc::SYS_openat, [0; 6], libc::SECCOMP_RET_TRAP),
            (libc::SYS_ptrace, [0; 6], libc::SECCOMP_RET_TRAP),
            (libc::SYS_clone, [5, 0, 0, 0, 0, 0], allow),
            (libc::SYS_clone, [6, 0, 0, 0, 0, 0], libc::SECCOMP_RET_TRAP),
            (libc::SYS_futex, [bell, 0, 1, 0, 7, 7], allow),
            (libc::SYS_futex, [bell, 1 << 32, 1, 0, 7, 7], allow),
            (libc::SYS_futex, [bell, 1, 1, 0, 0, 0], eperm),
            (libc::SYS_futex, [bell + 4, 0, 1, 0, 0, 0], eperm),
            (libc::SYS_futex, [bell + (1 << 32), 0, 1, 0, 0, 0], eperm),
            (libc::SYS_futex, [bell, 0, 1, 1 << 40, 0, 0], eperm),
            (libc::SYS_futex, [bell, 0, 1, 8, 0, 0], eperm),
            (libc::SYS_futex, [9, 3, 1, 8, 0, 0], allow),
        ] {
            assert_eq!(
                run(&all, number, arguments),
                answer,
                "{number} {arguments:x?}"
            );
        }
        // Where nothing is caught it is refused.
        let reads = [libc::SYS_read, libc::SYS_lseek];
        let none = program(
            trapped,
            allowed,
            Rules::new(),
            &sleep,
            &reads,
            &[
                Passing {
                    call: libc::SYS_recvfrom,
                    flags: 3,
                    nobody: false,
                },
                Passing {
                    call: libc::SYS_sendto,
                    flags: 4,
                    nobody: true,
                },
            ],
        )
        .unwrap();
        let lent = fds::lent();
        for (number, fd, answer) in [
            (libc::SYS_read, lent.start, allow),
            (libc::SYS_lseek, lent.end - 1, allow),
            (libc::SYS_read, lent.start - 1, eperm),
            (libc::SYS_lseek, lent.end, eperm),
            (libc::SYS_read, -1, eperm),
            (libc::SYS_pread64, lent.start, eperm),
        ] {
            let arguments = [fd as u32 as u64 | 1 << 40, 0, 0, 0, 0, 0];
            assert_eq!(run(&none, number, arguments), answer, "{number} {fd}");
        }
        let (fd, past) = (lent.start as u64 | 1 << 40, lent.end as u64);
        for (number, arguments, answer) in [
            (libc::SYS_recvfrom, [fd, 9, 9, 3, 9, 9], allow),
            (libc::SYS_recvfrom, [fd, 9, 9, 4, 9, 9], eperm),
            (libc::SYS_recvfrom, [fd, 9, 9, 1 << 31, 9, 9], eperm),
            (libc::SYS_recvfrom, [past, 9, 9, 3, 9, 9], eperm),
            (libc::SYS_sendto, [fd, 9, 9, 4, 0, 9], allow),
            (libc::SYS_sendto, [fd, 9, 9, 0, 0, 9], allow),
            (libc::SYS_sendto, [fd, 9, 9, 1, 0, 9], eperm),
            (libc::SYS_sendto, [fd, 9, 9, 4, 1, 9], eperm),
            (libc::SYS_sendto, [fd, 9, 9, 4, 1 << 32, 9], eperm),
            (libc::SYS_sendto, [past, 9, 9, 4, 0, 9], eperm),
            (libc::SYS_recvmsg, [fd, 9, 9, 0, 0, 9], eperm),
        ] {
            assert_eq!(
                run(&none, number, arguments),
                answer,
                "{number} {arguments:x?}"
            );
        }
        assert_eq!(run(&none, libc::SYS_futex, [bell, 0, 1, 0, 7, 7]), allow);
        assert_eq!(run(&none, libc::SYS_openat, [0; 6]), eperm);
        assert_eq!(run(&none, libc::SYS_getpid, [0; 6]), allow);
        assert!(
            all.iter()
                .chain(&none)
                .all(|i| i.k & 0x7fff_0000 != libc::SECCOMP_RET_TRACE
                    || u32::from(i.code) & 7 != libc::BPF_RET)
        );
    }
}
