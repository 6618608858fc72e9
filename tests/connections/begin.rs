//! The beginning of a connection: PROXY header, TLS, the first head. None may take longer than it is given.

use std::time::Duration;

use super::*;
use crate::support::kit::Kit;

#[tokio::test]
async fn a_balancer_that_is_trusted_says_who_comes() {
    let service = Service::new(|request| async move {
        let client = request.headers()["x-forwarded-for"].to_str().unwrap();
        text(client.to_owned())
    })
    .await;
    let proxied = ["proxy_protocol=true", "trusted_proxies={127.0.0.0/8}"];
    let gateway = Gateway::with(service.address, &proxied);
    let request = format!(
        "GET /{}/preview/ HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        SessionId::random(),
        gateway.address
    );
    let mut v2 =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x10\0\x01\xbb".to_vec();
    v2.extend(request.as_bytes());
    let v1 = format!("PROXY TCP4 203.0.113.7 10.0.0.1 4096 443\r\n{request}");
    for bytes in [v1.as_bytes(), &v2] {
        let answer = raw(gateway.address, bytes).await;
        assert!(answer.ends_with("203.0.113.7"), "{answer}");
    }
}

#[tokio::test]
async fn a_balancer_that_is_not_trusted_is_not_served() {
    let service = Service::echo().await;
    let proxied = ["proxy_protocol=true", "trusted_proxies={10.0.0.0/8}"];
    let gateway = Gateway::with(service.address, &proxied);
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    // A reset or an end, as the bytes arrive before or after the close.
    let read = timeout(DEADLINE, stream.read(&mut [0; 16])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)));
}

/// What a balancer may send in the place of a header, `|` for the end of a line: nobody is served by it.
#[rustfmt::skip]
const NO_HEADERS: &[&[u8]] = &[
    b"", b"PROXY|", b"PROXY TCP4|", b"PROXY TCP4 1.2.3.4 5.6.7.8 1|", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3|",
    b"PROXY TCP4 1.2.3.999 5.6.7.8 1 2|", b"PROXY TCP4 ::1 ::2 1 2|", b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2|",
    b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2|", b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 2|", b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2|",
    b"proxy TCP4 1.2.3.4 5.6.7.8 1 2|", b" PROXY TCP4 1.2.3.4 5.6.7.8 1 2|", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
    b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2|", b"PROXY TCP4 evil.test 5.6.7.8 1 2|",
    b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x10\0\x01\xbb",
    b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x10\0\x01\xbb",
    b"\r\n\r\n\0\r\nQUIT\n\x2f\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x10\0\x01\xbb",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\xcb\0\x71\x07", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    b"\r\n\r\n\0\r\nQUIT \x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x10\0\x01\xbb",
];

/// What comes until the gateway closes; how it closes depends on what it has read by then.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let closed = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
    closed.expect("it is closed").ok();
    bytes
}

#[tokio::test]
async fn a_balancer_that_says_something_else_is_not_served() {
    let kit = Kit::new().await;
    let settings = [
        "proxy_protocol=true",
        "trusted_proxies={127.0.0.0/8}",
        "timeouts.handshake=300ms",
    ];
    let gateway = Gateway::with(kit.service.address, &settings);
    let id = gateway.runs().await;
    let request = |end: &str| {
        let host = gateway.address;
        format!("GET /{id}/preview/{end} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
    };
    for row in NO_HEADERS {
        let mut bytes: Vec<u8> = Vec::new();
        for byte in *row {
            match byte {
                b'|' => bytes.extend(b"\r\n"),
                byte => bytes.push(*byte),
            }
        }
        bytes.extend(request("x").as_bytes());
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let answer = until_closed(&mut stream).await;
        assert_eq!(answer, b"", "{}", row.escape_ascii());
    }
    assert_eq!(
        kit.asked.lock().unwrap().len(),
        0,
        "none reached the service"
    );
    // In pieces, one byte each; and for the balancer itself, as its health checks are.
    for (at, header) in [
        &b"PROXY TCP4 203.0.113.7 10.0.0.1 4096 443\r\n"[..],
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ::1 ::2 3 4\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x10\0\x01\xbb",
    ]
    .into_iter()
    .enumerate()
    {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in [header, request(&at.to_string()).as_bytes()].concat() {
            stream.write_u8(byte).await.unwrap();
            tokio::task::yield_now().await;
        }
        let answer = until_closed(&mut stream).await;
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "row {at}");
        assert_eq!(kit.times(&format!("/{id}/preview/{at}")), 1);
    }
}

#[tokio::test]
async fn clients_that_are_silent_or_trickle_are_closed() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &["timeouts.handshake=100ms"]);
    for begin in [
        &b""[..],
        b"PRI * HT",
        b"GET / HT",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(begin).await.unwrap();
        until_closed(&mut stream).await;
    }
}

/// What a client of TLS says first.
fn client_hello(localhost: &Localhost) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(localhost.client("h2"), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test]
async fn a_handshake_of_tls_that_does_not_end_is_cut() {
    let (service, localhost) = (Service::echo().await, Localhost::new());
    let mut settings = localhost.settings().to_vec();
    settings.push("timeouts.handshake=300ms".to_owned());
    let gateway = Gateway::with(service.address, &strs(&settings));
    let hello = client_hello(&localhost);
    for begin in [&b""[..], &hello[..1], &hello[..hello.len() - 1], &hello] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(begin).await.unwrap();
        until_closed(&mut stream).await;
    }
    // A byte now and then does not make it longer.
    let (mut read, mut write) = TcpStream::connect(gateway.address)
        .await
        .unwrap()
        .into_split();
    let trickle = tokio::spawn(async move {
        for byte in hello {
            write.write_u8(byte).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        std::io::Result::Ok(())
    });
    let closed = timeout(DEADLINE, read.read_to_end(&mut Vec::new())).await;
    closed.expect("it is closed").ok();
    assert!(!trickle.is_finished(), "it was closed before all had come");
    trickle.abort();
    // Who speaks no TLS, or makes its peer wait for the request, is no better.
    let mut plain = TcpStream::connect(gateway.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(!until_closed(&mut plain).await.starts_with(b"HTTP"));
    for alpn in ["http/1.1", "h2"] {
        let config = localhost.client(alpn);
        let mut silent = connect(gateway.address, &config, "localhost")
            .await
            .unwrap();
        let closed = timeout(DEADLINE, silent.read_to_end(&mut Vec::new())).await;
        closed.expect("it is closed").ok();
    }
}
