//! `new`: a folder with a function, a chain and an input, ready to run.

use crate::chain_file::is_name;
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

/// Writes a new function into `dir/name`. Returns what to do next.
///
/// # Errors
/// A bad name, a folder that is there already, or what the system says.
pub fn create(dir: &Path, name: &str, lang: Language) -> Result<String, String> {
    if !is_name(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(format!(
            "{name:?} is no name for a function: use 1 to 63 of a-z, 0-9, - and _, a letter first"
        ));
    }
    let home = dir.join(name);
    // A function must not be called what the language or the C library is.
    let symbol = format!("{}_handler", name.replace('-', "_"));
    let fill = |text: &str| text.replace("{name}", name).replace("{symbol}", &symbol);
    let file = |path: &str, text: &str| (path.to_owned(), fill(text));
    let mut files: Vec<(String, String)> = vec![
        ("input.txt".into(), "world".into()),
        file(
            "chain.toml",
            match lang {
                Language::C => include_str!("templates/c.toml"),
                Language::Cpp => include_str!("templates/cpp.toml"),
                Language::Rust => include_str!("templates/rust.toml"),
            },
        ),
    ];
    match lang {
        Language::C => files.push(file("function.c", include_str!("templates/function.c"))),
        Language::Cpp => files.push(file("function.cpp", include_str!("templates/function.cpp"))),
        Language::Rust => {
            files.push(file("Cargo.toml", include_str!("templates/Cargo.toml.in")));
            files.push(file("src/lib.rs", include_str!("templates/function.rs.in")));
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
