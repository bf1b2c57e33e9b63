//! Attempts to read, write and find, made from inside a context.
//!
//! A plain load or store at a forbidden address would end the context, so the
//! kernel makes the access on our behalf: sigprocmask(2) copies a signal set
//! from or to an address and says EFAULT where the context may not. It is
//! allowed in the sandbox, and what hostile code could reach by a load, it
//! reaches.

mod others;
mod pages;

use super::syscalls::{SIGNAL_SET, SIGPROCMASK};
use std::ops::Range;
use std::sync::Mutex;

/// What to attempt: the second word of a probe.
pub(crate) mod what {
    /// Addresses, length: read and write. Answer: [`super::READ`] and so on.
    pub(crate) const MEMORY: u64 = 1;
    /// Fingerprint, length: find a secret. Answer: [`super::READ`] if found.
    pub(crate) const SECRET: u64 = 2;
    /// Every descriptor number below the third word: answer is how many could
    /// be read or written.
    pub(crate) const DESCRIPTORS: u64 = 3;
    /// Addresses, length: overlay them from whomever it can name. Answer:
    /// [`super::READ`] if anybody lent them.
    pub(crate) const OVERLAY: u64 = 4;
    /// Mark, then 1 to mark shared pages inside the ranges that follow, 0 to
    /// mark all others but those that [`LEAVE`] has named: addresses and lengths.
    /// Answer: how many were marked.
    pub(crate) const MARK: u64 = 5;
    /// Take all marks back.
    pub(crate) const UNMARK: u64 = 6;
    /// Mark: answer is [`super::READ`] and so on if a page here has it.
    pub(crate) const SEEK: u64 = 7;
    /// Make every request of the backend to everybody: answer is how many were
    /// served.
    pub(crate) const REQUESTS: u64 = 8;
    /// Answer: how much is left of the environment.
    pub(crate) const ENVIRONMENT: u64 = 9;
    /// Answer: how many other processes could be sent a signal.
    pub(crate) const SIGNALS: u64 = 10;
    /// Answer: how many files could be opened.
    pub(crate) const FILES: u64 = 11;
    /// Callees by number, from the third word on, which the root is told by a
    /// switch as the host of a function does: answer is how many calls were made.
    pub(crate) const CALLS: u64 = 12;
    /// Addresses, length: the next mark leaves them out. (A switch has few words.)
    pub(crate) const LEAVE: u64 = 13;
    /// Fingerprint of a name: answer is [`super::READ`] if the environment has a
    /// variable of that name.
    pub(crate) const VARIABLE: u64 = 14;
    /// The number of a file that somebody is granted: answer is [`super::READ`] and so on
    /// for how it could be opened.
    pub(crate) const FILE: u64 = 15;
    /// Answer: [`super::READ`] and so on for a file of its own in /tmp.
    pub(crate) const SCRATCH: u64 = 16;
    /// The number of a place that somebody may connect to: answer is [`super::READ`] and so
    /// on, if this context can.
    pub(crate) const CONNECTION: u64 = 17;
    /// Answer: how much of sockets and connections that nobody is granted was there.
    pub(crate) const CONNECTIONS: u64 = 18;
    /// Answer: how many threads could be made, to be there at the same time.
    pub(crate) const THREADS: u64 = 19;
}

/// The attempt to read succeeded.
pub(crate) const READ: u64 = 1;
/// The attempt to write succeeded.
pub(crate) const WRITE: u64 = 2;

/// A part of the address space that can be read.
#[derive(Clone)]
struct Area {
    range: Range<usize>,
    /// Whether it is one that others may have, too.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))] // no such pages there
    shared: bool,
}

/// The address space when the snapshot was made; a sandboxed context cannot
/// look itself.
static AREAS: Mutex<Vec<Area>> = Mutex::new(Vec::new());

/// Notes what only a context outside of a sandbox can see, for later searches:
/// the readable parts of the address space, and where the strings of the
/// environment stood.
pub(crate) fn note_areas() {
    if let Ok(mut areas) = AREAS.lock() {
        *areas = areas_now();
    }
    others::note_strings();
}

