//! All that has to be built for a file, each thing once, as many at a time as there
//! are processors.
//!
//! A **unit** is a source with its flags, whoever uses it; a **library** is some
//! units linked; a crate is cargo's. Functions share them. What is compiled is a
//! unit's preprocessed text, so every header is in it, and that text with the
//! compiler and the flags is the key of its object: a file that changes meanwhile, or
//! is half written, is never found under the key of another.

use super::compiler::{Compiler, Language, shown};
use super::digest::key;
use super::tool::{Pool, ToolError};
use super::{BuildError, Cache, Doing, Functions, Options, crates, harden};
use crate::chain_file::{ChainFile, Function, Harden, Link, Origin, Source, Target};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempPath;

/// Crates that cargo builds at the same time: each uses all processors where it
/// can, and has phases where it cannot.
const CRATES_AT_ONCE: usize = 2;

/// What every source is compiled with. By its frames the log tells where it crashed.
const USUAL: [&str; 6] = [
    "-O2",
    "-g",
    "-fPIC",
    "-fno-omit-frame-pointer",
    "-Wall",
    "-Wextra",
];

/// Symbols are bound when a function is loaded, and none is missing; what is linked
/// is needed. (Functions of libm were always there: this program has it loaded.)
const LINKED: [&str; 4] = ["-lm", "-Wl,-z,now", "-Wl,-z,relro", "-Wl,-z,noexecstack"];

/// A symbol that nothing has is refused by the linker already. On FreeBSD by the loader
/// alone: `environ` and `__progname` are the program's there, and in no library.
const DEFINED: &str = "-Wl,-z,defs";

/// What a program that knows nothing of functions is compiled and linked with: its
/// handler, and the streams of C++ where any of its files is C++.
const PROGRAM: [(&str, &str); 3] = [
    ("lwc_program.h", include_str!("program/lwc_program.h")),
    ("lwc_program.c", include_str!("program/lwc_program.c")),
    ("lwc_program.cpp", include_str!("program/lwc_program.cpp")),
];

/// And one in Rust beside.
const PROGRAM_RUST: (&str, &str) = (
    "lwc_program_rust.c",
    include_str!("program/lwc_program_rust.c"),
);

/// What a function that is written to the Functions Framework for C++ is linked with: its
/// handler.
const TARGET: (&str, &str) = ("lwc_target.cpp", include_str!("target/lwc_target.cpp"));

/// Its calls that are answered there; its own `main` is the one that is called.
const PROGRAM_LINKED: [&str; 9] = [
    "-Wl,--wrap=read",
    "-Wl,--wrap=__read_chk",
    "-Wl,--wrap=write",
    "-Wl,--wrap=exit",
    "-Wl,--wrap=_exit",
    "-Wl,--wrap=_Exit",
    "-Wl,--wrap=_ZNSt8ios_base15sync_with_stdioEb",
    "-Wl,--wrap=_ZNSt3__18ios_base15sync_with_stdioEb",
    "-Wl,-Bsymbolic",
];

/// A source and its flags.
struct Unit {
    /// Its folder, without links on the way, and its name there: one spelling. The
    /// last part may be a link, beside which its headers are.
    folder: PathBuf,
    name: OsString,
    language: Language,
    harden: Option<Harden>,
    /// What is asked for: standard, flags, packages.
    flags: Vec<String>,
    /// Where its text is gathered from.
    include: Vec<PathBuf>,
    functions: Functions,
    /// Its text while it is compiled, and the object's name.
    text: Option<(File, Option<String>)>,
    /// What the preprocessor said.
    said: Vec<u8>,
    scratch: Option<TempPath>,
    object: Option<PathBuf>,
}

impl Unit {
    /// Whether both become the same object.
    fn is_same(&self, other: &Self) -> bool {
        (&self.folder, &self.name) == (&other.folder, &other.name)
            && (self.harden, &self.flags, &self.include)
                == (other.harden, &other.flags, &other.include)
    }

    fn shown(&self) -> String {
        self.folder.join(&self.name).display().to_string()
    }
}

