//! What a context does so that something of it outlives its rollback (clause 10.2):
//! it is undone, or the context is destroyed, and says so. Never is it told to be
//! clean and is not.
//!
//! Each of these was found to work once.

use crate::s10_rollback::{FLAGS, possible};
use lwc::{Confinement, Context, Errno, MonotonicTime};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use std::arch::asm;
use std::cell::Cell;
use std::time::Duration;

pub(crate) const CASES: &[Case] = cases![
    c10_2_pages_of_files_that_are_dropped,
    c10_2_code_that_is_dropped,
    c10_2_a_second_mapping_of_the_backends_pages,
    c10_2_pages_of_the_backends_that_are_paged_out,
    c10_2_a_flag_that_no_tracer_sets,
    c10_2_memory_that_looks_the_same,
    c10_2_a_sleep_that_was_interrupted,
    c10_2_a_section_where_calls_are_made,
    c10_2_a_signal_that_is_blocked,
    c10_2_a_fault_when_it_is_stopped => Well within 300,
    c10_2_code_of_the_kernels,
    c10_2_code_of_the_backends,
    c10_2_memory_through_a_file,
    c10_2_bits_that_are_cleared,
    c10_2_memory_that_is_dropped_and_read,
    c10_2_memory_that_may_be_another_later,
    c10_2_no_rings_and_no_pages_that_nobody_brings,
    c10_2_memory_that_may_be_dropped,
    c10_2_what_is_left_of_actions => Well within 300,
    c10_2_areas_that_were_touched,
    c10_2_areas_that_were_made_anew,
];

pub(crate) fn sys(number: libc::c_long, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: a call of the case's own, about memory of its own or that of a
    // context which is to come to harm.
    unsafe {
        asm!("syscall", inlateout("rax") number => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            out("rcx") _, out("r11") _);
    }
    result
}

pub(crate) const SETUP: u64 = 0;
pub(crate) const LOOK: u64 = 1;
pub(crate) const DIRTY: u64 = 2;

/// A context that has been set up, is in the strict sandbox or not, and has its
/// snapshot.
pub(crate) fn context(strict: bool, mut body: impl FnMut(&[u64]) -> Vec<u64>) -> Context {
    let mut confined = !strict;
    let c = answering(&[], FLAGS, move |words| {
        let answer = body(words);
        if !std::mem::replace(&mut confined, true) {
            lwc::confine(Confinement::Strict).unwrap();
        }
        answer
    })
    .unwrap();
    call(c.handle(), &[SETUP, 0]);
    c.snapshot().unwrap();
    c
}

/// What came of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Undone,
    Destroyed,
}

/// It looks around, does something (`how`), and looks around. It may do it for as
/// long as it likes.
pub(crate) fn attempt(c: &Context, how: u64) -> Came {
    let clean = call(c.handle(), &[LOOK, how]);
    c.roll_back().unwrap();
    assert_eq!(
        call(c.handle(), &[LOOK, how]),
        clean,
        "it is the same twice"
    );
    c.roll_back().unwrap();
    let late = MonotonicTime::now() + Duration::from_millis(100);
    // It need not come back.
    let _ = c.switch_until(&[DIRTY, how], late);
    if let Err(e) = c.roll_back() {
        assert_eq!(e.errno(), Errno::ENOTSUP, "{how}: {e}");
        assert_eq!(c.switch(&[LOOK]).unwrap_err().errno(), Errno::ESRCH);
        return Came::Destroyed;
    }
    assert_eq!(call(c.handle(), &[LOOK, how]), clean, "{how} is seen");
    c.roll_back().unwrap();
    Came::Undone
}

/// Two pages.
#[repr(align(4096))]
struct Block {
    _words: [u64; 1024],
}

static mut DATA: Block = {
    let mut all = [0u64; 1024];
    (all[0], all[512]) = (0x1111, 0x2222);
    Block { _words: all }
};

fn drop_pages(at: usize, len: usize) {
    let advice = libc::MADV_DONTNEED as u64;
    let args = [at as u64, len as u64, advice, 0, 0, 0];
    assert_eq!(sys(libc::SYS_madvise, args), 0);
}

