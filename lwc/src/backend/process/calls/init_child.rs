//! lwCreate, the new context's side: what it takes over, and what it leaves.

use super::prepared::{CALL, Prepared};
use super::{faults, rollback, trap};
use crate::backend::process::guard::set_root_process;
use crate::backend::process::state::channel::Channel;
use crate::backend::process::state::memory;
use crate::backend::process::state::mode;
use crate::backend::process::state::ranges::Ranges;
use crate::backend::process::state::rights::Rights;
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::state::share;
use crate::backend::process::state::signals;
use crate::backend::process::state::slots::Slots;
use crate::backend::process::wire::bell::{OwnBell, PeerBell};
use crate::backend::process::wire::mapped::Mapped;
use crate::backend::process::wire::message::Answer;
use crate::backend::process::wire::pair::kind;
use crate::backend::process::wire::{fds, gate};
use crate::error::{Error, Result};
use crate::spec::{Access, Spec, What};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::Ordering;

/// First steps of the new context. On failure the creator learns why, and the
/// process ends.
pub(crate) fn become_new(rt: &mut Runtime, prepared: Prepared, specs: &[Spec], flags: u32) {
    signals::forget();
    set_root_process(false);
    let to = if prepared.creator.is_some() { 1 } else { 0 };
    let done = init_child(rt, prepared, specs, flags);
    report(rt, to, done);
}

/// Tells the creator how it went; a failure ends the process. With it goes the
/// listener over this context, if there is one.
pub(crate) fn report(rt: &mut Runtime, to: usize, done: Result<Option<OwnedFd>>) {
    let Some(c) = rt.channel(to) else {
        // SAFETY: without a channel nobody can be told; the creator sees the
        // death.
        unsafe { libc::_exit(1) };
    };
    let done = done.and_then(|listener| {
        if let Some(fd) = &listener {
            let sent = c.socket().and_then(|sock| fds::send(sock, &[fd.as_fd()]));
            sent.map_err(|e| e.of(CALL))?;
        }
        let number = listener.as_ref().map(AsRawFd::as_raw_fd);
        c.out().put_words(&Answer::Number(number).encode(0));
        Ok(listener)
    });
    let errno = match &done {
        Ok(_) => 0,
        Err(e) => {
            c.out().put_payload(e.for_peer().as_bytes());
            e.cause() as i32 as u32
        }
    };
    c.out().errno.store(errno, Ordering::Relaxed);
    c.out().publish(kind::REPLY);
    c.ring();
    match done {
        Ok(None) => {}
        // SAFETY: closes a descriptor of our own, which is nobody's from here
        // on; the creator lets it.
        Ok(Some(fd)) => unsafe {
            let fd = fd.into_raw_fd();
            gate::approved([libc::SYS_close as u64, fd as u64, 0, 0, 0, 0, 0]);
        },
        Err(_) => {
            // SAFETY: the new context was never switched to and ends here.
            unsafe { libc::_exit(1) };
        }
    }
}

