//! A service that does all that services do: it answers, streams events, and keeps websockets.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use session_gateway::session::SessionId;
use tempfile::{TempDir, tempdir};
use tokio::{net::TcpListener, sync::watch};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::{
    Kept, Service, Way,
    kept::nothing,
    serve::Serve,
    service::{Answer, text},
    tls::Localhost,
};

/// Such a service, and what the test holds of it.
pub struct Kit {
    pub service: Service,
    /// How often each target was asked for. Targets that tests make unique tell what reached the service.
    pub asked: Arc<Mutex<HashMap<String, usize>>>,
    /// Each number that this takes is sent as an event on all streams that are open.
    pub tick: watch::Sender<u64>,
    /// Whether what is held is answered.
    pub release: watch::Sender<bool>,
    /// Bytes of endless answers that were taken so far.
    pub sent: Arc<AtomicUsize>,
    /// How many websockets were closed, by the code of the Close that came.
    pub closed: Codes,
}

type Codes = Arc<Mutex<HashMap<u16, usize>>>;

impl Kit {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        Self::on(listener.expect("a free port"))
    }

    /// On this listener. `.../events` is a stream of events, `.../endless` an answer of any size, and an upgrade a
    /// websocket that sends every message back; anything else is answered with the target and the length of the body
    /// that came, `.../held` once it is released.
    pub fn on(listener: TcpListener) -> Self {
        let (tick, release) = (watch::Sender::new(0), watch::Sender::new(false));
        let (asked, closed) = (Arc::<Mutex<HashMap<_, _>>>::default(), Codes::default());
        let (seen, told, ticks) = (Arc::clone(&asked), Arc::clone(&closed), tick.clone());
        let (released, sent) = (release.clone(), Arc::default());
        let taken = Arc::clone(&sent);
        let service = Service::on(listener, move |request: Request<Incoming>| {
            let target = request.uri().to_string();
            *seen.lock().unwrap().entry(target.clone()).or_default() += 1;
            let (told, ticks) = (Arc::clone(&told), ticks.subscribe());
            let mut released = released.subscribe();
            let taken = Arc::clone(&taken);
            async move {
                if request.headers().contains_key(header::UPGRADE) {
                    return switch(request, told);
                }
                if target.ends_with("/events") {
                    return events(ticks);
                }
                if target.ends_with("/endless") {
                    return endless(taken);
                }
                if target.ends_with("/held") {
                    let _ = released.wait_for(|released| *released).await;
                }
                let body = request.into_body().collect().await;
                let length = body.map_or(0, |body| body.to_bytes().len());
                text(format!("{target} {length}"))
            }
        });
        Self {
            service,
            asked,
            tick,
            release,
            sent,
            closed,
        }
    }

    /// How often a target was asked for.
    pub fn times(&self, target: &str) -> usize {
        self.asked.lock().unwrap().get(target).copied().unwrap_or(0)
    }

    /// How many websockets were closed with this code.
    pub fn closed(&self, code: u16) -> usize {
        self.closed.lock().unwrap().get(&code).copied().unwrap_or(0)
    }
}

/// A session of a gateway in a process of its own, with this service at its address of `chat`.
pub struct Served {
    pub address: SocketAddr,
    pub id: SessionId,
    pub kit: Kit,
    localhost: Localhost,
    _data: TempDir,
}

impl Served {
    /// Starts both. The gateway speaks TLS alone, if it does.
    pub async fn start(tls: bool, settings: &[&str]) -> (Self, Serve) {
        Self::by(tls, settings, Serve::start).await
    }

    /// As [`start`](Self::start) without TLS, for a program that may have so many files open.
    pub async fn limited(settings: &[&str], descriptors: usize) -> (Self, Serve) {
        let start = |data: &Path, all: &[String]| Serve::limited(data, all, descriptors);
        Self::by(false, settings, start).await
    }

