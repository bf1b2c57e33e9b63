//! The context's side of connections: a socket is the function's own, and to connect it
//! is the root's ([`connections`](super::connections)). What is refused, and why, is a
//! line of its log.
//!
//! As in [`files`](super::files), this runs in the function's context, and decides
//! nothing.

use super::asking::{self, Answer, How};
#[cfg(target_os = "linux")]
use super::connections::family_of;
use super::connections::{Wanted, bytes_of, bytes_of_path};
use super::files::{Asking, Received};
use super::probe::{READ, WRITE};
use super::snapshot::word;
#[cfg(target_os = "freebsd")]
use super::sockets::{About, Request, asked_for};
use super::sys as libc;
use crate::chain_file::Place;
use lwc::{Errno, FileCall};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Options of a socket that its connection has as well. (Not the sizes of its buffers,
/// which the system chooses as long as nobody does.)
pub(super) const OPTIONS: &[(i32, i32)] = &[
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_CORK),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    #[cfg(target_os = "linux")]
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    #[cfg(target_os = "freebsd")]
    (libc::SOL_SOCKET, libc::SO_NOSIGPIPE),
];

/// As long as anything that is asked again waits.
const AGAIN: Duration = Duration::from_millis(1);

/// Where C libraries look for somebody who looks names up; without one they do it
/// themselves.
const LOOKING_UP: [&[u8]; 3] = [
    b"/var/run/nscd/socket",
    b"/run/systemd/resolve/io.systemd.Resolve",
    b"/run/dbus/system_bus_socket",
];

/// The flag of what is sent before more follows.
#[cfg(target_os = "linux")]
const MORE: i32 = libc::MSG_MORE;
#[cfg(target_os = "freebsd")]
const MORE: i32 = 0;

/// Flags of sendmsg(2) and recvmsg(2) that are passed on.
const SENT: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | MORE;
const RECEIVED: i32 = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_WAITALL;

/// Those of recvmsg(2) that are about descriptors, of which none comes.
#[cfg(target_os = "linux")]
const OF_DESCRIPTORS: i32 = libc::MSG_CMSG_CLOEXEC;
#[cfg(target_os = "freebsd")]
const OF_DESCRIPTORS: i32 = libc::MSG_CMSG_CLOEXEC | 0x0040_0000; // MSG_CMSG_CLOFORK

/// So many pieces of a message, as the kernel has it.
const PIECES: u64 = 1024;

/// An option of a socket, an int or a time.
pub(super) type Value = [u8; 16];

pub(super) fn option(
    fd: RawFd,
    (level, name): (i32, i32),
) -> Result<(Value, libc::socklen_t), Errno> {
    let mut value = Value::default();
    let mut len = value.len() as libc::socklen_t;
    // SAFETY: writes as many bytes as there are.
    let done = unsafe {
        let to = value.as_mut_ptr().cast();
        libc::getsockopt(fd, level, name, to, &raw mut len)
    };
    match done {
        0 => Ok((value, len)),
        _ => Err(Errno::last()),
    }
}

/// Sets an option to the first so many bytes of a value.
pub(super) fn set_option(
    fd: RawFd,
    (level, name): (i32, i32),
    value: &Value,
    len: libc::socklen_t,
) -> Result<(), Errno> {
    if len as usize > value.len() {
        return Err(Errno::EINVAL);
    }
    // SAFETY: reads as many bytes as are told, which there are.
    match unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), len) } {
        0 => Ok(()),
        _ => Err(Errno::last()),
    }
}

/// The value of an option that is a number.
pub(super) fn number(value: Value) -> i32 {
    i32::from_ne_bytes([value[0], value[1], value[2], value[3]])
}

/// What SO_ERROR says.
pub(super) fn no_error(errno: i32) -> Result<(), Errno> {
    match errno {
        0 => Ok(()),
        errno => Err(Errno::from_raw(errno)),
    }
}

