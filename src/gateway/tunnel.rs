//! Websockets: bytes, both ways, after the protocol was switched.
//!
//! A tunnel ends with both of its sides, with its instance, when nothing moves any more, or with the process. Where it
//! is we who end it, both sides are told by a Close between two frames (RFC 6455 section 7). It holds no buffer while
//! nothing moves.

mod direction;
mod ends;
mod frames;
mod side;

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep, timeout_at},
};
use tokio_tungstenite::tungstenite::protocol::{
    CloseFrame,
    frame::{Frame, coding::CloseCode},
};
use tracing::debug;
use uuid::Uuid;

use super::{body::Switching, io::Io, upstream::Connection};
use crate::{
    activator::{Lease, TunnelGuard},
    metrics::{Direction as Way, OpenTunnel, TunnelEnd},
    session::{InputRule, Spell},
    shutdown::{Drain, ShutdownConfig},
};
use direction::Direction;
use ends::{silence, told};
#[cfg(fuzzing)]
pub(super) use frames::Scanner;
use side::Side;

/// How long an end that was told may take to answer: a round trip to the other side of the world, several times.
const ANSWER: Duration = Duration::from_secs(1);
/// How long the last bytes of a frame may take, where no drain says how long there is.
const FRAME: Duration = Duration::from_secs(1);
/// Without progress of what is left, once one side has ended. Nobody speaks to half a websocket for long.
const HALF: Duration = Duration::from_secs(60);

/// The times of a tunnel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    silence: Duration,
    window: Duration,
}

/// What an open tunnel holds to its end.
pub(super) struct Held {
    /// The right to send.
    pub(super) lease: Lease,
    /// Its place among the tunnels of the session; given back when this is dropped.
    #[expect(dead_code, reason = "it is held, not read")]
    pub(super) place: TunnelGuard,
    /// Its place in the metrics.
    pub(super) open: OpenTunnel,
}

/// Both sides, and both ways between them.
struct Tunnel<C, S> {
    client: C,
    service: S,
    up: Direction,
    down: Direction,
    /// When what comes is somebody's work, and what has come.
    rule: Option<InputRule>,
    spell: Spell,
    /// Only while one side has ended.
    half: Option<Pin<Box<Sleep>>>,
}

/// A tunnel by what its client's side is.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are of the large kind, which is in the task's own memory"
)]
enum Opened {
    /// A connection of its own.
    Socket(Tunnel<Io, TcpStream>),
    /// One of many streams of a connection, which stays hyper's.
    Stream(Box<Tunnel<TokioIo<Upgraded>, TcpStream>>),
}

/// Why we end a tunnel. Closed: each has its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The gateway ends; another one will serve the client.
    Restart,
    /// The instance is gone or being stopped.
    Gone,
    /// Nothing moved.
    Silent,
}

impl Times {
    /// Silence ends a tunnel after so long. Of the end of the process, tunnels use the time that is theirs, but leave
    /// the last one told the time to answer.
    pub(super) fn new(silence: Duration, shutdown: &ShutdownConfig) -> Self {
        let answer = ANSWER.min(shutdown.grace / 2);
        Self {
            silence,
            window: shutdown.websockets.min(shutdown.grace - answer),
        }
    }
}

/// Carries bytes between a client whose connection is being switched and the service that has switched already, in a
/// task of its own.
pub(super) fn join(
    client: Switching,
    service: Connection,
    held: Held,
    (times, rule): (Times, Option<InputRule>),
    drain: &Drain,
) {
    // Boxed, or every tunnel would keep room for its beginning.
    let opening = Box::pin(open_up(client, service, rule));
    drain.spawn_local(carry(opening, held, times, drain.clone()));
}

/// Takes both sockets, with what came on them already.
async fn open_up(
    client: Switching,
    service: Connection,
    rule: Option<InputRule>,
) -> io::Result<Opened> {
    let (service, early) = service
        .into_socket()
        .ok_or(io::ErrorKind::ConnectionReset)?;
    let long = rule.map_or(u8::MAX, |rule| rule.bytes);
    let down = Direction::new(Way::Down, &early, long);
    Ok(match client {
        Switching::Socket(client) => {
            let (client, early) = client.await.map_err(|_| io::ErrorKind::ConnectionReset)?;
            let up = Direction::new(Way::Up, &early, long);
            // Its silence has a time of its own.
            let ends = (client.without_deadline(), service);
            Opened::Socket(Tunnel::new(ends, (up, down)).under(rule))
        }
        Switching::Stream(client) => {
            let client = client.await.map_err(io::Error::other)?;
            let up = Direction::new(Way::Up, &Bytes::new(), long);
            let ends = (TokioIo::new(client), service);
            Opened::Stream(Box::new(Tunnel::new(ends, (up, down)).under(rule)))
        }
    })
}

