//! How long a client may take over its request, how many there may be, and whose word of a client is believed.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::*;
use crate::support::{
    Service,
    client::{self, scraped},
    kit::Kit,
    service::{head, text},
    until,
};

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

/// Others have as many of their own.
#[tokio::test]
async fn a_session_has_so_many_requests_in_flight_and_no_more() {
    let kit = Kit::new().await;
    let settings = ["limits.requests_per_session=2"];
    let gateway = Gateway::with(kit.service.address, &settings);
    let (id, other) = (gateway.runs().await, gateway.runs().await);
    let path = format!("/{id}/preview/held");
    let mut held = Vec::new();
    for count in 1..=2 {
        let request = gateway.request("GET", &path, &[], Bytes::new());
        held.push(tokio::spawn(client::send(gateway.address, request)));
        until("it is held", || kit.times(&path) == count).await;
    }
    let reply = gateway.send("GET", &path, &[]).await;
    assert_eq!(reply.code(), "too_many_requests");
    let beside = format!("/{other}/preview/beside");
    let reply = gateway.send("GET", &beside, &[]).await;
    assert_eq!(reply.text(), format!("{beside} 0"));
    kit.release.send_replace(true);
    for one in held {
        let reply = timeout(DEADLINE, one).await.unwrap().unwrap();
        assert_eq!(
            reply.text(),
            format!("{path} 0"),
            "what was let in is served"
        );
    }
    let reply = gateway.send("GET", &path, &[]).await;
    assert_eq!(reply.text(), format!("{path} 0"), "there is room again");
}

const GET: &str = "GET /ID/preview/ HTTP/1.1|Host: HOST||";
const GET_OTHER: &str = "GET /OTHER/preview/ HTTP/1.1|Host: HOST||";
const SOCKET: &str = "GET /ID/preview/ HTTP/1.1|Host: HOST|Connection: upgrade|Upgrade: websocket|\
                      Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||";

/// Settings, a request that is held, the request that is one too many after it, and what that gets.
#[rustfmt::skip]
const REACHED: &[(&str, &str, &str, &str)] = &[
    ("timeouts.body=50ms", "", "POST /ID/preview/ HTTP/1.1|Host: HOST|Content-Length: 9||some", "408 body_timeout"),
    ("timeouts.first_byte=50ms", "", GET, "504 upstream_silent"),
    ("limits.target=256B", "", "GET /LONG HTTP/1.1|Host: HOST||", "414 target_too_long"),
    ("limits.head=4KiB", "", "GET / HTTP/1.1|Host: HOST|X: LONG||", "431 head_too_long"),
    ("workers=1", "", "GET / HTTP/1.1|Host: HOST|MANY|", "431 too_many_fields"),
    ("limits.requests_per_session=1", GET, GET, "503 too_many_requests"),
    ("limits.tunnels_per_session=1", SOCKET, SOCKET, "503 too_many_sockets"),
    ("spawn.held=1", GET_OTHER, GET_OTHER, "503 too_many_waiting"),
    ("spawn.limits.sessions=1", "", GET_OTHER, "503 too_many_sessions"),
    ("spawn.limits.starts_per_client=1", GET_OTHER, "GET /THIRD/preview/ HTTP/1.1|Host: HOST||", "429 too_many_starts"),
];

/// By its code, and by no other.
#[tokio::test]
async fn each_limit_that_is_reached_is_counted() {
    for (setting, held, request, expected) in REACHED {
        // Answers nothing.
        let gateway = Gateway::with(hasty(b"").await, &[setting]);
        let (id, other) = (gateway.runs().await, SessionId::random());
        // Starts do not end.
        gateway.sessions.gate(false);
        let fill = |text: &str| {
            let text = text.replace("HOST", &gateway.address.to_string());
            let text = text.replace("ID", &id.to_string());
            let text = text.replace("OTHER", &other.to_string());
            let text = text.replace("THIRD", &SessionId::random().to_string());
            let text = text.replace("LONG", &"x".repeat(5_000));
            let text = text.replace("MANY", &"X: y|".repeat(101));
            text.replace('|', "\r\n")
        };
        let mut first = None;
        if !held.is_empty() {
            let mut stream = TcpStream::connect(gateway.address).await.unwrap();
            stream.write_all(fill(held).as_bytes()).await.unwrap();
            first = Some(stream);
            let leases = || gateway.slot(id).instance.map(|one| one.leases());
            let waits = || gateway.slot(other).waiters.held.load(Relaxed);
            until("it is held", || leases() == Some(1) || waits() == 1).await;
        }
        let mut last = TcpStream::connect(gateway.address).await.unwrap();
        last.write_all(fill(request).as_bytes()).await.unwrap();
        let answer = timeout(DEADLINE, head(&mut last)).await.unwrap();
        assert_eq!(outcome(&answer), *expected, "{setting}");
        let (_, code) = expected.split_once(' ').unwrap();
        let line = format!("session_gateway_problems_total{{code=\"{code}\"}} 1");
        let all = scraped(gateway.admin, &line).await;
        let problems = all.lines().filter(|one| {
            one.starts_with("session_gateway_problems_total{") && !one.ends_with(" 0")
        });
        assert_eq!(problems.collect::<Vec<_>>(), [line], "{setting}");
        drop(first);
    }
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
