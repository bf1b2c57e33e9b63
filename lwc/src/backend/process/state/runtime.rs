//! The state of the current context.

use super::alarm::Alarm;
use super::book::Book;
use super::channel::Channel;
use super::keeper::Keeper;
use super::memory::Objects;
use super::rights::Rights;
use super::signals;
use super::slots::Slots;
use crate::backend::process::wire::bell::{Bell, OwnBell, PeerBell};
use crate::backend::process::wire::gate;
use crate::backend::process::wire::mapped::{Mapped, seal_writes};
use crate::backend::process::wire::pair::{WORDS, note_place};
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;

/// The current context.
pub(crate) struct Runtime {
    pub(crate) id: u64,
    pub(crate) creator: u64,
    pub(crate) flags: u32,
    pub(crate) root_pid: i32,
    pub(crate) bell: OwnBell,
    /// The same as others have it: contexts made here inherit it.
    pub(crate) bell_of_creator: PeerBell,
    /// The root's bell, which contexts made here inherit, too; none in the root
    /// itself.
    pub(crate) root_bell: Option<PeerBell>,
    /// The channel by which the baton is waited for: its news is looked for first.
    pub(crate) expected: Option<usize>,
    /// The channel that was last handed over to, and how often one was.
    pub(crate) gave: usize,
    pub(crate) turns: u32,
    /// The channel that was last rung for the baton or a request.
    pub(crate) rung: usize,
    /// The channel whose news was last taken: the others come first now.
    pub(crate) looked: usize,
    /// By number; in a context other than the root, 0 is the root.
    pub(crate) channels: Vec<Option<Channel>>,
    /// What anybody may get of this context at most (LWC_SELF).
    pub(crate) cap: Rights,
    pub(crate) objects: Objects,
    /// The root's register of all contexts.
    pub(crate) book: Option<Book>,
    /// The number of a descriptor of the current context, once asked for; -1
    /// before. What it is of, unless it is a number alone.
    pub(crate) self_desc: RawFd,
    pub(crate) self_fd: Option<OwnedFd>,
    /// Whether the descriptor table is one with the creator's, or some contexts
    /// here have one together.
    pub(crate) shared_table: bool,
    /// The root has discarded itself: the process lives on for the others.
    pub(crate) anchor: bool,
    /// To hand the doorbell to new holders.
    pub(crate) bell_fd: Option<OwnedFd>,
    /// Who the system calls go to, where they are trapped.
    pub(crate) monitor: Option<Monitor>,
    /// Pages for contexts that a trapped one makes.
    pub(crate) slots: Option<Slots>,
    /// In a context that a trapped one made: a socket of its maker's whose
    /// other end is the root's.
    pub(crate) line: Option<OwnedFd>,
    /// A trapped call has perhaps interrupted the C library's allocator.
    pub(crate) fragile: bool,
    /// Who rolls back the contexts made here.
    pub(crate) keeper: Option<Keeper>,
    /// The root's, for waits with a deadline.
    pub(crate) alarm: Alarm,
}

/// Who the current context's calls go to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Monitor {
    pub(crate) channel: usize,
    pub(crate) id: u64,
}

// SAFETY: the raw mappings and counted files inside belong to this state
// alone, and every access to it goes through one mutex.
unsafe impl Send for Runtime {}

impl Drop for Runtime {
    fn drop(&mut self) {
        signals::unhear(self.bell.word());
    }
}

/// What ended a wait.
pub(crate) enum Got {
    /// Somebody switched here; the channel, unless it is no more.
    Baton {
        from: Option<usize>,
        words: [u64; WORDS],
        count: usize,
    },
    /// A context trapped by this one called the system.
    Called { from: usize, words: [u64; WORDS] },
    /// A context created here ended.
    Ended { words: [u64; WORDS], count: usize },
    /// The deadline passed.
    Timeout,
}

impl Runtime {
    /// The root context of this process.
    pub(crate) fn root() -> Result<Self> {
        let fd = Mapped::<Bell>::file(c"lwc-bell")?;
        let (bell, bell_of_creator) = own_bell(&fd)?;
        bell.receive();
        signals::hear(bell.word());
        signals::install();
        Ok(Self {
            id: 1,
            creator: 0,
            flags: 0,
            // SAFETY: getpid has no preconditions.
            root_pid: unsafe { libc::getpid() },
            bell,
            bell_of_creator,
            root_bell: None,
            expected: None,
            gave: 0,
            turns: 0,
            rung: 0,
            looked: 0,
            channels: Vec::new(),
            cap: Rights::all(),
            objects: Objects::default(),
            book: Some(Book::new()),
            self_desc: -1,
            self_fd: None,
            shared_table: false,
            anchor: false,
            bell_fd: Some(fd),
            monitor: None,
            slots: None,
            line: None,
            fragile: false,
            keeper: None,
            alarm: Alarm::default(),
        })
    }

