//! Supervising a trapped context (seccomp_unotify(2)): letting it run a call that
//! we asked for.
//!
//! A trapped context makes the calls that lwSyscall asks of it at
//! [`gate::approved`](crate::backend::process::wire::gate::approved), where its filter has the kernel ask us first.
//! We listen only while we wait for one call, and let it go on only if
//! process, number and every argument are those asked for: the registers of a
//! process that waits in the kernel are out of anybody's reach. What pointers
//! point at may change meanwhile; it is the target's own memory, as was asked.
//! Anything else that arrives is refused. Code that makes such calls when
//! nobody listens waits until it is ended.

use crate::backend::process::ask::{breach, hold};
use crate::backend::process::state::channel::TrapLink;
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::wire::fds;
use crate::backend::process::wire::message::{Answer, Call, Words};
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

const CREATE: &str = "lwCreate";

/// How often to look whether it still makes sense to wait.
const SLICE: Duration = Duration::from_millis(20);

/// Who listens to a trapped context's calls, and its process. Asked before it is
/// told to make one: it would answer when nobody waits for that any more, and the
/// answer be taken for the next one's.
pub(crate) fn listener<'a>(
    call: &'static str,
    link: &'a TrapLink,
) -> Result<(BorrowedFd<'a>, i32)> {
    let listens = link.listener.as_ref().zip(link.pid);
    let listens = listens.map(|(listener, pid)| (listener.as_fd(), pid));
    listens.ok_or_else(|| {
        Error::new(
            call,
            Errno::EPERM,
            "the target's system calls are trapped, and nobody can let one through: another listener (a container's manager, perhaps) was there before",
        )
    })
}

/// Lets one call of a trapped context go on. `stop` is asked now and then
/// whether there is no more reason to wait: false is returned then.
pub(crate) fn approve(
    call: &'static str,
    link: &TrapLink,
    wanted: &Call,
    deadline: Instant,
    mut stop: impl FnMut() -> bool,
) -> Result<bool> {
    let (listener, pid) = listener(call, link)?;
    while Instant::now() < deadline {
        if stop() {
            return Ok(false);
        }
        match wait(listener) {
            Waited::Call if judge(listener, pid, wanted)? => return Ok(true),
            Waited::Call | Waited::Nothing => {}
            Waited::Gone => {
                return Err(Error::new(call, Errno::ESRCH, "the target is gone"));
            }
        }
    }
    Err(Error::new(
        call,
        Errno::ETIMEDOUT,
        "the target does not make the call it was asked for",
    ))
}

/// The new context's calls come here: what that takes on this side.
pub(crate) fn watch(
    rt: &mut Runtime,
    index: usize,
    pid: i32,
    slots: Option<Rc<OwnedFd>>,
    reported: &Words,
) -> Result<()> {
    let id = rt.id;
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(CREATE, Errno::ESRCH, "the new context is gone"));
    };
    c.trap = TrapLink {
        supervised: true,
        pid: Some(pid),
        slots,
        ..TrapLink::default()
    };
    let peer = c.peer;
    match Answer::decode(reported) {
        // Its descriptor of the listener.
        Some((Answer::Number(Some(there)), _)) => {
            let got = c.socket().and_then(|sock| fds::receive(sock, 1));
            c.trap.listener = got.map_err(|e| e.of(CREATE))?.pop();
            // It is ours alone: what it does first is to close its own.
            let close = [libc::SYS_close as u64, there as u64, 0, 0, 0, 0, 0];
            let soon = Instant::now() + Duration::from_secs(10);
            approve(CREATE, &c.trap, &close, soon, || false)?;
        }
        Some((Answer::Number(None), _)) => {}
        _ => return Err(breach(CREATE)),
    }
    // It names us as long as it lives.
    hold(rt, peer, id)
}

enum Waited {
    Call,
    Nothing,
    Gone,
}

fn wait(listener: BorrowedFd<'_>) -> Waited {
    let mut poll = libc::pollfd {
        fd: listener.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry, which outlives the call.
    let n = unsafe { libc::poll(&raw mut poll, 1, SLICE.as_millis() as i32) };
    match (n, poll.revents) {
        (1, r) if r & libc::POLLIN != 0 => Waited::Call,
        (1, _) => Waited::Gone,
        _ => Waited::Nothing,
    }
}

/// Takes one notification and answers it. True: it was the call wanted.
fn judge(listener: BorrowedFd<'_>, pid: i32, wanted: &Call) -> Result<bool> {
    let listener = listener.as_raw_fd();
    // SAFETY: both structures are plain integers, zeroed as the kernel wants
    // them, and outlive the calls.
    unsafe {
        let mut notif: libc::seccomp_notif = std::mem::zeroed();
        if libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notif) != 0 {
            return match Errno::last() {
                // Its process has been killed, or a signal came.
                Errno::ENOENT | Errno::EINTR => Ok(false),
                _ => Err(Error::last("lwSyscall", "hearing of a trapped call")),
            };
        }
        let good = notif.pid == pid as u32
            && notif.data.nr as u64 == wanted[0]
            && notif.data.args == wanted[1..];
        let mut answer: libc::seccomp_notif_resp = std::mem::zeroed();
        answer.id = notif.id;
        if good {
            answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        } else {
            answer.error = -libc::EPERM;
        }
        let sent = libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) == 0;
        Ok(good && sent)
    }
}
