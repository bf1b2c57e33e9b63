//! Every request to everybody, for an audit: what is this context served?

use crate::backend::process::ask::{alive, answer};
use crate::backend::process::guard::Guard;
use crate::backend::process::wire::message::Request;
use crate::backend::process::wire::pair::{WORDS, kind};
use crate::error::Result;
use nix::errno::Errno;
use std::os::fd::RawFd;

/// Request numbers that are tried: all there are and some there are not.
const LAST: u64 = 48;

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
            c.ring();
            let desc = c.desc;
            match answer(rt, CALL, index, false) {
                Ok(_) => served.push((desc, number)),
                // One that is gone, or does not listen, serves nothing.
                Err(e) if matches!(e.cause(), Errno::ESRCH | Errno::ETIMEDOUT) => break,
                Err(_) => {}
            }
        }
    }
    Ok(served)
}
