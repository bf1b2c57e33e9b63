//! The root's side of connections: it decides, by the chain file, makes what is granted,
//! and lends it.
//!
//! ```text
//!   function: socket()                its own, of which nothing comes
//!   function: connect(fd, address)    the sandbox does not make the call (SIGSYS)
//!     └ handler: ASK ─────────▶ root: reads the address once; finds the grant;
//!                                     makes a socket and connects it to *that* address,
//!       recvmsg ◀── SCM_RIGHTS ──────  without waiting
//!       options of its own, waits
//!     └ dup3: the connection in the place of the socket
//!   function: send, recv, poll        are not trapped
//! ```
//!
//! The address that the function gives only chooses among the grants. What is connected
//! is a socket that the function has never had, to the address that the chain file says,
//! or to one that the root has found for a name itself. So nothing that is changed while
//! it is looked at, and no family or option of the function's own socket, leads elsewhere.
//!
//! On FreeBSD the socket is one that the root has made and lent as well
//! (`sockets.rs`), and the root gives the connection the options of that.

use super::asking::{ASKED_MOST, Answer};
use super::connect::{OPTIONS, Value, option, set_option};
use super::named::Names;
#[cfg(target_os = "linux")]
use super::opening::kind;
#[cfg(target_os = "freebsd")]
use super::opening::stat;
#[cfg(target_os = "freebsd")]
use super::opening::{For, limit};
#[cfg(target_os = "linux")]
use super::opening::{Within, look};
use super::opening::{is_about_processes, open_folder};
#[cfg(target_os = "freebsd")]
use super::sockets::{LARGEST_BUFFER, Sockets};
use super::sys as libc;
use crate::chain_file::{ConnectGrant, Place, by_names, from_root};
use lwc::Errno;
use std::cell::{Cell, RefCell};
use std::ffi::{CString, OsStr};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A name is looked up again after this.
pub(super) const NAMES_FOR: Duration = Duration::from_secs(30);
/// Addresses that a name had so long ago may still be connected to.
pub(super) const SEEN_FOR: Duration = Duration::from_secs(300);
/// A name that was not found is looked up again after this.
pub(super) const TRIED_AGAIN: Duration = Duration::from_secs(5);
/// So long a name may take.
pub(super) const WAITS_FOR: Duration = Duration::from_secs(10);

/// Queues of epoll(7) that a context may have.
#[cfg(target_os = "linux")]
const QUEUES: u32 = 4;

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// Its addresses; none: it has none.
    Up(Vec<IpAddr>),
    /// Nothing, yet.
    Not,
}

/// Where a function wants to connect to: what its socket address says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Address(SocketAddr),
    Path(PathBuf),
    /// A family that is never granted, an abstract name, an address in the clothes of
    /// another family, or too few bytes.
    Other,
}

/// The family that a `sockaddr` begins with: behind its length, where the system has that,
/// which the kernel does not believe.
pub(super) fn family_of(bytes: &[u8]) -> Option<i32> {
    let first = bytes.first_chunk::<2>()?;
    Some(match cfg!(target_os = "linux") {
        true => u16::from_ne_bytes(*first).into(),
        false => first[1].into(),
    })
}

/// So many bytes begin with.
fn beginning(family: i32, len: usize) -> Vec<u8> {
    match cfg!(target_os = "linux") {
        true => (family as u16).to_ne_bytes().to_vec(),
        false => vec![len as u8, family as u8],
    }
}

impl Wanted {
    /// What these bytes of a `sockaddr` say.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let (Some(family), Some(rest)) = (family_of(bytes), bytes.get(2..)) else {
            return Self::Other;
        };
        let port = |b: &[u8]| u16::from_be_bytes([b[0], b[1]]);
        match family {
            libc::AF_INET if rest.len() >= 14 => {
                let ip: [u8; 4] = [rest[2], rest[3], rest[4], rest[5]];
                Self::Address(SocketAddr::new(Ipv4Addr::from(ip).into(), port(rest)))
            }
            libc::AF_INET6 if rest.len() >= 22 => {
                let mut ip = [0; 16];
                ip.copy_from_slice(&rest[6..22]);
                let ip = Ipv6Addr::from(ip);
                match ip.to_ipv4_mapped() {
                    Some(_) => Self::Other,
                    None => Self::Address(SocketAddr::new(ip.into(), port(rest))),
                }
            }
            libc::AF_UNIX => {
                let path = rest.split(|&b| b == 0).next().unwrap_or_default();
                match path.is_empty() {
                    true => Self::Other,
                    false => Self::Path(PathBuf::from(OsStr::from_bytes(path))),
                }
            }
            _ => Self::Other,
        }
    }
}

/// The bytes of a `sockaddr` that say so.
pub(super) fn bytes_of(address: SocketAddr) -> Vec<u8> {
    let port = address.port().to_be_bytes();
    let (family, ip, before, after) = match address.ip() {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec(), 0, 8),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec(), 4, 4),
    };
    let mut all = beginning(family, 4 + before + ip.len() + after);
    all.extend(port);
    all.resize(all.len() + before, 0);
    all.extend(ip);
    all.resize(all.len() + after, 0);
    all
}