/// Gives a connection of this family the options of the socket that it takes the place of.
/// A new one has none yet: what is zero of the socket need not be looked at there.
pub(super) fn set_alike(from: RawFd, to: RawFd, family: i32, is_new: bool) {
    let mut keeps_alive = false;
    for &which in OPTIONS {
        let of_tcp = which.0 == libc::IPPROTO_TCP;
        // These mean nothing without, and are not zero.
        let is_of_that = [libc::TCP_KEEPIDLE, libc::TCP_KEEPINTVL, libc::TCP_KEEPCNT];
        let idle = is_new && !keeps_alive && of_tcp && is_of_that.contains(&which.1);
        if of_tcp && family == libc::AF_UNIX || idle {
            continue;
        }
        let Ok((value, len)) = option(from, which) else {
            continue;
        };
        let is_set = value != Value::default();
        keeps_alive |= which == (libc::SOL_SOCKET, libc::SO_KEEPALIVE) && is_set;
        let differs = match is_new {
            true => is_set,
            false => option(to, which) != Ok((value, len)),
        };
        if differs {
            let _ = set_option(to, which, &value, len);
        }
    }
}

/// That a number may be one of a connection. A call here on any other would be trapped,
/// while that is blocked, and end the context.
fn is_lent(fd: RawFd) -> Result<(), Errno> {
    match lwc::lent_descriptors().contains(&fd) {
        true => Ok(()),
        false => Err(Errno::EBADF),
    }
}

/// Waits until a socket can be written to, or so many milliseconds. What it is ready for.
pub(super) fn ready(fd: RawFd, wait: i32) -> Result<i16, Errno> {
    let mut one = libc::pollfd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    };
    loop {
        // SAFETY: one structure, which is a local.
        match unsafe { libc::poll(&raw mut one, 1, wait) } {
            n if n >= 0 => return Ok(one.revents),
            _ if Errno::last() == Errno::EINTR => {}
            _ => return Err(Errno::last()),
        }
    }
}

fn set_waiting(fd: RawFd, waits: bool) -> Result<(), Errno> {
    let mut not: libc::c_int = i32::from(!waits);
    // SAFETY: reads an int.
    match unsafe { libc::ioctl(fd, libc::FIONBIO, &raw mut not) } {
        0 => Ok(()),
        _ => Err(Errno::last()),
    }
}

/// Whether a socket has a peer.
pub(super) fn has_peer(fd: RawFd) -> Result<bool, Errno> {
    let mut peer = [0u64; 16];
    let mut len = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: writes as many bytes as there are.
    match unsafe { libc::getpeername(fd, peer.as_mut_ptr().cast(), &raw mut len) } {
        0 => Ok(true),
        _ => match Errno::last() {
            Errno::ENOTCONN => Ok(false),
            e => Err(e),
        },
    }
}

/// An address as a grant names it.
fn said(address: &[u8]) -> Option<String> {
    match Wanted::of(address) {
        Wanted::Address(address) => Some(address.to_string()),
        Wanted::Path(path) => Some(format!("unix:{}", path.display())),
        Wanted::Other => None,
    }
}

/// Flags of a socket's kind. (Descriptors are handed on to nobody.)
const SOCKET_FLAGS: i32 = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC | CLOSE_IN_CHILD;
#[cfg(target_os = "linux")]
const CLOSE_IN_CHILD: i32 = 0;
#[cfg(target_os = "freebsd")]
const CLOSE_IN_CHILD: i32 = 0x4000_0000; // SOCK_CLOFORK

