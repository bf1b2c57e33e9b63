//! Functions that call functions, and workflows: what a file may say of them,
//! and the tree that comes of it.

use super::{Folder, errors, folder, orchestrator, parse, places, text};
use lwc_orchestrator::chain_file::{CallTree, ChainFile, ChainId, Report};

/// A file with functions and whom they call, and something behind them.
fn calls(functions: &[(&str, &[&str])], rest: &str) -> String {
    let mut out = String::new();
    for (name, callees) in functions {
        out += &format!("[functions.{name}]\nsource = \"f.c\"\ncalls = {callees:?}\n");
    }
    out + rest
}

fn file(text: &str) -> (ChainFile, Report) {
    let folder = folder();
    parse(&folder.path("chain.toml"), text.to_owned())
        .unwrap_or_else(|r| panic!("{}", r.render(false)))
}

/// Each node's function with those that it calls, as numbers.
fn tree(file: &ChainFile, chain: &str) -> Vec<(String, Vec<usize>)> {
    let tree = CallTree::of(file, &ChainId::named(chain).unwrap());
    for (n, node) in tree.nodes.iter().enumerate() {
        assert!(node.calls.iter().all(|&e| tree.edges[e].caller == n));
        assert!(node.called_by.iter().all(|&e| tree.edges[e].callee == n));
    }
    let ends = |f: fn(&lwc_orchestrator::chain_file::Node) -> usize| -> usize {
        tree.nodes.iter().map(f).sum()
    };
    assert_eq!(ends(|n| n.calls.len()), tree.edges.len());
    assert_eq!(ends(|n| n.called_by.len()), tree.edges.len());
    let callees = |calls: &[usize]| calls.iter().map(|&e| tree.edges[e].callee).collect();
    let nodes = tree.nodes.iter();
    nodes
        .map(|n| (n.function.to_string(), callees(&n.calls)))
        .collect()
}

fn node(function: &str, callees: &[usize]) -> (String, Vec<usize>) {
    (function.to_owned(), callees.to_vec())
}

#[test]
fn a_workflow_is_a_tree_of_calls() {
    let (file, report) = file(&calls(
        &[
            ("search", &["nearby", "profiles", "rates"]),
            ("nearby", &["rates", "geo"]),
            ("rates", &[]),
            ("geo", &[]),
            ("profiles", &["geo"]),
        ],
        "[workflows.search]\nentry = \"search\"\nregion = \"64KiB\"\nisolation = \"chain\"\nheaders = [\"accept\"]\n",
    ));
    assert_eq!(report.diagnostics(), []);
    let chain = &file.chains["search"];
    assert!(chain.workflow);
    assert_eq!(chain.steps, ["search"]);
    assert_eq!(chain.region, 64 << 10);
    assert_eq!(file.functions["nearby"].calls, ["rates", "geo"]);
    assert_eq!(
        tree(&file, "search"),
        [
            node("search", &[1, 2, 3]),
            node("nearby", &[3, 4]),
            node("profiles", &[4]),
            node("rates", &[]),
            node("geo", &[]),
        ]
    );
    let search = ChainId::named("search").unwrap();
    let needed: Vec<_> = file.functions_of(&search).into_iter().collect();
    assert_eq!(needed, ["geo", "nearby", "profiles", "rates", "search"]);
}

#[test]
fn chains_and_workflows_mix() {
    let (file, report) = file(&calls(
        &[("a", &["c"]), ("b", &["a", "c"]), ("c", &[])],
        "[chains.line]\nsteps = [\"a\", \"w\", \"a\", \"c\"]\n[workflows.w]\nentry = \"b\"\n",
    ));
    assert_eq!(report.diagnostics(), []);
    assert!(!file.chains["line"].workflow);
    assert_eq!(file.chains["line"].steps, ["a", "b", "a", "c"]);
    // What is a step and called has a context for each.
    assert_eq!(
        tree(&file, "line"),
        [
            node("a", &[4]),
            node("b", &[5, 4]),
            node("a", &[4]),
            node("c", &[]),
            node("c", &[]),
            node("a", &[4]),
        ]
    );
    assert_eq!(
        tree(&file, "w"),
        [node("b", &[1, 2]), node("a", &[2]), node("c", &[])]
    );
}

