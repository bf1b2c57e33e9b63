//! What the benchmarks share. Each is a program of its own: contexts cannot be
//! undone in the process that made them.

use criterion::Criterion;
use lwc::{Access, Context, Flags, Spec};
use std::time::Duration;

/// Short runs: all benchmarks together take about two minutes.
pub fn criterion() -> Criterion {
    println!(
        "backend: {}; processors {:?}",
        lwc::backend().expect("a backend"),
        lwc_orchestrator::bench::bare::cpu::processors()
    );
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(15)
        .without_plots()
        .configure_from_args()
}

/// The first and the last processor of this process.
pub fn two_processors() -> (usize, usize) {
    let all = lwc_orchestrator::bench::bare::cpu::processors();
    (all[0], all[all.len() - 1])
}

/// A context without descriptors that answers every switch, on processor
/// `there`.
pub fn answering(here: usize, there: usize) -> Context {
    lwc_orchestrator::bench::bare::cpu::pin(here);
    let context = lwc::spawn(
        &[Spec::all_files(Access::Unmap)],
        Flags::empty(),
        |mut event| {
            lwc_orchestrator::bench::bare::cpu::pin(there);
            loop {
                let from = event.from().expect("a caller");
                event = from.switch(&[]).expect("switching back");
            }
        },
    )
    .expect("lwCreate");
    context.switch(&[]).expect("lwSwitch");
    context
}

/// Private memory, page-aligned, written once if `touched`.
pub struct Memory {
    at: *mut u8,
    len: usize,
}

impl Memory {
    /// So many bytes, each page of them touched or none.
    ///
    /// # Panics
    /// When the system has none.
    pub fn new(len: usize, touched: bool) -> Self {
        // SAFETY: a new private mapping at an address that the system picks.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert!(at != libc::MAP_FAILED, "mmap of {len} bytes");
        // Small pages, as the figures count them.
        // SAFETY: advice on our own mapping; where the system knows no large
        // pages it fails, which is as well.
        #[cfg(target_os = "linux")]
        unsafe {
            libc::madvise(at, len, libc::MADV_NOHUGEPAGE)
        };
        let memory = Self { at: at.cast(), len };
        if touched {
            memory.write(len / lwc::page_size());
        }
        memory
    }

    /// Its addresses.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.at as usize..self.at as usize + self.len
    }

    /// Writes a byte of each of the first `pages`.
    pub fn write(&self, pages: usize) {
        assert!(pages * lwc::page_size() <= self.len);
        for page in 0..pages {
            // SAFETY: inside the mapping (asserted), which is ours alone.
            unsafe {
                self.at
                    .add(page * lwc::page_size())
                    .write_volatile(page as u8);
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Not munmap(2): the backend must know where memory that was shared
        // is no more.
        // SAFETY: our own mapping, which nobody uses any more.
        let _ = unsafe { lwc::unmap_self(&[Spec::memory(self.range(), Access::Unmap)]) };
    }
}

/// As many descriptors as the system lets this process have.
///
/// # Panics
/// When the system does not say, or does not let it.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("setrlimit");
}
