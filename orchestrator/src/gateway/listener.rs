//! Where callers come in: addresses, socket files, and sockets that whoever started this
//! program has bound already (sd_listen_fds(3)).

use nix::errno::Errno;
use nix::sys::socket::sockopt::{AcceptConn, SockType};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType as Type, SockaddrLike, SockaddrStorage, UnixAddr, connect,
    getsockname, getsockopt, socket,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The name of a handed-over socket that is for operators.
const ADMIN: &str = "admin";

/// Where to listen.
#[derive(Debug, Clone)]
pub enum Listen {
    /// At an address.
    Address(SocketAddr),
    /// At a socket file.
    File {
        /// Where the file is made.
        path: PathBuf,
        /// Who may connect: the permissions of the file.
        mode: u32,
    },
    /// On a socket that was handed over.
    Given(Given),
}

/// A socket that listens, and was bound by whoever started this program.
#[derive(Debug, Clone)]
pub struct Given {
    socket: Arc<GivenSocket>,
    place: Place,
    /// It is for operators.
    pub is_admin: bool,
}

#[derive(Debug)]
enum GivenSocket {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

impl Given {
    /// All that were handed over to this process; none if those that there are were meant
    /// for another. Neither programs that are started later nor their functions have them
    /// or hear of them.
    ///
    /// # Errors
    /// What was handed over is not what it is said to be, or cannot be listened on; for
    /// people.
    ///
    /// # Safety
    /// This process has no other thread, and none of its descriptors that it was not
    /// started with is open yet at one of the numbers which its environment names, nor
    /// does anybody use these later.
    pub unsafe fn take() -> Result<Vec<Self>, String> {
        // sd-notify takes what it cannot read for absent: a socket for operators would be
        // one for callers.
        let said = |name: &str| match std::env::var(name) {
            Ok(said) => Ok(Some(said)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(e) => Err(format!("{name}: {e}")),
        };
        let numbers = said("LISTEN_PID").and(said("LISTEN_FDS"));
        // Read here, since sd-notify holds names that are another's against no sockets.
        let names = said("LISTEN_FDNAMES");
        // SAFETY: the caller says that there is no other thread.
        let given = unsafe { sd_notify::listen_fds_and_unset_env() };
        for name in ["LISTEN_FDNAMES", "LISTEN_PIDFDID"] {
            // SAFETY: as above.
            unsafe { std::env::remove_var(name) };
        }
        numbers?;
        let given = given.map_err(|e| format!("LISTEN_FDS: {e}"))?;
        let names: Vec<String> = match given.len() {
            // They are another's.
            0 => Vec::new(),
            n => match names? {
                Some(names) => names.split(':').map(str::to_owned).collect(),
                None => vec![String::new(); n],
            },
        };
        if names.len() != given.len() {
            return Err(format!(
                "LISTEN_FDNAMES: {} names of {} sockets",
                names.len(),
                given.len()
            ));
        }
        let owned = given.zip(names).map(|(number, name)| {
            // SAFETY: it is open, or it could not have been marked; the caller says that
            // it is nobody else's.
            (unsafe { OwnedFd::from_raw_fd(number) }, name)
        });
        // Each is owned before the first is refused.
        let owned: Vec<_> = owned.collect();
        owned
            .into_iter()
            .map(|(socket, name)| {
                let number = socket.as_raw_fd();
                Self::of(socket, &name)
                    .map_err(|e| format!("LISTEN_FDS: descriptor {number} ({name:?}): {e}"))
            })
            .collect()
    }

    fn of(socket: OwnedFd, name: &str) -> Result<Self, String> {
        let text = |e: Errno| match e {
            Errno::ENOTSOCK => "it is no socket".to_owned(),
            e => e.desc().to_owned(),
        };
        if getsockopt(&socket, SockType).map_err(text)? != Type::Stream {
            return Err("it is not a socket of streams (ListenStream=)".into());
        }
        if !getsockopt(&socket, AcceptConn).map_err(text)? {
            return Err("it is a connection and does not listen (Accept=no)".into());
        }
        let address: SockaddrStorage = getsockname(socket.as_raw_fd()).map_err(text)?;
        let failed = |e: io::Error| e.to_string();
        let (socket, place) = match address.family() {
            Some(AddressFamily::Inet | AddressFamily::Inet6) => {
                let socket = StdTcpListener::from(socket);
                let place = Place::Address(socket.local_addr().map_err(failed)?);
                (GivenSocket::Tcp(socket), place)
            }
            Some(AddressFamily::Unix) => {
                let socket = StdUnixListener::from(socket);
                let path = socket.local_addr().map_err(failed)?;
                let path = path.as_pathname().map(|p| Place::File(p.to_owned()));
                (GivenSocket::Unix(socket), path.unwrap_or(Place::Unnamed))
            }
            _ => return Err("it is neither of IPv4 or IPv6 nor a Unix socket".into()),
        };
        Ok(Self {
            socket: Arc::new(socket),
            place,
            is_admin: name == ADMIN,
        })
    }
}

/// Where somebody listens, as callers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address.
    Address(SocketAddr),
    /// A socket file.
    File(PathBuf),
    /// A Unix socket that no file leads to.
    Unnamed,
}

impl Place {
    /// As people ask there: at an address by this scheme.
    pub fn url(&self, scheme: &str) -> String {
        match self {
            Self::Address(address) => format!("{scheme}://{address}"),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::File(path) => write!(f, "unix:{}", path.display()),
            Self::Unnamed => f.write_str("a Unix socket without a file"),
        }
    }
}

/// Who has connected, as far as the kernel tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// At this address.
    Address(SocketAddr),
    /// A user of this machine.
    User(u32),
    /// Somebody on this machine.
    Unknown,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::User(user) => write!(f, "user {user}"),
            Self::Unknown => f.write_str("somebody on this machine"),
        }
    }
}

