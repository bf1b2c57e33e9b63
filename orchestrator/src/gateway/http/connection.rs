//! A connection of HTTP/1 or HTTP/2, from its handshake to its end.

use super::requests::{Over, Requests, UnderWay};
use super::{ListenerKind, handle};
use crate::gateway::Gateway;
use crate::gateway::budget::{Budget, Connected};
use crate::gateway::listener::{Caller, Stream};
use crate::gateway::timed_stream::TimedStream;
use crate::gateway::tls::{self, Agreed, Tls};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

const MAX_HEADERS: usize = 100;
/// Streams of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 128;
/// How often an HTTP/2 connection is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);
/// One connection, to its end.
pub(in crate::gateway) async fn serve_connection(
    gateway: Arc<Gateway>,
    kind: ListenerKind,
    stream: Stream,
    tls: Option<(Arc<Tls>, Caller)>,
    peer: Option<Connected>,
    mut ending: watch::Receiver<bool>,
    _room: OwnedSemaphorePermit,
) {
    let limit = gateway.options.header_timeout;
    // It was accepted by another runtime.
    let Ok(stream) = stream.moved() else {
        return;
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let stream = match tls {
        None => tls::plain(stream),
        Some((tls, caller)) => {
            let from = caller.to_string();
            let accepted = tokio::select! {
                accepted = tls.accept(stream, Instant::now() + limit, &from) => accepted,
                // It has asked for nothing yet.
                _ = ending.wait_for(|e| *e) => None,
            };
            let Some((stream, agreed)) = accepted else {
                return;
            };
            builder = match agreed {
                Some(Agreed::One) => builder.http1_only(),
                Some(Agreed::Two) => builder.http2_only(),
                None => builder,
            };
            stream
        }
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        // Who has sent all that it has to say still wants the answer (RFC 9112, 9.6).
        .half_close(true)
        .max_buf_size(gateway.options.head_bytes as usize)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(limit)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(gateway.options.head_bytes);
    let peer = peer.map(Arc::new);
    let requests = Arc::new(Requests::default());
    let service = {
        let (gateway, requests) = (Arc::clone(&gateway), Arc::clone(&requests));
        service_fn(move |request| {
            let (gateway, peer) = (Arc::clone(&gateway), peer.clone());
            let under_way = UnderWay::of(&requests);
            async move {
                let reply = handle(gateway, kind, peer.as_deref(), request).await;
                Ok::<_, Infallible>(reply.map(|body| under_way.answered(body)))
            }
        })
    };
    let io = TokioIo::new(TimedStream::new(stream, limit));
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let idle = gateway.options.idle_timeout;
    // Whoever has been asked to end may take as long again.
    let mut asked = false;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            _ = ending.wait_for(|e| *e), if !asked => {}
            over = requests.over(idle) => {
                if !asked || over == Over::Stuck {
                    gateway.budgets.refused(Budget::Idle);
                }
                if asked || over == Over::Stuck {
                    log::debug!("a connection is hung up on: {over:?}");
                    return;
                }
            }
        }
        asked = true;
        connection.as_mut().graceful_shutdown();
    };
    if let Err(e) = ended {
        let head = e.downcast_ref::<hyper::Error>();
        if head.is_some_and(hyper::Error::is_parse_too_large) {
            gateway.budgets.refused(Budget::Heads);
        }
        log::debug!("a connection ended: {e}");
    }
}
