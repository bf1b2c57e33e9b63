//! Where secrets and arguments can be seen: by /proc from outside, and by
//! attempts from inside.

mod common;

use common::{Folder, home, orchestrator, text};

const MARK: &[u8] = b"s3cret-of-the-first-7Qz";

fn folder() -> Folder {
    let folder = Folder::new(&format!(
        r#"
[functions.first]
source = "{hostile}"
handler = "hostile"
secrets = {{ KEY = {{ file = "key" }}, TOKEN = {{ env = "TRIAL_TOKEN" }} }}

[functions.second]
source = "{hostile}"
handler = "hostile"
secrets = {{ OTHER = {{ file = "other" }} }}

[functions.third]
source = "{hostile}"
handler = "hostile"

[chains.trial]
steps = ["first", "second", "third"]
region = "16KiB"
"#,
        hostile = home().join("tests/hostile/hostile.c").display()
    ));
    folder.write("key", MARK);
    folder.write("other", b"another-secret-Lx91");
    folder
}

#[test]
fn the_audit_finds_nothing_beyond_the_grants() {
    let folder = folder();
    let out = orchestrator()
        .args(["audit", "--json"])
        .arg(folder.path("chain.toml"))
        .env("TRIAL_TOKEN", "tok-3n-of-the-environment")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let v: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(v["holds"], true);
    let cell = |context: usize, resource: &str| {
        v["chains"][0]["rows"][context]["cells"]
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["resource"] == resource)
            .unwrap_or_else(|| panic!("{resource}"))["reached"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    // The attempts are real: what is granted is reached, and nothing else.
    let expected = [
        ("region 0", ["rw", "r", "-", "-"]),
        ("region 1", ["-", "rw", "r", "-"]),
        ("region 2", ["-", "-", "rw", "r"]),
        ("region 3", ["r", "-", "-", "rw"]),
        ("control 2", ["rw", "-", "rw", "-"]),
        ("secret first.KEY", ["-", "r", "-", "-"]),
        ("secret first.TOKEN", ["-", "r", "-", "-"]),
        ("secret second.OTHER", ["-", "-", "r", "-"]),
        ("descriptors", ["own", "0", "0", "0"]),
        ("overlay region 1", ["-", "-", "-", "-"]),
        ("environment", ["0", "0", "0", "0"]),
        ("files", ["own", "0", "0", "0"]),
    ];
    // Of the process backend: each function has some pages with the root.
    let pages = [
        ("pages of 1:first", ["rw", "rw", "-", "-"]),
        ("pages of 2:second", ["rw", "-", "rw", "-"]),
        ("pages of 3:third", ["rw", "-", "-", "rw"]),
        ("requests served", ["own", "0", "0", "0"]),
        ("other processes", ["own", "0", "0", "0"]),
    ];
    let process = lwc::backend().unwrap() == lwc::Backend::Process;
    for (resource, reached) in expected
        .into_iter()
        .chain(pages.into_iter().filter(|_| process))
    {
        for (context, want) in reached.into_iter().enumerate() {
            assert_eq!(cell(context, resource), want, "{resource} in {context}");
        }
    }
}

/// What was tried is said, and every chain is held against every other.
#[test]
fn the_audit_says_what_it_tried_in_all_chains() {
    let folder = folder();
    let chains = std::fs::read_to_string(folder.path("chain.toml")).unwrap()
        + "[chains.another]\nsteps = [\"third\", \"second\"]\nisolation = \"chain\"\n";
    folder.write("chain.toml", chains);
    let out = orchestrator()
        .arg("audit")
        .arg(folder.path("chain.toml"))
        .env("TRIAL_TOKEN", "tok-3n-of-the-environment")
        .output()
        .unwrap();
    let shown = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{shown} {}", text(&out.stderr));
    for chain in ["chain another (", "chain trial ("] {
        assert!(shown.contains(chain), "{shown}");
    }
    let held = shown.matches("every attempt beyond the grants failed\n");
    assert_eq!(held.count(), 2, "{shown}");
    let process = lwc::backend().unwrap() == lwc::Backend::Process;
    let of_processes = [
        "requests served",
        "other processes",
        "pages of other chains",
    ];
    for row in ["environment", "files", "tried: regions, control pages"]
        .into_iter()
        .chain(of_processes.into_iter().filter(|_| process))
    {
        assert_eq!(
            shown.matches(&format!("\n{row}")).count(),
            2,
            "{row}: {shown}"
        );
    }
}

/// The audit would see a breach: a function that gives its neighbour what is
/// in its own region is not one, but a secret that two functions are granted
/// under one name is reached twice and granted twice.
#[test]
fn a_shared_secret_is_reached_by_both_who_are_granted_it() {
    let folder = folder();
    let shared = std::fs::read_to_string(folder.path("chain.toml"))
        .unwrap()
        .replace("file = \"other\"", "file = \"key\"");
    folder.write("chain.toml", shared);
    let out = orchestrator()
        .arg("audit")
        .arg(folder.path("chain.toml"))
        .env("TRIAL_TOKEN", "t0k3n-n0b0dy-h4s")
        .output()
        .unwrap();
    // Found in the second through the first's grant: more than granted.
    assert_eq!(out.status.code(), Some(1));
    let shown = text(&out.stdout);
    assert!(
        shown.contains("! 2:second reaches secret first.KEY (r)"),
        "{shown}"
    );
}

#[test]
fn a_secret_that_is_not_there_is_named() {
    let folder = folder();
    let out = folder.run(&[], &["ok"]);
    assert_eq!(out.status.code(), Some(4));
    let shown = text(&out.stderr);
    assert!(
        shown.contains("\"TOKEN\"")
            && shown.contains("\"first\"")
            && shown.contains("TRIAL_TOKEN is not set"),
        "{shown}"
    );
}

/// As /proc shows it.
#[cfg(target_os = "linux")]
mod from_outside {
    use super::{MARK, folder};
    use crate::common::orchestrator;
    use crate::common::server::holds;
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;

    fn children(pid: u32) -> Vec<u32> {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .filter(|p: &u32| {
                std::fs::read_to_string(format!("/proc/{p}/stat"))
                    .ok()
                    .and_then(|s| {
                        s.rsplit_once(')')?
                            .1
                            .split_whitespace()
                            .nth(1)?
                            .parse()
                            .ok()
                    })
                    == Some(pid)
            })
            .collect()
    }

    /// A chain that is alive and waits for its input: everything before the first
    /// invocation is done, secrets are erased. From outside, so where contexts are
    /// processes; the audits above look from inside each context, on both backends.
    #[test]
    fn a_secret_is_in_the_memory_of_its_function_and_of_nobody_else() {
        let folder = folder();
        let token = "tok-3n-of-the-environment";
        let mut program = orchestrator()
            .args(["-vv", "run"])
            .arg(folder.path("chain.toml"))
            .args(["--input", "-"])
            .env("TRIAL_TOKEN", token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(program.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("restrict: function third") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended early");
        }
        let root = program.id();
        let contexts = children(root);
        assert_eq!(contexts.len(), 3, "a context for each function");
        for needle in [MARK, token.as_bytes()] {
            // Not root: its memory is closed to its own user.
            assert!(
                [Some(false), None].contains(&holds(root, needle)),
                "the root still has a secret"
            );
            let seen: Vec<Option<bool>> = contexts.iter().map(|&c| holds(c, needle)).collect();
            if seen.iter().all(Option::is_some) {
                let with = seen.iter().filter(|&&s| s == Some(true)).count();
                assert_eq!(with, 1, "{seen:?}: one context, its own, has it");
            } else {
                // Not root: the contexts' memory is closed to their own user, the
                // root context's process included. The audit looks from inside.
                assert!(seen.iter().all(Option::is_none), "{seen:?}");
            }
        }
        if let Ok(environment) = std::fs::read(format!("/proc/{root}/environ")) {
            assert!(
                environment.iter().all(|&b| b == 0),
                "no variable is left where the kernel put it"
            );
        }
        program.stdin.take().unwrap().write_all(b"ok").unwrap();
        std::io::copy(&mut log, &mut std::io::sink()).unwrap();
        assert_eq!(
            program.wait().unwrap().code(),
            Some(1),
            "\"fine\" is no command"
        );
    }
}
