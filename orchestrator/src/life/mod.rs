//! The life of a function, in the order of the log at debug level:
//!
//! 1. **build** ([`crate::build`]);
//! 2. **create** (`start.rs`): a context with the function's own regions and
//!    secrets, nothing of others, no descriptors;
//! 3. **initialise** (`snapshot.rs`): load, init, enter the sandbox, park. What
//!    is parked is the snapshot;
//! 4. **erase** (`secrets.rs`): no secret is left in the root;
//! 5. **restrict**: the root can no longer overlay the context;
//! 6. **invoke**: switch to a copy of the snapshot, which answers in place
//!    (`invocation.rs`); the root does so for each step (`chain.rs`, `hop.rs`), or functions
//!    hand over to each other (`relay`). A function may call others
//!    (`callees.rs`), which the root runs for it (`calls.rs`) and notes
//!    (`recorder.rs`). When a step fails, the root tells the function of `on_error` (`on_error.rs`);
//! 7. **roll back** (`copies.rs`): the copy goes back to its snapshot, or goes,
//!    unless `isolation = "chain"`;
//! 8. **retire**: a copy that crashed or overran is replaced from the snapshot.
//!
//! ```text
//!          region 0       region 1 (middle)    region 2
//!   root ──writes──▶ f ──writes──────▶ g ──writes──▶ root
//!                reads only       reads only      reads only
//!   control page of f: root ⇄ f        control page of g: root ⇄ g
//! ```
//!
//! What is said of a message (`message_header.rs`) is on the control pages (`control.rs`)
//! where the root passes it on, else around the bytes in a middle region.

mod asking;
mod attributes;
mod callees;
mod calls;
pub mod chain;
mod connect;
mod connections;
pub(crate) mod control;
mod copies;
mod crash;
mod direct;
pub(crate) mod environment;
mod error;
mod files;
pub(crate) mod granted;
mod hop;
mod host;
mod invocation;
mod leftovers;
mod limits;
mod loading;
#[cfg(target_os = "freebsd")]
mod lookup;
mod message_header;
pub(crate) mod named;
mod on_error;
pub(crate) mod open_files;
mod opening;
pub(crate) mod output;
mod outside;
mod own_code;
mod parts;
pub(crate) mod probe;
pub(crate) mod recorder;
mod relay;
mod rollback;
mod scratch;
mod secrets;
pub(crate) mod snapshot;
#[cfg(any(target_os = "freebsd", test))]
mod sockets;
pub(crate) mod start;
mod sys;
mod syscalls;
mod text;
mod ticket;
pub mod trial;
mod turns;
pub(crate) mod untraced;
mod waiting;

#[cfg(feature = "serve")]
pub(crate) use attributes::can_be_content_type;
pub use attributes::{AttributeError, Attributes, MessageMeta};
#[cfg(feature = "serve")]
pub(crate) use calls::{MOST_CALLS, MOST_CALLS_ON_ERROR};
#[cfg(feature = "serve")]
pub(crate) use chain::AskedBy;
pub use chain::{Counts, Hop, LiveChain, Output, SetupTimings};
pub use environment::Variables;
pub use error::{Cause, CauseKind, ErrorAnswer, Failure, StartError};
pub use outside::{Outside, OutsideCall, OutsideFailure, OutsideReply};
pub use rollback::{Mechanism, Rollback, RollbackWay};
pub use secrets::{Fingerprint, Vault};

use crate::build::Built;
use crate::chain_file::{ChainFile, ChainId, Function, FunctionName, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What a function is granted and the kernel backend cannot give, each with the reason.
pub(crate) fn refused_by_kernel(function: &Function) -> Vec<String> {
    let mut all = Vec::new();
    if function.threads > 0 {
        all.push("threads: the kernel backend has functions with one thread (a stock kernel gives all threads of a process one address space): use the process backend".to_owned());
    }
    let kept = function.connect.iter();
    for grant in kept.filter(|g| g.keep && matches!(g.to, Place::Unix(_))) {
        all.push(format!(
            "connect: {:?} is kept: the kernel backend keeps no connection of a Unix socket (FreeBSD does not tell what its peer has not read, nor of descriptors that wait, so the next invocation might get the answer of the last): leave out keep, or connect by TCP",
            grant.said
        ));
    }
    all
}

/// Whether functions' contexts answer the probes of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probes {
    /// They do, and what recognises a secret is kept of each.
    Answered,
    /// They do not: for everything but an audit.
    Refused,
}

/// Chains that live.
#[derive(Debug)]
#[non_exhaustive]
pub struct Started {
    /// In the order in which they were named.
    pub chains: Vec<LiveChain>,
    /// What erasing the secrets took.
    pub erase: Duration,
    /// By which an audit recognises secrets; none for anything else.
    pub fingerprints: Vec<Fingerprint>,
}

/// By which an audit recognises the secrets of some chains' functions. They are read for
/// it, and wiped.
///
/// # Errors
/// The first that cannot be had.
pub fn fingerprints(
    file: &ChainFile,
    names: &[ChainId],
    variables: Variables,
) -> Result<Vec<Fingerprint>, StartError> {
    let used: BTreeSet<&FunctionName> = names.iter().flat_map(|n| file.functions_of(n)).collect();
    let functions = used.into_iter().map(|n| &file.functions[n]);
    untraced::forbid().map_err(StartError::Traced)?;
    Ok(Vault::open(functions, variables)?.fingerprints())
}

/// Brings chains of a file to life, secrets erased and rights given up.
///
/// This process has no environment afterwards: what functions take from it is
/// in `variables`.
///
/// # Errors
/// The first chain that cannot be started; everything made is gone again.
pub fn start(
    file: &ChainFile,
    names: &[ChainId],
    built: &BTreeMap<FunctionName, Built>,
    variables: Variables,
    probes: Probes,
) -> Result<Started, StartError> {
    let used: BTreeSet<&FunctionName> = names.iter().flat_map(|n| file.functions_of(n)).collect();
    let functions = used.iter().map(|&n| &file.functions[n]);
    let steps: BTreeSet<&FunctionName> = names.iter().flat_map(|n| &file.chains[n].steps).collect();
    for function in functions.clone() {
        if let Some(place) = function.origin.elsewhere()
            && steps.contains(&function.name)
        {
            return Err(StartError::Elsewhere {
                function: function.name.clone(),
                place: place.to_owned(),
            });
        }
    }
    untraced::forbid().map_err(StartError::Traced)?;
    let vault = Vault::open(functions, variables)?;
    // Chosen by a variable, once.
    lwc::backend()?;
    environment::erase();
    let mut live: Vec<LiveChain> = Vec::new();
    for name in names {
        let chain = LiveChain::start(file, name, built, &vault, &live, probes)?;
        live.push(chain);
    }
    let fingerprints = match probes {
        Probes::Answered => vault.fingerprints(),
        Probes::Refused => Vec::new(),
    };
    let begin = Instant::now();
    drop(vault);
    let erase = begin.elapsed();
    log::debug!("erase: no secret is left in the root");
    for chain in &mut live {
        chain.restrict()?;
    }
    Ok(Started {
        chains: live,
        erase,
        fingerprints,
    })
}
