//! The session's own page in a cluster: what its container said last, and how its start went.

use serde_json::json;
use session_gateway::session::SessionId;
use tokio::time::{Duration, Instant, sleep};

use super::{
    life::{annotate, until_told},
    shape::starts,
};
use crate::support::{
    DEADLINE,
    cluster::{API, NAVIGATION, Relay},
    serve::Serve,
    told::{pod_says, until},
};

/// How long lines that were read are shown.
const FRESH: Duration = Duration::from_secs(2);

async fn page(gateway: &Serve, id: SessionId) -> String {
    let page = gateway.send("GET", &format!("/{id}/"), NAVIGATION).await;
    assert_eq!(page.status, 200, "{page:?}");
    page.text().to_owned()
}

/// How often the log of a container was read.
async fn reads(relay: &Relay) -> usize {
    let calls = relay.calls().await;
    let reads = calls.iter().filter(|call| call.resource == "pods/log");
    reads.count()
}

#[tokio::test]
async fn the_page_shows_the_last_lines_which_are_read_once_in_two_seconds() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&[]).await;
    let id = SessionId::random();
    assert!(!page(&gateway, id).await.contains("said last"));
    starts(&gateway, id).await;
    assert_eq!(reads(&relay).await, 0, "nobody has looked");
    // What does not come at once is for the next who looks.
    let begun = Instant::now();
    let (mut looks, mut last) = (0, String::new());
    while looks < 5 || !last.contains("The session said last") {
        assert!(begun.elapsed() < DEADLINE, "{last}");
        last = page(&gateway, id).await;
        looks += 1;
    }
    let count = reads(&relay).await;
    let took = begun.elapsed();
    assert!(last.contains("The log of a fake pod.</pre>"), "{last}");
    let most = 1 + took.as_millis() / FRESH.as_millis();
    let is_right = count > 0 && count as u128 <= most;
    assert!(is_right, "{count} reads for {looks} looks in {took:?}");
    // After that they are read anew for whoever looks, and only then.
    until("they are read anew", || async {
        page(&gateway, id).await;
        reads(&relay).await > count
    })
    .await;
    let stopped = gateway.send("POST", &format!("/{id}/-/stop"), API).await;
    assert_eq!(stopped.status, 200, "{stopped:?}");
    let before = reads(&relay).await;
    assert!(!page(&gateway, id).await.contains("said last"));
    assert_eq!(reads(&relay).await, before, "there is nothing to read");
}

/// Waits until the page has all these parts.
async fn shows(gateway: &Serve, id: SessionId, parts: &[&str]) -> String {
    let begun = Instant::now();
    loop {
        let page = page(gateway, id).await;
        let missing = parts.iter().find(|part| !page.contains(**part));
        let Some(missing) = missing else {
            return page;
        };
        assert!(begun.elapsed() < DEADLINE, "{missing} is missing in {page}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_page_shows_how_the_last_start_went_as_far_as_that_replica_has_seen_it() {
    let relay = Relay::apart().await;
    let fails = "podTemplate.metadata.annotations.cluster\\.test/fail=unschedulable";
    let gateway = relay.gateway(&[fails]).await;
    let watches = relay.another().await.gateway(&[]).await;
    let id = SessionId::random();
    let first = gateway
        .send("GET", &format!("/{id}/chat/"), NAVIGATION)
        .await;
    assert_eq!(first.state(), "starting");
    pod_says(&relay, id, "Insufficient cpu").await;
    for gateway in [&gateway, &watches] {
        let parts = [
            "<h2>Last start</h2>",
            "<li class=\"failed\" data-stage=\"schedule\">",
            "<h2>What was said last</h2>",
            "Insufficient cpu",
        ];
        shows(gateway, id, &parts).await;
    }
    annotate(&relay, id, "fail", json!(null)).await;
    until_told(&gateway, id, |state| state == "running").await;
    let parts = [
        "<h2>Last start</h2>",
        "every service answered after",
        "What kept it for a while: no machine has room for the session at present.",
        ">Finding a machine with room <small>",
        "<h2>The cluster said last</h2>",
        "Insufficient cpu",
    ];
    let whole = shows(&gateway, id, &parts).await;
    let begun = ">Making the session&#39;s place in the cluster <small>";
    assert!(
        whole.contains("Begun 20") && whole.contains(begun),
        "{whole}"
    );
    let part = shows(&watches, id, &parts).await;
    assert!(
        part.contains("Seen from here since 20") && !part.contains(begun),
        "{part}"
    );
    // One that comes later makes nothing up.
    let late = relay.another().await.gateway(&[]).await;
    let nothing = shows(&late, id, &["data-state=\"running\""]).await;
    assert!(!nothing.contains("Last start"), "{nothing}");
}
