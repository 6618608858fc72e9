//! A connection that had lain idle may be closed as a request comes. The request goes once more where that is safe
//! (RFC 9110 section 9.2.2), and never a third time.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Mutex, MutexGuard},
};

use session_gateway::session::{Intent, SessionId};

use super::*;
use crate::support::{
    Reply, client, kit, sample,
    service::{fill, head},
    until,
};

const BROKE: &str = "502 upstream_broke";

/// What the service does with a request.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// Answers, and takes the next request on the same connection.
    Answers,
    /// Says this, and closes the connection.
    Ends(&'static str),
    /// Cuts the connection.
    Resets,
}

/// A service that does as it is told, and counts.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    /// What it does with the next requests; then it answers.
    acts: VecDeque<Does>,
    /// The requests that came, by the number of their connection and their method.
    seen: Vec<String>,
    connections: usize,
    /// How many of these it has closed.
    closed: usize,
}

impl Scripted {
    async fn new() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scripted = Self::default();
        let own = scripted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(own.clone().serve(stream));
            }
        });
        (scripted, address)
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    /// Counts from the beginning, and does this.
    fn begin(&self, acts: &[Does]) {
        *self.script() = Script {
            acts: acts.to_vec().into(),
            ..Script::default()
        };
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut number = None;
        loop {
            let head = head(&mut stream).await;
            let Some((method, _)) = head.split_once(' ') else {
                return;
            };
            let length = head.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body).await.unwrap();
            let act = {
                let mut script = self.script();
                let number = *number.get_or_insert(script.connections);
                script.connections = script.connections.max(number + 1);
                script.seen.push(format!("{number} {method}"));
                script.acts.pop_front().unwrap_or(Does::Answers)
            };
            match act {
                Does::Answers => stream.write_all(OK.as_bytes()).await.unwrap(),
                Does::Ends(says) => {
                    stream.write_all(says.as_bytes()).await.unwrap();
                    break;
                }
                Does::Resets => {
                    stream.set_zero_linger().unwrap();
                    break;
                }
            }
        }
        drop(stream);
        self.script().closed += 1;
    }
}

