//! A bundle: a folder with all that a chain file's functions are built to, which runs
//! where no compiler is.
//!
//! In it are the libraries, what they need beside the C library, the chain file with
//! `library` in the place of what was compiled, and the hash of each of these. At each
//! start all of them are read again: a byte that is another, a file that is missing
//! or was added is refused by name.

use super::digest::hex;
use super::library::{Linked, MAX_BYTES as MOST_OF_FILE, Machine};
use super::{BuildError, Built, loader};
use crate::chain_file::{ChainFile, FunctionName, Origin, SecretSource};
use crate::printable::printable;
use lwc_function::abi::ABI;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

/// What a bundle is known by.
const MANIFEST: &str = "bundle.json";
/// The manifest's own hash, as sha256sum(1) writes and checks it.
const DIGEST: &str = "bundle.sha256";
/// Its chain file.
const CHAIN_FILE: &str = "chain.toml";
/// Its libraries.
const LIBRARIES: &str = "lib";
/// The version of all this.
const FORMAT: u32 = 1;
/// A manifest is not larger.
const MAX_BYTES: u64 = 1 << 20;
/// Keys of a function that say how it is built.
const BUILDING: [&str; 12] = [
    "source",
    "program",
    "crate",
    "library",
    "include",
    "std",
    "cflags",
    "target",
    "signature",
    "link",
    "pkg_config",
    "harden",
];
/// Libraries that are wherever this program runs: it is linked with them, or they
/// belong to the C library, of which a process has one.
const OF_THE_SYSTEM: [&str; 11] = [
    "libc.so",
    "libm.so",
    "libmvec.so",
    "libdl.so",
    "libpthread.so",
    "librt.so",
    "libresolv.so",
    "libutil.so",
    "libgcc_s.so",
    "libanl.so",
    "ld-linux",
];

/// Why a bundle cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[error("the bundle {path}: {what}")]
pub struct BundleError {
    path: String,
    what: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    made_by: String,
    /// The machine that it is for.
    target: String,
    /// Of its functions.
    abi: u32,
    /// Files by their paths in the bundle, with the SHA-256 of each.
    files: BTreeMap<String, String>,
    /// What a library needs of these, in the order in which it is loaded.
    needs: BTreeMap<String, Vec<String>>,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The machine that it is for, such as `x86_64-linux`.
    pub target: String,
    /// The SHA-256 of its manifest, which covers all of it.
    pub digest: String,
    /// Its functions' libraries.
    pub libraries: usize,
    /// Other libraries that these need.
    pub needed: usize,
    /// Files of secrets that are to lie beside it: they are in no bundle.
    pub secrets: Vec<PathBuf>,
    /// Files and folders that functions may read, which are to lie there, too.
    pub files: Vec<PathBuf>,
}

/// A bundle whose files are what they were when it was made.
#[derive(Debug)]
pub struct Bundle {
    folder: PathBuf,
    manifest: Manifest,
}

/// The errors of one folder.
fn error(folder: &Path, what: impl std::fmt::Display) -> BundleError {
    // What a stranger's manifest says is one line, whatever its names are.
    BundleError {
        path: printable(folder.as_os_str().as_encoded_bytes()),
        what: printable(what.to_string()),
    }
}

