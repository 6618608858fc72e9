//! Streaming: both ways as it comes, in bounded memory, and a client that leaves is noticed.

mod early;
mod large;
mod leaves;

use std::io;

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use session_gateway::session::SessionId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

use crate::support::{
    DEADLINE, Gateway, Service, client, long, raw, service::Answer, service::text, until,
};

pub async fn running(service: &Service) -> (Gateway, SessionId) {
    let gateway = Gateway::with(service.address, &[]);
    let id = gateway.runs().await;
    (gateway, id)
}

/// An answer whose body is what the test sends, as it sends it.
fn streamed(frames: mpsc::UnboundedReceiver<Bytes>) -> Answer {
    let frames = stream::unfold(frames, |mut frames| async {
        let frame = frames.recv().await?;
        Some((Ok::<_, io::Error>(Frame::data(frame)), frames))
    });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(StreamBody::new(frames).boxed())
        .unwrap()
}

/// A service whose next answer is streamed by the returned sender.
async fn streaming() -> (
    Service,
    mpsc::UnboundedReceiver<mpsc::UnboundedSender<Bytes>>,
) {
    let (started, starts) = mpsc::unbounded_channel();
    let service = Service::new(move |_| {
        let (frames, body) = mpsc::unbounded_channel();
        started.send(frames).unwrap();
        async { streamed(body) }
    });
    (service.await, starts)
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let (service, mut starts) = streaming().await;
    let (gateway, id) = running(&service).await;
    let request = gateway.request("GET", &format!("/{id}/chat/events"), &[], Bytes::new());
    let (mut answer, frames) = tokio::join!(client::open(gateway.address, request), starts.recv());
    let frames = frames.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    for n in 0..20 {
        // The next is sent only when this one has arrived: none is kept back to be sent with others.
        let event = Bytes::from(format!("id: {n}\ndata: token\n\n"));
        frames.send(event.clone()).unwrap();
        let frame = timeout(DEADLINE, answer.body_mut().frame())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(frame.into_data().unwrap(), event);
    }
    drop(frames);
    assert!(
        timeout(DEADLINE, answer.body_mut().frame())
            .await
            .unwrap()
            .is_none()
    );
}

const CHUNK: usize = 64 * 1024;

/// A held request's body is not read before its session is there, and then arrives whole.
#[tokio::test]
async fn a_held_body_waits_and_arrives_whole() {
    let service = Service::new(|request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        text(format!("{} bytes", body.len()))
    })
    .await;
    let gateway = Gateway::with(service.address, &[]);
    gateway.sessions.gate(false);
    let id = SessionId::random();
    let length = 32 << 20;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST /{id}/chat/ HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n",
        gateway.address
    );
    client.write_all(head.as_bytes()).await.unwrap();
    gateway.until_held(id, 1).await;
    // Sends until the gateway takes no more: far less than the body, since sockets and one buffer hold it.
    let chunk = vec![b'x'; CHUNK];
    let mut sent = 0;
    while let Ok(taken) = timeout(std::time::Duration::from_millis(300), client.write(&chunk)).await
    {
        sent += taken.unwrap();
        assert!(
            sent < length / 2,
            "the gateway reads a body that nobody waits for"
        );
    }
    gateway.sessions.gate(true);
    let mut answer = String::new();
    while sent < length {
        sent += client
            .write(&chunk[..CHUNK.min(length - sent)])
            .await
            .unwrap();
    }
    timeout(DEADLINE, client.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.ends_with(&format!("{length} bytes")), "{answer}");
}

/// Method, framing and body of a request, and what the service sees of them.
#[rustfmt::skip]
const FRAMED: [(&str, &str, &str, &str); 6] = [
    ("GET", "", "", r#"GET None None b"""#),
    ("POST", "content-length: 0003\r\n", "abc", r#"POST Some("3") None b"abc""#),
    ("POST", "content-length: 0\r\n", "", r#"POST Some("0") None b"""#),
    ("GET", "transfer-encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n", r#"GET None Some("chunked") b"abc""#),
    ("DELETE", "content-length: 3\r\n", "abc", r#"DELETE Some("3") None b"abc""#),
    ("PUT", "transfer-encoding: chunked\r\ncontent-length: 9\r\n", "3\r\nabc\r\n0\r\n\r\n", r#"PUT None Some("chunked") b"abc""#),
];

/// Requests and answers in their odd forms: no body, unknown length, HEAD, 204, early answers, keep-alive.
#[tokio::test]
async fn framing_is_passed_on_as_meant() {
    let service = Service::new(|request| async move {
        let (head, body) = request.into_parts();
        let length = head
            .headers
            .get("content-length")
            .map(|value| value.to_str().unwrap().to_owned());
        let coding = head
            .headers
            .get("transfer-encoding")
            .map(|value| value.to_str().unwrap().to_owned());
        let body = body.collect().await.unwrap().to_bytes();
        text(format!("{} {length:?} {coding:?} {body:?}", head.method))
    })
    .await;
    let (gateway, id) = running(&service).await;
    let host = gateway.address;
    for (method, framing, body, expected) in FRAMED {
        let request = format!(
            "{method} /{id}/chat/ HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{framing}\r\n{body}"
        );
        let answer = raw(gateway.address, request.as_bytes()).await;
        assert!(answer.ends_with(expected), "{method} {framing}\n{answer}");
    }
    let head = format!("HEAD /{id}/chat/ HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = raw(gateway.address, head.as_bytes()).await;
    assert!(
        answer.ends_with("\r\n\r\n") && answer.contains("content-length: 18"),
        "{answer}"
    );
    let two = format!(
        "GET /{id}/chat/a HTTP/1.1\r\nhost: {host}\r\n\r\nGET /{id}/chat/b HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    );
    let answer = raw(gateway.address, two.as_bytes()).await;
    assert_eq!(
        answer.matches("HTTP/1.1 200 OK").count(),
        2,
        "pipelined requests are answered in order: {answer}"
    );
}
