//! The module's calls: one system call each.

use super::names::number;
use crate::backend::answers::{Facts, NO_MODULE, Rest, Returned, RollbackMeans};
use crate::error::{Error, Result};
use crate::event::{Args, Event, Room, WORDS};
use crate::spec::{For, Spec, validate};
use crate::time::MonotonicTime;
use crate::volatile;
use lwc_sys::{
    LWC_CONTROL_DESTROY, LWC_CONTROL_ERASE, LWC_CONTROL_INTRODUCE, LWC_CONTROL_ROLLBACK,
    LWC_CONTROL_SNAPSHOT, LWC_ERASE_MAX, LWC_SELF, LWC_SWITCHED, LWC_TRAPPED, LWC_UNTIL, lwc_erase,
    lwc_info, lwc_spec,
};
use nix::errno::Errno;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr::NonNull;

/// Why there is no kernel backend: the module does not answer, or speaks
/// otherwise. A process with threads, such as a gateway, has no contexts and is
/// told so (EBUSY), by the module.
pub(crate) fn missing() -> Option<&'static str> {
    // SAFETY: an all-zero structure of integers, filled by the call.
    let info = unsafe {
        let mut info: lwc_info = std::mem::zeroed();
        if lwc_sys::lwInfo(LWC_SELF, &raw mut info) != 0 {
            return (Errno::last() != Errno::EBUSY).then_some(NO_MODULE);
        }
        info
    };
    (info.li_version != lwc_sys::LWC_ABI_VERSION).then_some(
        "the lwc.ko that is loaded is of another version than this program (lwInfo(2), li_version): build both from the same sources, kldunload lwc, kldload lwc",
    )
}

fn raw(specs: &[Spec]) -> Vec<lwc_spec> {
    specs.iter().map(Spec::to_raw).collect()
}

/// What a call's answer means to the context it returned in. `None`: the call
/// failed.
#[inline(always)]
fn arrived(value: i32, src: i32, count: u32, room: &Room) -> Option<Event> {
    if value == LWC_SWITCHED {
        // SAFETY: the kernel has written as many words as it says.
        let args = unsafe { Args::first(count as usize, room) };
        return Some(Event::switched((src >= 0).then_some(src), args));
    }
    (value == LWC_TRAPPED).then(|| trapped(src, count, room))
}

#[cold]
fn trapped(src: i32, count: u32, room: &Room) -> Event {
    let count = (count as usize).min(WORDS);
    // SAFETY: the kernel has written as many words as it says.
    let words = unsafe { std::slice::from_raw_parts(room.as_ptr().cast(), count) };
    // A trapped call's context lives on; of one that ended there is nothing to
    // name.
    if src >= 0 {
        Event::called(src, words)
    } else {
        Event::ended(words)
    }
}

/// lwCreate.
pub(crate) fn lw_create(specs: &[Spec], flags: u32) -> Result<Returned> {
    const CALL: &str = "lwCreate";
    validate(CALL, specs, For::Create)?;
    let flags = flags & !crate::flags::PREPARE;
    let raw = raw(specs);
    let (mut src, mut count) = (-1, WORDS as i32);
    let mut room: Room = [MaybeUninit::uninit(); WORDS];
    // SAFETY: the specifiers and the places for the answer outlive the call,
    // in both contexts it returns in: the new one has a copy of this stack.
    // What the copy must not touch is the caller's promise (`crate::create`).
    let value = unsafe {
        lwc_sys::lwCreate(
            raw.as_ptr(),
            raw.len() as i32,
            &raw mut src,
            room.as_mut_ptr().cast(),
            &raw mut count,
            flags as i32,
        )
    };
    if value >= 0 {
        return Ok(Returned::Creator(value));
    }
    let Some(event) = arrived(value, src, count as u32, &room) else {
        return Err(Error::last(
            CALL,
            format!("{} specifiers, flags {flags:#x}", specs.len()),
        ));
    };
    keep_holes(&raw);
    Ok(Returned::New(event))
}

/// Lets nothing be mapped by chance where specifiers left memory out: an
/// address that means something to the creator faults here for good, and an
/// audit that looks at it sees nobody else's memory. What cannot be guarded
/// stays a hole.
fn keep_holes(specs: &[lwc_spec]) {
    /// Who leaves out more leaves out everything, and needs room.
    const MOST: u64 = 1 << 40;
    // A trapped context would ask its creator for each.
    if lw_info(None).is_ok_and(|info| info.flags & lwc_sys::LWC_TRAP_SYSCALL != 0) {
        return;
    }
    for spec in specs {
        if spec.flags & (lwc_sys::LWC_TYPES | lwc_sys::LWC_UNMAP)
            != lwc_sys::LWC_MEMORY | lwc_sys::LWC_UNMAP
        {
            continue;
        }
        // SAFETY: a specifier of memory has its range in this member. The
        // guard goes where nothing is mapped (MAP_EXCL) and nothing can be
        // accessed through it.
        unsafe {
            let range = spec.sub.memory;
            if range.end - range.start <= MOST {
                libc::mmap(
                    range.start as *mut libc::c_void,
                    (range.end - range.start) as usize,
                    libc::PROT_NONE,
                    libc::MAP_GUARD | libc::MAP_FIXED | libc::MAP_EXCL,
                    -1,
                    0,
                );
            }
        }
    }
}

