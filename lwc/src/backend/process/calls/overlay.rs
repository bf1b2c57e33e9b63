//! lwOverlay, the current context's side: it checks that every part lies within
//! what it asked for (a hostile owner lends no stack), maps all of it aside, and
//! only then moves it into place.

use crate::backend::process::ask::ask_with;
use crate::backend::process::state::memory::{self, Object};
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::wire::fds;
use crate::backend::process::wire::message::Request;
use crate::backend::process::wire::parts::{Part, Piece, encode_specs};
use crate::error::{Error, Result};
use crate::page::page_size;
use crate::spec::{Access, Spec, What};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

const CALL: &str = "lwOverlay";

/// Memory that is mapped aside and waits to be moved into place; unmapped when
/// it is not.
struct Aside {
    addr: *mut libc::c_void,
    len: usize,
    to: u64,
    moved: bool,
}

impl Aside {
    /// A piece of a file, once it is seen to be what was asked for.
    fn map(p: &Piece, file: &OwnedFd, flags: i32, asked: bool) -> Result<Self> {
        if !p.offset.is_multiple_of(page_size() as u64) || !fds::holds(file, p.offset, p.len) {
            return Err(lie("a file that is too short or may shrink"));
        }
        let prot = p.prot & (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
        Self::at(
            p.start,
            p.len,
            prot,
            flags,
            file.as_raw_fd(),
            p.offset,
            asked,
        )
    }

    /// Memory without access.
    fn bare(start: u64, len: u64, asked: bool) -> Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        Self::at(start, len, libc::PROT_NONE, flags, -1, 0, asked)
    }

    fn at(
        to: u64,
        len: u64,
        prot: i32,
        flags: i32,
        fd: RawFd,
        offset: u64,
        asked: bool,
    ) -> Result<Self> {
        let page = page_size() as u64;
        if !asked || len == 0 || !to.is_multiple_of(page) || !len.is_multiple_of(page) {
            return Err(lie("memory that was not asked for"));
        }
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
        Ok(Self {
            addr,
            len: len as usize,
            to,
            moved: false,
        })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.moved {
            // SAFETY: a mapping of our own that was not moved away.
            unsafe { libc::munmap(self.addr, self.len) };
        }
    }
}

fn lie(what: &str) -> Error {
    Error::new(
        CALL,
        Errno::EPROTO,
        format!("the source answered with {what}; it does not keep to the rules"),
    )
}

/// Whether some specifier of that kind asks for all of this memory.
fn asked_for(specs: &[Spec], start: u64, len: u64, kind: impl Fn(&Spec) -> bool) -> bool {
    specs.iter().any(|s| match s.what {
        What::Memory(a, b) => a <= start && start < b && len <= b - start && kind(s),
        _ => false,
    })
}