/// The same of a path.
pub(super) fn bytes_of_path(path: &[u8]) -> Vec<u8> {
    let mut all = beginning(libc::AF_UNIX, 2 + path.len());
    all.extend(path);
    all
}

/// All that a function is granted.
#[derive(Debug)]
pub(super) struct Connections {
    all: Vec<Connection>,
    pub(super) names: Names,
    /// Queues that the context has been given since its last rollback.
    #[cfg(target_os = "linux")]
    queues: Cell<u32>,
    /// What the context has.
    #[cfg(target_os = "freebsd")]
    sockets: Sockets,
}

/// One that is granted.
#[derive(Debug)]
struct Connection {
    to: To,
    keep: bool,
    kept: RefCell<Option<Kept>>,
    /// Whether the context has that one, since its last rollback.
    given: Cell<bool>,
}

/// A connection that is kept.
#[derive(Debug)]
struct Kept {
    socket: OwnedFd,
    /// Of one by a name: which of its addresses it leads to.
    address: Option<SocketAddr>,
    /// Its options, as it had them when it was made.
    born: Vec<Setting>,
}

/// An option, and what it is set to.
type Setting = ((i32, i32), (Value, libc::socklen_t));

/// Where it leads.
#[derive(Debug)]
enum To {
    Address(SocketAddr),
    Name(String, u16),
    /// By which names it is asked for, the folder that it is in, and its name there.
    Unix(Vec<PathBuf>, OwnedFd, CString),
}

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum No {
    NotGranted,
    /// A name is being looked up.
    NotYet,
    Failed(Errno),
}

impl From<Errno> for No {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

impl From<No> for Answer {
    fn from(no: No) -> Self {
        match no {
            No::NotGranted => Self::NOT_GRANTED,
            No::NotYet => Self::WAIT,
            No::Failed(errno) => Self::failed(errno),
        }
    }
}

impl To {
    fn of(grant: &ConnectGrant) -> Result<Self, String> {
        let path = match &grant.to {
            Place::Address(address) => return Ok(Self::Address(*address)),
            Place::Name(name, port) => return Ok(Self::Name(name.clone(), *port)),
            Place::Unix(path) => path,
        };
        let failed = |e: std::io::Error| {
            format!(
                "{:?} in `connect`: the folder of the socket: {e}",
                grant.said
            )
        };
        let named = from_root(path);
        let (Some(folder), Some(name)) = (named.parent(), named.file_name()) else {
            return Err(format!("{:?} in `connect` is no path", grant.said));
        };
        // The folder is held, and the name in it: whoever serves there may start later,
        // or anew.
        let real = std::fs::canonicalize(folder).map_err(failed)?;
        let at = open_folder(&real).map_err(failed)?;
        if is_about_processes(at.as_fd()) {
            let what = "it is of the system, and no socket";
            return Err(format!("{:?} in `connect`: {what}", grant.said));
        }
        // From here on no name leads out of it: so the kernel has it of a folder whose
        // descriptor has not all rights.
        #[cfg(target_os = "freebsd")]
        limit(at.as_fd(), For::Connecting).map_err(|e| failed(e.into()))?;
        let mut names = vec![real.join(name)];
        let name = CString::new(name.as_bytes()).map_err(|e| failed(e.into()))?;
        if names[0] != named {
            names.push(named);
        }
        Ok(Self::Unix(names, at, name))
    }
}

/// A stream socket, which waits or does not.
fn socket(family: i32, waits: bool) -> Result<OwnedFd, Errno> {
    let waits = if waits { 0 } else { libc::SOCK_NONBLOCK };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | waits;
    // SAFETY: makes a descriptor, which is ours alone.
    unsafe {
        match libc::socket(family, kind, 0) {
            fd if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(Errno::last()),
        }
    }
}

/// Sets the sizes of its buffers, which the system leaves as they are from then on. Of its
/// own it has them grow, to some megabytes each, as long as the peer takes what comes; and
/// when all that the machine has for buffers is in those of one function, whose peer has
/// stopped, others wait for room in a way that nothing ends.
#[cfg(target_os = "freebsd")]
fn keep_buffers_small(socket: &OwnedFd) {
    let mut size = Value::default();
    size[..4].copy_from_slice(&LARGEST_BUFFER.to_ne_bytes());
    for name in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
        // (If the system allows less, none grows beyond that either.)
        let _ = set_option(socket.as_raw_fd(), (libc::SOL_SOCKET, name), &size, 4);
    }
}

/// A connection, and whether it is still being made.
fn connected<T>(family: i32, address: &T, len: usize) -> Result<(OwnedFd, bool), Errno> {
    let socket = socket(family, false)?;
    #[cfg(target_os = "freebsd")]
    keep_buffers_small(&socket);
    let address = std::ptr::from_ref(address).cast();
    // SAFETY: an address of the family, and its length.
    let done = unsafe { libc::connect(socket.as_raw_fd(), address, len as libc::socklen_t) };
    match done {
        0 => Ok((socket, false)),
        _ => match Errno::last() {
            Errno::EINPROGRESS => Ok((socket, true)),
            e => Err(e),
        },
    }
}

