//! Clause 9: limits and observation; nothing leaks.

use crate::s5_overlay::overlay;
use lwc::{Access, Errno, Event, Flags, Region, Secret, Spec};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use std::os::fd::AsRawFd;

pub(crate) const CASES: &[Case] = cases![
    c9_2_three_thousand_contexts_leave_nothing => Well within 120,
    c9_2_refused_calls_leave_nothing,
    c9_2_shared_memory_given_back_leaves_nothing,
    c9_2_duplicates_leave_nothing,
    c9_2_contexts_of_contexts_leave_nothing,
    c9_2_hostile_ends_leave_nothing,
    c9_2_processes_made_past_the_calls_leave_nothing,
    c9_2_processes_made_past_the_calls_go_at_exit,
];

/// What the process has: descriptors, mappings, pages of memory, children.
#[derive(Debug, Clone, Copy)]
struct Belongings {
    descriptors: usize,
    mappings: usize,
    pages: u64,
    contexts: u64,
}

fn belongings() -> Belongings {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let info = lwc::info().unwrap();
    Belongings {
        descriptors: open_descriptors(),
        mappings: maps.lines().count(),
        pages: pages_written(&info),
        contexts: info.contexts,
    }
}

/// Pages that were written to, in 4 KiB. What lwInfo tells is not exact enough
/// on Linux: the kernel counts in batches, 32 pages a processor and kind
/// (proc_pid_statm(5)), and code that is run for the first time is resident
/// then. smaps_rollup walks the page tables.
#[cfg(target_os = "linux")]
fn pages_written(_: &lwc::Info) -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let of = |name| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
        kib.unwrap_or_else(|| panic!("{name} in {text}"))
    };
    (of("Shared_Dirty:") + of("Private_Dirty:")) / 4
}

#[cfg(not(target_os = "linux"))]
fn pages_written(info: &lwc::Info) -> u64 {
    info.resident_pages
}

/// Runs `what` some times to warm up, and then `n` times, after which the
/// process must have no more than before.
fn leaves_nothing(n: usize, mut what: impl FnMut(usize)) {
    (0..50).for_each(&mut what);
    assert!(eventually(|| lwc::info().unwrap().contexts == 1));
    let before = belongings();
    (0..n).for_each(&mut what);
    let after = belongings();
    assert_eq!(
        after.descriptors, before.descriptors,
        "{before:?} {after:?}"
    );
    assert_eq!(after.contexts, 1);
    // An allocator may keep a few mappings and pages, not one for each round.
    assert!(
        after.mappings <= before.mappings + 4,
        "{before:?} {after:?}"
    );
    let most = before.pages + 64;
    assert!(after.pages <= most, "{before:?} {after:?}");
    no_process_is_left();
}

/// No child, dead or alive, of any kind.
fn no_process_is_left() {
    #[cfg(target_os = "linux")]
    // SAFETY: waitpid with no status to fill; nothing of the test's waits.
    unsafe {
        let rc = libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL);
        assert_eq!((rc, Errno::last()), (-1, Errno::ECHILD));
    }
}

fn c9_2_three_thousand_contexts_leave_nothing() {
    let pages = Pages::new(4);
    let flags = Flags::TRAP_EXIT | Flags::TRAP_FAULT;
    let mut done = [0; 8];
    leaves_nothing(3000, |i| {
        done[i % 8] += 1;
        match i % 8 {
            // Never switched to.
            0 => drop(answering(&[], flags, <[u64]>::to_vec).unwrap()),
            // Switched to, then closed.
            1 => {
                let c = answering(&[], flags, <[u64]>::to_vec).unwrap();
                assert_eq!(call(c.handle(), &[i as u64]), [i as u64]);
            }
            // Faulted.
            2 => assert!(attempt(&[], || peek(16)).is_err()),
            // Exited.
            3 => assert!(attempt(&[], || std::process::exit(1)).is_err()),
            // Discarded itself.
            4 => {
                let c = lwc::spawn(&[], flags, |event| {
                    let error = event.from().unwrap().discard_switch(&[7]);
                    panic!("{error}")
                })
                .unwrap();
                assert_eq!(call(c.handle(), &[]), [7]);
            }
            // With specifiers of all kinds.
            5 => {
                let specs = [
                    memory(pages.page(1), Access::Unmap),
                    Spec::files(0..=2, Access::Unmap),
                    Spec::credentials(Access::Copy),
                ];
                assert_eq!(inside(&specs, || 4), 4);
            }
            // Overlaid.
            6 => {
                let c = answering(&[], flags, |_| {
                    pages.set(2, i as u64);
                    vec![]
                })
                .unwrap();
                call(c.handle(), &[]);
                overlay(c.handle(), &[memory(pages.page(2), Access::Copy)]).unwrap();
                assert_eq!(pages.get(2), i as u64);
            }
            // Killed.
            _ => {
                let c = answering(&[], flags, <[u64]>::to_vec).unwrap();
                c.destroy().unwrap();
                refused(c.switch(&[]), Errno::ESRCH);
            }
        }
    });
    assert!(done.iter().all(|&n| n > 300), "{done:?}");
}

