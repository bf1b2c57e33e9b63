//! Small tools for the cases.

use lwc::{Context, End, Errno, Event, Flags, Handle, Spec};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Private anonymous memory, page-aligned, far from where the system maps
/// things by itself: what is unmapped there stays a hole. Unmapped never (a
/// case's process is short).
#[derive(Debug, Clone, Copy)]
pub struct Pages {
    start: usize,
    len: usize,
}

impl Pages {
    /// `n` fresh pages, zeroed.
    pub fn new(n: usize) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0x2000_0000_0000);
        #[cfg(target_os = "linux")]
        const THERE: i32 = libc::MAP_FIXED_NOREPLACE;
        #[cfg(not(target_os = "linux"))]
        const THERE: i32 = libc::MAP_FIXED | libc::MAP_EXCL;
        let len = n * lwc::page_size();
        let at = NEXT.fetch_add(len + 16 * lwc::page_size(), Ordering::Relaxed);
        // SAFETY: a new mapping, which fails where something is.
        let ptr = unsafe {
            libc::mmap(
                at as *mut _,
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANON | THERE,
                -1,
                0,
            )
        };
        assert_ne!(ptr, libc::MAP_FAILED, "mmap: {}", Errno::last());
        Self {
            start: ptr as usize,
            len,
        }
    }

    /// The addresses.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }

    /// The addresses of page `i`.
    pub fn page(&self, i: usize) -> Range<usize> {
        let page = lwc::page_size();
        self.start + i * page..self.start + (i + 1) * page
    }

    /// A specifier of all pages.
    pub fn spec(&self, access: lwc::Access) -> Spec<'static> {
        memory(self.range(), access)
    }

    /// The first word of page `i`.
    pub fn get(&self, i: usize) -> u64 {
        peek(self.page(i).start)
    }

    /// Writes the first word of page `i`.
    pub fn set(&self, i: usize, value: u64) {
        poke(self.page(i).start, value);
    }

    /// mprotect(2) on all of it; the result.
    pub fn protect(&self, prot: i32) -> Result<(), Errno> {
        protect(self.range(), prot)
    }
}

/// A specifier of memory that the cases use by volatile access alone.
pub fn memory(range: Range<usize>, access: lwc::Access) -> Spec<'static> {
    // SAFETY: the ranges are of `Pages` or of regions, which are read and
    // written by volatile access alone and hold no Rust object.
    unsafe { Spec::memory(range, access) }
}

/// mprotect(2).
pub fn protect(range: Range<usize>, prot: i32) -> Result<(), Errno> {
    // SAFETY: the range is a mapping of the test's own without Rust objects.
    match unsafe { libc::mprotect(range.start as *mut _, range.len(), prot) } {
        0 => Ok(()),
        _ => Err(Errno::last()),
    }
}

/// Reads a word, whoever may have written it; faults where nothing is.
pub fn peek(address: usize) -> u64 {
    // SAFETY: an aligned address in a test mapping, or one where a fault is
    // what the case wants.
    unsafe { (address as *const u64).read_volatile() }
}

/// Writes a word.
pub fn poke(address: usize, value: u64) {
    // SAFETY: as in `peek`.
    unsafe { (address as *mut u64).write_volatile(value) }
}

/// A context that runs `body` at its first switch and answers the words that
/// it returns, again and again.
pub fn answering(
    specs: &[Spec],
    flags: Flags,
    mut body: impl FnMut(&[u64]) -> Vec<u64>,
) -> lwc::Result<Context> {
    lwc::spawn(specs, flags, |event| serve(event, &mut body))
}

/// Answers each switch with what `body` makes of its words.
pub fn serve(mut event: Event, body: &mut dyn FnMut(&[u64]) -> Vec<u64>) -> Infallible {
    loop {
        let words = body(event.args());
        let from = event.from().expect("a caller to go back to");
        event = from.switch(&words).expect("switching back");
    }
}

/// What a number names, if it is a context's: as hostile code would guess.
pub fn named(fd: i32) -> Handle {
    // SAFETY: the tests own every context of their process, and mean to see what
    // the calls make of other numbers.
    unsafe { Handle::from_raw(fd) }
}

/// Switches and expects words back.
pub fn call(to: Handle, words: &[u64]) -> Vec<u64> {
    match to.switch(words).expect("switching there") {
        Event::Switched { args, .. } => args.to_vec(),
        Event::Ended(end) => panic!("the context ended: {end}"),
        other => panic!("no switch: {other:?}"),
    }
}

/// Runs `body` in a new context that traps faults and exits; its word, or how
/// the context ended.
pub fn attempt(specs: &[Spec], body: impl FnOnce() -> u64) -> Result<u64, End> {
    let mut body = Some(body);
    let context = answering(specs, Flags::TRAP_FAULT | Flags::TRAP_EXIT, |_| {
        vec![body.take().expect("one switch")()]
    })
    .expect("creating a context");
    match context.switch(&[]).expect("switching there") {
        Event::Switched { args, .. } => Ok(args[0]),
        Event::Ended(end) => Err(end),
        other => panic!("no switch: {other:?}"),
    }
}

/// Runs `body` in a new context that must come back.
pub fn inside(specs: &[Spec], body: impl FnOnce() -> u64) -> u64 {
    match attempt(specs, body) {
        Ok(word) => word,
        Err(end) => panic!("the context ended: {end}"),
    }
}

