//! lwInfo: what the root's book and /proc know of a context.

use super::baton::baton;
use crate::backend::process::state::book::{Book, Entry};
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::state::share::Share;
use crate::backend::process::wire::message::Facts;
use std::sync::atomic::Ordering;

/// Facts about a context, which may be none.
pub(crate) fn facts(rt: &Runtime, id: u64) -> Facts {
    let book = rt.book.as_ref();
    // A root that discarded itself is none any more.
    let contexts = book.map_or(0, Book::living) as u64 - u64::from(rt.anchor);
    let known = if id == 1 {
        (!rt.anchor).then_some((0, 0, rt.root_pid, None))
    } else {
        let entry = book.and_then(|b| b.entries.get(&id));
        let share = |e: &Entry| e.share.as_ref().and_then(Share::counted);
        entry
            .filter(|e| !e.doomed)
            .map(|e| (e.creator, e.flags, e.pid, share(e)))
    };
    let Some((creator, flags, pid, counted)) = known else {
        return Facts {
            state: lwc_sys::LWC_STATE_DEAD,
            contexts,
            ..Facts::default()
        };
    };
    let state = if id == baton(rt).0 {
        lwc_sys::LWC_STATE_CURRENT
    } else if id == 1 || entered(rt, id) {
        lwc_sys::LWC_STATE_SUSPENDED
    } else {
        lwc_sys::LWC_STATE_NEW
    };
    let page = crate::page::page_size() as u64;
    let (resident, private) = pages(pid)
        .or(counted.map(|c| (c.resident / page, c.anonymous / page)))
        .unwrap_or_default();
    Facts {
        creator,
        flags,
        state,
        contexts,
        resident,
        private,
        pss: counted.map(|c| c.share),
        pid,
    }
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
/// one), from /proc/PID/statm, which anyone may read, unless processes are hidden there.
fn pages(pid: i32) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut numbers = text.split_ascii_whitespace().skip(1);
    let mut next = || numbers.next().and_then(|n| n.parse::<u64>().ok());
    let (resident, shared) = (next()?, next()?);
    Some((resident, resident.saturating_sub(shared)))
}
