//! Doorbells: how a context sleeps, and how others wake it.
//!
//! A doorbell is a page that its owner alone writes (but for one word of the
//! root's). Everybody who may wake the owner has it mapped to read, from a
//! memory file that nobody can map writable any more. So nothing that many can
//! reach carries anything that anybody relies on: what others have to say is
//! in the pages of pairs ([`super::pair`]), and on the doorbell they can only
//! call FUTEX_WAKE, which for nothing costs the owner a look around.
//!
//! # No wake-up is lost
//! The owner says on its doorbell that it sleeps (an odd count), *then* looks at
//! every page of a pair, then sleeps if the count is still what it said. Who
//! has written to a pair page looks at the count *afterwards*. Both are in one
//! order for all (SeqCst). If the count is even, the owner has yet to look and
//! will see what was written. If it is odd, the owner is woken; if it was not
//! asleep yet, it is on its way, and is woken again a moment later.
//!
//! # Nothing can be kept there
//! In one process's functions that share nothing, each has the doorbells of the root
//! and of its own snapshot mapped, and may wake these for nothing. So what changes
//! there with each sleep and each hand-over is no count, which a function could set
//! by waking and another could read, in another request: of whoever makes contexts
//! the words are random numbers ([`Noise`]), of which the lowest bit alone means
//! something, and that they differ from the last ones. They tell nobody how often
//! others were called, either.
//!
//! # Who sleeps there
//! futex(2) tells how many it has woken. In the sandbox a context may sleep on
//! its own doorbell alone, so that number is the kernel's word that the owner
//! was asleep, which [`PeerBell::is_asleep`] asks for without waking it.

use super::gate;
use super::mapped::Mapped;
use super::noise::Noise;
use crate::error::Result;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Bits of the word that tells how a context ended: with an exit status, by a
/// signal, or, of the root, discarded while its process keeps the book.
pub(crate) const EXITED: u32 = 1 << 16;
pub(crate) const SIGNALED: u32 = 1 << 17;
pub(crate) const ANCHORED: u32 = 1 << 18;

/// The same in words.
pub(crate) fn describe_end(dead: u32) -> String {
    let low = (dead & 0xffff) as i32;
    if dead & SIGNALED == 0 {
        return format!("exited with status {low}");
    }
    match nix::sys::signal::Signal::try_from(low) {
        Ok(signal) => format!("killed by {signal}"),
        Err(_) => format!("killed by signal {low}"),
    }
}

/// The page. Each word has one writer, the owner, but for `dead`.
#[repr(C)]
pub(crate) struct Bell {
    /// What futex(2) waits on: even while the owner is awake, odd while it
    /// sleeps or is about to; each time another number.
    state: AtomicU32,
    /// Not zero if the owner's system calls are trapped.
    trapped: AtomicU32,
    /// Not zero while the owner waits for the answer to a trapped call: the
    /// identity of the one context that may give it.
    awaits: AtomicU64,
    /// Another number with each hand-over that the owner has received.
    received: AtomicU64,
    /// That number when it last handed over: while the two differ it has the
    /// baton.
    gave_at: AtomicU64,
    /// To whom that was, and that one's number before.
    gave_to: AtomicU64,
    to_had: AtomicU64,
    /// How the owner ended; zero while it lives. The root writes it. The owner
    /// could, to be taken for dead by those who would switch to it; the root
    /// keeps its own book.
    dead: AtomicU32,
    /// Of the root's: odd while it holds sleepers, where nobody wakes them.
    looks: AtomicU32,
}

/// Bytes of the page that mean something.
pub(crate) const USED: usize = size_of::<Bell>();

/// Where in the page the words of the baton are that a keeper sets: `received`,
/// `gave_at`, `gave_to`, `to_had`.
pub(crate) const BATON_AT: [usize; 4] = [
    std::mem::offset_of!(Bell, received),
    std::mem::offset_of!(Bell, gave_at),
    std::mem::offset_of!(Bell, gave_to),
    std::mem::offset_of!(Bell, to_had),
];

/// Times that a ringer tries to wake an owner that is on its way to sleep: some
/// microseconds, as that way takes where the owner runs meanwhile. It does not
/// give its processor up for that: on a loaded one others would have it first,
/// for milliseconds, and the owner be no further.
const TRIES: usize = 20;

fn futex(word: &AtomicU32, op: i32, value: u64, time: u64, other: u64) -> i64 {
    // SAFETY: futex(2) on a word inside a mapping that the caller holds. WAKE
    // and REQUEUE of nothing read and write no memory; WAIT reads the word and
    // the timespec that `time` points at, which lives across the call.
    unsafe {
        gate::own([
            libc::SYS_futex as u64,
            word.as_ptr() as u64,
            op as u64,
            value,
            time,
            other,
            0,
        ])
    }
}

