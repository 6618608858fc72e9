//! Why a session is not there, as the API tells it.

use serde::Serialize;
use utoipa::ToSchema;

use super::State;
use crate::{
    activator::{Explained, Link, Stands, Step},
    session::Services,
};

/// Why a session is not there: every condition of its being there, in order.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct Explanation {
    #[schema(format = "uuid")]
    id: String,
    /// As a whole; none if that cannot be told.
    #[schema(value_type = Option<State>)]
    state: Option<&'static str>,
    /// What it waits for, in one sentence.
    summary: String,
    steps: Vec<Condition>,
}

/// One condition, and where it stands.
#[derive(Debug, Serialize, ToSchema)]
struct Condition {
    /// Its name: `id`, `project`, `record`, `former`, `request`, `limits`, a stage, or `port`.
    step: &'static str,
    /// Whose port.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[schema(value_type = StepState)]
    state: &'static str,
    /// As a person reads it.
    title: String,
    /// When it came to its turn, where that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    since: Option<String>,
    /// Its position in the queue, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<usize>,
    /// Why it failed, as a person reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The same, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// What the program, the operating system or the cluster said.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Whether waiting can help, of what is waited for or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_helps: Option<bool>,
    /// When a request may start it again by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    retry: Option<String>,
}

/// Where a condition stands.
#[expect(
    dead_code,
    reason = "it is told by name, and only the document needs the list"
)]
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(in crate::admin) enum StepState {
    /// It holds.
    Done,
    /// It is waited for.
    Now,
    /// It went wrong.
    Failed,
    /// It is not its turn yet.
    Later,
    /// It cannot be told.
    Unknown,
}

impl Explanation {
    pub(in crate::admin) fn new(id: String, explained: Explained, services: &Services) -> Self {
        let mut steps = vec![Condition::done(
            "id",
            "Its address has a valid id".to_owned(),
        )];
        let told = explained.steps.into_iter();
        steps.extend(told.map(|step| Condition::new(step, explained.state, services)));
        let broken = steps.iter().find(|step| step.state != "done");
        let summary = broken.map_or_else(|| "It runs".to_owned(), Condition::sentence);
        Self {
            id,
            state: explained.state,
            summary,
            steps,
        }
    }
}

impl Condition {
    fn done(step: &'static str, title: String) -> Self {
        Self {
            step,
            service: None,
            state: "done",
            title,
            since: None,
            position: None,
            reason: None,
            code: None,
            detail: None,
            waiting_helps: None,
            retry: None,
        }
    }

    fn new(step: Step, state: Option<&'static str>, services: &Services) -> Self {
        let service = match step.link {
            Link::Port(service) => Some(services.spec(service).name.clone()),
            Link::Project
            | Link::Record
            | Link::Former
            | Link::Request
            | Link::Limits
            | Link::Stage(_) => None,
        };
        let (name, title) = title(step.link, state, service.as_deref());
        let mut told = Self::done(name, title);
        told.service = service;
        told.since = step.since.map(|since| since.to_string());
        match step.stands {
            Stands::Done => {}
            Stands::Now { position, passes } => {
                told.state = "now";
                told.position = position;
                told.waiting_helps = Some(passes);
            }
            Stands::Failed {
                reason,
                retry,
                passes,
            } => {
                told.state = "failed";
                told.reason = Some(reason.to_string());
                told.code = Some(reason.code());
                told.detail = reason.detail().map(str::to_owned);
                told.waiting_helps = Some(passes);
                told.retry = retry.map(|retry| retry.to_string());
            }
            Stands::Later => told.state = "later",
            Stands::Unknown => told.state = "unknown",
        }
        told
    }

    fn sentence(&self) -> String {
        match (&self.reason, self.position) {
            (Some(reason), _) => reason.clone(),
            (None, Some(position)) => format!("{}: number {position} in the queue", self.title),
            (None, None) => self.title.clone(),
        }
    }
}

/// The name of a condition, and what a person reads.
fn title(link: Link, state: Option<&'static str>, service: Option<&str>) -> (&'static str, String) {
    let (name, title) = match link {
        Link::Project => ("project", "The platform says what it is made from"),
        Link::Record => ("record", "Its record is read"),
        Link::Former => ("former", "What ran of it before has ended"),
        Link::Request => {
            let asked = match state {
                Some("absent") => "It was never started: a visit or a start does",
                Some("stopped") => "It was stopped: a visit or a start starts it again",
                Some("vanished") => "What ran it is gone: a visit or a start starts it again",
                _ => "Somebody has asked for it",
            };
            ("request", asked)
        }
        Link::Limits => ("limits", "The limits leave room for it"),
        Link::Stage(stage) => (stage.name(), stage.label()),
        Link::Port(_) => {
            let service = service.unwrap_or_default();
            return ("port", format!("The port of {service} accepts connections"));
        }
    };
    (name, title.to_owned())
}
