//! The same calls by functions in C, C++ and Rust, to closures of the test.

mod compile;

use compile::compile;
use lwc_function::abi::{Handler, Outcome, RawInvocation, UNHANDLED};
use lwc_function::testing::{Answer, Response, TestHost};
use lwc_function::{CallError, Callee, Error, Invocation, Result, TypedCallError};
use std::ffi::c_int;
use std::future::Future;
use std::io::Write;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const CAPACITY: usize = 256;

/// What each function of this test is given to call.
fn host() -> TestHost {
    TestHost::new()
        .capacity(CAPACITY)
        .callee("rates", |request| {
            let x_in = request.attribute("x-in").unwrap_or("-");
            let bytes = String::from_utf8_lossy(request.bytes);
            Response::new(format!("<{bytes}|{}|{x_in}>", request.content_type))
                .content_type("text/x-rates")
                .attribute("x-first", "1")
                .attribute("x-out", "out")
        })
        .callee("own", |_| {
            Response::error(42, "no such hotel")
                .bytes("details")
                .content_type("text/x-error")
                .attribute("x-out", "beside")
        })
        .callee("below", |_| {
            Response::failed(Outcome::TimedOut, "below -> geo: after 50 ms").by("geo")
        })
        .callee("crash", |_| panic!("a stand-in"))
        .callee("big", |_| Response::new([0; CAPACITY + 1]))
        .callee("many", |_| Response::failed(Outcome::TooMany, "256"))
        .callee("away", |_| Response::failed(Outcome::Unavailable, ""))
}

fn run(host: &TestHost, handler: Handler, input: &str) -> Answer {
    // SAFETY: the functions of this test are handlers.
    unsafe { host.call_handler(handler, input.as_bytes()) }
}

fn says(handler: Handler, input: &str, want: &str) {
    let answer = run(&host(), handler, input);
    assert_eq!(answer.message, "", "{input}");
    assert_eq!(
        (answer.code, &*String::from_utf8_lossy(&answer.bytes)),
        (0, want),
        "{input}"
    );
}

/// What a function of each language does, by its input.
fn check(handler: Handler) {
    // Bytes, content type and attributes, both ways.
    says(handler, "call", "<args|text/x-args|in>|text/x-rates|out");
    // Without any; what was set for the call before holds no more.
    says(handler, "plain", "<args|text/x-args|in><||-><||->");
    // In place, again and again, and longer than before.
    says(handler, "place", "<a||-><bb||in><ccc|text/x|->");
    // Three, finished in another order; one of them twice, and what is none.
    says(
        handler,
        "order",
        "<b||-><c||-><a|text/x|->5 not a ticket: 5",
    );
    // What a started call lends stays, whatever is called afterwards.
    says(handler, "stays", "<a||-><b||-><a||->");
    let outcomes = [
        ("own", "1 42 own no such hotel details text/x-error beside"),
        ("below", "3 0 geo below -> geo: after 50 ms   -"),
        ("crash", "2 0 crash its stand-in panicked   -"),
        ("big", "6 0 big the reply does not fit its region   -"),
        ("many", "7 0 many 256   -"),
        ("away", "8 0 away    -"),
        (
            "nobody",
            "5 0 nobody it is not granted: the test gives it with `TestHost::callee`   -",
        ),
    ];
    for (callee, want) in outcomes {
        says(handler, &format!("outcome:{callee}"), want);
    }
    let late = host().remaining(std::time::Duration::ZERO);
    let late = run(&late, handler, "outcome:rates");
    assert_eq!(late.bytes, b"4 0 rates    -");

    // Nothing is done about it, and nothing of the answer is lost.
    let answer = run(&host(), handler, "unhandled:own");
    let e = answer.unhandled.unwrap();
    assert_eq!(answer.code, UNHANDLED);
    assert_eq!((e.outcome(), e.code()), (Outcome::Reported, 42));
    assert_eq!(
        (e.callee(), e.function(), e.message()),
        ("own", "own", "no such hotel")
    );
    assert_eq!(e.reply().bytes, b"details");
    let e = run(&host(), handler, "unhandled:below").unhandled.unwrap();
    assert_eq!((e.callee(), e.function()), ("below", "geo"));
    assert_eq!(e.outcome(), Outcome::TimedOut);
    // Of two that failed, the one that is meant.
    let e = run(&host(), handler, "first").unhandled.unwrap();
    assert_eq!(e.callee(), "own");
    // One that was handled is none.
    says(handler, "handled", "went on");

    // Arguments that do not fit, in place and from elsewhere.
    says(handler, "long", "6 6");
    // An attribute that cannot be set.
    let bad = run(&host(), handler, "attribute");
    assert_eq!(bad.code, 500);
    assert!(bad.message.contains("Bad"), "{}", bad.message);

    says(handler, "caller", "none");
    let called = run(&host().caller("search"), handler, "caller");
    assert_eq!(called.bytes, b"search");

    // Calls are seen in their order, with what was sent.
    let calls = run(&host(), handler, "order").calls;
    let bytes: Vec<_> = calls.iter().map(|c| &c.bytes[..]).collect();
    assert_eq!(bytes, [b"a", b"b", b"c"]);

    // By a host that offers nothing.
    let mut output = [0; 64];
    let mut raw = RawInvocation::new(b"outcome:rates", &mut output);
    // SAFETY: a handler, with an invocation whose buffers are there.
    assert_eq!(unsafe { handler(&raw mut raw) }, 0);
    assert_eq!(&output[..raw.output_len], b"5 0 rates    -");
}

