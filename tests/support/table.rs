//! README, "What a request gets", as rows: what each kind of request gets in each state of a session, however it comes.
//!
//! Who brings sessions into these states, and what a start costs there, is for the tests that use the rows.

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use session_gateway::session::Intent;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use uuid::Uuid;

use super::{
    Kept, Reply, Sample, Way,
    kept::nothing,
    service::{Answer, text},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Absent,
    Stopped,
    Vanished,
    Starting,
    Failed,
    Ending,
    Running,
}

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gets {
    /// The service's answer.
    Forwarded,
    /// A page as 503, in this state.
    Page(&'static str),
    /// A problem document as 503, with this code.
    Refused(&'static str),
    /// The service's answer, after it was held.
    Held,
}

pub const STATES: [State; 7] = [
    State::Absent,
    State::Stopped,
    State::Vanished,
    State::Starting,
    State::Failed,
    State::Ending,
    State::Running,
];

/// The gateway's own origin, in [samples](super::samples).
const OWN: &str = "http://localhost:8000";

/// What each kind gets in each of the states, and how many starts it causes.
#[rustfmt::skip]
pub const TABLE: [(Intent, [(Gets, usize); 7]); 7] = {
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

/// A service's answer, with the target that it saw. It takes every websocket.
pub fn seen(request: &Request<Incoming>) -> Answer {
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

/// Whether a request of this kind opens a stream of another protocol (RFC 8441).
fn is_extended(way: Way, intent: Intent) -> bool {
    way.is_http2() && intent.is_socket()
}

/// Lets the gateway's settings come, with any answer, where a request of this kind needs them.
pub async fn prepare(kept: &mut Kept, way: Way, intent: Intent) {
    if is_extended(way, intent) {
        kept.get("/nothing").await.expect("an answer");
    }
}

/// Sends a request of this kind and reads its answer, of a websocket its head.
pub async fn ask(
    kept: &mut Kept,
    way: Way,
    (intent, sample): (Intent, Sample),
    path: &str,
) -> Reply {
    let (mut method, mut headers) = sample;
    let base = kept.base().to_owned();
    headers.retain(|(name, _)| *name != "host");
    for (_, page) in headers.iter_mut().filter(|(_, value)| *value == OWN) {
        *page = &base;
    }
    let extended = is_extended(way, intent);
    if extended {
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

/// Holds an answer against its cell.
pub fn check(reply: &Reply, gets: Gets, path: &str, intent: Intent, cell: &str) {
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
            assert_eq!(
                reply.status,
                StatusCode::SERVICE_UNAVAILABLE,
                "{cell}: {reply:?}"
            );
            assert_eq!(reply.header("session-gateway-code"), code, "{cell}");
            // Who only looks may be told by a page, or by nothing but a head.
            if intent != Intent::Passive {
                assert_eq!(reply.code(), code, "{cell}");
            }
            Uuid::parse_str(reply.header("x-request-id")).expect("a request id");
        }
    }
}
