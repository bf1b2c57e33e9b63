//! lwCreate in a trapped context: "traps nest" (contract 7.1).
//!
//! A trapped context can make no memory files and no sockets, and what could
//! it do with them if it may not touch a descriptor? So the pages of the
//! contexts that it will make exist before its filter does: a *nursery*, one
//! memory file of slots, mapped in the trapped context and known to its
//! creator and to the root. A slot holds a doorbell and three pair pages: new
//! context and root, new context and its maker, new context and its maker's
//! monitor. A new context inherits mappings and needs no descriptor at all.
//!
//! It follows that such a context has no sockets: nothing that takes passing
//! descriptors (lwOverlay, lwSyscall of another's files) works with it. It is
//! under its maker's filter already. A slot is used once, and a nursery is not
//! made anew, so a trapped context makes [`SLOTS`] others in its life, and
//! those make none.
//!
//! Whoever makes a context has its pages mapped until the fork, and if it is
//! hostile, later: it can speak to the root and the monitor in the name of
//! what it has made, as code that it had left there could.

use super::create::{self};
use super::fds;
use super::registrar;
use super::rights::Rights;
use super::runtime::{Channel, Runtime};
use super::serve::{ask, op};
use super::trap::Monitor;
use super::window;
use super::wire::bell::{Bell, OwnBell, PeerBell, Registered};
use super::wire::mapped::Mapped;
use super::wire::pair::Pair;
use crate::error::{Error, Result};
use crate::spec::{Access, Spec, What};
use lwc_sys::LWC_TRAP_SYSCALL;
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

const CALL: &str = "lwCreate";

/// How many contexts a trapped one can make.
pub(super) const SLOTS: usize = 64;

const _: () = assert!(SLOTS <= u64::BITS as usize); // Bond::met

/// A place for a context: its doorbell and pair pages, page-aligned.
const SLOT: usize = Mapped::<Bell>::LEN + 3 * Mapped::<Pair>::LEN;

/// Whom a pair page is shared with.
#[derive(Clone, Copy)]
pub(super) enum With {
    Root = 0,
    Maker = 1,
    Monitor = 2,
}

/// Where in the file the doorbell of a slot is.
pub(super) fn bell_at(slot: usize) -> usize {
    slot * SLOT
}

/// Where a pair page is.
pub(super) fn pair_at(slot: usize, with: With) -> usize {
    slot * SLOT + Mapped::<Bell>::LEN + with as usize * Mapped::<Pair>::LEN
}

/// A new nursery's file.
pub(super) fn file() -> Result<RawFd> {
    fds::sealed_memfd(c"lwc-nursery", SLOTS * SLOT)
}

/// Context descriptors without a file behind them have numbers from here on,
/// by channel; the current context's own is one less.
const NUMBERS: RawFd = 0x7000_0000;

pub(super) fn number_of(channel: usize) -> RawFd {
    NUMBERS + channel as RawFd
}

pub(super) const OWN_NUMBER: RawFd = NUMBERS - 1;

/// The nursery as its trapped context has it.
pub(super) struct Nursery {
    start: NonNull<u8>,
    next: usize,
}

impl Nursery {
    pub(super) fn map(fd: RawFd) -> Result<Self> {
        // SAFETY: a new shared mapping at an address the kernel picks.
        let ptr = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SLOTS * SLOT,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                fd,
                0,
            )
        };
        NonNull::new(ptr.cast())
            .filter(|_| ptr != libc::MAP_FAILED)
            .map(|start| Self { start, next: 0 })
            .ok_or_else(|| Error::last(CALL, "pages for contexts of a trapped context"))
    }

    fn bell(&self, slot: usize) -> Mapped<Bell> {
        // SAFETY: inside the mapping, whose parts are owned slot by slot: a
        // slot is given out once, and the nursery never unmaps what it gave.
        unsafe { Mapped::adopt(self.start.byte_add(bell_at(slot)).cast()) }
    }

    fn pair(&self, slot: usize, with: With) -> Mapped<Pair> {
        // SAFETY: as in `bell`.
        unsafe { Mapped::adopt(self.start.byte_add(pair_at(slot, with)).cast()) }
    }

    /// Unmaps what is not of `slot`, for the context that was born there.
    fn leave(self, slot: usize) {
        let (before, after) = (slot * SLOT, (slot + 1) * SLOT);
        let start = self.start.as_ptr() as u64;
        let unmap = |from: usize, to: usize| {
            if from < to {
                // SAFETY: pages of the maker's, no reference to which is left.
                unsafe { libc::munmap((start + from as u64) as *mut _, to - from) };
            }
        };
        // Slots before have holes where the maker has unmapped or has kept
        // from its children what is its own: munmap does not mind.
        unmap(0, before);
        unmap(after, SLOTS * SLOT);
    }
}

