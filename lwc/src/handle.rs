//! Names of contexts that cannot come to name another one.
//!
//! The system gives the number of a closed descriptor to the next one that is
//! opened. So a [`Handle`] is a number and which use of that number it is: what
//! this crate closes is counted here, and a handle of a use that is over is
//! refused. [`Context`](crate::Context)s are counted, too: the last one of a
//! descriptor closes it.

use crate::error::{Error, Result};
use nix::errno::Errno;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::sync::Once;

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
/// It does not leave its thread: a context belongs to a process with one.
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
            nth: with(|all| all.nth(fd)),
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
        with(|all| all.nth(self.fd)) == self.nth
    }

    /// One more owner of the descriptor.
    pub(crate) fn own(self) {
        if self.is_open() {
            with(|all| all.used(self.fd).owners += 1);
        }
    }

    /// One owner less. Whether that was the last: then the number is nobody's,
    /// and to be closed, if `close`.
    pub(crate) fn disown(self, close: bool) -> bool {
        if !self.is_open() {
            return false;
        }
        with(|all| {
            let used = all.used(self.fd);
            used.owners = used.owners.saturating_sub(1);
            let last = used.owners == 0 && close;
            used.closed += u32::from(last);
            last
        })
    }
}

#[cold]
fn closed(call: &'static str, fd: RawFd) -> Error {
    let what = format!("descriptor {fd} of this handle is closed");
    Error::new(call, Errno::EBADF, what)
}

/// A number that had an owner.
#[derive(Clone, Copy, Default)]
struct Used {
    /// How often it was closed.
    closed: u32,
    /// How many [`Context`](crate::Context)s have it.
    owners: u32,
}

/// Numbers below are looked up in an array.
const LOW: usize = 1 << 12;

/// What became of the numbers. Nothing in it ever decreases but the owners: a
/// sum that was once above another one stays so.
struct Numbers {
    /// By number, those that tables begin with.
    low: Vec<Used>,
    /// The others: high descriptors, and numbers of the process backend that are
    /// no descriptors.
    high: BTreeMap<RawFd, Used>,
    /// Ranges that were left out of this context when it was made.
    left_out: Vec<RangeInclusive<RawFd>>,
    /// How often that was everything.
    all_left_out: u32,
}

impl Numbers {
    /// No number had an owner yet.
    const fn new() -> Self {
        Self {
            low: Vec::new(),
            high: BTreeMap::new(),
            left_out: Vec::new(),
            all_left_out: 0,
        }
    }

    /// No handle is open: more numbers were left out than ever are.
    fn gone() -> Self {
        let mut none = Self::new();
        none.all_left_out = u32::MAX / 2;
        none
    }

    /// Which use of the number is the present one.
    #[inline]
    fn nth(&self, fd: RawFd) -> NonZeroU32 {
        let used = match usize::try_from(fd) {
            Ok(at) if at < LOW => self.low.get(at),
            _ => self.high.get(&fd),
        };
        let mut nth = used.map_or(0, |used| used.closed) + self.all_left_out;
        if !self.left_out.is_empty() {
            nth += self.left_out.iter().filter(|r| r.contains(&fd)).count() as u32;
        }
        NonZeroU32::MIN.saturating_add(nth)
    }

    fn used(&mut self, fd: RawFd) -> &mut Used {
        match usize::try_from(fd) {
            Ok(at) if at < LOW => {
                if self.low.len() <= at {
                    self.low.resize(at + 1, Used::default());
                }
                &mut self.low[at]
            }
            _ => self.high.entry(fd).or_default(),
        }
    }

    /// All numbers that ever had an owner.
    fn all(&mut self) -> impl Iterator<Item = (RawFd, &mut Used)> {
        let low = (0..).zip(&mut self.low);
        low.chain(self.high.iter_mut().map(|(&fd, used)| (fd, used)))
    }
}

thread_local! {
    static NUMBERS: RefCell<Numbers> = const { RefCell::new(Numbers::new()) };
}

