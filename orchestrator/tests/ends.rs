//! A request that ends before its chain does, by a function's answer or by its
//! failure. The functions are `tests/hostile/script.c`, which does what its input
//! says, and its other handler `told`, which `on_error` names.

mod common;

use common::{Folder, home, orchestrator, text};
use serde_json::Value;

const BOTH: [&str; 2] = ["invocation", "chain"];

/// Three steps in a row, of which the first two may end the request, and `cleanup`,
/// which is told of a failure.
fn line(isolation: &str, more: &str) -> Folder {
    let source = home().join("tests/hostile/script.c");
    let source = source.display();
    let functions: String = [("a", true), ("b", true), ("c", false)]
        .iter()
        .map(|(name, ends)| {
            format!(
                "[functions.{name}]\nsource = \"{source}\"\nhandler = \"script\"\nends_request = {ends}\ntimeout = \"60s\"\n"
            )
        })
        .collect();
    Folder::new(&format!(
        "{functions}[functions.cleanup]\nsource = \"{source}\"\nhandler = \"told\"\ntimeout = \"500ms\"\n[chains.trial]\nsteps = [\"a\", \"b\", \"c\"]\nisolation = \"{isolation}\"\nregion = \"64KiB\"\n{more}"
    ))
}

/// What came of each input: the answers, the failures as JSON, and all that was said
/// beside these.
fn outcomes(folder: &Folder, inputs: &[&str]) -> (String, Vec<Value>, String) {
    folder.outcomes("trial", inputs)
}

#[track_caller]
fn answer(folder: &Folder, input: &str) -> String {
    let (answer, failures, _) = outcomes(folder, &[input]);
    assert!(failures.is_empty(), "{input}: {failures:?}");
    answer
}

/// Step, cause and message of the one failure, and the answer beside it.
#[track_caller]
fn failure(folder: &Folder, input: &str) -> (u64, String, String, String) {
    let (answer, failures, _) = outcomes(folder, &[input]);
    let [failure] = failures.as_slice() else {
        panic!("{input}: {answer} {failures:?}")
    };
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    (
        failure["step"].as_u64().unwrap(),
        text(&failure["cause"]),
        text(&failure["message"]),
        answer,
    )
}

#[test]
fn a_step_ends_the_request_with_its_answer() {
    for isolation in BOTH {
        let folder = line(isolation, "");
        for (input, says) in [
            ("then {then {say to the end}}", "to the end"),
            ("say first;end", "first"),
            ("end;say first", "first"),
            ("say first;end;end;mayend", "first0;"),
            ("then {say second;end}", "second"),
            ("end", ""),
            ("end;fill 65536", &"f".repeat(65536)),
        ] {
            assert_eq!(answer(&folder, input), says, "{isolation}: {input}");
        }
        // Who reports an error has not ended anything, and who may not, is told so.
        for (input, step, says) in [
            ("say x;end;fail 7 after all", 1, "after all (code 7)"),
            ("then {end;fail 7 after all}", 2, "after all (code 7)"),
            ("end;claim 65537", 1, "65537"),
            ("then {then {end}}", 3, "ends_request = true"),
        ] {
            let (at, _, message, answer) = failure(&folder, input);
            assert_eq!((at, answer.as_str()), (step, ""), "{isolation}: {input}");
            assert!(message.contains(says), "{isolation}: {input}: {message}");
        }
        assert_eq!(answer(&folder, "then {then {mayend}}"), "13;");
    }
}

/// Those behind it have not run, are as they were, and serve the next request.
#[test]
fn the_steps_behind_an_end_do_not_run() {
    let folder = line("chain", "");
    let counts = "then {then {count;say .}}";
    let (answers, failures, _) = outcomes(
        &folder,
        &[counts, "count;say .;end", "then {count;say .;end}", counts],
    );
    assert_eq!((answers.as_str(), failures.len()), ("1.2.2.2.", 0));
    let folder = line("invocation", "");
    let inputs = [counts, "count;say .;end", "then {count;say .;end}", counts];
    assert_eq!(outcomes(&folder, &inputs).0, "1.1.1.1.");
}

