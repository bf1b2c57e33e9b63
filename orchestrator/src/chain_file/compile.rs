//! The keys that say how sources are compiled.

use super::model::{Chain, ChainFile, Harden, Isolation, Link, Origin, Source, Target};
use super::validate::{Reader, Value};
use super::values::is_identifier;
use std::ops::Range;
use std::path::PathBuf;
use toml::de::DeTable;

/// The handler that every function gets which has a `target`.
pub(super) const TARGET: &str = "lwc_target";

/// The handler that every program gets.
pub(super) const PROGRAM: &str = "lwc_program";

/// Keys that mean something for `source` alone.
pub(super) const OF_SOURCES: [&str; 7] = [
    "include",
    "std",
    "cflags",
    "link",
    "pkg_config",
    "target",
    "signature",
];

/// Languages with their standards: of C, of C++.
const STANDARDS: [&[&str]; 2] = [
    &["89", "90", "99", "11", "17", "18", "2x", "23"],
    &["98", "03", "11", "14", "17", "20", "23", "2b", "26", "2c"],
];

/// What flags may begin with.
const FLAGS: [&str; 10] = [
    "-D",
    "-U",
    "-f",
    "-m",
    "-W",
    "-O",
    "-g",
    "-w",
    "-pedantic",
    "-pthread",
];
/// Flags that read or write files which the cache knows nothing of, and what to do.
const NOT_FLAGS: [(&str, &str); 16] = [
    ("-Wl,", "name what is linked with `link`"),
    ("-Wa,", "the assembler's flags cannot be given"),
    (
        "-Wp,",
        "give what it says to the compiler itself, as -D or -U",
    ),
    ("-fplugin", "plug-ins of the compiler cannot be used"),
    ("-fprofile-", "profiles cannot be used"),
    ("-fauto-profile", "profiles cannot be used"),
    ("-fbranch-prob", "profiles cannot be used"),
    ("-fdump-", "compile the file by hand for this"),
    ("-ftest-coverage", "compile the file by hand for this"),
    ("-fsave-", "compile the file by hand for this"),
    ("-fstack-usage", "compile the file by hand for this"),
    ("-fcallgraph-info", "compile the file by hand for this"),
    ("-fopt-info", "compile the file by hand for this"),
    ("-fmodule", "modules cannot be used"),
    ("-gsplit-dwarf", "debug information stays in the library"),
    (
        "-fsanitize",
        "say harden = \"bounds\", or try it by `debug --sanitize`; a sanitizer's own library cannot be loaded",
    ),
];

impl Reader {
    /// One file or several.
    pub(super) fn sources(&mut self, value: &Value<'_>) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = Vec::new();
        let mut sound = true;
        for item in self.one_or_more(value, "write source = \"FILE.c\", or [\"A.c\", \"B.cpp\"]") {
            let path = self.path(item, false);
            match path.filter(|p| self.is_source(item, p)) {
                Some(path) if files.contains(&path) => {
                    self.findings.error(
                        item.span(),
                        "duplicate",
                        format!("{} is named twice", path.display()),
                        "name it once",
                    );
                }
                Some(path) => files.push(path),
                None => sound = false,
            }
        }
        if sound { files } else { Vec::new() }
    }

    fn is_source(&mut self, value: &Value<'_>, path: &std::path::Path) -> bool {
        let known = ["c", "cc", "cpp", "cxx"];
        let ok = path
            .extension()
            .and_then(|e| e.to_str())
            .is_some_and(|e| known.contains(&e));
        if !ok {
            self.findings.error(
                value.span(),
                "source",
                format!("{} is neither C nor C++", path.display()),
                "sources end in .c, .cc, .cpp or .cxx; name a Rust crate with `crate`",
            );
        }
        ok
    }

    pub(super) fn include(&mut self, value: &Value<'_>) -> Vec<PathBuf> {
        let items = self.one_or_more(value, "write include = [\"FOLDER\", ...]");
        items
            .into_iter()
            .filter_map(|i| self.path(i, true))
            .collect()
    }

    /// One standard for each language at most.
    pub(super) fn standards(&mut self, value: &Value<'_>) -> [Option<String>; 2] {
        const HINT: &str = "write a standard of C or C++, such as \"c11\", \"gnu17\" or \"c++20\"; for files of both [\"gnu17\", \"gnu++20\"]";
        let mut found = [None, None];
        for item in self.one_or_more(value, HINT) {
            let Some(text) = self.string(item, HINT) else {
                continue;
            };
            let year = text.strip_prefix("gnu").or_else(|| text.strip_prefix("c"));
            let place = match year.map(|y| (y.strip_prefix("++"), y)) {
                Some((Some(year), _)) if STANDARDS[1].contains(&year) => 1,
                Some((None, year)) if STANDARDS[0].contains(&year) => 0,
                _ => {
                    let problem = format!("{text:?} is no standard of C or C++");
                    self.findings.error(item.span(), "range", problem, HINT);
                    continue;
                }
            };
            if found[place].replace(text.to_owned()).is_some() {
                let language = ["C", "C++"][place];
                let problem = format!("two standards of {language}");
                self.findings
                    .error(item.span(), "duplicate", problem, "keep one");
            }
        }
        found
    }

