//! Functions that misbehave: the caller gets an error that names chain, step,
//! function and cause; the next invocation works; nothing is left behind.

mod common;

use common::{Folder, home, text};

/// Whether contexts are processes here, and not the kernel's.
fn of_processes() -> bool {
    lwc::backend().unwrap() == lwc::Backend::Process
}

fn chain(isolation: &str, timeout: &str) -> Folder {
    Folder::new(&format!(
        r#"
[functions.hostile]
source = "{}"
timeout = "{timeout}"
memory = "32MiB"

[chains.trial]
steps = ["hostile"]
isolation = "{isolation}"
region = "64KiB"
"#,
        home().join("tests/hostile/hostile.c").display()
    ))
}

/// Runs one command and then "ok" in both isolations; returns the failure's
/// cause and message, or the answer.
fn attempt(command: &str) -> Result<String, (String, String)> {
    attempt_within(command, "2s")
}

fn attempt_within(command: &str, timeout: &str) -> Result<String, (String, String)> {
    let mut results = ["invocation", "chain"].map(|isolation| {
        let folder = chain(isolation, timeout);
        let out = folder.run(&["--json"], &[command, "ok"]);
        let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
        let last: Option<serde_json::Value> =
            stderr.lines().find_map(|l| serde_json::from_str(l).ok());
        assert!(
            stdout.ends_with("fine"),
            "{command}: the next invocation: {stdout} {stderr}"
        );
        match last {
            None => {
                assert_eq!(out.status.code(), Some(0), "{command}: {stderr}");
                Ok(stdout.trim_end_matches("fine").to_owned())
            }
            Some(v) => {
                assert_eq!(out.status.code(), Some(1), "{command}: {stderr}");
                assert_eq!(
                    (&v["chain"], &v["step"], &v["function"]),
                    (&"trial".into(), &1.into(), &"hostile".into())
                );
                Err((
                    v["cause"].as_str().unwrap().to_owned(),
                    v["message"].as_str().unwrap().to_owned(),
                ))
            }
        }
    });
    results.sort();
    let [a, b] = results;
    assert_eq!(a.is_ok(), b.is_ok(), "{command}: {a:?} {b:?}");
    a
}

fn crash(command: &str, says: &str) {
    let (cause, message) = attempt(command).expect_err(command);
    assert_eq!(cause, "crash", "{command}: {message}");
    assert!(message.contains(says), "{command}: {message}");
}

#[test]
fn each_fatal_signal_is_named() {
    crash(&format!("signal {} ", libc::SIGABRT), "SIGABRT");
    for (number, name) in [
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGSYS, "SIGSYS"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGXCPU, "SIGXCPU"),
    ] {
        let command = format!("signal {number} ");
        // Where contexts are processes none can be sent, to itself neither: those
        // that are pending are counted for the user.
        let processes = lwc::backend() == Ok(lwc::Backend::Process);
        crash(&command, if processes { "SIGSYS" } else { name });
    }
}

#[test]
fn faults_name_their_signal() {
    crash("null", "killed by SIGSEGV (");
    crash("divide", "SIGFPE");
    crash("illegal", "SIGILL");
    crash("stack", "SIGSEGV");
    crash("ignore and fault", "SIGSEGV");
    if of_processes() {
        // The sandbox lets no call unmap so much.
        assert_eq!(attempt("unmap all").unwrap(), "");
    } else {
        crash("unmap all", "SIGSEGV");
    }
}

/// Whoever can have a function crash would learn by it where things lie in memory; who
/// runs it looks for the fault.
#[test]
fn the_address_of_a_fault_is_told_to_whoever_runs_it_alone() {
    let (_, message) = attempt("null").unwrap_err();
    assert!(!message.contains("0x"), "{message}");
    let out = chain("invocation", "2s").run(&[], &["null"]);
    let stderr = text(&out.stderr);
    assert!(
        stderr.contains("SIGSEGV") && stderr.contains("(address 0x0)"),
        "{stderr}"
    );
}

#[test]
fn a_loop_ends_at_its_timeout() {
    for command in ["loop", "block all signals and loop"] {
        let (cause, message) = attempt(command).unwrap_err();
        assert_eq!(
            (cause.as_str(), message.as_str()),
            ("timeout", "overran its timeout of 2s")
        );
    }
}

#[test]
fn memory_beyond_the_limit_is_refused() {
    let (cause, message) = attempt("allocate").unwrap_err();
    assert_eq!(cause, "error");
    assert!(message.contains("out of memory (code 507)"), "{message}");
}

#[test]
fn an_answer_beyond_its_region_is_refused() {
    let (cause, message) = attempt("append too much").unwrap_err();
    assert_eq!(cause, "error");
    assert!(message.contains("code 413"), "{message}");
    let (cause, message) = attempt("claim too much").unwrap_err();
    assert_eq!(cause, "too-big");
    assert!(
        message.contains("65537") && message.contains("65536"),
        "{message}"
    );
    let (cause, _) = attempt("write too much").unwrap_err();
    assert_eq!(cause, "crash");
}

