//! What `/metrics` shows.
//!
//! The request path counts in plain atomics of its own worker, which are summed when scraped: a histogram behind a
//! shared lock would cost every request more than its routing. Labels are closed lists; session ids never are labels.
//!
//! | family | kind, unit | labels |
//! | --- | --- | --- |
//! | `session_gateway_requests_total` | counter | `service`, or `none`; `by` (`service`, `gateway`); `class` (`2xx`) |
//! | `session_gateway_request_seconds` | histogram, time to the answer's head, waiting included | - |
//! | `session_gateway_requests_in_flight` | gauge, until the answer's head | - |
//! | `session_gateway_problems_total` | counter, requests that got a problem | `code` (README "Problem codes") |
//! | `session_gateway_body_bytes_total` | counter, bytes of bodies | `service`; `direction` (`up`, `down`) |
//! | `session_gateway_answers_cut_total` | counter, answers that broke off | `by`: [`Cut`] |
//! | `session_gateway_connections_open` | gauge, connections of clients, websockets included | - |
//! | `session_gateway_connections_total` | counter, connections of clients that ended | `end`: [`End`] |
//! | `session_gateway_tunnels_open` | gauge, open websockets | - |
//! | `session_gateway_tunnels_total` | counter, websockets that ended | `end`: [`TunnelEnd`] |
//! | `session_gateway_tunnel_bytes_total` | counter, bytes | `direction` (`up`, `down`) |
//! | `session_gateway_tunnel_frames_total` | counter, whole frames | `direction`; `kind` (`data`, `control`) |
//! | `session_gateway_starts_total` | counter | `outcome` (`ok`, `failed`) |
//! | `session_gateway_start_seconds` | histogram, time until all was asked for | - |
//! | `session_gateway_sessions` | gauge, sessions that are known here | `state` |
//! | `session_gateway_build_info` | gauge, always 1 | `version` |

mod exposition;
mod labels;
mod scrape;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::time::Instant;

use crate::session::{Service, Services};
pub use labels::{Cut, End, TunnelEnd};
use scrape::Scrape;

/// Upper bounds of the request histogram's buckets, in seconds: from a byte passed on to a request held to the end.
const REQUEST_BOUNDS: [f64; 11] = [
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 120.0,
];
/// Upper bounds of the start histogram's buckets, in seconds.
const START_BOUNDS: [f64; 11] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0,
];
/// Classes of status codes (RFC 9110 section 15).
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Who answered a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The service.
    Service,
    /// The gateway itself.
    Gateway,
}

/// Which way a tunnel's bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the service.
    Up,
    /// From the service to the client.
    Down,
}

/// Websocket frames by kind (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frames {
    /// Texts, binary data, and fragments of these.
    pub data: u64,
    /// Pings, pongs and closes.
    pub control: u64,
    /// Of the data, what is long enough to be somebody's work.
    pub long: u16,
}

/// All that is counted by this replica.
pub struct Metrics {
    services: Services,
    /// Of problems, as they are numbered.
    codes: &'static [&'static str],
    workers: Vec<Arc<WorkerMeters>>,
    starts: [AtomicU64; 2],
    start_seconds: Histogram,
}

/// What one worker counts.
pub struct WorkerMeters {
    /// By service (the last is none), who answered, and class.
    requests: Vec<[[AtomicU64; CLASSES.len()]; 2]>,
    seconds: Histogram,
    in_flight: AtomicI64,
    /// By code.
    problems: Vec<AtomicU64>,
    /// By service, then direction.
    bodies: Vec<[AtomicU64; 2]>,
    cuts: [AtomicU64; Cut::ALL.len()],
    connections: AtomicI64,
    ends: [AtomicU64; End::ALL.len()],
    tunnels: AtomicI64,
    tunnel_ends: [AtomicU64; TunnelEnd::ALL.len()],
    bytes: [AtomicU64; 2],
    /// By direction, then data and control.
    frames: [[AtomicU64; 2]; 2],
}

/// One request on its way to its answer's head. Measures when it is dropped, by cancellation too.
#[must_use]
pub struct InFlight {
    meters: Arc<WorkerMeters>,
    since: Instant,
}

