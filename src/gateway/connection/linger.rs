//! The end of a client's connection, in stages: what was answered is not lost by it.
//!
//! Closed on bytes that were not read, a socket is reset, and the client's machine throws away what came and was not
//! looked at yet: our answer. So where more may come, our side ends first, and the client's is read until it ends too
//! (RFC 9112 section 9.6).

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::gateway::io::Io;

/// How long a client may take to notice that we have ended: some round trips to the other side of the world.
pub(super) const TIME: Duration = Duration::from_secs(2);
/// Read at a time, for nothing.
const BUFFER: usize = 4 * 1024;

/// A client's socket of HTTP/2, in hyper's hands. More may always come on it: streams that the client opens before it
/// hears that we end.
pub(super) struct Lingering {
    io: Io,
    end: Option<Pin<Box<Sleep>>>,
}

impl Lingering {
    pub(super) fn new(io: Io) -> Self {
        Self { io, end: None }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, into)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, end } = self.get_mut();
        if end.is_none() {
            ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
        }
        let end = end.get_or_insert_with(|| Box::pin(sleep(TIME)));
        while end.as_mut().poll(cx).is_pending() {
            let mut bytes = [0; BUFFER];
            let mut bytes = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut bytes));
            if read.is_err() || bytes.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
