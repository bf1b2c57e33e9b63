//! What a function's context asks its root for while its handler runs, and how it is
//! answered: words of switches, and a path on the control page.

use super::snapshot::word;
use lwc::{Errno, Event, Handle, MonotonicTime};

/// Bytes of a path, with the NUL that it does not have here.
pub(crate) const ASKED_MOST: usize = 4096;

/// What is asked for: a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct How(u64);

impl How {
    const OPEN: u64 = 1;
    const NO_FOLLOW: u64 = 2;
    const FOLDER: u64 = 4;
    const LINK: u64 = 8;

    /// Alone these mean something: with other bits a word is of a path.
    const CONNECT: u64 = 16;
    const HOSTS: u64 = 32;
    const SWITCH: u64 = 64;
    const QUEUE: u64 = 128;
    #[cfg(target_os = "freebsd")]
    const SOCKET: u64 = 256;
    #[cfg(target_os = "freebsd")]
    const OPTION: u64 = 512;

    /// A socket that is no connection yet, of the family that is asked with.
    #[cfg(target_os = "freebsd")]
    pub(crate) fn socket() -> Self {
        Self(Self::SOCKET)
    }

    #[cfg(target_os = "freebsd")]
    pub(super) fn is_of_socket(self) -> bool {
        self.0 == Self::SOCKET
    }

    /// Something about a socket that was lent, and is marked.
    #[cfg(target_os = "freebsd")]
    pub(crate) fn option() -> Self {
        Self(Self::OPTION)
    }

    #[cfg(target_os = "freebsd")]
    pub(super) fn is_of_option(self) -> bool {
        self.0 == Self::OPTION
    }

    /// A queue of epoll(7).
    #[cfg(target_os = "linux")]
    pub(crate) fn queue() -> Self {
        Self(Self::QUEUE)
    }

    pub(super) fn is_of_queue(self) -> bool {
        self.0 == Self::QUEUE
    }

    /// A connection: the address is asked with, as the function gave it.
    pub(crate) fn connect() -> Self {
        Self(Self::CONNECT)
    }

    /// The file that tells names and addresses of what is granted, or the one that tells
    /// the C library to look there and nowhere else.
    pub(crate) fn of_names(hosts: bool) -> Self {
        Self(if hosts { Self::HOSTS } else { Self::SWITCH })
    }

    pub(super) fn connects(self) -> bool {
        self.0 == Self::CONNECT
    }

    pub(super) fn is_of_hosts(self) -> bool {
        self.0 == Self::HOSTS
    }

    pub(super) fn is_of_switch(self) -> bool {
        self.0 == Self::SWITCH
    }

    /// A descriptor to read from; else one that tells what the file is, and is good
    /// for nothing else.
    pub(crate) fn new(open: bool, follow: bool, folder: bool) -> Self {
        let bit = |yes, bit| if yes { bit } else { 0 };
        Self(bit(open, Self::OPEN) | bit(!follow, Self::NO_FOLLOW) | bit(folder, Self::FOLDER))
    }

    /// What a link says.
    pub(crate) fn link() -> Self {
        Self(Self::NO_FOLLOW | Self::LINK)
    }

    /// Of any bits: others mean nothing.
    pub(crate) fn of(word: u64) -> Self {
        Self(word)
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    pub(super) fn opens(self) -> bool {
        self.0 & Self::OPEN != 0
    }

    pub(super) fn follows(self) -> bool {
        self.0 & Self::NO_FOLLOW == 0
    }

    pub(super) fn is_of_folder(self) -> bool {
        self.0 & Self::FOLDER != 0
    }

    pub(super) fn is_of_link(self) -> bool {
        self.0 & Self::LINK != 0
    }
}

/// What the root says: an errno, or that a descriptor lies ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer(u64);

impl Answer {
    const FOLDER: u64 = 1 << 32;
    /// What a link says is on the control page.
    pub(crate) const LINK: Self = Self(1 << 35);
    /// The chain file grants nothing of that name.
    pub(crate) const NOT_GRANTED: Self = Self(1 << 33 | libc::EACCES as u64);
    /// It leads out of what is granted.
    pub(crate) const LEADS_OUT: Self = Self(1 << 34 | libc::EACCES as u64);

    /// A name is being looked up: it may ask again.
    pub(crate) const WAIT: Self = Self(1 << 37 | libc::EAGAIN as u64);

    /// A connection was lent, which may still be being made.
    pub(super) fn connected(connecting: bool) -> Self {
        Self(if connecting { 1 << 36 } else { 0 })
    }

    /// One was lent that was used before.
    pub(super) const KEPT: Self = Self(1 << 38);

    #[cfg(target_os = "linux")]
    pub(super) fn is_kept(self) -> bool {
        self.0 & Self::KEPT.0 != 0
    }

    pub(super) fn is_connecting(self) -> bool {
        self.0 & 1 << 36 != 0
    }

    pub(super) fn failed(errno: Errno) -> Self {
        Self(errno.raw().max(1) as u64)
    }

    pub(super) fn lent(folder: bool) -> Self {
        Self(if folder { Self::FOLDER } else { 0 })
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// Whether it is a folder that was lent.
    pub(crate) fn result(self) -> Result<bool, Errno> {
        match self.0 as u32 as i32 {
            0 => Ok(self.0 & Self::FOLDER != 0),
            errno => Err(Errno::from_raw(errno)),
        }
    }
}

/// In the function's context, while its handler runs: to the root, until it answers.
/// What it answers.
pub(super) fn ask(root: Handle, apart: bool, asked: [u64; 3]) -> Answer {
    let mut event = root.switch(&asked);
    loop {
        match event {
            Ok(Event::Switched { from, args })
                if from == Some(root) && args.first() == Some(&word::RETURN) =>
            {
                return Answer(args.get(2).copied().unwrap_or(0));
            }
            // Out of turn: where contexts are processes nothing has happened.
            Ok(_) if apart => event = lwc::await_switch(MonotonicTime::NEVER),
            Ok(_) => event = root.switch(&[word::UNEXPECTED, 0, 0]),
            // There is no way back any more.
            Err(_) => std::process::abort(),
        }
    }
}
