//! Names of contexts that cannot come to name another one.
//!
//! The system gives the number of a closed descriptor to the next one that is
//! opened. So a [`Handle`] is a number and which use of that number it is: what
//! this crate closes is counted here, and a handle of a use that is over is
//! refused. [`Context`](crate::Context)s are counted, too: the last one of a
//! descriptor closes it.

use crate::error::{Error, Result};
use nix::errno::Errno;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// A context, as the current one knows it: a descriptor of its table that
/// somebody else keeps open.
///
/// A [`Context`](crate::Context) owns its descriptor, and lends it as a handle.
/// That of a caller ([`Event::from`](crate::Event::from)) has no owner at first:
/// there is one however often the caller comes ([contract
/// 3.3](crate::contract#c3-3)), and it stays open until somebody becomes its
/// owner ([`Context::own`](crate::Context::own)) and closes it, or until the
/// current context ends.
///
/// A handle can be copied and kept, and cannot lie. Once the descriptor is closed
/// every call on it fails with EBADF, also when the number is another context's
/// since. No safe code makes one of a number that it has not got from this crate,
/// and none closes a descriptor by it.
///
/// ```
/// use lwc::{Errno, Flags};
///
/// let child = lwc::spawn(&[], Flags::empty(), |event| {
///     let parent = event.from().expect("switched to by the creator");
///     loop {
///         let _ = parent.switch(&[]);
///     }
/// })?;
/// let handle = child.handle();
/// handle.switch(&[])?;
/// drop(child);
/// assert_eq!(handle.switch(&[]).unwrap_err().errno(), Errno::EBADF);
/// # Ok::<(), lwc::Error>(())
/// ```
///
/// It does not leave its thread: a context belongs to a process with one. What
/// another thread closes all the same, by its number, is closed for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle {
    fd: RawFd,
    /// Which use of the number.
    nth: NonZeroU32,
    /// Neither Send nor Sync.
    here: PhantomData<*const ()>,
}

impl Handle {
    /// The handle of a number that is a context's descriptor now.
    #[inline]
    pub(crate) fn of(fd: RawFd) -> Self {
        Self {
            fd,
            nth: NUMBERS.nth(fd),
            here: PhantomData,
        }
    }

    /// The handle of a descriptor number.
    ///
    /// [`Context::introduced`](crate::Context::introduced) looks whether there is
    /// a context and needs no promise.
    ///
    /// # Safety
    /// The number is a context's descriptor for as long as the handle is used,
    /// and not one that other code relies on to be its own; or the calls that
    /// are made may meet whatever has that number (EBADF if it is no context).
    #[inline]
    pub unsafe fn from_raw(fd: RawFd) -> Self {
        Self::of(fd)
    }

    /// The descriptor's number in the current context's table: for
    /// [`Spec::files`](crate::Spec::files), or to be told to a context that
    /// shares the table.
    #[inline]
    pub fn as_raw(&self) -> RawFd {
        self.fd
    }

    /// The number, for a call, if it still is what this handle stands for.
    #[inline]
    pub(crate) fn number(self, call: &'static str) -> Result<RawFd> {
        if self.is_open() {
            Ok(self.fd)
        } else {
            Err(closed(call, self.fd))
        }
    }

    #[inline]
    fn is_open(self) -> bool {
        NUMBERS.nth(self.fd) == self.nth
    }

    /// One more owner of the descriptor.
    pub(crate) fn own(self) {
        NUMBERS.own(self.fd, self.nth);
    }

    /// One owner less. Whether that was the last: then the number is nobody's,
    /// and to be closed, if `close`.
    pub(crate) fn disown(self, close: bool) -> bool {
        NUMBERS.disown(self.fd, self.nth, close)
    }
}

#[cold]
fn closed(call: &'static str, fd: RawFd) -> Error {
    let what = format!("descriptor {fd} of this handle is closed");
    Error::new(call, Errno::EBADF, what)
}

/// What became of the numbers, in the whole process: any thread may close one.
static NUMBERS: Numbers = Numbers::new();

/// What became of numbers. All of it is read and changed without a lock, and is
/// in order in a process that was forked at any moment.
struct Numbers {
    /// Pages of the numbers that handles were made of, by the numbers' higher bits.
    pages: [AtomicPtr<Page>; LISTS],
    /// How often the current context was made without all the numbers of whoever
    /// it is a copy of.
    all_left_out: AtomicU32,
}

const LISTS: usize = 256;

/// What became of some numbers that follow each other. It is freed with its table.
struct Page {
    /// Their higher bits.
    base: RawFd,
    /// The page that was there before in its list.
    next: *const Page,
    /// Of each number how often it was closed, or left out of the current context,
    /// in the upper half; and how many [`Context`](crate::Context)s have it.
    numbers: [AtomicU64; ON_A_PAGE as usize],
}

const ON_A_PAGE: RawFd = 64;

/// One more time that a number was closed.
const CLOSED: u64 = 1 << 32;

fn closed_in(number: u64) -> u32 {
    (number >> 32) as u32
}

fn owners_in(number: u64) -> u32 {
    number as u32
}

