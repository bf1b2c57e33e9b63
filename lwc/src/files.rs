//! Files and connections of a context in a sandbox: what it asks for, and what it is lent.

use crate::backend::{self, FileCall};
use crate::errno::Errno;
use crate::error::{Error, Result};
use nix::errno::Errno as Cause;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Who answers, in the place of the kernel, when the current context, and the copies
/// that it makes from now on, name a file once they are in the strict sandbox
/// ([`confine`](crate::confine)): open(2), stat(2), access(2), readlink(2) and their
/// kin. Without it they are refused (EPERM; on the kernel backend ECAPMODE).
///
/// `answer` runs in the context itself, as a handler of a signal does (SIGSYS), on the
/// stack of the code that made the call; what it returns is what the call returns. It
/// is as trusted as the rest of the context: so it decides nothing, it asks. It may
/// switch to whoever decides. Where a handler of a signal has interrupted it, or left it by
/// siglongjmp(3), it may be called again meanwhile.
///
/// With a `line`, a socket of the context's by which whoever decides sends it
/// descriptors (SCM_RIGHTS, one a message), the context receives there
/// ([`receive_descriptor`]), and uses what it has at the numbers
/// [`lent_descriptors`] to *read*: read(2), pread(2), readv(2), preadv(2), lseek(2),
/// fstat(2), getdents(2), mmap(2), close(2), and fcntl(2) of flags. That is all that
/// the sandbox lets it do with them, whatever the descriptors would; it neither
/// duplicates them nor sends them on, and has none at other numbers (RLIMIT_NOFILE). So
/// whoever sends one need only see to it that it is for reading. On the kernel backend the
/// sandbox does not tell descriptors apart: there whoever sends one leaves it the rights
/// alone that are lent (cap_rights_limit(2)); it may be duplicated (fcntl(2)) among these
/// numbers. A rollback closes what came, if it was no more than there are
/// numbers: whoever has sent more has the context destroyed instead. (Where the kernel
/// counts descriptors, Linux 6.2, a rollback sees it and is ENOTSUP.) A snapshot closes
/// what is open at those numbers by then.
///
/// `numbers` are such as no descriptor has here, from 65536 on (on the kernel backend from
/// 4096 on: its C library's streams have none above 32767): calls that read, write,
/// look at, mark, lock or close one of these are `answer`'s, too, for files that it keeps
/// itself. (mmap(2) of one is EBADF.)
///
/// Call it in a context whose copies are to have it before it enters its sandbox, and
/// before [`rollback_support`](crate::rollback_support). Descriptors 0 to 2 have to be
/// taken; the line lies outside of [`lent_descriptors`].
///
/// # Errors
/// EINVAL: the line lies among those, or numbers are lower. ENOTSUP in a context whose
/// system calls are trapped. What sigaction(2) and cap_rights_limit(2) say.
///
/// # Examples
/// ```
/// use lwc::{Confinement, Errno};
///
/// let child = lwc::Builder::new().spawn(|event| {
///     let parent = event.from().expect("switched to by the creator");
///     lwc::catch_files(None, 0..0, |_| Err(Errno::EACCES)).expect("a handler");
///     lwc::confine(Confinement::Strict).expect("a sandbox");
///     let error = std::fs::File::open("/").unwrap_err();
///     let errno = error.raw_os_error().unwrap_or(0);
///     loop {
///         let _ = parent.switch(&[errno as u64]);
///     }
/// })?;
/// assert_eq!(child.switch(&[])?.args(), [libc::EACCES as u64]);
/// # Ok::<(), lwc::Error>(())
/// ```
pub fn catch_files(
    line: Option<BorrowedFd<'_>>,
    numbers: Range<i32>,
    answer: fn(&FileCall) -> std::result::Result<u64, Errno>,
) -> Result<()> {
    let number = line.map(|l| l.as_raw_fd());
    if number.is_some_and(|n| n < lent_descriptors().end) {
        return Err(Error::new(
            "catch_files",
            Cause::EINVAL,
            "the line is to lie behind the descriptors that are lent",
        ));
    }
    let least = match cfg!(target_os = "freebsd") {
        true => 1 << 12,
        false => 1 << 16,
    };
    if numbers.start < numbers.end && numbers.start < least {
        return Err(Error::new(
            "catch_files",
            Cause::EINVAL,
            format!("numbers that stand for no descriptor are {least} and more"),
        ));
    }
    backend::catch_files(number, numbers, answer)
}

