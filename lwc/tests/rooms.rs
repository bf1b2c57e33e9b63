//! The rooms of the crate: a file knows those of the rooms above its own, and no
//! two files know each other, not even by way of others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Whom the files of a room may know, beside their own room.
type Rooms<'a> = &'a [(&'a str, &'a [&'a str])];

/// The crate's. Types of the API are above the backends if these use them, else
/// below, and what the API does with them is below.
const CRATE: Rooms<'_> = &[
    ("errno", &[]),
    ("page", &[]),
    ("time", &[]),
    ("flags", &[]),
    ("volatile", &[]),
    ("crash", &[]),
    ("error", &["errno"]),
    ("handle", &["error"]),
    ("event", &["handle"]),
    ("spec", &["error", "page"]),
    ("rights", &["spec"]),
    (
        "backend",
        &[
            "crash", "errno", "error", "event", "flags", "page", "spec", "time", "volatile",
        ],
    ),
    ("region", &["backend", "error", "page", "spec", "volatile"]),
    ("secret", &["error", "page", "spec"]),
    (
        "trapped",
        &[
            "backend", "context", "errno", "error", "event", "handle", "page", "time",
        ],
    ),
    (
        "context",
        &[
            "backend", "error", "event", "flags", "handle", "rights", "spec", "time",
        ],
    ),
    ("rollback", &["backend", "error", "handle"]),
    ("output", &["backend", "error"]),
    ("files", &["backend", "errno", "error"]),
    ("threads", &["backend", "error", "handle"]),
    (
        "builder",
        &[
            "context", "error", "event", "flags", "region", "secret", "spec",
        ],
    ),
];

/// The process backend's.
const PROCESS: Rooms<'_> = &[
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

/// A file, or a folder's `mod.rs`, by the parts of its path.
type Name = Vec<String>;
type Arrows = BTreeMap<Name, BTreeSet<Name>>;

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

/// The code, without its tests and comments.
fn code(text: &str) -> String {
    let before = |text, tests| str::split(text, tests).next().unwrap();
    let code = before(text, "\nmod tests {");
    let code = before(code, "#[cfg(test)]\npub(crate) mod ");
    let lines = code.lines().map(|l| l.split("//").next().unwrap());
    lines.flat_map(|l| [l, "\n"]).collect()
}

/// `{…}` of a `use` declaration written out.
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

/// The paths that a file's code names: in `use` declarations, and elsewhere those
/// from the crate or the parent on.
fn paths(code: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = String::new();
    for (i, part) in code.split("use ").enumerate() {
        let after = match part.split_once(';') {
            Some((declaration, after)) if i > 0 => {
                let path: String = declaration.split_whitespace().collect();
                write_out("", &path, &mut all);
                after
            }
            _ => part,
        };
        rest.push_str(after);
    }
    let end = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
    for root in ["crate::", "super::"] {
        for (at, _) in rest.match_indices(root) {
            let alone = rest[..at].chars().next_back().is_none_or(end);
            if alone {
                all.push(rest[at..].split(end).next().unwrap().to_owned());
            }
        }
    }
    all
}

/// Which files know which.
fn arrows() -> Arrows {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&base, &mut files);
    assert!(files.len() > 60, "{files:?}");
    let name = |path: &Path| -> Name {
        let path = path.strip_prefix(&base).unwrap().with_extension("");
        let mut parts: Name = path
            .iter()
            .map(|p| p.to_string_lossy().into_owned())
            .collect();
        if parts.last().is_some_and(|p| p == "mod" || p == "lib") {
            parts.pop();
        }
        parts
    };
    let modules: BTreeSet<Name> = files.iter().map(|f| name(f)).collect();
    let mut arrows = Arrows::new();
    for file in files.iter().filter(|f| !name(f).is_empty()) {
        let me = name(file);
        let code = code(&std::fs::read_to_string(file).unwrap());
        let mut known = BTreeSet::new();
        for path in paths(&code) {
            let mut parts: Vec<&str> = path.split("::").collect();
            let mut at = me.clone();
            match parts[0] {
                "crate" => at.clear(),
                "super" => drop(at.pop()),
                "self" => {}
                // A child's, or of another crate.
                first => {
                    at.push(first.to_owned());
                    if !modules.contains(&at) {
                        continue;
                    }
                }
            }
            parts.remove(0);
            assert_ne!(parts.first(), Some(&"super"), "{me:?}: {path}");
            at.extend(parts.into_iter().map(str::to_owned));
            while !modules.contains(&at) {
                at.pop();
            }
            // The crate's root knows all: what it shows is known by its own name.
            assert!(!at.is_empty(), "{me:?}: {path}");
            if at != me {
                known.insert(at);
            }
        }
        for line in code.lines() {
            let declared = line.trim_start_matches("pub(crate) ").strip_prefix("mod ");
            if let Some(child) = declared.and_then(|d| d.strip_suffix(';')) {
                let mut at = me.clone();
                at.push(child.to_owned());
                known.insert(at);
            }
        }
        if !known.is_empty() {
            arrows.insert(me, known);
        }
    }
    arrows
}

/// Looks at the files of a folder: each may know what its room may.
fn check(rooms: Rooms<'_>, folder: &[&str], arrows: &Arrows) {
    let inside = |n: &Name| n.len() > folder.len() && n.iter().zip(folder).all(|(a, b)| a == b);
    for (from, all) in arrows.iter().filter(|(from, _)| inside(from)) {
        let here = &from[folder.len()];
        let may = rooms.iter().find(|(room, _)| room == here);
        let (_, may) = may.unwrap_or_else(|| panic!("{from:?} is in no room"));
        for to in all.iter().filter(|to| inside(to)) {
            let there = &to[folder.len()];
            assert!(
                there == here || may.contains(&there.as_str()),
                "{from:?} knows {to:?}, which its room may not"
            );
        }
    }
}

#[test]
fn files_know_only_what_is_above_them() {
    let arrows = arrows();
    check(CRATE, &[], &arrows);
    check(PROCESS, &["backend", "process"], &arrows);
}

#[test]
fn files_are_in_no_circle() {
    // Whoever knows nobody any more goes, and whom nobody knows, until nobody is
    // left.
    let mut left = arrows();
    loop {
        let all: BTreeSet<Name> = left.keys().cloned().collect();
        let known: BTreeSet<Name> = left.values().flatten().cloned().collect();
        let before = left.len();
        left.retain(|from, to| {
            to.retain(|t| all.contains(t));
            !to.is_empty() && known.contains(from)
        });
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "in circles: {left:?}");
}

#[test]
fn paths_are_found_wherever_they_are() {
    let code = code(
        "use super::{a, b::{c, D}};\nmod e;\npub(crate) use f::g;\n// crate::no\nfn h() { crate::i::j(); super::k() }\n#[cfg(test)]\nmod tests {\nuse crate::l;\n",
    );
    let mut found = paths(&code);
    found.sort();
    let all = [
        "crate::i::j",
        "f::g",
        "super::a",
        "super::b::D",
        "super::b::c",
        "super::k",
    ];
    assert_eq!(found, all);
}
