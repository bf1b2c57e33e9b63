//! What is in the regions between functions: each finds there what it told others in
//! its present invocation and what it is told in that, and nothing else, whoever was
//! called by whom before. Each is `tests/hostile/script.c`.

mod common;

use common::{Folder, home, text};

const SCRIPT: &str =
    "source = \"SOURCE\"\nhandler = \"script\"\nmemory = \"64MiB\"\ntimeout = \"60s\"\n";

/// Functions with whom they call, and chains.
fn functions(calls: &[(&str, &str)], chains: &str) -> Folder {
    let source = home().join("tests/hostile/script.c");
    let script = SCRIPT.replace("SOURCE", &source.display().to_string());
    let functions: String = calls
        .iter()
        .map(|(name, calls)| {
            let handler = match *name {
                "cleanup" => script.replace("\"script\"", "\"told\""),
                _ => script.clone(),
            };
            let calls = calls.split_ascii_whitespace().collect::<Vec<_>>();
            format!("[functions.{name}]\n{handler}calls = {calls:?}\n")
        })
        .collect();
    Folder::new(&format!("{functions}{chains}"))
}

/// The two ways to undo what a function did.
fn both_ways(folder: impl Fn() -> Folder) -> [(&'static str, Folder); 2] {
    [
        ("in place", folder()),
        ("new copies", folder().without_rollback()),
    ]
}

/// Runs scripts in which `FIND` looks for what is nobody's to find there.
#[track_caller]
fn finds_nothing(folder: &Folder, chain: &str, how: &str, inputs: &[&str], looks: usize) {
    let inputs: Vec<String> = inputs
        .iter()
        .map(|i| i.replace("FIND", "scan S_ECRET"))
        .collect();
    let all: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let (answers, failures, stderr) = folder.outcomes(chain, &all);
    let failures: Vec<&str> = failures
        .iter()
        .filter_map(|f| f["cause"].as_str())
        .filter(|c| *c != "error")
        .collect();
    assert!(failures.is_empty(), "{how}: {all:?}: {stderr}");
    let counts: Vec<&str> = answers
        .split('<')
        .skip(1)
        .filter_map(|rest| rest.split_once('>').map(|(n, _)| n))
        .collect();
    assert_eq!(counts, vec!["0"; looks], "{how}: {all:?}: {answers}");
}

#[test]
fn a_callee_finds_nothing_of_other_calls() {
    let diamond = || {
        functions(
            &[
                ("top", "a b"),
                ("a", "x"),
                ("b", "t a"),
                ("x", "t"),
                ("t", ""),
            ],
            "[workflows.w]\nentry = \"top\"\nregion = \"64KiB\"\n",
        )
    };
    for (how, folder) in both_ways(diamond) {
        for (inputs, looks) in [
            // What another caller of its left for it: all over, or behind what it sent.
            (
                vec!["call a {call x {smear S_ECRET}};call b {call t {FIND}}"],
                1,
            ),
            (
                vec!["call a {call x {inplace t 6 say okSECRET}};call b {call t {FIND}}"],
                1,
            ),
            // What its own callees replied in another call.
            (
                vec!["call a {call x {say SEC;say RET;say  more}};call b {call a {FIND}}"],
                1,
            ),
            (
                vec![
                    "call a {call x {say SEC;say RET}};call a {FIND}",
                    "call a {FIND}",
                ],
                2,
            ),
            // What it was told by another of its callers, in the request before.
            (
                vec![
                    "call b {call a {call x {smear S_ECRET}}}",
                    "call b {call t {FIND}}",
                ],
                1,
            ),
            (
                vec!["call a {call x {call t {say SEC;say RET}}};call b {call t {FIND}}"],
                1,
            ),
        ] {
            finds_nothing(&folder, "w", how, &inputs, looks);
        }
    }
    // Nor what one writes that has answered and goes on, where it can.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    for (how, folder) in both_ways(diamond) {
        let input = "call b {call a {linger S_ECRET}};call b {call t {FIND}}";
        finds_nothing(&folder, "w", how, &[input], 1);
        let input = "call a {call x {linger S_ECRET}};call b {call t {FIND;FIND}}";
        finds_nothing(&folder, "w", how, &[input], 2);
    }
    // So that it does not pass for want of eyes.
    if lwc::backend().unwrap() == lwc::Backend::Process {
        let seen = diamond().outcomes("w", &["call a {call x {smear S_ECRET;scan S_ECRET}}"]);
        assert!(!seen.0.contains("<0>"), "{seen:?}");
    }
}

#[test]
fn one_that_two_steps_call_finds_nothing_of_the_first() {
    let steps = || {
        functions(
            &[("s", "t"), ("b", "t"), ("t", ""), ("cleanup", "t")],
            "[chains.two]\nsteps = [\"s\", \"b\"]\nregion = \"64KiB\"\n\
             [chains.e]\nsteps = [\"s\"]\non_error = \"cleanup\"\nregion = \"64KiB\"\n",
        )
    };
    for (how, folder) in both_ways(steps) {
        finds_nothing(
            &folder,
            "two",
            how,
            &["smear S_ECRET;then {call t {FIND}}", "then {call t {FIND}}"],
            2,
        );
        // Nor what one calls that is told of the failure.
        let input = "smear S_ECRET;fail 7 told: {call t {scan S_ECRET}}";
        let (answers, failures, stderr) = folder.outcomes("e", &[input]);
        assert_eq!(failures.len(), 1, "{how}: {answers} {stderr}");
        assert_eq!(answers, "<0>", "{how}: {stderr}");
    }
}

