//! The whole line on a real node: a kubelet and containerd run the pods, whose one program answers on all ports.

mod chart;
mod image;
mod life;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::Full;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use serde_json::Value;
use session_gateway::session::SessionId;
use tokio::net::TcpStream;
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::support::{
    DEADLINE, client,
    cluster::{API, NAVIGATION, Relay, audit},
    serve::Serve,
};

/// What the pods of these tests run.
const IMAGE: [&str; 3] = [
    "image.repository=docker.io/library/dev-session",
    "image.tag=test",
    "image.pullPolicy=Never",
];

/// What a pod's program answers.
fn answered(text: &str, key: &str) -> String {
    let answer: Value =
        serde_json::from_str(text).unwrap_or_else(|_| panic!("no answer of a pod: {text}"));
    answer[key].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_first_request_ends_in_the_pods_own_answer() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&IMAGE).await;
    let id = SessionId::random();
    let asked = Timestamp::now();
    let reply = gateway.send("GET", &format!("/{id}/chat/a?b"), API).await;
    let answer = Timestamp::now();
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(answered(reply.text(), "session"), id.to_string());
    assert_eq!(answered(reply.text(), "service"), "chat");
    let reply = gateway.send("GET", &format!("/{id}/preview/x"), API).await;
    assert_eq!(answered(reply.text(), "path"), format!("/{id}/preview/x"));
    timeline(&relay, id, asked, answer).await;
}

/// Prints when what happened on the way to the first byte.
async fn timeline(relay: &Relay, id: SessionId, asked: Timestamp, answer: Timestamp) {
    let mut all = vec![
        (asked, "request".to_owned()),
        (answer, "first byte".to_owned()),
    ];
    for (time, call) in audit(id) {
        all.push((time, call));
    }
    let pods = relay.within::<Pod>(&id.to_string());
    let status = relay.pod(id).await.status.expect("it runs");
    let scheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|one| one.type_ == "PodScheduled");
    let scheduled = scheduled
        .and_then(|one| one.last_transition_time.as_ref())
        .expect("it is scheduled");
    all.push((scheduled.0, "scheduled (whole seconds)".to_owned()));
    let container = status
        .container_statuses
        .iter()
        .flatten()
        .next()
        .expect("a container");
    let running = container
        .state
        .as_ref()
        .and_then(|state| state.running.as_ref())
        .expect("it runs");
    let started = running.started_at.as_ref().expect("it started");
    all.push((started.0, "container started (whole seconds)".to_owned()));
    let params = LogParams {
        timestamps: true,
        ..LogParams::default()
    };
    let log = pods
        .logs(&format!("dev-session-{id}"), &params)
        .await
        .expect("its log");
    for line in log.lines().filter(|line| line.contains("chat listens")) {
        let (time, line) = line.split_once(' ').expect("a time and a line");
        all.push((time.parse().expect("a time"), line.to_owned()));
    }
    all.sort();
    for (time, what) in all {
        let after = time.as_millisecond() - asked.as_millisecond();
        eprintln!("measured: {after:>6} ms  {what}");
    }
}

#[tokio::test]
async fn a_visitor_waits_on_the_page_and_then_sees_the_app() {
    let relay = Relay::new().await;
    let gateway = relay
        .gateway(&[&IMAGE[..], &["env.START_DELAY=1s"]].concat())
        .await;
    let id = SessionId::random();
    let path = format!("/{id}/preview/a?b=c");
    let first = gateway.send("GET", &path, NAVIGATION).await;
    assert_eq!((first.status.as_u16(), first.state()), (503, "starting"));
    let seen = tokio::time::timeout(DEADLINE, async {
        loop {
            let reply = gateway.send("GET", &path, NAVIGATION).await;
            if reply.status == 200 {
                return reply;
            }
            assert_eq!((reply.status.as_u16(), reply.state()), (503, "starting"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let seen = seen.await.expect("it starts");
    assert_eq!(answered(seen.text(), "session"), id.to_string());
}

#[tokio::test]
async fn a_websocket_echoes_through_the_gateway() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&IMAGE).await;
    let id = SessionId::random();
    let stream = TcpStream::connect(gateway.address)
        .await
        .expect("the gateway accepts");
    let url = format!("ws://{}/{id}/chat/socket", gateway.address);
    // Held until the port accepts: a client that is no browser sends no origin.
    let (mut socket, _) = client_async(url, stream).await.expect("a websocket");
    for text in ["a", "b"] {
        socket.send(Message::text(text)).await.expect("it is sent");
        let back = socket.next().await.expect("an answer").expect("a message");
        assert_eq!(back, Message::text(text));
    }
}

#[tokio::test]
async fn the_disk_keeps_a_file_over_a_stop_and_a_start() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&IMAGE).await;
    let id = SessionId::random();
    let path = format!("/{id}/chat/files/note");
    let written = put(&gateway, &path, "kept").await;
    assert!(written < 300, "{written}");
    let before = relay.pod(id).await.metadata.uid;
    let stopped = gateway.send("POST", &format!("/{id}/-/stop"), API).await;
    assert_eq!(stopped.status, 200, "{stopped:?}");
    let read = gateway.send("GET", &path, API).await;
    assert_eq!((read.status.as_u16(), read.text()), (200, "kept"));
    assert_ne!(relay.pod(id).await.metadata.uid, before);
}

/// Writes a file in a session; returns the status.
async fn put(gateway: &Serve, path: &str, text: impl Into<Bytes>) -> u16 {
    let request = Request::put(path).header("host", gateway.address.to_string());
    let request = request.body(Full::new(text.into())).expect("a request");
    client::send(gateway.address, request).await.status.as_u16()
}
