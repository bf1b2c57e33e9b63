//! Files of contexts in the strict sandbox: calls that are answered instead of made, and
//! descriptors that are lent.

use lwc::{Errno, FileCall, Flags};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use std::io::Write;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;

pub(crate) const CASES: &[Case] = cases![
    c9_2_calls_that_name_a_file_are_answered,
    c9_2_calls_on_numbers_that_stand_for_nothing_are_answered,
    c9_2_what_is_lent_is_read_and_nothing_else,
    c9_2_what_is_lent_is_read_beside_such_numbers,
    c9_2_one_descriptor_is_under_way_at_a_time,
    c9_2_who_is_lent_files_has_no_more_than_there_are_numbers,
];

/// A line for descriptors, the end of the context behind those that are lent.
pub(crate) fn line() -> (UnixDatagram, OwnedFd) {
    let (here, there) = UnixDatagram::pair().unwrap();
    let least = lwc::lent_descriptors().end;
    // SAFETY: makes a descriptor, which is ours alone.
    let there = unsafe {
        let fd = libc::fcntl(there.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least);
        assert!(fd >= least);
        OwnedFd::from_raw_fd(fd)
    };
    (here, there)
}

/// The current context is in the strict sandbox, and this answers.
fn enter(
    line: Option<RawFd>,
    numbers: Range<RawFd>,
    creator_first: bool,
    answer: fn(&FileCall) -> Result<u64, Errno>,
) -> Vec<u64> {
    // SAFETY: it is open as long as the context.
    let line = line.map(|line| unsafe { BorrowedFd::borrow_raw(line) });
    lwc::catch_files(line, numbers, answer).unwrap();
    if creator_first {
        lwc::confine(lwc::Confinement::Creator).unwrap();
    }
    lwc::confine(lwc::Confinement::Strict).unwrap();
    vec![]
}

/// Receives a descriptor, as hostile code does. Whether one came.
pub(crate) fn receive_and_keep(line: RawFd) -> bool {
    let mut byte = 0u8;
    let mut control = [0u64; 4];
    // SAFETY: the message points at locals that live across the call.
    unsafe {
        let mut piece = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        let came = libc::recvmsg(line, &raw mut message, flags);
        // Where there is no number for it, Linux drops it, and FreeBSD says so.
        assert!(came == 1 || cfg!(target_os = "freebsd"), "{came}");
        came == 1 && !libc::CMSG_FIRSTHDR(&raw const message).is_null()
    }
}

/// Tells what was asked: the last argument of readlinkat(2), and the folder.
fn echo(call: &FileCall) -> Result<u64, Errno> {
    match call.args[3] {
        0 => Err(Errno::EXDEV),
        len => Ok(len * 2),
    }
}

fn c9_2_calls_that_name_a_file_are_answered() {
    for creator_first in [false, true] {
        let other = answering(&[], Flags::empty(), move |w| match w {
            [0] => enter(None, 0..0, creator_first, echo),
            // SAFETY: the path ends in a NUL; nothing is written.
            [1, len] => vec![unsafe {
                let (path, mut byte) = (c"a", 0);
                let to = &raw mut byte;
                libc::readlinkat(libc::AT_FDCWD, path.as_ptr(), to, *len as usize) as u64
            }],
            // (One that has no name in the program, and passes its own number.)
            // SAFETY: as above.
            [2, len] => vec![unsafe {
                #[cfg(target_os = "linux")]
                let number = libc::SYS_readlinkat;
                #[cfg(target_os = "freebsd")]
                let number = 500;
                let (path, mut byte) = (c"a", 0);
                let to: *mut libc::c_char = &raw mut byte;
                libc::syscall(number, libc::AT_FDCWD, path.as_ptr(), to, *len as usize) as u64
            }],
            _ => vec![Errno::last().raw() as u64],
        })
        .unwrap();
        call(other.handle(), &[0]);
        for way in [1, 2] {
            assert_eq!(call(other.handle(), &[way, 21]), [42]);
            assert_eq!(call(other.handle(), &[way, 0]), [u64::MAX]);
            assert_eq!(call(other.handle(), &[3]), [libc::EXDEV as u64]);
        }
    }
}

