//! What counts as use of a session, over sockets: each kind of traffic as each service may be set, and recordings of a
//! real editor, played to gateways of both spawners.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
};

use futures_util::{Sink, SinkExt, StreamExt, future::join_all, stream};
use http::{Request, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use session_gateway::session::SessionId;
use tempfile::tempdir;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Duration, Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, accept_async,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::{
    age::status,
    support::{
        DEADLINE, Gateway, Service, Way,
        kept::{Kept, Socket, nothing},
        kit::elsewhere,
        serve::Serve,
        service::{Answer, text},
        table::seen,
        until,
    },
};

/// A window is a quarter of it: one second for each minute of a recording.
const AFTER: Duration = Duration::from_secs(4);
const FASTER: u32 = 60;
/// Whose stop is announced is stopped at once.
pub(crate) const SETTINGS: &str = "idle.after=4s,idle.countdown=0s";

const UNTOUCHED: &str = include_str!("activity/editor-untouched.txt");
const TYPING: [&str; 2] = [
    include_str!("activity/editor-typing.txt"),
    include_str!("activity/terminal-typing.txt"),
];
const CHAT: &str = include_str!("activity/chat-answer.txt");

/// One direction of a websocket: up is what the client sends.
type End = Box<dyn Sink<Message, Error = Error> + Send + Unpin>;

/// A session of its own whose websockets are open, with both of their ends.
struct Played<'a> {
    gateway: &'a Serve,
    id: SessionId,
    recording: &'static str,
    /// By the way and the number that a recording has.
    ends: BTreeMap<(&'static str, &'static str), End>,
    /// What each client is told at the end.
    closes: JoinSet<Option<CloseFrame>>,
}

impl<'a> Played<'a> {
    async fn new(gateway: &'a Serve, recording: &'static str) -> Self {
        let id = SessionId::random();
        let start = format!("/{id}/-/start");
        let started = gateway.send("POST", &start, &[]).await;
        assert_eq!(started.status, 202, "{started:?}");
        let listener = TcpListener::bind(gateway.place(id, "vscode").await).await;
        let listener = listener.expect("its port is free");
        let sockets = recording.lines().map(|line| fields(line)[1]);
        let mut played = Self {
            gateway,
            id,
            recording,
            ends: BTreeMap::new(),
            closes: JoinSet::new(),
        };
        for socket in sockets.collect::<BTreeSet<_>>() {
            let mut line = Way::Http1.plain(gateway.address).await.unwrap();
            let path = format!("/{id}/vscode/{socket}");
            let (client, service) = tokio::join!(line.websocket(&path), accepted(&listener));
            let (up, mut told) = client.unwrap().split();
            let (down, mut heard) = service.split();
            played.ends.insert(("up", socket), Box::new(up));
            played.ends.insert(("down", socket), Box::new(down));
            tokio::spawn(async move { while let Some(Ok(_)) = heard.next().await {} });
            played.closes.spawn(async move {
                while let Some(Ok(message)) = told.next().await {
                    if let Message::Close(close) = message {
                        return close;
                    }
                }
                None
            });
        }
        played
    }

    /// Plays it once; returns whether the websockets are still open.
    async fn play(&mut self) -> bool {
        let begun = Instant::now();
        for line in self.recording.lines() {
            let [at, socket, way, _, length] = fields(line);
            let at = Duration::from_millis(at.parse().unwrap());
            sleep_until(begun + at / FASTER).await;
            let end = self.ends.get_mut(&(way, socket)).expect("it is open");
            let frame = Message::binary(vec![0; length.parse().unwrap()]);
            if end.send(frame).await.is_err() {
                return false;
            }
        }
        self.closes.try_join_next().is_none()
    }

