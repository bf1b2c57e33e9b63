//! A connection that does not wait for ever.
//!
//! hyper limits how long the head of an HTTP/1 request may take. Two waits are
//! beyond its limits: the first bytes, by which HTTP/1 and HTTP/2 are told
//! apart, and a client that takes no byte of an answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// What every HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream with limits on both waits.
pub(super) struct TimedStream<S> {
    stream: S,
    limit: Duration,
    /// Runs until the protocol is known, then while a write is stuck.
    clock: Pin<Box<Sleep>>,
    /// How much of the preface has come; `None` once the protocol is known.
    seen: Option<usize>,
    stuck: bool,
}

impl<S> TimedStream<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            clock: Box::pin(sleep(limit)),
            seen: Some(0),
            stuck: false,
        }
    }

    /// Passes on what a write came to; one that is stuck too long fails.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.stuck = false;
            return wrote;
        }
        if self.seen.is_some() {
            return wrote;
        }
        if !self.stuck {
            self.stuck = true;
            self.clock.as_mut().reset(Instant::now() + self.limit);
        }
        if self.clock.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        wrote
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some(seen) = self.seen else { return read };
        if read.is_pending() {
            if self.clock.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            return read;
        }
        let new = &buf.filled()[before..];
        let rest = &PREFACE[seen..];
        let of_preface = new.len() < rest.len() && rest.starts_with(new);
        self.seen = of_preface.then(|| seen + new.len());
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        // TLS takes leave by a record, for which there may be no room.
        self.seen = None;
        self.watch(cx, shut)
    }
}
