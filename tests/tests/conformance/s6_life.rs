//! Clause 6: signals, faults, the life of the process.

use crate::s1_objects::forked;
use lwc::{Access, Context, End, Errno, Event, Flags, Region, Secret, Spec, State};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const CASES: &[Case] = cases![
    c6_1_a_fault_is_the_contexts_that_caused_it,
    c6_1_a_fault_handler_runs_in_its_own_context,
    c6_1_a_signal_to_oneself_acts_on_the_current_context,
    c6_1_the_users_children_are_undisturbed,
    c6_1_sigchld_tells_of_no_context,
    c6_3_exit_status_of_a_context_is_the_processs => Exit(7),
    c6_3_abort_in_a_context_aborts_the_process => Signal(libc::SIGABRT),
    c6_3_a_fatal_signal_in_a_context_ends_the_process => Signal(libc::SIGTERM),
    c6_3_exit_of_the_root_ends_all => Exit(5),
    c6_3_a_panic_in_spawn_ends_the_process => Signal(libc::SIGABRT),
    c6_3_kill_of_the_root_leaves_nobody => Signal(libc::SIGKILL),
    c6_3_kill_of_a_root_whose_context_dropped_credentials => Signal(libc::SIGKILL),
    c6_3_kill_of_the_current_context_ends_the_process => Signal(libc::SIGKILL),
    c6_3_kill_of_a_parked_context_is_seen,
    c6_3_fork_gives_a_child_without_contexts,
    c6_3_fork_in_a_context,
    c6_3_shared_memory_stays_shared_over_fork,
    c6_3_a_forked_child_makes_its_own_contexts,
    c6_3_exec_in_the_root_ends_the_others => Exit(23) within 5,
    c6_3_exec_in_a_context_becomes_the_process => Exit(24) within 5,
    c6_3_exec_in_a_context_with_a_shared_table => Exit(25) within 10,
    c6_3_a_blocked_signal_hides_no_death,
    c6_3_a_hostile_context_closes_everything,
    c6_3_a_hostile_context_kills_its_parent => Signal(libc::SIGKILL),
    c6_3_a_hostile_context_stops_itself,
    c6_4_the_map_shows_the_current_context_alone,
    c6_4_a_context_cannot_be_dumped_or_traced,
];

pub(crate) fn died(specs: &[Spec], body: impl FnOnce()) -> End {
    attempt(specs, || {
        body();
        0
    })
    .expect_err("the context did not die")
}

fn c6_1_a_fault_is_the_contexts_that_caused_it() {
    let bystander = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    let end = died(&[], || poke(8, 1));
    assert_eq!(end.signal, Some(libc::SIGSEGV));
    assert_eq!(call(bystander.handle(), &[1]), [1]);
}

pub(crate) static FAULTS: AtomicU64 = AtomicU64::new(0);

extern "C" fn leave(_: i32) {
    FAULTS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: makes the page the fault was on accessible, so that the access
    // is done again and succeeds.
    unsafe {
        libc::mprotect(
            GUARDED.load(Ordering::Relaxed) as *mut _,
            lwc::page_size(),
            libc::PROT_READ | libc::PROT_WRITE,
        );
    }
}

