//! The platform's word on sessions in a cluster: what it does not vouch for is not asked of the API server, or not
//! written there.

use session_gateway::session::{Intent, SessionId};

use super::shape::starts;
use crate::{
    resolver::{Platform, Says, ask, down, failures, is_not_found, plan, reason},
    support::{cluster::Relay, serve::Serve},
};

/// Nothing of this session was written, nor of any other.
async fn is_untouched(relay: &Relay, id: SessionId, what: &str) {
    let writes = relay.writes().await;
    assert!(writes.is_empty(), "{what}: {writes:#?}");
    let made = relay.namespaces().get_opt(&relay.namespace(id)).await;
    assert_eq!(made.expect("an answer"), None, "{what}");
}

/// Made from this project, by this user, with this profile, as the pod says.
async fn is_made_from(relay: &Relay, gateway: &Serve, id: SessionId, said: [Option<&str>; 3]) {
    starts(gateway, id).await;
    let labels = relay.pod(id).await.metadata.labels.expect("it has labels");
    let keys = ["project-id", "user-id", "profile"];
    let labels = keys.map(|key| {
        labels
            .get(&format!("dev-session/{key}"))
            .map(String::as_str)
    });
    assert_eq!(labels, said);
}

#[tokio::test]
async fn of_a_project_that_is_not_there_the_api_server_is_not_even_asked() {
    let (relay, platform) = (Relay::apart().await, Platform::new().await);
    let gateway = relay.gateway(&[&platform.setting()]).await;
    let id = SessionId::random();
    is_not_found(&gateway, id).await;
    let calls = relay.asked().await;
    assert!(calls.is_empty(), "{calls:#?}");
    let calls = relay.calls().await;
    let mut calls = calls.iter();
    let about_it = calls.find(|call| call.namespace == relay.namespace(id));
    assert!(about_it.is_none(), "{about_it:#?}");
}

#[tokio::test]
async fn without_an_answer_of_the_platform_nothing_is_written_and_with_one_it_is_what_counts() {
    let (relay, platform) = (Relay::apart().await, Platform::new().await);
    let profiles = "profiles.large.resources.limits.memory=16Gi,profiles.large.env.SIZE=large";
    let setting = format!("{},resolver.timeout=300ms", platform.setting());
    let gateway = relay.gateway(&[&setting, profiles]).await;
    let mut huge = plan("7", "42");
    huge["profile"] = "huge".into();
    let unknown = Says::Text(200, huge.to_string());
    let all = failures().into_iter();
    for (says, expected) in all.chain([(unknown, "no_such_profile")]) {
        let (id, what) = (SessionId::random(), format!("{says:?}"));
        platform.says(id, says);
        let reply = ask(&gateway, id, Intent::Api).await;
        assert_eq!(reason(&reply), expected, "{what}");
        is_untouched(&relay, id, &what).await;
    }
    let (other, id) = (relay.another().await, SessionId::random());
    let (_closed, setting) = down();
    let alone = other.gateway(&[&setting]).await;
    assert_eq!(
        reason(&ask(&alone, id, Intent::Api).await),
        "resolver_failed"
    );
    is_untouched(&other, id, "down").await;

    platform.says(id, Says::Text(200, plan("7", "42").to_string()));
    is_made_from(&relay, &gateway, id, [Some("7"), Some("42"), None]).await;
    let (id, mut large) = (SessionId::random(), plan("p-1", "u.2"));
    large["profile"] = "large".into();
    platform.says(id, Says::Text(200, large.to_string()));
    is_made_from(
        &relay,
        &gateway,
        id,
        [Some("p-1"), Some("u.2"), Some("large")],
    )
    .await;
}
