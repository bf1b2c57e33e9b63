//! Clause 8: lwInfo.

use lwc::{Backend, Confinement, Context, Errno, Event, Flags, Handle, Region, Rights, State};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;

pub(crate) const CASES: &[Case] = cases![
    c8_1_identities_are_unique_and_name_the_creator,
    c8_1_states_in_a_life,
    c8_1_flags_are_those_of_creation,
    c8_1_contexts_are_counted,
    c8_1_pages_follow_use,
    c8_1_a_share_is_of_those_who_have_a_page,
    c8_1_a_share_by_mounts_of_ones_own_is_none,
    c8_1_rights_of_oneself_and_of_a_descriptor,
    c8_1_a_third_partys_state,
    c8_1_ebadf,
];

fn c8_1_identities_are_unique_and_name_the_creator() {
    let mut seen = std::collections::BTreeSet::from([1]);
    for _ in 0..10 {
        let other = answering(&[], Flags::empty(), |_| {
            let me = lwc::info().unwrap();
            let inner = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
            let inner = inner.info().unwrap();
            vec![me.id, me.creator, inner.id, inner.creator]
        })
        .unwrap();
        let id = other.info().unwrap().id;
        let got = call(other.handle(), &[]);
        assert_eq!((got[0], got[1], got[3]), (id, 1, id));
        assert_eq!(other.info().unwrap().creator, 1);
        assert!(seen.insert(got[0]) && seen.insert(got[2]), "{got:?}");
    }
}

fn c8_1_states_in_a_life() {
    let other = lwc::spawn(&[], Flags::TRAP_EXIT, |event| {
        let me = lwc::info().unwrap().state == State::Current;
        let caller = event.from().unwrap();
        let suspended = caller.info().unwrap().state == State::Suspended;
        let _ = caller.switch(&[me.into(), suspended.into()]).unwrap();
        std::process::exit(0)
    })
    .unwrap();
    assert_eq!(other.info().unwrap().state, State::New);
    assert_eq!(call(other.handle(), &[]), [1, 1]);
    assert_eq!(other.info().unwrap().state, State::Suspended);
    assert_eq!(lwc::info().unwrap().state, State::Current);
    assert!(matches!(other.switch(&[]), Ok(Event::Ended(_))));
    assert_eq!(other.info().unwrap().state, State::Dead);
    assert_eq!(lwc::info().unwrap().state, State::Current);
}

fn c8_1_flags_are_those_of_creation() {
    let flags = Flags::TRAP_EXIT | Flags::PREFAULT;
    let other = answering(&[], flags, |_| {
        vec![lwc::info().unwrap().flags.bits().into()]
    })
    .unwrap();
    assert_eq!(other.info().unwrap().flags, flags);
    assert_eq!(call(other.handle(), &[]), [flags.bits().into()]);
}

fn c8_1_contexts_are_counted() {
    let mut all = Vec::new();
    for n in 1..20 {
        assert_eq!(lwc::info().unwrap().contexts, n);
        all.push(answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap());
    }
    assert_eq!(all[3].info().unwrap().contexts, 20);
    all.clear();
    assert_eq!(lwc::info().unwrap().contexts, 1);
}

fn c8_1_pages_follow_use() {
    // Linux counts in batches, some dozens of pages a processor.
    const N: usize = 1024;
    let (pages, region) = (Pages::new(N), Region::new(N * lwc::page_size()).unwrap());
    let other = answering(&[], Flags::empty(), |w| {
        match w[0] {
            0 => (0..N).for_each(|i| pages.set(i, 1)),
            1 => region.write(0, &vec![1; region.len()]),
            _ => (),
        }
        vec![]
    })
    .unwrap();
    call(other.handle(), &[9]);
    let before = other.info().unwrap();
    assert!(before.resident_pages > 0);
    call(other.handle(), &[0]);
    let private = other.info().unwrap();
    assert!(private.private_pages >= before.private_pages + N as u64 / 2);
    assert!(private.resident_pages >= before.resident_pages + N as u64 / 2);
    call(other.handle(), &[1]);
    let shared = other.info().unwrap();
    assert!(shared.resident_pages >= private.resident_pages + N as u64 / 2);
    assert!(shared.private_pages < private.private_pages + N as u64 * 3 / 2);
}

