//! Who starts a session, who waits for it, who is refused: through a real listener.

use bytes::Bytes;
use futures_util::future::join_all;
use http::StatusCode;
use session_gateway::{
    activator::InstanceUid,
    session::{Found, Intent, SessionId},
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::{Gateway, Reply, Service, client, long, sample, service::text, until};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Stopped,
    Vanished,
    Starting,
    Failed,
    Ending,
    Running,
}

/// What a request gets, and how many starts it causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gets {
    /// The service's answer.
    Forwarded,
    /// A page as 503, in this state.
    Page(&'static str),
    /// A problem document as 503, with this code.
    Refused(&'static str),
    /// The service's answer, after it was held.
    Held,
}

const STATES: [State; 7] = [
    State::Absent,
    State::Stopped,
    State::Vanished,
    State::Starting,
    State::Failed,
    State::Ending,
    State::Running,
];

/// README, "What a request gets": what each kind gets in each of the states, and how many starts it causes.
#[rustfmt::skip]
const TABLE: [(Intent, [(Gets, usize); 7]); 7] = {
    use Gets::{Forwarded, Held, Page, Refused};
    const STOPPED: Gets = Refused("session_stopped");
    const FAILED: Gets = Refused("session_failed");
    const BEGUN: (Gets, usize) = (Page("starting"), 1);
    [
        // In the order of STATES.
        (Intent::Navigation, [BEGUN, BEGUN, BEGUN, (Page("starting"), 0), (Page("failed"), 0), (Page("stopping"), 0), (Forwarded, 0)]),
        (Intent::Submission, [(Page("absent"), 0), (Page("stopped"), 0), (Page("vanished"), 0), (Page("starting"), 0), (Page("failed"), 0), (Page("stopping"), 0), (Forwarded, 0)]),
        (Intent::Api, [(Held, 1), (Held, 1), (Held, 1), (Held, 0), (FAILED, 0), (Held, 1), (Forwarded, 0)]),
        (Intent::Asset, [(STOPPED, 0), (STOPPED, 0), (Held, 1), (Held, 0), (FAILED, 0), (Held, 1), (Forwarded, 0)]),
        (Intent::PageSocket, [(STOPPED, 0), (STOPPED, 0), (Held, 1), (Held, 0), (FAILED, 0), (Held, 1), (Forwarded, 0)]),
        (Intent::ApiSocket, [(Held, 1), (Held, 1), (Held, 1), (Held, 0), (FAILED, 0), (Held, 1), (Forwarded, 0)]),
        (Intent::Passive, [(STOPPED, 0), (STOPPED, 0), (STOPPED, 0), (Refused("session_starting"), 0), (FAILED, 0), (Refused("session_stopping"), 0), (Forwarded, 0)]),
    ]
};

#[tokio::test]
async fn every_request_gets_what_the_table_says_and_starts_what_it_may() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    for (intent, row) in TABLE {
        for (state, (gets, starts)) in STATES.into_iter().zip(row) {
            let id = SessionId::random();
            let ending = enter(&gateway, id, state).await;
            let before = gateway.sessions.starts();
            let (method, headers) = sample(intent);
            let path = format!("/{id}/preview/x?y");
            let cell = format!("{intent:?} while {state:?}");
            if gets == Gets::Held {
                let send = gateway.send(method, &path, &headers);
                let release = async {
                    gateway.until_held(id, 1).await;
                    if let Some(uid) = ending {
                        gateway.sessions.facts().gone(id, uid);
                    }
                    gateway.sessions.gate(true);
                };
                let (reply, ()) = tokio::join!(send, release);
                assert_eq!(
                    (reply.status, reply.text()),
                    (StatusCode::OK, &*path),
                    "{cell}"
                );
            } else {
                check(
                    &gateway.send(method, &path, &headers).await,
                    gets,
                    &path,
                    method,
                    &cell,
                );
            }
            until(&format!("{starts} starts by {cell}"), || {
                gateway.sessions.starts() - before >= starts
            })
            .await;
            let under_way = gateway.slot(id).start.is_some() && state != State::Starting;
            assert!(starts > 0 || !under_way, "a start by {cell}");
            assert_eq!(
                gateway.sessions.starts() - before,
                starts,
                "starts by {cell}"
            );
            gateway.sessions.gate(true);
            gateway.sessions.fail(false);
        }
    }
}

/// Brings a session into a state; of one that is ending, which instance.
async fn enter(gateway: &Gateway, id: SessionId, state: State) -> Option<InstanceUid> {
    let sessions = &gateway.sessions;
    sessions.gate(false);
    match state {
        State::Absent => {}
        State::Stopped => sessions.record(id, Found::Stopped),
        State::Vanished => sessions.record(id, Found::Vanished),
        State::Starting => {
            let before = sessions.starts();
            gateway.send("POST", &format!("/{id}/-/start"), &[]).await;
            until("the start is under way", || sessions.starts() > before).await;
        }
        State::Failed => {
            sessions.fail(true);
            sessions.gate(true);
            gateway.send("POST", &format!("/{id}/-/start"), &[]).await;
            until("the start has failed", || {
                gateway.slot(id).failure.is_some()
            })
            .await;
        }
        State::Ending | State::Running => {
            sessions.gate(true);
            gateway.send("POST", &format!("/{id}/-/start"), &[]).await;
            gateway.until_running(id).await;
            if state == State::Ending {
                sessions.gate(false);
                let uid = gateway.slot(id).instance.expect("it runs").uid();
                sessions.facts().ending(id, uid);
                return Some(uid);
            }
        }
    }
    None
}

fn check(reply: &Reply, gets: Gets, path: &str, method: &str, cell: &str) {
    match gets {
        Gets::Forwarded | Gets::Held => {
            assert_eq!(reply.status, StatusCode::OK, "{cell}");
            assert_eq!(
                reply.text(),
                if method == "HEAD" { "" } else { path },
                "{cell}"
            );
        }
        Gets::Page(state) => {
            assert_eq!(
                (reply.status, reply.state()),
                (StatusCode::SERVICE_UNAVAILABLE, state),
                "{cell}"
            );
            assert_eq!(reply.header("cache-control"), "no-store", "{cell}");
            Uuid::parse_str(reply.header("x-request-id")).expect("a request id");
        }
        Gets::Refused(code) => {
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{cell}");
            assert_eq!(reply.header("session-gateway-code"), code, "{cell}");
            if method != "HEAD" {
                assert_eq!(reply.code(), code, "{cell}");
            }
            Uuid::parse_str(reply.header("x-request-id")).expect("a request id");
        }
    }
}

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

/// Half of the clients leave early; the start goes on for the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_hundred_first_requests_at_once_make_one_start() {
    let count = if long() { 4000 } else { 400 };
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &["spawn.held=5000"]);
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
    gateway.sessions.facts().saw(
        id,
        InstanceUid(Uuid::new_v4()),
        vec![address, service.address, service.address],
    );
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
