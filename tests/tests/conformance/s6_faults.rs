//! Clause 6.2: faults, trapped and not.

use crate::s6_life::{FAULTS, GUARDED, died, handle_segv};
use lwc::{End, Event, Flags, Region, State};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use nix::sys::signal::Signal;
use std::sync::atomic::Ordering;

pub(crate) const CASES: &[Case] = cases![
    c6_2_sigsegv_names_signal_code_and_address,
    c6_2_sigsegv_of_a_protection_says_so,
    c6_2_sigbus,
    c6_2_sigfpe,
    c6_2_sigill,
    c6_2_sigtrap,
    c6_2_sigsys_of_the_sandbox,
    c6_2_stack_overflow,
    c6_2_the_creator_resumes_not_the_root,
    c6_2_the_creators_handlers_do_not_apply,
    c6_2_its_own_handler_comes_first,
    c6_2_a_trapped_fault_frees_the_context,
    c6_2_without_the_flag_the_process_dies => Signal(libc::SIGSEGV),
    c6_2_an_end_goes_to_whom_is_left,
    c6_2_deep_without_the_flag_the_process_dies => Signal(libc::SIGFPE),
    c6_2_trap_fault_does_not_trap_exits => Exit(9),
    c6_2_trap_fault_does_not_trap_abort => Signal(libc::SIGABRT),
    c6_2_trap_exit_traps_exits_and_signals,
    c6_2_a_thousand_faults,
];

fn c6_2_sigsegv_names_signal_code_and_address() {
    let end = died(&[], || poke(0x1238, 1));
    assert_eq!((end.signal, end.address), (Some(libc::SIGSEGV), 0x1238));
    assert_eq!(end.code, 1, "SEGV_MAPERR");
    assert!(end.to_string().contains("SIGSEGV at 0x1238"), "{end}");
}

fn c6_2_sigsegv_of_a_protection_says_so() {
    let page = Pages::new(1);
    let end = died(&[], || {
        page.protect(libc::PROT_READ).unwrap();
        page.set(0, 1);
    });
    assert_eq!(end.address, page.range().start as u64);
    assert_eq!(
        (end.signal, end.code),
        (Some(libc::SIGSEGV), 2),
        "SEGV_ACCERR"
    );
}

fn c6_2_sigbus() {
    let file = scratch_file();
    file.set_len(1).unwrap();
    let end = died(&[], || {
        // SAFETY: maps past the file's end on purpose.
        let p = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                2 * lwc::page_size(),
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                std::os::fd::AsRawFd::as_raw_fd(&file),
                0,
            )
        };
        peek(p as usize + lwc::page_size());
    });
    assert_eq!(end.signal, Some(libc::SIGBUS));
    assert_ne!(end.address, 0);
}

fn raised(signal: i32) -> End {
    // SAFETY: raises a signal in a context that is meant to die of it.
    died(&[], || unsafe {
        libc::raise(signal);
    })
}

fn c6_2_sigfpe() {
    let end = died(&[], || {
        // SAFETY: divides by zero on purpose.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::asm!("xor ecx, ecx", "mov eax, 1", "cdq", "idiv ecx",
                out("eax") _, out("ecx") _, out("edx") _);
        }
        // SAFETY: other machines do not trap on that; the signal is the same.
        #[cfg(not(target_arch = "x86_64"))]
        unsafe {
            libc::raise(libc::SIGFPE);
        }
    });
    assert_eq!(end.signal, Some(libc::SIGFPE));
    assert_eq!(raised(libc::SIGFPE).signal, Some(libc::SIGFPE));
}

fn c6_2_sigill() {
    let end = died(&[], || {
        // SAFETY: an instruction that is none, on purpose.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::asm!("ud2");
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            std::arch::asm!("udf #0");
        }
    });
    assert_eq!(end.signal, Some(libc::SIGILL));
    assert_ne!(end.address, 0);
}

fn c6_2_sigtrap() {
    let end = died(&[], || {
        // SAFETY: a breakpoint with nobody there.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::asm!("int3");
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            std::arch::asm!("brk #0");
        }
    });
    assert_eq!(end.signal, Some(libc::SIGTRAP));
}

fn c6_2_sigsys_of_the_sandbox() {
    let end = died(&[], || {
        lwc::confine(lwc::Confinement::Strict).unwrap();
        // SAFETY: is trapped.
        unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
    });
    assert_eq!(end.signal, Some(libc::SIGSYS));
    #[cfg(target_os = "linux")]
    assert_eq!(end.address, libc::SYS_socket as u64);
}

fn c6_2_stack_overflow() {
    #[allow(unconditional_recursion)] // what the case is about
    fn deeper(n: u64) -> u64 {
        let room = [n; 512];
        deeper(std::hint::black_box(&room)[7] + 1) + room[3]
    }
    let end = died(&[], || {
        deeper(0);
    });
    assert_eq!(end.signal, Some(libc::SIGSEGV));
}

