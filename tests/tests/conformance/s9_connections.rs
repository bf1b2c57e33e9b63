//! Connections of contexts in the strict sandbox: what is answered, what is lent, and what
//! comes of that.

use crate::s9_files::line;
use crate::s10_rollback::{FLAGS, possible};
use lwc::{Errno, FileCall, Flags};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

pub(crate) const CASES: &[Case] = cases![
    c9_2_connections_come_by_a_line,
    c9_2_calls_about_sockets_are_answered,
    c9_2_a_connection_that_is_lent_is_used_and_nothing_else,
    c9_2_a_connection_is_closed_by_a_rollback,
    c9_2_no_descriptor_comes_but_by_the_line,
];

/// The current context is in the strict sandbox, and this answers about sockets.
fn enter(line: RawFd, answer: fn(&FileCall) -> Result<u64, Errno>) -> Vec<u64> {
    // SAFETY: it is open as long as the context.
    let line = unsafe { BorrowedFd::borrow_raw(line) };
    lwc::catch_files(Some(line), 0..0, answer).unwrap();
    lwc::catch_connections().unwrap();
    lwc::confine(lwc::Confinement::Strict).unwrap();
    vec![]
}

fn c9_2_connections_come_by_a_line() {
    lwc::catch_files(None, 0..0, refuse).unwrap();
    let none = lwc::catch_connections().unwrap_err();
    assert_eq!(none.errno(), Errno::EINVAL);
}

/// Tells a descriptor and a length: the arguments of connect(2).
fn tell(call: &FileCall) -> Result<u64, Errno> {
    Ok(call.args[0] * 1000 + call.args[2])
}

fn refuse(_: &FileCall) -> Result<u64, Errno> {
    Err(Errno::EACCES)
}

/// Whatever the descriptor is, the number of the very call among them.
fn c9_2_calls_about_sockets_are_answered() {
    #[cfg(target_os = "linux")]
    const CONNECT: libc::c_long = libc::SYS_connect;
    #[cfg(target_os = "freebsd")]
    const CONNECT: libc::c_int = 98;
    let (_here, there) = line();
    let line = there.as_raw_fd();
    let other = answering(&[], Flags::empty(), move |w| {
        let address = [0u8; 32];
        let at = address.as_ptr();
        let (fd, len) = (w.get(1).map_or(0, |&n| n as RawFd), 16);
        // SAFETY: nothing is read there; no descriptor is made.
        let did = unsafe {
            match w[0] {
                0 => return enter(line, tell),
                1 => libc::connect(fd, at.cast(), len),
                // (It passes its own number.)
                _ => libc::syscall(CONNECT, fd, at, len) as i32,
            }
        };
        vec![did as u64]
    })
    .unwrap();
    call(other.handle(), &[0]);
    for way in [1, 2] {
        for fd in [3, CONNECT as u64, 1000] {
            let answer = fd * 1000 + 16;
            assert_eq!(call(other.handle(), &[way, fd]), [answer], "{way} {fd}");
        }
    }
}

/// Leaves a connection the rights with which it is lent, where there are such.
fn to_lend(connection: &impl AsFd) -> OwnedFd {
    let lent = connection.as_fd().try_clone_to_owned().unwrap();
    #[cfg(target_os = "freebsd")]
    crate::s9_files::limit(
        lent.as_fd(),
        &[
            libc::CAP_RECV,
            libc::CAP_SEND,
            libc::CAP_EVENT,
            libc::CAP_GETPEERNAME,
            libc::CAP_SHUTDOWN,
        ],
    );
    lent
}

/// Sends a byte, waits for one, and takes it.
fn exchange(fd: RawFd) -> u8 {
    let mut byte = b'a';
    let mut one = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: bytes and a structure that are locals.
    unsafe {
        assert_eq!(libc::send(fd, (&raw const byte).cast(), 1, 0), 1);
        assert_eq!(libc::poll(&raw mut one, 1, -1), 1);
        assert_eq!(libc::recv(fd, (&raw mut byte).cast(), 1, 0), 1);
    }
    byte
}

/// What may be done with a connection by who is not let: each that was.
fn misused(fd: RawFd) -> u64 {
    let mut one = 1i32;
    let to = [0u64; 16];
    let mut len = 16;
    let (byte, at) = (b"x".as_ptr().cast::<libc::c_void>(), to.as_ptr());
    let size = size_of_val(&one) as libc::socklen_t;
    // SAFETY: what is pointed at is there, as long as it is told.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_control = at.cast_mut().cast();
        message.msg_controllen = 64;
        let own = (&raw mut one).cast::<libc::c_void>();
        [
            libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) >= 0,
            libc::connect(fd, at.cast(), 16) >= 0,
            libc::bind(fd, at.cast(), 16) >= 0,
            libc::listen(fd, 1) >= 0,
            libc::accept(fd, std::ptr::null_mut(), std::ptr::null_mut()) >= 0,
            libc::sendto(fd, byte, 1, 0, at.cast(), 16) >= 0,
            libc::sendmsg(fd, &raw const message, 0) >= 0,
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, own, size * 2) >= 0,
            libc::getsockopt(fd, libc::IPPROTO_IP, 1, own, &raw mut len) >= 0,
            libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, lwc::lent_descriptors().end) >= 0,
            libc::ioctl(fd, libc::FIOASYNC as _, own) >= 0,
            libc::openat(fd, c"a".as_ptr(), libc::O_RDONLY) >= 0,
        ]
        .iter()
        .enumerate()
        .map(|(i, &did)| u64::from(did) << i)
        .sum()
    }
}

/// Receives what was sent there.
fn received(line: RawFd) -> RawFd {
    // SAFETY: it is open as long as the context.
    let fd = lwc::receive_descriptor(unsafe { BorrowedFd::borrow_raw(line) });
    std::os::fd::IntoRawFd::into_raw_fd(fd.unwrap())
}