/// Of a call on one of them: how many bytes, or what is done with it.
fn count(call: &FileCall) -> Result<u64, Errno> {
    match call.args[2] {
        7 => Err(Errno::EXDEV),
        n => Ok(n + (call.args[0] & 1)),
    }
}

/// Beside descriptors, which are what they are.
fn c9_2_calls_on_numbers_that_stand_for_nothing_are_answered() {
    const NUMBERS: Range<RawFd> = 1 << 20..(1 << 20) + 2;
    for creator_first in [false, true] {
        let file = scratch_file();
        let open = file.as_raw_fd();
        let other = answering(&[], Flags::empty(), move |w| {
            let (number, n) = (w.get(1).map_or(-1, |&n| n as RawFd), *w.last().unwrap());
            let mut byte = 0u8;
            let at = (&raw mut byte).cast::<libc::c_void>();
            // SAFETY: nothing is written there; a descriptor of this context's own.
            let did = unsafe {
                match w[0] {
                    0 => return enter(None, NUMBERS, creator_first, count),
                    1 => libc::read(number, at, n as usize) as i64,
                    2 => libc::write(number, at, n as usize) as i64,
                    3 => libc::lseek(number, 0, n as i32),
                    4 => libc::close(number).into(),
                    _ => libc::close(open).into(),
                }
            };
            vec![did as u64, Errno::last().raw() as u64]
        })
        .unwrap();
        let ask = |words: &[u64]| call(other.handle(), words);
        ask(&[0]);
        let (first, behind) = (NUMBERS.start as u64, NUMBERS.end as u64);
        for way in [1, 2, 3] {
            assert_eq!(ask(&[way, first, 2])[0], 2);
            assert_eq!(ask(&[way, first + 1, 2])[0], 3);
            assert_eq!(ask(&[way, first, 7]), [u64::MAX, libc::EXDEV as u64]);
            // (By the filter, on Linux.)
            let not_one = ask(&[way, behind, 2]);
            assert_eq!(not_one[0], u64::MAX);
            assert!([libc::EBADF as u64, libc::EPERM as u64].contains(&not_one[1]));
        }
        assert_eq!(ask(&[5])[0], 0);
        assert_eq!(ask(&[5])[0], u64::MAX);
        assert_eq!(ask(&[4, behind])[0], u64::MAX);
    }
}

/// A descriptor of a file, to be read, as whoever lends one makes it.
fn to_read(file: &std::fs::File) -> OwnedFd {
    let path = format!("/dev/fd/{}", file.as_raw_fd());
    #[cfg(target_os = "linux")]
    return std::fs::File::open(path).unwrap().into();
    #[cfg(target_os = "freebsd")]
    {
        drop(path);
        let fd = file.as_fd().try_clone_to_owned().unwrap();
        limit(
            fd.as_fd(),
            &[libc::CAP_READ, libc::CAP_SEEK, libc::CAP_FSTAT],
        );
        fd
    }
}

/// Leaves a descriptor these rights.
#[cfg(target_os = "freebsd")]
pub(crate) fn limit(fd: BorrowedFd<'_>, rights: &[u64]) {
    // SAFETY: zeros are a value, which the first call fills; each list ends in zero.
    unsafe {
        let mut all: libc::cap_rights_t = std::mem::zeroed();
        libc::__cap_rights_init(libc::CAP_RIGHTS_VERSION, &raw mut all, 0u64);
        for &right in rights {
            libc::__cap_rights_set(&raw mut all, right, 0u64);
        }
        assert_eq!(libc::cap_rights_limit(fd.as_raw_fd(), &raw const all), 0);
    }
}

fn refuse(_: &FileCall) -> Result<u64, Errno> {
    Err(Errno::EACCES)
}

