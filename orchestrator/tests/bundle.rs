//! Bundles: made where a compiler is, run where none is, and refused by name when a
//! byte has changed.

mod common;

use common::{Folder, orchestrator, text};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CHAIN: &str = r#"
[functions.first]
source  = "first.c"
handler = "one"
secrets = { KEY = { file = "key" } }
timeout = "2s"

[functions.again]
source = ["first.c"]
handler = "two"

[functions.last]
source = "last.cpp"
std    = "c++17"
harden = "bounds"

[chains.all]
steps = ["first", "again", "last"]
"#;

fn sources() -> Folder {
    let folder = Folder::new(CHAIN);
    folder.write("key", "the-key");
    folder.write(
        "first.c",
        "#include \"lwc_function.h\"\nLWC_HANDLER(one)\n{\n\tsize_t len;\n\tconst void *key = lwc_secret(inv, \"KEY\", &len);\n\treturn (key == NULL ? 1 : lwc_append(inv, key, len));\n}\nLWC_HANDLER(two)\n{\n\treturn (lwc_append(inv, inv->input, inv->input_len));\n}\n",
    );
    folder.write(
        "last.cpp",
        "#include \"lwc_function.hpp\"\n#include <sstream>\nLWC_FUNCTION(last, [](lwc::Invocation &inv) {\n\tstd::ostringstream text;\n\tfor (char c : std::string(inv.input()))\n\t\ttext << (c == 'k' ? 'h' : c);\n\tinv.append(text.str());\n})\n",
    );
    folder
}

/// As on a machine with nothing on it.
fn bare(args: &[&str]) -> Command {
    let mut command = orchestrator();
    command
        .args(args)
        .env_remove("LWC_CACHE")
        .env_remove("HOME")
        .env_remove("XDG_CACHE_HOME")
        .env("PATH", "/nowhere")
        .env("CC", "/nowhere/cc")
        .env("CARGO", "/nowhere/cargo");
    command
}

fn said(out: &Output) -> String {
    text(&out.stderr) + &text(&out.stdout)
}

/// A bundle, in a folder of its own.
fn bundle(folder: &Folder, name: &str) -> PathBuf {
    let out = folder.path(name);
    let made = orchestrator()
        .arg("build")
        .arg(folder.path("chain.toml"))
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    assert!(
        text(&made.stdout).contains("a secret: key"),
        "{}",
        said(&made)
    );
    out
}

fn run(bundle: &Path, folder: &Folder) -> Output {
    let input = folder.write("input", "");
    bare(&["run"])
        .arg(bundle)
        .arg("--input")
        .arg(input)
        .output()
        .unwrap()
}

#[test]
fn a_bundle_runs_where_no_compiler_is() {
    let folder = sources();
    let made = bundle(&folder, "out/made");
    let files: serde_json::Value =
        serde_json::from_slice(&std::fs::read(made.join("bundle.json")).unwrap()).unwrap();
    // Two functions share a library.
    let libraries = files["files"].as_object().unwrap().keys();
    let own = libraries.filter(|f| f.starts_with("lib/") && !f.contains("needed"));
    assert_eq!(own.count(), 2, "{files}");
    // Elsewhere, without the sources.
    let moved = tempfile::tempdir().unwrap();
    let there = moved.path().join("bundle");
    std::fs::rename(&made, &there).unwrap();
    for name in ["first.c", "last.cpp"] {
        std::fs::remove_file(folder.path(name)).unwrap();
    }
    let out = run(&there, &folder);
    assert_eq!(out.status.code(), Some(2), "{}", said(&out));
    assert!(
        said(&out).contains("chain.toml") && said(&out).contains("/key"),
        "{}",
        said(&out)
    );
    std::fs::write(there.join("key"), "other-key").unwrap();
    for path in [there.clone(), there.join("chain.toml")] {
        let out = run(&path, &folder);
        assert_eq!(text(&out.stdout), "other-hey", "{}", said(&out));
    }
    for what in ["check", "audit"] {
        let out = bare(&[what]).arg(&there).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{what}: {}", said(&out));
    }
    let again = orchestrator().arg("build").arg(&there).output().unwrap();
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
}

