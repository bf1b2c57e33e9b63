//! From a function's origin to a shared library with its handler.
//!
//! Sources are compiled by the system's compiler into a cache keyed by
//! content; crates are built by cargo; libraries are taken as they are. No
//! library is loaded here: its constructors are the function author's code,
//! and run in the function's own context alone.

mod cache;
mod symbols;
mod tool;

pub use cache::Cache;
pub use tool::{Progress, Stop};

use crate::chain_file::{ChainFile, Function, FunctionName, Origin};
use lwc_function::abi::ABI;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tool::{Running, Tools};

/// Crates that cargo builds at the same time: each uses all processors where it
/// can, and has phases where it cannot.
const CRATES_AT_ONCE: usize = 2;

/// A function that can be loaded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Built {
    /// The shared library.
    pub library: PathBuf,
    /// Whether it has an initialiser, `HANDLER_init`.
    pub has_init: bool,
    /// Whether it takes CloudEvents alone: it has the mark `HANDLER_cloudevent`.
    pub takes_events: bool,
}

/// Why a function cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A compiler or cargo said no.
    #[error("function {function:?}: {command} failed ({status}):\n{output}")]
    Compiler {
        /// The function's name.
        function: String,
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        output: String,
    },
    /// A compiler or cargo could not be run.
    #[error("function {function:?}: cannot run {command}: {error}; install it, or set {variable}")]
    Missing {
        /// The function's name.
        function: String,
        /// What was to be run.
        command: String,
        /// The environment variable that names another.
        variable: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// It was asked to stop.
    #[error("function {function:?}: not built, the build was stopped")]
    Stopped {
        /// The function's name.
        function: String,
    },
    /// The library lacks the handler.
    #[error("function {function:?}: {library} has no symbol {symbol:?}; {hint}")]
    NoSymbol {
        /// The function's name.
        function: String,
        /// The library looked into.
        library: String,
        /// The symbol looked for.
        symbol: String,
        /// How to mend it.
        hint: String,
    },
    /// It is built for another version of the function ABI.
    #[error(
        "function {function:?}: {library}: {symbol} is of function ABI {abi}, and this program's is {ABI}; build it again with this version's lwc_function.h or lwc-function, whose LWC_HANDLER or handler! says which it is"
    )]
    Abi {
        /// The function's name.
        function: String,
        /// Its library.
        library: String,
        /// Its handler.
        symbol: String,
        /// What it is built for.
        abi: String,
    },
    /// A file is not what it should be.
    #[error("function {function:?}: {path}: {what}")]
    File {
        /// The function's name.
        function: String,
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// The cache cannot be used.
    #[error("the build cache {path}: {what}")]
    Cache {
        /// Its folder.
        path: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Builds every function of a file.
///
/// # Errors
/// All functions that cannot be built, not only the first.
pub fn build(file: &ChainFile) -> Result<BTreeMap<FunctionName, Built>, Vec<BuildError>> {
    build_all(file, None, None)
}

/// The same, and tells what it is at.
///
/// # Errors
/// All functions that cannot be built, not only the first.
pub fn build_with_progress(
    file: &ChainFile,
    progress: Progress<'_>,
) -> Result<BTreeMap<FunctionName, Built>, Vec<BuildError>> {
    build_all(file, None, Some(progress))
}

/// The same, until `stop` ends it: for a build beside something else, which must
/// be able to end while a compiler does not.
///
/// # Errors
/// All functions that cannot be built, not only the first.
pub fn build_until(
    file: &ChainFile,
    stop: &Stop,
) -> Result<BTreeMap<FunctionName, Built>, Vec<BuildError>> {
    build_all(file, Some(stop), None)
}

fn build_all(
    file: &ChainFile,
    stop: Option<&Stop>,
    progress: Option<Progress<'_>>,
) -> Result<BTreeMap<FunctionName, Built>, Vec<BuildError>> {
    let cache = Cache::open().map_err(|e| vec![e])?;
    // Crates take longest, so cargo is started first, for a few of them at once,
    // and the rest is built beside.
    let mut crates: VecDeque<(&FunctionName, &Path)> = file
        .functions
        .iter()
        .filter_map(|(name, f)| match &f.origin {
            Origin::Crate(folder) => Some((name, folder.as_path())),
            Origin::Source(_)
            | Origin::Library(_)
            | Origin::Remote(_)
            | Origin::Url(_)
            | Origin::Group(_) => None,
        })
        .collect();
    let mut running = VecDeque::new();
    let mut start_some = |running: &mut VecDeque<_>| {
        while running.len() < CRATES_AT_ONCE
            && let Some((name, folder)) = crates.pop_front()
        {
            running.push_back((
                name,
                Crate::start(folder, &cache, tools_of(name, stop, progress)),
            ));
        }
    };
    start_some(&mut running);
    let mut found: BTreeMap<&FunctionName, Result<PathBuf, BuildError>> = BTreeMap::new();
    for (name, function) in &file.functions {
        let library = match &function.origin {
            Origin::Source(path) => compile(path, &cache, tools_of(name, stop, progress)),
            Origin::Library(path) => path.canonicalize().map_err(|e| BuildError::File {
                function: name.to_string(),
                path: path.display().to_string(),
                what: e.to_string(),
            }),
            Origin::Crate(_) | Origin::Remote(_) | Origin::Url(_) | Origin::Group(_) => continue,
        };
        found.insert(name, library);
    }
    while let Some((name, started)) = running.pop_front() {
        found.insert(
            name,
            started.and_then(|s| s.finish(tools_of(name, stop, progress))),
        );
        start_some(&mut running);
    }

    let mut built = BTreeMap::new();
    let mut errors = Vec::new();
    for (name, library) in found {
        match library.and_then(|library| look_into(&file.functions[name], library)) {
            Ok(b) => {
                log::debug!("build: function {name}: {}", b.library.display());
                built.insert(name.clone(), b);
            }
            Err(e) => errors.push(e),
        }
    }
    if errors.is_empty() {
        Ok(built)
    } else {
        Err(errors)
    }
}

fn tools_of<'a>(
    name: &'a FunctionName,
    stop: Option<&'a Stop>,
    progress: Option<Progress<'a>>,
) -> Tools<'a> {
    Tools {
        function: name.as_str(),
        stop,
        progress,
    }
}

