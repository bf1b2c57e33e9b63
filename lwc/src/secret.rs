//! Secrets: bytes on pages of their own, locked, undumped, wiped.

use crate::error::{Error, Result};
use crate::page::page_size;
use crate::spec::{Access, Spec, What};
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use zeroize::Zeroize;

/// Bytes that must not leave this context's memory: on pages of their own
/// (so that a specifier can name them), locked in memory (mlock(2)), left out
/// of core dumps, wiped and unmapped on drop, never printed.
///
/// A new context gets a copy-on-write copy like of any private memory; leave
/// it out with [`Builder::without`](crate::Builder::without) or
/// [`Spec::unmap_secret`]. Locks are not inherited: [`lock`](Self::lock) again
/// where the copy is kept.
///
/// ```
/// use lwc::Secret;
///
/// let key = Secret::take(b"hunter2".to_vec())?;
/// assert_eq!(&key[..], b"hunter2");
/// assert_eq!(format!("{key:?}"), "Secret(7 bytes)");
/// # Ok::<(), lwc::Error>(())
/// ```
pub struct Secret {
    ptr: NonNull<u8>,
    len: usize,
    mapped: usize,
}

impl Secret {
    /// A secret of `len` zero bytes.
    ///
    /// # Errors
    /// ENOMEM, EAGAIN from mmap(2) and mlock(2); for mlock the remedy is a
    /// higher `ulimit -l`.
    pub fn zeroed(len: usize) -> Result<Self> {
        let page = page_size();
        let mapped = len
            .max(1)
            .checked_next_multiple_of(page)
            .filter(|&l| l <= isize::MAX as usize)
            .ok_or_else(|| {
                Error::new(
                    "Secret::zeroed",
                    nix::errno::Errno::EINVAL,
                    format!("a secret of {len} bytes"),
                )
            })?;
        // SAFETY: a fresh anonymous mapping at an address the kernel picks;
        // it overlaps nothing.
        let ptr = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANON,
                -1,
                0,
            )
        };
        if ptr == libc::MAP_FAILED {
            return Err(Error::last("mmap", format!("a secret of {len} bytes")));
        }
        let Some(ptr) = NonNull::new(ptr.cast::<u8>()) else {
            return Err(Error::last("mmap", "a secret at address zero"));
        };
        let secret = Self { ptr, len, mapped };
        secret.lock()?;
        #[cfg(target_os = "linux")]
        let advice = libc::MADV_DONTDUMP;
        #[cfg(not(target_os = "linux"))]
        let advice = libc::MADV_NOCORE;
        // SAFETY: the range is our own mapping; the advice changes no byte.
        if unsafe { libc::madvise(secret.ptr.as_ptr().cast(), mapped, advice) } != 0 {
            return Err(Error::last("madvise", "keeping a secret out of core dumps"));
        }
        Ok(secret)
    }

    /// Moves bytes in and wipes where they came from.
    ///
    /// # Errors
    /// As [`Secret::zeroed`]; the source is wiped all the same.
    pub fn take(mut bytes: Vec<u8>) -> Result<Self> {
        let secret = Self::zeroed(bytes.len());
        let secret = secret.map(|mut s| {
            s.copy_from_slice(&bytes);
            s
        });
        bytes.zeroize();
        secret
    }

    /// Locks the pages in memory, as a copy in a new context must anew.
    ///
    /// # Errors
    /// ENOMEM, EAGAIN, EPERM from mlock(2): raise `ulimit -l`.
    pub fn lock(&self) -> Result<()> {
        // SAFETY: locking our own mapping changes no byte of it.
        if unsafe { libc::mlock(self.ptr.as_ptr().cast(), self.mapped) } != 0 {
            return Err(Error::last(
                "mlock",
                format!(
                    "locking {} bytes for a secret; see `ulimit -l`",
                    self.mapped
                ),
            ));
        }
        Ok(())
    }

    /// The pages it lives on, for specifiers.
    pub fn pages(&self) -> Range<usize> {
        let start = self.ptr.as_ptr() as usize;
        start..start + self.mapped
    }
}

impl<'a> Spec<'a> {
    /// A secret is not there, and whatever reads it faults.
    pub fn unmap_secret(secret: &'a Secret) -> Self {
        let pages = secret.pages();
        let what = What::Memory(pages.start as u64, pages.end as u64);
        Self::new(what, Access::Unmap)
    }
}

impl Deref for Secret {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is private, initialised (zeroed by the kernel),
        // lives as long as `self`, and only `&mut self` can change it.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for Secret {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.deref_mut().zeroize();
        // SAFETY: unmapping our own mapping, which nothing refers to any more.
        unsafe { libc::munmap(self.ptr.as_ptr().cast(), self.mapped) };
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_shows_no_byte_and_the_source_is_wiped() {
        let secret = Secret::take(b"hunter2".to_vec()).unwrap();
        assert_eq!(&secret[..], b"hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(7 bytes)");
    }

    #[test]
    fn pages_are_its_own_and_go_on_drop() {
        let secret = Secret::zeroed(1).unwrap();
        let pages = secret.pages();
        assert_eq!(pages.start % super::page_size(), 0);
        assert_eq!(pages.len(), super::page_size());
        drop(secret);
        // SAFETY: mincore only looks whether the page is mapped.
        let rc = unsafe {
            let mut vec = 0u8;
            libc::mincore(pages.start as *mut _, 1, (&raw mut vec).cast())
        };
        assert_eq!(rc, -1, "the page is still mapped");
    }
}
