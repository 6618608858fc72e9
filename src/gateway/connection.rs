//! One connection of a client, from its first byte to its end.

mod activity;
mod begin;
mod http1;
mod limit;
mod linger;

use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::{Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};
use tracing::debug;

use super::{
    Gateway, Peer,
    body::{Body, Received},
};
use crate::{
    metrics::{Cut, End},
    shutdown::{Drain, Stage},
};
use activity::{Activity, Streams};
use begin::{Begun, begin};
pub(super) use http1::{HeadError, Incoming as Http1Incoming, ReceiveError, Switched};
#[cfg(fuzzing)]
pub(super) use http1::{may_be_whole, parse};
pub use limit::Connections;
pub(super) use limit::{Open, OpenOf};
use linger::Lingering;

/// How long a connection of HTTP/2 may lie without a stream. Browsers keep one a site, and dial anew when it is gone.
const IDLE_HTTP2: Duration = Duration::from_secs(5 * 60);
/// Whether the client of a connection of HTTP/2 is still there, and how long its answer may take.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// Requests at a time on a connection of HTTP/2.
const STREAMS: u32 = 100;
/// What a client may send ahead on a stream of HTTP/2, and on all of a connection. One stalled upload must not starve
/// the others; and h2 takes many small frames for an attack by half of the connection's window.
const WINDOWS: (u32, u32) = (256 * 1024, 8 * 1024 * 1024);
/// Of an answer, kept per stream of HTTP/2 for a client that reads slowly.
const SEND_BUFFER: usize = 64 * 1024;
/// How long, when the process drains, a connection may still be silent: its request may be on the way.
const LAST_CALL: Duration = Duration::from_millis(500);

/// Serves one connection to its end. What is in flight when the process drains is finished, and nothing more taken.
pub(super) async fn serve(
    gateway: Rc<Gateway>,
    stream: TcpStream,
    from: SocketAddr,
    (drain, open): (Drain, Open),
) {
    let deadline = Instant::now() + gateway.shared.config.timeouts.handshake;
    let last_call = async {
        drain.reached(Stage::Draining).await;
        sleep(LAST_CALL).await;
    };
    let meters = Arc::clone(&gateway.meters);
    let begun = tokio::select! {
        // Boxed, or every idle connection would keep room for its beginning.
        begun = timeout_at(deadline, Box::pin(begin(&gateway, stream, from, open))) => begun,
        () = last_call => return meters.ended(End::Shutdown),
    };
    let begun = match begun {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => {
            meters.ended(error.end());
            return debug!(%from, %error, "connection did not begin");
        }
        Err(_) => {
            meters.ended(End::Handshake);
            return debug!(%from, "connection did not begin in time");
        }
    };
    let overdue = begun.overdue.clone();
    // Boxed, or every connection would keep room for the larger of the two.
    let outcome = if begun.http2 {
        let outcome = Box::pin(http2(gateway, begun, deadline, &drain)).await;
        outcome.map_err(|error| (failure(&error), Box::<dyn Error>::from(error)))
    } else {
        let outcome = Box::pin(http1::serve(gateway, begun, deadline, &drain)).await;
        outcome.map_err(|error| (error.end(), Box::<dyn Error>::from(error)))
    };
    let end = match outcome {
        _ if overdue.is_set() => {
            meters.cut(Cut::Client);
            End::Write
        }
        Ok(end) => end,
        Err((end, error)) => {
            debug!(%from, %error, "connection ended");
            end
        }
    };
    meters.ended(end);
}

/// How a connection is counted that hyper gave up.
fn failure(error: &hyper::Error) -> End {
    match () {
        () if error.is_parse_too_large() => End::Head,
        () if error.is_parse() => End::Malformed,
        () if error.is_timeout() => End::Ping,
        () => End::Broken,
    }
}

async fn http2(
    gateway: Rc<Gateway>,
    begun: Begun,
    deadline: Instant,
    drain: &Drain,
) -> hyper::Result<End> {
    let Begun { io, peer, .. } = begun;
    let activity = Activity::new();
    let head = u32::try_from(gateway.shared.config.limits.head).unwrap_or(u32::MAX);
    let streams = gateway.shared.shutdown.streams;
    let own = Rc::clone(&activity);
    let io = Lingering::new(io);
    let executor = Streams {
        activity: Rc::clone(&activity),
        longest: gateway.shared.config.timeouts.write,
        meters: Arc::clone(&gateway.meters),
        drain: drain.clone(),
    };
    let service = service_fn(move |request| {
        let (gateway, activity) = (Rc::clone(&gateway), Rc::clone(&own));
        let peer = Rc::clone(&peer);
        async move {
            activity.asked();
            let answer = answer(&gateway, request, peer).await;
            Ok::<_, Infallible>(activity.answered(answer))
        }
    });
    let connection = http2::Builder::new(executor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_header_list_size(head)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(io), service);
    let connection = pin!(connection);
    let silent = pin!(silent(&activity, deadline, IDLE_HTTP2));
    let cut = pin!(activity.outlived(drain, streams));
    let driven = drive(
        connection,
        |one| one.graceful_shutdown(),
        (silent, cut),
        drain,
    );
    match Box::pin(driven).await {
        Ok(outcome) => outcome.map(|()| End::Closed),
        Err(end) => Ok(end),
    }
}

/// Waits until no whole head has come by the deadline, or there was no request for so long.
async fn silent(activity: &Activity, deadline: Instant, idle: Duration) -> End {
    tokio::select! {
        () = activity.overdue(deadline) => End::Handshake,
        () = activity.idle(idle) => End::Idle,
    }
}

/// Runs a connection until it ends, is `silent` for too long, or the process drains: then it is told to stop, and cut
/// when its time is over. Returns its outcome, or why it had none.
async fn drive<C: Future>(
    mut connection: Pin<&mut C>,
    stop: impl FnOnce(Pin<&mut C>),
    (mut silent, cut): (
        Pin<&mut impl Future<Output = End>>,
        Pin<&mut impl Future<Output = ()>>,
    ),
    drain: &Drain,
) -> Result<C::Output, End> {
    tokio::select! {
        biased;
        // First: an answer that is ready as well then says that it is the last.
        () = drain.reached(Stage::Draining) => stop(connection.as_mut()),
        outcome = connection.as_mut() => return Ok(outcome),
        end = silent.as_mut() => return Err(end),
    }
    tokio::select! {
        biased;
        outcome = connection => Ok(outcome),
        end = silent => Err(end),
        () = cut => Err(End::Shutdown),
    }
}

/// Answers a request of HTTP/2, where a switch of protocols is a plain success (RFC 8441 section 5).
async fn answer(
    gateway: &Rc<Gateway>,
    request: Request<Incoming>,
    peer: Rc<Peer>,
) -> Response<Body> {
    // Boxed, since hyper moves it about.
    let mut answer = Box::pin(async move {
        let (mut head, body) = request.into_parts();
        let body = Received::Http2(body);
        gateway.handle(&mut head, body, &peer).await
    })
    .await;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        *answer.status_mut() = StatusCode::OK;
        for name in [
            header::UPGRADE,
            header::CONNECTION,
            header::SEC_WEBSOCKET_ACCEPT,
        ] {
            answer.headers_mut().remove(name);
        }
    }
    answer
}
