//! What a function prints is its log: whole lines, of its own request, and bounded.

use super::common::{Folder, home, orchestrator, text};
use super::file;
use std::process::Output;

/// `run -v` on some inputs.
fn run(folder: &Folder, inputs: &[&str]) -> Output {
    let mut command = orchestrator();
    command.arg("-v").arg("run").arg(folder.path("chain.toml"));
    for (i, input) in inputs.iter().enumerate() {
        let input = folder.write(&format!("input{i}"), input);
        command.arg("--input").arg(input);
    }
    command.output().unwrap()
}

fn folder(isolation: &str) -> Folder {
    Folder::new(&(file("") + &format!("isolation = \"{isolation}\"\n")))
}

/// Level, number of the request, and text of each line of the function's log.
fn lines(out: &Output) -> Vec<(String, String, String)> {
    let stderr = text(&out.stderr);
    let parse = |line: &str| {
        let (head, rest) = line.split_once(" f [")?;
        let (id, text) = rest.split_once("]: ")?;
        let level = ["ERROR", "WARN", "INFO"]
            .into_iter()
            .find(|l| head.contains(l));
        let number = id.rsplit('-').next()?;
        // Where it crashed is no output of its (tests/crashes.rs).
        if text.starts_with("crashed ") {
            return None;
        }
        Some((level?.to_owned(), number.to_owned(), text.to_owned()))
    };
    stderr.lines().filter_map(parse).collect()
}

#[track_caller]
fn assert_lines(out: &Output, expected: &[(&str, &str, &str)]) {
    let found = lines(out);
    let found: Vec<(&str, &str, &str)> = found
        .iter()
        .map(|(level, number, text)| (level.as_str(), number.as_str(), text.as_str()))
        .collect();
    assert_eq!(found, expected, "{}", text(&out.stderr));
}

#[test]
fn what_c_prints_is_lines_of_the_log() {
    for isolation in ["invocation", "chain"] {
        let commands = [
            r"printf a\n\nb",
            "printf c",
            r"eprintf d\n",
            "write 1 e",
            r"writev 2 fgh\n",
            "write 3 i",
            "write 0 j",
        ]
        .join("\n");
        let out = run(&folder(isolation), &[&commands, r"printf again\n"]);
        // stdio holds "bc" back until the answer; `e` was written before it.
        assert_lines(
            &out,
            &[
                ("INFO", "1", "a"),
                ("INFO", "1", ""),
                ("WARN", "1", "d"),
                ("WARN", "1", "fgh"),
                ("INFO", "1", "ebc"),
                ("INFO", "2", "again"),
            ],
        );
        // All of it was written; others are no descriptors.
        let said = text(&out.stdout);
        assert!(said.starts_with("1 0;4 0;-1 "), "{said}");
    }
}

/// Whatever its own library holds back.
#[test]
fn what_a_request_has_printed_is_not_in_the_next_ones() {
    let inputs = ["full\nprintf one", "printf two", "printf three"];
    for isolation in ["invocation", "chain"] {
        assert_lines(
            &run(&folder(isolation), &inputs),
            &[
                ("INFO", "1", "one"),
                ("INFO", "2", "two"),
                ("INFO", "3", "three"),
            ],
        );
    }
}

