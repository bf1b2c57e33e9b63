//! Functions that are written to the Functions Framework for C++ and know nothing of lwc.

mod common;

use common::server::Server;
use common::{Folder, orchestrator, text};

const HTTP: &str = r#"
#include <google/cloud/functions/function.h>
#include <google/cloud/functions/http_request.h>
#include <google/cloud/functions/http_response.h>
#include <stdexcept>
#include <string>

namespace gcf = ::google::cloud::functions;

namespace deep::in {

gcf::Function Greet()
{
	return gcf::MakeFunction([](const gcf::HttpRequest &request) {
		if (request.verb() != "POST")
			return gcf::HttpResponse{}
			    .set_result(gcf::HttpResponse::kMethodNotAllowed)
			    .set_header("Allow", "POST");
		std::string type = "none";
		if (auto f = request.headers().find("content-type"); f != request.headers().end())
			type = f->second;
		if (request.payload() == "throw")
			throw std::runtime_error("asked to");
		return gcf::HttpResponse{}
		    .set_header("Content-Type", "text/x-greeting")
		    .set_header("X-From", "Greet")
		    .set_payload(request.target() + " " + type + " " + request.payload());
	});
}

} // namespace deep::in

gcf::HttpResponse plain(gcf::HttpRequest request)
{
	gcf::HttpResponse response;
	response.set_payload(std::string(std::move(request).payload()) + "!");
	response.set_header("content-type", "text/plain");
	return response;
}
"#;

const EVENT: &str = r#"
#include <google/cloud/functions/cloud_event.h>
#include <iostream>

void hear(google::cloud::functions::CloudEvent event)
{
	auto since = event.time()->time_since_epoch();
	std::cout << "id: " << event.id() << ", subject: " << event.subject().value_or("none")
	          << ", data: " << event.data().value_or("none") << ", ms: "
	          << std::chrono::duration_cast<std::chrono::milliseconds>(since).count()
	          << std::endl;
}
"#;

const MANY: &str = r#"
#include <google/cloud/functions/framework.h>

namespace gcf = ::google::cloud::functions;

static gcf::HttpResponse says(const char *what)
{
	return gcf::HttpResponse{}.set_payload(what);
}

gcf::Function many()
{
	return gcf::MakeFunction(std::map<std::string, gcf::Function>{
	    {"one", gcf::MakeFunction([](const gcf::HttpRequest &) { return says("1"); })},
	    {"two", gcf::MakeFunction([](const gcf::HttpRequest &) { return says("2"); })},
	});
}

int main(int argc, char *argv[])
{
	return gcf::Run(argc, argv, many());
}
"#;

fn folder() -> Folder {
    let folder = Folder::new(
        "[functions.greet]\nsource = 'http.cc'\ntarget = 'deep::in::Greet'\n[functions.plain]\nsource = 'http.cc'\ntarget = 'plain'\n[functions.hear]\nsource = 'event.cc'\ntarget = 'hear'\nsignature = 'cloudevent'\n[functions.many]\nsource = 'many.cc'\ntarget = 'many'\nenv = { FUNCTION_TARGET = 'two' }\n[chains.greets]\nsteps = ['greet']\n[chains.plains]\nsteps = ['plain']\n[chains.hears]\nsteps = ['hear']\n[chains.manys]\nsteps = ['many']\n[chains.both]\nsteps = ['many', 'plain']\n",
    );
    folder.write("http.cc", HTTP);
    folder.write("event.cc", EVENT);
    folder.write("many.cc", MANY);
    folder
}

#[test]
fn its_functions_run_as_they_are() {
    let folder = folder();
    for (chain, input, answer) in [
        ("greets", "me", "/ application/octet-stream me"),
        ("plains", "so", "so!"),
        ("manys", "", "2"),
        ("both", "", "2!"),
    ] {
        let (answers, failures, said) = folder.outcomes(chain, &[input]);
        assert!(failures.is_empty(), "{chain}: {said}");
        assert_eq!(answers, answer, "{chain}: {said}");
    }
    let (_, failures, said) = folder.outcomes("greets", &["throw"]);
    assert_eq!(failures.len(), 1, "{said}");
    assert!(failures[0].to_string().contains("asked to"), "{said}");
}

#[test]
fn what_it_answers_is_the_http_answer() {
    let folder = folder();
    let mut command = orchestrator();
    command
        .args(["-v", "serve"])
        .arg(folder.path("chain.toml"))
        .args(["--listen", "127.0.0.1:0", "--workers", "1"]);
    let server = Server::spawn(folder, command);
    let typed = [("Content-Type", "text/x-in")];
    let answer = server.request("POST", "/chains/greets?c=d", &typed, b"me");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/x-greeting");
    assert_eq!(answer.headers["x-from"], "Greet");
    assert_eq!(text(&answer.body), "/chains/greets?c=d text/x-in me");
    let answer = server.request("GET", "/chains/greets", &[], b"");
    assert_eq!(answer.status, 405);
    assert_eq!(answer.headers["allow"], "POST");
    let event = [
        ("Content-Type", "text/plain"),
        ("ce-specversion", "1.0"),
        ("ce-id", "id-9"),
        ("ce-source", "//here"),
        ("ce-type", "a.b"),
        ("ce-time", "1970-01-01T00:00:01Z"),
    ];
    let answer = server.request("POST", "/chains/hears", &event, b"news");
    assert!(answer.status < 300, "{}", text(&answer.body));
    let heard = "id: id-9, subject: none, data: news, ms: 1000";
    assert!(server.log().contains(heard), "{}", server.log());
    // What is no event does not get there.
    let answer = server.request("POST", "/chains/hears", &typed, b"news");
    assert_eq!(answer.status, 400, "{}", text(&answer.body));
}

#[test]
fn targets_that_are_none_are_refused_by_name() {
    for (text_of, says, code) in [
        ("target = 'no-name'", "no name of a function", 2),
        ("target = 'a; } int evil() {'", "no name of a function", 2),
        ("target = 'f'\nhandler = 'g'", "from that", 2),
        ("signature = 'http'", "of a `target`", 2),
        ("target = 'f'\nsignature = 'typed'", "no signature", 2),
        ("target = 'nobody'", "no function nobody()", 4),
        ("target = 'hear'", "say signature = \"cloudevent\"", 4),
    ] {
        let folder = Folder::new(&format!(
            "[functions.f]\nsource = 'event.cc'\n{text_of}\n[chains.one]\nsteps = ['f']\n"
        ));
        folder.write("event.cc", EVENT);
        let out = folder.run(&[], &[""]);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{text_of}: {said}");
        assert!(said.contains(says), "{text_of}: {said}");
    }
}

#[test]
fn an_event_has_what_it_has() {
    let folder = folder();
    let input = folder.write("input", "data");
    let out = orchestrator()
        .arg("debug")
        .arg(folder.path("chain.toml"))
        .arg("hear")
        .arg(input)
        .args(["--attribute", "ce-id=7", "--attribute", "ce-subject=s"])
        .args(["--attribute", "ce-time=2026-11-27T06:24:20.25+01:00"])
        .output()
        .unwrap();
    let said = text(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(
        said.contains("id: 7, subject: s, data: data, ms: 1795757060250"),
        "{said}"
    );
}
