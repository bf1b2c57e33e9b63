//! Clause 10: rollback in place.

use lwc::{Access, Confinement, Context, Errno, Flags, Region, Rights, Spec};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;

pub(crate) const CASES: &[Case] = cases![
    c10_1_memory_is_what_it_was,
    c10_1_registers_are_what_they_were,
    c10_1_shared_memory_is_not_undone,
    c10_1_again_and_again => Well within 300,
    c10_1_the_stack_that_grew_is_gone,
    c10_1_the_heap_that_grew_is_gone,
    c10_1_mappings_are_what_they_were,
    c10_1_a_stricter_context_goes_back,
    c10_1_a_later_snapshot_takes_the_place_of_the_first,
    c10_1_the_signal_mask_is_what_it_was,
    c10_1_copies_of_a_confined_creator,
    c10_5_one_that_runs_on_goes_back,
    c10_4_nothing_changed_is_nothing_undone,
    c10_4_what_is_read_is_not_undone,
    c10_6_enoent_without_a_snapshot,
    c10_6_ebusy_for_the_current_context,
    c10_6_eperm_for_others_than_the_creator,
];

/// Of the process backend: what they look at is its own, or Linux's.
#[cfg(target_os = "linux")]
pub(crate) const PROCESS_CASES: &[Case] = cases![
    c10_3_one_that_leaves_is_destroyed,
    c10_6_what_cannot_be_undone_is_told,
    c10_6_no_processes_and_no_threads,
    c10_6_what_lies_beyond_what_is_lent_is_told,
    c10_6_one_whose_threads_stay_is_not_parked,
    c10_1_pages_of_a_file_that_went_are_back,
    c10_1_signals_come_and_ends_are_told,
    c10_1_actions_and_the_alternate_stack_are_what_they_were,
    c10_1_a_stack_that_a_signals_frame_says,
    c10_1_an_action_that_its_signal_resets,
    c10_5_a_copy_leaves_nothing_where_the_backend_writes,
    c10_5_a_doorbell_that_lies_is_put_right,
];

/// Whether contexts can be rolled back here. Where they cannot, the refusal says
/// why, and that is all there is to see.
pub(crate) fn possible() -> bool {
    match lwc::rollback_support() {
        Ok(_) => true,
        Err(e) => {
            assert_eq!(e.errno(), Errno::ENOTSUP, "{e}");
            eprintln!("skipped: {e}");
            false
        }
    }
}

pub(crate) const FLAGS: Flags = Flags::ROLLBACK
    .union(Flags::TRAP_FAULT)
    .union(Flags::TRAP_EXIT);

/// A context that has been called once, with 0, and has its snapshot then.
fn with_snapshot(specs: &[Spec], body: impl FnMut(&[u64]) -> Vec<u64>) -> Context {
    let c = answering(specs, FLAGS, body).unwrap();
    call(c.handle(), &[0]);
    c.snapshot().unwrap();
    c
}

/// The same in the strict sandbox.
fn strict_with_snapshot(specs: &[Spec], mut body: impl FnMut(&[u64]) -> Vec<u64>) -> Context {
    let mut confined = false;
    with_snapshot(specs, move |words| {
        if !std::mem::replace(&mut confined, true) {
            lwc::confine(Confinement::Strict).unwrap();
        }
        body(words)
    })
}

/// One that answers with how often it has been called.
fn counting() -> Context {
    let mut n = 0;
    strict_with_snapshot(&[], move |_| {
        n += 1;
        vec![n]
    })
}

fn c10_1_memory_is_what_it_was() {
    if !possible() {
        return;
    }
    let pages = Pages::new(8);
    pages.set(0, 7);
    pages.set(1, 8);
    let mut kept = vec![1u64, 2, 3];
    let c = with_snapshot(&[], |words| {
        if words[0] == 0 {
            pages.set(1, 9);
            pages.set(2, 10);
            return vec![];
        }
        let seen = [0, 1, 2, 3].map(|i| pages.get(i));
        (0..4).for_each(|i| pages.set(i, 99));
        kept.push(4);
        let mut all = seen.to_vec();
        all.push(kept.len() as u64);
        all
    });
    for _ in 0..3 {
        assert_eq!(call(c.handle(), &[1]), [7, 9, 10, 0, 4]);
        assert!(c.roll_back().unwrap() >= 4);
    }
    assert_eq!([pages.get(0), pages.get(1), pages.get(2)], [7, 8, 0]);
}

