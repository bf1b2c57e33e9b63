//! Holds the links of the documents: what they point at is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The documents of the repository: none of a build, and no second name of one.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with('.') || name == "target" || entry.file_type().unwrap().is_symlink() {
            continue;
        }
        if path.is_dir() {
            documents(&path, found);
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
}

/// The text without code: fenced blocks, and spans (which keep their place).
fn prose(text: &str) -> String {
    let mut out = String::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            out.push_str(line);
        }
        out.push('\n');
    }
    assert!(!fenced, "a block without an end");
    let spans = out.split('`').enumerate();
    spans
        .map(|(i, part)| if i % 2 == 0 { part } else { "code" })
        .collect()
}

/// Where the links of a document lead: `[text](target)`, `[name]: target`. A
/// name that is used, as in `[text][name]`, has a target.
fn targets(prose: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in prose.match_indices("](") {
        let rest = &prose[at + 2..];
        found.push(rest.split(')').next().unwrap().to_owned());
    }
    let mut named = BTreeSet::new();
    for line in prose.lines() {
        let definition = line.strip_prefix('[').and_then(|l| l.split_once("]: "));
        if let Some((name, target)) = definition.filter(|(name, _)| !name.contains(']')) {
            named.insert(name);
            found.push(target.to_owned());
        }
    }
    for (at, _) in prose.match_indices("][") {
        let name = prose[at + 2..].split(']').next().unwrap();
        assert!(named.contains(name), "{name:?} leads nowhere");
    }
    found
}

/// What can be linked to in a document: headings, as GitHub names them, and
/// anchors.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("<a id=\"") {
        let id = text[at + 7..].split('"').next().unwrap();
        assert!(found.insert(id.to_owned()), "{id:?} is there twice");
    }
    for line in text.lines().filter(|l| l.starts_with('#')) {
        let title = line.trim_start_matches('#').trim();
        let title = title.rsplit("</a>").next().unwrap();
        found.insert(
            title
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect(),
        );
    }
    found
}

#[test]
fn links_lead_somewhere() {
    let mut files = Vec::new();
    documents(&root(), &mut files);
    assert!(files.len() > 12, "{files:?}");
    let texts: BTreeMap<PathBuf, String> = files
        .into_iter()
        .map(|f| {
            (
                f.canonicalize().unwrap(),
                std::fs::read_to_string(f).unwrap(),
            )
        })
        .collect();
    let mut links = 0;
    for (file, text) in &texts {
        for target in targets(&prose(text)) {
            if target.starts_with("https://") || target.starts_with("http://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let there = if path.is_empty() {
                file.clone()
            } else {
                let there = file.parent().unwrap().join(path).canonicalize();
                there.unwrap_or_else(|e| panic!("{}: {target}: {e}", file.display()))
            };
            if !anchor.is_empty() {
                let known = texts.get(&there).map(|t| anchors(t)).unwrap_or_default();
                assert!(
                    known.contains(anchor),
                    "{}: {target}: no such place",
                    file.display()
                );
            }
            links += 1;
        }
    }
    assert!(links > 60, "only {links} links are found");
}

#[test]
fn documents_lead_to_the_contract_and_the_glossary() {
    for (document, wanted) in [
        ("README.md", ["docs/contract.md", "docs/glossary.md"]),
        ("docs/clauses.md", ["contract.md", "glossary.md"]),
        ("docs/how-it-works.md", ["contract.md", "glossary.md"]),
    ] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        let found = targets(&prose(&text));
        for target in wanted {
            assert!(found.iter().any(|f| f == target), "{document}: {target}");
        }
    }
}
