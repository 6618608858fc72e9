//! Who starts a session, who waits for it, who is refused: through a real listener.

mod table;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::future::join_all;
use http::StatusCode;
use session_gateway::{
    activator::{InstanceUid, Observed},
    session::{Intent, SessionId},
};
use tokio::{task::JoinSet, time::Instant};
use uuid::Uuid;

use crate::support::{Gateway, Reply, Service, client, long, sample, service::text, until};

#[tokio::test]
async fn refreshing_the_waiting_page_a_hundred_times_causes_one_start() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    gateway.sessions.gate(false);
    let id = SessionId::random();
    let path = format!("/{id}/preview/a?b=%20");
    for _ in 0..100 {
        let reply = gateway
            .send("GET", &path, &sample(Intent::Navigation).1)
            .await;
        assert_eq!(
            (reply.status, reply.state()),
            (StatusCode::SERVICE_UNAVAILABLE, "starting")
        );
        assert!(!reply.header("retry-after").is_empty());
    }
    gateway.sessions.gate(true);
    gateway.until_running(id).await;
    let reply = gateway
        .send("GET", &path, &sample(Intent::Navigation).1)
        .await;
    assert_eq!((reply.status, reply.text()), (StatusCode::OK, &*path));
    assert_eq!(gateway.sessions.starts(), 1);
}

/// Neither the page that stands in for the service nor the session's own, which reads the record for all who look at it
/// within a second.
#[tokio::test]
async fn refreshing_the_pages_of_a_failed_session_starts_nothing_and_reads_its_record_seldom() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    gateway.sessions.fail(true);
    let id = SessionId::random();
    let navigation = sample(Intent::Navigation).1;
    let reload = async |path: &str| {
        let path = format!("/{id}/{path}");
        gateway.send("GET", &path, &navigation).await
    };
    reload("preview/").await;
    until("the start has failed", || {
        gateway.slot(id).failure.is_some()
    })
    .await;
    // Until a request may start it again.
    let begun = Instant::now();
    let looks = || gateway.sessions.looks.load(Ordering::Relaxed);
    let before = looks();
    for _ in 0..100 {
        assert_eq!(reload("preview/").await.state(), "failed");
    }
    assert_eq!(looks(), before);
    for _ in 0..100 {
        assert_eq!(reload("").await.state(), "failed");
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    let looks = looks() - before;
    assert!(looks <= seconds + 1, "{looks} in {seconds} s");
    assert_eq!(gateway.sessions.starts(), 1);
}

/// Half of the clients leave early; the start goes on for the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_hundred_first_requests_at_once_make_one_start() {
    let count = if long() { 4000 } else { 400 };
    let service = Service::echo().await;
    // One address and one session, which have limits of their own.
    let limits = [
        "limits.connections_per_client=5000",
        "limits.requests_per_session=5000",
    ];
    let gateway = Gateway::with(
        service.address,
        &[&limits[..], &["spawn.held=5000"]].concat(),
    );
    gateway.sessions.gate(false);
    let id = SessionId::random();
    let mut staying = JoinSet::new();
    let mut leaving = JoinSet::new();
    let kinds = [
        Intent::Navigation,
        Intent::Api,
        Intent::Asset,
        Intent::ApiSocket,
    ];
    // The first decides whether assets find a start under way; it is an API client's, like every fourth.
    let (method, headers) = sample(Intent::Api);
    let path = format!("/{id}/chat/x");
    let first = gateway.request(method, &path, &headers, Bytes::new());
    staying.spawn(send(gateway.address, first, Intent::Api));
    gateway.until_held(id, 1).await;
    for n in 1..count {
        let intent = kinds[n % kinds.len()];
        let (method, headers) = sample(intent);
        let request = gateway.request(method, &path, &headers, Bytes::new());
        let group = if n % 8 < 4 {
            &mut staying
        } else {
            &mut leaving
        };
        group.spawn(send(gateway.address, request, intent));
    }
    // All but the navigations, and half of them: of eight in a row the last four leave, one of them a navigation.
    let held = count - count / 4 + 1;
    gateway.until_held(id, held).await;
    leaving.shutdown().await;
    gateway.until_held(id, held - count / 8 * 3).await;
    gateway.sessions.gate(true);
    for (intent, reply) in staying.join_all().await {
        match intent {
            Intent::Navigation => assert_eq!(reply.state(), "starting"),
            _ => assert_eq!(
                (reply.status, reply.text()),
                (StatusCode::OK, "/x"),
                "{intent:?}"
            ),
        }
    }
    assert_eq!(gateway.sessions.starts(), 1);
}

