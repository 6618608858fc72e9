//! What a start waits for without having failed.

use k8s_openapi::api::{
    core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use session_gateway::session::SessionId;
use tokio::time::{Duration, sleep};

use super::say;
use crate::{
    kubernetes::{life::until_told, shape::starts},
    support::{
        cluster::{API, NAVIGATION, Relay},
        long,
        serve::Serve,
        told::{CLAIM, Told, event_says, pod_says, until},
    },
};

/// A storage class whose claims wait for their pods.
async fn class(relay: &Relay, name: &str) {
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": { "name": name }, "provisioner": "kubernetes.io/host-path",
        "volumeBindingMode": "WaitForFirstConsumer",
    }))
    .expect("a class");
    let classes = Api::<StorageClass>::all(relay.client.clone());
    let made = classes.create(&PostParams::default(), &class).await;
    made.expect("it is made");
}

/// Waits until a gateway has read what was said of a session before.
async fn has_read_events(relay: &Relay, id: SessionId) {
    until("its events are read", || async {
        let calls = relay.calls().await;
        let read = calls.iter().filter(|call| {
            call.resource == "events" && call.namespace == relay.namespace(id) && call.status == 200
        });
        // Of the pod, and of its claim.
        read.count() >= 2
    })
    .await;
}

/// What the cluster says of such a claim is as it should be, also to a gateway that hears of it later.
#[tokio::test]
async fn a_disk_that_waits_for_its_pod_is_a_stage_of_the_start_and_no_failure() {
    let relay = Relay::apart().await;
    let id = SessionId::random();
    let name = format!("waits-{id}");
    class(&relay, &name).await;
    let setting = format!("storage.className={name}");
    // So the scheduler leaves the pod alone, and that leaves the disk waiting.
    let gate = "podTemplate.spec.schedulingGates[0].name=cluster.test/held";
    let gateway = relay.gateway(&[&setting, gate]).await;
    let page = format!("/{id}/chat/");
    let first = gateway.send("GET", &page, NAVIGATION).await;
    assert_eq!(first.state(), "starting");
    pod_says(&relay, id, "SchedulingGated").await;
    event_says(&relay, id, (CLAIM, "waiting for")).await;
    let words = "waiting for first consumer to be created before binding";
    say(&relay, id, "WaitForFirstConsumer", words).await;
    let other = relay.another().await;
    let late = other.gateway(&[&setting, gate]).await;
    for relay in [&relay, &other] {
        has_read_events(relay, id).await;
    }
    for gateway in [&gateway, &late] {
        let told = Told {
            page: "chat/",
            on_page: &[
                "data-state=\"starting\"",
                "<li class=\"now\" data-stage=\"schedule\"",
            ],
            explained: &["\"step\":\"schedule\",\"state\":\"now\""],
        };
        let fact = std::future::ready(());
        told.in_time(gateway, id, "a disk that waits for its pod", fact)
            .await;
        let page = gateway.send("GET", &page, NAVIGATION).await;
        assert!(!page.text().contains("data-code"), "{}", page.text());
        let path = format!("/api/sessions/{id}/explain");
        let explained = gateway.ask("GET", &path).await;
        assert!(!explained.text().contains("\"code\":\""), "{explained:?}");
    }
    let pods = relay.within::<Pod>(&relay.namespace(id));
    let free = Patch::Merge(json!({ "spec": { "schedulingGates": null } }));
    let (pod, params) = (format!("dev-session-{id}"), PatchParams::default());
    pods.patch(&pod, &params, &free).await.expect("it is freed");
    starts(&gateway, id).await;
    let claims = relay.within::<PersistentVolumeClaim>(&relay.namespace(id));
    let claim = claims.get(&format!("{pod}-workspace")).await;
    let claim = claim.expect("it is there").spec.expect("it has a spec");
    let volumes = Api::<PersistentVolume>::all(relay.client.clone());
    let volume = claim.volume_name.expect("it is bound");
    let volume = volumes.get(&volume).await.expect("it is there");
    let folder = volume.spec.and_then(|spec| spec.host_path);
    // The cluster leaves nothing of its usual class.
    std::fs::remove_dir_all(folder.expect("it has a folder").path).expect("it is removed");
}

/// A start that waits for the end of a namespace says so, and goes on when it is gone.
#[tokio::test]
async fn an_old_namespace_that_does_not_go_is_what_a_start_says_it_waits_for() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&["spawn.hold=60s"]).await;
    let id = SessionId::random();
    starts(&gateway, id).await;
    // As long as this is there, so is the namespace.
    let maps = relay.within::<ConfigMap>(&relay.namespace(id));
    let held = json!({ "metadata": { "name": "held", "finalizers": ["cluster.test/held"] } });
    let held: ConfigMap = serde_json::from_value(held).expect("one");
    maps.create(&PostParams::default(), &held)
        .await
        .expect("it is made");
    let namespaces = relay.namespaces();
    let now = DeleteParams::default();
    namespaces
        .delete(&relay.namespace(id), &now)
        .await
        .expect("it is deleted");
    until_told(&gateway, id, |state| {
        !["running", "stopping"].contains(&state)
    })
    .await;
    let told = Told {
        page: "chat/",
        on_page: &["<li class=\"now\" data-stage=\"former\""],
        explained: &["\"summary\":\"What ran of it before has ended\""],
    };
    let fact = std::future::ready(());
    told.in_time(&gateway, id, "a namespace that is being deleted", fact)
        .await;
    if long() {
        is_given_up(&gateway, id).await;
    }
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    let params = PatchParams::default();
    maps.patch("held", &params, &free)
        .await
        .expect("it is freed");
    // The namespace's end alone takes the cluster a quarter of a minute.
    until("it is made anew", || async {
        let found = namespaces.get_opt(&relay.namespace(id)).await;
        let made = found.expect("an answer");
        made.is_some_and(|made| made.metadata.deletion_timestamp.is_none())
    })
    .await;
    until_told(&gateway, id, |state| state == "running").await;
}

/// A start waits five minutes for its namespace to go. Then it says what it has waited for, until it is asked again.
async fn is_given_up(gateway: &Serve, id: SessionId) {
    sleep(Duration::from_secs(290)).await;
    let words = "namespace has not been removed yet";
    let told = Told {
        page: "chat/",
        on_page: &[
            "data-state=\"failed\"",
            "data-code=\"still_terminating\"",
            words,
        ],
        explained: &["\"code\":\"still_terminating\"", words],
    };
    let fact = std::future::ready(());
    told.in_time(gateway, id, "a namespace that does not go", fact)
        .await;
    let again = gateway.send("POST", &format!("/{id}/-/start"), API).await;
    assert!(again.status.is_success(), "{again:?}");
}
