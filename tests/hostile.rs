//! Hostile clients and hostile services, through real sockets: what each gets, and that nobody else is hurt by it.

mod clients;
mod limits;
mod pods;
mod slow;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use session_gateway::session::SessionId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{DEADLINE, Gateway};

/// A gateway with a running session whose services are at this address.
async fn running(service: SocketAddr) -> (Gateway, SessionId) {
    let gateway = Gateway::with(service, &[]);
    let id = gateway.runs().await;
    (gateway, id)
}

/// Sends bytes, then the end of them where `end` says so, and returns all that comes back until the gateway closes.
async fn talk(address: SocketAddr, bytes: &[u8], end: bool) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The gateway may have closed already: then what it said is what counts.
    let _ = stream.write_all(bytes).await;
    if end {
        let _ = stream.shutdown().await;
    }
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .unwrap_or_else(|_| panic!("closed in time: {}", bytes.escape_ascii()));
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of an answer and, if it is a problem, its code; `closed` if there is none.
fn outcome(answer: &str) -> String {
    let answer = answer
        .strip_prefix("HTTP/1.1 100 Continue\r\n\r\n")
        .unwrap_or(answer);
    let Some(status) = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
    else {
        return if answer.is_empty() {
            "closed".to_owned()
        } else {
            format!("garbage: {answer}")
        };
    };
    let code = answer
        .lines()
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.strip_prefix("session-gateway-code: "));
    code.map_or_else(|| status.to_owned(), |code| format!("{status} {code}"))
}
