//! Files of a function's own, until the end of an invocation.

use super::common::{Folder, home, text};
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
    let not_empty = format!("[{}]", libc::ENOTEMPTY);
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
            ("rmdir /tmp/e", &not_empty),
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

/// The function goes on, as it would with a kernel that has none.
#[test]
fn without_memory_a_call_fails_and_nothing_else() {
    for isolation in ["invocation", "chain"] {
        let folder = folder("scratch = \"1MiB\"\nmemory = \"8MiB\"", isolation);
        let input = "put /tmp/a x\nstarve /tmp\nread /tmp/a\nput /tmp/b y";
        let out = folder.run(&[], &[input, input]);
        let said = answers(&out);
        let expected = format!("[x][][{}][x][y][]", libc::ENOMEM);
        assert_eq!(said, expected.repeat(2), "{}", text(&out.stderr));
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

/// On the kernel backend.
#[cfg(target_os = "freebsd")]
#[test]
fn not_beside_connections() {
    let source = home().join("tests/hostile/files.c");
    let folder = Folder::new(&format!(
        "[functions.f]\nsource = \"{}\"\nhandler = \"files\"\nscratch = \"1MiB\"\nconnect = [\"127.0.0.1:1\"]\n[chains.trial]\nsteps = [\"f\"]\n",
        source.display()
    ));
    let out = folder.run(&[], &["list /tmp"]);
    let check = folder.ask("check");
    for out in [out, check] {
        assert!(!out.status.success());
        let said = text(&out.stderr);
        assert!(
            said.contains("beside connections that it is granted"),
            "{said}"
        );
    }
}

#[test]
fn beside_files_that_are_granted() {
    let source = home().join("tests/hostile/files.c");
    let folder = Folder::built(&format!(
        "[functions.f]\nsource = \"{}\"\nhandler = \"files\"\ntimeout = \"60s\"\nscratch = \"1MiB\"\nfiles = [\"a\", \"d/\", \"tmp/\"]\n[chains.trial]\nsteps = [\"f\"]\n",
        source.display()
    ));
    std::fs::create_dir(folder.path("d")).unwrap();
    std::fs::create_dir(folder.path("tmp")).unwrap();
    for name in ["a", "d/b", "tmp/a"] {
        folder.write(name, format!("granted {name}\n"));
    }
    let there = folder.path("");
    let commands = [
        ("put /tmp/a own".to_owned(), "[own][wn]"),
        ("mkdir /tmp/d".to_owned(), "[0]"),
        ("read a".to_owned(), "[granted a]"),
        // Each means what it means from where it begins.
        ("at d b".to_owned(), "[granted d/b]"),
        ("at d ../tmp/a".to_owned(), "[granted tmp/a]"),
        ("at tmp a".to_owned(), "[granted tmp/a]"),
        ("at d /tmp/a".to_owned(), "[own]"),
        ("at /tmp a".to_owned(), "[own]"),
        ("at /tmp/d ../a".to_owned(), "[own]"),
        (
            format!("at /tmp ..{}", there.join("a").display()),
            "[granted a]",
        ),
        (
            format!("at {} ../../etc/passwd", there.join("d").display()),
            "[13]",
        ),
        ("at /tmp ../etc/passwd".to_owned(), "[13]"),
        ("put tmp/a x".to_owned(), "[13]"),
        ("put d/../tmp/a x".to_owned(), "[13]"),
        ("mv /tmp/a tmp/a".to_owned(), "[13]"),
        ("read /tmp/a".to_owned(), "[own]"),
    ];
    let input: Vec<&str> = commands.iter().map(|c| c.0.as_str()).collect();
    let expected: String = commands.iter().map(|c| c.1).collect();
    let out = folder.run(&[], &[&input.join("\n")]);
    // (The tests may be built in /tmp themselves.)
    if there.starts_with("/tmp") {
        assert!(!out.status.success());
        assert!(
            text(&out.stderr).contains("lies in /tmp"),
            "{}",
            text(&out.stderr)
        );
    } else {
        assert_eq!(answers(&out), expected, "{}", text(&out.stderr));
    }
}

#[test]
fn the_audit_tries_it() {
    let source = home().join("tests/hostile/files.c");
    let folder = Folder::new(&format!(
        "[functions.f]\nsource = \"{0}\"\nhandler = \"files\"\nscratch = \"64KiB\"\n[functions.g]\nsource = \"{0}\"\nhandler = \"files\"\n[chains.trial]\nsteps = [\"f\", \"g\"]\n",
        source.display()
    ));
    let out = folder.ask("audit");
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{said} {}", text(&out.stderr));
    let is = |line: &str| line.split_whitespace().eq(["scratch", "own", "rw", "-"]);
    assert!(said.lines().any(is), "{said}");
}

#[test]
fn rust_has_files_of_its_own() {
    let function = home().join("lwc-function");
    let folder = Folder::new(
        "[functions.f]\ncrate = \"f\"\nscratch = \"1MiB\"\ntimeout = \"60s\"\n[chains.trial]\nsteps = [\"f\"]\n",
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

/// The same calls in both: Linux's.
#[cfg(target_os = "linux")]
mod as_the_system {
    use super::*;
    use std::fmt::Write as _;
    use std::io::Write as _;
    use std::path::Path;
    use std::process::{Command, Stdio};

    /// What differs first, with what comes before it.
    fn difference(ours: &str, systems: &str) -> Option<String> {
        let (a, b): (Vec<_>, Vec<_>) = (ours.lines().collect(), systems.lines().collect());
        let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        if same == a.len() && same == b.len() {
            return None;
        }
        let mut text = String::new();
        for line in &a[same.saturating_sub(12)..same] {
            let _ = writeln!(text, "      {line}");
        }
        let line = |of: &[&str]| of.get(same).map_or("(nothing)".into(), |l| (*l).to_owned());
        let _ = writeln!(text, "  own {}\n  sys {}", line(&a), line(&b));
        Some(text)
    }

    /// A folder on a tmpfs. Other file systems differ in some errors.
    fn on_tmpfs() -> Option<tempfile::TempDir> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_default();
        let places = [
            Path::new("/dev/shm"),
            Path::new(&runtime),
            Path::new("/run"),
        ];
        let temporary = std::env::temp_dir();
        places
            .into_iter()
            .chain([temporary.as_path()])
            .find_map(|place| {
                let folder = tempfile::tempdir_in(place).ok()?;
                let path =
                    std::ffi::CString::new(folder.path().as_os_str().as_encoded_bytes()).ok()?;
                // SAFETY: of the struct, zeros are a value; the path ends in a NUL.
                let kind = unsafe {
                    let mut all: libc::statfs = std::mem::zeroed();
                    (libc::statfs(path.as_ptr(), &raw mut all) == 0).then_some(all.f_type)
                };
                (kind? == libc::TMPFS_MAGIC).then_some(folder)
            })
    }

    /// The same calls, at random, in a function's own files and in a folder of the
    /// system's: what comes of each is the same, but where there is no room.
    #[test]
    fn calls_at_random_do_what_they_do_on_a_file_system() {
        const SEEDS: u32 = 32;
        const CALLS: u32 = 400;
        const ROOM: u32 = 48 << 10;
        let source = home().join("tests/hostile/scratch.c");
        let Some(place) = on_tmpfs() else {
            eprintln!("not tried: there is no tmpfs to write to, at /dev/shm or elsewhere");
            return;
        };
        // (Not there: nothing may be run in it, perhaps.)
        let built = tempfile::tempdir().unwrap();
        let plain = built.path().join("plain");
        let done = Command::new("cc")
            .args(["-std=c11", "-O1", "-DPLAIN", "-o"])
            .args([&plain, &source])
            .status();
        assert!(done.unwrap().success());
        let inputs: Vec<String> = (0..SEEDS).map(|seed| format!("{seed} {CALLS}")).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        for isolation in ["invocation", "chain"] {
            let folder = Folder::new(&format!(
                "[functions.f]\nsource = \"{}\"\nhandler = \"scratch\"\ntimeout = \"60s\"\nscratch = {ROOM}\n[chains.trial]\nsteps = [\"f\"]\nisolation = \"{isolation}\"\nregion = \"1MiB\"\n",
                source.display()
            ));
            let out = folder.run(&[], &inputs);
            assert!(out.status.success(), "{}", text(&out.stderr));
            let said = text(&out.stdout);
            let said: Vec<&str> = said.split("seed ").skip(1).collect();
            assert_eq!(said.len(), inputs.len(), "{}", text(&out.stderr));
            for (seed, said) in said.into_iter().enumerate() {
                let said = format!("seed {said}");
                let below = place.path().join(format!("{isolation}{seed}")).join("tmp");
                std::fs::create_dir_all(&below).unwrap();
                let mut child = Command::new(&plain)
                    .args([&seed.to_string(), &CALLS.to_string()])
                    .arg(&below)
                    .arg(ROOM.to_string())
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                // (It reads all before it writes.)
                let mut input = child.stdin.take().unwrap();
                input.write_all(said.as_bytes()).unwrap();
                drop(input);
                let done = child.wait_with_output().unwrap();
                assert!(done.status.success(), "seed {seed}");
                if let Some(difference) = difference(&said, &text(&done.stdout)) {
                    panic!("isolation = {isolation:?}, seed {seed}:\n{difference}");
                }
            }
        }
    }
}