fn c9_2_refused_calls_leave_nothing() {
    let pages = Pages::new(2);
    let holed = [memory(pages.page(1), Access::Unmap)];
    let other = answering(&holed, Flags::empty(), <[u64]>::to_vec).unwrap();
    let gone = answering(&[], Flags::TRAP_EXIT, |_| std::process::exit(0)).unwrap();
    gone.switch(&[]).unwrap();
    let before = belongings();
    for _ in 0..300 {
        refused(other.switch(&[0; 17]), Errno::EINVAL);
        refused(gone.switch(&[]), Errno::ESRCH);
        refused(gone.duplicate(), Errno::ESRCH);
        let wide = overlay(other.handle(), &[pages.spec(Access::Copy)]);
        refused(wide, Errno::EFAULT);
        let odd = [memory(
            pages.range().start + 1..pages.range().end,
            Access::Copy,
        )];
        refused(overlay(other.handle(), &odd), Errno::EINVAL);
        refused(
            answering(&odd, Flags::empty(), <[u64]>::to_vec),
            Errno::EINVAL,
        );
    }
    let after = belongings();
    assert_eq!(after.descriptors, before.descriptors);
    assert!(
        after.mappings <= before.mappings + 2,
        "{before:?} {after:?}"
    );
    assert_eq!(after.contexts, 2);
}

fn c9_2_shared_memory_given_back_leaves_nothing() {
    let pages = Pages::new(2);
    leaves_nothing(300, |_| {
        let region = Region::new(3 * lwc::page_size()).unwrap();
        let secret = Secret::take(vec![1; 100]).unwrap();
        let specs = [
            Spec::region(&region, Access::Share),
            memory(secret.pages(), Access::Unmap),
        ];
        let c = answering(&specs, Flags::empty(), |_| {
            region.write(0, &[1]);
            pages.set(0, 1);
            vec![]
        })
        .unwrap();
        call(c.handle(), &[]);
        overlay(c.handle(), &[pages.spec(Access::Share)]).unwrap();
        assert_eq!(pages.get(0), 1);
        pages.set(0, 0);
    });
}

fn c9_2_duplicates_leave_nothing() {
    let other = answering(&[], Flags::empty(), |_| vec![open_descriptors() as u64]).unwrap();
    for _ in 0..20 {
        drop(other.duplicate().unwrap());
    }
    let (here, there) = (open_descriptors(), call(other.handle(), &[])[0]);
    for _ in 0..200 {
        let twin = other.duplicate().unwrap();
        call(twin.handle(), &[]);
        drop(twin);
        // One that has a copy of the descriptor, and uses it, but not by a
        // switch, after which the other would have a descriptor of it.
        let c = answering(&[], Flags::empty(), |_| {
            overlay(other.handle(), &[Spec::files(0..=0, Access::Copy)]).unwrap();
            vec![]
        })
        .unwrap();
        call(c.handle(), &[]);
    }
    assert_eq!(open_descriptors(), here);
    let now = call(other.handle(), &[])[0];
    assert!(now <= there + 4, "{there} {now}");
}

