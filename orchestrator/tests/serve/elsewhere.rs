//! Functions that call functions which run elsewhere, by plain HTTP: here, another
//! server of ours.

use super::common::{Folder, home, orchestrator, text};
use super::server::Server;

/// What is called: it does what its input says (`tests/hostile/script.c`).
fn there() -> Server {
    let source = home().join("tests/hostile/script.c");
    let file = format!(
        "[functions.far]\nsource = \"{}\"\nhandler = \"script\"\ntimeout = \"20s\"\nmemory = \"64MiB\"\n[chains.answers]\nsteps = [\"far\"]\nregion = \"128KiB\"\nheaders = [\"x-*\"]\n",
        source.display()
    );
    Server::with(&file, &["--workers", "2"])
}

/// Who calls.
fn file(port: u16, isolation: &str) -> String {
    let source = home().join("tests/hostile/script.c");
    let source = source.display();
    let ours = |name: &str, calls: &str| {
        format!(
            "[functions.{name}]\nsource = \"{source}\"\nhandler = \"script\"\ncalls = {calls}\ntimeout = \"20s\"\nmemory = \"64MiB\"\n"
        )
    };
    let away = |name: &str, port: u16, timeout: &str| {
        format!(
            "[functions.{name}]\nurl = \"http://127.0.0.1:{port}/chains/answers\"\ntimeout = \"{timeout}\"\n"
        )
    };
    [
        ours("top", r#"["near", "away", "slow", "nobody"]"#),
        ours("near", r#"["away"]"#),
        away("away", port, "20s"),
        away("slow", port, "300ms"),
        // Nothing listens there.
        away("nobody", 1, "20s"),
        format!(
            "[workflows.w]\nentry = \"top\"\nisolation = \"{isolation}\"\nregion = \"64KiB\"\n"
        ),
        "[chains.step]\nsteps = [\"near\", \"away\"]\nregion = \"64KiB\"\n".into(),
    ]
    .concat()
}

#[test]
fn a_function_elsewhere_is_called_as_one_that_is_here() {
    let far = there();
    for isolation in ["invocation", "chain"] {
        let here = Server::with(&file(far.address.port(), isolation), &["--workers", "1"]);
        let said = |script: &str| {
            let r = here.post("w", script.as_bytes());
            assert_eq!(r.status, 200, "{script}: {}", text(&r.body));
            text(&r.body)
        };
        for (script, parts) in [
            ("call away {say hello}", vec!["hello"]),
            ("place away {say hello}", vec!["hello"]),
            (
                "call away {say one};call near {call away {say two}};call away {say three}",
                vec!["one", "two", "three"],
            ),
            (
                "attr away x-one 1;call away {attrs};call away {attrs}",
                vec!["(x-one=1)"],
            ),
            (
                "start away {say a};start away {say b};finish 1;finish 0",
                vec!["b", "a"],
            ),
            ("call away {fill 65000}", vec!["ffff"]),
            // Its own error, and what keeps it from being run, are told apart.
            (
                "call away {fail 404 of mine};say on",
                vec!["[1 404 away: ", "of mine", "]on"],
            ),
            ("call away {crash};say on", vec!["[8 0 away: ", "]on"]),
            ("call nobody {say x};say on", vec!["[8 0 nobody: ", "]on"]),
            (
                "call away {fill 65537};say on",
                vec!["[8 0 away: ", "region", "]on"],
            ),
            (
                "call slow {spin 5000};say on",
                vec!["[3 0 slow: overran its timeout of 300ms]on"],
            ),
            ("big away 65537", vec!["[6 0 away: "]),
        ] {
            let answer = said(script);
            let mut rest = answer.as_str();
            for part in parts {
                let at = rest.find(part);
                let at =
                    at.unwrap_or_else(|| panic!("{isolation}: {script}: no {part:?} in {answer}"));
                rest = &rest[at + part.len()..];
            }
        }
        // One is as another: nothing of the first call's attributes goes with the next.
        let answer = said("attr away x-one 1;call away {attrs};call away {attrs}");
        assert_eq!(answer.matches("x-one").count(), 1, "{answer}");
        // What is not handled fails the request, with the path.
        let r = here.post("w", b"must near {must away {crash}}");
        let problem = r.problem();
        assert_eq!(r.told(), (502, "remote".into()));
        assert_eq!(problem["function"], "away", "{problem}");
        assert_eq!(problem["path"], serde_json::json!(["top", "near", "away"]));
        // As a step, too.
        let r = here.post("step", b"say say stepped");
        assert_eq!((r.status, text(&r.body).as_str()), (200, "stepped"));
    }
}

#[test]
fn where_nobody_reaches_elsewhere_it_is_said() {
    let folder = Folder::new(&file(1, "invocation"));
    // A chain with such a step is not run at all; a call of one fails.
    let out = folder.run(&["w"], &["call away {say x};say on"]);
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert!(
        stdout.starts_with("[8 0 away: ") && stdout.ends_with("]on"),
        "{stdout} {stderr}"
    );
    assert!(stdout.contains("only `serve` reaches it"), "{stdout}");
    let out = folder.run(&["step"], &["say x"]);
    assert!(
        text(&out.stderr).contains("http://127.0.0.1:1/chains/answers"),
        "{out:?}"
    );

    let run = |command: &str| {
        let out = orchestrator()
            .arg(command)
            .arg(folder.path("chain.toml"))
            .output()
            .unwrap();
        (out.status.success(), text(&out.stdout), text(&out.stderr))
    };
    let (ok, shown, stderr) = run("check");
    assert!(ok, "{stderr}");
    let line = "away, elsewhere (http://127.0.0.1:1/chains/answers): arguments top rw, root r; reply root rw, top r";
    assert!(shown.contains(line), "{shown}");
}

/// What the root has for a call that leaves is its caller's and nobody else's: functions
/// of a chain that is brought to life later have it not.
#[test]
fn regions_of_calls_elsewhere_are_in_no_other_chain() {
    let script = home().join("tests/hostile/script.c");
    let folder = Folder::new(&format!(
        r#"
[functions.asks]
source = {script:?}
handler = "script"
calls = ["far"]
[functions.far]
url = "http://127.0.0.1:1/"
[workflows.first]
entry = "asks"
[chains.second]
steps = ["asks"]
"#
    ));
    let out = orchestrator()
        .args(["audit", "--json"])
        .arg(folder.path("chain.toml"))
        .output()
        .unwrap();
    let found = text(&out.stdout);
    assert!(found.contains("pages of other chains") || cfg!(not(target_os = "linux")));
    assert!(out.status.success(), "{found}{}", text(&out.stderr));
}