#[inline]
fn too_many(call: &'static str, words: &[u64]) -> Result<()> {
    if words.len() > WORDS {
        return Err(Error::new(
            call,
            Errno::EINVAL,
            format!(
                "{} words, at most {WORDS} travel with a switch",
                words.len()
            ),
        ));
    }
    Ok(())
}

/// lwSwitch. In line: to save and restore registers around it is dear beside
/// the switch itself.
#[inline(always)]
pub(crate) fn lw_switch(
    to: RawFd,
    words: &[u64],
    deadline: Option<MonotonicTime>,
) -> Result<Event> {
    const CALL: &str = "lwSwitch";
    too_many(CALL, words)?;
    let (mut at, mut n) = (words.as_ptr(), words.len() as i32);
    let mut with_end = [MaybeUninit::uninit(); WORDS + 1];
    if let Some(deadline) = deadline {
        for (place, &word) in with_end.iter_mut().zip(words) {
            place.write(word);
        }
        with_end[words.len()].write(deadline.nanos());
        (at, n) = (with_end.as_ptr().cast(), n | LWC_UNTIL as i32);
    }
    let mut room: Room = [MaybeUninit::uninit(); WORDS];
    // SAFETY: words, with what follows them, and room outlive the call. Other
    // contexts run before it returns; they have their own memory, but for what
    // was shared on purpose.
    let resumed = unsafe { lwc_sys::lwSwitchHere(to, at, n, room.as_mut_ptr().cast()) };
    match arrived(resumed.value, resumed.src, resumed.count, &room) {
        Some(event) => Ok(event),
        None => Err(named(CALL, to)),
    }
}

/// What errno says of a call on a descriptor.
#[cold]
fn named(call: &'static str, fd: RawFd) -> Error {
    let error = Error::last(call, format!("to descriptor {fd}"));
    let what = match error.cause() {
        Errno::EBADF => format!("descriptor {fd} names no context"),
        Errno::ESRCH => format!("the context of descriptor {fd} is dead"),
        Errno::EPERM => format!("descriptor {fd} names a context that another one created"),
        Errno::ETIMEDOUT => "nobody switched back before the deadline".into(),
        _ => return error,
    };
    Error::new(call, error.cause(), what)
}

/// lwDiscardSwitch. Returns on failure alone.
pub(crate) fn lw_discard_switch(to: RawFd, words: &[u64]) -> Error {
    const CALL: &str = "lwDiscardSwitch";
    if let Err(e) = too_many(CALL, words) {
        return e;
    }
    // SAFETY: the words outlive the call; on success nothing here is used
    // again.
    unsafe { lwc_sys::lwDiscardSwitch(to, words.as_ptr(), words.len() as i32) };
    named(CALL, to)
}

/// lwRestrict.
pub(crate) fn lw_restrict(of: Option<RawFd>, specs: &[Spec]) -> Result<()> {
    const CALL: &str = "lwRestrict";
    validate(CALL, specs, For::Restrict)?;
    let raw = raw(specs);
    let of = number(CALL, of)?;
    // SAFETY: the specifiers outlive the call.
    let rc = unsafe { lwc_sys::lwRestrict(of, raw.as_ptr(), raw.len() as i32) };
    if rc != 0 {
        return Err(Error::last(CALL, format!("{} specifiers", specs.len())));
    }
    Ok(())
}

/// lwOverlay.
pub(crate) fn lw_overlay(source: Option<RawFd>, specs: &[Spec]) -> Result<()> {
    const CALL: &str = "lwOverlay";
    let purpose = if source.is_some() {
        For::Overlay
    } else {
        For::OverlaySelf
    };
    validate(CALL, specs, purpose)?;
    let raw = raw(specs);
    let source = number(CALL, source)?;
    // SAFETY: the specifiers outlive the call; what is replaced at their
    // addresses is the caller's promise (`Handle::overlay`).
    let rc = unsafe { lwc_sys::lwOverlay(source, raw.as_ptr(), raw.len() as i32) };
    if rc != 0 {
        return Err(Error::last(CALL, format!("{} specifiers", specs.len())));
    }
    Ok(())
}

