//! How the module names contexts.

use crate::error::{Error, Result};
use lwc_sys::LWC_SELF;
use nix::errno::Errno;
use std::os::fd::RawFd;

/// The module's number for a descriptor, or for the current context. A number
/// below zero, which is `LWC_SELF` there, names nothing here.
pub(crate) fn number(call: &'static str, fd: Option<RawFd>) -> Result<i32> {
    match fd {
        None => Ok(LWC_SELF),
        Some(fd) if fd >= 0 => Ok(fd),
        Some(fd) => Err(Error::new(
            call,
            Errno::EBADF,
            format!("descriptor {fd} names no context"),
        )),
    }
}
