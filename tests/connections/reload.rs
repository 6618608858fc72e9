//! Certificates that change while clients ask: nobody notices but those who come after it.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use rustls::{
    ClientConfig, HandshakeKind, SupportedProtocolVersion, client::Resumption,
    pki_types::CertificateDer,
};
use tokio::task::JoinHandle;

use super::*;
use crate::support::{
    kept::Socket,
    kit::{Kit, event},
    serve::Serve,
    tls::{Localhost, Pair, put},
    until,
};

type Certificate = CertificateDer<'static>;

/// Answers that each client gets between two changes.
const ANSWERS: usize = 10;

/// Clients that ask without a pause until they are told to stop, over both versions of HTTP: two on connections that
/// they keep, two that shake hands in full for each request. None of their requests may fail.
struct Load(Vec<(Client, JoinHandle<()>)>);

#[derive(Clone)]
struct Client {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    path: String,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    /// The certificates that it saw, each time it was another than before.
    seen: Arc<Mutex<Vec<Certificate>>>,
}

impl Load {
    fn begin(address: SocketAddr, trusted: [&Certificate; 2], path: &str) -> Self {
        let stop = Arc::default();
        let clients = ["http/1.1", "h2"].into_iter().flat_map(|alpn| {
            let mut config = client(&trusted, &[&TLS12, &TLS13], &[alpn]);
            config.resumption = Resumption::disabled();
            let config = Arc::new(config);
            [true, false].map(|keeps| {
                let client = Client {
                    address,
                    config: Arc::clone(&config),
                    path: path.to_owned(),
                    stop: Arc::clone(&stop),
                    answers: Arc::default(),
                    seen: Arc::default(),
                };
                (client.clone(), tokio::spawn(client.ask(keeps)))
            })
        });
        Self(clients.collect())
    }

    /// Waits until each client got some more answers.
    async fn goes_on(&self) {
        let counts = || self.0.iter().map(|(one, _)| one.answers.load(Relaxed));
        let enough: Vec<usize> = counts().map(|count| count + ANSWERS).collect();
        until("every client gets answers", || {
            let ended = self.0.iter().any(|(_, task)| task.is_finished());
            ended
                || counts()
                    .zip(&enough)
                    .all(|(count, enough)| count >= *enough)
        })
        .await;
        assert!(self.0.iter().all(|(_, task)| !task.is_finished()));
    }

    /// Waits until those who shake hands see this certificate.
    async fn sees(&self, certificate: &Certificate) {
        let last = |one: &Client| one.seen.lock().unwrap().last() == Some(certificate);
        until("new connections see the certificate", || {
            self.0.iter().skip(1).step_by(2).all(|(one, _)| last(one))
        })
        .await;
    }

    /// Ends it; what each client saw.
    async fn end(self) -> Vec<Vec<Certificate>> {
        let mut seen = Vec::new();
        for (client, task) in self.0 {
            client.stop.store(true, Relaxed);
            task.await.unwrap();
            seen.push(std::mem::take(&mut *client.seen.lock().unwrap()));
        }
        seen
    }
}

impl Client {
    async fn ask(self, keeps: bool) {
        let mut kept = self.dial().await;
        while !self.stop.load(Relaxed) {
            if !keeps {
                kept = self.dial().await;
            }
            let reply = kept.get(&self.path).await.expect("no request fails");
            assert!(reply.header("via").is_empty() && !reply.body.is_empty());
            self.answers.fetch_add(1, Relaxed);
        }
    }

    async fn dial(&self) -> Kept {
        let (kept, certificate) = dial(self.address, &self.config).await;
        let mut seen = self.seen.lock().unwrap();
        if seen.last() != Some(&certificate) {
            seen.push(certificate);
        }
        kept
    }
}

/// A new connection, and the certificate that the gateway showed.
async fn dial(address: SocketAddr, config: &Arc<ClientConfig>) -> (Kept, Certificate) {
    let stream = connect(address, config, "localhost").await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap();
    let certificate = shown[0].clone().into_owned();
    let http2 = config.alpn_protocols[0] == b"h2";
    let kept = Kept::on(stream, http2, "https://localhost".to_owned()).await;
    (kept.unwrap(), certificate)
}

/// A websocket and a stream of events, over one version of HTTP.
struct Open {
    socket: Socket,
    events: hyper::body::Incoming,
    _connections: [Kept; 2],
}

impl Open {
    async fn new(address: SocketAddr, config: &Arc<ClientConfig>, id: SessionId) -> Self {
        let (mut one, _) = dial(address, config).await;
        let (mut other, _) = dial(address, config).await;
        let socket = one.websocket(&format!("/{id}/chat/")).await.unwrap();
        let request = other.ask("GET", &format!("/{id}/chat/events"));
        let answer = other.send(request.body(nothing()).unwrap()).await.unwrap();
        Self {
            socket,
            events: answer.into_body(),
            _connections: [one, other],
        }
    }

