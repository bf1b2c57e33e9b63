//! Trapped system calls and acting for another context ([contract
//! 7](crate::contract#c7)).

use crate::backend;
use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::event::{CALL_ARGS, Event, TrappedCall};
use crate::handle::Handle;
use crate::time::MonotonicTime;
use nix::errno::Errno as Known;

impl TrappedCall {
    /// Answers: the call returns `result` in the trapped context, which goes
    /// on. Returns when somebody resumes the current context, as
    /// [`Handle::switch`] does.
    ///
    /// # Errors
    /// As [`Handle::switch`].
    pub fn answer(&self, result: std::result::Result<u64, Errno>) -> Result<Event> {
        self.from.switch(&words(result))
    }

    /// The same until a deadline, as [`Handle::switch_until`].
    ///
    /// # Errors
    /// As [`Handle::switch_until`].
    pub fn answer_until(
        &self,
        result: std::result::Result<u64, Errno>,
        deadline: impl Into<MonotonicTime>,
    ) -> Result<Event> {
        self.from.switch_until(&words(result), deadline)
    }
}

/// {errno, value}
fn words(result: std::result::Result<u64, Errno>) -> [u64; 2] {
    match result {
        Ok(value) => [0, value],
        // An errno of 0 would be no error.
        Err(errno) if errno.raw() <= 0 => [Errno::EINVAL.raw() as u64, 0],
        Err(errno) => [errno.raw() as u64, 0],
    }
}

bitflags::bitflags! {
    /// Whose resources a call uses: those named here are the target's, the
    /// rest the caller's.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Resources: u32 {
        /// The address space: what pointers mean.
        const MEMORY = lwc_sys::LWC_MEMORY;
        /// The descriptor table, current directory and umask.
        const FILES = lwc_sys::LWC_FILES;
        /// User, groups, capability mode.
        const CREDENTIALS = lwc_sys::LWC_CREDENTIALS;
    }
}

