//! What a switch costs, beside the least that handing over between two
//! processes can cost: one futex wake and one futex wait each way.
//!
//! ```sh
//! cargo bench -p lwc --bench switch
//! ```
//!
//! Round trips (A→B→A), as the paper's own benchmarks count; halve for one
//! way. Both pairs run in turn in one process and the ratio is that of the
//! medians, so that a machine's moods hit both alike.

use criterion::Criterion;
use lwc::{Context, Flags};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The current process on processor `cpu` alone.
fn pin(cpu: usize) {
    use nix::sched::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    set.set(cpu).expect("a processor");
    sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).expect("sched_setaffinity");
}

fn processors() -> Vec<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    let mine = sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("sched_getaffinity");
    (0..CpuSet::count())
        .filter(|&i| mine.is_set(i).unwrap_or(false))
        .collect()
}

/// A context that answers every switch, on processor `there`.
fn context(here: usize, there: usize) -> Context {
    pin(here);
    let context = lwc::spawn(&[], Flags::empty(), |mut event| {
        pin(there);
        loop {
            let from = event.from().expect("a caller");
            event = from.switch(&[]).expect("switching back");
        }
    })
    .expect("lwCreate");
    context.switch(&[]).expect("lwSwitch");
    context
}

/// A forked process that answers every hand-over, and nothing more.
struct Bare {
    words: *const [AtomicU32; 32],
    child: libc::pid_t,
    count: u32,
}

impl Bare {
    fn new(here: usize, there: usize) -> Self {
        pin(here);
        // SAFETY: a fresh shared mapping, zeroed, which is a value of atomics;
        // the child runs the loop below alone, until it is killed.
        unsafe {
            let words = libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
            .cast::<[AtomicU32; 32]>()
            .cast_const();
            let child = libc::fork();
            if child == 0 {
                die_with_the_parent();
                pin(there);
                let mut seen = 0;
                loop {
                    wait(&(*words)[0], seen);
                    seen = seen.wrapping_add(1);
                    wake(&(*words)[16], seen);
                }
            }
            Self {
                words,
                child,
                count: 0,
            }
        }
    }

    fn round_trip(&mut self) {
        // SAFETY: the mapping lives as long as `self`.
        let words = unsafe { &*self.words };
        let before = self.count;
        self.count = self.count.wrapping_add(1);
        wake(&words[0], self.count);
        wait(&words[16], before);
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // SAFETY: our own child, and a mapping that nobody uses any more.
        unsafe {
            libc::kill(self.child, libc::SIGKILL);
            libc::waitpid(self.child, std::ptr::null_mut(), 0);
            libc::munmap(self.words.cast_mut().cast(), 4096);
        }
    }
}

/// The current process is killed when its parent ends.
fn die_with_the_parent() {
    #[cfg(target_os = "freebsd")]
    let mut signal = libc::SIGKILL;
    // SAFETY: plain numbers, and on FreeBSD a signal number that is read.
    unsafe {
        #[cfg(target_os = "linux")]
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        #[cfg(target_os = "freebsd")]
        libc::procctl(
            libc::P_PID,
            0,
            libc::PROC_PDEATHSIG_CTL,
            (&raw mut signal).cast(),
        );
    }
}

fn wake(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    // SAFETY: a wake reads and writes no memory.
    unsafe {
        #[cfg(target_os = "linux")]
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1);
        #[cfg(target_os = "freebsd")]
        libc::_umtx_op(
            word.as_ptr().cast(),
            libc::UMTX_OP_WAKE,
            1,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        );
    }
}

fn wait(word: &AtomicU32, seen: u32) {
    while word.load(Ordering::Acquire) == seen {
        // SAFETY: a wait reads the word.
        unsafe {
            #[cfg(target_os = "linux")]
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT,
                seen,
                std::ptr::null::<libc::timespec>(),
            );
            #[cfg(target_os = "freebsd")]
            libc::_umtx_op(
                word.as_ptr().cast(),
                libc::UMTX_OP_WAIT_UINT,
                seen.into(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            );
        }
    }
}

fn time(n: u32, mut what: impl FnMut()) -> Duration {
    let started = Instant::now();
    (0..n).for_each(|_| what());
    started.elapsed() / n
}

/// Both pairs in turn; the medians.
fn compare(label: &str, here: usize, there: usize) {
    const TURNS: usize = 41;
    let other = context(here, there);
    let mut bare = Bare::new(here, there);
    let mut futex = Vec::new();
    let mut lwc = Vec::new();
    for _ in 0..TURNS {
        futex.push(time(5_000, || bare.round_trip()));
        lwc.push(time(5_000, || {
            other.switch(&[]).expect("lwSwitch");
        }));
    }
    futex.sort_unstable();
    lwc.sort_unstable();
    let (futex, lwc) = (futex[TURNS / 2], lwc[TURNS / 2]);
    println!(
        "{label}: lwSwitch {:.2} us a round trip, bare futex {:.2} us: {:.2} times",
        lwc.as_secs_f64() * 1e6,
        futex.as_secs_f64() * 1e6,
        lwc.as_secs_f64() / futex.as_secs_f64(),
    );
}

fn switches(c: &mut Criterion, label: &str, here: usize, there: usize) {
    let mut group = c.benchmark_group(format!("round trip, {label}"));
    let mut bare = Bare::new(here, there);
    group.bench_function("bare futex", |b| b.iter(|| bare.round_trip()));
    drop(bare);
    let other = context(here, there);
    group.bench_function("lwSwitch", |b| {
        b.iter(|| other.switch(&[]).expect("lwSwitch"));
    });
    group.finish();
}

fn creations(c: &mut Criterion) {
    let mut group = c.benchmark_group("make and end");
    group.bench_function("fork and wait", |b| {
        b.iter(|| {
            // SAFETY: the child ends at once.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    libc::_exit(0);
                }
                libc::waitpid(child, std::ptr::null_mut(), 0);
            }
        });
    });
    group.bench_function("lwCreate and close", |b| {
        b.iter(|| {
            let context = lwc::spawn(&[], Flags::empty(), |_| std::process::exit(1));
            drop(context.expect("lwCreate"));
        });
    });
    group.finish();
}

fn main() {
    let all = processors();
    let (first, second) = (all[0], all[all.len() - 1]);
    println!(
        "backend: {}; processors {first} and {second}",
        lwc::backend().expect("a backend")
    );
    let mut c = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .without_plots()
        .configure_from_args();
    switches(&mut c, "two processors", first, second);
    switches(&mut c, "one processor", first, first);
    creations(&mut c);
    c.final_summary();
    compare("two processors", first, second);
    compare("one processor", first, first);
}
