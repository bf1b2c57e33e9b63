//! What harden = "bounds" stops of planted faults, and what it does not: the table
//! in docs/hardening.md.

mod common;

use common::{Folder, home, orchestrator, text};
use std::os::unix::fs::PermissionsExt;

/// A fault, and what comes of it without checks and with them: an answer, or
/// nothing where the function is ended. (What an unchecked fault does is up to the
/// compiler and what lies where: where more than one thing is right, it is empty.)
const FAULTS: [(&str, Option<&str>, Option<&str>); 23] = [
    ("none", Some("ran on"), Some("ran on")),
    ("write behind a local array", None, None),
    ("read behind a local array", Some("ran on"), None),
    ("write behind a global array", Some("ran on"), None),
    ("write behind an array in a structure", Some("ran on"), None),
    ("strcpy into a local array", Some(""), None),
    ("strcpy into a member", Some("ran on"), None),
    ("memcpy into the heap", Some("ran on"), None),
    ("loop over the stack, by a pointer", Some(""), None),
    (
        "read over the stack, by a pointer",
        Some("ran on"),
        Some("ran on"),
    ),
    (
        "loop over the heap, by a pointer",
        Some("ran on"),
        Some("ran on"),
    ),
    (
        "read over the heap, by a pointer",
        Some("ran on"),
        Some("ran on"),
    ),
    ("use after free", Some("ran on"), Some("ran on")),
    ("a variable that was never set", Some(""), Some("made zero")),
    ("signed overflow", Some("ran on"), None),
    ("shift too far", Some("ran on"), None),
    ("a number that fits no integer", Some("ran on"), None),
    ("an array of no size", Some(""), None),
    ("a truth value of 9", Some("ran on"), None),
    ("%n in a format from outside", Some("ran on"), None),
    (
        "a function called as another",
        Some("ran on"),
        Some("ran on"),
    ),
    ("read behind a vector", Some("ran on"), None),
    ("read behind a string view", Some("ran on"), None),
];

fn folder(harden: &str) -> Folder {
    let faults = home().join("orchestrator/tests/harden");
    let folder = Folder::new(&format!(
        "[functions.faults]\nsource = ['{0}/faults.c', '{0}/faults.cpp']\n{harden}\n[chains.x]\nsteps = ['faults']\n",
        faults.display()
    ));
    for (n, (fault, ..)) in FAULTS.iter().enumerate() {
        folder.write(&format!("fault{n}"), fault);
    }
    folder
}

/// The answer to each, or nothing.
fn outcomes(harden: &str) -> Vec<Option<String>> {
    let folder = folder(harden);
    let mut all = Vec::new();
    for n in 0..FAULTS.len() {
        let out = orchestrator()
            .arg("run")
            .arg(folder.path("chain.toml"))
            .arg("--input")
            .arg(folder.path(&format!("fault{n}")))
            .output()
            .unwrap();
        let said = text(&out.stderr);
        assert!(matches!(out.status.code(), Some(0 | 1)), "{said}");
        if harden.is_empty() || out.status.success() {
            all.push(out.status.success().then(|| text(&out.stdout)));
            continue;
        }
        // By a check, and nothing else.
        assert!(
            said.contains("SIGILL") || said.contains("SIGABRT") || said.contains("SIGTRAP"),
            "{said}"
        );
        all.push(None);
    }
    all
}

#[test]
fn planted_faults_are_stopped_as_the_table_says() {
    let plain = outcomes("");
    let hardened = outcomes("harden = 'bounds'");
    for (((fault, without, with), plain), hardened) in FAULTS.iter().zip(plain).zip(hardened) {
        assert_eq!(hardened.as_deref(), *with, "{fault}");
        // Only where the C library and the compiler here are those of the table.
        if *without != Some("") && cfg!(all(target_os = "linux", target_env = "gnu")) {
            assert_eq!(plain.as_deref(), *without, "{fault}, without checks");
        }
    }
}

#[test]
fn a_compiler_that_has_not_what_is_asked_for_is_told_of_by_name() {
    let folder = folder("harden = 'bounds'");
    let cc = folder.write(
        "cc",
        "#!/bin/sh\ncase \" $* \" in *' -ftrivial-auto-var-init=zero '*) echo \"unknown option\" >&2; exit 1;; esac\nexec cc \"$@\"\n",
    );
    std::fs::set_permissions(&cc, PermissionsExt::from_mode(0o755)).unwrap();
    for _ in 0..2 {
        let out = orchestrator()
            .arg("check")
            .arg(folder.path("chain.toml"))
            .env("CC", &cc)
            .output()
            .unwrap();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(3), "{said}");
        assert!(
            said.contains("automatic initialisation (-ftrivial-auto-var-init=zero)")
                && said.contains("(CC)")
                && !said.contains("stack protector"),
            "{said}"
        );
    }
}

#[test]
fn a_crate_traps_overflow_and_a_library_cannot_be_hardened() {
    let folder = Folder::new(
        "[functions.sum]\ncrate = 'it'\nharden = 'bounds'\n[functions.plain]\ncrate = 'it'\nhandler = 'sum'\n[chains.hard]\nsteps = ['sum']\n[chains.soft]\nsteps = ['plain']\n",
    );
    std::fs::create_dir_all(folder.path("it/src")).unwrap();
    folder.write("it/Cargo.toml", format!("[package]\nname = \"it\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\nlwc-function = {{ path = '{}' }}\n[workspace]\n", home().join("lwc-function").display()));
    folder.write("it/src/lib.rs", "use lwc_function::{Error, Invocation, handler};\nhandler!(sum, add);\nfn add(inv: &mut Invocation<'_>) -> Result<(), Error> {\n    let all = inv.input().iter().fold(0u8, |all, b| all + b);\n    inv.spare_mut()[0] = all;\n    inv.commit(1)\n}\n");
    let (answer, failures, said) = folder.outcomes("soft", &["zzz"]);
    assert!(answer.len() <= 4 && failures.is_empty(), "{said}");
    let (_, failures, said) = folder.outcomes("hard", &["zzz"]);
    assert_eq!(failures.len(), 1, "{said}");
    assert!(failures[0].to_string().contains("overflow"), "{said}");
    folder.write("f.so", "x");
    folder.write(
        "chain.toml",
        "[functions.f]\nlibrary = 'f.so'\nharden = 'bounds'\n[chains.x]\nsteps = ['f']\n",
    );
    let out = orchestrator()
        .arg("check")
        .arg(folder.path("chain.toml"))
        .output()
        .unwrap();
    let said = text(&out.stderr);
    assert!(
        out.status.code() == Some(2) && said.contains("no effect on a library"),
        "{said}"
    );
}