    /// Flags that say how to compile, and name no file: what is compiled is known
    /// by its text, its flags and its compiler.
    pub(super) fn cflags(&mut self, value: &Value<'_>) -> Vec<String> {
        const HINT: &str = "write cflags = [\"-DNAME=1\", \"-O3\", ...], a flag each";
        let mut flags = Vec::new();
        for item in self.one_or_more(value, HINT) {
            let Some(flag) = self.string(item, HINT) else {
                continue;
            };
            let no = NOT_FLAGS.iter().find(|(start, _)| flag.starts_with(start));
            let problem = if let Some((_, hint)) = no {
                Some((format!("{flag:?} is no flag for a function"), *hint))
            } else if flag.starts_with("-I") {
                Some((
                    format!("{flag:?} names a folder"),
                    "say include = [\"FOLDER\"], relative to this file",
                ))
            } else if flag.starts_with("-l") || flag.starts_with("-L") {
                Some((
                    format!("{flag:?} names what is linked"),
                    "say link = [\"NAME\"], or link = [\"FOLDER/libNAME.a\"]",
                ))
            } else if flag.starts_with("-std=") {
                Some((format!("{flag:?} is said by `std`"), "say std = \"gnu17\""))
            } else if flag.ends_with("=native") {
                Some((
                    format!("{flag:?} means another processor on each machine"),
                    "name the processor, as in -march=x86-64-v3",
                ))
            } else if !FLAGS.iter().any(|f| flag.starts_with(f)) || flag.contains('\0') {
                Some((
                    format!("{flag:?} is no flag for a function"),
                    "flags begin with -D, -U, -f, -m, -W, -O or -g; a flag and its value are one text",
                ))
            } else {
                None
            };
            match problem {
                Some((problem, hint)) => self.findings.error(item.span(), "flag", problem, hint),
                None => flags.push(flag.to_owned()),
            }
        }
        flags
    }

    /// Names for the linker; whatever has a folder or a library's ending is a file.
    pub(super) fn link(&mut self, value: &Value<'_>) -> Vec<Link> {
        const HINT: &str =
            "write link = [\"z\"] for libz, or [\"FOLDER/libz.a\"] for a file beside this one";
        let mut all = Vec::new();
        for item in self.one_or_more(value, HINT) {
            let Some(text) = self.string(item, HINT) else {
                continue;
            };
            let is_file = text.contains('/')
                || [".a", ".o", ".so"].iter().any(|e| text.ends_with(e))
                || text.contains(".so.");
            if is_file {
                all.extend(self.path(item, false).map(Link::File));
                continue;
            }
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-+.".contains(&b);
            if text.is_empty() || text.starts_with('-') || !text.bytes().all(plain) {
                let problem = format!("{text:?} is no name of a library");
                self.findings.error(item.span(), "name", problem, HINT);
                continue;
            }
            all.push(Link::Named(text.to_owned()));
        }
        all
    }

    pub(super) fn packages(&mut self, value: &Value<'_>) -> Vec<String> {
        const HINT: &str = "write pkg_config = [\"zlib\"], or with a version [\"zlib >= 1.2\"]";
        let mut all = Vec::new();
        for item in self.one_or_more(value, HINT) {
            let Some(text) = self.string(item, HINT) else {
                continue;
            };
            let words: Vec<&str> = text.split_whitespace().collect();
            let name = |w: &str| {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-+.:".contains(&b);
                !w.is_empty() && !w.starts_with('-') && w.bytes().all(plain)
            };
            let sound = match words.as_slice() {
                [package] => name(package),
                [package, "=" | "<" | ">" | "<=" | ">=" | "!=", version] => {
                    name(package) && name(version)
                }
                _ => false,
            };
            if sound {
                all.push(words.join(" "));
            } else {
                let problem = format!("{text:?} is no package");
                self.findings.error(item.span(), "name", problem, HINT);
            }
        }
        all
    }

    pub(super) fn harden(&mut self, value: &Value<'_>) -> Option<Harden> {
        const HINT: &str = "write harden = \"bounds\"";
        match self.string(value, HINT)? {
            "bounds" => Some(Harden::Bounds),
            other => {
                let problem = format!("{other:?} is no way to harden code");
                self.findings.error(value.span(), "range", problem, HINT);
                None
            }
        }
    }

