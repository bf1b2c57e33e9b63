//! The binary as people use it: new, run, and the examples.

mod common;

use common::{Folder, home, orchestrator, text};
use std::io::BufRead;
use std::process::{Command, Stdio};

#[test]
fn it_says_which_version_it_is() {
    let out = orchestrator().arg("--version").output().unwrap();
    let told = text(&out.stdout);
    let commit = told
        .trim_end()
        .strip_prefix(concat!("lwc-orchestrator ", env!("CARGO_PKG_VERSION")))
        .unwrap_or_else(|| panic!("{told}"));
    // Of a release, in a repository.
    let digits = commit.strip_prefix(" (").and_then(|c| c.strip_suffix(')'));
    let is_commit = |d: &str| d.len() == 12 && d.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(commit.is_empty() || digits.is_some_and(is_commit), "{told}");
}

#[test]
fn a_new_function_runs_at_once_in_every_language() {
    let dir = tempfile::tempdir().unwrap();
    for lang in ["c", "cpp", "rust"] {
        for (name, more, says) in [
            (format!("my-{lang}"), None, "Hello, world!\n"),
            (
                format!("my-{lang}-flow"),
                Some("--workflow"),
                "Hello, WORLD!\n",
            ),
        ] {
            let made = orchestrator()
                .args(["new", &name, "--lang", lang])
                .args(more)
                .arg("--dir")
                .arg(dir.path())
                .output()
                .unwrap();
            assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
            let home = dir.path().join(&name);
            let out = orchestrator()
                .arg("run")
                .arg(home.join("chain.toml"))
                .arg("--input")
                .arg(home.join("input.txt"))
                .output()
                .unwrap();
            assert_eq!(text(&out.stdout), says, "{}", text(&out.stderr));
            assert_eq!(out.status.code(), Some(0));
            its_unit_test_passes(&home, says);
        }
    }
    let again = orchestrator()
        .args(["new", "my-c", "--lang", "c", "--dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(2), "nothing is overwritten");
    for bad in ["../x", "A", "", "9x", "shout"] {
        let out = orchestrator()
            .args(["new", bad, "--lang", "c", "--workflow", "--dir"])
            .arg(dir.path())
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(2), "{bad:?}");
    }
}

/// The commands that the README of a new function has, as they stand there; and that its
/// test fails when the function does something else.
fn its_unit_test_passes(home: &std::path::Path, says: &str) {
    let readme = std::fs::read_to_string(home.join("README.md")).unwrap();
    assert!(
        readme.contains(&format!("# {}\n", says.trim_end())),
        "{readme}"
    );
    let lines = readme.lines().skip_while(|l| *l != "```sh").skip(1);
    let lines: Vec<&str> = lines.take_while(|l| *l != "```").collect();
    let rust = home.join("Cargo.toml").is_file();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_lwc-orchestrator"));
    let path = std::env::var_os("PATH").unwrap();
    let mut folders = vec![program.parent().unwrap().to_owned()];
    folders.extend(std::env::split_paths(&path));
    let run = |line: &str| {
        let as_ever = orchestrator();
        let cache = as_ever.get_envs().find(|(name, _)| *name == "LWC_CACHE");
        Command::new("sh")
            .args(["-ec", line])
            .current_dir(home)
            .env("PATH", std::env::join_paths(&folders).unwrap())
            .env("LWC_CACHE", cache.unwrap().1.unwrap())
            // Nothing is asked of a registry.
            .env("CARGO_NET_OFFLINE", "true")
            .env("CARGO_TARGET_DIR", home.join("target"))
            .output()
            .unwrap()
    };
    let first = run(lines[0]);
    assert_eq!(text(&first.stdout), says, "{}", text(&first.stderr));
    let test = lines[1];
    assert_eq!(test == "cargo test", rust, "{test}");
    let out = run(test);
    assert!(
        out.status.success(),
        "{test}: {} {}",
        text(&out.stdout),
        text(&out.stderr)
    );
    let file = ["function.c", "function.cpp", "src/lib.rs"];
    let file = file.map(|f| home.join(f)).into_iter().find(|f| f.is_file());
    let (file, code) = file
        .map(|f| (f.clone(), std::fs::read_to_string(f).unwrap()))
        .unwrap();
    std::fs::write(&file, code.replacen("Hello, ", "Salut, ", 1)).unwrap();
    let out = run(test);
    assert!(
        !out.status.success(),
        "it has changed: {}",
        text(&out.stdout)
    );
    // What is built or is of this machine git does not see.
    let ignored = std::fs::read_to_string(home.join(".gitignore")).unwrap();
    let built = if rust {
        "/.cargo/config.toml"
    } else {
        "/function_test"
    };
    assert!(ignored.lines().any(|l| l == built), "{ignored}");
    assert!(home.join(&built[1..]).is_file());
    assert!(
        !home.join("lwc-function").exists(),
        "the library is elsewhere"
    );
}

/// The main job on real input: both pictures, checked by another program's
/// arithmetic (the C test vectors hold the C code to the standards).
#[test]
fn the_upload_example_makes_signed_thumbnails() {
    let example = home().join("examples/upload");
    for name in ["picture.png.signed", "picture.jpg.signed"] {
        let out = orchestrator()
            .arg("run")
            .arg(example.join("chain.toml"))
            .arg("--input")
            .arg(example.join(name))
            .arg("--timings")
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        let answer = out.stdout;
        assert!(answer.starts_with(b"\x89PNG\r\n\x1a\n"));
        // Width and height stand in the first chunk.
        let side = |at: usize| u32::from_be_bytes(answer[at..at + 4].try_into().unwrap());
        assert_eq!((side(16), side(20)), (96, 72));
        let tail = answer.len() - 81;
        let line = text(&answer[tail..]);
        let signature = line.strip_prefix("\nlwc-signature: ").unwrap().trim_end();
        assert_eq!(signature.len(), 64);
        let key = std::fs::read(example.join("demo-sign.key")).unwrap();
        assert_eq!(signature, hmac(&key, &answer[..tail]));
        let table = text(&out.stderr);
        for word in [
            "verify",
            "thumbnail",
            "sign",
            "create",
            "initialise",
            "restrict",
            "erase",
            "hop",
            "roll back",
            "pages",
        ] {
            assert!(table.contains(word), "{table}");
        }
        // Each of the three steps, the last invocation's too.
        let undone = table.lines().find_map(|l| l.strip_prefix("rollback by "));
        let (by, how) = undone.unwrap().split_once(": ").unwrap();
        let all = if by == "new-copy" {
            "0 in place, 3 by a new copy"
        } else {
            "3 in place, 0 by a new copy"
        };
        assert_eq!(how, all, "{table}");
    }
}

/// RFC 2104 with the sha2 crate.
fn hmac(key: &[u8], data: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    assert!(key.len() <= 64);
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(data)
        .finalize();
    let outer = Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize();
    outer.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_forged_picture_stops_at_the_first_function() {
    let example = home().join("examples/upload");
    let mut forged = std::fs::read(example.join("picture.png.signed")).unwrap();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("forged");
    std::fs::write(&path, forged).unwrap();
    let out = orchestrator()
        .arg("run")
        .arg(example.join("chain.toml"))
        .arg("--input")
        .arg(path)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(out.stdout.is_empty());
    let shown = text(&out.stderr);
    assert!(
        shown.contains("chain \"upload\", step 1 of 3, function \"verify\"")
            && shown.contains("the signature is not the sender's (code 403)"),
        "{shown}"
    );
}

#[test]
fn sha256_in_c_agrees_with_the_published_vectors() {
    let dir = tempfile::tempdir().unwrap();
    let exe = dir.path().join("vectors");
    let source = home().join("examples/upload/sha256_test.c");
    let compiled = Command::new("cc")
        .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"])
        .arg(source)
        .arg("-o")
        .arg(&exe)
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", text(&compiled.stderr));
    let out = Command::new(exe).output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stdout));
}

