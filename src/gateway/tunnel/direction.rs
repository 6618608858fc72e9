//! One direction of a tunnel: what is read on one side is written on the other, and its end is passed on.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::task::coop::has_budget_remaining;

use super::{frames::Scanner, side::Side};
use crate::gateway::io::Buffer;
use crate::metrics::{Direction as Way, OpenTunnel};

/// Reads of one direction before other tasks get their turn.
const TURNS: usize = 4;

/// Where one direction stands. Holds no buffer while nothing moves.
pub(super) struct Direction {
    /// Read and not written yet.
    pending: Bytes,
    scanner: Scanner,
    way: Way,
    /// Writes so far; it may wrap, since it only tells whether there were any.
    moves: u32,
    /// From which length on frames of data are counted, and how many there were; it may wrap.
    long: u8,
    frames: u16,
    /// Written since the last flush: an encrypted socket may hold some of it back.
    unflushed: bool,
    /// Nothing had come, and whoever asked is woken once something has.
    waits: bool,
    read_all: bool,
    done: bool,
    told: bool,
}

impl Direction {
    /// One that begins with what came on the socket before it was handed over. Frames of data count from `long` on.
    pub(super) fn new(way: Way, early: &Bytes, long: u8) -> Self {
        let mut scanner = Scanner::default();
        let frames = scanner.scan(early, long).long;
        Self {
            // A copy: the original pins the whole buffer that its head was read into.
            pending: Bytes::copy_from_slice(early),
            scanner,
            way,
            moves: 0,
            long,
            frames,
            unflushed: false,
            waits: false,
            read_all: false,
            done: false,
            told: false,
        }
    }

    /// Changes with every move.
    pub(super) fn moves(&self) -> u32 {
        self.moves
    }

    /// How many frames were long enough to be somebody's work. It may wrap.
    pub(super) fn frames(&self) -> u16 {
        self.frames
    }

