//! Where the gateway ends a websocket, both sides are told between two frames, and nothing before that is lost.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use super::{Switching, handshake, head, running_with, serving, tunnel};
use crate::support::{DEADLINE, Gateway, Way, kept::Socket, long, tls::Localhost, until};

/// Tunnels on a connection of HTTP/2.
const STREAMS: usize = 50;
/// Messages that a service sends for each it gets: most of the time some are on their way.
const ANSWERS: u64 = 3;

/// The number of a message, and a length by it.
fn message(number: u64) -> Message {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(8 + usize::try_from(number * 389 % 3000).unwrap(), 0);
    Message::binary(bytes)
}

/// Every frame in order, to the end; no part of a frame may be left over.
async fn until_closed(socket: &mut Socket, got: &mut u64) -> (CloseCode, String) {
    let mut sent = *got / ANSWERS;
    loop {
        match timeout(DEADLINE, socket.next()).await.expect("in time") {
            Some(Ok(Message::Close(Some(close)))) => return (close.code, close.reason.to_string()),
            Some(Ok(one)) => {
                assert_eq!(one, message(*got), "in order, and whole");
                *got += 1;
                if got.is_multiple_of(ANSWERS) {
                    sent += 1;
                    // What is sent after the Close is the sender's loss.
                    let _ = socket.send(message(sent)).await;
                }
            }
            other => panic!("no Close came, but {other:?}"),
        }
    }
}

/// Answers each message with three, and reports how each websocket was closed.
async fn chatty() -> (SocketAddr, mpsc::UnboundedReceiver<CloseCode>) {
    let (closed, codes) = mpsc::unbounded_channel();
    let address = serving(move |mut socket| {
        let closed = closed.clone();
        async move {
            let (mut got, mut sent) = (0, 0);
            while let Some(Ok(one)) = socket.next().await {
                if let Message::Close(Some(close)) = one {
                    let _ = closed.send(close.code);
                    continue;
                }
                assert_eq!(one, message(got), "in order, and whole");
                got += 1;
                for _ in 0..ANSWERS {
                    let _ = socket.send(message(sent)).await;
                    sent += 1;
                }
            }
        }
    });
    (address.await, codes)
}

/// Speaks from `go` on, reports that it does by dropping `busy`, and is told to come again; returns how many messages
/// came before that.
async fn told(mut socket: Socket, busy: mpsc::Sender<()>, mut go: watch::Receiver<bool>) -> u64 {
    go.wait_for(|go| *go).await.unwrap();
    socket.send(message(0)).await.unwrap();
    let first = socket.next().await.unwrap().unwrap();
    assert_eq!(first, message(0));
    let mut got = 1;
    drop(busy);
    let (code, reason) = until_closed(&mut socket, &mut got).await;
    assert_eq!(
        (code, &*reason),
        (CloseCode::Restart, "gateway restarts"),
        "after {got}"
    );
    // The answer to the Close goes out, and the connection ends.
    while let Some(Ok(_)) = timeout(DEADLINE, socket.next()).await.expect("an end") {}
    got
}

