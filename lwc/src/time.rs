//! The clock of deadlines.

use std::ops::Add;
use std::time::{Duration, Instant};

/// A time of CLOCK_MONOTONIC (clock_gettime(2)): what a deadline is given as.
///
/// Calls with a deadline take an [`Instant`] as well. This type is a number of
/// nanoseconds, as the calls want it, so that code that switches often does not
/// pay for the conversion.
///
/// ```
/// use lwc::{Errno, MonotonicTime};
/// use std::time::Duration;
///
/// let begun = MonotonicTime::now();
/// let wait = Duration::from_millis(10);
/// // Nobody switches here.
/// let error = lwc::await_switch(begun + wait).unwrap_err();
/// assert_eq!(error.errno(), Errno::ETIMEDOUT);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonotonicTime(u64);

impl MonotonicTime {
    /// A time that does not come: to wait until then is to wait without a deadline.
    pub const NEVER: Self = Self(u64::MAX);

    /// The present time.
    #[inline]
    pub fn now() -> Self {
        let mut now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the call writes to the struct alone. It fails for clocks that
        // are not there, and this one is everywhere.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        Self(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
    }

    /// The time at which the clock reads so many nanoseconds.
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// What the clock reads then, in nanoseconds.
    #[inline]
    pub fn nanos(self) -> u64 {
        self.0
    }

    /// How long after another time it is; zero if it is before it.
    #[inline]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long ago it was; zero if it is yet to come.
    #[inline]
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }
}

/// [`MonotonicTime::NEVER`], where the clock does not reach that far.
impl Add<Duration> for MonotonicTime {
    type Output = Self;
    #[inline]
    fn add(self, wait: Duration) -> Self {
        let nanos = wait.as_secs().saturating_mul(1_000_000_000);
        Self(
            self.0
                .saturating_add(nanos)
                .saturating_add(wait.subsec_nanos().into()),
        )
    }
}

impl From<Instant> for MonotonicTime {
    fn from(instant: Instant) -> Self {
        // In this order the time is late by what passes in between, and never
        // early.
        let (same, now) = (Instant::now(), Self::now());
        match instant.checked_duration_since(same) {
            Some(left) => now + left,
            None => {
                let ago = same.duration_since(instant).as_nanos();
                Self(now.0.saturating_sub(ago.try_into().unwrap_or(u64::MAX)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_the_same_time() {
        for seconds in [0, 1, 1000] {
            let wait = Duration::from_secs(seconds);
            let before = MonotonicTime::now();
            let there = MonotonicTime::from(Instant::now() + wait);
            let after = MonotonicTime::now();
            assert!(before + wait <= there && there <= after + wait);
        }
        let past = Instant::now();
        std::thread::sleep(Duration::from_millis(2));
        let past = MonotonicTime::from(past);
        assert!(past < MonotonicTime::now());
        assert!(past.elapsed() >= Duration::from_millis(2));
        assert_eq!(past.since(MonotonicTime::now()), Duration::ZERO);
    }

    #[test]
    fn the_end_of_time_is_not_passed() {
        assert_eq!((MonotonicTime::now() + Duration::MAX).nanos(), u64::MAX);
    }
}
