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

/// A word of /proc/PID/stat: 0 is the first behind the name.
fn word_of(pid: i32, number: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "pid (comm) state …"; comm may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number).map(str::to_owned)
}

/// How many threads a process has, those among them that have ended and are yet to be
/// collected: one number, so that none is made or ends while it is read.
pub(crate) fn threads_of(pid: i32) -> Option<u32> {
    const THREADS: usize = 17;
    word_of(pid, THREADS)?.parse().ok()
}

/// Whether a process waits for something, and not for a processor.
fn waits(pid: i32) -> bool {
    // In the kernel for a page, say, it waits as well ("D"), and goes on.
    matches!(word_of(pid, 0).as_deref(), Some("S" | "T" | "t"))
}

/// How much of the processor one in the sandbox may use where it is to go to sleep, or
/// to answer, without having done so: that takes some system calls, with page faults
/// and interrupts.
const RUNS: Duration = Duration::from_millis(5);
/// And so much however often it was seen asleep meanwhile: two hostile ones could
/// wake each other for ever.
const RUNS_IN_ALL: Duration = Duration::from_millis(50);
/// So much of it counts between two looks, at most. On a virtual machine whose host
/// gives the processor to others for a while the kernel charges all that time to
/// whoever was running, ten milliseconds for a few instructions; and we do not look
/// meanwhile either. So one such pause, however long, is not enough, nor are four; who
/// means to run on is still at it at the next look, and the one after that.
const RUNS_AT_ONCE: Duration = Duration::from_millis(1);

/// What one in the sandbox has used of the processor since it was to go to sleep, or to
/// answer.
#[derive(Debug, Default)]
pub(crate) struct Running {
    /// What it had used in its life when it was last found awake.
    last: Option<Duration>,
    /// It has been seen asleep since then.
    slept: bool,
    /// What it has used since it was first found awake after that, and since it was at all.
    since: Duration,
    all: Duration,
}

impl Running {
    /// It is found awake, and has used so much in its life ([`time_of`]): whether that
    /// is more than it may.
    pub(crate) fn is_clear(&mut self, used: Duration) -> bool {
        let last = self.last.replace(used).unwrap_or(used);
        let counts = used.saturating_sub(last).min(RUNS_AT_ONCE);
        self.all += counts;
        if !std::mem::take(&mut self.slept) {
            self.since += counts;
        }
        self.since > RUNS || self.all > RUNS_IN_ALL
    }

    /// It is seen asleep.
    pub(crate) fn pause(&mut self) {
        self.slept = true;
        self.since = Duration::ZERO;
    }
}

/// How long one in the sandbox may wait for something else than to be switched to. An
/// honest one that rings another one sleeps in between, for half as long by the clock
/// (`ring_on`, in [`sleep`](super::sleep)), from whenever it gets to that.
const DAWDLES: Duration = Duration::from_millis(100);
/// So much of it counts between two looks, at most: we may have had no processor, and
/// it none to wake up on ([`RUNS_AT_ONCE`]).
const DAWDLES_AT_ONCE: Duration = Duration::from_millis(20);

/// How long one in the sandbox was seen to wait, and not on its doorbell: all together,
/// for two that wake each other could take turns.
#[derive(Debug, Default)]
pub(crate) struct Dawdling {
    /// When it was last seen to do so, if it has not been seen to do anything else since.
    last: Option<MonotonicTime>,
    all: Duration,
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
        let last = self.last.replace(at).unwrap_or(at);
        self.all += at.since(last).min(DAWDLES_AT_ONCE);
        self.all > DAWDLES
    }

    /// It does not do so now.
    pub(crate) fn pause(&mut self) {
        self.last = None;
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
        assert!(!(5000..=5049).any(|ms| one.note(true, at(ms))));
        assert!(!one.note(false, at(5050)));
        assert!(!one.note(true, at(9000)));
        assert!(one.note(true, at(9002)));
    }

    #[test]
    fn a_nap_in_which_nobody_looked_counts_for_little() {
        let at = |ms: u64| MonotonicTime::from_nanos(ms * 1_000_000);
        let mut one = Dawdling::default();
        // The machine stands still, for as long as it likes.
        for n in 0..5 {
            assert!(!one.note(true, at(n * 10_000)), "{n}");
            assert!(!one.note(true, at(n * 10_000 + 9_000)), "{n}");
            one.pause();
        }
        // It is the same one's, and adds up.
        assert!(!one.note(true, at(60_000)));
        assert!(one.note(true, at(60_001)));
    }

    /// What one has used when it is found awake, again and again: at which time it is
    /// clear that it runs.
    fn found(one: &mut Running, used: impl IntoIterator<Item = u64>) -> Option<u64> {
        let mut used = used.into_iter();
        used.find(|&us| one.is_clear(Duration::from_micros(us)))
    }

    #[test]
    fn who_runs_on_is_found() {
        // By many looks, after what it may use; what it used before does not count.
        let looks = (0..).map(|n| 7_000_000 + 100 * n);
        assert_eq!(found(&mut Running::default(), looks), Some(7_005_100));
        // By few, too: one that has the only processor, and is interrupted now and then.
        let looks = (0..).map(|n| 4_000 * n);
        assert_eq!(found(&mut Running::default(), looks), Some(24_000));
    }

    /// A machine whose host has taken the processor away from it charges that to one
    /// that is on its way to sleep, and that has done nothing else.
    #[test]
    fn what_a_host_takes_for_others_is_not_ones_own_for_long() {
        for pause in [5_001, 8_500, 1_000_000] {
            let mut one = Running::default();
            let mut used = 0;
            assert_eq!(found(&mut one, [used]), None);
            for _ in 0..4 {
                used += pause;
                assert_eq!(found(&mut one, [used]), None, "{pause}");
                // And on.
                used += 100;
                assert_eq!(found(&mut one, [used]), None, "{pause}");
            }
            // It sleeps; and it is woken, and on its way once more.
            one.pause();
            assert_eq!(found(&mut one, [used + pause, used + 2 * pause]), None);
        }
    }

    #[test]
    fn who_is_seen_asleep_again_and_again_is_found_in_the_end() {
        let mut one = Running::default();
        let mut used = 0;
        for _ in 0..=50 {
            assert_eq!(found(&mut one, [used]), None);
            used += 1_000;
            one.pause();
        }
        assert_eq!(found(&mut one, [used]), Some(used));
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
        assert_eq!(threads_of(1 << 22), None);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        while !waits(pid) {
            std::thread::yield_now();
        }
        assert_eq!(threads_of(pid), Some(1));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
