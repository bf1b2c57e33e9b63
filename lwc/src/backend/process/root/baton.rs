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
