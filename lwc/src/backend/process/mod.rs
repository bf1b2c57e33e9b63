//! The process backend: a context is a child process, parked until it is
//! switched to.
//!
//! ```text
//!   root process ── book of all contexts, reaps them, ends as they end
//!     │ clone(CLONE_PARENT): all contexts are its children
//!     ├── context 2 ─┐ pair page + socket between each two of which one
//!     ├── context 3 ─┘ holds the other; a doorbell (futex) for each context
//!     └── …
//! ```
//!
//! # Rooms
//! What code may do depends on the side of the wall on which it stands, so each
//! side is a folder. A folder knows those above it and no other.
//!
//! * [`wire`]: what crosses: doorbells, pair pages, messages, descriptors;
//! * [`state`]: what a context knows; [`shapes`]: what system calls touch;
//! * [`root`]: life and death of all contexts, by the kernel's word;
//! * [`owner`]: what a context does for others while it waits: it trusts nothing
//!   that it is asked, and asks nobody;
//! * [`keeper`]: who rolls back the copies of a context, a process of its own;
//! * [`ask`]: how one context asks another;
//! * [`park`]: the wait for the baton, the one place that calls `owner`;
//! * [`guard`]: the one lock over the state;
//! * [`calls`]: the calls, on the side of who makes them.
//!
//! # Who is trusted with what
//! Each context with its own memory and rights; the root's process with life and
//! death of all (as the kernel is on the other backend), not with their memory. A
//! shared page has two parties and one writer a word; a doorbell is written by its
//! owner alone. A hostile context can wake those whose doorbells it has, for
//! nothing, and can go on running after it has passed the baton; that it has
//! stopped is the kernel's word ([`wire::bell`]). It cannot read, write or
//! impersonate another.

mod ask;
mod calls;
mod guard;
mod keeper;
mod owner;
mod park;
mod root;
mod shapes;
mod state;
mod wire;

pub(crate) use calls::attempt::served;
pub(crate) use calls::confine::{confine, limit_memory, show_share};
pub(crate) use calls::files::{
    answer, catch_connections, catch_files, lent_descriptors, receive_descriptor, send_descriptor,
};
pub(crate) use calls::handles::{
    destroy, introduce, lw_close, lw_dup, lw_getlwc, lw_info, lw_overlay, lw_restrict, names,
    parked,
};
pub(crate) use calls::output::catch_output;
pub(crate) use calls::parked::{come_to_rest, parked_together};
pub(crate) use calls::regions::{
    region_erase, region_map, region_read_only, region_seal, region_unmap,
};
pub(crate) use calls::rollback::{roll_back, rollback_support, snapshot};
pub(crate) use calls::switch::{await_switch, lw_create, lw_discard_switch, lw_switch};
pub(crate) use calls::syscall::{lw_syscall, read_memory, write_memory};
pub(crate) use calls::threads::{allow_threads, expect_threads};
pub use wire::threads::THREAD;
