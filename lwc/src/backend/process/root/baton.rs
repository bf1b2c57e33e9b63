//! Who is current, as far as the root can tell.

use crate::backend::process::state::book::Book;
use crate::backend::process::state::runtime::Runtime;

/// Who has the baton, and the number of that one's last hand-over when it was
/// given to it.
///
/// Each context says on its own doorbell by a number which hand-over it received last, and
/// to whom it gave the baton then; we follow these words from the root on. Who has
/// received none since it was given to has it on its way. Each step goes to a
/// later hand-over, so there is an end where nobody lies. A hostile one can claim
/// that what it has went elsewhere, or that what went on is still with it; what
/// the root does on that (tell a creator, end the process) concerns the death of
/// who is *found* here, and nobody is found here whom those before have not named.
pub(crate) fn baton(rt: &Runtime) -> (u64, u64) {
    let own = rt.bell.baton();
    let Some((mut at, mut had)) = own.went_to else {
        return (rt.id, own.received);
    };
    for _ in 0..=rt.book.as_ref().map_or(0, Book::count) {
        let says = rt
            .book
            .as_ref()
            .and_then(|b| b.entries.get(&at))
            .and_then(|e| rt.channels.get(e.channel))
            .and_then(Option::as_ref)
            .map(|c| c.peer_bell.baton());
        match says.filter(|b| b.received != had).and_then(|b| b.went_to) {
            Some(next) => (at, had) = next,
            None => break,
        }
    }
    (at, had)
}

/// The contexts that live of themselves: the current one, and the root unless
/// it discarded itself.
pub(crate) fn live(rt: &Runtime) -> [u64; 2] {
    let current = baton(rt).0;
    [current, if rt.anchor { current } else { 1 }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::process::state::book::Entry;
    use crate::backend::process::state::liar::Liar;
    use std::collections::BTreeMap;

    #[test]
    fn a_liar_is_followed_to_where_it_says_and_no_further() {
        let mut liar = Liar::new();
        let entry = Entry {
            creator: 1,
            heir: 1,
            flags: 0,
            pid: 0,
            channel: liar.index,
            holders: BTreeMap::new(),
            doomed: false,
            slots: None,
            bell: None,
            line: None,
            share: None,
        };
        let book = liar.rt.book.as_mut().unwrap();
        book.entries.insert(7, entry);
        assert_eq!(baton(&liar.rt).0, 1, "nobody has got it");
        // On its way, received, handed on, back again.
        liar.rt.bell.give(7, 0);
        assert_eq!(baton(&liar.rt), (7, 0));
        liar.bell.receive();
        assert_eq!(baton(&liar.rt), (7, 0));
        liar.bell.give(9, 4);
        assert_eq!(baton(&liar.rt), (9, 4));
        liar.bell.receive();
        assert_eq!(baton(&liar.rt).0, 7);
        // What it gave before it received this is of no account.
        liar.rt.bell.receive();
        assert_eq!(baton(&liar.rt).0, 1);
        liar.bell.give(9, 4);
        liar.rt.bell.give(7, 2);
        assert_eq!(baton(&liar.rt), (7, 2));
        // To itself, for ever: the search ends.
        liar.bell.receive();
        liar.bell.give(7, 0);
        assert_eq!(baton(&liar.rt).0, 7);
    }
}
