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
