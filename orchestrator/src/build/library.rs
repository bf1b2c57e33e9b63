//! What a library is, read without loading it: its constructors are the function
//! author's code, and run in the function's own context alone.

use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A function's library is not larger.
const MAX_BYTES: u64 = 1 << 30;

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

/// What a library defines for others.
pub(super) struct Exported {
    pub(super) names: BTreeSet<String>,
    /// Of constants of four bytes, which each handler's ABI is, the values.
    pub(super) numbers: BTreeMap<String, u32>,
}

/// Reads a library, which must be one for `machine`.
pub(super) fn exported(library: &Path, machine: Machine) -> Result<Exported, String> {
    let meta = std::fs::metadata(library).map_err(|e| e.to_string())?;
    if meta.len() > MAX_BYTES {
        return Err(format!("larger than {MAX_BYTES} bytes"));
    }
    let bytes = std::fs::read(library).map_err(|e| e.to_string())?;
    is_for(&bytes, machine)?;
    let broken = |e| format!("not a whole shared library: {e}; build or copy it again");
    let file = object::File::parse(&*bytes).map_err(broken)?;
    let mut found = Exported {
        names: BTreeSet::new(),
        numbers: BTreeMap::new(),
    };
    for symbol in file.dynamic_symbols().filter(ObjectSymbol::is_definition) {
        let Ok(name) = symbol.name() else { continue };
        if symbol.size() == 4
            && let Some(index) = symbol.section_index()
            && let Ok(section) = file.section_by_index(index)
            && let Ok(Some(bytes)) = section.data_range(symbol.address(), 4)
            && let Ok(bytes) = bytes.try_into()
        {
            found
                .numbers
                .insert(name.to_owned(), u32::from_ne_bytes(bytes));
        }
        found.names.insert(name.to_owned());
    }
    Ok(found)
}

/// Refuses what cannot be loaded on a machine, whatever it defines.
fn is_for(bytes: &[u8], machine: Machine) -> Result<(), String> {
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
    let header = elf::FileHeader64::<Endianness>::parse(bytes).map_err(cut)?;
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
        let needs = needs_in(bytes).unwrap_or_default();
        needs.iter().find_map(|name| match name.as_str() {
            "libc.so.6" => Some(System::Linux),
            "libc.so.7" => Some(System::FreeBsd),
            name => name.starts_with("libc.musl").then_some(System::Linux),
        })
    });
    if let Some(system) = system.filter(|s| *s != machine.system) {
        return other(system.name().into());
    }
    let segments = header.program_headers(endian, bytes).map_err(cut)?;
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

/// The names of the libraries that a library needs itself.
pub(super) fn needed(library: &Path) -> Result<Vec<String>, String> {
    let bytes = std::fs::read(library).map_err(|e| e.to_string())?;
    needs_in(&bytes).map_err(|e| e.to_string())
}

/// The same of its bytes.
pub(super) fn needs_in(bytes: &[u8]) -> object::Result<Vec<String>> {
    let header = elf::FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let Some((all, strings)) = sections.dynamic(endian, bytes)? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, bytes, strings)?;
    let needed = all
        .iter()
        .filter(|d| d.tag32(endian) == Some(elf::DT_NEEDED));
    needed
        .map(|d| {
            d.string(endian, strings)
                .map(|name| String::from_utf8_lossy(name).into_owned())
        })
        .collect()
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
            |class, system, kind, machine| is_for(&elf_file(class, system, kind, machine), here);
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
            (is_for(b"", here), "an empty file"),
            (is_for(b"#!/bin/sh\n", here), "no ELF file"),
            (is_for(b"!<arch>\n", here), "an archive"),
            (is_for(b"\x7fELF", here), "of no known kind"),
            (is_for(b"\x7fELF\x02\x01\x01", here), "not a whole"),
            (is_for(b"\x7fELF\x01", here), "number 0, 32 bits"),
        ] {
            let refused = refused.expect_err(says);
            assert!(refused.contains(says), "{refused}");
        }
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
