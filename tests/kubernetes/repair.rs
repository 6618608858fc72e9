//! What somebody else did to a session's objects, and what its next start makes of that.

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use session_gateway::session::SessionId;
use tokio::time::Instant;

use super::{
    OBJECTS, names,
    shape::{documents, starts},
};
use crate::support::{
    DEADLINE,
    cluster::{API, ASSET, Relay},
    serve::Serve,
};

#[tokio::test]
async fn an_object_that_somebody_deleted_is_there_again_after_the_next_start() {
    let relay = Relay::with_every_secret().await;
    let secret = copied_secret(&relay, "old").await;
    let gateway = relay.gateway(&[&format!("envSecrets={{{secret}}}")]).await;
    let id = SessionId::random();
    starts(&gateway, id).await;
    let before = documents(&relay, id).await;
    let base = format!("dev-session-{id}");
    for (path, name) in [
        ("api/v1", format!("services/{base}-lb")),
        ("api/v1", format!("services/{base}-chat")),
        ("api/v1", format!("limitranges/{base}")),
        (
            "apis/networking.k8s.io/v1",
            format!("networkpolicies/{base}"),
        ),
        ("api/v1", format!("persistentvolumeclaims/{base}-workspace")),
        ("api/v1", format!("secrets/{secret}")),
        ("api/v1", format!("serviceaccounts/{base}")),
    ] {
        stops(&gateway, id).await;
        let path = format!("/{path}/namespaces/{id}/{name}");
        delete(&relay, &path).await;
        starts(&gateway, id).await;
        let after = documents(&relay, id).await;
        let names = |all: &std::collections::BTreeMap<String, Value>| -> Vec<String> {
            all.keys().cloned().collect()
        };
        assert_eq!(names(&after), names(&before), "after {name} was deleted");
    }
}

/// Deletes an object and waits until it is gone.
async fn delete(relay: &Relay, path: &str) {
    let call = |method: &str| {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.body(vec![]).expect("a request");
        relay.client.request::<Value>(request)
    };
    call("DELETE").await.expect("it is deleted");
    while call("GET").await.is_ok() {}
}

/// Makes a Secret in the gateway's own namespace; returns its name.
async fn copied_secret(relay: &Relay, value: &str) -> String {
    let name = format!("keys-{}", SessionId::random());
    let secret = json!({ "metadata": { "name": name }, "stringData": { "KEY": value } });
    let secret: Secret = serde_json::from_value(secret).expect("a Secret");
    let made = relay
        .within("default")
        .create(&PostParams::default(), &secret)
        .await;
    made.expect("it is made");
    name
}

#[tokio::test]
async fn a_secret_that_was_changed_is_copied_anew_at_the_next_start() {
    let relay = Relay::with_every_secret().await;
    let name = copied_secret(&relay, "old").await;
    let gateway = relay.gateway(&[&format!("envSecrets={{{name}}}")]).await;
    let id = SessionId::random();
    starts(&gateway, id).await;
    let change = Patch::Merge(json!({ "stringData": { "KEY": "new" } }));
    let secrets = relay.within::<Secret>("default");
    let changed = secrets
        .patch(&name, &PatchParams::default(), &change)
        .await
        .expect("it is changed");
    stops(&gateway, id).await;
    starts(&gateway, id).await;
    let copy = relay
        .within::<Secret>(&relay.namespace(id))
        .get(&name)
        .await
        .expect("it is there");
    assert_eq!(copy.data, changed.data);
}

/// A new template is for new starts: what runs goes on as it is, whoever is asked.
#[tokio::test]
async fn a_changed_setting_takes_effect_at_the_next_start_and_not_before() {
    let relay = Relay::apart().await;
    let old = relay.gateway(&["image.tag=old"]).await;
    let id = SessionId::random();
    starts(&old, id).await;
    let before = relay.pod(id).await;
    assert_eq!(image(&before), "dev-session:old");

    let other = relay.another().await;
    let new = other.gateway(&["image.tag=new,services=single"]).await;
    starts(&new, id).await;
    let again = new.send("POST", &format!("/{id}/-/start"), API).await;
    assert!(again.status.is_success(), "{again:?}");
    starts(&new, id).await;
    let same = relay.pod(id).await;
    assert_eq!(
        (&same.metadata.uid, image(&same)),
        (&before.metadata.uid, image(&before))
    );

    let claim = "persistentvolumeclaims dev-session-UUID-workspace";
    let disk = documents(&relay, id).await[claim]["metadata"]["uid"].clone();
    stops(&new, id).await;
    starts(&new, id).await;
    assert_eq!(image(&relay.pod(id).await), "dev-session:new");
    assert_eq!(
        documents(&relay, id).await[claim]["metadata"]["uid"],
        disk,
        "the disk is kept"
    );
}

fn image(pod: &Pod) -> &str {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    container
        .and_then(|container| container.image.as_deref())
        .unwrap_or_default()
}

