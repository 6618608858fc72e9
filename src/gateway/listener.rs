//! Accepting connections: one listener per worker, on one port.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::{AsRawFd, RawFd},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use rustix::{
    io::{Errno, fcntl_dupfd_cloexec},
    net::{
        AddressFamily, SocketFlags, SocketType,
        sockopt::{set_socket_reuseaddr, set_socket_reuseport},
    },
    process::{Resource, getrlimit},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tracing::{debug, warn};

use super::{Gateway, Shared, connection};
use crate::{
    metrics::End,
    shutdown::{Drain, Stage},
};

/// Connections that wait to be accepted, per worker.
const BACKLOG: i32 = 1024;
/// Between two looks for free file descriptors, when the process has few: those in use must end first.
const PAUSE: Duration = Duration::from_millis(100);
/// The part of its descriptors that the process keeps for the clients it has: they need connections to services.
const KEPT: u64 = 16;

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
    let most = most(getrlimit(Resource::Nofile).current);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.reached(Stage::Draining) => break,
        };
        let full = match accepted {
            Ok((stream, from)) => {
                let full = stream.as_raw_fd() >= most;
                take(&gateway, stream, from, &drain);
                full
            }
            Err(error) => is_scarcity(&error),
        };
        if full {
            if gateway.shared.connections.says_full() {
                warn!("new connections wait: the process has few free file descriptors");
            }
            tokio::select! {
                () = room(&listener, most) => {}
                () = drain.reached(Stage::Draining) => break,
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

/// The first number of a descriptor at which connections wait. The kernel gives the lowest that is free, so a number
/// says how many are taken.
fn most(limit: Option<u64>) -> RawFd {
    let most = limit.map(|limit| limit - limit / KEPT);
    most.and_then(|most| most.try_into().ok())
        .unwrap_or(RawFd::MAX)
}

/// Whether the process or the machine lacks what a connection takes; else it was that connection's own failure.
pub(super) fn is_scarcity(error: &io::Error) -> bool {
    let scarce = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|error| scarce.contains(&error))
}

/// Waits until there are free descriptors again.
async fn room(listener: &TcpListener, most: RawFd) {
    loop {
        sleep(PAUSE).await;
        let lowest = fcntl_dupfd_cloexec(listener, 0);
        if lowest.is_ok_and(|lowest| lowest.as_raw_fd() < most) {
            return;
        }
    }
}

/// Serves a connection in a task of its own, or closes it at once if there are too many.
fn take(gateway: &Rc<Gateway>, stream: TcpStream, from: SocketAddr, drain: &Drain) {
    let shared = &gateway.shared;
    let meters = &gateway.meters;
    let Some(open) = shared.connections.open(&shared.config.limits, meters) else {
        meters.ended(End::Connections);
        return debug!(%from, "too many connections");
    };
    drain.spawn_local(connection::serve(
        Rc::clone(gateway),
        stream,
        from,
        (drain.clone(), open),
    ));
}
