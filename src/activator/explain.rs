//! Why a session is not there: every condition from its address to its ports, in order, and which of them it waits for.
//!
//! Computed from what is known here and from the record, by one pure function; nothing is asked of what runs sessions.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    Activator, SpawnError, overall, phase,
    slot::{Slot, Standing},
};
use crate::session::{
    Failure, Found, Limit, Phase, Reason, Service, Services, SessionId, Stage, clock,
};

/// Why a session is not there, or that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// In one word, where it stands as a whole; nothing if its record cannot be read.
    pub state: Option<&'static str>,
    /// All conditions, in order.
    pub steps: Vec<Step>,
}

/// One condition, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which one.
    pub link: Link,
    /// Where it stands.
    pub stands: Stands,
    /// When it came to its turn, where that is known.
    pub since: Option<Timestamp>,
}

/// A condition of a session's being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The platform knows its project, and says what it is made from.
    Project,
    /// Its record can be read.
    Record,
    /// What ran of it before has ended.
    Former,
    /// Somebody has asked for it.
    Request,
    /// The limits leave room for it.
    Limits,
    /// What a start waits for.
    Stage(Stage),
    /// The port of a service accepts connections.
    Port(Service),
}

/// Where a condition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stands {
    /// It holds.
    Done,
    /// This is what is waited for.
    Now {
        /// The position in the queue, from 1.
        position: Option<usize>,
        /// Whether it comes by itself.
        passes: bool,
    },
    /// This is what went wrong.
    Failed {
        /// How.
        reason: Arc<Reason>,
        /// When a request may try again by itself.
        retry: Option<Timestamp>,
        /// Whether it may pass by itself.
        passes: bool,
    },
    /// It is not its turn yet.
    Later,
    /// It cannot be told.
    Unknown,
}

impl Activator {
    /// Why a session is not there.
    pub async fn explain(&self, id: SessionId, services: &Services) -> Explained {
        let seen = self.look(id).await;
        let services: Vec<Service> = services.iter().map(|(service, _)| service).collect();
        explain(
            &self.table().slot(id),
            seen.map(|seen| seen.found),
            (self.stages(), &services),
            Instant::now(),
        )
    }
}

/// Where the chain is broken: at which condition, how, and since when.
type Broken = (Link, Stands, Option<Timestamp>);

fn explain(
    slot: &Slot,
    found: Result<Found, SpawnError>,
    (stages, services): (&[Stage], &[Service]),
    now: Instant,
) -> Explained {
    let mut links = vec![
        Link::Project,
        Link::Record,
        Link::Former,
        Link::Request,
        Link::Limits,
    ];
    // These two have conditions of their own.
    let rest = |stage: &&Stage| !matches!(stage, Stage::Former | Stage::Port);
    links.extend(stages.iter().filter(rest).copied().map(Link::Stage));
    let chain = links.len();
    links.extend(services.iter().copied().map(Link::Port));
    let runs = slot.instance.is_some() && !slot.ending;
    let known = found.as_ref().copied().unwrap_or_default();
    let phases: Vec<Phase> = services
        .iter()
        .map(|service| phase(slot, *service, now).unwrap_or(Phase::Idle(known)))
        .collect();
    // What is known here counts for more than a record that cannot be read.
    let state = (found.is_ok() || !slot.is_empty()).then(|| overall(&phases));
    let broken = if runs {
        None
    } else {
        Some(broken(slot, found, stages, now))
    };
    let at = broken.as_ref().map_or(chain, |(link, ..)| {
        let at = links.iter().position(|one| one == link);
        at.expect("it is broken at one of them")
    });
    let hidden = broken
        .as_ref()
        .is_some_and(|(link, ..)| *link == Link::Record);
    let steps = links.into_iter().enumerate().map(|(place, link)| {
        let (stands, since) = match (&broken, link) {
            (None, Link::Port(service)) => port(slot, service, now),
            (Some((_, stands, since)), _) if place == at => (stands.clone(), *since),
            _ if place < at => (Stands::Done, begun(slot, link)),
            _ if hidden => (Stands::Unknown, None),
            _ => (Stands::Later, None),
        };
        Step {
            link,
            stands,
            since,
        }
    });
    Explained {
        state,
        steps: steps.collect(),
    }
}

/// Where the chain of a session is broken that does not run.
fn broken(slot: &Slot, found: Result<Found, SpawnError>, stages: &[Stage], now: Instant) -> Broken {
    let waits = |link, passes| {
        let position = None;
        (link, Stands::Now { position, passes }, None)
    };
    let ends = slot.ending
        || slot
            .pending
            .as_ref()
            .is_some_and(|pending| pending.stands == Standing::Ends);
    match (slot.start, &slot.pending) {
        (Some(start), _) if start.stage == Stage::Queue && slot.owner.is_none() => {
            (Link::Project, being(None), Some(clock::at(start.since)))
        }
        _ if ends && slot.start.is_none() => waits(Link::Former, true),
        (Some(_), _) | (None, Some(_)) => underway(slot, stages, now),
        (None, None) => match (&slot.failure, found) {
            // It was stopped since, and that is why it is not there.
            (Some(failure), Ok(Found::Stopped)) if now >= failure.retry_at => {
                waits(Link::Request, false)
            }
            (Some(failure), _) => {
                let reached = slot.failed_at.filter(|stage| *stage != Stage::Queue);
                failed(failure, reached, stages, now)
            }
            (None, Err(error)) => {
                let link = match *error.reason {
                    Reason::NoProject | Reason::Unresolved { .. } => Link::Project,
                    _ => Link::Record,
                };
                let passes = error.reason.passes();
                let (reason, retry) = (error.reason, None);
                let stands = Stands::Failed {
                    reason,
                    retry,
                    passes,
                };
                (link, stands, None)
            }
            (None, Ok(_)) => waits(Link::Request, false),
        },
    }
}

