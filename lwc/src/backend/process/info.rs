//! lwInfo: what the root's book and /proc know of a context.

use super::runtime::Runtime;
use super::wire::pair::WORDS;
use std::sync::atomic::Ordering;

/// creator, flags, state, contexts, resident, private, known, process.
pub(super) fn info_words(rt: &Runtime, id: u64) -> [u64; 8] {
    let current = super::registrar::baton(rt).0;
    let book = rt.book.as_ref();
    // A root that discarded itself is none any more.
    let contexts = book.map_or(0, super::registrar::Book::count) as u64 - u64::from(rt.anchor);
    let (creator, flags, pid) = if id == 1 {
        (0, 0, (!rt.anchor).then_some(rt.root_pid))
    } else {
        let origin = book.and_then(|b| b.origin(id));
        let pid = book.and_then(|b| b.pid(id));
        match origin {
            Some((creator, flags)) => (creator, flags, pid),
            None => (0, 0, None),
        }
    };
    let Some(pid) = pid else {
        return [0, 0, lwc_sys::LWC_STATE_DEAD.into(), contexts, 0, 0, 0, 0];
    };
    let entered = id == 1 || entered(rt, id);
    let state = if id == current {
        lwc_sys::LWC_STATE_CURRENT
    } else if entered {
        lwc_sys::LWC_STATE_SUSPENDED
    } else {
        lwc_sys::LWC_STATE_NEW
    };
    let (resident, private) = pages(pid);
    [
        creator,
        u64::from(flags),
        state.into(),
        contexts,
        resident,
        private,
        1,
        pid as u64,
    ]
}

/// Whether somebody has switched there: then it has said so on its channel.
fn entered(rt: &Runtime, id: u64) -> bool {
    rt.channels
        .iter()
        .flatten()
        .find(|c| c.peer == id)
        .is_some_and(|c| c.inn().entered.load(Ordering::Relaxed) != 0)
}

/// Resident pages and those of them that are not of a file (shared memory is
/// one), from /proc/PID/statm, which anyone may read.
fn pages(pid: i32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let mut numbers = text.split_ascii_whitespace().skip(1);
    let mut next = || numbers.next().and_then(|n| n.parse::<u64>().ok());
    let resident = next().unwrap_or(0);
    let shared = next().unwrap_or(0);
    (resident, resident.saturating_sub(shared))
}

const _: () = assert!(WORDS >= 9);