/// futex_wake(2), Linux 6.7, the same number everywhere. Who may call it can wake
/// and nothing else, so that in a sandbox no filter has to look at what it is
/// asked to do: half of what a switch costs there.
pub(crate) const SYS_FUTEX_WAKE: i64 = 454;

/// Whether the kernel, and who filters its calls, lets us call it.
static WAKES: AtomicBool = AtomicBool::new(true);

/// Wakes all that sleep at a word. How many, or an error that nobody acts on.
fn wake(word: &AtomicU32) -> i64 {
    /// A word of 32 bits, in memory that may be shared.
    const SIZE_U32: u64 = 2;
    const ALL: u64 = i32::MAX as u64;
    if WAKES.load(Ordering::Relaxed) {
        let any = u64::from(u32::MAX);
        let at = word.as_ptr() as u64;
        // SAFETY: wakes whoever sleeps at an address, and neither reads nor
        // writes memory.
        let woken = unsafe { gate::own([SYS_FUTEX_WAKE as u64, at, any, ALL, SIZE_U32, 0, 0]) };
        if woken >= 0 {
            return woken;
        }
        WAKES.store(false, Ordering::Relaxed);
    }
    futex(word, libc::FUTEX_WAKE, ALL, 0, 0)
}

/// The owner's view.
pub(crate) struct OwnBell {
    page: Mapped<Bell>,
    noise: Noise,
}

impl OwnBell {
    /// By a mapping that can be written.
    pub(crate) fn new(page: Mapped<Bell>) -> Self {
        page.inherit(false);
        Self {
            page,
            noise: Noise::none(),
        }
    }

    /// Before a process is made of this one's memory, and after it, here: see
    /// [`Noise`].
    pub(crate) fn noise(&self) -> &Noise {
        &self.noise
    }

    /// Moves it to another address, where nothing is.
    pub(crate) fn move_to(&mut self, to: u64) -> Result<()> {
        self.page.move_to(to)
    }

    /// The word that a signal's handler makes even, so that a sleep that is about
    /// to begin, or goes on when it returns, ends at once.
    pub(crate) fn word(&self) -> *mut AtomicU32 {
        (&raw const self.page.state).cast_mut()
    }

    /// Where the owner may sleep.
    pub(crate) fn address(&self) -> u64 {
        self.page.state.as_ptr() as u64
    }

    /// Says that the owner sleeps, before it looks around for the last time.
    /// A handler of a signal that sleeps in the middle of this sleep leaves
    /// another odd number.
    pub(crate) fn doze(&self) -> (u32, bool) {
        let was = self.page.state.load(Ordering::Relaxed);
        (self.put_state(was, 1), was & 1 == 0)
    }

    /// Sleeps until woken, a signal, or `limit`, unless the count is no longer
    /// the one that [`doze`](Self::doze) gave.
    pub(crate) fn sleep(&self, dozed: (u32, bool), limit: Option<Duration>) {
        let ts = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(limit.subsec_nanos()),
        });
        let until = ts.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        futex(
            &self.page.state,
            libc::FUTEX_WAIT,
            dozed.0.into(),
            until as u64,
            0,
        );
    }

    /// Awake again, if no handler of a signal has said so before.
    pub(crate) fn rise(&self, dozed: (u32, bool)) {
        let was = self.page.state.load(Ordering::Relaxed);
        if dozed.1 && was & 1 == 1 {
            self.put_state(was, 0);
        }
    }

    /// Another number than the last one, odd or even: the owner alone writes it.
    fn put_state(&self, was: u32, odd: u32) -> u32 {
        let next = self.noise.half_after(was);
        // Where numbers are counted the next one may be of the same kind.
        let next = if next & 1 == odd { next } else { next ^ 1 };
        let next = if next == was { next ^ 2 } else { next };
        self.page.state.swap(next, Ordering::SeqCst);
        next
    }

    pub(crate) fn set_trapped(&self) {
        self.page.trapped.store(1, Ordering::Relaxed);
    }

    pub(crate) fn set_awaits(&self, id: u64) {
        self.page.awaits.store(id, Ordering::Relaxed);
    }

    /// The root begins to hold sleepers, or has let go of all of them.
    pub(crate) fn look(&self) {
        let was = self.page.looks.load(Ordering::Relaxed);
        let next = self.noise.half_after(was) & !1 | !was & 1;
        self.page.looks.swap(next, Ordering::SeqCst);
    }

    /// The root discarded itself.
    pub(crate) fn set_dead(&self, how: u32) {
        self.page.dead.store(how, Ordering::Relaxed);
    }

    /// The owner receives a hand-over, or takes the baton back of itself: whom it
    /// gave it to has not returned it in time, or has ended.
    pub(crate) fn receive(&self) {
        let was = self.page.received.load(Ordering::Relaxed);
        let next = self.noise.after(was);
        self.page.received.store(next, Ordering::Release);
    }

    /// The owner hands over to a context whose number is that.
    pub(crate) fn give(&self, to: u64, had: u64) {
        self.page.gave_to.store(to, Ordering::Relaxed);
        self.page.to_had.store(had, Ordering::Relaxed);
        let received = self.page.received.load(Ordering::Relaxed);
        self.page.gave_at.store(received, Ordering::Release);
    }

    /// What the owner received last was nobody's to give: the baton is where it
    /// had gone from here before.
    pub(crate) fn wait_on(&self) {
        let received = self.page.received.load(Ordering::Relaxed);
        self.page.gave_at.store(received, Ordering::Release);
    }

    /// Where the baton went from here, as [`PeerBell::baton`].
    pub(crate) fn baton(&self) -> Baton {
        baton(&self.page)
    }
}