fn c10_1_registers_are_what_they_were() {
    if !possible() {
        return;
    }
    let c = answering(&[], FLAGS, |_| vec![]).unwrap();
    drop(c);
    // Its flow of control is a register, too: each call is the second step.
    let c = lwc::spawn(&[], FLAGS, |event| {
        let from = event.from().unwrap();
        let mut step = std::hint::black_box(1.5f64);
        let mut words = [0u64; 2];
        loop {
            let _ = from.switch(&words);
            step *= 2.0;
            words = [step.to_bits(), 1];
        }
    })
    .unwrap();
    call(c.handle(), &[]);
    c.snapshot().unwrap();
    for _ in 0..3 {
        assert_eq!(call(c.handle(), &[]), [3.0f64.to_bits(), 1]);
        assert_eq!(call(c.handle(), &[]), [6.0f64.to_bits(), 1]);
        c.roll_back().unwrap();
    }
}

fn c10_1_shared_memory_is_not_undone() {
    if !possible() {
        return;
    }
    let region = Region::new(1).unwrap();
    let c = with_snapshot(&[Spec::region(&region, Access::Share)], |words| {
        region.write(0, &words[0].to_ne_bytes());
        vec![]
    });
    call(c.handle(), &[5]);
    c.roll_back().unwrap();
    let mut seen = [0; 8];
    region.read(0, &mut seen);
    assert_eq!(u64::from_ne_bytes(seen), 5);
}

fn c10_1_again_and_again() {
    if !possible() {
        return;
    }
    let pages = Pages::new(64);
    let mut n = 0;
    let c = strict_with_snapshot(&[], |words| {
        n += 1;
        let clean = (0..64).all(|i| pages.get(i) == 0);
        for i in 0..words[0] as usize {
            pages.set(i, 1);
        }
        vec![n, clean.into()]
    });
    for i in 0..5000 {
        assert_eq!(call(c.handle(), &[i % 65]), [2, 1], "{i}");
        c.roll_back().unwrap();
    }
}

#[inline(never)]
fn deep(n: usize) -> u64 {
    let room = std::hint::black_box([n as u64; 512]);
    if n == 0 {
        return room[1];
    }
    deep(n - 1) + std::hint::black_box(room[2]) - room[3]
}

fn c10_1_the_stack_that_grew_is_gone() {
    if !possible() {
        return;
    }
    // 512 times 4 KiB and more, which no process has from the start.
    let c = strict_with_snapshot(&[], |words| vec![deep(words[0] as usize)]);
    let before = c.info().unwrap().resident_pages;
    for _ in 0..3 {
        assert_eq!(call(c.handle(), &[512]), [0]);
        c.roll_back().unwrap();
    }
    let after = c.info().unwrap().resident_pages;
    assert!(after < before + 256, "{before} {after}");
}

fn c10_1_the_heap_that_grew_is_gone() {
    if !possible() {
        return;
    }
    let mut all: Vec<Vec<u8>> = Vec::new();
    let c = strict_with_snapshot(&[], |words| {
        let n = all.len() as u64;
        for i in 0..words[0] {
            // Both of the allocator's ways to get memory.
            all.push(vec![i as u8; if i % 8 == 0 { 1 << 20 } else { 10_000 }]);
        }
        vec![n]
    });
    for _ in 0..20 {
        assert_eq!(call(c.handle(), &[100]), [0]);
        c.roll_back().unwrap();
    }
    assert!(c.info().unwrap().resident_pages < 4000);
}

fn c10_1_mappings_are_what_they_were() {
    if !possible() {
        return;
    }
    let pages = Pages::new(16);
    (0..16).for_each(|i| pages.set(i, 100 + i as u64));
    let c = with_snapshot(&[], |words| {
        let at = |i: usize| pages.page(i).start as *mut libc::c_void;
        let page = lwc::page_size();
        match words[0] {
            // SAFETY: pages of the case's own, of which only their words are
            // looked at, by volatile access.
            1 => unsafe {
                assert_eq!(libc::munmap(at(2), 2 * page), 0);
            },
            // SAFETY: as above.
            2 => unsafe {
                assert_eq!(libc::mprotect(at(4), 3 * page, libc::PROT_READ), 0);
                assert_eq!(libc::mprotect(at(9), page, libc::PROT_NONE), 0);
            },
            // SAFETY: as above.
            3 => unsafe {
                assert_eq!(libc::madvise(at(0), 8 * page, libc::MADV_DONTNEED), 0);
            },
            // SAFETY: as above.
            #[cfg(target_os = "linux")]
            4 => unsafe {
                let to = libc::mremap(at(1), page, 4 * page, libc::MREMAP_MAYMOVE);
                assert_ne!(to, libc::MAP_FAILED);
            },
            // SAFETY: as above; two pages change places.
            #[cfg(target_os = "linux")]
            5 => unsafe {
                let spare = libc::mremap(at(1), page, page, 3, at(15));
                assert_eq!(spare, at(15));
                assert_eq!(libc::mremap(at(2), page, page, 3, at(1)), at(1));
                assert_eq!(libc::mremap(at(15), page, page, 3, at(2)), at(2));
            },
            // SAFETY: as above.
            6 => unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
                let prot = libc::PROT_READ | libc::PROT_WRITE;
                assert_eq!(libc::mmap(at(3), 2 * page, prot, flags, -1, 0), at(3));
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                let more = libc::mmap(std::ptr::null_mut(), 99 * page, prot, flags, -1, 0);
                assert_ne!(more, libc::MAP_FAILED);
                more.cast::<u64>().write(1);
            },
            _ => {
                let sum: u64 = (0..16).map(|i| pages.get(i) * (i as u64 + 1)).sum();
                (0..16).for_each(|i| pages.set(i, 0));
                return vec![sum];
            }
        }
        vec![]
    });
    let clean = call(c.handle(), &[7]);
    c.roll_back().unwrap();
    for what in 1..7 {
        call(c.handle(), &[what]);
        c.roll_back().unwrap();
        assert_eq!(call(c.handle(), &[7]), clean, "{what}");
        c.roll_back().unwrap();
    }
}

