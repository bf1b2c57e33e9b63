//! The clock of deadlines.

use std::ops::Add;
use std::time::{Duration, Instant};

/// A moment of CLOCK_MONOTONIC (clock_gettime(2)): when to stop waiting.
///
/// An [`Instant`] is one as well and is taken wherever a moment is wanted. This
/// one is a number, so that whoever switches often does not pay for turning one
/// into the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// One that does not come: to wait until it is to wait without a deadline.
    pub const NEVER: Self = Self(u64::MAX);

    /// The present one.
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

    /// The one of a reading in nanoseconds.
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Its reading, in nanoseconds.
    #[inline]
    pub fn nanos(self) -> u64 {
        self.0
    }

    /// How long after another one it is; zero if it is not.
    #[inline]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long ago it was; zero if it is to come.
    #[inline]
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }
}

/// Never, where the clock does not reach that far.
impl Add<Duration> for Moment {
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

impl From<Instant> for Moment {
    fn from(instant: Instant) -> Self {
        // In this order the moment is late by a moment, and never early.
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
    fn an_instant_is_the_moment_that_it_is() {
        for seconds in [0, 1, 1000] {
            let wait = Duration::from_secs(seconds);
            let before = Moment::now();
            let there = Moment::from(Instant::now() + wait);
            let after = Moment::now();
            assert!(before + wait <= there && there <= after + wait);
        }
        let past = Instant::now();
        std::thread::sleep(Duration::from_millis(2));
        let past = Moment::from(past);
        assert!(past < Moment::now());
        assert!(past.elapsed() >= Duration::from_millis(2));
        assert_eq!(past.since(Moment::now()), Duration::ZERO);
    }

    #[test]
    fn the_end_of_time_is_not_passed() {
        assert_eq!((Moment::now() + Duration::MAX).nanos(), u64::MAX);
    }
}
