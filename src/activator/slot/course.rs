//! How far a session has come on its way to running, and how far it came the last time.

use std::sync::Arc;

use tokio::time::Instant;

use super::Slot;
use crate::{
    activator::InstanceUid,
    session::{Course, Reason, Stage},
};

impl Slot {
    /// The course of its start, or of the last one that is over, as far as one was seen from here.
    #[must_use]
    pub fn last_start(&self) -> Option<&Course> {
        let course = self.course.as_deref().filter(|one| one.is_of_a_start());
        course.or(self.past.as_deref())
    }

    /// Whether its start was begun in this replica.
    pub(in crate::activator) fn is_started_here(&self, uid: InstanceUid) -> bool {
        if let Some(known) = self.incarnation(uid) {
            return known.was_started_here();
        }
        let course = self.course.as_ref();
        course.is_some_and(|course| course.at(Stage::Queue).is_some())
    }

    /// It waits for this now on its way to running, which begins by it if it was not on it.
    pub(in crate::activator) fn reach(&mut self, stage: Stage, now: Instant) {
        match &mut self.course {
            Some(course) => Arc::make_mut(course).reach(stage, now),
            None => self.course = Some(Arc::new(Course::begin(stage, now))),
        }
    }

    /// Something keeps it from going on, for now.
    pub(in crate::activator) fn hinder(&mut self, reason: &Arc<Reason>) {
        if let Some(course) = &mut self.course {
            Arc::make_mut(course).hinder(Arc::clone(reason));
        }
    }

    /// It is on its way no longer. What comes back without a start has no course worth keeping.
    pub(in crate::activator) fn arrive(&mut self, well: bool, now: Instant) {
        let course = self.course.take().filter(|course| course.is_of_a_start());
        if let Some(mut course) = course {
            Arc::make_mut(&mut course).end(well, now);
            self.past = Some(course);
        }
    }
}
