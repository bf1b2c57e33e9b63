//! What a context leaves in the processor and in signals' frames that it has written
//! itself is undone (clause 10.2): it returns from them (rt_sigreturn(2)) without a signal
//! that has come, and they say what its mask, its alternate stack and its registers are.

use crate::s10_rollback::possible;
use crate::s10_survivors::{DIRTY, LOOK, SETUP, context, sys};
use lwc::{Context, Errno, Event, MonotonicTime};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use std::arch::{asm, global_asm};
use std::time::Duration;

pub(crate) const CASES: &[Case] = cases![
    c10_2_state_of_the_processor => Well within 300,
    c10_2_frames_that_are_forged => Well within 300,
];

/// As the kernel has it: what it returns to, then a `struct ucontext`.
#[repr(C, align(64))]
#[derive(Clone, Copy, Default)]
struct Frame {
    returns_to: u64,
    flags: u64,
    link: u64,
    stack: [u64; 3],
    /// r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, flags, segments.
    registers: [u64; 19],
    /// Of the last fault: error, number, old mask, address.
    fault: [u64; 4],
    vector: u64,
    reserved: [u64; 8],
    mask: u64,
    /// The signal's own, which nobody reads.
    rest: [[u64; 16]; 2],
}

const FLAGS: usize = 17;
const SEGMENTS: usize = 18;

// Returns from a frame (rdi), to whoever has called it, or to a loop without an end
// (rsi is 0).
global_asm!(
    ".pushsection .text",
    ".globl lwc_tests_forge",
    ".hidden lwc_tests_forge",
    "lwc_tests_forge:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rdi + 48 + 8 * 15], rsp",
    "lea rax, [rip + 2f]",
    "test rsi, rsi",
    "jnz 3f",
    "lea rax, [rip + 4f]",
    "3:",
    "mov [rdi + 48 + 8 * 16], rax",
    "lea rsp, [rdi + 8]",
    "mov eax, 15",
    "syscall",
    "2:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "cld",
    "ret",
    "4:",
    "pause",
    "jmp 4b",
    ".popsection",
);

unsafe extern "C" {
    fn lwc_tests_forge(frame: *mut Frame, back: u64);
}

/// As fxsave64 fills it: control words, tags and x87's registers in front.
#[repr(C, align(64))]
struct Legacy([u8; 512]);

impl Legacy {
    fn now() -> Self {
        let mut area = Self([0; 512]);
        // SAFETY: stores as many bytes.
        unsafe { asm!("fxsave64 [{}]", in(reg) area.0.as_mut_ptr()) };
        area
    }
}

/// Whether the kernel lets code read and write the bases of its segments.
fn has_bases() -> bool {
    const FSGSBASE: u64 = 2;
    // SAFETY: asks what the kernel has told this process.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & FSGSBASE != 0 }
}

fn has_wide() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

