//! SIGTERM, step by step: what each client is told, and when.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::spawn_blocking,
};

use super::{load::closed, *};
use crate::support::{Way, kept::nothing, kit::Served, until};

/// Kinds of frames of HTTP/2 (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// The flag by which a frame of settings or a ping is an answer.
const ACK: u8 = 1;

/// Sends a request on a connection of HTTP/1.1 that is kept.
async fn write(stream: &mut TcpStream, served: &Served, target: &str) {
    let (path, host) = (served.path(target), served.address);
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

/// Reads the answer to a target, which is all there is to read.
async fn read(stream: &mut TcpStream, target: &str) -> String {
    let (mut text, end) = (String::new(), format!("\r\n\r\n{target} 0"));
    let read = async {
        while !text.ends_with(&end) {
            text.push(stream.read_u8().await.unwrap().into());
        }
    };
    timeout(DEADLINE, read).await.expect("in time");
    text
}

/// Waits for the end of the process, which must be in order; what it wrote to its log is still there.
async fn ended(mut gateway: Serve) -> Serve {
    let ended = spawn_blocking(move || (gateway.ended(), gateway));
    let (status, gateway) = timeout(DEADLINE, ended).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(0));
    gateway
}

/// Whoever balances must hear that it ends before it takes no more.
#[tokio::test]
async fn during_the_delay_it_is_not_ready_and_serves_as_before() {
    let (served, gateway) = Served::start(false, &["shutdown.delay=300s"]).await;
    let mut kept = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(gateway.ask("GET", "/readyz").await.text(), "ready\n");
    gateway.signal("TERM");
    let unready = async {
        loop {
            let reply = gateway.ask("GET", "/readyz").await;
            if reply.status != StatusCode::OK {
                return (reply.status, reply.text().to_owned());
            }
        }
    };
    let unready = timeout(DEADLINE, unready).await.expect("in time");
    let ending = "ending\n".to_owned();
    assert_eq!(unready, (StatusCode::SERVICE_UNAVAILABLE, ending));
    let mut new = TcpStream::connect(served.address).await.unwrap();
    for (stream, target) in [(&mut kept, "/kept"), (&mut new, "/new")] {
        write(stream, &served, target).await;
        let answer = read(stream, target).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    gateway.signal("TERM");
    ended(gateway).await;
}

#[tokio::test]
async fn in_the_drain_an_answer_over_http1_says_that_it_is_the_last() {
    let (served, gateway) = Served::start(false, &["shutdown.grace=300s"]).await;
    let mut kept = TcpStream::connect(served.address).await.unwrap();
    write(&mut kept, &served, "/before").await;
    let before = read(&mut kept, "/before").await;
    assert!(!before.contains("connection: close"), "{before}");
    write(&mut kept, &served, "/held").await;
    until("it is held", || served.kit.times("/held") == 1).await;
    gateway.signal("TERM");
    closed(served.address).await;
    served.kit.release.send_replace(true);
    let last = read(&mut kept, "/held").await;
    assert!(last.starts_with("HTTP/1.1 200 "), "{last}");
    assert!(last.contains("\r\nconnection: close\r\n"), "{last}");
    let end = timeout(DEADLINE, kept.read_u8()).await.expect("it ends");
    assert!(end.is_err(), "nothing comes after it");
    ended(gateway).await;
}

/// A frame: kind, flags, stream, and what it holds. `None` at the end of the connection.
async fn frame(stream: &mut TcpStream) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    let read = timeout(DEADLINE, stream.read_exact(&mut head)).await;
    read.expect("in time").ok()?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let mut held = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut held).await.unwrap();
    Some((kind, flags, u32::from_be_bytes(id), held))
}

/// A request of HTTP/2 for a path, as the first of a connection, in fields that are not compressed.
fn first_request(host: &str, path: &str) -> Vec<u8> {
    let text = |bytes: &mut Vec<u8>, index: u8, text: &str| {
        bytes.extend([index, u8::try_from(text.len()).unwrap()]);
        bytes.extend(text.as_bytes());
    };
    // GET and http, of the static table.
    let mut fields = vec![0x82, 0x86];
    text(&mut fields, 1, host);
    text(&mut fields, 4, path);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let length = u8::try_from(fields.len()).unwrap();
    bytes.extend([0, 0, length, HEADERS, 0x5, 0, 0, 0, 1]);
    bytes.extend(fields);
    bytes
}

/// A first GOAWAY for all that may be on its way, a second that names the last stream, and after that its answer.
#[tokio::test]
async fn in_the_drain_a_connection_of_http2_gets_goaway_and_its_requests_their_answers() {
    let (served, gateway) = Served::start(false, &["shutdown.grace=300s"]).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let (host, path) = (served.address.to_string(), served.path("/held"));
    stream
        .write_all(&first_request(&host, &path))
        .await
        .unwrap();
    until("it is held", || served.kit.times("/held") == 1).await;
    gateway.signal("TERM");
    let (mut told, mut body) = (Vec::new(), Vec::new());
    while let Some((kind, flags, id, held)) = frame(&mut stream).await {
        match kind {
            SETTINGS | PING if flags & ACK == 0 => {
                let held = if kind == PING { &held[..] } else { &[] };
                let head = [0, 0, held.len() as u8, kind, ACK, 0, 0, 0, 0];
                let answer = [&head[..], held].concat();
                stream.write_all(&answer).await.unwrap();
            }
            GOAWAY => {
                let [last, error] =
                    [0, 4].map(|at| u32::from_be_bytes(held[at..at + 4].try_into().unwrap()));
                told.push(format!("goaway {last:#x} {error}"));
                if last == 1 {
                    served.kit.release.send_replace(true);
                }
            }
            HEADERS => told.push(format!("headers {id}")),
            DATA => body.extend(held),
            _ => {}
        }
    }
    assert_eq!(told, ["goaway 0x7fffffff 0", "goaway 0x1 0", "headers 1"]);
    assert_eq!(body, b"/held 0");
    ended(gateway).await;
}

/// What is not answered by the end of the grace is cut, and nobody waits for it any longer.
#[tokio::test]
async fn what_outlives_the_grace_is_cut_and_the_process_ends() {
    let (served, gateway) = Served::start(false, &["shutdown.grace=1s"]).await;
    let mut held = Vec::new();
    for way in [Way::Http1, Way::Http2] {
        let mut kept = served.connect(way).await.unwrap();
        let request = kept.ask("GET", &served.path("/held")).body(nothing());
        let request = request.unwrap();
        held.push(tokio::spawn(async move {
            (kept.send(request).await.is_err(), Instant::now())
        }));
    }
    until("both are held", || served.kit.times("/held") == 2).await;
    let begun = Instant::now();
    gateway.signal("TERM");
    let gateway = ended(gateway).await;
    for one in held {
        let (is_cut, at) = one.await.unwrap();
        assert!(is_cut && at - begun >= Duration::from_secs(1), "{at:?}");
    }
    let said = "connections cut off at the end of the grace";
    until("the log says so", || gateway.log.count(said) == 1).await;
}
