//! The root's side of sockets where a function's context has none that nobody sent it
//! (FreeBSD, whose sandbox goes by the numbers of calls alone): it makes them, lends them
//! without the rights to connect, to bind, to listen and to set options, and has each of
//! them as well until the function has closed it. So it does what the function asks for
//! that is not in those rights: a short list of options, and what ends with them.
//!
//! Which socket is meant the function says by a mark on it: a flag that nothing comes of
//! (O_APPEND), which all descriptors of one socket have together. The root looks among
//! those that it has lent to this function, and takes the mark away. Whoever marks others,
//! or several, has set or ended something of its own. Whether a socket that was closed at
//! one number is there at another still, the kernel tells the root: how many descriptors it
//! has (F_KINFO).

use super::connect::{Value, has_peer, no_error, number, option, ready, set_alike, set_option};
use super::sys as libc;
use lwc::Errno;
use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// What a function's context asks for about a socket: it is this long.
const ASKED: usize = 32;

/// What is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    Get,
    Set,
    /// It has been closed.
    End,
}

/// One such request, as it is asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) about: About,
    pub(super) which: (i32, i32),
    pub(super) len: u32,
    pub(super) value: Value,
}

impl Request {
    pub(super) fn bytes(&self) -> [u8; ASKED] {
        let mut all = [0; ASKED];
        let (level, name) = self.which;
        let about = match self.about {
            About::Get => 0u32,
            About::Set => 1,
            About::End => 2,
        };
        all[..4].copy_from_slice(&about.to_ne_bytes());
        all[4..8].copy_from_slice(&level.to_ne_bytes());
        all[8..12].copy_from_slice(&name.to_ne_bytes());
        all[12..16].copy_from_slice(&self.len.to_ne_bytes());
        all[16..].copy_from_slice(&self.value);
        all
    }

    /// Of what a context has asked with: any bytes.
    fn of(asked: &[u8]) -> Option<Self> {
        let all: &[u8; ASKED] = asked.try_into().ok()?;
        let word = |at: usize| [all[at], all[at + 1], all[at + 2], all[at + 3]];
        let mut value = Value::default();
        value.copy_from_slice(&all[16..]);
        let len = u32::from_ne_bytes(word(12));
        Some(Self {
            about: match u32::from_ne_bytes(word(0)) {
                0 => About::Get,
                1 => About::Set,
                2 => About::End,
                _ => return None,
            },
            which: (i32::from_ne_bytes(word(4)), i32::from_ne_bytes(word(8))),
            len: (len as usize <= value.len()).then_some(len)?,
            value,
        })
    }
}

/// Options that a function sets: none of them concerns others, or lets close(2) wait.
const SET: [(i32, i32); 3] = [
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
];

/// A buffer of more bytes is one of so many, as Linux has it with what it allows: all that
/// lies in buffers is the machine's, and counts for no limit of the function's.
pub(super) const LARGEST_BUFFER: libc::c_int = 256 << 10;

/// Options that it may ask for, beside those.
const TOLD: [i32; 5] = [
    libc::SO_ERROR,
    libc::SO_TYPE,
    libc::SO_DOMAIN,
    libc::SO_PROTOCOL,
    libc::SO_ACCEPTCONN,
];

fn is_set(which: (i32, i32)) -> bool {
    super::connect::OPTIONS.contains(&which) || SET.contains(&which)
}

fn is_told((level, name): (i32, i32)) -> bool {
    is_set((level, name)) || level == libc::SOL_SOCKET && TOLD.contains(&name)
}

/// Whether an option is the size of a buffer.
fn is_size((level, name): (i32, i32)) -> bool {
    level == libc::SOL_SOCKET && [libc::SO_RCVBUF, libc::SO_SNDBUF].contains(&name)
}

/// A socket that a context has.
#[derive(Debug)]
struct Lent {
    socket: OwnedFd,
    family: i32,
    /// It is a connection, or is becoming one.
    is_connection: bool,
    /// Whether the function has set an option of it, which the root does.
    is_set: Cell<bool>,
    /// Which grant keeps it.
    kept_by: Option<usize>,
}

