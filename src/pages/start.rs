//! How far a start has come, as the pages show it: what it waits for, one line each.

use std::{cmp::Ordering, time::Duration};

use tokio::time::Instant;

use crate::session::{Course, Stage};

/// What a start waits for.
#[derive(Default)]
pub(super) struct StartView {
    pub(super) stages: Vec<StageView>,
    /// Its position in the queue, from 1.
    pub(super) position: Option<usize>,
    /// How long it took, or has taken.
    pub(super) took: String,
    /// Nothing of it changes any more.
    pub(super) is_over: bool,
    /// All that was started answers.
    pub(super) is_well: bool,
}

pub(super) struct StageView {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) place: &'static str,
    pub(super) took: String,
}

impl StartView {
    /// One under way since then, at the stage `at` of `stages`.
    pub(super) fn under_way(
        stages: &[Stage],
        (at, since): (Stage, Instant),
        course: Option<&Course>,
        position: Option<usize>,
    ) -> Self {
        let now = Instant::now();
        let course = course.into_iter().flat_map(|course| course.stages(now));
        let course: Vec<_> = course.collect();
        let view = |stage: &Stage| {
            let seen = course
                .iter()
                .find(|(seen, _)| *seen == *stage && *stage != at);
            let place = match stage.cmp(&at) {
                Ordering::Less => "done",
                Ordering::Equal => "now",
                Ordering::Greater => "later",
            };
            StageView::new(*stage, place, seen.map(|(_, took)| *took))
        };
        Self {
            stages: stages.iter().map(view).collect(),
            position,
            took: seconds(now.saturating_duration_since(since)),
            is_over: false,
            is_well: false,
        }
    }

    /// One that is over, as far as it was seen to come.
    pub(super) fn past(course: &Course, is_well: bool) -> Self {
        let now = Instant::now();
        let stages = course.stages(now);
        let stages = stages.map(|(stage, took)| StageView::new(stage, "done", Some(took)));
        let mut past = Self {
            stages: stages.collect(),
            position: None,
            took: seconds(course.took(now)),
            is_over: true,
            is_well,
        };
        if !is_well {
            past.fail();
        }
        past
    }

    /// It comes no further than it has.
    pub(super) fn fail(&mut self) {
        let mut seen = self.stages.iter_mut().rev();
        if let Some(last) = seen.find(|stage| stage.place != "later") {
            last.place = "failed";
        }
    }
}

impl StageView {
    fn new(stage: Stage, place: &'static str, took: Option<Duration>) -> Self {
        Self {
            name: stage.name(),
            label: stage.label(),
            place,
            took: took.map(seconds).unwrap_or_default(),
        }
    }
}

/// A time as a person reads it who waits.
pub(super) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} s", time.as_secs())
    }
}