/// Units that are linked.
struct Library {
    units: Vec<usize>,
    /// What they are linked with.
    link: Vec<String>,
    stem: String,
    functions: Functions,
    /// The library's name, where it is known before it is made.
    name: Option<String>,
    scratch: Option<TempPath>,
}

struct Crate {
    folder: PathBuf,
    /// Whether it is a program, and no library.
    program: bool,
    harden: Option<Harden>,
    functions: Functions,
}

/// Something that a tool is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Preprocess(usize),
    Compile(usize),
    Link(usize),
    Crate(usize),
}

struct Plan<'c, 'a> {
    cache: &'c Cache,
    options: Options<'a>,
    compilers: BTreeMap<Language, Compiler>,
    /// The flags that hardening is, by language.
    hardened: BTreeMap<Language, Vec<String>>,
    units: Vec<Unit>,
    libraries: Vec<Library>,
    crates: Vec<Crate>,
    ready: VecDeque<Task>,
    waiting_crates: VecDeque<Task>,
    done: usize,
    /// Made libraries, and whose they are.
    made: Vec<(Functions, PathBuf)>,
    errors: Vec<BuildError>,
}

/// What came of it: the library of each function that has one, and every error.
pub(super) struct Outcome {
    pub(super) made: Vec<(Functions, PathBuf)>,
    pub(super) errors: Vec<BuildError>,
}

/// Builds all that is not a library already.
pub(super) fn build(file: &ChainFile, cache: &Cache, options: Options<'_>) -> Outcome {
    let mut plan = Plan {
        cache,
        options,
        compilers: BTreeMap::new(),
        hardened: BTreeMap::new(),
        units: Vec::new(),
        libraries: Vec::new(),
        crates: Vec::new(),
        ready: VecDeque::new(),
        waiting_crates: VecDeque::new(),
        done: 0,
        made: Vec::new(),
        errors: Vec::new(),
    };
    plan.gather(file);
    plan.run();
    Outcome {
        made: plan.made,
        errors: plan.errors,
    }
}

/// What is asked before anything is compiled.
enum Question {
    Version(Language),
    Packages(usize),
    Harden(Language, harden::Question),
}

/// A function whose sources are gathered.
struct Wanted<'f> {
    function: &'f Function,
    source: &'f Source,
    /// The flags of its packages: to compile, to link.
    packages: [Vec<String>; 2],
    failed: bool,
}

impl Plan<'_, '_> {
    /// What there is to do, each thing once.
    fn gather(&mut self, file: &ChainFile) {
        let mut wanted = Vec::new();
        for function in file.functions.values() {
            match &function.origin {
                Origin::Source(source) => wanted.push(Wanted {
                    function,
                    source,
                    packages: [Vec::new(), Vec::new()],
                    failed: false,
                }),
                Origin::Crate(folder) => self.add_crate(function, folder, false),
                Origin::ProgramCrate(folder) => self.add_crate(function, folder, true),
                Origin::Library(_) | Origin::Remote(_) | Origin::Url(_) | Origin::Group(_) => {}
            }
        }
        self.ask(&mut wanted);
        for Wanted {
            function,
            source,
            packages: [compile, link],
            ..
        } in wanted.iter().filter(|w| !w.failed)
        {
            if let Err(e) = self.add_library(function, source, compile, link) {
                self.errors.push(e);
            }
        }
    }

    fn add_crate(&mut self, function: &Function, folder: &Path, program: bool) {
        let name = &function.name;
        let folder = match folder.canonicalize() {
            Ok(folder) => folder,
            Err(e) => {
                let error = BuildError::file(&Functions::of(name), folder, e);
                return self.errors.push(error);
            }
        };
        let same = |c: &&mut Crate| {
            (&c.folder, c.program, c.harden) == (&folder, program, function.harden)
        };
        match self.crates.iter_mut().find(same) {
            Some(there) => there.functions.add(name),
            None => {
                self.waiting_crates
                    .push_back(Task::Crate(self.crates.len()));
                self.crates.push(Crate {
                    folder,
                    program,
                    harden: function.harden,
                    functions: Functions::of(name),
                });
            }
        }
    }