fn to_address(address: SocketAddr) -> Result<(OwnedFd, bool), Errno> {
    // SAFETY: of both structures, zeros are a value.
    let made = unsafe {
        match address {
            SocketAddr::V4(v4) => {
                let mut to: libc::sockaddr_in = std::mem::zeroed();
                to.sin_family = libc::AF_INET as libc::sa_family_t;
                to.sin_port = v4.port().to_be();
                to.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                connected(libc::AF_INET, &to, size_of_val(&to))
            }
            SocketAddr::V6(v6) => {
                let mut to: libc::sockaddr_in6 = std::mem::zeroed();
                to.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                to.sin6_port = v6.port().to_be();
                to.sin6_addr.s6_addr = v6.ip().octets();
                to.sin6_scope_id = v6.scope_id();
                connected(libc::AF_INET6, &to, size_of_val(&to))
            }
        }
    }?;
    // Of this machine, where nobody listens, the system may have chosen the very port for
    // the connection's own end: then it is one with itself, and holds the port that
    // whoever is meant is to have.
    match own_end(&made.0) {
        Wanted::Address(own) if is_same(own, address) => Err(Errno::ECONNREFUSED),
        _ => Ok(made),
    }
}

/// Whether two addresses are one, whatever else the system knows of them.
fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip() && a.port() == b.port()
}

/// The address of a socket's own end.
fn own_end(socket: &OwnedFd) -> Wanted {
    let mut own = [0u64; size_of::<libc::sockaddr_storage>() / 8];
    let mut len = size_of_val(&own) as libc::socklen_t;
    // SAFETY: as much room as is told; any bytes are words, and words are bytes.
    unsafe {
        let to = own.as_mut_ptr();
        match libc::getsockname(socket.as_raw_fd(), to.cast(), &raw mut len) {
            0 => Wanted::of(std::slice::from_raw_parts(
                to.cast(),
                (len as usize).min(size_of_val(&own)),
            )),
            _ => Wanted::Other,
        }
    }
}

/// To the very socket that is there now, if it is one: not where a link leads that has
/// come in its place.
#[cfg(target_os = "linux")]
fn to_path(at: &OwnedFd, name: &CString) -> Result<(OwnedFd, bool), Errno> {
    let found = look(at.as_fd(), name, libc::O_NOFOLLOW, Within::Folder)?;
    match kind(found.as_fd())? {
        libc::S_IFSOCK => {}
        libc::S_IFLNK => return Err(Errno::EACCES),
        _ => return Err(Errno::ECONNREFUSED),
    }
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    // SAFETY: zeros are a value; the path is shorter than there is room for.
    let to = unsafe {
        let mut to: libc::sockaddr_un = std::mem::zeroed();
        to.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in to.sun_path.iter_mut().zip(path.bytes()) {
            *to = from as libc::c_char;
        }
        to
    };
    connected(libc::AF_UNIX, &to, size_of_val(&to))
}

/// To the socket that is there now, if it is one: not where a link leads that has come in
/// its place. The kernel has no call for the very socket that has been looked at, and
/// follows a link that comes between two looks, but not out of the folder: its descriptor
/// has the rights for this alone.
#[cfg(target_os = "freebsd")]
fn to_path(at: &OwnedFd, name: &CString) -> Result<(OwnedFd, bool), Errno> {
    let device = stat(at.as_fd())?.st_dev;
    let looked = || -> Result<_, Errno> {
        // SAFETY: of the struct, zeros are a value, which the call fills; the name ends in
        // a NUL.
        let is = unsafe {
            let mut is: libc::stat = std::mem::zeroed();
            let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_RESOLVE_BENEATH;
            match libc::fstatat(at.as_raw_fd(), name.as_ptr(), &raw mut is, flags) {
                0 => is,
                _ => return Err(Errno::last()),
            }
        };
        // What is mounted there is another's to grant. (It is a name of one part.)
        if is.st_dev != device {
            return Err(Errno::EXDEV);
        }
        match is.st_mode & libc::S_IFMT {
            libc::S_IFSOCK => Ok((is.st_dev, is.st_ino)),
            libc::S_IFLNK => Err(Errno::EACCES),
            _ => Err(Errno::ECONNREFUSED),
        }
    };
    // SAFETY: zeros are a value.
    let mut to: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    to.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = name.to_bytes();
    if bytes.len() >= to.sun_path.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    for (to, from) in to.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let before = looked()?;
    let socket = socket(libc::AF_UNIX, false)?;
    // SAFETY: two descriptors, and an address of the family, with its length.
    let done = unsafe {
        libc::syscall(
            libc::SYS_connectat as libc::c_int,
            at.as_raw_fd(),
            socket.as_raw_fd(),
            &raw const to,
            size_of_val(&to),
        )
    };
    if done != 0 {
        return match Errno::last() {
            e if e.raw() == libc::ENOTCAPABLE => Err(Errno::EACCES),
            e => Err(e),
        };
    }
    match looked() {
        Ok(after) if after == before => Ok((socket, false)),
        _ => Err(Errno::EACCES),
    }
}