/// sysctl kern.proc.vmmap: entries of their own size each, one after another.
#[cfg(target_os = "freebsd")]
fn areas_now() -> Vec<Area> {
    const READABLE: i32 = 1; // KVME_PROT_READ
    let name = [
        libc::CTL_KERN,
        libc::KERN_PROC,
        libc::KERN_PROC_VMMAP,
        std::process::id() as i32,
    ];
    // Room to spare: reading it may add an entry.
    let mut bytes = vec![0u8; 1 << 20];
    let mut len = bytes.len();
    // SAFETY: the kernel writes at most `len` bytes into the buffer.
    let rc = unsafe {
        libc::sysctl(
            name.as_ptr(),
            name.len() as u32,
            bytes.as_mut_ptr().cast(),
            &raw mut len,
            std::ptr::null(),
            0,
        )
    };
    let mut rest = if rc == 0 { &bytes[..len] } else { &[] };
    let mut found = Vec::new();
    while !rest.is_empty() {
        // SAFETY: the structure is integers and is filled from its start with
        // bytes that are there; an entry leaves out what its path does not use.
        let entry = unsafe {
            let mut entry: libc::kinfo_vmentry = std::mem::zeroed();
            let n = rest.len().min(size_of::<libc::kinfo_vmentry>());
            std::ptr::copy_nonoverlapping(rest.as_ptr(), (&raw mut entry).cast(), n);
            entry
        };
        if entry.kve_structsize <= 0 {
            break;
        }
        if entry.kve_protection & READABLE != 0 {
            found.push(Area {
                range: entry.kve_start as usize..entry.kve_end as usize,
                shared: false,
            });
        }
        let Some(next) = rest.get(entry.kve_structsize as usize..) else {
            break;
        };
        rest = next;
    }
    found
}

#[cfg(not(target_os = "freebsd"))]
fn areas_now() -> Vec<Area> {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut parts = line.split_ascii_whitespace();
            let (start, end) = parts.next()?.split_once('-')?;
            let modes = parts.next()?;
            let special = line.contains("[vvar") || line.contains("[vsyscall");
            let number = |text| usize::from_str_radix(text, 16).ok();
            Some(Area {
                range: number(start)?..number(end)?,
                shared: modes.ends_with('s'),
            })
            .filter(|_| modes.starts_with('r') && !special)
        })
        .collect()
}

/// Makes one probe; the answer goes back as a word.
pub(crate) fn run(args: &[u64]) -> u64 {
    let at = |i: usize| args.get(i).copied().unwrap_or(0);
    match at(1) {
        what::MEMORY => memory(at(2) as usize, at(3) as usize),
        what::SECRET => u64::from(find(at(2), at(3) as usize)) * READ,
        what::DESCRIPTORS => descriptors(at(2) as i32),
        what::OVERLAY => {
            let range = at(2) as usize..(at(2) + at(3)) as usize;
            names().fold(0, |found, from| found | overlay(from, range.clone()))
        }
        what::MARK => {
            let ranges: Vec<Range<usize>> = args
                .get(4..)
                .unwrap_or_default()
                .chunks_exact(2)
                .map(|r| r[0] as usize..(r[0] + r[1]) as usize)
                .collect();
            mark(at(2), at(3) != 0, &ranges)
        }
        what::LEAVE => {
            pages::leave(at(2) as usize..(at(2) + at(3)) as usize);
            0
        }
        what::UNMARK => {
            unmark();
            0
        }
        what::SEEK => seek(at(2)),
        what::REQUESTS => lwc::requests_served().map_or(u64::MAX, |all| all.len() as u64),
        what::ENVIRONMENT => environment(),
        what::VARIABLE => variable(at(2)),
        what::SIGNALS => others::signals(),
        what::FILES => others::files(),
        what::SCRATCH => super::files::attempt_scratch(),
        what::CONNECTIONS => super::files::attempt_others(),
        what::THREADS => others::threads(super::turns::are_taken()),
        _ => 0,
    }
}

/// See [`what::MARK`].
pub(crate) fn mark(tag: u64, inside: bool, ranges: &[Range<usize>]) -> u64 {
    pages::mark(tag, inside, ranges)
}

/// See [`what::UNMARK`].
pub(crate) fn unmark() {
    pages::unmark();
}

