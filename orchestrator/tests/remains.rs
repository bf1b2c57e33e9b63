//! Nothing stays: whatever the one before did, and however it ended, a fresh
//! copy of a function finds what the first one found.

#![cfg(target_os = "linux")] // the function looks by Linux's calls

mod common;

use common::{Folder, home, text};

fn chain(isolation: &str, timeout: &str, steps: &str) -> Folder {
    Folder::new(&format!(
        r#"
[functions.remains]
source = "{}"
timeout = "{timeout}"
memory = "64MiB"

[chains.trial]
steps = [{steps}]
isolation = "{isolation}"
region = "64KiB"
"#,
        home().join("tests/hostile/remains.c").display()
    ))
}

/// What each "look" of these inputs saw.
fn looks(folder: &Folder, inputs: &[&str]) -> Vec<String> {
    let out = folder.run(&[], inputs);
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    let seen: Vec<String> = stdout
        .split("== look\n")
        .skip(1)
        .map(String::from)
        .collect();
    let asked = inputs.iter().filter(|i| i.contains("look")).count();
    assert_eq!(seen.len(), asked, "{stdout}\n{stderr}");
    seen
}

/// All looks of fresh copies are the same, and find nothing of others.
fn alike(seen: &[String]) {
    for (i, look) in seen.iter().enumerate() {
        for nothing in [
            "output: 0 bytes",
            "behind it: 0 pages",
            "control page: 0 bytes",
            "behind the input: 0 bytes",
            "marks: 0",
            "signals: 0",
        ] {
            assert!(look.contains(nothing), "look {i}: no {nothing:?} in {look}");
        }
        assert_eq!(*look, seen[0], "look {i}");
        assert!(!look.contains("advice:"), "look {i}: {look}");
        for clock in ["clock_gettime", "clock_nanosleep", "getrusage", "times"] {
            let mut told = look.lines().filter(|l| l.starts_with(clock));
            let refused = format!("{clock}: -1 {} ", libc::EPERM);
            assert!(told.all(|l| l.starts_with(&refused)), "look {i}: {look}");
        }
    }
}

#[test]
fn a_fresh_copy_finds_what_the_first_one_found() {
    let folder = chain("invocation", "30s", r#""remains""#);
    alike(&looks(
        &folder,
        &[
            "look",
            "dirty return",
            "look",
            "dirty crash",
            "look",
            "dirty limits",
            "look",
        ],
    ));
    let folder = chain("invocation", "2s", r#""remains""#);
    alike(&looks(&folder, &["look", "dirty timeout", "look"]));
}

/// What it does is little, so that its copy would be rolled back where contexts can
/// be.
#[test]
fn nor_of_what_is_hard_to_see() {
    let folder = chain("invocation", "2s", r#""remains""#);
    alike(&looks(
        &folder,
        &[
            "look",
            "dirty mapping",
            "look",
            "dirty dropped",
            "look",
            "dirty flag",
            "look",
            "dirty border",
            "look",
            "dirty sleep",
            "look",
        ],
    ));
}

/// Where copies stay, one that replaces another is as fresh.
#[test]
fn so_does_one_that_replaces_another() {
    let folder = chain("chain", "30s", r#""remains""#);
    alike(&looks(
        &folder,
        &["look", "dirty crash", "look", "dirty limits", "look"],
    ));
    let folder = chain("chain", "2s", r#""remains""#);
    alike(&looks(&folder, &["look", "dirty timeout", "look"]));
}
