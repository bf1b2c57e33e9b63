//! Clause 8: lwInfo.

use lwc::{Errno, Event, Flags, Region, Rights, State};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;

pub(crate) const CASES: &[Case] = cases![
    c8_1_identities_are_unique_and_name_the_creator,
    c8_1_states_in_a_life,
    c8_1_flags_are_those_of_creation,
    c8_1_contexts_are_counted,
    c8_1_pages_follow_use,
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