/// What a call of the current context's comes to that its sandbox would trap, for whoever
/// [`catch_files`] has named: without the trap. A library that makes such calls through
/// functions of its own spares a signal (and where the context is rolled back, what its
/// keeper does about one). The number and the arguments are the system call's.
///
/// `None`: the call is to be made; the sandbox traps it, lets it through, or there is none.
///
/// # Examples
/// ```
/// // In no sandbox.
/// assert!(lwc::answer(libc::SYS_close, [u64::MAX, 0, 0, 0, 0, 0]).is_none());
/// ```
#[must_use]
pub fn answer(number: i64, args: [u64; 6]) -> Option<std::result::Result<u64, Errno>> {
    backend::answer(number, args)
}

/// After [`catch_files`] with a line: the current context, and the copies that it makes,
/// have sockets once they are in the strict sandbox, and are lent connections.
///
/// A context makes stream sockets itself (of TCP, and of Unix), and nothing comes of
/// them: connect(2), bind(2), listen(2), accept(2), sending to an address, messages with
/// control data (sendmsg(2), recvmsg(2)), other sockets, and options that are not on a
/// short list, are calls that `answer` gets instead of the kernel. Whoever decides
/// makes a connection, and sends it; dup3(2) puts it in the place of the socket. With it
/// the context reads and writes, sends and receives, waits (poll(2), select(2), and
/// epoll(7) with a queue that it was sent; eventfd(2) it makes itself), asks
/// whose it is, ends it (shutdown(2)), and duplicates it among the numbers
/// [`lent_descriptors`].
///
/// What was lent to read can be written to from then on as far as it was opened for that:
/// whoever sends a file opens it to read. Where contexts are rolled back, those that have
/// connections have to be in the strict sandbox.
///
/// On the kernel backend the context makes no socket: socket(2), setsockopt(2),
/// getsockopt(2), sendmsg(2), recvmsg(2), kqueue(2) and close(2) are answered as well, and
/// what is lent has the rights alone that whoever sends it leaves it (cap_rights_limit(2));
/// of queues there are none. recvmsg(2) is made with the line alone: what a peer at a
/// connection of Unix sends beside bytes comes to nobody there, either.
///
/// # Errors
/// EINVAL: no line.
pub fn catch_connections() -> Result<()> {
    backend::catch_connections()
}

/// The numbers at which a context in the strict sandbox has what it was lent
/// ([`catch_files`]).
#[must_use]
pub fn lent_descriptors() -> Range<i32> {
    backend::lent_descriptors()
}

/// Sends a descriptor to a context that was told of the other end of a line
/// ([`catch_files`]).
///
/// # Errors
/// EBUSY: the one before has not been received. What sendmsg(2) says.
pub fn send_descriptor(line: impl AsFd, descriptor: impl AsFd) -> Result<()> {
    backend::send_descriptor(line.as_fd(), descriptor.as_fd())
}

/// Receives what was sent there last, in a context's [`FileCall`]: one descriptor, at
/// the lowest number that is free.
///
/// # Errors
/// What recvmsg(2) says; EMFILE: no number is free among [`lent_descriptors`], or it was
/// no descriptor.
pub fn receive_descriptor(line: impl AsFd) -> Result<OwnedFd> {
    backend::receive_descriptor(line.as_fd())
}
