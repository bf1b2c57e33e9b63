//! What a function's constructors and initialiser leave behind that no sandbox and no
//! rollback reaches: the function is not started then.
//!
//! * A thread goes on beside the snapshot. A sandbox is each thread's own, and the copies
//!   have none of it.
//! * A child has the function's memory, and so reads each message; it is in no sandbox
//!   and lives on when the worker ends.
//! * Memory that it shares is one for all copies: what a request leaves there the next
//!   one finds.
//! * A lower priority or another scheduling policy is all copies', and may not be taken
//!   back: they would get no processor on a busy machine while others wait for them, whose
//!   time it is. Where it may run at all, and how late its timers may be, is put back.
//!
//! On the kernel backend a context has one thread, and nothing is looked at. What it
//! shares, but for what is its host's, each copy has for itself ([`own_memory`]). A child
//! is not known of: it is the process's.

#[cfg(target_os = "linux")]
pub(super) use linux::{Before, own_memory};
#[cfg(not(target_os = "linux"))]
pub(super) use other::{Before, own_memory};

#[cfg(target_os = "linux")]
mod linux {
    use crate::life::parts::Parts;
    use lwc::Spec;
    use nix::errno::Errno;
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::sys::prctl::set_child_subreaper;
    use nix::unistd::Pid;
    use std::ops::Range;
    use std::time::{Duration, Instant};

    /// Memory that is shared and can be written, before the function was loaded: it is
    /// its host's.
    pub(crate) struct Before {
        shared: Vec<Range<u64>>,
        scheduling: Scheduling,
        processors: CpuSet,
        timer_slack: i32,
    }

    impl Before {
        /// # Errors
        /// That /proc/self cannot be read, or prctl(2) fails.
        pub(crate) fn note() -> Result<Self, String> {
            // Children of children that have ended become this context's, too.
            set_child_subreaper(true)
                .map_err(|e| format!("becoming a subreaper of its children: {e}"))?;
            let shared = shared()?.into_iter().map(|(range, _)| range).collect();
            Ok(Self {
                shared,
                scheduling: Scheduling::now(),
                processors: processors()?,
                timer_slack: timer_slack(),
            })
        }

        /// # Errors
        /// What was left behind since, and what to do about it.
        pub(crate) fn nothing_is_left(&self) -> Result<(), String> {
            // Children first: one that has ended may have been a thread's last work.
            if children_are_left() {
                end_children();
                return Err(left(
                    "a child process",
                    "it reads every message and is in no sandbox; end it, and wait for it, before the initialiser returns",
                ));
            }
            let threads = self.threads_left()?;
            if threads > 0 {
                return Err(left(
                    &format!("threads of its own ({threads})"),
                    "they are in no copy and in no sandbox; join them before the initialiser returns",
                ));
            }
            let scheduling = Scheduling::now();
            if scheduling != self.scheduling {
                return Err(left(
                    &format!("another scheduling ({scheduling}, not {})", self.scheduling),
                    "whoever waits for it would wait for as long as others have the processors; leave nice, policy and I/O priority as they are",
                ));
            }
            if processors()? != self.processors {
                sched_setaffinity(Pid::from_raw(0), &self.processors)
                    .map_err(|e| format!("putting back the processors it may run on: {e}"))?;
            }
            // SAFETY: plain numbers.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, self.timer_slack, 0, 0, 0) };
            let is_the_hosts = |at: &Range<u64>| {
                self.shared
                    .iter()
                    .any(|h| h.start <= at.start && at.end <= h.end)
            };
            if let Some((at, what)) = shared()?.into_iter().find(|(at, _)| !is_the_hosts(at)) {
                return Err(left(
                    &format!(
                        "shared memory that can be written ({what} at {:#x})",
                        at.start
                    ),
                    "what one request leaves there the next one finds; map it MAP_PRIVATE, or to read alone, or unmap it",
                ));
            }
            set_child_subreaper(false).map_err(|e| format!("being a subreaper no more: {e}"))
        }
    }

