//! Functions in C and C++, compiled as their authors would.

use std::path::Path;
use std::process::Command;

pub fn compile(
    dir: &Path,
    compiler: &str,
    std: &str,
    name: &str,
    text: &str,
) -> libloading::Library {
    let source = dir.join(name);
    let library = dir.join(format!("{name}.so"));
    std::fs::write(&source, text).unwrap();
    let status = Command::new(compiler)
        .args([std, "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"))
        .arg(&source)
        .arg("-o")
        .arg(&library)
        .status()
        .unwrap();
    assert!(status.success());
    // SAFETY: a library that this test has made; its initialisers are the
    // compiler's own.
    unsafe { libloading::Library::new(library).unwrap() }
}
