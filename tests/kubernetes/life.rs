//! What a cluster does to pods by itself: it evicts them, their containers fail and get well, they take their time to
//! start and to end.

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use session_gateway::session::SessionId;
use tokio::time::{Duration, Instant, sleep};

use super::{OBJECTS, names, shape::starts};
use crate::support::{
    DEADLINE, Reply,
    cluster::{API, ASSET, NAVIGATION, Relay},
    long,
    serve::{Serve, try_send_with},
};

/// Lets the fake node do something to the pod of a session: `tests/cluster/stages.go`.
pub(super) async fn annotate(relay: &Relay, id: SessionId, key: &str, value: Value) {
    let change = json!({ "metadata": { "annotations": { format!("cluster.test/{key}"): value } } });
    let pods = relay.within::<Pod>(&relay.namespace(id));
    let (name, params) = (format!("dev-session-{id}"), PatchParams::default());
    let changed = pods.patch(&name, &params, &Patch::Merge(change)).await;
    changed.expect("it is changed");
}

/// Asks until the answer is as it should be.
async fn until(
    gateway: &Serve,
    id: SessionId,
    what: &str,
    is_it: impl Fn(&Reply) -> bool,
) -> Reply {
    let begun = Instant::now();
    loop {
        let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
        if is_it(&reply) {
            return reply;
        }
        assert!(begun.elapsed() < DEADLINE, "not {what}: {reply:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_evicted_pod_is_replaced_by_the_next_request() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&[]).await;
    let id = SessionId::random();
    starts(&gateway, id).await;
    let before = relay.pod(id).await.metadata.uid;
    annotate(&relay, id, "fail", json!("evicted")).await;
    let begun = Instant::now();
    loop {
        let status = relay.pod(id).await.status.expect("it has one");
        if status.phase.as_deref() == Some("Failed") {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "{status:?}");
    }
    // Until the watch has shown it, the old address is asked.
    let begun = Instant::now();
    while relay.pod(id).await.metadata.uid == before {
        assert!(begun.elapsed() < DEADLINE, "it is not replaced");
        let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    starts(&gateway, id).await;
    assert_eq!(names(&relay.objects(id).await), OBJECTS);
}

/// A failure is told for as long as it lasts, and nobody deletes the pod for it: its container is started again.
#[tokio::test]
async fn a_container_that_crashes_is_told_and_served_again_when_it_is_well() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&[]).await;
    let id = SessionId::random();
    starts(&gateway, id).await;
    let before = relay.pod(id).await.metadata.uid;
    annotate(&relay, id, "fail", json!("crash")).await;
    let refused = |reply: &Reply| reply.status == 503 && reply.code() == "session_failed";
    let reply = until(&gateway, id, "refused", refused).await;
    let problem: Value = serde_json::from_slice(&reply.body).expect("a problem");
    assert_eq!(problem["reason"]["code"], "service_exited", "{problem}");
    let page = gateway
        .send("GET", &format!("/{id}/chat/"), NAVIGATION)
        .await;
    assert_eq!((page.status.as_u16(), page.state()), (503, "failed"));

    annotate(&relay, id, "fail", Value::Null).await;
    until(&gateway, id, "served again", |reply| reply.status == 200).await;
    assert_eq!(relay.pod(id).await.metadata.uid, before);
}

/// Waits until a gateway says this of a session: it learns by its watch what others did.
pub(super) async fn until_told(gateway: &Serve, id: SessionId, is_it: impl Fn(&str) -> bool) {
    let begun = Instant::now();
    loop {
        let reply = gateway.send("GET", &format!("/{id}/-/status"), API).await;
        let status: Value = serde_json::from_slice(&reply.body).expect("a status");
        if is_it(status["state"].as_str().unwrap_or_default()) {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{status}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// While a stop takes its time, requests wait for its end: then some start the session again, and others may not.
#[tokio::test]
async fn requests_that_meet_a_slow_stop_wait_for_its_end() {
    let relay = Relay::apart().await;
    let other = relay.another().await;
    let delay = "podTemplate.metadata.annotations.cluster\\.test/stop-delay=2s";
    let gateways = [relay.gateway(&[delay]).await, other.gateway(&[delay]).await];
    for starter in [0, 1] {
        let id = SessionId::random();
        starts(&gateways[0], id).await;
        let before = relay.pod(id).await.metadata.uid;
        let stop = async {
            let reply = gateways[0]
                .send("POST", &format!("/{id}/-/stop"), API)
                .await;
            assert_eq!(reply.status, 200, "{reply:?}");
        };
        let meanwhile = async {
            until_told(&gateways[starter], id, |state| state == "stopping").await;
            let path = format!("/{id}/chat/");
            let asset = gateways[starter].send("GET", &path, ASSET).await;
            let told = (asset.status.as_u16(), &*asset.code());
            assert_eq!(told, (503, "session_stopped"), "gateway {starter}");
            starts(&gateways[starter], id).await;
        };
        tokio::join!(stop, meanwhile);
        assert_ne!(relay.pod(id).await.metadata.uid, before);
        assert_eq!(names(&relay.objects(id).await), OBJECTS);
    }
}

/// A start that takes its time shows its page, holds its requests and is one start, whoever asks.
#[tokio::test]
async fn a_slow_start_holds_its_requests_at_every_gateway() {
    let relay = Relay::apart().await;
    let other = relay.another().await;
    let delay = "podTemplate.metadata.annotations.cluster\\.test/start-delay=2s";
    let gateways = [relay.gateway(&[delay]).await, other.gateway(&[delay]).await];
    let id = SessionId::random();
    let path = format!("/{id}/chat/");
    let page = gateways[0].send("GET", &path, NAVIGATION).await;
    assert_eq!((page.status.as_u16(), page.state()), (503, "starting"));
    let begun = Instant::now();
    while !relay.objects(id).await.contains_key("Pod dev-session-UUID") {
        assert!(begun.elapsed() < DEADLINE, "no pod");
    }
    // The other gateway has not begun this start, and knows it by its watch.
    let asks = [API, ASSET, API, ASSET]
        .iter()
        .enumerate()
        .map(|(number, kind)| gateways[number % 2].send("GET", &path, kind));
    let replies = join_all(asks).await;
    assert!(
        replies.iter().all(|reply| reply.status == 200),
        "{replies:?}"
    );
    let writes = [relay.writes().await, other.writes().await].concat();
    let pods = writes
        .iter()
        .filter(|call| call.verb == "create" && call.resource == "pods");
    assert_eq!(pods.count(), 1, "{writes:#?}");
}

/// Many sessions at once, each asked for at two gateways: every one starts, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sessions_at_once_start_once_each() {
    // Held for as long as it takes: each request is answered by the pod.
    let (count, hold) = if long() { (100, 300) } else { (40, 120) };
    let relay = Relay::apart().await;
    let other = relay.another().await;
    let settings = [&*format!("spawn.hold={hold}s,spawn.timeout={hold}s")];
    let gateways = [
        relay.gateway(&settings).await,
        other.gateway(&settings).await,
    ];
    let ids: Vec<_> = (0..count).map(|_| SessionId::random()).collect();
    let requests = ids.iter().flat_map(|id| {
        let path = format!("/{id}/chat/");
        gateways.each_ref().map(|gateway| {
            let (address, path) = (gateway.address, path.clone());
            async move { try_send_with(address, &path, API).await }
        })
    });
    for reply in join_all(requests).await {
        let reply = reply.expect("a whole answer");
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let writes = [relay.writes().await, other.writes().await].concat();
    for id in ids {
        let made = writes.iter().filter(|call| {
            call.namespace == relay.namespace(id) && call.resource == "pods" && call.status == 201
        });
        assert_eq!(made.count(), 1, "pods of {id}");
        assert_eq!(names(&relay.objects(id).await), OBJECTS, "{id}");
    }
}
