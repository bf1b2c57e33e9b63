//! Regions: page-aligned memory that contexts can share.

use crate::backend;
use crate::error::{Error, Result};
use crate::page::page_size;
use crate::spec::{Access, Spec, What};
use crate::volatile;
use nix::errno::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

/// Page-aligned, zeroed memory, mapped shared: every context made while it is
/// mapped sees the same bytes, unless a specifier says otherwise.
///
/// The bytes may change whenever another context runs, on the process backend
/// also while this one does, if it is hostile. So there is no reference to them:
/// they are copied in and out ([`read`](Region::read), [`write`](Region::write)),
/// as values ([`get`](Region::get), [`set`](Region::set)) or by the system
/// ([`read_from`](Region::read_from), [`write_to`](Region::write_to)), each byte
/// once. Dropping a region unmaps it from the current context alone.
///
/// ```
/// use lwc::{Flags, Region};
///
/// let region = Region::new(1)?; // a page
/// let child = lwc::spawn(&[], Flags::empty(), |event| {
///     let parent = event.from().expect("switched to by the creator");
///     let n: u32 = region.get(0);
///     region.set(0, n + 1);
///     // From now on it can be read here, and not written by any code.
///     let sealed = region.seal().and_then(|()| region.make_read_only());
///     loop {
///         let _ = parent.switch(&[sealed.is_ok().into()]);
///     }
/// })?;
/// region.set(0, 41u32);
/// assert_eq!(child.switch(&[])?.args(), [1]);
/// assert_eq!(region.get::<u32>(0), 42);
/// # Ok::<(), lwc::Error>(())
/// ```
#[derive(Debug)]
pub struct Region {
    ptr: NonNull<u8>,
    len: usize,
}

impl Region {
    /// Maps a region of at least `len` bytes, rounded up to whole pages.
    ///
    /// # Errors
    /// EINVAL for a length of zero or one that cannot be rounded up; ENOMEM,
    /// EMFILE from the system.
    pub fn new(len: usize) -> Result<Self> {
        let page = page_size();
        let len = len
            .checked_next_multiple_of(page)
            .filter(|&l| l > 0 && l <= isize::MAX as usize)
            .ok_or_else(|| {
                Error::new(
                    "Region::new",
                    Errno::EINVAL,
                    format!("a region of {len} bytes"),
                )
            })?;
        let ptr = backend::region_map(len)?;
        Ok(Self { ptr, len })
    }

    /// The first byte. Valid in every context that has the region.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// The length in bytes: whole pages.
    #[allow(clippy::len_without_is_empty)] // never empty
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The addresses it covers.
    pub fn range(&self) -> std::ops::Range<usize> {
        let start = self.ptr.as_ptr() as usize;
        start..start + self.len
    }