fn c10_1_a_stricter_context_goes_back() {
    if !possible() {
        return;
    }
    let c = counting();
    for _ in 0..3 {
        assert_eq!(call(c.handle(), &[1]), [2]);
        c.roll_back().unwrap();
    }
}

fn c10_1_a_later_snapshot_takes_the_place_of_the_first() {
    if !possible() {
        return;
    }
    let c = counting();
    assert_eq!(call(c.handle(), &[1]), [2]);
    c.snapshot().unwrap();
    for _ in 0..3 {
        assert_eq!(call(c.handle(), &[1]), [3]);
        assert_eq!(call(c.handle(), &[1]), [4]);
        c.roll_back().unwrap();
    }
}

fn c10_1_the_signal_mask_is_what_it_was() {
    if !possible() {
        return;
    }
    use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
    let c = strict_with_snapshot(&[], |_| {
        let mut old = SigSet::empty();
        let mut set = SigSet::empty();
        set.add(Signal::SIGUSR1);
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut old)).unwrap();
        vec![old.contains(Signal::SIGUSR1).into()]
    });
    c.roll_back().unwrap();
    call(c.handle(), &[1]);
    c.roll_back().unwrap();
    // The first call, before the snapshot, has blocked it.
    assert_eq!(call(c.handle(), &[1]), [1]);
}

fn c10_6_enoent_without_a_snapshot() {
    if !possible() {
        return;
    }
    let c = answering(&[], FLAGS, |_| vec![3]).unwrap();
    assert_eq!(c.roll_back().unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(call(c.handle(), &[]), [3]);
}

fn c10_6_ebusy_for_the_current_context() {
    if !possible() {
        return;
    }
    let me = lwc::getlwc().unwrap();
    assert_eq!(me.snapshot().unwrap_err().errno(), Errno::EBUSY);
    assert_eq!(me.roll_back().unwrap_err().errno(), Errno::EBUSY);
}

fn c10_6_eperm_for_others_than_the_creator() {
    if !possible() {
        return;
    }
    let c = answering(&[], FLAGS, |_| vec![]).unwrap();
    c.restrict(&Rights::all_memory()).unwrap();
    assert_eq!(c.snapshot().unwrap_err().errno(), Errno::EPERM);
    assert_eq!(c.roll_back().unwrap_err().errno(), Errno::EPERM);
}

/// Addresses of a context's own pages that the backend has, as hostile code finds
/// them: its doorbell, and those of its pairs.
#[cfg(target_os = "linux")]
fn backend_pages() -> Vec<std::ops::Range<usize>> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let own = |l: &&str| l.contains("rw-s") && l.contains("/memfd:lwc-");
    let own = maps.lines().filter(own);
    let range = |l: &str| {
        let (start, end) = l.split(' ').next().unwrap().split_once('-').unwrap();
        let number = |s| usize::from_str_radix(s, 16).unwrap();
        number(start)..number(end)
    };
    own.map(range).collect()
}

#[cfg(target_os = "linux")]
const MARK: u64 = 0x5ec1_e75e_c1e7_5ec1;

/// Where a mark is left in these pages.
#[cfg(target_os = "linux")]
fn marks(pages: &[std::ops::Range<usize>]) -> Vec<usize> {
    let words = pages.iter().flat_map(|p| p.clone().step_by(8));
    words.filter(|&at| peek(at) == MARK).collect()
}

