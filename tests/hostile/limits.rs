//! How long a client may take over its request, how many there may be, and whose word of a client is believed.

use super::*;
use crate::support::{Service, service::text};

/// A service that reads heads, answers at once with this, and reads nothing more.
async fn hasty(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                stream.write_all(answer).await?;
                std::future::pending::<std::io::Result<()>>().await
            });
        }
    });
    address
}

fn upload(gateway: &Gateway, id: SessionId, length: u32) -> String {
    let host = gateway.address;
    format!("POST /{id}/preview/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\nsome")
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let gateway = Gateway::with(hasty(b"").await, &["timeouts.body=50ms"]);
    let id = SessionId::random();
    gateway.send("POST", &format!("/{id}/-/start"), &[]).await;
    gateway.until_running(id).await;
    let answer = talk(gateway.address, upload(&gateway, id, 9).as_bytes(), false).await;
    assert_eq!(outcome(&answer), "408 body_timeout");
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_given_up() {
    let gateway = Gateway::with(hasty(b"").await, &["timeouts.first_byte=50ms"]);
    let id = SessionId::random();
    gateway.send("POST", &format!("/{id}/-/start"), &[]).await;
    gateway.until_running(id).await;
    let reply = gateway.send("GET", &format!("/{id}/preview/"), &[]).await;
    assert_eq!(reply.code(), "upstream_silent");
}

/// The answer comes at once, and the rest of the upload is not waited for longer than a grace.
#[tokio::test]
async fn an_answer_before_the_end_of_an_upload_is_delivered_and_ends_the_connection() {
    let service = hasty(b"HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\n\r\nstop").await;
    let (gateway, id) = running(service).await;
    let answer = talk(
        gateway.address,
        upload(&gateway, id, 1_000_000).as_bytes(),
        false,
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("stop"),
        "{answer}"
    );
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_session_has_so_many_requests_in_flight_and_no_more() {
    let gateway = Gateway::with(hasty(b"").await, &["limits.requests_per_session=2"]);
    let id = SessionId::random();
    gateway.send("POST", &format!("/{id}/-/start"), &[]).await;
    gateway.until_running(id).await;
    let mut held = Vec::new();
    for count in 1..=2 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let head = format!(
            "GET /{id}/preview/ HTTP/1.1\r\nHost: {}\r\n\r\n",
            gateway.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        held.push(stream);
        let in_flight = || {
            gateway
                .slot(id)
                .instance
                .is_some_and(|one| one.leases() == count)
        };
        crate::support::until("it is in flight", in_flight).await;
    }
    let reply = gateway.send("GET", &format!("/{id}/preview/"), &[]).await;
    assert_eq!(reply.code(), "too_many_requests");
}

/// The service chooses of what the client offered, and nothing else (RFC 6455 section 4.1).
#[tokio::test]
async fn a_websocket_speaks_only_what_its_client_offered() {
    for (chosen, expected) in [
        ("sec-websocket-protocol: b", "101"),
        ("sec-websocket-extensions: x; y=1", "101"),
        ("sec-websocket-protocol: c", "502 upstream_invalid"),
        ("sec-websocket-protocol: a, b", "502 upstream_invalid"),
        (
            "sec-websocket-extensions: permessage-deflate",
            "502 upstream_invalid",
        ),
    ] {
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{chosen}\r\n\r\n"
        );
        let (gateway, id) = running(hasty(answer.leak().as_bytes()).await).await;
        let head = format!(
            "GET /{id}/chat/ HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: a, b\r\nsec-websocket-extensions: x\r\n\r\n",
            gateway.address
        );
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut found = String::new();
        while !found.ends_with("\r\n\r\n") {
            let byte = timeout(DEADLINE, stream.read_u8()).await.expect("in time");
            found.push(byte.unwrap().into());
        }
        assert_eq!(outcome(&found), expected, "{chosen}");
    }
}

/// Behind a trusted proxy the public address is the proxy's, for the service and for the check of origins.
#[tokio::test]
async fn the_word_of_a_trusted_proxy_is_believed() {
    let service = Service::new(|request| async move {
        let shown = |name: &str| {
            request
                .headers()
                .get(name)
                .map_or("-".into(), |v| format!("{v:?}"))
        };
        let names = [
            "host",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-for",
            "forwarded",
        ];
        text(names.map(shown).join(" ").replace('"', ""))
    });
    let address = service.await.address;
    let says = [
        ("x-forwarded-host", "dev.localhost"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "198.51.100.1"),
        ("forwarded", "for=198.51.100.1"),
    ];
    for (trusted, origin, expected) in [
        (
            "{127.0.0.1}",
            "https://dev.localhost",
            "dev.localhost dev.localhost https 198.51.100.1, 127.0.0.1 -",
        ),
        ("{127.0.0.1}", "http://dev.localhost", "cross_site"),
        (
            "{192.0.2.0/24}",
            "http://HOST",
            "HOST HOST http 127.0.0.1 -",
        ),
        ("{192.0.2.0/24}", "https://dev.localhost", "cross_site"),
    ] {
        let trusted = format!("trusted_proxies={trusted}");
        let gateway = Gateway::with(address, &[&trusted]);
        let (id, host) = (SessionId::random(), gateway.address.to_string());
        gateway.send("POST", &format!("/{id}/-/start"), &[]).await;
        gateway.until_running(id).await;
        let origin = origin.replace("HOST", &host);
        let headers = [&says[..], &[("origin", &origin)]].concat();
        let reply = gateway.send("GET", &format!("/{id}/chat/"), &headers).await;
        let found = if reply.status == 200 {
            reply.text().to_owned()
        } else {
            reply.code()
        };
        assert_eq!(found, expected.replace("HOST", &host), "{trusted} {origin}");
    }
}
