//! Clause 10: rollback in place.

use lwc::{Access, Confinement, Context, Errno, Flags, Region, Spec};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;

pub(crate) const CASES: &[Case] = cases![
    c10_1_memory_is_what_it_was,
    c10_1_registers_are_what_they_were,
    c10_1_shared_memory_is_not_undone,
    c10_1_again_and_again,
    c10_1_the_stack_that_grew_is_gone,
    c10_1_the_heap_that_grew_is_gone,
    c10_1_mappings_are_what_they_were,
    c10_1_a_stricter_context_goes_back,
    c10_1_a_later_snapshot_takes_the_place_of_the_first,
    c10_1_the_signal_mask_is_what_it_was,
    c10_6_enoent_without_a_snapshot,
    c10_6_ebusy_for_the_current_context,
    c10_6_eperm_for_others_than_the_creator,
];

/// Whether contexts can be rolled back here. Where they cannot, the refusal says
/// why, and that is all there is to see.
fn possible() -> bool {
    match lwc::rollback_support() {
        Ok(()) => true,
        Err(e) => {
            assert_eq!(e.errno(), Errno::ENOTSUP, "{e}");
            eprintln!("skipped: {e}");
            false
        }
    }
}

const FLAGS: Flags = Flags::ROLLBACK
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
            4 => unsafe {
                let to = libc::mremap(at(1), page, 4 * page, libc::MREMAP_MAYMOVE);
                assert_ne!(to, libc::MAP_FAILED);
            },
            // SAFETY: as above; two pages change places.
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
    let mut n = 0;
    let c = strict_with_snapshot(&[], |_| {
        n += 1;
        vec![n]
    });
    for _ in 0..3 {
        assert_eq!(call(c.handle(), &[1]), [2]);
        c.roll_back().unwrap();
    }
}

fn c10_1_a_later_snapshot_takes_the_place_of_the_first() {
    if !possible() {
        return;
    }
    let mut n = 0;
    let c = strict_with_snapshot(&[], |_| {
        n += 1;
        vec![n]
    });
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
    c.restrict(&[Spec::all_memory()]).unwrap();
    assert_eq!(c.snapshot().unwrap_err().errno(), Errno::EPERM);
    assert_eq!(c.roll_back().unwrap_err().errno(), Errno::EPERM);
}
