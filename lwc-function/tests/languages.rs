//! The same function in C, C++ and Rust, called by a host made for the test.

mod compile;

use compile::compile;
use lwc_function::abi::{
    ABI, Handler, HostCalls, Initialiser, Outcome, RawInvocation, RawReply, RawSetup, UNHANDLED,
};
use lwc_function::testing::{Answer, TestHost};
use lwc_function::{Error, Invocation, Level, Result, Setup};
use std::ffi::c_int;
use std::io::Write;
use std::time::Duration;

fn call(handler: Handler, input: &[u8], capacity: usize) -> Answer {
    let host = TestHost::new()
        .secret("KEY", "abc")
        .attribute("x-first", "1")
        .attribute("x-in", "a text")
        .content_type("text/plain")
        .id("id-7")
        .remaining(Duration::from_nanos(600))
        .capacity(capacity);
    // SAFETY: the functions of this test are handlers.
    unsafe { host.call_handler(handler, input) }
}

/// What each of the three does: "id remaining secret input", or an error for
/// the input "fail".
fn check(handler: Handler) {
    let ok = call(handler, b"input", 64);
    assert_eq!(ok.message, "");
    assert_eq!(String::from_utf8(ok.bytes).unwrap(), "id-7 600 abc input");
    assert_eq!((ok.code, ok.content_type.as_str()), (0, "text/x-echo"));
    assert_eq!(ok.log, [(3, "5 bytes of text/plain".to_owned())]);
    let failed = call(handler, b"fail", 64);
    assert_eq!((failed.code, failed.message.as_str()), (42, "asked to"));
    let full = call(handler, b"input", 8);
    assert_eq!(full.code, 413);
    assert!(
        full.message.contains("does not fit its region"),
        "{}",
        full.message
    );
}

/// What each of the three does: x-in goes back as x-out, with status 201; for
/// the input "bad", an attribute that cannot be set.
fn check_tag(handler: Handler) {
    let ok = call(handler, b"", 64);
    let want = [("x-out", "a text"), (":status", "201")];
    assert_eq!(ok.code, 0);
    assert_eq!(
        ok.attributes,
        want.map(|(n, v)| (n.to_owned(), v.to_owned()))
    );
    let bad = call(handler, b"bad", 64);
    assert_eq!(bad.code, 500);
    assert!(bad.message.contains("Bad"), "{}", bad.message);
}

/// What each of the three does: it ends the request with a status of its own.
fn check_gate(handler: Handler) {
    // SAFETY: the functions of this test are handlers.
    let call = |host: TestHost| unsafe { host.call_handler(handler, b"in") };
    let ended = call(TestHost::new().ends_request());
    let status = [(":status".to_owned(), "401".to_owned())];
    assert_eq!((ended.code, ended.ended), (0, true), "{}", ended.message);
    assert_eq!(ended.attributes, status);
    assert_eq!(ended.bytes, b"no");
    let callee = TestHost::new().ends_request().caller("another");
    for host in [TestHost::new(), callee] {
        let refused = call(host);
        assert_eq!((refused.code, refused.ended), (500, false));
        assert!(
            refused.message.contains("may not end the request"),
            "{}",
            refused.message
        );
    }
}

/// What two of the three do: a number in, its double out.
fn check_typed(handler: Handler) {
    let ok = call(handler, b"21", 64);
    assert_eq!(
        (ok.code, &ok.bytes[..], &*ok.content_type),
        (0, &b"42"[..], "text/x-number")
    );
    let bad = call(handler, b"x", 64);
    assert_eq!(bad.code, 400, "{}", bad.message);
    assert!(bad.message.starts_with("the input: "), "{}", bad.message);
    assert!(bad.bytes.is_empty());
    assert_eq!(call(handler, b"21", 1).code, 413);
}

fn tag(inv: &mut Invocation<'_>) -> Result<()> {
    if inv.input() == b"bad" {
        return inv.reply_attribute("Bad", "");
    }
    assert_eq!(inv.attributes().count(), 2);
    assert_eq!(inv.attribute("x-none"), None);
    let value = inv.attribute("x-in").unwrap_or("none");
    inv.reply_attribute("x-out", value)?;
    inv.reply_status(201)
}
lwc_function::event_handler!(tag_rust, tag);

fn gate(inv: &mut Invocation<'_>) -> Result<()> {
    inv.end_request()?;
    inv.reply_status(401)?;
    Ok(write!(inv, "no")?)
}
lwc_function::handler!(gate_rust, gate);

