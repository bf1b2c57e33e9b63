//! `invoke` beside a server: what people and programs learn of one request.

use crate::common::{orchestrator, text};
use crate::server::{Server, with_tree};
use std::process::Output;

/// Asks a server's chain by the command line.
fn invoke(server: &Server, url: &str, name: &str, input: &str, more: &[&str]) -> Output {
    let input = server.folder.write("asked", input);
    let mut command = orchestrator();
    command.args(["invoke", name, "--url", url]).args(more);
    command.arg("--input").arg(input).output().unwrap()
}

#[test]
fn an_answer_comes_with_its_tree_and_a_failure_with_its_path() {
    let server = Server::with(&with_tree(), &["--workers", "1"]);
    let url = format!("http://{}", server.address);
    let ask = |name: &str, input: &str, more: &[&str]| invoke(&server, &url, name, input, more);

    let out = ask(
        "tree",
        "must left {must deep {say x}};times 3 right {say y}",
        &[],
    );
    let told = text(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{told}");
    assert_eq!(text(&out.stdout), "x3;y");
    for part in [
        "200 OK, 4 bytes of ",
        "invocation ",
        "step 1 top: ",
        "  → left: ",
        "    → deep: ",
        " 1 call\n",
        ", 3 calls\n",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }

    let out = ask("tree", "must left {must deep {crash}}", &[]);
    let told = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{told}");
    assert!(told.starts_with("502 Bad Gateway, "), "{told}");
    for part in [
        "\ncrash: ",
        "\npath top → left → deep\n",
        "\nstep top\n  → left: ",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(text(&out.stdout).contains("\"cause\":\"crash\""));

    let out = ask("tree", "must left {fail 418 no\u{1b}[2Jtea}", &["--json"]);
    assert_eq!(out.status.code(), Some(1));
    let told = text(&out.stderr);
    assert!(!told.contains('\u{1b}'), "nothing changes the terminal");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["ok"], &told["status"]), (&false.into(), &418.into()));
    assert_eq!(told["problem"]["path"], serde_json::json!(["top", "left"]));
    let call = &told["calls"][0];
    assert_eq!(
        (&call["caller"], &call["callee"]),
        (&"top".into(), &"left".into())
    );

    // A path of the server's, and what a server does not have.
    let out = ask(
        "/chains/pair",
        "abc",
        &["--content-type", "text/plain", "--header", "x-a: b"],
    );
    assert_eq!(text(&out.stdout), "CBA", "{}", text(&out.stderr));
    let out = ask("none", "", &[]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text(&out.stderr).contains("unknown-chain: "),
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn times_are_told_of_one_request_alone_and_metrics_may_be_elsewhere() {
    let server = Server::start(&["--workers", "1", "--admin", "127.0.0.1:0"]);
    let url = format!("http://{}", server.address);
    // They are not at the callers' address.
    let out = invoke(&server, &url, "pair", "abc", &["--json"]);
    let told: serde_json::Value = serde_json::from_str(&text(&out.stderr)).unwrap();
    assert_eq!(
        (told["bytes"].as_u64(), told.get("steps")),
        (Some(3), None),
        "{told}"
    );
    let admin = format!("http://{}", server.admin().address);
    let out = invoke(&server, &url, "pair", "abc", &["--json", "--admin", &admin]);
    let told: serde_json::Value = serde_json::from_str(&text(&out.stderr)).unwrap();
    let steps = told["steps"].as_array().unwrap();
    let functions: Vec<_> = steps
        .iter()
        .map(|s| s["function"].as_str().unwrap())
        .collect();
    assert_eq!(functions, ["upper", "reverse"]);

    let mut gone = Server::start(&["--workers", "1"]);
    gone.kill();
    gone.wait();
    let url = format!("http://{}", gone.address);
    let out = invoke(&gone, &url, "pair", "abc", &[]);
    assert_eq!(out.status.code(), Some(4), "{}", text(&out.stderr));
    assert!(out.stdout.is_empty() && text(&out.stderr).contains(&url));
    let out = invoke(&gone, "https://127.0.0.1", "pair", "abc", &[]);
    assert_eq!(out.status.code(), Some(2), "no TLS");
}
