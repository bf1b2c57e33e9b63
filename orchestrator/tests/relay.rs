//! Chains of more than one function: who failed is named, whoever fails and
//! whatever it does with its neighbours; the next invocation works.

mod common;

use common::{Folder, home, text};

/// Where functions hand over to each other, the root at both ends alone.
fn relays() -> bool {
    lwc::backend().unwrap() == lwc::Backend::Kernel
}

/// A chain of three of a source's function, with these timeouts.
fn chain(source: &str, isolation: &str, timeouts: [&str; 3]) -> Folder {
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
    Folder::new(&format!(
        "{functions}[chains.trial]\nsteps = [\"f0\", \"f1\", \"f2\"]\nisolation = \"{isolation}\"\nregion = \"64KiB\"\n"
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
        "{input}: the next invocation: {stdout} {stderr}"
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
        let folder = chain("hostile", isolation, ["2s"; 3]);
        for (input, says) in [
            ("null", (1, "crash", "SIGSEGV")),
            ("keep null", (2, "crash", "SIGSEGV")),
            ("keep keep null", (3, "crash", "SIGSEGV")),
            ("keep error", (2, "error", "as asked\\u{1b}[31m (code 42)")),
            ("error", (1, "error", "(code 42)")),
            ("keep claim too much", (2, "too-big", "65537")),
            ("keep exit", (2, "crash", "exited with status 7")),
            ("keep keep socket", (3, "crash", "forbidden system call")),
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
        if relays() && isolation == "chain" {
            let (step, cause, _) = attempt(&folder, "keep close all").unwrap_err();
            assert_eq!((step, cause.as_str()), (2, "crash"));
        }
    }
}

#[test]
fn a_crash_in_the_middle_leaves_its_neighbours() {
    let folder = chain("hostile", "chain", ["2s"; 3]);
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
        let folder = chain("switcher", isolation, ["30s", "300ms", "20s"]);
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
        let folder = chain("switcher", isolation, ["1s", "300ms", "20s"]);
        assert_eq!(
            attempt(&folder, "lie and loop").unwrap_err(),
            (1, "timeout".into(), "overran its timeout of 1s".into())
        );
    }
}

#[test]
fn a_type_goes_on_until_a_function_sets_another() {
    for isolation in ["chain", "invocation"] {
        let folder = chain("switcher", isolation, ["2s"; 3]);
        let seen = |input: &str| attempt(&folder, input).unwrap();
        assert_eq!(seen("keep keep tell type"), "application/octet-stream");
        // Set by the first, left alone by the second, seen by the third.
        assert_eq!(seen("type text/x-test"), "text/x-test");
    }
}

#[test]
fn attributes_go_to_the_next_function_and_no_further() {
    for isolation in ["chain", "invocation"] {
        let folder = chain("switcher", isolation, ["2s"; 3]);
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
    if !relays() {
        return;
    }
    let folder = chain("switcher", "chain", ["2s"; 3]);
    let mut seen = std::collections::BTreeSet::new();
    let words = [0u64, 1, 2, 4, 5, 6, 11, 12, 14, 15, 1 << 40];
    for fd in 0..8 {
        let switches = words.map(|word| format!("keep switch {fd} {word}"));
        for input in switches.into_iter().chain([format!("keep discard {fd}")]) {
            match attempt(&folder, &input) {
                // Its own successor, which takes over: its turn has come.
                Ok(_) => seen.insert("handed over".to_owned()),
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
    let all = ["error", "handed over", "misbehaved"].map(String::from);
    assert!(seen.into_iter().eq(all));
    assert_eq!(attempt(&folder, "introduce").unwrap(), "fine");
    assert_eq!(attempt(&folder, "keep introduce").unwrap(), "keep fine");
}

#[test]
fn a_forged_letter_is_refused_by_the_next_function() {
    if !relays() {
        return;
    }
    let folder = chain("switcher", "chain", ["2s"; 3]);
    let malformed = "the function before it left a length or attributes that none can";
    let (step, cause, message) = attempt(&folder, "forge").unwrap_err();
    assert_eq!((step, cause.as_str()), (2, "misbehaved"));
    assert!(message.contains(malformed), "{message}");
    // Past its host: whoever of those it can name is next refuses it as well.
    let refused = (0..8)
        .filter_map(|fd| attempt(&folder, &format!("keep forge {fd}")).err())
        .filter(|(step, _, message)| *step == 3 && message.contains(malformed))
        .count();
    assert!(refused > 0);
}