fn tour(inv: &mut Invocation<'_>) -> Result<()> {
    let input = std::str::from_utf8(inv.input())?;
    if let Some(callee) = input.strip_prefix("outcome:") {
        let e = inv.call(callee, b"").unwrap_err();
        let (outcome, reply) = (e.outcome() as i32, e.reply());
        let bytes = String::from_utf8_lossy(&reply.bytes);
        let x_out = reply.attribute("x-out").unwrap_or("-");
        let (function, message) = (e.function(), e.message());
        let content_type = &reply.content_type;
        write!(
            inv,
            "{outcome} {} {function} {message} {bytes} {content_type} {x_out}",
            e.code()
        )?;
        return Ok(());
    }
    if let Some(callee) = input.strip_prefix("unhandled:") {
        inv.call(callee, b"")?;
        return Ok(());
    }
    match input {
        "call" => {
            let mut rates = inv.callee("rates")?;
            rates.attribute("x-in", "in")?;
            rates.content_type("text/x-args");
            write!(rates, "ar")?;
            write!(rates, "gs")?;
            let reply = rates.call(rates.written())?;
            inv.write_all(reply.bytes())?;
            let x_out = reply.attribute("x-out").unwrap();
            assert_eq!(reply.attributes().next(), Some(("x-first", "1")));
            assert_eq!(reply.to_owned().attribute("x-out"), Some(x_out));
            write!(inv, "|{}|{x_out}", reply.content_type())?;
        }
        "plain" => {
            let mut rates = inv.callee("rates")?;
            rates.attribute("x-in", "in")?;
            rates.content_type("text/x-args");
            write!(rates, "args")?;
            inv.write_all(rates.call(rates.written())?.bytes())?;
            assert_eq!(rates.written(), 0);
            drop(rates);
            let reply = inv.call("rates", b"")?;
            inv.write_all(&reply.bytes)?;
            let reply = inv.callee("rates")?.call(0)?.to_owned();
            inv.write_all(&reply.bytes)?;
        }
        "place" => {
            let mut rates = inv.callee("rates")?;
            for args in ["a", "bb"] {
                if args == "bb" {
                    rates.attribute("x-in", "in")?;
                }
                rates.buffer()[..args.len()].copy_from_slice(args.as_bytes());
                inv.write_all(rates.call(args.len())?.bytes())?;
            }
            rates.content_type("text/x");
            rates.buffer()[..3].fill(b'c');
            inv.write_all(rates.start(3).finish()?.bytes())?;
        }
        "order" => {
            let mut rates = inv.callee("rates")?;
            rates.content_type("text/x");
            rates.write_all(b"a")?;
            let a = rates.start(rates.written());
            drop(rates);
            let b = inv.start("rates", b"b");
            let c = inv.start("rates", b"c");
            inv.write_all(b.finish()?.bytes())?;
            let mut c = pin!(c);
            inv.write_all(poll(c.as_mut())?.bytes())?;
            inv.write_all(a.finish()?.bytes())?;
            let again = poll(c).unwrap_err();
            write!(inv, "{} not a ticket: 5", again.outcome() as i32)?;
        }
        "stays" => {
            let a = inv.start("rates", b"a").finish()?;
            inv.write_all(a.bytes())?;
            inv.write_all(&inv.call("rates", b"b")?.bytes)?;
            inv.write_all(a.bytes())?;
        }
        "first" => {
            let (own, below) = (inv.start("own", b""), inv.start("below", b""));
            let (own, below) = (own.finish(), below.finish());
            own?;
            below?;
        }
        "handled" => {
            assert!(inv.call("own", b"").is_err());
            inv.write_all(b"went on")?;
        }
        "long" => {
            let place = inv.callee("rates")?.call(CAPACITY + 1).unwrap_err();
            let long = inv.call("rates", &[0; CAPACITY + 1]).unwrap_err();
            let (place, long) = (place.outcome() as i32, long.outcome() as i32);
            write!(inv, "{place} {long}")?;
        }
        "attribute" => inv.callee("rates")?.attribute("Bad", "")?,
        "caller" => inv.write_all(inv.caller().unwrap_or("none").as_bytes())?,
        _ => return Err(Error::new(400, input)),
    }
    Ok(())
}
lwc_function::handler!(tour_rust, tour);
unsafe extern "C" {
    fn tour_rust(raw: *mut RawInvocation) -> c_int;
    fn next_rust(raw: *mut RawInvocation) -> c_int;
}

