//! Pages that this context shares with others, and which others have them.
//!
//! On the process backend contexts tell each other things on pages that they
//! share: regions, control pages, and pages of the backend's own, of which
//! this crate knows nothing. They are found by trying every address near what
//! is mapped. To learn which others have one, a context that can write it leaves a
//! mark at its end, where nothing is that anybody reads meanwhile, and every
//! other context looks for the mark.

#[cfg(target_os = "linux")]
use super::AREAS;
use super::{READ, WRITE, can_read, can_write};
use std::ops::Range;
use std::sync::Mutex;

/// So far from what was mapped when it could be seen, new pages are looked for.
#[cfg(target_os = "linux")]
const REACH: usize = 256 << 20;

/// What marks have replaced here: addresses and words.
static REPLACED: Mutex<Vec<(usize, u64)>> = Mutex::new(Vec::new());

/// Ranges that no mark is left in.
static LEFT: Mutex<Vec<Range<usize>>> = Mutex::new(Vec::new());

/// Pages that were found by trying, which takes a while: none come later.
#[cfg(target_os = "linux")]
static TRIED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// A page that can be read, and that somebody else may have.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))] // there are none there
struct Page {
    start: usize,
    writable: bool,
}

/// Where a mark stands.
fn mark_of(page: usize) -> *mut u64 {
    (page + lwc::page_size() - size_of::<u64>()) as *mut u64
}

/// The next mark leaves a range out.
pub(super) fn leave(range: Range<usize>) {
    if let Ok(mut left) = LEFT.lock() {
        left.push(range);
    }
}

/// Leaves a mark on shared pages that can be written: inside some ranges, or
/// on all others but those that are left out. Returns how many.
pub(super) fn mark(tag: u64, inside: bool, ranges: &[Range<usize>]) -> u64 {
    let Ok(mut replaced) = REPLACED.lock() else {
        return 0;
    };
    let left = LEFT.lock().map(|mut l| std::mem::take(&mut *l));
    let left = left.unwrap_or_default();
    let mut marked = 0;
    for page in shared().iter().filter(|p| p.writable) {
        let named = ranges.iter().any(|r| r.contains(&page.start));
        if named != inside || left.iter().any(|r| r.contains(&page.start)) {
            continue;
        }
        let at = mark_of(page.start);
        // SAFETY: the page can be written (asked just now, one thread), the
        // word lies in it and is aligned; no reference to it exists.
        unsafe {
            replaced.push((at as usize, at.read_volatile()));
            at.write_volatile(tag);
        }
        marked += 1;
    }
    marked
}

/// Takes all marks of this context back.
pub(super) fn unmark() {
    let Ok(mut replaced) = REPLACED.lock() else {
        return;
    };
    for (at, old) in replaced.drain(..).rev() {
        if can_read(at) && can_write(at) {
            // SAFETY: as in `mark`.
            unsafe { (at as *mut u64).write_volatile(old) };
        }
    }
}

/// READ if a page with a mark is here, WRITE if one can be written.
pub(super) fn seek(tag: u64) -> u64 {
    let mut found = 0;
    for page in shared() {
        // SAFETY: the page can be read (asked just now, one thread), and the
        // word lies in it and is aligned.
        if unsafe { mark_of(page.start).read_volatile() } == tag {
            found |= READ | if page.writable { WRITE } else { 0 };
        }
    }
    found
}

/// One process: contexts share no pages but regions and control pages.
#[cfg(not(target_os = "linux"))]
fn shared() -> Vec<Page> {
    Vec::new()
}

/// Shared pages, by what the system says where it may be asked, else by trying.
#[cfg(target_os = "linux")]
fn shared() -> Vec<Page> {
    let seen = super::areas_now();
    let pages: Vec<usize> = if seen.is_empty() {
        TRIED.lock().map_or_else(
            |_| Vec::new(),
            |mut tried| {
                if tried.is_empty() {
                    *tried = by_trying();
                }
                tried.clone()
            },
        )
    } else {
        let shared = seen.into_iter().filter(|a| a.shared);
        shared
            .flat_map(|a| a.range.step_by(lwc::page_size()))
            .collect()
    };
    pages
        .into_iter()
        .filter(|&start| can_read(start))
        .map(|start| Page {
            start,
            writable: can_write(mark_of(start) as usize),
        })
        .collect()
}

/// What was private when it could be seen is private now, or gone; the rest of
/// what is near may be anything.
#[cfg(target_os = "linux")]
fn by_trying() -> Vec<usize> {
    let size = lwc::page_size();
    let known = AREAS.lock().map(|a| a.clone()).unwrap_or_default();
    let near: Vec<Range<usize>> = known
        .iter()
        .filter(|a| a.shared)
        .map(|a| a.range.start.saturating_sub(REACH)..a.range.end.saturating_add(REACH))
        .collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = near
        .iter()
        .filter(|r| r.end > at)
        .map(|r| r.start.max(at))
        .min()
    {
        let mut private = known.iter().filter(|a| !a.shared);
        if let Some(area) = private.find(|a| a.range.contains(&next)) {
            at = area.range.end;
            continue;
        }
        if can_read(next) && is_shared(next) {
            found.push(next);
        }
        at = next + size;
    }
    found
}

/// Whether a page that is mapped is a shared one: with a length of 0 mremap(2)
/// maps such a page once more, and no other.
#[cfg(target_os = "linux")]
fn is_shared(page: usize) -> bool {
    let size = lwc::page_size();
    // SAFETY: makes a second mapping elsewhere, of which nobody knows but us,
    // and takes it away again; the first stays as it is.
    unsafe {
        let again = libc::mremap(page as *mut libc::c_void, 0, size, libc::MREMAP_MAYMOVE);
        if again == libc::MAP_FAILED {
            // Where the call is forbidden it counts as one.
            return nix::errno::Errno::last() != nix::errno::Errno::EINVAL;
        }
        libc::munmap(again, size);
    }
    true
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_and_taken_back() {
        let region = lwc::Region::new(2 * lwc::page_size()).unwrap();
        let private = vec![0u8; 4 * lwc::page_size()];
        let tag = 0x1234_5678_9abc_def1;
        let range = region.range();
        assert_eq!(mark(tag, true, std::slice::from_ref(&range)), 2);
        assert_eq!(seek(tag), READ | WRITE);
        let mut word = [0; 8];
        region.read(lwc::page_size() - 8, &mut word);
        assert_eq!(u64::from_ne_bytes(word), tag);
        unmark();
        assert_eq!(seek(tag), 0);
        region.read(lwc::page_size() - 8, &mut word);
        assert_eq!(word, [0; 8]);
        assert!(private.iter().all(|&b| b == 0));
    }
}