impl Page {
    fn number(&self, fd: RawFd) -> &AtomicU64 {
        &self.numbers[fd.rem_euclid(ON_A_PAGE) as usize]
    }

    fn all(&self) -> impl Iterator<Item = (RawFd, &AtomicU64)> {
        let first = self.base * ON_A_PAGE;
        (0..).zip(&self.numbers).map(move |(i, n)| (first + i, n))
    }
}

impl Drop for Numbers {
    /// Of the process's own table this is never called.
    fn drop(&mut self) {
        for list in &mut self.pages {
            let mut at = *list.get_mut();
            while !at.is_null() {
                // SAFETY: a box's, as `add` made it, in one list alone; whoever
                // borrowed the page had borrowed the table, which is nobody's now.
                let page = unsafe { Box::from_raw(at) };
                at = page.next.cast_mut();
            }
        }
    }
}

impl Numbers {
    const fn new() -> Self {
        Self {
            pages: [const { AtomicPtr::new(std::ptr::null_mut()) }; LISTS],
            all_left_out: AtomicU32::new(0),
        }
    }

    fn list(&self, base: RawFd) -> &AtomicPtr<Page> {
        &self.pages[base.rem_euclid(LISTS as RawFd) as usize]
    }

    #[inline]
    fn find<'a>(mut at: *const Page, base: RawFd) -> Option<&'a Page> {
        // SAFETY: null, or a page that was whole before its address was stored
        // with Release; nothing but atomics in it changes, and it is there as long
        // as the table, which both callers borrow for the page's lifetime.
        while let Some(page) = unsafe { at.as_ref() } {
            if page.base == base {
                return Some(page);
            }
            at = page.next;
        }
        None
    }

    /// Where a number is counted.
    #[inline]
    fn number(&self, fd: RawFd) -> &AtomicU64 {
        let base = fd.div_euclid(ON_A_PAGE);
        let list = self.list(base);
        let page = Self::find(list.load(Ordering::Acquire), base);
        page.unwrap_or_else(|| Self::add(list, base)).number(fd)
    }

    #[cold]
    fn add(list: &AtomicPtr<Page>, base: RawFd) -> &Page {
        let mut page = Box::new(Page {
            base,
            next: std::ptr::null(),
            numbers: [const { AtomicU64::new(0) }; ON_A_PAGE as usize],
        });
        loop {
            let first = list.load(Ordering::Acquire);
            if let Some(page) = Self::find(first, base) {
                return page;
            }
            page.next = first;
            let new = Box::into_raw(page);
            match list.compare_exchange(first, new, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: just made; from here on it is the table's, which is borrowed,
                // and is never lent mutably.
                Ok(_) => return unsafe { &*new },
                // SAFETY: nobody else has got the address.
                Err(_) => page = unsafe { Box::from_raw(new) },
            }
        }
    }

    /// Which use of a number is the present one.
    #[inline]
    fn nth(&self, fd: RawFd) -> NonZeroU32 {
        self.nth_in(self.number(fd).load(Ordering::Acquire))
    }

    #[inline]
    fn nth_in(&self, number: u64) -> NonZeroU32 {
        let all = self.all_left_out.load(Ordering::Acquire);
        NonZeroU32::MIN.saturating_add(closed_in(number).wrapping_add(all))
    }

    /// Changes what is counted of a number if it still is in that use of it. What
    /// it was before.
    fn change(&self, fd: RawFd, nth: NonZeroU32, to: impl Fn(u64) -> u64) -> Option<u64> {
        let open = |number| (self.nth_in(number) == nth).then(|| to(number));
        let number = self.number(fd);
        number
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, open)
            .ok()
    }

    fn own(&self, fd: RawFd, nth: NonZeroU32) {
        self.change(fd, nth, |number| number + 1);
    }

    /// One owner less, and none if `close` and it was the last. Whether it was.
    fn disown(&self, fd: RawFd, nth: NonZeroU32, close: bool) -> bool {
        let is_last = |number| owners_in(number) <= 1 && close;
        let before = self.change(fd, nth, |number| {
            let less = number - u64::from(owners_in(number) > 0);
            if is_last(number) {
                less.wrapping_add(CLOSED)
            } else {
                less
            }
        });
        before.is_some_and(is_last)
    }

    /// All numbers that handles were ever made of, and their neighbours.
    fn all(&self) -> impl Iterator<Item = (RawFd, &AtomicU64)> {
        let pages = self.pages.iter().flat_map(|list| {
            let mut at: *const Page = list.load(Ordering::Acquire);
            std::iter::from_fn(move || {
                // SAFETY: as in `find`.
                let page = unsafe { at.as_ref() }?;
                at = page.next;
                Some(page)
            })
        });
        pages.flat_map(Page::all)
    }

    /// The present use of a number is over, and nobody's.
    fn over(number: &AtomicU64, times: u64) {
        let over = |number: u64| Some((number & !u64::from(u32::MAX)).wrapping_add(times * CLOSED));
        // It has no other value to offer, so this does not fail.
        let _ = number.fetch_update(Ordering::AcqRel, Ordering::Acquire, over);
    }

    fn left_out(&self, range: &RangeInclusive<RawFd>) {
        if *range == (0..=RawFd::MAX) {
            self.all_left_out.fetch_add(1, Ordering::AcqRel);
            let owned =
                |&(_, number): &(_, &AtomicU64)| owners_in(number.load(Ordering::Acquire)) > 0;
            self.all().filter(owned).for_each(|(_, n)| Self::over(n, 0));
        } else {
            let within = self.all().filter(|(fd, _)| range.contains(fd));
            within.for_each(|(_, n)| Self::over(n, 1));
        }
    }

    fn forget_unless(&self, mut still: impl FnMut(RawFd) -> bool) {
        for (fd, number) in self.all() {
            if owners_in(number.load(Ordering::Acquire)) > 0 && !still(fd) {
                Self::over(number, 1);
            }
        }
    }
}

