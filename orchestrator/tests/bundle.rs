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

/// A segment of the library's over the loader, which is asked what the library needs.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#[test]
fn check_runs_nothing_of_a_library_that_takes_the_loaders_place() {
    let folder = sources();
    let made = bundle(&folder, "made");
    std::fs::write(made.join("key"), "the-key").unwrap();
    let mut whole = manifest(&made);
    let library = made.join(toml_library(&made));
    let came = folder.path("came");
    let bytes = over_the_loader(&std::fs::read(&library).unwrap(), &came);
    std::fs::write(&library, &bytes).unwrap();
    let name = library.strip_prefix(&made).unwrap().to_str().unwrap();
    let hash = <sha2::Sha256 as sha2::Digest>::digest(&bytes);
    let hash: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    whole["files"][name] = hash.into();
    seal(&made, &whole);
    let _ = Command::new("/lib64/ld-linux-x86-64.so.2")
        .arg(&library)
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .output();
    let fooled = std::fs::remove_file(&came).is_ok();
    let out = bare(&["check"]).arg(&made).output().unwrap();
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    assert!(!came.exists(), "{}", said(&out));
    if !fooled {
        eprintln!("this system's loader does not fall for it: nothing was shown");
    }
}

/// The library of the first function.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
fn toml_library(bundle: &Path) -> String {
    let chain = std::fs::read_to_string(bundle.join("chain.toml")).unwrap();
    let chain: toml::Table = chain.parse().unwrap();
    let library = chain["functions"]["first"]["library"].as_str();
    library.unwrap().to_owned()
}

/// The same library with one more segment, behind it in memory, where the loader is that
/// maps it: all of it makes a file.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
fn over_the_loader(library: &[u8], file: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    const HEADER: usize = 56;
    const SIZE: usize = 0x80000;
    let word = |b: &[u8], at: usize| u64::from_le_bytes(b[at..at + 8].try_into().unwrap());
    let mut bytes = library.to_vec();
    let table = word(&bytes, 32) as usize;
    let count = usize::from(u16::from_le_bytes([bytes[56], bytes[57]]));
    let headers: Vec<Vec<u8>> = (0..count)
        .map(|n| bytes[table + n * HEADER..][..HEADER].to_vec())
        .collect();
    let kind = |h: &[u8]| u32::from_le_bytes(h[..4].try_into().unwrap());
    let (mut loads, others): (Vec<_>, Vec<_>) = headers.into_iter().partition(|h| kind(h) == 1);
    let end = loads.iter().map(|h| word(h, 16) + word(h, 40)).max();
    let end = end.unwrap().next_multiple_of(0x1000);
    bytes.resize(bytes.len().next_multiple_of(0x1000), 0);
    let mut header = Vec::new();
    header.extend(1u32.to_le_bytes());
    header.extend(5u32.to_le_bytes()); // to read, to run
    let size = SIZE as u64;
    for n in [bytes.len() as u64, end, end, size, size, 0x1000] {
        header.extend(n.to_le_bytes());
    }
    // The last one says how far all of it goes, and this one goes further.
    loads.insert(loads.len() - 1, header);
    // As many as before: one that no loader needs less.
    const EH_FRAME: u32 = 0x6474_e550;
    let others = others.into_iter().filter(|h| kind(h) != EH_FRAME);
    let all: Vec<u8> = loads.into_iter().chain(others).flatten().collect();
    assert!(all.len() <= count * HEADER);
    bytes[table..table + all.len()].copy_from_slice(&all);
    bytes[56..58].copy_from_slice(&((all.len() / HEADER) as u16).to_le_bytes());
    let mut code = vec![0xb8, 2, 0, 0, 0]; // mov $SYS_open, %eax
    code.extend([0x48, 0x8d, 0x3d, 21, 0, 0, 0]); // lea name(%rip), %rdi
    code.extend([0xbe, 0x41, 0, 0, 0]); // mov $(O_CREAT | O_WRONLY), %esi
    code.extend([0xba, 0x80, 1, 0, 0]); // mov $0600, %edx
    code.extend([0x0f, 0x05]); // syscall
    code.extend([0xb8, 0xe7, 0, 0, 0]); // mov $SYS_exit_group, %eax
    code.extend([0x31, 0xff, 0x0f, 0x05]); // xor %edi, %edi; syscall
    code.extend(file.as_os_str().as_bytes());
    code.push(0);
    bytes.resize(bytes.len() + SIZE - code.len(), 0x90); // nop
    bytes.extend(code);
    bytes
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
