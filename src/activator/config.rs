//! Section `spawn` of the configuration.

use std::time::Duration;

use super::phase::Trigger;
use crate::settings::Section;

/// When sessions are started, and how long requests wait for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnConfig {
    /// Which requests start a session that was never started or was stopped.
    pub trigger: Trigger,
    /// How long a request is held for a session that starts.
    pub hold: Duration,
    /// How long a port may take to accept before its page says that something is wrong.
    pub timeout: Duration,
    /// How many requests are held for one session at most.
    pub held: usize,
    /// How many sessions are started at a time.
    pub concurrent: usize,
}

impl SpawnConfig {
    /// Reads the section.
    #[must_use]
    pub fn read(section: &mut Section<'_>) -> Self {
        let triggers = [
            ("any", Trigger::Any),
            ("navigation", Trigger::Navigation),
            ("api", Trigger::Api),
        ];
        let config = Self {
            trigger: section.choice("trigger", &triggers),
            hold: section.duration("hold"),
            timeout: section.duration("timeout"),
            held: section.integer("held", 1..=1_000_000),
            concurrent: section.integer("concurrent", 1..=10_000),
        };
        section.check(&["hold", "timeout"], config.hold <= config.timeout, || {
            format!(
                "a request cannot be held longer (spawn.hold, {}) than a start may take (spawn.timeout, {})",
                humantime::format_duration(config.hold),
                humantime::format_duration(config.timeout)
            )
        });
        config
    }
}
