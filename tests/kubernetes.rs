//! Sessions on a real API server, through a relay that counts, delays, cuts and refuses. Nothing runs in their pods.

mod admission;
mod alone;
mod commands;
mod cycles;
mod faults;
pub(crate) mod idle;
mod import;
mod life;
mod limits;
mod page;
mod races;
mod reasons;
mod refusals;
mod repair;
mod resolver;
mod retention;
mod shape;
mod steady;
mod table;
mod traffic;

use std::collections::BTreeMap;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use serde_json::{Value, json};
use session_gateway::session::SessionId;
use tokio::time::Instant;

use crate::support::{
    DEADLINE, Reply,
    cluster::{API, ASSET, Call, NAVIGATION, Relay},
    serve::try_send_with,
};

/// The most writes of a first start and of a restart.
const WRITES: (usize, usize) = (14, 4);

/// All that a session has by default, without its namespace.
pub(crate) const OBJECTS: [&str; 9] = [
    "LimitRange dev-session-UUID",
    "NetworkPolicy dev-session-UUID",
    "PersistentVolumeClaim dev-session-UUID-workspace",
    "Pod dev-session-UUID",
    "Service dev-session-UUID-chat",
    "Service dev-session-UUID-lb",
    "Service dev-session-UUID-preview",
    "Service dev-session-UUID-vscode",
    "ServiceAccount dev-session-UUID",
];

pub(crate) fn names(objects: &BTreeMap<String, String>) -> Vec<&str> {
    objects.keys().map(String::as_str).collect()
}

fn is_of(call: &Call, id: SessionId) -> bool {
    call.namespace == id.to_string() || call.resource == "namespaces"
}

#[tokio::test]
async fn the_first_request_makes_every_object_once_and_the_next_asks_nothing() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&[]).await;
    let id = SessionId::random();
    let reply = gateway.send("GET", &format!("/{id}/chat/a?b"), API).await;
    let address = relay
        .pod(id)
        .await
        .status
        .and_then(|status| status.pod_ip)
        .expect("it runs");
    assert_eq!(
        (reply.status.as_u16(), reply.text()),
        (200, format!("{address} /a").as_str())
    );

    let first = relay.objects(id).await;
    assert_eq!(names(&first), OBJECTS);
    let namespace = relay
        .namespaces()
        .get(&id.to_string())
        .await
        .expect("it is there");
    let labels = namespace.metadata.labels.expect("it has labels");
    assert_eq!(labels["app.kubernetes.io/managed-by"], "session-gateway");
    assert_eq!(labels["dev-session/uuid"], id.to_string());
    let writes = relay.writes().await;
    assert!(writes.len() <= WRITES.0, "{writes:#?}");

    relay.clear().await;
    for path in ["chat/", "vscode/", "preview/"] {
        let reply = gateway.send("GET", &format!("/{id}/{path}"), API).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let calls = relay.asked().await;
    assert!(calls.is_empty(), "{calls:#?}");

    let stopped = gateway.send("POST", &format!("/{id}/-/stop"), API).await;
    assert_eq!(stopped.status, 200, "{stopped:?}");
    assert_eq!(
        names(&relay.objects(id).await).len(),
        OBJECTS.len() - 1,
        "the pod alone is gone"
    );
    relay.clear().await;
    let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let writes = relay.writes().await;
    assert!(writes.len() <= WRITES.1, "{writes:#?}");
    let (mut before, mut after) = (first, relay.objects(id).await);
    let pods = [&mut before, &mut after].map(|all| all.remove("Pod dev-session-UUID"));
    assert_ne!(pods[0], pods[1]);
    assert_eq!(before, after);
}

#[tokio::test]
async fn operators_see_a_session_its_address_and_what_its_container_said_last() {
    let relay = Relay::new().await;
    let gateway = relay
        .gateway(&["project.id=7", "user.id=a@b.example"])
        .await;
    let id = SessionId::random();
    assert_eq!(
        gateway
            .send("GET", &format!("/{id}/chat/"), API)
            .await
            .status,
        200
    );
    let shown = gateway.ask("GET", &format!("/api/sessions/{id}")).await;
    let shown: Value = serde_json::from_slice(&shown.body).expect("a session");
    assert_eq!(
        (&shown["project"], &shown["user"]),
        (&json!("7"), &json!("a@b.example"))
    );
    let address = relay
        .pod(id)
        .await
        .status
        .and_then(|status| status.pod_ip)
        .expect("it runs");
    let chat = &shown["services"][1];
    assert!(
        chat["address"]
            .as_str()
            .expect("one")
            .starts_with(&format!("{address}:")),
        "{chat}"
    );
    let said = shown["services"][0]["output"].as_str().expect("lines");
    assert!(said.contains("The log of a fake pod."), "{said}");
    let listed = gateway.ask("GET", "/api/sessions?limit=1000").await;
    assert!(listed.text().contains(&id.to_string()));
}

