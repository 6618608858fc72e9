//! What the admin API tells: the documents, and how they are made of what is known.

mod explanation;

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

pub(super) use explanation::{Explanation, StepState};

use crate::{
    activator::{Listed, Overview, Slot},
    session::{Course, Failure, Phase, Services, Stage, clock},
};

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sessions {
    pub(super) sessions: Vec<Session>,
    /// To be given as `after` for the following page; none after the last one.
    pub(super) next: Option<String>,
}

/// Where a session stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Session {
    /// Its UUID.
    #[schema(format = "uuid")]
    pub(super) id: String,
    /// As a whole: it runs as far as any of its services does.
    #[schema(value_type = State)]
    pub(super) state: &'static str,
    /// The platform's id of its project.
    pub(super) project: Option<String>,
    /// The platform's id of the user it belongs to.
    pub(super) user: Option<String>,
    /// The profile it is made by.
    pub(super) profile: Option<String>,
    /// When it was recorded first.
    #[schema(format = "date-time")]
    pub(super) created: Option<String>,
    /// When it was last used; to be started is a use.
    #[schema(format = "date-time")]
    pub(super) used: Option<String>,
    /// When it will be stopped by itself.
    #[schema(format = "date-time")]
    pub(super) stop: Option<String>,
    /// Why it will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Because)]
    pub(super) because: Option<&'static str>,
    /// Whether it is kept though nobody has used it for long; told in the list of those that are `unused` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protected: Option<bool>,
    /// What its start waits for, in order, while it is being started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(super) stages: Vec<Waiting>,
    pub(super) services: Vec<Service>,
}

/// One thing that a start waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Waiting {
    /// Its name.
    pub(super) stage: &'static str,
    /// `done`, `now` or `later`.
    #[schema(value_type = StepState)]
    pub(super) state: &'static str,
    /// As a person reads it.
    pub(super) title: &'static str,
    /// When it came to its turn, where that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    pub(super) since: Option<String>,
}

/// A service of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Service {
    pub(super) name: String,
    #[schema(value_type = State)]
    pub(super) state: &'static str,
    /// Where it listens, while there is something that may.
    pub(super) address: Option<String>,
    /// What its start waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stage: Option<&'static str>,
    /// Its position in the queue, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) position: Option<usize>,
    /// Since when it is being started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    pub(super) since: Option<String>,
    /// Why it failed last, as a person reads it; it is told until it is started again, also after a request may.
    pub(super) reason: Option<String>,
    /// The same, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<&'static str>,
    /// What the program, the operating system or the cluster said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    /// The last lines it wrote; of one session only, since a list of them is large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<String>,
}

/// What has become of a session that was to be deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deleted {
    #[schema(format = "uuid")]
    pub(super) id: String,
    /// Whether there was anything of it.
    pub(super) deleted: bool,
}

/// How many sessions there are.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// In each state.
    pub(super) states: BTreeMap<&'static str, usize>,
    /// Whose start waits for its turn.
    pub(super) queued: usize,
}

/// Why a session will be stopped by itself.
#[expect(dead_code, reason = "the API's description alone is made of it")]
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(super) enum Because {
    /// Nobody uses it, and any use takes that back.
    Idle,
    /// It has run for as long as a session may, and nothing takes that back.
    MaxAge,
}

/// Where a session or a service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It was never started.
    Absent,
    /// It was stopped.
    Stopped,
    /// It should run, and what ran it is gone.
    Vanished,
    /// It is being started.
    Starting,
    /// It failed.
    Failed,
    /// It is being ended.
    Stopping,
    /// It accepts connections.
    Running,
}

impl State {
    pub(super) const ALL: [(&'static str, Self); 7] = [
        ("absent", Self::Absent),
        ("stopped", Self::Stopped),
        ("vanished", Self::Vanished),
        ("starting", Self::Starting),
        ("failed", Self::Failed),
        ("stopping", Self::Stopping),
        ("running", Self::Running),
    ];

    pub(super) fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, state)| *state == self);
        named.expect("all are listed").0
    }
}

