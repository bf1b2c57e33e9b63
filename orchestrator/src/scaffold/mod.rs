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

/// Writes a new function into `dir/name`, or a workflow that begins with it. Returns
/// what to do next.
///
/// # Errors
/// A bad name, a folder that is there already, or what the system says.
pub fn create(dir: &Path, name: &str, lang: Language, kind: Kind) -> Result<String, String> {
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
    let home = dir.join(name);
    // A function must not be called what the language or the C library is.
    let symbol = format!("{}_handler", name.replace('-', "_"));
    let [origin, callee] = match lang {
        Language::C => ["source  = \"function.c\"", "source  = \"shout.c\""],
        Language::Cpp => ["source  = \"function.cpp\"", "source  = \"shout.cpp\""],
        Language::Rust => ["crate   = \".\""; 2],
    };
    let fill = |text: &str| {
        text.replace("{origin}", origin)
            .replace("{callee}", callee)
            .replace("{name}", name)
            .replace("{symbol}", &symbol)
    };
    let file = |path: &str, text: &str| (path.to_owned(), fill(text));
    let mut files: Vec<(String, String)> = vec![
        ("input.txt".into(), "world".into()),
        // Beside the file that names it: of this program's version, and there without
        // a network.
        ("chain.schema.json".into(), format!("{:#}\n", schema())),
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
    let called = kind == Kind::Workflow;
    match lang {
        Language::C => {
            files.push(file("function.c", function));
            files.extend(called.then(|| file("shout.c", include_str!("templates/shout.c"))));
        }
        Language::Cpp => {
            files.push(file("function.cpp", function));
            files.extend(called.then(|| file("shout.cpp", include_str!("templates/shout.cpp"))));
        }
        Language::Rust => {
            files.push(file("Cargo.toml", include_str!("templates/Cargo.toml.in")));
            files.push(file("src/lib.rs", function));
            // The crate for functions in Rust lies next to them: the binary
            // alone is enough.
            let sources = lwc_function::sources::CRATE.iter();
            files.extend(
                sources.map(|&(path, text)| (format!("lwc-function/{path}"), text.to_owned())),
            );
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