/// See [`what::SEEK`].
pub(crate) fn seek(tag: u64) -> u64 {
    pages::seek(tag)
}

/// See [`what::ENVIRONMENT`].
pub(crate) fn environment() -> u64 {
    others::environment()
}

/// See [`what::VARIABLE`].
pub(crate) fn variable(name: u64) -> u64 {
    let mut all = others::variables();
    u64::from(all.any(|v| {
        fingerprint(
            v.to_bytes()
                .split(|&b| b == b'=')
                .next()
                .unwrap_or_default(),
        ) == name
    })) * READ
}

/// READ or WRITE for a range, if either succeeds at the start of any page.
pub(crate) fn memory(start: usize, len: usize) -> u64 {
    (start..start + len)
        .step_by(lwc::page_size())
        .fold(0, |found, page| found | page_access(page))
}

fn page_access(page: usize) -> u64 {
    if !can_read(page) {
        // What cannot be read is not written either: pages of these regions
        // are readable wherever they are writable.
        return 0;
    }
    if can_write(page) {
        return READ | WRITE;
    }
    // Hostile code would ask for more before it gives up.
    // SAFETY: changes the protection of a page that this context has and that
    // nothing here refers to; it is put back below.
    let widened = unsafe {
        libc::mprotect(
            page as *mut libc::c_void,
            lwc::page_size(),
            libc::PROT_READ | libc::PROT_WRITE,
        ) == 0
    };
    let wrote = widened && can_write(page);
    if widened {
        // SAFETY: as above.
        unsafe { libc::mprotect(page as *mut libc::c_void, lwc::page_size(), libc::PROT_READ) };
    }
    READ | if wrote { WRITE } else { 0 }
}

/// sigprocmask with an impossible `how` reads the set, then says EINVAL.
fn can_read(addr: usize) -> bool {
    // SAFETY: the kernel reads a set at `addr` or says EFAULT; no signal
    // mask changes, for 99 is no way to change one.
    let rc = unsafe { libc::syscall(SIGPROCMASK, 99, addr, std::ptr::null::<u8>(), SIGNAL_SET) };
    rc == -1 && nix::errno::Errno::last() == nix::errno::Errno::EINVAL
}

/// sigprocmask writes the old set; the bytes are put back.
fn can_write(addr: usize) -> bool {
    let ptr = addr as *mut [u8; SIGNAL_SET];
    // SAFETY: `can_read` was true for this page, so the load is defined; the
    // kernel writes a set there or says EFAULT, and what it wrote is
    // undone. No reference to the memory exists.
    unsafe {
        let old = ptr.read_volatile();
        let rc = libc::syscall(
            SIGPROCMASK,
            libc::SIG_BLOCK,
            std::ptr::null::<u8>(),
            addr,
            SIGNAL_SET,
        );
        if rc == 0 {
            ptr.write_volatile(old);
        }
        rc == 0
    }
}

/// The multiplier of the rolling hash.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// A fingerprint of some bytes that does not hold them.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0u64, |h, &b| {
        h.wrapping_mul(BASE).wrapping_add(u64::from(b) + 1)
    })
}

/// Searches all that was readable when the snapshot was made, and still is,
/// for bytes with a fingerprint.
pub(crate) fn find(wanted: u64, len: usize) -> bool {
    if len == 0 {
        return false;
    }
    let areas = AREAS.lock().map(|a| a.clone()).unwrap_or_default();
    areas
        .into_iter()
        .any(|a| find_in(a.range.start, a.range.end, wanted, len))
}

fn find_in(start: usize, end: usize, wanted: u64, len: usize) -> bool {
    let page = lwc::page_size();
    let out_of_window = (1..len).fold(1u64, |p, _| p.wrapping_mul(BASE));
    let (mut hash, mut filled) = (0u64, 0usize);
    for p in (start..end).step_by(page) {
        if !can_read(p) {
            (hash, filled) = (0, 0);
            continue;
        }
        // Every byte of all memory comes by here: no calls but such as are
        // always inlined, which are what a build without optimisation spends
        // its time on.
        let mut addr = p;
        while addr < p + page {
            // SAFETY: the page is readable (asked just now, one thread), and so
            // is what was read before; bytes are loaded without a reference.
            unsafe {
                if filled == len {
                    let gone = *((addr - len) as *const u8) as u64 + 1;
                    hash = hash.wrapping_sub(gone.wrapping_mul(out_of_window));
                } else {
                    filled += 1;
                }
                let new = *(addr as *const u8) as u64 + 1;
                hash = hash.wrapping_mul(BASE).wrapping_add(new);
            }
            if filled == len && hash == wanted {
                return true;
            }
            addr += 1;
        }
    }
    false
}

