//! lwOverlay: the owner lends, the current context maps (contract 5).
//!
//! The owner checks its rights, turns what shall be shared into memory files
//! in place, copies what shall be copied into a memory file made for it, and
//! sends descriptors with a list of parts. The asker checks that every part
//! lies within what it asked for (a hostile owner lends no stack), maps all
//! of it aside, and only then moves it into place.

use super::fds;
use super::memory::{self, Area, File, Object};
use super::rights::Rights;
use super::runtime::Runtime;
use super::serve::{Reply, ask, encode_specs, op};
use crate::error::{Error, Result};
use crate::spec::{Access, Spec, What};
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::rc::Rc;

const CALL: &str = "lwOverlay";

/// Parts in one answer at most (they must fit a pair page).
const MAX_PARTS: usize = 400;

/// What one part brings.
mod part {
    /// A memory file, shared. start, length, protection, descriptor, offset.
    pub(super) const SHARED: u64 = 1;
    /// A memory file, to map privately.
    pub(super) const COPIED: u64 = 2;
    /// Memory without access.
    pub(super) const BARE: u64 = 3;
    /// A descriptor. number, FD_* flags, -, descriptor.
    pub(super) const FILE: u64 = 4;
    /// Credentials. effective user, effective group.
    pub(super) const CREDENTIALS: u64 = 5;
}

type Part = [u64; 6];

/// The owner's side: what a request may have, or why not.
pub(super) fn lend(rt: &mut Runtime, index: usize, specs: &[Spec]) -> Result<Reply> {
    let no = |errno, what: String| Err(Error::new(CALL, errno, what));
    crate::spec::validate(CALL, specs, crate::spec::For::Overlay)?;
    let granted = match rt.channel(index) {
        Some(c) => c.granted.clone(),
        None => return no(Errno::EBADF, "no such channel".into()),
    };
    for (i, spec) in specs.iter().enumerate() {
        if !granted.cover(spec) || !rt.cap.cover(spec) {
            return no(
                Errno::EACCES,
                format!("specifier {i} is not within the descriptor's rights"),
            );
        }
    }
    // Look at everything before anything is changed.
    let mut plans: Vec<(usize, Vec<Area>)> = Vec::new();
    for (i, spec) in specs.iter().enumerate() {
        match spec.what {
            What::Memory(start, end) => {
                let areas = memory::areas(start, end)?;
                if !memory::covered(&areas, start, end) {
                    return no(
                        Errno::EFAULT,
                        format!(
                            "specifier {i}: the source has nothing in all of {start:#x}..{end:#x}"
                        ),
                    );
                }
                plans.push((i, areas));
            }
            What::Files(None) if spec.access == Access::Share => {
                return no(
                    Errno::ENOTSUP,
                    "the process backend can share a whole descriptor table in lwCreate alone; overlay a range, or copy".into(),
                );
            }
            _ => plans.push((i, Vec::new())),
        }
    }
    let mut parts: Vec<Part> = Vec::new();
    let mut reply = Reply::default();
    // Files made for the copies live until they are sent.
    let mut keep: Vec<Rc<File>> = Vec::new();
    for (i, areas) in plans {
        let spec = &specs[i];
        match spec.what {
            What::Memory(start, end) if spec.access == Access::Share => {
                memory::share_in_place(CALL, &mut rt.objects, start, end)?;
                whole_files(rt, &granted, start, end)?;
                lend_shared(rt, &areas, &mut parts, &mut keep)?;
            }
            What::Memory(..) => lend_copy(&areas, &mut parts, &mut keep)?,
            What::Files(range) => lend_files(rt, range, i, &mut parts, &mut reply.fds)?,
            What::Credentials => {
                // SAFETY: geteuid and getegid have no preconditions.
                let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
                parts.push([part::CREDENTIALS, user.into(), group.into(), 0, 0, 0]);
            }
        }
    }
    // Descriptors of files go first in the list, memory files after them.
    let files = reply.fds.len() as u64;
    for p in &mut parts {
        if p[0] == part::SHARED || p[0] == part::COPIED {
            p[4] += files;
        }
    }
    if parts.len() > MAX_PARTS || keep.len() + reply.fds.len() > fds::MAX_SENT {
        return no(
            Errno::E2BIG,
            "too many parts for one call; overlay smaller ranges".into(),
        );
    }
    for file in keep {
        // A copy of the number, so that the file itself may close or stay.
        // SAFETY: duplicates a descriptor of our own.
        let dup = unsafe { libc::fcntl(file.0, libc::F_DUPFD_CLOEXEC, 0) };
        reply.fds.push(dup);
    }
    for fd in &mut reply.fds[..files as usize] {
        // SAFETY: as above, for the user's descriptors.
        *fd = unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 0) };
    }
    reply.close = true;
    if reply.fds.contains(&-1) {
        reply.fds.iter().for_each(|&fd| fds::close(fd));
        return no(Errno::EMFILE, "the source has no descriptor left".into());
    }
    reply.bytes = parts
        .iter()
        .flatten()
        .flat_map(|w| w.to_ne_bytes())
        .collect();
    Ok(reply)
}