impl Asking<'_> {
    /// A call about sockets, or about the flags of one.
    ///
    /// # Safety
    /// As of [`call`](Asking::call).
    #[cfg(target_os = "linux")]
    pub(super) unsafe fn socket_call(&self, call: &FileCall) -> Result<u64, Errno> {
        let a = call.args;
        let fd = a[0] as RawFd;
        // SAFETY: each takes the arguments of its call, which the caller promises.
        unsafe {
            match call.number {
                libc::SYS_socket => self.socket(a[0] as i32, a[1] as i32),
                libc::SYS_connect => self.connect(fd, a[1], a[2] as u32),
                libc::SYS_bind | libc::SYS_listen | libc::SYS_accept | libc::SYS_accept4 => {
                    self.refuse("to wait for connections, or to choose its own address")
                }
                // A wish of libraries that do without.
                libc::SYS_socketpair => Err(Errno::EACCES),
                libc::SYS_sendto if a[4] != 0 => self.refuse("to send to an address"),
                libc::SYS_sendto | libc::SYS_recvfrom => Err(Errno::ENOTSUP),
                libc::SYS_sendmsg => self.send_message(fd, a[1], a[2] as i32),
                libc::SYS_recvmsg => self.receive_message(fd, a[1], a[2] as i32),
                libc::SYS_setsockopt | libc::SYS_getsockopt => Err(Errno::ENOPROTOOPT),
                libc::SYS_fcntl => self.set_flags(fd, a[2] as i32),
                _ => Err(Errno::ENOSYS),
            }
        }
    }

    /// A call about sockets, or on one.
    ///
    /// # Safety
    /// As of [`call`](Asking::call).
    #[cfg(target_os = "freebsd")]
    pub(super) unsafe fn socket_call(&self, call: &FileCall) -> Result<u64, Errno> {
        let a = call.args;
        let fd = a[0] as RawFd;
        // SAFETY: each takes the arguments of its call, which the caller promises.
        unsafe {
            match call.number {
                libc::SYS_socket => self.lent_socket(a[0] as i32, a[1] as i32, a[2] as i32),
                libc::SYS_connect => self.connect(fd, a[1], a[2] as u32),
                libc::SYS_bind
                | libc::SYS_bindat
                | libc::SYS_listen
                | libc::SYS_accept
                | libc::SYS_accept4 => {
                    self.refuse("to wait for connections, or to choose its own address")
                }
                // A wish of libraries that do without: to wake themselves.
                libc::SYS_socketpair | libc::SYS_pipe2 => Err(Errno::EACCES),
                libc::SYS_connectat => self.refuse("a socket by the folder that it is in"),
                libc::SYS_kqueue | libc::SYS_kqueuex | libc::SYS_specialfd => {
                    self.refuse_to_wait_by(call.number)
                }
                libc::SYS_sendmsg => self.send_message(fd, a[1], a[2] as i32),
                libc::SYS_recvmsg => self.receive_message(fd, a[1], a[2] as i32),
                libc::SYS_setsockopt => self.set_option(fd, a[1] as i32, a[2] as i32, a[3], a[4]),
                libc::SYS_getsockopt => self.tell_option(fd, a[1] as i32, a[2] as i32, a[3], a[4]),
                libc::SYS_write => self.write(fd, &[piece(a[1], a[2])]),
                libc::SYS_writev if a[2] > PIECES => Err(Errno::EINVAL),
                libc::SYS_writev => {
                    let first = a[1] as *const libc::iovec;
                    let all = (0..a[2] as usize).map(|i| first.add(i).read_unaligned());
                    self.write(fd, &all.collect::<Vec<_>>())
                }
                libc::SYS_close => self.close(fd),
                _ => Err(Errno::ENOSYS),
            }
        }
    }

    /// Refuses what is granted to nobody.
    fn refuse(&self, what: &str) -> Result<u64, Errno> {
        let can = "only connections can: connect = [\"HOST:PORT\", \"unix:PATH\"]";
        self.tell_line(&format!("{what} cannot be granted; {can}"));
        Err(Errno::EACCES)
    }

    /// Refuses a queue or a counter of the kernel's, to whom it may be said what does
    /// without.
    #[cfg(target_os = "freebsd")]
    fn refuse_to_wait_by(&self, number: i64) -> Result<u64, Errno> {
        let what = match number {
            libc::SYS_specialfd => "eventfd(2)",
            _ => "kqueue(2)",
        };
        self.tell_line(&format!(
            "{what} cannot be granted here, which mio and tokio wait by; what waits by read(2), poll(2) or select(2) works"
        ));
        Err(Errno::EACCES)
    }

    /// One that is not let through, or not lent.
    fn socket(&self, family: i32, kind: i32) -> Result<u64, Errno> {
        let kind = kind & !SOCKET_FLAGS;
        match (family, kind) {
            // How the C library learns which addresses this machine has; it does without.
            #[cfg(target_os = "linux")]
            (libc::AF_NETLINK, _) => Err(Errno::EACCES),
            (libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX, libc::SOCK_STREAM)
                if !self.connects =>
            {
                let grant = "connect = [\"HOST:PORT\", \"unix:PATH\"]";
                self.tell_line(&format!("no connection is granted: {grant}"));
                Err(Errno::EACCES)
            }
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM) => self.refuse("a UDP socket"),
            (libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX, libc::SOCK_STREAM) => {
                // Of another protocol.
                Err(Errno::EPROTONOSUPPORT)
            }
            _ => self.refuse(&format!("a socket of family {family} and kind {kind}")),
        }
    }

    /// # Safety
    /// As of [`call`](Asking::call).
    unsafe fn connect(&self, fd: RawFd, address: u64, len: u32) -> Result<u64, Errno> {
        let mut bytes = [0u8; size_of::<libc::sockaddr_storage>()];
        let Some(to) = bytes.get_mut(..len as usize) else {
            return Err(Errno::EINVAL);
        };
        // SAFETY: the caller's promise.
        unsafe { (address as *const u8).copy_to(to.as_mut_ptr(), to.len()) };
        let asked: &[u8] = to;
        if !self.connects {
            return Err(self.not_granted(asked));
        }
        is_lent(fd)?;
        #[cfg(target_os = "linux")]
        let own = self.can_connect(fd, asked)?;
        let (made, waits, answer) = loop {
            // SAFETY: asks for the flags.
            #[cfg(target_os = "linux")]
            let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
            #[cfg(target_os = "freebsd")]
            let flags = mark(fd)?;
            let waits = flags & libc::O_NONBLOCK == 0;
            let answer = self.ask_with(How::connect(), asked);
            match answer.result() {
                Ok(_) => break (self.received()?, waits, answer),
                _ if answer == Answer::WAIT => {}
                _ if answer == Answer::NOT_GRANTED => return Err(self.not_granted(asked)),
                // A Unix socket whose peer has others to see to.
                Err(Errno::EAGAIN) if waits => {}
                Err(e) => return Err(e),
            }
            std::thread::sleep(AGAIN);
        };
        // (On FreeBSD the root has done that.)
        #[cfg(target_os = "linux")]
        set_alike(fd, made.as_raw_fd(), own, !answer.is_kept());
        if waits && answer.is_connecting() {
            self.await_connection(fd, made.as_raw_fd())
                .inspect_err(|_| self.has_none(made.as_raw_fd()))?;
        }
        // One that was kept is as the one before has left it. (On FreeBSD none waits yet.)
        if waits || cfg!(target_os = "linux") {
            set_waiting(made.as_raw_fd(), waits)?;
        }
        // (One that has waited the root has still.)
        if waits && answer.is_connecting() {
            self.has_none(fd);
        }
        // SAFETY: two descriptors; the first is closed by its owner, the second was a
        // socket of the function's, which this is now.
        let put = unsafe {
            #[cfg(target_os = "linux")]
            let put = libc::dup3(made.as_raw_fd(), fd, libc::O_CLOEXEC);
            #[cfg(target_os = "freebsd")]
            let put = libc::dup2(made.as_raw_fd(), fd);
            put
        };
        match put {
            -1 => Err(Errno::last()),
            _ if answer.is_connecting() && !waits => Err(Errno::EINPROGRESS),
            _ => Ok(0),
        }
    }

    /// A socket at this number is to go: nobody but this context has it.
    #[cfg(target_os = "linux")]
    #[allow(clippy::unused_self)] // as the other one
    fn has_none(&self, _: RawFd) {}

    /// Closes a socket at this number, and tells the root of it, which has it as well.
    #[cfg(target_os = "freebsd")]
    fn has_none(&self, fd: RawFd) {
        let _ = self.close(fd);
    }

    /// That a socket may become a connection: its family.
    #[cfg(target_os = "linux")]
    fn can_connect(&self, fd: RawFd, asked: &[u8]) -> Result<i32, Errno> {
        if has_peer(fd)? {
            return Err(Errno::EISCONN);
        }
        // What became of one that is being made; a socket that never was one says that
        // its peer has hung up.
        self.error_of(fd)?;
        if ready(fd, 0)? == 0 {
            return Err(Errno::EALREADY);
        }
        let own = self.number(fd, libc::SO_DOMAIN)?;
        if let Some(family) = family_of(asked)
            && family != own
            && family != libc::AF_UNSPEC
        {
            return Err(match family {
                libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX => Errno::EAFNOSUPPORT,
                _ => self.not_granted(asked),
            });
        }
        Ok(own)
    }

    /// An option of a socket.
    #[cfg(target_os = "linux")]
    #[allow(clippy::unused_self)] // as the other one
    fn option(&self, fd: RawFd, which: (i32, i32)) -> Result<(Value, libc::socklen_t), Errno> {
        option(fd, which)
    }

    /// An option of a socket, which the root tells.
    #[cfg(target_os = "freebsd")]
    fn option(&self, fd: RawFd, which: (i32, i32)) -> Result<(Value, libc::socklen_t), Errno> {
        self.about(fd, About::Get, which, &[])?;
        let mut value = Value::default();
        let (told, len) = (self.control.asked(TOLD), value.len());
        value.copy_from_slice(&told[4..]);
        let told = u32::from_ne_bytes([told[0], told[1], told[2], told[3]]);
        Ok((value, told.min(len as u32)))
    }

    /// One that is a number.
    fn number(&self, fd: RawFd, name: i32) -> Result<i32, Errno> {
        let (value, _) = self.option(fd, (libc::SOL_SOCKET, name))?;
        Ok(number(value))
    }

    fn error_of(&self, fd: RawFd) -> Result<(), Errno> {
        no_error(self.number(fd, libc::SO_ERROR)?)
    }

    /// What the root says to this, in place of a path.
    fn ask_with(&self, how: How, asked: &[u8]) -> Answer {
        self.control.put_asked(asked);
        let words = [word::ASK, how.word(), asked.len() as u64];
        asking::ask(self.root, self.apart, words)
    }

    /// What a connection that is being made comes to, in the time that its socket has for
    /// that.
    fn await_connection(&self, socket: RawFd, made: RawFd) -> Result<(), Errno> {
        let (time, _) = self.option(socket, (libc::SOL_SOCKET, libc::SO_SNDTIMEO))?;
        let half = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&time[at..at + 8]);
            i64::from_ne_bytes(word)
        };
        let millis = half(0).saturating_mul(1000).saturating_add(half(8) / 1000);
        let wait = match millis {
            0 if half(8) == 0 => -1,
            n => i32::try_from(n.max(1)).unwrap_or(i32::MAX),
        };
        match ready(made, wait)? {
            // As the kernel has it of one that has a limit of time.
            0 => Err(Errno::EINPROGRESS),
            _ => self.error_of(made),
        }
    }

    /// A queue of epoll(7).
    #[cfg(target_os = "linux")]
    pub(super) fn queue(&self) -> Result<u64, Errno> {
        let words = [word::ASK, How::queue().word(), 0];
        asking::ask(self.root, self.apart, words).result()?;
        Ok(self.received()?.into_raw_fd() as u64)
    }

    /// A descriptor that has been sent.
    fn received(&self) -> Result<Received, Errno> {
        let (_, line) = self.granted.ok_or(Errno::EACCES)?;
        Received::by(line)
    }

    /// Says which grant is missing.
    fn not_granted(&self, address: &[u8]) -> Errno {
        let path = address.get(2..).unwrap_or_default();
        if LOOKING_UP.iter().any(|p| path.starts_with(p)) {
            return Errno::ENOENT;
        }
        match said(address) {
            Some(to) => self.tell_line(&format!(
                "a connection to {to:?} is refused: it is not granted: connect = [{to:?}]"
            )),
            None => {
                let family = super::connections::family_of(address).unwrap_or(0);
                self.tell_line(&format!(
                    "a connection to an address of family {family} is refused: no grant is for that, nor for abstract names or IPv4 addresses that are written as IPv6: connect = [\"HOST:PORT\", \"unix:PATH\"]"
                ));
            }
        }
        Errno::EACCES
    }

    /// sendmsg(2), without control data: its pieces, one after another.
    ///
    /// # Safety
    /// As of [`call`](Asking::call).
    unsafe fn send_message(&self, fd: RawFd, message: u64, flags: i32) -> Result<u64, Errno> {
        // SAFETY: the caller's promise, of the structure and of what it points to.
        let message = unsafe { (message as *const libc::msghdr).read_unaligned() };
        is_lent(fd)?;
        if message.msg_controllen != 0 {
            return self.refuse("a message with control data, such as descriptors,");
        }
        if !message.msg_name.is_null() && message.msg_namelen != 0 {
            return self.refuse("to send to an address");
        }
        if flags & !SENT != 0 {
            return Err(Errno::ENOTSUP);
        }
        // SAFETY: as above.
        let send = |piece: &libc::iovec, more| unsafe {
            let flags = flags | if more { MORE } else { 0 };
            libc::send(fd, piece.iov_base, piece.iov_len, flags)
        };
        let pieces = Pieces::of(&message)?;
        // SAFETY: as above.
        unsafe { pieces.each(send) }
    }

    /// recvmsg(2): its pieces; what else comes with them goes.
    ///
    /// # Safety
    /// As of [`call`](Asking::call).
    unsafe fn receive_message(&self, fd: RawFd, at: u64, flags: i32) -> Result<u64, Errno> {
        let at = at as *mut libc::msghdr;
        // SAFETY: the caller's promise, as above.
        let mut message = unsafe { at.read_unaligned() };
        is_lent(fd)?;
        // (recvfrom(2) is let through for who has connections alone.)
        #[cfg(target_os = "freebsd")]
        if !self.connects {
            return Err(match super::files::is_open(fd) {
                true => Errno::from_raw(libc::ENOTSOCK),
                false => Errno::EBADF,
            });
        }
        let flags = flags & !OF_DESCRIPTORS;
        if flags & !RECEIVED != 0 {
            return Err(Errno::ENOTSUP);
        }
        let mut first = true;
        // SAFETY: as above.
        let receive = |piece: &libc::iovec, _| unsafe {
            // What follows is taken if it is there.
            let begun = !std::mem::replace(&mut first, false);
            let flags = flags | if begun { libc::MSG_DONTWAIT } else { 0 };
            libc::recv(fd, piece.iov_base, piece.iov_len, flags)
        };
        let mut pieces = Pieces::of(&message)?;
        if flags & libc::MSG_PEEK != 0 {
            // A second look would be at the same bytes.
            pieces.count = pieces.count.min(1);
        }
        // SAFETY: as above.
        let done = unsafe { pieces.each(receive) }?;
        (
            message.msg_namelen,
            message.msg_controllen,
            message.msg_flags,
        ) = (0, 0, 0);
        // SAFETY: as above.
        unsafe { at.write_unaligned(message) };
        Ok(done)
    }

    /// F_SETFL: whether it waits, and nothing else.
    #[cfg(target_os = "linux")]
    fn set_flags(&self, fd: RawFd, flags: i32) -> Result<u64, Errno> {
        if !lwc::lent_descriptors().contains(&fd) {
            return Err(Errno::EPERM);
        }
        if flags & (libc::O_ASYNC | libc::O_DIRECT) != 0 {
            return Err(Errno::EPERM);
        }
        set_waiting(fd, flags & libc::O_NONBLOCK == 0)?;
        Ok(0)
    }
}

