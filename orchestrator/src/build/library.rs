//! What a library is, read without loading it: its constructors are the function
//! author's code, and run in the function's own context alone.

use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};
use object::read::{ReadCache, ReadCacheRange, SectionIndex, StringTable};
use object::{Endianness, ReadRef};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A library is not larger.
pub(super) const MAX_BYTES: u64 = 1 << 30;

/// Places in the first bytes of a file: of its class, its order of bytes, its system.
const CLASS: usize = 4;
const DATA: usize = 5;
const SYSTEM: usize = 7;

/// A kind of machine, and the system on it, for which a library is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) processor: u16,
    pub(super) system: System,
}

/// An operating system, as far as its libraries say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    Linux,
    FreeBsd,
}

impl System {
    fn name(self) -> &'static str {
        ["Linux", "FreeBSD"][self as usize]
    }
}

impl Machine {
    /// This one.
    pub(super) const HERE: Self = Self {
        processor: match () {
            () if cfg!(target_arch = "x86_64") => elf::EM_X86_64,
            () if cfg!(target_arch = "aarch64") => elf::EM_AARCH64,
            () if cfg!(target_arch = "riscv64") => elf::EM_RISCV,
            () => elf::EM_NONE,
        },
        system: if cfg!(target_os = "freebsd") {
            System::FreeBsd
        } else {
            System::Linux
        },
    };

    /// As people and compilers call it, such as `x86_64-freebsd`.
    pub(super) fn name(self) -> String {
        let processor = processor(self.processor).to_ascii_lowercase();
        let processor = processor.replace("x86-64", "x86_64");
        let system = self.system.name().to_ascii_lowercase();
        format!("{processor}-{system}")
    }

    /// The one of a name: first a processor, somewhere a system; what a compiler's
    /// triple says beside does not count.
    pub(super) fn named(name: &str) -> Option<Self> {
        let mut words = name.split('-');
        let processor = match words.next()? {
            "x86_64" | "amd64" => elf::EM_X86_64,
            "aarch64" | "arm64" => elf::EM_AARCH64,
            "riscv64" | "riscv64gc" => elf::EM_RISCV,
            _ => return None,
        };
        let system = words.find_map(|w| match w {
            "linux" => Some(System::Linux),
            w if w.starts_with("freebsd") => Some(System::FreeBsd),
            _ => None,
        })?;
        Some(Self { processor, system })
    }
}

fn processor(machine: u16) -> String {
    match machine {
        elf::EM_X86_64 => "x86-64".into(),
        elf::EM_386 => "x86 (32 bits)".into(),
        elf::EM_AARCH64 => "AArch64".into(),
        elf::EM_ARM => "ARM (32 bits)".into(),
        elf::EM_RISCV => "RISC-V".into(),
        elf::EM_PPC64 => "PowerPC (64 bits)".into(),
        elf::EM_S390 => "S/390".into(),
        other => format!("number {other}"),
    }
}

/// A library's file, of which only what is looked at is read: a program or a C++ library
/// has megabytes, and its names some kilobytes. Nothing of it is mapped, which who cuts it
/// meanwhile would end this process by.
pub(super) struct Opened {
    file: ReadCache<File>,
    len: u64,
}

impl Opened {
    /// Wherever its path is from, no other kind of file is waited for.
    ///
    /// # Errors
    /// It cannot be opened, is no regular file, or is too large.
    pub(super) fn at(library: &Path) -> Result<Self, String> {
        let mut options = std::fs::OpenOptions::new();
        // A pipe without a writer is opened at once, and no terminal becomes ours.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = options.read(true).custom_flags(flags).open(library);
        let file = file.map_err(|e| e.to_string())?;
        let meta = file.metadata().map_err(|e| e.to_string())?;
        if !meta.is_file() {
            return Err("not a regular file".into());
        }
        if meta.len() > MAX_BYTES {
            return Err(format!("larger than {MAX_BYTES} bytes"));
        }
        Ok(Self {
            file: ReadCache::new(file),
            len: meta.len(),
        })
    }

    /// Its bytes, no more than it had when it was opened.
    pub(super) fn data(&self) -> ReadCacheRange<'_, File> {
        self.file.range(0, self.len)
    }
}

/// How much names may take that a library gives. They may overlap, so that a small
/// file has any number of long ones.
struct Room(usize);

