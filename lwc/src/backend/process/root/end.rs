//! What the end of a context means: to whom it is told, who goes with it.

use super::baton::{baton, live};
use super::children::{context_of_ours, end_unregistered, wait_any, wait_one};
use crate::backend::process::state::book::Book;
use crate::backend::process::state::runtime::{Got, Runtime};
use crate::backend::process::wire::bell::{EXITED, SIGNALED};
use crate::backend::process::wire::pair::{WORDS, kind};
use crate::time::MonotonicTime;
use nix::errno::Errno;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Signals that a context brings upon itself (6.1).
const FAULTS: [i32; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// Ends those of `targets` that nobody names any more.
fn destroy_unnamed(rt: &mut Runtime, targets: &[u64]) {
    for &t in targets {
        let live = live(rt);
        if rt.book.as_ref().is_some_and(|b| !b.named(t, live)) {
            finish(rt, t);
        }
    }
}

/// Takes a context that never came to life out of the book. Whom it was
/// introduced to learns from its doorbell that it is dead.
pub(crate) fn unregister(rt: &mut Runtime, id: u64) {
    if rt
        .book
        .as_ref()
        .is_some_and(|b| b.entries.contains_key(&id))
    {
        if let Some(c) = rt
            .book
            .as_ref()
            .and_then(|b| b.entries.get(&id))
            .and_then(|e| rt.channels.get_mut(e.channel))
            .and_then(Option::as_mut)
        {
            c.hold(false);
        }
        remove(rt, id, EXITED);
    }
}

/// A descriptor was closed. The last one takes a suspended context with it.
pub(crate) fn unhold(rt: &mut Runtime, holder: u64, target: u64) {
    if let Some(b) = rt.book.as_mut() {
        b.release(holder, target);
    }
    let before = rt.book.as_ref().map(Book::count);
    destroy_unnamed(rt, &[target]);
    if rt.book.as_ref().map(Book::count) != before {
        end_unregistered(rt);
    }
}

/// Ends a context, and what it may have made past lwCreate.
pub(crate) fn destroy(rt: &mut Runtime, id: u64) {
    finish(rt, id);
    end_unregistered(rt);
}

/// Ends a context and returns what it had.
fn finish(rt: &mut Runtime, id: u64) {
    let Some(pid) = rt.book.as_ref().and_then(|b| b.pid(id)) else {
        return;
    };
    if pid <= 0 {
        return;
    }
    // SAFETY: `pid` is an unreaped child of ours, so it is no other process;
    // waitid writes the struct.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        let mut info: libc::siginfo_t = std::mem::zeroed();
        while libc::waitid(
            libc::P_PID,
            pid as libc::id_t,
            &raw mut info,
            libc::WEXITED | libc::__WALL,
        ) != 0
            && Errno::last() == Errno::EINTR
        {}
    }
    remove(rt, id, SIGNALED | libc::SIGKILL as u32);
}

/// How long one that has discarded itself may take to end by itself.
const DEPARTURE: Duration = Duration::from_millis(10);

/// A context says that it was its last hand-over. It is held to that: one that
/// does not end, as lwDiscardSwitch does at once, is ended. So whoever only says
/// so has said it once, and has cost no more than that. Nor is it waited for then:
/// another one may be at work, whose time runs, and to return its memory takes as
/// long as it has made it take.
pub(crate) fn depart(rt: &mut Runtime, id: u64) {
    let Some(pid) = rt.book.as_ref().and_then(|b| b.pid(id)) else {
        return;
    };
    if pid <= 0 {
        return;
    }
    let since = MonotonicTime::now();
    while wait_one(pid, libc::WNOHANG | libc::WNOWAIT).is_none() {
        if since.elapsed() > DEPARTURE {
            return kill(rt, id);
        }
        std::thread::sleep(Duration::from_micros(20));
    }
}

