//! Clause 7.2: lwSyscall, and a trapped context's memory.

use lwc::{Context, Errno, Event, Flags, Region, Resources, Rights};
use lwc_tests::calls::*;
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

pub(crate) const CASES: &[Case] = cases![
    c7_2_files_of_the_target,
    c7_2_files_of_the_target_its_folder_too,
    c7_2_memory_of_the_target,
    c7_2_memory_of_the_target_makes_a_descriptor_here,
    c7_2_memory_and_files_of_the_target,
    c7_2_nothing_of_the_target_is_a_call_here,
    c7_2_everything_of_the_target,
    c7_2_the_target_has_the_credentials_it_dropped,
    c7_2_the_call_fails_as_it_does,
    c7_2_calls_that_are_refused,
    c7_2_bad_targets,
    c7_2_rights_are_needed,
    c7_2_mixtures_that_linux_does_not_allow,
    c7_2_a_trapped_target_files,
    c7_2_a_trapped_target_memory,
    c7_2_a_trapped_target_between_switches,
    c7_2_a_trapped_target_changes_its_table_by_the_monitor_alone,
    c7_2_a_trapped_caller_cannot_go_around,
    c7_2_a_descriptor_of_a_trapped_context_is_copied,
    c7_2_read_memory,
    c7_2_write_memory,
    c7_2_read_c_string,
    c7_2_memory_that_is_not_there,
    c7_2_memory_rights_are_needed,
];

const MEMORY: Resources = Resources::MEMORY;
const FILES: Resources = Resources::FILES;

/// lwSyscall of a call that changes no memory of ours behind Rust's back.
fn act(on: &Context, with: Resources, number: i64, args: &[u64]) -> lwc::Result<u64> {
    // SAFETY: the cases pass descriptors, and addresses of their own pages.
    unsafe { on.syscall(with, number, args) }
}

fn idle(flags: Flags) -> Context {
    answering(&[], flags, <[u64]>::to_vec).unwrap()
}

/// A folder that holds `f` with `text`, and an open descriptor of it.
fn folder(text: &str) -> (tempfile::TempDir, std::fs::File) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), text).unwrap();
    let open = std::fs::File::open(dir.path()).unwrap();
    (dir, open)
}

fn fd(file: &impl AsRawFd) -> u64 {
    file.as_raw_fd() as u64
}

/// Reads a descriptor of the current context to its end.
fn text_of(fd: i32) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    // SAFETY: reads into our own buffer.
    let n = unsafe { libc::pread(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    bytes.truncate(n.max(0) as usize);
    bytes
}

fn c7_2_files_of_the_target() {
    let (_dir, open) = folder("there");
    let child = answering(&[], Flags::empty(), |words| {
        vec![text_of(words[0] as i32).len() as u64]
    })
    .unwrap();
    let path = c"f";
    let args = [fd(&open), path.as_ptr() as u64, libc::O_RDONLY as u64, 0];
    let before = open_descriptors();
    let n = act(&child, FILES, SYS_openat, &args).unwrap();
    assert_eq!(open_descriptors(), before, "none of ours");
    assert_eq!(call(child.handle(), &[n]), [5]);
    // It can be closed there, once.
    assert_eq!(act(&child, FILES, SYS_close, &[n]).unwrap(), 0);
    refused(act(&child, FILES, SYS_close, &[n]), Errno::EBADF);
}

fn c7_2_files_of_the_target_its_folder_too() {
    let (_ours, mine) = folder("mine");
    let (_theirs, theirs) = folder("theirs!");
    let place = fd(&mine);
    let child = answering(&[], Flags::empty(), |words| {
        if words[0] == 0 {
            // Another folder at the number that is ours here.
            // SAFETY: a descriptor of the case's own.
            unsafe { libc::dup2(theirs.as_raw_fd(), place as i32) };
        }
        vec![text_of(words[0] as i32).len() as u64]
    })
    .unwrap();
    call(child.handle(), &[0]);
    let args = [place, c"f".as_ptr() as u64, libc::O_RDONLY as u64, 0];
    let n = act(&child, FILES, SYS_openat, &args).unwrap();
    assert_eq!(call(child.handle(), &[n]), [7]);
}

fn c7_2_memory_of_the_target() {
    let page = Pages::new(1);
    let child = answering(&[], Flags::empty(), |_| {
        page.set(0, u64::from_ne_bytes(*b"children"));
        vec![]
    })
    .unwrap();
    call(child.handle(), &[]);
    page.set(0, u64::from_ne_bytes(*b"creators"));
    let (mut reader, writer) = std::io::pipe().unwrap();
    let args = [fd(&writer), page.range().start as u64, 8];
    let mut bytes = [0; 8];
    assert_eq!(act(&child, MEMORY, SYS_write, &args).unwrap(), 8);
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"children");
    assert_eq!(
        act(&child, Resources::empty(), SYS_write, &args).unwrap(),
        8
    );
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"creators");
    // And into it.
    (&writer).write_all(b"answered").unwrap();
    let args = [fd(&reader), page.range().start as u64, 8];
    assert_eq!(act(&child, MEMORY, SYS_read, &args).unwrap(), 8);
    assert_eq!(page.get(0), u64::from_ne_bytes(*b"creators"));
    child
        .read_memory(page.range().start as u64, &mut bytes)
        .unwrap();
    assert_eq!(&bytes, b"answered");
}

