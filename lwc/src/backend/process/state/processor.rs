//! What a process does with the processor, by the kernel's word.

use crate::backend::process::wire::bell::PeerBell;
use crate::time::MonotonicTime;
use std::time::Duration;

/// What a process has had of processors (clock_getcpuclockid(3)).
pub(crate) fn time_of(pid: i32) -> Option<Duration> {
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
fn waits(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // "pid (comm) state …"; comm may hold anything.
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().next());
    // In the kernel for a page, say, it waits as well ("D"), and goes on.
    matches!(state, Some("S" | "T" | "t"))
}

/// How long one in the sandbox may wait for something else than to be switched to. An
/// honest one that rings another one sleeps in between, for half as long by the clock
/// (`ring_on`, in [`sleep`](super::sleep)), from whenever it gets to that.
const DAWDLES: Duration = Duration::from_millis(100);

/// How long one in the sandbox was seen to wait, and not on its doorbell: all together,
/// for two that wake each other could take turns.
#[derive(Debug, Default)]
pub(crate) struct Dawdling {
    /// When it was first and last seen to do so, without a pause.
    now: Option<[MonotonicTime; 2]>,
    before: Duration,
}

impl Dawdling {
    /// Whether the owner of a doorbell does that, and has for so long.
    pub(crate) fn is_clear(&mut self, bell: &PeerBell, pid: i32) -> bool {
        self.note(sleeps_elsewhere(bell, pid), MonotonicTime::now())
    }

    /// It was seen to do so at that moment, or not.
    fn note(&mut self, elsewhere: bool, at: MonotonicTime) -> bool {
        if !elsewhere {
            self.pause();
            return false;
        }
        let [first, last] = self.now.get_or_insert([at; 2]);
        *last = at;
        self.before + at.since(*first) > DAWDLES
    }

    /// It does not do so now.
    pub(crate) fn pause(&mut self) {
        if let Some([first, last]) = self.now.take() {
            self.before += last.since(first);
        }
    }
}

/// Whether the owner of a doorbell waits for something, and not on its doorbell.
///
/// An honest one may be woken and go to sleep again all the time, by somebody hostile,
/// and is looked at twice: if it slept on its doorbell the first time and was no more
/// there the moment after, it has said that it is awake before it sleeps again.
fn sleeps_elsewhere(bell: &PeerBell, pid: i32) -> bool {
    let count = bell.count();
    waits(pid) && !bell.is_asleep() && waits(pid) && !bell.is_asleep() && bell.count() == count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_add_up() {
        let at = |ms: u64| MonotonicTime::from_nanos(ms * 1_000_000);
        let mut one = Dawdling::default();
        // An honest one, once.
        assert!(!(0..=50).any(|ms| one.note(true, at(ms))));
        one.pause();
        assert!(!one.note(false, at(60)));
        // However long it does something else in between.
        assert!(!one.note(true, at(5000)));
        assert!(!one.note(true, at(5049)));
        assert!(!one.note(false, at(5050)));
        assert!(!one.note(true, at(9000)));
        assert!(one.note(true, at(9002)));
    }

    #[test]
    fn a_process_that_works_has_time_and_one_that_waits_is_seen() {
        // SAFETY: getpid has no preconditions.
        let me = unsafe { libc::getpid() };
        let before = time_of(me).unwrap();
        while time_of(me).unwrap() - before < Duration::from_millis(5) {
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
