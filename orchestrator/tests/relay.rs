//! Chains of more than one function: who failed is named, whoever fails and
//! whatever it does with its neighbours; the next invocation works.

mod common;

use common::{Folder, home, text};

/// Where contexts are the kernel's, and numbers of the switches are known.
fn of_the_kernel() -> bool {
    lwc::backend().unwrap() == lwc::Backend::Kernel
}

/// A chain of a source's function, again and again, with these timeouts.
fn chain(source: &str, isolation: &str, timeouts: &[&str]) -> Folder {
    let path = home().join(format!("tests/hostile/{source}.c"));
    let functions: String = timeouts
        .iter()
        .enumerate()
        .map(|(i, timeout)| {
            format!(
                "[functions.f{i}]\nsource = \"{}\"\nhandler = \"{source}\"\ntimeout = \"{timeout}\"\nmemory = \"32MiB\"\n",
                path.display()
            )
        })
        .collect();
    let steps: Vec<String> = (0..timeouts.len()).map(|i| format!("f{i}")).collect();
    Folder::new(&format!(
        "{functions}[chains.trial]\nsteps = {steps:?}\nisolation = \"{isolation}\"\nregion = \"64KiB\"\n"
    ))
}

/// The answer; or the step, the cause and the message.
type Outcome = Result<String, (u64, String, String)>;

/// Runs the input, and then one that every function lives through.
fn attempt(folder: &Folder, input: &str) -> Outcome {
    let out = folder.run(&["--json"], &[input, "keep keep ok"]);
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert!(
        stdout.ends_with("fine"),
        "{input}: the next invocation: {stdout} {stderr} ({})",
        out.status
    );
    let failure: Option<serde_json::Value> =
        stderr.lines().find_map(|l| serde_json::from_str(l).ok());
    match failure {
        None => Ok(stdout[..stdout.len() - 4].to_owned()),
        Some(v) => Err((
            v["step"].as_u64().unwrap(),
            v["cause"].as_str().unwrap().to_owned(),
            v["message"].as_str().unwrap().to_owned(),
        )),
    }
}

#[test]
fn the_step_that_failed_is_named() {
    for isolation in ["chain", "invocation"] {
        let folder = chain("hostile", isolation, &["2s"; 3]);
        for (input, says) in [
            ("null", (1, "crash", "SIGSEGV")),
            ("keep null", (2, "crash", "SIGSEGV")),
            ("keep keep null", (3, "crash", "SIGSEGV")),
            ("keep error", (2, "error", "as asked\\u{1b}[31m (code 42)")),
            ("error", (1, "error", "(code 42)")),
            ("keep claim too much", (2, "too-big", "65537")),
            ("keep exit", (2, "crash", "exited with status 7")),
            ("keep keep exec", (3, "crash", "forbidden system call")),
            ("keep handler that lies", (2, "", "")),
        ] {
            let (step, cause, message) = attempt(&folder, input).unwrap_err();
            assert_eq!(step, says.0, "{isolation}: {input}: {message}");
            assert!(
                cause.contains(says.1) && message.contains(says.2),
                "{isolation}: {input}: {cause}: {message}"
            );
        }
        assert_eq!(attempt(&folder, "keep keep ok").unwrap(), "fine");
        if of_the_kernel() && isolation == "chain" {
            let (step, cause, _) = attempt(&folder, "keep close all").unwrap_err();
            assert_eq!((step, cause.as_str()), (2, "crash"));
        }
    }
}

#[test]
fn a_crash_in_the_middle_leaves_its_neighbours() {
    let folder = chain("hostile", "chain", &["2s"; 3]);
    // Counted by the first and the last function, which serve on; again and
    // again, so that links to who is gone would pile up.
    let inputs: Vec<&str> = ["keep keep count", "keep null"]
        .into_iter()
        .cycle()
        .take(201)
        .collect();
    let out = folder.run(&[], &inputs);
    // The last function runs once for each "count" and never for a "null".
    let counts: String = (1..=101).map(|n| n.to_string()).collect();
    assert_eq!(text(&out.stdout), counts, "{}", text(&out.stderr));
}