/// Asserts that `body` in a new context dies of SIGSEGV at an address inside.
pub fn faults_in(specs: &[Spec], range: Range<usize>, body: impl FnOnce() -> u64) {
    match attempt(specs, body) {
        Ok(word) => panic!("the access was let through and gave {word}"),
        Err(end) => {
            assert_eq!(end.signal, Some(libc::SIGSEGV), "{end}");
            assert!(range.contains(&(end.address as usize)), "{end}");
        }
    }
}

/// The errno of a refusal, as a word; 0 for success.
pub fn errno_of<T>(result: lwc::Result<T>) -> u64 {
    result.map_or_else(|e| e.errno().raw() as u64, |_| 0)
}

/// Asserts which errno a call failed with.
#[track_caller]
pub fn refused<T>(result: lwc::Result<T>, errno: Errno) -> lwc::Error {
    match result {
        Ok(_) => panic!("succeeded where {errno} was due"),
        Err(e) => {
            assert_eq!(e.errno(), errno, "{e}");
            e
        }
    }
}

/// How many descriptors the current context has.
pub fn open_descriptors() -> usize {
    let dir = if cfg!(target_os = "linux") {
        "/proc/self/fd"
    } else {
        "/dev/fd"
    };
    std::fs::read_dir(dir).expect("listing descriptors").count()
}

/// Whether a descriptor number is open.
pub fn is_open(fd: i32) -> bool {
    // SAFETY: asks only whether the number is open.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Device and inode of what a number names; `None` where nothing is.
pub fn identity(fd: i32) -> Option<(u64, u64)> {
    // SAFETY: fstat fills the structure or fails.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        (libc::fstat(fd, &raw mut stat) == 0).then_some((stat.st_dev, stat.st_ino))
    }
}

/// The process id that the current context sees.
pub fn pid() -> u64 {
    std::process::id().into()
}

/// Whether contexts are processes of their own.
pub fn of_processes() -> bool {
    lwc::backend().expect("a backend") == lwc::Backend::Process
}

/// Whether the process of a context that has ended is gone; always so where
/// contexts have no processes.
pub fn is_gone(of: u64) -> bool {
    if of == pid() {
        return true;
    }
    // SAFETY: signal 0 only asks.
    unsafe { libc::kill(of as i32, 0) == -1 && Errno::last() == Errno::ESRCH }
}

/// Lowers or raises a soft limit; what it was.
pub fn set_limit(which: nix::sys::resource::Resource, soft: u64) -> u64 {
    let (old, hard) = nix::sys::resource::getrlimit(which).expect("getrlimit");
    #[allow(clippy::unnecessary_cast)] // rlim_t is signed on FreeBSD
    let wanted = (soft.min(hard as u64)) as libc::rlim_t;
    nix::sys::resource::setrlimit(which, wanted, hard).expect("setrlimit");
    #[allow(clippy::unnecessary_cast)] // as above
    let old = old as u64;
    old
}

/// Lets the current context run on the first `n` of its processors alone.
pub fn pin_to(n: usize) {
    #[cfg(target_os = "linux")]
    {
        use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
        let me = nix::unistd::Pid::from_raw(0);
        let mine = sched_getaffinity(me).expect("sched_getaffinity");
        let mut chosen = CpuSet::new();
        (0..CpuSet::count())
            .filter(|&i| mine.is_set(i).unwrap_or(false))
            .take(n)
            .for_each(|i| chosen.set(i).expect("a processor"));
        sched_setaffinity(me, &chosen).expect("sched_setaffinity");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = n;
}

/// A descriptor of an empty temporary file.
pub fn scratch_file() -> std::fs::File {
    tempfile::tempfile().expect("a temporary file")
}

/// What raw code in a context does to end up like a hostile one: nothing of
/// the backend's that it could close or unmap stays.
pub fn close_everything() {
    for fd in 0..65_536 {
        // SAFETY: the context means to lose all of its descriptors.
        unsafe { libc::close(fd) };
    }
}

/// Whether something comes true within ten seconds.
pub fn eventually(mut what: impl FnMut() -> bool) -> bool {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        if what() {
            return true;
        }
        if std::time::Instant::now() > end {
            return false;
        }
        std::thread::yield_now();
    }
}

/// Numbers that look random, the same each time for the same seed, which is not 0
/// (xorshift64*).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From that seed on.
    pub fn new(seed: u64) -> Self {
        assert_ne!(seed, 0);
        Self(seed)
    }

    /// The next one, of 53 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// The next one, below that.
    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n
    }
}

/// The request with which a process asks to be traced by its parent.
#[cfg(target_os = "linux")]
pub const TRACE_ME: libc::c_uint = libc::PTRACE_TRACEME;
/// The request with which a process asks to be traced by its parent.
#[cfg(not(target_os = "linux"))]
pub const TRACE_ME: libc::c_int = libc::PT_TRACE_ME;

/// Whether the current context may trace a process.
pub fn can_attach(pid: i32) -> bool {
    #[cfg(target_os = "linux")]
    let attach = libc::PTRACE_ATTACH;
    #[cfg(not(target_os = "linux"))]
    let attach = libc::PT_ATTACH;
    // SAFETY: an attempt that reads and writes no memory of ours.
    unsafe { libc::ptrace(attach, pid, std::ptr::null_mut::<libc::c_char>(), 0) == 0 }
}
