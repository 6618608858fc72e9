//! A service of a session: answers as the test says, and tells what reached it.

use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::DEADLINE;

/// What a service answers with.
pub type Answer = Response<BoxBody<Bytes, std::io::Error>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Answer> + Send + Sync>;

/// A service on a free port, for as long as the test's runtime lives.
pub struct Service {
    pub address: SocketAddr,
}

impl Service {
    /// Serves what `handler` answers.
    pub async fn new<F>(handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        Self::on(listener.expect("a free port"), handler)
    }

    /// As [`new`](Self::new), on this listener.
    pub fn on<F>(
        listener: TcpListener,
        handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let handler = Arc::clone(&handler);
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection.with_upgrades());
            }
        });
        Self { address }
    }

    /// Answers everything with 200 and the target that it saw.
    pub async fn echo() -> Self {
        Self::new(|request| async move { text(request.uri().to_string()) }).await
    }
}

/// 200 with this text.
pub fn text(text: impl Into<Bytes>) -> Answer {
    use http_body_util::BodyExt;
    Response::new(
        Full::new(text.into())
            .map_err(|never| match never {})
            .boxed(),
    )
}

impl Service {
    /// A websocket service that sends every message back.
    pub async fn websocket_echo() -> SocketAddr {
        use futures_util::{SinkExt, StreamExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
                        return;
                    };
                    while let Some(Ok(message)) = socket.next().await {
                        if (message.is_binary() || message.is_text())
                            && socket.send(message).await.is_err()
                        {
                            return;
                        }
                    }
                });
            }
        });
        address
    }
}

/// A service that takes the heads of requests, and leaves the rest to the test.
pub struct Bare(TcpListener);

impl Bare {
    pub async fn new() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        (Self(listener), address)
    }

    /// On this listener.
    pub fn on(listener: TcpListener) -> Self {
        Self(listener)
    }

    /// The next connection that asks, and its head; probes hang up before they ask.
    pub async fn asked(&self) -> (TcpStream, String) {
        let asked = async {
            loop {
                let (mut stream, _) = self.0.accept().await.expect("it listens");
                let head = head(&mut stream).await;
                if !head.is_empty() {
                    return (stream, head);
                }
            }
        };
        timeout(DEADLINE, asked).await.expect("it is asked in time")
    }

    /// Answers the next who asks with this, and returns the connection.
    pub async fn answers(&self, with: &str) -> TcpStream {
        let (mut stream, _) = self.asked().await;
        let written = stream.write_all(with.as_bytes()).await;
        written.expect("it is read");
        stream
    }
}

/// Lets nobody else connect until the next is accepted: one waits already, and the kernel keeps no second.
pub async fn fill(Bare(listener): &Bare) -> TcpStream {
    rustix::net::listen(listener, 0).expect("it listens");
    // Of the kernel itself: the runtime may not have heard yet of a probe that has come.
    while rustix::net::accept(listener).is_ok() {}
    let address = listener.local_addr().expect("it is bound");
    let connected = timeout(DEADLINE, TcpStream::connect(address)).await;
    connected.expect("in time").expect("there is a place")
}

/// Reads a head, byte by byte so that nothing behind it is taken; empty if the other side hangs up.
pub async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).expect("it is text")
}
