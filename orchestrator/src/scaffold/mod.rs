//! `new`: a folder with a function, a chain and an input, ready to run; or with a
//! function that calls another, and a workflow.

use crate::chain_file::{is_name, schema};
use std::path::Path;

/// Languages of functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// C11
    C,
    /// C++17
    Cpp,
    /// Rust
    Rust,
}

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A function, and a chain of it.
    Function,
    /// A function that calls another, and a workflow that begins with it.
    Workflow,
}

/// The other function of a workflow.
const CALLEE: &str = "shout";

/// The crate for functions in Rust.
const CRATE: &str = "lwc-function";

/// The version of the crate that this program has.
fn version_of_the_crate() -> &'static str {
    let manifest = lwc_function::sources::CRATE.iter();
    let mut manifest = manifest.filter(|(path, _)| *path == "Cargo.toml");
    let lines = manifest.next().map_or("", |(_, text)| text).lines();
    let mut versions = lines.filter_map(|l| l.strip_prefix("version = \""));
    versions.next().unwrap_or_default().trim_end_matches('"')
}

/// Writes a new function into `dir/name`, or a workflow that begins with it. Returns
/// what to do next.
///
/// A function in Rust is built against the crate that this program has, in `library`:
/// the folder has its path in a file that git ignores, for cargo called by hand.
///
/// # Errors
/// A bad name, a folder that is there already, or what the system says.
pub fn create(
    dir: &Path,
    name: &str,
    lang: Language,
    kind: Kind,
    library: &Path,
) -> Result<String, String> {
    if !is_name(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(format!(
            "{name:?} is no name for a function: use 1 to 63 of a-z, 0-9, - and _, a letter first"
        ));
    }
    if kind == Kind::Workflow && name == CALLEE {
        return Err(format!(
            "{name:?} is what the function is called that the new one calls; choose another name"
        ));
    }
    if lang == Language::Rust && name == CRATE {
        return Err(format!(
            "{name:?} is what the crate is called that it needs; choose another name"
        ));
    }
    let home = dir.join(name);
    // A function must not be called what the language or the C library is.
    let symbol = format!("{}_handler", name.replace('-', "_"));
    let [origin, callee] = match lang {
        Language::C => ["source  = \"function.c\"", "source  = \"shout.c\""],
        Language::Cpp => ["source  = \"function.cpp\"", "source  = \"shout.cpp\""],
        Language::Rust => ["crate   = \".\""; 2],
    };
    let [file, callee_file, compiler] = match lang {
        Language::C => ["function.c", "shout.c", "cc"],
        Language::Cpp => ["function.cpp", "shout.cpp", "c++"],
        Language::Rust => ["src/lib.rs", "src/lib.rs", ""],
    };
    let called = kind == Kind::Workflow;
    let ending = file.rsplit('.').next().unwrap_or_default();
    let unit_test = match lang {
        Language::Rust => "cargo test".to_owned(),
        _ => format!(
            "{compiler} -I\"$(lwc-orchestrator library)/include\" function_test.{ending} -o function_test && ./function_test"
        ),
    };
    let sources = match (lang, called) {
        (Language::Rust, _) => "`src/lib.rs`".to_owned(),
        (_, false) => format!("`{file}`, `function_test.{ending}`"),
        (_, true) => format!("`{file}`, `{callee_file}`, `function_test.{ending}`"),
    };
    let about_library = match lang {
        Language::Rust => include_str!("templates/library_rust.in"),
        _ => include_str!("templates/library_c.in"),
    };
    let version = version_of_the_crate();
    // Cargo sorts them. With them it asks nobody.
    let mut packages = [
        format!(
            "[[package]]\nname = \"{name}\"\nversion = \"0.1.0\"\ndependencies = [\n \"{CRATE}\",\n]\n"
        ),
        format!("[[package]]\nname = \"{CRATE}\"\nversion = \"{version}\"\n"),
    ];
    if name > CRATE {
        packages.reverse();
    }
    let says = match kind {
        Kind::Function => "Hello, world!",
        Kind::Workflow => "Hello, WORLD!",
    };
    let fill = |text: &str| {
        text.replace("{library}", about_library.trim_end())
            .replace("{origin}", origin)
            .replace("{callee}", callee)
            .replace("{callee_file}", callee_file)
            .replace("{file}", file)
            .replace("{test}", &unit_test)
            .replace("{sources}", &sources)
            .replace("{packages}", &packages.join("\n"))
            .replace("{version}", version)
            .replace("{says}", says)
            .replace("{name}", name)
            .replace("{symbol}", &symbol)
    };
    let file = |path: &str, text: &str| (path.to_owned(), fill(text));
    let mut files: Vec<(String, String)> = vec![
        ("input.txt".into(), "world".into()),
        // Beside the file that names it: of this program's version, and there without
        // a network.
        ("chain.schema.json".into(), format!("{:#}\n", schema())),
        file("README.md", include_str!("templates/README.md.in")),
        file(
            "chain.toml",
            match kind {
                Kind::Function => include_str!("templates/chain.toml"),
                Kind::Workflow => include_str!("templates/workflow.toml"),
            },
        ),
    ];
    let function = match (lang, kind) {
        (Language::C, Kind::Function) => include_str!("templates/function.c"),
        (Language::C, Kind::Workflow) => include_str!("templates/workflow.c"),
        (Language::Cpp, Kind::Function) => include_str!("templates/function.cpp"),
        (Language::Cpp, Kind::Workflow) => include_str!("templates/workflow.cpp"),
        (Language::Rust, Kind::Function) => include_str!("templates/function.rs.in"),
        (Language::Rust, Kind::Workflow) => include_str!("templates/workflow.rs.in"),
    };
    let test = match kind {
        Kind::Function => include_str!("templates/function_test.in"),
        Kind::Workflow => include_str!("templates/workflow_test.in"),
    };
    // Keys do not belong to the history of code, nor does what is built.
    let ignored = |more: &str| {
        (
            ".gitignore".to_owned(),
            format!("*.key\n/bundle/\n{more}\n"),
        )
    };
    match lang {
        Language::C => {
            files.push(file("function.c", function));
            files.extend(called.then(|| file("shout.c", include_str!("templates/shout.c"))));
            files.push(file("function_test.c", test));
            files.push(ignored("/function_test"));
        }
        Language::Cpp => {
            files.push(file("function.cpp", function));
            files.extend(called.then(|| file("shout.cpp", include_str!("templates/shout.cpp"))));
            files.push(file("function_test.cpp", test));
            files.push(ignored("/function_test"));
        }
        Language::Rust => {
            files.push(file("Cargo.toml", include_str!("templates/Cargo.toml.in")));
            files.push(file("Cargo.lock", include_str!("templates/Cargo.lock.in")));
            files.push(file("src/lib.rs", function));
            let patch = format!("[patch.crates-io]\n{CRATE}.path = {library:?}\n");
            files.push((".cargo/config.toml".into(), patch));
            files.push(ignored(
                "/target/\n# A path of this machine.\n/.cargo/config.toml",
            ));
        }
    }
    std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    std::fs::create_dir(&home).map_err(|e| {
        format!(
            "{}: {e}; choose another name, or move it away",
            home.display()
        )
    })?;
    for (path, text) in files {
        let path = home.join(path);
        let write = || {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&path, text)
        };
        write().map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let shown = home.display();
    Ok(format!(
        "made {shown}; now run\n  lwc-orchestrator run {shown}/chain.toml --input {shown}/input.txt"
    ))
}
