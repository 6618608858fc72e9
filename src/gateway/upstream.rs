//! Connections to services: one pool per worker, by instance and address.
//!
//! A connection belongs to the instance's uid and never to an address alone, so those of an old incarnation are out of
//! reach of a new one at once; the sweep closes them.

mod connection;
mod head;
mod pool;
mod sending;
mod socket;

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    rc::Rc,
    task::{Poll, ready},
    time::Duration,
};

use http::response;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Timeouts,
    body::{At, Progress},
    headers::ScrubError,
};
use crate::{
    activator::Lease,
    shutdown::{Drain, Stage},
};
pub(super) use connection::{Connection, ExchangeError};
#[cfg(fuzzing)]
pub(super) use head::{Finder, Head};
use pool::{Key, Pool};
pub(super) use sending::Sending;
use socket::Socket;

/// What a request to a service may meet.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    /// Nothing accepts at its address: it is starting, or starting again.
    #[error("connecting to {0}")]
    Connect(SocketAddr, #[source] io::Error),
    /// The connection broke before an answer began, or what began is none.
    #[error("sending to {0}")]
    Send(SocketAddr, #[source] ExchangeError),
    /// No answer began in time.
    #[error("no answer of {0} began within {time}", time = humantime::format_duration(*.1))]
    Silent(SocketAddr, Duration),
    /// The client sent nothing more of its request in time.
    #[error("no more of the request came within {time}", time = humantime::format_duration(*.0))]
    Stalled(Duration),
    /// The client broke off its request, or its body is malformed.
    #[error("the request broke off on its way to {0}")]
    Broken(SocketAddr, #[source] ExchangeError),
    /// The answer cannot be sent on.
    #[error("the answer of {0} cannot be sent on: {1}")]
    Unfit(SocketAddr, ScrubError),
}

/// This worker's connections to services. Cheap to clone; never leaves its thread.
#[derive(Clone)]
pub(super) struct Upstream {
    pool: Rc<Pool>,
    timeouts: Timeouts,
    drain: Drain,
}

impl Upstream {
    /// An empty pool whose idle connections are closed in time, on the worker that calls.
    pub(super) fn new(timeouts: Timeouts, drain: Drain) -> Self {
        let pool = Rc::new(Pool::default());
        let swept = Rc::downgrade(&pool);
        let end = drain.clone();
        drain.spawn_local(async move {
            loop {
                tokio::select! {
                    () = sleep(Duration::from_secs(1)) => {}
                    () = end.reached(Stage::Draining) => return,
                }
                let Some(pool) = swept.upgrade() else { return };
                pool.sweep();
            }
        });
        Self {
            pool,
            timeouts,
            drain,
        }
    }

    /// A connection to the service of the lease: an idle one, or a new one where `switch` says that the protocol will
    /// be switched on it.
    ///
    /// # Errors
    /// `Connect` if nothing accepts within `timeouts.connect`.
    pub(super) async fn connect(
        &self,
        lease: &Lease,
        switch: bool,
    ) -> Result<Connection, UpstreamError> {
        let key = (lease.instance().uid(), lease.address());
        if !switch && let Some(socket) = self.pool.take(key, Instant::now()) {
            return Ok(Connection::new(key, socket, &self.pool, true));
        }
        Box::pin(self.connect_anew(key)).await
    }

    async fn connect_anew(&self, key: Key) -> Result<Connection, UpstreamError> {
        let (_, address) = key;
        let connect = |error| UpstreamError::Connect(address, error);
        let stream = timeout(self.timeouts.connect, socket::dial(address))
            .await
            .map_err(|late| connect(late.into()))?
            .map_err(connect)?;
        let socket = Socket::new(stream, Instant::now());
        Ok(Connection::new(key, socket, &self.pool, false))
    }

    /// Sends a request and waits for the head of its answer, at most `timeouts.first_byte` from the last byte of the
    /// request on.
    ///
    /// A connection that had lain idle may have been closed by the service just now. Then the request goes once more,
    /// on a new one, if that is safe: nothing of it was sent, or it has no body and asks for nothing to be done
    /// (RFC 9110 section 9.2.2).
    ///
    /// # Errors
    /// `Send` if the connection broke first, `Silent` if no answer began in time, `Connect` if the second try found
    /// nobody. `Stalled` and `Broken` if it is the client's fault.
    pub(super) async fn send(
        &self,
        connection: &mut Connection,
        sending: &mut Sending,
    ) -> Result<response::Parts, UpstreamError> {
        if connection.is_reused() && !sending.is_safe() && !connection.is_surely_idle() {
            *connection = Box::pin(self.connect_anew(connection.key())).await?;
        }
        let mut outcome = self.exchange(connection, sending).await?;
        if outcome.as_ref().is_err_and(ExchangeError::is_end)
            && connection.is_reused()
            && connection.is_unanswered()
            && sending.may_go_again()
        {
            *connection = Box::pin(self.connect_anew(connection.key())).await?;
            sending.again();
            outcome = Box::pin(self.exchange(connection, sending)).await?;
        }
        match outcome {
            Ok(answer) => {
                if !sending.is_over() {
                    connection.finish(sending.take(), &self.drain);
                }
                Ok(answer)
            }
            Err(error @ ExchangeError::Upload(_)) => {
                Err(UpstreamError::Broken(connection.address(), error))
            }
            Err(error) => Err(UpstreamError::Send(connection.address(), error)),
        }
    }

    /// Sends, and waits for the head of the answer as long as it may take.
    async fn exchange(
        &self,
        connection: &mut Connection,
        sending: &mut Sending,
    ) -> Result<Result<response::Parts, ExchangeError>, UpstreamError> {
        connection.begin(sending);
        let (first_byte, begun) = (self.timeouts.first_byte, connection.since());
        let upload = sending.progress();
        // What is being uploaded moves the deadline, and who is waited for decides which one it is.
        let mut wake = begun
            + upload
                .as_ref()
                .map_or(first_byte, |_| first_byte.min(self.timeouts.body));
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = connection.poll_answer(cx, sending) {
                return Poll::Ready(Ok(outcome));
            }
            loop {
                ready!(connection.poll_late(cx, wake));
                match self.overdue(connection.address(), begun, upload.as_deref()) {
                    Ok(next) => wake = next,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        })
        .await
    }

    /// When to look again, or who is too late.
    fn overdue(
        &self,
        address: SocketAddr,
        begun: Instant,
        upload: Option<&Progress>,
    ) -> Result<Instant, UpstreamError> {
        let Timeouts {
            body, first_byte, ..
        } = self.timeouts;
        let (at, since) = upload.map_or((At::End, begun), Progress::at);
        let (limit, error) = match at {
            At::Client => (body, UpstreamError::Stalled(body)),
            At::Service | At::End | At::Broken => {
                (first_byte, UpstreamError::Silent(address, first_byte))
            }
        };
        let late = Instant::now();
        if late >= since + limit {
            return Err(error);
        }
        Ok((since + limit).min(late + body))
    }
}
