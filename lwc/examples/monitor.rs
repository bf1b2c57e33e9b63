//! A reference monitor on one page: a function may read one file, and make no
//! other system call that reaches beyond its own memory.
//!
//! ```sh
//! cargo run -p lwc --example monitor
//! ```
//!
//! The fourth pattern of the paper (Litton et al., OSDI 2016). The function
//! runs in a context whose system calls are not executed: each resumes the
//! monitor, which decides, and makes the call for the function if it may.
//! `examples/monitor` of the repository is the same for a folder, with a log.

use lwc::{Errno, Event, Resources, TrappedCall};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// Numbers of system calls. The last are those of memory.
#[cfg(target_os = "linux")]
mod number {
    use libc::{SYS_brk, SYS_madvise, SYS_mremap, SYS_munmap};
    pub(super) use libc::{
        SYS_close as CLOSE, SYS_mmap as MMAP, SYS_openat as OPENAT, SYS_read as READ,
    };
    pub(super) const MEMORY: &[i64] = &[SYS_brk, SYS_madvise, SYS_mremap, SYS_munmap];
    pub(super) const ARGUMENTS: usize = 6;
}

/// Of sys/syscall.h, which keeps them for ever; the libc crate has none.
#[cfg(target_os = "freebsd")]
mod number {
    pub(super) const CLOSE: i64 = 6;
    pub(super) const MMAP: i64 = 477;
    pub(super) const OPENAT: i64 = 499;
    pub(super) const READ: i64 = 3;
    pub(super) const MEMORY: &[i64] = &[73, 75]; // munmap, madvise
    pub(super) const ARGUMENTS: usize = 8;
}

/// The one file that the function may read.
struct Allowed {
    /// Its path, as the function knows it.
    path: CString,
    /// Its name in the folder of the descriptor.
    name: CString,
    folder: RawFd,
}

/// The policy: what becomes of a call of the function's.
fn decide(call: &TrappedCall, allowed: &Allowed) -> Result<u64, Errno> {
    let run = |with, args: &[u64]| {
        // SAFETY: the calls below read a file into the function's memory, or
        // change the map of that. It shares none with us.
        unsafe { call.from.syscall(with, call.number, args) }.map_err(|e| e.errno())
    };
    let as_it_asked = || {
        let with = Resources::MEMORY | Resources::FILES;
        run(with, &call.args[..number::ARGUMENTS])
    };
    match call.number {
        number::OPENAT => {
            // Our own copy, which it cannot change between check and use.
            let path = call.from.read_c_string(call.args[1], 4096);
            if path.map_err(|e| e.errno())? != allowed.path.as_bytes() {
                return Err(Errno::EACCES);
            }
            // Whatever flags it gave, to read; into its table, for its number.
            let name = allowed.name.as_ptr() as u64;
            let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
            run(Resources::FILES, &[allowed.folder as u64, name, flags, 0])
        }
        // It has no descriptors but the folder's and those from here.
        number::READ | number::CLOSE => as_it_asked(),
        number::MMAP if call.args[2] as i32 & libc::PROT_EXEC == 0 => as_it_asked(),
        n if number::MEMORY.contains(&n) => as_it_asked(),
        _ => Err(Errno::EPERM),
    }
}

/// Ordinary code that knows of no monitor: how long are the two files, and can
/// it delete the first?
fn untrusted(first: &str, second: &str) -> [u64; 3] {
    let len = |path| fs::read(path).map_or(0, |bytes| bytes.len() as u64);
    [
        len(first),
        len(second),
        fs::remove_file(first).is_ok().into(),
    ]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir();
    let name = format!("lwc-example-{}", std::process::id());
    let file = folder.join(&name);
    let text = "all that it may read";
    fs::write(&file, text)?;
    let path = file.to_str().ok_or("a path that is no text")?;
    let folder = fs::File::open(&folder)?;
    let allowed = Allowed {
        path: CString::new(path)?,
        name: CString::new(name)?,
        folder: folder.as_raw_fd(),
    };

    let function = lwc::Builder::new()
        .only_files(&[folder.as_fd()])
        .trap_syscalls()
        .trap_faults()
        .trap_exits()
        .spawn(|event| -> Infallible {
            let monitor = event.from().expect("switched to by the monitor");
            let report = untrusted(path, "/etc/passwd");
            loop {
                let _ = monitor.switch(&report);
            }
        })?;
    let mut event = function.switch(&[])?;
    while let Event::Called(call) = event {
        let answer = decide(&call, &allowed);
        println!("call {} -> {answer:?}", call.number);
        event = call.answer(answer)?;
    }
    println!("its report: {event:?}");
    let still_there = fs::remove_file(&file);
    assert_eq!(event.args(), [text.len() as u64, 0, 0]);
    still_there?;
    println!("it read the one file and reached nothing else");
    Ok(())
}
