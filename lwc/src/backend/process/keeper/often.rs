//! Pages that are written in each invocation.

/// Which pages were put back last, as many as are noted.
///
/// A page that is written in each invocation, as the top of a stack is, costs less if it
/// is put back without being asked about: the processor's fault when it is written, and a
/// call for that to come. So a page that was put back the last time as well does not count
/// as unwritten afterwards, and is among the written ones from then on. All are asked
/// about again now and then.
#[derive(Clone, Copy)]
pub(crate) struct Often {
    last: [u64; OFTEN],
    now: [u64; OFTEN],
    noted: usize,
    times: u32,
}

/// So many pages are noted.
pub(crate) const OFTEN: usize = 32;
/// After so many rollbacks they are all asked about again.
const ASKED_AGAIN: u32 = 64;
/// No page is there.
const NO_PAGE: u64 = u64::MAX;

impl Often {
    pub(crate) const fn new() -> Self {
        Self {
            last: [NO_PAGE; OFTEN],
            now: [NO_PAGE; OFTEN],
            noted: 0,
            times: 0,
        }
    }

    /// A page is put back. Whether it was the last time, too.
    pub(crate) fn put_back(&mut self, page: u64) -> bool {
        if let Some(place) = self.now.get_mut(self.noted) {
            *place = page;
            self.noted += 1;
        }
        self.last.contains(&page)
    }

    /// The rollback is done.
    pub(crate) fn done(&mut self) {
        self.times += 1;
        let again = self.times.is_multiple_of(ASKED_AGAIN);
        self.last = if again { [NO_PAGE; OFTEN] } else { self.now };
        self.now = [NO_PAGE; OFTEN];
        self.noted = 0;
    }
}
