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

/// Those among them whose first argument may be a descriptor of the call's own number.
pub(super) const BY_NUMBER: &[u16] = &[95, 123, 124, 131, 192];

/// Calls on numbers that stand for no descriptor: where there are such, they are let
/// through with a first argument below them alone.
pub(super) const ON_NUMBERS: &[u16] = &[
    3,      // read
    WRITE,  // beside standard output and error
    6,      // close
    92,     // fcntl
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

/// What a context makes itself of what it was lent, beside what every sandbox lets
/// through; the rights of each descriptor say how far.
pub(super) const LENT: &[u16] = &[
    27,  // recvmsg: the line
    289, // preadv
    475, // pread
    554, // getdirentries
];