/// What it sees of itself: its alternate stack (three words), its mask, what waits, its
/// actions, its registers but for those that any code uses.
fn look() -> Vec<u64> {
    let mut stack = [0u64; 3];
    let at = stack.as_mut_ptr() as u64;
    assert_eq!(sys(libc::SYS_sigaltstack, [0, at, 0, 0, 0, 0]), 0);
    // An int.
    stack[1] &= 0xffff_ffff;
    let (mut mask, mut waits) = (0u64, 0u64);
    let at = &raw mut mask as u64;
    sys(libc::SYS_rt_sigprocmask, [0, 0, at, 8, 0, 0]);
    sys(
        libc::SYS_rt_sigpending,
        [&raw mut waits as u64, 8, 0, 0, 0, 0],
    );
    let mix = |h: u64, word: u64| {
        (h ^ word)
            .rotate_left(7)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    let mut actions = 0;
    for signal in 1..=64 {
        let mut action = [0u64; 4];
        let at = action.as_mut_ptr() as u64;
        sys(libc::SYS_rt_sigaction, [signal, 0, at, 8, 0, 0]);
        actions = action.into_iter().fold(actions, mix);
    }
    let legacy = Legacy::now();
    let word = |at: usize| u64::from(u16::from_ne_bytes([legacy.0[at], legacy.0[at + 1]]));
    // Control, status and tags of x87; of the other one what says how it computes.
    let control = word(0) | word(2) << 16 | word(4) << 32 | (word(24) & 0xffc0) << 48;
    let x87 = legacy.0[32..160].chunks(8);
    let x87 = x87.fold(0, |h, c| mix(h, u64::from_ne_bytes(c.try_into().unwrap())));
    let (mut flags, mut fs, mut gs) = (0u64, 0u64, 0u64);
    let mut segments = [0u16; 6];
    let (mut wide, mut masks) = ([0u64; 16], [0u32; 2]);
    // SAFETY: stores registers into memory of its own, of which there is enough; those
    // that there are.
    unsafe {
        asm!("pushfq", "pop {}", out(reg) flags);
        if has_bases() {
            asm!("rdfsbase {}", out(reg) fs);
            asm!("rdgsbase {}", out(reg) gs);
        }
        asm!(
            "mov word ptr [{0}], ds",
            "mov word ptr [{0} + 2], es",
            "mov word ptr [{0} + 4], fs",
            "mov word ptr [{0} + 6], gs",
            "mov word ptr [{0} + 8], cs",
            "mov word ptr [{0} + 10], ss",
            in(reg) segments.as_mut_ptr(),
        );
        if has_wide() {
            asm!(
                "vmovdqu64 [{0}], zmm30",
                "vmovdqu64 [{0} + 64], zmm31",
                "kmovw {1:e}, k1",
                "kmovw {2:e}, k7",
                in(reg) wide.as_mut_ptr(),
                out(reg) masks[0],
                out(reg) masks[1],
            );
        }
    }
    // What a comparison leaves is not asked about.
    flags &= !0x8d5;
    let segments = segments.iter().fold(0, |h, &s| h << 10 ^ u64::from(s));
    // Others may have used these as well: whether they are as `dirty` has them.
    let ones = |words: &[u64]| words.iter().all(|&w| w == u64::MAX);
    let marks = [
        ones(&wide[..8]),
        ones(&wide[8..]),
        masks[0] == 0xffff,
        masks[1] == 0xffff,
    ];
    let marks = marks.into_iter().fold(0, |h, m| h << 1 | u64::from(m));
    let mut all = stack.to_vec();
    all.extend([
        mask, waits, actions, flags, fs, gs, control, x87, segments, marks,
    ]);
    all
}

/// Ways to leave something; the first so many come back, and are seen.
const WAYS: u64 = 19;
const SEEN: u64 = 6;

fn dirty(how: u64) {
    /// Of a segment's number: user's data, and none with the user's rights.
    const DATA: u16 = 0x2b;
    const NONE: u16 = 3;
    let (mxcsr, x87) = (0xffc0u32, 0x027fu16);
    // SAFETY: changes state that no code of the case's own depends on, or runs on alone,
    // for ever.
    unsafe {
        match how {
            0 => asm!("ldmxcsr [{}]", in(reg) &raw const mxcsr),
            1 => asm!("fldcw [{}]", in(reg) &raw const x87),
            2 => asm!("fld1", "fldpi", "fldl2e"),
            3 => asm!("mov gs, {0:x}", in(reg) DATA),
            4 => asm!("mov ds, {0:x}", "mov es, {0:x}", in(reg) DATA),
            5 if has_bases() => asm!("wrgsbase {}", in(reg) 0x7e57_0000u64),
            5 => asm!("fldz"),
            // Which a library may use, too.
            6 if has_wide() => asm!("vpternlogd zmm30, zmm30, zmm30, 255"),
            7 if has_wide() => asm!("kxnorw k1, k1, k1", "kxnorw k7, k7, k7"),
            // Which the processor may forget by itself.
            8 => asm!("mov gs, {0:x}", in(reg) NONE),
            9 => asm!("mov fs, {0:x}", "2:", "pause", "jmp 2b", in(reg) DATA),
            10 => asm!("mov fs, {0:x}", "2:", "pause", "jmp 2b", in(reg) NONE),
            11 if has_bases() => asm!("wrfsbase {0}", "2:", "pause", "jmp 2b", in(reg) 4096u64),
            12 => asm!("std", "2:", "pause", "jmp 2b"),
            // Alignment is checked; a task is nested.
            13 => asm!(
                "pushfq",
                "or qword ptr [rsp], 0x44000",
                "popfq",
                "2:",
                "pause",
                "jmp 2b"
            ),
            14 => asm!("xor esp, esp", "2:", "pause", "jmp 2b"),
            15 if has_wide() => {
                asm!(
                    "vpternlogd zmm31, zmm31, zmm31, 255",
                    "2:",
                    "pause",
                    "jmp 2b"
                );
            }
            // An exception of x87 that waits.
            16 => asm!("fldcw [{}]", "fldz", "fld1", "fdivrp", in(reg) &raw const x87),
            17 => {
                let (at, flags) = (0x1000_0000, 0x22 | libc::MAP_FIXED as u64);
                let made = sys(libc::SYS_mmap, [at, 4096, 7, flags, u64::MAX, 0]);
                if made == at as i64 {
                    // Code of 32 bits: the kernel shows a tracer other registers then.
                    (at as *mut u16).write(0xfeeb);
                    asm!("push 0x23", "push {}", "retfq", in(reg) at);
                }
            }
            _ => {}
        }
    }
}

/// It looks around, does something, and may do it for as long as it likes, or not come
/// back; then it looks around. Whether it was undone (it was destroyed otherwise); and if
/// it could have been seen.
fn attempt(c: &Context, how: u64) -> (bool, bool) {
    let clean = call(c.handle(), &[LOOK]);
    c.roll_back().unwrap();
    assert_eq!(call(c.handle(), &[LOOK]), clean, "it is the same twice");
    c.roll_back().unwrap();
    let mut seen = false;
    // To look makes calls after which more is undone.
    for looks in [false, true] {
        let sent = [&[DIRTY, how], &clean[..3]].concat();
        let late = MonotonicTime::now() + Duration::from_millis(20);
        let came = c.switch_until(&sent, late);
        if looks && matches!(came, Ok(Event::Switched { .. })) {
            // It may have left flags by which the next access faults (alignment).
            let looked = c.handle().switch(&[LOOK]).expect("switching there");
            seen = !matches!(looked, Event::Switched { args, .. } if args[..] == clean[..]);
        }
        if let Err(e) = c.roll_back() {
            let errors = [Errno::ENOTSUP, Errno::ESRCH];
            assert!(errors.contains(&e.errno()), "{how}: {e}");
            return (false, seen);
        }
        assert_eq!(call(c.handle(), &[LOOK]), clean, "{how} is seen");
        c.roll_back().unwrap();
    }
    (true, seen)
}

fn c10_2_state_of_the_processor() {
    if !possible() {
        return;
    }
    for strict in [true, false] {
        for how in 0..WAYS {
            let c = context(strict, |words| {
                match words {
                    [SETUP, ..] => {}
                    [DIRTY, how, ..] => dirty(*how),
                    _ => return look(),
                }
                vec![]
            });
            let (undone, seen) = attempt(&c, how);
            assert!(how >= SEEN || undone && seen, "{how}: {undone} {seen}");
        }
    }
}

static mut FRAME: Frame = Frame {
    returns_to: 0,
    flags: 0,
    link: 0,
    stack: [0; 3],
    registers: [0; 19],
    fault: [0; 4],
    vector: 0,
    reserved: [0; 8],
    mask: 0,
    rest: [[0; 16]; 2],
};

/// Makes a frame and returns from it: what it says, and where it lies, is chosen by `r`.
/// `was`: the alternate stack of the snapshot.
fn forge(r: &mut Random, was: &[u64], room: &std::ops::Range<usize>) {
    let other = room.start as u64;
    let mut legacy = Legacy::now();
    let mut frame = Frame {
        flags: [r.draw(), 7, 0][r.below(3) as usize],
        link: r.draw(),
        stack: [
            [other, 0, 64 << 10],
            [0, libc::SS_DISABLE as u64, 0],
            [was[0], was[1], was[2] + 4096],
            // It goes when a signal comes (SS_AUTODISARM).
            [was[0], was[1] | 1 << 31, was[2]],
            [was[0], 77, was[2]],
            [was[0] + 64, was[1], was[2]],
            // The kernel looks at an int.
            [was[0], was[1] | 0xdead << 32, was[2]],
            [was[0], was[1], was[2]],
        ][r.below(8) as usize],
        mask: [u64::MAX, r.draw(), 0, 0][r.below(4) as usize],
        fault: [r.draw(), r.draw(), r.draw(), r.draw()],
        ..Frame::default()
    };
    let no_steps = !0x100;
    frame.registers[FLAGS] = [0x202, 0x602, 0x4_0202, r.draw() & no_steps][r.below(4) as usize];
    // cs, gs, fs, ss.
    frame.registers[SEGMENTS] = [
        0x002b_0003_002b_0033,
        0x002b_0000_0000_0033,
        0x0000_0000_0000_0033,
        0x002b_002b_0000_0033,
    ][r.below(4) as usize];
    if r.below(2) == 0 {
        legacy.0[24..28].copy_from_slice(&0xffc0u32.to_ne_bytes());
        legacy.0[..2].copy_from_slice(&0x027fu16.to_ne_bytes());
        frame.vector = legacy.0.as_mut_ptr() as u64;
    }
    let back = u64::from(r.below(4) != 0);
    let mut here = frame;
    let at = match r.below(5) {
        // Mapped for this.
        0 => sys(libc::SYS_mmap, [0, 8192, 3, 0x22, u64::MAX, 0]) as u64,
        // Across a border, behind which it may not be written.
        1 => {
            let at = room.end as u64 - 4096 * (1 + r.below(3));
            let prot = [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE];
            let prot = prot[r.below(2) as usize] as u64;
            sys(libc::SYS_mprotect, [at, 4096, prot, 0, 0, 0]);
            at - 8 * r.below(12)
        }
        2 => other,
        3 => &raw mut FRAME as u64,
        _ => &raw mut here as u64,
    };
    let at = at as *mut Frame;
    // SAFETY: memory of the case's own, or it comes to harm by itself; so it does by what
    // the frame says.
    unsafe {
        at.write_unaligned(frame);
        lwc_tests_forge(at, back);
    }
}

fn c10_2_frames_that_are_forged() {
    if !possible() {
        return;
    }
    let mut all = Random::new(0x1234_5678_9abc);
    let room = Pages::new(32);
    let (mut undone, mut seen) = (0, 0);
    for round in 0..60 {
        let c = context(round % 2 == 0, |words| {
            match words {
                [SETUP, ..] => {}
                [DIRTY, seed, was @ ..] => {
                    let mut r = Random::new(*seed);
                    for _ in 0..=r.below(3) {
                        forge(&mut r, was, &room.range());
                    }
                }
                _ => return look(),
            }
            vec![]
        });
        let came = attempt(&c, all.draw() | 1);
        undone += u32::from(came.0);
        seen += u32::from(came.0 && came.1);
    }
    // Of those that a fault ends, or whose layout is another, none is undone in place.
    assert!(undone >= 10 && seen >= 5, "{undone} undone, {seen} seen");
}
