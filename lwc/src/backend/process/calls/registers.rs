//! What a handler of SIGSYS finds of the call that was not made.

/// Arguments of a call, where the kernel found them, and the place of its
/// result.
#[cfg(target_arch = "x86_64")]
pub(crate) fn registers(context: &mut libc::ucontext_t) -> ([u64; 6], &mut i64) {
    use libc::{REG_R8, REG_R9, REG_R10, REG_RAX, REG_RDI, REG_RDX, REG_RSI};
    let g = &mut context.uc_mcontext.gregs;
    let args = [REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9].map(|r| g[r as usize] as u64);
    (args, &mut g[REG_RAX as usize])
}

/// See the other one.
#[cfg(target_arch = "aarch64")]
pub(crate) fn registers(context: &mut libc::ucontext_t) -> ([u64; 6], &mut u64) {
    let r = &mut context.uc_mcontext.regs;
    let args = std::array::from_fn(|i| r[i]);
    (args, &mut r[0])
}

/// Instruction, stack and frame.
#[cfg(target_arch = "x86_64")]
pub(crate) fn place(context: &libc::ucontext_t) -> [u64; 3] {
    use libc::{REG_RBP, REG_RIP, REG_RSP};
    let g = &context.uc_mcontext.gregs;
    [REG_RIP, REG_RSP, REG_RBP].map(|r| g[r as usize] as u64)
}

/// See the other one.
#[cfg(target_arch = "aarch64")]
pub(crate) fn place(context: &libc::ucontext_t) -> [u64; 3] {
    let c = &context.uc_mcontext;
    [c.pc, c.sp, c.regs[29]]
}