/// A function's library, if it has the function's handler.
fn look_into(function: &Function, library: PathBuf) -> Result<Built, BuildError> {
    let found = symbols::exported(&library).map_err(|what| BuildError::File {
        function: function.name.to_string(),
        path: library.display().to_string(),
        what,
    })?;
    let symbols::Exported { names, numbers } = found;
    if !names.contains(&function.handler) {
        let hint = match crate::chain_file::nearest_name(&function.handler, &names) {
            Some(near) => format!("did you mean handler = {near:?}?"),
            None => "define it with LWC_HANDLER(NAME), LWC_FUNCTION(NAME, ...) or lwc_function::handler!(NAME, ...)".into(),
        };
        return Err(BuildError::NoSymbol {
            function: function.name.to_string(),
            library: library.display().to_string(),
            symbol: function.handler.clone(),
            hint,
        });
    }
    let abi = numbers.get(&format!("{}_abi", function.handler)).copied();
    if abi != Some(ABI) {
        return Err(BuildError::Abi {
            function: function.name.to_string(),
            library: library.display().to_string(),
            symbol: function.handler.clone(),
            abi: abi.map_or_else(|| "older than 3".to_owned(), |n| n.to_string()),
        });
    }
    Ok(Built {
        library,
        has_init: names.contains(&format!("{}_init", function.handler)),
        takes_events: names.contains(&format!("{}_cloudevent", function.handler)),
    })
}

/// The compiler of a source, with its flags.
struct Compiler {
    program: String,
    variable: &'static str,
    flags: Vec<String>,
    /// What `-x` calls its language, once it is preprocessed.
    preprocessed: &'static str,
}

impl Compiler {
    fn of(path: &Path) -> Self {
        let c = path.extension().is_some_and(|e| e == "c");
        let (variable, default, std, preprocessed) = if c {
            ("CC", "cc", "-std=c11", "cpp-output")
        } else {
            ("CXX", "c++", "-std=c++17", "c++-cpp-output")
        };
        let program = std::env::var(variable)
            .ok()
            .filter(|p| !p.trim().is_empty())
            .unwrap_or_else(|| default.into());
        let flags = [std, "-O2", "-g", "-fPIC", "-shared", "-Wall", "-Wextra"]
            .map(String::from)
            .into();
        Self {
            program,
            variable,
            flags,
            preprocessed,
        }
    }