/// All that a context has, as far as the root knows.
#[derive(Debug)]
pub(super) struct Sockets {
    /// So many at most.
    most: Cell<usize>,
    all: RefCell<Vec<Lent>>,
    /// Grants whose kept connection has buffers of another size than the system's.
    sized: RefCell<Vec<usize>>,
}

/// A socket that the function means, to be connected.
#[derive(Debug)]
pub(super) struct Meant {
    pub(super) family: i32,
    /// Its place, as long as none is taken away.
    place: usize,
    /// Whether the function waits for what is made of it.
    waits: bool,
}

/// What the function asks with for a socket: its family, and whether it waits.
pub(super) fn asked_for(family: i32, waits: bool) -> [u8; 8] {
    let mut all = [0; 8];
    all[..4].copy_from_slice(&family.to_ne_bytes());
    all[4] = waits.into();
    all
}

/// The flags of a socket of the root's own.
fn flags(socket: &OwnedFd) -> i32 {
    // SAFETY: asks about a descriptor that is open.
    unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) }
}

fn set_flags(socket: &OwnedFd, flags: i32) {
    // SAFETY: flags of a descriptor that is open: the call does not fail there.
    unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, flags) };
}

/// How many descriptors a socket has, in whatever table. None: the kernel does not say.
#[cfg(target_os = "freebsd")]
fn descriptors_of(socket: &OwnedFd) -> Option<i32> {
    use std::os::unix::net::UnixDatagram;
    use std::sync::OnceLock;
    /// What the kernel counts beside: the reference by which it looks.
    static BESIDE: OnceLock<Option<i32>> = OnceLock::new();
    let beside = BESIDE.get_or_init(|| {
        let one = OwnedFd::from(UnixDatagram::unbound().ok()?);
        Some(references(&one)? - 1)
    });
    Some(references(socket)? - (*beside)?)
}

#[cfg(target_os = "freebsd")]
fn references(socket: &OwnedFd) -> Option<i32> {
    // SAFETY: integers and bytes, of which zeros are a value; the call fills it as far as
    // its size is told.
    unsafe {
        let mut told: libc::kinfo_file = std::mem::zeroed();
        told.kf_structsize = size_of_val(&told) as libc::c_int;
        let done = libc::fcntl(socket.as_raw_fd(), libc::F_KINFO, &raw mut told);
        (done == 0).then_some(told.kf_ref_count)
    }
}

/// The same, of this process, for tests.
#[cfg(all(test, target_os = "linux"))]
fn descriptors_of(socket: &OwnedFd) -> Option<i32> {
    let told = |path: &std::path::Path| std::fs::read_link(path).ok();
    let own = told(format!("/proc/self/fd/{}", socket.as_raw_fd()).as_ref())?;
    let all = std::fs::read_dir("/proc/self/fd").ok()?;
    let same = all.filter(|one| {
        one.as_ref()
            .is_ok_and(|one| told(&one.path()) == Some(own.clone()))
    });
    i32::try_from(same.count()).ok()
}

fn number_of(fd: RawFd, name: i32) -> Result<i32, Errno> {
    option(fd, (libc::SOL_SOCKET, name)).map(|(value, _)| number(value))
}

/// How many sockets each of some functions may have, so that all of them together leave
/// the root what it needs for itself, and none takes what is another's.
fn share(limit: usize, others: usize, functions: usize) -> usize {
    let each = limit.saturating_sub(others) / functions.max(1);
    each.min(lwc::lent_descriptors().len())
}

