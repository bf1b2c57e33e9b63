//! Crates, which cargo builds; it decides what has to be built.

use super::compiler::shown;
use super::digest::hex;
use super::{BuildError, Cache, Functions, author_library};
use crate::chain_file::Harden;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A crate's command.
pub(super) struct Cargo {
    pub(super) command: Command,
    pub(super) shown: String,
}

/// What makes a library of a program, whose `main` is called by what is linked with it:
/// rustc calls the C compiler to link, and that compiles C. Calls that are answered there
/// are as those of a program in C (`plan.rs`), and those of Rust's own runtime.
const LINKED: [&str; 17] = [
    "-shared",
    "-nostartfiles",
    "-std=gnu17",
    "-O2",
    "-fPIC",
    "-Wl,--undefined=lwc_program",
    "-Wl,--undefined=lwc_program_abi",
    "-Wl,-Bsymbolic",
    "-Wl,--wrap=read",
    "-Wl,--wrap=write",
    "-Wl,--wrap=readv",
    "-Wl,--wrap=writev",
    "-Wl,--wrap=exit",
    "-Wl,--wrap=_exit",
    "-Wl,--wrap=_Exit",
    "-Wl,--wrap=poll",
    "-Wl,--wrap=pthread_getattr_np",
];

/// How a crate in this folder is built, which is absolute; one that is a program, with what
/// is in another folder.
pub(super) fn cargo(
    folder: &Path,
    harden: Option<Harden>,
    program: Option<&Path>,
    target: Option<&str>,
    cache: &Cache,
) -> Result<Cargo, BuildError> {
    let name = hex(&Sha256::digest(folder.as_os_str().as_encoded_bytes())[..12]);
    let hardened = if harden.is_some() { "-bounds" } else { "" };
    let kind = if program.is_some() { "-program" } else { "" };
    let built = cache.folder(&format!("crate-{name}{hardened}{kind}"))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(match program {
            Some(_) => ["rustc", "--bins"],
            None => ["build", "--lib"],
        })
        .args([
            "--release",
            "--message-format=json-render-diagnostics",
            "--color=never",
        ])
        .args(target.map(|t| format!("--target={t}")))
        .arg("--target-dir")
        .arg(&built)
        .current_dir(folder)
        .stdin(Stdio::null());
    if harden.is_some() {
        // Bounds are checked in any case, and no variable is without a value. (Not by
        // a variable: a command that changes one copies the whole environment into
        // this process's memory, of which contexts are copies.)
        command.args(["--config", "profile.release.overflow-checks=true"]);
    }
    if wants_the_library(folder) {
        let library = author_library(cache)?;
        // Debug writes what TOML reads: a path of ours has no control characters.
        let patch = format!("patch.crates-io.lwc-function.path={library:?}");
        command.args(["--config", &patch]);
    }
    if let Some(shim) = program {
        command.args(["--", "-C", "relocation-model=pic"]);
        let files = ["lwc_program.c", "lwc_program_rust.c"].map(|f| shim.join(f));
        let mut include = std::ffi::OsString::from("-I");
        include.push(shim);
        let files = files.into_iter().map(PathBuf::into_os_string);
        let words = LINKED.map(std::ffi::OsString::from);
        for word in words.into_iter().chain([include]).chain(files) {
            let mut arg = std::ffi::OsString::from("link-arg=");
            arg.push(word);
            command.arg("-C").arg(arg);
        }
    }
    let shown = format!("{} in {}", shown(&command), folder.display());
    Ok(Cargo { command, shown })
}

/// Whether a crate has `lwc-function` from where crates are published. It is taken from
/// this program, then: of its version, and without a network.
fn wants_the_library(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    // One that is broken cargo tells of.
    let Ok(manifest) = manifest.parse::<toml::Table>() else {
        return false;
    };
    let dependency = manifest
        .get("dependencies")
        .and_then(|d| d.get("lwc-function"));
    dependency.is_some_and(|d| {
        let elsewhere = ["path", "git", "registry", "workspace"];
        d.is_str() || d.is_table() && elsewhere.iter().all(|key| d.get(key).is_none())
    })
}

/// The library that cargo has made, by a name of its content: the next build of the
/// crate, whoever makes it, leaves this one as it is.
pub(super) fn library(
    folder: &Path,
    program: bool,
    said: &[u8],
    functions: &Functions,
    cache: &Cache,
) -> Result<PathBuf, BuildError> {
    let manifest = folder.join("Cargo.toml");
    // One JSON object a line; ours is the artifact of this manifest.
    let made = String::from_utf8_lossy(said)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|m| m["reason"] == "compiler-artifact")
        .filter(|m| m["manifest_path"].as_str() == manifest.to_str())
        .flat_map(|m| match program {
            true => vec![m["executable"].clone()],
            false => m["filenames"].as_array().cloned().unwrap_or_default(),
        })
        .filter_map(|f| f.as_str().map(PathBuf::from))
        .find(|f| program || f.extension().is_some_and(|e| e == "so" || e == "dylib"))
        .ok_or_else(|| {
            let what = match program {
                true => "the crate has no program: it needs a src/main.rs, and no other",
                false => "the crate builds no shared library; say crate-type = [\"cdylib\"] under [lib] in its Cargo.toml, or program = \"FOLDER\" if it has a main",
            };
            BuildError::file(functions, folder, what)
        })?;
    let copy = cache.scratch(".so")?;
    std::fs::copy(&made, &copy).map_err(|e| BuildError::file(functions, &made, e))?;
    let stem = made.file_stem().unwrap_or_default().to_string_lossy();
    cache.keep_by_content(copy, stem.trim_start_matches("lib"), ".so")
}
