//! A client that sends exactly what it is told.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use session_gateway::session::Intent;

use super::DEADLINE;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("the value is text"))
    }

    /// The code of a problem document.
    pub fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        let problem: serde_json::Value =
            serde_json::from_slice(&self.body).expect("the problem is JSON");
        problem["code"].as_str().expect("it has a code").to_owned()
    }

    /// The state that a page tells.
    pub fn state(&self) -> &str {
        assert!(
            self.header("content-type").starts_with("text/html"),
            "{self:?}"
        );
        let (_, rest) = self
            .text()
            .split_once("data-state=\"")
            .expect("the page tells a state");
        rest.split('"').next().expect("it is quoted")
    }
}

/// Sends a request on a connection of its own; the answer's body is still to be read.
pub async fn open(address: SocketAddr, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
    let stream = TcpStream::connect(address)
        .await
        .expect("the gateway accepts");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .expect("the connection is there");
    tokio::spawn(connection);
    timeout(DEADLINE, sender.send_request(request))
        .await
        .expect("in time")
        .expect("an answer")
}

/// Sends a request on a connection of its own and reads the answer to its end.
pub async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Reply {
    let (head, body) = open(address, request).await.into_parts();
    let body = timeout(DEADLINE, body.collect())
        .await
        .expect("in time")
        .expect("a whole body")
        .to_bytes();
    Reply {
        status: head.status,
        headers: head.headers,
        body,
    }
}

/// As [`send`], of a gateway that may end at any moment.
pub async fn try_send(address: SocketAddr, request: Request<Full<Bytes>>) -> Option<Reply> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.ok()?.into_parts();
    Some(Reply {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.ok()?.to_bytes(),
    })
}

/// Sends bytes as they are and returns all that comes back until the other side closes.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address)
        .await
        .expect("the gateway accepts");
    stream.write_all(bytes).await.expect("it reads");
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .expect("in time")
        .expect("it closes cleanly");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Waits until this line is among the metrics that operators see at this address; all of them.
pub async fn scraped(admin: SocketAddr, line: &str) -> String {
    let mut text = String::new();
    let look = async {
        while !text.lines().any(|one| one == line) {
            let request = Request::get("/metrics").header("host", admin.to_string());
            let reply = send(admin, request.body(Full::default()).expect("a request")).await;
            text = reply.text().to_owned();
        }
    };
    let late = timeout(DEADLINE, look).await;
    assert!(late.is_ok(), "{line} is missing in\n{text}");
    text
}

/// A method and headers.
pub type Sample = (&'static str, Vec<(&'static str, &'static str)>);

/// The site of the frames among the [samples], which a gateway must know.
pub const EMBEDDER: &str = "https://platform.example";

/// Requests of each kind: as browsers send them and as they do where they send no fetch metadata, as programs do.
pub fn samples(intent: Intent) -> Vec<Sample> {
    let page = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let navigates = ("sec-fetch-mode", "navigate");
    let others: &[(&str, &[(&str, &str)])] = match intent {
        Intent::Navigation => &[
            ("GET", &[page]),
            (
                "GET",
                &[
                    navigates,
                    ("sec-fetch-dest", "iframe"),
                    ("sec-fetch-site", "cross-site"),
                    ("referer", EMBEDDER),
                ],
            ),
        ],
        Intent::Submission => &[("POST", &[page])],
        Intent::Api => &[("GET", &[]), ("POST", &[("accept", "application/json")])],
        Intent::Asset => &[
            ("GET", &[("referer", "http://localhost:8000")]),
            ("POST", &[("origin", "http://localhost:8000")]),
        ],
        Intent::PageSocket | Intent::ApiSocket => &[],
        Intent::Passive => &[
            ("OPTIONS", &[]),
            ("GET", &[navigates, ("sec-purpose", "prefetch")]),
            ("GET", &[navigates, ("sec-purpose", "prefetch;prerender")]),
            ("GET", &[page, ("purpose", "prefetch")]),
            ("GET", &[page, ("user-agent", "Slackbot-LinkExpanding 1.0")]),
        ],
    };
    let others = others
        .iter()
        .map(|(method, headers)| (*method, headers.to_vec()));
    [sample(intent)].into_iter().chain(others).collect()
}

/// A request of each kind, as browsers and programs send it.
pub fn sample(intent: Intent) -> Sample {
    let socket = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let host = ("host", "localhost:8000");
    match intent {
        Intent::Navigation => (
            "GET",
            vec![
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
        ),
        Intent::Submission => (
            "POST",
            vec![("sec-fetch-mode", "navigate"), ("accept", "text/html")],
        ),
        Intent::Api => ("GET", vec![("accept", "*/*")]),
        Intent::Asset => (
            "GET",
            vec![
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-mode", "no-cors"),
            ],
        ),
        Intent::PageSocket => (
            "GET",
            [&socket[..], &[host, ("origin", "http://localhost:8000")]].concat(),
        ),
        Intent::ApiSocket => ("GET", socket.to_vec()),
        Intent::Passive => ("HEAD", vec![]),
    }
}
