//! Functions that call functions, and workflows: what a file may say of them,
//! and the tree that comes of it.

use super::{folder, parse};
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