/// All places of one kind of callers.
#[derive(Debug)]
pub(super) struct Listeners {
    all: Vec<Listener>,
    /// The one that is asked first; each in turn, so that none keeps others waiting.
    first: usize,
}

impl Listeners {
    /// Listens everywhere. Its caller sees to it that no other thread makes files
    /// meanwhile: they would have the permissions of a socket file.
    ///
    /// # Errors
    /// Where it cannot, for people.
    pub(super) fn bind<'a>(places: impl IntoIterator<Item = &'a Listen>) -> Result<Self, String> {
        let all: Result<_, _> = places.into_iter().map(Listener::bind).collect();
        Ok(Self {
            all: all?,
            first: 0,
        })
    }

    /// Where they are; of port 0 the one that was free.
    pub(super) fn places(&self) -> Vec<Place> {
        self.all.iter().map(|l| l.place.clone()).collect()
    }

    /// The next connection of any.
    pub(super) async fn accept(&mut self) -> io::Result<(Stream, Caller)> {
        std::future::poll_fn(|cx| {
            for n in 0..self.all.len() {
                let n = (self.first + n) % self.all.len();
                if let Poll::Ready(accepted) = self.all[n].poll_accept(cx) {
                    self.first = n + 1;
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[derive(Debug)]
struct Listener {
    /// It goes first, while the socket still listens: nobody takes it for one that was left
    /// behind, and makes another in its place, whose number may be the same once the first
    /// has been closed.
    _file: Option<SocketFile>,
    socket: Socket,
    place: Place,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn bind(at: &Listen) -> Result<Self, String> {
        match at {
            Listen::Address(address) => Self::at(*address)
                .map_err(|e| format!("listening on {}: {e}", Place::Address(*address))),
            Listen::File { path, mode } => Self::file(path, *mode)
                .map_err(|e| format!("listening on {}: {e}", Place::File(path.clone()))),
            Listen::Given(given) => Self::given(given)
                .map_err(|e| format!("LISTEN_FDS: listening on {}: {e}", given.place)),
        }
    }

    fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = StdTcpListener::bind(address)?;
        let address = socket.local_addr()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Socket::Tcp(TcpListener::from_std(socket)?),
            place: Place::Address(address),
            _file: None,
        })
    }

    fn file(path: &Path, mode: u32) -> Result<Self, String> {
        let text = |e: io::Error| e.to_string();
        let (socket, file) = SocketFile::bind(path, mode)?;
        socket.set_nonblocking(true).map_err(text)?;
        Ok(Self {
            socket: Socket::Unix(UnixListener::from_std(socket).map_err(text)?),
            place: Place::File(path.to_owned()),
            _file: Some(file),
        })
    }

    /// The file, where there is one, is its maker's.
    fn given(given: &Given) -> io::Result<Self> {
        let socket = match &*given.socket {
            GivenSocket::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Socket::Tcp(TcpListener::from_std(socket.try_clone()?)?)
            }
            GivenSocket::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Socket::Unix(UnixListener::from_std(socket.try_clone()?)?)
            }
        };
        Ok(Self {
            socket,
            place: given.place.clone(),
            _file: None,
        })
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Caller)>> {
        Poll::Ready(Ok(match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, address) = ready!(socket.poll_accept(cx))?;
                (Stream::Tcp(stream), Caller::Address(address))
            }
            Socket::Unix(socket) => {
                let (stream, _) = ready!(socket.poll_accept(cx))?;
                // The kernel's word, of when it connected.
                let user = stream.peer_cred().map(|c| c.uid());
                let caller = user.map_or(Caller::Unknown, Caller::User);
                (Stream::Unix(stream), caller)
            }
        }))
    }
}

/// Whether accepting has failed for the connection alone, which is gone: the next one
/// need not wait (accept(2) of either system).
pub(super) fn is_of_the_connection(error: &io::Error) -> bool {
    const ITS_OWN: [Errno; 6] = [
        Errno::ECONNABORTED,
        Errno::ECONNRESET,
        Errno::EPROTO,
        Errno::ENETDOWN,
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
    ];
    let errno = error.raw_os_error().map(Errno::from_raw);
    errno.is_some_and(|e| ITS_OWN.contains(&e))
}

