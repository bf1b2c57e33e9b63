//! How the root waits for a switch to it.

use lwc::{Errno, Event, MonotonicTime};

/// What is there is taken, and nothing is waited for.
const AT_ONCE: MonotonicTime = MonotonicTime::from_nanos(0);

/// The wait for one switch to the root among those that do not count.
///
/// The root may look late: others had the processor, or it had to see to somebody
/// who acts out of turn. What lies there then was given in time and is taken. But
/// there may be no end of switches that do not count, or of requests: once it is
/// late the root looks only so often that each context which has spoken is heard
/// once, for it hears them in turn.
pub(super) struct Wait {
    until: MonotonicTime,
    /// Looks that are left; none has been had in time.
    looks: Option<u64>,
}

impl Wait {
    pub(super) fn until(deadline: MonotonicTime) -> Self {
        Self {
            until: deadline,
            looks: None,
        }
    }

    /// The next switch, or an end of the wait that is not for the time. `None`: it
    /// is late, and nothing was there.
    pub(super) fn next(&mut self) -> Option<lwc::Result<Event>> {
        let contexts = || lwc::info().map_or(1, |i| i.contexts);
        self.next_by(contexts, |until| match lwc::await_switch(until) {
            Err(e) if e.errno() == Errno::ETIMEDOUT => None,
            event => Some(event),
        })
    }

    /// The same with another's eyes: `look` waits so long, and `None` is late.
    fn next_by<T>(
        &mut self,
        contexts: impl FnOnce() -> u64,
        mut look: impl FnMut(MonotonicTime) -> Option<T>,
    ) -> Option<T> {
        if self.looks.is_none() && MonotonicTime::now() < self.until {
            let found = look(self.until);
            if found.is_some() {
                return found;
            }
        }
        let looks = self.looks.get_or_insert_with(contexts);
        loop {
            *looks = looks.checked_sub(1)?;
            let found = look(AT_ONCE);
            if found.is_some() {
                return found;
            }
        }
    }
}

/// The next switch to the root. `None` once it is late, also if there is one:
/// there may be no end of switches that do not count, and whoever asks looks again.
pub(super) fn next_before(deadline: MonotonicTime) -> Option<lwc::Result<Event>> {
    (MonotonicTime::now() < deadline).then(|| lwc::await_switch(deadline))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_is_not_taken() {
        assert!(next_before(MonotonicTime::from_nanos(0)).is_none());
    }

    #[test]
    fn what_is_there_is_taken_though_the_root_looks_late() {
        let late = MonotonicTime::from_nanos(0);
        let mut wait = Wait::until(late);
        // A request that was served, the answer, somebody else's switch.
        let mut there = [None, Some("answer"), Some("junk")].into_iter();
        let mut look = |until: MonotonicTime| {
            assert_eq!(until, AT_ONCE);
            there.next().flatten()
        };
        assert_eq!(wait.next_by(|| 3, &mut look), Some("answer"));
        assert_eq!(wait.next_by(|| 3, &mut look), Some("junk"));
        // There may be no end of what does not count.
        assert_eq!(wait.next_by(|| 3, |_| Some("junk")), None);
    }

    #[test]
    fn what_comes_in_time_is_waited_for() {
        let mut wait = Wait::until(MonotonicTime::NEVER);
        for _ in 0..9 {
            let look = |until| (until == MonotonicTime::NEVER).then_some(());
            assert_eq!(wait.next_by(|| 1, look), Some(()));
        }
    }
}
