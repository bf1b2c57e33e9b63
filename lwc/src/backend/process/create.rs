//! lwCreate: a child process that starts as a copy and parks.

use super::fds;
use super::memory;
use super::ranges::Ranges;
use super::registrar::{self, Registration};
use super::rights::Rights;
use super::runtime::{Channel, Runtime, death_signal};
use super::serve::{ask, op};
use super::trap;
use super::wire::bell::{Bell, OwnBell, PeerBell, Registered};
use super::wire::mapped::{Mapped, seal_writes};
use super::wire::pair::{Pair, kind};
use super::{memory::File, warden, window};
use crate::error::{Error, Result};
use crate::spec::{Access, Spec, What};
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::Ordering;

const CALL: &str = "lwCreate";

/// One descriptor of a context that the new one is to hold too.
struct Heirloom {
    peer: u64,
    desc: RawFd,
    sock: RawFd,
    pair: RawFd,
    bell: NonNull<Bell>,
    /// Our channel that it comes from, to have its doorbell inherited.
    from: usize,
    rights: Rights,
}

/// Everything the new context takes over, made before it exists.
struct Birth {
    registration: Registration,
    /// Socket and pair page to the creator, unless that is the root.
    creator: Option<(RawFd, RawFd)>,
    /// Its doorbell, to be written by it alone: inherited. Unmapped here
    /// afterwards, but by the root.
    bell: NonNull<Bell>,
    own: Option<Registered>,
    heirlooms: Vec<Heirloom>,
    shared_table: bool,
}

impl Birth {
    fn descriptors(&self) -> Vec<RawFd> {
        let r = &self.registration;
        let mut all = vec![r.sock, r.pair, r.bell];
        if let Some((sock, pair)) = self.creator {
            all.extend([sock, pair]);
        }
        all.extend(self.heirlooms.iter().flat_map(|h| [h.sock, h.pair]));
        all
    }
    /// Those that live on in the new context.
    fn lasting(&self) -> Vec<RawFd> {
        let mut all = vec![self.registration.sock, self.registration.bell];
        all.extend(self.creator.map(|c| c.0));
        all.extend(self.heirlooms.iter().map(|h| h.sock));
        all
    }
}

/// What lwCreate returned in.
pub(super) enum Forked {
    /// The creator: the new context's descriptor.
    Creator(RawFd),
    /// The new context, not yet switched to.
    New,
}

/// Makes a context.
pub(super) fn create(rt: &mut Runtime, specs: &[Spec], flags: u32) -> Result<Forked> {
    let shared_table = specs
        .iter()
        .any(|s| s.what == What::Files(None) && s.access == Access::Share);
    let trapped = flags & lwc_sys::LWC_TRAP_SYSCALL != 0;
    if trapped && shared_table {
        return Err(Error::new(
            CALL,
            Errno::ENOTSUP,
            "the process backend cannot share a whole descriptor table with a context whose system calls are trapped; let it have a copy",
        ));
    }
    for spec in specs {
        if let (What::Memory(start, end), Access::Share) = (&spec.what, spec.access) {
            memory::share_in_place(CALL, &mut rt.objects, *start, *end)?;
        }
    }
    whole_files(rt, specs)?;
    rt.sweep();
    let (mut birth, index) = prepare(rt, specs, flags, shared_table)?;
    inherit_bells(rt, &birth, index, true);
    let pid = super::fork::fork(shared_table);
    if pid == 0 {
        become_new(rt, birth, specs, flags);
        return Ok(Forked::New);
    }
    let fork_error = Errno::last();
    inherit_bells(rt, &birth, index, false);
    birth.own = None;
    let id = birth.registration.id;
    if pid < 0 {
        birth.descriptors().iter().for_each(|&fd| fds::close(fd));
        abandon(rt, index, id);
        return Err(Error::new(CALL, fork_error, "forking a context"));
    }
    if rt.is_root() {
        registrar::born(rt, id, pid);
    }
    // The new context reports that it is set up; only then may its ends of
    // the channels be closed here (a shared table is shared).
    let ready = rt.answer(CALL, index, false);
    let keep = if shared_table {
        birth.lasting()
    } else {
        Vec::new()
    };
    for fd in birth.descriptors() {
        if !keep.contains(&fd) {
            fds::close(fd);
        }
    }
    if let Some(c) = rt.channel(index) {
        c.foreign = keep;
    }
    rt.shared_table |= shared_table;
    if !rt.is_root() {
        let reported = ask(rt, CALL, 0, &[op::BORN, id], &[], &[]);
        if let Err(e) = reported {
            // Its line to the root is cut with that, and it goes.
            abandon(rt, index, id);
            return Err(e);
        }
    }
    let ready = ready.and_then(|()| {
        if trapped {
            warden::watch(rt, index, pid, birth.registration.nursery.take())?;
        }
        Ok(())
    });
    if let Err(e) = ready {
        // It ends by itself; this only makes sure that it has.
        let _ = super::destroy_id(rt, id);
        abandon(rt, index, id);
        return Err(e);
    }
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(CALL, Errno::ESRCH, "the new context is gone"));
    };
    c.hold(true);
    c.mine = Rights::all();
    c.granted = Rights::granted_by(specs);
    Ok(Forked::Creator(c.desc))
}

