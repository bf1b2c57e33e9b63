//! A context's snapshot and the way back to it, on the side of its creator, and
//! of the context when it is born.
//!
//! The work is the keeper's ([`keeper`](crate::backend::process::keeper)).

use super::noted::be_noted;
use crate::backend::answers::{RollbackMeans, THREADS_LEFT};
use crate::backend::process::ask::{alive, destroy};
use crate::backend::process::guard::Guard;
use crate::backend::process::keeper::service::FAULTS;
use crate::backend::process::keeper::start::{CLEAR_REFS, OWN_FILES, start};
use crate::backend::process::state::keeper::Keeper;
use crate::backend::process::state::memory;
use crate::backend::process::state::mode;
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::wire::bell::PeerBell;
use crate::backend::process::wire::keep::{Ask, FILES, Means, Told, op, receive, send, why};
use crate::error::{Error, Result};
use crate::flags::PREPARE;
use lwc_sys::{LWC_CREDENTIALS, LWC_FILES, LWC_MEMORY};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

const CREATE: &str = "lwCreate";

/// By what means the current context can have its copies rolled back; why not.
pub(crate) fn rollback_support() -> Result<RollbackMeans> {
    let mut guard = Guard::alone("rollback_support")?;
    let means = prepare(guard.rt(), false).map_err(|e| e.of("rollback_support"))?;
    Ok(match means {
        Means::Faults => RollbackMeans::Userfaultfd,
        Means::Bits => RollbackMeans::SoftDirty,
    })
}

/// Has a keeper for the contexts that are made here: how it does its work.
pub(crate) fn prepare(rt: &mut Runtime, unlike: bool) -> Result<Means> {
    if unlike {
        return Err(Error::new(
            CREATE,
            Errno::ENOTSUP,
            "the process backend rolls back no context whose system calls are trapped, or whose descriptor table is one with another's",
        ));
    }
    if let Some(keeper) = &mut rt.keeper {
        let unused = keeper.kept.is_empty();
        keeper.kept.retain(|&id| {
            let mut all = rt.channels.iter().flatten();
            all.any(|c| c.peer == id && c.held && !c.peer_dead())
        });
        if unused || mode::is_confined() || !keeper.kept.is_empty() {
            return Ok(keeper.means);
        }
        // Its memory is that of some time ago, and nobody needs it: a new one has
        // more in common with what is made now.
        if let Some(old) = rt.keeper.take() {
            retire(old);
        }
    } else if mode::is_confined() {
        return Err(Error::new(
            CREATE,
            Errno::ENOTSUP,
            "in a sandbox nobody can be had that rolls back; call rollback_support before confine to learn why there was nobody",
        ));
    }
    memory::in_large_pages();
    let (sock, pid, means) = start()?;
    rt.keeper = Some(Keeper {
        sock,
        pid,
        means,
        kept: Vec::new(),
    });
    Ok(means)
}

/// A keeper ends, once the contexts that it kept have.
fn retire(keeper: Keeper) {
    let Keeper { sock, pid, .. } = keeper;
    drop(sock);
    for _ in 0..100 {
        // SAFETY: an unreaped child of ours, which no signal tells of.
        if unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) } != 0 {
            return;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// ENOTSUP, in a trapped context.
pub(crate) fn not_nested(flags: u32) -> Result<()> {
    if flags & PREPARE == 0 {
        return Ok(());
    }
    Err(Error::new(
        CREATE,
        Errno::ENOTSUP,
        "a context whose system calls are trapped makes none that can be rolled back, on the process backend",
    ))
}

/// In the new context, before it runs code of its own: it hands its memory to
/// the keeper, which traces it from now on, and is filtered.
pub(crate) fn enter(keeper: Keeper, id: u64) -> Result<()> {
    let sock = keeper.sock.as_raw_fd();
    let failed = |e: i32| {
        let what = "handing a context to the keeper of snapshots";
        Error::new(CREATE, Errno::from_raw(e), what)
    };
    // Of these files a process that others cannot look into is not the owner.
    // Others of its user could look into it meanwhile, as into any process of
    // theirs.
    // SAFETY: prctl with plain numbers.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 1);
        // Where only ancestors may trace (Yama): the keeper as well.
        libc::prctl(libc::PR_SET_PTRACER, keeper.pid);
    }
    let entered = (|| {
        let mut files = Vec::with_capacity(FILES);
        for file in OWN_FILES {
            files.push(open(file)?);
        }
        files.push(match keeper.means {
            Means::Faults => userfaultfd()?,
            Means::Bits => open(CLEAR_REFS)?,
        });
        let numbers: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let ask = Ask {
            op: op::ENTER,
            id,
            ..Ask::default()
        };
        send(sock, &ask, &numbers).map_err(failed)?;
        let told = receive::<Told>(sock, 0).map_err(failed)?.words;
        if told.errno != 0 {
            return Err(failed(told.errno as i32));
        }
        Ok(())
    })();
    // SAFETY: as above.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    drop(keeper);
    entered?;
    mode::set_kept();
    be_noted()
}

