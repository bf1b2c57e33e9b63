//! Programs that know nothing of functions: stdin is the request, stdout the answer,
//! the exit code tells whether it went well.

mod common;

use common::{Folder, orchestrator, text};

const C: &str = r#"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int runs;

int main(int argc, char **argv)
{
	char line[256];

	if (argc != 1 || argv[1] != NULL)
		return (99);
	printf("%d ", ++runs);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (strncmp(line, "drop", 4) == 0)
			_exit(0);
		if (strncmp(line, "exit", 4) == 0)
			exit(atoi(line + 5));
		if (strncmp(line, "fail", 4) == 0) {
			fprintf(stderr, "first line\nthe reason is %s", line + 5);
			return (7);
		}
		if (strncmp(line, "flood", 5) == 0)
			for (int i = 0; i < 100000; i++)
				puts("more than there is room for");
		for (char *c = line; *c != 0; c++)
			putchar(toupper((unsigned char)*c));
	}
}
"#;

const CPP: &str = r#"
#include <cstdio>
#include <iostream>
#include <string>
#include <unistd.h>

int main()
{
	std::ios::sync_with_stdio(false);
	std::cin.tie(nullptr);
	std::string word;
	std::cout << "words:";
	while (std::cin >> word) {
		std::printf(" %s", word.c_str());
		std::cout << '!';
	}
	std::cout << std::endl;
	std::cerr << "said on the side\n";
	if (write(1, "raw\n", 4) != 4)
		return 1;
}
"#;

const RAW: &str = r#"
#include <unistd.h>

int main(void)
{
	char all[64];
	ssize_t n, i;

	while ((n = read(0, all, sizeof(all))) > 0) {
		for (i = 0; i < n; i++)
			all[i] ^= 1;
		if (write(1, all, (size_t)n) != n)
			_exit(3);
	}
	_exit(0);
}
"#;

fn folder() -> Folder {
    let folder = Folder::new(
        "[functions.c]\nprogram = 'main.c'\n[functions.cpp]\nprogram = ['main.cpp']\n[functions.raw]\nprogram = 'raw.c'\nharden = 'bounds'\n[chains.one]\nsteps = ['c']\nregion = '16KiB'\n[chains.two]\nsteps = ['cpp']\n[chains.three]\nsteps = ['raw']\n[chains.all]\nsteps = ['c', 'cpp', 'raw', 'raw']\n",
    );
    folder.write("main.c", C);
    folder.write("main.cpp", CPP);
    folder.write("raw.c", RAW);
    folder
}

#[test]
fn what_it_reads_and_writes_is_the_request_and_the_answer() {
    let folder = folder();
    let (answers, failures, said) = folder.outcomes("one", &["hello\n", "", "no end of line"]);
    assert!(failures.is_empty(), "{said}");
    // Each request is its first.
    assert_eq!(answers, "1 HELLO\n1 1 NO END OF LINE");
    let out = folder.run(&["two", "-v"], &["one  two\nthree"]);
    assert_eq!(
        text(&out.stdout),
        "words: one! two! three!\nraw\n",
        "{}",
        text(&out.stderr)
    );
    assert!(
        text(&out.stderr).contains("said on the side"),
        "{}",
        text(&out.stderr)
    );
    let (answers, failures, said) = folder.outcomes("three", &["a\u{1}b", &"x".repeat(1000)]);
    assert!(failures.is_empty(), "{said}");
    assert_eq!(answers, format!("`\0c{}", "y".repeat(1000)));
    let (answers, failures, said) = folder.outcomes("all", &["a b"]);
    assert!(failures.is_empty(), "{said}");
    assert_eq!(answers, "words: 1! A! B!\nraw\n");
}

#[test]
fn how_it_ends_tells_whether_it_went_well() {
    let folder = folder();
    let (answers, failures, said) = folder.outcomes(
        "one",
        &["a\nexit 0\nb\n", "a\nexit 5\n", "fail this\n", "a\n"],
    );
    assert_eq!(answers, "1 A\n1 A\n", "{said}");
    assert_eq!(failures.len(), 2, "{said}");
    assert!(
        failures[0].to_string().contains("exited with status 5"),
        "{said}"
    );
    let second = failures[1].to_string();
    assert!(
        second.contains("exited with status 7: the reason is this"),
        "{said}"
    );
    // What stdio still holds goes nowhere, as in a process.
    let (answers, failures, said) = folder.outcomes("one", &["a\ndrop\n", "b\n"]);
    assert!(failures.is_empty(), "{said}");
    assert_eq!(answers, "1 B\n");
    let (_, failures, said) = folder.outcomes("one", &["flood\n", "a\n"]);
    assert_eq!(failures.len(), 1, "{said}");
}

#[test]
fn it_calls_functions_by_texts() {
    let folder = Folder::new(
        "[functions.ask]\nprogram = 'ask.c'\ncalls = ['shout']\n[functions.shout]\nprogram = 'shout.c'\n[workflows.w]\nentry = 'ask'\n",
    );
    folder.write("ask.c", "#include <stdio.h>\n#include <stdlib.h>\n#include <lwc_program.h>\nint main(void)\n{\n\tchar *a = make_rpc(\"shout\", \"one\"), *b = make_rpc(\"shout\", \"two\"), *none = make_rpc(\"nobody\", \"\");\n\tprintf(\"%s, %s; %s\", a, b, none == NULL ? lwc_rpc_error() : \"?\");\n\tfree(a);\n}\n");
    folder.write("shout.c", "#include <stdio.h>\nint main(void)\n{\n\tint c;\n\twhile ((c = getchar()) != EOF)\n\t\tputchar(c ^ 32);\n\tputchar('!');\n}\n");
    let (answer, failures, said) = folder.outcomes("w", &["x"]);
    assert!(failures.is_empty(), "{said}");
    assert!(answer.starts_with("ONE!, TWO!; nobody: "), "{answer}");
}

