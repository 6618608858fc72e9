//! The socket of a client, plain or encrypted, as one type: nothing is boxed for one that is plain.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

mod buffer;
mod socket;

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::connection::{Open, OpenOf};
pub(super) use buffer::Buffer;
pub(super) use socket::{Overdue, Socket};

/// Bytes from and to a client. Counts as a connection as long as it lives, in whose hands ever: a websocket is one
/// still.
pub(super) struct Io {
    stream: Stream,
    #[expect(dead_code, reason = "they are held, not read")]
    counted: (Open, OpenOf),
}

/// How the bytes go.
pub(super) enum Stream {
    /// As they are.
    Plain(Socket),
    /// Encrypted. Boxed: the state is some KiB, which a plain connection need not make room for.
    Tls(Box<TlsStream<Socket>>),
}

impl Io {
    pub(super) fn new(stream: Stream, counted: (Open, OpenOf)) -> Self {
        Self { stream, counted }
    }

    /// Lets the client take bytes when it likes, from now on.
    pub(super) fn without_deadline(mut self) -> Self {
        match &mut self.stream {
            Stream::Plain(socket) => socket.without_deadline(),
            Stream::Tls(stream) => stream.get_mut().0.without_deadline(),
        }
        self
    }

    /// The socket itself, unless what comes on it is encrypted.
    pub(super) fn plain(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Plain(socket) => Some(socket.stream()),
            Stream::Tls(_) => None,
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
