//! Clause 3: lwSwitch and lwDiscardSwitch.

use lwc::{Access, Context, Errno, Event, Flags, Handle, Region, Spec, State};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use nix::sys::signal::{SigSet, Signal};

pub(crate) const CASES: &[Case] = cases![
    c3_1_sixteen_words_travel,
    c3_1_each_count_of_words_travels,
    c3_1_the_target_sees_its_caller,
    c3_1_three_parties_go_round,
    c3_1_stress_two_on_one_processor => Well within 60,
    c3_1_stress_two_on_all_processors => Well within 60,
    c3_1_stress_three_in_a_ring_on_one_processor => Well within 60,
    c3_1_stress_three_in_a_ring_on_all_processors => Well within 60,
    c3_1_stress_a_hundred_on_one_processor => Well within 60,
    c3_1_stress_a_hundred_on_all_processors => Well within 60,
    c3_1_signals_lose_no_switch => Well within 60,
    c3_2_the_call_returns_when_somebody_switches_back,
    c3_2_a_deadline_passes_and_the_caller_is_current,
    c3_3_descriptors_do_not_grow,
    c3_3_the_callers_descriptor_gives_nothing_but_switching,
    c3_3_a_better_descriptor_serves,
    c3_3_a_closed_callers_descriptor_comes_back,
    c3_4_discard_destroys_the_caller,
    c3_4_discard_that_fails_leaves_the_caller,
    c3_4_discard_of_the_root,
    c3_4_discard_chain,
    c3_5_vector_registers_are_not_seen,
    c3_5_thread_local_storage_is_not_seen,
    c3_5_signal_mask_is_not_seen,
    c3_5_alternate_stack_is_not_seen,
    c3_6_ebadf,
    c3_6_einval_itself,
    c3_6_einval_seventeen_words,
    c3_6_esrch_says_how_it_died,
    c3_6_a_dead_target_does_not_hang,
];

fn c3_1_sixteen_words_travel() {
    let other = answering(&[], Flags::empty(), |w| {
        w.iter().map(|w| w.rotate_left(8)).collect()
    })
    .unwrap();
    let words: Vec<u64> = (0..16).map(|i| u64::MAX - i).collect();
    let back: Vec<u64> = words.iter().map(|w| w.rotate_left(8)).collect();
    assert_eq!(call(other.handle(), &words), back);
}

fn c3_1_each_count_of_words_travels() {
    let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    for n in (0..=16).chain((0..16).rev()) {
        let words: Vec<u64> = (0..n).collect();
        assert_eq!(call(other.handle(), &words), words);
    }
}

fn c3_1_the_target_sees_its_caller() {
    let other = lwc::spawn(&[], Flags::empty(), |event| {
        let from = event.from().unwrap();
        let id = from.info().unwrap().id;
        serve(event, &mut |_| vec![id])
    })
    .unwrap();
    let event = other.switch(&[]).unwrap();
    assert_eq!(event.args(), [1]);
    assert_eq!(event.from(), Some(other.handle()));
}

/// Root, then a ring of `n` contexts each of which passes on to the next, the
/// last to the root; the words count the hops.
fn ring(n: usize) -> (Vec<Context>, Handle) {
    // Made last to first: each holds its successor by inheritance, and learns
    // the root from a first visit.
    let mut all: Vec<Context> = Vec::new();
    for _ in 0..n {
        let next = all.last().map(Context::handle);
        // Only the successor is kept there, or tables would grow with n².
        let specs: Vec<Spec> = all
            .iter()
            .take(all.len().saturating_sub(1))
            .map(|c| Spec::files(c.as_raw()..=c.as_raw(), Access::Unmap))
            .collect();
        let context = lwc::spawn(&specs, Flags::empty(), |event| {
            let root = event.from().unwrap();
            let mut event = root.switch(&[]).unwrap();
            loop {
                let hops = [event.args()[0] + 1];
                event = next.unwrap_or(root).switch(&hops).unwrap();
            }
        })
        .unwrap();
        assert_eq!(call(context.handle(), &[]), []);
        all.push(context);
    }
    let first = all.last().unwrap().handle();
    (all, first)
}

