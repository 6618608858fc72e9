//! A service's socket: how it is opened, how it is noticed that its other end is gone, and who writes on it.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::net::{RecvFlags, recv, sockopt};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};

use super::sending::Sending;
use crate::{gateway::listener::is_scarcity, shutdown::Drain};

/// How long a service's machine may not acknowledge what was sent to it: it is gone then (RFC 5482).
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// How long a connection may be silent before its other end is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(60);
/// Between two looks for a free descriptor. Shorter than the listener's: who is in comes first.
const SCARCE: Duration = Duration::from_millis(10);

/// How long a request that was answered to the end may go on: a client that still sends would miss the answer if its
/// connection were reset at once.
const GRACE: Duration = Duration::from_secs(2);

/// A socket of a service, as it is kept for the next request.
pub(super) struct Socket {
    reader: OwnedReadHalf,
    /// `None` while the rest of a request that was answered is written by a task of its own.
    writer: Option<OwnedWriteHalf>,
    /// That task.
    rest: Option<Rest>,
    /// Not set anew for each request, as long as it rings early enough.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Since when it carries its request, or none.
    pub(super) since: Instant,
}

/// The rest of a request that was answered before its end.
struct Rest {
    /// Ends it when it is dropped; used, it has [`GRACE`].
    end: oneshot::Sender<()>,
    /// Gives the socket back, if all was written.
    written: oneshot::Receiver<OwnedWriteHalf>,
}

/// Connects, to a service whose machine's end is noticed, however little is sent.
///
/// # Errors
/// If nothing accepts there.
pub(super) async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = loop {
        match TcpStream::connect(address).await {
            // Where there is no descriptor for it, it is not the service that refuses: one is waited for.
            Err(error) if is_scarcity(&error) => sleep(SCARCE).await,
            outcome => break outcome?,
        }
    };
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, SILENCE)?;
    sockopt::set_tcp_keepintvl(&stream, UNACKNOWLEDGED / 3)?;
    let milliseconds = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(&stream, milliseconds)?;
    Ok(stream)
}

impl Socket {
    pub(super) fn new(stream: TcpStream, since: Instant) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            reader,
            writer: Some(writer),
            rest: None,
            alarm: None,
            since,
        }
    }

    /// Whether its other end has neither closed it nor sent what nobody asked for, as far as this worker has noticed.
    pub(super) fn is_idle(&self) -> bool {
        let read = self.reader.try_read(&mut [0; 1]);
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// As [`is_idle`](Self::is_idle), as far as this machine knows.
    pub(super) fn is_surely_idle(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let came = recv(self.reader.as_ref(), &mut [0_u8; 1][..], flags);
        matches!(came, Err(error) if error == rustix::io::Errno::AGAIN)
    }

    /// Ready once it is later than that.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>, when: Instant) -> Poll<()> {
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(when)));
        if alarm.deadline() > when {
            alarm.as_mut().reset(when);
        }
        loop {
            ready!(alarm.as_mut().poll(cx));
            if alarm.deadline() >= when {
                return Poll::Ready(());
            }
            // It was that of an earlier request.
            alarm.as_mut().reset(when);
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, into)
    }

    /// What writes on it, unless a task of its own does.
    pub(super) fn writer(&mut self) -> Option<&mut OwnedWriteHalf> {
        self.writer.as_mut()
    }

    /// Writes what is left of an answered request in a task of its own.
    pub(super) fn finish(&mut self, mut sending: Sending, drain: &Drain) {
        let Some(mut writer) = self.writer.take() else {
            return;
        };
        let (end, ended) = oneshot::channel();
        let (give, written) = oneshot::channel();
        self.rest = Some(Rest { end, written });
        drain.spawn_local(async move {
            let outcome = {
                let mut sends = pin!(poll_fn(|cx| sending.poll(cx, &mut writer)));
                tokio::select! {
                    biased;
                    outcome = sends.as_mut() => outcome,
                    Ok(()) = ended => match timeout(GRACE, sends).await {
                        Ok(outcome) => outcome,
                        Err(_) => return,
                    },
                    else => return,
                }
            };
            if outcome.is_ok() {
                let _ = give.send(writer);
            }
        });
    }

    /// Leaves it to that task, which has some more time.
    pub(super) fn leave(self) {
        if let Some(rest) = self.rest {
            let _ = rest.end.send(());
        }
    }

    /// Whether all was written that was to be written on it.
    pub(super) fn has_sent(&mut self) -> bool {
        if let Some(mut rest) = self.rest.take() {
            self.writer = rest.written.try_recv().ok();
        }
        self.writer.is_some()
    }

    /// The socket as one.
    pub(super) fn into_stream(self) -> Option<TcpStream> {
        self.reader.reunite(self.writer?).ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn nothing_is_held_back_and_a_machine_that_is_gone_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stream = dial(address).await.expect("it accepts");
        assert_eq!(sockopt::tcp_nodelay(&stream), Ok(true));
        assert_eq!(sockopt::socket_keepalive(&stream), Ok(true));
        assert_eq!(sockopt::tcp_keepidle(&stream), Ok(Duration::from_secs(60)));
        assert_eq!(sockopt::tcp_keepintvl(&stream), Ok(Duration::from_secs(10)));
        assert_eq!(sockopt::tcp_user_timeout(&stream), Ok(30_000));
    }

    /// What this worker has not noticed yet counts too, before anything is sent that cannot be sent twice.
    #[tokio::test]
    async fn a_connection_is_surely_idle_until_a_byte_or_its_end_has_come() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        for closes in [true, false] {
            let socket = Socket::new(dial(address).await.expect("it accepts"), Instant::now());
            let (end, _) = listener.accept().await.expect("somebody comes");
            assert!(socket.is_surely_idle());
            if closes {
                drop(end);
            } else {
                assert_eq!(end.try_write(b"x").ok(), Some(1));
            }
            assert!(!socket.is_surely_idle(), "{closes}");
        }
    }
}
