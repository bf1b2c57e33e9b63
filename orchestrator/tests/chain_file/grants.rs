//! What functions are granted of the world outside.

use super::{errors, folder, places};
use lwc_orchestrator::chain_file::{EnvSource, EnvVariable, Severity, parse};

#[test]
fn an_environment_means_what_it_says() {
    let folder = folder();
    let (file, report) = parse(
        &folder.path("chain.toml"),
        r#"
[functions.f]
source = "f.c"
env = { A = "text = x", "with.dot" = "", B = { from = "HOST" }, MY_KEY = { from = "HOST" } }
secrets = { S = { env = "OTHER" } }
[chains.main]
steps = ["f"]
"#
        .to_owned(),
    )
    .unwrap();
    let has = |name: &str, from: EnvSource| {
        let variable = EnvVariable {
            name: name.to_owned(),
            from,
        };
        assert!(file.functions["f"].env.contains(&variable), "{name}");
    };
    assert_eq!(file.functions["f"].env.len(), 4);
    has("A", EnvSource::Text("text = x".into()));
    has("with.dot", EnvSource::Text(String::new()));
    has("B", EnvSource::Host("HOST".into()));
    has("MY_KEY", EnvSource::Host("HOST".into()));
    // Likely a secret: told, and not refused.
    let [warning] = report.diagnostics() else {
        panic!("{report:?}");
    };
    assert_eq!(
        (warning.severity, warning.code),
        (Severity::Warning, "secret")
    );
    let hint = "secrets = { MY_KEY = { env = \"HOST\" } }";
    assert!(warning.hint.contains(hint), "{}", warning.hint);
}

#[test]
fn what_can_be_no_variable_is_told_with_its_place() {
    let folder = folder();
    let report = errors(
        &folder,
        r#"
[functions.f]
source = "f.c"
env.A = 3
env."" = "x"
env."B=C" = "x"
env."D\u0000" = "x"
env.E = "a\u0000b"
env.F = { from = "G=H" }
env.I = { form = "J" }
env.K = {}
env.L = { from = 5 }
env.M = { from = "SECRET_OF_G" }
[functions.g]
source = "f.c"
env = ["X"]
secrets = { S = { env = "SECRET_OF_G" } }
[functions.h]
remote = "there"
env = { A = "x" }
[chains.main]
steps = ["f", "g", "h"]
"#,
    );
    let found: Vec<(&str, usize)> = places(&report)
        .into_iter()
        .map(|(code, line, _)| (code, line))
        .collect();
    for expected in [
        ("type", 4),
        ("name", 5),
        ("name", 6),
        ("name", 7),
        ("range", 8),
        ("name", 9),
        ("unknown-key", 10),
        ("origin", 11),
        ("type", 12),
        ("type", 16),
        ("remote", 20),
    ] {
        assert!(found.contains(&expected), "{expected:?}: {report:?}");
    }
    assert_eq!(found.len(), 11, "{report:?}");
}

#[test]
fn a_secret_is_in_no_environment() {
    let folder = folder();
    let report = errors(
        &folder,
        r#"
[functions.f]
source = "f.c"
env = { M = { from = "VARIABLE" } }
[functions.g]
source = "f.c"
secrets = { S = { env = "VARIABLE" } }
[chains.main]
steps = ["f", "g"]
"#,
    );
    assert_eq!(places(&report)[0].0, "secret");
    let told = &report.diagnostics()[0];
    assert!(
        told.message.contains("a secret of the function \"g\""),
        "{told:?}"
    );
}

#[test]
fn a_variable_is_named_once() {
    let folder = folder();
    let twice = "[functions.f]\nsource = \"f.c\"\nenv = { A = \"1\", A = \"2\" }\n";
    let report = errors(&folder, twice);
    assert_eq!(places(&report)[0], ("syntax", 3, 18));
}