/// What the new context needs to know.
struct Birth {
    id: u64,
    slot: usize,
    /// The maker's channel to it.
    index: usize,
    /// Whether it and the monitor have met.
    meets: bool,
    /// The descriptor that the maker has of the monitor.
    desc: Option<RawFd>,
    /// Its calls go to the maker.
    own_trap: bool,
}

/// Makes a context.
pub(super) fn create(rt: &mut Runtime, specs: &[Spec], flags: u32) -> Result<create::Forked> {
    check(rt, specs)?;
    create::whole_files(rt, specs)?;
    let monitor = rt
        .monitor
        .ok_or_else(|| Error::new(CALL, Errno::EPERM, "no monitor"))?;
    let slot = match rt.nursery.as_mut() {
        Some(n) if n.next < SLOTS => {
            n.next += 1;
            n.next - 1
        }
        Some(_) => {
            return Err(Error::new(
                CALL,
                Errno::EAGAIN,
                format!(
                    "a trapped context makes {SLOTS} contexts in its life, on the process backend"
                ),
            ));
        }
        None => {
            return Err(Error::new(
                CALL,
                Errno::EAGAIN,
                "a context that a trapped one made cannot make others, on the process backend",
            ));
        }
    };
    rt.sweep();
    let own_trap = flags & LWC_TRAP_SYSCALL != 0;
    let flags = flags | LWC_TRAP_SYSCALL;
    let answer = ask(
        rt,
        CALL,
        0,
        &[
            op::REGISTER_SLOT,
            u64::from(flags),
            slot as u64,
            own_trap.into(),
        ],
        &[],
        &[],
    )?;
    let id = answer.words[0];
    let Some(n) = rt.nursery.as_ref() else {
        return Err(Error::new(CALL, Errno::EPERM, "no nursery"));
    };
    let (pair, bell) = (n.pair(slot, With::Maker), n.bell(slot));
    // Whatever the slot has been written, nobody has read it.
    let mut c = Channel::new(id, -1, pair, 0, PeerBell::new(bell));
    c.pair.inherit(true);
    c.bond.ward = own_trap;
    let index = rt.add_channel(c);
    let held = rt
        .channel(monitor.channel)
        .filter(|c| c.held)
        .map(|c| c.desc);
    let mut birth = Birth {
        id,
        slot,
        index,
        meets: false,
        desc: held,
        own_trap,
    };
    let made = meet(rt, monitor, &mut birth).and_then(|()| fork(rt, &birth, specs, flags));
    match made {
        Ok(0) => Ok(create::Forked::New),
        Ok(_) => {
            let ready = rt.answer(CALL, index, false);
            let reported = ask(rt, CALL, 0, &[op::BORN, id], &[], &[]);
            if let Err(e) = ready.and(reported.map(drop)) {
                let _ = super::destroy_id(rt, id);
                create::abandon(rt, index, id);
                return Err(e);
            }
            let Some(c) = rt.channel(index) else {
                return Err(Error::new(CALL, Errno::ESRCH, "the new context is gone"));
            };
            c.desc = number_of(index);
            c.hold(true);
            c.mine = Rights::all();
            c.granted = Rights::granted_by(specs);
            Ok(create::Forked::Creator(c.desc))
        }
        Err(e) => {
            create::abandon(rt, index, id);
            Err(e)
        }
    }
}

