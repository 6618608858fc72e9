//! One connection of a client, from its first byte to its end.

use std::{convert::Infallible, net::SocketAddr, rc::Rc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_socket_keepalive;
use tokio::{net::TcpStream, time::timeout};
use tracing::debug;

use super::{Gateway, Peer};
use crate::shutdown::{Drain, Stage};

/// How long a new connection may take to send its first byte. Browsers open some to have them ready.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// How long a connection may lie idle, or take to send a head: longer than the 60 s of common load balancers, or they
/// would send into a connection that is closing.
const IDLE: Duration = Duration::from_secs(75);
/// Head, and what of a held request's body is read ahead.
const BUFFER: usize = 64 * 1024;

/// Serves one connection to its end. What is in flight when the process drains is finished, and nothing more taken.
pub(super) async fn serve(gateway: Rc<Gateway>, stream: TcpStream, from: SocketAddr, drain: Drain) {
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| Ok(set_socket_keepalive(&stream, true)?));
    if prepared.is_err() || !matches!(timeout(FIRST_BYTE, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    let address = from.ip().to_canonical();
    let trusted = &gateway.shared.config.trusted_proxies;
    let peer = Peer {
        address,
        secure: false,
        trusted: trusted.iter().any(|network| network.contains(&address)),
    };
    let service = service_fn(move |request| {
        let gateway = Rc::clone(&gateway);
        async move { Ok::<_, Infallible>(gateway.handle(request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = drain.reached(Stage::Draining) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                outcome = connection => outcome,
                () = drain.reached(Stage::Ended) => return,
            }
        }
    };
    if let Err(error) = outcome {
        debug!(%from, %error, "connection ended");
    }
}
