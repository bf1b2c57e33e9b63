//! Calls of a function's libraries that its sandbox traps, without the trap.
//!
//! A call that names a file costs a signal: the filter raises SIGSYS, whose handler asks
//! for the answer ([`files`](super::files)). Where contexts are rolled back on Linux their
//! keeper traces them, and is told of each signal and of each return from a handler, which
//! takes longer than the answer. So what a function's libraries have bound to the C library's
//! open, connect, read and their kin is bound to functions of this file once they are
//! loaded, which ask for the same answer at once.
//!
//! It is a short cut and no wall: whoever does not take it (the C library's own fopen, a
//! system call made by hand) is trapped as ever. All of it runs in the function's own
//! context, which may undo it.

use super::sys as libc;
use lwc::Errno;
use object::{NativeEndian, elf};
use std::collections::BTreeSet;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, Ordering};

type Dynamic = elf::Dyn64<NativeEndian>;
type Relocation = elf::Rela64<NativeEndian>;
const E: NativeEndian = NativeEndian;

/// The answer to a call that the sandbox would trap, as the C library's functions return.
/// What succeeds leaves `errno` as it was, whatever was tried for that: who closes a file
/// because something has failed says later what that was.
fn answered(number: i64, args: [u64; 6]) -> Option<i64> {
    let before = Errno::last();
    match lwc::answer(number, args)? {
        Ok(value) => {
            set_errno(before);
            Some(value as i64)
        }
        Err(errno) => {
            set_errno(errno);
            Some(-1)
        }
    }
}

fn set_errno(errno: Errno) {
    // SAFETY: the thread's own.
    unsafe {
        #[cfg(target_os = "linux")]
        let place = libc::__errno_location();
        #[cfg(target_os = "freebsd")]
        let place = libc::__error();
        *place = errno.raw();
    }
}

/// Names of the C library's, what is in the place of each, and where its own is put.
struct Bound {
    names: &'static [&'static CStr],
    ours: *const c_void,
    theirs: &'static AtomicPtr<c_void>,
}

/// Functions that make one system call: who does not have it answered calls the C
/// library's own.
macro_rules! bound {
    ($($names:expr, ($($arg:ident: $type:ty),*) -> $result:ty = $number:ident, $words:expr;)*) => {
        [$({
            static THEIRS: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            extern "C" fn ours($($arg: $type),*) -> $result {
                let mut args = [0; 6];
                args[..$words.len()].copy_from_slice(&$words);
                if let Some(done) = answered(libc::$number, args) {
                    return done as $result;
                }
                // SAFETY: nothing calls this one whose place was not the other's before:
                // that is a function with these arguments, as code of this context calls
                // it.
                let theirs = unsafe {
                    std::mem::transmute::<*mut c_void, extern "C" fn($($type),*) -> $result>(
                        THEIRS.load(Ordering::Relaxed),
                    )
                };
                theirs($($arg),*)
            }
            Bound { names: &$names, ours: ours as *const c_void, theirs: &THEIRS }
        }),*]
    };
}

type Path = *const c_char;
const HERE: u64 = libc::AT_FDCWD as i64 as u64;
const NOFOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;

