//! Chain files: everything wrong is shown at once, with its place and a hint,
//! and nothing in one makes the parser panic.

#[path = "chain_file/calls.rs"]
mod calls;
mod common;
#[path = "chain_file/grants.rs"]
mod grants;
#[path = "chain_file/groups.rs"]
mod groups;
#[path = "chain_file/on_error.rs"]
mod on_error;
#[path = "chain_file/schema.rs"]
mod schema;
#[path = "chain_file/work.rs"]
mod work;

use common::{Folder, orchestrator, text};
use lwc_orchestrator::chain_file::{Isolation, Report, Severity, parse};
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn folder() -> Folder {
    let folder = Folder::new("");
    folder.write("f.c", "");
    folder.write("key", "k");
    folder
}

fn errors(folder: &Folder, chain: &str) -> Report {
    parse(&folder.path("chain.toml"), chain.to_owned()).expect_err("it should be refused")
}

/// code, line, column of each error.
fn places(report: &Report) -> Vec<(&str, usize, usize)> {
    report
        .diagnostics()
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .map(|d| (d.code, d.line, d.column))
        .collect()
}

#[test]
fn a_valid_file_means_what_it_says() {
    let folder = folder();
    let (file, report) = parse(
        &folder.path("chain.toml"),
        r#"
[functions.a-b]
source = "f.c"
secrets = { K = { file = "key" }, E = { env = "VAR" } }
timeout = "50ms"
memory = "32MiB"
[functions.c]
source = "f.c"
handler = "other"
[chains.inner]
steps = ["c", "a-b"]
[chains.outer]
steps = ["a-b", "inner", "c"]
isolation = "chain"
region = 5000
"#
        .to_owned(),
    )
    .unwrap();
    assert!(report.diagnostics().is_empty(), "{}", report.render(false));
    let f = &file.functions["a-b"];
    assert_eq!((f.handler.as_str(), f.secrets.len()), ("a_b", 2));
    assert_eq!((f.timeout, f.memory), (Duration::from_millis(50), 32 << 20));
    assert_eq!(file.functions["c"].timeout, Duration::from_secs(1));
    let outer = &file.chains["outer"];
    assert_eq!(outer.steps, ["a-b", "c", "a-b", "c"]);
    assert_eq!((outer.isolation, outer.region), (Isolation::Chain, 8192));
    assert_eq!(file.chains["inner"].isolation, Isolation::Invocation);
}

