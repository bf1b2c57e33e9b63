//! Whether contexts wait to be switched to, all of them at one moment, by the
//! kernel's word.
//!
//! To ask one after the other would not do: two hostile ones that can wake each
//! other would take turns, and whoever is asked about would always be asleep.
//! So each that sleeps is held where it is: the kernel moves it from its doorbell
//! to a word of the root's own memory, where nobody else can wake it, and says
//! whether there was somebody to move. In the sandbox a context can sleep on
//! that doorbell alone ([`super::confine`]), has no timer and gets no signal but
//! from its root. Once the last one has been asked about, all that are held have
//! been asleep together; then they are moved back.
//!
//! One that has just handed over is on its way to sleep, and on a busy machine
//! it may be some time before it gets there. How much of the processor's time it
//! uses meanwhile tells it from one that goes on running, and that it sleeps, but
//! elsewhere, from both.

use super::runtime::Runtime;
use crate::error::{Error, Result};
use crate::moment::Moment;
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

const CALL: &str = "parked";

/// So much of the processor one may use on its way to sleep. It takes some
/// microseconds.
const RUNS: Duration = Duration::from_millis(1);
/// One that still sleeps elsewhere after this long does not mean to come: there
/// is nothing on the way that it would have to wait for, but memory.
const DAWDLES: Duration = Duration::from_millis(20);
/// The machine is too busy for anybody to be told from anybody.
const LONGEST: Duration = Duration::from_secs(5);
/// Between two looks, once some have shown that it takes longer.
const PAUSE: Duration = Duration::from_micros(50);
/// Looks before that.
const LOOKS: u32 = 32;

/// A context that is asked about.
struct Asked {
    channel: usize,
    pid: i32,
    /// Where it is held.
    place: AtomicU32,
    held: bool,
    /// What it had used of the processor when it was first found awake.
    used: Option<Duration>,
    given_up: bool,
}

/// Whether each of these contexts is parked. Without patience it is asked once.
pub(super) fn parked(rt: &mut Runtime, of: &[RawFd], patient: bool) -> Result<Vec<bool>> {
    if !rt.is_root() {
        return Err(Error::new(
            CALL,
            Errno::EPERM,
            "only the root can ask who is parked, on the process backend",
        ));
    }
    let mut all = Vec::with_capacity(of.len());
    for &desc in of {
        let channel = rt.find(CALL, desc)?;
        let given_up = rt.alive(CALL, channel).is_err();
        let peer = rt.channel(channel).map_or(0, |c| c.peer);
        all.push(Asked {
            channel,
            pid: rt.book.as_ref().and_then(|b| b.pid(peer)).unwrap_or(0),
            place: AtomicU32::new(0),
            held: false,
            used: None,
            given_up,
        });
    }
    let begun = Moment::now();
    let mut looks = 0;
    loop {
        for a in all.iter_mut().filter(|a| !a.held && !a.given_up) {
            if let Some(c) = rt.channel(a.channel) {
                a.held = c.peer_bell.hold(&a.place);
            }
        }
        let mut awake = all.iter_mut().filter(|a| !a.held && !a.given_up);
        let Some(first) = awake.next() else { break };
        if !patient {
            break;
        }
        if looks < LOOKS {
            looks += 1;
            std::thread::yield_now();
            continue;
        }
        let waited = begun.elapsed();
        for a in std::iter::once(first).chain(awake) {
            a.given_up = a.is_hopeless(waited);
            // It may have come to its rest while we looked at it.
            if a.given_up
                && let Some(c) = rt.channel(a.channel)
            {
                a.held = c.peer_bell.hold(&a.place);
            }
        }
        std::thread::sleep(PAUSE);
    }
    for a in all.iter().filter(|a| a.held) {
        if let Some(c) = rt.channel(a.channel) {
            c.peer_bell.release(&a.place);
        }
    }
    Ok(all.iter().map(|a| a.held).collect())
}

impl Asked {
    /// Whether one that is found awake does not mean to sleep.
    fn is_hopeless(&mut self, waited: Duration) -> bool {
        let Some(used) = processor_time(self.pid) else {
            return true;
        };
        let before = *self.used.get_or_insert(used);
        used.saturating_sub(before) > RUNS
            || waited > LONGEST
            || waited > DAWDLES && sleeps(self.pid)
    }
}

/// What a process has used of the processor.
fn processor_time(pid: i32) -> Option<Duration> {
    // SAFETY: both calls write to the local values alone.
    unsafe {
        let mut clock = 0;
        let mut time: libc::timespec = std::mem::zeroed();
        if libc::clock_getcpuclockid(pid, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
        {
            return None;
        }
        Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
}

/// Whether a process waits for something that is not the processor: "S" of
/// /proc/PID/stat, "T" for one that has stopped itself.
fn sleeps(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // "pid (comm) state …"; comm may hold anything.
    stat.rsplit_once(") ")
        .is_none_or(|(_, rest)| !rest.starts_with(['R', 'D']))
}
