//! Connections of clients: TLS, HTTP/2, the PROXY protocol, and what ends them.

mod begin;
mod counted;
mod descriptors;
mod end;
mod pieces;
mod reload;
mod small;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use rustls::{
    ClientConnection, HandshakeKind,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use session_gateway::session::SessionId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};

use crate::support::{
    DEADLINE, Gateway, Kept, Service,
    kept::nothing,
    raw,
    service::text,
    tls::{Localhost, certificate, client, connect, settings},
};

async fn http2(gateway: &Gateway) -> Kept {
    let base = format!("http://{}", gateway.address);
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    Kept::on(stream, true, base).await.unwrap()
}

fn strs(settings: &[String]) -> Vec<&str> {
    settings.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn tls_serves_both_versions_of_http_with_the_certificate_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path(), "localhost");
    let other = certificate(folder.path(), "a.localhost");
    let service = Service::echo().await;
    let files = [
        settings(folder.path(), "localhost", "a"),
        settings(folder.path(), "a.localhost", "b"),
    ]
    .concat();
    let gateway = Gateway::with(service.address, &strs(&files));
    let id = SessionId::random();
    for (name, trusted) in [("localhost", &first), ("a.localhost", &other)] {
        for versions in [&[&TLS12][..], &[&TLS13][..]] {
            let config = Arc::new(client(&[trusted], versions, &["h2"]));
            let stream = connect(gateway.address, &config, name).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let kept = Kept::on(stream, true, format!("https://{name}")).await;
            let reply = kept
                .unwrap()
                .get(&format!("/{id}/preview/x"))
                .await
                .unwrap();
            assert!(reply.text().ends_with("/x"), "{reply:?}");
        }
    }
    let config = Arc::new(client(&[&first], &[&TLS13], &["http/1.1"]));
    let mut stream = connect(gateway.address, &config, "localhost")
        .await
        .unwrap();
    let head =
        format!("GET /{id}/preview/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The certificate shown, by the names that are in it.
async fn shown(gateway: &Gateway, config: rustls::ClientConfig, name: &'static str) -> Vec<String> {
    let outcome = connect(gateway.address, &Arc::new(config), name).await;
    let error = outcome.expect_err("none is for this name");
    let error = error.into_inner().expect("it is of TLS");
    match error.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(
            rustls::CertificateError::NotValidForNameContext { presented, .. },
        )) => presented.clone(),
        _ => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn who_asks_for_no_name_or_an_unknown_one_is_shown_the_first_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = ["localhost", "a.localhost"].map(|name| certificate(folder.path(), name));
    let files = [
        settings(folder.path(), "localhost", "a"),
        settings(folder.path(), "a.localhost", "b"),
    ]
    .concat();
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &strs(&files));
    for version in [&TLS12, &TLS13] {
        for (name, says_name) in [
            ("unknown.localhost", true),
            ("unknown.localhost", false),
            ("a.localhost.evil.test", true),
            ("127.0.0.1", true),
        ] {
            let both = [&trusted[0], &trusted[1]];
            let mut config = client(&both, &[version], &["h2"]);
            config.enable_sni = says_name;
            let names = shown(&gateway, config, name).await;
            assert_eq!(names, [r#"DnsName("localhost")"#], "{name}, {says_name}");
        }
    }
    // Who says no name and would take what is shown.
    let mut config = client(&[&trusted[0]], &[&TLS13], &["h2"]);
    config.enable_sni = false;
    let stream = connect(gateway.address, &Arc::new(config), "localhost").await;
    stream.unwrap();
}

/// A request that somebody repeats would start sessions: none is taken before the handshake has ended.
#[tokio::test]
async fn no_early_data_is_taken() {
    let (service, localhost) = (Service::echo().await, Localhost::new());
    let gateway = Gateway::with(service.address, &strs(&localhost.settings()));
    let mut config = client(&[&localhost.trusted], &[&TLS13], &["http/1.1"]);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for (round, kind) in [HandshakeKind::Full, HandshakeKind::Resumed]
        .into_iter()
        .enumerate()
    {
        let name = ServerName::try_from("localhost").unwrap();
        let mut next = ClientConnection::new(Arc::clone(&config), name).unwrap();
        assert!(next.early_data().is_none(), "a ticket allows it, {round}");
        let stream = connect(gateway.address, &config, "localhost").await;
        let stream = stream.unwrap();
        let tls = stream.get_ref().1;
        assert_eq!(tls.handshake_kind(), Some(kind));
        assert!(!tls.is_early_data_accepted());
        let base = "https://localhost".to_owned();
        let mut kept = Kept::on(stream, false, base).await.unwrap();
        // So that a ticket arrives.
        assert_eq!(kept.get("/nothing").await.unwrap().status, 404);
    }
}

/// Browsers cut cookies into crumbs on HTTP/2 (RFC 9113 section 8.2.3); a service sees one line of any length.
#[tokio::test]
async fn http2_by_prior_knowledge_reaches_the_service_as_http1() {
    let service = Service::new(|request| async move {
        assert_eq!(request.version(), http::Version::HTTP_11);
        let mut lines = request.headers().get_all("cookie").iter();
        let line = lines.next().map_or("", |line| line.to_str().unwrap());
        assert_eq!(lines.next(), None, "one line");
        text(line.to_owned())
    })
    .await;
    let gateway = Gateway::with(service.address, &[]);
    let path = format!("/{}/preview/", gateway.runs().await);
    let mut kept = http2(&gateway).await;
    for (count, length, status) in [
        (2, 1, 200),
        (60, 400, 200),
        (1, 24_000, 200),
        (60, 800, 431),
    ] {
        let crumbs = (0..count).map(|number| format!("c{number}={}", "x".repeat(length)));
        let crumbs: Vec<String> = crumbs.collect();
        let request = crumbs
            .iter()
            .fold(kept.ask("GET", &path), |request, crumb| {
                request.header("cookie", crumb)
            });
        let answer = kept.send(request.body(nothing()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{count} crumbs of {length}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        if status == 200 {
            assert_eq!(body, crumbs.join("; "), "{count} crumbs of {length}");
        }
    }
}

/// Over both versions of HTTP alike; of HTTP/2 the connection goes on.
#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &["limits.head=8KiB"]);
    let large = [("x".to_owned(), "y".repeat(12_000))];
    let many: Vec<_> = (0..101).map(|n| (format!("x-{n}"), "y".into())).collect();
    let mut kept = http2(&gateway).await;
    for (fields, status) in [(&large[..], 431), (&many[..], 431), (&many[..90], 404)] {
        let mut request = kept.ask("GET", "/nothing");
        let mut head = format!(
            "GET /nothing HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            gateway.address
        );
        for (name, value) in fields {
            request = request.header(name, value);
            head += &format!("{name}: {value}\r\n");
        }
        let answer = kept.send(request.body(nothing()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status);
        let answer = raw(gateway.address, format!("{head}\r\n").as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

/// A connection whose request was answered, if it was not closed instead.
async fn asks(address: SocketAddr) -> Option<TcpStream> {
    let head = format!("GET /nothing HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(head.as_bytes()).await.ok()?;
    let read = timeout(DEADLINE, stream.read_u8()).await.expect("in time");
    read.ok().map(|_| stream)
}

/// Ends with the first connection that is served.
async fn until_served(address: SocketAddr) {
    let again = async { while asks(address).await.is_none() {} };
    timeout(DEADLINE, again).await.expect("its place is free");
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_until_others_end() {
    let service = Service::websocket_echo().await;
    for limit in ["limits.connections=1", "limits.connections_per_client=1"] {
        let gateway = Gateway::with(service, &[limit, "workers=1"]);
        let address = gateway.address;
        let first = asks(address).await.expect("one may come");
        assert!(asks(address).await.is_none(), "{limit}");
        drop(first);
        until_served(address).await;
        // A websocket is one as long as it is open.
        let socket = async {
            loop {
                let stream = TcpStream::connect(address).await.unwrap();
                let url = format!("ws://{address}/{}/chat/", SessionId::random());
                if let Ok((socket, _)) = client_async(url, stream).await {
                    return socket;
                }
            }
        };
        let mut socket = timeout(DEADLINE, socket).await.expect("in time");
        assert!(asks(address).await.is_none(), "{limit}");
        let message = Message::text("still there");
        socket.send(message.clone()).await.unwrap();
        let echo = timeout(DEADLINE, socket.next()).await.unwrap();
        assert_eq!(echo.unwrap().unwrap(), message);
        drop(socket);
        until_served(address).await;
    }
}

/// A websocket over a stream of HTTP/2 (RFC 8441), told so that its service sees an ordinary handshake, and ended by a
/// Close as any other.
#[tokio::test]
async fn websockets_come_over_http2_too() {
    let service = Service::websocket_echo().await;
    let gateway = Gateway::with(service, &["shutdown.websockets=100ms"]);
    let mut kept = http2(&gateway).await;
    let path = format!("/{}/chat/", SessionId::random());
    assert_eq!(kept.get("/nothing").await.unwrap().status, 404);
    let refused = kept.connect(&path, "other").await.unwrap();
    assert!(!refused.status().is_success());
    let answer = kept.connect(&path, "websocket").await.unwrap();
    assert_eq!(answer.status(), 200, "{:?}", answer.headers());
    assert!(!answer.headers().contains_key("sec-websocket-accept"));
    let mut socket = kept.websocket(&path).await.unwrap();
    for size in [1, 70_000, 1 << 20] {
        let message = Message::binary(vec![7; size]);
        socket.send(message.clone()).await.unwrap();
        let echo = timeout(DEADLINE, socket.next()).await.unwrap();
        assert_eq!(echo.unwrap().unwrap(), message);
    }
    let stopped = tokio::task::spawn_blocking(move || gateway.stop());
    match timeout(DEADLINE, socket.next()).await.unwrap() {
        Some(Ok(Message::Close(Some(close)))) => assert_eq!(close.code, CloseCode::Restart),
        other => panic!("no Close came, but {other:?}"),
    }
    stopped.await.unwrap();
}