#[test]
fn all_errors_of_a_file_are_shown_in_one_run() {
    let folder = folder();
    let report = errors(
        &folder,
        r#"[functions.f]
source = "missing.c"
timout = "1s"
timeout = 5
memory = "1KiB"
[functions.g]
library = "f.c"
crate = "."
handler = "not a symbol"
[functions.h]
[functions."Bad Name"]
[chains.x]
steps = ["f", "gg", 7]
isolation = "none"
region = "2TiB"
[chains.y]
[chains.a]
steps = ["b"]
[chains.b]
steps = ["a"]
[chian]
"#,
    );
    assert_eq!(
        places(&report),
        [
            ("missing-file", 2, 10),
            ("unknown-key", 3, 1),
            ("type", 4, 11),
            ("range", 5, 10),
            ("origin", 8, 1),
            ("missing-file", 8, 9),
            ("name", 9, 11),
            ("origin", 10, 12),
            ("name", 11, 12),
            ("unknown-step", 13, 15),
            ("type", 13, 21),
            ("range", 14, 13),
            ("range", 15, 10),
            ("empty", 16, 9),
            ("cycle", 17, 9),
            ("cycle", 19, 9),
            ("unknown-key", 21, 2),
        ]
    );
    let shown = report.render(false);
    for part in [
        "chain.toml:3:1",
        "timout = \"1s\"",
        "^^^^^^",
        "did you mean \"timeout\"?",
        "a → b → a",
        "did you mean \"chains\"?",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

/// Other systems write so that steps run side by side.
#[test]
fn several_functions_as_one_step_are_told_of_calls() {
    let folder = folder();
    for (steps, tells) in [
        (r#"["f", ["f", "f"]]"#, true),
        (r#"["f", { when = "x" }]"#, true),
        (r#"["f", 7]"#, false),
    ] {
        let report = errors(
            &folder,
            &format!("[functions.f]\nsource = \"f.c\"\n[chains.c]\nsteps = {steps}\n"),
        );
        assert_eq!(places(&report), [("type", 4, 15)], "{steps}");
        let shown = report.render(false);
        assert_eq!(shown.contains("calls = ["), tells, "{shown}");
    }
}

#[test]
fn broken_toml_shows_where() {
    let folder = folder();
    let report = errors(&folder, "[functions.f\nsource = \"f.c\"\nx = = 1\n");
    let all = places(&report);
    assert!(all.iter().all(|p| p.0 == "syntax"));
    assert!(
        all.iter().any(|p| p.1 == 1) && all.iter().any(|p| p.1 == 3),
        "{all:?}"
    );
    let report = errors(&folder, "[functions.f]\nsource=\"f.c\"\n[functions.f]\n");
    assert_eq!(places(&report)[0].1, 3, "duplicate tables");
}

#[test]
fn an_unused_function_is_a_warning() {
    let folder = folder();
    let text =
        "[functions.f]\nsource='f.c'\n[functions.g]\nsource='f.c'\n[chains.c]\nsteps=['f']\n";
    let (_, report) = parse(&folder.path("chain.toml"), text.to_owned()).unwrap();
    assert_eq!(report.diagnostics()[0].code, "unused");
    assert!(!report.has_errors());
}

#[test]
fn check_speaks_to_programs_too() {
    let folder = folder();
    folder.write("chain.toml", "[functions.f]\nsurce = 'f.c'\n");
    let out = orchestrator()
        .args(["check", "--json"])
        .arg(folder.path("chain.toml"))
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    let v: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let d = &v["diagnostics"];
    assert_eq!(v["ok"], false);
    assert!(
        d.as_array().unwrap().iter().any(|d| {
            d["code"] == "unknown-key" && d["line"] == 2 && d["column"] == 1 && d["length"] == 5
        }),
        "{d}"
    );
}

#[test]
fn odd_files_are_refused_in_words() {
    let folder = folder();
    for (name, bytes, says) in [
        ("latin1.toml", &b"# caf\xe9\n"[..], "not UTF-8"),
        ("empty.toml", b"", "there is no chain"),
        ("large.toml", &[b'#'; (1 << 20) + 1], "larger than"),
    ] {
        let path = folder.write(name, bytes);
        let out = orchestrator().arg("check").arg(path).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{name}");
        assert!(
            text(&out.stderr).contains(says),
            "{name}: {}",
            text(&out.stderr)
        );
    }
    let fifo = folder.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (path, says) in [
        (folder.path(""), "not a regular file"),
        // Nobody writes to it, and nobody waits for that.
        (fifo, "not a regular file"),
        (folder.path("none"), "No such file"),
    ] {
        let out = orchestrator().arg("check").arg(path).output().unwrap();
        assert_eq!(out.status.code(), Some(2));
        assert!(text(&out.stderr).contains(says), "{}", text(&out.stderr));
    }
}

#[test]
fn build_errors_name_the_function_and_show_the_compiler() {
    let folder = Folder::new(
        "[functions.bad]\nsource='bad.c'\n[functions.lost]\nsource='lost.c'\nhandler='hander'\n[chains.c]\nsteps=['bad','lost']\n",
    );
    folder.write("bad.c", "int oops(void) { return x; }\n");
    folder.write("lost.c", "int handler(void *p) { return p != 0; }\n");
    let out = folder.run(&[], &["x"]);
    assert_eq!(out.status.code(), Some(3));
    let shown = text(&out.stderr);
    for part in [
        "\"bad\"",
        "undeclared",
        "\"lost\"",
        "\"hander\"",
        "did you mean handler = \"handler\"?",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

/// Codes that change a terminal, in eight bits and by format characters too.
const CODES: &str = "\u{1b}[31m\u{7}\u{9b}32m\u{202e}\u{2028}\u{85}\u{200b}";

/// What a terminal shows is text, lines and tabs.
#[track_caller]
fn changes_no_terminal(out: &std::process::Output) {
    for shown in [&out.stdout, &out.stderr].map(|bytes| text(bytes)) {
        assert!(
            !shown
                .chars()
                .any(|c| CODES.contains(c) && c > '~' || c.is_control() && c != '\n'),
            "{shown:?}"
        );
    }
}

#[test]
fn what_a_file_says_changes_no_terminal() {
    let quoted = CODES.chars().fold(String::new(), |s, c| {
        s + &format!("\\U{:08x}", u32::from(c))
    });
    for bad in [
        format!("[functions.f]\nsource = \"{quoted}.c\"\n"),
        format!("[functions.f]\nlibrary = \"{quoted}\"\nhandler = \"{quoted}\"\n"),
        format!("[functions.\"{quoted}\"]\n\"{quoted}\" = 1\n"),
        format!(
            "[functions.f]\nsource = \"f.c\"\n[chains.c]\nsteps = [\"{quoted}\"]\nregion = \"{quoted}\"\nheaders = [\"{quoted}\"]\n"
        ),
        // In the file itself, where TOML allows them and where not.
        "# \u{9b}31m\u{202e}\n[\u{9b}31m\u{202e}]\n'\u{202e}' = '\u{2028}\u{200b}'\n".into(),
        format!("a = '{CODES}'\n"),
    ] {
        let folder = folder();
        folder.write("f.c", "");
        let named = folder.write(&format!("{CODES}.toml"), &bad);
        for file in [folder.write("chain.toml", &bad), named] {
            for options in [
                &["check"][..],
                &["check", "--json"],
                &["-vv", "run", "-i", "f.c"],
            ] {
                let out = orchestrator().args(options).arg(&file).output().unwrap();
                assert_eq!(out.status.code(), Some(2), "{bad}");
                changes_no_terminal(&out);
            }
        }
    }
}

#[test]
fn the_file_is_the_current_folders_unless_it_is_said() {
    let folder = Folder::new("[functions.f]\nsource = \"f.c\"\n[chains.c]\nsteps = [\"f\"]\n");
    folder.write(
        "f.c",
        "#include \"lwc_function.h\"\nLWC_HANDLER(f) { return (0); }\n",
    );
    for command in ["check", "build", "audit"] {
        let mut there = orchestrator();
        let there = there.arg(command).current_dir(folder.path(""));
        let out = there.output().unwrap();
        let told = text(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{command}: {told}");
    }
}

/// A library of another version of the function ABI is refused, and named.
#[test]
fn a_function_of_another_abi_is_refused_by_name() {
    let folder = Folder::new("[functions.f]\nsource = \"f.c\"\n[chains.c]\nsteps = [\"f\"]\n");
    for (abi, says) in [
        ("", "older than 3"),
        ("const unsigned f_abi = 2;", "ABI 2,"),
        ("const unsigned f_abi = 4;", "ABI 4,"),
        ("const char f_abi[] = \"no\";", "older than 3"),
    ] {
        folder.write(
            "f.c",
            format!("{abi} int f(void *x) {{ return x == 0; }}\n"),
        );
        let mut check = orchestrator();
        let out = check.arg("check").arg(folder.path("chain.toml")).output();
        let out = out.unwrap();
        let told = text(&out.stderr);
        assert!(!out.status.success(), "{abi}: {told}");
        for part in ["function \"f\"", says, "build it again"] {
            assert!(told.contains(part), "{abi}: {told}");
        }
    }
}

#[test]
fn what_a_compiler_or_the_log_quotes_changes_no_terminal() {
    let source = format!("{CODES}.c");
    let quoted = source.chars().fold(String::new(), |s, c| {
        s + &format!("\\U{:08x}", u32::from(c))
    });
    let folder = Folder::new(&format!(
        "[functions.f]\nsource = \"{quoted}\"\n[chains.c]\nsteps = [\"f\"]\n"
    ));
    folder.write(
        &source,
        format!("const unsigned f_abi = 3; int f(void *x) {{ return 0; }} // {CODES}\n"),
    );
    for format in ["text", "json"] {
        let mut check = orchestrator();
        check.args(["-vv", "--log-format", format, "check"]);
        check.env("LWC_CACHE", folder.path(format));
        let out = check.arg(folder.path("chain.toml")).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        assert!(text(&out.stderr).contains("202e"), "{}", text(&out.stderr));
        changes_no_terminal(&out);
    }
    folder.write(&source, format!("int f(void) {{ return x; }} // {CODES}\n"));
    for options in [&["check"][..], &["check", "--json"]] {
        let mut check = orchestrator();
        let out = check.args(options).arg(folder.path("chain.toml")).output();
        let out = out.unwrap();
        assert_eq!(out.status.code(), Some(3));
        changes_no_terminal(&out);
    }
}

#[test]
fn json_names_the_file_as_it_is() {
    let folder = folder();
    let file = folder.write(&format!("{CODES}.toml"), "[functions.f]\n");
    let out = orchestrator().args(["check", "--json"]).arg(&file).output();
    let v: serde_json::Value = serde_json::from_slice(&out.unwrap().stdout).unwrap();
    assert_eq!(v["diagnostics"][0]["file"], file.to_str().unwrap());
}

/// A compiler that changes the source as soon as it has read it once.
#[test]
fn a_source_that_changes_while_it_is_built_is_not_taken_for_another() {
    let folder = Folder::new("[functions.f]\nsource = \"f.c\"\n[chains.c]\nsteps = [\"f\"]\n");
    let answer = |word: &str| {
        format!(
            "#include \"lwc_function.h\"\nLWC_HANDLER(f) {{ return lwc_append(inv, \"{word}\", 4); }}\n"
        )
    };
    let (good, evil) = (answer("good"), answer("evil"));
    folder.write("evil.c", &evil);
    folder.write("input", "x");
    let compiler = folder.write(
        "cc.sh",
        "#!/bin/sh\ncc \"$@\" || exit\ncase \" $* \" in *' -E '*) cp \"$EVIL\" \"$SOURCE\" ;; esac\n",
    );
    std::fs::set_permissions(&compiler, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = |cc: &Path| {
        let out = orchestrator()
            .env("CC", cc)
            .env("LWC_CACHE", folder.path("cache"))
            .env("EVIL", folder.path("evil.c"))
            .env("SOURCE", folder.path("f.c"))
            .arg("run")
            .arg(folder.path("chain.toml"))
            .arg("--input")
            .arg(folder.path("input"))
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout)
    };
    folder.write("f.c", &good);
    assert_eq!(run(&compiler), "good");
    assert_eq!(std::fs::read_to_string(folder.path("f.c")).unwrap(), evil);
    assert_eq!(run(&compiler), "evil");
    folder.write("f.c", &good);
    assert_eq!(run(&compiler), "good");
}

#[test]
fn warnings_of_a_build_are_those_of_the_source() {
    let folder = Folder::new("[functions.f]\nsource = \"f.c\"\n[chains.c]\nsteps = [\"f\"]\n");
    folder.write(
        "f.c",
        "#include \"lwc_function.h\"
LWC_HANDLER(f)
{
    int unused;
    switch (inv->input_len) {
    case 0:
        lwc_append(inv, \"a\", 1);
        /* fall through */
    default:
        return 0;
    }
}
",
    );
    let check = |folder: &Folder| {
        let mut check = orchestrator();
        check.env("LWC_CACHE", folder.path("cache"));
        let out = check.arg("check").arg(folder.path("chain.toml")).output();
        text(&out.unwrap().stderr)
    };
    let said = check(&folder);
    assert!(said.contains("f.c:4:9: warning: unused variable"), "{said}");
    assert_eq!(said.matches("warning:").count(), 1, "{said}");
    assert_eq!(check(&folder), "", "it is built once");
}

const VALID: &str = r#"[functions.f]
source = "f.c"
secrets = { K = { file = "key" } }
timeout = "50ms"
calls = ["g", "h"]
[functions.g]
source = "f.c"
calls = ["h"]
[functions.h]
source = "f.c"
[chains.c]
steps = ["f", "f", "g"]
isolation = "chain"
region = "64KiB"
[workflows.g]
entry = "g"
"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gives_a_file_or_errors_inside_it(text in "(\\PC|\n){0,300}") {
        check(Path::new("chain.toml"), text)?;
    }

    #[test]
    fn a_mutated_file_gives_a_file_or_errors_inside_it(
        edits in proptest::collection::vec((0..VALID.len(), 0usize..12, "(\\PC|\n|\"|\\[|=){0,8}"), 1..6)
    ) {
        let mut text = VALID.to_owned();
        for (at, cut, insert) in edits {
            let at = at.min(text.len());
            let end = (at + cut).min(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                text.replace_range(at..end, &insert);
            }
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chain.toml");
        check(&folder, text)?;
    }
}

fn check(path: &Path, text: String) -> Result<(), TestCaseError> {
    let report = match parse(path, text.clone()) {
        Ok((_, report)) => {
            prop_assert!(!report.has_errors());
            report
        }
        Err(report) => {
            prop_assert!(report.has_errors());
            report
        }
    };
    for d in report.diagnostics() {
        prop_assert!(text.get(d.span.clone()).is_some(), "{:?}", d);
        prop_assert!(d.line >= 1 && d.column >= 1 && d.line <= text.matches('\n').count() + 1);
        prop_assert!(!d.message.is_empty() && !d.hint.is_empty());
    }
    report.render(true);
    report.to_json();
    Ok(())
}

#[test]
fn what_cannot_be_built_so_is_told_where_it_stands() {
    let folder = folder();
    folder.write("g.cpp", "");
    let report = errors(
        &folder,
        r#"[functions.f]
source = ["f.c", "f.c", "key"]
include = "nowhere"
std = ["gnu17", "c11", "c++1999"]
cflags = ["-O3", "-I.", "-lz", "-march=native", "-Wl,-z,x", "--help", "-fplugin=x", "-std=c99"]
link = ["z", "-lz", "nowhere/libz.a", ""]
pkg_config = ["zlib", "zlib >= ", "--libs"]
harden = "all"
[functions.g]
sources = ["f.c", "g.cpp"]
[functions.h]
library = "key"
cflags = "-O3"
harden = "bounds"
[functions.i]
url = "http://localhost/"
link = "z"
[functions.j]
source = []
[chains.x]
steps = ["f", "g", "h", "i", "j"]
"#,
    );
    let of = |line: usize| -> Vec<&str> {
        let all = places(&report).into_iter();
        all.filter(|p| p.1 == line).map(|p| p.0).collect()
    };
    assert_eq!(of(2), ["duplicate", "source"]);
    assert_eq!(of(3), ["missing-file"]);
    assert_eq!(of(4), ["duplicate", "range"]);
    assert_eq!(of(5), ["flag"; 7]);
    assert_eq!(of(6), ["name", "missing-file", "name"]);
    assert_eq!(of(7), ["name", "name"]);
    assert_eq!(of(8), ["range"]);
    assert_eq!(of(10), ["unknown-key"]);
    assert_eq!((of(13), of(14)), (vec!["origin"], vec!["origin"]));
    assert_eq!((of(17), of(19)), (vec!["origin"], vec!["empty"]));
    let shown = report.render(false);
    for hint in [
        "say include = [\"FOLDER\"]",
        "-march=x86-64-v3",
        "source = [\"A.c\", \"B.cpp\", ...]",
    ] {
        assert!(shown.contains(hint), "{hint}: {shown}");
    }
}