fn c7_2_memory_of_the_target_makes_a_descriptor_here() {
    let (_dir, open) = folder("text");
    let page = Pages::new(1);
    let child = answering(&[], Flags::empty(), |_| {
        page.set(0, u64::from_ne_bytes(*b"f\0\0\0\0\0\0\0"));
        vec![open_descriptors() as u64]
    })
    .unwrap();
    let before = call(child.handle(), &[]);
    let args = [
        fd(&open),
        page.range().start as u64,
        libc::O_RDONLY as u64,
        0,
    ];
    let n = act(&child, MEMORY, SYS_openat, &args).unwrap();
    assert_eq!(text_of(n as i32), b"text");
    assert_eq!(call(child.handle(), &[]), before, "nothing stays there");
}

fn c7_2_memory_and_files_of_the_target() {
    let (_dir, open) = folder("both");
    let page = Pages::new(1);
    let child = answering(&[], Flags::empty(), |_| {
        page.set(0, u64::from_ne_bytes(*b"f\0\0\0\0\0\0\0"));
        vec![]
    })
    .unwrap();
    call(child.handle(), &[]);
    let at = page.range().start as u64;
    let both = MEMORY | FILES;
    let n = act(&child, both, SYS_openat, &[fd(&open), at, 0, 0]).unwrap();
    let (place, len) = (at + 100, 64);
    assert_eq!(act(&child, both, SYS_read, &[n, place, len]).unwrap(), 4);
    let mut bytes = [0; 4];
    child.read_memory(place, &mut bytes).unwrap();
    assert_eq!(&bytes, b"both");
}

fn c7_2_nothing_of_the_target_is_a_call_here() {
    let child = idle(Flags::empty());
    let file = scratch_file();
    let n = act(&child, Resources::empty(), SYS_dup, &[fd(&file)]).unwrap();
    assert!(is_open(n as i32));
    let pid = act(&child, Resources::empty(), SYS_getpid, &[]).unwrap();
    assert_eq!(pid, lwc_tests::kit::pid());
    // Which memory or files are whose is of no account to it.
    assert_eq!(act(&child, Resources::all(), SYS_getpid, &[]).unwrap(), pid);
}

fn c7_2_everything_of_the_target() {
    let child = idle(Flags::empty());
    let old = act(&child, Resources::all(), SYS_umask, &[0o051]).unwrap();
    assert_eq!(
        act(&child, Resources::all(), SYS_umask, &[old]).unwrap(),
        0o051
    );
    // SAFETY: sets and resets the mask of this process.
    let ours = unsafe {
        let ours = libc::umask(0);
        libc::umask(ours);
        ours
    };
    assert_eq!(u64::from(ours), old);
}

fn c7_2_the_target_has_the_credentials_it_dropped() {
    // SAFETY: asks for a number.
    let me = u64::from(unsafe { libc::geteuid() });
    let child = idle(Flags::empty());
    let with = Resources::CREDENTIALS;
    assert_eq!(act(&child, with, SYS_geteuid, &[]).unwrap(), me);
    if me != 0 {
        refused(act(&child, with, SYS_setuid, &[0]), Errno::EPERM);
        return;
    }
    assert_eq!(act(&child, with, SYS_setuid, &[1001]).unwrap(), 0);
    assert_eq!(act(&child, with, SYS_geteuid, &[]).unwrap(), 1001);
    // SAFETY: asks for a number.
    assert_eq!(unsafe { libc::geteuid() }, 0);
    refused(act(&child, with, SYS_setuid, &[0]), Errno::EPERM);
}

fn c7_2_the_call_fails_as_it_does() {
    let child = idle(Flags::empty());
    let args = [9999, 0, 0];
    refused(act(&child, FILES, SYS_lseek, &args), Errno::EBADF);
    refused(act(&child, MEMORY, SYS_munmap, &[4096, 0]), Errno::EINVAL);
    refused(
        act(&child, Resources::empty(), SYS_close, &[9999]),
        Errno::EBADF,
    );
}

