//! Whether a context that is not asleep on its doorbell is about to be.
//!
//! Time by the clock does not tell: on a loaded machine an honest context waits
//! for a processor as long as others have it. So the root looks at the time that
//! the *context* has had since, and whether it runs or waits elsewhere, both the
//! kernel's word.

use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::wire::bell::PeerBell;
use crate::time::MonotonicTime;
use std::time::Duration;

/// Time on a processor from a hand-over to the sleep, at the very most: the way
/// is some system calls, with page faults and interrupts, and on a virtual machine
/// what its host takes for others.
const ON_PROCESSOR: Duration = Duration::from_millis(5);
/// How long one may ring another that does not wake, by its own word.
const RINGING: Duration = Duration::from_millis(300);
/// How long one that cannot be looked at may take, and anybody at all.
const UNSEEN: Duration = Duration::from_millis(200);
const AT_ALL: Duration = Duration::from_secs(10);

/// How often to look.
const GLANCE: Duration = Duration::from_micros(50);

/// Whether a channel's peer sleeps on its doorbell, or is about to.
pub(crate) fn parks(rt: &Runtime, index: usize) -> bool {
    let Some(c) = rt.channels.get(index).and_then(Option::as_ref) else {
        return false;
    };
    let pid = rt.book.as_ref().and_then(|b| b.pid(c.peer));
    c.peer_bell.is_asleep() || falls_asleep(&c.peer_bell, pid)
}

/// Waits until it sleeps there, or it is clear that it does not mean to.
fn falls_asleep(bell: &PeerBell, pid: Option<i32>) -> bool {
    let since = MonotonicTime::now();
    let had = pid.and_then(time_of);
    // It is on another processor, perhaps, and there in a moment.
    for _ in 0..100 {
        if bell.is_asleep() {
            return true;
        }
        std::hint::spin_loop();
    }
    loop {
        std::thread::sleep(GLANCE);
        if bell.is_asleep() {
            return true;
        }
        let waited = since.elapsed();
        let limit = match (pid, had) {
            _ if bell.is_ringing() => RINGING,
            (Some(pid), Some(had)) => {
                let has = time_of(pid).unwrap_or(Duration::MAX);
                if has.saturating_sub(had) > ON_PROCESSOR {
                    return false;
                }
                if waits(pid) && !bell.is_asleep() && !bell.is_ringing() {
                    // Somewhere else than on its doorbell.
                    return false;
                }
                AT_ALL
            }
            _ => UNSEEN,
        };
        if waited > limit {
            return false;
        }
    }
}

/// What a process has had of processors (clock_getcpuclockid(3)).
pub(super) fn time_of(pid: i32) -> Option<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut clock = 0;
    // SAFETY: both calls write to the locals that they are given.
    let ok = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    ok.then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Whether a process waits for something, and not for a processor.
pub(super) fn waits(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // "pid (comm) state …"; comm may hold anything.
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().next());
    // In the kernel for a page, say, it waits as well ("D"), and goes on.
    matches!(state, Some("S" | "T" | "t"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_has_time_and_one_that_waits_is_seen() {
        // SAFETY: getpid has no preconditions.
        let me = unsafe { libc::getpid() };
        let before = time_of(me).unwrap();
        while time_of(me).unwrap() - before < ON_PROCESSOR {
            std::hint::spin_loop();
        }
        // Past every process that Linux numbers.
        assert_eq!(time_of(1 << 22), None);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        while !waits(pid) {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
