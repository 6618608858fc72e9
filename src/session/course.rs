//! How far a start has come, and when.

use std::time::Duration;

use tokio::time::Instant;

use super::Stage;

/// When a start reached each of its stages, as far as it was seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// Each stage once, in order.
    reached: Vec<(Stage, Instant)>,
}

impl Course {
    /// One that begins now, at this stage.
    #[must_use]
    pub fn begin(stage: Stage, now: Instant) -> Self {
        Self {
            reached: vec![(stage, now)],
        }
    }

    /// Waits for this now. To be where it was before, or further back, is no news.
    pub fn reach(&mut self, stage: Stage, now: Instant) {
        if self.reached.last().is_none_or(|(last, _)| *last < stage) {
            self.reached.push((stage, now));
        }
    }

    /// When it began.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.reached[0].1
    }

    /// When it reached this stage, if it did.
    #[must_use]
    pub fn at(&self, stage: Stage) -> Option<Instant> {
        let reached = self.reached.iter().find(|(one, _)| *one == stage);
        reached.map(|(_, at)| *at)
    }

    /// Its stages so far, and how long each of them took; of the last, how long it is taking.
    pub fn stages(&self, now: Instant) -> impl Iterator<Item = (Stage, Duration)> {
        let ends = self.reached.iter().skip(1).map(|(_, end)| *end);
        let ends = ends.chain([now]);
        let stages = self.reached.iter().zip(ends);
        stages.map(|((stage, since), end)| (*stage, end.saturating_duration_since(*since)))
    }
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
}
