//! What must not compile: handles and memory that would come to lie.
//!
//! Each program of `compile_fail/` is checked by one rustc, without making code,
//! against the crate as this test was built with it. What the compiler must say
//! is in the `.stderr` beside it; its errors and their places are compared, its
//! advice is not, which another version of the compiler words in another way.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The crate `lwc` that this program was linked with, or one that was built after
/// it: cargo names them by hashes, and leaves old ones where they are.
fn newest_lwc(deps: &Path) -> PathBuf {
    let is_lwc = |path: &Path| {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        name.starts_with("liblwc-") && name.ends_with(".rlib")
    };
    let built = |path: &PathBuf| {
        let made = path.metadata().and_then(|m| m.modified());
        made.unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let all = std::fs::read_dir(deps).unwrap().flatten().map(|e| e.path());
    let newest = all.filter(|p| is_lwc(p)).max_by_key(built);
    newest.unwrap_or_else(|| panic!("no liblwc-*.rlib in {}", deps.display()))
}

/// The errors in what a compiler says, each with its place.
fn errors(text: &str) -> Vec<String> {
    let mut lines = text.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let ends = line.starts_with("error: aborting");
        if line.starts_with("error") && !ends {
            let place = lines.next().unwrap_or_default().trim();
            found.push(format!("{line} {place}"));
        }
    }
    found
}

#[test]
fn misuse_does_not_compile() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let exe = std::env::current_exe().unwrap();
    let deps = exe.parent().unwrap();
    let lwc = newest_lwc(deps);
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let check = |program: &Path| {
        let out = tempfile::tempdir().unwrap();
        let ran = Command::new(&rustc)
            .current_dir(home)
            .args(["--edition=2024", "--emit=metadata", "--color=never", "-L"])
            .arg(format!("dependency={}", deps.display()))
            .arg("--extern")
            .arg(format!("lwc={}", lwc.display()))
            .arg("--out-dir")
            .arg(out.path())
            .arg(program)
            .output()
            .unwrap_or_else(|e| panic!("{}: {e}", rustc.display()));
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        (ran.status.success(), said)
    };

    let mut programs: Vec<PathBuf> = std::fs::read_dir(home.join("tests/compile_fail"))
        .unwrap()
        .map(|entry| PathBuf::from("tests/compile_fail").join(entry.unwrap().file_name()))
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect();
    programs.sort();
    assert!(programs.len() >= 10, "{programs:?}");
    let mut wrong = String::new();
    for program in &programs {
        let wanted = std::fs::read_to_string(home.join(program.with_extension("stderr"))).unwrap();
        assert!(!errors(&wanted).is_empty(), "{}", program.display());
        let (compiled, said) = check(program);
        if compiled || errors(&said) != errors(&wanted) {
            wrong += &format!("{}, wanted:\n{wanted}\nfound:\n{said}\n", program.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");

    // A program that keeps to the rules is none of these.
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.rs");
    std::fs::write(&good, "fn main() { let _ = lwc::Region::new(1); }").unwrap();
    let (compiled, said) = check(&good);
    assert!(compiled, "{said}");
}