/// What takes descriptors, or knowing what is mapped, cannot be had.
fn check(rt: &Runtime, specs: &[Spec]) -> Result<()> {
    for (i, spec) in specs.iter().enumerate() {
        let why = match (&spec.what, spec.access) {
            (What::Files(_), Access::Copy) | (What::Credentials, _) => continue,
            (What::Memory(..), Access::Unmap) => continue,
            (What::Memory(a, b), Access::Share) if is_shared(rt, *a, *b) => continue,
            (What::Memory(..), Access::Share) => {
                "memory that is not shared yet cannot be; use a region"
            }
            (What::Files(_), _) => "its descriptors go to the new context as a copy",
            (What::Memory(..), Access::Copy) => "memory is copied without being named",
        };
        return Err(Error::new(
            CALL,
            Errno::ENOTSUP,
            format!(
                "specifier {i}: in a trapped context, on the process backend, {why}; leave the specifier out"
            ),
        ));
    }
    Ok(())
}

/// Whether all of a range is shared memory of ours.
fn is_shared(rt: &Runtime, start: u64, end: u64) -> bool {
    let mut at = start;
    for o in rt.objects.within(start, end) {
        if o.start > at {
            return false;
        }
        at = o.end;
    }
    at >= end
}

/// The monitor gets to know the new context, if its calls go there or its
/// maker has a descriptor that it is to inherit.
fn meet(rt: &mut Runtime, monitor: Monitor, birth: &mut Birth) -> Result<()> {
    super::hold(rt, birth.id, monitor.id)?;
    if monitor.channel == 0 || (birth.own_trap && birth.desc.is_none()) {
        return Ok(());
    }
    let words = [
        op::MEET,
        birth.id,
        birth.slot as u64,
        (!birth.own_trap).into(),
    ];
    ask(rt, CALL, monitor.channel, &words, &[], &[])?;
    birth.meets = true;
    Ok(())
}

/// Forks and, in the new context, settles there. Returns the process.
fn fork(rt: &mut Runtime, birth: &Birth, specs: &[Spec], flags: u32) -> Result<i32> {
    let monitor = rt.monitor;
    let inherit = |rt: &mut Runtime, yes| {
        if let Some(m) = monitor.filter(|m| m.channel != 0)
            && let Some(c) = rt.channel(m.channel)
        {
            c.peer_bell.inherit(yes);
        }
    };
    // The maker's own doorbell, as others have it, is inherited by every
    // context it makes.
    inherit(rt, true);
    let pid = super::fork::fork(false);
    if pid == 0 {
        let done = settle(rt, birth, specs, flags);
        create::report(rt, 1, done);
        return Ok(0);
    }
    let errno = Errno::last();
    inherit(rt, false);
    let Some(n) = rt.nursery.as_ref() else {
        return Err(Error::new(CALL, Errno::EPERM, "no nursery"));
    };
    // Dropping unmaps: those two pages are the new context's alone.
    drop((
        n.pair(birth.slot, With::Root),
        n.pair(birth.slot, With::Monitor),
    ));
    if let Some(c) = rt.channel(birth.index) {
        c.pair.inherit(false);
        c.peer_bell.inherit(false);
    }
    if pid < 0 {
        return Err(Error::new(CALL, errno, "forking a context"));
    }
    Ok(pid)
}

