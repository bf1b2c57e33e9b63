//! A context's share of memory: of each page that it has, its part among all that have
//! the page (PSS).
//!
//! None but root may see it of a process that is not dumpable, as no context is: but each
//! may open its own file of it, /proc/self/smaps_rollup, which goes on to tell of that
//! memory, and of no other, to whoever has the descriptor. So a new context hands it to
//! the root. That one believes a descriptor if it is of that name below the process's
//! number, by the very mount of proc that it has itself: a context that was made by hostile
//! code may have mounts of its own, with another file at that name, whose reading waits for
//! ever or tells what it likes. Its own lists of descriptors tell both, where others'
//! folders may be hidden (hidepid), and ask nothing of the file.

use crate::backend::process::wire::fds;
use crate::error::{Error, Result};
use std::cell::Cell;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What a context opens, and how. A sandbox compares the name's address.
pub(crate) static OWN_ROLLUP: (&std::ffi::CStr, i32) =
    (c"/proc/self/smaps_rollup", libc::O_RDONLY | libc::O_CLOEXEC);

/// The kernel walks all that a process has mapped to tell: 14 µs for little, 18 ms for each
/// GiB, so for long where a hostile one has as much as it may. All together have a hundredth
/// of the root's time by it.
const OF_TIME: u32 = 100;
/// What they have at once: more than one of them is read in a row as long as that lasts.
const AT_ONCE: Duration = Duration::from_millis(20);
/// One is read again after so many times what that took: others have their turn before.
const REST: u32 = 2 * OF_TIME;

/// The current context's own file.
///
/// # Errors
/// There is no /proc, or no room for it.
pub(crate) fn open_own() -> Result<OwnedFd> {
    let (name, flags) = OWN_ROLLUP;
    // SAFETY: the name is a text.
    let fd = unsafe { libc::openat(libc::AT_FDCWD, name.as_ptr(), flags) };
    if fd < 0 {
        return Err(Error::last("openat", "opening /proc/self/smaps_rollup"));
    }
    // SAFETY: made just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel counts, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) share: u64,
    pub(crate) resident: u64,
    /// Of no file, and no shared memory.
    pub(crate) anonymous: u64,
}

/// A context's file, at the root.
pub(crate) struct Share {
    file: File,
    last: Cell<Option<Counted>>,
    due: Cell<Option<Instant>>,
}

impl Share {
    /// That of a process which is a child of ours that nobody has waited for, if the
    /// descriptor is its.
    pub(crate) fn of(pid: i32, file: OwnedFd) -> Option<Self> {
        let file = File::from(fds::duplicate(&file).ok()?);
        let name = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        let is_its = name == Path::new(&format!("/proc/{pid}/smaps_rollup"));
        (is_its && mount_of(&file)? == mount_of_proc()?).then_some(Self {
            file,
            last: Cell::new(None),
            due: Cell::new(None),
        })
    }

    /// As it was last read. Nothing once the context has ended.
    pub(crate) fn counted(&self) -> Option<Counted> {
        let begun = Instant::now();
        let is_due = self.due.get().is_none_or(|due| begun >= due);
        let mut time = TIME.lock().unwrap_or_else(PoisonError::into_inner);
        if is_due && time.is_left(begun) {
            self.last.set(read(&self.file));
            let took = begun.elapsed();
            time.take(took);
            let rest = took.saturating_mul(REST).min(Duration::from_secs(3600));
            self.due.set(begun.checked_add(rest));
        }
        self.last.get()
    }
}

/// What is left of the root's time for this.
struct Time {
    /// When there was all of [`AT_ONCE`], or will be.
    full: Option<Instant>,
}

static TIME: Mutex<Time> = Mutex::new(Time { full: None });

impl Time {
    fn is_left(&mut self, now: Instant) -> bool {
        let full = self.full.filter(|full| *full > now).unwrap_or(now);
        self.full = Some(full);
        full - now < AT_ONCE * OF_TIME
    }

    fn take(&mut self, took: Duration) {
        let more = took.saturating_mul(OF_TIME);
        self.full = self.full.map(|full| full.checked_add(more).unwrap_or(full));
    }
}

