//! The root's side: life and death of all contexts.
//!
//! All contexts are children of the root's process (CLONE_PARENT), so that one
//! place sees every end. The root decides about life alone: identity, holders,
//! the end. It has no part in rights over memory, which each owner enforces. It
//! trusts nobody: who somebody is, and that somebody is no more, is the kernel's
//! word ([`children`]); what contexts say of themselves counts for themselves.
//!
//! * [`register`]: how a context comes into the book;
//! * [`end`]: what its end means;
//! * [`baton`]: who is current;
//! * [`info`]: facts; [`requests`]: what contexts ask of the root.

pub(crate) mod baton;
pub(crate) mod children;
pub(crate) mod end;
pub(crate) mod info;
pub(crate) mod register;
pub(crate) mod requests;
