//! The compilers of C and C++, and what they are told.

use super::digest::key;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A language that the system's compilers compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Language {
    C,
    Cpp,
}

impl Language {
    pub(super) const ALL: [Self; 2] = [Self::C, Self::Cpp];

    /// By the ending of a file's name, which a chain file's check has seen.
    pub(super) fn of(path: &Path) -> Self {
        if path.extension().is_some_and(|e| e == "c") {
            Self::C
        } else {
            Self::Cpp
        }
    }

    /// The environment variable that names its compiler.
    pub(super) fn variable(self) -> &'static str {
        ["CC", "CXX"][self as usize]
    }

    /// The standard where none is asked for.
    pub(super) fn standard(self) -> &'static str {
        ["gnu17", "gnu++20"][self as usize]
    }

    /// What `-x` calls it.
    pub(super) fn called(self) -> &'static str {
        ["c", "c++"][self as usize]
    }
}

/// Variables that change what a compiler does beside the text it reads.
const HEARD: [&str; 5] = [
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "LIBRARY_PATH",
    "SDKROOT",
    "LD_RUN_PATH",
];

/// A compiler.
#[derive(Debug)]
pub(super) struct Compiler {
    pub(super) language: Language,
    /// The program, and the first words that it gets.
    words: Vec<String>,
    /// What tells it from others; once its version is known.
    pub(super) identity: String,
    /// The first line of its version, for people.
    pub(super) version: String,
    /// Zig's driver, by whatever name; once its version is known.
    zig: bool,
}

impl Compiler {
    pub(super) fn of(language: Language) -> Self {
        let said = std::env::var(language.variable()).unwrap_or_default();
        let mut words: Vec<String> = said.split_whitespace().map(String::from).collect();
        if words.is_empty() {
            words = vec![["cc", "c++"][language as usize].into()];
        }
        Self {
            language,
            words,
            identity: String::new(),
            version: String::new(),
            zig: false,
        }
    }

    /// The command that has it say its version.
    pub(super) fn ask_version(&self) -> Command {
        let mut command = self.command();
        command.arg("--version");
        command
    }

    /// Takes what it says. Beside that it is known by its file, for one that was
    /// built anew may say the same.
    pub(super) fn is(&mut self, said: &[u8]) {
        self.zig = is_zig(&self.words[0], said, Path::is_file);
        let file = which(&self.words[0]).and_then(|p| p.canonicalize().ok());
        let stamp = file.map(|path| {
            let meta = std::fs::metadata(&path);
            let stamp = meta.map(|m| (m.len(), m.mtime(), m.mtime_nsec())).ok();
            format!("{} {stamp:?}", path.display())
        });
        let heard = HEARD.map(|v| std::env::var(v).unwrap_or_default());
        let heard = heard.iter().map(String::as_bytes);
        let stamp = stamp.unwrap_or_default();
        let words = self.words.join("\0");
        let parts = [said, stamp.as_bytes(), words.as_bytes()];
        self.identity = key(parts.into_iter().chain(heard));
        let said = String::from_utf8_lossy(said);
        self.version = said.lines().next().unwrap_or_default().to_owned();
    }

    /// What `-x` calls a text of its language that has been preprocessed. Zig's
    /// driver has no word for it: it reads one as a source in which nothing is left
    /// to include or expand.
    pub(super) fn preprocessed(&self) -> &'static str {
        if self.zig {
            return self.language.called();
        }
        ["cpp-output", "c++-cpp-output"][self.language as usize]
    }

    /// Its first words; nothing is on its standard input.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(Stdio::null());
        command
    }
}

/// Whether a compiler is zig's, which a script may call: it says that it is clang, in a
/// folder that has zig and no clang.
fn is_zig(program: &str, said: &[u8], is_file: impl Fn(&Path) -> bool) -> bool {
    let said = String::from_utf8_lossy(said);
    let folder = said.lines().find_map(|l| l.strip_prefix("InstalledDir: "));
    let folder = folder.map(|f| Path::new(f.trim_end()));
    Path::new(program).file_name().is_some_and(|p| p == "zig")
        || folder.is_some_and(|f| is_file(&f.join("zig")) && !is_file(&f.join("clang")))
}

/// The program that a command means.
fn which(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(program.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|p| p.is_file())
}

/// A command as an error shows it.
pub(super) fn shown(command: &Command) -> String {
    let quoted = |word: &OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+,:@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zig_is_known_by_its_name_and_by_its_folder() {
        let said = b"clang version 22.1.8\nTarget: x\nInstalledDir: /opt/compilers\n";
        let there = |names: &'static [&str]| {
            move |path: &Path| {
                let name = path.file_name().unwrap();
                path.parent().unwrap() == Path::new("/opt/compilers")
                    && names.iter().any(|n| name == *n)
            }
        };
        assert!(is_zig("/usr/bin/zig", b"", there(&[])));
        assert!(is_zig("wrapper", said, there(&["zig"])));
        assert!(!is_zig("clang", said, there(&["clang"])));
        assert!(!is_zig("clang", said, there(&["clang", "zig"])));
        assert!(!is_zig("cc", b"cc (Debian) 12.2.0\n", there(&["zig"])));
    }
}
