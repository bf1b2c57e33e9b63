//! Regions: memory that is shared from the start.

use crate::backend::process::guard::Guard;
use crate::backend::process::state::memory;
use crate::error::Result;
use std::ptr::NonNull;

/// See [`Region::new`](crate::Region::new).
pub(crate) fn region_map(len: usize) -> Result<NonNull<u8>> {
    let mut guard = Guard::get("Region::new")?;
    memory::map_region(&mut guard.rt().objects, len)
}

/// Unmaps a region that the current context still has.
pub(crate) fn region_unmap(addr: usize, len: usize) {
    let Ok(mut guard) = Guard::get("Region") else {
        return;
    };
    let objects = &mut guard.rt().objects;
    let (start, end) = (addr as u64, (addr + len) as u64);
    objects.forget(start, end);
    // SAFETY: the addresses belong to the region, mapped or reserved, until
    // this moment, when its last user gives them up.
    unsafe { libc::munmap(addr as *mut libc::c_void, len) };
}

/// See [`Region::erase`](crate::Region::erase).
pub(crate) fn region_erase(addr: usize, len: usize) -> Result<()> {
    let mut guard = Guard::get("Region::erase")?;
    memory::erase(&guard.rt().objects, addr as u64, (addr + len) as u64);
    Ok(())
}

/// See [`Region::seal`](crate::Region::seal).
pub(crate) fn region_seal(addr: usize, len: usize) -> Result<()> {
    let mut guard = Guard::get("Region::seal")?;
    memory::seal(&guard.rt().objects, addr as u64, (addr + len) as u64)
}

/// See [`Region::make_read_only`](crate::Region::make_read_only).
pub(crate) fn region_read_only(addr: usize, len: usize) -> Result<()> {
    let mut guard = Guard::get("Region::make_read_only")?;
    memory::read_only(&guard.rt().objects, addr as u64, (addr + len) as u64)
}
