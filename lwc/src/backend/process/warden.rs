//! Watching over a trapped context: letting it run a call that we asked for.
//!
//! A trapped context makes the calls that lwSyscall asks of it at
//! [`super::window::vouched`], where its filter has the kernel ask us first.
//! We listen only while we wait for one call, and let it go on only if
//! process, number and every argument are those asked for: the registers of a
//! process that waits in the kernel are out of anybody's reach. What pointers
//! point at may change meanwhile; it is the target's own memory, as was asked.
//! Anything else that arrives is refused. Code that makes such calls when
//! nobody listens waits until it is ended.

use super::fds;
use super::memory::File;
use super::runtime::Runtime;
use super::trap::Bond;
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

const CREATE: &str = "lwCreate";

/// How often to look whether it still makes sense to wait.
const SLICE: Duration = Duration::from_millis(20);

/// Lets one call of a trapped context go on. `stop` is asked now and then
/// whether there is no more reason to wait: false is returned then.
pub(super) fn vouch(
    call: &'static str,
    bond: &Bond,
    wanted: &[u64; 7],
    deadline: Instant,
    mut stop: impl FnMut() -> bool,
) -> Result<bool> {
    let Some((listener, pid)) = bond.listener.as_ref().zip(bond.pid) else {
        return Err(Error::new(
            call,
            Errno::EPERM,
            "the target's system calls are trapped, and nobody can let one through: another listener (a container's manager, perhaps) was there before",
        ));
    };
    while Instant::now() < deadline {
        if stop() {
            return Ok(false);
        }
        match wait(listener.0) {
            Waited::Call if judge(listener.0, pid, wanted)? => return Ok(true),
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
pub(super) fn watch(
    rt: &mut Runtime,
    index: usize,
    pid: i32,
    nursery: Option<Rc<File>>,
) -> Result<()> {
    let id = rt.id;
    let Some(c) = rt.channel(index) else {
        return Err(Error::new(CREATE, Errno::ESRCH, "the new context is gone"));
    };
    c.bond = Bond {
        ward: true,
        pid: Some(pid),
        nursery,
        ..Bond::default()
    };
    let peer = c.peer;
    // Its descriptor of the listener, plus one.
    if let Some(there) = c.inn().take_words()[0].checked_sub(1) {
        let got = fds::receive(c.sock, 1).map_err(|e| e.of(CREATE))?;
        c.bond.listener = got.first().map(|&fd| Rc::new(File(fd)));
        // It is ours alone: what it does first is to close its own.
        let close = [libc::SYS_close as u64, there, 0, 0, 0, 0, 0];
        let soon = std::time::Instant::now() + std::time::Duration::from_secs(10);
        vouch(CREATE, &c.bond, &close, soon, || false)?;
    }
    // It names us as long as it lives.
    super::hold(rt, peer, id)
}

enum Waited {
    Call,
    Nothing,
    Gone,
}

fn wait(listener: RawFd) -> Waited {
    let mut poll = libc::pollfd {
        fd: listener,
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
fn judge(listener: RawFd, pid: i32, wanted: &[u64; 7]) -> Result<bool> {
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
