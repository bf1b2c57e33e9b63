//! Light-weight contexts: isolation inside one program.
//!
//! A *context* (Litton et al., "Light-Weight Contexts: An OS Abstraction for
//! Safety and Performance", OSDI 2016) is a memory view, a descriptor table,
//! credentials and a saved flow of control. A process starts in its root
//! context, makes others with [`create`] or [`spawn`] as copies of the current
//! one, says by [`Spec`]s what they share and what is absent there, and hands
//! control over with [`Handle::switch`]. Whoever made a context has every
//! right over it and can give rights up ([`Handle::restrict`]), never gain
//! them.
//!
//! ```
//! use lwc::{Access, Flags, Region, Spec};
//!
//! let region = Region::new(1)?;
//! region.write(0, b"?");
//! let child = lwc::spawn(&[Spec::region(&region, Access::Share)], Flags::empty(), |event| {
//!     region.write(0, b"!");
//!     let parent = event.from().expect("switched to by the creator");
//!     loop {
//!         let _ = parent.switch(&[event.args()[0] + 1]);
//!     }
//! })?;
//! let event = child.switch(&[41])?;
//! let mut byte = [0];
//! region.read(0, &mut byte);
//! assert_eq!((event.args(), &byte), (&[42u64][..], b"!"));
//! # Ok::<(), lwc::Error>(())
//! ```
//!
//! Two backends keep one contract: the kernel's (FreeBSD with `lwc.ko`) and,
//! everywhere else, one of processes; [`backend`] tells which is in use.
//!
//! # What the process backend does not offer, or does differently
//! * `Flags::TRAP_SYSCALL` and lwSyscall: ENOTSUP.
//! * A context's descriptor is closed with [`Handle::close`] or by dropping
//!   its [`Context`], not with a bare close(2); dup(2) is
//!   [`Handle::duplicate`].
//! * Where a whole descriptor table is shared, context descriptors made later
//!   are their maker's alone, some of them stay in the table after a context
//!   that shares it has ended (until the process ends), and a whole table can
//!   be shared by lwCreate alone, not by lwOverlay (ENOTSUP).
//! * Shared memory is shared by memory files, and code that has a part of one
//!   can map all of it. So a part of a [`Region`], or of a range that was
//!   shared as a whole, cannot be shared on or left out alone (ENOTSUP); and
//!   who unmaps a part of its own can map it again.
//! * lwOverlay of credentials that differ from one's own: ENOTSUP; of context
//!   descriptors: they stay behind; from a source in a sandbox
//!   ([`confine`]): EPERM.
//! * Sharing the running stack, or a shared mapping of a file that is no
//!   [`Region`]: EINVAL, EACCES.
//! * A signal sent to the process goes to the root context, whichever is
//!   current; a terminal's signals go to all. The signal `SIGRTMAX - 2` is
//!   the backend's: it says that a context has ended.
//! * A child that a context other than the root makes by fork(2) is that
//!   context's to wait for, nobody else's.
//! * When the current context calls execve(2) the others end a moment later
//!   (within a second where a descriptor table is shared). The root's process
//!   stays behind as the shell around a context that did; the program that a
//!   root becomes gets SIGCHLD for contexts that it does not know.
//! * A root that discards itself leaves its process behind, until the last
//!   context ends.
//! * A context that closes the backend's descriptors, as only hostile code
//!   does, can be switched to and ended, nothing else (EPERM).
//! * A context that passes the baton and goes on running, as only hostile code
//!   does, can change shared memory that it may write while others use it.
//! * A context outside of a sandbox can do to the process what any process of
//!   the same user can: kill it, or leave daemons behind.

//!
//! # What the kernel backend does not offer yet
//! ENOTSUP: [`Handle::switch_until`], [`await_switch`], [`Handle::destroy`],
//! [`Handle::kill`], [`limit_memory`], `Flags::TRAP_SYSCALL` (use `lwc-sys`).
//! Both kinds of [`confine`] are capability mode, which fails calls and does
//! not end the context. Descriptors made by dup(2) share their rights.

mod backend;
mod context;
mod error;
mod page;
mod region;
mod secret;
mod spec;
mod trapped;

pub use backend::{Backend, backend};
pub use context::{
    Args, Confinement, Context, Created, End, Event, Flags, Handle, Info, State, await_switch,
    confine, create, getlwc, info, limit_memory, restrict_self, spawn, unmap_self,
};
pub use error::{Error, Result};
pub use nix::errno::Errno;
pub use page::page_size;
pub use region::Region;
pub use secret::Secret;
pub use spec::{Access, Spec};
pub use trapped::{Resources, TrappedCall};
