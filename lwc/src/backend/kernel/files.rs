//! Files of a context in a sandbox: calls that name one are not in its list
//! ([`confine`](super::confine)), and the handler of SIGSYS
//! ([`handler`](super::handler)) passes them on; and how a descriptor comes to it.
//!
//! It comes by SCM_RIGHTS, with the rights that whoever sent it has left it
//! (cap_rights_limit(2)), which the context cannot widen. The line is in its table, and
//! can be received from alone; recvmsg(2) is let through with its number, and with no lower
//! one. Nothing of the sender's table can be taken by it that was not sent.
//!
//! Of connections it is the same, but that the context has no socket which nobody sent: a
//! kernel that goes by the number of a call alone cannot tell a socket of its own that is
//! good for nothing from another. So whoever answers has them made, and lends them without
//! the rights to connect, to bind, to listen, and to set options. A peer of Unix may send
//! descriptors, which would come by recvmsg(2) with what that peer could do by them: of a
//! connection that is answered, too, by calls that take bytes alone. Code that makes the
//! call itself has a number below the line's, which the kernel does not let through. There
//! and behind it gets nothing (RLIMIT_NOFILE) but names of contexts, also where it has
//! closed the line.

use super::handler;
use crate::backend::files::{self, Answer, NO_LINE, catch};
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// Bytes of a message with a descriptor, and what the line has room for: one.
const MESSAGE: usize = 1024;
static ROOM: libc::c_int = MESSAGE as libc::c_int / 2 * 3;

/// See [`catch_files`](crate::catch_files).
pub(crate) fn catch_files(
    line: Option<RawFd>,
    numbers: Range<RawFd>,
    answer: Answer,
) -> Result<()> {
    const CALL: &str = "catch_files";
    let info = super::calls::lw_info(None).map_err(|e| e.of(CALL))?;
    if info.flags & lwc_sys::LWC_TRAP_SYSCALL != 0 {
        return Err(Error::new(
            CALL,
            Errno::ENOTSUP,
            "all system calls of this context go to its creator",
        ));
    }
    if let Some(line) = line {
        receive_alone(line)?;
    }
    catch(line, numbers, answer);
    handler::install(CALL)
}

/// Leaves a descriptor of the line the right to receive.
fn receive_alone(line: RawFd) -> Result<()> {
    // SAFETY: of the struct, zeros are a value, which the first call fills; a list of
    // rights ends in zero; the second reads it.
    let limited = unsafe {
        let mut rights: libc::cap_rights_t = std::mem::zeroed();
        libc::__cap_rights_init(
            libc::CAP_RIGHTS_VERSION,
            &raw mut rights,
            libc::CAP_RECV,
            0u64,
        );
        libc::cap_rights_limit(line, &raw const rights)
    };
    match limited {
        0 => Ok(()),
        _ => Err(Error::last("catch_files", "the rights of the line")),
    }
}

/// See [`answer`](crate::answer).
pub(crate) fn answer(
    number: i64,
    args: [u64; 6],
) -> Option<std::result::Result<u64, crate::errno::Errno>> {
    // (Nobody asks but a function's own code, which does not run between `catch_files` and
    // its sandbox.)
    match files::are_caught() && handler::is_answered(number, args[0] as RawFd) {
        true => files::answer(number, args),
        false => None,
    }
}

/// See [`catch_connections`](crate::catch_connections).
pub(crate) fn catch_connections() -> Result<()> {
    if files::line().is_none() {
        return Err(Error::new("catch_connections", Errno::EINVAL, NO_LINE));
    }
    files::catch_connections();
    Ok(())
}

/// What is sent comes at the lowest number that is free: behind the standard three, and,
/// by the limit of the sandbox ([`limit_what_is_lent`]), below the end.
pub(crate) fn lent_descriptors() -> Range<RawFd> {
    /// Where they end; 0 as long as nobody has asked. The sandbox's limit comes later.
    static END: AtomicI32 = AtomicI32::new(0);
    let mut end = END.load(Ordering::Relaxed);
    if end == 0 {
        // SAFETY: getrlimit writes the struct it is given.
        let soft = unsafe {
            let mut limit: libc::rlimit = std::mem::zeroed();
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
            limit.rlim_cur
        };
        end = (soft / 4).clamp(32, 256) as RawFd;
        END.store(end, Ordering::Relaxed);
    }
    3..end
}