impl Kept {
    fn new(socket: OwnedFd, address: Option<SocketAddr>) -> Self {
        let fd = socket.as_raw_fd();
        // TCP_QUICKACK is not among them: the system changes it as data come and go.
        let all = OPTIONS
            .iter()
            .chain(&[(libc::SOL_SOCKET, libc::SO_REUSEADDR)]);
        let born = all.filter_map(|&which| Some((which, option(fd, which).ok()?)));
        Self {
            born: born.collect(),
            socket,
            address,
        }
    }

    /// Whether it can be used again: both sides have it, nothing lies there that either
    /// has not taken, and it is as if nobody had had it.
    fn is_well(&self) -> bool {
        let fd = self.socket.as_raw_fd();
        let mut byte = 0u8;
        // SAFETY: sends nothing, and looks at one byte, which is a local.
        let nothing_lies_there = unsafe {
            // EPIPE: it was shut down here, or broke. EAGAIN: nothing to read, and no end.
            libc::send(
                fd,
                std::ptr::null(),
                0,
                libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
            ) == 0
                && libc::recv(
                    fd,
                    (&raw mut byte).cast(),
                    1,
                    libc::MSG_PEEK | libc::MSG_DONTWAIT,
                ) < 0
                && Errno::last() == Errno::EAGAIN
        };
        nothing_lies_there
            && nothing_is_urgent(fd)
            && is_established(fd)
            && all_is_sent(fd)
            && self.is_as_born()
    }

    /// Sets its options to what they were. The sizes of its buffers cannot be given back
    /// to the system: one of which they were set is not used again.
    fn is_as_born(&self) -> bool {
        let fd = self.socket.as_raw_fd();
        !has_chosen_sizes(fd)
            && self.born.iter().all(|&(which, born)| {
                let (value, len) = born;
                option(fd, which) == Ok(born) || set_option(fd, which, &value, len).is_ok()
            })
    }
}

/// Whether the sizes of its buffers were set.
#[cfg(target_os = "linux")]
fn has_chosen_sizes(fd: i32) -> bool {
    let sizes = option(fd, (libc::SOL_SOCKET, libc::SO_BUF_LOCK));
    // (Linux before 5.14 does not tell.)
    sizes.is_ok_and(|(value, _)| value != Value::default())
}

/// Nobody can have set them but by the root, which drops it then
/// ([`Connections::forget`]).
#[cfg(target_os = "freebsd")]
fn has_chosen_sizes(_: i32) -> bool {
    false
}

/// Whether no byte of MSG_OOB waits, which lies beside all others and shows in none of
/// them: EINVAL says so, of a family that knows none EOPNOTSUPP.
fn nothing_is_urgent(fd: i32) -> bool {
    let mut byte = 0u8;
    // SAFETY: looks at one byte, which is a local.
    let looked = unsafe {
        let flags = libc::MSG_OOB | libc::MSG_PEEK | libc::MSG_DONTWAIT;
        libc::recv(fd, (&raw mut byte).cast(), 1, flags)
    };
    looked < 0 && [Errno::EINVAL.raw(), libc::EOPNOTSUPP].contains(&Errno::last().raw())
}

/// Whether its peer has all that was sent: half a request that lies here yet (MSG_MORE,
/// TCP_CORK) would be the beginning of the next one's.
fn all_is_sent(fd: i32) -> bool {
    let mut unsent: libc::c_int = 0;
    // SAFETY: the request writes an int.
    unsafe { libc::ioctl(fd, libc::NOT_TAKEN, &raw mut unsent) == 0 && unsent == 0 }
}

/// Whether a socket is not being connected still.
fn is_established(fd: i32) -> bool {
    // SAFETY: of the structure, zeros are a value; the call fills it as far as told.
    unsafe {
        let mut peer: libc::sockaddr_storage = std::mem::zeroed();
        let mut len = size_of_val(&peer) as libc::socklen_t;
        libc::getpeername(fd, (&raw mut peer).cast(), &raw mut len) == 0
    }
}

impl Connections {
    /// # Errors
    /// What cannot be had, by the name that the file gives it.
    pub(super) fn of(grants: &[ConnectGrant]) -> Result<Self, String> {
        let all = grants.iter().map(|grant| {
            Ok(Connection {
                to: To::of(grant)?,
                keep: grant.keep,
                kept: RefCell::new(None),
                given: Cell::new(false),
            })
        });
        let all = all.collect::<Result<Vec<_>, String>>()?;
        let names = all.iter().filter_map(|c| match &c.to {
            To::Name(name, _) => Some(name.as_str()),
            _ => None,
        });
        let names = Names::new(names);
        Ok(Self {
            all,
            names,
            #[cfg(target_os = "linux")]
            queues: Cell::new(0),
            #[cfg(target_os = "freebsd")]
            sockets: Sockets::default(),
        })
    }

    /// No more sockets than so many.
    #[cfg(target_os = "freebsd")]
    pub(super) fn bound(&self, sockets: usize) {
        self.sockets.bound(sockets);
    }

