//! What a connection has under way: requests that have no answer yet, and answers that
//! have not been taken whole. Who has none of either is idle. An answer of which nothing
//! is taken for long keeps its room for nobody: a client of HTTP/2 takes what it likes of
//! each, and asks on meanwhile.

use crate::gateway::budget::held;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// An answer is given away in pieces of at most so many bytes: whoever takes one, or what
/// is left, in its time is not hung up on.
const PIECE: usize = 64 << 10;

/// Why a connection is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing is under way.
    Idle,
    /// Nothing of an answer is taken.
    Stuck,
}

/// What a connection has under way.
#[derive(Debug, Default)]
pub(super) struct Requests {
    without_answer: AtomicUsize,
    answers: Mutex<Answers>,
    /// Rung when there is one more or one less of either.
    changed: Notify,
}

/// Answers that have not been taken whole, and when something of each was last taken.
#[derive(Debug, Default)]
struct Answers {
    last_taken: BTreeMap<u64, Instant>,
    next: u64,
}

impl Requests {
    /// Returns when nothing has been under way for so long, or when nothing of an answer
    /// has been taken for twice as long.
    pub(super) async fn over(&self, limit: Duration) -> Over {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let oldest = self.lock().last_taken.values().min().copied();
            let idle = oldest.is_none() && self.without_answer.load(Ordering::Acquire) == 0;
            let patience = limit.saturating_mul(2);
            let stuck = oldest.map(|taken| taken + patience);
            if stuck.is_some_and(|at| at <= Instant::now()) {
                return Over::Stuck;
            }
            tokio::select! {
                () = changed => {}
                () = sleep(limit), if idle => return Over::Idle,
                // Something of it may have been taken meanwhile.
                () = sleep_until(stuck.unwrap_or_else(Instant::now)), if stuck.is_some() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        // Nothing that can panic runs under the lock.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that has no answer yet.
pub(super) struct UnderWay(Arc<Requests>);

impl UnderWay {
    pub(super) fn of(requests: &Arc<Requests>) -> Self {
        requests.without_answer.fetch_add(1, Ordering::AcqRel);
        requests.changed.notify_waiters();
        Self(Arc::clone(requests))
    }

    /// It has one, which is under way from now on until it has been taken whole.
    pub(super) fn answered(self, body: Bytes) -> Taking {
        let taken = (!body.is_empty()).then(|| {
            let mut answers = self.0.lock();
            let number = answers.next;
            answers.next += 1;
            answers.last_taken.insert(number, Instant::now());
            let requests = Arc::clone(&self.0);
            Arc::new(Untaken { requests, number })
        });
        Taking { left: body, taken }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.without_answer.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

/// An answer that has not been taken whole.
#[derive(Debug)]
struct Untaken {
    requests: Arc<Requests>,
    number: u64,
}

impl Drop for Untaken {
    fn drop(&mut self) {
        self.requests.lock().last_taken.remove(&self.number);
        self.requests.changed.notify_waiters();
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Taking {
    left: Bytes,
    taken: Option<Arc<Untaken>>,
}

impl Body for Taking {
    type Data = Bytes;
    type Error = Infallible;

    /// Asked for once there is room on the way to the client: what came before has gone
    /// there.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let len = self.left.len().min(PIECE);
        let bytes = self.left.split_to(len);
        let taken = match self.left.is_empty() {
            true => self.taken.take(),
            false => self.taken.clone(),
        };
        // Without it, it has been taken whole.
        Poll::Ready(taken.map(|taken| {
            if let Some(last) = taken.requests.lock().last_taken.get_mut(&taken.number) {
                *last = Instant::now();
            }
            // It is not taken whole for as long as anybody has any of this.
            Ok(Frame::data(held(bytes, taken)))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    /// No test takes as long.
    const LONG: Duration = Duration::from_secs(3600);

    /// What it is at once.
    async fn over(requests: &Requests, limit: Duration) -> Option<Over> {
        tokio::select! {
            biased;
            over = requests.over(limit) => Some(over),
            () = tokio::task::yield_now() => None,
        }
    }

    async fn piece(body: &mut Taking) -> Option<Bytes> {
        Some(body.frame().await?.unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn an_answer_is_there_until_its_last_byte_is_taken() {
        let requests = Arc::new(Requests::default());
        let all = Bytes::from(vec![7; PIECE + 1]);
        let mut body = UnderWay::of(&requests).answered(all.clone());
        assert_eq!(requests.without_answer.load(Ordering::Relaxed), 0);
        assert_eq!(body.size_hint().exact(), Some(PIECE as u64 + 1));
        let first = piece(&mut body).await.unwrap();
        assert!(!body.is_end_stream());
        let last = piece(&mut body).await.unwrap();
        assert!(body.is_end_stream());
        assert_eq!(piece(&mut body).await, None);
        assert_eq!([&first[..], &last[..]].concat(), all);
        drop((body, first));
        assert_eq!(requests.lock().last_taken.len(), 1);
        drop(last);
        assert!(requests.lock().last_taken.is_empty());
        // One that nobody wants, and one of nothing.
        drop(UnderWay::of(&requests).answered(all));
        let mut none = UnderWay::of(&requests).answered(Bytes::new());
        assert!(none.is_end_stream() && requests.lock().last_taken.is_empty());
        assert_eq!(piece(&mut none).await, None);
    }

    #[tokio::test]
    async fn whoever_takes_nothing_is_stuck_and_is_not_idle() {
        let requests = Arc::new(Requests::default());
        assert_eq!(over(&requests, LONG).await, None);
        assert_eq!(requests.over(Duration::ZERO).await, Over::Idle);
        let asks = UnderWay::of(&requests);
        assert_eq!(over(&requests, Duration::ZERO).await, None);
        let mut body = asks.answered(Bytes::from(vec![7; 3 * PIECE]));
        assert_eq!(requests.over(Duration::ZERO).await, Over::Stuck);
        let made = Instant::now();
        let first = piece(&mut body).await.unwrap();
        assert!(requests.lock().last_taken[&0] >= made, "something is taken");
        // Whatever else is asked and taken meanwhile.
        drop(UnderWay::of(&requests).answered(Bytes::from_static(b"other")));
        let _asks = UnderWay::of(&requests);
        assert_eq!(over(&requests, LONG).await, None);
        assert_eq!(requests.over(Duration::ZERO).await, Over::Stuck);
        // It waits, until it is another that is the oldest.
        let waits = tokio::spawn({
            let requests = Arc::clone(&requests);
            async move { requests.over(Duration::from_millis(10)).await }
        });
        drop((body, first));
        let _other = UnderWay::of(&requests).answered(Bytes::from_static(b"other"));
        assert_eq!(waits.await.unwrap(), Over::Stuck);
    }
}
