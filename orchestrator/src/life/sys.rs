//! The C library's names, and of FreeBSD those that the crate libc has not: its numbers of
//! system calls (sys/syscall.h), which never change, by the names that Linux has for calls
//! with the same arguments.

pub(super) use ::libc::*;

#[cfg(target_os = "freebsd")]
pub(super) use freebsd::*;

/// Whether an open file is to have no name.
#[cfg(target_os = "linux")]
pub(super) fn is_nameless(flags: i32) -> bool {
    flags & O_TMPFILE == O_TMPFILE
}

/// Whether an open file is to have no name. (There is no such flag.)
#[cfg(target_os = "freebsd")]
pub(super) fn is_nameless(_: i32) -> bool {
    false
}

/// Flags by which an open file is of no use but to say what it is, or to run it.
#[cfg(target_os = "linux")]
pub(super) const IS_NOT_READ: i32 = O_PATH;
/// Flags by which an open file is of no use but to say what it is, or to run it.
#[cfg(target_os = "freebsd")]
pub(super) const IS_NOT_READ: i32 = O_PATH | O_EXEC;

/// Flags that F_SETFL changes.
#[cfg(target_os = "linux")]
pub(super) const CHANGED: i32 = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;
/// Flags that F_SETFL changes.
#[cfg(target_os = "freebsd")]
pub(super) const CHANGED: i32 = O_APPEND | O_NONBLOCK | O_DIRECT;

/// What ioctl(2) tells of a connection: how many bytes its peer has not taken.
#[cfg(target_os = "linux")]
pub(super) const NOT_TAKEN: c_ulong = TIOCOUTQ;
#[cfg(target_os = "freebsd")]
pub(super) const NOT_TAKEN: c_ulong = FIONWRITE;

/// Commands of fcntl(2) that lock, and that ask who has locked.
#[cfg(target_os = "linux")]
pub(super) const SETS_LOCK: &[i32] = &[F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW];
#[cfg(target_os = "linux")]
pub(super) const ASKS_FOR_LOCK: &[i32] = &[F_GETLK, F_OFD_GETLK];
#[cfg(target_os = "freebsd")]
pub(super) const SETS_LOCK: &[i32] = &[F_SETLK, F_SETLKW];
#[cfg(target_os = "freebsd")]
pub(super) const ASKS_FOR_LOCK: &[i32] = &[F_GETLK];

/// Kinds of locks.
#[allow(clippy::unnecessary_cast)] // their widths differ
pub(super) const UNLOCK: i32 = F_UNLCK as i32;
#[allow(clippy::unnecessary_cast)]
pub(super) const READ_LOCK: i32 = F_RDLCK as i32;
#[allow(clippy::unnecessary_cast)]
pub(super) const WRITE_LOCK: i32 = F_WRLCK as i32;

/// What a file is renamed to stays, or the two change places. (FreeBSD has no such flags;
/// the values are Linux's.)
pub(super) const NO_REPLACE: u32 = 1;
pub(super) const EXCHANGE: u32 = 2;

