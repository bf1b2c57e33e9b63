//! Requests between contexts, and their answers, as words of a pair page.
//!
//! A request is a few words and bytes in the asker's half; descriptors go over
//! the socket of the pair. The answer goes back the same way, with an errno.
//! Whoever reads these words has copied them first, and believes nothing that
//! [`Request::decode`] has not looked at.

use super::pair::WORDS;
use std::os::fd::RawFd;

/// The words of a message.
pub(crate) type Words = [u64; WORDS];

/// A system call: number and arguments.
pub(crate) type Call = [u64; 7];

/// What one context asks of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Narrow the asker's rights. Bytes: specifiers.
    Restrict,
    /// Lend resources. Bytes: specifiers. Answer: [`super::parts`].
    Overlay,
    /// Meet a new holder, who gets the asker's rights. Descriptors: socket, pair
    /// page, doorbell.
    Introduce { id: u64 },
    /// Of the root: book a new context. Answer: its identity. Descriptors:
    /// socket, pair page, doorbell, and the slots of a trapped one.
    Register { flags: u32, shared_table: bool },
    /// Of the root: book a context that a trapped one makes in a slot of its
    /// own. `own_trap`: its calls go to its maker. Answer: its identity.
    RegisterSlot {
        flags: u32,
        slot: usize,
        own_trap: bool,
    },
    /// Of the root: it has a process now.
    Born { id: u64 },
    /// Of the root: it could not be made.
    Unregister { id: u64 },
    /// Of the root: one more descriptor of `target` for `holder`.
    Hold { holder: u64, target: u64 },
    /// Of the root: one less for the asker.
    Unhold { target: u64 },
    /// Of the root: facts.
    Info { id: u64 },
    /// Of the root: end it.
    Destroy { id: u64 },
    /// Read memory. Answer: bytes.
    Peek { at: u64, len: u64 },
    /// Write memory. Bytes.
    Poke { at: u64, len: u64 },
    /// Make a system call. Answer: its result.
    Run(Call),
    /// Lend a descriptor. Answer: the descriptor.
    Fetch { fd: RawFd },
    /// Take a descriptor. Descriptors: it. Answer: its number.
    Take { cloexec: bool },
    /// Meet a context that the asker, whose calls come here, makes in a slot.
    Meet {
        id: u64,
        slot: usize,
        supervised: bool,
    },
    /// Meet a new holder, as [`Request::Introduce`] has it, by what the asker,
    /// our monitor, has put here: addresses of pair page and doorbell, number of
    /// the socket.
    MeetAt {
        id: u64,
        pair: u64,
        bell: u64,
        sock: RawFd,
    },
    /// The asker enters the strict sandbox, and will ask for nothing more.
    Seal,
    /// From the root: hold a context, if it is known here. Answer: the number of
    /// its descriptor, if it is.
    Know { id: u64 },
    /// From the root: meet another context, and hold it or not. Descriptors:
    /// pair page, doorbell. Answer: the descriptor's number.
    Greet { id: u64, hold: bool },
    /// The asker's share of memory is told by the descriptor that comes with this.
    ShowShare,
}

/// A word that is one or zero.
fn flag(word: u64) -> Option<bool> {
    match word {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn number(word: u64) -> Option<RawFd> {
    RawFd::try_from(word as i64).ok()
}

impl Request {
    /// As words; what is behind them is zero.
    pub(crate) fn encode(&self) -> Words {
        use Request as R;
        let mut words = [0; WORDS];
        let mut put = |all: &[u64]| words[..all.len()].copy_from_slice(all);
        match *self {
            R::Restrict => put(&[1]),
            R::Overlay => put(&[2]),
            R::Introduce { id } => put(&[3, id]),
            R::Register {
                flags,
                shared_table,
            } => put(&[4, flags.into(), shared_table.into()]),
            R::RegisterSlot {
                flags,
                slot,
                own_trap,
            } => put(&[5, flags.into(), slot as u64, own_trap.into()]),
            R::Born { id } => put(&[6, id]),
            R::Unregister { id } => put(&[7, id]),
            R::Hold { holder, target } => put(&[8, holder, target]),
            R::Unhold { target } => put(&[9, target]),
            R::Info { id } => put(&[10, id]),
            R::Destroy { id } => put(&[11, id]),
            R::Peek { at, len } => put(&[12, at, len]),
            R::Poke { at, len } => put(&[13, at, len]),
            R::Run([n, a, b, c, d, e, f]) => put(&[14, n, a, b, c, d, e, f]),
            R::Fetch { fd } => put(&[15, fd as u64]),
            R::Take { cloexec } => put(&[16, cloexec.into()]),
            R::Meet {
                id,
                slot,
                supervised,
            } => put(&[17, id, slot as u64, supervised.into()]),
            R::MeetAt {
                id,
                pair,
                bell,
                sock,
            } => put(&[18, id, pair, bell, sock as u64]),
            R::Seal => put(&[19]),
            R::Know { id } => put(&[20, id]),
            R::Greet { id, hold } => put(&[21, id, hold.into()]),
            R::ShowShare => put(&[22]),
        }
        words
    }

    /// The request in words that another context wrote. `None`: there is no such
    /// request.
    pub(crate) fn decode(words: &Words) -> Option<Self> {
        use Request as R;
        let [what, a, b, c, d, ..] = *words;
        Some(match what {
            1 => R::Restrict,
            2 => R::Overlay,
            3 => R::Introduce { id: a },
            4 => R::Register {
                flags: a.try_into().ok()?,
                shared_table: flag(b)?,
            },
            5 => R::RegisterSlot {
                flags: a.try_into().ok()?,
                slot: b.try_into().ok()?,
                own_trap: flag(c)?,
            },
            6 => R::Born { id: a },
            7 => R::Unregister { id: a },
            8 => R::Hold {
                holder: a,
                target: b,
            },
            9 => R::Unhold { target: a },
            10 => R::Info { id: a },
            11 => R::Destroy { id: a },
            12 => R::Peek { at: a, len: b },
            13 => R::Poke { at: a, len: b },
            14 => R::Run(std::array::from_fn(|i| words[1 + i])),
            15 => R::Fetch { fd: number(a)? },
            16 => R::Take { cloexec: flag(a)? },
            17 => R::Meet {
                id: a,
                slot: b.try_into().ok()?,
                supervised: flag(c)?,
            },
            18 => R::MeetAt {
                id: a,
                pair: b,
                bell: c,
                sock: number(d)?,
            },
            19 => R::Seal,
            20 => R::Know { id: a },
            21 => R::Greet {
                id: a,
                hold: flag(b)?,
            },
            22 => R::ShowShare,
            _ => return None,
        })
    }

    /// Whether the root is asked as the keeper of the book, which it is also
    /// after it has discarded itself.
    pub(crate) fn is_of_the_root(&self) -> bool {
        matches!(
            self,
            Self::Register { .. }
                | Self::RegisterSlot { .. }
                | Self::Born { .. }
                | Self::Unregister { .. }
                | Self::Hold { .. }
                | Self::Unhold { .. }
                | Self::Info { .. }
                | Self::Destroy { .. }
                | Self::ShowShare
        )
    }
}

/// What the root tells of a context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) creator: u64,
    pub(crate) flags: u32,
    /// `LWC_STATE_DEAD` and so on.
    pub(crate) state: u32,
    /// Contexts in the process.
    pub(crate) contexts: u64,
    pub(crate) resident: u64,
    pub(crate) private: u64,
    /// Bytes, each page divided by how many have it.
    pub(crate) pss: Option<u64>,
    /// Its process; 0 if it is dead.
    pub(crate) pid: i32,
}

/// What an answer says, beside bytes and descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// An identity.
    Id(u64),
    /// A descriptor's number, or that there is none.
    Number(Option<RawFd>),
    /// What a system call returned.
    Returned(i64),
    /// Facts.
    Facts(Facts),
}