/// What may be done with a file and with the line, by who is not let: each that was.
fn misused(fd: RawFd, line: RawFd) -> u64 {
    let byte = b"x".as_ptr().cast::<libc::c_void>();
    let (mut one, length) = (1i32, 1usize);
    // SAFETY: what is pointed at is there, as long as it is told; what is mapped is
    // nobody's.
    unsafe {
        let mapped = |prot, flags, fd| {
            let at = libc::mmap(std::ptr::null_mut(), 4096, prot, flags, fd, 0);
            at != libc::MAP_FAILED
        };
        let writes = libc::PROT_READ | libc::PROT_WRITE;
        [
            libc::write(fd, byte, length) >= 0,
            libc::fcntl(fd, libc::F_SETFL, libc::O_APPEND) >= 0,
            libc::ioctl(fd, libc::FIOASYNC as _, &raw mut one) >= 0,
            mapped(writes, libc::MAP_SHARED, fd),
            mapped(libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE, fd),
            libc::openat(fd, c"a".as_ptr(), libc::O_RDONLY) >= 0,
            libc::write(line, byte, length) >= 0,
            libc::fcntl(line, libc::F_SETFL, 0) >= 0,
            libc::ioctl(line, libc::FIOASYNC as _, &raw mut one) >= 0,
            mapped(libc::PROT_READ, libc::MAP_SHARED, line),
        ]
        .iter()
        .enumerate()
        .map(|(i, &did)| u64::from(did) << i)
        .sum()
    }
}

fn c9_2_what_is_lent_is_read_and_nothing_else() {
    let (here, there) = line();
    let line = there.as_raw_fd();
    let mut file = scratch_file();
    file.write_all(b"text").unwrap();
    let lent = to_read(&file);
    let other = answering(&[], Flags::empty(), move |w| match w {
        [0] => enter(Some(line), 0..0, true, refuse),
        _ => {
            // SAFETY: as above.
            let fd = lwc::receive_descriptor(unsafe { BorrowedFd::borrow_raw(line) }).unwrap();
            let mut bytes = [0u8; 8];
            // SAFETY: as many bytes as are told, of a local.
            let read = unsafe {
                let to = bytes.as_mut_ptr().cast();
                libc::pread(fd.as_raw_fd(), to, bytes.len(), 0)
            };
            assert_eq!(&bytes[..read as usize], b"text");
            vec![misused(fd.as_raw_fd(), line)]
        }
    })
    .unwrap();
    call(other.handle(), &[0]);
    lwc::send_descriptor(&here, &lent).unwrap();
    assert_eq!(call(other.handle(), &[1]), [0]);
    // Nothing lies there for the sender.
    here.set_nonblocking(true).unwrap();
    assert!(here.recv(&mut [0; 8]).is_err());
}

/// read(2), once by its number as well: FreeBSD has a call that makes others.
fn read(fd: RawFd, at: &mut [u8], by_number: bool) -> u64 {
    #[cfg(target_os = "linux")]
    let number = libc::SYS_read;
    #[cfg(target_os = "freebsd")]
    let number = 3;
    // SAFETY: there is as much room as is told.
    unsafe {
        match by_number {
            true => libc::syscall(number, fd, at.as_mut_ptr(), at.len()) as u64,
            false => libc::read(fd, at.as_mut_ptr().cast(), at.len()) as u64,
        }
    }
}

/// Everything that is done with what is lent, in turn: how many bytes, or 0.
fn uses(fd: RawFd) -> Vec<u64> {
    // (Linux's C library has a call for it that may name a file.)
    #[cfg(target_os = "linux")]
    let fstat = libc::SYS_fstat;
    #[cfg(target_os = "freebsd")]
    let fstat = 551;
    let mut bytes = [0u8; 16];
    let first = read(fd, &mut bytes[..3], false);
    let second = read(fd, &mut bytes[3..5], true);
    // SAFETY: zeros are a value; as much room as is told; what is mapped is told of by
    // nobody else.
    let rest = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        let mut piece = libc::iovec {
            iov_base: bytes[5..].as_mut_ptr().cast(),
            iov_len: 2,
        };
        [
            libc::lseek(fd, 1, libc::SEEK_SET) as u64,
            libc::readv(fd, &raw mut piece, 1) as u64,
            libc::pread(fd, bytes[7..].as_mut_ptr().cast(), 3, 2) as u64,
            libc::fcntl(fd, libc::F_GETFD) as u64,
            libc::syscall(fstat, fd, &raw mut stat) as u64,
            stat.st_size as u64,
            libc::close(fd) as u64,
            libc::close(fd) as u64,
        ]
    };
    assert_eq!(&bytes[..10], b"wordsorrds");
    [first, second].into_iter().chain(rest).collect()
}

