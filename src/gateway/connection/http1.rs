//! A client's connection of HTTP/1.1: one request after the other, each driven by the connection's own task from its
//! first byte to the last byte of its answer, so that nothing is handed from task to task. Between two requests it
//! holds no buffer.

mod reply;
mod request;
mod wire;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use http::{Response, StatusCode, request::Parts, response};
use tokio::{
    io::AsyncWrite,
    time::{Instant, timeout},
};

#[cfg(fuzzing)]
pub(in crate::gateway) use self::request::{may_be_whole, parse};
use self::{
    reply::{Asked, Reply, ReplyError},
    request::Head,
    wire::Wire,
};
pub(in crate::gateway) use self::{
    request::HeadError,
    wire::{Incoming, ReceiveError, Switched},
};
use super::{Begun, Gateway, activity::Activity, drive, linger, silent};
use crate::{
    gateway::{
        Peer,
        body::{Body, Received},
    },
    metrics::End,
    shutdown::Drain,
};

/// Why a connection ends before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum Http1Error {
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// What came is no request.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The client left in the middle of a request.
    #[error("the client left")]
    Left,
    /// An answer broke off.
    #[error("an answer broke off")]
    Reply(#[from] ReplyError),
}

/// A connection.
struct Http1 {
    gateway: Rc<Gateway>,
    peer: Rc<Peer>,
    wire: Rc<RefCell<Wire>>,
    activity: Rc<Activity>,
    /// Whether it ends with the request at hand.
    stops: Cell<bool>,
}

/// What becomes of a connection once a request was answered.
enum Next {
    /// Another request.
    Request,
    /// It ends.
    End,
    /// It is a websocket's.
    Switched,
}

impl Http1Error {
    /// How the connection is counted.
    pub(super) fn end(&self) -> End {
        match self {
            Self::Head(error) => error.end(),
            Self::Socket(_) | Self::Left | Self::Reply(_) => End::Broken,
        }
    }
}

/// Serves a connection to its end.
///
/// # Errors
/// If it ends in the middle of something.
pub(super) async fn serve(
    gateway: Rc<Gateway>,
    begun: Begun,
    deadline: Instant,
    drain: &Drain,
) -> Result<End, Http1Error> {
    let Begun { io, peer, .. } = begun;
    let (activity, idle) = (Activity::new(), gateway.shared.config.timeouts.idle);
    let streams = gateway.shared.shutdown.streams;
    let connection = Http1 {
        gateway,
        peer,
        wire: Wire::new(io),
        activity: Rc::clone(&activity),
        stops: Cell::new(false),
    };
    let silent = pin!(silent(&activity, deadline, idle));
    let cut = pin!(activity.outlived(drain, streams));
    let run = pin!(connection.run());
    let driven = drive(run, |_| connection.stops.set(true), (silent, cut), drain);
    driven.await.unwrap_or_else(Ok)
}

/// Boxes a future where it is made: `Box::pin` makes it first and then copies all of it, also what it does not hold.
fn boxed<F>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(Box::write(Box::new_uninit(), make()))
}

impl Http1 {
    async fn run(&self) -> Result<End, Http1Error> {
        loop {
            let head = match self.head().await? {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(End::Closed),
                // Boxed, or every idle connection would keep room for it.
                Err(error) => {
                    Box::pin(self.refuse(error)).await?;
                    return Err(error.into());
                }
            };
            // The same, and the one box of a request.
            match boxed(|| self.exchange(head)).await? {
                Next::Request => {}
                Next::End => {
                    let unread = self.wire.borrow().is_unread();
                    Box::pin(self.finish(unread)).await?;
                    return Ok(End::Closed);
                }
                Next::Switched => return Ok(End::Upgraded),
            }
        }
    }

    /// The head of the next request, if one comes.
    async fn head(&self) -> io::Result<Result<Option<Head>, HeadError>> {
        let longest = self.gateway.shared.config.limits.head;
        poll_fn(|cx| {
            let mut wire = self.wire.borrow_mut();
            if self.stops.get() && self.activity.has_asked() && wire.is_quiet() {
                return Poll::Ready(Ok(Ok(None)));
            }
            wire.poll_head(cx, longest)
        })
        .await
    }

    /// Answers a request. What it is asked for is read before the future is made, which would keep room for all of it.
    fn exchange(&self, head: Head) -> impl Future<Output = Result<Next, Http1Error>> {
        let Head {
            mut parts,
            body,
            keeps,
            continues,
        } = head;
        self.activity.asked();
        let open = self.activity.open();
        let asked = Asked::by(&parts, keeps);
        self.wire.borrow_mut().begin(body, continues);
        let body = Received::Http1(Incoming::new(&self.wire));
        async move {
            let _open = open;
            let (head, mut body) = self.answer(&mut parts, body).await?.into_parts();
            let _endless = self.activity.endless(&head.headers);
            let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
            let mut reply = self.reply(head, &body, asked);
            self.send(&mut reply, &mut body).await?;
            let mut wire = self.wire.borrow_mut();
            if switched {
                return Ok(if wire.switch() {
                    Next::Switched
                } else {
                    Next::End
                });
            }
            wire.stays();
            Ok(if reply.keeps {
                Next::Request
            } else {
                Next::End
            })
        }
    }

    /// The answer to a request, unless the client leaves before.
    async fn answer(&self, head: &mut Parts, body: Received) -> Result<Response<Body>, Http1Error> {
        let mut answer = pin!(self.gateway.handle(head, body, &self.peer));
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            let left = self.wire.borrow_mut().poll_left(cx);
            left.map(|()| Err(Http1Error::Left))
        })
        .await
    }

    /// An answer, as it is to be sent.
    fn reply(&self, head: response::Parts, body: &Body, mut asked: Asked) -> Reply {
        let mut wire = self.wire.borrow_mut();
        asked.keeps &= wire.is_whole() && !self.stops.get();
        Reply::new(wire.answers(), &head, body, asked)
    }

    /// Sends an answer with its body.
    async fn send(&self, reply: &mut Reply, body: &mut Body) -> Result<(), Http1Error> {
        poll_fn(|cx| {
            let outcome = reply.poll(cx, body, &self.wire);
            if outcome.is_pending() && self.wire.borrow_mut().poll_left(cx).is_ready() {
                return Poll::Ready(Err(Http1Error::Left));
            }
            outcome.map_err(Http1Error::from)
        })
        .await
    }

    /// Says why what came is no request.
    async fn refuse(&self, error: HeadError) -> Result<(), Http1Error> {
        let (head, mut body) = self.gateway.refuse(error).into_parts();
        let mut reply = self.reply(head, &body, Asked::UNKNOWN);
        self.send(&mut reply, &mut body).await?;
        self.finish(true).await
    }

    /// Ends the connection. Where more may come that is `unread`, the client's end is waited for, or the answer would
    /// be lost: see [`linger`].
    async fn finish(&self, unread: bool) -> Result<(), Http1Error> {
        poll_fn(|cx| self.wire.borrow_mut().socket()?.poll_shutdown(cx)).await?;
        if unread {
            let forget = poll_fn(|cx| self.wire.borrow_mut().poll_forget(cx));
            let _ = timeout(linger::TIME, forget).await;
        }
        Ok(())
    }
}
