//! What the facts say of one session, and how each fact changes it.

mod course;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    fact::Progress,
    instance::{Instance, InstanceUid},
    table::Waiters,
    tally::{Counted, Place},
};
use crate::session::{Because, Course, Failure, Reason, Service, Stage, Stop};

/// What the facts say of one session. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Slot {
    /// What runs.
    pub instance: Option<Arc<Instance>>,
    /// Whether the instance is being ended.
    pub ending: bool,
    /// When the instance will be stopped, unless it is used before.
    pub stop: Option<Timestamp>,
    /// When it will be, used or not, because of its age.
    pub last: Option<Timestamp>,
    /// What does not run: not yet, not any more, or not at all.
    pub pending: Option<Pending>,
    /// The start under way in this replica.
    pub start: Option<Begun>,
    /// How far it has come on its way to running, as long as it is on that way.
    pub course: Option<Arc<Course>>,
    /// The course of the last start that is over, if it was seen from here.
    pub past: Option<Arc<Course>>,
    /// The last start, if it failed.
    pub failure: Option<Failure>,
    /// What that one waited for when it failed.
    pub failed_at: Option<Stage>,
    /// Services of the instance that failed.
    pub broken: Vec<Broken>,
    /// The user it belongs to, where that is known.
    pub owner: Option<Arc<str>>,
    /// Those who wait for a change of this session.
    pub waiters: Arc<Waiters>,
}

/// A start under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// What it waits for.
    pub stage: Stage,
    /// Since when it is under way.
    pub since: Instant,
    /// Its position in the queue, from 1, while it waits there.
    pub position: Option<usize>,
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

impl Begun {
    pub(super) fn at(now: Instant) -> Self {
        Self {
            stage: Stage::Queue,
            since: now,
            position: None,
        }
    }

    /// It waits for this now; whether that is news.
    pub(super) fn reach(&mut self, stage: Stage) -> bool {
        let before = std::mem::replace(&mut self.stage, stage);
        if stage != Stage::Queue {
            self.position = None;
        }
        before != stage
    }
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

    /// What keeps this service from being there, whether or not a request may try again by now.
    #[must_use]
    pub fn last_failure(&self, service: Service) -> Option<&Failure> {
        if self.instance.is_some() {
            return self.broken(service);
        }
        match (self.start, &self.pending) {
            (Some(_), _) => None,
            (None, Some(pending)) => match &pending.stands {
                Standing::Stuck(failure) => Some(failure),
                Standing::Waits(_) | Standing::Ends => None,
            },
            (None, None) => self.failure.as_ref(),
        }
    }

    pub(super) fn incarnation(&self, uid: InstanceUid) -> Option<Arc<Instance>> {
        self.instance
            .as_ref()
            .filter(|instance| instance.uid() == uid)
            .cloned()
    }

    /// Whether anything of it is there.
    pub(super) fn is_there(&self) -> bool {
        self.instance.is_some() || self.pending.is_some()
    }

    /// How it counts among the sessions. A start counts from when it was let into the queue.
    pub(super) fn counted(&self) -> Counted {
        let place = match self.start {
            _ if self.is_there() => Place::There,
            Some(start) if start.stage > Stage::Queue => Place::Starting,
            Some(_) if self.owner.is_some() => Place::Queued,
            Some(_) | None => return None,
        };
        Some((place, self.owner.clone()))
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_alive() && self.failure.is_none()
    }

    /// Whether something of it is there, or is being made.
    pub(super) fn is_alive(&self) -> bool {
        self.is_there() || self.start.is_some()
    }