/// Kills a context and leaves it to be collected later. From now on it is dead for
/// everybody.
pub(crate) fn kill(rt: &mut Runtime, id: u64) {
    if let Some(e) = rt.book.as_mut().and_then(|b| b.entries.get_mut(&id))
        && e.pid > 0
        && !e.doomed
    {
        e.doomed = true;
        let line = rt.channels.get(e.channel).and_then(Option::as_ref);
        if let Some(bell) = line.and_then(|c| c.registered.as_ref()) {
            bell.set_dead(SIGNALED | libc::SIGKILL as u32);
        }
        // As a batch job it does not preempt the one that kills it, which goes
        // on: a process takes ten times as long as a switch to end.
        let plain = libc::sched_param { sched_priority: 0 };
        // SAFETY: an unreaped child of ours, as in `destroy`; the first call
        // reads the struct, and may fail.
        unsafe {
            libc::sched_setscheduler(e.pid, libc::SCHED_BATCH, &raw const plain);
            libc::kill(e.pid, libc::SIGKILL);
        }
    }
}

/// Takes a dead context out of the book; what only it named dies too.
fn remove(rt: &mut Runtime, id: u64, dead: u32) {
    // Where the baton went from it is read while its doorbell is known.
    let (current, had) = baton(rt);
    if current != id && current != rt.id {
        rt.bell.give(current, had);
    }
    let Some(book) = rt.book.as_mut() else { return };
    let Some(entry) = book.entries.remove(&id) else {
        return;
    };
    for e in book.entries.values_mut().filter(|e| e.heir == id) {
        e.heir = entry.heir;
    }
    let orphans: Vec<u64> = book
        .entries
        .iter_mut()
        .filter_map(|(&t, e)| e.holders.remove(&id).map(|_| t))
        .collect();
    // Contexts it registered and never reported: the process, if there is
    // one, finds its root channel closed and goes.
    let unborn: Vec<u64> = book
        .entries
        .iter()
        .filter(|(_, e)| e.creator == id && e.pid == 0)
        .map(|(&t, _)| t)
        .collect();
    if let Some(slot) = rt.channels.get_mut(entry.channel)
        && let Some(c) = slot
    {
        c.dead = Some(dead);
        if let Some(bell) = &c.registered {
            bell.set_dead(dead);
        }
        if !c.held
            && let Some(c) = slot.take()
        {
            c.close();
        }
    }
    for t in unborn {
        unregister(rt, t);
    }
    destroy_unnamed(rt, &orphans);
}

/// Collects the dead. Returns what the root, which waits, gets to know of it;
/// ends the process where the contract says so.
pub(crate) fn reap(rt: &mut Runtime) -> Option<Got> {
    loop {
        let peeked = wait_any(libc::WNOWAIT)?;
        let Some(id) = id_of(rt, peeked.0) else {
            end_unregistered(rt);
            // A clone of the user's own, which is not ours to reap: look at
            // our contexts one by one behind it.
            let pids: Vec<(u64, i32)> = rt
                .book
                .iter()
                .flat_map(|b| b.entries.iter().map(|(&id, e)| (id, e.pid)))
                .collect();
            return pids.into_iter().find_map(|(id, pid)| {
                let (_, dead) = wait_one(pid, libc::WNOHANG)?;
                ended(rt, id, dead)
            });
        };
        let (_, dead) = wait_one(peeked.0, libc::WNOHANG)?;
        if let Some(got) = ended(rt, id, dead) {
            // More may have died: the signal is remembered by the next look.
            return Some(got);
        }
    }
}

fn id_of(rt: &Runtime, pid: i32) -> Option<u64> {
    rt.book
        .as_ref()?
        .entries
        .iter()
        .find(|(_, e)| e.pid == pid)
        .map(|(&id, _)| id)
}