    /// None is left that a copy would share.
    pub(crate) fn own_memory(_: &Parts<'_>) -> Vec<Spec<'static>> {
        Vec::new()
    }

    /// For so long a thread may still be seen that was joined: whoever joins one is
    /// told by the kernel before it is gone.
    const GOING: Duration = Duration::from_millis(200);

    impl Before {
        /// How many threads there are beside this one. One that has come to its end is
        /// waited for.
        ///
        /// # Errors
        /// That /proc/self cannot be read.
        #[allow(clippy::unused_self)] // the same shape everywhere
        pub(crate) fn threads_left(&self) -> Result<usize, String> {
            let begun = Instant::now();
            loop {
                let threads = threads()?;
                if threads <= 1 || begun.elapsed() > GOING {
                    return Ok(threads.saturating_sub(1));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// How many threads this process has: one number. A list of them is made of one after
    /// the other, and is at its end where one ends meanwhile: threads of which each makes
    /// the next would not be on it.
    fn threads() -> Result<usize, String> {
        let status = std::fs::read_to_string("/proc/self/status")
            .map_err(|e| format!("reading /proc/self/status: {e}"))?;
        let number = status.lines().find_map(|l| l.strip_prefix("Threads:"));
        let number = number.and_then(|n| n.trim().parse().ok());
        number.ok_or_else(|| "/proc/self/status has no number of threads".into())
    }

    /// By what the kernel chooses among those that can run.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Scheduling {
        policy: i32,
        nice: i32,
        disk: i64,
    }

    impl Scheduling {
        fn now() -> Self {
            // SAFETY: plain numbers; 1 is IOPRIO_WHO_PROCESS, 0 the caller each time.
            unsafe {
                Self {
                    policy: libc::sched_getscheduler(0),
                    nice: libc::getpriority(libc::PRIO_PROCESS, 0),
                    disk: libc::syscall(libc::SYS_ioprio_get, 1, 0),
                }
            }
        }
    }

    impl std::fmt::Display for Scheduling {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            let Self { policy, nice, disk } = self;
            write!(f, "policy {policy}, nice {nice}, I/O priority {disk}")
        }
    }

    fn processors() -> Result<CpuSet, String> {
        sched_getaffinity(Pid::from_raw(0)).map_err(|e| format!("sched_getaffinity: {e}"))
    }

    fn timer_slack() -> i32 {
        // SAFETY: plain numbers.
        unsafe { libc::prctl(libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) }
    }

    fn left(what: &str, why: &str) -> String {
        format!("its constructors or initialiser left {what} behind: {why}")
    }

    /// Those that have ended are waited for.
    fn children_are_left() -> bool {
        loop {
            // SAFETY: waits for nobody; no status is asked for.
            let pid =
                unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) };
            match pid {
                0 => return true,
                -1 if Errno::last() != Errno::EINTR => return false,
                _ => {}
            }
        }
    }

    /// So that those of a function that is not started do not go on; as far as the
    /// system tells which they are.
    fn end_children() {
        let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children"));
        while children_are_left() {
            let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
            let lists: String = tasks.flatten().flat_map(of).collect();
            let pids: Vec<i32> = lists
                .split_ascii_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect();
            if pids.is_empty() {
                return;
            }
            for pid in pids {
                // SAFETY: a child that has not been waited for, so no other process.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            std::thread::yield_now();
        }
    }

    /// Where memory is shared and can be written, or could be (what the kernel calls
    /// `sh`: mapped MAP_SHARED, of no file that is open to read alone), and its name.
    fn shared() -> Result<Vec<(Range<u64>, String)>, String> {
        let text = std::fs::read_to_string("/proc/self/smaps")
            .map_err(|e| format!("reading /proc/self/smaps: {e}"))?;
        Ok(shared_of(&text))
    }

    fn shared_of(smaps: &str) -> Vec<(Range<u64>, String)> {
        let mut all = Vec::new();
        let mut area = None;
        for line in smaps.lines() {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                if flags.split_ascii_whitespace().any(|f| f == "sh") {
                    all.extend(area.take());
                }
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            let range = words.next().and_then(|w| w.split_once('-'));
            let number = |text| u64::from_str_radix(text, 16).ok();
            let range = range.and_then(|(start, end)| Some(number(start)?..number(end)?));
            if let Some(range) = range {
                // Permissions, offset, device, inode; what is left is the name.
                let name = words.nth(4).unwrap_or("of no file");
                area = Some((range, name.to_owned()));
            }
        }
        all
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn shared_memory_is_told_from_what_is_to_be_read_alone() {
            let smaps = "\
7f0000000000-7f0000001000 rw-s 00000000 00:01 9 /dev/zero (deleted)
Size:                  4 kB
VmFlags: rd wr sh mr mw me ms sd
7f0000002000-7f0000003000 r--s 00000000 00:01 9 /usr/lib/gconv-modules.cache
VmFlags: rd mr me ms sd
7f0000004000-7f0000005000 rw-p 00000000 00:00 0
VmFlags: rd wr mr mw me ac sd
7f0000006000-7f0000007000 r--s 00000000 00:01 9
VmFlags: rd sh mr mw me ms sd
";
            let found = shared_of(smaps);
            let names: Vec<(u64, &str)> = found
                .iter()
                .map(|(at, name)| (at.start, name.as_str()))
                .collect();
            let expected = [
                (0x7f00_0000_0000, "/dev/zero"),
                (0x7f00_0000_6000, "of no file"),
            ];
            assert_eq!(names, expected);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use crate::life::parts::Parts;
    use lwc::{Access, Spec};

    /// Nothing is looked at.
    pub(crate) struct Before;

    /// What a copy is not to share with its snapshot, nor with other copies: memory
    /// between what its host shares with others, from the first page to the last.
    pub(crate) fn own_memory(parts: &Parts<'_>) -> Vec<Spec<'static>> {
        /// Behind the last byte of a program's (VM_MAXUSER_ADDRESS with four levels of
        /// page tables, which a process without a flag of its own has).
        const END: usize = 0x8000_0000_0000;
        let page = lwc::page_size();
        let mut shared: Vec<_> = parts.shared().map(lwc::Region::range).collect();
        shared.sort_unstable_by_key(|range| range.start);
        let mut own = Vec::new();
        let mut from = page;
        for range in shared {
            if range.start > from {
                // SAFETY: a copy shares nothing by it.
                own.push(unsafe { Spec::memory(from..range.start, Access::Copy) });
            }
            from = from.max(range.end);
        }
        // SAFETY: the same.
        own.push(unsafe { Spec::memory(from..END, Access::Copy) });
        own
    }

    #[allow(clippy::unnecessary_wraps, clippy::unused_self)] // the same shape on both
    impl Before {
        pub(crate) fn note() -> Result<Self, String> {
            Ok(Self)
        }

        pub(crate) fn nothing_is_left(&self) -> Result<(), String> {
            Ok(())
        }

        pub(crate) fn threads_left(&self) -> Result<usize, String> {
            Ok(0)
        }
    }
}