fn open((name, flags): (&CStr, i32)) -> Result<OwnedFd> {
    // SAFETY: the name is a text.
    let fd = unsafe { libc::openat(libc::AT_FDCWD, name.as_ptr(), flags) };
    if fd < 0 {
        let what = format!("opening {}", name.to_string_lossy());
        return Err(Error::last(CREATE, what));
    }
    // SAFETY: made just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn userfaultfd() -> Result<OwnedFd> {
    // SAFETY: makes a descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, FAULTS) } as i32;
    if fd < 0 {
        return Err(Error::last(CREATE, "userfaultfd"));
    }
    // SAFETY: made just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The present state of a suspended context becomes its snapshot.
pub(crate) fn snapshot(fd: RawFd) -> Result<()> {
    with_keeper("snapshot", fd, op::SNAPSHOT).map(drop)
}

/// It goes back to its snapshot: how many pages.
pub(crate) fn roll_back(fd: RawFd) -> Result<u64> {
    with_keeper("roll_back", fd, op::ROLL_BACK)
}

fn with_keeper(call: &'static str, fd: RawFd, what: u64) -> Result<u64> {
    let mut guard = Guard::alone(call)?;
    let rt = guard.rt();
    let error = |errno, text: &str| Err(Error::new(call, errno, text));
    if fd >= 0 && fd == rt.self_desc {
        return error(Errno::EBUSY, "it is the current context");
    }
    let index = rt.find(call, fd)?;
    alive(rt, call, index)?;
    let Some(c) = rt.channel(index) else {
        return error(Errno::EBADF, "no such context");
    };
    let id = c.peer;
    if !c.verified || !c.mine.have_all(LWC_MEMORY | LWC_FILES | LWC_CREDENTIALS) {
        return error(
            Errno::EPERM,
            "only who has every right over a context may, as its creator has until it restricts itself",
        );
    }
    let ask = Ask {
        op: what,
        id,
        a: rt.id,
        b: rt.bell.baton().received,
    };
    let Some(keeper) = rt.keeper.as_ref().filter(|k| k.kept.contains(&id)) else {
        return error(
            Errno::ENOTSUP,
            "the process backend prepares a context for this when it is made: pass Flags::ROLLBACK to its lwCreate, and ask its creator",
        );
    };
    let sock = keeper.sock.as_raw_fd();
    let told = send(sock, &ask, &[]).and_then(|()| receive::<Told>(sock, 0));
    let told = match told {
        Ok(told) => told.words,
        Err(e) => {
            return error(
                Errno::from_raw(e),
                "the keeper of snapshots is gone, and the contexts that it kept with it",
            );
        }
    };
    if let Some(c) = rt.channel(index) {
        // Whatever it had said is not said any more.
        c.seen = c.inn().seq.load(std::sync::atomic::Ordering::Acquire);
    }
    if told.errno == 0 {
        let bell = rt.channel(index).map(|c| &c.peer_bell);
        if let Some(bell) = bell {
            fall_asleep(bell);
        }
        return Ok(told.value);
    }
    let mut text = describe(&told);
    if told.broken != 0 || told.why == why::DEAD {
        if let Some(k) = rt.keeper.as_mut() {
            k.kept.retain(|&k| k != id);
        }
        let _ = destroy(rt, id);
        text.push_str("; the context is destroyed, make a new one");
    }
    error(Errno::from_raw(told.errno as i32), &text)
}

/// It goes back to sleep. Who rang it before that would have to ring again, a
/// while later.
fn fall_asleep(bell: &PeerBell) {
    for _ in 0..100 {
        if bell.is_asleep() {
            return;
        }
        std::thread::yield_now();
    }
}

/// A refusal in words.
fn describe(told: &Told) -> String {
    match told.why {
        why::NOT_PARKED => "it does not wait to be switched to".into(),
        why::NO_SNAPSHOT => "it has no snapshot".into(),
        why::DEAD => "it is dead".into(),
        why::DID => format!(
            "it has made system call {} since its snapshot, which the process backend cannot undo",
            told.value
        ),
        why::FAULT => format!(
            "it has handled a fault since its snapshot ({}), of which the kernel tells it later what it was",
            Signal::try_from(told.value as i32).map_or("a signal", Signal::as_str)
        ),
        why::LAYOUT => format!(
            "its address space has changed at {:#x} in a way that the process backend cannot undo",
            told.value
        ),
        why::LENT => format!(
            "it has {} descriptors, which is not as many as at its snapshot: what it was lent lies at other numbers than lent_descriptors",
            told.value
        ),
        why::THREADS => format!("{} {THREADS_LEFT}", told.value),
        why::SIGNALS => format!(
            "signals wait for it (bits {:#x}) as they did not at its snapshot",
            told.value
        ),
        why::FLAGS => {
            "it has changed a flag of the processor that only its own code can change (EFLAGS.ID)"
                .into()
        }
        why::CALL if told.errno == libc::ETIMEDOUT as u64 => {
            "it does not stop: it waits in the kernel, or runs where it should not".into()
        }
        _ => "a call of the kernel failed".into(),
    }
}
