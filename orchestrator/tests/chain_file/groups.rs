//! What a file may say of the groups of its functions.

use super::{errors, folder, parse, places};
use lwc_orchestrator::chain_file::GroupName;

#[test]
fn functions_that_name_no_group_are_in_the_default_one() {
    let text = "[functions.a]\nsource = \"f.c\"\ncalls = [\"b\", \"c\"]\n[functions.b]\nsource = \"f.c\"\ngroup = \"default\"\n[functions.c]\nsource = \"f.c\"\ngroup = \"own-1_x\"\n[workflows.w]\nentry = \"a\"\non_error = \"b\"\n[chains.x]\nsteps = [\"a\", \"c\", \"w\"]\n";
    let (file, report) = parse(&folder().path("chain.toml"), text.into()).unwrap();
    assert_eq!(report.diagnostics(), []);
    let group = |f: &str| file.functions[f].group.as_str();
    assert_eq!(
        ["a", "b", "c"].map(group),
        ["default", "default", "own-1_x"]
    );
    assert_eq!(GroupName::default(), "default");
}

#[test]
fn what_is_wrong_with_one_is_told_where_it_is() {
    let report = errors(
        &folder(),
        r#"[functions.a]
source = "f.c"
group = ""
[functions.b]
source = "f.c"
group = "Two Words"
[functions.c]
source = "f.c"
group = 3
[functions.d]
source = "f.c"
groups = "x"
[functions.far]
remote = "a.b"
group = "x"
[functions.away]
url = "http://there/"
group = "x"
[chains.one]
steps = ["a", "b", "c", "d", "far", "away"]
"#,
    );
    assert_eq!(
        places(&report),
        [
            ("name", 3, 9),
            ("name", 6, 9),
            ("type", 9, 9),
            ("unknown-key", 12, 1),
            ("remote", 15, 1),
            ("remote", 18, 1),
        ]
    );
    let said = report.render(false);
    for words in [
        "\"\" is no name for a group",
        "functions that name no group are in the group \"default\"",
        "did you mean \"group\"?",
    ] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn whoever_is_told_of_a_failure_is_where_it_happens() {
    let report = errors(
        &folder(),
        r#"[functions.a]
source = "f.c"
calls = ["c"]
[functions.b]
source = "f.c"
group = "b"
[functions.c]
source = "f.c"
group = "b"
[chains.one]
steps = ["a", "b"]
on_error = "a"
[chains.two]
steps = ["b", "inner"]
on_error = "c"
[chains.inner]
steps = ["a"]
[workflows.three]
entry = "a"
on_error = "b"
[workflows.good]
entry = "a"
on_error = "a"
"#,
    );
    assert_eq!(
        places(&report),
        [("group", 12, 12), ("group", 15, 12), ("group", 20, 12)]
    );
    let said = report.render(false);
    let words = "the step \"b\" of the chain \"one\" is in the group \"b\", \"a\" in \"default\"";
    assert!(said.contains(words), "{said}");
}

/// Each has worker processes of its own.
#[test]
fn there_are_so_many_groups_and_no_more() {
    let file = |groups: usize| -> String {
        let function = |n| {
            format!(
                "[functions.f{n}]\nsource = \"f.c\"\ngroup = \"g{}\"\n",
                n % groups
            )
        };
        let functions: String = (0..66).map(function).collect();
        let steps: Vec<String> = (0..66).map(|n| format!("f{n}")).collect();
        format!("{functions}[chains.x]\nsteps = {steps:?}\n")
    };
    assert!(parse(&folder().path("chain.toml"), file(64)).is_ok());
    let report = errors(&folder(), &file(65));
    let codes: Vec<&str> = places(&report).iter().map(|p| p.0).collect();
    assert_eq!(codes, ["range"]);
    assert!(report.render(false).contains("more than 64 groups"));
}