fn c3_1_three_parties_go_round() {
    let (all, first) = ring(2);
    for _ in 0..10 {
        let event = first.switch(&[0]).unwrap();
        assert_eq!(event.args(), [2]);
        assert_eq!(event.from(), Some(all[0].handle()));
    }
}

fn ping_pong(processors: usize, rounds: u64) {
    pin_to(processors);
    let other = answering(&[], Flags::empty(), |w| vec![w[0] + 1]).unwrap();
    for i in 0..rounds {
        assert_eq!(call(other.handle(), &[i]), [i + 1]);
    }
}

fn c3_1_stress_two_on_one_processor() {
    ping_pong(1, 50_000);
}

fn c3_1_stress_two_on_all_processors() {
    ping_pong(usize::MAX, 50_000);
}

fn go_round(processors: usize, n: usize, rounds: u64) {
    pin_to(processors);
    let (_all, first) = ring(n);
    for _ in 0..rounds {
        assert_eq!(first.switch(&[0]).unwrap().args(), [n as u64]);
    }
}

fn c3_1_stress_three_in_a_ring_on_one_processor() {
    go_round(1, 2, 20_000);
}

fn c3_1_stress_three_in_a_ring_on_all_processors() {
    go_round(usize::MAX, 2, 20_000);
}

fn c3_1_stress_a_hundred_on_one_processor() {
    go_round(1, 99, 200);
}

fn c3_1_stress_a_hundred_on_all_processors() {
    go_round(usize::MAX, 99, 200);
}

extern "C" fn nothing(_: i32) {}

fn c3_1_signals_lose_no_switch() {
    // A timer that interrupts each context's waits, without SA_RESTART.
    // SAFETY: the handler does nothing; the structs are initialised.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
    }
    let alarm = || {
        let every = libc::itimerval {
            it_interval: libc::timeval {
                tv_sec: 0,
                tv_usec: 300,
            },
            it_value: libc::timeval {
                tv_sec: 0,
                tv_usec: 300,
            },
        };
        // SAFETY: setitimer reads the struct.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const every, std::ptr::null_mut()) };
    };
    let mut first = true;
    let other = answering(&[], Flags::empty(), |w| {
        if std::mem::take(&mut first) {
            alarm();
        }
        vec![w[0] + 1]
    })
    .unwrap();
    alarm();
    for i in 0..30_000 {
        assert_eq!(call(other.handle(), &[i]), [i + 1]);
    }
}

fn c3_2_the_call_returns_when_somebody_switches_back() {
    let a = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    // B answers the root in A's place: the root's switch to B returns from B.
    let b = answering(&[], Flags::empty(), |w| call(a.handle(), w)).unwrap();
    let event = b.switch(&[4]).unwrap();
    assert_eq!((event.args(), event.from()), (&[4][..], Some(b.handle())));
    // A's wait ended by another caller than before, and it goes on.
    assert_eq!(call(a.handle(), &[5]), [5]);
    assert_eq!(call(b.handle(), &[6]), [6]);
}

fn c3_2_a_deadline_passes_and_the_caller_is_current() {
    let region = Region::new(1).unwrap();
    let flag = region.as_ptr() as usize;
    let other = lwc::spawn(&[], Flags::empty(), |_| {
        poke(flag, 1);
        loop {
            std::hint::spin_loop();
        }
    })
    .unwrap();
    let soon = std::time::Instant::now() + std::time::Duration::from_millis(200);
    refused(other.switch_until(&[], soon), Errno::ETIMEDOUT);
    assert_eq!(peek(flag), 1);
    assert_eq!(lwc::info().unwrap().state, State::Current);
    other.destroy().unwrap();
    refused(other.switch(&[]), Errno::ESRCH);
    assert_eq!(lwc::info().unwrap().contexts, 1);
    let next = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    assert_eq!(call(next.handle(), &[1]), [1]);
}

