//! Files of a function's own, until the end of an invocation.

#![cfg(target_os = "linux")]

use super::common::{Folder, home, orchestrator, text};
use std::process::Output;

fn folder(grants: &str, isolation: &str) -> Folder {
    let source = home().join("tests/hostile/files.c");
    Folder::new(&format!(
        "[functions.f]\nsource = \"{}\"\nhandler = \"files\"\ntimeout = \"60s\"\n{grants}\n[chains.trial]\nsteps = [\"f\"]\nisolation = \"{isolation}\"\n",
        source.display()
    ))
}

#[track_caller]
fn answers(out: &Output) -> String {
    assert!(out.status.success(), "{}", text(&out.stderr));
    text(&out.stdout)
}

#[test]
fn files_of_its_own_are_written_and_gone_afterwards() {
    let of = |isolation| folder("scratch = \"1MiB\"", isolation);
    for folder in [
        of("invocation"),
        of("chain"),
        of("invocation").without_rollback(),
    ] {
        let commands: &[(&str, &str)] = &[
            ("list /tmp", "[]"),
            ("put /tmp/a hello", "[hello][ello]"),
            ("stdio /tmp/b", "[one 2 three four]"),
            ("temp", "[first][second]"),
            ("mkdir /tmp/d", "[0]"),
            ("mkdir /tmp/d", "[17]"),
            ("mkdir /tmp/no/d", "[2]"),
            ("put /tmp/d/c deep", "[deep][eep]"),
            ("at /tmp/d c", "[deep]"),
            ("list /tmp/d", "[c ]"),
            ("mv /tmp/d /tmp/e", "[0]"),
            ("read /tmp/e/c", "[deep]"),
            ("read /tmp/../tmp/./e/c", "[deep]"),
            ("read /tmp/d/c", "[2]"),
            ("stat /tmp/a", "[file 5][file][file][0]"),
            ("stat /tmp/e", "[folder 0][folder][folder][0]"),
            ("stat /tmp", "[folder 0][folder][folder][0]"),
            ("fstat /tmp/a", "[file 5 1]"),
            ("access /tmp/a 2", "[0]"),
            ("rmdir /tmp/e", "[39]"),
            ("rm /tmp/e/c", "[0]"),
            ("rmdir /tmp/e", "[0]"),
            ("rm /tmp/a", "[0]"),
            ("read /tmp/a", "[2]"),
            ("realpath /tmp/b", "[/tmp/b]"),
            // Elsewhere it has none.
            ("put /var/tmp/a x", "[13]"),
            ("put /tmpx x", "[13]"),
            ("put a x", "[13]"),
            ("mv /tmp/b /etc/b", "[13]"),
            ("mkdir /d", "[13]"),
        ];
        let input: Vec<&str> = commands.iter().map(|c| c.0).collect();
        let expected: String = commands.iter().map(|c| c.1).collect();
        let input = input.join("\n");
        let out = folder.run(
            &[],
            &[
                &input,
                "wild\nlist /tmp\nput /tmp/a again",
                "list /tmp\nwild",
            ],
        );
        let expected = expected + "[0][][again][gain][][0]";
        assert_eq!(answers(&out), expected, "{}", text(&out.stderr));
    }
}

#[test]
fn there_is_as_much_room_as_is_granted() {
    for isolation in ["invocation", "chain"] {
        let folder = folder("scratch = \"1MiB\"", isolation);
        let out = folder.run(&[], &["fill /tmp/a\nfill /tmp/b\nrm /tmp/a", "fill /tmp/a"]);
        let said = answers(&out);
        // A file takes a little beside its bytes.
        assert_eq!(said, "[1023 28][0 28][0][1023 28]", "{}", text(&out.stderr));
    }
}

#[test]
fn without_the_grant_there_is_none() {
    let folder = folder("", "invocation");
    let out = folder.run(
        &[],
        &["put /tmp/a x\nmkdir /tmp/d\nrm /tmp/a\nmv /tmp/a /tmp/b\nwild"],
    );
    let stderr = text(&out.stderr);
    assert_eq!(answers(&out), "[13][13][13][13][0]", "{stderr}");
    assert!(stderr.contains("scratch = \"16MiB\""), "{stderr}");
}

#[test]
fn beside_files_that_are_granted() {
    let folder = folder("scratch = \"1MiB\"\nfiles = [\"a\"]", "invocation");
    // (The folder itself may lie in /tmp, so the file is asked for as it is granted.)
    folder.write("a", "granted\n");
    let out = folder.run(&[], &["put /tmp/a own\nread /tmp/a"]);
    if std::env::temp_dir().starts_with("/tmp") {
        assert!(!out.status.success());
        assert!(
            text(&out.stderr).contains("lies in /tmp"),
            "{}",
            text(&out.stderr)
        );
    } else {
        assert_eq!(answers(&out), "[own][wn][own]");
    }
}

#[test]
fn the_audit_tries_it() {
    let source = home().join("tests/hostile/files.c");
    let folder = Folder::new(&format!(
        "[functions.f]\nsource = \"{0}\"\nhandler = \"files\"\nscratch = \"64KiB\"\n[functions.g]\nsource = \"{0}\"\nhandler = \"files\"\n[chains.trial]\nsteps = [\"f\", \"g\"]\n",
        source.display()
    ));
    let mut command = orchestrator();
    let out = command
        .arg("audit")
        .arg(folder.path("chain.toml"))
        .output()
        .unwrap();
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{said} {}", text(&out.stderr));
    let is = |line: &str| line.split_whitespace().eq(["scratch", "own", "rw", "-"]);
    assert!(said.lines().any(is), "{said}");
}

#[test]
fn rust_has_files_of_its_own() {
    let function = home().join("lwc-function");
    let folder = Folder::new(
        "[functions.f]\ncrate = \"f\"\nscratch = \"1MiB\"\n[chains.trial]\nsteps = [\"f\"]\n",
    );
    std::fs::create_dir_all(folder.path("f/src")).unwrap();
    folder.write(
        "f/Cargo.toml",
        format!(
            "[package]\nname = \"f\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\nlwc-function = {{ path = {function:?} }}\n[workspace]\n"
        ),
    );
    folder.write(
        "f/src/lib.rs",
        r#"
use std::fs;
use std::io::{Read, Seek, Write};
fn said() -> std::io::Result<String> {
    let place = std::env::temp_dir();
    let count = fs::read_dir(&place)?.count();
    fs::create_dir_all(place.join("a/b"))?;
    fs::write(place.join("a/b/c"), "written")?;
    fs::copy(place.join("a/b/c"), place.join("a/d"))?;
    fs::rename(place.join("a/d"), place.join("e"))?;
    let mut file = fs::File::options().read(true).append(true).open(place.join("e"))?;
    write!(file, " more")?;
    file.rewind()?;
    let mut all = String::new();
    file.read_to_string(&mut all)?;
    file.set_len(3)?;
    all += &format!(" {} {count}", file.metadata()?.len());
    fs::remove_dir_all(place.join("a"))?;
    Ok(all + &format!(" {}", fs::read_dir(&place)?.count()))
}
fn f(inv: &mut lwc_function::Invocation<'_>) -> lwc_function::Result<()> {
    let text = said().unwrap_or_else(|e| e.to_string());
    inv.spare_mut()[..text.len()].copy_from_slice(text.as_bytes());
    inv.commit(text.len())
}
lwc_function::handler!(f, f);
"#,
    );
    let out = folder.run(&[], &["", ""]);
    let expected = "written more 3 0 1";
    assert_eq!(answers(&out), expected.repeat(2), "{}", text(&out.stderr));
}
