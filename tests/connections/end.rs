//! The end of a connection: event streams are cut after their time, and everything else is finished.

use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::support::service::Answer;

/// One event, and then no more, with or without an end.
fn events(endless: bool) -> Answer {
    let rest = if endless {
        stream::pending().left_stream()
    } else {
        stream::empty().right_stream()
    };
    let first = http_body::Frame::data(Bytes::from("data: 1\n\n"));
    let frames = stream::iter([Ok(first)]).chain(rest);
    http::Response::builder()
        .header("content-type", "text/event-stream")
        .body(BodyExt::boxed(http_body_util::StreamBody::new(frames)))
        .unwrap()
}

#[tokio::test]
async fn at_the_end_an_event_stream_is_cut_after_its_time_and_never_ends_cleanly() {
    let service = Service::new(|_| async { events(true) }).await;
    // A grace that would be noticed.
    let ends = ["shutdown.grace=300s", "shutdown.streams=50ms"];
    let gateway = Gateway::with(service.address, &ends);
    let path = format!("/{}/preview/", SessionId::random());
    let request = gateway.request("GET", &path, &[], Bytes::new());
    let mut body = crate::support::client::open(gateway.address, request)
        .await
        .into_body();
    assert!(body.frame().await.unwrap().is_ok());
    let stopped = tokio::task::spawn_blocking(move || gateway.stop());
    let end = timeout(DEADLINE, body.frame()).await.expect("it is cut");
    assert!(end.expect("no clean end").is_err());
    timeout(DEADLINE, stopped).await.expect("in time").unwrap();
}

/// On a connection of HTTP/2 only event streams are cut, however many there were on it.
#[tokio::test]
async fn a_request_beside_event_streams_is_finished_at_the_end() {
    let (asked, mut asks) = mpsc::unbounded_channel();
    let service = Service::new(move |request: Request<hyper::body::Incoming>| {
        let path = request.uri().path().to_owned();
        let (release, released) = oneshot::channel::<()>();
        if path.ends_with("/slow") {
            asked.send(release).unwrap();
        }
        async move {
            if path.ends_with("/slow") {
                let _ = released.await;
                return text("finished");
            }
            events(path.ends_with("/endless"))
        }
    })
    .await;
    let ends = ["shutdown.grace=300s", "shutdown.streams=50ms", "workers=1"];
    let gateway = Gateway::with(service.address, &ends);
    let id = SessionId::random();
    let request = |path: &str| {
        let request = get(format!("http://{}/{id}/preview/{path}", gateway.address));
        request.body(Full::<Bytes>::default()).unwrap()
    };
    let mut senders = Vec::new();
    for _ in 0..2 {
        let stream = TcpStream::connect(gateway.address).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        senders.push(sender);
    }
    let [mut one, mut other] = <[_; 2]>::try_from(senders).unwrap();
    for _ in 0..3 {
        let ended = one.send_request(request("ends")).await.unwrap();
        ended.into_body().collect().await.unwrap();
    }
    let slow = tokio::spawn(one.send_request(request("slow")));
    let release = timeout(DEADLINE, asks.recv()).await.unwrap().unwrap();
    let mut endless = other
        .send_request(request("endless"))
        .await
        .unwrap()
        .into_body();
    assert!(endless.frame().await.unwrap().is_ok());
    let stopped = tokio::task::spawn_blocking(move || gateway.stop());
    let end = timeout(DEADLINE, endless.frame()).await.expect("it is cut");
    assert!(end.expect("no clean end").is_err());
    release.send(()).unwrap();
    let answer = timeout(DEADLINE, slow).await.unwrap().unwrap().unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "finished");
    timeout(DEADLINE, stopped).await.expect("in time").unwrap();
}