impl AsRawFd for Share {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// By which mount a descriptor was opened, as the kernel numbers them: a number is one
/// mount's in all namespaces for as long as it is there, as that of proc is for us.
fn mount_of(file: &File) -> Option<u64> {
    let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let number = told.lines().find_map(|l| l.strip_prefix("mnt_id:"))?;
    number.trim().parse().ok()
}

/// The mount of proc in which we look.
fn mount_of_proc() -> Option<u64> {
    static OURS: OnceLock<u64> = OnceLock::new();
    match OURS.get() {
        Some(ours) => Some(*ours),
        None => {
            let ours = mount_of(&File::open("/proc/self").ok()?)?;
            Some(*OURS.get_or_init(|| ours))
        }
    }
}

/// What a file tells now.
fn read(file: &File) -> Option<Counted> {
    let mut text = [0; 2048];
    let len = file.read_at(&mut text, 0).ok()?;
    told(std::str::from_utf8(&text[..len]).ok()?)
}

fn told(text: &str) -> Option<Counted> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        let kib = line.trim().strip_suffix("kB")?.trim();
        kib.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Counted {
        share: bytes("Pss:")?,
        resident: bytes("Rss:")?,
        anonymous: bytes("Anonymous:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_have_a_hundredth_of_the_time() {
        let begun = Instant::now();
        let at = |seconds: f64| begun + Duration::from_secs_f64(seconds);
        let took = Duration::from_millis;
        let mut time = Time { full: None };
        // Many that take little, one after the other.
        for _ in 0..19 {
            assert!(time.is_left(at(0.0)));
            time.take(took(1));
        }
        // One that takes long has what is left, and nobody then for as long as it costs.
        assert!(time.is_left(at(0.0)));
        time.take(took(150));
        assert!(!time.is_left(at(0.0)));
        assert!(!time.is_left(at(14.8)));
        assert!(time.is_left(at(15.0)));
        // What nobody took is not kept.
        assert!(time.is_left(at(1000.0)));
        time.take(took(25));
        assert!(!time.is_left(at(1000.0)));
        assert!(time.is_left(at(1000.6)));
    }

    #[test]
    fn what_is_counted_is_read_from_its_lines() {
        let text = "55d0c0000000-7ffd00034000 ---p 00000000 00:00 0 [rollup]\n\
            Rss:                1234 kB\nPss:                  56 kB\nPss_Anon:            1 kB\n\
            Anonymous:           789 kB\n";
        let all = Counted {
            share: 56 << 10,
            resident: 1234 << 10,
            anonymous: 789 << 10,
        };
        assert_eq!(told(text), Some(all));
        assert_eq!(told(""), None);
        let odd = [
            " kB",
            " 5 MB",
            " 99999999999999999999 kB",
            " 18446744073709551615 kB",
        ];
        for bad in odd {
            let text = text.replace("                  56 kB", bad);
            assert_eq!(told(&text), None, "{bad}");
        }
    }

    #[test]
    fn what_is_not_a_processes_own_file_is_not_believed() {
        let us = std::process::id() as i32;
        let file = |path: &str| OwnedFd::from(File::open(path).unwrap());
        let own = Share::of(us, open_own().unwrap()).expect("our own");
        let before = own.counted().expect("a share");
        let much = std::hint::black_box(vec![1_u8; 64 << 20]);
        // It rests for longer than it took.
        own.due
            .set(Instant::now().checked_add(Duration::from_secs(3600)));
        assert_eq!(own.counted(), Some(before));
        own.due.set(None);
        let now = own.counted().expect("a share");
        assert!(now.share > before.share + (32 << 20), "{now:?}");
        assert!(now.anonymous > before.anonymous + (32 << 20), "{now:?}");
        assert!(
            now.resident >= now.share && now.resident >= now.anonymous,
            "{now:?}"
        );
        drop(much);
        let mut text = tempfile();
        std::io::Write::write_all(&mut text, b"Pss: 1 kB\n").unwrap();
        for (what, other) in [
            ("another file of ours", file("/proc/self/status")),
            ("no file of a process", OwnedFd::from(text)),
            ("a thread's", file("/proc/thread-self/smaps_rollup")),
        ] {
            assert!(Share::of(us, other).is_none(), "{what}");
        }
        // Ours is not that of another process.
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let theirs = Share::of(child.id() as i32, open_own().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(theirs.is_none());
        // Nor is it that of one whose number is no process's any more.
        assert!(Share::of(child.id() as i32, open_own().unwrap()).is_none());
    }

    #[test]
    fn the_mount_that_a_file_was_opened_by_is_told() {
        let of = |path: &str| mount_of(&File::open(path).unwrap()).unwrap();
        let ours = mount_of_proc().unwrap();
        assert_eq!(mount_of_proc(), Some(ours));
        assert_eq!(of("/proc/self/smaps_rollup"), ours);
        assert_eq!(of("/proc/self/cmdline"), ours);
        assert_ne!(of("/"), ours);
        assert_ne!(mount_of(&tempfile()).unwrap(), ours);
    }

    fn tempfile() -> File {
        // SAFETY: a new descriptor, which is ours alone.
        unsafe {
            let fd = libc::memfd_create(c"x".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0);
            File::from(OwnedFd::from_raw_fd(fd))
        }
    }
}
