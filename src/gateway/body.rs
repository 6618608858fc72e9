//! Bodies: of requests on their way to a service, and of answers, our own or a service's with its lease.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::upstream::Connection;
use crate::activator::Lease;

/// The body of an answer to a client. Not boxed.
pub(super) enum Body {
    /// The gateway's own words, all at once. Empty once they are taken.
    Own(Bytes),
    /// A service's, as it comes.
    Streamed(Streamed),
    /// None, and yet the service's answer: it has no body, or a tunnel has taken over.
    Bodyless,
}

/// A service's body on its way to the client.
///
/// Dropped before its end it takes the connection with it, so that the service notices that nobody listens; at its
/// end the connection may serve the next request.
pub(super) struct Streamed {
    incoming: Incoming,
    lease: Lease,
    connection: Option<Connection>,
}

/// Why a streamed body broke off. The client must see a broken body and never a clean end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The service's connection failed.
    #[error("the service broke off its answer")]
    Upstream(#[from] hyper::Error),
    /// The session was stopped.
    #[error("the session ended during the answer")]
    Ended,
}

/// Why an upload ends before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// The client broke it off, or it is malformed.
    #[error("the body of the request broke off")]
    Client(#[from] hyper::Error),
    /// It was answered, and there is too much left of it to be read for nothing.
    #[error("the request was answered before its end")]
    Answered,
}

/// The body of a request on its way to a service.
pub(super) enum Upload {
    /// None.
    Empty,
    /// The client's, as it comes, with how far it is.
    Streamed(Incoming, Rc<Progress>),
}

/// How far an upload is, for whoever waits for its answer.
pub(super) struct Progress {
    /// Since when it is where it is.
    since: Cell<Instant>,
    at: Cell<At>,
    /// What may still come of it, once it has been answered.
    left: Cell<u64>,
}

/// Who an upload waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// The client, for more of it.
    Client,
    /// The service, to take what there is.
    Service,
    /// Nobody: all of it was passed on.
    End,
    /// Nobody: the client broke it off, or it is malformed.
    Broken,
}

/// What is still read of an upload after its answer: enough for what was on its way (RFC 9112 section 9.6).
const GRACE: u64 = 64 * 1024;

impl Progress {
    fn set(&self, at: At) {
        self.at.set(at);
        self.since.set(Instant::now());
    }

    /// Who it waits for, and since when.
    pub(super) fn at(&self) -> (At, Instant) {
        (self.at.get(), self.since.get())
    }

    /// Whether there is more of it to come.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.at.get(), At::Client | At::Service)
    }

    /// It was answered before its end: little more of it is read.
    pub(super) fn answered(&self) {
        self.left.set(GRACE);
    }
}

impl Upload {
    /// How far it is, if there is any of it.
    pub(super) fn progress(&self) -> Option<Rc<Progress>> {
        match self {
            Self::Empty => None,
            Self::Streamed(_, progress) => Some(Rc::clone(progress)),
        }
    }
}

impl From<Incoming> for Upload {
    fn from(body: Incoming) -> Self {
        if body.is_end_stream() {
            Self::Empty
        } else {
            let progress = Progress {
                since: Cell::new(Instant::now()),
                at: Cell::new(At::Service),
                left: Cell::new(u64::MAX),
            };
            Self::Streamed(body, Rc::new(progress))
        }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Self::Streamed(body, progress) = self.get_mut() else {
            return Poll::Ready(None);
        };
        loop {
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
                if progress.at.get() != At::Client {
                    progress.set(At::Client);
                }
                return Poll::Pending;
            };
            return Poll::Ready(match frame {
                None => {
                    progress.set(At::End);
                    None
                }
                Some(Err(error)) => {
                    progress.set(At::Broken);
                    Some(Err(error.into()))
                }
                Some(Ok(frame)) => {
                    // Trailers end here (RFC 9110 section 6.5.1): a service may merge them into the head.
                    let Some(length) = frame.data_ref().map(Bytes::len) else {
                        continue;
                    };
                    let Some(left) = progress.left.get().checked_sub(length as u64) else {
                        return Poll::Ready(Some(Err(UploadError::Answered)));
                    };
                    progress.left.set(left);
                    let last = body.is_end_stream();
                    progress.set(if last { At::End } else { At::Service });
                    Some(Ok(frame))
                }
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(body, _) => body.size_hint(),
        }
    }
}

impl Body {
    pub(super) fn own(content: impl Into<Bytes>) -> Self {
        Self::Own(content.into())
    }

    /// Whether the answer is the service's.
    pub(super) fn is_streamed(&self) -> bool {
        matches!(self, Self::Streamed(_) | Self::Bodyless)
    }

    pub(super) fn streamed(incoming: Incoming, lease: Lease, connection: Connection) -> Self {
        if incoming.is_end_stream() {
            // Nobody would ask for its end: answers to HEAD, 204, 304.
            connection.give_back();
            return Self::Bodyless;
        }
        Self::Streamed(Streamed {
            incoming,
            lease,
            connection: Some(connection),
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(content) if content.is_empty() => Poll::Ready(None),
            Self::Own(content) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(content))))),
            Self::Streamed(body) => body.poll_frame(cx),
            Self::Bodyless => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(content) => content.is_empty(),
            // Told by the frame that ends it, so that the connection is given back there and only there.
            Self::Streamed(_) => false,
            Self::Bodyless => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(content) => SizeHint::with_exact(content.len() as u64),
            Self::Streamed(body) => body.incoming.size_hint(),
            Self::Bodyless => SizeHint::with_exact(0),
        }
    }
}

impl Streamed {
    /// All of it has come: the connection may serve the next request.
    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.give_back();
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
                // What has arrived is passed on first: it may be all there is.
                Poll::Pending if self.lease.instance().has_ended() => {
                    return Poll::Ready(Some(Err(BodyError::Ended)));
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame,
            };
            match frame {
                None => {
                    self.give_back();
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                // Trailers were not announced to this client (RFC 9110 section 6.5.1).
                Some(Ok(frame)) if frame.is_data() => {
                    // Whoever sends a body of known length does not ask for what comes after its last byte.
                    if self.incoming.is_end_stream() {
                        self.give_back();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Ok(_)) => {}
            }
        }
    }
}
