//! Whether the system can load a library: all that it needs is there, every symbol
//! too. The loader says what it would load, and where the symbols are is read there:
//! it could look for them itself (LD_WARN), but binds them as it does so, which writes
//! wherever a library's relocations say, outside of the function's own context.
//!
//! The C library of GNU alone tells it so. Elsewhere what is missing is found when
//! the function is loaded, in its own context, with every symbol bound at once.

use object::{Object, ObjectSymbol};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a library needs beside itself, as the loader finds it.
pub(super) struct Needed {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// The loader as a program, with what this process has loaded and every function
/// finds: it is to tell what it would load. Nothing where it cannot.
pub(super) fn ask(library: &Path, before: &[PathBuf]) -> Option<Command> {
    let (interpreter, own) = interpreter()?;
    let mut command = Command::new(interpreter);
    let preloaded: Vec<String> = own
        .into_iter()
        .chain(before.iter().map(|p| p.display().to_string()))
        .collect();
    // With nothing of our environment but this: a command that changes one variable
    // copies all of them into this process's memory, of which contexts are copies.
    command
        .arg(library)
        .env_clear()
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .env("LD_PRELOAD", preloaded.join(" "))
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", path);
    }
    Some(command)
}

/// The loader that this program names, and the libraries that it needs itself.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn interpreter() -> Option<(PathBuf, Vec<String>)> {
    use super::library::needs_in;
    use object::read::elf::{FileHeader, ProgramHeader};
    use object::{Endianness, elf};

    static FOUND: std::sync::OnceLock<Option<(PathBuf, Vec<String>)>> = std::sync::OnceLock::new();
    let find = || {
        let bytes = std::fs::read("/proc/self/exe").ok()?;
        let bytes = bytes.as_slice();
        let header = elf::FileHeader64::<Endianness>::parse(bytes).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, bytes).ok()?;
        let path = segments
            .iter()
            .find_map(|s| s.interpreter(endian, bytes).ok().flatten())?;
        let path = PathBuf::from(std::str::from_utf8(path).ok()?);
        let is_gnu = path.file_name()?.to_str()?.starts_with("ld-linux")
            || path.to_str()?.contains("/ld64.so");
        let needed = needs_in(bytes).ok()?;
        let needed = needed
            .into_iter()
            .filter(|n| !n.starts_with("ld-"))
            .collect();
        is_gnu.then_some((path, needed))
    };
    FOUND.get_or_init(find).clone()
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn interpreter() -> Option<(PathBuf, Vec<String>)> {
    None
}

/// What the loader said on both outputs: the libraries that it found, or what is
/// missing.
pub(super) fn told(stdout: &str, stderr: &str) -> Result<Vec<Needed>, String> {
    let mut needed = Vec::new();
    let mut missing = Vec::new();
    for line in stdout.lines() {
        let (name, found) = match line.trim().split_once(" => ") {
            Some(both) => both,
            // The loader itself; what the kernel brings has no path.
            None if line.trim().starts_with('/') => {
                let path = line.trim();
                (path.rsplit('/').next().unwrap_or(path), path)
            }
            None => continue,
        };
        let path = found.rsplit_once(" (0x").map_or(found, |(path, _)| path);
        let name = name.rsplit_once(" (0x").map_or(name, |(name, _)| name);
        match path.trim() {
            "not found" => missing.push(format!(
                "the library {name} is not there: install it, or put it where the loader looks"
            )),
            path => needed.push(Needed {
                name: name.to_owned(),
                path: path.into(),
            }),
        }
    }
    let versions = stderr.lines().filter(|l| l.contains(": version `"));
    missing.extend(versions.map(|line| line.trim().to_owned()));
    if missing.is_empty() {
        Ok(needed)
    } else {
        Err(missing.join("; "))
    }
}

/// What libraries define, each read once.
#[derive(Default)]
pub(super) struct Symbols(BTreeMap<PathBuf, BTreeSet<String>>);

impl Symbols {
    /// The symbols that a library wants and that nothing defines of what it needs.
    pub(super) fn undefined(&mut self, library: &Path, needed: &[Needed]) -> Result<(), String> {
        const SHOWN: usize = 8;
        for Needed { path, .. } in needed {
            if !self.0.contains_key(path) {
                let found = dynamic(path, |s| !s.is_undefined());
                let found = found.map_err(|e| format!("{}: {e}", path.display()))?;
                self.0.insert(path.clone(), found);
            }
        }
        let defined = |name: &str| needed.iter().any(|n| self.0[&n.path].contains(name));
        let wanted = dynamic(library, |s| s.is_undefined() && !s.is_weak())?;
        let missing: Vec<&str> = wanted
            .iter()
            .map(String::as_str)
            .filter(|name| !name.is_empty() && !defined(name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let more = missing.len().saturating_sub(SHOWN);
        let plural = if missing.len() > 1 { "s" } else { "" };
        let mut text = missing[..missing.len() - more].join(", ");
        if more > 0 {
            text += &format!(" and {more} more");
        }
        Err(format!(
            "undefined symbol{plural} {text}: link what defines it, or remove the use"
        ))
    }
}

/// Names of a library's dynamic symbols.
fn dynamic(
    library: &Path,
    meant: impl Fn(&object::Symbol<'_, '_>) -> bool,
) -> Result<BTreeSet<String>, String> {
    let bytes = std::fs::read(library).map_err(|e| e.to_string())?;
    let file = object::File::parse(&*bytes).map_err(|e| e.to_string())?;
    let symbols = file.dynamic_symbols().filter(meant);
    let names = symbols.filter_map(|s| s.name().ok().map(String::from));
    Ok(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_says_is_understood() {
        let found = told(
            "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibz.so.1 => /lib/x86_64/libz.so.1 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n",
            "",
        )
        .unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|n| (n.name.as_str(), n.path.as_path()))
            .collect();
        let libz = ("libz.so.1", Path::new("/lib/x86_64/libz.so.1"));
        let loader = Path::new("/lib64/ld-linux-x86-64.so.2");
        assert_eq!(found, [libz, ("ld-linux-x86-64.so.2", loader)]);
        let missing = told(
            "\tlibnope.so.3 => not found\n",
            "./f.so: /lib/libc.so.6: version `GLIBC_9.9' not found (required by ./f.so)\n",
        );
        let missing = missing.map(|_| ()).unwrap_err();
        for part in ["library libnope.so.3 is not there", "version `GLIBC_9.9'"] {
            assert!(missing.contains(part), "{missing}");
        }
    }
}
