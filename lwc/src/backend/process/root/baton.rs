//! Who is current, as far as the root can tell.

use crate::backend::process::state::book::Book;
use crate::backend::process::state::runtime::Runtime;

/// Who has the baton, and the number of the hand-over that brought it there.
///
/// Each context says on its own doorbell what it received and handed on; we
/// follow these words from the last hand-over of the root's own. A hostile one
/// can claim for itself that it has handed on what it has, or has what it
/// handed on. What the root does on that (tell a creator, end the process)
/// concerns the death of who is *found* here, and nobody is found here whom
/// those before have not named.
pub(crate) fn baton(rt: &Runtime) -> (u64, u64) {
    let own = rt.bell.baton();
    if own.turn > own.given {
        return (rt.id, own.turn);
    }
    let (mut at, mut number) = (own.to, own.given);
    for _ in 0..=rt.book.as_ref().map_or(0, Book::count) {
        let says = rt
            .book
            .as_ref()
            .and_then(|b| b.entries.get(&at))
            .and_then(|e| rt.channels.get(e.channel))
            .and_then(Option::as_ref)
            .map(|c| c.peer_bell.baton());
        match says.and_then(|b| b.went_on(number)) {
            Some((to, n)) => (at, number) = (to, n),
            None => break,
        }
    }
    (at, number)
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
            flags: 0,
            pid: 0,
            channel: liar.index,
            holders: BTreeMap::new(),
            doomed: false,
            slots: None,
            bell: None,
        };
        let book = liar.rt.book.as_mut().unwrap();
        book.entries.insert(7, entry);
        assert_eq!(baton(&liar.rt).0, 1, "nobody has got it");
        let number = liar.rt.bell.give(7, 0);
        // On its way, received, handed on.
        assert_eq!(baton(&liar.rt), (7, number));
        liar.bell.receive(number);
        assert_eq!(baton(&liar.rt), (7, number));
        assert_eq!(liar.bell.give(9, 0), number + 1);
        assert_eq!(baton(&liar.rt), (9, number + 1));
        // It says that it got it back; that it handed it on long ago, or in a
        // future that nobody reaches.
        liar.bell.receive(number + 2);
        assert_eq!(baton(&liar.rt).0, 7);
        for far in [0, number, u64::MAX, 1 << 40] {
            liar.bell.redirect(9, far);
            assert_eq!(baton(&liar.rt).0, 7, "{far}");
        }
        // To itself, for ever: the search ends.
        liar.bell.redirect(7, number + 4);
        assert_eq!(baton(&liar.rt).0, 7);
        liar.rt.bell.take_back();
        assert_eq!(baton(&liar.rt).0, 1);
    }
}