/// First steps of the new context.
fn settle(rt: &mut Runtime, birth: &Birth, specs: &[Spec], flags: u32) -> Result<Option<RawFd>> {
    Runtime::forget_root();
    let no = |what| Error::new(CALL, Errno::EPERM, what);
    let nursery = rt.nursery.take().ok_or_else(|| no("no nursery"))?;
    let maker = rt.id;
    let monitor = rt.monitor.ok_or_else(|| no("no monitor"))?;
    // The maker's channels are not ours; one socket of it tells, by closing,
    // that the root is no more. The monitor's doorbell was inherited.
    let mut monitor_bell = None;
    for (i, c) in std::mem::take(&mut rt.channels).into_iter().enumerate() {
        let Some(c) = c else { continue };
        if i == 0 {
            rt.line = c.sock;
        } else {
            fds::close(c.sock);
        }
        if i == monitor.channel && i != 0 {
            // SAFETY: inherited for this purpose; the old owner is forgotten.
            monitor_bell = Some(unsafe { Mapped::adopt(c.peer_bell.ptr()) });
        }
        std::mem::forget((c.pair, c.peer_bell, c.registered));
    }
    fds::close(rt.bell_fd);
    rt.bell_fd = -1;
    let own = OwnBell::new(nursery.bell(birth.slot));
    let twin = PeerBell::new(nursery.bell(birth.slot));
    // The maker's own was not inherited.
    std::mem::forget(std::mem::replace(&mut rt.bell, own));
    let maker_bell = std::mem::replace(&mut rt.bell_of_creator, twin);
    let Some(root_ptr) = rt.root_bell.as_ref().map(PeerBell::ptr) else {
        return Err(no("no root"));
    };
    rt.id = birth.id;
    rt.creator = maker;
    rt.flags = flags;
    rt.self_desc = -1;
    rt.cap = Rights::all();
    rt.hear_own_bell();
    rt.expected = 0;
    fds::show_credentials(rt.line)?;
    let at = |with| nursery.pair(birth.slot, with);
    // SAFETY: the root's bell is owned by `root_bell` for ever, and channel 0
    // is never closed.
    let root_bell = PeerBell::new(unsafe { Mapped::adopt(root_ptr) });
    let mut root = Channel::new(1, -1, at(With::Root), 1, root_bell);
    root.root_line = true;
    root.desc = number_of(0);
    rt.put_channel(0, root);
    let mut creator = Channel::new(maker, -1, at(With::Maker), 1, maker_bell);
    creator.desc = number_of(1);
    creator.granted = Rights::all();
    creator.mine = Rights::granted_by(specs);
    rt.put_channel(1, creator);
    match monitor_bell.filter(|_| birth.meets) {
        Some(bell) => {
            let mut c = Channel::new(monitor.id, -1, at(With::Monitor), 1, PeerBell::new(bell));
            c.desc = number_of(2);
            rt.put_channel(2, c);
        }
        _ => drop(at(With::Monitor)),
    }
    nursery.leave(birth.slot);
    let known = if monitor.channel == 0 { 0 } else { 2 };
    if let (Some(desc), Some(c)) = (birth.desc, rt.channel(known)) {
        c.desc = desc;
        c.hold(true);
    }
    let (channel, id) = if birth.own_trap {
        (1, maker)
    } else {
        (known, monitor.id)
    };
    rt.watched_by(channel, id);
    rt.bell.set_trapped();
    // SAFETY: getppid has no preconditions.
    if unsafe { window::own([libc::SYS_getppid as u64, 0, 0, 0, 0, 0, 0]) }
        != i64::from(rt.root_pid)
    {
        return Err(Error::new(CALL, Errno::ESRCH, "the process is ending"));
    }
    create::die_with(rt.root_pid)?;
    create::apply(rt, specs, flags)?;
    Ok(None)
}

