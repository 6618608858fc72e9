//! How many sessions there may be, how often they may be started, and whose turn it is: through a real listener.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::Value;
use session_gateway::session::{Found, Intent, SessionId};

use crate::{
    resolver::{Platform, Says, plan},
    support::{Gateway, Reply, Service, client, sample, until},
};

async fn ask(gateway: &Gateway, id: SessionId, intent: Intent) -> Reply {
    let (method, headers) = sample(intent);
    let path = format!("/{id}/preview/");
    gateway.send(method, &path, &headers).await
}

/// What a program is told: by which limit, and what would help, with a time to come back.
#[track_caller]
pub(crate) fn limited(reply: &Reply, status: StatusCode, code: &str) -> String {
    assert_eq!((reply.status, reply.code().as_str()), (status, code));
    let after: u64 = reply.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&after), "{after}");
    let problem: Value = serde_json::from_slice(&reply.body).expect("JSON");
    let reason = &problem["reason"];
    assert!(!reason["advice"].as_str().expect("advice").is_empty());
    reason["code"].as_str().expect("a code").to_owned()
}

/// The same as a person sees it.
#[track_caller]
fn limited_page(reply: &Reply, status: StatusCode, reason: &str) {
    assert_eq!((reply.status, reply.state()), (status, "limited"));
    let after: u64 = reply.header("retry-after").parse().expect("seconds");
    let refresh = format!("http-equiv=\"refresh\" content=\"{}", after + 1);
    let earlier = format!("http-equiv=\"refresh\" content=\"{after}");
    let page = reply.text();
    assert!(page.contains(&refresh) || page.contains(&earlier), "{page}");
    assert!(page.contains(reason), "{page}");
}

#[tokio::test]
async fn one_client_starts_so_many_sessions_within_a_minute() {
    let service = Service::echo().await;
    let settings = [
        "spawn.limits.starts_per_client=3",
        "trusted_proxies={127.0.0.0/8}",
    ];
    let gateway = Gateway::with(service.address, &settings);
    let many = StatusCode::TOO_MANY_REQUESTS;
    let ids: Vec<SessionId> = (0..3).map(|_| SessionId::random()).collect();
    for id in &ids {
        assert_eq!(ask(&gateway, *id, Intent::Api).await.status, StatusCode::OK);
        ask(&gateway, *id, Intent::Navigation).await;
    }
    let id = SessionId::random();
    let page = ask(&gateway, id, Intent::Navigation).await;
    limited_page(&page, many, "starts_of_client");
    for intent in [Intent::Api, Intent::ApiSocket] {
        let reply = ask(&gateway, id, intent).await;
        assert_eq!(limited(&reply, many, "too_many_starts"), "starts_of_client");
    }
    let start = format!("/{id}/-/start");
    let reply = gateway.send("POST", &start, &[]).await;
    assert_eq!(limited(&reply, many, "too_many_starts"), "starts_of_client");
    let reply = gateway
        .send("POST", &start, &sample(Intent::Submission).1)
        .await;
    limited_page(&reply, many, &format!("url=/{id}/"));
    let reply = ask(&gateway, id, Intent::Asset).await;
    assert_eq!(reply.code(), "session_stopped", "it would start nothing");
    assert_eq!(gateway.sessions.starts(), 3);
    assert!(
        gateway.slot(id).failure.is_none(),
        "it is this client's alone"
    );
    let elsewhere = [("x-forwarded-for", "192.0.2.1, 198.51.100.7")];
    let path = format!("/{id}/preview/");
    let reply = gateway.send("GET", &path, &elsewhere).await;
    assert_eq!(reply.status, StatusCode::OK);
    let id = SessionId::random();
    let request = format!("/api/sessions/{id}/start");
    let request = gateway.request("POST", &request, &[], bytes::Bytes::new());
    let reply = client::send(gateway.admin, request).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "operators may");
    gateway.until_running(id).await;
}

#[tokio::test]
async fn there_are_so_many_sessions_in_all_and_a_stop_makes_room() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &["spawn.limits.sessions=2"]);
    let full = StatusCode::SERVICE_UNAVAILABLE;
    let [first, second, third] = std::array::from_fn(|_| SessionId::random());
    for id in [first, second] {
        assert_eq!(ask(&gateway, id, Intent::Api).await.status, StatusCode::OK);
    }
    let reply = ask(&gateway, third, Intent::Api).await;
    assert_eq!(limited(&reply, full, "too_many_sessions"), "sessions");
    let page = ask(&gateway, third, Intent::Navigation).await;
    limited_page(&page, full, "sessions");
    // One that is there counts already, and goes on being served and mended.
    let reply = ask(&gateway, first, Intent::Navigation).await;
    assert_eq!(reply.status, StatusCode::OK);
    gateway.send("POST", &format!("/{first}/-/stop"), &[]).await;
    gateway
        .send("POST", &format!("/{third}/-/start"), &[])
        .await;
    gateway.until_running(third).await;
    let reply = ask(&gateway, first, Intent::Api).await;
    assert_eq!(limited(&reply, full, "too_many_sessions"), "sessions");
    // What another replica has started counts like one's own.
    gateway.sessions.end(second);
    let theirs = gateway.runs().await;
    let reply = ask(&gateway, second, Intent::Api).await;
    assert_eq!(limited(&reply, full, "too_many_sessions"), "sessions");
    gateway.sessions.end(theirs);
    gateway
        .send("POST", &format!("/{second}/-/start"), &[])
        .await;
    gateway.until_running(second).await;
}