#[test]
fn what_cannot_be_a_program_is_refused() {
    let folder = Folder::new(
        "[functions.p]\nprogram = 'p.c'\nhandler = 'main'\n[functions.q]\nprogram = 'p.c'\n[functions.r]\nprogram = 'p.c'\nsource = 'p.c'\n[chains.x]\nsteps = ['p']\n",
    );
    folder.write("p.c", "int helper(void) { return (0); }\n");
    let check = || {
        let out = orchestrator()
            .arg("check")
            .arg(folder.path("chain.toml"))
            .output()
            .unwrap();
        (out.status.code(), text(&out.stderr))
    };
    let (code, said) = check();
    assert_eq!(code, Some(2), "{said}");
    for part in [
        "a program has a `main`, and no handler",
        "more than one origin",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    folder.write(
        "chain.toml",
        "[functions.q]\nprogram = 'p.c'\n[chains.x]\nsteps = ['q']\nisolation = 'chain'\n",
    );
    let (code, said) = check();
    assert!(
        code == Some(2) && said.contains("begins anew with each request"),
        "{said}"
    );
    folder.write(
        "chain.toml",
        "[functions.q]\nprogram = 'p.c'\n[chains.x]\nsteps = ['q']\n",
    );
    let (code, said) = check();
    assert!(code == Some(3) && said.contains("main"), "{said}");
}

#[cfg(target_os = "linux")]
const RUST: &str = r#"
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::io::{BufRead, Read, Write};

unsafe extern "C" {
    fn make_rpc(function: *const c_char, text: *const c_char) -> *mut c_char;
    fn lwc_rpc_error() -> *const c_char;
}

fn rpc(function: &str, text: &str) -> Result<String, String> {
    let (function, text) = (CString::new(function).unwrap(), CString::new(text).unwrap());
    // SAFETY: both are texts; the answer is one, or null, and is not freed.
    unsafe {
        let answer = make_rpc(function.as_ptr(), text.as_ptr());
        let told = if answer.is_null() { lwc_rpc_error() } else { answer };
        let told = CStr::from_ptr(told).to_string_lossy().into_owned();
        if answer.is_null() { Err(told) } else { Ok(told) }
    }
}

fn main() {
    assert_eq!(std::env::args().count(), 1);
    assert!(std::env::var_os("HOME").is_none());
    let mut first = String::new();
    let mut stdin = std::io::stdin().lock();
    stdin.read_line(&mut first).unwrap();
    match first.trim() {
        "exit" => {
            print!("not seen");
            eprintln!("the reason");
            std::process::exit(7);
        }
        "panic" => panic!("as asked"),
        "thread" => drop(std::thread::spawn(|| {})),
        "call" => print!("{:?} {:?}", rpc("shout", "one"), rpc("nobody", "").is_err()),
        "much" => {
            let mut all = vec![b'x'; 300_000];
            all.push(b'\n');
            std::io::stdout().write_all(&all).unwrap();
        }
        _ => {
            let mut rest = String::new();
            stdin.read_to_string(&mut rest).unwrap();
            let mut counts: HashMap<&str, u32> = HashMap::new();
            for word in first.split_whitespace().chain(rest.split_whitespace()) {
                *counts.entry(word).or_default() += 1;
            }
            let mut counts: Vec<_> = counts.into_iter().collect();
            counts.sort_unstable();
            println!("{counts:?}");
        }
    }
}
"#;

/// Its crate is as cargo makes one, and linked as what it is not.
#[cfg(target_os = "linux")]
#[test]
fn a_program_in_rust_is_one_too() {
    let folder = Folder::new(
        "[functions.count]\nprogram = 'count'\ncalls = ['shout']\n[functions.shout]\nprogram = 'shout.c'\n[workflows.w]\nentry = 'count'\n",
    );
    std::fs::create_dir_all(folder.path("count/src")).unwrap();
    folder.write(
        "count/Cargo.toml",
        "[package]\nname = \"count\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    folder.write("count/src/main.rs", RUST);
    folder.write(
        "shout.c",
        "#include <stdio.h>\nint main(void) { int c; while ((c = getchar()) != EOF) putchar(c ^ 32); }\n",
    );
    let inputs = ["b a\nb\n", "call", "exit", "", "panic", "thread", "a"];
    let (answers, failures, said) = folder.outcomes("w", &inputs);
    assert_eq!(
        answers, "[(\"a\", 1), (\"b\", 2)]\nOk(\"ONE\") true[]\n[(\"a\", 1)]\n",
        "{said}"
    );
    let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{said}");
    assert!(told[0].contains("status 7: the reason"), "{told:?}");
    assert!(
        told[1].contains("status 101") && said.contains("as asked"),
        "{told:?}"
    );
    // Threads it has none.
    assert!(told[2].contains("a thread or a process"), "{told:?}");
    let (answers, failures, said) = folder.outcomes("w", &["much"]);
    assert!(failures.is_empty(), "{said}");
    assert_eq!(answers.len(), 300_001, "{said}");
    // One without is told so.
    std::fs::rename(
        folder.path("count/src/main.rs"),
        folder.path("count/src/lib.rs"),
    )
    .unwrap();
    let out = folder.run(&["w"], &[""]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
}
