//! The system calls of the module.

use crate::bindings::{lwc_info, lwc_spec};
use libc::c_int;

/// System call numbers by name, found through the module registry.
#[cfg(target_os = "freebsd")]
mod number {
    use std::ffi::{CStr, c_char, c_int, c_void};
    use std::sync::atomic::{AtomicI32, Ordering};

    /// `struct module_stat_v2` of kern/kern_module.c. The kernel tells versions
    /// apart by size; this one has the module's data and a short name, and is
    /// still taken, though sys/module.h has a name of MAXPATHLEN now.
    #[repr(C)]
    struct ModuleStat {
        version: c_int,
        name: [c_char; 32],
        refs: c_int,
        id: c_int,
        data: ModSpecific,
    }

    #[cfg(target_pointer_width = "64")]
    const _: () = assert!(size_of::<ModuleStat>() == 56);

    /// `modspecific_t`: for a system call, its number is the int.
    #[repr(C)]
    union ModSpecific {
        int: c_int,
        uint: u32,
        long: libc::c_long,
        ulong: libc::c_ulong,
    }

    unsafe extern "C" {
        fn modfind(name: *const c_char) -> c_int;
        fn modstat(id: c_int, stat: *mut c_void) -> c_int;
        /// syscall(2) with a 64-bit result.
        #[cfg(not(target_arch = "x86_64"))]
        fn __syscall(number: i64, ...) -> i64;
    }

    /// A system call: its result, or -1 with errno set. By the instruction and
    /// not by syscall(2), which has the kernel read the arguments from the
    /// stack: that is an eighth of a switch.
    ///
    /// # Safety
    /// That of the call.
    #[inline]
    #[cfg(target_arch = "x86_64")]
    pub(super) unsafe fn call<const N: usize>(number: c_int, args: [u64; N]) -> i64 {
        // SAFETY: the caller's promise.
        unsafe { call_two(number, args) }.0
    }

