//! A client's socket, which fails once the client has taken no byte of what waits for it for too long. Below TLS, whose
//! own buffer takes bytes that the client has not.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// A socket of a client.
pub(in crate::gateway) struct Socket {
    stream: TcpStream,
    deadline: Option<Box<Deadline>>,
}

/// Whether a socket failed because its client took no byte in time: HTTP/2 of hyper keeps no error of it.
#[derive(Debug, Clone, Default)]
pub(in crate::gateway) struct Overdue(Arc<AtomicBool>);

/// Until when a byte has to be taken.
struct Deadline {
    longest: Duration,
    /// Since when none was, while one waits.
    since: Option<Instant>,
    /// Made when it is first needed, and set anew only when it is over: most waits are short.
    sleep: Option<Pin<Box<Sleep>>>,
    overdue: Overdue,
}

impl Socket {
    pub(in crate::gateway) fn new(stream: TcpStream, longest: Duration, overdue: Overdue) -> Self {
        let deadline = Deadline {
            longest,
            since: None,
            sleep: None,
            overdue,
        };
        Self {
            stream,
            deadline: Some(Box::new(deadline)),
        }
    }

    /// Lets the client take bytes when it likes, from now on.
    pub(super) fn without_deadline(&mut self) {
        self.deadline = None;
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The outcome of a write, or that it is overdue.
    fn timed(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Some(deadline) = &mut self.deadline else {
            return outcome;
        };
        if outcome.is_ready() {
            deadline.since = None;
            return outcome;
        }
        deadline.poll(cx).map(Err)
    }
}

impl Overdue {
    pub(in crate::gateway) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Deadline {
    /// Ready once it is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let end = since + self.longest;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(end)));
        while sleep.as_mut().poll(cx).is_ready() {
            // It was that of an earlier wait.
            if sleep.deadline() < end {
                sleep.as_mut().reset(end);
                continue;
            }
            self.overdue.0.store(true, Relaxed);
            return Poll::Ready(io::ErrorKind::TimedOut.into());
        }
        Poll::Pending
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.timed(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.timed(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