#[cfg(target_os = "linux")]
fn c10_5_a_copy_leaves_nothing_where_the_backend_writes() {
    if !possible() {
        return;
    }
    let mut pages = Vec::new();
    let mut asked = 0;
    let c = answering(&[], FLAGS, |words| {
        asked += 1;
        if asked == 1 {
            pages = backend_pages();
            lwc::confine(lwc::Confinement::Strict).unwrap();
            // Its doorbell is elsewhere now.
            return vec![pages.len() as u64];
        }
        match words[0] {
            1 => {
                let halves = pages.iter().filter(|p| p.len() > 4096);
                let all = halves.flat_map(|p| p.clone().step_by(8));
                all.for_each(|at| poke(at, MARK));
                vec![MARK; 16]
            }
            _ => {
                let pairs: Vec<_> = pages.iter().filter(|p| p.len() > 4096).cloned().collect();
                marks(&pairs).iter().map(|&at| at as u64).take(16).collect()
            }
        }
    })
    .unwrap();
    assert_eq!(call(c.handle(), &[0]), [2]);
    c.snapshot().unwrap();
    for _ in 0..3 {
        assert_eq!(call(c.handle(), &[1]), [MARK; 16]);
        // So it would be told of if it could be seen.
        assert_ne!(call(c.handle(), &[2]), []);
        call(c.handle(), &[1]);
        c.roll_back().unwrap();
        assert_eq!(call(c.handle(), &[2]), []);
        c.roll_back().unwrap();
    }
}

/// The doorbell of a strict context, by its address: apart from all else.
#[cfg(target_os = "linux")]
fn c10_5_a_doorbell_that_lies_is_put_right() {
    if !possible() {
        return;
    }
    let c = answering(&[], FLAGS, |words| {
        // Not in the sandbox, so that it stays where it is seen.
        static BELL: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let bell = || BELL.load(std::sync::atomic::Ordering::Relaxed);
        match words[0] {
            0 => {
                let pages = backend_pages();
                let page = pages.iter().find(|p| p.len() == 4096).unwrap();
                BELL.store(page.start, std::sync::atomic::Ordering::Relaxed);
                vec![]
            }
            1 => {
                // Every word but the first, which it sleeps on: trapped,
                // awaiting an answer of somebody's, dead, and counts.
                (bell() + 8..bell() + 4096)
                    .step_by(8)
                    .for_each(|at| poke(at, MARK));
                poke(bell(), peek(bell()) | 0xffff_ffff_0000_0000);
                vec![1]
            }
            _ => {
                let left = (bell()..bell() + 4096)
                    .step_by(8)
                    .filter(|&at| peek(at) == MARK);
                vec![left.count() as u64, peek(bell()) >> 32]
            }
        }
    })
    .unwrap();
    call(c.handle(), &[0]);
    c.snapshot().unwrap();
    for _ in 0..3 {
        assert_eq!(call(c.handle(), &[2]), [0, 0]);
        c.roll_back().unwrap();
        assert_eq!(call(c.handle(), &[1]), [1]);
        c.roll_back().unwrap();
    }
}

/// One that hands over and runs on is stopped wherever it is.
fn c10_5_one_that_runs_on_goes_back() {
    if !possible() {
        return;
    }
    let region = Region::new(1).unwrap();
    let at = region.as_ptr() as usize;
    let mut n = 0;
    let c = lwc::spawn(
        &[Spec::region(&region, Access::Share)],
        FLAGS,
        |mut event| {
            loop {
                n += 1;
                let from = event.from().unwrap();
                if event.args() == [9] {
                    // A peer that waits is told by a word of shared memory.
                    poke(at, 1);
                    loop {
                        n += 1;
                        std::hint::black_box(&mut n);
                    }
                }
                event = from.switch(&[n]).unwrap();
            }
        },
    )
    .unwrap();
    assert_eq!(call(c.handle(), &[]), [1]);
    c.snapshot().unwrap();
    for _ in 0..3 {
        poke(at, 0);
        let late = lwc::MonotonicTime::now() + std::time::Duration::from_millis(30);
        let e = c.switch_until(&[9], late).unwrap_err();
        assert_eq!(e.errno(), Errno::ETIMEDOUT);
        c.roll_back().unwrap();
        assert_eq!(call(c.handle(), &[]), [2]);
        c.roll_back().unwrap();
    }
}

#[cfg(target_os = "linux")]
fn c10_6_what_cannot_be_undone_is_told() {
    if !possible() {
        return;
    }
    type Deed = fn();
    let deeds: [Deed; 7] = [
        || drop(std::fs::File::open("/dev/null").unwrap()),
        || std::env::set_current_dir("/").unwrap(),
        // SAFETY: plain numbers.
        || unsafe {
            let _ = libc::umask(0o27);
        },
        // SAFETY: a number that is nobody's.
        || unsafe {
            let _ = libc::close(77);
        },
        // SAFETY: a timer that never goes off.
        || unsafe {
            let _ = libc::alarm(10_000);
        },
        // SAFETY: a name.
        || unsafe {
            let _ = libc::prctl(libc::PR_SET_NAME, c"other".as_ptr());
        },
        || {
            let pages = Pages::new(1);
            pages.set(0, 1);
            // SAFETY: pages of the case's own.
            unsafe { libc::madvise(pages.range().start as *mut _, 4096, libc::MADV_FREE) };
        },
    ];
    for (i, deed) in deeds.iter().enumerate() {
        let c = with_snapshot(&[], |words| {
            if words[0] == 1 {
                deed();
            }
            vec![]
        });
        call(c.handle(), &[1]);
        let e = c.roll_back().unwrap_err();
        assert_eq!(e.errno(), Errno::ENOTSUP, "{i}: {e}");
        assert!(e.to_string().contains("destroyed"), "{i}: {e}");
        assert_eq!(c.switch(&[0]).unwrap_err().errno(), Errno::ESRCH);
    }
}

