//! Connections to services: one pool per worker, by instance and service.
//!
//! The pool belongs to the instance's uid and never to an address, so the connections of an old incarnation are out
//! of reach of a new one at once; the sweep closes them.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::pin,
    rc::{Rc, Weak},
    time::Duration,
};

use futures_util::FutureExt;
use http::{Method, Request, Response};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{body::Upload, headers::ScrubError};
use crate::{
    activator::{InstanceUid, Lease},
    session::Service,
    shutdown::{Drain, Stage},
};

/// How long a connection may lie idle: below the 5 s after which code-server, Vite, Next and webpack's server close
/// it themselves, or a request would meet the closing.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept for one service.
const KEPT: usize = 32;
/// A connect that takes longer has failed. Within a machine or a cluster it takes milliseconds.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a service may think before its answer begins, from the last byte of the request on. A development server
/// may compile for a minute.
const FIRST_BYTE: Duration = Duration::from_secs(120);
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
    #[error("no answer of {0} began within {time}", time = humantime::format_duration(FIRST_BYTE))]
    Silent(SocketAddr),
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
    drain: Drain,
}

#[derive(Default)]
struct Pool {
    idle: RefCell<HashMap<(InstanceUid, Service), Vec<Idle>>>,
}

struct Idle {
    sender: SendRequest<Upload>,
    since: Instant,
}

/// A connection that carries one request at present.
pub(super) struct Connection {
    key: (InstanceUid, Service),
    address: SocketAddr,
    sender: SendRequest<Upload>,
    pool: Weak<Pool>,
    reused: bool,
    /// The bare socket, once the protocol was switched; for connections made to be switched only.
    socket: Option<oneshot::Receiver<http1::Parts<TokioIo<TcpStream>>>>,
}

impl Upstream {
    /// An empty pool whose idle connections are closed in time, on the worker that calls.
    pub(super) fn new(drain: Drain) -> Self {
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
        Self { pool, drain }
    }

    /// A connection to the service of the lease: an idle one, or a new one where `switch` says that the protocol will
    /// be switched on it.
    ///
    /// # Errors
    /// `Connect` if nothing accepts within 5 s.
    pub(super) async fn connect(
        &self,
        lease: &Lease,
        switch: bool,
    ) -> Result<Connection, UpstreamError> {
        let key = (lease.instance().uid(), lease.service());
        let address = lease.address();
        if !switch && let Some(sender) = self.pool.take(key) {
            let pool = Rc::downgrade(&self.pool);
            return Ok(Connection {
                key,
                address,
                sender,
                pool,
                reused: true,
                socket: None,
            });
        }
        Box::pin(self.connect_anew(key, address, switch)).await
    }

    async fn connect_anew(
        &self,
        key: (InstanceUid, Service),
        address: SocketAddr,
        switch: bool,
    ) -> Result<Connection, UpstreamError> {
        let connect = |error| UpstreamError::Connect(address, error);
        let stream = timeout(CONNECT, TcpStream::connect(address))
            .await
            .map_err(|late| connect(late.into()))?
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(connect)?;
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| UpstreamError::Send(address, error))?;
        let (bare, socket) = oneshot::channel();
        self.drain.spawn_local(async move {
            // How the connection ends is told to whoever uses it, by the request or its body.
            if let Ok(parts) = driver.without_shutdown().await {
                let _ = bare.send(parts);
            }
        });
        let socket = switch.then_some(socket);
        Ok(Connection {
            key,
            address,
            sender,
            pool: Rc::downgrade(&self.pool),
            reused: false,
            socket,
        })
    }

    /// Sends a request and waits for the head of its answer, at most 120 s from the last byte of the request on.
    ///
    /// A connection that had lain idle may have been closed by the service just now. Then the request goes once more,
    /// on a new one, if that is safe: it was not sent at all, or it has no body and asks for nothing to be done
    /// (RFC 9110 section 9.2.2).
    ///
    /// # Errors
    /// `Send` if the connection broke first, `Silent` if no answer began in time, `Connect` if the second try found
    /// nobody.
    pub(super) async fn send(
        &self,
        request: Request<Upload>,
        mut connection: Connection,
    ) -> Result<(Response<Incoming>, Connection), UpstreamError> {
        let address = connection.address;
        let copy = if connection.reused {
            copy(&request)
        } else {
            None
        };
        let mut failed = match connection.send(request).await? {
            Ok(response) => return Ok((response, connection)),
            Err(failed) => failed,
        };
        let again = if connection.reused {
            failed.take_message().map(Box::new).or(copy)
        } else {
            None
        };
        match again {
            Some(request) => Box::pin(self.send_again(request, connection.key, address)).await,
            None => Err(UpstreamError::Send(address, failed.into_error())),
        }
    }

    async fn send_again(
        &self,
        request: Box<Request<Upload>>,
        key: (InstanceUid, Service),
        address: SocketAddr,
    ) -> Result<(Response<Incoming>, Connection), UpstreamError> {
        let mut fresh = self.connect_anew(key, address, false).await?;
        match fresh.send(*request).await? {
            Ok(response) => Ok((response, fresh)),
            Err(failed) => Err(UpstreamError::Send(address, failed.into_error())),
        }
    }
}

impl Connection {
    /// Not an `async fn`: its future would hold the request a second time.
    fn send(
        &mut self,
        request: Request<Upload>,
    ) -> impl Future<Output = Result<Sent, UpstreamError>> + use<> {
        let (address, begun) = (self.address, Instant::now());
        let progress = request.body().progress();
        let sent = self.sender.try_send_request(request);
        async move {
            let mut sent = pin!(sent);
            loop {
                let since = progress.as_ref().map_or(begun, |progress| progress.get());
                match timeout_at(since + FIRST_BYTE, sent.as_mut()).await {
                    Ok(sent) => return Ok(sent),
                    // What is still being uploaded has moved the deadline.
                    Err(_) if progress.as_ref().is_some_and(|now| now.get() > since) => {}
                    Err(_) => return Err(UpstreamError::Silent(address)),
                }
            }
        }
    }

    /// Where it leads.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The bare socket after the protocol was switched, with what came on it already. `None` if it broke meanwhile.
    pub(super) async fn into_socket(self) -> Option<http1::Parts<TokioIo<TcpStream>>> {
        self.socket?.await.ok()
    }

    /// Its answer has been read to the end: it may carry the next request.
    pub(super) fn give_back(self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.put(self.key, self.sender);
        }
    }
}

impl Pool {
    /// The connection used last, since it is the least likely to be closed by its service now.
    fn take(&self, key: (InstanceUid, Service)) -> Option<SendRequest<Upload>> {
        let mut pools = self.idle.borrow_mut();
        let idle = pools.get_mut(&key)?;
        while let Some(Idle { mut sender, since }) = idle.pop() {
            let usable =
                since.elapsed() < IDLE && matches!(sender.ready().now_or_never(), Some(Ok(())));
            if usable {
                return Some(sender);
            }
        }
        pools.remove(&key);
        None
    }

    fn put(&self, key: (InstanceUid, Service), sender: SendRequest<Upload>) {
        let mut pools = self.idle.borrow_mut();
        let idle = pools.entry(key).or_default();
        if idle.len() < KEPT && !sender.is_closed() {
            idle.push(Idle {
                sender,
                since: Instant::now(),
            });
        }
    }

    fn sweep(&self) {
        self.idle.borrow_mut().retain(|_, idle| {
            idle.retain(|Idle { sender, since }| since.elapsed() < IDLE && !sender.is_closed());
            !idle.is_empty()
        });
    }
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