/// The current context's side.
pub(crate) fn borrow(rt: &mut Runtime, index: usize, specs: &[Spec]) -> Result<()> {
    let answered = ask_with(rt, CALL, index, Request::Overlay, &encode_specs(specs), &[])?;
    let files = answered.fds;
    let parts = Part::decode(&answered.bytes).ok_or_else(|| lie("what are no parts"))?;
    let own = rt.own_descriptors();
    let file_of = |n: usize| files.get(n).ok_or_else(|| lie("a missing descriptor"));

    let mut asides: Vec<(Aside, Option<Object>)> = Vec::new();
    let mut numbers: Vec<(&OwnedFd, RawFd, i32)> = Vec::new();
    for part in &parts {
        match *part {
            Part::Shared(p) => {
                let file = file_of(p.file)?;
                let asked = asked_for(specs, p.start, p.len, |s| s.access == Access::Share);
                let aside = Aside::map(&p, file, libc::MAP_SHARED, asked)?;
                let object = Object {
                    start: p.start,
                    end: p.start + p.len,
                    file: Rc::new(fds::duplicate(file).map_err(|e| e.of(CALL))?),
                    offset: p.offset,
                    region: false,
                };
                asides.push((aside, Some(object)));
            }
            Part::Copied(p) => {
                let asked = asked_for(specs, p.start, p.len, |s| s.access != Access::Share);
                let aside = Aside::map(&p, file_of(p.file)?, libc::MAP_PRIVATE, asked)?;
                asides.push((aside, None));
            }
            Part::Bare { start, len } => {
                let asked = asked_for(specs, start, len, |_| true);
                asides.push((Aside::bare(start, len, asked)?, None));
            }
            Part::File {
                number,
                flags,
                file,
            } => {
                let asked = specs.iter().any(|s| match s.what {
                    What::Files(None) => true,
                    What::Files(Some((a, b))) => (a..=b).contains(&number),
                    _ => false,
                });
                if !asked || number < 0 {
                    return Err(lie("a descriptor that was not asked for"));
                }
                if own.binary_search(&number).is_ok() {
                    return Err(Error::new(
                        CALL,
                        Errno::EBUSY,
                        format!("descriptor {number} is in use by the backend here"),
                    ));
                }
                numbers.push((file_of(file)?, number, flags & libc::FD_CLOEXEC));
            }
            Part::Credentials { user, group } => {
                // SAFETY: geteuid and getegid have no preconditions.
                let same = unsafe { user == libc::geteuid() && group == libc::getegid() };
                if !same {
                    return Err(Error::new(
                        CALL,
                        Errno::ENOTSUP,
                        "the process backend cannot take over other credentials",
                    ));
                }
            }
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
        if unsafe { libc::dup3(fd.as_raw_fd(), number, flags) } < 0 {
            return Err(Error::last(CALL, format!("descriptor {number}")));
        }
    }
    Ok(())
}

/// source = self: the current context gives up resources.
pub(crate) fn drop_own(rt: &mut Runtime, specs: &[Spec]) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::process::state::liar::Liar;
    use crate::backend::process::wire::message::Answer;
    use proptest::prelude::*;

    /// Whatever a hostile source answers, nothing is mapped beyond what was
    /// asked for, and its own memory stays where it is.
    #[test]
    fn a_source_that_lies_changes_nothing_that_was_not_asked_for() {
        let page = page_size() as u64;
        // Three pages, of which the middle one is asked for.
        // SAFETY: a new mapping at an address the kernel picks.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                3 * page as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        } as u64;
        let around = |at: u64| {
            // SAFETY: pages of that mapping, which nobody else uses.
            unsafe { (at as *mut u64).write_volatile(at) };
            at
        };
        let outside = [around(start), around(start + 2 * page)];
        let middle = start + page;
        let specs = [Spec::new(What::Memory(middle, middle + page), Access::Copy)];
        let near = prop_oneof![
            4 => (0u64..4).prop_map(move |n| start + n * page),
            1 => any::<u64>(),
            2 => Just(page),
            1 => 0u64..8,
        ];
        let parts = proptest::collection::vec((1u64..6, proptest::array::uniform5(near)), 1..4);
        proptest!(
            ProptestConfig { cases: if cfg!(miri) { 1 } else { 512 }, failure_persistence: None, ..ProptestConfig::default() },
            |(parts in parts)| {
                let mut liar = Liar::new();
                let words = parts.iter().flat_map(|(k, rest)| std::iter::once(*k).chain(*rest));
                let bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
                liar.answers(&Answer::Done.encode(0), &bytes);
                let result = borrow(&mut liar.rt, liar.index, &specs);
                for at in outside {
                    // SAFETY: as above.
                    prop_assert_eq!(unsafe { (at as *const u64).read_volatile() }, at);
                }
                if result.is_ok() {
                    let within = |p: &Part| match p {
                        Part::Bare { start, len } => (*start, *len) == (middle, page),
                        Part::Credentials { .. } => true,
                        _ => false,
                    };
                    prop_assert!(Part::decode(&bytes).unwrap().iter().all(within));
                }
            }
        );
    }
}
