//! The end of a connection: event streams are cut after their time, and everything else is finished.

use hyper::body::Incoming;

use super::*;
use crate::support::{
    kit::{Kit, event},
    tls::Localhost,
    until,
};

#[tokio::test]
async fn at_the_end_an_event_stream_is_cut_after_its_time_and_never_ends_cleanly() {
    let kit = Kit::new().await;
    // A grace that would be noticed.
    let ends = ["shutdown.grace=300s", "shutdown.streams=50ms"];
    let gateway = Gateway::with(kit.service.address, &ends);
    let path = format!("/{}/preview/events", gateway.runs().await);
    let request = gateway.request("GET", &path, &[], Bytes::new());
    let mut body = crate::support::client::open(gateway.address, request)
        .await
        .into_body();
    assert!(body.frame().await.unwrap().is_ok());
    let stopped = tokio::task::spawn_blocking(move || gateway.stop());
    cut(&mut body).await;
    timeout(DEADLINE, stopped).await.expect("in time").unwrap();
}

/// On a connection of HTTP/2 only event streams are cut, however many there were on it, and once they are all there is.
#[tokio::test]
async fn a_request_beside_event_streams_is_finished_at_the_end() {
    let kit = Kit::new().await;
    let ends = ["shutdown.grace=300s", "shutdown.streams=50ms", "workers=1"];
    let gateway = Gateway::with(kit.service.address, &ends);
    let id = gateway.runs().await;
    let path = |end: &str| format!("/{id}/preview/{end}");
    let (one, other) = (http2(&gateway).await, http2(&gateway).await);
    for _ in 0..3 {
        drop(follow(&one, &path("events")).await);
    }
    let mut beside = follow(&one, &path("events")).await;
    let mut alone = follow(&other, &path("events")).await;
    let (held, mut one) = (path("held"), one);
    let asked = held.clone();
    let held = tokio::spawn(async move { one.get(&held).await });
    until("it is held", || kit.times(&asked) == 1).await;
    let stopped = tokio::task::spawn_blocking(move || gateway.stop());
    cut(&mut alone).await;
    kit.tick.send_replace(1);
    let next = timeout(DEADLINE, beside.frame()).await.unwrap();
    assert_eq!(next.unwrap().unwrap().into_data().unwrap(), event(1));
    kit.release.send_replace(true);
    let answer = timeout(DEADLINE, held).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.text(), format!("{asked} 0"));
    cut(&mut beside).await;
    timeout(DEADLINE, stopped).await.expect("in time").unwrap();
}

/// A stream of events on this connection, after its first.
async fn follow(kept: &Kept, path: &str) -> Incoming {
    let mut kept = kept.shared();
    let request = kept.ask("GET", path).body(nothing()).unwrap();
    let mut body = kept.send(request).await.unwrap().into_body();
    let first = timeout(DEADLINE, body.frame()).await.unwrap();
    assert_eq!(first.unwrap().unwrap().into_data().unwrap(), event(0));
    body
}

async fn cut(body: &mut Incoming) {
    let end = timeout(DEADLINE, body.frame()).await.expect("it is cut");
    assert!(end.expect("no clean end").is_err());
}

/// Browsers dial ahead: nobody waits for such a connection, and the end does not either.
#[tokio::test]
async fn a_connection_that_never_asked_does_not_delay_the_end() {
    let (service, localhost) = (Service::echo().await, Localhost::new());
    let mut settings = localhost.settings().to_vec();
    settings.extend(["shutdown.grace=300s", "timeouts.handshake=300s"].map(str::to_owned));
    let gateway = Gateway::with(service.address, &strs(&settings));
    let address = gateway.address;
    let (one, other) = (localhost.client("http/1.1"), localhost.client("h2"));
    let mut silent = vec![
        connect(address, &one, "localhost").await.unwrap(),
        connect(address, &other, "localhost").await.unwrap(),
    ];
    let stopped = tokio::task::spawn_blocking(move || gateway.stop());
    timeout(DEADLINE, stopped).await.expect("in time").unwrap();
    for stream in &mut silent {
        let closed = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await;
        closed.expect("it is closed").ok();
    }
}
