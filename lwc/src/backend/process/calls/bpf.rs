//! Instructions of programs for seccomp(2).

#[cfg(target_arch = "x86_64")]
pub(super) const ARCH: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
pub(super) const ARCH: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

/// Offsets in `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
pub(super) const ADDRESS: u32 = 8;
pub(super) const ARGUMENTS: u32 = 16;

/// Where the high half of a 64-bit field lies: both machines are little-endian.
pub(super) const HIGH: u32 = 4;

pub(super) fn op(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

pub(super) fn load(at: u32) -> libc::sock_filter {
    op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at)
}

pub(super) fn jump(test: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    op(libc::BPF_JMP | test | libc::BPF_K, jt, jf, k)
}

pub(super) fn give(value: u32) -> libc::sock_filter {
    op(libc::BPF_RET | libc::BPF_K, 0, 0, value)
}
