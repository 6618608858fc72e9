//! What the cluster refuses, and what is not ours: each has its answer, and nothing is touched.

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use serde_json::{Value, json};
use session_gateway::session::SessionId;

use super::{OBJECTS, life::until_told, names};
use tokio::time::Instant;

use crate::support::{
    DEADLINE,
    cluster::{API, Relay},
    serve::{Serve, try_send},
};

/// Asks a session for the first time; returns the code and the words of the reason why it does not start.
async fn refused(gateway: &Serve, id: SessionId) -> (String, String) {
    let path = format!("/{id}/chat/");
    let begun = Instant::now();
    // A container that ends by itself ran before, and the port of a pod that only seems to run is always open: there is
    // an answer, or half of one.
    let reply = loop {
        match try_send(gateway.address, "GET", &path).await {
            Some(reply) if reply.status != 200 => break reply,
            _ => assert!(begun.elapsed() < DEADLINE, "{id} still runs"),
        }
    };
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.code(), "session_failed");
    let problem: Value = serde_json::from_slice(&reply.body).expect("a problem");
    let text = |key: &str| {
        problem["reason"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (text("code"), text("output"))
}

async fn make_namespace(relay: &Relay, id: SessionId) {
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(id.to_string()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    relay
        .namespaces()
        .create(&PostParams::default(), &namespace)
        .await
        .expect("it is made");
}

#[tokio::test]
async fn a_namespace_that_somebody_else_made_is_never_touched() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&[]).await;
    let id = SessionId::random();
    make_namespace(&relay, id).await;
    let (code, detail) = refused(&gateway, id).await;
    assert_eq!(code, "not_ours");
    assert!(detail.contains(&id.to_string()), "{detail}");
    assert!(relay.objects(id).await.is_empty());
    let writes = relay.writes().await;
    let writes: Vec<_> = writes
        .iter()
        .map(|call| (call.verb.as_str(), call.status))
        .collect();
    assert_eq!(writes, [("create", 409)]);
}

#[tokio::test]
async fn a_namespace_that_goes_away_is_waited_for() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&["spawn.hold=60s"]).await;
    let id = SessionId::random();
    assert_eq!(
        gateway
            .send("GET", &format!("/{id}/chat/"), API)
            .await
            .status,
        200
    );
    let before = relay
        .namespaces()
        .get(&id.to_string())
        .await
        .expect("it is there")
        .metadata
        .uid;
    relay
        .namespaces()
        .delete(&id.to_string(), &DeleteParams::default())
        .await
        .expect("it is deleted");
    // Until its watch has shown that, the old pod is asked.
    until_told(&gateway, id, |state| state != "running").await;
    let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let after = relay
        .namespaces()
        .get(&id.to_string())
        .await
        .expect("it is there")
        .metadata
        .uid;
    assert_ne!(before, after);
    assert_eq!(names(&relay.objects(id).await), OBJECTS);
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_told_in_the_clusters_words() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&["quota.pods=0"]).await;
    let (code, detail) = refused(&gateway, SessionId::random()).await;
    assert_eq!(code, "cluster_refused");
    assert!(detail.contains("exceeded quota"), "{detail}");
}

#[tokio::test]
async fn what_admission_refuses_is_told_in_the_clusters_words() {
    let relay = Relay::new().await;
    let gateway = relay
        .gateway(&["podSecurity=baseline", "podTemplate.spec.hostNetwork=true"])
        .await;
    let (code, detail) = refused(&gateway, SessionId::random()).await;
    assert_eq!(code, "cluster_refused");
    assert!(detail.contains("violates PodSecurity"), "{detail}");
}

#[tokio::test]
async fn a_storage_class_that_is_not_there_is_told_in_the_clusters_words() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&["storage.className=nowhere"]).await;
    let (code, detail) = refused(&gateway, SessionId::random()).await;
    assert_eq!(code, "workspace_unusable");
    assert!(detail.contains("nowhere"), "{detail}");
}

#[tokio::test]
async fn a_secret_is_copied_and_a_missing_one_is_named() {
    let relay = Relay::new().await;
    // The one that the gateway may read there.
    let name = "keys";
    let gateway = relay.gateway(&["envSecrets={keys}"]).await;
    let id = SessionId::random();
    let (code, detail) = refused(&gateway, id).await;
    assert_eq!(code, "secret_missing");
    assert!(detail.contains(name), "{detail}");

    let secret: Secret = serde_json::from_value(
        json!({ "metadata": { "name": name }, "data": { "KEY": "dmFsdWU=" } }),
    )
    .expect("a Secret");
    relay
        .within("default")
        .create(&PostParams::default(), &secret)
        .await
        .expect("it is made");
    let reply = gateway.send("POST", &format!("/{id}/-/start"), API).await;
    assert!(reply.status.is_success(), "{reply:?}");
    assert_eq!(
        gateway
            .send("GET", &format!("/{id}/chat/"), API)
            .await
            .status,
        200
    );
    let copy: Secret = relay
        .within(&id.to_string())
        .get(name)
        .await
        .expect("it is copied");
    assert_eq!(copy.data, secret.data);
    let container = relay
        .pod(id)
        .await
        .spec
        .expect("a spec")
        .containers
        .remove(0);
    let from = container.env_from.expect("the Secret").remove(0);
    assert_eq!(from.secret_ref.expect("a Secret").name, name);
}

#[tokio::test]
async fn ten_wrong_forms_of_an_id_are_not_found_and_cost_no_call() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&[]).await;
    let id = SessionId::random().to_string();
    let wrong = [
        id.to_uppercase(),
        format!("{{{id}}}"),
        format!("urn:uuid:{id}"),
        id.replace('-', ""),
        id[1..].to_owned(),
        format!("{id}0"),
        format!("%{:x}{}", id.as_bytes()[0], &id[1..]),
        id.replace('-', "_"),
        format!("{}g", &id[..35]),
        format!("{id}."),
    ];
    for id in wrong {
        let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
        assert!(
            matches!(reply.status.as_u16(), 404 | 400),
            "{id}: {reply:?}"
        );
    }
    let calls = relay.asked().await;
    assert!(calls.is_empty(), "{calls:#?}");
}
