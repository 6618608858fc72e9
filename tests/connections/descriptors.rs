//! More clients than the process may have files open: those who are in are served, the others wait for their turn.

use tokio::net::TcpStream;

use super::*;
use crate::support::{Way, kit::Served, until};

const DESCRIPTORS: usize = 128;
/// What the log says of it.
const FULL: &str = "new connections wait";

/// A client that has asked, and holds its connection.
async fn asks_and_holds(served: &Served) -> TcpStream {
    let head = format!("GET /nothing HTTP/1.1\r\nhost: {}\r\n\r\n", served.address);
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_process_without_free_descriptors_pauses_and_goes_on() {
    let (served, gateway) = Served::limited(&["workers=2"], DESCRIPTORS).await;
    let mut kept = served.connect(Way::Http1).await.unwrap();
    let mut socket = served.connect(Way::Http1).await.unwrap();
    let mut socket = socket.websocket(&served.path("/")).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        clients.push(asks_and_holds(&served).await);
    }
    until("it has no descriptors", || gateway.log.count(FULL) > 0).await;
    for number in 0..20 {
        // The first needs a new connection to the service.
        let reply = kept.get(&served.path(&format!("/{number}"))).await.unwrap();
        assert_eq!(reply.text(), format!("/{number} 0"));
        let message = Message::binary(vec![number; 100]);
        socket.send(message.clone()).await.unwrap();
        let back = timeout(DEADLINE, socket.next()).await.unwrap();
        assert_eq!(back.unwrap().unwrap(), message);
    }
    assert_eq!(gateway.ask("GET", "/readyz").await.status, 200);
    // Each who is served leaves, and so all are served in the end.
    let mut tasks = tokio::task::JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move { client.read_u8().await.unwrap() });
    }
    while let Some(first) = timeout(DEADLINE, tasks.join_next()).await.expect("in time") {
        assert_eq!(first.unwrap(), b'H');
    }
    assert_eq!(gateway.log.count(FULL), 1, "said once");
    let reply = kept.get(&served.path("/last")).await.unwrap();
    assert_eq!(reply.text(), "/last 0");
}