#[test]
fn what_is_wrong_with_calls_and_entries_is_told_where_it_is() {
    let report = errors(
        &folder(),
        r#"[functions.search]
source = "f.c"
calls = ["nearby", "rats", "rates", "rates", "line", "far", 7, "zzzzz"]
[functions.nearby]
source = "f.c"
calls = ["search", "me", "rates"]
[functions.rates]
source = "f.c"
calls = "geo"
[functions.me]
source = "f.c"
calls = ["me"]
[functions.far]
remote = "a.b"
[functions.other]
remote = "a.b"
calls = ["rates"]
[functions.x]
source = "f.c"
[workflows.search]
entry = "search"
[workflows.line]
entry = "search"
[workflows.x]
entry = "nearby"
[workflows.none]
steps = ["me"]
[workflows.near]
entry = "serach"
[workflows.chain]
entry = "line"
[workflows.number]
entry = 3
[chains.line]
steps = ["nearby"]
[workflow.a]
"#,
    );
    assert_eq!(
        places(&report),
        [
            ("unknown-function", 3, 20),
            ("duplicate", 3, 37),
            ("unknown-function", 3, 46),
            ("type", 3, 61),
            ("unknown-function", 3, 64),
            ("cycle", 6, 10),
            ("type", 9, 9),
            ("cycle", 12, 10),
            ("remote", 17, 1),
            ("duplicate", 22, 12),
            ("duplicate", 24, 12),
            ("empty", 26, 12),
            ("unknown-key", 27, 1),
            ("unknown-function", 29, 9),
            ("unknown-function", 31, 9),
            ("type", 33, 9),
            ("unknown-key", 36, 2),
        ],
        "{}",
        report.render(false)
    );
    let shown = report.render(false);
    for part in [
        "no function is called \"rats\"",
        "did you mean \"rates\"?",
        "\"rates\" is named twice",
        "\"line\" is a chain or a workflow; name a function here",
        "declare it: [functions.zzzzz]",
        "the function \"search\" calls itself: search → nearby → search\n",
        "6 | calls = [\"search\", \"me\", \"rates\"]\n  |          ^^^^^^^^\n",
        "the function \"me\" calls itself: me → me\n",
        "take this call out",
        "\"line\" is a chain and a workflow",
        "\"x\" is a workflow and a function that is not its entry",
        "the workflow \"none\" has no entry",
        "did you mean \"search\"?",
        "did you mean \"workflows\"?",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn every_call_that_closes_a_circle_is_told_at_once() {
    let report = errors(
        &folder(),
        &calls(
            &[
                ("a", &["b", "c"]),
                ("b", &["d"]),
                ("c", &["a"]),
                ("d", &["a", "b"]),
            ],
            "[chains.x]\nsteps = [\"b\"]\n",
        ),
    );
    let cycles: Vec<_> = report.diagnostics().iter().collect();
    assert!(cycles.iter().all(|d| d.code == "cycle"));
    let said: Vec<_> = cycles.iter().map(|d| d.message.as_str()).collect();
    // From the step on, each once.
    assert_eq!(
        said,
        [
            "the function \"b\" calls itself: b → d → a → b",
            "the function \"a\" calls itself: a → c → a",
            "the function \"b\" calls itself: b → d → b",
        ]
    );
}

#[test]
fn a_call_is_a_use_and_calls_that_nothing_reaches_are_no_fault() {
    let functions = [("a", &["b"][..]), ("b", &[]), ("c", &["d"]), ("d", &["b"])];
    let (file, report) = file(&calls(&functions, "[workflows.w]\nentry = \"a\"\n"));
    let [one] = report.diagnostics() else {
        panic!("{}", report.render(false));
    };
    assert_eq!(
        (one.code, one.line, one.message.as_str()),
        (
            "unused",
            7,
            "no chain, workflow or function uses the function \"c\""
        )
    );
    assert_eq!(file.functions["c"].calls, ["d"]);
}

#[test]
fn trees_are_bounded() {
    let says = |text: &str| {
        let report = errors(&folder(), text);
        let [one] = report.diagnostics() else {
            panic!("{}", report.render(false));
        };
        assert_eq!(one.code, "range");
        format!("{}: {}", one.message, one.hint)
    };
    // One that calls `n` others.
    let wide = |n: usize| {
        let others: Vec<String> = (0..n).map(|n| format!("g{n}")).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        let mut functions = vec![("f", &others[..])];
        functions.extend(others.iter().map(|&g| (g, &[][..])));
        calls(&functions, "")
    };
    let workflow = "[workflows.w]\nentry = \"f\"\n";
    assert_eq!(tree(&file(&(wide(64) + workflow)).0, "w").len(), 65);
    assert_eq!(
        says(&(wide(65) + workflow)),
        "the function \"f\" calls more than 64 functions, directly or not: \
         at most 64 can be called in one chain: each has a context"
    );
    // Four steps make as many calls each.
    let four = "[chains.c]\nsteps = [\"f\", \"f\", \"f\", \"f\"]\n";
    let (four_of_64, _) = file(&(wide(64) + four));
    assert_eq!(tree(&four_of_64, "c").len(), 68);
    let five = four.replace("[\"f\"", "[\"f\", \"f\"");
    assert_eq!(
        says(&(wide(64) + &five)),
        "the chain \"c\" has more than 256 calls, those of its callees included: \
         at most 256 are possible in one chain: each has two regions"
    );
    // Two steps that call 33 each, not the same.
    let halves = wide(33) + &wide(33).replace("f]", "e]").replace('g', "h");
    assert_eq!(
        says(&(halves + "[chains.c]\nsteps = [\"f\", \"e\"]\n")),
        "the chain \"c\" calls more than 64 functions, directly or not: \
         at most 64 can be called in one chain: each has a context"
    );
    // 24 that each call all behind them: 276.
    let names: Vec<String> = (10..34).map(|n| format!("f{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let dense: Vec<_> = (0..24).map(|n| (names[n], &names[n + 1..])).collect();
    let text = calls(&dense, "[workflows.w]\nentry = \"f10\"\n");
    assert_eq!(
        says(&text),
        "the function \"f10\" has more than 256 calls, those of its callees included: \
         at most 256 are possible in one chain: each has two regions"
    );
}

/// What `check` prints of a file.
fn check(chain: &str, options: &[&str]) -> String {
    let folder = Folder::new(chain);
    folder.write("f.c", "");
    let mut check = orchestrator();
    check.args(["check", "--no-build"]).args(options);
    let out = check.arg(folder.path("chain.toml")).output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    text(&out.stdout)
}

const SEARCH: [(&str, &[&str]); 5] = [
    ("search", &["nearby", "profiles", "rates"]),
    ("nearby", &["rates", "geo"]),
    ("rates", &["geo"]),
    ("geo", &[]),
    ("profiles", &[]),
];

#[test]
fn check_shows_who_calls_whom_and_the_rights_to_each_region() {
    let chains = "[chains.line]\nsteps = [\"geo\", \"rates\", \"rates\"]\n\
                  [workflows.search]\nentry = \"search\"\nregion = \"64KiB\"\n";
    let shown = check(&calls(&SEARCH, chains), &[]);
    let expected = "\
chain line: geo → rates → rates (isolation Invocation, regions of 1.0 MiB)
  region 0: root writes, geo reads
  region 1: geo writes, rates reads
  region 2: rates writes, rates reads
  region 3: rates writes, root reads
  step 2, rates, calls
  └─ geo: arguments rates rw, geo r; reply geo rw, rates r
  step 3, rates, calls
  └─ geo: arguments rates rw, geo r; reply geo rw, rates r
workflow search: search (isolation Invocation, regions of 64.0 KiB)
  region 0: root writes, search reads
  region 1: search writes, root reads
  search calls
  ├─ nearby: arguments search rw, nearby r; reply nearby rw, search r
  │  ├─ rates: arguments nearby rw, rates r; reply rates rw, nearby r
  │  │  └─ geo: arguments rates rw, geo r; reply geo rw, rates r
  │  └─ geo: arguments nearby rw, geo r; reply geo rw, nearby r
  ├─ profiles: arguments search rw, profiles r; reply profiles rw, search r
  └─ rates (its calls are above): arguments search rw, rates r; reply rates rw, search r
function geo: handler geo, timeout 1s, memory 64.0 MiB
";
    let (start, functions) = shown.split_at(expected.len().min(shown.len()));
    assert_eq!(start, expected);
    assert!(
        functions.contains(
            "function nearby: handler nearby, timeout 1s, memory 64.0 MiB, calls rates, geo\n"
        ),
        "{functions}"
    );
}

#[test]
fn check_gives_the_tree_to_programs() {
    let workflow =
        "[workflows.search]\nentry = \"search\"\n[chains.line]\nsteps = [\"geo\", \"rates\"]\n";
    let shown = check(&calls(&SEARCH, workflow), &["--json"]);
    let v: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let [line, search] = &v["chains"].as_array().unwrap()[..] else {
        panic!("{v}");
    };
    assert_eq!(
        (&line["kind"], &search["kind"]),
        (&"chain".into(), &"workflow".into())
    );
    assert_eq!(
        line["contexts"],
        serde_json::json!([
            { "function": "geo", "step": 1, "group": "default" },
            { "function": "rates", "step": 2, "group": "default" },
            { "function": "geo", "step": null, "group": "default" },
        ])
    );
    let rights = serde_json::json!([{
        "caller": 1,
        "callee": 2,
        "arguments": { "caller": "rw", "callee": "r" },
        "reply": { "caller": "r", "callee": "rw" },
    }]);
    assert_eq!(line["calls"], rights);
    assert_eq!(search["steps"], serde_json::json!(["search"]));
    let edge = |e: &serde_json::Value| {
        [&e["caller"], &e["callee"]].map(|n| {
            let n = n.as_u64().unwrap() as usize;
            search["contexts"][n]["function"]
                .as_str()
                .unwrap()
                .to_owned()
        })
    };
    let edges: Vec<_> = search["calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(edge)
        .collect();
    assert_eq!(
        edges,
        [
            ["search", "nearby"],
            ["search", "profiles"],
            ["search", "rates"],
            ["nearby", "rates"],
            ["nearby", "geo"],
            ["rates", "geo"],
        ]
    );
}

/// 2^31 ways lead through it.
#[test]
fn a_tree_is_shown_by_its_calls_and_not_by_its_ways() {
    let names: Vec<[String; 2]> = (10..42)
        .map(|n| [format!("a{n}"), format!("b{n}")])
        .collect();
    let names: Vec<[&str; 2]> = names.iter().map(|[a, b]| [a.as_str(), b]).collect();
    let mut functions = vec![("top", &names[0][..])];
    for (n, pair) in names.iter().enumerate() {
        let next = names.get(n + 1).map_or(&[][..], |next| &next[..]);
        functions.extend(pair.iter().map(|&f| (f, next)));
    }
    let shown = check(&calls(&functions, "[workflows.w]\nentry = \"top\"\n"), &[]);
    assert_eq!(shown.matches("─ ").count(), 2 + 31 * 4);
}

/// Where a function runs elsewhere by HTTP: what can be asked, and what cannot.
#[test]
fn urls_are_plain_http_with_a_host() {
    for (url, good) in [
        ("http://host/", true),
        ("http://host", true),
        ("http://127.0.0.1:8080/a/b?c=d", true),
        ("http://[::1]:80/", true),
        ("https://host/", false),
        ("host/path", false),
        ("http:///path", false),
        ("http://user:word@host/", false),
        ("http://host:0/", false),
        ("http://host:99999/", false),
        ("http://host:/", false),
        ("http://ho st/", false),
        ("", false),
    ] {
        let text = format!(
            "[functions.f]\nsource = \"f.c\"\ncalls = [\"g\"]\n[functions.g]\nurl = \"{url}\"\n[chains.c]\nsteps = [\"f\"]\n"
        );
        let folder = folder();
        match parse(&folder.path("chain.toml"), text) {
            Ok(_) => assert!(good, "{url}"),
            Err(report) => {
                let shown = report.render(false);
                assert!(!good && shown.contains("URL"), "{url}: {shown}");
            }
        }
    }
}
