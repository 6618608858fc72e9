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
//! | `session_gateway_tunnels_open` | gauge, open websockets | - |
//! | `session_gateway_tunnel_bytes_total` | counter, bytes | `direction` (`up`, `down`) |
//! | `session_gateway_tunnel_frames_total` | counter, whole frames | `direction`; `kind` (`data`, `control`) |
//! | `session_gateway_starts_total` | counter | `outcome` (`ok`, `failed`) |
//! | `session_gateway_start_seconds` | histogram, time until all was asked for | - |
//! | `session_gateway_sessions` | gauge, sessions that are known here | `state` |
//! | `session_gateway_build_info` | gauge, always 1 | `version` |

mod exposition;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text::encode},
    registry::Registry,
};
use tokio::time::Instant;

use crate::session::{Service, Services};
use exposition::{counters, gauges, histogram};

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
}

/// All that is counted by this replica.
pub struct Metrics {
    services: Services,
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
    tunnels: AtomicI64,
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

/// One open tunnel, while it lives.
#[must_use]
pub struct OpenTunnel(Arc<WorkerMeters>);

struct Histogram {
    bounds: &'static [f64],
    buckets: Vec<AtomicU64>,
    micros: AtomicU64,
}

impl Metrics {
    /// Nothing counted yet, for so many workers.
    #[must_use]
    pub fn new(services: &Services, workers: usize) -> Arc<Self> {
        let meters = || Arc::new(WorkerMeters::new(services.count()));
        Arc::new(Self {
            services: services.clone(),
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

/// One scrape: the workers' counts summed while they are written.
struct Scrape {
    metrics: Arc<Metrics>,
    sessions: BTreeMap<&'static str, u64>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.requests(&mut encoder)?;
        self.traffic(&mut encoder)?;
        self.sessions(&mut encoder)?;
        let version = [([("version", env!("CARGO_PKG_VERSION"))], 1)];
        gauges(
            &mut encoder,
            "build_info",
            "The version that runs",
            &version,
        )
    }
}

impl Scrape {
    fn traffic(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let workers = &self.metrics.workers;
        let sum = |of: fn(&WorkerMeters) -> &AtomicI64| {
            let sum: i64 = workers.iter().map(|one| of(one).load(Relaxed)).sum();
            [([("", ""); 0], sum)]
        };
        let seconds: Vec<_> = workers.iter().map(|one| &one.seconds).collect();
        let help = "Time to the head of the answer, waiting included";
        histogram(encoder, "request_seconds", help, &seconds)?;
        let help = "Requests whose answer has not begun";
        gauges(
            encoder,
            "requests_in_flight",
            help,
            &sum(|one| &one.in_flight),
        )?;
        gauges(
            encoder,
            "tunnels_open",
            "Open websockets",
            &sum(|one| &one.tunnels),
        )?;
        let bytes = |at: usize| workers.iter().map(|one| one.bytes[at].load(Relaxed)).sum();
        let bytes = [
            ([("direction", "up")], bytes(0)),
            ([("direction", "down")], bytes(1)),
        ];
        counters(encoder, "tunnel_bytes", "Bytes through websockets", &bytes)?;
        let frames = |way: usize, kind: usize| {
            let each = workers.iter().map(|one| &one.frames[way][kind]);
            each.map(|frames| frames.load(Relaxed)).sum()
        };
        let frames = [
            ([("direction", "up"), ("kind", "data")], frames(0, 0)),
            ([("direction", "up"), ("kind", "control")], frames(0, 1)),
            ([("direction", "down"), ("kind", "data")], frames(1, 0)),
            ([("direction", "down"), ("kind", "control")], frames(1, 1)),
        ];
        counters(
            encoder,
            "tunnel_frames",
            "Frames through websockets",
            &frames,
        )
    }

    fn sessions(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Metrics {
            starts,
            start_seconds,
            ..
        } = &*self.metrics;
        let starts = |at: usize| starts[at].load(Relaxed);
        let starts = [
            ([("outcome", "ok")], starts(0)),
            ([("outcome", "failed")], starts(1)),
        ];
        counters(encoder, "starts", "Starts of sessions that ended", &starts)?;
        let help = "Time until all of a session was asked for";
        histogram(encoder, "start_seconds", help, &[start_seconds])?;
        let count = |count: &u64| i64::try_from(*count).unwrap_or(i64::MAX);
        let sessions = self
            .sessions
            .iter()
            .map(|(state, n)| ([("state", *state)], count(n)));
        let sessions: Vec<_> = sessions.collect();
        gauges(
            encoder,
            "sessions",
            "Sessions known to this replica",
            &sessions,
        )
    }

    fn requests(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Metrics {
            services, workers, ..
        } = &*self.metrics;
        let names = services
            .iter()
            .map(|(_, spec)| spec.name.as_str())
            .chain(["none"]);
        let mut samples = Vec::new();
        for (service, name) in names.enumerate() {
            for (by, by_name) in ["service", "gateway"].into_iter().enumerate() {
                for (class, class_name) in CLASSES.into_iter().enumerate() {
                    let count = workers
                        .iter()
                        .map(|worker| worker.requests[service][by][class].load(Relaxed))
                        .sum();
                    samples.push((
                        [("service", name), ("by", by_name), ("class", class_name)],
                        count,
                    ));
                }
            }
        }
        samples.retain(|(_, count)| *count > 0);
        counters(encoder, "requests", "Requests answered", &samples)
    }
}

impl WorkerMeters {
    fn new(services: usize) -> Self {
        Self {
            requests: (0..=services).map(|_| Default::default()).collect(),
            seconds: Histogram::new(&REQUEST_BOUNDS),
            in_flight: AtomicI64::new(0),
            tunnels: AtomicI64::new(0),
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

    /// A tunnel opens; it is open until the guard is dropped.
    pub fn tunnel(self: &Arc<Self>) -> OpenTunnel {
        self.tunnels.fetch_add(1, Relaxed);
        OpenTunnel(Arc::clone(self))
    }
}

impl OpenTunnel {
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
    use crate::session::{HostHeader, OriginHeader, Prefix, ServiceSpec};

    #[test]
    fn what_the_workers_counted_is_summed_when_scraped() {
        let spec = ServiceSpec {
            name: "preview".into(),
            port: 3000,
            path: "/preview".into(),
            prefix: Prefix::Keep,
            host: HostHeader::Public,
            origin: OriginHeader::Pass,
        };
        let services = Services::new(vec![spec]).unwrap();
        let metrics = Metrics::new(&services, 2);
        let preview = services.named("preview");
        for number in 0..2 {
            let worker = metrics.worker(number);
            drop(worker.request());
            worker.answered(preview, By::Service, 200);
            let tunnel = worker.tunnel();
            tunnel.moved(Direction::Down, 5);
            tunnel.frames(
                Direction::Down,
                Frames {
                    data: 2,
                    control: 1,
                },
            );
        }
        metrics.worker(0).answered(None, By::Gateway, 404);
        let waiting = metrics.worker(1).request();
        metrics.started(false, Duration::from_millis(1500));
        let text = metrics.render(BTreeMap::from([("running", 3)]));
        for line in [
            r#"session_gateway_requests_total{service="preview",by="service",class="2xx"} 2"#,
            r#"session_gateway_requests_total{service="none",by="gateway",class="4xx"} 1"#,
            r#"session_gateway_request_seconds_bucket{le="0.001"} 2"#,
            "session_gateway_request_seconds_count 2",
            "session_gateway_requests_in_flight 1",
            "session_gateway_tunnels_open 0",
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
        drop(waiting);
    }
}
