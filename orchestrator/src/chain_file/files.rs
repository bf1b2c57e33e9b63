//! What a function is granted of the world outside: files that it may read.

use super::diagnostics::Findings;
use super::model::{FileGrant, Function, SecretSource};
use super::names::FunctionName;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use toml::Spanned;
use toml::de::DeValue;

type Value<'a> = Spanned<DeValue<'a>>;

const FILES: &str = "write files = [\"FILE\", \"FOLDER/\"], relative to this file";

/// Each costs the root a descriptor, and a comparison for each file that is asked for.
const MOST: usize = 64;

/// What no function is granted, nor anything in it: files there are not what their
/// names say, but about whoever opens them, which is not the function.
const OF_THE_SYSTEM: [&str; 3] = ["/proc", "/sys", "/dev"];

/// What a function is granted, and where the file says so.
pub(super) type Files = Vec<(FileGrant, Range<usize>)>;

/// A path of this program's from the root on, by its names alone. An empty one is the
/// current folder.
pub(crate) fn from_root(path: &Path) -> PathBuf {
    by_names(&std::env::current_dir().unwrap_or_default(), path)
}

/// A path by its names alone: absolute, without `.` and `..`. What links mean the
/// system does not say here.
pub(crate) fn by_names(base: &Path, path: &Path) -> PathBuf {
    let whole = base.join(path);
    let mut out = PathBuf::from("/");
    for part in whole.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// Whether a path means something of the system that is no file.
pub(crate) fn is_of_the_system(path: &Path) -> bool {
    OF_THE_SYSTEM.iter().any(|s| path.starts_with(s))
}

/// Reads `files`.
pub(super) fn files(value: &Value<'_>, dir: &Path, findings: &mut Findings) -> Files {
    let mut all = Files::new();
    let Some(list) = value.get_ref().as_array() else {
        wrong_type(value, "an array", findings);
        return all;
    };
    let mut seen = BTreeSet::new();
    for value in list {
        let Some(said) = value.get_ref().as_str() else {
            wrong_type(value, "a string", findings);
            continue;
        };
        match grant(said, dir) {
            Ok(grant) if !seen.insert(from_root(&grant.path)) => findings.warning(
                value.span(),
                "duplicate",
                format!("{said:?} is granted twice"),
                "once is enough",
            ),
            Ok(grant) => all.push((grant, value.span())),
            Err((code, problem, hint)) => findings.error(value.span(), code, problem, hint),
        }
    }
    if all.len() > MOST {
        findings.error(
            value.span(),
            "range",
            format!("{} files and folders are granted", all.len()),
            format!("at most {MOST} are possible: put files into a folder, and grant that"),
        );
    }
    all
}

/// A code, a problem and a hint.
type Wrong = (&'static str, String, String);

fn grant(said: &str, dir: &Path) -> Result<FileGrant, Wrong> {
    let wrong = |code, problem: String, hint: &str| Err((code, problem, hint.to_owned()));
    if said.is_empty() || said.contains('\0') {
        return wrong("name", format!("{said:?} is no path"), FILES);
    }
    // Without its slashes, by which a file would not be found.
    let path: PathBuf = dir.join(said).components().collect();
    let last = Path::new(said).components().next_back();
    let dots = matches!(last, Some(Component::CurDir | Component::ParentDir));
    let folder = said.ends_with('/') || dots;
    let meta = match std::fs::metadata(&path) {
        Ok(meta) => meta,
        Err(e) => {
            return wrong(
                "missing-file",
                format!("{}: {e}", path.display()),
                "paths are relative to the chain file",
            );
        }
    };
    let shown = path.display();
    if !folder && meta.is_dir() {
        return wrong(
            "folder",
            format!("{shown} is a folder"),
            &format!("write {:?} to grant all that is in it", format!("{said}/")),
        );
    }
    if folder && !meta.is_dir() {
        let hint = "take the slash away to grant the file";
        return wrong("folder", format!("{shown} is no folder"), hint);
    }
    let real = std::fs::canonicalize(&path).unwrap_or_else(|_| from_root(&path));
    if [&real, &from_root(&path)]
        .iter()
        .any(|p| is_of_the_system(p))
    {
        return wrong(
            "range",
            format!("{shown} is of the system, and no file"),
            "what is in /proc, /sys and /dev tells of who opens it, which is not the function; grant a file that has what it needs",
        );
    }
    if real.as_os_str().as_bytes() == b"/" {
        return wrong(
            "range",
            format!("{shown} is all that there is"),
            "grant the folders that the function needs",
        );
    }
    if !folder && !meta.is_file() {
        return wrong(
            "range",
            format!("{shown} is neither a file nor a folder"),
            "pipes, sockets and devices are not granted as files",
        );
    }
    Ok(FileGrant {
        said: said.to_owned(),
        path,
        folder,
    })
}

fn wrong_type(value: &Value<'_>, want: &str, findings: &mut Findings) {
    let problem = format!("expected {want}, found {}", value.get_ref().type_str());
    findings.error(value.span(), "type", problem, FILES);
}

/// Says which files are granted where a function has files of its own.
pub(super) fn scratch_is_no_grant(
    granted: &BTreeMap<FunctionName, Files>,
    functions: &BTreeMap<FunctionName, Function>,
    findings: &mut Findings,
) {
    let scratch = |name: &FunctionName| functions.get(name).is_some_and(|f| f.scratch > 0);
    for (_, files) in granted.iter().filter(|(name, _)| scratch(name)) {
        for (grant, span) in files {
            if from_root(&grant.path).starts_with("/tmp") {
                findings.error(
                    span.clone(),
                    "scratch",
                    format!(
                        "{:?} lies in /tmp, which is the function's own by scratch",
                        grant.said
                    ),
                    "put the file elsewhere, or take scratch away",
                );
            }
        }
    }
}

/// Says which files, that functions may read, are secrets of functions, or have such in
/// them.
pub(super) fn secrets_are_no_files(
    granted: &BTreeMap<FunctionName, Files>,
    functions: &BTreeMap<FunctionName, Function>,
    findings: &mut Findings,
) {
    // Where it really is, as links may lead there.
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let mut secrets: BTreeMap<PathBuf, (&FunctionName, &str)> = BTreeMap::new();
    for function in functions.values() {
        for secret in &function.secrets {
            if let SecretSource::File(path) = &secret.from
                && let Some(path) = real(path)
            {
                secrets.insert(path, (&function.name, &secret.name));
            }
        }
    }
    if secrets.is_empty() {
        return;
    }
    for (grant, span) in granted.values().flatten() {
        let Some(path) = real(&grant.path) else {
            continue;
        };
        // Those in a folder lie together in their order.
        let found = match grant.folder {
            true => secrets.range(path.clone()..).next(),
            false => secrets.get_key_value(&path),
        };
        if let Some((file, (owner, name))) = found.filter(|(file, _)| file.starts_with(&path)) {
            findings.error(
                span.clone(),
                "secret",
                format!(
                    "with {:?} goes {}, the secret {name:?} of the function {owner:?}",
                    grant.said,
                    file.display()
                ),
                "what is read as a file is in the function's memory like all else; put the secret elsewhere, and grant it by secrets",
            );
        }
    }
}
