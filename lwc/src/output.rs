//! What a context in a sandbox writes to its standard output and error.

use crate::backend;
use crate::error::Result;

/// Who is told of what the current context, and the copies that it makes from now on,
/// write to descriptor 1 or 2 once they are in a sandbox ([`confine`](crate::confine)):
/// which of the two, and bytes.
///
/// No descriptor is needed for it, nor used if there is one: write(2) and writev(2) of
/// these two numbers are not made. `told` runs in the context itself, as a handler of
/// a signal does (SIGSYS), and the call returns as if all had been written. So nobody
/// blocks, and nothing is shared with anybody that `told` does not share. It must do
/// nothing that such a handler may not, and is as trusted as the rest of the context:
/// code there can call it, or take the signal for itself.
///
/// Call it before the context enters its sandbox. Other calls on these numbers fail as
/// the sandbox has it (fstat(2), isatty(3), fsync(2)).
///
/// # Errors
/// What sigaction(2) says. ENOTSUP in a context whose system calls are trapped.
///
/// # Examples
/// ```
/// use lwc::{Confinement, Region};
///
/// let said = Region::new(lwc::page_size())?;
/// static SAID: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
/// let child = lwc::Builder::new().share(&said).spawn(|event| {
///     let parent = event.from().expect("switched to by the creator");
///     SAID.store(said.as_ptr() as usize, std::sync::atomic::Ordering::Relaxed);
///     lwc::catch_output(|_, bytes| {
///         let to = SAID.load(std::sync::atomic::Ordering::Relaxed) as *mut u8;
///         // SAFETY: the region is larger than what is written here.
///         unsafe { to.copy_from(bytes.as_ptr(), bytes.len()) };
///     })
///     .expect("a handler");
///     lwc::confine(Confinement::Strict).expect("a sandbox");
///     // Not println!, which a test's own harness catches.
///     // SAFETY: the bytes are there.
///     let n = unsafe { libc::write(1, b"hello".as_ptr().cast(), 5) };
///     loop {
///         let _ = parent.switch(&[n as u64]);
///     }
/// })?;
/// assert_eq!(child.switch(&[])?.args(), [5]);
/// let mut text = [0; 5];
/// said.read(0, &mut text);
/// assert_eq!(&text, b"hello");
/// # Ok::<(), lwc::Error>(())
/// ```
pub fn catch_output(told: fn(i32, &[u8])) -> Result<()> {
    backend::catch_output(told)
}
