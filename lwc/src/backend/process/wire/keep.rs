//! What a creator, its copies and its keeper say to each other
//! ([`keeper`](crate::backend::process::keeper)).
//!
//! A message is four words, with descriptors where a copy introduces itself. No
//! copy can speak here once it runs code of its own: it has closed the socket.

use super::gate;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::RawFd;

/// What is asked of a keeper.
pub(crate) mod op {
    /// From a new copy: its identity, and [`super::FILES`]. Its process is the
    /// kernel's word.
    pub(crate) const ENTER: u64 = 1;
    /// From the creator: the present state of a copy is its snapshot.
    pub(crate) const SNAPSHOT: u64 = 2;
    /// From the creator: a copy goes back to it. With the creator's identity and
    /// how many hand-overs it has received.
    pub(crate) const ROLL_BACK: u64 = 3;
}

/// Descriptors that a copy hands over: its maps, its page map, its memory, its maps
/// with their flags, what it is like (/proc/PID/status), how large it is
/// (/proc/PID/statm), its descriptors (/proc/PID/fd), and that by which it is watched
/// ([`Means`]).
pub(crate) const FILES: usize = 8;

/// How the kernel says what a copy has written. A keeper finds out which of them
/// there is, once, when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// Asynchronous write-protection by a userfaultfd, and PAGEMAP_SCAN.
    Faults,
    /// Soft-dirty bits, cleared by /proc/PID/clear_refs.
    Bits,
}

impl Means {
    /// As a keeper says it.
    pub(crate) fn word(self) -> u64 {
        match self {
            Self::Faults => 1,
            Self::Bits => 2,
        }
    }

    /// The other way.
    pub(crate) fn of(word: u64) -> Option<Self> {
        [Self::Faults, Self::Bits]
            .into_iter()
            .find(|m| m.word() == word)
    }
}

/// Why something was refused, beside the errno.
pub(crate) mod why {
    /// A call of the kernel failed.
    pub(crate) const CALL: u64 = 1;
    /// The context does not wait to be switched to.
    pub(crate) const NOT_PARKED: u64 = 2;
    /// It has made a system call, whose number is the value, that cannot be undone.
    pub(crate) const DID: u64 = 3;
    /// Its address space has changed, from the address in the value on, as it
    /// cannot be changed back.
    pub(crate) const LAYOUT: u64 = 4;
    /// It has no snapshot.
    pub(crate) const NO_SNAPSHOT: u64 = 5;
    /// It is dead, or nobody knows it.
    pub(crate) const DEAD: u64 = 6;
    /// The kernel lacks it: see the value.
    pub(crate) const LACKS: u64 = 7;
    /// Signals wait for it, one bit each in the value, as they did not then.
    pub(crate) const SIGNALS: u64 = 8;
    /// Threads of its own are there beside it; how many is the value.
    pub(crate) const THREADS: u64 = 11;
    /// It has more descriptors, or fewer, than at its snapshot, also when what it was lent
    /// is closed; how many is the value.
    pub(crate) const LENT: u64 = 12;
    /// It has survived a fault of the processor, whose signal is the value.
    pub(crate) const FAULT: u64 = 10;
    /// Flags of the processor are others, which can be set by its own code alone.
    pub(crate) const FLAGS: u64 = 9;
}

/// What the kernel lacks.
pub(crate) mod lacks {
    pub(crate) const USERFAULTFD: u64 = 1;
    pub(crate) const WRITE_PROTECT: u64 = 2;
    pub(crate) const PAGEMAP: u64 = 3;
    pub(crate) const PAGEMAP_SCAN: u64 = 4;
    pub(crate) const PTRACE: u64 = 5;
    /// Bits would do, but not for memory that the creator has.
    pub(crate) const BLIND: u64 = 6;
    /// Added to one of the first four: soft-dirty bits as well.
    pub(crate) const BITS_TOO: u64 = 1 << 8;
    /// The same: there are some, and they do not tell of each write.
    pub(crate) const BITS_LIE: u64 = 1 << 9;
}

/// A request.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ask {
    pub(crate) op: u64,
    pub(crate) id: u64,
    pub(crate) a: u64,
    pub(crate) b: u64,
}

/// Its answer.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    pub(crate) errno: u64,
    pub(crate) why: u64,
    pub(crate) value: u64,
    /// Not zero if the context is no more what it was, and not its snapshot
    /// either: it stays stopped, to be ended.
    pub(crate) broken: u64,
}

/// Plain words, for which any bytes are a value.
///
/// # Safety
/// The implementor is `repr(C)` and made of `u64`s alone.
pub(crate) unsafe trait Words: Copy + Default {}
// SAFETY: four u64s.
unsafe impl Words for Ask {}
// SAFETY: four u64s.
unsafe impl Words for Told {}