async fn send(
    address: std::net::SocketAddr,
    request: http::Request<http_body_util::Full<Bytes>>,
    intent: Intent,
) -> (Intent, Reply) {
    (intent, client::send(address, request).await)
}

/// A service whose port is closed is starting, for itself alone, and its requests wait.
#[tokio::test]
async fn a_service_that_refuses_is_waited_for() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let id = SessionId::random();
    // A port that nothing listens on, kept free of others by being bound.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = closed.local_addr().unwrap();
    let uid = InstanceUid(Uuid::new_v4());
    let addresses = vec![address, service.address, service.address];
    let observed = Observed::new(uid, addresses);
    gateway.sessions.facts().saw(id, observed);
    let chat = gateway.service("chat");
    until("chat is open", || {
        gateway
            .slot(id)
            .instance
            .is_some_and(|one| one.is_open(chat))
    })
    .await;
    assert_eq!(
        gateway
            .send("GET", &format!("/{id}/chat/"), &[])
            .await
            .status,
        StatusCode::OK
    );
    let waiting = gateway
        .send(
            "GET",
            &format!("/{id}/preview/"),
            &sample(Intent::Navigation).1,
        )
        .await;
    assert_eq!(waiting.state(), "starting");
    let path = format!("/{id}/preview/");
    let held = join_all((0..8).map(|_| gateway.send("GET", &path, &[])));
    let open = async {
        gateway.until_held(id, 8).await;
        Service::on(closed.listen(8).unwrap(), |_| async { text("ok") })
    };
    let (replies, _service) = tokio::join!(held, open);
    assert!(
        replies.iter().all(|reply| reply.text() == "ok"),
        "{replies:?}"
    );
    assert_eq!(gateway.sessions.starts(), 0);
}

/// Starts that wait are told where they stand, on the page and to programs; one that is stopped leaves the queue.
#[tokio::test]
async fn a_start_that_waits_its_turn_tells_its_position_until_it_is_stopped() {
    let service = Service::echo().await;
    let settings = ["spawn.concurrent=1", "spawn.queue=3"];
    let gateway = Gateway::with(service.address, &settings);
    gateway.sessions.gate(false);
    let ids: Vec<SessionId> = (0..5).map(|_| SessionId::random()).collect();
    let navigation = sample(Intent::Navigation).1;
    let open = async |id| {
        gateway
            .send("GET", &format!("/{id}/preview/"), &navigation)
            .await
    };
    open(ids[0]).await;
    until("the first is under way", || gateway.sessions.starts() == 1).await;
    for (position, id) in (1..4).zip(&ids[1..]) {
        open(*id).await;
        gateway.until_at(*id, position).await;
    }
    open(ids[4]).await;
    until("there is no room for more", || {
        gateway.slot(ids[4]).failure.is_some()
    })
    .await;
    assert!(open(ids[4]).await.text().contains("queue_full"));
    let page = open(ids[2]).await;
    assert!(
        page.text().contains("number 2 in the queue"),
        "{}",
        page.text()
    );
    let status = format!("/{}/-/status", ids[2]);
    let status = gateway.send("GET", &status, &[]).await;
    let status: serde_json::Value = serde_json::from_slice(&status.body).unwrap();
    for service in status["services"].as_array().unwrap() {
        assert_eq!(
            (&service["stage"], &service["position"]),
            (&"queue".into(), &2.into()),
            "{status}"
        );
    }
    gateway
        .send("POST", &format!("/{}/-/stop", ids[1]), &[])
        .await;
    gateway.until_at(ids[2], 1).await;
    gateway.until_at(ids[3], 2).await;
    assert!(gateway.slot(ids[1]).start.is_none());
    gateway.sessions.gate(true);
    for id in [ids[0], ids[2], ids[3]] {
        gateway.until_running(id).await;
    }
    assert_eq!(
        gateway.sessions.starts(),
        3,
        "what was stopped was not started"
    );
}