/// In a context that enters its sandbox: descriptors are at the numbers of what is lent
/// alone, but for what it has there already. Also of one that is lent none: copies of what
/// it has (fcntl(2)) are not to fill its table, so that no name of another goes in.
pub(super) fn limit_what_is_lent() -> Result<()> {
    let end = lent_descriptors().end as libc::rlim_t;
    let limit = libc::rlimit {
        rlim_cur: end,
        rlim_max: end,
    };
    // SAFETY: setrlimit reads the struct.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(()),
        _ => Err(Error::last("confine", "a limit of descriptors")),
    }
}

/// A message of so many bytes, and a descriptor's place in its control data.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Room for one descriptor.
const SPACE: u32 = {
    // SAFETY: a computation.
    unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) }
};
const _: () = assert!(SPACE as usize <= size_of::<Control>());

/// See [`send_descriptor`](crate::send_descriptor).
pub(crate) fn send_descriptor(line: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<()> {
    const CALL: &str = "send_descriptor";
    let mut bytes = [0u8; MESSAGE];
    let mut control = Control([0; 64]);
    // What is under way counts for the whole system: there is room for one.
    // SAFETY: reads an int. Then the message, which points at locals that outlive the
    // call; its control data have room for the header and one descriptor.
    let sent = unsafe {
        let room = libc::setsockopt(
            line.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUF,
            (&raw const ROOM).cast(),
            size_of_val(&ROOM) as libc::socklen_t,
        );
        if room != 0 {
            return Err(Error::last(CALL, "room for one descriptor"));
        }
        let mut piece = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = SPACE;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32);
        libc::CMSG_DATA(header)
            .cast::<RawFd>()
            .write_unaligned(fd.as_raw_fd());
        libc::sendmsg(
            line.as_raw_fd(),
            &raw const message,
            libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
        )
    };
    match sent {
        n if n >= 0 => Ok(()),
        _ if [Errno::ENOBUFS, Errno::EAGAIN].contains(&Errno::last()) => Err(Error::new(
            CALL,
            Errno::EBUSY,
            "the descriptor that was sent before has not been received",
        )),
        _ => Err(Error::last(CALL, "a descriptor")),
    }
}

/// See [`receive_descriptor`](crate::receive_descriptor).
pub(crate) fn receive_descriptor(line: BorrowedFd<'_>) -> Result<OwnedFd> {
    const CALL: &str = "receive_descriptor";
    let full = || {
        Error::new(
            CALL,
            Errno::EMFILE,
            "as many descriptors are open as a context may have",
        )
    };
    let mut byte = 0u8;
    let mut control = Control([0; 64]);
    // SAFETY: the message points at locals that outlive the call, which writes as much as
    // there is room for; what it says of them is read as far as it says.
    unsafe {
        let mut piece = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = SPACE;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        if libc::recvmsg(line.as_raw_fd(), &raw mut message, flags) < 0 {
            return Err(match Errno::last() {
                // There is no number for it, by the sandbox's limit.
                Errno::EMFILE | Errno::EMSGSIZE => full(),
                e => Error::new(CALL, e, "a descriptor"),
            });
        }
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null()
            || (*header).cmsg_level != libc::SOL_SOCKET
            || (*header).cmsg_type != libc::SCM_RIGHTS
            || (*header).cmsg_len != libc::CMSG_LEN(size_of::<RawFd>() as u32)
        {
            return Err(full());
        }
        let came = libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned();
        let lent = lent_descriptors();
        let fd = match came < lent.start {
            // The context has closed one of the standard three.
            true => libc::fcntl(came, libc::F_DUPFD_CLOEXEC, lent.start),
            false => came,
        };
        if fd != came || !lent.contains(&fd) {
            // (close(2) may be one that is taken from the context.)
            let number = came as libc::c_uint;
            libc::close_range(number, number, 0);
        }
        match lent.contains(&fd) {
            true => Ok(OwnedFd::from_raw_fd(fd)),
            false => Err(full()),
        }
    }
}
