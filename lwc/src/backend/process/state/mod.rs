//! What a context knows: data, and the rules that hold of it.
//!
//! Nothing here speaks to another context; [`sleep`] waits for one to have
//! spoken.
//!
//! * [`runtime`]: the current context; [`channel`]: one end of a pair;
//! * [`book`]: the root's register of contexts;
//! * [`rights`], [`ranges`]: what a descriptor lets its holder take;
//! * [`memory`]: the address space, and which of it is shared memory files;
//! * [`keeper`]: who rolls its copies back; [`share`]: how much memory it takes;
//! * [`slots`]: places for contexts that a trapped one makes;
//! * [`signals`]: what the kernel tells by a signal; [`alarm`]: a timer;
//! * [`processor`]: who runs, and who waits for something;
//! * [`mode`]: trapped, confined.

pub(crate) mod alarm;
pub(crate) mod book;
pub(crate) mod channel;
pub(crate) mod keeper;
pub(crate) mod memory;
pub(crate) mod mode;
pub(crate) mod processor;
pub(crate) mod ranges;
pub(crate) mod rights;
pub(crate) mod runtime;
pub(crate) mod share;
pub(crate) mod signals;
pub(crate) mod sleep;
pub(crate) mod slots;

#[cfg(test)]
pub(crate) mod liar {
    //! A root, and its channel to a context that is not there: the test writes
    //! what that one would.

    use super::channel::Channel;
    use super::runtime::Runtime;
    use crate::backend::process::wire::bell::{Bell, OwnBell, PeerBell};
    use crate::backend::process::wire::fds;
    use crate::backend::process::wire::mapped::{Mapped, seal_writes};
    use crate::backend::process::wire::pair::{Half, Pair, kind};
    use std::os::fd::OwnedFd;
    use std::sync::atomic::Ordering;

    pub(crate) struct Liar {
        pub(crate) rt: Runtime,
        /// The root's channel to the liar.
        pub(crate) index: usize,
        pub(crate) bell: OwnBell,
        /// The liar's end.
        pub(crate) sock: OwnedFd,
        pair: Mapped<Pair>,
    }

    impl Liar {
        pub(crate) fn new() -> Self {
            let mut rt = Runtime::root().unwrap();
            let file = Mapped::<Bell>::file(c"t").unwrap();
            let bell = OwnBell::new(Mapped::map(&file).unwrap());
            seal_writes(&file).unwrap();
            let pair = Mapped::<Pair>::file(c"t").unwrap();
            let (here, sock) = fds::socket_pair().unwrap();
            let theirs = PeerBell::map(&file).unwrap();
            let ours = Mapped::map(&pair).unwrap();
            let index = rt.add_channel(Channel::new(7, Some(here), ours, 0, theirs));
            Self {
                rt,
                index,
                bell,
                sock,
                pair: Mapped::map(&pair).unwrap(),
            }
        }

        /// What the liar has written last is a message of this kind.
        pub(crate) fn says(&self, what: u32, words: &[u64], bytes: &[u8]) {
            let half = &self.pair.halves[1];
            half.put_words(words);
            half.put_payload(bytes);
            half.errno.store(0, Ordering::Relaxed);
            half.publish(what);
        }

        /// And so many bytes, it says.
        pub(crate) fn claims(&self, count: u32) {
            self.pair.halves[1].count.store(count, Ordering::Relaxed);
        }

        pub(crate) fn answers(&self, words: &[u64], bytes: &[u8]) {
            self.says(kind::REPLY, words, bytes);
        }

        /// What it was told last.
        pub(crate) fn hears(&self) -> &Half {
            &self.pair.halves[0]
        }
    }
}
