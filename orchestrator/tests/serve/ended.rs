//! Requests that end before their chain does: with a status of a function's own, or
//! because one failed and another was told.

use crate::common::home;
use crate::server::{Server, chains};

/// `gated` is two steps, of which the first may end a request; `told` has a function
/// that is told when one fails.
fn server() -> Server {
    let script = home().join("tests/hostile/script.c");
    let script = script.display();
    let more = format!(
        r#"
[functions.gate]
source = "{script}"
handler = "script"
ends_request = true
timeout = "10m"

[functions.behind]
source = "{script}"
handler = "script"

[functions.cleanup]
source = "{script}"
handler = "told"

[chains.gated]
steps = ["gate", "behind"]
region = "64KiB"

[chains.reused]
steps = ["gate", "behind"]
isolation = "chain"
region = "64KiB"

[chains.told]
steps = ["gate", "behind"]
on_error = "cleanup"
region = "64KiB"
"#
    );
    Server::with(&chains(&more), &["--workers", "1"])
}

#[test]
fn a_function_answers_with_a_status_of_its_own() {
    let server = server();
    for chain in ["gated", "reused", "told"] {
        let r = server.post(
            chain,
            b"set :status 401;set www-authenticate Bearer;type text/x-who;say who is it?;end",
        );
        assert_eq!(
            (r.status, &r.body[..]),
            (401, &b"who is it?"[..]),
            "{chain}"
        );
        assert_eq!(r.headers["www-authenticate"], "Bearer");
        assert_eq!(r.headers["content-type"], "text/x-who");
        let r = server.post(chain, b"set :status 304;set etag \"7\";end");
        assert_eq!((r.status, &r.body[..]), (304, &b""[..]), "{chain}");
        assert_eq!(r.headers["etag"], "\"7\"");
        let r = server.post(chain, b"set :status 302;set location /elsewhere;end");
        assert_eq!((r.status, &r.body[..]), (302, &b""[..]), "{chain}");
        assert_eq!(r.headers["location"], "/elsewhere");
        // The next one runs to its end, and a status of a step's in the middle is
        // nobody's.
        let r = server.post(chain, b"set :status 401;then {say through}");
        assert_eq!((r.status, &r.body[..]), (200, &b"through"[..]), "{chain}");
        // Answers, all of them.
        let of = |metric: &str| server.metric(&format!("{metric}{{chain=\"{chain}\"}}"));
        assert_eq!(of("faas_invocations_total"), Some(4.0));
        let errors = format!("faas_errors_total{{chain=\"{chain}\",cause=\"error\"}}");
        assert_eq!(server.metric(&errors), Some(0.0));
    }
}

#[test]
fn a_failure_is_answered_by_the_function_that_was_told() {
    let server = server();
    for (script, status, says) in [
        ("fail 7 told: {say cleaned}", 500, "cleaned"),
        ("fail 404 told: {say cleaned}", 404, "cleaned"),
        ("then {crash}", 502, ":failed-cause=crash"),
        (
            "fail 7 told: {set :status 503;set retry-after 9;say later}",
            503,
            "later",
        ),
        // What is no status changes nothing.
        ("fail 7 told: {set :status 700;say odd}", 500, "odd"),
        // Whoever wants to hide it may.
        ("fail 7 told: {set :status 200;say fine}", 200, "fine"),
        ("fail 7 told: {set :status 303}", 303, ""),
    ] {
        let r = server.post("told", script.as_bytes());
        let body = String::from_utf8(r.body.clone()).unwrap();
        assert_eq!(r.status, status, "{script}: {body}");
        assert!(body.contains(says), "{script}: {body}");
        assert_eq!(r.headers["content-type"], "application/json");
        assert!(r.headers.contains_key("x-invocation-id"));
        if status == 503 {
            assert_eq!(r.headers["retry-after"], "9");
        }
    }
    // It is a failure all the same, by the metrics and the log.
    let failed = |cause: &str| {
        server.metric(&format!(
            "faas_errors_total{{chain=\"told\",cause=\"{cause}\"}}"
        ))
    };
    assert_eq!((failed("error"), failed("crash")), (Some(6.0), Some(1.0)));
    assert!(server.log().contains("500 error after"), "{}", server.log());
    // The function that was told has nothing to say, or fails itself.
    for script in [
        "fail 7 told: {say }",
        "fail 7 told: {crash}",
        "fail 7 told: {spin 60000}",
    ] {
        let r = server.post("told", script.as_bytes());
        assert_eq!(r.told(), (500, "error".to_owned()), "{script}");
        assert_eq!(r.problem()["function"], "gate");
    }
    assert!(
        server
            .log()
            .contains("told by on_error that \"gate\" failed, failed itself")
    );
    let r = server.post("told", b"then {say through}");
    assert_eq!((r.status, &r.body[..]), (200, &b"through"[..]));
}

/// Its time is what is left, and a second more.
#[test]
fn a_function_that_is_told_of_a_deadline_has_a_little_more_time() {
    let server = server();
    let late = [("Request-Timeout", "0.3")];
    let ask = |script: &str| server.request("POST", "/chains/told", &late, script.as_bytes());
    let r = ask("spin 600000");
    let body = String::from_utf8(r.body.clone()).unwrap();
    assert_eq!(r.status, 504, "{body}");
    assert!(body.contains("(:failed-cause=deadline)"), "{body}");
    // No more than that; nor more than its own timeout, which is a second as well.
    let r = ask("fail 7 told: {spin 600000}");
    assert_eq!(r.told(), (500, "error".to_owned()));
}
