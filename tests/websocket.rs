//! Websockets: bytes pass as they are, both ways, and each end is passed on.

mod early;
mod ends;
mod matrix;
mod memory;

use std::{net::SocketAddr, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use session_gateway::session::SessionId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async, client_async,
    tungstenite::{
        Error, Message, client::IntoClientRequest, error::ProtocolError,
        handshake::derive_accept_key,
    },
};

use crate::support::{
    DEADLINE, Gateway, Service, long,
    service::{Bare, head},
    until,
};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A service that deals with each of its websockets like this.
async fn serving<F>(
    serve: impl Fn(WebSocketStream<TcpStream>) -> F + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serve = Arc::clone(&serve);
            tokio::spawn(async move {
                if let Ok(socket) = accept_async(stream).await {
                    serve(socket).await;
                }
            });
        }
    });
    address
}

/// A service that takes every connection's head, switches, and leaves the socket to the test.
struct Switching(Bare);

impl Switching {
    async fn new() -> (Self, SocketAddr) {
        let (bare, address) = Bare::new().await;
        (Self(bare), address)
    }

    /// The next connection that asks to switch, and its head.
    async fn asked(&self) -> (TcpStream, String) {
        self.0.asked().await
    }

    async fn next(&self) -> TcpStream {
        let (mut stream, _) = self.asked().await;
        let answer = switch() + "\u{2}\u{5}early";
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream
    }
}

/// The answer to [`handshake`].
fn switch() -> String {
    let accept = derive_accept_key(KEY.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {accept}\r\nsec-websocket-protocol: vite-hmr\r\n\r\n"
    )
}

fn handshake(gateway: &Gateway, path: &str) -> String {
    let host = gateway.address;
    format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\nsec-websocket-protocol: vite-hmr, a|b\r\n\
         sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    )
}

/// A running session with both ends of a tunnel in hand: the client's and the service's.
async fn tunnel(gateway: &Gateway, service: &Switching, id: SessionId) -> (TcpStream, TcpStream) {
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client
        .write_all(handshake(gateway, &format!("/{id}/preview/")).as_bytes())
        .await
        .unwrap();
    let (switched, answer) = tokio::join!(service.next(), head(&mut client));
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(
        answer.contains("sec-websocket-protocol: vite-hmr\r\n"),
        "{answer}"
    );
    let mut early = [0; 7];
    client.read_exact(&mut early).await.unwrap();
    assert_eq!(
        &early, b"\x02\x05early",
        "what came with the switch is not lost"
    );
    (client, switched)
}

async fn running(address: SocketAddr) -> (Gateway, SessionId) {
    running_with(address, &[]).await
}

async fn running_with(address: SocketAddr, settings: &[&str]) -> (Gateway, SessionId) {
    let gateway = Gateway::with(address, settings);
    let id = gateway.runs().await;
    (gateway, id)
}

#[tokio::test]
async fn messages_of_every_size_come_back_as_they_were() {
    let service = Service::websocket_echo().await;
    let (gateway, id) = running(service).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let url = format!("ws://{}/{id}/vscode/socket?a=%20b", gateway.address);
    let (mut socket, answer) = Box::pin(client_async(url.into_client_request().unwrap(), stream))
        .await
        .unwrap();
    assert_eq!(answer.status(), 101);
    // The echo itself takes frames of 16 MiB at most.
    let largest = if long() { 8 << 20 } else { 1 << 20 };
    let mut size = 1;
    while size <= largest {
        let message = Message::binary((0..size).map(|n| (n * 31 % 251) as u8).collect::<Vec<_>>());
        socket.send(message.clone()).await.unwrap();
        let back = timeout(DEADLINE, socket.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert!(back == message, "{size} bytes came back otherwise");
        size = (size * 4).max(size + 1);
    }
    socket.send(Message::Ping("mark".into())).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::Pong("mark".into())
    );
    socket.close(None).await.unwrap();
    while let Some(message) = socket.next().await {
        assert!(matches!(
            message,
            Ok(Message::Close(_))
                | Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))
        ));
    }
    drop(socket);
    until("the tunnel has ended", || {
        gateway
            .slot(id)
            .instance
            .is_some_and(|one| one.tunnels() == 0 && one.leases() == 0)
    })
    .await;
}

