//! A request on its way to a service: its head, and its body as it comes.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::{Method, header, request::Parts};
use http_body::{Body as _, Frame};
use tokio::{io::AsyncWrite, net::tcp::OwnedWriteHalf};

use super::head;
use crate::gateway::body::{Progress, Upload, UploadError};

/// Why a request is not sent to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// Its own body ends before its end.
    #[error(transparent)]
    Body(#[from] UploadError),
    /// The service takes no more.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// A request, and what of it is still to be written.
pub(in crate::gateway) struct Sending {
    head: Vec<u8>,
    body: Upload,
    kind: Kind,
    /// Of the head and the body so far, what is not written yet.
    out: Out,
    stands: Stands,
    /// Whether any byte of it was written.
    begun: bool,
}

/// What there is to know of a request while it is sent.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// It asks for a head alone.
    head: bool,
    /// It asks for nothing to be done (RFC 9110 section 9.2.1).
    safe: bool,
    /// Its body goes out in chunks (RFC 9112 section 7.1).
    chunked: bool,
}

/// What goes out next: three parts, which are mostly one.
#[derive(Default)]
struct Out {
    /// How much of the head is written.
    head: usize,
    /// The size of a chunk, with the end of the one before.
    size: Vec<u8>,
    data: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// More of the body is to come.
    Open,
    /// All of it is in `out`, or was.
    Last,
    /// All of it is written, or cannot be.
    Over,
}

impl Sending {
    /// A request of which nothing is sent yet.
    pub(in crate::gateway) fn new(head: &Parts, body: Upload) -> Self {
        let stands = match body {
            Upload::Empty => Stands::Last,
            Upload::Streamed(..) => Stands::Open,
        };
        let method = &head.method;
        let kind = Kind {
            head: method == Method::HEAD,
            safe: matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS),
            chunked: head.headers.contains_key(header::TRANSFER_ENCODING),
        };
        Self {
            head: head::encode(head),
            body,
            kind,
            out: Out::default(),
            stands,
            begun: false,
        }
    }

    /// Whether there is nothing more to write.
    pub(super) fn is_over(&self) -> bool {
        self.stands == Stands::Over
    }

    /// Whether it asks for a head alone.
    pub(super) fn is_head(&self) -> bool {
        self.kind.head
    }

    /// Whether it asks for nothing to be done.
    pub(super) fn is_safe(&self) -> bool {
        self.kind.safe
    }

    /// Whether it may be sent a second time: nothing of it was sent, or it has no body and asks for nothing to be done.
    pub(super) fn may_go_again(&self) -> bool {
        !self.begun || self.kind.safe && matches!(self.body, Upload::Empty)
    }

    /// The request, for another owner. Nothing of it is left here.
    pub(super) fn take(&mut self) -> Self {
        let nothing = Self {
            head: Vec::new(),
            body: Upload::Empty,
            kind: self.kind,
            out: Out::default(),
            stands: Stands::Over,
            begun: true,
        };
        std::mem::replace(self, nothing)
    }

    /// Whether the service may have got any of it.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    /// Begins anew, on another connection.
    pub(super) fn again(&mut self) {
        debug_assert!(self.may_go_again(), "a body comes once");
        self.out.head = 0;
        self.begun = false;
        if matches!(self.body, Upload::Empty) {
            self.stands = Stands::Last;
        }
    }

    /// How far the body is, if there is one.
    pub(super) fn progress(&self) -> Option<Rc<Progress>> {
        self.body.progress()
    }

    /// Writes what there is. Ready once all is written.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut OwnedWriteHalf,
    ) -> Poll<Result<(), SendError>> {
        loop {
            // Before the head goes out: what has come of the body goes with it.
            if self.stands == Stands::Open && self.out.data.is_empty() {
                match self.poll_body(cx) {
                    Poll::Ready(more) => more?,
                    Poll::Pending if self.is_written() => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            if self.is_written() {
                match self.stands {
                    Stands::Open => continue,
                    Stands::Last | Stands::Over => {
                        self.stands = Stands::Over;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            if let Err(error) = ready!(self.poll_write(cx, to)) {
                if self.begun {
                    self.stands = Stands::Over;
                }
                return Poll::Ready(Err(error.into()));
            }
        }
    }

    fn is_written(&self) -> bool {
        self.out.head == self.head.len() && self.out.size.is_empty() && self.out.data.is_empty()
    }

    /// Takes more of the body; ready if there is more of it, or no more.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let data = loop {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?;
            match frame.map(Frame::into_data) {
                // As a chunk it would be the last one; and trailers end before this.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => break Some(data),
                Some(Err(_)) => {}
                None => break None,
            }
        };
        let more = data.is_some();
        if self.kind.chunked {
            let size = data.as_ref().map_or(0, Bytes::len);
            let end = if more { "" } else { "\r\n" };
            let line = format!("{size:x}\r\n{end}");
            self.out.size.extend_from_slice(line.as_bytes());
        }
        // The end of a last chunk goes out with what follows it.
        if !more || !self.kind.chunked && self.body.is_end_stream() {
            self.stands = Stands::Last;
        }
        self.out.data = data.unwrap_or_default();
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut OwnedWriteHalf,
    ) -> Poll<io::Result<()>> {
        let Out { head, size, data } = &mut self.out;
        let parts = [&self.head[*head..], size, data].map(IoSlice::new);
        let mut written = if size.is_empty() && data.is_empty() {
            ready!(Pin::new(to).poll_write(cx, &parts[0]))?
        } else {
            ready!(Pin::new(to).poll_write_vectored(cx, &parts))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.begun = true;
        let of_head = written.min(self.head.len() - *head);
        *head += of_head;
        written -= of_head;
        let of_size = written.min(size.len());
        size.drain(..of_size);
        data.advance(written - of_size);
        if data.is_empty() && of_size < written && self.kind.chunked {
            // The end of the chunk.
            size.extend_from_slice(b"\r\n");
        }
        Poll::Ready(Ok(()))
    }
}
