//! Light-weight contexts: isolation inside one program.
//!
//! A *context* (Litton et al., "Light-Weight Contexts: An OS Abstraction for
//! Safety and Performance", OSDI 2016) is a memory view, a descriptor table,
//! credentials and a saved flow of control. A process starts in its root
//! context, makes others with [`create`] or [`spawn`] as copies of the current
//! one, says by [`Spec`]s or a [`Builder`] what they share and what is absent
//! there, and hands control over with [`Handle::switch`]. Whoever made a context
//! has every right over it and can give [`Rights`] up ([`Handle::restrict`]),
//! never gain them. A [`Context`] owns the descriptor of one, a [`Handle`] names
//! it, and neither can come to mean another context.
//!
//! ```
//! use lwc::{Builder, Region};
//!
//! let region = Region::new(1)?;
//! region.write(0, b"?");
//! let child = Builder::new().share(&region).spawn(|event| {
//!     region.write(0, b"!");
//!     let parent = event.from().expect("switched to by the creator");
//!     loop {
//!         let _ = parent.switch(&[event.args()[0] + 1]);
//!     }
//! })?;
//! let event = child.switch(&[41])?;
//! assert_eq!(event.args(), [42]);
//! assert_eq!(region.get::<u8>(0), b'!');
//! # Ok::<(), lwc::Error>(())
//! ```
//!
//! Longer programs, one page each, are in the folder `examples`: `rollback`
//! (snapshot and rollback), `sessions` (a context per session in an event-driven
//! server), `signer` (a key that one context alone has) and `monitor` (a
//! reference monitor). `cargo run -p lwc --example rollback` runs one.
//!
//! Two backends keep one [contract]: the kernel's (FreeBSD with `lwc.ko`) and,
//! everywhere else, one of processes; [`backend()`] tells which is in use.
//! The [glossary] explains the words.
//!
#![doc = include_str!("../differences.md")]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

// For readers alone: what the documentation of the items above refers to. Links
// of these texts to other files of the repository lead elsewhere here; of two
// definitions of a link the first counts.

/// [differences]: crate#what-the-process-backend-does-differently-or-refuses
/// [glossary]: crate::glossary
#[cfg(doc)]
#[doc = include_str!("../contract.md")]
pub mod contract {}

/// [contract]: crate::contract
#[cfg(doc)]
#[doc = include_str!("../glossary.md")]
pub mod glossary {}

mod backend;
mod builder;
mod context;
mod crash;
mod errno;
mod error;
mod event;
mod files;
mod flags;
mod handle;
mod output;
mod page;
mod region;
mod rights;
mod rollback;
mod secret;
mod spec;
mod threads;
mod time;
mod trapped;
mod volatile;

#[cfg(target_os = "linux")]
#[doc(hidden)]
pub use backend::THREAD;
pub use backend::{Backend, backend};
pub use backend::{FileCall, RollbackMeans};
#[doc(hidden)]
pub use backend::{Rest, THREADS_LEFT, requests_served};
pub use builder::Builder;
#[doc(hidden)]
pub use context::come_to_rest;
pub use context::{
    Context, Created, Info, State, await_switch, confine, create, getlwc, info, limit_memory,
    parked_together, restrict_self, show_share, spawn, unmap_self,
};
pub use crash::{Crash, on_crash};
pub use errno::Errno;
pub use error::{Error, Party, Result};
pub use event::{Args, End, Event, TrappedCall};
pub use files::{
    answer, catch_connections, catch_files, lent_descriptors, receive_descriptor, send_descriptor,
};
pub use flags::{Confinement, Flags};
pub use handle::Handle;
pub use output::catch_output;
pub use page::page_size;
pub use region::{Plain, Region};
pub use rights::Rights;
pub use rollback::rollback_support;
pub use secret::Secret;
pub use spec::{Access, Spec};
pub use threads::allow_threads;
pub use time::MonotonicTime;
pub use trapped::Resources;