/// A memory file is lent whole or not at all: hostile code can map all of it.
fn whole_files(rt: &Runtime, granted: &Rights, start: u64, end: u64) -> Result<()> {
    for o in rt.objects.within(start, end) {
        let (first, last) = o.whole();
        if !granted.memory.contains(first, last) || !rt.cap.memory.contains(first, last) {
            return Err(Error::new(
                CALL,
                Errno::ENOTSUP,
                format!(
                    "{start:#x}..{end:#x} shares a memory file with {first:#x}..{last:#x}, not all of which is within the rights; the process backend cannot lend a part"
                ),
            ));
        }
    }
    Ok(())
}

fn lend_shared(
    rt: &Runtime,
    areas: &[Area],
    parts: &mut Vec<Part>,
    keep: &mut Vec<Rc<File>>,
) -> Result<()> {
    for area in areas {
        for o in rt.objects.within(area.start, area.end) {
            if area.prot & libc::PROT_WRITE == 0 && !o.sealed() {
                return Err(Error::new(
                    CALL,
                    Errno::EACCES,
                    "shared memory that its owner can only read, lent on, could be mapped writable; Region::seal it first",
                ));
            }
            let at = keep
                .iter()
                .position(|f| Rc::ptr_eq(f, &o.file))
                .unwrap_or_else(|| {
                    keep.push(Rc::clone(&o.file));
                    keep.len() - 1
                });
            parts.push([
                part::SHARED,
                o.start,
                o.end - o.start,
                area.prot as u64,
                at as u64,
                o.offset,
            ]);
        }
    }
    Ok(())
}

fn lend_copy(areas: &[Area], parts: &mut Vec<Part>, keep: &mut Vec<Rc<File>>) -> Result<()> {
    let readable = |a: &&Area| a.prot != libc::PROT_NONE;
    let total: u64 = areas.iter().filter(readable).map(|a| a.end - a.start).sum();
    let file = if total > 0 {
        Some(Rc::new(File(fds::sealed_memfd(
            c"lwc-copy",
            total as usize,
        )?)))
    } else {
        None
    };
    let at = keep.len() as u64;
    let mut offset = 0;
    for a in areas {
        let len = a.end - a.start;
        match &file {
            Some(f) if a.prot != libc::PROT_NONE => {
                memory::copy_into(CALL, *a, f.0, offset)?;
                parts.push([part::COPIED, a.start, len, a.prot as u64, at, offset]);
                offset += len;
            }
            _ => parts.push([part::BARE, a.start, len, 0, 0, 0]),
        }
    }
    keep.extend(file);
    Ok(())
}