/// Written before the snapshot: without its bytes such a page is its file's.
fn c10_2_pages_of_files_that_are_dropped() {
    if !possible() {
        return;
    }
    let at = (&raw mut DATA) as usize;
    for strict in [true, false] {
        let c = context(strict, |words| {
            match words {
                [SETUP, _] => {
                    poke(at, 0xaaaa);
                    poke(at + 4096, 0xbbbb);
                }
                [DIRTY, how] => {
                    drop_pages(at, 8192);
                    if *how == 1 {
                        // It is there again, the file's.
                        assert_eq!(peek(at), 0x1111);
                    }
                }
                _ => {}
            }
            vec![peek(at), peek(at + 4096)]
        });
        for how in [0, 1] {
            assert_eq!(attempt(&c, how), Came::Undone);
        }
    }
}

/// The addresses of a line of the list of mappings.
fn range_of(line: &str) -> std::ops::Range<usize> {
    let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
    let number = |s| usize::from_str_radix(s, 16).unwrap();
    number(start)..number(end)
}

/// The first mapping whose line has all of these.
fn mapping(wanted: &[&str]) -> std::ops::Range<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut lines = maps.lines();
    range_of(
        lines
            .find(|l| wanted.iter().all(|w| l.contains(w)))
            .unwrap(),
    )
}

/// Relocated pages of a library, which it only reads: it would not get far.
fn c10_2_code_that_is_dropped() {
    if !possible() {
        return;
    }
    let mut pages = 0..0;
    let c = context(true, |words| {
        match words {
            [SETUP, _] => {
                let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
                let last = |l: &&str| l.contains(" r--p ") && l.contains("libc.so");
                pages = range_of(maps.lines().rfind(last).unwrap());
            }
            [DIRTY, _] => {
                drop_pages(pages.start, pages.len());
                loop {
                    std::hint::spin_loop();
                }
            }
            _ => drop(std::hint::black_box(vec![1u8; 100_000])),
        }
        vec![1]
    });
    assert_eq!(attempt(&c, 0), Came::Undone);
}

const MARK: u64 = 0x5ec1_e75e_c1e7_5ec1;

/// Writes through another mapping of a page are not seen in the first.
fn c10_2_a_second_mapping_of_the_backends_pages() {
    if !possible() {
        return;
    }
    // An empty range is all that is there; lengths are rounded up, past the end of
    // all numbers, too. Or all of it goes elsewhere, and comes back.
    for (how, strict) in [(0, true), (1, true), (2, true), (0, false), (2, false)] {
        let mut pair = 0..0;
        let c = context(strict, |words| {
            match words {
                [SETUP, _] => pair = mapping(&["rw-s", "lwc-pair"]),
                [DIRTY, how] => {
                    let (at, len) = (pair.start as u64, pair.len() as u64);
                    let moves = |from: u64, len_was: u64, to: u64| {
                        let flags =
                            libc::MREMAP_MAYMOVE | (libc::MREMAP_FIXED * i32::from(to != 0));
                        sys(libc::SYS_mremap, [from, len_was, len, flags as u64, to, 0])
                    };
                    let len_was = [0, u64::MAX - 5, len][*how as usize];
                    let second = moves(at, len_was, 0);
                    if second > 0 {
                        let second = second as usize;
                        let half = pair.len() / 2;
                        let all = second + 4096..second + half - 4096;
                        all.step_by(8).for_each(|at| poke(at, MARK));
                        if *how == 2 {
                            drop_pages(second, pair.len());
                            moves(second as u64, len, at);
                        } else {
                            sys(libc::SYS_munmap, [second as u64, len, 0, 0, 0, 0]);
                        }
                    }
                }
                _ => {}
            }
            vec![pair.clone().step_by(8).filter(|&p| peek(p) == MARK).count() as u64]
        });
        attempt(&c, how);
    }
}

/// The kernel writes what it takes out of memory elsewhere, and forgets where that
/// was written.
fn c10_2_pages_of_the_backends_that_are_paged_out() {
    if !possible() {
        return;
    }
    for strict in [true, false] {
        let mut pages = Vec::new();
        let c = context(strict, |words| {
            match words {
                [SETUP, _] => {
                    // Where it is in the strict sandbox its doorbell is elsewhere.
                    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
                    let own = maps
                        .lines()
                        .filter(|l| l.contains("rw-s") && l.contains("lwc-pair"));
                    pages = own.map(range_of).collect();
                }
                [DIRTY, _] => {
                    for pair in &pages {
                        let half = pair.len() / 2;
                        let all = pair.start + 4096..pair.start + half - 4096;
                        all.step_by(8).for_each(|at| poke(at, MARK));
                        let advice = libc::MADV_PAGEOUT as u64;
                        let args = [pair.start as u64, pair.len() as u64, advice, 0, 0, 0];
                        sys(libc::SYS_madvise, args);
                    }
                    return vec![];
                }
                _ => {}
            }
            let words = pages.iter().flat_map(|p| p.clone().step_by(8));
            vec![words.filter(|&p| peek(p) == MARK).count() as u64]
        });
        let clean = call(c.handle(), &[LOOK, 0]);
        c.roll_back().unwrap();
        call(c.handle(), &[DIRTY, 0]);
        c.roll_back().unwrap();
        assert_eq!(call(c.handle(), &[LOOK, 0]), clean);
    }
}