/// Whether a number may be a descriptor's. Writing is trapped, which takes long for as
/// many as are tried; this is not.
#[cfg(target_os = "freebsd")]
fn may_be_open(fd: i32) -> bool {
    // SAFETY: a request without an argument.
    let done = unsafe { libc::ioctl(fd, libc::FIOCLEX) };
    done == 0 || lwc::Errno::last() != lwc::Errno::EBADF
}

#[cfg(not(target_os = "freebsd"))]
fn may_be_open(_: i32) -> bool {
    true
}

/// How many descriptors below `limit` answer to a read or a write. The names
/// of contexts, which are descriptors on the kernel backend, are not counted:
/// what they give is probed by overlays.
fn descriptors(limit: i32) -> u64 {
    let names = lwc::backend() == Ok(lwc::Backend::Kernel);
    let is_name = |fd| names && named(fd).info().is_ok();
    let mut byte = 0u8;
    let byte = (&raw mut byte).cast::<libc::c_void>();
    // By which it is lent what it is granted: to be read from, if anything is sent.
    let line = super::files::line();
    (0..limit)
        .filter(|&fd| may_be_open(fd))
        // SAFETY: transfers of no bytes, to and from a local.
        .filter(|&fd| unsafe {
            // What a function writes to these two goes to no descriptor (`output`).
            let caught = fd == 1 || fd == 2;
            Some(fd) != line && libc::read(fd, byte, 0) >= 0
                || !caught && libc::write(fd, byte, 0) >= 0
        })
        .filter(|&fd| !is_name(fd))
        .count() as u64
}

/// Numbers tried for contexts.
const NUMBERS: i32 = 65_536;

/// What a number names, as hostile code would guess it.
fn named(fd: i32) -> lwc::Handle {
    // SAFETY: an attempt at what this context may not have, in one that ends with
    // the audit; only questions and overlays are tried on it.
    unsafe { lwc::Handle::from_raw(fd) }
}

/// The contexts that this one can name, itself left out.
fn names() -> impl Iterator<Item = lwc::Handle> {
    // Where they are ordinary descriptors they have the lowest numbers.
    let kernel = lwc::backend() == Ok(lwc::Backend::Kernel);
    let own = lwc::info().ok().map(|i| i.id);
    (0..if kernel { 1024 } else { NUMBERS })
        .map(named)
        .filter(move |h| h.info().is_ok_and(|i| Some(i.id) != own))
}

/// READ if a context lends a range.
pub(crate) fn overlay(from: lwc::Handle, range: Range<usize>) -> u64 {
    // SAFETY: the range is one that this context was denied, so nothing here
    // uses memory there; a success is a finding and the context goes.
    let lent = unsafe { from.overlay(&[lwc::Spec::memory(range, lwc::Access::Share)]) };
    u64::from(lent.is_ok()) * READ
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_tell_what_is_there() {
        let region = lwc::Region::new(2 * lwc::page_size()).unwrap();
        let start = region.as_ptr() as usize;
        assert_eq!(memory(start, region.len()), READ | WRITE);
        region.write(100, b"needle-in-memory");
        let wanted = fingerprint(b"needle-in-memory");
        assert!(find_in(start, start + region.len(), wanted, 16));
        assert!(!find_in(start, start + region.len(), wanted, 15));
        region.write(lwc::page_size() - 8, b"across-two-pages");
        assert!(find_in(
            start,
            start + region.len(),
            fingerprint(b"across-two-pages"),
            16
        ));
        region.seal().unwrap();
        region.make_read_only().unwrap();
        assert_eq!(memory(start, region.len()), READ);
        let len = region.len();
        drop(region);
        assert_eq!(memory(start, len), 0);
    }
}
