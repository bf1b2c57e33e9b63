//! The two places from which a trapped context's process makes system calls.
//!
//! The filter of a trapped context ([`filter`](crate::backend::process::calls::filter)) tells calls apart by
//! the address of the instruction that makes them, which the kernel reports
//! and no code can forge. Code can *jump* there, though, with registers of its
//! own choice. So an address says only who is meant to call; what may be
//! called from there is for the filter to say.

/// Number, then arguments; the result is the kernel's: -errno on failure.
type Call = [u64; 7];

#[cfg(target_arch = "x86_64")]
macro_rules! gate {
    ($call:literal, $after:literal) => {
        // number rdi, arguments rsi rdx rcx r8 r9 and the stack, moved to
        // where the kernel wants them: rax, rdi rsi rdx r10 r8 r9.
        std::arch::global_asm!(
            ".pushsection .text,\"ax\",@progbits",
            concat!(".globl ", $call),
            concat!(".hidden ", $call),
            concat!(".type ", $call, ", @function"),
            concat!($call, ":"),
            "mov rax, rdi",
            "mov rdi, rsi",
            "mov rsi, rdx",
            "mov rdx, rcx",
            "mov r10, r8",
            "mov r8, r9",
            "mov r9, [rsp + 8]",
            "syscall",
            concat!(".globl ", $after),
            concat!(".hidden ", $after),
            concat!($after, ":"),
            "ret",
            ".popsection",
        );
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! gate {
    ($call:literal, $after:literal) => {
        // number x0, arguments x1 to x6: to x8 and x0 to x5.
        std::arch::global_asm!(
            ".pushsection .text,\"ax\",@progbits",
            concat!(".globl ", $call),
            concat!(".hidden ", $call),
            concat!(".type ", $call, ", @function"),
            concat!($call, ":"),
            "mov x8, x0",
            "mov x0, x1",
            "mov x1, x2",
            "mov x2, x3",
            "mov x3, x4",
            "mov x4, x5",
            "mov x5, x6",
            "svc #0",
            concat!(".globl ", $after),
            concat!(".hidden ", $after),
            concat!($after, ":"),
            "ret",
            ".popsection",
        );
    };
}

gate!("lwc_own_call", "lwc_own_after");
gate!("lwc_approved_call", "lwc_approved_after");

unsafe extern "C" {
    fn lwc_own_call(n: u64, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> i64;
    fn lwc_approved_call(n: u64, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> i64;
    static lwc_own_after: u8;
    static lwc_approved_after: u8;
}

/// The backend's own calls: the filter lets a short list through and answers
/// EPERM to the rest.
///
/// # Safety
/// That of the system call.
pub(crate) unsafe fn own(c: Call) -> i64 {
    // SAFETY: the caller's promise; the assembly keeps to the C ABI and
    // changes nothing that a system call does not.
    unsafe { lwc_own_call(c[0], c[1], c[2], c[3], c[4], c[5], c[6]) }
}

/// Calls that the context which supervises this one asked for: the kernel
/// asks that one before it runs them.
///
/// # Safety
/// As [`own`].
pub(crate) unsafe fn approved(c: Call) -> i64 {
    // SAFETY: as in `own`.
    unsafe { lwc_approved_call(c[0], c[1], c[2], c[3], c[4], c[5], c[6]) }
}

/// Where the program counter stands when the kernel looks at a call of
/// [`own`].
pub(crate) fn own_address() -> u64 {
    &raw const lwc_own_after as u64
}

/// The same of [`approved`].
pub(crate) fn approved_address() -> u64 {
    &raw const lwc_approved_after as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_six_arguments_arrive() {
        // SAFETY: a new private mapping, written within its length, unmapped.
        unsafe {
            let fd = libc::memfd_create(c"t".as_ptr(), 0);
            assert!(fd >= 0 && libc::ftruncate(fd, 8192) == 0);
            assert_eq!(libc::pwrite(fd, b"x".as_ptr().cast(), 1, 4096), 1);
            for call in [own, approved] {
                let at = call([
                    libc::SYS_mmap as u64,
                    0,
                    4096,
                    libc::PROT_READ as u64,
                    libc::MAP_PRIVATE as u64,
                    fd as u64,
                    4096,
                ]);
                assert!(at > 0, "{at}");
                assert_eq!((at as *const u8).read(), b'x');
                libc::munmap(at as *mut _, 4096);
                assert_eq!(
                    call([libc::SYS_close as u64, u64::MAX, 0, 0, 0, 0, 0]),
                    -i64::from(libc::EBADF)
                );
            }
            libc::close(fd);
        }
        assert_ne!(own_address(), approved_address());
    }
}
