//! One end of a pair, as the current context has it.

use super::rights::Rights;
use crate::backend::process::wire::bell::{PeerBell, Registered};
use crate::backend::process::wire::mapped::Mapped;
use crate::backend::process::wire::pair::{Half, Pair};
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// One end of a pair: what this context knows of another.
pub(crate) struct Channel {
    pub(crate) peer: u64,
    /// The number the user sees, when `held`.
    pub(crate) desc: RawFd,
    /// To pass descriptors; none to those that met by the root or by slots.
    pub(crate) sock: Option<OwnedFd>,
    /// Whether the user holds a descriptor here.
    pub(crate) held: bool,
    /// A context's channel to the root, which lives as long as the context.
    pub(crate) root_line: bool,
    /// Made by the creator, in a table that is one with its own: it closes the
    /// socket there when this context is dead, and nobody before.
    pub(crate) lent: bool,
    /// Whether the peer's identity comes from whoever made it, not from a
    /// third party that may lie.
    pub(crate) verified: bool,
    pub(crate) pair: Mapped<Pair>,
    /// Which half of the pair is ours to write.
    pub(crate) side: usize,
    /// Sequence number of the last message read.
    pub(crate) seen: u32,
    pub(crate) peer_bell: PeerBell,
    /// The root's: where it writes that the peer is dead.
    pub(crate) registered: Option<Registered>,
    /// How the peer ended, as the root's own book has it.
    pub(crate) dead: Option<u32>,
    /// The peer is in the strict sandbox: it is served nothing any more.
    pub(crate) sealed: bool,
    /// The root has introduced the two to each other: they switch, and neither
    /// serves the other anything.
    pub(crate) introduced: bool,
    /// The root has booked that we hold the peer, whether the user does or not.
    pub(crate) booked: bool,
    /// By which channel the baton came when it had last gone to this one.
    pub(crate) answered_by: Option<usize>,
    /// The peer may have threads beside the one that waits.
    pub(crate) threads: bool,
    /// The peer was on its way to sleep when it was rung, all the time.
    pub(crate) unrung: bool,
    /// What the peer may get of me by this channel.
    pub(crate) granted: Rights,
    /// What I may get of the peer, as far as I know; the peer decides.
    pub(crate) mine: Rights,
    /// Descriptors in a shared table that belong to the peer.
    pub(crate) foreign: Vec<OwnedFd>,
    /// What it means where system calls are trapped.
    pub(crate) trap: TrapLink,
}

impl Channel {
    /// A channel to `peer` that the user does not hold, without rights.
    pub(crate) fn new(
        peer: u64,
        sock: Option<OwnedFd>,
        pair: Mapped<Pair>,
        side: usize,
        bell: PeerBell,
    ) -> Self {
        pair.inherit(false);
        Self {
            peer,
            desc: sock.as_ref().map_or(-1, AsRawFd::as_raw_fd),
            sock,
            held: false,
            root_line: false,
            lent: false,
            verified: true,
            pair,
            side,
            seen: 0,
            peer_bell: bell,
            registered: None,
            dead: None,
            sealed: false,
            introduced: false,
            booked: false,
            answered_by: None,
            threads: false,
            unrung: false,
            granted: Rights::none(),
            mine: Rights::none(),
            foreign: Vec::new(),
            trap: TrapLink::default(),
        }
    }
    pub(crate) fn out(&self) -> &Half {
        &self.pair.halves[self.side]
    }
    pub(crate) fn inn(&self) -> &Half {
        &self.pair.halves[1 - self.side]
    }
    /// Wakes the peer for what has just been published.
    pub(crate) fn ring(&mut self) {
        self.unrung = !self.peer_bell.ring();
    }
    /// How the peer ended; 0 while it lives. In the root its book's word, else
    /// what stands on the peer's doorbell.
    pub(crate) fn end(&self) -> u32 {
        match (self.dead, &self.registered) {
            (Some(how), _) => how,
            (None, Some(_)) => 0,
            (None, None) => self.peer_bell.dead(),
        }
    }
    pub(crate) fn peer_dead(&self) -> bool {
        self.end() != 0
    }
    /// The user holds a descriptor here now, or no longer.
    pub(crate) fn hold(&mut self, yes: bool) {
        self.held = yes;
        let stays = yes || self.trap.monitor;
        self.out().held.store(stays.into(), Ordering::Relaxed);
    }
    /// Whether no message can come here any more: the user does not hold it,
    /// and the peer is dead or has closed its end. (Of that a hostile peer can
    /// only lie to its own harm.)
    pub(crate) fn useless(&self) -> bool {
        let gone = || {
            !self.root_line && !self.trap.monitor && self.inn().gone.load(Ordering::Relaxed) != 0
        };
        !self.held && (self.peer != 1 && self.peer_dead() || gone())
    }
    /// Whether a channel that the user has just closed can go: the peer holds
    /// nothing here either. Between a channel's making and its holder's saying
    /// so both calls of the current context are over, so this is final.
    pub(crate) fn unused(&self) -> bool {
        !self.held
            && !self.root_line
            && !self.trap.monitor
            && self.inn().held.load(Ordering::Relaxed) == 0
    }
    /// The socket, or EPERM where there is none.
    pub(crate) fn socket(&self) -> Result<BorrowedFd<'_>> {
        self.sock.as_ref().map(AsFd::as_fd).ok_or_else(|| {
            Error::new(
                "sendmsg",
                Errno::EPERM,
                "between these two contexts no descriptors pass",
            )
        })
    }
    /// Frees what the channel has in this context.
    pub(crate) fn close(self) {
        self.out().gone.store(1, Ordering::Relaxed);
    }

    /// In a new context, of a channel of its creator's: the pages were not
    /// inherited, or somebody else has taken them over. Descriptors are closed,
    /// unless the table is one with the creator's.
    pub(crate) fn disown(mut self, shared: bool) {
        if !shared {
            drop(self.sock.take());
            drop(std::mem::take(&mut self.foreign));
            drop(std::mem::take(&mut self.trap));
        }
        std::mem::forget(self);
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if self.lent {
            std::mem::forget(self.sock.take());
        }
    }
}

/// What a channel means where system calls are trapped.
#[derive(Default)]
pub(crate) struct TrapLink {
    /// The peer's calls come here.
    pub(crate) supervised: bool,
    /// Ours go there: the channel stays, whatever is closed.
    pub(crate) monitor: bool,
    /// The peer's process.
    pub(crate) pid: Option<i32>,
    /// Where calls that it makes on our behalf are heard of.
    pub(crate) listener: Option<OwnedFd>,
    /// Where contexts that it makes will have their pages.
    pub(crate) slots: Option<Rc<OwnedFd>>,
    /// Slots of it whose contexts have been met.
    pub(crate) met: u64,
}
