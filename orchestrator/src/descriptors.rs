//! How many descriptors this process may have (RLIMIT_NOFILE).

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many descriptors this process may have, which are so many if it may raise its
/// limit as far.
///
/// # Errors
/// What getrlimit(2) says.
// (Numbers differ from system to system.)
#[allow(clippy::unnecessary_cast)]
pub(crate) fn raised_to(enough: u64) -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let (now, most) = (soft as u64, hard as u64);
    if now >= enough || now >= most {
        return Ok(now);
    }
    let more = enough.min(most);
    let raised = setrlimit(Resource::RLIMIT_NOFILE, more as libc::rlim_t, hard);
    Ok(raised.map_or(now, |()| more))
}
