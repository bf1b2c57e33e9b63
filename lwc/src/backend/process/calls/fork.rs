//! A new process for a context.

use crate::backend::process::guard::is_root_process;
use crate::backend::process::state::signals::{self, death_signal};
use crate::backend::process::wire::gate;
use nix::errno::Errno;

/// fork(2) as a sibling of this process: a child of the root, whose end is
/// told by our own signal. libc is not told; it need not be, in a process with
/// one thread, but for the thread's number that it caches, which the kernel
/// writes where libc keeps it (as fork(3) has it done), and the robust list.
///
/// Every call by [`gate::own`]: in a trapped context those of the C library
/// would be signals, which are blocked meanwhile. Errno is set on failure.
pub(crate) fn fork(shared_table: bool) -> i32 {
    let own = |n: libc::c_long, a: [u64; 5]| {
        // SAFETY: the calls below, each with what it wants.
        unsafe { gate::own([n as u64, a[0], a[1], a[2], a[3], a[4], 0]) }
    };
    let mask = |how: i32, set: *const u64, old: *mut u64| {
        own(
            libc::SYS_rt_sigprocmask,
            [how as u64, set as u64, old as u64, 8, 0],
        )
    };
    // The kernel's own set: one bit a signal.
    let (all, mut old) = (u64::MAX, 0u64);
    mask(libc::SIG_BLOCK, &raw const all, &raw mut old);
    // Plain system calls. With no stack and no CLONE_VM, clone(2) returns
    // twice on copies of this stack, like fork(2). `tid` is the address that
    // the C library gave the kernel for this very purpose.
    let mut tid = 0u64;
    own(
        libc::SYS_prctl,
        [
            libc::PR_GET_TID_ADDRESS as u64,
            &raw mut tid as u64,
            0,
            0,
            0,
        ],
    );
    let (mut head, mut len) = (0u64, 0u64);
    own(
        libc::SYS_get_robust_list,
        [0, &raw mut head as u64, &raw mut len as u64, 0, 0],
    );
    let mut flags = death_signal();
    if !is_root_process() {
        flags |= libc::CLONE_PARENT;
    }
    if shared_table {
        flags |= libc::CLONE_FILES | libc::CLONE_FS;
    }
    if tid != 0 {
        flags |= libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID;
    }
    let pid = own(libc::SYS_clone, clone_args(flags as u64, tid));
    if pid == 0 {
        // Before a signal comes: the doorbell that its handler knows is not here.
        signals::forget();
    }
    if pid == 0 && head != 0 {
        own(libc::SYS_set_robust_list, [head, len, 0, 0, 0]);
    }
    mask(libc::SIG_SETMASK, &raw const old, std::ptr::null_mut());
    if pid < 0 {
        Errno::from_raw(-pid as i32).set();
        return -1;
    }
    pid as i32
}

/// flags, stack, parent's tid, then, in an order that machines differ in, the
/// child's tid and its TLS.
fn clone_args(flags: u64, tid: u64) -> [u64; 5] {
    if cfg!(target_arch = "aarch64") {
        [flags, 0, 0, 0, tid]
    } else {
        [flags, 0, 0, tid, 0]
    }
}
