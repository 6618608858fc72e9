//! SIGTERM under load: what a client was given in part it is given whole, and what it was not given was never taken.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{Instant, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    DEADLINE, Kept, Way,
    kept::{nothing, whole},
    kit::{Served, event},
    serve::Serve,
    until,
};

/// How long streams of events may go on.
const STREAMS: Duration = Duration::from_secs(1);
/// Clients of each kind, over each version of HTTP.
const CLIENTS: usize = 4;
/// Bytes of a body: more than one frame of HTTP/2.
const BODY: usize = 40_000;

/// A gateway in a process of its own, and what becomes of its requests.
struct Load {
    served: Served,
    /// The gateway was asked to end: from now on it may refuse.
    told: AtomicBool,
    number: AtomicUsize,
    answered: Mutex<HashSet<String>>,
    /// How each of the others ended.
    refused: Mutex<HashMap<String, String>>,
    /// Messages that came back on websockets.
    messages: AtomicUsize,
    /// Events that came, on all streams.
    events: AtomicUsize,
}

impl Load {
    async fn new(tls: bool, settings: &[&str]) -> (Arc<Self>, Serve) {
        let (served, gateway) = Served::start(tls, settings).await;
        let load = Self {
            served,
            told: AtomicBool::new(false),
            number: AtomicUsize::new(0),
            answered: Mutex::default(),
            refused: Mutex::default(),
            messages: AtomicUsize::new(0),
            events: AtomicUsize::new(0),
        };
        (Arc::new(load), gateway)
    }

    /// A target that nobody asked the service for before.
    fn target(&self, end: &str) -> String {
        format!("/{}{end}", self.number.fetch_add(1, Relaxed))
    }

    /// Asks once; whether the answer says that it is the last. One that begins must come whole.
    async fn ask(&self, kept: &mut Kept, end: &str) -> hyper::Result<bool> {
        let target = self.target(end);
        let request = kept
            .ask("POST", &self.served.path(&target))
            .body(whole(vec![b'x'; BODY]));
        match kept.send(request.unwrap()).await {
            Ok(answer) => {
                let closes = answer.headers().get("connection");
                let is_last = closes.is_some_and(|value| value == "close");
                assert!(!is_last || self.told.load(Relaxed), "{answer:?}");
                let said = read(answer).await;
                assert_eq!(said, format!("{target} {BODY}"));
                self.answered.lock().unwrap().insert(target);
                Ok(is_last)
            }
            Err(error) => {
                assert!(self.told.load(Relaxed), "{error:?}");
                let how = format!("{error:?}");
                self.refused.lock().unwrap().insert(target, how);
                Err(error)
            }
        }
    }

    /// Asks on one connection until it is told to leave it.
    async fn keep(self: Arc<Self>, mut kept: Kept) {
        let mut is_last = false;
        while let Ok(closes) = self.ask(&mut kept, "").await {
            assert!(!is_last, "answered after the last answer");
            is_last = closes;
        }
    }

    /// Asks on a new connection each time until there is none to be had.
    async fn dial(self: Arc<Self>, way: Way) {
        loop {
            let mut kept = match self.served.connect(way).await {
                Ok(kept) => kept,
                Err(error) => return assert!(self.told.load(Relaxed), "{error:?}"),
            };
            if self.ask(&mut kept, "").await.is_err() {
                return;
            }
        }
    }

    /// Has asked before the end, and is answered during it: whole, and over HTTP/1.1 as the last on its connection.
    async fn wait(self: Arc<Self>, way: Way) {
        let mut kept = self.served.connect(way).await.unwrap();
        let is_last = self.ask(&mut kept, "/held").await.expect("it is finished");
        assert_eq!(is_last, !way.is_http2(), "and says so");
        // Over HTTP/2 what was sent before the client had heard of the end is taken (RFC 9113, section 6.8): one more.
        let taken = self.ask(&mut kept, "").await.is_ok();
        let is_last = !taken || way.is_http2() && self.ask(&mut kept, "").await.is_err();
        assert!(is_last, "and nothing more taken");
    }

    /// Reads events until the stream is cut: after its time, and never by a clean end.
    async fn follow(self: Arc<Self>, way: Way, mut begun: watch::Receiver<Option<Instant>>) {
        let mut kept = self.served.connect(way).await.unwrap();
        let request = kept
            .ask("GET", &self.served.path("/events"))
            .body(nothing());
        let request = request.unwrap();
        let mut body = kept.send(request).await.unwrap().into_body();
        let mut number = 0;
        // The last is sent after the end has begun: it comes, unless the time is over by then.
        while let Ok(frame) = timeout(DEADLINE, body.frame())
            .await
            .unwrap()
            .expect("no clean end")
        {
            assert_eq!(frame.into_data().unwrap(), event(number));
            self.events.fetch_add(1, Relaxed);
            number += 1;
        }
        let begun = begun.wait_for(Option::is_some).await.unwrap().unwrap();
        assert!(begun.elapsed() >= STREAMS, "{:?}", begun.elapsed());
    }