fn c10_2_a_flag_that_no_tracer_sets() {
    if !possible() {
        return;
    }
    const ID: u64 = 1 << 21;
    for strict in [true, false] {
        let c = context(strict, |words| {
            let mut flags: u64;
            // SAFETY: the flags, of which one that does nothing is changed.
            unsafe {
                asm!("pushfq", "pop {}", out(reg) flags);
                if words[0] == DIRTY {
                    asm!("push {}", "popfq", in(reg) flags ^ ID);
                }
            }
            flags &= ID;
            vec![flags]
        });
        assert_eq!(attempt(&c, 0), Came::Destroyed);
    }
}

/// Where a mapping begins and ends its list tells, and calls that take a range.
fn c10_2_memory_that_looks_the_same() {
    if !possible() {
        return;
    }
    const PAGES: u64 = 16;
    const RW: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let plain = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let fixed = plain | libc::MAP_FIXED;
    for strict in [true, false] {
        for how in 0..7 {
            let at = Cell::new(0);
            let page = |i: u64| at.get() + i * 4096;
            let map = |at: u64, len: u64, prot: u64, flags: i32| {
                sys(libc::SYS_mmap, [at, len, prot, flags as u64, u64::MAX, 0])
            };
            let protect = |at: u64, prot: i32| {
                assert_eq!(sys(libc::SYS_mprotect, [at, 4096, prot as u64, 0, 0, 0]), 0);
            };
            let c = context(strict, |words| {
                match words {
                    [SETUP, _] => {
                        at.set(map(0, (PAGES + 2) * 4096, RW, plain) as u64);
                        // Apart from all else.
                        sys(libc::SYS_mprotect, [at.get(), 4096, 0, 0, 0, 0]);
                        let last = page(PAGES + 1);
                        sys(libc::SYS_mprotect, [last, 4096, 0, 0, 0, 0]);
                        at.set(page(1));
                        (0..PAGES).for_each(|i| poke(page(i) as usize, i + 1));
                        // Never written, nor to be.
                        let len = 4 * 4096;
                        map(page(12), len, libc::PROT_READ as u64, fixed);
                    }
                    [DIRTY, 0] => drop(map(page(5), 4096, RW, fixed | libc::MAP_NORESERVE)),
                    [DIRTY, 1] => drop(map(page(5), 4096, RW, fixed | libc::MAP_STACK)),
                    [DIRTY, 2] => drop(map(page(5), 4096, RW, fixed | libc::MAP_GROWSDOWN)),
                    [DIRTY, 3] => drop(map(page(5), 4096, RW, fixed | libc::MAP_LOCKED)),
                    [DIRTY, 4] => {
                        // Into the hole, without saying so.
                        assert_eq!(sys(libc::SYS_munmap, [page(2), 4096, 0, 0, 0, 0]), 0);
                        map(page(2), 4096, RW, plain | libc::MAP_NORESERVE);
                    }
                    [DIRTY, 5] => {
                        // Two change places.
                        let spare = map(0, 4096, RW, plain) as u64;
                        for (from, to) in [(2, spare), (4, page(2)), (0, page(4))] {
                            let from = if from == 0 { spare } else { page(from) };
                            let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
                            sys(libc::SYS_mremap, [from, 4096, 4096, flags, to, 0]);
                        }
                    }
                    [DIRTY, _] => {
                        // Room is reserved for it from then on.
                        protect(page(13), libc::PROT_READ | libc::PROT_WRITE);
                        protect(page(13), libc::PROT_READ);
                    }
                    _ => {
                        // Whether two pages are of one mapping: EFAULT if not.
                        let apart = |i: &u64| {
                            let args = [page(*i), 8192, 12288, 0, 0, 0];
                            sys(libc::SYS_mremap, args) == -i64::from(libc::EFAULT)
                        };
                        let borders = (0..PAGES - 1).filter(apart);
                        let borders = borders.fold(0, |all, i| all | 1 << i);
                        let bytes = (0..PAGES).map(|i| peek(page(i) as usize));
                        return vec![
                            borders,
                            bytes.fold(0u64, |all, b| all ^ b.rotate_left(7) ^ all << 3),
                        ];
                    }
                }
                vec![]
            });
            assert_eq!(attempt(&c, how), Came::Undone, "{how}");
        }
    }
}

