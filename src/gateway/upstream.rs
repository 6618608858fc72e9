//! Connections to services: one pool per worker, by instance and address.
//!
//! A connection belongs to the instance's uid and never to an address alone, so those of an old incarnation are out of
//! reach of a new one at once; the sweep closes them.

mod pool;

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    rc::{Rc, Weak},
    time::Duration,
};

use http::{Method, Request, Response};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use pool::{Key, Pool};
use rustix::net::sockopt;
use tokio::{
    net::TcpStream,
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Timeouts,
    body::{At, Progress, Upload},
    headers::ScrubError,
};
use crate::{
    activator::Lease,
    shutdown::{Drain, Stage},
};

/// How long a service's machine may not acknowledge what was sent to it: it is gone then (RFC 5482).
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// How long a connection may be silent before its other end is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(60);
/// Head and read-ahead of one connection.
const BUFFER: usize = 64 * 1024;

/// What a request to a service may meet.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    /// Nothing accepts at its address: it is starting, or starting again.
    #[error("connecting to {0}")]
    Connect(SocketAddr, #[source] io::Error),
    /// The connection broke before an answer began.
    #[error("sending to {0}")]
    Send(SocketAddr, #[source] hyper::Error),
    /// No answer began in time.
    #[error("no answer of {0} began within {time}", time = humantime::format_duration(*.1))]
    Silent(SocketAddr, Duration),
    /// The client sent nothing more of its request in time.
    #[error("no more of the request came within {time}", time = humantime::format_duration(*.0))]
    Stalled(Duration),
    /// The client broke off its request, or its body is malformed.
    #[error("the request broke off on its way to {0}")]
    Broken(SocketAddr, #[source] hyper::Error),
    /// The answer cannot be sent on.
    #[error("the answer of {0} cannot be sent on: {1}")]
    Unfit(SocketAddr, ScrubError),
}

/// What became of a request: an answer, or the request back if it was not sent.
type Sent = Result<Response<Incoming>, TrySendError<Request<Upload>>>;

/// This worker's connections to services. Cheap to clone; never leaves its thread.
#[derive(Clone)]
pub(super) struct Upstream {
    pool: Rc<Pool>,
    timeouts: Timeouts,
    drain: Drain,
}

/// A connection that carries one request at present.
pub(super) struct Connection {
    key: Key,
    sender: SendRequest<Upload>,
    /// Ends the connection when it is dropped, whatever is in flight.
    alive: oneshot::Sender<()>,
    pool: Weak<Pool>,
    /// How far the body of its request is, if it has one.
    upload: Option<Rc<Progress>>,
    reused: bool,
    /// The bare socket, once the protocol was switched; for connections made to be switched only.
    socket: Option<oneshot::Receiver<http1::Parts<TokioIo<TcpStream>>>>,
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
        if !switch && let Some((sender, alive)) = self.pool.take(key) {
            let pool = Rc::downgrade(&self.pool);
            return Ok(Connection {
                key,
                sender,
                alive,
                pool,
                upload: None,
                reused: true,
                socket: None,
            });
        }
        Box::pin(self.connect_anew(key, switch)).await
    }

    async fn connect_anew(&self, key: Key, switch: bool) -> Result<Connection, UpstreamError> {
        let (_, address) = key;
        let connect = |error| UpstreamError::Connect(address, error);
        let stream = timeout(self.timeouts.connect, TcpStream::connect(address))
            .await
            .map_err(|late| connect(late.into()))?
            .and_then(|stream| watched(&stream).map(|()| stream))
            .map_err(connect)?;
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| UpstreamError::Send(address, error))?;
        let (bare, socket) = oneshot::channel();
        let (alive, dropped) = oneshot::channel::<()>();
        self.drain.spawn_local(async move {
            tokio::select! {
                biased;
                // How the connection ends is told to whoever uses it, by the request or its body.
                ended = driver.without_shutdown() => {
                    if let Ok(parts) = ended {
                        let _ = bare.send(parts);
                    }
                }
                // Nobody uses it: what is in flight is for nobody.
                _ = dropped => {}
            }
        });
        let socket = switch.then_some(socket);
        Ok(Connection {
            key,
            sender,
            alive,
            pool: Rc::downgrade(&self.pool),
            upload: None,
            reused: false,
            socket,
        })
    }

    /// Sends a request and waits for the head of its answer, at most `timeouts.first_byte` from the last
    /// byte of the request on.
    ///
    /// A connection that had lain idle may have been closed by the service just now. Then the request goes once more,
    /// on a new one, if that is safe: it was not sent at all, or it has no body and asks for nothing to be done
    /// (RFC 9110 section 9.2.2).
    ///
    /// # Errors
    /// `Send` if the connection broke first, `Silent` if no answer began in time, `Connect` if the second try found
    /// nobody. `Stalled` and `Broken` if it is the client's fault.
    pub(super) async fn send(
        &self,
        request: Request<Upload>,
        mut connection: Connection,
    ) -> Result<(Response<Incoming>, Connection), UpstreamError> {
        let copy = if connection.reused {
            copy(&request)
        } else {
            None
        };
        let mut failed = match connection.send(request, self.timeouts).await? {
            Ok(response) => return Ok((response, connection)),
            Err(failed) => failed,
        };
        let again = if connection.reused {
            failed.take_message().map(Box::new).or(copy)
        } else {
            None
        };
        match again {
            Some(request) => Box::pin(self.send_again(request, connection.key)).await,
            None => Err(connection.failure(failed.into_error())),
        }
    }

    async fn send_again(
        &self,
        request: Box<Request<Upload>>,
        key: Key,
    ) -> Result<(Response<Incoming>, Connection), UpstreamError> {
        let mut fresh = self.connect_anew(key, false).await?;
        match fresh.send(*request, self.timeouts).await? {
            Ok(response) => Ok((response, fresh)),
            Err(failed) => Err(fresh.failure(failed.into_error())),
        }
    }
}