    /// The same, with the second result register.
    ///
    /// # Safety
    /// That of the call.
    #[inline]
    #[cfg(target_arch = "x86_64")]
    pub(super) unsafe fn call_two<const N: usize>(number: c_int, args: [u64; N]) -> (i64, u64) {
        let at = |i: usize| args.get(i).copied().unwrap_or(0);
        let value: i64;
        let second: u64;
        let failed: u8;
        // SAFETY: FreeBSD's convention (sys/amd64/amd64/exception.S): number in
        // rax, arguments in the registers named, carry set on failure; a switch
        // keeps what a function call does, the stack and vector registers.
        unsafe {
            std::arch::asm!(
                "syscall",
                "setc {failed}",
                failed = lateout(reg_byte) failed,
                inlateout("rax") i64::from(number) => value,
                inlateout("rdi") at(0) => _,
                inlateout("rsi") at(1) => _,
                inlateout("rdx") at(2) => second,
                inlateout("r10") at(3) => _,
                inlateout("r8") at(4) => _,
                inlateout("r9") at(5) => _,
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
        if failed == 0 {
            return (value, second);
        }
        super::set_errno(value as c_int);
        (-1, 0)
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) unsafe fn call<const N: usize>(number: c_int, args: [u64; N]) -> i64 {
        let at = |i: usize| args.get(i).copied().unwrap_or(0);
        // SAFETY: the caller's promise; more arguments than it has are ignored.
        unsafe { __syscall(i64::from(number), at(0), at(1), at(2), at(3), at(4), at(5)) }
    }

    /// The module's names, in the order of [`super::Call`].
    const NAMES: [&CStr; 9] = [
        c"sys/lwCreate",
        c"sys/lwSwitch",
        c"sys/lwDiscardSwitch",
        c"sys/lwRestrict",
        c"sys/lwOverlay",
        c"sys/lwSyscall",
        c"sys/lwGetlwc",
        c"sys/lwInfo",
        c"sys/lwControl",
    ];
    static NUMBERS: [AtomicI32; 9] = [const { AtomicI32::new(0) }; 9];

    /// The number of a call, cached once found. `None`, with errno ENOSYS: the
    /// module is not loaded. A free slot is never called: that would raise
    /// SIGSYS. All are looked up together, for a context in capability mode
    /// can look up nothing. A number found is kept: the module stays while a
    /// context lives, but a process that made none must not call again after
    /// an unload.
    #[inline]
    pub(super) fn of(call: super::Call) -> Option<c_int> {
        match NUMBERS[call as usize].load(Ordering::Relaxed) {
            0 => found(call),
            n => Some(n),
        }
    }

    #[cold]
    fn found(call: super::Call) -> Option<c_int> {
        let cached = &NUMBERS[call as usize];
        if cached.load(Ordering::Relaxed) == 0 {
            for (number, name) in NUMBERS.iter().zip(NAMES) {
                number.store(look_up(name).unwrap_or(0), Ordering::Relaxed);
            }
        }
        match cached.load(Ordering::Relaxed) {
            0 => {
                super::set_errno(libc::ENOSYS);
                None
            }
            n => Some(n),
        }
    }

    fn look_up(name: &CStr) -> Option<c_int> {
        let mut stat = ModuleStat {
            version: size_of::<ModuleStat>() as c_int,
            name: [0; 32],
            refs: 0,
            id: 0,
            data: ModSpecific { ulong: 0 },
        };
        // SAFETY: modfind reads a NUL-terminated name; modstat fills a
        // structure whose size `version` tells; every member of the union is
        // a plain integer.
        unsafe {
            let id = modfind(name.as_ptr());
            if id < 0 || modstat(id, (&raw mut stat).cast()) != 0 {
                return None;
            }
            Some(stat.data.int)
        }
    }
}

/// The calls, by place in the table of their names.
#[cfg(target_os = "freebsd")]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, clippy::enum_variant_names)] // the calls' own names
enum Call {
    lwCreate,
    lwSwitch,
    lwDiscardSwitch,
    lwRestrict,
    lwOverlay,
    lwSyscall,
    lwGetlwc,
    lwInfo,
    lwControl,
}

#[cold]
fn set_errno(errno: c_int) {
    // SAFETY: both return the address of the calling thread's errno.
    unsafe {
        #[cfg(target_os = "freebsd")]
        libc::__error().write(errno);
        #[cfg(target_os = "linux")]
        libc::__errno_location().write(errno);
        #[cfg(not(any(target_os = "freebsd", target_os = "linux")))]
        let _ = errno;
    }
}

/// One call under its name: through the module on FreeBSD, ENOSYS elsewhere.
macro_rules! call {
    ($(#[$doc:meta])* $name:ident ($($arg:ident: $ty:ty),*) -> $ret:ty) => {
        $(#[$doc])*
        #[inline]
        #[allow(non_snake_case)]
        pub unsafe fn $name($($arg: $ty),*) -> $ret {
            #[cfg(target_os = "freebsd")]
            {
                match number::of(Call::$name) {
                    // SAFETY: the number is the module's own, the arguments
                    // are the caller's promise.
                    Some(n) => unsafe { number::call(n, [$($arg as u64),*]) as $ret },
                    None => -1,
                }
            }
            #[cfg(not(target_os = "freebsd"))]
            {
                $(let _ = $arg;)*
                set_errno(libc::ENOSYS);
                -1
            }
        }
    };
}

call! {
    /// Makes a context (lwCreate(2)); returns a second time in it.
    ///
    /// # Safety
    /// As fork(2); pointers must be valid for what the header says, or null
    /// where it allows that.
    lwCreate(specs: *const lwc_spec, nspecs: c_int, src: *mut c_int,
        src_args: *mut u64, num_args: *mut c_int, flags: c_int) -> c_int
}
call! {
    /// Resumes another context (lwSwitch(2)).
    ///
    /// # Safety
    /// Pointers must be valid for what the header says, or null.
    lwSwitch(to: c_int, to_args: *const u64, n: c_int, src: *mut c_int,
        src_args: *mut u64, num_args: *mut c_int) -> c_int
}
/// What came back from [`lwSwitchHere`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// `LWC_SWITCHED`, `LWC_TRAPPED`, or `LWC_FAILED` with errno set.
    pub value: c_int,
    /// A descriptor of who switched here, or -1.
    pub src: c_int,
    /// How many words it passed.
    pub count: u32,
}

/// lwSwitch(2) with `LWC_ROOM`: who came and how many words are told in
/// registers, which spares the kernel two writes to memory and a read.
///
/// # Safety
/// `to_args` must hold as many words as `n` says, and one more with
/// `LWC_UNTIL`; `room` has place for `LWC_MAX_ARGS` or is null.
#[allow(non_snake_case)]
#[inline]
pub unsafe fn lwSwitchHere(to: c_int, to_args: *const u64, n: c_int, room: *mut u64) -> Resumed {
    #[cfg(all(target_os = "freebsd", target_arch = "x86_64"))]
    if let Some(number) = number::of(Call::lwSwitch) {
        let n = n | crate::LWC_ROOM as c_int;
        let args = [to as u64, to_args as u64, n as u64, 0, room as u64, 0];
        // SAFETY: the number is the module's own, the arguments are the
        // caller's promise.
        let (value, second) = unsafe { number::call_two(number, args) };
        return Resumed {
            value: value as c_int,
            src: second as c_int,
            count: (second >> 32) as u32,
        };
    }
    let mut resumed = Resumed {
        value: crate::LWC_FAILED,
        src: -1,
        count: 0,
    };
    // Elsewhere there are no such registers, or there is no module.
    let mut count = crate::LWC_MAX_ARGS as c_int;
    let src = &raw mut resumed.src;
    // SAFETY: the caller's promise; the places are ours.
    resumed.value = unsafe { lwSwitch(to, to_args, n, src, room, &raw mut count) };
    if resumed.value != crate::LWC_FAILED {
        resumed.count = count as u32;
    }
    resumed
}

call! {
    /// Resumes another context and destroys the current one (lwSwitch(2)).
    ///
    /// # Safety
    /// `to_args` must hold `n` words. Nothing here is used again.
    lwDiscardSwitch(to: c_int, to_args: *const u64, n: c_int) -> c_int
}
call! {
    /// Narrows a descriptor's rights (lwRestrict(2)).
    ///
    /// # Safety
    /// `specs` must hold `nspecs` specifiers.
    lwRestrict(lwc: c_int, specs: *const lwc_spec, nspecs: c_int) -> c_int
}
call! {
    /// Brings another context's resources here (lwOverlay(2)).
    ///
    /// # Safety
    /// `specs` must hold `nspecs` specifiers; what is mapped at their
    /// addresses is replaced and must not be used as what it was.
    lwOverlay(source: c_int, specs: *const lwc_spec, nspecs: c_int) -> c_int
}
call! {
    /// Runs a system call with another context's resources (lwSyscall(2)).
    ///
    /// # Safety
    /// That of the system call; `args` must hold eight words.
    lwSyscall(target: c_int, mask: c_int, number: c_int, args: *const u64) -> i64
}
call! {
    /// A descriptor of the current context (lwInfo(2)).
    ///
    /// # Safety
    /// None is needed; all calls of the module are unsafe alike.
    lwGetlwc() -> c_int
}
call! {
    /// Facts about a context (lwInfo(2)).
    ///
    /// # Safety
    /// `info` must be valid for writes.
    lwInfo(lwc: c_int, info: *mut lwc_info) -> c_int
}
call! {
    /// Ends a context, introduces two, rolls one back, gives up system calls or erases
    /// shared memory (lwControl(2)).
    ///
    /// # Safety
    /// With `LWC_CONTROL_ALLOW` the argument is the address of a `lwc_calls`, with
    /// `LWC_CONTROL_BELOW` of a `lwc_below`, with `LWC_CONTROL_FROM` of a `lwc_from`, with
    /// `LWC_CONTROL_ERASE` of a `lwc_erase` whose range nothing refers to.
    lwControl(lwc: c_int, command: c_int, argument: u64) -> c_int
}

/// The numbers the calls of the module have on this system, for the set of
/// `LWC_CONTROL_ALLOW`: lwCreate, lwSwitch, lwDiscardSwitch, lwRestrict,
/// lwOverlay, lwSyscall, lwGetlwc, lwInfo, lwControl. `None` without the module.
#[cfg(target_os = "freebsd")]
pub fn numbers() -> Option<[c_int; 9]> {
    const ALL: [Call; 9] = [
        Call::lwCreate,
        Call::lwSwitch,
        Call::lwDiscardSwitch,
        Call::lwRestrict,
        Call::lwOverlay,
        Call::lwSyscall,
        Call::lwGetlwc,
        Call::lwInfo,
        Call::lwControl,
    ];
    let mut found = [0; 9];
    for (slot, call) in found.iter_mut().zip(ALL) {
        *slot = number::of(call)?;
    }
    Some(found)
}