pub(crate) static GUARDED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn handle_segv() {
    let action = SigAction::new(
        SigHandler::Handler(leave),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler uses atomics and mprotect(2).
    unsafe { nix::sys::signal::sigaction(Signal::SIGSEGV, &action) }.unwrap();
}

fn c6_1_a_fault_handler_runs_in_its_own_context() {
    let page = Pages::new(1);
    GUARDED.store(page.range().start as u64, Ordering::Relaxed);
    page.protect(libc::PROT_NONE).unwrap();
    let other = answering(&[], Flags::empty(), |_| {
        handle_segv();
        page.set(0, 1);
        vec![FAULTS.load(Ordering::Relaxed)]
    })
    .unwrap();
    assert_eq!(call(other.handle(), &[]), [1]);
    assert_eq!(FAULTS.load(Ordering::Relaxed), 0);
}

extern "C" fn count(_: i32) {
    FAULTS.fetch_add(1, Ordering::Relaxed);
}

fn c6_1_a_signal_to_oneself_acts_on_the_current_context() {
    let action = SigAction::new(
        SigHandler::Handler(count),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler counts.
    unsafe { nix::sys::signal::sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let there = inside(&[], || {
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        FAULTS.load(Ordering::Relaxed)
    });
    assert_eq!((there, FAULTS.load(Ordering::Relaxed)), (1, 0));
}

fn c6_1_the_users_children_are_undisturbed() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::{ForkResult, Pid, fork};
    let keep = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    // waitpid(-1) sees no context, dead or alive.
    let none = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG));
    assert_eq!(none, Err(nix::errno::Errno::ECHILD));
    for n in 0..20 {
        // SAFETY: the child exits at once.
        let child = match unsafe { fork() }.unwrap() {
            // SAFETY: ends the child without its parent's destructors.
            ForkResult::Child => unsafe { libc::_exit(n) },
            ForkResult::Parent { child } => child,
        };
        let end = died(&[], || std::process::exit(100));
        assert_eq!((end.signal, end.code), (None, 100));
        assert_eq!(call(keep.handle(), &[1]), [1]);
        let got = waitpid(Pid::from_raw(-1), None);
        assert_eq!(got, Ok(WaitStatus::Exited(child, n)));
    }
    let none = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG));
    assert_eq!(none, Err(nix::errno::Errno::ECHILD));
}

fn c6_1_sigchld_tells_of_no_context() {
    let action = SigAction::new(
        SigHandler::Handler(count),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler counts.
    unsafe { nix::sys::signal::sigaction(Signal::SIGCHLD, &action) }.unwrap();
    died(&[], || std::process::exit(1));
    drop(answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap());
    assert_eq!(FAULTS.load(Ordering::Relaxed), 0);
    // Nor does ignoring it change anything.
    // SAFETY: ignores a signal.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let end = died(&[], || std::process::exit(2));
    assert_eq!(end.code, 2);
}

fn c6_3_exit_status_of_a_context_is_the_processs() {
    let other = answering(&[], Flags::empty(), |_| std::process::exit(7)).unwrap();
    call(other.handle(), &[]);
}

fn c6_3_abort_in_a_context_aborts_the_process() {
    let other = answering(&[], Flags::empty(), |_| std::process::abort()).unwrap();
    call(other.handle(), &[]);
}

fn c6_3_a_fatal_signal_in_a_context_ends_the_process() {
    let other = answering(&[], Flags::empty(), |_| {
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        vec![]
    })
    .unwrap();
    call(other.handle(), &[]);
}

fn c6_3_exit_of_the_root_ends_all() {
    let _keep: Vec<Context> = (0..10)
        .map(|_| {
            let c = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
            call(c.handle(), &[]);
            c
        })
        .collect();
    std::process::exit(5);
}

fn c6_3_a_panic_in_spawn_ends_the_process() {
    let other = answering(&[], Flags::empty(), |_| panic!("on purpose")).unwrap();
    call(other.handle(), &[]);
}

fn kill_self() -> ! {
    // SAFETY: ends this process without a chance to tidy up.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
        libc::_exit(1)
    }
}

fn c6_3_kill_of_the_root_leaves_nobody() {
    let middle = answering(&[], Flags::empty(), |_| {
        let inner = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
        call(inner.into_handle(), &[1])
    })
    .unwrap();
    call(middle.handle(), &[]);
    kill_self();
}

fn c6_3_kill_of_a_root_whose_context_dropped_credentials() {
    // That clears the signal which the parent's death sends (prctl(2)).
    let other = answering(&[], Flags::empty(), |_| {
        // SAFETY: plain system calls on this context's credentials.
        unsafe {
            if libc::geteuid() == 0 {
                assert_eq!(libc::setresuid(54321, 54321, 54321), 0);
            }
        }
        vec![]
    })
    .unwrap();
    call(other.handle(), &[]);
    kill_self();
}

fn c6_3_kill_of_the_current_context_ends_the_process() {
    let other = answering(&[], Flags::TRAP_FAULT, |_| kill_self()).unwrap();
    call(other.handle(), &[]);
}