/// Of 400 first requests at two gateways, what each kind is answered, and what is made by all of them.
async fn four_hundred_at_once(faults: serde_json::Value) {
    let one = Relay::new().await;
    let other = one.another().await;
    let gateways = [one.gateway(&[]).await, other.gateway(&[]).await];
    for relay in [&one, &other] {
        relay.faults(faults.clone()).await;
    }
    let id = SessionId::random();
    let kinds = [API, NAVIGATION, API, ASSET];
    let requests = (0..400).map(|number| {
        let gateway = &gateways[number % 2];
        let kind = kinds[number / 2 % 4];
        async move {
            (
                kind,
                gateway.send("GET", &format!("/{id}/chat/"), kind).await,
            )
        }
    });
    let replies: Vec<(_, Reply)> = join_all(requests).await;
    for (kind, reply) in &replies {
        match reply.status.as_u16() {
            200 => {}
            503 if *kind == NAVIGATION => assert_eq!(reply.state(), "starting"),
            503 if *kind == ASSET => assert_eq!(reply.code(), "session_stopped"),
            _ => panic!("{kind:?}: {reply:?}"),
        }
    }
    let api = replies
        .iter()
        .filter(|(kind, reply)| *kind == API && reply.status == 200);
    assert_eq!(api.count(), 200);
    let made: Vec<Call> = [one.writes().await, other.writes().await].concat();
    let made = made
        .into_iter()
        .filter(|call| is_of(call, id) && call.status == 201);
    let mut made: Vec<String> = made
        .map(|call| {
            format!(
                "{} {}",
                call.resource,
                call.name.replace(&id.to_string(), "UUID")
            )
        })
        .collect();
    made.sort();
    #[rustfmt::skip]
    assert_eq!(made, [
        "limitranges dev-session-UUID", "namespaces ", "networkpolicies dev-session-UUID", "persistentvolumeclaims ",
        "pods ", "serviceaccounts dev-session-UUID", "services dev-session-UUID-chat", "services dev-session-UUID-lb",
        "services dev-session-UUID-preview", "services dev-session-UUID-vscode",
    ]);
    assert_eq!(names(&one.objects(id).await), OBJECTS);
}

#[tokio::test]
async fn four_hundred_first_requests_at_two_gateways_make_one_session() {
    four_hundred_at_once(json!({})).await;
}

#[tokio::test]
async fn four_hundred_first_requests_make_one_session_through_a_slow_api_server_that_refuses_a_third()
 {
    four_hundred_at_once(json!({ "delay_ms": 200, "answer": { "status": 429, "every": 3 } })).await;
}

#[tokio::test]
async fn a_pod_that_was_deleted_is_replaced_and_one_that_was_stopped_is_not() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&[]).await;
    let id = SessionId::random();
    let chat = format!("/{id}/chat/");
    assert_eq!(gateway.send("GET", &chat, API).await.status, 200);
    let before = relay.pod(id).await.metadata.uid;

    let pods = relay.within::<Pod>(&id.to_string());
    pods.delete(&format!("dev-session-{id}"), &Default::default())
        .await
        .expect("it is deleted");
    // An asset starts nothing that was stopped, but this one should run.
    let name = format!("dev-session-{id}");
    let begun = Instant::now();
    while pods
        .get_opt(&name)
        .await
        .expect("an answer")
        .is_none_or(|pod| pod.metadata.uid == before)
    {
        assert!(begun.elapsed() < DEADLINE, "it is not replaced");
        // Cut off if the pod that answers is the one that was deleted.
        if let Some(reply) = try_send_with(gateway.address, &chat, ASSET).await {
            assert_eq!(reply.status, 200, "{reply:?}");
        }
    }

    assert_eq!(
        gateway
            .send("POST", &format!("/{id}/-/stop"), API)
            .await
            .status,
        200
    );
    let other = relay.another().await;
    let stranger = other.gateway(&[]).await;
    for gateway in [&gateway, &stranger] {
        let reply = gateway.send("GET", &chat, ASSET).await;
        assert_eq!(
            (reply.status.as_u16(), reply.code().as_str()),
            (503, "session_stopped")
        );
    }
    let accounts = relay.within::<ServiceAccount>(&id.to_string());
    let account = accounts
        .get(&format!("dev-session-{id}"))
        .await
        .expect("it is there");
    assert_eq!(
        account.metadata.annotations.expect("it is the record")["dev-session/state"],
        "stopped"
    );
    assert!(
        pods.list(&Default::default())
            .await
            .expect("a list")
            .items
            .is_empty()
    );
}
