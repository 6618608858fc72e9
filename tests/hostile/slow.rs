//! Slow readers and slow writers, many of each at once: they cost little memory, and others do not notice them.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use http_body_util::BodyExt;
use tokio::{
    net::TcpSocket,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::support::{
    Kept, Way,
    kept::{Socket, nothing, streamed},
    kit::Served,
};

/// Clients of each kind, over each version of HTTP.
const CLIENTS: usize = 100;
/// Of these, on a connection of HTTP/2.
const STREAMS: usize = 50;
/// Bytes of a slow writer's body.
const BODY: usize = 256 * 1024;
/// What a slow client may cost: what is read ahead of the one side, and kept for the other.
const EACH: usize = 256 * 1024;
/// Requests of a client that is not slow, until all buffers are full, and again after that.
const REQUESTS: usize = 50;

/// Each change is leave for every slow client to move a byte; its end, to be as quick as the others.
type Ticks = watch::Receiver<usize>;

/// Reads a byte at a time from a connection of its own.
async fn reads(mut stream: TcpStream, mut ticks: Ticks) {
    while ticks.changed().await.is_ok() {
        stream.read_u8().await.expect("it is served on");
    }
}

async fn open_reader(served: &Served) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // Or the kernel would read ahead for it.
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(served.address).await.unwrap();
    let (path, host) = (served.path("/endless"), served.address);
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Reads a frame at a time, if there is one: streams beside it may have taken the connection's window.
async fn reads_stream(mut kept: Kept, path: String, mut ticks: Ticks) {
    let request = kept.ask("GET", &path).body(nothing()).unwrap();
    let mut body = kept.send(request).await.unwrap().into_body();
    while ticks.changed().await.is_ok() {
        if let Some(frame) = body.frame().now_or_never() {
            frame.expect("no end").expect("it is served on");
        }
    }
}

/// Sends a byte at a time, and in the end the rest; all of it arrives.
async fn writes(mut kept: Kept, path: String, target: String, mut ticks: Ticks) {
    let (chunks, body) = mpsc::channel(1);
    let request = kept.ask("POST", &path).body(streamed(body)).unwrap();
    let write = async move {
        let mut left = BODY;
        while ticks.changed().await.is_ok() {
            chunks.send(Ok("x".into())).await.unwrap();
            left -= 1;
        }
        let rest = Bytes::from(vec![b'x'; left]);
        chunks.send(Ok(rest)).await.unwrap();
    };
    let (answer, ()) = tokio::join!(kept.send_long(request), write);
    let body = timeout(DEADLINE, answer.unwrap().into_body().collect()).await;
    let said = body.unwrap().unwrap().to_bytes();
    assert_eq!(said, format!("{target} {BODY}"));
}

/// All the slow clients, at work.
async fn slow_clients(served: &Served, ticks: &watch::Sender<usize>) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    let mut shared: Option<Kept> = None;
    for number in 0..CLIENTS {
        if number % (STREAMS / 2) == 0 {
            shared = Some(served.connect(Way::Http2).await.unwrap());
        }
        let http2 = || shared.as_ref().expect("it is there").shared();
        let http1 = served.connect(Way::Http1).await.unwrap();
        clients.spawn(reads(open_reader(served).await, ticks.subscribe()));
        clients.spawn(reads_stream(
            http2(),
            served.path("/endless"),
            ticks.subscribe(),
        ));
        for (way, kept) in [(1, http1), (2, http2())] {
            let target = format!("/{number}-{way}");
            let path = served.path(&target);
            clients.spawn(writes(kept, path, target, ticks.subscribe()));
        }
    }
    clients
}

/// Clients that are not slow, over both versions of HTTP and on a websocket.
struct Healthy {
    kept: [Kept; 2],
    socket: Socket,
    requests: usize,
}

impl Healthy {
    async fn new(served: &Served) -> Self {
        let mut socket = served.connect(Way::Http1).await.unwrap();
        Self {
            kept: [
                served.connect(Way::Http1).await.unwrap(),
                served.connect(Way::Http2).await.unwrap(),
            ],
            socket: socket.websocket(&served.path("/")).await.unwrap(),
            requests: 0,
        }
    }

    /// One request of each, which must be answered.
    async fn ask(&mut self, served: &Served) {
        self.requests += 1;
        let target = format!("/healthy-{}", self.requests);
        for kept in &mut self.kept {
            let reply = kept.get(&served.path(&target)).await.unwrap();
            assert_eq!(reply.text(), format!("{target} 0"));
        }
        let message = Message::binary(target.into_bytes());
        self.socket.send(message.clone()).await.unwrap();
        let back = timeout(DEADLINE, self.socket.next()).await.unwrap();
        assert_eq!(back.unwrap().unwrap(), message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_slow_clients_cost_little_and_hurt_nobody() {
    let (served, gateway) = Served::start(false, &[]).await;
    let mut healthy = Healthy::new(&served).await;
    for _ in 0..REQUESTS {
        healthy.ask(&served).await;
    }
    let before = gateway.resident();
    let ticks = watch::Sender::new(0);
    let mut clients = slow_clients(&served, &ticks).await;
    // Until all that can be read ahead has been: then nothing moves any more but what the slow ones let move.
    let full = async {
        let (mut sent, mut same) = (0, 0);
        while same < REQUESTS {
            healthy.ask(&served).await;
            let now = served.kit.sent.load(Relaxed);
            same = if now == sent { same + 1 } else { 0 };
            sent = now;
        }
    };
    timeout(DEADLINE, full).await.expect("it ends");
    let all = format!("{CLIENTS} of each kind");
    assert_eq!(served.kit.times("/endless"), 2 * CLIENTS, "{all}");
    for tick in 1..=REQUESTS {
        ticks.send_replace(tick);
        healthy.ask(&served).await;
    }
    assert_eq!(clients.try_join_next().map(|_| "left"), None, "none is cut");
    let grown = gateway.resident().saturating_sub(before);
    eprintln!(
        "measured: {} KiB for each slow client",
        grown / 1024 / (4 * CLIENTS)
    );
    assert!(grown < 4 * CLIENTS * EACH, "{grown} bytes for {all}");
    drop(ticks);
    while let Some(client) = timeout(DEADLINE, clients.join_next()).await.unwrap() {
        client.unwrap();
    }
    healthy.ask(&served).await;
}
