//! The backend's own descriptors: kept out of the user's way, and sent.

use crate::error::{Error, Result};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// Most descriptors in one message (SCM_MAX_FD of the kernel is 253).
pub(crate) const MAX_SENT: usize = 250;

/// Where our own descriptors begin: the upper three quarters of what the
/// process may have, so that the low numbers stay the user's.
static BASE: AtomicI32 = AtomicI32::new(0);

pub(crate) fn base() -> RawFd {
    match BASE.load(Ordering::Relaxed) {
        0 => find_base(),
        known => known,
    }
}

fn find_base() -> RawFd {
    // SAFETY: getrlimit writes the struct it is given.
    let soft = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur
    };
    let base = (soft / 4).clamp(32, 4096) as RawFd;
    BASE.store(base, Ordering::Relaxed);
    base
}

/// Where a context in the strict sandbox has what it is lent: below all that is ours,
/// behind the standard three.
pub(crate) fn lent() -> std::ops::Range<RawFd> {
    3..base().min(256)
}

/// What a call that makes a descriptor returned.
fn made(fd: RawFd, call: &'static str, what: &'static str) -> Result<OwnedFd> {
    if fd < 0 {
        return Err(Error::last(call, what));
    }
    // SAFETY: the kernel has just made it for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One more number for a descriptor, among our own.
pub(crate) fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: fcntl with plain numbers.
    let mut up = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, base()) };
    if up < 0 && Errno::last() == Errno::EINVAL {
        // The limit has come down below where we began.
        // SAFETY: as above.
        up = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, find_base()) };
    }
    if up < 0 && Errno::last() == Errno::EINVAL {
        Errno::EMFILE.set();
    }
    made(up, "fcntl", "a descriptor for a context; see `ulimit -n`")
}

/// A memory file of `len` bytes whose size is fixed for ever: nobody who gets
/// its descriptor can truncate it under a reader's feet.
pub(crate) fn sealed_memfd(name: &CStr, len: usize) -> Result<OwnedFd> {
    // SAFETY: the name is read before the call returns.
    let fd =
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    let fd = duplicate(made(fd, "memfd_create", "shared memory")?)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
    // SAFETY: plain system calls on a descriptor of our own.
    let ok = unsafe {
        libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) == 0
            && libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) == 0
    };
    if !ok {
        return Err(Error::last(
            "ftruncate",
            format!("{len} bytes of shared memory"),
        ));
    }
    Ok(fd)
}

/// Whether a file holds the range and can never be cut short.
pub(crate) fn holds(fd: &OwnedFd, offset: u64, len: u64) -> bool {
    let fd = fd.as_raw_fd();
    // SAFETY: fstat fills the struct; reading seals changes nothing.
    unsafe {
        let mut st: libc::stat = std::mem::zeroed();
        libc::fstat(fd, &raw mut st) == 0
            && offset
                .checked_add(len)
                .is_some_and(|end| end <= st.st_size as u64)
            && libc::fcntl(fd, libc::F_GET_SEALS) & libc::F_SEAL_SHRINK != 0
    }
}

/// A socket pair for passing descriptors, one end for each of two contexts.
pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    const WHAT: &str = "a channel between two contexts";
    let mut ends = [-1; 2];
    // SAFETY: socketpair writes the two descriptors it makes.
    let rc = unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
            ends.as_mut_ptr(),
        )
    };
    if rc != 0 {
        return Err(Error::last("socketpair", WHAT));
    }
    let [a, b] = ends.map(|fd| made(fd, "socketpair", WHAT));
    let (a, b) = (duplicate(a?)?, duplicate(b?)?);
    for end in [&a, &b] {
        // As little as there is, for a few messages: descriptors under way are
        // counted for the user, and who reads too late or never is hostile.
        let least: libc::c_int = 1;
        // SAFETY: the option reads an int of the length given.
        unsafe {
            libc::setsockopt(
                end.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDBUF,
                (&raw const least).cast(),
                size_of_val(&least) as libc::socklen_t,
            );
        }
    }
    Ok((a, b))
}

/// `si_code` of the signal that says so.
pub(crate) const POLL_HUP: i32 = 6;

/// From now on `signal` comes to whom [`alarm_goes_to`] names when the other end
/// of a socket closes, as it does when its context dies or calls execve(2).
/// (Messages send it too; the handler does not mind.)
pub(crate) fn alarm(sock: impl AsFd, signal: i32) -> Result<()> {
    // F_SETSIG of the C library's header, which the libc crate lacks.
    const F_SETSIG: i32 = 10;
    let sock = sock.as_fd().as_raw_fd();
    // SAFETY: fcntl with plain numbers on a socket of our own.
    let ok = unsafe {
        libc::fcntl(sock, F_SETSIG, signal) == 0
            && libc::fcntl(sock, libc::F_SETFL, libc::O_NONBLOCK | libc::O_ASYNC) == 0
    };
    watching(ok)
}

