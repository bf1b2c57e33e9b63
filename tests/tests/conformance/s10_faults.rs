//! What the kernel tells of faults in the frame of each signal, and what a context
//! could leave there for after its rollback (clause 10.2).

use crate::s10_rollback::possible;
use crate::s10_survivors::{Came, DIRTY, LOOK, SETUP, attempt, context, sys};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use std::arch::asm;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const CASES: &[Case] = cases![c10_2_what_the_last_fault_was];

/// What the frame of the last signal that was no fault had: the address, the error
/// code and the number of the last fault.
static FRAME: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// Jumps over the fault's instruction; notes what the frame of a call that the
/// sandbox refuses has.
extern "C" fn handler(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the context that the kernel made; the instructions below are two and
    // three bytes long.
    unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        let registers = &mut context.uc_mcontext.gregs;
        if signal == libc::SIGSYS {
            let all = [libc::REG_CR2, libc::REG_ERR, libc::REG_TRAPNO];
            for (to, from) in FRAME.iter().zip(all) {
                to.store(registers[from as usize] as u64, Ordering::Relaxed);
            }
            return;
        }
        let at = &mut registers[libc::REG_RIP as usize];
        *at += match *(*at as *const u16) {
            0x8b48 | 0xf748 => 3,
            0x0b0f => 2,
            // The one that traps is over.
            _ => 0,
        };
    }
}

/// An instruction that faults.
fn fault(how: u64) {
    // SAFETY: the handler jumps over each; registers that they would change are told.
    unsafe {
        match how {
            0 => asm!("mov rax, [rax]", inout("rax") 0x5ec1_u64 => _),
            1 => asm!("mov rax, [rax]", inout("rax") 0xffff_8000_5ec1_0000_u64 => _),
            2 => asm!("ud2"),
            3 => asm!("div {zero}", zero = in(reg) 0u64, inout("rax") 1u64 => _,
                inout("rdx") 0u64 => _),
            _ => asm!("int3"),
        }
    }
}

fn c10_2_what_the_last_fault_was() {
    if !possible() {
        return;
    }
    let make = || {
        context(true, |words| {
            match words {
                [SETUP, _] => {
                    let signals = [
                        libc::SIGSYS,
                        libc::SIGSEGV,
                        libc::SIGILL,
                        libc::SIGFPE,
                        libc::SIGTRAP,
                    ];
                    for signal in signals {
                        // SAFETY: the struct is initialised.
                        unsafe {
                            let mut action: libc::sigaction = std::mem::zeroed();
                            action.sa_sigaction = handler as *const () as usize;
                            action.sa_flags = libc::SA_SIGINFO;
                            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
                        }
                    }
                }
                [LOOK, _] => {
                    sys(libc::SYS_kill, [1, 0, 0, 0, 0, 0]);
                    return FRAME.iter().map(|w| w.load(Ordering::Relaxed)).collect();
                }
                [DIRTY, how] => fault(*how),
                _ => {}
            }
            vec![]
        })
    };
    for how in 0..5 {
        assert_eq!(attempt(&make(), how), Came::Destroyed, "{how}");
    }
}
