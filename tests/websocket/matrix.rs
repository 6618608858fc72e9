//! Websockets in every way in which clients come, with an independent implementation at both ends: fragments, control
//! frames between them, and how either side closes.

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::protocol::{
    CloseFrame,
    frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use super::*;
use crate::support::{Way, kept::Socket, tls::Localhost};

const WAYS: [Way; 4] = [Way::Http1, Way::Tls1, Way::Http2, Way::Tls2];
/// Sizes of fragments, on both sides of where a frame's head grows.
const SIZES: [usize; 6] = [1, 125, 126, 65_535, 65_536, 300_000];

/// A service that sends every message back in fragments, with a ping before each of them, and closes as it is told:
/// `close CODE REASON`. Reports each Close that it gets.
async fn fragmenting() -> (SocketAddr, mpsc::UnboundedReceiver<CloseFrame>) {
    let (closed, closes) = mpsc::unbounded_channel();
    let address = serving(move |mut socket| {
        let closed = closed.clone();
        async move {
            while let Some(Ok(message)) = socket.next().await {
                match message {
                    Message::Binary(bytes) => fragments(&mut socket, &bytes).await,
                    Message::Text(text) => {
                        let mut words = text.splitn(3, ' ').skip(1);
                        let code: u16 = words.next().unwrap().parse().unwrap();
                        let (code, reason) = (code.into(), words.next().unwrap().into());
                        let close = CloseFrame { code, reason };
                        socket.close(Some(close)).await.unwrap();
                    }
                    Message::Close(Some(close)) => closed.send(close).unwrap(),
                    _ => {}
                }
            }
        }
    });
    (address.await, closes)
}

/// Sends a message in fragments of [`SIZES`], with a ping before each.
async fn fragments<S>(socket: &mut WebSocketStream<S>, mut bytes: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for (at, size) in SIZES.into_iter().enumerate() {
        let ping = format!("before {at}");
        socket.send(Message::Ping(ping.into())).await.unwrap();
        let (part, rest) = bytes.split_at(size.min(bytes.len()));
        bytes = rest;
        let data = if at == 0 {
            Data::Binary
        } else {
            Data::Continue
        };
        let is_last = at == SIZES.len() - 1;
        let frame = Frame::message(part.to_vec(), OpCode::Data(data), is_last);
        socket.send(Message::Frame(frame)).await.unwrap();
    }
}

/// A session whose clients come in one way.
struct Session {
    way: Way,
    gateway: Gateway,
    id: SessionId,
    localhost: Localhost,
}

impl Session {
    async fn new(way: Way, service: SocketAddr) -> Self {
        let localhost = Localhost::new();
        let files = localhost.settings();
        let settings = files.iter().filter(|_| way.is_tls()).map(String::as_str);
        let (gateway, id) = running_with(service, &settings.collect::<Vec<_>>()).await;
        Self {
            way,
            gateway,
            id,
            localhost,
        }
    }

    /// A websocket, on a connection of its own.
    async fn open(&self) -> Socket {
        let kept = self.way.connect(self.gateway.address, &self.localhost);
        let path = format!("/{}/vscode/", self.id);
        kept.await.unwrap().websocket(&path).await.unwrap()
    }
}

#[tokio::test]
async fn fragments_with_pings_between_them_pass_both_ways() {
    let (service, _closes) = fragmenting().await;
    for way in WAYS {
        let session = Session::new(way, service).await;
        let mut socket = session.open().await;
        let length = SIZES.iter().sum();
        let bytes: Vec<u8> = (0..length).map(|n: usize| (n * 31 % 251) as u8).collect();
        let (mut pings, mut pongs, mut back) = (Vec::new(), Vec::new(), None);
        fragments(&mut socket, &bytes).await;
        while back.is_none() || pongs.len() < SIZES.len() {
            let next = timeout(DEADLINE, socket.next()).await.expect("in time");
            match next.unwrap().unwrap() {
                Message::Ping(ping) => pings.push(ping),
                Message::Pong(pong) => pongs.push(pong),
                Message::Binary(message) => back = Some(message),
                other => panic!("{way:?}: {other:?}"),
            }
        }
        assert!(back.unwrap() == bytes, "{way:?}: it came back otherwise");
        let sent: Vec<_> = (0..SIZES.len()).map(|at| format!("before {at}")).collect();
        assert_eq!(pings, sent, "{way:?}: of the service");
        assert_eq!(pongs, sent, "{way:?}: to our own");
    }
}

#[tokio::test]
async fn close_codes_and_reasons_pass_both_ways() {
    let (service, mut closes) = fragmenting().await;
    for way in WAYS {
        let session = Session::new(way, service).await;
        for (code, reason) in [
            (1000, ""),
            (1001, "page left"),
            (1011, "broken"),
            (4999, "\u{e4}"),
        ] {
            let close = CloseFrame {
                code: code.into(),
                reason: reason.into(),
            };
            let mut by_client = session.open().await;
            by_client.close(Some(close.clone())).await.unwrap();
            let answer = timeout(DEADLINE, by_client.next()).await.expect("in time");
            let answer = answer.unwrap().unwrap();
            assert_eq!(answer, Message::Close(Some(close.clone())), "{way:?}");
            let heard = timeout(DEADLINE, closes.recv()).await.expect("in time");
            assert_eq!(heard, Some(close.clone()), "{way:?}");

            let mut by_service = session.open().await;
            let text = format!("close {code} {reason}");
            by_service.send(Message::text(text)).await.unwrap();
            let told = timeout(DEADLINE, by_service.next()).await.expect("in time");
            let told = told.unwrap().unwrap();
            assert_eq!(told, Message::Close(Some(close.clone())), "{way:?}");
            // Its answer, which goes out as the end is waited for.
            assert!(
                timeout(DEADLINE, by_service.next())
                    .await
                    .expect("in time")
                    .is_none()
            );
            let answered = timeout(DEADLINE, closes.recv()).await.expect("in time");
            assert_eq!(answered, Some(close), "{way:?}");
        }
    }
}
