//! One connection to a service: a request at a time, its answer's head, and its answer's body as it comes.
//!
//! Whoever has the request drives it, so that nothing is handed from task to task. What is read goes through a buffer
//! of the worker, and an idle connection holds none.

use std::{
    io,
    net::SocketAddr,
    rc::{Rc, Weak},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{StatusCode, response};
use tokio::{io::ReadBuf, net::TcpStream, time::Instant};

use super::{
    head::{Finder, Head, HeadError},
    pool::{Key, Pool},
    sending::{SendError, Sending},
    socket::Socket,
};
use crate::{
    gateway::{
        body::{Progress, UploadError},
        headers::Framing,
        http1::{ChunkError, Reading},
        io::Buffer,
    },
    shutdown::Drain,
};

/// Why an exchange breaks off.
#[derive(Debug, thiserror::Error)]
pub(in crate::gateway) enum ExchangeError {
    /// The connection failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The service closed it before all of its answer had come.
    #[error("it was closed too early")]
    Closed,
    /// What came is no answer.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The body of the answer is not what its head says.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The body of the request ended before its end.
    #[error(transparent)]
    Upload(UploadError),
}

impl ExchangeError {
    /// Whether the connection ended, rather than that something is wrong with what came on it.
    pub(super) fn is_end(&self) -> bool {
        matches!(self, Self::Socket(_) | Self::Closed)
    }
}

/// A connection that carries one request at present.
pub(in crate::gateway) struct Connection {
    key: Key,
    socket: Socket,
    pool: Weak<Pool>,
    /// How far the body of its request is, if it has one.
    upload: Option<Rc<Progress>>,
    /// Of what was read, what nobody took yet.
    early: Bytes,
    finder: Finder,
    /// Whether its request asks for a head alone.
    is_head: bool,
    body: Reading,
    /// Whether it may carry the next request.
    keeps: bool,
    reused: bool,
}

impl Connection {
    pub(super) fn new(key: Key, socket: Socket, pool: &Rc<Pool>, reused: bool) -> Self {
        Self {
            key,
            socket,
            pool: Rc::downgrade(pool),
            upload: None,
            early: Bytes::new(),
            finder: Finder::new(),
            is_head: false,
            body: Reading::Whole,
            keeps: true,
            reused,
        }
    }

    /// Where it leads.
    pub(in crate::gateway) fn address(&self) -> SocketAddr {
        self.key.1
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Since when it carries its request.
    pub(super) fn since(&self) -> Instant {
        self.socket.since
    }

    /// Whether the request was answered while more of its body is to come.
    pub(in crate::gateway) fn is_uploading(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.is_open())
    }

    /// A request begins.
    pub(super) fn begin(&mut self, sending: &Sending) {
        self.is_head = sending.is_head();
        self.upload = sending.progress();
    }

    /// Whether nothing of an answer has come.
    pub(super) fn is_unanswered(&self) -> bool {
        self.finder.is_new() && self.early.is_empty()
    }

    /// As [`Socket::is_surely_idle`].
    pub(super) fn is_surely_idle(&self) -> bool {
        self.socket.is_surely_idle()
    }

    /// Ready once it is later than that.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>, when: Instant) -> Poll<()> {
        self.socket.poll_late(cx, when)
    }

    /// Sends what there is to send, and looks for the head of the answer, which may come before all is sent.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        sending: &mut Sending,
    ) -> Poll<Result<response::Parts, ExchangeError>> {
        if !sending.is_over()
            && let Some(writer) = self.socket.writer()
        {
            match sending.poll(cx, writer) {
                Poll::Pending | Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(SendError::Body(error))) => {
                    return Poll::Ready(Err(ExchangeError::Upload(error)));
                }
                Poll::Ready(Err(SendError::Socket(error))) => {
                    self.keeps = false;
                    if !sending.is_begun() {
                        return Poll::Ready(Err(error.into()));
                    }
                    // It takes no more, and may have said why.
                }
            }
        }
        self.poll_head(cx)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<response::Parts, ExchangeError>> {
        loop {
            let mut buffer = Buffer::take();
            let before = self.early.len();
            // A head that comes in pieces.
            buffer.0[..before].copy_from_slice(&self.early);
            // As much as there is: a body of which all comes with its head costs no second look.
            let read = ready!(poll_read(
                &mut self.socket,
                cx,
                &mut buffer.0[before..before + Buffer::room()]
            ))?;
            if read == 0 {
                return Poll::Ready(Err(ExchangeError::Closed));
            }
            let end = before + read;
            let (head, at) = self.finder.find(&buffer.0[..end])?;
            self.early = buffer.part(at, end);
            if let Some(Head { parts, keeps }) = head {
                self.keeps &= keeps;
                return Poll::Ready(Ok(parts));
            }
        }
    }

    /// The body of an answer whose head has come begins.
    pub(in crate::gateway) fn begin_body(&mut self, status: StatusCode, framing: Framing) {
        let none =
            self.is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.body = if none {
            Reading::Whole
        } else {
            Reading::new(framing)
        };
    }

    /// Whether all of the body has been read.
    pub(in crate::gateway) fn is_whole(&self) -> bool {
        self.body == Reading::Whole
    }

    /// How much of the body is to come, if it says so.
    pub(in crate::gateway) fn left(&self) -> Option<u64> {
        self.body.left()
    }

    /// More of the body; `None` at its end.
    pub(in crate::gateway) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ExchangeError>>> {
        // A body that ends with its connection.
        let ends = self.body == Reading::ToEnd;
        self.keeps &= !ends;
        let socket = &mut self.socket;
        self.body
            .poll(&mut self.early, || poll_more(socket, cx, ends))
    }

    /// Writes what is left of an answered request in a task of its own: whoever reads the answer may not care for it.
    pub(super) fn finish(&mut self, sending: Sending, drain: &Drain) {
        self.socket.finish(sending, drain);
    }

    /// Its answer has been read to the end: it may carry the next request, once all of this one was sent.
    pub(in crate::gateway) fn give_back(mut self) {
        if let Some(upload) = self.upload.take_if(|upload| upload.is_open()) {
            upload.answered();
            return self.socket.leave();
        }
        if let Some(pool) = self.pool.upgrade()
            && self.keeps
            && self.is_whole()
            && self.early.is_empty()
            && self.socket.has_sent()
        {
            pool.put(self.key, self.socket);
        }
    }

    /// The bare socket after the protocol was switched, with what came on it already.
    pub(in crate::gateway) fn into_socket(self) -> Option<(TcpStream, Bytes)> {
        Some((self.socket.into_stream()?, self.early))
    }
}

/// Reads what there is of a body; nothing at the end of the connection, if it `ends` with that.
fn poll_more(
    socket: &mut Socket,
    cx: &mut Context<'_>,
    ends: bool,
) -> Poll<Result<Bytes, ExchangeError>> {
    let mut buffer = Buffer::take();
    // Past the end too: a socket that gave less than it might is known to be empty.
    let read = ready!(poll_read(socket, cx, &mut buffer.0[..Buffer::room()]))?;
    if read == 0 && !ends {
        return Poll::Ready(Err(ExchangeError::Closed));
    }
    Poll::Ready(Ok(buffer.part(0, read)))
}

fn poll_read(
    socket: &mut Socket,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<Result<usize, ExchangeError>> {
    let mut into = ReadBuf::new(into);
    ready!(socket.poll_read(cx, &mut into))?;
    Poll::Ready(Ok(into.filled().len()))
}
