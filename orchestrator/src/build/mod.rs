//! From a function's origin to a shared library with its handler.
//!
//! Sources are compiled by the system's compiler into a cache keyed by
//! content; crates are built by cargo; libraries are taken as they are, or from a
//! bundle. No library is loaded here: its constructors are the function author's
//! code, and run in the function's own context alone.

mod bundle;
mod cache;
mod compiler;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod confine;
mod crates;
mod digest;
mod error;
mod harden;
mod library;
mod loader;
mod plan;
mod tool;

pub use bundle::{Bundle, BundleError, Made, write as write_bundle};
pub use cache::Cache;
pub use error::{BuildError, Functions};
pub use tool::Stop;

use crate::chain_file::{ChainFile, Function, FunctionName, Origin};
use library::{Exported, Machine};
use lwc_function::abi::ABI;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tool::{Pool, ToolError};

/// A function that can be loaded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Built {
    /// The shared library.
    pub library: PathBuf,
    /// Whether it has an initialiser, `HANDLER_init`.
    pub has_init: bool,
    /// Whether it takes CloudEvents alone: it has the mark `HANDLER_cloudevent`.
    pub takes_events: bool,
    /// Other libraries of a bundle, which are loaded before it, in this order.
    pub needs: Vec<PathBuf>,
}

/// What a build is at, once a second: what has taken longest of what it does.
#[derive(Debug, Clone, Copy)]
pub struct Doing<'a> {
    /// Such as `compiling f.c`.
    pub what: &'a str,
    /// Files, libraries and crates that are done.
    pub done: usize,
    /// All of them.
    pub all: usize,
    /// What the tool said last, which may be nothing.
    pub line: &'a str,
}

/// Hears, about once a second while a build goes on, what it is at.
pub type Progress<'a> = &'a mut dyn FnMut(&Doing<'_>);

/// How to build.
#[derive(Default)]
struct Options<'a> {
    stop: Option<&'a Stop>,
    progress: Option<Progress<'a>>,
    /// Another machine than this one, for which the compilers that are named compile.
    target: Option<&'a str>,
    /// Where the libraries are from, and what they need.
    bundle: Option<&'a Bundle>,
}

/// Builds every function of a file.
///
/// # Errors
/// All functions that cannot be built, not only the first.
pub fn build(file: &ChainFile) -> Result<BTreeMap<FunctionName, Built>, Vec<BuildError>> {
    build_all(file, Options::default())
}

/// The same, and tells what it is at.
///
/// # Errors
/// All functions that cannot be built, not only the first.
pub fn build_with_progress(
    file: &ChainFile,
    progress: Progress<'_>,
) -> Result<BTreeMap<FunctionName, Built>, Vec<BuildError>> {
    let options = Options {
        progress: Some(progress),
        ..Options::default()
    };
    build_all(file, options)
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
    let options = Options {
        stop: Some(stop),
        ..Options::default()
    };
    build_all(file, options)
}

/// The same for another machine, by the compilers that `CC`, `CXX` and cargo are:
/// `target` is the name of one that a bundle can be for, and what cargo calls it.
///
/// # Errors
/// All functions that cannot be built, not only the first.
pub fn build_for(
    file: &ChainFile,
    target: &str,
    progress: Progress<'_>,
) -> Result<BTreeMap<FunctionName, Built>, Vec<BuildError>> {
    let options = Options {
        progress: Some(progress),
        target: Some(target),
        ..Options::default()
    };
    build_all(file, options)
}

/// Whether there are machines of this name that functions can be built for.
pub fn is_target(name: &str) -> bool {
    Machine::named(name).is_some()
}

/// Finds the functions of a bundle's chain file in it; nothing is compiled.
///
/// # Errors
/// All functions that cannot be loaded, not only the first.
pub fn find_in(
    bundle: &Bundle,
    file: &ChainFile,
) -> Result<BTreeMap<FunctionName, Built>, Vec<BuildError>> {
    let options = Options {
        bundle: Some(bundle),
        ..Options::default()
    };
    build_all(file, options)
}