/// Writes a bundle into a folder that is new, or empty: `text` is the chain file's,
/// and its functions are built for the machine `target`, or this one.
///
/// # Errors
/// Which file cannot be read or written.
pub fn write(
    file: &ChainFile,
    text: &str,
    built: &BTreeMap<FunctionName, Built>,
    target: Option<&str>,
    out: &Path,
) -> Result<Made, BundleError> {
    let fail = |what: &dyn std::fmt::Display| error(out, what);
    let machine = target.map_or(Some(Machine::HERE), Machine::named);
    let machine = machine.ok_or_else(|| fail(&"for no machine that is known"))?;
    let mut there = match std::fs::read_dir(out) {
        Ok(there) => Some(there),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(fail(&e)),
    };
    if there.as_mut().is_some_and(|t| t.next().is_some()) {
        return Err(fail(
            &"there is something in this folder; give a new one, or remove it first",
        ));
    }
    // Whole or not at all: it gets its name when all is written.
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|e| fail(&e))?;
    let draft = tempfile::Builder::new()
        .prefix(".bundle-")
        .tempdir_in(parent)
        .map_err(|e| fail(&e))?;
    let mut manifest = Manifest {
        format: FORMAT,
        made_by: concat!("lwc-orchestrator ", env!("CARGO_PKG_VERSION")).into(),
        target: machine.name(),
        abi: ABI,
        files: BTreeMap::new(),
        needs: BTreeMap::new(),
    };
    let put = |files: &mut BTreeMap<String, String>, name: &str, bytes: &[u8]| {
        let path = draft.path().join(name);
        let written = std::fs::create_dir_all(path.parent().unwrap_or(draft.path()))
            .and_then(|()| std::fs::write(&path, bytes));
        written.map_err(|e| fail(&format_args!("{name}: {e}")))?;
        files.insert(name.to_owned(), hex(&Sha256::digest(bytes)));
        Ok::<(), BundleError>(())
    };
    std::fs::create_dir(draft.path().join(LIBRARIES)).map_err(|e| fail(&e))?;
    let mut names: BTreeMap<&Path, String> = BTreeMap::new();
    let mut needed_names = BTreeSet::new();
    for built in built.values() {
        let library = built.library.as_path();
        if names.contains_key(library) {
            continue;
        }
        let bytes = std::fs::read(library)
            .map_err(|e| fail(&format_args!("{}: {e}", library.display())))?;
        let stem = library.file_stem().unwrap_or_default().to_string_lossy();
        let stem: String = match stem.rsplit_once('-') {
            Some((stem, hash)) if hash.len() == 64 => stem.into(),
            _ => stem.trim_start_matches("lib").into(),
        };
        let hash = hex(&Sha256::digest(&bytes)[..8]);
        let name = format!("{LIBRARIES}/{stem}-{hash}.so");
        by_names(library, None).map_err(|e| fail(&e))?;
        put(&mut manifest.files, &name, &bytes)?;
        let mut needs = Vec::new();
        // What another machine has its own loader would have to tell.
        let others = match machine == Machine::HERE {
            true => needs_of(library, &built.needs).map_err(|e| fail(&e))?,
            false => Vec::new(),
        };
        for need in others {
            let soname = need.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{LIBRARIES}/needed/{soname}");
            if needed_names.insert(name.clone()) {
                let bytes = std::fs::read(&need)
                    .map_err(|e| fail(&format_args!("{}: {e}", need.display())))?;
                put(&mut manifest.files, &name, &bytes)?;
            }
            needs.push(name);
        }
        if !needs.is_empty() {
            manifest.needs.insert(name.clone(), needs);
        }
        names.insert(library, name);
    }
    let resolved = resolve(file, text, built, &names).map_err(|e| fail(&e))?;
    put(&mut manifest.files, CHAIN_FILE, resolved.as_bytes())?;
    let text = serde_json::to_string_pretty(&manifest).map_err(|e| fail(&e))? + "\n";
    let digest = digest_line(text.as_bytes());
    for (name, text) in [(MANIFEST, &text), (DIGEST, &digest)] {
        std::fs::write(draft.path().join(name), text).map_err(|e| fail(&e))?;
    }
    let draft = draft.keep();
    // A folder of one's own mode until now.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let named = std::fs::set_permissions(&draft, mode).and_then(|()| std::fs::rename(&draft, out));
    if let Err(e) = named {
        let _ = std::fs::remove_dir_all(&draft);
        return Err(fail(&e));
    }
    let beside = file.path.parent().unwrap_or(Path::new(""));
    let functions = || file.functions.values();
    let secrets = functions().flat_map(|f| &f.secrets);
    let secrets = secrets.filter_map(|secret| match &secret.from {
        SecretSource::File(path) => Some(path),
        SecretSource::Env(_) => None,
    });
    let files = functions().flat_map(|f| &f.files).map(|grant| &grant.path);
    Ok(Made {
        target: manifest.target,
        digest: hex(&Sha256::digest(&text)),
        libraries: names.len(),
        needed: needed_names.len(),
        secrets: lying_beside(secrets, beside),
        files: lying_beside(files, beside),
    })
}

/// Paths relative to the chain file, each once, as they are from the bundle on.
fn lying_beside<'a>(all: impl Iterator<Item = &'a PathBuf>, beside: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in all {
        if let Ok(path) = path.strip_prefix(beside)
            && path.is_relative()
        {
            let parts = path.components().filter(|p| *p != Component::CurDir);
            let path = parts.collect();
            if !found.contains(&path) {
                found.push(path);
            }
        }
    }
    found
}

