//! What a page and `explain` are to tell of a session in a cluster, and how long after the cluster knows it.

use std::{future::Future, time::Duration};

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use session_gateway::session::SessionId;
use tokio::time::{Instant, sleep};

use super::{
    DEADLINE, Reply,
    cluster::{NAVIGATION, Relay},
    serve::Serve,
};

/// Ten times what it should take.
const LATEST: Duration = Duration::from_secs(20);

/// What is to be shown.
pub struct Told<'a> {
    /// The page, below the session.
    pub page: &'a str,
    /// What is on it.
    pub on_page: &'a [&'a str],
    /// What `explain` says.
    pub explained: &'a [&'a str],
}

impl Told<'_> {
    /// Waits until a gateway shows it; measures from when `fact` is one.
    pub async fn in_time(&self, gateway: &Serve, id: SessionId, what: &str, fact: impl Future) {
        let page = format!("/{id}/{}", self.page);
        let explain = format!("/api/sessions/{id}/explain");
        let known = async {
            fact.await;
            Instant::now()
        };
        let shown = shown(what, self.on_page, || {
            gateway.send("GET", &page, NAVIGATION)
        });
        let explained = shown_by(what, self.explained, gateway, &explain);
        let (known, shown, explained) = tokio::join!(known, shown, explained);
        let took = shown.max(explained).saturating_duration_since(known);
        let seconds = took.as_secs_f64();
        eprintln!("measured: {what} is shown {seconds:.2} s after the cluster knows it");
        assert!(took < LATEST, "{what}: {took:?}");
    }
}

async fn shown_by(what: &str, words: &[&str], gateway: &Serve, path: &str) -> Instant {
    shown(what, words, || gateway.ask("GET", path)).await
}

/// Asks until all words are in the answer.
async fn shown<F>(what: &str, words: &[&str], ask: impl Fn() -> F) -> Instant
where
    F: Future<Output = Reply>,
{
    let begun = Instant::now();
    loop {
        let reply = ask().await;
        let text = reply.text();
        if words.iter().all(|word| text.contains(word)) {
            return Instant::now();
        }
        assert!(begun.elapsed() < DEADLINE, "{what}: no {words:?} in {text}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until something is true of the cluster.
pub async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < DEADLINE, "not so: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the status of a session's pod has these words.
pub async fn pod_says(relay: &Relay, id: SessionId, words: &str) {
    let (pods, name) = (
        relay.within::<Pod>(&relay.namespace(id)),
        format!("dev-session-{id}"),
    );
    until(words, || async {
        let pod = pods.get_opt(&name).await.expect("an answer");
        let status = pod.and_then(|pod| pod.status);
        serde_json::to_string(&status).is_ok_and(|text| text.contains(words))
    })
    .await;
}

/// The kind of a session's disk.
pub const CLAIM: &str = "PersistentVolumeClaim";

/// What was said of a session's object of this kind.
pub async fn said(relay: &Relay, id: SessionId, kind: &str) -> Vec<Event> {
    let events = relay.within::<Event>(&relay.namespace(id));
    let about = ListParams::default().fields(&format!("involvedObject.kind={kind}"));
    events.list(&about).await.expect("a list").items
}

/// Waits until there is an event of an object of this kind with these words.
pub async fn event_says(relay: &Relay, id: SessionId, (kind, words): (&str, &str)) {
    until(words, || async {
        let all = said(relay, id, kind).await;
        let mut messages = all.iter().filter_map(|event| event.message.as_ref());
        messages.any(|message| message.contains(words))
    })
    .await;
}