/// Of calls on such numbers, and no names.
fn count_alone(call: &FileCall) -> Result<u64, Errno> {
    match call.args[0] {
        0x10_0000.. => count(call),
        _ => refuse(call),
    }
}

/// Each call goes where its number belongs.
fn c9_2_what_is_lent_is_read_beside_such_numbers() {
    const NUMBERS: Range<RawFd> = 1 << 20..(1 << 20) + 2;
    for creator_first in [false, true] {
        let (here, there) = line();
        let line = there.as_raw_fd();
        let mut file = scratch_file();
        file.write_all(b"words").unwrap();
        let lent = to_read(&file);
        let other = answering(&[], Flags::empty(), move |w| match w {
            [0] => enter(Some(line), NUMBERS, creator_first, count_alone),
            [1] | [2] => {
                // SAFETY: as above.
                let line = unsafe { BorrowedFd::borrow_raw(line) };
                let fd = lwc::receive_descriptor(line).unwrap();
                match w {
                    [1] => uses(fd.into_raw_fd()),
                    _ => vec![misused(fd.as_raw_fd(), line.as_raw_fd())],
                }
            }
            &[_, by_number, number] => {
                let mut two = [0u8; 2];
                let did = read(number as RawFd, &mut two, by_number == 1);
                // SAFETY: no descriptor of anybody's.
                let closed = unsafe { libc::close(number as RawFd) };
                vec![did, closed as u64]
            }
            _ => unreachable!(),
        })
        .unwrap();
        let ask = |words: &[u64]| call(other.handle(), words);
        ask(&[0]);
        for _ in 0..2 {
            lwc::send_descriptor(&here, &lent).unwrap();
            // SAFETY: a number; they share where the next read begins.
            assert_eq!(unsafe { libc::lseek(lent.as_raw_fd(), 0, 0) }, 0);
            let expected = [3, 2, 1, 2, 3, 1, 0, 5, 0, u64::MAX];
            assert_eq!(ask(&[1]), expected);
            lwc::send_descriptor(&here, &lent).unwrap();
            assert_eq!(ask(&[2]), [0]);
        }
        let (first, behind) = (NUMBERS.start as u64, NUMBERS.end as u64);
        for by_number in [0, 1] {
            assert_eq!(ask(&[3, by_number, first])[0], 2);
            assert_eq!(ask(&[3, by_number, first + 1])[0], 3);
            assert_eq!(ask(&[3, by_number, behind]), [u64::MAX; 2]);
            assert_eq!(ask(&[3, by_number, u64::MAX]), [u64::MAX; 2]);
        }
    }
}

fn c9_2_one_descriptor_is_under_way_at_a_time() {
    let (here, there) = line();
    let file = scratch_file();
    for _ in 0..3 {
        lwc::send_descriptor(&here, &file).unwrap();
        let busy = lwc::send_descriptor(&here, &file).unwrap_err();
        assert_eq!(busy.errno(), Errno::EBUSY);
        lwc::receive_descriptor(&there).unwrap();
        let nothing = lwc::receive_descriptor(&there).unwrap_err();
        assert_eq!(nothing.errno(), Errno::EAGAIN);
    }
}

/// Also where it receives by itself, and closes none: what is open counts for the whole
/// machine.
fn c9_2_who_is_lent_files_has_no_more_than_there_are_numbers() {
    let numbers = lwc::lent_descriptors();
    for creator_first in [false, true] {
        let (here, there) = line();
        let (line, file) = (there.as_raw_fd(), scratch_file());
        let other = answering(&[], Flags::empty(), move |w| match w {
            [0] => enter(Some(line), 0..0, creator_first, refuse),
            _ => vec![u64::from(receive_and_keep(line))],
        })
        .unwrap();
        call(other.handle(), &[0]);
        let mut came = 0;
        for _ in 0..numbers.len() + 20 {
            lwc::send_descriptor(&here, file.as_fd()).unwrap();
            came += call(other.handle(), &[1])[0];
        }
        assert!(came > 0 && came <= numbers.len() as u64, "{came}");
    }
}
