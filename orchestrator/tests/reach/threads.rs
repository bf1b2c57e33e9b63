//! Threads of a function: as many as its file grants, and none after its answer.

#![cfg(target_os = "linux")]

use super::common::{Folder, home, text};
use std::process::Output;

fn folder_of(functions: &str, isolation: &str) -> Folder {
    Folder::new(&format!(
        "{functions}\n[chains.trial]\nsteps = [\"f\"]\nisolation = \"{isolation}\"\n"
    ))
}

fn function(name: &str, handler: &str, grants: &str) -> String {
    let source = home().join("tests/hostile/threads.c");
    format!(
        "[functions.{name}]\nsource = \"{}\"\nlink = [\"pthread\"]\nhandler = \"{handler}\"\ntimeout = \"60s\"\n{grants}\n",
        source.display()
    )
}

fn folder(grants: &str, isolation: &str) -> Folder {
    folder_of(&function("f", "threads", grants), isolation)
}

/// Whether this kernel lets a function have any: what counts them also rolls back.
fn are_there() -> bool {
    let out = folder("threads = 1", "invocation").run(&[], &["sum 1"]);
    let said = text(&out.stderr);
    assert!(
        out.status.success() || said.contains("rollback in place needs"),
        "{said}"
    );
    out.status.success()
}

#[track_caller]
fn answers(out: &Output) -> String {
    assert!(out.status.success(), "{}", text(&out.stderr));
    text(&out.stdout)
}

const ISOLATIONS: [&str; 2] = ["invocation", "chain"];

#[test]
fn as_many_as_are_granted_and_no_more() {
    if !are_there() {
        return;
    }
    for isolation in ISOLATIONS {
        let folder = folder("threads = 4", isolation);
        let input = "make 4\nmake 5\nsum 4\nagain 200\nmake 4\ndetach\nmake 4";
        let out = folder.run(&[], &[input, input, input]);
        let said = "[4 0][4 11][2002000][200][4 0][1][4 0]".repeat(3);
        assert_eq!(answers(&out), said, "{}", text(&out.stderr));
        // All that there were ended before the answer.
        assert!(
            !text(&out.stderr).contains("threads of its own"),
            "{}",
            text(&out.stderr)
        );
    }
}

/// Whoever has waited for a thread's end may make the next one, however late the system
/// collects the first.
#[test]
fn one_that_has_ended_makes_room_at_once() {
    if !are_there() {
        return;
    }
    let folder = folder("threads = 1", "invocation");
    let out = folder.run(&[], &["again 300\nmake 2"]);
    assert_eq!(answers(&out), "[300][1 11]", "{}", text(&out.stderr));
}

#[test]
fn all_of_them_together_hold_the_number_and_the_memory() {
    if !are_there() {
        return;
    }
    let folder = folder("threads = 8\nmemory = \"80MiB\"", "invocation");
    // Their stacks of 8 MiB are of its memory, too.
    let out = folder.run(&[], &["twice\nmake 8\nmake 9", "memory 8", "twice"]);
    assert_eq!(
        answers(&out),
        "[held][8 0][8 11][8][held]",
        "{}",
        text(&out.stderr)
    );
    let folder = self::folder("threads = 64\nmemory = \"20MiB\"", "invocation");
    let out = folder.run(&[], &["make 64"]);
    let said = answers(&out);
    assert!(["[1 11]", "[2 11]"].contains(&said.as_str()), "{said}");
}

#[test]
fn whatever_one_thread_does_the_others_do() {
    if !are_there() {
        return;
    }
    for isolation in ISOLATIONS {
        // (The folder may lie in /tmp, which is a function's own with scratch.)
        let f = |reach: &str| {
            let grants = format!("threads = 4\nmemory = \"128MiB\"\n{reach}\ncalls = [\"echo\"]");
            let functions = function("f", "threads", &grants) + &function("echo", "echo", "");
            folder_of(&functions, isolation)
        };
        let folder = f("scratch = \"1MiB\"");
        let out = folder.run(&[], &["scratch 4", "scratch 4\ncall 4"]);
        assert_eq!(answers(&out), "[80][80][200]", "{}", text(&out.stderr));
        let folder = f("files = [\"x\"]");
        folder.write("x", "x\n");
        let input = "call 4\nread 4 x\nlog 4";
        let out = folder.run(&[], &[input, input]);
        let said = "[200][400][4]".repeat(2);
        assert_eq!(answers(&out), said, "{}", text(&out.stderr));
        let log = text(&out.stderr);
        for thread in 0..4 {
            let line = format!("thread {thread} says this and nothing else");
            assert_eq!(
                log.lines().filter(|l| l.ends_with(&line)).count(),
                2,
                "{log}"
            );
        }
        assert_eq!(log.matches("logged").count(), 8, "{log}");
    }
}