#[test]
fn each_function_has_its_own_time() {
    for isolation in ["chain", "invocation"] {
        let folder = chain("switcher", isolation, &["30s", "300ms", "20s"]);
        // The first and the last may take longer than the second.
        assert_eq!(attempt(&folder, "spin 700").unwrap(), "fine");
        assert_eq!(attempt(&folder, "sleep 700").unwrap(), "fine");
        assert_eq!(
            attempt(&folder, "keep keep spin 700").unwrap(),
            "keep keep fine"
        );
        for input in ["keep spin 60000", "keep sleep 60000", "keep lie and loop"] {
            assert_eq!(
                attempt(&folder, input).unwrap_err(),
                (2, "timeout".into(), "overran its timeout of 300ms".into()),
                "{isolation}: {input}"
            );
        }
        let folder = chain("switcher", isolation, &["1s", "300ms", "20s"]);
        assert_eq!(
            attempt(&folder, "lie and loop").unwrap_err(),
            (1, "timeout".into(), "overran its timeout of 1s".into())
        );
    }
}

#[test]
fn a_type_goes_on_until_a_function_sets_another() {
    for isolation in ["chain", "invocation"] {
        let folder = chain("switcher", isolation, &["2s"; 3]);
        let seen = |input: &str| attempt(&folder, input).unwrap();
        assert_eq!(seen("keep keep tell type"), "application/octet-stream");
        // Set by the first, left alone by the second, seen by the third.
        assert_eq!(seen("type text/x-test"), "text/x-test");
    }
}

#[test]
fn attributes_go_to_the_next_function_and_no_further() {
    for isolation in ["chain", "invocation"] {
        let folder = chain("switcher", isolation, &["2s"; 3]);
        let seen = |input: &str| attempt(&folder, input).unwrap();
        assert_eq!(seen("attribute"), "has: x-one=1");
        assert_eq!(seen("attribute then keep"), "keep has:");
        assert_eq!(seen("tell attributes"), "fine");
        assert_eq!(seen("attribute"), "has: x-one=1");
    }
}

/// Whatever a function in the middle does with the descriptors it holds, the
/// chain comes to an end, and the next invocation works.
#[test]
fn a_function_that_switches_by_itself_gets_nowhere() {
    if !of_the_kernel() {
        return;
    }
    let folder = chain("switcher", "chain", &["2s"; 3]);
    let mut seen = std::collections::BTreeSet::new();
    let words = [0u64, 1, 2, 4, 5, 6, 11, 12, 14, 15, 1 << 40];
    for fd in 0..8 {
        let switches = words.map(|word| format!("keep switch {fd} {word}"));
        for input in switches.into_iter().chain([format!("keep discard {fd}")]) {
            match attempt(&folder, &input) {
                // To hand over takes a ticket, which it has not said.
                Ok(answer) => panic!("{input}: {answer}"),
                Err((step, cause, message)) => {
                    assert!(
                        (cause == "misbehaved" && (1..=3).contains(&step))
                            || (cause == "error" && step == 2),
                        "{input}: step {step}: {cause}: {message}"
                    );
                    seen.insert(cause)
                }
            };
        }
    }
    // The root, the snapshot, both neighbours, and numbers that name nobody.
    let all = ["error", "misbehaved"].map(String::from);
    assert!(seen.into_iter().eq(all));
    assert_eq!(attempt(&folder, "introduce").unwrap(), "fine");
    assert_eq!(attempt(&folder, "keep introduce").unwrap(), "keep fine");
}

/// What a function leaves for the next one's eyes alone harms nobody: its own host says
/// what its answer is, to both.
#[test]
fn what_is_left_where_nobody_looks_is_nothing() {
    let folder = chain("switcher", "chain", &["2s"; 3]);
    assert_eq!(attempt(&folder, "forge").unwrap(), "fine");
    if !of_the_kernel() {
        return;
    }
    // Past its host: whoever of those it can name is next is told no length, which no
    // host leaves out.
    let refused = (0..8)
        .filter_map(|fd| attempt(&folder, &format!("keep forge {fd}")).err())
        .filter(|(step, cause, _)| (2..=3).contains(step) && cause == "misbehaved")
        .count();
    assert!(refused > 0);
}

