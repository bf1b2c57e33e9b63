//! Merges a chain of functions into one process, each in its own light-weight
//! context.
//!
//! * [`chain_file`]: what to run, from TOML, with diagnostics.
//! * [`build`]: sources and crates to libraries, in a cache keyed by content; bundles.
//! * [`life`]: the life of a function: create, initialise, erase, restrict,
//!   invoke, roll back, retire.
//! * [`audit`]: what each context can reach, by attempts.
//! * [`mod@bench`]: what contexts cost on this machine.
//! * [`scaffold`]: a new function, ready to run.
//! * [`gateway`] and [`worker`]: the two sides of `serve`.
//! * [`cli`]: the command line.
//!
//! # Features
//! All are on by default. A program that only runs chains needs none of them:
//! `check`, `build`, `run`, `audit` and `new` are always there, with half the crates.
//!
//! * `serve`: the gateway over HTTP, and its workers.
//! * `nats`: other machines, by NATS; needs `serve`.
//! * `otlp`: spans for OpenTelemetry; needs `serve`.
//! * `bench`: what contexts cost on this machine.

pub mod audit;
#[cfg(feature = "bench")]
pub mod bench;
pub mod build;
pub mod chain_file;
pub mod cli;
#[cfg(any(feature = "serve", target_os = "freebsd"))]
mod descriptors;
#[cfg(feature = "serve")]
pub mod gateway;
pub mod life;
mod printable;
mod protect;
pub mod scaffold;
mod title;
mod version;
#[cfg(feature = "serve")]
pub mod worker;
