//! Calls of a function's libraries that its sandbox traps, without the trap.
//!
//! A call that names a file costs a signal: the filter raises SIGSYS, whose handler asks
//! for the answer ([`files`](super::files)). Where contexts are rolled back their keeper
//! traces them, and is told of each signal and of each return from a handler, which takes
//! longer than the answer. So what a function's libraries have bound to the C library's
//! open, connect, read and their kin is bound to functions of this file once they are
//! loaded, which ask for the same answer at once.
//!
//! It is a short cut and no wall: whoever does not take it (the C library's own fopen, a
//! system call made by hand) is trapped as ever. All of it runs in the function's own
//! context, which may undo it.

use object::{NativeEndian, elf};
use std::collections::BTreeSet;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Range;

type Dynamic = elf::Dyn64<NativeEndian>;
type Relocation = elf::Rela64<NativeEndian>;
const E: NativeEndian = NativeEndian;

/// Makes a call, which the sandbox may answer: as the C library's functions return.
fn made(number: i64, args: [u64; 6]) -> i64 {
    match lwc::answer(number, args) {
        Some(Ok(value)) => value as i64,
        Some(Err(errno)) => {
            // SAFETY: the thread's own.
            unsafe { *libc::__errno_location() = errno.raw() };
            -1
        }
        None => {
            let [a, b, c, d, e, f] = args;
            // SAFETY: what code of this context has asked the C library for.
            unsafe { libc::syscall(number, a, b, c, d, e, f) }
        }
    }
}

/// Names of the C library's, and what is in the place of each.
type Bound = (&'static [&'static CStr], *const c_void);

/// Functions that make one system call.
macro_rules! bound {
    ($($names:expr, ($($arg:ident: $type:ty),*) -> $result:ty = $number:ident, $words:expr;)*) => {
        [$({
            extern "C" fn ours($($arg: $type),*) -> $result {
                let mut args = [0; 6];
                args[..$words.len()].copy_from_slice(&$words);
                made(libc::$number, args) as $result
            }
            (&$names, ours as *const c_void)
        }),*]
    };
}

type Path = *const c_char;
const HERE: u64 = libc::AT_FDCWD as i64 as u64;
const NOFOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;

/// All of them. (The mode of open(2) need not have been passed; it is in the register
/// where it would be, and means nothing then.)
#[rustfmt::skip]
fn all() -> [Bound; 19] {
    bound! {
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
        [c"statx"], (at: c_int, path: Path, flags: c_int, mask: u32, stat: *mut libc::statx) -> c_int
            = SYS_statx, [at as u64, path as u64, flags as u64, mask.into(), stat as u64];
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
        for (names, ours) in all() {
            for name in names {
                // SAFETY: a text; looked for in what the program itself is bound to.
                let theirs = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
                if !theirs.is_null() {
                    replaced.push((theirs as usize, ours as usize));
                }
            }
        }
        for object in objects().iter().filter(|o| !self.0.contains(&o.base)) {
            object.bind(&replaced);
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
            let start = self.base + h.p_vaddr as usize;
            (start..start + h.p_memsz as usize, h.p_flags)
        })
    }

    /// Puts the second of each two addresses where the loader has put the first.
    fn bind(&self, replaced: &[(usize, usize)]) {
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
        // SAFETY: as the loader has read it; plain integers.
        let entries = entries.map(|at| unsafe { (at as *const Dynamic).read_unaligned() });
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
            let all = (0..len / size).map(|i| start + i * size);
            // SAFETY: as above: where the library says that so many are. (Of 64-bit
            // machines they have addends.)
            let all = all.map(|at| unsafe { (at as *const Relocation).read_unaligned() });
            for relocation in all.filter(|r| KINDS.contains(&r.r_type(E, false))) {
                let slot = self.base + relocation.r_offset.get(E) as usize;
                // SAFETY: where the loader has put an address.
                let is = unsafe { (slot as *const usize).read_unaligned() };
                let ours = replaced.iter().find(|(theirs, _)| *theirs == is);
                slots.extend(ours.map(|(_, ours)| (slot, *ours)));
            }
        }
        if slots.is_empty() {
            return;
        }
        let protect = |prot| {
            for (part, _) in self.parts(elf::PT_GNU_RELRO) {
                let page = lwc::page_size();
                let (start, end) = (part.start / page * page, part.end / page * page);
                if start < end {
                    // SAFETY: pages of the library's that hold addresses, which nobody
                    // else is in the midst of: no thread of this context but this one.
                    unsafe { libc::mprotect(start as *mut c_void, end - start, prot) };
                }
            }
        };
        let writable = |slot: usize| {
            self.parts(elf::PT_LOAD)
                .any(|(part, flags)| flags & elf::PF_W != 0 && part.contains(&slot))
        };
        protect(libc::PROT_READ | libc::PROT_WRITE);
        for (slot, ours) in slots.into_iter().filter(|(slot, _)| writable(*slot)) {
            // SAFETY: a word of the library's that can be written, by its own header and,
            // where the loader has protected it, by the line above; a function with the
            // same arguments takes the other's place.
            unsafe { (slot as *mut usize).write_unaligned(ours) };
        }
        protect(libc::PROT_READ);
    }
}
