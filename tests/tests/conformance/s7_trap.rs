//! Clause 7.1: trapped system calls.

use lwc::{Access, Context, Errno, Event, Flags, Handle, Region, Rights, Spec, State};
use lwc_tests::calls::*;
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use std::convert::Infallible;
use std::time::{Duration, Instant};

pub(crate) const CASES: &[Case] = cases![
    c7_1_number_and_arguments_arrive_and_the_answer_too,
    c7_1_a_call_is_not_executed,
    c7_1_every_errno_arrives,
    c7_1_a_bare_instruction_traps_as_well,
    c7_1_a_whole_conversation,
    c7_1_the_caller_is_the_creators_own_descriptor,
    c7_1_its_allocator_works_by_the_monitor,
    c7_1_a_monitor_may_read_and_write_while_it_allocates,
    c7_1_fork_does_not_happen,
    c7_1_exec_does_not_happen,
    c7_1_lw_calls_are_not_trapped,
    c7_1_without_trap_exit_an_exit_is_a_call,
    c7_1_with_trap_exit_its_end_is_an_end,
    c7_1_faults_are_trapped_too,
    c7_1_a_fault_without_the_flag_ends_the_process => Signal(libc::SIGSEGV),
    c7_1_discard_switch_ends_it,
    c7_1_close_ends_it_in_the_middle_of_a_call,
    c7_1_destroy_ends_it_in_the_middle_of_a_call,
    c7_1_a_deadline_passes_while_it_computes,
    c7_1_answers_have_deadlines,
    c7_1_only_the_monitor_answers,
    c7_1_a_monitor_may_leave_it_waiting,
    c7_1_the_monitor_need_not_be_the_root,
    c7_1_creators_that_are_in_a_sandbox_can_monitor,
    c7_1_a_thousand_calls_leave_nothing_behind,
    c7_1_two_trapped_contexts_do_not_mix,
    c7_1_its_table_is_its_own_or_one_by_backend,
    c7_1_overlay_of_a_trapped_context_is_refused_or_served,
];

/// A trapped context that runs `body` once and then answers its word.
pub(crate) fn trapped(flags: Flags, body: impl FnOnce() -> u64) -> Context {
    trapped_with(flags, |_| body())
}

/// The same with the creator's descriptor there.
pub(crate) fn trapped_knowing(body: impl FnOnce(Handle) -> u64) -> Context {
    trapped_with(Flags::empty(), body)
}

fn trapped_with(flags: Flags, body: impl FnOnce(Handle) -> u64) -> Context {
    lwc::spawn(&[], Flags::TRAP_SYSCALL | flags, |event| -> Infallible {
        let home = event.from().expect("a caller");
        let word = body(home);
        loop {
            let _ = home.switch(&[word]);
        }
    })
    .unwrap()
}

pub(crate) fn errno() -> u64 {
    Errno::last().raw() as u64
}

fn c7_1_number_and_arguments_arrive_and_the_answer_too() {
    let child = trapped(Flags::empty(), || {
        // SAFETY: is not executed.
        let got = unsafe { raw(SYS_write, [77, 0xdead_0000, 3, 4, 5, u64::MAX]) };
        (got == 4711).into()
    });
    let call = next_call(child.switch(&[]).unwrap());
    assert_eq!(call.number, SYS_write);
    // FreeBSD's syscall(2) takes a register itself, and the sixth argument is
    // fetched for calls that have one.
    let fetched = if of_processes() { 6 } else { 5 };
    let sent = [77, 0xdead_0000, 3, 4, 5, u64::MAX];
    assert_eq!(call.args[..fetched], sent[..fetched]);
    assert_eq!(child.info().unwrap().state, State::Suspended);
    assert_eq!(lwc::info().unwrap().state, State::Current);
    assert_eq!(call.answer(Ok(4711)).unwrap().args(), [1]);
}

fn c7_1_a_call_is_not_executed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made");
    let child = trapped(Flags::empty(), || {
        u64::from(std::fs::File::create(&path).is_ok())
    });
    let event = monitored(child.handle(), &[], |_| Err(Errno::EACCES));
    assert_eq!(event.args(), [0]);
    assert!(!path.exists());
}

