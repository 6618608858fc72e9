//! Sessions that are stopped and started again and again.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use session_gateway::session::SessionId;
use tokio::time::Instant;

use super::{OBJECTS, names, repair::stops, shape::starts};
use crate::support::{
    cluster::{ASSET, Relay},
    long,
};

/// Ten times what a restart may take here.
const SOON: Duration = Duration::from_secs(10);

/// A stop that was answered is over: no word of the old pod comes after it, and the next start has nothing to wait for.
#[tokio::test]
async fn a_stop_that_was_answered_is_over_and_the_next_start_is_quick() {
    let rounds = if long() { 400 } else { 10 };
    let relay = Relay::apart().await;
    let other = relay.another().await;
    let gateways = [relay.gateway(&[]).await, other.gateway(&[]).await];
    let sessions = stream::iter(0..6_usize).for_each_concurrent(6, async |number| {
        let gateway = &gateways[number % 2];
        let id = SessionId::random();
        for round in 0..rounds {
            let begun = Instant::now();
            starts(gateway, id).await;
            assert!(
                begun.elapsed() < SOON,
                "round {round}: {:?}",
                begun.elapsed()
            );
            stops(gateway, id).await;
            let path = format!("/{id}/chat/");
            let asset = gateway.send("GET", &path, ASSET).await;
            let told = (asset.status.as_u16(), asset.code());
            assert_eq!(told, (503, "session_stopped".to_owned()), "round {round}");
        }
        assert_eq!(names(&relay.objects(id).await).len(), OBJECTS.len() - 1);
    });
    sessions.await;
}