/// Sends a request of a session on a connection of its own; its status, and its code if it is a problem.
async fn ask(gateway: &Gateway, id: SessionId, (method, body): (&str, &'static str)) -> String {
    let (method, headers) = match method {
        "websocket" => sample(Intent::ApiSocket),
        method => (method, Vec::new()),
    };
    let request = gateway.request(method, &format!("/{id}/preview/"), &headers, body.into());
    let reply = client::send(gateway.address, request).await;
    let (status, code) = (reply.status.as_u16(), reply.header("session-gateway-code"));
    format!("{status} {code}").trim_end().to_owned()
}

/// After a first request, whose connection lies idle then.
#[tokio::test]
async fn a_request_goes_once_more_only_where_it_is_safe_and_unanswered() {
    use Does::{Ends, Resets};
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let (service, address) = Scripted::new().await;
    let gateway = Gateway::with(address, &["workers=1"]);
    let ends = &[Ends("")][..];
    let table: [(_, &[Does], &str, &[&str]); 17] = [
        (("GET", ""), ends, "200", &["0 GET", "1 GET"]),
        (("HEAD", ""), ends, "200", &["0 HEAD", "1 HEAD"]),
        (("OPTIONS", ""), ends, "200", &["0 OPTIONS", "1 OPTIONS"]),
        (("GET", ""), &[Resets], "200", &["0 GET", "1 GET"]),
        // Once, not twice.
        (("GET", ""), &[Ends(""); 2], BROKE, &["0 GET", "1 GET"]),
        (("GET", ""), &[Resets; 2], BROKE, &["0 GET", "1 GET"]),
        // Not after a byte of an answer.
        (("GET", ""), &[Ends("H")], BROKE, &["0 GET"]),
        (
            ("GET", ""),
            &[Ends("HTTP/1.1 200 OK\r\n")],
            BROKE,
            &["0 GET"],
        ),
        (("GET", ""), &[Ends(HINTS)], BROKE, &["0 GET"]),
        // Not with a body, of which some was sent.
        (("GET", "some"), ends, BROKE, &["0 GET"]),
        // Not where it asks for something to be done.
        (("POST", ""), ends, BROKE, &["0 POST"]),
        (("POST", "some"), ends, BROKE, &["0 POST"]),
        (("POST", "some"), &[Resets], BROKE, &["0 POST"]),
        (("PUT", "some"), ends, BROKE, &["0 PUT"]),
        (("PATCH", "some"), ends, BROKE, &["0 PATCH"]),
        (("DELETE", ""), ends, BROKE, &["0 DELETE"]),
        // What asks for a websocket has a connection that is new.
        (("websocket", ""), ends, BROKE, &["1 GET"]),
    ];
    for (request, acts, outcome, seen) in table {
        let id = gateway.runs().await;
        service.begin(&[&[Does::Answers], acts].concat());
        assert_eq!(ask(&gateway, id, ("GET", "")).await, "200");
        let found = ask(&gateway, id, request).await;
        assert_eq!(found, outcome, "{request:?} {acts:?}");
        let expected = [&["0 GET"], seen].concat();
        assert_eq!(service.script().seen, expected, "{request:?} {acts:?}");
    }
}

/// A connection that was made for the request has not been closed for want of use.
#[tokio::test]
async fn a_request_on_a_new_connection_goes_once() {
    let (service, address) = Scripted::new().await;
    let gateway = Gateway::with(address, &["workers=1"]);
    for method in ["GET", "POST"] {
        let id = gateway.runs().await;
        service.begin(&[Does::Ends("")]);
        assert_eq!(ask(&gateway, id, (method, "")).await, BROKE);
        assert_eq!(service.script().seen, [format!("0 {method}")]);
    }
}

/// Nothing was sent on a connection that was closed before: any request may go on another one.
#[tokio::test]
async fn a_connection_that_was_closed_before_costs_no_request() {
    let (service, address) = Scripted::new().await;
    let gateway = Gateway::with(address, &["workers=1"]);
    for request in [("GET", ""), ("POST", ""), ("POST", "some"), ("PUT", "some")] {
        let id = gateway.runs().await;
        service.begin(&[Does::Ends(OK)]);
        assert_eq!(ask(&gateway, id, ("GET", "")).await, "200");
        until("the service has closed it", || service.script().closed == 1).await;
        assert_eq!(ask(&gateway, id, request).await, "200", "{request:?}");
        let seen = ["0 GET".to_owned(), format!("1 {}", request.0)];
        assert_eq!(service.script().seen, seen, "{request:?}");
    }
}

/// A service that goes away between two requests: the second goes once more, and finds nobody, or nobody who accepts
/// in time. The log says where and why, and the client is told neither.
#[tokio::test]
async fn a_service_that_cannot_be_reached_again_is_told_of_without_its_address() {
    for (refuses, cause) in [(true, "Connection refused"), (false, "timed out")] {
        let settings = ["workers=1", "timeouts.connect=300ms"];
        let (gateway, listener, _data) = kit::bare(&settings).await;
        let port = listener.local_addr().unwrap();
        let service = Bare::on(listener);
        let path = format!("/{}/chat/", gateway.id);
        let answers = service.answers(OK);
        let (reply, mut stream) = tokio::join!(gateway.send("GET", &path, &[]), answers);
        assert_eq!(reply.text(), "ok");
        let leaves = async {
            assert_ne!(head(&mut stream).await, "");
            let gone = if refuses {
                drop(service);
                None
            } else {
                Some((fill(&service).await, service))
            };
            drop(stream);
            gone
        };
        let (reply, _gone) = tokio::join!(gateway.send("GET", &path, &[]), leaves);
        unreachable(&reply, cause);
        let line = format!("connecting to {port}: {cause}");
        until("the log says it", || gateway.log.count(&line) == 1).await;
    }
}

/// What the client is told: the code, and nothing of where the service is or what failed.
fn unreachable(reply: &Reply, cause: &str) {
    assert_eq!(reply.status, 502);
    assert_eq!(reply.code(), "upstream_unreachable");
    for part in ["127.0.0.1", "connecting", "os error", cause] {
        assert!(!reply.text().contains(part), "{part}: {}", reply.text());
    }
}

/// The first connection to it is given up after `timeouts.connect`: the service is starting again then, and is waited
/// for like any other.
#[tokio::test]
async fn a_service_that_does_not_accept_in_time_is_waited_for() {
    let (service, address) = Bare::new().await;
    let gateway = Gateway::with(address, &["workers=1", "timeouts.connect=100ms"]);
    let id = gateway.runs().await;
    let filler = fill(&service).await;
    let path = format!("/{id}/preview/");
    let accepts = async {
        gateway.until_held(id, 1).await;
        drop(filler);
        service.answers(OK).await
    };
    let (reply, _stream) = tokio::join!(gateway.send("GET", &path, &[]), accepts);
    assert_eq!(reply.text(), "ok");
}