    /// The address of `len` bytes at `offset`.
    #[inline]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset <= self.len && len <= self.len - offset,
            "{len} bytes at {offset} of a region of {}",
            self.len
        );
        // SAFETY: inside the mapping, as asserted.
        unsafe { self.as_ptr().add(offset) }
    }

    /// Copies `out.len()` bytes from `offset` on out of the region. Each byte is
    /// read once: `out` is what was copied, whoever goes on writing.
    ///
    /// # Panics
    /// When the bytes asked for are not all in the region.
    #[inline]
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        let from = self.at(offset, out.len());
        // SAFETY: the source lies inside the mapping, which lives as long as
        // `self`; no reference to the shared bytes is ever made.
        unsafe { volatile::read(from, out) };
    }

    /// Copies `bytes` into the region at `offset`.
    ///
    /// The context faults (SIGSEGV) when the region is read-only in it.
    ///
    /// # Panics
    /// When the bytes do not all fit behind `offset`.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        // SAFETY: as in `read`, with the roles exchanged.
        unsafe { volatile::write(to, bytes) };
    }

    /// The value at `offset`, which need not be aligned for it. It is read once;
    /// its bytes may be of different writes, if somebody writes meanwhile.
    ///
    /// # Panics
    /// When its bytes are not all in the region.
    ///
    /// # Examples
    /// ```
    /// let region = lwc::Region::new(1)?;
    /// region.set(8, [1u32, 2]);
    /// assert_eq!(region.get::<u64>(8).to_ne_bytes()[..4], 1u32.to_ne_bytes());
    /// # Ok::<(), lwc::Error>(())
    /// ```
    #[inline]
    pub fn get<T: Plain>(&self, offset: usize) -> T {
        let from = self.at(offset, size_of::<T>());
        let mut value = MaybeUninit::<T>::zeroed();
        if size_of::<T>() == size_of::<u64>() && from.addr().is_multiple_of(align_of::<u64>()) {
            // SAFETY: one aligned word of the source, as in `read`; as many bytes of the
            // value's, which are all initialised then, and any bytes are a value of a
            // `Plain` type.
            return unsafe {
                let word = from.cast::<u64>().read_volatile();
                value.as_mut_ptr().cast::<u64>().write_unaligned(word);
                value.assume_init()
            };
        }
        // SAFETY: the source as in `read`. The destination is the value's own
        // bytes, all of them initialised, and any bytes are a value of a `Plain`
        // type.
        unsafe {
            let bytes = std::slice::from_raw_parts_mut(value.as_mut_ptr().cast(), size_of::<T>());
            volatile::read(from, bytes);
            value.assume_init()
        }
    }

    /// Writes a value at `offset`, which need not be aligned for it.
    ///
    /// The context faults (SIGSEGV) when the region is read-only in it.
    ///
    /// # Panics
    /// When its bytes do not all fit behind `offset`.
    #[inline]
    pub fn set<T: Plain>(&self, offset: usize, value: T) {
        let to = self.at(offset, size_of::<T>());
        if size_of::<T>() == size_of::<u64>() && to.addr().is_multiple_of(align_of::<u64>()) {
            // SAFETY: one aligned word of the destination, as in `write`; as many bytes of
            // a value without padding.
            return unsafe {
                let word = (&raw const value).cast::<u64>().read_unaligned();
                to.cast::<u64>().write_volatile(word);
            };
        }
        // SAFETY: the destination as in `write`; the source is a value without
        // padding, as `Plain` types are.
        unsafe {
            let bytes = std::slice::from_raw_parts((&raw const value).cast(), size_of::<T>());
            volatile::write(to, bytes);
        }
    }

    /// Reads from a descriptor into the region, at `offset`, until there are `len`
    /// bytes or the file ends: how many. They are nowhere else in this context.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (mut ours, theirs) = UnixStream::pair()?;
    /// let region = lwc::Region::new(16)?;
    /// ours.write_all(b"an input")?;
    /// drop(ours);
    /// assert_eq!(region.read_from(0, 16, &theirs)?, 8);
    /// assert_eq!(region.get::<[u8; 8]>(0), *b"an input");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// What read(2) says, but EINTR; bytes that had come are in the region.
    ///
    /// # Panics
    /// When the bytes do not all fit behind `offset`.
    pub fn read_from(&self, offset: usize, len: usize, from: impl AsFd) -> Result<usize> {
        let (at, fd) = (self.at(offset, len), from.as_fd().as_raw_fd());
        let mut done = 0;
        while done < len {
            // SAFETY: the system writes inside the mapping, where no reference
            // leads.
            let n = unsafe { libc::read(fd, at.add(done).cast(), len - done) };
            match n {
                0 => break,
                1.. => done += n as usize,
                _ if Errno::last() == Errno::EINTR => {}
                _ => {
                    let what = format!("{done} of {len} bytes read from descriptor {fd}");
                    return Err(Error::last("Region::read_from", what));
                }
            }
        }
        Ok(done)
    }

    /// Writes `len` bytes from `offset` on to a descriptor, all of them. Others
    /// may go on writing them: what is written is what was there at that time.
    ///
    /// # Errors
    /// What write(2) says, but EINTR; a part may have been written.
    ///
    /// # Panics
    /// When the bytes are not all in the region.
    pub fn write_to(&self, offset: usize, len: usize, to: impl AsFd) -> Result<()> {
        self.write_after(&[], offset, len, to)
    }

    /// Writes `before`, then `len` bytes from `offset` on, to a descriptor, all of them
    /// and as one piece where the descriptor takes as much: who waits at its other end
    /// is woken once. Otherwise as [`write_to`](Self::write_to).
    ///
    /// # Errors
    /// What writev(2) says, but EINTR; a part may have been written.
    ///
    /// # Panics
    /// When the bytes are not all in the region.
    pub fn write_after(
        &self,
        before: &[u8],
        offset: usize,
        len: usize,
        to: impl AsFd,
    ) -> Result<()> {
        let (at, fd) = (self.at(offset, len), to.as_fd().as_raw_fd());
        let all = before.len() + len;
        let mut done = 0;
        while done < all {
            let head = &before[done.min(before.len())..];
            let sent = done.saturating_sub(before.len());
            let parts = [
                libc::iovec {
                    iov_base: head.as_ptr().cast_mut().cast(),
                    iov_len: head.len(),
                },
                libc::iovec {
                    // SAFETY: inside the mapping: at most `len` bytes of it were sent.
                    iov_base: unsafe { at.add(sent) }.cast(),
                    iov_len: len - sent,
                },
            ];
            // SAFETY: the system reads what is left of `before` and of what `at` checked,
            // inside the mapping, and writes neither.
            let n = unsafe { libc::writev(fd, parts.as_ptr(), 2) };
            match n {
                1.. => done += n as usize,
                -1 if Errno::last() == Errno::EINTR => {}
                _ => {
                    let what = format!("{done} of {all} bytes written to descriptor {fd}");
                    return Err(Error::last("Region::write_to", what));
                }
            }
        }
        Ok(())
    }

    /// Writes zeros over `len` bytes from `offset` on.
    ///
    /// The context faults (SIGSEGV) when the region is read-only in it.
    ///
    /// # Panics
    /// When the bytes are not all in the region.
    pub fn clear(&self, offset: usize, len: usize) {
        let to = self.at(offset, len);
        // SAFETY: as in `write`; zeros come from nowhere.
        unsafe { volatile::clear(to, len) };
    }

    /// Writes zeros over all that was ever written to the region, by whomever,
    /// also to what the system has moved out to swap. Pages that nobody ever
    /// used stay without memory where the system tells which these are.
    ///
    /// The context faults (SIGSEGV) when the region is read-only in it.
    ///
    /// # Errors
    /// None on a region that the current context has.
    pub fn erase(&self) -> Result<()> {
        backend::region_erase(self.as_ptr() as usize, self.len)
    }

    /// From now on nobody can gain the right to write the region: mappings
    /// that can write (here, and in contexts that inherit them) stay as they
    /// are; whoever maps it anew, or calls [`make_read_only`](Self::make_read_only),
    /// can read alone and never get more.
    ///
    /// # Errors
    /// What the system says (`F_ADD_SEALS`, fcntl(2)).
    pub fn seal(&self) -> Result<()> {
        backend::region_seal(self.as_ptr() as usize, self.len)
    }

    /// Gives up writing in the current context, for ever: on a
    /// [sealed](Self::seal) region not even hostile code gets it back by
    /// mprotect(2) (process backend: mapped anew from a sealed memory file;
    /// kernel backend: the mapping's maximum protection).
    ///
    /// # Errors
    /// What the system says (mmap(2), mprotect(2)).
    pub fn make_read_only(&self) -> Result<()> {
        backend::region_read_only(self.as_ptr() as usize, self.len)
    }
}

/// Types of which any bytes are a value, and that have no padding: integers,
/// floating-point numbers, and arrays of them.
pub trait Plain: Copy + sealed::Plain {}

mod sealed {
    /// # Safety
    /// Any bytes are a value, and every byte of a value is initialised.
    pub unsafe trait Plain {}
}

macro_rules! plain {
    ($($ty:ty)*) => {$(
        // SAFETY: a number has no padding, and no bytes that are none.
        unsafe impl sealed::Plain for $ty {}
        impl Plain for $ty {}
    )*};
}

plain!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);

// SAFETY: the elements are such, and nothing is between them.
unsafe impl<T: sealed::Plain, const N: usize> sealed::Plain for [T; N] {}
impl<T: Plain, const N: usize> Plain for [T; N] {}

impl Drop for Region {
    fn drop(&mut self) {
        backend::region_unmap(self.as_ptr() as usize, self.len);
    }
}

impl<'a> Spec<'a> {
    /// All of a region.
    pub fn region(region: &'a Region, access: Access) -> Self {
        let start = region.as_ptr() as u64;
        Self::new(What::Memory(start, start + region.len() as u64), access)
    }
}
