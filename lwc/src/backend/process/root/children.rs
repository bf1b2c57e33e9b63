//! The root's children, by the kernel's word.

use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::state::signals::death_signal;
use crate::backend::process::wire::bell::{EXITED, SIGNALED};
use nix::errno::Errno;
use std::collections::BTreeSet;

/// Whether a process is a child of ours whose end is told by the signal that
/// contexts have: no child that the user forked is.
pub(crate) fn context_of_ours(pid: i32) -> bool {
    // SAFETY: waitid fills the struct; WNOWAIT | WNOHANG changes nothing.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(
            libc::P_PID,
            pid as libc::id_t,
            &raw mut info,
            libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WCLONE,
        ) == 0
    }
}

/// Ends processes that are our children as contexts are, and no contexts: what
/// hostile code has cloned past lwCreate, or a creator that died in the middle
/// of it. They have the signal of contexts, which no child of the user's has.
pub(crate) fn end_unregistered(rt: &Runtime) {
    let Some(book) = rt.book.as_ref() else { return };
    // Until its creator has reported it, a context is one of them, too.
    if book.entries.values().any(|e| e.pid == 0) {
        return;
    }
    loop {
        // SAFETY: gettid has no preconditions.
        let thread = unsafe { libc::gettid() };
        let list = std::fs::read_to_string(format!("/proc/self/task/{thread}/children"))
            .unwrap_or_default();
        let known: BTreeSet<i32> = book.entries.values().map(|e| e.pid).collect();
        let unregistered: Vec<i32> = list
            .split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .filter(|pid| !known.contains(pid) && made_as_context(*pid))
            .collect();
        if unregistered.is_empty() {
            return;
        }
        for pid in unregistered {
            // SAFETY: an unreaped child of ours.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            while wait_one(pid, 0).is_none() && Errno::last() == Errno::EINTR {}
        }
        // One may have made another meanwhile.
    }
}

/// Whether a child tells of its end by the signal of contexts.
fn made_as_context(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Field 38 is the signal; count from the name's closing parenthesis.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(35)?.parse().ok())
        == Some(death_signal())
}

/// The next dead child that is no ordinary one: pid and `dead` word.
pub(crate) fn wait_any(extra: i32) -> Option<(i32, u32)> {
    wait_for(libc::P_ALL, 0, extra | libc::WNOHANG | libc::__WCLONE)
}

pub(crate) fn wait_one(pid: i32, extra: i32) -> Option<(i32, u32)> {
    if pid <= 0 {
        return None;
    }
    wait_for(libc::P_PID, pid as libc::id_t, extra | libc::__WALL)
}

fn wait_for(which: libc::idtype_t, id: libc::id_t, options: i32) -> Option<(i32, u32)> {
    // SAFETY: waitid fills the struct, whose union members for a child are
    // valid after success with a pid.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        if libc::waitid(which, id, &raw mut info, libc::WEXITED | options) != 0 {
            return None;
        }
        let pid = info.si_pid();
        if pid == 0 {
            return None;
        }
        let status = info.si_status() as u32;
        let dead = if info.si_code == libc::CLD_EXITED {
            EXITED | (status & 0xff)
        } else {
            SIGNALED | (status & 0xff)
        };
        Some((pid, dead))
    }
}
