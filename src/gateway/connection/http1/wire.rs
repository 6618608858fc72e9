//! A client's connection of HTTP/1.1, shared by whoever answers its request and whoever reads the body of that.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use super::request::{Head, HeadError, may_be_whole, parse};
use crate::gateway::{
    http1::{ChunkError, Reading},
    io::{Buffer, Io},
};

/// What tells a client that it may send its body (RFC 9110 section 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Why a body of a request is not read to its end.
#[derive(Debug, thiserror::Error)]
pub(in crate::gateway) enum ReceiveError {
    /// The connection failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The client closed it before all of the body had come.
    #[error("the connection was closed too early")]
    Closed,
    /// It is not what its head says.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

/// The connection.
pub(super) struct Wire {
    /// Until it becomes a websocket.
    io: Option<Io>,
    /// Of what was read, what nobody took yet.
    early: Bytes,
    /// Of a head, what has come; nearly always nothing.
    part: Vec<u8>,
    /// What is to come of the body of the request at hand.
    body: Reading,
    /// What is to be written before it is read.
    interim: &'static [u8],
    /// Whether somebody may still read the body.
    is_read: bool,
    /// Who waits until nobody does.
    waiter: Option<Waker>,
    /// Who gets the socket once the protocol is switched.
    switch: Option<oneshot::Sender<Switched>>,
}

/// A socket that is no longer HTTP's, with what was read of it already.
pub(in crate::gateway) type Switched = (Io, Bytes);

/// The body of a request.
pub(in crate::gateway) struct Incoming(Rc<RefCell<Wire>>);

impl Wire {
    pub(super) fn new(io: Io) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            io: Some(io),
            early: Bytes::new(),
            part: Vec::new(),
            body: Reading::Whole,
            interim: &[],
            is_read: false,
            waiter: None,
            switch: None,
        }))
    }

    /// Whether nothing of another request has come.
    pub(super) fn is_quiet(&self) -> bool {
        self.part.is_empty() && self.early.is_empty()
    }

    /// Whether more may come that is not read: the rest of a body, or another request.
    pub(super) fn is_unread(&self) -> bool {
        !self.is_quiet() || !self.body.is_whole()
    }

    /// Whether all of the body has been read.
    pub(super) fn is_whole(&self) -> bool {
        self.body.is_whole()
    }

    /// The head of the next request; `None` if there is none.
    ///
    /// # Errors
    /// If the socket fails, or what comes is no head.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        longest: usize,
    ) -> Poll<io::Result<Result<Option<Head>, HeadError>>> {
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            match parse(&early, longest) {
                Ok(Some((head, length))) => {
                    self.early = early.slice(length..);
                    return Poll::Ready(Ok(Ok(Some(head))));
                }
                Ok(None) => self.part.extend_from_slice(&early),
                Err(error) => return Poll::Ready(Ok(Err(error))),
            }
        }
        loop {
            let mut buffer = Buffer::take();
            let read = match ready!(self.poll_read(cx, &mut buffer)) {
                Ok(read @ 1..) => read,
                // Between two requests a client may leave as it likes.
                Ok(0) | Err(_) if self.part.is_empty() => return Poll::Ready(Ok(Ok(None))),
                Ok(_) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Err(error) => return Poll::Ready(Err(error)),
            };
            match self.look(&buffer.0[..read], longest) {
                Ok(Some((head, length))) => {
                    self.early = buffer.part(length, read);
                    return Poll::Ready(Ok(Ok(Some(head))));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Ok(Err(error))),
            }
        }
    }

    /// Looks for a head in what has come and these bytes; says where in them it ends.
    fn look(&mut self, bytes: &[u8], longest: usize) -> Result<Option<(Head, usize)>, HeadError> {
        let before = self.part.len();
        if before == 0 {
            let found = parse(bytes, longest)?;
            if found.is_none() {
                self.part.extend_from_slice(bytes);
            }
            return Ok(found);
        }
        self.part.extend_from_slice(bytes);
        if self.part.len() < longest && !may_be_whole(&self.part, before) {
            return Ok(None);
        }
        let found = parse(&self.part, longest)?;
        Ok(found.map(|(head, length)| {
            self.part = Vec::new();
            // Of what had come alone it was none.
            (head, length.saturating_sub(before))
        }))
    }

    /// The request that has this body is answered now. Its sender may wait to be told to send it.
    pub(super) fn begin(&mut self, body: Reading, continues: bool) {
        self.body = body;
        let waits = continues && !self.body.is_whole() && self.early.is_empty();
        self.interim = if waits { CONTINUE } else { &[] };
    }

    /// The answer goes out: whoever waits to be told to send a body is told no more. Returns what has to go before it,
    /// if it was being told.
    pub(super) fn answers(&mut self) -> &'static [u8] {
        let rest = std::mem::take(&mut self.interim);
        if rest.len() < CONTINUE.len() {
            rest
        } else {
            &[]
        }
    }

    /// Ready once the client has left while its request is answered. What it sends meanwhile waits.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.body.is_whole() {
            self.waiter = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if !self.early.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.poll_more(cx)) {
            Ok(bytes) if !bytes.is_empty() => {
                self.early = bytes;
                Poll::Pending
            }
            Ok(_) | Err(_) => Poll::Ready(()),
        }
    }

    /// Reads what comes for nothing, until the client ends too; not what somebody else reads.
    pub(super) fn poll_forget(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_read && !self.body.is_whole() {
                self.waiter = Some(cx.waker().clone());
                return Poll::Pending;
            }
            match ready!(self.poll_more(cx)) {
                Ok(bytes) if !bytes.is_empty() => {}
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// The socket.
    pub(super) fn socket(&mut self) -> io::Result<Pin<&mut Io>> {
        let io = self.io.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Pin::new(io))
    }

    /// Hands the socket to whoever waits for the switch of protocols. Returns whether somebody does.
    pub(super) fn switch(&mut self) -> bool {
        let (Some(switch), Some(io)) = (self.switch.take(), self.io.take()) else {
            return false;
        };
        switch.send((io, std::mem::take(&mut self.early))).is_ok()
    }

    /// No switch comes of the request that was answered.
    pub(super) fn stays(&mut self) {
        self.switch = None;
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReceiveError>>> {
        while !self.interim.is_empty() {
            match ready!(self.poll_interim(cx)) {
                Ok(written) => self.interim = &self.interim[written..],
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
        let Some(io) = &mut self.io else {
            return Poll::Ready(Some(Err(ReceiveError::Closed)));
        };
        let data = self
            .body
            .poll(&mut self.early, || match ready!(read(io, cx)) {
                Ok(bytes) if bytes.is_empty() => Poll::Ready(Err(ReceiveError::Closed)),
                other => Poll::Ready(other.map_err(ReceiveError::from)),
            });
        if self.body.is_whole() {
            self.wake();
        }
        data
    }

    /// Flushed, or an encrypted connection would keep it.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let interim = self.interim;
        let written = ready!(self.socket()?.poll_write(cx, interim))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        // What cannot go out at once goes out with the answer.
        let _ = self.socket()?.poll_flush(cx)?;
        Poll::Ready(Ok(written))
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match &mut self.io {
            Some(io) => read(io, cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(&mut buffer.0[..Buffer::room()]);
        ready!(self.socket()?.poll_read(cx, &mut into))?;
        Poll::Ready(Ok(into.filled().len()))
    }

    fn wake(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }
}

/// Reads what there is; nothing at the end.
fn read(io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    let mut buffer = Buffer::take();
    let mut into = ReadBuf::new(&mut buffer.0[..Buffer::room()]);
    ready!(Pin::new(io).poll_read(cx, &mut into))?;
    let read = into.filled().len();
    Poll::Ready(Ok(buffer.part(0, read)))
}

impl Incoming {
    /// The body of the request at hand.
    pub(super) fn new(wire: &Rc<RefCell<Wire>>) -> Self {
        wire.borrow_mut().is_read = true;
        Self(Rc::clone(wire))
    }

    /// Whether all of it has been read.
    pub(in crate::gateway) fn is_end(&self) -> bool {
        self.0.borrow().body.is_whole()
    }

    /// How much of it is to come, if that is known.
    pub(in crate::gateway) fn left(&self) -> Option<u64> {
        self.0.borrow().body.left()
    }

    /// More of it; `None` at its end.
    pub(in crate::gateway) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ReceiveError>>> {
        self.0.borrow_mut().poll_body(cx)
    }

    /// The socket, once its request was answered by a switch of protocols. Nobody gets it otherwise.
    pub(in crate::gateway) fn switched(&self) -> oneshot::Receiver<Switched> {
        let (give, take) = oneshot::channel();
        self.0.borrow_mut().switch = Some(give);
        take
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let mut wire = self.0.borrow_mut();
        wire.is_read = false;
        wire.wake();
    }
}