/// Whoever is sent more descriptors than there are numbers for has some at others, which no
/// rollback closes.
#[cfg(target_os = "linux")]
fn c10_6_what_lies_beyond_what_is_lent_is_told() {
    use super::s9_files::{line, receive_and_keep};
    use std::os::fd::{AsFd, AsRawFd};
    let (here, there) = line();
    let (line, file) = (there.as_raw_fd(), scratch_file());
    lwc::catch_files(Some(there.as_fd()), 0..0, |_| Err(Errno::EACCES)).unwrap();
    // Since Linux 6.2.
    let is_counted = std::fs::metadata("/proc/self/fd").unwrap().len() > 0;
    if !possible() {
        return;
    }
    let numbers = lwc::lent_descriptors().len();
    for count in [0, 1, numbers + 20] {
        let c = with_snapshot(&[], move |words| match words {
            [1] => vec![u64::from(receive_and_keep(line))],
            _ => vec![],
        });
        for _ in 0..count {
            lwc::send_descriptor(&here, file.as_fd()).unwrap();
            assert_eq!(call(c.handle(), &[1]), [1]);
        }
        if count <= numbers {
            c.roll_back().unwrap();
            assert_eq!(call(c.handle(), &[0]), []);
        } else if is_counted {
            let e = c.roll_back().unwrap_err();
            assert_eq!(e.errno(), Errno::ENOTSUP, "{e}");
            assert!(e.to_string().contains("destroyed"), "{e}");
        }
    }
}

#[cfg(target_os = "linux")]
fn c10_6_no_processes_and_no_threads() {
    if !possible() {
        return;
    }
    let c = with_snapshot(&[], |words| {
        if words[0] == 0 {
            return vec![];
        }
        // SAFETY: it fails.
        let forked = unsafe { libc::fork() };
        let errno = Errno::last();
        if forked == 0 {
            std::process::abort();
        }
        let thread = std::thread::Builder::new().spawn(|| {}).is_ok();
        vec![errno.raw() as u64, thread.into()]
    });
    assert_eq!(call(c.handle(), &[1]), [libc::EPERM as u64, 0]);
}

/// Who may have threads is parked when none but the one that waits is left.
#[cfg(target_os = "linux")]
fn c10_6_one_whose_threads_stay_is_not_parked() {
    if lwc::backend() != Ok(lwc::Backend::Process) {
        return;
    }
    lwc::allow_threads(2).unwrap();
    if !possible() {
        return;
    }
    let c = strict_with_snapshot(&[], |words| {
        let stays = match words[0] {
            1 => std::thread::spawn(|| 7),
            2 => std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            }),
            _ => return vec![],
        };
        match words[0] {
            1 => vec![stays.join().unwrap()],
            _ => vec![],
        }
    });
    c.expect_threads().unwrap();
    assert_eq!(call(c.handle(), &[1]), [7]);
    assert!(c.parked().unwrap());
    c.roll_back().unwrap();
    assert!(c.parked().unwrap());
    call(c.handle(), &[2]);
    assert!(!c.parked().unwrap());
    assert!(!c.parked().unwrap());
    let e = c.roll_back().unwrap_err();
    assert_eq!(e.errno(), Errno::ENOTSUP, "{e}");
    assert!(e.to_string().contains("threads"), "{e}");
}

