//! The filter of a context that is to be rolled back.

use super::answered::{ABOUT_SOCKETS, QUEUES, READING, WAITING};
use super::bpf::{ARCH, ARCHITECTURE, ARGUMENTS, NUMBER, give, jump, load};
use super::seccomp::{FORKS, PLAIN, apply, convert};
use crate::backend::files;
use crate::backend::process::wire::{fds, threads};
use crate::error::Result;

/// Calls of a context that is to be rolled back which, beside [`PLAIN`], change nothing but its
/// memory and registers, or nothing at all. (What they do to files and to peers
/// is not undone, as it is not the context's.)
const HARMLESS: &[i64] = &[
    libc::SYS_sched_getaffinity,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readv,
    libc::SYS_preadv,
    libc::SYS_writev,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_uname,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_get_robust_list,
    libc::SYS_rt_sigpending,
];

/// Of a context that has connections, in the strict sandbox: that lets it make these on
/// what it was lent alone, or where nothing comes of it but a number among those, which
/// a rollback closes.
const ON_SOCKETS: &[i64] = &[
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_socket,
    libc::SYS_eventfd2,
    libc::SYS_epoll_ctl,
];

/// Calls on what was lent, with which it does as it likes: a rollback closes the rest.
const ON_LENT: &[i64] = &[libc::SYS_close, libc::SYS_dup3, libc::SYS_ioctl];

/// Threads of the kernel's (io_uring(7)), and processes, which would be nobody's to roll
/// back; pages that nobody brings, on which the
/// keeper would wait; mincore(2), by which it could see which pages another has used
/// that are zeros again.
const REFUSED: &[i64] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_mincore,
];

/// From now on the keeper of the current context is told of every call of it that
/// changes more than memory and registers, before it is made. [`REFUSED`]: EPERM.
///
/// restart_syscall(2), by which the kernel lets a sleep go on that a stop has
/// interrupted, is answered as if there were none: it would go on after a rollback,
/// too, and the kernel tells nobody what it remembers for that.
pub(crate) fn be_noted() -> Result<()> {
    let refuse = |errno: i32| libc::SECCOMP_RET_ERRNO | errno as u32;
    // Those that are made most often come first.
    let reading = if files::line().is_some() {
        READING
    } else {
        &[]
    };
    let threaded = threads::allowed() > 0;
    let sockets = |calls: &'static [i64]| match files::connections() {
        true => calls,
        false => &[],
    };
    let answers = [
        // The one that a context is does not exit alone, where there may be others: that
        // is for the keeper to see to.
        (
            libc::SECCOMP_RET_TRACE,
            if threaded { &[libc::SYS_exit][..] } else { &[] },
        ),
        (libc::SECCOMP_RET_ALLOW, reading),
        (libc::SECCOMP_RET_ALLOW, sockets(ON_SOCKETS)),
        (libc::SECCOMP_RET_ALLOW, sockets(ABOUT_SOCKETS)),
        (libc::SECCOMP_RET_ALLOW, sockets(WAITING)),
        (libc::SECCOMP_RET_ALLOW, sockets(QUEUES)),
        (refuse(libc::EINTR), &[libc::SYS_restart_syscall][..]),
        (libc::SECCOMP_RET_ALLOW, PLAIN),
        (libc::SECCOMP_RET_ALLOW, HARMLESS),
        (refuse(libc::EPERM), REFUSED),
        (refuse(libc::EPERM), FORKS),
        // The C library then makes a thread by clone(2), of which the keeper is told.
        (
            refuse(if threaded { libc::ENOSYS } else { libc::EPERM }),
            &[libc::SYS_clone3][..],
        ),
    ];
    let clone = [libc::SYS_clone];
    let answers = answers.into_iter();
    let answers = answers.chain((!threaded).then_some((refuse(libc::EPERM), &clone[..])));
    let mut program = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, ARCH, 1, 0),
        give(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    for (answer, calls) in answers {
        for &number in calls {
            program.push(jump(libc::BPF_JEQ, number as u32, 0, 1));
            program.push(give(answer));
        }
    }
    if let Some(line) = files::line() {
        let lent = fds::lent();
        let on_lent = match files::connections() {
            true => ON_LENT,
            false => &ON_LENT[..1],
        };
        for &call in on_lent {
            program.extend([
                jump(libc::BPF_JEQ, call as u32, 0, 5),
                load(ARGUMENTS),
                jump(libc::BPF_JGE, lent.start as u32, 0, 2),
                jump(libc::BPF_JGE, lent.end as u32, 1, 0),
                give(libc::SECCOMP_RET_ALLOW),
                load(NUMBER),
            ]);
        }
        program.extend([
            jump(libc::BPF_JEQ, libc::SYS_recvmsg as u32, 0, 4),
            load(ARGUMENTS),
            jump(libc::BPF_JEQ, line as u32, 0, 1),
            give(libc::SECCOMP_RET_ALLOW),
            load(NUMBER),
            // What its flags are.
            jump(libc::BPF_JEQ, libc::SYS_fcntl as u32, 0, 3),
            load(ARGUMENTS + 8),
            jump(libc::BPF_JEQ, libc::F_GETFL as u32, 0, 1),
            give(libc::SECCOMP_RET_ALLOW),
        ]);
    }
    program.push(give(libc::SECCOMP_RET_TRACE));
    apply(&program.into_iter().map(convert).collect())
}