fn c9_2_contexts_of_contexts_leave_nothing() {
    leaves_nothing(150, |i| {
        let middle = lwc::spawn(&[], Flags::TRAP_EXIT, |event| {
            let a = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
            let b = answering(&[], Flags::empty(), |_| vec![a.as_raw() as u64]).unwrap();
            let got = call(b.handle(), &[]);
            assert_eq!(call(a.handle(), &got), got);
            // Ends with both alive.
            match i % 3 {
                0 => std::process::exit(0),
                1 => std::process::abort(),
                _ => {
                    let error = event.from().unwrap().discard_switch(&[3]);
                    panic!("{error}")
                }
            }
        })
        .unwrap();
        match middle.switch(&[]).unwrap() {
            Event::Switched { args, .. } => assert_eq!((&args[..], i % 3), (&[3][..], 2)),
            Event::Ended(end) => assert_eq!(end.signal.is_some(), i % 3 == 1),
            other => panic!("{other:?}"),
        }
    });
}

fn c9_2_hostile_ends_leave_nothing() {
    let file = scratch_file();
    leaves_nothing(60, |i| {
        let other = answering(&[], Flags::TRAP_EXIT | Flags::TRAP_FAULT, |w| {
            match i % 3 {
                0 => close_everything(),
                1 => {
                    // All the memory that it can, its stack and code included.
                    // SAFETY: the context means to die of it.
                    unsafe { libc::munmap(std::ptr::null_mut(), 0x7fff_ffff_f000) };
                }
                _ => {
                    // Descriptors until there are no more, of no more than so many.
                    let limit = libc::rlimit {
                        rlim_cur: 500,
                        rlim_max: 500,
                    };
                    // SAFETY: lowers a limit of this context's own.
                    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
                    // SAFETY: duplicates a descriptor of the test's.
                    while unsafe { libc::dup(file.as_raw_fd()) } >= 0 {}
                }
            }
            w.to_vec()
        })
        .unwrap();
        match other.switch(&[5]).unwrap() {
            Event::Switched { args, .. } => assert_eq!(args[..], [5]),
            // On the kernel backend the way back was closed as well.
            Event::Ended(end) if i % 3 == 0 && !of_processes() => {
                assert_eq!(end.signal, Some(libc::SIGABRT), "{end}");
            }
            Event::Ended(end) => assert_eq!(end.signal, Some(libc::SIGSEGV), "{end}"),
            other => panic!("{other:?}"),
        }
    });
}

/// What hostile code can do where it may make contexts: processes that look
/// like contexts and are none.
#[cfg(target_os = "linux")]
fn clone_unregistered() -> u64 {
    // SAFETY: clone(2) like fork(2), as a child of this process's parent; the
    // copies wait for ever, or end at once.
    unsafe {
        let flags = libc::CLONE_PARENT
            | libc::CLONE_CHILD_SETTID
            | libc::CLONE_CHILD_CLEARTID
            | (libc::SIGSTKFLT);
        let mut tid = 0i32;
        for i in 0..4 {
            let pid = libc::syscall(libc::SYS_clone, flags, 0, 0, &raw mut tid, 0);
            if pid == 0 {
                if i % 2 == 0 {
                    libc::_exit(0);
                }
                loop {
                    let forever = libc::timespec {
                        tv_sec: 1 << 30,
                        tv_nsec: 0,
                    };
                    libc::nanosleep(&raw const forever, std::ptr::null_mut());
                }
            }
            assert!(pid > 0);
        }
    }
    1
}

#[cfg(not(target_os = "linux"))]
fn clone_unregistered() -> u64 {
    1 // there is no such way there
}

fn c9_2_processes_made_past_the_calls_leave_nothing() {
    leaves_nothing(30, |i| {
        let got = inside(&[], || {
            if i % 2 == 0 {
                lwc::confine(lwc::Confinement::Creator).unwrap();
            }
            clone_unregistered()
        });
        assert_eq!(got, 1);
    });
}

fn c9_2_processes_made_past_the_calls_go_at_exit() {
    let other = answering(&[], Flags::empty(), |_| vec![clone_unregistered()]).unwrap();
    assert_eq!(call(other.into_handle(), &[]), [1]);
    // The harness sees that nobody is left.
}