/// What an executor of one thread does.
fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> F::Output {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a call that is awaited is done"),
    }
}

const C: &str = r#"
#include "lwc_function.h"
static int
put(lwc_invocation *inv, const lwc_reply *reply)
{
	return (lwc_append(inv, reply->data, reply->len));
}
static int
is(const lwc_invocation *inv, const char *what)
{
	return (inv->input_len == strlen(what) && memcmp(inv->input, what, inv->input_len) == 0);
}
static const char *
after(const lwc_invocation *inv, const char *prefix, char *rest, size_t size)
{
	size_t n = strlen(prefix);

	if (inv->input_len < n || memcmp(inv->input, prefix, n) != 0)
		return (NULL);
	(void)snprintf(rest, size, "%.*s", (int)(inv->input_len - n), (const char *)inv->input + n);
	return (rest);
}
LWC_HANDLER(tour_c)
{
	lwc_reply r, s;
	char rest[64], line[256];
	const char *callee, *x;
	uint64_t t[3];
	uint8_t *place;
	size_t capacity;

	if ((callee = after(inv, "outcome:", rest, sizeof(rest))) != NULL) {
		if (lwc_call(inv, callee, NULL, 0, &r) != LWC_UNHANDLED)
			return (lwc_fail(inv, 1, "answered"));
		x = lwc_reply_attribute_of(inv, &r, "x-out");
		(void)snprintf(line, sizeof(line), "%d %d %s %s %.*s %s %s", r.outcome, r.code,
		    r.function[0] != 0 ? r.function : callee, r.message, (int)r.len,
		    r.len != 0 ? (const char *)r.data : "", r.type, x != NULL ? x : "-");
		return (lwc_append(inv, line, strlen(line)));
	}
	if ((callee = after(inv, "unhandled:", rest, sizeof(rest))) != NULL)
		return (lwc_call(inv, callee, "", 0, &r));
	if (is(inv, "call")) {
		if (lwc_call_attribute(inv, "rates", "x-in", "in") != 0)
			return (inv->status);
		if (lwc_call_typed(inv, "rates", "args", 4, "text/x-args", &r) != 0)
			return (LWC_UNHANDLED);
		(void)snprintf(line, sizeof(line), "%.*s|%s|%s", (int)r.len, (const char *)r.data,
		    r.type, lwc_reply_attribute_of(inv, &r, "x-out"));
		return (lwc_append(inv, line, strlen(line)));
	}
	if (is(inv, "plain")) {
		if (lwc_call_attribute(inv, "rates", "x-in", "in") != 0 ||
		    lwc_call_typed(inv, "rates", "args", 4, "text/x-args", &r) != 0 || put(inv, &r) != 0 ||
		    lwc_call(inv, "rates", "", 0, &r) != 0 || put(inv, &r) != 0)
			return (1);
		s = r;
		if (lwc_call(inv, "rates", NULL, 0, &r) != 0)
			return (1);
		/* What was kept is overwritten, and the rest of it too. */
		if (s.len == 0 || s.data[0] != '?' || s.type[0] != '?' ||
		    lwc_reply_attribute_of(inv, &s, "x-out") != NULL)
			return (lwc_fail(inv, 1, "a reply that is no longer valid"));
		return (put(inv, &r));
	}
	if (is(inv, "place")) {
		place = lwc_call_buffer(inv, "rates", &capacity);
		if (place == NULL || capacity != 256 || lwc_call_buffer(inv, "nobody", &capacity) != NULL ||
		    lwc_call_buffer(inv, "rates", &capacity) != place)
			return (1);
		place[0] = 'a';
		if (lwc_call(inv, "rates", place, 1, &r) != 0 || put(inv, &r) != 0)
			return (1);
		/* The last place is no longer the place. */
		if (place[0] != '?' || lwc_call_buffer(inv, "rates", &capacity) == place)
			return (lwc_fail(inv, 1, "the same place"));
		place = lwc_call_buffer(inv, "rates", &capacity);
		memset(place, 'b', 2);
		if (lwc_call_attribute(inv, "rates", "x-in", "in") != 0 ||
		    lwc_call(inv, "rates", place, 2, &r) != 0 || put(inv, &r) != 0)
			return (1);
		place = lwc_call_buffer(inv, "rates", &capacity);
		memset(place, 'c', 3);
		t[0] = lwc_call_start(inv, "rates", place, 3, "text/x");
		return (lwc_call_finish(inv, t[0], &r) != 0 ? LWC_UNHANDLED : put(inv, &r));
	}
	if (is(inv, "order")) {
		t[0] = lwc_call_start(inv, "rates", "a", 1, "text/x");
		t[1] = lwc_call_start(inv, "rates", "b", 1, NULL);
		t[2] = lwc_call_start(inv, "rates", "c", 1, NULL);
		if (lwc_call_finish(inv, t[1], &r) != 0 || put(inv, &r) != 0 ||
		    lwc_call_finish(inv, t[2], &r) != 0 || put(inv, &r) != 0 ||
		    lwc_call_finish(inv, t[0], &r) != 0 || put(inv, &r) != 0)
			return (1);
		if (lwc_call_finish(inv, t[2], &r) == 0 || lwc_call_finish(inv, 0, &s) == 0 ||
		    s.outcome != LWC_REFUSED || lwc_call_finish(inv, UINT64_MAX, &s) == 0)
			return (1);
		(void)snprintf(line, sizeof(line), "%d not a ticket: %d", r.outcome, s.outcome);
		return (lwc_append(inv, line, strlen(line)));
	}
	if (is(inv, "stays")) {
		t[0] = lwc_call_start(inv, "rates", "a", 1, NULL);
		if (lwc_call_finish(inv, t[0], &r) != 0 || put(inv, &r) != 0 ||
		    lwc_call(inv, "rates", "b", 1, &s) != 0 || put(inv, &s) != 0 || put(inv, &r) != 0)
			return (1);
		return (0);
	}
	if (is(inv, "first")) {
		t[0] = lwc_call_start(inv, "own", "", 0, NULL);
		t[1] = lwc_call_start(inv, "below", "", 0, NULL);
		if (lwc_call_finish(inv, t[0], &r) == 0 || lwc_call_finish(inv, t[1], &s) == 0)
			return (1);
		return (lwc_unhandled(inv, "own"));
	}
	if (is(inv, "handled"))
		return (lwc_call(inv, "own", "", 0, &r) != 0 ? lwc_append(inv, "went on", 7) : 1);
	if (is(inv, "long")) {
		place = lwc_call_buffer(inv, "rates", &capacity);
		if (lwc_call(inv, "rates", place, capacity + 1, &r) == 0 ||
		    lwc_call(inv, "rates", line, capacity + 1, &s) == 0)
			return (1);
		(void)snprintf(line, sizeof(line), "%d %d", r.outcome, s.outcome);
		return (lwc_append(inv, line, strlen(line)));
	}
	if (is(inv, "attribute"))
		return (lwc_call_attribute(inv, "rates", "Bad", ""));
	if (is(inv, "caller")) {
		x = lwc_caller(inv);
		return (lwc_append(inv, x != NULL ? x : "none", strlen(x != NULL ? x : "none")));
	}
	if (is(inv, "none failed"))
		return (LWC_UNHANDLED);
	if (is(inv, "status")) {
		(void)lwc_call(inv, "below", "", 0, &r);
		inv->status = LWC_UNHANDLED;
		return (0);
	}
	return (400);
}
static lwc_reply of_init;
static uint64_t capacity_of_init = 1;
LWC_INIT(tour_c)
{
	size_t capacity = 1;

	setup->calls->call(setup->host, "rates", "", 0, NULL, &of_init);
	if (setup->calls->call_buffer(setup->host, "rates", &capacity) != NULL || capacity != 0)
		return (lwc_setup_fail(setup, 1, "a buffer"));
	capacity_of_init = capacity;
	return (of_init.outcome == LWC_REFUSED ? 0 : lwc_setup_fail(setup, 1, "not refused"));
}
"#;

