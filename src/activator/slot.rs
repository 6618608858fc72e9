//! What the facts say of one session, and how each fact changes it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    fact::Progress,
    instance::{Instance, InstanceUid},
    table::Waiters,
};
use crate::session::{Failure, Reason, Service, Stage};

/// First pause after a failure; doubled with each further one in a row.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Longest pause after failures: a person who mends the cause elsewhere and reloads should not wait longer.
pub(super) const LAST_RETRY: Duration = Duration::from_secs(300);

/// The pause while what runs sessions cannot be reached: no session is at fault, and it is asked at most so often.
const SOON: Duration = Duration::from_secs(1);

/// What the facts say of one session. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Slot {
    /// What runs.
    pub instance: Option<Arc<Instance>>,
    /// Whether the instance is being ended.
    pub ending: bool,
    /// What does not run: not yet, not any more, or not at all.
    pub pending: Option<Pending>,
    /// The start under way in this replica: what it waits for, and since when.
    pub start: Option<(Stage, Instant)>,
    /// The last start, if it failed.
    pub failure: Option<Failure>,
    /// Services of the instance that failed.
    pub broken: Vec<Broken>,
    /// Those who wait for a change of this session.
    pub waiters: Arc<Waiters>,
}

/// An incarnation that is there and does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Which one.
    pub uid: InstanceUid,
    /// Since when it is known here.
    pub since: Instant,
    /// Where it stands.
    pub stands: Standing,
}

/// Where an incarnation stands that does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It waits for this, as it should.
    Waits(Stage),
    /// Something keeps it from running.
    Stuck(Failure),
    /// It is being ended.
    Ends,
}

/// A service that failed while its instance goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which one.
    pub service: Service,
    /// How.
    pub failure: Failure,
    /// Whether it has been started again since: then only the number of attempts still counts.
    pub mended: bool,
}

impl Slot {
    /// How this service failed, unless it has been started again since.
    #[must_use]
    pub fn broken(&self, service: Service) -> Option<&Failure> {
        let broken = self
            .broken
            .iter()
            .find(|broken| broken.service == service)?;
        (!broken.mended).then_some(&broken.failure)
    }

    pub(super) fn incarnation(&self, uid: InstanceUid) -> Option<Arc<Instance>> {
        self.instance
            .as_ref()
            .filter(|instance| instance.uid() == uid)
            .cloned()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.instance.is_none()
            && self.pending.is_none()
            && self.start.is_none()
            && self.failure.is_none()
    }

    /// An incarnation runs. One that ran before is ended.
    pub(super) fn saw(&mut self, instance: &Arc<Instance>) {
        if let Some(old) = self.instance.replace(Arc::clone(instance)) {
            old.end();
        }
        self.ending = false;
        self.broken.clear();
        self.pending
            .take_if(|pending| pending.uid == instance.uid());
    }

    /// An incarnation is there and does not run, or does not run any more.
    pub(super) fn pending(&mut self, uid: InstanceUid, progress: Progress, now: Instant) -> bool {
        let before = self.pending.as_ref().filter(|pending| pending.uid == uid);
        if progress == Progress::Ends && before.is_none() && self.pending.is_some() {
            // A late word of an old one.
            return false;
        }
        let (failure, since) = match before {
            Some(Pending {
                stands: Standing::Stuck(failure),
                since,
                ..
            }) => (Some(failure), *since),
            Some(pending) => (None, pending.since),
            None => (None, now),
        };
        let stands = match progress {
            Progress::Waits(stage) => Standing::Waits(stage),
            Progress::Ends => Standing::Ends,
            Progress::Stuck(reason) => match failure {
                Some(failure) if failure.reason == reason => Standing::Stuck(failure.clone()),
                failure => Standing::Stuck(Failure::after(failure, reason, now)),
            },
        };
        let pending = Pending { uid, since, stands };
        let news = self.pending.as_ref() != Some(&pending);
        self.pending = Some(pending);
        self.ended(uid) || news
    }

    pub(super) fn ending(&mut self, uid: InstanceUid) -> bool {
        let Some(instance) = self.incarnation(uid).filter(|_| !self.ending) else {
            return false;
        };
        self.ending = true;
        instance.end();
        true
    }

    pub(super) fn gone(&mut self, uid: InstanceUid) -> bool {
        let pending = self.pending.take_if(|pending| pending.uid == uid);
        self.ended(uid) || pending.is_some()
    }

    /// What ran under this identity does not run any more.
    fn ended(&mut self, uid: InstanceUid) -> bool {
        let Some(instance) = self.incarnation(uid) else {
            return false;
        };
        instance.end();
        self.instance = None;
        self.ending = false;
        self.broken.clear();
        true
    }

    pub(super) fn opened(&mut self, uid: InstanceUid, service: Service) -> bool {
        let Some(instance) = self
            .incarnation(uid)
            .filter(|instance| !instance.is_open(service))
        else {
            return false;
        };
        instance.set_open(service, true);
        self.broken.retain(|broken| broken.service != service);
        true
    }

    pub(super) fn broke(
        &mut self,
        uid: InstanceUid,
        service: Service,
        reason: Arc<Reason>,
        now: Instant,
    ) -> bool {
        let Some(instance) = self.incarnation(uid) else {
            return false;
        };
        instance.set_open(service, false);
        let before = self
            .broken
            .iter()
            .position(|broken| broken.service == service);
        let before = before.map(|at| self.broken.swap_remove(at).failure);
        let failure = Failure::after(before.as_ref(), reason, now);
        self.broken.push(Broken {
            service,
            failure,
            mended: false,
        });
        true
    }

    /// A start has changed nothing about what keeps the incarnation from running: the next one waits longer.
    pub(super) fn still_stuck(&mut self, now: Instant) {
        if let Some(failure) = self.pending.as_mut().and_then(Pending::failure) {
            *failure = Failure::after(Some(failure), Arc::clone(&failure.reason), now);
        }
    }

    pub(super) fn forgive(&mut self, now: Instant) -> bool {
        let broken = self.broken.iter_mut().map(|broken| &mut broken.failure);
        let mut any = false;
        let stuck = self.pending.iter_mut().filter_map(Pending::failure);
        for failure in self.failure.iter_mut().chain(broken).chain(stuck) {
            *failure = Failure {
                retry_at: now,
                attempts: 0,
                reason: Arc::clone(&failure.reason),
            };
            any = true;
        }
        any
    }
}

impl Pending {
    fn failure(&mut self) -> Option<&mut Failure> {
        match &mut self.stands {
            Standing::Stuck(failure) => Some(failure),
            Standing::Waits(_) | Standing::Ends => None,
        }
    }
}

impl Failure {
    pub(super) fn after(before: Option<&Self>, reason: Arc<Reason>, now: Instant) -> Self {
        let attempts = before.map_or(1, |before| before.attempts.saturating_add(1));
        let pause = if matches!(*reason, Reason::Unavailable { .. }) {
            SOON
        } else {
            FIRST_RETRY
                .saturating_mul(1 << (attempts - 1).min(16))
                .min(LAST_RETRY)
        };
        Self {
            reason,
            retry_at: now + pause,
            attempts,
        }
    }
}

#[cfg(test)]
mod tests;
