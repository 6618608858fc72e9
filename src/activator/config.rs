//! Section `spawn` of the configuration.

use std::time::Duration;

use super::phase::Trigger;

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
