//! What idle websockets keep, in the program itself: its allocator is not the one of the tests.

use futures_util::future::join_all;
use tempfile::tempdir;

use super::*;
use crate::support::serve::Serve;

/// Bytes of one, in a build that was not made small. While it opens it takes five times as much.
const EACH: usize = 8 * 1024;

/// Opens so many at once, and returns when all are open.
async fn crowd(gateway: &Serve, count: usize) -> Vec<TcpStream> {
    let (address, id) = (gateway.address, gateway.id);
    let request = format!(
        "GET /{id}/chat/ws HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
    );
    let streams = join_all((0..count).map(|_| TcpStream::connect(address))).await;
    let open = streams.into_iter().map(async |stream| {
        let mut stream = stream.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        stream
    });
    join_all(open).await
}

#[tokio::test]
async fn what_a_crowd_took_to_open_is_given_back_while_its_websockets_stay() {
    let count = if long() { 2000 } else { 400 };
    let data = tempdir().unwrap();
    let limits = [
        "tunnels_per_session",
        "requests_per_session",
        "connections_per_client",
    ];
    let settings = limits.map(|limit| format!("limits.{limit}=4000"));
    let gateway = Serve::start(data.path(), &settings);
    let page = format!("/{}/chat/", gateway.id);
    assert_eq!(gateway.send("GET", &page, &[]).await.status, 200);
    // What the first ones take once is none of theirs.
    let _first = crowd(&gateway, 20).await;
    let before = gateway.resident();
    let _crowd = crowd(&gateway, count).await;
    until("the memory was given back", || {
        gateway.resident().saturating_sub(before) <= count * EACH
    })
    .await;
}
