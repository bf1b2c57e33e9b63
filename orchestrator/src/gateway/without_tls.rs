//! In the place of `tls.rs` where the feature `tls` is off: connections are plain ones, and
//! a start that asks for others fails and says why.

use super::TlsOptions;
use super::metrics::Metrics;
use std::sync::Arc;
use tokio::time::Instant;

/// What new connections are accepted with: nothing.
pub(super) enum Tls {}

/// A version of HTTP that a handshake has agreed on: there is none.
#[derive(Debug, Clone, Copy)]
pub(super) enum Agreed {
    One,
    Two,
}

impl Tls {
    /// # Errors
    /// Always, if it is asked for.
    #[expect(clippy::unused_async, reason = "as the other one")]
    pub(super) async fn start(
        options: Option<&TlsOptions>,
        _: &Arc<Metrics>,
    ) -> Result<Option<Arc<Self>>, String> {
        match options {
            None => Ok(None),
            Some(_) => Err(
                "--tls-cert: this program was built without TLS; build it with --features tls"
                    .into(),
            ),
        }
    }

    #[expect(clippy::unused_async, reason = "as the other one")]
    pub(super) async fn renew(&self, _: bool) {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as the other one")]
    pub(super) async fn accept<S>(
        &self,
        _: S,
        _: Instant,
        _: &str,
    ) -> Option<(Stream<S>, Option<Agreed>)> {
        match *self {}
    }
}

/// A connection, as HTTP sees it.
pub(super) type Stream<S> = S;

pub(super) fn plain<S>(stream: S) -> Stream<S> {
    stream
}
