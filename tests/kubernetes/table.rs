//! The table of what a request gets, on a cluster: every cell over both versions of HTTP, asked of the gateway that
//! brought the session there and of one that has just begun, with the API writes that it causes.
//!
//! Counted are the calls that change something, whatever they are answered; reads are none. Preview's port is open
//! where the test says so: a pod runs before its services answer.

use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use session_gateway::session::{Intent, SessionId};
use tokio::{
    net::{TcpListener, TcpSocket},
    time::{Duration, Instant, sleep},
};

use super::{life::annotate, retention::unused};
use crate::support::{
    DEADLINE, Kept, Service, Way,
    cluster::{API, Call, Relay},
    sample,
    serve::Serve,
    table::{Gets, STATES, State, TABLE, ask, check, prepare, seen},
};

const WAYS: [Way; 2] = [Way::Http1, Way::Http2];
/// What a first start writes inside the session's namespace, as the sessions are here: without Services, which are most
/// of what a start costs the API server. The namespace itself is one more.
const FIRST: usize = 6;

/// All cells of one state, and where they are asked.
struct Column {
    state: State,
    cells: Vec<Cell>,
    relays: [Relay; 2],
    /// Preview's.
    port: u16,
}

/// One request for one session, which others ask too if it changes nothing.
struct Cell {
    id: SessionId,
    intent: Intent,
    way: Way,
    /// Which gateway is asked: 0 brought the session there, 1 has just begun.
    asked: usize,
    gets: Gets,
    starts: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_gets_what_the_table_says_by_as_few_writes_at_any_gateway() {
    let begun = Instant::now();
    let mut count = 0;
    for (at, state) in STATES.into_iter().enumerate() {
        // Nothing listens on it, and by being bound it is kept free of others.
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = closed.local_addr().unwrap().port();
        let relay = Relay::apart().await;
        let column = Column {
            state,
            cells: cells(at),
            relays: [relay.another().await, relay],
            port,
        };
        column.run().await;
        count += column.cells.len();
    }
    let took = begun.elapsed().as_secs_f64();
    eprintln!("measured: {count} cells of the table on a cluster in {took:.1} s");
}

/// The cells of one column.
fn cells(at: usize) -> Vec<Cell> {
    let mut all = Vec::new();
    for (intent, row) in TABLE {
        let (gets, starts) = row[at];
        let shared = SessionId::random();
        let changes = starts > 0 || gets == Gets::Held;
        for (way, asked) in WAYS.into_iter().flat_map(|way| [(way, 0), (way, 1)]) {
            let id = if changes { SessionId::random() } else { shared };
            all.push(Cell {
                id,
                intent,
                way,
                asked,
                gets,
                starts,
            });
        }
    }
    all
}

impl Column {
    async fn run(&self) {
        let setting = format!("services=none,service.preview.port={}", self.port);
        let first = self.relays[0].gateway(&[&setting]).await;
        self.enter(&first).await;
        // It has been asked nothing, and its watch begins with what is there now.
        let gateways = [first, self.relays[1].gateway(&[&setting]).await];
        self.relays[0].clear().await;
        let is_held = |cell: &&Cell| cell.gets == Gets::Held;
        let (held, others): (Vec<_>, Vec<_>) = self.cells.iter().partition(is_held);
        join_all(others.into_iter().map(async |cell| {
            let gateway = &gateways[cell.asked];
            if self.state == State::Failed {
                // After seconds a request may start it again: only here, just before it is asked.
                annotate(&self.relays[0], cell.id, "fail", json!("image")).await;
                until_stands(gateway, cell.id, "failed").await;
            } else if self.state == State::Running {
                until_stands(gateway, cell.id, "running").await;
            }
            let mut kept = cell.connect(gateway).await;
            cell.ask(&mut kept, self.state).await;
        }))
        .await;
        for way in WAYS {
            // A websocket is not held for long, so few starts at a time.
            let held: Vec<&Cell> = held
                .iter()
                .copied()
                .filter(|cell| cell.way == way)
                .collect();
            self.hold(&gateways, &held).await;
        }
        self.until_written(0, |cell| cell.writes(self.state)).await;
        self.settle(&gateways).await;
        let more = gateways.len();
        self.until_written(more, |cell| cell.writes(self.state))
            .await;
        for cell in &self.cells {
            let stands = stands(&gateways[cell.asked], cell.id).await;
            let expected: &[&str] = match self.state {
                _ if cell.gets == Gets::Held => &["running"],
                _ if cell.starts > 0 => &["starting"],
                State::Absent => &["absent"],
                State::Stopped => &["stopped"],
                State::Vanished => &["vanished"],
                State::Starting => &["starting"],
                // Until a request may start it again.
                State::Failed => &["failed", "vanished"],
                State::Ending => &["stopping"],
                State::Running => &["running"],
            };
            assert!(
                expected.contains(&&*stands),
                "{stands} after {}",
                cell.name(self.state)
            );
        }
    }

