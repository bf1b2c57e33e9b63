//! Clause 7.1 against code that knows how the process backend traps calls:
//! it jumps to the backend's own system call instructions.

use lwc_tests::harness::Case;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub(crate) const CASES: &[Case] = &[];
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) use here::CASES;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod here {
    use super::Case;
    use lwc::{Context, Errno, Event, Flags};
    use lwc_tests::calls::*;
    use lwc_tests::cases;
    use lwc_tests::kit::*;
    use std::convert::Infallible;
    use std::time::{Duration, Instant};

    pub(crate) const CASES: &[Case] = cases![
        c7_1_imitating_the_backend_opens_nothing,
        c7_1_imitating_the_backend_reads_no_descriptor,
        c7_1_imitating_the_backend_makes_no_process_or_code,
        c7_1_calls_that_nobody_asked_for_wait_for_ever,
        c7_1_asking_while_another_call_is_let_through,
        c7_1_a_signal_handler_of_its_own_executes_nothing,
        c7_1_a_clone_past_lw_create_is_trapped_and_ended,
        c7_1_calls_of_another_architecture_end_it,
        c7_2_where_another_listens_traps_work_and_acting_does_not,
    ];

    /// The backend's two system call instructions, found as hostile code
    /// would: by their bytes in the program's text.
    fn gates() -> Vec<usize> {
        // mov r8, r9; mov r9, [rsp + 8]; syscall; ret
        const BYTES: [u8; 11] = [
            0x4d, 0x89, 0xc8, 0x4c, 0x8b, 0x4c, 0x24, 0x08, 0x0f, 0x05, 0xc3,
        ];
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let exe = std::env::current_exe().unwrap();
        let mut found = Vec::new();
        for line in maps.lines().filter(|l| {
            l.ends_with(exe.to_str().unwrap()) && l.split(' ').nth(1).unwrap().contains('x')
        }) {
            let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let from = usize::from_str_radix(from, 16).unwrap();
            let to = usize::from_str_radix(to, 16).unwrap();
            // SAFETY: the program's text, mapped readable, which never changes.
            let text = unsafe { std::slice::from_raw_parts(from as *const u8, to - from) };
            found.extend(
                text.windows(BYTES.len())
                    .enumerate()
                    .filter(|(_, w)| *w == BYTES)
                    .map(|(i, _)| from + i + 8),
            );
        }
        assert_eq!(found.len(), 2, "{found:x?}");
        found
    }

    /// Jumps there with registers of our choice.
    fn jump(to: usize, number: i64, a: [u64; 6]) -> i64 {
        let result: i64;
        // SAFETY: a call to "syscall; ret", which clobbers rcx and r11 and
        // returns; what the call does is the case's business.
        unsafe {
            std::arch::asm!("call r12", in("r12") to, inlateout("rax") number => result,
                in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3],
                in("r8") a[4], in("r9") a[5], out("rcx") _, out("r11") _);
        }
        result
    }

    /// The instruction for the backend's own calls stands first.
    fn own() -> usize {
        gates()[0]
    }

    fn approved() -> usize {
        gates()[1]
    }

    const EPERM: i64 = -(libc::EPERM as i64);

    fn trapped(flags: Flags, body: impl FnOnce() -> u64) -> Context {
        lwc::spawn(&[], Flags::TRAP_SYSCALL | flags, |event| -> Infallible {
            let home = event.from().expect("a caller");
            let word = body();
            loop {
                let _ = home.switch(&[word]);
            }
        })
        .unwrap()
    }

    /// Runs `body` trapped; no call may arrive, and it must say 1.
    fn comes_to_nothing(body: impl FnOnce() -> bool) {
        let child = trapped(Flags::empty(), || body().into());
        let event = monitored(child.handle(), &[], |call| panic!("{call:?}"));
        assert_eq!(event.args(), [1]);
    }

    fn c7_1_imitating_the_backend_opens_nothing() {
        let at = own();
        let path = c"/etc/passwd".as_ptr() as u64;
        comes_to_nothing(|| {
            let here = libc::AT_FDCWD as u64;
            jump(at, libc::SYS_openat, [here, path, 0, 0, 0, 0]) == EPERM
                && jump(at, libc::SYS_open, [path, 0, 0, 0, 0, 0]) == EPERM
                && jump(at, libc::SYS_unlink, [path, 0, 0, 0, 0, 0]) == EPERM
                && jump(at, libc::SYS_socket, [2, 1, 0, 0, 0, 0]) == EPERM
                && jump(at, libc::SYS_memfd_create, [path, 0, 0, 0, 0, 0]) == EPERM
                && jump(at, libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]) == EPERM
                && jump(at, libc::SYS_ptrace, [16, 1, 0, 0, 0, 0]) == EPERM
                && jump(at, libc::SYS_kill, [1, 0, 0, 0, 0, 0]) == EPERM
                && jump(at, libc::SYS_prctl, [15, path, 0, 0, 0, 0]) == EPERM
                && jump(at, libc::SYS_seccomp, [0, 0, 0, 0, 0, 0]) == EPERM
                // The numbers of the x32 interface.
                && jump(at, libc::SYS_openat | 1 << 30, [here, path, 0, 0, 0, 0]) == EPERM
        });
    }

    /// A number where the backend has its own: from a quarter of the limit on.
    fn among() -> i32 {
        let (soft, _) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        (soft / 4).clamp(32, 4096) as i32 + 3
    }

    fn c7_1_imitating_the_backend_reads_no_descriptor() {
        let at = own();
        let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut far, b"secret").unwrap();
        let low = std::os::fd::AsRawFd::as_raw_fd(&near);
        let file = scratch_file();
        file.set_len(4096).unwrap();
        let mapped = std::os::fd::AsRawFd::as_raw_fd(&file) as u64;
        // One among the backend's own numbers.
        // SAFETY: duplicates a descriptor.
        let high = unsafe { libc::fcntl(low, libc::F_DUPFD, among()) };
        assert!(high >= among(), "{}", Errno::last());
        comes_to_nothing(|| {
            let mut bytes = [0u8; 16];
            let mut iov = libc::iovec {
                iov_base: bytes.as_mut_ptr().cast(),
                iov_len: bytes.len(),
            };
            // SAFETY: a structure of plain integers and pointers.
            let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
            msg.msg_iov = &raw mut iov;
            msg.msg_iovlen = 1;
            let msg = &raw mut msg as u64;
            let buffer = &raw mut bytes as u64;
            [low, high].iter().all(|&fd| {
                let fd = fd as u64;
                jump(at, libc::SYS_recvmsg, [fd, msg, 0, 0, 0, 0]) == EPERM
                    && jump(at, libc::SYS_sendmsg, [fd, msg, 0, 0, 0, 0]) == EPERM
                    && jump(at, libc::SYS_read, [fd, buffer, 8, 0, 0, 0]) == EPERM
                    && jump(at, libc::SYS_close, [fd, 0, 0, 0, 0, 0]) == EPERM
                    && jump(at, libc::SYS_fstat, [fd, buffer, 0, 0, 0, 0]) == EPERM
                    && jump(at, libc::SYS_dup, [fd, 0, 0, 0, 0, 0]) == EPERM
                    && jump(at, libc::SYS_fcntl, [fd, 0, 4096, 0, 0, 0]) == EPERM
            }) && jump(at, libc::SYS_recvmsg, [u64::MAX, msg, 0, 0, 0, 0]) == EPERM
                && jump(at, libc::SYS_mmap, [0, 4096, 1, 1, mapped, 0]) == EPERM
                && bytes == [0; 16]
        });
    }

    fn c7_1_imitating_the_backend_makes_no_process_or_code() {
        let at = own();
        comes_to_nothing(|| {
            let threads = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u64;
            let rwx = (libc::PROT_READ | libc::PROT_EXEC) as u64;
            let none = u64::MAX;
            jump(at, libc::SYS_clone, [threads, 0, 0, 0, 0, 0]) == EPERM
                && jump(at, libc::SYS_clone, [17, 0, 0, 0, 0, 0]) == EPERM
                && jump(at, libc::SYS_clone3, [0, 0, 0, 0, 0, 0]) == EPERM
                && jump(at, libc::SYS_fork, [0; 6]) == EPERM
                && jump(at, libc::SYS_vfork, [0; 6]) == EPERM
                && jump(at, libc::SYS_execve, [0; 6]) == EPERM
                && jump(at, libc::SYS_mmap, [0, 4096, rwx, 0x22, none, 0]) == EPERM
        });
    }

    fn c7_1_calls_that_nobody_asked_for_wait_for_ever() {
        let at = approved();
        let child = trapped(Flags::empty(), || {
            let path = c"/etc/passwd".as_ptr() as u64;
            jump(at, libc::SYS_open, [path, 0, 0, 0, 0, 0]) as u64
        });
        let soon = Instant::now() + Duration::from_millis(200);
        refused(child.switch_until(&[], soon), Errno::ETIMEDOUT);
        child.destroy().unwrap();
        refused(child.switch(&[]), Errno::ESRCH);
    }

    /// It passes the baton and goes on, and makes another call than the one
    /// that its monitor asks for.
    fn c7_1_asking_while_another_call_is_let_through() {
        let at = approved();
        let file = scratch_file();
        let n = std::os::fd::AsRawFd::as_raw_fd(&file) as u64;
        let wanted = [n + 1000, 0, 0, 0, 0, 0];
        let child = trapped(Flags::empty(), || {
            // Is refused when the monitor listens for something else, then
            // the honest wait loop never gets to run the right one.
            jump(at, libc::SYS_close, [n, 0, 0, 0, 0, 0]) as u64
        });
        let soon = Instant::now() + Duration::from_millis(200);
        refused(child.switch_until(&[], soon), Errno::ETIMEDOUT);
        // SAFETY: closes a number there that is not open.
        let e = unsafe { child.syscall(lwc::Resources::FILES, SYS_close, &wanted) };
        // It was refused its own call, parked, and served.
        refused(e, Errno::EBADF);
        // SAFETY: as above; the descriptor is still there to be closed.
        unsafe { child.syscall(lwc::Resources::FILES, SYS_close, &[n]) }.unwrap();
    }

    extern "C" fn ignore(_: i32) {}

    fn c7_1_a_signal_handler_of_its_own_executes_nothing() {
        let at = own();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made");
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let child = trapped(Flags::TRAP_FAULT, || {
            // SIGSYS goes to a handler that does nothing; restorer as the C
            // library's is not needed: it is never returned from here.
            let action: [u64; 4] = [ignore as *const () as u64, 0x4000_0000, 0, 0];
            let pointer = &raw const action as u64;
            let signal = libc::SIGSYS as u64;
            let rc = jump(at, libc::SYS_rt_sigaction, [signal, pointer, 0, 8, 0, 0]);
            assert_eq!(rc, 0);
            let flags = (libc::O_CREAT | libc::O_WRONLY) as u64;
            let mode = 0o600;
            // SAFETY: must not happen.
            unsafe {
                raw(
                    SYS_openat,
                    [
                        libc::AT_FDCWD as u64,
                        name.as_ptr() as u64,
                        flags,
                        mode,
                        0,
                        0,
                    ],
                )
            };
            1
        });
        // Whatever becomes of it: no file.
        let _ = child.switch_until(&[], Instant::now() + Duration::from_secs(2));
        let _ = child.destroy();
        assert!(!path.exists());
    }

    fn c7_1_a_clone_past_lw_create_is_trapped_and_ended() {
        let at = own();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made");
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let flags = (libc::CLONE_PARENT
            | libc::CLONE_CHILD_SETTID
            | libc::CLONE_CHILD_CLEARTID
            | (libc::SIGSTKFLT)) as u64;
        let child = trapped(Flags::empty(), || {
            let mut tid = [0u64; 2];
            let pid = jump(
                at,
                libc::SYS_clone,
                [flags, 0, 0, &raw mut tid as u64, 0, 0],
            );
            if pid == 0 {
                loop {
                    let flags = (libc::O_CREAT | libc::O_WRONLY) as u64;
                    let a = [
                        libc::AT_FDCWD as u64,
                        name.as_ptr() as u64,
                        flags,
                        0o600,
                        0,
                        0,
                    ];
                    if jump(at, libc::SYS_openat, a) >= 0 {
                        return 0;
                    }
                }
            }
            (pid > 0).into()
        });
        assert_eq!(child.switch(&[]).unwrap().args(), [1]);
        child.destroy().unwrap();
        // The root ends what no lwCreate announced; the harness looks for
        // processes left behind.
        assert!(!path.exists());
        assert_eq!(lwc::info().unwrap().contexts, 1);
    }

    fn c7_1_calls_of_another_architecture_end_it() {
        let child = trapped(Flags::TRAP_FAULT, || {
            // SAFETY: a 32-bit getpid(2), if the kernel has them.
            unsafe {
                let mut n = 20u64;
                std::arch::asm!("int 0x80", inlateout("rax") n, out("r8") _, out("r9") _,
                    out("r10") _, out("r11") _);
                n
            }
        });
        match child.switch(&[]).unwrap() {
            // SIGSEGV where the kernel has no 32-bit calls at all.
            Event::Ended(end) => {
                assert!([Some(libc::SIGSYS), Some(libc::SIGSEGV)].contains(&end.signal));
            }
            other => panic!("{other:?}"),
        }
    }

    /// As in a container whose manager listens to some of its calls.
    fn c7_2_where_another_listens_traps_work_and_acting_does_not() {
        let mut all = libc::sock_filter {
            code: (libc::BPF_RET | libc::BPF_K) as u16,
            jt: 0,
            jf: 0,
            k: libc::SECCOMP_RET_ALLOW,
        };
        let program = libc::sock_fprog {
            len: 1,
            filter: &raw mut all,
        };
        // SAFETY: installs a filter that lets everything through.
        let listener = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                &raw const program,
            )
        };
        if listener < 0 && Errno::last() == Errno::EBUSY {
            return; // somebody listens already: the other cases are this one
        }
        assert!(listener >= 0, "{}", Errno::last());
        let page = Pages::new(1);
        page.set(0, 77);
        let child = trapped(Flags::empty(), || getppid() + page.get(0));
        let call = next_call(child.switch(&[]).unwrap());
        // SAFETY: closes a number there that is not open.
        let e = refused(
            unsafe { child.syscall(lwc::Resources::FILES, SYS_close, &[9999]) },
            Errno::EPERM,
        );
        assert!(e.to_string().contains("another listener"), "{e}");
        let mut bytes = [0; 8];
        child
            .read_memory(page.range().start as u64, &mut bytes)
            .unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), 77);
        assert_eq!(call.answer(Ok(3)).unwrap().args(), [80]);
    }
}
