//! Where rollback in place is refused something, as by the filters of containers,
//! or the kernel is too old for it: a new copy is made for each invocation, the
//! answers are the same, and what was missing is said.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::{Folder, text};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// It answers with how often it has been called, as far as it knows.
const FUNCTION: &str = r#"
#include "lwc_function.h"

static volatile unsigned calls = 0;

LWC_HANDLER(count)
{
	calls++;
	((unsigned char *)inv->output)[0] = '0' + calls;
	((unsigned char *)inv->output)[1] = '\n';
	inv->output_len = 2;
	return (0);
}
"#;

const CHAIN: &str = r#"
[functions.count]
source = "count.c"

[chains.once]
steps = ["count"]
"#;

const IN_PLACE: &str = "rollback in place, by";
const BY_BITS: &str = "rollback in place, by soft-dirty";

/// What is refused: a call, the second argument of it that is meant, if not all
/// are, and the answer.
struct Refused(libc::c_long, Option<u32>, i32);

/// Has a program run under a filter that refuses this alone.
fn refuse(command: &mut Command, what: &Refused) {
    const NUMBER: u32 = 0;
    const SECOND: u32 = 16 + 8;
    let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = |at| op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0);
    let equal = |k, past| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, 0, past);
    let give = |k| op(libc::BPF_RET | libc::BPF_K, k, 0, 0);
    let refusal = give(libc::SECCOMP_RET_ERRNO | what.2 as u32);
    let mut program = vec![load(NUMBER)];
    match what.1 {
        None => program.extend([equal(what.0 as u32, 1), refusal]),
        Some(argument) => program.extend([
            equal(what.0 as u32, 3),
            load(SECOND),
            equal(argument, 1),
            refusal,
        ]),
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    // SAFETY: what runs after the fork calls the system alone; the program was made
    // before it.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog {
                len: program.len() as u16,
                filter: program.as_ptr().cast_mut(),
            };
            let filter = libc::SECCOMP_SET_MODE_FILTER;
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::syscall(libc::SYS_seccomp, filter, 0, &raw const program) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

fn counted(what: Option<&Refused>) -> String {
    let folder = Folder::new(CHAIN);
    folder.write("count.c", FUNCTION);
    let input = folder.write("input", "x");
    let mut command = common::orchestrator();
    command.arg("-v").arg("run").arg(folder.path("chain.toml"));
    command.args(["--repeat", "3", "--input"]).arg(input);
    if let Some(what) = what {
        refuse(&mut command, what);
    }
    let out = command.output().unwrap();
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{stderr}");
    assert_eq!(stdout, "1\n1\n1\n", "{stderr}");
    stderr
}

#[test]
fn what_is_refused_is_said_and_nothing_is_left_of_an_invocation() {
    const PAGEMAP_SCAN: u32 = 0xc060_6610;
    const UFFDIO_API: u32 = 0xc018_aa3f;
    let unrefused = match lwc::backend().unwrap() {
        lwc::Backend::Process => counted(None),
        _ => String::new(),
    };
    if !unrefused.contains(IN_PLACE) {
        eprintln!("skipped: nothing is rolled back in place here");
        return;
    }
    // Without a userfaultfd from the beginning nothing is lost with it.
    let by_bits = unrefused.contains(BY_BITS);
    let refused = [
        // Docker's profile, and Podman's.
        (
            Refused(libc::SYS_userfaultfd, None, libc::EPERM),
            "userfaultfd(2)",
        ),
        // Profiles of before 2022.
        (Refused(libc::SYS_ptrace, None, libc::EPERM), "ptrace(2)"),
        // Kernels before 6.7.
        (
            Refused(libc::SYS_userfaultfd, None, libc::ENOSYS),
            "userfaultfd(2)",
        ),
        (
            Refused(libc::SYS_ioctl, Some(UFFDIO_API), libc::EINVAL),
            "Linux 6.7",
        ),
        (
            Refused(libc::SYS_ioctl, Some(PAGEMAP_SCAN), libc::ENOTTY),
            "PAGEMAP_SCAN",
        ),
    ];
    for (what, word) in &refused {
        let log = counted(Some(what));
        // Where there are soft-dirty bits, and nothing that is known to be better.
        let for_want = what.1 == Some(PAGEMAP_SCAN) || by_bits && *word != "ptrace(2)";
        if for_want && log.contains(BY_BITS) {
            continue;
        }
        assert!(!by_bits || *word == "ptrace(2)", "{word}: {log}");
        let line = log
            .lines()
            .find(|l| l.contains("new copy for each invocation"));
        let said = line.is_some_and(|l| l.contains(word));
        assert!(said, "{word}: {log}");
    }
}