    /// Asks compilers and pkg-config what has to be known first.
    fn ask(&mut self, wanted: &mut [Wanted<'_>]) {
        for language in Language::ALL {
            if wanted.iter().any(|w| uses(w, language)) {
                self.compilers.insert(language, Compiler::of(language));
            }
        }
        let mut pool = Pool::new(self.options.stop);
        // By compiler, whether it failed and why; told of all its functions.
        let mut broken: BTreeMap<Language, ToolError> = BTreeMap::new();
        for (language, compiler) in &self.compilers {
            let mut command = compiler.ask_version();
            let called = shown(&command);
            let question = Question::Version(*language);
            if let Err(e) = pool.start(question, &mut command, language.variable(), called) {
                broken.insert(*language, e);
            }
        }
        for (n, w) in wanted.iter_mut().enumerate() {
            if w.source.pkg_config.is_empty() {
                continue;
            }
            let program = std::env::var_os("PKG_CONFIG").filter(|p| !p.is_empty());
            let mut command = Command::new(program.unwrap_or_else(|| "pkg-config".into()));
            command
                .args(["--print-errors", "--cflags", "--libs", "--"])
                .args(&w.source.pkg_config)
                .stdin(std::process::Stdio::null());
            let called = shown(&command);
            let started = pool.start(Question::Packages(n), &mut command, "PKG_CONFIG", called);
            if let Err(e) = started {
                w.failed = true;
                let functions = Functions::of(&w.function.name);
                self.errors.push(BuildError::tool(&functions, e));
            }
        }
        while let Some((question, answer)) = pool.next(&mut |_| {}) {
            match (question, answer) {
                (Question::Version(language), Ok(out)) => {
                    if let Some(compiler) = self.compilers.get_mut(&language) {
                        compiler.is(&out.stdout);
                    }
                }
                (Question::Version(language), Err(e)) => {
                    broken.insert(language, e);
                }
                (Question::Packages(n), answer) => {
                    let w = &mut wanted[n];
                    let functions = Functions::of(&w.function.name);
                    let words = answer
                        .map_err(|e| BuildError::tool(&functions, e))
                        .and_then(|out| {
                            let said = String::from_utf8_lossy(&out.stdout).into_owned();
                            shlex::split(&said).ok_or_else(|| BuildError::Compiler {
                                functions: functions.clone(),
                                command: "pkg-config".into(),
                                status: "it says what is no list of flags".into(),
                                output: said,
                            })
                        });
                    match words {
                        Ok(words) => {
                            let of_linker = |w: &String| {
                                w.starts_with("-l") || w.starts_with("-L") || w.starts_with("-Wl,")
                            };
                            let (link, compile) = words.into_iter().partition(of_linker);
                            w.packages = [compile, link];
                        }
                        Err(e) => {
                            w.failed = true;
                            self.errors.push(e);
                        }
                    }
                }
                (Question::Harden(..), _) => {}
            }
        }
        for (language, error) in broken {
            let users = fail(wanted, |w| uses(w, language));
            if let Some(functions) = users {
                self.errors.push(BuildError::tool(&functions, error));
            }
        }
        self.ask_to_harden(wanted);
    }

    /// Finds what hardening is with each compiler that is to do it.
    fn ask_to_harden(&mut self, wanted: &mut [Wanted<'_>]) {
        let mut pool = Pool::new(self.options.stop);
        let mut has: BTreeMap<Language, Vec<harden::Question>> = BTreeMap::new();
        let mut objects = Vec::new();
        for (language, compiler) in &self.compilers {
            let is_user = |w: &Wanted<'_>| hardens(w, *language) && !w.failed;
            if !wanted.iter().any(is_user) {
                continue;
            }
            // Known from an earlier time: pairs of numbers.
            if let Some(kept) = self.cache.find(&kept_answers(compiler))
                && let Ok(text) = std::fs::read(kept)
                && let Ok(answers) = serde_json::from_slice(&text)
            {
                has.insert(*language, answers);
                continue;
            }
            has.insert(*language, Vec::new());
            for (question, mut command, program) in harden::questions(compiler) {
                let text = self.cache.unnamed(program.as_bytes());
                let asked = text.and_then(|text| {
                    let scratch = self.cache.scratch(".o")?;
                    command.arg("-o").arg(&scratch).stdin(text);
                    objects.push(scratch);
                    let question = Question::Harden(*language, question);
                    // One that cannot be run has not what is asked for.
                    let _ = pool.start(question, &mut command, language.variable(), String::new());
                    Ok(())
                });
                if let Err(e) = asked {
                    self.errors.push(e);
                }
            }
        }
        while let Some((question, answer)) = pool.next(&mut |_| {}) {
            if let (Question::Harden(language, question), Ok(_)) = (question, answer) {
                has.entry(language).or_default().push(question);
            }
        }
        for (language, has) in has {
            let compiler = &self.compilers[&language];
            match harden::flags(language, &has) {
                Ok(flags) => {
                    // What is missing today may be installed tomorrow.
                    if let Ok(text) = serde_json::to_vec(&has)
                        && let Err(e) = self.cache.put(&kept_answers(compiler), &text)
                    {
                        log::debug!("build: {e}");
                    }
                    self.hardened.insert(language, flags);
                }
                Err(missing) => {
                    if let Some(functions) = fail(wanted, |w| hardens(w, language)) {
                        self.errors.push(BuildError::Harden {
                            functions,
                            compiler: compiler.version.clone(),
                            missing,
                            variable: language.variable(),
                        });
                    }
                }
            }
        }
    }

    /// The folder with what a program in Rust is linked with.
    fn shim_of_rust(&self) -> Result<PathBuf, BuildError> {
        let mut files = lwc_function::sources::HEADERS.to_vec();
        files.extend(&PROGRAM[..2]);
        files.push(PROGRAM_RUST);
        self.cache.include(&files)
    }

    /// A library of sources, or one more function of one that is there.
    fn add_library(
        &mut self,
        function: &Function,
        source: &Source,
        compile: &[String],
        link: &[String],
    ) -> Result<(), BuildError> {
        let name = &function.name;
        let real = |path: &Path| {
            path.canonicalize()
                .map_err(|e| BuildError::file(&Functions::of(name), path, e))
        };
        let mut headers = lwc_function::sources::HEADERS.to_vec();
        if source.program {
            headers.extend(PROGRAM);
        }
        if source.target.is_some() {
            headers.extend(lwc_function::sources::FUNCTIONS_FRAMEWORK);
            headers.push(TARGET);
        }
        let ours = self.cache.include(&headers)?;
        let mut include = vec![ours.clone()];
        for folder in &source.include {
            include.push(real(folder)?);
        }
        let mut linked = Vec::new();
        for item in &source.link {
            match item {
                Link::Named(name) => linked.push(format!("-l{name}")),
                Link::File(path) => linked.push(real(path)?.display().to_string()),
            }
        }
        linked.extend_from_slice(link);
        let mut units = Vec::new();
        for path in &source.files {
            let unit = self.unit(function, source, path, compile, &include, &real)?;
            if !units.contains(&unit) {
                units.push(unit);
            }
        }
        if source.program {
            linked.extend(PROGRAM_LINKED.map(String::from));
            let any_cpp = source
                .files
                .iter()
                .any(|f| Language::of(f) == Language::Cpp);
            for (name, _) in &PROGRAM[1..=1 + usize::from(any_cpp)] {
                let shim = Source::of(ours.join(name));
                let include = std::slice::from_ref(&ours);
                units.push(self.unit(function, &shim, &shim.files[0], &[], include, &real)?);
            }
        }
        if let Some(target) = &source.target {
            let mut shim = Source::of(ours.join(TARGET.0));
            shim.cflags = handler_of(target);
            // With the standard of the rest: both have the same classes.
            shim.std.clone_from(&source.std);
            let include = std::slice::from_ref(&ours);
            units.push(self.unit(function, &shim, &shim.files[0], &[], include, &real)?);
        }
        let same = |l: &&mut Library| l.units == units && l.link == linked;
        match self.libraries.iter_mut().find(same) {
            Some(there) => there.functions.add(name),
            None => {
                let stem = source.files[0].file_stem().unwrap_or_default();
                self.libraries.push(Library {
                    units,
                    link: linked,
                    stem: stem.to_string_lossy().into_owned(),
                    functions: Functions::of(name),
                    name: None,
                    scratch: None,
                });
            }
        }
        Ok(())
    }

    /// The number of a unit, which is added where there is none like it.
    fn unit(
        &mut self,
        function: &Function,
        source: &Source,
        path: &Path,
        packages: &[String],
        include: &[PathBuf],
        real: &dyn Fn(&Path) -> Result<PathBuf, BuildError>,
    ) -> Result<usize, BuildError> {
        let language = Language::of(path);
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let folder = real(folder.unwrap_or(Path::new(".")))?;
        let standard = source.std[language as usize].as_deref();
        let standard = standard.unwrap_or(language.standard());
        let mut flags = vec![format!("-std={standard}")];
        flags.extend_from_slice(&source.cflags);
        flags.extend_from_slice(packages);
        let unit = Unit {
            folder,
            name: path.file_name().unwrap_or_default().to_owned(),
            language,
            harden: function.harden,
            flags,
            include: include.to_vec(),
            functions: Functions::of(&function.name),
            text: None,
            said: Vec::new(),
            scratch: None,
            object: None,
        };
        if let Some(n) = self.units.iter().position(|u| u.is_same(&unit)) {
            self.units[n].functions.add(&function.name);
            return Ok(n);
        }
        self.units.push(unit);
        let n = self.units.len() - 1;
        self.ready.push_back(Task::Preprocess(n));
        Ok(n)
    }

    /// Does all of it: while anything is ready and a processor free, starts it.
    fn run(&mut self) {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut pool: Pool<'_, Task> = Pool::new(self.options.stop);
        loop {
            // Crates take longest: they are started first, and the rest beside.
            let crates = |pool: &Pool<'_, Task>| {
                let crates = pool.running().filter(|t| matches!(t, Task::Crate(_)));
                crates.count()
            };
            while crates(&pool) < CRATES_AT_ONCE
                && let Some(task) = self.waiting_crates.pop_front()
            {
                self.start(task, &mut pool);
            }
            while pool.running().count() - crates(&pool) < processors
                && let Some(task) = self.ready.pop_front()
            {
                self.start(task, &mut pool);
            }
            let (units, libraries) = (&self.units, &self.libraries);
            let all = units.len() + libraries.len() + self.crates.len();
            let (done, folders) = (self.done, &self.crates);
            let progress = &mut self.options.progress;
            let next = pool.next(&mut |at_work| {
                // What takes longest is what is waited for.
                let longest = at_work.iter().min_by_key(|w| w.since);
                if let (Some(progress), Some(work)) = (progress.as_mut(), longest) {
                    let what = match *work.on {
                        Task::Preprocess(n) | Task::Compile(n) => {
                            format!("compiling {}", units[n].name.to_string_lossy())
                        }
                        Task::Link(n) => format!("linking {}", libraries[n].stem),
                        Task::Crate(n) => {
                            let folder = folders[n].folder.file_name().unwrap_or_default();
                            format!("cargo in {}", folder.to_string_lossy())
                        }
                    };
                    let line = &work.line;
                    progress(&Doing {
                        what: &what,
                        done,
                        all,
                        line,
                    });
                }
            });
            match next {
                Some((task, answer)) => self.ended(task, answer),
                None if self.ready.is_empty() && self.waiting_crates.is_empty() => return,
                // Whatever was started has failed at once.
                None => {}
            }
        }
    }

    fn functions_of(&self, task: Task) -> &Functions {
        match task {
            Task::Preprocess(n) | Task::Compile(n) => &self.units[n].functions,
            Task::Link(n) => &self.libraries[n].functions,
            Task::Crate(n) => &self.crates[n].functions,
        }
    }

    fn start(&mut self, task: Task, pool: &mut Pool<'_, Task>) {
        let prepared = match task {
            Task::Preprocess(n) => Ok(self.preprocess(n)),
            Task::Compile(n) => self.compile(n),
            Task::Link(n) => self.link(n),
            Task::Crate(n) => {
                let Crate {
                    folder,
                    program,
                    harden,
                    ..
                } = &self.crates[n];
                log::info!(
                    "build: {}: cargo build in {}",
                    self.crates[n].functions,
                    folder.display()
                );
                let target = self.options.target;
                let shim = match program {
                    true => self.shim_of_rust().map(Some),
                    false => Ok(None),
                };
                shim.and_then(|s| crates::cargo(folder, *harden, s.as_deref(), target, self.cache))
                    .map(|c| (c.command, "CARGO", c.shown))
            }
        };
        let started = prepared.and_then(|(mut command, variable, called)| {
            pool.start(task, &mut command, variable, called)
                .map_err(|e| BuildError::tool(self.functions_of(task), e))
        });
        if let Err(e) = started {
            self.errors.push(e);
        }
    }

    fn ended(&mut self, task: Task, answer: Result<Output, ToolError>) {
        let answer = answer.map_err(|e| BuildError::tool(self.functions_of(task), e));
        let took = answer.and_then(|output| match task {
            Task::Preprocess(n) => self.preprocessed(n, output),
            Task::Compile(n) => self.compiled(n, &output),
            Task::Link(n) => self.linked(n, &output),
            Task::Crate(n) => {
                let Crate {
                    folder,
                    program,
                    functions,
                    ..
                } = &self.crates[n];
                let library =
                    crates::library(folder, *program, &output.stdout, functions, self.cache)?;
                self.made.push((functions.clone(), library));
                self.done += 1;
                Ok(())
            }
        });
        if let Err(e) = took {
            self.errors.push(e);
        }
    }

    /// A unit's flags in the order in which they hold: none undoes what hardens.
    fn flags(&self, unit: &Unit) -> Vec<String> {
        let mut flags: Vec<String> = USUAL.map(String::from).into();
        flags.extend_from_slice(&unit.flags);
        if unit.harden.is_some() {
            let hardened = self.hardened.get(&unit.language);
            flags.extend(hardened.into_iter().flatten().cloned());
        }
        flags
    }

    /// Its text, with all that it includes.
    fn preprocess(&self, n: usize) -> (Command, &'static str, String) {
        let unit = &self.units[n];
        let mut command = self.compilers[&unit.language].command();
        command.args(self.flags(unit)).current_dir(&unit.folder);
        for folder in &unit.include {
            command.arg("-I").arg(folder);
        }
        command.arg("-E").arg(unit.folder.join(&unit.name));
        let called = shown(&command);
        (command, unit.language.variable(), called)
    }

    fn preprocessed(&mut self, n: usize, output: Output) -> Result<(), BuildError> {
        let text = output.stdout;
        let flags = self.flags(&self.units[n]);
        let unit = &mut self.units[n];
        let folder = unit.folder.as_os_str().as_encoded_bytes();
        let identity = &self.compilers[&unit.language].identity;
        let parts = [
            b"object 1",
            identity.as_bytes(),
            unit.language.called().as_bytes(),
            folder,
            &text,
        ];
        let flags = flags.iter().map(String::as_bytes);
        let object = format!("object-{}.o", key(parts.into_iter().chain(flags)));
        // What the assembler reads is not in the text.
        let whole = !reads_more(&text);
        if whole && let Some(found) = self.cache.find(&object) {
            unit.object = Some(found);
            self.done += 1;
            return self.units_done(n);
        }
        unit.text = Some((self.cache.unnamed(&text)?, whole.then_some(object)));
        unit.said = output.stderr;
        self.ready.push_front(Task::Compile(n));
        Ok(())
    }

    /// Compiles a text that has been preprocessed, and reads nothing else: no file
    /// that may be another by now. What it says names the places of the source.
    fn compile(&mut self, n: usize) -> Result<(Command, &'static str, String), BuildError> {
        let flags = self.flags(&self.units[n]);
        let unit = &mut self.units[n];
        log::info!("build: {}: compiling {}", unit.functions, unit.shown());
        let scratch = self.cache.scratch(".o")?;
        let compiler = &self.compilers[&unit.language];
        let mut command = compiler.command();
        command
            // The text defines them already.
            .args(
                flags
                    .iter()
                    .filter(|f| !f.starts_with("-D") && !f.starts_with("-U")),
            )
            // The comments that silence this warning are gone from the text.
            .arg("-Wno-implicit-fallthrough")
            .args(["-x", compiler.preprocessed(), "-c", "-o"])
            .arg(&scratch)
            .arg("-")
            .current_dir(&unit.folder);
        if let Some((text, _)) = &unit.text {
            let text = text
                .try_clone()
                .map_err(|e| BuildError::file(&unit.functions, &unit.folder.join(&unit.name), e))?;
            command.stdin(text);
        }
        unit.scratch = Some(scratch);
        let called = format!("{} on the preprocessed {}", shown(&command), unit.shown());
        Ok((command, unit.language.variable(), called))
    }

    fn compiled(&mut self, n: usize, output: &Output) -> Result<(), BuildError> {
        let unit = &mut self.units[n];
        let mut said = String::from_utf8_lossy(&unit.said).into_owned();
        said += &String::from_utf8_lossy(&output.stderr);
        if !said.trim().is_empty() {
            log::warn!("build: {}:\n{}", unit.functions, said.trim_end());
        }
        let (Some(scratch), Some((_, name))) = (unit.scratch.take(), unit.text.take()) else {
            return Ok(());
        };
        unit.object = Some(match name {
            Some(name) => self.cache.keep(scratch, &name)?,
            None => self.cache.keep_by_content(scratch, "object", ".o")?,
        });
        self.done += 1;
        self.units_done(n)
    }

    /// A unit is there: libraries whose last it was are linked.
    fn units_done(&mut self, unit: usize) -> Result<(), BuildError> {
        for n in 0..self.libraries.len() {
            let library = &self.libraries[n];
            if !library.units.contains(&unit) {
                continue;
            }
            let objects = library.units.iter();
            let objects: Option<Vec<&PathBuf>> =
                objects.map(|&u| self.units[u].object.as_ref()).collect();
            let Some(objects) = objects else { continue };
            // What it is linked with is on the system, and may be another tomorrow:
            // such a library is linked each time, and called by what it has become.
            if library.link.is_empty() {
                let linker = self.linker(library);
                let mut parts = vec![b"library 1".as_slice(), linker.identity.as_bytes()];
                parts.extend(objects.iter().map(|o| o.as_os_str().as_encoded_bytes()));
                let last = self.last_words();
                parts.extend(last.iter().map(|l| l.as_bytes()));
                let name = format!("{}-{}.so", library.stem, key(parts));
                if let Some(found) = self.cache.find(&name) {
                    self.made.push((library.functions.clone(), found));
                    self.done += 1;
                    continue;
                }
                self.libraries[n].name = Some(name);
            }
            self.ready.push_front(Task::Link(n));
        }
        Ok(())
    }

    /// The compiler that links a library: that of C++ where any part of it is C++.
    fn linker(&self, library: &Library) -> &Compiler {
        let languages = library.units.iter().map(|&u| self.units[u].language);
        let language = languages.max().unwrap_or(Language::C);
        &self.compilers[&language]
    }

    /// What every library is linked with, behind all else.
    fn last_words(&self) -> Vec<&'static str> {
        let freebsd = match self.options.target {
            Some(target) => target.contains("freebsd"),
            None => cfg!(target_os = "freebsd"),
        };
        let defined = (!freebsd).then_some(DEFINED);
        LINKED.into_iter().chain(defined).collect()
    }

