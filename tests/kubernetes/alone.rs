//! What takes the API server from everybody: these run with nothing beside them (`.config/nextest.toml`).

use futures_util::future::join_all;
use serde_json::Value;
use session_gateway::session::SessionId;
use tokio::time::{Duration, Instant, sleep};

use super::{OBJECTS, names, repair::stops, shape::starts};
use crate::support::{
    DEADLINE,
    cluster::{API, ASSET, Relay},
    serve::Serve,
};

/// The cluster's own components look for the API server again after half a minute at the latest, one after the other.
const PATIENCE: Duration = Duration::from_secs(100);

/// The API server dies in the middle of ten starts and stays away for a while. What runs is served; what was being
/// started is there when it is back, once each; and nobody restarts a gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_killed_under_ten_starts_costs_time_alone() {
    let relay = Relay::apart().await;
    let other = relay.another().await;
    let settings = ["spawn.hold=60s", "spawn.timeout=120s"];
    let gateways = [
        relay.gateway(&settings).await,
        other.gateway(&settings).await,
    ];
    let running: Vec<SessionId> = (0..4).map(|_| SessionId::random()).collect();
    for id in &running {
        starts(&gateways[0], *id).await;
    }
    let new: Vec<SessionId> = (0..10).map(|_| SessionId::random()).collect();
    let first = new.iter().enumerate().map(|(number, id)| {
        let gateway = &gateways[number % 2];
        async move { gateway.send("GET", &format!("/{id}/chat/"), API).await }
    });
    let kill = async {
        let begun = Instant::now();
        while relay.writes().await.len() < 12 {
            assert!(begun.elapsed() < DEADLINE, "there are no starts");
        }
        relay.api_server(false).await;
        for number in 0..500 {
            let id = running[number % running.len()];
            for gateway in &gateways {
                let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
                assert_eq!(reply.status, 200, "request {number}: {reply:?}");
            }
        }
        relay.api_server(true).await;
    };
    let (replies, ()) = tokio::join!(join_all(first), kill);
    for reply in &replies {
        // Those that were held for too long are told so.
        if reply.status != 200 {
            assert_eq!(reply.status, 503, "{reply:?}");
            let problem: Value = serde_json::from_slice(&reply.body).expect("a problem");
            assert!(problem["code"].is_string(), "{problem}");
        }
    }
    for (number, id) in new.iter().enumerate() {
        let begun = Instant::now();
        for gateway in &gateways {
            until_answered(gateway, *id, begun).await;
        }
        assert_eq!(
            names(&relay.objects(*id).await),
            OBJECTS,
            "session {number}"
        );
    }
    stops(&gateways[0], new[0]).await;
    until_seen_as_stopped(&gateways[1], new[0]).await;
}

/// Asks until a gateway that was not told of a stop knows of it.
async fn until_seen_as_stopped(gateway: &Serve, id: SessionId) {
    let begun = Instant::now();
    loop {
        let asset = gateway.send("GET", &format!("/{id}/chat/"), ASSET).await;
        if asset.status == 503 && asset.code() == "session_stopped" {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{asset:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until a pod answers; a start that failed meanwhile may have to be waited for.
async fn until_answered(gateway: &Serve, id: SessionId, begun: Instant) {
    loop {
        let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
        if reply.status == 200 {
            return;
        }
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(begun.elapsed() < PATIENCE, "{reply:?}");
        sleep(Duration::from_millis(50)).await;
    }
}