const CPP: &str = r#"
#include "lwc_function.hpp"
#include <cstring>
static std::string
outcome(lwc::Invocation &inv, const std::string &callee)
{
	try {
		inv.call(callee, "");
	} catch (const lwc::CallError &e) {
		if (e.callee() != callee || std::string(e.what()).find(" failed") == std::string::npos)
			throw lwc::Error(1, e.what());
		return std::to_string(e.outcome()) + " " + std::to_string(e.code()) + " " + e.function() + " " +
		    e.message() + " " + e.reply().bytes + " " + e.reply().type + " " +
		    e.reply().attribute("x-out").value_or("-");
	}
	throw lwc::Error(1, "answered");
}
LWC_FUNCTION(tour_cpp, [](lwc::Invocation &inv) {
	std::string input(inv.input());
	if (input.rfind("outcome:", 0) == 0)
		return inv.append(outcome(inv, input.substr(8)));
	if (input.rfind("unhandled:", 0) == 0)
		return (void)inv.call(input.substr(10), "");
	auto rates = inv.callee("rates");
	auto place = [&](char c, size_t n) { std::memset(rates.buffer(), c, n); };
	if (input == "call") {
		rates.attribute("x-in", "in");
		std::memcpy(rates.buffer(), "args", 4);
		auto reply = rates.call(4, "text/x-args");
		if (reply.copy().attributes.size() != 2 || reply.attribute("x-none"))
			throw lwc::Error(1, "attributes");
		inv.append(reply.bytes());
		inv.append("|" + std::string(reply.type()) + "|" + std::string(reply.attribute("x-out").value()));
	} else if (input == "plain") {
		rates.attribute("x-in", "in");
		auto first = inv.call("rates", "args", "text/x-args");
		auto second = inv.call("rates", "");
		inv.append(first.bytes + second.bytes);
		inv.append(rates.call(0).bytes());
	} else if (input == "place") {
		if (rates.capacity() != 256 || inv.callee("nobody").buffer() != nullptr)
			throw lwc::Error(1, "capacity");
		place('a', 1);
		inv.append(rates.call(1).bytes());
		place('b', 2);
		rates.attribute("x-in", "in");
		inv.append(rates.call(2).bytes());
		place('c', 3);
		inv.append(rates.start(3, "text/x").finish().bytes());
	} else if (input == "order") {
		auto a = inv.start("rates", "a", "text/x"), b = inv.start("rates", "b"), c = inv.start("rates", "c");
		inv.append(b.finish().bytes());
		inv.append(c.finish().bytes());
		inv.append(a.finish().bytes());
		try {
			c.finish();
		} catch (const lwc::CallError &e) {
			inv.append(std::to_string(e.outcome()) + " not a ticket: 5");
		}
	} else if (input == "stays") {
		auto a = inv.start("rates", "a").finish();
		inv.append(a.bytes());
		inv.append(inv.call("rates", "b").bytes);
		inv.append(a.bytes());
	} else if (input == "first") {
		auto own = inv.start("own", ""), below = inv.start("below", "");
		try {
			own.finish();
		} catch (const lwc::CallError &) {
			try {
				below.finish();
			} catch (const lwc::CallError &) {
			}
			throw;
		}
	} else if (input == "handled") {
		try {
			inv.call("own", "");
		} catch (const lwc::Error &e) {
			inv.append(e.code() == 42 ? "went on" : "another");
		}
	} else if (input == "long") {
		for (bool in_place : { true, false }) {
			try {
				in_place ? (void)rates.call(257) : (void)inv.call("rates", std::string(257, 'x'));
			} catch (const lwc::CallError &e) {
				inv.append(std::to_string(e.outcome()) + (in_place ? " " : ""));
			}
		}
	} else if (input == "attribute") {
		rates.attribute("Bad", "");
	} else if (input == "caller") {
		inv.append(inv.caller().value_or("none"));
	} else {
		throw lwc::Error(400, input);
	}
})
static int parse(std::string_view in) { return std::stoi(std::string(in)); }
static std::string format(int n) { return std::to_string(n); }
LWC_TYPED_FUNCTION(next_cpp, "text/x-number", parse, [](lwc::Invocation &inv, int n) {
	return 1 + inv.call_typed("count", "text/x-number", n, format, parse);
}, format)
"#;