/// lwInfo.
pub(crate) fn lw_info(of: Option<RawFd>) -> Result<Facts> {
    let number = number("lwInfo", of)?;
    // SAFETY: an all-zero structure of integers, filled by the call.
    let info = unsafe {
        let mut info: lwc_info = std::mem::zeroed();
        if lwc_sys::lwInfo(number, &raw mut info) != 0 {
            return Err(Error::last("lwInfo", format!("of {of:?}")));
        }
        info
    };
    Ok(Facts {
        id: info.li_id,
        creator: info.li_creator,
        flags: info.li_flags,
        state: info.li_state,
        rights: info.li_rights,
        contexts: info.li_contexts,
        resident: info.li_resident,
        private: info.li_private,
        pss: None,
    })
}

/// lwGetlwc.
pub(crate) fn lw_getlwc() -> Result<RawFd> {
    // SAFETY: the call has no arguments.
    let fd = unsafe { lwc_sys::lwGetlwc() };
    if fd < 0 {
        return Err(Error::last(
            "lwGetlwc",
            "a descriptor of the current context",
        ));
    }
    Ok(fd)
}

/// dup(2).
pub(crate) fn lw_dup(fd: RawFd) -> Result<RawFd> {
    let info = lw_info(Some(fd)).map_err(|e| e.of("dup"))?;
    if info.state == lwc_sys::LWC_STATE_DEAD {
        return Err(Error::new(
            "dup",
            Errno::ESRCH,
            format!("the context of descriptor {fd} is dead"),
        ));
    }
    // SAFETY: duplicates a descriptor; no memory is involved.
    let new = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if new < 0 {
        return Err(Error::last("dup", format!("descriptor {fd}")));
    }
    Ok(new)
}

/// Whether a number is a context's descriptor.
pub(crate) fn names(fd: RawFd) -> Result<()> {
    lw_info(Some(fd)).map(drop)
}

/// close(2), of a context's descriptor alone.
pub(crate) fn lw_close(fd: RawFd) -> Result<()> {
    lw_info(Some(fd)).map_err(|e| e.of("close"))?;
    // SAFETY: the number names a context, and its owner gives it up.
    if unsafe { libc::close(fd) } != 0 {
        return Err(Error::last("close", format!("descriptor {fd}")));
    }
    Ok(())
}

/// Nobody can switch out of turn here: contexts are never scheduled, so the
/// wait would be for nothing, and is over at once.
pub(crate) fn await_switch(_: MonotonicTime) -> Result<Event> {
    Err(Error::new(
        "lwSwitch",
        Errno::ETIMEDOUT,
        "no context runs but the current one",
    ))
}

/// lwControl, LWC_CONTROL_DESTROY; it always waits.
pub(crate) fn destroy(fd: RawFd, _wait: bool) -> Result<()> {
    // SAFETY: the command has no argument.
    if unsafe { lwc_sys::lwControl(fd, LWC_CONTROL_DESTROY as i32, 0) } != 0 {
        return Err(named("destroy", fd));
    }
    Ok(())
}

/// lwControl, LWC_CONTROL_INTRODUCE: the number in the table of `to`.
pub(crate) fn introduce(to: RawFd, whom: RawFd) -> Result<RawFd> {
    const CALL: &str = "introduce";
    let (to, whom) = (number(CALL, Some(to))?, number(CALL, Some(whom))?);
    // SAFETY: the argument is a number, not an address.
    let fd = unsafe { lwc_sys::lwControl(to, LWC_CONTROL_INTRODUCE as i32, whom as u64) };
    if fd < 0 {
        let what = format!("descriptor {whom} to descriptor {to}");
        return Err(Error::last(CALL, what));
    }
    Ok(fd)
}

/// lwControl, LWC_CONTROL_SNAPSHOT.
pub(crate) fn snapshot(desc: RawFd) -> Result<()> {
    roll("snapshot", desc, LWC_CONTROL_SNAPSHOT).map(drop)
}

/// lwControl, LWC_CONTROL_ROLLBACK: the number of pages that were undone.
pub(crate) fn roll_back(desc: RawFd) -> Result<u64> {
    roll("roll_back", desc, LWC_CONTROL_ROLLBACK)
}

/// The module has it, or is of another version (`missing`).
pub(crate) fn rollback_support() -> Result<RollbackMeans> {
    Ok(RollbackMeans::Module)
}

fn roll(call: &'static str, desc: RawFd, command: u32) -> Result<u64> {
    let number = number(call, Some(desc))?;
    // SAFETY: the commands have no argument. What a rollback undoes is another
    // context's memory; that which this one shares with it stays as it is.
    let pages = unsafe { lwc_sys::lwControl(number, command as i32, 0) };
    u64::try_from(pages).map_err(|_| {
        let error = Error::last(call, format!("of descriptor {desc}"));
        let what = match error.cause() {
            Errno::EPERM => format!("descriptor {desc} does not have every right over its context"),
            Errno::EBUSY => format!("the context of descriptor {desc} does not wait"),
            Errno::ENOENT => format!("the context of descriptor {desc} has no snapshot"),
            Errno::EINVAL => format!(
                "the context of descriptor {desc} has what cannot be brought back: locked memory or a kernel queue"
            ),
            Errno::ENOMEM if command == LWC_CONTROL_ROLLBACK => {
                format!("no memory: the context of descriptor {desc} was destroyed")
            }
            _ => return error,
        };
        Error::new(call, error.cause(), what)
    })
}