/// To a process of this user. It may hold the socket; whoever does sets it.
pub(crate) fn alarm_goes_to(sock: impl AsFd, pid: i32) -> Result<()> {
    // SAFETY: as above.
    let rc = unsafe { libc::fcntl(sock.as_fd().as_raw_fd(), libc::F_SETOWN, pid) };
    watching(rc == 0)
}

fn watching(ok: bool) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::last(
        "fcntl",
        "watching a channel between two contexts",
    ))
}

/// Whether what comes through a socket from now on says who sent it.
pub(crate) fn ask_credentials(sock: impl AsFd, yes: bool) -> Result<()> {
    let yes = libc::c_int::from(yes);
    // SAFETY: the option reads an int of the length given.
    let rc = unsafe {
        libc::setsockopt(
            sock.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSCRED,
            (&raw const yes).cast(),
            size_of_val(&yes) as libc::socklen_t,
        )
    };
    if rc != 0 {
        return Err(Error::last("setsockopt", "asking who a context is"));
    }
    Ok(())
}

/// Sends a byte, for the other end to see who we are, and a file of ours with it.
pub(crate) fn show_credentials(sock: impl AsFd, file: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut byte = 0u8;
    // Room for one descriptor: CMSG_SPACE(4) = 24 bytes.
    let mut control = [0u64; 3];
    // SAFETY: the message points at locals that live across the call; the one header
    // and the number behind it lie in the control buffer.
    let rc = unsafe {
        let mut iov = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        if let Some(file) = file {
            let len = size_of::<RawFd>() as u32;
            msg.msg_control = control.as_mut_ptr().cast();
            msg.msg_controllen = libc::CMSG_SPACE(len) as _;
            let head = libc::CMSG_FIRSTHDR(&raw const msg);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(len) as _;
            let number = libc::CMSG_DATA(head).cast::<RawFd>();
            number.write_unaligned(file.as_raw_fd());
        }
        // Not send(2): sandboxes know this one.
        libc::sendmsg(sock.as_fd().as_raw_fd(), &raw const msg, libc::MSG_NOSIGNAL)
    };
    if rc != 1 {
        return Err(Error::last("sendmsg", "telling the root who a context is"));
    }
    Ok(())
}

/// The process that has sent the next byte, as the kernel has it, and the first
/// descriptor that came with it, which may be of anything. Others are dropped: there is
/// no room for them.
pub(crate) fn receive_credentials(sock: impl AsFd) -> Result<(i32, Option<OwnedFd>)> {
    let sock = sock.as_fd().as_raw_fd();
    let mut byte = 0u8;
    // Room for the credentials and one descriptor: CMSG_SPACE(12) + CMSG_SPACE(4) = 56
    // bytes.
    let mut control = [0u64; 7];
    let (mut pid, mut file) = (None, None);
    // SAFETY: the message points at locals that live across the call; headers are read
    // where the kernel says that there are some, and their data if it is as long as what
    // it is read as, of which any bytes are a value. The kernel has made the descriptors
    // just now, for us: each has one owner.
    unsafe {
        let mut iov = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.as_mut_ptr().cast();
        msg.msg_controllen = size_of_val(&control) as _;
        let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
        if libc::recvmsg(sock, &raw mut msg, flags) < 0 {
            return Err(Error::last("recvmsg", "who a context is"));
        }
        let mut head = libc::CMSG_FIRSTHDR(&raw const msg);
        while !head.is_null() {
            let len = (*head).cmsg_len as usize;
            let holds = |bytes: usize| len == libc::CMSG_LEN(bytes as u32) as usize;
            let data = libc::CMSG_DATA(head);
            match ((*head).cmsg_level, (*head).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if holds(size_of::<libc::ucred>()) => {
                    pid = Some(data.cast::<libc::ucred>().read_unaligned().pid);
                }
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    let came = len.saturating_sub(libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                    for i in 0..came {
                        let number = data.cast::<RawFd>().add(i).read_unaligned();
                        let came = OwnedFd::from_raw_fd(number);
                        file.get_or_insert(came);
                    }
                }
                _ => {}
            }
            head = libc::CMSG_NXTHDR(&raw const msg, head);
        }
    }
    let pid = pid.ok_or_else(|| Error::new("recvmsg", Errno::EPROTO, "no credentials came"))?;
    Ok((pid, file))
}

/// A control buffer, aligned as cmsghdr wants it.
#[repr(C, align(8))]
struct Control([u8; 1088]);

/// Sends descriptors. At most [`MAX_SENT`].
pub(crate) fn send(sock: impl AsFd, fds: &[BorrowedFd<'_>]) -> Result<()> {
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    send_raw(sock, &numbers).map_err(|e| Error::new("sendmsg", e, "passing descriptors"))
}

/// The same without allocating, by numbers, which may name nothing (EBADF).
pub(crate) fn send_raw(sock: impl AsFd, fds: &[RawFd]) -> std::result::Result<(), Errno> {
    let sock = sock.as_fd().as_raw_fd();
    if fds.is_empty() {
        return Ok(());
    }
    if fds.len() > MAX_SENT {
        return Err(Errno::E2BIG);
    }
    let mut byte = 0u8;
    let mut control = Control([0; 1088]);
    let bytes = size_of_val(fds);
    // SAFETY: the message points at locals that live across the call; the
    // control buffer holds CMSG_SPACE(MAX_SENT * 4) = 1016 bytes and more, so
    // the one header and its data lie inside it.
    let rc = unsafe {
        let mut iov = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.0.as_mut_ptr().cast();
        msg.msg_controllen = libc::CMSG_SPACE(bytes as u32) as _;
        let head = libc::CMSG_FIRSTHDR(&raw const msg);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(bytes as u32) as _;
        std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), libc::CMSG_DATA(head), bytes);
        libc::sendmsg(sock, &raw const msg, libc::MSG_NOSIGNAL)
    };
    Errno::result(rc).map(drop)
}