fn twice(n: u32) -> Result<u32> {
    Ok(2 * n)
}
fn parse(bytes: &[u8]) -> std::result::Result<u32, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    text.parse().map_err(|e| format!("{e}"))
}
fn format_number(n: &u32) -> std::result::Result<Vec<u8>, std::fmt::Error> {
    Ok(n.to_string().into_bytes())
}
lwc_function::typed_handler!(twice_rust, "text/x-number", parse, twice, format_number);
unsafe extern "C" {
    fn gate_rust(raw: *mut RawInvocation) -> c_int;
    fn tag_rust(raw: *mut RawInvocation) -> c_int;
    fn twice_rust(raw: *mut RawInvocation) -> c_int;
    static tag_rust_cloudevent: c_int;
    static tag_rust_abi: u32;
    static twice_rust_abi: u32;
}

fn echo(inv: &mut Invocation<'_>) -> Result<()> {
    inv.log(
        Level::Info,
        format!("{} bytes of {}", inv.input().len(), inv.input_type()),
    );
    match inv.input() {
        b"fail" => return Err(Error::new(42, "asked to")),
        b"panic" => panic!("at {}", inv.id()),
        _ => {}
    }
    assert!(inv.secret("OTHER").is_none());
    let key = inv.secret("KEY").ok_or(Error::new(1, "no key"))?;
    let left = inv.remaining().map_or(0, |d| d.as_nanos());
    write!(inv, "{} {left} ", inv.id())?;
    inv.write_all(key)?;
    inv.write_all(b" ")?;
    inv.write_all(inv.input())?;
    inv.reply_type("text/x-echo");
    Ok(())
}

fn prepare(setup: &Setup<'_>) -> Result<()> {
    assert!(setup.secret("KEY").is_some(), "no key");
    match setup.secret("OTHER") {
        Some(_) => Ok(()),
        None => Err(Error::new(7, "no other")),
    }
}
lwc_function::handler!(echo_rust, echo, init = prepare);
unsafe extern "C" {
    fn echo_rust(raw: *mut RawInvocation) -> c_int;
    fn echo_rust_init(raw: *mut RawSetup) -> c_int;
}

/// Functions with the names that are natural for what they are.
mod natural_names {
    use super::*;

    fn handler(inv: &mut Invocation<'_>) -> Result<()> {
        echo(inv)
    }
    fn init(setup: &Setup<'_>) -> Result<()> {
        prepare(setup)
    }
    lwc_function::handler!(natural_rust, handler, init = init);

    fn typed(n: u32) -> Result<u32> {
        twice(n)
    }
    lwc_function::typed_handler!(typed_rust, "text/x-number", parse, typed, format_number);

    unsafe extern "C" {
        pub fn natural_rust(raw: *mut RawInvocation) -> c_int;
        pub fn natural_rust_init(raw: *mut RawSetup) -> c_int;
        pub fn typed_rust(raw: *mut RawInvocation) -> c_int;
    }
}

const C: &str = r#"
#include "lwc_function.h"
LWC_INIT(echo_c)
{
	size_t n = 0;

	if (lwc_setup_secret(setup, "KEY", &n) == NULL || n != 3)
		return (lwc_setup_fail(setup, 1, "no key"));
	if (lwc_setup_secret(setup, "OTHER", &n) == NULL)
		return (lwc_setup_fail(setup, 7, "no %s", "other"));
	return (0);
}
LWC_HANDLER(echo_c)
{
	size_t n = 0;
	const uint8_t *key;
	char head[64];
	int len;

	lwc_log(inv, LWC_INFO, "%zu bytes of %s", inv->input_len, inv->input_type);
	if (inv->input_len == 4 && memcmp(inv->input, "fail", 4) == 0)
		return (lwc_fail(inv, 42, "asked %s", "to"));
	if (lwc_secret(inv, "OTHER", &n) != NULL || (key = lwc_secret(inv, "KEY", &n)) == NULL)
		return (lwc_fail(inv, 1, "no key"));
	len = snprintf(head, sizeof(head), "%s %llu ", inv->id, (unsigned long long)lwc_remaining(inv));
	if (lwc_append(inv, head, (size_t)len) != 0 || lwc_append(inv, key, n) != 0 ||
	    lwc_append(inv, " ", 1) != 0 || lwc_append(inv, inv->input, inv->input_len) != 0)
		return (inv->status);
	lwc_reply_type(inv, "text/x-echo");
	return (0);
}
LWC_EVENT_HANDLER(tag_c)
{
	const char *value = lwc_attribute(inv, "x-in");

	if (inv->input_len == 3)
		return (lwc_reply_attribute(inv, "Bad", ""));
	if (value == NULL || lwc_attribute(inv, "x-none") != NULL)
		return (lwc_fail(inv, 1, "attributes"));
	if (lwc_reply_attribute(inv, "x-out", value) != 0 || lwc_reply_status(inv, 201) != 0)
		return (inv->status);
	return (0);
}
LWC_HANDLER(gate_c)
{
	if (lwc_reply_status(inv, 401) != 0 || lwc_append(inv, "no", 2) != 0)
		return (inv->status);
	return (lwc_end_request(inv));
}
"#;