/// Signals and ends are the context's, as if nobody traced it.
#[cfg(target_os = "linux")]
fn c10_1_signals_come_and_ends_are_told() {
    if !possible() {
        return;
    }
    extern "C" fn jump_over(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the context that the kernel made; the faulting store below is
        // two bytes long.
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        unsafe {
            let context = &mut *context.cast::<libc::ucontext_t>();
            context.uc_mcontext.gregs[libc::REG_RIP as usize] += 2;
        }
        #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
        let _ = context;
    }
    fn fault() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a store to address 8, which the handler jumps over: 00 00 is
        // `add [rax], al`.
        unsafe {
            std::arch::asm!(".byte 0x00, 0x00", inout("rax") 8usize => _);
        }
    }
    let make = || {
        with_snapshot(&[], |words| {
            match words[0] {
                // SAFETY: the struct is initialised.
                0 => unsafe {
                    let mut action: libc::sigaction = std::mem::zeroed();
                    action.sa_sigaction = jump_over as *const () as usize;
                    action.sa_flags = libc::SA_SIGINFO;
                    libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut());
                },
                1 => (0..3).for_each(|_| fault()),
                2 => std::process::exit(7),
                // SAFETY: it ends.
                _ => unsafe {
                    let _ = libc::raise(libc::SIGKILL);
                },
            }
            vec![words[0]]
        })
    };
    // They are handled as often as they come, and can be told of later: s10_faults.rs.
    let c = make();
    for _ in 0..3 {
        assert_eq!(call(c.handle(), &[1]), [1]);
    }
    let e = c.roll_back().unwrap_err();
    assert_eq!(e.errno(), Errno::ENOTSUP);
    assert!(e.to_string().contains("SIGSEGV"), "{e}");
    let c = make();
    match c.switch(&[2]).unwrap() {
        lwc::Event::Ended(end) => assert_eq!((end.signal, end.code), (None, 7)),
        other => panic!("{other:?}"),
    }
    assert_eq!(c.roll_back().unwrap_err().errno(), Errno::ESRCH);
    let c = with_snapshot(&[], |words| {
        if words[0] == 1 {
            fault();
        }
        vec![]
    });
    match c.switch(&[1]).unwrap() {
        lwc::Event::Ended(end) => assert_eq!(end.signal, Some(libc::SIGSEGV)),
        other => panic!("{other:?}"),
    }
    let c = with_snapshot(&[], |_| vec![]);
    c.destroy().unwrap();
    assert_eq!(c.roll_back().unwrap_err().errno(), Errno::ESRCH);
}

/// Copies of a snapshot that is in its sandbox, as an orchestrator has them.
fn c10_1_copies_of_a_confined_creator() {
    if !possible() {
        return;
    }
    let root = lwc::getlwc().unwrap().info().unwrap().id;
    let snapshot = lwc::spawn(&[], FLAGS & !Flags::ROLLBACK, |event| {
        let from = event.from().unwrap();
        lwc::rollback_support().unwrap();
        lwc::confine(Confinement::Creator).unwrap();
        lwc::rollback_support().unwrap();
        let copy = counting();
        // It cannot open anything else than its own memory, for them.
        assert!(std::fs::File::open("/dev/null").is_err());
        let mut sum = 0;
        for _ in 0..100 {
            sum += call(copy.handle(), &[1])[0];
            copy.roll_back().unwrap();
        }
        loop {
            let _ = from.switch(&[sum, root]);
        }
    })
    .unwrap();
    assert_eq!(call(snapshot.handle(), &[]), [200, 1]);
}

#[cfg(target_os = "linux")]
fn c10_1_actions_and_the_alternate_stack_are_what_they_were() {
    if !possible() {
        return;
    }
    extern "C" fn handler(_: i32) {}
    let room = Pages::new(8);
    let c = strict_with_snapshot(&[], |words| {
        let mut seen = Vec::new();
        // SAFETY: the structures are initialised, the stack is pages of the
        // case's own, which nobody uses.
        unsafe {
            let mut old: libc::stack_t = std::mem::zeroed();
            let mine = libc::stack_t {
                ss_sp: room.range().start as *mut _,
                ss_flags: 0,
                ss_size: room.range().len(),
            };
            let new = if words[0] == 1 {
                &raw const mine
            } else {
                std::ptr::null()
            };
            assert_eq!(libc::sigaltstack(new, &raw mut old), 0);
            seen.extend([old.ss_sp as u64, old.ss_size as u64, old.ss_flags as u64]);
            for signal in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGFPE, 40] {
                let mut old: libc::sigaction = std::mem::zeroed();
                let mut mine: libc::sigaction = std::mem::zeroed();
                mine.sa_sigaction = handler as *const () as usize;
                mine.sa_flags = libc::SA_RESTART;
                let new = if words[0] == 1 {
                    &raw const mine
                } else {
                    std::ptr::null()
                };
                assert_eq!(libc::sigaction(signal, new, &raw mut old), 0);
                seen.extend([old.sa_sigaction as u64, old.sa_flags as u64]);
            }
        }
        seen
    });
    let clean = call(c.handle(), &[2]);
    for _ in 0..2 {
        assert_eq!(call(c.handle(), &[1]), clean);
        assert_ne!(call(c.handle(), &[2]), clean);
        c.roll_back().unwrap();
        assert_eq!(call(c.handle(), &[2]), clean);
        c.roll_back().unwrap();
    }
}

