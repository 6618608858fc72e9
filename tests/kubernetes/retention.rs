//! Sessions that nobody has used for long, which are removed with their workspaces. Apart from other tests, whose
//! sessions would be removed as well.

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use session_gateway::session::SessionId;
use tokio::time::{Duration, Instant, sleep};

use super::{
    life::{annotate, until_told},
    shape::starts,
};
use crate::support::{
    DEADLINE,
    cluster::{API, Relay},
    long,
    serve::Serve,
};

const SHORT: &str = "retention.after=2s,retention.per_minute=10000";

async fn stops(gateway: &Serve, id: SessionId) {
    let stopped = gateway.send("POST", &format!("/{id}/-/stop"), API).await;
    assert_eq!(stopped.status, 200, "{stopped:?}");
}

/// Lets it look as if nobody had used the session for years.
pub(super) async fn unused(relay: &Relay, id: SessionId) {
    let used =
        json!({ "metadata": { "annotations": { "dev-session/used": "2020-01-01T00:00:00Z" } } });
    let accounts = relay.within::<ServiceAccount>(&relay.namespace(id));
    let (name, params) = (format!("dev-session-{id}"), PatchParams::default());
    let changed = accounts.patch(&name, &params, &Patch::Merge(used)).await;
    changed.expect("it is there");
}

/// The session's namespace, if it is there and is not being deleted.
async fn living(relay: &Relay, id: SessionId) -> Option<Namespace> {
    let namespace = relay.namespaces().get_opt(&relay.namespace(id)).await;
    let namespace = namespace.expect("an answer");
    namespace.filter(|namespace| namespace.metadata.deletion_timestamp.is_none())
}