fn c7_2_calls_that_are_refused() {
    for flags in [Flags::empty(), Flags::TRAP_SYSCALL] {
        let child = idle(flags);
        for number in [SYS_exit, EXIT, FORK, SYS_execve] {
            for with in [Resources::empty(), Resources::all()] {
                refused(act(&child, with, number, &[0; 6]), Errno::EINVAL);
            }
        }
        refused(
            act(&child, Resources::empty(), SYS_getpid, &[0; 9]),
            Errno::EINVAL,
        );
        assert_eq!(call(child.handle(), &[3]), [3], "nothing happened");
    }
}

fn c7_2_bad_targets() {
    let none = Context::own(named(4321));
    refused(act(&none, FILES, SYS_umask, &[0]), Errno::EBADF);
    let me = lwc::getlwc().unwrap();
    refused(act(&me, FILES, SYS_umask, &[0]), Errno::EINVAL);
    let child = lwc::spawn(&[], Flags::empty(), |event| {
        panic!("{}", event.from().unwrap().discard_switch(&[]))
    })
    .unwrap();
    child.switch(&[]).unwrap();
    assert!(eventually(|| {
        act(&child, FILES, SYS_umask, &[0]).is_err_and(|e| e.errno() == Errno::ESRCH)
    }));
}

fn c7_2_rights_are_needed() {
    let child = idle(Flags::empty());
    let umask = || act(&child, FILES, SYS_umask, &[0o022]);
    umask().unwrap();
    // A part is enough to lose the right to all of it.
    child.restrict(&Rights::files(7..=7)).unwrap();
    refused(umask(), Errno::EACCES);
    let munmap = || act(&child, MEMORY, SYS_munmap, &[4096, 0]);
    refused(munmap(), Errno::EINVAL);
    child.restrict(&Rights::all_memory()).unwrap();
    refused(munmap(), Errno::EACCES);
    let with = Resources::CREDENTIALS;
    act(&child, with, SYS_getuid, &[]).unwrap();
    child.restrict(&Rights::credentials()).unwrap();
    refused(act(&child, with, SYS_getuid, &[]), Errno::EACCES);
    // Nor has a caller, who may switch and nothing else.
    let other = answering(&[], Flags::empty(), |words| {
        let root = Context::own(named(words[0] as i32));
        vec![errno_of(act(&root, FILES, SYS_umask, &[0]))]
    })
    .unwrap();
    let me = lwc::getlwc().unwrap();
    let got = lwc::spawn(&[], Flags::empty(), |event| {
        let home = event.from().unwrap();
        let root = Context::own(home);
        let word = errno_of(act(&root, FILES, SYS_umask, &[0]));
        loop {
            let _ = home.switch(&[word]);
        }
    })
    .unwrap();
    assert_eq!(call(got.handle(), &[]), [libc::EACCES as u64]);
    drop((other, me));
}

fn c7_2_mixtures_that_linux_does_not_allow() {
    let child = idle(Flags::empty());
    let path = c"/".as_ptr() as u64;
    let got = act(&child, FILES, SYS_chdir, &[path]);
    if !of_processes() {
        got.unwrap();
        return;
    }
    let e = refused(got, Errno::ENOTSUP);
    assert!(e.to_string().contains("whole descriptor table"), "{e}");
    let cwd = libc::AT_FDCWD as u64;
    let e = refused(
        act(&child, FILES, SYS_openat, &[cwd, path, 0, 0]),
        Errno::ENOTSUP,
    );
    assert!(e.to_string().contains("current folder"), "{e}");
}

/// A trapped context that waits in a call, after the first of which it asks
/// again and again.
fn waiting() -> Context {
    let child = lwc::spawn(&[], Flags::TRAP_SYSCALL, |_| {
        loop {
            getppid();
        }
    })
    .unwrap();
    next_call(child.switch(&[]).unwrap());
    child
}