impl Session {
    /// Whether it stands otherwise; times that are measured, or go on, apart.
    pub(super) fn differs(&self, other: &Self) -> bool {
        let timeless = |session: &Self| {
            let mut session = session.clone();
            session.used = None;
            for service in &mut session.services {
                service.since = None;
            }
            for stage in &mut session.stages {
                stage.since = None;
            }
            session
        };
        timeless(self) != timeless(other)
    }

    /// Whether its start waits for its turn.
    pub(super) fn is_queued(&self) -> bool {
        self.services
            .iter()
            .any(|service| service.position.is_some())
    }

    /// A session with what is on record of it, if anything is. `stages`: what a start waits for.
    pub(super) fn new(
        overview: Overview,
        slot: &Slot,
        listed: Option<Listed>,
        services: &Services,
        stages: &[Stage],
    ) -> Self {
        let named = |(service, phase, address): (crate::session::Service, Phase, _)| {
            let name = services.spec(service).name.clone();
            let address: Option<std::net::SocketAddr> = address;
            let address = address.map(|address| address.to_string());
            Service::new(name, &phase, slot.last_failure(service), address)
        };
        // Of a session that runs in part, all but that one port is done.
        let is_starting = overview.state == "starting";
        let phases = overview.services.iter().map(|(_, phase, _)| phase);
        let told = phases
            .filter(|_| is_starting)
            .find_map(|phase| match phase {
                Phase::Starting { stage, course, .. } => {
                    Some(waiting(stages, *stage, course.as_deref()))
                }
                Phase::Idle(_) | Phase::Failed(_) | Phase::Ending | Phase::Running => None,
            });
        let created = listed.as_ref().and_then(|listed| listed.made);
        let plan = listed.map(|listed| listed.plan);
        let (project, (user, profile)) = plan
            .map(|plan| (plan.project, (plan.user, plan.profile)))
            .map_or((None, (None, None)), |(project, (user, profile))| {
                (Some(project), (Some(user), Some(profile)))
            });
        Self {
            id: overview.id.to_string(),
            state: overview.state,
            project,
            user,
            profile,
            created: created.map(|created| created.to_string()),
            used: overview.used.map(|used| used.to_string()),
            stop: overview.stop.map(|stop| stop.at.to_string()),
            because: overview.stop.map(|stop| stop.because.name()),
            protected: None,
            stages: told.unwrap_or_default(),
            services: overview.services.into_iter().map(named).collect(),
        }
    }
}

fn waiting(stages: &[Stage], at: Stage, course: Option<&Course>) -> Vec<Waiting> {
    let since = |stage: Stage| Some(clock::at(course?.at(stage)?).to_string());
    let waiting = |stage: &Stage| Waiting {
        stage: stage.name(),
        state: match stage.cmp(&at) {
            std::cmp::Ordering::Less => "done",
            std::cmp::Ordering::Equal => "now",
            std::cmp::Ordering::Greater => "later",
        },
        title: stage.label(),
        since: since(*stage),
    };
    stages.iter().map(waiting).collect()
}

impl Service {
    fn new(
        name: String,
        phase: &Phase,
        failure: Option<&Failure>,
        address: Option<String>,
    ) -> Self {
        let mut service = Self {
            name,
            state: phase.name(),
            address,
            stage: None,
            position: None,
            since: None,
            reason: failure.map(|failure| failure.reason.to_string()),
            code: failure.map(|failure| failure.reason.code()),
            detail: failure.and_then(|failure| failure.reason.detail().map(str::to_owned)),
            output: None,
        };
        match phase {
            Phase::Starting {
                stage,
                since,
                position,
                ..
            } => {
                service.stage = Some(stage.name());
                service.position = *position;
                service.since = Some(clock::at(*since).to_string());
            }
            Phase::Idle(_) | Phase::Failed(_) | Phase::Ending | Phase::Running => {}
        }
        service
    }
}