/// A number there and back, by way of "count", and one more.
fn check_typed(handler: Handler) {
    let host = |body: fn(&[u8]) -> Response| {
        TestHost::new().callee("count", move |request| {
            assert_eq!(request.content_type, "text/x-number");
            body(request.bytes)
        })
    };
    let ok = run(&host(|bytes| Response::new(bytes)), handler, "7");
    assert_eq!((&*ok.message, &ok.bytes[..]), ("", &b"8"[..]));
    let bad = run(&host(|_| Response::new("x")), handler, "7");
    assert_eq!(bad.code, 500);
    let whose = "the answer of count: ";
    assert!(bad.message.starts_with(whose), "{}", bad.message);
    assert_eq!(run(&host(|_| Response::new("")), handler, "x").code, 400);
    let own = run(&host(|_| Response::error(7, "none")), handler, "7");
    assert_eq!(own.unhandled.unwrap().code(), 7);
}

fn parse(bytes: &[u8]) -> std::result::Result<u32, std::num::ParseIntError> {
    String::from_utf8_lossy(bytes).parse()
}
fn format_number(n: &u32) -> std::result::Result<Vec<u8>, std::fmt::Error> {
    Ok(n.to_string().into())
}
fn next(inv: &Invocation<'_>, n: u32) -> Result<u32> {
    let n = inv.call_typed("count", "text/x-number", &n, format_number, parse)?;
    Ok(n + 1)
}
lwc_function::typed_handler!(next_rust, "text/x-number", parse, next, format_number);

