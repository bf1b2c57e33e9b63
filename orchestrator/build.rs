//! Which commit a release is of, for `--version`, the page and the metrics.
//!
//! `LWC_COMMIT`, for who builds from an archive; what cargo has noted in a package; or
//! what git says of this repository. Programs that are not for release say none: they
//! would be compiled anew with each commit.

use std::process::Command;

/// As much of it as names one.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LWC_COMMIT");
    let commit = commit().unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let told = match &*commit {
        "" => version.to_owned(),
        commit => format!("{version} ({commit})"),
    };
    println!("cargo::rustc-env=LWC_VERSION={told}");
    println!("cargo::rustc-env=LWC_COMMIT={commit}");
}

fn commit() -> Option<String> {
    match std::env::var("LWC_COMMIT") {
        Ok(told) if !told.is_empty() => match short(&told) {
            Some(commit) => return Some(commit),
            None => panic!(
                "LWC_COMMIT is {told:?}: name a commit by {DIGITS} hexadecimal digits or more"
            ),
        },
        _ => {}
    }
    packed().or_else(by_git)
}

/// The beginning of a commit's name.
fn short(name: &str) -> Option<String> {
    let name = name.trim();
    let is_name = name.len() >= DIGITS && name.bytes().all(|b| b.is_ascii_hexdigit());
    is_name.then(|| name[..DIGITS].to_ascii_lowercase())
}

/// What cargo writes into a package that it makes of a clean tree.
fn packed() -> Option<String> {
    let noted = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let name = noted.split_once("\"sha1\":")?.1.split('"').nth(1)?;
    short(name)
}

fn by_git() -> Option<String> {
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return None;
    }
    let git = |args: &[&str]| {
        let done = Command::new("git")
            .arg("rev-parse")
            .args(args)
            .output()
            .ok()?;
        let told = String::from_utf8(done.stdout).ok()?;
        done.status.success().then(|| told.trim_end().to_owned())
    };
    // Not of a repository that this is a part of.
    if git(&["--show-prefix"])? != "orchestrator/" {
        return None;
    }
    // It has a line more after each commit, and where another is checked out. (Where it is
    // not kept this runs each time.)
    let log = git(&["--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={log}");
    short(&git(&["HEAD"])?)
}