#[tokio::test]
async fn what_the_handshake_says_reaches_the_service_as_it_was() {
    let (service, address) = Switching::new().await;
    let (gateway, id) = running(address).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client
        .write_all(handshake(&gateway, &format!("/{id}/preview/?t=%2F")).as_bytes())
        .await
        .unwrap();
    let (_, head) = service.asked().await;
    let host = gateway.address;
    for line in [
        &*format!("GET /{id}/preview/?t=%2F HTTP/1.1"),
        &*format!("sec-websocket-key: {KEY}"),
        "sec-websocket-protocol: vite-hmr, a|b",
        "sec-websocket-extensions: permessage-deflate; client_max_window_bits",
        &*format!("origin: http://{host}"),
        &*format!("host: localhost:{}", address.port()),
        &*format!("x-forwarded-host: {host}"),
        "connection: upgrade",
        "upgrade: websocket",
    ] {
        assert!(
            head.lines().any(|one| one == line),
            "{line} is missing in\n{head}"
        );
    }
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (service, address) = Switching::new().await;
    let (gateway, id) = running(address).await;
    let (mut client, mut switched) = tunnel(&gateway, &service, id).await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    let mut up = Vec::new();
    switched.read_to_end(&mut up).await.unwrap();
    assert_eq!(up, b"last words", "the client's end is passed on");
    switched.write_all(b"and still an answer").await.unwrap();
    switched.shutdown().await.unwrap();
    let mut down = Vec::new();
    client.read_to_end(&mut down).await.unwrap();
    assert_eq!(down, b"and still an answer", "the other direction went on");
    until("the tunnel has ended", || {
        gateway
            .slot(id)
            .instance
            .is_some_and(|one| one.tunnels() == 0)
    })
    .await;
}

#[tokio::test]
async fn an_abrupt_end_of_one_side_ends_the_other() {
    let (service, address) = Switching::new().await;
    let (gateway, id) = running(address).await;
    let ended = || {
        gateway
            .slot(id)
            .instance
            .is_some_and(|one| one.tunnels() == 0 && one.leases() == 0)
    };

    let (client, mut switched) = tunnel(&gateway, &service, id).await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert!(
        timeout(DEADLINE, switched.read_u8())
            .await
            .unwrap()
            .is_err(),
        "the service hears of the client's end"
    );
    until("the tunnel has ended", ended).await;

    let (mut client, switched) = tunnel(&gateway, &service, id).await;
    switched.set_zero_linger().unwrap();
    drop(switched);
    assert!(
        timeout(DEADLINE, client.read_u8()).await.unwrap().is_err(),
        "the client hears of the service's end"
    );
    until("the tunnel has ended", ended).await;
}

#[tokio::test]
async fn an_answer_that_is_no_valid_switch_is_refused() {
    let (service, address) = Switching::new().await;
    let (gateway, id) = running(address).await;
    let wrong = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: AAAA\r\n\r\n";
    for (asks, answer, status) in [
        (true, wrong, 502),
        (true, "", 502),
        (
            true,
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
            403,
        ),
        (false, wrong, 502),
    ] {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        let path = format!("/{id}/preview/");
        let plain = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.address);
        let request = if asks {
            handshake(&gateway, &path)
        } else {
            plain
        };
        client.write_all(request.as_bytes()).await.unwrap();
        let answers = async {
            let (mut stream, _) = service.asked().await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream
        };
        let (_kept, head) = tokio::join!(
            async {
                if answer.is_empty() {
                    drop(answers.await);
                    None
                } else {
                    Some(answers.await)
                }
            },
            head(&mut client)
        );
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}\n{head}"
        );
    }
}