async fn carry(
    opening: Pin<Box<impl Future<Output = io::Result<Opened>>>>,
    held: Held,
    times: Times,
    drain: Drain,
) {
    let session = held.lease.instance().session();
    let mut opened = match opening.await {
        Ok(opened) => opened,
        Err(error) => {
            held.open.ended(TunnelEnd::Broken);
            return debug!(%session, %error, "tunnel not opened");
        }
    };
    // By reference, or there would be room for the tunnel twice.
    let outcome = match &mut opened {
        Opened::Socket(tunnel) => tunnel.run(&held, times, &drain).await,
        Opened::Stream(tunnel) => Box::pin(tunnel.run(&held, times, &drain)).await,
    };
    let end = match outcome {
        Ok(end) => {
            debug!(%session, ?end, "tunnel ended");
            end
        }
        Err(error) => {
            debug!(%session, %error, "tunnel broke");
            TunnelEnd::Broken
        }
    };
    held.open.ended(end);
}

impl<C, S> Tunnel<C, S>
where
    C: Side,
    S: Side,
{
    fn new((client, service): (C, S), (up, down): (Direction, Direction)) -> Self {
        Self {
            client,
            service,
            up,
            down,
            rule: None,
            spell: Spell::default(),
            half: None,
        }
    }

    /// Says what of it is somebody's work.
    fn under(mut self, rule: Option<InputRule>) -> Self {
        self.rule = rule;
        self
    }

    /// Carries bytes until there is a reason to end.
    async fn run(
        &mut self,
        Held { lease, open, .. }: &Held,
        times: Times,
        drain: &Drain,
    ) -> io::Result<TunnelEnd> {
        let moved = Cell::new(false);
        let (reason, until) = tokio::select! {
            // Without drawing lots for each message.
            biased;
            Some(outcome) = poll_fn(|cx| {
                // First: a service that breaks off with its session would take the Close from the client.
                if lease.instance().has_ended() {
                    return Poll::Ready(None);
                }
                let outcome = self.poll(cx, open, &moved);
                self.work(lease);
                outcome.map(Some)
            }) => return outcome,
            () = lease.instance().ended() => (Reason::Gone, Instant::now() + FRAME),
            () = silence(&moved, times.silence) => (Reason::Silent, Instant::now() + FRAME),
            until = told(drain, times.window) => (Reason::Restart, until),
        };
        // Boxed, or every tunnel would keep room for its end.
        Box::pin(self.close(reason, until, open)).await;
        Ok(reason.end())
    }

    /// Tells the instance if what has come is somebody's work.
    fn work(&mut self, lease: &Lease) {
        let Some(rule) = self.rule else { return };
        let mut frames = self.up.frames();
        if rule.output {
            frames = frames.wrapping_add(self.down.frames());
        }
        let instance = lease.instance();
        let counted = self.spell.counted(instance.window(), frames);
        if counted > 0 {
            instance.heard(counted, rule);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        open: &OpenTunnel,
        moved: &Cell<bool>,
    ) -> Poll<io::Result<TunnelEnd>> {
        let before = (self.up.moves(), self.down.moves());
        let up = self.up.poll(cx, &mut self.client, &mut self.service, open);
        // What a service said before it broke off is there even if nothing can be sent to it any more.
        let down = self
            .down
            .poll(cx, &mut self.service, &mut self.client, open)?;
        let up = up?;
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(Ok(TunnelEnd::Closed));
        }
        let progress = before != (self.up.moves(), self.down.moves());
        if progress {
            moved.set(true);
        }
        if up.is_pending() && down.is_pending() {
            return Poll::Pending;
        }
        let half = self.half.get_or_insert_with(|| Box::pin(sleep(HALF)));
        if progress {
            half.as_mut().reset(Instant::now() + HALF);
        }
        half.as_mut().poll(cx).map(|()| Ok(TunnelEnd::Half))
    }

    /// Tells both sides, at the end of the frame at hand if that comes by `until`, and waits shortly for their answers:
    /// a connection closed on unread bytes would be reset, and the Close lost with it.
    async fn close(&mut self, reason: Reason, until: Instant, open: &OpenTunnel) {
        let (to_client, to_service) = (reason.to_client(), reason.to_service());
        let told = poll_fn(|cx| {
            let ends = (&mut self.client, &mut self.service);
            let up = self.up.poll_tell(cx, ends, &to_service, open);
            let ends = (&mut self.service, &mut self.client);
            let down = self.down.poll_tell(cx, ends, &to_client, open);
            both(up, down)
        });
        let _ = timeout_at(until, told).await;
        let end = Instant::now() + ANSWER;
        let answered = poll_fn(|cx| self.poll_forget(cx, false));
        let _ = timeout_at(end, answered).await;
        let ended = poll_fn(|cx| {
            let up = self.up.poll_end(cx, &mut self.service);
            let down = self.down.poll_end(cx, &mut self.client);
            both(up, down)
        });
        // Polled once even if it is too late to wait.
        let _ = timeout_at(end, ended).await;
        let gone = poll_fn(|cx| self.poll_forget(cx, true));
        let _ = timeout_at(end, gone).await;
    }

    fn poll_forget(&mut self, cx: &mut Context<'_>, to_end: bool) -> Poll<()> {
        let up = self.up.poll_forget(cx, &mut self.client, to_end);
        let down = self.down.poll_forget(cx, &mut self.service, to_end);
        both(up, down)
    }
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::Restart => "gateway restarts",
            Self::Gone => "session ended",
            Self::Silent => "nothing moved",
        }
    }

    fn end(self) -> TunnelEnd {
        match self {
            Self::Restart => TunnelEnd::Shutdown,
            Self::Gone => TunnelEnd::Session,
            Self::Silent => TunnelEnd::Silent,
        }
    }

    /// 1012 asks for a new connection, which will lead to another gateway; after 1001 there is nothing to come back to.
    fn to_client(self) -> Bytes {
        let code = match self {
            Self::Restart => CloseCode::Restart,
            Self::Gone | Self::Silent => CloseCode::Away,
        };
        self.frame(code, None)
    }

    /// Masked, as all that a service gets (RFC 6455 section 5.3).
    fn to_service(self) -> Bytes {
        let [a, b, c, d, ..] = Uuid::new_v4().into_bytes();
        self.frame(CloseCode::Away, Some([a, b, c, d]))
    }

    fn frame(self, code: CloseCode, mask: Option<[u8; 4]>) -> Bytes {
        let reason = self.text().into();
        let mut frame = Frame::close(Some(CloseFrame { code, reason }));
        frame.header_mut().mask = mask;
        let mut bytes = Vec::with_capacity(32);
        frame
            .format(&mut bytes)
            .expect("writing to memory does not fail");
        bytes.into()
    }
}