fn lend_files(
    rt: &Runtime,
    range: Option<(i32, i32)>,
    i: usize,
    parts: &mut Vec<Part>,
    send: &mut Vec<RawFd>,
) -> Result<()> {
    let (from, to) = range.unwrap_or((0, i32::MAX));
    let own = rt.own_descriptors();
    let mut found = false;
    for fd in open_descriptors(from, to) {
        if own.binary_search(&fd).is_ok() {
            continue;
        }
        // SAFETY: reads the flags of a descriptor.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        if flags < 0 {
            continue;
        }
        found = true;
        parts.push([part::FILE, fd as u64, flags as u64, 0, send.len() as u64, 0]);
        send.push(fd);
    }
    if !found {
        return Err(Error::new(
            CALL,
            Errno::EFAULT,
            format!("specifier {i}: the source has no descriptor in {from}..={to}"),
        ));
    }
    Ok(())
}

/// The open descriptors in a range, in order.
fn open_descriptors(from: i32, to: i32) -> Vec<RawFd> {
    let Ok(dir) = std::fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let mut all: Vec<RawFd> = dir
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter(|fd| (from..=to).contains(fd))
        .collect();
    all.sort_unstable();
    // The directory's own descriptor is closed by now.
    // SAFETY: asks only whether the number is open.
    all.retain(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0);
    all
}

/// Memory that is mapped aside and waits to be moved into place; unmapped when
/// it is not.
struct Aside {
    addr: *mut libc::c_void,
    len: usize,
    to: u64,
    moved: bool,
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.moved {
            // SAFETY: a mapping of our own that was not moved away.
            unsafe { libc::munmap(self.addr, self.len) };
        }
    }
}

