//! Standard output and error of a context in a sandbox: write(2) and writev(2) are not
//! in its list of calls ([`confine`](super::confine)) then, and the handler of SIGSYS
//! passes what they would write on.

use crate::backend::output::{Told, Write, take, tell};
use crate::error::{Error, Result};

/// FreeBSD's numbers; see [`confine`](super::confine).
pub(super) const WRITE: u16 = 4;
pub(super) const WRITEV: u16 = 121;

/// The code of a signal that the kernel itself sends (sys/signal.h).
const SI_KERNEL: i32 = 0x10006;

/// The flag of the processor by which a call says that it failed.
const CARRY: libc::register_t = 1;

/// sigaction(2), past libthr, which puts handlers off while fork(2) and its like have
/// locks: what such a call does here is told at once.
///
/// # Safety
/// Of sigaction(2).
unsafe fn set_action(signal: i32, action: &libc::sigaction) -> i32 {
    const SIGACTION: libc::c_int = 416;
    // SAFETY: the caller's promise; the action outlives the call, which reads it.
    unsafe { libc::syscall(SIGACTION, signal, std::ptr::from_ref(action), 0usize) as i32 }
}

/// A call that the context does not have. It has failed already, and its registers are
/// those with which it goes on.
extern "C" fn on_call(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo and the interrupted context; only
    // async-signal-safe calls follow, beside what the API asks for of who is told.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext;
        let number = (*info).si_addr as usize;
        let call = match number {
            n if n == usize::from(WRITE) => Some(Write::One),
            n if n == usize::from(WRITEV) => Some(Write::Many),
            _ => None,
        };
        if let Some(call) = call.filter(|_| (*info).si_code == SI_KERNEL) {
            let args = [registers.mc_rdi, registers.mc_rsi, registers.mc_rdx];
            match take(call, args.map(|a| a as u64)).unwrap_or(Err(libc::EBADF)) {
                Ok(n) => {
                    registers.mc_rax = n as libc::register_t;
                    registers.mc_rflags &= !CARRY;
                }
                Err(e) => {
                    registers.mc_rax = e.into();
                    registers.mc_rflags |= CARRY;
                }
            }
            return;
        }
        // It ends by that call, as without a handler.
        let default: libc::sigaction = std::mem::zeroed();
        set_action(signal, &default);
        libc::syscall(number as libc::c_int);
    }
}

/// See [`catch_output`](crate::catch_output).
pub(crate) fn catch_output(told: Told) -> Result<()> {
    // SAFETY: of the struct, zeros are a value; the handler is safe as argued there.
    // SA_NODEFER lets the second SIGSYS end the context.
    let set = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_call as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        set_action(libc::SIGSYS, &action)
    };
    if set != 0 {
        return Err(Error::last("catch_output", "a handler of SIGSYS"));
    }
    tell(told);
    Ok(())
}
