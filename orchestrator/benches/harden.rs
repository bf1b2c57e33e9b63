//! What harden = "bounds" costs beside AddressSanitizer, and what each stops of the
//! planted faults: the tables of docs/hardening.md.
//!
//! All run as ordinary programs, for AddressSanitizer cannot run in a context; the
//! flags are those of this compiler, as `build` finds them.
//!
//! `cargo bench -p lwc-orchestrator --bench harden`

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

const WORK: [&str; 4] = [
    "bytes of arrays (CRC)",
    "qsort, signed arithmetic",
    "matrices",
    "lists and text on the heap",
];

fn main() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harden");
    let folder = tempfile::tempdir().unwrap();
    let bounds = flags(folder.path());
    let kinds: [(&str, Vec<String>); 3] = [
        ("plain", Vec::new()),
        ("harden", bounds),
        ("asan", vec!["-fsanitize=address".into()]),
    ];
    let mut faults = Vec::new();
    let mut work = Vec::new();
    for (name, flags) in &kinds {
        let program = |what: &str, parts: &[&str]| -> PathBuf {
            let to = folder.path().join(format!("{name}-{what}"));
            let mut objects = Vec::new();
            for part in parts {
                let object = folder.path().join(format!("{name}-{part}.o"));
                let (cc, std) = match part.ends_with(".c") {
                    true => ("cc", "-std=gnu17"),
                    false => ("c++", "-std=gnu++20"),
                };
                let mut command = Command::new(cc);
                command.args([std, "-O2", "-g", "-DALONE"]).args(flags);
                command
                    .arg("-c")
                    .arg(sources.join(part))
                    .arg("-o")
                    .arg(&object);
                assert!(command.status().unwrap().success(), "{command:?}");
                objects.push(object);
            }
            let mut link = Command::new("c++");
            link.args(flags)
                .args(&objects)
                .arg("-o")
                .arg(&to)
                .arg("-lm");
            assert!(link.status().unwrap().success(), "{link:?}");
            to
        };
        faults.push(program("faults", &["faults.c", "faults.cpp"]));
        work.push(program("work", &["work.c"]));
    }

    println!("| fault | plain | harden = \"bounds\" | AddressSanitizer |");
    println!("|---|---|---|---|");
    for fault in named(&sources) {
        let cells = faults.iter().map(|program| {
            let out = Command::new(program).arg(&fault).output().unwrap();
            match String::from_utf8_lossy(&out.stdout).trim() {
                said if out.status.success() => said.to_owned(),
                _ => "stopped".to_owned(),
            }
        });
        println!("| {fault} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    println!();

    // One after the other, several times: a busy moment is nobody's alone.
    let mut best = vec![[u64::MAX; WORK.len()]; kinds.len()];
    for _ in 0..5 {
        for (program, best) in work.iter().zip(&mut best) {
            let out = Command::new(program).output().unwrap();
            let said = String::from_utf8_lossy(&out.stdout).into_owned();
            for (took, best) in said.lines().zip(best) {
                *best = (*best).min(took.parse().unwrap());
            }
        }
    }
    println!("| work | plain, us | harden = \"bounds\" | AddressSanitizer |");
    println!("|---|---|---|---|");
    for (n, what) in WORK.iter().enumerate() {
        let plain = best[0][n] as f64;
        let ratio = |kind: usize| best[kind][n] as f64 / plain;
        println!(
            "| {what} | {:.0} | {:.2} | {:.2} |",
            plain / 1000.0,
            ratio(1),
            ratio(2)
        );
    }
}

/// The flags that hardening is here: those of the compiler's command that a build
/// shows, and of no build without it.
fn flags(folder: &Path) -> Vec<String> {
    let command = |harden: &str| -> Vec<String> {
        let broken = folder.join("broken.cpp");
        std::fs::write(&broken, "#error\n").unwrap();
        let chain = folder.join("chain.toml");
        let text =
            format!("[functions.f]\nsource = 'broken.cpp'\n{harden}\n[chains.x]\nsteps = ['f']\n");
        std::fs::write(&chain, text).unwrap();
        let (file, _) = lwc_orchestrator::chain_file::load(&chain).unwrap();
        let errors = lwc_orchestrator::build::build(&file).unwrap_err();
        match &errors[0] {
            lwc_orchestrator::build::BuildError::Compiler { command, .. } => {
                command.split_whitespace().map(String::from).collect()
            }
            other => panic!("{other}"),
        }
    };
    let plain = command("");
    let mut flags = command("harden = 'bounds'");
    flags.retain(|f| !plain.contains(f));
    flags
}

/// The names of the faults, as the source has them.
fn named(sources: &Path) -> Vec<String> {
    ["faults.c", "faults.cpp"]
        .iter()
        .flat_map(|file| {
            let text = std::fs::read_to_string(sources.join(file)).unwrap();
            let names = text.split("(name, \"").skip(1);
            names
                .filter_map(|rest| rest.split('"').next().map(String::from))
                .collect::<Vec<_>>()
        })
        .filter(|name| name != "none")
        .collect()
}
