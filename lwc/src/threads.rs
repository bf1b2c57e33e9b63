//! Threads of a context in a sandbox.

use crate::backend;
use crate::error::{Error, Result};
use crate::handle::Handle;
use nix::errno::Errno;

/// From now on the copies that the current context makes with
/// [`Flags::ROLLBACK`](crate::Flags::ROLLBACK) may have `most` threads (pthread_create(3))
/// beside the one that they are, once they are in the strict sandbox
/// ([`confine`](crate::confine)). One more fails with EAGAIN.
///
/// The number is held by the process beside the creator that rolls its copies back: the
/// kernel stops each clone(2) for it, of which the sandbox lets through the one that
/// makes a thread of the C library's. All of them have what the context has, and are
/// bound by what it is: its limit of memory, its sandbox, its end. Any of them calls this
/// library; whoever has switched to another context has it until it is back, and the
/// others wait. Their signals are as before: none can be sent (pthread_kill(3),
/// pthread_cancel(3)).
///
/// A context that still has threads is not rolled back (ENOTSUP, and it is destroyed), nor
/// parked ([`Handle::parked`]), if its root was told to expect them
/// ([`Handle::expect_threads`]).
///
/// In return these copies move no memory (mremap(2) is EPERM) and are introduced to nobody.
///
/// Call it before [`rollback_support`](crate::rollback_support).
///
/// # Errors
/// EINVAL: more than 64. EBUSY: it is too late. ENOTSUP on the kernel backend: a context
/// there is a process's one thread; and in a context whose system calls are trapped.
///
/// # Examples
/// ```
/// use lwc::{Confinement, Created, Flags};
///
/// # if lwc::backend()? == lwc::Backend::Kernel { return Ok(()); }
/// let creator = lwc::Builder::new().spawn(|event| {
///     let root = event.from().expect("switched to by the creator");
///     lwc::allow_threads(1).expect("one");
///     // SAFETY: the copy serves below and ends with its process.
///     let made = lwc::rollback_support().and_then(|_| unsafe { lwc::create(&[], Flags::ROLLBACK) });
///     match made {
///         Ok(Created::New(event)) => {
///             lwc::confine(Confinement::Strict).expect("a sandbox");
///             let sum: u64 = std::thread::spawn(|| (1..=10).sum()).join().expect("a thread");
///             loop {
///                 let _ = root.switch(&[sum]);
///             }
///         }
///         Ok(Created::Creator(copy)) => loop {
///             let _ = copy.switch(&[]);
///         },
///         // A kernel that rolls nothing back.
///         Err(_) => loop {
///             let _ = root.switch(&[55]);
///         },
///     }
/// })?;
/// assert_eq!(creator.switch(&[])?.args(), [55]);
/// # Ok::<(), lwc::Error>(())
/// ```
pub fn allow_threads(most: u32) -> Result<()> {
    if most > 64 {
        return Err(Error::new(
            "allow_threads",
            Errno::EINVAL,
            format!("{most} threads; 64 are the most"),
        ));
    }
    backend::allow_threads(most)
}

impl Handle {
    /// In the root: this context may have threads ([`allow_threads`]). So whether it is
    /// parked is the kernel's word about all of them: it is once it waits, and none but
    /// the one that waits is left. (Without this only the one that waits is looked at: a
    /// context that may have no threads has none.)
    ///
    /// # Errors
    /// EBADF. ENOTSUP on the kernel backend.
    pub fn expect_threads(&self) -> Result<()> {
        backend::expect_threads(self.number("expect_threads")?)
    }
}
