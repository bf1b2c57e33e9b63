//! Standard output and error of a context in a sandbox: its filter traps write(2) and
//! writev(2) of these two ([`confine`](super::confine)), and the handler of faults,
//! which has SIGSYS, passes them on.

use super::faults;
use crate::backend::output::{Told, tell};
use crate::backend::process::state::mode;
use crate::error::{Error, Result};
use nix::errno::Errno;

/// See [`catch_output`](crate::catch_output).
pub(crate) fn catch_output(told: Told) -> Result<()> {
    if mode::is_trapped() {
        return Err(Error::new(
            "catch_output",
            Errno::ENOTSUP,
            "all system calls of this context go to its creator",
        ));
    }
    faults::handle_calls()?;
    tell(told);
    Ok(())
}
