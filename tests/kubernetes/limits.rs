//! Limits over several replicas, which know of each other by the watch alone; and profiles in the cluster.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use http::StatusCode;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, ListParams};
use session_gateway::session::SessionId;
use uuid::Uuid;

use crate::support::{
    cluster::{API, Relay},
    long,
};

/// Three replicas start one user's sessions at once. Each counts what the others have started, and so does one that
/// has started none.
#[tokio::test]
async fn three_replicas_overshoot_a_limit_by_three_at_most() {
    let (most, asked) = if long() { (20, 90) } else { (4, 15) };
    let user = Uuid::new_v4();
    let (user_set, most_set) = (
        format!("user.id={user}"),
        format!("spawn.limits.sessions_per_user={most},spawn.concurrent=10"),
    );
    let settings = [user_set.as_str(), most_set.as_str()];
    let first = Relay::new().await;
    let others = [first.another().await, first.another().await];
    let gateways = [
        first.gateway(&settings).await,
        others[0].gateway(&settings).await,
        others[1].gateway(&settings).await,
    ];
    let starts = (0..asked).map(|number| {
        let (gateway, id) = (&gateways[number % 3], SessionId::random());
        async move {
            let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
            match reply.status {
                StatusCode::OK => true,
                status => {
                    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{reply:?}");
                    assert_eq!(reply.code(), "too_many_sessions");
                    assert!(reply.text().contains("sessions_of_user"), "{reply:?}");
                    false
                }
            }
        }
    });
    let run = join_all(starts).await.into_iter().filter(|runs| *runs);
    let run = run.count();
    assert!((most..=most + 3).contains(&run), "{run} of {most}");
    let pods: Api<Pod> = Api::all(first.client.clone());
    let of_user = ListParams::default().labels(&format!("dev-session/user-id={user}"));
    let pods = pods.list(&of_user).await.expect("a list").items.len();
    assert_eq!(pods, run, "and nothing runs that was refused");
    let late = first.another().await;
    let gateway = late.gateway(&settings).await;
    let id = SessionId::random();
    let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
    assert_eq!(
        reply.code(),
        "too_many_sessions",
        "it has read whose they are"
    );
    let writes = late.writes().await;
    assert!(writes.is_empty(), "{writes:#?}");
}

#[tokio::test]
async fn a_session_is_made_by_its_profile_and_made_anew_by_another() {
    let relay = Relay::new().await;
    let id = SessionId::random();
    let profiles = "profiles.large.resources.limits.memory=16Gi,profiles.large.env.SIZE=large";
    let memory = async |profile: &str| {
        let set = format!("profile={profile}");
        let gateway = relay.gateway(&[profiles, &set]).await;
        let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        let pod = relay.pod(id).await;
        let accounts = relay.within::<ServiceAccount>(&id.to_string());
        let account = accounts.get(&format!("dev-session-{id}")).await;
        let labels = |labels: Option<BTreeMap<String, String>>| {
            labels.unwrap_or_default().remove("dev-session/profile")
        };
        let label = labels(pod.metadata.labels);
        let account = account.expect("its account").metadata;
        assert_eq!(labels(account.labels), label);
        let stopped = gateway.send("POST", &format!("/{id}/-/stop"), API).await;
        assert_eq!(stopped.status, StatusCode::OK, "{stopped:?}");
        let container = pod.spec.expect("a spec").containers.remove(0);
        let limits = container.resources.and_then(|all| all.limits);
        (limits.expect("limits")["memory"].0.clone(), label)
    };
    assert_eq!(memory("default").await, ("4Gi".to_owned(), None));
    let large = ("16Gi".to_owned(), Some("large".to_owned()));
    assert_eq!(memory("large").await, large);
    assert_eq!(memory("default").await.0, "4Gi");
}
