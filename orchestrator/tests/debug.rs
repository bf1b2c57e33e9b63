//! `debug`: a function in a plain process, by itself, under a debugger, with sanitizers.

mod common;

use common::{Folder, orchestrator, text};
use std::path::Path;
use std::process::{Command, Output};

const C: &str = r#"
#include <lwc_function.h>
#include <stdio.h>
#include <stdlib.h>

static int __attribute__((noinline))
into_the_heap(const unsigned char *from, size_t len)
{
	char *heap = malloc(4);
	int first;

	memcpy(heap, from, len);
	first = heap[0];
	free(heap);
	return (first);
}

static void __attribute__((noinline))
nowhere(const lwc_invocation *inv)
{
	*(volatile int *)(inv->deadline + 8) = 1;
}

LWC_INIT(a)
{
	size_t n;

	return (lwc_setup_secret(setup, "key", &n) == NULL || n != 3 ?
	    lwc_setup_fail(setup, 4, "no key") : 0);
}

LWC_HANDLER(a)
{
	lwc_reply reply;
	FILE *file = fopen("beside.txt", "r");
	const char *city = getenv("CITY");

	printf("printed; HOME is %s\n", getenv("HOME") == NULL ? "absent" : "there");
	lwc_log(inv, LWC_INFO, "in %s", city == NULL ? "no city" : city);
	if (file == NULL)
		return (lwc_fail(inv, 9, "no file"));
	fclose(file);
	if (inv->input_len == 1)
		nowhere(inv);
	if (inv->input_len > 4 && into_the_heap(inv->input, inv->input_len) == 0)
		return (8);
	if (lwc_call(inv, "b", inv->input, inv->input_len, &reply) != 0)
		return (LWC_UNHANDLED);
	return (lwc_append(inv, reply.data, reply.len));
}
"#;

const CPP: &str = r#"
#include <lwc_function.hpp>
LWC_FUNCTION(b, [](lwc::Invocation &inv) {
	if (inv.input() == "fail")
		throw lwc::Error(42, "asked to");
	inv.append(std::string(inv.caller().value_or("nobody")) + ":");
	inv.append(inv.input());
	if (auto tenant = inv.attribute("x-tenant"))
		inv.append(*tenant);
})
"#;

fn folder() -> Folder {
    let folder = Folder::new(
        "[functions.a]\nsource = 'a.c'\ncalls = ['b']\nfiles = ['beside.txt']\nenv = { CITY = 'Bern' }\nsecrets = { key = { file = 'key' } }\n[functions.b]\nsource = 'b.cpp'\n[functions.p]\nprogram = 'p.c'\n[functions.far]\nurl = 'http://127.0.0.1:1/'\n[workflows.w]\nentry = 'a'\n",
    );
    folder.write("a.c", C);
    folder.write("b.cpp", CPP);
    folder.write(
        "p.c",
        "#include <stdio.h>\nint main(void) { int c; while ((c = getchar()) != EOF) putchar(c + 1); return (0); }\n",
    );
    folder.write("beside.txt", "");
    folder.write("key", "abc");
    folder
}

fn command(folder: &Folder, words: &[&str]) -> Vec<std::ffi::OsString> {
    let mut all: Vec<std::ffi::OsString> = vec![env!("CARGO_BIN_EXE_lwc-orchestrator").into()];
    all.push("debug".into());
    all.push(folder.path("chain.toml").into());
    all.extend(words.iter().map(|&w| {
        let beside = folder.path(w);
        if beside.is_file() {
            beside.into()
        } else {
            w.into()
        }
    }));
    all
}

fn debug(folder: &Folder, words: &[&str]) -> (Option<i32>, String, String) {
    let out = orchestrator()
        .args(&command(folder, words)[1..])
        .output()
        .unwrap();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

/// The same as an argument of another program; nothing, said loudly, where that is not.
fn under(tool: &str, options: &[&str], folder: &Folder, words: &[&str]) -> Option<Output> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let run = Command::new(tool)
        .args(options)
        .args(command(folder, words))
        .env("LWC_CACHE", cache)
        .stdin(std::process::Stdio::null())
        .output();
    match run {
        Ok(out) => Some(out),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {tool} is not installed");
            None
        }
        Err(e) => panic!("{tool}: {e}"),
    }
}