fn c3_3_descriptors_do_not_grow() {
    let other = answering(&[], Flags::empty(), |_| vec![open_descriptors() as u64]).unwrap();
    let there = call(other.handle(), &[])[0];
    let here = open_descriptors();
    for _ in 0..10_000 {
        let event = other.switch(&[]).unwrap();
        assert_eq!(event.args(), [there]);
        assert_eq!(event.from(), Some(other.handle()));
    }
    assert_eq!(open_descriptors(), here);
}

fn c3_3_the_callers_descriptor_gives_nothing_but_switching() {
    let pages = Pages::new(1);
    let other = lwc::spawn(&[], Flags::empty(), |event| {
        let from = event.from().unwrap();
        // SAFETY: would replace test memory alone.
        let got = unsafe { from.overlay(&[pages.spec(Access::Share)]) };
        let words = vec![
            errno_of(got),
            errno_of(from.destroy()),
            u64::from(from.info().unwrap().may_memory),
        ];
        serve(event, &mut |_| words.clone())
    })
    .unwrap();
    let no = [libc::EACCES as u64, libc::EPERM as u64, 0];
    assert_eq!(call(other.handle(), &[]), no);
}

fn c3_3_a_better_descriptor_serves() {
    let pages = Pages::new(1);
    let other = answering(&[], Flags::empty(), |w| {
        pages.set(0, w[0]);
        vec![]
    })
    .unwrap();
    let event = other.switch(&[3]).unwrap();
    let from = event.from().unwrap();
    assert_eq!(from, other.handle());
    // SAFETY: replaces test memory alone.
    unsafe { from.overlay(&[pages.spec(Access::Copy)]) }.unwrap();
    assert_eq!(pages.get(0), 3);
}

fn c3_3_a_closed_callers_descriptor_comes_back() {
    let other = lwc::spawn(&[], Flags::empty(), |mut event| {
        loop {
            // Keeps none between two calls.
            let from = event.from().unwrap();
            let twin = from.duplicate().unwrap();
            Context::own(from).close().unwrap();
            // The twin is what the next call comes from.
            event = twin
                .into_handle()
                .switch(&[open_descriptors() as u64])
                .unwrap();
        }
    })
    .unwrap();
    let first = call(other.handle(), &[])[0];
    (0..100).for_each(|_| assert_eq!(call(other.handle(), &[]), [first]));
}

fn c3_4_discard_destroys_the_caller() {
    let other = lwc::spawn(&[], Flags::empty(), |event| {
        let error = event.from().unwrap().discard_switch(&[pid(), 5]);
        panic!("{error}");
    })
    .unwrap();
    let event = other.switch(&[]).unwrap();
    assert_eq!(event.from(), None);
    assert_eq!(event.args()[1], 5);
    // Once it is collected there is one context less; the descriptor is dead.
    assert!(
        eventually(|| other.info().unwrap().state == State::Dead),
        "never dead"
    );
    refused(other.switch(&[]), Errno::ESRCH);
    assert_eq!(lwc::info().unwrap().contexts, 1);
    assert!(is_gone(event.args()[0]));
}

fn c3_4_discard_that_fails_leaves_the_caller() {
    let there = inside(&[], || {
        let error = named(9999).discard_switch(&[]);
        error.errno().raw() as u64
    });
    assert_eq!(there, libc::EBADF as u64);
    let error = named(9999).discard_switch(&[]);
    assert_eq!(error.errno(), Errno::EBADF);
    let error = named(0).discard_switch(&[0; 17]);
    assert_eq!(error.errno(), Errno::EINVAL);
    assert_eq!(lwc::info().unwrap().state, State::Current);
}

