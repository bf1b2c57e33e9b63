//! Why functions cannot be built.

use super::tool::ToolError;
use crate::chain_file::FunctionName;
use lwc_function::abi::ABI;
use std::fmt;
use std::path::Path;

/// Functions named by an error, which share what failed.
const NAMED: usize = 3;

/// The functions that something is for: one, or those that share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Functions(Vec<FunctionName>);

impl Functions {
    pub(super) fn of(name: &FunctionName) -> Self {
        Self(vec![name.clone()])
    }

    pub(super) fn add(&mut self, name: &FunctionName) {
        if !self.0.contains(name) {
            self.0.push(name.clone());
        }
    }

    /// Their names, in the file's order; there is at least one.
    pub fn names(&self) -> &[FunctionName] {
        &self.0
    }
}

/// `function "a"`, or `functions "a", "b", "c" and 4 more`.
impl fmt::Display for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.0.iter().take(NAMED);
        let named: Vec<String> = named.map(|n| format!("{n:?}")).collect();
        let several = if self.0.len() > 1 { "s" } else { "" };
        write!(f, "function{several} {}", named.join(", "))?;
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Why a function cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A compiler, linker or cargo said no.
    #[error("{functions}: {command} failed ({status}):\n{output}{}", linking(.output))]
    Compiler {
        /// Whose build it was.
        functions: Functions,
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        output: String,
    },
    /// A compiler, cargo or pkg-config could not be run.
    #[error("{functions}: cannot run {command}: {error}; install it, or set {variable}")]
    Missing {
        /// Whose build it was.
        functions: Functions,
        /// What was to be run.
        command: String,
        /// The environment variable that names another.
        variable: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// It was asked to stop.
    #[error("{functions}: not built, the build was stopped")]
    Stopped {
        /// Whose build it was.
        functions: Functions,
    },
    /// The compiler has not what `harden` asks for.
    #[error(
        "{functions}: harden = \"bounds\" needs of {compiler} what it has not: {missing}; use another compiler ({variable}), or leave `harden` out"
    )]
    Harden {
        /// Whose build it was.
        functions: Functions,
        /// The compiler and its version.
        compiler: String,
        /// Protections, each with its flag.
        missing: String,
        /// The environment variable that names another.
        variable: &'static str,
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
    /// The library cannot be loaded here: something that it needs is not there.
    #[error("{functions}: {library} cannot be loaded: {what}")]
    Unresolved {
        /// Whose library it is.
        functions: Functions,
        /// The library.
        library: String,
        /// The symbols or libraries that are missing, by name, and what to do.
        what: String,
    },
    /// A file is not what it should be.
    #[error("{functions}: {path}: {what}")]
    File {
        /// Whose file it is.
        functions: Functions,
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

impl BuildError {
    /// The file and the line that the first error is in, as far as the compiler tells. (Its
    /// columns are of preprocessed text.)
    pub fn place(&self) -> Option<(&str, usize)> {
        match self {
            Self::Compiler { output, .. } => place(output),
            _ => None,
        }
    }

    pub(super) fn file(functions: &Functions, path: &Path, what: impl fmt::Display) -> Self {
        Self::File {
            functions: functions.clone(),
            path: path.display().to_string(),
            what: what.to_string(),
        }
    }

    pub(super) fn tool(functions: &Functions, error: ToolError) -> Self {
        let functions = functions.clone();
        match error {
            ToolError::Missing {
                command,
                variable,
                error,
            } => Self::Missing {
                functions,
                command,
                variable,
                error,
            },
            ToolError::Failed {
                command,
                status,
                output,
                ..
            } => Self::Compiler {
                functions,
                command,
                status,
                output,
            },
            ToolError::Stopped => Self::Stopped { functions },
        }
    }
}

/// Where the first error of a compiler's output is: `FILE:LINE:COLUMN: error: …` of those
/// for C and C++, `error…` and then `--> FILE:LINE:COLUMN` of the one for Rust.
fn place(output: &str) -> Option<(&str, usize)> {
    let numbered = |place: &str| -> Option<usize> {
        let number = place.parse().ok()?;
        (number > 0).then_some(number)
    };
    let mut is_rust = false;
    for line in output.lines() {
        if line.starts_with("error") {
            is_rust = true;
        }
        let found = if let Some(place) = line.trim_start().strip_prefix("--> ") {
            is_rust.then_some(place)
        } else {
            let errors = [": error: ", ": fatal error: "];
            errors.iter().find_map(|e| Some(line.split_once(e)?.0))
        };
        let Some((place, column)) = found.and_then(|p| p.rsplit_once(':')) else {
            continue;
        };
        let (file, number) = match place.rsplit_once(':') {
            Some((file, number)) if numbered(number).is_some() => (file, number),
            // Without a column.
            _ => (place, column),
        };
        if let Some(number) = numbered(number)
            && !file.is_empty()
        {
            return Some((file, number));
        }
    }
    None
}

/// How to mend it where the linker of a source found no definition. (A crate's says of
/// itself that it was linking; its Cargo.toml is where that is told.)
fn linking(output: &str) -> &'static str {
    let missing = ["undefined reference to", "undefined symbol: "];
    if output.contains("linking with") || !missing.iter().any(|m| output.contains(m)) {
        return "";
    }
    "name what defines it: link = \"z\" is -lz, pkg_config = \"zlib\" what that says; or one more file of `source`\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_a_definition_is_told_of_link() {
        let told = |output: &str| {
            BuildError::Compiler {
                functions: Functions(Vec::new()),
                command: "cc".into(),
                status: "exit status: 1".into(),
                output: output.into(),
            }
            .to_string()
            .contains("link = \"z\" is -lz")
        };
        assert!(told(
            "ld: f.o: in function `f':\nf.c:6: undefined reference to `inflate'\n"
        ));
        assert!(told("ld.lld: error: undefined symbol: inflate\n"));
        assert!(!told("f.c:2:9: error: 'x' undeclared\n"));
        assert!(!told(
            "error: linking with `cc` failed\nundefined reference to `inflate'\n"
        ));
    }

    #[test]
    fn the_first_error_has_a_place_where_the_compiler_says_it() {
        for (output, is) in [
            (
                "f.c: In function 'f':\nf.c:2:9: warning: odd\na:b/f.c:3:7: error: no x\nf.c:9:1: error: no y",
                Some(("a:b/f.c", 3)),
            ),
            ("f.c:4:10: fatal error: x.h: No such file", Some(("f.c", 4))),
            ("f.cpp:7: error: no", Some(("f.cpp", 7))),
            (
                "warning: unused\n --> src/lib.rs:1:2\nerror[E0425]: no value\n  --> src/lib.rs:9:5\n",
                Some(("src/lib.rs", 9)),
            ),
            ("ld: f.o: undefined reference to x", None),
            (
                "cc: error: nothing to do\n:: error: x\n:0:0: error: y",
                None,
            ),
            ("f.c:x:y: error: z\nerror\n --> f", None),
        ] {
            assert_eq!(place(output), is, "{output}");
        }
    }
}
