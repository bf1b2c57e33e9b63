//! The environment that is granted: all of it, right, and no more.

use super::common::{Folder, orchestrator, text};
use super::file;
use std::process::Output;

/// `run` on one input, with a variable of the orchestrator's.
fn run(grants: &str, isolation: &str, inputs: &[&str]) -> Output {
    let folder = Folder::new(&(file(grants) + &format!("isolation = \"{isolation}\"\n")));
    let mut command = orchestrator();
    command
        .env("TRIAL_REGION", "eu-\u{fc}")
        .env("TRIAL_OTHER", "nobody's")
        .arg("run")
        .arg(folder.path("chain.toml"));
    for (i, input) in inputs.iter().enumerate() {
        let input = folder.write(&format!("input{i}"), input);
        command.arg("--input").arg(input);
    }
    command.output().unwrap()
}

#[test]
fn a_function_has_the_variables_that_are_granted_and_no_others() {
    let out = run(
        r#"env = { CITY = "Boston = 1", EMPTY = "", REGION = { from = "TRIAL_REGION" } }"#,
        "invocation",
        &["env"],
    );
    let said = text(&out.stdout);
    let expected = "[CITY=Boston = 1][EMPTY=][REGION=eu-\u{fc}]";
    assert_eq!(said, expected, "{}", text(&out.stderr));
    let out = run("", "invocation", &["env"]);
    assert_eq!(text(&out.stdout), "", "{}", text(&out.stderr));
}

#[test]
fn what_it_sets_goes_with_the_invocation() {
    let inputs = ["setenv CITY Paris\nsetenv MORE x\nenv", "env"];
    let env = r#"env = { CITY = "Boston" }"#;
    let out = run(env, "invocation", &inputs);
    let said = text(&out.stdout);
    assert_eq!(
        said,
        "[CITY=Paris][MORE=x][CITY=Boston]",
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn time_zones_and_locales_work_in_the_sandbox() {
    let there = |path: &str| std::path::Path::new(path).exists();
    if there("/usr/share/zoneinfo/Asia/Tokyo") {
        let out = run(
            r#"env = { TZ = "Asia/Tokyo" }"#,
            "invocation",
            &["time\ntime", "time"],
        );
        let said = text(&out.stdout);
        assert_eq!(said, "21 JST;21 JST;21 JST;", "{}", text(&out.stderr));
    }
    // Nobody's is granted.
    let out = run("", "invocation", &["time\nlocale"]);
    let said = text(&out.stdout);
    // FreeBSD's library has this name for a zone that it may not look up.
    let zone = ["12 UTC;C ", "12 -00;C "][usize::from(cfg!(target_os = "freebsd"))];
    assert!(said.starts_with(zone), "{said} {}", text(&out.stderr));
    if cfg!(target_os = "linux") {
        let out = run(
            r#"env = { LANG = "C.UTF-8" }"#,
            "chain",
            &["locale", "locale"],
        );
        let said = text(&out.stdout);
        assert_eq!(said, "C.UTF-8 UTF-8;".repeat(2), "{}", text(&out.stderr));
    }
}

/// Which variable, whose, where, and how to mend it.
#[test]
fn a_variable_that_is_not_set_is_told() {
    let out = run(
        r#"env = { REGION = { from = "TRIAL_UNSET" } }"#,
        "invocation",
        &["env"],
    );
    assert_eq!(out.status.code(), Some(4), "{}", text(&out.stdout));
    let said = text(&out.stderr);
    for part in [
        "\"REGION\" in `env` of function \"f\"",
        "TRIAL_UNSET is not set",
        "export it",
        "give it a text",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn the_audit_tries_each_variable() {
    let grants = r#"env = { CITY = "Boston", REGION = { from = "TRIAL_REGION" } }"#;
    let folder = Folder::new(&file(grants));
    let audit = |more: &[&str]| {
        let mut command = orchestrator();
        let command = command.env("TRIAL_REGION", "eu").arg("audit").args(more);
        command.arg(folder.path("chain.toml")).output().unwrap()
    };
    let out = audit(&[]);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{said} {}", text(&out.stderr));
    for row in [
        ["variable", "CITY", "-", "r"],
        ["variable", "REGION", "-", "r"],
    ] {
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert!(
            said.lines().any(|line| words(line) == row),
            "{row:?}: {said}"
        );
    }
    assert!(said.contains("environment"), "{said}");
    let out = audit(&["--json"]);
    let v: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let cells = v["chains"][0]["rows"][1]["cells"].as_array().unwrap();
    let all = cells.iter().find(|c| c["resource"] == "environment");
    assert_eq!(all.unwrap()["reached"], "2");
    assert_eq!(all.unwrap()["granted"], "2");
}
