//! What the backend cannot give to functions, and a chain file that grants it is refused;
//! among it, in the place of `connections.rs`, connections.

use super::asking::Answer;
use crate::chain_file::{ConnectGrant, Function, Place};
use lwc::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Refuses what a function is granted and the backend cannot give.
pub(super) fn refuse(function: &Function) -> Result<(), String> {
    if function.threads > 0 {
        return Err(format!("threads: {}", super::NO_THREADS));
    }
    Ok(())
}

/// There is none.
#[derive(Debug)]
pub(super) struct Connections;

#[allow(clippy::unused_self, clippy::unnecessary_wraps)] // the same shape on both
impl Connections {
    pub(super) fn of(grants: &[ConnectGrant]) -> Result<Self, String> {
        match grants.first() {
            None => Ok(Self),
            Some(grant) => Err(format!(
                "{:?} in `connect`: {}",
                grant.said,
                super::NO_CONNECTIONS
            )),
        }
    }

    pub(super) fn has_names(&self) -> bool {
        false
    }

    pub(super) fn connect(
        &self,
        _: &Path,
        _: &[u8],
        _: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<Answer, Answer> {
        Ok(Answer::NOT_GRANTED)
    }

    pub(super) fn queue(&self, _: impl FnOnce(&OwnedFd) -> Result<(), Errno>) -> Result<(), Errno> {
        Err(Errno::EACCES)
    }

    pub(super) fn forget(&self, _: bool) {}
}

/// For an audit: the sandbox has no sockets, and an attempt ends the context.
pub(crate) fn attempt_others() -> u64 {
    0
}

/// The same.
pub(crate) fn attempt_connection(_: &Place) -> u64 {
    0
}