/// The kernel remembers for how long a sleep is to go on.
fn c10_2_a_sleep_that_was_interrupted() {
    if !possible() {
        return;
    }
    for strict in [true, false] {
        let c = context(strict, |words| match words {
            [DIRTY, _] => {
                let time = [3600u64, 0];
                loop {
                    sys(libc::SYS_nanosleep, [time.as_ptr() as u64, 0, 0, 0, 0, 0]);
                }
            }
            _ => vec![sys(libc::SYS_restart_syscall, [0; 6]) as u64],
        });
        assert_eq!(attempt(&c, 0), Came::Undone);
    }
}

std::arch::global_asm!(
    ".pushsection .text",
    ".globl lwc_tests_spin",
    ".hidden lwc_tests_spin",
    // What the C library has said that it is to begin with.
    ".long 0x53053053",
    "lwc_tests_spin:",
    "jmp lwc_tests_spin",
    ".popsection",
);

unsafe extern "C" {
    static lwc_tests_spin: u8;
    static __rseq_offset: isize;
    static __rseq_size: u32;
}

/// As rseq(2) has it: version, flags, start, length, where to go on.
#[repr(C, align(32))]
struct Section([u32; 2], [u64; 3]);

static mut SECTION: Section = Section([0; 2], [0; 3]);

/// Where the backend makes its calls, as hostile code finds it.
fn gates() -> Vec<u64> {
    const AROUND: [u8; 8] = [0x4c, 0x8b, 0x4c, 0x24, 0x08, 0x0f, 0x05, 0xc3];
    let exe = std::env::current_exe().unwrap();
    let text = mapping(&["r-xp", exe.to_str().unwrap()]);
    // SAFETY: code of this program, which nobody writes.
    let bytes = unsafe { std::slice::from_raw_parts(text.start as *const u8, text.len()) };
    let found = bytes.windows(8).enumerate().filter(|(_, w)| *w == AROUND);
    found.map(|(i, _)| (text.start + i + 5) as u64).collect()
}

/// A stop in a critical section makes the kernel go elsewhere (rseq(2)).
fn c10_2_a_section_where_calls_are_made() {
    if !possible() {
        return;
    }
    // SAFETY: the C library's words.
    if unsafe { __rseq_size } == 0 {
        return;
    }
    for strict in [true, false] {
        for gate in gates() {
            let c = context(strict, |words| {
                let mut action = [0u64; 4];
                match words {
                    [DIRTY, _] => {
                        // Its action is to be put back, by a call.
                        action = [1, 0x0400_0000, 0, 0];
                        sys(
                            libc::SYS_rt_sigaction,
                            [10, action.as_ptr() as u64, 0, 8, 0, 0],
                        );
                        let at = (&raw mut SECTION) as usize;
                        poke(at + 8, gate);
                        poke(at + 16, 1);
                        poke(at + 24, (&raw const lwc_tests_spin) as u64);
                        let thread: usize;
                        // SAFETY: reads the first word there.
                        unsafe { asm!("mov {}, fs:0", out(reg) thread) };
                        // SAFETY: the C library's word.
                        let own = thread.wrapping_add_signed(unsafe { __rseq_offset }) + 8;
                        loop {
                            poke(own, at as u64);
                        }
                    }
                    _ => {
                        let at = action.as_mut_ptr() as u64;
                        sys(libc::SYS_rt_sigaction, [10, 0, at, 8, 0, 0]);
                        vec![action[0]]
                    }
                }
            });
            assert_eq!(attempt(&c, 0), Came::Undone);
        }
    }
}

fn pipe_without_reader() -> u64 {
    let mut ends = [0i32; 2];
    // SAFETY: makes two descriptors, of which one is closed.
    unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        libc::close(ends[0]);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
    ends[1] as u64
}

