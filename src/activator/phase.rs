//! What a session is, and what a request gets: two pure functions.

use tokio::time::Instant;

use super::slot::{Begun, Slot, Standing};
use crate::session::{Found, Intent, Phase, Service, Stage};

/// Which requests may start a session that was never started or was stopped (`spawn.trigger`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Navigations, and clients that are no browsers.
    Any,
    /// Navigations only.
    Navigation,
    /// No request for a service: only explicit calls (`/-/start`, the admin API).
    Api,
}

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The service's own answer, now.
    Forward,
    /// The session is started, and the request meanwhile gets this.
    Start(Meanwhile),
    /// Nothing is started by it, and it gets this.
    Leave(Meanwhile),
}

/// What a request gets while the session is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    /// A page that says where the session stands.
    Page,
    /// Nothing, until the service is there or the wait has been too long.
    Hold,
    /// A problem document, at once.
    Refuse,
}

/// What a session is as seen by one service, from what was seen of it and from whether this replica is starting it.
/// `None`: nothing is known here, and the durable record says whether it is absent, stopped or vanished.
#[must_use]
pub fn phase(slot: &Slot, service: Service, now: Instant) -> Option<Phase> {
    if slot.ending {
        return Some(Phase::Ending);
    }
    let Some(instance) = &slot.instance else {
        return idle(slot, now);
    };
    Some(match (slot.broken(service), slot.start) {
        _ if instance.is_open(service) => Phase::Running,
        (Some(_), Some(start)) => under_way(slot, start),
        (Some(failure), None) if now < failure.retry_at => Phase::Failed(failure.clone()),
        // It should run and does not: like a session whose instance is gone.
        (Some(_), None) => Phase::Idle(Found::Vanished),
        (None, start) => {
            let since = start.map_or(instance.since(), |start| start.since);
            starting(slot, Stage::Port, since, None)
        }
    })
}

/// A start of this replica.
fn under_way(slot: &Slot, start: Begun) -> Phase {
    starting(slot, start.stage, start.since, start.position)
}

/// It waits for this. `since` is for want of a course.
fn starting(slot: &Slot, stage: Stage, since: Instant, position: Option<usize>) -> Phase {
    let course = slot.course.clone();
    Phase::Starting {
        stage,
        since: course.as_ref().map_or(since, |course| course.since()),
        position,
        course,
    }
}

/// What a session without a running instance is.
fn idle(slot: &Slot, now: Instant) -> Option<Phase> {
    match (slot.start, &slot.pending) {
        (Some(mut start), pending) => {
            if let Some(Standing::Waits(reached)) = pending.as_ref().map(|pending| &pending.stands)
            {
                start.reach(start.stage.max(*reached));
            }
            Some(under_way(slot, start))
        }
        (None, Some(pending)) => Some(match &pending.stands {
            Standing::Waits(stage) => starting(slot, *stage, pending.since, None),
            Standing::Stuck(failure) if now < failure.retry_at => Phase::Failed(failure.clone()),
            // It may be made by another plan now: a start looks.
            Standing::Stuck(_) => Phase::Idle(Found::Vanished),
            Standing::Ends => Phase::Ending,
        }),
        (None, None) => {
            let failure = slot.failure.as_ref();
            let failure = failure.filter(|failure| now < failure.retry_at);
            failure.cloned().map(Phase::Failed)
        }
    }
}

/// What a request of this kind gets: README, "What a request gets".
#[must_use]
pub fn verdict(intent: Intent, trigger: Trigger, phase: &Phase) -> Verdict {
    use Intent::{Api, ApiSocket, Asset, Navigation, PageSocket, Passive, Submission};
    use Meanwhile::{Hold, Page, Refuse};
    let may_start = match intent {
        Navigation => trigger != Trigger::Api,
        Api | ApiSocket => trigger == Trigger::Any,
        Submission | Asset | PageSocket | Passive => false,
    };
    match (phase, intent) {
        (Phase::Running, _) => Verdict::Forward,
        (_, Submission) => Verdict::Leave(Page),
        (_, Passive) => Verdict::Leave(Refuse),
        (Phase::Idle(Found::Vanished), Navigation) => Verdict::Start(Page),
        (Phase::Idle(Found::Vanished), Api | Asset | PageSocket | ApiSocket) => {
            Verdict::Start(Hold)
        }
        (Phase::Idle(Found::Absent | Found::Stopped), Navigation) if may_start => {
            Verdict::Start(Page)
        }
        (_, Navigation) => Verdict::Leave(Page),
        (Phase::Idle(_), Api | ApiSocket) if may_start => Verdict::Start(Hold),
        (Phase::Idle(_) | Phase::Failed(_), Api | Asset | PageSocket | ApiSocket) => {
            Verdict::Leave(Refuse)
        }
        (Phase::Starting { .. } | Phase::Ending, Api | Asset | PageSocket | ApiSocket) => {
            Verdict::Leave(Hold)
        }
    }
}

/// In one word, where a session stands as a whole: it runs as far as any of its services does.
#[must_use]
pub fn overall(phases: &[Phase]) -> &'static str {
    let rank = |phase: &Phase| match phase {
        Phase::Ending => 0,
        Phase::Running => 1,
        Phase::Starting { .. } => 2,
        Phase::Failed(_) => 3,
        Phase::Idle(_) => 4,
    };
    phases
        .iter()
        .min_by_key(|phase| rank(phase))
        .map_or(Phase::Idle(Found::Absent).name(), Phase::name)
}

#[cfg(test)]
mod tests;