/// Which doorbells the fork to come takes along: the new context's own, and of
/// those that it is to hold.
fn inherit_bells(rt: &mut Runtime, birth: &Birth, index: usize, yes: bool) {
    if let Some(own) = &birth.own {
        own.inherit(yes);
    } else if let Some(c) = rt.channel(index)
        && let Some(own) = &c.registered
    {
        own.inherit(yes);
    }
    // Every context has the root's, at all times.
    for h in birth.heirlooms.iter().filter(|h| h.peer != 1) {
        if let Some(c) = rt.channel(h.from) {
            c.peer_bell.inherit(yes);
        }
    }
}

/// A memory file is shared with the new context whole or not at all: hostile
/// code there could map all of it.
pub(super) fn whole_files(rt: &Runtime, specs: &[Spec]) -> Result<()> {
    let (mut said, mut shared) = (Ranges::none(), Ranges::none());
    for spec in specs {
        if let What::Memory(start, end) = spec.what {
            said.add(start, end);
            if spec.access == Access::Share {
                shared.add(start, end);
            }
        }
    }
    for o in rt.objects.iter() {
        if o.region {
            for (start, end) in said.gaps(o.start, o.end) {
                shared.add(start, end);
            }
        }
    }
    for o in rt.objects.iter() {
        let (start, end) = o.whole();
        let any = shared.gaps(o.start, o.end) != [(o.start, o.end)];
        if any && !shared.contains(start, end) {
            return Err(Error::new(
                CALL,
                Errno::ENOTSUP,
                format!(
                    "{start:#x}..{end:#x} is one memory file, and only a part of it would be shared; the process backend cannot keep the rest from the new context"
                ),
            ));
        }
    }
    Ok(())
}

/// Undoes [`prepare`].
pub(super) fn abandon(rt: &mut Runtime, index: usize, id: u64) {
    if rt.is_root() {
        registrar::unregister(rt, id);
    } else {
        let _ = ask(rt, CALL, 0, &[op::UNREGISTER, id], &[], &[]);
    }
    if rt.channel(index).is_some_and(|c| c.peer == id)
        && let Some(c) = rt.channels[index].take()
    {
        c.close();
    }
}

/// Books the context and makes every channel it will have.
fn prepare(
    rt: &mut Runtime,
    specs: &[Spec],
    flags: u32,
    shared_table: bool,
) -> Result<(Birth, usize)> {
    let (registration, creator, own, index) = if rt.is_root() {
        let r = registrar::register(rt, rt.id, flags)?;
        let index = r.channel;
        (r, None, None, index)
    } else {
        let answer = ask(
            rt,
            CALL,
            0,
            &[op::REGISTER, u64::from(flags), shared_table.into()],
            &[],
            &[],
        )?;
        let (&[sock, pair, bell], nursery) = match answer.fds.split_first_chunk() {
            Some((three, rest)) if rest.len() <= 1 => (three, rest.first()),
            _ => {
                answer.fds.iter().for_each(|&fd| fds::close(fd));
                return Err(Error::new(CALL, Errno::EPROTO, "the root sent no channel"));
            }
        };
        let r = Registration {
            id: answer.words[0],
            channel: answer.words[1] as usize,
            sock,
            pair,
            bell,
            nursery: nursery.map(|&fd| Rc::new(File(fd))),
        };
        let mine = own_channel(rt, &r);
        let (creator, own, index) = match mine {
            Ok(mine) => mine,
            Err(e) => {
                [sock, pair, bell].iter().for_each(|&fd| fds::close(fd));
                let _ = ask(rt, CALL, 0, &[op::UNREGISTER, r.id], &[], &[]);
                return Err(e);
            }
        };
        (r, Some(creator), Some(own), index)
    };
    let registered = rt.channel(index).and_then(|c| c.registered.as_ref());
    let Some(bell) = own.as_ref().or(registered).map(Registered::ptr) else {
        return Err(Error::new(
            CALL,
            Errno::EBADF,
            "the new context has no doorbell",
        ));
    };
    let mut birth = Birth {
        registration,
        creator,
        bell,
        own,
        heirlooms: Vec::new(),
        shared_table,
    };
    match introduce_all(rt, specs, &mut birth) {
        Ok(()) => Ok((birth, index)),
        Err(e) => {
            birth.descriptors().iter().for_each(|&fd| fds::close(fd));
            abandon(rt, index, birth.registration.id);
            Err(e)
        }
    }
}

