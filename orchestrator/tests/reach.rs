//! What a function reaches of the world: what its file grants it, and nothing else.

mod common;

#[path = "reach/connect.rs"]
mod connect;
#[path = "reach/environment.rs"]
mod environment;
#[path = "reach/files.rs"]
mod files;
#[path = "reach/output.rs"]
mod output;
#[path = "reach/scratch.rs"]
mod scratch;
#[path = "reach/threads.rs"]
mod threads;

use common::home;

/// A chain of one function of `tests/hostile/reach.c`, with these lines.
fn file(grants: &str) -> String {
    let source = home().join("tests/hostile/reach.c");
    format!(
        "[functions.f]\nsource = \"{}\"\nhandler = \"reach\"\ntimeout = \"60s\"\n{grants}\n[chains.trial]\nsteps = [\"f\"]\n",
        source.display()
    )
}