fn c9_2_a_connection_that_is_lent_is_used_and_nothing_else() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let (mut peer, _) = server.accept().unwrap();
    let (here, there) = line();
    let line = there.as_raw_fd();
    let other = answering(&[], Flags::empty(), move |w| match w {
        [0] => enter(line, refuse),
        _ => {
            let fd = received(line);
            let byte = exchange(fd);
            let did = misused(fd);
            // SAFETY: a number of its own.
            let ended = unsafe { libc::shutdown(fd, libc::SHUT_WR) };
            vec![byte.into(), did, ended as u64]
        }
    })
    .unwrap();
    call(other.handle(), &[0]);
    peer.write_all(b"b").unwrap();
    lwc::send_descriptor(&here, to_lend(&client)).unwrap();
    assert_eq!(call(other.handle(), &[1]), [b'b'.into(), 0, 0]);
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"a");
}

/// Its peer sees the end of it, whatever the context has made of it.
fn c9_2_a_connection_is_closed_by_a_rollback() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (here, there) = line();
    let line = there.as_raw_fd();
    lwc::catch_files(Some(there.as_fd()), 0..0, refuse).unwrap();
    lwc::catch_connections().unwrap();
    if !possible() {
        return;
    }
    let c = answering(&[], FLAGS, move |w| match w {
        [0] => {
            lwc::confine(lwc::Confinement::Strict).unwrap();
            vec![]
        }
        _ => {
            let fd = received(line);
            // SAFETY: a number of its own, once more.
            let other = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, fd + 1) };
            vec![exchange(fd).into(), u64::from(other > fd)]
        }
    })
    .unwrap();
    call(c.handle(), &[0]);
    c.snapshot().unwrap();
    for _ in 0..2 {
        let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let (mut peer, _) = server.accept().unwrap();
        peer.write_all(b"b").unwrap();
        lwc::send_descriptor(&here, to_lend(&client)).unwrap();
        drop(client);
        assert_eq!(call(c.handle(), &[1]), [b'b'.into(), 1]);
        c.roll_back().unwrap();
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"a");
    }
}

/// A byte, and with it the descriptor of the socket.
fn send_itself(stream: &UnixStream) {
    let mut byte = b'.';
    let mut control = [0u64; 8];
    // SAFETY: of the structures, zeros are a value; all that the message points to are
    // locals, as long as it says.
    unsafe {
        let mut piece = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(4) as _;
        let fd = stream.as_raw_fd();
        libc::CMSG_DATA(head).cast::<RawFd>().write_unaligned(fd);
        assert_eq!(libc::sendmsg(fd, &raw const message, 0), 1);
    }
}

/// How many numbers are open.
fn open() -> u64 {
    // SAFETY: asks about numbers.
    let is = |fd| unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 };
    lwc::lent_descriptors().filter(|&fd| is(fd)).count() as u64
}

/// What calls that are let through take of a connection: bytes.
fn bytes_of(fd: RawFd) -> u64 {
    let mut byte = 0u8;
    let at = (&raw mut byte).cast();
    let piece = libc::iovec {
        iov_base: at,
        iov_len: 1,
    };
    // SAFETY: a byte that is a local.
    unsafe {
        let received = libc::recv(fd, at, 1, libc::MSG_DONTWAIT);
        let read = libc::read(fd, at, 1) + libc::readv(fd, &raw const piece, 1);
        (received + read) as u64
    }
}

/// A number that is not let through, whatever it is of; nor comes what a peer sends by
/// other calls.
fn c9_2_no_descriptor_comes_but_by_the_line() {
    #[cfg(target_os = "linux")]
    const RECVMSG: i64 = libc::SYS_recvmsg;
    #[cfg(target_os = "freebsd")]
    const RECVMSG: i64 = 27;
    /// What its handler says of recvmsg(2): nothing else is asked.
    fn answer(call: &FileCall) -> Result<u64, Errno> {
        match call.number {
            RECVMSG => Err(Errno::EXDEV),
            _ => Err(Errno::EACCES),
        }
    }
    for connects in [true, false] {
        // Linux asks nobody where there are no connections.
        let said = match connects || cfg!(target_os = "freebsd") {
            true => Errno::EXDEV,
            false => Errno::EPERM,
        };
        let (client, peer) = UnixStream::pair().unwrap();
        let (here, there) = line();
        let line = there.as_raw_fd();
        let other = answering(&[], Flags::empty(), move |w| match w {
            // SAFETY: it is open as long as the context.
            [0] => unsafe {
                let line = BorrowedFd::borrow_raw(line);
                lwc::catch_files(Some(line), 0..0, answer).unwrap();
                if connects {
                    lwc::catch_connections().unwrap();
                }
                lwc::confine(lwc::Confinement::Strict).unwrap();
                vec![]
            },
            _ => {
                let fd = received(line);
                let had = open();
                let tried = [fd, -1, 0, lwc::lent_descriptors().end - 1].map(|fd| {
                    // SAFETY: the message has nothing.
                    let came = unsafe {
                        let mut message: libc::msghdr = std::mem::zeroed();
                        libc::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT)
                    };
                    u64::from(came == -1 && Errno::last() == said)
                });
                let bytes = match connects {
                    true => bytes_of(fd),
                    false => 3,
                };
                vec![tried.iter().sum(), bytes, open() - had]
            }
        })
        .unwrap();
        call(other.handle(), &[0]);
        (0..3).for_each(|_| send_itself(&peer));
        lwc::send_descriptor(&here, to_lend(&client)).unwrap();
        assert_eq!(call(other.handle(), &[1]), [4, 3, 0], "{connects}");
    }
}