#[test]
fn none_outlives_its_invocation() {
    if !are_there() {
        return;
    }
    for isolation in ISOLATIONS {
        let folder = folder("threads = 3", isolation);
        for way in ["leave", "spin", "haunt"] {
            let first = format!("write mine\n{way}");
            let out = folder.run(&[], &[&first, "note\nmake 3\nnote", &first, "make 3\nnote"]);
            let said = "[left][none][3 0][none][left][3 0][none]";
            assert_eq!(
                answers(&out),
                said,
                "{isolation} {way}: {}",
                text(&out.stderr)
            );
            let log = text(&out.stderr);
            let told = log.lines().filter(|l| l.contains("f: threads of its own"));
            assert_eq!(told.count(), 2, "{log}");
        }
        // What it writes stays with it, where nothing else is said.
        let out = folder.run(&[], &["write mine\nmake 2", "note"]);
        let kept = if isolation == "chain" { "mine" } else { "none" };
        assert_eq!(answers(&out), format!("[2 0][{kept}]"));
    }
}

/// A list of threads is at its end where one of them ends while it is made: of a row of
/// threads, each of which makes the next and ends, none may be on it.
#[test]
fn a_row_of_threads_is_seen() {
    if !are_there() {
        return;
    }
    for isolation in ISOLATIONS {
        let folder = folder("threads = 3", isolation);
        let inputs = ["relay", "note"].repeat(40);
        let out = folder.run(&[], &inputs);
        assert_eq!(
            answers(&out),
            "[left][none]".repeat(40),
            "{isolation}: {}",
            text(&out.stderr)
        );
    }
}

/// Others of a function's threads work, or wait for their turn to call, while one it has
/// called has its own.
#[test]
fn threads_stay_while_one_that_they_have_called_takes_its_time() {
    if !are_there() {
        return;
    }
    for isolation in ISOLATIONS {
        let f = function("f", "threads", "threads = 4\ncalls = [\"slow\"]");
        let folder = folder_of(&(f + &function("slow", "slow", "")), isolation);
        let out = folder.run(&[], &["slow 3", "beside\nslow 2"]);
        assert_eq!(answers(&out), "[6][worked][4]", "{}", text(&out.stderr));
        // None of them runs on when that one is at work for somebody else.
        let chain = format!(
            "{}{}\n[chains.trial]\nsteps = [\"f\", \"slow\"]\nisolation = \"{isolation}\"\n",
            function("f", "threads", "threads = 3"),
            function("slow", "slow", "")
        );
        let out = Folder::new(&chain).run(&[], &["spin", "make 3"]);
        assert_eq!(answers(&out), "[left][3 0]", "{}", text(&out.stderr));
        let log = text(&out.stderr);
        let told = log.lines().filter(|l| l.contains("f: threads of its own"));
        assert_eq!(told.count(), 1, "{log}");
    }
}

/// The kernel tells of those first that came last.
#[test]
fn many_that_call_the_system_keep_no_other_from_it() {
    if !are_there() {
        return;
    }
    let folder = folder("threads = 48\nmemory = \"600MiB\"", "invocation");
    let out = folder.run(&[], &["storm 40\naction\nsum 4", "note"]);
    assert_eq!(
        answers(&out),
        "[left][0][2002000][none]",
        "{}",
        text(&out.stderr)
    );
}

/// Nobody can tell of one that has exited alone, nor stop it, as long as others are there.
#[test]
fn whoever_exits_takes_all_along() {
    if !are_there() {
        return;
    }
    for isolation in ISOLATIONS {
        let folder = folder("threads = 2", isolation);
        let out = folder.run(&[], &["alone", "make 2"]);
        let stderr = text(&out.stderr);
        assert!(stderr.contains("exited with status 7"), "{stderr}");
        assert_eq!(text(&out.stdout), "[2 0]", "{stderr}");
    }
}