#[test]
fn lines_before_a_crash_are_whole() {
    let out = run(
        &folder("invocation"),
        &["printf one\\ntwo\\n\neprintf three\ncrash", "env"],
    );
    let expected = [
        ("INFO", "1", "one"),
        ("INFO", "1", "two"),
        ("WARN", "1", "three"),
    ];
    assert_lines(&out, &expected);
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn more_than_there_is_room_for_is_dropped_with_a_notice() {
    for isolation in ["invocation", "chain"] {
        let out = run(&folder(isolation), &["flood 100000", "printf next\\n"]);
        assert!(out.status.success(), "{}", text(&out.stderr));
        let stderr = text(&out.stderr);
        assert!(stderr.contains("line      0 of what"), "{stderr}");
        // The page of one run has less room than a request on FreeBSD (its kernel
        // clears all of it).
        let notice = match cfg!(target_os = "freebsd") {
            true => "bytes of its log or output are left out",
            false => "its log is too long for one request",
        };
        assert!(stderr.contains(notice), "{stderr}");
        assert!(stderr.contains("left out"), "{stderr}");
        assert!(stderr.len() < 200_000, "{}", stderr.len());
        assert!(lines(&out).contains(&("INFO".into(), "2".into(), "next".into())));
        // What the control page has no room for is counted.
        let once = "flood 1400";
        let out = run(&folder(isolation), &[once]);
        assert!(out.status.success(), "{}", text(&out.stderr));
    }
}

#[test]
fn what_an_initialiser_prints_is_told_also_when_it_fails() {
    for (how, starts) in [("well", true), ("fail", false), ("abort", false)] {
        let folder = Folder::new(&file(&format!("env = {{ REACH_INIT = \"{how}\" }}")));
        let out = run(&folder, &["printf handler\\n"]);
        let stderr = text(&out.stderr);
        assert_eq!(out.status.success(), starts, "{stderr}");
        for line in [&format!("init says {how}"), "and no more", "init errs"] {
            assert!(
                stderr.contains(&format!("f [init]: {line}\n")),
                "{line}: {stderr}"
            );
        }
        assert_eq!(stderr.contains("]: handler"), starts, "{stderr}");
    }
}

#[test]
fn cpp_prints_in_step_with_stdio_or_not() {
    let source = home().join("tests/hostile/prints.cpp");
    for isolation in ["invocation", "chain"] {
        let folder = Folder::new(&format!(
            "[functions.f]\nsource = \"{}\"\nhandler = \"prints\"\n[chains.trial]\nsteps = [\"f\"]\nisolation = \"{isolation}\"\n",
            source.display()
        ));
        let out = run(&folder, &["step", "apart", "last"]);
        assert_eq!(text(&out.stdout), "goodgoodgood", "{}", text(&out.stderr));
        let all = lines(&out);
        for (number, what) in [("1", "step"), ("2", "apart"), ("3", "last")] {
            for (level, line) in [
                ("INFO", format!("cout of {what}")),
                ("INFO", "and a rest".to_owned()),
                ("WARN", format!("cerr of {what}")),
                ("WARN", format!("clog of {what}")),
            ] {
                let wanted = (level.to_owned(), number.to_owned(), line);
                assert!(all.contains(&wanted), "{wanted:?}: {all:?}");
            }
        }
        assert_eq!(all.len(), 12, "{all:?}");
    }
}

#[test]
fn rust_prints_and_tells_where_it_panics() {
    let function = home().join("lwc-function");
    let folder = Folder::new(
        "[functions.f]\ncrate = \"f\"\n[chains.trial]\nsteps = [\"f\"]\nisolation = \"chain\"\n",
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
fn f(inv: &mut lwc_function::Invocation<'_>) -> lwc_function::Result<()> {
    println!("line of {}", String::from_utf8_lossy(inv.input()));
    eprintln!("error");
    print!("unfinished");
    assert_ne!(inv.input(), b"2", "a number");
    Ok(())
}
lwc_function::handler!(f, f);
"#,
    );
    let out = run(&folder, &["1", "2", "3"]);
    let all = lines(&out);
    let texts = |number: &str| -> Vec<&str> {
        let own = all.iter().filter(|l| l.1 == number);
        own.map(|l| l.2.as_str()).collect()
    };
    assert_eq!(
        texts("1"),
        ["line of 1", "error", "unfinished"],
        "{}",
        text(&out.stderr)
    );
    assert_eq!(texts("3"), ["line of 3", "error", "unfinished"]);
    let panicked = texts("2");
    assert!(
        panicked
            .iter()
            .any(|l| l.contains("panicked at src/lib.rs:6")),
        "{panicked:?}"
    );
    assert!(panicked.contains(&"unfinished"), "{panicked:?}");
}

/// It harms itself, and the next request finds all as it was.
#[test]
fn what_hostile_ones_do_with_it_is_their_own_end() {
    let inputs = [
        "wild",
        "printf 1\\n",
        "deaf",
        "printf 2\\n",
        "own",
        "printf 3\\n",
    ];
    let out = run(&folder("invocation"), &inputs);
    let mut all = lines(&out);
    // A context of lwc.ko cannot block the signals of faults (lwCreate(2)): it is heard.
    let deaf = ("INFO".to_owned(), "3".to_owned(), "nobody's".to_owned());
    if lwc::backend().unwrap() == lwc::Backend::Kernel {
        all.retain(|line| *line != deaf);
    }
    for (number, line) in [("2", "1"), ("4", "2"), ("6", "3")] {
        let wanted = ("INFO".to_owned(), number.to_owned(), line.to_owned());
        assert!(all.contains(&wanted), "{wanted:?}: {}", text(&out.stderr));
    }
    assert_eq!(all.len(), 3, "{all:?}");
}

/// Writing of no bytes there is no sign of a descriptor.
#[test]
fn the_audit_finds_no_descriptors() {
    let folder = folder("invocation");
    let out = folder.ask("audit");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stdout));
}