/// In a destructor at the end of its thread, when these are gone already, an owner
/// closes nothing: the number may be another's by then.
#[inline]
fn with<T>(f: impl FnOnce(&mut Numbers) -> T) -> T {
    let mut f = Some(f);
    let done = NUMBERS.try_with(|all| f.take().map(|f| f(&mut all.borrow_mut())));
    match (done, f) {
        (Ok(Some(value)), _) => value,
        (_, Some(f)) => f(&mut Numbers::gone()),
        (_, None) => unreachable!("either it has run or it is here"),
    }
}

/// Numbers that the current context has not got, though whoever it is a copy of
/// has: handles of them, in copied memory, name nothing here.
pub(crate) fn left_out(ranges: impl IntoIterator<Item = RangeInclusive<RawFd>>) {
    with(|all| {
        for range in ranges {
            for (_, used) in all.all().filter(|(fd, _)| range.contains(fd)) {
                used.owners = 0;
            }
            if range == (0..=RawFd::MAX) {
                all.all_left_out += 1;
            } else {
                all.left_out.push(range);
            }
        }
    });
}

/// Forgets the numbers of owners that are no longer what they were.
pub(crate) fn forget_unless(mut still: impl FnMut(RawFd) -> bool) {
    with(|all| {
        let owned = all.all().filter(|(_, used)| used.owners > 0);
        for (_, used) in owned.filter(|&(fd, _)| !still(fd)) {
            used.owners = 0;
            used.closed += 1;
        }
    });
}

/// A child of fork(2) has no context descriptors ([contract
/// 6.3](crate::contract#c6-3)), and handles from before that name nothing.
pub(crate) fn forget_after_fork() {
    extern "C" fn forget() {
        left_out([0..=RawFd::MAX]);
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a function of the program, without arguments. It touches the
        // forking thread's own values alone.
        unsafe { libc::pthread_atfork(None, None, Some(forget)) };
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_that_outlives_its_threads_numbers_closes_nothing() {
        struct Late(Handle);
        impl Drop for Late {
            fn drop(&mut self) {
                assert!(NUMBERS.try_with(|_| ()).is_err(), "it is late");
                assert!(!self.0.is_open() && !self.0.disown(true));
            }
        }
        thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });
        std::thread::spawn(|| {
            // Destroyed in the opposite order of first use.
            LATE.with(|_| ());
            let handle = Handle::of(7);
            handle.own();
            LATE.with(|late| *late.borrow_mut() = Some(Late(handle)));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_number_that_is_used_again_is_another_handle() {
        let first = Handle::of(7);
        let same = Handle::of(7);
        assert_eq!(first, same);
        first.own();
        same.own();
        assert!(!first.disown(true));
        assert_eq!(first.number("t").unwrap(), 7);
        assert!(same.disown(true));
        for closed in [first, same] {
            assert_eq!(closed.number("t").unwrap_err().cause(), Errno::EBADF);
            // It is not closed twice.
            assert!(!closed.disown(true));
        }
        let second = Handle::of(7);
        assert_ne!(first, second);
        assert_eq!(second.number("t").unwrap(), 7);
    }

    #[test]
    fn numbers_that_were_left_out_are_nobodys() {
        let [low, middle, high] = [3, 4, 90_000].map(Handle::of);
        for handle in [low, middle, high] {
            handle.own();
        }
        left_out([100..=i32::MAX]);
        assert!(low.is_open() && !high.is_open());
        assert!(Handle::of(90_000).is_open());
        let mut asked = Vec::new();
        forget_unless(|fd| {
            asked.push(fd);
            fd != 4
        });
        assert_eq!(asked, [3, 4]);
        assert!(low.is_open() && !middle.is_open());
        left_out([0..=i32::MAX]);
        assert!(!low.is_open() && !low.disown(true));
        assert!(Handle::of(3).is_open());
    }
}
