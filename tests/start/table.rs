//! The table of who starts a session, who waits and who is refused: every cell, however the request comes.

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use session_gateway::{
    activator::InstanceUid,
    session::{Found, Intent, SessionId},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use uuid::Uuid;

use crate::support::{
    Gateway, Reply, Service, Way, client,
    kept::{Kept, nothing},
    sample,
    service::{Answer, text},
    tls::Localhost,
    until,
};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_gets_what_the_table_says_and_starts_what_it_may_however_it_comes() {
    let localhost = Localhost::new();
    let ways = [Way::Http1, Way::Http2, Way::Tls1, Way::Tls2];
    join_all(ways.map(|way| every_cell(way, &localhost))).await;
}

async fn every_cell(way: Way, localhost: &Localhost) {
    let service = Service::new(|request| async move { seen(&request) }).await;
    let settings = localhost.settings();
    let settings: Vec<&str> = settings
        .iter()
        .map(|it| &**it)
        .filter(|_| way.is_tls())
        .collect();
    let gateway = Gateway::with(service.address, &settings);
    for (intent, row) in TABLE {
        for (state, (gets, starts)) in STATES.into_iter().zip(row) {
            let id = SessionId::random();
            let ending = enter(&gateway, id, state).await;
            let before = gateway.sessions.starts();
            let path = format!("/{id}/preview/x?y");
            let cell = format!("{intent:?} while {state:?} over {way:?}");
            let mut kept = way.connect(gateway.address, localhost).await.unwrap();
            let send = ask(&mut kept, way, intent, &path);
            let release = async {
                if gets == Gets::Held {
                    gateway.until_held(id, 1).await;
                    if let Some(uid) = ending {
                        gateway.sessions.facts().gone(id, uid);
                    }
                    gateway.sessions.gate(true);
                }
            };
            let (reply, ()) = tokio::join!(send, release);
            check(&reply, gets, &path, intent, &cell);
            until(&format!("{starts} starts by {cell}"), || {
                gateway.sessions.starts() - before >= starts
            })
            .await;
            let under_way = gateway.slot(id).start.is_some() && state != State::Starting;
            assert!(starts > 0 || !under_way, "a start by {cell}");
            let begun = gateway.sessions.starts() - before;
            assert_eq!(begun, starts, "starts by {cell}");
            gateway.sessions.gate(true);
            gateway.sessions.fail(false);
        }
    }
}

/// A service's answer, with the target that it saw. It takes every websocket.
fn seen(request: &Request<Incoming>) -> Answer {
    let mut answer = text("");
    let headers = answer.headers_mut();
    let target = request.uri().to_string();
    headers.insert("seen", target.try_into().expect("it is ASCII"));
    if let Some(key) = request.headers().get("sec-websocket-key") {
        let accept = derive_accept_key(key.as_bytes());
        headers.insert(
            "sec-websocket-accept",
            accept.try_into().expect("it is ASCII"),
        );
        headers.insert("connection", HeaderValue::from_static("upgrade"));
        headers.insert("upgrade", HeaderValue::from_static("websocket"));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
    answer
}

/// Sends a request of this kind and reads its answer, of a websocket its head.
async fn ask(kept: &mut Kept, way: Way, intent: Intent, path: &str) -> Reply {
    let (mut method, mut headers) = sample(intent);
    let base = kept.base().to_owned();
    headers.retain(|(name, _)| *name != "host");
    for (_, origin) in headers.iter_mut().filter(|(name, _)| *name == "origin") {
        *origin = &base;
    }
    let extended = way.is_http2() && intent.is_socket();
    if extended {
        // The gateway's settings come with any answer.
        kept.get("/nothing").await.unwrap();
        method = "CONNECT";
        headers.retain(|(name, _)| !["connection", "upgrade", "sec-websocket-key"].contains(name));
    }
    let mut request = kept.ask(method, path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if extended {
        request = request.extension(hyper::ext::Protocol::from_static("websocket"));
    }
    let answer = kept.send(request.body(nothing()).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = if intent.is_socket() && head.status.as_u16() < 300 {
        Bytes::new()
    } else {
        body.collect().await.unwrap().to_bytes()
    };
    Reply {
        status: head.status,
        headers: head.headers,
        body,
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
            start(gateway, id).await;
            until("the start is under way", || sessions.starts() > before).await;
        }
        State::Failed => {
            sessions.fail(true);
            sessions.gate(true);
            start(gateway, id).await;
            until("the start has failed", || {
                gateway.slot(id).failure.is_some()
            })
            .await;
        }
        State::Ending | State::Running => {
            sessions.gate(true);
            start(gateway, id).await;
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

/// Starts it by the operators' port, which is never encrypted.
async fn start(gateway: &Gateway, id: SessionId) {
    let request = Request::post(format!("/api/sessions/{id}/start"));
    let request = request.header("host", gateway.admin.to_string());
    let started = client::send(gateway.admin, request.body(Full::default()).unwrap()).await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
}

fn check(reply: &Reply, gets: Gets, path: &str, intent: Intent, cell: &str) {
    match gets {
        Gets::Forwarded | Gets::Held => {
            // A websocket is opened by 101, over HTTP/2 by 200.
            let is_fine = reply.status == StatusCode::OK
                || intent.is_socket() && reply.status == StatusCode::SWITCHING_PROTOCOLS;
            assert!(is_fine, "{cell}: {reply:?}");
            assert_eq!(reply.header("seen"), path, "{cell}");
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
            if intent != Intent::Passive {
                assert_eq!(reply.code(), code, "{cell}");
            }
            Uuid::parse_str(reply.header("x-request-id")).expect("a request id");
        }
    }
}
