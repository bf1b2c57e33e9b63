//! Regions: page-aligned memory that contexts can share.

use crate::backend;
use crate::error::{Error, Result};
use crate::page_size;
use crate::spec::{Access, Spec, What};
use nix::errno::Errno;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, compiler_fence};

/// Page-aligned, zeroed memory, mapped shared: every context made while it is
/// mapped sees the same bytes, unless a specifier says otherwise.
///
/// The bytes may change whenever another context runs, so access is by copy
/// ([`read`](Region::read), [`write`](Region::write)) or by raw pointer.
/// Dropping a region unmaps it from the current context alone.
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

    /// Copies `out.len()` bytes from `offset` on out of the region. Each byte is
    /// read once: `out` is what was copied, whoever goes on writing.
    ///
    /// # Panics
    /// When the bytes asked for are not all in the region.
    #[inline]
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        assert!(offset <= self.len && out.len() <= self.len - offset);
        // SAFETY: the source lies inside the mapping (asserted), which lives
        // as long as `self`; `out` is ours alone and so does not overlap it.
        // No reference to the shared bytes is ever made.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.as_ptr().add(offset).cast_const(),
                out.as_mut_ptr(),
                out.len(),
            );
        }
        // Who writes here may do so at any moment: the compiler must not take
        // the bytes from the region a second time, instead of from `out`.
        compiler_fence(Ordering::SeqCst);
    }

    /// Copies `bytes` into the region at `offset`.
    ///
    /// The context faults (SIGSEGV) when the region is read-only in it.
    ///
    /// # Panics
    /// When the bytes do not all fit behind `offset`.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.len && bytes.len() <= self.len - offset);
        // SAFETY: as in `read`, with the roles exchanged.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.as_ptr().add(offset), bytes.len());
        }
    }

    /// Writes zeros over `len` bytes from `offset` on.
    ///
    /// The context faults (SIGSEGV) when the region is read-only in it.
    ///
    /// # Panics
    /// When the bytes are not all in the region.
    pub fn clear(&self, offset: usize, len: usize) {
        assert!(offset <= self.len && len <= self.len - offset);
        // SAFETY: as in `write`; zeros come from nowhere.
        unsafe { std::ptr::write_bytes(self.as_ptr().add(offset), 0, len) };
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

impl Drop for Region {
    fn drop(&mut self) {
        backend::region_unmap(self.as_ptr() as usize, self.len);
    }
}

impl Spec {
    /// All of a region.
    pub fn region(region: &Region, access: Access) -> Self {
        let start = region.as_ptr() as u64;
        Self::new(What::Memory(start, start + region.len() as u64), access)
    }
}