fn c6_3_kill_of_a_parked_context_is_seen() {
    let other = answering(&[], Flags::empty(), |_| vec![pid()]).unwrap();
    let process = call(other.handle(), &[])[0];
    if process == pid() {
        return; // nobody can name it but by its descriptor
    }
    // SAFETY: a context of this process.
    unsafe { libc::kill(process as i32, libc::SIGKILL) };
    assert!(eventually(|| other.info().unwrap().state == State::Dead));
    let error = refused(other.switch(&[]), Errno::ESRCH);
    assert!(error.to_string().contains("SIGKILL"), "{error}");
}

fn c6_3_fork_gives_a_child_without_contexts() {
    let page = Pages::new(1);
    page.set(0, 3);
    let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    call(other.handle(), &[]);
    let status = forked(|| {
        let info = lwc::info().unwrap();
        assert_eq!((info.id, info.contexts), (1, 1));
        assert_eq!(page.get(0), 3);
        page.set(0, 4);
        refused(other.info(), Errno::EBADF);
        0
    });
    assert_eq!((status, page.get(0)), (0, 3));
    assert_eq!(call(other.handle(), &[1]), [1]);
}

fn c6_3_fork_in_a_context() {
    let page = Pages::new(1);
    let there = inside(&[], || {
        page.set(0, 5);
        let status = forked(|| {
            let info = lwc::info().unwrap();
            i32::from((info.id, info.contexts, page.get(0)) != (1, 1, 5))
        });
        status as u64
    });
    assert_eq!(there, 0);
    assert_eq!(inside(&[], || 1), 1);
}

fn c6_3_shared_memory_stays_shared_over_fork() {
    let pages = Pages::new(1);
    let region = Region::new(1).unwrap();
    let other = answering(&[pages.spec(Access::Share)], Flags::empty(), |_| {
        vec![pages.get(0)]
    })
    .unwrap();
    let status = forked(|| {
        pages.set(0, 8);
        region.write(0, &[9]);
        0
    });
    let mut byte = [0];
    region.read(0, &mut byte);
    assert_eq!((status, pages.get(0), byte), (0, 8, [9]));
    assert_eq!(call(other.handle(), &[]), [8]);
}

fn c6_3_a_forked_child_makes_its_own_contexts() {
    let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    call(other.handle(), &[]);
    for _ in 0..3 {
        let status = forked(|| {
            // A child's child too.
            forked(|| {
                let end = died(&[], || poke(0, 0));
                let own = answering(&[], Flags::empty(), |w| vec![w[0] + 1]).unwrap();
                i32::from(end.signal != Some(libc::SIGSEGV) || call(own.handle(), &[1]) != [2])
            }) + i32::from(inside(&[], || 1) != 1)
        });
        assert_eq!(status, 0);
    }
    assert_eq!(call(other.handle(), &[1]), [1]);
}

fn shell(script: &str) -> ! {
    use std::os::unix::process::CommandExt;
    let error = std::process::Command::new("/bin/sh")
        .args(["-c", script])
        .exec();
    panic!("exec: {error}");
}

fn c6_3_exec_in_the_root_ends_the_others() {
    // One in a sandbox, too. The new program does not know them as children,
    // so that a dead one may stay as a zombie until it ends.
    let mut script = String::new();
    for confined in [false, true] {
        let other = answering(&[], Flags::empty(), |_| {
            if confined {
                lwc::confine(lwc::Confinement::Strict).unwrap();
            }
            vec![pid()]
        })
        .unwrap();
        let process = call(other.into_handle(), &[])[0];
        if process != pid() {
            script += &format!(
                "while test -e /proc/{process} && ! grep -q ') Z' /proc/{process}/stat; do :; done 2>/dev/null;"
            );
        }
    }
    shell(&(script + "exit 23"));
}

fn c6_3_exec_in_a_context_becomes_the_process() {
    let bystander = answering(&[], Flags::empty(), |_| vec![pid()]).unwrap();
    let process = call(bystander.handle(), &[])[0];
    let script = if process == pid() {
        "exit 24".to_owned()
    } else {
        format!("while kill -0 {process} 2>/dev/null; do :; done; exit 24")
    };
    let other = answering(&[], Flags::empty(), |_| shell(&script)).unwrap();
    call(other.handle(), &[]);
}