/// Where a start stands, or what was started.
fn underway(slot: &Slot, stages: &[Stage], now: Instant) -> Broken {
    if let (None, Some(pending)) = (slot.start, &slot.pending)
        && let Standing::Stuck(failure) = &pending.stands
    {
        let (link, stands, _) = failed(failure, None, stages, now);
        return (link, stands, Some(clock::at(pending.since)));
    }
    let pending = slot
        .pending
        .as_ref()
        .map(|pending| (&pending.stands, pending.since));
    let (reached, since) = match pending {
        Some((Standing::Waits(stage), since)) => (*stage, Some(since)),
        Some(_) | None => (Stage::Queue, None),
    };
    let begun = slot
        .start
        .map(|start| (start.stage, start.since, start.position));
    let (stage, since, position) = match begun {
        Some((stage, since, position)) => (stage.max(reached), Some(since), position),
        None => (reached, since, None),
    };
    let since = reached_at(slot, stage).or(since);
    (
        nearest(stage, stages),
        being(position),
        since.map(clock::at),
    )
}

/// When a condition that holds by now came to its turn.
fn begun(slot: &Slot, link: Link) -> Option<Timestamp> {
    let Link::Stage(stage) = link else {
        return None;
    };
    reached_at(slot, stage).map(clock::at)
}

fn reached_at(slot: &Slot, stage: Stage) -> Option<Instant> {
    slot.course.as_ref()?.at(stage)
}

fn being(position: Option<usize>) -> Stands {
    Stands::Now {
        position,
        passes: true,
    }
}

fn failed(failure: &Failure, reached: Option<Stage>, stages: &[Stage], now: Instant) -> Broken {
    let link = match (&*failure.reason, reached) {
        (Reason::NoProject | Reason::NoProfile { .. } | Reason::Unresolved { .. }, _) => {
            Link::Project
        }
        (Reason::Limited(Limit::Queue { .. }), _) => Link::Stage(Stage::Queue),
        (Reason::Limited(_), _) => Link::Limits,
        (Reason::Terminating { .. }, _) => Link::Former,
        (_, Some(stage)) => nearest(stage, stages),
        (reason, None) => nearest(usual(reason), stages),
    };
    let retry = (now < failure.retry_at).then(|| clock::now() + (failure.retry_at - now));
    let stands = Stands::Failed {
        reason: Arc::clone(&failure.reason),
        retry,
        passes: failure.passes,
    };
    (link, stands, None)
}

/// The port of a service whose instance runs.
fn port(slot: &Slot, service: Service, now: Instant) -> (Stands, Option<Timestamp>) {
    match (
        phase(slot, service, now),
        slot.broken(service),
        &slot.instance,
    ) {
        (Some(Phase::Running), ..) => (Stands::Done, None),
        (Some(Phase::Starting { since, .. }), ..) => (being(None), Some(clock::at(since))),
        (_, Some(failure), _) => {
            let (_, stands, _) = failed(failure, None, &[], now);
            (stands, None)
        }
        (_, None, instance) => {
            let since = instance.as_ref().map(|one| clock::at(one.since()));
            (being(None), since)
        }
    }
}

/// The stage itself, or the one after it: not everything that runs sessions has them all.
fn nearest(stage: Stage, stages: &[Stage]) -> Link {
    if stage == Stage::Former {
        return Link::Former;
    }
    let later = stages
        .iter()
        .filter(|one| **one >= stage && **one != Stage::Port);
    let before = stages.iter().rev().find(|one| **one != Stage::Port);
    Link::Stage(later.min().or(before).copied().unwrap_or(stage))
}

/// What an incarnation waits for that says this of itself.
fn usual(reason: &Reason) -> Stage {
    match reason {
        Reason::Storage { .. } => Stage::Disk,
        Reason::Unschedulable { .. } | Reason::Evicted { .. } => Stage::Schedule,
        Reason::Image { .. }
        | Reason::Container { .. }
        | Reason::OutOfMemory { .. }
        | Reason::Exited { .. } => Stage::Pull,
        Reason::Abandoned { .. } | Reason::Unrunnable { .. } | Reason::NotListening { .. } => {
            Stage::Process
        }
        Reason::Secret { .. } | Reason::Refused { .. } | Reason::Foreign { .. } => Stage::Namespace,
        Reason::Terminating { .. }
        | Reason::NoProject
        | Reason::NoProfile { .. }
        | Reason::Unresolved { .. }
        | Reason::Limited(_)
        | Reason::Unavailable { .. }
        | Reason::Internal => Stage::Queue,
    }
}

#[cfg(test)]
mod tests;