/// How many sockets each function of a process may have that has so many contexts, with so
/// many files and connections granted, where some of them connect. As many descriptors as
/// that takes this process gives itself, if it may. (The numbers that contexts have go by
/// the limit that it began with: [`lwc::lent_descriptors`].)
///
/// # Errors
/// What is to be done where there is not one for each.
#[cfg(target_os = "freebsd")]
pub(super) fn share_out(contexts: usize, grants: usize, functions: usize) -> Result<usize, String> {
    // What the program has, and opens while it answers; and has of each context.
    let others = 256 + 16 * contexts + grants;
    let most = lwc::lent_descriptors().len();
    let enough = others + functions * most;
    let limit = crate::descriptors::raised_to(enough as u64);
    let limit = limit.map_err(|e| format!("a limit of descriptors: {e}"))?;
    let each = share(
        usize::try_from(limit).unwrap_or(usize::MAX),
        others,
        functions,
    );
    let raise =
        format!("this process may have {limit} descriptors, and {enough} are enough (ulimit -n)");
    match each {
        0 => Err(format!(
            "`connect`: no descriptors are left for sockets: {raise}"
        )),
        _ if each < most => {
            log::warn!(
                "each of {functions} functions with `connect` has {each} sockets at most, not {most}: {raise}"
            );
            Ok(each)
        }
        _ => Ok(each),
    }
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            most: Cell::new(lwc::lent_descriptors().len()),
            all: RefCell::default(),
            sized: RefCell::default(),
        }
    }
}

impl Sockets {
    /// From now on no more than so many.
    pub(super) fn bound(&self, most: usize) {
        self.most.set(self.most.get().min(most));
    }

    /// As many as a context has numbers for, or as are its share, and no more than it
    /// closes, or is rolled back.
    fn has_room(&self) -> Result<(), Errno> {
        match self.all.borrow().len() < self.most.get() {
            true => Ok(()),
            false => Err(Errno::EMFILE),
        }
    }

    /// A socket that is no connection, as is asked with ([`asked_for`]).
    pub(super) fn make(
        &self,
        asked: &[u8],
        make: impl FnOnce(i32, bool) -> Result<OwnedFd, Errno>,
        lend: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let [a, b, c, d, waits, 0, 0, 0] = *asked else {
            return Err(Errno::EINVAL);
        };
        let family = i32::from_ne_bytes([a, b, c, d]);
        if ![libc::AF_INET, libc::AF_INET6, libc::AF_UNIX].contains(&family) {
            return Err(Errno::EAFNOSUPPORT);
        }
        self.has_room()?;
        let socket = make(family, waits != 0)?;
        lend(&socket)?;
        self.all.borrow_mut().push(Lent {
            socket,
            family,
            is_connection: false,
            is_set: Cell::new(false),
            kept_by: None,
        });
        Ok(())
    }

    /// Makes a connection, before it is lent, like the one that was
    /// [`meant`](Self::meant), whose place it takes.
    pub(super) fn prepare(&self, meant: &Meant, connection: &OwnedFd, is_new: bool) {
        let all = self.all.borrow();
        let one = &all[meant.place];
        // As long as nobody has set any, its options are those of a new one, which one
        // that is kept has as well.
        if one.is_set.get() {
            let (from, to) = (one.socket.as_raw_fd(), connection.as_raw_fd());
            set_alike(from, to, meant.family, is_new);
        }
        // One that is kept has what the function before has set of its flags.
        if !is_new {
            set_flags(connection, libc::O_NONBLOCK);
        }
    }

    /// A connection has been lent: from then on the function has it. What was meant is
    /// nobody's: but where the function waits first for what it becomes, and has the
    /// other one if that is nothing.
    pub(super) fn lent(
        &self,
        meant: Meant,
        connection: OwnedFd,
        kept_by: Option<usize>,
        connecting: bool,
    ) {
        let mut all = self.all.borrow_mut();
        let lent = Lent {
            socket: connection,
            family: meant.family,
            is_connection: true,
            // (Or it would have been lost.)
            is_set: Cell::new(true),
            kept_by,
        };
        match connecting && meant.waits {
            true => all.push(lent),
            false => all[meant.place] = lent,
        }
    }

    /// The place of the one that is marked, and its flags, without that.
    fn marked(&self) -> Result<(usize, i32), Errno> {
        let all = self.all.borrow();
        let marked = all.iter().enumerate().find_map(|(place, one)| {
            let flags = flags(&one.socket);
            (flags & libc::O_APPEND != 0).then_some((place, flags & !libc::O_APPEND))
        });
        marked.ok_or(Errno::from_raw(libc::ENOTSOCK))
    }

    /// The same, which it is no more.
    fn unmarked(&self) -> Result<(usize, i32), Errno> {
        let (place, flags) = self.marked()?;
        set_flags(&self.all.borrow()[place].socket, flags);
        Ok((place, flags))
    }

