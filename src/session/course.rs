//! How far a start has come, and when.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Reason, Stage};

/// When a start reached each of its stages, as far as it was seen from here. Small, since it is kept as long as what
/// was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    since: Instant,
    /// By stage, the milliseconds from then on.
    reached: [Option<u32>; Stage::ALL.len()],
    /// When it was over, and whether all that was started answers.
    end: Option<(u32, bool)>,
    hindrance: Option<Arc<Reason>>,
}

impl Course {
    /// One that begins now, at this stage.
    #[must_use]
    pub fn begin(stage: Stage, now: Instant) -> Self {
        let mut course = Self {
            since: now,
            reached: Default::default(),
            end: None,
            hindrance: None,
        };
        course.reach(stage, now);
        course
    }

    /// Waits for this now. To be where it was before, or further back, is no news.
    pub fn reach(&mut self, stage: Stage, now: Instant) {
        if self.seen().all(|(reached, _)| reached < stage) {
            self.reached[stage as usize] = Some(self.after(now));
        }
    }

    /// Something keeps it from going on, for now.
    pub fn hinder(&mut self, reason: Arc<Reason>) {
        self.hindrance = Some(reason);
    }

    /// It is over, well or not.
    pub fn end(&mut self, well: bool, now: Instant) {
        self.end = Some((self.after(now), well));
    }

    /// When it began.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// When it reached this stage, if it did.
    #[must_use]
    pub fn at(&self, stage: Stage) -> Option<Instant> {
        self.reached[stage as usize].map(|after| self.since + millis(after))
    }

    /// What it waits for, or waited for last.
    #[must_use]
    pub fn stage(&self) -> Stage {
        let last = self.seen().last();
        last.expect("it began at one").0
    }

    /// Whether it is of something that was started, and not of a port alone that went away and came back.
    #[must_use]
    pub fn is_of_a_start(&self) -> bool {
        self.seen().any(|(stage, _)| stage < Stage::Port)
    }

    /// Whether it ended well, once it is over.
    #[must_use]
    pub fn ended(&self) -> Option<bool> {
        self.end.map(|(_, well)| well)
    }

    /// How long it took, or has taken.
    #[must_use]
    pub fn took(&self, now: Instant) -> Duration {
        millis(self.end.map_or(self.after(now), |(after, _)| after))
    }

    /// What kept it from going on, if something did: the last that was heard.
    #[must_use]
    pub fn hindrance(&self) -> Option<&Reason> {
        self.hindrance.as_deref()
    }

    /// Its stages so far, and how long each of them took; of the last, how long it is taking.
    pub fn stages(&self, now: Instant) -> impl Iterator<Item = (Stage, Duration)> {
        let last = self.took(now);
        let ends = self.seen().skip(1).map(|(_, after)| millis(after));
        let stages = self.seen().zip(ends.chain([last]));
        stages.map(|((stage, since), end)| (stage, end.saturating_sub(millis(since))))
    }

    /// Those that it reached, in order.
    fn seen(&self) -> impl Iterator<Item = (Stage, u32)> {
        let all = Stage::ALL.into_iter().zip(self.reached);
        all.filter_map(|(stage, after)| Some((stage, after?)))
    }

    fn after(&self, now: Instant) -> u32 {
        let after = now.saturating_duration_since(self.since).as_millis();
        u32::try_from(after).unwrap_or(u32::MAX)
    }
}

fn millis(after: u32) -> Duration {
    Duration::from_millis(after.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_took_the_time_until_the_next_one() {
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let mut course = Course::begin(Stage::Queue, begun);
        course.reach(Stage::Disk, begun + second);
        // Said again, and a late word.
        course.reach(Stage::Disk, begun + second * 2);
        course.reach(Stage::Queue, begun + second * 3);
        course.reach(Stage::Port, begun + second * 5);
        assert_eq!(course.since(), begun);
        assert_eq!(course.at(Stage::Disk), Some(begun + second));
        assert_eq!(course.at(Stage::Process), None);
        let stages: Vec<_> = course.stages(begun + second * 7).collect();
        assert_eq!(
            stages,
            [
                (Stage::Queue, second),
                (Stage::Disk, second * 4),
                (Stage::Port, second * 2)
            ]
        );
    }

    #[test]
    fn one_that_is_over_takes_no_longer() {
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let mut course = Course::begin(Stage::Port, begun);
        assert!(!course.is_of_a_start());
        course = Course::begin(Stage::Pull, begun);
        course.reach(Stage::Port, begun + second);
        assert_eq!((course.is_of_a_start(), course.ended()), (true, None));
        course.hinder(Arc::new(Reason::NoProject));
        course.end(true, begun + second * 3);
        let later = begun + second * 60;
        assert_eq!(course.took(later), second * 3);
        let stages: Vec<_> = course.stages(later).collect();
        assert_eq!(stages, [(Stage::Pull, second), (Stage::Port, second * 2)]);
        assert_eq!(course.ended(), Some(true));
        assert_eq!(course.hindrance(), Some(&Reason::NoProject));
    }
}