/// As who wants no input does, and daemons do with all three.
#[test]
fn the_standard_three_can_be_closed() {
    const TEXT: &str = r#"
#include "lwc_function.h"
#include <stdio.h>
#include <unistd.h>

LWC_HANDLER(f)
{
	fclose(stdin);
	close(0);
	if (inv->input_len != 0) {
		close(1);
		close(2);
	}
	lwc_append(inv, "well", 4);
	return (0);
}
"#;
    for grants in ["", "files = ['granted']\nconnect = ['127.0.0.1:1']\n"] {
        for isolation in ["invocation", "chain"] {
            let folder = Folder::new(&format!(
                "[functions.f]\nsource = 'f.c'\n{grants}[chains.trial]\nsteps = ['f']\nisolation = '{isolation}'\n"
            ));
            folder.write("f.c", TEXT);
            folder.write("granted", "");
            let out = folder.run(&[], &["", "all", "", "all"]);
            let said = text(&out.stdout);
            assert_eq!(
                said,
                "well".repeat(4),
                "{grants} {isolation}: {}",
                text(&out.stderr)
            );
        }
    }
}

/// What is lent afterwards lies behind them, and neighbours are found still.
#[test]
fn who_has_closed_the_standard_three_opens_files_and_hands_over() {
    const TEXT: &str = r#"
#include "lwc_function.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

LWC_HANDLER(f)
{
	char text[64];
	int fd, s;

	close(0);
	close(1);
	close(2);
	fd = open("granted", O_RDONLY);
	s = socket(AF_INET, SOCK_STREAM, 0);
	snprintf(text, sizeof(text), "%d %d\n", fd > 2, s > 2);
	lwc_append(inv, text, strlen(text));
	close(fd);
	close(s);
	return (0);
}

LWC_HANDLER(g)
{
	close(0);
	close(1);
	close(2);
	lwc_append(inv, inv->input, inv->input_len);
	lwc_append(inv, "g", 1);
	return (0);
}
"#;
    for isolation in ["invocation", "chain"] {
        let folder = Folder::new(&format!(
            "[functions.f]\nsource = 'f.c'\nfiles = ['granted']\nconnect = ['127.0.0.1:1']\n[functions.g]\nsource = 'f.c'\n[functions.h]\nsource = 'f.c'\nhandler = 'g'\n[chains.one]\nsteps = ['f']\nisolation = '{isolation}'\n[chains.trial]\nsteps = ['g', 'h']\nisolation = '{isolation}'\n"
        ));
        folder.write("f.c", TEXT);
        folder.write("granted", "");
        for (chain, said) in [("one", "1 1\n"), ("trial", "gg")] {
            let out = folder.run(&[chain], &["", "", ""]);
            let errors = text(&out.stderr);
            // (On Linux a file comes at the lowest number, and is given up there: EMFILE.)
            if chain == "trial" || cfg!(target_os = "freebsd") {
                assert_eq!(text(&out.stdout), said.repeat(3), "{isolation}: {errors}");
            }
        }
    }
}

/// As calls of the kernel do: what has failed before is said afterwards.
#[test]
fn what_succeeds_leaves_errno_as_it_was() {
    let folder = Folder::new(
        "[functions.f]\nsource = 'f.c'\nfiles = ['granted']\nconnect = ['127.0.0.1:1']\n[chains.trial]\nsteps = ['f']\n",
    );
    folder.write(
        "f.c",
        r#"
#include "lwc_function.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define	TRY(call)							\
	do {								\
		errno = EDOM;						\
		if ((call) < 0 || errno != EDOM)			\
			return (lwc_fail(inv, 1, #call));		\
	} while (0)

LWC_HANDLER(f)
{
	char byte;
	int fd, flag = 1;
	struct stat is;

	TRY(fd = open("granted", O_RDONLY));
	TRY(read(fd, &byte, 1));
	TRY(fstat(fd, &is));
	TRY(close(fd));
	TRY(fd = socket(AF_INET, SOCK_STREAM, 0));
	TRY(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &flag, sizeof(flag)));
	TRY(close(fd));
	lwc_append(inv, "well", 4);
	return (0);
}
"#,
    );
    folder.write("granted", "x");
    let out = folder.run(&[], &["", ""]);
    let errors = text(&out.stderr);
    assert_eq!(text(&out.stdout), "well".repeat(2), "{errors}");
}