#[test]
fn it_has_what_it_is_granted_and_calls_run_beside_it() {
    let folder = folder();
    let input = folder.write("input", "hi ");
    let input = input.display().to_string();
    let (code, stdout, stderr) = debug(&folder, &["a", &input]);
    // What it prints is its log, and no part of the answer.
    assert_eq!((code, stdout.as_str()), (Some(0), "a:hi "), "{stderr}");
    for part in ["printed; HOME is absent", "[INFO  a] in Bern"] {
        assert!(stderr.contains(part), "no {part:?} in {stderr}");
    }
    let words = ["b", "--attribute", "X-Tenant=t", &input];
    assert_eq!(debug(&folder, &words).1, "nobody:hi t");
    assert_eq!(debug(&folder, &["p", &input]).1, "ij!");
    folder.write("input", "fail");
    let (code, stdout, stderr) = debug(&folder, &["a", &input]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("asked to"), "{stderr}");
}

#[test]
fn what_cannot_be_debugged_is_said() {
    let folder = folder();
    for (words, says) in [
        (&["nope"][..], "there are: a, b, far, p"),
        (&["far"], "runs elsewhere"),
        (&["a", "/nowhere/at/all"], "the input"),
        (&["a", "--attribute", "x"], "NAME=TEXT"),
    ] {
        let (code, stdout, stderr) = debug(&folder, words);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
    folder.write("key", "another");
    let (code, _, stderr) = debug(&folder, &["a"]);
    assert_eq!(code, Some(4), "{stderr}");
    assert!(stderr.contains("no key (code 4)"), "{stderr}");
}

/// Where the compiler has it, which is asked first.
#[test]
fn a_sanitizer_reports_what_it_finds() {
    let folder = folder();
    folder.write("empty.c", "int empty;\n");
    let cc = Command::new("cc")
        .args(["-shared", "-fPIC", "-fsanitize=address", "-o"])
        .arg(folder.path("empty.so"))
        .arg(folder.path("empty.c"))
        .arg("-Wl,-z,defs")
        .output();
    if !cc.is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: cc has no AddressSanitizer for libraries");
        return;
    }
    let input = folder.write("input", "eight ch");
    let input = input.display().to_string();
    let words = ["a", &input, "--sanitize", "address"];
    let (code, stdout, stderr) = debug(&folder, &words);
    assert!(code != Some(0) && stdout.is_empty(), "{stderr}");
    for part in ["heap-buffer-overflow", "in into_the_heap", "a.c:"] {
        assert!(stderr.contains(part), "no {part:?} in {stderr}");
    }
    folder.write("input", "four");
    let (code, stdout, stderr) = debug(&folder, &words);
    assert_eq!((code, stdout.as_str()), (Some(0), "a:four"), "{stderr}");
}

#[test]
fn a_debugger_sees_the_crash() {
    let folder = folder();
    folder.write("one", "1");
    let options = ["-q", "-batch", "-ex", "run", "-ex", "bt", "--args"];
    let Some(out) = under("gdb", &options, &folder, &["a", "one"]) else {
        return;
    };
    let said = text(&out.stdout) + &text(&out.stderr);
    if said.contains("ptrace: Operation not permitted") || said.contains("Couldn't get registers") {
        eprintln!("SKIPPED: gdb may not trace here");
        return;
    }
    for part in ["SIGSEGV", "nowhere (inv=", "a.c:"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn valgrind_sees_the_write_beyond_the_end() {
    let folder = folder();
    folder.write("long", "eight ch");
    let Some(out) = under("valgrind", &["-q"], &folder, &["a", "long"]) else {
        return;
    };
    let said = text(&out.stderr);
    for part in ["Invalid write", "into_the_heap (a.c:"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}
