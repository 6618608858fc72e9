//! What is written when somebody asks: every family, the workers' counts summed.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{
    CLASSES, Cut, End, Metrics, TunnelEnd, WorkerMeters,
    exposition::{Sample, counters, gauges, histogram},
};

/// One scrape: the workers' counts summed while they are written.
pub(super) struct Scrape {
    pub(super) metrics: Arc<Metrics>,
    pub(super) sessions: BTreeMap<&'static str, u64>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.requests(&mut encoder)?;
        self.bodies(&mut encoder)?;
        self.connections(&mut encoder)?;
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
    fn sum(&self, of: impl Fn(&WorkerMeters) -> &AtomicU64) -> u64 {
        let workers = self.metrics.workers.iter();
        workers.map(|one| of(one).load(Relaxed)).sum()
    }

    /// One counter for each label of a closed list.
    fn each(
        &self,
        name: &'static str,
        labels: &[&'static str],
        of: impl Fn(&WorkerMeters, usize) -> &AtomicU64,
    ) -> Vec<Sample<'static, 1, u64>> {
        let sample =
            |(at, label): (usize, &&'static str)| ([(name, *label)], self.sum(|one| of(one, at)));
        labels.iter().enumerate().map(sample).collect()
    }

    fn bodies(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let codes = self.each("code", self.metrics.codes, |one, at| &one.problems[at]);
        let help = "Requests that got a problem";
        counters(encoder, "problems", help, &codes)?;
        let services = self.metrics.services.iter();
        let bytes: Vec<_> = services
            .flat_map(|(service, spec)| {
                [(0, "up"), (1, "down")].map(|(way, direction)| {
                    let labels = [("service", spec.name.as_str()), ("direction", direction)];
                    (labels, self.sum(|one| &one.bodies[service.index()][way]))
                })
            })
            .collect();
        let help = "Bytes of the bodies of requests and answers";
        counters(encoder, "body_bytes", help, &bytes)?;
        let cuts = self.each("by", &Cut::ALL, |one, at| &one.cuts[at]);
        counters(encoder, "answers_cut", "Answers that broke off", &cuts)
    }

    fn connections(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let workers = self.metrics.workers.iter();
        let open: i64 = workers.map(|one| one.connections.load(Relaxed)).sum();
        let help = "Open connections of clients";
        gauges(encoder, "connections_open", help, &[([("", ""); 0], open)])?;
        let ends = self.each("end", &End::ALL, |one, at| &one.ends[at]);
        let help = "Connections of clients that ended";
        counters(encoder, "connections", help, &ends)?;
        let ends = self.each("end", &TunnelEnd::ALL, |one, at| &one.tunnel_ends[at]);
        counters(encoder, "tunnels", "Websockets that ended", &ends)
    }

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