fn init_child(
    rt: &mut Runtime,
    mut prepared: Prepared,
    specs: &[Spec],
    flags: u32,
) -> Result<Option<OwnedFd>> {
    let root_pid = rt.root_pid;
    let creator = rt.id;
    let shared = prepared.shared_table;
    // The creator's channels are not ours. Their pages were not inherited
    // (MADV_DONTFORK), so there is nothing to unmap, and their doorbells were
    // only where they are about to be adopted.
    for c in std::mem::take(&mut rt.channels).into_iter().flatten() {
        c.disown(shared);
    }
    let (book, bell_fd) = (rt.book.take(), rt.bell_fd.take());
    let own = rt.self_fd.take();
    let mut keeper = rt.keeper.take();
    if shared {
        // They are the creator's as much as ours: never close them here.
        std::mem::forget((book, bell_fd, own, keeper.take()));
    } else {
        // Now, before specifiers close their numbers.
        drop((book, bell_fd, own));
        // Among our own still, so that specifiers do not close its number.
        rt.keeper = keeper.take().filter(|_| prepared.kept);
    }
    rt.shared_table = shared;
    if shared {
        rt.objects.leave_open();
    }
    // SAFETY: the mapping was inherited for this purpose (`inherit_bells`), and
    // what the creator's values of it own is the creator's memory.
    let bell = OwnBell::new(unsafe { Mapped::adopt(prepared.bell) });
    std::mem::forget(prepared.own.take());
    let r = prepared.registration;
    // The creator's own was not inherited.
    std::mem::forget(std::mem::replace(&mut rt.bell, bell));
    let creator_bell = std::mem::replace(&mut rt.bell_of_creator, PeerBell::map(&r.bell)?);
    let (root_bell, creator_bell) = match rt.root_bell.take() {
        // The creator is a context: its bell and the root's are two.
        Some(root) => (root, Some(creator_bell)),
        None => (creator_bell, None),
    };
    let root_ptr = root_bell.ptr();
    rt.root_bell = Some(root_bell);
    rt.id = r.id;
    rt.creator = creator;
    rt.flags = flags;
    rt.self_desc = -1;
    rt.cap = Rights::all();
    (rt.expected, rt.gave, rt.looked) = (None, 0, 0);
    signals::hear(rt.bell.word());
    let creator_rights = Rights::granted_by(specs);
    let is_creators = prepared.creator.is_none();
    // SAFETY: the root's bell is inherited by every context and owned by
    // `root_bell`, which lives as long as this context; dropping this second
    // owner is prevented, for channel 0 is never closed.
    let bell = PeerBell::new(unsafe { Mapped::adopt(root_ptr) });
    if prepared.creator.is_some() {
        // Before it runs any code of its own.
        let file = if mode::shows_share() {
            share::open_own().ok()
        } else {
            None
        };
        fds::show_credentials(&r.sock, file.as_ref().map(AsFd::as_fd))?;
    }
    let mut root = Channel::new(1, Some(r.sock), Mapped::map(&r.pair)?, 1, bell);
    root.root_line = true;
    root.lent = shared;
    if is_creators {
        root.granted = Rights::all();
        root.mine = creator_rights.clone();
    }
    rt.put_channel(0, root);
    rt.bell_fd = Some(r.bell);
    let first = if is_creators { 1 } else { 2 };
    // Where the table is one with the creator's, the numbers are its to close.
    let mut theirs: Vec<OwnedFd> = vec![r.pair];
    if let (Some((sock, page)), Some(bell)) = (prepared.creator, creator_bell) {
        bell.inherit(false);
        let mut c = Channel::new(creator, Some(sock), Mapped::map(&page)?, 1, bell);
        c.lent = shared;
        c.granted = Rights::all();
        c.mine = creator_rights;
        rt.put_channel(1, c);
        theirs.push(page);
    }
    for (n, h) in prepared.inherited.into_iter().enumerate() {
        let mut sock = h.sock;
        if !shared {
            // The number the creator had it under, as a copied table has.
            // SAFETY: the creator's own socket there was closed above.
            let number = unsafe { libc::dup3(sock.as_raw_fd(), h.desc, libc::O_CLOEXEC) };
            if number < 0 {
                return Err(Error::last(CALL, "a context's descriptor"));
            }
            // SAFETY: made just now, and known to nobody else.
            sock = unsafe { OwnedFd::from_raw_fd(number) };
        }
        // The root's bell has one owner more, as above.
        // SAFETY: this bell was inherited for this channel (prepare), or is
        // the root's.
        let bell = PeerBell::new(unsafe { Mapped::adopt(h.bell) });
        if h.peer != 1 {
            bell.inherit(false);
        }
        let mut c = Channel::new(h.peer, Some(sock), Mapped::map(&h.pair)?, 0, bell);
        c.desc = h.desc;
        c.lent = shared;
        c.mine = h.rights;
        c.booked = true;
        c.hold(true);
        rt.put_channel(first + n, c);
        theirs.push(h.pair);
    }
    if shared {
        std::mem::forget(theirs);
    } else {
        drop(theirs);
    }
    die_with(root_pid)?;
    if let Some(file) = r.slots {
        rt.slots = Some(Slots::map(&*file)?);
    }
    apply(rt, specs, flags)?;
    if let Some(keeper) = rt.keeper.take() {
        rollback::enter(keeper, rt.id)?;
    }
    if flags & lwc_sys::LWC_TRAP_SYSCALL == 0 {
        return Ok(None);
    }
    rt.watched_by(if is_creators { 0 } else { 1 }, creator);
    trap::enter(rt, !mode::is_confined())
}

/// The context goes when the root's process goes, cannot be traced or dumped
/// by others of the same user, and gains nothing from set-user-ID programs.
pub(crate) fn die_with(root_pid: i32) -> Result<()> {
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
pub(crate) fn apply(rt: &mut Runtime, specs: &[Spec], flags: u32) -> Result<()> {
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
            faults::note_in(c.out());
        }
    } else {
        faults::stop_noting();
    }
    Ok(())
}