impl Handle {
    /// Makes one system call with a mixture of this context's resources and the
    /// caller's (lwSyscall, [contract 7.2](crate::contract#c7-2)). Returns the
    /// call's result.
    ///
    /// `args` beyond those given are zero. The descriptor must carry every
    /// right over what `with` names. On the process backend a call runs in the
    /// process whose memory it touches, with descriptors of the other's lent
    /// to it for that time; a path is looked up, and a file made, with the
    /// root directory and umask of that process; in a target that is in a
    /// sandbox ([`confine`](crate::confine)) what the sandbox forbids fails, or
    /// ends the target.
    ///
    /// # Safety
    /// That of the system call, on the caller's memory where `with` leaves
    /// memory out. Where it names memory, nothing shared with the target may be
    /// changed that Rust code here relies on.
    ///
    /// # Errors
    /// The call's own, and: EBADF; ESRCH; EINVAL for the current context, for
    /// more than six arguments (eight on the kernel backend), and for calls
    /// that end, replace or multiply the process or change contexts; EACCES
    /// (not within the rights); on the process backend ENOTSUP for a mixture
    /// that Linux does not allow, and ETIMEDOUT for a call that blocks in the
    /// target for ten seconds.
    ///
    /// # Examples
    /// ```
    /// use lwc::{Errno, Resources};
    /// # #[cfg(target_os = "linux")]
    /// use libc::{SYS_execve, SYS_umask};
    /// # #[cfg(target_os = "freebsd")]
    /// # #[allow(non_upper_case_globals)]
    /// # const SYS_umask: i64 = 60;
    /// # #[cfg(target_os = "freebsd")]
    /// # #[allow(non_upper_case_globals)]
    /// # const SYS_execve: i64 = 59;
    ///
    /// # let child = lwc::Builder::new().spawn(|event| loop {
    /// #     let _ = event.from().expect("the creator").switch(&[]);
    /// # })?;
    /// // The child's, not ours. It answers with the one before.
    /// // SAFETY: umask(2) touches no memory.
    /// let umask = |mask| unsafe { child.syscall(Resources::FILES, SYS_umask as i64, &[mask]) };
    /// umask(0o027)?;
    /// assert_eq!(umask(0)?, 0o027);
    ///
    /// // SAFETY: is refused.
    /// let error = unsafe { child.syscall(Resources::FILES, SYS_execve as i64, &[0; 3]) };
    /// assert_eq!(error.unwrap_err().errno(), Errno::EINVAL);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub unsafe fn syscall(&self, with: Resources, number: i64, args: &[u64]) -> Result<u64> {
        const CALL: &str = "lwSyscall";
        let mut all = [0; CALL_ARGS];
        let Some(places) = all.get_mut(..args.len()) else {
            return Err(Error::new(
                CALL,
                Known::EINVAL,
                format!("{} arguments, at most {CALL_ARGS}", args.len()),
            ));
        };
        places.copy_from_slice(args);
        backend::lw_syscall(self.number(CALL)?, with.bits(), number, &all)
    }

    /// Reads memory of this context, such as what a trapped call's pointer
    /// points at: all of `into`, from `address` there.
    ///
    /// # Errors
    /// EBADF, ESRCH, EINVAL (the current context); EFAULT if a part is not
    /// there or not readable; EACCES if not within the descriptor's rights
    /// (the kernel backend wants the right to all of the memory).
    ///
    /// # Examples
    /// ```
    /// use lwc::Errno;
    ///
    /// let mut shown = *b"as it is here";
    /// let child = lwc::Builder::new().spawn(|event| {
    ///     let parent = event.from().expect("switched to by the creator");
    ///     shown = *b"as it's there";
    ///     loop {
    ///         let _ = parent.switch(&[shown.as_ptr() as u64]);
    ///     }
    /// })?;
    /// let address = child.switch(&[])?.args()[0];
    /// let mut text = [0; 13];
    /// child.read_memory(address, &mut text)?;
    /// assert_eq!(text, *b"as it's there");
    /// child.write_memory(address, b"changed")?;
    /// child.read_memory(address, &mut text)?;
    /// assert_eq!(text, *b"changed there");
    /// let error = child.read_memory(8, &mut text).unwrap_err();
    /// assert_eq!(error.errno(), Errno::EFAULT);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<()> {
        backend::read_memory(self.number("read_memory")?, address, into)
    }

    /// Writes memory of this context: all of `from`, to `address` there.
    ///
    /// # Errors
    /// As [`read_memory`](Self::read_memory); EFAULT if a part is not writable.
    /// (The kernel backend may have written the parts before it.)
    pub fn write_memory(&self, address: u64, from: &[u8]) -> Result<()> {
        backend::write_memory(self.number("write_memory")?, address, from)
    }

    /// Reads a string that ends in a zero byte, without it.
    ///
    /// # Errors
    /// As [`read_memory`](Self::read_memory); ENAMETOOLONG if there is no zero
    /// within `limit` bytes.
    ///
    /// # Examples
    /// ```
    /// use lwc::Errno;
    ///
    /// let name = c"a name";
    /// # let child = lwc::Builder::new().spawn(|event| loop {
    /// #     let _ = event.from().expect("the creator").switch(&[]);
    /// # })?;
    /// let address = name.as_ptr() as u64; // the same in a copy
    /// assert_eq!(child.read_c_string(address, 100)?, b"a name");
    /// let error = child.read_c_string(address, 3).unwrap_err();
    /// assert_eq!(error.errno(), Errno::ENAMETOOLONG);
    /// # Ok::<(), lwc::Error>(())
    /// ```
    pub fn read_c_string(&self, address: u64, limit: usize) -> Result<Vec<u8>> {
        let page = crate::page::page_size() as u64;
        let mut out = Vec::new();
        while out.len() < limit {
            let at = address + out.len() as u64;
            // Never past the page that the string may end in.
            let left = (page - at % page) as usize;
            let mut part = vec![0; left.min(limit - out.len())];
            self.read_memory(at, &mut part)?;
            if let Some(end) = part.iter().position(|&b| b == 0) {
                out.extend_from_slice(&part[..end]);
                return Ok(out);
            }
            out.append(&mut part);
        }
        Err(Error::new(
            "read_memory",
            Known::ENAMETOOLONG,
            format!("no end of the string within {limit} bytes"),
        ))
    }
}
