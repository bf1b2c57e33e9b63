//! Clause 10.2: random programs that change all they can, and what the context
//! can tell of itself afterwards.
//!
//! After each program and its rollback the context makes a digest of all private
//! memory that it had at its snapshot, every byte, the registers' state that code
//! can see, and what system calls tell of signals. It starts from the same state
//! each time, so the same digest comes each time.

use crate::s10_rollback::{FLAGS, possible};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use std::cell::Cell;

pub(crate) const CASES: &[Case] = cases![
    c10_2_random_programs_leave_nothing => Well within 120,
];

const PROGRAM: u64 = 1;
const DIGEST: u64 = 2;
const LAYOUT: u64 = 3;

/// A private mapping: addresses, protection and file.
type Place = (usize, usize, String, String);

/// Mappings of this context, neighbours that are alike as one.
fn places() -> Vec<Place> {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut all: Vec<Place> = Vec::with_capacity(512);
    for line in text.lines() {
        let mut parts = line.split_ascii_whitespace();
        let (start, end) = parts.next().unwrap().split_once('-').unwrap();
        let number = |s| usize::from_str_radix(s, 16).unwrap();
        let (start, end) = (number(start), number(end));
        let rights = parts.next().unwrap().to_owned();
        let inode = parts.nth(2).unwrap().to_owned();
        if line.contains("[v") {
            continue;
        }
        match all.last_mut() {
            Some(last) if last.1 == start && (&last.2, &last.3) == (&rights, &inode) => {
                last.1 = end;
            }
            _ => all.push((start, end, rights, inode)),
        }
    }
    all
}

thread_local! {
    static LOCAL: Cell<u64> = const { Cell::new(1) };
}

#[inline(never)]
fn deep(n: u64) -> u64 {
    let room = std::hint::black_box([n; 512]);
    if n == 0 {
        return room[1];
    }
    deep(n - 1) + std::hint::black_box(room[2])
}

extern "C" fn handler(_: i32) {}

fn vector_state() -> [u64; 3] {
    let (mut mxcsr, mut control) = (0u32, 0u16);
    let mut high: [u64; 4] = [0; 4];
    #[cfg(target_arch = "x86_64")]
    // SAFETY: store registers to locals.
    unsafe {
        std::arch::asm!(
            "stmxcsr [{a}]", "fnstcw [{b}]", "movups [{c}], xmm15",
            a = in(reg) &raw mut mxcsr, b = in(reg) &raw mut control, c = in(reg) &raw mut high,
        );
    }
    [mxcsr.into(), control.into(), high[0] ^ high[1]]
}

fn change_vector_state(r: &mut Random) {
    // Rounding, and flushing to zero: modes that outlast a function.
    let mxcsr = 0x1f80 | ((r.draw() as u32 & 3) << 13) | 0x8000;
    let control = 0x37f ^ ((r.draw() as u16 & 3) << 10);
    let word = r.draw();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: load registers from locals; exceptions stay masked.
    unsafe {
        std::arch::asm!(
            "ldmxcsr [{a}]", "fldcw [{b}]", "movq xmm15, {c}",
            a = in(reg) &raw const mxcsr, b = in(reg) &raw const control, c = in(reg) word,
            out("xmm15") _,
        );
    }
}

/// One step of a program.
fn step(r: &mut Random, pages: &Pages, heap: &mut Vec<Vec<u8>>) {
    let page = lwc::page_size();
    let i = r.below(64) as usize;
    let n = (1 + r.below(4) as usize).min(64 - i);
    let at = pages.page(i).start as *mut libc::c_void;
    let rw = libc::PROT_READ | libc::PROT_WRITE;
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: pages of the case's own, or new ones, which are looked at by the
    // digest alone; structures are initialised.
    unsafe {
        match r.below(16) {
            0..=2 => {
                // It may not be there any more, or not writable.
                if libc::mprotect(at, page, rw) == 0 {
                    pages.set(i, r.draw());
                }
            }
            3 => drop(libc::munmap(at, n * page)),
            4 => {
                let prot = [libc::PROT_NONE, libc::PROT_READ, rw][r.below(3) as usize];
                libc::mprotect(at, n * page, prot);
            }
            5 => drop(libc::madvise(at, n * page, libc::MADV_DONTNEED)),
            6 => drop(libc::mmap(
                at,
                n * page,
                rw,
                private | libc::MAP_FIXED,
                -1,
                0,
            )),
            7 => {
                let new = libc::mmap(std::ptr::null_mut(), n * page, rw, private, -1, 0);
                new.cast::<u64>().write(r.draw());
            }
            8 => drop(libc::mremap(at, page, n * page, libc::MREMAP_MAYMOVE)),
            9 => heap.push(vec![r.draw() as u8; r.below(300_000) as usize]),
            10 => drop(heap.pop()),
            11 => drop(std::hint::black_box(deep(r.below(300)))),
            12 => {
                let set = r.draw() & !0x0001_0500 & !(1 << 30);
                libc::syscall(
                    libc::SYS_rt_sigprocmask,
                    libc::SIG_SETMASK,
                    &raw const set,
                    0,
                    8,
                );
            }
            13 => {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handler as *const () as usize;
                libc::sigaction(
                    10 + r.below(4) as i32,
                    &raw const action,
                    std::ptr::null_mut(),
                );
            }
            14 => LOCAL.with(|l| l.set(r.draw())),
            _ => change_vector_state(r),
        }
    }
}

