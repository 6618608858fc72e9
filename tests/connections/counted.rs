//! What `/metrics` says of connections: each is counted by how it ended, and by the limit that ended it.

use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::Request;
use tokio::io::AsyncRead;

use super::*;
use crate::support::{
    client as sender, client::scraped, kit::Kit, long, service::Answer, tls::Localhost, until,
};

/// Waits until this line is among the metrics.
async fn counted(gateway: &Gateway, line: &str) {
    scraped(gateway.admin, line).await;
}

fn ended(end: &str, count: usize) -> String {
    format!(r#"session_gateway_connections_total{{end="{end}"}} {count}"#)
}

/// An answer that has no end, in large pieces.
fn flood() -> Answer {
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let frames = stream::repeat_with(move || Ok(Frame::data(piece.clone())));
    http::Response::new(BodyExt::boxed(StreamBody::new(frames)))
}

/// Connects, sends bytes and, where it leaves, the end of them; returns what comes until the gateway closes.
async fn talk(gateway: &Gateway, bytes: &[u8], leaves: bool) {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    // The gateway may have closed already.
    let _ = stream.write_all(bytes).await;
    if leaves {
        if bytes.ends_with(b"\r\n\r\n") {
            // Who is gone when the request is read gets no answer, and broke it off.
            stream.readable().await.unwrap();
        }
        let _ = stream.shutdown().await;
    }
    let closed = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await;
    closed.expect("it is closed").ok();
}

#[tokio::test]
async fn each_connection_is_counted_by_what_ended_it() {
    let tls = Localhost::new();
    let tls_settings = tls.settings();
    let tls = strs(&tls_settings);
    let nothing = "GET /nothing HTTP/1.1\r\nhost: localhost\r\n";
    let asks = format!("{nothing}\r\n");
    let closes = format!("{nothing}connection: close\r\n\r\n");
    let many = format!("{nothing}{}\r\n", "x: y\r\n".repeat(120));
    let large = format!("{nothing}x: {}\r\n\r\n", "y".repeat(40_000));
    let silent = "timeouts.handshake=100ms";
    let proxy = ["proxy_protocol=true", "trusted_proxies={127.0.0.0/8}"];
    let strangers = ["proxy_protocol=true", "trusted_proxies={10.0.0.0/8}"];
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let table: [(&[&str], &str, bool, &str); 17] = [
        (&[], "", true, "closed"),
        (&[], &closes, false, "closed"),
        (&[], &asks, true, "closed"),
        (&[], nothing, true, "broken"),
        (&[], "no HTTP\r\n\r\n", false, "malformed"),
        (&["limits.head=32KiB"], &large, false, "head"),
        (&[], &many, false, "head"),
        (&[silent], "", false, "handshake"),
        (&[silent], "PRI * HT", false, "handshake"),
        (&[silent], nothing, false, "handshake"),
        (&[silent], preface, false, "handshake"),
        (&["timeouts.idle=100ms"], &asks, false, "idle"),
        (&proxy, "no PROXY header", false, "proxy_protocol"),
        (&proxy, "", true, "closed"),
        (&strangers, "", false, "stranger"),
        (&tls, "no TLS, but a text", false, "tls"),
        (&[tls[0], tls[1], silent], "", false, "handshake"),
    ];
    let service = Service::echo().await;
    for (settings, bytes, leaves, end) in table {
        let gateway = Gateway::with(service.address, settings);
        talk(&gateway, bytes.as_bytes(), leaves).await;
        counted(&gateway, &ended(end, 1)).await;
        counted(&gateway, "session_gateway_connections_open 0").await;
    }
}

/// The connection that somebody still waits at keeps the process, and with it the metrics.
#[tokio::test]
async fn a_connection_that_the_end_of_the_process_cuts_is_counted() {
    let kit = Kit::new().await;
    let ends = ["shutdown.grace=300s", "timeouts.handshake=300s"];
    let gateway = Gateway::with(kit.service.address, &ends);
    let (admin, silent) = (gateway.admin, TcpStream::connect(gateway.address).await);
    let path = format!("/{}/preview/held", gateway.runs().await);
    let request = gateway.request("GET", &path, &[], Bytes::new());
    let held = tokio::spawn(sender::send(gateway.address, request));
    until("it is held", || kit.times(&path) == 1).await;
    counted(&gateway, "session_gateway_connections_open 2").await;
    let stopped = tokio::task::spawn_blocking(move || gateway.stop());
    scraped(admin, &ended("shutdown", 1)).await;
    kit.release.send_replace(true);
    held.await.unwrap();
    timeout(DEADLINE, stopped).await.expect("in time").unwrap();
    let closed = silent.unwrap().read_to_end(&mut Vec::new()).await;
    assert_eq!(closed.ok(), Some(0));
}

/// The client is there, as far as TCP can tell; it takes 50 s to find out that it is not.
#[tokio::test]
async fn a_client_of_http2_that_answers_no_ping_is_cut() {
    if !long() {
        return;
    }
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    // A head first, or it would be the handshake that is late: `GET` of `/`, in fields of HPACK's static table.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let head = b"\0\0\x03\x01\x05\0\0\0\x01\x82\x84\x86";
    stream
        .write_all(&[&preface[..], head].concat())
        .await
        .unwrap();
    let closed = timeout(10 * DEADLINE, stream.read_to_end(&mut Vec::new())).await;
    closed.expect("it is closed").ok();
    counted(&gateway, &ended("ping", 1)).await;
}

#[tokio::test]
async fn connections_over_a_limit_are_counted_by_the_limit() {
    let service = Service::echo().await;
    for (limit, end) in [
        ("limits.connections=1", "connections"),
        ("limits.connections_per_client=1", "connections_per_client"),
    ] {
        let gateway = Gateway::with(service.address, &[limit, "workers=1"]);
        let first = asks(gateway.address).await.expect("one may come");
        talk(&gateway, b"", false).await;
        counted(&gateway, &ended(end, 1)).await;
        counted(&gateway, "session_gateway_connections_open 1").await;
        drop(first);
        counted(&gateway, &ended("closed", 1)).await;
    }
}

#[tokio::test]
async fn a_websocket_is_counted_as_a_connection_and_by_its_own_end() {
    let service = Service::websocket_echo().await;
    let silence = "timeouts.websocket=100ms";
    for (setting, end) in [("workers=1", "closed"), (silence, "silent")] {
        let gateway = Gateway::with(service, &[setting]);
        let address = gateway.address;
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/{}/chat/", SessionId::random());
        let (mut socket, _) = client_async(url, stream).await.unwrap();
        counted(&gateway, &ended("upgraded", 1)).await;
        if end == "closed" {
            counted(&gateway, "session_gateway_connections_open 1").await;
            counted(&gateway, "session_gateway_tunnels_open 1").await;
            socket.close(None).await.unwrap();
        }
        while let Some(Ok(_)) = timeout(DEADLINE, socket.next()).await.unwrap() {}
        drop(socket);
        let line = format!(r#"session_gateway_tunnels_total{{end="{end}"}} 1"#);
        counted(&gateway, &line).await;
        counted(&gateway, "session_gateway_connections_open 0").await;
        counted(&gateway, "session_gateway_tunnels_open 0").await;
    }
}

#[tokio::test]
async fn bodies_are_counted_by_service_both_ways() {
    let service = Service::new(|request| async move {
        let body = request.into_body().collect().await.unwrap();
        text(vec![b'x'; body.to_bytes().len() * 2])
    })
    .await;
    let gateway = Gateway::with(service.address, &[]);
    let path = format!("/{}/chat/", SessionId::random());
    for _ in 0..2 {
        let body = Bytes::from(vec![0; 100_000]);
        let request = gateway.request("POST", &path, &[], body);
        let reply = sender::send(gateway.address, request).await;
        assert_eq!(reply.body.len(), 200_000);
    }
    for (direction, bytes) in [("up", 200_000), ("down", 400_000)] {
        let line = format!(
            r#"session_gateway_body_bytes_total{{service="chat",direction="{direction}"}} {bytes}"#
        );
        counted(&gateway, &line).await;
    }
}

const CUT: &str = r#"session_gateway_answers_cut_total{by="client"} 1"#;

/// Reads until the gateway closes; how much there was.
async fn drained(mut stream: impl AsyncRead + Unpin) -> usize {
    let mut bytes = Vec::new();
    let closed = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
    closed.expect("it is closed").ok();
    bytes.len()
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut() {
    let service = Service::new(|_| async { flood() }).await;
    let localhost = Localhost::new();
    let [certificate, key] = localhost.settings();
    let head = format!(
        "GET /{}/preview/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
        SessionId::random()
    );
    let plain: &[&str] = &["timeouts.write=200ms"];
    for settings in [plain, &[plain[0], &certificate, &key]] {
        let gateway = Gateway::with(service.address, settings);
        let left = if settings.len() == 1 {
            let mut stream = TcpStream::connect(gateway.address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            counted(&gateway, &ended("write", 1)).await;
            drained(stream).await
        } else {
            let config = localhost.client("http/1.1");
            let stream = connect(gateway.address, &config, "localhost").await;
            let mut stream = stream.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            counted(&gateway, &ended("write", 1)).await;
            drained(stream).await
        };
        counted(&gateway, CUT).await;
        assert!(left > 0, "nothing had been sent");
    }
}

/// One who reads slowly, and yet reads, is not cut: what counts is the last byte that was taken.
#[tokio::test]
async fn a_client_that_reads_slowly_is_served_to_the_end() {
    const LENGTH: usize = 24 << 20;
    let service = Service::new(|_| async { text(vec![b'x'; LENGTH]) }).await;
    let gateway = Gateway::with(service.address, &["timeouts.write=400ms"]);
    let head = format!(
        "GET /{}/preview/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        SessionId::random()
    );
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let (mut total, mut piece) = (0, vec![0; 1 << 20]);
    loop {
        let read = timeout(DEADLINE, stream.read(&mut piece)).await.unwrap();
        match read.unwrap() {
            0 => break,
            read => total += read,
        }
        // Several times the limit in all.
        tokio::time::sleep(std::time::Duration::from_millis(40)).await;
    }
    assert!(total > LENGTH, "{total} bytes");
    assert!(begun.elapsed().as_millis() > 800, "{:?}", begun.elapsed());
    counted(&gateway, &ended("closed", 1)).await;
}

/// On HTTP/2 one stream is held up by its window alone, and cut alone.
#[tokio::test]
async fn a_stream_whose_client_takes_nothing_is_cut_alone() {
    let service = Service::new(|request: Request<hyper::body::Incoming>| async move {
        match request.uri().path().ends_with("/flood") {
            true => flood(),
            false => text("beside it"),
        }
    })
    .await;
    let gateway = Gateway::with(service.address, &["timeouts.write=200ms"]);
    let path = format!("/{}/preview", SessionId::random());
    let mut kept = http2(&gateway).await;
    let request = kept.ask("GET", &format!("{path}/flood")).body(nothing());
    let mut flooded = kept.send(request.unwrap()).await.unwrap().into_body();
    counted(&gateway, CUT).await;
    let beside = kept.get(&format!("{path}/")).await.unwrap();
    assert_eq!(beside.text(), "beside it");
    let end = async {
        loop {
            match flooded.frame().await {
                Some(Ok(_)) => {}
                end => return end,
            }
        }
    };
    let end = timeout(DEADLINE, end).await.expect("it is cut");
    assert!(end.expect("no clean end").is_err());
    counted(&gateway, "session_gateway_connections_open 1").await;
}