    /// Whether any is granted by a name.
    pub(super) fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// Connects to what the function's context asks for, and passes that to `lend`: once.
    #[cfg(target_os = "linux")]
    pub(super) fn connect(
        &self,
        base: &Path,
        asked: &[u8],
        lend: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<Answer, No> {
        let made = self.connection(base, asked, |made, _, _| lend(made))?;
        Ok(made.0)
    }

    /// Connects to what the function's context asks for, and passes that to `lend`: once.
    /// It takes the place of the socket that is marked, and has its options.
    #[cfg(target_os = "freebsd")]
    pub(super) fn connect(
        &self,
        base: &Path,
        asked: &[u8],
        lend: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<Answer, No> {
        if self.all.is_empty() {
            return Err(No::NotGranted);
        }
        let meant = self.sockets.meant()?;
        let kept = Cell::new(None);
        if let Some(family) = family_of(asked)
            && family != meant.family
            && [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX].contains(&family)
        {
            return Err(No::Failed(Errno::EAFNOSUPPORT));
        }
        let (answer, made) = self.connection(base, asked, |made, grant, is_new| {
            self.sockets.prepare(&meant, made, is_new);
            if let Some(grant) = grant {
                let own = made.try_clone().map_err(|_| Errno::EMFILE)?;
                kept.set(Some((own, grant)));
            }
            lend(made)
        })?;
        let kept = kept.take().map(|(own, grant)| (own, Some(grant)));
        if let Some((own, grant)) = made.map(|made| (made, None)).or(kept) {
            self.sockets.lent(meant, own, grant, answer.is_connecting());
        }
        Ok(answer)
    }

    /// The same: `lend` is told which grant keeps it, and whether it is new. One that none
    /// keeps is whoever's that asks for it.
    fn connection(
        &self,
        base: &Path,
        asked: &[u8],
        lend: impl FnOnce(&OwnedFd, Option<usize>, bool) -> Result<(), Errno>,
    ) -> Result<(Answer, Option<OwnedFd>), No> {
        let (grant, address) = self.find(base, &Wanted::of(asked))?;
        let connection = &self.all[grant];
        let mut kept = connection.kept.borrow_mut();
        let is_free = connection.keep && !connection.given.get();
        // One that leads to an address that its name has no more may lead to where that was
        // once. One of another address that the name has stays: some ask for the first of
        // them, where nobody is, each time.
        let is_good = |kept: &Kept| self.leads_there(connection, kept) && kept.is_well();
        if is_free && let Some(kept) = kept.take_if(|k| !is_good(k)) {
            log::debug!("a connection that was kept is not what it was: a new one");
            drop(kept);
        }
        let is_other = kept.as_ref().is_some_and(|k| k.address != address);
        let is_free = is_free && !is_other;
        if is_free && let Some(kept) = kept.as_ref() {
            lend(&kept.socket, Some(grant), false)?;
            connection.given.set(true);
            return Ok((Answer::KEPT, None));
        }
        let (made, connecting) = match (&connection.to, address) {
            (To::Unix(_, at, name), _) => to_path(at, name)?,
            (To::Address(address), _) => to_address(*address)?,
            (To::Name(..), Some(address)) => to_address(address)?,
            (To::Name(..), None) => return Err(No::NotGranted),
        };
        if !is_free {
            lend(&made, None, true)?;
            return Ok((Answer::connected(connecting), Some(made)));
        }
        // Before the function has it.
        let new = Kept::new(made, address);
        lend(&new.socket, Some(grant), true)?;
        *kept = Some(new);
        connection.given.set(true);
        Ok((Answer::connected(connecting), None))
    }

    /// Whether one that is kept leads to where its grant leads now.
    fn leads_there(&self, connection: &Connection, kept: &Kept) -> bool {
        match (&connection.to, kept.address) {
            (To::Name(name, _), Some(address)) => match self.names.addresses(name, false) {
                Looked::Up(all) => all.contains(&address.ip()),
                Looked::Not => false,
            },
            _ => true,
        }
    }

    /// The grant, and of a name the address that was found for it.
    fn find(&self, base: &Path, wanted: &Wanted) -> Result<(usize, Option<SocketAddr>), No> {
        let mut open = false;
        for (place, connection) in self.all.iter().enumerate() {
            match (&connection.to, wanted) {
                (To::Address(to), Wanted::Address(wanted)) if is_same(*to, *wanted) => {
                    return Ok((place, None));
                }
                (To::Name(name, port), Wanted::Address(wanted)) if *port == wanted.port() => {
                    self.names.look_up();
                    match self.names.addresses(name, true) {
                        Looked::Up(all) if all.contains(&wanted.ip()) => {
                            return Ok((place, Some(*wanted)));
                        }
                        Looked::Up(_) => {}
                        Looked::Not => open = true,
                    }
                }
                (To::Unix(names, ..), Wanted::Path(path))
                    if names.contains(&by_names(base, path)) =>
                {
                    return Ok((place, None));
                }
                _ => {}
            }
        }
        Err(if open { No::NotYet } else { No::NotGranted })
    }

    /// A socket that is no connection yet.
    #[cfg(target_os = "freebsd")]
    pub(super) fn socket(
        &self,
        asked: &[u8],
        lend: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if self.all.is_empty() {
            return Err(Errno::EACCES);
        }
        self.sockets.make(asked, socket, lend)
    }

    /// What is asked about a socket of the context's: the value of an option, if it is
    /// that.
    #[cfg(target_os = "freebsd")]
    pub(super) fn about(&self, asked: &[u8]) -> Result<Option<(Value, u32)>, Errno> {
        self.sockets.about(asked)
    }

    /// There are none.
    #[cfg(target_os = "freebsd")]
    #[allow(clippy::unused_self)] // as the other one
    pub(super) fn queue(&self, _: impl FnOnce(&OwnedFd) -> Result<(), Errno>) -> Result<(), Errno> {
        Err(Errno::EACCES)
    }

    /// A queue of epoll(7), for who has connections: a few. What waits in queues the
    /// system counts for a user.
    #[cfg(target_os = "linux")]
    pub(super) fn queue(
        &self,
        lend: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if self.all.is_empty() {
            return Err(Errno::EACCES);
        }
        if self.queues.get() >= QUEUES {
            return Err(Errno::EMFILE);
        }
        // SAFETY: makes a descriptor, which is ours alone.
        let queue = unsafe {
            match libc::epoll_create1(libc::EPOLL_CLOEXEC) {
                fd if fd >= 0 => OwnedFd::from_raw_fd(fd),
                _ => return Err(Errno::last()),
            }
        };
        lend(&queue)?;
        self.queues.set(self.queues.get() + 1);
        Ok(())
    }

    /// The context has none of them any more. What is kept stays if it has served `well`:
    /// else nobody knows what its peer is yet to say.
    pub(super) fn forget(&self, well: bool) {
        #[cfg(target_os = "linux")]
        self.queues.set(0);
        #[cfg(target_os = "freebsd")]
        for grant in self.sockets.forget() {
            self.all[grant].kept.take();
        }
        for connection in &self.all {
            connection.given.set(false);
            if !well {
                connection.kept.take();
            }
        }
    }
}

/// Bytes of an address are fewer than those of a path.
const _: () = assert!(size_of::<libc::sockaddr_storage>() < ASKED_MOST);

// (Where a socket of the function's is the root's, `sockets.rs` has them of its own.)
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;

    fn connections(to: Vec<Place>, keep: bool) -> Connections {
        let grants: Vec<ConnectGrant> = to
            .into_iter()
            .map(|to| ConnectGrant {
                said: format!("{to:?}"),
                to,
                keep,
            })
            .collect();
        Connections::of(&grants).unwrap()
    }

    /// What is lent, as a stream that waits.
    fn ask(of: &Connections, asked: &[u8]) -> Result<TcpStream, No> {
        let mut lent = None;
        of.connect(Path::new("/"), asked, |fd| {
            lent = Some(TcpStream::from(fd.try_clone().unwrap()));
            Ok(())
        })?;
        let lent = lent.unwrap();
        lent.set_nonblocking(false).unwrap();
        Ok(lent)
    }

    #[test]
    fn an_address_means_what_it_says_and_nothing_else() {
        let of = |text: &str| bytes_of(text.parse().unwrap());
        let address = |text: &str| Wanted::Address(text.parse().unwrap());
        assert_eq!(Wanted::of(&of("1.2.3.4:80")), address("1.2.3.4:80"));
        assert_eq!(Wanted::of(&of("[::1]:80")), address("[::1]:80"));
        let path = Wanted::of(&bytes_of_path(b"/run/x\0rest"));
        assert_eq!(path, Wanted::Path("/run/x".into()));
        for bytes in [
            &[][..],
            &[2],
            &of("1.2.3.4:80")[..15],
            &of("[::1]:80")[..23],
            &of("[::ffff:1.2.3.4]:80"),
            &bytes_of_path(b""),
            &bytes_of_path(b"\0abstract"),
            &[0; 28],
            &[40, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(Wanted::of(bytes), Wanted::Other, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_granted_is_connected_and_nothing_else() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let [at, beside] = [&server, &other].map(|s| s.local_addr().unwrap());
        let granted = connections(vec![Place::Address(at)], false);
        let mut client = ask(&granted, &bytes_of(at)).unwrap();
        client.write_all(b"hello").unwrap();
        drop(client);
        let mut text = String::new();
        server
            .accept()
            .unwrap()
            .0
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "hello");
        let mapped = format!("[::ffff:127.0.0.1]:{}", at.port());
        let v6 = format!("[::1]:{}", at.port());
        for refused in [beside, mapped.parse().unwrap(), v6.parse().unwrap()] {
            let answer = ask(&granted, &bytes_of(refused)).map(drop);
            assert_eq!(answer, Err(No::NotGranted), "{refused}");
        }
        drop(server);
        let gone = ask(&granted, &bytes_of(at)).map(drop);
        assert!(matches!(
            gone,
            Ok(()) | Err(No::Failed(Errno::ECONNREFUSED))
        ));
    }

    #[test]
    fn one_that_is_kept_is_used_again_if_nothing_is_left_in_it() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        let granted = connections(vec![Place::Address(at)], true);
        let port = |s: &TcpStream| s.local_addr().unwrap().port();
        let first = ask(&granted, &bytes_of(at)).unwrap();
        let (mut peer, _) = server.accept().unwrap();
        // One is given once: whoever wants two has two.
        let second = ask(&granted, &bytes_of(at)).unwrap();
        assert_ne!(port(&first), port(&second));
        let (mut other, _) = server.accept().unwrap();
        drop(second);
        assert_eq!(other.read(&mut [0]).unwrap(), 0);
        let kept = port(&first);
        drop(first);
        granted.forget(true);
        let again = ask(&granted, &bytes_of(at)).unwrap();
        assert_eq!(port(&again), kept);
        drop(again);
        granted.forget(true);
        // Something was left unread.
        peer.write_all(b"x").unwrap();
        while ask(&granted, &bytes_of(at)).is_ok_and(|s| port(&s) == kept) {
            granted.forget(true);
            std::thread::yield_now();
        }
        // Its peer sees the end of the one before.
        peer.set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        assert!(matches!(peer.read(&mut [0]), Ok(0) | Err(_)));
        let (_peer, _) = server.accept().unwrap();
        granted.forget(true);
        let kept = ask(&granted, &bytes_of(at)).map(|s| port(&s)).unwrap();
        // Its own side ended it.
        granted.forget(true);
        let ended = ask(&granted, &bytes_of(at)).unwrap();
        assert_eq!(port(&ended), kept);
        ended.shutdown(std::net::Shutdown::Write).unwrap();
        granted.forget(true);
        let kept = ask(&granted, &bytes_of(at)).map(|s| port(&s)).unwrap();
        assert_ne!(port(&ended), kept);
        // It has not served well.
        granted.forget(false);
        let fresh = ask(&granted, &bytes_of(at)).unwrap();
        assert_ne!(port(&fresh), kept);
    }

    fn set(on: &TcpStream, (level, name): (i32, i32), value: i32) {
        // SAFETY: reads an int.
        let done = unsafe {
            let at = (&raw const value).cast();
            libc::setsockopt(on.as_raw_fd(), level, name, at, 4)
        };
        assert_eq!(done, 0, "{level} {name}");
    }

    #[test]
    fn one_that_is_kept_is_as_it_was_made() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        let granted = connections(vec![Place::Address(at)], true);
        let again = || {
            granted.forget(true);
            ask(&granted, &bytes_of(at)).unwrap()
        };
        let port = |s: &TcpStream| s.local_addr().unwrap().port();
        let told = |s: &TcpStream| {
            let names = [libc::SO_REUSEADDR].map(|name| (libc::SOL_SOCKET, name));
            let all = OPTIONS.iter().copied().chain(names);
            all.map(|which| option(s.as_raw_fd(), which).unwrap())
                .collect::<Vec<_>>()
        };
        let first = again();
        let born = told(&first);
        for which in [
            (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
            (libc::SOL_SOCKET, libc::SO_REUSEADDR),
            (libc::IPPROTO_TCP, libc::TCP_NODELAY),
            (libc::IPPROTO_TCP, libc::TCP_CORK),
            (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
            (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
            (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
            (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
        ] {
            set(&first, which, 1);
        }
        first
            .set_read_timeout(Some(Duration::from_secs(9)))
            .unwrap();
        first
            .set_write_timeout(Some(Duration::from_secs(9)))
            .unwrap();
        let second = again();
        assert_eq!(port(&second), port(&first));
        assert_eq!(told(&second), born);
        // What is not sent yet would be the beginning of what the next one sends.
        set(&second, (libc::IPPROTO_TCP, libc::TCP_CORK), 1);
        (&second).write_all(b"half a request").unwrap();
        let third = again();
        assert_ne!(port(&third), port(&second));
        // The size of a buffer is the system's no more, where it tells that.
        let size = (libc::SOL_SOCKET, libc::SO_RCVBUF);
        set(&third, size, 5000);
        if option(third.as_raw_fd(), (libc::SOL_SOCKET, libc::SO_BUF_LOCK)).is_ok() {
            let fourth = again();
            assert_ne!(port(&fourth), port(&third));
            assert_ne!(
                option(fourth.as_raw_fd(), size),
                option(third.as_raw_fd(), size)
            );
        }
    }

    #[test]
    fn one_with_an_urgent_byte_is_not_kept() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        let granted = connections(vec![Place::Address(at)], true);
        let first = ask(&granted, &bytes_of(at)).unwrap();
        let (peer, _) = server.accept().unwrap();
        granted.forget(true);
        let second = ask(&granted, &bytes_of(at)).unwrap();
        let port = |s: &TcpStream| s.local_addr().unwrap().port();
        assert_eq!(port(&second), port(&first));
        let mut urgent = libc::pollfd {
            fd: second.as_raw_fd(),
            events: libc::POLLPRI,
            revents: 0,
        };
        // SAFETY: one byte, and one structure, which are locals.
        unsafe {
            let sent = libc::send(peer.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB);
            assert_eq!(sent, 1);
            assert_eq!(libc::poll(&raw mut urgent, 1, -1), 1);
        }
        granted.forget(true);
        let third = ask(&granted, &bytes_of(at)).unwrap();
        assert_ne!(port(&third), port(&first));
    }

    #[test]
    fn one_that_is_kept_leads_to_the_address_that_is_asked_for() {
        let server = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let mut granted = connections(vec![], true);
        let ips: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        granted.names = Names::of_one("db", &ips);
        granted.all.push(Connection {
            to: To::Name("db".into(), port),
            keep: true,
            kept: RefCell::new(None),
            given: Cell::new(false),
        });
        let ask = |granted: &Connections, ip: IpAddr| {
            granted.forget(true);
            let lent = ask(granted, &bytes_of(SocketAddr::new(ip, port))).unwrap();
            assert_eq!(lent.peer_addr().unwrap().ip(), ip);
            lent.local_addr().unwrap().port()
        };
        let first = ask(&granted, ips[0]);
        assert_eq!(ask(&granted, ips[0]), first);
        // One of another address is another one, and not kept beside it.
        let other = ask(&granted, ips[1]);
        assert_ne!(ask(&granted, ips[1]), other);
        assert_eq!(ask(&granted, ips[0]), first);
        granted.names = Names::of_one("db", &ips[1..]);
        let other = ask(&granted, ips[1]);
        assert_eq!(ask(&granted, ips[1]), other);
    }

    /// The system chooses ports for connections one after another; where nobody listens
    /// it comes to the very one that is asked for.
    #[test]
    fn no_connection_is_one_with_itself() {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let mut range = range.split_whitespace().map(|n| n.parse::<u16>().unwrap());
        let (low, high) = (range.next().unwrap(), range.next().unwrap());
        // It begins with those that are as even as the first.
        let mut ports = (low.saturating_add(100)..high).step_by(2);
        let port = ports.find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok());
        let at = SocketAddr::from(([127, 0, 0, 1], port.unwrap()));
        let granted = connections(vec![Place::Address(at)], false);
        for _ in 0..u32::from(high - low) {
            if let Ok(made) = ask(&granted, &bytes_of(at)) {
                // (One that was refused has no address any more.)
                assert_ne!(made.local_addr().ok(), Some(at));
            }
        }
    }

    /// What a hostile function may put in the place of an address.
    #[test]
    fn whatever_is_asked_for_leads_where_is_granted() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let six = TcpListener::bind("[::1]:0").ok();
        let mut places = vec![server.local_addr().unwrap()];
        places.extend(six.as_ref().map(|s| s.local_addr().unwrap()));
        let all = places.iter().copied().map(Place::Address).collect();
        let granted = connections(all, false);
        // (xorshift)
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut draw = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut lent = 0;
        for _ in 0..5_000 {
            let mut asked = bytes_of(places[draw(places.len())]);
            for _ in 0..draw(3) {
                let at = draw(asked.len());
                asked[at] = draw(256) as u8;
            }
            match draw(4) {
                0 => asked.truncate(draw(asked.len() + 1)),
                1 => asked.resize(asked.len() + draw(ASKED_MOST - 64), draw(256) as u8),
                _ => {}
            }
            match ask(&granted, &asked) {
                Ok(made) => {
                    assert!(places.contains(&made.peer_addr().unwrap()), "{asked:?}");
                    lent += 1;
                }
                Err(e) => assert_eq!(e, No::NotGranted, "{asked:?}"),
            }
            while server.set_nonblocking(true).is_ok() && server.accept().is_ok() {}
            if let Some(six) = &six {
                while six.set_nonblocking(true).is_ok() && six.accept().is_ok() {}
            }
        }
        assert!(lent > 100, "{lent}");
    }

    #[test]
    fn a_path_is_the_socket_that_is_there_and_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let real = std::fs::canonicalize(folder.path()).unwrap();
        let path = real.join("db.sock");
        // Whoever serves may start later.
        let granted = connections(vec![Place::Unix(path.clone())], false);
        let asked = bytes_of_path(path.as_os_str().as_bytes());
        let of = |granted: &Connections| ask(granted, &asked).map(drop);
        assert_eq!(of(&granted), Err(No::Failed(Errno::ENOENT)));
        let server = UnixListener::bind(&path).unwrap();
        assert_eq!(of(&granted), Ok(()));
        server.accept().unwrap();
        let dotted = [real.as_os_str().as_bytes(), b"/./x/../db.sock"].concat();
        assert_eq!(ask(&granted, &bytes_of_path(&dotted)).map(drop), Ok(()));
        let beside = real.join("other.sock");
        let _other = UnixListener::bind(&beside).unwrap();
        let answer = ask(&granted, &bytes_of_path(beside.as_os_str().as_bytes()));
        assert_eq!(answer.map(drop), Err(No::NotGranted));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&beside, &path).unwrap();
        assert_eq!(of(&granted), Err(No::Failed(Errno::EACCES)));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(of(&granted), Err(No::Failed(Errno::ECONNREFUSED)));
    }
}
