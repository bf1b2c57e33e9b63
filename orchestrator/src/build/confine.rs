//! The system's loader, kept from doing anything but reading: a library that it maps
//! for us may be anybody's, and one whose segments lie over the loader's own has it run
//! whatever they hold.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

/// A loader that has not told by then waits for something: it is ended.
const SECONDS: u32 = 20;
/// What it maps is not larger.
const MEMORY: u64 = 64 << 30;

/// What a loader does that only tells: it maps files, asks about itself, and ends. The
/// first is how it becomes one.
const CALLS: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_rt_sigprocmask,
    libc::SYS_futex,
];
#[cfg(target_arch = "x86_64")]
const OF_PROCESSOR: &[i64] = &[
    libc::SYS_arch_prctl,
    libc::SYS_access,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_readlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OF_PROCESSOR: &[i64] = &[];

/// One of these has to hold.
type Rules = Vec<Vec<SeccompCondition>>;

/// Whether there are filters: Valgrind has none, and some containers.
fn filters() -> bool {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    let asked = libc::SECCOMP_GET_ACTION_AVAIL;
    // SAFETY: the call reads a number that lives here, and changes nothing.
    unsafe { libc::syscall(libc::SYS_seccomp, asked, 0, &raw const action) == 0 }
}

fn program() -> Option<BpfProgram> {
    if !filters() {
        return None;
    }
    let is = |argument, op, value| SeccompCondition::new(argument, Len::Qword, op, value).ok();
    let only_read = |argument| {
        // Neither to write, nor made, nor cut.
        let other = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE;
        is(argument, Op::MaskedEq(other as u64), 0).map(|c| vec![vec![c]])
    };
    let to_us = || -> Option<Rules> {
        let each = [1, 2].map(|n| is(0, Op::Eq, n).map(|c| vec![c]));
        each.into_iter().collect()
    };
    let mut rules: BTreeMap<i64, Rules> = BTreeMap::new();
    rules.insert(libc::SYS_openat, only_read(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, only_read(1)?);
    rules.insert(libc::SYS_write, to_us()?);
    rules.insert(libc::SYS_writev, to_us()?);
    // Its own limits are read and not changed.
    rules.insert(
        libc::SYS_prlimit64,
        vec![vec![is(0, Op::Eq, 0)?, is(2, Op::Eq, 0)?]],
    );
    let rules = rules.into_iter().map(|(call, all)| {
        let all: Option<Vec<_>> = all.into_iter().map(|r| SeccompRule::new(r).ok()).collect();
        Some((call, all?))
    });
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = rules.collect::<Option<_>>()?;
    rules.extend(CALLS.iter().chain(OF_PROCESSOR).map(|&n| (n, Vec::new())));
    // One that is not meant has an error: another version of the loader may do without.
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let here = TargetArch::try_from(std::env::consts::ARCH).ok()?;
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, here).ok()?;
    filter.try_into().ok()
}

/// Has a command do no more than read files and write to its standard output and error,
/// whatever it runs; and not for long. Nothing where there is no way to.
pub(super) fn only_reads(command: &mut Command) -> Option<()> {
    static PROGRAM: OnceLock<Option<BpfProgram>> = OnceLock::new();
    let program = PROGRAM.get_or_init(program).as_ref()?;
    let confine = move || {
        let done = |result: libc::c_int| match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        };
        for (resource, most) in [(libc::RLIMIT_AS, MEMORY), (libc::RLIMIT_CORE, 0)] {
            let mut limit = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            // SAFETY: a structure that lives here, to write to and to read.
            unsafe {
                done(libc::getrlimit(resource, &raw mut limit))?;
                // What it may not have is not asked for.
                limit.rlim_max = limit.rlim_max.min(most);
                limit.rlim_cur = limit.rlim_cur.min(most);
                done(libc::setrlimit(resource, &raw const limit))?;
            }
        }
        // SAFETY: calls with plain values. A signal that somebody has ignored before us
        // would not end it.
        unsafe {
            if libc::signal(libc::SIGALRM, libc::SIG_DFL) == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
            // Kept over execve(2), and no call that is let through changes it.
            libc::alarm(SECONDS);
        }
        seccompiler::apply_filter(program).map_err(|_| io::Error::last_os_error())
    };
    // SAFETY: between fork and exec it makes system calls alone, and neither allocates
    // nor locks: the program was made before.
    unsafe { command.pre_exec(confine) };
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn run(program: &str, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        only_reads(&mut command).unwrap();
        command.output().unwrap()
    }

    #[test]
    fn what_runs_in_the_loaders_place_reads_and_says_what_it_found() {
        let folder = tempfile::tempdir().unwrap();
        let [there, new] = ["there", "new"].map(|name| folder.path().join(name));
        std::fs::write(&there, "text").unwrap();
        let [old, new] = [&there, &new].map(|p| p.to_str().unwrap());
        let read = run("cat", &[old]);
        assert_eq!(String::from_utf8_lossy(&read.stdout), "text", "{read:?}");
        for words in [
            ["touch", new].as_slice(),
            &["mkdir", new],
            &["ln", "-s", old, new],
            &["cp", old, new],
            &["mv", old, new],
            &["rm", old],
            &["truncate", "-s", "0", old],
            &["chmod", "777", old],
            &["sh", "-c", "(exit 0)"],
            &["sh", "-c", "kill -9 $PPID"],
        ] {
            let out = run(words[0], &words[1..]);
            assert!(!out.status.success(), "{words:?}: {out:?}");
        }
        assert!(!folder.path().join("new").exists());
        assert_eq!(std::fs::read(&there).unwrap(), b"text");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&there.metadata().unwrap().permissions());
        assert_eq!(mode & 0o111, 0);
    }
}
