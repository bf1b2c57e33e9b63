//! The core of the gateway knows no protocol: who translates is in rooms of his own, and
//! few know these.

use std::path::{Path, PathBuf};

/// The rooms whose files hold requests, from the gateway's queues to the functions.
const ROOMS: [&str; 3] = ["gateway", "life", "worker"];

/// The files of a protocol, by how their paths begin, and what names it in code.
struct Protocol {
    files: &'static [&'static str],
    words: &'static [&'static str],
}

const HTTP: Protocol = Protocol {
    // The statuses are those of NATS's answers, too.
    files: &["gateway/http/", "gateway/document.rs"],
    words: &[
        "hyper",
        "hyper_util",
        "http",
        "http_body_util",
        "StatusCode",
    ],
};

const NATS: Protocol = Protocol {
    files: &[
        "gateway/nats.rs",
        "gateway/jetstream.rs",
        "gateway/without_nats.rs",
    ],
    words: &["async_nats", "nats", "jetstream"],
};

/// Who starts the protocols, and who asks functions elsewhere by them.
const DOORS: [&str; 3] = [
    "gateway/mod.rs",
    "gateway/server.rs",
    "gateway/elsewhere.rs",
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

/// The names in the code of a file that stand before or behind `::`, or are types; not what
/// comments and texts in one line say.
fn names(text: &str) -> Vec<&str> {
    let code = text.lines().map(|l| l.split("//").next().unwrap());
    let code = code.flat_map(|l| l.split('"').step_by(2));
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for line in code {
        let mut rest = line;
        while let Some(at) = rest.find(is_name) {
            let behind = &rest[at..];
            let len = behind.find(|c| !is_name(c)).unwrap_or(behind.len());
            let (name, after) = behind.split_at(len);
            let is_path = rest[..at].ends_with("::") || after.starts_with("::");
            if is_path || name.starts_with(char::is_uppercase) {
                found.push(name);
            }
            rest = after;
        }
    }
    found
}

#[test]
fn protocols_are_known_in_their_own_rooms() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for room in ROOMS {
        sources(&base.join(room), &mut files);
    }
    assert!(files.len() > 70, "{files:?}");
    let (mut seen, mut wrong) = ([0; 2], Vec::new());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(&base).unwrap().to_str().unwrap();
        let names = names(&text);
        for (protocol, seen) in [HTTP, NATS].into_iter().zip(&mut seen) {
            let known: Vec<_> = names
                .iter()
                .filter(|n| protocol.words.contains(n))
                .collect();
            if protocol.files.iter().any(|f| path.starts_with(f)) {
                *seen += known.len();
                continue;
            }
            // A door names the room, and nothing that is inside the protocol.
            let room = |n: &str| DOORS.contains(&path) && matches!(n, "http" | "nats");
            let elsewhere = known.iter().filter(|n| !room(n));
            wrong.extend(elsewhere.map(|n| format!("{path}: {n}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen.iter().all(|n| *n > 10), "{seen:?}");
}

#[test]
fn a_name_is_found_wherever_it_is() {
    let code = "use hyper::Request;\nuse super::http;\n// hyper::no\nlet x = super::http::f(\"http::no\");\nfn g(s: StatusCode) { s.http(); http } // nats::no\n";
    let found = names(code);
    let of = |word: &str| found.iter().filter(|n| **n == word).count();
    assert_eq!(
        ["hyper", "http", "StatusCode", "nats"].map(of),
        [1, 2, 1, 0]
    );
}