/// An over-read leaks a neighbour's key where functions are merged without
/// contexts, and does not through lwc.
#[test]
fn the_leak_example_leaks_without_contexts_alone() {
    let out = Command::new("sh")
        .arg(home().join("examples/leak/run.sh"))
        .env("LWC_ORCHESTRATOR", env!("CARGO_BIN_EXE_lwc-orchestrator"))
        .output()
        .unwrap();
    let shown = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{shown} {}", text(&out.stderr));
}

/// The script that `completions` prints, asked as the shell asks it.
#[test]
fn bash_completes_commands_and_flags() {
    let dir = tempfile::tempdir().unwrap();
    let out = orchestrator()
        .args(["completions", "bash"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let script = dir.path().join("script");
    std::fs::write(&script, out.stdout).unwrap();
    let ask = |words: &[&str]| {
        let last = words.len() - 1;
        let program = format!(
            "source \"$0\"
             f=$(complete -p lwc-orchestrator | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
             COMP_WORDS=(\"$@\") COMP_CWORD={last}
             \"$f\" lwc-orchestrator {:?} {:?}
             echo \"${{COMPREPLY[@]}}\"",
            words[last],
            words[last - 1],
        );
        let out = Command::new("bash")
            .args(["--norc", "-c", &program])
            .arg(&script)
            .args(words)
            .output();
        let out = match out {
            // FreeBSD has none of its own.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
            out => out.unwrap(),
        };
        assert!(out.stderr.is_empty(), "{}", text(&out.stderr));
        Some(text(&out.stdout).trim_end().to_owned())
    };
    let Some(commands) = ask(&["lwc-orchestrator", ""]) else {
        return;
    };
    let commands: Vec<&str> = commands.split(' ').collect();
    for command in ["check", "run", "serve", "new", "completions"] {
        assert!(commands.contains(&command), "{commands:?}");
    }
    assert!(!commands.contains(&"worker"), "it is nobody's to start");
    for (words, completed) in [
        (["lwc-orchestrator", "ser"], "serve"),
        (["lwc-orchestrator", "--log"], "--log-format"),
    ] {
        assert_eq!(ask(&words).as_deref(), Some(completed));
    }
    let flag = ["lwc-orchestrator", "serve", "--address-c"];
    assert_eq!(ask(&flag).as_deref(), Some("--address-connections"));
    let hidden = ["lwc-orchestrator", "audit", "--gr"];
    assert_eq!(ask(&hidden).as_deref(), Some(""));
}

/// What is refused afterwards is the file, which is not there.
#[test]
fn root_serves_only_if_that_is_asked_for() {
    let is_root = nix::unistd::geteuid().is_root();
    for command in ["serve", "dev"] {
        let tell = |more: &[&str], asked: Option<&str>| {
            let mut c = orchestrator();
            c.env_remove("LWC_ALLOW_ROOT")
                .envs(asked.map(|v| ("LWC_ALLOW_ROOT", v)));
            c.args([command, "nowhere.toml", "--listen", "127.0.0.1:0"]);
            c.args(more).stderr(Stdio::piped()).stdout(Stdio::null());
            let mut child = c.spawn().unwrap();
            let mut err = std::io::BufReader::new(child.stderr.take().unwrap());
            let mut said = String::new();
            // `dev` waits for its file, and says so at once.
            while !said.contains("nowhere.toml") && err.read_line(&mut said).unwrap() > 0 {}
            let _ = child.kill();
            child.wait().unwrap();
            said
        };
        let refused = |said: &str| said.contains("this would serve as root");
        for unasked in [None, Some(""), Some("0")] {
            let said = tell(&[], unasked);
            assert_eq!(refused(&said), is_root, "{command} {unasked:?}: {said}");
            assert_eq!(said.contains("nowhere.toml"), !is_root, "{said}");
        }
        for (flag, variable) in [(&["--allow-root"][..], None), (&[], Some("1"))] {
            let said = tell(flag, variable);
            assert!(!refused(&said) && said.contains("nowhere.toml"), "{said}");
            // A file that cannot be served is all that `serve` complains of.
            let warned = said.contains("serving as root, as was asked for");
            assert_eq!(warned, is_root && command == "dev", "{said}");
        }
    }
}

#[test]
fn usage_errors_are_told_from_failures() {
    let folder = Folder::new(&format!(
        "[functions.f]\nsource='{}'\nhandler='hostile'\n[chains.a]\nsteps=['f']\nregion='4KiB'\n[chains.b]\nsteps=['f','f']\n",
        home().join("tests/hostile/hostile.c").display()
    ));
    let none = folder.run(&[], &["ok"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(text(&none.stderr).contains("say which chain to run: a, b"));
    let unknown = folder.run(&["c"], &["ok"]);
    assert_eq!(unknown.status.code(), Some(2));
    let large = folder.run(&["a"], &["x".repeat(4097).as_str()]);
    assert_eq!(large.status.code(), Some(2));
    assert!(text(&large.stderr).contains("raise `region`"));
    let exact = folder.run(&["a"], &["ok".repeat(2048).as_str()]);
    assert_eq!(text(&exact.stdout), "fine");
    // The second step is told "fine" and knows no such command.
    let second = folder.run(&["b"], &["ok"]);
    assert!(text(&second.stderr).contains("chain \"b\", step 2 of 2"));
    if lwc::backend() == Ok(lwc::Backend::Kernel) {
        return; // Nothing to complain of.
    }
    let backend = orchestrator()
        .arg("run")
        .arg(folder.path("chain.toml"))
        .args(["a", "--input", "/dev/null"])
        .env("LWC_BACKEND", "kernel")
        .output()
        .unwrap();
    assert_eq!(backend.status.code(), Some(4));
    assert!(text(&backend.stderr).contains("kldload lwc"));
}
