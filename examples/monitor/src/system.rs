//! System calls by number, on Linux and on FreeBSD.

use lwc::{Errno, Handle, Resources, TrappedCall};
use std::ffi::CStr;

/// Calls that the policy tells apart.
pub(crate) enum Call {
    Open,
    OpenAt,
    Read,
    Seek,
    Close,
    Control,
    Map,
    Protect,
    Memory,
    Other,
}

/// Flags of open(2) that add no right.
pub(crate) const HARMLESS: i32 = libc::O_CLOEXEC
    | libc::O_NOFOLLOW
    | libc::O_DIRECTORY
    | libc::O_NONBLOCK
    | libc::O_NOCTTY
    | LARGE_FILE;

#[cfg(target_os = "linux")]
use linux::*;
#[cfg(target_os = "linux")]
pub(crate) use linux::{classify, is_escape, open_beneath};

#[cfg(target_os = "linux")]
mod linux {
    use super::{CStr, Call, Errno, Handle, Resources};

    /// O_LARGEFILE as the kernel has it; the C library's is 0.
    pub(super) const LARGE_FILE: i32 = 0o100_000;
    /// Arguments of a call.
    pub(super) const ARGUMENTS: usize = 6;

    pub(crate) fn classify(number: i64) -> Call {
        #[cfg(target_arch = "x86_64")]
        if number == libc::SYS_open {
            return Call::Open;
        }
        match number {
            n if n == libc::SYS_openat => Call::OpenAt,
            n if n == libc::SYS_read => Call::Read,
            n if n == libc::SYS_lseek => Call::Seek,
            n if n == libc::SYS_close => Call::Close,
            n if n == libc::SYS_fcntl => Call::Control,
            n if n == libc::SYS_mmap => Call::Map,
            n if n == libc::SYS_mprotect => Call::Protect,
            n if [
                libc::SYS_brk,
                libc::SYS_munmap,
                libc::SYS_mremap,
                libc::SYS_madvise,
            ]
            .contains(&n) =>
            {
                Call::Memory
            }
            _ => Call::Other,
        }
    }

    /// openat2(2) below a folder of the target's, into its table.
    pub(crate) fn open_beneath(
        target: Handle,
        folder: i32,
        path: &CStr,
        flags: i32,
    ) -> Result<u64, Errno> {
        // SAFETY: a structure of plain integers.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        // Not to wait for a named pipe's other end.
        how.flags = (flags & super::HARMLESS | libc::O_NONBLOCK) as u64;
        how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
        let args = [
            folder as u64,
            path.as_ptr() as u64,
            &raw const how as u64,
            size_of_val(&how) as u64,
        ];
        // SAFETY: path and structure are ours and outlive the call.
        unsafe { target.syscall(Resources::FILES, libc::SYS_openat2, &args) }.map_err(|e| e.errno())
    }

    pub(crate) fn is_escape(e: Errno) -> bool {
        e == Errno::EXDEV
    }

    pub(super) fn name(number: i64) -> Option<&'static str> {
        #[cfg(target_arch = "x86_64")]
        match number {
            n if n == libc::SYS_unlink => return Some("unlink"),
            n if n == libc::SYS_fork => return Some("fork"),
            _ => {}
        }
        Some(match number {
            n if n == libc::SYS_openat => "openat",
            n if n == libc::SYS_read => "read",
            n if n == libc::SYS_close => "close",
            n if n == libc::SYS_write => "write",
            n if n == libc::SYS_unlinkat => "unlink",
            n if n == libc::SYS_socket => "socket",
            n if n == libc::SYS_clone => "fork",
            n if n == libc::SYS_execve => "execve",
            n if n == libc::SYS_kill => "kill",
            n if n == libc::SYS_fcntl => "fcntl",
            n if n == libc::SYS_mmap => "mmap",
            n if n == libc::SYS_mprotect => "mprotect",
            _ => return None,
        })
    }
}

#[cfg(target_os = "freebsd")]
use freebsd::*;
#[cfg(target_os = "freebsd")]
pub(crate) use freebsd::{classify, is_escape, open_beneath};

/// Numbers from sys/syscall.h, which keeps them for ever.
#[cfg(target_os = "freebsd")]
mod freebsd {
    use super::{CStr, Call, Errno, Handle, Resources};

    pub(super) const LARGE_FILE: i32 = 0;
    /// Arguments of a call.
    pub(super) const ARGUMENTS: usize = 8;
    const OPENAT: i64 = 499;
    /// sys/fcntl.h
    const O_RESOLVE_BENEATH: i32 = 0x0080_0000;

    pub(crate) fn classify(number: i64) -> Call {
        match number {
            5 => Call::Open,
            OPENAT => Call::OpenAt,
            3 => Call::Read,
            478 => Call::Seek,
            6 => Call::Close,
            92 => Call::Control,
            477 => Call::Map,
            74 => Call::Protect,
            73 | 75 => Call::Memory, // munmap, madvise
            _ => Call::Other,
        }
    }

    /// openat(2) below a folder of the target's, into its table.
    pub(crate) fn open_beneath(
        target: Handle,
        folder: i32,
        path: &CStr,
        flags: i32,
    ) -> Result<u64, Errno> {
        // Not to wait for a named pipe's other end.
        let flags = flags & super::HARMLESS | libc::O_NONBLOCK | O_RESOLVE_BENEATH;
        let args = [folder as u64, path.as_ptr() as u64, flags as u64, 0];
        // SAFETY: the path is ours and outlives the call.
        unsafe { target.syscall(Resources::FILES, OPENAT, &args) }.map_err(|e| e.errno())
    }

    pub(crate) fn is_escape(e: Errno) -> bool {
        e == Errno::ENOTCAPABLE
    }

    pub(super) fn name(number: i64) -> Option<&'static str> {
        Some(match number {
            2 | 518 => "fork",
            3 => "read",
            4 => "write",
            6 => "close",
            10 | 503 => "unlink",
            37 => "kill",
            59 => "execve",
            74 => "mprotect",
            92 => "fcntl",
            97 => "socket",
            477 => "mmap",
            OPENAT => "openat",
            _ => return None,
        })
    }
}

/// Whether mmap(2) is asked for memory without a file.
pub(crate) fn is_anonymous(args: &[u64]) -> bool {
    args[3] as i32 & libc::MAP_ANON != 0
}

/// The arguments that a call can have here.
pub(crate) fn arguments(call: &TrappedCall) -> &[u64] {
    &call.args[..ARGUMENTS]
}

/// A call for the log.
pub(crate) fn describe(call: &TrappedCall) -> String {
    match name(call.number) {
        Some(name) => name.to_owned(),
        None => format!("system call {}", call.number),
    }
}
