//! Holds the contract (`docs/contract.md`), what cites it and the table of its
//! clauses to each other: clauses that are cited exist, none is missing from the
//! table, and the names in it are tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Section and number, 2.3.
type Clause = (u8, u8);

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

/// The contract: its sections, and the text of each clause.
struct Contract {
    sections: BTreeSet<u8>,
    clauses: BTreeMap<Clause, String>,
}

fn contract() -> Contract {
    let text = read(&root().join("docs/contract.md"));
    let mut sections = BTreeSet::new();
    let mut clauses = BTreeMap::new();
    let mut at = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix('#') {
            at = None;
            // `### <a id="c2-1"></a>2.1 It returns twice`
            let heading = heading.trim_start_matches(['#', ' ']);
            let Some((anchor, title)) = heading
                .strip_prefix("<a id=\"c")
                .and_then(|h| h.split_once("\"></a>"))
            else {
                continue;
            };
            let number = title.split(' ').next().unwrap();
            if !number.starts_with(|c: char| c.is_ascii_digit()) {
                continue; // what stands before the clauses
            }
            assert_eq!(anchor, number.replace('.', "-"), "{line}");
            match number.split_once('.') {
                None => assert!(sections.insert(number.parse().unwrap()), "{line}"),
                Some((section, number)) => {
                    let clause = (section.parse().unwrap(), number.parse().unwrap());
                    assert!(sections.contains(&clause.0), "{line}");
                    assert!(clauses.insert(clause, String::new()).is_none(), "{line}");
                    at = Some(clause);
                }
            }
        } else if let Some(clause) = at {
            clauses.get_mut(&clause).unwrap().push_str(line);
            clauses.get_mut(&clause).unwrap().push('\n');
        }
    }
    Contract { sections, clauses }
}

/// The numbers of differences (P7, K2) in a text.
fn labels(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|w| is_label(w)).collect()
}

/// `c7_1_a_call` is of clause (7, 1).
fn clause_of(name: &str) -> Option<Clause> {
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

fn table() -> BTreeMap<Clause, Row> {
    let text = read(&root().join("docs/clauses.md"));
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, clause, process, kernel, suite, c_suite, _] = cells[..] else {
            continue;
        };
        // `[2.1](contract.md#c2-1) lwCreate returns twice`
        let Some((number, rest)) = clause.strip_prefix('[').and_then(|c| c.split_once("](")) else {
            continue; // the heading
        };
        let anchor = format!("contract.md#c{}) ", number.replace('.', "-"));
        assert!(rest.starts_with(&anchor), "{clause}");
        let (section, number) = number.split_once('.').unwrap();
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
    let rows: BTreeSet<Clause> = table().into_keys().collect();
    let contract = contract();
    let clauses: BTreeSet<Clause> = contract.clauses.keys().copied().collect();
    let without: Vec<_> = clauses.difference(&rows).collect();
    assert!(without.is_empty(), "no row in docs/clauses.md: {without:?}");
    let unknown: Vec<_> = rows.difference(&clauses).collect();
    assert!(unknown.is_empty(), "rows of no clause: {unknown:?}");
    assert_eq!(contract.sections, (1..=10).collect());
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
    let tested = |names: &BTreeSet<String>| -> BTreeSet<Clause> {
        names.iter().filter_map(|n| clause_of(n)).collect()
    };
    for clause in tested(&suite) {
        let named = table.get(&clause).is_some_and(|row| !row.suite.is_empty());
        assert!(named, "the table names no case of {clause:?}");
    }
    for clause in tested(&c_suite) {
        let named = table
            .get(&clause)
            .is_some_and(|row| !row.c_suite.is_empty());
        assert!(named, "the table names no case of {clause:?} in C");
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
    let text = read(&root().join("docs/clauses.md"));
    let referred = labels(&text);
    assert_eq!(listed, referred);
    let contract = contract();
    for (clause, row) in table() {
        for cell in [&row.process, &row.kernel] {
            let kind = cell.split([' ', ':']).next().unwrap();
            assert!(
                ["holds", "differs", "refused"].contains(&kind),
                "{clause:?}: {cell}"
            );
        }
        assert!(!row.process.contains('K') && !row.kernel.contains('P'));
        // The contract says the same of the clause.
        let mut differences = labels(&row.process);
        differences.extend(labels(&row.kernel));
        assert_eq!(
            labels(&contract.clauses[&clause]),
            differences,
            "{clause:?}"
        );
    }
}

/// `P7`, `K2`.
fn is_label(word: &str) -> bool {
    word.strip_prefix(['P', 'K'])
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// What cites a clause, and how.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Citation {
    section: u8,
    number: Option<u8>,
    around: String,
}

/// Sections and clauses at the start of a text: `2`, `2.3`, `6.2, 7.1`,
/// `4 and 5`.
fn list(text: &str) -> Vec<(u8, Option<u8>)> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
        let (section, number) = match number.trim_end_matches('.').split_once('.') {
            Some((section, number)) => (section, number.parse().ok()),
            None => (number.trim_end_matches('.'), None),
        };
        let Ok(section) = section.parse() else {
            return found;
        };
        found.push((section, number));
        let Some(next) = [", ", " and ", " to "]
            .iter()
            .find_map(|between| after.strip_prefix(between))
        else {
            return found;
        };
        rest = next;
    }
}