/// A handler says by its frame which alternate stack there is afterwards: the same, which
/// is told from others, or another one.
#[cfg(target_os = "linux")]
fn c10_1_a_stack_that_a_signals_frame_says() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static WANTED: AtomicUsize = AtomicUsize::new(0);
    if !possible() {
        return;
    }
    extern "C" fn handler(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the context that the kernel made; each write to its stack is to
        // memory that stays.
        unsafe {
            let context = &mut *context.cast::<libc::ucontext_t>();
            let wanted = WANTED.load(Ordering::Relaxed);
            if wanted != 0 {
                context.uc_stack.ss_sp = wanted as *mut _;
                context.uc_stack.ss_flags = 0;
                context.uc_stack.ss_size = 64 << 10;
            }
        }
    }
    let room = Pages::new(32);
    let c = strict_with_snapshot(&[], |words| {
        // SAFETY: the structures are initialised; the stack is pages of the case's own.
        unsafe {
            let mut old: libc::stack_t = std::mem::zeroed();
            match words[0] {
                // A call that the sandbox traps, whose handler is the case's.
                0 => {
                    let mut mine: libc::sigaction = std::mem::zeroed();
                    mine.sa_sigaction = handler as *const () as usize;
                    mine.sa_flags = libc::SA_SIGINFO;
                    assert_eq!(
                        libc::sigaction(libc::SIGSYS, &raw const mine, std::ptr::null_mut()),
                        0
                    );
                }
                1 => {
                    let another = room.range().start;
                    WANTED.store(another, Ordering::Relaxed);
                    libc::syscall(libc::SYS_ptrace, 0, 0, 0, 0);
                }
                2 => {
                    libc::syscall(libc::SYS_ptrace, 0, 0, 0, 0);
                }
                _ => {}
            }
            // To ask is a call that is noted, too.
            if words[0] != 3 {
                return vec![];
            }
            assert_eq!(libc::sigaltstack(std::ptr::null(), &raw mut old), 0);
            vec![old.ss_sp as u64, old.ss_size as u64, old.ss_flags as u64]
        }
    });
    let clean = call(c.handle(), &[3]);
    c.roll_back().unwrap();
    for _ in 0..3 {
        call(c.handle(), &[1]);
        assert_ne!(call(c.handle(), &[3]), clean, "another one");
        c.roll_back().unwrap();
        call(c.handle(), &[1]);
        c.roll_back().unwrap();
        assert_eq!(call(c.handle(), &[3]), clean);
        c.roll_back().unwrap();
        call(c.handle(), &[2]);
        assert_eq!(call(c.handle(), &[3]), clean, "the same");
        c.roll_back().unwrap();
        // The one after the other, in one go.
        call(c.handle(), &[2]);
        call(c.handle(), &[1]);
        call(c.handle(), &[2]);
        c.roll_back().unwrap();
        assert_eq!(call(c.handle(), &[3]), clean);
        c.roll_back().unwrap();
    }
}

/// What comes once and is the default action then (SA_RESETHAND) is there again.
#[cfg(target_os = "linux")]
fn c10_1_an_action_that_its_signal_resets() {
    if !possible() {
        return;
    }
    extern "C" fn handler(_: i32) {}
    let c = strict_with_snapshot(&[], |words| {
        // SAFETY: the structures are initialised.
        unsafe {
            let mut old: libc::sigaction = std::mem::zeroed();
            if words[0] == 0 {
                let mut mine: libc::sigaction = std::mem::zeroed();
                mine.sa_sigaction = handler as *const () as usize;
                mine.sa_flags = libc::SA_RESETHAND;
                assert_eq!(
                    libc::sigaction(libc::SIGSYS, &raw const mine, std::ptr::null_mut()),
                    0
                );
            }
            if words[0] == 1 {
                libc::syscall(libc::SYS_ptrace, 0, 0, 0, 0);
            }
            // To ask is a call that is noted, too.
            if words[0] != 2 {
                return vec![];
            }
            assert_eq!(
                libc::sigaction(libc::SIGSYS, std::ptr::null(), &raw mut old),
                0
            );
            vec![old.sa_sigaction as u64, old.sa_flags as u64]
        }
    });
    let clean = call(c.handle(), &[2]);
    assert_ne!(clean[0], libc::SIG_DFL as u64);
    c.roll_back().unwrap();
    for _ in 0..3 {
        call(c.handle(), &[1]);
        assert_eq!(call(c.handle(), &[2])[0], libc::SIG_DFL as u64);
        c.roll_back().unwrap();
        call(c.handle(), &[1]);
        c.roll_back().unwrap();
        assert_eq!(call(c.handle(), &[2]), clean);
        c.roll_back().unwrap();
    }
}