fn c10_2_a_signal_that_is_blocked() {
    if !possible() {
        return;
    }
    let pipe = pipe_without_reader();
    let c = context(false, |words| {
        let mut pending = 0u64;
        let at = &raw mut pending as u64;
        if words[0] == DIRTY {
            let set = 1u64 << (libc::SIGPIPE - 1);
            let block = libc::SIG_BLOCK as u64;
            let args = [block, &raw const set as u64, 0, 8, 0, 0];
            sys(libc::SYS_rt_sigprocmask, args);
            sys(libc::SYS_write, [pipe, at, 1, 0, 0, 0]);
        }
        sys(libc::SYS_rt_sigpending, [at, 8, 0, 0, 0, 0]);
        vec![pending]
    });
    assert_eq!(attempt(&c, 0), Came::Destroyed);
}

/// The fault's signal waits behind the stop. When it comes is chance: some of these
/// rounds meet it.
fn c10_2_a_fault_when_it_is_stopped() {
    if !possible() {
        return;
    }
    static HITS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    extern "C" fn handler(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        HITS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // SAFETY: the context that the kernel made; the load below is three bytes
        // long, and elsewhere nothing is to be done about it.
        unsafe {
            let context = &mut *context.cast::<libc::ucontext_t>();
            let at = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
            if *(*at as *const u16) == 0x8b48 {
                *at += 3;
            }
        }
    }
    // SAFETY: reads the counter.
    let now = || unsafe { std::arch::x86_64::_rdtsc() };
    let make = || {
        context(true, move |words| {
            match words {
                // SAFETY: the struct is initialised.
                [SETUP, _] => unsafe {
                    let mut action: libc::sigaction = std::mem::zeroed();
                    action.sa_sigaction = handler as *const () as usize;
                    action.sa_flags = libc::SA_SIGINFO;
                    libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut());
                },
                [DIRTY, until] => {
                    while now() < *until {}
                    // SAFETY: a load that faults, which the handler jumps over.
                    unsafe { asm!("mov rax, [rax]", inout("rax") 8u64 => _) };
                    loop {
                        std::hint::spin_loop();
                    }
                }
                _ => {}
            }
            vec![HITS.load(std::sync::atomic::Ordering::Relaxed)]
        })
    };
    let from = now();
    std::thread::sleep(Duration::from_millis(20));
    let micro = (now() - from) / 20_000;
    let mut c = make();
    for i in 0..600u64 {
        // Around the time when it is stopped, a little sooner or later each time.
        let until = now() + (1900 + (i * 37) % 400) * micro;
        let late = MonotonicTime::now() + Duration::from_millis(2);
        let _ = c.switch_until(&[DIRTY, until], late);
        if let Err(e) = c.roll_back() {
            assert_eq!(e.errno(), Errno::ENOTSUP, "{e}");
            c = make();
            continue;
        }
        assert_eq!(call(c.handle(), &[LOOK, 0]), [0], "round {i}");
        c.roll_back().unwrap();
    }
}

fn c10_2_code_of_the_kernels() {
    if !possible() {
        return;
    }
    for strict in [true, false] {
        let vdso = mapping(&["[vdso]"]);
        let last = vdso.end - 16;
        let c = context(strict, |words| {
            if words[0] == DIRTY {
                let (at, len) = (vdso.start as u64, vdso.len() as u64);
                let protect = |prot| sys(libc::SYS_mprotect, [at, len, prot, 0, 0, 0]);
                if protect(3) == 0 {
                    poke(last, MARK);
                    protect(5);
                }
            }
            vec![peek(last)]
        });
        attempt(&c, 0);
    }
}

/// The instruction by which the keeper makes calls in its name.
fn c10_2_code_of_the_backends() {
    if !possible() {
        return;
    }
    for strict in [true, false] {
        for gate in gates() {
            let c = context(strict, |words| {
                if words[0] == DIRTY {
                    let page = gate & !4095;
                    if sys(libc::SYS_mprotect, [page, 8192, 7, 0, 0, 0]) == 0 {
                        // jmp .
                        // SAFETY: code of the context's own, to its harm.
                        unsafe { (gate as *mut u16).write_unaligned(0xfeeb) };
                    } else {
                        // Other code, that there is, in its place; the sandbox
                        // does not let it.
                        let other = lwc::page_size() as u64 * 8 + page;
                        let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
                        sys(libc::SYS_mremap, [other, 4096, 4096, flags, page, 0]);
                    }
                    loop {
                        std::hint::spin_loop();
                    }
                }
                vec![peek((gate & !7) as usize)]
            });
            let came = attempt(&c, 0);
            assert!(strict || came == Came::Destroyed);
        }
    }
}

