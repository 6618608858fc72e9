//! Many sessions that nothing happens to: what the API server is asked meanwhile, and what each costs in memory.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use session_gateway::session::SessionId;
use tokio::time::Instant;

use crate::support::{
    cluster::{API, Relay},
    long,
    serve::Serve,
};

/// Pods in one page of a list.
const PAGE: usize = 100;

#[tokio::test]
async fn sessions_that_run_cost_one_watch_and_no_list() {
    // Of pods that wait, there are other watches: those of other tests do.
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&["spawn.concurrent=32"]).await;
    let empty = gateway.resident();
    let count = if long() { 1000 } else { 40 };
    let ids: Vec<_> = (0..count).map(|_| SessionId::random()).collect();
    let first = stream::iter(&ids).for_each_concurrent(8, async |id| answers(&gateway, *id).await);
    first.await;
    let each = gateway.resident().saturating_sub(empty) / count;
    eprintln!("measured: {count} sessions: {each} bytes of memory each");

    // With the long counts a watch ends by its own time-out meanwhile.
    let lasts = Duration::from_secs(if long() { 70 } else { 2 });
    relay.clear().await;
    let begun = Instant::now();
    while begun.elapsed() < lasts {
        for id in &ids {
            answers(&gateway, *id).await;
        }
    }
    assert_eq!(lists(&relay).await, 0);

    relay.clear().await;
    assert_eq!(
        relay.end_watches(false).await,
        1,
        "one watch for all sessions"
    );
    until_watched(&relay).await;
    assert_eq!(lists(&relay).await, 0);

    let other = relay.another().await;
    let _blind = other.blind_gateway(&[]);
    until_watched(&other).await;
    let whole = lists(&other).await;
    relay.clear().await;
    assert_eq!(relay.end_watches(true).await, 1);
    until_watched(&relay).await;
    while lists(&relay).await == 0 {}
    until_watched(&relay).await;
    // One list, in pages; other tests make sessions meanwhile.
    let pages = lists(&relay).await;
    assert!(
        pages <= whole + 1,
        "{pages} pages of {PAGE}, {whole} for a new gateway"
    );
    answers(&gateway, ids[0]).await;
}

async fn answers(gateway: &Serve, id: SessionId) {
    let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// How often pods were listed since the calls were last forgotten.
async fn lists(relay: &Relay) -> usize {
    let calls = relay.calls().await;
    let lists = calls
        .iter()
        .filter(|call| call.verb == "list" && call.resource == "pods");
    lists.count()
}

async fn until_watched(relay: &Relay) {
    while !relay.calls().await.iter().any(|call| call.verb == "watch") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
