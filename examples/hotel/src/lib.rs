//! What there is beside the functions of `examples/hotel`: their data, a client that
//! works out by itself what they must answer, and the same functions without
//! contexts, merged into one program or a process each with HTTP between them.

pub mod client;
pub mod data;
pub mod host;
pub mod questions;
pub mod server;

use host::Failure;
use std::path::Path;
use std::process::Command;

/// The functions and whom each calls, as `chain.toml` says. Whoever is called comes before those that call it.
pub const FUNCTIONS: [Function; 11] = [
    Function::new("geo", &[]),
    Function::new("rates", &[]),
    Function::new("availability", &[]),
    Function::new("profiles", &[]),
    Function::new("review", &[]),
    Function::new("login", &[]),
    Function::new("nearby", &["geo", "rates"]),
    Function::new("search", &["nearby", "availability", "profiles"]),
    Function::new("recommend", &["nearby", "review", "profiles"]),
    Function::new("reserve", &["login", "availability", "rates"]),
    Function::new("frontend", &["search", "recommend", "reserve", "review"]),
];

/// The workflows: their names and their entries.
pub const WORKFLOWS: [(&str, &str); 2] = [("hotel", "frontend"), ("search", "search")];

/// The secrets, and what is in their files.
pub const SECRETS: [(&str, &[u8]); 2] = [
    ("BOOKING_KEY", include_bytes!("../demo-booking.key")),
    ("PEPPER", include_bytes!("../demo-pepper.key")),
];

/// One of the [`FUNCTIONS`].
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// Its name, and its handler's.
    pub name: &'static str,
    /// Whom it calls.
    pub calls: &'static [&'static str],
}

impl Function {
    const fn new(name: &'static str, calls: &'static [&'static str]) -> Self {
        Self { name, calls }
    }
}

/// `chain.toml` for another folder, with this isolation in its workflows.
pub fn chain_file(isolation: &str) -> String {
    let here = env!("CARGO_MANIFEST_DIR");
    let file = include_str!("../chain.toml");
    let lines = file.lines().map(|line| {
        let key = line.split_whitespace().next().unwrap_or_default();
        match key {
            "isolation" => format!("isolation = \"{isolation}\"\n"),
            "crate" | "source" => line.replacen('"', &format!("\"{here}/"), 1) + "\n",
            "secrets" => line.replace("file = \"", &format!("file = \"{here}/")) + "\n",
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

/// Builds the functions for programs without contexts: `build.sh`.
///
/// # Errors
/// A compiler fails, or is not there.
pub fn build(folder: &Path) -> Result<(), Failure> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/build.sh");
    let status = Command::new("sh").arg(script).arg(folder).status()?;
    if !status.success() {
        return Err(format!("{script}: {status}").into());
    }
    Ok(())
}
