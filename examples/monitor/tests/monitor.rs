//! The monitor, run as a program.

use std::path::Path;
use std::process::{Command, Output};

fn monitor(folder: &Path, paths: &[&str]) -> (Output, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lwc-monitor"))
        .arg(folder)
        .args(paths)
        .output()
        .unwrap();
    let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

/// A folder `inner` with files, beside a secret that links lead to.
fn scene() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    std::fs::create_dir_all(at("inner/deep")).unwrap();
    std::fs::write(at("secret"), "the secret\n").unwrap();
    std::fs::write(at("inner/a"), "one\ntwo\n").unwrap();
    std::fs::write(at("inner/deep/b"), "x".repeat(100_000)).unwrap();
    std::os::unix::fs::symlink("../secret", at("inner/out")).unwrap();
    std::os::unix::fs::symlink(at("secret"), at("inner/far")).unwrap();
    std::os::unix::fs::symlink("..", at("inner/deep/up")).unwrap();
    std::os::unix::fs::symlink("deep/b", at("inner/in")).unwrap();
    dir
}

#[test]
fn files_below_the_folder_are_read_and_nothing_else() {
    let dir = scene();
    let inner = dir.path().join("inner");
    let secret = dir.path().join("secret");
    let paths = [
        "a",
        "deep/b",
        "in",
        "deep/../a",
        "deep/up/a",
        "../secret",
        "deep/../../secret",
        "deep/up/../secret",
        secret.to_str().unwrap(),
        "out",
        "far",
        "none",
    ];
    let (output, out, err) = monitor(&inner, &paths);
    assert!(output.status.success(), "{err}");
    let said = |of: &str| {
        out.lines()
            .find_map(|l| l.strip_prefix(of)?.strip_prefix(": "))
            .unwrap_or_else(|| panic!("nothing of {of} in {out}"))
    };
    let logged = |line: &str| {
        assert!(
            err.lines().any(|l| l == format!("monitor: {line}")),
            "no {line:?} in {err}"
        );
    };
    for (path, lines, bytes) in [
        ("a", 2, 8),
        ("deep/b", 0, 100_000),
        ("in", 0, 100_000),
        ("deep/../a", 2, 8),
        ("deep/up/a", 2, 8),
    ] {
        assert_eq!(said(path), format!("{lines} lines, {bytes} bytes"));
        logged(&format!("allowed open({path:?})"));
    }
    for path in &paths[5..11] {
        assert!(said(path).starts_with("Permission denied"), "{out}");
        logged(&format!("refused open({path:?}): Permission denied"));
    }
    assert!(said("none").starts_with("No such file"), "{out}");
    logged("failed open(\"none\"): No such file or directory");
    assert!(!out.contains("the secret") && !err.contains("the secret"));

    for attempt in [
        "delete the first",
        "write to the first",
        "make a socket",
        "make a process",
        "ask for a process",
    ] {
        assert_eq!(said(attempt), "refused");
    }
    logged("refused open(\"a\"): Permission denied"); // to write
    for call in ["unlink", "socket", "fork", "kill"] {
        logged(&format!("refused {call}"));
    }
    assert_eq!(std::fs::read(inner.join("a")).unwrap(), b"one\ntwo\n");
}

#[test]
fn a_named_pipe_does_not_hang_the_monitor() {
    let dir = scene();
    let inner = dir.path().join("inner");
    nix::unistd::mkfifo(&inner.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (output, out, _) = monitor(&inner, &["pipe", "a"]);
    assert!(output.status.success());
    assert!(out.contains("a: 2 lines, 8 bytes"), "{out}");
}

#[test]
fn a_folder_that_is_none_is_an_error() {
    let dir = scene();
    let (output, out, err) = monitor(&dir.path().join("inner/a"), &["x"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out.is_empty() && err.contains("not a folder"), "{err}");
    let (output, _, err) = monitor(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err.starts_with("usage:"), "{err}");
}