/// All of them. (The mode of open(2) need not have been passed; it is in the register
/// where it would be, and means nothing then.)
#[rustfmt::skip]
fn all() -> Vec<Bound> {
    let mut all = Vec::from(bound! {
        [c"open", c"open64"], (path: Path, flags: c_int, mode: u32) -> c_int
            = SYS_openat, [HERE, path as u64, flags as u64, mode.into()];
        [c"openat", c"openat64"], (at: c_int, path: Path, flags: c_int, mode: u32) -> c_int
            = SYS_openat, [at as u64, path as u64, flags as u64, mode.into()];
        [c"stat", c"stat64"], (path: Path, stat: *mut libc::stat) -> c_int
            = SYS_newfstatat, [HERE, path as u64, stat as u64];
        [c"lstat", c"lstat64"], (path: Path, stat: *mut libc::stat) -> c_int
            = SYS_newfstatat, [HERE, path as u64, stat as u64, NOFOLLOW];
        [c"fstatat", c"fstatat64"], (at: c_int, path: Path, stat: *mut libc::stat, flags: c_int) -> c_int
            = SYS_newfstatat, [at as u64, path as u64, stat as u64, flags as u64];
        [c"access"], (path: Path, mode: c_int) -> c_int
            = SYS_faccessat, [HERE, path as u64, mode as u64];
        [c"readlink"], (path: Path, to: *mut c_char, len: usize) -> isize
            = SYS_readlinkat, [HERE, path as u64, to as u64, len as u64];
        [c"connect"], (fd: c_int, to: *const c_void, len: u32) -> c_int
            = SYS_connect, [fd as u64, to as u64, len.into()];
        [c"mkdir"], (path: Path, mode: u32) -> c_int
            = SYS_mkdirat, [HERE, path as u64, mode.into()];
        [c"unlink"], (path: Path) -> c_int
            = SYS_unlinkat, [HERE, path as u64];
        [c"rename"], (from: Path, to: Path) -> c_int
            = SYS_renameat, [HERE, from as u64, HERE, to as u64];
        [c"read"], (fd: c_int, to: *mut c_void, len: usize) -> isize
            = SYS_read, [fd as u64, to as u64, len as u64];
        [c"write"], (fd: c_int, from: *const c_void, len: usize) -> isize
            = SYS_write, [fd as u64, from as u64, len as u64];
        [c"pread", c"pread64"], (fd: c_int, to: *mut c_void, len: usize, at: i64) -> isize
            = SYS_pread64, [fd as u64, to as u64, len as u64, at as u64];
        [c"pwrite", c"pwrite64"], (fd: c_int, from: *const c_void, len: usize, at: i64) -> isize
            = SYS_pwrite64, [fd as u64, from as u64, len as u64, at as u64];
        [c"lseek", c"lseek64"], (fd: c_int, by: i64, from: c_int) -> i64
            = SYS_lseek, [fd as u64, by as u64, from as u64];
        [c"fstat", c"fstat64"], (fd: c_int, stat: *mut libc::stat) -> c_int
            = SYS_fstat, [fd as u64, stat as u64];
        [c"close"], (fd: c_int) -> c_int
            = SYS_close, [fd as u64];
    });
    all.extend(of_system());
    all
}

#[cfg(target_os = "linux")]
#[rustfmt::skip]
fn of_system() -> [Bound; 1] {
    bound! {
        [c"statx"], (at: c_int, path: Path, flags: c_int, mask: u32, stat: *mut libc::statx) -> c_int
            = SYS_statx, [at as u64, path as u64, flags as u64, mask.into(), stat as u64];
    }
}

/// There the root answers for sockets, too.
#[cfg(target_os = "freebsd")]
#[rustfmt::skip]
fn of_system() -> [Bound; 6] {
    bound! {
        [c"socket"], (family: c_int, kind: c_int, protocol: c_int) -> c_int
            = SYS_socket, [family as u64, kind as u64, protocol as u64];
        [c"setsockopt"], (fd: c_int, level: c_int, name: c_int, from: *const c_void, len: u32) -> c_int
            = SYS_setsockopt, [fd as u64, level as u64, name as u64, from as u64, len.into()];
        [c"getsockopt"], (fd: c_int, level: c_int, name: c_int, to: *mut c_void, len: *mut u32) -> c_int
            = SYS_getsockopt, [fd as u64, level as u64, name as u64, to as u64, len as u64];
        [c"sendmsg"], (fd: c_int, message: *const c_void, flags: c_int) -> isize
            = SYS_sendmsg, [fd as u64, message as u64, flags as u64];
        [c"recvmsg"], (fd: c_int, message: *mut c_void, flags: c_int) -> isize
            = SYS_recvmsg, [fd as u64, message as u64, flags as u64];
        [c"writev"], (fd: c_int, pieces: *const c_void, count: c_int) -> isize
            = SYS_writev, [fd as u64, pieces as u64, count as u64];
    }
}

