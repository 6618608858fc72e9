//! Connections to services: kept as long as they may be, and for their own service alone.

mod again;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Frame, client::conn::http1, server, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    streaming::running,
    support::{
        DEADLINE, Gateway, Service,
        service::{Bare, text},
    },
};

/// An answer that leaves its connection open.
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn one_connection_to_the_service_carries_one_request_after_the_other() {
    let handler = |request: http::Request<hyper::body::Incoming>| async move {
        let path = request.uri().path().to_owned();
        let mut answer = text("x".repeat(3 * 64 * 1024));
        if path.ends_with("empty") {
            answer = text("");
            *answer.status_mut() = StatusCode::NO_CONTENT;
        } else if path.ends_with("chunked") {
            let frames = stream::iter([
                Ok(Frame::data(Bytes::from("a"))),
                Ok(Frame::data(Bytes::from("b"))),
            ]);
            answer = Response::new(StreamBody::new(frames).boxed());
        }
        Ok::<_, Infallible>(answer)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = Service {
        address: listener.local_addr().unwrap(),
    };
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Relaxed);
            let stream = TokioIo::new(stream);
            tokio::spawn(
                server::conn::http1::Builder::new().serve_connection(stream, service_fn(handler)),
            );
        }
    });
    let (gateway, id) = running(&service).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut before = None;
    for (method, path) in [
        ("GET", "known"),
        ("GET", "known"),
        ("HEAD", "known"),
        ("GET", "empty"),
        ("GET", "chunked"),
        ("POST", "chunked"),
        ("GET", "known"),
        ("POST", "known"),
        ("GET", "known"),
    ] {
        let body = Bytes::from(if method == "POST" { "form" } else { "" });
        let request = gateway.request(method, &format!("/{id}/chat/{path}"), &[], body);
        let answer = timeout(DEADLINE, sender.send_request(request)).await;
        let body = answer.unwrap().unwrap().into_body();
        timeout(DEADLINE, body.collect()).await.unwrap().unwrap();
        let now = connections.load(Relaxed);
        assert_eq!(now, *before.get_or_insert(now), "{method} {path}");
        sender.ready().await.unwrap();
    }
}

/// The connections of a pod are for that pod alone: what is at its address next is another one, and is dialled anew.
#[tokio::test]
async fn a_new_pod_at_the_same_address_gets_a_new_connection_and_the_old_one_is_closed() {
    let (service, address) = Bare::new().await;
    let gateway = Gateway::with(address, &["workers=1"]);
    let id = gateway.runs().await;
    let path = format!("/{id}/preview/");
    let answers = service.answers(OK);
    let (reply, mut old) = tokio::join!(gateway.send("GET", &path, &[]), answers);
    assert_eq!(reply.text(), "ok");
    gateway.sessions.end(id);
    gateway.send("POST", &format!("/{id}/-/start"), &[]).await;
    gateway.until_running(id).await;
    let answers = service.answers(OK);
    let (reply, _new) = tokio::join!(gateway.send("GET", &path, &[]), answers);
    assert_eq!(reply.text(), "ok");
    let mut more = Vec::new();
    let closed = timeout(DEADLINE, old.read_to_end(&mut more)).await;
    closed.expect("it is closed").unwrap();
    assert_eq!(more, b"", "nothing was asked on it");
}
