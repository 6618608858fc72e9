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
    /// How many starts wait for their turn at most.
    pub queue: usize,
    /// How many sessions there may be, and how often they may be started.
    pub limits: StartLimits,
}

/// How many sessions there may be, and how often they may be started. `usize::MAX`: any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartLimits {
    /// In all.
    pub sessions: usize,
    /// Of one user.
    pub sessions_per_user: usize,
    /// Of one user's, within a minute.
    pub starts_per_user: usize,
    /// From one address, within a minute.
    pub starts_per_client: usize,
}

impl Default for StartLimits {
    fn default() -> Self {
        Self {
            sessions: usize::MAX,
            sessions_per_user: usize::MAX,
            starts_per_user: usize::MAX,
            starts_per_client: usize::MAX,
        }
    }
}

impl StartLimits {
    fn read(section: &mut Section<'_>) -> Self {
        let mut most = |key, range| match section.integer(key, range) {
            0 => usize::MAX,
            most => most,
        };
        Self {
            sessions: most("sessions", 0..=1_000_000),
            sessions_per_user: most("sessions_per_user", 0..=1_000_000),
            starts_per_user: most("starts_per_user", 0..=10_000),
            starts_per_client: most("starts_per_client", 0..=10_000),
        }
    }
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
            timeout: section.timeout("timeout"),
            held: section.integer("held", 1..=1_000_000),
            concurrent: section.integer("concurrent", 1..=10_000),
            queue: section.integer("queue", 0..=100_000),
            limits: section
                .section("limits", StartLimits::read)
                .unwrap_or_default(),
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