    /// Keys that say how to compile what is not compiled here.
    pub(super) fn only_for_sources(&mut self, table: &DeTable<'_>, origin: &Origin) {
        for (key, _) in table {
            let name = key.get_ref().as_ref();
            let (problem, hint) = match origin {
                Origin::Source(_) => continue,
                Origin::Crate(_) | Origin::ProgramCrate(_) if name == "harden" => continue,
                Origin::Crate(_) | Origin::ProgramCrate(_) => (
                    "is for C and C++",
                    "say it in the crate's Cargo.toml or build.rs",
                ),
                Origin::Library(_) => (
                    "has no effect on a library",
                    "build it so, or name its sources with `source`",
                ),
                Origin::Remote(_) | Origin::Url(_) | Origin::Group(_) => (
                    "has no effect on a function elsewhere",
                    "say this in the chain file of the node that runs it",
                ),
            };
            if OF_SOURCES.contains(&name) || name == "harden" {
                let problem = format!("{name:?} {problem}");
                self.findings.error(key.span(), "origin", problem, hint);
            }
        }
    }

    /// `target` and `signature`: a name of C++, as its compiler will read it.
    pub(super) fn target(
        &mut self,
        source: &mut Source,
        target: Option<&Value<'_>>,
        signature: Option<&Value<'_>>,
        handler: Option<Range<usize>>,
    ) {
        const HINT: &str =
            "write target = \"NAME\" or \"SPACE::NAME\", as GOOGLE_FUNCTION_TARGET has it";
        let Some(value) = target else {
            if let Some(value) = signature {
                let problem = "\"signature\" is of a `target`";
                self.findings.error(value.span(), "origin", problem, HINT);
            }
            return;
        };
        let event = match signature.map(|v| (v, v.get_ref().as_str())) {
            None | Some((_, Some("http"))) => false,
            Some((_, Some("cloudevent"))) => true,
            Some((value, _)) => {
                self.findings.error(
                    value.span(),
                    "range",
                    "no signature of a function",
                    "say \"http\" or \"cloudevent\"",
                );
                return;
            }
        };
        let Some(name) = self.string(value, HINT) else {
            return;
        };
        let name = name.strip_prefix("::").unwrap_or(name);
        if name.len() > 255 || !name.split("::").all(is_identifier) {
            let problem = format!("{name:?} is no name of a function in C++");
            self.findings.error(value.span(), "name", problem, HINT);
            return;
        }
        if source.program
            || !source
                .files
                .iter()
                .any(|f| f.extension().is_none_or(|e| e != "c"))
        {
            self.findings.error(
                value.span(),
                "origin",
                "a target is a function in files that `source` names, one of them in C++",
                "leave it out; the function's own name, or `handler`, is that of a handler",
            );
        }
        if let Some(span) = handler {
            self.findings.error(
                span,
                "origin",
                "a function with a `target` has its handler from that",
                "leave it out",
            );
        }
        source.target = Some(Box::new(Target {
            name: name.to_owned(),
            event,
        }));
    }

    pub(super) fn no_handler_of_a_program(&mut self, table: &DeTable<'_>) {
        for (key, _) in table.iter().filter(|(key, _)| key.get_ref() == "handler") {
            self.findings.error(
                key.span(),
                "origin",
                "a program has a `main`, and no handler",
                "leave it out, or name a function's files with `source`",
            );
        }
    }

    /// A program begins anew with each request, which is what a rollback makes of it.
    pub(super) fn programs_run_once(
        &mut self,
        file: &ChainFile,
        chain: &Chain,
        span: &Range<usize>,
    ) {
        if chain.isolation != Isolation::Chain {
            return;
        }
        let functions = file.functions_of(&chain.name);
        let is_program = |f: &&&_| {
            file.functions
                .get(**f)
                .is_some_and(|f| f.origin.is_program())
        };
        if let Some(program) = functions.iter().find(is_program) {
            self.findings.error(
                span.clone(),
                "isolation",
                format!("the program {program:?} would go on from where its last run ended"),
                "leave out isolation = \"chain\": a program begins anew with each request",
            );
        }
    }

    /// A value, or the values of an array, which is not empty.
    fn one_or_more<'v, 'i>(&mut self, value: &'v Value<'i>, hint: &str) -> Vec<&'v Value<'i>> {
        let Some(array) = value.get_ref().as_array() else {
            return vec![value];
        };
        if array.is_empty() {
            self.findings
                .error(value.span(), "empty", "nothing is named here", hint);
        }
        array.iter().collect()
    }
}