#[cfg(target_os = "freebsd")]
#[allow(non_upper_case_globals)] // the names are the system's
mod freebsd {
    pub(in super::super) const SYS_read: i64 = 3;
    pub(in super::super) const SYS_write: i64 = 4;
    pub(in super::super) const SYS_open: i64 = 5;
    pub(in super::super) const SYS_close: i64 = 6;
    pub(in super::super) const SYS_unlink: i64 = 10;
    pub(in super::super) const SYS_access: i64 = 33;
    pub(in super::super) const SYS_readlink: i64 = 58;
    pub(in super::super) const SYS_recvmsg: i64 = 27;
    pub(in super::super) const SYS_sendmsg: i64 = 28;
    pub(in super::super) const SYS_accept: i64 = 30;
    pub(in super::super) const SYS_fcntl: i64 = 92;
    pub(in super::super) const SYS_fsync: i64 = 95;
    pub(in super::super) const SYS_socket: i64 = 97;
    pub(in super::super) const SYS_connect: i64 = 98;
    pub(in super::super) const SYS_bind: i64 = 104;
    pub(in super::super) const SYS_setsockopt: i64 = 105;
    pub(in super::super) const SYS_listen: i64 = 106;
    pub(in super::super) const SYS_getsockopt: i64 = 118;
    pub(in super::super) const SYS_readv: i64 = 120;
    pub(in super::super) const SYS_writev: i64 = 121;
    pub(in super::super) const SYS_fchown: i64 = 123;
    pub(in super::super) const SYS_fchmod: i64 = 124;
    pub(in super::super) const SYS_rename: i64 = 128;
    pub(in super::super) const SYS_flock: i64 = 131;
    pub(in super::super) const SYS_socketpair: i64 = 135;
    pub(in super::super) const SYS_mkdir: i64 = 136;
    pub(in super::super) const SYS_rmdir: i64 = 137;
    pub(in super::super) const SYS_pathconf: i64 = 191;
    pub(in super::super) const SYS_fpathconf: i64 = 192;
    pub(in super::super) const SYS_preadv: i64 = 289;
    pub(in super::super) const SYS_pwritev: i64 = 290;
    /// Gives no length.
    pub(in super::super) const SYS_getcwd: i64 = 326;
    pub(in super::super) const SYS_kqueue: i64 = 362;
    pub(in super::super) const SYS_eaccess: i64 = 376;
    pub(in super::super) const SYS_pread64: i64 = 475;
    pub(in super::super) const SYS_pwrite64: i64 = 476;
    pub(in super::super) const SYS_lseek: i64 = 478;
    pub(in super::super) const SYS_truncate: i64 = 479;
    pub(in super::super) const SYS_ftruncate: i64 = 480;
    pub(in super::super) const SYS_faccessat: i64 = 489;
    pub(in super::super) const SYS_fchmodat: i64 = 490;
    pub(in super::super) const SYS_fchownat: i64 = 491;
    pub(in super::super) const SYS_mkdirat: i64 = 496;
    pub(in super::super) const SYS_openat: i64 = 499;
    pub(in super::super) const SYS_readlinkat: i64 = 500;
    pub(in super::super) const SYS_renameat: i64 = 501;
    pub(in super::super) const SYS_unlinkat: i64 = 503;
    pub(in super::super) const SYS_lpathconf: i64 = 513;
    /// Returns its error, as the next one.
    pub(in super::super) const SYS_posix_fallocate: i64 = 530;
    pub(in super::super) const SYS_posix_fadvise: i64 = 531;
    pub(in super::super) const SYS_bindat: i64 = 538;
    pub(in super::super) const SYS_connectat: i64 = 539;
    pub(in super::super) const SYS_accept4: i64 = 541;
    pub(in super::super) const SYS_pipe2: i64 = 542;
    pub(in super::super) const SYS_futimens: i64 = 546;
    pub(in super::super) const SYS_utimensat: i64 = 547;
    pub(in super::super) const SYS_fdatasync: i64 = 550;
    pub(in super::super) const SYS_fstat: i64 = 551;
    pub(in super::super) const SYS_newfstatat: i64 = 552;
    pub(in super::super) const SYS_getdirentries: i64 = 554;
    pub(in super::super) const SYS_statfs: i64 = 555;
    pub(in super::super) const SYS_fstatfs: i64 = 556;
    pub(in super::super) const SYS_funlinkat: i64 = 568;
    pub(in super::super) const SYS_realpathat: i64 = 574;
    /// Counters (eventfd).
    pub(in super::super) const SYS_specialfd: i64 = 577;
    pub(in super::super) const SYS_kqueuex: i64 = 583;
    /// What is sent waits until it fills a segment, or this is taken back.
    pub(in super::super) const TCP_CORK: i32 = ::libc::TCP_NOPUSH;

    /// The kernel's structures are those that the crate libc has, and not older ones.
    const _: () = assert!(size_of::<::libc::stat>() == 224);
    const _: () = assert!(size_of::<::libc::statfs>() == 2344);
}