    /// Its first words.
    fn command(&self) -> Command {
        let mut words = self.program.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or("cc"));
        command.args(words).args(&self.flags);
        command
    }

    /// Its name and its number, as it says them.
    fn version(&self, tools: Tools<'_>) -> Result<Vec<u8>, BuildError> {
        let program = self.program.split_whitespace().next().unwrap_or("cc");
        let mut command = Command::new(program);
        command.arg("--version").stdin(Stdio::null());
        let shown = format!("{command:?}");
        Ok(tools.run(&mut command, self.variable, shown)?.stdout)
    }

    /// The text of a source with all that it includes.
    fn preprocess(
        &self,
        source: &Path,
        include: &Path,
        tools: Tools<'_>,
    ) -> Result<Vec<u8>, BuildError> {
        let mut command = self.command();
        command.arg("-I").arg(include).arg("-E").arg(source);
        let shown = format!("{command:?}");
        let output = tools.run(command.stdin(Stdio::null()), self.variable, shown)?;
        Ok(output.stdout)
    }

    /// Compiles such a text, and reads nothing else: no file that may be another
    /// by now. What it says names the places of the source.
    fn compile(
        &self,
        source: &Path,
        text: File,
        to: &Path,
        tools: Tools<'_>,
    ) -> Result<Output, BuildError> {
        let mut command = self.command();
        command
            // The comments that silence this warning are gone from the text.
            .arg("-Wno-implicit-fallthrough")
            .args(["-x", self.preprocessed, "-o"])
            .arg(to)
            .arg("-");
        let shown = format!("{command:?} on the preprocessed {}", source.display());
        tools.run(command.stdin(text), self.variable, shown)
    }
}

/// A C or C++ file. The key covers the preprocessed text (so every header),
/// the compiler's version and the flags, and that text is what is compiled: a
/// file that changes meanwhile, or is half written, is never found under the key
/// of another.
fn compile(path: &Path, cache: &Cache, tools: Tools<'_>) -> Result<PathBuf, BuildError> {
    let name = tools.function;
    let include = cache.include(&lwc_function::sources::HEADERS)?;
    let compiler = Compiler::of(path);
    let version = compiler.version(tools)?;
    let text = compiler.preprocess(path, &include, tools)?;
    let mut key = Sha256::new();
    for part in [
        // Libraries of before, which were compiled from the files, are not these.
        b"preprocessed".as_slice(),
        &version,
        compiler.program.as_bytes(),
        compiler.flags.join("\0").as_bytes(),
        &text,
    ] {
        key.update((part.len() as u64).to_le_bytes());
        key.update(part);
    }
    let library = format!("{name}-{}.so", hex(&key.finalize()));
    cache.file(&library, |to| {
        log::info!("build: function {name}: compiling {}", path.display());
        let out = compiler.compile(path, cache.unnamed(&text)?, to, tools)?;
        let warnings = String::from_utf8_lossy(&out.stderr);
        if !warnings.trim().is_empty() {
            log::warn!("build: function {name}:\n{}", warnings.trim_end());
        }
        Ok(())
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A crate that cargo builds; it decides what has to be built.
struct Crate {
    /// Its folder.
    dir: PathBuf,
    cargo: Running,
}

impl Crate {
    fn start(dir: &Path, cache: &Cache, tools: Tools<'_>) -> Result<Self, BuildError> {
        let dir = dir
            .canonicalize()
            .map_err(|e| Self::error(dir, tools, e.to_string()))?;
        let target = cache.folder(&format!(
            "crate-{}",
            hex(&Sha256::digest(dir.as_os_str().as_encoded_bytes())[..12])
        ))?;
        log::info!(
            "build: function {}: cargo build in {}",
            tools.function,
            dir.display()
        );
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        command
            .args([
                "build",
                "--release",
                "--lib",
                "--message-format=json-render-diagnostics",
                "--color=never",
            ])
            .arg("--target-dir")
            .arg(&target)
            .current_dir(&dir)
            .stdin(Stdio::null());
        let shown = format!("{command:?}");
        let cargo = tools.start(&mut command, "CARGO", shown)?;
        Ok(Self { dir, cargo })
    }

    /// Waits for cargo; the library that it made.
    fn finish(self, tools: Tools<'_>) -> Result<PathBuf, BuildError> {
        let output = tools.finish(self.cargo)?;
        let manifest = self.dir.join("Cargo.toml");
        // One JSON object a line; ours is the artifact of this manifest.
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|m| m["reason"] == "compiler-artifact")
            .filter(|m| m["manifest_path"].as_str() == manifest.to_str())
            .flat_map(|m| m["filenames"].as_array().cloned().unwrap_or_default())
            .filter_map(|f| f.as_str().map(PathBuf::from))
            .find(|f| f.extension().is_some_and(|e| e == "so" || e == "dylib"))
            .ok_or_else(|| {
                let what = "the crate builds no shared library; say crate-type = [\"cdylib\"] under [lib] in its Cargo.toml";
                Self::error(&self.dir, tools, what.into())
            })
    }

    fn error(dir: &Path, tools: Tools<'_>, what: String) -> BuildError {
        BuildError::File {
            function: tools.function.to_owned(),
            path: dir.display().to_string(),
            what,
        }
    }
}