/// The channel between a creator that is not the root and its new context, and
/// the new context's doorbell as it will write it.
fn own_channel(rt: &mut Runtime, r: &Registration) -> Result<((RawFd, RawFd), Registered, usize)> {
    let pair = Mapped::<Pair>::file(c"lwc-pair")?;
    let made = fds::socket_pair().and_then(|(here, there)| {
        let mapped = Mapped::<Pair>::map(pair).and_then(|p| {
            let own = Registered::new(Mapped::map(r.bell)?);
            seal_writes(r.bell)?;
            let bell = PeerBell::map(r.bell)?;
            bell.inherit(false);
            Ok((p, own, bell))
        });
        mapped.map(|m| (here, there, m)).inspect_err(|_| {
            fds::close(here);
            fds::close(there);
        })
    });
    let (here, there, (mapped, own, bell)) = made.map_err(|e| {
        fds::close(pair);
        e.of(CALL)
    })?;
    let index = rt.add_channel(Channel::new(r.id, here, mapped, 0, bell));
    Ok(((there, pair), own, index))
}

/// Copies of the table copy the contexts in it (4.1): each is introduced.
fn introduce_all(rt: &mut Runtime, specs: &[Spec], birth: &mut Birth) -> Result<()> {
    let left_out = |desc: RawFd| {
        specs.iter().any(|s| {
            s.access == Access::Unmap
                && match s.what {
                    What::Files(None) => true,
                    What::Files(Some((a, b))) => (a..=b).contains(&desc),
                    _ => false,
                }
        })
    };
    let held: Vec<(usize, u64, RawFd)> = rt
        .channels
        .iter()
        .enumerate()
        .filter_map(|(i, c)| c.as_ref().map(|c| (i, c)))
        .filter(|(_, c)| c.held && !c.peer_dead() && !left_out(c.desc))
        .map(|(i, c)| (i, c.peer, c.desc))
        .collect();
    for (from, peer, desc) in held {
        let trapped = rt.channel(from).is_some_and(|c| c.peer_bell.is_trapped());
        let met = introduce(rt, from, birth.registration.id, birth.registration.bell);
        let (sock, pair) = match met {
            Ok(met) => met,
            // It cannot meet anybody but by its monitor, with every right.
            Err(e) if trapped && [Errno::EACCES, Errno::EPERM].contains(&e.errno()) => continue,
            Err(e) => return Err(e),
        };
        let Some(c) = rt.channel(from) else { continue };
        birth.heirlooms.push(Heirloom {
            peer,
            desc,
            sock,
            pair,
            bell: c.peer_bell.ptr(),
            from,
            rights: c.mine.clone(),
        });
        super::hold(rt, birth.registration.id, peer)?;
    }
    Ok(())
}

/// Has the peer of `from` meet a new holder, `id`. Returns the holder's socket
/// and the pair page.
pub(super) fn introduce(
    rt: &mut Runtime,
    from: usize,
    id: u64,
    bell: RawFd,
) -> Result<(RawFd, RawFd)> {
    let pair = Mapped::<Pair>::file(c"lwc-pair")?;
    let (here, there) = fds::socket_pair().inspect_err(|_| fds::close(pair))?;
    let trapped = rt.channel(from).is_some_and(|c| c.peer_bell.is_trapped());
    let asked = if trapped {
        super::access::introduce(rt, from, id, [there, pair, bell])
    } else {
        let words = [op::INTRODUCE, id];
        ask(rt, CALL, from, &words, &[], &[there, pair, bell])
    };
    fds::close(there);
    match asked {
        Ok(_) => Ok((here, pair)),
        Err(e) => {
            fds::close(here);
            fds::close(pair);
            Err(e)
        }
    }
}