/// The current context's side.
pub(super) fn borrow(rt: &mut Runtime, index: usize, specs: &[Spec]) -> Result<()> {
    let answer = ask(rt, CALL, index, &[op::OVERLAY], &encode_specs(specs), &[])?;
    let files: Vec<File> = answer.fds.into_iter().map(File).collect();
    let bad = |what: &str| {
        Error::new(
            CALL,
            Errno::EPROTO,
            format!("the source answered with {what}; it does not keep to the rules"),
        )
    };
    let parts: Vec<Part> = answer
        .bytes
        .chunks_exact(size_of::<Part>())
        .map(|chunk| {
            std::array::from_fn(|i| {
                let mut w = [0; 8];
                w.copy_from_slice(&chunk[i * 8..i * 8 + 8]);
                u64::from_ne_bytes(w)
            })
        })
        .collect();
    let own = rt.own_descriptors();
    let page = crate::page_size() as u64;
    let file_of = |n: u64| {
        files
            .get(n as usize)
            .ok_or_else(|| bad("a missing descriptor"))
    };

    let mut asides: Vec<(Aside, Option<Object>)> = Vec::new();
    let mut numbers: Vec<(RawFd, RawFd, i32)> = Vec::new();
    for p in &parts {
        match p[0] {
            part::SHARED | part::COPIED | part::BARE => {
                let [what, start, len, prot, file, offset] = *p;
                let asked = specs.iter().any(|s| match s.what {
                    What::Memory(a, b) => {
                        let alike = (s.access == Access::Share) == (what == part::SHARED);
                        a <= start && start < b && len <= b - start && (alike || what == part::BARE)
                    }
                    _ => false,
                });
                if !asked
                    || len == 0
                    || !start.is_multiple_of(page)
                    || !len.is_multiple_of(page)
                    || !offset.is_multiple_of(page)
                {
                    return Err(bad("memory that was not asked for"));
                }
                let (fd, flags) = match what {
                    part::SHARED => (file_of(file)?.0, libc::MAP_SHARED),
                    part::COPIED => (file_of(file)?.0, libc::MAP_PRIVATE),
                    _ => (-1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS),
                };
                if fd >= 0 && !large_enough(fd, offset, len) {
                    return Err(bad("a file that is too short or may shrink"));
                }
                let prot = prot as i32 & (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
                // SAFETY: a new mapping at an address the kernel picks.
                let addr = unsafe {
                    libc::mmap(
                        std::ptr::null_mut(),
                        len as usize,
                        prot,
                        flags,
                        fd,
                        offset as libc::off_t,
                    )
                };
                if addr == libc::MAP_FAILED {
                    return Err(Error::last(CALL, format!("mapping {len} bytes")));
                }
                let aside = Aside {
                    addr,
                    len: len as usize,
                    to: start,
                    moved: false,
                };
                let mut object = None;
                if what == part::SHARED {
                    object = Some(Object {
                        start,
                        end: start + len,
                        file: Rc::new(File(duplicate(fd)?)),
                        offset,
                        region: false,
                    });
                }
                asides.push((aside, object));
            }
            part::FILE => {
                let (number, flags) = (p[1] as RawFd, p[2] as i32);
                let asked = specs.iter().any(|s| match s.what {
                    What::Files(None) => true,
                    What::Files(Some((a, b))) => (a..=b).contains(&number),
                    _ => false,
                });
                if !asked || number < 0 {
                    return Err(bad("a descriptor that was not asked for"));
                }
                if own.binary_search(&number).is_ok() {
                    return Err(Error::new(
                        CALL,
                        Errno::EBUSY,
                        format!("descriptor {number} is in use by the backend here"),
                    ));
                }
                numbers.push((file_of(p[4])?.0, number, flags & libc::FD_CLOEXEC));
            }
            part::CREDENTIALS => {
                // SAFETY: geteuid and getegid have no preconditions.
                let same = unsafe {
                    p[1] == u64::from(libc::geteuid()) && p[2] == u64::from(libc::getegid())
                };
                if !same {
                    return Err(Error::new(
                        CALL,
                        Errno::ENOTSUP,
                        "the process backend cannot take over other credentials",
                    ));
                }
            }
            _ => return Err(bad("a part of no known kind")),
        }
    }

    for (aside, object) in &mut asides {
        // SAFETY: replaces what the caller asked to have replaced, with memory
        // mapped above; a mapping moves as a whole.
        let moved = unsafe {
            libc::mremap(
                aside.addr,
                aside.len,
                aside.len,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                aside.to as *mut libc::c_void,
            )
        };
        if moved == libc::MAP_FAILED {
            return Err(Error::last(CALL, format!("mapping at {:#x}", aside.to)));
        }
        aside.moved = true;
        rt.objects.forget(aside.to, aside.to + aside.len as u64);
        if let Some(o) = object.take() {
            rt.objects.add(o);
        }
    }
    for (fd, number, cloexec) in numbers {
        let flags = if cloexec != 0 { libc::O_CLOEXEC } else { 0 };
        // SAFETY: puts the descriptor where the caller asked for it.
        if unsafe { libc::dup3(fd, number, flags) } < 0 {
            return Err(Error::last(CALL, format!("descriptor {number}")));
        }
    }
    Ok(())
}

/// One more descriptor of our own for the same file.
fn duplicate(fd: RawFd) -> Result<RawFd> {
    // SAFETY: duplicates a descriptor of our own.
    let dup = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if dup < 0 {
        return Err(Error::last(CALL, "a descriptor for shared memory"));
    }
    fds::high(dup)
}

/// Whether a file holds the range and can never be cut short.
fn large_enough(fd: RawFd, offset: u64, len: u64) -> bool {
    // SAFETY: fstat fills the struct; reading seals changes nothing.
    unsafe {
        let mut st: libc::stat = std::mem::zeroed();
        libc::fstat(fd, &raw mut st) == 0
            && offset
                .checked_add(len)
                .is_some_and(|end| end <= st.st_size as u64)
            && libc::fcntl(fd, libc::F_GET_SEALS) & libc::F_SEAL_SHRINK != 0
    }
}

/// source = self: the current context gives up resources.
pub(super) fn drop_own(rt: &mut Runtime, specs: &[Spec]) -> Result<()> {
    for spec in specs {
        match spec.what {
            What::Memory(start, end) => {
                memory::unmap(&mut rt.objects, start, end).map_err(|e| e.of(CALL))?;
            }
            What::Files(range) => {
                let (from, to) = range.unwrap_or((0, i32::MAX));
                fds::close_except(from as u32, to as u32, &rt.own_descriptors());
            }
            What::Credentials => {}
        }
    }
    Ok(())
}