/// Numbers that the current context has not got, though whoever it is a copy of
/// has: handles of them, in copied memory, name nothing here.
pub(crate) fn left_out(ranges: impl IntoIterator<Item = RangeInclusive<RawFd>>) {
    for range in ranges {
        NUMBERS.left_out(&range);
    }
}

/// Forgets the numbers of owners that are no longer what they were.
pub(crate) fn forget_unless(still: impl FnMut(RawFd) -> bool) {
    NUMBERS.forget_unless(still);
}

/// A child of fork(2) has no context descriptors ([contract
/// 6.3](crate::contract#c6-3)), and handles from before that name nothing.
pub(crate) fn forget_after_fork() {
    extern "C" fn forget() {
        left_out([0..=RawFd::MAX]);
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a function of the program, without arguments. What it touches is
        // in order at any moment.
        unsafe { libc::pthread_atfork(None, None, Some(forget)) };
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_used_again_is_another_handle() {
        let all = Numbers::new();
        for fd in [7, 5000, 0x7000_0001, -1] {
            let first = all.nth(fd);
            assert_eq!(first, all.nth(fd));
            all.own(fd, first);
            all.own(fd, first);
            assert!(!all.disown(fd, first, true));
            assert_eq!(all.nth(fd), first);
            assert!(all.disown(fd, first, true));
            let second = all.nth(fd);
            assert_ne!(first, second);
            // It is not closed twice.
            assert!(!all.disown(fd, first, true));
            all.own(fd, first);
            assert_eq!(all.nth(fd), second);
            // One that is given up without being closed stays.
            all.own(fd, second);
            assert!(!all.disown(fd, second, false));
            assert_eq!(all.nth(fd), second);
            // Nobody owned it: whoever closes it does.
            assert!(all.disown(fd, second, true));
        }
    }

    #[test]
    fn numbers_that_were_left_out_are_nobodys() {
        let all = Numbers::new();
        let numbers = [3, 4, 90_000].map(|fd| (fd, all.nth(fd)));
        let open = |at: usize| all.nth(numbers[at].0) == numbers[at].1;
        for (fd, nth) in numbers {
            all.own(fd, nth);
        }
        all.left_out(&(100..=i32::MAX));
        assert!(open(0) && open(1) && !open(2));
        let mut asked = Vec::new();
        all.forget_unless(|fd| {
            asked.push(fd);
            fd != 4
        });
        assert_eq!(asked, [3, 4]);
        assert!(open(0) && !open(1));
        all.left_out(&(0..=i32::MAX));
        assert!(!open(0) && !all.disown(3, numbers[0].1, true));
        // Nor does anybody own what is made with that number now.
        assert!(all.disown(3, all.nth(3), true));
    }

    #[test]
    fn what_one_thread_closes_is_closed_for_all() {
        const FD: RawFd = 0x7fff_0000;
        let mine = Handle::of(FD);
        mine.own();
        let there = |close: bool| {
            let other = move || {
                let its = Handle::of(FD);
                its.own();
                its.disown(close)
            };
            std::thread::spawn(other).join().unwrap()
        };
        // It has an owner here.
        assert!(!there(true));
        assert_eq!(mine.number("t").unwrap(), FD);
        // And none any more.
        assert!(!mine.disown(false));
        assert_eq!(mine.number("t").unwrap(), FD);
        assert!(there(true));
        assert_eq!(mine.number("t").unwrap_err().cause(), Errno::EBADF);
        assert!(!mine.disown(true));
        assert_ne!(mine, Handle::of(FD));
    }

    #[test]
    fn threads_that_count_at_once_lose_nothing() {
        const EACH: usize = 20_000;
        let all = Numbers::new();
        let closed = std::thread::scope(|scope| {
            let count = || {
                (0..EACH)
                    .filter(|i| {
                        // Pages are added meanwhile.
                        all.nth((i * 64) as RawFd);
                        let nth = all.nth(9);
                        all.own(9, nth);
                        all.disown(9, nth, true)
                    })
                    .count()
            };
            let threads = [scope.spawn(count), scope.spawn(count)];
            threads
                .into_iter()
                .map(|t| t.join().unwrap())
                .sum::<usize>()
        });
        assert_eq!(all.nth(9).get() as usize, 1 + closed);
        assert_eq!(all.all().count(), EACH * ON_A_PAGE as usize);
    }
}