/// Functions that go on running after their turn, where contexts are processes.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod out_of_turn {
    use super::*;
    use std::time::{Duration, Instant};

    const WATCH: &str = "watch 60";

    /// More than all inputs of a case take, on a machine that is busy.
    const EVER: Duration = Duration::from_secs(180);

    /// What came of each input, in one chain of three: the answers, one after the
    /// other, and the failures.
    fn outcomes(isolation: &str, inputs: &[&str]) -> (String, Vec<(u64, String, String)>) {
        outcomes_within(isolation, &["20s"; 3], inputs)
    }

    fn outcomes_within(
        isolation: &str,
        timeouts: &[&str],
        inputs: &[&str],
    ) -> (String, Vec<(u64, String, String)>) {
        let folder = chain("runner", isolation, timeouts);
        let out = folder.run_within(EVER, &["--json"], inputs);
        let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
        let failures = stderr
            .lines()
            .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok())
            .map(|v| {
                (
                    v["step"].as_u64().unwrap(),
                    v["cause"].as_str().unwrap().to_owned(),
                    v["message"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        (stdout, failures)
    }

    /// Which of three functions are the ones that they were before, after two
    /// requests that count and one that does this. Its answer, too.
    fn after(isolation: &str, input: &str) -> (String, [bool; 3]) {
        let (answers, failures) = outcomes(isolation, &["counts", "counts", input, "counts"]);
        assert_eq!(failures, [], "{isolation}: {input}: {answers}");
        read(&answers)
    }

    /// The same of the answers to those four.
    fn read(answers: &str) -> (String, [bool; 3]) {
        let all: Vec<&str> = answers.split("counts").collect();
        let [_, _, second, last] = all.as_slice() else {
            panic!("{answers}")
        };
        let numbers = |text: &str| -> Vec<u32> {
            let words = text.split_ascii_whitespace();
            words.map_while(|n| n.parse().ok()).collect()
        };
        let answer = second.trim_start_matches([' ', '1', '2', '3']).to_owned();
        let counts: [u32; 3] = numbers(last).try_into().expect(answers);
        (answer, counts.map(|n| n > 1))
    }

    #[test]
    fn what_its_successor_reads_stays_as_it_was() {
        for isolation in ["chain", "invocation"] {
            for how in ["scribble", "scribble all"] {
                let (answer, _) = after(isolation, &format!("do {how};{WATCH}"));
                assert_eq!(answer, "same", "{isolation}: {how}");
                let (answer, _) = after(isolation, &format!("keep do {how};{WATCH}"));
                assert_eq!(answer, "same", "{isolation}: {how}, in the middle");
            }
        }
    }

    /// Who tells the next one what is no message and the root what is one has said the
    /// second: the request goes on with that.
    #[test]
    fn a_message_that_is_none_is_told_again_by_the_root() {
        changes_nothing(&[
            "length 0x10000000000",
            "length 0xffffffffffffffff",
            "leave bytes",
        ]);
    }

    /// Who tells both of them fails for that, and its neighbour stays.
    #[test]
    fn a_message_that_is_none_is_its_authors() {
        for (how, cause) in [
            ("tell length 0x10000000000", "too-big"),
            ("leave bytes everywhere", "misbehaved"),
        ] {
            for before in ["", "keep "] {
                let at = before.len() as u64 / 5 + 1;
                let input = format!("{before}do {how};{WATCH}");
                let (_, failures) = harmless(["20s"; 3], &[at], &[&input]);
                let [(step, found, message)] = failures.as_slice() else {
                    panic!("{input}: {failures:?}")
                };
                assert_eq!((*step, found.as_str()), (at, cause), "{input}: {message}");
            }
        }
    }

    /// Two that do so in turns, each with the ticket that it has by then, come to an end.
    #[test]
    fn two_that_find_fault_in_turns_come_to_an_end() {
        let input = "keep do take turns;do answer in turns;";
        let (_, failures) = harmless(["20s"; 3], &[2, 3], &[input]);
        let misbehaved = failures.iter().all(|f| f.1 == "misbehaved");
        assert!(!failures.is_empty() && misbehaved, "{failures:?}");
    }

    /// One that does so when others are at work behind it, and is gone before the root can
    /// tell it again, ends nobody's request: the one between them shows nothing, and the
    /// last one, which is at work, stays.
    #[test]
    fn a_complaint_of_a_dead_one_ends_nothing_that_went_on() {
        // On a busy machine the root may have ended it before it says anything.
        for _ in 0..3 {
            let input = "keep do complain late and die;do show nothing;watch 1500;";
            let inputs = ["counts", input, "counts"];
            let (answers, failures) = outcomes_within("chain", &["20s"; 4], &inputs);
            assert_eq!(failures, [], "{answers}");
            assert_eq!(answers, "counts 1 1 1 1samecounts 3 1 3 3");
        }
    }

    /// Who says so of a message that is one fails for that.
    #[test]
    fn one_that_finds_fault_with_a_good_message_keeps_the_blame() {
        for (how, says) in [
            ("complain", "did not take over"),
            ("complain again", "what the root has told it"),
        ] {
            for before in ["keep ", "keep keep "] {
                let at = before.len() as u64 / 5 + 1;
                let input = format!("{before}do {how};{WATCH}");
                let (_, failures) = harmless(["20s"; 3], &[at], &[&input]);
                let [(step, cause, message)] = failures.as_slice() else {
                    panic!("{input}: {failures:?}")
                };
                assert_eq!((*step, cause.as_str()), (at, "misbehaved"), "{message}");
                assert!(message.contains(says), "{input}: {message}");
            }
        }
    }

    #[test]
    fn it_is_ended_before_the_next_request() {
        for how in ["run on", "scribble"] {
            let (_, same) = after("chain", &format!("do {how};{WATCH}"));
            assert_eq!(same, [false, true, true], "{how}");
            let (_, same) = after("chain", &format!("keep do {how};{WATCH}"));
            assert_eq!(same, [true, false, true], "{how}, in the middle");
            let (_, same) = after("chain", &format!("keep keep do {how};"));
            assert_eq!(same, [true, true, false], "{how}, at the end");
        }
    }

    #[test]
    fn a_hand_over_that_is_not_its_turn_changes_nothing() {
        // Nobody could know which end of the edge lies, and it harms nobody.
        changes_nothing(&["again", "number 1", "number -1", "number -1000"]);
    }

    /// Whoever does this, first or in the middle: the request is served, and all three
    /// functions are the ones that they were.
    fn changes_nothing(ways: &[&str]) {
        for how in ways {
            for before in ["", "keep "] {
                let (answer, same) = after("chain", &format!("{before}do {how};{WATCH}"));
                assert_eq!(
                    (answer.as_str(), same),
                    ("same", [true; 3]),
                    "{before}{how}"
                );
            }
        }
    }

    #[test]
    fn to_other_contexts_neither() {
        for (at, before) in ["", "keep ", "keep keep "].into_iter().enumerate() {
            let input = format!("{before}do others;{WATCH}");
            let (answers, failures) = outcomes("chain", &["counts", "counts", &input, "counts"]);
            // Among those others is the root. Whenever it reads that while this one is at
            // work, in this request or in the next, it knows whose fault it is.
            let all: Vec<_> = failures.iter().map(|(n, c, _)| (*n, c.as_str())).collect();
            if !all.is_empty() {
                let whose = (at as u64 + 1, "misbehaved");
                assert_eq!(all, [whose], "{input}: {answers}: {failures:?}");
                assert!(answers.starts_with("counts 1 1 1counts 2 2 2"), "{answers}");
                continue;
            }
            let (answer, same) = read(&answers);
            assert_eq!(answer, if at == 2 { WATCH } else { "same" }, "{input}");
            // The root hears of the last one in the next request alone.
            assert!(at == 2 || !same[at], "{input}: {same:?}");
        }
    }

    #[test]
    fn a_late_one_is_nobodys() {
        let inputs = ["counts", "do late;fine", "counts", "counts"];
        let (answers, failures) = outcomes("chain", &inputs);
        // In its own request it may hand over as well as report an error, or do
        // both: that one ends as what is seen first. No other does.
        let all: Vec<(u64, &str)> = failures.iter().map(|(n, c, _)| (*n, c.as_str())).collect();
        assert!(
            all.is_empty() || all == [(1, "error")],
            "{answers}: {all:?}"
        );
        let rest = answers.replacen("fine", "", 1);
        assert!(rest.starts_with("counts 1 1 1counts 1 "), "{answers}");
        assert!(answers.contains("counts 2 "), "{answers}");
    }

    #[test]
    fn its_end_is_not_its_successors() {
        for how in ["die", "die as current"] {
            for before in ["", "keep "] {
                let (answer, same) = after("chain", &format!("{before}do {how};{WATCH}"));
                let at = before.len() / 5;
                let mut all = [true; 3];
                all[at] = false;
                assert_eq!((answer.as_str(), same), ("same", all), "{before}{how}");
            }
        }
        // Nor its snapshot's: there is a new copy each time.
        // One that dies while the root waits for it to come to rest is not waited
        // for any longer: that would be five seconds, for most of these. Beside it
        // what a crash costs at the time, which needs a new copy as well.
        let median = |mut all: Vec<Duration>| {
            all.sort_unstable();
            all[all.len() / 2]
        };
        let (mut deaths, mut crashes) = (Vec::new(), Vec::new());
        for _ in 0..9 {
            let begun = Instant::now();
            assert_eq!(outcomes("chain", &["crash"; 3]).1.len(), 3);
            crashes.push(begun.elapsed());
            let begun = Instant::now();
            let (answers, failures) = outcomes("chain", &["do die;fine"; 3]);
            deaths.push(begun.elapsed());
            assert_eq!((answers, failures), ("fine".repeat(3), Vec::new()));
        }
        let (took, usual) = (median(deaths), median(crashes));
        assert!(
            took < 2 * usual + Duration::from_secs(8),
            "three deaths took {took:?}, three crashes {usual:?}"
        );
    }

    /// The numbers of a last "counts".
    fn last_counts(answers: &str) -> Vec<u32> {
        let last = answers.rsplit("counts").next().unwrap_or_default();
        let words = last.split_ascii_whitespace();
        words.map(|n| n.parse().unwrap()).collect()
    }

    /// The root hears what is none of its answers at the moment that the next
    /// function is handed over to, before or after: its author has said that it hands
    /// over, and the others go on as if nothing had been. While it is at work it is
    /// what it has to say.
    #[test]
    fn a_switch_that_means_nothing_costs_its_author_alone() {
        let delays = [0, 1_000, 4_000, 16_000, 64_000];
        let first = delays.map(|n| format!("junk first {n}"));
        for how in first.iter().map(String::as_str).chain(["junk"; 2]) {
            const ROUNDS: usize = 4;
            let input = format!("do {how};watch 20");
            let inputs = [input.as_str(), "counts"].repeat(ROUNDS);
            let (answers, failures) = outcomes("chain", &inputs);
            assert_eq!(failures, [], "{input}: {answers}");
            // The others have served all of them.
            let counts = last_counts(&answers);
            assert!(
                counts[0] == 1 && counts[1..].iter().all(|&n| n as usize == 2 * ROUNDS),
                "{input}: {answers}"
            );
        }
        let (answers, failures) = outcomes("chain", &["counts", "never junk", "counts"]);
        let [(1, cause, _)] = failures.as_slice() else {
            panic!("{answers} {failures:?}")
        };
        assert_eq!(cause, "misbehaved");
        assert_eq!(answers, "counts 1 1 1counts 1 2 2");
    }

    /// A neighbour that wakes it all the time does not make an innocent one that
    /// runs.
    #[test]
    fn one_that_is_woken_all_the_time_is_not_taken_for_one_that_runs() {
        for _ in 0..6 {
            let (answer, same) = after("chain", &format!("do storm;{WATCH}"));
            assert_eq!((answer.as_str(), same), ("same", [false, true, true]));
        }
    }

    /// What a function has left for others to find, without waking them, wakes it for
    /// nobody: it would be awake in the time of one before it, which would be held
    /// for one that runs out of turn.
    #[test]
    fn one_that_lies_in_wait_is_not_woken_for_what_it_has_left() {
        for how in [
            "leave to the next",
            "leave an unhold",
            "leave to the one before",
            "leave nothing",
        ] {
            let input = format!("keep keep do {how};");
            let inputs = ["counts", &input, "watch 3000", "counts"];
            // The root looks who is at work as often as the last may take, which has
            // done too little in that time now and then, on a busy machine: then it
            // has left nothing.
            let timeouts = ["20s", "20s", "2s"];
            let (answers, failures) = (0..10)
                .map(|_| outcomes_within("chain", &timeouts, &inputs))
                .find(|(answers, failures)| {
                    !answers.contains("same") || failures.first().is_some_and(|f| f.0 != 3)
                })
                .expect("the last function takes too long each time");
            // Once it is its turn it runs, and does not take over.
            let all: Vec<(u64, &str)> = failures.iter().map(|(n, c, _)| (*n, c.as_str())).collect();
            assert_eq!(all, [(3, "misbehaved")], "{how}: {answers}");
            assert!(answers.ends_with("counts 4 4 1"), "{how}: {answers}");
        }
    }

    /// One that says that it waits for something else says so of itself alone.
    #[test]
    fn one_that_says_that_it_is_busy_keeps_nobody_from_handing_over() {
        for before in ["", "keep ", "keep keep "] {
            let (_, same) = after("chain", &format!("{before}do play busy;"));
            assert_eq!(same, [true; 3], "{before}");
        }
    }

    /// However much the root is told meanwhile, nobody's time gets longer.
    #[test]
    fn a_flood_of_messages_holds_no_deadline() {
        for (timeouts, input, says) in [
            (["1s", "20s", "20s"], "never flood", (1, "timeout")),
            // The root looks who is at work each time that it is told.
            (["20s", "1s", "20s"], "do junk;watch 900000", (2, "timeout")),
        ] {
            let inputs = ["counts", input, "counts"];
            let (answers, failures) = outcomes_within("chain", &timeouts, &inputs);
            let all: Vec<(u64, &str)> = failures.iter().map(|(n, c, _)| (*n, c.as_str())).collect();
            assert_eq!(all, [says], "{input}: {answers}");
            assert!(answers.starts_with("counts 1 1 1counts 1 "), "{answers}");
        }
    }

    /// Who says that it discards itself does so.
    #[test]
    fn one_that_says_that_it_goes_is_gone() {
        let inputs = ["counts", "never return", "counts"];
        let (answers, failures) = outcomes("chain", &inputs);
        let [(1, cause, message)] = failures.as_slice() else {
            panic!("{failures:?}")
        };
        assert_eq!(
            (cause.as_str(), message.as_str()),
            ("misbehaved", "misbehaved: it discarded itself")
        );
        assert_eq!(answers, "counts 1 1 1counts 1 2 2");
        let (answer, same) = after("chain", &format!("do last;{WATCH}"));
        assert_eq!((answer.as_str(), same), ("same", [false, true, true]));
    }

    /// One that sleeps, and answers nothing, is not waited for when it is to meet
    /// a new neighbour.
    #[test]
    fn one_that_is_deaf_is_replaced() {
        let rounds = 4;
        let run = |first: &str| {
            let begun = Instant::now();
            let (answers, failures) = outcomes("chain", &[first, "counts"].repeat(rounds));
            (answers, failures, begun.elapsed())
        };
        let usual = run("keep crash").2;
        // Or it does something else, once it is woken for that.
        for how in ["deaf", "deaf and nap", "deaf and run"] {
            let (answers, failures, took) = run(&format!("do {how};crash"));
            for (step, cause, message) in &failures {
                assert_eq!((*step, cause.as_str()), (2, "crash"), "{how}: {message}");
            }
            assert_eq!(failures.len(), rounds, "{how}");
            // The one that has nothing to do with it keeps its state.
            let counts = |n| format!("counts 1 1 {n}");
            assert_eq!(answers, (1..=rounds).map(counts).collect::<String>());
            // Ten seconds each is what one that must answer has.
            let most = 4 * usual + Duration::from_secs(30);
            assert!(
                took < most,
                "{how}: {took:?}, and {usual:?} where nobody is deaf"
            );
        }
    }

    /// Whichever of two that are introduced to each other does not answer, here the
    /// second, the others are not blamed for it.
    #[test]
    fn one_that_is_deaf_is_replaced_alone() {
        for how in ["deaf", "deaf and nap", "deaf and run"] {
            let deaf = format!("keep keep do {how};");
            let inputs = ["counts", &deaf, "keep crash", "counts"];
            let (answers, failures) = outcomes("chain", &inputs);
            let told = format!("{how}: {answers} {failures:?}");
            let all: Vec<(u64, &str)> = failures.iter().map(|(n, c, _)| (*n, c.as_str())).collect();
            assert_eq!(all, [(2, "crash")], "{told}");
            assert_eq!(last_counts(&answers), [4, 1, 1], "{told}");
        }
        // One that answers as its host would, and does not come to rest then, is not
        // its new neighbour's fault, nor the next one's.
        for how in ["meet and run", "meet and nap"] {
            let meet = format!("keep do {how};");
            let inputs = ["counts", &meet, "crash", "counts"];
            let (answers, failures) = outcomes("chain", &inputs);
            let told = format!("{how}: {answers} {failures:?}");
            let all: Vec<(u64, &str)> = failures.iter().map(|(n, c, _)| (*n, c.as_str())).collect();
            assert_eq!(all, [(1, "crash")], "{told}");
            assert_eq!(last_counts(&answers), [1, 1, 3], "{told}");
        }
    }

    /// Whoever keeps an innocent one awake, while another takes the root's time, is
    /// told from it.
    #[test]
    fn one_that_is_kept_awake_is_told_from_those_who_run() {
        for how in ["wake the next", "flood the next", "storm"] {
            for _ in 0..5 {
                let both = format!("do {how};keep do nap;");
                // The first takes the processor from the others, who need long.
                let inputs = ["counts", "counts", &both, "counts"];
                let (answers, failures) = outcomes_within("chain", &["120s"; 3], &inputs);
                assert_eq!(failures, [], "{how}: {answers}");
                let same = [false, true, false];
                assert_eq!(read(&answers), (String::new(), same), "{how}");
            }
        }
    }

    /// One that says that it has handed over, and keeps the next one awake, or does
    /// it later, leaves to that one neither its time nor its blame.
    #[test]
    fn one_that_says_early_that_it_hands_over_keeps_the_blame() {
        let rounds = 8;
        // Those of the second, if the first one knows what it needs, which it does
        // from its second request on.
        let failures_of = |timeouts: [&str; 3], how: &str| {
            let claim = format!("claim early and {how};counts");
            let inputs = ["counts", "counts", claim.as_str()].repeat(rounds);
            let (answers, failures) = outcomes_within("chain", &timeouts, &inputs);
            assert!(!answers.contains("unknown"), "{how}: {answers}");
            failures
                .into_iter()
                .filter(|f| f.0 != 1)
                .collect::<Vec<_>>()
        };
        let failures = failures_of(["20s", "1s", "20s"], "flood 3500");
        assert_eq!(failures, []);
        // The second has so little time here that on a busy machine it may be over. It
        // was over nearly each time, before the second had begun.
        let failures = failures_of(["20s", "200ms", "20s"], "nap 150 440");
        assert!(failures.len() < rounds / 2, "{failures:?}");
    }

    /// One that does not take over does not use up the time of the one before it, nor
    /// has any itself.
    #[test]
    fn one_that_does_not_take_over_keeps_the_blame() {
        for how in ["", " and nap", " and wake"] {
            let lie = format!("keep do unasked: lie in wait{how};");
            // It may have been so slow to fall asleep that it has been replaced, as it
            // always is on a busy machine: its function runs step by step.
            let run = || harmless(["1s", "20s", "20s"], &[2], &[&lie, "watch 60"]).1;
            if let Some((_, cause, message)) = first_failure(run) {
                assert_eq!(cause, "misbehaved", "{how}: {message}");
                assert!(message.contains("did not take over"), "{how}: {message}");
            }
        }
    }

    /// Runs these inputs in one chain, between some that count. Innocent are those
    /// not named as hostile: none of them is blamed or ended, and no request is
    /// answered in another's place. The answers, and the failures. The shortest timeout,
    /// after which the root looks, is best that of one who has nothing to do.
    fn harmless(
        timeouts: [&str; 3],
        hostile: &[u64],
        inputs: &[&str],
    ) -> (String, Vec<(u64, String, String)>) {
        let all: Vec<&str> = std::iter::once("counts")
            .chain(inputs.iter().copied())
            .chain(["counts"; 2])
            .collect();
        let (answers, failures) = outcomes_within("chain", &timeouts, &all);
        let told = format!("{inputs:?} by {hostile:?}: {answers:?} {failures:?}");
        assert!(failures.iter().all(|f| hostile.contains(&f.0)), "{told}");
        assert!(!answers.contains("forged"), "{told}");
        let last = last_counts(&answers);
        assert_eq!(last.len(), 3, "{told}");
        for (i, &count) in last.iter().enumerate() {
            // A request may not have got to those behind one that failed.
            let failed = failures.iter().filter(|f| f.0 <= i as u64).count();
            let innocent = !hostile.contains(&(i as u64 + 1));
            let served = all.len() - failed;
            assert!(
                !innocent || count as usize == served,
                "step {}: {told}",
                i + 1
            );
        }
        (answers, failures)
    }

    /// What one leaves for the next request, in which the first function takes so long
    /// that the root looks who is at work.
    #[test]
    fn what_is_left_for_the_next_request_is_nobodys() {
        for how in [
            "leave junk",
            "leave done",
            "leave last",
            "last before",
            "snapshot",
            "play busy",
            "play dead",
        ] {
            harmless(
                ["20s", "1s", "20s"],
                &[3],
                &[&format!("keep keep do {how};"), "watch 1500"],
            );
            harmless(
                ["20s", "20s", "1s"],
                &[2],
                &[&format!("keep do {how};"), "watch 1500"],
            );
        }
    }

    /// One that is woken in a request before its turn does what it can then.
    #[test]
    fn one_that_lies_in_wait_answers_for_nobody() {
        let places = [
            ("keep ", ["20s", "20s", "1s"], 2),
            ("keep keep ", ["20s", "1s", "20s"], 3),
        ];
        for woken in ["unasked: ", "asking: ", "asking before: "] {
            for (what, in_places) in [
                (" and hand over", 0..2),
                (" and answer", 0..2),
                ("", 0..1),
                (" and fail", 1..2),
                (" and wake", 0..1),
                (" and die", 1..2),
            ] {
                for (before, timeouts, hostile) in &places[in_places] {
                    let lie = format!("{before}do {woken}lie in wait{what};");
                    harmless(*timeouts, &[*hostile], &[&lie, "watch 1500"]);
                }
            }
        }
    }

    /// Before it has handed over to the innocent one between them, and after.
    #[test]
    fn two_around_an_innocent_one_do_not_get_past_it() {
        for what in [" and answer", " and fail"] {
            let lie = format!("keep keep do asking: lie in wait{what};");
            for how in ["run on", "storm", "hide and run", "again"] {
                let second = format!("do {how};watch 4500");
                harmless(["20s", "20s", "4s"], &[1, 3], &[&lie, &second]);
            }
        }
    }

    #[test]
    fn one_that_lies_about_its_hand_over_keeps_the_blame() {
        // The root says it in its place.
        for how in ["claim", "claim and run", "hide", "hide and run"] {
            for before in ["", "keep "] {
                let at = before.len() as u64 / 5 + 1;
                let input = format!("{before}do {how};watch 1500");
                let timeouts = match at {
                    1 => ["20s", "20s", "1s"],
                    _ => ["1s", "20s", "20s"],
                };
                // It may sleep on, deaf to the next request.
                let (answers, _) = harmless(timeouts, &[at], &[&input]);
                assert!(answers.contains("same"), "{input}: {answers}");
            }
        }
        for before in ["", "keep "] {
            let at = before.len() as u64 / 5 + 1;
            let input = format!("{before}do stop;");
            // The root may have looked in, and handed over itself, or the next one have
            // looked around, before it was undone, as on a busy machine they mostly do:
            // then the request has been served, and it is deaf to the one after it.
            if let Some((step, cause, message)) =
                first_failure(|| harmless(["20s", "20s", "1s"], &[at], &[&input]).1)
            {
                assert_eq!((step, cause.as_str()), (at, "misbehaved"), "{message}");
                let says = ["without handing over", "did not take over"];
                assert!(says.iter().any(|s| message.contains(s)), "{message}");
            }
        }
        // It sleeps, and does not take over; unless it was so slow to fall asleep that
        // it has been replaced before.
        let inputs = ["keep do deaf;", "watch 60"];
        if let Some((step, _, message)) =
            first_failure(|| harmless(["20s", "20s", "1s"], &[2], &inputs).1)
        {
            assert_eq!(step, 2, "{message}");
            assert!(message.contains("did not take over"), "{message}");
        }
    }

    /// The one failure of the first run of some that has any.
    fn first_failure(
        run: impl Fn() -> Vec<(u64, String, String)>,
    ) -> Option<(u64, String, String)> {
        let mut runs = (0..10)
            .map(|_| run())
            .filter(|failures| !failures.is_empty());
        let mut failures = runs.next()?;
        assert_eq!(failures.len(), 1, "{failures:?}");
        failures.pop()
    }

    /// One that says that its calls are trapped, as none's are here, is introduced to
    /// its new neighbour all the same, and nobody loses what it keeps.
    #[test]
    fn one_that_says_that_it_is_trapped_is_believed_by_nobody() {
        let inputs = [
            "counts",
            "counts",
            "keep keep do play trapped;",
            "keep crash",
            "counts",
        ];
        let (answers, failures) = outcomes("chain", &inputs);
        let all: Vec<(u64, &str)> = failures.iter().map(|(n, c, _)| (*n, c.as_str())).collect();
        assert_eq!(all, [(2, "crash")], "{answers}");
        assert!(answers.ends_with("counts 5 1 4"), "{answers}");
    }

    #[test]
    fn a_function_alone_that_runs_on_is_ended_as_well() {
        let path = home().join("tests/hostile/runner.c");
        let folder = Folder::new(&format!(
            "[functions.f]\nsource = \"{}\"\nhandler = \"runner\"\n[chains.trial]\nsteps = [\"f\"]\nisolation = \"chain\"\n",
            path.display()
        ));
        let out = folder.run(&[], &["counts", "counts", "do run on;", "counts"]);
        let stdout = text(&out.stdout);
        assert_eq!(stdout, "counts 1counts 2counts 1", "{}", text(&out.stderr));
    }
}