impl Connection {
    /// Not an `async fn`: its future would hold the request a second time.
    fn send(
        &mut self,
        request: Request<Upload>,
        timeouts: Timeouts,
    ) -> impl Future<Output = Result<Sent, UpstreamError>> + use<> {
        let (address, begun) = (self.address(), Instant::now());
        self.upload = request.body().progress();
        let upload = self.upload.clone();
        let sent = self.sender.try_send_request(request);
        async move {
            let mut sent = pin!(sent);
            let first_byte = timeouts.first_byte;
            // What is being uploaded moves the deadline, and who is waited for decides which one it is.
            let mut wake = begun
                + upload
                    .as_ref()
                    .map_or(first_byte, |_| first_byte.min(timeouts.body));
            loop {
                if let Ok(sent) = timeout_at(wake, sent.as_mut()).await {
                    return Ok(sent);
                }
                let (at, since) = upload
                    .as_ref()
                    .map_or((At::End, begun), |upload| upload.at());
                let late = Instant::now();
                let (limit, error) = match at {
                    At::Client => (timeouts.body, UpstreamError::Stalled(timeouts.body)),
                    At::Service | At::End | At::Broken => {
                        (first_byte, UpstreamError::Silent(address, first_byte))
                    }
                };
                if late >= since + limit {
                    return Err(error);
                }
                wake = (since + limit).min(late + timeouts.body);
            }
        }
    }

    /// Where it leads.
    pub(super) fn address(&self) -> SocketAddr {
        self.key.1
    }

    /// The bare socket after the protocol was switched, with what came on it already. `None` if it broke meanwhile.
    pub(super) async fn into_socket(self) -> Option<http1::Parts<TokioIo<TcpStream>>> {
        let Self {
            socket,
            alive: _alive,
            ..
        } = self;
        socket?.await.ok()
    }

    /// Its answer has been read to the end: it may carry the next request, once all of this one was sent.
    pub(super) fn give_back(self) {
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        match &self.upload {
            Some(upload) if upload.is_open() => {
                upload.answered();
                pool.linger(self);
            }
            _ => pool.put(self.key, self.sender, self.alive),
        }
    }

    /// Why a request got no answer: its own body may be the reason.
    fn failure(&self, error: hyper::Error) -> UpstreamError {
        match &self.upload {
            Some(upload) if upload.at().0 == At::Broken => {
                UpstreamError::Broken(self.address(), error)
            }
            _ => UpstreamError::Send(self.address(), error),
        }
    }
}

/// Prepares a socket: a service whose machine is gone is noticed, however little is sent.
fn watched(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE)?;
    sockopt::set_tcp_keepintvl(stream, UNACKNOWLEDGED / 3)?;
    let milliseconds = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(stream, milliseconds)?)
}

/// A request that may be sent a second time without asking twice for something to be done.
fn copy(request: &Request<Upload>) -> Option<Box<Request<Upload>>> {
    let safe = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    if !safe || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(Upload::Empty);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    Some(Box::new(copy))
}