/// What a context says of the baton, on its doorbell. All numbers are its own:
/// nobody's lie about them moves another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Baton {
    /// Another number with each hand-over that it has received.
    pub(crate) received: u64,
    /// Where the baton went from here, and that one's number before; none while
    /// it is here.
    pub(crate) went_to: Option<(u64, u64)>,
}

fn baton(bell: &Bell) -> Baton {
    let gave_at = bell.gave_at.load(Ordering::Acquire);
    let to = bell.gave_to.load(Ordering::Relaxed);
    let had = bell.to_had.load(Ordering::Relaxed);
    let received = bell.received.load(Ordering::Relaxed);
    Baton {
        received,
        went_to: (gave_at == received).then_some((to, had)),
    }
}

/// Another's doorbell, to be read and rung.
pub(crate) struct PeerBell(Mapped<Bell>);

impl PeerBell {
    /// By the doorbell's file, under [`super::mapped::seal_writes`].
    pub(crate) fn map(fd: impl AsFd) -> Result<Self> {
        Mapped::map_to_read(fd).map(Self)
    }

    /// By a mapping that there is.
    pub(crate) fn new(page: Mapped<Bell>) -> Self {
        Self(page)
    }

    pub(crate) fn ptr(&self) -> NonNull<Bell> {
        self.0.ptr()
    }

    pub(crate) fn inherit(&self, yes: bool) {
        self.0.inherit(yes);
    }

    pub(crate) fn again(&self) -> Result<Self> {
        self.0.again().map(Self)
    }

    /// The first use costs a fault: now, not at a switch.
    pub(crate) fn touch(&self) {
        self.0.state.load(Ordering::Relaxed);
    }

    pub(crate) fn is_trapped(&self) -> bool {
        self.0.trapped.load(Ordering::Relaxed) != 0
    }

    /// The one context that the owner takes an answer from; zero: any.
    pub(crate) fn awaits(&self) -> u64 {
        self.0.awaits.load(Ordering::Relaxed)
    }

    /// Another number each time that it goes to sleep or wakes: odd while it sleeps.
    pub(crate) fn count(&self) -> u32 {
        self.0.state.load(Ordering::SeqCst)
    }

    /// Of the root's: another number each time that it begins, or ends, to hold
    /// sleepers; odd while it does.
    pub(crate) fn looks(&self) -> u32 {
        self.0.looks.load(Ordering::SeqCst)
    }

    /// How it ended; zero while it lives.
    pub(crate) fn dead(&self) -> u32 {
        self.0.dead.load(Ordering::Relaxed)
    }

    pub(crate) fn baton(&self) -> Baton {
        baton(&self.0)
    }

