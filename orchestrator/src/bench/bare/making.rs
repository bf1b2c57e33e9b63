//! Making and ending a process, and a system call that does nothing.

use std::ffi::c_char;
use std::io;

/// A system call that does next to nothing: getppid(2), which no C library
/// answers by itself.
pub fn null_call() {
    // SAFETY: getppid has no preconditions.
    unsafe { libc::getppid() };
}

/// A process that ends at once.
///
/// # Panics
/// When the system has no room for one more process.
pub fn fork_and_wait() {
    fork_run_and_wait(|| {});
}

/// A process that does something and ends.
///
/// # Panics
/// When the system has no room for one more process, or it fails.
pub fn fork_run_and_wait(what: impl FnOnce()) {
    // SAFETY: the child does `what` and ends by the system call alone; a panic
    // in it ends it as well.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
        // SAFETY: as above.
        unsafe { libc::_exit(done.is_err().into()) };
    }
    assert_eq!(reap(child).expect("fork(2)"), 0, "the forked process fails");
}

/// The smallest program that every system has, true(1).
///
/// # Errors
/// What posix_spawn(3) says, and a program that is not found.
pub fn spawn_and_wait() -> io::Result<()> {
    let arguments: [*mut c_char; 2] = [c"true".as_ptr().cast_mut(), std::ptr::null_mut()];
    let mut child = 0;
    // SAFETY: NUL-terminated texts and null-terminated lists, which the call
    // reads and does not keep.
    let rc = unsafe {
        libc::posix_spawnp(
            &raw mut child,
            c"true".as_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            arguments.as_ptr(),
            [std::ptr::null_mut()].as_ptr(),
        )
    };
    if rc != 0 {
        return Err(io::Error::from_raw_os_error(rc));
    }
    match reap(child)? {
        0 => Ok(()),
        status => Err(io::Error::other(format!("true(1) ended with {status:#x}"))),
    }
}

fn reap(child: libc::pid_t) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: fills an int.
        if child > 0 && unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
            return Ok(status);
        }
        let e = io::Error::last_os_error();
        if child < 0 || e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
}