    /// Plays it, and is stopped before its end, which is at more than twice the idle time.
    async fn goes_idle(mut self) {
        assert!(!self.play().await, "kept, and nobody was there");
        let close = self.closes.join_next().await.unwrap().unwrap();
        let close = close.expect("it is closed in order");
        assert_eq!(
            (close.code, &*close.reason),
            (CloseCode::Away, "session ended")
        );
        while status(self.gateway, self.id).await["state"] != "stopped" {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Plays it for much longer than a session lives that nobody uses.
    async fn stays(mut self) {
        let begun = Instant::now();
        while begun.elapsed() < AFTER * 2 {
            assert!(self.play().await, "stopped under somebody's hands");
        }
        let told = status(self.gateway, self.id).await;
        assert_eq!(told["services"][2]["state"], "running", "{told}");
        assert_eq!(told.get("stop"), None, "{told}");
    }
}

/// When it came in milliseconds, over which websocket, which way, its opcode, and its length.
fn fields(line: &'static str) -> [&'static str; 5] {
    let fields: Vec<&str> = line.split(' ').collect();
    fields.try_into().expect(line)
}

/// The next websocket that comes. Probes hang up before they ask.
async fn accepted(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(socket) = accept_async(stream).await {
            return socket;
        }
    }
}

/// Plays the recordings of an editor, at a gateway with [these settings](SETTINGS) where nothing else listens on the
/// port of `vscode`.
pub(crate) async fn who_types_is_kept_and_who_left_is_not(gateway: &Serve) {
    let all = async {
        let left = async { Played::new(gateway, UNTOUCHED).await.goes_idle().await };
        let typing = TYPING.map(async |one| Played::new(gateway, one).await.stays().await);
        tokio::join!(left, join_all(typing));
    };
    timeout(DEADLINE, all).await.expect("in time");
}

#[tokio::test]
async fn an_editor_left_alone_goes_idle_on_this_machine_and_slow_typing_does_not() {
    let data = tempdir().unwrap();
    let gateway = Serve::start(data.path(), &elsewhere(&[SETTINGS]));
    who_types_is_kept_and_who_left_is_not(&gateway).await;
}

/// What comes to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traffic {
    Request,
    /// The answer to a question, as it was recorded, which is still under way.
    Answer,
    /// The same, as a page listens to it: for ever.
    Events,
    /// A websocket that is open.
    Quiet,
    /// One over which a page acknowledges.
    Short,
    /// One over which somebody types.
    Long,
    /// One over which a program prints.
    Printed,
}

/// Which traffic is use where the service is set so: `requests`, `open`, `input`, and `input` with its output.
const USE: [(Traffic, [bool; 4]); 7] = [
    (Traffic::Request, [true, true, true, true]),
    (Traffic::Answer, [true, true, true, true]),
    (Traffic::Events, [false, true, false, false]),
    (Traffic::Quiet, [false, true, false, false]),
    (Traffic::Short, [false, true, false, false]),
    (Traffic::Long, [false, true, true, true]),
    (Traffic::Printed, [false, true, false, true]),
];

/// More than one window asks for, wherever among them it ends.
const MANY: usize = 100;
/// From this length on a frame is long.
const LONG: usize = 10;
const PRINT: &str = "print";
const DONE: &str = "done";

/// What is open while its session is looked at.
#[derive(Default)]
struct Open {
    socket: Option<Socket>,
    _answer: Option<(Kept, Incoming)>,
}

#[tokio::test]
async fn traffic_is_use_of_a_session_where_its_service_counts_it() {
    let service = Service::new(|request| async move { served(request) }).await;
    let settings = [
        "service.chat.activity=requests",
        "service.chat.activity=open",
        "service.chat.activity=input",
        "service.chat.activity=input,service.chat.output_counts=true",
    ];
    for (at, setting) in settings.into_iter().enumerate() {
        let gateway = Gateway::with(service.address, &[setting]);
        for (traffic, expected) in USE {
            let id = gateway.runs().await;
            let used = || gateway.slot(id).instance.unwrap().last_used();
            let mut open = Open::new(&gateway, id, traffic).await;
            let before = used();
            // What was used is known to the millisecond.
            let later = Instant::now() + Duration::from_millis(2);
            until("a moment has passed", || Instant::now() >= later).await;
            open.comes(&gateway, id, traffic).await;
            let cell = format!("{traffic:?} with {setting}");
            if expected[at] {
                until(&cell, || used() > before).await;
            } else {
                assert_eq!(used(), before, "{cell}");
            }
        }
    }
}