/// A script by chance, and what becomes of each of its looks.
struct Chance {
    /// Of a generator that needs no more than to differ from case to case.
    state: u64,
    /// Who calls whom.
    calls: Vec<Vec<usize>>,
    /// Of each mark: the invocation that leaves it, and who called that.
    marks: Vec<(usize, Option<usize>)>,
    invocations: usize,
    /// Of each look, in order: whether it may find something.
    may_find: Vec<bool>,
}

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.state >> 33) as usize % n
    }

    /// What a function does in an invocation; `stack` are those that wait.
    fn script(&mut self, node: usize, stack: &mut Vec<usize>) -> String {
        let own = self.invocations;
        let caller = stack.last().copied();
        self.invocations += 1;
        let mut steps = Vec::new();
        for _ in 0..1 + self.below(4) {
            match self.below(5) {
                0 => {
                    steps.push(format!("smear M_ARK{:05}", self.marks.len()));
                    self.marks.push((own, caller));
                }
                1 | 2 if !self.calls[node].is_empty() && self.invocations % 1000 < 24 => {
                    let which = self.below(self.calls[node].len());
                    let to = self.calls[node][which];
                    stack.push(own);
                    let inner = self.script(to, stack);
                    stack.pop();
                    steps.push(format!("call f{to} {{{inner}}}"));
                }
                _ if !self.marks.is_empty() => {
                    // One of the last, for those before are of other requests.
                    let back = self.below(self.marks.len().min(12));
                    let mark = self.marks.len() - 1 - back;
                    let (of, its_caller) = self.marks[mark];
                    let may = of == own || stack.contains(&of) || its_caller == Some(own);
                    self.may_find.push(may);
                    steps.push(format!("scan M_ARK{mark:05}"));
                }
                _ => {}
            }
        }
        steps.join(";")
    }
}

/// Whoever calls whom in whichever order, and writes wherever it can: a mark is found
/// by the invocation that left it, those that it calls and the one that called it, while
/// these are there, and by nobody else.
#[test]
fn marks_are_found_by_nobody_else() {
    let trees: [&[&[usize]]; 3] = [
        &[&[1, 2, 3], &[3, 4], &[1, 4], &[4], &[]],
        &[&[1, 2], &[3], &[3, 1], &[4, 5], &[5], &[]],
        &[&[1, 2, 3, 4], &[5], &[5], &[5], &[5, 1], &[]],
    ];
    for (seed, tree) in trees.iter().enumerate() {
        let names: Vec<(String, String)> = tree
            .iter()
            .enumerate()
            .map(|(i, calls)| {
                let calls: Vec<String> = calls.iter().map(|c| format!("f{c}")).collect();
                (format!("f{i}"), calls.join(" "))
            })
            .collect();
        let names: Vec<(&str, &str)> = names.iter().map(|(n, c)| (&**n, &**c)).collect();
        let graph = || {
            functions(
                &names,
                "[workflows.w]\nentry = \"f0\"\nregion = \"64KiB\"\n",
            )
        };
        for (how, folder) in both_ways(graph) {
            let mut chance = Chance {
                state: 0x5eed + seed as u64,
                calls: tree.iter().map(|c| c.to_vec()).collect(),
                marks: Vec::new(),
                invocations: 0,
                may_find: Vec::new(),
            };
            let scripts: Vec<String> = (0..if how == "in place" { 40 } else { 8 })
                .map(|_| {
                    // So many invocations that no request gets near the next.
                    chance.invocations = chance.invocations.next_multiple_of(1000);
                    chance.script(0, &mut Vec::new())
                })
                .collect();
            let inputs: Vec<&str> = scripts.iter().map(String::as_str).collect();
            let (answers, failures, stderr) = folder.outcomes("w", &inputs);
            assert!(failures.is_empty(), "{how}, {seed}: {stderr}");
            let found: Vec<&str> = answers
                .split('<')
                .skip(1)
                .filter_map(|rest| rest.split_once('>').map(|(n, _)| n))
                .collect();
            assert_eq!(found.len(), chance.may_find.len(), "{answers}");
            let wrong = found
                .iter()
                .zip(&chance.may_find)
                .position(|(n, may)| *n != "0" && !may);
            assert_eq!(wrong, None, "{how}, {seed}: {scripts:#?}: {answers}");
            if lwc::backend().unwrap() == lwc::Backend::Process {
                assert!(found.iter().any(|n| *n != "0"), "it never finds anything");
            }
        }
    }
}

/// Chains of all kinds in one worker: none has memory of another.
#[test]
fn the_audit_finds_no_way_from_chain_to_chain() {
    let folder = functions(
        &[
            ("top", "far"),
            ("spy", ""),
            ("early", ""),
            ("late", ""),
            ("cleanup", "spy"),
        ],
        "[functions.far]\nurl = \"http://127.0.0.1:9/\"\n\
         [workflows.aa]\nentry = \"top\"\nregion = \"64KiB\"\n\
         [chains.bb]\nsteps = [\"spy\"]\nregion = \"64KiB\"\n\
         [chains.cc]\nsteps = [\"early\", \"late\"]\non_error = \"cleanup\"\n\
         isolation = \"chain\"\nregion = \"64KiB\"\n\
         [workflows.dd]\nentry = \"top\"\nisolation = \"chain\"\nregion = \"64KiB\"\n\
         [chains.ee]\nsteps = [\"late\", \"spy\", \"early\"]\nisolation = \"chain\"\nregion = \"64KiB\"\n",
    );
    folder.write(
        "chain.toml",
        std::fs::read_to_string(folder.path("chain.toml"))
            .unwrap()
            .replacen(
                "[functions.early]\n",
                "[functions.early]\nends_request = true\n",
                1,
            ),
    );
    let out = common::orchestrator()
        .arg("audit")
        .arg(folder.path("chain.toml"))
        .output()
        .unwrap();
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{stdout} {stderr}");
    assert!(!(stdout + &stderr).contains("granted: -"));
}