/// One connection of a client, while it lives.
#[must_use]
pub struct OpenConnection(Arc<WorkerMeters>);

/// One open tunnel, while it lives.
#[must_use]
pub struct OpenTunnel(Arc<WorkerMeters>);

/// Counts the bodies of one service's requests and answers.
pub struct Bodies(Arc<WorkerMeters>, Service);

struct Histogram {
    bounds: &'static [f64],
    buckets: Vec<AtomicU64>,
    micros: AtomicU64,
}

impl Metrics {
    /// Nothing counted yet, for so many workers and these codes of problems.
    #[must_use]
    pub fn new(services: &Services, workers: usize, codes: &'static [&'static str]) -> Arc<Self> {
        let meters = || Arc::new(WorkerMeters::new(services.count(), codes.len()));
        Arc::new(Self {
            services: services.clone(),
            codes,
            workers: (0..workers).map(|_| meters()).collect(),
            starts: Default::default(),
            start_seconds: Histogram::new(&START_BOUNDS),
        })
    }

    /// What the worker of this number counts in.
    ///
    /// # Panics
    /// If there are not so many workers.
    #[must_use]
    pub fn worker(&self, number: usize) -> Arc<WorkerMeters> {
        Arc::clone(&self.workers[number])
    }

    /// A start ended, well or not, after this time.
    pub fn started(&self, well: bool, took: Duration) {
        self.starts[usize::from(!well)].fetch_add(1, Relaxed);
        self.start_seconds.record(took);
    }

    /// The whole exposition (OpenMetrics 1.0), with the sessions known at present by state.
    #[must_use]
    pub fn render(self: &Arc<Self>, sessions: BTreeMap<&'static str, u64>) -> String {
        let mut registry = Registry::with_prefix("session_gateway");
        registry.register_collector(Box::new(Scrape {
            metrics: Arc::clone(self),
            sessions,
        }));
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a string does not fail");
        text
    }
}

impl WorkerMeters {
    fn new(services: usize, codes: usize) -> Self {
        Self {
            requests: (0..=services).map(|_| Default::default()).collect(),
            seconds: Histogram::new(&REQUEST_BOUNDS),
            in_flight: AtomicI64::new(0),
            problems: (0..codes).map(|_| AtomicU64::new(0)).collect(),
            bodies: (0..services).map(|_| Default::default()).collect(),
            cuts: Default::default(),
            connections: AtomicI64::new(0),
            ends: Default::default(),
            tunnels: AtomicI64::new(0),
            tunnel_ends: Default::default(),
            bytes: Default::default(),
            frames: Default::default(),
        }
    }

    /// A request begins; it is in flight until the guard is dropped.
    pub fn request(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight {
            meters: Arc::clone(self),
            since: Instant::now(),
        }
    }

    /// A request was answered with this status.
    pub fn answered(&self, service: Option<Service>, by: By, status: u16) {
        let service = service.map_or(self.requests.len() - 1, Service::index);
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[service][by as usize][class].fetch_add(1, Relaxed);
    }

    /// A request got the problem of this number.
    pub fn problem(&self, code: usize) {
        self.problems[code].fetch_add(1, Relaxed);
    }

    /// Counts the bodies of this service.
    #[must_use]
    pub fn bodies(self: &Arc<Self>, service: Service) -> Bodies {
        Bodies(Arc::clone(self), service)
    }

    /// An answer broke off.
    pub fn cut(&self, by: Cut) {
        self.cuts[by as usize].fetch_add(1, Relaxed);
    }

    /// A connection was accepted; it is open until the guard is dropped.
    pub fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connections.fetch_add(1, Relaxed);
        OpenConnection(Arc::clone(self))
    }

    /// A connection ended, or was closed as soon as it had come.
    pub fn ended(&self, end: End) {
        self.ends[end as usize].fetch_add(1, Relaxed);
    }

    /// A tunnel opens; it is open until the guard is dropped.
    pub fn tunnel(self: &Arc<Self>) -> OpenTunnel {
        self.tunnels.fetch_add(1, Relaxed);
        OpenTunnel(Arc::clone(self))
    }
}