/// What it has opened before its snapshot may be its own memory, where it can open
/// that.
fn c10_2_memory_through_a_file() {
    if !possible() {
        return;
    }
    static ONLY_READ: Block = Block { _words: [7; 1024] };
    let at = std::hint::black_box(&raw const ONLY_READ) as usize;
    let vdso = mapping(&["[vdso]"]);
    for place in [at, vdso.end - 16] {
        let mut file = -1;
        let c = context(false, |words| {
            if words[0] == SETUP {
                let name = c"/proc/self/mem".as_ptr() as u64;
                file = sys(libc::SYS_open, [name, libc::O_RDWR as u64, 0, 0, 0, 0]);
            } else if words[0] == DIRTY {
                let mark = MARK;
                let from = &raw const mark as u64;
                let args = [file as u64, from, 8, place as u64, 0, 0];
                sys(libc::SYS_pwrite64, args);
            }
            vec![peek(place)]
        });
        attempt(&c, 0);
    }
}

/// Where the kernel tells of writes by bits in page tables, a file clears them: who
/// has it before the snapshot, and can write, hides what it does, and who opens it
/// later has done what is not undone.
fn c10_2_bits_that_are_cleared() {
    if !possible() {
        return;
    }
    let pages = Pages::new(16);
    pages.set(1, 7);
    for when in [SETUP, DIRTY] {
        let mut file = -1;
        let c = context(false, |words| {
            if words[0] == when {
                // Of one that is not dumpable it takes privileges.
                let (dumpable, yes) = (libc::PR_SET_DUMPABLE as u64, 1);
                sys(libc::SYS_prctl, [dumpable, yes, 0, 0, 0, 0]);
                let name = c"/proc/self/clear_refs".as_ptr() as u64;
                file = sys(libc::SYS_open, [name, libc::O_WRONLY as u64, 0, 0, 0, 0]);
                assert!(file >= 0);
            }
            if words[0] == DIRTY {
                pages.set(1, MARK);
                pages.set(2, MARK);
                let four = c"4".as_ptr() as u64;
                assert_eq!(sys(libc::SYS_write, [file as u64, four, 1, 0, 0, 0]), 1);
                // And something that tells of itself.
                pages.set(3, MARK);
            }
            (1..4).map(|i| pages.get(i)).collect()
        });
        let came = attempt(&c, 0);
        assert_eq!(came == Came::Destroyed, when == DIRTY, "{came:?}");
    }
}

/// A page that was dropped and is only read is there again, of zeros, and nobody has
/// written it.
fn c10_2_memory_that_is_dropped_and_read() {
    if !possible() {
        return;
    }
    let pages = Pages::new(16);
    (0..8).for_each(|i| pages.set(i, i as u64 + 1));
    for strict in [true, false] {
        let c = context(strict, |words| {
            if words[0] == SETUP {
                (4..12).for_each(|i| pages.set(i, i as u64 + 7));
            }
            if words[0] == DIRTY {
                if words[1] == 2 {
                    pages.set(5, MARK);
                }
                let range = pages.range();
                drop_pages(range.start, range.len());
                if words[1] > 0 {
                    assert!((0..16).all(|i| pages.get(i) == 0));
                }
            }
            (0..16).map(|i| pages.get(i)).collect()
        });
        for how in 0..3 {
            assert_eq!(attempt(&c, how), Came::Undone, "{how}");
        }
    }
}

/// What was said before the snapshot about pages may come true later, and nobody has
/// written them then. A snapshot is refused, or they are what they were.
fn c10_2_memory_that_may_be_another_later() {
    if !possible() {
        return;
    }
    let advise = |at: &std::ops::Range<usize>, advice: i32| {
        let (at, len) = (at.start as u64, at.len() as u64);
        sys(libc::SYS_madvise, [at, len, advice as u64, 0, 0, 0])
    };
    for said in [libc::MADV_FREE, libc::MADV_MERGEABLE] {
        let pages = Pages::new(16);
        let all = pages.range();
        let c = answering(&[], FLAGS, |words| {
            if words[0] == SETUP {
                (0..16).for_each(|i| pages.set(i, 7));
                // A kernel may have none of the second.
                advise(&all, said);
            }
            if words[0] == DIRTY {
                advise(&all, libc::MADV_PAGEOUT);
            }
            (0..16).map(|i| pages.get(i)).collect()
        })
        .unwrap();
        call(c.handle(), &[SETUP, 0]);
        match c.snapshot() {
            Err(e) => assert_eq!(e.errno(), Errno::ENOTSUP, "{e}"),
            Ok(()) => assert_eq!(attempt(&c, 0), Came::Undone),
        }
    }
}

