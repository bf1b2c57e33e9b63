//! What callers may hold at once: bytes of bodies, all together; connections and
//! requests, of one address. Each has a limit and a count of what was refused for it.

use super::listener::Caller;
use bytes::Bytes;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What something was refused for, or hung up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Budget {
    /// Bytes of bodies.
    Bodies,
    /// Connections of an address.
    Connections,
    /// Requests of an address at once.
    Requests,
    /// Time without a request, on HTTP/2.
    Idle,
    /// Bytes or lines of a head.
    Heads,
}

impl Budget {
    const ALL: [Self; 5] = [
        Self::Bodies,
        Self::Connections,
        Self::Requests,
        Self::Idle,
        Self::Heads,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Bodies => "bodies",
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::Idle => "idle",
            Self::Heads => "heads",
        }
    }
}

/// How much there is at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) body_bytes: u64,
    /// Of one address.
    pub(super) connections: usize,
    /// Of one address.
    pub(super) requests: usize,
}

/// Pages and figures for operators that callers may have asked for and not taken yet,
/// where both come in by the same listener. Each is made anew, and as long as there are
/// chains.
const PAGES: usize = 64;

/// What is held.
#[derive(Debug)]
pub(super) struct Budgets {
    limits: Limits,
    body_bytes: AtomicU64,
    pages: Arc<Semaphore>,
    /// Those with connections.
    peers: Mutex<HashMap<Holder, Peer>>,
    refused: [AtomicU64; Budget::ALL.len()],
}

/// What an address holds.
#[derive(Debug, Default)]
struct Peer {
    connections: usize,
    requests: Arc<AtomicUsize>,
}

