//! Threads of a context beside the one that it is: how many there are, by the kernel's
//! word.
//!
//! A thread of one that is traced is traced from its first moment on. So each clone(2)
//! stops for the keeper, which lets it be made or says EAGAIN; each thread that was made
//! is told of twice, by its maker and by itself, in either order, and goes on after both;
//! and each end is told of.

use super::trace::Registers;
use crate::backend::process::wire::threads::is_of_thread;

/// So many may be allowed at most ([`allow_threads`](crate::allow_threads)).
const MOST: usize = 64;

/// Room for as many that are about to end beside.
const ROOM: usize = 2 * MOST;

/// A few numbers, in no order.
#[derive(Clone, Copy)]
struct Few {
    all: [i32; ROOM],
    count: usize,
}

impl Few {
    const fn new() -> Self {
        Self {
            all: [0; ROOM],
            count: 0,
        }
    }

    fn as_slice(&self) -> &[i32] {
        &self.all[..self.count]
    }

    /// False: there is no room.
    fn add(&mut self, number: i32) -> bool {
        let room = self.count < self.all.len();
        if room && !self.as_slice().contains(&number) {
            self.all[self.count] = number;
            self.count += 1;
        }
        room
    }

    fn remove(&mut self, number: i32) {
        let at = self.as_slice().iter().position(|&n| n == number);
        if let Some(at) = at {
            self.count -= 1;
            self.all[at] = self.all[self.count];
        }
    }
}

/// Those of one context.
#[derive(Clone, Copy)]
pub(crate) struct Threads {
    /// So many may there be.
    most: usize,
    there: Few,
    /// Those of them that have called exit(2): they run no code any more, and whoever
    /// waits for their ends may go on before they are gone.
    leaving: Few,
    /// Who makes one.
    makers: Few,
}

/// What is to be done about a clone(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clone {
    /// It is made.
    Made,
    /// It fails with this.
    Fails(i32),
}

impl Threads {
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most: (most as usize).min(MOST),
            there: Few::new(),
            leaving: Few::new(),
            makers: Few::new(),
        }
    }

    /// Whether it may have any.
    pub(crate) fn are_allowed(&self) -> bool {
        self.most > 0
    }

    pub(crate) fn has(&self, thread: i32) -> bool {
        self.there.as_slice().contains(&thread)
    }

    /// Those that there are.
    pub(crate) fn as_slice(&self) -> &[i32] {
        self.there.as_slice()
    }

    /// A thread is about to make another one, or a process, or something else.
    pub(crate) fn clones(&mut self, maker: i32, r: &Registers) -> Clone {
        self.seen(maker);
        if !is_of_thread(r.rdi) {
            return Clone::Fails(libc::EPERM);
        }
        let all = self.there.count + self.makers.count;
        let full = all - self.leaving.count >= self.most || all >= ROOM;
        if full || !self.makers.add(maker) {
            return Clone::Fails(libc::EAGAIN);
        }
        Clone::Made
    }

    /// A thread has stopped, and not because it has made one: if it was to, that has
    /// failed.
    pub(crate) fn seen(&mut self, thread: i32) {
        self.makers.remove(thread);
    }

    /// A thread has made another one.
    pub(crate) fn made(&mut self, maker: i32, thread: i32) {
        self.makers.remove(maker);
        self.there.add(thread);
    }

    /// One is about to make exit(2), from which nobody returns.
    pub(crate) fn leaves(&mut self, thread: i32) {
        self.seen(thread);
        if self.has(thread) {
            self.leaving.add(thread);
        }
    }

    /// One is no more.
    pub(crate) fn gone(&mut self, thread: i32) {
        self.makers.remove(thread);
        self.leaving.remove(thread);
        self.there.remove(thread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::process::wire::threads::THREAD;

    fn with(flags: u64) -> Registers {
        // SAFETY: integers, which may all be zero.
        let mut r: Registers = unsafe { std::mem::zeroed() };
        r.rdi = flags;
        r
    }

    #[test]
    fn there_are_never_more_than_are_allowed() {
        let mut all = Threads::new(2);
        let thread = with(THREAD[0]);
        // Two at the same time, and not three.
        assert_eq!(all.clones(1, &thread), Clone::Made);
        assert_eq!(all.clones(7, &thread), Clone::Made);
        assert_eq!(all.clones(8, &thread), Clone::Fails(libc::EAGAIN));
        // One has failed, for want of memory: its maker goes on.
        all.seen(7);
        all.made(1, 20);
        assert_eq!(all.clones(20, &thread), Clone::Made);
        assert_eq!(all.clones(1, &thread), Clone::Fails(libc::EAGAIN));
        all.made(20, 21);
        assert_eq!(all.clones(1, &thread), Clone::Fails(libc::EAGAIN));
        assert!(all.has(20) && all.has(21) && !all.has(1));
        all.gone(20);
        all.gone(20);
        assert_eq!(all.clones(1, &thread), Clone::Made);
        // A maker that asks again counts once.
        assert_eq!(all.clones(1, &thread), Clone::Made);
        assert_eq!(all.as_slice(), [21]);
    }

    #[test]
    fn who_leaves_makes_room_and_is_there_until_it_is_gone() {
        let mut all = Threads::new(1);
        let thread = with(THREAD[0]);
        for n in 10..500 {
            assert_eq!(all.clones(1, &thread), Clone::Made);
            all.made(1, n);
            assert_eq!(all.clones(1, &thread), Clone::Fails(libc::EAGAIN));
            // Twice is once; and a stranger is nobody.
            all.leaves(n);
            all.leaves(n);
            all.leaves(7);
            // The one before is collected late.
            assert!(all.has(n));
            all.gone(n - 1);
        }
        assert_eq!(all.as_slice(), [499]);
        // Those that nobody collects are not without end.
        let mut made = 0;
        while all.clones(1, &thread) == Clone::Made {
            made += 1;
            all.made(1, 1000 + made);
            all.leaves(1000 + made);
        }
        assert_eq!(all.as_slice().len(), ROOM);
    }

    #[test]
    fn nothing_but_threads_is_made() {
        let mut all = Threads::new(64);
        for flags in [
            0,
            libc::SIGCHLD as u64,
            THREAD[0] | 1 << 32,
            THREAD[0] ^ 0x800,
        ] {
            assert_eq!(all.clones(1, &with(flags)), Clone::Fails(libc::EPERM));
        }
        assert_eq!(
            Threads::new(0).clones(1, &with(THREAD[0])),
            Clone::Fails(libc::EAGAIN)
        );
        // Room is bounded, whoever stops.
        all.clones(1, &with(THREAD[0]));
        (100..400).for_each(|thread| all.made(1, thread));
        assert!(all.as_slice().len() <= ROOM);
    }
}