#[test]
fn c_functions_call_others() {
    let dir = tempfile::tempdir().unwrap();
    let library = compile(dir.path(), "cc", "-std=c11", "tour.c", C);
    // SAFETY: the symbol is a handler by the header that compiled it.
    let handler = *unsafe { library.get::<Handler>(b"tour_c") }.unwrap();
    check(handler);
    let answer = run(&host(), handler, "none failed");
    assert_eq!(answer.code, 500);
    assert!(answer.message.contains("no call failed"));
    let e = run(&host(), handler, "status").unhandled.unwrap();
    assert_eq!(e.callee(), "below");
    // SAFETY: the symbol is an initialiser by the same header.
    let init = unsafe { host().call_initialiser(*library.get(b"tour_c_init").unwrap()) };
    assert_eq!(init, (0, String::new()));
}

#[test]
fn cpp_functions_call_others() {
    let dir = tempfile::tempdir().unwrap();
    let library = compile(dir.path(), "c++", "-std=c++17", "tour.cpp", CPP);
    // SAFETY: the symbol is a handler by the header that compiled it.
    let handler = *unsafe { library.get::<Handler>(b"tour_cpp") }.unwrap();
    check(handler);
    // SAFETY: as above.
    check_typed(*unsafe { library.get::<Handler>(b"next_cpp") }.unwrap());
}

#[test]
fn rust_functions_call_others() {
    check(tour_rust);
    check_typed(next_rust);
}