impl Room {
    /// What a symbol takes beside its name: not more than its entry in the file.
    const ENTRY: usize = 16;
    /// Some names are another's end, or there several times, with versions.
    const SHARED: usize = 4;
    const MOST: usize = 256 << 20;

    fn of<'a>(library: impl ReadRef<'a>) -> Self {
        let len = library.len().unwrap_or(0);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Self(len.saturating_mul(Self::SHARED).min(Self::MOST))
    }

    fn take(&mut self, name: &[u8]) -> Result<(), String> {
        let left = self.0.checked_sub(name.len() + Self::ENTRY);
        self.0 = left.ok_or("its names are longer than all of it: build or copy it again")?;
        Ok(())
    }
}

/// What is of a symbol in a file.
type Symbol = elf::Sym64<Endianness>;
type Sections<'a, R> = SectionTable<'a, elf::FileHeader64<Endianness>, R>;

/// A library's dynamic symbols that are `meant`, each with its name.
pub(super) fn symbols<'a, R: ReadRef<'a>>(
    data: R,
    meant: impl Fn(&Symbol, Endianness) -> bool,
    mut each: impl FnMut(&Symbol, &'a str, &Sections<'a, R>, Endianness),
) -> Result<(), String> {
    let broken = |e: object::Error| e.to_string();
    let header = elf::FileHeader64::<Endianness>::parse(data).map_err(broken)?;
    let endian = header.endian().map_err(broken)?;
    let sections = header.sections(endian, data).map_err(broken)?;
    let mut all = sections.iter();
    let Some(dynamic) = all.find(|s| s.sh_type(endian) == elf::SHT_DYNSYM) else {
        return Ok(());
    };
    let found: &[Symbol] = dynamic.data_as_array(endian, data).map_err(broken)?;
    let strings = SectionIndex(dynamic.sh_link(endian) as usize);
    let strings = whole(&sections, strings, endian, data).map_err(broken)?;
    let mut room = Room::of(data);
    // The first is none.
    for symbol in found.iter().skip(1).filter(|s| meant(s, endian)) {
        let Ok(name) = symbol.name(endian, strings) else {
            continue;
        };
        room.take(name)?;
        if let Ok(name) = std::str::from_utf8(name) {
            each(symbol, name, &sections, endian);
        }
    }
    Ok(())
}

/// A table of names, read in one piece: each alone would be a reading of its own.
fn whole<'a, R: ReadRef<'a>>(
    sections: &Sections<'a, R>,
    table: SectionIndex,
    endian: Endianness,
    data: R,
) -> object::Result<StringTable<'a>> {
    let bytes = sections.section(table)?.data(endian, data)?;
    Ok(StringTable::new(bytes, 0, bytes.len() as u64))
}

