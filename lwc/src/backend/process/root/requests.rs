//! What contexts ask of the root as the keeper of the book.

use super::{end, info, register};
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::wire::fds;
use crate::backend::process::wire::message::{Answer, Request};
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// What is answered, and descriptors that go with it.
pub(crate) type Told = std::result::Result<(Answer, Vec<Rc<OwnedFd>>), (Errno, String)>;

fn refuse(errno: Errno, why: &str) -> Told {
    Err((errno, why.to_owned()))
}

/// Answers a request of the root's. `index`: the channel that it came by, of
/// `asker`, which is the root's own word.
pub(crate) fn answer(rt: &mut Runtime, index: usize, asker: u64, request: Request) -> Told {
    let done = Ok((Answer::Done, Vec::new()));
    let text = |e: crate::error::Error| (e.cause(), e.for_peer());
    let creator = |rt: &Runtime, id: u64| {
        let book = rt.book.as_ref();
        book.and_then(|b| b.origin(id)).map(|o| o.0)
    };
    match request {
        // An honest creator makes one context at a time. A hostile one that
        // never makes any, in a sandbox, say, shall not fill the book.
        Request::Register { .. } | Request::RegisterSlot { .. }
            if rt.book.as_ref().is_some_and(|b| b.is_making(asker)) =>
        {
            refuse(Errno::EAGAIN, "its creator has one under way")
        }
        Request::Register {
            flags,
            shared_table,
        } => {
            let r = register::register(rt, asker, flags).map_err(text)?;
            rt.shared_table |= shared_table;
            let mut files: Vec<Rc<OwnedFd>> = [r.sock, r.pair, r.bell].map(Rc::new).into();
            files.extend(r.slots);
            Ok((Answer::Id(r.id), files))
        }
        Request::RegisterSlot {
            flags,
            slot,
            own_trap,
        } => {
            let theirs = rt.channel(index).is_some_and(|c| c.trap.supervised);
            let id = register::register_slot(rt, asker, flags, slot, !own_trap && theirs)
                .map_err(text)?;
            Ok((Answer::Id(id), Vec::new()))
        }
        Request::Born { id } => match register::born_elsewhere(rt, asker, id) {
            Ok(()) => done,
            Err(e) => refuse(e, "no new context of this creator"),
        },
        Request::Unregister { id } => {
            let unborn = rt.book.as_ref().and_then(|b| b.pid(id)) == Some(0);
            if unborn && creator(rt, id) == Some(asker) {
                end::unregister(rt, id);
            }
            done
        }
        // For itself, or for a context that it is making.
        Request::Hold { holder, target } => {
            let may = holder == asker || creator(rt, holder) == Some(asker);
            if may && let Some(b) = rt.book.as_mut() {
                b.hold(holder, target);
            }
            done
        }
        Request::Unhold { target } => {
            let sealed = rt.channel(index).is_some_and(|c| c.sealed);
            if rt.anchor && sealed {
                // Who is current is what contexts say where there is no root any
                // more: nobody ends another by that.
                if let Some(b) = rt.book.as_mut() {
                    b.release(asker, target);
                }
            } else {
                end::unhold(rt, asker, target);
            }
            done
        }
        Request::ShowShare => {
            let line = rt.channel(index).map(|c| c.socket());
            let came = line.and_then(|line| fds::receive_low::<1>(line.ok()?, true).ok());
            if let Some([file]) = came {
                register::tells_its_share(rt, asker, file);
            }
            done
        }
        Request::Info { id } => Ok((Answer::Facts(info::facts(rt, id)), Vec::new())),
        Request::Destroy { id } => {
            if creator(rt, id) != Some(asker) {
                return refuse(Errno::EPERM, "only its creator may end a context");
            }
            end::destroy(rt, id);
            done
        }
        _ => refuse(Errno::ENOSYS, "not a request of the root's"),
    }
}