/// Nothing of an answer that was the last is found by who would have read it.
#[test]
fn an_early_answer_is_not_the_next_ones() {
    for isolation in BOTH {
        let folder = line(isolation, "");
        let inputs = ["say SECRET;end", "then {then {echo}}"];
        let (answers, failures, _) = outcomes(&folder, &inputs);
        assert_eq!((answers.as_str(), failures.len()), ("SECRETecho", 0));
    }
    // Where all that it wrote is undone.
    let folder = line("invocation", "");
    let inputs = ["say SEC;say RET;end", "then {scan S_ECRET;end}"];
    let (answers, failures, _) = outcomes(&folder, &inputs);
    assert_eq!((answers.as_str(), failures.len()), ("SECRET<0>", 0));
}

/// A callee's caller decides; a workflow's entry has nobody behind it.
#[test]
fn a_callee_ends_nothing() {
    let source = home().join("tests/hostile/script.c");
    let source = source.display();
    for isolation in BOTH {
        let folder = Folder::new(&format!(
            "[functions.a]\nsource = \"{source}\"\nhandler = \"script\"\nends_request = true\ncalls = [\"b\"]\n[functions.b]\nsource = \"{source}\"\nhandler = \"script\"\nends_request = true\n[chains.trial]\nsteps = [\"a\", \"b\"]\nisolation = \"{isolation}\"\n"
        ));
        for (input, says) in [
            ("then {say on;}", "on"),
            (
                "call b {say x;end};end",
                "[1 500 b: reported an error: this function may not end the request",
            ),
            ("call b {mayend};end", "13;"),
            ("call b {say called};end", "called"),
            ("end;call b {say called}", "called"),
        ] {
            let answer = answer(&folder, input);
            assert!(answer.starts_with(says), "{isolation}: {input}: {answer}");
        }
        // As a step it may, and the last one's end is one as any other.
        assert_eq!(answer(&folder, "then {say x;end}"), "x", "{isolation}");
    }
}

#[test]
fn the_function_of_on_error_is_told_who_failed_and_why() {
    for isolation in BOTH {
        let folder = line(isolation, "on_error = \"cleanup\"\n");
        assert_eq!(answer(&folder, "then {then {say well}}"), "well");
        for (input, step, cause, code, message) in [
            (
                "then {fail 42 as asked}",
                2,
                "error",
                Some(42),
                "reported an error: as asked (code 42)",
            ),
            ("then {then {crash}}", 3, "crash", None, "SIGSEGV"),
            ("exit", 1, "crash", None, "exited with status 7"),
            ("claim 65537", 1, "too-big", None, "65537"),
        ] {
            let (at, of, said, answer) = failure(&folder, input);
            assert_eq!((at, of.as_str()), (step, cause), "{isolation}: {input}");
            assert!(said.contains(message), "{isolation}: {input}: {said}");
            let name = ["a", "b", "c"][step as usize - 1];
            let (attributes, json) = answer.split_once("|{").unwrap();
            let mut want = format!(
                "(:failed-step={step})(:failed-function={name})(:failed-path={name})(:failed-cause={cause})"
            );
            if let Some(code) = code {
                want += &format!("(:failed-code={code})");
            }
            let rest = attributes.strip_prefix(&want);
            let rest = rest.unwrap_or_else(|| panic!("{isolation}: {input}: {answer}"));
            assert_eq!(rest, format!("(:failed-message={said})application/json"));
            let json: Value = serde_json::from_str(&format!("{{{json}")).unwrap();
            assert_eq!(json["chain"], "trial");
            assert_eq!(json["step"], step);
            assert_eq!(json["function"], name);
            assert_eq!(json["path"], serde_json::json!([name]));
            assert_eq!(json["cause"], cause);
            assert_eq!(json["message"], said.as_str());
            assert_eq!(json["code"].as_i64(), code);
        }
    }
}

/// The path of calls is told, and one that is a value of its caller's is nobody's
/// failure.
#[test]
fn a_callees_failure_is_told_with_its_path() {
    let source = home().join("tests/hostile/script.c");
    let source = source.display();
    for isolation in BOTH {
        let folder = Folder::new(&format!(
            "[functions.a]\nsource = \"{source}\"\nhandler = \"script\"\ncalls = [\"b\"]\n[functions.b]\nsource = \"{source}\"\nhandler = \"script\"\ntimeout = \"300ms\"\n[functions.cleanup]\nsource = \"{source}\"\nhandler = \"told\"\ncalls = [\"b\"]\n[workflows.trial]\nentry = \"a\"\non_error = \"cleanup\"\nisolation = \"{isolation}\"\n"
        ));
        for (input, cause) in [
            ("must b {crash}", "crash"),
            ("must b {spin 60000}", "timeout"),
        ] {
            let (_, of, _, answer) = failure(&folder, input);
            assert_eq!(of, cause);
            assert!(
                answer.contains("(:failed-function=b)(:failed-path=a b)"),
                "{answer}"
            );
        }
        assert!(answer(&folder, "call b {crash};say on").ends_with("]on"));
        // It calls whom it may.
        let told = failure(&folder, "fail 7 told: {call b {caller}}").3;
        assert_eq!(told, "cleanup", "{isolation}");
    }
}

