//! Growing arrays that are no part of the allocator's memory.

use super::sys::{Errno, call};

/// Values in a mapping of their own. A plain handle: it is freed by hand.
pub(crate) struct Table<T> {
    start: *mut T,
    len: usize,
    /// Bytes of the mapping.
    bytes: usize,
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Table<T> {}

/// Bytes of the first mapping.
const FIRST: usize = 16 * 1024;

impl<T: Copy> Table<T> {
    pub(crate) const fn new() -> Self {
        Self {
            start: std::ptr::null_mut(),
            len: 0,
            bytes: 0,
        }
    }

    /// Memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: so many have been written, and only this handle is in use.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// Room for so many more. ENOMEM.
    fn reserve(&mut self, more: usize) -> Result<(), Errno> {
        let wanted = (self.len + more) * size_of::<T>();
        if wanted <= self.bytes {
            return Ok(());
        }
        let bytes = wanted
            .max(self.bytes * 2)
            .max(FIRST)
            .next_multiple_of(FIRST);
        // SAFETY: a new private mapping, or ours made larger, wherever it fits.
        let at = unsafe {
            if self.bytes == 0 {
                call(
                    libc::SYS_mmap,
                    [
                        0,
                        bytes as u64,
                        (libc::PROT_READ | libc::PROT_WRITE) as u64,
                        (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64,
                        u64::MAX,
                        0,
                    ],
                )?
            } else {
                call(
                    libc::SYS_mremap,
                    [
                        self.start as u64,
                        self.bytes as u64,
                        bytes as u64,
                        libc::MREMAP_MAYMOVE as u64,
                        0,
                        0,
                    ],
                )?
            }
        };
        (self.start, self.bytes) = (at as *mut T, bytes);
        Ok(())
    }

    pub(crate) fn push(&mut self, value: T) -> Result<(), Errno> {
        self.reserve(1)?;
        // SAFETY: there is room for one behind the last.
        unsafe { self.start.add(self.len).write(value) };
        self.len += 1;
        Ok(())
    }

    /// So many more, of which any bytes are values; where they are.
    ///
    /// # Safety
    /// All bytes zero are a value of `T`.
    pub(crate) unsafe fn grow(&mut self, more: usize) -> Result<*mut T, Errno> {
        self.reserve(more)?;
        // SAFETY: inside the mapping, which is zero or has values.
        let at = unsafe { self.start.add(self.len) };
        self.len += more;
        Ok(at)
    }

    /// The last ones go; those that stay are so many.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The last takes the place of one that goes.
    pub(crate) fn swap_remove(&mut self, i: usize) {
        let last = self.len - 1;
        self.as_mut_slice().swap(i, last);
        self.len = last;
    }

    pub(crate) fn free(&mut self) {
        if self.bytes != 0 {
            // SAFETY: our own mapping, of which the only handle is this.
            let _ = unsafe {
                call(
                    libc::SYS_munmap,
                    [self.start as u64, self.bytes as u64, 0, 0, 0, 0],
                )
            };
        }
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_while_it_grows() {
        let mut t = Table::<u64>::new();
        assert!(t.as_slice().is_empty());
        for i in 0..50_000 {
            t.push(i).unwrap();
        }
        assert!(t.as_slice().iter().enumerate().all(|(i, &v)| i as u64 == v));
        t.swap_remove(0);
        assert_eq!((t.as_slice()[0], t.as_slice().len()), (49_999, 49_999));
        t.truncate(1);
        assert_eq!(t.as_mut_slice(), [49_999]);
        t.free();
        assert!(t.as_slice().is_empty());
    }
}