/// The clauses that a text cites: "contract 2.3", "Clauses 4 and 5", a link to
/// `contract.md#c2-3`; and if `bare`, in a comment, "(2.3)" and "2.3: ".
fn citations(text: &str, comments: &[&str], bare: bool) -> Vec<Citation> {
    // A sentence goes on in the next line, behind what marks a comment.
    let mut flat = String::new();
    let mut remarks = String::new();
    for line in text.lines() {
        let line = line.trim_start();
        let is_comment = comments.iter().any(|c| line.starts_with(c));
        let line = line.trim_start_matches(['/', '!', '*', '#', '.', '\\', '"', ' ']);
        flat.push_str(line);
        flat.push(' ');
        if is_comment {
            remarks.push_str(line);
            remarks.push('\n');
        }
    }
    let mut found = Vec::new();
    let mut note = |numbers: Vec<(u8, Option<u8>)>, around: &str| {
        let around: String = around.chars().take(60).collect();
        found.extend(numbers.into_iter().map(|(section, number)| Citation {
            section,
            number,
            around: around.clone(),
        }));
    };
    let lower = flat.to_ascii_lowercase();
    for word in ["contract ", "clause ", "clauses "] {
        for (at, _) in lower.match_indices(word) {
            note(list(&lower[at + word.len()..]), &lower[at..]);
        }
    }
    for word in ["contract#c", "contract.md#c"] {
        for (at, _) in lower.match_indices(word) {
            let number = lower[at + word.len()..].replacen('-', ".", 1);
            note(list(&number), &lower[at..]);
        }
    }
    for line in remarks.lines().filter(|_| bare) {
        // 1.3: a descriptor …
        let first = line.split_once(": ").map_or("", |(first, _)| first);
        let is_number = |n: &str| n.len() == 3 && n.as_bytes()[1] == b'.';
        if is_number(first) {
            note(list(first), line);
        }
        for (at, _) in line.match_indices('(') {
            let inside = line[at + 1..].split(')').next().unwrap();
            if inside.split(", ").all(is_number) {
                note(list(inside), line);
            }
        }
    }
    found
}

/// Files that may cite: ours, and none that a build made.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| {
            let kinds = [
                "rs", "md", "c", "h", "hpp", "toml", "sh", "py", "2", "3", "4",
            ];
            kinds.contains(&e.to_str().unwrap_or(""))
        }) {
            found.push(path);
        }
    }
}

#[test]
fn every_clause_that_is_cited_exists() {
    let contract = contract();
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let mut cited = 0;
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue; // a picture, or what is no text
        };
        let folder = file.strip_prefix(root()).unwrap();
        let is = |ends: &str| file.extension().is_some_and(|e| e == ends);
        let (comments, bare): (&[&str], bool) = if is("rs") {
            (&["//"], true)
        } else if folder.starts_with("freebsd-kmod") && (is("c") || is("h")) {
            (&["*", "/*"], true)
        } else {
            let ours = ["docs/contract.md", "docs/glossary.md"];
            (&[""], ours.iter().any(|o| folder == Path::new(o)))
        };
        for citation in citations(&text, comments, bare) {
            let section = citation.section;
            let exists = match citation.number {
                Some(number) => contract.clauses.contains_key(&(section, number)),
                None => contract.sections.contains(&section),
            };
            assert!(exists, "{}: {citation:?}", folder.display());
            cited += 1;
        }
    }
    assert!(cited > 120, "only {cited} citations are found");
}

#[test]
fn citations_are_found() {
    let found = |text: &str, comments: &[&str]| -> Vec<(u8, Option<u8>)> {
        let found = citations(text, comments, true);
        found.into_iter().map(|c| (c.section, c.number)).collect()
    };
    let text =
        "//! Contract\n//! 2.3; clauses 4 and 5.\n// (6.2, 7.1) 1.3: so\n// 8.1: it is\nf(1.5);";
    let all = [
        (2, Some(3)),
        (4, None),
        (5, None),
        (8, Some(1)),
        (6, Some(2)),
        (7, Some(1)),
    ];
    let mut got = found(text, &["//"]);
    got.sort_unstable();
    let mut all = all.to_vec();
    all.sort_unstable();
    assert_eq!(got, all);
    assert_eq!(found("[x](contract.md#c9-2)", &[]), [(9, Some(2))]);
    assert_eq!(found("BSD-2-Clause, the contract is 2", &[]), []);
}
