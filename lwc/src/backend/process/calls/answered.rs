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
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
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

/// Calls about sockets, as far as they are not let through: what they would do is for
/// whoever answers to decide.
pub(super) const SOCKETS: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    // What the system counts for a user is whoever answers' to give.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_create,
    libc::SYS_epoll_create1,
];

/// Whether a call is one that is answered, if it comes here.
pub(super) fn is_answered(number: i64, args: &[u64; 6]) -> bool {
    let on_number = || ON_NUMBERS.contains(&number) && files::numbers().contains(&(args[0] as i32));
    let changes_flags = number == libc::SYS_fcntl && args[1] as i32 == libc::F_SETFL;
    let maps = number == libc::SYS_mmap;
    CAUGHT.contains(&number)
        || SOCKETS.contains(&number)
        || files::connections() && (changes_flags || maps)
        || on_number()
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

/// What may be done with a connection beside that, as with any lent descriptor: one of a
/// file was opened to read. Their first argument is its number, and nothing else of the
/// arguments is a name or a descriptor.
pub(super) const WRITING: &[i64] = &[libc::SYS_write, libc::SYS_writev];

/// The same, whatever the arguments are. They tell of, or end, this connection.
pub(super) const ABOUT_SOCKETS: &[i64] = &[
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_shutdown,
];

/// Waiting for descriptors, which are in memory, where no filter sees them: it tells
/// that something is there to be read, of the context's own.
pub(super) const WAITING: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
];

/// The same for many, by a queue that was lent: its number is the first argument.
pub(super) const QUEUES: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
];

/// Sockets that a context makes itself: of these families, of streams, of this
/// protocol or whichever there is. Without connect(2), bind(2) and an address nothing
/// comes of them.
pub(super) const FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
pub(super) const PROTOCOLS: &[i32] = &[0, libc::IPPROTO_TCP];

/// Flags with which it sends. (None that pins memory, or connects.)
pub(super) const SENDING: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_MORE;

/// Flags with which it receives from a connection.
pub(super) const RECEIVING_FROM: i32 = libc::MSG_PEEK
    | libc::MSG_DONTWAIT
    | libc::MSG_WAITALL
    | libc::MSG_NOSIGNAL
    | libc::MSG_CMSG_CLOEXEC;

/// Options, by their levels, that it may look at and set. None of them concerns others,
/// makes a descriptor, or lets close(2) wait.
pub(super) const OPTIONS: &[(i32, &[i32])] = &[
    (
        libc::SOL_SOCKET,
        &[
            libc::SO_KEEPALIVE,
            libc::SO_RCVBUF,
            libc::SO_SNDBUF,
            libc::SO_RCVTIMEO,
            libc::SO_SNDTIMEO,
            libc::SO_REUSEADDR,
        ],
    ),
    (
        libc::IPPROTO_TCP,
        &[
            libc::TCP_NODELAY,
            libc::TCP_CORK,
            libc::TCP_QUICKACK,
            libc::TCP_KEEPIDLE,
            libc::TCP_KEEPINTVL,
            libc::TCP_KEEPCNT,
            libc::TCP_USER_TIMEOUT,
        ],
    ),
];

/// Options of sockets that it may look at.
pub(super) const TOLD: &[i32] = &[
    libc::SO_ERROR,
    libc::SO_TYPE,
    libc::SO_DOMAIN,
    libc::SO_PROTOCOL,
    libc::SO_ACCEPTCONN,
];

/// What ioctl(2) does for a connection: whether it waits, and how much there is to read.
pub(super) const REQUESTS: &[u64] = &[libc::FIONBIO, libc::FIONREAD];