/// First steps of the new context. On failure the creator learns why, and the
/// process ends.
fn become_new(rt: &mut Runtime, birth: Birth, specs: &[Spec], flags: u32) {
    Runtime::forget_root();
    super::set_root_process(false);
    let to = if birth.creator.is_some() { 1 } else { 0 };
    let done = settle(rt, birth, specs, flags);
    report(rt, to, done);
}

/// Tells the creator how it went; a failure ends the process. With it goes the
/// listener over this context, if there is one.
pub(super) fn report(rt: &mut Runtime, to: usize, done: Result<Option<RawFd>>) {
    let Some(c) = rt.channel(to) else {
        // SAFETY: without a channel nobody can be told; the creator sees the
        // death.
        unsafe { libc::_exit(1) };
    };
    let done = done.and_then(|listener| {
        fds::send(c.sock, listener.as_slice()).map_err(|e| e.of(CALL))?;
        c.out().put_words(&[listener.map_or(0, |fd| fd as u64 + 1)]);
        Ok(listener)
    });
    let errno = match &done {
        Ok(_) => 0,
        Err(e) => {
            c.out().put_payload(e.to_string().as_bytes());
            e.errno() as i32 as u32
        }
    };
    c.out().errno.store(errno, Ordering::Relaxed);
    c.out().publish(kind::REPLY);
    c.ring();
    match done {
        Ok(None) => {}
        // SAFETY: closes a descriptor of our own; the creator lets it.
        Ok(Some(fd)) => unsafe {
            window::vouched([libc::SYS_close as u64, fd as u64, 0, 0, 0, 0, 0]);
        },
        Err(_) => {
            if let Some(root) = rt.channel(0) {
                root.out().leaving.store(1, Ordering::Relaxed);
            }
            // SAFETY: the new context was never switched to and ends here.
            unsafe { libc::_exit(1) };
        }
    }
}

fn settle(rt: &mut Runtime, mut birth: Birth, specs: &[Spec], flags: u32) -> Result<Option<RawFd>> {
    let root_pid = rt.root_pid;
    let creator = rt.id;
    let shared = birth.shared_table;
    // The creator's channels are not ours. Their pages were not inherited
    // (MADV_DONTFORK), so there is nothing to unmap, and their doorbells were
    // only where they are about to be adopted.
    for c in std::mem::take(&mut rt.channels).into_iter().flatten() {
        if !shared {
            fds::close(c.sock);
        }
        std::mem::forget((c.pair, c.peer_bell, c.registered));
        if shared {
            std::mem::forget(c.bond);
        }
    }
    let book = rt.book.take();
    if shared {
        std::mem::forget(book);
    } else {
        fds::close(rt.bell_fd);
    }
    rt.shared_table = shared;
    if shared {
        // The files are the creator's as much as ours: never close them here.
        rt.objects.leave_open();
    }
    let r = &birth.registration;
    // SAFETY: the mapping was inherited for this purpose (`inherit_bells`), and
    // what the creator's values of it own is the creator's memory.
    let bell = OwnBell::new(unsafe { Mapped::adopt(birth.bell) });
    std::mem::forget(birth.own.take());
    // The creator's own was not inherited.
    std::mem::forget(std::mem::replace(&mut rt.bell, bell));
    let creator_bell = std::mem::replace(&mut rt.bell_of_creator, PeerBell::map(r.bell)?);
    let (root_bell, creator_bell) = match rt.root_bell.take() {
        // The creator is a context: its bell and the root's are two.
        Some(root) => (root, Some(creator_bell)),
        None => (creator_bell, None),
    };
    let root_ptr = root_bell.ptr();
    rt.root_bell = Some(root_bell);
    rt.bell_fd = r.bell;
    rt.id = r.id;
    rt.creator = creator;
    rt.flags = flags;
    rt.self_desc = -1;
    rt.cap = Rights::all();
    rt.expected = 0;
    rt.hear_own_bell();
    fds::alarm(r.sock, death_signal())?;
    let creator_rights = Rights::granted_by(specs);
    let is_creators = birth.creator.is_none();
    // SAFETY: the root's bell is inherited by every context and owned by
    // `root_bell`, which lives as long as this context; dropping this second
    // owner is prevented, for channel 0 is never closed.
    let bell = PeerBell::new(unsafe { Mapped::adopt(root_ptr) });
    let mut root = Channel::new(1, r.sock, Mapped::map(r.pair)?, 1, bell);
    root.root_line = true;
    root.lent = shared;
    if is_creators {
        root.granted = Rights::all();
        root.mine = creator_rights.clone();
    }
    rt.put_channel(0, root);
    if let (Some((sock, page)), Some(bell)) = (birth.creator, creator_bell) {
        bell.inherit(false);
        let mut c = Channel::new(creator, sock, Mapped::map(page)?, 1, bell);
        c.lent = shared;
        c.granted = Rights::all();
        c.mine = creator_rights;
        rt.put_channel(1, c);
        fds::show_credentials(r.sock)?;
    }
    let first = if birth.creator.is_some() { 2 } else { 1 };
    for (n, h) in birth.heirlooms.iter().enumerate() {
        let mut sock = h.sock;
        if !shared {
            // The number the creator had it under, as a copied table has.
            // SAFETY: the creator's own socket there was closed above.
            sock = unsafe { libc::dup3(h.sock, h.desc, libc::O_CLOEXEC) };
            if sock < 0 {
                return Err(Error::last(CALL, "a context's descriptor"));
            }
            fds::close(h.sock);
        }
        // The root's bell has one owner more, as above.
        // SAFETY: this bell was inherited for this channel (prepare), or is
        // the root's.
        let bell = PeerBell::new(unsafe { Mapped::adopt(h.bell) });
        if h.peer != 1 {
            bell.inherit(false);
        }
        let mut c = Channel::new(h.peer, sock, Mapped::map(h.pair)?, 0, bell);
        c.desc = h.desc;
        c.lent = shared;
        c.mine = h.rights.clone();
        c.booked = true;
        c.hold(true);
        rt.put_channel(first + n, c);
    }
    if !shared {
        fds::close(r.pair);
        if let Some((_, page)) = birth.creator {
            fds::close(page);
        }
        birth.heirlooms.iter().for_each(|h| fds::close(h.pair));
    }
    die_with(root_pid)?;
    if let Some(file) = &birth.registration.nursery {
        rt.nursery = Some(super::nested::Nursery::map(file.0)?);
    }
    // Its files close with this one's copies of them.
    drop(birth);
    apply(rt, specs, flags)?;
    if flags & lwc_sys::LWC_TRAP_SYSCALL == 0 {
        return Ok(None);
    }
    rt.watched_by(if is_creators { 0 } else { 1 }, creator);
    trap::enter(rt, !super::confine::is_confined())
}

