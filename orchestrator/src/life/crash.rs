//! Where in its code a function crashed, for the log.
//!
//! The context says it itself, from the handler that notes the fault: the instruction and
//! the callers by their frames, as offsets in the function's library, at most [`MOST`], a
//! record of its log. The root reads nothing of a dead context's memory and follows no
//! pointer of its; it looks the numbers up in the library's table of symbols, as a build
//! reads that of any library. A function can lie, about its own code, as in each line of
//! its log.
//!
//! Considered: registers by ptrace(2), and the root (or the keeper) as who walks the
//! stack. Both would work on memory that a hostile function has laid out, in a process
//! that outlives it, to learn what is not more true. And .debug_line in the root: a
//! parser of megabytes that a function's author has written, in the process that holds
//! all others' contexts. Who wants the line asks addr2line(1) with what the log says.

use super::control::Control;
use super::syscalls::SIGPROCMASK;
use crate::printable::printable;
use nix::errno::Errno;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a record of the log has as its level that says where a crash was.
pub(super) const MARK: u8 = 9;

/// Frames of one crash at most: the instruction, and who called.
const MOST: usize = 16;

/// So far a stack is followed.
const DEEPEST: u64 = 8 << 20;

/// Where the library's code is in the current context: from the address of its first
/// byte, to the end of what can be executed.
static CODE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// The control page of the current context, which lives as long as it.
static CONTROL: AtomicPtr<Control> = AtomicPtr::new(std::ptr::null_mut());

/// In a function's context: from now on it is told where it crashes. The address is one
/// in the function's library.
pub(super) fn catch(control: &Control, inside: *const libc::c_void) {
    let mut code = Code {
        inside: inside as u64,
        found: None,
    };
    // SAFETY: the callback gets the place that is passed, and what the loader says of
    // each object, for the time of the call.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut code).cast()) };
    let Some((from, to)) = code.found else { return };
    CODE[0].store(from, Ordering::Relaxed);
    CODE[1].store(to, Ordering::Relaxed);
    CONTROL.store(std::ptr::from_ref(control).cast_mut(), Ordering::Relaxed);
    lwc::on_crash(note);
}

struct Code {
    inside: u64,
    found: Option<(u64, u64)>,
}

unsafe extern "C" fn look(
    object: *mut libc::dl_phdr_info,
    _: libc::size_t,
    code: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader's own account; the last is what `catch` passes.
    let (object, code) = unsafe { (&*object, &mut *code.cast::<Code>()) };
    // SAFETY: so many segments are there.
    let segments =
        unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    let base = object.dlpi_addr;
    let loaded = segments.iter().filter(|s| s.p_type == libc::PT_LOAD);
    let mut run = loaded.filter(|s| s.p_flags & object::elf::PF_X != 0);
    let end = |s: &libc::Elf64_Phdr| base.saturating_add(s.p_vaddr).saturating_add(s.p_memsz);
    match run.find(|s| (base.saturating_add(s.p_vaddr)..end(s)).contains(&code.inside)) {
        Some(segment) => {
            code.found = Some((base, end(segment)));
            1
        }
        None => 0,
    }
}

/// In the context that has crashed, as a handler of the signal: what is not readable, or
/// no frame, ends the list. Whatever this does wrong is the end of a context at its end.
fn note(crash: &lwc::Crash) {
    // SAFETY: null, or what `catch` has put there, which outlives the context.
    let Some(control) = (unsafe { CONTROL.load(Ordering::Relaxed).as_ref() }) else {
        return;
    };
    let [from, to] = [&CODE[0], &CODE[1]].map(|c| c.load(Ordering::Relaxed));
    let mut line = Line::default();
    let inside = (from..to).contains(&crash.instruction);
    line.outside = !(inside && line.put(crash.instruction - from));
    // What has no frame yet, or none at all as most of the C library, has who called it
    // on top of the stack. A call that was made is before where it returns to.
    let caller = read(crash.stack).filter(|a| (from..to).contains(a) && is_behind_a_call(*a));
    if let Some(address) = caller {
        line.put(address - 1 - from);
    }
    let mut frame = crash.frame;
    let mut least = crash.stack;
    for _ in 0..MOST * 4 {
        // Frames lie above each other, so the list has an end.
        if frame < least || frame - crash.stack > DEEPEST || !frame.is_multiple_of(8) {
            break;
        }
        let (Some(next), Some(address)) = (read(frame), read(frame + 8)) else {
            break;
        };
        if (from..to).contains(&address) && !line.put(address.wrapping_sub(1) - from) {
            break;
        }
        (least, frame) = (frame + 16, next);
    }
    if line.len == 0 {
        // As in abort(3), which has no frames: what lies on the stack and could have been
        // put there by a call is the best that is known.
        let words = (0..SCANNED).map_while(|n| read(crash.stack.wrapping_add(8 * n)));
        let mut calls =
            words.filter(|address| (from..to).contains(address) && is_behind_a_call(*address));
        calls.next().map(|address| line.put(address - 1 - from));
    }
    control.put_log(MARK, line.bytes());
}

