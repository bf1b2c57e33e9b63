//! What an initialiser leaves behind, where contexts are processes: such a function is
//! not started, and is told why.

#![cfg(target_os = "linux")]

mod common;

use common::{Folder, home, text};

/// Whether the function ran, and what was said.
fn start(handler: &str) -> (bool, String) {
    let folder = Folder::new(&format!(
        "[functions.f]\nsource = \"{}\"\nhandler = \"{handler}\"\nmemory = \"64MiB\"\n[chains.trial]\nsteps = [\"f\"]\n",
        home().join("tests/hostile/leftovers.c").display()
    ));
    let out = folder.run(&[], &[""]);
    (text(&out.stdout) == "+", text(&out.stderr))
}

#[test]
fn a_function_that_leaves_something_behind_is_not_started() {
    for (handler, left, mend) in [
        ("thread", "threads of its own (1)", "join"),
        ("child", "a child process", "wait for it"),
        ("grandchild", "a child process", "wait for it"),
        ("shared", "shared memory that can be written", "MAP_PRIVATE"),
        (
            "shared_later",
            "shared memory that can be written",
            "MAP_PRIVATE",
        ),
    ] {
        let (ran, said) = start(handler);
        assert!(!ran, "{handler}: {said}");
        for part in ["\"f\"", left, mend] {
            assert!(said.contains(part), "{handler}: no {part:?} in {said}");
        }
    }
}

#[test]
fn one_that_has_put_everything_away_is() {
    let (ran, said) = start("nothing");
    assert!(ran, "{said}");
}
