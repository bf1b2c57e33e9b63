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
        refused(name);
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

/// What a stranger's manifest says, with the hash that makes it one.
fn seal(bundle: &Path, manifest: &serde_json::Value) {
    use sha2::{Digest, Sha256};
    let text = manifest.to_string();
    let hash = Sha256::digest(&text);
    let hash: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    std::fs::write(bundle.join("bundle.json"), &text).unwrap();
    std::fs::write(
        bundle.join("bundle.sha256"),
        format!("{hash}  bundle.json\n"),
    )
    .unwrap();
}

fn manifest(bundle: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(bundle.join("bundle.json")).unwrap()).unwrap()
}

/// `check` refuses it: with this exit code, in one line of text that says this.
#[track_caller]
fn refused(bundle: &Path, code: i32, says: &str) {
    let out = bare(&["check"]).arg(bundle).output().unwrap();
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{says}: {said}");
    assert!(said.contains(says), "{says}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn no_file_of_a_bundle_is_waited_for_or_elsewhere() {
    let folder = sources();
    let made = bundle(&folder, "made");
    let library = std::fs::read_dir(made.join("lib")).unwrap();
    let library = library.map(|e| e.unwrap().path()).find(|p| p.is_file());
    let library = library.unwrap();
    let library = library.strip_prefix(&made).unwrap().to_str().unwrap();
    let aside = folder.path("aside");
    for name in ["bundle.json", "bundle.sha256", "chain.toml", library] {
        let path = made.join(name);
        std::fs::rename(&path, &aside).unwrap();
        // Nobody ever writes to it.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused(&made, 2, name);
        if name.starts_with("bundle") {
            // Nor is it taken for a chain file of nobody's.
            refused(&made.join("chain.toml"), 2, name);
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&aside, &path).unwrap();
        refused(&made, 2, name);
        std::fs::remove_file(&path).unwrap();
        refused(&made, 2, name);
        std::fs::rename(&aside, &path).unwrap();
    }
    // A folder that leads out of it.
    std::fs::rename(made.join("lib"), &aside).unwrap();
    std::os::unix::fs::symlink(&aside, made.join("lib")).unwrap();
    refused(&made, 2, "a link is on the way");
    std::fs::remove_file(made.join("lib")).unwrap();
    std::fs::rename(&aside, made.join("lib")).unwrap();
    // Nor is one read for hours.
    let file = std::fs::File::create(made.join("large")).unwrap();
    file.set_len((1 << 30) + 1).unwrap();
    let mut large = manifest(&made);
    large["files"]["large"] = "0".repeat(64).into();
    let whole = manifest(&made);
    seal(&made, &large);
    refused(&made, 2, "large is larger than");
    seal(&made, &whole);
    std::fs::write(made.join("key"), "the-key").unwrap();
    let out = bare(&["check"]).arg(&made).output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
}

#[test]
fn what_a_strangers_manifest_names_is_below_it_and_one_line() {
    let folder = sources();
    let made = bundle(&folder, "made");
    let whole = manifest(&made);
    for name in [
        "",
        ".",
        "..",
        "../key",
        "/etc/passwd",
        "lib/",
        "lib//x",
        "lib/./x",
        "lib/../chain.toml",
        "lib/x\nerror: y",
        "lib/\u{1b}[31m",
        "lib/\u{202e}x",
        "x\0",
    ] {
        let mut odd = whole.clone();
        odd["files"][name] = "0".repeat(64).into();
        seal(&made, &odd);
        refused(&made, 2, "is no path in a bundle");
    }
    for key in ["made_by", "target"] {
        let mut odd = whole.clone();
        odd[key] = "x\nerror: \u{1b}[31my".into();
        odd["format"] = if key == "target" { 1 } else { 2 }.into();
        seal(&made, &odd);
        refused(&made, 2, r"x\nerror: \u{1b}[31my");
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn cc(args: &[&str]) {
    let out = Command::new("cc").args(args).output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
}

/// A library that says, in words for the loader, where others are on the machine on
/// which it was built. That folder is whoever's that first makes it elsewhere.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn a_bundle_loads_nothing_from_where_it_was_built() {
    let folder = Folder::new(
        "[functions.f]\nsource = \"f.c\"\nlink = [\"vendor/libvendor.so\", \"resolv\"]\n\n[chains.all]\nsteps = [\"f\"]\n",
    );
    folder.write(
        "f.c",
        "#include \"lwc_function.h\"\n#include <arpa/nameser.h>\nint vendor(void);\nLWC_HANDLER(f)\n{\n\tunsigned char two[2] = {0, vendor()};\n\tunsigned n = ns_get16(two);\n\treturn (lwc_append(inv, n == 7 ? \"seven\" : \"other\", 5));\n}\n",
    );
    std::fs::create_dir(folder.path("vendor")).unwrap();
    let source = folder.write("vendor.c", "int vendor(void)\n{\n\treturn (7);\n}\n");
    let vendor = folder.path("vendor/libvendor.so");
    let [source, vendor] = [&source, &vendor].map(|p| p.to_str().unwrap());
    let build = || {
        orchestrator()
            .arg("build")
            .arg(folder.path("chain.toml"))
            .arg("--out")
            .arg(folder.path("made"))
            .output()
            .unwrap()
    };
    // Without a name of its own it is needed by its path, which is here alone.
    cc(&["-shared", "-fPIC", source, "-o", vendor]);
    let out = build();
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    assert!(said(&out).contains("by its path"), "{}", said(&out));
    let named = "-Wl,-soname,libvendor.so";
    cc(&["-shared", "-fPIC", source, named, "-o", vendor]);
    let out = build();
    assert!(out.status.success(), "{}", said(&out));
    // Others, with the names of one that is in the bundle and of one of the system's.
    let came = folder.path("came");
    let planted = folder.write(
        "planted.c",
        format!(
            "#include <fcntl.h>\nunsigned ns_get16(const unsigned char *p)\n{{\n\treturn (p[1]);\n}}\nint vendor(void)\n{{\n\treturn (7);\n}}\n__attribute__((constructor)) static void init(void)\n{{\n\t(void)open({:?}, O_CREAT | O_WRONLY, 0600);\n}}\n",
            came.to_str().unwrap()
        ),
    );
    for name in ["libvendor.so", "libresolv.so.2"] {
        let soname = format!("-Wl,-soname,{name}");
        let path = folder.path("vendor").join(name);
        let [planted, path] = [&planted, &path].map(|p| p.to_str().unwrap());
        cc(&["-shared", "-fPIC", planted, &soname, "-o", path]);
    }
    let input = folder.write("in", "");
    let run = |file: &str| {
        let mut command = orchestrator();
        command.arg("run").arg(folder.path(file)).arg("--input");
        let out = command.arg(&input).output().unwrap();
        assert_eq!(text(&out.stdout), "seven", "{}", said(&out));
        came.exists()
    };
    assert!(
        !run("made"),
        "something was loaded that is not the bundle's"
    );
    // They would be, where they are looked for.
    assert!(run("chain.toml"));
}

/// The system's loader, which is asked what a library needs, runs what it names as
/// auditors (DT_AUDIT), and whatever lies where one of its segments is mapped over it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn check_has_the_loader_run_nothing_of_a_library() {
    let folder = sources();
    let came = folder.path("came");
    let code = format!(
        "#include <fcntl.h>\nunsigned la_version(unsigned version)\n{{\n\t(void)open({:?}, O_CREAT | O_WRONLY, 0600);\n\treturn (version);\n}}\n",
        came.to_str().unwrap()
    );
    let code = folder.write("auditor.c", code);
    let auditor = folder.path("auditor.so");
    let [code, auditor] = [&code, &auditor].map(|p| p.to_str().unwrap());
    cc(&["-shared", "-fPIC", code, "-o", auditor]);
    let handler = folder.write(
        "handler.c",
        "#include \"lwc_function.h\"\nLWC_HANDLER(one)\n{\n\treturn (lwc_append(inv, \"x\", 1));\n}\n",
    );
    let out = orchestrator().arg("library").output().unwrap();
    let include = format!("-I{}/include", text(&out.stdout).trim());
    let library = folder.path("audited.so");
    let [handler, library] = [&handler, &library].map(|p| p.to_str().unwrap());
    let audit = format!("-Wl,--audit={auditor}");
    cc(&["-shared", "-fPIC", &include, handler, &audit, "-o", library]);
    folder.write(
        "chain.toml",
        "[functions.one]\nlibrary = \"audited.so\"\n\n[chains.all]\nsteps = [\"one\"]\n",
    );
    let made = folder.path("made");
    for words in [
        vec!["check"],
        vec!["build", "--out", made.to_str().unwrap()],
    ] {
        let mut command = orchestrator();
        command.args(&words).arg(folder.path("chain.toml"));
        let out = command.output().unwrap();
        assert!(out.status.success(), "{words:?}: {}", said(&out));
        assert!(!came.exists(), "{words:?}");
    }
    let out = bare(&["check"]).arg(&made).output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
    assert!(!came.exists());
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