    /// A cell of each session.
    fn sessions(&self) -> Vec<&Cell> {
        let mut all: Vec<_> = self.cells.iter().collect();
        all.dedup_by_key(|cell| cell.id);
        all
    }

    /// Brings all sessions into the state, as far as the first gateway knows it.
    async fn enter(&self, gateway: &Serve) {
        if self.state == State::Absent {
            return;
        }
        let sessions = self.sessions();
        for cell in &sessions {
            begin(gateway, cell.id).await;
        }
        let started = "session_gateway_starts_total{outcome=\"ok\"}";
        until_counted(gateway, started, sessions.len()).await;
        join_all(sessions.into_iter().map(async |cell| {
            let (id, relay) = (cell.id, &self.relays[0]);
            let (pods, name) = (
                relay.within::<Pod>(&relay.namespace(id)),
                format!("dev-session-{id}"),
            );
            // A pod without a node would end at once.
            let address = self.address(cell, None).await;
            unused(relay, id).await;
            let stands = match self.state {
                State::Stopped => {
                    let path = format!("/{id}/-/stop");
                    let reply = gateway.send("POST", &path, API).await;
                    assert_eq!(reply.status, 200, "{reply:?}");
                    "stopped"
                }
                State::Vanished => {
                    let now = DeleteParams::default().grace_period(0);
                    pods.delete(&name, &now).await.expect("it is deleted");
                    "vanished"
                }
                State::Ending => {
                    annotate(relay, id, "stop-delay", json!("10m")).await;
                    let by_and_by = DeleteParams::default();
                    pods.delete(&name, &by_and_by).await.expect("it is deleted");
                    "stopping"
                }
                State::Running => {
                    self.open(address).await;
                    "running"
                }
                State::Absent | State::Starting | State::Failed => "starting",
            };
            until_stands(gateway, id, stands).await;
        }))
        .await;
        let stop = if self.state == State::Stopped { 2 } else { 0 };
        self.until_written(0, |_| FIRST + stop).await;
    }

    /// Asks for what is held, and lets it go when all of it is.
    async fn hold(&self, gateways: &[Serve; 2], held: &[&Cell]) {
        let mut all = Vec::new();
        for cell in held {
            all.push((*cell, cell.connect(&gateways[cell.asked]).await));
        }
        let asked = join_all(
            all.iter_mut()
                .map(|(cell, kept)| cell.ask(kept, self.state)),
        );
        let let_go = async {
            for (number, gateway) in gateways.iter().enumerate() {
                let count = held.iter().filter(|cell| cell.asked == number).count();
                until_counted(gateway, "session_gateway_requests_in_flight", count).await;
            }
            join_all(held.iter().map(async |cell| {
                let before = match self.state {
                    State::Ending => Some(self.end(cell).await),
                    _ => None,
                };
                self.open(self.address(cell, before).await).await;
            }))
            .await;
        };
        tokio::join!(asked, let_go);
    }

    /// Ends a pod at once that was taking its time; returns which one.
    async fn end(&self, cell: &Cell) -> String {
        let pods = self.relays[0].within::<Pod>(&self.relays[0].namespace(cell.id));
        let name = format!("dev-session-{}", cell.id);
        let pod = pods.get(&name).await.expect("it is still there");
        let now = DeleteParams::default().grace_period(0);
        pods.delete(&name, &now).await.expect("it is deleted");
        pod.metadata.uid.expect("it has one")
    }

