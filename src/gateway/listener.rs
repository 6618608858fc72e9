//! Accepting connections: one listener per worker, on one port.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType,
    sockopt::{set_socket_reuseaddr, set_socket_reuseport},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tracing::{debug, warn};

use super::{Gateway, Shared, connection};
use crate::shutdown::{Drain, Stage};

/// Connections that wait to be accepted, per worker.
const BACKLOG: i32 = 1024;
/// Pause when the process has no free file descriptor: those in use must end first.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens the port once for each worker.
///
/// The first listener is bound alone, so that a second gateway on the port fails; only then is the port shared, with
/// those that follow.
///
/// # Errors
/// If the address cannot be listened on.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<StdListener>> {
    let first = listen(address, false)?;
    let address = first.local_addr()?;
    set_socket_reuseport(&first, true)?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(listen(address, true)?);
    }
    Ok(listeners)
}

/// By hand, since tokio's sockets belong to the runtime that makes them, and workers have none yet.
fn listen(address: SocketAddr, shared: bool) -> io::Result<StdListener> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A port whose last connections linger in TIME_WAIT may be bound again at once.
    set_socket_reuseaddr(&socket, true)?;
    set_socket_reuseport(&socket, shared)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Serves one worker's listener, on the worker that calls, until the process drains; returns once its connections
/// have ended or the grace is over.
///
/// # Errors
/// If the listener cannot be used by this runtime.
pub async fn serve(
    listener: StdListener,
    shared: Arc<Shared>,
    worker: usize,
    drain: Drain,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let gateway = Gateway::new(shared, worker, drain.clone());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.reached(Stage::Draining) => break,
        };
        match accepted {
            Ok((stream, from)) => take(&gateway, stream, from, &drain),
            Err(error) => {
                warn!(%error, "connection not accepted");
                sleep(PAUSE).await;
            }
        }
    }
    // Those that wait have connected, and may have sent their request.
    while let Some(Ok((stream, from))) = listener.accept().now_or_never() {
        take(&gateway, stream, from, &drain);
    }
    drop((listener, gateway));
    drain.reached(Stage::Ended).await;
    Ok(())
}

/// Serves a connection in a task of its own, or closes it at once if there are too many.
fn take(gateway: &Rc<Gateway>, stream: TcpStream, from: SocketAddr, drain: &Drain) {
    let shared = &gateway.shared;
    let Some(open) = shared.connections.open(&shared.config.limits) else {
        return debug!(%from, "too many connections");
    };
    drain.spawn_local(connection::serve(
        Rc::clone(gateway),
        stream,
        from,
        (drain.clone(), open),
    ));
}
