//! Whether the system can load a library: all that it needs is there, every symbol
//! too. The loader says what it would load, and where the symbols are is read there:
//! it could look for them itself (LD_WARN), but binds them as it does so, which writes
//! wherever a library's relocations say, outside of the function's own context.
//!
//! The C library of GNU alone tells it so. Elsewhere what is missing is found when
//! the function is loaded, in its own context, with every symbol bound at once.

use super::library::{Opened, symbols};
use super::tool::{Pool, ToolError};
use crate::printable::{printable, printable_line};
use object::Endianness;
use object::elf::Sym64;
use object::read::elf::Sym;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a library needs beside itself, as the loader finds it.
pub(super) struct Needed {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// The loader as a program, with what this process has loaded and every function
/// finds: it is to tell what it would load. Nothing where it cannot. What is loaded
/// `before` are files of one folder, whose own names have no space and no colon, and
/// names that the loader looks for.
pub(super) fn ask<'a>(library: &Path, before: &'a [PathBuf]) -> Option<Command> {
    let (interpreter, own) = interpreter()?;
    let mut command = Command::new(interpreter);
    // Its list ends a name at each space and colon, and the folder's may have some.
    let folder_of = |path: &'a PathBuf| path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = before.iter().find_map(folder_of);
    let before = before.iter().map(|path| match folder_of(path) {
        Some(own) if Some(own) == folder => {
            format!("./{}", path.file_name().unwrap_or_default().display())
        }
        _ => path.display().to_string(),
    });
    let preloaded: Vec<String> = own.into_iter().chain(before).collect();
    // With nothing of our environment but this: a command that changes one variable
    // copies all of them into this process's memory, of which contexts are copies.
    command
        .arg(library)
        .env_clear()
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .env("LD_PRELOAD", preloaded.join(" "))
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", path);
    }
    only_reads(&mut command)?;
    Some(command)
}

/// The loader that this program names, and the libraries that it needs itself.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn interpreter() -> Option<(PathBuf, Vec<String>)> {
    use super::library::Linked;
    use object::read::elf::{FileHeader, ProgramHeader};
    use object::{Endianness, elf};

    static FOUND: std::sync::OnceLock<Option<(PathBuf, Vec<String>)>> = std::sync::OnceLock::new();
    let find = || {
        let opened = Opened::at(Path::new("/proc/self/exe")).ok()?;
        let data = opened.data();
        let header = elf::FileHeader64::<Endianness>::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, data).ok()?;
        let path = segments
            .iter()
            .find_map(|s| s.interpreter(endian, data).ok().flatten())?;
        let path = PathBuf::from(std::str::from_utf8(path).ok()?);
        let is_gnu = path.file_name()?.to_str()?.starts_with("ld-linux")
            || path.to_str()?.contains("/ld64.so");
        let needed = Linked::in_data(data).ok()?.needs;
        let needed = needed
            .into_iter()
            .filter(|n| !n.starts_with("ld-"))
            .collect();
        is_gnu.then_some((path, needed))
    };
    FOUND.get_or_init(find).clone()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
