//! Holds `docs/` to the suites: the names in it exist, and no clause is missing
//! from its table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The contract's clauses.
const CLAUSES: &[(u8, u8)] = &[
    (1, 5),
    (2, 7),
    (3, 6),
    (4, 2),
    (5, 3),
    (6, 4),
    (7, 2),
    (8, 1),
    (9, 2),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All files of a kind in a folder, as one text.
fn texts(folder: &str, extension: &str) -> String {
    let folder = root().join(folder);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
    files
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .map(|p| read(&p))
        .collect()
}

/// `c7_1_a_call` is of clause (7, 1).
fn clause_of(name: &str) -> Option<(u8, u8)> {
    let mut parts = name.strip_prefix('c')?.splitn(3, '_');
    let section = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    parts.next().map(|_| (section, number))
}

/// Names that follow `before` in a text and are of a clause.
fn names_after(text: &str, before: &str) -> BTreeSet<String> {
    text.match_indices(before)
        .map(|(at, _)| {
            let rest = &text[at + before.len()..];
            let len = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            rest[..len].to_owned()
        })
        .filter(|name| clause_of(name).is_some())
        .collect()
}

struct Row {
    process: String,
    kernel: String,
    suite: BTreeSet<String>,
    c_suite: BTreeSet<String>,
}

fn table() -> BTreeMap<(u8, u8), Row> {
    let text = read(&root().join("docs/clauses.md"));
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, clause, process, kernel, suite, c_suite, _] = cells[..] else {
            continue;
        };
        let number = clause.split(' ').next().unwrap();
        let Some((section, number)) = number.split_once('.') else {
            continue; // the heading
        };
        let key = (section.parse().unwrap(), number.parse().unwrap());
        let names = |cell: &str| {
            let names: BTreeSet<String> = cell
                .split_ascii_whitespace()
                .map(|n| n.trim_matches('`').to_owned())
                .collect();
            for name in &names {
                assert_eq!(clause_of(name), Some(key), "{name} is no test of {key:?}");
            }
            names
        };
        let row = Row {
            process: process.to_owned(),
            kernel: kernel.to_owned(),
            suite: names(suite),
            c_suite: names(c_suite),
        };
        assert!(rows.insert(key, row).is_none(), "two rows of {key:?}");
    }
    rows
}

#[test]
fn every_clause_has_a_row() {
    let rows: Vec<(u8, u8)> = table().into_keys().collect();
    let clauses: Vec<(u8, u8)> = CLAUSES
        .iter()
        .flat_map(|&(section, last)| (1..=last).map(move |n| (section, n)))
        .collect();
    assert_eq!(rows, clauses);
}

#[test]
fn every_name_in_the_table_is_a_test() {
    let suite = names_after(&texts("tests/tests/conformance", "rs"), "fn ");
    let c_suite = names_after(&texts("freebsd-kmod/tests", "c"), "CASE(");
    assert!(suite.len() > 200 && c_suite.len() > 80);
    for (clause, row) in table() {
        for (named, there) in [(&row.suite, &suite), (&row.c_suite, &c_suite)] {
            let missing: Vec<_> = named.difference(there).collect();
            assert!(missing.is_empty(), "{clause:?} names {missing:?}");
        }
        assert!(!row.suite.is_empty() || !row.c_suite.is_empty());
    }
    // A clause that a suite tests has a name of it in the table.
    let table = table();
    let tested = |names: &BTreeSet<String>| -> BTreeSet<(u8, u8)> {
        names.iter().filter_map(|n| clause_of(n)).collect()
    };
    for clause in tested(&suite) {
        assert!(!table[&clause].suite.is_empty(), "none of {clause:?}");
    }
    for clause in tested(&c_suite) {
        assert!(
            !table[&clause].c_suite.is_empty(),
            "none of {clause:?} in C"
        );
    }
}

#[test]
fn every_name_in_the_threat_model_is_a_test() {
    let suite = names_after(&texts("tests/tests/conformance", "rs"), "fn ");
    let named = names_after(&read(&root().join("docs/threat-model.md")), "`");
    let missing: Vec<_> = named.difference(&suite).collect();
    assert!(named.len() > 20 && missing.is_empty(), "{missing:?}");
}

#[test]
fn every_difference_is_listed_and_referred_to() {
    let list = read(&root().join("lwc/differences.md"));
    let listed: BTreeSet<&str> = list.split("**").filter(|w| is_label(w)).collect();
    let mut referred = BTreeSet::new();
    let text = read(&root().join("docs/clauses.md"));
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
        if is_label(word) {
            referred.insert(word);
        }
    }
    assert_eq!(listed, referred);
    for (clause, row) in table() {
        for cell in [&row.process, &row.kernel] {
            let kind = cell.split([' ', ':']).next().unwrap();
            assert!(
                ["holds", "differs", "refused"].contains(&kind),
                "{clause:?}: {cell}"
            );
        }
        assert!(!row.process.contains('K') && !row.kernel.contains('P'));
    }
}

/// `P7`, `K2`.
fn is_label(word: &str) -> bool {
    word.strip_prefix(['P', 'K'])
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}