fn c7_1_every_errno_arrives() {
    let child = trapped(Flags::empty(), || {
        (1..=90u64)
            .filter(|&n| {
                // There are gaps between the numbers.
                if nix::errno::Errno::from_raw(n as i32) as i32 as u64 != n {
                    return false;
                }
                // SAFETY: is not executed.
                let failed = unsafe { raw(SYS_dup, [n, 0, 0, 0, 0, 0]) } == -1;
                !(failed && errno() == n)
            })
            .count() as u64
    });
    let event = monitored(child.handle(), &[], |call| {
        Err(Errno::from_raw(call.args[0] as i32))
    });
    assert_eq!(event.args(), [0]);
}

fn c7_1_a_bare_instruction_traps_as_well() {
    let child = trapped(Flags::empty(), || {
        // SAFETY: is not executed.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            let result: u64;
            std::arch::asm!("syscall", inlateout("rax") SYS_getppid as u64 => result,
                out("rcx") _, out("r11") _, out("rdx") _);
            result
        }
        #[cfg(not(target_arch = "x86_64"))]
        getppid()
    });
    let call = next_call(child.switch(&[]).unwrap());
    assert_eq!(call.number, SYS_getppid);
    assert_eq!(call.answer(Ok(12)).unwrap().args(), [12]);
}

fn c7_1_a_whole_conversation() {
    let child = trapped(Flags::empty(), || {
        (0..100).filter(|&n| getppid() == n + 1000).count() as u64
    });
    let mut next = 1000;
    let event = monitored(child.handle(), &[], |call| {
        assert_eq!(call.number, SYS_getppid);
        next += 1;
        Ok(next - 1)
    });
    assert_eq!(event.args(), [100]);
}

fn c7_1_the_caller_is_the_creators_own_descriptor() {
    let child = trapped(Flags::empty(), || getppid() + getppid());
    let before = open_descriptors();
    let call = next_call(child.switch(&[]).unwrap());
    assert_eq!(call.from, child.handle());
    let call = next_call(call.answer(Ok(1)).unwrap());
    assert_eq!(call.from, child.handle());
    assert_eq!(call.answer(Ok(2)).unwrap().args(), [3]);
    assert_eq!(open_descriptors(), before);
}

fn c7_1_its_allocator_works_by_the_monitor() {
    let child = trapped(Flags::empty(), || {
        let mut sum = 0;
        for i in 0..50u64 {
            // Beyond what malloc(3) keeps: mapped and unmapped each time.
            let many = vec![i; 1 << 18];
            sum += many[1 << 17];
            let small: Vec<String> = (0..2000).map(|n| format!("{n}")).collect();
            sum += small.len() as u64;
        }
        sum
    });
    let event = monitored(child.handle(), &[], |call| panic!("{call:?}"));
    assert_eq!(event.args(), [(0..50u64).map(|i| i + 2000).sum::<u64>()]);
}

fn c7_1_a_monitor_may_read_and_write_while_it_allocates() {
    let page = Pages::new(1);
    let child = trapped(Flags::empty(), || {
        let mut all = Vec::new();
        for i in 0..50u64 {
            // Kept, so that each needs new memory.
            all.push(vec![i; 1 << 17]);
            page.set(0, page.get(0) + all[i as usize][5] - i);
        }
        drop(all);
        page.get(0)
    });
    let at = page.range().start as u64;
    let mut calls = 0;
    let mut event = child.switch(&[]).unwrap();
    while let Event::Called(call) = event {
        // In the middle of malloc(3) there: nothing may be allocated.
        let mut word = [0; 8];
        child.read_memory(at, &mut word).unwrap();
        let more = u64::from_ne_bytes(word) + 1;
        child.write_memory(at, &more.to_ne_bytes()).unwrap();
        calls += 1;
        event = call.answer(run_for(&call)).unwrap();
    }
    assert!(calls >= 10, "{calls}");
    assert_eq!(event.args(), [calls]);
}

fn c7_1_fork_does_not_happen() {
    let child = trapped(Flags::empty(), || {
        // SAFETY: is not executed.
        let pid = unsafe { libc::fork() };
        (pid == -1 && errno() == libc::EPERM as u64).into()
    });
    let mut asked = false;
    let event = monitored(child.handle(), &[], |call| {
        asked |= call.number == FORK || cfg!(target_os = "freebsd");
        Err(Errno::EPERM)
    });
    assert_eq!(event.args(), [1]);
    assert!(asked);
}