/// Somebody whose calls come here has made a context: meet it.
pub(super) fn meet_slot(
    rt: &mut Runtime,
    index: usize,
    words: &[u64],
) -> std::result::Result<(), (Errno, &'static str)> {
    let (id, slot, ward) = (words[1], words[2] as usize, words[3] != 0);
    let bond = rt.channel(index).map(|c| &mut c.bond);
    let Some((bond, nursery)) = bond.and_then(|b| b.nursery.clone().map(|n| (b, n))) else {
        return Err((Errno::EPERM, "not a context whose calls come here"));
    };
    // Each costs us memory: once for each slot, however often it is asked.
    let bit = 1u64.checked_shl(slot as u32).unwrap_or(0);
    if bond.met & bit != 0 {
        return Err((Errno::EEXIST, "met already"));
    }
    bond.met |= bit;
    let (pair, bell) = pages(nursery.0, slot, With::Monitor).ok_or((Errno::ENOMEM, "its pages"))?;
    rt.sweep();
    let mut c = Channel::new(id, -1, pair, 0, PeerBell::new(bell));
    c.seen = c.inn().seq.load(Ordering::Acquire);
    c.vouched = false;
    c.bond.ward = ward;
    rt.add_channel(c);
    Ok(())
}

/// Makes the root's end of a context that a trapped one makes. `ward`: its
/// calls come to the root. Returns its identity.
pub(super) fn register_slot(
    rt: &mut Runtime,
    creator: u64,
    flags: u32,
    slot: usize,
    ward: bool,
) -> Result<u64> {
    rt.sweep();
    let id = registrar::next(rt)?;
    let nursery = rt.book.as_ref().and_then(|b| b.nursery(creator));
    let no = |why| Error::new(CALL, Errno::EPERM, why);
    let nursery = nursery.ok_or_else(|| no("its creator has no place for it"))?;
    let (pair, bell) =
        pages(nursery.0, slot, With::Root).ok_or_else(|| no("no such place for it"))?;
    // Its maker's line tells who it is (`born_elsewhere`).
    let line = registrar::channel_of(rt, creator).ok_or_else(|| no("its creator has no line"))?;
    let line = rt
        .channel(line)
        .ok_or_else(|| no("its creator has no line"))?;
    fds::ask_credentials(line.sock, true)?;
    let registered = Registered::new(bell);
    registered.set_dead(0);
    let twin = Mapped::<Bell>::map_at(nursery.0, bell_at(slot))?;
    twin.inherit(false);
    let mut c = Channel::new(id, -1, pair, 0, PeerBell::new(twin));
    // Whatever the pages hold, nothing of it is a message yet.
    c.seen = c.inn().seq.load(Ordering::Acquire);
    c.registered = Some(registered);
    c.root_line = true;
    c.bond.ward = ward;
    let channel = rt.add_channel(c);
    if let Some(c) = rt.channel(channel) {
        c.desc = number_of(channel);
    }
    registrar::enter(rt, id, creator, flags | LWC_TRAP_SYSCALL, channel, None);
    Ok(id)
}

/// The pages of a slot, mapped by one who is not its maker. `None` if there is
/// no such slot, or no memory.
pub(super) fn pages(fd: RawFd, slot: usize, with: With) -> Option<(Mapped<Pair>, Mapped<Bell>)> {
    if slot >= SLOTS {
        return None;
    }
    let pair = Mapped::<Pair>::map_at(fd, pair_at(slot, with)).ok()?;
    let bell = Mapped::<Bell>::map_at(fd, bell_at(slot)).ok()?;
    pair.inherit(false);
    bell.inherit(false);
    Some((pair, bell))
}

impl Runtime {
    /// Whether a trapped context made this one.
    pub(super) fn is_nested(&self) -> bool {
        self.line >= 0
    }

    /// Whether the root's process is gone or runs another program.
    pub(super) fn line_is_cut(&self) -> bool {
        if self.line < 0 {
            return false;
        }
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
            window::own([
                libc::SYS_recvmsg as u64,
                self.line as u64,
                &raw mut msg as u64,
                (libc::MSG_PEEK | libc::MSG_DONTWAIT) as u64,
                0,
                0,
                0,
            ]) == 0
        }
    }

    /// The calls of this context go to a channel's peer from now on.
    pub(super) fn watched_by(&mut self, channel: usize, id: u64) {
        self.monitor = Some(Monitor { channel, id });
        if let Some(c) = self.channel(channel) {
            c.bond.monitor = true;
            let held = c.held;
            c.hold(held);
        }
    }
}