    /// Whether both go on: a message comes back, and the event of this number comes next.
    async fn lives(&mut self, number: u64) {
        let message = Message::binary(number.to_be_bytes().to_vec());
        self.socket.send(message.clone()).await.unwrap();
        let back = timeout(DEADLINE, self.socket.next()).await.unwrap();
        assert_eq!(back.unwrap().unwrap(), message);
        let next = timeout(DEADLINE, self.events.frame()).await.unwrap();
        let next = next.unwrap().unwrap().into_data().unwrap();
        assert_eq!(next, event(number));
    }
}

/// A client of one version of TLS that got a ticket; it trusts nothing but the certificate there was then.
async fn with_ticket(
    address: SocketAddr,
    trusted: &Certificate,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let config = Arc::new(client(&[trusted], &[version], &["http/1.1"]));
    assert_eq!(shake(address, &config).await, HandshakeKind::Full);
    config
}

/// Shakes hands and asks once, so that tickets arrive.
async fn shake(address: SocketAddr, config: &Arc<ClientConfig>) -> HandshakeKind {
    let stream = connect(address, config, "localhost").await.unwrap();
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    let base = "https://localhost".to_owned();
    let mut kept = Kept::on(stream, false, base).await.unwrap();
    assert_eq!(kept.get("/nothing").await.unwrap().status, 404);
    kind
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_under_load_and_touches_no_connection() {
    let localhost = Localhost::new();
    let (old, new) = (&localhost.trusted, Pair::new("localhost"));
    let kit = Kit::new().await;
    let mut settings = localhost.settings().to_vec();
    settings.push("tls.reload=20ms".to_owned());
    let gateway = Gateway::with(kit.service.address, &strs(&settings));
    let (address, id) = (gateway.address, gateway.runs().await);
    let tickets = [
        with_ticket(address, old, &TLS12).await,
        with_ticket(address, old, &TLS13).await,
    ];
    let mut open = Vec::new();
    for alpn in ["http/1.1", "h2"] {
        let mut one = Open::new(address, &localhost.client(alpn), id).await;
        one.lives(0).await;
        open.push(one);
    }
    let load = Load::begin(address, [old, &new.certificate], &format!("/{id}/chat/x"));
    load.goes_on().await;
    new.write(localhost.folder());
    load.sees(&new.certificate).await;
    load.goes_on().await;
    kit.tick.send_replace(1);
    for one in &mut open {
        one.lives(1).await;
    }
    for config in &tickets {
        // It would not trust what is shown in a whole handshake now.
        assert_eq!(shake(address, config).await, HandshakeKind::Resumed);
    }
    let kept = vec![old.clone()];
    let dialled = vec![old.clone(), new.certificate];
    let expected = [&kept, &dialled, &kept, &dialled];
    assert_eq!(load.end().await.iter().collect::<Vec<_>>(), expected);
}

/// Each way in which a pair may be unfit is said, once, and the pair before it stays.
#[tokio::test]
async fn a_certificate_that_is_unfit_is_told_of_and_touches_nobody() {
    let localhost = Localhost::new();
    let (old, new) = (&localhost.trusted, Pair::new("localhost"));
    let data = tempfile::tempdir().unwrap();
    let mut settings = localhost.settings().to_vec();
    settings.push("tls.reload=20ms".to_owned());
    let gateway = Serve::start(data.path(), &settings);
    let load = Load::begin(gateway.address, [old, &new.certificate], "/nothing");
    let file = |end| localhost.folder().join(format!("localhost.{end}"));
    let (crt, key) = (file("crt"), file("key"));
    let key_of_old = std::fs::read_to_string(&key).unwrap();
    let warnings = || gateway.log.count("certificate not taken up");
    let steps: [(&str, &dyn Fn()); 4] = [
        ("holds no private key in PEM", &|| put(&key, "no key")),
        ("is not the one of the certificate", &|| {
            put(&crt, &new.text);
            put(&key, &key_of_old);
        }),
        ("holds no certificate in PEM", &|| put(&crt, "")),
        ("cannot read", &|| std::fs::remove_file(&crt).unwrap()),
    ];
    for (said, change) in steps {
        change();
        until(said, || gateway.log.count(said) > 0).await;
        load.goes_on().await;
        assert_eq!(gateway.log.count(said), 1, "{said}, once");
        load.sees(old).await;
    }
    assert!(warnings() >= 4);
    new.write(localhost.folder());
    load.sees(&new.certificate).await;
    load.goes_on().await;
    let (kept, dialled) = (1, 2);
    let seen = load.end().await;
    let counts: Vec<usize> = seen.iter().map(Vec::len).collect();
    assert_eq!(counts, [kept, dialled, kept, dialled]);
}
