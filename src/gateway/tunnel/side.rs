//! A side of a tunnel: a socket, or a stream of a connection.
//!
//! Of a plain socket the runtime is asked for what it has heard of the kernel, and the kernel is called from here: what
//! the runtime does about a read besides costs more than all the rest of a short message.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use crate::gateway::io::Io;

/// Bytes from and to one end.
pub(super) trait Side: AsyncRead + AsyncWrite + Unpin {
    /// The socket, if the bytes are on it as they are.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    /// Whether it is known that a read would wait. To ask costs next to nothing, and wakes nobody later.
    fn is_silent(&self) -> bool {
        self.socket().is_some_and(is_silent)
    }

    /// Ready once a read may find something.
    fn poll_come(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket() {
            Some(socket) => socket.poll_read_ready(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Reads what there is. Returns how much; nothing at the end.
    fn poll_take(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Some(socket) = self.socket() {
            return poll_take(socket, cx, into);
        }
        let mut into = ReadBuf::new(into);
        ready!(Pin::new(self).poll_read(cx, &mut into))?;
        Poll::Ready(Ok(into.filled().len()))
    }

    /// Writes what goes out. Returns how much.
    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.socket() {
            Some(socket) => poll_give(socket, cx, bytes),
            None => Pin::new(self).poll_write(cx, bytes),
        }
    }
}

impl Side for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl Side for Io {
    fn socket(&self) -> Option<&TcpStream> {
        self.plain()
    }
}

/// What it holds is hyper's.
impl Side for TokioIo<Upgraded> {}

#[cfg(test)]
impl Side for tokio::io::DuplexStream {}

fn is_silent(socket: &TcpStream) -> bool {
    socket.try_io(Interest::READABLE, || Ok(())).is_err()
}

fn poll_take(socket: &TcpStream, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        let room = into.len();
        let read = once(socket, Interest::READABLE, room, || {
            recv(socket, &mut *into, RecvFlags::empty()).map(|(_, read)| read)
        });
        if let Some(read) = read {
            return Poll::Ready(read);
        }
        ready!(socket.poll_read_ready(cx))?;
    }
}

fn poll_give(socket: &TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        let written = once(socket, Interest::WRITABLE, bytes.len(), || {
            send(socket, bytes, SendFlags::NOSIGNAL)
        });
        if let Some(written) = written {
            return Poll::Ready(written);
        }
        ready!(socket.poll_write_ready(cx))?;
    }
}

/// Calls the kernel if the socket may be ready for it; `None` if it is not. Less than `most` means that it is not from
/// then on, until the kernel says otherwise (epoll(7), question 9), and the runtime is told so. Nothing at all is the
/// end, which stays.
fn once(
    socket: &TcpStream,
    interest: Interest,
    most: usize,
    call: impl FnOnce() -> Result<usize, Errno>,
) -> Option<io::Result<usize>> {
    let mut moved = None;
    let _ = socket.try_io(interest, || {
        moved = match call() {
            Err(Errno::AGAIN) => None,
            outcome => Some(outcome.map_err(io::Error::from)),
        };
        match moved {
            Some(Ok(moved)) if moved == 0 || moved == most => Ok(()),
            Some(Err(_)) => Ok(()),
            Some(Ok(_)) | None => Err(io::ErrorKind::WouldBlock.into()),
        }
    });
    moved
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::ErrorKind::WouldBlock;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Both ends of a connection.
    pub(in super::super) async fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn a_socket_is_silent_from_a_read_in_vain_to_the_next_bytes_or_the_end() {
        let (mut near, mut far) = sockets().await;
        let mut bytes = [0; 8];
        assert_eq!(near.try_read(&mut bytes).unwrap_err().kind(), WouldBlock);
        assert!(near.is_silent());
        far.write_all(b"ab").await.unwrap();
        near.readable().await.unwrap();
        assert!(!near.is_silent());
        // Less than there was room for: there was no more.
        assert_eq!(near.read(&mut bytes).await.unwrap(), 2);
        assert!(near.is_silent());
        far.shutdown().await.unwrap();
        near.readable().await.unwrap();
        assert_eq!(near.read(&mut bytes).await.unwrap(), 0);
        assert!(!near.is_silent());
    }
}