#[test]
fn every_byte_of_a_bundle_counts() {
    let folder = sources();
    let made = bundle(&folder, "made");
    std::fs::write(made.join("key"), "x-key").unwrap();
    assert_eq!(text(&run(&made, &folder).stdout), "x-hey");
    let mut files = vec![
        made.join("chain.toml"),
        made.join("bundle.json"),
        made.join("bundle.sha256"),
    ];
    for folder in ["lib", "lib/needed"] {
        let all = std::fs::read_dir(made.join(folder))
            .into_iter()
            .flatten()
            .flatten();
        files.extend(all.map(|e| e.path()).filter(|p| p.is_file()));
    }
    assert!(files.len() > 4, "{files:?}");
    let refused = |name: &str| {
        let out = bare(&["check"]).arg(&made).output().unwrap();
        let said = said(&out);
        assert!(
            out.status.code() == Some(2) && said.contains(name),
            "{name}: {said}"
        );
    };
    for path in &files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let whole = std::fs::read(path).unwrap();
        for at in [0, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(path, bytes).unwrap();
            refused(name);
        }
        for bytes in [
            &whole[..whole.len() - 1],
            &[whole.as_slice(), b"\n"].concat(),
            b"",
        ] {
            std::fs::write(path, bytes).unwrap();
            refused(name);
        }
        std::fs::remove_file(path).unwrap();
        if name != "bundle.json" {
            refused(name);
            std::os::unix::fs::symlink("/dev/null", path).unwrap();
            refused(name);
            std::fs::remove_file(path).unwrap();
        }
        std::fs::write(path, whole).unwrap();
    }
    std::fs::create_dir_all(made.join("lib/needed")).unwrap();
    for added in ["lib/libm.so.6", "lib/needed/libm.so.6"] {
        std::fs::write(made.join(added), "x").unwrap();
        refused(added);
        std::fs::remove_file(made.join(added)).unwrap();
    }
    assert_eq!(text(&run(&made, &folder).stdout), "x-hey");
}

#[test]
fn a_bundle_is_for_one_machine_and_overwrites_nothing() {
    let folder = sources();
    std::fs::create_dir(folder.path("there")).unwrap();
    folder.write("there/file", "x");
    let build = |args: &[&str]| {
        let out = orchestrator()
            .arg("build")
            .arg(folder.path("chain.toml"))
            .args(args)
            .current_dir(folder.path(""))
            .output()
            .unwrap();
        (out.status.code(), said(&out))
    };
    let (code, shown) = build(&["--out", "there"]);
    assert!(
        code == Some(3) && shown.contains("something in this folder"),
        "{shown}"
    );
    let (code, shown) = build(&["--out", "x", "--target", "vax-vms"]);
    assert!(
        code == Some(2) && shown.contains("no machine is known"),
        "{shown}"
    );
    // The compilers at hand are for this one.
    let other = if cfg!(target_os = "linux") {
        "x86_64-unknown-freebsd"
    } else {
        "x86_64-unknown-linux-gnu"
    };
    let (code, shown) = build(&["--out", "x", "--target", other]);
    assert!(
        code == Some(3) && shown.contains("built for another machine"),
        "{shown}"
    );
    assert!(!folder.path("x").exists());
    let (code, shown) = build(&["--out", "x", "--json"]);
    assert_eq!(code, Some(0), "{shown}");
    // Behind what a build that takes long tells of itself.
    let v: serde_json::Value = serde_json::from_str(&shown[shown.find('{').unwrap()..]).unwrap();
    assert_eq!(
        (&v["functions"], &v["libraries"]),
        (&3.into(), &2.into()),
        "{v}"
    );
}

#[cfg(feature = "serve")]
#[test]
fn a_bundle_is_served_and_a_changed_one_refused_while_the_other_serves_on() {
    use common::server::Server;
    let folder = sources();
    let made = bundle(&folder, "made");
    std::fs::write(made.join("key"), "x-key").unwrap();
    let mut command = bare(&["serve"]);
    command
        .arg(&made)
        .args(["--listen", "127.0.0.1:0", "--workers", "1", "--no-watch"]);
    let server = Server::spawn(folder, command);
    assert_eq!(text(&server.post("all", b"").body), "x-hey");
    let mut libraries = std::fs::read_dir(made.join("lib")).unwrap().flatten();
    let library = libraries
        .find(|e| e.file_type().unwrap().is_file())
        .unwrap()
        .path();
    // Beside, and in its place: what runs is mapped from the other.
    let mut bytes = std::fs::read(&library).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(made.join("changed"), bytes).unwrap();
    std::fs::rename(made.join("changed"), &library).unwrap();
    server.signal(libc::SIGHUP);
    server.until("the reload is refused", || {
        server.metric("lwc_reloads_total{result=\"refused\"}") == Some(1.0)
    });
    let name = library.file_name().unwrap().to_str().unwrap();
    assert!(server.log().contains(name), "{}", server.log());
    assert_eq!(text(&server.post("all", b"").body), "x-hey");
}
