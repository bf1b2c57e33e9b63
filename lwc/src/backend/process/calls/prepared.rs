//! What a new context takes over, made before it exists.

use crate::backend::process::root::register::Registration;
use crate::backend::process::state::rights::Rights;
use crate::backend::process::wire::bell::{Bell, Registered};
use std::os::fd::{OwnedFd, RawFd};
use std::ptr::NonNull;

pub(crate) const CALL: &str = "lwCreate";

/// One descriptor of a context that the new one is to hold too.
pub(crate) struct Inherited {
    pub(crate) peer: u64,
    /// The number under which it has it.
    pub(crate) desc: RawFd,
    pub(crate) sock: OwnedFd,
    pub(crate) pair: OwnedFd,
    pub(crate) bell: NonNull<Bell>,
    /// Our channel that it comes from, to have its doorbell inherited.
    pub(crate) from: usize,
    pub(crate) rights: Rights,
}

/// Everything the new context takes over, made before it exists.
pub(crate) struct Prepared {
    pub(crate) registration: Registration,
    /// Socket and pair page to the creator, unless that is the root.
    pub(crate) creator: Option<(OwnedFd, OwnedFd)>,
    /// Its doorbell, to be written by it alone: inherited. Unmapped here
    /// afterwards, but by the root.
    pub(crate) bell: NonNull<Bell>,
    pub(crate) own: Option<Registered>,
    pub(crate) inherited: Vec<Inherited>,
    pub(crate) shared_table: bool,
    /// It is to be rolled back.
    pub(crate) kept: bool,
}

impl Prepared {
    /// The descriptors that live on in the new context where its table is one
    /// with the creator's, who closes them when it is dead. The others are
    /// closed.
    pub(crate) fn lasting(self) -> Vec<OwnedFd> {
        let mut all = vec![self.registration.sock, self.registration.bell];
        all.extend(self.creator.map(|c| c.0));
        all.extend(self.inherited.into_iter().map(|h| h.sock));
        all
    }
}