/// Receives so many descriptors, three at most, at the lowest numbers, without
/// allocating.
pub(crate) fn receive_low<const N: usize>(
    sock: impl AsFd,
    cloexec: bool,
) -> std::result::Result<[OwnedFd; N], Errno> {
    let sock = sock.as_fd().as_raw_fd();
    const { assert!(N > 0 && N <= 3) };
    let mut byte = 0u8;
    // Room for three (CMSG_LEN(12) = 28 bytes), and no more than the kernel is
    // told: it discards what else a peer may send.
    let mut control = [0u64; 4];
    let bytes = (N * size_of::<RawFd>()) as u32;
    let flags = libc::MSG_DONTWAIT | if cloexec { libc::MSG_CMSG_CLOEXEC } else { 0 };
    // SAFETY: the message points at locals that live across the call; the one
    // header is read where the kernel says that there is one, and descriptors
    // as many as its length says, which were room for.
    unsafe {
        let mut iov = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.as_mut_ptr().cast();
        msg.msg_controllen = libc::CMSG_LEN(bytes) as _;
        Errno::result(libc::recvmsg(sock, &raw mut msg, flags))?;
        let head = libc::CMSG_FIRSTHDR(&raw const msg);
        if head.is_null()
            || (*head).cmsg_level != libc::SOL_SOCKET
            || (*head).cmsg_type != libc::SCM_RIGHTS
        {
            return Err(Errno::EPROTO);
        }
        let came = ((*head).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize) / 4;
        let data = libc::CMSG_DATA(head).cast::<RawFd>();
        let mut fds: [Option<OwnedFd>; N] = [const { None }; N];
        for (i, fd) in fds.iter_mut().enumerate().take(came) {
            *fd = Some(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
        }
        // Fewer than were due are closed with the list.
        if came != N {
            return Err(Errno::EPROTO);
        }
        Ok(fds.map(|fd| fd.expect("as many came as are due")))
    }
}

/// Receives exactly `want` descriptors, all CLOEXEC and among our own; any
/// other number (a peer may send what it likes) closes them and fails.
pub(crate) fn receive(sock: impl AsFd, want: usize) -> Result<Vec<OwnedFd>> {
    if want == 0 {
        return Ok(Vec::new());
    }
    let mut byte = 0u8;
    let mut control = Control([0; 1088]);
    let mut got: Vec<OwnedFd> = Vec::new();
    // SAFETY: as in `send`; the kernel fills the control buffer within the
    // length given, and CMSG_* walk it within msg_controllen.
    unsafe {
        let mut iov = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.0.as_mut_ptr().cast();
        msg.msg_controllen = control.0.len() as _;
        if libc::recvmsg(
            sock.as_fd().as_raw_fd(),
            &raw mut msg,
            libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT,
        ) < 0
        {
            return Err(Error::last("recvmsg", "descriptors from a context"));
        }
        let mut head = libc::CMSG_FIRSTHDR(&raw const msg);
        while !head.is_null() {
            if (*head).cmsg_level == libc::SOL_SOCKET && (*head).cmsg_type == libc::SCM_RIGHTS {
                let n = ((*head).cmsg_len as usize - libc::CMSG_LEN(0) as usize) / 4;
                let data = libc::CMSG_DATA(head).cast::<RawFd>();
                got.extend((0..n).map(|i| OwnedFd::from_raw_fd(data.add(i).read_unaligned())));
            }
            head = libc::CMSG_NXTHDR(&raw const msg, head);
        }
    }
    if got.len() != want {
        return Err(Error::new(
            "recvmsg",
            Errno::EPROTO,
            format!("{} descriptors where {want} were due", got.len()),
        ));
    }
    got.into_iter().map(duplicate).collect()
}

/// Closes `[from, to]` but for `keep`, which must be sorted.
pub(crate) fn close_except(from: u32, to: u32, keep: &[RawFd]) {
    let mut next = from;
    for &k in keep.iter().filter(|&&k| k >= 0) {
        let k = k as u32;
        if k < next {
            continue;
        }
        if k > to {
            break;
        }
        if k > next {
            close_range(next, k - 1);
        }
        next = k + 1;
    }
    if next <= to {
        close_range(next, to);
    }
}

fn close_range(from: u32, to: u32) {
    // SAFETY: the caller means these numbers closed: they are user
    // descriptors that a specifier leaves out of the current context.
    unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
}
