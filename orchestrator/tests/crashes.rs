//! Where a function crashed: in the log, with its callers, and in no answer.

#![cfg(target_os = "linux")]

mod common;

use common::{Folder, text};

const C: &str = r#"
#include <lwc_function.h>
#include <stdlib.h>
#include <unistd.h>

#define ALONE __attribute__((noinline, noclone))

static ALONE int
reads(const volatile int *from)
{
	return (*from);
}

static ALONE int
calls_what_reads(const volatile int *from)
{
	return (reads(from) + 1);
}

static ALONE int
deeper(volatile char *last)
{
	volatile char room[4096];

	room[0] = *last;
	return (deeper(room) + room[0]);
}

static ALONE int
gives_up(void)
{
	abort();
	return (1);
}

LWC_HANDLER(f)
{
	volatile char first = 0;

	switch (inv->input_len == 0 ? 0 : inv->input[0]) {
	case 'n':
		return (calls_what_reads((const volatile int *)8));
	case 'd':
		return (deeper(&first));
	case 'a':
		return (gives_up());
	case 's':
		return (chroot("/"));
#ifdef __x86_64__
	case '1':	/* a chain of frames that leads to itself */
		__asm__ volatile("movq %rsp, %rbp; andq $-16, %rbp;"
		    "movq %rbp, (%rbp); movl $0, 0");
		break;
	case '2':	/* frames that are nowhere */
		__asm__ volatile("movq $-16, %rbp; movl $0, 0");
		break;
	case '3':	/* no stack */
		__asm__ volatile("movq $8, %rsp; movq $24, %rbp; movl $0, 0");
		break;
	case '4':	/* a stack at the end of what there can be */
		__asm__ volatile("movq $-8, %rsp; movq $-8, %rbp; movl $0, 0");
		break;
#endif
	default:
		return (lwc_append(inv, "+", 1));
	}
	return (first);
}
"#;

const CALLER: &str = r#"
#include <lwc_function.h>
LWC_HANDLER(caller)
{
	lwc_reply reply;

	return (lwc_call(inv, "f", inv->input, inv->input_len, &reply) != 0 ? LWC_UNHANDLED : 0);
}
"#;

fn folder() -> Folder {
    let folder = Folder::new(
        "[functions.f]\nsource = 'f.c'\ncflags = ['-Wno-infinite-recursion', '-Wno-array-bounds']\n[functions.caller]\nsource = 'caller.c'\ncalls = ['f']\n[chains.one]\nsteps = ['f']\n[chains.relay]\nsteps = ['f', 'f']\nisolation = 'chain'\n[workflows.w]\nentry = 'caller'\n",
    );
    folder.write("f.c", C);
    folder.write("caller.c", CALLER);
    folder
}

/// The line of the log that says where, of each crash.
fn places(said: &str) -> Vec<&str> {
    said.lines().filter(|l| l.contains("crashed ")).collect()
}

#[test]
fn the_log_says_where_and_who_called() {
    let folder = folder();
    for (chain, who) in [("one", "f ["), ("relay", "f ["), ("w", "caller → f [")] {
        let out = folder.run(&[chain], &["n"]);
        let said = text(&out.stderr);
        let lines = places(&said);
        assert_eq!(lines.len(), 1, "{chain}: {said}");
        for part in [who, "crashed in reads+", "calls_what_reads+", "by f+"] {
            assert!(lines[0].contains(part), "{chain}: no {part:?} in {said}");
        }
        // What is said of the failure, for programs and for those who asked, has none of it.
        let (_, failures, _) = folder.outcomes(chain, &["n"]);
        let failure = failures[0].to_string();
        assert!(failure.contains("SIGSEGV"), "{failure}");
        for part in ["reads", "0x", ".so"] {
            assert!(!failure.contains(part), "{failure}");
        }
    }
}

#[test]
fn a_stack_that_is_full_and_calls_of_the_system_have_places_too() {
    let folder = folder();
    for (input, place) in [
        ("d", "crashed in deeper+"),
        ("a", "what was called by gives_up+"),
        ("s", "what was called by f+"),
    ] {
        let out = folder.run(&["one"], &[input, "fine"]);
        let said = text(&out.stderr);
        let lines = places(&said);
        assert_eq!(lines.len(), 1, "{input}: {said}");
        assert!(lines[0].contains(place), "{input}: {said}");
        assert_eq!(text(&out.stdout), "+", "{said}");
    }
}

/// The root follows no pointer of a function's: it is told, or is not.
#[cfg(target_arch = "x86_64")]
#[test]
fn stacks_that_lead_nowhere_do_no_harm() {
    let folder = folder();
    let out = folder.run(&["one", "--json"], &["1", "2", "3", "4", "fine"]);
    let said = text(&out.stderr);
    assert_eq!(text(&out.stdout), "+", "{said}");
    assert_eq!(said.matches("SIGSEGV").count(), 4, "{said}");
    for line in places(&said) {
        assert!(line.matches("called by").count() <= 16, "{line}");
    }
}
