//! A gateway or an API server that dies at any moment, and pods that take over each other's addresses.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::json;
use session_gateway::session::SessionId;
use tokio::time::Instant;

use super::{OBJECTS, names};
use crate::support::{
    cluster::{API, Relay, pods},
    long,
    serve::{Serve, try_send},
};

/// Writes of a first start: those that the cut goes through.
const WRITES: usize = 11;

#[tokio::test]
async fn a_start_that_broke_off_after_any_write_is_finished_by_another_gateway() {
    let cuts = (1..=WRITES).flat_map(|write| ["before", "after"].map(|when| (write, when)));
    let rounds = stream::iter(cuts).map(|(write, when)| async move {
        let relay = Relay::apart().await;
        let mut gateway = relay.gateway(&[]).await;
        relay
            .faults(json!({ "cut": { "write": write, "when": when } }))
            .await;
        let id = SessionId::random();
        let (address, path) = (gateway.address, format!("/{id}/chat/"));
        let request = tokio::spawn(async move { try_send(address, "GET", &path).await });
        until_cut(&relay).await;
        gateway.signal("KILL");
        gateway.ended();
        request.await.expect("it ends with the gateway");

        let other = relay.another().await;
        let gateway = other.gateway(&[]).await;
        let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
        assert_eq!(reply.status, 200, "cut {when} write {write}: {reply:?}");
        assert_eq!(
            names(&other.objects(id).await),
            OBJECTS,
            "cut {when} write {write}"
        );
    });
    rounds.buffer_unordered(4).collect::<Vec<()>>().await;
}

async fn until_cut(relay: &Relay) {
    let begun = Instant::now();
    while !relay.calls().await.iter().any(|call| !call.cut.is_empty()) {
        assert!(
            begun.elapsed() < crate::support::DEADLINE,
            "the start made fewer writes: {:#?}",
            relay.calls().await
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn while_the_api_server_is_away_running_sessions_are_served_and_new_ones_refused() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&[]).await;
    let (running, new) = (SessionId::random(), SessionId::random());
    let path = format!("/{running}/chat/");
    assert_eq!(gateway.send("GET", &path, API).await.status, 200);

    relay.faults(json!({ "away": true })).await;
    let away = Instant::now();
    let lasts = Duration::from_secs(if long() { 30 } else { 3 });
    let mut served = 0;
    while served < 1000 || away.elapsed() < lasts {
        let reply = gateway.send("GET", &path, API).await;
        assert_eq!(reply.status, 200, "request {served}: {reply:?}");
        served += 1;
    }
    let reply = gateway.send("GET", &format!("/{new}/chat/"), API).await;
    assert_eq!(
        (reply.status.as_u16(), reply.code().as_str()),
        (503, "spawner_unavailable")
    );

    relay.faults(json!({})).await;
    let back = Instant::now();
    loop {
        let reply = gateway.send("GET", &format!("/{new}/chat/"), API).await;
        if reply.status == 200 {
            break;
        }
        // Ten times what it should take.
        assert!(back.elapsed() < Duration::from_secs(20), "{reply:?}");
    }
}

/// Which session has the address that sessions take from each other.
type Owner = Arc<Mutex<SessionId>>;

#[tokio::test]
async fn no_byte_reaches_the_session_that_took_over_an_address() {
    let relay = Relay::apart().await;
    let [one, other] = [SessionId::random(), SessionId::random()];
    let owner: Owner = Arc::new(Mutex::new(one));
    // Outside the range from which the node gives addresses.
    let shared: IpAddr = [127, 10, 0, 1].into();
    let owns = Arc::clone(&owner);
    let port = pods(move |local, _| {
        if local == shared {
            owns.lock().expect("no test has failed").to_string()
        } else {
            "own".to_owned()
        }
    })
    .await;
    let gateway = relay.gateway(&[&format!("service.chat.port={port}")]).await;
    for id in [one, other] {
        assert_eq!(
            gateway
                .send("GET", &format!("/{id}/chat/"), API)
                .await
                .status,
            200
        );
    }
    relay.move_pod(one, shared).await;
    until_answers(&gateway, one, &one.to_string()).await;
    for round in 0..if long() { 2000 } else { 50 } {
        let (loses, takes) = if round % 2 == 0 {
            (one, other)
        } else {
            (other, one)
        };
        let pods = relay.within::<Pod>(&relay.namespace(loses));
        let name = format!("dev-session-{loses}");
        pods.delete(&name, &DeleteParams::default().grace_period(0))
            .await
            .expect("it is deleted");
        // From here on nobody has the address, and then the other.
        *owner.lock().expect("no test has failed") = takes;
        relay.move_pod(takes, shared).await;
        // The gateway may still believe either; whatever it does, nobody is answered by the wrong one.
        until_answers(&gateway, takes, &takes.to_string()).await;
        until_answers(&gateway, loses, "own").await;
    }
}

/// Asks a session until `wanted` answers; before that, only an address of its own may.
async fn until_answers(gateway: &Serve, id: SessionId, wanted: &str) {
    let begun = Instant::now();
    loop {
        // Cut off if the pod was deleted meanwhile.
        let Some(reply) = try_send(gateway.address, "GET", &format!("/{id}/chat/")).await else {
            continue;
        };
        assert_eq!(reply.status, 200, "{reply:?}");
        let answered = reply.text();
        assert!(
            answered == "own" || answered == id.to_string(),
            "{id} was answered by {answered}"
        );
        if answered == wanted {
            return;
        }
        assert!(
            begun.elapsed() < crate::support::DEADLINE,
            "{id} is still answered by {answered}"
        );
    }
}
