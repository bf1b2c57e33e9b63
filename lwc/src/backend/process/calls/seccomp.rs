//! Filters of system calls.

use crate::backend::confine_error;
use crate::error::{Error, Result};
use nix::errno::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};
use std::collections::BTreeMap;

/// What to do about calls, by their number: a list of rules one of which must
/// hold; none: always.
pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls that make processes beside clone(2) and clone3(2).
#[cfg(target_arch = "x86_64")]
pub(super) const FORKS: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const FORKS: &[i64] = &[];

pub(super) fn invalid(e: impl std::fmt::Display) -> Error {
    confine_error(Errno::EINVAL, e.to_string())
}

/// These calls, whatever their arguments are.
pub(super) fn any(calls: &[i64]) -> Rules {
    calls.iter().map(|&n| (n, Vec::new())).collect()
}

pub(super) fn install(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    let arch = TargetArch::x86_64;
    #[cfg(target_arch = "aarch64")]
    let arch = TargetArch::aarch64;
    let program: BpfProgram = SeccompFilter::new(rules, otherwise, matched, arch)
        .and_then(TryInto::try_into)
        .map_err(invalid)?;
    seccompiler::apply_filter(&program).map_err(|e| {
        Error::new(
            "confine",
            Errno::last(),
            format!("installing a seccomp filter: {e}"),
        )
    })
}
