//! Two gateways that do different things at once, and gateways that do not see what happens.

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use session_gateway::session::SessionId;
use tokio::time::{Duration, Instant, sleep};

use super::{OBJECTS, names, repair::stops, shape::starts};
use crate::support::{
    DEADLINE,
    cluster::{API, ASSET, Relay},
    long,
    serve::{Serve, try_send},
};

/// Starts and stops of one session at once, by two gateways: in the end the record tells what there is, and the session
/// can be started and stopped as ever.
#[tokio::test]
async fn starts_and_stops_at_once_leave_a_record_that_is_true() {
    let relay = Relay::apart().await;
    let other = relay.another().await;
    let gateways = [relay.gateway(&[]).await, other.gateway(&[]).await];
    let id = SessionId::random();
    for round in 0..if long() { 500 } else { 12 } {
        let calls = (0..8).map(|number: usize| {
            let gateway = &gateways[(number + round) % 2];
            let what = if (number / 2_usize).is_multiple_of(2) {
                "start"
            } else {
                "stop"
            };
            let path = format!("/{id}/-/{what}");
            async move { gateway.send("POST", &path, API).await }
        });
        for reply in join_all(calls).await {
            let is_fine = reply.status.is_success() || reply.status == 503;
            assert!(is_fine, "round {round}: {reply:?}");
        }
        let state = settled(&relay, &gateways, id, round).await;
        // Whatever it is, an asset may tell it, and an API client gets in.
        let asset = gateways[round % 2]
            .send("GET", &format!("/{id}/chat/"), ASSET)
            .await;
        let expected = if state == "stopped" { 503 } else { 200 };
        assert_eq!(asset.status, expected, "round {round}, {state}: {asset:?}");
        starts(&gateways[round % 2], id).await;
    }
    assert_eq!(names(&relay.objects(id).await), OBJECTS);
    stops(&gateways[0], id).await;
    assert_eq!(names(&relay.objects(id).await).len(), OBJECTS.len() - 1);
}

/// Waits until both gateways have done what they were told and the record agrees with what there is; returns what it
/// says.
async fn settled(relay: &Relay, gateways: &[Serve; 2], id: SessionId, round: usize) -> String {
    let begun = Instant::now();
    loop {
        let accounts = relay.within::<ServiceAccount>(&relay.namespace(id));
        let account = accounts
            .get(&format!("dev-session-{id}"))
            .await
            .expect("it is there");
        let annotations = account.metadata.annotations.unwrap_or_default();
        let state = annotations
            .get("dev-session/state")
            .cloned()
            .unwrap_or_default();
        let pods = relay.within::<Pod>(&relay.namespace(id));
        let pods = pods
            .list(&ListParams::default())
            .await
            .expect("a list")
            .items;
        let living = pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .count();
        let mut told = Vec::new();
        for gateway in gateways {
            let status = gateway.send("GET", &format!("/{id}/-/status"), API).await;
            let status: serde_json::Value = serde_json::from_slice(&status.body).expect("a status");
            told.push(status["state"].as_str().unwrap_or_default().to_owned());
        }
        let agree = match state.as_str() {
            "stopped" => {
                living == 0 && pods.is_empty() && told.iter().all(|told| told == "stopped")
            }
            "running" => told
                .iter()
                .all(|told| told == "running" && living == 1 || told == "vanished" && living == 0),
            _ => false,
        };
        if agree {
            return state;
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "round {round}: the record says {state}, there are {} pods, and the gateways say {told:?}",
            pods.len()
        );
        sleep(Duration::from_millis(20)).await;
    }
}

/// A restart and a stop that broke off after any write: the next gateway goes on, and the record is true.
#[tokio::test]
async fn a_restart_or_stop_that_broke_off_is_finished_by_another_gateway() {
    let relay = Relay::apart().await;
    let second = relay.gateway(&[]).await;
    for (what, write, when) in [
        ("start", 1, "before"),
        ("start", 1, "after"),
        ("start", 2, "before"),
        ("start", 2, "after"),
        ("stop", 1, "before"),
        ("stop", 1, "after"),
        ("stop", 2, "before"),
        ("stop", 2, "after"),
    ] {
        let round = format!("{what}, cut {when} write {write}");
        let id = SessionId::random();
        let broken = relay.another().await;
        let mut first = broken.gateway(&[]).await;
        starts(&first, id).await;
        if what == "start" {
            stops(&first, id).await;
        }
        let cut = json!({ "cut": { "write": write, "when": when } });
        broken.faults(cut).await;
        broken.clear().await;
        let address = first.address;
        let asked = tokio::spawn(async move {
            try_send(address, "POST", &format!("/{id}/-/{what}")).await;
        });
        until_cut(&broken, &round).await;
        first.signal("KILL");
        first.ended();
        asked.await.expect("it ends with the gateway");

        // Each of these has to go on from whatever is there.
        stops(&second, id).await;
        let left = relay.objects(id).await;
        assert!(
            !left.contains_key("Pod dev-session-UUID"),
            "{round}: {left:?}"
        );
        let asset = second.send("GET", &format!("/{id}/chat/"), ASSET).await;
        assert_eq!(
            (asset.status.as_u16(), &*asset.code()),
            (503, "session_stopped"),
            "{round}"
        );
        starts(&second, id).await;
        assert_eq!(names(&relay.objects(id).await), OBJECTS, "{round}");
    }
}