/// So many words of a stack are looked at where there are no frames.
const SCANNED: u64 = 256;

/// Whether the instruction before this one can be a call.
#[cfg(target_arch = "x86_64")]
fn is_behind_a_call(address: u64) -> bool {
    let Some(before) = read(address - 8) else {
        return false;
    };
    let before = before.to_le_bytes();
    // To a place that it names, or by a register or a word of memory: in two bytes, three,
    // four, six or seven.
    let by_word = |at: usize| before[at] == 0xff && before[at + 1] >> 3 & 7 == 2;
    before[3] == 0xe8 || [6, 5, 4, 2, 1].into_iter().any(by_word)
}

#[cfg(not(target_arch = "x86_64"))]
fn is_behind_a_call(_: u64) -> bool {
    true
}

/// Numbers in hexadecimal, in room of its own: nothing is allocated here.
struct Line {
    text: [u8; MOST * 17 + 1],
    len: usize,
    /// The crash was in another library.
    outside: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            text: [b' '; MOST * 17 + 1],
            len: 0,
            outside: false,
        }
    }
}

impl Line {
    /// One more, unless it was the last. Whether there was room.
    fn put(&mut self, number: u64) -> bool {
        if self.len + 17 > self.text.len() - 1 {
            return false;
        }
        for digit in (0..16).rev() {
            let value = (number >> (digit * 4)) as usize & 15;
            self.text[1 + self.len] = b"0123456789abcdef"[value];
            self.len += 1;
        }
        self.text[1 + self.len] = b' ';
        self.len += 1;
        true
    }

    fn bytes(&mut self) -> &[u8] {
        self.text[0] = if self.outside { b'o' } else { b'i' };
        &self.text[..=self.len]
    }
}

/// A word of this context's memory, if there is one: the kernel is asked, as a load could
/// fault. It reads a set of signals from there and then refuses what is to be done with it.
fn read(at: u64) -> Option<u64> {
    const NOTHING: libc::c_int = 99;
    // SAFETY: the kernel reads eight bytes or says EFAULT; nothing is changed, as there
    // is no such thing to do.
    unsafe {
        let nothing = std::ptr::null::<u64>();
        let done = libc::syscall(SIGPROCMASK, NOTHING, at, nothing, 8usize);
        // No address is no set, and no error. A page that is there now stays: this is the
        // one thread.
        (done == -1 && Errno::last() == Errno::EINVAL).then(|| (at as *const u64).read_unaligned())
    }
}

/// Larger libraries are not looked into.
const LARGEST: u64 = 32 << 20;

/// So many names are looked at.
const NAMES: usize = 200_000;

/// Names are looked up once in so long for each function: one that crashes all the time
/// takes no more of its worker's than that.
const EACH: Duration = Duration::from_secs(1);

/// Bytes of a name that are shown.
const LONGEST: usize = 160;

/// In the root: a function's library, and when it was looked into.
#[derive(Debug)]
pub(super) struct Symbols {
    library: PathBuf,
    looked: Cell<Option<Instant>>,
}

impl Symbols {
    pub(super) fn of(library: &Path) -> Self {
        Self {
            library: library.to_owned(),
            looked: Cell::new(None),
        }
    }

    /// What a record says, in words, which are printable.
    pub(super) fn told(&self, record: &str) -> String {
        let looks = self.looked.get().is_none_or(|at| at.elapsed() > EACH);
        if looks {
            self.looked.set(Some(Instant::now()));
        }
        printable(told(record, &self.library, looks))
    }
}

