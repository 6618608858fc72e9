//! Why a session is not there: its page and `explain` say it in the cluster's words, within two seconds of when the
//! cluster knows it. How long each took is printed.

mod waits;

use std::time::Duration;

use futures_util::{StreamExt, future::BoxFuture, stream};
use k8s_openapi::api::core::v1::Event;
use kube::api::PostParams;
use serde_json::json;
use session_gateway::session::SessionId;
use tokio::{net::TcpSocket, time::sleep};

use super::{
    life::{annotate, until_told},
    shape::starts,
};
use crate::support::{
    cluster::{API, NAVIGATION, Relay},
    told::{CLAIM, Told, event_says, pod_says, said, until},
};

/// As a setting: annotations of all pods, by the key that the fake node reads.
const NODE: &str = "podTemplate.metadata.annotations.cluster\\.test/";

/// Waits until the API server has refused a gateway something.
async fn is_refused(relay: &Relay) {
    until("it is refused", || async {
        relay.calls().await.iter().any(|call| call.status == 403)
    })
    .await;
}

/// By which the cluster is known to know it.
enum Fact {
    Pod,
    /// Said of an object of this kind: of nothing else it is first.
    Event(&'static str),
    Refusal,
}

/// What a start meets, the settings that make it so, by which words of what it is known that the cluster knows it, and
/// the code and the words that are to be shown.
type Start = (
    &'static str,
    &'static [&'static str],
    (Fact, &'static str),
    &'static str,
    &'static str,
);

#[rustfmt::skip]
const STARTS: [Start; 12] = [
    ("an image that is not there", &["fail=image"], (Fact::Pod, "ErrImagePull"), "image_unavailable", "failed to pull and unpack image"),
    ("an image that is not to be pulled", &["fail=never-pull"], (Fact::Pod, "ErrImageNeverPull"), "image_unavailable", "not present with pull policy of Never"),
    ("an image that has no valid name", &["fail=image-name"], (Fact::Pod, "InvalidImageName"), "image_unavailable", "InvalidImageName"),
    ("a container that refers to what is not there", &["fail=config"], (Fact::Pod, "CreateContainerConfigError"), "container_unstartable", "CreateContainerConfigError: configmap"),
    ("a command that is not there", &["fail=command"], (Fact::Pod, "RunContainerError"), "container_unstartable", "executable file not found"),
    ("a crash loop", &["fail=crash", "message=the last line"], (Fact::Pod, "terminated"), "service_exited", "the last line"),
    ("a container over its memory limit", &["fail=oom"], (Fact::Pod, "OOMKilled"), "out_of_memory", "exit code 137"),
    ("no room", &["fail=unschedulable"], (Fact::Pod, "Unschedulable"), "unschedulable", "Insufficient cpu"),
    ("a volume that is not mounted", &["fail=mount"], (Fact::Event("Pod"), "MountVolume.SetUp failed"), "workspace_unusable", "FailedMount: MountVolume.SetUp failed for volume"),
    ("a claim of no storage class", &["storage.className=nowhere"], (Fact::Event(CLAIM), "nowhere"), "workspace_unusable", "nowhere"),
    ("a quota that is used up", &["quota.pods=0"], (Fact::Refusal, ""), "cluster_refused", "exceeded quota"),
    ("what admission refuses", &["podSecurity=baseline", "podTemplate.spec.hostNetwork=true"], (Fact::Refusal, ""), "cluster_refused", "violates PodSecurity"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_keeps_a_start_from_its_end_is_on_the_page_and_explained_in_seconds() {
    let all = STARTS.into_iter().map(|start| async move {
        let (what, settings, (fact, known), code, words) = start;
        let relay = Relay::apart().await;
        let settings = settings.iter().map(|set| match set.split_once('=') {
            Some(("fail" | "message", _)) => format!("{NODE}{set}"),
            _ => (*set).to_owned(),
        });
        let settings: Vec<_> = settings.collect();
        let settings: Vec<_> = settings.iter().map(String::as_str).collect();
        let gateway = relay.gateway(&settings).await;
        let id = SessionId::random();
        let data = format!("data-code=\"{code}\"");
        let explained = format!("\"code\":\"{code}\"");
        let told = Told {
            page: "chat/",
            on_page: &["data-state=\"failed\"", &data, words],
            explained: &[&explained, words],
        };
        let fact: BoxFuture<'_, ()> = match fact {
            Fact::Pod => Box::pin(pod_says(&relay, id, known)),
            Fact::Event(kind) => Box::pin(event_says(&relay, id, (kind, known))),
            Fact::Refusal => Box::pin(is_refused(&relay)),
        };
        told.in_time(&gateway, id, what, fact).await;
    });
    // Each has a gateway of its own.
    stream::iter(all)
        .buffer_unordered(2)
        .collect::<Vec<()>>()
        .await;
}

/// Says of a session's pod, or of its claim, what a node or a controller would say.
async fn say(relay: &Relay, id: SessionId, reason: &str, message: &str) {
    let events = relay.within::<Event>(&relay.namespace(id));
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let (kind, name, weight) = match reason {
        "FailedBinding" | "WaitForFirstConsumer" => {
            (CLAIM, format!("dev-session-{id}-workspace"), "Normal")
        }
        _ => ("Pod", format!("dev-session-{id}"), "Warning"),
    };
    let event = json!({
        "metadata": { "generateName": "said-" },
        "involvedObject": { "kind": kind, "apiVersion": "v1", "name": name, "namespace": relay.namespace(id) },
        "type": weight, "reason": reason, "message": message, "lastTimestamp": now,
    });
    let event: Event = serde_json::from_value(event).expect("an event");
    let said = events.create(&PostParams::default(), &event).await;
    said.expect("it is said");
}

/// What is said of a pod long after it was made, and then something else.
#[tokio::test]
async fn what_is_said_late_of_a_pod_that_waits_is_told_as_soon_as_the_rest() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&[&format!("{NODE}start-delay=10m")]).await;
    let id = SessionId::random();
    let page = gateway
        .send("GET", &format!("/{id}/chat/"), NAVIGATION)
        .await;
    assert_eq!(page.state(), "starting");
    pod_says(&relay, id, "ContainerCreating").await;
    // It has found no event, and watches for those that come.
    until("events are watched", || async {
        let calls = relay.calls().await;
        let mut events = calls.iter().filter(|call| call.resource == "events");
        let looked = events
            .clone()
            .filter(|call| call.namespace == relay.namespace(id));
        looked.count() >= 2 && events.any(|call| call.verb == "watch")
    })
    .await;
    for (reason, words) in [
        ("FailedBinding", "no persistent volumes available"),
        ("FailedAttachVolume", "Multi-Attach error for volume"),
        ("FailedMount", "MountVolume.MountDevice failed"),
        ("FailedCreatePodSandBox", "failed to setup network"),
    ] {
        let said = format!("{reason}: {words}");
        let told = Told {
            page: "chat/",
            on_page: &["data-state=\"failed\"", &said],
            explained: &[&said],
        };
        let fact = say(&relay, id, reason, words);
        told.in_time(&gateway, id, &format!("a late {reason}"), fact)
            .await;
    }
}

