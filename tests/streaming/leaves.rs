//! One side leaves in the middle: the other one hears of it, soon, and as what it is.

use std::time::Duration;

use super::*;
use crate::support::{
    Kept, Way,
    kept::{nothing, streamed},
    service::Bare,
};

/// Ten times what it should take.
const SOON: Duration = Duration::from_secs(1);
/// A client of HTTP/1.1 leaves with its connection, one of HTTP/2 with its stream alone.
const WAYS: [Way; 2] = [Way::Http1, Way::Http2];

/// A service in hand, with a running session.
struct Line {
    service: Bare,
    gateway: Gateway,
    id: SessionId,
}

impl Line {
    async fn new() -> Self {
        let (service, address) = Bare::new().await;
        let gateway = Gateway::with(address, &[]);
        let id = gateway.runs().await;
        Self {
            service,
            gateway,
            id,
        }
    }

    async fn connect(&self, way: Way) -> Kept {
        way.plain(self.gateway.address).await.unwrap()
    }

    fn path(&self) -> String {
        format!("/{}/chat/", self.id)
    }

    /// The service hears that nobody listens any more; what it got until then.
    async fn hears(&self, service: &mut TcpStream) -> Vec<u8> {
        let mut rest = Vec::new();
        let end = timeout(SOON, service.read_to_end(&mut rest)).await;
        // A reset or an end, as there was more to be read or not.
        let _ = end.expect("the service hears of it");
        let idle = || {
            let instance = self.gateway.slot(self.id).instance;
            instance.is_some_and(|one| one.leases() == 0)
        };
        until("nothing is in flight", idle).await;
        rest
    }

    /// The connection goes on if only a stream of it ended.
    async fn goes_on(&self, way: Way, mut kept: Kept) {
        if way.is_http2() {
            let path = self.path();
            let (reply, ()) = tokio::join!(kept.get(&path), async {
                let (mut service, _) = self.service.asked().await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext";
                service.write_all(answer).await.unwrap();
            });
            assert_eq!(reply.unwrap().text(), "next");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_ends_the_request_upstream() {
    let line = Line::new().await;
    for way in WAYS {
        let mut kept = line.connect(way).await;
        let request = kept.ask("GET", &line.path()).body(nothing()).unwrap();
        let mut service = tokio::select! {
            (service, _) = line.service.asked() => service,
            _ = kept.send(request) => unreachable!("nobody answers"),
        };
        if !way.is_http2() {
            drop(kept);
            line.hears(&mut service).await;
            continue;
        }
        line.hears(&mut service).await;
        line.goes_on(way, kept).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_during_the_answer_ends_the_request_upstream() {
    let line = Line::new().await;
    for way in WAYS {
        let mut kept = line.connect(way).await;
        let request = kept.ask("GET", &line.path()).body(nothing()).unwrap();
        let (answer, mut service) = tokio::join!(kept.send(request), async {
            let (mut service, _) = line.service.asked().await;
            let begin = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
            service.write_all(begin).await.unwrap();
            service
        });
        let mut body = answer.unwrap().into_body();
        let first = timeout(DEADLINE, body.frame()).await.unwrap();
        assert_eq!(first.unwrap().unwrap().into_data().unwrap(), "half");
        drop(body);
        line.hears(&mut service).await;
        line.goes_on(way, kept).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_during_its_request_ends_it_upstream_unfinished() {
    let line = Line::new().await;
    for way in WAYS {
        let mut kept = line.connect(way).await;
        let (chunks, body) = mpsc::channel(1);
        let request = kept.ask("PUT", &line.path()).body(streamed(body)).unwrap();
        let leave = async {
            chunks.send(Ok("half".into())).await.unwrap();
            let (mut service, head) = line.service.asked().await;
            assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
            let mut begin = [0; 7];
            service.read_exact(&mut begin).await.unwrap();
            assert_eq!(&begin, b"4\r\nhalf");
            let _ = chunks.send(Err(io::ErrorKind::Other.into())).await;
            line.hears(&mut service).await
        };
        let (answer, rest) = tokio::join!(kept.send(request), leave);
        assert!(answer.is_err(), "the client broke it off itself");
        assert_eq!(rest, b"\r\n", "no end is made up");
        line.goes_on(way, kept).await;
    }
}

/// Heads of answers whose bodies break off, with and without a length.
const BROKEN: [&str; 3] = [
    "content-length: 10\r\n\r\nhalf",
    "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "transfer-encoding: chunked\r\n\r\n9\r\nhalf",
];

#[tokio::test]
async fn a_service_that_leaves_during_its_answer_is_no_clean_end() {
    let line = Line::new().await;
    for way in WAYS {
        for (broken, reset) in BROKEN.iter().flat_map(|one| [(one, false), (one, true)]) {
            let mut kept = line.connect(way).await;
            let request = kept.ask("GET", &line.path()).body(nothing()).unwrap();
            let (answer, service) = tokio::join!(kept.send(request), async {
                let (mut service, _) = line.service.asked().await;
                let answer = format!("HTTP/1.1 200 OK\r\n{broken}");
                service.write_all(answer.as_bytes()).await.unwrap();
                service
            });
            let mut body = answer.unwrap().into_body();
            let first = timeout(DEADLINE, body.frame()).await.unwrap();
            assert_eq!(first.unwrap().unwrap().into_data().unwrap(), "half");
            if reset {
                service.set_zero_linger().unwrap();
            }
            drop(service);
            let end = timeout(SOON, body.frame()).await.expect("it is cut");
            assert!(end.expect("no clean end").is_err(), "{way:?} {broken}");
            line.goes_on(way, kept).await;
        }
    }
}

#[tokio::test]
async fn a_service_that_leaves_during_the_request_is_a_bad_gateway() {
    let line = Line::new().await;
    for way in WAYS {
        let mut kept = line.connect(way).await;
        let (chunks, body) = mpsc::channel(1);
        let request = kept.ask("PUT", &line.path()).body(streamed(body)).unwrap();
        let leave = async {
            chunks.send(Ok("half".into())).await.unwrap();
            let (mut service, _) = line.service.asked().await;
            let mut begin = [0; 7];
            service.read_exact(&mut begin).await.unwrap();
        };
        let (answer, ()) = tokio::join!(kept.send(request), leave);
        let answer = answer.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(answer.headers()["session-gateway-code"], "upstream_broke");
        // Nobody takes the rest.
        timeout(DEADLINE, chunks.closed()).await.expect("it stops");
        line.goes_on(way, kept).await;
    }
}