/// What four bytes hold at which a symbol is.
fn number<'a, R: ReadRef<'a>>(
    symbol: &Symbol,
    sections: &Sections<'a, R>,
    endian: Endianness,
    data: R,
) -> Option<u32> {
    if symbol.st_size(endian) != 4 {
        return None;
    }
    let section = SectionIndex(symbol.st_shndx(endian).into());
    let section = sections.section(section).ok()?;
    let at = symbol
        .st_value(endian)
        .checked_sub(section.sh_addr(endian))?;
    let bytes = section.data(endian, data).ok()?;
    let bytes = bytes.get(usize::try_from(at).ok()?..)?.get(..4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// What a library defines for others.
pub(super) struct Exported {
    pub(super) names: BTreeSet<String>,
    /// Of constants of four bytes, which each handler's ABI is, the values.
    pub(super) numbers: BTreeMap<String, u32>,
}

/// Reads a library, which must be one for `machine`.
pub(super) fn exported(library: &Path, machine: Machine) -> Result<Exported, String> {
    exported_in(Opened::at(library)?.data(), machine)
}

/// The same of its bytes.
fn exported_in<'a, R: ReadRef<'a>>(data: R, machine: Machine) -> Result<Exported, String> {
    is_for(data, machine)?;
    let mut found = Exported {
        names: BTreeSet::new(),
        numbers: BTreeMap::new(),
    };
    symbols(
        data,
        Sym::is_definition,
        |symbol, name, sections, endian| {
            if let Some(n) = number(symbol, sections, endian, data) {
                found.numbers.insert(name.to_owned(), n);
            }
            found.names.insert(name.to_owned());
        },
    )
    .map_err(|e| match e.starts_with("its names") {
        true => e,
        false => format!("not a whole shared library: {e}; build or copy it again"),
    })?;
    Ok(found)
}

/// Refuses what cannot be loaded on a machine, whatever it defines.
fn is_for<'a, R: ReadRef<'a>>(data: R, machine: Machine) -> Result<(), String> {
    const HEAD: u64 = size_of::<elf::FileHeader64<Endianness>>() as u64;
    let head = data.len().unwrap_or(0).min(HEAD);
    let bytes = data
        .read_bytes_at(0, head)
        .map_err(|()| "it cannot be read")?;
    let want = format!(
        "{} on {}",
        machine.system.name(),
        processor(machine.processor)
    );
    if !bytes.starts_with(&elf::ELFMAG) {
        let what = match bytes {
            [] => "an empty file",
            [0xcf, 0xfa, 0xed, 0xfe, ..] => "a library of macOS",
            [b'M', b'Z', ..] => "a library of Windows",
            [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => {
                "an archive of objects: link it into a shared library, with -shared"
            }
            _ => "no ELF file",
        };
        return Err(format!("not a shared library of {want}: {what}"));
    }
    let other = |what: String| {
        Err(format!(
            "built for another machine: {what}; wanted is {want}: build it again for that"
        ))
    };
    match bytes.get(CLASS) {
        Some(&elf::ELFCLASS64) => {}
        Some(&elf::ELFCLASS32) => {
            let machine = bytes.get(18..20).map_or(0, |b| match bytes[DATA] {
                elf::ELFDATA2MSB => u16::from_be_bytes([b[0], b[1]]),
                _ => u16::from_le_bytes([b[0], b[1]]),
            });
            let what = processor(machine);
            let bits = if what.contains("bits") {
                ""
            } else {
                ", 32 bits"
            };
            return other(format!("{what}{bits}"));
        }
        _ => return other("of no known kind".into()),
    }
    let cut = |e| format!("not a whole shared library: {e}; build or copy it again");
    let header = elf::FileHeader64::<Endianness>::parse(data).map_err(cut)?;
    let endian = header.endian().map_err(cut)?;
    let found = header.e_machine(endian);
    if found != machine.processor {
        return other(processor(found));
    }
    if (endian == Endianness::Big) != cfg!(target_endian = "big") {
        return other("bytes in the other order".into());
    }
    let system = match bytes.get(SYSTEM) {
        Some(&elf::ELFOSABI_FREEBSD) => Some(System::FreeBsd),
        Some(&elf::ELFOSABI_GNU) => Some(System::Linux),
        // Nothing is said.
        Some(&elf::ELFOSABI_SYSV) => None,
        _ => return other("another system".into()),
    };
    // Those of many compilers do not say; their C library does.
    let system = system.or_else(|| {
        let linked = Linked::in_data(data).unwrap_or_default();
        linked.needs.iter().find_map(|name| match name.as_str() {
            "libc.so.6" => Some(System::Linux),
            "libc.so.7" => Some(System::FreeBsd),
            name => name.starts_with("libc.musl").then_some(System::Linux),
        })
    });
    if let Some(system) = system.filter(|s| *s != machine.system) {
        return other(system.name().into());
    }
    let segments = header.program_headers(endian, data).map_err(cut)?;
    let program = segments.iter().any(|s| s.p_type(endian) == elf::PT_INTERP);
    if header.e_type(endian) != elf::ET_DYN || program {
        let what = match header.e_type(endian) {
            elf::ET_REL => "an object",
            elf::ET_CORE => "the memory of a crashed program",
            _ => "a program",
        };
        return Err(format!(
            "not a shared library but {what}: link it with -shared"
        ));
    }
    Ok(())
}

/// What a library says to the loader.
#[derive(Debug, Default)]
pub(super) struct Linked {
    /// The names of the libraries that it needs itself.
    pub(super) needs: Vec<String>,
    /// The name by which others need it.
    pub(super) soname: Option<String>,
}

impl Linked {
    /// # Errors
    /// It cannot be read, or is broken.
    pub(super) fn of(library: &Path) -> Result<Self, String> {
        Self::in_data(Opened::at(library)?.data())
    }

    /// The same of its bytes.
    pub(super) fn in_data<'a, R: ReadRef<'a>>(data: R) -> Result<Self, String> {
        let broken = |e: object::Error| e.to_string();
        let header = elf::FileHeader64::<Endianness>::parse(data).map_err(broken)?;
        let endian = header.endian().map_err(broken)?;
        let sections = header.sections(endian, data).map_err(broken)?;
        let mut found = Self::default();
        let Some((all, strings)) = sections.dynamic(endian, data).map_err(broken)? else {
            return Ok(found);
        };
        let strings = whole(&sections, strings, endian, data).map_err(broken)?;
        let mut room = Room::of(data);
        for entry in all {
            let tag = entry.tag32(endian);
            if !matches!(tag, Some(elf::DT_NEEDED | elf::DT_SONAME)) {
                continue;
            }
            let name = entry.string(endian, strings).map_err(broken)?;
            room.take(name)?;
            let name = String::from_utf8_lossy(name).into_owned();
            match tag {
                Some(elf::DT_NEEDED) => found.needs.push(name),
                _ => found.soname = Some(name),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of an ELF file, little-endian.
    fn elf_file(class: u8, system: u8, kind: u16, machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..4].copy_from_slice(&elf::ELFMAG);
        (bytes[4], bytes[5], bytes[6], bytes[7]) = (class, elf::ELFDATA2LSB, 1, system);
        bytes[16..18].copy_from_slice(&kind.to_le_bytes());
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[20] = 1;
        bytes[52] = 64;
        bytes
    }

    #[test]
    fn what_is_no_library_of_this_machine_is_refused_by_name() {
        let here = Machine {
            processor: elf::EM_X86_64,
            system: System::Linux,
        };
        let lib =
            |class, system, kind, machine| is_for(&*elf_file(class, system, kind, machine), here);
        assert_eq!(lib(2, 0, elf::ET_DYN, elf::EM_X86_64), Ok(()));
        assert_eq!(lib(2, 3, elf::ET_DYN, elf::EM_X86_64), Ok(()));
        for (refused, says) in [
            (lib(1, 0, elf::ET_DYN, elf::EM_386), "x86 (32 bits)"),
            (lib(1, 0, elf::ET_DYN, elf::EM_ARM), "ARM (32 bits)"),
            (lib(1, 0, elf::ET_DYN, elf::EM_X86_64), "x86-64, 32 bits"),
            (lib(2, 0, elf::ET_DYN, elf::EM_AARCH64), "AArch64"),
            (lib(2, 9, elf::ET_DYN, elf::EM_X86_64), "FreeBSD"),
            (lib(2, 0, elf::ET_REL, elf::EM_X86_64), "an object"),
            (lib(2, 0, elf::ET_EXEC, elf::EM_X86_64), "a program"),
            (is_for(b"".as_slice(), here), "an empty file"),
            (is_for(b"#!/bin/sh\n".as_slice(), here), "no ELF file"),
            (is_for(b"!<arch>\n".as_slice(), here), "an archive"),
            (is_for(b"\x7fELF".as_slice(), here), "of no known kind"),
            (
                is_for(b"\x7fELF\x02\x01\x01".as_slice(), here),
                "not a whole",
            ),
            (is_for(b"\x7fELF\x01".as_slice(), here), "number 0, 32 bits"),
        ] {
            let refused = refused.expect_err(says);
            assert!(refused.contains(says), "{refused}");
        }
    }

    /// A library with these dynamic symbols, each by where its name begins in `strings`,
    /// and one that it needs.
    fn library(strings: &[u8], symbols: &[u32]) -> Vec<u8> {
        let mut bytes = elf_file(2, 0, elf::ET_DYN, elf::EM_X86_64);
        let mut dynsym = vec![0; 24];
        for name in symbols {
            dynsym.extend(name.to_le_bytes());
            dynsym.extend([0x11, 0, 3, 0]); // GLOBAL, OBJECT, in the third section
            dynsym.extend(64u64.to_le_bytes());
            dynsym.extend(4u64.to_le_bytes());
        }
        let dynamic: Vec<u8> = [(elf::DT_NEEDED, 1), (elf::DT_SONAME, 1), (elf::DT_NULL, 0)]
            .iter()
            .flat_map(|(tag, at)| [u64::from(*tag), *at])
            .flat_map(u64::to_le_bytes)
            .collect();
        let parts = [
            (elf::SHT_DYNSYM, dynsym, 2, 24),
            (elf::SHT_STRTAB, strings.to_vec(), 0, 0),
            (elf::SHT_PROGBITS, vec![3, 0, 0, 0], 0, 0),
            (elf::SHT_DYNAMIC, dynamic, 2, 16),
        ];
        let mut headers = vec![0; 64];
        for (kind, part, link, entry) in &parts {
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            let address = if *kind == elf::SHT_PROGBITS { 64u64 } else { 0 };
            headers.extend([0u32, *kind].map(u32::to_le_bytes).concat());
            let words = [2, address, bytes.len() as u64, part.len() as u64];
            headers.extend(words.map(u64::to_le_bytes).concat());
            headers.extend([*link, 1u32].map(u32::to_le_bytes).concat());
            headers.extend([8u64, *entry].map(u64::to_le_bytes).concat());
            bytes.extend(part);
        }
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let table = bytes.len() as u64;
        bytes[40..48].copy_from_slice(&table.to_le_bytes());
        bytes[58] = 64;
        (bytes[60], bytes[62]) = (5, 2);
        bytes.extend(headers);
        bytes
    }

    const X86: Machine = Machine {
        processor: elf::EM_X86_64,
        system: System::Linux,
    };

    #[test]
    fn names_that_lie_over_each_other_take_no_more_than_the_file() {
        let whole = library(b"\0f\0f_abi\0", &[1, 3]);
        let found = exported_in(&*whole, X86).unwrap();
        assert_eq!(found.names.len(), 2);
        assert_eq!(found.numbers.get("f_abi"), Some(&3));
        let linked = Linked::in_data(&*whole).unwrap();
        assert_eq!(
            (linked.needs, linked.soname),
            (vec!["f".into()], Some("f".into()))
        );
        // Ten thousand names of up to a hundred thousand bytes, in 340 kB: a gigabyte.
        for letter in [b'a', 0xff] {
            let mut strings = vec![letter; 100_000];
            (strings[0], strings[99_999]) = (0, 0);
            let names: Vec<u32> = (1..10_001).collect();
            let found = exported_in(&*library(&strings, &names), X86);
            let found = found.map(|e| e.names.len());
            assert!(
                found.as_ref().is_err_and(|e| e.contains("longer than all")),
                "{found:?}"
            );
        }
    }

    #[test]
    fn what_is_no_library_any_more_is_read_without_harm() {
        let whole = library(b"\0f\0f_abi\0libother.so\0", &[1, 3]);
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        let mut taken = 0;
        for _ in 0..50_000 {
            let mut bytes = whole.clone();
            for _ in 0..1 + next(3) {
                // A byte, or a word that is an offset, a size or a count: behind the end,
                // at it, or so large that a sum with it is small.
                let at = next(bytes.len() - 8);
                let words = [0, 1, bytes.len() as u64, u64::MAX, u64::MAX - 63, 1 << 63];
                match next(3) {
                    0 => bytes[at] = next(256) as u8,
                    1 => bytes[at & !7..][..8].copy_from_slice(&words[next(6)].to_le_bytes()),
                    _ => bytes[at & !3..][..4].copy_from_slice(&words[next(6)].to_le_bytes()[..4]),
                }
            }
            if next(8) == 0 {
                bytes.truncate(next(bytes.len()));
            }
            taken += usize::from(exported_in(&*bytes, X86).is_ok());
            let _ = Linked::in_data(&*bytes);
        }
        // Some are still read to their end, and many are not.
        assert!((1_000..49_000).contains(&taken), "{taken}");
    }

    #[test]
    fn machines_have_names() {
        for name in ["x86_64-freebsd", "aarch64-linux"] {
            assert_eq!(Machine::named(name).unwrap().name(), name);
        }
        assert_eq!(
            Machine::named("x86_64-unknown-freebsd15.0"),
            Machine::named("amd64-freebsd")
        );
        assert_eq!(Machine::named("x86_64-windows"), None);
        assert_eq!(Machine::named("freebsd"), None);
        assert_eq!(Machine::named(&Machine::HERE.name()), Some(Machine::HERE));
    }
}
