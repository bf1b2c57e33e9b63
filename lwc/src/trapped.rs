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
    pub fn read_c_string(&self, address: u64, limit: usize) -> Result<Vec<u8>> {
        let page = crate::page_size() as u64;
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