async fn until_cut(relay: &Relay, round: &str) {
    let begun = Instant::now();
    while relay.calls().await.iter().all(|call| call.cut.is_empty()) {
        assert!(
            begun.elapsed() < DEADLINE,
            "{round}: fewer writes: {:#?}",
            relay.calls().await
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// What happened while the watch was cut off is known once it goes on: both with what it missed, and with a new list.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn what_happened_while_a_gateway_was_blind_is_known_as_soon_as_it_sees() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&[]).await;
    let other = relay.another().await;
    let seeing = other.gateway(&[]).await;
    for gone in [false, true] {
        let [stopped, replaced, made] = [(); 3].map(|()| SessionId::random());
        for id in [stopped, replaced] {
            starts(&gateway, id).await;
        }
        let old = relay.pod(replaced).await;
        if gone {
            // Its version is too old when it comes back.
            relay.end_watches(true).await;
        }
        relay.faults(json!({ "away": true })).await;
        // In this order: whoever has learned of the stop has learned of the start.
        starts(&seeing, made).await;
        stops(&seeing, stopped).await;
        let pods = relay.within::<Pod>(&relay.namespace(replaced));
        let name = format!("dev-session-{replaced}");
        let deleted = pods
            .delete(&name, &DeleteParams::default().grace_period(0))
            .await;
        deleted.expect("it is deleted");
        // Until it sees that, it is answered by the pod that was deleted.
        let is_new = |pod: Pod| pod.metadata.uid != old.metadata.uid;
        while !pods
            .get_opt(&name)
            .await
            .expect("an answer")
            .is_some_and(is_new)
        {
            starts(&seeing, replaced).await;
        }

        relay.faults(json!({})).await;
        let begun = Instant::now();
        let new = relay.pod(replaced).await;
        let address = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        assert_ne!(new.metadata.uid, old.metadata.uid);
        let (wanted, stale) = (
            address(&new).expect("it runs"),
            address(&old).expect("it ran"),
        );
        loop {
            let reply = gateway
                .send("GET", &format!("/{replaced}/chat/"), API)
                .await;
            assert_eq!(reply.status, 200, "{reply:?}");
            let by = reply
                .text()
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned();
            if by == wanted {
                break;
            }
            assert_eq!(by, stale, "another pod than the old one answers");
            assert!(begun.elapsed() < DEADLINE, "the old pod still answers");
        }
        // Of a new list it learns first what is there, and then what is not.
        let path = format!("/{stopped}/chat/");
        let mut asset = gateway.send("GET", &path, ASSET).await;
        while asset.status == 200 {
            assert!(
                begun.elapsed() < DEADLINE,
                "the stopped session is still served"
            );
            asset = gateway.send("GET", &path, ASSET).await;
        }
        assert_eq!(
            (asset.status.as_u16(), &*asset.code()),
            (503, "session_stopped")
        );
        relay.clear().await;
        starts(&gateway, made).await;
        // Of this session: a start of the replaced one, begun before its new pod was shown, may still go on.
        let mut writes = relay.writes().await;
        writes.retain(|call| call.namespace == made.to_string());
        assert!(writes.is_empty(), "it runs already: {writes:#?}");
    }
}

/// A list that is refused is asked for less and less often, though each one begins well. Only the least time that the
/// pauses take is asserted: a busy machine makes them longer.
#[tokio::test]
async fn a_list_that_is_refused_is_asked_for_less_and_less_often() {
    let relay = Relay::apart().await;
    relay
        .faults(json!({ "answer": { "status": 403, "verb": "list", "resource": "pods" } }))
        .await;
    let _gateway = relay.blind_gateway(&[]);
    let lists = async || {
        let calls = relay.calls().await;
        let lists = calls
            .iter()
            .filter(|call| call.verb == "list" && call.resource == "pods");
        lists.count()
    };
    let begun = Instant::now();
    while lists().await == 0 {}
    let first = Instant::now();
    while lists().await < 6 {
        assert!(begun.elapsed() < DEADLINE, "it gave up");
        sleep(Duration::from_millis(20)).await;
    }
    // 100, 200, 400 and 800 ms, and a second: some of it may have passed before the first was seen.
    assert!(
        first.elapsed() > Duration::from_secs(2),
        "{:?}",
        first.elapsed()
    );
}

/// A gateway that begins while the API server is away says so, and needs no restart.
#[tokio::test]
async fn a_gateway_that_begins_without_the_api_server_is_ready_when_that_comes() {
    let relay = Relay::apart().await;
    let id = SessionId::random();
    relay.faults(json!({ "away": true })).await;
    let gateway = relay.blind_gateway(&[]);
    assert_eq!(gateway.ask("GET", "/readyz").await.status, 503);
    let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.code(), "spawner_unavailable");

    relay.faults(json!({})).await;
    let begun = Instant::now();
    while gateway.ask("GET", "/readyz").await.status != 200 {
        assert!(begun.elapsed() < DEADLINE, "it is not ready");
        sleep(Duration::from_millis(5)).await;
    }
    starts(&gateway, id).await;
}

/// A client that leaves cancels nothing, and neither do all of them.
#[tokio::test]
async fn a_start_goes_on_when_every_client_has_left() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&[]).await;
    let id = SessionId::random();
    relay.faults(json!({ "delay_ms": 300 })).await;
    let clients = (0..10).map(|_| {
        let (address, path) = (gateway.address, format!("/{id}/chat/"));
        tokio::spawn(async move { try_send(address, "GET", &path).await })
    });
    let clients: Vec<_> = clients.collect();
    let begun = Instant::now();
    while relay.writes().await.is_empty() {
        assert!(begun.elapsed() < DEADLINE, "no start");
        sleep(Duration::from_millis(5)).await;
    }
    for client in clients {
        client.abort();
    }
    relay.faults(json!({})).await;
    while names(&relay.objects(id).await) != OBJECTS {
        assert!(begun.elapsed() < DEADLINE, "{:?}", relay.objects(id).await);
        sleep(Duration::from_millis(20)).await;
    }
}