fn c7_1_exec_does_not_happen() {
    let child = trapped(Flags::empty(), || {
        let path = c"/bin/sh";
        let argv = [path.as_ptr(), std::ptr::null()];
        // SAFETY: is not executed.
        unsafe { libc::execv(path.as_ptr(), argv.as_ptr()) };
        errno()
    });
    let event = monitored(child.handle(), &[], |call| {
        assert_eq!(call.number, SYS_execve);
        let path = call.from.read_c_string(call.args[0], 4096).unwrap();
        assert_eq!(path, b"/bin/sh");
        Err(Errno::ENOTDIR)
    });
    assert_eq!(event.args(), [libc::ENOTDIR as u64]);
}

fn c7_1_lw_calls_are_not_trapped() {
    let region = Region::new(1).unwrap();
    let specs = [Spec::region(&region, Access::Share)];
    let child = lwc::spawn(&specs, Flags::TRAP_SYSCALL, |event| -> Infallible {
        let home = event.from().unwrap();
        let good = lwc::info().is_ok_and(|i| i.id > 1)
            && home.info().is_ok_and(|i| i.id == 1 && !i.may_memory)
            && lwc::getlwc().is_ok_and(|me| me.info().is_ok_and(|i| i.state == State::Current))
            && lwc::restrict_self(&Rights::all_files()).is_ok();
        region.write(0, &[u8::from(good)]);
        loop {
            let _ = home.switch(&[1, 2, 3]);
        }
    })
    .unwrap();
    // On the kernel backend the descriptor of itself is closed by close(2).
    let event = monitored(child.handle(), &[], |call| panic!("{call:?}"));
    assert_eq!(event.args(), [1, 2, 3]);
    let mut good = [0];
    region.read(0, &mut good);
    assert_eq!(good, [1]);
}

fn c7_1_without_trap_exit_an_exit_is_a_call() {
    let child = trapped(Flags::empty(), || {
        // SAFETY: is not executed.
        unsafe { raw(EXIT, [3, 0, 0, 0, 0, 0]) };
        5
    });
    let call = next_call(child.switch(&[]).unwrap());
    assert_eq!((call.number, call.args[0]), (EXIT, 3));
    assert_eq!(call.answer(Ok(0)).unwrap().args(), [5]);
}

fn c7_1_with_trap_exit_its_end_is_an_end() {
    // SAFETY: ends the context.
    let child = trapped(Flags::TRAP_EXIT, || unsafe { libc::_exit(5) });
    match monitored(child.handle(), &[], |_| Err(Errno::EPERM)) {
        Event::Ended(end) => assert_eq!((end.signal, end.code), (None, 5)),
        other => panic!("{other:?}"),
    }
    refused(child.switch(&[]), Errno::ESRCH);
}