/// Kinds of relocations that are the address of a symbol.
#[cfg(target_arch = "x86_64")]
const KINDS: [u32; 3] = [
    elf::R_X86_64_JUMP_SLOT,
    elf::R_X86_64_GLOB_DAT,
    elf::R_X86_64_64,
];
#[cfg(target_arch = "aarch64")]
const KINDS: [u32; 3] = [
    elf::R_AARCH64_JUMP_SLOT,
    elf::R_AARCH64_GLOB_DAT,
    elf::R_AARCH64_ABS64,
];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const KINDS: [u32; 0] = [];

/// A library that is loaded.
struct Object {
    base: usize,
    headers: &'static [libc::Elf64_Phdr],
}

/// What is loaded now, by where it is.
pub(super) struct Loaded(BTreeSet<usize>);

impl Loaded {
    pub(super) fn note() -> Self {
        Self(objects().iter().map(|o| o.base).collect())
    }

    /// What has been loaded since then calls this file's functions.
    pub(super) fn bind_the_rest(&self) {
        let mut replaced: Vec<(usize, usize)> = Vec::new();
        for bound in all() {
            for name in bound.names {
                // SAFETY: a text; looked for in what the program itself is bound to.
                let theirs = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
                if !theirs.is_null() {
                    // (Where it has two names, one is as good as the other.)
                    bound.theirs.store(theirs, Ordering::Relaxed);
                    replaced.push((theirs as usize, bound.ours as usize));
                }
            }
        }
        let Some(memory) = Memory::note() else {
            return;
        };
        for object in objects().iter().filter(|o| !self.0.contains(&o.base)) {
            object.bind(&replaced, &memory);
        }
    }
}

/// All that is loaded. It stays until this context ends: nobody unloads anything.
fn objects() -> Vec<Object> {
    unsafe extern "C" fn each(info: *mut libc::dl_phdr_info, _: usize, all: *mut c_void) -> c_int {
        // SAFETY: the loader's, for the time of this call, but for the headers, which are
        // the library's; the vector is the caller's below.
        unsafe {
            let info = &*info;
            let headers = match info.dlpi_phdr.is_null() {
                true => &[][..],
                false => std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()),
            };
            let base = info.dlpi_addr as usize;
            (*all.cast::<Vec<Object>>()).push(Object { base, headers });
        }
        0
    }
    let mut all: Vec<Object> = Vec::new();
    // SAFETY: the function takes what is passed here.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut all).cast()) };
    all
}

impl Object {
    /// Addresses of parts of a kind.
    fn parts(&self, kind: u32) -> impl Iterator<Item = (Range<usize>, u32)> {
        let of = self.headers.iter().filter(move |h| h.p_type == kind);
        of.map(|h| {
            let start = self.base.wrapping_add(h.p_vaddr as usize);
            (start..start.saturating_add(h.p_memsz as usize), h.p_flags)
        })
    }