fn build_all(
    file: &ChainFile,
    options: Options<'_>,
) -> Result<BTreeMap<FunctionName, Built>, Vec<BuildError>> {
    let machine = options.target.and_then(Machine::named);
    let machine = machine.unwrap_or(Machine::HERE);
    let stop = options.stop;
    let needs = match options.bundle {
        Some(bundle) => bundle.needs(file).map_err(|e| vec![e])?,
        None => BTreeMap::new(),
    };
    let mut errors = Vec::new();
    let mut made = Vec::new();
    let compiled = |o: &Origin| {
        matches!(
            o,
            Origin::Source(_) | Origin::Crate(_) | Origin::ProgramCrate(_)
        )
    };
    if file.functions.values().any(|f| compiled(&f.origin)) {
        let cache = Cache::open().map_err(|e| vec![e])?;
        let outcome = plan::build(file, &cache, options);
        (made, errors) = (outcome.made, outcome.errors);
    }
    for (name, function) in &file.functions {
        if let Origin::Library(path) = &function.origin {
            let functions = Functions::of(name);
            match path.canonicalize() {
                Ok(path) => made.push((functions, path)),
                Err(e) => errors.push(BuildError::file(&functions, path, e)),
            }
        }
    }
    let mut built = BTreeMap::new();
    let mut loadable = Vec::new();
    for (functions, library) in made {
        let exported = match library::exported(&library, machine) {
            Ok(exported) => exported,
            Err(what) => {
                errors.push(BuildError::file(&functions, &library, what));
                continue;
            }
        };
        let needs = needs.get(&library).cloned().unwrap_or_default();
        for name in functions.names() {
            match look_into(&file.functions[name], &library, &exported) {
                Ok(b) => {
                    let b = Built {
                        needs: needs.clone(),
                        ..b
                    };
                    log::debug!("build: function {name}: {}", library.display());
                    built.insert(name.clone(), b);
                }
                Err(e) => errors.push(e),
            }
        }
        loadable.push((functions, library, needs));
    }
    if machine == Machine::HERE {
        errors.extend(unresolved(&loadable, stop));
    }
    if errors.is_empty() {
        Ok(built)
    } else {
        Err(errors)
    }
}

/// The folder of what authors of functions need, put there if it is not: the headers in
/// `include`, and all of it a crate, `lwc-function`.
///
/// # Errors
/// There is no cache.
pub(crate) fn author_library(cache: &Cache) -> Result<PathBuf, BuildError> {
    cache.texts("lwc-function", &lwc_function::sources::CRATE)
}

/// The libraries that a library needs and that have to be in a process before all
/// others: the sanitizers that watch each allocation.
pub(crate) fn preloaded(library: &Path) -> Vec<String> {
    let needed = library::Linked::of(library).unwrap_or_default().needs;
    let is = |n: &&str| {
        ["libasan.", "libtsan.", "liblsan.", "libclang_rt.asan"]
            .iter()
            .any(|s| n.starts_with(s))
    };
    let found = needed.iter().map(String::as_str).filter(is);
    found.map(String::from).collect()
}

/// Asks the system's loader for what is missing, where it says.
fn unresolved(
    libraries: &[(Functions, PathBuf, Vec<PathBuf>)],
    stop: Option<&Stop>,
) -> Vec<BuildError> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut errors = Vec::new();
    let mut pool = Pool::new(stop);
    let mut waiting = libraries.iter();
    let mut symbols = None;
    loop {
        while pool.running().count() < processors
            && let Some((functions, library, needs)) = waiting.next()
        {
            let Some(mut command) = loader::ask(library, needs) else {
                return errors;
            };
            let called = compiler::shown(&command);
            let on = (functions, library, needs);
            if let Err(e) = pool.start(on, &mut command, "PATH", called) {
                errors.push(BuildError::tool(functions, e));
            }
        }
        // While the first of them look.
        let symbols = symbols.get_or_insert_with(|| {
            loader::Symbols::of(libraries.iter().map(|(_, path, _)| path.as_path()))
        });
        let Some(((functions, library, needs), answer)) = pool.next(&mut |_| {}) else {
            return errors;
        };
        let missing = match answer {
            Ok(out) => loader::told(&out.stdout, &out.stderr)
                .and_then(|needed| symbols.undefined(library, needs, &needed)),
            Err(ToolError::Failed {
                status,
                output,
                stdout,
                ..
            }) => Err(loader::refused(&status, &stdout, &output)),
            Err(e) => {
                errors.push(BuildError::tool(functions, e));
                continue;
            }
        };
        if let Err(what) = missing {
            errors.push(BuildError::Unresolved {
                functions: functions.clone(),
                library: library.display().to_string(),
                what,
            });
        }
    }
}

/// A function's library, if it has the function's handler.
fn look_into(
    function: &Function,
    library: &Path,
    exported: &Exported,
) -> Result<Built, BuildError> {
    let Exported { names, numbers } = exported;
    if !names.contains(&function.handler) {
        let hint = match crate::chain_file::nearest_name(&function.handler, names) {
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
        library: library.to_owned(),
        has_init: names.contains(&format!("{}_init", function.handler)),
        takes_events: names.contains(&format!("{}_cloudevent", function.handler)),
        needs: Vec::new(),
    })
}