#[test]
fn one_callee_at_a_time_is_lent_of() {
    fn refused<T>(result: std::result::Result<T, CallError>) {
        let Err(e) = result else {
            panic!("it is lent of already")
        };
        assert_eq!(e.outcome(), Outcome::Refused);
        assert!(e.message().contains("there is a `Callee`"), "{e}");
    }
    fn holds(inv: &mut Invocation<'_>) -> Result<()> {
        let mut rates = inv.callee("rates")?;
        let lent = rates.call(0)?;
        refused(inv.call("rates", b""));
        refused(inv.callee("rates"));
        refused(inv.start("rates", b"").finish());
        // What it lent is as it was; others can be called meanwhile.
        let own = inv.call("own", b"").unwrap_err();
        assert_eq!(
            (own.code(), own.into_reply().bytes),
            (42, b"details".into())
        );
        let mut own: Callee<'_> = inv.callee("own")?;
        own.buffer().fill(0);
        inv.write_all(lent.bytes())?;
        drop(rates);
        inv.write_all(&inv.call("rates", b"")?.bytes)?;
        refused(inv.call("own", b""));
        Ok(())
    }
    let answer = host().call(holds, b"");
    assert_eq!((answer.code, &*answer.message), (0, ""));
    assert_eq!(answer.bytes, b"<||-><||->");
    // Refused by the handle's side, none of those was made.
    assert_eq!(answer.calls.len(), 3);
}

#[test]
fn an_unhandled_refusal_says_whose_and_why() {
    fn asks(inv: &mut Invocation<'_>) -> Result<()> {
        match inv.input() {
            b"callee" => drop(inv.callee("nobody")?),
            b"long" => drop(inv.callee("rates")?.call(CAPACITY + 1)?.to_owned()),
            b"started" => drop(
                inv.callee("rates")?
                    .start(CAPACITY + 1)
                    .finish()?
                    .to_owned(),
            ),
            b"nul" => drop(inv.call("ra\0tes", b"")?),
            _ => {
                let _rates = inv.callee("rates")?;
                inv.call("rates", b"")?;
            }
        }
        Ok(())
    }
    for (input, callee, outcome) in [
        ("callee", "nobody", Outcome::Refused),
        ("long", "rates", Outcome::TooBig),
        ("started", "rates", Outcome::TooBig),
    ] {
        let answer = host().call(asks, input.as_bytes());
        let e = answer.unhandled.expect(input);
        assert_eq!((e.callee(), e.outcome()), (callee, outcome), "{input}");
        assert!(!e.message().is_empty(), "{input}");
    }
    // Of what the host does not know, the function's own word.
    for (input, what) in [("nul", "NUL"), ("held", "`Callee`")] {
        let answer = host().call(asks, input.as_bytes());
        assert_eq!((answer.code, answer.unhandled), (500, None), "{input}");
        assert!(answer.message.contains(what), "{}", answer.message);
        assert!(answer.calls.is_empty(), "{input}");
    }
}

#[test]
fn a_failed_call_is_known_within_the_errors_of_others() {
    fn number(bytes: &[u8]) -> std::result::Result<u32, String> {
        let text = String::from_utf8_lossy(bytes);
        text.parse().map_err(|_| format!("no number: {text}"))
    }
    fn bytes(n: &u32) -> std::result::Result<Vec<u8>, &'static str> {
        if *n == 0 {
            return Err("nothing");
        }
        Ok(vec![b'x'; *n as usize])
    }
    fn wraps(inv: &mut Invocation<'_>) -> Result<()> {
        let call = |name| inv.call(name, b"");
        match inv.input() {
            b"io" => Err(std::io::Error::other(call("below").unwrap_err()))?,
            b"typed" => {
                inv.call_typed("below", "text/x", &1, bytes, number)?;
            }
            b"format" => {
                inv.call_typed("rates", "text/x", &0, bytes, number)?;
            }
            b"parse" => {
                let e = inv.call_typed("rates", "text/x", &1, bytes, number);
                assert!(matches!(e, Err(TypedCallError::Parse(_))));
                e?;
            }
            _ => {
                let _ = call("own");
                panic!("after a call that failed");
            }
        }
        Ok(())
    }
    for input in ["io", "typed"] {
        let answer = host().call(wraps, input.as_bytes());
        assert_eq!(answer.code, UNHANDLED, "{input}: {}", answer.message);
        assert_eq!(answer.message, "geo timed out: below -> geo: after 50 ms");
        assert_eq!(answer.unhandled.unwrap().callee(), "below");
    }
    let format = host().call(wraps, b"format");
    assert_eq!(
        (format.code, &*format.message),
        (500, "the arguments for rates: nothing")
    );
    let parse = host().call(wraps, b"parse");
    assert_eq!(
        (parse.code, &*parse.message),
        (500, "the answer of rates: no number: <x|text/x|->")
    );
    let panicked = host().call(wraps, b"");
    assert_eq!((panicked.code, panicked.unhandled), (500, None));
}
