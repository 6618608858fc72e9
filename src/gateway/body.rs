//! Bodies: of requests on their way to a service, and of answers, our own or a service's with its lease.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Extensions;
use http_body::{Body as _, Frame, SizeHint};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    connection::{Http1Incoming, ReceiveError, Switched},
    upstream::{Connection, ExchangeError},
};
use crate::{
    activator::Lease,
    metrics::{Bodies, Cut, Direction},
};

/// The body of an answer to a client. Not boxed.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are of the large kind"
)]
pub(super) enum Body {
    /// The gateway's own words, all at once. Empty once they are taken.
    Own(Bytes),
    /// A service's, as it comes.
    Streamed(Streamed),
    /// The gateway's own words, as control tells them.
    Told(mpsc::Receiver<Bytes>),
    /// None, and yet the service's answer: it has no body, or a tunnel has taken over.
    Bodyless,
}

/// A service's body on its way to the client.
///
/// Dropped before its end it takes the connection with it, so that the service notices that nobody listens; at its
/// end the connection may serve the next request.
pub(super) struct Streamed {
    lease: Lease,
    /// Until all has come.
    connection: Option<Connection>,
    /// How it broke off.
    broken: Option<ExchangeError>,
    bodies: Bodies,
}

/// The body of a request, as its client's connection has it.
pub(super) enum Received {
    /// Of a connection of its own.
    Http1(Http1Incoming),
    /// Of one of many streams of a connection.
    Http2(Incoming),
}

/// A client's side of a websocket, once the protocol is switched.
pub(super) enum Switching {
    /// A connection of its own.
    Socket(oneshot::Receiver<Switched>),
    /// One of many streams of a connection, which stays hyper's.
    Stream(OnUpgrade),
}

/// Why a streamed body broke off. The client must see a broken body and never a clean end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The service's connection failed.
    #[error("the service broke off its answer")]
    Upstream(#[from] ExchangeError),
    /// The session was stopped.
    #[error("the session ended during the answer")]
    Ended,
    /// It ended before the length that its head says.
    #[error("the answer is shorter than its length")]
    Short,
}

/// Why an upload ends before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// The client broke it off, or it is malformed.
    #[error("the body of the request broke off")]
    Http1(#[from] ReceiveError),
    /// The same, over HTTP/2.
    #[error("the body of the request broke off")]
    Http2(#[from] hyper::Error),
    /// It was answered, and there is too much left of it to be read for nothing.
    #[error("the request was answered before its end")]
    Answered,
}

/// The body of a request on its way to a service.
pub(super) enum Upload {
    /// None.
    Empty,
    /// The client's, as it comes, with how far it is.
    Streamed(Received, Rc<Progress>),
}

/// How far an upload is, for whoever waits for its answer.
pub(super) struct Progress {
    /// Since when it is where it is.
    since: Cell<Instant>,
    at: Cell<At>,
    /// What may still come of it, once it has been answered.
    left: Cell<u64>,
    bodies: Bodies,
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
    /// The body of a request, counted where there is one.
    pub(super) fn new(body: Received, bodies: impl FnOnce() -> Bodies) -> Self {
        if body.is_end() {
            return Self::Empty;
        }
        let progress = Progress {
            since: Cell::new(Instant::now()),
            at: Cell::new(At::Service),
            left: Cell::new(u64::MAX),
            bodies: bodies(),
        };
        Self::Streamed(body, Rc::new(progress))
    }

    /// How far it is, if there is any of it.
    pub(super) fn progress(&self) -> Option<Rc<Progress>> {
        match self {
            Self::Empty => None,
            Self::Streamed(_, progress) => Some(Rc::clone(progress)),
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
        let Poll::Ready(data) = body.poll_data(cx) else {
            if progress.at.get() != At::Client {
                progress.set(At::Client);
            }
            return Poll::Pending;
        };
        Poll::Ready(match data {
            None => {
                progress.set(At::End);
                None
            }
            Some(Err(error)) => {
                progress.set(At::Broken);
                Some(Err(error))
            }
            Some(Ok(data)) => {
                let Some(left) = progress.left.get().checked_sub(data.len() as u64) else {
                    return Poll::Ready(Some(Err(UploadError::Answered)));
                };
                progress.left.set(left);
                progress.bodies.moved(Direction::Up, data.len());
                let last = body.is_end();
                progress.set(if last { At::End } else { At::Service });
                Some(Ok(Frame::data(data)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(body, _) => body.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(body, _) => {
                let left = body.left();
                left.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}

impl Received {
    /// Whether all of it has been read.
    pub(super) fn is_end(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    /// How much of it is to come, if that is known.
    fn left(&self) -> Option<u64> {
        match self {
            Self::Http1(body) => body.left(),
            Self::Http2(body) => body.size_hint().exact(),
        }
    }

    /// More of it; `None` at its end. Trailers end here (RFC 9110 section 6.5.1): a service may merge them into the
    /// head.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UploadError>>> {
        match self {
            Self::Http1(body) => body
                .poll_data(cx)
                .map(|data| data.map(|data| data.map_err(UploadError::from))),
            Self::Http2(body) => loop {
                let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                    Some(Ok(frame)) => frame,
                };
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            },
        }
    }

    /// The client's side of the websocket that the request asks for, once there is one.
    pub(super) fn switching(&self, extensions: &mut Extensions) -> Option<Switching> {
        match self {
            Self::Http1(body) => Some(Switching::Socket(body.switched())),
            Self::Http2(_) => extensions.remove().map(Switching::Stream),
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

    /// The body of the answer whose head has come on this connection.
    pub(super) fn streamed(
        lease: Lease,
        connection: Connection,
        bodies: impl FnOnce() -> Bodies,
    ) -> Self {
        if connection.is_whole() {
            // Nobody would ask for its end.
            connection.give_back();
            return Self::Bodyless;
        }
        Self::Streamed(Streamed {
            lease,
            connection: Some(connection),
            broken: None,
            bodies: bodies(),
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
            Self::Told(words) => words.poll_recv(cx).map(|word| Some(Ok(Frame::data(word?)))),
            Self::Bodyless => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(content) => content.is_empty(),
            // Told by the frame that ends it, so that the connection is given back there and only there.
            Self::Streamed(_) | Self::Told(_) => false,
            Self::Bodyless => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(content) => SizeHint::with_exact(content.len() as u64),
            Self::Streamed(body) => body.size_hint(),
            Self::Told(_) => SizeHint::default(),
            Self::Bodyless => SizeHint::with_exact(0),
        }
    }
}

impl Streamed {
    fn size_hint(&self) -> SizeHint {
        let left = self.connection.as_ref().map_or(Some(0), Connection::left);
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take() {
            self.bodies.cut(Cut::Service);
            return Poll::Ready(Some(Err(error.into())));
        }
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(None);
        };
        let data = match connection.poll_body(cx) {
            // What has arrived is passed on first: it may be all there is.
            Poll::Pending if self.lease.instance().has_ended() => {
                self.bodies.cut(Cut::Session);
                return Poll::Ready(Some(Err(BodyError::Ended)));
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(data) => data,
        };
        let data = match data.transpose() {
            Ok(data) => data,
            Err(error) => {
                // Told when what came before it is out: else the client would get nothing at all, and might ask again.
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        };
        // Whoever sends a body of known length does not ask for what comes after its last byte.
        if connection.is_whole()
            && let Some(connection) = self.connection.take()
        {
            connection.give_back();
        }
        Poll::Ready(data.map(|data| {
            self.bodies.moved(Direction::Down, data.len());
            Ok(Frame::data(data))
        }))
    }
}