fn c7_2_a_trapped_target_files() {
    let (_dir, open) = folder("trapped");
    let page = Pages::new(1);
    let child = waiting();
    let args = [fd(&open), c"f".as_ptr() as u64, 0, 0];
    let n = act(&child, FILES, SYS_openat, &args).unwrap();
    let m = act(&child, FILES, SYS_dup, &[n]).unwrap();
    assert_ne!(n, m);
    let at = page.range().start as u64;
    let got = act(&child, MEMORY | FILES, SYS_read, &[m, at, 99]).unwrap();
    assert_eq!(got, 7);
    let mut bytes = [0; 7];
    child.read_memory(at, &mut bytes).unwrap();
    assert_eq!(&bytes, b"trapped");
    // One file, one offset.
    assert_eq!(act(&child, FILES, SYS_lseek, &[n, 0, 1]).unwrap(), 7);
    act(&child, FILES, SYS_close, &[m]).unwrap();
    refused(act(&child, FILES, SYS_close, &[m]), Errno::EBADF);
    // It still waits for its answer.
    assert_eq!(
        next_call(child.switch(&[0, 1]).unwrap()).number,
        SYS_getppid
    );
}

fn c7_2_a_trapped_target_memory() {
    let page = Pages::new(1);
    let (mut reader, writer) = std::io::pipe().unwrap();
    page.set(0, u64::from_ne_bytes(*b"copied!!"));
    let child = waiting();
    page.set(0, 0);
    let at = page.range().start as u64;
    assert_eq!(
        act(&child, MEMORY, SYS_write, &[fd(&writer), at, 8]).unwrap(),
        8
    );
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"copied!!");
    act(&child, MEMORY, SYS_munmap, &[at, lwc::page_size() as u64]).unwrap();
    refused(child.read_memory(at, &mut bytes), Errno::EFAULT);
    assert_eq!(page.get(0), 0, "ours stays");
}

fn c7_2_a_trapped_target_between_switches() {
    let file = scratch_file();
    let child = idle(Flags::TRAP_SYSCALL);
    for _ in 0..20 {
        let n = act(&child, FILES, SYS_dup, &[fd(&file)]).unwrap();
        assert_eq!(call(child.handle(), &[n]), [n]);
        act(&child, FILES, SYS_close, &[n]).unwrap();
    }
}

fn c7_2_a_trapped_target_changes_its_table_by_the_monitor_alone() {
    let file = scratch_file();
    let n = fd(&file);
    let child = answering(&[], Flags::TRAP_SYSCALL, |_| {
        // SAFETY: is not executed.
        vec![unsafe { raw(SYS_close, [n, 0, 0, 0, 0, 0]) } as u64]
    })
    .unwrap();
    let call = next_call(child.switch(&[]).unwrap());
    assert_eq!((call.number, call.args[0]), (SYS_close, n));
    let event = call.answer(Ok(0)).unwrap();
    assert_eq!(event.args(), [0], "it believes so");
    act(&child, FILES, SYS_close, &[n]).unwrap();
    refused(act(&child, FILES, SYS_close, &[n]), Errno::EBADF);
}

fn c7_2_a_trapped_caller_cannot_go_around() {
    let other = idle(Flags::empty());
    let child = answering(&[], Flags::TRAP_SYSCALL, |_| {
        vec![errno_of(act(&other, FILES, SYS_umask, &[0]))]
    })
    .unwrap();
    // The kernel backend traps it like any call.
    let event = monitored(child.handle(), &[], |_| Err(Errno::EPERM));
    assert!([libc::EPERM as u64, libc::EBADF as u64].contains(&event.args()[0]));
}

fn c7_2_a_descriptor_of_a_trapped_context_is_copied() {
    let child = lwc::spawn(&[], Flags::TRAP_SYSCALL, |event| {
        let mut from = event.from().unwrap();
        loop {
            let event = from.switch(&[11]).unwrap();
            from = event.from().unwrap_or(from);
        }
    })
    .unwrap();
    assert_eq!(call(child.handle(), &[]), [11]);
    let other = answering(&[], Flags::empty(), |_| call(child.handle(), &[])).unwrap();
    assert_eq!(call(other.handle(), &[]), [11]);
    let copy = child.duplicate().unwrap();
    drop(child);
    assert_eq!(call(copy.handle(), &[]), [11]);
}

fn c7_2_read_memory() {
    for flags in [Flags::empty(), Flags::TRAP_SYSCALL] {
        let pages = Pages::new(40);
        (0..40).for_each(|i| pages.set(i, i as u64));
        let child = idle(flags);
        (0..40).for_each(|i| pages.set(i, 99));
        let mut all = vec![0; pages.range().len()];
        child
            .read_memory(pages.range().start as u64, &mut all)
            .unwrap();
        let page = lwc::page_size();
        assert!((0..40).all(|i| all[i * page] == i as u8 && all[i * page + 1] == 0));
        // Across a border, at no alignment.
        let mut three = [7; 3];
        let at = pages.page(9).start as u64 - 2;
        child.read_memory(at, &mut three).unwrap();
        assert_eq!(three, [0, 0, 9]);
        child.read_memory(at, &mut []).unwrap();
    }
}

