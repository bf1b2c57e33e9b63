//! The rooms of the process backend: a file knows those of the rooms above its
//! own, and no two files know each other, not even by way of others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Whom the files of a room may know, beside their own room.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("keeper", &["wire"]),
    ("shapes", &[]),
    ("state", &["wire"]),
    ("root", &["state", "wire"]),
    ("owner", &["root", "shapes", "state", "wire"]),
    ("ask", &["root", "state", "wire"]),
    ("park", &["owner", "root", "state", "wire"]),
    ("guard", &["root", "state"]),
    (
        "calls",
        &[
            "ask", "guard", "keeper", "park", "root", "shapes", "state", "wire",
        ],
    ),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The paths that `use` declarations name, `{…}` written out.
fn used(text: &str) -> Vec<String> {
    fn write_out(before: &str, rest: &str, all: &mut Vec<String>) {
        match rest.split_once('{') {
            None => all.push(format!("{before}{rest}")),
            Some((stem, inner)) => {
                let inner = inner.strip_suffix('}').unwrap_or(inner);
                let (mut depth, mut from) = (0, 0);
                for (i, c) in inner.char_indices().chain([(inner.len(), ',')]) {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            write_out(&format!("{before}{stem}"), &inner[from..i], all);
                            from = i + 1;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut all = Vec::new();
    for part in code.split("\nuse ").skip(1) {
        let path: String = part.split(';').next().unwrap().split_whitespace().collect();
        write_out("", &path, &mut all);
    }
    all
}

#[test]
fn files_know_only_what_is_above_them() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/process");
    let mut files = Vec::new();
    sources(&base, &mut files);
    assert!(files.len() > 30, "{files:?}");
    let name = |path: &Path| -> Vec<String> {
        let path = path.strip_prefix(&base).unwrap().with_extension("");
        let mut parts: Vec<String> = path
            .iter()
            .map(|p| p.to_string_lossy().into_owned())
            .collect();
        if parts.last().is_some_and(|p| p == "mod") {
            parts.pop();
        }
        parts
    };
    let modules: BTreeSet<Vec<String>> = files.iter().map(|f| name(f)).collect();
    let mut arrows: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for file in files.iter().filter(|f| !name(f).is_empty()) {
        let me = name(file);
        for path in used(&std::fs::read_to_string(file).unwrap()) {
            let mut parts: Vec<String> = path.split("::").map(str::to_owned).collect();
            let mut at = Vec::new();
            if path.starts_with("crate::backend::process") {
                parts.drain(..3);
            } else if parts[0] == "super" {
                at = me[..me.len() - 1].to_vec();
                parts.remove(0);
                assert_ne!(parts[0], "super", "{me:?}: {path}");
            } else {
                continue;
            }
            at.extend(parts);
            while !modules.contains(&at) {
                at.pop();
            }
            if at != me && !at.is_empty() {
                arrows.entry(me.clone()).or_default().insert(at);
            }
        }
    }
    for (from, all) in &arrows {
        let may = MAY_KNOW.iter().find(|(room, _)| *room == from[0]);
        let (_, may) = may.unwrap_or_else(|| panic!("{from:?} is in no room"));
        for to in all {
            assert!(
                to[0] == from[0] || may.contains(&to[0].as_str()),
                "{from:?} knows {to:?}, which its room may not"
            );
        }
    }
    // No circles: whoever knows nobody any more goes, until nobody is left.
    let mut left = arrows;
    loop {
        let known: BTreeSet<Vec<String>> = left.keys().cloned().collect();
        let before = left.len();
        left.retain(|_, to| to.iter().any(|t| known.contains(t)));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "in circles, or above one: {left:#?}");
}