fn c3_4_discard_of_the_root() {
    let region = Region::new(1).unwrap();
    let heir = lwc::spawn(&[], Flags::empty(), |event| {
        assert_eq!(event.from(), None);
        // Life goes on without a root: contexts come and go.
        assert_eq!(inside(&[], || 5), 5);
        let gone = lwc::info().unwrap().contexts;
        // SAFETY: ends the process, as its last context.
        unsafe { libc::_exit(if gone == 1 { 0 } else { 1 }) }
    })
    .unwrap();
    let error = heir.discard_switch(&[region.len() as u64]);
    panic!("{error}");
}

fn c3_4_discard_chain() {
    // Each makes its successor and discards itself into it, a hundred times.
    fn hop(left: u64, home: Handle) -> std::convert::Infallible {
        if left == 0 {
            let error = home.discard_switch(&[42]);
            panic!("{error}");
        }
        let next = lwc::spawn(&[], Flags::empty(), |_| hop(left - 1, home)).unwrap();
        let error = next.into_handle().discard_switch(&[]);
        panic!("{error}");
    }
    let first = lwc::spawn(&[], Flags::empty(), |event| hop(100, event.from().unwrap())).unwrap();
    assert_eq!(call(first.handle(), &[]), [42]);
    assert!(eventually(|| first.info().unwrap().contexts == 1));
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> [u64; 4] {
    let mut out = [0u64; 4];
    // SAFETY: reads two vector registers that no ABI keeps, into `out`.
    unsafe {
        std::arch::asm!(
            "movdqu [{o}], xmm14", "movdqu [{o} + 16], xmm15",
            o = in(reg) out.as_mut_ptr(), options(nostack)
        );
    }
    out
}

#[cfg(target_arch = "aarch64")]
fn vectors() -> [u64; 4] {
    let mut out = [0u64; 4];
    // SAFETY: reads two vector registers into `out`.
    unsafe {
        std::arch::asm!("stp q30, q31, [{o}]", o = in(reg) out.as_mut_ptr(), options(nostack));
    }
    out
}

fn fill_vectors(value: u64) {
    let pattern = [value; 2];
    // SAFETY: writes caller-saved vector registers, declared as such.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "movdqu xmm14, [{p}]", "movdqu xmm15, [{p}]",
            p = in(reg) pattern.as_ptr(), out("xmm14") _, out("xmm15") _, options(nostack)
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "ldr q30, [{p}]", "ldr q31, [{p}]",
            p = in(reg) pattern.as_ptr(), out("v30") _, out("v31") _, options(nostack)
        );
    }
}

fn c3_5_vector_registers_are_not_seen() {
    const SECRET: u64 = 0x5ec2_e75e_c2e7_5ec2;
    let other = answering(&[], Flags::empty(), |_| vectors().to_vec()).unwrap();
    for _ in 0..100 {
        fill_vectors(SECRET);
        let seen = call(other.handle(), &[]);
        assert!(!seen.contains(&SECRET), "{seen:x?}");
    }
}

thread_local! {
    static LOCAL: std::cell::Cell<u64> = const { std::cell::Cell::new(1) };
}

fn c3_5_thread_local_storage_is_not_seen() {
    let other = answering(&[], Flags::empty(), |w| {
        vec![LOCAL.replace(w[0]), Errno::last().raw() as u64]
    })
    .unwrap();
    LOCAL.set(2);
    assert_eq!(call(other.handle(), &[3])[0], 1);
    assert_eq!(LOCAL.get(), 2);
    assert_eq!(call(other.handle(), &[4])[0], 3);
}