#[tokio::test]
async fn one_user_has_so_many_sessions_and_starts() {
    let (service, platform) = (Service::echo().await, Platform::new().await);
    let settings = [
        &*platform.setting(),
        "spawn.limits.sessions_per_user=2,spawn.limits.starts_per_user=3",
    ];
    let gateway = Gateway::with(service.address, &settings);
    let of = |user: &str| {
        let id = SessionId::random();
        platform.says(id, Says::Text(200, plan("7", user).to_string()));
        id
    };
    let ids: Vec<SessionId> = (0..4).map(|_| of("one")).collect();
    for id in &ids[..2] {
        assert_eq!(ask(&gateway, *id, Intent::Api).await.status, StatusCode::OK);
    }
    let full = StatusCode::SERVICE_UNAVAILABLE;
    let reply = ask(&gateway, ids[2], Intent::Api).await;
    let reason = limited(&reply, full, "too_many_sessions");
    assert_eq!(reason, "sessions_of_user");
    let other = of("other");
    assert_eq!(
        ask(&gateway, other, Intent::Api).await.status,
        StatusCode::OK
    );
    let stop = |id: SessionId| format!("/{id}/-/stop");
    gateway.send("POST", &stop(ids[0]), &[]).await;
    gateway
        .send("POST", &format!("/{}/-/start", ids[2]), &[])
        .await;
    gateway.until_running(ids[2]).await;
    gateway.send("POST", &stop(ids[1]), &[]).await;
    let reply = ask(&gateway, ids[3], Intent::Api).await;
    let many = StatusCode::TOO_MANY_REQUESTS;
    assert_eq!(limited(&reply, many, "too_many_starts"), "starts_of_user");
    assert_eq!(gateway.sessions.starts(), 4);
}

/// One user's starts come first, fifty of three hundred, and that of a user with one comes last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_one_start_waits_no_longer_than_one_with_many() {
    let (slots, users, all) = (10, 30, 300);
    let (service, platform) = (Service::echo().await, Platform::new().await);
    let settings = [&*platform.setting(), &format!("spawn.concurrent={slots}")];
    let gateway = Gateway::with(service.address, &settings);
    gateway.sessions.gate(false);
    let of = |user: usize| {
        let id = SessionId::random();
        let answer = plan("7", &user.to_string());
        platform.says(id, Says::Text(200, answer.to_string()));
        id
    };
    let start = async |id: SessionId| {
        let path = format!("/{id}/-/start");
        let reply = gateway.send("POST", &path, &[]).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED);
    };
    let many: Vec<SessionId> = (0..all / 6).map(|_| of(0)).collect();
    join_all(many.iter().map(|id| start(*id))).await;
    let queued = |ids: &[SessionId]| {
        let at = |id: &SessionId| gateway.slot(*id).start.and_then(|start| start.position);
        ids.iter().filter_map(at).count()
    };
    until("its first have all slots", || {
        queued(&many) == many.len() - slots
    })
    .await;
    let others = (0..all - many.len() - 1).map(|number| of(1 + number % (users - 2)));
    let others: Vec<SessionId> = others.collect();
    join_all(others.iter().map(|id| start(*id))).await;
    until("the others wait", || queued(&others) == others.len()).await;
    let one = of(users - 1);
    start(one).await;
    // Behind one start of each other user at most.
    until("it is told its position", || {
        let start = gateway.slot(one).start;
        let position = start.and_then(|start| start.position);
        position.is_some_and(|position| position <= users)
    })
    .await;
    // One place after the other becomes free, so that the order is the queue's alone.
    for begun in slots + 1..=all {
        gateway.sessions.release();
        until("the next comes to its turn", || {
            gateway.sessions.starts() >= begun
        })
        .await;
    }
    gateway.sessions.gate(true);
    for id in many.iter().chain(&others).chain([&one]) {
        gateway.until_running(*id).await;
    }
    let order = gateway.sessions.order();
    assert_eq!(order.len(), all, "every start ends, and none is made twice");
    let turn = order.iter().position(|id| *id == one).expect("its turn");
    assert!(turn < slots + users, "it was the start {turn} of {all}");
    let last = |ids: &[SessionId]| {
        let turns = order.iter().enumerate();
        let own = turns.filter(|(_, id)| ids.contains(id));
        own.map(|(at, _)| at).max().expect("it has some")
    };
    assert!(last(&many) > turn && last(&many) > last(&others) - users);
    assert_eq!(gateway.sessions.found(one), Found::Vanished);
}
