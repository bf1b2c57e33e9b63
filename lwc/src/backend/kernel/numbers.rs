//! FreeBSD's numbers (sys/syscall.h) of the calls that a sandbox leaves out of its list
//! ([`confine`](super::confine)) to have them answered ([`handler`](super::handler)), and
//! of those that it lets through for what was lent. They never change; the libc crate has
//! none.

/// Of standard output and error.
pub(super) const WRITE: u16 = 4;
pub(super) const WRITEV: u16 = 121;

/// Calls that name a file, or change what there is, and are taken from a context instead
/// of refused: FreeBSD's numbers, as in [`confine`](super::confine).
pub(super) const CAUGHT: &[u16] = &[
    5,   // open
    10,  // unlink
    33,  // access
    58,  // readlink
    95,  // fsync
    123, // fchown
    124, // fchmod
    128, // rename
    131, // flock
    136, // mkdir
    137, // rmdir
    191, // pathconf
    192, // fpathconf
    290, // pwritev
    326, // __getcwd
    376, // eaccess
    476, // pwrite
    479, // truncate
    480, // ftruncate
    489, // faccessat
    490, // fchmodat
    491, // fchownat
    496, // mkdirat
    499, // openat
    500, // readlinkat
    501, // renameat
    503, // unlinkat
    513, // lpathconf
    530, // posix_fallocate
    531, // posix_fadvise
    546, // futimens
    547, // utimensat
    550, // fdatasync
    552, // fstatat
    555, // statfs
    556, // fstatfs
    568, // funlinkat
    574, // __realpathat
];

/// Calls about sockets that are taken from a context in the same way, whether it has
/// connections or not. Each of them makes one, names somebody, carries descriptors, or is
/// one for many things of which some are not the context's to do.
pub(super) const SOCKETS: &[u16] = &[
    RECVMSG, // but of the line
    SENDMSG, 30, // accept
    97, // socket
    CONNECT, BIND, //
    SETSOCKOPT, 106, // listen
    GETSOCKOPT, 135, // socketpair
    362, // kqueue: of the timers in such queues there are so many for the system
    538, // bindat
    539, // connectat
    541, // accept4
    542, // pipe2
    577, // __specialfd: eventfd
    583, // kqueuex
];
pub(super) const RECVMSG: u16 = 27;
const SENDMSG: u16 = 28;
const CONNECT: u16 = 98;
const BIND: u16 = 104;
const SETSOCKOPT: u16 = 105;
const GETSOCKOPT: u16 = 118;

/// What a context with connections makes itself, beside [`LENT`]. Capability mode refuses
/// the address in sendto(2), and the rights of each descriptor what it was not lent for.
pub(super) const CONNECTED: &[u16] = &[
    29,  // recvfrom
    31,  // getpeername
    32,  // getsockname
    41,  // dup
    90,  // dup2
    93,  // select
    133, // sendto
    134, // shutdown
    209, // poll
    522, // pselect
    545, // ppoll
];

/// Those among them whose first argument may be a descriptor of the call's own number.
pub(super) const BY_NUMBER: &[u16] = &[CLOSE, 30, 95, 106, 123, 124, 131, 192, 541];

/// The same, where one of the arguments behind it, by its place, is an address.
pub(super) const BY_ADDRESS: &[(u16, usize)] = &[
    (WRITE, 1),
    (WRITEV, 1),
    (RECVMSG, 1),
    (SENDMSG, 1),
    (CONNECT, 1),
    (BIND, 1),
    (SETSOCKOPT, 3),
    (GETSOCKOPT, 3),
];

/// Calls on numbers that stand for no descriptor: where there are such, they are let
/// through with a first argument below them alone.
pub(super) const ON_NUMBERS: &[u16] = &[
    3,     // read
    WRITE, // beside standard output and error
    CLOSE, 92,     // fcntl
    120,    // readv
    WRITEV, // as write
    289,    // preadv
    290,    // pwritev
    475,    // pread
    476,    // pwrite
    478,    // lseek
    551,    // fstat
    554,    // getdirentries
];

pub(super) const CLOSE: u16 = 6;

/// What a context makes itself of what it was lent, beside what every sandbox lets
/// through; the rights of each descriptor say how far.
pub(super) const LENT: &[u16] = &[
    RECVMSG, // of the line
    289,     // preadv
    475,     // pread
    554,     // getdirentries
];

/// Calls that are let through with the line's number, and those behind it, alone: what
/// brings descriptors. (No other call that is let through takes control data.)
pub(super) const FROM_LINE: &[u16] = &[RECVMSG];