    /// Numbers that are the backend's, or name contexts, in no order and some
    /// more than once.
    fn each_own_descriptor(&self) -> impl Iterator<Item = RawFd> + '_ {
        let number = |fd: &OwnedFd| fd.as_raw_fd();
        let channels = self.channels.iter().flatten().flat_map(move |c| {
            [
                Some(c.desc),
                c.sock.as_ref().map(number),
                c.trap.listener.as_ref().map(number),
                c.trap.slots.as_deref().map(number),
            ]
        });
        let more = [&self.bell_fd, &self.line];
        channels
            .flatten()
            .chain(self.objects.descriptors())
            .chain(self.book.iter().flat_map(Book::descriptors))
            .chain(more.into_iter().flatten().map(number))
            .chain(self.keeper.iter().map(|k| k.sock.as_raw_fd()))
            .chain([self.self_desc])
            .filter(|&fd| fd >= 0)
    }

    /// The same in order, once each: user specifiers pass over them.
    pub(crate) fn own_descriptors(&self) -> Vec<RawFd> {
        let mut all: Vec<RawFd> = self.each_own_descriptor().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether a number is one of these, without allocating.
    pub(crate) fn is_own_descriptor(&self, fd: RawFd) -> bool {
        self.each_own_descriptor().any(|own| own == fd)
    }

    pub(crate) fn is_root(&self) -> bool {
        self.book.is_some()
    }

    pub(crate) fn channel(&mut self, index: usize) -> Option<&mut Channel> {
        self.channels.get_mut(index).and_then(Option::as_mut)
    }

    /// Stores a channel at the first free number.
    pub(crate) fn add_channel(&mut self, channel: Channel) -> usize {
        let free = self.free_channel();
        self.put_channel(free, channel);
        free
    }

    /// The first free channel number.
    pub(crate) fn free_channel(&self) -> usize {
        self.channels
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.channels.len())
    }

    pub(crate) fn put_channel(&mut self, index: usize, channel: Channel) {
        if index >= self.channels.len() {
            self.channels.resize_with(index + 1, || None);
        }
        // The pages' first use costs a fault each: now, not at a switch.
        for half in &channel.pair.halves {
            half.seq.load(Ordering::Relaxed);
        }
        channel.peer_bell.touch();
        note_place(index, &channel.pair, channel.side);
        self.channels[index] = Some(channel);
    }

    /// The channel of a descriptor the user holds.
    pub(crate) fn find(&self, call: &'static str, desc: RawFd) -> Result<usize> {
        self.channels
            .iter()
            .position(|c| c.as_ref().is_some_and(|c| c.held && c.desc == desc))
            .ok_or_else(|| {
                Error::new(
                    call,
                    Errno::EBADF,
                    format!("descriptor {desc} names no context"),
                )
            })
    }

    /// Whether the system calls of a channel's peer are trapped: by the book, where
    /// there is one, else by what the peer says on its doorbell. In the strict
    /// sandbox none is, whatever it says.
    pub(crate) fn is_trapped(&self, index: usize) -> bool {
        let Some(c) = self.channels.get(index).and_then(Option::as_ref) else {
            return false;
        };
        let booked = |b: &Book| {
            let flags = b.origin(c.peer).map_or(0, |(_, flags)| flags);
            flags & lwc_sys::LWC_TRAP_SYSCALL != 0
        };
        let says = || c.peer_bell.is_trapped();
        !c.sealed && self.book.as_ref().map_or_else(says, booked)
    }

    /// Frees channels that are of no more use.
    pub(crate) fn sweep(&mut self) {
        for slot in &mut self.channels {
            if slot.as_ref().is_some_and(Channel::useless)
                && let Some(c) = slot.take()
            {
                c.close();
            }
        }
    }
}

/// The owner's doorbell of a new file, and the same as others have it.
fn own_bell(fd: &OwnedFd) -> Result<(OwnBell, PeerBell)> {
    let bell = OwnBell::new(Mapped::map(fd)?);
    seal_writes(fd)?;
    Ok((bell, PeerBell::map(fd)?))
}

impl Runtime {
    /// Whether a trapped context made this one.
    pub(crate) fn is_nested(&self) -> bool {
        self.line.is_some()
    }

    /// Whether the root's process is gone or runs another program.
    pub(crate) fn line_is_cut(&self) -> bool {
        let Some(line) = &self.line else {
            return false;
        };
        let mut byte = 0u8;
        // SAFETY: the message points at locals that live across the call, and
        // with PEEK nothing is taken from the socket's real owner.
        unsafe {
            let mut iov = libc::iovec {
                iov_base: (&raw mut byte).cast(),
                iov_len: 1,
            };
            let mut msg: libc::msghdr = std::mem::zeroed();
            msg.msg_iov = &raw mut iov;
            msg.msg_iovlen = 1;
            gate::own([
                libc::SYS_recvmsg as u64,
                line.as_raw_fd() as u64,
                &raw mut msg as u64,
                (libc::MSG_PEEK | libc::MSG_DONTWAIT) as u64,
                0,
                0,
                0,
            ]) == 0
        }
    }

    /// The calls of this context go to a channel's peer from now on.
    pub(crate) fn watched_by(&mut self, channel: usize, id: u64) {
        self.monitor = Some(Monitor { channel, id });
        if let Some(c) = self.channel(channel) {
            c.trap.monitor = true;
            let held = c.held;
            c.hold(held);
        }
    }
}