#[test]
fn files_mean_what_they_say() {
    let folder = folder();
    std::fs::create_dir(folder.path("data")).unwrap();
    let path = folder.path("chain.toml");
    let text = "[functions.f]\nsource = \"f.c\"\nfiles = [\"f.c\", \"data/\", \"./data/\"]\n[chains.main]\nsteps = [\"f\"]\n";
    let (file, report) = parse(&path, text.to_owned()).unwrap();
    let files = &file.functions["f"].files;
    let said: Vec<(&str, bool)> = files.iter().map(|f| (f.said.as_str(), f.folder)).collect();
    assert_eq!(said, [("f.c", false), ("data/", true)]);
    assert_eq!(files[1].path, folder.path("data/"));
    // Twice the same: told, and not refused.
    let [warning] = report.diagnostics() else {
        panic!("{report:?}");
    };
    assert_eq!(
        (warning.severity, warning.code),
        (Severity::Warning, "duplicate")
    );
}

#[test]
fn scratch_is_a_size_and_a_place_of_its_own() {
    let folder = folder();
    let report = errors(
        &folder,
        r#"
[functions.f]
source = "f.c"
scratch = "much"
[functions.g]
source = "f.c"
scratch = "1KiB"
[functions.h]
remote = "there"
scratch = "1MiB"
[functions.i]
source = "f.c"
scratch = "1MiB"
files = ["/tmp/"]
[chains.main]
steps = ["f", "g", "h", "i"]
"#,
    );
    let lines: Vec<usize> = places(&report)
        .into_iter()
        .map(|(_, line, _)| line)
        .collect();
    assert_eq!(lines, [4, 7, 10, 14], "{report:?}");
    let text =
        "[functions.f]\nsource = \"f.c\"\nscratch = \"1MiB\"\n[chains.main]\nsteps = [\"f\"]\n";
    let (file, _) = parse(&folder.path("chain.toml"), text.to_owned()).unwrap();
    assert_eq!(file.functions["f"].scratch, 1 << 20);
}

#[test]
fn what_can_be_no_file_is_told_with_its_place() {
    let folder = folder();
    std::fs::create_dir(folder.path("data")).unwrap();
    std::fs::write(folder.path("data/key"), "k").unwrap();
    std::os::unix::fs::symlink("/proc/self", folder.path("self")).unwrap();
    let many: String = (0..65).map(|n| format!("\"m{n}\",")).collect();
    for n in 0..65 {
        std::fs::write(folder.path(&format!("m{n}")), "").unwrap();
    }
    let report = errors(
        &folder,
        &format!(
            r#"
[functions.f]
source = "f.c"
files = [
  "missing",
  "data",
  "f.c/",
  5,
  "",
  "a\u0000b",
  "/dev/null",
  "/proc/cpuinfo",
  "/",
  "self/",
  "/dev/",
]
[functions.g]
source = "f.c"
files = "f.c"
[functions.h]
remote = "there"
files = ["f.c"]
[functions.i]
source = "f.c"
files = ["data/"]
[functions.j]
source = "f.c"
secrets = {{ S = {{ file = "data/key" }} }}
files = ["data/key"]
[functions.k]
source = "f.c"
files = [{many}]
[chains.main]
steps = ["f", "g", "h", "i", "j", "k"]
"#
        ),
    );
    let found: Vec<(&str, usize)> = places(&report)
        .into_iter()
        .map(|(code, line, _)| (code, line))
        .collect();
    let expected = [
        ("missing-file", 5),
        ("folder", 6),
        ("folder", 7),
        ("type", 8),
        ("name", 9),
        ("name", 10),
        ("range", 11),
        ("range", 12),
        ("range", 13),
        ("range", 14),
        ("range", 15),
        ("type", 19),
        ("remote", 22),
        ("secret", 25),
        ("secret", 29),
        ("range", 32),
    ];
    for wanted in expected {
        assert!(found.contains(&wanted), "{wanted:?}: {report:?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:?}");
    let mut told = report.diagnostics().iter();
    assert!(told.any(|d| d.hint.contains("data/\"")), "{report:?}");
}