/// The context goes when the root's process goes, cannot be traced or dumped
/// by others of the same user, and gains nothing from set-user-ID programs.
pub(super) fn die_with(root_pid: i32) -> Result<()> {
    // SAFETY: prctl with plain numbers; getppid has no preconditions.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if libc::getppid() != root_pid {
            return Err(Error::new(CALL, Errno::ESRCH, "the process is ending"));
        }
    }
    Ok(())
}

/// What the specifiers say of the new context's own memory and descriptors.
pub(super) fn apply(rt: &mut Runtime, specs: &[Spec], flags: u32) -> Result<()> {
    for spec in specs {
        match (&spec.what, spec.access) {
            (What::Memory(start, end), Access::Unmap) => {
                memory::unmap(&mut rt.objects, *start, *end).map_err(|e| e.of(CALL))?;
            }
            (What::Memory(start, end), Access::Copy) => {
                memory::make_private(CALL, &mut rt.objects, *start, *end)?;
            }
            (What::Files(range), Access::Unmap) => {
                let (from, to) = range.unwrap_or((0, i32::MAX));
                fds::close_except(from as u32, to as u32, &rt.own_descriptors());
            }
            _ => {}
        }
    }
    // Without a specifier memory is copied (2.2), that which the creator shares
    // with others included; regions alone are shared unless said otherwise.
    let mut said = Ranges::none();
    for spec in specs {
        if let What::Memory(start, end) = spec.what {
            said.add(start, end);
        }
    }
    for (start, end) in rt.objects.plain() {
        for (start, end) in said.gaps(start, end) {
            memory::make_private(CALL, &mut rt.objects, start, end)?;
        }
    }
    if flags & lwc_sys::LWC_PREFAULT != 0 {
        memory::prefault().map_err(|e| e.of(CALL))?;
    }
    if flags & (lwc_sys::LWC_TRAP_FAULT | lwc_sys::LWC_TRAP_EXIT) != 0 {
        if let Some(c) = rt.channel(0) {
            super::faults::note_in(c.out());
        }
    } else {
        super::faults::stop_noting();
    }
    Ok(())
}
