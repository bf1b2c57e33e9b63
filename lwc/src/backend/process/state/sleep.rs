//! Waiting for another context to have spoken.

use super::runtime::Runtime;
use super::signals;
use crate::time::MonotonicTime;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long until one that was on its way to sleep is rung again, and how often: on a
/// busy machine it may lose its processor on that way, for some milliseconds.
pub(crate) const RING_AGAIN: Duration = Duration::from_millis(1);
const RINGS: u32 = 16;
const FIRST_RING: Duration = Duration::from_micros(50);
/// How long at most, however often the root looks meanwhile: less than it takes
/// to be held for one that sleeps elsewhere (`processor.rs`).
const RINGS_FOR: Duration = Duration::from_millis(50);
/// The same of the root, in which no code runs that could say that it sleeps and not do
/// it: a wake-up that it misses is a request that is lost.
const RINGS_THOSE_TRUSTED_FOR: Duration = Duration::from_secs(5);

impl Runtime {
    /// Whether the message in a channel's half is new, and of what kind.
    pub(crate) fn news(&self, index: usize) -> Option<(u32, u32)> {
        let c = self.channels.get(index)?.as_ref()?;
        // In one order with the writer's count of its doorbell ([`Bell`](crate::backend::process::wire::bell::Bell)).
        let seq = c.inn().seq.load(Ordering::SeqCst);
        (seq != c.seen).then(|| (seq, c.inn().kind.load(Ordering::Relaxed)))
    }

    /// The channel that is waited for, if it has news. Each look at another one
    /// is at a page more.
    pub(crate) fn expected_news(&self) -> Option<usize> {
        self.expected.filter(|&i| self.news(i).is_some())
    }

    /// A channel with news: the one that is waited for, or else one after the
    /// other, so that nobody who speaks all the time keeps others from being
    /// heard.
    pub(crate) fn any_news(&self) -> Option<usize> {
        let new = |i: &usize| self.news(*i).is_some();
        let after = (self.looked + 1).min(self.channels.len());
        self.expected_news()
            .or_else(|| (after..self.channels.len()).chain(0..after).find(new))
    }

    /// The baton goes to a channel: who has brought it back the last time is
    /// waited for. One time in so many nobody is: all are heard in turn then.
    pub(crate) fn expect_answer(&mut self, index: usize) {
        const ALL_IN_TURN: u32 = 16;
        self.gave = index;
        self.turns = self.turns.wrapping_add(1);
        let answers = self.channels.get(index).and_then(Option::as_ref);
        self.expected = answers
            .map(|c| c.answered_by.unwrap_or(index))
            .filter(|_| !self.turns.is_multiple_of(ALL_IN_TURN));
    }

    /// The baton has come by a channel.
    pub(crate) fn has_come(&mut self, index: usize) {
        let gave = self.gave;
        if let Some(c) = self.channel(gave) {
            c.answered_by = Some(index);
        }
    }

    /// Rings those again that were on their way to sleep, in a sandbox that
    /// knows no sleep with a limit. Whoever says all the time that it sleeps and
    /// does not is hostile, and not worth waiting for. A ring that found nobody
    /// while the root held those that sleep (`parked.rs`) says nothing.
    pub(crate) fn ring_on(&mut self) {
        let begun = MonotonicTime::now();
        let mut in_vain = 0;
        loop {
            let trusted = self.rings_one_that_is_trusted();
            let limit = if trusted {
                RINGS_THOSE_TRUSTED_FOR
            } else {
                RINGS_FOR
            };
            if in_vain >= RINGS && !trusted || begun.elapsed() >= limit {
                break;
            }
            let looks = self.looks_of_the_root();
            std::thread::sleep(RING_AGAIN.min(FIRST_RING * (1 << in_vain.min(RINGS))));
            if self.any_news().is_some() || !self.ring_again() {
                // News goes first; whoever is not awake yet is rung afterwards.
                return;
            }
            if looks.is_multiple_of(2) && looks == self.looks_of_the_root() {
                in_vain += 1;
            }
        }
        self.channels
            .iter_mut()
            .flatten()
            .for_each(|c| c.unrung = false);
    }

    /// Whether the root is among those that were on their way to sleep.
    fn rings_one_that_is_trusted(&self) -> bool {
        let mut rung = self.channels.iter().flatten().filter(|c| c.unrung);
        rung.any(|c| c.root_line)
    }

    fn looks_of_the_root(&self) -> u32 {
        let root = self.channels.first().and_then(Option::as_ref);
        root.filter(|c| c.root_line)
            .map_or(0, |c| c.peer_bell.looks())
    }

    /// Says that we sleep, looks once more, and sleeps. False: there was news, or
    /// one may have died, if that is to be looked at.
    pub(crate) fn sleep<T>(
        &self,
        limit: Option<Duration>,
        deaths: bool,
        news: impl Fn(&Self) -> Option<T>,
    ) -> bool {
        let dozed = self.bell.doze();
        let quiet = !(deaths && signals::deaths()) && news(self).is_none();
        if quiet {
            self.bell.sleep(dozed, limit);
        }
        self.bell.rise(dozed);
        quiet
    }

    /// A channel is rung next, for the baton or a request. Who was rung before for
    /// one has been awake since, or is not waited for any more, and is not rung again:
    /// if it is hostile it would be woken in another's time.
    pub(crate) fn ring_alone(&mut self, index: usize) {
        let before = std::mem::replace(&mut self.rung, index);
        if before != index
            && let Some(c) = self.channel(before)
        {
            c.unrung = false;
        }
    }

    /// Rings those again that were on their way to sleep. True: some still are.
    pub(crate) fn ring_again(&mut self) -> bool {
        let mut any = false;
        for c in self.channels.iter_mut().flatten().filter(|c| c.unrung) {
            c.ring();
            any |= c.unrung && !c.peer_dead();
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::process::state::liar::Liar;

    /// How long it rings a context that says that it sleeps and does not wake.
    fn rings(liar: &mut Liar) -> Duration {
        let _ = liar.bell.doze();
        let index = liar.index;
        if let Some(c) = liar.rt.channel(index) {
            c.ring();
            assert!(c.unrung);
        }
        let begun = MonotonicTime::now();
        liar.rt.ring_on();
        let took = begun.elapsed();
        assert!(!liar.rt.channel(index).unwrap().unrung);
        took
    }

    #[test]
    fn one_that_was_rung_before_is_not_rung_again_in_anothers_time() {
        let mut liar = Liar::new();
        let _ = liar.bell.doze();
        let index = liar.index;
        liar.rt.ring_alone(index);
        liar.rt.channel(index).unwrap().ring();
        assert!(liar.rt.ring_again());
        liar.rt.ring_alone(index + 1);
        assert!(!liar.rt.ring_again());
    }

    #[test]
    fn one_does_not_ring_in_vain_because_the_root_looks() {
        let mut liar = Liar::new();
        // The context on the other side of the first channel is its root.
        liar.rt.channel(liar.index).unwrap().root_line = true;
        // It holds somebody, for longer than anybody rings.
        liar.bell.look();
        assert!(rings(&mut liar) >= RINGS_FOR);
    }
}