/// Whether a context waits to be switched to: it does unless it is the current
/// one, for nobody else runs.
pub(crate) fn parked(of: RawFd) -> Result<bool> {
    const CALL: &str = "parked";
    let state = lw_info(Some(of)).map_err(|e| e.of(CALL))?.state;
    if state == lwc_sys::LWC_STATE_DEAD {
        let what = format!("the context of descriptor {of} is dead");
        return Err(Error::new(CALL, Errno::ESRCH, what));
    }
    Ok(state != lwc_sys::LWC_STATE_CURRENT)
}

/// The same of several.
pub(crate) fn parked_together(of: &[RawFd], _wait: bool) -> Result<Vec<bool>> {
    const WAITS: [u32; 3] = [
        lwc_sys::LWC_STATE_SUSPENDED,
        lwc_sys::LWC_STATE_NEW,
        lwc_sys::LWC_STATE_PREEMPTED,
    ];
    of.iter()
        .map(|&fd| Ok(WAITS.contains(&lw_info(Some(fd))?.state)))
        .collect()
}

/// How each of them rests: nobody runs but the current context.
pub(crate) fn come_to_rest(of: &[RawFd], _since: MonotonicTime) -> Result<Vec<Rest>> {
    let rest = |parked| {
        if parked {
            Rest::Parked
        } else {
            Rest::Elsewhere
        }
    };
    Ok(parked_together(of, true)?.into_iter().map(rest).collect())
}

/// Shared anonymous memory.
pub(crate) fn region_map(len: usize) -> Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address the kernel picks.
    let ptr = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANON,
            -1,
            0,
        )
    };
    NonNull::new(ptr.cast::<u8>())
        .filter(|_| ptr != libc::MAP_FAILED)
        .ok_or_else(|| Error::last("Region::new", format!("a region of {len} bytes")))
}

/// lwControl, LWC_CONTROL_ERASE, which knows what was written to. What it does not
/// erase, for somebody works on it, is erased here.
pub(crate) fn region_erase(addr: usize, len: usize) -> Result<()> {
    let end = addr + len;
    for start in (addr..end).step_by(LWC_ERASE_MAX as usize) {
        let part = lwc_erase {
            start: start as u64,
            end: end.min(start + LWC_ERASE_MAX as usize) as u64,
        };
        // SAFETY: the kernel writes zeros into the region's own bytes, which nobody has
        // a reference to.
        let done = unsafe {
            lwc_sys::lwControl(LWC_SELF, LWC_CONTROL_ERASE as i32, &raw const part as u64)
        };
        if done != 0 {
            erase_pages(start, part.end as usize);
        }
    }
    Ok(())
}

/// All of it is looked at: mincore(2) tells of what is mapped here or in memory, and a
/// page may be neither and have bytes. Most pages are zeros, and stay as they are: to
/// read one takes half as long as to write it, and makes nothing dirty.
#[cold]
fn erase_pages(start: usize, end: usize) {
    let page = crate::page::page_size();
    for at in (start..end).step_by(page) {
        let at = at as *mut u8;
        // SAFETY: a page of a region's own bytes, which nobody has a reference to.
        unsafe {
            if !volatile::is_zero(at, page) {
                volatile::clear(at, page);
            }
        }
    }
}

/// Nothing to do: a right to write is gained by lwOverlay alone, and that is
/// never more than the source's own.
pub(crate) fn region_seal(_: usize, _: usize) -> Result<()> {
    Ok(())
}

/// Read-only, with read as the maximum (mprotect(2), PROT_MAX).
pub(crate) fn region_read_only(addr: usize, len: usize) -> Result<()> {
    /// `PROT_MAX(prot)` of sys/mman.h.
    const fn prot_max(prot: i32) -> i32 {
        prot << 16
    }
    let prot = libc::PROT_READ | prot_max(libc::PROT_READ);
    // SAFETY: narrows the protection of the region's own pages.
    if unsafe { libc::mprotect(addr as *mut libc::c_void, len, prot) } != 0 {
        return Err(Error::last("Region::make_read_only", "mprotect"));
    }
    Ok(())
}

/// Unmaps a region in the current context.
pub(crate) fn region_unmap(addr: usize, len: usize) {
    // SAFETY: the addresses belong to the region until this moment, when its
    // owner gives them up.
    unsafe { libc::munmap(addr as *mut libc::c_void, len) };
}
