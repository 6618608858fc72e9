//! Where a session stands, as its public API tells it: one document, asked for or as an event.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    activator::Overview,
    session::{Because, Phase, ServiceSpec, Services, SessionId, Stage, clock},
};

/// An event without news: a comment.
pub(super) const NOTHING: &[u8] = b":\n\n";

/// A session as its public API tells of it. Addresses are not public.
#[derive(Serialize)]
pub(super) struct Status<'a> {
    id: String,
    state: &'a str,
    used: Option<String>,
    /// When it will be stopped by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<Because>,
    /// In how many seconds that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
    services: Vec<ServiceStatus<'a>>,
}

#[derive(Serialize)]
struct ServiceStatus<'a> {
    name: &'a str,
    url: String,
    state: &'static str,
    #[serde(flatten)]
    start: Option<Start>,
    #[serde(flatten)]
    failure: Option<Failed>,
}

/// Of one that is started.
#[derive(Serialize)]
struct Start {
    /// What it waits for.
    stage: Stage,
    /// Where it stands in the queue, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<usize>,
    /// For how long, in all.
    seconds: f64,
    /// What it has waited for so far, as far as that was seen.
    stages: Vec<StageStatus>,
}

#[derive(Serialize)]
struct StageStatus {
    name: Stage,
    seconds: f64,
}

/// Of one that failed.
#[derive(Serialize)]
struct Failed {
    code: &'static str,
    reason: String,
    /// Whether it may be over without anybody's doing.
    passes: bool,
    /// After how many seconds a request starts it again.
    retry: f64,
}

impl<'a> Status<'a> {
    pub(super) fn of(overview: &Overview, services: &'a Services) -> Self {
        let now = Instant::now();
        let all = overview.services.iter();
        Self {
            id: overview.id.to_string(),
            state: overview.state,
            used: overview.used.map(|used| used.to_string()),
            stop: overview.stop.map(|stop| stop.at.to_string()),
            because: overview.stop.map(|stop| stop.because),
            left: overview.stop.map(|stop| clock::until(stop.at).as_secs()),
            services: all
                .map(|(service, phase, _)| {
                    ServiceStatus::of(overview.id, services.spec(*service), phase, now)
                })
                .collect(),
        }
    }

    /// As an event. Who loses the line asks again after a second.
    pub(super) fn event(&self) -> Bytes {
        let text = serde_json::to_string(self).expect("strings and numbers are JSON");
        format!("retry: 1000\ndata: {text}\n\n").into()
    }
}

impl<'a> ServiceStatus<'a> {
    fn of(id: SessionId, spec: &'a ServiceSpec, phase: &Phase, now: Instant) -> Self {
        let start = if let Phase::Starting {
            stage,
            since,
            position,
            course,
        } = phase
        {
            let stages = course.iter().flat_map(|course| course.stages(now));
            Some(Start {
                stage: *stage,
                position: *position,
                seconds: tenths(now.saturating_duration_since(*since)),
                stages: stages
                    .map(|(name, took)| StageStatus {
                        name,
                        seconds: tenths(took),
                    })
                    .collect(),
            })
        } else {
            None
        };
        let failure = if let Phase::Failed(failure) = phase {
            Some(Failed {
                code: failure.reason.code(),
                reason: failure.reason.to_string(),
                passes: failure.passes,
                retry: tenths(failure.retry_at.saturating_duration_since(now)),
            })
        } else {
            None
        };
        Self {
            name: &spec.name,
            url: format!("/{id}{}/", spec.path),
            state: phase.name(),
            start,
            failure,
        }
    }
}

/// In seconds, to a tenth.
fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}