impl Bodies {
    /// So many bytes of a body went through.
    pub fn moved(&self, direction: Direction, bytes: usize) {
        let bodies = &self.0.bodies[self.1.index()];
        bodies[direction as usize].fetch_add(bytes as u64, Relaxed);
    }

    /// The answer broke off.
    pub fn cut(&self, by: Cut) {
        self.0.cut(by);
    }
}

impl OpenTunnel {
    /// How it ended.
    pub fn ended(&self, end: TunnelEnd) {
        self.0.tunnel_ends[end as usize].fetch_add(1, Relaxed);
    }

    /// So many bytes went through.
    pub fn moved(&self, direction: Direction, bytes: u64) {
        self.0.bytes[direction as usize].fetch_add(bytes, Relaxed);
    }

    /// These frames ended.
    pub fn frames(&self, direction: Direction, frames: Frames) {
        let [data, control] = &self.0.frames[direction as usize];
        for (counter, count) in [(data, frames.data), (control, frames.control)] {
            if count > 0 {
                counter.fetch_add(count, Relaxed);
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.meters.in_flight.fetch_sub(1, Relaxed);
        self.meters.seconds.record(self.since.elapsed());
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Relaxed);
    }
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            micros: AtomicU64::new(0),
        }
    }

    fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self
            .bounds
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(self.bounds.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.micros
            .fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Prefix, ServiceSpec};

    #[test]
    fn what_the_workers_counted_is_summed_when_scraped() {
        let spec = ServiceSpec::example("preview", Prefix::Keep);
        let services = Services::new(vec![spec]).unwrap();
        let metrics = Metrics::new(&services, 2, &["not_found", "cross_site"]);
        let preview = services.named("preview");
        for number in 0..2 {
            let worker = metrics.worker(number);
            drop(worker.request());
            worker.answered(preview, By::Service, 200);
            worker.bodies(preview.unwrap()).moved(Direction::Up, 7);
            worker.bodies(preview.unwrap()).cut(Cut::Service);
            drop(worker.connection());
            worker.ended(End::Idle);
            let tunnel = worker.tunnel();
            tunnel.ended(TunnelEnd::Silent);
            tunnel.moved(Direction::Down, 5);
            tunnel.frames(
                Direction::Down,
                Frames {
                    data: 2,
                    control: 1,
                    long: 1,
                },
            );
        }
        metrics.worker(0).answered(None, By::Gateway, 404);
        metrics.worker(0).problem(1);
        let open = metrics.worker(0).connection();
        let waiting = metrics.worker(1).request();
        metrics.started(false, Duration::from_millis(1500));
        let text = metrics.render(BTreeMap::from([("running", 3)]));
        for line in [
            r#"session_gateway_requests_total{service="preview",by="service",class="2xx"} 2"#,
            r#"session_gateway_requests_total{service="none",by="gateway",class="4xx"} 1"#,
            r#"session_gateway_request_seconds_bucket{le="0.001"} 2"#,
            "session_gateway_request_seconds_count 2",
            "session_gateway_requests_in_flight 1",
            r#"session_gateway_problems_total{code="cross_site"} 1"#,
            r#"session_gateway_body_bytes_total{service="preview",direction="up"} 14"#,
            r#"session_gateway_answers_cut_total{by="service"} 2"#,
            "session_gateway_connections_open 1",
            r#"session_gateway_connections_total{end="idle"} 2"#,
            r#"session_gateway_connections_total{end="write"} 0"#,
            "session_gateway_tunnels_open 0",
            r#"session_gateway_tunnels_total{end="silent"} 2"#,
            r#"session_gateway_tunnel_bytes_total{direction="down"} 10"#,
            r#"session_gateway_tunnel_frames_total{direction="down",kind="data"} 4"#,
            r#"session_gateway_tunnel_frames_total{direction="up",kind="control"} 0"#,
            r#"session_gateway_starts_total{outcome="failed"} 1"#,
            r#"session_gateway_start_seconds_bucket{le="2.5"} 1"#,
            "session_gateway_start_seconds_sum 1.5",
            r#"session_gateway_sessions{state="running"} 3"#,
        ] {
            assert!(
                text.lines().any(|one| one == line),
                "{line} is missing in\n{text}"
            );
        }
        drop((waiting, open));
    }
}
