//! In the place of `nats.rs` where the feature `nats` is off: nobody can join
//! other machines, and a start that asks for it fails and says why.

use super::Gateway;
use super::NatsOptions;
use super::invocation::Call;
use super::problem::{Circumstance, Problem, ProblemKind};
use super::queue::Answer;
use crate::life::MessageMeta;
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::Instant;

/// A connection: there is none.
#[derive(Debug, Clone, Copy)]
pub(super) enum Client {}

/// # Errors
/// Always.
#[expect(clippy::unused_async, reason = "as the other one")]
pub(super) async fn connect(_: &NatsOptions) -> Result<Client, String> {
    Err("--nats: this program was built without NATS; build it with --features nats".into())
}

/// Chains that other machines can ask for: there are none.
pub(super) enum Endpoints {}

impl Endpoints {
    /// # Errors
    /// Never.
    #[expect(clippy::unused_async, reason = "as the other one")]
    pub(super) async fn start(_: &Arc<Gateway>) -> Result<Option<Self>, String> {
        Ok(None)
    }

    #[expect(clippy::unused_async, reason = "as the other one")]
    pub(super) async fn stop(self) {
        match self {}
    }
}

#[expect(clippy::unused_async, reason = "as the other one")]
pub(super) async fn leave(client: &Client) {
    match *client {}
}

/// A step that runs elsewhere cannot be reached.
#[expect(clippy::unused_async, reason = "as the other one")]
pub(super) async fn ask(
    _: &Gateway,
    _: &Call<'_>,
    subject: &str,
    _: MessageMeta,
    _: Bytes,
    _: Instant,
) -> Result<Answer, Problem> {
    let detail = format!("the step runs at {subject}, and this server has no NATS");
    let problem = Problem::new(ProblemKind::Remote, detail);
    Err(problem.with(Circumstance::Unavailable))
}
