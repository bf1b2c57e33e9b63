//! The examples are run, and say at the end what they have shown.
//!
//! They are programs of their own: a process with contexts has one thread, and
//! the test harness has more.

use std::path::Path;
use std::process::Command;

/// Runs an example, which must succeed. Returns what it printed.
fn run(name: &str) -> String {
    // cargo builds the examples for tests, beside the folder of the tests.
    let tests = std::env::current_exe().unwrap();
    let examples = tests.ancestors().nth(2).unwrap().join("examples");
    let program = examples.join(name);
    assert!(
        Path::new(&program).exists(),
        "{} is missing: cargo build -p lwc --examples",
        program.display()
    );
    let output = Command::new(program).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{}: {out}{err}", output.status);
    out
}

/// The lines of `expected` are in `text`, in this order.
fn tells(text: &str, expected: &[&str]) {
    let mut lines = text.lines();
    for line in expected {
        assert!(
            lines.any(|l| l == *line),
            "{line:?} is not in its place in\n{text}"
        );
    }
}

#[test]
fn rollback() {
    let expected = [
        "alice sees [\"alice\"]",
        "bob sees [\"bob\"]",
        "carol sees [\"carol\"]",
        "rolled back 3 times, nobody is remembered",
        "served 3 in copies, nobody is remembered",
    ];
    tells(&run("rollback"), &expected);
}

#[test]
fn sessions() {
    let expected = [
        "a session killed by SIGSEGV at 0x0",
        "a session is over",
        "each saw its own notes alone",
    ];
    tells(&run("sessions"), &expected);
}

#[test]
fn signer() {
    let expected = [
        "signature 5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        "the signer signs, nobody else has its key",
    ];
    tells(&run("signer"), &expected);
}

#[test]
fn monitor() {
    tells(
        &run("monitor"),
        &["it read the one file and reached nothing else"],
    );
}

#[test]
fn every_example_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| {
            e.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .into()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["monitor", "rollback", "sessions", "signer"]);
}