const CPP: &str = r#"
#include "lwc_function.hpp"
#include <vector>
LWC_FUNCTION(echo_cpp, [](lwc::Invocation &inv) {
	inv.log(LWC_INFO, std::to_string(inv.input().size()) + " bytes of " + std::string(inv.input_type()));
	if (inv.input() == "fail")
		throw lwc::Error(42, "asked to");
	if (inv.input() == "memory")
		std::vector<char> v(static_cast<size_t>(-1) / 4);
	if (inv.input() == "throw")
		throw 7;
	auto key = inv.secret("KEY");
	if (!key || inv.secret("OTHER"))
		throw lwc::Error(1, "no key");
	inv.append(std::string(inv.id()) + " " + std::to_string(inv.remaining()) + " ");
	inv.append(*key);
	inv.append(" ");
	inv.append(inv.input());
	inv.reply_type("text/x-echo");
})
LWC_EVENT_FUNCTION(tag_cpp, [](lwc::Invocation &inv) {
	if (inv.input() == "bad")
		inv.reply_attribute("Bad", "");
	if (inv.attribute("x-none"))
		throw lwc::Error(1, "attributes");
	inv.reply_attribute("x-out", std::string(inv.attribute("x-in").value()));
	inv.reply_status(201);
})
LWC_FUNCTION(gate_cpp, [](lwc::Invocation &inv) {
	inv.reply_status(401);
	inv.end_request();
	inv.append("no");
})
static int parse(std::string_view in) { return std::stoi(std::string(in)); }
LWC_TYPED_FUNCTION(twice_cpp, "text/x-number", parse, [](int n) { return 2 * n; },
    [](int n) { return std::to_string(n); })
"#;

/// The version that each handler exports.
fn check_versions(library: &libloading::Library, handlers: &[&str]) {
    for handler in handlers {
        let symbol = format!("{handler}_abi");
        // SAFETY: the symbol is a number by the header that compiled it.
        let version = unsafe { **library.get::<*const u32>(symbol.as_bytes()).unwrap() };
        assert_eq!(version, ABI, "{handler}");
    }
}

/// Each initialiser finds KEY and fails with 7 for want of OTHER.
fn check_init(init: Initialiser) {
    let host = TestHost::new().secret("KEY", "abc");
    // SAFETY: the functions of this test have such initialisers.
    let failed = unsafe { host.call_initialiser(init) };
    assert_eq!(failed, (7, "no other".to_owned()));
}

#[test]
fn rust_functions_keep_the_abi() {
    check_init(echo_rust_init);
    check(echo_rust);
    let panicked = call(echo_rust, b"panic", 64);
    assert_eq!(panicked.code, 500);
    assert_eq!(panicked.message, "panicked: at id-7");
    check_tag(tag_rust);
    check_gate(gate_rust);
    check_typed(twice_rust);
    check_init(natural_names::natural_rust_init);
    check(natural_names::natural_rust);
    check_typed(natural_names::typed_rust);
    // SAFETY: a constant that nobody writes.
    assert_eq!(unsafe { tag_rust_cloudevent }, 1);
    // SAFETY: as above.
    assert_eq!(unsafe { [tag_rust_abi, twice_rust_abi] }, [ABI; 2]);
}

#[test]
fn c_functions_keep_the_abi() {
    let dir = tempfile::tempdir().unwrap();
    let library = compile(dir.path(), "cc", "-std=c11", "echo.c", C);
    check_versions(&library, &["echo_c", "tag_c"]);
    // SAFETY: the symbol is an initialiser by the header that compiled it.
    check_init(*unsafe { library.get::<Initialiser>(b"echo_c_init") }.unwrap());
    // SAFETY: the symbol is a handler by the header that compiled it.
    check(*unsafe { library.get::<Handler>(b"echo_c") }.unwrap());
    // SAFETY: as above.
    check_tag(*unsafe { library.get::<Handler>(b"tag_c") }.unwrap());
    // SAFETY: as above.
    check_gate(*unsafe { library.get::<Handler>(b"gate_c") }.unwrap());
    // SAFETY: the mark is an int by the same header.
    let mark = unsafe { **library.get::<*const c_int>(b"tag_c_cloudevent").unwrap() };
    assert_eq!(mark, 1);
}