/// What is read of a file at once to hash it.
const PIECE: usize = 256 << 10;

/// The SHA-256 of all that there is to read.
fn digest_of(mut file: impl Read, piece: &mut [u8]) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    loop {
        match file.read(piece) {
            Ok(0) => return Ok(hex(&digest.finalize())),
            Ok(n) => digest.update(&piece[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// What stands in the file of the manifest's hash.
fn digest_line(manifest: &[u8]) -> String {
    format!("{}  {MANIFEST}\n", hex(&Sha256::digest(manifest)))
}

/// The chain file with `library` in the place of what was compiled.
fn resolve(
    file: &ChainFile,
    text: &str,
    built: &BTreeMap<FunctionName, Built>,
    names: &BTreeMap<&Path, String>,
) -> Result<String, String> {
    let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let functions = table.get_mut("functions").and_then(|f| f.as_table_mut());
    for (name, value) in functions.into_iter().flat_map(|f| f.iter_mut()) {
        let (Some(function), Some(built)) = (value.as_table_mut(), built.get(name.as_str())) else {
            continue; // Runs elsewhere.
        };
        for key in BUILDING {
            function.remove(key);
        }
        let library = names[built.library.as_path()].clone();
        function.insert("library".into(), library.into());
        // Of a program, or by the function's name in any case.
        let handler = &file.functions[name.as_str()].handler;
        function.insert("handler".into(), handler.clone().into());
    }
    let text = toml::to_string_pretty(&table).map_err(|e| e.to_string())?;
    let made = "# Made by lwc-orchestrator build --out; each byte counts (bundle.json).\n\n";
    Ok(made.to_owned() + &text)
}

/// Libraries that a library needs and that may be missing elsewhere, each behind
/// those that it needs itself. Nothing where the loader does not tell.
fn needs_of(library: &Path, known: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    if !known.is_empty() {
        return Ok(known.to_vec());
    }
    let Some(command) = loader::ask(library, &[]) else {
        return Ok(Vec::new());
    };
    let all = loader::hear(command).map_err(|what| format!("{}: {what}", library.display()))?;
    let others = all
        .into_iter()
        .filter(|n| !OF_THE_SYSTEM.iter().any(|s| n.name.starts_with(s)));
    let mut waiting: BTreeMap<String, (PathBuf, Vec<String>)> = BTreeMap::new();
    // What this program needs is preloaded, and is not the library's.
    let wanted = |path: &Path| match Linked::of(path) {
        Ok(linked) => Ok(linked.needs),
        Err(e) => Err(format!("{}: {e}", path.display())),
    };
    for need in others {
        by_names(&need.path, Some(&need.name))?;
        let needs = wanted(&need.path)?;
        waiting.insert(need.name, (need.path, needs));
    }
    let mut reached = wanted(library)?;
    let mut at = 0;
    while let Some(name) = reached.get(at) {
        let more = waiting.get(name).map(|(_, needs)| needs.clone());
        for name in more.unwrap_or_default() {
            if !reached.contains(&name) {
                reached.push(name);
            }
        }
        at += 1;
    }
    waiting.retain(|name, _| reached.contains(name));
    let mut order = Vec::new();
    while !waiting.is_empty() {
        let ready = waiting.iter().find(|(_, (_, needs))| {
            let mut needs = needs.iter();
            needs.all(|n| !waiting.contains_key(n))
        });
        // Two that need each other come in any order.
        let name = ready
            .or(waiting.iter().next())
            .map(|(name, _)| name.clone());
        let next = name.and_then(|name| waiting.remove(&name));
        order.extend(next.map(|(path, _)| path));
    }
    Ok(order)
}

/// Refuses a library that a bundle cannot bring, or that others in it would not find
/// there: one of theirs by its path is looked for at that path of another machine.
fn by_names(library: &Path, name: Option<&str>) -> Result<(), String> {
    let told = |what: &str| {
        format!(
            "{} {what}; link that with a name of its own (-Wl,-soname,NAME), or as an archive (.a)",
            library.display()
        )
    };
    let linked = Linked::of(library).map_err(|e| told(&e))?;
    if let Some(path) = linked.needs.iter().find(|n| n.contains('/')) {
        return Err(told(&format!(
            "needs {path:?} by its path, which no bundle has"
        )));
    }
    match name {
        Some(name) if !is_name(name) => Err(told("has no name that can stand in a bundle")),
        Some(name) if linked.soname.as_deref() != Some(name) => Err(told(&format!(
            "is needed as {name:?} and does not say so itself"
        ))),
        _ => Ok(()),
    }
}

/// Whether a library can be named so to the system's loader, whose lists have spaces and
/// colons between them, and variables in names.
fn is_name(name: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || matches!(c, ':' | '$' | '/');
    !name.is_empty() && !name.contains(odd) && printable(name) == name
}

/// Opens one of a bundle's files: where its name says, without a link on the way,
/// without waiting for anybody, and none that is too large to be one.
fn open_regular(folder: &Path, name: &str) -> Result<File, String> {
    let mut path = folder.to_owned();
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let is = std::fs::symlink_metadata(&path)
            .map_err(|e| format!("{name}: {e}; copy the bundle again"))?;
        let last = parts.peek().is_none();
        if !(last && is.is_file() || !last && is.is_dir()) {
            return Err(format!(
                "{name} is not a regular file, or a link is on the way"
            ));
        }
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).custom_flags(flags).open(&path);
    let is = file.and_then(|file| Ok((file.metadata()?, file)));
    let (is, file) = is.map_err(|e| format!("{name}: {e}"))?;
    if !is.is_file() {
        return Err(format!("{name} is not a regular file"));
    }
    if is.len() > MOST_OF_FILE {
        return Err(format!("{name} is larger than {MOST_OF_FILE} bytes"));
    }
    Ok(file)
}

impl Bundle {
    /// The bundle that a path means: its folder, or the chain file in it. Nothing where
    /// it is no bundle.
    pub fn at(path: &Path) -> Option<PathBuf> {
        let folder = match path.file_name() {
            Some(name) if name == CHAIN_FILE && !path.is_dir() => match path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            },
            _ => path,
        };
        // Whatever they are: opening it tells what is wrong with them.
        let is_one = |name: &&str| folder.join(name).symlink_metadata().is_ok();
        let is_one = [MANIFEST, DIGEST].iter().any(is_one);
        is_one.then(|| folder.to_owned())
    }

    /// Reads a bundle, all of it.
    ///
    /// # Errors
    /// The first file that is not what it was, is missing or was added; another
    /// machine or version than this.
    pub fn open(folder: &Path) -> Result<Self, BundleError> {
        let fail = |what: &dyn std::fmt::Display| error(folder, what);
        let mut text = Vec::new();
        let file = open_regular(folder, MANIFEST).map_err(|e| fail(&e))?;
        let read = file.take(MAX_BYTES + 1).read_to_end(&mut text);
        read.map_err(|e| fail(&format_args!("{MANIFEST}: {e}")))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(fail(&format_args!(
                "{MANIFEST} is larger than {MAX_BYTES} bytes"
            )));
        }
        let mut digest = Vec::new();
        let file = open_regular(folder, DIGEST).map_err(|e| fail(&e))?;
        let read = file.take(MAX_BYTES).read_to_end(&mut digest);
        read.map_err(|e| fail(&format_args!("{DIGEST}: {e}")))?;
        if digest != digest_line(&text).as_bytes() {
            return Err(fail(&format_args!(
                "{MANIFEST} or {DIGEST} is not what it was when the bundle was made; copy the bundle again, or make a new one"
            )));
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| {
            fail(&format_args!(
                "{MANIFEST} is not what `build --out` writes: {e}"
            ))
        })?;
        if manifest.format != FORMAT || manifest.abi != ABI {
            return Err(fail(&format_args!(
                "made by {} (format {}, function ABI {}), and this program's are {FORMAT} and {ABI}; make it again with this one's `build --out`",
                manifest.made_by, manifest.format, manifest.abi
            )));
        }
        let here = Machine::HERE.name();
        if manifest.target != here {
            return Err(fail(&format_args!(
                "made for {}, and this is {here}; make one with `build --out` there, or with --target {here}",
                manifest.target
            )));
        }
        let bundle = Self {
            folder: folder.to_owned(),
            manifest,
        };
        bundle.check_files()?;
        Ok(bundle)
    }

    /// Its chain file.
    pub fn chain_file(&self) -> PathBuf {
        self.folder.join(CHAIN_FILE)
    }

    fn check_files(&self) -> Result<(), BundleError> {
        let fail = |what: &dyn std::fmt::Display| error(&self.folder, what);
        let Manifest { files, needs, .. } = &self.manifest;
        let named = needs.iter().flat_map(|(l, needs)| needs.iter().chain([l]));
        let chain_file = CHAIN_FILE.to_owned();
        for name in named.chain([&chain_file]) {
            if !files.contains_key(name) {
                return Err(fail(&format_args!("{MANIFEST} has no hash of {name}")));
            }
        }
        let mut piece = vec![0; PIECE];
        for (name, hash) in files {
            // The one spelling of a path below this folder, which is a line.
            let mut parts = name.split('/');
            if !parts.all(|p| !matches!(p, "" | "." | "..")) || printable(name) != *name {
                return Err(fail(&format_args!("{name:?} is no path in a bundle")));
            }
            let file = open_regular(&self.folder, name).map_err(|e| fail(&e))?;
            let digest = digest_of(file.take(MOST_OF_FILE), &mut piece);
            let digest = digest.map_err(|e| fail(&format_args!("{name}: {e}")))?;
            if digest != *hash {
                return Err(fail(&format_args!(
                    "{name} is not what it was when the bundle was made; copy the bundle again, or make a new one"
                )));
            }
        }
        // One that was added could be found before one of the system's.
        let mut folders = vec![PathBuf::from(LIBRARIES)];
        while let Some(folder) = folders.pop() {
            let path = self.folder.join(&folder);
            let fail = |e: std::io::Error| fail(&format_args!("{}: {e}", folder.display()));
            let entries = match std::fs::read_dir(path) {
                // Nothing is in it, and not every copy keeps such a folder.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.map_err(fail)?,
            };
            for entry in entries {
                let entry = entry.map_err(fail)?;
                let name = folder.join(entry.file_name());
                if entry.file_type().map_err(fail)?.is_dir() {
                    folders.push(name);
                } else if !name.to_str().is_some_and(|n| files.contains_key(n)) {
                    return Err(error(
                        &self.folder,
                        format_args!("{} does not belong to it; take it out", name.display()),
                    ));
                }
            }
        }
        Ok(())
    }

    /// What the libraries of its chain file need, in the order in which it is loaded: by
    /// its name what the system has, by its real path what the bundle has. With that no
    /// library of the bundle has the loader look where it says itself: on the machine
    /// where it was built that was a folder, and here it may be anybody's.
    ///
    /// # Errors
    /// A function's library is none of the bundle's, or needs one by its path.
    pub(super) fn needs(
        &self,
        file: &ChainFile,
    ) -> Result<BTreeMap<PathBuf, Vec<PathBuf>>, BuildError> {
        let mut all = BTreeMap::new();
        for (name, function) in &file.functions {
            let functions = super::Functions::of(name);
            let path = match &function.origin {
                Origin::Library(path) => path,
                Origin::Remote(_) | Origin::Url(_) | Origin::Group(_) => continue,
                Origin::Source(_) | Origin::Crate(_) | Origin::ProgramCrate(_) => {
                    let what = "a bundle has libraries alone";
                    return Err(BuildError::file(&functions, &self.chain_file(), what));
                }
            };
            let real = |path: &Path| {
                path.canonicalize()
                    .map_err(|e| BuildError::file(&functions, path, e))
            };
            let own = path.strip_prefix(&self.folder).ok().and_then(Path::to_str);
            let own = own.filter(|p| self.manifest.files.contains_key(*p));
            let Some(own) = own else {
                let what = "not one of the bundle's files";
                return Err(BuildError::file(&functions, path, what));
            };
            let path = real(path)?;
            let needs = self.manifest.needs.get(own).into_iter().flatten();
            let needs: Result<Vec<PathBuf>, _> =
                needs.map(|n| real(&self.folder.join(n))).collect();
            let mut needs = needs?;
            let (mut names, mut here) = (BTreeSet::new(), BTreeSet::new());
            for library in needs.iter().chain([&path]) {
                let linked =
                    Linked::of(library).map_err(|e| BuildError::file(&functions, library, e))?;
                here.extend(linked.soname);
                names.extend(linked.needs);
            }
            let files = needs.iter().filter_map(|n| n.file_name()?.to_str());
            if let Some(odd) = files
                .chain(names.iter().map(String::as_str))
                .find(|n| !is_name(n))
            {
                let what = format!("{odd:?} is no name of a library that a bundle can need");
                return Err(BuildError::file(&functions, &path, what));
            }
            let of_system = names.difference(&here).map(PathBuf::from);
            needs.splice(0..0, of_system);
            all.insert(path, needs);
        }
        Ok(all)
    }
}
