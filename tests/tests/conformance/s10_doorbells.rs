//! Doorbells are read by all who may ring them, and rung by them for nothing: what
//! changes there cannot be used to keep anything (clause 10.2, and between functions
//! that share nothing).

use lwc::Flags;
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) const CASES: &[Case] = cases![c10_2_what_a_doorbell_counts];

/// Words of a doorbell that change: asleep or not, hand-overs received, and when it
/// last gave the baton away.
const WORDS: [usize; 3] = [0, 16, 24];

/// Doorbells of others, which cannot be written: where they are.
fn doorbells() -> Vec<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let lines = || maps.lines().filter(|l| l.contains("memfd:lwc-bell"));
    let inode = |l: &str| l.split_ascii_whitespace().nth(4).unwrap().to_owned();
    let own = lines().find(|l| l.contains(" rw-s ")).map(inode);
    lines()
        .filter(|l| Some(inode(l)) != own)
        .map(|l| usize::from_str_radix(l.split('-').next().unwrap(), 16).unwrap())
        .collect()
}

/// Those words, of up to five doorbells: no more travel with a switch.
fn read(all: &[usize]) -> Vec<u64> {
    let places = all.iter().take(5).flat_map(|at| WORDS.map(|w| at + w));
    // SAFETY: mapped to be read, aligned, and the owner writes it by atomics, too.
    let word = |at: usize| unsafe { &*(at as *const AtomicU32) }.load(Ordering::SeqCst);
    places.map(|at| word(at).into()).collect()
}

/// What one context can bring about another one cannot read: no word goes on from
/// where it was.
fn c10_2_what_a_doorbell_counts() {
    let make = || {
        let mut found = None;
        answering(&[], Flags::empty(), move |_| {
            read(found.get_or_insert_with(doorbells))
        })
        .unwrap()
    };
    let c = make();
    // It notes the doorbells before it gets to know the other one.
    call(c.handle(), &[1]);
    let other = make();
    let seen: Vec<Vec<u64>> = (0..16)
        .map(|_| {
            call(other.handle(), &[1]);
            call(c.handle(), &[1])
        })
        .collect();
    let words = seen[0].len();
    assert!(words > 0 && seen.iter().all(|s| s.len() == words));
    let mut changing = 0;
    for at in 0..words {
        let values: Vec<u64> = seen.iter().map(|s| s[at]).collect();
        let steps = values
            .windows(2)
            .map(|w| (w[1] as u32).wrapping_sub(w[0] as u32));
        let steps: Vec<u32> = steps.filter(|&step| step != 0).collect();
        changing += usize::from(steps.len() > 2);
        // A count goes on by little.
        let near = steps.iter().filter(|&&step| step < 1 << 16).count();
        assert!(near <= 2, "word {at}: {values:x?}");
    }
    // So that it does not pass for want of eyes.
    assert!(changing > 0, "{seen:x?}");
}
