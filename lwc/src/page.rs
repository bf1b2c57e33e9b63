//! The page: what memory is shared and protected by.

use std::sync::OnceLock;

/// The page size of this machine, in bytes: asked of the system, once.
///
/// ```
/// assert!(lwc::page_size().is_power_of_two());
/// assert_eq!(lwc::Region::new(1)?.len(), lwc::page_size());
/// # Ok::<(), lwc::Error>(())
/// ```
pub fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| {
        // SAFETY: sysconf reads a constant of the system and touches no
        // memory of ours.
        let n = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(n).unwrap_or(4096)
    })
}