/// So many bytes of what is told of an option: how long it is, and its value.
#[cfg(target_os = "freebsd")]
const TOLD: u64 = 4 + size_of::<Value>() as u64;

#[cfg(target_os = "freebsd")]
fn piece(at: u64, len: u64) -> libc::iovec {
    libc::iovec {
        iov_base: at as *mut libc::c_void,
        iov_len: len as usize,
    }
}

/// Marks a socket for the root, by a flag that nothing comes of there: the flags that it
/// had. ENOTSOCK: it is none, for it takes no flags.
#[cfg(target_os = "freebsd")]
fn mark(fd: RawFd) -> Result<i32, Errno> {
    is_lent(fd)?;
    // SAFETY: flags of a number.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        if flags < 0 && Errno::last() == Errno::EBADF {
            return Err(Errno::EBADF);
        }
        match flags >= 0 && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_APPEND) == 0 {
            true => Ok(flags),
            false => Err(Errno::from_raw(libc::ENOTSOCK)),
        }
    }
}

/// What a context has of sockets that the root has made.
#[cfg(target_os = "freebsd")]
impl Asking<'_> {
    fn lent_socket(&self, family: i32, kind: i32, protocol: i32) -> Result<u64, Errno> {
        let is_stream = kind & !SOCKET_FLAGS == libc::SOCK_STREAM;
        let is_of_these = match family {
            libc::AF_INET | libc::AF_INET6 => [0, libc::IPPROTO_TCP].contains(&protocol),
            libc::AF_UNIX => protocol == 0,
            _ => false,
        };
        if !(self.connects && is_stream && is_of_these) {
            return self.socket(family, kind);
        }
        let waits = kind & libc::SOCK_NONBLOCK == 0;
        self.ask_with(How::socket(), &asked_for(family, waits))
            .result()?;
        Ok(self.received()?.into_raw_fd() as u64)
    }

    /// For an audit: a socket to be connected, past the function's own calls.
    fn marked_one(&self, family: i32) -> Option<Received> {
        self.ask_with(How::socket(), &asked_for(family, true))
            .result()
            .ok()?;
        let socket = self.received().ok()?;
        mark(socket.as_raw_fd()).ok()?;
        Some(socket)
    }

    /// Something about a socket, which the root does.
    fn about(&self, fd: RawFd, about: About, which: (i32, i32), value: &[u8]) -> Result<(), Errno> {
        if !self.connects {
            return Err(Errno::ENOPROTOOPT);
        }
        mark(fd)?;
        let mut request = Request {
            about,
            which,
            len: value.len() as u32,
            value: Value::default(),
        };
        request.value[..value.len()].copy_from_slice(value);
        let answer = self.ask_with(How::option(), &request.bytes());
        answer.result().map(drop)
    }

    /// # Safety
    /// As of [`call`](Asking::call).
    unsafe fn set_option(
        &self,
        fd: RawFd,
        level: i32,
        name: i32,
        from: u64,
        len: u64,
    ) -> Result<u64, Errno> {
        let mut value = Value::default();
        let Some(room) = value.get_mut(..len as u32 as usize) else {
            return Err(Errno::EINVAL);
        };
        // SAFETY: the caller's promise.
        unsafe { (from as *const u8).copy_to(room.as_mut_ptr(), room.len()) };
        self.about(fd, About::Set, (level, name), room).map(|()| 0)
    }

    /// # Safety
    /// As of [`call`](Asking::call).
    unsafe fn tell_option(
        &self,
        fd: RawFd,
        level: i32,
        name: i32,
        to: u64,
        len: u64,
    ) -> Result<u64, Errno> {
        let (value, told) = self.option(fd, (level, name))?;
        let at = len as *mut libc::socklen_t;
        // SAFETY: the caller's promise.
        unsafe {
            let len = told.min(at.read_unaligned());
            (to as *mut u8).copy_from(value.as_ptr(), len as usize);
            at.write_unaligned(len);
        }
        Ok(0)
    }

    /// write(2) of a connection, where the sandbox takes that for what is printed.
    ///
    /// # Safety
    /// As of [`call`](Asking::call): the pieces are there.
    unsafe fn write(&self, fd: RawFd, pieces: &[libc::iovec]) -> Result<u64, Errno> {
        if !self.connects {
            return Err(Errno::EBADF);
        }
        is_lent(fd)?;
        // SAFETY: the caller's promise.
        let send =
            |piece: &libc::iovec, _| unsafe { libc::send(fd, piece.iov_base, piece.iov_len, 0) };
        let all = Pieces {
            first: pieces.as_ptr(),
            count: pieces.len() as u64,
        };
        // SAFETY: they are there.
        unsafe { all.each(send) }.map_err(|e| match e.raw() {
            // As of a file that was opened to read.
            libc::ENOTCAPABLE | libc::ENOTSOCK => Errno::EBADF,
            _ => e,
        })
    }

    /// close(2). Of a socket the root is told, so that its peer sees the end, if that was
    /// its last number.
    fn close(&self, fd: RawFd) -> Result<u64, Errno> {
        let is_socket = self.connects && mark(fd).is_ok();
        if !is_socket && !super::files::is_open(fd) {
            return Err(Errno::EBADF);
        }
        super::files::close(fd);
        if is_socket {
            let end = Request {
                about: About::End,
                which: (0, 0),
                len: 0,
                value: Value::default(),
            };
            self.ask_with(How::option(), &end.bytes());
        }
        Ok(0)
    }
}

