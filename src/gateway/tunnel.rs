//! Websockets: bytes, both ways, after the protocol was switched.
//!
//! hyper forgets a connection once it is upgraded, so its end is ours: a tunnel ends with both of its sides, with its
//! instance, or with the process. It holds no buffer while nothing moves.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

use super::{io::Io, upstream::Connection};
use crate::{
    activator::Lease,
    metrics::{Direction as Way, OpenTunnel},
    shutdown::{Drain, Stage},
};

/// Read at a time. One buffer serves all tunnels of a worker: what was read is written on at once, and what does not
/// go out is copied aside.
const BUFFER: usize = 64 * 1024;
/// Reads of one direction before other tasks get their turn.
const TURNS: usize = 16;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// One direction of a tunnel.
#[derive(Default)]
struct Direction {
    /// Read and not written yet.
    pending: Bytes,
    read_all: bool,
    done: bool,
}

/// Carries bytes between a client whose connection is being switched and the service that has switched already, in a
/// task of its own. The lease is held to the end.
pub(super) fn join(
    client: OnUpgrade,
    service: Connection,
    lease: Lease,
    open: OpenTunnel,
    drain: &Drain,
) {
    let end = drain.clone();
    drain.spawn_local(async move {
        let _open = lease.tunnel();
        let session = lease.instance().session();
        let outcome = tokio::select! {
            outcome = carry(client, service, &open) => outcome,
            () = lease.ended() => Ok("session ended"),
            () = end.reached(Stage::Draining) => Ok("gateway ends"),
        };
        match outcome {
            Ok(why) => debug!(%session, why, "tunnel ended"),
            Err(error) => debug!(%session, %error, "tunnel broke"),
        }
    });
}

async fn carry(
    client: OnUpgrade,
    service: Connection,
    open: &OpenTunnel,
) -> io::Result<&'static str> {
    let (client, service) = tokio::join!(client, service.into_socket());
    let client = client.map_err(io::Error::other)?;
    let service = service.ok_or(io::ErrorKind::ConnectionReset)?;
    let client = client
        .downcast::<TokioIo<Io>>()
        .map_err(|_| io::ErrorKind::Unsupported)?;
    let mut up = Direction {
        pending: Bytes::copy_from_slice(&client.read_buf),
        ..Direction::default()
    };
    let mut down = Direction {
        pending: Bytes::copy_from_slice(&service.read_buf),
        ..Direction::default()
    };
    let (mut client, mut service) = (client.io.into_inner(), service.io.into_inner());
    poll_fn(|cx| {
        let up = up.poll(cx, &mut client, &mut service, |bytes| {
            open.moved(Way::Up, bytes)
        })?;
        let down = down.poll(cx, &mut service, &mut client, |bytes| {
            open.moved(Way::Down, bytes)
        })?;
        if up.is_ready() && down.is_ready() {
            Poll::Ready(io::Result::Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await?;
    Ok("both sides ended")
}

impl Direction {
    /// Moves what can be moved. Ready once everything was written and the end was passed on (half-close).
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        moved: impl Fn(u64),
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..TURNS {
            while !self.pending.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.pending))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                let _ = self.pending.split_to(written);
                moved(written as u64);
            }
            if self.read_all {
                if !self.done {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.done = true;
                }
                return Poll::Ready(Ok(()));
            }
            self.pending = Bytes::new();
            moved(ready!(self.pass(cx, from, to))?);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once into the worker's buffer and writes as much of it as goes out; the rest becomes pending.
    fn pass<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<io::Result<u64>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SHARED.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(from).poll_read(cx, &mut read))?;
            let read = read.filled();
            if read.is_empty() {
                self.read_all = true;
                return Poll::Ready(Ok(0));
            }
            let written = match Pin::new(to).poll_write(cx, read)? {
                Poll::Ready(written) => written,
                Poll::Pending => 0,
            };
            self.pending = Bytes::copy_from_slice(&read[written..]);
            Poll::Ready(Ok(written as u64))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_byte_arrives_in_order_however_the_writer_stalls(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..3000), 1..12),
            narrow in 1usize..2000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let sent: Vec<u8> = chunks.concat();
            let received = runtime.block_on(async {
                let (mut source, mut from) = duplex(4096);
                let (mut to, mut sink) = duplex(narrow);
                let mut direction = Direction::default();
                let moved = std::cell::Cell::new(0);
                let write = async {
                    for chunk in &chunks {
                        source.write_all(chunk).await.unwrap();
                    }
                    source.shutdown().await.unwrap();
                };
                let carry = poll_fn(|cx| direction.poll(cx, &mut from, &mut to, |bytes| moved.set(moved.get() + bytes)));
                let mut received = Vec::new();
                let (_, carried, _) = tokio::join!(write, carry, sink.read_to_end(&mut received));
                carried.unwrap();
                assert_eq!(moved.get(), received.len() as u64);
                received
            });
            prop_assert_eq!(received, sent);
        }
    }
}
