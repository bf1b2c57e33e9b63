//! The filter of a context that is to be rolled back.

use super::seccomp::{FORKS, PLAIN, any, install};
use crate::error::Result;
use seccompiler::SeccompAction;

/// Calls of a context that is to be rolled back which, beside [`PLAIN`], change nothing but its
/// memory and registers, or nothing at all. (What they do to files and to peers
/// is not undone, as it is not the context's.)
const HARMLESS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readv,
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

/// From now on the keeper of the current context is told of every call of it that
/// changes more than memory and registers, before it is made. EPERM: threads and
/// processes, which would be nobody's to roll back; mincore(2), by which it could
/// see which pages another has used that are zeros again.
pub(crate) fn be_noted() -> Result<()> {
    let refused = [libc::SYS_clone, libc::SYS_clone3, libc::SYS_mincore];
    install(
        any(&[&refused, FORKS].concat()),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
    )?;
    install(
        any(&[HARMLESS, PLAIN].concat()),
        SeccompAction::Trace(0),
        SeccompAction::Allow,
    )
}