/// The pieces of a message.
struct Pieces {
    first: *const libc::iovec,
    count: u64,
}

impl Pieces {
    fn of(message: &libc::msghdr) -> Result<Self, Errno> {
        let count = message.msg_iovlen as u64;
        if count > PIECES {
            return Err(Errno::EMSGSIZE);
        }
        Ok(Self {
            first: message.msg_iov,
            count,
        })
    }

    /// One after another, until one is not done wholly: as many bytes as were. The
    /// function learns whether more follow.
    ///
    /// # Safety
    /// They are there.
    unsafe fn each(
        &self,
        mut transfer: impl FnMut(&libc::iovec, bool) -> isize,
    ) -> Result<u64, Errno> {
        let mut all = 0u64;
        for i in 0..self.count {
            // SAFETY: the caller's promise.
            let piece = unsafe { self.first.add(i as usize).read_unaligned() };
            if piece.iov_len == 0 && self.count > 1 {
                continue;
            }
            match transfer(&piece, i + 1 < self.count) {
                n if n >= 0 => {
                    all += n as u64;
                    if (n as usize) < piece.iov_len {
                        break;
                    }
                }
                _ if all == 0 => return Err(Errno::last()),
                _ => break,
            }
        }
        Ok(all)
    }
}

/// A socket, if there is one.
fn made(family: i32, kind: i32, protocol: i32) -> Option<OwnedFd> {
    // SAFETY: makes a descriptor, which is ours alone.
    unsafe {
        let fd = libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    }
}