    /// Wakes the owner, for which something has been written to a pair page
    /// ([`super::pair::Half::publish`]). False: it was on its way to sleep all
    /// the time, and is to be rung again in a while.
    #[must_use]
    pub(crate) fn ring(&self) -> bool {
        let first = self.0.state.load(Ordering::SeqCst);
        for _ in 0..TRIES {
            let state = self.0.state.load(Ordering::SeqCst);
            if state & 1 == 0 || state != first {
                return true;
            }
            if wake(&self.0.state) > 0 {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Moves whoever sleeps on this doorbell to a word of the caller's own, which
    /// nobody else can wake at. Whether somebody was asleep.
    pub(crate) fn hold(&self, place: &AtomicU32) -> bool {
        let (from, to) = (&self.0.state, place.as_ptr() as u64);
        futex(from, libc::FUTEX_REQUEUE, 0, i32::MAX as u64, to) > 0
    }

    /// Moves it back.
    pub(crate) fn release(&self, place: &AtomicU32) {
        let to = self.0.state.as_ptr() as u64;
        futex(place, libc::FUTEX_REQUEUE, 0, i32::MAX as u64, to);
    }

    /// Has the owner look around, if it sleeps.
    pub(crate) fn wake(&self) {
        wake(&self.0.state);
    }

    /// Whether somebody sleeps on this doorbell, by the kernel's word: it would
    /// move so many sleepers to where they are.
    pub(crate) fn is_asleep(&self) -> bool {
        let word = &self.0.state;
        let all = i32::MAX as u64;
        futex(word, libc::FUTEX_REQUEUE, 0, all, word.as_ptr() as u64) > 0
    }
}

/// The root's view of a context's doorbell beside its [`PeerBell`].
pub(crate) struct Registered(Mapped<Bell>);

impl Registered {
    /// By a mapping that can be written.
    pub(crate) fn new(page: Mapped<Bell>) -> Self {
        page.inherit(false);
        Self(page)
    }

    /// For the fork of a new context, whose own doorbell it becomes.
    pub(crate) fn inherit(&self, yes: bool) {
        self.0.inherit(yes);
    }

    pub(crate) fn ptr(&self) -> NonNull<Bell> {
        self.0.ptr()
    }

    pub(crate) fn set_dead(&self, how: u32) {
        self.0.dead.store(how, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapped::seal_writes;
    use super::*;
    use std::os::fd::{AsRawFd, OwnedFd};

    fn pair() -> (OwnBell, PeerBell, OwnedFd) {
        let fd = Mapped::<Bell>::file(c"t").unwrap();
        let own = OwnBell::new(Mapped::map(&fd).unwrap());
        seal_writes(&fd).unwrap();
        let peer = PeerBell::map(&fd).unwrap();
        (own, peer, fd)
    }

    #[test]
    fn nobody_but_the_owner_can_write() {
        let (_own, peer, fd) = pair();
        assert!(Mapped::<Bell>::map(&fd).is_err());
        // SAFETY: asks for more rights to a mapping of our own.
        let rc = unsafe {
            libc::mprotect(
                peer.ptr().as_ptr().cast(),
                Mapped::<Bell>::LEN,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        assert_eq!(rc, -1);
        // SAFETY: writes a local byte to a descriptor of our own.
        let rc = unsafe { libc::pwrite(fd.as_raw_fd(), [1u8].as_ptr().cast(), 1, 0) };
        assert_eq!(rc, -1);
    }

    #[test]
    fn a_sleeper_is_seen_and_woken() {
        let (own, peer, _) = pair();
        assert!(!peer.is_asleep());
        assert!(peer.ring(), "one that is awake needs no waking");
        struct Owner(OwnBell);
        // SAFETY: atomics in a shared mapping, which stays where it is.
        unsafe impl Send for Owner {}
        let owner = Owner(own);
        let sleeper = std::thread::spawn(move || {
            let Owner(own) = &{ owner };
            let dozed = own.doze();
            own.sleep(dozed, None);
            own.rise(dozed);
        });
        while !peer.is_asleep() {
            std::thread::yield_now();
        }
        assert!(peer.is_asleep(), "asking wakes nobody");
        let place = AtomicU32::new(0);
        assert!(peer.hold(&place));
        assert!(!peer.ring(), "one that is held cannot be woken");
        assert!(!peer.hold(&place));
        peer.release(&place);
        assert!(peer.is_asleep());
        assert!(peer.ring());
        sleeper.join().unwrap();
        assert!(!peer.is_asleep());
    }

    #[test]
    fn one_that_never_sleeps_is_given_up_and_one_that_rose_is_not() {
        let (own, peer, _) = pair();
        let dozed = own.doze();
        assert!(!peer.ring());
        own.rise(dozed);
        assert!(peer.ring());
    }

    #[test]
    fn the_baton_is_here_until_it_is_given() {
        let (own, peer, _) = pair();
        own.receive();
        assert_eq!(
            peer.baton(),
            Baton {
                received: 1,
                went_to: None
            }
        );
        own.give(3, 7);
        let went_to = Some((3, 7));
        assert_eq!(
            peer.baton(),
            Baton {
                received: 1,
                went_to
            }
        );
        own.receive();
        assert_eq!(
            peer.baton(),
            Baton {
                received: 2,
                went_to: None
            }
        );
        own.wait_on();
        assert_eq!(peer.baton().went_to, Some((3, 7)));
    }
}