use super::confine::only_reads;

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn interpreter() -> Option<(PathBuf, Vec<String>)> {
    None
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn only_reads(_: &mut Command) -> Option<()> {
    None
}

/// What the loader said on both outputs: the libraries that it found, or what is
/// missing.
pub(super) fn told(stdout: &[u8], stderr: &[u8]) -> Result<Vec<Needed>, String> {
    let [stdout, stderr] = [stdout, stderr].map(String::from_utf8_lossy);
    let not_there = |name: &str| {
        format!("the library {name} is not there: install it, or put it where the loader looks")
    };
    let mut needed = Vec::new();
    let mut missing = Vec::new();
    // It goes on without, and may find another of the name.
    for line in stderr
        .lines()
        .filter(|l| l.contains("from LD_PRELOAD cannot be"))
    {
        let name = line.split('\'').nth(1).unwrap_or(line);
        missing.push(not_there(name));
    }
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
            "not found" => missing.push(not_there(name)),
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

/// Asks a loader, and waits for what it tells.
pub(super) fn hear(mut command: Command) -> Result<Vec<Needed>, String> {
    let mut pool = Pool::new(None);
    let started = pool.start((), &mut command, "PATH", String::new());
    let answer = started.map_or_else(
        |e| Some(Err(e)),
        |()| pool.next(&mut |_| {}).map(|(_, a)| a),
    );
    match answer {
        Some(Ok(out)) => told(&out.stdout, &out.stderr),
        Some(Err(ToolError::Failed {
            status,
            output,
            stdout,
            ..
        })) => Err(refused(&status, &stdout, &output)),
        Some(Err(ToolError::Missing { command, error, .. })) => Err(format!("{command}: {error}")),
        Some(Err(ToolError::Stopped)) | None => Err("it was not asked".into()),
    }
}

/// Why the loader failed: what is missing, or what it said last.
pub(super) fn refused(status: &str, stdout: &[u8], stderr: &str) -> String {
    if let Err(missing) = told(stdout, stderr.as_bytes()) {
        return missing;
    }
    let last = stderr.lines().rfind(|line| !line.trim().is_empty());
    let last = last.map_or_else(String::new, |line| {
        format!(": {}", printable_line(line, 400))
    });
    format!("the system's loader fails ({status}){last}")
}

/// What some libraries want, and what of that others define: each is read once, and of
/// the thousands of names that a C++ library has only those are kept that are wanted.
pub(super) struct Symbols<'l> {
    /// Of each library that is looked into, or why it cannot be.
    wanted: BTreeMap<&'l Path, Result<Vec<String>, String>>,
    any: HashSet<String>,
    defined: BTreeMap<PathBuf, HashSet<String>>,
}

impl<'l> Symbols<'l> {
    /// For these libraries.
    pub(super) fn of(libraries: impl Iterator<Item = &'l Path>) -> Self {
        let is_wanted = |s: &Sym64<Endianness>, endian| s.is_undefined(endian) && !s.is_weak();
        let mut any = HashSet::new();
        let wanted = libraries.map(|library| {
            let mut names = Vec::new();
            let read = dynamic(library, is_wanted, |name| {
                if !name.is_empty() {
                    any.insert(name.to_owned());
                    names.push(name.to_owned());
                }
            });
            // One of several versions is there as often.
            names.sort_unstable();
            names.dedup();
            (library, read.map(|()| names))
        });
        Self {
            wanted: wanted.collect(),
            any,
            defined: BTreeMap::new(),
        }
    }

    /// The symbols that one of the libraries wants and that nothing defines of what it
    /// needs, which the loader has told of but for the files that it was given `before`.
    pub(super) fn undefined(
        &mut self,
        library: &Path,
        before: &[PathBuf],
        needed: &[Needed],
    ) -> Result<(), String> {
        const SHOWN: usize = 8;
        let files = before.iter().filter(|path| path.is_absolute());
        let needed: Vec<&PathBuf> = files.chain(needed.iter().map(|n| &n.path)).collect();
        for path in &needed {
            if !self.defined.contains_key(*path) {
                let mut found = HashSet::new();
                let is_defined = |s: &Sym64<Endianness>, endian| !s.is_undefined(endian);
                let read = dynamic(path, is_defined, |name| {
                    if self.any.contains(name) {
                        found.insert(name.to_owned());
                    }
                });
                read.map_err(|e| format!("{}: {e}", path.display()))?;
                self.defined.insert((*path).clone(), found);
            }
        }
        let defined = |name: &str| needed.iter().any(|p| self.defined[*p].contains(name));
        let wanted = match self.wanted.get(library) {
            Some(Ok(wanted)) => wanted,
            Some(Err(why)) => return Err(why.clone()),
            None => return Ok(()),
        };
        let wanted = wanted.iter().map(String::as_str);
        let missing: Vec<&str> = wanted.filter(|name| !defined(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let more = missing.len().saturating_sub(SHOWN);
        let plural = if missing.len() > 1 { "s" } else { "" };
        // A name may have several lines.
        let mut text = printable(missing[..missing.len() - more].join(", "));
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
    meant: impl Fn(&Sym64<Endianness>, Endianness) -> bool,
    mut each: impl FnMut(&str),
) -> Result<(), String> {
    let opened = Opened::at(library)?;
    symbols(opened.data(), meant, |_, name, _, _| each(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_says_is_understood() {
        let found = told(
            b"\tlinux-vdso.so.1 (0x00007ffd)\n\tlibz.so.1 => /lib/x86_64/libz.so.1 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n",
            b"",
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
            b"\tlibnope.so.3 => not found\n",
            b"./f.so: /lib/libc.so.6: version `GLIBC_9.9' not found (required by ./f.so)\n",
        );
        let missing = missing.map(|_| ()).unwrap_err();
        for part in ["library libnope.so.3 is not there", "version `GLIBC_9.9'"] {
            assert!(missing.contains(part), "{missing}");
        }
    }
}
