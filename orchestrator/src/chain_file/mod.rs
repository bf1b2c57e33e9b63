//! Chain files: which functions there are and in what order they run.
//!
//! [`load`] reads, parses and validates a file and reports everything that is
//! wrong with it at once, each error with its place and a hint. The work grows
//! with the file and no faster, whatever it says: `serve` reads files that
//! somebody may be writing just now.

mod compile;
mod connects;
mod cut;
mod diagnostics;
mod excerpt;
mod expand;
mod exposure;
mod files;
mod grants;
mod headers;
mod model;
mod names;
mod schema;
mod tree;
mod validate;
mod values;

pub use diagnostics::{Diagnostic, Report, Severity};
pub use headers::HeaderPattern;
pub use model::{
    Chain, ChainFile, ConnectGrant, EnvSource, EnvVariable, FileGrant, Function, Harden, Isolation,
    Link, Origin, Place, SecretRef, SecretSource, Source, Target,
};
pub use names::{ChainId, ChainKind, FunctionName, GroupName, NotAName};
pub use tree::{CallTree, Edge, Node};
pub use validate::parse;

pub(crate) use connects::place_from_root;
pub(crate) use cut::{Cut, cut};
#[cfg(feature = "serve")]
pub(crate) use cut::{Part, Routes};
pub(crate) use exposure::{Exposure, exposure};
pub(crate) use files::{by_names, from_root, is_of_the_system};
#[cfg(feature = "serve")]
pub(crate) use headers::is_hop_by_hop;
pub(crate) use schema::schema;
#[cfg(feature = "serve")]
pub(crate) use tree::MAX_ALL_STEPS;
#[cfg(all(test, feature = "serve", feature = "bench"))]
pub(crate) use validate::KEYS;
pub(crate) use values::is_name;

use diagnostics::Findings;
use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Chain files are small; a larger one is a mistake.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a chain file. The report holds warnings too, when there is a file.
///
/// # Errors
/// A report with at least one error: the file cannot be read, is no TOML, or
/// says something it cannot mean.
pub fn load(path: &Path) -> Result<(ChainFile, Report), Report> {
    let unreadable = |what: String, hint: &str| {
        let mut findings = Findings::default();
        findings.error(0..0, "unreadable", what, hint);
        findings.report(path, String::new())
    };
    // A pipe that nobody writes to is opened as well, and refused below.
    let mut how = std::fs::OpenOptions::new();
    let how = how.read(true).custom_flags(libc::O_NONBLOCK);
    let file = how.open(path).map_err(|e| {
        unreadable(
            format!("cannot open it: {e}"),
            "give the path of a chain file",
        )
    })?;
    let regular = file.metadata().is_ok_and(|m| m.is_file());
    if !regular {
        return Err(unreadable(
            "it is not a regular file".into(),
            "give the path of a chain file, often chain.toml in that folder",
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(format!("cannot read it: {e}"), "check the file"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(unreadable(
            format!("it is larger than {MAX_BYTES} bytes"),
            "a chain file names functions; their data belongs elsewhere",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        unreadable(
            format!(
                "it is not UTF-8 (byte {} is the first that is not)",
                e.utf8_error().valid_up_to()
            ),
            "save it as UTF-8",
        )
    })?;
    parse(path, text)
}

/// The name among `names` that `name` was likely meant to be.
pub(crate) fn nearest_name(name: &str, names: &BTreeSet<String>) -> Option<String> {
    values::nearest(name, names.iter().map(String::as_str), &mut {
        values::NEAR_WORK
    })
    .map(str::to_owned)
}