/// What a function that both call has left for it in a region that it reads, or for
/// the next step.
#[test]
fn nothing_comes_by_way_of_a_callee() {
    let source = home().join("tests/hostile/script.c");
    let source = source.display();
    let functions: String = [
        ("a", "script"),
        ("b", "script"),
        ("c", "script"),
        ("cleanup", "told"),
    ]
    .iter()
    .map(|(name, handler)| {
        let calls = if *name == "c" { "[]" } else { r#"["c"]"# };
        format!(
            "[functions.{name}]\nsource = \"{source}\"\nhandler = \"{handler}\"\ncalls = {calls}\n"
        )
    })
    .collect();
    let folder = Folder::new(&format!(
        "{functions}[chains.trial]\nsteps = [\"a\", \"b\"]\non_error = \"cleanup\"\nregion = \"64KiB\"\n"
    ));
    for ends in ["", ";crash"] {
        let call = format!("start c {{smear S_ECRET{ends}}}");
        assert_eq!(
            answer(&folder, &format!("{call};then {{scan S_ECRET}}"))
                .matches("<0>")
                .count(),
            1
        );
        let told = failure(&folder, &format!("{call};fail 7 told: {{scan S_ECRET}}")).3;
        assert_eq!(told, "<0>", "{call}");
    }
    let told = failure(
        &folder,
        "call c {say x};must c {smear S_ECRET;fail 7 told: {scan S_ECRET}}",
    )
    .3;
    assert_eq!(told, "<0>");
    // So that it does not pass for want of eyes.
    if lwc::backend().unwrap() == lwc::Backend::Process {
        let seen = answer(&folder, "then {call c {smear S_ECRET;scan S_ECRET}}");
        assert_ne!(seen, "<0>");
        let seen = answer(&folder, "then {call c {smear S_ECRET};scan S_ECRET}");
        assert_ne!(seen, "<0>");
    }
}

/// Whatever it does, the failure is the one that it was told of, and the next
/// request is served.
#[test]
fn a_function_of_on_error_that_fails_changes_nothing() {
    for isolation in BOTH {
        let folder = line(isolation, "on_error = \"cleanup\"\n");
        for (does, says) in [
            ("crash", "SIGSEGV"),
            ("exit", "exited with status 7"),
            ("spin 60000", "overran its timeout of 500ms"),
            ("fail 9 mine", "mine (code 9)"),
            ("claim 65537", "65537"),
            ("end", "ends_request = true"),
        ] {
            for at in ["", "then "] {
                let script = format!("fail 7 told: {{{does}}}");
                let input = match at {
                    "" => script,
                    _ => format!("then {{{script}}}"),
                };
                let (answers, failures, said) =
                    outcomes(&folder, &[&input, "then {then {say well}}", &input]);
                assert_eq!(answers, "well", "{isolation}: {input}: {said}");
                assert_eq!(failures.len(), 2, "{isolation}: {input}: {said}");
                for failure in &failures {
                    assert_eq!(failure["cause"], "error");
                    assert_eq!(failure["code"], 7);
                }
                let told = said.lines().filter(|l| {
                    l.contains("told by on_error")
                        && l.contains("failed itself")
                        && l.contains(says)
                });
                assert_eq!(told.count(), 2, "{isolation}: {input}: {said}");
            }
        }
        // One that has nothing to say changes nothing either.
        assert_eq!(failure(&folder, "fail 7 told: {mayend}").3, "13;");
        assert_eq!(failure(&folder, "fail 7 told: {say }").3, "");
    }
}

/// Of the request it sees nothing but what it is told, and of an earlier failure
/// nothing at all.
#[test]
fn the_function_of_on_error_sees_nothing_else() {
    for isolation in BOTH {
        let folder = line(isolation, "on_error = \"cleanup\"\n");
        let inputs = [
            "fail 7 told: {scan S_ECRET}",
            "say SECRET;end;fail 7 told: {scan S_ECRET}",
            "then {set x-a SECRET;say SECRET;fail 7 told: {scan S_ECRET}}",
            "fail 7 here is a SECRET of mine",
            "fail 7 told: {scan S_ECRET}",
        ];
        let (answers, failures, _) = outcomes(&folder, &inputs);
        assert_eq!(failures.len(), inputs.len());
        // Where its context is kept it finds what it was told itself.
        let blind = answers.matches("<0>").count();
        let most = if isolation == "chain" { 3 } else { 4 };
        assert!(blind >= most, "{isolation}: {answers}");
        // What the failed function says is told, for that is what it is for.
        assert!(answers.contains("here is a SECRET of mine"), "{answers}");
        // So that it does not pass for want of eyes.
        if lwc::backend().unwrap() == lwc::Backend::Process {
            let seen = failure(&folder, "fail 7 told: {say SEC;say RET;scan S_ECRET}").3;
            assert!(!seen.contains("<0>"), "{seen}");
        }
        // It keeps what it has where contexts are kept, and there alone.
        let inputs = ["fail 7 told: {count}"; 3];
        let counts = if isolation == "chain" { "123" } else { "111" };
        assert_eq!(outcomes(&folder, &inputs).0, counts, "{isolation}");
    }
}

/// A function that is a step as well has another context as the one of `on_error`.
#[test]
fn a_step_may_be_told_of_failures_too() {
    for isolation in BOTH {
        let folder = line(isolation, "on_error = \"a\"\n");
        let (answers, failures, said) = outcomes(&folder, &["crash", "then {then {say well}}"]);
        // It takes what it is told for its script.
        assert!(
            said.contains("\"a\", told by on_error that \"a\" failed, failed itself"),
            "{said}"
        );
        assert_eq!(
            (answers.as_str(), failures.len()),
            ("well", 1),
            "{isolation}"
        );
        assert_eq!(failures[0]["cause"], "crash");
    }
}

#[test]
fn check_and_audit_show_who_reads_and_writes() {
    let show = |folder: &Folder, what: &[&str]| {
        let mut command = orchestrator();
        let file = folder.path("chain.toml");
        let out = command.args(what).arg(file).output().unwrap();
        let (shown, stderr) = (text(&out.stdout), text(&out.stderr));
        assert!(out.status.success(), "{shown}{stderr}");
        shown
    };
    for isolation in BOTH {
        let folder = line(isolation, "on_error = \"cleanup\"\n");
        let plan = show(&folder, &["check", "--no-build"]);
        for row in [
            "  region 0: root writes, a reads\n",
            "  region 1: a writes, b reads, root reads\n",
            "  region 3: c writes, root reads\n",
            "  on_error cleanup: failure root rw, cleanup r; answer cleanup rw, root r\n",
            ", may end a request\n",
        ] {
            assert!(plan.contains(row), "{row}: {plan}");
        }
        let plan: Value = serde_json::from_str(&show(&folder, &["check", "--json"])).unwrap();
        assert_eq!(plan["chains"][0]["on_error"], "cleanup");
        assert_eq!(plan["chains"][0]["contexts"][3]["function"], "cleanup");
        let matrix = show(&folder, &["audit"]);
        for (name, cells) in [
            ("region 1", "r rw r - -"),
            ("region 2", "r - rw r -"),
            ("region 3", "r - - rw -"),
            ("failure", "rw - - - r"),
            ("failure answer", "r - - - rw"),
            ("overlay failure", "- - - - -"),
        ] {
            let row = matrix.lines().find_map(|l| {
                let cells = l.strip_prefix(name)?.split_ascii_whitespace();
                let cells: Vec<&str> = cells.collect();
                (cells.len() == 5).then(|| cells.join(" "))
            });
            assert_eq!(row.as_deref(), Some(cells), "{isolation}: {name}: {matrix}");
        }
        assert!(matrix.contains("regions of failures"), "{matrix}");
    }
}

/// Functions that say that the request ends, and something else as well.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod out_of_turn {
    use super::*;
    use std::time::Duration;

    const EVER: Duration = Duration::from_secs(180);

    /// Three of `tests/hostile/runner.c` in a row, those at these places with the
    /// grant.
    fn runners(grants: [bool; 3], timeout: &str) -> Folder {
        let source = home().join("tests/hostile/runner.c");
        let functions: String = grants
            .iter()
            .enumerate()
            .map(|(i, ends)| {
                format!(
                    "[functions.f{i}]\nsource = \"{}\"\nhandler = \"runner\"\ntimeout = \"{timeout}\"\nmemory = \"32MiB\"\nends_request = {ends}\n",
                    source.display()
                )
            })
            .collect();
        Folder::new(&format!(
            "{functions}[chains.trial]\nsteps = [\"f0\", \"f1\", \"f2\"]\nisolation = \"chain\"\nregion = \"64KiB\"\n"
        ))
    }

    /// The answers, and steps and causes of the failures.
    fn run(folder: &Folder, inputs: &[&str]) -> (String, Vec<(u64, String)>) {
        let out = folder.run_within(EVER, &["trial", "--json"], inputs);
        let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
        let failures = stderr
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l).ok())
            .map(|v| {
                let cause = v["cause"].as_str().unwrap().to_owned();
                (v["step"].as_u64().unwrap(), cause)
            })
            .collect();
        (stdout, failures)
    }

    /// How often each of the three has served, by a last "counts".
    fn last_counts(answers: &str) -> Vec<u32> {
        let last = answers.rsplit("counts").next().unwrap_or_default();
        let words = last.split_ascii_whitespace();
        words.map(|n| n.parse().unwrap()).collect()
    }

    /// One that says so before or after it has handed over: the request ends there, or
    /// goes on, and nobody is at work for one that has ended.
    #[test]
    fn one_that_ends_and_hands_over_harms_itself_alone() {
        for how in [
            "end first 0",
            "end first 20000",
            "end also",
            "end and hand over",
        ] {
            for (before, at) in [("", 0), ("keep ", 1)] {
                let folder = runners([true; 3], "20s");
                let input = format!("{before}do {how};watch 60");
                let inputs = ["counts", &input, "counts", "counts"];
                let (answers, failures) = run(&folder, &inputs);
                // Who says other things to everybody says them to the root, which may
                // read that in the next request, and then knows whose fault it is.
                let its_own = (at as u64 + 1, "misbehaved".to_owned());
                let most = usize::from(how == "end and hand over");
                assert!(
                    failures.len() <= most && failures.iter().all(|f| *f == its_own),
                    "{input}: {answers}: {failures:?}"
                );
                let mut all = answers.split("counts");
                assert_eq!(all.next(), Some(""));
                let second = all.next().unwrap().trim_start_matches([' ', '1']);
                let counts = last_counts(&answers);
                // Those behind it have run in that request, or have not.
                let behind = match second {
                    "watch 60" => 3,
                    "same" => 4,
                    other => panic!("{input}: {other}: {answers}"),
                };
                let behind = behind - failures.len() as u32;
                for (i, &count) in counts.iter().enumerate() {
                    let innocent = i != at;
                    let served = if i > at { behind } else { 4 };
                    assert!(!innocent || count == served, "{input}: {answers}");
                }
            }
        }
    }

    /// A second end is nobody's answer, in that request or the next.
    #[test]
    fn one_that_ends_twice_ends_one_request() {
        for (before, at) in [("", 0), ("keep ", 1), ("keep keep ", 2)] {
            let folder = runners([true; 3], "20s");
            let input = format!("{before}do end again;as said");
            let inputs = ["counts", &input, "counts", &input, "counts"];
            let (answers, failures) = run(&folder, &inputs);
            assert_eq!(failures, [], "{input}: {answers}");
            assert_eq!(answers.matches("as said").count(), 2, "{input}: {answers}");
            let counts = last_counts(&answers);
            for (i, &count) in counts.iter().enumerate().filter(|(i, _)| *i != at) {
                assert_eq!(count, if i > at { 3 } else { 5 }, "{input}: {answers}");
            }
        }
    }

    #[test]
    fn one_without_the_grant_or_the_ticket_is_to_blame() {
        let folder = runners([false, true, true], "20s");
        let (answers, failures) = run(&folder, &["counts", "never end", "counts"]);
        assert_eq!(failures, [(1, "misbehaved".into())], "{answers}");
        assert_eq!(answers, "counts 1 1 1counts 1 2 2");
        // It has not ended: its time does.
        let folder = runners([true; 3], "1s");
        let (answers, failures) = run(&folder, &["counts", "never false end", "counts"]);
        assert_eq!(failures, [(1, "timeout".into())], "{answers}");
        assert_eq!(answers, "counts 1 1 1counts 1 2 2");
    }
}
