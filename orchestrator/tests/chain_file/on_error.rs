//! What a file may say of the function that is told of a failure, and of those that
//! may end a request.

use super::{errors, folder, parse, places};
use lwc_orchestrator::chain_file::{CallTree, ChainId};

const FUNCTIONS: &str = r#"[functions.a]
source = "f.c"
ends_request = true
calls = ["c"]
[functions.b]
source = "f.c"
[functions.c]
source = "f.c"
[functions.clean]
source = "f.c"
calls = ["c", "log"]
[functions.log]
source = "f.c"
"#;

#[test]
fn it_is_a_context_behind_the_steps() {
    let text = format!(
        r#"{FUNCTIONS}[chains.line]
steps = ["a", "inner", "a"]
on_error = "clean"
[chains.inner]
steps = ["b"]
on_error = "b"
[workflows.alone]
entry = "a"
on_error = "a"
"#
    );
    let (file, report) = parse(&folder().path("chain.toml"), text).unwrap();
    assert_eq!(report.diagnostics(), []);
    assert!(file.functions["a"].ends_request && !file.functions["b"].ends_request);
    let tree = |chain: &str| CallTree::of(&file, &ChainId::named(chain).unwrap());
    let names = |chain: &str| -> Vec<String> {
        let nodes = tree(chain).nodes.into_iter();
        nodes.map(|n| n.function.to_string()).collect()
    };
    // That of a chain in a chain is not the outer one's.
    assert_eq!(file.chains["line"].steps, ["a", "b", "a"]);
    assert_eq!(names("line"), ["a", "b", "a", "clean", "c", "log"]);
    assert_eq!(tree("line").on_error, Some(3));
    assert_eq!(names("inner"), ["b", "b"]);
    assert_eq!(tree("inner").on_error, Some(1));
    assert_eq!(names("alone"), ["a", "a", "c"]);
    // Each of the two calls, in a context of its own.
    let edges = tree("alone").edges;
    let edges: Vec<_> = edges.iter().map(|e| (e.caller, e.callee)).collect();
    assert_eq!(edges, [(0, 2), (1, 2)]);
    let line = ChainId::named("line").unwrap();
    let needed: Vec<_> = file.functions_of(&line).into_iter().collect();
    assert_eq!(needed, ["a", "b", "c", "clean", "log"]);
    let without = FUNCTIONS.to_owned() + "[chains.x]\nsteps = [\"clean\", \"a\", \"b\"]\n";
    let (file, _) = parse(&folder().path("chain.toml"), without).unwrap();
    assert_eq!(
        CallTree::of(&file, &ChainId::named("x").unwrap()).on_error,
        None
    );
    assert_eq!(file.chains["x"].on_error, None);
}

#[test]
fn what_is_wrong_with_it_is_told_where_it_is() {
    let report = errors(
        &folder(),
        &format!(
            r#"{FUNCTIONS}[functions.far]
remote = "a.b"
ends_request = true
[functions.away]
remote = "a.c"
[functions.d]
source = "f.c"
ends_request = "yes"
[chains.one]
steps = ["a"]
on_error = "claen"
[chains.two]
steps = ["a"]
on_error = "one"
[chains.three]
steps = ["a"]
on_error = ["clean"]
[workflows.four]
entry = "a"
on_error = "away"
[chains.five]
steps = ["a"]
on_eror = "clean"
[functions.e]
source = "f.c"
on_error = "clean"
"#
        ),
    );
    assert_eq!(
        places(&report),
        [
            ("remote", 16, 1),
            ("type", 21, 16),
            ("unknown-function", 24, 12),
            ("unknown-function", 27, 12),
            ("type", 30, 12),
            ("remote", 33, 12),
            ("unknown-key", 36, 1),
            ("unknown-key", 39, 1),
        ],
        "{}",
        report.render(false)
    );
    let shown = report.render(false);
    for part in [
        "did you mean \"clean\"?",
        "\"one\" is a chain or a workflow; name a function here",
        "write on_error = \"FUNCTION\"",
        "\"away\" runs elsewhere; it cannot be told of a failure",
        "did you mean \"on_error\"?",
        "write ends_request = true if it may answer",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn a_chain_with_a_step_elsewhere_has_none() {
    let report = errors(
        &folder(),
        &format!(
            "{FUNCTIONS}[functions.far]\nremote = \"a.b\"\n[chains.x]\nsteps = [\"a\", \"inner\"]\non_error = \"clean\"\n[chains.inner]\nsteps = [\"b\", \"far\"]\n"
        ),
    );
    assert_eq!(places(&report), [("remote", 18, 12)]);
    let shown = report.render(false);
    assert!(
        shown.contains("the step \"far\" of the chain \"x\" runs elsewhere: \"clean\" would not be told of its failure"),
        "{shown}"
    );
}

/// Its calls count as a step's do.
#[test]
fn what_it_calls_counts() {
    let many: String = (0..65)
        .map(|n| format!("[functions.f{n}]\nsource = \"f.c\"\n"))
        .collect();
    let file = |on_error: usize| {
        let names =
            |of: std::ops::Range<usize>| -> Vec<String> { of.map(|n| format!("f{n}")).collect() };
        format!(
            "{many}[functions.a]\nsource = \"f.c\"\ncalls = {:?}\n[functions.e]\nsource = \"f.c\"\ncalls = {:?}\n[chains.x]\nsteps = [\"a\"]\non_error = \"e\"\n",
            names(0..60),
            names(60..60 + on_error),
        )
    };
    let folder = folder();
    assert!(parse(&folder.path("chain.toml"), file(4)).is_ok());
    let report = errors(&folder, &file(5));
    assert!(
        report
            .render(false)
            .contains("the chain \"x\" calls more than 64 functions"),
        "{}",
        report.render(false)
    );
}