    /// The marked one, if it can become a connection: what connect(2) says of another.
    pub(super) fn meant(&self) -> Result<Meant, Errno> {
        let (place, flags) = self.unmarked()?;
        let all = self.all.borrow();
        let one = &all[place];
        // (Nobody but the root connects one: it has no right to.)
        if one.is_connection {
            let fd = one.socket.as_raw_fd();
            if has_peer(fd)? {
                return Err(Errno::EISCONN);
            }
            // What became of one that was being made.
            no_error(number_of(fd, libc::SO_ERROR)?)?;
            if ready(fd, 0)? == 0 {
                return Err(Errno::EALREADY);
            }
        }
        // Before anybody is connected to: both are there for a moment, or longer.
        self.has_room()?;
        Ok(Meant {
            family: one.family,
            place,
            waits: flags & libc::O_NONBLOCK == 0,
        })
    }

    /// The marked one was closed at one of its numbers: if it has no other, the function
    /// has it no more.
    fn end(&self) -> Result<(), Errno> {
        let (place, flags) = self.marked()?;
        let mut all = self.all.borrow_mut();
        let one = &all[place];
        // The root's own: this one, and the one that is kept.
        let own = 1 + i32::from(one.kept_by.is_some());
        match descriptors_of(&one.socket) {
            Some(count) if count > own => set_flags(&one.socket, flags),
            // (The next function is lent what is kept without a mark.)
            _ => drop(all.swap_remove(place)),
        }
        Ok(())
    }

