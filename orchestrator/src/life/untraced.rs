//! Nobody looks into a process that holds secrets or messages.
//!
//! Gateway, worker and every program that makes contexts forbid it for
//! themselves before they read the first secret. Linux: such a process is not
//! dumpable (prctl(2)), so that the kernel refuses other processes of the same
//! user its memory, its descriptors, tracing and copies of its descriptors
//! (/proc/PID/mem, /proc/PID/fd, ptrace(2), process_vm_readv(2),
//! pidfd_getfd(2)). FreeBSD: debuggers, ktrace(1) and core dumps are forbidden
//! (procctl(2)). Contexts of the process backend see to it again, each for
//! itself.

/// Forbids tracing of this process, for good: execve(2) alone undoes it.
///
/// # Errors
/// What procctl(2) says: EBUSY when a debugger is there already.
#[cfg(target_os = "freebsd")]
pub(crate) fn forbid() -> std::io::Result<()> {
    let mut how = libc::PROC_TRACE_CTL_DISABLE;
    // SAFETY: the command reads an int; 0 names the calling process.
    let rc = unsafe { libc::procctl(libc::P_PID, 0, libc::PROC_TRACE_CTL, (&raw mut how).cast()) };
    if rc != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Forbids tracing of this process, for good: execve(2) alone undoes it. What
/// the process itself does with its entries of /proc goes on to work, but for
/// those that only their owner may open (`mem`, `pagemap`, `environ`): they are
/// root's from now on.
///
/// # Errors
/// None that prctl(2) documents for these arguments.
#[cfg(target_os = "linux")]
pub(crate) fn forbid() -> std::io::Result<()> {
    // SAFETY: the option has one argument, a number, and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(all(test, target_os = "freebsd"))]
mod tests {
    #[test]
    fn nobody_may_trace_afterwards() {
        super::forbid().unwrap();
        let mut status = 0;
        // SAFETY: the command fills an int: −1 is "forbidden".
        let rc = unsafe {
            libc::procctl(
                libc::P_PID,
                0,
                libc::PROC_TRACE_STATUS,
                (&raw mut status).cast(),
            )
        };
        assert_eq!((rc, status), (0, -1));
    }
}