    /// Sends a message as soon as the last came back, until it is told to come again.
    async fn speak(self: Arc<Self>, way: Way) {
        let mut kept = self.served.connect(way).await.unwrap();
        let mut socket = kept.websocket(&self.served.path("/")).await.unwrap();
        let message = |number: usize| Message::binary(number.to_be_bytes().to_vec());
        let code = async {
            for number in 0.. {
                // What is sent after the Close is the sender's loss.
                let _ = socket.send(message(number)).await;
                match socket.next().await {
                    Some(Ok(Message::Close(Some(close)))) => return u16::from(close.code),
                    Some(Ok(back)) => assert_eq!(back, message(number)),
                    other => panic!("no Close came, but {other:?}"),
                }
                self.messages.fetch_add(1, Relaxed);
            }
            unreachable!("there is always another number")
        };
        assert_eq!(timeout(DEADLINE, code).await.unwrap(), 1012);
        while let Some(Ok(_)) = timeout(DEADLINE, socket.next()).await.expect("an end") {}
    }

    /// Waits until there are some more answers, and messages.
    async fn goes_on(&self) {
        let counts = || {
            let answers = self.answered.lock().unwrap().len();
            (answers, self.messages.load(Relaxed))
        };
        let (answers, messages) = counts();
        until("there are answers and messages", || {
            counts().0 >= answers + 20 * CLIENTS && counts().1 >= messages + 10 * CLIENTS
        })
        .await;
    }
}

async fn read(answer: Response<Incoming>) -> String {
    assert_eq!(answer.status(), 200);
    let body = timeout(DEADLINE, answer.into_body().collect()).await;
    let bytes = body.unwrap().expect("a whole answer").to_bytes();
    String::from_utf8(bytes.into()).unwrap()
}

/// Waits until nothing is accepted any more.
pub(super) async fn closed(address: SocketAddr) {
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(DEADLINE, refused).await.expect("it takes no more");
}

/// Clients of every kind, over both versions of HTTP; those who follow events are told when the end begins.
async fn clients(
    load: &Arc<Load>,
    tls: bool,
    begun: &watch::Sender<Option<Instant>>,
) -> JoinSet<()> {
    let ways = if tls {
        [Way::Tls1, Way::Tls2]
    } else {
        [Way::Http1, Way::Http2]
    };
    let mut clients = JoinSet::new();
    for way in ways {
        let first = load.served.connect(way).await.unwrap();
        for _ in 0..CLIENTS {
            let load = || Arc::clone(load);
            let kept = if way.is_http2() {
                first.shared()
            } else {
                load().served.connect(way).await.unwrap()
            };
            clients.spawn(load().keep(kept));
            clients.spawn(load().dial(way));
            clients.spawn(load().wait(way));
            clients.spawn(load().follow(way, begun.subscribe()));
            clients.spawn(load().speak(way));
        }
    }
    clients
}

async fn ends_under_load(tls: bool) {
    let settings = [
        "shutdown.grace=60s",
        "shutdown.streams=1s",
        "shutdown.websockets=1s",
    ];
    let (load, mut gateway) = Load::new(tls, &settings).await;
    let begun = watch::Sender::new(None);
    let mut clients = clients(&load, tls, &begun).await;
    until("what is held is there", || {
        let asked = load.served.kit.asked.lock().unwrap();
        asked.keys().filter(|one| one.ends_with("/held")).count() == 2 * CLIENTS
    })
    .await;
    load.goes_on().await;
    for tick in 0..3 {
        load.served.kit.tick.send_replace(tick);
        let all = 2 * CLIENTS * (tick as usize + 1);
        until("the event is everywhere", || {
            load.events.load(Relaxed) == all
        })
        .await;
    }
    load.goes_on().await;
    load.told.store(true, Relaxed);
    begun.send_replace(Some(Instant::now()));
    gateway.signal("TERM");
    closed(load.served.address).await;
    load.served.kit.tick.send_replace(3);
    load.served.kit.release.send_replace(true);
    while let Some(client) = timeout(DEADLINE, clients.join_next()).await.unwrap() {
        client.unwrap();
    }
    let ended = spawn_blocking(move || gateway.ended());
    let status = timeout(DEADLINE, ended).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    for target in load.answered.lock().unwrap().iter() {
        assert_eq!(load.served.kit.times(target), 1, "{target} was answered");
    }
    for (target, how) in load.refused.lock().unwrap().iter() {
        assert_eq!(load.served.kit.times(target), 0, "{target}: {how}");
    }
    assert_eq!(
        load.served.kit.closed(1001),
        2 * CLIENTS,
        "services are told too"
    );
}

#[tokio::test]
async fn a_gateway_that_is_asked_to_end_under_load_fails_no_request() {
    ends_under_load(false).await;
}

#[tokio::test]
async fn a_gateway_with_tls_that_is_asked_to_end_under_load_fails_no_request() {
    ends_under_load(true).await;
}

#[tokio::test]
async fn a_gateway_that_is_asked_to_end_a_second_time_ends_now() {
    let (load, mut gateway) = Load::new(false, &["shutdown.grace=300s"]).await;
    let mut kept = load.served.connect(Way::Http1).await.unwrap();
    let target = load.target("/held");
    let request = kept.ask("GET", &load.served.path(&target)).body(nothing());
    let request = request.unwrap();
    let held = tokio::spawn(async move { kept.send(request).await });
    until("the request is there", || {
        load.served.kit.times(&target) == 1
    })
    .await;
    gateway.signal("TERM");
    closed(load.served.address).await;
    assert!(!held.is_finished(), "what runs may go on");
    gateway.signal("TERM");
    let ended = spawn_blocking(move || gateway.ended());
    let status = timeout(DEADLINE, ended).await.expect("now").unwrap();
    assert_eq!(status.code(), Some(0));
    let held = timeout(DEADLINE, held).await.unwrap().unwrap();
    assert!(held.is_err(), "it is cut off");
}