fn c7_2_write_memory() {
    for flags in [Flags::empty(), Flags::TRAP_SYSCALL] {
        let pages = Pages::new(20);
        let region = Region::new(1).unwrap();
        let child = answering(&[], flags, |w| vec![pages.get(w[0] as usize)]).unwrap();
        let bytes: Vec<u8> = (0..pages.range().len()).map(|i| (i % 251) as u8).collect();
        let at = pages.range().start as u64;
        child.write_memory(at, &bytes).unwrap();
        for i in [0usize, 7, 19] {
            let from = i * lwc::page_size();
            let word = u64::from_ne_bytes(bytes[from..from + 8].try_into().unwrap());
            assert_eq!(call(child.handle(), &[i as u64]), [word]);
            assert_eq!(pages.get(i), 0, "ours stays");
        }
        // One byte changes one byte.
        child.write_memory(at + 4095, b"!").unwrap();
        let mut around = [0; 3];
        child.read_memory(at + 4094, &mut around).unwrap();
        assert_eq!(around, [bytes[4094], b'!', bytes[4096]]);
        // What is shared is shared.
        let shared = region.range().start as u64;
        child.write_memory(shared, b"both").unwrap();
        let mut here = [0; 4];
        region.read(0, &mut here);
        assert_eq!(&here, b"both");
    }
}

fn c7_2_read_c_string() {
    let pages = Pages::new(2);
    let page = lwc::page_size();
    pages.set(0, u64::from_ne_bytes(*b"a path\0x"));
    poke(
        pages.page(1).start + page - 8,
        u64::from_ne_bytes(*b"the end\0"),
    );
    poke(pages.page(1).start - 8, u64::from_ne_bytes(*b"--------"));
    let child = idle(Flags::TRAP_SYSCALL);
    let at = pages.range().start as u64;
    assert_eq!(child.read_c_string(at, 4096).unwrap(), b"a path");
    let end = at + 2 * page as u64;
    assert_eq!(child.read_c_string(end - 8, 4096).unwrap(), b"the end");
    // Past the page it would end in nothing is read.
    refused(child.read_c_string(end, 4096), Errno::EFAULT);
    refused(child.read_c_string(at, 3), Errno::ENAMETOOLONG);
    pages.set(1, u64::from_ne_bytes(*b"more\0\0\0\0"));
    let child = idle(Flags::TRAP_SYSCALL);
    let from = at + page as u64 - 8;
    assert_eq!(child.read_c_string(from, 4096).unwrap(), b"--------more");
}

fn c7_2_memory_that_is_not_there() {
    for flags in [Flags::empty(), Flags::TRAP_SYSCALL] {
        let pages = Pages::new(3);
        protect(pages.page(1), libc::PROT_NONE).unwrap();
        protect(pages.page(2), libc::PROT_READ).unwrap();
        let child = idle(flags);
        let at = |i: usize| pages.page(i).start as u64;
        let mut bytes = [0; 16];
        refused(child.read_memory(at(1), &mut bytes), Errno::EFAULT);
        refused(child.read_memory(at(1) - 8, &mut bytes), Errno::EFAULT);
        refused(child.read_memory(0, &mut bytes), Errno::EFAULT);
        refused(child.read_memory(u64::MAX - 4, &mut bytes), Errno::EFAULT);
        child.read_memory(at(2), &mut bytes).unwrap();
        refused(child.write_memory(at(2), &bytes), Errno::EFAULT);
        refused(child.write_memory(at(1), &bytes), Errno::EFAULT);
        assert_eq!(call(child.handle(), &[1]), [1]);
    }
}

fn c7_2_memory_rights_are_needed() {
    let pages = Pages::new(2);
    let child = idle(Flags::TRAP_SYSCALL);
    let at = pages.range().start as u64;
    let mut bytes = [0; 8];
    child.read_memory(at, &mut bytes).unwrap();
    child.restrict(&Rights::memory(pages.page(0))).unwrap();
    refused(child.read_memory(at, &mut bytes), Errno::EACCES);
    refused(child.write_memory(at, &bytes), Errno::EACCES);
    // Whoever calls is named by a descriptor with no right at all.
    let other = lwc::spawn(&[], Flags::empty(), |event| {
        let home = event.from().unwrap();
        let word = errno_of(home.read_memory(at, &mut [0; 8]));
        loop {
            let _ = home.switch(&[word]);
        }
    })
    .unwrap();
    match other.switch(&[]).unwrap() {
        Event::Switched { args, .. } => assert_eq!(args[..], [libc::EACCES as u64]),
        event => panic!("{event:?}"),
    }
}
