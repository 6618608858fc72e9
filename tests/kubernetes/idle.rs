//! Sessions that nobody uses: several gateways announce their stops, see to them, and take them back. Apart from other
//! tests, whose sessions they would stop as well.

pub(crate) mod moment;

use futures_util::{SinkExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use serde_json::Value;
use session_gateway::session::SessionId;
use tokio::{
    net::TcpSocket,
    time::{Duration, Instant, sleep, timeout},
};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use super::{
    WRITES,
    shape::starts,
    traffic::{Socket, open, sockets},
};
use crate::{
    activity,
    support::{
        DEADLINE,
        cluster::{API, ASSET, NAVIGATION, Relay},
        serve::Serve,
    },
};

/// Sessions are looked for four times in the idle time.
const SHORT: &str = "idle.after=2s,idle.countdown=2s";
/// What a stop for want of use writes: it is announced, recorded and done.
const STOP: usize = 3;

/// What a gateway says of a session. To ask is no use of it.
async fn told(gateway: &Serve, id: SessionId) -> Value {
    let reply = gateway.send("GET", &format!("/{id}/-/status"), API).await;
    serde_json::from_slice(&reply.body).expect("a status")
}

/// Waits until a gateway says that the session will be stopped; returns when.
pub(crate) async fn until_announced(gateway: &Serve, id: SessionId) -> Timestamp {
    let begun = Instant::now();
    loop {
        let told = told(gateway, id).await;
        if let Some(stop) = told["stop"].as_str() {
            return stop.parse().expect("a time");
        }
        assert!(begun.elapsed() < DEADLINE, "no stop is announced: {told}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn until_stopped(gateway: &Serve, id: SessionId) {
    let begun = Instant::now();
    loop {
        let told = told(gateway, id).await;
        if told["state"] == "stopped" {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "it is not stopped: {told}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_session_that_nobody_uses_is_stopped_by_few_writes_and_comes_back_with_its_disk() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&[SHORT]).await;
    let id = SessionId::random();
    starts(&gateway, id).await;
    let disk = relay.disk(id).await;
    let before = relay.pod(id).await.metadata.uid;
    relay.clear().await;
    let begun = Instant::now();
    starts(&gateway, id).await;
    let stop = until_announced(&gateway, id).await;
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "it was in use a moment ago"
    );
    let page = gateway.send("GET", &format!("/{id}/"), NAVIGATION).await;
    let offers = format!("action=\"/{id}/-/keep\"");
    assert!(page.text().contains(&offers), "{}", page.text());
    until_stopped(&gateway, id).await;
    assert!(Timestamp::now() >= stop);
    let accounts = relay.within::<ServiceAccount>(&relay.namespace(id));
    let account = accounts
        .get(&format!("dev-session-{id}"))
        .await
        .expect("it is there");
    let annotations = account.metadata.annotations.expect("it is the record");
    assert_eq!(annotations["dev-session/state"], "stopped");
    let mut writes = relay.writes().await;
    // That it was used is stamped once a minute.
    writes.retain(|call| call.namespace == relay.namespace(id));
    let stamps = writes.len().saturating_sub(STOP);
    assert!(stamps <= 1, "{writes:#?}");
    let asset = gateway.send("GET", &format!("/{id}/chat/"), ASSET).await;
    assert_eq!(
        (asset.status.as_u16(), &*asset.code()),
        (503, "session_stopped")
    );

    relay.clear().await;
    starts(&gateway, id).await;
    let mut writes = relay.writes().await;
    writes.retain(|call| call.namespace == relay.namespace(id));
    assert!(writes.len() <= WRITES.1 - STOP.min(2), "{writes:#?}");
    assert_eq!(relay.disk(id).await, disk);
    assert_ne!(relay.pod(id).await.metadata.uid, before);
}

/// A pod has the name of its profile, and no times.
#[tokio::test]
async fn a_profile_has_times_of_its_own_which_hold_for_what_runs_already() {
    let relay = Relay::apart().await;
    let settings = "profile=brief,profiles.brief.idle.after=1h";
    let before = relay.gateway(&[settings]).await;
    let [brief, other] = [SessionId::random(), SessionId::random()];
    starts(&before, brief).await;
    // It would keep what it has seen in use within its own hour.
    drop(before);
    let relay = relay.another().await;
    let settings = "profiles.brief.idle.after=1s,profiles.brief.idle.countdown=1s";
    let after = relay.gateway(&[settings]).await;
    starts(&after, other).await;
    until_stopped(&after, brief).await;
    let told = told(&after, other).await;
    assert_eq!(
        (&told["state"], &told["stop"]),
        (&"running".into(), &Value::Null)
    );
    let profile = |pod: Pod| {
        pod.metadata
            .labels
            .unwrap_or_default()
            .remove("dev-session/profile")
    };
    assert_eq!(profile(relay.pod(other).await), None);
}

/// Speaks without a pause over a websocket until it is closed; returns how.
async fn busy(mut socket: Socket) -> (CloseCode, String) {
    loop {
        // What is sent after the Close is lost.
        let _ = socket.send(Message::text("keystroke")).await;
        match timeout(DEADLINE, socket.next()).await.expect("in time") {
            Some(Ok(Message::Close(Some(close)))) => return (close.code, close.reason.to_string()),
            Some(Ok(said)) => assert_eq!(said, Message::text("keystroke")),
            other => panic!("no Close came, but {other:?}"),
        }
    }
}

/// All know when it is due without a word to each other; one of them stops it, and it is there again.
#[tokio::test]
async fn a_session_in_use_is_stopped_at_its_age_by_one_of_two_gateways() {
    let relay = Relay::apart().await;
    let other = relay.another().await;
    let port = format!("service.vscode.port={}", sockets().await);
    let settings = ["idle.max_age=9s,idle.countdown=4s", &port];
    let gateways = [
        relay.gateway(&settings).await,
        other.gateway(&settings).await,
    ];
    let id = SessionId::random();
    starts(&gateways[0], id).await;
    let busy = tokio::spawn(busy(open(&gateways[1], id).await.0));
    let disk = relay.disk(id).await;
    let before = relay.pod(id).await.metadata;
    let stop = until_announced(&gateways[0], id).await;
    assert_eq!(until_announced(&gateways[1], id).await, stop);
    let made = before.creation_timestamp.expect("it was made").0;
    assert_eq!(stop.duration_since(made), SignedDuration::from_secs(9));
    relay.clear().await;
    other.clear().await;
    let path = format!("/{id}/chat/");
    for gateway in &gateways {
        let kept = gateway.send("POST", &format!("/{id}/-/keep"), API).await;
        assert_eq!(
            (kept.status.as_u16(), &*kept.code()),
            (409, "max_age_reached")
        );
        let served = gateway.send("GET", &path, ASSET).await;
        assert_eq!(served.status, 200, "{served:?}");
        assert_eq!(told(gateway, id).await["because"], "max_age");
    }
    let close = timeout(DEADLINE, busy).await.expect("in time");
    let close = close.expect("it is closed in order");
    assert_eq!(close, (CloseCode::Away, "session ended".to_owned()));
    for gateway in &gateways {
        until_stopped(gateway, id).await;
    }
    assert!(Timestamp::now() >= stop);
    let writes = async |relay: &Relay| {
        let mut writes = relay.writes().await;
        writes.retain(|call| call.namespace == relay.namespace(id));
        writes
    };
    // It is recorded and done; that it was used is stamped once a minute. The other one hears of it before its turn.
    let (first, second) = (writes(&relay).await, writes(&other).await);
    assert!((2..=3).contains(&first.len()), "{first:#?}");
    assert!(second.len() <= 1, "{second:#?}");
    let asset = gateways[1].send("GET", &path, ASSET).await;
    assert_eq!(&*asset.code(), "session_stopped");

    starts(&gateways[1], id).await;
    assert_eq!(relay.disk(id).await, disk);
    assert_ne!(relay.pod(id).await.metadata.uid, before.uid);
    let told = told(&gateways[1], id).await;
    assert_eq!(told.get("stop"), None, "{told}");
}

#[tokio::test]
async fn whoever_says_so_keeps_a_session_from_being_stopped_at_any_gateway() {
    let relay = Relay::apart().await;
    let other = relay.another().await;
    let settings = "idle.after=2s,idle.countdown=60s";
    let gateways = [
        relay.gateway(&[settings]).await,
        other.gateway(&[settings]).await,
    ];
    let id = SessionId::random();
    starts(&gateways[0], id).await;
    let before = relay.pod(id).await.metadata.uid;
    for gateway in &gateways {
        let stop = until_announced(&gateways[0], id).await;
        assert_eq!(until_announced(&gateways[1], id).await, stop);
        let kept = gateway.send("POST", &format!("/{id}/-/keep"), API).await;
        assert_eq!(kept.status, 200, "{kept:?}");
        let pod = relay.pod(id).await;
        assert_eq!(pod.metadata.uid, before);
        // Another one may be announced by now.
        let announced = pod.metadata.annotations.unwrap_or_default();
        assert_ne!(
            announced.get("dev-session/stop-at"),
            Some(&stop.to_string())
        );
        let begun = Instant::now();
        for gateway in &gateways {
            while told(gateway, id).await["stop"] == stop.to_string() {
                assert!(begun.elapsed() < DEADLINE, "it is not told");
            }
        }
    }
}

#[tokio::test]
async fn an_editor_left_alone_goes_idle_in_a_cluster_and_slow_typing_does_not() {
    let relay = Relay::apart().await;
    // Nothing listens on it, and by being bound it is kept free of others.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = closed.local_addr().unwrap().port();
    let port = format!("service.vscode.port={port}");
    let gateway = relay.gateway(&[activity::SETTINGS, &port]).await;
    activity::who_types_is_kept_and_who_left_is_not(&gateway).await;
}
