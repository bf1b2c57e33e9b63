//! `debug`: a function in this process, for debuggers and sanitizers.
//!
//! The same ABI by the host for unit tests ([`TestHost`]), the same environment, secrets
//! and calls, and nothing else of what `run` does: no context, no sandbox, no limit, no
//! deadline, no rollback. Whatever the function does it does to this process, as the user
//! who started it.

use super::{complain, exit, prepare_by, write_out};
use crate::build::{Built, build_with_progress, preloaded};
use crate::chain_file::{ChainFile, ChainId, Function, FunctionName, Origin};
use crate::life::output;
use crate::life::{StartError, Variables, Vault};
use crate::printable::printable_line;
use clap::{Args, ValueEnum};
use libloading::os::unix::Library;
use lwc_function::Outcome;
use lwc_function::abi::{Handler, Initialiser};
use lwc_function::testing::{Answer, Response, TestHost};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The variable by which the loader loads a library before all others.
const PRELOAD: &str = "LD_PRELOAD";

#[derive(Debug, Args)]
pub(super) struct DebugArgs {
    /// The chain file, or the folder of a bundle
    file: PathBuf,
    /// The function
    function: String,
    /// Its input: a file, or - for stdin; nothing if left out
    input: Option<PathBuf>,
    /// Compile it, and what it calls, with a sanitizer of the compiler's (C and C++)
    #[arg(long, value_enum)]
    sanitize: Vec<Sanitizer>,
    /// The input's content type
    #[arg(long, value_name = "TYPE", default_value = "")]
    content_type: String,
    /// An attribute of the input, such as x-tenant=a
    #[arg(long, value_name = "NAME=TEXT", value_parser = attribute)]
    attribute: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sanitizer {
    Address,
    Undefined,
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("say NAME=TEXT")?;
    Ok((name.to_ascii_lowercase(), value.to_owned()))
}

pub(super) fn debug(args: &DebugArgs) -> Result<(), u8> {
    let (file, built) = prepare_by(&args.file, |file| {
        let Some((name, _)) = file.functions.get_key_value(args.function.as_str()) else {
            return Ok(BTreeMap::new());
        };
        let progress = super::progress::Progress::begin();
        let part = part(file, name, &args.sanitize);
        build_with_progress(&part, &mut |doing| progress.at(doing))
    })?;
    let Some(function) = file.functions.get(args.function.as_str()) else {
        let all = file.functions.keys().map(FunctionName::as_str);
        let all = all.collect::<Vec<_>>().join(", ");
        let name = &args.function;
        complain(&format!("no function is called {name:?}; there are: {all}"));
        return Err(exit::USAGE);
    };
    if let Some(place) = function.origin.elsewhere() {
        complain(&format!(
            "function {:?} runs elsewhere, at {place}",
            function.name
        ));
        return Err(exit::USAGE);
    }
    preload(built.values())?;
    let failed = |e: &dyn std::fmt::Display| {
        complain(e);
        exit::START
    };
    let input = input(args.input.as_deref()).map_err(|e| {
        complain(&format!("the input: {e}"));
        exit::USAGE
    })?;
    let answers = stdout_is_the_log().map_err(|e| failed(&format!("stdout: {e}")))?;
    let folder = file.path.parent().filter(|f| !f.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::env::set_current_dir(folder)
            .map_err(|e| failed(&format!("{}: {e}", folder.display())))?;
    }
    let meant = reached(&file, &function.name);
    let chains: Vec<ChainId> = file.chains.keys().cloned().collect();
    let vault = Variables::of_environment(&file, &chains)
        .map_err(StartError::from)
        .and_then(|v| Vault::open(meant.iter().map(|n| &file.functions[n]), v))
        .map_err(|e| failed(&e))?;
    only_its_environment(function, &vault);
    let name = function.name.clone();
    let all = Rc::new(Process {
        file: file.clone(),
        vault,
        loaded: std::cell::RefCell::default(),
        built,
    });
    for name in &meant {
        all.load(name).map_err(|e| failed(&e))?;
    }
    let mut host = all.host(&name, None);
    host = host.content_type(&args.content_type);
    for (name, value) in &args.attribute {
        host = host.attribute(name, value);
    }
    let answer = all.call(&name, &host, &input);
    let mut out = answers;
    out.write_all(&answer.bytes)
        .and_then(|()| out.flush())
        .map_err(|e| {
            complain(&format!("writing the answer: {e}"));
            exit::FAILED
        })?;
    if answer.code == 0 {
        return write_out(b"");
    }
    complain(&format!(
        "function {name:?} reported an error: {} (code {})",
        answer.message, answer.code
    ));
    Err(exit::FAILED)
}

/// A function with those that it calls, and those these call, in this process.
fn reached(file: &ChainFile, first: &FunctionName) -> BTreeSet<FunctionName> {
    let mut found = BTreeSet::new();
    let mut next = vec![first.clone()];
    while let Some(name) = next.pop() {
        let function = &file.functions[&name];
        if function.origin.elsewhere().is_none() && found.insert(name) {
            next.extend(function.calls.iter().cloned());
        }
    }
    found
}

/// The same as a file, compiled with what is asked for.
fn part(file: &ChainFile, first: &FunctionName, sanitize: &[Sanitizer]) -> ChainFile {
    let meant = reached(file, first);
    let mut part = file.clone();
    part.functions.retain(|name, _| meant.contains(name));
    part.chains.clear();
    if sanitize.is_empty() {
        return part;
    }
    for function in part.functions.values_mut() {
        match &mut function.origin {
            Origin::Source(source) => {
                for sanitizer in sanitize {
                    let flag = match sanitizer {
                        Sanitizer::Address => "-fsanitize=address",
                        Sanitizer::Undefined => "-fsanitize=undefined",
                    };
                    source.cflags.push(flag.into());
                }
                source.cflags.push("-fno-omit-frame-pointer".into());
            }
            _ => log::warn!(
                "function {:?} is taken as it is: sanitizers are for C and C++",
                function.name
            ),
        }
    }
    part
}

/// A sanitizer has to be loaded before the C library is used: this program begins anew,
/// with it.
fn preload<'a>(all: impl Iterator<Item = &'a Built>) -> Result<(), u8> {
    let own = std::env::var(PRELOAD).unwrap_or_default();
    let mut wanted: Vec<String> = all.flat_map(|b| preloaded(&b.library)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() || wanted.iter().any(|w| own.contains(w.as_str())) {
        return Ok(());
    }
    wanted.extend(Some(own).filter(|o| !o.is_empty()));
    let mut again = std::process::Command::new("/proc/self/exe");
    again
        .args(std::env::args_os().skip(1))
        .env(PRELOAD, wanted.join(" "));
    if std::env::var_os("ASAN_OPTIONS").is_none() {
        // What this program leaves to the system at its end is not the function's.
        again.env("ASAN_OPTIONS", "detect_leaks=0");
    }
    complain(&format!("starting anew with a sanitizer: {}", again.exec()));
    Err(exit::START)
}

fn input(from: Option<&Path>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match from {
        None => {}
        Some(path) if path == Path::new("-") => {
            std::io::stdin().lock().read_to_end(&mut bytes)?;
        }
        Some(path) => bytes = std::fs::read(path)?,
    }
    Ok(bytes)
}

/// What functions print is their log: it goes to stderr, and only answers go to what
/// stdout was, which is returned.
fn stdout_is_the_log() -> std::io::Result<File> {
    let answers = std::io::stdout().lock();
    let answers = nix::unistd::dup(&answers)?;
    // SAFETY: two numbers; what 1 was is kept.
    if unsafe { libc::dup2(std::io::stderr().as_raw_fd(), 1) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // Whole lines are there before a crash.
    output::by_lines();
    Ok(File::from(answers))
}

/// Nothing is in the environment but what the function is granted. Those that it calls
/// find the same.
fn only_its_environment(function: &Function, vault: &Vault) {
    let all: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in all {
        // SAFETY: this program has one thread.
        unsafe { std::env::remove_var(name) };
    }
    for (name, text) in vault.environment_of(function) {
        let (Ok(name), Ok(text)) = (CString::new(name), CString::new(text)) else {
            continue;
        };
        // SAFETY: both are texts, which the call copies; one thread, as above.
        unsafe { libc::setenv(name.as_ptr(), text.as_ptr(), 1) };
    }
}

/// A handler, and its library, which is never unloaded.
struct Loaded {
    handler: Handler,
    _library: std::mem::ManuallyDrop<Library>,
}

/// All functions of this process.
struct Process {
    file: ChainFile,
    vault: Vault,
    built: BTreeMap<FunctionName, Built>,
    loaded: std::cell::RefCell<BTreeMap<FunctionName, Loaded>>,
}

impl Process {
    fn load(self: &Rc<Self>, name: &FunctionName) -> Result<(), String> {
        let (function, built) = (&self.file.functions[name], &self.built[name]);
        let now = libc::RTLD_NOW | libc::RTLD_LOCAL;
        let open = |path: &Path| {
            // SAFETY: its constructors are the function author's code, which is what
            // this program is asked to run.
            unsafe { Library::open(Some(path), now) }
                .map(std::mem::ManuallyDrop::new)
                .map_err(|e| format!("function {name:?}: cannot load {}: {e}", path.display()))
        };
        for needed in &built.needs {
            open(needed)?;
        }
        let library = open(&built.library)?;
        // SAFETY: lwc_function.h declares handlers so, and the build has seen the
        // version of the ABI.
        let handler = *unsafe { library.get::<Handler>(function.handler.as_bytes()) }
            .map_err(|e| format!("function {name:?}: no handler: {e}"))?;
        if built.has_init {
            let symbol = format!("{}_init", function.handler);
            // SAFETY: as for the handler.
            let init = *unsafe { library.get::<Initialiser>(symbol.as_bytes()) }
                .map_err(|e| format!("function {name:?}: no initialiser: {e}"))?;
            // SAFETY: an initialiser of this ABI.
            let (code, message) = unsafe { self.host(name, None).call_initialiser(init) };
            if code != 0 {
                return Err(format!(
                    "function {name:?}: {symbol} reported an error: {message} (code {code})"
                ));
            }
        }
        let loaded = Loaded {
            handler,
            _library: library,
        };
        self.loaded.borrow_mut().insert(name.clone(), loaded);
        Ok(())
    }

    /// A host with what the function is granted, for one call.
    fn host(self: &Rc<Self>, name: &FunctionName, caller: Option<&FunctionName>) -> TestHost {
        let function = &self.file.functions[name];
        let region = self.file.chains.values().map(|c| c.region).max();
        let mut host = TestHost::new().id("debug");
        if let Some(region) = region.and_then(|r| usize::try_from(r).ok()) {
            host = host.capacity(region);
        }
        let shown = name.clone();
        host = host.on_log(move |level, line| {
            let level = ["", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"]
                .get(usize::try_from(level).unwrap_or(0))
                .unwrap_or(&"");
            eprintln!("[{level:<5} {shown}] {}", printable_line(line, 4096));
        });
        for (secret, bytes) in self.vault.of(name) {
            host = host.secret(secret, &bytes[..]);
        }
        if let Some(caller) = caller {
            host = host.caller(caller.as_str());
        } else if function.ends_request {
            host = host.ends_request();
        }
        for callee in &function.calls {
            let (all, caller, callee_name) = (self.clone(), name.clone(), callee.clone());
            host = host.callee(callee.as_str(), move |request| {
                if all.file.functions[&callee_name]
                    .origin
                    .elsewhere()
                    .is_some()
                {
                    return Response::failed(Outcome::Unavailable, "`debug` asks nobody elsewhere");
                }
                let mut host = all.host(&callee_name, Some(&caller));
                host = host.content_type(request.content_type);
                for (name, value) in request.attributes {
                    host = host.attribute(name, value);
                }
                all.call(&callee_name, &host, request.bytes).into()
            });
        }
        host
    }

    fn call(&self, name: &FunctionName, host: &TestHost, input: &[u8]) -> Answer {
        let handler = self.loaded.borrow().get(name).map(|l| l.handler);
        match handler {
            // SAFETY: a handler of this ABI; what it does to this process is what is
            // looked for.
            Some(handler) => unsafe { host.call_handler(handler, input) },
            None => host.call(
                |_| Err(lwc_function::Error::new(500, "it is not loaded")),
                input,
            ),
        }
    }
}