/// What the context can tell of itself.
fn digest(known: &[Place]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325u64;
    // The sum is on the stack, and so added to itself as well: exclusive or of the
    // two as they are would be zero, whatever came before.
    let mut add = |word: u64| sum = (sum.rotate_left(23) ^ word).wrapping_mul(0x100_0000_01b3);
    vector_state().into_iter().for_each(&mut add);
    let mut mask = 0u64;
    // SAFETY: fills the local.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            0,
            &raw mut mask,
            8,
        )
    };
    add(mask);
    for signal in 1..32 {
        // SAFETY: fills the local.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &raw mut action);
            add(action.sa_sigaction as u64 ^ (action.sa_flags as u64) << 48);
        }
    }
    for (start, end, rights, _) in known {
        if rights.starts_with('r') && rights.ends_with('p') {
            (*start..*end).step_by(8).for_each(|at| add(peek(at)));
        }
    }
    sum
}

fn c10_2_random_programs_leave_nothing() {
    if !possible() {
        return;
    }
    // What the kernel writes of the processor, in thread-local memory, is the
    // same each time then.
    #[cfg(target_os = "linux")]
    // SAFETY: sets are plain bits.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&set), &raw mut set);
        let first = (0..1024).find(|&i| libc::CPU_ISSET(i, &set)).unwrap();
        libc::CPU_ZERO(&mut set);
        libc::CPU_SET(first, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
    }
    let pages = Pages::new(64);
    (0..64).step_by(3).for_each(|i| pages.set(i, i as u64 + 1));
    let mut heap: Vec<Vec<u8>> = Vec::new();
    let mut known = Vec::new();
    let c = answering(&[], FLAGS, |words| match words[0] {
        PROGRAM => {
            let mut r = Random::new(words[1]);
            if words[2] == 0 {
                pages.set(63, pages.get(63) + 1);
            }
            for _ in 0..words[2] {
                step(&mut r, &pages, &mut heap);
            }
            vec![]
        }
        DIGEST => vec![digest(&known)],
        LAYOUT => vec![(places() == known).into()],
        _ => {
            known = places();
            vec![]
        }
    })
    .unwrap();
    // Twice: the first list makes room for itself.
    call(c.handle(), &[0]);
    call(c.handle(), &[0]);
    c.snapshot().unwrap();
    let clean = call(c.handle(), &[DIGEST, 0, 0]);
    c.roll_back().unwrap();
    assert_eq!(
        call(c.handle(), &[DIGEST, 0, 0]),
        clean,
        "it is the same twice"
    );
    c.roll_back().unwrap();
    // It can tell when something is different.
    call(c.handle(), &[PROGRAM, 7, 0]);
    assert_ne!(call(c.handle(), &[DIGEST, 0, 0]), clean);
    c.roll_back().unwrap();
    for seed in 1..=100u64 {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let steps = 1 + seed % 40;
        call(c.handle(), &[PROGRAM, seed, steps]);
        c.roll_back()
            .unwrap_or_else(|e| panic!("program {seed:#x}, {steps} steps: {e}"));
        assert_eq!(
            call(c.handle(), &[DIGEST, 0, 0]),
            clean,
            "program {seed:#x}, {steps} steps"
        );
        c.roll_back().unwrap();
    }
    assert_eq!(call(c.handle(), &[LAYOUT, 0, 0]), [1]);
}
