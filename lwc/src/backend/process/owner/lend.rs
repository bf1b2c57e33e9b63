//! lwOverlay, the owner's side: it checks its rights, turns what shall be shared
//! into memory files in place, and copies what shall be copied into a memory
//! file made for it.

use crate::backend::process::state::memory::{self, Area};
use crate::backend::process::state::rights::Rights;
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::wire::fds;
use crate::backend::process::wire::pair::PAYLOAD;
use crate::backend::process::wire::parts::{PART_LEN, Part, Piece};
use crate::error::{Error, Result};
use crate::spec::{Access, Spec, What};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

const CALL: &str = "lwOverlay";

/// Parts in one answer at most.
const MAX_PARTS: usize = 400;

const _: () = assert!(MAX_PARTS * PART_LEN <= PAYLOAD);

/// What a request may have, or why not: parts, and the descriptors that they
/// tell of.
pub(crate) fn lend(
    rt: &mut Runtime,
    index: usize,
    specs: &[Spec],
) -> Result<(Vec<Part>, Vec<Rc<OwnedFd>>)> {
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
    // Descriptors of files, and memory files: they live until they are sent.
    let mut lent: Vec<Rc<OwnedFd>> = Vec::new();
    for (i, areas) in plans {
        let spec = &specs[i];
        match spec.what {
            What::Memory(start, end) if spec.access == Access::Share => {
                memory::share_in_place(CALL, &mut rt.objects, start, end)?;
                whole_files(rt, &granted, start, end)?;
                lend_shared(rt, &areas, &mut parts, &mut lent)?;
            }
            What::Memory(..) => lend_copy(&areas, &mut parts, &mut lent)?,
            What::Files(range) => lend_files(rt, range, i, &mut parts, &mut lent)?,
            What::Credentials => {
                // SAFETY: geteuid and getegid have no preconditions.
                let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
                parts.push(Part::Credentials { user, group });
            }
        }
    }
    if parts.len() > MAX_PARTS || lent.len() > fds::MAX_SENT {
        return no(
            Errno::E2BIG,
            "too many parts for one call; overlay smaller ranges".into(),
        );
    }
    Ok((parts, lent))
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
    keep: &mut Vec<Rc<OwnedFd>>,
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
            parts.push(Part::Shared(Piece {
                start: o.start,
                len: o.end - o.start,
                prot: area.prot,
                file: at,
                offset: o.offset,
            }));
        }
    }
    Ok(())
}

fn lend_copy(areas: &[Area], parts: &mut Vec<Part>, keep: &mut Vec<Rc<OwnedFd>>) -> Result<()> {
    let readable = |a: &&Area| a.prot != libc::PROT_NONE;
    let total: u64 = areas.iter().filter(readable).map(|a| a.end - a.start).sum();
    let file = if total > 0 {
        Some(Rc::new(fds::sealed_memfd(c"lwc-copy", total as usize)?))
    } else {
        None
    };
    let at = keep.len();
    let mut offset = 0;
    for a in areas {
        let len = a.end - a.start;
        match &file {
            Some(f) if a.prot != libc::PROT_NONE => {
                memory::copy_into(CALL, *a, f.as_raw_fd(), offset)?;
                parts.push(Part::Copied(Piece {
                    start: a.start,
                    len,
                    prot: a.prot,
                    file: at,
                    offset,
                }));
                offset += len;
            }
            _ => parts.push(Part::Bare {
                start: a.start,
                len,
            }),
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
    lent: &mut Vec<Rc<OwnedFd>>,
) -> Result<()> {
    let (from, to) = range.unwrap_or((0, i32::MAX));
    let own = rt.own_descriptors();
    let mut found = false;
    for number in open_descriptors(from, to) {
        if own.binary_search(&number).is_ok() {
            continue;
        }
        // SAFETY: reads the flags of a descriptor.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags < 0 {
            continue;
        }
        found = true;
        parts.push(Part::File {
            number,
            flags,
            file: lent.len(),
        });
        // SAFETY: open, as just seen, in this process of one thread.
        let user = unsafe { BorrowedFd::borrow_raw(number) };
        let copy = fds::duplicate(user).map_err(|e| e.of(CALL))?;
        lent.push(Rc::new(copy));
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
