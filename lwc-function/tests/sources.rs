//! The copy of the crate that a scaffold writes is whole.

use lwc_function::sources::CRATE;
use std::collections::BTreeMap;
use std::path::Path;

/// The files of a folder, by their paths within the crate.
fn files(within: &Path, folder: &str, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(within.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files(within, &path, found);
        } else {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            found.insert(path, text);
        }
    }
}

#[test]
fn each_file_that_cargo_needs_is_in_the_copy() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut ours = BTreeMap::new();
    files(home, "src", &mut ours);
    files(home, "include", &mut ours);
    let manifest = std::fs::read_to_string(home.join("Cargo.toml")).unwrap();
    ours.insert("Cargo.toml".into(), manifest);
    let copy = CRATE.map(|(path, text)| (path.to_owned(), text.to_owned()));
    // Paths first: a file that is missing is named.
    let paths: Vec<_> = copy.iter().map(|(path, _)| path).collect();
    let missing: Vec<_> = ours.keys().filter(|path| !paths.contains(path)).collect();
    assert!(missing.is_empty(), "sources.rs lacks {missing:?}");
    assert_eq!(BTreeMap::from(copy), ours);
}