/// Without the mark on its account a session is gone through from the first step: nothing changes by that.
#[tokio::test]
async fn a_start_that_finds_everything_there_changes_nothing_but_its_record() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&["quota.pods=2"]).await;
    let id = SessionId::random();
    starts(&gateway, id).await;
    stops(&gateway, id).await;
    let accounts = relay.within::<ServiceAccount>(&relay.namespace(id));
    let unmark = json!({ "metadata": { "annotations": { "dev-session/plan": null } } });
    let params = PatchParams::default();
    let unmarked = accounts
        .patch(&format!("dev-session-{id}"), &params, &Patch::Merge(unmark))
        .await;
    unmarked.expect("it is changed");
    let before = documents(&relay, id).await;
    starts(&gateway, id).await;
    let after = documents(&relay, id).await;
    for (name, object) in &before {
        // The cluster itself writes how much of a quota is used.
        if name.starts_with("serviceaccounts ") || name.starts_with("resourcequotas ") {
            continue;
        }
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        assert_eq!(version(object), version(&after[name]), "{name} was written");
    }
}

#[tokio::test]
async fn a_pod_of_somebody_else_under_the_sessions_name_is_left_alone_and_told() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&[]).await;
    let id = SessionId::random();
    starts(&gateway, id).await;
    stops(&gateway, id).await;
    let name = format!("dev-session-{id}");
    let pods = relay.within::<Pod>(&relay.namespace(id));
    let foreign = json!({
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": "other", "image": "other" }] },
    });
    let foreign: Pod = serde_json::from_value(foreign).expect("a pod");
    let made = pods
        .create(&PostParams::default(), &foreign)
        .await
        .expect("it is made");
    for what in ["chat/", "preview/"] {
        let reply = gateway.send("GET", &format!("/{id}/{what}"), API).await;
        assert_eq!(
            (reply.status.as_u16(), &*reply.code()),
            (503, "session_failed"),
            "{reply:?}"
        );
        let problem: Value = serde_json::from_slice(&reply.body).expect("a problem");
        assert_eq!(problem["reason"]["code"], "not_ours", "{problem}");
    }
    stops(&gateway, id).await;
    let kept = pods.get(&name).await.expect("it is still there").metadata;
    assert_eq!(
        (kept.uid, kept.deletion_timestamp, kept.labels),
        (made.metadata.uid, None, None)
    );

    // Once it is gone, a person may try again.
    let gone = pods
        .delete(&name, &DeleteParams::default().grace_period(0))
        .await;
    gone.expect("it is deleted");
    while pods.get_opt(&name).await.expect("an answer").is_some() {}
    gateway.send("POST", &format!("/{id}/-/start"), API).await;
    starts(&gateway, id).await;
    assert_eq!(names(&relay.objects(id).await), OBJECTS);
}

/// A release of the chart that deployed sessions before: it is served, and never written to.
#[tokio::test]
async fn a_session_that_helm_installed_is_served_and_never_touched() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&[]).await;
    let id = SessionId::random();
    let name = format!("dev-session-{id}");
    let labels = json!({
        "app.kubernetes.io/name": "dev-session",
        "app.kubernetes.io/managed-by": "Helm",
        "dev-session/uuid": id.to_string(),
    });
    let namespace = json!({ "metadata": { "name": id.to_string() } });
    let namespace: Namespace = serde_json::from_value(namespace).expect("a namespace");
    let post = PostParams::default();
    relay
        .namespaces()
        .create(&post, &namespace)
        .await
        .expect("it is made");
    let account = json!({ "metadata": { "name": name, "labels": labels } });
    let account: ServiceAccount = serde_json::from_value(account).expect("an account");
    let accounts = relay.within::<ServiceAccount>(&relay.namespace(id));
    accounts.create(&post, &account).await.expect("it is made");
    // As a Deployment names its pods.
    let pod = json!({
        "metadata": { "name": format!("{name}-5d4f8c7b9-x2x4z"), "labels": labels },
        "spec": {
            "serviceAccountName": name,
            "containers": [{ "name": "session", "image": "dev-session:chart" }],
        },
    });
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    let pods = relay.within::<Pod>(&relay.namespace(id));
    let made = pods.create(&post, &pod).await.expect("it is made");
    let pod_name = made.metadata.name.expect("it has a name");

    let path = format!("/{id}/chat/");
    relay.clear().await;
    served(&gateway, &path).await;
    let reply = gateway.send("POST", &format!("/{id}/-/stop"), API).await;
    assert!(!reply.status.is_success(), "{reply:?}");
    gateway.send("POST", &format!("/{id}/-/start"), API).await;
    served(&gateway, &path).await;

    // Its Deployment would replace it: whoever asks meanwhile may wait, and starts nothing.
    let gone = pods
        .delete(&pod_name, &DeleteParams::default().grace_period(0))
        .await;
    gone.expect("it is deleted");
    let begun = Instant::now();
    loop {
        let meanwhile = gateway.send("GET", &path, ASSET).await;
        if meanwhile.status == 503 {
            break;
        }
        // It learns by its watch that the pod is gone.
        assert_eq!(meanwhile.status, 200, "{meanwhile:?}");
        assert!(
            begun.elapsed() < DEADLINE,
            "the pod that is gone is still asked"
        );
    }
    pods.create(&post, &pod).await.expect("it is made");
    served(&gateway, &path).await;
    let writes = relay.writes().await;
    assert!(writes.is_empty(), "{writes:#?}");
}

/// Asks until a pod answers: the gateway learns of it by its watch.
async fn served(gateway: &Serve, path: &str) {
    let begun = Instant::now();
    loop {
        let reply = gateway.send("GET", path, API).await;
        if reply.status == 200 {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{reply:?}");
    }
}

/// Stops a session.
pub(super) async fn stops(gateway: &Serve, id: SessionId) {
    let reply = gateway.send("POST", &format!("/{id}/-/stop"), API).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}