    /// Does what the function asks for about the marked one. The value of an option.
    pub(super) fn about(&self, asked: &[u8]) -> Result<Option<(Value, u32)>, Errno> {
        let request = Request::of(asked).ok_or(Errno::EINVAL)?;
        if request.about == About::End {
            return self.end().map(|()| None);
        }
        let (place, _) = self.unmarked()?;
        let which = request.which;
        match request.about {
            About::Get if is_told(which) => {}
            About::Set if is_set(which) => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        let all = self.all.borrow();
        let one = &all[place];
        let fd = one.socket.as_raw_fd();
        if request.about == About::Get {
            return option(fd, which).map(Some);
        }
        one.is_set.set(true);
        let mut value = request.value;
        if is_size(which) {
            if let Some(grant) = one.kept_by {
                let mut sized = self.sized.borrow_mut();
                if !sized.contains(&grant) {
                    sized.push(grant);
                }
            }
            // An int; one that is too short the kernel refuses.
            if let Some(asked) = value.first_chunk_mut::<4>() {
                let bytes = i32::from_ne_bytes(*asked).min(LARGEST_BUFFER);
                *asked = bytes.to_ne_bytes();
            }
        }
        set_option(fd, which, &value, request.len).map(|()| None)
    }

    /// The context has none of them any more. Of which grants the connection is not to be
    /// kept.
    pub(super) fn forget(&self) -> Vec<usize> {
        self.all.borrow_mut().clear();
        self.sized.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::FromRawFd;

    /// A copy of a descriptor, of the same socket.
    fn copy(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
        socket.try_clone().map_err(|_| Errno::EMFILE)
    }

    fn made(family: i32, waits: bool) -> Result<OwnedFd, Errno> {
        let kind = libc::SOCK_STREAM | if waits { 0 } else { libc::SOCK_NONBLOCK };
        // SAFETY: makes a descriptor, which is ours alone.
        unsafe {
            match libc::socket(family, kind, 0) {
                fd if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
                _ => Err(Errno::last()),
            }
        }
    }

    /// What a context has: a descriptor of its own for each that was lent.
    fn lent(sockets: &Sockets, family: i32) -> Result<OwnedFd, Errno> {
        let mut own = None;
        let lend = |socket: &OwnedFd| {
            own = Some(copy(socket)?);
            Ok(())
        };
        sockets.make(&asked_for(family, false), made, lend)?;
        own.ok_or(Errno::EIO)
    }

    fn mark(socket: &OwnedFd) {
        set_flags(socket, flags(socket) | libc::O_APPEND);
        assert_ne!(flags(socket) & libc::O_APPEND, 0);
    }

    fn ask(sockets: &Sockets, about: About, which: (i32, i32)) -> Result<i32, Errno> {
        let mut value = Value::default();
        value[0] = 1;
        let request = Request {
            about,
            which,
            len: 4,
            value,
        };
        let told = sockets.about(&request.bytes())?;
        Ok(told.map_or(0, |(value, _)| number(value)))
    }

    const NODELAY: (i32, i32) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
    const KIND: (i32, i32) = (libc::SOL_SOCKET, libc::SO_TYPE);
    const LINGER: (i32, i32) = (libc::SOL_SOCKET, libc::SO_LINGER);
    const SIZE: (i32, i32) = (libc::SOL_SOCKET, libc::SO_RCVBUF);

    #[test]
    fn what_is_asked_is_done_to_the_one_that_is_marked() {
        let sockets = Sockets::default();
        let all = [libc::AF_INET, libc::AF_INET].map(|f| lent(&sockets, f).unwrap());
        let none = Errno::from_raw(libc::ENOTSOCK);
        assert_eq!(ask(&sockets, About::Get, KIND), Err(none));
        mark(&all[1]);
        assert_eq!(ask(&sockets, About::Set, NODELAY), Ok(0));
        // Once.
        assert_eq!(ask(&sockets, About::Set, NODELAY), Err(none));
        let is_set = |socket: &OwnedFd| {
            let (value, _) = option(socket.as_raw_fd(), NODELAY).unwrap();
            value != Value::default()
        };
        assert_eq!(all.each_ref().map(is_set), [false, true]);
        mark(&all[0]);
        assert_eq!(ask(&sockets, About::Get, KIND), Ok(libc::SOCK_STREAM));
        for (about, which) in [
            (About::Set, LINGER),
            (About::Get, LINGER),
            (About::Set, KIND),
            (About::Set, (libc::IPPROTO_IP, libc::IP_TTL)),
        ] {
            mark(&all[0]);
            let refused = Err(Errno::ENOPROTOOPT);
            assert_eq!(ask(&sockets, about, which), refused, "{which:?}");
        }
        // A copy of it is it; it ends with the last one.
        let [first, _second] = all;
        let other = copy(&first).unwrap();
        mark(&first);
        drop(first);
        assert_eq!(ask(&sockets, About::End, (0, 0)), Ok(0));
        mark(&other);
        assert_eq!(ask(&sockets, About::Get, KIND), Ok(libc::SOCK_STREAM));
        let peer = copy(&other).unwrap();
        mark(&other);
        drop((other, peer));
        assert_eq!(ask(&sockets, About::End, (0, 0)), Ok(0));
        assert_eq!(sockets.all.borrow().len(), 1);
    }

    #[test]
    fn no_bytes_are_more_than_a_request() {
        let sockets = Sockets::default();
        let own = lent(&sockets, libc::AF_INET).unwrap();
        let good = Request {
            about: About::Get,
            which: KIND,
            len: 0,
            value: Value::default(),
        };
        let good = good.bytes();
        for len in (0..ASKED).chain([ASKED + 1, 4096]) {
            let mut asked = good.to_vec();
            asked.resize(len, 0);
            mark(&own);
            assert_eq!(sockets.about(&asked), Err(Errno::EINVAL), "{len}");
        }
        for (at, byte) in [(0, 3), (3, 1), (12, 17), (15, 1)] {
            let mut asked = good;
            asked[at] = byte;
            mark(&own);
            assert_eq!(sockets.about(&asked), Err(Errno::EINVAL), "{at}");
        }
        let refused = |asked: &[u8]| sockets.make(asked, made, |_| Ok(())).is_err();
        let good = asked_for(libc::AF_UNIX, true);
        let long = [&good[..], &[0]].concat();
        for asked in [b"", &good[..4], &good[..7], &long, &asked_for(99, true)] {
            assert!(refused(asked), "{asked:?}");
        }
    }

    /// As often as it asks, and closes none.
    #[test]
    fn there_are_no_more_than_numbers() {
        let sockets = Sockets::default();
        let made = std::iter::from_fn(|| lent(&sockets, libc::AF_UNIX).ok());
        let made = made.take(1000).collect::<Vec<_>>();
        assert_eq!(made.len(), lwc::lent_descriptors().len());
        let full = lent(&sockets, libc::AF_UNIX).map(drop);
        assert_eq!(full, Err(Errno::EMFILE));
        assert!(sockets.forget().is_empty());
        assert!(lent(&sockets, libc::AF_UNIX).is_ok());
    }

    #[test]
    fn no_function_has_anothers_share() {
        let most = lwc::lent_descriptors().len();
        for (limit, others, functions, each) in [
            (1 << 20, 300, 8, most),
            (1024, 304, 5, 144.min(most)),
            (304, 304, 5, 0),
            (100, 304, 5, 0),
            (308, 304, 5, 0),
            (309, 304, 5, 1),
            (1024, 304, 0, most),
        ] {
            assert_eq!(share(limit, others, functions), each, "{limit} {functions}");
        }
        let sockets = Sockets::default();
        sockets.bound(2);
        sockets.bound(7);
        let own = [(); 2].map(|()| lent(&sockets, libc::AF_UNIX).unwrap());
        let full = lent(&sockets, libc::AF_UNIX).map(drop);
        assert_eq!(full, Err(Errno::EMFILE));
        // Nor is anybody connected to for who has no room.
        mark(&own[0]);
        assert_eq!(sockets.meant().map(drop), Err(Errno::EMFILE));
        let [first, second] = own;
        mark(&second);
        drop(second);
        assert_eq!(ask(&sockets, About::End, (0, 0)), Ok(0));
        mark(&first);
        sockets.meant().unwrap();
    }

    #[test]
    fn what_is_meant_can_become_a_connection() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        let sockets = Sockets::default();
        let own = lent(&sockets, libc::AF_INET).unwrap();
        mark(&own);
        let meant = sockets.meant().unwrap();
        assert_eq!(meant.family, libc::AF_INET);
        assert_eq!(flags(&own) & libc::O_APPEND, 0);
        // It has no options but those that were set.
        let connected = || OwnedFd::from(TcpStream::connect(at).unwrap());
        let is_set =
            |socket: &OwnedFd| option(socket.as_raw_fd(), NODELAY).unwrap().0 != Value::default();
        let first = connected();
        sockets.prepare(&meant, &first, true);
        assert!(!is_set(&first));
        mark(&own);
        assert_eq!(ask(&sockets, About::Set, NODELAY), Ok(0));
        sockets.prepare(&meant, &first, true);
        assert!(is_set(&first));
        // It takes the place of what was meant.
        sockets.lent(meant, copy(&first).unwrap(), Some(7), true);
        mark(&first);
        assert_eq!(sockets.meant().map(drop), Err(Errno::EISCONN));
        let none = Errno::from_raw(libc::ENOTSOCK);
        mark(&own);
        assert_eq!(sockets.meant().map(drop), Err(none));
        // But where the function waits for what it becomes.
        let mut waiting = None;
        let lend = |socket: &OwnedFd| {
            waiting = Some(copy(socket)?);
            Ok(())
        };
        sockets
            .make(&asked_for(libc::AF_INET, true), made, lend)
            .unwrap();
        let waiting = waiting.unwrap();
        mark(&waiting);
        let meant = sockets.meant().unwrap();
        sockets.lent(meant, connected(), None, true);
        mark(&waiting);
        let meant = sockets.meant().unwrap();
        sockets.lent(meant, connected(), None, false);
        mark(&waiting);
        assert_eq!(sockets.meant().map(drop), Err(none));
        // A mark that was left on one that is kept is none of the next function's.
        let next = Sockets::default();
        let own = lent(&next, libc::AF_INET).unwrap();
        mark(&own);
        let meant = next.meant().unwrap();
        mark(&first);
        next.prepare(&meant, &first, false);
        next.lent(meant, copy(&first).unwrap(), None, false);
        assert_eq!(next.meant().map(drop), Err(none));
        // A buffer whose size was set is the grant's that keeps the connection.
        mark(&first);
        assert_eq!(ask(&sockets, About::Set, SIZE), Ok(0));
        assert_eq!(sockets.forget(), [7]);
        assert!(sockets.forget().is_empty());
    }
}