async fn until_removed(relay: &Relay, id: SessionId) {
    let begun = Instant::now();
    while living(relay, id).await.is_some() {
        assert!(begun.elapsed() < DEADLINE, "it is not removed");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a session is among those that nobody uses, and holds it to what is said of its protection.
async fn until_shown(gateway: &Serve, id: SessionId, is_protected: bool) {
    let begun = Instant::now();
    loop {
        let page = gateway.ask("GET", "/api/sessions?unused=true").await;
        let page: Value = serde_json::from_slice(&page.body).expect("a page");
        let mut sessions = page["sessions"].as_array().expect("a list").iter();
        if let Some(shown) = sessions.find(|one| one["id"] == id.to_string()) {
            assert_eq!(shown["protected"], json!(is_protected), "{shown}");
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "it is not shown: {page}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// What will be removed is shown before, and so is what would be if its namespace or its account did not protect it.
#[tokio::test]
async fn what_is_protected_is_marked_among_what_nobody_uses() {
    let relay = Relay::apart().await;
    let gateway = relay
        .gateway(&["retention.after=1s,retention.per_minute=1"])
        .await;
    let first = SessionId::random();
    starts(&gateway, first).await;
    stops(&gateway, first).await;
    until_removed(&relay, first).await;
    // A minute before the next one.
    let ids = [(); 3].map(|()| SessionId::random());
    join_all(ids.iter().map(|&id| starts(&gateway, id))).await;
    let [space, account, other] = ids;
    protect(&relay, space).await;
    let label = json!({ "metadata": { "labels": { "dev-session/keep": "" } } });
    let accounts = relay.within::<ServiceAccount>(&relay.namespace(account));
    let (name, params) = (format!("dev-session-{account}"), PatchParams::default());
    let labelled = accounts.patch(&name, &params, &Patch::Merge(label)).await;
    labelled.expect("it is there");
    for id in ids {
        stops(&gateway, id).await;
    }
    for (id, is_protected) in [(space, true), (account, true), (other, false)] {
        until_shown(&gateway, id, is_protected).await;
        assert!(living(&relay, id).await.is_some());
    }
}

async fn protect(relay: &Relay, id: SessionId) {
    let keep = Patch::Merge(json!({ "metadata": { "labels": { "dev-session/keep": "true" } } }));
    let (name, params) = (relay.namespace(id), PatchParams::default());
    let labelled = relay.namespaces().patch(&name, &params, &keep).await;
    labelled.expect("it is there");
}

#[tokio::test]
async fn what_nobody_uses_is_removed_unless_it_runs_or_is_protected() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&[SHORT]).await;
    // Looked at in this order.
    let mut ids = [(); 6].map(|()| SessionId::random());
    ids.sort();
    let [protected, spared, _runs, stopped, vanished, evicted] = ids;
    join_all(ids.iter().map(|&id| starts(&gateway, id))).await;
    let disks = join_all(ids.iter().map(|&id| relay.disk(id))).await;
    for id in [protected, spared] {
        protect(&relay, id).await;
    }
    for id in [protected, stopped] {
        stops(&gateway, id).await;
    }
    for id in [spared, vanished] {
        loses(&relay, id).await;
    }
    // Its pod is still there.
    annotate(&relay, evicted, "fail", json!("evicted")).await;
    let [kept, removed] = [&ids[..3], &ids[3..]];
    for &id in removed {
        until_removed(&relay, id).await;
    }
    until_told(&gateway, spared, |state| state == "vanished").await;
    for (&id, before) in kept.iter().zip(&disks) {
        assert!(living(&relay, id).await.is_some());
        starts(&gateway, id).await;
        assert_eq!(relay.disk(id).await, *before);
    }
    // All of it goes before it is made anew.
    for (&id, before) in removed.iter().zip(&disks[3..]) {
        starts(&gateway, id).await;
        assert_ne!(relay.disk(id).await, *before);
    }
}

/// Sessions are removed one after the other: of those that were listed, some may be in use when their turn comes.
#[tokio::test]
async fn who_comes_back_before_the_removal_comes_to_the_session_is_not_stopped() {
    let relay = Relay::apart().await;
    let gateway = relay
        .gateway(&["retention.after=30s,retention.per_minute=6"])
        .await;
    let mut ids = [(); 3].map(|()| SessionId::random());
    ids.sort();
    let [first, back, last] = ids;
    join_all(ids.iter().map(|&id| starts(&gateway, id))).await;
    for id in [first, last] {
        stops(&gateway, id).await;
    }
    loses(&relay, back).await;
    until_told(&gateway, back, |state| state == "vanished").await;
    // The first one last: whoever lists it lists the others.
    for id in [last, back, first] {
        unused(&relay, id).await;
    }
    until_removed(&relay, first).await;
    starts(&gateway, back).await;
    let before = relay.pod(back).await.metadata.uid;
    until_removed(&relay, last).await;
    let pod = relay.pod(back).await.metadata;
    assert_eq!((pod.uid, pod.deletion_timestamp), (before, None));
}

/// A session that was started is used, although its pod was lost before anybody could use it.
#[tokio::test]
async fn who_comes_back_after_years_and_loses_the_pod_at_once_keeps_the_disk() {
    let relay = Relay::apart().await;
    // What nobody has used for a day is shown, and not looked for during the test.
    let gateway = relay.gateway(&["retention.after=24h"]).await;
    let ids @ [stopped, vanished] = [(); 2].map(|()| SessionId::random());
    join_all(ids.iter().map(|&id| starts(&gateway, id))).await;
    stops(&gateway, stopped).await;
    loses(&relay, vanished).await;
    for id in ids {
        unused(&relay, id).await;
        until_shown(&gateway, id, false).await;
        starts(&gateway, id).await;
        loses(&relay, id).await;
        until_told(&gateway, id, |state| state == "vanished").await;
    }
    let page = gateway.ask("GET", "/api/sessions?unused=true").await;
    let page: Value = serde_json::from_slice(&page.body).expect("a page");
    assert_eq!(page["sessions"], json!([]));
}

/// Deletes the session's pod by hand.
async fn loses(relay: &Relay, id: SessionId) {
    let pods = relay.within::<Pod>(&relay.namespace(id));
    let now = DeleteParams::default().grace_period(0);
    let lost = pods.delete(&format!("dev-session-{id}"), &now).await;
    lost.expect("it was there");
}

/// A session that is stopped, and started again at about the moment at which it is removed, by another gateway than
/// removes it. Returns how often it was removed first.
async fn rounds(relay: &Relay, gateways: &[Serve; 2], count: usize, number: usize) -> usize {
    let id = SessionId::random();
    let mut removals = 0;
    starts(&gateways[0], id).await;
    for round in 0..count {
        let before = relay.disk(id).await;
        stops(&gateways[round % 2], id).await;
        // From the moment at which it may be removed, as long as it takes until it is looked at.
        let late = (round * 7 + number * 3) % 20 * 40;
        sleep(Duration::from_millis(
            2_000 + u64::try_from(late).expect("it is small"),
        ))
        .await;
        starts(&gateways[(round + 1) % 2], id).await;
        let after = relay.disk(id).await;
        removals += usize::from(after != before);
        // In use it stays, whoever had begun to remove it.
        for gateway in gateways {
            starts(gateway, id).await;
        }
        assert_eq!(relay.disk(id).await, after, "round {round}");
        assert!(living(relay, id).await.is_some(), "round {round}");
    }
    removals
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_is_removed_that_was_started_before() {
    let (sessions, count) = if long() { (20, 25) } else { (10, 2) };
    let one = Relay::apart().await;
    let other = one.another().await;
    let gateways = [one.gateway(&[SHORT]).await, other.gateway(&[SHORT]).await];
    let all = (0..sessions).map(|number| rounds(&one, &gateways, count, number));
    let removals: usize = join_all(all).await.into_iter().sum();
    let rounds = sessions * count;
    assert!(
        0 < removals && removals < rounds,
        "{removals} of {rounds}: not at that very moment"
    );
}

#[tokio::test]
async fn whoever_says_so_deletes_a_session_and_nothing_that_is_not_ours() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&[]).await;
    let [id, foreign] = [(); 2].map(|()| SessionId::random());
    let delete = async |id| {
        let deleted = gateway.ask("DELETE", &format!("/api/sessions/{id}")).await;
        let told: Value = serde_json::from_slice(&deleted.body).expect("a document");
        (deleted.status.as_u16(), told)
    };
    starts(&gateway, id).await;
    let before = relay.disk(id).await;
    let (status, told) = delete(id).await;
    assert_eq!((status, &told["deleted"]), (202, &json!(true)));
    // At once: all of it goes before anything is made anew.
    starts(&gateway, id).await;
    assert_ne!(relay.disk(id).await, before);

    let namespace: Namespace = serde_json::from_value(json!({
        "metadata": { "name": foreign.to_string() },
    }))
    .expect("a namespace");
    let namespaces = relay.namespaces();
    let made = namespaces.create(&PostParams::default(), &namespace).await;
    made.expect("it is made");
    let (status, told) = delete(foreign).await;
    assert_eq!((status, &told["code"]), (503, &json!("not_ours")), "{told}");
    assert!(living(&relay, foreign).await.is_some());
    let (status, told) = delete(SessionId::random()).await;
    assert_eq!((status, &told["deleted"]), (202, &json!(false)));
}
