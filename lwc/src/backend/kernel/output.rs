//! Standard output and error of a context in a sandbox: write(2) and writev(2) are not
//! in its list of calls ([`confine`](super::confine)) then, and the handler of SIGSYS
//! ([`handler`](super::handler)) passes what they would write on.

use super::handler;
use crate::backend::output::{Told, tell};
use crate::error::Result;

/// See [`catch_output`](crate::catch_output).
pub(crate) fn catch_output(told: Told) -> Result<()> {
    handler::install("catch_output")?;
    tell(told);
    Ok(())
}