    async fn by(
        tls: bool,
        settings: &[&str],
        start: impl FnOnce(&Path, &[String]) -> Serve,
    ) -> (Self, Serve) {
        let (data, localhost) = (tempdir().expect("a folder"), Localhost::new());
        let mut all = elsewhere(settings);
        if tls {
            all.extend(localhost.settings());
        }
        let gateway = start(data.path(), &all);
        let way = if tls { Way::Tls1 } else { Way::Http1 };
        let listener = listener(&gateway, way, &localhost).await;
        let served = Self {
            address: gateway.address,
            id: gateway.id,
            kit: Kit::on(listener),
            localhost,
            _data: data,
        };
        (served, gateway)
    }

    /// A new connection to the gateway.
    ///
    /// # Errors
    /// If there is none to be had.
    pub async fn connect(&self, way: Way) -> io::Result<Kept> {
        way.connect(self.address, &self.localhost).await
    }

    /// Where clients find what is this target for the service: the prefix is taken off on the way.
    pub fn path(&self, target: &str) -> String {
        format!("/{}/chat{target}", self.id)
    }
}

/// These settings, and services that are no more than a process that ends when asked to: what listens on their ports is
/// in the test.
pub fn elsewhere(settings: &[&str]) -> Vec<String> {
    let services = ["preview", "chat", "vscode"];
    let sleep = services.map(|name| format!("local.services.{name}.command={{sleep,1000}}"));
    let settings = settings.iter().map(|&one| one.to_owned());
    settings.chain(sleep).collect()
}

/// A gateway in a process of its own, and what its session's service `chat` accepts by; the folder keeps both.
pub async fn bare(settings: &[&str]) -> (Serve, TcpListener, TempDir) {
    let data = tempdir().expect("a folder");
    let gateway = Serve::start(data.path(), &elsewhere(settings));
    let listener = listener(&gateway, Way::Http1, &Localhost::new()).await;
    (gateway, listener, data)
}

/// Starts the session of a gateway, and listens where its chat is expected.
async fn listener(gateway: &Serve, way: Way, localhost: &Localhost) -> TcpListener {
    let first = way.connect(gateway.address, localhost).await;
    let mut first = first.expect("it serves");
    let start = first.ask("POST", &format!("/{}/-/start", gateway.id));
    let started = first.send(start.body(nothing()).expect("a request")).await;
    assert!(started.expect("an answer").status().is_success());
    let listener = TcpListener::bind(gateway.place(gateway.id, "chat").await).await;
    listener.expect("its port is free")
}

/// The event of a number.
pub fn event(number: u64) -> String {
    format!("data: {number}\n\n")
}

/// The number there is, and each that it takes.
fn events(ticks: watch::Receiver<u64>) -> Answer {
    let frames = stream::unfold((ticks, true), |(mut ticks, first)| async move {
        if !first {
            ticks.changed().await.ok()?;
        }
        let number = *ticks.borrow_and_update();
        let frame = Frame::data(event(number).into());
        Some((Ok::<_, Infallible>(frame), (ticks, false)))
    });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(
            StreamBody::new(frames)
                .map_err(|never| match never {})
                .boxed(),
        )
        .expect("an answer")
}

/// Bytes for as long as somebody takes them.
fn endless(taken: Arc<AtomicUsize>) -> Answer {
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let frames = stream::repeat_with(move || {
        taken.fetch_add(chunk.len(), Relaxed);
        Ok(Frame::data(chunk.clone()))
    });
    Response::new(BodyExt::boxed(StreamBody::new(frames)))
}

fn switch(request: Request<Incoming>, closed: Codes) -> Answer {
    let key = request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes();
    let accept = derive_accept_key(key);
    tokio::spawn(async move {
        let Ok(io) = hyper::upgrade::on(request).await else {
            return;
        };
        let io = TokioIo::new(io);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(Some(close)) = &message {
                let code = close.code.into();
                *closed.lock().unwrap().entry(code).or_default() += 1;
            } else if message.is_binary() && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut answer = text("");
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, "upgrade".parse().expect("a value"));
    headers.insert(header::UPGRADE, "websocket".parse().expect("a value"));
    headers.insert(
        header::SEC_WEBSOCKET_ACCEPT,
        accept.parse().expect("a value"),
    );
    answer
}