    /// Puts the second of each two addresses where the loader has put the first.
    fn bind(&self, replaced: &[(usize, usize)], memory: &Memory) {
        /// Where relocations are, and how many bytes of them.
        const TOLD: [u32; 4] = [
            elf::DT_JMPREL,
            elf::DT_PLTRELSZ,
            elf::DT_RELA,
            elf::DT_RELASZ,
        ];
        let Some((dynamic, _)) = self.parts(elf::PT_DYNAMIC).next() else {
            return;
        };
        let size = size_of::<Dynamic>();
        let entries = dynamic.clone().step_by(size).take(dynamic.len() / size);
        // SAFETY: plain integers.
        let entries = entries.map_while(|at| unsafe { memory.read::<Dynamic>(at) });
        let mut told = [0; TOLD.len()];
        for entry in entries.take_while(|e| e.d_tag.get(E) != u64::from(elf::DT_NULL)) {
            if let Some(i) = TOLD
                .iter()
                .position(|&t| u64::from(t) == entry.d_tag.get(E))
            {
                told[i] = entry.d_val.get(E) as usize;
            }
        }
        let [calls, calls_size, others, others_size] = told;
        let mut slots: Vec<(usize, usize)> = Vec::new();
        for (start, len) in [(calls, calls_size), (others, others_size)] {
            let size = size_of::<Relocation>();
            // glibc's loader has made an address of it, musl's has not.
            let start = if start < self.base {
                self.base + start
            } else {
                start
            };
            let all = (0..len / size).map(|i| start.wrapping_add(i * size));
            // SAFETY: plain integers. (Of 64-bit machines they have addends.)
            let all = all.map_while(|at| unsafe { memory.read::<Relocation>(at) });
            for relocation in all.filter(|r| KINDS.contains(&r.r_type(E, false))) {
                let slot = self.base.wrapping_add(relocation.r_offset.get(E) as usize);
                // SAFETY: an integer, where the loader has put an address.
                let is = unsafe { memory.read::<usize>(slot) };
                let ours = replaced.iter().find(|(theirs, _)| Some(*theirs) == is);
                slots.extend(ours.map(|(_, ours)| (slot, *ours)));
            }
        }
        let can_be_written = |slot: &usize| {
            self.parts(elf::PT_LOAD)
                .any(|(part, flags)| flags & elf::PF_W != 0 && part.contains(slot))
        };
        slots.retain(|(slot, _)| can_be_written(slot));
        slots.sort_unstable();
        let of_one = |a: &(usize, usize), b: &(usize, usize)| {
            memory.area(a.0).map(|a| a.at.start) == memory.area(b.0).map(|b| b.at.start)
        };
        for slots in slots.chunk_by(of_one) {
            if let Some(area) = memory.area(slots[0].0) {
                area.while_writable(|| {
                    for &(slot, ours) in slots {
                        // SAFETY: a word of the library's, in data of its own by its
                        // header and in this area, which can be written now; a function
                        // with the same arguments takes the other's place.
                        unsafe { (slot as *mut usize).write_unaligned(ours) };
                    }
                });
            }
        }
    }
}

/// Memory that lies together, and what may be done with it.
struct Area {
    at: Range<usize>,
    protection: c_int,
}

impl Area {
    /// Does something while this can be written. Afterwards it is protected as it was, by
    /// the loader (`PT_GNU_RELRO`) or by the library itself.
    fn while_writable(&self, work: impl FnOnce()) {
        let protect = |protection| {
            let (at, len) = (self.at.start as *mut c_void, self.at.len());
            // SAFETY: memory that holds addresses of a library's, which nobody else is in
            // the midst of: this context has no thread but this one.
            unsafe { libc::mprotect(at, len, protection) == 0 }
        };
        if self.protection & libc::PROT_WRITE != 0 {
            work();
        } else if protect(libc::PROT_READ | libc::PROT_WRITE) {
            work();
            protect(self.protection);
        }
    }
}

/// What is mapped, by the kernel's word: a library's constructors have run, and may have
/// protected, changed or taken away what its header tells of.
struct Memory(Vec<Area>);

impl Memory {
    /// `None`: it cannot be known.
    #[cfg(target_os = "freebsd")]
    fn note() -> Option<Self> {
        // SAFETY: getpid has no arguments.
        let pid = unsafe { libc::getpid() };
        let name = [libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_VMMAP, pid];
        let mut entries: Vec<u8> = Vec::new();
        // SAFETY: as much is written as is told that there is room for, which the first
        // call says, with more for what is mapped meanwhile.
        let len = unsafe {
            let ask = |to: *mut c_void, len: &mut usize| {
                let count = name.len() as u32;
                libc::sysctl(name.as_ptr(), count, to, len, std::ptr::null(), 0)
            };
            let mut len = 0;
            if ask(std::ptr::null_mut(), &mut len) != 0 {
                return None;
            }
            len += len / 2;
            entries.resize(len, 0);
            if ask(entries.as_mut_ptr().cast(), &mut len) != 0 {
                return None;
            }
            len
        };
        Self::of(entries.get(..len)?)
    }