fn c3_5_signal_mask_is_not_seen() {
    SigSet::from(Signal::SIGUSR1).thread_block().unwrap();
    let other = answering(&[], Flags::empty(), |_| {
        let mask = SigSet::thread_get_mask().unwrap();
        SigSet::from(Signal::SIGUSR2).thread_block().unwrap();
        vec![
            mask.contains(Signal::SIGUSR1).into(),
            mask.contains(Signal::SIGUSR2).into(),
            mask.contains(Signal::SIGTERM).into(),
        ]
    })
    .unwrap();
    SigSet::from(Signal::SIGTERM).thread_block().unwrap();
    assert_eq!(call(other.handle(), &[]), [1, 0, 0]);
    let mine = SigSet::thread_get_mask().unwrap();
    assert!(!mine.contains(Signal::SIGUSR2) && mine.contains(Signal::SIGTERM));
    assert_eq!(call(other.handle(), &[]), [1, 1, 0]);
}

fn c3_5_alternate_stack_is_not_seen() {
    let stack = |new: Option<usize>| {
        // SAFETY: sets and reads the alternate stack; the memory given is
        // never freed.
        unsafe {
            let mut old: libc::stack_t = std::mem::zeroed();
            let new = new.map(|at| libc::stack_t {
                ss_sp: at as *mut _,
                ss_flags: 0,
                ss_size: 64 * 1024,
            });
            let p = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            assert_eq!(libc::sigaltstack(p, &raw mut old), 0);
            old.ss_sp as u64
        }
    };
    let (a, b) = (Pages::new(16).range().start, Pages::new(16).range().start);
    stack(Some(a));
    let other = answering(&[], Flags::empty(), |_| vec![stack(Some(b))]).unwrap();
    assert_eq!(call(other.handle(), &[]), [a as u64]);
    assert_eq!(stack(None), a as u64);
    assert_eq!(call(other.handle(), &[]), [b as u64]);
}

fn c3_6_ebadf() {
    let file = scratch_file();
    let plain = std::os::fd::AsRawFd::as_raw_fd(&file);
    for fd in [-1, -5, 0, plain, 12_345, i32::MAX, i32::MIN] {
        refused(named(fd).switch(&[]), Errno::EBADF);
    }
    let there = inside(&[], || errno_of(named(plain).switch(&[])));
    assert_eq!(there, libc::EBADF as u64);
}

fn c3_6_einval_itself() {
    let there = inside(&[], || {
        let me = lwc::getlwc().unwrap();
        errno_of(me.switch(&[]))
    });
    assert_eq!(there, libc::EINVAL as u64);
}

fn c3_6_einval_seventeen_words() {
    let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    refused(other.switch(&[0; 17]), Errno::EINVAL);
    assert_eq!(call(other.handle(), &[0; 16]).len(), 16);
}

fn c3_6_esrch_says_how_it_died() {
    let flags = Flags::TRAP_EXIT | Flags::TRAP_FAULT;
    let other = answering(&[], flags, |_| std::process::exit(3)).unwrap();
    assert!(matches!(other.switch(&[]), Ok(Event::Ended(_))));
    let error = refused(other.switch(&[]), Errno::ESRCH);
    if of_processes() {
        assert!(
            error.to_string().contains("exited with status 3"),
            "{error}"
        );
    }
    let other = answering(&[], flags, |_| std::process::abort()).unwrap();
    assert!(matches!(other.switch(&[]), Ok(Event::Ended(_))));
    let error = refused(other.switch(&[]), Errno::ESRCH);
    if of_processes() {
        assert!(error.to_string().contains("SIGABRT"), "{error}");
    }
}

fn c3_6_a_dead_target_does_not_hang() {
    // Not even for a context that is told of the death by nobody.
    let victim = answering(&[], Flags::TRAP_EXIT, <[u64]>::to_vec).unwrap();
    let other = answering(&[], Flags::empty(), |_| vec![errno_of(victim.switch(&[]))]).unwrap();
    assert_eq!(call(other.handle(), &[]), [0]);
    victim.destroy().unwrap();
    assert_eq!(call(other.handle(), &[]), [libc::ESRCH as u64]);
    refused(victim.switch(&[]), Errno::ESRCH);
}
