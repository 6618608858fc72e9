//! What a client sends right behind its handshake, before it knows whether there will be a websocket.

use super::*;
use crate::support::client;

/// A masked text, and a binary message.
const FRAMES: &[u8] = b"\x81\x85mask\x05\x04\x1f\x07\x02\x82\x81mask\x07";

/// A session whose service was asked to switch by a client that has sent frames already; nothing of these is there.
async fn hasty(service: &Bare, gateway: &Gateway, id: SessionId) -> (TcpStream, TcpStream) {
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let head = handshake(gateway, &format!("/{id}/preview/"));
    let bytes = [head.as_bytes(), FRAMES].concat();
    client.write_all(&bytes).await.unwrap();
    let (switching, _) = service.asked().await;
    // Whoever is served by the same thread now is served after all that it had to do for the first.
    for _ in 0..3 {
        assert_eq!(gateway.send("GET", "/nothing", &[]).await.status, 404);
    }
    let nothing = switching.try_read(&mut [0; 64]);
    let error = nothing.expect_err("nothing is tunnelled before the switch");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    (client, switching)
}

#[tokio::test]
async fn frames_behind_a_handshake_reach_the_service_after_its_switch() {
    let (service, address) = Bare::new().await;
    let gateway = Gateway::with(address, &["workers=1"]);
    let id = gateway.runs().await;
    let (mut client, mut switching) = hasty(&service, &gateway, id).await;
    let answer = switch();
    switching.write_all(answer.as_bytes()).await.unwrap();
    let mut came = vec![0; FRAMES.len()];
    let read = timeout(DEADLINE, switching.read_exact(&mut came)).await;
    read.expect("in time").unwrap();
    assert_eq!(came, FRAMES, "each byte, once and in order");
    let answer = timeout(DEADLINE, head(&mut client)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
}

/// They are no request either: the client is told that they are none, and its service gets nothing of them.
#[tokio::test]
async fn frames_behind_a_handshake_that_is_refused_reach_nobody() {
    let (service, address) = Bare::new().await;
    let gateway = Gateway::with(address, &["workers=1"]);
    let id = gateway.runs().await;
    for length in ["content-length: 2", "connection: close"] {
        let (mut client, mut switching) = hasty(&service, &gateway, id).await;
        let answer = format!("HTTP/1.1 403 Forbidden\r\n{length}\r\n\r\nno");
        switching.write_all(answer.as_bytes()).await.unwrap();
        if length == "connection: close" {
            switching.shutdown().await.unwrap();
        }
        let mut told = Vec::new();
        let read = timeout(DEADLINE, client.read_to_end(&mut told)).await;
        read.expect("it is closed").unwrap();
        let told = String::from_utf8(told).unwrap();
        let statuses: Vec<_> = told
            .split("HTTP/1.1 ")
            .skip(1)
            .map(|one| &one[..3])
            .collect();
        assert_eq!(statuses, ["403", "400"], "{told}");
        // The next request of the session may have the connection, and finds nothing on it before its own.
        let path = format!("/{id}/preview/next");
        let request = gateway.request("GET", &path, &[], bytes::Bytes::new());
        let next = tokio::spawn(client::send(gateway.address, request));
        let answers = async {
            let reused = head(&mut switching).await;
            if !reused.is_empty() {
                return (switching, reused);
            }
            service.asked().await
        };
        let (mut stream, asked) = timeout(DEADLINE, answers).await.expect("in time");
        assert!(
            asked.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
            "{asked}"
        );
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
        stream.write_all(answer.as_bytes()).await.unwrap();
        assert_eq!(next.await.unwrap().text(), "ok");
    }
}