#[test]
fn a_thread_is_the_functions_whatever_it_does() {
    if !are_there() {
        return;
    }
    let folder = folder("threads = 2", "invocation");
    for (input, why) in [
        ("exit", "exit"),
        ("fault", "SIGSEGV"),
        // A process; threads that share less; as little as vfork(2).
        ("flags 17", "SIGSYS"),
        ("flags 4001280", "SIGSYS"),
        ("flags 16657", "SIGSYS"),
    ] {
        let out = folder.run(&[], &[input]);
        assert!(!out.status.success(), "{input}");
        assert!(
            text(&out.stderr).contains(why),
            "{input}: {}",
            text(&out.stderr)
        );
    }
    let late = self::folder("threads = 2\ntimeout = \"300ms\"", "invocation");
    let out = late.run(&[], &["late"]);
    assert!(
        text(&out.stderr).contains("300 ms") || text(&out.stderr).contains("300ms"),
        "{}",
        text(&out.stderr)
    );
    assert!(!out.status.success());
    let out = folder.run(
        &[],
        &[
            "clone3\nmremap\nrobust\naction",
            "action\nmake 2",
            "make 2\nmake 3",
        ],
    );
    assert_eq!(
        answers(&out),
        "[38][1][1][0][0][2 0][2 0][2 11]",
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn without_the_grant_there_are_none() {
    let folder = folder("", "invocation");
    let out = folder.run(&[], &["make 1"]);
    assert!(!out.status.success());
    let stderr = text(&out.stderr);
    assert!(stderr.contains("SIGSYS"), "{stderr}");
    assert!(stderr.contains("threads = "), "how to have one: {stderr}");
}

#[test]
fn a_number_that_makes_no_sense_is_refused() {
    for number in ["0", "65", "-1", "\"4\"", "2.5"] {
        let folder = folder(&format!("threads = {number}"), "invocation");
        let out = folder.ask("check");
        assert!(!out.status.success());
        let stderr = text(&out.stderr);
        assert!(
            stderr.contains("threads are a number from 1 to 64"),
            "{stderr}"
        );
    }
}

#[test]
fn the_audit_tries_how_many_there_can_be() {
    if !are_there() {
        return;
    }
    let functions = function("f", "threads", "threads = 3") + &function("g", "threads", "");
    let folder = Folder::new(&format!(
        "{functions}\n[chains.trial]\nsteps = [\"f\", \"g\"]\n"
    ));
    let out = folder.ask("audit");
    let said = answers(&out);
    let row = said.lines().find(|l| l.starts_with("threads"));
    let cells: Vec<&str> = row.unwrap().split_ascii_whitespace().collect();
    assert_eq!(cells, ["threads", "own", "3", "0"], "{said}");
}

#[test]
fn threads_of_rust_call_other_functions() {
    if !are_there() {
        return;
    }
    let library = home().join("lwc-function");
    let folder = folder_of(
        &("[functions.f]\ncrate = \"f\"\nthreads = 4\ncalls = [\"echo\"]\n".to_owned()
            + &function("echo", "echo", "")),
        "invocation",
    );
    std::fs::create_dir_all(folder.path("f/src")).unwrap();
    folder.write(
        "f/Cargo.toml",
        format!(
            "[package]\nname = \"f\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\nlwc-function = {{ path = {library:?} }}\n[workspace]\n"
        ),
    );
    folder.write(
        "f/src/lib.rs",
        r#"
use std::io::Write;
fn f(inv: &mut lwc_function::Invocation<'_>) -> lwc_function::Result<()> {
    let calls = inv.calls_from_threads()?;
    let all = std::thread::scope(|s| {
        let each = |n: u64| s.spawn(move || {
            let mut text = String::new();
            for i in 0..20 {
                let sent = format!("{n}-{i};");
                let reply = calls.call("echo", sent.as_bytes());
                assert_eq!(reply.unwrap().bytes, sent.as_bytes());
                text = sent;
            }
            text
        });
        let all = [1, 2, 3, 4].map(each);
        all.map(|t| t.join().unwrap()).concat()
    });
    // One that is refused is told as ever.
    let refused = inv.call("nobody", b"").unwrap_err();
    write!(inv, "{all} {}", refused.to_string().contains("nobody"))?;
    Ok(())
}
lwc_function::handler!(f, f);
"#,
    );
    let out = folder.run(&[], &["", ""]);
    assert_eq!(
        answers(&out),
        "1-19;2-19;3-19;4-19; true".repeat(2),
        "{}",
        text(&out.stderr)
    );
}