/// What keeps a claim from a disk is said now and then only. It holds of a pod that is made after that, too.
#[tokio::test]
async fn what_was_said_of_a_claim_is_told_of_the_next_pod_as_well() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&["storage.className=nowhere"]).await;
    let id = SessionId::random();
    let page = gateway
        .send("GET", &format!("/{id}/chat/"), NAVIGATION)
        .await;
    assert_eq!(page.state(), "starting");
    event_says(&relay, id, (CLAIM, "nowhere")).await;
    // It may be said anew at that very moment, and does not matter then.
    for _ in 0..5 {
        let stopped = gateway.send("POST", &format!("/{id}/-/stop"), API).await;
        assert_eq!(stopped.status, 200, "{stopped:?}");
        let told = Told {
            page: "chat/",
            on_page: &["data-code=\"workspace_unusable\"", "nowhere"],
            explained: &["\"code\":\"workspace_unusable\"", "nowhere"],
        };
        let fact = pod_says(&relay, id, "Unschedulable");
        let what = "a claim of no storage class that was there before";
        told.in_time(&gateway, id, what, fact).await;
        let made = relay.pod(id).await.metadata.creation_timestamp;
        let last = said(&relay, id, CLAIM).await;
        let last = last.into_iter().filter_map(|event| event.last_timestamp);
        if last.max() < made {
            return;
        }
    }
    panic!("it is told when it is said anew");
}

#[tokio::test]
async fn a_port_that_nothing_listens_on_is_told_by_its_number() {
    let relay = Relay::apart().await;
    let closed = TcpSocket::new_v4().expect("a socket");
    closed
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a free port");
    let port = closed.local_addr().expect("it is bound").port();
    let setting = format!("service.preview.port={port},spawn.hold=1s,spawn.timeout=1s");
    let gateway = relay.gateway(&[&setting]).await;
    let id = SessionId::random();
    let words = format!("nothing listens on port {port}");
    let told = Told {
        page: "preview/",
        on_page: &["data-code=\"port_not_listening\"", &words],
        explained: &["\"code\":\"port_not_listening\"", &words],
    };
    let fact = async {
        pod_says(&relay, id, "Running").await;
        sleep(Duration::from_secs(1)).await;
    };
    told.in_time(&gateway, id, "a port that is closed", fact)
        .await;
}

/// It is no failure: the next request starts it. Until then whoever looks is told, also by a gateway that begins later.
#[tokio::test]
async fn an_eviction_is_told_until_a_request_starts_the_session_again() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&[]).await;
    let id = SessionId::random();
    starts(&gateway, id).await;
    let words = "Evicted: The node was low on resource: memory.";
    let told = Told {
        page: "",
        on_page: &["data-state=\"vanished\"", words],
        explained: &["\"state\":\"vanished\"", "\"code\":\"evicted\"", words],
    };
    annotate(&relay, id, "fail", json!("evicted")).await;
    told.in_time(
        &gateway,
        id,
        "an eviction",
        pod_says(&relay, id, "low on resource"),
    )
    .await;
    let other = relay.another().await;
    let other = other.gateway(&[]).await;
    let fact = std::future::ready(());
    told.in_time(&other, id, "an eviction before its time", fact)
        .await;
    starts(&gateway, id).await;
    for gateway in [&gateway, &other] {
        until_told(gateway, id, |state| state == "running").await;
        let explained = gateway
            .ask("GET", &format!("/api/sessions/{id}/explain"))
            .await;
        assert!(!explained.text().contains("evicted"), "{explained:?}");
    }
}

#[tokio::test]
async fn an_api_server_that_is_away_is_told_of_sessions_that_do_not_run() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&[]).await;
    let id = SessionId::random();
    let told = Told {
        page: "chat/",
        on_page: &["spawner_unavailable"],
        explained: &["\"code\":\"spawner_unavailable\""],
    };
    let fact = relay.faults(json!({ "away": true }));
    told.in_time(&gateway, id, "an API server that is away", fact)
        .await;
}