fn c6_2_the_creator_resumes_not_the_root() {
    let middle = answering(&[], Flags::empty(), |_| {
        let inner = lwc::spawn(&[], Flags::TRAP_FAULT, |_| {
            poke(0x10, 1);
            unreachable!()
        })
        .unwrap();
        match inner.switch(&[]).unwrap() {
            Event::Ended(end) => vec![end.signal.unwrap() as u64, end.address],
            _ => vec![],
        }
    })
    .unwrap();
    for _ in 0..3 {
        let got = call(middle.handle(), &[]);
        assert_eq!(got, [libc::SIGSEGV as u64, 0x10]);
    }
}

fn c6_2_the_creators_handlers_do_not_apply() {
    handle_segv();
    GUARDED.store(0, Ordering::Relaxed);
    let end = died(&[], || poke(0x18, 1));
    assert_eq!((end.signal, end.address), (Some(libc::SIGSEGV), 0x18));
}

fn c6_2_its_own_handler_comes_first() {
    let page = Pages::new(1);
    GUARDED.store(page.range().start as u64, Ordering::Relaxed);
    let there = inside(&[], || {
        handle_segv();
        page.protect(libc::PROT_NONE).unwrap();
        page.set(0, 1);
        FAULTS.load(Ordering::Relaxed)
    });
    assert_eq!(there, 1);
}

fn c6_2_a_trapped_fault_frees_the_context() {
    let process = Region::new(1).unwrap();
    let at = process.as_ptr() as usize;
    let other = lwc::spawn(&[], Flags::TRAP_FAULT, |_| {
        poke(at, pid());
        poke(0, 1);
        unreachable!()
    })
    .unwrap();
    let Event::Ended(end) = other.switch(&[]).unwrap() else {
        panic!("not ended");
    };
    let info = other.info().unwrap();
    assert_eq!((info.state, info.contexts), (State::Dead, 1));
    assert!(end.id > 1 && is_gone(peek(at)));
}

fn c6_2_without_the_flag_the_process_dies() {
    let other = answering(&[], Flags::empty(), |_| vec![peek(0x20)]).unwrap();
    call(other.handle(), &[]);
}

fn c6_2_an_end_goes_to_whom_is_left() {
    // The creator discards itself into what it made, which faults at once:
    // whether the root sees its end before or after.
    for _ in 0..20 {
        let middle = lwc::spawn(&[], Flags::TRAP_FAULT, |_| {
            let inner = lwc::spawn(&[], Flags::TRAP_FAULT, |_| {
                poke(0x1238, 1);
                std::process::abort()
            })
            .unwrap();
            panic!("{}", inner.into_handle().discard_switch(&[]))
        })
        .unwrap();
        let Ok(Event::Ended(end)) = middle.switch(&[]) else {
            panic!("not ended");
        };
        assert_eq!((end.signal, end.address), (Some(libc::SIGSEGV), 0x1238));
    }
}

fn c6_2_deep_without_the_flag_the_process_dies() {
    let middle = answering(&[], Flags::TRAP_FAULT | Flags::TRAP_EXIT, |_| {
        let inner = answering(&[], Flags::empty(), |_| {
            nix::sys::signal::raise(Signal::SIGFPE).unwrap();
            vec![]
        })
        .unwrap();
        call(inner.handle(), &[])
    })
    .unwrap();
    // A guard is inherited: the inner one ends alone, and the middle one, which
    // did not expect that, as well.
    let Ok(Event::Ended(end)) = middle.switch(&[]) else {
        panic!("not ended");
    };
    assert_eq!(end.signal, Some(libc::SIGABRT));
    nix::sys::signal::raise(Signal::SIGFPE).unwrap();
}

fn c6_2_trap_fault_does_not_trap_exits() {
    let other = answering(&[], Flags::TRAP_FAULT, |_| std::process::exit(9)).unwrap();
    call(other.handle(), &[]);
}

fn c6_2_trap_fault_does_not_trap_abort() {
    let other = answering(&[], Flags::TRAP_FAULT, |_| std::process::abort()).unwrap();
    call(other.handle(), &[]);
}

fn c6_2_trap_exit_traps_exits_and_signals() {
    let end_of = |body: fn()| {
        let other = answering(&[], Flags::TRAP_EXIT, |_| {
            body();
            vec![]
        })
        .unwrap();
        match other.switch(&[]).unwrap() {
            Event::Ended(end) => (end.signal, end.code),
            _ => panic!("came back"),
        }
    };
    assert_eq!(end_of(|| std::process::exit(0)), (None, 0));
    assert_eq!(end_of(|| std::process::exit(200)), (None, 200));
    assert_eq!(end_of(|| std::process::abort()).0, Some(libc::SIGABRT));
    let kill = end_of(|| nix::sys::signal::raise(Signal::SIGKILL).unwrap());
    assert_eq!(kill.0, Some(libc::SIGKILL));
    let segv = end_of(|| poke(0, 0));
    assert_eq!(segv.0, Some(libc::SIGSEGV));
}

fn c6_2_a_thousand_faults() {
    let before = open_descriptors();
    for i in 1..=1000 {
        let other = answering(&[], Flags::TRAP_FAULT, |_| vec![peek(8 * i)]).unwrap();
        match other.switch(&[]).unwrap() {
            Event::Ended(end) => assert_eq!(end.address, 8 * i as u64),
            _ => panic!("came back"),
        }
    }
    assert!(open_descriptors() <= before + 2);
    assert_eq!(lwc::info().unwrap().contexts, 1);
}
