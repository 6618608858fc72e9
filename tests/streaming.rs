//! Streaming: both ways as it comes, in bounded memory, and a client that leaves is noticed.

use std::io;

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Frame, client::conn::http1};
use hyper_util::rt::TokioIo;
use session_gateway::session::SessionId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use crate::support::{
    DEADLINE, Gateway, Service, client, long, raw, service::Answer, service::text, until,
};

pub async fn running(service: &Service) -> (Gateway, SessionId) {
    let gateway = Gateway::with(service.address, &[]);
    let id = SessionId::random();
    gateway.send("POST", &format!("/{id}/-/start"), &[]).await;
    gateway.until_running(id).await;
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

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_upstream() {
    let (service, mut starts) = streaming().await;
    let (gateway, id) = running(&service).await;
    let request = gateway.request("GET", &format!("/{id}/chat/events"), &[], Bytes::new());
    let (mut answer, frames) = tokio::join!(client::open(gateway.address, request), starts.recv());
    let frames = frames.unwrap();
    frames.send("first".into()).unwrap();
    answer.body_mut().frame().await.unwrap().unwrap();
    drop(answer);
    timeout(DEADLINE, frames.closed())
        .await
        .expect("the service hears that nobody listens");
    until("nothing is in flight", || {
        gateway
            .slot(id)
            .instance
            .is_some_and(|one| one.leases() == 0)
    })
    .await;
}

/// A client that leaves before the answer begins: the service's connection is closed.
#[tokio::test]
async fn a_client_that_leaves_early_ends_the_request_upstream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = Service {
        address: listener.local_addr().unwrap(),
    };
    let (gateway, id) = running(&service).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "GET /{id}/chat/ HTTP/1.1\r\nhost: {}\r\n\r\n",
        gateway.address
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let mut asked = loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Probes hang up before they ask.
        if stream.read_u8().await.is_ok() {
            break stream;
        }
    };
    drop(client);
    let mut rest = Vec::new();
    timeout(DEADLINE, asked.read_to_end(&mut rest))
        .await
        .expect("in time")
        .expect("closed");
}

/// What breaks off must look broken, with and without a length.
#[tokio::test]
async fn a_truncated_answer_is_no_clean_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = Service {
        address: listener.local_addr().unwrap(),
    };
    let (gateway, id) = running(&service).await;
    let answers = [
        "content-length: 10\r\n\r\nhalf",
        "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ];
    let serve = async {
        let mut answers = answers.iter();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if stream.read_u8().await.is_err() {
                continue;
            }
            let Some(answer) = answers.next() else { return };
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes())
                .await
                .unwrap();
        }
    };
    let ask = async {
        for _ in answers {
            let request = gateway.request("GET", &format!("/{id}/chat/"), &[], Bytes::new());
            let answer = client::open(gateway.address, request).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert!(answer.into_body().collect().await.is_err(), "a broken body");
        }
    };
    tokio::select! {
        () = serve => unreachable!("it serves on"),
        () = ask => {}
    }
}

const CHUNK: usize = 64 * 1024;

/// A body of `count` chunks that differ, and its checksum (FNV-1a).
fn chunk(number: usize) -> Bytes {
    (0..CHUNK)
        .map(|at| (at.wrapping_mul(31) ^ number.wrapping_mul(131)) as u8)
        .collect::<Vec<_>>()
        .into()
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Sum(u64, usize);

impl Sum {
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325, 0);

    fn add(self, bytes: &[u8]) -> Self {
        let hash = bytes.iter().fold(self.0, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self(hash, self.1 + bytes.len())
    }
}

/// The most memory this process ever had resident, in KiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// 64 MiB up and down, checksums equal, while memory stays flat. Client and service are in this process as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_both_ways_in_bounded_memory() {
    let count = if long() { 16 * 1024 } else { 1024 };
    let service = Service::new(move |request| async move {
        if request.method() == http::Method::GET {
            let frames =
                stream::iter((0..count).map(|n| Ok::<_, io::Error>(Frame::data(chunk(n)))));
            return Response::new(StreamBody::new(frames).boxed());
        }
        let sum = read(request.into_body()).await;
        text(format!("{sum:?}"))
    })
    .await;
    let (gateway, id) = running(&service).await;
    let expected = (0..count).fold(Sum::EMPTY, |sum, n| sum.add(&chunk(n)));
    let path = format!("/{id}/vscode/large");
    let before = peak();

    let down = client::open(
        gateway.address,
        gateway.request("GET", &path, &[], Bytes::new()),
    )
    .await;
    assert_eq!(read(down.into_body()).await, expected);

    let frames = stream::iter((0..count).map(|n| Ok::<_, io::Error>(Frame::data(chunk(n)))));
    let head = gateway
        .request("PUT", &path, &[], Bytes::new())
        .into_parts()
        .0;
    let upload = http::Request::from_parts(head, BodyExt::boxed(StreamBody::new(frames)));
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = sender
        .send_request(upload)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(answer, format!("{expected:?}"));

    let grown = peak() - before;
    assert!(
        grown < 16 * 1024,
        "{grown} KiB more for {} MiB",
        (count * CHUNK) >> 20
    );
}

async fn read(mut body: hyper::body::Incoming) -> Sum {
    let mut sum = Sum::EMPTY;
    while let Some(frame) = body.frame().await {
        sum = sum.add(frame.unwrap().data_ref().unwrap());
    }
    sum
}

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