fn told(record: &str, library: &Path, looks: bool) -> String {
    let offsets = record.get(1..).unwrap_or("").split_ascii_whitespace();
    let offsets = offsets.filter_map(|word| u64::from_str_radix(word, 16).ok());
    let offsets: Vec<u64> = offsets.take(MOST).collect();
    let Some(first) = offsets.first() else {
        return "crashed outside of its own code".into();
    };
    let names = match looks {
        true => names(library, &offsets),
        false => vec![None; offsets.len()],
    };
    let shown = |n: usize| match &names[n] {
        Some((name, into)) => format!("{name}+{into:#x} ({:#x})", offsets[n]),
        None => format!("({:#x})", offsets[n]),
    };
    let mut text = match record.starts_with('i') {
        true => format!("crashed in {}", shown(0)),
        false => format!("crashed in what was called by {}", shown(0)),
    };
    for n in 1..offsets.len() {
        text += &format!(", called by {}", shown(n));
    }
    text + &format!("; lines by: addr2line -e {} {first:#x}", library.display())
}

/// For each offset the function around it, and how far into it.
fn names(library: &Path, offsets: &[u64]) -> Vec<Option<(String, u64)>> {
    use object::{Object, ObjectSymbol, SymbolKind};
    let mut found = vec![None; offsets.len()];
    let small = std::fs::metadata(library).is_ok_and(|m| m.len() <= LARGEST && m.is_file());
    let bytes = match small.then(|| std::fs::read(library)) {
        Some(Ok(bytes)) => bytes,
        _ => return found,
    };
    let Ok(file) = object::File::parse(&*bytes) else {
        return found;
    };
    let all = file.symbols().chain(file.dynamic_symbols());
    for symbol in all.take(NAMES) {
        if symbol.kind() != SymbolKind::Text || symbol.is_undefined() {
            continue;
        }
        let (start, size) = (symbol.address(), symbol.size());
        for (offset, found) in offsets.iter().zip(&mut found) {
            if let Some(into) = offset.checked_sub(start)
                && into < size
                && found.is_none()
                && let Ok(name) = symbol.name_bytes()
            {
                let name = String::from_utf8_lossy(&name[..name.len().min(LONGEST)]);
                *found = Some((name.into_owned(), into));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function can write any record there, and is the author of its library.
    #[test]
    fn records_and_libraries_can_be_anything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.so");
        let records = [
            "",
            "i",
            "i zz -1 ffffffffffffffffffffffff",
            "i ffffffffffffffff 0 0",
            "o 10",
            "\u{e9}\u{e9} 10",
            &format!("i {}", "1 ".repeat(9999)),
        ];
        let own = std::fs::read("/proc/self/exe").unwrap_or_default();
        let head = &own[..own.len().min(4096)];
        let mut lying = own[..own.len().min(1 << 20)].to_vec();
        for at in (16..lying.len()).step_by(3) {
            lying[at] = 0xff;
        }
        for bytes in [&b""[..], b"\x7fELF", head, &lying] {
            std::fs::write(&path, bytes).unwrap();
            for record in records {
                let text = told(record, &path, true);
                assert!(text.starts_with("crashed "), "{text}");
                assert!(text.matches("called by").count() <= MOST, "{text}");
            }
        }
        // No file, and no regular one.
        assert_eq!(names(Path::new("/nowhere"), &[1]), [None]);
        assert_eq!(names(Path::new("/dev/zero"), &[1]), [None]);
    }

    #[test]
    fn names_are_looked_up_once_in_a_while() {
        let symbols = Symbols::of(Path::new("/proc/self/exe"));
        assert!(symbols.looked.get().is_none());
        symbols.told("i 10");
        let first = symbols.looked.get();
        assert!(first.is_some());
        symbols.told("i 10");
        // However slow this machine is: a later look would be a later time.
        let second = symbols.looked.get();
        assert!(second == first || second.unwrap() - first.unwrap() > EACH);
    }

    #[test]
    fn a_word_that_is_not_there_is_none() {
        let word = 0x1234_5678_9abc_def0u64;
        assert_eq!(read(&raw const word as u64), Some(word));
        for nowhere in [0, 8, 1 << 47, u64::MAX, u64::MAX - 7] {
            assert_eq!(read(nowhere), None);
        }
    }
}
