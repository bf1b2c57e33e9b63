//! What an initialiser leaves behind, where contexts are processes: such a function is
//! not started, and is told why.

#![cfg(target_os = "linux")]

mod common;

use common::{Folder, home, text};

/// Whether the function ran, and what was said.
fn start(handler: &str) -> (bool, String) {
    let out = folder(handler).run(&[], &[""]);
    (text(&out.stdout) == "+", text(&out.stderr))
}

fn folder(handler: &str) -> Folder {
    Folder::new(&format!(
        "[functions.f]\nsource = \"{}\"\nhandler = \"{handler}\"\nmemory = \"64MiB\"\n[chains.trial]\nsteps = [\"f\"]\n",
        home().join("tests/hostile/leftovers.c").display()
    ))
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
        ("idle", "another scheduling (policy 5", "leave nice"),
        ("nicer", "another scheduling", "leave nice"),
        ("takes_the_signal", "SIGSTKFLT", "another signal"),
        ("closes_its_hosts", "closed or replaced", "that they open"),
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

/// One file is the same for all copies, and no rollback undoes what is in it.
#[test]
fn files_that_are_left_open_are_closed() {
    let (ran, said) = start("open_file");
    assert!(ran, "{said}");
    assert!(
        said.contains("memfd:kept") && said.contains("closed"),
        "{said}"
    );
}

/// Its handler would see all messages, and hand them to later copies.
#[test]
fn a_timer_runs_no_code_in_the_snapshot() {
    for handler in ["timer", "other_timer"] {
        let out = folder(handler).run(&[], &["", "crash", "", "crash", ""]);
        let (ticks, said) = (text(&out.stdout), text(&out.stderr));
        let all: Vec<&str> = ticks.split_terminator(';').collect();
        assert_eq!(all.len(), 3, "{handler}: {ticks} {said}");
        assert!(all.iter().all(|t| *t == all[0]), "{handler}: {ticks}");
    }
}
