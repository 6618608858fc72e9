//! Sections `spawn` and `idle` of the configuration.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{instance::Instance, phase::Trigger};
use crate::{session::Plan, settings::Section};

/// The longest and the shortest time between two looks for sessions that are not used; a quarter of `idle.after`, if
/// that is in between. It is the window in which the frames of websockets are counted, too.
const LOOKS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));

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

/// When sessions are stopped by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleConfig {
    /// After so long without use; zero: never.
    pub after: Duration,
    /// How long before its stop a session's pages and the other replicas are told.
    pub countdown: Duration,
    /// After it has run for so long, however much it is used; zero: never.
    pub max_age: Duration,
}

/// When which sessions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleConfigs {
    /// Those of no profile, or of one that there is not any more.
    pub base: IdleConfig,
    /// Those of each profile, by its name.
    pub profiles: BTreeMap<Arc<str>, IdleConfig>,
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

impl IdleConfig {
    /// Reads the section.
    #[must_use]
    pub fn read(section: &mut Section<'_>) -> Self {
        let config = Self {
            after: section.duration("after"),
            countdown: section.duration("countdown"),
            max_age: section.duration("max_age"),
        };
        let (told, lives) = (config.countdown, config.max_age);
        section.check(&["max_age", "countdown"], lives.is_zero() || told <= lives, || {
            format!(
                "a session cannot be told of its end (idle.countdown, {}) for longer than it may run (idle.max_age, {})",
                humantime::format_duration(told),
                humantime::format_duration(lives)
            )
        });
        config
    }

    pub(super) fn looks(&self) -> Duration {
        let (shortest, longest) = LOOKS;
        if self.after.is_zero() {
            return longest;
        }
        (self.after / 4).clamp(shortest, longest)
    }
}

impl IdleConfigs {
    /// By which this instance is stopped: by the profile that it was made by, as that is configured now.
    pub(super) fn of(&self, instance: &Instance) -> IdleConfig {
        let name = instance.profile().unwrap_or(Plan::DEFAULT_PROFILE);
        self.profiles.get(name).copied().unwrap_or(self.base)
    }

    /// Each that there is, once.
    pub(super) fn all(&self) -> Vec<IdleConfig> {
        let mut all = vec![self.base];
        for own in self.profiles.values() {
            if !all.contains(own) {
                all.push(*own);
            }
        }
        all
    }
}