    /// Of the system's records, each of which begins with its length.
    #[cfg(target_os = "freebsd")]
    fn of(mut entries: &[u8]) -> Option<Self> {
        use std::mem::offset_of;
        type Entry = libc::kinfo_vmentry;
        let mut areas = Vec::new();
        while let Some(first) = entries.first_chunk::<4>() {
            let len = usize::try_from(i32::from_ne_bytes(*first)).ok()?;
            if len == 0 {
                break;
            }
            let entry = entries.get(..len)?;
            let address = |at: usize| {
                let bytes = entry.get(at..)?.first_chunk::<8>()?;
                usize::try_from(u64::from_ne_bytes(*bytes)).ok()
            };
            let said = entry.get(offset_of!(Entry, kve_protection)..)?;
            let said = i32::from_ne_bytes(*said.first_chunk::<4>()?);
            let kinds = [
                (libc::KVME_PROT_READ, libc::PROT_READ),
                (libc::KVME_PROT_WRITE, libc::PROT_WRITE),
                (libc::KVME_PROT_EXEC, libc::PROT_EXEC),
            ];
            let kinds = kinds.iter().filter(|(kind, _)| said & kind != 0);
            areas.push(Area {
                at: address(offset_of!(Entry, kve_start))?..address(offset_of!(Entry, kve_end))?,
                protection: kinds.fold(0, |all, (_, kind)| all | kind),
            });
            entries = &entries[len..];
        }
        Some(Self(areas))
    }

    /// `None`: it cannot be known.
    #[cfg(target_os = "linux")]
    fn note() -> Option<Self> {
        Self::of(&std::fs::read_to_string("/proc/self/maps").ok()?)
    }

    #[cfg(target_os = "linux")]
    fn of(maps: &str) -> Option<Self> {
        let area = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let (start, end) = words.next()?.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            let kinds = [
                ('r', libc::PROT_READ),
                ('w', libc::PROT_WRITE),
                ('x', libc::PROT_EXEC),
            ];
            let said = words.next()?;
            let kinds = kinds.iter().filter(|(letter, _)| said.contains(*letter));
            Some(Area {
                at: number(start)?..number(end)?,
                protection: kinds.fold(0, |all, (_, kind)| all | kind),
            })
        };
        maps.lines().map(area).collect::<Option<_>>().map(Self)
    }

    /// Where an address lies.
    fn area(&self, address: usize) -> Option<&Area> {
        let after = self.0.partition_point(|a| a.at.end <= address);
        self.0.get(after).filter(|a| a.at.start <= address)
    }

    /// What is there, if that can be read and lies in one area.
    ///
    /// # Safety
    /// Any bytes are a value of the type.
    unsafe fn read<T>(&self, at: usize) -> Option<T> {
        let area = self.area(at)?;
        let whole = at.checked_add(size_of::<T>())? <= area.at.end;
        // SAFETY: it is mapped to be read; the caller's promise for the value.
        (whole && area.protection & libc::PROT_READ != 0)
            .then(|| unsafe { (at as *const T).read_unaligned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_where_nothing_can_be() {
        let word = 7usize;
        let at = &raw const word as usize;
        let memory = Memory::note().unwrap();
        // SAFETY: an integer.
        let read = |memory: &Memory, at| unsafe { memory.read::<usize>(at) };
        assert_eq!(read(&memory, at), Some(7));
        assert_eq!(read(&memory, 8), None);
        assert_eq!(read(&memory, usize::MAX - 3), None);
        let area = memory.area(at).unwrap();
        assert_eq!(area.protection, libc::PROT_READ | libc::PROT_WRITE);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nothing_is_read_across_an_end_or_where_nobody_is_to() {
        let word = 7usize;
        let at = &raw const word as usize;
        // SAFETY: an integer.
        let read = |memory: &Memory, at| unsafe { memory.read::<usize>(at) };
        let text = |letters| format!("{at:x}-{:x} {letters} 00000000 00:00 0\n", at + 8);
        let of = |letters| Memory::of(&text(letters)).unwrap();
        assert_eq!(read(&of("r--p"), at), Some(7));
        assert_eq!(read(&of("r--p"), at + 1), None);
        assert_eq!(read(&of("---p"), at), None);
        assert!(Memory::of("what is this").is_none());
    }
}
