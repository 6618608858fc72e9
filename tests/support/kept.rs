//! A client that keeps its connection: over both versions of HTTP, on any transport.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, request::Builder};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::{http1, http2},
    upgrade::Upgraded,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

use super::{DEADLINE, Reply, tls, tls::Localhost};

/// The body of a request.
pub type Sent = BoxBody<Bytes, io::Error>;

/// An open websocket.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// How a client comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// HTTP/1.1 on plain TCP.
    Http1,
    /// HTTP/2 on plain TCP, known beforehand.
    Http2,
    /// HTTP/1.1 over TLS.
    Tls1,
    /// HTTP/2 over TLS.
    Tls2,
}

/// A connection of a client, kept until it is dropped: then it is cut. A websocket that took it over lives on.
pub struct Kept {
    sender: Sender,
    driver: Arc<Driver>,
    /// Scheme and host of what it asks for.
    base: String,
}

/// Cuts the connection when the last one leaves it.
struct Driver(JoinHandle<hyper::Result<()>>);

enum Sender {
    Http1(http1::SendRequest<Sent>),
    Http2(http2::SendRequest<Sent>),
}

impl Way {
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Tls2)
    }

    pub fn is_tls(self) -> bool {
        matches!(self, Self::Tls1 | Self::Tls2)
    }

    /// A new connection to a gateway without TLS.
    ///
    /// # Errors
    /// If there is none to be had.
    pub async fn plain(self, address: SocketAddr) -> io::Result<Kept> {
        assert!(!self.is_tls());
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Kept::on(stream, self.is_http2(), format!("http://{address}")).await
    }

    /// A new connection to a gateway, which has this certificate if it speaks TLS.
    ///
    /// # Errors
    /// If there is none to be had.
    pub async fn connect(self, address: SocketAddr, localhost: &Localhost) -> io::Result<Kept> {
        if !self.is_tls() {
            return self.plain(address).await;
        }
        let alpn = if self.is_http2() { "h2" } else { "http/1.1" };
        let stream = tls::connect(address, &localhost.client(alpn), "localhost").await?;
        Kept::on(stream, self.is_http2(), "https://localhost".to_owned()).await
    }
}

impl Kept {
    /// On a transport that is there already; `base` are scheme and host of what will be asked for.
    ///
    /// # Errors
    /// If it ends meanwhile.
    pub async fn on<I>(io: I, http2: bool, base: String) -> io::Result<Self>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(io);
        let (sender, driver) = if http2 {
            let handshake = http2::Builder::new(TokioExecutor::new()).handshake(io);
            let (sender, connection) = handshake.await.map_err(io::Error::other)?;
            (Sender::Http2(sender), tokio::spawn(connection))
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
            let connection = connection.with_upgrades();
            (Sender::Http1(sender), tokio::spawn(connection))
        };
        Ok(Self {
            sender,
            driver: Arc::new(Driver(driver)),
            base,
        })
    }

    /// The same connection once more, for requests beside each other. Of HTTP/2 alone.
    pub fn shared(&self) -> Self {
        let Sender::Http2(sender) = &self.sender else {
            panic!("one request at a time");
        };
        Self {
            sender: Sender::Http2(sender.clone()),
            driver: Arc::clone(&self.driver),
            base: self.base.clone(),
        }
    }

    /// Scheme and host of what it asks for.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The beginning of a request for a path.
    pub fn ask(&self, method: &str, path: &str) -> Builder {
        let request = Request::builder().method(method);
        match self.sender {
            Sender::Http1(_) => {
                let (_, host) = self.base.split_once("://").expect("it has a scheme");
                request.uri(path).header("host", host)
            }
            Sender::Http2(_) => request.uri(format!("{}{path}", self.base)),
        }
    }

    /// Sends a request, once the connection takes one, and waits for the head of its answer.
    ///
    /// # Errors
    /// If the connection, or on HTTP/2 the stream, ends first.
    pub async fn send(&mut self, request: Request<Sent>) -> hyper::Result<Response<Incoming>> {
        let sent = timeout(DEADLINE, self.send_long(request));
        sent.await.expect("an answer in time")
    }

    /// As [`send`](Self::send), of a request that may take as long as it likes.
    ///
    /// # Errors
    /// As there.
    pub async fn send_long(&mut self, request: Request<Sent>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Asks HTTP/2 for a stream of another protocol (RFC 8441). The gateway's settings must have come, with any answer.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn connect(
        &mut self,
        path: &str,
        protocol: &'static str,
    ) -> hyper::Result<Response<Incoming>> {
        let request = self
            .ask("CONNECT", path)
            .extension(hyper::ext::Protocol::from_static(protocol))
            .header("sec-websocket-version", "13")
            .body(nothing());
        self.send(request.expect("a request")).await
    }

    /// Opens a websocket: on HTTP/1.1 it takes the connection, on HTTP/2 a stream of it.
    ///
    /// # Errors
    /// If the connection ends first.
    pub async fn websocket(&mut self, path: &str) -> hyper::Result<Socket> {
        let answer = match self.sender {
            Sender::Http1(_) => {
                let request = self
                    .ask("GET", path)
                    .header("connection", "upgrade")
                    .header("upgrade", "websocket")
                    .header("sec-websocket-version", "13")
                    .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
                    .body(nothing());
                self.send(request.expect("a request")).await?
            }
            Sender::Http2(_) => {
                self.get("/nothing").await?;
                self.connect(path, "websocket").await?
            }
        };
        let switched = matches!(answer.status().as_u16(), 101 | 200);
        assert!(switched, "{answer:?}");
        let upgraded = timeout(DEADLINE, hyper::upgrade::on(answer)).await;
        let io = TokioIo::new(upgraded.expect("in time")?);
        Ok(WebSocketStream::from_raw_socket(io, Role::Client, None).await)
    }

    /// A GET, and its answer to the end.
    ///
    /// # Errors
    /// If it does not come whole.
    pub async fn get(&mut self, path: &str) -> hyper::Result<Reply> {
        let request = self.ask("GET", path).body(nothing()).expect("a request");
        let (head, body) = self.send(request).await?.into_parts();
        let body = timeout(DEADLINE, body.collect()).await.expect("in time")?;
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// No body.
pub fn nothing() -> Sent {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// A body of known length.
pub fn whole(bytes: impl Into<Bytes>) -> Sent {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// A body of chunks as the sender of the channel gives them; an error breaks it off.
pub fn streamed(chunks: mpsc::Receiver<io::Result<Bytes>>) -> Sent {
    let frames = stream::unfold(chunks, |mut chunks| async {
        let chunk = chunks.recv().await?;
        Some((chunk.map(Frame::data), chunks))
    });
    BodyExt::boxed(StreamBody::new(frames))
}
