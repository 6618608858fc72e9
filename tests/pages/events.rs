//! `/-/events`: each change once, to as many as may listen, for as long as there is something to tell.

use std::time::Duration;

use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::timeout;

use super::*;
use crate::support::{DEADLINE, Kept};

const WAYS: [Way; 2] = [Way::Http1, Way::Http2];

/// An open stream of events, with the connection it is on.
struct Events {
    body: Incoming,
    _line: Kept,
}

impl Events {
    async fn open(gateway: &Gateway, way: Way, id: SessionId) -> Self {
        let mut line = way.plain(gateway.address).await.unwrap();
        let asked = line.ask("GET", &format!("/{id}/-/events"));
        let answer = line.send(asked.body(nothing()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        Self {
            body: answer.into_body(),
            _line: line,
        }
    }

    /// The next event; `None` at a clean end.
    async fn next(&mut self) -> Option<Value> {
        let data = loop {
            let frame = timeout(DEADLINE, self.body.frame()).await.expect("in time");
            let data = frame?.expect("no break").into_data().expect("data");
            // HTTP/2 may end with an empty one.
            if !data.is_empty() {
                break data;
            }
        };
        let text = std::str::from_utf8(&data).expect("text");
        let event = text.strip_prefix("retry: 1000\ndata: ").expect(text);
        let event = event.strip_suffix("\n\n").expect(text);
        assert!(!event.contains('\n'), "one event at a time: {text}");
        Some(serde_json::from_str(event).expect("JSON"))
    }

    /// The events until one is as wanted, that one included. No two in a row tell the same.
    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        while events.last().is_none_or(|last| !wanted(last)) {
            let event = self.next().await.expect("it goes on");
            if let Some(last) = events.last() {
                assert_ne!(told(last), told(&event), "told twice");
            }
            events.push(event);
        }
        events
    }
}

/// What an event is about: all of it but how long things have taken.
fn told(event: &Value) -> Value {
    let mut event = event.clone();
    for service in event["services"].as_array_mut().expect("services") {
        let service = service.as_object_mut().expect("an object");
        for changing in ["seconds", "stages", "retry"] {
            service.remove(changing);
        }
    }
    for changing in ["used", "left"] {
        event.as_object_mut().expect("an object").remove(changing);
    }
    event
}

/// The states that were gone through.
fn states(events: &[Value]) -> Vec<&str> {
    let mut states: Vec<_> = events
        .iter()
        .map(|event| event["state"].as_str().unwrap())
        .collect();
    states.dedup();
    states
}

fn all_run(event: &Value) -> bool {
    let services = event["services"].as_array().unwrap();
    services.iter().all(|service| service["state"] == "running")
}

#[tokio::test]
async fn each_change_of_a_session_is_told_once_and_to_listen_starts_nothing() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    for (round, way) in WAYS.into_iter().enumerate() {
        gateway.sessions.gate(false);
        let id = SessionId::random();
        let mut events = Events::open(&gateway, way, id).await;
        let first = events.next().await.unwrap();
        assert_eq!(first["state"], "absent", "{first}");
        assert_eq!(
            gateway.sessions.starts(),
            2 * round,
            "to listen starts nothing"
        );

        // Twice: what is known of the session is forgotten in between.
        for _ in 0..2 {
            let start = gateway.send("POST", &format!("/{id}/-/start"), &[]).await;
            assert_eq!(start.status, StatusCode::ACCEPTED);
            let mut ran = events
                .until(|event| event["services"][0]["stage"] == "disk")
                .await;
            gateway.sessions.gate(true);
            ran.extend(events.until(all_run).await);
            assert_eq!(states(&ran), ["starting", "running"]);
            let stages: Vec<_> = ran
                .iter()
                .rev()
                .find_map(|event| event["services"][0]["stages"].as_array())
                .expect("it told its stages")
                .iter()
                .map(|stage| stage["name"].as_str().unwrap())
                .collect();
            // What comes quickly is told at once.
            let all = ["queue", "disk", "port"];
            assert!(stages.len() >= 2 && all.starts_with(&stages), "{stages:?}");
            let instance = gateway.slot(id).instance.expect("it runs");
            assert_eq!((instance.leases(), instance.last_used()), (0, None));

            let facts = gateway.sessions.facts();
            facts.announced(id, instance.uid(), Some(Timestamp::MAX));
            let announced = events.next().await.unwrap();
            assert_eq!(announced["stop"], Timestamp::MAX.to_string());
            assert!(announced["left"].as_u64() > Some(0), "{announced}");

            gateway.sessions.gate(false);
            gateway.send("POST", &format!("/{id}/-/stop"), &[]).await;
            let ended = events.until(|event| event["state"] == "stopped").await;
            assert!(ended.len() <= 2, "{ended:?}");
        }
    }
}