    /// An incarnation runs. One that ran before is ended.
    pub(super) fn saw(&mut self, instance: &Arc<Instance>, now: Instant) {
        if let Some(old) = self.instance.replace(Arc::clone(instance)) {
            old.end();
        }
        self.ending = false;
        (self.stop, self.last) = (None, None);
        self.broken.clear();
        self.reach(Stage::Port, now);
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
                // It is still there, and is watched.
                failure => Standing::Stuck(Failure::after(failure, reason, now).that_passes(true)),
            },
        };
        let pending = Pending { uid, since, stands };
        let news = self.pending.as_ref() != Some(&pending);
        if before.is_none() && self.start.is_none() {
            // Another replica makes it anew.
            self.course = None;
        }
        let ended = self.ended(uid, now);
        match &pending.stands {
            Standing::Waits(stage) => self.reach(*stage, now),
            Standing::Stuck(failure) => self.hinder(&failure.reason),
            Standing::Ends => {}
        }
        self.pending = Some(pending);
        ended || news
    }

    pub(super) fn ending(&mut self, uid: InstanceUid) -> bool {
        let Some(instance) = self.incarnation(uid).filter(|_| !self.ending) else {
            return false;
        };
        self.ending = true;
        (self.stop, self.last) = (None, None);
        instance.end();
        true
    }

    pub(super) fn announced(&mut self, uid: InstanceUid, stop: Option<Timestamp>) -> bool {
        let is_meant = !self.ending && self.incarnation(uid).is_some();
        let news = is_meant && self.stop != stop;
        if news {
            self.stop = stop;
        }
        news
    }

    pub(super) fn taken_back(&mut self, uid: InstanceUid, stop: Timestamp) -> bool {
        self.stop == Some(stop) && self.announced(uid, None)
    }

    pub(super) fn aged(&mut self, uid: InstanceUid, last: Timestamp) -> bool {
        let is_meant = !self.ending && self.incarnation(uid).is_some();
        is_meant && self.last.replace(last) != Some(last)
    }

    /// The next stop that will come by itself, as far as it is known.
    pub(super) fn next_stop(&self) -> Option<Stop> {
        let because = |because| move |at| Stop { at, because };
        let idle = self.stop.map(because(Because::Idle));
        let last = self.last.map(because(Because::MaxAge));
        // Of two at once the one that nothing takes back.
        last.into_iter().chain(idle).min_by_key(|stop| stop.at)
    }

    pub(super) fn gone(&mut self, uid: InstanceUid, now: Instant) -> bool {
        let pending = self.pending.take_if(|pending| pending.uid == uid);
        self.ended(uid, now) || pending.is_some()
    }

    /// What ran ended for good, which keeps no start waiting. Of no interest where something runs, or is about to.
    pub(super) fn lost(&mut self, reason: Arc<Reason>, now: Instant) -> bool {
        let known = self.failure.as_ref();
        if self.is_there()
            || self.start.is_some()
            || known.is_some_and(|known| known.reason == reason)
        {
            return false;
        }
        self.failed_at = None;
        self.failure = Some(Failure {
            reason,
            retry_at: now,
            attempts: 0,
            passes: true,
        });
        true
    }

    /// What ran under this identity does not run any more.
    fn ended(&mut self, uid: InstanceUid, now: Instant) -> bool {
        let Some(instance) = self.incarnation(uid) else {
            return false;
        };
        instance.end();
        self.instance = None;
        if self.start.is_none() && self.pending.is_none() {
            self.arrive(false, now);
        }
        self.ending = false;
        (self.stop, self.last) = (None, None);
        self.broken.clear();
        true
    }

    pub(super) fn opened(&mut self, uid: InstanceUid, service: Service, now: Instant) -> bool {
        let Some(instance) = self
            .incarnation(uid)
            .filter(|instance| !instance.is_open(service))
        else {
            return false;
        };
        instance.set_open(service, true);
        if instance.is_all_open() {
            self.arrive(true, now);
        }
        self.broken.retain(|broken| broken.service != service);
        true
    }

    pub(super) fn broke(
        &mut self,
        uid: InstanceUid,
        service: Service,
        failure: (Arc<Reason>, bool),
        now: Instant,
    ) -> bool {
        let Some(instance) = self.incarnation(uid) else {
            return false;
        };
        let (reason, passes) = failure;
        instance.set_open(service, false);
        let before = self
            .broken
            .iter()
            .position(|broken| broken.service == service);
        let before = before.map(|at| self.broken.swap_remove(at).failure);
        let failure = Failure::after(before.as_ref(), reason, now).that_passes(passes);
        self.broken.push(Broken {
            service,
            failure,
            mended: false,
        });
        true
    }

    /// Why this incarnation is kept from running, if something keeps it.
    pub(super) fn stuck(&self, uid: InstanceUid) -> Option<&Reason> {
        match &self.pending.as_ref()?.stands {
            Standing::Stuck(failure) if self.pending.as_ref()?.uid == uid => Some(&failure.reason),
            Standing::Stuck(_) | Standing::Waits(_) | Standing::Ends => None,
        }
    }

    /// A start has changed nothing about what keeps the incarnation from running: the next one waits longer.
    pub(super) fn still_stuck(&mut self, now: Instant) {
        if let Some(failure) = self.pending.as_mut().and_then(Pending::failure) {
            *failure = Failure::after(Some(failure), Arc::clone(&failure.reason), now)
                .that_passes(failure.passes);
        }
    }

    pub(super) fn forgive(&mut self, now: Instant) -> bool {
        let broken = self.broken.iter_mut().map(|broken| &mut broken.failure);
        let mut any = false;
        let stuck = self.pending.iter_mut().filter_map(Pending::failure);
        for failure in self.failure.iter_mut().chain(broken).chain(stuck) {
            failure.retry_at = now;
            failure.attempts = 0;
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

#[cfg(test)]
mod tests;
