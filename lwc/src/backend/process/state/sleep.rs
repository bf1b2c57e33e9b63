//! Waiting for another context to have spoken.

use super::runtime::Runtime;
use super::signals;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long until one that was on its way to sleep is rung again, and how often.
pub(crate) const RING_AGAIN: Duration = Duration::from_millis(1);
const RINGS: u32 = 4;
const FIRST_RING: Duration = Duration::from_micros(50);
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
    /// does not is hostile, and not worth waiting for.
    pub(crate) fn ring_on(&mut self) {
        self.bell.set_ringing(true);
        for i in 0..RINGS {
            std::thread::sleep(RING_AGAIN.min(FIRST_RING * (1 << i.min(8))));
            if self.any_news().is_some() || !self.ring_again() {
                // News goes first; whoever is not awake yet is rung afterwards.
                return self.bell.set_ringing(false);
            }
        }
        self.channels
            .iter_mut()
            .flatten()
            .for_each(|c| c.unrung = false);
        self.bell.set_ringing(false);
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
