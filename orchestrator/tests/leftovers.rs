//! What an initialiser leaves behind, where contexts are processes: such a function is
//! not started, and is told why.

#![cfg(target_os = "linux")]

mod common;

use common::{Folder, home, orchestrator, text};

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

/// A list of threads ends where one of them does while it is made; the row that the
/// initialiser leaves goes on, in no sandbox.
#[test]
fn a_row_of_threads_is_something_left_behind() {
    let mut all = String::new();
    for _ in 0..12 {
        let (ran, said) = start("row_of_threads");
        assert!(!ran, "{said}");
        all += &said;
    }
    // (One that gets a signal has none of what the C library has for a thread, and crashes.)
    assert!(all.contains("threads of its own"), "{all}");
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

/// Its library's name is told, by `check --load` too, which runs constructors and nothing
/// else; without, no line of a library runs.
#[test]
fn constructors_that_leave_threads_are_refused_before_anything_is_served() {
    const TEXT: &str = r#"
#include <dlfcn.h>
#include <lwc_function.hpp>
#include <thread>
#include <unistd.h>
#if defined(STAYS)
static std::thread stays([] { for (;;) pause(); });
#elif defined(JOINED)
struct Joined { Joined() { for (int i = 0; i < 50; i++) std::thread([] {}).join(); } } joined;
#elif defined(DIES)
struct Dies { Dies() { __builtin_trap(); } } dies;
#endif
LWC_FUNCTION(f, [](lwc::Invocation &inv) { inv.append("+"); })
"#;
    for (what, says) in [
        ("STAYS", Some("left threads of their own (1) behind")),
        ("DIES", Some("was killed by SIGILL")),
        ("JOINED", None),
    ] {
        let folder = Folder::new(&format!(
            "[functions.f]\nsource = 'threads.cpp'\ncflags = ['-D{what}', '-pthread']\n[chains.trial]\nsteps = ['f']\n",
        ));
        folder.write("threads.cpp", TEXT);
        let check = orchestrator()
            .args(["check", "--load"])
            .arg(folder.path("chain.toml"))
            .output()
            .unwrap();
        let run = folder.run(&[], &[""]);
        for out in [&check, &run] {
            let said = text(&out.stderr);
            let Some(says) = says else {
                assert!(out.status.success(), "{what}: {said}");
                // Nor is it blamed for what the backend asks of a process with threads.
                assert!(!said.contains("cannot be opened"), "{what}: {said}");
                continue;
            };
            assert_eq!(out.status.code(), Some(4), "{what}: {said}");
            for part in ["\"f\"", "the constructors of threads-", ".so", says] {
                assert!(said.contains(part), "{what}: no {part:?} in {said}");
            }
        }
        assert_eq!(text(&run.stdout) == "+", says.is_none());
        let unread = orchestrator()
            .arg("check")
            .arg(folder.path("chain.toml"))
            .output()
            .unwrap();
        assert!(unread.status.success(), "{}", text(&unread.stderr));
    }
}

/// Nothing is built of a library, so nobody asks where.
#[test]
fn a_library_needs_no_home() {
    let folder = Folder::new("[functions.f]\nsource = 'f.c'\n[chains.trial]\nsteps = ['f']\n");
    folder.write(
        "f.c",
        "#include <lwc_function.h>\nLWC_HANDLER(f) { return (lwc_append(inv, \"+\", 1)); }\n",
    );
    let bundle = folder.path("bundle");
    let built = orchestrator()
        .arg("build")
        .arg(folder.path("chain.toml"))
        .arg("--out")
        .arg(&bundle)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", text(&built.stderr));
    let library = std::fs::read_dir(bundle.join("lib")).unwrap();
    let library = library.flatten().find(|f| f.file_type().unwrap().is_file());
    let library = library.unwrap().path();
    folder.write(
        "other.toml",
        format!(
            "[functions.f]\nlibrary = '{}'\n[chains.trial]\nsteps = ['f']\n",
            library.display()
        ),
    );
    let input = folder.write("input", "");
    let out = orchestrator()
        .env_clear()
        .arg("run")
        .arg(folder.path("other.toml"))
        .arg("--input")
        .arg(input)
        .output()
        .unwrap();
    assert_eq!(text(&out.stdout), "+", "{}", text(&out.stderr));
}