/// Words that an answer may use; the last one counts descriptors.
const COUNT: usize = WORDS - 1;

impl Answer {
    /// As words. `fds`: descriptors that come with it.
    pub(crate) fn encode(&self, fds: usize) -> Words {
        let mut words = [0; WORDS];
        let mut put = |all: &[u64]| words[..all.len()].copy_from_slice(all);
        match *self {
            Self::Done => put(&[1]),
            Self::Id(id) => put(&[2, id]),
            Self::Number(None) => put(&[3]),
            Self::Number(Some(fd)) => put(&[4, fd as u64]),
            Self::Returned(value) => put(&[5, value as u64]),
            Self::Facts(f) => put(&[
                6,
                f.creator,
                f.flags.into(),
                f.state.into(),
                f.contexts,
                f.resident,
                f.private,
                f.pid as u64,
                // None is 0, and so many bytes nobody has.
                f.pss.map_or(0, |n| n.saturating_add(1)),
            ]),
        }
        words[COUNT] = fds as u64;
        words
    }

    /// The answer in words that another context wrote, and how many descriptors it
    /// says come with it. `None`: it is none.
    pub(crate) fn decode(words: &Words) -> Option<(Self, usize)> {
        let [what, a, b, c, d, e, f, g, h, ..] = *words;
        let answer = match what {
            1 => Self::Done,
            2 => Self::Id(a),
            3 => Self::Number(None),
            4 => Self::Number(Some(number(a)?)),
            5 => Self::Returned(a as i64),
            6 => Self::Facts(Facts {
                creator: a,
                flags: b.try_into().ok()?,
                state: c.try_into().ok()?,
                contexts: d,
                resident: e,
                private: f,
                pid: number(g)?,
                pss: h.checked_sub(1),
            }),
            _ => return None,
        };
        Some((answer, words[COUNT].try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Words as hostile code would choose them: kinds that there are, numbers at
    /// the borders.
    fn words() -> impl Strategy<Value = Words> {
        let word = prop_oneof![
            4 => 0u64..32,
            1 => Just(u64::MAX),
            1 => Just(u64::from(u32::MAX)),
            1 => Just(1u64 << 31),
            2 => any::<u64>(),
        ];
        proptest::collection::vec(word, WORDS).prop_map(|v| std::array::from_fn(|i| v[i]))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 4096 }, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn whatever_is_decoded_is_encoded_alike(words in words()) {
            if let Some(request) = Request::decode(&words) {
                prop_assert_eq!(Request::decode(&request.encode()), Some(request));
                prop_assert_eq!(request.encode()[0], words[0]);
            }
            if let Some((answer, fds)) = Answer::decode(&words) {
                prop_assert_eq!(Answer::decode(&answer.encode(fds)), Some((answer, fds)));
            }
        }
    }

    #[test]
    fn each_request_has_a_number_of_its_own_and_no_other_is_one() {
        let mut last = 0;
        for n in 0..64 {
            let mut words = [0; WORDS];
            words[0] = n;
            if let Some(request) = Request::decode(&words) {
                assert_eq!(request.encode()[0], n);
                last = n;
            }
        }
        assert_eq!(last, 22);
        let mut lie = Request::Take { cloexec: true }.encode();
        lie[1] = 2;
        assert_eq!(Request::decode(&lie), None);
        let mut lie = Request::Fetch { fd: 1 }.encode();
        lie[1] = 1 << 32;
        assert_eq!(Request::decode(&lie), None);
    }
}