/// Whether these bytes of an address lead anywhere: by connect(2), as code of the
/// function's would try it, and by asking the root past its host. That nobody is there is
/// an answer as well.
fn leads(address: &[u8]) -> bool {
    let refused = [Errno::EACCES, Errno::EPERM];
    let family = super::connections::family_of(address).unwrap_or(0);
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
    let tried = made(family, kind, 0).is_some_and(|socket| {
        let len = address.len() as libc::socklen_t;
        // SAFETY: as many bytes as are told.
        let done = unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), len) };
        let errno = Errno::last();
        // EINVAL: a path that is too long for an address.
        done == 0 || !refused.contains(&errno) && errno != Errno::EINVAL
    });
    let asked = super::files::current().is_some_and(|asking| {
        #[cfg(target_os = "freebsd")]
        let _socket = asking
            .marked_one(family)
            .or_else(|| asking.marked_one(libc::AF_INET));
        let answer = asking.ask_with(How::connect(), address);
        if answer.result().is_ok() {
            drop(asking.received());
        }
        answer != Answer::NOT_GRANTED
    });
    tried || asked
}

/// For an audit: READ and WRITE, if a place can be connected to; a path is one from
/// the root on, as the current folder is the chain file's here, and was another one
/// where the path was read.
pub(crate) fn attempt(place: &Place) -> u64 {
    let leads = match place {
        Place::Address(address) => leads(&bytes_of(*address)),
        Place::Name(name, port) => {
            let all = (name.as_str(), *port).to_socket_addrs();
            all.into_iter().flatten().any(|a| leads(&bytes_of(a)))
        }
        Place::Unix(path) => leads(&bytes_of_path(path.as_os_str().as_bytes())),
    };
    u64::from(leads) * (READ | WRITE)
}