/// A ring has threads that nobody rolls back; for a page that nobody brings one
/// would wait.
fn c10_2_no_rings_and_no_pages_that_nobody_brings() {
    if !possible() {
        return;
    }
    let c = context(false, |_| {
        let ring = [0u64; 15];
        let ring = sys(
            libc::SYS_io_uring_setup,
            [8, ring.as_ptr() as u64, 0, 0, 0, 0],
        );
        let faults = sys(libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0]);
        vec![ring as u64, faults as u64]
    });
    assert_eq!(call(c.handle(), &[LOOK, 0]), [-1i64 as u64; 2]);
}

/// In such memory C libraries have the state of their random numbers, which must
/// not come twice.
fn c10_2_memory_that_may_be_dropped() {
    if !possible() {
        return;
    }
    /// Linux 6.11.
    const MAP_DROPPABLE: i32 = 8;
    let rw = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let flags = (MAP_DROPPABLE | libc::MAP_ANONYMOUS) as u64;
    let at = sys(libc::SYS_mmap, [0, 8192, rw, flags, u64::MAX, 0]);
    if at < 0 {
        eprintln!("skipped: the kernel has none");
        return;
    }
    let at = at as usize;
    for strict in [true, false] {
        let c = context(strict, |words| {
            if words[0] != LOOK {
                poke(at, MARK);
                poke(at + 4096, MARK);
            }
            vec![peek(at), peek(at + 4096)]
        });
        assert_eq!(call(c.handle(), &[LOOK, 0]), [0, 0]);
        c.roll_back().unwrap();
        assert_eq!(attempt(&c, 0), Came::Undone);
    }
}

/// Actions of signals have flags, a mask and a return address also where nothing
/// is caught, and a number that is an int.
fn c10_2_what_is_left_of_actions() {
    if !possible() {
        return;
    }
    /// As the kernel has it: handler, flags, return, mask.
    type Action = [u64; 4];
    const RESTORER: u64 = 0x0400_0000;
    const IGNORED: u64 = 1;
    fn set(signal: u64, action: Action) -> i64 {
        let at = action.as_ptr() as u64;
        sys(libc::SYS_rt_sigaction, [signal, at, 0, 8, 0, 0])
    }
    fn get(signal: u64) -> Action {
        let mut action = [0; 4];
        let at = action.as_mut_ptr() as u64;
        sys(libc::SYS_rt_sigaction, [signal, 0, at, 8, 0, 0]);
        action
    }
    for strict in [true, false] {
        let make = || {
            context(strict, |words| {
                let mine = [IGNORED, RESTORER, 0x5ec1, 0xe75e];
                match words {
                    [SETUP, _] => {
                        set(10, [0, RESTORER, 0x1111, 0x2222]);
                        set(12, [IGNORED, RESTORER, 0x3333, 0x4444]);
                    }
                    [DIRTY, 0] => assert_eq!([set(10, mine), set(12, mine)], [0, 0]),
                    [DIRTY, 1] => {
                        // No more than 32 bits of the number count.
                        for signal in [10, 12, 40] {
                            set(signal | 0x5ec1 << 32, mine);
                        }
                    }
                    [DIRTY, 2] => {
                        let done = (1..=64).filter(|&signal| set(signal, mine) == 0);
                        assert_eq!(done.count(), 62);
                    }
                    [DIRTY, 3] => {
                        // Twice, and no such signal; a set that cannot be read.
                        for signal in [0, 10, 10, 65, u64::MAX] {
                            set(signal, mine);
                        }
                        sys(libc::SYS_rt_sigaction, [12, 8, 0, 8, 0, 0]);
                    }
                    // The stack is nowhere when it calls.
                    [DIRTY, _] => {
                        let at = mine.as_ptr();
                        // SAFETY: the stack's address is put back at once, and no signal
                        // is sent meanwhile.
                        unsafe {
                            asm!("mov {rsp}, rsp", "mov rsp, 8", "syscall", "mov rsp, {rsp}",
                            rsp = out(reg) _,
                            inlateout("rax") libc::SYS_rt_sigaction => _,
                            in("rdi") 40, in("rsi") at, in("rdx") 0, in("r10") 8,
                            out("rcx") _, out("r11") _);
                        }
                    }
                    _ => {}
                }
                if words[0] == DIRTY {
                    // To ask for an action counts as setting it.
                    return vec![];
                }
                let all = (1..=64).flat_map(get);
                vec![all.fold(0, |all: u64, word| {
                    (all ^ word).wrapping_mul(0x100_0000_01b3).rotate_left(9)
                })]
            })
        };
        let clean = call(make().handle(), &[LOOK, 0]);
        for how in 0..5 {
            assert_eq!(attempt(&make(), how), Came::Undone, "{how}");
            // One that has asked for none of them before.
            let c = make();
            call(c.handle(), &[DIRTY, how]);
            c.roll_back().unwrap();
            assert_eq!(call(c.handle(), &[LOOK, 0]), clean, "{how}");
        }
    }
}