/// Waits until a share is as it should be: one that took long to count is told again.
fn share_until(what: &str, of: Handle, is: impl Fn(u64) -> bool) -> u64 {
    let begun = std::time::Instant::now();
    loop {
        let share = of.info().unwrap().share.expect("a share");
        if is(share) {
            return share;
        }
        assert!(begun.elapsed().as_secs() < 60, "{what}: {share}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn c8_1_a_share_is_of_those_who_have_a_page() {
    const N: usize = 2048;
    let len = (N * lwc::page_size()) as u64;
    let pages = Pages::new(N);
    let mut copy: Option<Context> = None;
    let maker = answering(&[], Flags::empty(), |w| match w[0] {
        0 => {
            (0..N).for_each(|i| pages.set(i, 1));
            vec![]
        }
        1 => {
            let shown = lwc::show_share();
            lwc::confine(Confinement::Creator).unwrap();
            vec![shown.is_ok().into()]
        }
        2 => {
            let made = answering(&[], Flags::empty(), |_| {
                (0..N).for_each(|i| pages.set(i, 2));
                vec![]
            })
            .unwrap();
            let share = share_until("a copy's", made.handle(), |n| n < len);
            copy = Some(made);
            vec![share]
        }
        3 => {
            let copy = copy.as_ref().unwrap();
            call(copy.handle(), &[]);
            vec![share_until("one's own", copy.handle(), |n| n >= len)]
        }
        _ => {
            copy = None;
            vec![]
        }
    })
    .unwrap();
    let of_maker = |what, is: &dyn Fn(u64) -> bool| share_until(what, maker.handle(), is);
    call(maker.handle(), &[0]);
    // It has not shown its own yet.
    assert_eq!(maker.info().unwrap().share, None);
    let is_told = lwc::backend().unwrap() == Backend::Process && cfg!(target_os = "linux");
    assert_eq!(call(maker.handle(), &[1]), [is_told.into()]);
    if !is_told {
        assert_eq!(maker.info().unwrap().share, None);
        return;
    }
    assert_eq!(lwc::show_share().unwrap_err().errno(), Errno::EPERM);
    assert_eq!(lwc::info().unwrap().share, None);
    let alone = of_maker("all its own", &|n| n >= len);
    let half = call(maker.handle(), &[2])[0];
    assert!(half >= len / 2, "{half} of {len}");
    // No other has these pages; with the program's, more may be in common.
    of_maker("half of it", &|n| n <= alone - len / 2 + len / 16);
    let written = call(maker.handle(), &[3])[0];
    assert!(written >= len, "{written}");
    of_maker("its own again", &|n| n >= len);
    call(maker.handle(), &[4]);
    of_maker("alone again", &|n| n >= len);
}

/// A context that has mounts of its own may have any file at the name of its share's.
#[cfg(target_os = "linux")]
fn c8_1_a_share_by_mounts_of_ones_own_is_none() {
    let shows = |apart: bool| {
        answering(&[], Flags::empty(), move |_| {
            // SAFETY: it changes nothing but what this process may and sees of files.
            let unshare = |flags| unsafe { libc::unshare(flags) == 0 };
            let (mounts, user) = (libc::CLONE_NEWNS, libc::CLONE_NEWUSER);
            if apart && !unshare(mounts) && !unshare(user | mounts) {
                return vec![0, 0];
            }
            vec![1, lwc::show_share().is_ok().into()]
        })
        .unwrap()
    };
    if lwc::backend().unwrap() != Backend::Process {
        return;
    }
    let plain = shows(false);
    assert_eq!(call(plain.handle(), &[]), [1, 1]);
    assert!(plain.info().unwrap().share.is_some());
    let apart = shows(true);
    if call(apart.handle(), &[]) == [0, 0] {
        eprintln!("skipped: this system lets nobody have mounts of his own");
        return;
    }
    assert_eq!(apart.info().unwrap().share, None);
}

#[cfg(not(target_os = "linux"))]
fn c8_1_a_share_by_mounts_of_ones_own_is_none() {}

fn c8_1_rights_of_oneself_and_of_a_descriptor() {
    let other = answering(&[], Flags::empty(), |_| {
        lwc::restrict_self(&Rights::all_memory()).unwrap();
        let me = lwc::info().unwrap();
        vec![me.may_memory.into(), me.may_files.into()]
    })
    .unwrap();
    assert_eq!(call(other.handle(), &[]), [0, 1]);
    other.restrict(&Rights::credentials()).unwrap();
    let info = other.info().unwrap();
    assert!(!info.may_credentials && info.may_files);
}

fn c8_1_a_third_partys_state() {
    let first = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    let id = first.info().unwrap().id;
    let state = |s: State| match s {
        State::New => 1,
        State::Suspended => 2,
        State::Current => 3,
        State::Dead => 4,
        State::Preempted => 5,
        _ => 6,
    };
    let second = answering(&[], Flags::empty(), |_| {
        let info = first.info().unwrap();
        vec![info.id, state(info.state)]
    })
    .unwrap();
    assert_eq!(call(second.handle(), &[]), [id, 1]);
    call(first.handle(), &[]);
    assert_eq!(call(second.handle(), &[]), [id, 2]);
    first.destroy().unwrap();
    assert_eq!(call(second.handle(), &[]), [id, 4]);
}

fn c8_1_ebadf() {
    for fd in [-1, 0, 9999] {
        refused(named(fd).info(), Errno::EBADF);
    }
}