/// Ready once both are; what failed is over as well.
fn both<T>(one: Poll<T>, other: Poll<T>) -> Poll<()> {
    if one.is_ready() && other.is_ready() {
        Poll::Ready(())
    } else {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// A client and a service, and the tunnel between them.
    fn ends() -> (
        DuplexStream,
        DuplexStream,
        Tunnel<DuplexStream, DuplexStream>,
    ) {
        let (client, near) = duplex(64);
        let (service, far) = duplex(64);
        let up = Direction::new(Way::Up, &Bytes::new(), 0);
        let down = Direction::new(Way::Down, &Bytes::new(), 0);
        let tunnel = Tunnel::new((near, far), (up, down));
        (client, service, tunnel)
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_tunnel_ends_a_minute_after_its_last_byte() {
        let (mut client, mut service, mut tunnel) = ends();
        let (open, moved) = (direction::tests::open(), Cell::new(false));
        client.shutdown().await.unwrap();
        let begun = Instant::now();
        let speak = async {
            sleep(HALF / 2).await;
            service.write_all(b"late").await.unwrap();
        };
        let (ended, ()) = tokio::join!(poll_fn(|cx| tunnel.poll(cx, &open, &moved)), speak);
        assert_eq!(ended.unwrap(), TunnelEnd::Half);
        assert_eq!(begun.elapsed().as_secs(), (HALF / 2 + HALF).as_secs());
    }

    #[tokio::test]
    async fn what_a_service_said_before_it_broke_off_is_passed_on() {
        let (mut client, mut service, mut tunnel) = ends();
        let (open, moved) = (direction::tests::open(), Cell::new(false));
        service.write_all(b"bye").await.unwrap();
        drop(service);
        client.write_all(b"and then?").await.unwrap();
        let broke = poll_fn(|cx| tunnel.poll(cx, &open, &moved)).await;
        assert_eq!(broke.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let mut got = [0; 3];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"bye");
    }

    /// How large the future of a function is.
    fn size<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_open_tunnel_takes_little_memory() {
        type Opening = Pin<Box<std::future::Ready<io::Result<Opened>>>>;
        let size = size(|(opening, held, times, drain): (Opening, _, _, _)| {
            carry(opening, held, times, drain)
        });
        assert!(size <= 1176, "{size}");
    }

    #[test]
    fn the_last_tunnel_told_has_time_to_answer() {
        let seconds = Duration::from_secs;
        let shutdown = |grace, websockets| ShutdownConfig {
            delay: seconds(0),
            grace: seconds(grace),
            streams: seconds(0),
            websockets: seconds(websockets),
        };
        let window =
            |grace, websockets| Times::new(seconds(1), &shutdown(grace, websockets)).window;
        assert_eq!(window(10, 5), seconds(5));
        assert_eq!(window(10, 10), seconds(9));
        assert_eq!(window(1, 1), Duration::from_millis(500));
        assert_eq!(window(0, 0), seconds(0));
    }
}