/// Opens many tunnels, keeps all of them busy, ends the gateway, and sees how each of them ends.
async fn all_told(way: Way, tunnels: usize) {
    let (service, mut codes) = chatty().await;
    let localhost = Localhost::new();
    let mut settings = vec![
        "limits.tunnels_per_session=2000",
        "shutdown.grace=60s",
        "shutdown.websockets=2s",
    ];
    let files = localhost.settings();
    if way.is_tls() {
        settings.extend(files.iter().map(String::as_str));
    }
    let (gateway, id) = running_with(service, &settings).await;
    let (busy, mut all_busy) = mpsc::channel::<()>(1);
    let go = watch::Sender::new(false);
    let mut clients: FuturesUnordered<JoinHandle<u64>> = FuturesUnordered::new();
    let path = format!("/{id}/vscode/");
    let mut kept = Vec::new();
    for number in 0..tunnels {
        // On HTTP/2 many share a connection.
        if !way.is_http2() || number % STREAMS == 0 {
            kept.push(way.connect(gateway.address, &localhost).await.unwrap());
        }
        let connection = kept.last_mut().unwrap();
        let socket = connection.websocket(&path).await.unwrap();
        clients.push(tokio::spawn(told(socket, busy.clone(), go.subscribe())));
    }
    drop(busy);
    go.send_replace(true);
    assert!(all_busy.recv().await.is_none());
    let stopped = spawn_blocking(move || gateway.stop());
    let mut told = 0;
    while let Some(got) = clients.next().await {
        assert!(got.unwrap() > 0);
        told += 1;
    }
    assert_eq!(told, tunnels);
    stopped.await.unwrap();
    for _ in 0..tunnels {
        let code = timeout(DEADLINE, codes.recv()).await.unwrap();
        assert_eq!(code, Some(CloseCode::Away), "the service is told as well");
    }
    assert_eq!(
        kept.len(),
        tunnels.div_ceil(if way.is_http2() { STREAMS } else { 1 })
    );
}

#[tokio::test]
async fn a_drain_tells_a_thousand_busy_tunnels_and_loses_nothing_before_it() {
    all_told(Way::Http1, 1000).await;
}

#[tokio::test]
async fn a_drain_tells_tunnels_over_tls() {
    all_told(Way::Tls1, if long() { 1000 } else { 100 }).await;
}

#[tokio::test]
async fn a_drain_tells_tunnels_that_share_connections_of_http2() {
    for way in [Way::Http2, Way::Tls2] {
        all_told(way, if long() { 1000 } else { 100 }).await;
    }
}

/// The Close that a client gets.
fn close(code: u16, reason: &str) -> Vec<u8> {
    let length = u8::try_from(2 + reason.len()).unwrap();
    [&[0x88, length][..], &code.to_be_bytes(), reason.as_bytes()].concat()
}

/// Reads to the end, and the code of the masked Close that stands there.
async fn masked_close(service: &mut TcpStream) -> u16 {
    let mut bytes = Vec::new();
    let read = timeout(DEADLINE, service.read_to_end(&mut bytes)).await;
    read.unwrap().unwrap();
    assert_eq!(bytes[0], 0x88, "{bytes:?}");
    assert_eq!(
        usize::from(bytes[1]),
        0x80 + bytes.len() - 6,
        "masked, and nothing after it"
    );
    u16::from_be_bytes([bytes[6] ^ bytes[2], bytes[7] ^ bytes[3]])
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
    read.unwrap().unwrap();
    bytes
}

#[tokio::test]
async fn a_close_waits_for_the_end_of_the_frame_at_hand() {
    let (service, address) = Switching::new().await;
    let settings = ["shutdown.grace=40s", "shutdown.websockets=30s"];
    let (gateway, id) = running_with(address, &settings).await;
    let (mut client, mut switched) = tunnel(&gateway, &service, id).await;
    switched.write_all(&[0x82, 4, b'h', b'a']).await.unwrap();
    let mut half = [0; 4];
    client.read_exact(&mut half).await.unwrap();
    let uid = gateway.slot(id).instance.unwrap().uid();
    gateway.sessions.facts().ending(id, uid);
    // The other direction, which is between two frames, is told at once.
    let mut begin = [0; 2];
    switched.read_exact(&mut begin).await.unwrap();
    assert_eq!(begin[0], 0x88);
    switched
        .write_all(&[b'l', b'f', 0x82, 1, b'x'])
        .await
        .unwrap();
    let expected = [&b"lf"[..], &close(1001, "session ended")].concat();
    assert_eq!(rest(&mut client).await, expected);
}

