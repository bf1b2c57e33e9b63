//! Shared mappings of memory files.

use super::fds::sealed_memfd;
use crate::error::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;

/// Pages are at most so large. What is laid out beside each other in a file is
/// mapped alone, and so has to begin on a page.
const LARGEST_PAGE: usize = if cfg!(target_arch = "x86_64") {
    4096
} else {
    65_536
};

/// A shared mapping of a `T` that is atomics alone; unmapped on drop.
pub(crate) struct Mapped<T>(NonNull<T>);

impl<T> Mapped<T> {
    /// Bytes of the mapping.
    pub(crate) const LEN: usize = size_of::<T>().next_multiple_of(LARGEST_PAGE);

    /// Makes a memory file for a `T`, zeroed, of a size that nobody can change.
    pub(crate) fn file(name: &std::ffi::CStr) -> Result<OwnedFd> {
        sealed_memfd(name, Self::LEN)
    }

    /// Maps a file made by [`Mapped::file`], to read and write.
    pub(crate) fn map(fd: impl AsFd) -> Result<Self> {
        Self::map_at(fd, 0)
    }

    /// Maps a part of a larger file, from a page boundary on.
    pub(crate) fn map_at(fd: impl AsFd, offset: usize) -> Result<Self> {
        Self::map_as(fd, offset, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// Maps a file to be read. What is stored through it is a fault; of a
    /// file under [`seal_writes`] nobody can make the mapping writable.
    pub(crate) fn map_to_read(fd: impl AsFd) -> Result<Self> {
        Self::map_as(fd, 0, libc::PROT_READ)
    }

    fn map_as(fd: impl AsFd, offset: usize, prot: i32) -> Result<Self> {
        // SAFETY: a new shared mapping at an address the kernel picks; `T` is
        // made of atomics, for which any bytes are a value.
        let ptr = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::LEN,
                prot,
                libc::MAP_SHARED,
                fd.as_fd().as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if ptr == libc::MAP_FAILED {
            return Err(Error::last("mmap", "a page of a context"));
        }
        NonNull::new(ptr.cast())
            .map(Self)
            .ok_or_else(|| Error::last("mmap", "a page at address zero"))
    }

    /// Whether contexts forked from now on have the mapping too.
    pub(crate) fn inherit(&self, yes: bool) {
        let advice = if yes {
            libc::MADV_DOFORK
        } else {
            libc::MADV_DONTFORK
        };
        // SAFETY: advice on our own mapping, no byte of it changes here.
        unsafe { libc::madvise(self.0.as_ptr().cast(), Self::LEN, advice) };
    }

    /// A second mapping of the same memory, with the same protection.
    pub(crate) fn again(&self) -> Result<Self> {
        // SAFETY: with an old size of 0, mremap(2) maps a shared mapping once
        // more elsewhere and leaves the first alone.
        let ptr =
            unsafe { libc::mremap(self.0.as_ptr().cast(), 0, Self::LEN, libc::MREMAP_MAYMOVE) };
        if ptr == libc::MAP_FAILED {
            return Err(Error::last("mremap", "a page of a context"));
        }
        NonNull::new(ptr.cast())
            .map(Self)
            .ok_or_else(|| Error::last("mremap", "a page at address zero"))
    }

    /// Moves the mapping to an address where nothing is.
    pub(crate) fn move_to(&mut self, to: u64) -> Result<()> {
        // SAFETY: first a mapping that the kernel makes only where nothing is,
        // then ours over it, as a whole; the old address is forgotten below.
        let moved = unsafe {
            let free = libc::mmap(
                to as *mut libc::c_void,
                Self::LEN,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            );
            if free as u64 != to {
                return Err(Error::last("mmap", "a place for a page of a context"));
            }
            libc::mremap(
                self.0.as_ptr().cast(),
                Self::LEN,
                Self::LEN,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                free,
            )
        };
        match NonNull::new(moved.cast()).filter(|_| moved != libc::MAP_FAILED) {
            Some(ptr) => {
                self.0 = ptr;
                Ok(())
            }
            None => Err(Error::last("mremap", "a page of a context")),
        }
    }

    /// The address, to take over an inherited mapping in a new context.
    pub(crate) fn ptr(&self) -> NonNull<T> {
        self.0
    }

    /// Takes over a mapping that this context inherited.
    ///
    /// # Safety
    /// `ptr` must be a mapping made here that the current context has and that
    /// no other `Mapped` of it owns.
    pub(crate) unsafe fn adopt(ptr: NonNull<T>) -> Self {
        Self(ptr)
    }
}

impl<T> std::ops::Deref for Mapped<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the mapping lives as long as `self`, is aligned to pages and
        // large enough, and `T` is atomics alone, so that writers in other
        // processes are no data race.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and no reference outlives `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), Self::LEN) };
    }
}

/// From now on nobody can map the file writable, write(2) to it, or make a
/// mapping of it writable; the writable mappings that there are stay so.
pub(crate) fn seal_writes(fd: impl AsFd) -> Result<()> {
    // SAFETY: adds a seal to a memory file of our own.
    if unsafe {
        libc::fcntl(
            fd.as_fd().as_raw_fd(),
            libc::F_ADD_SEALS,
            libc::F_SEAL_FUTURE_WRITE,
        )
    } != 0
    {
        return Err(Error::last("fcntl", "sealing a page of a context"));
    }
    Ok(())
}