/// Answers, streams what was recorded and more that does not come, or keeps a websocket.
fn served(mut request: Request<Incoming>) -> Answer {
    let answer = seen(&request);
    if request.headers().contains_key(header::UPGRADE) {
        tokio::spawn(async move {
            let io = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
            answers(socket).await;
        });
        return answer;
    }
    if request.uri().path() != "/stream" {
        return text("");
    }
    let parts: Vec<_> = recorded_answer()
        .map(|length| Ok::<_, Infallible>(Frame::data(vec![b'x'; length].into())))
        .collect();
    let body = StreamBody::new(stream::iter(parts).chain(stream::pending()));
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(BodyExt::boxed(body.map_err(|never| match never {})))
        .unwrap()
}

fn recorded_answer() -> impl Iterator<Item = usize> {
    let parts = CHAT
        .lines()
        .map(fields)
        .filter(|[_, _, way, ..]| *way == "down");
    parts.map(|[.., length]| length.parse().unwrap())
}

/// Prints when it is told to, and says when it has heard all.
async fn answers<S>(mut socket: WebSocketStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = socket.next().await {
        let prints = message == Message::text(PRINT);
        for _ in 0..if prints { MANY } else { 0 } {
            let _ = socket.feed(Message::binary(vec![0; LONG])).await;
        }
        if message.is_text() {
            let _ = socket.send(Message::text(DONE)).await;
        }
    }
}

impl Open {
    /// Opens what the traffic comes over, until all of that is said which may be use by itself.
    async fn new(gateway: &Gateway, id: SessionId, traffic: Traffic) -> Self {
        let mut line = Way::Http1.plain(gateway.address).await.unwrap();
        let mut open = Self::default();
        let method = match traffic {
            Traffic::Request => return open,
            Traffic::Answer => "POST",
            Traffic::Events => "GET",
            Traffic::Quiet | Traffic::Short | Traffic::Long | Traffic::Printed => {
                let path = format!("/{id}/chat/");
                open.socket = Some(line.websocket(&path).await.unwrap());
                open.says(DONE).await;
                return open;
            }
        };
        let asked = line.ask(method, &format!("/{id}/chat/stream"));
        let answer = line.send(asked.body(nothing()).unwrap()).await.unwrap();
        let mut body = answer.into_body();
        let mut left = recorded_answer().sum::<usize>();
        while left > 0 {
            let frame = timeout(DEADLINE, body.frame()).await.expect("in time");
            left -= frame.unwrap().unwrap().data_ref().unwrap().len();
        }
        open._answer = Some((line, body));
        open
    }

    async fn comes(&mut self, gateway: &Gateway, id: SessionId, traffic: Traffic) {
        match traffic {
            Traffic::Request => {
                let answer = gateway.send("GET", &format!("/{id}/chat/"), &[]).await;
                assert_eq!(answer.status, 200);
            }
            Traffic::Answer | Traffic::Events | Traffic::Quiet => {}
            Traffic::Short => self.types(LONG - 1).await,
            Traffic::Long => self.types(LONG).await,
            Traffic::Printed => self.says(PRINT).await,
        }
    }

    async fn types(&mut self, length: usize) {
        for _ in 0..MANY {
            let key = Message::binary(vec![0; length]);
            self.socket().send(key).await.unwrap();
        }
        self.says(DONE).await;
    }

    /// Says this, and waits until the service has done all that it is to do.
    async fn says(&mut self, what: &str) {
        let socket = self.socket();
        socket.send(Message::text(what)).await.unwrap();
        loop {
            let next = timeout(DEADLINE, socket.next()).await.expect("in time");
            if next.unwrap().unwrap() == Message::text(DONE) {
                return;
            }
        }
    }

    fn socket(&mut self) -> &mut Socket {
        self.socket.as_mut().expect("it is opened")
    }
}
