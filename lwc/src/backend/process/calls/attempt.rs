//! Every request to everybody, for an audit: what is this context served?

use crate::backend::process::ask::{alive, answer};
use crate::backend::process::guard::Guard;
use crate::backend::process::wire::message::Request;
use crate::backend::process::wire::pair::{WORDS, kind};
use crate::error::Result;
use crate::time::MonotonicTime;
use std::os::fd::RawFd;
use std::time::Duration;

/// Request numbers that are tried: all there are and some there are not.
const LAST: u64 = 48;

/// One that is served nothing is told nothing. Who hears it has looked around, and
/// sleeps again: it is looked at so often after that, and for so long at most.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_micros(100);
const LISTENS: Duration = Duration::from_secs(1);

/// Makes each request there is to each context that this one knows, root and
/// creator among them, past what this end would refuse by itself. Returns the
/// descriptor of whoever served something, and the request's number. Giving up
/// what it holds or may ask for is not tried: everybody may.
///
/// A context that is served may have changed what it would rather not.
pub(crate) fn served() -> Result<Vec<(RawFd, u64)>> {
    const CALL: &str = "an attempt";
    let everybodys = [Request::Unhold { target: 0 }, Request::Seal].map(|r| r.encode()[0]);
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    let mut served = Vec::new();
    for index in 0..rt.channels.len() {
        for number in (1..=LAST).filter(|n| !everybodys.contains(n)) {
            if alive(rt, CALL, index).is_err() {
                break;
            }
            let Some(c) = rt.channel(index) else { break };
            let mut words = [0; WORDS];
            words[..3].copy_from_slice(&[number, 1, 1]);
            c.out().put_words(&words);
            c.out().put_payload(&[]);
            c.out().publish(kind::REQUEST);
            let before = c.peer_bell.count();
            c.ring();
            let desc = c.desc;
            let (begun, mut looked) = (MonotonicTime::now(), 0);
            let told = loop {
                if let Some((_, kind::REPLY)) = rt.news(index) {
                    break Some(answer(rt, CALL, index, false).is_ok());
                }
                let count = rt.channel(index).map_or(0, |c| c.peer_bell.count());
                looked += u32::from(count % 2 == 1 && count != before);
                if looked > LOOKS {
                    break Some(false);
                }
                if begun.elapsed() > LISTENS {
                    break None;
                }
                std::thread::sleep(PAUSE);
            };
            match told {
                Some(true) => served.push((desc, number)),
                Some(false) => {}
                // One that is gone, or does not listen, serves nothing.
                None => break,
            }
        }
    }
    Ok(served)
}