/// What an area that grows becomes one with depends on whether pages of the two
/// were ever written.
fn c10_2_areas_that_were_touched() {
    if !possible() {
        return;
    }
    const RW: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    const LEN: u64 = 4 * 4096;
    for strict in [true, false] {
        let mut at = 0;
        let c = context(strict, |words| {
            match words {
                [SETUP, _] => {
                    // Two, with a hole between, apart from all else; never written.
                    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
                    at = sys(libc::SYS_mmap, [0, 5 * LEN, 0, flags, u64::MAX, 0]) as u64;
                    for part in [at + LEN, at + 3 * LEN] {
                        let args = [part, LEN, RW, 0, 0, 0];
                        assert_eq!(sys(libc::SYS_mprotect, args), 0);
                    }
                    sys(libc::SYS_munmap, [at + 2 * LEN, LEN, 0, 0, 0, 0]);
                }
                [DIRTY, _] => {
                    poke((at + LEN) as usize, 1);
                    poke((at + 3 * LEN) as usize, 1);
                }
                _ => {
                    let first = [at + LEN, LEN, 2 * LEN, 0, 0, 0];
                    let grown = sys(libc::SYS_mremap, first);
                    // EFAULT where they are two.
                    let across = [at + 3 * LEN - 4096, 8192, 12288, 0, 0, 0];
                    return vec![grown as u64, sys(libc::SYS_mremap, across) as u64];
                }
            }
            vec![]
        });
        assert_eq!(attempt(&c, 0), Came::Undone);
    }
}

/// What was inherited does not become one with its neighbour when the two come to
/// be alike; what was made anew might.
fn c10_2_areas_that_were_made_anew() {
    if !possible() {
        return;
    }
    const RW: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    const LEN: u64 = 4 * 4096;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let map = move |at: u64, len: u64, prot: u64, more: i32| {
        let args = [at, len, prot, (flags | more) as u64, u64::MAX, 0];
        sys(libc::SYS_mmap, args)
    };
    let protect = |at: u64, prot: u64| sys(libc::SYS_mprotect, [at, LEN, prot, 0, 0, 0]);
    // Apart from all else: one that is written, and one that never could be.
    let at = map(0, 4 * LEN, 0, 0) as u64 + LEN;
    protect(at, RW);
    (at..at + LEN)
        .step_by(4096)
        .for_each(|at| poke(at as usize, 7));
    for strict in [true, false] {
        for how in 0..3 {
            let context_again = || {
                context(strict, |words| {
                    match words {
                        [DIRTY, 0] => drop(map(at, LEN, RW, libc::MAP_FIXED)),
                        [DIRTY, 1] => drop(map(at + 4096, 4096, RW, libc::MAP_FIXED)),
                        [DIRTY, _] => drop(map(at + LEN, LEN, 0, libc::MAP_FIXED)),
                        [SETUP, _] => {}
                        _ => {
                            protect(at + LEN, RW);
                            // EFAULT where they are two.
                            let across = [at + LEN - 4096, 8192, 12288, 0, 0, 0];
                            return vec![sys(libc::SYS_mremap, across) as u64];
                        }
                    }
                    vec![]
                })
            };
            let c = context_again();
            // To look is to change it, too, so that it is destroyed by that.
            let late = MonotonicTime::now() + Duration::from_millis(100);
            let _ = c.switch_until(&[DIRTY, how], late);
            if let Err(e) = c.roll_back() {
                assert_eq!(e.errno(), Errno::ENOTSUP, "{how}: {e}");
                continue;
            }
            let clean = call(context_again().handle(), &[LOOK, how]);
            assert_eq!(call(c.handle(), &[LOOK, how]), clean, "{how} is seen");
        }
    }
    sys(libc::SYS_munmap, [at - LEN, 4 * LEN, 0, 0, 0, 0]);
}