/// Without its own bytes, a page of a file has those of the file.
#[cfg(target_os = "linux")]
fn c10_1_pages_of_a_file_that_went_are_back() {
    if !possible() || lwc::backend() != Ok(lwc::Backend::Process) {
        return;
    }
    const PAGES: usize = 4;
    let len = PAGES * lwc::page_size();
    // SAFETY: a new file, and a private mapping of it at an address that the
    // system picks.
    let at = unsafe {
        let file = libc::memfd_create(c"pages".as_ptr(), libc::MFD_CLOEXEC);
        assert!(file >= 0 && libc::ftruncate(file, len as i64) == 0);
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let at = libc::mmap(std::ptr::null_mut(), len, prot, libc::MAP_PRIVATE, file, 0);
        assert!(at != libc::MAP_FAILED && libc::close(file) == 0);
        at
    };
    let bytes = |i: usize| at.cast::<u8>().wrapping_add(i * lwc::page_size());
    // SAFETY: inside the mapping, which nobody has a reference to.
    let set = |value| (0..PAGES).for_each(|i| unsafe { bytes(i).write_volatile(value) });
    let get = |i: usize| {
        // SAFETY: as above.
        let byte = unsafe { bytes(i).read_volatile() };
        u64::from(byte)
    };
    set(1);
    let c = strict_with_snapshot(&[], |words| {
        if words[0] > 0 {
            // SAFETY: as above.
            assert_eq!(unsafe { libc::madvise(at, len, libc::MADV_DONTNEED) }, 0);
        }
        match words[0] {
            1 => return vec![],
            3 => set(2),
            _ => {}
        }
        vec![(0..PAGES).map(get).sum()]
    });
    for (what, says) in [(1, &[][..]), (2, &[0]), (3, &[8]), (1, &[])] {
        assert_eq!(call(c.handle(), &[what]), says);
        c.roll_back().unwrap();
        assert_eq!(call(c.handle(), &[0]), [4], "after {what}");
        c.roll_back().unwrap();
    }
}

/// What the process backend does instead (P24).
#[cfg(target_os = "linux")]
fn c10_3_one_that_leaves_is_destroyed() {
    if !possible() || lwc::backend() != Ok(lwc::Backend::Process) {
        return;
    }
    let c = lwc::spawn(&[], FLAGS, |event| {
        let from = event.from().unwrap();
        let _ = from.switch(&[]);
        panic!("{}", from.discard_switch(&[3]));
    })
    .unwrap();
    call(c.handle(), &[]);
    c.snapshot().unwrap();
    match c.switch(&[]).unwrap() {
        lwc::Event::Switched { from, args } => assert_eq!((from, &args[..]), (None, &[3][..])),
        other => panic!("{other:?}"),
    }
    assert_eq!(c.roll_back().unwrap_err().errno(), Errno::ESRCH);
}

/// Pages that were there, and more that were not, some of them beside those, are
/// written, and read.
fn c10_4_what_is_read_is_not_undone() {
    if !possible() {
        return;
    }
    // Page tables are of 512.
    const ALL: usize = 2048;
    const THERE: usize = 600;
    let pages = Pages::new(ALL);
    #[cfg(target_os = "linux")]
    {
        let all = pages.range();
        // SAFETY: advice on a mapping of the test's own.
        unsafe { libc::madvise(all.start as *mut _, all.len(), libc::MADV_NOHUGEPAGE) };
    }
    (0..THERE).step_by(3).for_each(|i| pages.set(i, 1));
    let sum = (THERE / 3) as u64;
    let c = strict_with_snapshot(&[], |words| match words[0] {
        0 => vec![],
        1 => vec![(0..ALL).step_by(3).map(|i| pages.get(i)).sum()],
        _ => {
            (0..ALL).step_by(4).for_each(|i| pages.set(i, 2));
            vec![]
        }
    });
    let undone = |what, says: &[u64]| {
        assert_eq!(call(c.handle(), &[what]), says);
        c.roll_back().unwrap()
    };
    let few = undone(0, &[]);
    for _ in 0..3 {
        let read = undone(1, &[sum]);
        // In one process a page that is read first is made for it.
        let apart = lwc::backend() == Ok(lwc::Backend::Process);
        assert!(!apart || read.abs_diff(few) <= 2, "{read} {few}");
        let written = undone(2, &[]);
        let more = written.abs_diff(few + ALL as u64 / 4);
        assert!(more <= 2, "{written} {few}");
    }
    undone(1, &[sum]);
}

fn c10_4_nothing_changed_is_nothing_undone() {
    if !possible() {
        return;
    }
    let pages = Pages::new(2000);
    (0..2000).for_each(|i| pages.set(i, 1));
    let c = strict_with_snapshot(&[], |words| {
        (0..words[0] as usize).for_each(|i| pages.set(i, 2));
        vec![]
    });
    c.roll_back().unwrap();
    for _ in 0..3 {
        // The kernel itself writes of the processor to a page of it (rseq(2)).
        assert!(c.roll_back().unwrap() <= 1);
    }
    // A call dirties what it runs on; each page that it writes is one more.
    let undone = |n| {
        call(c.handle(), &[n]);
        c.roll_back().unwrap()
    };
    let few = undone(0);
    assert!(few < 50, "{few}");
    for n in [1, 10, 2000] {
        let more = undone(n);
        assert!(more.abs_diff(few + n) <= 1, "{n}: {more} {few}");
    }
}
