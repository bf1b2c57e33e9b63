//! Functions that call functions: whom, with what, in which state, and what
//! becomes of it when one fails. Each is `tests/hostile/script.c`, which does what
//! its input says.

mod common;

use common::{Folder, home, text};
use serde_json::Value;

/// A tree: `top` calls `left` and `right`, `left` calls `deep` and `right`,
/// `right` calls `deep`.
fn tree(isolation: &str, more: &str) -> Folder {
    let source = home().join("tests/hostile/script.c");
    let source = source.display();
    let functions: String = [
        ("top", r#"["left", "right"]"#, "60s"),
        ("left", r#"["deep", "right"]"#, "60s"),
        ("right", r#"["deep"]"#, "60s"),
        ("deep", "[]", "60s"),
        ("after", "[]", "60s"),
        ("stranger", "[]", "60s"),
    ]
    .iter()
    .map(|(name, calls, timeout)| {
        let timeout = match more.split_once(&format!("{name}=")) {
            Some((_, rest)) => rest.split(' ').next().unwrap(),
            None => timeout,
        };
        format!(
            "[functions.{name}]\nsource = \"{source}\"\nhandler = \"script\"\ncalls = {calls}\ntimeout = \"{timeout}\"\nmemory = \"64MiB\"\n"
        )
    })
    .collect();
    Folder::new(&format!(
        "{functions}[chains.trial]\nsteps = [\"top\", \"after\"]\nisolation = \"{isolation}\"\nregion = \"64KiB\"\n[workflows.alone]\nentry = \"top\"\nisolation = \"{isolation}\"\nregion = \"64KiB\"\n"
    ))
}

/// What came of each input: the answers, and the failures as JSON.
fn outcomes(folder: &Folder, chain: &str, inputs: &[&str]) -> (String, Vec<Value>) {
    let (stdout, failures, _) = folder.outcomes(chain, inputs);
    (stdout, failures)
}

/// The one answer of the workflow.
#[track_caller]
fn answer(folder: &Folder, input: &str) -> String {
    let (answer, failures) = outcomes(folder, "alone", &[input]);
    assert!(failures.is_empty(), "{input}: {failures:?}");
    answer
}

/// Cause, path and message of the one failure; the next request is answered.
#[track_caller]
fn failure(folder: &Folder, input: &str) -> (String, String, String) {
    let (answer, failures) = outcomes(folder, "alone", &[input, "call left {say well}"]);
    assert_eq!(answer, "well", "{input}: {failures:?}");
    let [failure] = failures.as_slice() else {
        panic!("{input}: {failures:?}")
    };
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let path: Vec<String> = failure["path"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    assert_eq!(failure["function"], path[path.len() - 1].as_str());
    (
        text(&failure["cause"]),
        path.join(" "),
        text(&failure["message"]),
    )
}

const BOTH: [&str; 2] = ["invocation", "chain"];

#[test]
fn a_call_is_answered_wherever_it_comes_from() {
    for isolation in BOTH {
        let folder = tree(isolation, "");
        for (input, says) in [
            ("call left {say hello}", "hello"),
            ("place left {say hello}", "hello"),
            (
                "call left {caller};call right {caller};caller",
                "toptop(nobody)",
            ),
            (
                "call left {call right {caller}};call right {caller}",
                "lefttop",
            ),
            (
                "call left {call deep {caller};call right {call deep {caller}}}",
                "leftright",
            ),
            (
                "say a;call left {say b;call deep {say c};say d};say e",
                "abcde",
            ),
            // Nothing, and nothing of nothing.
            ("call left {}", ""),
            ("call left {fill 0}", ""),
        ] {
            assert_eq!(answer(&folder, input), says, "{isolation}: {input}");
        }
        // A step that calls is a step all the same.
        let (out, failures) = outcomes(&folder, "trial", &["call left {say say };say done"]);
        assert_eq!((out.as_str(), failures.len()), ("done", 0), "{isolation}");
    }
}

#[test]
fn attributes_and_types_travel_both_ways_and_no_further() {
    for isolation in BOTH {
        let folder = tree(isolation, "");
        for (input, says) in [
            (
                "attr left x-one 1;call left {attrs};call left {attrs}",
                "(x-one=1)",
            ),
            (
                "attr left x-one 1;call right {attrs};call left {attrs}",
                "(x-one=1)",
            ),
            (
                "call left {say a;set x-two 2};call left {say b}",
                "a(x-two=2)b",
            ),
            ("attr left x-one 1;call left {call right {attrs}}", ""),
            ("start left {attrs};finish 0", "text/scripttext/script"),
        ] {
            assert_eq!(answer(&folder, input), says, "{isolation}: {input}");
        }
        // What cannot be one is refused: EINVAL, and EACCES of a stranger's.
        for (input, code) in [
            ("attr left X 1", libc::EINVAL),
            ("attr deep x 1", libc::EACCES),
        ] {
            let (cause, path, message) = failure(&folder, input);
            assert_eq!((cause.as_str(), path.as_str()), ("error", "top"));
            assert!(message.contains(&format!("(code {code})")), "{message}");
        }
    }
}

/// Nothing of a call is found by the next one, in the same request neither.
#[test]
fn a_callee_is_as_its_snapshot_at_every_call() {
    let folder = tree("invocation", "");
    for (input, says) in [
        (
            "call left {count};call left {count};call left {count}",
            "111",
        ),
        ("times 1000 left {count}", "1000;1"),
        ("call left {stash secret};call left {loot;say .}", "."),
        // By two callers.
        (
            "call right {call deep {stash secret;count}};call left {call deep {loot;count}}",
            "11",
        ),
        ("count;call left {count;call right {count}};count", "1111"),
    ] {
        assert_eq!(answer(&folder, input), says, "{input}");
    }
    let inputs = [
        "call left {stash secret};stash mine",
        "loot;call left {loot;say .}",
    ];
    assert_eq!(outcomes(&folder, "alone", &inputs), (".".into(), vec![]));
    // Who asks for it keeps what it has.
    let folder = tree("chain", "");
    let inputs = ["call left {count}", "call left {count};call left {count}"];
    assert_eq!(outcomes(&folder, "alone", &inputs), ("123".into(), vec![]));
}

#[test]
fn a_failure_is_a_value_of_the_caller() {
    for isolation in BOTH {
        let folder = tree(isolation, "right=300ms deep=300ms");
        for (input, says) in [
            (
                "call left {fail 42 as asked};say on",
                "[1 42 left: reported an error: as asked (code 42)]on",
            ),
            (
                "call left {say body;fail 7 why};say .",
                "[1 7 left: reported an error: why (code 7)]body.",
            ),
            ("call right {crash}", "[2 0 right: "),
            ("call right {exit}", "[2 0 right: exited with status 7"),
            (
                "call right {spin 60000};say on",
                "[3 0 right: overran its timeout of 300ms]on",
            ),
            (
                "call left {call deep {spin 60000};say on}",
                "[3 0 deep: overran its timeout of 300ms]on",
            ),
            (
                "call left {must deep {spin 60000}}",
                "[3 0 deep: left → deep: overran its timeout of 300ms]",
            ),
            ("call deep {say x}", "[5 0 deep: "),
            ("call stranger {say x}", "[5 0 stranger: "),
            ("call nobody {say x}", "[5 0 nobody: "),
            ("call top {say x}", "[5 0 top: "),
            ("big left 65537", "[6 0 left: "),
            (
                "call left {claim 65537}",
                "[6 0 left: claims an answer of 65537 bytes",
            ),
            (
                "call left {claim 99999999999};call left {say on}",
                "[6 0 left: ",
            ),
            ("call left {unhandled}", "[1 1 left: "),
            ("call left {code -7}", "[1 1 left: "),
            ("call left {code -2147483648}", "[1 1 left: "),
        ] {
            let answer = answer(&folder, input);
            assert!(answer.starts_with(says), "{isolation}: {input}: {answer}");
            if says.ends_with("on") {
                assert_eq!(answer, says, "{isolation}: {input}");
            }
        }
        // All that a region holds, there and back.
        let filled = answer(&folder, "call left {fill 65536}");
        assert!(filled.len() == 65536 && filled.bytes().all(|b| b == b'f'));
    }
}

#[test]
fn what_is_not_handled_fails_the_request_with_its_path() {
    for isolation in BOTH {
        let folder = tree(isolation, "right=300ms");
        for (input, cause, path, says) in [
            (
                "must left {fail 42 as asked}",
                "error",
                "top left",
                "as asked (code 42)",
            ),
            (
                "must left {must deep {fail 3 deep}}",
                "error",
                "top left deep",
                "deep (code 3)",
            ),
            (
                "must left {must deep {crash}}",
                "crash",
                "top left deep",
                "SIGSEGV",
            ),
            ("must right {spin 60000}", "timeout", "top right", "300ms"),
            (
                "must left {must right {spin 60000}}",
                "timeout",
                "top left right",
                "300ms",
            ),
            ("must left {claim 70000}", "too-big", "top left", "70000"),
            // One that was handled is no excuse.
            (
                "call left {crash};fail 9 mine",
                "error",
                "top",
                "mine (code 9)",
            ),
            // Of a call that none made nobody else is blamed.
            ("unhandled", "error", "top", "none did"),
            ("call left {say good};unhandled", "error", "top", "none did"),
            ("must deep {say x}", "error", "top", "calls"),
        ] {
            let (c, p, message) = failure(&folder, input);
            assert_eq!(
                (c.as_str(), p.as_str()),
                (cause, path),
                "{isolation}: {input}: {message}"
            );
            assert!(message.contains(says), "{isolation}: {input}: {message}");
        }
    }
}

/// What is said of the bytes of a message goes by way of the root: who says what none
/// can has failed, and nobody else has; an innocent one keeps what it has.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn who_lies_about_a_message_is_named() {
    for isolation in BOTH {
        let folder = tree(isolation, "");
        let second = if isolation == "chain" { "2" } else { "1" };
        for lie in ["call-len", "call-attributes"] {
            let input = format!(
                "call right {{count}};call left {{lie {lie};call right {{say x}}}};call right {{count}}"
            );
            let answer = answer(&folder, &input);
            assert!(
                answer.starts_with("1[2 0 left: misbehaved: it left arguments")
                    && answer.ends_with(&format!("]{second}")),
                "{isolation}: {lie}: {answer}"
            );
            let (cause, path, message) = failure(
                &folder,
                &format!("must left {{lie {lie};must right {{say x}}}}"),
            );
            assert_eq!(
                (cause.as_str(), path.as_str()),
                ("misbehaved", "top left"),
                "{isolation}: {lie}: {message}"
            );
        }
        let input = "call left {say a};call left {count;call right {say y;lie attributes};count};call left {count}";
        let answer = answer(&folder, input);
        let (first, rest) = if isolation == "chain" {
            ("a2[2 0 right: misbehaved: it left attributes", "]23")
        } else {
            ("a1[2 0 right: misbehaved: it left attributes", "]11")
        };
        assert!(
            answer.starts_with(first) && answer.ends_with(rest),
            "{isolation}: {answer}"
        );
        let (cause, path, message) = failure(&folder, "must left {must right {lie attributes}}");
        assert_eq!(
            (cause.as_str(), path.as_str()),
            ("misbehaved", "top left right"),
            "{isolation}: {message}"
        );
    }
}

/// Whoever has answered and runs on is ended while the next one is at work, and does
/// not take that one's time until the request is over. It alone loses what it keeps.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn whoever_runs_on_after_its_answer_is_ended_at_once() {
    for isolation in BOTH {
        let folder = tree(isolation, "");
        let input = "call left {call deep {say b;linger}};spin 300;call left {count}";
        let out = folder.run(&["alone"], &[input]);
        let (answer, stderr) = (text(&out.stdout), text(&out.stderr));
        let count = if isolation == "chain" { 2 } else { 1 };
        assert_eq!(answer, format!("b{count}"), "{isolation}: {stderr}");
        let ended = "function \"deep\": its context ran out of turn and is ended";
        assert!(stderr.contains(ended), "{isolation}: {stderr}");
        assert_eq!(
            stderr.matches("out of turn").count(),
            1,
            "{isolation}: {stderr}"
        );
    }
}

/// What a function logs in one request is bounded, however often it is called.
#[test]
fn a_log_of_many_calls_is_cut() {
    let folder = tree("chain", "");
    let out = folder.run(&["alone"], &["times 200 left {log 9000};say done"]);
    let (answer, stderr) = (text(&out.stdout), text(&out.stderr));
    assert!(answer.ends_with("done"), "{answer} {stderr}");
    assert!(stderr.len() < 1 << 20, "{}", stderr.len());
    assert_eq!(stderr.matches("its log is too long").count(), 1, "{stderr}");
}

/// The caller's time runs while it waits, and is not its callee's fault.
#[test]
fn the_time_of_a_caller_holds_for_its_callees() {
    for isolation in BOTH {
        let folder = tree(isolation, "left=2s deep=20s");
        let spent = answer(&folder, "call left {call deep {spin 60000}};say on");
        assert_eq!(
            spent, "[3 0 left: overran its timeout of 2s]on",
            "{isolation}"
        );
        let left = answer(&folder, "call left {call deep {left}}");
        let left: u64 = left.trim_end_matches(';').parse().unwrap();
        assert!(left <= 2000, "{isolation}: {left}");
        let folder = tree(isolation, "top=2s left=20s deep=20s");
        let (cause, path, message) = failure(&folder, "call left {call deep {spin 60000}}");
        assert_eq!(
            (cause.as_str(), path.as_str()),
            ("timeout", "top"),
            "{message}"
        );
    }
}

#[test]
fn calls_that_were_started_are_finished_in_any_order_and_once() {
    for isolation in BOTH {
        let folder = tree(isolation, "");
        let three = "start left {say a};start right {say b};start left {say c};";
        for (more, says) in [
            (
                "finish 0;finish 1;finish 2",
                "atext/scriptbtext/scriptctext/script",
            ),
            ("finish 2;finish 0;finish 1", "c"),
            // Others' replies stay as they are.
            ("call left {fill 999};finish 2", "f"),
            ("", ""),
        ] {
            let answer = answer(&folder, &format!("{three}{more}"));
            assert!(answer.starts_with(says), "{isolation}: {more}: {answer}");
        }
        let twice = answer(&folder, "start left {say a};finish 0;finish 0");
        assert!(twice.contains("[5 0 "), "{twice}");
        let unknown = answer(&folder, "finish 63");
        assert!(unknown.contains("[5 0 "), "{unknown}");
        let failed = answer(&folder, "start left {crash};call right {say x};finish 0");
        assert!(failed.starts_with("x[2 0 left: "), "{failed}");
    }
}

#[test]
fn a_request_makes_so_many_calls_and_no_more() {
    let folder = tree("chain", "");
    // Whoever made most of them is to blame, and nobody learns how many others
    // made, as a value would tell.
    for (input, path) in [
        ("times 10001 left {say x}", "top"),
        (
            "call left {times 9999 right {say x}};must right {say x}",
            "top left",
        ),
    ] {
        let (cause, who, message) = failure(&folder, input);
        assert_eq!(
            (cause.as_str(), who.as_str()),
            ("too-many-calls", path),
            "{message}"
        );
        assert!(message.contains("10000"), "{message}");
    }
    // Each step has its own, and is not blamed for those before it.
    let two = Folder::new(
        &std::fs::read_to_string(folder.path("chain.toml"))
            .unwrap()
            .replace("[\"top\", \"after\"]", "[\"top\", \"left\"]")
            .replace("calls = [\"deep\", \"right\"]", "calls = [\"deep\"]"),
    );
    let input = "say say ;times 9999 right {say };then {times 9999 deep {say }}";
    let (answers, failures) = outcomes(&two, "trial", &[input, "then {say well}"]);
    assert_eq!((answers.as_str(), failures.len()), ("99999999;well", 0));
    // The next request has its own.
    let inputs = ["times 9999 left {say x}", "times 9999 left {say x}"];
    let (all, failures) = outcomes(&folder, "alone", &inputs);
    assert_eq!((all.as_str(), failures.len()), ("9999;x9999;x", 0));
}

/// What one was told, or had begun to answer, is in regions that others have as
/// well: nothing of it is there in the next call, however the call before ended.
#[test]
fn regions_keep_nothing_of_a_call() {
    let find = "scan S_ECRET";
    for isolation in BOTH {
        let folder = tree(isolation, "left=500ms");
        for inputs in [
            // Of one that is ended while it waits; its callee is called by another.
            [
                "call left {call deep {spin 60000;say SECRET}};call right {call deep {FIND}}",
                "call right {call deep {FIND}}",
            ],
            // Half an answer.
            ["call right {say SEC;say RET;crash};FIND", "FIND"],
            ["call left {say SEC;say RET;spin 60000};FIND", "FIND"],
            // Attributes, a type, what is written in place.
            [
                "attr right x-token SECRET;call right {say ok};call left {call right {FIND}}",
                "call right {FIND}",
            ],
            // A reply: its writer keeps it where it keeps its state.
            [
                "call right {say SECRET};call left {call right {CLEAN}}",
                "call right {CLEAN}",
            ],
            [
                "inplace right 6 say ok SECRET;call left {call right {FIND}}",
                "call right {FIND}",
            ],
        ] {
            let clean = if isolation == "chain" {
                "say <0>"
            } else {
                find
            };
            let inputs = inputs.map(|i| i.replace("FIND", find).replace("CLEAN", clean));
            let (answers, failures) =
                outcomes(&folder, "alone", &inputs.each_ref().map(String::as_str));
            assert!(failures.is_empty(), "{isolation}: {inputs:?}: {failures:?}");
            // An answer may say it itself, where that is not all that it says.
            let found: Vec<&str> = answers.matches(['<', '>']).collect();
            assert_eq!(found.len(), 4, "{isolation}: {inputs:?}: {answers}");
            assert_eq!(
                answers.matches("<0>").count(),
                2,
                "{isolation}: {inputs:?}: {answers}"
            );
        }
        // So that it does not pass for want of eyes.
        if lwc::backend().unwrap() == lwc::Backend::Process {
            let seen = answer(&folder, &format!("call left {{say SEC;say RET;{find}}}"));
            assert!(!seen.contains("<0>"), "{seen}");
        }
    }
}

/// A callee that crashes or is ended in one call serves the next.
#[test]
fn whoever_fails_is_there_again_for_the_next_call() {
    for isolation in BOTH {
        let folder = tree(isolation, "right=300ms");
        for broken in ["crash", "exit", "spin 60000", "fail 1 x", "claim 70000"] {
            let input = format!("call right {{{broken}}};call right {{say again}}");
            let answer = answer(&folder, &input);
            assert!(answer.ends_with("]again"), "{isolation}: {input}: {answer}");
            let input = format!("call left {{call right {{{broken}}}}};call right {{say again}}");
            let answer = self::answer(&folder, &input);
            assert!(answer.ends_with("]again"), "{isolation}: {input}: {answer}");
        }
    }
}

/// Arguments and reply of a call are of the two that it is between; what is
/// beyond the grants is refused by the root itself.
#[test]
fn the_audit_tries_the_regions_of_each_edge_and_calls_beyond() {
    let folder = tree("invocation", "");
    let out = folder.ask("audit");
    let (shown, stderr) = (text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{shown}{stderr}");
    let row = |name: &str| -> Vec<String> {
        let line = shown.lines().rfind(|l| l.starts_with(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("{name}: {shown}"));
        let cells = line[name.len()..].split_ascii_whitespace();
        cells.map(str::to_owned).collect()
    };
    // Of the chain told last, the steps `top` and `after`, then `left`, `right`,
    // `deep`; or of the workflow without `after`.
    let is_workflow = row("control 1").len() == 5;
    let expect = |cells: &str| -> Vec<String> {
        let mut cells: Vec<String> = cells.split(' ').map(str::to_owned).collect();
        if is_workflow {
            cells.remove(2);
        }
        cells
    };
    for (name, cells) in [
        ("arguments top>left", "- rw - r - -"),
        ("reply top>left", "- r - rw - -"),
        ("arguments left>deep", "- - - rw - r"),
        ("reply right>deep", "- - - - r rw"),
        ("calls beyond", "own 0 0 0 0 0"),
        ("overlay reply top>left", "- - - - - -"),
    ] {
        assert_eq!(row(name), expect(cells), "{name}: {shown}");
    }
    assert!(shown.contains("regions of arguments, regions of replies, calls"));
}

/// A row of the tree of calls that `run --timings` prints: what stands before the
/// figures, how many calls, how many failed.
fn rows(stderr: &str) -> Vec<(String, Vec<String>)> {
    let tree = stderr
        .lines()
        .skip_while(|l| !l.contains("made ready"))
        .skip(1);
    let row = |line: &str| {
        let figure = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | ' ');
        let name = line.trim_end_matches(figure);
        let figures = line[name.len()..].split_ascii_whitespace();
        (name.to_owned(), figures.map(str::to_owned).collect())
    };
    tree.map(row).collect()
}

#[test]
fn timings_show_the_tree_and_what_became_of_its_calls() {
    for isolation in BOTH {
        // Short for who spins, and long for who is slow on a busy machine.
        let folder = tree(isolation, "right=4s");
        let input = "call left {call deep {say a};call right {call deep {say b}}};\
                     start right {must deep {crash}};call right {spin 60000};finish 0";
        let out = folder.run(&["alone", "--timings"], &[input, "times 9999 left {say x}"]);
        let stderr = text(&out.stderr);
        assert!(out.status.success(), "{stderr}");
        let rows = rows(&stderr);
        let shown: Vec<(&str, &[String])> = rows
            .iter()
            .map(|(name, figures)| (name.as_str(), &figures[..figures.len().min(2)]))
            .collect();
        let figures = |calls: &str, failed: &str| [calls.to_owned(), failed.to_owned()];
        let expected = [
            ("top", &[][..]),
            ("├─ left", &figures("10000", "0")),
            ("│  ├─ deep", &figures("1", "0")),
            ("│  └─ right", &figures("1", "0")),
            // By all that call it: the one that was started, too.
            ("│     └─ deep", &figures("2", "1")),
            ("└─ right (its calls are above)", &figures("2", "2")),
        ];
        assert_eq!(shown, expected, "{isolation}: {stderr}");
        // Mean, total, what making callees ready took.
        let number = |row: usize, at: usize| rows[row].1[at].parse::<f64>().unwrap();
        // The mean is of whole nanoseconds, and shown with one digit.
        assert!((number(1, 2) * 10_000.0 - number(1, 3)).abs() <= 0.051 * 10_000.0 + 0.1);
        assert!(
            number(1, 2) > 0.0 && number(5, 3) >= 4_000_000.0,
            "{stderr}"
        );
    }
}

#[test]
fn lines_of_the_log_have_the_path_of_their_call() {
    let folder = tree("invocation", "");
    let input = "note one;call left {note two;call deep {note three;crash}};call right {call deep {note four}}";
    let mut command = common::orchestrator();
    let out = command
        .args(["-vv", "--log-format", "json", "run"])
        .arg(folder.path("chain.toml"))
        .args(["alone", "--input"])
        .arg(folder.write("input", input))
        .output()
        .unwrap();
    let stderr = text(&out.stderr);
    assert!(out.status.success(), "{stderr}");
    let lines: Vec<Value> = stderr
        .lines()
        // Before them is what the file's reader says.
        .filter(|l| l.starts_with('{'))
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
        .collect();
    for (word, path) in [
        ("one", "top"),
        ("two", "top → left"),
        ("three", "top → left → deep"),
        ("four", "top → right → deep"),
    ] {
        let is = |l: &&Value| {
            let said = l["message"]
                .as_str()
                .unwrap()
                .ends_with(&format!(": {word}"));
            l["target"] == "function" && said
        };
        let line = lines
            .iter()
            .find(is)
            .unwrap_or_else(|| panic!("{word}: {stderr}"));
        assert_eq!(line["path"], path);
        assert_eq!(line["function"], path.rsplit(' ').next().unwrap());
        assert!(
            line["message"].as_str().unwrap().starts_with(path),
            "{line}"
        );
    }
    // The root's own lines have it too.
    for own in [
        "invoke: alone call top → left → deep",
        "retire: top → left → deep: ",
    ] {
        let is = |l: &Value| l["message"].as_str().unwrap().starts_with(own);
        assert!(lines.iter().any(is), "{own}: {stderr}");
    }
}