/// A socket file that this process has made; it goes with it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// By device and number: another's at the same place is left alone.
    is: (u64, u64),
}

impl SocketFile {
    fn bind(path: &Path, mode: u32) -> Result<(StdUnixListener, Self), String> {
        make_room(path)?;
        // The file has its permissions from the first moment on.
        let others = Mode::from_bits_truncate(!mode as nix::libc::mode_t & 0o777);
        let before = umask(others);
        let bound = StdUnixListener::bind(path);
        umask(before);
        let socket = bound.map_err(|e| e.to_string())?;
        let there = path.symlink_metadata().map_err(|e| e.to_string())?;
        Ok((
            socket,
            Self {
                path: path.to_owned(),
                is: (there.dev(), there.ino()),
            },
        ))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A folder that may not be written any more keeps it; whoever is next replaces it.
        let _ = take_away(&self.path, self.is);
    }
}

/// Takes a file away, if it is the one of this device and number still. Whether nothing is
/// there now: another may have come in its place.
fn take_away(path: &Path, is: (u64, u64)) -> io::Result<bool> {
    let removed = match path.symlink_metadata() {
        Ok(there) if (there.dev(), there.ino()) != is => return Ok(false),
        Ok(_) => std::fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(true),
    }
}

/// Takes away what a server of this user's that was killed has left; refuses whatever
/// else is there.
fn make_room(path: &Path) -> Result<(), String> {
    let there = match path.symlink_metadata() {
        Ok(there) => there,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.to_string()),
    };
    if !there.file_type().is_socket() {
        return Err("there is something that is no socket; name another place".into());
    }
    if there.uid() != geteuid().as_raw() {
        return Err("there is a socket of another user; name another place".into());
    }
    match asked(path) {
        Err(Errno::ENOENT) => Ok(()),
        // One that ended while it was asked has taken its file away (Linux looks for the
        // file first and for its socket then), and another may have come in its place.
        Err(Errno::ECONNREFUSED) => match take_away(path, (there.dev(), there.ino())) {
            Ok(true) => Ok(()),
            Ok(false) => Err("somebody has begun to listen there meanwhile".into()),
            Err(e) => Err(e.to_string()),
        },
        // A full queue is somebody's, too.
        Ok(()) | Err(Errno::EAGAIN) => Err("somebody listens there already".into()),
        Err(e) => Err(format!(
            "there is a socket, and whether somebody listens cannot be told ({}); take it away, or name another place",
            e.desc()
        )),
    }
}

/// Whether somebody listens. It does not wait for him.
fn asked(path: &Path) -> nix::Result<()> {
    let socket = socket(
        AddressFamily::Unix,
        Type::Stream,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// The same in the runtime of the calling thread; another has accepted it.
    pub(super) fn moved(self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => {
                let stream = TcpStream::from_std(stream.into_std()?)?;
                // Answers are written whole; waiting for more to send only delays them.
                let _ = stream.set_nodelay(true);
                Self::Tcp(stream)
            }
            Self::Unix(stream) => Self::Unix(UnixStream::from_std(stream.into_std()?)?),
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_hung_up_keeps_nobody_waiting() {
        let error = |e: Errno| io::Error::from_raw_os_error(e as i32);
        assert!(is_of_the_connection(&error(Errno::ECONNABORTED)));
        for ours in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::EINVAL] {
            assert!(!is_of_the_connection(&error(ours)));
        }
        assert!(!is_of_the_connection(&io::ErrorKind::Other.into()));
    }

    /// One that is asked while it ends is there, or it is gone. If it were there and nobody
    /// listened, the next server would take its place, and find the number of its file
    /// free again; and the first would take that one's away.
    #[tokio::test]
    async fn the_file_is_gone_before_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        for _ in 0..200 {
            let socket = StdUnixListener::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            let there = path.symlink_metadata().unwrap();
            let listener = Listener {
                socket: Socket::Unix(UnixListener::from_std(socket).unwrap()),
                place: Place::Unnamed,
                _file: Some(SocketFile {
                    path: path.clone(),
                    is: (there.dev(), there.ino()),
                }),
            };
            let begun = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|s| {
                let asking = s.spawn(|| {
                    loop {
                        let answer = asked(&path);
                        begun.store(true, std::sync::atomic::Ordering::Release);
                        match answer {
                            // (It was there when the kernel looked for it.)
                            Err(Errno::ECONNREFUSED) => return !path.exists(),
                            Err(Errno::ENOENT) => return true,
                            _ => {}
                        }
                    }
                });
                while !begun.load(std::sync::atomic::Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                drop(listener);
                assert!(asking.join().unwrap(), "refused, and its file is there");
            });
        }
    }
}