/// A context ended by itself.
fn ended(rt: &mut Runtime, id: u64, mut dead: u32) -> Option<Got> {
    let entry = rt.book.as_ref()?.entries.get(&id)?;
    let (heir, flags) = (entry.heir, entry.flags);
    let (channel, doomed) = (entry.channel, entry.doomed);
    let noted = rt
        .channel(channel)
        .map_or(0, |c| c.inn().fault_signal.load(Ordering::Relaxed)) as i32;
    let signal = if dead & SIGNALED != 0 {
        (dead & 0xff) as i32
    } else if noted == libc::SIGABRT || FAULTS.contains(&noted) {
        // A context that is trapped or in a sandbox cannot raise a signal: it
        // notes it and exits. (One that only says so could as well have died.)
        dead = SIGNALED | noted as u32;
        noted
    } else {
        0
    };
    let mut code = u64::from(if signal == 0 { dead & 0xff } else { 0 });
    let mut address = 0;
    if let Some(c) = rt.channel(channel) {
        let half = c.inn();
        if signal != 0 && half.fault_signal.load(Ordering::Relaxed) as i32 == signal {
            code = half.fault_code.load(Ordering::Relaxed);
            address = half.fault_address.load(Ordering::Relaxed);
        }
    }
    // Before its doorbell goes.
    let (current, _) = baton(rt);
    let was_current = current == id;
    remove(rt, id, dead);
    end_unregistered(rt);
    if !was_current || doomed {
        return None;
    }
    let trapped = (flags & lwc_sys::LWC_TRAP_FAULT != 0 && FAULTS.contains(&signal))
        || flags & lwc_sys::LWC_TRAP_EXIT != 0;
    if !trapped {
        die_like(rt, dead);
    }
    let mut words = [0; WORDS];
    words[..4].copy_from_slice(&[signal as u64, code, address, id]);
    let heir = living(rt, heir);
    if heir == rt.id && !rt.anchor {
        rt.bell.receive();
        return Some(Got::Ended { words, count: 4 });
    }
    let to = rt.book.as_ref().and_then(|b| b.channel(heir));
    let Some(c) = to
        .and_then(|i| rt.channels.get_mut(i))
        .and_then(Option::as_mut)
    else {
        die_like(rt, dead); // nobody is left to tell
    };
    // The baton goes on in the name of who is no more.
    rt.bell.give(heir, c.peer_bell.baton().received);
    c.out().put_words(&words);
    c.out().count.store(4, Ordering::Relaxed);
    c.out().publish(kind::TRAP);
    c.ring();
    None
}

/// An heir, or if it has ended meanwhile, without the baton, its own.
fn living(rt: &mut Runtime, mut heir: u64) -> u64 {
    while let Some(entry) = rt.book.as_ref().and_then(|b| b.entries.get(&heir)) {
        let (pid, next) = (entry.pid, entry.heir);
        let Some((_, dead)) = wait_one(pid, libc::WNOHANG) else {
            break;
        };
        remove(rt, heir, dead);
        heir = next;
    }
    heir
}

/// The process ends as its current context did (6.2, 6.3).
fn die_like(rt: &mut Runtime, dead: u32) -> ! {
    kill_all(rt);
    let low = (dead & 0xff) as i32;
    // SAFETY: the process ends here; the signal's action is put back to
    // default first, so that raising it ends us with that very signal. No
    // core of the root is left for another context's fault (6.4).
    unsafe {
        if dead & SIGNALED != 0 {
            let none = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
            libc::signal(low, libc::SIG_DFL);
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, low);
            libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
            libc::kill(libc::getpid(), low);
            libc::_exit(128 + low)
        }
        libc::_exit(low)
    }
}

/// Ends every context of the process.
pub(crate) fn kill_all(rt: &mut Runtime) {
    let ids: Vec<u64> = rt
        .book
        .iter()
        .flat_map(|b| b.entries.keys().copied())
        .collect();
    ids.into_iter().for_each(|id| finish(rt, id));
    end_unregistered(rt);
}

/// The current context may have replaced its program (execve(2)). Then the
/// others go and the root becomes the shell around it: it waits, and ends as
/// it ends.
pub(crate) fn follow_exec(rt: &mut Runtime) {
    let current = baton(rt).0;
    let Some(pid) = rt.book.as_ref().and_then(|b| b.pid(current)) else {
        return;
    };
    // After execve(2) a process is an ordinary child: its end is told by
    // SIGCHLD whatever it was made with.
    if pid <= 0 || context_of_ours(pid) {
        return;
    }
    let others: Vec<u64> = rt
        .book
        .iter()
        .flat_map(|b| b.entries.keys().copied())
        .filter(|&id| id != current)
        .collect();
    others.into_iter().for_each(|id| finish(rt, id));
    loop {
        if let Some((_, dead)) = wait_one(pid, 0) {
            die_like(rt, dead);
        }
        if Errno::last() != Errno::EINTR {
            die_like(rt, EXITED | 1);
        }
    }
}
