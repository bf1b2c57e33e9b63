//! Calls that a sandbox traps only to have them answered, and those that it lets through
//! on what a context was lent.

use crate::backend::files;

/// Calls that name a file, and are taken from a context instead of refused.
pub(super) const CAUGHT: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_truncate,
];

/// Calls on a number that stands for no descriptor, which are answered as well.
pub(super) const ON_NUMBERS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fcntl,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_getdents64,
    libc::SYS_close,
];

/// Whether a call is one that is answered.
pub(super) fn is_answered(number: i64, args: &[u64; 6]) -> bool {
    let on_number = || ON_NUMBERS.contains(&number) && files::numbers().contains(&(args[0] as i32));
    CAUGHT.contains(&number) || on_number()
}

/// What may be done with a descriptor that was lent: its number is the first argument,
/// and nothing else of the arguments is a name or a descriptor.
pub(super) const READING: &[i64] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_preadv,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_getdents64,
];

/// The commands of fcntl(2) among it.
pub(super) const FLAGS: &[i32] = &[libc::F_GETFD, libc::F_SETFD, libc::F_GETFL];

/// How a context receives.
pub(super) const RECEIVING: i32 = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