    fn link(&mut self, n: usize) -> Result<(Command, &'static str, String), BuildError> {
        let scratch = self.cache.scratch(".so")?;
        let library = &self.libraries[n];
        let linker = self.linker(library);
        let mut command = linker.command();
        for &unit in &library.units {
            // Those that say how code is made, for a linker may make some.
            let flags = self.flags(&self.units[unit]);
            let of_code = |f: &&String| {
                ["-f", "-m", "-O", "-g", "-pthread"]
                    .iter()
                    .any(|s| f.starts_with(s))
            };
            command.args(flags.iter().filter(of_code));
        }
        command.args(["-shared", "-o"]).arg(&scratch);
        command.args(
            library
                .units
                .iter()
                .filter_map(|&u| self.units[u].object.as_ref()),
        );
        command.args(&library.link);
        for file in library.link.iter().filter(|l| l.starts_with('/')) {
            // Where the loader looks for one that is no archive.
            if let Some(folder) = Path::new(file).parent()
                && Path::new(file)
                    .extension()
                    .is_none_or(|e| e != "a" && e != "o")
            {
                command.args(["-Xlinker", "-rpath", "-Xlinker"]).arg(folder);
            }
        }
        command.args(self.last_words());
        let called = shown(&command);
        let variable = linker.language.variable();
        self.libraries[n].scratch = Some(scratch);
        Ok((command, variable, called))
    }

