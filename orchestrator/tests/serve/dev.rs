//! `dev`: what is saved is served, what is wrong is on the page.

use super::page::{browser, dom};
use crate::common::{Folder, home, orchestrator};
use crate::server::Server;
use serde_json::Value;

const FILE: &str = "[functions.f]\nsource = \"f.c\"\n[chains.main]\nsteps = [\"f\"]\n";

/// A function that answers so.
fn answers(word: &str) -> String {
    format!(
        "#include <lwc_function.h>\nLWC_HANDLER(f) {{ return (lwc_append(inv, \"{word}\", {})); }}\n",
        word.len()
    )
}

fn dev(file: &str, source: &str) -> Server {
    let folder = Folder::new(file);
    folder.write("f.c", source);
    let mut command = orchestrator();
    command.arg("dev").arg(folder.path("chain.toml"));
    command.args(["--listen", "127.0.0.1:0"]);
    Server::spawn(folder, command)
}

fn noted(server: &Server) -> Value {
    let status = server.get("/status.json");
    let status: Value = serde_json::from_slice(&status.body).unwrap();
    status["dev"].clone()
}

#[test]
fn what_is_saved_is_served_and_what_is_wrong_is_shown() {
    let server = dev(FILE, &answers("one"));
    assert_eq!(server.post("main", b"").body, b"one");
    assert_eq!(noted(&server)["refused"], Value::Null);

    // A function that does not compile: the old one is served on.
    server
        .folder
        .write("f.c", answers("two").replace("(inv,", "(invv,"));
    let refused = || {
        noted(&server)["refused"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    server.until("the compiler's words", || refused().contains("invv"));
    assert!(refused().contains("f.c:2"), "{}", refused());
    assert_eq!(server.post("main", b"").body, b"one");

    // A file with errors: those take their place.
    server.folder.write("f.c", answers("two"));
    server
        .folder
        .write("chain.toml", FILE.replace("steps", "stepps"));
    server.until("the parser's words", || {
        refused().contains("unknown key \"stepps\"")
    });
    assert!(refused().contains("did you mean \"steps\"?") && !refused().contains("invv"));
    if let Some(browser) = browser() {
        let page = dom(
            &browser,
            &server,
            &["--virtual-time-budget=4000"],
            server.address,
        );
        assert!(page.contains("Not served: the file as it is now"), "{page}");
        assert!(page.contains("did you mean \"steps\"?"), "{page}");
    }

    server.folder.write("chain.toml", FILE);
    server.until("the new function", || {
        server.post("main", b"").body == b"two"
    });
    server.until("nothing to be wrong", || {
        noted(&server)["refused"] == Value::Null
    });
}

#[test]
fn the_last_failures_are_shown_with_their_paths() {
    let script = home().join("tests/hostile/script.c");
    let file = format!(
        "[functions.top]\nsource = {script:?}\nhandler = \"script\"\ncalls = [\"f\"]\n\
         [functions.f]\nsource = {script:?}\nhandler = \"script\"\n[workflows.main]\nentry = \"top\"\n"
    );
    let server = dev(&file, "");
    assert_eq!(
        server
            .post("main", b"must f {fail 418 <b>no tea</b>}")
            .status,
        418
    );
    // None is refused for it, however often.
    for _ in 0..12 {
        assert_eq!(server.post("main", b"must f {crash}").status, 502);
    }
    let noted = noted(&server);
    let failures = noted["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 13);
    let (last, first) = (&failures[0], &failures[12]);
    assert_eq!(
        (&last["cause"], &last["status"]),
        (&"crash".into(), &502.into())
    );
    assert_eq!(last["path"], serde_json::json!(["top", "f"]));
    let detail = first["detail"].as_str().unwrap();
    assert!(detail.contains("<b>no tea</b>"), "{detail}");
    // Each function alone, too.
    assert_eq!(
        server.request("POST", "/functions/f", &[], b"say x").body,
        b"x"
    );
    if let Some(browser) = browser() {
        let page = dom(
            &browser,
            &server,
            &["--virtual-time-budget=4000"],
            server.address,
        );
        assert!(page.contains("<b>502 crash</b> main: top → f: "), "{page}");
        assert!(
            page.contains("&lt;b&gt;no tea&lt;/b&gt;"),
            "text, whatever it says"
        );
    }
}

/// Nobody but a developer is shown what functions and compilers say.
#[test]
fn a_server_for_others_shows_neither() {
    let server = Server::start(&["--workers", "1"]);
    assert_eq!(server.post("trial", b"no such command").status, 400);
    assert_eq!(noted(&server), Value::Null);
}