#[tokio::test]
async fn a_tunnel_ends_with_its_instance_and_with_the_gateway() {
    let (service, address) = Switching::new().await;
    let (gateway, id) = running_with(address, &["shutdown.websockets=0s"]).await;
    let (mut client, mut switched) = tunnel(&gateway, &service, id).await;
    let uid = gateway.slot(id).instance.unwrap().uid();
    gateway.sessions.facts().ending(id, uid);
    assert_eq!(rest(&mut client).await, close(1001, "session ended"));
    assert_eq!(masked_close(&mut switched).await, 1001);
    gateway.sessions.facts().gone(id, uid);

    gateway.send("POST", &format!("/{id}/-/start"), &[]).await;
    gateway.until_running(id).await;
    let (mut client, mut switched) = tunnel(&gateway, &service, id).await;
    let stopped = spawn_blocking(move || gateway.stop());
    assert_eq!(rest(&mut client).await, close(1012, "gateway restarts"));
    assert_eq!(masked_close(&mut switched).await, 1001);
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_tunnel_without_a_byte_for_long_ends() {
    let (service, address) = Switching::new().await;
    let (gateway, id) = running_with(address, &["timeouts.websocket=400ms"]).await;
    let (mut client, mut switched) = tunnel(&gateway, &service, id).await;
    assert_eq!(rest(&mut client).await, close(1001, "nothing moved"));
    assert_eq!(masked_close(&mut switched).await, 1001);
}

#[tokio::test]
async fn no_close_is_put_between_bytes_that_are_no_frames_or_after_another_close() {
    let (service, address) = Switching::new().await;
    let (gateway, id) = running_with(address, &[]).await;
    let (mut client, mut switched) = tunnel(&gateway, &service, id).await;
    switched.write_all(b"no frames").await.unwrap();
    let mut bytes = [0; 9];
    client.read_exact(&mut bytes).await.unwrap();
    let own = [0x88, 0x82, 0, 0, 0, 0, 3, 0xE8];
    client.write_all(&own).await.unwrap();
    let mut bytes = [0; 8];
    switched.read_exact(&mut bytes).await.unwrap();
    let uid = gateway.slot(id).instance.unwrap().uid();
    gateway.sessions.facts().ending(id, uid);
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(rest(&mut switched).await, b"");
}

#[tokio::test]
async fn a_session_has_so_many_websockets_and_no_more() {
    let (service, address) = Switching::new().await;
    let (gateway, id) = running_with(address, &["limits.tunnels_per_session=1"]).await;
    let (client, switched) = tunnel(&gateway, &service, id).await;
    let mut second = TcpStream::connect(gateway.address).await.unwrap();
    let request = handshake(&gateway, &format!("/{id}/preview/"));
    second.write_all(request.as_bytes()).await.unwrap();
    let refused = timeout(DEADLINE, head(&mut second)).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let code = "\r\nsession-gateway-code: too_many_sockets\r\n";
    assert!(refused.contains(code), "{refused}");
    // Another session has its own.
    let other = gateway.runs().await;
    let (mut beside, mut switched_beside) = tunnel(&gateway, &service, other).await;
    beside.write_all(&[0x81, 0x80, 0, 0, 0, 0]).await.unwrap();
    let mut frame = [0; 6];
    switched_beside.read_exact(&mut frame).await.unwrap();
    drop((client, switched));
    none_open(&gateway, id).await;
    tunnel(&gateway, &service, id).await;
}

async fn none_open(gateway: &Gateway, id: session_gateway::session::SessionId) {
    until("the tunnel has ended", || {
        gateway
            .slot(id)
            .instance
            .is_some_and(|one| one.tunnels() == 0)
    })
    .await;
}

#[tokio::test]
async fn what_one_side_has_sent_before_the_end_reaches_the_other_in_full() {
    let (service, address) = Switching::new().await;
    let (gateway, id) = running_with(address, &[]).await;
    let (mut client, mut switched) = tunnel(&gateway, &service, id).await;
    // More than the sockets hold, so that it is on its way while the service ends.
    let frame = [&[0x82, 127, 0, 0, 0, 0, 0, 128, 0, 0][..], &[7; 8 << 20]].concat();
    let write = async {
        switched.write_all(&frame).await.unwrap();
        switched.shutdown().await.unwrap();
    };
    let ((), read) = tokio::join!(write, rest(&mut client));
    assert!(read == frame);
}
