//! Whether the system can load a library: all that it needs is there, every symbol
//! too. The loader says so without running a line of the library's.
//!
//! The C library of GNU alone tells it so. Elsewhere what is missing is found when
//! the function is loaded, in its own context, with every symbol bound at once.

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
        .env("LD_WARN", "yes")
        .env("LD_BIND_NOW", "yes")
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
        let Some((name, found)) = line.trim().split_once(" => ") else {
            continue;
        };
        let path = found.rsplit_once(" (0x").map_or(found, |(path, _)| path);
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
    let mut symbols: Vec<&str> = Vec::new();
    for line in stderr.lines() {
        if let Some((_, rest)) = line.split_once("undefined symbol: ") {
            let name = rest.split(['\t', ' ', ',']).next().unwrap_or(rest);
            if !symbols.contains(&name) {
                symbols.push(name);
            }
        } else if line.contains(": version `") {
            missing.push(line.trim().to_owned());
        }
    }
    if !symbols.is_empty() {
        const SHOWN: usize = 8;
        let more = symbols.len().saturating_sub(SHOWN);
        let plural = if symbols.len() > 1 { "s" } else { "" };
        let mut text = symbols[..symbols.len() - more].join(", ");
        if more > 0 {
            text += &format!(" and {more} more");
        }
        missing.push(format!(
            "undefined symbol{plural} {text}: link what defines it, or remove the use"
        ));
    }
    if missing.is_empty() {
        Ok(needed)
    } else {
        Err(missing.join("; "))
    }
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
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "libz.so.1");
        assert_eq!(found[0].path, Path::new("/lib/x86_64/libz.so.1"));
        let missing = told(
            "\tlibnope.so.3 => not found\n",
            "undefined symbol: nowhere\t(./f.so)\nundefined symbol: nowhere\t(./f.so)\n./f.so: /lib/libc.so.6: version `GLIBC_9.9' not found (required by ./f.so)\n",
        );
        let missing = missing.map(|_| ()).unwrap_err();
        for part in [
            "library libnope.so.3 is not there",
            "undefined symbol nowhere:",
            "version `GLIBC_9.9'",
        ] {
            assert!(missing.contains(part), "{missing}");
        }
    }
}