impl Budgets {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            body_bytes: AtomicU64::new(0),
            pages: Arc::new(Semaphore::new(PAGES)),
            peers: Mutex::new(HashMap::new()),
            refused: Default::default(),
        })
    }

    /// Counts one that was refused.
    pub(super) fn refused(&self, budget: Budget) {
        self.refused[budget as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many were, by what for.
    pub(super) fn all_refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |b: Budget| self.refused[b as usize].load(Ordering::Relaxed);
        Budget::ALL.into_iter().map(move |b| (b.as_str(), count(b)))
    }

    /// Bytes of bodies that are held.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes.load(Ordering::Relaxed)
    }

    /// Connections that are there.
    pub(super) fn connections(&self) -> usize {
        self.lock().values().map(|p| p.connections).sum()
    }

    /// Room for one body, which has none yet.
    pub(super) fn room(self: &Arc<Self>) -> Room {
        Room {
            budgets: Arc::clone(self),
            held: 0,
        }
    }

    /// Leave to make a page; `None` if there are as many as there may be.
    pub(super) fn page(&self) -> Option<Page> {
        let permit = Arc::clone(&self.pages).try_acquire_owned();
        if permit.is_err() {
            self.refused(Budget::Bodies);
        }
        permit.ok().map(Page)
    }

    /// A connection of somebody's; `None` if he has as many as he may.
    pub(super) fn connect(self: &Arc<Self>, holder: Holder) -> Option<Connected> {
        let mut peers = self.lock();
        let peer = peers.entry(holder).or_default();
        if peer.connections >= self.limits.connections {
            drop(peers);
            self.refused(Budget::Connections);
            return None;
        }
        peer.connections += 1;
        Some(Connected {
            budgets: Arc::clone(self),
            holder,
            requests: Arc::clone(&peer.requests),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Holder, Peer>> {
        // Nothing that can panic runs under the lock.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose connections are counted together: an address's, or where there is none, those of
/// a user of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// An address of IPv4, or the first half of one of IPv6: a machine has 2^64 of these,
    /// and may use another each time.
    Network(IpAddr),
    /// Whoever has connected to a socket file, as the kernel has it.
    User(u32),
    /// All of whom it does not tell.
    Unknown,
}

impl Holder {
    pub(super) fn of(caller: Caller) -> Self {
        match caller {
            Caller::Address(address) => Self::at(address.ip()),
            Caller::User(user) => Self::User(user),
            Caller::Unknown => Self::Unknown,
        }
    }

    fn at(address: IpAddr) -> Self {
        Self::Network(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The bytes of one body, until it is dropped: of a request's, and of its answer's in the
/// place of that, until it has been taken.
#[derive(Debug)]
pub(super) struct Room {
    budgets: Arc<Budgets>,
    held: u64,
}

impl Room {
    /// Takes so many more; false if there are none left. A body that is alone may have
    /// any size that its chain takes.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let (held, limit) = (self.held, self.budgets.limits.body_bytes);
        let more = |all: u64| {
            let new = all.checked_add(bytes)?;
            (new <= limit || all == held).then_some(new)
        };
        let all = &self.budgets.body_bytes;
        let taken = all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        match taken {
            Ok(_) => self.held += bytes,
            Err(_) => self.budgets.refused(Budget::Bodies),
        }
        taken.is_ok()
    }

    /// It is for so many from now on; false, and as it was, if there are not so many more.
    pub(super) fn change(&mut self, bytes: u64) -> bool {
        let Some(less) = self.held.checked_sub(bytes) else {
            return self.take(bytes - self.held);
        };
        self.budgets.body_bytes.fetch_sub(less, Ordering::Relaxed);
        self.held = bytes;
        true
    }

    /// These bytes, which have the room for as long as anybody has any of them.
    pub(super) fn around(self, bytes: Bytes) -> Bytes {
        held(bytes, self)
    }
}

/// One page, until it has been taken.
#[derive(Debug)]
pub(super) struct Page(
    #[expect(dead_code, reason = "it is given back when it goes")] OwnedSemaphorePermit,
);

impl Page {
    /// These bytes, which are the page for as long as anybody has any of them.
    pub(super) fn around(self, bytes: Bytes) -> Bytes {
        held(bytes, self)
    }
}

/// These bytes, which hold something for as long as anybody has any of them.
pub(super) fn held<H: Send + 'static>(bytes: Bytes, what: H) -> Bytes {
    struct Held<H> {
        bytes: Bytes,
        _what: H,
    }

    impl<H> AsRef<[u8]> for Held<H> {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    Bytes::from_owner(Held { bytes, _what: what })
}

impl Drop for Room {
    fn drop(&mut self) {
        let all = &self.budgets.body_bytes;
        all.fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// One connection of somebody's, until it is dropped.
#[derive(Debug)]
pub(super) struct Connected {
    budgets: Arc<Budgets>,
    holder: Holder,
    requests: Arc<AtomicUsize>,
}

impl Connected {
    /// A request on it; `None` if its address has as many as it may.
    pub(super) fn request(&self) -> Option<Asked> {
        let most = self.budgets.limits.requests;
        let more = |n| (n < most).then_some(n + 1);
        let taken = self
            .requests
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if taken.is_err() {
            self.budgets.refused(Budget::Requests);
            return None;
        }
        Some(Asked(Arc::clone(&self.requests)))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        if let Entry::Occupied(mut peer) = self.budgets.lock().entry(self.holder) {
            peer.get_mut().connections -= 1;
            // A request may be there a little longer; it counts by itself.
            if peer.get().connections == 0 {
                peer.remove();
            }
        }
    }
}

/// One request of an address, until it is dropped.
#[derive(Debug)]
pub(super) struct Asked(Arc<AtomicUsize>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budgets() -> Arc<Budgets> {
        Budgets::new(Limits {
            body_bytes: 100,
            connections: 2,
            requests: 1,
        })
    }

    fn refused(budgets: &Budgets, budget: &str) -> u64 {
        let mut all = budgets.all_refused();
        all.find(|(name, _)| *name == budget).unwrap().1
    }

    #[test]
    fn bodies_have_no_more_than_there_is_unless_alone() {
        let all = budgets();
        let (mut one, mut two) = (all.room(), all.room());
        assert!(one.take(60) && one.take(60), "alone");
        assert!(!two.take(1));
        drop(one);
        assert!(two.take(50));
        let mut three = all.room();
        assert!(three.take(50) && !three.take(1) && !two.take(u64::MAX));
        drop((two, three));
        assert_eq!((all.body_bytes(), refused(&all, "bodies")), (0, 3));
    }

    #[test]
    fn an_answer_has_its_requests_room_until_nobody_has_it() {
        let all = budgets();
        let (mut one, mut two) = (all.room(), all.room());
        assert!(one.take(60) && two.take(10));
        assert!(one.change(20) && two.change(80) && !one.change(21));
        assert_eq!((all.body_bytes(), refused(&all, "bodies")), (100, 1));
        drop(two);
        // Alone.
        assert!(one.change(300));
        let mut bytes = one.around(Bytes::from_static(b"answer"));
        let last = bytes.split_off(5);
        assert_eq!(bytes, "answe");
        drop(bytes);
        assert_eq!(all.body_bytes(), 300);
        drop(last);
        assert_eq!(all.body_bytes(), 0);
    }

    #[test]
    fn an_address_has_so_many_and_others_have_theirs() {
        let all = budgets();
        let of = |address: &str| all.connect(Holder::at(address.parse().unwrap()));
        let (one, two) = (of("192.0.2.1").unwrap(), of("::ffff:192.0.2.1").unwrap());
        assert!(of("192.0.2.1").is_none());
        let other = of("192.0.2.2").unwrap();
        let v6 = (of("2001:db8::1").unwrap(), of("2001:db8::2:1").unwrap());
        assert!(of("2001:db8::3").is_none() && of("2001:db8:0:1::1").is_some());
        // Users of this machine are no addresses, and each is another.
        let users = [1, 1, 2].map(|u| all.connect(Holder::User(u)).unwrap());
        assert!(all.connect(Holder::User(1)).is_none() && all.connect(Holder::Unknown).is_some());
        // Both connections' requests are the address's.
        let asked = one.request().unwrap();
        assert!(two.request().is_none());
        assert!(other.request().is_some());
        drop(asked);
        assert!(two.request().is_some());
        assert_eq!(all.connections(), 8);
        drop((one, two, other, v6, users));
        assert_eq!(all.connections(), 0);
        assert_eq!(refused(&all, "connections"), 3);
        assert_eq!(refused(&all, "requests"), 1);
    }
}