#[test]
fn errors_and_ends_are_told_as_what_they_are() {
    let (cause, message) = attempt("error").unwrap_err();
    assert_eq!(cause, "error");
    assert!(
        message.contains("as asked\\u{1b}[31m (code 42)"),
        "{message}"
    );
    crash("exit", "exited with status 7");
    crash("_exit", "exited with status 0");
    crash("abort", "SIGABRT");
}

#[test]
fn what_no_function_may_do_ends_it() {
    for (command, call) in [
        ("kill parent", "kill"),
        ("kill all", "kill"),
        ("fork bomb", "fork"),
        ("clone bomb", "fork"),
        ("thread", "thr"),
        ("exec", "execve"),
        ("ptrace", "ptrace"),
    ] {
        let (cause, message) = attempt(command).expect_err(command);
        assert_eq!(cause, "crash", "{message}");
        assert!(
            message.contains("forbidden system call") && message.contains(call),
            "{command}: {message}"
        );
    }
}

#[test]
fn what_is_refused_without_harm() {
    assert_eq!(attempt("open").unwrap(), "open refused");
    // It is told which grant is missing.
    assert_eq!(attempt("socket").unwrap(), "socket refused");
    // Which is its log.
    assert_eq!(attempt("print").unwrap(), "print REACHED");
    if of_processes() {
        assert_eq!(attempt("make code").unwrap(), "code refused");
        assert_eq!(attempt("close all").unwrap(), "closed");
        assert_eq!(attempt("holes in the heap").unwrap(), "holes refused");
        assert_eq!(attempt("who is there").unwrap(), "others refused");
    } else {
        // Capability mode leaves a context free to make code of its data; and
        // there the way back is a descriptor.
        assert_eq!(attempt("make code").unwrap(), "code REACHED");
        crash("close all", "SIGABRT");
    }
    assert_eq!(attempt("protect and write input").unwrap(), "refused");
    crash("write input", "SIGSEGV");
    assert_eq!(attempt_within("flood log", "30s").unwrap(), "flooded");
}

#[test]
fn a_function_that_scribbles_over_its_invocation_harms_itself_alone() {
    let (_, message) = attempt("handler that lies").unwrap_err();
    assert!(!message.is_empty());
}

#[test]
fn a_global_is_fresh_per_invocation_and_kept_per_chain() {
    let inputs = ["count", "count", "count"];
    let fresh = chain("invocation", "1s").run(&[], &inputs);
    assert_eq!(text(&fresh.stdout), "111");
    let kept = chain("chain", "1s").run(&[], &inputs);
    assert_eq!(text(&kept.stdout), "123");
    let mended = chain("chain", "1s").run(&[], &["count", "null", "count"]);
    assert_eq!(
        text(&mended.stdout),
        "11",
        "after a crash a copy of the snapshot serves"
    );
}

#[test]
fn nothing_of_earlier_messages_is_left_in_the_regions() {
    let secret = "of another caller ".repeat(50);
    let folder = chain("invocation", "1s");
    let two = std::fs::read_to_string(folder.path("chain.toml")).unwrap();
    folder.write(
        "chain.toml",
        two.replace(r#"["hostile"]"#, r#"["hostile", "hostile"]"#),
    );
    let long = format!("keep keep {secret}");
    let out = folder.run(&[], &[&long, "keep leftovers"]);
    let stdout = text(&out.stdout);
    assert_eq!(
        stdout,
        format!("{secret}left: 0, 0"),
        "{}",
        text(&out.stderr)
    );
    // Nor of one that failed, which may have written anywhere, and in the first.
    let one = chain("invocation", "1s");
    let out = one.run(&[], &[&long, "append too much", "leftovers"]);
    assert!(
        text(&out.stdout).ends_with("left: 0, 0"),
        "{}",
        text(&out.stdout)
    );
}

#[test]
fn nothing_is_left_behind() {
    let commands = [
        "ok",
        "null",
        "loop",
        "fork bomb",
        "exit",
        "close all",
        "abort",
    ];
    let folder = chain("invocation", "100ms");
    let mut child = {
        let mut command = common::orchestrator();
        command.arg("run").arg(folder.path("chain.toml"));
        for (i, c) in commands.iter().enumerate() {
            command
                .arg("--input")
                .arg(folder.write(&format!("i{i}"), c));
        }
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let pid = child.id();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    if !of_processes() {
        let out = std::process::Command::new("sysctl")
            .args(["-n", "kern.lwc.objects"])
            .output()
            .unwrap();
        assert_eq!(text(&out.stdout).trim(), "0");
        return;
    }
    // Contexts are children of the program; orphans would have its name. Keepers
    // of snapshots end by themselves when their creators have.
    let left = || -> Vec<String> {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|e| {
                let stat = std::fs::read_to_string(e.path().join("stat")).ok()?;
                let cmd = std::fs::read_to_string(e.path().join("cmdline")).unwrap_or_default();
                (stat.split_whitespace().nth(3)? == pid.to_string()
                    || cmd.contains(folder.path("chain.toml").to_str()?))
                .then_some(stat)
            })
            .collect()
    };
    let begun = std::time::Instant::now();
    while !left().is_empty() && begun.elapsed() < std::time::Duration::from_secs(120) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(left().is_empty(), "{:?}", left());
}
