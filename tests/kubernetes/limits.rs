//! Limits over several replicas, which know of each other by the watch alone; and profiles in the cluster.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use http::StatusCode;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, ListParams};
use session_gateway::session::SessionId;
use uuid::Uuid;

use crate::{
    limits::limited,
    resolver::{Platform, Says, plan},
    support::{
        Reply,
        cluster::{API, Relay},
        long,
    },
};

/// A limit, the code of who has reached it, and how many users ask.
const LIMITS: [(&str, &str, usize); 2] = [
    ("sessions_per_user", "sessions_of_user", 1),
    ("sessions", "sessions", 5),
];

/// Three replicas start sessions at once. Each counts what the others have started, and so does one that has started
/// none.
#[tokio::test]
async fn three_replicas_overshoot_a_limit_by_three_at_most() {
    for (limit, code, users) in LIMITS {
        let users: Vec<_> = (0..users).map(|_| Uuid::new_v4().to_string()).collect();
        is_overshot_by_three_at_most(limit, code, &users).await;
    }
}

/// Apart from other tests, whose sessions would count as well.
async fn is_overshot_by_three_at_most(limit: &str, code: &str, users: &[String]) {
    let (most, asked) = if long() { (20, 90) } else { (4, 15) };
    let platform = Platform::new().await;
    let ids: Vec<_> = (0..=asked).map(|_| SessionId::random()).collect();
    for (&id, user) in ids.iter().zip(users.iter().cycle()) {
        platform.says(id, Says::Text(200, plan("7", user).to_string()));
    }
    let limits = format!("spawn.limits.{limit}={most},spawn.concurrent=10");
    let resolver = platform.setting();
    let settings = [limits.as_str(), &resolver];
    let first = Relay::apart().await;
    let others = [first.another().await, first.another().await];
    let gateways = [
        first.gateway(&settings).await,
        others[0].gateway(&settings).await,
        others[1].gateway(&settings).await,
    ];
    let refused = |reply: &Reply| {
        let by = limited(reply, StatusCode::SERVICE_UNAVAILABLE, "too_many_sessions");
        assert_eq!(by, code);
    };
    let starts = ids[..asked].iter().enumerate().map(|(number, id)| {
        let gateway = &gateways[number % 3];
        async move { gateway.send("GET", &format!("/{id}/chat/"), API).await }
    });
    let replies = join_all(starts).await;
    let (run, not): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    not.into_iter().for_each(refused);
    let run = run.len();
    assert!((most..=most + 3).contains(&run), "{limit}: {run} of {most}");
    let pods: Api<Pod> = Api::all(first.client.clone());
    let theirs = format!("dev-session/user-id in ({})", users.join(","));
    let theirs = ListParams::default().labels(&theirs);
    let pods = pods.list(&theirs).await.expect("a list").items.len();
    assert_eq!(pods, run, "and nothing runs that was refused");
    let late = first.another().await;
    let gateway = late.gateway(&settings).await;
    let path = format!("/{}/chat/", ids[asked]);
    // It has read whose they are.
    refused(&gateway.send("GET", &path, API).await);
    let writes = late.writes().await;
    assert!(writes.is_empty(), "{writes:#?}");
}

#[tokio::test]
async fn a_session_is_made_by_its_profile_and_made_anew_by_another() {
    let relay = Relay::apart().await;
    let id = SessionId::random();
    let profiles = "profiles.large.resources.limits.memory=16Gi,profiles.large.env.SIZE=large";
    let memory = async |profile: &str| {
        let set = format!("profile={profile}");
        let gateway = relay.gateway(&[profiles, &set]).await;
        let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        let pod = relay.pod(id).await;
        let accounts = relay.within::<ServiceAccount>(&relay.namespace(id));
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
