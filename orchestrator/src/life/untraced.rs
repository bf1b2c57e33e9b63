//! Nobody looks into a worker.
//!
//! On the process backend each context sees to that for itself. On the kernel
//! backend all contexts are one process: it forbids debuggers, ktrace(1) and
//! core dumps for itself before it reads the first secret (procctl(2)).

/// Forbids tracing of this process where its contexts would be traced with it.
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

/// Nothing to do: contexts are processes, which forbid it for themselves.
///
/// # Errors
/// None.
#[cfg(not(target_os = "freebsd"))]
#[allow(clippy::unnecessary_wraps)] // the same shape on both
pub(crate) fn forbid() -> std::io::Result<()> {
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