    fn linked(&mut self, n: usize, output: &Output) -> Result<(), BuildError> {
        let library = &mut self.libraries[n];
        let said = String::from_utf8_lossy(&output.stderr);
        if !said.trim().is_empty() {
            log::warn!("build: {}:\n{}", library.functions, said.trim_end());
        }
        let Some(scratch) = library.scratch.take() else {
            return Ok(());
        };
        let path = match &library.name {
            Some(name) => self.cache.keep(scratch, name)?,
            None => self.cache.keep_by_content(scratch, &library.stem, ".so")?,
        };
        self.made.push((library.functions.clone(), path));
        self.done += 1;
        Ok(())
    }
}

/// What tells a target's handler which function it calls. The name is one of C++: the
/// chain file's check has seen to it.
fn handler_of(target: &Target) -> Vec<String> {
    let (space, name) = match target.name.rsplit_once("::") {
        Some((space, name)) => (Some(space), name),
        None => (None, target.name.as_str()),
    };
    let open = space.map_or_else(String::new, |s| format!("namespace {s} {{"));
    let close = space.map_or("", |_| "}");
    let mut flags = vec![
        format!("-DLWC_TARGET=::{}", target.name),
        format!("-DLWC_TARGET_NAME={name}"),
        format!("-DLWC_TARGET_OPEN={open}"),
        format!("-DLWC_TARGET_CLOSE={close}"),
    ];
    flags.extend(target.event.then(|| "-DLWC_TARGET_EVENT".into()));
    flags
}