#[test]
fn cpp_functions_keep_the_abi_and_their_exceptions() {
    let dir = tempfile::tempdir().unwrap();
    let library = compile(dir.path(), "c++", "-std=c++17", "echo.cpp", CPP);
    check_versions(&library, &["echo_cpp", "tag_cpp", "twice_cpp"]);
    // SAFETY: as above.
    let handler = *unsafe { library.get::<Handler>(b"echo_cpp") }.unwrap();
    check(handler);
    assert_eq!(call(handler, b"memory", 64).code, 507);
    let odd = call(handler, b"throw", 64);
    assert_eq!(
        (odd.code, odd.message.as_str()),
        (500, "an exception of unknown type")
    );
    // SAFETY: as above.
    check_tag(*unsafe { library.get::<Handler>(b"tag_cpp") }.unwrap());
    // SAFETY: as above.
    check_gate(*unsafe { library.get::<Handler>(b"gate_cpp") }.unwrap());
    // SAFETY: as above.
    check_typed(*unsafe { library.get::<Handler>(b"twice_cpp") }.unwrap());
}

#[test]
fn the_rust_structures_are_laid_out_as_the_header_says() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"
#include "lwc_function.h"
#define O(f) offsetof(lwc_invocation, f)
size_t layout[] = { sizeof(lwc_invocation), O(status), O(host), O(calls), O(input), O(input_len),
	O(input_type), O(output), O(output_capacity), O(output_len), O(id), O(deadline),
	O(output_type), O(error), sizeof(lwc_setup), offsetof(lwc_setup, error),
	sizeof(struct lwc_host_calls), LWC_FUNCTION_ABI,
#define R(f) offsetof(lwc_reply, f)
	sizeof(lwc_reply), R(outcome), R(code), R(function), R(message), R(data), R(len), R(type),
	R(attributes), R(reserved),
#define C(f) offsetof(struct lwc_host_calls, f)
	C(secret), C(log), C(now), C(attribute), C(reply_attribute), C(call_buffer), C(call_attribute),
	C(call), C(call_start), C(call_finish), C(attribute_of_reply), C(caller), C(end_request),
	LWC_ANSWERED, LWC_REPORTED, LWC_CRASHED, LWC_TIMED_OUT, LWC_DEADLINE_PASSED, LWC_REFUSED,
	LWC_TOO_BIG, LWC_TOO_MANY, LWC_UNAVAILABLE, (size_t)LWC_UNHANDLED };
size_t count = sizeof(layout) / sizeof(layout[0]);
"#;
    let library = compile(dir.path(), "cc", "-std=c11", "layout.c", text);
    macro_rules! o {
        ($of:ident: $($f:ident)*) => { [$(std::mem::offset_of!($of, $f)),*] };
    }
    let mut ours = vec![size_of::<RawInvocation>()];
    ours.extend(o!(RawInvocation: status host calls input input_len input_type output output_capacity output_len id deadline output_type error));
    ours.extend([
        size_of::<RawSetup>(),
        std::mem::offset_of!(RawSetup, error),
        size_of::<HostCalls>(),
        ABI as usize,
        size_of::<RawReply>(),
    ]);
    ours.extend(
        o!(RawReply: outcome code function message data len content_type attributes reserved),
    );
    ours.extend(o!(HostCalls: secret log now attribute reply_attribute call_buffer call_attribute call call_start call_finish attribute_of_reply caller end_request));
    let outcomes = [
        Outcome::Answered,
        Outcome::Reported,
        Outcome::Crashed,
        Outcome::TimedOut,
        Outcome::DeadlinePassed,
        Outcome::Refused,
        Outcome::TooBig,
        Outcome::TooMany,
        Outcome::Unavailable,
    ];
    ours.extend(outcomes.map(|outcome| outcome as usize));
    ours.push(UNHANDLED as usize);
    for outcome in outcomes {
        assert_eq!(Outcome::from_raw(outcome as i32), outcome);
    }
    assert_eq!(Outcome::from_raw(9), Outcome::Unavailable);
    // SAFETY: the symbols are a number and an array of that many by the text above.
    let theirs = unsafe {
        let count = **library.get::<*const usize>(b"count").unwrap();
        let layout = *library.get::<*const usize>(b"layout").unwrap();
        std::slice::from_raw_parts(layout, count)
    };
    assert_eq!(ours, theirs);
}
