//! Unit tests of functions in C and C++, written and compiled as their authors would.

use std::path::Path;
use std::process::Command;

/// The example, which is a function and its test.
const EXAMPLE: &str = "tests/testing_in_c/quote_test.c";

/// Compiles a test and runs it.
fn passes(compiler: &str, options: &[&str], source: &Path) {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("test");
    let compiled = Command::new(compiler)
        .args(options)
        .args(["-Wall", "-Wextra", "-Werror", "-Wpedantic", "-g", "-I"])
        .arg(home.join("include"))
        .arg("-o")
        .arg(&program)
        .arg(source)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{said}");
    let ran = Command::new(&program).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{}: {said}", ran.status);
}

#[test]
fn a_function_in_c_has_its_test_in_c() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    passes("cc", &["-std=c11"], &home.join(EXAMPLE));
}

#[test]
fn and_the_same_is_cpp() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let options = ["-std=c++17", "-x", "c++"];
    passes("c++", &options, &home.join(EXAMPLE));
}

#[test]
fn a_function_in_cpp_has_its_test_in_cpp() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = home.join("tests/testing_in_c/shout_test.cpp");
    passes("c++", &["-std=c++17"], &source);
}

/// A test that expects something else fails.
#[test]
fn a_test_can_fail() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(home.join(EXAMPLE)).unwrap();
    let wrong = text.replace("12.50 EUR\"", "12.51 EUR\"");
    assert_ne!(text, wrong);
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("wrong.c");
    std::fs::write(&source, wrong).unwrap();
    let failed = std::panic::catch_unwind(|| passes("cc", &["-std=c11"], &source));
    assert!(failed.is_err());
}