fn c7_1_faults_are_trapped_too() {
    for flags in [Flags::TRAP_FAULT, Flags::TRAP_FAULT | Flags::TRAP_EXIT] {
        let child = trapped(flags, || {
            getppid();
            peek(0x1238)
        });
        let id = child.info().unwrap().id;
        match monitored(child.handle(), &[], |_| Ok(1)) {
            Event::Ended(end) => {
                assert_eq!((end.signal, end.address), (Some(libc::SIGSEGV), 0x1238));
                assert_eq!((end.id, end.code), (id, 1));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn c7_1_a_fault_without_the_flag_ends_the_process() {
    let child = trapped(Flags::empty(), || {
        // Without a handler: one could do nothing.
        // SAFETY: is not executed but by the monitor, which refuses.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        peek(0x1238)
    });
    // The handler that this program has for faults asks for its own removal
    // and returns to the fault: the monitor cannot help, and sees it.
    let mut asked = 0;
    monitored(child.handle(), &[], |_| {
        asked += 1;
        if asked > 20 {
            // SAFETY: ends the process as the fault would have.
            unsafe {
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                libc::raise(libc::SIGSEGV);
            }
        }
        Err(Errno::EPERM)
    });
}

fn c7_1_discard_switch_ends_it() {
    let child = lwc::spawn(&[], Flags::TRAP_SYSCALL, |event| -> Infallible {
        let n = getppid();
        panic!("{}", event.from().unwrap().discard_switch(&[n]));
    })
    .unwrap();
    let call = next_call(child.switch(&[]).unwrap());
    let event = call.answer(Ok(8)).unwrap();
    assert_eq!((event.from(), event.args()), (None, &[8u64][..]));
    assert!(eventually(|| child.info().unwrap().state == State::Dead));
}

/// A trapped context that waits for an answer, and its process's id.
fn waiting() -> (Context, u64) {
    let child = trapped(Flags::empty(), || {
        let id = getppid();
        id + getppid()
    });
    let call = next_call(child.switch(&[]).unwrap());
    let pid = process_of(&child);
    next_call(call.answer(Ok(1)).unwrap());
    (child, pid)
}

/// The process that a context lives in.
fn process_of(child: &Context) -> u64 {
    if of_processes() {
        // SAFETY: asks for a number.
        unsafe {
            child
                .syscall(lwc::Resources::all(), SYS_close, &[u32::MAX.into()])
                .unwrap_err();
        }
    }
    children().first().copied().unwrap_or_else(pid)
}

/// The processes of contexts, oldest first.
fn children() -> Vec<u64> {
    std::fs::read_to_string("/proc/thread-self/children")
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect()
}

fn c7_1_close_ends_it_in_the_middle_of_a_call() {
    let (child, of) = waiting();
    drop(child);
    assert!(eventually(|| is_gone(of)));
    assert_eq!(lwc::info().unwrap().contexts, 1);
}

fn c7_1_destroy_ends_it_in_the_middle_of_a_call() {
    let (child, of) = waiting();
    if let Err(e) = child.destroy() {
        assert_eq!(e.errno(), Errno::ENOTSUP, "{e}"); // the kernel backend
        return;
    }
    assert!(is_gone(of));
    refused(child.switch(&[0, 0]), Errno::ESRCH);
}

fn c7_1_a_deadline_passes_while_it_computes() {
    let child = trapped(Flags::empty(), || {
        getppid();
        loop {
            std::hint::spin_loop();
        }
    });
    let call = next_call(child.switch(&[]).unwrap());
    let soon = Instant::now() + Duration::from_millis(50);
    match call.answer_until(Ok(1), soon) {
        Err(e) if e.errno() == Errno::ENOTSUP => return, // the kernel backend
        other => drop(refused(other, Errno::ETIMEDOUT)),
    }
    assert_eq!(lwc::info().unwrap().state, State::Current);
    child.destroy().unwrap();
    refused(child.switch(&[]), Errno::ESRCH);
}

fn c7_1_answers_have_deadlines() {
    let child = trapped(Flags::empty(), || getppid() + getppid());
    let far = Instant::now() + Duration::from_secs(20);
    let call = match child.switch_until(&[], far) {
        Err(e) if e.errno() == Errno::ENOTSUP => return, // the kernel backend
        event => next_call(event.unwrap()),
    };
    let call = next_call(call.answer_until(Ok(3), far).unwrap());
    assert_eq!(call.answer_until(Ok(4), far).unwrap().args(), [7]);
}

fn c7_1_only_the_monitor_answers() {
    let child = trapped(Flags::empty(), getppid);
    let call = next_call(child.switch(&[]).unwrap());
    let other = answering(&[], Flags::empty(), |_| {
        vec![errno_of(child.switch(&[0, 99]))]
    })
    .unwrap();
    assert_eq!(
        lwc_tests::kit::call(other.handle(), &[]),
        [libc::EBUSY as u64]
    );
    assert_eq!(call.answer(Ok(2)).unwrap().args(), [2]);
    // Now that it waits in a switch anybody may come; it goes home from there.
    assert_eq!(other.switch(&[]).unwrap().args(), [2]);
}

fn c7_1_a_monitor_may_leave_it_waiting() {
    let child = trapped(Flags::empty(), getppid);
    let call = next_call(child.switch(&[]).unwrap());
    let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    for i in 0..20 {
        assert_eq!(lwc_tests::kit::call(other.handle(), &[i]), [i]);
    }
    assert_eq!(call.answer(Ok(6)).unwrap().args(), [6]);
}

fn c7_1_the_monitor_need_not_be_the_root() {
    let middle = answering(&[], Flags::empty(), |_| {
        let child = trapped(Flags::empty(), || getppid() + getppid());
        let mut calls = 0;
        let event = monitored(child.handle(), &[], |_| {
            calls += 1;
            Ok(calls * 10)
        });
        vec![event.args()[0], calls]
    })
    .unwrap();
    assert_eq!(call(middle.handle(), &[]), [30, 2]);
    assert_eq!(call(middle.handle(), &[]), [30, 2]);
}

fn c7_1_creators_that_are_in_a_sandbox_can_monitor() {
    let middle = answering(&[], Flags::empty(), |_| {
        lwc::confine(lwc::Confinement::Creator).unwrap();
        let child = trapped(Flags::empty(), || {
            if cfg!(target_os = "linux") {
                return getppid();
            }
            // Refused in capability mode, so it traps.
            let (here, path) = (libc::AT_FDCWD as u64, c"/".as_ptr() as u64);
            // SAFETY: is not executed.
            unsafe { raw(SYS_openat, [here, path, 0, 0, 0, 0]) as u64 }
        });
        let event = monitored(child.handle(), &[], |_| Ok(17));
        vec![event.args()[0]]
    })
    .unwrap();
    assert_eq!(call(middle.handle(), &[]), [17]);
}

fn c7_1_a_thousand_calls_leave_nothing_behind() {
    lwc::info().unwrap(); // what the backend itself opens
    let before = open_descriptors();
    let child = trapped(Flags::empty(), || (0..1000).map(|_| getppid()).sum());
    let event = monitored(child.handle(), &[], |_| Ok(3));
    assert_eq!(event.args(), [3000]);
    drop(child);
    assert_eq!(open_descriptors(), before);
    for _ in 0..20 {
        let child = trapped(Flags::empty(), getppid);
        assert_eq!(monitored(child.handle(), &[], |_| Ok(1)).args(), [1]);
    }
    assert_eq!(open_descriptors(), before);
    assert_eq!(lwc::info().unwrap().contexts, 1);
}

fn c7_1_two_trapped_contexts_do_not_mix() {
    let make = || trapped(Flags::empty(), || getppid() * 1000 + getppid());
    let (a, b) = (make(), make());
    let in_a = next_call(a.switch(&[]).unwrap());
    let in_b = next_call(b.switch(&[]).unwrap());
    assert_eq!((in_a.from, in_b.from), (a.handle(), b.handle()));
    let in_a = next_call(in_a.answer(Ok(1)).unwrap());
    let in_b = next_call(in_b.answer(Ok(3)).unwrap());
    assert_eq!(in_b.answer(Ok(4)).unwrap().args(), [3004]);
    assert_eq!(in_a.answer(Ok(2)).unwrap().args(), [1002]);
}

fn c7_1_its_table_is_its_own_or_one_by_backend() {
    let specs = [Spec::all_files(Access::Share)];
    let made = answering(&specs, Flags::TRAP_SYSCALL, <[u64]>::to_vec);
    if of_processes() {
        refused(made, Errno::ENOTSUP);
    } else {
        assert_eq!(call(made.unwrap().handle(), &[1]), [1]);
    }
    assert_eq!(lwc::info().unwrap().contexts, 1);
}

fn c7_1_overlay_of_a_trapped_context_is_refused_or_served() {
    let page = Pages::new(1);
    let child = trapped(Flags::empty(), || {
        page.set(0, 5);
        getppid()
    });
    let call = next_call(child.switch(&[]).unwrap());
    // SAFETY: the page is used by volatile access alone.
    let got = unsafe { child.overlay(&[page.spec(Access::Copy)]) };
    if of_processes() {
        refused(got, Errno::EPERM);
        let mut bytes = [0; 8];
        child
            .read_memory(page.range().start as u64, &mut bytes)
            .unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), 5);
    } else {
        got.unwrap();
        assert_eq!(page.get(0), 5);
    }
    assert_eq!(call.answer(Ok(3)).unwrap().args(), [3]);
}
