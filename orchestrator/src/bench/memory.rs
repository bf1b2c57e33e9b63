//! Memory to be written by contexts and processes, a page at a time.

use lwc::{Access, Spec};

/// Private memory, page-aligned.
#[derive(Debug)]
pub struct Memory {
    at: *mut u8,
    len: usize,
}

impl Memory {
    /// So many bytes in small pages, as figures count them; each page of them
    /// touched or none.
    ///
    /// # Panics
    /// When the system has none.
    pub fn new(len: usize, touched: bool) -> Self {
        Self::with(len, touched, false)
    }

    /// So many bytes, all touched, in large pages where the system has those.
    ///
    /// # Panics
    /// When the system has none.
    pub fn large(len: usize) -> Self {
        Self::with(len, true, true)
    }

    fn with(len: usize, touched: bool, large: bool) -> Self {
        // SAFETY: a new private mapping at an address that the system picks.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert!(at != libc::MAP_FAILED, "mmap of {len} bytes");
        #[cfg(target_os = "linux")]
        {
            let pages = if large {
                libc::MADV_HUGEPAGE
            } else {
                libc::MADV_NOHUGEPAGE
            };
            // SAFETY: advice on our own mapping; where the system knows no large
            // pages it fails, which is as well.
            unsafe { libc::madvise(at, len, pages) };
        }
        let _ = large;
        let memory = Self { at: at.cast(), len };
        if touched {
            memory.write(len / lwc::page_size());
        }
        memory
    }

    /// Its addresses.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.at as usize..self.at as usize + self.len
    }

    /// Writes a byte of each of the first `pages`.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn write(&self, pages: usize) {
        assert!(pages * lwc::page_size() <= self.len);
        for page in 0..pages {
            // SAFETY: inside the mapping (asserted), which is ours alone.
            unsafe {
                self.at
                    .add(page * lwc::page_size())
                    .write_volatile(page as u8);
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Not munmap(2): the backend must know where memory that was shared
        // is no more.
        // SAFETY: our own mapping, which nobody uses any more.
        let _ = unsafe { lwc::unmap_self(&[Spec::memory(self.range(), Access::Unmap)]) };
    }
}
