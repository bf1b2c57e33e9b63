//! The body of a request, which may be more than anybody wants.
//!
//! An answer can be made before the body has come: the path is wrong, the body
//! too large. On HTTP/1 a server that then hangs up at once resets the connection,
//! and the client, which still sends, never reads why. So what comes is read and
//! thrown away, up to a limit; where that does not end the body, the answer says
//! that the connection closes.

use crate::gateway::budget::Room;
use crate::gateway::problem::{Problem, ProblemKind, over_budget, too_large};
use bytes::Bytes;
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes that are thrown away for a client to read its answer.
const DISCARD_LIMIT: usize = 8 << 20;
/// How long that may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// A body on its way.
pub(super) struct Upload {
    body: Incoming,
    /// Whether the client sends it only when it is asked to.
    waits: bool,
}

impl Upload {
    pub(super) fn new(body: Incoming, waits: bool) -> Self {
        Self { body, waits }
    }

    /// The whole body, so that no worker waits for a slow sender.
    pub(super) async fn collect(
        &mut self,
        deadline: Instant,
        limit: u64,
        region: u64,
        room: &mut Room,
    ) -> Result<Bytes, Problem> {
        if self.body.size_hint().lower() > limit {
            return Err(too_large(region));
        }
        self.waits = false;
        let body = &mut self.body;
        let whole = async {
            let mut first = Bytes::new();
            let mut all = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|e| {
                    let what = format!("the body did not arrive: {e}");
                    Problem::new(ProblemKind::BadBody, what)
                })?;
                // Trailers are nobody's.
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                let len = (first.len() + all.len() + data.len()) as u64;
                if len > limit {
                    return Err(too_large(region));
                }
                if !room.take(data.len() as u64) {
                    return Err(over_budget());
                }
                // One that comes in one piece is not copied.
                match first.is_empty() && all.is_empty() {
                    true => first = data,
                    false => {
                        all.extend_from_slice(&std::mem::take(&mut first));
                        all.extend_from_slice(&data);
                    }
                }
            }
            Ok(if all.is_empty() { first } else { all.freeze() })
        };
        match timeout_at(deadline, whole).await {
            Ok(whole) => whole,
            Err(_) => Err(Problem::new(
                ProblemKind::SlowBody,
                "the body did not arrive within the deadline",
            )),
        }
    }

    /// Throws away what is left. False if there is more than that: the
    /// connection is of no use for another request.
    pub(super) async fn discard(&mut self) -> bool {
        if self.body.is_end_stream() {
            return true;
        }
        if self.waits || self.body.size_hint().lower() > DISCARD_LIMIT as u64 {
            return false;
        }
        let rest = async {
            let mut thrown = 0;
            while let Some(frame) = self.body.frame().await {
                let Ok(frame) = frame else { return false };
                thrown += frame.data_ref().map_or(0, Bytes::len);
                if thrown > DISCARD_LIMIT {
                    return false;
                }
            }
            true
        };
        timeout(DISCARD_TIMEOUT, rest).await.unwrap_or(false)
    }
}