    /// Moves what can be moved. Ready once everything was written and the end was passed on (half-close).
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        open: &OpenTunnel,
    ) -> Poll<io::Result<()>>
    where
        R: Side,
        W: Side,
    {
        for _ in 0..TURNS {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            ready!(self.write_pending(cx, to, open))?;
            if self.read_all {
                return self.poll_end(cx, to);
            }
            if self.pass(cx, (from, to), open, None)?.is_pending() {
                ready!(self.flush(cx, to))?;
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Moves what belongs to the frame at hand and then writes `close`. Ready once it is out, or once there is no place
    /// for it: after the end, after another Close, or where frames end nowhere. What comes later is not passed on.
    pub(super) fn poll_tell<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        (from, to): (&mut R, &mut W),
        close: &Bytes,
        open: &OpenTunnel,
    ) -> Poll<io::Result<()>>
    where
        R: Side,
        W: Side,
    {
        loop {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            ready!(self.write_pending(cx, to, open))?;
            if self.told || self.read_all || self.scanner.is_closed() || self.scanner.is_lost() {
                return self.flush(cx, to);
            }
            if self.scanner.at_boundary() {
                self.pending = close.clone();
                self.told = true;
            } else if self.pass(cx, (from, to), open, Some(close))?.is_pending() {
                ready!(self.flush(cx, to))?;
                return Poll::Pending;
            }
        }
    }

    /// Reads and forgets, until a Close or the end has come; with `to_end`, until the end.
    pub(super) fn poll_forget<R>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to_end: bool,
    ) -> Poll<()>
    where
        R: Side,
    {
        while !self.read_all && (to_end || !self.scanner.is_closed()) {
            let mut buffer = Buffer::take();
            let read = ready!(from.poll_take(cx, &mut buffer.0)).unwrap_or(0);
            self.read_all = read == 0;
            self.scanner.scan(&buffer.0[..read], self.long);
        }
        Poll::Ready(())
    }

    /// Passes the end on.
    pub(super) fn poll_end<W>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>>
    where
        W: Side,
    {
        if !self.done {
            ready!(Pin::new(to).poll_shutdown(cx))?;
            self.done = true;
        }
        Poll::Ready(Ok(()))
    }

    fn write_pending<W>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        open: &OpenTunnel,
    ) -> Poll<io::Result<()>>
    where
        W: Side,
    {
        while !self.pending.is_empty() {
            let written = match to.poll_give(cx, &self.pending)? {
                Poll::Ready(written) => written,
                Poll::Pending => {
                    ready!(self.flush(cx, to))?;
                    return Poll::Pending;
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(written);
            if self.pending.is_empty() {
                // The last piece of it would pin all of it.
                self.pending = Bytes::new();
            }
            self.wrote(written, open);
        }
        Poll::Ready(Ok(()))
    }

    /// Ready once a read may find something. As long as it is known that nothing has come, whoever waits need not be
    /// noted down again.
    fn poll_come<R>(&mut self, cx: &mut Context<'_>, from: &R) -> Poll<io::Result<()>>
    where
        R: Side,
    {
        if !from.is_silent() {
            self.waits = false;
            return Poll::Ready(Ok(()));
        }
        if self.waits {
            return Poll::Pending;
        }
        let come = from.poll_come(cx);
        // A task out of its budget is turned away before it is heard.
        self.waits = come.is_pending() && has_budget_remaining();
        come
    }

    /// Reads once into one of the worker's buffers and writes as much of it as goes out; the rest becomes pending.
    /// With a `close` only what belongs to the frame at hand is written, then that, and what was read beyond is
    /// forgotten.
    fn pass<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        (from, to): (&mut R, &mut W),
        open: &OpenTunnel,
        close: Option<&Bytes>,
    ) -> Poll<io::Result<()>>
    where
        R: Side,
        W: Side,
    {
        ready!(self.poll_come(cx, from))?;
        let mut buffer = Buffer::take();
        let length = ready!(from.poll_take(cx, &mut buffer.0))?;
        let read = &buffer.0[..length];
        if read.is_empty() {
            self.read_all = true;
            return Poll::Ready(Ok(()));
        }
        let Some(close) = close else {
            let ended = self.scanner.scan(read, self.long);
            self.frames = self.frames.wrapping_add(ended.long);
            open.frames(self.way, ended);
            let written = self.write(cx, to, read, open)?;
            if written < length {
                self.pending = buffer.rest(written, length);
            }
            return Poll::Ready(Ok(()));
        };
        let (ours, later) = read.split_at(self.scanner.frame(read));
        self.told = self.scanner.at_boundary() && !self.scanner.is_closed();
        let last = if self.told {
            self.scanner.scan(later, self.long);
            [ours, close].concat()
        } else {
            ours.to_vec()
        };
        let written = self.write(cx, to, &last, open)?;
        self.pending = Bytes::from(last).split_off(written);
        Poll::Ready(Ok(()))
    }

    /// Writes what goes out at once. Returns how much.
    fn write<W>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        bytes: &[u8],
        open: &OpenTunnel,
    ) -> io::Result<usize>
    where
        W: Side,
    {
        let written = match to.poll_give(cx, bytes)? {
            Poll::Ready(written) => written,
            Poll::Pending => 0,
        };
        self.wrote(written, open);
        Ok(written)
    }

    fn wrote(&mut self, bytes: usize, open: &OpenTunnel) {
        self.unflushed = true;
        self.moves = self.moves.wrapping_add(u32::from(bytes > 0));
        open.moved(self.way, bytes as u64);
    }

    fn flush<W>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>>
    where
        W: Side,
    {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        task::yield_now,
    };

    use super::super::side::tests::sockets;
    use super::*;
    use crate::{
        metrics::Metrics,
        session::{Prefix, ServiceSpec, Services},
    };

    pub(in super::super) fn open() -> OpenTunnel {
        let spec = ServiceSpec::example("preview", Prefix::Keep);
        let services = Services::new(vec![spec]).unwrap();
        Metrics::new(&services, 1, &[]).worker(0).tunnel()
    }

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
                let open = open();
                let mut direction = Direction::new(Way::Down, &Bytes::new(), 0);
                let write = async {
                    for chunk in &chunks {
                        source.write_all(chunk).await.unwrap();
                    }
                    source.shutdown().await.unwrap();
                };
                let carry = poll_fn(|cx| direction.poll(cx, &mut from, &mut to, &open));
                let mut received = Vec::new();
                let (_, carried, _) = tokio::join!(write, carry, sink.read_to_end(&mut received));
                carried.unwrap();
                received
            });
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn a_close_comes_after_the_frame_at_hand_and_nothing_after_it(
            payloads in prop::collection::vec(0usize..400, 1..20),
            before in 0usize..4000,
            narrow in 1usize..500,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let close = Bytes::from_static(&[0x88, 2, 3, 0xF4]);
            let (mut sent, mut ends) = (Vec::new(), vec![0]);
            for payload in payloads {
                let [high, low] = u16::try_from(payload).unwrap().to_be_bytes();
                sent.extend([0x82, 126, high, low]);
                sent.resize(sent.len() + payload, 7);
                ends.push(sent.len());
            }
            let before = before.min(sent.len());
            let received = runtime.block_on(async {
                let (mut source, mut from) = duplex(1 << 16);
                let (mut to, mut sink) = duplex(narrow);
                let open = open();
                let mut direction = Direction::new(Way::Down, &Bytes::new(), 0);
                let mut received = Vec::new();
                let tell = async {
                    source.write_all(&sent[..before]).await.unwrap();
                    poll_fn(|cx| {
                        let _ = direction.poll(cx, &mut from, &mut to, &open);
                        Poll::Ready(())
                    })
                    .await;
                    source.write_all(&sent[before..]).await.unwrap();
                    poll_fn(|cx| direction.poll_tell(cx, (&mut from, &mut to), &close, &open)).await.unwrap();
                    poll_fn(|cx| direction.poll_end(cx, &mut to)).await.unwrap();
                };
                let _ = tokio::join!(tell, sink.read_to_end(&mut received));
                received
            });
            let (frames, last) = received.split_at(received.len() - close.len());
            prop_assert_eq!(last, &close[..]);
            prop_assert!(ends.contains(&frames.len()), "{} of {:?}", frames.len(), ends);
            prop_assert_eq!(frames, &sent[..frames.len()]);
        }
    }

    /// All that goes on is one task here, so the direction is asked again and again while nothing has come.
    #[tokio::test]
    async fn what_comes_on_a_socket_is_heard_of_however_often_it_was_asked_for_in_vain() {
        let (mut source, mut from) = sockets().await;
        let (mut to, mut sink) = sockets().await;
        let open = open();
        let mut direction = Direction::new(Way::Up, &Bytes::new(), 0);
        let carry = poll_fn(|cx| direction.poll(cx, &mut from, &mut to, &open));
        let speak = async {
            for length in (0..200).chain([1 << 20]) {
                let chunk = vec![7; length + 1];
                let mut back = vec![0; chunk.len()];
                let (written, read) =
                    tokio::join!(source.write_all(&chunk), sink.read_exact(&mut back));
                written.unwrap();
                read.unwrap();
                assert_eq!(back, chunk);
                yield_now().await;
            }
            source.shutdown().await.unwrap();
            assert_eq!(sink.read(&mut [0]).await.unwrap(), 0);
        };
        let (carried, ()) = tokio::join!(carry, speak);
        carried.unwrap();
    }
}