/// (sys/socket.h)
#[cfg(target_os = "freebsd")]
const PF_NETLINK: i32 = 38;

/// For an audit: how much can be done that is granted to nobody.
pub(crate) fn attempt_others() -> u64 {
    let sockets = [
        (libc::AF_INET, libc::SOCK_DGRAM, 0),
        (libc::AF_INET6, libc::SOCK_DGRAM, 0),
        (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        (libc::AF_UNIX, libc::SOCK_DGRAM, 0),
        (libc::AF_UNIX, libc::SOCK_SEQPACKET, 0),
        #[cfg(target_os = "linux")]
        (libc::AF_NETLINK, libc::SOCK_RAW, 0),
        #[cfg(target_os = "linux")]
        (libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        #[cfg(target_os = "linux")]
        (libc::AF_PACKET, libc::SOCK_RAW, 0),
        #[cfg(target_os = "linux")]
        (libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        #[cfg(target_os = "freebsd")]
        (libc::PF_ROUTE, libc::SOCK_RAW, 0),
        #[cfg(target_os = "freebsd")]
        (PF_NETLINK, libc::SOCK_RAW, 0),
    ];
    let sockets = sockets
        .into_iter()
        .filter(|&(f, k, p)| made(f, k, p).is_some());
    let mut count = sockets.count();
    // Itself, by the port of nobody, in each family and none; and names without a path.
    let nobody: [SocketAddr; 2] = [
        ([127, 0, 0, 1], 1).into(),
        ([0, 0, 0, 0, 0, 0, 0, 1], 1).into(),
    ];
    let mapped: SocketAddr = ([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1], 1).into();
    let mut addresses: Vec<Vec<u8>> = nobody.into_iter().chain([mapped]).map(bytes_of).collect();
    addresses.push(bytes_of_path(b"\0lwc-audit"));
    addresses.push(bytes_of_path(b"/run/systemd/private"));
    addresses.push(vec![0; 16]);
    count += addresses.iter().filter(|a| leads(a)).count();
    if let Some(socket) = made(libc::AF_INET, libc::SOCK_STREAM, 0) {
        let any = bytes_of(([127, 0, 0, 1], 0).into());
        // SAFETY: as many bytes as are told; a descriptor of our own.
        unsafe {
            let len = any.len() as libc::socklen_t;
            let fd = socket.as_raw_fd();
            count += usize::from(libc::bind(fd, any.as_ptr().cast(), len) == 0);
            count += usize::from(libc::listen(fd, 1) == 0);
        }
    }
    count as u64
}