/// Whether a function has sources of a language; the handler of a program is in C.
fn uses(wanted: &Wanted<'_>, language: Language) -> bool {
    let mut files = wanted.source.files.iter();
    files.any(|f| Language::of(f) == language) || wanted.source.program && language == Language::C
}

/// Whether a function is to be hardened and has sources of a language.
fn hardens(wanted: &Wanted<'_>, language: Language) -> bool {
    wanted.function.harden.is_some() && uses(wanted, language)
}

/// Leaves out the functions that are meant; who they are, if any.
fn fail(wanted: &mut [Wanted<'_>], meant: impl Fn(&Wanted<'_>) -> bool) -> Option<Functions> {
    let mut functions: Option<Functions> = None;
    for w in wanted.iter_mut().filter(|w| !w.failed) {
        if !meant(w) {
            continue;
        }
        w.failed = true;
        let name = &w.function.name;
        match &mut functions {
            Some(functions) => functions.add(name),
            None => functions = Some(Functions::of(name)),
        }
    }
    functions
}

/// The name of what a compiler was found to have, of what it was asked.
fn kept_answers(compiler: &Compiler) -> String {
    let asked = harden::questions(compiler);
    let asked = asked
        .iter()
        .map(|(_, command, program)| shown(command) + program);
    let asked: Vec<String> = asked.collect();
    let parts = asked.iter().map(String::as_bytes);
    format!(
        "harden-{}.json",
        key(parts.chain([compiler.identity.as_bytes()]))
    )
}

/// Whether a text has the assembler read files.
fn reads_more(text: &[u8]) -> bool {
    // What stands in a string of C may be escaped.
    let words: [&[u8]; 4] = [b"incbin", b"include ", b"include\t", b"include\\t"];
    let mut behind = text.split(|&b| b == b'.').skip(1);
    behind.any(|rest| words.iter().any(|w| rest.starts_with(w)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_has_files_read_later_is_known() {
        for text in [
            r#"asm(".incbin \"table.bin\"");"#,
            r#"asm("\t.include \"more.s\"");"#,
            r#"asm(".include\t'more.s'");"#,
        ] {
            assert!(reads_more(text.as_bytes()), "{text}");
        }
        for text in ["# 1 \"f.include\"", "x.included = 1.;", "incbin .inc", ""] {
            assert!(!reads_more(text.as_bytes()), "{text}");
        }
    }
}