fn c6_3_exec_in_a_context_with_a_shared_table() {
    let specs = [Spec::all_files(Access::Share)];
    let other = answering(&specs, Flags::empty(), |_| shell("exit 25")).unwrap();
    call(other.handle(), &[]);
}

fn c6_3_a_blocked_signal_hides_no_death() {
    let other = answering(&[], Flags::TRAP_EXIT, |_| std::process::exit(1)).unwrap();
    SigSet::all().thread_block().unwrap();
    let raw: libc::sigset_t = {
        // SAFETY: all signals, those that the wrapper does not know included.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut set);
            set
        }
    };
    // SAFETY: blocks them.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const raw, std::ptr::null_mut()) };
    assert!(matches!(other.switch(&[]), Ok(Event::Ended(_))));
}

fn c6_3_a_hostile_context_closes_everything() {
    let other = answering(&[], Flags::TRAP_FAULT | Flags::TRAP_EXIT, |w| {
        close_everything();
        w.to_vec()
    })
    .unwrap();
    if of_processes() {
        // It has the baton's memory still and can hand it back.
        assert_eq!(call(other.handle(), &[1]), [1]);
        refused(other.duplicate(), Errno::EPERM);
    } else {
        // It lost the way back, and ends trying (a panic in it aborts).
        assert!(matches!(other.switch(&[1]), Ok(Event::Ended(_))));
    }
    other.destroy().unwrap();
    assert_eq!(inside(&[], || 2), 2);
}

fn c6_3_a_hostile_context_kills_its_parent() {
    let other = answering(&[], Flags::TRAP_FAULT | Flags::TRAP_EXIT, |_| {
        // SAFETY: without a sandbox it can: then all go, and none stays.
        unsafe {
            let victim = if of_processes() {
                libc::getppid()
            } else {
                libc::getpid()
            };
            libc::kill(victim, libc::SIGKILL);
            loop {
                libc::pause();
            }
        }
    })
    .unwrap();
    if of_processes() {
        call(other.handle(), &[]);
    } else {
        // There it is the process's own call, and ends the context alone.
        let Ok(Event::Ended(end)) = other.switch(&[]) else {
            panic!("not ended");
        };
        assert_eq!(end.signal, Some(libc::SIGKILL));
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

fn c6_3_a_hostile_context_stops_itself() {
    let other = answering(&[], Flags::TRAP_EXIT, |_| {
        nix::sys::signal::raise(Signal::SIGSTOP).unwrap();
        vec![]
    })
    .unwrap();
    let soon = std::time::Instant::now() + std::time::Duration::from_millis(200);
    if of_processes() {
        refused(other.switch_until(&[], soon), Errno::ETIMEDOUT);
        other.destroy().unwrap();
    } else {
        // It would be the whole process; it is taken for an end of the context.
        let Ok(Event::Ended(end)) = other.switch_until(&[], soon) else {
            panic!("not ended");
        };
        assert_eq!(end.signal, Some(libc::SIGKILL));
    }
    assert_eq!(lwc::info().unwrap().contexts, 1);
}

/// Whether the kernel finds something to read there, for a system call: a guard
/// in place of what was left out is nothing.
fn map_has(range: std::ops::Range<usize>) -> bool {
    let mut pipe = [0; 2];
    // SAFETY: pipe fills the array; write reads a byte at the address or says
    // EFAULT; both ends are this function's to close.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let written = libc::write(pipe[1], range.start as *const libc::c_void, 1);
        libc::close(pipe[0]);
        libc::close(pipe[1]);
        written == 1
    }
}

fn c6_4_the_map_shows_the_current_context_alone() {
    let secret = Secret::take(b"secret".to_vec()).unwrap();
    let specs = [memory(secret.pages(), Access::Unmap)];
    let there = inside(&specs, || map_has(secret.pages()).into());
    assert_eq!((there, map_has(secret.pages())), (0, true));
}

fn c6_4_a_context_cannot_be_dumped_or_traced() {
    // Elsewhere the process's own settings rule.
    #[cfg(target_os = "linux")]
    {
        // SAFETY: asks for a flag.
        let there = inside(&[], || unsafe { libc::prctl(libc::PR_GET_DUMPABLE) as u64 });
        assert_eq!(there, 0);
    }
}