    /// The address of the session's pod, once there is one that is not the one before.
    async fn address(&self, cell: &Cell, before: Option<String>) -> IpAddr {
        let pods = self.relays[0].within::<Pod>(&self.relays[0].namespace(cell.id));
        let name = format!("dev-session-{}", cell.id);
        let begun = Instant::now();
        loop {
            let pod = pods.get_opt(&name).await.expect("an answer");
            let pod = pod.filter(|pod| pod.metadata.uid != before);
            let address = pod.and_then(|pod| pod.status?.pod_ip?.parse().ok());
            if let Some(address) = address {
                return address;
            }
            let cell = cell.name(self.state);
            assert!(begun.elapsed() < DEADLINE, "no pod by {cell}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Opens preview's port of a pod.
    async fn open(&self, address: IpAddr) {
        let listener = TcpListener::bind(SocketAddr::new(address, self.port)).await;
        let answer = |request| async move { seen(&request) };
        Service::on(listener.expect("it is nobody else's"), answer);
    }

    /// Has each gateway start one more session: once its pod is there, all that was asked before has been written.
    async fn settle(&self, gateways: &[Serve; 2]) {
        let started = gateways.iter().map(async |gateway| {
            let id = SessionId::random();
            begin(gateway, id).await;
            gateway.place(id, "preview").await;
        });
        join_all(started).await;
    }

    /// Waits until so much was written for each session, by both gateways together, and finds no more; there are so
    /// many sessions besides.
    async fn until_written(&self, more: usize, expected: impl Fn(&Cell) -> usize) {
        let begun = Instant::now();
        let mut namespaces = self.sessions();
        namespaces.retain(|cell| expected(cell) >= FIRST);
        let namespaces = namespaces.len() + more;
        loop {
            let [one, other] = &self.relays;
            let writes = [one.writes().await, other.writes().await].concat();
            let made = writes.iter().filter(|call| call.resource == "namespaces");
            let mut is_less = made.clone().count() < namespaces;
            assert!(made.count() <= namespaces, "{writes:#?}");
            for cell in &self.cells {
                let of = |call: &&Call| call.namespace == one.namespace(cell.id);
                let all: Vec<_> = writes.iter().filter(of).collect();
                let (name, expected) = (cell.name(self.state), expected(cell));
                assert!(
                    all.len() <= expected,
                    "{expected} writes by {name}: {all:#?}"
                );
                is_less |= all.len() < expected;
            }
            if !is_less {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "fewer writes: {writes:#?}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Cell {
    fn name(&self, state: State) -> String {
        let Self { intent, way, .. } = self;
        let gateway = ["the gateway that made it so", "another gateway"][self.asked];
        format!("{intent:?} while {state:?} over {way:?} at {gateway}")
    }

    /// What it causes to be written inside the session's namespace.
    fn writes(&self, state: State) -> usize {
        match state {
            _ if self.starts == 0 => 0,
            State::Absent => FIRST,
            // Its record, and its pod.
            State::Stopped | State::Vanished | State::Ending => 2,
            State::Starting | State::Failed | State::Running => unreachable!("nothing is started"),
        }
    }

    async fn connect(&self, gateway: &Serve) -> Kept {
        let mut kept = self.way.plain(gateway.address).await.unwrap();
        prepare(&mut kept, self.way, self.intent).await;
        kept
    }

    async fn ask(&self, kept: &mut Kept, state: State) {
        let path = format!("/{}/preview/x?y", self.id);
        let asked = (self.intent, sample(self.intent));
        let reply = ask(kept, self.way, asked, &path).await;
        check(&reply, self.gets, &path, self.intent, &self.name(state));
    }
}

async fn begin(gateway: &Serve, id: SessionId) {
    let path = format!("/{id}/-/start");
    let reply = gateway.send("POST", &path, API).await;
    assert_eq!(reply.status, 202, "{reply:?}");
}

/// Where a gateway says that preview stands. To ask is no use of the session.
async fn stands(gateway: &Serve, id: SessionId) -> String {
    let reply = gateway.send("GET", &format!("/{id}/-/status"), API).await;
    let status: Value = serde_json::from_slice(&reply.body).expect("a status");
    status["services"][0]["state"]
        .as_str()
        .expect("a state")
        .to_owned()
}

async fn until_stands(gateway: &Serve, id: SessionId, expected: &str) {
    let begun = Instant::now();
    loop {
        let stands = stands(gateway, id).await;
        if stands == expected {
            return;
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "{id} is {stands}, not {expected}"
        );
        sleep(Duration::from_millis(25)).await;
    }
}

/// Waits until a gateway's figure is this.
async fn until_counted(gateway: &Serve, figure: &str, expected: usize) {
    let begun = Instant::now();
    loop {
        let all = gateway.ask("GET", "/metrics").await;
        let mut lines = all.text().lines();
        let found = lines.find_map(|line| line.strip_prefix(figure)?.trim().parse().ok());
        if found == Some(expected) {
            return;
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "{figure} is {found:?}, not {expected}"
        );
        sleep(Duration::from_millis(25)).await;
    }
}