const HEAD: usize = size_of::<libc::cmsghdr>();

/// Bytes of [`FILES`] descriptors with their header.
const RIGHTS: usize = HEAD + FILES * size_of::<RawFd>();

/// Bytes of what the kernel says of a sender.
const CREDENTIALS: usize = HEAD + size_of::<libc::ucred>();

/// A control buffer for both, aligned as cmsghdr wants it.
type Control = [u64; RIGHTS.div_ceil(8) + CREDENTIALS.div_ceil(8)];

/// Sends words, with all of [`FILES`] or none. An errno on failure.
pub(crate) fn send<T: Words>(sock: RawFd, words: &T, files: &[RawFd]) -> Result<(), i32> {
    let mut control: Control = [0; _];
    // SAFETY: the message points at locals that live across the call; of the
    // control buffer as much is used as was filled.
    let sent = unsafe {
        let mut iov = libc::iovec {
            iov_base: std::ptr::from_ref(words).cast_mut().cast(),
            iov_len: size_of::<T>(),
        };
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        if files.len() == FILES {
            let head = control.as_mut_ptr().cast::<libc::cmsghdr>();
            (*head).cmsg_len = RIGHTS as _;
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            let data = control.as_mut_ptr().byte_add(HEAD).cast::<RawFd>();
            for (i, &file) in files.iter().enumerate() {
                data.add(i).write(file);
            }
            msg.msg_control = control.as_mut_ptr().cast();
            msg.msg_controllen = RIGHTS.next_multiple_of(8) as _;
        }
        gate::own([
            libc::SYS_sendmsg as u64,
            sock as u64,
            &raw const msg as u64,
            libc::MSG_NOSIGNAL as u64,
            0,
            0,
            0,
        ])
    };
    if sent == size_of::<T>() as i64 {
        return Ok(());
    }
    Err(if sent < 0 { -sent as i32 } else { libc::EPROTO })
}

/// What has come.
pub(crate) struct Received<T> {
    pub(crate) words: T,
    /// Descriptors, where all of [`FILES`] came.
    pub(crate) files: Option<[RawFd; FILES]>,
    /// Who has sent it, the kernel says, to a socket that asks for that
    /// (SO_PASSCRED).
    pub(crate) from: Option<i32>,
}

/// Receives words, and what comes with them. `flags` as recvmsg(2) has them.
/// ECONNRESET: nobody is there any more.
pub(crate) fn receive<T: Words>(sock: RawFd, flags: i32) -> Result<Received<T>, i32> {
    let mut words = MaybeUninit::<T>::zeroed();
    let mut control: Control = [0; _];
    // SAFETY: the message points at locals that live across the call. The kernel
    // fills the control buffer within its length with whole headers, of which no
    // more is read than it says that it has filled, and than there is room for.
    unsafe {
        let mut iov = libc::iovec {
            iov_base: words.as_mut_ptr().cast(),
            iov_len: size_of::<T>(),
        };
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.as_mut_ptr().cast();
        msg.msg_controllen = size_of::<Control>() as _;
        let got = loop {
            let got = gate::own([
                libc::SYS_recvmsg as u64,
                sock as u64,
                &raw mut msg as u64,
                (flags | libc::MSG_CMSG_CLOEXEC) as u64,
                0,
                0,
                0,
            ]);
            if got != -i64::from(libc::EINTR) {
                break got;
            }
        };
        if got == 0 {
            return Err(libc::ECONNRESET);
        }
        if got != size_of::<T>() as i64 {
            return Err(if got < 0 { -got as i32 } else { libc::EPROTO });
        }
        let (mut files, mut from) = (None, None);
        let filled = (msg.msg_controllen as usize).min(size_of::<Control>());
        let mut at = 0;
        while at + HEAD <= filled {
            let head = control.as_ptr().byte_add(at).cast::<libc::cmsghdr>();
            let len = (*head).cmsg_len as usize;
            if len < HEAD || at + len > filled {
                break;
            }
            let data = head.byte_add(HEAD);
            match (*head).cmsg_type {
                libc::SCM_RIGHTS if len == RIGHTS => {
                    let data = data.cast::<RawFd>();
                    files = Some(std::array::from_fn(|i| data.add(i).read()));
                }
                libc::SCM_CREDENTIALS if len == CREDENTIALS => {
                    from = Some((*data.cast::<libc::ucred>()).pid);
                }
                _ => {}
            }
            at += len.next_multiple_of(8);
        }
        // SAFETY: words may hold any bytes (`Words`), and all of them came.
        Ok(Received {
            words: words.assume_init(),
            files,
            from,
        })
    }
}
