//! The kernel backend: contexts by `lwc.ko`, through `lwc-sys`.
//!
//! Each call is one system call of the module; what there is here is the
//! translation of specifiers, words and errors. A context is an ordinary
//! descriptor: dup(2) and close(2) are what they are.

mod act;
mod calls;
mod confine;
mod files;
mod handler;
mod names;
mod numbers;
mod output;
mod threads;

pub(crate) use act::{lw_syscall, read_memory, write_memory};
pub(crate) use calls::{
    await_switch, come_to_rest, destroy, introduce, lw_close, lw_create, lw_discard_switch, lw_dup,
    lw_getlwc, lw_info, lw_overlay, lw_restrict, lw_switch, missing, names, parked,
    parked_together, region_erase, region_map, region_read_only, region_seal, region_unmap,
    roll_back, rollback_support, snapshot,
};
pub(crate) use confine::{confine, limit_memory, show_share};
pub(crate) use files::{
    answer, catch_connections, catch_files, lent_descriptors, receive_descriptor, send_descriptor,
};
pub(crate) use output::catch_output;
pub(crate) use threads::{allow_threads, expect_threads};