#[tokio::test]
async fn a_failure_is_told_with_what_may_become_of_it() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let id = gateway.runs().await;
    let uid = gateway.slot(id).instance.expect("it runs").uid();
    let mut events = Events::open(&gateway, Way::Http1, id).await;
    assert!(all_run(&events.next().await.unwrap()));
    let error = "no such image".into();
    let stuck = Progress::Stuck(Arc::new(Reason::Image { error }));
    gateway.sessions.facts().pending(id, uid, stuck);
    let event = events.next().await.unwrap();
    let preview = &event["services"][0];
    for (key, expected) in [
        ("state", Value::from("failed")),
        ("code", "image_unavailable".into()),
        ("reason", "the session's image cannot be fetched".into()),
        ("passes", true.into()),
    ] {
        assert_eq!(preview[key], expected, "{key}: {event}");
    }
    let retry = preview["retry"].as_f64().unwrap();
    assert!((4.0..=5.0).contains(&retry), "{event}");
}

#[tokio::test]
async fn as_many_listen_as_may_and_who_leaves_makes_room() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &["spawn.held=2"]);
    for way in WAYS {
        let id = SessionId::random();
        let path = format!("/{id}/-/events");
        let mut first = Events::open(&gateway, way, id).await;
        let mut second = Events::open(&gateway, way, id).await;
        for events in [&mut first, &mut second] {
            assert_eq!(events.next().await.unwrap()["state"], "absent");
        }
        let refused = gateway.send("GET", &path, &[]).await;
        assert_eq!(
            (refused.status, &*refused.code()),
            (StatusCode::SERVICE_UNAVAILABLE, "too_many_waiting")
        );
        // Others of other sessions are not kept out.
        drop(Events::open(&gateway, way, SessionId::random()).await);
        drop(first);
        let mut line = way.plain(gateway.address).await.unwrap();
        let begun = tokio::time::Instant::now();
        loop {
            let asked = line.ask("GET", &path).body(nothing()).unwrap();
            let answer = line.send(asked).await.unwrap();
            if answer.status() == StatusCode::OK {
                break;
            }
            answer.into_body().collect().await.unwrap();
            assert!(begun.elapsed() < DEADLINE, "who left keeps the place");
        }
    }
}

#[tokio::test]
async fn a_head_has_no_body_and_another_method_is_not_served() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &["spawn.held=1"]);
    let path = format!("/{}/-/events", SessionId::random());
    for way in WAYS {
        let mut line = way.plain(gateway.address).await.unwrap();
        // More often than there are places: a look takes none.
        for _ in 0..3 {
            let head = line.ask("HEAD", &path).body(nothing()).unwrap();
            let answer = line.send(head).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
            assert_eq!(answer.headers()["content-type"], "text/event-stream");
            assert!(
                !answer.headers().contains_key("content-length"),
                "{answer:?}"
            );
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(body.is_empty());
        }
        let post = line.ask("POST", &path).body(nothing()).unwrap();
        let answer = line.send(post).await.unwrap();
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()["allow"], "GET, HEAD");
    }
}

#[tokio::test]
async fn events_end_cleanly_and_at_once_when_the_gateway_drains() {
    let service = Service::echo().await;
    // What streams may take, and the grace, would be noticed.
    let settings = ["shutdown.grace=300s", "shutdown.streams=300s"];
    let gateway = Gateway::with(service.address, &settings);
    let mut open = Vec::new();
    for way in WAYS {
        let mut events = Events::open(&gateway, way, SessionId::random()).await;
        events.next().await.unwrap();
        open.push(events);
    }
    let ended = tokio::task::spawn_blocking(|| gateway.stop());
    for events in &mut open {
        assert_eq!(events.next().await, None);
    }
    drop(open);
    let ended = timeout(Duration::from_secs(30), ended).await;
    ended.expect("it ends").unwrap();
}
